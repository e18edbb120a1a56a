/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMPv6 (RFC 4443) and the messages of neighbour discovery (RFC 4861).
 */
#ifndef ENGINE_WIRE_ICMP6_H
#define ENGINE_WIRE_ICMP6_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/wire/eth.h"

#define ICMP6_HDR_BYTES         8u
#define ICMP6_CSUM_OFFSET       2u

#define ICMP6_UNREACH           1u
#define ICMP6_TOO_BIG           2u
#define ICMP6_TIME_EXCEEDED     3u
#define ICMP6_PARAM             4u
#define ICMP6_ECHO              128u
#define ICMP6_ECHO_REPLY        129u
#define ICMP6_ROUTER_SOLICIT    133u
#define ICMP6_ROUTER_ADVERT     134u
#define ICMP6_NEIGHBOR_SOLICIT  135u
#define ICMP6_NEIGHBOR_ADVERT   136u
#define ICMP6_REDIRECT          137u

#define ICMP6_UNREACH_PORT      4u
#define ICMP6_UNREACH_CODES     7u
#define ICMP6_TIME_REASSEMBLY   1u /* code of ICMP6_TIME_EXCEEDED */

/* Codes of ICMP6_PARAM */
#define ICMP6_PARAM_FIELD       0u
#define ICMP6_PARAM_NEXT_HEADER 1u
#define ICMP6_PARAM_OPTION      2u
#define ICMP6_PARAM_FIRST_FRAG  3u /* RFC 7112: the first fragment lacks headers */

/* Neighbour advertisement flags, in the first byte of the second word */
#define ND_NA_ROUTER            0x80u
#define ND_NA_SOLICITED         0x40u
#define ND_NA_OVERRIDE          0x20u

#define ND_NEIGHBOR_BYTES       24u /* solicitation and advertisement without options */
#define ND_ROUTER_ADVERT_BYTES  16u

#define ND_OPT_SOURCE_MAC       1u
#define ND_OPT_TARGET_MAC       2u
#define ND_OPT_PREFIX           3u
#define ND_OPT_MTU              5u
#define ND_OPT_NONCE            14u /* RFC 7527 */
#define ND_OPT_MAC_BYTES        8u
#define ND_OPT_PREFIX_BYTES     32u
#define ND_OPT_MTU_BYTES        8u

#define ND_PREFIX_ON_LINK       0x80u
#define ND_PREFIX_AUTONOMOUS    0x40u

static inline bool icmp6_is_error(uint8_t type)
{
    return type < 128; /* RFC 4443 2.1 */
}

/** First two words of a message, with a zero checksum. */
static inline void icmp6_put(uint8_t *p, uint8_t type, uint8_t code, uint32_t rest)
{
    p[0] = type;
    p[1] = code;
    put_be16(p + 2, 0);
    put_be32(p + 4, rest);
}

#endif

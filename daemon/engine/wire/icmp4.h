/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP for IPv4 (RFC 792).
 */
#ifndef ENGINE_WIRE_ICMP4_H
#define ENGINE_WIRE_ICMP4_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/wire/eth.h"

#define ICMP4_HDR_BYTES           8u

#define ICMP4_ECHO_REPLY          0u
#define ICMP4_UNREACH             3u
#define ICMP4_ECHO                8u
#define ICMP4_TIME_EXCEEDED       11u
#define ICMP4_PARAM               12u
#define ICMP4_TIMESTAMP           13u
#define ICMP4_TIMESTAMP_REP       14u

/* Codes of ICMP4_UNREACH */
#define ICMP4_UNREACH_PROTO       2u
#define ICMP4_UNREACH_PORT        3u
#define ICMP4_UNREACH_FRAG_NEEDED 4u
#define ICMP4_UNREACH_CODES       16u

/* Code of ICMP4_TIME_EXCEEDED */
#define ICMP4_TIME_REASSEMBLY     1u

struct icmp4_msg {
    uint8_t type, code;
    uint32_t rest;       /* second word of the header: id and sequence, MTU, pointer */
    const uint8_t *data; /* what follows the header */
    uint32_t len;
};

/** @return false: no whole header */
static inline bool icmp4_parse(const uint8_t *p, uint32_t bytes, struct icmp4_msg *ret)
{
    if (bytes < ICMP4_HDR_BYTES)
        return false;
    *ret = (struct icmp4_msg){
        .type = p[0],
        .code = p[1],
        .rest = get_be32(p + 4),
        .data = p + ICMP4_HDR_BYTES,
        .len = bytes - ICMP4_HDR_BYTES,
    };
    return true;
}

/** Header with a zero checksum. */
static inline void icmp4_put(uint8_t *p, uint8_t type, uint8_t code, uint32_t rest)
{
    p[0] = type;
    p[1] = code;
    put_be16(p + 2, 0);
    put_be32(p + 4, rest);
}

/** True for the messages that report an error; only those must never be answered with one (RFC 1122 3.2.2).
 */
static inline bool icmp4_is_error(uint8_t type)
{
    return type != ICMP4_ECHO && type != ICMP4_ECHO_REPLY && type != ICMP4_TIMESTAMP &&
           type != ICMP4_TIMESTAMP_REP;
}

#endif

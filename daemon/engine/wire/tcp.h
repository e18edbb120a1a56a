/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP segments on the wire (RFC 9293 3.1): checked parsing into struct tcp_seg, and the option writer.
 */
#ifndef ENGINE_WIRE_TCP_H
#define ENGINE_WIRE_TCP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "daemon/engine/wire/bytes.h"

#define TCP_HDR_BYTES     20u
#define TCP_OPT_BYTES_MAX 40u

#define TCP_FIN           0x01u
#define TCP_SYN           0x02u
#define TCP_RST           0x04u
#define TCP_PSH           0x08u
#define TCP_ACK           0x10u
#define TCP_URG           0x20u
#define TCP_ECE           0x40u
#define TCP_CWR           0x80u

#define TCP_OPT_END       0u
#define TCP_OPT_NOP       1u
#define TCP_OPT_MSS       2u  /* RFC 9293 3.7.1 */
#define TCP_OPT_WSCALE    3u  /* RFC 7323 2.2 */
#define TCP_OPT_SACK_PERM 4u  /* RFC 2018 2 */
#define TCP_OPT_SACK      5u  /* RFC 2018 3 */
#define TCP_OPT_TS        8u  /* RFC 7323 3.2 */
#define TCP_OPT_FASTOPEN  34u /* RFC 7413 4.1.1 */

#define TCP_WSCALE_MAX    14u /* RFC 7323 2.3 */
#define TCP_SACK_MAX      4u
#define TCP_FO_MIN        4u /* bytes of a Fast Open cookie */
#define TCP_FO_MAX        16u

struct tcp_sack_block {
    uint32_t start, end; /* [start, end) */
};

/** A parsed segment. Numbers are in host order. */
struct tcp_seg {
    uint16_t sport, dport;
    uint32_t seq, ack;
    uint16_t wnd; /* as on the wire, not scaled */
    uint8_t flags;
    uint8_t hdr_len;
    uint32_t len; /* payload bytes */
    const uint8_t *data;

    /* Options; has_* tells which were there. */
    bool has_ts, has_mss, has_wscale, sack_perm, has_fo;
    uint8_t wscale; /* clamped to TCP_WSCALE_MAX */
    uint8_t sack_count;
    uint8_t fo_len; /* bytes of the Fast Open cookie, 0: one is asked for */
    uint16_t mss;
    const uint8_t *fo; /* with fo_len: the cookie, in the segment */
    uint32_t tsval, tsecr;
    struct tcp_sack_block sack[TCP_SACK_MAX];
};

/**
 * Parse header and options of a segment of `bytes` bytes; the checksum is the caller's. Malformed options
 * end the option list there, as hosts do; they never make the parser loop or read past the header.
 * @return false: too short, or the data offset points outside
 */
bool tcp_parse(const uint8_t *p, uint32_t bytes, struct tcp_seg *ret);

#endif

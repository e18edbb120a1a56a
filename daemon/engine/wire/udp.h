/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP headers (RFC 768).
 */
#ifndef ENGINE_WIRE_UDP_H
#define ENGINE_WIRE_UDP_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/wire/eth.h"

#define UDP_HDR_BYTES   8u
#define UDP_CSUM_OFFSET 6u

struct udp_dgram {
    uint16_t sport, dport;
    uint16_t csum;      /* as stored; 0: the sender computed none */
    uint32_t total_len; /* header and payload, from the header */
    const uint8_t *data;
    uint32_t len; /* bytes of payload */
};

/** @return false: too short, or the length field is below 8 or beyond the packet */
static inline bool udp_parse(const uint8_t *p, uint32_t bytes, struct udp_dgram *ret)
{
    uint32_t total;

    if (bytes < UDP_HDR_BYTES)
        return false;
    total = get_be16(p + 4);
    if (total < UDP_HDR_BYTES || total > bytes)
        return false;
    *ret = (struct udp_dgram){
        .sport = get_be16(p),
        .dport = get_be16(p + 2),
        .csum = get_be16(p + UDP_CSUM_OFFSET),
        .total_len = total,
        .data = p + UDP_HDR_BYTES,
        .len = total - UDP_HDR_BYTES,
    };
    return true;
}

/** Header with a zero checksum. */
static inline void udp_put(uint8_t *p, uint16_t sport, uint16_t dport, uint32_t payload_bytes)
{
    put_be16(p, sport);
    put_be16(p + 2, dport);
    put_be16(p + 4, (uint16_t)(UDP_HDR_BYTES + payload_bytes));
    put_be16(p + UDP_CSUM_OFFSET, 0);
}

#endif

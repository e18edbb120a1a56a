/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv4 headers (RFC 791). Addresses are in host order.
 */
#ifndef ENGINE_WIRE_IP4_H
#define ENGINE_WIRE_IP4_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "daemon/engine/csum.h"
#include "daemon/engine/wire/eth.h"

#define IP4_HDR_BYTES     20u
#define IP4_HDR_BYTES_MAX 60u
#define IP4_BYTES_MAX     65535u

#define IP4_DF            0x4000u
#define IP4_MF            0x2000u
#define IP4_OFF_MASK      0x1fffu /* in units of 8 bytes */

#define IP_PROTO_ICMP     1u
#define IP_PROTO_TCP      6u
#define IP_PROTO_UDP      17u

#define IP_ECN_MASK       0x03u /* RFC 3168 5 */
#define IP_ECN_ECT0       0x02u
#define IP_ECN_CE         0x03u

/** A parsed packet; the pointers lead into it. */
struct ip4_pkt {
    uint32_t src, dst;
    uint16_t id;
    uint16_t hdr_len;
    uint32_t frag_off; /* bytes */
    bool more;         /* more fragments follow */
    bool df;
    uint8_t proto, tos, ttl;
    const uint8_t *hdr;
    const uint8_t *payload;
    uint32_t len; /* bytes of payload, from the total length: link padding is cut off */
};

/** @return false: version, header length or total length wrong */
static inline bool ip4_parse(const uint8_t *p, uint32_t bytes, struct ip4_pkt *ret)
{
    uint32_t hdr, total;
    uint16_t off;

    if (bytes < IP4_HDR_BYTES || p[0] >> 4 != 4)
        return false;
    hdr = (uint32_t)(p[0] & 15) * 4;
    total = get_be16(p + 2);
    if (hdr < IP4_HDR_BYTES || hdr > total || total > bytes)
        return false;
    off = get_be16(p + 6);
    *ret = (struct ip4_pkt){
        .src = get_be32(p + 12),
        .dst = get_be32(p + 16),
        .id = get_be16(p + 4),
        .hdr_len = (uint16_t)hdr,
        .frag_off = (uint32_t)(off & IP4_OFF_MASK) * 8,
        .more = off & IP4_MF,
        .df = off & IP4_DF,
        .proto = p[9],
        .tos = p[1],
        .ttl = p[8],
        .hdr = p,
        .payload = p + hdr,
        .len = total - hdr,
    };
    return true;
}

static inline bool ip4_csum_ok(const struct ip4_pkt *ip)
{
    return csum_finish(csum_partial(ip->hdr, ip->hdr_len)) == 0;
}

/** Fill in the checksum of a header of `bytes`. */
static inline void ip4_put_csum(uint8_t *p, uint32_t bytes)
{
    uint16_t sum;

    put_be16(p + 10, 0);
    sum = csum_finish(csum_partial(p, bytes));
    memcpy(p + 10, &sum, 2);
}

/** Write a header without options; payload length, id, fragment word and so on come from `ip`. */
static inline void ip4_put(uint8_t *p, const struct ip4_pkt *ip)
{
    p[0] = 0x45;
    p[1] = ip->tos;
    put_be16(p + 2, (uint16_t)(IP4_HDR_BYTES + ip->len));
    put_be16(p + 4, ip->id);
    put_be16(p + 6, (uint16_t)(ip->frag_off / 8 | (ip->more ? IP4_MF : 0) | (ip->df ? IP4_DF : 0)));
    p[8] = ip->ttl;
    p[9] = ip->proto;
    put_be32(p + 12, ip->src);
    put_be32(p + 16, ip->dst);
    ip4_put_csum(p, IP4_HDR_BYTES);
}

#endif

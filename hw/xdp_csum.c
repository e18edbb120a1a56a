/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/xdp_csum.h"

#include <stdbool.h>

#include "hw/offload.h"

#define ETHERTYPE_IP4   0x0800u
#define ETHERTYPE_IP6   0x86ddu
#define ETHERTYPE_VLAN  0x8100u
#define TAG_BYTES       4u
#define IP4_BYTES       20u
#define IP6_BYTES       40u
#define IP4_FRAGMENT    0x3fffu
#define PROTO_TCP       6u
#define PROTO_UDP       17u
#define UDP_CSUM_OFFSET 6u

/* Where the parts of a packet lie. */
struct parts {
    uint32_t l4, bytes; /* transport header and what it begins, from the frame's first byte */
    uint32_t addrs, addr_bytes;
    uint8_t proto;
};

static uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static bool parse4(const uint8_t *frame, uint32_t len, uint32_t l3, struct parts *ret)
{
    const uint8_t *ip = frame + l3;
    uint32_t header;

    if (len < l3 + IP4_BYTES || be16(ip + 6) & IP4_FRAGMENT)
        return false;
    header = (ip[0] & 0xfu) * 4;
    if (header < IP4_BYTES || be16(ip + 2) < header)
        return false;
    *ret = (struct parts){
        .l4 = l3 + header, .bytes = be16(ip + 2) - header, .addrs = l3 + 12, .addr_bytes = 8, .proto = ip[9]};
    return true;
}

static bool parse6(const uint8_t *frame, uint32_t len, uint32_t l3, struct parts *ret)
{
    const uint8_t *ip = frame + l3;

    if (len < l3 + IP6_BYTES)
        return false;
    *ret = (struct parts){
        .l4 = l3 + IP6_BYTES, .bytes = be16(ip + 4), .addrs = l3 + 8, .addr_bytes = 32, .proto = ip[6]};
    return true;
}

static bool parse(const uint8_t *frame, uint32_t len, struct parts *ret)
{
    uint32_t l3 = ETH_HDR_BYTES;

    if (len < l3 + TAG_BYTES)
        return false;
    if (be16(frame + 12) == ETHERTYPE_VLAN)
        l3 += TAG_BYTES;
    switch (be16(frame + l3 - 2)) {
    case ETHERTYPE_IP4:
        return parse4(frame, len, l3, ret);
    case ETHERTYPE_IP6:
        return parse6(frame, len, l3, ret);
    default:
        return false;
    }
}

void xdp_csum_mark(struct pktbuf *pkt)
{
    struct parts p;
    uint32_t offset, pseudo;

    if (!parse(pkt->data, pkt->len, &p) || (p.proto != PROTO_TCP && p.proto != PROTO_UDP))
        return;
    offset = p.proto == PROTO_TCP ? TCP_CSUM_OFFSET : UDP_CSUM_OFFSET;
    if (p.l4 > pkt->len || p.bytes < offset + 2 || p.bytes > pkt->len - p.l4)
        return;
    pseudo = (uint16_t)~offload_csum(pkt->data + p.addrs, p.addr_bytes, p.proto + p.bytes);
    if (be16(pkt->data + p.l4 + offset) != pseudo)
        return;
    pkt->flags |= PKT_CSUM_PARTIAL;
    pkt->csum_start = (uint16_t)p.l4;
    pkt->csum_offset = (uint16_t)offset;
}

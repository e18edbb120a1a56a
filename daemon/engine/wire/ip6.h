/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv6 headers and addresses (RFC 8200, RFC 4291). Addresses are 16 bytes in network order.
 */
#ifndef ENGINE_WIRE_IP6_H
#define ENGINE_WIRE_IP6_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "daemon/engine/wire/eth.h"

#define IP6_HDR_BYTES      40u
#define IP6_PAYLOAD_MAX    65535u
#define IP6_MTU_MIN        1280u /* RFC 8200 5 */
#define IP6_HOPS_LINK      255u  /* proof that a packet was never forwarded (RFC 4861 3.1) */
#define IP6_NEXT_OFF       6u    /* of the next header field */

/* Next header values */
#define IP6_NH_HOPS        0u /* hop-by-hop options */
#define IP6_NH_ROUTING     43u
#define IP6_NH_FRAGMENT    44u
#define IP6_NH_ICMP        58u
#define IP6_NH_NONE        59u
#define IP6_NH_DEST        60u /* destination options */

#define IP6_FRAG_HDR_BYTES 8u
#define IP6_FRAG_MORE      0x0001u
#define IP6_FRAG_OFF_MASK  0xfff8u

#define IP6_OPT_PAD1       0u
#define IP6_OPT_PADN       1u
#define IP6_OPT_ALERT      5u /* router alert (RFC 2711) */
#define IP6_ALERT_MLD      0u /* its value */

/** A parsed fixed header; the pointers lead into the packet. */
struct ip6_pkt {
    const uint8_t *src, *dst;
    uint8_t next, tclass, hops;
    const uint8_t *hdr;
    const uint8_t *payload;
    uint32_t len; /* of the payload: link padding is cut off */
};

/** @return false: no whole header, another version, or the payload length is beyond the packet */
static inline bool ip6_parse(const uint8_t *p, uint32_t bytes, struct ip6_pkt *ret)
{
    uint32_t len;

    if (bytes < IP6_HDR_BYTES || p[0] >> 4 != 6)
        return false;
    len = get_be16(p + 4);
    if (len > bytes - IP6_HDR_BYTES)
        return false;
    *ret = (struct ip6_pkt){
        .src = p + 8,
        .dst = p + 24,
        .next = p[IP6_NEXT_OFF],
        .tclass = (uint8_t)(p[0] << 4 | p[1] >> 4),
        .hops = p[7],
        .hdr = p,
        .payload = p + IP6_HDR_BYTES,
        .len = len,
    };
    return true;
}

/** Write the fixed header. */
static inline void ip6_put(uint8_t *p, const uint8_t *src, const uint8_t *dst, uint8_t next, uint8_t tclass,
                           uint8_t hops, uint32_t flow, uint32_t len)
{
    put_be32(p, UINT32_C(6) << 28 | (uint32_t)tclass << 20 | (flow & 0xfffff));
    put_be16(p + 4, (uint16_t)len);
    p[IP6_NEXT_OFF] = next;
    p[7] = hops;
    memcpy(p + 8, src, 16);
    memcpy(p + 24, dst, 16);
}

static inline bool ip6_is_multicast(const uint8_t *a)
{
    return a[0] == 0xff;
}

static inline bool ip6_is_link_local(const uint8_t *a)
{
    return a[0] == 0xfe && (a[1] & 0xc0) == 0x80;
}

/** Scope of a group (RFC 4291 2.7). */
static inline uint8_t ip6_group_scope(const uint8_t *group)
{
    return group[1] & 15;
}

#define IP6_SCOPE_INTERFACE 1u
#define IP6_SCOPE_LINK      2u

/** All nodes, of this interface or this link (RFC 4291 2.7.1). */
static inline bool ip6_is_all_nodes(const uint8_t *group)
{
    static const uint8_t tail[14] = {[13] = 1};

    return group[0] == 0xff && (group[1] == IP6_SCOPE_INTERFACE || group[1] == IP6_SCOPE_LINK) &&
           memcmp(group + 2, tail, sizeof(tail)) == 0;
}

static inline bool ip6_is_unspecified(const uint8_t *a)
{
    static const uint8_t zero[16];

    return memcmp(a, zero, 16) == 0;
}

/** ::1, ::/96 otherwise, and ::ffff:0:0/96: never on a wire (RFC 4291 2.5.3, 2.5.5). */
static inline bool ip6_is_reserved(const uint8_t *a)
{
    static const uint8_t zero[10];

    return memcmp(a, zero, 10) == 0 && ((a[10] == 0 && a[11] == 0) || (a[10] == 0xff && a[11] == 0xff));
}

/** ::ffff:a.b.c.d, an IPv4 address in the API of IPv6 sockets (RFC 3493 3.7). */
static inline bool ip6_is_mapped(const uint8_t *a)
{
    static const uint8_t head[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    return memcmp(a, head, 12) == 0;
}

/** ff02::1:ffXX:XXXX (RFC 4291 2.7.1). */
static inline void ip6_solicited_node(const uint8_t *a, uint8_t *ret)
{
    static const uint8_t head[13] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};

    memcpy(ret, head, 13);
    memcpy(ret + 13, a + 13, 3);
}

/** The Ethernet address of an IPv6 multicast group (RFC 2464 7). */
static inline void eth_multicast6(const uint8_t *group, uint8_t *ret)
{
    ret[0] = ret[1] = 0x33;
    memcpy(ret + 2, group + 12, 4);
}

#endif

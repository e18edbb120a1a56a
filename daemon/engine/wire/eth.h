/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet II frames.
 */
#ifndef ENGINE_WIRE_ETH_H
#define ENGINE_WIRE_ETH_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "daemon/engine/wire/bytes.h"

#define ETH_HDR_BYTES  14u
#define ETH_ADDR_BYTES 6u

#define ETH_TAG_BYTES  4u /* of an 802.1Q tag, behind the addresses */
#define ETH_VLAN_MASK  0x0fffu
#define ETH_VLAN_MAX   4094u

#define ETH_TYPE_IP4   0x0800u
#define ETH_TYPE_ARP   0x0806u
#define ETH_TYPE_VLAN  0x8100u
#define ETH_TYPE_IP6   0x86ddu

/** A parsed frame; the pointers lead into it. */
struct eth_frame {
    const uint8_t *dst, *src;
    uint16_t type; /* ETH_TYPE_* */
    const uint8_t *payload;
    uint32_t len; /* bytes of payload, padding included */
};

/** @return false: no whole header */
static inline bool eth_parse(const uint8_t *p, uint32_t bytes, struct eth_frame *ret)
{
    if (bytes < ETH_HDR_BYTES)
        return false;
    *ret = (struct eth_frame){
        .dst = p,
        .src = p + 6,
        .type = get_be16(p + 12),
        .payload = p + ETH_HDR_BYTES,
        .len = bytes - ETH_HDR_BYTES,
    };
    return true;
}

static inline void eth_put(uint8_t *p, const uint8_t *dst, const uint8_t *src, uint16_t type)
{
    memcpy(p, dst, ETH_ADDR_BYTES);
    memcpy(p + 6, src, ETH_ADDR_BYTES);
    put_be16(p + 12, type);
}

/** Broadcast or multicast. */
static inline bool eth_is_group(const uint8_t *mac)
{
    return mac[0] & 1;
}

static inline bool eth_is_zero(const uint8_t *mac)
{
    return !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

static inline bool eth_eq(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, ETH_ADDR_BYTES) == 0;
}

/** The address of an IPv4 multicast group (RFC 1112 6.4). */
static inline void eth_multicast4(uint32_t group, uint8_t *ret)
{
    ret[0] = 0x01;
    ret[1] = 0x00;
    ret[2] = 0x5e;
    ret[3] = (uint8_t)(group >> 16) & 0x7f;
    ret[4] = (uint8_t)(group >> 8);
    ret[5] = (uint8_t)group;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ARP for IPv4 over Ethernet (RFC 826).
 */
#ifndef ENGINE_WIRE_ARP_H
#define ENGINE_WIRE_ARP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "daemon/engine/wire/eth.h"

#define ARP_BYTES   28u
#define ARP_REQUEST 1u
#define ARP_REPLY   2u

/** A packet; protocol addresses in host order. */
struct arp_pkt {
    uint16_t op; /* ARP_* */
    uint8_t sha[ETH_ADDR_BYTES];
    uint32_t spa;
    uint8_t tha[ETH_ADDR_BYTES];
    uint32_t tpa;
};

/** @return false: too short, not IPv4 over Ethernet, or neither request nor reply */
static inline bool arp_parse(const uint8_t *p, uint32_t bytes, struct arp_pkt *ret)
{
    if (bytes < ARP_BYTES)
        return false;
    if (get_be16(p) != 1 || get_be16(p + 2) != ETH_TYPE_IP4 || p[4] != ETH_ADDR_BYTES || p[5] != 4)
        return false;
    ret->op = get_be16(p + 6);
    memcpy(ret->sha, p + 8, ETH_ADDR_BYTES);
    ret->spa = get_be32(p + 14);
    memcpy(ret->tha, p + 18, ETH_ADDR_BYTES);
    ret->tpa = get_be32(p + 24);
    return ret->op == ARP_REQUEST || ret->op == ARP_REPLY;
}

static inline void arp_put(uint8_t *p, const struct arp_pkt *a)
{
    put_be16(p, 1);
    put_be16(p + 2, ETH_TYPE_IP4);
    p[4] = ETH_ADDR_BYTES;
    p[5] = 4;
    put_be16(p + 6, a->op);
    memcpy(p + 8, a->sha, ETH_ADDR_BYTES);
    put_be32(p + 14, a->spa);
    memcpy(p + 18, a->tha, ETH_ADDR_BYTES);
    put_be32(p + 24, a->tpa);
}

#endif

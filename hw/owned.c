/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/owned.h"

#include <stdbool.h>
#include <string.h>

#include "hw/offload.h"

#define MAC_GROUP        0x01u
#define OFF_ETHERTYPE    12u
#define VLAN_TAG_BYTES   4u
#define VLAN_ID          0x0fffu
#define TYPE_IP4         0x0800u
#define TYPE_ARP         0x0806u
#define TYPE_VLAN        0x8100u
#define TYPE_IP6         0x86ddu
#define ARP_BYTES        28u
#define ARP_SENDER       14u
#define ARP_TARGET       24u
#define IP4_HDR_BYTES    20u
#define IP4_PROTO        9u
#define IP4_DST          16u
#define IP6_HDR_BYTES    40u
#define IP6_DST          24u
#define PROTO_UDP        17u
#define UDP_DPORT        2u
#define PORT_DHCP_CLIENT 68u
#define BOTH             (OWNED_ENGINE | OWNED_KERNEL)

static unsigned get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static bool holds(const struct owned *o, uint8_t version, unsigned vlan, const uint8_t *ip)
{
    size_t bytes = version == 4 ? 4 : 16;

    for (unsigned i = 0; i < o->count; i++)
        if (o->addr[i].ip_version == version && o->addr[i].vlan == vlan && !memcmp(o->addr[i].ip, ip, bytes))
            return true;
    return false;
}

/* What a host says of itself to all (target and sender are the same) renews the entries of both. */
static unsigned arp_owner(const struct owned *o, unsigned vlan, const uint8_t *arp, uint32_t len)
{
    if (len < ARP_BYTES)
        return OWNED_KERNEL;
    if (holds(o, 4, vlan, arp + ARP_TARGET))
        return OWNED_ENGINE;
    return !memcmp(arp + ARP_SENDER, arp + ARP_TARGET, 4) ? BOTH : OWNED_KERNEL;
}

/* A DHCP server sends to the address that it is about to give. */
static bool is_dhcp(const uint8_t *ip, uint32_t len)
{
    uint32_t hdr = (ip[0] & 0xfu) * 4;

    return ip[IP4_PROTO] == PROTO_UDP && len >= hdr + UDP_DPORT + 2 &&
           get16(ip + hdr + UDP_DPORT) == PORT_DHCP_CLIENT;
}

static unsigned ip4_owner(const struct owned *o, unsigned vlan, const uint8_t *ip, uint32_t len)
{
    if (len < IP4_HDR_BYTES)
        return OWNED_KERNEL;
    if (holds(o, 4, vlan, ip + IP4_DST))
        return OWNED_ENGINE;
    return is_dhcp(ip, len) ? BOTH : OWNED_KERNEL;
}

static unsigned ip6_owner(const struct owned *o, unsigned vlan, const uint8_t *ip, uint32_t len)
{
    return len >= IP6_HDR_BYTES && holds(o, 6, vlan, ip + IP6_DST) ? OWNED_ENGINE : OWNED_KERNEL;
}

unsigned owned_by(const struct owned *o, const uint8_t *frame, uint32_t len)
{
    uint32_t at = ETH_HDR_BYTES;
    unsigned type, vlan = 0;

    if (len < at)
        return OWNED_KERNEL;
    type = get16(frame + OFF_ETHERTYPE);
    if (type == TYPE_VLAN) {
        at += VLAN_TAG_BYTES;
        if (len < at)
            return OWNED_KERNEL;
        vlan = get16(frame + ETH_HDR_BYTES) & VLAN_ID;
        type = get16(frame + at - 2);
    }
    if (type == TYPE_ARP)
        return arp_owner(o, vlan, frame + at, len - at);
    if (type != TYPE_IP4 && type != TYPE_IP6)
        return OWNED_KERNEL;
    if (frame[0] & MAC_GROUP)
        return BOTH;
    return type == TYPE_IP4 ? ip4_owner(o, vlan, frame + at, len - at)
                            : ip6_owner(o, vlan, frame + at, len - at);
}

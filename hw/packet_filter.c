/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/packet_filter.h"

#include <assert.h>
#include <string.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>

/* By offset in the frame; the kernel has taken a VLAN tag out already. */
#define OFF_ETHERTYPE    12u
#define OFF_IP4          14u
#define OFF_IP4_FRAGMENT 20u
#define OFF_IP4_PROTO    23u
#define OFF_IP4_DST      30u
#define OFF_IP6_NEXT     20u
#define OFF_IP6_DST      38u
#define OFF_IP6_PAYLOAD  54u
#define OFF_UDP_DPORT    2u /* behind the IP header */
#define IP4_OFFSET_MASK  0x1fffu
#define DHCP_CLIENT      68u
#define ND_FIRST         133u /* router solicitation .. redirect (RFC 4861 4) */
#define ND_LAST          137u
#define ACCEPT           0x7fffffffu /* the whole frame */

struct program {
    struct sock_filter *at;
    unsigned n;
};

static void put(struct program *p, uint16_t code, uint32_t k, unsigned jt, unsigned jf)
{
    assert(p->n < PACKET_FILTER_MAX);
    p->at[p->n++] = (struct sock_filter){.code = code, .jt = (uint8_t)jt, .jf = (uint8_t)jf, .k = k};
}

static void load(struct program *p, uint16_t size, uint32_t off)
{
    put(p, BPF_LD | BPF_ABS | size, off, 0, 0);
}

/* Go on when what was loaded is `k`, else skip `past` instructions. */
static void unless(struct program *p, uint32_t k, unsigned past)
{
    put(p, BPF_JMP | BPF_JEQ | BPF_K, k, 0, past);
}

static void end(struct program *p, uint32_t bytes)
{
    put(p, BPF_RET | BPF_K, bytes, 0, 0);
}

static uint32_t word(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* The address is in what was loaded. */
static void accept_ip4(struct program *p, const struct device_addr *a)
{
    unless(p, word(a->ip), 1);
    end(p, ACCEPT);
}

static void accept_ip6(struct program *p, const struct device_addr *a)
{
    for (unsigned i = 0; i < 4; i++) {
        load(p, BPF_W, OFF_IP6_DST + 4 * i);
        unless(p, word(a->ip + 4 * i), 7 - 2 * i); /* to behind the end of this address' test */
    }
    end(p, ACCEPT);
}

static void accept_addrs(struct program *p, const struct device_addr addrs[], unsigned count,
                         unsigned ip_version)
{
    if (ip_version == 4)
        load(p, BPF_W, OFF_IP4_DST);
    for (unsigned i = 0; i < count; i++) {
        if (addrs[i].ip_version != ip_version)
            continue;
        if (ip_version == 4)
            accept_ip4(p, &addrs[i]);
        else
            accept_ip6(p, &addrs[i]);
    }
}

/* To the address that is being offered, which is not ours yet (RFC 2131 4.1). */
static void accept_dhcp(struct program *p)
{
    load(p, BPF_B, OFF_IP4_PROTO);
    unless(p, IPPROTO_UDP, 6);
    load(p, BPF_H, OFF_IP4_FRAGMENT);
    put(p, BPF_JMP | BPF_JSET | BPF_K, IP4_OFFSET_MASK, 4, 0);
    put(p, BPF_LDX | BPF_B | BPF_MSH, OFF_IP4, 0, 0);
    put(p, BPF_LD | BPF_H | BPF_IND, OFF_IP4 + OFF_UDP_DPORT, 0, 0);
    unless(p, DHCP_CLIENT, 1);
    end(p, ACCEPT);
}

static void accept_nd(struct program *p)
{
    load(p, BPF_B, OFF_IP6_NEXT);
    unless(p, IPPROTO_ICMPV6, 4);
    load(p, BPF_B, OFF_IP6_PAYLOAD);
    put(p, BPF_JMP | BPF_JGE | BPF_K, ND_FIRST, 0, 2);
    put(p, BPF_JMP | BPF_JGT | BPF_K, ND_LAST, 1, 0);
    end(p, ACCEPT);
}

/* Only to our hardware address. */
static void check_mac(struct program *p, const uint8_t mac[6])
{
    load(p, BPF_W, 0);
    unless(p, word(mac), 2);
    load(p, BPF_H, 4);
    put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)mac[4] << 8 | mac[5], 1, 0);
    end(p, 0);
}

unsigned packet_filter_build(struct sock_filter ret[], const struct device_addr addrs[], unsigned count,
                             const uint8_t mac[6])
{
    struct program p = {.at = ret};
    unsigned six, skip;

    load(&p, BPF_W, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE));
    unless(&p, PACKET_BROADCAST, 1);
    end(&p, ACCEPT);
    unless(&p, PACKET_MULTICAST, 1);
    end(&p, ACCEPT);
    if (mac)
        check_mac(&p, mac);
    load(&p, BPF_H, OFF_ETHERTYPE);
    unless(&p, ETH_P_ARP, 1);
    end(&p, ACCEPT);
    unless(&p, ETH_P_IP, 1);
    skip = p.n;
    put(&p, BPF_JMP | BPF_JA, 0, 0, 0); /* over the other branch, to be filled in */
    unless(&p, ETH_P_IPV6, 1);
    six = p.n;
    put(&p, BPF_JMP | BPF_JA, 0, 0, 0);
    end(&p, 0);
    p.at[skip].k = p.n - skip - 1;
    accept_addrs(&p, addrs, count, 4);
    accept_dhcp(&p);
    end(&p, 0);
    p.at[six].k = p.n - six - 1;
    accept_addrs(&p, addrs, count, 6);
    accept_nd(&p);
    end(&p, 0);
    return p.n;
}

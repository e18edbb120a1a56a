/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ARP (RFC 826) and the conduct of RFC 5227.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/arp.h"

static const uint8_t mac_broadcast[ETH_ADDR_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static const uint8_t *own_mac(const struct engine *e, uint8_t ifindex)
{
    return e->net.t.ifs[ifindex].c.mac;
}

static void send(struct engine *e, uint8_t ifindex, const uint8_t *to, struct arp_pkt *a)
{
    struct pktbuf *p = pktq_get(&e->txq);

    if (!p) {
        stat_inc(&e->stats, ST_DROP_TX_FULL);
        return;
    }
    memcpy(a->sha, own_mac(e, ifindex), sizeof(a->sha));
    arp_put(p->data, a);
    p->len = ARP_BYTES;
    net_send_frame(e, p, ifindex, to, ETH_TYPE_ARP);
    stat_inc(&e->stats, ST_ARP_OUT);
}

/* The own address to ask with: one that the neighbour has on its link too. */
void arp_ask(struct engine *e, const struct neigh *n)
{
    const struct net_dst *d = netif_lookup(&e->net.t, &n->addr);
    struct arp_pkt a = {.op = ARP_REQUEST, .tpa = net_addr4(&n->addr)};

    if (d->has_src)
        a.spa = net_addr4(&d->src);
    send(e, n->ifindex, n->state == NEIGH_PROBE ? n->mac : mac_broadcast, &a);
}

void arp_announce(struct engine *e, const struct net_addr *own)
{
    uint32_t addr4 = net_addr4(&own->addr);
    struct arp_pkt a = {.op = ARP_REQUEST, .spa = addr4, .tpa = addr4};

    send(e, own->ifindex, mac_broadcast, &a);
}

void arp_probe(struct engine *e, uint32_t addr4, uint8_t ifindex)
{
    struct arp_pkt a = {.op = ARP_REQUEST, .tpa = addr4};

    send(e, ifindex, mac_broadcast, &a);
}

static void answer(struct engine *e, uint8_t ifindex, const struct arp_pkt *q)
{
    struct arp_pkt r = {.op = ARP_REPLY, .spa = q->tpa, .tpa = q->spa};

    memcpy(r.tha, q->sha, sizeof(r.tha));
    send(e, ifindex, q->sha, &r);
}

static struct net_addr *own_addr(struct engine *e, uint32_t addr4, uint8_t ifindex)
{
    const struct ip_addr addr = net_ip_addr(addr4);
    struct net_addr *a = netif_addr_find(&e->net.t, &addr);

    return a && a->ifindex == ifindex ? a : NULL;
}

static bool has_own(const struct engine *e, uint8_t ifindex)
{
    for (uint32_t i = 0; i < e->net.t.addr_count; i++) {
        const struct net_addr *a = &e->net.t.addrs[i];

        if (a->state != ADDR_FREE && a->ifindex == ifindex && a->addr.family == SG_AF_INET)
            return true;
    }
    return false;
}

/* Note who sent it. Who asks for us will soon be answered, so it is worth an entry; anybody else is not. */
static void learn(struct engine *e, const struct arp_pkt *a, bool ours, uint8_t ifindex, uint64_t now_us)
{
    const struct ip_addr spa = net_ip_addr(a->spa);
    struct neigh *n = neigh_find(&e->neigh, &spa, ifindex);
    bool asked;

    if (!n && ours && a->op == ARP_REQUEST && net_is_on_link(e, &spa, ifindex))
        n = neigh_create(e, &spa, ifindex, now_us);
    if (!n)
        return;
    asked = n->state == NEIGH_INCOMPLETE || n->state == NEIGH_PROBE;
    neigh_learn(e, n, a->sha, a->op == ARP_REPLY && ours && asked, now_us);
}

void arp_input(struct engine *e, const uint8_t *p, uint32_t bytes, uint8_t ifindex, uint64_t now_us)
{
    struct net_addr *claimed, *asked;
    struct ip_addr spa;
    struct arp_pkt a;

    stat_inc(&e->stats, ST_ARP_IN);
    if (!arp_parse(p, bytes, &a) || eth_is_group(a.sha) || eth_is_zero(a.sha)) {
        stat_inc(&e->stats, ST_DROP_ARP_BAD);
        return;
    }
    if (!has_own(e, ifindex) &&
        engine_leads(e)) { /* RFC 5227 2.1.1: who has the address, or is about to take it? */
        dhcp_conflict(e, a.spa ? a.spa : a.tpa, a.sha, now_us);
        return;
    }
    claimed = own_addr(e, a.spa, ifindex);
    if (claimed && !engine_leads(e))
        return;
    if (claimed) {
        /* RFC 5227 2.4 (c): keep the address, say so, and not too often. Else our own announcement came
         * back. */
        if (!eth_eq(a.sha, own_mac(e, ifindex)) && addr_conflict(e, claimed, a.sha, now_us))
            arp_announce(e, claimed);
        return;
    }
    asked = own_addr(e, a.tpa, ifindex);
    if (a.spa || a.op != ARP_REQUEST) { /* Else a probe (RFC 5227 2.1.1), which teaches nothing. */
        spa = net_ip_addr(a.spa);
        if (!net_is_unicast(e, &spa) || eth_eq(a.sha, own_mac(e, ifindex))) {
            stat_inc(&e->stats, ST_DROP_ARP_BAD);
            return;
        }
        learn(e, &a, asked != NULL, ifindex, now_us);
    }
    if (asked && a.op == ARP_REQUEST && engine_leads(e))
        answer(e, ifindex, &a);
}

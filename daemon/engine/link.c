/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device says of its link while we run: up or down, and how large a packet may be.
 *
 * Down means what it means in Linux: the interface's networks and routes lead nowhere until it is up again,
 * connections live on as long as their timers say, and its addresses stay ours. When it comes back we may be
 * on another link than before: addresses are announced and probed for again, routers are asked, a lease is
 * asked to be confirmed.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/ip6.h"

/* Frames and packets that wait would be late news when the link is back. */
static void went_down(struct engine *e, uint8_t ifindex, uint64_t now_us)
{
    pktq_flush(&e->txq, e->net.t.ifs[ifindex].c.dev);
    neigh_link_down(e, ifindex, now_us);
}

static void set(struct engine *e, uint8_t ifindex, const struct engine_link *l, uint64_t now_us)
{
    struct netif *i = &e->net.t.ifs[ifindex];
    uint32_t most = i->c.tx_frame_max - ETH_HDR_BYTES;
    uint16_t mtu = l->mtu < most ? l->mtu : (uint16_t)most;
    bool up = l->up && mtu >= ENGINE_MTU_MIN, was_up = i->up;
    bool changed = mtu >= ENGINE_MTU_MIN && mtu != e->cfg.ifs[ifindex].mtu;

    if (changed) {
        e->cfg.ifs[ifindex].mtu = i->c.mtu = mtu;
        dhcp_link(e, ifindex, false, now_us);
    }
    i->up = up;
    i->up6 = up && i->c.ip6 && i->c.mtu >= ENGINE_MTU6_MIN;
    netif_mtu6(i);
    e->net.t.gen++;
    if (changed || (!was_up && up))
        e->pmtu.changes++; /* Connections look at their segment size again. */
    if (was_up && !up)
        went_down(e, ifindex, now_us);
    if (!was_up && up && engine_leads(e)) {
        addr_link_up(e, ifindex, now_us);
        dhcp_link(e, ifindex, true, now_us);
    }
}

void engine_link(struct engine *e, uint8_t dev, const struct engine_link *l, uint64_t now_us)
{
    e->now_us = now_us;
    for (uint8_t i = 0; i < e->net.t.if_count; i++)
        if (e->net.t.ifs[i].c.dev == dev)
            set(e, i, l, now_us);
}

/* ---- Looking inside ------------------------------------------------------------------------------- */

bool engine_if_info(const struct engine *e, unsigned index, struct engine_if_info *ret)
{
    const struct netif *i = &e->net.t.ifs[index];

    if (index >= e->net.t.if_count)
        return false;
    *ret = (struct engine_if_info){.dev = i->c.dev, .vlan = i->c.vlan, .mtu = i->c.mtu, .up = i->up};
    memcpy(ret->mac, i->c.mac, sizeof(ret->mac));
    return true;
}

uint32_t engine_addr_changes(const struct engine *e)
{
    return e->net.t.gen;
}

bool engine_addr_next(const struct engine *e, uint64_t *cursor, struct engine_addr_info *ret)
{
    static const char *const state[] = {
        [ADDR_FREE] = "",
        [ADDR_TENTATIVE] = "tentative",
        [ADDR_PREFERRED] = "preferred",
        [ADDR_DEPRECATED] = "deprecated",
        [ADDR_DUPLICATE] = "duplicate",
    };

    while (*cursor < e->net.t.addr_count) {
        const struct net_addr *a = &e->net.t.addrs[(*cursor)++];

        if (a->state == ADDR_FREE)
            continue;
        *ret = (struct engine_addr_info){
            .addr = a->addr, .prefix = a->prefix, .ifindex = a->ifindex, .state = state[a->state]};
        return true;
    }
    return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of a connection: interface and neighbour, and that its addresses are what they were when it was
 * opened. Any change to addresses, routes, links or to who is which neighbour entry moves a generation on.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/tcp_fast.h"

/* Entries of the table of hints: twice as many as connections, so that few share one. */
static unsigned hint_bits(const struct engine_config *cfg)
{
    unsigned bits = 4;

    while (1u << bits < cfg->conn_max * 2)
        bits++;
    return bits;
}

static size_t hint_bytes(const struct engine_config *cfg)
{
    return sizeof(uint32_t) << hint_bits(cfg);
}

size_t tcp_fast_bytes(const struct engine_config *cfg)
{
    return hint_bytes(cfg) + cfg->conn_max * sizeof(struct tcp_way);
}

/* The memory is zeroed: no hint, and no way of a generation that there is. */
void tcp_fast_init(struct engine *e, void *mem)
{
    e->tcp.hints = mem;
    e->tcp.hint_shift = 64 - hint_bits(&e->cfg);
    e->tcp.ways = (struct tcp_way *)(void *)((uint8_t *)mem + hint_bytes(&e->cfg));
}

/* RFC 4007: a link-local address is one of this interface. */
static bool in_scope(const struct ip_addr *a, uint8_t ifindex)
{
    return !a->scope || a->scope == ifindex + 1u;
}

bool tcp_way_fill(struct engine *e, uint32_t i)
{
    const struct tcp_conn *c = &e->tcp.conns[i];
    struct tcp_way *w = &e->tcp.ways[i];
    const struct net_dst *d = netif_lookup(&e->net.t, &c->s.local);
    uint8_t ifindex = d->ifindex;
    const struct neigh *n;

    w->gen = 0;
    if (d->kind != DST_OWN)
        return false;
    d = netif_lookup(&e->net.t, &c->s.remote);
    if (d->kind != DST_UNICAST || d->ifindex != ifindex || !d->has_src || e->net.t.ifs[ifindex].c.vlan ||
        !in_scope(&c->s.local, ifindex) || !in_scope(&c->s.remote, ifindex))
        return false;
    n = neigh_find(&e->neigh, &d->hop, ifindex);
    if (!n || n - e->neigh.entries > UINT16_MAX)
        return false;
    *w = (struct tcp_way){.gen = way_gen(e), .neigh = (uint16_t)(n - e->neigh.entries), .ifindex = ifindex};
    return true;
}

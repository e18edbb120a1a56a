/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Router advertisements (RFC 4861 6.3) and addresses made from their prefixes (RFC 4862 5.5), on interfaces
 * that are configured to take them.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/icmp6.h"

#define INFINITE     UINT32_MAX
#define TWO_HOURS_US UINT64_C(7200000000)
#define SLAAC_PREFIX 64u
#define SECOND_US    UINT64_C(1000000)
#define KEY_REACH    UINT64_C(0x72612d7265616368)

static const uint8_t all_routers[16] = {0xff, 0x02, [15] = 2};

static uint64_t until(uint64_t now_us, uint32_t seconds)
{
    return seconds == INFINITE ? UINT64_MAX : now_us + seconds * SECOND_US;
}

/* ---- What holds for a link --------------------------------------------------------------------------- */

static uint32_t clamp(uint32_t v, uint32_t min, uint32_t max)
{
    return v < min ? min : v > max ? max : v;
}

/* RFC 4861 6.3.2: between half and one and a half times the base, so that hosts don't ask in step. */
static void reach_draw(struct engine *e, uint8_t ifindex, uint64_t now_us)
{
    const struct sip_key key = net_key(&e->cfg, KEY_REACH);
    struct netif *i = &e->net.t.ifs[ifindex];
    uint64_t w[2] = {now_us, ifindex}, base_us = i->reach_base_ms * UINT64_C(1000);

    i->reach_us = base_us / 2 + sip_words(&key, w, ARRAY_LEN(w), 2, 4) % base_us;
    i->reach_drawn_us = now_us;
}

void ra_defaults(struct engine *e, uint8_t ifindex, uint64_t now_us)
{
    struct netif *i = &e->net.t.ifs[ifindex];

    i->hops = 0;
    i->ra_mtu = 0;
    netif_mtu6(i);
    e->net.t.gen++;
    i->retrans_us = ND_RETRANS_MS * 1000;
    i->reach_base_ms = RA_REACHABLE_MS;
    reach_draw(e, ifindex, now_us);
}

/* ---- Asking ----------------------------------------------------------------------------------------- */

void ra_start(struct engine *e, uint8_t ifindex, uint64_t now_us)
{
    struct netif *i = &e->net.t.ifs[ifindex];

    if (!i->c.accept_ra)
        return;
    i->rs_left = RA_SOLICITS;
    i->rs_us = now_us;
    addr_timer_at(&e->net.t, now_us);
}

static void solicit(struct engine *e, uint8_t ifindex, uint64_t now_us)
{
    const struct ip_addr *own = netif_link_local(&e->net.t, ifindex);
    struct ip_addr dst = {.family = SG_AF_INET6, .scope = ifindex + 1u};
    struct pktbuf *p = own ? pktq_get(&e->txq) : NULL;
    struct ip_addr src;

    if (!p)
        return; /* It is repeated. */
    src = *own;
    memcpy(dst.ip, all_routers, 16);
    icmp6_put(p->data, ICMP6_ROUTER_SOLICIT, 0, 0);
    p->data[8] = ND_OPT_SOURCE_MAC;
    p->data[9] = ND_OPT_MAC_BYTES / 8;
    memcpy(p->data + 10, e->net.t.ifs[ifindex].c.mac, ETH_ADDR_BYTES);
    p->len = ICMP6_HDR_BYTES + ND_OPT_MAC_BYTES;
    stat_inc(&e->stats, ST_ICMP6_OUT_ROUTER_SOLICITS);
    (void)icmp6_send(e, p, &src, &dst, IP6_HOPS_LINK, now_us); /* It is repeated. */
}

static void ask(struct engine *e, uint8_t ifindex, uint64_t now_us)
{
    struct netif *i = &e->net.t.ifs[ifindex];

    if (!i->rs_us)
        return;
    if (now_us >= i->rs_us) {
        i->rs_us = --i->rs_left ? now_us + RA_SOLICIT_INTERVAL_US : 0;
        solicit(e, ifindex, now_us);
    }
    if (i->rs_us)
        addr_timer_at(&e->net.t, i->rs_us);
}

void ra_timers(struct engine *e, uint64_t now_us)
{
    struct net_tables *t = &e->net.t;

    for (uint8_t i = 0; i < t->if_count; i++)
        ask(e, i, now_us);
    for (uint32_t i = 0; i < t->route_count;) {
        if (now_us >= t->routes[i].valid_until_us) {
            netif_route_del(t, &t->routes[i]);
            continue;
        }
        addr_timer_at(t, t->routes[i].valid_until_us);
        i++;
    }
}

/* ---- Taking ----------------------------------------------------------------------------------------- */

static uint32_t learnt_routes(const struct net_tables *t)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->route_count; i++)
        n += t->routes[i].learnt;
    return n;
}

static uint32_t learnt_addrs(const struct net_tables *t)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->addr_count; i++)
        n += t->addrs[i].state != ADDR_FREE && t->addrs[i].learnt;
    return n;
}

static struct net_route *find_route(struct net_tables *t, const struct engine_route *c)
{
    for (uint32_t i = 0; i < t->route_count; i++) {
        struct net_route *r = &t->routes[i];

        if (r->learnt && r->ifindex == c->ifindex && r->prefix == c->prefix &&
            net_prefix_eq(&r->dst, &c->dst, c->prefix) && ip_addr_eq(&r->gateway, &c->gateway))
            return r;
    }
    return NULL;
}

/* Lifetime 0 takes a route back. */
static void set_route(struct engine *e, const struct engine_route *c, uint32_t seconds, uint64_t now_us)
{
    struct net_tables *t = &e->net.t;
    struct net_route *r = find_route(t, c);

    if (r && !seconds) {
        netif_route_del(t, r);
        return;
    }
    if (!seconds || (!r && learnt_routes(t) >= RA_ROUTES_MAX))
        return;
    if (netif_route_add(t, c, true, until(now_us, seconds)))
        addr_timer_at(t, until(now_us, seconds));
}

static struct net_addr *find_addr(struct net_tables *t, const struct ip_addr *prefix, uint8_t ifindex)
{
    for (uint32_t i = 0; i < t->addr_count; i++) {
        struct net_addr *a = &t->addrs[i];

        if (a->state != ADDR_FREE && a->learnt && a->ifindex == ifindex &&
            net_prefix_eq(&a->addr, prefix, SLAAC_PREFIX))
            return a;
    }
    return NULL;
}

/* RFC 4862 5.5.3 e: nobody may take an address away at once, for advertisements are not signed. */
static void refresh(struct engine *e, struct net_addr *a, uint32_t valid, uint32_t preferred, uint64_t now_us)
{
    uint64_t wanted = until(now_us, valid), floor = now_us + TWO_HOURS_US;

    if (wanted >= floor || wanted >= a->valid_until_us)
        a->valid_until_us = wanted;
    else if (a->valid_until_us > floor)
        a->valid_until_us = floor;
    a->preferred_until_us = until(now_us, preferred);
    if (a->state == ADDR_DEPRECATED && preferred)
        netif_addr_state(&e->net.t, a, ADDR_PREFERRED);
    addr_timer_at(&e->net.t, now_us); /* Its timers are looked up anew. */
}

static void autoconfigure(struct engine *e, const struct ip_addr *prefix, uint8_t ifindex, uint32_t valid,
                          uint32_t preferred, uint64_t now_us)
{
    struct net_tables *t = &e->net.t;
    struct net_addr *a = find_addr(t, prefix, ifindex);

    if (a) {
        refresh(e, a, valid, preferred, now_us);
        return;
    }
    if (!valid || learnt_addrs(t) >= RA_ADDRS_MAX)
        return;
    a = addr_make(e, prefix, ifindex, 0);
    if (!a)
        return;
    a->learnt = true;
    a->valid_until_us = until(now_us, valid);
    a->preferred_until_us = until(now_us, preferred);
    addr_probe(e, a, 0, now_us);
    addr_timer_at(t, now_us);
}

static void prefix_option(struct engine *e, const struct rx_pkt *rp, const uint8_t *o, uint64_t now_us)
{
    uint32_t valid = get_be32(o + 4), preferred = get_be32(o + 8);
    struct engine_route r = {
        .dst = net_ip_addr6(o + 16, rp->ifindex), .prefix = o[2], .ifindex = rp->ifindex};

    /* RFC 4861 6.3.4, RFC 4862 5.5.3 b and c */
    if (o[2] > 128 || r.dst.scope || ip6_is_multicast(r.dst.ip) || preferred > valid)
        return;
    if (o[3] & ND_PREFIX_ON_LINK && o[2])
        set_route(e, &r, valid, now_us);
    if (o[3] & ND_PREFIX_AUTONOMOUS && o[2] == SLAAC_PREFIX)
        autoconfigure(e, &r.dst, rp->ifindex, valid, preferred, now_us);
}

/* RFC 4861 6.3.4: zero says nothing. */
static void set_numbers(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct netif *i = &e->net.t.ifs[rp->ifindex];
    uint32_t reach_ms = get_be32(rp->l4 + 8), retrans_ms = get_be32(rp->l4 + 12);

    if (rp->l4[4] >= RA_HOPS_MIN)
        i->hops = rp->l4[4];
    if (retrans_ms)
        i->retrans_us = clamp(retrans_ms, RA_RETRANS_MIN_MS, RA_RETRANS_MAX_MS) * 1000;
    reach_ms = reach_ms ? clamp(reach_ms, RA_REACHABLE_MIN_MS, RA_REACHABLE_MAX_MS) : i->reach_base_ms;
    if (reach_ms != i->reach_base_ms || now_us - i->reach_drawn_us > RA_REACHABLE_DRAW_US) {
        i->reach_base_ms = reach_ms;
        reach_draw(e, rp->ifindex, now_us);
    }
}

static void take(struct engine *e, const struct rx_pkt *rp, const struct nd_opts *opts, uint64_t now_us)
{
    struct netif *i = &e->net.t.ifs[rp->ifindex];
    struct engine_route def = {.dst = {.family = SG_AF_INET6}, .gateway = rp->src, .ifindex = rp->ifindex};
    const uint8_t *p = rp->l4 + ND_ROUTER_ADVERT_BYTES, *end = rp->l4 + rp->l4_len;

    i->rs_us = 0; /* RFC 4861 6.3.7: heard */
    set_route(e, &def, get_be16(rp->l4 + 6), now_us);
    set_numbers(e, rp, now_us);
    if (opts->mtu >= IP6_MTU_MIN && opts->mtu <= i->c.mtu && opts->mtu != i->ra_mtu) {
        i->ra_mtu = (uint16_t)opts->mtu;
        netif_mtu6(i);
        e->pmtu.changes++; /* Connections look at their segment size again. */
        e->net.t.gen++;
    }
    for (; p < end; p += p[1] * 8) /* nd_opts_parse() went the same way. */
        if (p[0] == ND_OPT_PREFIX && p[1] * 8u == ND_OPT_PREFIX_BYTES)
            prefix_option(e, rp, p, now_us);
}

void ra_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct nd_opts opts;

    stat_inc(&e->stats, ST_ICMP6_IN_ROUTER_ADVERTS);
    /* RFC 4861 6.1.2 */
    if (rp->l4_len < ND_ROUTER_ADVERT_BYTES || !ip6_is_link_local(rp->src.ip) ||
        !nd_opts_parse(rp->l4 + ND_ROUTER_ADVERT_BYTES, rp->l4_len - ND_ROUTER_ADVERT_BYTES, &opts)) {
        stat_inc(&e->stats, ST_DROP_ND_BAD);
        return;
    }
    nd_learn_source(e, rp, opts.source_mac, e->net.t.ifs[rp->ifindex].c.accept_ra, now_us);
    if (e->net.t.ifs[rp->ifindex].c.accept_ra)
        take(e, rp, &opts, now_us);
}

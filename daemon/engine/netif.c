/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of addresses and routes; source address selection (RFC 1122 3.3.1, RFC 6724 5).
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/ip6.h"

#define SCOPE_LINK   2u
#define SCOPE_SITE   5u
#define SCOPE_GLOBAL 14u

size_t netif_bytes(void)
{
    return NET_DST_CACHE * sizeof(struct net_dst);
}

static unsigned family_bits(const struct ip_addr *a)
{
    return a->family == SG_AF_INET ? 32 : 128;
}

bool net_prefix_eq(const struct ip_addr *a, const struct ip_addr *b, unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;

    if (a->family != b->family || memcmp(a->ip, b->ip, bytes) != 0)
        return false;
    return !rest || ((a->ip[bytes] ^ b->ip[bytes]) >> (8 - rest)) == 0;
}

static void changed(struct net_tables *t)
{
    t->gen++;
}

/* ---- Interfaces ----------------------------------------------------------------------------------- */

static bool if_ok(const struct engine_if *c)
{
    return c->dev < ENGINE_DEV_MAX && c->mtu >= ENGINE_MTU_MIN &&
           c->tx_frame_max >= (uint32_t)c->mtu + ETH_HDR_BYTES && c->vlan <= ETH_VLAN_MAX &&
           (!c->ip6 || c->mtu >= ENGINE_MTU6_MIN);
}

static bool add_configured(struct net_tables *t, const struct engine_config *cfg)
{
    for (uint32_t i = 0; i < cfg->addr_count; i++) {
        const struct engine_addr *c = &cfg->addrs[i];
        bool is6 = c->addr.family == SG_AF_INET6;

        if (c->ifindex >= t->if_count || c->prefix > family_bits(&c->addr) || ip_addr_any(&c->addr))
            return false;
        if (is6 && (!t->ifs[c->ifindex].c.ip6 || ip6_is_multicast(c->addr.ip)))
            return false;
        if (!netif_addr_add(t, c, is6 && cfg->dad_transmits ? ADDR_TENTATIVE : ADDR_PREFERRED))
            return false;
    }
    for (uint32_t i = 0; i < cfg->route_count; i++)
        if (!netif_route_add(t, &cfg->routes[i], false, UINT64_MAX))
            return false;
    return true;
}

bool netif_init(struct net_tables *t, void *mem, const struct engine_config *cfg)
{
    memset(t, 0, sizeof(*t));
    t->cache = mem;
    t->gen = 1; /* Empty cache entries have 0. */
    if (cfg->if_count < 1 || cfg->if_count > ENGINE_IF_MAX || cfg->addr_count > ENGINE_ADDR_MAX ||
        cfg->route_count > ENGINE_ROUTE_MAX)
        return false;
    for (uint32_t i = 0; i < cfg->if_count; i++) {
        const struct engine_if *c = &cfg->ifs[i];

        if (!if_ok(c) || netif_find(t, c->dev, c->vlan))
            return false;
        t->ifs[t->if_count++] = (struct netif){.c = *c, .up = true, .up6 = c->ip6, .mtu6 = c->mtu};
        if (c->vlan) /* Devices cut frames whose headers stand where there is no tag. */
            t->ifs[i].c.offloads &= ~(ENGINE_TX_TSO4 | ENGINE_TX_TSO6);
    }
    return add_configured(t, cfg);
}

void netif_mtu6(struct netif *i)
{
    i->mtu6 = i->ra_mtu && i->ra_mtu < i->c.mtu ? i->ra_mtu : i->c.mtu;
}

const struct netif *netif_find(const struct net_tables *t, uint8_t dev, uint16_t vlan)
{
    for (uint32_t i = 0; i < t->if_count; i++)
        if (t->ifs[i].c.dev == dev && t->ifs[i].c.vlan == vlan)
            return &t->ifs[i];
    return NULL;
}

/* ---- Addresses ------------------------------------------------------------------------------------ */

struct net_addr *netif_addr_find(struct net_tables *t, const struct ip_addr *addr)
{
    for (uint32_t i = 0; i < t->addr_count; i++)
        if (t->addrs[i].state != ADDR_FREE && ip_addr_eq(&t->addrs[i].addr, addr))
            return &t->addrs[i];
    return NULL;
}

struct net_addr *netif_addr_add(struct net_tables *t, const struct engine_addr *c, enum addr_state state)
{
    struct engine_route r = {.dst = c->addr, .prefix = c->prefix, .ifindex = c->ifindex};
    struct ip_addr addr = c->addr;
    struct net_addr *a;
    uint32_t i = 0;

    addr.scope = addr.family == SG_AF_INET6 && ip6_is_link_local(addr.ip) ? c->ifindex + 1u : 0;
    if (netif_addr_find(t, &addr))
        return NULL;
    while (i < t->addr_count && t->addrs[i].state != ADDR_FREE)
        i++;
    if (i == NET_ADDR_MAX)
        return NULL;
    if (i == t->addr_count)
        t->addr_count++;
    a = &t->addrs[i];
    *a = (struct net_addr){
        .addr = addr,
        .prefix = c->prefix,
        .ifindex = c->ifindex,
        .state = (uint8_t)state,
        .preferred_until_us = UINT64_MAX,
        .valid_until_us = UINT64_MAX,
    };
    changed(t);
    /* Link-local destinations carry their interface and need no route. */
    if (!addr.scope && c->prefix < family_bits(&addr) && !netif_route_add(t, &r, false, UINT64_MAX)) {
        a->state = ADDR_FREE;
        return NULL;
    }
    return a;
}

void netif_addr_del(struct net_tables *t, struct net_addr *a)
{
    a->state = ADDR_FREE;
    changed(t);
}

void netif_addr_state(struct net_tables *t, struct net_addr *a, enum addr_state state)
{
    if (a->state == state)
        return;
    a->state = (uint8_t)state;
    changed(t);
}

const struct ip_addr *netif_link_local(const struct net_tables *t, uint8_t ifindex)
{
    for (uint32_t i = 0; i < t->addr_count; i++)
        if (t->addrs[i].addr.scope == ifindex + 1u && netif_addr_usable(&t->addrs[i]))
            return &t->addrs[i].addr;
    return NULL;
}

/* ---- Routes --------------------------------------------------------------------------------------- */

/* The longest prefix wins (RFC 1812 5.2.4.3); among equals the one that came first. */
static const struct net_route *route_find(const struct net_tables *t, const struct ip_addr *dst)
{
    const struct net_route *best = NULL;

    for (uint32_t i = 0; i < t->route_count; i++) {
        const struct net_route *r = &t->routes[i];

        if (r->dst.family == dst->family && (!best || r->prefix > best->prefix) &&
            netif_is_up(&t->ifs[r->ifindex], dst->family) && net_prefix_eq(&r->dst, dst, r->prefix))
            best = r;
    }
    return best;
}

/* The interface whose link a gateway is on; false: it is nobody's neighbour. */
static bool gateway_link(struct net_tables *t, const struct engine_route *c, uint8_t *ifindex)
{
    const struct net_route *via = route_find(t, &c->gateway);
    struct engine_route host = {.dst = c->gateway, .prefix = (uint8_t)family_bits(&c->gateway)};

    if (c->gateway.scope) { /* link-local */
        *ifindex = (uint8_t)(c->gateway.scope - 1);
        return *ifindex < t->if_count;
    }
    if (via && !via->gateway.family && (c->ifindex == ENGINE_IF_ANY || c->ifindex == via->ifindex)) {
        *ifindex = via->ifindex;
        return true;
    }
    /* Outside of every connected network, as a /32 from a provider has it: on the link because we say so. */
    if (c->ifindex == ENGINE_IF_ANY && t->if_count > 1)
        return false;
    *ifindex = c->ifindex == ENGINE_IF_ANY ? 0 : c->ifindex;
    host.ifindex = *ifindex;
    return netif_route_add(t, &host, false, UINT64_MAX);
}

bool netif_route_add(struct net_tables *t, const struct engine_route *c, bool learnt, uint64_t valid_until_us)
{
    struct net_route r = {
        .dst = c->dst,
        .gateway = c->gateway,
        .prefix = c->prefix,
        .ifindex = c->ifindex,
        .learnt = learnt,
        .valid_until_us = valid_until_us,
    };

    if (c->prefix > family_bits(&c->dst))
        return false;
    if (c->gateway.family && (c->gateway.family != c->dst.family || !gateway_link(t, c, &r.ifindex)))
        return false;
    if (r.ifindex >= t->if_count)
        return false;
    changed(t);
    for (uint32_t i = 0; i < t->route_count; i++) {
        struct net_route *o = &t->routes[i];

        if (o->prefix == r.prefix && o->ifindex == r.ifindex && net_prefix_eq(&o->dst, &r.dst, r.prefix) &&
            ip_addr_eq(&o->gateway, &r.gateway)) {
            if (o->learnt) /* What was configured is not a router's to take back. */
                *o = r;
            return true;
        }
    }
    if (t->route_count == NET_ROUTE_MAX)
        return false;
    t->routes[t->route_count++] = r;
    return true;
}

void netif_route_del(struct net_tables *t, struct net_route *r)
{
    size_t left = (size_t)(&t->routes[--t->route_count] - r);

    memmove(r, r + 1, left * sizeof(*r)); /* Their order counts. */
    changed(t);
}

bool netif_is_gateway(const struct net_tables *t, const struct ip_addr *addr)
{
    for (uint32_t i = 0; i < t->route_count; i++)
        if (t->routes[i].gateway.family && ip_addr_eq(&t->routes[i].gateway, addr))
            return true;
    return false;
}

/* ---- Source addresses ----------------------------------------------------------------------------- */

static unsigned common_bits(const struct ip_addr *a, const struct ip_addr *b)
{
    unsigned n = 0;

    while (n < family_bits(a) && net_prefix_eq(a, b, n + 1))
        n++;
    return n;
}

static unsigned scope_of(const struct ip_addr *a)
{
    if (a->family == SG_AF_INET)
        return SCOPE_GLOBAL;
    if (ip6_is_multicast(a->ip))
        return a->ip[1] & 15;
    if (ip6_is_link_local(a->ip))
        return SCOPE_LINK;
    return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0xc0 ? SCOPE_SITE : SCOPE_GLOBAL;
}

/* RFC 6724 2.1: labels of the default policy table, as far as an address of a host can have them. */
static unsigned label_of(const struct ip_addr *a)
{
    static const struct {
        uint8_t ip[4], bits, label;
    } policy[] = {
        {{0x20, 0x02}, 16, 2},  {{0x20, 0x01, 0, 0}, 32, 5}, {{0xfc}, 7, 13},
        {{0xfe, 0xc0}, 10, 11}, {{0x3f, 0xfe}, 16, 12},
    };

    for (size_t i = 0; i < ARRAY_LEN(policy); i++) {
        struct ip_addr p = {.family = a->family};

        memcpy(p.ip, policy[i].ip, sizeof(policy[i].ip));
        if (net_prefix_eq(&p, a, policy[i].bits))
            return policy[i].label;
    }
    return 1;
}

/* RFC 6724 5: is `a` a better source than `b`? Rules 1, 4 and 7 (own destination, home and temporary
 * addresses) have no meaning here. */
static bool better_source(const struct net_addr *a, const struct net_addr *b, const struct ip_addr *dst,
                          uint8_t ifindex)
{
    unsigned sa = scope_of(&a->addr), sb = scope_of(&b->addr), sd = scope_of(dst);

    if (sa != sb) /* rule 2 */
        return sa < sb ? sa >= sd : sb < sd;
    if (a->state != b->state) /* rule 3 */
        return a->state == ADDR_PREFERRED;
    if ((a->ifindex == ifindex) != (b->ifindex == ifindex)) /* rule 5 */
        return a->ifindex == ifindex;
    if (dst->family == SG_AF_INET6) { /* rule 6 */
        unsigned label = label_of(dst);
        bool la = label_of(&a->addr) == label, lb = label_of(&b->addr) == label;

        if (la != lb)
            return la;
    }
    return common_bits(&a->addr, dst) > common_bits(&b->addr, dst); /* rule 8 */
}

/* The own address to send to `dst` from, over interface `ifindex`; NULL: none fits. */
static const struct net_addr *source_find(const struct net_tables *t, const struct ip_addr *dst,
                                          uint8_t ifindex)
{
    const struct net_addr *best = NULL;

    for (uint32_t i = 0; i < t->addr_count; i++) {
        const struct net_addr *a = &t->addrs[i];

        if (a->addr.family != dst->family || !netif_addr_usable(a))
            continue;
        if (a->addr.scope && a->addr.scope != ifindex + 1u) /* another link's link-local address */
            continue;
        if (!best || better_source(a, best, dst, ifindex))
            best = a;
    }
    return best;
}

/* ---- Destinations --------------------------------------------------------------------------------- */

static bool is_broadcast4(const struct net_tables *t, struct net_dst *d)
{
    uint32_t addr4 = get_be32(d->addr.ip);

    if (addr4 == UINT32_MAX)
        return true;
    for (uint32_t i = 0; i < t->addr_count; i++) {
        const struct net_addr *a = &t->addrs[i];

        if (a->state == ADDR_FREE || a->addr.family != SG_AF_INET || a->prefix < 1 ||
            a->prefix > 30) /* RFC 3021: a /31 has no broadcast address */
            continue;
        if (addr4 == (get_be32(a->addr.ip) | UINT32_MAX >> a->prefix)) {
            d->ifindex = a->ifindex;
            return true;
        }
    }
    return false;
}

/* RFC 1122 3.2.1.3: not 0/8, 127/8, multicast or reserved. */
static bool host_like4(uint32_t addr4)
{
    uint8_t top = addr4 >> 24;

    return top != 0 && top != 127 && top < 224;
}

static enum dst_kind kind_of(const struct net_tables *t, struct net_dst *d)
{
    const uint8_t *ip = d->addr.ip;

    for (uint32_t i = 0; i < t->addr_count; i++) {
        if (netif_addr_usable(&t->addrs[i]) && ip_addr_eq(&t->addrs[i].addr, &d->addr)) {
            d->ifindex = t->addrs[i].ifindex;
            return DST_OWN;
        }
    }
    if (d->addr.family == SG_AF_INET) {
        if (is_broadcast4(t, d))
            return DST_BROADCAST;
        if (ip[0] >> 4 == 0xe)
            return DST_MULTICAST;
        return host_like4(get_be32(ip)) ? DST_UNICAST : DST_NONE;
    }
    if (d->addr.family != SG_AF_INET6)
        return DST_NONE;
    if (ip6_is_multicast(ip))
        return DST_MULTICAST;
    return ip6_is_reserved(ip) ? DST_NONE : DST_UNICAST;
}

/* Groups and broadcasts leave where their scope says, else where unicast to anywhere would, else where the
 * family has an address. */
static void group_interface(const struct net_tables *t, struct net_dst *d)
{
    const struct net_route *r = route_find(t, &d->addr);

    if (d->addr.scope) {
        d->ifindex = d->addr.scope <= t->if_count ? (uint8_t)(d->addr.scope - 1) : ENGINE_IF_ANY;
        return;
    }
    if (d->ifindex != ENGINE_IF_ANY)
        return;
    d->ifindex = 0;
    if (r) {
        d->ifindex = r->ifindex;
        return;
    }
    for (uint32_t i = 0; i < t->addr_count; i++) {
        if (t->addrs[i].addr.family == d->addr.family && netif_addr_usable(&t->addrs[i])) {
            d->ifindex = t->addrs[i].ifindex;
            return;
        }
    }
}

static bool unicast_hop(const struct net_tables *t, struct net_dst *d)
{
    const struct net_route *r;

    d->hop = d->addr;
    if (d->addr.family == SG_AF_INET6 && ip6_is_link_local(d->addr.ip)) {
        d->ifindex = (uint8_t)(d->addr.scope - 1);
        return d->addr.scope && d->addr.scope <= t->if_count;
    }
    r = route_find(t, &d->addr);
    if (!r)
        return false;
    d->ifindex = r->ifindex;
    if (r->gateway.family)
        d->hop = r->gateway;
    return true;
}

static void fill(const struct net_tables *t, struct net_dst *d, const struct ip_addr *addr)
{
    const struct net_addr *src;
    const struct ip_addr *near;

    *d = (struct net_dst){.addr = *addr, .gen = t->gen, .ifindex = ENGINE_IF_ANY};
    d->kind = (uint8_t)kind_of(t, d);
    if (d->kind == DST_UNICAST && !unicast_hop(t, d))
        d->ifindex = ENGINE_IF_ANY; /* An address that a host may have, and no way there. */
    if (d->kind == DST_BROADCAST || d->kind == DST_MULTICAST)
        group_interface(t, d);
    if (d->ifindex >= t->if_count ||
        (d->kind != DST_OWN && !netif_is_up(&t->ifs[d->ifindex], addr->family))) {
        d->ifindex = ENGINE_IF_ANY;
        return;
    }
    d->mtu = (uint16_t)(addr->family == SG_AF_INET6 ? t->ifs[d->ifindex].mtu6 : t->ifs[d->ifindex].c.mtu);
    if (d->kind == DST_OWN) {
        d->src = *addr;
        d->has_src = true;
        return;
    }
    /* Of several IPv4 addresses, the one in the network of the router is what it knows the way back to. */
    near = addr->family == SG_AF_INET && d->kind == DST_UNICAST ? &d->hop : &d->addr;
    src = d->kind == DST_NONE ? NULL : source_find(t, near, d->ifindex);
    if (src) {
        d->src = src->addr;
        d->has_src = true;
    }
}

const struct net_dst *netif_lookup(const struct net_tables *t, const struct ip_addr *addr)
{
    struct net_dst *d;
    uint64_t w[2];

    memcpy(w, addr->ip, sizeof(w));
    /* No key: a collision costs a search of short tables, which is what a miss costs anyway. */
    d = &t->cache[((w[0] ^ w[1]) * UINT64_C(0x9e3779b97f4a7c15)) >> 58];
    static_assert(NET_DST_CACHE == 1u << (64 - 58), "the hash has as many values");
    if (d->gen != t->gen || !ip_addr_eq(&d->addr, addr))
        fill(t, d, addr);
    return d;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neighbour discovery (RFC 4861): solicitations and advertisements. The states of a neighbour are neigh.c's,
 * which ARP shares. Redirects are not followed: an edge gateway has its routes from its operator, and whoever
 * is on the link could send one.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/icmp6.h"

#define KEY_NONCE   UINT64_C(0x6e642d6e6f6e6365)
#define NONCE_BYTES 6u

static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};

/* ---- Options --------------------------------------------------------------------------------------- */

bool nd_opts_parse(const uint8_t *p, uint32_t bytes, struct nd_opts *ret)
{
    *ret = (struct nd_opts){0};
    for (unsigned n = 0; bytes; n++) {
        uint32_t len = bytes >= 2 ? (uint32_t)p[1] * 8 : 0;

        if (!len || len > bytes || n == ND_OPTS_MAX)
            return false;
        if (p[0] == ND_OPT_SOURCE_MAC && len == ND_OPT_MAC_BYTES)
            ret->source_mac = p + 2;
        else if (p[0] == ND_OPT_TARGET_MAC && len == ND_OPT_MAC_BYTES)
            ret->target_mac = p + 2;
        else if (p[0] == ND_OPT_MTU && len == ND_OPT_MTU_BYTES)
            ret->mtu = get_be32(p + 4);
        else if (p[0] == ND_OPT_NONCE && len == 2 + NONCE_BYTES)
            ret->nonce = p + 2;
        p += len;
        bytes -= len;
    }
    return true;
}

static bool mac_ok(const uint8_t *mac)
{
    return mac && !eth_is_group(mac) && !eth_is_zero(mac);
}

static void put_mac_option(struct pktbuf *p, uint8_t type, const uint8_t *mac)
{
    uint8_t *o = p->data + p->len;

    o[0] = type;
    o[1] = ND_OPT_MAC_BYTES / 8;
    memcpy(o + 2, mac, ETH_ADDR_BYTES);
    p->len += ND_OPT_MAC_BYTES;
}

/* ---- Out -------------------------------------------------------------------------------------------- */

static struct ip_addr group_on(const uint8_t *group, uint8_t ifindex)
{
    struct ip_addr a = {.family = SG_AF_INET6, .scope = ifindex + 1u};

    memcpy(a.ip, group, 16);
    return a;
}

/* A solicitation or advertisement for `target`; NULL: no frame. */
static struct pktbuf *begin(struct engine *e, uint8_t type, uint8_t flags, const uint8_t *target)
{
    struct pktbuf *p = pktq_get(&e->txq);

    if (!p) {
        stat_inc(&e->stats, ST_DROP_TX_FULL);
        return NULL;
    }
    icmp6_put(p->data, type, 0, (uint32_t)flags << 24);
    memcpy(p->data + 8, target, 16);
    p->len = ND_NEIGHBOR_BYTES;
    return p;
}

static void solicit(struct engine *e, uint8_t ifindex, const struct ip_addr *src, const struct ip_addr *dst,
                    const uint8_t *target, uint64_t now_us)
{
    struct pktbuf *p = begin(e, ICMP6_NEIGHBOR_SOLICIT, 0, target);

    if (!p)
        return;
    put_mac_option(p, ND_OPT_SOURCE_MAC, e->net.t.ifs[ifindex].c.mac);
    stat_inc(&e->stats, ST_ICMP6_OUT_NEIGHBOR_SOLICITS);
    (void)icmp6_send(e, p, src, dst, IP6_HOPS_LINK, now_us); /* Lost: asked again. */
}

/* RFC 4861 7.2.2: to the group of the target while nothing is known, else to the neighbour itself. */
void nd_ask(struct engine *e, const struct neigh *n, uint64_t now_us)
{
    const struct net_dst *d = netif_lookup(&e->net.t, &n->addr);
    uint8_t group[16];
    struct ip_addr src, dst;

    if (!d->has_src)
        return; /* The address went away meanwhile. */
    src = d->src;
    ip6_solicited_node(n->addr.ip, group);
    dst = n->state == NEIGH_PROBE ? n->addr : group_on(group, n->ifindex);
    solicit(e, n->ifindex, &src, &dst, n->addr.ip, now_us);
}

/* RFC 7527 4.1: tells our own probe, come back over a loop, from somebody else's. */
static void make_nonce(const struct engine *e, const struct net_addr *a, uint8_t *ret)
{
    const struct sip_key key = net_key(&e->cfg, KEY_NONCE);
    uint64_t w[3] = {0, 0, a->ifindex}, h;

    memcpy(w, a->addr.ip, 16);
    h = sip_words(&key, w, ARRAY_LEN(w), 2, 4);
    memcpy(ret, &h, NONCE_BYTES);
}

void nd_probe(struct engine *e, const struct net_addr *a, uint64_t now_us)
{
    const struct ip_addr src = {.family = SG_AF_INET6};
    struct pktbuf *p = begin(e, ICMP6_NEIGHBOR_SOLICIT, 0, a->addr.ip);
    uint8_t group[16], *o;
    struct ip_addr dst;

    if (!p)
        return;
    o = p->data + p->len;
    o[0] = ND_OPT_NONCE;
    o[1] = (2 + NONCE_BYTES) / 8;
    make_nonce(e, a, o + 2);
    p->len += 2 + NONCE_BYTES;
    ip6_solicited_node(a->addr.ip, group);
    dst = group_on(group, a->ifindex);
    stat_inc(&e->stats, ST_ICMP6_OUT_NEIGHBOR_SOLICITS);
    (void)icmp6_send(e, p, &src, &dst, IP6_HOPS_LINK, now_us); /* Lost: as if nobody had answered. */
}

/* RFC 4861 7.2.4: to who asked, or to all when it has no address to be answered at. */
static void advertise(struct engine *e, const struct net_addr *a, const struct rx_pkt *rp, uint64_t now_us)
{
    bool to_all = !rp || ip6_is_unspecified(rp->src.ip);
    uint8_t flags = to_all ? ND_NA_OVERRIDE : ND_NA_SOLICITED | ND_NA_OVERRIDE;
    struct ip_addr dst = to_all ? group_on(all_nodes, a->ifindex) : rp->src;
    struct pktbuf *p = begin(e, ICMP6_NEIGHBOR_ADVERT, flags, a->addr.ip);

    if (!p)
        return;
    put_mac_option(p, ND_OPT_TARGET_MAC, e->net.t.ifs[a->ifindex].c.mac);
    stat_inc(&e->stats, ST_ICMP6_OUT_NEIGHBOR_ADVERTS);
    (void)icmp6_send(e, p, &a->addr, &dst, IP6_HOPS_LINK, now_us); /* Lost: asked again. */
}

/* ---- In --------------------------------------------------------------------------------------------- */

static void bad(struct engine *e)
{
    stat_inc(&e->stats, ST_DROP_ND_BAD);
}

void nd_learn_source(struct engine *e, const struct rx_pkt *rp, const uint8_t *mac, bool create,
                     uint64_t now_us)
{
    struct neigh *n;

    if (!mac_ok(mac) || eth_eq(mac, e->net.t.ifs[rp->ifindex].c.mac) ||
        !net_is_on_link(e, &rp->src, rp->ifindex))
        return;
    n = neigh_find(&e->neigh, &rp->src, rp->ifindex);
    if (!n && create)
        n = neigh_create(e, &rp->src, rp->ifindex, now_us);
    if (n)
        neigh_learn(e, n, mac, false, now_us);
}

static struct net_addr *target_addr(struct engine *e, const struct rx_pkt *rp)
{
    const struct ip_addr target = net_ip_addr6(rp->l4 + 8, rp->ifindex);
    struct net_addr *a = netif_addr_find(&e->net.t, &target);

    return a && a->ifindex == rp->ifindex && a->state != ADDR_DUPLICATE ? a : NULL;
}

/* RFC 4862 5.4.3: somebody asks about an address that we are asking about. */
static void tentative_solicited(struct engine *e, struct net_addr *a, const struct rx_pkt *rp,
                                const struct nd_opts *opts, uint64_t now_us)
{
    uint8_t nonce[NONCE_BYTES];

    make_nonce(e, a, nonce);
    if (!ip6_is_unspecified(rp->src.ip) || (opts->nonce && !memcmp(opts->nonce, nonce, NONCE_BYTES)) ||
        eth_eq(rp->src_mac, e->net.t.ifs[rp->ifindex].c.mac))
        return;
    addr_duplicate(e, a, rp->src_mac, now_us);
}

static void solicit_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    bool probe = ip6_is_unspecified(rp->src.ip);
    struct nd_opts opts;
    struct net_addr *a;

    stat_inc(&e->stats, ST_ICMP6_IN_NEIGHBOR_SOLICITS);
    /* RFC 4861 7.1.1 */
    if (rp->l4_len < ND_NEIGHBOR_BYTES || ip6_is_multicast(rp->l4 + 8) ||
        !nd_opts_parse(rp->l4 + ND_NEIGHBOR_BYTES, rp->l4_len - ND_NEIGHBOR_BYTES, &opts) ||
        (probe && (opts.source_mac || !rp->broadcast))) {
        bad(e);
        return;
    }
    a = target_addr(e, rp);
    if (!a)
        return;
    if (a->state == ADDR_TENTATIVE) {
        tentative_solicited(e, a, rp, &opts, now_us);
        return;
    }
    if (!probe)
        nd_learn_source(e, rp, opts.source_mac, true, now_us);
    advertise(e, a, rp, now_us);
}

/* RFC 4861 7.2.5 */
static void neighbor_advertised(struct engine *e, struct neigh *n, const uint8_t *mac, uint8_t flags,
                                uint64_t now_us)
{
    bool asked = n->state == NEIGH_INCOMPLETE || n->state == NEIGH_PROBE;
    bool proof = asked && flags & ND_NA_SOLICITED;

    if (n->state == NEIGH_FAILED || (n->state == NEIGH_INCOMPLETE && !mac))
        return;
    if (n->state != NEIGH_INCOMPLETE && mac && !eth_eq(mac, n->mac) && !(flags & ND_NA_OVERRIDE)) {
        neigh_doubt(n);
        return;
    }
    neigh_learn(e, n, mac ? mac : n->mac, proof, now_us);
}

static void advert_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    uint8_t flags = rp->l4_len >= ND_NEIGHBOR_BYTES ? rp->l4[4] : 0;
    struct ip_addr target;
    struct nd_opts opts;
    struct net_addr *a;
    struct neigh *n;

    stat_inc(&e->stats, ST_ICMP6_IN_NEIGHBOR_ADVERTS);
    /* RFC 4861 7.1.2 */
    if (rp->l4_len < ND_NEIGHBOR_BYTES || ip6_is_multicast(rp->l4 + 8) ||
        (rp->broadcast && flags & ND_NA_SOLICITED) ||
        !nd_opts_parse(rp->l4 + ND_NEIGHBOR_BYTES, rp->l4_len - ND_NEIGHBOR_BYTES, &opts) ||
        (opts.target_mac && !mac_ok(opts.target_mac))) {
        bad(e);
        return;
    }
    a = target_addr(e, rp);
    if (a && !engine_leads(e))
        return;
    if (a && eth_eq(rp->src_mac, e->net.t.ifs[rp->ifindex].c.mac))
        return; /* Our own came back. */
    if (a && a->state == ADDR_TENTATIVE) {
        addr_duplicate(e, a, rp->src_mac, now_us);
        return;
    }
    if (a) { /* RFC 4862 5.4.4: the other is wrong, or we are; say so to both. */
        if (addr_conflict(e, a, rp->src_mac, now_us))
            advertise(e, a, NULL, now_us);
        return;
    }
    target = net_ip_addr6(rp->l4 + 8, rp->ifindex);
    n = neigh_find(&e->neigh, &target, rp->ifindex);
    if (n)
        neighbor_advertised(e, n, opts.target_mac, flags, now_us);
}

void nd_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    /* RFC 4861 6.1, 7.1: a hop limit of 255 proves that it comes from this link; RFC 6980: never in fragments
     * (which carry no station's address here). */
    if (rp->ttl != IP6_HOPS_LINK || rp->l4[1] != 0 || !rp->src_mac) {
        bad(e);
        return;
    }
    if (rp->l4[0] != ICMP6_NEIGHBOR_ADVERT && !engine_leads(e))
        return;
    switch (rp->l4[0]) {
    case ICMP6_NEIGHBOR_SOLICIT:
        solicit_input(e, rp, now_us);
        break;
    case ICMP6_NEIGHBOR_ADVERT:
        advert_input(e, rp, now_us);
        break;
    case ICMP6_ROUTER_ADVERT:
        ra_input(e, rp, now_us);
        break;
    default: /* Solicitations of routers are for routers; redirects see above. */
        break;
    }
}

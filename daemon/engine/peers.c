/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engines of other workers: what is said to them and heard from them. See peers.h.
 */
#include "daemon/engine/engine_int.h"

/* ---- Ports ---------------------------------------------------------------------------------------- */

static uint8_t proto_of(const struct sock *s)
{
    return s->kind == SK_UDP ? IP_PROTO_UDP : IP_PROTO_TCP;
}

static struct engine_port_use use_of(struct engine *e, const struct sock *s)
{
    struct engine_port_use u = {
        .local = s->local,
        .id = sock_id_of(e, s),
        .slot = s->slot,
        .share = e->share_slot,
        .port = s->lport,
        .proto = proto_of(s),
        .v6only = s->opts & SO_F_V6ONLY,
        .reuseaddr = s->opts & SO_F_REUSEADDR,
        .reuseport = s->opts & SO_F_REUSEPORT,
        .listens = s->kind == SK_LISTEN,
    };
    const struct session *ss = sock_session(e, s->heap_sid);

    u.uid = ss->v.uid;
    u.session = ss->v.id;
    if (s->kind == SK_UDP && udp_connected((const struct udp_sock *)s)) {
        u.remote = s->remote;
        u.rport = s->rport;
    }
    return u;
}

int peers_bind(struct engine *e, const struct sock *s)
{
    struct engine_port_use u = use_of(e, s);

    return e->cfg.peers->ops->port_bind(e->cfg.peers->ctx, &u);
}

void peers_unbind(struct engine *e, const struct sock *s)
{
    const struct engine_port_use u = {.id = sock_id_of(e, s), .port = s->lport, .proto = proto_of(s)};

    e->cfg.peers->ops->port_unbind(e->cfg.peers->ctx, &u);
}

int peers_change(struct engine *e, sock_id old, const struct sock *s)
{
    struct engine_port_use u;

    if (!e->cfg.peers || !(s->bind_flags & BIND_PORT))
        return 0;
    u = use_of(e, s);
    return e->cfg.peers->ops->port_change(e->cfg.peers->ctx, old, &u);
}

int peers_listen(struct engine *e, const struct sock *s)
{
    struct engine_port_use u = use_of(e, s);

    u.listens = true;
    return e->cfg.peers->ops->port_change(e->cfg.peers->ctx, u.id, &u);
}

void peers_port_state(struct engine *e, uint8_t kind, uint16_t port, unsigned state)
{
    e->cfg.peers->ops->port_state(e->cfg.peers->ctx, kind == SK_UDP ? IP_PROTO_UDP : IP_PROTO_TCP, port,
                                  state);
}

static struct engine_flow flow_of(const struct flow_key *k)
{
    return (struct engine_flow){
        .local = k->local, .remote = k->remote, .lport = k->lport, .rport = k->rport, .proto = IP_PROTO_TCP};
}

bool peers_may_connect(struct engine *e, const struct flow_key *k)
{
    struct engine_flow f = flow_of(k);

    return !e->cfg.peers || e->cfg.peers->ops->port_connect(e->cfg.peers->ctx, &f);
}

bool peers_pin(struct engine *e, struct sock *s, const struct flow_key *k)
{
    struct engine_flow f = flow_of(k);

    if (!e->cfg.peers)
        return true;
    if (!e->cfg.peers->ops->pin(e->cfg.peers->ctx, &f))
        return false;
    s->bind_flags |= BIND_PINNED;
    return true;
}

void peers_unpin(struct engine *e, struct sock *s)
{
    struct engine_flow f = {
        .local = s->local, .remote = s->remote, .lport = s->lport, .rport = s->rport, .proto = IP_PROTO_TCP};

    if (!(s->bind_flags & BIND_PINNED))
        return;
    s->bind_flags &= (uint16_t)~BIND_PINNED;
    e->cfg.peers->ops->unpin(e->cfg.peers->ctx, &f);
}

/* ---- Accept queues -------------------------------------------------------------------------------- */

bool peers_accept_full(const struct engine *e, const struct tcp_listener *l)
{
    uint32_t n =
        l->group ? __atomic_load_n(&e->cfg.peers->waiting[l->group], __ATOMIC_RELAXED) : l->queue_len;

    return n >= l->backlog;
}

void peers_accept_count(struct engine *e, const struct tcp_listener *l, int change)
{
    if (l->group)
        (void)__atomic_fetch_add(&e->cfg.peers->waiting[l->group], (uint32_t)change, __ATOMIC_RELAXED);
}

/* ---- Packets -------------------------------------------------------------------------------------- */

void peers_raw(struct engine *e, const struct udp_sock *u, int change)
{
    if (e->cfg.peers)
        e->cfg.peers->ops->raw(e->cfg.peers->ctx, u->s.family, u->proto, change);
}

/* True: the packet is not, or not any more, for the transports here. */
bool peers_take(struct engine *e, const struct rx_pkt *rp)
{
    struct engine_packet p = {
        .hdr = rp->l3,
        .payload = rp->l4,
        .hdr_bytes = rp->l3_hdr_len,
        .payload_bytes = rp->l4_len,
        .src = rp->src,
        .dst = rp->dst,
        .proto = rp->proto,
        .ifindex = rp->ifindex,
        .group = rp->broadcast,
        .looped = e->arrived == ARRIVED_LOOPED,
        .csum_ok = rp->csum_ok,
        .gso_size = rp->gso_size,
    };

    uint8_t whole[60];

    switch ((enum packet_from)e->arrived) {
    case ARRIVED_SORTED:
        return false;
    case ARRIVED_COPY:
        if (e->udp.raw_head != NIL)
            (void)raw_input(e, rp);
        return true;
    case ARRIVED_REJOINED:
        if (rp->src.family == SG_AF_INET) {
            p.hdr_bytes = raw_whole_header(rp, whole);
            p.hdr = whole;
        }
        break;
    case ARRIVED_LOOPED:
        break;
    }
    return e->cfg.peers->ops->pass(e->cfg.peers->ctx, &p);
}

void engine_rx_copy(struct engine *e, const struct pktbuf *p, uint64_t now_us)
{
    e->now_us = now_us;
    e->arrived = ARRIVED_COPY;
    net_input(e, p, now_us);
    e->arrived = ARRIVED_SORTED;
}

void engine_rx_packet(struct engine *e, const struct engine_packet *p, uint64_t now_us)
{
    const struct arrival a = {
        .ifindex = p->ifindex, .csum_ok = p->csum_ok, .looped = p->looped, .gso_size = p->gso_size};

    ENG_ASSERT(p->payload == p->hdr + p->hdr_bytes && p->ifindex < e->net.t.if_count);
    e->now_us = now_us;
    e->arrived = p->copy ? ARRIVED_COPY : ARRIVED_SORTED;
    if (p->hdr[0] >> 4 == 4)
        ip4_input(e, p->hdr, p->hdr_bytes + p->payload_bytes, &a, now_us);
    else
        ip6_input(e, p->hdr, p->hdr_bytes + p->payload_bytes, &a, now_us);
    e->arrived = ARRIVED_SORTED;
}

/* ---- Addresses and routes ------------------------------------------------------------------------- */

/** What the leader knows of an interface beside its link, which each engine is told of itself. */
struct if_known {
    uint16_t ra_mtu;
    uint8_t hops;
    uint32_t reach_base_ms, retrans_us;
    uint64_t reach_us;
};

struct net_known {
    struct net_addr addrs[NET_ADDR_MAX];
    struct net_route routes[NET_ROUTE_MAX];
    struct if_known ifs[ENGINE_IF_MAX];
    uint32_t addr_count, route_count;
};

uint32_t engine_net_version(const struct engine *e)
{
    return e->net.t.gen;
}

size_t engine_net_bytes(void)
{
    return sizeof(struct net_known);
}

void engine_net_export(const struct engine *e, void *ret)
{
    const struct net_tables *t = &e->net.t;
    struct net_known *k = ret;

    memset(k, 0, sizeof(*k));
    k->addr_count = t->addr_count;
    k->route_count = t->route_count;
    memcpy(k->addrs, t->addrs, sizeof(k->addrs));
    memcpy(k->routes, t->routes, sizeof(k->routes));
    for (uint32_t i = 0; i < t->if_count; i++)
        k->ifs[i] = (struct if_known){
            .ra_mtu = t->ifs[i].ra_mtu,
            .hops = t->ifs[i].hops,
            .reach_base_ms = t->ifs[i].reach_base_ms,
            .reach_us = t->ifs[i].reach_us,
            .retrans_us = t->ifs[i].retrans_us,
        };
}

void engine_net_import(struct engine *e, const void *from)
{
    const struct net_known *k = from;
    struct net_tables *t = &e->net.t;

    t->addr_count = k->addr_count;
    t->route_count = k->route_count;
    memcpy(t->addrs, k->addrs, sizeof(t->addrs));
    memcpy(t->routes, k->routes, sizeof(t->routes));
    for (uint32_t i = 0; i < t->if_count; i++) {
        t->ifs[i].ra_mtu = k->ifs[i].ra_mtu;
        t->ifs[i].hops = k->ifs[i].hops;
        t->ifs[i].reach_base_ms = k->ifs[i].reach_base_ms;
        t->ifs[i].reach_us = k->ifs[i].reach_us;
        t->ifs[i].retrans_us = k->ifs[i].retrans_us;
        netif_mtu6(&t->ifs[i]);
    }
    t->gen++;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * struct engine: the whole state of one instance. Every module has its own struct in it and touches
 * another's only through its functions.
 */
#ifndef ENGINE_CORE_H
#define ENGINE_CORE_H

#include "daemon/engine/engine_int.h"
#include "daemon/engine/dhcp.h"
#include "daemon/engine/flow.h"
#include "daemon/engine/frag.h"
#include "daemon/engine/icmp.h"
#include "daemon/engine/mcast.h"
#include "daemon/engine/neigh.h"
#include "daemon/engine/net.h"
#include "daemon/engine/nd.h"
#include "daemon/engine/pmtu.h"
#include "daemon/engine/port.h"
#include "daemon/engine/tcp.h"
#include "daemon/engine/udp.h"
#include "daemon/engine/wheel.h"

/** Applications to tell: (sid << 32 | slot), at most one entry a slot (struct session.queued). */
struct event_fifo {
    uint64_t *v;
    uint32_t mask;
    uint32_t head, tail; /* free-running */
};

struct engine {
    struct engine_config cfg;
    struct stats stats;
    struct pktq txq;
    uint64_t now_us;     /* time of the call in progress */
    uint8_t arrived;     /* enum packet_from: the packet of the call in progress */
    uint32_t share_slot; /* engine_bind_beside() in progress: beside this one */

    struct net_state net;
    struct neigh_table neigh;
    struct frag_table frag;
    struct icmp_state icmp;
    struct pmtu_table pmtu;
    struct udp_table udp;
    struct mcast_state mcast;
    struct dhcp_client dhcp;

    struct session *sessions; /* session_max */
    sock_id dirty;            /* sockets whose slots must be written, through sock.dirty_next */
    struct event_fifo events;
    bool fault_any;
    uint32_t pressed;      /* sessions that want regions back */
    uint64_t region_bytes; /* of all sessions together */
    uint64_t sweep_us;     /* when the next sweep for idle regions is due */
    uint32_t closing;      /* sessions that ended and whose sockets are not all closed yet */
    struct port_table ports;
    struct flow_table flows;
    struct wheel wheel;
    struct tcp_table tcp;

    char notice[160]; /* engine_notice(): one pending line */
};

/** How long the neighbour counts as reachable; IPv6's times are the link's (RFC 4861 6.3.2). */
static inline uint64_t neigh_reachable_us(const struct engine *e, const struct neigh *n)
{
    return n->addr.family == SG_AF_INET6 ? e->net.t.ifs[n->ifindex].reach_us : NEIGH_REACHABLE_US;
}

/** It speaks for the host: it is alone, or leads. */
static inline bool engine_leads(const struct engine *e)
{
    return !e->cfg.peers || e->cfg.peers->leads;
}

/* ---- Sockets ---------------------------------------------------------------------------------------- */

static inline struct session *sock_session(struct engine *e, int sid)
{
    ENG_ASSERT(sid >= 0 && (uint32_t)sid < e->cfg.session_max && e->sessions[sid].used);
    return &e->sessions[sid];
}

/** The same of a socket that has a slot. */
static inline struct session *slot_session(struct engine *e, const struct sock *s)
{
    return &e->sessions[s->sid];
}

/** TCP, LISTEN or UDP record. */
static inline struct sock *sock_get(struct engine *e, sock_id id)
{
    uint32_t i = SOCK_INDEX(id);

    if (__builtin_expect(SOCK_KIND(id) == SK_TCP, 1))
        return &e->tcp.conns[i].s;
    switch (SOCK_KIND(id)) {
    case SK_LISTEN:
        return &e->tcp.listeners[i].s;
    case SK_UDP:
        return &e->udp.socks[i].s;
    case SK_TCP:
    case SK_NONE:
    case SK_REQ:
    case SK_TW:
        break;
    }
    ENG_ASSERT(false);
    return NULL;
}

static inline sock_id sock_id_of(const struct engine *e, const struct sock *s)
{
    switch ((enum sock_kind)s->kind) {
    case SK_TCP:
        return SOCK_ID(SK_TCP, tcp_conn_of_const(s) - e->tcp.conns);
    case SK_LISTEN:
        return SOCK_ID(SK_LISTEN, (const struct tcp_listener *)s - e->tcp.listeners);
    case SK_UDP:
        return SOCK_ID(SK_UDP, (const struct udp_sock *)s - e->udp.socks);
    case SK_NONE:
    case SK_REQ:
    case SK_TW:
        break;
    }
    ENG_ASSERT(false);
    return 0;
}

static inline uint32_t tcp_conn_index(const struct engine *e, const struct tcp_conn *c)
{
    return (uint32_t)(c - e->tcp.conns);
}

/** Have the slot of `s` written at engine_publish(), with exactly the DIRTY_* bits given. */
static inline void sock_dirty_bits(struct engine *e, struct sock *s, unsigned bits)
{
    if (!s->slot)
        return;
    if (!(s->dirty & DIRTY_LIST)) {
        s->dirty_next = e->dirty;
        e->dirty = sock_id_of(e, s);
    }
    s->dirty |= (uint8_t)(bits | DIRTY_LIST);
}

/** MSG_MORE was given with what was written last. Needs a slot. */
static inline bool sock_says_more(struct engine *e, const struct sock *s)
{
    return sg_load_relaxed_u32(&slot_session(e, s)->v.slots[s->slot].a.want) & SG_WANT_MORE;
}

/* ---- Ways out and TTLs -------------------------------------------------------------------------------- */

/** net_dev_of(), which costs nothing where there is one device. */
static inline uint8_t net_dev(const struct engine *e, const struct ip_addr *dst)
{
    return e->txq.devices == 1 ? 0 : net_dev_of(e, dst);
}

/** The generation of all that a struct tcp_way was worked out from: each part only ever moves on. */
static inline uint32_t way_gen(const struct engine *e)
{
    return e->net.t.gen + e->neigh.gen;
}

static inline uint8_t sock_tos(const struct sock *s)
{
    return (uint8_t)(s->opts >> SO_TOS_SHIFT);
}

/** TTL or hop limit of a packet to `dst` for which nobody chose one. */
static inline uint8_t net_ttl(const struct engine *e, const struct ip_addr *dst)
{
    return dst->family == SG_AF_INET6 ? net_hops(e, dst) : e->cfg.ttl;
}

/** That of a socket's packet to `dst`; sock_ttl(): to its peer. */
static inline uint8_t sock_ttl_to(const struct engine *e, const struct sock *s, const struct ip_addr *dst)
{
    uint8_t ttl = (uint8_t)(s->opts >> SO_TTL_SHIFT);

    return ttl ? ttl : net_ttl(e, dst);
}

static inline uint8_t sock_ttl(const struct engine *e, const struct sock *s)
{
    return sock_ttl_to(e, s, &s->remote);
}

#include "daemon/engine/tcp_flight.h"
#include "daemon/engine/tcp_tally.h"

#endif

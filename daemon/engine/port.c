/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

#define PORTS 65536u

size_t port_bytes(void)
{
    return 2 * PORTS * sizeof(struct port_entry);
}

void port_init(struct port_table *t, void *mem, const struct sip_key *key)
{
    t->tcp = mem;
    t->udp = t->tcp + PORTS;
    t->key = *key;
    memset(t->next, 0, sizeof(t->next));
}

static struct port_entry *entry_of(struct engine *e, const struct sock *s, uint16_t port)
{
    return s->kind == SK_UDP ? &e->ports.udp[port] : &e->ports.tcp[port];
}

static unsigned use_bits(const struct port_entry *p)
{
    return (p->binds || p->conns || p->tw ? ENGINE_PORT_USED : 0) | (p->conns ? ENGINE_PORT_CONNS : 0) |
           (p->conns_noreuse ? ENGINE_PORT_NOREUSE : 0) | (p->tw ? ENGINE_PORT_TW : 0);
}

/* The other workers' engines hear of what changed since use_bits() were `before`. */
static void tell(struct engine *e, uint8_t kind, uint16_t port, const struct port_entry *p, unsigned before)
{
    if (e->cfg.peers && use_bits(p) != before)
        peers_port_state(e, kind, port, use_bits(p));
}

static bool takes_both(const struct ip_addr *a, bool v6only)
{
    return a->family == SG_AF_INET6 && ip_addr_any(a) && !v6only;
}

/* Is there a packet that both would take? An IPv6 socket that is bound to no address takes IPv4's too, unless
 * it is IPV6_V6ONLY (RFC 3493 5.3). */
static bool overlap(const struct ip_addr *a, bool a_v6only, const struct ip_addr *b, bool b_v6only)
{
    if (a->family != b->family)
        return takes_both(a, a_v6only) || takes_both(b, b_v6only);
    return ip_addr_any(a) || ip_addr_any(b) || ip_addr_eq(a, b);
}

static bool v6only(const struct sock *s)
{
    return s->opts & SO_F_V6ONLY;
}

static bool same_owner(struct engine *e, const struct sock *a, const struct sock *b)
{
    return sock_session(e, a->heap_sid)->v.uid == sock_session(e, b->heap_sid)->v.uid;
}

/* SO_REUSEPORT shares between sockets of one user, who thereby takes nothing from another. */
static bool may_share(struct engine *e, const struct sock *a, const struct sock *b)
{
    if (a->opts & b->opts & SO_F_REUSEADDR)
        return b->kind != SK_LISTEN;
    return a->kind == SK_UDP && a->opts & b->opts & SO_F_REUSEPORT && same_owner(e, a, b);
}

/*
 * May `s` hold `port` at `addr` beside those who hold it already? As in Linux: two sockets share a port if
 * their addresses differ, or both set SO_REUSEADDR and neither listens, or both are of one user, take
 * datagrams and set SO_REUSEPORT. TIME_WAIT records give way to
 * SO_REUSEADDR alone, as every device stack does.
 */
static bool conflict(struct engine *e, const struct sock *s, const struct ip_addr *addr, uint16_t port)
{
    const struct port_entry *p = entry_of(e, s, port);
    bool reuse = s->opts & SO_F_REUSEADDR;

    if (p->tw && !reuse)
        return true;
    if (p->conns && (!reuse || p->conns_noreuse))
        return true;
    for (sock_id id = p->binds; id;) {
        const struct sock *b = sock_get(e, id);

        if (b != s && overlap(&b->local, v6only(b), addr, v6only(s)) && !may_share(e, s, b))
            return true;
        id = b->bind_next;
    }
    return false;
}

static bool port_unused(struct engine *e, const struct sock *s, uint16_t port)
{
    const struct port_entry *p = entry_of(e, s, port);

    return !p->binds && !p->conns && !p->tw;
}

/*
 * Ports that one call tries. When nearly all are taken a call may fail while one is free; the next goes on
 * where it stopped. What an application can make one turn do stays small.
 */
#define PORT_TRIES_MAX 1024u

/* Have the port, if nobody of another worker minds. */
static int hold(struct engine *e, struct sock *s, const struct ip_addr *addr, uint16_t port)
{
    struct ip_addr before = s->local;
    int rc;

    s->local = *addr;
    s->lport = port;
    rc = e->cfg.peers ? peers_bind(e, s) : 0;
    if (rc) {
        s->local = before;
        s->lport = 0;
    }
    return rc;
}

/* A port nobody holds, from a random start (RFC 6056 3.3.1). */
static int hold_unused(struct engine *e, struct sock *s, const struct ip_addr *addr)
{
    uint32_t range = (uint32_t)e->cfg.port_max - e->cfg.port_min + 1;
    uint64_t w[2] = {e->now_us, e->ports.next[0]++};
    uint32_t start = (uint32_t)(sip_words(&e->ports.key, w, 2, 2, 4) % range);

    for (uint32_t i = 0; i < range && i < PORT_TRIES_MAX; i++) {
        uint16_t port = (uint16_t)(e->cfg.port_min + (start + i) % range);

        if (port_unused(e, s, port) && !hold(e, s, addr, port))
            return 0;
    }
    return -EADDRINUSE;
}

static void link_bind(struct engine *e, struct sock *s)
{
    struct port_entry *p = entry_of(e, s, s->lport);
    unsigned before = use_bits(p);

    s->bind_next = p->binds;
    p->binds = sock_id_of(e, s);
    s->bind_flags |= BIND_PORT;
    tell(e, s->kind, s->lport, p, before);
}

static void unlink_bind(struct engine *e, struct sock *s)
{
    struct port_entry *p = entry_of(e, s, s->lport);
    unsigned before = use_bits(p);
    sock_id id = sock_id_of(e, s);
    sock_id *at = &p->binds;

    while (*at != id) {
        ENG_ASSERT(*at);
        at = &sock_get(e, *at)->bind_next;
    }
    *at = s->bind_next;
    s->bind_next = 0;
    s->bind_flags &= (uint16_t)~BIND_PORT;
    tell(e, s->kind, s->lport, p, before);
}

int sock_port_claim(struct engine *e, struct sock *s, const struct ip_ep *local)
{
    int rc;

    if (s->bind_flags & BIND_PORT || s->lport)
        return -EINVAL;
    if (!ip_addr_any(&local->addr) && !net_is_own(e, &local->addr) && s->type != SG_SOCK_DGRAM)
        return -EADDRNOTAVAIL;
    if (local->port && conflict(e, s, &local->addr, local->port))
        return -EADDRINUSE;
    rc = local->port ? hold(e, s, &local->addr, local->port) : hold_unused(e, s, &local->addr);
    if (rc)
        return rc;
    link_bind(e, s);
    return 0;
}

static void count_conn(struct engine *e, struct sock *s)
{
    struct port_entry *p = entry_of(e, s, s->lport);
    unsigned before = use_bits(p);

    p->conns++;
    p->conns_noreuse += !(s->opts & SO_F_REUSEADDR);
    s->bind_flags |= BIND_COUNT;
    tell(e, s->kind, s->lport, p, before);
}

static void uncount_conn(struct engine *e, struct sock *s)
{
    struct port_entry *p = entry_of(e, s, s->lport);
    unsigned before = use_bits(p);

    ENG_ASSERT(p->conns);
    p->conns--;
    p->conns_noreuse -= !(s->opts & SO_F_REUSEADDR);
    s->bind_flags &= (uint16_t)~BIND_COUNT;
    tell(e, s->kind, s->lport, p, before);
}

void port_count(struct engine *e, struct sock *s)
{
    if (!(s->bind_flags & (BIND_PORT | BIND_COUNT)))
        count_conn(e, s);
}

void port_count_tw(struct engine *e, uint16_t port, int change)
{
    struct port_entry *p = &e->ports.tcp[port];
    unsigned before = use_bits(p);

    ENG_ASSERT(change > 0 || p->tw);
    p->tw += (uint32_t)change;
    tell(e, SK_TCP, port, p, before);
}

void sock_port_release(struct engine *e, struct sock *s)
{
    peers_unpin(e, s);
    if (s->bind_flags & BIND_PORT) {
        unlink_bind(e, s);
        if (e->cfg.peers)
            peers_unbind(e, s);
    }
    if (s->bind_flags & BIND_COUNT)
        uncount_conn(e, s);
}

void port_set_reuse(struct engine *e, struct sock *s, bool on)
{
    bool counted = s->bind_flags & BIND_COUNT;

    if (counted)
        uncount_conn(e, s);
    s->opts = on ? s->opts | SO_F_REUSEADDR : s->opts & ~SO_F_REUSEADDR;
    if (counted)
        count_conn(e, s);
    (void)peers_change(e, sock_id_of(e, s), s); /* Only what it allows others changes. */
}

bool port_listen_conflict(struct engine *e, const struct sock *s)
{
    for (sock_id id = e->ports.tcp[s->lport].binds; id;) {
        const struct sock *b = sock_get(e, id);

        if (b != s && b->kind == SK_LISTEN && overlap(&b->local, v6only(b), &s->local, v6only(s)))
            return true;
        id = b->bind_next;
    }
    return e->cfg.peers && peers_listen(e, s) < 0;
}

uint32_t port_rebind(struct engine *e, struct sock *from, struct sock *to)
{
    uint16_t flags = from->bind_flags;
    int group = 0;

    /* The new one first: at no time does the port look free. */
    to->bind_flags = flags & BIND_USER;
    if (flags & BIND_PORT) {
        link_bind(e, to);
        unlink_bind(e, from);
        group = peers_change(e, sock_id_of(e, from), to);
    } else if (flags & BIND_COUNT) {
        count_conn(e, to);
        uncount_conn(e, from);
    }
    return group > 0 ? (uint32_t)group : 0;
}

/*
 * RFC 6056 3.3.4, "double-hash": a keyed offset for each destination plus a counter for its group, so that
 * ports are unpredictable from outside and yet the longest time passes before one is used again.
 */
uint16_t port_choose_connect(struct engine *e, const struct sock *s, const struct flow_key *dest)
{
    uint32_t range = (uint32_t)e->cfg.port_max - e->cfg.port_min + 1;
    struct flow_key k = *dest;
    uint64_t w[5];
    uint64_t h;
    uint32_t *counter;
    uint16_t spare = 0;

    memcpy(&w[0], k.local.ip, 16);
    memcpy(&w[2], k.remote.ip, 16);
    w[4] = k.rport;
    h = sip_words(&e->ports.key, w, 5, 2, 4);
    counter = &e->ports.next[h % ARRAY_LEN(e->ports.next)];
    for (uint32_t i = 0; i < range && i < PORT_TRIES_MAX; i++) {
        uint16_t port = (uint16_t)(e->cfg.port_min + ((h >> 32) + (*counter)++) % range);
        sock_id id;

        if (entry_of(e, s, port)->binds)
            continue;
        k.lport = port;
        if (!peers_may_connect(e, &k))
            continue;
        if (port_unused(e, s, port))
            return port;
        id = flow_find(e, &k, flow_hash(&e->flows, &k));
        if (!id || (e->cfg.tw_reuse == ENGINE_ALWAYS && tcp_tw_reusable(e, id)))
            return port;
        if (!spare && tcp_tw_reusable(e, id))
            spare = port;
    }
    return spare;
}

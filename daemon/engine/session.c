/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions come and go, and the socket calls: slot numbers in, records out.
 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

size_t engine_slot_map_bytes(uint32_t slot_count)
{
    return ((size_t)slot_count + (slot_count + 31) / 32) * sizeof(uint32_t);
}

int engine_session_add(struct engine *e, const struct engine_session *v, uint64_t now_us)
{
    e->now_us = now_us;
    for (uint32_t i = 0; i < e->cfg.session_max; i++) {
        struct session *ss = &e->sessions[i];

        if (ss->used)
            continue;
        memset(ss, 0, sizeof(*ss));
        ss->v = *v;
        ss->queued = v->slot_sock + v->slot_count;
        ss->used = true;
        segheap_init(v->heap_meta, v->heap_bytes);
        return (int)i;
    }
    return -ENOSPC;
}

/* A socket leaves its slot: the number is free for the application again. */
static void slot_detach(struct engine *e, struct sock *s)
{
    struct session *ss = sock_session(e, s->sid);
    struct sg_slot_daemon *d = &ss->v.slots[s->slot].d;

    sock_undirty(e, s);
    sock_event_cancel(e, s);
    __atomic_store_n(&d->state, SG_ST_FREE, __ATOMIC_RELEASE);
    ss->v.slot_sock[s->slot] = 0;
    ss->sock_count--;
    s->slot = 0;
    s->sid = -1;
}

static void slot_attach(struct engine *e, struct sock *s, int sid, uint32_t slot)
{
    struct session *ss = sock_session(e, sid);
    struct sg_slot *sl = &ss->v.slots[slot];

    memset(&sl->n, 0, sizeof(sl->n));
    memset(&sl->a, 0, sizeof(sl->a));
    memset(&sl->d, 0, sizeof(sl->d));
    s->sid = (int16_t)sid;
    s->slot = slot;
    s->ev_posted = s->kick_seen = 0;
    ss->v.slot_sock[slot] = sock_id_of(e, s);
    ss->sock_count++;
    sock_dirty_bits(e, s, DIRTY_LINE | DIRTY_NAME);
}

static void sock_close(struct engine *e, struct sock *s)
{
    struct session *ss = sock_session(e, s->sid);

    switch ((enum sock_kind)s->kind) {
    case SK_TCP:
        (void)sock_pull(e, s); /* A faulty session's last bytes are not worth more than its first. */
        slot_detach(e, s);
        ss->orphan_count++;
        tcp_user_close(e, tcp_conn_of(s));
        break;
    case SK_LISTEN:
        slot_detach(e, s);
        tcp_listener_close(e, (struct tcp_listener *)s);
        break;
    case SK_UDP:
        if (sock_pull(e, s)) { /* What was sent before the close still goes out, as far as there is room. */
            udp_kick(e, (struct udp_sock *)s, e->now_us);
            udp_output(e, e->now_us);
        }
        slot_detach(e, s);
        sock_region_put(e, s, &s->rx);
        sock_region_put(e, s, &s->tx);
        sock_unlink(e, s);
        udp_close(e, (struct udp_sock *)s);
        break;
    case SK_NONE:
    case SK_REQ:
    case SK_TW:
        ENG_ASSERT(false);
    }
}

/* Sockets of an ended session that one turn closes: a process with 65,000 of them must not stop the others.
 */
#define CLOSE_PER_TURN       256u
/* Slots looked at for that. */
#define CLOSE_LOOKS_PER_TURN 8192u

static void session_close_some(struct engine *e, struct session *ss)
{
    uint32_t looks = 0, closed = 0;

    while (ss->sock_count && closed < CLOSE_PER_TURN && looks++ < CLOSE_LOOKS_PER_TURN) {
        uint32_t slot = ss->closing_slot++;

        ENG_ASSERT(slot < ss->v.slot_count);
        if (ss->v.slot_sock[slot]) {
            sock_close(e, sock_get(e, ss->v.slot_sock[slot]));
            closed++;
        }
    }
    if (!ss->sock_count && ss->closing_slot) {
        ss->closing_slot = 0;
        e->closing--;
    }
}

void engine_session_end(struct engine *e, int sid, uint64_t now_us)
{
    struct session *ss = sock_session(e, sid);

    e->now_us = now_us;
    ss->ended = true;
    if (ss->pressed) {
        ss->pressed = false;
        e->pressed--;
    }
    ss->closing_slot = 1;
    e->closing++;
    session_close_some(e, ss);
}

void session_close_run(struct engine *e)
{
    for (uint32_t i = 0; i < e->cfg.session_max && e->closing; i++)
        if (e->sessions[i].used && e->sessions[i].ended && e->sessions[i].closing_slot)
            session_close_some(e, &e->sessions[i]);
}

bool engine_session_idle(const struct engine *e, int sid)
{
    const struct session *ss = &e->sessions[sid];

    return ss->ended && !ss->closing_slot && !ss->socks;
}

static void fifo_forget(struct event_fifo *f, int sid)
{
    for (uint32_t i = f->head; i != f->tail; i++)
        if ((int)(f->v[i & f->mask] >> 32) == sid)
            f->v[i & f->mask] = (uint64_t)(uint32_t)sid << 32;
}

void engine_session_drop(struct engine *e, int sid)
{
    struct session *ss = sock_session(e, sid);

    ENG_ASSERT(engine_session_idle(e, sid));
    /* Slot 0 stands for "nobody": the number may be given to another session while this waits. */
    fifo_forget(&e->events, sid);
    memset(ss, 0, sizeof(*ss));
}

void engine_session_use(const struct engine *e, int sid, struct engine_session_use *ret)
{
    const struct session *ss = &e->sessions[sid];

    *ret = (struct engine_session_use){
        .sockets = ss->sock_count,
        .orphans = ss->orphan_count,
        .buffer_bytes = ss->buffer_bytes,
    };
}

bool engine_slot_used(const struct engine *e, int sid, uint32_t slot)
{
    const struct session *ss = &e->sessions[sid];

    return slot && slot < ss->v.slot_count && ss->v.slot_sock[slot];
}

/* The socket in a slot, or NULL. */
static struct sock *sock_of(struct engine *e, int sid, uint32_t slot)
{
    if (!engine_slot_used(e, sid, slot))
        return NULL;
    return sock_get(e, sock_session(e, sid)->v.slot_sock[slot]);
}

static int slot_check_free(struct engine *e, struct session *ss, int sid, uint32_t slot)
{
    if (!slot || slot >= ss->v.slot_count)
        return -EBADF;
    if (engine_slot_used(e, sid, slot))
        return -EBUSY;
    if (ss->sock_count >= ss->v.sockets_max) {
        stat_inc(&e->stats, ST_APP_QUOTA_SOCKETS);
        return -EMFILE;
    }
    return 0;
}

int engine_open(struct engine *e, int sid, uint32_t slot, uint32_t type, uint32_t proto, uint16_t family)
{
    struct session *ss = sock_session(e, sid);
    struct sock *s;
    sock_id id;
    int rc = slot_check_free(e, ss, sid, slot);

    if (rc)
        return rc;
    if (family != SG_AF_INET && family != SG_AF_INET6)
        return -EAFNOSUPPORT;
    if (type == SG_SOCK_STREAM && (proto == 0 || proto == 6))
        rc = tcp_open(e, sid, slot, &id);
    else if (type == SG_SOCK_DGRAM && (proto == 0 || proto == 17))
        rc = udp_open(e, sid, slot, &id);
    else if (type == SG_SOCK_RAW)
        rc = raw_open(e, sid, slot, proto, family, &id);
    else
        rc = -EPROTONOSUPPORT;
    if (rc)
        return rc;
    s = sock_get(e, id);
    s->family = family;
    s->local = s->remote = (struct ip_addr){.family = family};
    sock_link(e, s, sid);
    slot_attach(e, s, sid, slot);
    return 0;
}

/* An address as applications give it, for this socket: 0, or why it can't be one. */
static int address_of(const struct engine *e, const struct sock *s, const struct ip_ep *given,
                      struct ip_ep *ret)
{
    *ret = (struct ip_ep){.addr = net_from_api(e, &given->addr), .port = given->port};
    if (given->addr.family != s->family)
        return -EAFNOSUPPORT;
    if (s->opts & SO_F_V6ONLY && ret->addr.family == SG_AF_INET)
        return -ENETUNREACH;
    return 0;
}

int engine_bind(struct engine *e, int sid, uint32_t slot, const struct ip_ep *given)
{
    struct sock *s = sock_of(e, sid, slot);
    struct ip_ep local;
    int rc;

    if (!s)
        return -EBADF;
    rc = address_of(e, s, given, &local);
    if (rc)
        return rc == -ENETUNREACH ? -EINVAL : rc;
    if (s->kind == SK_UDP)
        rc = udp_bind(e, (struct udp_sock *)s, &local);
    else if (s->kind == SK_TCP && s->pub_state == SG_ST_OPEN)
        rc = sock_port_claim(e, s, &local);
    else
        rc = -EINVAL;
    if (rc)
        return rc;
    s->bind_flags |= BIND_USER;
    s->pub_flags |= SG_F_BOUND;
    sock_dirty_bits(e, s, DIRTY_LINE | DIRTY_NAME);
    return 0;
}

int engine_bind_beside(struct engine *e, int sid, uint32_t slot, const struct ip_ep *local, uint32_t with)
{
    const struct sock *s = sock_of(e, sid, slot);
    int rc = -EINVAL;

    if (s && s->kind == SK_TCP && with && e->cfg.peers) {
        e->share_slot = with;
        rc = engine_bind(e, sid, slot, local);
        e->share_slot = 0;
    }
    return rc;
}

static int to_listener(struct engine *e, struct sock *s, uint32_t backlog, uint32_t overflow)
{
    struct tcp_conn *c = tcp_conn_of(s);
    struct ip_ep any = {.addr = {.family = s->family}};
    struct tcp_listener *l;
    uint32_t slot = s->slot;
    int sid = s->sid;
    uint32_t i;
    int rc;

    if (s->pub_state != SG_ST_OPEN)
        return -EINVAL;
    if (!s->lport) { /* RFC 9293 leaves it open; the kernel listens on a port of its choice. */
        rc = sock_port_claim(e, s, &any);
        if (rc)
            return rc;
    }
    if (port_listen_conflict(e, s))
        return -EADDRINUSE;
    i = pool_get(&e->tcp.listener_pool);
    if (i == NIL) {
        (void)peers_change(e, sock_id_of(e, s), s); /* It doesn't listen after all. */
        return -ENOBUFS;
    }
    l = &e->tcp.listeners[i];
    memset(l, 0, sizeof(*l));
    l->s = *s;
    l->s.kind = SK_LISTEN;
    l->s.dirty = 0;
    l->s.bind_next = 0;
    l->s.sess_next = l->s.sess_prev = 0;
    l->inherit = c->o;
    l->fo_keys = tcp_rare_get(e, c)->fo_keys;
    l->backlog = backlog;
    l->overflow = (uint8_t)overflow;
    l->queue_head = l->queue_tail = NIL;
    l->s.pub_state = SG_ST_LISTENING;
    l->s.pub_flags = SG_F_BOUND;
    l->group = port_rebind(e, s, &l->s);
    sock_undirty(e, s);
    sock_session(e, sid)->v.slot_sock[slot] = SOCK_ID(SK_LISTEN, i);
    sock_region_put(e, s, &s->tx);
    l->s.tx.region = 0;
    sock_unlink(e, s);
    s->slot = 0;
    s->sid = -1;
    pool_put(&e->tcp.conn_pool, tcp_conn_index(e, c));
    s->kind = SK_NONE;
    sock_link(e, &l->s, sid);
    tcp_listener_hash(e, l);
    sock_dirty_bits(e, &l->s, DIRTY_LINE | DIRTY_NAME | DIRTY_EVENT);
    return 0;
}

int engine_listen(struct engine *e, int sid, uint32_t slot, uint32_t backlog, uint32_t overflow)
{
    struct sock *s = sock_of(e, sid, slot);

    if (!s)
        return -EBADF;
    if (backlog < 1)
        backlog = 1;
    if (backlog > LISTEN_BACKLOG_MAX)
        backlog = LISTEN_BACKLOG_MAX;
    if (overflow > SG_OVERFLOW_RESET)
        return -EINVAL;
    if (s->kind == SK_LISTEN) { /* Again: only the backlog changes. */
        struct tcp_listener *l = (struct tcp_listener *)s;

        l->backlog = backlog;
        l->overflow = (uint8_t)overflow;
        return 0;
    }
    if (s->kind != SK_TCP)
        return -EOPNOTSUPP;
    return to_listener(e, s, backlog, overflow);
}

int engine_connect(struct engine *e, int sid, uint32_t slot, const struct ip_ep *given, uint64_t now_us)
{
    struct sock *s = sock_of(e, sid, slot);
    struct ip_ep remote;
    int rc;

    e->now_us = now_us;
    if (!s)
        return -EBADF;
    rc = given->addr.family ? address_of(e, s, given, &remote) : 0;
    if (s->kind == SK_UDP) {
        if (!rc)
            rc = udp_connect(e, (struct udp_sock *)s, given->addr.family ? &remote : given);
        sock_dirty_bits(e, s, DIRTY_LINE | DIRTY_NAME);
        return rc;
    }
    if (s->kind == SK_LISTEN)
        return -EISCONN;
    if (rc || !given->addr.family)
        return rc ? rc : -EAFNOSUPPORT;
    return tcp_user_connect(e, tcp_conn_of(s), &remote);
}

int engine_accept(struct engine *e, int sid, uint32_t listener, uint32_t slot, uint64_t now_us)
{
    struct sock *s = sock_of(e, sid, listener);
    struct session *ss = sock_session(e, sid);
    struct tcp_listener *l = (struct tcp_listener *)s;
    struct tcp_conn *c;
    int rc;

    e->now_us = now_us;
    if (!s)
        return -EBADF;
    if (s->kind == SK_UDP)
        return -EOPNOTSUPP;
    if (s->kind != SK_LISTEN)
        return -EINVAL;
    if (l->queue_head == NIL)
        return -EAGAIN;
    rc = slot_check_free(e, ss, sid, slot);
    if (rc)
        return rc;
    c = tcp_accept_take(e, l);
    ss->orphan_count--;
    slot_attach(e, &c->s, sid, slot);
    tcp_tx_start(e, c);
    sock_dirty_bits(e, &l->s, DIRTY_LINE);
    sock_dirty(e, &c->s);
    return 0;
}

int engine_shutdown(struct engine *e, int sid, uint32_t slot, uint32_t how, uint64_t now_us)
{
    struct sock *s = sock_of(e, sid, slot);

    e->now_us = now_us;
    if (!s)
        return -EBADF;
    if (!how || how & ~(SG_SHUT_RD | SG_SHUT_WR))
        return -EINVAL;
    if (s->kind == SK_UDP) {
        udp_shutdown(e, (struct udp_sock *)s, how);
        return 0;
    }
    if (s->kind != SK_TCP)
        return -ENOTCONN;
    return tcp_user_shutdown(e, tcp_conn_of(s), how);
}

int engine_close(struct engine *e, int sid, uint32_t slot, uint64_t now_us)
{
    struct sock *s = sock_of(e, sid, slot);

    e->now_us = now_us;
    if (!s)
        return -EBADF;
    sock_close(e, s);
    return 0;
}

int engine_grant(struct engine *e, int sid, uint32_t slot)
{
    struct sock *s = sock_of(e, sid, slot);

    if (!s)
        return -EBADF;
    if (s->kind == SK_LISTEN)
        return -EINVAL;
    if (s->tx.region)
        return 0;
    if (!sock_region_get(e, s, &s->tx))
        return -ENOBUFS;
    sock_dirty_bits(e, s, DIRTY_LINE);
    return 0;
}

int engine_release(struct engine *e, int sid, uint32_t slot)
{
    struct sock *s = sock_of(e, sid, slot);

    if (!s)
        return -EBADF;
    if (!sock_pull(e, s) || s->tx.tail != s->tx.head)
        return -EBUSY;
    sock_region_put(e, s, &s->tx);
    sock_dirty_bits(e, s, DIRTY_LINE);
    return 0;
}

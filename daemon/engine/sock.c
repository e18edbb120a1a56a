/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets and slots: the engine's side of the shared memory.
 *
 * Everything read from a slot is copied once and checked; everything the engine knows about a socket's data
 * is its own copy in struct stream. Masking makes any base harmless: whatever the application writes, the
 * engine stays inside the region.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/tcp_window.h"

#include <errno.h>

/* ---- The session's list of sockets ------------------------------------------------------------- */

void sock_link(struct engine *e, struct sock *s, int heap_sid)
{
    struct session *ss = sock_session(e, heap_sid);
    sock_id id = sock_id_of(e, s);

    s->heap_sid = (int16_t)heap_sid;
    s->sess_prev = 0;
    s->sess_next = ss->socks;
    if (ss->socks)
        sock_get(e, ss->socks)->sess_prev = id;
    ss->socks = id;
}

void sock_unlink(struct engine *e, struct sock *s)
{
    struct session *ss = sock_session(e, s->heap_sid);

    if (s->sess_prev)
        sock_get(e, s->sess_prev)->sess_next = s->sess_next;
    else
        ss->socks = s->sess_next;
    if (s->sess_next)
        sock_get(e, s->sess_next)->sess_prev = s->sess_prev;
    if (ss->reclaim_next == sock_id_of(e, s))
        ss->reclaim_next = s->sess_next;
    s->sess_next = s->sess_prev = 0;
    s->heap_sid = -1;
}

/* ---- Reading the application's line ------------------------------------------------------------------ */

void sock_fault(struct engine *e, struct sock *s, const char *reason)
{
    if (s->sid < 0)
        return;
    sock_session_fault(e, s->sid, reason);
}

void sock_session_fault(struct engine *e, int sid, const char *reason)
{
    struct session *ss = sock_session(e, sid);

    if (ss->fault)
        return;
    ss->fault = reason;
    e->fault_any = true;
    stat_inc(&e->stats, ST_APP_FAULTS);
}

static inline bool pull(struct engine *e, struct sock *s, const struct session *ss)
{
    const struct sg_slot_app *a = &ss->v.slots[s->slot].a;
    uint64_t tail = sg_load_acquire_u64(&a->tx_tail); /* [S2] */
    uint64_t base = sg_load_relaxed_u64(&a->tx_base);
    uint64_t head = sg_load_acquire_u64(&a->rx_head); /* [S3] */

    if (ss->fault)
        return false;
    if (head - s->rx.head > s->rx.tail - s->rx.head) {
        sock_fault(e, s, "rx_head is outside the readable bytes");
        return false;
    }
    s->rx.head = head;
    if (s->rx.flags & RING_NEXT)
        ring_passed(e, s, &s->rx);
    if (tail == s->tx.tail)
        return true;
    s->tx.flags &= (uint8_t)~RING_IDLE;
    /* An empty ring that starts again does so at the byte that comes next. */
    if (s->tx.head == s->tx.tail && base == s->tx.tail)
        s->tx.base = base;
    if (s->tx.flags & RING_OFFER && !ring_offer_check(e, s, tail))
        return false;
    if (!s->tx.region || tail - s->tx.tail > ring_end(e, s, &s->tx) - s->tx.tail) {
        sock_fault(e, s, "tx_tail is outside the send region");
        return false;
    }
    s->tx.tail = tail;
    return true;
}

bool sock_pull(struct engine *e, struct sock *s)
{
    return pull(e, s, sock_session(e, s->sid));
}

/* Only the receive side, for the window: cheap enough for every segment. */
static inline void pull_rx(struct engine *e, struct sock *s, const struct session *ss)
{
    uint64_t head;

    head = sg_load_acquire_u64(&ss->v.slots[s->slot].a.rx_head); /* [S3] */
    if (ss->fault)
        return;
    if (head - s->rx.head > s->rx.tail - s->rx.head) {
        sock_fault(e, s, "rx_head is outside the readable bytes");
        return;
    }
    s->rx.head = head;
    if (s->rx.flags & RING_NEXT)
        ring_passed(e, s, &s->rx);
}

void sock_pull_rx(struct engine *e, struct sock *s)
{
    if (s->slot)
        pull_rx(e, s, sock_session(e, s->sid));
}

static inline struct sock *in_slot(struct engine *e, const struct session *ss, uint32_t slot)
{
    sock_id id = slot < ss->v.slot_count ? ss->v.slot_sock[slot] : 0; /* of slot 0 there is none */

    return id ? sock_get(e, id) : NULL;
}

/* Kicks are taken in two passes, so that one fence serves a whole batch ([S6]). */
void engine_kick(struct engine *e, int sid, const uint32_t *slots, unsigned n, uint64_t now_us)
{
    struct session *ss = sock_session(e, sid);

    e->now_us = now_us;
    stat_add(&e->stats, ST_APP_KICKS, n);
    for (unsigned i = 0; i < n; i++) {
        struct sock *s = in_slot(e, ss, slots[i]);
        struct sg_slot *sl;

        if (!s) {
            stat_inc(&e->stats, ST_APP_KICK_BAD);
            continue;
        }
        sl = &ss->v.slots[slots[i]];
        s->kick_seen = sg_load_relaxed_u32(&sl->a.kick_posted);
        sg_store_release_u32(&sl->d.kick_seen, s->kick_seen);
    }
    sg_fence(); /* [S6] */
    for (unsigned i = 0; i < n; i++) {
        struct sock *s = in_slot(e, ss, slots[i]);

        if (!s || !pull(e, s, ss))
            continue;
        if (s->kind == SK_TCP)
            tcp_kick(e, tcp_conn_of(s));
        else if (s->kind == SK_UDP)
            udp_kick(e, (struct udp_sock *)s, now_us);
    }
}

/* ---- Publishing ----------------------------------------------------------------------------------- */

void sock_dirty(struct engine *e, struct sock *s)
{
    sock_dirty_bits(e, s, DIRTY_LINE | DIRTY_EVENT);
}

/* Take `s` off the dirty list before its record goes away. The list is short: one turn's sockets. */
void sock_undirty(struct engine *e, struct sock *s)
{
    sock_id *at = &e->dirty;
    sock_id id;

    if (!(s->dirty & DIRTY_LIST))
        return;
    id = sock_id_of(e, s);
    while (*at != id) {
        ENG_ASSERT(*at);
        at = &sock_get(e, *at)->dirty_next;
    }
    *at = s->dirty_next;
    s->dirty = 0;
}

static void write_name(struct sg_slot_name *n, const struct sock *s, uint16_t mss)
{
    struct ip_addr local = net_to_api(&s->local, s->family), remote = net_to_api(&s->remote, s->family);

    n->family = s->family;
    n->local_port = s->lport;
    n->remote_port = s->rport;
    n->mss = mss;
    memcpy(n->local, local.ip, 16);
    memcpy(n->remote, remote.ip, 16);
    n->local_scope = local.scope;
    n->remote_scope = remote.scope;
}

/* The region that follows, on the slot's fourth line; returns the bits that go beside the size class. */
static inline uint8_t write_next(struct engine *e, struct sock *s, const struct stream *st,
                                 struct sg_next *entries)
{
    const struct ring_next *n;
    struct sg_next *x;

    if (!(st->flags & (RING_NEXT | RING_OFFER)))
        return 0;
    n = ring_next_of(e, s, st);
    x = &entries[n->count & 1];
    sg_store_relaxed_u64(&x->at, st == &s->rx ? n->at : 0);
    sg_store_relaxed_u32(&x->region, n->region);
    __atomic_store_n(&x->log2, n->log2, __ATOMIC_RELAXED);
    return (uint8_t)(SG_LOG2_NEXT | (n->count & 1 ? SG_LOG2_ENTRY : 0));
}

static inline void write_line(struct engine *e, struct sock *s, struct sg_slot *slot)
{
    struct sg_slot_daemon *d = &slot->d;
    struct tcp_conn *c = s->kind == SK_TCP ? tcp_conn_of(s) : NULL;

    if (c)
        c->rx_notify = window_notify(e, c);
    if (s->dirty & DIRTY_NAME)
        write_name(&slot->n, s, c ? c->mss : 0);
    sg_store_relaxed_u64(&d->rx_base, s->rx.base);
    sg_store_relaxed_u32(&d->rx_region, s->rx.region);
    sg_store_relaxed_u32(&d->tx_region, s->tx.region);
    __atomic_store_n(&d->rx_log2, s->rx.log2 | write_next(e, s, &s->rx, slot->x.rx),
                     __ATOMIC_RELEASE); /* [S9] */
    __atomic_store_n(&d->tx_log2, s->tx.log2 | write_next(e, s, &s->tx, slot->x.tx), __ATOMIC_RELEASE);
    __atomic_store_n(&d->type, s->type, __ATOMIC_RELAXED);
    sg_store_relaxed_u64(&d->rx_notify, c ? c->rx_notify : UINT64_MAX);
    if (s->kind == SK_LISTEN)
        sg_store_relaxed_u32(&d->accept_count, ((const struct tcp_listener *)s)->queue_len);
    sg_store_release_u64(&d->tx_head, s->tx.head); /* [S4] */
    sg_store_release_u64(&d->rx_tail, s->rx.tail); /* [S1] */
    sg_store_relaxed_u32(&d->error, s->error);
    sg_store_release_u32(&d->flags, s->pub_flags);
    __atomic_store_n(&d->state, s->pub_state, __ATOMIC_RELEASE);
}

static inline void write_line_of(struct engine *e, struct sock *s)
{
    write_line(e, s, &slot_session(e, s)->v.slots[s->slot]);
}

/* In the event queue, beside the slot number: SG_EV_RELEASE instead of SG_EV_SOCK. */
#define EVENT_RELEASE UINT32_C(0x80000000)

/* No room: whoever wants the region back asks again. */
void sock_event_release(struct engine *e, int sid, uint32_t slot)
{
    struct event_fifo *f = &e->events;

    if (f->tail - f->head <= f->mask / 2)
        f->v[f->tail++ & f->mask] = (uint64_t)(uint32_t)sid << 32 | EVENT_RELEASE | slot;
}

static bool queued(const struct session *ss, uint32_t slot)
{
    return ss->queued[slot / 32] & (1u << slot % 32);
}

/* Queue an event, unless the slot has one: the application's counters say when it has seen the last, but the
 * bit that bounds the queue is ours. False: no room. */
static inline bool event_push(struct engine *e, struct session *ss, int sid, uint32_t slot)
{
    struct event_fifo *f = &e->events;

    if (queued(ss, slot))
        return true;
    if (f->tail - f->head > f->mask)
        return false;
    f->v[f->tail++ & f->mask] = (uint64_t)(uint32_t)sid << 32 | slot;
    ss->queued[slot / 32] |= 1u << slot % 32;
    return true;
}

/* Free send space from which a waiting application is told: a third of the ring, as Linux does. */
static bool tx_worth_telling(struct engine *e, struct sock *s)
{
    uint64_t size = UINT64_C(1) << s->tx.log2;

    if (s->tx.flags & RING_OFFER)
        return true;
    if (s->tx.flags & RING_NEXT)
        size = UINT64_C(1) << ring_next_of(e, s, &s->tx)->log2;
    return !s->tx.region || ring_end(e, s, &s->tx) - s->tx.tail >= size / 3;
}

/* Second pass, after the fence of [S5] and [S7]: tell the application unless it has an event waiting. */
static inline void tell(struct engine *e, struct sock *s, unsigned dirty)
{
    struct session *ss = slot_session(e, s);
    struct sg_slot *slot = &ss->v.slots[s->slot];
    bool want = dirty & DIRTY_EVENT;

    if (!want && (dirty & DIRTY_TX) && (sg_load_relaxed_u32(&slot->a.want) & SG_WANT_TX))
        want = tx_worth_telling(e, s);
    if (want && sg_load_acquire_u32(&slot->a.ev_seen) == s->ev_posted) {
        if (event_push(e, ss, s->sid, s->slot)) {
            s->ev_posted++;
            sg_store_release_u32(&slot->d.ev_posted, s->ev_posted); /* [S5] */
            stat_inc(&e->stats, ST_APP_EVENTS);
        } else {
            sock_dirty_bits(e, s, dirty);
        }
    }
    /* [S8] The application may have read past rx_notify before it saw the new value. */
    if (s->kind == SK_TCP && s->rx.region) {
        struct tcp_conn *c = tcp_conn_of(s);

        pull_rx(e, s, ss);
        if (s->rx.head >= c->rx_notify)
            tcp_window_check(e, c);
    }
}

void engine_publish(struct engine *e, uint64_t now_us)
{
    sock_id id = e->dirty;
    sock_id list = id;

    e->now_us = now_us;
    if (!id)
        return;
    for (; id; id = sock_get(e, id)->dirty_next)
        write_line_of(e, sock_get(e, id));
    sg_fence(); /* [S5], [S7], [S8] */
    /* Sockets that tell() marks again start a new list. */
    e->dirty = 0;
    for (id = list; id;) {
        struct sock *s = sock_get(e, id);
        unsigned dirty = s->dirty;

        id = s->dirty_next;
        s->dirty = 0;
        s->dirty_next = 0;
        tell(e, s, dirty);
    }
}

static bool fault_next(struct engine *e, struct engine_event *ret)
{
    if (!e->fault_any)
        return false;
    for (uint32_t i = 0; i < e->cfg.session_max; i++) {
        struct session *ss = &e->sessions[i];

        if (ss->used && ss->fault && !ss->fault_reported) {
            ss->fault_reported = true;
            *ret = (struct engine_event){.kind = ENGINE_EV_FAULT, .sid = (int)i, .reason = ss->fault};
            return true;
        }
    }
    e->fault_any = false;
    return false;
}

/* Socket calls come while the queue is empty, so a bit that is set is a deferred event. If it is in the queue
 * after all (a session that ends), engine_event_next() skips it. */
void sock_event_cancel(struct engine *e, struct sock *s)
{
    struct session *ss = sock_session(e, s->sid);

    if (!ss->deferred || !queued(ss, s->slot))
        return;
    ss->queued[s->slot / 32] &= ~(1u << s->slot % 32);
    ss->deferred--;
}

bool engine_event_next(struct engine *e, struct engine_event *ret)
{
    while (e->events.head != e->events.tail) {
        uint64_t v = e->events.v[e->events.head++ & e->events.mask];
        int sid = (int)(v >> 32);
        uint32_t slot = (uint32_t)v;
        struct session *ss = &e->sessions[sid];

        if (!slot || !ss->used || ss->ended)
            continue;
        if (slot & EVENT_RELEASE) {
            *ret =
                (struct engine_event){.kind = ENGINE_EV_RELEASE, .sid = sid, .slot = slot & ~EVENT_RELEASE};
            return true;
        }
        ss->queued[slot / 32] &= ~(1u << slot % 32);
        *ret = (struct engine_event){.kind = ENGINE_EV_SOCK, .sid = sid, .slot = slot};
        return true;
    }
    return fault_next(e, ret);
}

void engine_event_defer(struct engine *e, const struct engine_event *ev)
{
    struct session *ss = sock_session(e, ev->sid);

    ENG_ASSERT(!queued(ss, ev->slot));
    ss->queued[ev->slot / 32] |= 1u << ev->slot % 32;
    ss->deferred++;
}

uint32_t engine_event_deferred(const struct engine *e, int sid)
{
    return e->sessions[sid].deferred;
}

/* Called while the queue is empty, so every bit that is set is a deferred event. */
void engine_event_retry(struct engine *e, int sid, uint32_t max)
{
    struct session *ss = sock_session(e, sid);
    uint32_t words = (ss->v.slot_count + 31) / 32;
    uint32_t left = words;

    while (ss->deferred && max && left--) {
        uint32_t w = ss->retry_word < words ? ss->retry_word : 0;

        for (uint32_t bits = ss->queued[w]; bits && max; bits &= bits - 1) {
            uint32_t slot = w * 32 + (uint32_t)__builtin_ctz(bits);

            ss->queued[w] &= ~(1u << slot % 32);
            if (!event_push(e, ss, sid, slot)) {
                ss->queued[w] |= 1u << slot % 32;
                return;
            }
            ss->deferred--;
            max--;
        }
        ss->retry_word = w + 1;
    }
}

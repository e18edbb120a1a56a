/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions of the byte rings: given, switched and taken back. What lies where in a session's heap is known
 * here and in segheap.c only; the slot tells the application (proto/abi/slot.h).
 *
 * A stream has its region, and during a switch one more that follows it. `ring_next.at` is the offset of the
 * switch: bytes before it lie in the first, bytes from it on in the second, which starts there at its first
 * byte. When the head has passed the offset the second becomes the first. Only TCP switches: a datagram would
 * have to lie in one piece.
 */
#include "daemon/engine/engine_int.h"

/* ---- Memory ----------------------------------------------------------------------------------------- */

uint8_t ring_class(uint64_t bytes, uint8_t low, uint8_t high)
{
    uint8_t log2 = low;

    while (log2 < high && UINT64_C(1) << log2 < bytes)
        log2++;
    return log2;
}

/* Look through the session's sockets: at all that is empty, or (sweep) at what has long been so. */
static void press(struct engine *e, struct session *ss, bool sweep)
{
    if (ss->ended || (ss->pressed && (sweep || !ss->sweeping)))
        return;
    if (!ss->pressed)
        e->pressed++;
    ss->pressed = true;
    ss->sweeping = sweep;
    ss->reclaim_next = ss->socks;
}

/* Time between two sweeps: what was empty at one and is at the next, unused, goes back. */
#define SWEEP_US (UINT64_C(2) * 1000000)

/* What the session holds of its quota, on all workers together. */
static uint64_t held(const struct session *ss)
{
    return ss->v.buffer_bytes ? __atomic_load_n(ss->v.buffer_bytes, __ATOMIC_RELAXED) : ss->buffer_bytes;
}

static void quota_give(struct session *ss, uint64_t bytes)
{
    ss->buffer_bytes -= bytes;
    if (ss->v.buffer_bytes)
        (void)__atomic_fetch_sub(ss->v.buffer_bytes, bytes, __ATOMIC_RELAXED);
}

/* Counted first and looked at afterwards, so that two workers can't take the same bytes. */
static bool quota_take(struct session *ss, uint64_t bytes)
{
    uint64_t after;

    ss->buffer_bytes += bytes;
    after = ss->v.buffer_bytes ? __atomic_add_fetch(ss->v.buffer_bytes, bytes, __ATOMIC_RELAXED)
                               : ss->buffer_bytes;
    if (after <= ss->v.buffer_bytes_max)
        return true;
    quota_give(ss, bytes);
    return false;
}

/* A region of 2^log2 bytes; 0: quota or heap used up. */
static uint32_t region_take(struct engine *e, struct session *ss, uint8_t log2)
{
    uint64_t bytes = UINT64_C(1) << log2;
    uint64_t off = UINT64_MAX;

    if (quota_take(ss, bytes)) {
        off = segheap_alloc(ss->v.heap_meta, ss->v.heap_bytes, log2);
        if (off == UINT64_MAX)
            quota_give(ss, bytes);
    }
    if (off == UINT64_MAX) {
        stat_inc(&e->stats, ST_APP_QUOTA_BUFFERS);
        press(e, ss, false);
        return 0;
    }
    if (!e->region_bytes) /* There was nothing to sweep for until now. */
        e->sweep_us = e->now_us + SWEEP_US;
    e->region_bytes += bytes;
    return (uint32_t)((ss->v.heap_off + off) >> SG_REGION_SHIFT);
}

static void region_give(struct engine *e, struct session *ss, uint32_t region, uint8_t log2)
{
    uint64_t bytes = UINT64_C(1) << log2;

    segheap_free(ss->v.heap_meta, ss->v.heap_bytes, ((uint64_t)region << SG_REGION_SHIFT) - ss->v.heap_off,
                 log2);
    quota_give(ss, bytes);
    e->region_bytes -= bytes;
}

/* A frame that the device had no room for must not go out with another's bytes. */
static void forget_frames(struct engine *e, const struct session *ss, uint32_t region, uint8_t log2)
{
    pktq_forget(&e->txq, session_region(ss, region), UINT64_C(1) << log2);
}

bool ring_get(struct engine *e, struct sock *s, struct stream *st, uint8_t log2)
{
    uint32_t region;

    ENG_ASSERT(!st->region && !(st->flags & (RING_NEXT | RING_OFFER)));
    region = region_take(e, sock_session(e, s->heap_sid), log2);
    if (!region)
        return false;
    st->region = region;
    st->log2 = log2;
    st->got = (uint8_t)(e->now_us >> 20);
    st->base = st->tail;
    return true;
}

bool sock_region_get(struct engine *e, struct sock *s, struct stream *st)
{
    return ring_get(e, s, st, st->want_log2);
}

struct ring_next *ring_next_of(struct engine *e, struct sock *s, const struct stream *st)
{
    struct tcp_buf *b;

    ENG_ASSERT(s->kind == SK_TCP);
    b = tcp_buf_of(e, tcp_conn_of(s));
    return st == &s->rx ? &b->rx : &b->tx;
}

void sock_region_put(struct engine *e, struct sock *s, struct stream *st)
{
    struct session *ss;

    if (!st->region)
        return;
    ss = sock_session(e, s->heap_sid);
    if (st->flags & (RING_NEXT | RING_OFFER)) {
        struct ring_next *n = ring_next_of(e, s, st);

        if (st->flags & RING_OFFER)
            n->count--; /* It was never taken: the next offer has its number. */
        else if (st == &s->tx)
            forget_frames(e, ss, n->region, n->log2);
        region_give(e, ss, n->region, n->log2);
        st->flags &= (uint8_t) ~(RING_NEXT | RING_OFFER);
    }
    if (st == &s->tx)
        forget_frames(e, ss, st->region, st->log2);
    region_give(e, ss, st->region, st->log2);
    st->region = 0;
}

/* ---- Switching -------------------------------------------------------------------------------------- */

bool ring_switch(struct engine *e, struct sock *s, struct stream *st, uint64_t at, uint8_t log2)
{
    struct ring_next *n = ring_next_of(e, s, st);
    uint32_t region;

    ENG_ASSERT(st->region && !(st->flags & (RING_NEXT | RING_OFFER)) && at >= st->tail);
    region = region_take(e, sock_session(e, s->heap_sid), log2);
    if (!region)
        return false;
    n->at = at;
    n->region = region;
    n->log2 = log2;
    n->count++;
    st->flags |= RING_NEXT;
    ring_passed(e, s, st);
    sock_dirty_bits(e, s, DIRTY_LINE);
    return true;
}

void ring_passed(struct engine *e, struct sock *s, struct stream *st)
{
    struct session *ss = sock_session(e, s->heap_sid);
    struct ring_next *n = ring_next_of(e, s, st);

    if (!(st->flags & RING_NEXT) || st->head < n->at)
        return;
    if (st == &s->tx)
        forget_frames(e, ss, st->region, st->log2);
    region_give(e, ss, st->region, st->log2);
    st->region = n->region;
    st->log2 = n->log2;
    st->base = n->at;
    st->flags &= (uint8_t)~RING_NEXT;
    sock_dirty_bits(e, s, DIRTY_LINE);
}

void ring_offer(struct engine *e, struct sock *s, uint8_t log2)
{
    struct ring_next *n = ring_next_of(e, s, &s->tx);

    if (!s->slot || !s->tx.region || s->tx.flags & (RING_NEXT | RING_OFFER) || log2 == s->tx.log2)
        return;
    n->region = region_take(e, sock_session(e, s->heap_sid), log2);
    if (!n->region)
        return;
    n->log2 = log2;
    n->count++;
    s->tx.flags |= RING_OFFER;
    sock_dirty_bits(e, s, DIRTY_LINE | DIRTY_TX);
}

bool ring_offer_check(struct engine *e, struct sock *s, uint64_t tail)
{
    const struct sg_slot_app *a = &sock_session(e, s->sid)->v.slots[s->slot].a;
    struct ring_next *n = ring_next_of(e, s, &s->tx);
    uint64_t at;

    if ((uint8_t)sg_load_acquire_u32(&a->tx_next) != n->count) /* [S10] */
        return true;
    at = sg_load_relaxed_u64(&a->tx_next_at);
    if (at > tail)
        return true;
    if (at < s->tx.tail || at > ring_end(e, s, &s->tx)) {
        sock_fault(e, s, "tx_next_at is outside the send region");
        return false;
    }
    n->at = at;
    s->tx.flags = (uint8_t)((s->tx.flags & ~RING_OFFER) | RING_NEXT);
    ring_passed(e, s, &s->tx);
    return true;
}

/* ---- Where bytes lie -------------------------------------------------------------------------------- */

uint64_t ring_end_next(struct engine *e, struct sock *s, const struct stream *st)
{
    const struct ring_next *n = ring_next_of(e, s, st);

    return n->at + (UINT64_C(1) << n->log2); /* ring_passed() ran: the head lies before n->at. */
}

/* [pos, pos + len) of one region: one piece, or two where it wraps. */
static unsigned pieces_of(uint8_t *region, uint8_t log2, uint64_t pos, uint32_t len, struct ring_piece *ret)
{
    uint64_t size = UINT64_C(1) << log2;
    uint64_t at = pos & (size - 1);
    uint32_t first = len < size - at ? len : (uint32_t)(size - at);

    ret[0] = (struct ring_piece){region + at, first};
    if (len == first)
        return 1;
    ret[1] = (struct ring_piece){region, len - first};
    return 2;
}

unsigned ring_pieces(struct engine *e, struct sock *s, const struct stream *st, uint64_t off, uint32_t len,
                     struct ring_piece ret[RING_PIECES_MAX])
{
    const struct session *ss = sock_session(e, s->heap_sid);
    const struct ring_next *n;
    uint32_t before = len;
    unsigned count = 0;

    if (!(st->flags & RING_NEXT))
        return pieces_of(session_region(ss, st->region), st->log2, off - st->base, len, ret);
    n = ring_next_of(e, s, st);
    if (off + len > n->at)
        before = off < n->at ? (uint32_t)(n->at - off) : 0;
    if (before)
        count = pieces_of(session_region(ss, st->region), st->log2, off - st->base, before, ret);
    /* Within the size of the region that follows, and it starts at n->at: it doesn't wrap. */
    if (before < len)
        ret[count++] =
            (struct ring_piece){session_region(ss, n->region) + (off + before - n->at), len - before};
    return count;
}

/* ---- Taking idle regions back ------------------------------------------------------------------------ */

/* A send region that was given less than this many seconds ago is about to be used. */
#define RECLAIM_AGE_S    2u

/* Sockets that one turn looks at for that. */
#define RECLAIM_PER_TURN 128u

/* An empty ring goes back, in a sweep when it has been found so before. */
static bool due(const struct session *ss, struct stream *st)
{
    bool was = st->flags & RING_IDLE;

    st->flags |= RING_IDLE;
    return was || !ss->sweeping;
}

/* A receive region goes back at once. For a send region the application is asked: it may be writing there. */
static void reclaim(struct engine *e, struct session *ss, int sid, struct sock *s)
{
    bool holes = s->kind == SK_TCP && tcp_reass_holes(e, tcp_conn_of(s));

    sock_pull_rx(e, s);
    if (s->rx.region && s->rx.head == s->rx.tail && !holes && due(ss, &s->rx)) {
        sock_region_put(e, s, &s->rx);
        sock_dirty_bits(e, s, DIRTY_LINE);
    }
    if (s->slot && s->tx.region && s->tx.head == s->tx.tail && !ss->ended &&
        (uint8_t)((e->now_us >> 20) - s->tx.got) >= RECLAIM_AGE_S && due(ss, &s->tx))
        sock_event_release(e, sid, s->slot);
}

bool session_ample(struct engine *e, const struct sock *s)
{
    const struct session *ss = sock_session(e, s->heap_sid);

    return held(ss) < ss->v.buffer_bytes_max / 2;
}

uint64_t session_sweep_deadline(const struct engine *e)
{
    return e->region_bytes ? e->sweep_us : UINT64_MAX;
}

void session_sweep(struct engine *e)
{
    if (!e->region_bytes || e->now_us < e->sweep_us)
        return;
    e->sweep_us = e->now_us + SWEEP_US;
    for (uint32_t i = 0; i < e->cfg.session_max; i++)
        if (e->sessions[i].used && e->sessions[i].buffer_bytes)
            press(e, &e->sessions[i], true);
}

void session_reclaim_run(struct engine *e)
{
    for (uint32_t i = 0; i < e->cfg.session_max && e->pressed; i++) {
        struct session *ss = &e->sessions[i];

        for (uint32_t n = 0; ss->used && ss->pressed && n < RECLAIM_PER_TURN; n++) {
            struct sock *s = ss->reclaim_next ? sock_get(e, ss->reclaim_next) : NULL;

            if (!s) {
                ss->pressed = false;
                e->pressed--;
                break;
            }
            ss->reclaim_next = s->sess_next;
            reclaim(e, ss, (int)i, s);
        }
    }
}

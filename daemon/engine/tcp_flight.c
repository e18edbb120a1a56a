/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data in flight: records taken and given back, the list of segments.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

const struct tx_flight tx_flight_none = {
    .conn = NIL,
    .seg_head = NIL,
    .seg_tail = NIL,
    .sent = {NIL, NIL},
    .lost = {NIL, NIL},
    .sack_hint = NIL,
    .linger_next = NIL,
    .linger_prev = NIL,
};

/* What an undo looks for may be this old, in bytes: far enough from where sequence numbers wrap. */
#define UNDO_BYTES_MAX (1u << 30)

/* ---- The record ------------------------------------------------------------------------------------- */

static void linger_add(struct engine *e, uint32_t i)
{
    struct tcp_table *t = &e->tcp;

    t->flights[i].lingers = true;
    t->flights[i].linger_next = NIL;
    t->flights[i].linger_prev = t->linger_newest;
    if (t->linger_newest != NIL)
        t->flights[t->linger_newest].linger_next = i;
    else
        t->linger_oldest = i;
    t->linger_newest = i;
}

static void linger_del(struct engine *e, uint32_t i)
{
    struct tcp_table *t = &e->tcp;
    struct tx_flight *f = &t->flights[i];

    f->lingers = false;
    if (f->linger_prev != NIL)
        t->flights[f->linger_prev].linger_next = f->linger_next;
    else
        t->linger_oldest = f->linger_next;
    if (f->linger_next != NIL)
        t->flights[f->linger_next].linger_prev = f->linger_prev;
    else
        t->linger_newest = f->linger_prev;
}

/* A free record, or the one that lingered longest. */
static uint32_t record_get(struct engine *e)
{
    uint32_t i = pool_get(&e->tcp.flight_pool);

    if (i != NIL || e->tcp.linger_oldest == NIL)
        return i;
    i = e->tcp.linger_oldest;
    linger_del(e, i);
    e->tcp.conns[e->tcp.flights[i].conn].flight = NIL;
    return i;
}

/* A flight begins at snd_nxt. */
static bool flight_begin(struct engine *e, struct tcp_conn *c)
{
    struct tx_flight kept = *flight_of(e, c);
    bool too_old = c->snd_una - kept.undo_marker > UNDO_BYTES_MAX;
    uint32_t i = c->flight;

    if (i != NIL)
        linger_del(e, i);
    else
        i = record_get(e);
    if (i == NIL) {
        stat_inc(&e->stats, ST_TCP_FLIGHT_EMPTY);
        return false;
    }
    c->flight = i;
    e->tcp.flights[i] = (struct tx_flight){.conn = tcp_conn_index(e, c),
                                           .seg_head = NIL,
                                           .seg_tail = NIL,
                                           .sent = {NIL, NIL},
                                           .lost = {NIL, NIL},
                                           .fack = c->snd_una,
                                           .sack_hint = NIL,
                                           .recover = c->snd_una,
                                           .retrans_us = kept.retrans_us,
                                           .undo_marker = kept.undo_marker,
                                           .undo_cwnd = too_old ? 0 : kept.undo_cwnd,
                                           .undo_ssthresh = kept.undo_ssthresh,
                                           .undo_retrans = kept.undo_retrans,
                                           .tlp_out = kept.tlp_out,
                                           .tlp_again = kept.tlp_again,
                                           .tlp_end = kept.tlp_end};
    return true;
}

void tcp_flight_settle(struct engine *e, struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);
    uint32_t i = c->flight;

    if (i == NIL || f->seg_count)
        return;
    if (f->undo_cwnd || f->tlp_out) {
        if (!f->lingers)
            linger_add(e, i);
        return;
    }
    if (f->lingers)
        linger_del(e, i);
    c->flight = NIL;
    pool_put(&e->tcp.flight_pool, i);
}

void tcp_flight_free(struct engine *e, struct tcp_conn *c)
{
    uint32_t i = c->flight;

    if (i == NIL)
        return;
    if (e->tcp.flights[i].lingers)
        linger_del(e, i);
    while (e->tcp.flights[i].seg_count)
        tcp_seg_pop(e, c);
    c->flight = NIL;
    pool_put(&e->tcp.flight_pool, i);
}

const char *tcp_flight_check(const struct engine *e)
{
    const struct tcp_table *t = &e->tcp;
    uint32_t prev = NIL, count = 0;

    for (uint32_t i = t->linger_oldest; i != NIL; prev = i, i = t->flights[i].linger_next) {
        const struct tx_flight *f = &t->flights[i];

        if (f->seg_count || !f->lingers || f->linger_prev != prev || t->conns[f->conn].flight != i)
            return "a flight record lingers that should not";
        if (++count > e->cfg.flight_max)
            return "the list of lingering flight records is a ring";
    }
    return t->linger_newest == prev ? NULL : "the list of lingering flight records has a false end";
}

/* ---- Counts and queues ------------------------------------------------------------------------------ */

/* The queue that a segment is in follows from its marks; NULL: none. */
static struct tx_queue *queue_of(struct tx_flight *f, const struct tx_seg *t)
{
    if (t->flags & TXS_SACKED)
        return NULL;
    return (t->flags & (TXS_LOST | TXS_RETRANS)) == TXS_LOST ? &f->lost : &f->sent;
}

static void queue_del(struct engine *e, struct tx_queue *q, uint32_t i)
{
    const struct tx_seg *t = seg_at(e, i);

    if (t->q_prev != NIL)
        seg_at(e, t->q_prev)->q_next = t->q_next;
    else
        q->head = t->q_next;
    if (t->q_next != NIL)
        seg_at(e, t->q_next)->q_prev = t->q_prev;
    else
        q->tail = t->q_prev;
}

/* Put i behind `prev`, NIL: in front. */
static void queue_add(struct engine *e, struct tx_queue *q, uint32_t i, uint32_t prev)
{
    struct tx_seg *t = seg_at(e, i);

    t->q_prev = prev;
    t->q_next = prev == NIL ? q->head : seg_at(e, prev)->q_next;
    if (prev == NIL)
        q->head = i;
    else
        seg_at(e, prev)->q_next = i;
    if (t->q_next == NIL)
        q->tail = i;
    else
        seg_at(e, t->q_next)->q_prev = i;
}

/* Segments come in the order of their queue, or belong in front of all. */
static void queue_place(struct engine *e, struct tx_flight *f, uint32_t i)
{
    const struct tx_seg *t = seg_at(e, i);
    struct tx_queue *q = queue_of(f, t);
    const struct tx_seg *h;
    bool first;

    if (!q)
        return;
    h = q->head == NIL ? NULL : seg_at(e, q->head);
    first = !h || (q == &f->lost ? seq_lt(t->start, h->start) : t->xmit_us < h->xmit_us);
    queue_add(e, q, i, first ? NIL : q->tail);
}

/* Add `len` bytes to the counts that the marks of `t` name; minus: 0 - len. */
static void tally(struct tx_flight *f, const struct tx_seg *t, uint32_t len)
{
    if (t->flags & TXS_SACKED)
        f->sacked_bytes += len;
    if (t->flags & TXS_LOST)
        f->lost_bytes += len;
    if (t->flags & TXS_RETRANS)
        f->retrans_bytes += len;
}

void tcp_seg_mark(struct engine *e, struct tx_flight *f, uint32_t seg, unsigned marks)
{
    struct tx_seg *t = seg_at(e, seg);
    struct tx_queue *q = queue_of(f, t);

    if (q)
        queue_del(e, q, seg);
    tally(f, t, 0 - seg_len(t));
    f->sacked_runs -= !!(t->flags & TXS_SACKED);
    t->flags = (uint16_t)((t->flags & ~TXS_MARKS) | marks);
    f->sacked_runs += !!(t->flags & TXS_SACKED);
    tally(f, t, seg_len(t));
    queue_place(e, f, seg);
}

void tcp_seg_trim(struct engine *e, struct tx_flight *f, uint32_t ack)
{
    struct tx_seg *t = seg_at(e, f->seg_head);

    tally(f, t, t->start - ack);
    t->start = ack;
}

void tcp_seg_lost(struct engine *e, struct tx_flight *f, uint32_t seg, struct tcp_acked *a)
{
    struct tx_seg *t = seg_at(e, seg);

    if (t->flags & TXS_RETRANS)
        stat_inc(&e->stats, ST_TCP_LOST_RETRANSMIT);
    tcp_seg_mark(e, f, seg, TXS_LOST);
    if (has_path(&e->tcp.conns[f->conn]) && !(t->flags & TXS_PROBE))
        rate_lost(e, &e->tcp.conns[f->conn], seg);
    a->lost_bytes += seg_len(t);
}

/* ---- The list --------------------------------------------------------------------------------------- */

bool tcp_seg_push(struct engine *e, struct tcp_conn *c, uint32_t start, uint32_t end, uint16_t flags)
{
    uint32_t i = pool_get(&e->tcp.seg_pool);
    struct tx_flight *f;

    if (i == NIL) {
        stat_inc(&e->stats, ST_TCP_TXSEG_EMPTY);
        return false;
    }
    if (!flight_of(e, c)->seg_count && !flight_begin(e, c)) {
        pool_put(&e->tcp.seg_pool, i);
        return false;
    }
    *seg_at(e, i) =
        (struct tx_seg){.start = start, .end = end, .xmit_us = e->now_us, .next = NIL, .flags = flags};
    f = flight_mut(e, c);
    if (f->seg_tail != NIL)
        seg_at(e, f->seg_tail)->next = i;
    else
        f->seg_head = i;
    f->seg_tail = i;
    f->seg_count++;
    queue_add(e, &f->sent, i, f->sent.tail);
    return true;
}

bool tcp_seg_split(struct engine *e, struct tcp_conn *c, uint32_t seg, uint32_t at)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t i = pool_get(&e->tcp.seg_pool);
    struct tx_seg *t = seg_at(e, seg);
    struct tx_queue *q = queue_of(f, t);
    struct tx_seg *rest;

    if (i == NIL)
        return false;
    ENG_ASSERT(seq_lt(t->start, at) && seq_lt(at, t->end) && q);
    rest = seg_at(e, i);
    *rest = *t;
    rest->start = at;
    rest->flags &= (uint16_t)~TXS_PROBE; /* Its parts are none. */
    t->end = at;
    t->next = i;
    t->flags &= (uint16_t) ~(TXS_FIN | TXS_PSH | TXS_PROBE);
    queue_add(e, q, i, seg);
    if (f->seg_tail == seg)
        f->seg_tail = i;
    f->seg_count++;
    if (has_path(c))
        rate_split(e, seg, i);
    return true;
}

void tcp_seg_pop(struct engine *e, struct tcp_conn *c)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t i = f->seg_head;
    struct tx_seg *t = seg_at(e, i);
    struct tx_queue *q = queue_of(f, t);

    if (q)
        queue_del(e, q, i);
    tally(f, t, 0 - seg_len(t));
    f->sacked_runs -= !!(t->flags & TXS_SACKED);
    f->seg_head = t->next;
    if (f->seg_head == NIL)
        f->seg_tail = NIL;
    if (f->sack_hint == i)
        f->sack_hint = NIL;
    f->seg_count--;
    pool_put(&e->tcp.seg_pool, i);
}

void tcp_seg_resent(struct engine *e, struct tcp_conn *c, uint32_t seg)
{
    struct tx_flight *f = flight_mut(e, c);
    struct tx_seg *t = seg_at(e, seg);
    uint32_t len = seg_len(t) - !!(t->flags & TXS_FIN);
    uint32_t segs = tally_segs(len, c->mss);

    t->xmit_us = e->now_us;
    t->retrans++;
    /* Also when it was not lost: a loss probe. So the pipe is unchanged by it. */
    tcp_seg_mark(e, f, seg, TXS_LOST | TXS_RETRANS);
    if (!f->retrans_us)
        f->retrans_us = e->now_us;
    f->undo_retrans += seg_len(t);
    c->total_retrans += segs;
    tcp_rare_of(e, c)->bytes_retrans += len;
    if (has_path(c))
        rate_sent(e, c, seg);
    stat_add(&e->stats, ST_TCP_RETRANS_SEGS, segs);
}

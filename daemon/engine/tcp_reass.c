/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data in any order (RFC 9293 3.10.7.4 step 7). Payload goes straight to its place in the receive ring,
 * also ahead of a hole; only [start, end) ranges of what lies there are kept, sorted and disjoint. They hang
 * on a record that a connection holds only while it has something to remember; without a free one, data
 * beyond a hole counts as not received, and the peer sends it again.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* Ranges one connection may hold; more is dropped and sent again. As many as a flight of 20,000 segments has
 * holes when 5 % are lost: a sender that does not slow down for losses (BBR) keeps many open, and what is
 * dropped for want of a range makes it lose more. */
#define OOO_RANGES_MAX 1024u

static struct rx_range *range_at(struct engine *e, uint32_t i)
{
    return &e->tcp.ranges[i];
}

/* ---- The record ----------------------------------------------------------------------------------- */

/* The connection's record, or a fresh one. NULL: none is free. */
static struct rx_reasm *record_get(struct engine *e, struct tcp_conn *c)
{
    if (c->reasm == NIL) {
        c->reasm = pool_get(&e->tcp.reasm_pool);
        if (c->reasm == NIL) {
            stat_inc(&e->stats, ST_TCP_REASM_EMPTY);
            return NULL;
        }
        e->tcp.reasms[c->reasm] = (struct rx_reasm){.head = NIL, .last = NIL};
        memset(e->tcp.reasms[c->reasm].recent, 0xff, sizeof(e->tcp.reasms[c->reasm].recent));
    }
    return &e->tcp.reasms[c->reasm];
}

static_assert(NIL == UINT32_MAX, "memset() makes an empty list");

/* Give the record back when there is nothing left to remember. */
static void record_settle(struct engine *e, struct tcp_conn *c)
{
    if (c->reasm == NIL || e->tcp.reasms[c->reasm].count || c->flags & (TF_DSACK | TF_FIN_EARLY))
        return;
    pool_put(&e->tcp.reasm_pool, c->reasm);
    c->reasm = NIL;
}

/* It changed, or is new: to the front. */
static void recent_touch(struct rx_reasm *m, uint32_t i)
{
    unsigned at = 0;

    while (at < RX_RECENT_MAX - 1 && m->recent[at] != i && m->recent[at] != NIL)
        at++;
    memmove(&m->recent[1], &m->recent[0], at * sizeof(m->recent[0]));
    m->recent[0] = i;
}

static void recent_forget(struct rx_reasm *m, uint32_t i)
{
    for (unsigned at = 0; at < RX_RECENT_MAX && m->recent[at] != NIL; at++) {
        if (m->recent[at] != i)
            continue;
        memmove(&m->recent[at], &m->recent[at + 1], (RX_RECENT_MAX - 1 - at) * sizeof(m->recent[0]));
        m->recent[RX_RECENT_MAX - 1] = NIL;
        return;
    }
}

static bool recent_has(const struct rx_reasm *m, uint32_t i)
{
    for (unsigned at = 0; at < RX_RECENT_MAX && m->recent[at] != NIL; at++)
        if (m->recent[at] == i)
            return true;
    return false;
}

static void range_free(struct engine *e, struct rx_reasm *m, uint32_t i)
{
    recent_forget(m, i);
    m->count--;
    pool_put(&e->tcp.range_pool, i);
}

static void pop_range(struct engine *e, struct rx_reasm *m)
{
    uint32_t i = m->head;

    m->head = range_at(e, i)->next;
    if (m->head == NIL)
        m->last = NIL;
    range_free(e, m, i);
}

void tcp_reass_free(struct engine *e, struct tcp_conn *c)
{
    if (c->reasm == NIL)
        return;
    while (e->tcp.reasms[c->reasm].count)
        pop_range(e, &e->tcp.reasms[c->reasm]);
    c->flags &= ~(TF_DSACK | TF_FIN_EARLY);
    record_settle(e, c);
}

bool tcp_reass_holes(const struct engine *e, const struct tcp_conn *c)
{
    return c->reasm != NIL && e->tcp.reasms[c->reasm].count;
}

void tcp_reass_dsack(struct engine *e, struct tcp_conn *c, uint32_t start, uint32_t end)
{
    struct rx_reasm *m = c->flags & TF_SACK ? record_get(e, c) : NULL;

    if (!m)
        return;
    m->dsack_start = start;
    m->dsack_end = end;
    c->flags |= TF_DSACK;
    stat_inc(&e->stats, ST_TCP_DSACK_SENT);
}

void tcp_reass_reported(struct engine *e, struct tcp_conn *c)
{
    c->flags &= ~TF_DSACK;
    e->tcp.reasms[c->reasm].fresh = 0;
    record_settle(e, c);
}

void tcp_reass_fin(struct engine *e, struct tcp_conn *c, uint32_t seq)
{
    struct rx_reasm *m = record_get(e, c);

    if (!m)
        return;
    m->fin_seq = seq;
    c->flags |= TF_FIN_EARLY;
}

bool tcp_reass_fin_due(const struct engine *e, const struct tcp_conn *c)
{
    return c->flags & TF_FIN_EARLY && e->tcp.reasms[c->reasm].fin_seq == c->rcv_nxt;
}

/* ---- Ranges --------------------------------------------------------------------------------------- */

/* [start, end) touches or overlaps range `i`: grow that, then swallow its followers. */
static void extend(struct engine *e, struct tcp_conn *c, uint32_t i, uint32_t start, uint32_t end)
{
    struct rx_reasm *m = &e->tcp.reasms[c->reasm];
    struct rx_range *r = range_at(e, i);

    if (seq_ge(start, r->start) && seq_le(end, r->end)) {
        tcp_reass_dsack(e, c, start, end);
        stat_inc(&e->stats, ST_TCP_RCV_OLD);
    }
    r->start = seq_min(r->start, start);
    r->end = seq_max(r->end, end);
    while (r->next != NIL && seq_ge(r->end, range_at(e, r->next)->start)) {
        uint32_t follower = r->next;

        r->end = seq_max(r->end, range_at(e, follower)->end);
        r->next = range_at(e, follower)->next;
        if (m->last == follower)
            m->last = i;
        range_free(e, m, follower);
        stat_inc(&e->stats, ST_TCP_RCV_COLLAPSED);
    }
    recent_touch(m, i);
}

/*
 * Merge [start, end) into the list. False: no record free; the data counts as not received. What comes last
 * in sequence is found at once, what fills one of the oldest holes soon: that is nearly all there is.
 *
 * ACKs go at the end of a turn, one for all that it brought. But an ACK has room for three ranges, and each
 * has to be said in several, since ACKs get lost (RFC 2018 4): so one goes before each further range.
 */
static bool insert(struct engine *e, struct tcp_conn *c, uint32_t start, uint32_t end)
{
    struct rx_reasm *m = record_get(e, c);
    uint32_t *at;
    uint32_t i;

    if (!m)
        return false;
    at = &m->head;
    if (m->last != NIL && seq_lt(range_at(e, m->last)->end, start))
        at = &range_at(e, m->last)->next;
    else if (m->last != NIL && seq_ge(start, range_at(e, m->last)->start))
        at = &m->last;
    while (*at != NIL && seq_lt(range_at(e, *at)->end, start))
        at = &range_at(e, *at)->next;
    if (*at != NIL && seq_ge(end, range_at(e, *at)->start)) {
        extend(e, c, *at, start, end);
        return true;
    }
    i = m->count < OOO_RANGES_MAX ? pool_get(&e->tcp.range_pool) : NIL;
    if (i == NIL) {
        record_settle(e, c);
        return false;
    }
    if (m->fresh && m->count && tcp_ack_send(e, c))
        c->flags |= TF_ACK_NOW; /* again: for this range */
    m->fresh++;
    *range_at(e, i) = (struct rx_range){.start = start, .end = end, .next = *at};
    if (*at == NIL)
        m->last = i;
    *at = i;
    m->count++;
    recent_touch(m, i);
    return true;
}

/* rcv_nxt moved: take in the ranges that it has reached. */
static void absorb(struct engine *e, struct tcp_conn *c)
{
    struct rx_reasm *m = &e->tcp.reasms[c->reasm];

    while (m->count) {
        const struct rx_range *r = range_at(e, m->head);

        if (seq_gt(r->start, c->rcv_nxt))
            return;
        if (seq_gt(r->end, c->rcv_nxt)) {
            c->s.rx.tail += r->end - c->rcv_nxt;
            c->rcv_nxt = r->end;
        }
        pop_range(e, m);
    }
    record_settle(e, c);
}

static void ring_put(struct engine *e, struct tcp_conn *c, uint64_t off, const uint8_t *data, uint32_t len)
{
    struct ring_piece p[RING_PIECES_MAX];
    unsigned n = ring_pieces(e, &c->s, &c->s.rx, off, len, p);

    for (unsigned i = 0; i < n; i++) {
        memcpy(p[i].ptr, data, p[i].len);
        data += p[i].len;
    }
}

uint64_t tcp_reass_end(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t last = c->reasm == NIL ? NIL : e->tcp.reasms[c->reasm].last;

    return c->s.rx.tail + (last == NIL ? 0 : e->tcp.ranges[last].end - c->rcv_nxt);
}

void tcp_reass_add(struct engine *e, struct tcp_conn *c, uint32_t seq, const uint8_t *data, uint32_t len)
{
    struct stream *rx = &c->s.rx;
    uint32_t ahead = seq - c->rcv_nxt;
    uint64_t room;

    sock_pull_rx(e, &c->s);
    room = tcp_rx_fit(e, c, rx->tail, rx->tail + ahead + len);
    if (!rx->region)
        return;
    if (ahead >= room) {
        stat_inc(&e->stats, ST_TCP_OFO_DROP);
        return;
    }
    if (len > room - ahead)
        len = (uint32_t)(room - ahead);
    if (ahead && !insert(e, c, seq, seq + len)) {
        stat_inc(&e->stats, ST_TCP_OFO_DROP);
        return;
    }
    ring_put(e, c, rx->tail + ahead, data, len);
    if (ahead) {
        stat_inc(&e->stats, ST_TCP_OFO_QUEUE);
        tcp_rare_of(e, c)->ooo_segs++;
        return;
    }
    c->rcv_nxt += len;
    rx->tail += len;
    if (c->reasm != NIL)
        absorb(e, c);
    sock_dirty(e, &c->s);
}

static unsigned put_range(const struct engine *e, uint32_t i, struct tcp_sack_block *ret, unsigned n)
{
    ret[n].start = e->tcp.ranges[i].start;
    ret[n].end = e->tcp.ranges[i].end;
    return n + 1;
}

unsigned tcp_reass_sacks(const struct engine *e, const struct tcp_conn *c, struct tcp_sack_block *ret,
                         unsigned max)
{
    const struct rx_reasm *m = &e->tcp.reasms[c->reasm];
    unsigned n = 0;

    if (c->flags & TF_DSACK && max) { /* RFC 2883 4: the duplicate comes first */
        ret[n].start = m->dsack_start;
        ret[n++].end = m->dsack_end;
    }
    /* RFC 2018 4: the range touched last first, then the others by age; those of which that is not known any
     * more follow in sequence. */
    for (unsigned at = 0; n < max && at < RX_RECENT_MAX && m->recent[at] != NIL; at++)
        n = put_range(e, m->recent[at], ret, n);
    for (uint32_t i = m->head; n < max && i != NIL; i = e->tcp.ranges[i].next)
        if (!recent_has(m, i))
            n = put_range(e, i, ret, n);
    return n;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data in any order (RFC 9293 3.10.7.4 step 7). Payload goes straight to its place in the receive ring,
 * also ahead of a hole; only [start, end) ranges of what lies there are kept, sorted and disjoint. They hang
 * on a record that a connection holds only while it has something to remember; without a free one, data
 * beyond a hole counts as not received, and the peer sends it again.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* Ranges one connection may hold; more is dropped and sent again. */
#define OOO_RANGES_MAX 64u

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
        e->tcp.reasms[c->reasm] = (struct rx_reasm){.head = NIL};
    }
    return &e->tcp.reasms[c->reasm];
}

/* Give the record back when there is nothing left to remember. */
static void record_settle(struct engine *e, struct tcp_conn *c)
{
    if (c->reasm == NIL || e->tcp.reasms[c->reasm].count || c->flags & (TF_DSACK | TF_FIN_EARLY))
        return;
    pool_put(&e->tcp.reasm_pool, c->reasm);
    c->reasm = NIL;
}

static void pop_range(struct engine *e, struct rx_reasm *m)
{
    uint32_t i = m->head;

    m->head = range_at(e, i)->next;
    m->count--;
    pool_put(&e->tcp.range_pool, i);
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

/* Merge [start, end) into the list. False: no record free; the data counts as not received. */
static bool insert(struct engine *e, struct tcp_conn *c, uint32_t start, uint32_t end)
{
    struct rx_reasm *m = record_get(e, c);
    struct rx_range *r;
    uint32_t *at;
    uint32_t i;

    if (!m)
        return false;
    at = &m->head;
    while (*at != NIL && seq_lt(range_at(e, *at)->end, start))
        at = &range_at(e, *at)->next;
    if (*at != NIL && seq_ge(end, range_at(e, *at)->start)) {
        /* Touches or overlaps: grow this one, then swallow its followers. */
        r = range_at(e, *at);
        if (seq_ge(start, r->start) && seq_le(end, r->end)) {
            tcp_reass_dsack(e, c, start, end);
            stat_inc(&e->stats, ST_TCP_RCV_OLD);
        }
        r->start = seq_min(r->start, start);
        r->end = seq_max(r->end, end);
        r->stamp = ++m->stamp;
        while (r->next != NIL && seq_ge(r->end, range_at(e, r->next)->start)) {
            i = r->next;
            r->end = seq_max(r->end, range_at(e, i)->end);
            r->next = range_at(e, i)->next;
            pool_put(&e->tcp.range_pool, i);
            m->count--;
            stat_inc(&e->stats, ST_TCP_RCV_COLLAPSED);
        }
        return true;
    }
    i = m->count < OOO_RANGES_MAX ? pool_get(&e->tcp.range_pool) : NIL;
    if (i == NIL) {
        record_settle(e, c);
        return false;
    }
    *range_at(e, i) = (struct rx_range){.start = start, .end = end, .next = *at, .stamp = ++m->stamp};
    *at = i;
    m->count++;
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
    uint32_t end = c->rcv_nxt;

    for (uint32_t i = c->reasm == NIL ? NIL : e->tcp.reasms[c->reasm].head; i != NIL;
         i = e->tcp.ranges[i].next)
        end = e->tcp.ranges[i].end;
    return c->s.rx.tail + (end - c->rcv_nxt);
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

unsigned tcp_reass_sacks(const struct engine *e, const struct tcp_conn *c, struct tcp_sack_block *ret,
                         unsigned max)
{
    const struct rx_reasm *m = &e->tcp.reasms[c->reasm];
    unsigned n = 0;
    uint32_t below = UINT32_MAX;

    if (c->flags & TF_DSACK && max) { /* RFC 2883 4: the duplicate comes first */
        ret[n].start = m->dsack_start;
        ret[n++].end = m->dsack_end;
    }
    /* RFC 2018 4: the range touched last first, then the others by age. */
    while (n < max) {
        uint32_t best = NIL;

        for (uint32_t i = m->head; i != NIL; i = e->tcp.ranges[i].next) {
            const struct rx_range *r = &e->tcp.ranges[i];

            if (r->stamp < below && (best == NIL || r->stamp > e->tcp.ranges[best].stamp))
                best = i;
        }
        if (best == NIL)
            break;
        below = e->tcp.ranges[best].stamp;
        ret[n].start = e->tcp.ranges[best].start;
        ret[n++].end = e->tcp.ranges[best].end;
    }
    return n;
}

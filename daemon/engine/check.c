/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_check(): every invariant that the records must keep between calls. For tests and the simulator.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* Each segment that is not SACKed is in the queue that its marks name. */
static const char *check_queues(const struct engine *e, const struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);
    uint32_t count = f->sacked_runs;

    for (int k = 0; k < 2; k++) {
        const struct tx_queue *q = k ? &f->lost : &f->sent;
        uint32_t prev = NIL;

        for (uint32_t i = q->head; i != NIL; prev = i, i = e->tcp.segs[i].q_next) {
            const struct tx_seg *t = &e->tcp.segs[i];

            if (t->flags & TXS_SACKED || (k == 1) != ((t->flags & (TXS_LOST | TXS_RETRANS)) == TXS_LOST))
                return "a segment is in the wrong queue";
            if (t->q_prev != prev || ++count > f->seg_count)
                return "a queue of segments is broken";
        }
        if (q->tail != prev)
            return "a queue of segments has a false end";
    }
    return count == f->seg_count ? NULL : "a segment is in no queue";
}

static const char *check_segs(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t sacked = 0, lost = 0, retrans = 0, count = 0, runs = 0;
    const struct tx_flight *f = flight_of(e, c);
    uint32_t at = c->snd_una;

    if (c->flight != NIL && e->tcp.conns + f->conn != c)
        return "a flight record has another owner";
    if (c->flight != NIL && f->lingers != !f->seg_count)
        return "a flight record neither holds segments nor lingers";
    for (uint32_t i = f->seg_head; i != NIL; i = e->tcp.segs[i].next) {
        const struct tx_seg *t = &e->tcp.segs[i];
        uint32_t len = t->end - t->start;

        if (t->start != at || seq_ge(t->start, t->end))
            return "segments in flight do not join";
        at = t->end;
        if (t->flags & TXS_SACKED)
            sacked += len, runs++;
        if (t->flags & TXS_LOST)
            lost += len;
        if (t->flags & TXS_RETRANS)
            retrans += len;
        if ((t->flags & TXS_SACKED) && (t->flags & (TXS_LOST | TXS_RETRANS)))
            return "a segment is both delivered and lost";
        if (++count > f->seg_count)
            return "more segments than counted";
        if (t->next == NIL && f->seg_tail != i)
            return "seg_tail is not the last segment";
    }
    if (count != f->seg_count)
        return "fewer segments than counted";
    if (c->state >= TCPS_ESTABLISHED && at != c->snd_nxt)
        return "segments do not reach snd_nxt";
    if (runs != f->sacked_runs)
        return "sacked_runs is wrong";
    if (c->flags & TF_SACK && sacked != f->sacked_bytes)
        return "sacked_bytes is wrong";
    if (lost != f->lost_bytes)
        return "lost_bytes is wrong";
    if (retrans != f->retrans_bytes)
        return "retrans_bytes is wrong";
    return NULL;
}

static bool listed(const struct engine *e, const struct rx_reasm *m, uint32_t range)
{
    uint32_t i = m->head;

    while (i != NIL && i != range)
        i = e->tcp.ranges[i].next;
    return i == range;
}

static const char *check_ranges(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t count = 0, last = NIL;
    uint32_t at = c->rcv_nxt;
    const struct rx_reasm *m;

    if (c->reasm == NIL)
        return c->flags & (TF_DSACK | TF_FIN_EARLY) ? "no record for what is beyond a hole" : NULL;
    m = &e->tcp.reasms[c->reasm];
    if (!m->count && !(c->flags & (TF_DSACK | TF_FIN_EARLY)))
        return "a reassembly record is kept for nothing";
    for (uint32_t i = m->head; i != NIL; i = e->tcp.ranges[i].next) {
        const struct rx_range *r = &e->tcp.ranges[i];

        if (seq_le(r->start, at) || seq_ge(r->start, r->end))
            return "out-of-order ranges are not sorted and disjoint";
        at = r->end;
        last = i;
        if (++count > m->count)
            return "more ranges than counted";
    }
    if (last != m->last)
        return "the last range is another";
    for (unsigned n = 0; n < RX_RECENT_MAX && m->recent[n] != NIL; n++)
        if (!listed(e, m, m->recent[n]))
            return "a range is remembered that is not there";
    return count == m->count ? NULL : "fewer ranges than counted";
}

static const char *check_ring(const struct stream *st, const struct ring_next *n)
{
    bool next = st->flags & RING_NEXT;
    uint64_t end = next ? n->at + (UINT64_C(1) << n->log2) : st->head + (UINT64_C(1) << st->log2);

    if (!st->region)
        return st->head != st->tail                   ? "bytes without a region"
               : st->flags & (RING_NEXT | RING_OFFER) ? "a region that follows none"
                                                      : NULL;
    if (next && st->head >= n->at)
        return "a region was passed and not given back";
    if (next && n->at - st->head > UINT64_C(1) << st->log2)
        return "more lies before a switch than the region holds";
    return st->tail > end ? "ring overrun" : NULL;
}

static const char *check_conn(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t data = tcp_flight(c) - !!(c->flags & TF_FIN_SENT && !(c->flags & TF_FIN_ACKED));
    const char *bad;

    if (seq_gt(c->snd_una, c->snd_nxt))
        return "snd_una is beyond snd_nxt";
    if (c->s.rx.head > c->s.rx.tail || c->s.tx.head > c->s.tx.tail)
        return "a stream's head is beyond its tail";
    if (c->state >= TCPS_ESTABLISHED && data > c->s.tx.tail - c->s.tx.head)
        return "more in flight than queued";
    bad = check_ring(&c->s.rx, &e->tcp.bufs[tcp_conn_index(e, c)].rx);
    bad = bad ? bad : check_ring(&c->s.tx, &e->tcp.bufs[tcp_conn_index(e, c)].tx);
    if (bad)
        return bad;
    if (c->state != TCPS_CLOSED && !(c->flags & TF_HASHED))
        return "a living connection is not in the table";
    if (c->state == TCPS_CLOSED && (c->flight != NIL || c->reasm != NIL))
        return "a closed connection holds records";
    if (c->state >= TCPS_ESTABLISHED && !c->mss)
        return "no MSS";
    if (c->state >= TCPS_ESTABLISHED && tcp_flight(c) && !c->rto_at_us)
        return "data in flight and no timer";
    bad = check_segs(e, c);
    bad = bad ? bad : check_queues(e, c);
    return bad ? bad : check_ranges(e, c);
}

static const char *check_pool(const struct pool *p, uint32_t used, const char *what)
{
    return p->free_count + used == p->count ? NULL : what;
}

const char *engine_check(const struct engine *e)
{
    uint32_t conns = 0, segs = 0, ranges = 0, flights = 0, reasms = 0;
    uint32_t reqs = 0, tws = 0, listeners = 0, hashed = 0;
    const char *bad;

    for (uint32_t i = 0; i < e->tcp.conn_pool.high; i++) {
        const struct tcp_conn *c = &e->tcp.conns[i];

        if (c->s.kind != SK_TCP)
            continue;
        bad = check_conn(e, c);
        if (bad)
            return bad;
        conns++;
        segs += flight_of(e, c)->seg_count;
        ranges += c->reasm != NIL ? e->tcp.reasms[c->reasm].count : 0;
        flights += c->flight != NIL;
        reasms += c->reasm != NIL;
        hashed += !!(c->flags & TF_HASHED);
    }
    for (uint32_t i = 0; i < e->tcp.req_pool.high; i++)
        reqs += e->tcp.reqs[i].used;
    for (uint32_t i = 0; i < e->tcp.tw_pool.high; i++)
        tws += e->tcp.tws[i].used;
    for (uint32_t i = 0; i < e->tcp.listener_pool.high; i++)
        listeners += e->tcp.listeners[i].s.kind == SK_LISTEN;
    bad = tcp_flight_check(e);
    bad = bad ? bad : path_check(e);
    bad = bad ? bad : neigh_check(e);
    bad = bad ? bad : frag_check(e);
    bad = bad ? bad : udp_check(e);
    bad = bad ? bad : mcast_check(e);
    if (bad)
        return bad;
    if (e->flows.used != hashed + reqs + tws)
        return "the connection table has more or fewer entries than there are records";
    bad = check_pool(&e->tcp.conn_pool, conns, "connection records leak");
    bad = bad ? bad : check_pool(&e->tcp.seg_pool, segs, "segment records leak");
    bad = bad ? bad : check_pool(&e->tcp.range_pool, ranges, "range records leak");
    bad = bad ? bad : check_pool(&e->tcp.flight_pool, flights, "flight records leak");
    bad = bad ? bad : check_pool(&e->tcp.reasm_pool, reasms, "reassembly records leak");
    bad = bad ? bad : check_pool(&e->tcp.req_pool, reqs, "requests leak");
    bad = bad ? bad : check_pool(&e->tcp.tw_pool, tws, "TIME_WAIT records leak");
    return bad ? bad : check_pool(&e->tcp.listener_pool, listeners, "listeners leak");
}

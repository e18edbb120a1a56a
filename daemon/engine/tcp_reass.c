/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data in any order (RFC 9293 3.10.7.4 step 7). Payload goes straight to its place in the receive ring,
 * also ahead of a hole; only [start, end) ranges of what lies there are kept, sorted and disjoint.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* Ranges one connection may hold; more is dropped and sent again. */
#define OOO_RANGES_MAX 64u

static struct rx_range *range_at(struct engine *e, uint32_t i)
{
    return &e->tcp.ranges[i];
}

void tcp_reass_free(struct engine *e, struct tcp_conn *c)
{
    while (c->ooo_head != NIL) {
        uint32_t i = c->ooo_head;

        c->ooo_head = range_at(e, i)->next;
        pool_put(&e->tcp.range_pool, i);
    }
    c->ooo_count = 0;
}

static void note_dsack(struct tcp_conn *c, uint32_t start, uint32_t end)
{
    c->dsack_start = start;
    c->dsack_end = end;
    c->flags |= TF_DSACK;
}

/* Merge [start, end) into the list. False: no record free; the data counts as not received. */
static bool insert(struct engine *e, struct tcp_conn *c, uint32_t start, uint32_t end)
{
    uint32_t *at = &c->ooo_head;
    struct rx_range *r;
    uint32_t i;

    while (*at != NIL && seq_lt(range_at(e, *at)->end, start))
        at = &range_at(e, *at)->next;
    if (*at != NIL && seq_ge(end, range_at(e, *at)->start)) {
        /* Touches or overlaps: grow this one, then swallow its followers. */
        r = range_at(e, *at);
        if (seq_ge(start, r->start) && seq_le(end, r->end)) {
            note_dsack(c, start, end);
            stat_inc(&e->stats, ST_TCP_RCV_OLD);
        }
        r->start = seq_min(r->start, start);
        r->end = seq_max(r->end, end);
        r->stamp = ++c->ooo_stamp;
        while (r->next != NIL && seq_ge(r->end, range_at(e, r->next)->start)) {
            i = r->next;
            r->end = seq_max(r->end, range_at(e, i)->end);
            r->next = range_at(e, i)->next;
            pool_put(&e->tcp.range_pool, i);
            c->ooo_count--;
            stat_inc(&e->stats, ST_TCP_RCV_COLLAPSED);
        }
        return true;
    }
    i = c->ooo_count < OOO_RANGES_MAX ? pool_get(&e->tcp.range_pool) : NIL;
    if (i == NIL)
        return false;
    *range_at(e, i) = (struct rx_range){.start = start, .end = end, .next = *at, .stamp = ++c->ooo_stamp};
    *at = i;
    c->ooo_count++;
    return true;
}

/* rcv_nxt moved: take in the ranges that it has reached. */
static void absorb(struct engine *e, struct tcp_conn *c)
{
    while (c->ooo_head != NIL) {
        uint32_t i = c->ooo_head;
        struct rx_range *r = range_at(e, i);

        if (seq_gt(r->start, c->rcv_nxt))
            return;
        if (seq_gt(r->end, c->rcv_nxt)) {
            c->s.rx.tail += r->end - c->rcv_nxt;
            c->rcv_nxt = r->end;
        }
        c->ooo_head = r->next;
        pool_put(&e->tcp.range_pool, i);
        c->ooo_count--;
    }
}

/* A region to put data into, started at its first byte again when the ring is empty. */
static uint8_t *ring(struct engine *e, struct tcp_conn *c)
{
    struct stream *rx = &c->s.rx;

    if (!rx->region && !sock_region_get(e, &c->s, rx)) {
        stat_inc(&e->stats, ST_TCP_RCV_NO_BUFFER);
        return NULL;
    }
    if (rx->head == rx->tail && c->ooo_head == NIL)
        rx->base = rx->tail;
    return session_region(sock_session(e, c->s.heap_sid), rx->region);
}

void tcp_reass_add(struct engine *e, struct tcp_conn *c, uint32_t seq, const uint8_t *data, uint32_t len)
{
    struct stream *rx = &c->s.rx;
    uint32_t ahead = seq - c->rcv_nxt;
    uint64_t room;
    uint8_t *region;

    sock_pull_rx(e, &c->s);
    region = ring(e, c);
    if (!region)
        return;
    room = (UINT64_C(1) << rx->log2) - (rx->tail - rx->head);
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
    sg_bytes_put(region, rx->log2, rx->tail + ahead - rx->base, data, len);
    if (ahead) {
        stat_inc(&e->stats, ST_TCP_OFO_QUEUE);
        return;
    }
    c->rcv_nxt += len;
    rx->tail += len;
    if (c->ooo_head != NIL)
        absorb(e, c);
    sock_dirty(e, &c->s);
}

unsigned tcp_reass_sacks(const struct engine *e, const struct tcp_conn *c, struct tcp_sack_block *ret,
                         unsigned max)
{
    unsigned n = 0;
    uint32_t below = UINT32_MAX;

    if (c->flags & TF_DSACK && max) { /* RFC 2883 4: the duplicate comes first */
        ret[n].start = c->dsack_start;
        ret[n++].end = c->dsack_end;
    }
    /* RFC 2018 4: the range touched last first, then the others by age. */
    while (n < max) {
        uint32_t best = NIL;

        for (uint32_t i = c->ooo_head; i != NIL; i = e->tcp.ranges[i].next) {
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

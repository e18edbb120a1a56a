/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How large rings and windows are (docs/decisions/buffers.md).
 *
 * Receive: the window follows what the application takes in a round trip (dynamic right-sizing, as Linux has
 * it), the ring follows what has to lie in it. A window is a promise and costs nothing; a region costs
 * memory, and is small while the application keeps up. Only when data doesn't fit does the ring switch, and
 * then to a region that holds all that was promised, so that it need not switch twice before the
 * application reads.
 * Send: the ring follows the congestion window, when the application fills the ring.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* Class of a receive region while the application keeps up: an initial window of ten segments fits it. */
#define RING_START_LOG2  14u

/* No window larger than this share of a session's memory: one connection must not promise all of it. */
#define WINDOW_SHARE     4u

/* Segments that a window holds beside two round trips' worth: the sender's initial window, and some. */
#define WINDOW_SPARE_MSS 16u

struct tcp_buf *tcp_buf_of(struct engine *e, struct tcp_conn *c)
{
    struct tcp_buf *b = &e->tcp.bufs[tcp_conn_index(e, c)];

    if (!(c->s.rx.flags & RING_COLD)) {
        memset(b, 0, sizeof(*b));
        c->s.rx.flags |= RING_COLD;
    }
    return b;
}

/* ---- Receiving ---------------------------------------------------------------------------------------- */

uint8_t tcp_rcv_wscale(const struct engine *e)
{
    uint8_t max = e->cfg.rcvbuf_max_log2 > e->cfg.rcvbuf_log2 ? e->cfg.rcvbuf_max_log2 : e->cfg.rcvbuf_log2;

    return max > 16 ? (uint8_t)(max - 16) : 0;
}

uint32_t tcp_rx_room(struct engine *e, struct tcp_conn *c)
{
    struct stream *rx = &c->s.rx;
    uint64_t window = UINT64_C(1) << rx->want_log2;
    uint64_t unread = rx->tail - rx->head;
    uint64_t room;

    if (c->flags & TF_ORPHAN)
        return (uint32_t)window;
    room = window > unread ? window - unread : 0;
    /* No second switch before the application has come to the first. */
    if (rx->flags & RING_NEXT && room > ring_end(e, &c->s, rx) - rx->tail)
        room = ring_end(e, &c->s, rx) - rx->tail;
    return (uint32_t)room;
}

/* Stream offset that the ring may have to reach before the application reads: the window's, or one further
 * out that was promised before the window was made smaller. */
static uint64_t ring_goal(const struct tcp_conn *c)
{
    const struct stream *rx = &c->s.rx;
    uint64_t promised = rx->tail + (seq_gt(c->rcv_adv, c->rcv_nxt) ? c->rcv_adv - c->rcv_nxt : 0);
    uint64_t window = rx->head + (UINT64_C(1) << rx->want_log2);

    return promised > window ? promised : window;
}

/* A region for a ring that has none, or is empty and may start again in another. */
static void ring_start(struct engine *e, struct tcp_conn *c, uint64_t bytes)
{
    struct stream *rx = &c->s.rx;
    uint8_t high = ring_class(ring_goal(c) - rx->head, SG_REGION_LOG2_MIN, SG_REGION_LOG2_MAX);
    uint8_t low = high < RING_START_LOG2 ? high : RING_START_LOG2;

    if (rx->region)
        sock_region_put(e, &c->s, rx);
    for (uint8_t log2 = ring_class(bytes, low, high); log2 >= SG_REGION_LOG2_MIN; log2--)
        if (ring_get(e, &c->s, rx, log2))
            return;
}

/* From behind the last byte that is there, into a region that holds all that may come, or at least this. */
static void ring_grow(struct engine *e, struct tcp_conn *c, uint64_t end)
{
    uint64_t at = tcp_reass_end(e, c);
    uint64_t goal = ring_goal(c);
    uint8_t high, least;

    if (end <= at)
        return;
    high = ring_class(goal - at, SG_REGION_LOG2_MIN, SG_REGION_LOG2_MAX);
    least = ring_class(end - at, SG_REGION_LOG2_MIN, high);
    for (uint8_t log2 = high; log2 >= least; log2--)
        if (ring_switch(e, &c->s, &c->s.rx, at, log2))
            return;
}

uint64_t tcp_rx_fit(struct engine *e, struct tcp_conn *c, uint64_t from, uint64_t end)
{
    struct stream *rx = &c->s.rx;
    bool empty = rx->head == rx->tail && !tcp_reass_holes(e, c);
    uint64_t goal = ring_goal(c);

    rx->flags &= (uint8_t)~RING_IDLE;
    if (end > goal)
        end = goal;
    if (empty && (!rx->region || rx->flags & RING_NEXT || end > ring_end(e, &c->s, rx)))
        ring_start(e, c, end - rx->head);
    if (!rx->region) {
        stat_inc(&e->stats, ST_TCP_RCV_NO_BUFFER);
        return 0;
    }
    if (empty)
        rx->base = rx->tail; /* Ping-pong traffic stays on the first lines. */
    if (end > ring_end(e, &c->s, rx) && !(rx->flags & RING_NEXT))
        ring_grow(e, c, end);
    if (goal > ring_end(e, &c->s, rx))
        goal = ring_end(e, &c->s, rx);
    return goal > from ? goal - from : 0;
}

/* ---- The window (dynamic right-sizing) ---------------------------------------------------------------- */

/* The round trip of a receiver: by the echoed timestamp (RFC 7323 4.1), else the time in which a whole window
 * arrives, which can only be too long. */
static void measure_rtt(struct engine *e, struct tcp_conn *c, struct tcp_buf *b, const struct tcp_seg *s)
{
    uint32_t sample;

    if (c->flags & TF_TS && s->has_ts && s->tsecr) {
        uint32_t ms = tcp_ts_now(e, c->tsoff) - s->tsecr;

        if (ms >= 1u << 20)
            return;
        sample = (ms ? ms : 1) * 1000;
        b->rtt_us = b->rtt_us ? b->rtt_us - b->rtt_us / 8 + sample / 8 : sample;
        return;
    }
    if (b->edge && seq_lt(c->rcv_nxt, b->edge))
        return;
    if (b->edge) {
        uint64_t took = e->now_us - b->edge_us;

        sample = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
        if (!b->rtt_us || sample < b->rtt_us)
            b->rtt_us = sample ? sample : 1;
    }
    b->edge = c->rcv_adv ? c->rcv_adv : 1;
    b->edge_us = e->now_us;
}

static void epoch_start(struct engine *e, struct tcp_conn *c, struct tcp_buf *b, uint32_t bytes)
{
    b->epoch_us = e->now_us;
    b->epoch_head = (uint32_t)c->s.rx.head;
    b->last_bytes = bytes;
}

/* The window that the bytes taken in one round trip ask for: twice as much, because as much again is on its
 * way when they are acknowledged, and four times while the sender still doubles; and room for what waits
 * behind a hole, because a sender that goes on during a repair is held up by the window otherwise. */
static void widen(struct engine *e, struct tcp_conn *c, uint32_t last, uint64_t bytes)
{
    const struct session *ss = sock_session(e, c->s.heap_sid);
    uint64_t behind = tcp_reass_end(e, c) - c->s.rx.tail;
    uint64_t want =
        bytes * (bytes > last + last / 4 ? 4 : 2) + behind + (uint64_t)WINDOW_SPARE_MSS * c->rcv_mss;
    uint8_t high = e->cfg.rcvbuf_max_log2;

    while (high > c->s.rx.want_log2 && UINT64_C(1) << high > ss->v.buffer_bytes_max / WINDOW_SHARE)
        high--;
    if (high <= c->s.rx.want_log2 || want <= UINT64_C(1) << c->s.rx.want_log2 || !session_ample(e, &c->s))
        return;
    c->s.rx.want_log2 = ring_class(want, c->s.rx.want_log2, high);
    stat_inc(&e->stats, ST_TCP_RCV_WINDOW_GROWN);
}

void tcp_rx_tune(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, uint64_t len)
{
    uint64_t bytes, took;
    struct tcp_buf *b;
    uint32_t rtt;

    if (!tcp_rx_tune_due(c, len) || c->s.opts & SO_F_RCVBUF || !c->s.slot)
        return;
    b = tcp_buf_of(e, c);
    measure_rtt(e, c, b, s);
    rtt = b->rtt_us ? b->rtt_us : c->srtt8_us / 8;
    if (!b->epoch_us || !rtt) {
        epoch_start(e, c, b, 0);
        return;
    }
    bytes = (uint32_t)c->s.rx.head - b->epoch_head;
    took = e->now_us - b->epoch_us;
    if (took > rtt) /* What arrived slowly counts by the share of one round trip. */
        bytes = bytes * rtt / took;
    widen(e, c, b->last_bytes, bytes);
    if (took >= rtt)
        epoch_start(e, c, b, bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes);
}

/* ---- Sending ------------------------------------------------------------------------------------------ */

void tcp_tx_start(struct engine *e, struct tcp_conn *c)
{
    if (!c->s.tx.region && session_ample(e, &c->s))
        (void)sock_region_get(e, &c->s, &c->s.tx);
}

/* As Linux: room for two congestion windows, one in flight and one to follow; twice that in slow start,
 * because a switch takes a round trip. */
void tcp_tx_tune(struct engine *e, struct tcp_conn *c)
{
    const struct stream *tx = &c->s.tx;
    uint64_t size = UINT64_C(1) << tx->log2;
    uint64_t want;

    if (tx->tail - tx->head <= size / 2 || tx->flags & (RING_NEXT | RING_OFFER) || c->s.opts & SO_F_SNDBUF ||
        tx->log2 >= e->cfg.sndbuf_max_log2)
        return;
    want = (uint64_t)c->cwnd * (c->cwnd < c->ssthresh ? 4 : 2);
    if (want > size && session_ample(e, &c->s)) {
        ring_offer(e, &c->s, ring_class(want, tx->log2, e->cfg.sndbuf_max_log2));
        stat_inc(&e->stats, ST_TCP_SND_BUFFER_GROWN);
    }
}

/* ---- By hand ------------------------------------------------------------------------------------------ */

/* A window that was promised stays so: a smaller one comes into force as the peer uses the old one up. */
void tcp_buf_fix(struct engine *e, struct tcp_conn *c, bool send, uint8_t log2)
{
    (send ? &c->s.tx : &c->s.rx)->want_log2 = log2;
    c->s.opts |= send ? SO_F_SNDBUF : SO_F_RCVBUF;
    if (send)
        ring_offer(e, &c->s, log2);
    else if (c->state >= TCPS_ESTABLISHED)
        tcp_window_check(e, c);
}

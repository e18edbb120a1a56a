/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to acknowledge (RFC 9293 3.8.6.3, RFC 5681 4.2): at once for every second full segment, for whatever
 * shows a hole, and while the peer probably waits for it; else after a while, so that the answer of the
 * application can carry it.
 *
 * How long depends on what was seen, as in Linux. The delay `ato` follows the distance between segments. A
 * connection starts in quick mode, a number of ACKs that go at once, and comes back to it after a silence
 * of more than an RTO: there the peer is in slow start and lives from ACKs. A connection whose application
 * answers within the delay is interactive ("ping-pong"): there quick mode is of no use, and rests.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/tcp_rto.h"

#define QUICK_ACKS_MAX 16u
#define DELAY_MAX_US   200000u /* RFC 9293 3.8.6.3 (MUST-58) allows 500 ms; Linux's TCP_DELACK_MAX */
#define LONG_AGO_TICKS (1u << 21)

static uint32_t since_data_us(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t ticks = (uint32_t)(e->now_us >> TCP_TICK_SHIFT) - c->data_rcvd_tick;

    return ticks < LONG_AGO_TICKS ? ticks << TCP_TICK_SHIFT : UINT32_MAX;
}

/* ACKs that go at once: one for every two segments that the window we offer lets arrive. */
static void quick_start(struct tcp_conn *c)
{
    uint32_t mss = c->rcv_mss ? c->rcv_mss : RCV_MSS_START; /* none yet in SYN_RCVD */
    uint32_t n = (c->rcv_adv - c->rcv_nxt) / (2u * mss);

    if (n > QUICK_ACKS_MAX)
        n = QUICK_ACKS_MAX;
    if (n < 2)
        n = 2;
    if (c->quick_acks < n)
        c->quick_acks = (uint8_t)n;
}

void tcp_delack_quick(struct engine *e, struct tcp_conn *c)
{
    quick_start(c);
    c->s.opts &= ~SO_F_PINGPONG;
    c->ato_us = e->cfg.delack_us;
}

/*
 * The size of the peer's full segments: the largest seen, or one that was seen twice in a row, since a peer
 * whose path has become narrower sends smaller ones for good. Joined segments count by their parts.
 */
static void measure_mss(const struct engine *e, struct tcp_conn *c, uint32_t bytes)
{
    if (bytes > c->rcv_mss) {
        uint32_t max = tcp_adv_mss(e, &c->s.remote);

        c->rcv_mss = (uint16_t)(bytes < max ? bytes : max);
    } else if (bytes == c->rcv_last && bytes >= RCV_MSS_MIN) {
        c->rcv_mss = (uint16_t)bytes;
    }
    c->rcv_last = (uint16_t)(bytes < UINT16_MAX ? bytes : UINT16_MAX);
}

/* The delay follows the distance between segments. */
static void measure_gap(const struct engine *e, struct tcp_conn *c)
{
    uint32_t min = e->cfg.delack_us;
    uint32_t gap = since_data_us(e, c);

    if (!c->ato_us) { /* The first data. */
        quick_start(c);
        c->ato_us = min;
    } else if (gap <= min / 2) {
        c->ato_us = c->ato_us / 2 + min / 2;
    } else if (gap < c->ato_us) {
        uint32_t ato = c->ato_us / 2 + gap;

        c->ato_us = ato < c->rto_us ? ato : c->rto_us;
    } else if (gap > c->rto_us) {
        quick_start(c);
    }
    c->data_rcvd_tick = (uint32_t)(e->now_us >> TCP_TICK_SHIFT);
}

static bool at_once(const struct engine *e, const struct tcp_conn *c)
{
    return c->rcv_nxt - c->rcv_wup > c->rcv_mss || (c->quick_acks && !(c->s.opts & SO_F_PINGPONG)) ||
           !e->cfg.delack_us;
}

/* A long delay is bounded by the round trip: the peer must not take it for a loss. */
static uint32_t delay_us(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t delay = c->ato_us;
    uint32_t max = DELAY_MAX_US;

    if (delay > e->cfg.delack_us && c->srtt8_us) {
        uint32_t rtt = c->srtt8_us / 8;

        if (rtt < e->cfg.delack_us)
            rtt = e->cfg.delack_us;
        if (rtt < max)
            max = rtt;
    }
    return delay < max ? delay : max;
}

static void ack_later(struct engine *e, struct tcp_conn *c)
{
    uint32_t delay = delay_us(e, c);

    if (c->delack_at_us) {
        /* One that is due within a quarter of the delay may as well go now. */
        if (c->delack_at_us <= e->now_us + delay / 4)
            c->flags |= TF_ACK_NOW;
        else if (e->now_us + delay < c->delack_at_us)
            c->delack_at_us = e->now_us + delay;
        return;
    }
    c->delack_at_us = e->now_us + delay;
    if (!tcp_timer_armed(e, c, c->delack_at_us))
        tcp_timer_arm(e, c);
}

void tcp_delack_data(struct engine *e, struct tcp_conn *c, uint32_t segment_bytes)
{
    if (segment_bytes)
        measure_mss(e, c, segment_bytes);
    measure_gap(e, c);
    if (at_once(e, c))
        c->flags |= TF_ACK_NOW;
    else
        ack_later(e, c);
}

void tcp_delack_answered(struct engine *e, struct tcp_conn *c)
{
    if (!(c->s.opts & SO_F_PINGPONG) && since_data_us(e, c) < c->ato_us)
        c->s.opts |= SO_F_PINGPONG;
}

void tcp_delack_due(struct engine *e, struct tcp_conn *c)
{
    c->delack_at_us = 0;
    if (c->s.opts & SO_F_PINGPONG) { /* The answer that was waited for did not come in time. */
        c->s.opts &= ~SO_F_PINGPONG;
        c->ato_us = e->cfg.delack_us;
    } else {
        c->ato_us = c->ato_us * 2 < c->rto_us ? c->ato_us * 2 : c->rto_us;
    }
    stat_inc(&e->stats, ST_TCP_DELAYED_ACKS);
    tcp_ack_now(e, c);
}

void tcp_delack_set(struct engine *e, struct tcp_conn *c, bool quick)
{
    if (!quick) {
        c->s.opts |= SO_F_PINGPONG;
        return;
    }
    c->s.opts &= ~SO_F_PINGPONG;
    if (c->state >= TCPS_ESTABLISHED && c->rcv_nxt != c->rcv_wup)
        tcp_ack_now(e, c);
}

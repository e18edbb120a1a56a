/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The acknowledgment part of a segment (RFC 9293 3.10.7.4 step 5).
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"
#include "daemon/engine/tcp_window.h"

#include <errno.h>

#define RENEGE_MIN_US 10000u

void tcp_window_update_input(struct tcp_conn *c, const struct tcp_seg *s)
{
    window_update(c, s->seq, s->ack, (uint32_t)s->wnd << (s->flags & TCP_SYN ? 0 : c->snd_wscale));
}

/* RFC 7323 4.1: a round trip by the echoed timestamp, good for what was sent again too. Milliseconds. */
static uint64_t ts_rtt(const struct engine *e, const struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t ms;

    if (!(c->flags & TF_TS) || !s->has_ts || !s->tsecr)
        return 0;
    ms = tcp_ts_now(e, c->tsoff) - s->tsecr;
    return ms < 1u << 24 ? (uint64_t)(ms ? ms : 1) * 1000 : 0;
}

void tcp_una_advance(struct engine *e, struct tcp_conn *c, uint32_t ack)
{
    uint32_t bytes = ack - c->snd_una;

    if (c->flags & TF_FIN_SENT && ack == c->snd_nxt) {
        bytes--;
        c->flags |= TF_FIN_ACKED;
    }
    tcp_tx_tune(e, c);
    c->snd_una = ack;
    c->s.tx.head += bytes;
    if (c->s.tx.flags & RING_NEXT)
        ring_passed(e, &c->s, &c->s.tx);
    if (c->flags & TF_ORPHAN)
        tcp_orphan_acked(e, bytes);
    c->probes = 0;
    c->first_unacked_us = e->now_us;
    if (c->flags & TF_ORPHAN &&
        c->state != TCPS_FIN_WAIT_2) /* Slow is not dead: the limit is on no progress. */
        c->keep_at_us = e->now_us + e->cfg.orphan_us;
    ENG_ASSERT(c->s.tx.head <= c->s.tx.tail);
    if (bytes) {
        neigh_confirm(e, &c->s.remote, e->now_us);
        sock_dirty_bits(e, &c->s, DIRTY_LINE | DIRTY_TX);
    }
    if (c->flags & TF_ORPHAN && c->s.tx.head == c->s.tx.tail)
        sock_region_put(e, &c->s, &c->s.tx);
}

/* RFC 2018 8: the peer acknowledged up to something that it had acknowledged selectively, and not that. It
 * was thrown away: don't wait long for the time-out that sends it again. */
static bool reneging(struct engine *e, struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);

    if (!f->sacked_runs || !(seg_at(e, f->seg_head)->flags & TXS_SACKED))
        return false;
    c->rto_mode = RTO_REXMIT;
    c->rto_at_us = e->now_us + (c->srtt8_us / 16 > RENEGE_MIN_US ? c->srtt8_us / 16 : RENEGE_MIN_US);
    tcp_timer_arm(e, c);
    return true;
}

/* `tlp`: a loss probe was to be judged before this ACK. */
static void after_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a,
                      bool tlp)
{
    if (!a->rtt_us && a->acked_bytes && a->retrans_acked)
        a->rtt_us = ts_rtt(e, c, s);
    if (a->rtt_us) { /* RFC 6298 5, Karn: the backed-off time-out stays until there is a valid sample. */
        tcp_rtt_sample(e, c, a->rtt_us);
        c->backoff = 0;
    }
    if (tlp && seq_ge(c->snd_una, flight_of(e, c)->tlp_end)) {
        /* The probe spoiled the sample. Without one for ever the path would be probed too early for ever: the
         * next flight is sent without a probe, and measured. */
        if (!a->rtt_us && !c->backoff)
            c->backoff = 1;
    }
    if (reneging(e, c) || (c->rto_mode == RTO_REORDER && tcp_flight(c)))
        return;
    /* RFC 6298 5.3: when new data is acknowledged. A SACK ends the wait for a loss probe. */
    if (a->acked_bytes || (a->sacked_bytes && c->rto_mode == RTO_TLP) || !tcp_flight(c))
        tcp_rto_restart(e, c);
}

/* RFC 8985 6.2 step 2, RFC 3522: when what caused this ACK was sent, by our clock. */
static void take_echo(const struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a)
{
    a->has_ecr = c->flags & TF_TS && s->has_ts && s->tsecr;
    a->ecr_ms = s->tsecr - c->tsoff;
}

/* An ACK that was overtaken by another still says what has arrived (RFC 2018 4). */
static void old_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    struct tcp_acked a = {0};
    struct tcp_seg old = *s;

    if (!s->sack_count)
        return;
    old.len = 1;                    /* no duplicate ACK */
    old.flags &= (uint8_t)~TCP_ECE; /* What it echoes may be long answered. */
    take_echo(c, s, &a);
    tcp_recovery_sack(e, c, s, &a);
    tcp_recovery_ack(e, c, &old, &a, tcp_flight(c));
    after_ack(e, c, s, &a, false);
    tcp_flight_settle(e, c);
    if (flight_of(e, c)->lost_bytes || a.sacked_bytes)
        tcp_output_schedule(e, c);
}

bool tcp_ack_input(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t prior_flight = tcp_flight(c);
    uint32_t prior_wnd = c->snd_wnd;
    struct tcp_acked a = {0};
    struct tcp_seg dup = *s;
    bool tlp = flight_of(e, c)->tlp_out;

    if (seq_gt(s->ack, c->snd_nxt)) {
        tcp_challenge(e, c);
        return false;
    }
    if (seq_lt(s->ack, c->snd_una)) {
        /* RFC 5961 5.2: older than any window the peer can have seen. */
        if (seq_lt(s->ack, c->snd_una - c->snd_wnd_max)) {
            tcp_challenge(e, c);
            return false;
        }
        old_ack(e, c, s);
        return true;
    }
    take_echo(c, s, &a);
    if (has_path(c))
        rate_ack_begin(e, c);
    tcp_recovery_sack(e, c, s, &a);
    if (s->ack != c->snd_una) {
        tcp_recovery_cum(e, c, s->ack, &a);
        tcp_una_advance(e, c, s->ack);
    }
    tcp_window_update_input(c, s);
    c->probes = 0;
    /* A window update is no duplicate ACK (RFC 5681 2). */
    if (c->snd_wnd != prior_wnd)
        dup.len = 1;
    tcp_recovery_ack(e, c, &dup, &a, prior_flight);
    after_ack(e, c, s, &a, tlp);
    if (c->rto_mode == RTO_PERSIST && c->snd_wnd) {
        c->rto_mode = RTO_OFF;
        c->rto_at_us = 0;
        c->backoff = 0;
    }
    tcp_flight_settle(e, c);
    if (c->s.tx.tail == c->s.tx.head && !tcp_flight(c))
        tally_limit_set(e, c, LIMIT_NONE);
    if (flight_of(e, c)->lost_bytes || c->s.tx.tail - c->s.tx.head > tcp_flight(c) ||
        (c->flags & (TF_FIN_QUEUED | TF_FIN_SENT)) == TF_FIN_QUEUED)
        tcp_output_schedule(e, c);
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: what to do about a loss once it is known. PRR (RFC 9937) for how fast to send, F-RTO (RFC 5682),
 * Eifel (RFC 3522) and D-SACK (RFC 3708) for finding out that nothing was lost after all.
 *
 * Peers without SACK: each duplicate ACK stands for one segment that arrived (RFC 6582), counted in
 * sacked_bytes, so that the pipe and limited transmit (RFC 3042) work the same way.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

#define DUPTHRESH       3u /* RFC 5681 */
/* The recovery point is kept this close behind snd_una, far from where sequence numbers wrap. */
#define RECOVER_AGE_MAX (1u << 30)

/* The first MSS of what is in flight is lost (no SACK: nothing more precise is known). */
static void mark_head_lost(struct engine *e, struct tcp_conn *c, struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);
    const struct tx_seg *t;

    if (!f->seg_count)
        return;
    t = seg_at(e, f->seg_head);
    if (t->flags & TXS_LOST)
        return;
    if (seg_len(t) > c->mss && !(t->flags & TXS_PROBE))
        (void)tcp_seg_split(e, c, f->seg_head, t->start + c->mss); /* Else the whole is sent again. */
    tcp_seg_lost(e, f, f->seg_head, a);
}

/* ---- Undo ------------------------------------------------------------------------------------------- */

static void undo_save(struct engine *e, const struct tcp_conn *c, struct tx_flight *f)
{
    f->undo_marker = c->snd_una;
    f->undo_cwnd = c->cwnd;
    f->undo_ssthresh = c->ssthresh;
    f->undo_retrans = f->retrans_bytes; /* A loss probe may be under way. */
    f->retrans_us = f->retrans_bytes ? e->now_us : 0;
}

/* RFC 3522 3.2: the ACK that moved on was caused by something sent before the first retransmission. */
static bool eifel(const struct tx_flight *f, const struct tcp_acked *a)
{
    return a->has_ecr && a->acked_bytes && f->retrans_us &&
           (int32_t)(a->ecr_ms - (uint32_t)(f->retrans_us / 1000)) < 0;
}

/* RFC 3708: all that was sent again was reported as duplicate. */
static bool all_duplicates(const struct tx_flight *f)
{
    return f->retrans_us && !f->undo_retrans;
}

/* Nothing was lost: back to the window of before, and what is still marked is only late. */
static void undo(struct engine *e, struct tcp_conn *c, struct tx_flight *f, enum stat why)
{
    if (c->cwnd < f->undo_cwnd)
        c->cwnd = f->undo_cwnd;
    if (c->ssthresh < f->undo_ssthresh)
        c->ssthresh = f->undo_ssthresh;
    f->undo_cwnd = 0;
    f->frto = FRTO_OFF;
    f->dup_acks = 0;
    c->ca_state = CA_OPEN;
    cc_by_id(c->o.cc)->on_undo(e, c);
    while (f->lost.tail != NIL)
        tcp_seg_mark(e, f, f->lost.tail, 0);
    stat_inc(&e->stats, why);
}

/* Can the last reduction be taken back now? */
static void try_undo(struct engine *e, struct tcp_conn *c, struct tx_flight *f, const struct tcp_acked *a)
{
    bool by_time = c->ca_state != CA_OPEN && eifel(f, a);

    if (!f->undo_cwnd)
        return;
    if (a->dsack && all_duplicates(f))
        undo(e, c, f, ST_TCP_DSACK_UNDO);
    else if (by_time && c->ca_state == CA_LOSS)
        undo(e, c, f, ST_TCP_LOSS_UNDO);
    else if (by_time)
        undo(e, c, f, seq_ge(c->snd_una, f->recover) ? ST_TCP_FULL_UNDO : ST_TCP_PARTIAL_UNDO);
}

/* RFC 5682 3.1, and with SACK as in its section 3: was the time-out spurious? */
static void frto_step(struct engine *e, struct tcp_conn *c, struct tx_flight *f, const struct tcp_acked *a,
                      bool dup)
{
    if (f->frto == FRTO_OFF)
        return;
    if (a->orig_acked && f->undo_cwnd) { /* Step 3.b: what was not sent again arrived. */
        stat_inc(&e->stats, ST_TCP_SPURIOUS_RTOS);
        undo(e, c, f, ST_TCP_LOSS_UNDO);
    } else if (a->acked_bytes && f->frto == FRTO_HEAD) {
        f->frto = FRTO_NEW; /* Step 2.b: tcp_output() sends new data, if there is any. */
    } else if (dup || a->sacked_bytes) {
        f->frto = FRTO_OFF; /* Steps 2.a and 3.a: the loss is real. */
    }
}

/* ---- Entering and leaving --------------------------------------------------------------------------- */

void tcp_prr_begin(const struct tcp_conn *c, struct tx_flight *f, const struct tcp_acked *a)
{
    /* RFC 9937 6: what this ACK delivered counts as sent before; what was SACKed earlier doesn't. */
    f->recover_fs = tcp_flight(c) - f->sacked_bytes + a->delivered_bytes;
    f->prr_delivered = f->prr_out = 0;
}

static void enter_recovery(struct engine *e, struct tcp_conn *c, const struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);

    undo_save(e, c, f);
    if (c->ca_state == CA_CWR) { /* Reduced already in this window (RFC 3168 6.1.2), and not for nothing. */
        f->undo_cwnd = 0;
    } else {
        c->ssthresh = cc_by_id(c->o.cc)->ssthresh(e, c);
        tcp_ecn_reduced(c);
    }
    tcp_prr_begin(c, f, a);
    f->recover = c->snd_nxt;
    c->ca_state = CA_RECOVERY;
    stat_inc(&e->stats, ST_TCP_FAST_RETRANS);
}

static void leave_recovery(struct tcp_conn *c, struct tx_flight *f)
{
    /* RFC 5681 3.2 step 6; PRR may have kept it below. BBR has no threshold. */
    if (c->ca_state == CA_RECOVERY && !cc_by_id(c->o.cc)->control)
        c->cwnd = c->ssthresh;
    c->ca_state = CA_OPEN;
    tcp_rack_recovered(c);
    f->frto = FRTO_OFF;
    f->dup_acks = 0;
    if (!(c->flags & TF_SACK))
        f->sacked_bytes = 0;
}

/* The ACK of something sent after the reduction: its CWR has arrived. */
static void leave_cwr(struct tcp_conn *c)
{
    if (!cc_by_id(c->o.cc)->control)
        c->cwnd = c->ssthresh;
    c->ca_state = CA_OPEN;
}

/* RFC 9937 6: how much may be sent for this ACK. `safe`: it advanced and no further loss showed. */
static void prr_update(struct engine *e, struct tcp_conn *c, uint32_t delivered, bool safe, bool must)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t pipe = tcp_pipe(e, c);
    int64_t count;

    f->prr_delivered += delivered;
    if (pipe > c->ssthresh) {
        uint32_t fs = f->recover_fs ? f->recover_fs : 1;

        count = (int64_t)(((uint64_t)f->prr_delivered * c->ssthresh + fs - 1) / fs) - f->prr_out;
    } else {
        count = (int64_t)f->prr_delivered - f->prr_out;
        if (count < delivered)
            count = delivered;
        if (safe)
            count += c->mss;
        if (count > (int64_t)c->ssthresh - pipe)
            count = (int64_t)c->ssthresh - pipe;
    }
    /* The first retransmission always goes (RFC 6675 5 step 4.3). */
    if ((must || f->prr_out == 0) && count < c->mss)
        count = c->mss;
    if (count < 0)
        count = 0;
    c->cwnd = pipe + (uint32_t)count;
    if (c->cwnd < c->mss)
        c->cwnd = c->mss;
}

/* ---- An ACK ----------------------------------------------------------------------------------------- */

/* Duplicate ACKs of a peer without SACK (RFC 5681 2, RFC 6582). True: this is one. */
static bool count_dup_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a,
                          uint32_t prior_flight)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t max, known;

    if (a->acked_bytes) {
        /* RFC 9937 6: each duplicate ACK has told of one segment of these. */
        known = a->delivered_bytes < f->dup_bytes ? a->delivered_bytes : f->dup_bytes;
        a->delivered_bytes -= known;
        f->dup_bytes = 0;
        f->dup_acks = 0;
        f->sacked_bytes = 0;
        if (c->ca_state == CA_RECOVERY && seq_lt(c->snd_una, f->recover))
            mark_head_lost(e, c, a); /* Partial ACK: the next hole. */
        return false;
    }
    if (s->len || !prior_flight || s->flags & (TCP_SYN | TCP_FIN) || s->ack != c->snd_una)
        return false;
    f->dup_acks++;
    max = tcp_flight(c) - f->lost_bytes;
    f->sacked_bytes = f->dup_acks * c->mss < max ? f->dup_acks * c->mss : max;
    if (f->dup_bytes + c->mss <= tcp_flight(c)) { /* No more than was sent: ACKs can be made from nothing. */
        a->delivered_bytes += c->mss;
        f->dup_bytes += c->mss;
    }
    if (f->dup_acks >= DUPTHRESH &&
        (c->ca_state == CA_CWR || (c->ca_state == CA_OPEN && seq_ge(c->snd_una, f->recover))))
        mark_head_lost(e, c, a);
    return true;
}

static void set_window(struct engine *e, struct tcp_conn *c, const struct tcp_acked *a)
{
    /* RFC 6582 3.2 step 3: without SACK, a partial ACK sends the next hole at once. */
    bool partial = !(c->flags & TF_SACK) && a->acked_bytes && a->lost_bytes;
    struct cc_ack k = {.now_us = e->now_us, .acked = a->acked_bytes, .rtt_us = (uint32_t)a->rtt_us};

    if (has_path(c))
        rate_ack_end(e, c, a->rtt_us);
    if (cc_by_id(c->o.cc)->control) { /* It governs always, others but during recovery. */
        if (has_path(c))              /* Else nothing was in flight. */
            cc_by_id(c->o.cc)->control(e, c);
        return;
    }
    /* A filled hole acknowledges at once what was delivered long ago: no reason for a burst in slow start. */
    if (c->ca_state == CA_LOSS || c->cwnd < c->ssthresh)
        k.acked = a->delivered_bytes;
    switch ((enum ca_state)c->ca_state) {
    case CA_CWR:
        if (!tcp_flight(c)) {
            c->cwnd = c->ssthresh;
            break;
        }
        __attribute__((fallthrough));
    case CA_RECOVERY:
        if (a->delivered_bytes || a->lost_bytes)
            prr_update(e, c, a->delivered_bytes, a->acked_bytes && !a->lost_bytes, partial);
        break;
    case CA_LOSS:
        if (a->acked_bytes && k.acked)
            cc_by_id(c->o.cc)->on_ack(c, &k);
        break;
    case CA_OPEN:
        if (a->acked_bytes && k.acked && tcp_window_used(c, flight_of(e, c)))
            cc_by_id(c->o.cc)->on_ack(c, &k);
        break;
    }
}

void tcp_recovery_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a,
                      uint32_t prior_flight)
{
    struct tx_flight *f;
    bool dup = false;

    if (c->flight == NIL)
        return; /* Nothing was in flight. */
    f = flight_mut(e, c);
    if (!(c->flags & TF_SACK))
        dup = count_dup_ack(e, c, s, a, prior_flight);
    tally_acked(e, c, f, a->retrans_acked);
    if (a->late)
        tally_reorder(e, c, a->late);
    if (!(c->flags & TF_SACK) && a->retrans_acked)
        a->orig_acked = false; /* What moved it on can't be told. */
    if (c->ca_state == CA_LOSS)
        frto_step(e, c, f, a, dup);
    try_undo(e, c, f, a);
    if (c->ca_state == CA_CWR && seq_gt(c->snd_una, f->recover))
        leave_cwr(c);
    else if (c->ca_state > CA_CWR && seq_ge(c->snd_una, f->recover))
        leave_recovery(c, f);
    if (seq_gt(c->snd_una, f->recover + RECOVER_AGE_MAX))
        f->recover = c->snd_una - 1;
    if (c->flags & TF_SACK && (f->sacked_bytes || f->lost_bytes))
        tcp_rack_detect(e, c, a);
    tcp_tlp_ack(e, c, s, a);
    if (c->ca_state <= CA_CWR && tcp_seg_next_lost(f) != NIL && !tcp_probe_lost(e, c))
        enter_recovery(e, c, a);
    if (s->flags & TCP_ECE && c->ecn & ECN_SEND)
        tcp_ecn_echo(e, c, a);
    set_window(e, c, a);
    /* The mark holds for the round trip in which it was set. */
    if (seq_ge(c->snd_una, c->cwnd_full_end))
        c->flags &= ~TF_CWND_FULL;
}

/* ---- Time-outs -------------------------------------------------------------------------------------- */

/* RFC 2018 8: a head that was acknowledged selectively and not cumulatively has been thrown away, and with it
 * all else may have been. */
static void forget_sacks(struct engine *e, struct tcp_conn *c, struct tx_flight *f)
{
    for (uint32_t i = f->seg_head; i != NIL; i = seg_at(e, i)->next)
        if (seg_at(e, i)->flags & TXS_SACKED)
            tcp_seg_mark(e, f, i, TXS_LOST);
    f->seen_count = 0;
    f->fack = c->snd_una;
    stat_inc(&e->stats, ST_TCP_SACK_RENEGING);
}

/* RFC 8985 6.3: the head is lost, and what was sent long enough ago. Without SACK: all (RFC 6298 5.4). */
static void mark_losses(struct engine *e, struct tcp_conn *c, struct tx_flight *f)
{
    uint64_t wnd = f->rack_rtt_us + tcp_rack_window(e, c);

    for (uint32_t i = f->seg_head; i != NIL; i = seg_at(e, i)->next) {
        const struct tx_seg *t = seg_at(e, i);

        if (t->flags & TXS_SACKED)
            continue;
        if (i != f->seg_head && c->flags & TF_SACK && t->xmit_us + wnd > e->now_us)
            continue;
        if (has_path(c) && (t->flags & (TXS_LOST | TXS_RETRANS)) != TXS_LOST)
            rate_lost(e, c, i);
        tcp_seg_mark(e, f, i, TXS_LOST);
    }
}

void tcp_recovery_timeout(struct engine *e, struct tcp_conn *c)
{
    struct tx_flight *f = flight_mut(e, c);
    bool reduce = c->ca_state == CA_OPEN || (c->ca_state == CA_LOSS && seq_gt(c->snd_una, f->undo_marker));

    if (seg_at(e, f->seg_head)->flags & TXS_SACKED)
        forget_sacks(e, c, f);
    if (!(c->flags & TF_SACK))
        f->sacked_bytes = 0;
    mark_losses(e, c, f);
    if (reduce) { /* Once a window: RFC 5681 3.1 and 4.3. */
        undo_save(e, c, f);
        c->ssthresh = cc_by_id(c->o.cc)->ssthresh(e, c);
        tcp_ecn_reduced(c);
    }
    cc_by_id(c->o.cc)->on_rto(e, c);
    /* RFC 5682 2.1 step 1: not when the time-out ends a fast recovery, nor when it interrupts the repair
     * after another: a peer that drops what lies beyond the hole would have us send new data for ever. */
    f->frto = c->ca_state <= CA_CWR || (c->ca_state == CA_LOSS && c->probes > 1) ? FRTO_HEAD : FRTO_OFF;
    f->recover = c->snd_nxt;
    f->dup_acks = 0;
    f->dup_bytes = 0;
    f->tlp_out = false;
    c->ca_state = CA_LOSS;
    c->cwnd = tcp_pipe(e, c) + c->mss; /* RFC 5681 3.1: the loss window, beside what is still on its way */
}

void tcp_recovery_mtu(struct engine *e, struct tcp_conn *c)
{
    struct tcp_acked a = {0};

    for (uint32_t i = flight_of(e, c)->seg_head; i != NIL; i = seg_at(e, i)->next)
        if (!(seg_at(e, i)->flags & TXS_SACKED))
            tcp_seg_lost(e, flight_mut(e, c), i, &a);
    tcp_output_schedule(e, c);
}

void tcp_recovery_reorder_timeout(struct engine *e, struct tcp_conn *c)
{
    struct tcp_acked a = {0};

    c->rto_mode = RTO_OFF;
    tcp_rack_detect(e, c, &a);
    if (a.lost_bytes && c->ca_state <= CA_CWR && !tcp_probe_lost(e, c))
        enter_recovery(e, c, &a);
    if (a.lost_bytes && c->ca_state == CA_RECOVERY && !cc_by_id(c->o.cc)->control)
        prr_update(e, c, 0, false, false);
    if (c->rto_mode == RTO_OFF)
        tcp_rto_restart(e, c);
    tcp_output_schedule(e, c);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loss detection and recovery: SACK (RFC 2018, 2883, 6675's pipe), RACK
 * (RFC 8985) for what is lost, PRR (RFC 6937) for how fast to send during recovery, undo by D-SACK.
 *
 * Peers without SACK: each duplicate ACK stands for one segment that arrived (RFC 6582), counted in
 * sacked_bytes, so that the pipe and limited transmit (RFC 3042) work the same way.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

#define DUPTHRESH 3u /* RFC 5681, RFC 8985 6.2 */

static void mark_lost(struct engine *e, struct tcp_conn *c, struct tx_seg *t, struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);

    if (t->flags & TXS_RETRANS) {
        t->flags &= (uint16_t)~TXS_RETRANS;
        f->retrans_bytes -= seg_len(t);
        stat_inc(&e->stats, ST_TCP_LOST_RETRANSMIT);
    }
    if (!(t->flags & TXS_LOST)) {
        t->flags |= TXS_LOST;
        f->lost_bytes += seg_len(t);
    }
    if (a)
        a->lost_bytes += seg_len(t);
}

/* The segment leaves the network: take its bytes from the counts that hold them. */
static void uncount(struct tx_flight *f, const struct tx_seg *t, uint32_t len)
{
    if (t->flags & TXS_SACKED)
        f->sacked_bytes -= len;
    if (t->flags & TXS_LOST)
        f->lost_bytes -= len;
    if (t->flags & TXS_RETRANS)
        f->retrans_bytes -= len;
}

/* ---- Acknowledgments --------------------------------------------------------------------------------- */

/* RFC 8985 6.2 steps 1 and 2: remember the most recently sent segment that was delivered. */
static void rack_update(struct engine *e, struct tcp_conn *c, const struct tx_seg *t, struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);
    uint64_t rtt = e->now_us - t->xmit_us;

    if (t->retrans) {
        a->retrans_acked = true;
        /* Acknowledged sooner than any round trip: the original, not the retransmission. */
        if (rtt < c->min_rtt_us)
            return;
    } else {
        a->rtt_us = rtt ? rtt : 1;
    }
    if (t->xmit_us > f->rack_xmit_us || (t->xmit_us == f->rack_xmit_us && seq_gt(t->end, f->rack_end))) {
        f->rack_xmit_us = t->xmit_us;
        f->rack_end = t->end;
        f->rack_rtt_us = rtt > UINT32_MAX ? UINT32_MAX : (uint32_t)rtt;
    }
}

static void sack_seg(struct engine *e, struct tcp_conn *c, struct tx_seg *t, struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t len = seg_len(t);

    if (t->flags & TXS_SACKED)
        return;
    rack_update(e, c, t, a);
    if (!t->retrans && seq_lt(t->end, f->high_sacked))
        c->flags |= TF_REORDER; /* RFC 8985 6.2 step 3: delivered after something sent later */
    uncount(f, t, len);
    t->flags &= (uint16_t) ~(TXS_LOST | TXS_RETRANS);
    t->flags |= TXS_SACKED;
    f->sacked_bytes += len;
    c->delivered += len;
    a->sacked_bytes += len;
    f->high_sacked = seq_max(f->high_sacked, t->end);
}

/* Where inside `t` a block's edge may cut: at a multiple of the MSS from its start, so that what is sent
 * again later are whole segments. 0: nowhere. */
static uint32_t cut_point(const struct tcp_conn *c, const struct tx_seg *t, uint32_t edge, bool up)
{
    uint32_t off = edge - t->start;

    off = up ? (off + c->mss - 1) / c->mss * c->mss : off / c->mss * c->mss;
    return off && off < seg_len(t) ? t->start + off : 0;
}

static void sack_block(struct engine *e, struct tcp_conn *c, uint32_t start, uint32_t end,
                       struct tcp_acked *a)
{
    for (uint32_t i = flight_of(e, c)->seg_head; i != NIL; i = seg_at(e, i)->next) {
        struct tx_seg *t = seg_at(e, i);

        if (seq_ge(t->start, end))
            return;
        if (seq_le(t->end, start) || t->flags & TXS_SACKED)
            continue;
        if (seq_lt(t->start, start)) {
            uint32_t at = cut_point(c, t, start, true);

            /* Split: the front stays, the loop goes on with the rest. */
            if (at && seq_lt(at, t->end) && !tcp_seg_split(e, c, i, at))
                return;
            continue;
        }
        if (seq_gt(t->end, end)) {
            uint32_t at = cut_point(c, t, end, false);

            if (!at || !tcp_seg_split(e, c, i, at))
                return;
            t = seg_at(e, i);
        }
        sack_seg(e, c, t, a);
    }
}

/* RFC 2883 4: the first block reports a duplicate if it lies below the ACK or inside the second block. */
static bool is_dsack(const struct tcp_conn *c, const struct tcp_seg *s)
{
    const struct tcp_sack_block *b = s->sack;

    if (seq_le(b[0].end, s->ack))
        return seq_gt(b[0].end, c->snd_una - c->snd_wnd_max - 1);
    return s->sack_count > 1 && seq_ge(b[0].start, b[1].start) && seq_le(b[0].end, b[1].end);
}

void tcp_recovery_sack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a)
{
    unsigned first = 0;

    if (!(c->flags & TF_SACK) || !s->sack_count || c->flight == NIL)
        return;
    if (is_dsack(c, s)) {
        a->dsack = true;
        first = 1;
        if (flight_of(e, c)->undo_retrans)
            flight_mut(e, c)->undo_retrans--;
    }
    for (unsigned i = first; i < s->sack_count; i++) {
        uint32_t start = s->sack[i].start;
        uint32_t end = s->sack[i].end;

        if (seq_ge(start, end) || seq_gt(end, c->snd_nxt) || seq_lt(start, s->ack) ||
            seq_lt(start, c->snd_una))
            continue; /* Old, or about something that was never sent. */
        sack_block(e, c, start, end, a);
    }
}

void tcp_recovery_cum(struct engine *e, struct tcp_conn *c, uint32_t ack, struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);

    while (f->seg_head != NIL) {
        struct tx_seg *t = seg_at(e, f->seg_head);
        uint32_t len;

        if (seq_le(ack, t->start))
            break;
        if (seq_lt(ack, t->end)) {
            len = ack - t->start;
            if (!(t->flags & TXS_SACKED))
                c->delivered += len;
            uncount(f, t, len);
            t->start = ack;
            a->acked_bytes += len;
            break;
        }
        len = seg_len(t);
        if (!(t->flags & TXS_SACKED)) {
            rack_update(e, c, t, a);
            if (!t->retrans && c->flags & TF_SACK && seq_lt(t->end, f->high_sacked))
                c->flags |= TF_REORDER;
            c->delivered += len;
        }
        uncount(f, t, len);
        a->acked_bytes += len;
        tcp_seg_pop(e, c);
    }
    if (seq_lt(f->high_sacked, ack))
        f->high_sacked = ack;
}

/* ---- Loss detection ---------------------------------------------------------------------------------- */

/* RFC 8985 6.2 step 4: how much later than a delivered segment another may still arrive. */
static uint64_t reorder_window(const struct tcp_conn *c, const struct tx_flight *f)
{
    uint64_t wnd;

    if (!(c->flags & TF_REORDER) &&
        (c->ca_state != CA_OPEN || f->sacked_bytes >= (DUPTHRESH - 1) * (uint32_t)c->mss + 1))
        return 0;
    wnd = (uint64_t)c->reo_wnd_mult * (c->min_rtt_us == UINT32_MAX ? 1000 : c->min_rtt_us) / 4;
    return wnd > c->srtt8_us / 8 ? c->srtt8_us / 8 : wnd;
}

/* RFC 8985 6.2 step 5. Arms the reordering timer when something may yet turn out to be lost. */
static void rack_detect(struct engine *e, struct tcp_conn *c, struct tcp_acked *a)
{
    const struct tx_flight *f = flight_of(e, c);
    uint64_t wnd = reorder_window(c, f);
    uint64_t timeout = 0;

    if (!f->rack_xmit_us)
        return;
    for (uint32_t i = f->seg_head; i != NIL; i = seg_at(e, i)->next) {
        struct tx_seg *t = seg_at(e, i);
        uint64_t due;

        if (t->flags & TXS_SACKED || (t->flags & (TXS_LOST | TXS_RETRANS)) == TXS_LOST)
            continue;
        if (t->xmit_us > f->rack_xmit_us || (t->xmit_us == f->rack_xmit_us && seq_ge(t->end, f->rack_end)))
            continue;
        due = t->xmit_us + f->rack_rtt_us + wnd;
        if (due <= e->now_us)
            mark_lost(e, c, t, a);
        else if (due - e->now_us > timeout)
            timeout = due - e->now_us;
    }
    if (timeout) {
        c->rto_mode = RTO_REORDER;
        c->rto_at_us = e->now_us + timeout;
        tcp_timer_arm(e, c);
    }
}

/* The first MSS of what is in flight is lost (no SACK: nothing more precise is known). */
static void mark_head_lost(struct engine *e, struct tcp_conn *c, struct tcp_acked *a)
{
    const struct tx_flight *f = flight_of(e, c);
    struct tx_seg *t;

    if (f->seg_head == NIL)
        return;
    t = seg_at(e, f->seg_head);
    if (t->flags & TXS_LOST)
        return;
    if (seg_len(t) > c->mss)
        (void)tcp_seg_split(e, c, f->seg_head, t->start + c->mss); /* Else the whole is sent again. */
    mark_lost(e, c, seg_at(e, f->seg_head), a);
}

/* ---- Recovery ---------------------------------------------------------------------------------------- */

static void undo_save(const struct tcp_conn *c, struct tx_flight *f)
{
    f->undo_marker = c->snd_una;
    f->undo_cwnd = c->cwnd;
    f->undo_ssthresh = c->ssthresh;
    f->undo_retrans = 0;
}

static void enter_recovery(struct engine *e, struct tcp_conn *c)
{
    struct tx_flight *f = flight_mut(e, c);

    undo_save(c, f);
    f->recover = c->snd_nxt;
    f->recover_fs = tcp_flight(c);
    f->prr_delivered = f->prr_out = 0;
    c->ssthresh = cc_by_id(c->o.cc)->ssthresh(c, e->now_us);
    c->ca_state = CA_RECOVERY;
    stat_inc(&e->stats, ST_TCP_FAST_RETRANS);
}

static void leave_recovery(struct tcp_conn *c, struct tx_flight *f)
{
    if (c->ca_state == CA_RECOVERY && c->cwnd > c->ssthresh)
        c->cwnd = c->ssthresh;
    c->ca_state = CA_OPEN;
    f->dup_acks = 0;
    if (!(c->flags & TF_SACK))
        f->sacked_bytes = 0;
}

/* RFC 6937 3: how much may be sent for this ACK. `safe`: it advanced and no further loss showed. */
static void prr_update(struct engine *e, struct tcp_conn *c, uint32_t delivered, bool safe)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t pipe = tcp_pipe(e, c);
    int64_t count;

    f->prr_delivered += delivered;
    if (pipe > c->ssthresh) {
        count = (int64_t)(((uint64_t)f->prr_delivered * c->ssthresh + f->recover_fs - 1) /
                          (f->recover_fs ? f->recover_fs : 1)) -
                f->prr_out;
    } else {
        int64_t limit = (int64_t)f->prr_delivered - f->prr_out;

        if (safe && limit < delivered)
            limit = delivered;
        if (safe)
            limit += c->mss;
        count = (int64_t)c->ssthresh - pipe;
        if (count > limit)
            count = limit;
    }
    /* The first retransmission always goes (RFC 6675 5 step 4.3). */
    if (f->prr_out == 0 && count < c->mss)
        count = c->mss;
    if (count < 0)
        count = 0;
    c->cwnd = pipe + (uint32_t)count;
    if (c->cwnd < c->mss)
        c->cwnd = c->mss;
}

/* All that was sent again had arrived: take the reduction back (RFC 3708's use of D-SACK). */
static bool try_undo(struct tcp_conn *c, struct tx_flight *f, const struct tcp_acked *a)
{
    if (!a->dsack || !f->undo_cwnd || f->undo_retrans)
        return false;
    if (c->cwnd < f->undo_cwnd)
        c->cwnd = f->undo_cwnd;
    c->ssthresh = f->undo_ssthresh;
    f->undo_cwnd = 0;
    cc_by_id(c->o.cc)->on_undo(c);
    if (c->reo_wnd_mult < 16)
        c->reo_wnd_mult++; /* RFC 8985 6.2 step 4: adapt to the reordering that fooled us */
    return true;
}

/* Duplicate ACKs of a peer without SACK (RFC 5681 2, RFC 6582). */
static void count_dup_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a,
                          uint32_t prior_flight)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t max;

    if (a->acked_bytes) {
        f->dup_acks = 0;
        f->sacked_bytes = 0;
        if (c->ca_state == CA_RECOVERY && seq_lt(c->snd_una, f->recover))
            mark_head_lost(e, c, a); /* Partial ACK: the next hole. */
        return;
    }
    if (s->len || !prior_flight || s->flags & (TCP_SYN | TCP_FIN) || s->ack != c->snd_una)
        return;
    f->dup_acks++;
    max = tcp_flight(c) - f->lost_bytes;
    f->sacked_bytes = f->dup_acks * c->mss < max ? f->dup_acks * c->mss : max;
    a->sacked_bytes = c->mss;
    if (f->dup_acks >= DUPTHRESH && c->ca_state == CA_OPEN && seq_ge(c->snd_una, f->recover))
        mark_head_lost(e, c, a);
}

void tcp_recovery_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a,
                      uint32_t prior_flight)
{
    const struct cc_ops *cc = cc_by_id(c->o.cc);
    struct tx_flight *f;
    uint32_t delivered;

    if (c->flight == NIL)
        return; /* Nothing was in flight. */
    f = flight_mut(e, c);
    if (!(c->flags & TF_SACK))
        count_dup_ack(e, c, s, a, prior_flight);
    else if (f->sacked_bytes || f->lost_bytes || f->retrans_bytes)
        rack_detect(e, c, a);
    delivered = a->acked_bytes + a->sacked_bytes;
    if (c->ca_state != CA_OPEN && seq_ge(c->snd_una, f->recover))
        leave_recovery(c, f);
    if (try_undo(c, f, a) && c->ca_state == CA_RECOVERY && !f->lost_bytes)
        leave_recovery(c, f);
    if (c->ca_state == CA_OPEN && f->lost_bytes && tcp_seg_next_lost(e, c) != NIL)
        enter_recovery(e, c);
    switch ((enum ca_state)c->ca_state) {
    case CA_RECOVERY:
        prr_update(e, c, delivered, a->acked_bytes && !a->lost_bytes);
        break;
    case CA_OPEN:
    case CA_LOSS:
        if (a->acked_bytes && (c->flags & TF_CWND_FULL || c->ca_state == CA_LOSS))
            cc->on_ack(c, &(struct cc_ack){
                              .now_us = e->now_us, .acked = a->acked_bytes, .rtt_us = (uint32_t)a->rtt_us});
        break;
    }
    /* The mark holds for the round trip in which it was set. */
    if (seq_ge(c->snd_una, c->cwnd_full_end))
        c->flags &= ~TF_CWND_FULL;
}

/* RFC 6298 5.5 to 5.7 and RFC 5681 3.1: everything is to be sent again, one segment at first. */
void tcp_recovery_timeout(struct engine *e, struct tcp_conn *c)
{
    struct tx_flight *f = flight_mut(e, c);
    bool reneged = f->seg_head != NIL && seg_at(e, f->seg_head)->flags & TXS_SACKED;

    if (c->ca_state != CA_LOSS || seq_gt(c->snd_una, f->undo_marker)) {
        uint32_t ssthresh = cc_by_id(c->o.cc)->ssthresh(c, e->now_us);

        undo_save(c, f);
        c->ssthresh = ssthresh;
    }
    cc_by_id(c->o.cc)->on_rto(c);
    if (!(c->flags & TF_SACK))
        f->sacked_bytes = 0;
    f->lost_bytes = f->retrans_bytes = 0;
    for (uint32_t i = f->seg_head; i != NIL; i = seg_at(e, i)->next) {
        struct tx_seg *t = seg_at(e, i);

        if (t->flags & TXS_SACKED) {
            if (!reneged)
                continue;
            /* RFC 2018 8: the peer threw away what it had acknowledged selectively. */
            t->flags &= (uint16_t)~TXS_SACKED;
            f->sacked_bytes -= seg_len(t);
        }
        t->flags &= (uint16_t)~TXS_RETRANS;
        t->flags |= TXS_LOST;
        f->lost_bytes += seg_len(t);
    }
    f->recover = c->snd_nxt;
    c->ca_state = CA_LOSS;
    c->cwnd = c->mss;
    f->dup_acks = 0;
    f->tlp_end = 0;
}

void tcp_recovery_mtu(struct engine *e, struct tcp_conn *c)
{
    for (uint32_t i = flight_of(e, c)->seg_head; i != NIL; i = seg_at(e, i)->next)
        if (!(seg_at(e, i)->flags & TXS_SACKED))
            mark_lost(e, c, seg_at(e, i), NULL);
    tcp_output_schedule(e, c);
}

void tcp_recovery_reorder_timeout(struct engine *e, struct tcp_conn *c)
{
    struct tcp_acked a = {0};

    c->rto_mode = RTO_OFF;
    rack_detect(e, c, &a);
    if (a.lost_bytes && c->ca_state == CA_OPEN)
        enter_recovery(e, c);
    if (a.lost_bytes && c->ca_state == CA_RECOVERY)
        prr_update(e, c, 0, false);
    if (c->rto_mode == RTO_OFF)
        tcp_rto_restart(e, c);
    tcp_output_schedule(e, c);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loss detection and recovery: the list of segments in flight, SACK (RFC 2018, 2883, 6675's pipe), RACK
 * (RFC 8985) for what is lost, PRR (RFC 6937) for how fast to send during recovery, undo by D-SACK.
 *
 * Peers without SACK: each duplicate ACK stands for one segment that arrived (RFC 6582), counted in
 * sacked_bytes, so that the pipe and limited transmit (RFC 3042) work the same way.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

#define DUPTHRESH 3u /* RFC 5681, RFC 8985 6.2 */

static struct tx_seg *seg_at(struct engine *e, uint32_t i)
{
    return &e->tcp.segs[i];
}

static uint32_t seg_len(const struct tx_seg *t)
{
    return t->end - t->start;
}

/* ---- The list ------------------------------------------------------------------------------------- */

bool tcp_seg_push(struct engine *e, struct tcp_conn *c, uint32_t start, uint32_t end, uint16_t flags)
{
    uint32_t i = pool_get(&e->tcp.seg_pool);
    struct tx_seg *t;

    if (i == NIL)
        return false;
    t = seg_at(e, i);
    *t = (struct tx_seg){.start = start,
                         .end = end,
                         .xmit_us = e->now_us,
                         .next = NIL,
                         .flags = flags,
                         .delivered = c->delivered};
    if (c->seg_tail != NIL)
        seg_at(e, c->seg_tail)->next = i;
    else
        c->seg_head = i;
    c->seg_tail = i;
    c->seg_count++;
    return true;
}

bool tcp_seg_split(struct engine *e, struct tcp_conn *c, uint32_t seg, uint32_t at)
{
    uint32_t i = pool_get(&e->tcp.seg_pool);
    struct tx_seg *t = seg_at(e, seg);
    struct tx_seg *rest;

    if (i == NIL)
        return false;
    ENG_ASSERT(seq_lt(t->start, at) && seq_lt(at, t->end));
    rest = seg_at(e, i);
    *rest = *t;
    rest->start = at;
    t->end = at;
    t->next = i;
    t->flags &= (uint16_t) ~(TXS_FIN | TXS_PSH);
    if (c->seg_tail == seg)
        c->seg_tail = i;
    c->seg_count++;
    return true;
}

static void seg_pop(struct engine *e, struct tcp_conn *c)
{
    uint32_t i = c->seg_head;

    c->seg_head = seg_at(e, i)->next;
    if (c->seg_head == NIL)
        c->seg_tail = NIL;
    c->seg_count--;
    pool_put(&e->tcp.seg_pool, i);
}

void tcp_segs_free(struct engine *e, struct tcp_conn *c)
{
    while (c->seg_head != NIL)
        seg_pop(e, c);
    c->sacked_bytes = c->lost_bytes = c->retrans_bytes = 0;
}

void tcp_seg_resent(struct engine *e, struct tcp_conn *c, uint32_t seg)
{
    struct tx_seg *t = seg_at(e, seg);

    if (!(t->flags & TXS_RETRANS))
        c->retrans_bytes += seg_len(t);
    t->flags |= TXS_RETRANS;
    if (!(t->flags &
          TXS_LOST)) { /* A loss probe: it counts as lost and sent again, so the pipe is unchanged. */
        t->flags |= TXS_LOST;
        c->lost_bytes += seg_len(t);
    }
    t->xmit_us = e->now_us;
    t->retrans++;
    c->total_retrans++;
    c->undo_retrans++;
    stat_inc(&e->stats, ST_TCP_RETRANS_SEGS);
}

uint32_t tcp_seg_next_lost(const struct engine *e, const struct tcp_conn *c)
{
    for (uint32_t i = c->seg_head; i != NIL; i = e->tcp.segs[i].next)
        if ((e->tcp.segs[i].flags & (TXS_LOST | TXS_RETRANS | TXS_SACKED)) == TXS_LOST)
            return i;
    return NIL;
}

static void mark_lost(struct engine *e, struct tcp_conn *c, struct tx_seg *t, struct tcp_acked *a)
{
    if (t->flags & TXS_RETRANS) {
        t->flags &= (uint16_t)~TXS_RETRANS;
        c->retrans_bytes -= seg_len(t);
        stat_inc(&e->stats, ST_TCP_LOST_RETRANSMIT);
    }
    if (!(t->flags & TXS_LOST)) {
        t->flags |= TXS_LOST;
        c->lost_bytes += seg_len(t);
    }
    if (a)
        a->lost_bytes += seg_len(t);
}

/* The segment leaves the network: take its bytes from the counts that hold them. */
static void uncount(struct tcp_conn *c, struct tx_seg *t, uint32_t len)
{
    if (t->flags & TXS_SACKED)
        c->sacked_bytes -= len;
    if (t->flags & TXS_LOST)
        c->lost_bytes -= len;
    if (t->flags & TXS_RETRANS)
        c->retrans_bytes -= len;
}

/* ---- Acknowledgments --------------------------------------------------------------------------------- */

/* RFC 8985 6.2 steps 1 and 2: remember the most recently sent segment that was delivered. */
static void rack_update(struct engine *e, struct tcp_conn *c, const struct tx_seg *t, struct tcp_acked *a)
{
    uint64_t rtt = e->now_us - t->xmit_us;

    if (t->retrans) {
        a->retrans_acked = true;
        /* Acknowledged sooner than any round trip: the original, not the retransmission. */
        if (rtt < c->min_rtt_us)
            return;
    } else {
        a->rtt_us = rtt ? rtt : 1;
    }
    if (t->xmit_us > c->rack_xmit_us || (t->xmit_us == c->rack_xmit_us && seq_gt(t->end, c->rack_end))) {
        c->rack_xmit_us = t->xmit_us;
        c->rack_end = t->end;
        c->rack_rtt_us = rtt > UINT32_MAX ? UINT32_MAX : (uint32_t)rtt;
    }
}

static void sack_seg(struct engine *e, struct tcp_conn *c, struct tx_seg *t, struct tcp_acked *a)
{
    uint32_t len = seg_len(t);

    if (t->flags & TXS_SACKED)
        return;
    rack_update(e, c, t, a);
    if (!t->retrans && seq_lt(t->end, c->high_sacked))
        c->flags |= TF_REORDER; /* RFC 8985 6.2 step 3: delivered after something sent later */
    uncount(c, t, len);
    t->flags &= (uint16_t) ~(TXS_LOST | TXS_RETRANS);
    t->flags |= TXS_SACKED;
    c->sacked_bytes += len;
    c->delivered += len;
    a->sacked_bytes += len;
    c->high_sacked = seq_max(c->high_sacked, t->end);
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
    for (uint32_t i = c->seg_head; i != NIL; i = seg_at(e, i)->next) {
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

    if (!(c->flags & TF_SACK) || !s->sack_count)
        return;
    if (is_dsack(c, s)) {
        a->dsack = true;
        first = 1;
        if (c->undo_retrans)
            c->undo_retrans--;
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
    while (c->seg_head != NIL) {
        struct tx_seg *t = seg_at(e, c->seg_head);
        uint32_t len;

        if (seq_le(ack, t->start))
            break;
        if (seq_lt(ack, t->end)) {
            len = ack - t->start;
            if (!(t->flags & TXS_SACKED))
                c->delivered += len;
            uncount(c, t, len);
            t->start = ack;
            a->acked_bytes += len;
            break;
        }
        len = seg_len(t);
        if (!(t->flags & TXS_SACKED)) {
            rack_update(e, c, t, a);
            if (!t->retrans && c->flags & TF_SACK && seq_lt(t->end, c->high_sacked))
                c->flags |= TF_REORDER;
            c->delivered += len;
        }
        uncount(c, t, len);
        a->acked_bytes += len;
        seg_pop(e, c);
    }
    if (seq_lt(c->high_sacked, ack))
        c->high_sacked = ack;
}

/* ---- Loss detection ---------------------------------------------------------------------------------- */

/* RFC 8985 6.2 step 4: how much later than a delivered segment another may still arrive. */
static uint64_t reorder_window(const struct tcp_conn *c)
{
    uint64_t wnd;

    if (!(c->flags & TF_REORDER) &&
        (c->ca_state != CA_OPEN || c->sacked_bytes >= (DUPTHRESH - 1) * (uint32_t)c->mss + 1))
        return 0;
    wnd = (uint64_t)c->reo_wnd_mult * (c->min_rtt_us == UINT32_MAX ? 1000 : c->min_rtt_us) / 4;
    return wnd > c->srtt8_us / 8 ? c->srtt8_us / 8 : wnd;
}

/* RFC 8985 6.2 step 5. Arms the reordering timer when something may yet turn out to be lost. */
static void rack_detect(struct engine *e, struct tcp_conn *c, struct tcp_acked *a)
{
    uint64_t wnd = reorder_window(c);
    uint64_t timeout = 0;

    if (!c->rack_xmit_us)
        return;
    for (uint32_t i = c->seg_head; i != NIL; i = seg_at(e, i)->next) {
        struct tx_seg *t = seg_at(e, i);
        uint64_t due;

        if (t->flags & TXS_SACKED || (t->flags & (TXS_LOST | TXS_RETRANS)) == TXS_LOST)
            continue;
        if (t->xmit_us > c->rack_xmit_us || (t->xmit_us == c->rack_xmit_us && seq_ge(t->end, c->rack_end)))
            continue;
        due = t->xmit_us + c->rack_rtt_us + wnd;
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
    struct tx_seg *t;

    if (c->seg_head == NIL)
        return;
    t = seg_at(e, c->seg_head);
    if (t->flags & TXS_LOST)
        return;
    if (seg_len(t) > c->mss)
        (void)tcp_seg_split(e, c, c->seg_head, t->start + c->mss); /* Else the whole is sent again. */
    mark_lost(e, c, seg_at(e, c->seg_head), a);
}

/* ---- Recovery ---------------------------------------------------------------------------------------- */

static void undo_save(struct tcp_conn *c)
{
    c->undo_marker = c->snd_una;
    c->undo_cwnd = c->cwnd;
    c->undo_ssthresh = c->ssthresh;
    c->undo_retrans = 0;
}

static void enter_recovery(struct engine *e, struct tcp_conn *c)
{
    undo_save(c);
    c->recover = c->snd_nxt;
    c->recover_fs = tcp_flight(c);
    c->prr_delivered = c->prr_out = 0;
    c->ssthresh = cc_by_id(c->o.cc)->ssthresh(c, e->now_us);
    c->ca_state = CA_RECOVERY;
    stat_inc(&e->stats, ST_TCP_FAST_RETRANS);
}

static void leave_recovery(struct tcp_conn *c)
{
    if (c->ca_state == CA_RECOVERY && c->cwnd > c->ssthresh)
        c->cwnd = c->ssthresh;
    c->ca_state = CA_OPEN;
    c->dup_acks = 0;
    if (!(c->flags & TF_SACK))
        c->sacked_bytes = 0;
}

/* RFC 6937 3: how much may be sent for this ACK. `safe`: it advanced and no further loss showed. */
static void prr_update(struct tcp_conn *c, uint32_t delivered, bool safe)
{
    uint32_t pipe = tcp_pipe(c);
    int64_t count;

    c->prr_delivered += delivered;
    if (pipe > c->ssthresh) {
        count = (int64_t)(((uint64_t)c->prr_delivered * c->ssthresh + c->recover_fs - 1) /
                          (c->recover_fs ? c->recover_fs : 1)) -
                c->prr_out;
    } else {
        int64_t limit = (int64_t)c->prr_delivered - c->prr_out;

        if (safe && limit < delivered)
            limit = delivered;
        if (safe)
            limit += c->mss;
        count = (int64_t)c->ssthresh - pipe;
        if (count > limit)
            count = limit;
    }
    /* The first retransmission always goes (RFC 6675 5 step 4.3). */
    if (c->prr_out == 0 && count < c->mss)
        count = c->mss;
    if (count < 0)
        count = 0;
    c->cwnd = pipe + (uint32_t)count;
    if (c->cwnd < c->mss)
        c->cwnd = c->mss;
}

/* All that was sent again had arrived: take the reduction back (RFC 3708's use of D-SACK). */
static bool try_undo(struct tcp_conn *c, const struct tcp_acked *a)
{
    if (!a->dsack || !c->undo_cwnd || c->undo_retrans)
        return false;
    if (c->cwnd < c->undo_cwnd)
        c->cwnd = c->undo_cwnd;
    c->ssthresh = c->undo_ssthresh;
    c->undo_cwnd = 0;
    cc_by_id(c->o.cc)->on_undo(c);
    if (c->reo_wnd_mult < 16)
        c->reo_wnd_mult++; /* RFC 8985 6.2 step 4: adapt to the reordering that fooled us */
    return true;
}

/* Duplicate ACKs of a peer without SACK (RFC 5681 2, RFC 6582). */
static void count_dup_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a,
                          uint32_t prior_flight)
{
    uint32_t max;

    if (a->acked_bytes) {
        c->dup_acks = 0;
        c->sacked_bytes = 0;
        if (c->ca_state == CA_RECOVERY && seq_lt(c->snd_una, c->recover))
            mark_head_lost(e, c, a); /* Partial ACK: the next hole. */
        return;
    }
    if (s->len || !prior_flight || s->flags & (TCP_SYN | TCP_FIN) || s->ack != c->snd_una)
        return;
    c->dup_acks++;
    max = tcp_flight(c) - c->lost_bytes;
    c->sacked_bytes = c->dup_acks * c->mss < max ? c->dup_acks * c->mss : max;
    a->sacked_bytes = c->mss;
    if (c->dup_acks >= DUPTHRESH && c->ca_state == CA_OPEN && seq_ge(c->snd_una, c->recover))
        mark_head_lost(e, c, a);
}

void tcp_recovery_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a,
                      uint32_t prior_flight)
{
    const struct cc_ops *cc = cc_by_id(c->o.cc);
    uint32_t delivered;

    if (!(c->flags & TF_SACK))
        count_dup_ack(e, c, s, a, prior_flight);
    else if (c->sacked_bytes || c->lost_bytes || c->retrans_bytes)
        rack_detect(e, c, a);
    delivered = a->acked_bytes + a->sacked_bytes;
    if (c->ca_state != CA_OPEN && seq_ge(c->snd_una, c->recover))
        leave_recovery(c);
    if (try_undo(c, a) && c->ca_state == CA_RECOVERY && !c->lost_bytes)
        leave_recovery(c);
    if (c->ca_state == CA_OPEN && c->lost_bytes && tcp_seg_next_lost(e, c) != NIL)
        enter_recovery(e, c);
    switch ((enum ca_state)c->ca_state) {
    case CA_RECOVERY:
        prr_update(c, delivered, a->acked_bytes && !a->lost_bytes);
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
    bool reneged = c->seg_head != NIL && seg_at(e, c->seg_head)->flags & TXS_SACKED;

    if (c->ca_state != CA_LOSS || seq_gt(c->snd_una, c->undo_marker)) {
        uint32_t ssthresh = cc_by_id(c->o.cc)->ssthresh(c, e->now_us);

        undo_save(c);
        c->ssthresh = ssthresh;
    }
    cc_by_id(c->o.cc)->on_rto(c);
    if (!(c->flags & TF_SACK))
        c->sacked_bytes = 0;
    c->lost_bytes = c->retrans_bytes = 0;
    for (uint32_t i = c->seg_head; i != NIL; i = seg_at(e, i)->next) {
        struct tx_seg *t = seg_at(e, i);

        if (t->flags & TXS_SACKED) {
            if (!reneged)
                continue;
            /* RFC 2018 8: the peer threw away what it had acknowledged selectively. */
            t->flags &= (uint16_t)~TXS_SACKED;
            c->sacked_bytes -= seg_len(t);
        }
        t->flags &= (uint16_t)~TXS_RETRANS;
        t->flags |= TXS_LOST;
        c->lost_bytes += seg_len(t);
    }
    c->recover = c->snd_nxt;
    c->ca_state = CA_LOSS;
    c->cwnd = c->mss;
    c->dup_acks = 0;
    c->tlp_end = 0;
}

void tcp_recovery_mtu(struct engine *e, struct tcp_conn *c)
{
    for (uint32_t i = c->seg_head; i != NIL; i = seg_at(e, i)->next)
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
        prr_update(c, 0, false);
    if (c->rto_mode == RTO_OFF)
        tcp_rto_restart(e, c);
    tcp_output_schedule(e, c);
}

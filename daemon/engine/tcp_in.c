/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment arrives (RFC 9293 3.10.7). One function for each step of 3.10.7.4, in its order.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/csum.h"
#include "daemon/engine/seq.h"

#include <errno.h>

/* RFC 7323 5.5: a ts_recent older than this proves nothing. */
#define TS_RECENT_LIFE_US (UINT64_C(24) * 24 * 3600 * 1000000)

enum verdict { SEG_DROP, SEG_GO_ON };

/* PAWS (RFC 7323 5.3 R1). */
static enum verdict step0_paws(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!(c->flags & TF_TS) || !s->has_ts || !(c->flags & TF_TS_VALID) || s->flags & TCP_RST)
        return SEG_GO_ON;
    if ((int32_t)(s->tsval - c->ts_recent) >= 0 || e->now_us - c->ts_recent_us > TS_RECENT_LIFE_US)
        return SEG_GO_ON;
    stat_inc(&e->stats, ST_TCP_PAWS_ESTAB);
    tcp_answer_outside(e, c, s);
    return SEG_DROP;
}

/* First, the sequence number: acceptable, and cut to the window. */
static enum verdict step1_acceptable(struct engine *e, struct tcp_conn *c, struct tcp_seg *s)
{
    uint32_t wnd = seq_gt(c->rcv_adv, c->rcv_nxt) ? c->rcv_adv - c->rcv_nxt : 0;
    uint32_t right = c->rcv_nxt + wnd;
    uint32_t end = s->seq + s->len + !!(s->flags & TCP_FIN);

    /* A pure ACK may lie at the right edge: its sender filled the window, and some of that was lost. */
    if (seq_gt(s->seq, right) || (s->seq == right && wnd && (end != s->seq || s->flags & TCP_RST))) {
        stat_inc(&e->stats, ST_TCP_RCV_OUT_OF_WINDOW);
        goto unacceptable;
    }
    if (seq_lt(end, c->rcv_nxt) || (end == c->rcv_nxt && end != s->seq)) {
        stat_inc(&e->stats, ST_TCP_RCV_OLD);
        if (s->len) { /* The peer sends again: it needs ACKs now. */
            tcp_reass_dsack(e, c, s->seq, s->seq + s->len);
            tcp_delack_quick(e, c);
        }
        goto unacceptable;
    }
    if (seq_lt(s->seq, c->rcv_nxt)) { /* Old in front. */
        uint32_t old = c->rcv_nxt - s->seq;

        tcp_reass_dsack(e, c, s->seq, c->rcv_nxt);
        s->seq += old;
        s->data += old;
        s->len -= old;
        tcp_ack_now(e, c);
    }
    if (seq_gt(s->seq + s->len, right)) { /* Too much behind; a FIN there comes again. */
        s->len = right - s->seq;
        s->flags &= (uint8_t)~TCP_FIN;
        tcp_ack_now(e, c);
    }
    return SEG_GO_ON;

unacceptable:
    if (!(s->flags & TCP_RST))
        tcp_answer_outside(e, c, s);
    return SEG_DROP;
}

/* Second, RST (RFC 5961 3.2): only the exact number resets; anything else in the window is challenged. */
static enum verdict step2_rst(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!(s->flags & TCP_RST))
        return SEG_GO_ON;
    if (s->seq != c->rcv_nxt) {
        tcp_challenge(e, c);
        return SEG_DROP;
    }
    switch ((enum tcp_state)c->state) {
    case TCPS_SYN_RCVD:
        if (tcp_fastopen_pending(c)) { /* The application may have it already. */
            tcp_fastopen_over(e, c, true);
            tcp_conn_end(e, c, ECONNRESET);
        } else {
            tcp_conn_end(e, c, ECONNREFUSED);
        }
        break;
    case TCPS_CLOSING:
    case TCPS_LAST_ACK: /* RFC 9293 says nothing to the user here; Linux reports it, and so do we. */
    case TCPS_ESTABLISHED:
    case TCPS_FIN_WAIT_1:
    case TCPS_FIN_WAIT_2:
    case TCPS_CLOSE_WAIT:
        tcp_conn_end(e, c, ECONNRESET);
        break;
    case TCPS_CLOSED:
    case TCPS_SYN_SENT:
    case TCPS_COUNT:
        ENG_ASSERT(false);
    }
    return SEG_DROP;
}

/*
 * Fourth, SYN. RFC 5961 4.2 wants it looked at whatever its sequence number is, so this comes first. In
 * SYN_RCVD by simultaneous open, the peer's SYN-ACK is the ACK that is waited for (RFC 9293 3.5 figure 8).
 */
static enum verdict step4_syn(struct engine *e, struct tcp_conn *c, struct tcp_seg *s)
{
    if (!(s->flags & TCP_SYN) || s->flags & TCP_RST)
        return SEG_GO_ON;
    if (c->state == TCPS_SYN_RCVD && s->flags & TCP_ACK && s->seq == c->irs && seq_gt(s->ack, c->iss) &&
        seq_le(s->ack, c->snd_nxt)) {
        tcp_ecn_answer(c, s);
        s->flags &= (uint8_t)~TCP_SYN;
        s->seq++;
        return SEG_GO_ON;
    }
    if (tcp_fastopen_pending(c) && !(s->flags & TCP_ACK) && s->seq == c->irs) {
        tcp_send_syn(e, c); /* Their SYN again: our SYN-ACK again. */
        return SEG_DROP;
    }
    stat_inc(&e->stats, ST_TCP_SYN_CHALLENGE);
    tcp_challenge(e, c);
    return SEG_DROP;
}

/* It was closed or shut down while it was being opened. */
static void close_when_open(struct engine *e, struct tcp_conn *c)
{
    if (!(c->flags & TF_FIN_QUEUED))
        return;
    tcp_state_set(c, TCPS_FIN_WAIT_1);
    tcp_output_schedule(e, c);
}

/* The ACK of our SYN, in SYN_RCVD. */
static bool established_by_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s,
                               const struct rx_pkt *rp)
{
    bool fast = tcp_fastopen_pending(c);

    if (seq_le(s->ack, c->iss) || seq_gt(s->ack, c->snd_nxt)) {
        tcp_reply_rst(e, rp, s);
        return false;
    }
    if (!fast)
        tcp_syn_acked(e, c, s);
    c->snd_wnd = (uint32_t)s->wnd << c->snd_wscale;
    c->snd_wl1 = s->seq;
    c->snd_wl2 = s->ack;
    tcp_state_set(c, TCPS_ESTABLISHED);
    c->rto_mode = RTO_OFF;
    c->rto_at_us = 0;
    c->backoff = 0;
    if (fast) {
        if (!c->total_retrans && !tcp_flight(c))
            tcp_rtt_sample(e, c, e->now_us - c->sent_us);
        tcp_fastopen_over(e, c, false);
        tcp_keepalive_restart(e, c);
        tcp_rto_restart(e, c); /* for the data that was sent ahead of the ACK */
    } else {
        tcp_conn_start(e, c, e->now_us);
    }
    close_when_open(e, c);
    sock_dirty_bits(e, &c->s, DIRTY_LINE | DIRTY_EVENT | DIRTY_NAME);
    return true;
}

/* Our FIN was acknowledged: the states that wait for that. False: the record is gone. */
static bool fin_acked(struct engine *e, struct tcp_conn *c)
{
    if (!(c->flags & TF_FIN_ACKED))
        return true;
    switch ((enum tcp_state)c->state) {
    case TCPS_FIN_WAIT_1:
        tcp_state_set(c, TCPS_FIN_WAIT_2);
        return !(c->flags & TF_ORPHAN) || tcp_orphan_fin_wait2(e, c);
    case TCPS_CLOSING:
        tcp_tw_enter(e, c);
        return false;
    case TCPS_LAST_ACK:
        tcp_conn_end(e, c, 0);
        return false;
    case TCPS_CLOSED:
    case TCPS_SYN_SENT:
    case TCPS_SYN_RCVD:
    case TCPS_ESTABLISHED:
    case TCPS_FIN_WAIT_2:
    case TCPS_CLOSE_WAIT:
    case TCPS_COUNT:
        break;
    }
    return true;
}

/* RFC 7323 4.3: the timestamp to echo is that of the segment that starts at or before the last ACK. Only
 * when the ACK was found good: a forged segment must not make PAWS drop the true ones. */
static void update_ts_recent(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!(c->flags & TF_TS) || !s->has_ts || seq_gt(s->seq, c->rcv_wup))
        return;
    if (!(c->flags & TF_TS_VALID) || (int32_t)(s->tsval - c->ts_recent) >= 0) {
        c->ts_recent = s->tsval;
        c->ts_recent_us = e->now_us;
        c->flags |= TF_TS_VALID;
    }
}

/* Fifth, ACK. */
static enum verdict step5_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s,
                              const struct rx_pkt *rp)
{
    if (!(s->flags & TCP_ACK))
        return SEG_DROP;
    if (c->state == TCPS_SYN_RCVD && !established_by_ack(e, c, s, rp))
        return SEG_DROP;
    if (!tcp_ack_input(e, c, s))
        return SEG_DROP;
    update_ts_recent(e, c, s);
    if (!fin_acked(e, c))
        return SEG_DROP;
    return SEG_GO_ON;
}

static bool may_receive(const struct tcp_conn *c)
{
    return c->state == TCPS_ESTABLISHED || c->state == TCPS_FIN_WAIT_1 || c->state == TCPS_FIN_WAIT_2;
}

/* Seventh, the text. */
static enum verdict step7_text(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s,
                               const struct rx_pkt *rp)
{
    uint64_t tail;

    if (!s->len)
        return SEG_GO_ON;
    if (!may_receive(c))
        return SEG_GO_ON; /* After the peer's FIN there is no text; ignore it. */
    if (c->flags & TF_ORPHAN || (c->flags & TF_RX_SHUT && c->state != TCPS_ESTABLISHED)) {
        /* RFC 9293 3.6.1, RFC 2525 2.17: nobody will read it. */
        stat_inc(&e->stats, ST_TCP_ABORT_ON_CLOSE);
        tcp_reply_rst(e, rp, s); /* with the number that the peer expects, so that it need not challenge */
        tcp_conn_end(e, c, 0);
        return SEG_DROP;
    }
    if (s->seq == c->rcv_nxt)
        c->flags |= TF_ACK_PUSHED;
    else
        c->flags |= TF_ACK_NOW; /* RFC 5681 4.2: out of order, or filling a hole */
    if (tcp_reass_holes(e, c))
        c->flags |= TF_ACK_NOW;
    if (c->ecn & ECN_TAKE)
        tcp_ecn_data(c, s, rp->tos);
    tail = c->s.rx.tail;
    tcp_reass_add(e, c, s->seq, s->data, s->len);
    tcp_rx_tune(e, c, s, c->s.rx.tail - tail);
    return SEG_GO_ON;
}

/* The peer's FIN has been reached, by this segment or by the data that was missing before it. */
static bool fin_reached(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (c->flags & TF_FIN_RCVD)
        return false;
    if (s->flags & TCP_FIN && may_receive(c)) {
        c->flags |= TF_ACK_NOW;
        if (s->seq + s->len == c->rcv_nxt)
            return true;
        tcp_reass_fin(e, c, s->seq + s->len);
    }
    return tcp_reass_fin_due(e, c);
}

/* Eighth, FIN. */
static enum verdict step8_fin(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (!fin_reached(e, c, s))
        return SEG_GO_ON;
    c->flags |= TF_FIN_RCVD | TF_ACK_NOW;
    c->rcv_nxt++;
    tcp_reass_free(e, c); /* What a lying peer sent beyond its own FIN. */
    if (seq_lt(c->rcv_adv, c->rcv_nxt))
        c->rcv_adv = c->rcv_nxt;
    c->s.pub_flags |= SG_F_RX_FIN;
    sock_dirty(e, &c->s);
    switch ((enum tcp_state)c->state) {
    case TCPS_ESTABLISHED:
        tcp_state_set(c, TCPS_CLOSE_WAIT);
        break;
    case TCPS_FIN_WAIT_1:
        tcp_state_set(c, TCPS_CLOSING);
        break;
    case TCPS_FIN_WAIT_2:
        tcp_tw_enter(e, c);
        return SEG_DROP;
    case TCPS_CLOSED:
    case TCPS_SYN_SENT:
    case TCPS_SYN_RCVD:
    case TCPS_CLOSE_WAIT:
    case TCPS_CLOSING:
    case TCPS_LAST_ACK:
    case TCPS_COUNT:
        ENG_ASSERT(false);
    }
    return SEG_GO_ON;
}

static void schedule_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s,
                         const struct rx_pkt *rp)
{
    if (c->flags & TF_ACK_PUSHED) {
        c->flags &= ~TF_ACK_PUSHED;
        tcp_delack_data(e, c, rp->gso_size ? rp->gso_size : s->len);
    }
    if (c->flags & TF_ACK_NOW)
        tcp_output_schedule(e, c);
}

/* RFC 9293 3.10.7.3: SYN_SENT has an order of its own. */
static void syn_sent_input(struct engine *e, struct tcp_conn *c, struct tcp_seg *s, const struct rx_pkt *rp)
{
    bool acks = s->flags & TCP_ACK;

    if (c->flags & TF_SYN_DEFERRED || /* nothing was sent yet */
        (acks && (seq_le(s->ack, c->snd_una) || seq_gt(s->ack, c->snd_nxt)))) {
        tcp_reply_rst(e, rp, s);
        return;
    }
    if (s->flags & TCP_RST) {
        if (acks)
            tcp_conn_end(e, c, ECONNREFUSED);
        return;
    }
    if (!(s->flags & TCP_SYN))
        return;
    c->irs = s->seq;
    c->rcv_nxt = c->rcv_wup = s->seq + 1;
    c->rcv_adv = c->rcv_nxt;
    c->peer_mss = s->has_mss ? s->mss : 0;
    tcp_ecn_answer(c, s);
    s->has_ts &= (c->flags & TF_TS) != 0; /* not offered, not agreed to */
    if (!s->has_ts)
        c->flags &= ~TF_TS;
    if (!s->sack_perm)
        c->flags &= ~TF_SACK;
    if (s->has_wscale)
        c->snd_wscale = s->wscale;
    else
        c->flags &= ~TF_WSCALE;
    if (s->has_ts) {
        c->ts_recent = s->tsval;
        c->ts_recent_us = e->now_us;
        c->flags |= TF_TS_VALID;
    }
    if (!acks) { /* Simultaneous open (RFC 9293 3.5 figure 8). */
        tcp_state_set(c, TCPS_SYN_RCVD);
        tcp_send_syn(e, c);
        tcp_rto_restart(e, c);
        return;
    }
    if (!c->backoff && !c->total_retrans)
        tcp_rtt_sample(e, c, e->now_us - c->sent_us);
    tcp_syn_acked(e, c, s);
    c->snd_wnd = c->snd_wnd_max = s->wnd;
    c->snd_wl1 = s->seq;
    c->snd_wl2 = s->ack;
    c->backoff = 0;
    c->rto_mode = RTO_OFF;
    c->rto_at_us = 0;
    tcp_state_set(c, TCPS_ESTABLISHED);
    tcp_conn_start(e, c, e->now_us);
    neigh_confirm(e, &c->s.remote, e->now_us);
    tcp_ack_now(e, c);
    close_when_open(e, c);
    sock_dirty_bits(e, &c->s, DIRTY_LINE | DIRTY_EVENT | DIRTY_NAME);
    if (s->len || s->flags & TCP_FIN) { /* Data or FIN on the SYN-ACK is processed as if it came now. */
        s->flags &= (uint8_t)~TCP_SYN;
        s->seq++;
        (void)tcp_window_select(e, c);
        if (step1_acceptable(e, c, s) == SEG_GO_ON && step7_text(e, c, s, rp) == SEG_GO_ON &&
            step8_fin(e, c, s) == SEG_GO_ON)
            schedule_ack(e, c, s, rp);
    }
}

void tcp_conn_input(struct engine *e, struct tcp_conn *c, struct tcp_seg *s, const struct rx_pkt *rp)
{
    tally_in(c, s->len, rp->gso_size);
    c->rcvd_us = e->now_us;
    if (c->state == TCPS_SYN_SENT) {
        syn_sent_input(e, c, s, rp);
        return;
    }
    if (step4_syn(e, c, s) == SEG_DROP || step0_paws(e, c, s) == SEG_DROP ||
        step1_acceptable(e, c, s) == SEG_DROP || step2_rst(e, c, s) == SEG_DROP)
        return;
    if (step5_ack(e, c, s, rp) == SEG_DROP || step7_text(e, c, s, rp) == SEG_DROP ||
        step8_fin(e, c, s) == SEG_DROP)
        return;
    schedule_ack(e, c, s, rp);
}

static bool checksum_good(const struct rx_pkt *rp)
{
    return csum_fold(csum_add(net_pseudo_sum(rp, rp->l4_len), csum_partial(rp->l4, rp->l4_len))) == 0xffff;
}

static void to_listener_or_rst(struct engine *e, const struct flow_key *k, uint32_t hash, struct tcp_seg *s,
                               const struct rx_pkt *rp)
{
    struct tcp_listener *l = tcp_listener_find(e, &k->local, k->lport);

    if (l) {
        tcp_listen_input(e, l, k, hash, s, rp);
        return;
    }
    stat_inc(&e->stats, ST_TCP_NO_SOCKET);
    tcp_reply_rst(e, rp, s);
}

void tcp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct tcp_seg s;
    struct flow_key k;
    uint32_t hash, id, iss;

    e->now_us = now_us;
    stat_add(&e->stats, ST_TCP_IN_SEGS, tally_segs(rp->l4_len, rp->gso_size));
    if (!tcp_parse(rp->l4, rp->l4_len, &s) || (!rp->csum_ok && !checksum_good(rp)) || !s.sport || !s.dport) {
        stat_inc(&e->stats, ST_TCP_IN_ERRS);
        return;
    }
    if (rp->broadcast)
        return; /* RFC 9293 3.10.7.2: never TCP to many. */
    k = tcp_seg_key(rp, &s);
    hash = flow_hash(&e->flows, &k);
    id = flow_find(e, &k, hash);
    switch (SOCK_KIND(id)) {
    case SK_TCP:
        tcp_fast_learn(e, &e->tcp.conns[SOCK_INDEX(id)], rp);
        tcp_conn_input(e, &e->tcp.conns[SOCK_INDEX(id)], &s, rp);
        return;
    case SK_REQ:
        tcp_req_input(e, &e->tcp.reqs[SOCK_INDEX(id)], &s, rp);
        return;
    case SK_TW:
        if (tcp_tw_input(e, SOCK_INDEX(id), &s, &iss))
            return;
        e->tcp.tw_iss = iss;
        to_listener_or_rst(e, &k, hash, &s, rp);
        e->tcp.tw_iss = 0;
        return;
    case SK_NONE:
        to_listener_or_rst(e, &k, hash, &s, rp);
        return;
    case SK_LISTEN:
    case SK_UDP:
        ENG_ASSERT(false);
    }
}

/* RFC 1122 4.2.3.9 and RFC 5927: an ICMP error counts only if it quotes a sequence number in flight; a hard
 * error ends only a connection that is still being opened. */
void tcp_icmp(struct engine *e, const struct icmp_report *r, uint64_t now_us)
{
    struct flow_key k = {.local = r->local, .remote = r->remote, .lport = r->lport, .rport = r->rport};
    uint32_t id = flow_find(e, &k, flow_hash(&e->flows, &k));
    struct tcp_conn *c;

    e->now_us = now_us;
    if (SOCK_KIND(id) == SK_REQ) {
        tcp_req_icmp(e, &e->tcp.reqs[SOCK_INDEX(id)], r);
        return;
    }
    if (SOCK_KIND(id) != SK_TCP) {
        stat_inc(&e->stats, ST_ICMP_ERR_UNMATCHED);
        return;
    }
    c = &e->tcp.conns[SOCK_INDEX(id)];
    if (seq_lt(r->seq, c->snd_una) || seq_ge(r->seq, c->snd_nxt)) {
        stat_inc(&e->stats, ST_ICMP_ERR_UNMATCHED);
        return;
    }
    if (r->error == EMSGSIZE) {
        tcp_pmtu_icmp(e, c, r);
        return;
    }
    if (c->state == TCPS_SYN_SENT)
        tcp_conn_end(e, c, r->error);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each timer of a connection does. Deadlines lie in the record; the wheel only says when to look.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"
#include "daemon/engine/tcp_rto.h"

#include <errno.h>

void tcp_timer_arm(struct engine *e, struct tcp_conn *c)
{
    uint64_t at = UINT64_MAX;

    if (c->rto_at_us && c->rto_at_us < at)
        at = c->rto_at_us;
    if (c->delack_at_us && c->delack_at_us < at)
        at = c->delack_at_us;
    if (c->keep_at_us && c->keep_at_us < at)
        at = c->keep_at_us;
    if (c->path != NIL && path_of(e, c)->wake_us && path_of(e, c)->wake_us < at)
        at = path_of(e, c)->wake_us;
    if (at != UINT64_MAX)
        wheel_arm(&e->wheel, node_of_conn(&e->cfg, tcp_conn_index(e, c)), at);
}

void tcp_rtt_sample(struct engine *e, struct tcp_conn *c, uint64_t rtt_us)
{
    rto_sample(e, c, rtt_us);
}

uint32_t tcp_rto_now(const struct engine *e, const struct tcp_conn *c)
{
    return rto_now(e, c);
}

void tcp_probe_restart(struct engine *e, struct tcp_conn *c)
{
    uint32_t pto = rto_probe_timeout(e, c);
    uint64_t rto_at;

    if (!pto || (c->rto_mode != RTO_TLP && c->rto_mode != RTO_REXMIT))
        return;
    /* The probe comes no later than the time-out of the oldest segment would. */
    rto_at = e->tcp.segs[flight_of(e, c)->seg_head].xmit_us + tcp_rto_now(e, c);
    c->rto_mode = RTO_TLP;
    c->rto_at_us = e->now_us + pto < rto_at ? e->now_us + pto : rto_at;
    tcp_timer_arm(e, c);
}

/* RFC 5482 2: the user time-out is looked at when it is due, not at the retransmission that follows. */
static uint64_t by_user_timeout(const struct engine *e, const struct tcp_conn *c, uint64_t at)
{
    uint64_t limit = c->first_unacked_us + (uint64_t)c->o.user_timeout_ms * 1000;

    if (!c->o.user_timeout_ms || at <= limit)
        return at;
    return limit > e->now_us ? limit : e->now_us + 1;
}

void tcp_rto_restart(struct engine *e, struct tcp_conn *c)
{
    uint32_t pto;

    if (!tcp_flight(c) && !tcp_fastopen_pending(c)) {
        if (c->rto_mode != RTO_PERSIST) {
            c->rto_mode = RTO_OFF;
            c->rto_at_us = 0;
        }
        return;
    }
    pto = rto_probe_timeout(e, c);
    c->rto_mode = pto ? RTO_TLP : RTO_REXMIT;
    c->rto_at_us = by_user_timeout(e, c, e->now_us + (pto ? pto : tcp_rto_now(e, c)));
    tcp_timer_arm(e, c);
}

void tcp_keepalive_restart(struct engine *e, struct tcp_conn *c)
{
    uint32_t idle = c->o.keep_idle_s ? c->o.keep_idle_s : e->cfg.keepalive_idle_s;

    if (c->flags & TF_ORPHAN)
        return;
    c->keep_at_us = 0;
    if (!(c->s.opts & SO_F_KEEPALIVE) || c->state < TCPS_ESTABLISHED)
        return;
    c->probes = 0;
    c->keep_at_us = e->now_us + (uint64_t)idle * 1000000;
    tcp_timer_arm(e, c);
}

/* Nothing was heard for as many probes as allowed; the user time-out, where there is one, counts instead
 * (RFC 5482 4.2). */
static bool probed_enough(const struct engine *e, const struct tcp_conn *c)
{
    if (c->o.user_timeout_ms)
        return c->probes && e->now_us - c->rcvd_us >= (uint64_t)c->o.user_timeout_ms * 1000;
    return c->probes >= (c->o.keep_count ? c->o.keep_count : e->cfg.keepalive_probes);
}

/* RFC 1122 4.2.3.6. False: the connection is gone. */
static bool keepalive_due(struct engine *e, struct tcp_conn *c)
{
    uint64_t idle_us = (uint64_t)(c->o.keep_idle_s ? c->o.keep_idle_s : e->cfg.keepalive_idle_s) * 1000000;
    uint64_t intvl_us =
        (uint64_t)(c->o.keep_intvl_s ? c->o.keep_intvl_s : e->cfg.keepalive_intvl_s) * 1000000;

    if (e->now_us - c->rcvd_us < idle_us) {
        c->probes = 0;
        c->keep_at_us = c->rcvd_us + idle_us;
        return true;
    }
    if (tcp_flight(c)) { /* The retransmission timer speaks for it. */
        c->keep_at_us = e->now_us + idle_us;
        return true;
    }
    if (probed_enough(e, c)) {
        stat_inc(&e->stats, ST_TCP_ABORT_ON_TIMEOUT);
        tcp_conn_abort(e, c, ETIMEDOUT);
        return false;
    }
    if (c->probes < UINT8_MAX)
        c->probes++;
    stat_inc(&e->stats, ST_TCP_KEEPALIVES);
    tcp_send_probe(e, c);
    c->keep_at_us = e->now_us + intvl_us;
    return true;
}

/* False: the connection is gone. */
static bool keep_due(struct engine *e, struct tcp_conn *c)
{
    c->keep_at_us = 0;
    if (!(c->flags & TF_ORPHAN))
        return keepalive_due(e, c);
    if (c->state == TCPS_FIN_WAIT_2) { /* The peer never closes: give up without a word, as Linux does. */
        tcp_conn_end(e, c, 0);
        return false;
    }
    stat_inc(&e->stats, ST_TCP_ABORT_ON_TIMEOUT);
    tcp_conn_abort(e, c, 0);
    return false;
}

/* RFC 5482, from the first transmission or probe that nothing answered. */
static bool user_timed_out(const struct engine *e, const struct tcp_conn *c)
{
    return c->o.user_timeout_ms && e->now_us - c->first_unacked_us >= (uint64_t)c->o.user_timeout_ms * 1000;
}

/* R2 of RFC 1122 4.2.3.5, or the user time-out of RFC 5482. */
static bool gave_up(const struct engine *e, const struct tcp_conn *c)
{
    unsigned retries = c->flags & TF_ORPHAN ? e->cfg.orphan_retries : e->cfg.data_retries;

    if (c->state == TCPS_SYN_SENT)
        retries = c->o.syn_count ? c->o.syn_count : e->cfg.syn_retries;
    else if (c->state == TCPS_SYN_RCVD)
        retries = c->o.syn_count ? c->o.syn_count : e->cfg.synack_retries;
    return user_timed_out(e, c) || c->probes >= retries;
}

static bool rexmit_due(struct engine *e, struct tcp_conn *c)
{
    c->rto_mode = RTO_OFF;
    c->rto_at_us = 0;
    if (!tcp_flight(c) && !tcp_fastopen_pending(c))
        return true;
    /* A peer that shrank its window to nothing and answers is alive (RFC 9293 3.8.6 MUST-34, SHLD-17). */
    if (c->state >= TCPS_ESTABLISHED && !c->snd_wnd && e->now_us - c->rcvd_us < e->cfg.rto_max_us)
        c->probes = 0;
    if (gave_up(e, c)) {
        stat_inc(&e->stats, ST_TCP_ABORT_ON_TIMEOUT);
        if (c->state == TCPS_SYN_SENT)
            tcp_fastopen_lost(e, c);
        tcp_conn_end(e, c, ETIMEDOUT);
        return false;
    }
    stat_inc(&e->stats, ST_TCP_TIMEOUTS);
    c->probes++;
    if (c->backoff < RTO_SHIFT_MAX)
        c->backoff++;
    if (c->state == TCPS_SYN_SENT || c->state == TCPS_SYN_RCVD) {
        c->total_retrans++;
        stat_inc(&e->stats, ST_TCP_RETRANS_SEGS);
        if (c->state == TCPS_SYN_SENT)
            tcp_ecn_fallback(e, c);
        tcp_send_syn(e, c);
    } else {
        tcp_probe_timeout(e, c);
        tcp_fastopen_timeout(e, c);
        tcp_recovery_timeout(e, c);
        tcp_output_schedule(e, c);
    }
    tcp_rto_restart(e, c);
    return true;
}

/* RFC 9293 3.8.6.1, RFC 1122 4.2.2.17: probe for ever while the peer answers. */
static bool persist_due(struct engine *e, struct tcp_conn *c)
{
    unsigned retries = c->flags & TF_ORPHAN ? e->cfg.orphan_retries : e->cfg.data_retries;

    c->rto_mode = RTO_OFF;
    c->rto_at_us = 0;
    if (tcp_flight(c)) {
        tcp_rto_restart(e, c);
        return true;
    }
    if (c->snd_wnd) {
        /* RFC 9293 3.8.6.2.1 (4): the override time-out of the sender's SWS avoidance; or there was no
         * segment record the last time. */
        c->backoff = 0;
        c->flags |= TF_OVERRIDE;
        tcp_output_schedule(e, c);
        return true;
    }
    if (!c->probes)
        c->first_unacked_us = e->now_us;
    if (c->probes >= retries || user_timed_out(e, c)) {
        stat_inc(&e->stats, ST_TCP_ABORT_ON_TIMEOUT);
        tcp_conn_abort(e, c, ETIMEDOUT);
        return false;
    }
    c->probes++;
    if (c->backoff < RTO_SHIFT_MAX)
        c->backoff++;
    stat_inc(&e->stats, ST_TCP_ZERO_WINDOW_PROBES);
    tcp_send_probe(e, c);
    c->rto_mode = RTO_PERSIST;
    c->rto_at_us = by_user_timeout(e, c, e->now_us + tcp_rto_now(e, c));
    return true;
}

/* False: the connection is gone. */
static bool rto_due(struct engine *e, struct tcp_conn *c)
{
    switch ((enum rto_mode)c->rto_mode) {
    case RTO_OFF:
        c->rto_at_us = 0;
        return true;
    case RTO_REXMIT:
        return rexmit_due(e, c);
    case RTO_PERSIST:
        return persist_due(e, c);
    case RTO_REORDER:
        c->rto_at_us = 0;
        tcp_recovery_reorder_timeout(e, c);
        return true;
    case RTO_TLP:
        if (tcp_flight(c) <= c->snd_wnd)
            c->flags |= TF_TLP;
        c->rto_mode = RTO_REXMIT;
        c->rto_at_us = e->now_us + tcp_rto_now(e, c);
        tcp_output_schedule(e, c);
        return true;
    }
    ENG_ASSERT(false);
    return true;
}

static void conn_timer(struct engine *e, struct tcp_conn *c)
{
    if (c->s.kind != SK_TCP || c->state == TCPS_CLOSED)
        return;
    if (c->rto_at_us && e->now_us >= c->rto_at_us && !rto_due(e, c))
        return;
    if (c->delack_at_us && e->now_us >= c->delack_at_us)
        tcp_delack_due(e, c);
    if (has_path(c))
        pace_timer(e, c);
    if (c->keep_at_us && e->now_us >= c->keep_at_us && !keep_due(e, c))
        return;
    tcp_timer_arm(e, c);
}

void tcp_timer_node(struct engine *e, uint32_t node)
{
    if (node < e->cfg.conn_max)
        conn_timer(e, &e->tcp.conns[node]);
    else if (node < e->cfg.conn_max + e->cfg.req_max)
        tcp_req_timer(e, node - e->cfg.conn_max);
    else
        tcp_tw_timer(e, node - e->cfg.conn_max - e->cfg.req_max);
}

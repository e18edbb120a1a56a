/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BBR version 3 (draft-ietf-ccwg-bbr): the state machine and the control of cwnd and pacing rate. The model
 * of the path is kept in cc_bbr_model.c. Sections are the draft's; rates are bytes a second, gains in
 * hundredths.
 */
#include "daemon/engine/cc_bbr.h"

#define STARTUP_PACING_GAIN   277u
#define DRAIN_PACING_GAIN     50u
#define DOWN_PACING_GAIN      90u
#define UP_PACING_GAIN        125u
#define CWND_GAIN             200u
#define UP_CWND_GAIN          225u
#define PROBE_RTT_CWND_GAIN   50u
#define PACING_MARGIN_PERCENT 1u
#define PROBE_RTT_DURATION_US 200000u
#define DRAIN_ROUNDS_MAX      3u
#define STARTUP_LOSS_EVENTS   6u

/* ---- Entering states (5.3) ---------------------------------------------------------------------------- */

static void gains(struct bbr *b, enum bbr_state state, uint16_t pacing, uint16_t cwnd)
{
    b->state = (uint8_t)state;
    b->pacing_gain = pacing;
    b->cwnd_gain = cwnd;
}

static void enter_startup(struct bbr *b)
{
    gains(b, BBR_STARTUP, STARTUP_PACING_GAIN, CWND_GAIN);
}

static void enter_drain(struct bbr *b)
{
    gains(b, BBR_DRAIN, DRAIN_PACING_GAIN, CWND_GAIN);
    b->drain_start_round = b->round_count;
}

static void start_down(struct engine *e, struct tcp_conn *c, struct bbr *b)
{
    uint64_t chance = bbr_random(e, c);

    bbr_reset_congestion_signals(b);
    b->probe_up_acked_per_inc = INF32;
    b->rounds_since_probe_up = chance & 1; /* PickProbeWait() */
    b->bw_probe_wait_us = 2000000 + (uint32_t)((chance >> 32) * 1000000 >> 32);
    b->cycle_us = e->now_us;
    b->ack_phase = ACKS_PROBE_STOPPING;
    bbr_start_round(c, b);
    gains(b, BBR_DOWN, DOWN_PACING_GAIN, CWND_GAIN);
}

static void start_cruise(struct bbr *b)
{
    gains(b, BBR_CRUISE, 100, CWND_GAIN);
}

static void start_refill(const struct tcp_conn *c, struct bbr *b)
{
    bbr_reset_short_term(b);
    b->bw_probe_up_rounds = 0;
    b->bw_probe_up_acked = 0;
    b->prev_probe_precautionary = false;
    b->ack_phase = ACKS_REFILLING;
    bbr_start_round(c, b);
    gains(b, BBR_REFILL, 100, CWND_GAIN);
}

static void start_up(const struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
    b->ack_phase = ACKS_PROBE_STARTING;
    bbr_start_round(c, b);
    bbr_reset_full_bw(b);
    b->full_bw = rs->rate;
    gains(b, BBR_UP, UP_PACING_GAIN, UP_CWND_GAIN);
    bbr_raise_slope(c, b);
}

static void exit_probe_rtt(struct engine *e, struct tcp_conn *c, struct bbr *b)
{
    bbr_reset_short_term(b);
    if (!b->full_bw_reached) {
        enter_startup(b);
        return;
    }
    start_down(e, c, b);
    start_cruise(b);
}

/* ---- Startup and Drain (5.3.1, 5.3.2) ------------------------------------------------------------- */

/* Exiting Startup by loss; without SACK any loss will do. */
static bool startup_loss_high(const struct engine *e, const struct tcp_conn *c, const struct bbr *b,
                              const struct rate_sample *rs)
{
    if (!(c->flags & TF_SACK))
        return b->is_loss_in_round && c->ca_state == CA_RECOVERY;
    return b->loss_round_start && c->ca_state == CA_RECOVERY && b->loss_events >= STARTUP_LOSS_EVENTS &&
           bbr_inflight_too_high(e, c, rs->lost, rs->in_flight);
}

static void check_startup_done(struct engine *e, struct tcp_conn *c, struct bbr *b,
                               const struct rate_sample *rs)
{
    uint32_t bdp;

    if (b->state == BBR_STARTUP && !b->full_bw_reached && startup_loss_high(e, c, b, rs)) {
        bdp = bbr_bdp(c, b, 100);
        b->undo_state = BBR_STARTUP;
        b->full_bw_reached = true;
        b->inflight_longterm = bdp > b->inflight_latest ? bdp : b->inflight_latest;
    }
    if (b->loss_round_start)
        b->loss_events = 0;
    if (b->state == BBR_STARTUP && b->full_bw_reached)
        enter_drain(b);
}

static void check_drain_done(struct engine *e, struct tcp_conn *c, struct bbr *b)
{
    if (b->state != BBR_DRAIN)
        return;
    if (tcp_pipe(e, c) <= bbr_inflight(e, c, b, 100) ||
        b->round_count > b->drain_start_round + DRAIN_ROUNDS_MAX)
        start_down(e, c, b);
}

/* ---- ProbeBW (5.3.3) ------------------------------------------------------------------------------ */

/* IsTimeToProbeBW(), with the bound that lets Reno and CUBIC live. */
static bool time_to_probe(struct engine *e, struct tcp_conn *c, struct bbr *b)
{
    uint32_t bdp = bbr_bdp(c, b, 100);
    uint32_t reno_rounds = (bdp < c->cwnd ? bdp : c->cwnd) / c->mss;

    if (e->now_us <= b->cycle_us + b->bw_probe_wait_us &&
        b->rounds_since_probe_up < (reno_rounds < 63 ? reno_rounds : 63))
        return false;
    start_refill(c, b);
    return true;
}

static bool time_to_cruise(struct engine *e, struct tcp_conn *c, const struct bbr *b)
{
    uint32_t pipe = tcp_pipe(e, c);

    return pipe <= bbr_with_headroom(c, b) && pipe <= bbr_inflight(e, c, b, 100);
}

static bool time_to_go_down(struct engine *e, struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
    if (b->prev_probe_too_high && tcp_pipe(e, c) >= b->inflight_longterm) {
        b->prev_probe_precautionary = true;
        return true;
    }
    if (c->flags & TF_CWND_FULL && c->cwnd >= b->inflight_longterm) {
        bbr_reset_full_bw(b); /* The rate is limited by inflight_longterm. */
        b->full_bw = rs->rate;
        return false;
    }
    return b->full_bw_now;
}

/* AdaptLongTermModel(); true: it has changed the state. */
static bool adapt_long_term(const struct engine *e, struct tcp_conn *c, struct bbr *b,
                            const struct rate_sample *rs)
{
    if (b->ack_phase == ACKS_PROBE_STARTING && b->round_start)
        b->ack_phase = ACKS_PROBE_FEEDBACK;
    if (b->ack_phase == ACKS_PROBE_STOPPING && b->round_start) {
        b->is_bw_probe_sample = false;
        b->ack_phase = ACKS_INIT;
        if (bbr_in_probe_bw(b) && !rs->app_limited)
            bbr_advance_max_bw(b);
        if (bbr_in_probe_bw(b) && b->prev_probe_precautionary && !b->prev_probe_too_high) {
            start_refill(c, b);
            return true;
        }
    }
    if (bbr_inflight_too_high(e, c, rs->lost, rs->in_flight) || b->inflight_longterm == INF32)
        return false;
    if (rs->in_flight > b->inflight_longterm)
        b->inflight_longterm = rs->in_flight;
    if (b->state == BBR_UP)
        bbr_probe_upward(c, b, rs->newly_acked);
    return false;
}

static void update_cycle_phase(struct engine *e, struct tcp_conn *c, struct bbr *b,
                               const struct rate_sample *rs)
{
    if (!b->full_bw_reached || adapt_long_term(e, c, b, rs))
        return;
    switch ((enum bbr_state)b->state) {
    case BBR_DOWN:
        if (!time_to_probe(e, c, b) && time_to_cruise(e, c, b))
            start_cruise(b);
        break;
    case BBR_CRUISE:
        (void)time_to_probe(e, c, b);
        break;
    case BBR_REFILL: /* one round to fill the pipe */
        if (b->round_start) {
            b->is_bw_probe_sample = true;
            start_up(c, b, rs);
        }
        break;
    case BBR_UP:
        if (time_to_go_down(e, c, b, rs)) {
            b->prev_probe_too_high = false;
            start_down(e, c, b);
        }
        break;
    case BBR_STARTUP:
    case BBR_DRAIN:
    case BBR_PROBE_RTT:
        break;
    }
}

/* ---- ProbeRTT (5.3.4) ----------------------------------------------------------------------------- */

static void save_cwnd(const struct tcp_conn *c, struct bbr *b)
{
    if ((c->ca_state == CA_OPEN && b->state != BBR_PROBE_RTT) || b->prior_cwnd < c->cwnd)
        b->prior_cwnd = c->cwnd;
}

static void restore_cwnd(struct tcp_conn *c, const struct bbr *b)
{
    if (c->cwnd < b->prior_cwnd)
        c->cwnd = b->prior_cwnd;
}

static uint32_t probe_rtt_cwnd(const struct tcp_conn *c, const struct bbr *b)
{
    uint32_t cwnd = bbr_bdp(c, b, PROBE_RTT_CWND_GAIN);

    return cwnd > bbr_min_pipe(c) ? cwnd : bbr_min_pipe(c);
}

static void check_probe_rtt_done(struct engine *e, struct tcp_conn *c, struct bbr *b)
{
    if (!b->probe_rtt_done_us || e->now_us <= b->probe_rtt_done_us)
        return;
    b->probe_rtt_min_stamp_us = e->now_us; /* the next one is due so long from now */
    restore_cwnd(c, b);
    exit_probe_rtt(e, c, b);
}

static void handle_probe_rtt(struct engine *e, struct tcp_conn *c, struct bbr *b)
{
    uint64_t mark = c->delivered + tcp_pipe(e, c);

    path_of(e, c)->app_limited = mark ? mark : 1; /* low samples say nothing */
    if (!b->probe_rtt_done_us) {
        if (tcp_pipe(e, c) > probe_rtt_cwnd(c, b))
            return;
        b->probe_rtt_done_us = e->now_us + PROBE_RTT_DURATION_US;
        b->probe_rtt_round_done = false;
        bbr_start_round(c, b);
        return;
    }
    if (b->round_start)
        b->probe_rtt_round_done = true;
    if (b->probe_rtt_round_done)
        check_probe_rtt_done(e, c, b);
}

static void check_probe_rtt(struct engine *e, struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
    if (b->state != BBR_PROBE_RTT && b->probe_rtt_expired && !b->idle_restart) {
        save_cwnd(c, b);
        gains(b, BBR_PROBE_RTT, 100, PROBE_RTT_CWND_GAIN);
        b->probe_rtt_done_us = 0;
        b->ack_phase = ACKS_PROBE_STOPPING;
        bbr_start_round(c, b);
    }
    if (b->state == BBR_PROBE_RTT)
        handle_probe_rtt(e, c, b);
    if (rs->delivered)
        b->idle_restart = false;
}

/* ---- Control (5.6) -------------------------------------------------------------------------------- */

static void set_pacing_rate(struct engine *e, struct tcp_conn *c, struct bbr *b, uint32_t gain)
{
    uint64_t rate = b->bw * gain / 100 * (100 - PACING_MARGIN_PERCENT) / 100;

    if (rate && (b->full_bw_reached || rate > path_of(e, c)->rate))
        pace_set_rate(e, c, rate);
}

/* BoundCwndForModel() */
static void bound_cwnd(struct tcp_conn *c, const struct bbr *b)
{
    uint32_t cap = INF32;

    if (b->state == BBR_PROBE_RTT && c->cwnd > probe_rtt_cwnd(c, b))
        c->cwnd = probe_rtt_cwnd(c, b);
    if (b->state == BBR_PROBE_RTT || b->state == BBR_CRUISE)
        cap = bbr_with_headroom(c, b);
    else if (bbr_in_probe_bw(b))
        cap = b->inflight_longterm;
    if (cap > b->inflight_shortterm)
        cap = b->inflight_shortterm;
    if (cap < bbr_min_pipe(c))
        cap = bbr_min_pipe(c);
    if (c->cwnd > cap)
        c->cwnd = cap;
}

static void set_cwnd(struct engine *e, struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
    bbr_update_max_inflight(e, c, b);
    if (b->full_bw_reached) {
        c->cwnd += rs->newly_acked;
        if (c->cwnd > b->max_inflight)
            c->cwnd = b->max_inflight;
    } else if (c->cwnd < b->max_inflight || c->delivered < 10u * c->mss) {
        c->cwnd += rs->newly_acked;
    }
    if (c->cwnd < bbr_min_pipe(c))
        c->cwnd = bbr_min_pipe(c);
    bound_cwnd(c, b);
}

/* ---- The table's functions ------------------------------------------------------------------------ */

static void bbr_init(struct engine *e, struct tcp_conn *c)
{
    struct cc_path *p;
    uint32_t srtt = c->srtt8_us / 8;

    if (!path_get(e, c)) {
        stat_inc(&e->stats, ST_TCP_CC_FALLBACK);
        c->o.cc = CC_CUBIC;
        cc_cubic.init(e, c);
        return;
    }
    p = path_of(e, c);
    bbr_model_init(e, c, &p->bbr);
    enter_startup(&p->bbr);
    c->ssthresh = INT32_MAX;
    pace_set_rate(e, c, (uint64_t)c->cwnd * 1000000 / (srtt ? srtt : 1000) * STARTUP_PACING_GAIN / 100);
}

static void bbr_release(struct engine *e, struct tcp_conn *c)
{
    path_put(e, c);
    if (c->ssthresh == INT32_MAX)
        c->ssthresh = c->cwnd; /* What the next algorithm finds is no first slow start. */
    pace_option(e, c);
}

/* HandleRestartFromIdle() (5.4.1) */
static void bbr_on_send(struct engine *e, struct tcp_conn *c)
{
    struct bbr *b;

    if (tcp_flight(c))
        return;
    if (c->path == NIL) { /* It was idle, and its record went to another connection. */
        bbr_init(e, c);
        return;
    }
    if (!path_of(e, c)->app_limited)
        return;
    b = &path_of(e, c)->bbr;
    b->idle_restart = true;
    b->extra_acked_start_us = e->now_us;
    if (bbr_in_probe_bw(b))
        set_pacing_rate(e, c, b, 100);
    else if (b->state == BBR_PROBE_RTT)
        check_probe_rtt_done(e, c, b);
}

/* UpdateOnACK() */
static void bbr_control(struct engine *e, struct tcp_conn *c)
{
    struct cc_path *p = path_of(e, c);
    struct bbr *b = &p->bbr;
    const struct rate_sample *rs = &p->rs;

    if (b->prior_ca != CA_OPEN && c->ca_state == CA_OPEN)
        restore_cwnd(c, b);
    b->prior_ca = c->ca_state;
    bbr_model_begin(e, c, p);
    check_startup_done(e, c, b, rs);
    check_drain_done(e, c, b);
    update_cycle_phase(e, c, b, rs);
    bbr_update_min_rtt(e, b, rs->rtt_us);
    check_probe_rtt(e, c, b, rs);
    bbr_model_end(b, rs);
    set_pacing_rate(e, c, b, b->pacing_gain);
    set_cwnd(e, c, b, rs);
}

/* HandleInflightTooHigh() (5.5.10.2): the volume at which it was too much, but no less than BBR.Beta of what
 * is held for right. */
static uint32_t longterm_from(const struct tcp_conn *c, const struct bbr *b, uint32_t at)
{
    uint32_t bdp = bbr_bdp(c, b, 100);
    uint32_t target = bbr_beta(bdp < c->cwnd ? bdp : c->cwnd);

    return at > target ? at : target;
}

/* HandleLostPacket() (5.5.10.2) */
static void bbr_on_lost(struct engine *e, struct tcp_conn *c, const struct tx_seg *t, const struct tx_rate *r)
{
    struct cc_path *p = path_of(e, c);
    struct bbr *b = &p->bbr;
    uint64_t lost = p->lost - r->lost;

    bbr_note_loss(c, b, p->lost - (t->end - t->start));
    if (t->start != b->last_lost_end && b->loss_events < UINT8_MAX)
        b->loss_events++;
    b->last_lost_end = t->end;
    if (!b->is_bw_probe_sample || !r->delivered_us || !bbr_inflight_too_high(e, c, lost, r->in_flight))
        return;
    b->prev_probe_too_high = true;
    b->is_bw_probe_sample = false; /* react once for a probe */
    if (!r->app_limited)
        b->inflight_longterm =
            longterm_from(c, b, bbr_inflight_at_loss(e, r->in_flight, lost, t->end - t->start));
    if (b->state == BBR_UP) {
        b->undo_state = BBR_UP;
        start_down(e, c, b);
    }
}

/* The draft leaves ECN open; RFC 3168 5 wants a mark to count as a loss does. So it does: the short-term
 * bounds give way at the end of the round, and a probe for more has found its limit. */
static void bbr_on_echo(struct engine *e, struct tcp_conn *c)
{
    struct bbr *b;

    if (c->path == NIL)
        return;
    b = &path_of(e, c)->bbr;
    bbr_note_loss(c, b, path_of(e, c)->lost);
    b->is_mark_in_round = true;
    if (b->state != BBR_UP || !b->is_bw_probe_sample)
        return;
    b->prev_probe_too_high = true;
    b->is_bw_probe_sample = false;
    b->inflight_longterm = longterm_from(c, b, tcp_pipe(e, c));
    start_down(e, c, b);
}

/* OnEnterFastRecovery(), OnEnterRTO(). There is no threshold: what is safe lies in the model. */
static uint32_t bbr_ssthresh(struct engine *e, struct tcp_conn *c)
{
    struct bbr *b;

    if (c->path == NIL)
        return INT32_MAX;
    b = &path_of(e, c)->bbr;
    save_cwnd(c, b);
    if (!b->is_loss_in_round)
        bbr_save_undo(b);
    return INT32_MAX;
}

static void bbr_on_rto(struct engine *e, struct tcp_conn *c)
{
    if (c->path != NIL)
        path_of(e, c)->bbr.prior_ca = CA_LOSS;
}

/* HandleSpuriousLossDetection() (5.5.11.2) */
static void bbr_on_undo(struct engine *e, struct tcp_conn *c)
{
    struct bbr *b;

    if (c->path == NIL)
        return;
    b = &path_of(e, c)->bbr;
    restore_cwnd(c, b);
    bbr_undo_model(b);
    if (b->undo_state == BBR_STARTUP && b->state != BBR_STARTUP) {
        b->full_bw_reached = false;
        if (b->state != BBR_PROBE_RTT)
            enter_startup(b);
    } else if (b->undo_state == BBR_UP && b->state != BBR_UP && b->state != BBR_PROBE_RTT) {
        start_refill(c, b);
    }
    b->undo_state = BBR_CRUISE;
}

const struct cc_ops cc_bbr = {
    .name = "bbr",
    .init = bbr_init,
    .release = bbr_release,
    .on_send = bbr_on_send,
    .control = bbr_control,
    .on_lost = bbr_on_lost,
    .ssthresh = bbr_ssthresh,
    .on_echo = bbr_on_echo,
    .on_rto = bbr_on_rto,
    .on_undo = bbr_on_undo,
};

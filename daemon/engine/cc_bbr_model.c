/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BBR's model of the path (draft-ietf-ccwg-bbr 5.5): how fast it delivers, how long it is, and how much it
 * bears, in the long term and in the short one.
 */
#include "daemon/engine/cc_bbr.h"

#define MIN_RTT_FILTER_US     10000000u
#define PROBE_RTT_INTERVAL_US 5000000u
#define EXTRA_ACKED_ROUNDS    5u /* two slots of these make up the draft's ten */
#define FULL_BW_ROUNDS        3u
#define HEADROOM_PERCENT      15u
#define OFFLOAD_QUANTA        3u
#define PROBE_UP_ROUNDS_MAX   30u
#define VOLUME_MAX            (UINT32_C(1) << 30)

/* Uniform enough to keep flows from probing in step, and the same in every run of the same events. */
uint64_t bbr_random(const struct engine *e, const struct tcp_conn *c)
{
    uint64_t z = e->now_us * UINT64_C(0x9e3779b97f4a7c15) + ((uint64_t)c->iss << 32 | c->hash);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void bbr_reset_congestion_signals(struct bbr *b)
{
    b->is_loss_in_round = b->is_mark_in_round = false;
    b->bw_latest = 0;
    b->inflight_latest = 0;
}

void bbr_reset_short_term(struct bbr *b)
{
    b->bw_shortterm = RATE_INFINITE;
    b->inflight_shortterm = INF32;
}

void bbr_reset_full_bw(struct bbr *b)
{
    b->full_bw = 0;
    b->full_bw_count = 0;
    b->full_bw_now = false;
}

void bbr_model_init(struct engine *e, struct tcp_conn *c, struct bbr *b)
{
    uint32_t rtt = c->srtt8_us ? c->srtt8_us / 8 : UINT32_MAX;

    *b = (struct bbr){.min_rtt_us = rtt,
                      .min_rtt_stamp_us = e->now_us,
                      .probe_rtt_min_us = rtt,
                      .probe_rtt_min_stamp_us = e->now_us,
                      .undo_state = BBR_CRUISE,
                      .prior_ca = c->ca_state,
                      .extra_acked_start_us = e->now_us,
                      .inflight_longterm = INF32,
                      .probe_up_acked_per_inc = INF32,
                      .next_round_delivered = c->delivered,
                      .loss_round_delivered = c->delivered,
                      .last_lost_end = c->snd_una};
    bbr_reset_short_term(b);
}

/* ---- Rounds and rates ----------------------------------------------------------------------------- */

static void update_round(const struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
    b->round_start = rs->prior_us && rs->prior_delivered >= b->next_round_delivered;
    if (!b->round_start)
        return;
    bbr_start_round(c, b);
    b->round_count++;
    b->rounds_since_probe_up++;
}

/* A filter of two slots: the probing cycle before, and this one. */
static void update_max_bw(const struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
    update_round(c, b, rs);
    if (!rs->rate || (rs->rate < b->max_bw && rs->app_limited))
        return;
    if (rs->rate > b->max_bw_slot[1])
        b->max_bw_slot[1] = rs->rate;
    b->max_bw = b->max_bw_slot[0] > b->max_bw_slot[1] ? b->max_bw_slot[0] : b->max_bw_slot[1];
}

void bbr_advance_max_bw(struct bbr *b)
{
    if (!b->max_bw_slot[1])
        return; /* No sample in this window: keep what there is. */
    b->max_bw_slot[0] = b->max_bw_slot[1];
    b->max_bw_slot[1] = 0;
    b->max_bw = b->max_bw_slot[0];
}

static void update_latest(const struct tcp_conn *c, struct bbr *b, const struct rate_sample *rs)
{
    uint32_t delivered = rs->delivered < VOLUME_MAX ? (uint32_t)rs->delivered : VOLUME_MAX;

    b->loss_round_start = false;
    if (rs->rate > b->bw_latest)
        b->bw_latest = rs->rate;
    if (delivered > b->inflight_latest)
        b->inflight_latest = delivered;
    if (rs->prior_us && rs->prior_delivered >= b->loss_round_delivered) {
        b->loss_round_delivered = c->delivered;
        b->loss_round_start = true;
    }
}

/* AdaptLowerBoundsFromCongestion(): once in a round with losses, unless the sender is probing. */
static void adapt_lower_bounds(const struct engine *e, const struct tcp_conn *c, struct bbr *b, uint64_t lost,
                               uint64_t delivered)
{
    uint64_t bw;
    uint32_t volume;

    if (b->state == BBR_STARTUP || b->state == BBR_REFILL || b->state == BBR_UP || !b->is_loss_in_round)
        return;
    if (!b->is_mark_in_round && lost * 100 <= (lost + delivered) * e->cfg.bbr_loss_percent)
        return;
    if (b->bw_shortterm == RATE_INFINITE)
        b->bw_shortterm = b->max_bw;
    if (b->inflight_shortterm == INF32)
        b->inflight_shortterm = c->cwnd;
    bw = b->bw_shortterm / 10 * 7;
    volume = bbr_beta(b->inflight_shortterm);
    b->bw_shortterm = b->bw_latest > bw ? b->bw_latest : bw;
    b->inflight_shortterm = b->inflight_latest > volume ? b->inflight_latest : volume;
}

/* UpdateACKAggregation() (5.5.9) */
static void update_aggregation(const struct engine *e, const struct tcp_conn *c, struct bbr *b,
                               uint32_t newly_acked)
{
    uint64_t interval = e->now_us - b->extra_acked_start_us;
    uint64_t expected = interval > 10000000 ? UINT64_MAX : b->bw * interval / 1000000;
    uint32_t slot_rounds = b->full_bw_reached ? EXTRA_ACKED_ROUNDS : 1;
    uint64_t extra;

    if (b->round_start && ++b->extra_acked_rounds >= slot_rounds) {
        b->extra_acked_rounds = 0;
        b->extra_acked_slot ^= 1;
        b->extra_acked[b->extra_acked_slot] = 0;
    }
    if (b->extra_acked_delivered <= expected) { /* The ACKs come no faster than expected: begin anew. */
        b->extra_acked_delivered = 0;
        b->extra_acked_start_us = e->now_us;
        expected = 0;
    }
    b->extra_acked_delivered += newly_acked;
    extra = b->extra_acked_delivered - expected;
    if (extra > c->cwnd)
        extra = c->cwnd;
    if (extra > b->extra_acked[b->extra_acked_slot])
        b->extra_acked[b->extra_acked_slot] = (uint32_t)extra;
}

/* CheckFullBWReached() (5.3.1.2) */
static void check_full_bw(struct bbr *b, const struct rate_sample *rs)
{
    if (b->full_bw_now || !b->round_start || rs->app_limited)
        return;
    if (rs->rate * 4 >= b->full_bw * 5) {
        bbr_reset_full_bw(b);
        b->full_bw = rs->rate;
        return;
    }
    b->full_bw_now = ++b->full_bw_count >= FULL_BW_ROUNDS;
    if (b->full_bw_now)
        b->full_bw_reached = true;
}

void bbr_model_begin(struct engine *e, struct tcp_conn *c, struct cc_path *p)
{
    const struct rate_sample *rs = &p->rs;
    struct bbr *b = &p->bbr;
    uint64_t begun = b->loss_round_delivered;

    update_latest(c, b, rs);
    update_max_bw(c, b, rs);
    if (b->loss_round_start) {
        adapt_lower_bounds(e, c, b, p->lost - b->loss_round_lost, c->delivered - begun);
        b->is_loss_in_round = b->is_mark_in_round = false;
        b->loss_round_lost = p->lost;
    }
    update_aggregation(e, c, b, rs->newly_acked);
    check_full_bw(b, rs);
}

void bbr_model_end(struct bbr *b, const struct rate_sample *rs)
{
    if (b->loss_round_start) {
        b->bw_latest = rs->rate;
        b->inflight_latest = rs->delivered < VOLUME_MAX ? (uint32_t)rs->delivered : VOLUME_MAX;
    }
    b->bw = b->max_bw < b->bw_shortterm ? b->max_bw : b->bw_shortterm;
}

/* ---- Length (5.3.4.3) ----------------------------------------------------------------------------- */

void bbr_update_min_rtt(const struct engine *e, struct bbr *b, uint32_t rtt_us)
{
    b->probe_rtt_expired = e->now_us > b->probe_rtt_min_stamp_us + PROBE_RTT_INTERVAL_US;
    if (rtt_us && (rtt_us < b->probe_rtt_min_us || b->probe_rtt_expired)) {
        b->probe_rtt_min_us = rtt_us;
        b->probe_rtt_min_stamp_us = e->now_us;
    }
    if (b->probe_rtt_min_us < b->min_rtt_us || e->now_us > b->min_rtt_stamp_us + MIN_RTT_FILTER_US) {
        b->min_rtt_us = b->probe_rtt_min_us;
        b->min_rtt_stamp_us = b->probe_rtt_min_stamp_us;
    }
}

/* ---- Volumes -------------------------------------------------------------------------------------- */

uint32_t bbr_bdp(const struct tcp_conn *c, const struct bbr *b, uint32_t gain)
{
    uint64_t bdp;

    if (b->min_rtt_us == UINT32_MAX)
        return 10u * c->mss;
    bdp = b->bw * b->min_rtt_us / 1000000 * gain / 100;
    return bdp < VOLUME_MAX ? (uint32_t)bdp : VOLUME_MAX;
}

/* QuantizationBudget() */
static uint32_t budget(const struct engine *e, const struct tcp_conn *c, const struct bbr *b, uint32_t cap)
{
    uint32_t offload = OFFLOAD_QUANTA * pace_quantum(e, c);

    if (cap < offload)
        cap = offload;
    if (cap < bbr_min_pipe(c))
        cap = bbr_min_pipe(c);
    return b->state == BBR_UP ? cap + 2u * c->mss : cap;
}

uint32_t bbr_inflight(const struct engine *e, const struct tcp_conn *c, const struct bbr *b, uint32_t gain)
{
    return budget(e, c, b, bbr_bdp(c, b, gain));
}

void bbr_update_max_inflight(const struct engine *e, const struct tcp_conn *c, struct bbr *b)
{
    uint32_t extra = b->extra_acked[0] > b->extra_acked[1] ? b->extra_acked[0] : b->extra_acked[1];

    b->max_inflight = budget(e, c, b, bbr_bdp(c, b, b->cwnd_gain) + extra);
}

uint32_t bbr_with_headroom(const struct tcp_conn *c, const struct bbr *b)
{
    uint32_t room, left;

    if (b->inflight_longterm == INF32)
        return INF32;
    room = (uint32_t)((uint64_t)b->inflight_longterm * HEADROOM_PERCENT / 100);
    if (room < c->mss)
        room = c->mss;
    left = b->inflight_longterm > room ? b->inflight_longterm - room : 0;
    return left > bbr_min_pipe(c) ? left : bbr_min_pipe(c);
}

void bbr_raise_slope(const struct tcp_conn *c, struct bbr *b)
{
    uint32_t per_inc = c->cwnd >> b->bw_probe_up_rounds;

    if (b->bw_probe_up_rounds < PROBE_UP_ROUNDS_MAX)
        b->bw_probe_up_rounds++;
    b->probe_up_acked_per_inc = per_inc > c->mss ? per_inc : c->mss;
}

void bbr_probe_upward(const struct tcp_conn *c, struct bbr *b, uint32_t newly_acked)
{
    uint32_t steps;

    if (!(c->flags & TF_CWND_FULL) || c->cwnd < b->inflight_longterm)
        return;
    b->bw_probe_up_acked += newly_acked;
    if (b->bw_probe_up_acked >= b->probe_up_acked_per_inc) {
        steps = b->bw_probe_up_acked / b->probe_up_acked_per_inc;
        b->bw_probe_up_acked -= steps * b->probe_up_acked_per_inc;
        if (b->inflight_longterm < VOLUME_MAX)
            b->inflight_longterm += steps * c->mss;
    }
    if (b->round_start)
        bbr_raise_slope(c, b);
}

/* ---- Loss (5.5.10, 5.5.11) ------------------------------------------------------------------------ */

bool bbr_inflight_too_high(const struct engine *e, const struct tcp_conn *c, uint64_t lost,
                           uint32_t in_flight)
{
    return lost * 100 > (uint64_t)in_flight * e->cfg.bbr_loss_percent || (lost && !(c->flags & TF_SACK));
}

uint32_t bbr_inflight_at_loss(const struct engine *e, uint32_t in_flight, uint64_t lost, uint32_t size)
{
    uint64_t prev = in_flight > size ? in_flight - size : 0;
    uint64_t lost_prev = lost > size ? lost - size : 0;
    uint64_t percent = e->cfg.bbr_loss_percent, allowed = prev * percent / 100;

    /* (2 % of what was in flight before, less what was lost before) / 98 %; nothing if that was too much. */
    return (uint32_t)(prev + (allowed > lost_prev ? (allowed - lost_prev) * 100 / (100 - percent) : 0));
}

void bbr_save_undo(struct bbr *b)
{
    b->undo_state = BBR_CRUISE;
    b->undo_bw_shortterm = b->bw_shortterm;
    b->undo_inflight_shortterm = b->inflight_shortterm;
    b->undo_inflight_longterm = b->inflight_longterm;
}

void bbr_note_loss(const struct tcp_conn *c, struct bbr *b, uint64_t lost_before)
{
    if (!b->is_loss_in_round) {
        b->loss_round_delivered = c->delivered;
        b->loss_round_lost = lost_before;
        bbr_save_undo(b);
    }
    b->is_loss_in_round = true;
}

void bbr_undo_model(struct bbr *b)
{
    b->is_loss_in_round = b->is_mark_in_round = false;
    bbr_reset_full_bw(b);
    if (b->bw_shortterm < b->undo_bw_shortterm)
        b->bw_shortterm = b->undo_bw_shortterm;
    if (b->inflight_shortterm < b->undo_inflight_shortterm)
        b->inflight_shortterm = b->undo_inflight_shortterm;
    if (b->inflight_longterm < b->undo_inflight_longterm)
        b->inflight_longterm = b->undo_inflight_longterm;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two files of BBR have of one another: the model of the path (cc_bbr_model.c), which the state
 * machine (cc_bbr.c) reads and steers by.
 */
#ifndef ENGINE_CC_BBR_H
#define ENGINE_CC_BBR_H

#include "daemon/engine/engine_int.h"

/** BBR.MinPipeCwnd: with less, a receiver that acknowledges every other segment stalls the sender. */
static inline uint32_t bbr_min_pipe(const struct tcp_conn *c)
{
    return 4u * c->mss;
}

static inline bool bbr_in_probe_bw(const struct bbr *b)
{
    return b->state >= BBR_DOWN && b->state <= BBR_UP;
}

/** BBR.Beta = 0.7. */
static inline uint32_t bbr_beta(uint32_t volume)
{
    return (uint32_t)((uint64_t)volume * 7 / 10);
}

static inline void bbr_start_round(const struct tcp_conn *c, struct bbr *b)
{
    b->next_round_delivered = c->delivered;
}

uint64_t bbr_random(const struct engine *e, const struct tcp_conn *c);
void bbr_model_init(struct engine *e, struct tcp_conn *c, struct bbr *b);
/** UpdateLatestDeliverySignals() to CheckFullBWReached(). */
void bbr_model_begin(struct engine *e, struct tcp_conn *c, struct cc_path *p);
/** AdvanceLatestDeliverySignals() and BoundBWForModel(). */
void bbr_model_end(struct bbr *b, const struct rate_sample *rs);
void bbr_update_min_rtt(const struct engine *e, struct bbr *b, uint32_t rtt_us);
void bbr_advance_max_bw(struct bbr *b);
void bbr_reset_full_bw(struct bbr *b);
void bbr_reset_congestion_signals(struct bbr *b);
void bbr_reset_short_term(struct bbr *b);
void bbr_raise_slope(const struct tcp_conn *c, struct bbr *b);
/** ProbeInflightLongtermUpward() */
void bbr_probe_upward(const struct tcp_conn *c, struct bbr *b, uint32_t newly_acked);
/** A segment was lost; `lost_before`: bytes that were lost before it. */
void bbr_note_loss(const struct tcp_conn *c, struct bbr *b, uint64_t lost_before);
void bbr_save_undo(struct bbr *b);
void bbr_undo_model(struct bbr *b);
/** IsInflightTooHigh() */
bool bbr_inflight_too_high(const struct engine *e, const struct tcp_conn *c, uint64_t lost,
                           uint32_t in_flight);
/** InflightAtLoss() */
uint32_t bbr_inflight_at_loss(const struct engine *e, uint32_t in_flight, uint64_t lost, uint32_t size);
/** BDPMultiple(): gain in hundredths. */
uint32_t bbr_bdp(const struct tcp_conn *c, const struct bbr *b, uint32_t gain);
/** Inflight() */
uint32_t bbr_inflight(const struct engine *e, const struct tcp_conn *c, const struct bbr *b, uint32_t gain);
/** InflightWithHeadroom() */
uint32_t bbr_with_headroom(const struct tcp_conn *c, const struct bbr *b);
void bbr_update_max_inflight(const struct engine *e, const struct tcp_conn *c, struct bbr *b);

#endif

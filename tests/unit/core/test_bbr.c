/* SPDX-License-Identifier: Apache-2.0 */
/* BBR's model of the path, delivery-rate samples and pacing (draft-ietf-ccwg-bbr), driven by hand. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "daemon/engine/cc_bbr.h"

#define MSS  1000u
#define SEGS 64u

struct rig {
    struct engine *e;
    struct tcp_conn c;
    struct cc_path *p;
    struct bbr *b;
    uint32_t sent, acked; /* segments of MSS bytes */
};

static void rig_start(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    r->e = calloc(1, sizeof(*r->e));
    r->e->now_us = 1000000;
    r->e->cfg.bbr_loss_percent = 2;
    r->e->tcp.paths = calloc(1, sizeof(struct cc_path));
    r->e->tcp.segs = calloc(SEGS, sizeof(struct tx_seg));
    r->e->tcp.rates = calloc(SEGS, sizeof(struct tx_rate));
    r->e->tcp.path_oldest = r->e->tcp.path_newest = 0;
    r->c = (struct tcp_conn){.mss = MSS, .cwnd = 100 * MSS, .flight = NIL, .flags = TF_SACK};
    r->c.min_rtt_us = UINT32_MAX;
    r->p = &r->e->tcp.paths[0];
    r->p->lru_next = r->p->lru_prev = NIL;
    r->p->rate = RATE_INFINITE;
    r->b = &r->p->bbr;
    bbr_model_init(r->e, &r->c, r->b);
}

static void rig_stop(struct rig *r)
{
    free(r->e->tcp.paths);
    free(r->e->tcp.segs);
    free(r->e->tcp.rates);
    free(r->e);
}

static void at_ms(struct rig *r, uint64_t ms)
{
    r->e->now_us = 1000000 + ms * 1000;
}

static void send_one(struct rig *r)
{
    uint32_t i = r->sent++;

    r->e->tcp.segs[i] = (struct tx_seg){.start = i * MSS, .end = (i + 1) * MSS, .xmit_us = r->e->now_us};
    r->c.snd_nxt = (i + 1) * MSS;
    rate_sent(r->e, &r->c, i);
}

/* One ACK for the next `n` segments. */
static void ack(struct rig *r, unsigned n)
{
    rate_ack_begin(r->e, &r->c);
    for (; n; n--, r->acked++) {
        r->c.delivered += MSS;
        rate_delivered(r->e, &r->c, r->acked, MSS);
    }
    r->c.snd_una = r->acked * MSS;
    rate_ack_end(r->e, &r->c, 0);
}

/* ---- Delivery-rate samples ------------------------------------------------------------------------- */

Test(rate, a_lone_segment_is_measured_over_its_round_trip)
{
    struct rig r;

    rig_start(&r);
    send_one(&r);
    at_ms(&r, 100);
    ack(&r, 1);
    cr_assert_eq(r.p->rs.rate, 10000, "1,000 bytes in 100 ms");
    cr_assert_eq(r.p->rs.newly_acked, MSS);
    rig_stop(&r);
}

Test(rate, compressed_acks_do_not_raise_the_rate_above_that_of_sending)
{
    struct rig r;

    rig_start(&r);
    for (unsigned i = 0; i < 10; i++) {
        at_ms(&r, 10 * i);
        send_one(&r);
    }
    at_ms(&r, 95);
    for (unsigned i = 0; i < 10; i++) {
        ack(&r, 1); /* ten ACKs that waited for one another */
        cr_assert_leq(r.p->rs.rate, 10000000 / 90, "ACK %u: %lu", i, r.p->rs.rate);
    }
    cr_assert_eq(r.p->rs.rate, 10000 * UINT64_C(1000000) / 95000);
    rig_stop(&r);
}

Test(rate, a_sample_shorter_than_the_shortest_trip_is_none)
{
    struct rig r;

    rig_start(&r);
    r.c.min_rtt_us = 100000;
    send_one(&r);
    at_ms(&r, 50);
    ack(&r, 1);
    cr_assert_eq(r.p->rs.rate, 0);
    rig_stop(&r);
}

Test(rate, samples_of_an_application_that_ran_out_of_data_say_so)
{
    struct rig r;

    rig_start(&r);
    send_one(&r);
    rate_app_limited(r.e, &r.c);
    send_one(&r);
    at_ms(&r, 100);
    ack(&r, 1);
    cr_assert(!r.p->rs.app_limited, "it was sent before");
    ack(&r, 1);
    cr_assert(r.p->rs.app_limited);
    send_one(&r);
    at_ms(&r, 200);
    ack(&r, 1);
    cr_assert(!r.p->rs.app_limited, "the bubble has passed");
    rig_stop(&r);
}

Test(rate, losses_are_counted_from_the_sending_of_the_segment)
{
    struct rig r;

    rig_start(&r);
    r.c.o.cc = CC_CUBIC;
    for (unsigned i = 0; i < 4; i++)
        send_one(&r);
    rate_lost(r.e, &r.c, 1);
    rate_lost(r.e, &r.c, 2);
    at_ms(&r, 100);
    ack(&r, 1);
    cr_assert_eq(r.p->rs.lost, 2 * MSS);
    cr_assert_eq(r.p->rs.in_flight, MSS);
    send_one(&r); /* after the losses: they are not its own */
    r.acked = 4;
    at_ms(&r, 200);
    ack(&r, 1);
    cr_assert_eq(r.p->rs.lost, 0);
    rig_stop(&r);
}

/* ---- The model ---------------------------------------------------------------------------------------- */

/* An ACK that ends a round, with this rate, for 50 segments. */
static void round_with(struct rig *r, uint64_t rate, bool app_limited)
{
    r->p->rs = (struct rate_sample){.rate = rate,
                                    .prior_us = 1,
                                    .prior_delivered = r->c.delivered,
                                    .delivered = 50 * MSS,
                                    .app_limited = app_limited};
    r->c.delivered += 50 * MSS;
    bbr_model_begin(r->e, &r->c, r->p);
    bbr_model_end(r->b, &r->p->rs);
}

static void lose(struct rig *r, uint32_t bytes)
{
    bbr_note_loss(&r->c, r->b, r->p->lost);
    r->p->lost += bytes;
}

Test(bbr, pipe_is_full_after_three_rounds_without_a_quarter_more)
{
    struct rig r;

    rig_start(&r);
    round_with(&r, 1000000, false);
    round_with(&r, 1250000, false); /* just enough */
    round_with(&r, 1500000, false);
    round_with(&r, 1500000, false);
    cr_assert(!r.b->full_bw_reached);
    round_with(&r, 900000, true); /* app-limited: not counted */
    cr_assert(!r.b->full_bw_reached);
    round_with(&r, 1562499, false);
    cr_assert(r.b->full_bw_reached && r.b->full_bw_now);
    rig_stop(&r);
}

Test(bbr, best_rate_of_two_probing_cycles_counts)
{
    struct rig r;

    rig_start(&r);
    round_with(&r, 1000000, false);
    bbr_advance_max_bw(r.b);
    round_with(&r, 600000, false);
    cr_assert_eq(r.b->max_bw, 1000000);
    round_with(&r, 900000, true);
    cr_assert_eq(r.b->max_bw, 1000000, "an app-limited sample counts only where it is higher");
    bbr_advance_max_bw(r.b);
    cr_assert_eq(r.b->max_bw, 600000);
    round_with(&r, 700000, true);
    cr_assert_eq(r.b->max_bw, 700000);
    rig_stop(&r);
}

Test(bbr, round_with_loss_pulls_the_short_term_bounds_down_to_seven_tenths)
{
    struct rig r;

    rig_start(&r);
    r.b->state = BBR_CRUISE;
    round_with(&r, 1000000, false);
    lose(&r, 2 * MSS);
    r.b->bw_latest = r.b->inflight_latest = 0;
    round_with(&r, 100000, false);
    cr_assert_eq(r.b->bw_shortterm, 700000);
    cr_assert_eq(r.b->inflight_shortterm, 70 * MSS);
    cr_assert_eq(r.b->bw, 700000);
    lose(&r, 2 * MSS);
    round_with(&r, 650000, false);
    cr_assert_eq(r.b->bw_shortterm, 650000, "never below what was delivered");
    round_with(&r, 650000, false);
    cr_assert_eq(r.b->bw_shortterm, 650000, "a round without loss changes nothing");
    bbr_undo_model(r.b);
    rig_stop(&r);
}

/* Not the draft's: docs/congestion.md. */
Test(bbr, losses_that_the_path_may_have_leave_the_short_term_bounds_alone)
{
    struct rig r;

    rig_start(&r);
    r.b->state = BBR_CRUISE;
    round_with(&r, 1000000, false);
    lose(&r, MSS); /* of 51 segments: 1.96 % */
    round_with(&r, 100000, false);
    cr_assert_eq(r.b->bw_shortterm, RATE_INFINITE);
    lose(&r, MSS + 21); /* 2.0004 % */
    round_with(&r, 100000, false);
    cr_assert_neq(r.b->bw_shortterm, RATE_INFINITE);
    rig_stop(&r);
}

Test(bbr, marked_round_pulls_them_down_whatever_was_lost)
{
    struct rig r;

    rig_start(&r);
    r.b->state = BBR_CRUISE;
    round_with(&r, 1000000, false);
    lose(&r, 0);
    r.b->is_mark_in_round = true;
    r.b->bw_latest = 0;
    round_with(&r, 100000, false);
    cr_assert_eq(r.b->bw_shortterm, 700000);
    rig_stop(&r);
}

Test(bbr, losses_of_more_than_two_percent_are_too_many)
{
    struct tcp_conn c = {.flags = TF_SACK}, plain = {0};
    struct rig r;

    rig_start(&r);
    cr_assert(!bbr_inflight_too_high(r.e, &c, 2000, 100000));
    cr_assert(bbr_inflight_too_high(r.e, &c, 2001, 100000));
    r.e->cfg.bbr_loss_percent = 5;
    cr_assert(!bbr_inflight_too_high(r.e, &c, 5000, 100000));
    cr_assert(bbr_inflight_too_high(r.e, &c, 5001, 100000));
    cr_assert(!bbr_inflight_too_high(r.e, &plain, 0, 100000));
    cr_assert(bbr_inflight_too_high(r.e, &plain, 1, 100000), "without SACK one loss is all that can be seen");
    rig_stop(&r);
}

/* lost_prefix = (0.02 * inflight_prev - lost_prev) / 0.98 */
Test(bbr, volume_at_which_losses_crossed_the_threshold)
{
    struct rig r;

    rig_start(&r);
    cr_assert_eq(bbr_inflight_at_loss(r.e, 100000, 10500, 10000), 90000 + (1800 - 500) * 100 / 98);
    cr_assert_eq(bbr_inflight_at_loss(r.e, 100000, 15000, 10000), 90000, "crossed before this segment");
    cr_assert_eq(bbr_inflight_at_loss(r.e, 1000, 1000, 1000), 0);
    rig_stop(&r);
}

Test(bbr, headroom_is_fifteen_percent_and_leaves_four_segments)
{
    struct rig r;

    rig_start(&r);
    cr_assert_eq(bbr_with_headroom(&r.c, r.b), INF32);
    r.b->inflight_longterm = 100 * MSS;
    cr_assert_eq(bbr_with_headroom(&r.c, r.b), 85 * MSS);
    r.b->inflight_longterm = 4 * MSS;
    cr_assert_eq(bbr_with_headroom(&r.c, r.b), 4 * MSS);
    rig_stop(&r);
}

Test(bbr, shortest_trip_is_forgotten_after_ten_seconds_and_sought_after_five)
{
    struct rig r;

    rig_start(&r);
    bbr_update_min_rtt(r.e, r.b, 20000);
    at_ms(&r, 4900);
    bbr_update_min_rtt(r.e, r.b, 30000);
    cr_assert(!r.b->probe_rtt_expired);
    at_ms(&r, 5100);
    bbr_update_min_rtt(r.e, r.b, 30000);
    cr_assert(r.b->probe_rtt_expired, "time for ProbeRTT");
    cr_assert_eq(r.b->min_rtt_us, 20000);
    at_ms(&r, 10100);
    bbr_update_min_rtt(r.e, r.b, 31000);
    cr_assert_eq(r.b->min_rtt_us, 30000);
    rig_stop(&r);
}

Test(bbr, volume_of_the_path_is_rate_times_trip)
{
    struct rig r;

    rig_start(&r);
    cr_assert_eq(bbr_bdp(&r.c, r.b, 200), 10 * MSS, "nothing known yet: the initial window");
    r.b->min_rtt_us = 40000;
    r.b->bw = 2500000;
    cr_assert_eq(bbr_bdp(&r.c, r.b, 100), 100000);
    cr_assert_eq(bbr_bdp(&r.c, r.b, 225), 225000);
    rig_stop(&r);
}

/* ---- Pacing --------------------------------------------------------------------------------------- */

Test(pace, departures_keep_the_rate_and_a_pause_earns_no_credit)
{
    struct rig r;
    uint64_t bytes = 0;

    rig_start(&r);
    pace_set_rate(r.e, &r.c, 1000000);
    cr_assert_eq(r.p->quantum, 1000, "a millisecond's worth");
    cr_assert_eq(pace_quantum(r.e, &r.c), 2 * MSS, "but two segments");
    for (uint64_t ms = 0; ms < 100; ms++) {
        at_ms(&r, ms);
        for (; r.p->next_ns <= r.e->now_us * 1000 + PACE_SLACK_NS; bytes += MSS)
            pace_sent(r.e, &r.c, MSS);
    }
    cr_assert(bytes >= 99 * MSS && bytes <= 103 * MSS, "%lu bytes in 100 ms at 1 MB/s", bytes);
    at_ms(&r, 10000);
    for (bytes = 0; r.p->next_ns <= r.e->now_us * 1000 + PACE_SLACK_NS; bytes += MSS)
        pace_sent(r.e, &r.c, MSS);
    cr_assert_leq(bytes, 3 * MSS, "after ten idle seconds as well");
    rig_stop(&r);
}

Test(pace, quantum_is_at_most_64_kib_and_the_option_bounds_the_rate)
{
    struct rig r;

    rig_start(&r);
    pace_set_rate(r.e, &r.c, UINT64_C(10000000000));
    cr_assert_eq(r.p->quantum, 65536);
    r.c.o.pacing_max = 5000000;
    pace_set_rate(r.e, &r.c, UINT64_C(10000000000));
    cr_assert_eq(r.p->rate, 5000000);
    rig_stop(&r);
}

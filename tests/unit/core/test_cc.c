/* SPDX-License-Identifier: Apache-2.0 */
/* Congestion control: NewReno (RFC 5681) and CUBIC (RFC 9438), driven by hand. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "daemon/engine/engine_int.h"

#define MSS 1000u

static struct tcp_conn conn(const struct cc_ops *cc, uint32_t cwnd, uint32_t ssthresh)
{
    struct tcp_conn c = {.mss = MSS, .cwnd = cwnd, .ssthresh = ssthresh, .srtt8_us = 8 * 100000};

    cc->init(NULL, &c);
    return c;
}

static void ack(struct tcp_conn *c, const struct cc_ops *cc, uint32_t bytes, uint64_t now_us)
{
    cc->on_ack(c, &(struct cc_ack){.now_us = now_us, .acked = bytes});
}

/* One round trip: every byte of the window is acknowledged, two segments at a time. */
static void round_trip(struct tcp_conn *c, const struct cc_ops *cc, uint64_t *now_us, uint64_t rtt_us)
{
    uint32_t n = c->cwnd / (2 * MSS);

    for (uint32_t i = 0; i < n; i++)
        ack(c, cc, 2 * MSS, *now_us + rtt_us * i / n);
    *now_us += rtt_us;
}

Test(cc, slow_start_doubles_in_a_round_trip)
{
    const struct cc_ops *all[] = {&cc_newreno, &cc_cubic};

    for (unsigned i = 0; i < 2; i++) {
        struct tcp_conn c = conn(all[i], 10 * MSS, INT32_MAX);
        uint64_t now = 1000000;

        round_trip(&c, all[i], &now, 100000);
        cr_assert_eq(c.cwnd, 20 * MSS, "%s", all[i]->name);
        round_trip(&c, all[i], &now, 100000);
        cr_assert_eq(c.cwnd, 40 * MSS, "%s", all[i]->name);
    }
}

Test(cc, newreno_adds_a_segment_in_a_round_trip)
{
    struct tcp_conn c = conn(&cc_newreno, 20 * MSS, 20 * MSS);
    uint64_t now = 1000000;

    for (unsigned i = 1; i <= 10; i++) {
        round_trip(&c, &cc_newreno, &now, 100000);
        cr_assert(c.cwnd >= (20 + i - 1) * MSS && c.cwnd <= (20 + i) * MSS, "round %u: %u", i, c.cwnd);
    }
}

Test(cc, newreno_halves_what_is_in_flight)
{
    struct tcp_conn c = conn(&cc_newreno, 40 * MSS, INT32_MAX);

    c.snd_una = UINT32_MAX - 5000;
    c.snd_nxt = c.snd_una + 20 * MSS;
    cr_assert_eq(cc_newreno.ssthresh(NULL, &c), 10 * MSS);
    c.snd_nxt = c.snd_una + MSS;
    cr_assert_eq(cc_newreno.ssthresh(NULL, &c), 2 * MSS, "RFC 5681 equation 4");
}

Test(cc, cubic_reduces_to_seven_tenths)
{
    struct tcp_conn c = conn(&cc_cubic, 100 * MSS, INT32_MAX);

    cr_assert_eq(cc_cubic.ssthresh(NULL, &c), 70 * MSS);
    c.cwnd = 2 * MSS;
    cr_assert_eq(cc_cubic.ssthresh(NULL, &c), 2 * MSS);
}

/* W(t) = 0.4 (t - K)^3 + W_max, K = cbrt(0.3 W_max / 0.4) */
Test(cc, cubic_follows_its_curve)
{
    struct tcp_conn c = conn(&cc_cubic, 1000 * MSS, INT32_MAX);
    const double w_max = 1000, k = cbrt(w_max * 0.3 / 0.4);
    uint64_t now = 1000000, start = now;

    c.ssthresh = c.cwnd = cc_cubic.ssthresh(NULL, &c);
    for (unsigned i = 0; i < 160; i++) {
        double t = (double)(now - start) / 1e6, want;

        round_trip(&c, &cc_cubic, &now, 100000);
        want = 0.4 * pow(t + 0.1 - k, 3) + w_max;
        if (t < k + 4)
            cr_assert(fabs(c.cwnd / (double)MSS - want) < 25, "t = %.1f: %.0f, not %.0f", t,
                      c.cwnd / (double)MSS, want);
    }
}

Test(cc, cubic_is_at_least_as_fast_as_reno_on_short_paths)
{
    struct tcp_conn c = conn(&cc_cubic, 20 * MSS, INT32_MAX);
    uint64_t now = 1000000;

    c.ssthresh = c.cwnd = cc_cubic.ssthresh(NULL, &c);
    c.srtt8_us = 8 * 2000;
    for (unsigned i = 0; i < 100; i++)
        round_trip(&c, &cc_cubic, &now, 2000); /* 0.2 s: the cubic alone would have hardly grown */
    /* RFC 9438 4.3: 9/17 of a segment in a round trip up to W_max (20), then a whole one. */
    cr_assert_geq(c.cwnd, 70 * MSS, "%u", c.cwnd);
    cr_assert_leq(c.cwnd, 110 * MSS, "%u", c.cwnd);
}

/* What the curve says `ms` after the start of congestion avoidance, in segments. */
static double curve(double w_max, double cwnd_epoch, double ms, double rtt_ms)
{
    double k = cwnd_epoch < w_max ? cbrt((w_max - cwnd_epoch) / 0.4) : 0;

    return 0.4 * pow((ms + rtt_ms) / 1000 - k, 3) + w_max;
}

/* Let one ACK in a millisecond come for `ms`, on a path of rtt_ms whose window is always used up. */
static uint64_t run_ms(struct tcp_conn *c, uint64_t now_us, unsigned ms, unsigned rtt_ms)
{
    c->srtt8_us = rtt_ms * 8000;
    for (unsigned i = 0; i < ms; i++, now_us += 1000)
        ack(c, &cc_cubic, c->cwnd / rtt_ms, now_us);
    return now_us;
}

Test(cc, cubic_fast_convergence_gives_way_after_a_loss_below_the_plateau)
{
    struct tcp_conn c = conn(&cc_cubic, 1000 * MSS, INT32_MAX);
    uint64_t now = 1000000;
    double want;

    (void)cc_cubic.ssthresh(NULL, &c);
    c.cwnd = 800 * MSS;
    /* RFC 9438 4.7: W_max = 800 * (1 + 0.7) / 2 = 680, cwnd_epoch = 560. */
    c.ssthresh = c.cwnd = cc_cubic.ssthresh(NULL, &c);
    cr_assert_eq(c.cwnd, 560 * MSS);
    (void)run_ms(&c, now, 9000, 100);
    want = curve(680, 560, 9000, 100);
    cr_assert(fabs(c.cwnd / (double)MSS - want) < 8, "%.0f, not %.0f", c.cwnd / (double)MSS, want);
}

Test(cc, cubic_after_a_time_out_has_no_plateau_but_the_end_of_slow_start)
{
    struct tcp_conn c = conn(&cc_cubic, 1000 * MSS, INT32_MAX);
    uint64_t now = 1000000;
    double want;

    c.ssthresh = cc_cubic.ssthresh(NULL, &c);
    cc_cubic.on_rto(NULL, &c);
    c.cwnd = c.ssthresh; /* slow start has led there */
    (void)run_ms(&c, now, 6000, 100);
    want = curve(700, 700, 6000, 100); /* RFC 9438 4.8: K = 0 */
    cr_assert(fabs(c.cwnd / (double)MSS - want) < 8, "%.0f, not %.0f", c.cwnd / (double)MSS, want);
}

Test(cc, cubic_never_aims_beyond_one_and_a_half_windows)
{
    struct tcp_conn c = conn(&cc_cubic, 10 * MSS, 10 * MSS);
    uint64_t now = run_ms(&c, 1000000, 100, 100);
    uint32_t before = c.cwnd;

    /* Forty seconds of curve in one ACK: RFC 9438 4.2 lets a window's worth of ACKs add half a window. */
    for (unsigned i = 0; i < 400; i++, now += 99000) {
        before = c.cwnd;
        ack(&c, &cc_cubic, c.cwnd, now);
        cr_assert_leq(c.cwnd, before + before / 2 + MSS);
    }
    cr_assert_gt(c.cwnd, 1000 * MSS);
}

Test(cc, cubic_stands_still_while_the_window_is_not_used_up)
{
    struct tcp_conn a = conn(&cc_cubic, 1000 * MSS, INT32_MAX), b;
    uint64_t now = 1000000;

    a.ssthresh = a.cwnd = cc_cubic.ssthresh(NULL, &a);
    now = run_ms(&a, now, 5000, 100);
    b = a;
    (void)run_ms(&a, now, 2000, 100);
    (void)run_ms(&b, now + 30000000, 2000, 100); /* half a minute in which the application sent little */
    cr_assert(fabs((double)a.cwnd - b.cwnd) < 12 * MSS, "RFC 9438 5.8: %u with, %u without the pause", b.cwnd,
              a.cwnd);
}

Test(cc, cubic_undo_takes_the_curve_up_again)
{
    struct tcp_conn a = conn(&cc_cubic, 1000 * MSS, INT32_MAX), b;
    uint64_t now = 1000000;

    a.ssthresh = a.cwnd = cc_cubic.ssthresh(NULL, &a);
    now = run_ms(&a, now, 5000, 100);
    b = a;
    (void)cc_cubic.ssthresh(NULL, &b);
    cc_cubic.on_rto(NULL, &b);
    cc_cubic.on_undo(NULL, &b); /* RFC 9438 4.9; cwnd and ssthresh are the caller's */
    (void)run_ms(&a, now, 3000, 100);
    (void)run_ms(&b, now, 3000, 100);
    cr_assert_eq(a.cwnd, b.cwnd);
}

Test(cc, cubic_undo_after_a_new_curve_began_starts_from_the_restored_window)
{
    struct tcp_conn c = conn(&cc_cubic, 1000 * MSS, INT32_MAX);
    uint64_t now = 1000000;

    c.ssthresh = c.cwnd = cc_cubic.ssthresh(NULL, &c);
    now = run_ms(&c, now, 300, 100);
    c.cwnd = 1000 * MSS;
    cc_cubic.on_undo(NULL, &c);
    (void)run_ms(&c, now, 1000, 100);
    cr_assert_geq(c.cwnd, 1000 * MSS);
    cr_assert_leq(c.cwnd, 1012 * MSS, "a flat start: %u", c.cwnd);
}

/* ---- The table ------------------------------------------------------------------------------------ */

Test(cc, names_and_ids)
{
    for (uint8_t id = 0; id < CC_COUNT; id++)
        cr_assert_eq(cc_find(cc_name(id)), id);
    cr_assert_eq(cc_name(CC_RENO), 0x6f6e6572, "first byte lowest");
    cr_assert_eq(cc_find(0), CC_COUNT);
    cr_assert_eq(cc_find(0x6f6e65), CC_COUNT, "a prefix is no name");
    cr_assert_eq(cc_find(cc_name(CC_RENO) | UINT64_C(0x78) << 32), CC_COUNT, "nor is more");
}

Test(cc, window_halves_with_each_time_out_of_idleness)
{
    struct engine *e = calloc(1, sizeof(*e));
    struct tcp_conn c = conn(&cc_cubic, 100 * MSS, 50 * MSS);

    e->cfg.idle_restart = 1;
    e->now_us = 10000000;
    c.rto_us = 300000;
    c.sent_us = e->now_us - 300000;
    cc_restart_after_idle(e, &c);
    cr_assert_eq(c.cwnd, 100 * MSS, "not idle longer than a time-out");
    c.sent_us = e->now_us - 700000;
    cc_restart_after_idle(e, &c);
    cr_assert_eq(c.cwnd, 25 * MSS, "RFC 2861 3: twice");
    cr_assert_eq(c.ssthresh, 75 * MSS, "three quarters of what it was");
    c.cwnd = 100 * MSS;
    c.sent_us = 1;
    cc_restart_after_idle(e, &c);
    cr_assert_eq(c.cwnd, 10 * MSS, "RFC 5681 4.1: never below the initial window");
    c.cwnd = 100 * MSS;
    c.snd_nxt = c.snd_una + 1;
    cc_restart_after_idle(e, &c);
    cr_assert_eq(c.cwnd, 100 * MSS, "something is in flight");
    c.snd_nxt = c.snd_una;
    e->cfg.idle_restart = 0;
    cc_restart_after_idle(e, &c);
    cr_assert_eq(c.cwnd, 100 * MSS, "switched off");
    free(e);
}

/* No window is ever so large or small, no pause so long, that the arithmetic goes wrong. */
Test(cc, extremes)
{
    static const uint32_t cwnds[] = {MSS, 2 * MSS, 1u << 20, 1u << 28, (1u << 30) - 1};

    for (unsigned i = 0; i < sizeof(cwnds) / sizeof(cwnds[0]); i++)
        for (uint64_t gap = 1; gap < UINT64_C(1) << 45; gap *= 37) {
            struct tcp_conn c = conn(&cc_cubic, cwnds[i], INT32_MAX);
            uint64_t now = 1000000;
            uint32_t before;

            c.ssthresh = c.cwnd = cc_cubic.ssthresh(NULL, &c);
            before = c.cwnd;
            ack(&c, &cc_cubic, MSS, now);
            ack(&c, &cc_cubic, MSS, now + gap);
            cr_assert_geq(c.cwnd, before, "%u after %lu us: %u", cwnds[i], gap, c.cwnd);
            cr_assert_leq(c.cwnd, before + 3 * MSS, "%u after %lu us: %u", cwnds[i], gap, c.cwnd);
        }
}

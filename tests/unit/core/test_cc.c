/* SPDX-License-Identifier: Apache-2.0 */
/* Congestion control: NewReno (RFC 5681) and CUBIC (RFC 9438), driven by hand. */
#include <criterion/criterion.h>
#include <math.h>

#include "daemon/engine/engine_int.h"

#define MSS 1000u

static struct tcp_conn conn(const struct cc_ops *cc, uint32_t cwnd, uint32_t ssthresh)
{
    struct tcp_conn c = {.mss = MSS, .cwnd = cwnd, .ssthresh = ssthresh, .srtt8_us = 8 * 100000};

    cc->init(&c);
    return c;
}

/* One round trip: every byte of the window is acknowledged, two segments at a time. */
static void round_trip(struct tcp_conn *c, const struct cc_ops *cc, uint64_t *now_us, uint64_t rtt_us)
{
    uint32_t n = c->cwnd / (2 * MSS);

    for (uint32_t i = 0; i < n; i++)
        cc->on_ack(c, 2 * MSS, *now_us + rtt_us * i / n);
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
    cr_assert_eq(cc_newreno.ssthresh(&c, 0), 10 * MSS);
    c.snd_nxt = c.snd_una + MSS;
    cr_assert_eq(cc_newreno.ssthresh(&c, 0), 2 * MSS, "RFC 5681 equation 4");
}

Test(cc, cubic_reduces_to_seven_tenths)
{
    struct tcp_conn c = conn(&cc_cubic, 100 * MSS, INT32_MAX);

    cr_assert_eq(cc_cubic.ssthresh(&c, 0), 70 * MSS);
    c.cwnd = 2 * MSS;
    cr_assert_eq(cc_cubic.ssthresh(&c, 0), 2 * MSS);
}

/* W(t) = 0.4 (t - K)^3 + W_max, K = cbrt(0.3 W_max / 0.4) */
Test(cc, cubic_follows_its_curve)
{
    struct tcp_conn c = conn(&cc_cubic, 1000 * MSS, INT32_MAX);
    const double w_max = 1000, k = cbrt(w_max * 0.3 / 0.4);
    uint64_t now = 1000000, start = now;

    c.ssthresh = c.cwnd = cc_cubic.ssthresh(&c, now);
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

    c.ssthresh = c.cwnd = cc_cubic.ssthresh(&c, now);
    c.srtt8_us = 8 * 2000;
    for (unsigned i = 0; i < 100; i++)
        round_trip(&c, &cc_cubic, &now, 2000); /* 0.2 s: the cubic alone would have hardly grown */
    /* RFC 9438 4.3: 9/17 of a segment in a round trip up to W_max (20), then a whole one. */
    cr_assert_geq(c.cwnd, 70 * MSS, "%u", c.cwnd);
    cr_assert_leq(c.cwnd, 110 * MSS, "%u", c.cwnd);
}

Test(cc, cubic_gives_way_when_it_loses_below_the_last_plateau)
{
    struct tcp_conn a = conn(&cc_cubic, 100 * MSS, INT32_MAX), b;
    uint64_t now = 1000000;

    (void)cc_cubic.ssthresh(&a, now);
    a.cwnd = 80 * MSS;
    b = a;
    a.ssthresh = a.cwnd = cc_cubic.ssthresh(&a, now); /* below: W_max becomes 0.85 * 80 */
    b.cc[0] = 0;
    b.ssthresh = b.cwnd = cc_cubic.ssthresh(&b, now); /* the same loss without a plateau before */
    a.srtt8_us = b.srtt8_us = 8 * 400000;             /* long enough for the cubic to be ahead of Reno */
    for (unsigned i = 0; i < 9; i++) {
        uint64_t t = now;

        round_trip(&a, &cc_cubic, &t, 400000);
        round_trip(&b, &cc_cubic, &now, 400000);
    }
    cr_assert_lt(a.cwnd, b.cwnd, "RFC 9438 4.7");
}

Test(cc, undo_brings_the_plateau_back)
{
    struct tcp_conn c = conn(&cc_cubic, 100 * MSS, INT32_MAX);
    uint32_t w_max;

    (void)cc_cubic.ssthresh(&c, 0);
    w_max = c.cc[0];
    c.cwnd = 50 * MSS;
    (void)cc_cubic.ssthresh(&c, 0);
    cr_assert_neq(c.cc[0], w_max);
    cc_cubic.on_undo(&c);
    cr_assert_eq(c.cc[0], w_max);
}

/* No window is ever so large or small, no pause so long, that the arithmetic goes wrong. */
Test(cc, extremes)
{
    static const uint32_t cwnds[] = {MSS, 2 * MSS, 1u << 20, 1u << 28, 1u << 30};

    for (unsigned i = 0; i < sizeof(cwnds) / sizeof(cwnds[0]); i++)
        for (uint64_t gap = 1; gap < UINT64_C(1) << 45; gap *= 37) {
            struct tcp_conn c = conn(&cc_cubic, cwnds[i], INT32_MAX);
            uint64_t now = 1000000;
            uint32_t before;

            c.ssthresh = c.cwnd = cc_cubic.ssthresh(&c, now);
            before = c.cwnd;
            cc_cubic.on_ack(&c, MSS, now);
            cc_cubic.on_ack(&c, MSS, now + gap);
            cr_assert_geq(c.cwnd, before, "%u after %lu us: %u", cwnds[i], gap, c.cwnd);
            cr_assert_leq(c.cwnd, before + 3 * MSS, "%u after %lu us: %u", cwnds[i], gap, c.cwnd);
        }
}

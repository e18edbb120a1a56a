/* SPDX-License-Identifier: Apache-2.0 */
/* HyStart++ (RFC 9406), driven by hand: rounds of 16 ACKs whose round trips are given. */
#include <criterion/criterion.h>

#include "daemon/engine/engine_int.h"

#define MSS     1000u
#define BASE_US 40000u

struct rig {
    struct tcp_conn c;
    struct hystart h;
};

static void rig_start(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    r->c.mss = MSS;
    r->c.cwnd = 16 * MSS;
    r->c.ssthresh = INT32_MAX;
    r->c.snd_una = UINT32_MAX - 20000;
    r->c.snd_nxt = r->c.snd_una + 16 * MSS;
    hystart_init(&r->h, &r->c);
}

/* A round of 16 ACKs of one segment, each with this round trip; returns the growth, *done as from the last.
 */
static uint32_t round_of(struct rig *r, uint32_t rtt_us, bool *done)
{
    uint32_t grown = 0;

    *done = false;
    for (unsigned i = 0; i < 16 && !*done; i++) {
        struct cc_ack a = {.acked = MSS, .rtt_us = rtt_us};

        r->c.snd_una += MSS;
        r->c.snd_nxt += MSS;
        grown += hystart_ack(&r->h, &r->c, &a, done);
    }
    return grown;
}

Test(hystart, equal_rounds_stay_in_slow_start)
{
    struct rig r;
    bool done;

    rig_start(&r);
    for (unsigned i = 0; i < 20; i++) {
        cr_assert_eq(round_of(&r, BASE_US, &done), 16 * MSS);
        cr_assert(!done && !r.h.css);
    }
}

/* 4.2: RttThresh = lastRoundMinRTT / 8, between 4 and 16 ms. */
Test(hystart, threshold_is_an_eighth_between_four_and_sixteen_milliseconds)
{
    static const struct {
        uint32_t base, thresh;
    } t[] = {{1000, 4000}, {40000, 5000}, {100000, 12500}, {400000, 16000}};

    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++)
        for (unsigned k = 0; k < 2; k++) {
            struct rig r;
            bool done;

            rig_start(&r);
            (void)round_of(&r, t[i].base, &done);
            (void)round_of(&r, t[i].base + t[i].thresh - !k, &done);
            cr_assert_eq(r.h.css, k, "%u us, %s the threshold", t[i].base, k ? "at" : "below");
        }
}

Test(hystart, a_rise_needs_eight_samples)
{
    struct rig r;
    struct cc_ack a = {.acked = MSS, .rtt_us = 2 * BASE_US};
    bool done;

    rig_start(&r);
    (void)round_of(&r, BASE_US, &done);
    for (unsigned i = 1; i <= 8; i++) {
        cr_assert(!r.h.css, "sample %u", i);
        (void)hystart_ack(&r.h, &r.c, &a, &done);
    }
    cr_assert(r.h.css);
}

Test(hystart, conservative_slow_start_grows_by_a_quarter_and_ends_after_five_rounds)
{
    struct rig r;
    bool done;

    rig_start(&r);
    (void)round_of(&r, BASE_US, &done);
    /* The eighth ACK of this round sees the rise; this round is the first of the five. */
    cr_assert_eq(round_of(&r, 2 * BASE_US, &done), 7 * MSS + 9 * MSS / 4);
    for (unsigned i = 2; i <= 5; i++) {
        cr_assert(!done, "round %u", i);
        cr_assert_eq(round_of(&r, 2 * BASE_US, &done), 16 * MSS / 4);
    }
    cr_assert(done);
}

Test(hystart, a_passing_rise_leads_back_to_slow_start)
{
    struct rig r;
    bool done;

    rig_start(&r);
    (void)round_of(&r, BASE_US, &done);
    (void)round_of(&r, 2 * BASE_US, &done);
    cr_assert(r.h.css);
    (void)round_of(&r, 2 * BASE_US - 1, &done); /* below the baseline, and that is all it takes */
    cr_assert(!r.h.css);
    cr_assert_eq(round_of(&r, 2 * BASE_US - 1, &done), 16 * MSS);
}

/* 4.3: only a connection's first slow start; cubic leaves it for good at the first loss. */
Test(hystart, cubic_leaves_its_first_slow_start_at_the_window_of_then)
{
    struct tcp_conn c = {.mss = MSS, .cwnd = 16 * MSS, .ssthresh = INT32_MAX, .snd_nxt = 16 * MSS};
    unsigned rounds = 0;

    cc_cubic.init(NULL, &c);
    for (; c.ssthresh == INT32_MAX && rounds < 12; rounds++)
        for (unsigned i = 0; i < 16; i++) {
            c.snd_una += MSS;
            c.snd_nxt += MSS;
            cc_cubic.on_ack(&c, &(struct cc_ack){.acked = MSS, .rtt_us = rounds ? 2 * BASE_US : BASE_US});
        }
    cr_assert_eq(rounds, 6);
    cr_assert_leq(c.ssthresh, 16 * MSS + 16 * MSS + 9250 + 4 * 4 * MSS);
    cr_assert_geq(c.cwnd, c.ssthresh);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* How the window grows when it is not what limits, and where recovery leaves it (RFC 5681, 2861, 3042). */
#include <criterion/criterion.h>

#include "tests/segment/loss.h"

static uint32_t cwnd_segs(struct peer *p)
{
    return info(p).cwnd_bytes / MSS;
}

/* RFC 2861: a window that is not used says nothing about the path. As in Linux slow start goes on until it is
 * twice what was in flight, so that a pause between two bursts of the application costs no growth. */
Test(cwnd, rfc2861_slow_start_ends_at_twice_what_was_in_flight)
{
    static const uint32_t want[] = {12, 12, 12};
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 6);
    for (uint32_t i = 0; i < 3; i++) {
        p.h.now_us += RTT_US / 4;
        ack(&p, at(3 + 2 * i));
        cr_assert_eq(cwnd_segs(&p), want[i], "%u after ACK %u", cwnd_segs(&p), i);
    }
    /* Nor does a smaller flight later add to it. */
    write_segs(&p, 5);
    p.h.now_us += RTT_US;
    ack(&p, at(12));
    cr_assert_eq(cwnd_segs(&p), 12);
    peer_stop(&p);
}

Test(cwnd, rfc2861_a_used_window_grows)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    ack(&p, at(11));
    cr_assert_eq(cwnd_segs(&p), 20);
    peer_stop(&p);
}

/* RFC 3042, RFC 5681 2: after reordering the window grows by what this ACK delivered, not by all that it
 * acknowledges: two segments of three had been reported, and new data went out for them. */
static void reordered(const struct peer_opts *o)
{
    struct peer p;

    start(&p, o);
    peer_write(&p, 20 * MSS);
    seg_drain(&p);
    p.h.now_us += RTT_US;
    if (o->sack)
        sack_range(&p, at(1), 2, 3);
    else
        ack(&p, at(1));
    cr_assert_eq(seg_drain(&p), 1, "limited transmit");
    if (o->sack)
        sack_range(&p, at(1), 2, 4);
    else
        ack(&p, at(1));
    cr_assert_eq(seg_drain(&p), 1, "limited transmit");
    ack(&p, at(4));
    cr_assert_eq(cwnd_segs(&p), 11);
    peer_stop(&p);
}

Test(cwnd, rfc3042_with_sack_reordering_causes_no_burst)
{
    reordered(&sack);
}

Test(cwnd, rfc3042_without_sack_reordering_causes_no_burst)
{
    reordered(&plain);
}

/* RFC 5681 3.2 step 6: PRR may have kept the window far below; after it, it is ssthresh. */
Test(cwnd, rfc5681_3_2_recovery_ends_at_ssthresh)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 5, 11);
    seg_drain(&p);
    p.h.now_us += RTT_US;
    ack(&p, at(11));
    cr_assert_eq(cwnd_segs(&p), 7, "%u", info(&p).cwnd_bytes); /* and a fraction, for this ACK */
    cr_assert_eq(info(&p).ssthresh_bytes, 7 * MSS);
    peer_stop(&p);
}

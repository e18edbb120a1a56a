/* SPDX-License-Identifier: Apache-2.0 */
/* Loss detection and recovery: RFC 5681, 6298, 6582, 6675, 3042, 6937, 8985, 2018, 2883. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/loss.h"

Test(recovery, several_holes_are_filled_in_one_round_trip)
{
    struct peer p;
    bool again[11] = {false};

    start(&p, &sack);
    cr_assert_eq(write_segs(&p, 10), 10);
    p.h.now_us += RTT_US;
    /* 1, 4 and 7 are lost; each other segment is reported as it arrives. */
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(2), at(3)}}});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{at(2), at(4)}}});
    seg_send(&p,
             (struct seg){
                 .flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 2, .sack = {{at(5), at(6)}, {at(2), at(4)}}});
    seg_send(&p,
             (struct seg){
                 .flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 2, .sack = {{at(5), at(7)}, {at(2), at(4)}}});
    for (uint32_t i = 9; i <= 11; i++)
        seg_send(&p, (struct seg){.flags = TCP_ACK,
                                  .seq = 1,
                                  .ack = 1,
                                  .sacks = 3,
                                  .sack = {{at(8), at(i)}, {at(5), at(7)}, {at(2), at(4)}}});
    while (engine_tx_pending(p.h.e)) {
        struct seg s = seg_take(&p);

        cr_assert_eq(s.len, MSS);
        cr_assert_eq((s.seq - 1) % MSS, 0);
        again[(s.seq - 1) / MSS + 1] = true;
    }
    for (uint32_t i = 1; i <= 10; i++)
        cr_assert_eq(again[i], i == 1 || i == 4 || i == 7, "segment %u", i);
    p.h.now_us += RTT_US;
    ack(&p, at(11));
    peer_wait(&p, 5000000);
    seg_none(&p);
    peer_stop(&p);
}

Test(recovery, a_short_reordering_is_no_loss)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 2, 3);
    sack_range(&p, at(1), 2, 4);
    seg_none(&p);
    p.h.now_us += 500;
    host_run(&p.h);
    seg_none(&p);
    ack(&p, at(4)); /* Segment 1 was only late. */
    seg_none(&p);
    p.h.now_us += 500;
    ack(&p, at(11));
    peer_wait(&p, 5000000);
    seg_none(&p);
    cr_assert_eq(info(&p).retransmits, 0);
    peer_stop(&p);
}

Test(recovery, once_reordering_was_seen_three_segments_are_not_enough)
{
    struct peer p;
    uint64_t us;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 2, 4);
    ack(&p, at(4)); /* 1 came after 2 and 3 */
    ack(&p, at(11));
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    sack_range(&p, at(11), 12, 16);
    seg_none(&p); /* RFC 8985 6.2: a quarter of the round trip is waited */
    us = peer_wait_tx(&p, 200000);
    cr_assert(us > 0 && us <= RTT_US / 4 + 2000, "retransmitted after %lu us", us);
    seg_expect(&p, .seq = at(11), .len = MSS);
    peer_stop(&p);
}

Test(recovery, a_tail_loss_is_probed_before_the_timeout)
{
    struct peer p;
    uint64_t us;

    start(&p, &sack);
    write_segs(&p, 3);
    us = peer_wait_tx(&p, 1000000);
    cr_assert(us >= 2 * RTT_US && us <= 2 * RTT_US + 3000, "RFC 8985 7.2: 2 SRTT, not %lu us", us);
    seg_expect(&p, .seq = at(3), .len = MSS); /* the last one */
    seg_none(&p);
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 3, 4); /* so 1 and 2 are lost: no time-out needed */
    cr_assert_leq(peer_wait_tx(&p, 100000), RTT_US);
    seg_expect(&p, .seq = at(1), .len = MSS);
    peer_stop(&p);
}

Test(recovery, a_probe_carries_new_data_if_there_is_any)
{
    struct peer p;

    start(&p, &sack);
    cr_assert_eq(write_segs(&p, 12), 10);
    peer_wait_tx(&p, 1000000);
    seg_expect(&p, .seq = at(11), .len = MSS);
    seg_none(&p);
    peer_stop(&p);
}

Test(recovery, one_probe_only_then_the_timeout)
{
    struct peer p;
    uint64_t us;

    start(&p, &sack);
    write_segs(&p, 2);
    peer_wait_tx(&p, 1000000);
    seg_expect(&p, .seq = at(2), .len = MSS);
    us = peer_wait_tx(&p, 2000000);
    cr_assert(us >= 200000, "the time-out came after %lu us", us);
    seg_expect(&p, .seq = at(1), .len = MSS);
    seg_none(&p);
    peer_stop(&p);
}

Test(recovery, without_sack_no_probe_is_sent)
{
    struct peer p;
    uint64_t us;

    start(&p, &plain);
    write_segs(&p, 3);
    us = peer_wait_tx(&p, 2000000);
    cr_assert(us >= 200000, "%lu us", us);
    seg_expect(&p, .seq = at(1), .len = MSS);
    peer_stop(&p);
}

Test(recovery, after_a_timeout_one_segment_then_two)
{
    struct peer p;

    start(&p, &plain);
    write_segs(&p, 10);
    peer_wait_tx(&p, 2000000);
    cr_assert_eq(seg_drain(&p), 1); /* RFC 5681 3.1: loss window */
    p.h.now_us += RTT_US;
    ack(&p, at(2));
    seg_expect(&p, .seq = at(2));
    seg_expect(&p, .seq = at(3));
    seg_none(&p);
    peer_stop(&p);
}

Test(recovery, a_timeout_does_not_send_again_what_was_sacked)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 6);
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 2, 4);
    peer_wait_tx(&p, 2000000);
    while (engine_tx_pending(p.h.e)) { /* probe or time-out, whatever it takes */
        struct seg s = seg_take(&p);

        cr_assert(s.seq == at(1) || s.seq >= at(4), "segment %u had arrived", (s.seq - 1) / MSS + 1);
    }
    for (int i = 0; i < 6; i++) {
        struct seg s;

        peer_wait_tx(&p, 100000000);
        s = seg_take(&p);
        cr_assert(s.seq == at(1) || s.seq >= at(4), "segment %u had arrived", (s.seq - 1) / MSS + 1);
        seg_drain(&p);
    }
    peer_stop(&p);
}

Test(recovery, the_time_out_doubles_and_a_new_sample_ends_that)
{
    struct peer p;
    uint64_t us[4];

    start(&p, &plain);
    write_segs(&p, 1);
    for (unsigned i = 0; i < 4; i++) {
        us[i] = peer_wait_tx(&p, 100000000);
        seg_expect(&p, .seq = at(1));
        if (i)
            cr_assert(us[i] >= 2 * us[i - 1] - 4000 && us[i] <= 2 * us[i - 1] + 4000, "%lu after %lu us",
                      us[i], us[i - 1]);
    }
    p.h.now_us += 1000;
    ack(&p, at(2));
    write_segs(&p, 1);
    p.h.now_us += RTT_US; /* a sample */
    ack(&p, at(3));
    write_segs(&p, 1);
    cr_assert_leq(peer_wait_tx(&p, 100000000), us[0] + us[0] / 2);
    peer_stop(&p);
}

/* Karn's algorithm (RFC 6298 3 and 5, RFC 1122 4.2.3.1): without a valid sample the backed-off time-out
 * stays, else a path that has become slow is never measured again. */
Test(recovery, the_backed_off_time_out_stays_until_a_sample)
{
    struct peer p;
    uint32_t n = 1;
    unsigned again = 0;

    start(&p, &plain);
    for (int i = 0; i < 8; i++) {
        uint64_t end = p.h.now_us + 2000000; /* the path now takes 2 s */

        write_segs(&p, 1);
        again = 0;
        while (p.h.now_us < end) {
            peer_wait_tx(&p, end - p.h.now_us);
            again += seg_drain(&p);
        }
        ack(&p, at(++n));
    }
    cr_assert_eq(again, 0, "the 8th segment was still sent again %u times", again);
    peer_stop(&p);
}

Test(recovery, a_partial_ack_sends_the_next_hole_at_once)
{
    struct peer p;

    start(&p, &plain);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    for (int i = 0; i < 3; i++)
        ack(&p, at(1));
    seg_expect(&p, .seq = at(1), .len = MSS);
    seg_none(&p);
    p.h.now_us += RTT_US;
    ack(&p, at(4)); /* RFC 6582 3.2 step 3 */
    seg_expect(&p, .seq = at(4), .len = MSS);
    seg_none(&p);
    p.h.now_us += RTT_US;
    ack(&p, at(11));
    peer_wait(&p, 5000000);
    seg_none(&p);
    peer_stop(&p);
}

Test(recovery, the_first_two_duplicate_acks_release_new_segments)
{
    struct peer p;

    start(&p, &plain);
    cr_assert_eq(write_segs(&p, 20), 10);
    p.h.now_us += RTT_US;
    for (uint32_t i = 0; i < 2; i++) { /* RFC 3042 */
        ack(&p, at(1));
        seg_expect(&p, .seq = at(11 + i), .len = MSS);
        seg_none(&p);
    }
    ack(&p, at(1));
    seg_expect(&p, .seq = at(1), .len = MSS);
    peer_stop(&p);
}

Test(recovery, a_window_update_is_no_duplicate_ack)
{
    struct peer p;

    start(&p, &plain);
    write_segs(&p, 5);
    p.h.now_us += RTT_US;
    for (uint16_t i = 0; i < 5; i++)
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = at(1), .wnd = (uint16_t)(60000 - i)});
    seg_none(&p);
    peer_stop(&p);
}

Test(recovery, acks_with_data_are_no_duplicates)
{
    struct peer p;

    start(&p, &plain);
    write_segs(&p, 5);
    p.h.now_us += RTT_US;
    for (uint32_t i = 0; i < 5; i++)
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + i, .ack = at(1), .len = 1});
    while (engine_tx_pending(p.h.e))
        cr_assert_eq(seg_take(&p).len, 0);
    peer_stop(&p);
}

Test(recovery, a_duplicate_report_takes_the_reduction_back)
{
    struct peer p;
    uint32_t before;

    start(&p, &sack);
    write_segs(&p, 10);
    before = info(&p).cwnd_bytes;
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 2, 5);
    seg_expect(&p, .seq = at(1), .len = MSS);
    cr_assert_lt(info(&p).ssthresh_bytes, before);
    p.h.now_us += 1000;
    ack(&p, at(11)); /* The original was only late ... */
    p.h.now_us += RTT_US;
    /* ... and the copy is reported as a duplicate (RFC 2883, RFC 3708). */
    seg_send(&p,
             (struct seg){.flags = TCP_ACK, .seq = 1, .ack = at(11), .sacks = 1, .sack = {{at(1), at(2)}}});
    cr_assert_geq(info(&p).cwnd_bytes, before);
    cr_assert_geq(info(&p).ssthresh_bytes, before);
    peer_stop(&p);
}

Test(recovery, a_peer_that_reneges_gets_its_data_again)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 5);
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 2, 6);
    seg_expect(&p, .seq = at(1), .len = MSS);
    p.h.now_us += RTT_US;
    ack(&p, at(2)); /* RFC 2018 8: it threw away 2 to 5 */
    cr_assert_leq(peer_wait_tx(&p, 3000000), 2000000);
    seg_expect(&p, .seq = at(2), .len = MSS);
    p.h.now_us += RTT_US;
    ack(&p, at(3));
    seg_expect(&p, .seq = at(3), .len = MSS);
    seg_drain(&p);
    p.h.now_us += RTT_US;
    ack(&p, at(6));
    peer_wait(&p, 5000000);
    seg_none(&p);
    peer_stop(&p);
}

Test(recovery, a_lost_retransmission_is_found_before_the_time_out)
{
    struct peer p;
    uint64_t begin;

    start(&p, &sack);
    cr_assert_eq(write_segs(&p, 30), 10);
    p.h.now_us += RTT_US;
    for (uint32_t i = 3; i <= 11; i++)
        sack_range(&p, at(1), 2, i);
    begin = p.h.now_us;
    {
        struct seg s = seg_expect(&p, .seq = at(1), .len = MSS);
        uint32_t newest = 11;

        while (engine_tx_pending(p.h.e)) {
            s = seg_take(&p);
            cr_assert_geq(s.seq, at(11), "only new data beside the retransmission");
            newest = (s.seq - 1) / MSS + 2;
        }
        cr_assert_gt(newest, 11, "recovery sends new data too");
        p.h.now_us += RTT_US;
        /* The retransmission is lost; what was sent after it arrives (RFC 8985 3). */
        sack_range(&p, at(1), 2, newest);
    }
    peer_wait_tx(&p, 1000000);
    seg_expect(&p, .seq = at(1), .len = MSS);
    cr_assert_lt(p.h.now_us - begin, 200000, "after %lu us", p.h.now_us - begin);
    peer_stop(&p);
}

Test(recovery, the_window_is_reduced_once_and_ends_at_ssthresh)
{
    struct peer p;
    uint32_t n, cwnd, flight;
    struct engine_sock_info i;

    start(&p, &sack);
    n = grow(&p, 40);
    cwnd = info(&p).cwnd_bytes;
    flight = write_segs(&p, 40);
    cr_assert_geq(flight, 40);
    p.h.now_us += RTT_US;
    for (uint32_t k = 2; k <= flight; k++)
        sack_range(&p, at(n), n + 1, n + k);
    seg_drain(&p);
    i = info(&p);
    cr_assert(i.ssthresh_bytes >= cwnd * 69 / 100 && i.ssthresh_bytes <= cwnd * 71 / 100,
              "RFC 9438 4.6: 0.7 of %u, not %u", cwnd, i.ssthresh_bytes);
    p.h.now_us += RTT_US;
    ack(&p, at(n + flight));
    i = info(&p);
    cr_assert_leq(i.cwnd_bytes, i.ssthresh_bytes + MSS);
    cr_assert_geq(i.cwnd_bytes, i.ssthresh_bytes / 2);
    peer_stop(&p);
}

/* RFC 6937: in recovery about ssthresh/flight segments go out for each that arrives: no burst, no silence. */
Test(recovery, sending_is_spread_in_proportion_to_what_arrives)
{
    struct peer p;
    uint32_t n, flight, sent = 0;
    unsigned burst = 0;

    start(&p, &sack);
    n = grow(&p, 40);
    flight = write_segs(&p, 44);
    write_segs(&p, 60); /* more than the window takes */
    p.h.now_us += RTT_US;
    for (uint32_t k = 2; k <= flight; k++) {
        unsigned now;

        sack_range(&p, at(n), n + 1, n + k);
        now = seg_drain(&p);
        if (k > 5 && now > burst)
            burst = now;
        sent += now;
    }
    cr_assert_leq(burst, 2, "%u segments for one ACK", burst);
    cr_assert(sent >= flight * 6 / 10 && sent <= flight * 8 / 10, "%u sent for %u that arrived", sent,
              flight);
    peer_stop(&p);
}

Test(recovery, after_an_idle_time_it_starts_from_the_initial_window)
{
    struct peer p;

    start(&p, &sack);
    grow(&p, 40);
    peer_wait(&p, 10000000);
    cr_assert_eq(write_segs(&p, 60), 10); /* RFC 5681 4.1 */
    peer_stop(&p);
}

Test(recovery, a_sender_that_does_not_use_its_window_does_not_grow_it)
{
    struct peer p;
    uint32_t n = 1;

    start(&p, &sack);
    for (int i = 0; i < 50; i++) {
        n += write_segs(&p, 2);
        p.h.now_us += RTT_US;
        ack(&p, at(n));
    }
    cr_assert_leq(info(&p).cwnd_bytes, 12 * MSS, "RFC 7661, RFC 9293 3.8.2: %u bytes", info(&p).cwnd_bytes);
    peer_stop(&p);
}

Test(recovery, an_ack_of_many_segments_doubles_at_most)
{
    struct peer p;
    uint32_t before;

    start(&p, &sack);
    write_segs(&p, 10);
    before = info(&p).cwnd_bytes;
    p.h.now_us += RTT_US;
    ack(&p, at(11));
    cr_assert_leq(info(&p).cwnd_bytes, 2 * before);
    peer_stop(&p);
}

Test(recovery, sack_of_what_was_never_sent_is_ignored)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 3);
    p.h.now_us += RTT_US;
    seg_send(&p, (struct seg){.flags = TCP_ACK,
                              .seq = 1,
                              .ack = 1,
                              .sacks = 3,
                              .sack = {{at(4), at(9)}, {at(3), at(2)}, {0x80000000u, 0x80001000u}}});
    seg_none(&p);
    ack(&p, at(4));
    peer_wait(&p, 3000000);
    seg_none(&p);
    peer_stop(&p);
}

Test(recovery, lost_syns_reduce_the_initial_window)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    for (int i = 0; i < 3; i++) {
        peer_wait_tx(&p, 20000000);
        seg_expect(&p, .flags = TCP_SYN);
    }
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = MSS, .sack_perm = true});
    seg_drain(&p);
    peer_write(&p, 10 * MSS);
    cr_assert_eq(seg_drain(&p), 1); /* RFC 5681 3.1 */
    peer_stop(&p);
}

Test(recovery, a_window_filled_exactly_grows)
{
    struct peer p;
    struct engine_sock_info i;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 14600);
    cr_assert_eq(seg_drain(&p), 10);
    p.h.now_us += 40000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 14601});
    host_find(&p.h, "ESTABLISHED", &i);
    cr_assert_gt(i.cwnd_bytes, 14600);
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Data transfer: RFC 9293 3.8, 3.10.7.4; RFC 2018; RFC 6298; RFC 5681. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

Test(data, in_order_data_is_delivered_and_acknowledged)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 1000});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1001);
    cr_assert_eq(peer_read_all(&p, &seq), 1000);
    peer_stop(&p);
}

Test(data, ack_is_delayed_once_the_start_is_over)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    for (int i = 0; i < 20; i++) {
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + 100u * (uint32_t)i, .ack = 1, .len = 100});
        seg_drain(&p);
    }
    peer_read_all(&p, &seq);
    peer_wait(&p, 100000);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2001, .ack = 1, .len = 100});
    seg_none(&p);
    {
        uint64_t us = peer_wait_tx(&p, 500000);

        cr_assert(us >= 39000 && us <= 42000, "delayed ACK after %lu us", us);
    }
    seg_expect(&p, .flags = TCP_ACK, .ack = 2101);
    peer_stop(&p);
}

Test(data, answer_carries_the_ack)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t i = 0; i < 10; i++) {
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + 10 * i, .ack = 1, .len = 10});
        seg_drain(&p);
    }
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 10});
    peer_write(&p, 5);
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 111, .len = 5);
    seg_none(&p);
    peer_stop(&p);
}

Test(data, out_of_order_segments_are_reported_newest_first)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 1, .sack = {{101, 201}});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 301, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 2, .sack = {{301, 401}, {101, 201}});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 201, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 1, .sack = {{101, 401}});
    cr_assert_eq(peer_read_all(&p, &seq), 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 401, .check = C_SACK);
    cr_assert_eq(peer_read_all(&p, &seq), 400);
    peer_stop(&p);
}

/* RFC 2018 4: each range is said in three ACKs at least, though ACKs wait for the end of the turn. */
Test(data, rfc2018_4_ranges_of_one_turn_are_said_three_times)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t i = 0; i < 4; i++)
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101 + 200 * i, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 1, .sack = {{101, 201}});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 2, .sack = {{301, 401}, {101, 201}});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 3, .sack = {{501, 601}, {301, 401}, {101, 201}});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 4,
               .sack = {{701, 801}, {501, 601}, {301, 401}, {101, 201}});
    seg_none(&p);
    peer_stop(&p);
}

/* What is behind hundreds of holes is kept, and those not touched lately are said when no others are left. */
Test(data, hundreds_of_holes_are_kept)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t i = 0; i < 300; i++)
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101 + 200 * i, .ack = 1, .len = 100});
    seg_drain(&p);
    for (uint32_t i = 299; i > 280; i--) /* joins the last ranges to one */
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + 200 * i, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 4,
               .sack = {{56101, 60001}, {101, 201}, {301, 401}, {501, 601}});
    for (uint32_t i = 0; i < 281; i++)
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + 200 * i, .ack = 1, .len = 100});
    cr_assert_eq(peer_read_all(&p, &seq), 60000);
    cr_assert_eq(host_counter(&p.h, "TcpOFODrop"), 0);
    peer_stop(&p);
}

Test(data, duplicate_is_reported_by_dsack)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 101, .sacks = 1, .sack = {{1, 101}});
    peer_stop(&p);
}

Test(data, overlapping_data_is_delivered_once)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 51, .ack = 1, .len = 100});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 201, .ack = 1, .len = 100});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 121, .ack = 1, .len = 250});
    cr_assert_eq(peer_read_all(&p, &seq), 370);
    peer_stop(&p);
}

Test(data, a_lost_segment_is_sent_again_after_the_time_out)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 100);
    seg_expect(&p, .seq = 1, .len = 100);
    {
        uint64_t us = peer_wait_tx(&p, 5000000);

        cr_assert(us >= 200000 && us <= 1001000, "sent again after %lu us", us);
    }
    seg_expect(&p, .seq = 1, .len = 100);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101});
    peer_wait(&p, 10000000);
    seg_none(&p);
    peer_stop(&p);
}

Test(data, time_outs_double_and_end)
{
    struct peer p;
    uint64_t last = 0;
    unsigned n = 0;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 100);
    seg_drain(&p);
    while (!app_error(&p.h, p.slot) && n < 40) {
        uint64_t us = peer_wait_tx(&p, 1000000000);

        if (seg_drain(&p)) {
            if (n > 2 && last < 60000000)
                cr_assert(us >= last * 2 - 20000 && us <= last * 2 + 20000, "%lu after %lu", us, last);
            last = us;
            n++;
        }
    }
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    cr_assert(n >= 15 && n <= 16, "%u retransmissions", n);
    peer_stop(&p);
}

Test(data, three_sacked_segments_above_a_hole_trigger_fast_retransmit)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1460 * 5);
    for (uint32_t i = 0; i < 5; i++)
        seg_expect(&p, .seq = 1 + 1460 * i, .len = 1460);
    for (uint32_t i = 2; i <= 4; i++) {
        peer_wait(&p, 10);
        seg_send(&p, (struct seg){
                         .flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{1461, 1 + 1460 * i}}});
    }
    seg_expect(&p, .seq = 1, .len = 1460);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + 1460 * 5});
    peer_wait(&p, 5000000);
    seg_none(&p);
    peer_stop(&p);
}

Test(data, three_duplicate_acks_trigger_fast_retransmit_without_sack)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1460, .wnd = 65535};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 1460 * 5);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_expect(&p, .seq = 1, .len = 1460);
    peer_stop(&p);
}

Test(data, the_peers_mss_is_obeyed)
{
    struct peer p;
    const struct peer_opts o = {.mss = 500, .wnd = 65535};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 1200);
    seg_expect(&p, .seq = 1, .len = 500);
    seg_expect(&p, .seq = 501, .len = 500);
    seg_expect(&p, .seq = 1001, .len = 200); /* the only small segment: Nagle as Minshall has it */
    seg_none(&p);
    peer_stop(&p);
}

Test(data, nagle_holds_a_second_small_segment)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 10);
    seg_expect(&p, .seq = 1, .len = 10);
    peer_write(&p, 10);
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 11});
    seg_expect(&p, .seq = 11, .len = 10);
    peer_stop(&p);
}

Test(data, the_peers_window_is_obeyed_and_probed)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1000, .wnd = 2000};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 5000);
    seg_expect(&p, .seq = 1, .len = 1000);
    seg_expect(&p, .seq = 1001, .len = 1000);
    seg_none(&p);
    p.h.now_us += 1000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2001, .zero_wnd = true});
    seg_none(&p);
    for (unsigned i = 0; i < 3; i++) { /* RFC 9293 3.8.6.1: probes, farther and farther apart */
        uint64_t us = peer_wait_tx(&p, 10000000);

        cr_assert(us >= 200000u << i, "probe %u after %lu us", i, us);
        seg_expect(&p, .flags = TCP_ACK, .seq = 2000, .check = C_LEN);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2001, .zero_wnd = true});
    }
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2001, .wnd = 65535});
    seg_expect(&p, .seq = 2001, .len = 1000);
    peer_stop(&p);
}

Test(data, ten_segments_at_the_start)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1460 * 20);
    cr_assert_eq(seg_drain(&p), 10); /* RFC 6928 */
    peer_stop(&p);
}

Test(data, slow_start_doubles)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1460 * 40);
    cr_assert_eq(seg_drain(&p), 10);
    p.h.now_us += 10000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + 14600});
    cr_assert_eq(seg_drain(&p), 20);
    peer_stop(&p);
}

Test(data, the_window_closes_and_opens_with_reading)
{
    struct peer p;
    uint32_t seq = 1, sent = 0;
    struct seg s;

    peer_start(&p, NULL);
    peer_established(&p);
    /* No window scale: 64 KiB of a 256 KiB ring are offered, so fill the ring by advancing the window. */
    for (;;) {
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + sent, .ack = 1, .len = 1460});
        sent += 1460;
        peer_wait(&p, 50000);
        if (!engine_tx_pending(p.h.e))
            continue;
        s = seg_take(&p);
        seg_drain(&p);
        if (s.wnd < 1460 || sent > 400000)
            break;
    }
    cr_assert(sent <= 262144 + 1460, "%u bytes were taken", sent);
    cr_assert_gt(peer_read_all(&p, &seq), 260000);
    s = seg_expect(&p, .flags = TCP_ACK, .seq = 1);
    cr_assert_eq(s.wnd, 65535, "the update opens the window at once");
    peer_stop(&p);
}

static void other_secret(struct engine_config *cfg)
{
    static uint8_t n;

    cfg->secret[0] = n++;
}

/* Whatever the ISN is: comparisons of sequence numbers with a variable that nobody set fail for half of them.
 */
Test(data, the_first_small_write_goes_out_at_once)
{
    for (int i = 0; i < 32; i++) {
        struct peer p;

        peer_start(&p, other_secret);
        peer_established(&p);
        peer_write(&p, 10);
        seg_expect(&p, .seq = 1, .len = 10);
        peer_stop(&p);
    }
}

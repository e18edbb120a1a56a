/* SPDX-License-Identifier: Apache-2.0 */
/* Closing connections: RFC 9293 3.6, 3.10.4, 3.10.7.4. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

Test(close, local_close_goes_through_fin_wait_to_time_wait)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(app_close(&p.h, p.slot), 0);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 1);
    cr_assert_str_eq(peer_state(&p), "FIN_WAIT_1");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2});
    cr_assert_str_eq(peer_state(&p), "FIN_WAIT_2");
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_wait(&p, 61000000);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(close, remote_close_goes_through_close_wait_to_closed)
{
    struct peer p;
    char b;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 1});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 2);
    cr_assert_str_eq(peer_state(&p), "CLOSE_WAIT");
    cr_assert_eq(app_recv(&p.h, p.slot, &b, 1), 0);
    cr_assert_eq(app_close(&p.h, p.slot), 0);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2);
    cr_assert_str_eq(peer_state(&p), "LAST_ACK");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2, .ack = 2});
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(close, simultaneous_close)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 1});
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    cr_assert_str_eq(peer_state(&p), "CLOSING");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2, .ack = 2});
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_stop(&p);
}

Test(close, fin_and_ack_of_fin_in_one_segment)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_stop(&p);
}

Test(close, half_close_still_receives)
{
    struct peer p;
    uint32_t seq = 1;
    char b;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 10);
    app_shutdown(&p.h, p.slot, SG_SHUT_WR);
    seg_expect(&p, .seq = 1, .len = 10, .flags = TCP_FIN | TCP_ACK);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 12, .len = 500});
    cr_assert_eq(peer_read_all(&p, &seq), 500);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 501, .ack = 12});
    seg_expect(&p, .flags = TCP_ACK, .seq = 12, .ack = 502);
    cr_assert_eq(app_recv(&p.h, p.slot, &b, 1), 0);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    app_close(&p.h, p.slot);
    peer_stop(&p);
}

Test(close, unread_data_at_close_means_rst)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    seg_drain(&p);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_RST | TCP_ACK, .seq = 1);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(close, data_after_close_means_rst)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2, .len = 10});
    seg_expect(&p, .flags = TCP_RST, .seq = 2); /* the number that the peer's own ACK names */
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(close, fin_is_sent_again)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    peer_wait_tx(&p, 5000000);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2});
    cr_assert_str_eq(peer_state(&p), "FIN_WAIT_2");
    peer_stop(&p);
}

Test(close, orphan_in_fin_wait_2_ends)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2});
    peer_wait(&p, 61000000);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(close, time_wait_answers_a_repeated_fin)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    peer_wait(&p, 50000000);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    peer_wait(&p, 50000000); /* started again, so still there */
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_stop(&p);
}

Test(close, time_wait_gives_way_to_a_newer_syn)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 5000});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 5001);
    cr_assert_str_eq(peer_state(&p), "SYN_RECEIVED");
    peer_stop(&p);
}

Test(close, time_wait_ignores_rst)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 2});
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_stop(&p);
}

Test(close, fin_beyond_a_hole_waits)
{
    struct peer p;
    uint32_t seq = 1;
    char b;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 101, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 1, .sack = {{101, 201}});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 202);
    cr_assert_str_eq(peer_state(&p), "CLOSE_WAIT");
    cr_assert_eq(peer_read_all(&p, &seq), 200);
    cr_assert_eq(app_recv(&p.h, p.slot, &b, 1), 0);
    peer_stop(&p);
}

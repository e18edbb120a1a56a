/* SPDX-License-Identifier: Apache-2.0 */
/* Opening connections: RFC 9293 3.5, 3.10.7.2, 3.10.7.3. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

Test(open, passive_open_answers_syn_with_mss_and_sack)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 4);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460, .sack_perm = true, .wscale = 8});
    {
        struct seg s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1, .check = C_SEQ);

        cr_assert_eq(s.mss, 1460);
        cr_assert(s.sack_perm);
        cr_assert_eq(s.wscale, 9);
    }
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_none(&p);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(open, options_that_the_peer_did_not_offer_are_not_used)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 4);
    seg_send(&p, (struct seg){.flags = TCP_SYN});
    {
        struct seg s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);

        cr_assert(!s.sack_perm);
        cr_assert_eq(s.wscale, 0);
        cr_assert_eq(s.tsval, 0);
    }
    peer_stop(&p);
}

Test(open, synack_is_sent_again_and_given_up)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    for (int i = 0; i < 5; i++) {
        uint64_t us = peer_wait_tx(&p, 100000000);

        cr_assert(us >= (1000000u << i) && us < (1000000u << i) + 10000, "retry %d after %lu us", i, us);
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    }
    peer_wait(&p, 64000000);
    seg_none(&p);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(open, syn_again_is_answered_again)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460, .sack_perm = true});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    peer_stop(&p);
}

Test(open, data_on_the_third_segment_is_delivered)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 101);
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    cr_assert_eq(peer_read_all(&p, &seq), 100);
    peer_stop(&p);
}

Test(open, wrong_ack_in_syn_received_is_reset)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2});
    seg_expect(&p, .flags = TCP_RST, .seq = 2);
    cr_assert_str_eq(peer_state(&p), "SYN_RECEIVED");
    peer_stop(&p);
}

Test(open, active_open_completes)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connected(&p);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(open, refused_by_rst)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST | TCP_ACK, .ack = 1});
    cr_assert_eq(app_error(&p.h, p.slot), ECONNREFUSED);
    seg_none(&p);
    peer_stop(&p);
}

Test(open, rst_without_our_ack_does_not_refuse)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST});
    seg_send(&p, (struct seg){.flags = TCP_RST | TCP_ACK, .ack = 77});
    cr_assert_eq(app_error(&p.h, p.slot), 0);
    cr_assert_str_eq(peer_state(&p), "SYN_SENT");
    peer_stop(&p);
}

Test(open, wrong_ack_in_syn_sent_is_reset)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 2});
    seg_expect(&p, .flags = TCP_RST, .seq = 2);
    cr_assert_str_eq(peer_state(&p), "SYN_SENT");
    peer_stop(&p);
}

Test(open, syn_backs_off_and_times_out)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    for (int i = 0; i < 7; i++) {
        uint64_t us = peer_wait_tx(&p, 200000000);

        cr_assert(us >= (1000000u << i) && us < (1000000u << i) + 10000, "retry %d after %lu us", i, us);
        seg_expect(&p, .flags = TCP_SYN, .check = C_SEQ);
    }
    peer_wait(&p, 128000000);
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    peer_stop(&p);
}

Test(open, simultaneous_open)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .check = C_SEQ, .ack = 1);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = 1460});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

/* Nothing has been measured yet when the first data comes, and it is old. */
Test(open, simultaneous_open_takes_a_duplicate_without_harm)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .check = C_SEQ, .ack = 1);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = (uint32_t)-9, .ack = 1, .len = 10});
    cr_assert_str_eq(peer_state(&p), "SYN_RECEIVED");
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = 1460});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(open, no_listener_means_rst)
{
    struct peer p;

    peer_start(&p, NULL);
    seg_send(&p, (struct seg){.flags = TCP_SYN});
    {
        struct seg s = seg_expect(&p, .flags = TCP_RST | TCP_ACK);

        cr_assert_eq(s.ack, 1);
    }
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 5, .ack = 9});
    seg_expect(&p, .flags = TCP_RST, .seq = 9);
    peer_stop(&p);
}

Test(open, full_accept_queue_ignores_syn)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 1);
    for (int i = 0; i < 2; i++) {
        p.peer_port = (uint16_t)(PEER_PORT + i);
        seg_send(&p, (struct seg){.flags = TCP_SYN});
        if (i == 0) {
            seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
        }
    }
    seg_none(&p);
    cr_assert_eq(host_count(&p.h, "ESTABLISHED"), 1);
    peer_stop(&p);
}

/* RFC 9293 3.10.7.1: a reset is not answered, or two hosts without a connection reset each other for ever. */
Test(open, rst_to_nobody_is_not_answered)
{
    struct peer p;

    peer_start(&p, NULL);
    p.host_port = 999;
    seg_send(&p, (struct seg){.flags = TCP_RST});
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST | TCP_ACK, .ack = 5});
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .ack = 5});
    seg_expect(&p, .flags = TCP_RST, .check = C_FLAGS);
    peer_stop(&p);
}

Test(open, a_second_connect_is_refused)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), -EALREADY);
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = 1460});
    seg_drain(&p);
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), -EISCONN);
    peer_stop(&p);
}

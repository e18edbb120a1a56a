/* SPDX-License-Identifier: Apache-2.0 */
/* RST and blind attacks: RFC 9293 3.10.7.4, RFC 5961. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

Test(reset, exact_sequence_number_resets)
{
    struct peer p;
    char b;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    seg_none(&p);
    cr_assert_eq(app_recv(&p.h, p.slot, &b, 1), -ECONNRESET);
    cr_assert_str_eq(peer_state(&p), "CLOSED");
    app_close(&p.h, p.slot);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(reset, inside_the_window_is_challenged)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 2});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(reset, outside_the_window_is_ignored)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1 + (1u << 30)});
    seg_none(&p);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(reset, syn_in_established_is_challenged)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 1});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(reset, ack_of_data_never_sent_is_challenged)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 100, .len = 10});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1);
    peer_stop(&p);
}

Test(reset, data_before_it_is_still_readable)
{
    struct peer p;
    uint32_t seq = 1;
    char b;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 11});
    cr_assert_eq(peer_read_all(&p, &seq), 10);
    cr_assert_eq(app_recv(&p.h, p.slot, &b, 1), -ECONNRESET);
    peer_stop(&p);
}

Test(reset, no_flags_at_all_is_dropped)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = 0, .seq = 1, .len = 10});
    seg_none(&p);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(reset, syn_received_is_dropped_by_exact_rst_only)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 2});
    cr_assert_str_eq(peer_state(&p), "SYN_RECEIVED");
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Urgent data: RFC 9293 3.8.5 (MUST-30 to 33), RFC 6093: it stays in line. */
#include <criterion/criterion.h>

#include "tests/segment/peer.h"

Test(urgent, data_stays_in_the_stream)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_URG, .seq = 11, .ack = 1, .len = 5});
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_URG | TCP_PSH, .seq = 16, .ack = 1, .len = 1});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 17, .ack = 1, .len = 10});
    cr_assert_eq(peer_read_all(&p, &seq), 26);
    peer_stop(&p);
}

Test(urgent, a_flag_without_data_changes_nothing)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_URG, .seq = 1, .ack = 1});
    seg_none(&p);
    cr_assert_eq(peer_read_all(&p, &seq), 0);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(urgent, it_works_out_of_order_too)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_URG, .seq = 11, .ack = 1, .len = 10});
    cr_assert_eq(peer_read_all(&p, &seq), 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    cr_assert_eq(peer_read_all(&p, &seq), 20);
    peer_stop(&p);
}

Test(urgent, we_never_send_it)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 5000);
    while (engine_tx_pending(p.h.e))
        cr_assert_eq(seg_take(&p).flags & TCP_URG, 0);
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Segments that do not fit the connection: RFC 9293 3.10.7.4, RFC 5961. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

Test(unfit, an_old_syn_with_data_is_challenged_and_its_data_not_taken)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .seq = 0, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1);
    cr_assert_eq(peer_read_all(&p, &seq), 0);
    peer_stop(&p);
}

Test(unfit, a_rebooted_peer_gets_through_to_the_listener)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 100});
    cr_assert_gt(seg_drain(&p), 0, "the new SYN was met with silence");
    peer_stop(&p);
}

Test(unfit, answers_to_unacceptable_segments_are_limited)
{
    struct peer p;
    unsigned n = 0;

    peer_start(&p, NULL);
    peer_established(&p);
    for (int i = 0; i < 1000; i++) {
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + 100000, .ack = 1});
        n += seg_drain(&p);
    }
    cr_assert_leq(n, 10, "%u ACKs in no time", n);
    peer_stop(&p);
}

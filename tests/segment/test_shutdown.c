/* SPDX-License-Identifier: Apache-2.0 */
/* shutdown(SHUT_RD), and a FIN with something behind it. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

Test(shutdown, data_after_shut_rd_is_thrown_away_and_sending_goes_on)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(app_shutdown(&p.h, p.slot, SG_SHUT_RD), 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_drain(&p);
    peer_write(&p, 10);
    seg_expect(&p, .seq = 1, .len = 10);
    cr_assert_null(p.h.fault, "session fault: %s", p.h.fault);
    peer_stop(&p);
}

Test(shutdown, what_waited_beyond_a_hole_goes_with_shut_rd)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 100});
    seg_drain(&p);
    app_shutdown(&p.h, p.slot, SG_SHUT_RD);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 150});
    seg_drain(&p);
    cr_assert_null(engine_check(p.h.e), "%s", engine_check(p.h.e));
    peer_stop(&p);
}

Test(shutdown, after_shut_rd_the_application_reads_the_end)
{
    struct peer p;
    char b;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(app_shutdown(&p.h, p.slot, SG_SHUT_RD), 0);
    cr_assert_eq(app_recv(&p.h, p.slot, &b, 1), 0);
    peer_stop(&p);
}

/* A peer that sends beyond its own FIN. */
Test(shutdown, a_fin_ends_the_stream_whatever_was_sent_behind_it)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 100});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 301, .ack = 1, .len = 100});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 1, .len = 250});
    seg_drain(&p);
    cr_assert_null(engine_check(p.h.e), "%s", engine_check(p.h.e));
    cr_assert_str_eq(peer_state(&p), "CLOSE_WAIT");
    cr_assert_eq(peer_read_all(&p, &seq), 250);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 252, .ack = 1, .len = 200});
    while (engine_tx_pending(p.h.e))
        cr_assert_eq(seg_take(&p).sacks, 0, "nothing behind the FIN is reported as received");
    peer_stop(&p);
}

Test(shutdown, close_delivers_all_to_a_slow_peer_that_makes_progress)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1000, .sack = true, .wnd = 1000};
    uint32_t acked = 1;

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 100000);
    app_close(&p.h, p.slot);
    while (acked < 100001) {
        struct seg s;

        cr_assert_lt(peer_wait_tx(&p, 10000000), 10000000, "silent at %u", acked);
        s = seg_take(&p);
        cr_assert_not(s.flags & TCP_RST, "reset after %u of 100000 bytes, %lu s after close", acked - 1,
                      (p.h.now_us - 1000000) / 1000000);
        if (s.seq + s.len <= acked)
            continue;
        acked = s.seq + s.len;
        peer_wait(&p, 1000000); /* 1,000 bytes a second */
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = acked, .wnd = 1000});
    }
    peer_stop(&p);
}

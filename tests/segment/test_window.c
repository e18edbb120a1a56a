/* SPDX-License-Identifier: Apache-2.0 */
/* Windows, silly window avoidance and keep-alive: RFC 9293 3.8.4, 3.8.6. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

#define L_SOCKET 1u
#define L_TCP    6u

static int set(struct peer *p, uint32_t level, uint32_t name, uint64_t value)
{
    return engine_setopt(p->h.e, p->h.sid, p->slot, level, name, value, p->h.now_us);
}

/* ---- The sender (3.8.6.2.1) ------------------------------------------------------------------- */

Test(window, sender_waits_for_room_for_a_whole_segment)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1000, .wnd = 10000};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 10000);
    seg_drain(&p);
    p.h.now_us += 10000;
    /* All is acknowledged, but the window has room for 300 bytes only: less than a segment and than half
     * of the largest window seen. */
    peer_write(&p, 5000);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 10001, .wnd = 300});
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 10001, .wnd = 1300});
    seg_expect(&p, .seq = 10001, .len = 1000);
    seg_none(&p);
    peer_stop(&p);
}

Test(window, sender_takes_half_of_the_largest_window_of_a_small_peer)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1460, .wnd = 800};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 2000);
    seg_expect(&p, .seq = 1, .len = 800);
    p.h.now_us += 10000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 801, .wnd = 399});
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 801, .wnd = 400});
    seg_expect(&p, .seq = 801, .len = 400);
    peer_stop(&p);
}

Test(window, override_timeout_sends_what_the_small_window_allows)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1000, .wnd = 10000};
    uint64_t us;

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 10000);
    seg_drain(&p);
    p.h.now_us += 10000;
    peer_write(&p, 5000);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 10001, .wnd = 300});
    seg_none(&p);
    us = peer_wait_tx(&p, 5000000);
    cr_assert(us >= 100000 && us <= 1010000, "RFC 9293 3.8.6.2.1: 0.1 to 1 s, not %lu us", us);
    seg_expect(&p, .seq = 10001, .len = 300);
    peer_stop(&p);
}

Test(window, the_last_bytes_go_at_once_though_they_are_few)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1000, .wnd = 10000};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 3); /* nothing is in flight: Nagle has nothing to wait for */
    seg_expect(&p, .seq = 1, .len = 3);
    peer_stop(&p);
}

Test(window, an_older_acknowledgment_does_not_update_it)
{
    struct peer p;
    struct engine_sock_info info;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 100);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101, .wnd = 5000});
    /* SND.WL1 and SND.WL2: one from before that one arrives late with another window. */
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 51, .wnd = 100});
    cr_assert(host_find(&p.h, "ESTABLISHED", &info));
    cr_assert_eq(info.snd_wnd, 5000);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101, .wnd = 6000});
    cr_assert(host_find(&p.h, "ESTABLISHED", &info));
    cr_assert_eq(info.snd_wnd, 6000);
    peer_stop(&p);
}

Test(window, a_shrunk_window_stops_new_data_only)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 3000);
    seg_drain(&p);
    p.h.now_us += 1000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .wnd = 1000});
    peer_write(&p, 5000);
    seg_none(&p);
    peer_wait_tx(&p, 2000000);
    seg_expect(&p, .seq = 1, .check = C_SEQ); /* what is in flight is sent again all the same */
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 3001, .wnd = 60000});
    seg_expect(&p, .seq = 3001);
    peer_stop(&p);
}

Test(window, shrunk_to_zero_with_data_in_flight_does_not_time_out_while_the_peer_answers)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 5000);
    seg_drain(&p);
    p.h.now_us += 1000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .zero_wnd = true});
    for (int i = 0; i < 40; i++) {
        cr_assert_lt(peer_wait_tx(&p, 200000000), 200000000, "RFC 9293 3.8.6 MUST-35: it must be probed");
        seg_drain(&p);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .zero_wnd = true});
    }
    cr_assert_eq(app_error(&p.h, p.slot), 0, "RFC 9293 3.8.6 SHLD-17");
    peer_stop(&p);
}

Test(window, probes_of_a_dead_peer_end)
{
    struct peer p;
    unsigned n = 0;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1000);
    seg_drain(&p);
    p.h.now_us += 1000;
    peer_write(&p, 1000);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2001, .zero_wnd = true});
    peer_write(&p, 1000);
    while (!app_error(&p.h, p.slot) && n < 40) {
        peer_wait_tx(&p, 300000000);
        n += seg_drain(&p) > 0;
    }
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    cr_assert(n >= 15 && n <= 17, "%u probes", n);
    peer_stop(&p);
}

Test(window, a_corked_socket_probes_a_zero_window_too)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1000, .wnd = 2000};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    cr_assert_eq(set(&p, L_TCP, 3, 1), 0);
    peer_write(&p, 5000);
    seg_drain(&p);
    p.h.now_us += 1000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2001, .zero_wnd = true});
    seg_none(&p);
    cr_assert_lt(peer_wait_tx(&p, 10000000), 10000000);
    seg_expect(&p, .flags = TCP_ACK, .seq = 2000, .check = C_LEN);
    peer_stop(&p);
}

Test(window, a_fin_waits_for_the_window_and_is_probed_for)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1000, .wnd = 2000};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 2000);
    seg_drain(&p);
    p.h.now_us += 1000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2001, .zero_wnd = true});
    app_close(&p.h, p.slot);
    cr_assert_lt(peer_wait_tx(&p, 5000000), 5000000, "neither FIN nor probe");
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2001, .wnd = 1000});
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 2001);
    peer_stop(&p);
}

/* ---- The receiver (3.8.6.2.2) ------------------------------------------------------------------- */

/* Fill the receive ring to the brim in segments of `len`; returns what was acknowledged. */
static uint32_t fill(struct peer *p, uint32_t len, unsigned scale, uint32_t *edge)
{
    uint32_t sent = 0, acked = 0;

    *edge = 65536;
    while (*edge > sent + 1 || engine_tx_pending(p->h.e)) {
        uint32_t n = *edge - 1 - sent < len ? *edge - 1 - sent : len;

        if (n)
            seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1 + sent, .ack = 1, .len = n});
        sent += n;
        peer_wait(p, 50000);
        while (engine_tx_pending(p->h.e)) {
            struct seg s = seg_take(p);
            uint32_t now = s.ack + ((uint32_t)s.wnd << scale);

            cr_assert_geq(now + (1u << scale) - 1, *edge, "the right edge moved back from %u to %u", *edge,
                          now);
            if (now > *edge)
                *edge = now;
            acked = s.ack - 1;
        }
    }
    return acked;
}

Test(window, it_never_shrinks_and_never_promises_more_than_the_ring)
{
    static const uint32_t lens[] = {1460, 1448, 536, 97, 1460 * 4};

    for (unsigned i = 0; i < 2 * sizeof(lens) / sizeof(lens[0]); i++) {
        const struct peer_opts o = {.mss = 1460, .wscale = i & 1 ? 3 : 0, .sack = true, .wnd = 65535};
        struct peer p;
        uint32_t edge, seq = 1;
        uint32_t acked;

        peer_start(&p, NULL);
        peer_established_opts(&p, &o);
        acked = fill(&p, lens[i / 2], i & 1 ? 8 : 0, &edge);
        cr_assert_leq(edge - 1, 262144, "segments of %u: promised up to %u", lens[i / 2], edge - 1);
        cr_assert_eq(acked, edge - 1, "segments of %u: took %u of %u", lens[i / 2], acked, edge - 1);
        cr_assert_eq(peer_read_all(&p, &seq), acked);
        peer_stop(&p);
    }
}

Test(window, single_bytes_do_not_make_it_promise_more)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1460, .wscale = 8, .sack = true, .wnd = 65535};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    for (uint32_t sent = 0; sent < 1000; sent++) {
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + sent, .ack = 1, .len = 1});
        peer_wait(&p, 50000);
        while (engine_tx_pending(p.h.e)) {
            struct seg s = seg_take(&p);

            cr_assert_leq(s.ack - 1 + ((uint32_t)s.wnd << 8), 262144, "after %u bytes", sent);
        }
    }
    peer_stop(&p);
}

Test(window, reading_a_little_of_a_full_ring_sends_no_update)
{
    struct peer p;
    uint32_t edge;
    uint8_t buf[4];

    peer_start(&p, NULL);
    peer_established(&p);
    fill(&p, 1460, 0, &edge);
    cr_assert_eq(app_recv(&p.h, p.slot, buf, sizeof(buf)), 4);
    peer_wait(&p, 100000);
    seg_none(&p);
    /* The peer's probe learns nothing either: 4 bytes would be a silly window. */
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = edge - 1, .ack = 1});
    cr_assert_eq(seg_take(&p).wnd, 0);
    peer_stop(&p);
}

Test(window, data_in_a_zero_window_is_refused_and_answered)
{
    struct peer p;
    uint32_t edge, seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    fill(&p, 1460, 0, &edge);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = edge, .ack = 1, .len = 1});
    cr_assert_eq(seg_expect(&p, .flags = TCP_ACK, .ack = edge).wnd, 0);
    cr_assert_eq(peer_read_all(&p, &seq), edge - 1);
    peer_stop(&p);
}

Test(window, an_ack_in_a_zero_window_is_taken)
{
    struct peer p;
    struct engine_sock_info info;
    uint32_t edge;

    peer_start(&p, NULL);
    peer_established(&p);
    fill(&p, 1460, 0, &edge);
    peer_write(&p, 100);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = edge, .ack = 101, .len = 20}); /* MUST-66 */
    cr_assert(host_find(&p.h, "ESTABLISHED", &info));
    cr_assert_eq(info.tx_queue, 0);
    peer_stop(&p);
}

Test(window, what_lies_beyond_the_right_edge_is_cut_off)
{
    struct peer p;
    uint32_t seq = 1;
    struct seg s;

    peer_start(&p, NULL);
    peer_listen(&p, 1);
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.listener, L_SOCKET, 8, 4096, p.h.now_us), 0);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    cr_assert_eq(seg_take(&p).wnd, 4096);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 1, .len = 5000});
    s = seg_expect(&p, .flags = TCP_ACK, .ack = 4097);
    cr_assert_eq(s.wnd, 0);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED", "the FIN lay beyond the window");
    cr_assert_eq(peer_read_all(&p, &seq), 4096);
    peer_stop(&p);
}

Test(window, a_segment_wholly_beyond_it_is_answered_and_dropped)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 65536 + 1, .ack = 1, .len = 10});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1, .check = C_SACK);
    peer_stop(&p);
}

/* ---- Keep-alive (3.8.4) ---------------------------------------------------------------------------- */

static void keepalive(struct peer *p, unsigned idle, unsigned intvl, unsigned count)
{
    cr_assert_eq(set(p, L_TCP, 4, idle), 0);
    cr_assert_eq(set(p, L_TCP, 5, intvl), 0);
    cr_assert_eq(set(p, L_TCP, 6, count), 0);
    cr_assert_eq(set(p, L_SOCKET, 9, 1), 0);
}

Test(keepalive, is_off_by_default)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_wait(&p, UINT64_C(3) * 7200 * 1000000);
    seg_none(&p);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(keepalive, probes_after_the_idle_time_and_then_at_intervals_and_aborts)
{
    struct peer p;
    uint64_t us;

    peer_start(&p, NULL);
    peer_established(&p);
    keepalive(&p, 60, 10, 3);
    us = peer_wait_tx(&p, 100000000);
    cr_assert(us >= 60000000 && us < 60100000, "first probe after %lu us", us);
    seg_expect(&p, .flags = TCP_ACK, .check = C_SEQ | C_LEN, .seq = 0, .ack = 1);
    for (int i = 0; i < 2; i++) {
        us = peer_wait_tx(&p, 100000000);
        cr_assert(us >= 9900000 && us < 10100000, "next probe after %lu us", us);
        seg_expect(&p, .flags = TCP_ACK, .check = C_SEQ | C_LEN, .seq = 0, .ack = 1);
    }
    peer_wait_tx(&p, 20000000);
    seg_expect(&p, .flags = TCP_RST | TCP_ACK, .seq = 1);
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    peer_stop(&p);
}

Test(keepalive, an_answer_starts_the_idle_time_again)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    keepalive(&p, 60, 10, 3);
    for (int i = 0; i < 10; i++) {
        uint64_t us = peer_wait_tx(&p, 100000000);

        cr_assert(us >= 59900000 && us < 60100000, "probe %d after %lu us", i, us);
        seg_expect(&p, .flags = TCP_ACK, .check = C_SEQ | C_LEN, .seq = 0);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
        seg_none(&p);
    }
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(keepalive, data_from_the_peer_counts_as_a_sign_of_life)
{
    struct peer p;
    uint64_t us;

    peer_start(&p, NULL);
    peer_established(&p);
    keepalive(&p, 60, 10, 3);
    peer_wait(&p, 50000000);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 1});
    seg_drain(&p);
    us = peer_wait_tx(&p, 100000000);
    cr_assert(us >= 59900000 && us < 60100000, "probe after %lu us", us);
    peer_stop(&p);
}

Test(keepalive, a_probe_is_answered)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 0, .ack = 1});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 0, .ack = 1, .len = 1}); /* with a garbage byte */
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1);
    peer_stop(&p);
}

Test(keepalive, can_be_switched_off_again)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    keepalive(&p, 60, 10, 3);
    cr_assert_eq(set(&p, L_SOCKET, 9, 0), 0);
    peer_wait(&p, 1000000000);
    seg_none(&p);
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Rings that grow, and the windows that go with them (docs/decisions/buffers.md). */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

#define L_SOCKET 1u
#define O_SNDBUF 7u
#define O_RCVBUF 8u

static int set(struct peer *p, uint32_t name, uint64_t value)
{
    int rc = engine_setopt(p->h.e, p->h.sid, p->slot, L_SOCKET, name, value, p->h.now_us);

    host_run(&p->h);
    return rc;
}

static uint64_t get(struct peer *p, uint32_t name)
{
    uint64_t v = 0;

    cr_assert_eq(engine_getopt(p->h.e, p->h.sid, p->slot, L_SOCKET, name, &v), 0);
    return v;
}

static const struct sg_slot *slot_of(const struct peer *p)
{
    return &p->h.slots[p->slot];
}

static uint64_t held(struct peer *p)
{
    struct engine_session_use use;

    engine_session_use(p->h.e, p->h.sid, &use);
    return use.buffer_bytes;
}

/* As the daemon begins. */
static void small(struct engine_config *cfg)
{
    cfg->rcvbuf_log2 = cfg->sndbuf_log2 = 16;
}

static const struct peer_opts wide = {.mss = 1460, .wscale = 8, .sack = true, .ts = true, .wnd = 65535};

/* The first region begins the time to the first sweep: until then nothing is due. */
Test(buffers, sweep_for_idle_rings_is_not_due_at_once)
{
    struct peer p;

    peer_start(&p, small);
    peer_established(&p);
    cr_assert(held(&p) > 0);
    cr_assert(engine_deadline(p.h.e) > p.h.now_us, "due at %llu of %llu",
              (unsigned long long)engine_deadline(p.h.e), (unsigned long long)p.h.now_us);
    peer_stop(&p);
}

/* A round trip of 10 ms in which so many bytes arrive; returns the window at its end. */
static uint32_t round_trip(struct peer *p, uint32_t *sent, uint32_t *seq, uint32_t bytes, bool read)
{
    uint32_t wnd = 0;

    for (uint32_t end = *sent + bytes; *sent < end; *sent += 1448) {
        seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1 + *sent, .ack = 1, .len = 1448});
        if (read)
            (void)peer_read_all(p, seq);
        p->h.now_us += 10000 / (bytes / 1448 + 1);
    }
    peer_wait(p, 10000);
    if (!engine_tx_pending(p->h.e)) /* The last segment may wait for its delayed acknowledgment. */
        peer_wait(p, 40000);
    while (engine_tx_pending(p->h.e))
        wnd = seg_take(p).wnd;
    return wnd << 8;
}

Test(buffers, a_reader_that_keeps_up_gets_a_wider_window)
{
    struct peer p;
    uint32_t sent = 0, seq = 1, wnd = 65536;

    peer_start(&p, small);
    peer_established_opts(&p, &wide);
    for (uint32_t n = 10; wnd < 1 << 20; n *= 2) {
        cr_assert_leq(n * 1448, wnd, "%u segments don't fit %u: slow start is held up", n, wnd);
        wnd = round_trip(&p, &sent, &seq, n * 1448, true);
    }
    cr_assert_gt(host_counter(&p.h, "TcpRcvWindowGrown"), 0);
    cr_assert_leq(held(&p), (1u << 14) + (1u << 16), "the ring stays small: the reader keeps up");
    peer_stop(&p);
}

/* A sender that does not slow down for losses needs a window beyond what waits behind the holes. */
Test(buffers, what_waits_behind_a_hole_widens_the_window)
{
    struct peer p;
    uint32_t sent = 0, seq = 1, wnd = 0;

    peer_start(&p, small);
    peer_established_opts(&p, &wide);
    for (unsigned i = 0; i < 8; i++)
        wnd = round_trip(&p, &sent, &seq, 20 * 1448, true);
    cr_assert_eq(get(&p, O_RCVBUF), 1 << 17, "%u", wnd);
    for (uint32_t i = 1; i < 90; i++)
        if (i != 12)
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + sent + i * 1448, .ack = 1, .len = 1448});
    p.h.now_us += 10000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + sent, .ack = 1, .len = 1448});
    cr_assert_eq(get(&p, O_RCVBUF), 1 << 18);
    peer_stop(&p);
}

Test(buffers, a_reader_that_does_not_read_keeps_the_first_window)
{
    struct peer p;
    uint32_t sent = 0, seq = 1;

    peer_start(&p, small);
    peer_established_opts(&p, &wide);
    for (unsigned i = 0; i < 8; i++)
        (void)round_trip(&p, &sent, &seq, 5 * 1448, false);
    cr_assert_eq(host_counter(&p.h, "TcpRcvWindowGrown"), 0);
    cr_assert_eq(get(&p, O_RCVBUF), 65536);
    cr_assert_eq(peer_read_all(&p, &seq), sent);
    peer_stop(&p);
}

static void tiny(struct engine_config *cfg)
{
    cfg->rcvbuf_log2 = 14;
    cfg->rcvbuf_max_log2 = 17;
    cfg->sndbuf_log2 = 13;
    cfg->sndbuf_max_log2 = 16;
}

Test(buffers, the_maximum_bounds_the_window_and_chooses_the_scale)
{
    struct peer p;
    struct seg s;
    uint32_t sent = 0, seq = 1;

    peer_start(&p, tiny);
    peer_listen(&p, 4);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460, .wscale = 1, .sack_perm = true});
    s = seg_take(&p);
    cr_assert_eq(s.wscale, 1 + 1, "128 KiB need a scale of 1 (RFC 7323 2.2)");
    cr_assert_eq(s.wnd, 16384);
    peer_stop(&p);
    peer_start(&p, tiny);
    peer_established_opts(&p, &wide);
    for (unsigned i = 0; i < 12; i++)
        (void)round_trip(&p, &sent, &seq, 10 * 1448, true);
    cr_assert_leq(get(&p, O_RCVBUF), 1 << 17);
    cr_assert_gt(get(&p, O_RCVBUF), 1 << 14);
    peer_stop(&p);
}

/* RFC 9293 3.8.6: what was promised is taken, though it lies in two regions and the first one has holes. */
Test(buffers, a_ring_switches_behind_its_holes)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, small);
    peer_established_opts(&p, &wide);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 1000});
    for (uint32_t at = 2000; at + 1400 < 65000; at += 1400)
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + at, .ack = 1, .len = 1400});
    cr_assert(slot_of(&p)->d.rx_log2 & SG_LOG2_NEXT, "a switch is under way");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1001, .ack = 1, .len = 500});
    cr_assert_eq(peer_read_all(&p, &seq), 1500);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1501, .ack = 1, .len = 500});
    cr_assert_eq(peer_read_all(&p, &seq), 2000 + 44 * 1400 - 1500);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = seq, .ack = 1, .len = 100});
    cr_assert_eq(peer_read_all(&p, &seq), 100);
    cr_assert_eq(slot_of(&p)->d.rx_log2 & SG_LOG2_NEXT, 0, "and over");
    cr_assert_eq(host_counter(&p.h, "TcpOFODrop"), 0);
    peer_stop(&p);
}

Test(buffers, so_rcvbuf_fixes_the_window_also_on_a_connection_that_stands)
{
    struct peer p;
    uint32_t sent = 0, seq = 1, wnd;

    peer_start(&p, small);
    peer_established_opts(&p, &wide);
    cr_assert_eq(set(&p, O_RCVBUF, 300000), 0);
    cr_assert_eq(get(&p, O_RCVBUF), 1 << 19);
    wnd = round_trip(&p, &sent, &seq, 10 * 1448, true);
    cr_assert_geq(wnd, (1 << 19) - 10 * 1448, "%u", wnd);
    for (uint32_t n = 10; n < 320; n *= 2)
        (void)round_trip(&p, &sent, &seq, n * 1448, true);
    cr_assert_eq(host_counter(&p.h, "TcpRcvWindowGrown"), 0);
    cr_assert_eq(get(&p, O_RCVBUF), 1 << 19);
    peer_stop(&p);
}

/* RFC 9293 3.8.6: the right edge never moves back. */
Test(buffers, a_smaller_so_rcvbuf_shrinks_the_window_only_as_it_is_used_up)
{
    struct peer p;
    uint32_t sent = 0, seq = 1, edge = 1 + 65536;

    peer_start(&p, small);
    peer_established_opts(&p, &wide);
    cr_assert_eq(set(&p, O_RCVBUF, 8192), 0);
    for (unsigned i = 0; i < 60; i++) {
        uint32_t wnd = round_trip(&p, &sent, &seq, 1448, true);

        cr_assert_geq(1 + sent + wnd, edge - 256, "after %u bytes %u", sent, wnd);
        edge = 1 + sent + wnd;
    }
    cr_assert_leq(edge - 1 - sent, 8192);
    peer_stop(&p);
}

/* ---- Sending ---------------------------------------------------------------------------------------- */

static uint64_t fill(struct peer *p, uint64_t *off)
{
    uint64_t before = *off;
    uint8_t buf[1000];
    int64_t n;

    do {
        pattern_fill(buf, (uint32_t)*off + 1, sizeof(buf));
        n = app_send(&p->h, p->slot, buf, sizeof(buf));
        *off += n > 0 ? (uint64_t)n : 0;
    } while (n > 0);
    cr_assert_eq(n, -EAGAIN);
    return *off - before;
}

Test(buffers, a_full_send_ring_grows_with_the_congestion_window)
{
    struct peer p;
    uint64_t off = 0, size = 0;
    uint32_t acked = 0;

    peer_start(&p, tiny);
    peer_established_opts(&p, &wide);
    (void)app_tx_room(slot_of(&p), &size);
    cr_assert_eq(size, 8192);
    for (unsigned i = 0; i < 20; i++) {
        (void)fill(&p, &off);
        while (engine_tx_pending(p.h.e)) {
            struct seg s = seg_take(&p);

            acked = s.len ? s.seq + s.len - 1 : acked;
        }
        p.h.now_us += 10000;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + acked, .wnd = 65535});
    }
    (void)app_tx_room(slot_of(&p), &size);
    cr_assert_eq(size, 65536, "the maximum, not %lu", size);
    cr_assert_gt(host_counter(&p.h, "TcpSndBufferGrown"), 0);
    peer_stop(&p);
}

Test(buffers, so_sndbuf_offers_the_new_size_to_a_connection_that_stands)
{
    struct peer p;
    uint64_t off = 0, size = 0;

    peer_start(&p, small);
    peer_established(&p);
    cr_assert_eq(fill(&p, &off), 65536);
    cr_assert_eq(set(&p, O_SNDBUF, 131072), 0);
    cr_assert_eq(get(&p, O_SNDBUF), 131072);
    cr_assert_eq(fill(&p, &off), 131072);
    (void)app_tx_room(slot_of(&p), &size);
    cr_assert_eq(size, 131072);
    peer_stop(&p);
}

/* A segment that crosses the switch is sent in one piece, with the right bytes; seg_take() compares them. */
Test(buffers, segments_cross_a_switch_of_the_send_ring)
{
    struct peer p;
    uint64_t off = 0;
    uint32_t got = 0;

    peer_start(&p, tiny);
    peer_established(&p);
    (void)fill(&p, &off);
    cr_assert_eq(set(&p, O_SNDBUF, 32768), 0);
    (void)fill(&p, &off);
    for (unsigned i = 0; i < 100 && got < off; i++) {
        while (engine_tx_pending(p.h.e)) {
            struct seg s = seg_take(&p);

            got = s.len ? s.seq + s.len - 1 : got;
        }
        p.h.now_us += 10000;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + got});
    }
    cr_assert_eq(got, off);
    peer_stop(&p);
}

/* ---- Lies ------------------------------------------------------------------------------------------- */

static void lie(uint32_t taken, int64_t at_minus_tail, uint32_t wrote, const char *fault)
{
    struct peer p;
    struct sg_slot *s;

    peer_start(&p, tiny);
    peer_established(&p);
    peer_write(&p, 5000);
    s = &p.h.slots[p.slot];
    cr_assert_eq(set(&p, O_SNDBUF, 32768), 0);
    cr_assert(s->d.tx_log2 & SG_LOG2_NEXT);
    s->a.tx_next = taken;
    s->a.tx_next_at = s->a.tx_tail + (uint64_t)at_minus_tail;
    s->a.tx_tail += wrote;
    engine_kick(p.h.e, p.h.sid, &p.slot, 1, p.h.now_us);
    host_run(&p.h);
    if (fault)
        cr_assert_str_eq(p.h.fault, fault);
    else
        cr_assert_null(p.h.fault, "%s", p.h.fault);
    cr_assert_null(engine_check(p.h.e));
    (void)host_stop(&p.h);
}

Test(buffers, a_switch_before_bytes_that_were_sent_ends_the_session)
{
    lie(1, -1, 10, "tx_next_at is outside the send region");
}

Test(buffers, a_switch_beyond_the_old_region_ends_the_session)
{
    lie(1, 5000, 6000, "tx_next_at is outside the send region");
}

Test(buffers, more_than_the_new_region_holds_ends_the_session)
{
    lie(1, 0, 32769, "tx_tail is outside the send region");
}

Test(buffers, without_taking_the_offer_the_old_region_is_the_limit)
{
    lie(0, 0, 5000, "tx_tail is outside the send region");
    lie(2, 0, 5000, "tx_tail is outside the send region");
}

Test(buffers, a_switch_that_the_tail_has_not_reached_waits)
{
    lie(1, 100, 50, NULL);
}

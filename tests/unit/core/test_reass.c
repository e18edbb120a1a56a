/* SPDX-License-Identifier: Apache-2.0 */
/* Reassembly beside a map of bytes; the segments it answers with are in tests/segment/test_data.c. */
#include <criterion/criterion.h>
#include <string.h>

#include "daemon/engine/engine_int.h"
#include "tests/support/host.h"
#include "tests/unit/core/rnd.h"

#define RING 4096u

static struct host h;
static struct tcp_conn *c;
static uint32_t slot;

/* A connection by hand: only what tcp_reass_add() looks at. */
static void start(uint32_t irs)
{
    struct engine_config cfg;

    host_config(&cfg, 2);
    host_start(&h, &cfg, 1000000);
    slot = app_socket(&h, SG_SOCK_STREAM);
    c = tcp_conn_of(sock_get(h.e, h.slot_sock[slot]));
    cr_assert_eq(engine_setopt(h.e, h.sid, slot, 1, 8, RING, h.now_us), 0);
    c->flags |= TF_SACK;
    c->irs = irs;
    c->rcv_nxt = c->rcv_wup = c->rcv_adv = irs + 1;
}

static void stop(void)
{
    const char *bad;

    tcp_reass_free(h.e, c);
    bad = host_stop(&h);
    cr_assert_null(bad, "%s", bad);
}

static uint32_t next_off(void)
{
    return c->rcv_nxt - c->irs - 1;
}

static uint32_t holes_count(void)
{
    return c->reasm == NIL ? 0 : h.e->tcp.reasms[c->reasm].count;
}

/* Ranges are sorted, disjoint, do not touch and lie beyond rcv_nxt. */
static void check_ranges(uint64_t seed)
{
    uint32_t at = next_off(), n = 0;
    uint32_t i = c->reasm == NIL ? NIL : h.e->tcp.reasms[c->reasm].head;

    for (; i != NIL; i = h.e->tcp.ranges[i].next, n++) {
        const struct rx_range *r = &h.e->tcp.ranges[i];

        cr_assert_gt(r->start - c->irs - 1, at, "seed %lu", seed);
        cr_assert_lt(r->start - c->irs - 1, r->end - c->irs - 1, "seed %lu", seed);
        at = r->end - c->irs - 1;
    }
    cr_assert_eq(n, holes_count(), "seed %lu", seed);
}

static uint8_t pattern(uint32_t off)
{
    return (uint8_t)(off * 2654435761u >> 24);
}

static void add(uint32_t off, uint32_t len)
{
    static uint8_t buf[RING * 2];

    for (uint32_t i = 0; i < len; i++)
        buf[i] = pattern(off + i);
    tcp_reass_add(h.e, c, c->irs + 1 + off, buf, len);
}

static uint32_t read_some(uint32_t off, uint32_t max)
{
    uint8_t buf[RING];
    int64_t n;

    host_run(&h);
    n = app_recv(&h, slot, buf, max);
    for (int64_t i = 0; i < n; i++)
        cr_assert_eq(buf[i], pattern(off + (uint32_t)i), "byte %u", off + (uint32_t)i);
    return n > 0 ? (uint32_t)n : 0;
}

Test(reass, in_order)
{
    start(1000);
    add(0, 100);
    add(100, 50);
    cr_assert_eq(next_off(), 150);
    cr_assert_eq(read_some(0, RING), 150);
    stop();
}

Test(reass, a_hole_holds_back_what_follows)
{
    start(1000);
    add(100, 100);
    cr_assert_eq(next_off(), 0);
    cr_assert_eq(holes_count(), 1);
    add(0, 100);
    cr_assert_eq(next_off(), 200);
    cr_assert_eq(holes_count(), 0);
    cr_assert_eq(read_some(0, RING), 200);
    stop();
}

Test(reass, touching_ranges_become_one)
{
    start(1000);
    add(100, 100);
    add(300, 100);
    add(500, 100);
    cr_assert_eq(holes_count(), 3);
    add(200, 100);
    cr_assert_eq(holes_count(), 2);
    add(350, 200);
    cr_assert_eq(holes_count(), 1);
    add(0, 100);
    cr_assert_eq(next_off(), 600);
    cr_assert_eq(read_some(0, RING), 600);
    stop();
}

Test(reass, the_first_sack_block_is_the_one_touched_last)
{
    struct tcp_sack_block b[4];

    start(1000);
    add(100, 10);
    add(300, 10);
    add(500, 10);
    add(110, 10);
    cr_assert_eq(tcp_reass_sacks(h.e, c, b, 4), 3);
    cr_assert(b[0].start == 1101 && b[0].end == 1121, "RFC 2018 4");
    cr_assert(b[1].start == 1501 && b[2].start == 1301);
    cr_assert_eq(tcp_reass_sacks(h.e, c, b, 2), 2);
    cr_assert_eq(tcp_reass_sacks(h.e, c, b, 0), 0);
    stop();
}

Test(reass, a_duplicate_out_of_order_is_reported_first)
{
    struct tcp_sack_block b[4];

    start(1000);
    add(100, 100);
    add(120, 10);
    cr_assert(c->flags & TF_DSACK);
    cr_assert_eq(tcp_reass_sacks(h.e, c, b, 4), 2);
    cr_assert(b[0].start == 1121 && b[0].end == 1131, "RFC 2883 4: the duplicate");
    cr_assert(b[1].start == 1101 && b[1].end == 1201, "and the block around it");
    stop();
}

Test(reass, what_does_not_fit_the_ring_is_cut_or_dropped)
{
    start(1000);
    add(RING - 10, 100);
    add(RING, 100);
    add(0, RING - 10);
    cr_assert_eq(next_off(), RING);
    add(RING, 1);
    cr_assert_eq(next_off(), RING);
    cr_assert_eq(read_some(0, RING), RING);
    stop();
}

Test(reass, the_number_of_holes_is_bounded)
{
    start(1000);
    for (uint32_t i = 1; i < RING / 2; i++)
        add(i * 2, 1);
    cr_assert_eq(holes_count(), 1024);
    cr_assert_gt(host_counter(&h, "TcpOFODrop"), 0);
    check_ranges(0);
    stop();
}

/* Segments at random, some twice, over numbers that wrap, with reads in between. */
Test(reass, agrees_with_a_map)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        static bool have[40000];
        uint64_t s = seed;
        uint32_t head = 0, end = 0; /* read so far; first byte not yet received */

        start(UINT32_MAX - rnd_below(&s, 9000));
        memset(have, 0, sizeof(have));
        while (end < 30000) {
            uint32_t off = end + rnd_below(&s, RING + 200);
            uint32_t len = 1 + rnd_below(&s, 700);
            uint32_t holes = holes_count();

            if (rnd_below(&s, 3) == 0)
                off = end;
            add(off, len);
            if (off == end || holes_count() < holes || holes < 60) /* else it may have been refused */
                for (uint32_t i = off; i < off + len && i < head + RING; i++)
                    have[i] = true;
            while (have[end])
                end++;
            cr_assert_eq(next_off(), end, "seed %lu: at %u, not %u", seed, next_off(), end);
            check_ranges(seed);
            if (rnd_below(&s, 2))
                head += read_some(head, 1 + rnd_below(&s, RING));
        }
        stop();
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "daemon/engine/engine_int.h"
#include "tests/unit/core/rnd.h"

#define NODES   200u
#define TICK_US (UINT64_C(1) << WHEEL_TICK_SHIFT)

static struct wheel w;

static void start(uint64_t now_us)
{
    wheel_init(&w, calloc(1, wheel_bytes(NODES)), NODES, now_us);
}

static void stop(void)
{
    free(w.nodes);
}

/* The node comes out by `at_us` rounded up to a tick, when its owner looks at each deadline. */
static uint64_t comes_out(uint32_t node, uint64_t at_us, uint64_t now_us)
{
    wheel_arm(&w, node, at_us);
    for (unsigned looks = 0; looks < 8; looks++) {
        uint64_t next = wheel_deadline(&w);

        cr_assert_neq(next, UINT64_MAX);
        cr_assert_geq(next, now_us);
        now_us = next;
        wheel_advance(&w, now_us);
        cr_assert_eq(wheel_pop(&w), node);
        cr_assert_eq(wheel_pop(&w), NIL);
        if (now_us >= at_us)
            return now_us;
        wheel_arm(&w, node, at_us);
    }
    cr_assert_fail("looked at eight times before %lu", at_us);
    return 0;
}

Test(wheel, an_empty_one_has_no_deadline)
{
    start(12345);
    cr_assert_eq(wheel_deadline(&w), UINT64_MAX);
    wheel_advance(&w, 100000000);
    cr_assert_eq(wheel_pop(&w), NIL);
    stop();
}

Test(wheel, comes_out_never_late_and_at_most_a_tick_after_its_time)
{
    static const uint64_t after[] = {0,      1,       1023,     1024,     1025,      64 * 1024, 65 * 1024 + 7,
                                     200000, 1000000, 60000000, 70000000, 300000000, 7200000000};

    for (unsigned i = 0; i < ARRAY_LEN(after); i++)
        for (uint64_t now = 0; now < 5000000000; now = now * 3 + 777) {
            uint64_t out;

            start(now);
            out = comes_out(3, now + after[i], now);
            cr_assert(out >= now + after[i] && out < now + after[i] + 2 * TICK_US,
                      "%lu after %lu came out at %lu", after[i], now, out);
            stop();
        }
}

Test(wheel, a_cancelled_node_stays_in)
{
    start(0);
    wheel_arm(&w, 1, 5000);
    wheel_arm(&w, 2, 5000);
    wheel_cancel(&w, 1);
    wheel_cancel(&w, 1);
    wheel_advance(&w, 10000);
    cr_assert_eq(wheel_pop(&w), 2);
    cr_assert_eq(wheel_pop(&w), NIL);
    cr_assert_eq(wheel_deadline(&w), UINT64_MAX);
    stop();
}

Test(wheel, a_node_that_came_out_can_be_cancelled_before_it_is_popped)
{
    start(0);
    wheel_arm(&w, 1, 5000);
    wheel_arm(&w, 2, 5000);
    wheel_advance(&w, 10000);
    cr_assert_eq(wheel_deadline(&w), 0, "something is due now");
    wheel_cancel(&w, 2);
    cr_assert_eq(wheel_pop(&w), 1);
    cr_assert_eq(wheel_pop(&w), NIL);
    stop();
}

Test(wheel, the_earlier_of_two_times_counts)
{
    start(0);
    wheel_arm(&w, 1, 50000);
    wheel_arm(&w, 1, 5000);
    wheel_arm(&w, 1, 90000);
    cr_assert_leq(wheel_deadline(&w), 5000 + TICK_US);
    wheel_advance(&w, 5000 + TICK_US);
    cr_assert_eq(wheel_pop(&w), 1);
    stop();
}

Test(wheel, a_leap_of_days_brings_out_all)
{
    start(1000);
    for (uint32_t i = 0; i < NODES; i++)
        wheel_arm(&w, i, 1000 + (uint64_t)i * i * i * 977);
    wheel_advance(&w, UINT64_C(5) * 24 * 3600 * 1000000);
    for (uint32_t i = 0; i < NODES; i++)
        cr_assert_neq(wheel_pop(&w), NIL, "only %u", i);
    cr_assert_eq(wheel_pop(&w), NIL);
    stop();
}

Test(wheel, time_that_stands_still_or_goes_back_changes_nothing)
{
    start(1000000);
    wheel_arm(&w, 1, 1005000);
    wheel_advance(&w, 1000000);
    wheel_advance(&w, 5);
    cr_assert_eq(wheel_pop(&w), NIL);
    cr_assert_leq(wheel_deadline(&w), 1005000 + TICK_US);
    stop();
}

/* Beside a plain table of deadlines. */
Test(wheel, agrees_with_a_table)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        uint64_t s = seed, now = rnd(&s) >> 20;
        uint64_t due[NODES];

        for (uint32_t i = 0; i < NODES; i++)
            due[i] = UINT64_MAX;
        start(now);
        for (unsigned step = 0; step < 3000; step++) {
            uint32_t n = rnd_below(&s, NODES), got;

            switch (rnd_below(&s, 4)) {
            case 0:
            case 1:
                due[n] = now + (rnd(&s) >> (24 + rnd_below(&s, 36)));
                wheel_cancel(&w, n);
                wheel_arm(&w, n, due[n]);
                break;
            case 2:
                due[n] = UINT64_MAX;
                wheel_cancel(&w, n);
                break;
            default:
                now += rnd(&s) >> (36 + rnd_below(&s, 24));
                wheel_advance(&w, now);
                while ((got = wheel_pop(&w)) != NIL) {
                    cr_assert_neq(due[got], UINT64_MAX, "seed %lu: a cancelled node", seed);
                    if (due[got] > now)
                        wheel_arm(&w, got, due[got]); /* Early: that is allowed. */
                    else
                        due[got] = UINT64_MAX;
                }
                for (uint32_t i = 0; i < NODES; i++)
                    cr_assert(due[i] == UINT64_MAX || due[i] + TICK_US > now,
                              "seed %lu: node %u is late by %lu us", seed, i, now - due[i]);
                break;
            }
        }
        stop();
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/loop.h"

static void write_one(int fd)
{
    const uint64_t one = 1;

    cr_assert_eq(write(fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

/* How long a wait took, in microseconds. */
static uint64_t waited_us(struct loop *l, uint64_t timeout_us)
{
    uint64_t start_us = clock_now_us();

    cr_assert_eq(loop_wait(l, timeout_us), 0);
    return clock_now_us() - start_us;
}

Test(loop, timeout_ends_the_wait, .timeout = 10)
{
    struct loop l;

    cr_assert_eq(loop_open(&l, 4), 0);
    cr_assert_geq(waited_us(&l, 20000), 19000);
    loop_close(&l);
}

Test(loop, bell_rung_before_the_wait_ends_it_at_once_every_time, .timeout = 10)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    struct loop l;

    cr_assert_eq(loop_open(&l, 4), 0);
    cr_assert_geq(loop_add(&l, fd, LOOP_BELL), 0);
    (void)waited_us(&l, 1000);    /* Arms it. */
    for (int i = 0; i < 5; i++) { /* Nobody reads the count: each write must still wake. */
        write_one(fd);
        cr_assert_lt(waited_us(&l, 5000000), 1000000);
        cr_assert_geq(waited_us(&l, 2000), 1500, "one ring, one wake-up");
    }
    loop_close(&l);
    (void)close(fd);
}

Test(loop, level_fires_again_while_it_stays_readable, .timeout = 10)
{
    int pipes[2];
    struct loop l;
    char byte;

    cr_assert_eq(pipe(pipes), 0);
    cr_assert_eq(loop_open(&l, 4), 0);
    cr_assert_geq(loop_add(&l, pipes[0], LOOP_LEVEL), 0);
    cr_assert_eq(write(pipes[1], "x", 1), 1);
    for (int i = 0; i < 3; i++)
        cr_assert_lt(waited_us(&l, 5000000), 1000000);
    cr_assert_eq(read(pipes[0], &byte, 1), 1);
    (void)waited_us(&l, 1000); /* One spurious wake-up is allowed. */
    cr_assert_geq(waited_us(&l, 20000), 19000);
    loop_close(&l);
}

Test(loop, removed_watch_wakes_no_more, .timeout = 10)
{
    int fd = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK);
    struct loop l;
    int watch;

    cr_assert_eq(loop_open(&l, 2), 0);
    watch = loop_add(&l, fd, LOOP_BELL);
    (void)waited_us(&l, 1000);
    loop_remove(&l, watch);
    cr_assert_eq(loop_add(&l, other, LOOP_BELL), watch, "the number is free again");
    (void)waited_us(&l, 1000);
    write_one(fd);
    cr_assert_geq(waited_us(&l, 20000), 19000);
    write_one(other);
    cr_assert_lt(waited_us(&l, 5000000), 1000000);
    loop_close(&l);
}

Test(loop, watches_have_a_limit)
{
    struct loop l;

    cr_assert_eq(loop_open(&l, 1), 0);
    cr_assert_eq(loop_add(&l, 0, LOOP_SIGNAL), 0);
    cr_assert_lt(loop_add(&l, 0, LOOP_SIGNAL), 0);
    loop_close(&l);
}

Test(loop, signal_reaches_its_eventfd)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t count = 0;
    struct loop l;
    int watch;

    cr_assert_eq(loop_open(&l, 2), 0);
    watch = loop_add(&l, fd, LOOP_SIGNAL);
    for (int i = 0; i < 3; i++) {
        loop_signal(&l, watch);
        loop_flush(&l);
    }
    cr_assert_eq(read(fd, &count, sizeof(count)), (ssize_t)sizeof(count));
    cr_assert_eq(count, 3);
    loop_close(&l);
}

/* The application shares the open file: it can make it blocking and fill it. The worker must not hang. */
Test(loop, signal_to_a_full_blocking_eventfd_does_not_hang, .timeout = 10)
{
    const uint64_t full = UINT64_MAX - 1;
    int fd = eventfd(0, EFD_NONBLOCK), bell = eventfd(0, EFD_NONBLOCK);
    struct loop l;
    int watch;

    cr_assert_eq(loop_open(&l, 4), 0);
    watch = loop_add(&l, fd, LOOP_SIGNAL);
    (void)loop_add(&l, bell, LOOP_BELL);
    cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
    cr_assert_eq(write(fd, &full, sizeof(full)), (ssize_t)sizeof(full));
    for (int i = 0; i < 100; i++) {
        loop_signal(&l, watch);
        loop_flush(&l);
    }
    cr_assert_geq(waited_us(&l, 5000), 1, "the wait itself works");
    write_one(bell);
    cr_assert_lt(waited_us(&l, 5000000), 1000000);
    loop_remove(&l, watch);
    loop_flush(&l);
    loop_close(&l);
}

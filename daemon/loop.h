/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker sleeps on: an io_uring of its own with a poll request for each descriptor that may wake it.
 *
 * Requests are handed to the kernel by the same system call that waits, so a wake-up costs one call. Kinds of
 * descriptor: LOOP_LEVEL is polled once and armed again before the next sleep, when it fires at once if the
 * descriptor is still readable; LOOP_BELL is an eventfd polled for good, where each write is one wake-up and
 * nobody ever reads the count; LOOP_SIGNAL is an eventfd that we write to wake somebody else.
 *
 * Why a write goes through the ring: an eventfd given to an application is one open file shared with it, so
 * the application can clear O_NONBLOCK and fill the count, and a plain write() would then hang the worker.
 * The ring takes the write in any case, and at most one for each watch is under way.
 *
 * Thread rule: everything from loop_open() on happens on the worker's thread (the ring is single-issuer).
 */
#ifndef DAEMON_LOOP_H
#define DAEMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include <liburing.h>

enum loop_kind { LOOP_FREE = 0, LOOP_LEVEL, LOOP_BELL, LOOP_SIGNAL };

struct loop_watch {
    int fd;
    enum loop_kind kind;
    uint32_t generation; /* tells a late completion of an earlier watch of this number */
    bool armed;          /* a request is with the kernel */
};

struct loop {
    struct io_uring ring;
    struct loop_watch *watches;
    uint32_t watch_max;
    uint32_t unarmed; /* LEVEL and BELL watches that are not armed */
    bool unsent;      /* requests were prepared that loop_flush() must hand over */
};

/** @return 0 or -errno (-ENOSYS, -EPERM: the kernel or a policy has no io_uring for us) */
int loop_open(struct loop *l, uint32_t watch_max);
void loop_close(struct loop *l); /* accepts a zeroed struct */

/** Watch `fd`, or for LOOP_SIGNAL keep it for loop_signal(). Returns the watch's number, or -ENOSPC. */
int loop_add(struct loop *l, int fd, enum loop_kind kind);
/** Stop watching; the descriptor may be closed before or after. */
void loop_remove(struct loop *l, int watch);

/** Prepare to write 1 to the eventfd of a LOOP_SIGNAL watch; loop_flush() does it. Never blocks. */
void loop_signal(struct loop *l, int watch);
/** Do what loop_signal() and loop_remove() prepared; cheap when they were not called. */
void loop_flush(struct loop *l);

/**
 * Sleep until a watch fires or `timeout_us` is over (UINT64_MAX: for ever). An event since the last wait
 * ends it at once. Wake-ups may be spurious.
 * @return 0 or -errno when the ring itself has failed
 */
int loop_wait(struct loop *l, uint64_t timeout_us);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/loop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define SQ_ENTRIES  64u
#define CQ_BATCH    64u

/* Completions of a removal say nothing that we need. */
#define DATA_IGNORE UINT64_MAX

int loop_open(struct loop *l, uint32_t watch_max)
{
    struct io_uring_params p = {
        /* Completions are only worked on when we wait, and only by us. */
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SINGLE_ISSUER |
                 IORING_SETUP_DEFER_TASKRUN,
        .cq_entries = 2 * watch_max + SQ_ENTRIES,
    };
    int rc;

    memset(l, 0, sizeof(*l));
    l->watches = calloc(watch_max, sizeof(*l->watches));
    if (!l->watches)
        return -ENOMEM;
    l->watch_max = watch_max;
    rc = io_uring_queue_init_params(SQ_ENTRIES, &l->ring, &p);
    if (rc == -EINVAL) { /* A kernel before 6.1. */
        p = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
                                     .cq_entries = 2 * watch_max + SQ_ENTRIES};
        rc = io_uring_queue_init_params(SQ_ENTRIES, &l->ring, &p);
    }
    if (rc) {
        free(l->watches);
        memset(l, 0, sizeof(*l));
    }
    return rc;
}

void loop_close(struct loop *l)
{
    if (!l->watches)
        return;
    io_uring_queue_exit(&l->ring);
    free(l->watches);
    memset(l, 0, sizeof(*l));
}

static struct io_uring_sqe *sqe_get(struct loop *l)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);

    if (!sqe && io_uring_submit(&l->ring) >= 0)
        sqe = io_uring_get_sqe(&l->ring);
    return sqe;
}

static uint64_t watch_data(const struct loop *l, uint32_t i)
{
    return (uint64_t)l->watches[i].generation << 32 | i;
}

int loop_add(struct loop *l, int fd, enum loop_kind kind)
{
    assert(kind != LOOP_FREE);
    for (uint32_t i = 0; i < l->watch_max; i++) {
        struct loop_watch *w = &l->watches[i];

        if (w->kind != LOOP_FREE)
            continue;
        w->fd = fd;
        w->kind = kind;
        w->generation++;
        w->armed = false;
        if (kind != LOOP_SIGNAL)
            l->unarmed++;
        return (int)i;
    }
    return -ENOSPC;
}

void loop_remove(struct loop *l, int watch)
{
    struct loop_watch *w = &l->watches[watch];
    struct io_uring_sqe *sqe;

    assert(w->kind != LOOP_FREE);
    if (w->armed) {
        sqe = sqe_get(l);
        if (sqe) { /* Else the request lives on until the descriptor fires, and its completion is ignored. */
            io_uring_prep_cancel64(sqe, watch_data(l, (uint32_t)watch), 0);
            io_uring_sqe_set_data64(sqe, DATA_IGNORE);
            l->unsent = true;
        }
    } else if (w->kind != LOOP_SIGNAL) {
        l->unarmed--;
    }
    w->kind = LOOP_FREE;
    w->armed = false;
}

void loop_signal(struct loop *l, int watch)
{
    static const uint64_t one = 1;
    struct loop_watch *w = &l->watches[watch];
    struct io_uring_sqe *sqe;

    assert(w->kind == LOOP_SIGNAL);
    /* A write that is still under way found the count full: the descriptor is readable already. */
    if (w->armed || !(sqe = sqe_get(l)))
        return;
    io_uring_prep_write(sqe, w->fd, &one, sizeof(one), 0);
    io_uring_sqe_set_data64(sqe, watch_data(l, (uint32_t)watch));
    w->armed = true;
    l->unsent = true;
}

static void arm_all(struct loop *l)
{
    for (uint32_t i = 0; l->unarmed && i < l->watch_max; i++) {
        struct loop_watch *w = &l->watches[i];
        struct io_uring_sqe *sqe;

        if (w->kind == LOOP_FREE || w->kind == LOOP_SIGNAL || w->armed)
            continue;
        sqe = sqe_get(l);
        if (!sqe)
            return; /* The kernel is short of memory: the rest is armed by the next wait. */
        if (w->kind == LOOP_BELL)
            io_uring_prep_poll_multishot(sqe, w->fd, POLLIN);
        else
            io_uring_prep_poll_add(sqe, w->fd, POLLIN);
        io_uring_sqe_set_data64(sqe, watch_data(l, i));
        w->armed = true;
        l->unarmed--;
    }
}

static void take_completion(struct loop *l, const struct io_uring_cqe *cqe)
{
    uint32_t i = (uint32_t)cqe->user_data;
    struct loop_watch *w;

    if (cqe->user_data == DATA_IGNORE || i >= l->watch_max)
        return;
    w = &l->watches[i];
    if (w->kind == LOOP_FREE || w->generation != (uint32_t)(cqe->user_data >> 32))
        return;
    if (!(cqe->flags & IORING_CQE_F_MORE) && w->armed) {
        w->armed = false;
        if (w->kind != LOOP_SIGNAL)
            l->unarmed++;
    }
}

static void drain_completions(struct loop *l)
{
    struct io_uring_cqe *cqes[CQ_BATCH];
    unsigned n;

    while ((n = io_uring_peek_batch_cqe(&l->ring, cqes, CQ_BATCH))) {
        for (unsigned i = 0; i < n; i++)
            take_completion(l, cqes[i]);
        io_uring_cq_advance(&l->ring, n);
    }
}

void loop_flush(struct loop *l)
{
    if (!l->unsent)
        return;
    l->unsent = false;
    (void)io_uring_submit(&l->ring); /* What the kernel did not take goes with the next call. */
    drain_completions(l);
}

int loop_wait(struct loop *l, uint64_t timeout_us)
{
    struct __kernel_timespec ts = {.tv_sec = (int64_t)(timeout_us / 1000000u),
                                   .tv_nsec = (long long)(timeout_us % 1000000u) * 1000};
    struct io_uring_cqe *cqe;
    int rc;

    arm_all(l);
    l->unsent = false;
    rc = io_uring_submit_and_wait_timeout(&l->ring, &cqe, 1, timeout_us == UINT64_MAX ? NULL : &ts, NULL);
    drain_completions(l);
    if (rc < 0 && rc != -ETIME && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
        return rc;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits how: the leader on the channel's sleep word, the followers on their own, event loops on a
 * descriptor. The rules stand in channel.h.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client-lib/lib.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

uint64_t sc__now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t sc__deadline(int64_t timeout_ms)
{
    if (timeout_ms < 0 || timeout_ms > INT64_MAX / (int64_t)NS_PER_MS / 2)
        return DEADLINE_NEVER;
    return sc__now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

/* Sleep while *word is `value`, until an absolute time. 0 or -EINTR; every other reason to return is 0. */
static int futex_sleep(uint32_t *word, uint32_t value, uint64_t until_ns, bool shared)
{
    struct timespec ts = {.tv_sec = (time_t)(until_ns / NS_PER_S), .tv_nsec = (long)(until_ns % NS_PER_S)};
    int op = FUTEX_WAIT_BITSET | (shared ? 0 : FUTEX_PRIVATE_FLAG);

    if (syscall(SYS_futex, word, op, value, &ts, NULL, FUTEX_BITSET_MATCH_ANY) && errno == EINTR)
        return -EINTR;
    return 0;
}

static void futex_wake(uint32_t *word, bool shared)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), 1, NULL, NULL, 0);
}

/* ---- Waking -------------------------------------------------------------------------------------- */

/*
 * Set a bit in a waiter's word and end its sleep, on whichever word that is. Lock held. One that doesn't
 * sleep, as the thread that drains, looks at its word before it does; one with the bit set was woken before.
 */
static void waiter_signal(struct channel *ch, struct waiter *w, uint32_t bit)
{
    if (__atomic_load_n(&w->word, __ATOMIC_RELAXED) & bit)
        return;
    __atomic_fetch_or(&w->word, bit, __ATOMIC_SEQ_CST);
    if (ch->leader != w) {
        if (w->follows)
            futex_wake(&w->word, false);
        return;
    }
    /* The leader writes SG_SLEEP_FUTEX, fences, and looks at its word again before it sleeps. */
    sg_fence();
    if (__atomic_exchange_n(ch->sleep, SG_AWAKE, __ATOMIC_SEQ_CST) == SG_SLEEP_FUTEX)
        futex_wake(ch->sleep, true);
}

void sc__waiter_wake(struct channel *ch, struct waiter *w)
{
    waiter_signal(ch, w, WAITER_WOKEN);
}

void sc__waiter_add(struct channel *ch, struct desc *d, struct waiter *w)
{
    pthread_mutex_lock(&ch->lock);
    w->word = 0;
    w->follows = false;
    LIST_INSERT_HEAD(d ? &d->waiters : &ch->any, w, on);
    pthread_mutex_unlock(&ch->lock);
}

void sc__waiter_remove(struct channel *ch, struct waiter *w)
{
    pthread_mutex_lock(&ch->lock);
    LIST_REMOVE(w, on);
    pthread_mutex_unlock(&ch->lock);
}

void sc__channel_changed(struct channel *ch, struct desc *d)
{
    static const uint64_t one = 1;
    struct waiter *w;

    ch->change_seq++;
    LIST_FOREACH(w, &d->waiters, on)
    {
        waiter_signal(ch, w, WAITER_WOKEN);
    }
    LIST_FOREACH(w, &ch->any, on)
    {
        waiter_signal(ch, w, WAITER_WOKEN);
    }
    /* An event loop that waits for the descriptor must hear of changes that another call has drained. */
    if (ch->fd_used && !ch->fd_signalled) {
        ssize_t n = write(ch->event_fd, &one, sizeof(one));

        (void)n; /* EAGAIN: it is readable already. */
        ch->fd_signalled = true;
    }
}

void sc__channel_hand_over(struct channel *ch)
{
    struct waiter *w;

    if (ch->leader && ch->leader->defers) {
        waiter_signal(ch, ch->leader, WAITER_PROMOTE);
        return;
    }
    LIST_FOREACH(w, &ch->followers, follow)
    {
        if (w->defers) {
            waiter_signal(ch, w, WAITER_PROMOTE);
            return;
        }
    }
}

void sc__channel_wake_all(struct channel *ch)
{
    struct waiter *w;

    ch->change_seq++;
    LIST_FOREACH(w, &ch->followers, follow)
    {
        waiter_signal(ch, w, WAITER_PROMOTE);
    }
    if (ch->leader)
        waiter_signal(ch, ch->leader, WAITER_PROMOTE);
}

/* ---- Sleeping ------------------------------------------------------------------------------------ */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool ring_has_events(const struct channel *ch)
{
    for (uint32_t w = 0; w < ch->worker_count; w++) {
        const struct sg_ring *r = &ch->rings[w].events;

        if (sg_load_acquire_u32(r->tail) != sg_load_relaxed_u32(r->head))
            return true;
    }
    return false;
}

static bool leader_done(const struct channel *ch, const struct waiter *w)
{
    return ring_has_events(ch) || __atomic_load_n(&w->word, __ATOMIC_SEQ_CST) != 0;
}

/* A few pauses for a daemon on another CPU, then yields for one on this (docs/decisions/ring-hop.md). */
static bool leader_spin(const struct channel *ch, const struct waiter *w, uint64_t until_ns)
{
    for (unsigned i = 0; i < SPIN_PAUSES; i++) {
        if (leader_done(ch, w))
            return true;
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }
    do {
        if (leader_done(ch, w))
            return true;
        sched_yield();
    } while (sc__now_ns() < until_ns);
    return leader_done(ch, w);
}

/* The leader's wait: until there are events or its own word is set. Lock not held. 0 or -EINTR. */
static int leader_sleep(struct channel *ch, struct waiter *w, uint64_t deadline_ns)
{
    uint64_t now = sc__now_ns();
    int rc;

    if (ch->lib->spin_us && leader_spin(ch, w, earlier(now + ch->lib->spin_us * UINT64_C(1000), deadline_ns)))
        return 0;
    for (;;) {
        __atomic_store_n(ch->sleep, SG_SLEEP_FUTEX, __ATOMIC_SEQ_CST);
        sg_fence(); /* [P3] */
        if (leader_done(ch, w))
            break;
        now = sc__now_ns();
        if (now >= deadline_ns)
            break;
        rc = futex_sleep(ch->sleep, SG_SLEEP_FUTEX, earlier(deadline_ns, now + SLEEP_SLICE_MS * NS_PER_MS),
                         true);
        if (rc) {
            __atomic_store_n(ch->sleep, SG_AWAKE, __ATOMIC_SEQ_CST);
            return rc;
        }
        sc__lib_check_alive(ch->lib, false);
    }
    __atomic_store_n(ch->sleep, SG_AWAKE, __ATOMIC_SEQ_CST);
    return 0;
}

/* Nobody leads: have a follower look for the leadership. Lock held. */
static void promote(struct channel *ch)
{
    if (!ch->leader && !LIST_EMPTY(&ch->followers))
        waiter_signal(ch, LIST_FIRST(&ch->followers), WAITER_PROMOTE);
}

/* One turn as leader. Lock held; released meanwhile. */
static int lead(struct channel *ch, struct waiter *w, uint64_t deadline_ns)
{
    int rc;

    ch->leader = w;
    pthread_mutex_unlock(&ch->lock);
    rc = leader_sleep(ch, w, deadline_ns);
    pthread_mutex_lock(&ch->lock);
    ch->leader = NULL;
    __atomic_fetch_and(&w->word, ~WAITER_PROMOTE, __ATOMIC_SEQ_CST);
    sc__channel_drain(ch);
    return rc;
}

/* Run what is put off, if this thread may. Lock held; released meanwhile. */
static void run_deferred(struct channel *ch, unsigned flags)
{
    if (!(flags & WAIT_DEFER) || TAILQ_EMPTY(&ch->deferred))
        return;
    promote(ch); /* A callback may take its time. */
    sc__channel_rearm(ch);
    pthread_mutex_unlock(&ch->lock);
    sc__channel_run_deferred(ch);
    pthread_mutex_lock(&ch->lock);
}

/* One sleep as follower. Lock held; released meanwhile. */
static int follow(struct channel *ch, struct waiter *w, uint64_t deadline_ns)
{
    int rc;

    LIST_INSERT_HEAD(&ch->followers, w, follow);
    w->follows = true;
    pthread_mutex_unlock(&ch->lock);
    rc = futex_sleep(&w->word, 0, earlier(deadline_ns, sc__now_ns() + 2 * SLEEP_SLICE_MS * NS_PER_MS), false);
    pthread_mutex_lock(&ch->lock);
    w->follows = false;
    LIST_REMOVE(w, follow);
    __atomic_fetch_and(&w->word, ~WAITER_PROMOTE, __ATOMIC_SEQ_CST);
    return rc;
}

int sc__channel_wait(struct channel *ch, struct waiter *w, uint64_t deadline_ns, unsigned flags)
{
    int rc = 0;

    pthread_mutex_lock(&ch->lock);
    w->defers = flags & WAIT_DEFER;
    run_deferred(ch, flags); /* What a command of this thread or another has drained. */
    while (!(__atomic_load_n(&w->word, __ATOMIC_SEQ_CST) & WAITER_WOKEN) && !sc__lib_dead(ch->lib)) {
        if (deadline_ns != DEADLINE_NEVER && sc__now_ns() >= deadline_ns) {
            rc = -ETIMEDOUT;
            break;
        }
        if (ch->leader)
            rc = follow(ch, w, deadline_ns);
        else
            rc = lead(ch, w, deadline_ns);
        run_deferred(ch, flags);
        if (rc && (flags & WAIT_EINTR))
            break;
        rc = 0;
    }
    if (__atomic_load_n(&w->word, __ATOMIC_SEQ_CST) & WAITER_WOKEN)
        rc = 0;
    promote(ch);
    sc__channel_rearm(ch);
    pthread_mutex_unlock(&ch->lock);
    return rc;
}

/* ---- Any change, and the descriptor -------------------------------------------------------------- */

void sc__channel_rearm(struct channel *ch)
{
    if (!ch->fd_used || ch->leader)
        return;
    for (;;) {
        __atomic_store_n(ch->sleep, SG_SLEEP_EVENTFD, __ATOMIC_SEQ_CST);
        sg_fence(); /* [P3] */
        if (!ring_has_events(ch) || sc__lib_dead(ch->lib))
            return;
        sc__channel_drain(ch);
    }
}

/* True when something changed since this thread last asked. Lock held. */
static bool seen_update(struct sc_lib *lib)
{
    /* Thread-specific values start as NULL: a thread's first call looks at everything once. */
    void *now = (void *)(uintptr_t)(lib->ch.change_seq + 1);

    if (pthread_getspecific(lib->seen_key) == now)
        return false;
    (void)pthread_setspecific(lib->seen_key, now); /* Out of memory: it looks again, which is only slower. */
    return true;
}

/* The event loop's look: makes the descriptor unreadable, and takes the events that made it readable. */
static void event_fd_clear(struct channel *ch)
{
    uint64_t count;
    ssize_t n;

    if (!ch->fd_used)
        return;
    n = read(ch->event_fd, &count, sizeof(count));
    (void)n; /* EAGAIN: it was not set. */
}

int sc_wait(sc_lib *lib, int timeout_ms)
{
    bool loop_look = timeout_ms == 0; /* the event loop's idiom, see sc_event_fd() */
    struct channel *ch;
    struct waiter w;
    bool changed;
    int rc = 0;

    if (!lib)
        return -EINVAL;
    if (sc__lib_foreign(lib))
        return -EBADF;
    ch = &lib->ch;
    sc__waiter_add(ch, NULL, &w);
    sc__lib_check_alive(lib, loop_look && __atomic_load_n(&ch->fd_used, __ATOMIC_RELAXED));
    pthread_mutex_lock(&ch->lock);
    if (loop_look) {
        event_fd_clear(ch);
        ch->fd_signalled = true; /* This call reports the changes that it drains. */
    }
    sc__channel_drain(ch);
    sc__channel_rearm(ch);
    if (loop_look)
        ch->fd_signalled = false;
    changed = seen_update(lib);
    pthread_mutex_unlock(&ch->lock);
    sc__channel_run_deferred(ch);
    if (!changed && !loop_look && !sc__lib_dead(lib)) {
        rc = sc__channel_wait(ch, &w, sc__deadline(timeout_ms), WAIT_DEFER | WAIT_EINTR);
        pthread_mutex_lock(&ch->lock);
        changed = seen_update(lib);
        pthread_mutex_unlock(&ch->lock);
    }
    sc__waiter_remove(ch, &w);
    if (sc__lib_dead(lib))
        return -ENETDOWN;
    if (changed)
        return 1;
    return rc == -EINTR ? -EINTR : 0;
}

/* A descriptor that is readable for a change as well as for the daemon's end. Lock held. */
static int epoll_make(struct sc_lib *lib)
{
    struct epoll_event in = {.events = EPOLLIN};
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (epoll_ctl(fd, EPOLL_CTL_ADD, lib->ch.event_fd, &in) ||
        epoll_ctl(fd, EPOLL_CTL_ADD, lib->ctl_fd, &in)) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

int sc_event_fd(sc_lib *lib)
{
    struct channel *ch;
    int fd;

    if (!lib)
        return -EINVAL;
    if (sc__lib_foreign(lib))
        return -EBADF;
    ch = &lib->ch;
    pthread_mutex_lock(&ch->lock);
    fd = lib->epoll_fd;
    if (fd < 0) {
        fd = epoll_make(lib);
        lib->epoll_fd = fd < 0 ? -1 : fd;
        __atomic_store_n(&ch->fd_used, fd >= 0, __ATOMIC_RELAXED);
        sc__channel_rearm(ch);
    }
    pthread_mutex_unlock(&ch->lock);
    return fd;
}

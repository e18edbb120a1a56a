/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One channel of the attachment: three rings for each worker of the daemon, the threads that wait on it, and
 * the commands under way. What concerns a slot travels in the rings of the slot's worker; all else, waiting
 * above all, is of the channel as a whole.
 *
 * All fields are guarded by `lock` unless their comment says otherwise. Lock order: a socket's lock, then
 * the channel's. No lock is held while a thread sleeps.
 *
 * Waiting. Of the threads that wait, one is the leader: it spins for a moment, then sleeps on the channel's
 * shared sleep word ([P3] of proto/abi/ring.h). The others, the followers, sleep each on the word of its
 * own struct waiter. Whoever drains the event ring wakes the waiters concerned; a leader that leaves makes a
 * follower look for the leadership. So the daemon wakes at most one thread, and no thread wakes for a socket
 * that isn't its own, except those that asked for any change.
 *
 * A waiter is put on its list first and looks at its condition afterwards. Together with [S5] of
 * proto/abi/slot.h that loses no wake-up: an event drained before it was listed was made visible by the
 * drainer's fence, one drained later finds it on the list.
 */
#ifndef CLIENT_CHANNEL_H
#define CLIENT_CHANNEL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto/abi/seg.h"

struct sc_lib;
struct desc;

/* waiter.word */
#define WAITER_WOKEN   1u /* its condition may have changed */
#define WAITER_PROMOTE 2u /* the leadership is free */

/** A thread that waits; lives on its stack. */
struct waiter {
    uint32_t word;             /* WAITER_*; futex word; atomic, no lock needed */
    bool defers;               /* this thread may run callbacks (WAIT_DEFER); valid while it sleeps */
    bool follows;              /* it is on channel.followers and sleeps, or is about to, on `word` */
    LIST_ENTRY(waiter) on;     /* desc.waiters or channel.any */
    LIST_ENTRY(waiter) follow; /* channel.followers, while it sleeps as one */
};
LIST_HEAD(waiter_list, waiter);

/** A command whose reply has not come. */
struct pending {
    uint32_t tag;
    bool done;
    int32_t result;       /* valid with done */
    uint64_t value;       /* valid with done */
    struct waiter w;      /* woken by the reply */
    struct desc *closing; /* SG_CMD_CLOSE: the socket whose slot the reply frees; nobody waits */
    TAILQ_ENTRY(pending) next;
};
TAILQ_HEAD(pending_list, pending);
TAILQ_HEAD(desc_list, desc);

/** What a channel has for one worker. */
struct rings {
    struct sg_ring kicks, cmds, events;
    int doorbell_fd;
};

struct channel {
    struct sc_lib *lib;
    pthread_mutex_t lock;
    struct rings rings[SG_WORKERS_MAX];
    uint32_t worker_count;
    uint32_t *sleep; /* the shared sleep word of the channel */
    int event_fd;    /* the daemon writes it for SG_SLEEP_EVENTFD */

    struct waiter *leader;        /* NULL: nobody leads */
    struct waiter_list followers; /* asleep, each on its own word */
    struct waiter_list any;       /* want every change */

    uint32_t next_tag;
    struct pending_list pending; /* in order of their commands, which is the order of the replies */

    uint64_t change_seq;       /* changes seen on any socket; sc_wait() compares it */
    bool fd_used;              /* sc_event_fd() was called; written atomically, read without lock too */
    bool fd_signalled;         /* event_fd was written by ourselves and not read since */
    struct desc_list deferred; /* callbacks to make and send regions to give back, outside all locks */

    struct desc **descs; /* by slot number; NULL: free */
    uint64_t *slot_used; /* bitmap of slot numbers in use */
    uint32_t slot_hint;  /* no word of the bitmap before this one has a free number */
    uint32_t slot_count;
};

/* "For ever" as a deadline. */
#define DEADLINE_NEVER UINT64_MAX

/* Flags of sc__channel_wait(). */
#define WAIT_DEFER     (1u << 0) /* may run callbacks; not for waits for a reply */
#define WAIT_EINTR     (1u << 1) /* a signal ends the wait with -EINTR */

/** Set up a channel over checked shared memory. 0 or -ENOMEM. */
int sc__channel_init(struct channel *ch, struct sc_lib *lib, uint32_t slot_count);
void sc__channel_fini(struct channel *ch);

/** CLOCK_MONOTONIC in nanoseconds. */
uint64_t sc__now_ns(void);
/** The deadline `timeout_ms` from now; below 0: DEADLINE_NEVER. */
uint64_t sc__deadline(int64_t timeout_ms);

/** Put a waiter on the list of a socket, or on that of any change (d NULL). Its word becomes 0. */
void sc__waiter_add(struct channel *ch, struct desc *d, struct waiter *w);
void sc__waiter_remove(struct channel *ch, struct waiter *w);
/** Wake a waiter. Lock held. */
void sc__waiter_wake(struct channel *ch, struct waiter *w);
/** Forget that it was woken; do so before looking at the condition again. */
static inline void sc__waiter_reset(struct waiter *w)
{
    __atomic_store_n(&w->word, 0, __ATOMIC_SEQ_CST);
}

/**
 * Sleep until the waiter is woken, the deadline passes or the daemon is gone. No lock may be held.
 * @return 0 (look at the condition, and at lib->dead), -ETIMEDOUT, -EINTR
 */
int sc__channel_wait(struct channel *ch, struct waiter *w, uint64_t deadline_ns, unsigned flags);

/** Take all events that wait. Lock held. */
void sc__channel_drain(struct channel *ch);
/** Have the event fd armed when nobody leads. Lock held. */
void sc__channel_rearm(struct channel *ch);
/** Wake everybody who waits on the channel. Lock held. */
void sc__channel_wake_all(struct channel *ch);
/** There is something to run that the present thread may not run itself: wake one that may. Lock held. */
void sc__channel_hand_over(struct channel *ch);
/** Something changed on a socket: wake those who wait for it. Lock held. */
void sc__channel_changed(struct channel *ch, struct desc *d);
/** Run what the last drain put off. No lock held. */
void sc__channel_run_deferred(struct channel *ch);

/** The worker that a slot belongs to. */
static inline uint32_t sc__worker_of(const struct channel *ch, uint32_t slot)
{
    return ch->worker_count == 1 ? 0 : slot % ch->worker_count;
}

/**
 * Push a command; its reply will fill `p` (NULL: none wanted). The caller may hold the socket's lock, which
 * orders the command after what it wrote to the slot. Waits for room in the ring if need be.
 * @return 0, -ENETDOWN
 */
int sc__command_push(struct channel *ch, struct sg_cmd *cmd, struct pending *p);
/** Wait for the reply of a pushed command. No lock held. Its result, or -ENETDOWN. */
int sc__command_wait(struct channel *ch, struct pending *p);
/** Push and wait. No lock held. */
int sc__command(struct channel *ch, struct sg_cmd *cmd, uint64_t *value);

/** Push a kick for a slot and ring the doorbell if the daemon sleeps. */
void sc__kick_push(struct channel *ch, uint32_t slot);

/* "Any worker" for sc__slot_take(). */
#define WORKER_ANY UINT32_MAX

/** Give `d` the lowest free slot number of a worker; false when there is none. */
bool sc__slot_take(struct channel *ch, struct desc *d, uint32_t worker);
/** True when the daemon has not answered every close yet: their numbers come back. */
bool sc__slots_closing(struct channel *ch);
/** Give it back. Lock held. */
void sc__slot_give(struct channel *ch, uint32_t slot);

#endif

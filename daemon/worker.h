/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker: the one thread that runs an engine. Frames in, what applications asked for, timers, frames
 * out, events; again, or asleep until something can have changed.
 *
 * The control thread talks to it in two ways. worker_call() runs a function on the worker's thread between
 * two turns and waits for it; everything that looks at the engine or a session's rings goes this way. The
 * worker's own messages (a session that broke the contract, memory that may be freed, a line for the log)
 * are read with worker_news(). The worker never waits for the control thread, never logs and never frees.
 *
 * A turn is bounded: WORKER_KICKS_MAX kicks and WORKER_COMMANDS_MAX commands of each channel, one burst of
 * frames from each device, WORKER_TX_ROUNDS to each, one page of an admin query.
 */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/cluster.h"
#include "daemon/engine/engine.h"
#include "daemon/session.h"
#include "hw/device.h"

#define WORKER_KICKS_MAX      256u /* kicks taken from a channel in a turn */
#define WORKER_COMMANDS_MAX   64u  /* commands taken from a channel in a turn */
#define WORKER_TX_ROUNDS      16u  /* bursts sent to a device in a turn */
#define WORKER_PAUSES         8u   /* idle looks with a pause before the CPU is offered to others */
#define WORKER_NAP_GROWTH     16u /* sleeps between fruitless looks at a device grow up to so often poll_us */
#define WORKER_TX_RETRY_US    200u /* sleep while the device is full: it does not say when it no longer is */
/* Sleep while an application's event ring is full; doubled up to the maximum as long as nothing moves. */
#define WORKER_BLOCKED_US_MIN 1000u
#define WORKER_BLOCKED_US_MAX 16000u

#define WORKER_NOTICE_MAX     256u

struct worker;

/** A device, or the worker's queue of one. */
struct worker_port {
    struct device *device;   /* NULL: the first worker has its only queue */
    const char *name;        /* for messages */
    struct device_link link; /* as the engine was told at the start */
};

struct worker_params {
    const struct config *cfg;
    unsigned index;          /* among the workers */
    struct cluster *cluster; /* NULL: it is the only one */
    struct engine *engine;
    struct worker_port ports[ENGINE_DEV_MAX]; /* by the engine's number; the first port_count */
    unsigned port_count;
    struct sg_status_worker *status; /* on the status page */
};

/** What the worker counts; read through worker_call(). */
struct worker_counters {
    uint64_t turns;
    uint64_t sleeps;
    uint64_t rx_bursts;       /* that held frames */
    uint64_t tx_bursts;       /* that sent frames */
    uint64_t tx_full;         /* a device took less than there was */
    uint64_t kicks, commands; /* taken from applications */
    uint64_t events;          /* given to applications */
    uint64_t events_deferred; /* an event ring was full */
    uint64_t wakes_futex, wakes_eventfd;
    uint64_t calls; /* from the control thread */
    uint64_t sessions_added, sessions_ended, sessions_faulted;
};

enum worker_news_kind {
    WORKER_NEWS_FAULT,  /* session: broke the contract, is ended; close its connection. text: how */
    WORKER_NEWS_DONE,   /* session: its memory is no longer used; free it */
    WORKER_NEWS_NOTICE, /* text: worth a log line */
    WORKER_NEWS_DEVICE, /* text: a device failed for good; the worker goes on with the others */
    WORKER_NEWS_FAILED, /* text: the last device or the ring did; the worker only answers calls now */
};

struct worker_news {
    enum worker_news_kind kind;
    struct app_session *session;
    char text[WORKER_NOTICE_MAX];
};

/** Make a worker; its thread does not run yet. Nothing of `p` is owned; all must outlive the worker. */
int worker_create(const struct worker_params *p, struct worker **ret);

/** Start the thread. Returns 0, or -errno when it could not start or has no io_uring. */
int worker_start(struct worker *w);

/** Let the thread finish its turn and end, and wait for that. Nothing when it does not run. */
void worker_stop(struct worker *w);

/** Free a stopped worker; accepts NULL. */
void worker_free(struct worker *w);

/**
 * Run fn(w, arg) on the worker's thread between two turns and wait for it; on the caller's when the thread
 * does not run. For the control thread only. Returns what fn returned.
 */
int worker_call(struct worker *w, int (*fn)(struct worker *w, void *arg), void *arg);

/** Polls readable while there is news. */
int worker_news_fd(const struct worker *w);

/** Have the engine's addresses changed since the last call? True the first time. Polled as news are. */
bool worker_addresses_changed(struct worker *w);

/** Take the oldest news; false when there is none. For the control thread only. */
bool worker_news(struct worker *w, struct worker_news *ret);

/* ---- For functions that run on the worker's thread (worker_call) -------------------------------- */

/** Add a session (arg: struct app_session *). Returns 0 or -errno (-ENOSPC: no room for another). */
int worker_session_add(struct worker *w, void *session);

/**
 * Part from a session that was added (arg: struct app_session *): end it, unless it is ended because of a
 * fault, and wake whoever waits on its rings. To be called once its control connection is closed, after
 * WORKER_NEWS_FAULT too. Its memory comes back as WORKER_NEWS_DONE, never before this call.
 */
int worker_session_end(struct worker *w, void *session);

/** What a device says of its link (arg: struct worker_link *). Returns 1 when that is news, else 0. */
struct worker_link {
    unsigned port;
    struct device_link link;
};
int worker_link(struct worker *w, void *arg);

/** Does nothing: shows that the worker turns. */
int worker_ping(struct worker *w, void *unused);

struct engine *worker_engine(struct worker *w);
/** The session with the engine's number `sid`, attached or draining; NULL: none. */
const struct app_session *worker_session(const struct worker *w, int sid);
const struct worker_counters *worker_counters(const struct worker *w);
/** All zero when it is the only worker. */
const struct cluster_counters *worker_cluster_counters(const struct worker *w);
unsigned worker_index(const struct worker *w);
/** The engine's number of a session; -1: it is none of this worker's any more. */
int worker_session_number(const struct worker *w, const struct app_session *s);
/** What device `i` has counted; false: there is no such device. */
bool worker_device_stats(const struct worker *w, unsigned i, struct device_stats *ret);
/** The device has failed for good. */
bool worker_device_failed(const struct worker *w, unsigned i);
/** The time of the turn. */
uint64_t worker_now_us(const struct worker *w);

#endif

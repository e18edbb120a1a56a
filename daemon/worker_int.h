/* SPDX-License-Identifier: Apache-2.0 */
/* What worker.c (thread, sleep, calls, news) and turn.c (one turn, sessions) know of each other. */
#ifndef DAEMON_WORKER_INT_H
#define DAEMON_WORKER_INT_H

#include <pthread.h>
#include <semaphore.h>

#include "daemon/cluster.h"
#include "daemon/loop.h"
#include "daemon/worker.h"

struct channel_ref {
    struct app_session *session;
    uint32_t channel;
};

/* A request of the control thread; lies on its stack while it waits. */
struct call {
    int (*fn)(struct worker *w, void *arg);
    void *arg;
    int result;
    sem_t done;
};

struct port {
    struct device *device; /* NULL: the first worker has its only queue */
    const char *name;
    struct device_link link; /* as last told */
    int watch;               /* -1: it has nothing to wait on, or failed */
    bool failed;             /* gone for good; not touched any more */
    bool tx_full;            /* it took less than there was */
};

struct worker {
    const struct config *cfg;
    unsigned index;
    struct cluster *cluster; /* NULL: it is the only worker */
    struct engine *engine;
    struct port ports[ENGINE_DEV_MAX]; /* by the engine's number */
    unsigned port_count, ports_left;   /* all, and those that have not failed */
    struct sg_status_worker *status;
    struct loop loop;
    struct worker_counters count;
    uint64_t now_us; /* of this turn */

    /* Sessions whose rings are read, and those whose last bytes the engine still sends. */
    struct app_session **active, **draining;
    unsigned active_count, draining_count;
    struct app_session **by_sid; /* both, by the engine's number */
    struct channel_ref *dirty;   /* channels with staged events */
    unsigned dirty_count;

    bool blocked;        /* an event ring was full this turn */
    uint32_t blocked_us; /* how long to sleep because of that */
    uint32_t nap_us;     /* longest sleep with a device that can't wake us */
    bool failed;         /* all devices or the ring are gone: only calls are answered */
    bool stop;           /* set by a call */

    /* Shared with the control thread. */
    struct call *mail; /* atomic: the call to run, NULL: none */
    uint32_t asleep;   /* atomic: [P3] for `mail`, as status->sleeping is for rings */
    int mail_fd;       /* eventfd: there is mail */
    pthread_t thread;
    bool running;
    int start_result;
    sem_t started;

    /* Worker to control thread; the lock is held for copies of one entry only. */
    pthread_mutex_t news_lock;
    struct worker_news *news; /* ring of news_max */
    unsigned news_max, news_head, news_count;
    int news_fd;
    uint32_t addr_changes;  /* of the engine, as last looked at by the worker */
    bool addresses_changed; /* atomic: not yet told to the control thread */
};

/** Do everything that there is to do once. Returns how much that was; 0: nothing. */
unsigned worker_turn(struct worker *w);

/** The ring is gone: say so and serve nothing but calls from now on. */
void worker_fail(struct worker *w, const char *what, int error);
/** A device is gone: say so and go on with the others, if there are any. */
void worker_port_fail(struct worker *w, unsigned port, const char *what, int error);

/** Tell the control thread if the engine's addresses are others than before. */
void worker_look_at_addresses(struct worker *w);

/** Tell the control thread; `text` is copied. */
void worker_news_post(struct worker *w, enum worker_news_kind kind, struct app_session *s, const char *text);

#endif

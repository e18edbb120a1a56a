/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/command.h"
#include "daemon/loop.h"

/* The engine sees no device header; its offload bits are the device's. */
static_assert(ENGINE_TX_CSUM == DEV_TX_CSUM, "offload bits agree");
static_assert(ENGINE_TX_TSO4 == DEV_TX_TSO4, "offload bits agree");

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

struct worker {
    const struct config *cfg;
    struct engine *engine;
    struct device *device;
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

    bool tx_full;        /* the device took less than there was */
    bool blocked;        /* an event ring was full this turn */
    uint32_t blocked_us; /* how long to sleep because of that */
    bool failed;         /* the device or the ring is gone: only calls are answered */
    bool stop;           /* set by a call */
    int device_watch;    /* -1: the device has nothing to wait on, or failed */

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
};

/* ---- News -------------------------------------------------------------------------------------- */

/* Notices may be lost when nobody reads them; news about sessions always find room, two for each. */
#define NOTICES_MAX 16u

static void news_post(struct worker *w, enum worker_news_kind kind, struct app_session *s, const char *text)
{
    const uint64_t one = 1;
    unsigned room_kept = kind == WORKER_NEWS_NOTICE ? w->news_max - NOTICES_MAX : 0;

    (void)pthread_mutex_lock(&w->news_lock);
    if (w->news_count + room_kept < w->news_max) {
        struct worker_news *n = &w->news[(w->news_head + w->news_count++) % w->news_max];

        n->kind = kind;
        n->session = s;
        strncpy(n->text, text, sizeof(n->text) - 1);
        n->text[sizeof(n->text) - 1] = '\0';
    } else {
        assert(kind == WORKER_NEWS_NOTICE);
    }
    (void)pthread_mutex_unlock(&w->news_lock);
    if (write(w->news_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN); /* The count is full: it is readable. */
}

bool worker_news(struct worker *w, struct worker_news *ret)
{
    uint64_t count;
    bool any;

    (void)pthread_mutex_lock(&w->news_lock);
    any = w->news_count > 0;
    if (any) {
        *ret = w->news[w->news_head];
        w->news_head = (w->news_head + 1) % w->news_max;
        w->news_count--;
    } else if (read(w->news_fd, &count, sizeof(count)) < 0) {
        assert(errno == EAGAIN); /* Under the lock, so that no later post is swallowed. */
    }
    (void)pthread_mutex_unlock(&w->news_lock);
    return any;
}

int worker_news_fd(const struct worker *w)
{
    return w->news_fd;
}

static void worker_fail(struct worker *w, const char *what, int error)
{
    char text[WORKER_NOTICE_MAX];

    (void)snprintf(text, sizeof(text), "%s: %s", what, strerror(-error));
    w->failed = true;
    if (w->device_watch >= 0) /* A dead descriptor may be readable for ever. */
        loop_remove(&w->loop, w->device_watch);
    w->device_watch = -1;
    news_post(w, WORKER_NEWS_FAILED, NULL, text);
}

/* ---- Sessions ------------------------------------------------------------------------------------ */

static int session_watch(struct worker *w, struct app_session *s)
{
    s->doorbell_watch = loop_add(&w->loop, s->doorbell_fd, LOOP_BELL);
    assert(s->doorbell_watch >= 0); /* The loop has room for all sessions. */
    for (uint32_t i = 0; i < s->channel_count; i++) {
        s->channel_watch[i] = loop_add(&w->loop, s->channel_fd[i], LOOP_SIGNAL);
        assert(s->channel_watch[i] >= 0);
    }
    return 0;
}

static void session_unwatch(struct worker *w, struct app_session *s)
{
    loop_remove(&w->loop, s->doorbell_watch);
    for (uint32_t i = 0; i < s->channel_count; i++)
        loop_remove(&w->loop, s->channel_watch[i]);
    loop_flush(&w->loop);
}

int worker_session_add(struct worker *w, void *session)
{
    struct app_session *s = session;
    struct engine_session es = {
        .base = s->base,
        .bytes = s->bytes,
        .slots = s->slots,
        .slot_count = s->slot_count,
        .heap_off = s->heap_off,
        .heap_bytes = s->heap_bytes,
        .slot_sock = s->slot_sock,
        .heap_meta = s->heap_meta,
        .buffer_bytes_max = s->buffer_bytes_max,
        .sockets_max = s->slot_count - 1,
    };

    if (w->failed)
        return -ENETDOWN;
    s->sid = engine_session_add(w->engine, &es, w->now_us);
    if (s->sid < 0)
        return s->sid;
    w->by_sid[s->sid] = s;
    w->active[w->active_count++] = s;
    w->count.sessions_added++;
    return session_watch(w, s);
}

static void wake_channel(struct worker *w, struct app_session *s, uint32_t i)
{
    switch (channel_wake(&s->channels[i])) {
    case CHANNEL_WAKE_NONE:
        break;
    case CHANNEL_WAKE_FUTEX:
        w->count.wakes_futex++;
        break;
    case CHANNEL_WAKE_EVENTFD:
        w->count.wakes_eventfd++;
        loop_signal(&w->loop, s->channel_watch[i]);
        break;
    }
}

static void session_undirty(struct worker *w, const struct app_session *s)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < w->dirty_count; i++)
        if (w->dirty[i].session != s)
            w->dirty[kept++] = w->dirty[i];
    w->dirty_count = kept;
}

static void session_end_at(struct worker *w, unsigned at)
{
    struct app_session *s = w->active[at];

    w->active[at] = w->active[--w->active_count];
    w->draining[w->draining_count++] = s;
    session_undirty(w, s);
    engine_session_end(w->engine, s->sid, w->now_us);
    /* Whoever still waits on a ring looks up, and finds the control connection closed. */
    for (uint32_t i = 0; i < s->channel_count; i++)
        wake_channel(w, s, i);
    loop_flush(&w->loop);
    session_unwatch(w, s);
    w->count.sessions_ended++;
}

int worker_session_end(struct worker *w, void *session)
{
    for (unsigned i = 0; i < w->active_count; i++) {
        if (w->active[i] == session) {
            session_end_at(w, i);
            return 0;
        }
    }
    return 0;
}

static void session_fault(struct app_session *s, const char *reason)
{
    if (!s->fault)
        s->fault = reason;
}

/* End the sessions that were found to lie in this turn. */
static void sweep_faults(struct worker *w)
{
    for (unsigned i = 0; i < w->active_count;) {
        struct app_session *s = w->active[i];

        if (!s->fault) {
            i++;
            continue;
        }
        session_end_at(w, i);
        w->count.sessions_faulted++;
        news_post(w, WORKER_NEWS_FAULT, s, s->fault);
    }
}

static void sweep_draining(struct worker *w)
{
    for (unsigned i = 0; i < w->draining_count;) {
        struct app_session *s = w->draining[i];

        if (!engine_session_idle(w->engine, s->sid)) {
            i++;
            continue;
        }
        engine_session_drop(w->engine, s->sid);
        w->by_sid[s->sid] = NULL;
        w->draining[i] = w->draining[--w->draining_count];
        news_post(w, WORKER_NEWS_DONE, s, "");
    }
}

/* ---- Events ---------------------------------------------------------------------------------------- */

/* Returns false when the event has to wait for room. */
static bool push_event(struct worker *w, struct app_session *s, uint32_t channel, const struct sg_event *ev)
{
    struct channel *c = &s->channels[channel];
    bool first = !c->staged;
    int rc = channel_event_push(c, ev);

    if (rc == -EPROTO) {
        session_fault(s, "event ring: impossible head index");
        return true;
    }
    if (rc) {
        w->blocked = true;
        return false;
    }
    w->count.events++;
    if (first)
        w->dirty[w->dirty_count++] = (struct channel_ref){s, channel};
    return true;
}

static unsigned deliver_events(struct worker *w)
{
    struct engine_event ev;
    unsigned n = 0;

    while (engine_event_next(w->engine, &ev)) {
        struct app_session *s = w->by_sid[ev.sid];
        struct sg_event out = {.kind = SG_EV_SOCK, .slot = ev.slot};

        if (!s || s->fault)
            continue;
        if (ev.kind == ENGINE_EV_FAULT) {
            session_fault(s, ev.reason);
        } else if (ev.slot != SG_SLOT_NONE && ev.slot < s->slot_count) {
            if (push_event(w, s, s->slot_channel[ev.slot], &out)) {
                n++;
            } else {
                w->count.events_deferred++;
                engine_event_defer(w->engine, &ev);
            }
        }
    }
    return n;
}

/* Make the turn's events visible, then wake whoever sleeps: one fence for all of them ([P3]). */
static void publish_events(struct worker *w)
{
    if (!w->dirty_count)
        return;
    for (unsigned i = 0; i < w->dirty_count; i++)
        channel_publish(&w->dirty[i].session->channels[w->dirty[i].channel]);
    sg_fence();
    for (unsigned i = 0; i < w->dirty_count; i++)
        wake_channel(w, w->dirty[i].session, w->dirty[i].channel);
    w->dirty_count = 0;
    loop_flush(&w->loop);
}

/* ---- The turn ----------------------------------------------------------------------------------------- */

static void run_command(struct worker *w, struct app_session *s, uint32_t channel, const struct sg_cmd *cmd)
{
    struct sg_event reply = {.kind = SG_EV_REPLY, .slot = cmd->slot, .tag = cmd->tag};
    bool placed;

    reply.result = command_run(w->engine, s, cmd, w->now_us, &reply.value);
    if (reply.result == 0 && cmd->op == SG_CMD_OPEN)
        s->slot_channel[cmd->slot] = (uint8_t)channel;
    if (reply.result == 0 && cmd->op == SG_CMD_ACCEPT)
        s->slot_channel[cmd->arg0] = (uint8_t)channel;
    if (!cmd->tag)
        return;
    placed = push_event(w, s, channel, &reply);
    assert(placed); /* No command is taken without room for its reply. */
    (void)placed;
}

static unsigned poll_channel(struct worker *w, struct app_session *s, uint32_t channel)
{
    struct channel *c = &s->channels[channel];
    uint32_t kicks[WORKER_KICKS_MAX];
    struct sg_cmd cmds[WORKER_COMMANDS_MAX];
    int kick_count, cmd_count, room;

    /* Commands first: an application may kick a slot right after the command that opened it. */
    room = channel_event_room(c);
    if (room < 0) {
        session_fault(s, "event ring: impossible head index");
        return 1;
    }
    cmd_count =
        channel_commands(c, cmds, room < (int)WORKER_COMMANDS_MAX ? (unsigned)room : WORKER_COMMANDS_MAX);
    if (cmd_count < 0) {
        session_fault(s, "command ring: impossible tail index");
        return 1;
    }
    for (int i = 0; i < cmd_count; i++)
        run_command(w, s, channel, &cmds[i]);
    kick_count = channel_kicks(c, kicks, WORKER_KICKS_MAX);
    if (kick_count < 0) {
        session_fault(s, "kick ring: impossible tail index");
        return 1;
    }
    if (kick_count)
        engine_kick(w->engine, s->sid, kicks, (unsigned)kick_count, w->now_us);
    w->count.commands += (unsigned)cmd_count;
    w->count.kicks += (unsigned)kick_count;
    return (unsigned)(cmd_count + kick_count);
}

static unsigned receive(struct worker *w)
{
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    int n = w->device->ops->rx_burst(w->device, pkts, DEV_RX_BURST_MAX);

    if (n < 0) {
        worker_fail(w, "the device failed while receiving", n);
        return 0;
    }
    if (n) {
        w->count.rx_bursts++;
        engine_rx(w->engine, pkts, (unsigned)n, w->now_us);
    }
    return (unsigned)n;
}

static unsigned transmit(struct worker *w)
{
    struct pktbuf *pkts[DEV_TX_BURST_MAX];
    unsigned sent = 0;

    w->tx_full = false;
    for (unsigned round = 0; round < WORKER_TX_ROUNDS; round++) {
        unsigned n = engine_tx_peek(w->engine, pkts, DEV_TX_BURST_MAX, w->now_us);
        int taken;

        if (!n)
            return sent;
        taken = w->device->ops->tx_burst(w->device, pkts, n);
        if (taken < 0) {
            worker_fail(w, "the device failed while sending", taken);
            return sent;
        }
        engine_tx_consume(w->engine, (unsigned)taken);
        sent += (unsigned)taken;
        w->count.tx_bursts += taken > 0;
        if ((unsigned)taken < n) {
            w->tx_full = true;
            w->count.tx_full++;
            return sent;
        }
    }
    return sent;
}

/* One turn. Returns how much there was to do; 0: nothing. */
static unsigned turn(struct worker *w)
{
    char notice[WORKER_NOTICE_MAX];
    unsigned work;

    w->count.turns++;
    w->blocked = false;
    work = receive(w);
    for (unsigned i = 0; i < w->active_count; i++)
        for (uint32_t c = 0; c < w->active[i]->channel_count && !w->active[i]->fault; c++)
            work += poll_channel(w, w->active[i], c);
    engine_timers(w->engine, w->now_us);
    if (!w->failed)
        work += transmit(w);
    engine_publish(w->engine, w->now_us);
    work += deliver_events(w);
    publish_events(w);
    sweep_faults(w);
    if (w->draining_count)
        sweep_draining(w);
    while (engine_notice(w->engine, notice, sizeof(notice)))
        news_post(w, WORKER_NEWS_NOTICE, NULL, notice);
    return work;
}

/* ---- Sleep and calls ----------------------------------------------------------------------------------- */

/* The longest sleep that misses nothing, looked up after the sleep words are set; 0: do not sleep. */
static uint64_t sleep_us(struct worker *w)
{
    uint64_t deadline = engine_deadline(w->engine), now, us;

    if (__atomic_load_n(&w->mail, __ATOMIC_ACQUIRE) || w->device->ops->rx_pending(w->device))
        return 0;
    if (engine_tx_pending(w->engine) && !w->tx_full)
        w->tx_full = true; /* It had its turn and could not: whatever holds it back, look again soon. */
    for (unsigned i = 0; i < w->active_count; i++) {
        for (uint32_t c = 0; c < w->active[i]->channel_count; c++) {
            switch (channel_look(&w->active[i]->channels[c])) {
            case CHANNEL_WORK:
                return 0;
            case CHANNEL_BLOCKED:
                w->blocked = true;
                break;
            case CHANNEL_IDLE:
                break;
            }
        }
    }
    now = clock_now_us();
    us = deadline == UINT64_MAX ? UINT64_MAX : deadline > now ? deadline - now : 0;
    if (w->tx_full && us > WORKER_TX_RETRY_US)
        us = WORKER_TX_RETRY_US;
    if (w->blocked && us > w->blocked_us)
        us = w->blocked_us;
    if (w->device->ops->wait_fd(w->device) < 0 && us > w->cfg->poll_us)
        us = w->cfg->poll_us;
    return us;
}

/* Applications and the control thread look at the sleep words after they published [P3]. */
static void set_asleep(struct worker *w, uint32_t asleep)
{
    sg_store_relaxed_u32(&w->status->sleeping, asleep);
    sg_store_relaxed_u32(&w->asleep, asleep);
}

static void sleep_until_work(struct worker *w)
{
    uint64_t us;
    int rc = 0;

    set_asleep(w, 1);
    sg_fence(); /* [P3], with the fence of whoever publishes. */
    us = w->failed ? UINT64_MAX : sleep_us(w);
    if (w->failed && __atomic_load_n(&w->mail, __ATOMIC_ACQUIRE))
        us = 0;
    if (us) {
        w->count.sleeps++;
        rc = loop_wait(&w->loop, us);
        w->blocked_us =
            w->blocked && w->blocked_us * 2 <= WORKER_BLOCKED_US_MAX ? w->blocked_us * 2 : w->blocked_us;
    }
    set_asleep(w, 0);
    if (rc && !w->failed)
        worker_fail(w, "waiting for work (io_uring) failed", rc);
    else if (rc)
        (void)usleep(WORKER_BLOCKED_US_MIN); /* Nothing to wait on is left; calls are still answered. */
}

/* Returns 1 when there was one: it may have left frames to send, or told us to stop. */
static unsigned answer_call(struct worker *w)
{
    struct call *c = __atomic_exchange_n(&w->mail, NULL, __ATOMIC_ACQ_REL);

    if (!c)
        return 0;
    w->count.calls++;
    c->result = c->fn(w, c->arg);
    (void)sem_post(&c->done);
    return 1;
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Yielding lets the application answer when it shares our CPU; the first looks catch one that doesn't. */
static void idle_look(unsigned looks)
{
    if (looks <= WORKER_PAUSES)
        cpu_relax();
    else
        (void)sched_yield();
}

static void serve(struct worker *w)
{
    uint64_t idle_since_us = 0;
    unsigned looks = 0;

    while (!w->stop) {
        unsigned work = 0;

        w->now_us = clock_now_us();
        if (!w->failed)
            work = turn(w);
        work += answer_call(w);
        if (work) {
            looks = 0;
            if (!w->blocked)
                w->blocked_us = WORKER_BLOCKED_US_MIN;
            continue;
        }
        if (!looks++)
            idle_since_us = w->now_us;
        if (!w->failed && w->now_us - idle_since_us < w->cfg->spin_us) {
            idle_look(looks);
            continue;
        }
        sleep_until_work(w);
        looks = 0;
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    int fd = w->device->ops->wait_fd(w->device);
    /* The ring serves one thread, so it is made on it. One doorbell and its channels for each session. */
    int rc = loop_open(&w->loop, w->cfg->engine.session_max * (1 + w->cfg->channels) + 2);

    (void)pthread_setname_np(pthread_self(), "worker");
    w->start_result = rc;
    if (!rc) {
        (void)loop_add(&w->loop, w->mail_fd, LOOP_BELL);
        if (fd >= 0)
            w->device_watch = loop_add(&w->loop, fd, LOOP_LEVEL);
    }
    (void)sem_post(&w->started);
    if (!rc) {
        serve(w);
        loop_close(&w->loop);
    }
    return NULL;
}

/* ---- For the control thread -----------------------------------------------------------------------------
 */

static void wait_for(sem_t *s)
{
    while (sem_wait(s))
        assert(errno == EINTR);
}

int worker_create(const struct worker_params *p, struct worker **ret)
{
    struct worker *w = calloc(1, sizeof(*w));
    uint32_t sessions = p->cfg->engine.session_max;

    if (!w)
        return -ENOMEM;
    w->cfg = p->cfg;
    w->engine = p->engine;
    w->device = p->device;
    w->status = p->status;
    w->device_watch = -1;
    w->blocked_us = WORKER_BLOCKED_US_MIN;
    w->news_max = 2 * sessions + NOTICES_MAX + 1;
    w->active = calloc(sessions, sizeof(struct app_session *));
    w->draining = calloc(sessions, sizeof(struct app_session *));
    w->by_sid = calloc(sessions, sizeof(struct app_session *));
    w->dirty = calloc((size_t)sessions * p->cfg->channels, sizeof(*w->dirty));
    w->news = calloc(w->news_max, sizeof(*w->news));
    w->mail_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)sem_init(&w->started, 0, 0);
    (void)pthread_mutex_init(&w->news_lock, NULL);
    if (w->mail_fd < 0 || w->news_fd < 0 || !w->active || !w->draining || !w->by_sid || !w->dirty ||
        !w->news) {
        worker_free(w);
        return -ENOMEM;
    }
    *ret = w;
    return 0;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    assert(!w->running);
    free(w->active);
    free(w->draining);
    free(w->by_sid);
    free(w->dirty);
    free(w->news);
    if (w->mail_fd >= 0)
        (void)close(w->mail_fd);
    if (w->news_fd >= 0)
        (void)close(w->news_fd);
    (void)sem_destroy(&w->started);
    (void)pthread_mutex_destroy(&w->news_lock);
    free(w);
}

int worker_start(struct worker *w)
{
    int rc = -pthread_create(&w->thread, NULL, worker_main, w);

    if (rc)
        return rc;
    wait_for(&w->started);
    if (w->start_result)
        (void)pthread_join(w->thread, NULL);
    else
        w->running = true;
    return w->start_result;
}

/* Wake it if it sleeps: the other half of [P3] in sleep_until_work(). */
static void ring_mail(struct worker *w)
{
    const uint64_t one = 1;

    sg_fence();
    if (__atomic_load_n(&w->asleep, __ATOMIC_RELAXED) && write(w->mail_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
}

int worker_call(struct worker *w, int (*fn)(struct worker *w, void *arg), void *arg)
{
    struct call c = {.fn = fn, .arg = arg};

    if (!w->running)
        return fn(w, arg);
    (void)sem_init(&c.done, 0, 0);
    __atomic_store_n(&w->mail, &c, __ATOMIC_RELEASE);
    ring_mail(w);
    wait_for(&c.done);
    (void)sem_destroy(&c.done);
    return c.result;
}

static int stop_serving(struct worker *w, void *unused)
{
    (void)unused;
    w->stop = true;
    return 0;
}

void worker_stop(struct worker *w)
{
    if (!w || !w->running)
        return;
    (void)worker_call(w, worker_ping, NULL); /* The turn before the answer sends what calls left behind. */
    (void)worker_call(w, stop_serving, NULL);
    (void)pthread_join(w->thread, NULL);
    w->running = false;
}

int worker_ping(struct worker *w, void *unused)
{
    (void)w;
    (void)unused;
    return 0;
}

struct engine *worker_engine(struct worker *w)
{
    return w->engine;
}

const struct app_session *worker_session(const struct worker *w, int sid)
{
    return sid >= 0 && (uint32_t)sid < w->cfg->engine.session_max ? w->by_sid[sid] : NULL;
}

const struct worker_counters *worker_counters(const struct worker *w)
{
    return &w->count;
}

void worker_device_stats(const struct worker *w, struct device_stats *ret)
{
    w->device->ops->stats(w->device, ret);
}

uint64_t worker_now_us(const struct worker *w)
{
    return w->now_us;
}

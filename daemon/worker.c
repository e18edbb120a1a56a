/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/worker.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/worker_int.h"

/* ---- News -------------------------------------------------------------------------------------- */

/*
 * Notices may be lost when nobody reads them; news about sessions always find room: two for each, and twice
 * that because in one round of the control thread a session may end and another take its place, and end. So
 * does the one news that each device and the worker itself may have.
 */
#define NEWS_PER_SESSION 4u
#define NOTICES_MAX      16u

static void ring_news(struct worker *w)
{
    const uint64_t one = 1;

    if (write(w->news_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN); /* The count is full: it is readable. */
}

void worker_news_post(struct worker *w, enum worker_news_kind kind, struct app_session *s, const char *text)
{
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
    ring_news(w);
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

void worker_look_at_addresses(struct worker *w)
{
    uint32_t changes = engine_addr_changes(w->engine);

    if (changes == w->addr_changes)
        return;
    w->addr_changes = changes;
    __atomic_store_n(&w->addresses_changed, true, __ATOMIC_RELEASE);
    ring_news(w);
}

bool worker_addresses_changed(struct worker *w)
{
    return __atomic_exchange_n(&w->addresses_changed, false, __ATOMIC_ACQ_REL);
}

int worker_news_fd(const struct worker *w)
{
    return w->news_fd;
}

/* Nothing is read or sent any more. */
static void stop_ports(struct worker *w)
{
    for (unsigned i = 0; i < w->port_count; i++) {
        if (w->ports[i].watch >= 0) /* A dead descriptor may be readable for ever. */
            loop_remove(&w->loop, w->ports[i].watch);
        w->ports[i].watch = -1;
    }
    w->failed = true;
}

void worker_fail(struct worker *w, const char *what, int error)
{
    char text[WORKER_NOTICE_MAX];

    (void)snprintf(text, sizeof(text), "%s: %s", what, strerror(-error));
    stop_ports(w);
    worker_news_post(w, WORKER_NEWS_FAILED, NULL, text);
}

void worker_port_fail(struct worker *w, unsigned port, const char *what, int error)
{
    const struct engine_link down = {.up = false};
    struct port *p = &w->ports[port];
    char text[WORKER_NOTICE_MAX];

    p->failed = true;
    p->tx_full = false;
    if (p->watch >= 0)
        loop_remove(&w->loop, p->watch);
    p->watch = -1;
    engine_link(w->engine, (uint8_t)port, &down, w->now_us);
    (void)snprintf(text, sizeof(text), "%s: %s: %s", p->name, what, strerror(-error));
    if (--w->ports_left) {
        worker_news_post(w, WORKER_NEWS_DEVICE, NULL, text);
        return;
    }
    stop_ports(w);
    worker_news_post(w, WORKER_NEWS_FAILED, NULL, text);
}

/* ---- Sleep and calls ----------------------------------------------------------------------------------- */

/* The longest sleep that the devices allow; 0: one has frames. */
static uint64_t ports_sleep_us(struct worker *w)
{
    uint64_t us = UINT64_MAX;

    /* What is pending had its turn and could not: whatever holds it back, look again soon. */
    if (engine_tx_pending(w->engine))
        us = WORKER_TX_RETRY_US;
    for (unsigned i = 0; i < w->port_count; i++) {
        struct port *p = &w->ports[i];

        if (p->failed || !p->device)
            continue;
        if (p->device->ops->rx_pending(p->device))
            return 0;
        if (p->tx_full && us > WORKER_TX_RETRY_US)
            us = WORKER_TX_RETRY_US;
        if (p->device->ops->wait_fd(p->device) < 0 && us > w->nap_us)
            us = w->nap_us;
    }
    return us;
}

static bool any_full(const struct worker *w)
{
    for (unsigned i = 0; i < w->port_count; i++)
        if (w->ports[i].tx_full)
            return true;
    return false;
}

/* The longest sleep that misses nothing, looked up after the sleep words are set; 0: do not sleep. */
static uint64_t sleep_us(struct worker *w)
{
    uint64_t deadline = engine_deadline(w->engine), now, us, ports_us = ports_sleep_us(w);

    if (__atomic_load_n(&w->mail, __ATOMIC_ACQUIRE) || !ports_us)
        return 0;
    if (w->cluster && cluster_pending(w->cluster, w->index)) {
        if (!any_full(w))
            return 0;
        ports_us = ports_us < WORKER_TX_RETRY_US ? ports_us : WORKER_TX_RETRY_US;
    }
    for (unsigned i = 0; i < w->active_count; i++) {
        for (uint32_t c = 0; c < w->active[i]->channel_count; c++) {
            switch (channel_look(&w->active[i]->parts[w->index].channels[c])) {
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
    if (us > ports_us)
        us = ports_us;
    if (w->blocked && us > w->blocked_us)
        us = w->blocked_us;
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
        if (w->nap_us < w->cfg->poll_us * WORKER_NAP_GROWTH)
            w->nap_us *= 2;
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
            work = worker_turn(w);
        work += answer_call(w);
        if (work) {
            looks = 0;
            w->nap_us = w->cfg->poll_us;
            if (!w->blocked)
                w->blocked_us = WORKER_BLOCKED_US_MIN;
            continue;
        }
        if (!looks++)
            idle_since_us = w->now_us;
        /* A sleep that brought nothing is followed by the next at once. */
        if (!w->failed && w->nap_us == w->cfg->poll_us && w->now_us - idle_since_us < w->cfg->spin_us) {
            idle_look(looks);
            continue;
        }
        sleep_until_work(w);
        looks = 0;
    }
}

/* Where worker.cpus says. One that we may not have (a container's, say) leaves the thread where it is. */
static void place(struct worker *w)
{
    int cpu = config_cpu(w->cfg->cpus, w->index);
    char text[WORKER_NOTICE_MAX];
    cpu_set_t set;
    int rc;

    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    rc = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    if (!rc)
        return;
    (void)snprintf(text, sizeof(text), "worker.cpus: worker %u can't run on CPU %d (%s); it runs anywhere",
                   w->index, cpu, strerror(rc));
    worker_news_post(w, WORKER_NEWS_NOTICE, NULL, text);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    /* The ring serves one thread, so it is made on it. One doorbell and its channels for each session. */
    int rc = loop_open(&w->loop, w->cfg->engine.session_max * (1 + w->cfg->channels) + 1 + w->port_count);

    char name[16];

    (void)snprintf(name, sizeof(name), "worker%u", w->index);
    (void)pthread_setname_np(pthread_self(), name);
    place(w);
    w->start_result = rc;
    if (!rc) {
        (void)loop_add(&w->loop, w->mail_fd, LOOP_BELL);
        for (unsigned i = 0; i < w->port_count; i++) {
            struct device *dev = w->ports[i].device;
            int fd = dev ? dev->ops->wait_fd(dev) : -1;

            w->ports[i].watch = fd >= 0 ? loop_add(&w->loop, fd, LOOP_LEVEL) : -1;
        }
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
    w->index = p->index;
    w->cluster = p->cluster;
    w->engine = p->engine;
    w->port_count = w->ports_left = p->port_count;
    for (unsigned i = 0; i < p->port_count; i++)
        w->ports[i] = (struct port){
            .device = p->ports[i].device, .name = p->ports[i].name, .link = p->ports[i].link, .watch = -1};
    w->status = p->status;
    w->blocked_us = WORKER_BLOCKED_US_MIN;
    w->nap_us = p->cfg->poll_us;
    w->addr_changes = engine_addr_changes(p->engine);
    w->addresses_changed = true; /* The control thread has seen none yet. */
    w->news_max = NEWS_PER_SESSION * sessions + NOTICES_MAX + 1 + ENGINE_DEV_MAX;
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
    if (w->cluster)
        cluster_join(w->cluster, w->index, &w->asleep, w->mail_fd);
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

int worker_link(struct worker *w, void *arg)
{
    const struct worker_link *l = arg;
    const struct engine_link e = {.up = l->link.up, .mtu = l->link.mtu};
    struct port *p = &w->ports[l->port];

    if (p->failed || (p->link.up == l->link.up && p->link.mtu == l->link.mtu))
        return 0;
    p->link = l->link;
    engine_link(w->engine, (uint8_t)l->port, &e, w->now_us);
    return 1;
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

const struct cluster_counters *worker_cluster_counters(const struct worker *w)
{
    static const struct cluster_counters none;

    return w->cluster ? cluster_counters(w->cluster, w->index) : &none;
}

unsigned worker_index(const struct worker *w)
{
    return w->index;
}

int worker_session_number(const struct worker *w, const struct app_session *s)
{
    int sid = s->parts[w->index].sid;

    /* Its memory may be on the way back to the control thread, and its number another's. */
    return worker_session(w, sid) == s ? sid : -1;
}

bool worker_device_stats(const struct worker *w, unsigned i, struct device_stats *ret)
{
    if (i >= w->port_count)
        return false;
    memset(ret, 0, sizeof(*ret));
    if (w->ports[i].device)
        w->ports[i].device->ops->stats(w->ports[i].device, ret);
    return true;
}

bool worker_device_failed(const struct worker *w, unsigned i)
{
    return w->ports[i].failed;
}

uint64_t worker_now_us(const struct worker *w)
{
    return w->now_us;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admin queries. Each page is collected by one call on each worker's thread, bounded so that the turn stays
 * short, and turned into messages here. Long lists go through the workers one after another: which one it is
 * stands in the high bits of the cursor.
 */
#include "daemon/control_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"

#define SOCKETS_PAGE   64u  /* at most 600 bytes each */
#define SESSIONS_PAGE  64u  /* at most 120 bytes each */
#define NEIGHBORS_PAGE 128u /* at most 60 bytes each */
#define COUNTERS_MAX   512u /* at most 80 bytes each */
#define CURSOR_WORKER  56   /* bits of a cursor below the worker's number */
#define ADDRESSES_MAX  64u  /* at most 60 bytes each; more than the engine has */

static_assert(SOCKETS_PAGE * 600 < CONTROL_PACKET_MAX, "a page fits a packet");
static_assert(COUNTERS_MAX * 80 < CONTROL_PACKET_MAX, "all counters fit a packet");

struct socket_entry {
    struct engine_sock_info info;
    int32_t session, pid;
    char program[SESSION_PROGRAM_MAX];
};

struct device_page {
    struct {
        struct engine_if_info info; /* of its untagged interface */
        struct device_stats stats;
        bool failed;
    } v[ENGINE_DEV_MAX];
    unsigned address_count;
    struct engine_addr_info addresses[ADDRESSES_MAX];
    struct engine_if_info on[ADDRESSES_MAX]; /* the interface of each */
};

/* One answer with all that it points to. */
struct admin_page {
    uint64_t cursor;
    unsigned count;
    union {
        struct socket_entry sockets[SOCKETS_PAGE];
        struct engine_neigh_info neighbors[NEIGHBORS_PAGE];
        struct {
            const struct app_session *session;
            struct engine_session_use use;
            bool attached;
        } sessions[SESSIONS_PAGE];
        struct {
            const char *name;
            uint64_t value;
        } counters[COUNTERS_MAX];
        struct device_page devices;
    };
    union {
        Sockgate__Socket socket[SOCKETS_PAGE];
        Sockgate__Neighbor neighbor[NEIGHBORS_PAGE];
        Sockgate__Session session[SESSIONS_PAGE];
        Sockgate__Counter counter[COUNTERS_MAX];
        struct {
            Sockgate__Device device[ENGINE_DEV_MAX];
            Sockgate__Address address[ADDRESSES_MAX];
            Sockgate__Address *addresses[ENGINE_DEV_MAX][ADDRESSES_MAX];
        } devices;
    } message;
    char kinds[128];
    char specs[ENGINE_DEV_MAX * (CONFIG_TEXT_MAX + 2)];
    void *list[COUNTERS_MAX]; /* of pointers to messages, as protobuf-c wants repeated fields */
    union {
        Sockgate__SocketsResponse sockets;
        Sockgate__NeighborsResponse neighbors;
        Sockgate__SessionsResponse sessions;
        Sockgate__StatsResponse stats;
        Sockgate__DevicesResponse devices;
        Sockgate__VersionResponse version;
    } response;
};

void control_admin_free(struct admin_page *page)
{
    free(page);
}

/* protobuf-c has no const strings; it only reads them when packing. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static ProtobufCBinaryData address(const struct ip_addr *a)
{
    size_t bytes = a->family == SG_AF_INET ? 4 : a->family == SG_AF_INET6 ? 16 : 0;

    return (ProtobufCBinaryData){.len = bytes, .data = (uint8_t *)(uintptr_t)a->ip};
}

/* ---- On the worker's thread ------------------------------------------------------------------------ */

static int collect_sockets(struct worker *w, void *arg)
{
    struct admin_page *page = arg;

    while (page->count < SOCKETS_PAGE) {
        struct socket_entry *s = &page->sockets[page->count];
        const struct app_session *owner;

        if (!engine_sock_next(worker_engine(w), &page->cursor, worker_now_us(w), &s->info)) {
            page->cursor = 0;
            return 0;
        }
        owner = worker_session(w, s->info.sid);
        s->session = owner ? (int32_t)owner->id : -1;
        s->pid = owner ? (int32_t)owner->owner.pid : 0;
        if (owner)
            memcpy(s->program, owner->owner.program, sizeof(s->program));
        page->count++;
    }
    return 0;
}

static int collect_neighbors(struct worker *w, void *arg)
{
    struct admin_page *page = arg;

    for (; page->count < NEIGHBORS_PAGE; page->count++) {
        if (!engine_neigh_next(worker_engine(w), &page->cursor, worker_now_us(w),
                               &page->neighbors[page->count])) {
            page->cursor = 0;
            return 0;
        }
    }
    return 0;
}

static int collect_session_use(struct worker *w, void *arg)
{
    struct admin_page *page = arg;

    for (unsigned i = 0; i < page->count; i++) {
        const struct app_session *s = page->sessions[i].session;
        struct engine_session_use *sum = &page->sessions[i].use, use;
        int sid = worker_session_number(w, s);

        if (sid < 0)
            continue;
        engine_session_use(worker_engine(w), sid, &use);
        sum->sockets += use.sockets;
        sum->orphans += use.orphans;
        sum->buffer_bytes += use.buffer_bytes;
    }
    return 0;
}

/* Each worker adds its own, all in the same order. */
static void add_counter(struct admin_page *page, const char *name, uint64_t value)
{
    if (page->count == COUNTERS_MAX)
        return;
    page->counters[page->count].name = name;
    page->counters[page->count++].value += value;
}

static void sum_stats(struct device_stats *to, const struct device_stats *one)
{
    to->rx_frames += one->rx_frames;
    to->rx_bytes += one->rx_bytes;
    to->rx_errors += one->rx_errors;
    to->tx_frames += one->tx_frames;
    to->tx_bytes += one->tx_bytes;
    to->tx_errors += one->tx_errors;
    to->tx_full += one->tx_full;
}

static int collect_devices(struct worker *w, void *arg)
{
    struct admin_page *page = arg;
    struct device_page *d = &page->devices;
    const struct engine *e = worker_engine(w);
    struct engine_addr_info a;
    struct device_stats one;

    /* The untagged interfaces come first, in the order of the devices. */
    for (page->count = 0; worker_device_stats(w, page->count, &one); page->count++) {
        sum_stats(&d->v[page->count].stats, &one);
        d->v[page->count].failed |= worker_device_failed(w, page->count);
        (void)engine_if_info(e, page->count, &d->v[page->count].info);
    }
    if (d->address_count) /* They are the same for all. */
        return 0;
    while (d->address_count < ADDRESSES_MAX && engine_addr_next(e, &page->cursor, &a)) {
        (void)engine_if_info(e, a.ifindex, &d->on[d->address_count]);
        d->addresses[d->address_count++] = a;
    }
    return 0;
}

static int collect_counters(struct worker *w, void *arg)
{
    struct admin_page *page = arg;
    const struct worker_counters *c = worker_counters(w);
    const struct cluster_counters *k = worker_cluster_counters(w);
    struct device_stats d = {0}, one;
    const char *name;
    uint64_t value;

    page->count = 0;
    for (unsigned i = 0; engine_counter(worker_engine(w), i, &name, &value); i++)
        add_counter(page, name, value);
    for (unsigned i = 0; worker_device_stats(w, i, &one); i++)
        sum_stats(&d, &one);
    add_counter(page, "dev.rx_frames", d.rx_frames);
    add_counter(page, "dev.rx_bytes", d.rx_bytes);
    add_counter(page, "dev.rx_errors", d.rx_errors);
    add_counter(page, "dev.tx_frames", d.tx_frames);
    add_counter(page, "dev.tx_bytes", d.tx_bytes);
    add_counter(page, "dev.tx_errors", d.tx_errors);
    add_counter(page, "dev.tx_full", d.tx_full);
    add_counter(page, "worker.turns", c->turns);
    add_counter(page, "worker.sleeps", c->sleeps);
    add_counter(page, "worker.rx_bursts", c->rx_bursts);
    add_counter(page, "worker.tx_bursts", c->tx_bursts);
    add_counter(page, "worker.tx_full", c->tx_full);
    add_counter(page, "worker.kicks", c->kicks);
    add_counter(page, "worker.commands", c->commands);
    add_counter(page, "worker.events", c->events);
    add_counter(page, "worker.events_deferred", c->events_deferred);
    add_counter(page, "worker.wakes_futex", c->wakes_futex);
    add_counter(page, "worker.wakes_eventfd", c->wakes_eventfd);
    add_counter(page, "worker.calls", c->calls);
    add_counter(page, "worker.handed_on", k->handed_on);
    add_counter(page, "worker.handed_over", k->handed_over);
    add_counter(page, "worker.handoff_full", k->handoff_full);
    add_counter(page, "session.added", worker_index(w) ? 0 : c->sessions_added);
    add_counter(page, "session.ended", worker_index(w) ? 0 : c->sessions_ended);
    add_counter(page, "session.faulted", c->sessions_faulted);
    return 0;
}

/* ---- Messages ---------------------------------------------------------------------------------------- */

static void fill_socket(Sockgate__Socket *m, struct socket_entry *s)
{
    const struct engine_sock_info *i = &s->info;

    sockgate__socket__init(m);
    m->kind = text(i->kind == ENGINE_SOCK_UDP ? "udp" : i->kind == ENGINE_SOCK_RAW ? "raw" : "tcp");
    m->state = text(i->state);
    m->local_addr = address(&i->local.addr);
    m->local_port = i->local.port;
    m->remote_addr = address(&i->remote.addr);
    m->remote_port = i->remote.port;
    m->rx_queue = i->rx_queue;
    m->tx_queue = i->tx_queue;
    m->session = s->session;
    m->slot = i->slot;
    m->pid = s->pid;
    m->program = s->program;
    m->srtt_us = i->srtt_us;
    m->rttvar_us = i->rttvar_us;
    m->rto_us = i->rto_us;
    m->cwnd_bytes = i->cwnd_bytes;
    m->ssthresh_bytes = i->ssthresh_bytes;
    m->mss = i->mss;
    m->snd_wnd = i->snd_wnd;
    m->rcv_wnd = i->rcv_wnd;
    m->retransmits = i->retransmits;
    m->backoff = i->backoff;
    m->bytes_sent = i->bytes_sent;
    m->bytes_acked = i->bytes_acked;
    m->bytes_received = i->bytes_received;
    m->segs_in = i->segs_in;
    m->segs_out = i->segs_out;
    m->cc = text(i->cc);
    m->timer = text(i->timer);
    m->timer_us = i->timer_us;
    if (i->kind == ENGINE_SOCK_TCP)
        m->tcp_info = (ProtobufCBinaryData){.len = sizeof(i->tcp), .data = (uint8_t *)&s->info.tcp};
}

/* A page of a list that each worker has its own part of. */
static void collect_list(struct control *c, int (*fn)(struct worker *w, void *arg), struct admin_page *p)
{
    uint64_t w = p->cursor >> CURSOR_WORKER;

    if (w >= c->p.cfg->workers) { /* No cursor of ours. */
        p->cursor = 0;
        return;
    }
    p->cursor &= (UINT64_C(1) << CURSOR_WORKER) - 1;
    (void)worker_call(c->p.workers[w], fn, p);
    if (!p->cursor && ++w == c->p.cfg->workers)
        return;
    p->cursor |= w << CURSOR_WORKER;
}

static void answer_sockets(struct control *c, struct admin_page *p, Sockgate__Response *res)
{
    collect_list(c, collect_sockets, p);
    for (unsigned i = 0; i < p->count; i++) {
        fill_socket(&p->message.socket[i], &p->sockets[i]);
        p->list[i] = &p->message.socket[i];
    }
    sockgate__sockets_response__init(&p->response.sockets);
    p->response.sockets.n_sockets = p->count;
    p->response.sockets.sockets = (Sockgate__Socket **)p->list;
    p->response.sockets.cursor = p->cursor;
    res->body_case = SOCKGATE__RESPONSE__BODY_SOCKETS;
    res->sockets = &p->response.sockets;
}

static void answer_neighbors(struct control *c, struct admin_page *p, Sockgate__Response *res)
{
    collect_list(c, collect_neighbors, p);
    for (unsigned i = 0; i < p->count; i++) {
        Sockgate__Neighbor *m = &p->message.neighbor[i];

        sockgate__neighbor__init(m);
        m->addr = address(&p->neighbors[i].addr);
        m->mac = (ProtobufCBinaryData){.len = 6, .data = p->neighbors[i].mac};
        m->state = text(p->neighbors[i].state);
        m->age_us = p->neighbors[i].age_us;
        p->list[i] = m;
    }
    sockgate__neighbors_response__init(&p->response.neighbors);
    p->response.neighbors.n_neighbors = p->count;
    p->response.neighbors.neighbors = (Sockgate__Neighbor **)p->list;
    p->response.neighbors.cursor = p->cursor;
    res->body_case = SOCKGATE__RESPONSE__BODY_NEIGHBORS;
    res->neighbors = &p->response.neighbors;
}

/* Sessions are listed newest first, so "the next page" is what is older than the last number given. */
static void answer_sessions(struct control *c, struct admin_page *p, Sockgate__Response *res)
{
    uint64_t before = p->cursor ? p->cursor : UINT64_MAX, now_us = clock_now_us();
    const struct app_session *s;

    p->cursor = 0;
    for (s = c->sessions; s; s = s->next) {
        if (s->id >= before)
            continue;
        if (p->count == SESSIONS_PAGE) {
            p->cursor = p->sessions[p->count - 1].session->id;
            break;
        }
        p->sessions[p->count].session = s;
        p->sessions[p->count++].attached = s->client != NULL;
    }
    control_each_worker(c, collect_session_use, p);
    for (unsigned i = 0; i < p->count; i++) {
        Sockgate__Session *m = &p->message.session[i];

        s = p->sessions[i].session;
        sockgate__session__init(m);
        m->id = s->id;
        m->pid = (int32_t)s->owner.pid;
        m->uid = s->owner.uid;
        m->gid = s->owner.gid;
        m->program = text(s->owner.program);
        m->sockets = p->sessions[i].use.sockets;
        m->orphans = p->sessions[i].use.orphans;
        m->buffer_bytes = p->sessions[i].use.buffer_bytes;
        m->age_us = now_us - s->created_us;
        m->state = text(p->sessions[i].attached ? "attached" : "draining");
        p->list[i] = m;
    }
    sockgate__sessions_response__init(&p->response.sessions);
    p->response.sessions.n_sessions = p->count;
    p->response.sessions.sessions = (Sockgate__Session **)p->list;
    p->response.sessions.cursor = p->cursor;
    res->body_case = SOCKGATE__RESPONSE__BODY_SESSIONS;
    res->sessions = &p->response.sessions;
}

static void fill_device(const struct control *c, struct admin_page *p, unsigned i)
{
    const struct device_stats *s = &p->devices.v[i].stats;
    Sockgate__Device *m = &p->message.devices.device[i];

    sockgate__device__init(m);
    m->name = text(c->p.cfg->devices.v[i].name);
    m->spec = text(c->p.cfg->devices.v[i].spec);
    m->state = text(p->devices.v[i].failed ? "failed" : p->devices.v[i].info.up ? "up" : "down");
    m->mtu = p->devices.v[i].info.mtu;
    m->mac = (ProtobufCBinaryData){.len = 6, .data = p->devices.v[i].info.mac};
    m->rx_frames = s->rx_frames;
    m->rx_bytes = s->rx_bytes;
    m->rx_errors = s->rx_errors;
    m->tx_frames = s->tx_frames;
    m->tx_bytes = s->tx_bytes;
    m->tx_errors = s->tx_errors;
    m->tx_full = s->tx_full;
    m->addresses = p->message.devices.addresses[i];
}

static void answer_devices(struct control *c, struct admin_page *p, Sockgate__Response *res)
{
    control_each_worker(c, collect_devices, p);
    for (unsigned i = 0; i < p->count; i++) {
        fill_device(c, p, i);
        p->list[i] = &p->message.devices.device[i];
    }
    for (unsigned i = 0; i < p->devices.address_count; i++) {
        const struct engine_addr_info *a = &p->devices.addresses[i];
        Sockgate__Address *m = &p->message.devices.address[i];
        Sockgate__Device *d = &p->message.devices.device[p->devices.on[i].dev];

        sockgate__address__init(m);
        m->addr = address(&a->addr);
        m->prefix = a->prefix;
        m->vlan = p->devices.on[i].vlan;
        m->state = text(a->state);
        d->addresses[d->n_addresses++] = m;
    }
    sockgate__devices_response__init(&p->response.devices);
    p->response.devices.n_devices = p->count;
    p->response.devices.devices = (Sockgate__Device **)p->list;
    res->body_case = SOCKGATE__RESPONSE__BODY_DEVICES;
    res->devices = &p->response.devices;
}

static void answer_stats(struct control *c, uint32_t worker, struct admin_page *p, Sockgate__Response *res)
{
    if (worker)
        (void)worker_call(c->p.workers[worker - 1], collect_counters, p);
    else
        control_each_worker(c, collect_counters, p);
    add_counter(p, "session.now", c->session_count);
    add_counter(p, "control.clients", c->client_count);
    for (unsigned i = 0; i < p->count; i++) {
        Sockgate__Counter *m = &p->message.counter[i];

        sockgate__counter__init(m);
        m->name = text(p->counters[i].name);
        m->value = p->counters[i].value;
        p->list[i] = m;
    }
    sockgate__stats_response__init(&p->response.stats);
    p->response.stats.n_counters = p->count;
    p->response.stats.counters = (Sockgate__Counter **)p->list;
    res->body_case = SOCKGATE__RESPONSE__BODY_STATS;
    res->stats = &p->response.stats;
}

static void answer_version(struct control *c, struct admin_page *p, Sockgate__Response *res)
{
    Sockgate__VersionResponse *m = &p->response.version;

    sockgate__version_response__init(m);
    m->release = text(SOCKGATE_VERSION);
    m->abi_version = SG_ABI_VERSION;
    config_device_specs(c->p.cfg, p->specs, sizeof(p->specs));
    m->device = p->specs;
    m->uptime_us = clock_now_us() - c->started_us;
    (void)snprintf(p->kinds, sizeof(p->kinds), "devices %s", device_kinds());
    p->list[m->n_build++] = p->kinds;
#if !defined(NDEBUG)
    p->list[m->n_build++] = text("assertions");
#endif
#if defined(__SANITIZE_ADDRESS__)
    p->list[m->n_build++] = text("address sanitizer");
#endif
#if defined(__SANITIZE_THREAD__)
    p->list[m->n_build++] = text("thread sanitizer");
#endif
    m->build = (char **)p->list;
    res->body_case = SOCKGATE__RESPONSE__BODY_VERSION;
    res->version = m;
}

int control_admin(struct control *c, const Sockgate__Request *req, Sockgate__Response *res,
                  struct admin_page **ret)
{
    struct admin_page *page = calloc(1, sizeof(*page));

    *ret = page;
    if (!page)
        return -ENOMEM;
    switch (req->body_case) {
    case SOCKGATE__REQUEST__BODY_SOCKETS:
        page->cursor = req->sockets->cursor;
        answer_sockets(c, page, res);
        return 0;
    case SOCKGATE__REQUEST__BODY_STATS:
        if (req->stats->worker > c->p.cfg->workers)
            return -ENOENT;
        answer_stats(c, req->stats->worker, page, res);
        return 0;
    case SOCKGATE__REQUEST__BODY_SESSIONS:
        page->cursor = req->sessions->cursor;
        answer_sessions(c, page, res);
        return 0;
    case SOCKGATE__REQUEST__BODY_NEIGHBORS:
        page->cursor = req->neighbors->cursor;
        answer_neighbors(c, page, res);
        return 0;
    case SOCKGATE__REQUEST__BODY_DEVICES:
        answer_devices(c, page, res);
        return 0;
    case SOCKGATE__REQUEST__BODY_VERSION:
        answer_version(c, page, res);
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

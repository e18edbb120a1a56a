/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/load.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define OPENING_MAX   64u /* handshakes under way while connections are opened */
#define OPEN_US       500000
#define OPEN_LIMIT_NS UINT64_C(120000000000)
#define UNDER_WAY_MAX 64u /* open loop: requests of one connection */
#define BUFFER_BYTES  (256u << 10)
#define WAIT_US       20000
#define ERRORS_MAX    1000u
#define NS_PER_S      1e9

enum phase { WARM, MEASURE, DONE };

struct load {
    struct net *net;
    const struct load_options *o;
    struct load_result *r;
    struct conn *conns;
    unsigned count; /* active ones; the idle ones lie behind them */
    unsigned opened;
    uint8_t *buffer;
    enum phase phase;
    uint64_t phase_ns; /* when it began */
    double cpu_start_s;
    uint64_t next_ns; /* open loop: when the next request leaves */
    unsigned turn;    /* open loop: whose it is */
    uint64_t random;
};

static double cpu_s(void)
{
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* From warming up to measuring to the end, by the clock. */
static void step(struct load *l, uint64_t now_ns)
{
    double passed_s = (double)(now_ns - l->phase_ns) / NS_PER_S;

    if (l->phase == WARM && passed_s >= l->o->warm_s) {
        l->phase = MEASURE;
        l->phase_ns = now_ns;
        l->cpu_start_s = cpu_s();
    } else if (l->phase == MEASURE && passed_s >= l->o->seconds) {
        l->phase = DONE;
        l->r->seconds = passed_s;
        l->r->cpu_seconds = cpu_s() - l->cpu_start_s;
    }
}

/* ---- Connections ---------------------------------------------------------------------------------- */

static int begin(struct load *l, struct conn *c)
{
    uint16_t port = (uint16_t)(l->o->port + (unsigned)(c - l->conns) % l->o->ports);
    int rc;

    c->established = false;
    c->got = c->put = 0;
    c->since_ns = net_now_ns();
    rc = l->net->ops->connect(l->net, l->o->to, port, c);
    c->open = rc == 0;
    return rc;
}

static int look_opened(struct load *l, struct conn *c)
{
    int rc;

    if (c->established)
        return 0;
    rc = l->net->ops->connected(l->net, c);
    if (rc)
        return rc == -EAGAIN ? 0 : rc;
    c->established = true;
    l->opened++;
    return 0;
}

static int open_all(struct load *l, unsigned total)
{
    uint64_t limit = net_now_ns() + OPEN_LIMIT_NS;
    struct conn *ready[NET_READY_MAX];
    unsigned begun = 0;
    int rc = 0;

    while (l->opened < total && !rc) {
        int n;

        for (; begun < total && begun - l->opened < OPENING_MAX && !rc; begun++)
            rc = begin(l, &l->conns[begun]);
        if (rc)
            break;
        n = l->net->ops->wait(l->net, OPEN_US, ready);
        rc = n < 0 ? n : 0;
        for (int i = 0; i < n && !rc; i++)
            rc = look_opened(l, ready[i]);
        if (net_now_ns() > limit)
            rc = -ETIMEDOUT;
    }
    return rc;
}

static void close_all(struct load *l, unsigned total)
{
    for (unsigned i = 0; i < total; i++)
        if (l->conns[i].open)
            l->net->ops->close(l->net, &l->conns[i]);
}

/* ---- Messages ------------------------------------------------------------------------------------- */

/* Put out what is left of a message. 0, also when that has to wait, or an error. */
static int push(struct load *l, struct conn *c, uint64_t total)
{
    while (c->put < total) {
        uint64_t left = total - c->put;
        ssize_t n = l->net->ops->send(l->net, c, l->buffer, left < BUFFER_BYTES ? left : BUFFER_BYTES);

        if (n < 0)
            return n == -EAGAIN ? 0 : (int)n;
        c->put += (uint64_t)n;
    }
    return 0;
}

/* 1: the answer is complete; 0: not yet. */
static int pull(struct load *l, struct conn *c)
{
    while (c->got < l->o->bytes) {
        uint64_t left = l->o->bytes - c->got;
        ssize_t n = l->net->ops->recv(l->net, c, l->buffer, left < BUFFER_BYTES ? left : BUFFER_BYTES);

        if (n <= 0)
            return n == -EAGAIN ? 0 : n ? (int)n : -EPIPE;
        c->got += (uint64_t)n;
    }
    return 1;
}

static void count(struct load *l, uint64_t since_ns, uint64_t now_ns)
{
    if (l->phase != MEASURE)
        return;
    l->r->count++;
    l->r->bytes += l->o->bytes;
    hist_add(&l->r->latency, now_ns - since_ns);
}

/* ---- Closed loop ---------------------------------------------------------------------------------- */

static int request(struct load *l, struct conn *c, uint64_t now_ns)
{
    c->got = c->put = 0;
    c->since_ns = now_ns;
    return push(l, c, l->o->bytes);
}

static int ready_closed(struct load *l, struct conn *c)
{
    int rc = push(l, c, l->o->bytes);
    uint64_t now_ns;

    if (!rc)
        rc = pull(l, c);
    if (rc <= 0)
        return rc;
    now_ns = net_now_ns();
    count(l, c->since_ns, now_ns);
    return request(l, c, now_ns);
}

static int start_closed(struct load *l)
{
    int rc = 0;

    for (unsigned i = 0; i < l->count && !rc; i++)
        rc = request(l, &l->conns[i], net_now_ns());
    return rc;
}

/* ---- Open loop ------------------------------------------------------------------------------------ */

/* Evenly distributed over (0, 1]: xorshift64. */
static double chance(struct load *l)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return (double)((l->random >> 11) + 1) / (double)(UINT64_C(1) << 53);
}

static int due(struct load *l)
{
    struct conn *c = &l->conns[l->turn];
    int rc = 0;

    l->turn = (l->turn + 1) % l->count;
    if (c->due_count == UNDER_WAY_MAX) {
        l->r->unsent += l->phase == MEASURE;
    } else {
        c->due[(c->due_head + c->due_count++) % UNDER_WAY_MAX] = l->next_ns;
        /* `put` counts down what has to leave: after a full ring it is more than one message. */
        c->put += l->o->bytes;
        while (c->put && !rc) {
            ssize_t n =
                l->net->ops->send(l->net, c, l->buffer, c->put < BUFFER_BYTES ? c->put : BUFFER_BYTES);

            if (n < 0)
                return n == -EAGAIN ? 0 : (int)n;
            c->put -= (uint64_t)n;
        }
    }
    return rc;
}

static int tick_open(struct load *l, uint64_t now_ns)
{
    int rc = 0;

    while (l->next_ns <= now_ns && !rc) {
        rc = due(l);
        l->next_ns += (uint64_t)(-log(chance(l)) * NS_PER_S / l->o->rate) + 1;
    }
    return rc;
}

static int ready_open(struct load *l, struct conn *c)
{
    uint64_t now_ns;
    ssize_t n;

    while (c->put) {
        n = l->net->ops->send(l->net, c, l->buffer, c->put < BUFFER_BYTES ? c->put : BUFFER_BYTES);
        if (n < 0)
            break;
        c->put -= (uint64_t)n;
    }
    n = l->net->ops->recv(l->net, c, l->buffer, BUFFER_BYTES);
    if (n <= 0)
        return n == -EAGAIN ? 0 : n ? (int)n : -EPIPE;
    now_ns = net_now_ns();
    for (c->got += (uint64_t)n; c->got >= l->o->bytes && c->due_count; c->got -= l->o->bytes) {
        count(l, c->due[c->due_head], now_ns);
        c->due_head = (c->due_head + 1) % UNDER_WAY_MAX;
        c->due_count--;
    }
    return 0;
}

static int start_open(struct load *l)
{
    l->next_ns = net_now_ns();
    l->random = l->next_ns | 1;
    for (unsigned i = 0; i < l->count; i++) {
        l->conns[i].due = calloc(UNDER_WAY_MAX, sizeof(uint64_t));
        if (!l->conns[i].due)
            return -ENOMEM;
    }
    return 0;
}

/* ---- Connect, request/response, close ------------------------------------------------------------- */

static int again(struct load *l, struct conn *c)
{
    if (c->open)
        l->net->ops->close(l->net, c);
    return begin(l, c);
}

static int ready_crr(struct load *l, struct conn *c)
{
    int rc = look_opened(l, c);

    if (!rc && !c->established)
        return 0;
    if (!rc)
        rc = push(l, c, l->o->bytes);
    if (!rc)
        rc = pull(l, c);
    if (rc < 0 && l->r->errors++ > ERRORS_MAX)
        return rc;
    if (rc == 1)
        count(l, c->since_ns, net_now_ns());
    return rc ? again(l, c) : 0;
}

static int start_crr(struct load *l)
{
    int rc = 0;

    for (unsigned i = 0; i < l->count && !rc; i++)
        rc = begin(l, &l->conns[i]);
    return rc;
}

/* ---- Bulk ----------------------------------------------------------------------------------------- */

static int ready_send(struct load *l, struct conn *c)
{
    ssize_t n;

    /* The clock is looked at here too: a fast peer would keep us in this loop for ever. */
    while (l->phase != DONE && (n = l->net->ops->send(l->net, c, l->buffer, BUFFER_BYTES)) != -EAGAIN) {
        if (n < 0)
            return (int)n;
        if (l->phase == MEASURE)
            l->r->bytes += (uint64_t)n;
        step(l, net_now_ns());
    }
    return 0;
}

static int ready_receive(struct load *l, struct conn *c)
{
    ssize_t n;

    while (l->phase != DONE && (n = l->net->ops->recv(l->net, c, l->buffer, BUFFER_BYTES)) != -EAGAIN) {
        if (n <= 0)
            return n ? (int)n : -EPIPE;
        if (l->phase == MEASURE)
            l->r->bytes += (uint64_t)n;
        step(l, net_now_ns());
    }
    return 0;
}

static int start_send(struct load *l)
{
    int rc = 0;

    for (unsigned i = 0; i < l->count && !rc; i++)
        rc = ready_send(l, &l->conns[i]);
    return rc;
}

/* What came while the connections were opened is no change any more. */
static int start_receive(struct load *l)
{
    int rc = 0;

    for (unsigned i = 0; i < l->count && !rc; i++)
        rc = ready_receive(l, &l->conns[i]);
    return rc;
}

/* ---- The run -------------------------------------------------------------------------------------- */

static const struct mode {
    bool opens; /* connections are there before it starts */
    int (*start)(struct load *);
    int (*ready)(struct load *, struct conn *);
} modes[] = {
    [LOAD_RR] = {true, start_closed, ready_closed},
    [LOAD_CRR] = {false, start_crr, ready_crr},
    [LOAD_SEND] = {true, start_send, ready_send},
    [LOAD_RECEIVE] = {true, start_receive, ready_receive},
};

static int drive(struct load *l, const struct mode *mode, bool open_loop)
{
    struct conn *ready[NET_READY_MAX];
    int rc = mode->start(l);

    l->phase_ns = net_now_ns();
    while (!rc && l->phase != DONE) {
        /* The open loop polls: a sleep would make its requests late. */
        int n = l->net->ops->wait(l->net, open_loop ? 0 : WAIT_US, ready);

        rc = n < 0 ? n : 0;
        for (int i = 0; i < n && !rc; i++)
            rc = open_loop ? ready_open(l, ready[i]) : mode->ready(l, ready[i]);
        step(l, net_now_ns());
        if (open_loop && !rc)
            rc = tick_open(l, net_now_ns());
    }
    return rc;
}

bool load_pause(struct net *net, int *rc)
{
    struct conn *ready[NET_READY_MAX];
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte = '\0';

    *rc = 0;
    while (byte != '\n') {
        int n = net->ops->wait(net, WAIT_US, ready);

        if (n < 0)
            *rc = n;
        if (*rc || (poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) != 1))
            return false;
    }
    return true;
}

static int hold(struct load *l)
{
    int rc;

    (void)puts("ready");
    (void)fflush(stdout);
    while (load_pause(l->net, &rc))
        ;
    return rc;
}

int load_run(struct net *net, const struct load_options *o, struct load_result *ret,
             char error[NET_ERROR_MAX])
{
    struct load l = {.net = net, .o = o, .r = ret, .count = o->connections};
    static const struct mode open_mode = {true, start_open, ready_open};
    const struct mode *mode = o->mode == LOAD_HOLD ? NULL : o->rate > 0 ? &open_mode : &modes[o->mode];
    unsigned total = o->connections + o->idle;
    const char *what = "no memory";
    int rc = -ENOMEM;

    memset(ret, 0, sizeof(*ret));
    hist_clear(&ret->latency);
    l.conns = calloc(total, sizeof(*l.conns));
    l.buffer = malloc(BUFFER_BYTES);
    if (l.conns && l.buffer) {
        memset(l.buffer, 'x', BUFFER_BYTES);
        what = "while connections were opened";
        rc = !mode || mode->opens ? open_all(&l, total) : 0;
    }
    if (!rc) {
        what = "while measuring";
        rc = mode ? drive(&l, mode, o->rate > 0) : hold(&l);
        close_all(&l, total);
    }
    if (rc)
        (void)snprintf(error, NET_ERROR_MAX, "%s: %s (%u connections open)", what, strerror(-rc), l.opened);
    for (unsigned i = 0; l.conns && i < total; i++)
        free(l.conns[i].due);
    free(l.conns);
    free(l.buffer);
    return rc;
}

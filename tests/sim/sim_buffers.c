/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers that size themselves, on a simulated path: the goodput that they reach from their small start, the
 * longest time that a sender waits though the receiver has room, and what idle connections hold. Prints the
 * tables of docs/decisions/buffers.md.
 *
 *   sim_buffers grow     fails below 0.9 of the line where the buffers may grow
 *   sim_buffers stalls   fails when a sender is left waiting (RFC 9293 3.8.6.2.2, RFC 1122 4.2.3.3)
 *   sim_buffers idle     fails when idle connections hold buffers
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/net.h"

#define L_SOCKET 1u
#define L_TCP    6u
#define O_RCVBUF 8u
#define O_MAXSEG 2u

/* ---- A transfer from host 0 to host 1 ------------------------------------------------------------------ */

struct run {
    struct net n;
    uint32_t tx, rx;
    uint64_t sent, got;
};

static uint8_t zeros[1 << 16], sink[1 << 16];

static void start(struct run *r, const struct sim_params *p, void (*tweak)(struct engine_config *, void *),
                  uint32_t rcvbuf, uint32_t mss)
{
    struct host *a = &r->n.host[0], *b = &r->n.host[1];
    uint32_t listener;
    int64_t slot;
    int rc;

    memset(r, 0, sizeof(*r));
    net_start(&r->n, p, tweak, NULL);
    listener = app_socket(b, SG_SOCK_STREAM);
    rc = app_bind(b, listener, 9000);
    assert(rc == 0);
    if (rcvbuf)
        (void)engine_setopt(b->e, b->sid, listener, L_SOCKET, O_RCVBUF, rcvbuf, b->now_us);
    rc = app_listen(b, listener, 4);
    assert(rc == 0);
    r->tx = app_socket(a, SG_SOCK_STREAM);
    if (mss)
        (void)engine_setopt(a->e, a->sid, r->tx, L_TCP, O_MAXSEG, mss, a->now_us);
    rc = app_connect(a, r->tx, 2, 9000);
    assert(rc == 0);
    while ((slot = app_accept(b, listener)) < 0)
        net_step(&r->n, r->n.now_us + 1000);
    r->rx = (uint32_t)slot;
    while (!app_connected(a, r->tx))
        net_step(&r->n, r->n.now_us + 1000);
}

static void push(struct run *r)
{
    int64_t n;

    while ((n = app_send(&r->n.host[0], r->tx, zeros, sizeof(zeros))) > 0)
        r->sent += (uint64_t)n;
}

static uint64_t take(struct run *r, uint64_t max)
{
    uint64_t before = r->got;

    while (max) {
        int64_t n = app_recv(&r->n.host[1], r->rx, sink, max < sizeof(sink) ? max : sizeof(sink));

        if (n <= 0)
            break;
        r->got += (uint64_t)n;
        max -= (uint64_t)n;
    }
    return r->got - before;
}

static bool stop(struct run *r)
{
    const char *bad = net_check(&r->n);

    (void)app_close(&r->n.host[0], r->tx);
    (void)app_close(&r->n.host[1], r->rx);
    if (!bad)
        bad = net_stop(&r->n);
    if (bad)
        printf("FAILED: %s\n", bad);
    return !bad;
}

/* ---- Goodput from a small start ------------------------------------------------------------------------ */

/* As the daemon begins. */
static void tuned(struct engine_config *cfg, void *ctx)
{
    (void)ctx;
    cfg->rcvbuf_log2 = cfg->sndbuf_log2 = 16;
}

static void untuned(struct engine_config *cfg, void *ctx)
{
    tuned(cfg, ctx);
    cfg->rcvbuf_max_log2 = cfg->rcvbuf_log2;
    cfg->sndbuf_max_log2 = cfg->sndbuf_log2;
}

static uint64_t held(struct run *r, unsigned host)
{
    struct engine_session_use use;

    engine_session_use(r->n.host[host].e, r->n.host[host].sid, &use);
    return use.buffer_bytes >> 10;
}

/* Share of the line in the second half of the time, in thousandths; 0 after a failure. */
static unsigned goodput(uint64_t bps, uint32_t rtt_us, unsigned seconds, bool grows)
{
    const uint64_t bdp = bps / 8 * rtt_us / 1000000;
    struct sim_params p = {
        .seed = 1,
        .offloads = 0x7, /* checksums and segmentation */
        .small_count = 65536,
        .large_count = 1024,
        .dir = {{.delay_us = rtt_us / 2,
                 .rate_bps = bps,
                 .queue_bytes = (uint32_t)(bdp < 65536 ? 131072 : 2 * bdp)},
                {.delay_us = rtt_us - rtt_us / 2}},
    };
    static struct run r;
    uint64_t begin, last = 0, first90 = 0, mark = 0, tick;
    unsigned share;

    start(&r, &p, grows ? tuned : untuned, 0, 0);
    begin = tick = r.n.now_us;
    while (r.n.now_us < begin + seconds * UINT64_C(1000000)) {
        push(&r);
        (void)take(&r, UINT64_MAX);
        net_step(&r.n, r.n.now_us + 1000);
        if (r.n.now_us >= tick + 100000) { /* a tenth of a second is over */
            if (!first90 && (r.got - last) * 80 >= bps / 10 * 9)
                first90 = r.n.now_us - begin;
            last = r.got;
            tick = r.n.now_us;
        }
        if (r.n.now_us - begin < seconds * UINT64_C(500000))
            mark = r.got; /* what counts is the second half */
    }
    share = (unsigned)((r.got - mark) * 8 * 2000 / bps / seconds);
    printf("| %4llu Mbit/s | %3u ms | %-5s | %5.3f | ", (unsigned long long)(bps / 1000000), rtt_us / 1000,
           grows ? "yes" : "no", share / 1000.0);
    if (first90)
        printf("%5.1f s | %6llu KiB | %6llu KiB |\n", (double)first90 / 1e6, (unsigned long long)held(&r, 0),
               (unsigned long long)held(&r, 1));
    else
        printf("  -     | %6llu KiB | %6llu KiB |\n", (unsigned long long)held(&r, 0),
               (unsigned long long)held(&r, 1));
    (void)fflush(stdout);
    return stop(&r) ? share : 0;
}

static int grow(void)
{
    static const struct {
        uint64_t bps;
        uint32_t rtt_us;
    } path[] = {{10000000, 20000},
                {100000000, 20000},
                {100000000, 100000},
                {1000000000, 20000},
                {1000000000, 100000}};
    int bad = 0;

    printf(
        "| line | round trip | growing | share of the line | 0.9 after | held by sender | by receiver |\n");
    printf("|---|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < sizeof(path) / sizeof(path[0]); i++) {
        (void)goodput(path[i].bps, path[i].rtt_us, 10, false);
        bad += goodput(path[i].bps, path[i].rtt_us, 10, true) < 900;
    }
    return bad;
}

/* ---- Stalls without need ------------------------------------------------------------------------------- */

/* How the application reads. */
enum reader { AT_ONCE, BYTE_BY_BYTE, HALF_A_RING, READERS };
static const char *const reader_name[READERS] = {"all at once", "byte by byte", "half a ring"};

/* 40 ms is a delayed acknowledgment; a persist timer would be 200. */
#define STALL_US_MAX 60000u

static bool stalls(uint32_t ring, uint32_t mss, enum reader how)
{
    struct sim_params p = {.seed = 1, .dir = {{.delay_us = 1000}, {.delay_us = 1000}}};
    static struct run r;
    uint64_t since, longest = 0, seen = 0, begin;
    bool good;

    start(&r, &p, tuned, ring, mss);
    since = begin = r.n.now_us;
    while (r.got < 60 * (uint64_t)ring && r.n.now_us < begin + 100000000) {
        const struct sg_slot *s = &r.n.host[1].slots[r.rx];
        uint64_t unread;

        push(&r);
        unread = s->d.rx_tail - s->a.rx_head;
        if (s->d.rx_tail != seen || unread > ring / 2) { /* It came, or there is no need: half is not read. */
            seen = s->d.rx_tail;
            since = r.n.now_us;
        }
        if (r.n.now_us - since > longest)
            longest = r.n.now_us - since;
        if (how == AT_ONCE)
            (void)take(&r, UINT64_MAX);
        else if (how == HALF_A_RING && (unread >= ring / 2 || r.n.now_us - since > 3000))
            (void)take(&r, ring / 2);
        else if (how == BYTE_BY_BYTE)
            for (unsigned i = 0; i < 64; i++)
                (void)take(&r, 1);
        net_step(&r.n, r.n.now_us + 500);
    }
    good = longest <= STALL_US_MAX && r.got >= 60 * (uint64_t)ring;
    printf("| %5u | %4u | %-12s | %6.1f ms | %6.0f KiB/s |%s\n", ring, mss, reader_name[how],
           (double)longest / 1000, (double)r.got / 1024 / ((double)(r.n.now_us - begin) / 1e6),
           good ? "" : " FAILED");
    return stop(&r) && good;
}

static int stall_table(void)
{
    static const uint32_t rings[] = {4096, 8192, 16384, 65536}, sizes[] = {1460, 536, 128};
    int bad = 0;

    printf("| ring | MSS | reader | longest stall | goodput |\n|---|---|---|---|---|\n");
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 3; k++)
            for (unsigned how = 0; how < READERS; how++)
                bad += !stalls(rings[i], sizes[k], (enum reader)how);
    return bad;
}

/* ---- Idle connections ---------------------------------------------------------------------------------- */

#define IDLE_CONNS 1000u

/* `bytes` each way over each connection, read at once. */
static void talk(struct net *n, const uint32_t a[], const uint32_t b[], size_t bytes)
{
    uint64_t left = 2 * IDLE_CONNS * bytes;

    for (unsigned i = 0; i < IDLE_CONNS; i++) {
        (void)engine_grant(n->host[0].e, n->host[0].sid,
                           a[i]); /* as the library asks for what it gave back */
        (void)engine_grant(n->host[1].e, n->host[1].sid, b[i]);
    }
    host_run(&n->host[0]);
    host_run(&n->host[1]);
    for (unsigned i = 0; i < IDLE_CONNS; i++) {
        left -= (size_t)app_send(&n->host[0], a[i], zeros, bytes) == bytes ? 0 : bytes;
        left -= (size_t)app_send(&n->host[1], b[i], zeros, bytes) == bytes ? 0 : bytes;
    }
    for (unsigned k = 0; left && k < 100000; k++) {
        net_step(n, n->now_us + 1000);
        for (unsigned i = 0; i < IDLE_CONNS; i++) {
            int64_t x = app_recv(&n->host[0], a[i], sink, sizeof(sink));
            int64_t y = app_recv(&n->host[1], b[i], sink, sizeof(sink));

            left -= (x > 0 ? (uint64_t)x : 0) + (y > 0 ? (uint64_t)y : 0);
        }
    }
    if (left)
        printf("FAILED: %llu bytes did not arrive\n", (unsigned long long)left);
}

static uint64_t both_hold(struct net *n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < 2; i++) {
        struct engine_session_use use;

        engine_session_use(n->host[i].e, n->host[i].sid, &use);
        sum += use.buffer_bytes;
    }
    return sum;
}

/* An idle connection costs no buffer memory, after traffic either. */
static int idle(void)
{
    static struct net n;
    static uint32_t a[IDLE_CONNS], b[IDLE_CONNS];
    struct sim_params p = {.seed = 1, .small_count = 65536, .dir = {{.delay_us = 500}, {.delay_us = 500}}};
    uint32_t listener, got = 0;
    uint64_t busy[2], quiet[2];
    const char *bad;

    net_start(&n, &p, tuned, NULL);
    listener = app_socket(&n.host[1], SG_SOCK_STREAM);
    (void)app_bind(&n.host[1], listener, 9000);
    (void)app_listen(&n.host[1], listener, IDLE_CONNS);
    for (unsigned i = 0; i < IDLE_CONNS; i++) {
        int64_t slot = -1;

        a[i] = app_socket(&n.host[0], SG_SOCK_STREAM);
        (void)app_connect(&n.host[0], a[i], 2, 9000);
        for (unsigned k = 0; k < 100 && slot < 0; k++) {
            net_step(&n, n.now_us + 1000);
            slot = app_accept(&n.host[1], listener);
        }
        b[i] = (uint32_t)slot;
        got += slot > 0;
    }
    for (unsigned round = 0; round < 2; round++) {
        uint64_t until;

        talk(&n, a, b, 20000);
        busy[round] = both_hold(&n);
        for (until = n.now_us + 10000000; n.now_us < until;)
            net_step(&n, until);
        quiet[round] = both_hold(&n);
        printf("%u connections: %llu KiB after traffic, %llu bytes after 10 s\n", got,
               (unsigned long long)busy[round] >> 10, (unsigned long long)quiet[round]);
    }
    bad = net_stop(&n);
    if (bad)
        printf("FAILED: %s\n", bad);
    return got != IDLE_CONNS || !busy[0] || !busy[1] || quiet[0] || quiet[1] || bad;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "grow"))
        return grow() ? EXIT_FAILURE : EXIT_SUCCESS;
    if (argc == 2 && !strcmp(argv[1], "stalls"))
        return stall_table() ? EXIT_FAILURE : EXIT_SUCCESS;
    if (argc == 2 && !strcmp(argv[1], "idle"))
        return idle() ? EXIT_FAILURE : EXIT_SUCCESS;
    fprintf(stderr, "usage: sim_buffers grow|stalls|idle\n");
    return EXIT_FAILURE;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Connections whose two ends are here: data passes from ring to ring (docs/decisions/cut-through.md). */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/frames.h"

#define LAST 2u
#define PORT 80u

struct pair {
    struct host h;
    uint32_t listener, client, server; /* slots */
};

/* Everything that can happen without time passing. */
static void settle(struct host *h)
{
    for (unsigned idle = 0; idle < 3; idle++) {
        cr_assert_null(host_tx(h), "a frame for the wire");
        host_run(h);
    }
}

static void wait_ms(struct host *h, unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        h->now_us += 1000;
        settle(h);
    }
}

static void connect_pair(struct pair *p)
{
    int64_t s;

    p->client = app_socket(&p->h, SG_SOCK_STREAM);
    cr_assert_eq(app_connect(&p->h, p->client, LAST, PORT), 0);
    settle(&p->h);
    cr_assert(app_connected(&p->h, p->client));
    s = app_accept(&p->h, p->listener);
    cr_assert_gt(s, 0);
    p->server = (uint32_t)s;
}

static void start(struct pair *p, bool cut_through)
{
    struct engine_config cfg;

    memset(p, 0, sizeof(*p));
    host_config(&cfg, LAST);
    cfg.cut_through = cut_through;
    host_start(&p->h, &cfg, 1000000);
    while (host_tx(&p->h)) /* announcements */
        ;
    p->listener = app_socket(&p->h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p->h, p->listener, PORT), 0);
    cr_assert_eq(app_listen(&p->h, p->listener, 4), 0);
    connect_pair(p);
}

static void stop(struct pair *p)
{
    const char *bad = host_stop(&p->h);

    cr_assert_null(bad, "%s", bad);
}

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 7 + (at >> 8));
}

/* Sends up to `len` bytes of the pattern from `*at` on; moves it. */
static uint64_t send_some(struct host *h, uint32_t slot, uint64_t *at, uint32_t len)
{
    uint8_t buf[8192];
    int64_t n;

    for (uint32_t i = 0; i < len; i++)
        buf[i] = pattern(*at + i);
    n = app_send(h, slot, buf, len);
    *at += n > 0 ? (uint64_t)n : 0;
    return n > 0 ? (uint64_t)n : 0;
}

static int64_t recv_some(struct host *h, uint32_t slot, uint64_t *at, uint32_t len)
{
    uint8_t buf[8192];
    int64_t n = app_recv(h, slot, buf, len);

    for (int64_t i = 0; i < n; i++)
        cr_assert_eq(buf[i], pattern(*at + (uint64_t)i), "byte %lu", *at + (uint64_t)i);
    *at += n > 0 ? (uint64_t)n : 0;
    return n;
}

Test(local, data_passes_without_segments)
{
    struct pair p;
    uint64_t segs, sent[2] = {0}, got[2] = {0};

    start(&p, true);
    segs = host_counter(&p.h, "TcpOutSegs");
    for (unsigned i = 0; i < 100; i++) {
        cr_assert_eq(send_some(&p.h, p.client, &sent[0], 64), 64);
        settle(&p.h);
        cr_assert_eq(recv_some(&p.h, p.server, &got[0], 100), 64);
        cr_assert_eq(send_some(&p.h, p.server, &sent[1], 64), 64);
        settle(&p.h);
        cr_assert_eq(recv_some(&p.h, p.client, &got[1], 100), 64);
    }
    wait_ms(&p.h, 300);
    cr_assert_eq(host_counter(&p.h, "TcpOutSegs"), segs);
    cr_assert_eq(host_counter(&p.h, "TcpCutThroughBytes"), 12800);
    cr_assert_eq(host_counter(&p.h, "TcpCutThrough"), 200);
    stop(&p);
}

Test(local, off_means_segments)
{
    struct pair p;
    uint64_t segs, sent = 0, got = 0;

    start(&p, false);
    segs = host_counter(&p.h, "TcpOutSegs");
    cr_assert_eq(send_some(&p.h, p.client, &sent, 64), 64);
    settle(&p.h);
    cr_assert_eq(recv_some(&p.h, p.server, &got, 100), 64);
    cr_assert_gt(host_counter(&p.h, "TcpOutSegs"), segs);
    cr_assert_eq(host_counter(&p.h, "TcpCutThroughBytes"), 0);
    stop(&p);
}

/* Both buffers fill; as the reader takes something, more passes, to the last byte. */
Test(local, a_full_window_waits_for_the_reader)
{
    struct pair p;
    uint64_t sent = 0, got = 0;

    start(&p, true);
    while (send_some(&p.h, p.client, &sent, 8192))
        settle(&p.h);
    cr_assert_geq(sent, 2 * 65536 - 8192);
    for (unsigned round = 0; round < 2000 && got < 1000000; round++) {
        if (sent < 1000000)
            (void)send_some(&p.h, p.client, &sent, 1000);
        settle(&p.h);
        (void)recv_some(&p.h, p.server, &got, 5000);
        settle(&p.h);
    }
    while (recv_some(&p.h, p.server, &got, 5000) > 0)
        settle(&p.h);
    cr_assert_geq(sent, 1000000);
    cr_assert_eq(got, sent);
    cr_assert_eq(host_counter(&p.h, "TcpCutThroughBytes"), sent);
    cr_assert_eq(host_counter(&p.h, "TcpWinProbe"), 0, "a window update is enough");
    cr_assert_eq(host_counter(&p.h, "TcpChallengeACK"), 0, "which surprises nobody");
    stop(&p);
}

Test(local, the_fin_follows_the_data)
{
    struct pair p;
    uint64_t sent = 0, got = 0;
    struct engine_sock_info info;

    start(&p, true);
    while (send_some(&p.h, p.client, &sent, 8192))
        ;
    cr_assert_eq(app_close(&p.h, p.client), 0);
    settle(&p.h);
    for (int64_t n = 1; n != 0; settle(&p.h)) {
        n = recv_some(&p.h, p.server, &got, 3000);
        cr_assert_geq(n, 0);
    }
    cr_assert_eq(got, sent);
    cr_assert_eq(app_close(&p.h, p.server), 0);
    settle(&p.h);
    cr_assert(host_find(&p.h, "TIME_WAIT", &info));
    cr_assert_eq(host_counter(&p.h, "TcpCutThroughBytes"), sent);
    stop(&p);
}

/* RFC 9293 3.6.1: the reader went with data unread, or comes to nothing: the sender learns. */
Test(local, a_reader_that_goes_resets)
{
    struct pair p;
    uint64_t sent = 0;

    start(&p, true);
    cr_assert_eq(send_some(&p.h, p.client, &sent, 100), 100);
    settle(&p.h);
    cr_assert_eq(app_close(&p.h, p.server), 0);
    settle(&p.h);
    cr_assert_eq(app_error(&p.h, p.client), ECONNRESET);
    cr_assert_eq(app_close(&p.h, p.client), 0);

    connect_pair(&p);
    cr_assert_eq(app_close(&p.h, p.server), 0); /* nothing is unread yet */
    settle(&p.h);
    (void)send_some(&p.h, p.client, &sent, 100);
    settle(&p.h);
    cr_assert_neq(app_error(&p.h, p.client), 0);
    stop(&p);
}

Test(local, data_waits_for_accept)
{
    struct pair p;
    uint64_t sent = 0, got = 0;
    int64_t s;

    start(&p, true);
    p.client = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_connect(&p.h, p.client, LAST, PORT), 0);
    settle(&p.h);
    cr_assert_eq(send_some(&p.h, p.client, &sent, 500), 500);
    settle(&p.h);
    s = app_accept(&p.h, p.listener);
    cr_assert_gt(s, 0);
    cr_assert_eq(recv_some(&p.h, (uint32_t)s, &got, 1000), 500);
    stop(&p);
}

Test(local, a_socket_connected_to_itself_keeps_to_segments)
{
    struct pair p;
    uint64_t sent = 0, got = 0;
    uint32_t self;

    start(&p, true);
    self = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, self, 5000), 0);
    cr_assert_eq(app_connect(&p.h, self, LAST, 5000), 0); /* RFC 9293 3.5: a simultaneous open */
    settle(&p.h);
    cr_assert(app_connected(&p.h, self));
    cr_assert_eq(send_some(&p.h, self, &sent, 500), 500);
    settle(&p.h);
    cr_assert_eq(recv_some(&p.h, self, &got, 1000), 500);
    cr_assert_eq(host_counter(&p.h, "TcpCutThroughBytes"), 0, "left to the segments");
    stop(&p);
}

/* ---- The same as with segments ------------------------------------------------------------------------ */

struct end {
    uint32_t slot;
    uint64_t sent, got;
    bool shut, closed, eof;
    int error;
};

static void step(struct pair *p, struct end ends[2], uint64_t *rng)
{
    struct end *x = &ends[rnd_next(rng) % 2];
    uint32_t len = 1 + (uint32_t)(rnd_next(rng) % 8000);
    uint64_t what = rnd_next(rng) % 100;
    int64_t n;

    if (x->closed)
        return;
    if (what < 45) {
        if (!x->shut)
            (void)send_some(&p->h, x->slot, &x->sent, len);
    } else if (what < 96) {
        n = recv_some(&p->h, x->slot, x == ends ? &ends[1].got : &ends[0].got, len);
        x->eof |= n == 0;
    } else if (what < 98) {
        (void)app_shutdown(&p->h, x->slot, SG_SHUT_WR);
        x->shut = true;
    }
    settle(&p->h);
}

/* A random conversation, then both ends finish and read all. What was said and how it ended. */
static void talk(bool cut_through, uint64_t seed, struct end ends[2], uint64_t *cut)
{
    struct pair p;
    uint64_t rng = seed;

    start(&p, cut_through);
    ends[0] = (struct end){.slot = p.client};
    ends[1] = (struct end){.slot = p.server};
    for (unsigned i = 0; i < 300; i++) {
        step(&p, ends, &rng);
        if (i % 16 == 0)
            wait_ms(&p.h, 50);
    }
    for (unsigned i = 0; i < 2; i++)
        (void)app_shutdown(&p.h, ends[i].slot, SG_SHUT_WR);
    for (unsigned round = 0; round < 400 && !(ends[0].eof && ends[1].eof); round++) {
        for (unsigned i = 0; i < 2; i++) {
            int64_t n = recv_some(&p.h, ends[i].slot, &ends[!i].got, 8000);

            ends[i].eof |= n == 0;
        }
        wait_ms(&p.h, 1);
    }
    for (unsigned i = 0; i < 2; i++)
        ends[i].error = app_error(&p.h, ends[i].slot);
    *cut = host_counter(&p.h, "TcpCutThroughBytes");
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(app_close(&p.h, ends[i].slot), 0);
    wait_ms(&p.h, 50);
    cr_assert_eq(host_count(&p.h, "TIME_WAIT"), 1, "seed %lu", seed);
    cr_assert_eq(host_count(&p.h, "ESTABLISHED"), 0);
    stop(&p);
}

Test(local, random_conversations_end_as_with_segments)
{
    uint64_t seeds = rnd_seed("local");

    for (unsigned round = 0; round < 40; round++) {
        uint64_t seed = rnd_next(&seeds), cut;

        for (int on = 0; on < 2; on++) {
            struct end ends[2];

            talk(on, seed, ends, &cut);
            for (unsigned i = 0; i < 2; i++) {
                cr_assert(ends[i].eof, "seed %lu, cut-through %d, end %u", seed, on, i);
                cr_assert_eq(ends[i].got, ends[i].sent, "seed %lu, cut-through %d, end %u", seed, on, i);
                cr_assert_eq(ends[i].error, 0, "seed %lu", seed);
            }
            cr_assert_eq(cut, on ? ends[0].sent + ends[1].sent : 0, "seed %lu", seed);
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine and lwIP: a peer as devices have it, with small windows, small segments, delayed acknowledgments
 * of up to 250 ms, no SACK, no window beyond what its application took, and a reset at every occasion.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/lwip/pair.h"

#define SECONDS UINT64_C(1000000)
#define MANY    150u

static const struct pair_link lan = {.delay_us = 500, .seed = 1};

/* Both ends of one connection. */
struct both {
    struct peer_conn peer;
    struct app_conn app;
    uint32_t listener;
};

static bool established(void *ctx)
{
    struct both *b = ctx;

    if (!b->app.slot) {
        int64_t s = app_accept(&pair.h, b->listener);

        if (s > 0)
            b->app.slot = (uint32_t)s;
    }
    return b->app.slot && b->peer.connected && app_connected(&pair.h, b->app.slot);
}

/* lwIP is the client. */
static void open_from_lwip(struct both *b)
{
    b->listener = app_server(8);
    peer_connect(&b->peer);
    cr_assert(pair_run(established, b, 20 * SECONDS), "no connection");
}

/* The engine is the client. */
static void open_from_engine(struct both *b)
{
    peer_listen(&b->peer, 1);
    b->app.slot = app_socket(&pair.h, SG_SOCK_STREAM);
    cr_assert_eq(app_connect(&pair.h, b->app.slot, LWIP_LAST, PORT), 0);
    cr_assert(pair_run(established, b, 20 * SECONDS), "no connection");
}

static bool all_moved(void *ctx)
{
    struct both *b = ctx;

    app_push(&b->app);
    peer_push(&b->peer);
    return b->app.bad || b->peer.bad || b->app.error || b->peer.err ||
           (b->app.got == b->peer.send_max && b->peer.got == b->app.send_max &&
            b->app.sent == b->app.send_max);
}

static void expect_all(struct both *b, uint64_t us)
{
    bool done = pair_run(all_moved, b, us);

    cr_assert(!b->app.bad && !b->peer.bad, "other bytes than were sent");
    cr_assert_eq(b->app.error, 0);
    cr_assert_eq(b->peer.err, ERR_OK);
    cr_assert(done, "moved %lu of %lu and %lu of %lu bytes", b->app.got, b->peer.send_max, b->peer.got,
              b->app.send_max);
}

static bool both_closed(void *ctx)
{
    struct both *b = ctx;

    app_push(&b->app);
    peer_push(&b->peer);
    return b->app.eof && b->peer.closed && b->app.fin_sent && b->peer.fin_sent;
}

static void expect_close(struct both *b, uint64_t us)
{
    b->app.fin_when_sent = b->peer.fin_when_sent = true;
    cr_assert(pair_run(both_closed, b, us), "not closed");
    app_close(&pair.h, b->app.slot);
}

Test(lwip, echo_of_the_engine)
{
    static struct both b = {.peer.send_max = 50000, .app.echo = true};

    pair_start(&lan);
    open_from_lwip(&b);
    b.app.send_max = 0;
    for (unsigned i = 0; i < 400 && b.peer.got < 50000; i++) {
        all_moved(&b);
        pair_wait(10000);
    }
    cr_assert_eq(b.peer.got, 50000);
    cr_assert(!b.peer.bad && !b.app.bad);
    expect_close(&b, 10 * SECONDS);
    pair_stop();
}

Test(lwip, echo_of_lwip)
{
    static struct both b = {.app.send_max = 50000, .peer.echo = true};

    pair_start(&lan);
    open_from_engine(&b);
    for (unsigned i = 0; i < 400 && b.app.got < 50000; i++) {
        all_moved(&b);
        pair_wait(10000);
    }
    cr_assert_eq(b.app.got, 50000);
    cr_assert(!b.peer.bad && !b.app.bad);
    expect_close(&b, 10 * SECONDS);
    pair_stop();
}

Test(lwip, bulk_both_ways_at_once)
{
    static struct both b = {.app.send_max = 2000000, .peer.send_max = 2000000};

    pair_start(&lan);
    open_from_lwip(&b);
    expect_all(&b, 60 * SECONDS);
    expect_close(&b, 10 * SECONDS);
    pair_stop();
}

static void small(uint16_t mtu, uint16_t window)
{
    static struct both b = {.app.send_max = 40000, .peer.send_max = 40000};
    struct pair_link link = {.delay_us = 500, .lwip_mtu = mtu, .seed = 1};

    b.peer.window = window;
    pair_start(&link);
    open_from_lwip(&b);
    expect_all(&b, 600 * SECONDS);
    expect_close(&b, 20 * SECONDS);
    pair_stop();
}

Test(lwip, segments_of_536_bytes)
{
    small(576, 0);
}

Test(lwip, a_window_of_two_small_segments)
{
    small(576, 1072);
}

Test(lwip, a_window_of_two_tiny_segments)
{
    small(296, 512);
}

Test(lwip, segments_of_100_bytes)
{
    small(140, 300);
}

Test(lwip, a_window_of_one_segment)
{
    small(1500, 1460);
}

Test(lwip, a_window_below_one_segment)
{
    small(1500, 700);
}

Test(lwip, half_closed_by_the_engine_it_still_receives)
{
    static struct both b = {.app.send_max = 1000};

    pair_start(&lan);
    open_from_engine(&b);
    b.app.fin_when_sent = true;
    expect_all(&b, 10 * SECONDS);
    pair_wait(SECONDS);
    cr_assert(b.peer.closed);
    b.peer.send_max = 100000;
    expect_all(&b, 30 * SECONDS);
    expect_close(&b, 10 * SECONDS);
    pair_stop();
}

Test(lwip, half_closed_by_lwip_it_still_receives)
{
    static struct both b = {.peer.send_max = 1000};

    pair_start(&lan);
    open_from_lwip(&b);
    b.peer.fin_when_sent = true;
    expect_all(&b, 10 * SECONDS);
    pair_wait(SECONDS);
    app_push(&b.app);
    cr_assert(b.app.eof);
    b.app.send_max = 100000;
    expect_all(&b, 30 * SECONDS);
    expect_close(&b, 10 * SECONDS);
    pair_stop();
}

/* ---- Many ------------------------------------------------------------------------------------------ */

static struct peer_conn peers[MANY];
static struct app_conn apps[MANY];

struct crowd {
    uint32_t listener; /* 0: the engine is the client */
    unsigned accepted;
};

static bool crowd_done(void *ctx)
{
    struct crowd *c = ctx;
    unsigned done = 0;
    int64_t s;

    while (c->listener && c->accepted < MANY && (s = app_accept(&pair.h, c->listener)) > 0)
        apps[c->accepted++].slot = (uint32_t)s;
    for (unsigned i = 0; i < MANY; i++) {
        if (i < c->accepted)
            app_push(&apps[i]);
        peer_push(&peers[i]);
        done += peers[i].got == 3000 && i < c->accepted && apps[i].got == 3000;
    }
    return done == MANY;
}

static void crowd_check(void)
{
    for (unsigned i = 0; i < MANY; i++) {
        cr_assert(!peers[i].bad && !apps[i].bad, "connection %u", i);
        cr_assert_eq(peers[i].err, ERR_OK);
        app_close(&pair.h, apps[i].slot);
        tcp_close(peers[i].pcb);
    }
    pair_wait(10 * SECONDS);
    cr_assert_eq(host_count(&pair.h, "ESTABLISHED"), 0);
}

Test(lwip, many_connections_to_the_engine)
{
    struct crowd c = {.accepted = 0};

    pair_start(&lan);
    c.listener = app_server(MANY);
    for (unsigned i = 0; i < MANY; i++) {
        peers[i].send_max = apps[i].send_max = 3000;
        peer_connect(&peers[i]);
    }
    cr_assert(pair_run(crowd_done, &c, 60 * SECONDS));
    crowd_check();
    pair_stop();
}

Test(lwip, many_connections_to_lwip)
{
    struct crowd c = {.accepted = MANY};

    pair_start(&lan);
    for (unsigned i = 0; i < MANY; i++)
        peers[i].send_max = apps[i].send_max = 3000;
    peer_listen(peers, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        apps[i].slot = app_socket(&pair.h, SG_SOCK_STREAM);
        cr_assert_eq(app_connect(&pair.h, apps[i].slot, LWIP_LAST, PORT), 0);
    }
    cr_assert(pair_run(crowd_done, &c, 60 * SECONDS));
    crowd_check();
    pair_stop();
}

/* ---- Refused, reset -------------------------------------------------------------------------------- */

Test(lwip, refused_by_the_engine)
{
    static struct peer_conn peer;

    pair_start(&lan);
    peer_connect(&peer);
    pair_wait(5 * SECONDS);
    cr_assert_eq(peer.err, ERR_RST);
    pair_stop();
}

Test(lwip, refused_by_lwip)
{
    uint32_t slot;

    pair_start(&lan);
    slot = app_socket(&pair.h, SG_SOCK_STREAM);
    cr_assert_eq(app_connect(&pair.h, slot, LWIP_LAST, PORT), 0);
    pair_wait(5 * SECONDS);
    cr_assert_eq(app_error(&pair.h, slot), ECONNREFUSED);
    pair_stop();
}

Test(lwip, reset_by_lwip_with_data_under_way)
{
    static struct both b = {.app.send_max = 200000};

    pair_start(&lan);
    open_from_lwip(&b);
    app_push(&b.app);
    pair_wait(2000);
    tcp_abort(b.peer.pcb);
    pair_wait(SECONDS);
    cr_assert_eq(app_error(&pair.h, b.app.slot), ECONNRESET);
    pair_stop();
}

Test(lwip, reset_by_the_engine_with_data_under_way)
{
    static struct both b = {.peer.send_max = 200000};

    pair_start(&lan);
    open_from_engine(&b);
    peer_push(&b.peer);
    pair_wait(2000);
    app_close(&pair.h, b.app.slot); /* with unread data: RFC 2525 2.17 */
    pair_wait(SECONDS);
    cr_assert_eq(b.peer.err, ERR_RST);
    pair_stop();
}

Test(lwip, closed_by_lwip_with_unread_data_is_a_reset)
{
    static struct both b = {.app.send_max = 20000, .peer.deaf = true};

    pair_start(&lan);
    open_from_lwip(&b);
    app_push(&b.app);
    pair_wait(SECONDS);
    cr_assert_gt(b.peer.unread, 0);
    tcp_close(b.peer.pcb); /* lwIP resets, for its window is not whole */
    pair_wait(SECONDS);
    cr_assert_eq(app_error(&pair.h, b.app.slot), ECONNRESET);
    pair_stop();
}

/* ---- Zero windows ---------------------------------------------------------------------------------- */

Test(lwip, a_deaf_lwip_is_probed_and_gets_the_rest_later)
{
    static struct both b = {.app.send_max = 300000, .peer.deaf = true};

    pair_start(&lan);
    open_from_lwip(&b);
    for (unsigned i = 0; i < 600; i++) {
        app_push(&b.app);
        pair_wait(SECONDS / 10);
    }
    cr_assert_lt(b.peer.got, 300000);
    cr_assert_eq(app_error(&pair.h, b.app.slot), 0);
    peer_hear_again(&b.peer);
    expect_all(&b, 200 * SECONDS);
    expect_close(&b, 10 * SECONDS);
    pair_stop();
}

Test(lwip, a_deaf_application_is_probed_and_gets_the_rest_later)
{
    static struct both b = {.peer.send_max = 1000000, .app.deaf = true};

    pair_start(&lan);
    open_from_lwip(&b);
    for (unsigned i = 0; i < 600; i++) {
        peer_push(&b.peer);
        pair_wait(SECONDS / 10);
    }
    cr_assert_eq(b.peer.err, ERR_OK);
    cr_assert_lt(b.peer.sent, 1000000);
    b.app.deaf = false;
    expect_all(&b, 200 * SECONDS);
    expect_close(&b, 10 * SECONDS);
    pair_stop();
}

/* ---- Loss ------------------------------------------------------------------------------------------ */

static void lossy(uint64_t seed)
{
    static struct both b;
    struct pair_link link = {.delay_us = 5000, .loss = 50, .seed = seed};

    memset(&b, 0, sizeof(b));
    b.app.send_max = b.peer.send_max = 150000;
    pair_start(&link);
    open_from_lwip(&b);
    expect_all(&b, 900 * SECONDS);
    cr_assert_gt(pair.lost, 0);
    pair_stop();
}

Test(lwip, five_of_a_hundred_frames_lost_seed_1)
{
    lossy(1);
}

Test(lwip, five_of_a_hundred_frames_lost_seed_2)
{
    lossy(2);
}

Test(lwip, five_of_a_hundred_frames_lost_seed_3)
{
    lossy(3);
}

Test(lwip, a_lost_handshake_is_mended)
{
    static struct both b;
    struct pair_link link = {.delay_us = 5000, .loss = 500, .seed = 4};

    pair_start(&link);
    b.listener = app_server(8);
    peer_connect(&b.peer);
    cr_assert(pair_run(established, &b, 60 * SECONDS));
    pair.link.loss = 0;
    b.app.send_max = b.peer.send_max = 1000;
    expect_all(&b, 60 * SECONDS);
    pair_stop();
}

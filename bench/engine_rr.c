/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request/response inside the engine: two engines hand each other frames in memory, 64 bytes each way. No
 * device, no rings, no system call. Prints the rate; for what it costs, count the server's instructions:
 *
 *     valgrind --tool=callgrind --toggle-collect=server_turn build/bench/engine_rr --requests 20000
 *
 * and divide by the number of requests. server_turn() is everything from the frame with the request to the
 * frame with the answer: receive, deliver, the application's copy out and in, kick, send.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/host.h"

#define MESSAGE_BYTES 64u
#define BATCH         64u

static struct host client, server;
static uint32_t client_slot[4096], server_slot[4096];

static uint64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* All frames that `from` has to send go into `to`. */
static unsigned carry(struct host *from, struct host *to)
{
    struct pktbuf *p[BATCH];
    unsigned n, total = 0;

    while ((n = engine_tx_peek(from->e, 0, p, BATCH, from->now_us))) {
        engine_rx(to->e, p, n, to->now_us);
        engine_tx_consume(from->e, 0, n);
        total += n;
    }
    return total;
}

__attribute__((noinline)) void server_turn(struct pktbuf *p[], unsigned n, unsigned connections);

static void echo(struct host *h, uint32_t slot)
{
    struct sg_slot *s = &h->slots[slot];
    uint8_t buf[MESSAGE_BYTES];
    uint64_t n = sg_load_acquire_u64(&s->d.rx_tail) - s->a.rx_head;

    if (n != MESSAGE_BYTES) /* The rest is on its way. */
        return;
    sg_bytes_get(h->seg + ((uint64_t)s->d.rx_region << SG_REGION_SHIFT), s->d.rx_log2,
                 s->a.rx_head - s->d.rx_base, buf, MESSAGE_BYTES);
    sg_store_release_u64(&s->a.rx_head, s->a.rx_head + n);
    if (s->a.tx_tail == sg_load_acquire_u64(&s->d.tx_head))
        s->a.tx_base = s->a.tx_tail;
    sg_bytes_put(h->seg + ((uint64_t)s->d.tx_region << SG_REGION_SHIFT), s->d.tx_log2,
                 s->a.tx_tail - s->a.tx_base, buf, MESSAGE_BYTES);
    sg_store_release_u64(&s->a.tx_tail, s->a.tx_tail + n);
    s->a.kick_posted++;
}

void server_turn(struct pktbuf *p[], unsigned n, unsigned connections)
{
    uint32_t kicks[BATCH];
    unsigned count = 0;
    struct engine_event ev;

    (void)connections;
    engine_rx(server.e, p, n, server.now_us);
    engine_publish(server.e, server.now_us);
    while (engine_event_next(server.e, &ev)) {
        sg_store_release_u32(&server.slots[ev.slot].a.ev_seen, server.slots[ev.slot].d.ev_posted);
        echo(&server, ev.slot);
        kicks[count++] = ev.slot;
        if (count == BATCH) {
            engine_kick(server.e, server.sid, kicks, count, server.now_us);
            count = 0;
        }
    }
    engine_kick(server.e, server.sid, kicks, count, server.now_us);
    engine_timers(server.e, server.now_us);
    (void)engine_tx_peek(server.e, 0, p, BATCH, server.now_us);
    engine_publish(server.e, server.now_us);
}

static void connect_all(unsigned connections)
{
    uint32_t listener = app_socket(&server, SG_SOCK_STREAM);

    if (app_bind(&server, listener, 7) || app_listen(&server, listener, 4096))
        abort();
    for (unsigned i = 0; i < connections; i++) {
        int64_t slot;

        client_slot[i] = app_socket(&client, SG_SOCK_STREAM);
        if (app_connect(&client, client_slot[i], 2, 7))
            abort();
        while (carry(&client, &server) + carry(&server, &client))
            ;
        slot = app_accept(&server, listener);
        if (slot <= 0)
            abort();
        server_slot[i] = (uint32_t)slot;
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"connections", required_argument, NULL, 'c'},
                                            {"requests", required_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    unsigned connections = 64;
    uint64_t requests = 2000000, done = 0, start, ns;
    struct engine_config cfg;
    char buf[MESSAGE_BYTES] = {0};
    int o;

    while ((o = getopt_long(argc, argv, "c:r:", options, NULL)) != -1) {
        if (o == 'c')
            connections = (unsigned)strtoul(optarg, NULL, 0);
        else if (o == 'r')
            requests = strtoull(optarg, NULL, 0);
        else
            return 2;
    }
    if (connections < 1 || connections > 1000) {
        fprintf(stderr, "engine_rr: --connections takes 1 to 1000\n");
        return 2;
    }
    for (unsigned i = 0; i < 2; i++) {
        host_config(&cfg, (uint8_t)(i + 1));
        cfg.ifs[0].offloads = ENGINE_TX_CSUM;
        host_start(i ? &server : &client, &cfg, 1000000);
    }
    connect_all(connections);
    start = clock_ns();
    while (done < requests) {
        struct pktbuf *p[BATCH];
        unsigned n;

        client.now_us = server.now_us += 20;
        for (unsigned i = 0; i < connections; i++)
            app_send(&client, client_slot[i], buf, sizeof(buf));
        while ((n = engine_tx_peek(client.e, 0, p, BATCH, client.now_us))) {
            unsigned taken = n;

            server_turn(p, n, connections);
            engine_tx_consume(client.e, 0, taken);
            carry(&server, &client);
        }
        host_run(&client);
        for (unsigned i = 0; i < connections; i++)
            if (app_recv(&client, client_slot[i], buf, sizeof(buf)) != MESSAGE_BYTES)
                abort();
        done += connections;
        host_run(&server);
    }
    ns = clock_ns() - start;
    printf("%u connections, %" PRIu64 " requests: %.0f ns for each, both engines and both applications\n",
           connections, done, (double)ns / (double)done);
    return 0;
}

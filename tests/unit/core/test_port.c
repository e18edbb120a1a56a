/* SPDX-License-Identifier: Apache-2.0 */
/* The counts of the port table; the rules themselves are in tests/segment/test_ports.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "daemon/engine/engine_int.h"
#include "tests/support/host.h"
#include "tests/unit/core/rnd.h"

static struct host h;

static void start(void)
{
    struct engine_config cfg;

    host_config(&cfg, 2);
    cfg.port_min = 50000;
    cfg.port_max = 50031;
    host_start(&h, &cfg, 1000000);
}

static void stop(void)
{
    const char *bad = host_stop(&h);

    cr_assert_null(bad, "%s", bad);
}

/* Nobody holds any port. */
static void all_free(const char *when)
{
    for (uint32_t i = 0; i < 65536; i++) {
        const struct port_entry *t = &h.e->ports.tcp[i], *u = &h.e->ports.udp[i];

        cr_assert(!t->binds && !t->conns && !t->conns_noreuse && !t->tw, "%s: TCP port %u", when, i);
        cr_assert(!u->binds && !u->conns && !u->tw, "%s: UDP port %u", when, i);
    }
}

static int reuse(uint32_t slot, bool on)
{
    return engine_setopt(h.e, h.sid, slot, 1, 2, on, h.now_us);
}

Test(port, bind_and_close_leave_nothing)
{
    uint32_t s;

    start();
    s = app_socket(&h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&h, s, 80), 0);
    cr_assert_neq(h.e->ports.tcp[80].binds, 0);
    app_close(&h, s);
    all_free("after close");
    stop();
}

Test(port, a_connection_counts_on_its_port_once)
{
    uint32_t s;
    uint16_t port;

    start();
    s = app_socket(&h, SG_SOCK_STREAM);
    cr_assert_eq(app_connect(&h, s, 1, 7), 0);
    port = h.slots[s].n.local_port;
    cr_assert_eq(h.e->ports.tcp[port].conns, 1);
    cr_assert_eq(h.e->ports.tcp[port].conns_noreuse, 1);
    reuse(s, true);
    cr_assert_eq(h.e->ports.tcp[port].conns_noreuse, 0);
    reuse(s, true);
    reuse(s, false);
    cr_assert_eq(h.e->ports.tcp[port].conns_noreuse, 1);
    app_close(&h, s);
    all_free("after close");
    stop();
}

Test(port, a_failed_bind_leaves_nothing)
{
    uint32_t a, b;

    start();
    a = app_socket(&h, SG_SOCK_STREAM);
    b = app_socket(&h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&h, a, 80), 0);
    cr_assert_eq(app_bind(&h, b, 80), -EADDRINUSE);
    app_close(&h, a);
    all_free("after close of the first");
    cr_assert_eq(app_bind(&h, b, 81), 0, "and the socket is as it was");
    stop();
}

Test(port, a_failed_connect_leaves_nothing)
{
    uint32_t s;

    start();
    s = app_socket(&h, SG_SOCK_STREAM);
    cr_assert_lt(app_connect(&h, s, 255, 7), 0, "the broadcast address");
    cr_assert_lt(app_connect(&h, s, 1, 0), 0, "port 0");
    all_free("after failures");
    stop();
}

/* Sockets come and go at random; in the end every count is back to zero. */
Test(port, counts_return_to_zero)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        uint64_t s = seed;
        uint32_t slot[40] = {0};

        start();
        for (unsigned step = 0; step < 600; step++) {
            uint32_t i = rnd_below(&s, 40);

            if (!slot[i]) {
                slot[i] = app_socket(&h, rnd_below(&s, 3) ? SG_SOCK_STREAM : SG_SOCK_DGRAM);
                continue;
            }
            switch (rnd_below(&s, 6)) {
            case 0:
                (void)app_bind(&h, slot[i], rnd_below(&s, 2) ? 0 : (uint16_t)(50000 + rnd_below(&s, 40)));
                break;
            case 1:
                (void)app_listen(&h, slot[i], 1);
                break;
            case 2:
                (void)app_connect(&h, slot[i], (uint8_t)(1 + rnd_below(&s, 3)),
                                  (uint16_t)(50000 + rnd_below(&s, 9)));
                break;
            case 3:
                (void)reuse(slot[i], rnd_below(&s, 2));
                break;
            case 4:
                h.now_us += rnd_below(&s, 3000000);
                host_run(&h);
                while (host_tx(&h) || engine_tx_pending(h.e)) /* connections to ourselves are made */
                    ;
                break;
            default:
                app_close(&h, slot[i]);
                slot[i] = 0;
                break;
            }
        }
        engine_session_end(h.e, h.sid, h.now_us);
        for (unsigned k = 0; k < 60; k++) {
            while (host_tx(&h) || engine_tx_pending(h.e))
                ;
            h.now_us += 10000000;
            host_run(&h);
        }
        {
            char when[32];

            (void)snprintf(when, sizeof(when), "seed %lu", seed);
            all_free(when);
        }
        stop();
    }
}

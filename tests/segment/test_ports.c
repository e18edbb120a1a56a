/* SPDX-License-Identifier: Apache-2.0 */
/* Local ports: bind conflicts, SO_REUSEADDR, the choice of ephemeral ports (RFC 6056). */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

static int reuse(struct peer *p, uint32_t slot, bool on)
{
    return engine_setopt(p->h.e, p->h.sid, slot, 1, 2, on, p->h.now_us);
}

static int bind_to(struct peer *p, uint32_t slot, uint8_t last, uint16_t port)
{
    struct ip_ep ep = {.addr = {.family = SG_AF_INET}, .port = port};

    if (last)
        memcpy(ep.addr.ip, (uint8_t[]){192, 0, 2, last}, 4);
    return engine_bind(p->h.e, p->h.sid, slot, &ep);
}

static void few_ports(struct engine_config *cfg)
{
    cfg->port_min = 50000;
    cfg->port_max = 50003;
}

Test(ports, a_port_is_bound_once)
{
    struct peer p;

    peer_start(&p, NULL);
    cr_assert_eq(app_bind(&p.h, app_socket(&p.h, SG_SOCK_STREAM), 80), 0);
    cr_assert_eq(app_bind(&p.h, app_socket(&p.h, SG_SOCK_STREAM), 80), -EADDRINUSE);
    cr_assert_eq(app_bind(&p.h, app_socket(&p.h, SG_SOCK_DGRAM), 80), 0, "UDP has ports of its own");
    cr_assert_eq(app_bind(&p.h, app_socket(&p.h, SG_SOCK_DGRAM), 80), -EADDRINUSE);
    peer_stop(&p);
}

Test(ports, a_socket_is_bound_once)
{
    struct peer p;
    uint32_t s;

    peer_start(&p, NULL);
    s = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, s, 80), 0);
    cr_assert_eq(app_bind(&p.h, s, 81), -EINVAL);
    peer_stop(&p);
}

Test(ports, the_wildcard_conflicts_with_the_address)
{
    struct peer p;

    peer_start(&p, NULL);
    cr_assert_eq(bind_to(&p, app_socket(&p.h, SG_SOCK_STREAM), 2, 80), 0);
    cr_assert_eq(bind_to(&p, app_socket(&p.h, SG_SOCK_STREAM), 0, 80), -EADDRINUSE);
    cr_assert_eq(bind_to(&p, app_socket(&p.h, SG_SOCK_STREAM), 9, 80), -EADDRNOTAVAIL, "not our address");
    peer_stop(&p);
}

Test(ports, a_closed_socket_gives_its_port_back)
{
    struct peer p;
    uint32_t s;

    peer_start(&p, NULL);
    s = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, s, 80), 0);
    app_close(&p.h, s);
    s = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, s, 80), 0);
    cr_assert_eq(app_listen(&p.h, s, 1), 0);
    app_close(&p.h, s);
    cr_assert_eq(app_bind(&p.h, app_socket(&p.h, SG_SOCK_STREAM), 80), 0);
    peer_stop(&p);
}

Test(ports, two_may_share_with_reuseaddr_but_only_one_listens)
{
    struct peer p;
    uint32_t a, b;

    peer_start(&p, NULL);
    a = app_socket(&p.h, SG_SOCK_STREAM);
    b = app_socket(&p.h, SG_SOCK_STREAM);
    reuse(&p, a, true);
    cr_assert_eq(app_bind(&p.h, a, 80), 0);
    cr_assert_eq(app_bind(&p.h, b, 80), -EADDRINUSE, "both must ask for it");
    reuse(&p, b, true);
    cr_assert_eq(app_bind(&p.h, b, 80), 0);
    cr_assert_eq(app_listen(&p.h, a, 1), 0);
    cr_assert_eq(app_listen(&p.h, b, 1), -EADDRINUSE);
    b = app_socket(&p.h, SG_SOCK_STREAM);
    reuse(&p, b, true);
    cr_assert_eq(app_bind(&p.h, b, 80), -EADDRINUSE, "a listener does not share");
    peer_stop(&p);
}

/* The server's restart: its old connection is in TIME_WAIT. */
Test(ports, time_wait_gives_way_to_reuseaddr_only)
{
    struct peer p;
    uint32_t s;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.listener);
    app_close(&p.h, p.slot);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_drain(&p);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    s = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, s, HOST_PORT), -EADDRINUSE);
    reuse(&p, s, true);
    cr_assert_eq(app_bind(&p.h, s, HOST_PORT), 0);
    cr_assert_eq(app_listen(&p.h, s, 1), 0);
    app_close(&p.h, s);
    peer_wait(&p, 61000000);
    cr_assert_eq(app_bind(&p.h, app_socket(&p.h, SG_SOCK_STREAM), HOST_PORT), 0, "and is over after 60 s");
    peer_stop(&p);
}

Test(ports, a_live_connection_of_a_closed_listener_holds_the_port)
{
    struct peer p;
    uint32_t s;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.listener);
    s = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, s, HOST_PORT), -EADDRINUSE);
    reuse(&p, s, true);
    cr_assert_eq(app_bind(&p.h, s, HOST_PORT), -EADDRINUSE, "the connection's socket did not allow it");
    reuse(&p, p.slot, true);
    cr_assert_eq(app_bind(&p.h, s, HOST_PORT), 0);
    peer_stop(&p);
}

Test(ports, port_zero_chooses_one_in_the_range)
{
    struct peer p;
    uint16_t seen[4] = {0};

    peer_start(&p, few_ports);
    for (unsigned i = 0; i < 4; i++) {
        uint32_t s = app_socket(&p.h, SG_SOCK_STREAM);

        cr_assert_eq(app_bind(&p.h, s, 0), 0);
        seen[i] = p.h.slots[s].n.local_port;
        cr_assert(seen[i] >= 50000 && seen[i] <= 50003);
        for (unsigned k = 0; k < i; k++)
            cr_assert_neq(seen[i], seen[k]);
    }
    cr_assert_eq(app_bind(&p.h, app_socket(&p.h, SG_SOCK_STREAM), 0), -EADDRINUSE);
    peer_stop(&p);
}

Test(ports, connect_runs_out_of_ports_for_one_destination_only)
{
    struct peer p;
    uint32_t first = 0;

    peer_start(&p, few_ports);
    for (unsigned i = 0; i < 4; i++) {
        uint32_t s = app_socket(&p.h, SG_SOCK_STREAM);

        cr_assert_eq(app_connect(&p.h, s, 1, 7), 0);
        first = first ? first : s;
    }
    cr_assert_eq(app_connect(&p.h, app_socket(&p.h, SG_SOCK_STREAM), 1, 7), -EADDRNOTAVAIL);
    cr_assert_eq(app_connect(&p.h, app_socket(&p.h, SG_SOCK_STREAM), 1, 8), 0, "another destination");
    app_close(&p.h, first);
    cr_assert_eq(app_connect(&p.h, app_socket(&p.h, SG_SOCK_STREAM), 1, 7), 0, "one came free");
    peer_stop(&p);
}

Test(ports, ephemeral_ports_differ_by_destination)
{
    struct peer p;
    unsigned steps = 0;
    uint16_t last = 0;

    peer_start(&p, NULL);
    for (uint16_t i = 0; i < 50; i++) {
        uint32_t s = app_socket(&p.h, SG_SOCK_STREAM);

        cr_assert_eq(app_connect(&p.h, s, 1, (uint16_t)(1000 + i)), 0);
        steps += p.h.slots[s].n.local_port == (uint16_t)(last + 1);
        last = p.h.slots[s].n.local_port;
    }
    cr_assert_leq(steps, 2, "RFC 6056: an observer of one destination must not guess the next");
    peer_stop(&p);
}

Test(ports, a_bound_socket_connects_from_its_port)
{
    struct peer p;
    uint32_t a, b;

    peer_start(&p, NULL);
    a = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, a, 4000), 0);
    cr_assert_eq(app_connect(&p.h, a, 1, 7), 0);
    cr_assert_eq(p.h.slots[a].n.local_port, 4000);
    reuse(&p, a, true);
    b = app_socket(&p.h, SG_SOCK_STREAM);
    reuse(&p, b, true);
    cr_assert_eq(app_bind(&p.h, b, 4000), 0);
    cr_assert_eq(app_connect(&p.h, b, 1, 7), -EADDRNOTAVAIL, "the same four numbers twice");
    cr_assert_eq(app_connect(&p.h, b, 1, 8), 0);
    peer_stop(&p);
}

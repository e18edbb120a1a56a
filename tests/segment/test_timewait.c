/* SPDX-License-Identifier: Apache-2.0 */
/* TIME_WAIT: RFC 9293 3.6.1, RFC 1337, RFC 6191. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

static const struct peer_opts with_ts = {.mss = 1460, .sack = true, .ts = true, .wnd = 65535};

static void few(struct engine_config *cfg)
{
    cfg->tw_max = 4;
}

/* A connection from this port, opened and closed by us. */
static void pass_through(struct peer *p, uint16_t port)
{
    int64_t s;

    p->peer_port = port;
    seg_send(p, (struct seg){.flags = TCP_SYN});
    seg_expect(p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    s = app_accept(&p->h, p->listener);
    cr_assert_gt(s, 0);
    app_close(&p->h, (uint32_t)s);
    seg_expect(p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    seg_send(p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_expect(p, .flags = TCP_ACK, .seq = 2, .ack = 2);
}

static void enter(struct peer *p, const struct peer_opts *o)
{
    peer_established_opts(p, o);
    app_close(&p->h, p->slot);
    seg_drain(p);
    seg_send(p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_drain(p);
    cr_assert_str_eq(peer_state(p), "TIME_WAIT");
}

static const struct peer_opts plain = {.mss = 1460, .sack = true, .wnd = 65535};

Test(timewait, lasts_sixty_seconds)
{
    struct peer p;

    peer_start(&p, NULL);
    enter(&p, &plain);
    peer_wait(&p, 59000000);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_wait(&p, 1100000);
    cr_assert_str_eq(peer_state(&p), "");
    seg_none(&p);
    peer_stop(&p);
}

Test(timewait, the_oldest_goes_when_there_are_too_many)
{
    struct peer p;
    struct engine_sock_info info;
    uint64_t cursor = 0;
    bool seen[6] = {false};

    peer_start(&p, few);
    peer_listen(&p, 8);
    for (uint16_t i = 0; i < 6; i++) {
        pass_through(&p, (uint16_t)(40000 + i));
        peer_wait(&p, 1000);
    }
    cr_assert_eq(host_count(&p.h, "TIME_WAIT"), 4);
    while (engine_sock_next(p.h.e, &cursor, p.h.now_us, &info))
        if (info.kind == ENGINE_SOCK_TW)
            seen[info.remote.port - 40000] = true;
    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq(seen[i], i >= 2, "port %u", 40000 + i);
    cr_assert_eq(host_counter(&p.h, "TcpTWOverflow"), 2);
    peer_stop(&p);
}

Test(timewait, a_connection_slot_is_not_held)
{
    struct peer p;
    struct engine_session_use use;

    peer_start(&p, NULL);
    enter(&p, &plain);
    engine_session_use(p.h.e, p.h.sid, &use);
    cr_assert_eq(use.orphans, 0);
    cr_assert_eq(use.sockets, 1, "the listener");
    peer_stop(&p);
}

Test(timewait, an_old_syn_is_answered_with_an_ack)
{
    struct peer p;

    peer_start(&p, NULL);
    enter(&p, &plain);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 0}); /* a late duplicate of the first */
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_stop(&p);
}

Test(timewait, a_syn_with_a_later_timestamp_opens_even_below_the_old_numbers)
{
    struct peer p;

    peer_start(&p, NULL);
    enter(&p, &with_ts);
    p.h.now_us += 2000000;
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = (uint32_t)-100000}); /* RFC 6191 2 */
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = (uint32_t)-99999);
    peer_stop(&p);
}

Test(timewait, a_syn_with_an_older_timestamp_does_not)
{
    struct peer p;

    peer_start(&p, NULL);
    enter(&p, &with_ts);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 100000, .tsval = 1, .tsecr = 0});
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_stop(&p);
}

Test(timewait, data_is_answered_and_not_taken)
{
    struct peer p;

    peer_start(&p, NULL);
    enter(&p, &plain);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2, .ack = 2, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    peer_stop(&p);
}

Test(timewait, a_plain_ack_is_not_answered)
{
    struct peer p;

    peer_start(&p, NULL);
    enter(&p, &plain);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2, .ack = 2}); /* else two of them would never stop */
    seg_none(&p);
    peer_stop(&p);
}

Test(timewait, a_syn_without_a_listener_is_reset)
{
    struct peer p;

    peer_start(&p, NULL);
    enter(&p, &plain);
    app_close(&p.h, p.listener);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 5000});
    seg_expect(&p, .flags = TCP_RST | TCP_ACK, .ack = 5001);
    peer_stop(&p);
}

Test(timewait, connecting_from_the_same_port_is_refused)
{
    struct peer p;
    uint32_t s;

    peer_start(&p, NULL);
    peer_connected(&p);
    app_close(&p.h, p.slot);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_drain(&p);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    s = app_socket(&p.h, SG_SOCK_STREAM);
    engine_setopt(p.h.e, p.h.sid, s, 1, 2, 1, p.h.now_us);
    cr_assert_eq(app_bind(&p.h, s, p.host_port), 0);
    cr_assert_eq(app_connect(&p.h, s, 1, PEER_PORT), -EADDRNOTAVAIL);
    peer_stop(&p);
}

/* RFC 1337 3: an old duplicate, or an attacker, must not cut it short. */
Test(timewait, a_reset_is_ignored)
{
    struct peer p;

    peer_start(&p, NULL);
    enter(&p, &plain);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 2});
    seg_send(&p, (struct seg){.flags = TCP_RST | TCP_ACK, .seq = 2, .ack = 2});
    seg_none(&p);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_stop(&p);
}

static void one_port(struct engine_config *cfg)
{
    cfg->port_min = cfg->port_max = 50000;
}

static void two_ports(struct engine_config *cfg)
{
    cfg->port_min = 50000;
    cfg->port_max = 50001;
}

static void one_port_never(struct engine_config *cfg)
{
    one_port(cfg);
    cfg->tw_reuse = ENGINE_NEVER;
}

/* We connected, closed first, and are in TIME_WAIT. */
static void connect_and_close(struct peer *p, bool ts)
{
    peer_connecting(p);
    p->ts = ts;
    seg_send(p, (struct seg){.flags = TCP_SYN | TCP_ACK, .seq = 0, .ack = 1, .mss = 1460});
    seg_expect(p, .flags = TCP_ACK, .seq = 1, .ack = 1);
    app_close(&p->h, p->slot);
    seg_drain(p);
    seg_send(p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_drain(p);
    cr_assert_str_eq(peer_state(p), "TIME_WAIT");
}

static int connect_again(struct peer *p)
{
    return app_connect(&p->h, app_socket(&p->h, SG_SOCK_STREAM), 1, PEER_PORT);
}

/* RFC 6191 4, as Linux's tcp_tw_reuse: when ports are short, and the timestamp clock has moved on. */
Test(timewait, an_outgoing_connection_takes_it_over_after_a_second)
{
    struct peer p;
    uint32_t old_nxt;

    peer_start(&p, one_port);
    connect_and_close(&p, true);
    old_nxt = p.host_isn + 2;
    p.h.now_us += 900000;
    cr_assert_eq(connect_again(&p), -EADDRNOTAVAIL, "too early");
    p.h.now_us += 200000;
    cr_assert_eq(connect_again(&p), 0);
    seg_expect(&p, .flags = TCP_SYN);
    cr_assert_gt((int32_t)(p.host_isn - old_nxt), 65535, "above what the old one sent");
    cr_assert_eq(host_count(&p.h, "TIME_WAIT"), 0);
    cr_assert_eq(host_counter(&p.h, "TcpTWRecycled"), 1);
    peer_stop(&p);
}

Test(timewait, without_timestamps_an_outgoing_connection_waits)
{
    struct peer p;

    peer_start(&p, one_port);
    connect_and_close(&p, false);
    p.h.now_us += 30000000;
    cr_assert_eq(connect_again(&p), -EADDRNOTAVAIL);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    peer_stop(&p);
}

Test(timewait, taking_over_can_be_forbidden)
{
    struct peer p;

    peer_start(&p, one_port_never);
    connect_and_close(&p, true);
    p.h.now_us += 30000000;
    cr_assert_eq(connect_again(&p), -EADDRNOTAVAIL);
    peer_stop(&p);
}

/* The other ports come first: what is quiet stays quiet while there is choice. */
Test(timewait, a_free_port_is_preferred)
{
    struct peer p;

    peer_start(&p, two_ports);
    connect_and_close(&p, true);
    p.h.now_us += 2000000;
    cr_assert_eq(connect_again(&p), 0);
    cr_assert_eq(host_count(&p.h, "TIME_WAIT"), 1);
    cr_assert_eq(connect_again(&p), 0, "the last one is taken over");
    cr_assert_eq(host_count(&p.h, "TIME_WAIT"), 0);
    cr_assert_eq(connect_again(&p), -EADDRNOTAVAIL);
    peer_stop(&p);
}

/* RFC 9293 3.10.7.4, fifth: if the ACK bit is off, drop the segment; but first, the sequence number. */
Test(timewait, without_ack_only_what_is_outside_the_window_is_answered)
{
    struct peer p;

    peer_start(&p, NULL);
    enter(&p, &plain);
    seg_send(&p, (struct seg){.flags = TCP_FIN, .seq = 2});
    seg_send(&p, (struct seg){.seq = 2, .len = 10});
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN, .seq = 1});
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    peer_stop(&p);
}

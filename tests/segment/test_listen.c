/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners: RFC 9293 3.10.7.2, RFC 4987; queues with limits. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

/* Complete a handshake from this port; true when the host answered the SYN. */
static bool open_from(struct peer *p, uint16_t port)
{
    p->peer_port = port;
    seg_send(p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    if (!engine_tx_pending(p->h.e))
        return false;
    seg_expect(p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    return true;
}

static void listen_as(struct peer *p, uint32_t backlog, uint32_t overflow)
{
    p->listener = app_socket(&p->h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p->h, p->listener, HOST_PORT), 0);
    cr_assert_eq(engine_listen(p->h.e, p->h.sid, p->listener, backlog, overflow), 0);
}

Test(listen, backlog_is_exactly_what_was_asked_and_at_least_one)
{
    static const uint32_t asked[] = {0, 1, 2, 5, 100};

    for (unsigned i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        struct peer p;
        uint32_t want = asked[i] ? asked[i] : 1;

        peer_start(&p, NULL);
        listen_as(&p, asked[i], SG_OVERFLOW_DROP);
        for (uint32_t k = 0; k < want + 3; k++)
            open_from(&p, (uint16_t)(PEER_PORT + k));
        cr_assert_eq(host_count(&p.h, "ESTABLISHED"), want, "backlog %u: %u", asked[i],
                     host_count(&p.h, "ESTABLISHED"));
        for (uint32_t k = 0; k < want; k++)
            cr_assert_gt(app_accept(&p.h, p.listener), 0);
        cr_assert_eq(app_accept(&p.h, p.listener), -EAGAIN);
        peer_stop(&p);
    }
}

Test(listen, an_absurd_backlog_allocates_nothing_and_is_cut)
{
    struct peer p;
    struct engine_sock_info info;

    peer_start(&p, NULL);
    listen_as(&p, UINT32_MAX, SG_OVERFLOW_DROP);
    cr_assert(host_find(&p.h, "LISTEN", &info));
    cr_assert_leq(info.tx_queue, 4096);
    peer_stop(&p);
}

Test(listen, accept_makes_room)
{
    struct peer p;

    peer_start(&p, NULL);
    listen_as(&p, 1, SG_OVERFLOW_DROP);
    cr_assert(open_from(&p, 40000));
    cr_assert_not(open_from(&p, 40001));
    cr_assert_gt(app_accept(&p.h, p.listener), 0);
    cr_assert(open_from(&p, 40001));
    cr_assert_eq(host_count(&p.h, "ESTABLISHED"), 2);
    peer_stop(&p);
}

Test(listen, connections_are_accepted_in_the_order_they_came)
{
    struct peer p;

    peer_start(&p, NULL);
    listen_as(&p, 8, SG_OVERFLOW_DROP);
    for (uint16_t i = 0; i < 5; i++)
        cr_assert(open_from(&p, (uint16_t)(40000 + i)));
    for (uint16_t i = 0; i < 5; i++) {
        int64_t s = app_accept(&p.h, p.listener);

        cr_assert_eq(p.h.slots[s].n.remote_port, 40000 + i);
    }
    peer_stop(&p);
}

Test(listen, overflow_may_answer_with_reset)
{
    struct peer p;

    peer_start(&p, NULL);
    listen_as(&p, 1, SG_OVERFLOW_RESET);
    cr_assert(open_from(&p, 40000));
    p.peer_port = 40001;
    seg_send(&p, (struct seg){.flags = TCP_SYN});
    seg_expect(&p, .flags = TCP_RST | TCP_ACK, .ack = 1);
    cr_assert_eq(host_counter(&p.h, "TcpListenOverflows"), 1);
    peer_stop(&p);
}

Test(listen, a_handshake_that_completes_when_the_queue_is_full_is_retried)
{
    struct peer p;

    peer_start(&p, NULL);
    listen_as(&p, 1, SG_OVERFLOW_DROP);
    for (uint16_t i = 0; i < 2; i++) { /* two half-open ones, room for one */
        p.peer_port = (uint16_t)(40000 + i);
        seg_send(&p, (struct seg){.flags = TCP_SYN});
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
        if (i == 0) {
            uint32_t isn = p.host_isn;

            p.peer_port = 40002;
            seg_send(&p, (struct seg){.flags = TCP_SYN});
            seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
            cr_assert_eq(host_count(&p.h, "ESTABLISHED"), 1);
            p.peer_port = 40000;
            p.host_isn = isn;
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
            cr_assert_eq(host_count(&p.h, "ESTABLISHED"), 1);
            cr_assert_eq(host_count(&p.h, "SYN_RECEIVED"), 1);
            cr_assert_gt(app_accept(&p.h, p.listener), 0);
            /* The peer's first data says again what its lost ACK said. */
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
            cr_assert_eq(host_count(&p.h, "ESTABLISHED"), 2);
            break;
        }
    }
    peer_stop(&p);
}

Test(listen, a_flood_of_syns_is_bounded_and_harms_no_connection)
{
    struct peer p;
    uint32_t seq = 1;
    unsigned reqs;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t i = 0; i < 5000; i++) {
        p.peer_port = (uint16_t)(1000 + i);
        if (p.peer_port == PEER_PORT)
            continue;
        seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 0});
        while (host_tx(&p.h))
            ;
    }
    reqs = host_count(&p.h, "SYN_RECEIVED");
    cr_assert(reqs >= 200 && reqs <= p.h.cfg.req_max, "%u half-open", reqs);
    p.peer_port = PEER_PORT;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 1000});
    cr_assert_eq(peer_read_all(&p, &seq), 1000);
    peer_write(&p, 500);
    {
        struct seg s;

        do
            s = seg_take(&p);
        while (s.len == 0);
        cr_assert_eq(s.len, 500);
    }
    peer_wait(&p, 130000000); /* and it all goes away */
    cr_assert_eq(host_count(&p.h, "SYN_RECEIVED"), 0);
    peer_stop(&p);
}

Test(listen, close_resets_those_that_wait)
{
    struct peer p;

    peer_start(&p, NULL);
    listen_as(&p, 8, SG_OVERFLOW_DROP);
    cr_assert(open_from(&p, 40000));
    p.peer_port = 40001; /* half-open */
    seg_send(&p, (struct seg){.flags = TCP_SYN});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    cr_assert_eq(app_close(&p.h, p.listener), 0);
    seg_expect(&p, .flags = TCP_RST | TCP_ACK);
    seg_none(&p);
    cr_assert_eq(host_count(&p.h, "ESTABLISHED") + host_count(&p.h, "SYN_RECEIVED"), 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_expect(&p, .flags = TCP_RST, .seq = 1);
    peer_stop(&p);
}

Test(listen, a_connection_that_was_reset_in_the_queue_is_accepted_and_reports_it)
{
    struct peer p;
    char b;

    peer_start(&p, NULL);
    listen_as(&p, 8, SG_OVERFLOW_DROP);
    cr_assert(open_from(&p, 40000));
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    cr_assert_gt((int)p.slot, 0);
    cr_assert_eq(app_recv(&p.h, p.slot, &b, 1), -ECONNRESET);
    app_close(&p.h, p.slot);
    peer_stop(&p);
}

Test(listen, options_are_inherited)
{
    struct peer p;
    uint64_t v;

    peer_start(&p, NULL);
    listen_as(&p, 8, SG_OVERFLOW_DROP);
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.listener, 6, 1, 1, p.h.now_us), 0);    /* TCP_NODELAY */
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.listener, 1, 9, 1, p.h.now_us), 0);    /* SO_KEEPALIVE */
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.listener, 6, 4, 77, p.h.now_us), 0);   /* TCP_KEEPIDLE */
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.listener, 1, 8, 8192, p.h.now_us), 0); /* SO_RCVBUF */
    cr_assert(open_from(&p, 40000));
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    cr_assert(engine_getopt(p.h.e, p.h.sid, p.slot, 6, 1, &v) == 0 && v == 1);
    cr_assert(engine_getopt(p.h.e, p.h.sid, p.slot, 1, 9, &v) == 0 && v == 1);
    cr_assert(engine_getopt(p.h.e, p.h.sid, p.slot, 6, 4, &v) == 0 && v == 77);
    cr_assert(engine_getopt(p.h.e, p.h.sid, p.slot, 1, 8, &v) == 0 && v == 8192);
    peer_stop(&p);
}

Test(listen, segments_that_open_nothing)
{
    struct peer p;

    peer_start(&p, NULL);
    listen_as(&p, 8, SG_OVERFLOW_DROP);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 5});
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 5, .ack = 9});
    seg_expect(&p, .flags = TCP_RST, .seq = 9);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .seq = 5, .ack = 9});
    seg_expect(&p, .flags = TCP_RST, .seq = 9);
    seg_send(&p, (struct seg){.flags = TCP_FIN, .seq = 5});
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_RST, .seq = 5});
    seg_none(&p);
    cr_assert_eq(host_count(&p.h, "SYN_RECEIVED"), 0);
    peer_stop(&p);
}

Test(listen, an_unacceptable_first_segment_leaves_no_half_made_connection)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + 65535, .ack = 1, .len = 1});
    seg_drain(&p);
    cr_assert_eq(app_accept(&p.h, p.listener), -EAGAIN);
    peer_wait(&p, 200000000);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

static void defer(struct peer *p, uint64_t seconds)
{
    listen_as(p, 8, SG_OVERFLOW_DROP);
    cr_assert_eq(engine_setopt(p->h.e, p->h.sid, p->listener, 6, 9, seconds, p->h.now_us), 0);
    seg_send(p, (struct seg){.flags = TCP_SYN});
    seg_expect(p, .flags = TCP_SYN | TCP_ACK);
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
}

/* TCP_DEFER_ACCEPT: the application is not woken for a connection that says nothing yet. */
Test(listen, defer_accept_waits_for_data)
{
    struct peer p;

    peer_start(&p, NULL);
    defer(&p, 3);
    cr_assert_eq(app_accept(&p.h, p.listener), -EAGAIN);
    cr_assert_eq(host_counter(&p.h, "TcpDeferAcceptDrop"), 1);
    peer_wait(&p, 900000);
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    cr_assert_gt(app_accept(&p.h, p.listener), 0);
    peer_stop(&p);
}

/* No SYN-ACK while it waits; when the time is over there is one, and its answer opens. */
Test(listen, defer_accept_ends_with_another_syn_ack)
{
    struct peer p;
    uint64_t us;

    peer_start(&p, NULL);
    defer(&p, 3); /* two SYN-ACKs: 1 s, 2 s */
    us = peer_wait_tx(&p, 20000000);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    cr_assert(us > 2900000 && us < 3200000, "%lu us", (unsigned long)us);
    cr_assert_eq(app_accept(&p.h, p.listener), -EAGAIN);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    cr_assert_gt(app_accept(&p.h, p.listener), 0);
    peer_stop(&p);
}

Test(listen, a_fin_needs_no_data_to_be_accepted)
{
    struct peer p;

    peer_start(&p, NULL);
    defer(&p, 3);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 1});
    cr_assert_gt(app_accept(&p.h, p.listener), 0);
    peer_stop(&p);
}

Test(listen, defer_accept_is_read_back_in_seconds)
{
    struct peer p;
    uint64_t v;

    peer_start(&p, NULL);
    listen_as(&p, 8, SG_OVERFLOW_DROP);
    cr_assert(engine_getopt(p.h.e, p.h.sid, p.listener, 6, 9, &v) == 0 && v == 0);
    engine_setopt(p.h.e, p.h.sid, p.listener, 6, 9, 1, p.h.now_us);
    cr_assert(engine_getopt(p.h.e, p.h.sid, p.listener, 6, 9, &v) == 0 && v == 1);
    engine_setopt(p.h.e, p.h.sid, p.listener, 6, 9, 5, p.h.now_us); /* 1 + 2 + 4 */
    cr_assert(engine_getopt(p.h.e, p.h.sid, p.listener, 6, 9, &v) == 0 && v == 7);
    peer_stop(&p);
}

/* RFC 1122 4.2.3.5: SYN-ACKs are given up, sooner where the socket says so. */
Test(listen, syn_count_limits_the_syn_acks)
{
    struct peer p;
    unsigned n = 0;

    peer_start(&p, NULL);
    listen_as(&p, 8, SG_OVERFLOW_DROP);
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.listener, 6, 7, 2, p.h.now_us), 0);
    seg_send(&p, (struct seg){.flags = TCP_SYN});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    while (peer_wait_tx(&p, 100000000) < 100000000) {
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
        n++;
    }
    cr_assert_eq(n, 2);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides open at the same time: RFC 9293 3.5 figure 8, 3.10.4, 3.10.7.4. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

/* SYN_RCVD that did not come through a listener. */
static void syn_received(struct peer *p)
{
    peer_connecting(p);
    seg_send(p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    seg_expect(p, .flags = TCP_SYN | TCP_ACK, .check = C_SEQ, .ack = 1);
}

Test(simultaneous, a_syn_ack_establishes)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = 1460});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    cr_assert_eq(peer_read_all(&p, &seq), 10);
    peer_stop(&p);
}

Test(simultaneous, a_plain_ack_establishes)
{
    struct peer p;

    peer_start(&p, NULL);
    syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    cr_assert(app_connected(&p.h, p.slot));
    peer_stop(&p);
}

Test(simultaneous, the_syn_ack_is_sent_again_and_given_up)
{
    struct peer p;

    peer_start(&p, NULL);
    syn_received(&p);
    peer_wait_tx(&p, 10000000);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .check = C_SEQ, .ack = 1);
    for (int i = 0; i < 20 && !app_error(&p.h, p.slot); i++) {
        peer_wait_tx(&p, 200000000);
        seg_drain(&p);
    }
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    peer_stop(&p);
}

Test(simultaneous, the_application_may_leave_before_it_is_complete)
{
    for (int how = 0; how < 3; how++) {
        struct peer p;

        peer_start(&p, NULL);
        syn_received(&p);
        if (how == 0)
            app_close(&p.h, p.slot);
        else if (how == 1)
            (void)app_shutdown(&p.h, p.slot, SG_SHUT_WR);
        else
            engine_session_end(p.h.e, p.h.sid, p.h.now_us);
        seg_drain(&p);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
        seg_drain(&p);
        cr_assert_null(engine_check(p.h.e), "%s", engine_check(p.h.e));
        for (int i = 0; i < 60; i++) {
            peer_wait(&p, 10000000);
            seg_drain(&p);
        }
        cr_assert_null(engine_check(p.h.e), "%s", engine_check(p.h.e));
        peer_stop(&p);
    }
}

/* Hand over what `a` has to say. */
static unsigned pump(struct host *a, struct host *b)
{
    struct pktbuf *f;
    unsigned n = 0;

    while ((f = host_tx(a))) {
        uint8_t buf[2048];
        size_t len = host_linear(f, buf, sizeof(buf));
        struct pktbuf q = *f;

        q.data = buf;
        q.len = q.total = (uint32_t)len;
        host_rx(b, &q);
        n++;
    }
    return n;
}

Test(simultaneous, two_hosts_come_to_rest_and_are_connected)
{
    struct host h[2];
    struct engine_config cfg;
    uint32_t s[2];
    unsigned frames = 0, turns;

    for (unsigned i = 0; i < 2; i++) {
        host_config(&cfg, (uint8_t)(1 + i));
        host_start(&h[i], &cfg, 1000000);
        s[i] = app_socket(&h[i], SG_SOCK_STREAM);
        cr_assert_eq(app_bind(&h[i], s[i], (uint16_t)(7000 + i)), 0);
        (void)host_tx(&h[i]);
    }
    /* A datagram each way, so that each knows the other's address. */
    for (unsigned i = 0; i < 2; i++) {
        uint32_t u = app_socket(&h[i], SG_SOCK_DGRAM);

        app_sendto(&h[i], u, "x", 1, (uint8_t)(2 - i), 9);
    }
    while (pump(&h[0], &h[1]) + pump(&h[1], &h[0]))
        ;
    cr_assert_eq(app_connect(&h[0], s[0], 2, 7001), 0);
    cr_assert_eq(app_connect(&h[1], s[1], 1, 7000), 0);
    /* The two SYNs cross. */
    {
        uint8_t a[2048], b[2048];
        struct pktbuf *f = host_tx(&h[0]), qa, qb;

        cr_assert(f);
        qa = *f;
        qa.data = a;
        host_linear(f, a, sizeof(a));
        f = host_tx(&h[1]);
        cr_assert(f);
        qb = *f;
        qb.data = b;
        host_linear(f, b, sizeof(b));
        host_rx(&h[1], &qa);
        host_rx(&h[0], &qb);
    }
    for (turns = 0; turns < 1000; turns++) {
        unsigned n = pump(&h[0], &h[1]) + pump(&h[1], &h[0]);

        frames += n;
        if (!n)
            break;
    }
    cr_assert_lt(turns, 1000, "still talking after %u frames", frames);
    cr_assert(app_connected(&h[0], s[0]) && app_connected(&h[1], s[1]));
    host_stop(&h[0]);
    host_stop(&h[1]);
}

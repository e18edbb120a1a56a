/* SPDX-License-Identifier: Apache-2.0 */
/* Closed connections that still speak: limits, FIN_WAIT_2, retries (RFC 9293 3.6, 3.8.3; Linux's options). */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

#define TCP_SYNCNT  7u
#define TCP_LINGER2 8u

static void two_orphans(struct engine_config *cfg)
{
    cfg->orphan_max = 2;
}

static void few_bytes(struct engine_config *cfg)
{
    cfg->orphan_bytes_max = 1500;
}

static void three_retries(struct engine_config *cfg)
{
    cfg->orphan_retries = 3;
}

/* A connection from this port that has sent `bytes` which nobody acknowledged. */
static uint32_t busy(struct peer *p, uint16_t port, uint32_t bytes)
{
    int64_t s;

    p->peer_port = port;
    seg_send(p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    seg_expect(p, .flags = TCP_SYN | TCP_ACK);
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    s = app_accept(&p->h, p->listener);
    cr_assert_gt(s, 0);
    p->slot = (uint32_t)s;
    peer_write(p, bytes);
    seg_expect(p, .flags = TCP_ACK, .len = bytes);
    return p->slot;
}

Test(orphan, one_more_than_the_limit_is_reset)
{
    struct peer p;

    peer_start(&p, two_orphans);
    peer_listen(&p, 8);
    for (uint16_t i = 0; i < 2; i++) {
        app_close(&p.h, busy(&p, (uint16_t)(40000 + i), 100));
        seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 101);
    }
    app_close(&p.h, busy(&p, 40002, 100));
    seg_expect(&p, .flags = TCP_RST | TCP_ACK, .seq = 101);
    cr_assert_eq(host_counter(&p.h, "TcpAbortOnMemory"), 1);
    cr_assert_eq(host_count(&p.h, "FIN_WAIT_1"), 2);
    peer_stop(&p);
}

Test(orphan, one_that_ends_makes_room)
{
    struct peer p;

    peer_start(&p, two_orphans);
    peer_listen(&p, 8);
    for (uint16_t i = 0; i < 10; i++) {
        app_close(&p.h, busy(&p, (uint16_t)(40000 + i), 100));
        seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 101);
        seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 102});
        seg_expect(&p, .flags = TCP_ACK, .seq = 102, .ack = 2);
    }
    cr_assert_eq(host_counter(&p.h, "TcpAbortOnMemory"), 0);
    cr_assert_eq(host_count(&p.h, "TIME_WAIT"), 10);
    peer_stop(&p);
}

Test(orphan, their_bytes_are_limited_together)
{
    struct peer p;

    peer_start(&p, few_bytes);
    peer_listen(&p, 8);
    app_close(&p.h, busy(&p, 40000, 1000));
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK);
    app_close(&p.h, busy(&p, 40001, 1000));
    seg_expect(&p, .flags = TCP_RST | TCP_ACK);
    cr_assert_eq(host_counter(&p.h, "TcpAbortOnMemory"), 1);
    peer_stop(&p);
}

Test(orphan, acknowledged_bytes_make_room)
{
    struct peer p;

    peer_start(&p, few_bytes);
    peer_listen(&p, 8);
    app_close(&p.h, busy(&p, 40000, 1000));
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 501});
    seg_drain(&p);
    app_close(&p.h, busy(&p, 40001, 1000));
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK);
    cr_assert_eq(host_counter(&p.h, "TcpAbortOnMemory"), 0);
    peer_stop(&p);
}

static void close_and_ack(struct peer *p)
{
    app_close(&p->h, p->slot);
    seg_expect(p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2});
}

Test(orphan, fin_wait_2_ends_after_the_default_time)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    close_and_ack(&p);
    peer_wait(&p, 59000000);
    cr_assert_str_eq(peer_state(&p), "FIN_WAIT_2");
    peer_wait(&p, 1100000);
    cr_assert_str_eq(peer_state(&p), "");
    seg_none(&p);
    peer_stop(&p);
}

Test(orphan, linger2_sets_the_time_in_fin_wait_2)
{
    struct peer p;
    uint64_t v;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.slot, 6, TCP_LINGER2, 5, p.h.now_us), 0);
    cr_assert(engine_getopt(p.h.e, p.h.sid, p.slot, 6, TCP_LINGER2, &v) == 0 && v == 5);
    close_and_ack(&p);
    peer_wait(&p, 4900000);
    cr_assert_str_eq(peer_state(&p), "FIN_WAIT_2");
    peer_wait(&p, 200000);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(orphan, linger2_below_zero_does_not_wait)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    engine_setopt(p.h.e, p.h.sid, p.slot, 6, TCP_LINGER2, (uint64_t)-1, p.h.now_us);
    close_and_ack(&p);
    seg_expect(&p, .flags = TCP_RST | TCP_ACK, .seq = 2);
    cr_assert_str_eq(peer_state(&p), "");
    cr_assert_eq(host_counter(&p.h, "TcpAbortOnLinger"), 1);
    peer_stop(&p);
}

/* The same when shutdown() came first, so that close() meets FIN_WAIT_2. */
Test(orphan, linger2_counts_when_the_fin_was_acknowledged_before_close)
{
    struct peer p;

    for (int how = 0; how < 2; how++) {
        peer_start(&p, NULL);
        peer_established(&p);
        engine_setopt(p.h.e, p.h.sid, p.slot, 6, TCP_LINGER2, how ? 3 : (uint64_t)-1, p.h.now_us);
        app_shutdown(&p.h, p.slot, SG_SHUT_WR);
        seg_expect(&p, .flags = TCP_FIN | TCP_ACK);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2});
        cr_assert_str_eq(peer_state(&p), "FIN_WAIT_2");
        peer_wait(&p, 300000000);
        cr_assert_str_eq(peer_state(&p), "FIN_WAIT_2", "no limit while the application holds it");
        app_close(&p.h, p.slot);
        if (how) {
            seg_none(&p);
            peer_wait(&p, 3100000);
        } else {
            seg_expect(&p, .flags = TCP_RST | TCP_ACK, .seq = 2);
        }
        cr_assert_str_eq(peer_state(&p), "");
        peer_stop(&p);
    }
}

/* RFC 1122 4.2.3.5: an orphan gives up sooner than a connection somebody waits for. */
Test(orphan, retries_are_limited)
{
    struct peer p;
    unsigned n = 0;

    peer_start(&p, three_retries);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK);
    while (peer_wait_tx(&p, 600000000) < 600000000) {
        seg_take(&p);
        n++;
    }
    cr_assert_eq(n, 4, "%u: a loss probe and three retransmissions", n);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(orphan, syn_count_limits_the_syns)
{
    struct peer p;
    unsigned n = 1;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.slot, 6, TCP_SYNCNT, 0, p.h.now_us), -EINVAL);
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.slot, 6, TCP_SYNCNT, 128, p.h.now_us), -EINVAL);
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.slot, 6, TCP_SYNCNT, 3, p.h.now_us), 0);
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), 0);
    seg_expect(&p, .flags = TCP_SYN);
    while (peer_wait_tx(&p, 100000000) < 100000000) {
        seg_expect(&p, .flags = TCP_SYN);
        n++;
    }
    cr_assert_eq(n, 4);
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    peer_stop(&p);
}

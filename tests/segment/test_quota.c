/* SPDX-License-Identifier: Apache-2.0 */
/* A session's quotas, and pools that run out: refused or dropped, recovered later, never fatal. */
#include <criterion/criterion.h>
#include <errno.h>

#include "daemon/engine/engine_int.h"
#include "tests/segment/peer.h"

/* The host of these tests grants everything; change what its session was given. */
static void limit(struct peer *p, uint64_t buffer_bytes, uint32_t sockets)
{
    struct session *ss = sock_session(p->h.e, p->h.sid);

    ss->v.buffer_bytes_max = buffer_bytes;
    ss->v.sockets_max = sockets;
}

static uint64_t held(struct peer *p)
{
    struct engine_session_use use;

    engine_session_use(p->h.e, p->h.sid, &use);
    return use.buffer_bytes;
}

Test(quota, sockets_are_refused_beyond_it)
{
    struct peer p;

    peer_start(&p, NULL);
    limit(&p, 1u << 20, 2);
    app_socket(&p.h, SG_SOCK_STREAM);
    app_socket(&p.h, SG_SOCK_DGRAM);
    cr_assert_eq(engine_open(p.h.e, p.h.sid, 9, SG_SOCK_STREAM, 0, SG_AF_INET), -EMFILE);
    cr_assert_eq(engine_open(p.h.e, p.h.sid, 9, SG_SOCK_DGRAM, 0, SG_AF_INET), -EMFILE);
    cr_assert_eq(host_counter(&p.h, "AppQuotaSockets"), 2);
    app_close(&p.h, 1);
    cr_assert_eq(engine_open(p.h.e, p.h.sid, 9, SG_SOCK_STREAM, 0, SG_AF_INET), 0);
    peer_stop(&p);
}

Test(quota, accept_beyond_it_leaves_the_connection_waiting)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    limit(&p, 1u << 20, 1);
    cr_assert_eq(app_accept(&p.h, p.listener), -EMFILE);
    cr_assert_eq(host_count(&p.h, "ESTABLISHED"), 1);
    limit(&p, 1u << 20, 2);
    cr_assert_gt(app_accept(&p.h, p.listener), 0);
    peer_stop(&p);
}

Test(quota, data_without_a_buffer_is_dropped_and_taken_when_it_comes_again)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    limit(&p, held(&p), 100);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_drain(&p);
    cr_assert_eq(peer_read_all(&p, &seq), 0);
    cr_assert_eq(host_counter(&p.h, "TcpRcvNoBuffer"), 1);
    limit(&p, 1u << 30, 100);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 101);
    cr_assert_eq(peer_read_all(&p, &seq), 100);
    peer_stop(&p);
}

Test(quota, a_fin_after_dropped_data_waits_for_it)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    limit(&p, held(&p), 100);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 1, .len = 100});
    seg_drain(&p);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    limit(&p, 1u << 30, 100);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_FIN, .seq = 1, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 102);
    cr_assert_eq(peer_read_all(&p, &seq), 100);
    cr_assert_str_eq(peer_state(&p), "CLOSE_WAIT");
    peer_stop(&p);
}

Test(quota, a_send_region_is_refused_and_granted_later)
{
    struct peer p;

    peer_start(&p, NULL);
    limit(&p, 0, 100);
    peer_established(&p);
    cr_assert_eq(app_send(&p.h, p.slot, "x", 1), -ENOBUFS);
    cr_assert_eq(engine_grant(p.h.e, p.h.sid, p.slot), -ENOBUFS);
    limit(&p, 1u << 30, 100);
    cr_assert_eq(engine_grant(p.h.e, p.h.sid, p.slot), 0);
    host_run(&p.h);
    peer_write(&p, 10);
    seg_expect(&p, .seq = 1, .len = 10);
    peer_stop(&p);
}

Test(quota, an_idle_connection_holds_no_receive_buffer)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(held(&p), 1u << 18, "the send region only");
    cr_assert_eq(engine_release(p.h.e, p.h.sid, p.slot), 0);
    cr_assert_eq(held(&p), 0);
    cr_assert_eq(engine_grant(p.h.e, p.h.sid, p.slot), 0);
    host_run(&p.h);
    peer_write(&p, 10);
    seg_expect(&p, .seq = 1, .len = 10);
    peer_stop(&p);
}

Test(quota, a_region_with_unacknowledged_data_is_not_released)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 10);
    seg_drain(&p);
    cr_assert_eq(engine_release(p.h.e, p.h.sid, p.slot), -EBUSY);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 11});
    cr_assert_eq(engine_release(p.h.e, p.h.sid, p.slot), 0);
    peer_stop(&p);
}

Test(quota, all_is_given_back)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_drain(&p);
    peer_read_all(&p, &seq);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 101, .ack = 2});
    seg_drain(&p);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    cr_assert_eq(held(&p), 0);
    peer_stop(&p);
}

/* ---- Pools of the engine ------------------------------------------------------------------------ */

/* Another connection from the same peer, one port up; p->slot is its slot then. */
static void second_connection(struct peer *p)
{
    p->peer_port++;
    seg_send(p, (struct seg){.flags = TCP_SYN});
    seg_expect(p, .flags = TCP_SYN | TCP_ACK);
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p->slot = (uint32_t)app_accept(&p->h, p->listener);
}

static void few_segments(struct engine_config *cfg)
{
    cfg->txseg_max = 3;
}

Test(pools, without_segment_records_sending_waits)
{
    struct peer p;
    uint32_t acked = 1;

    peer_start(&p, few_segments);
    peer_established(&p);
    peer_write(&p, 1460 * 8);
    while (acked < 1 + 1460 * 8) {
        struct seg s;

        cr_assert_lt(peer_wait_tx(&p, 10000000), 10000000, "stuck at %u", acked);
        s = seg_take(&p);
        if (s.seq + s.len > acked)
            acked = s.seq + s.len;
        p.h.now_us += 1000;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = acked});
    }
    peer_stop(&p);
}

static void one_flight(struct engine_config *cfg)
{
    cfg->flight_max = 1;
}

/* The second connection's data waits until the first one's is acknowledged, and goes out without a kick. */
Test(pools, without_flight_records_sending_waits)
{
    struct peer p;
    uint32_t isn;

    peer_start(&p, one_flight);
    peer_established(&p);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .len = 100);
    isn = p.host_isn;
    second_connection(&p);
    peer_write(&p, 100);
    seg_none(&p);
    cr_assert_geq(host_counter(&p.h, "TcpFlightEmpty"), 1);
    p.peer_port--;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101 + isn - p.host_isn});
    p.peer_port++;
    cr_assert_lt(peer_wait_tx(&p, 2000000), 2000000, "never sent");
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .len = 100);
    peer_stop(&p);
}

/* What lingers for an undo is taken away when a connection needs a record (and engine_check() sees it). */
Test(pools, a_lingering_flight_record_is_taken_back)
{
    struct peer p;

    peer_start(&p, one_flight);
    peer_established(&p);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .len = 100);
    peer_wait(&p, 3000000);
    cr_assert_geq(seg_drain(&p), 1);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101});
    second_connection(&p);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .len = 100);
    cr_assert_eq(host_counter(&p.h, "TcpFlightEmpty"), 0);
    peer_stop(&p);
}

static void one_reassembly(struct engine_config *cfg)
{
    cfg->reasm_max = 1;
}

/* While another connection holds the only record, a hole's far side counts as not received. */
Test(pools, without_reassembly_records_holes_are_sent_again)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, one_reassembly);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 100});
    second_connection(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_FIN, .seq = 101, .ack = 1, .len = 100});
    seg_drain(&p);
    cr_assert_geq(host_counter(&p.h, "TcpReasmEmpty"), 1);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 101);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_FIN, .seq = 101, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 202);
    cr_assert_eq(peer_read_all(&p, &seq), 200);
    peer_stop(&p);
}

static void few_ranges(struct engine_config *cfg)
{
    cfg->range_max = 2;
}

Test(pools, without_range_records_holes_are_sent_again)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, few_ranges);
    peer_established(&p);
    for (uint32_t i = 1; i <= 4; i++)
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + 200 * i, .ack = 1, .len = 100});
    seg_drain(&p);
    cr_assert_eq(host_counter(&p.h, "TcpOFODrop"), 2);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 1000});
    seg_drain(&p);
    cr_assert_eq(peer_read_all(&p, &seq), 1000);
    peer_stop(&p);
}

static void few_conns(struct engine_config *cfg)
{
    cfg->conn_max = 1; /* enough for one connection; the listener gives its record back */
}

Test(pools, without_connection_records_the_handshake_is_retried)
{
    struct peer p;
    uint32_t slot;

    peer_start(&p, few_conns);
    peer_established(&p);
    cr_assert_eq(engine_open(p.h.e, p.h.sid, 77, SG_SOCK_STREAM, 0, SG_AF_INET), -ENOBUFS);
    slot = p.slot;
    p.peer_port++;
    seg_send(&p, (struct seg){.flags = TCP_SYN});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    cr_assert_eq(app_accept(&p.h, p.listener), -EAGAIN);
    engine_setopt(p.h.e, p.h.sid, slot, 1, 13, 1, p.h.now_us); /* linger 0 */
    app_close(&p.h, slot);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 1});
    cr_assert_gt(app_accept(&p.h, p.listener), 0);
    peer_stop(&p);
}

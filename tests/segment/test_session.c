/* SPDX-License-Identifier: Apache-2.0 */
/* An application dies with connections in every state: reset or finished as a kernel would, nothing left. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

static struct engine_session_use use(struct peer *p)
{
    struct engine_session_use u;

    engine_session_use(p->h.e, p->h.sid, &u);
    return u;
}

static void die(struct peer *p)
{
    engine_session_end(p->h.e, p->h.sid, p->h.now_us);
}

/* Nothing is left of the session; then stops without ending it a second time. */
static void gone(struct peer *p)
{
    struct engine_session_use u = use(p);

    cr_assert(engine_session_idle(p->h.e, p->h.sid));
    cr_assert(u.sockets == 0 && u.orphans == 0 && u.buffer_bytes == 0, "%u sockets, %u orphans, %lu bytes",
              u.sockets, u.orphans, u.buffer_bytes);
    cr_assert_null(engine_check(p->h.e), "%s", engine_check(p->h.e));
    peer_stop(p);
}

Test(session, without_sockets_is_idle_at_once)
{
    struct peer p;

    peer_start(&p, NULL);
    die(&p);
    gone(&p);
}

Test(session, sockets_that_were_never_used_go)
{
    struct peer p;

    peer_start(&p, NULL);
    app_socket(&p.h, SG_SOCK_STREAM);
    app_bind(&p.h, app_socket(&p.h, SG_SOCK_STREAM), 80);
    app_bind(&p.h, app_socket(&p.h, SG_SOCK_DGRAM), 80);
    die(&p);
    seg_none(&p);
    gone(&p);
}

Test(session, listener_goes_and_its_port_is_free)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 4);
    die(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN});
    seg_expect(&p, .flags = TCP_RST | TCP_ACK);
    gone(&p);
}

Test(session, connections_not_yet_accepted_are_reset)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    die(&p);
    seg_expect(&p, .flags = TCP_RST | TCP_ACK, .seq = 1);
    gone(&p);
}

Test(session, half_open_requests_go)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    die(&p);
    peer_wait(&p, 5000000);
    seg_none(&p);
    gone(&p);
}

Test(session, connection_attempts_are_given_up)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    die(&p);
    peer_wait(&p, 10000000);
    seg_none(&p);
    gone(&p);
}

Test(session, simultaneous_open_is_reset_or_finished)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    seg_drain(&p);
    die(&p);
    peer_wait(&p, UINT64_C(600000000));
    seg_drain(&p);
    gone(&p);
}

Test(session, unread_data_means_reset)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    seg_drain(&p);
    die(&p);
    seg_expect(&p, .flags = TCP_RST | TCP_ACK, .seq = 1);
    gone(&p);
}

Test(session, what_was_written_is_delivered_before_the_fin)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 3000);
    die(&p);
    cr_assert_not(engine_session_idle(p.h.e, p.h.sid), "the bytes still lie in its memory");
    cr_assert_eq(use(&p).orphans, 1);
    cr_assert_eq(use(&p).sockets, 0);
    seg_expect(&p, .seq = 1, .len = 1460);
    seg_expect(&p, .seq = 1461, .len = 1460);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 2921, .len = 80);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 3002});
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 3002});
    seg_expect(&p, .flags = TCP_ACK, .ack = 2);
    gone(&p);
}

Test(session, data_lost_after_the_death_is_sent_again)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 100);
    die(&p);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1, .len = 100);
    peer_wait_tx(&p, 5000000);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1, .len = 100);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 102});
    seg_drain(&p);
    gone(&p);
}

Test(session, close_wait_sends_its_fin)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 1});
    seg_drain(&p);
    die(&p);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2, .ack = 2});
    gone(&p);
}

Test(session, closing_states_go_on)
{
    /* shutdown() first, then death: FIN_WAIT_1, FIN_WAIT_2 */
    for (int acked = 0; acked < 2; acked++) {
        struct peer p;

        peer_start(&p, NULL);
        peer_established(&p);
        app_shutdown(&p.h, p.slot, SG_SHUT_WR);
        seg_drain(&p);
        if (acked)
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2});
        die(&p);
        /* Once nothing of it is needed any more, the connection goes on alone. */
        cr_assert_eq(engine_session_idle(p.h.e, p.h.sid), acked);
        cr_assert_str_eq(peer_state(&p), acked ? "FIN_WAIT_2" : "FIN_WAIT_1");
        seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
        seg_expect(&p, .flags = TCP_ACK, .ack = 2);
        cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
        gone(&p);
    }
}

Test(session, a_silent_peer_does_not_keep_it_for_ever)
{
    static const uint32_t bytes[] = {0, 5000};

    for (int acked = 0; acked < 2; acked++)
        for (int i = 0; i < 2; i++) {
            struct peer p;

            peer_start(&p, NULL);
            peer_established(&p);
            if (bytes[i])
                peer_write(&p, bytes[i]);
            die(&p);
            seg_drain(&p);
            if (acked)
                seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2 + bytes[i]});
            for (int k = 0; k < 60; k++) {
                peer_wait(&p, 10000000);
                seg_drain(&p);
            }
            gone(&p);
        }
}

Test(session, many_connections_end_together)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 300);
    for (uint16_t i = 0; i < 200; i++) {
        p.peer_port = (uint16_t)(30000 + i);
        seg_send(&p, (struct seg){.flags = TCP_SYN});
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
        if (i & 1)
            cr_assert_gt(app_accept(&p.h, p.listener), 0);
        if (i & 2)
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
        seg_drain(&p);
    }
    die(&p);
    for (int k = 0; k < 70; k++) {
        peer_wait(&p, 10000000);
        seg_drain(&p);
    }
    gone(&p);
}

Test(session, a_slot_is_free_for_another_socket_after_close)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    cr_assert_not(engine_slot_used(p.h.e, p.h.sid, p.slot));
    cr_assert_eq(engine_open(p.h.e, p.h.sid, p.slot, SG_SOCK_STREAM, 0, SG_AF_INET), 0);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1}); /* ends the old one, not the new one */
    cr_assert(engine_slot_used(p.h.e, p.h.sid, p.slot));
    cr_assert_eq(app_error(&p.h, p.slot), 0);
    peer_stop(&p);
}

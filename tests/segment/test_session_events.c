/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions and their events: what one application may cost, and what is left of one that is gone. */
#include <criterion/criterion.h>

#include "tests/segment/peer.h"

/* An application that says it has seen every event and drains none must not fill the queue. */
Test(session_events, a_slot_is_queued_once_whatever_its_application_says)
{
    struct peer p;
    struct engine_event ev;
    unsigned n = 0;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t slot = p.slot;

        engine_kick(p.h.e, p.h.sid, &slot, 1, p.h.now_us);
        (void)engine_shutdown(p.h.e, p.h.sid, slot, SG_SHUT_RD, p.h.now_us); /* makes it dirty each time */
        engine_publish(p.h.e, p.h.now_us);
        p.h.slots[slot].a.ev_seen = p.h.slots[slot].d.ev_posted;
    }
    while (engine_event_next(p.h.e, &ev))
        n++;
    cr_assert_eq(n, 1);
    peer_stop(&p);
}

Test(session_events, a_deferred_event_comes_back_when_there_is_room)
{
    struct peer p;
    struct engine_event ev;
    uint32_t slots[3];

    peer_start(&p, NULL);
    for (unsigned i = 0; i < 3; i++)
        slots[i] = app_socket(&p.h, SG_SOCK_STREAM);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(
            engine_bind(p.h.e, p.h.sid, slots[i],
                        &(struct ip_ep){.addr = {.family = SG_AF_INET}, .port = (uint16_t)(100 + i)}),
            0);
        cr_assert_eq(engine_listen(p.h.e, p.h.sid, slots[i], 1, 0), 0);
    }
    engine_publish(p.h.e, p.h.now_us);
    while (engine_event_next(p.h.e, &ev))
        engine_event_defer(p.h.e, &ev);
    cr_assert_eq(engine_event_deferred(p.h.e, p.h.sid), 3);
    cr_assert(!engine_event_next(p.h.e, &ev), "a deferred event is not offered by itself");
    engine_event_retry(p.h.e, p.h.sid, 2);
    cr_assert_eq(engine_event_deferred(p.h.e, p.h.sid), 1);
    cr_assert(engine_event_next(p.h.e, &ev));
    cr_assert(engine_event_next(p.h.e, &ev));
    cr_assert(!engine_event_next(p.h.e, &ev));
    engine_event_retry(p.h.e, p.h.sid, 100);
    cr_assert(engine_event_next(p.h.e, &ev));
    cr_assert_eq(engine_event_deferred(p.h.e, p.h.sid), 0);
    peer_stop(&p);
}

/* Idle sockets must not use the quota up: it comes back when somebody else needs it. */
Test(session_events, idle_regions_come_back_when_the_quota_is_used_up)
{
    struct peer p;
    struct engine_session_use use;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    /* The quota is 1 GiB (the host's whole heap): 64 sockets that may send 16 MiB each. */
    for (unsigned i = 0; i < 64; i++) {
        uint32_t slot = app_socket(&p.h, SG_SOCK_STREAM);

        cr_assert_eq(engine_setopt(p.h.e, p.h.sid, slot, 1, 7, 16 << 20, p.h.now_us), 0); /* SO_SNDBUF */
        (void)engine_grant(p.h.e, p.h.sid, slot);
    }
    engine_session_use(p.h.e, p.h.sid, &use);
    cr_assert_gt(use.buffer_bytes, 1000u << 20);
    cr_assert_eq(engine_grant(p.h.e, p.h.sid, app_socket(&p.h, SG_SOCK_STREAM)), 0, "small regions are left");
    p.h.now_us += 5000000;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t slot = app_socket(&p.h, SG_SOCK_STREAM);

        cr_assert_eq(engine_setopt(p.h.e, p.h.sid, slot, 1, 7, 16 << 20, p.h.now_us), 0);
        if (engine_grant(p.h.e, p.h.sid, slot) == 0 && i)
            break;
        cr_assert_lt(i, 3, "nothing came back");
        host_run(&p.h);
    }
    engine_session_use(p.h.e, p.h.sid, &use);
    cr_assert_lt(use.buffer_bytes, 100u << 20);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_drain(&p);
    cr_assert_eq(peer_read_all(&p, &seq), 100);
    peer_stop(&p);
}

/* FIN_WAIT_2 may last a minute; the segment is needed no more, so the process must not be remembered. */
Test(session_events, an_orphan_whose_fin_is_acknowledged_lets_its_session_go)
{
    struct peer p;
    struct engine_session_use use;

    peer_start(&p, NULL);
    peer_established(&p);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    engine_session_use(p.h.e, p.h.sid, &use);
    cr_assert_eq(use.orphans, 1);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2});
    cr_assert_str_eq(peer_state(&p), "FIN_WAIT_2");
    engine_session_use(p.h.e, p.h.sid, &use);
    cr_assert_eq(use.orphans, 0);
    cr_assert_eq(use.buffer_bytes, 0);
    engine_session_end(p.h.e, p.h.sid, p.h.now_us);
    cr_assert(engine_session_idle(p.h.e, p.h.sid));
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 2});
    seg_expect(&p, .flags = TCP_ACK, .seq = 2, .ack = 2);
    peer_stop(&p);
}

Test(session_events, ends_by_fin_or_by_rst_when_data_was_not_read)
{
    for (int unread = 0; unread < 2; unread++) {
        struct peer p;

        peer_start(&p, NULL);
        peer_established(&p);
        if (unread)
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
        seg_drain(&p);
        engine_session_end(p.h.e, p.h.sid, p.h.now_us);
        seg_expect(&p, .flags = unread ? TCP_RST | TCP_ACK : TCP_FIN | TCP_ACK, .seq = 1);
        peer_stop(&p);
    }
}

/* 1,000 sockets are closed over several turns; in between the engine has something to do at once. */
Test(session_events, a_large_session_ends_over_several_turns)
{
    struct peer p;
    struct engine_session_use use;
    unsigned turns = 0;

    peer_start(&p, NULL);
    for (unsigned i = 0; i < 1000; i++)
        (void)app_socket(&p.h, SG_SOCK_STREAM);
    engine_session_end(p.h.e, p.h.sid, p.h.now_us);
    do {
        engine_session_use(p.h.e, p.h.sid, &use);
        if (use.sockets)
            cr_assert_eq(engine_deadline(p.h.e), 0);
        engine_timers(p.h.e, p.h.now_us);
        turns++;
    } while (use.sockets);
    cr_assert(turns >= 3 && turns < 20, "%u turns", turns);
    cr_assert(engine_session_idle(p.h.e, p.h.sid));
    peer_stop(&p);
}

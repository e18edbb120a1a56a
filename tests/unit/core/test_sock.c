/* SPDX-License-Identifier: Apache-2.0 */
/* Slots, events and kicks: the engine's side of proto/abi/slot.h. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/engine_int.h"
#include "tests/support/host.h"

static struct host h;

static void start(void)
{
    struct engine_config cfg;

    host_config(&cfg, 2);
    host_start(&h, &cfg, 1000000);
}

static void stop(void)
{
    const char *bad = host_stop(&h);

    cr_assert_null(bad, "%s", bad);
}

/* Events that wait; publishes first. The application has not looked at them. */
static unsigned events(struct engine_event *last)
{
    struct engine_event ev;
    unsigned n = 0;

    engine_publish(h.e, h.now_us);
    while (engine_event_next(h.e, &ev)) {
        n++;
        if (last)
            *last = ev;
    }
    return n;
}

static int open_slot(uint32_t slot)
{
    return engine_open(h.e, h.sid, slot, SG_SOCK_STREAM, 0, SG_AF_INET);
}

Test(sock, open_checks_everything)
{
    start();
    cr_assert_eq(open_slot(0), -EBADF);
    cr_assert_eq(open_slot(HOST_SLOTS), -EBADF);
    cr_assert_eq(open_slot(UINT32_MAX), -EBADF);
    cr_assert_eq(open_slot(5), 0);
    cr_assert_eq(open_slot(5), -EBUSY);
    cr_assert_eq(engine_open(h.e, h.sid, 6, SG_SOCK_STREAM, 17, SG_AF_INET), -EPROTONOSUPPORT);
    cr_assert_eq(engine_open(h.e, h.sid, 6, 99, 0, SG_AF_INET), -EPROTONOSUPPORT);
    cr_assert_eq(engine_open(h.e, h.sid, 6, SG_SOCK_STREAM, 0, 1), -EAFNOSUPPORT);
    cr_assert(engine_slot_used(h.e, h.sid, 5) && !engine_slot_used(h.e, h.sid, 6));
    stop();
}

Test(sock, calls_on_an_empty_slot_are_refused)
{
    const uint32_t bad[] = {0, 7, HOST_SLOTS, HOST_SLOTS + 1, UINT32_MAX};
    struct ip_ep ep = {.addr = {.ip = {192, 0, 2, 1}, .family = SG_AF_INET}, .port = 1};
    uint64_t v;

    start();
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        cr_assert_eq(engine_bind(h.e, h.sid, bad[i], &ep), -EBADF);
        cr_assert_eq(engine_listen(h.e, h.sid, bad[i], 1, 0), -EBADF);
        cr_assert_eq(engine_connect(h.e, h.sid, bad[i], &ep, h.now_us), -EBADF);
        cr_assert_eq(engine_accept(h.e, h.sid, bad[i], 9, h.now_us), -EBADF);
        cr_assert_eq(engine_shutdown(h.e, h.sid, bad[i], SG_SHUT_WR, h.now_us), -EBADF);
        cr_assert_eq(engine_close(h.e, h.sid, bad[i], h.now_us), -EBADF);
        cr_assert_eq(engine_setopt(h.e, h.sid, bad[i], 1, 2, 1, h.now_us), -EBADF);
        cr_assert_eq(engine_getopt(h.e, h.sid, bad[i], 1, 2, &v), -EBADF);
        cr_assert_eq(engine_grant(h.e, h.sid, bad[i]), -EBADF);
        cr_assert_eq(engine_release(h.e, h.sid, bad[i]), -EBADF);
    }
    stop();
}

Test(sock, calls_that_do_not_suit_the_socket)
{
    struct ip_ep ep = {.addr = {.ip = {192, 0, 2, 1}, .family = SG_AF_INET}, .port = 1};
    uint32_t tcp, udp, lis;

    start();
    tcp = app_socket(&h, SG_SOCK_STREAM);
    udp = app_socket(&h, SG_SOCK_DGRAM);
    lis = app_socket(&h, SG_SOCK_STREAM);
    app_bind(&h, lis, 80);
    app_listen(&h, lis, 1);
    cr_assert_eq(engine_accept(h.e, h.sid, tcp, 99, h.now_us), -EINVAL);
    cr_assert_eq(engine_accept(h.e, h.sid, udp, 99, h.now_us), -EOPNOTSUPP);
    cr_assert_eq(engine_listen(h.e, h.sid, udp, 1, 0), -EOPNOTSUPP);
    cr_assert_eq(engine_listen(h.e, h.sid, tcp, 1, 77), -EINVAL);
    cr_assert_eq(engine_shutdown(h.e, h.sid, tcp, SG_SHUT_WR, h.now_us), -ENOTCONN);
    cr_assert_eq(engine_shutdown(h.e, h.sid, tcp, 0, h.now_us), -EINVAL);
    cr_assert_eq(engine_shutdown(h.e, h.sid, tcp, 4, h.now_us), -EINVAL);
    cr_assert_eq(engine_connect(h.e, h.sid, lis, &ep, h.now_us), -EISCONN);
    cr_assert_eq(engine_grant(h.e, h.sid, lis), -EINVAL);
    cr_assert_eq(app_connect(&h, tcp, 1, 7), 0);
    cr_assert_eq(app_connect(&h, tcp, 1, 7), -EALREADY);
    cr_assert_eq(engine_bind(h.e, h.sid, tcp, &ep), -EINVAL);
    stop();
}

Test(sock, at_most_one_event_waits_for_a_slot)
{
    struct engine_event ev;
    uint32_t lis;

    start();
    lis = app_socket(&h, SG_SOCK_STREAM);
    app_bind(&h, lis, 80);
    engine_listen(h.e, h.sid, lis, 1, 0);
    cr_assert_eq(events(&ev), 1);
    cr_assert(ev.kind == ENGINE_EV_SOCK && ev.sid == h.sid && ev.slot == lis);
    for (unsigned i = 0; i < 5; i++)
        sock_dirty(h.e, sock_get(h.e, h.slot_sock[lis]));
    cr_assert_eq(events(NULL), 0, "the application has not taken the first");
    h.slots[lis].a.ev_seen = h.slots[lis].d.ev_posted;
    sock_dirty(h.e, sock_get(h.e, h.slot_sock[lis]));
    cr_assert_eq(events(NULL), 1);
    h.slots[lis].a.ev_seen = h.slots[lis].d.ev_posted;
    stop();
}

Test(sock, a_deferred_event_comes_again)
{
    struct engine_event ev, again;
    uint32_t lis;

    start();
    lis = app_socket(&h, SG_SOCK_STREAM);
    app_bind(&h, lis, 80);
    engine_listen(h.e, h.sid, lis, 1, 0);
    engine_publish(h.e, h.now_us);
    cr_assert(engine_event_next(h.e, &ev));
    engine_event_defer(h.e, &ev);
    cr_assert_not(engine_event_next(h.e, &again));
    cr_assert_eq(engine_event_deferred(h.e, h.sid), 1);
    engine_event_retry(h.e, h.sid, 0);
    cr_assert_not(engine_event_next(h.e, &again), "no room yet");
    engine_event_retry(h.e, h.sid, 5);
    cr_assert(engine_event_next(h.e, &again));
    cr_assert(again.slot == ev.slot && again.sid == ev.sid);
    cr_assert_eq(engine_event_deferred(h.e, h.sid), 0);
    stop();
}

Test(sock, events_of_an_ended_session_are_forgotten)
{
    uint32_t lis;
    struct engine_event ev;

    start();
    lis = app_socket(&h, SG_SOCK_STREAM);
    app_bind(&h, lis, 80);
    engine_listen(h.e, h.sid, lis, 1, 0);
    engine_publish(h.e, h.now_us);
    engine_session_end(h.e, h.sid, h.now_us);
    cr_assert_not(engine_event_next(h.e, &ev));
    stop();
}

/* ---- What a lying application writes ---------------------------------------------------------------- */

static const char *kick_and_look(uint32_t slot)
{
    struct engine_event ev;

    engine_kick(h.e, h.sid, &slot, 1, h.now_us);
    engine_publish(h.e, h.now_us);
    while (engine_event_next(h.e, &ev))
        if (ev.kind == ENGINE_EV_FAULT)
            return ev.reason;
    return NULL;
}

Test(sock, lies_in_the_slot_are_found)
{
    static const struct {
        uint64_t tx_tail, rx_head;
        bool fault;
    } cases[] = {
        {0, 0, false},
        {1, 0, true},
        {4096, 0, true},
        {UINT64_MAX, 0, true},
        {UINT64_C(1) << 40, 0, true},
        {0, 1, true},
        {0, UINT64_MAX, true},
        {0, UINT64_C(1) << 63, true},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t s;

        start();
        s = app_socket(&h, SG_SOCK_STREAM); /* no region: nothing may have been written */
        h.slots[s].a.tx_tail = cases[i].tx_tail;
        h.slots[s].a.rx_head = cases[i].rx_head;
        cr_assert_eq(kick_and_look(s) != NULL, cases[i].fault, "case %u", i);
        stop();
    }
}

Test(sock, a_whole_region_may_be_written_but_not_a_byte_more)
{
    for (unsigned more = 0; more < 2; more++) {
        uint32_t s;

        start();
        s = app_socket(&h, SG_SOCK_STREAM);
        cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
        h.slots[s].a.tx_tail = (UINT64_C(1) << 18) + more;
        cr_assert_eq(kick_and_look(s) != NULL, more == 1);
        stop();
    }
}

Test(sock, a_fault_is_reported_once)
{
    uint32_t s;

    start();
    s = app_socket(&h, SG_SOCK_STREAM);
    h.slots[s].a.tx_tail = 5;
    cr_assert_not_null(kick_and_look(s));
    cr_assert_null(kick_and_look(s));
    cr_assert_eq(host_counter(&h, "AppFaults"), 1);
    stop();
}

Test(sock, what_it_writes_into_our_line_is_not_believed)
{
    uint32_t s;

    start();
    s = app_socket(&h, SG_SOCK_STREAM);
    cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
    host_run(&h);
    memset(&h.slots[s].d, 0xff, sizeof(h.slots[s].d));
    cr_assert_null(kick_and_look(s));
    sock_dirty(h.e, sock_get(h.e, h.slot_sock[s]));
    engine_publish(h.e, h.now_us);
    cr_assert_eq(h.slots[s].d.state, SG_ST_OPEN, "it is written anew");
    cr_assert_eq(h.slots[s].d.tx_log2, 18);
    cr_assert_eq(h.slots[s].d.tx_head, 0);
    stop();
}

Test(sock, kicks_of_bad_slots_are_counted_and_ignored)
{
    const uint32_t bad[] = {0, 1, HOST_SLOTS, UINT32_MAX, 0x80000000u};

    start();
    engine_kick(h.e, h.sid, bad, ARRAY_LEN(bad), h.now_us);
    cr_assert_eq(host_counter(&h, "AppKickBad"), ARRAY_LEN(bad));
    cr_assert_eq(events(NULL), 0);
    stop();
}

Test(sock, a_slot_is_clean_for_its_next_socket)
{
    start();
    cr_assert_eq(open_slot(5), 0);
    memset(&h.slots[5].d, 0xee, sizeof(h.slots[5].d));
    memset(&h.slots[5].n, 0xee, sizeof(h.slots[5].n));
    h.slots[5].a.tx_base = h.slots[5].a.ev_seen = h.slots[5].a.kick_posted = 77;
    cr_assert_eq(engine_close(h.e, h.sid, 5, h.now_us), 0);
    cr_assert_eq(open_slot(5), 0);
    cr_assert_eq(h.slots[5].a.tx_base, 0);
    cr_assert_eq(h.slots[5].a.kick_posted, 0);
    cr_assert_eq(h.slots[5].n.remote_port, 0);
    cr_assert_null(kick_and_look(5));
    stop();
}

Test(sock, sessions_are_limited_and_their_numbers_used_again)
{
    struct engine_session v;
    uint32_t *map[3];
    void *meta = calloc(1, segheap_meta_bytes(0));
    int sid[3];

    start();
    v = sock_session(h.e, h.sid)->v;
    v.slot_count = 16;
    v.heap_bytes = 0;
    v.heap_meta = meta;
    for (int i = 0; i < 3; i++) {
        map[i] = calloc(1, engine_slot_map_bytes(16));
        v.slot_sock = map[i];
        sid[i] = engine_session_add(h.e, &v, h.now_us);
        cr_assert_eq(sid[i], i + 1);
    }
    cr_assert_eq(engine_session_add(h.e, &v, h.now_us), -ENOSPC);
    engine_session_end(h.e, sid[1], h.now_us);
    cr_assert(engine_session_idle(h.e, sid[1]));
    cr_assert_not(engine_session_idle(h.e, sid[0]));
    engine_session_drop(h.e, sid[1]);
    v.slot_sock = map[1];
    cr_assert_eq(engine_session_add(h.e, &v, h.now_us), sid[1]);
    stop();
    for (int i = 0; i < 3; i++)
        free(map[i]);
    free(meta);
}

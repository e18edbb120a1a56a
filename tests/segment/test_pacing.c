/* SPDX-License-Identifier: Apache-2.0 */
/* Paced connections: SO_MAX_PACING_RATE, and BBR's records, which are few. */
#include <criterion/criterion.h>

#include "tests/segment/peer.h"

#define L_SOCKET     1u
#define L_TCP        6u
#define O_PACING     47u
#define O_CONGESTION 13u
#define BBR          UINT64_C(0x726262)
#define CUBIC        UINT64_C(0x6369627563)

static int set(struct peer *p, uint32_t slot, uint32_t level, uint32_t name, uint64_t value)
{
    return engine_setopt(p->h.e, p->h.sid, slot, level, name, value, p->h.now_us);
}

static uint64_t get(struct peer *p, uint32_t slot, uint32_t level, uint32_t name)
{
    uint64_t value = 0;

    cr_assert_eq(engine_getopt(p->h.e, p->h.sid, slot, level, name, &value), 0);
    return value;
}

/* Bytes that the host sends within `ms`. */
static uint32_t sent_within(struct peer *p, unsigned ms)
{
    uint64_t end = p->h.now_us + ms * UINT64_C(1000);
    uint32_t bytes = 0;

    while (p->h.now_us < end) {
        struct pktbuf *f;

        while ((f = host_tx(&p->h)))
            if (f->len > 54)
                bytes += f->len - 54;
        p->h.now_us += 200;
        host_run(&p->h);
    }
    return bytes;
}

Test(pacing, an_application_bounds_its_rate)
{
    struct peer p;
    uint32_t bytes;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(get(&p, p.slot, L_SOCKET, O_PACING), UINT64_MAX, "no bound");
    cr_assert_eq(set(&p, p.slot, L_SOCKET, O_PACING, 100000), 0);
    cr_assert_eq(get(&p, p.slot, L_SOCKET, O_PACING), 100000);
    peer_write(&p, 14600);
    bytes = sent_within(&p, 60);
    /* 6,000 bytes, and what goes ahead: two segments at once, and a tick of the timer. */
    cr_assert(bytes >= 5840 && bytes <= 6000 + 2 * 1460 + 103, "%u bytes in 60 ms at 100 kB/s", bytes);
    peer_stop(&p);
}

Test(pacing, without_a_bound_the_window_goes_at_once)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(set(&p, p.slot, L_SOCKET, O_PACING, 100000), 0);
    cr_assert_eq(set(&p, p.slot, L_SOCKET, O_PACING, UINT64_MAX), 0);
    peer_write(&p, 14600);
    cr_assert_eq(sent_within(&p, 1), 14600);
    peer_stop(&p);
}

/* A daemon that waits for a CPU makes up for it, within PACE_CREDIT_NS; for a pause nobody does. */
Test(pacing, a_late_timer_costs_nothing)
{
    struct peer p;
    uint32_t bytes = 0;
    struct pktbuf *f;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(set(&p, p.slot, L_SOCKET, O_PACING, 2000000), 0);
    peer_write(&p, 14600);
    bytes = sent_within(&p, 1);
    cr_assert_leq(bytes, 2u * 2920);
    p.h.now_us += 4000;
    host_run(&p.h);
    while ((f = host_tx(&p.h)))
        bytes += f->len - 54;
    cr_assert(bytes >= 10000 && bytes <= 10000 + 2 * 2920, "%u bytes in 5 ms at 2 MB/s", bytes);
    peer_stop(&p);
}

Test(pacing, a_pause_of_the_application_is_not_made_up_for)
{
    struct peer p;
    uint32_t bytes;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(set(&p, p.slot, L_SOCKET, O_PACING, 2000000), 0);
    peer_write(&p, 2920);
    (void)sent_within(&p, 5); /* and a probe for the tail */
    peer_write(&p, 11680);
    bytes = sent_within(&p, 1);
    cr_assert_leq(bytes, 2u * 2920, "%u bytes at once after a pause", bytes);
    peer_stop(&p);
}

static void one_record(struct engine_config *cfg)
{
    cfg->path_max = 1;
    cfg->congestion = 2;
}

/* A second connection, from another port of the peer. */
static uint32_t second(struct peer *p)
{
    struct peer q = *p;
    uint32_t slot;

    q.peer_port = (uint16_t)(p->peer_port + 1);
    seg_send(&q, (struct seg){.flags = TCP_SYN, .mss = 1460, .sack_perm = true});
    (void)seg_take(&q);
    seg_send(&q, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p->h = q.h;
    slot = (uint32_t)app_accept(&p->h, p->listener);
    cr_assert_gt((int)slot, 0);
    return slot;
}

Test(pacing, cubic_takes_bbrs_place_when_the_records_are_used_up)
{
    struct peer p;
    uint32_t slot;

    peer_start(&p, one_record);
    peer_established(&p);
    cr_assert_eq(get(&p, p.slot, L_TCP, O_CONGESTION), BBR);
    slot = second(&p);
    cr_assert_eq(get(&p, slot, L_TCP, O_CONGESTION), CUBIC);
    cr_assert_eq(host_counter(&p.h, "TcpCongestionFallback"), 1);
    cr_assert_eq(host_counter(&p.h, "TcpPathEmpty"), 1);
    peer_stop(&p);
}

Test(pacing, a_connection_that_was_idle_for_ten_seconds_gives_its_record_up)
{
    struct peer p;
    uint32_t slot;

    peer_start(&p, one_record);
    peer_established(&p);
    peer_wait(&p, 10100000);
    slot = second(&p);
    cr_assert_eq(get(&p, slot, L_TCP, O_CONGESTION), BBR);
    cr_assert_eq(get(&p, p.slot, L_TCP, O_CONGESTION), BBR, "as long as it sends nothing");
    peer_write(&p, 100);
    (void)sent_within(&p, 1);
    cr_assert_eq(get(&p, p.slot, L_TCP, O_CONGESTION), CUBIC);
    cr_assert_eq(host_counter(&p.h, "TcpCongestionFallback"), 1);
    peer_stop(&p);
}

Test(pacing, a_connection_may_change_to_bbr_and_back)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 2920);
    seg_expect(&p, .seq = 1, .len = 1460);
    seg_expect(&p, .seq = 1461, .len = 1460);
    cr_assert_eq(set(&p, p.slot, L_TCP, O_CONGESTION, BBR), 0, "with data in flight");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2921});
    peer_write(&p, 1460);
    seg_expect(&p, .seq = 2921, .len = 1460);
    cr_assert_eq(set(&p, p.slot, L_TCP, O_CONGESTION, CUBIC), 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 4381});
    peer_stop(&p);
}

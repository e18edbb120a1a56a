/* SPDX-License-Identifier: Apache-2.0 */
/* When small segments go: Nagle as Minshall has it (RFC 9293 3.7.4, RFC 896), cork, and where PSH stands. */
#include <criterion/criterion.h>

#include "tests/segment/peer.h"

#define L_TCP     6u
#define O_NODELAY 1u
#define O_CORK    3u

static void set(struct peer *p, uint32_t name, uint64_t value)
{
    cr_assert_eq(engine_setopt(p->h.e, p->h.sid, p->slot, L_TCP, name, value, p->h.now_us), 0);
}

static void tso(struct engine_config *cfg)
{
    cfg->ifs[0].offloads = ENGINE_TX_CSUM | ENGINE_TX_TSO4;
    cfg->ifs[0].tx_frame_max = 65535 + 14;
    cfg->mtu_probing = ENGINE_NEVER; /* time-outs keep the size */
}

Test(nagle, a_second_small_segment_waits_for_the_first) /* RFC 9293 3.7.4 SHLD-7 */
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 10);
    seg_expect(&p, .seq = 1, .len = 10);
    peer_write(&p, 10);
    peer_write(&p, 10);
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 11});
    seg_expect(&p, .seq = 11, .len = 20);
    peer_stop(&p);
}

Test(nagle, the_rest_of_a_large_write_need_not_wait) /* Minshall's variant */
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1460 * 2 + 100);
    seg_expect(&p, .seq = 1, .len = 1460);
    seg_expect(&p, .seq = 1461, .len = 1460);
    seg_expect(&p, .seq = 2921, .len = 100);
    peer_write(&p, 100);
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2921});
    seg_none(&p); /* It is the small one that must have been acknowledged. */
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 3021});
    seg_expect(&p, .seq = 3021, .len = 100);
    peer_stop(&p);
}

Test(nagle, nodelay_flushes_what_a_cork_holds_and_nothing_later)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, O_CORK, 1);
    set(&p, O_NODELAY, 1); /* Nothing is queued: the cork holds what comes. */
    peer_write(&p, 100);
    seg_none(&p);
    set(&p, O_NODELAY, 1);
    seg_expect(&p, .seq = 1, .len = 100);
    peer_write(&p, 100);
    seg_none(&p);
    set(&p, O_CORK, 0);
    seg_expect(&p, .seq = 101, .len = 100);
    peer_stop(&p);
}

/* MSG_MORE with what is written next, or not. */
static void more(struct peer *p, bool on)
{
    struct sg_slot_app *a = &p->h.slots[p->slot].a;

    a->want = on ? a->want | SG_WANT_MORE : a->want & ~SG_WANT_MORE;
}

Test(more, a_partial_segment_waits_for_what_follows)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, O_NODELAY, 1); /* which MSG_MORE goes before */
    more(&p, true);
    peer_write(&p, 100);
    peer_write(&p, 100);
    seg_none(&p);
    more(&p, false);
    peer_write(&p, 50);
    cr_assert_eq(seg_expect(&p, .seq = 1, .len = 250).flags & TCP_PSH, TCP_PSH);
    peer_write(&p, 10);
    seg_expect(&p, .seq = 251, .len = 10);
    peer_stop(&p);
}

Test(more, whole_segments_go_at_once_and_are_not_pushed)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    more(&p, true);
    peer_write(&p, 1460 * 2 + 100);
    cr_assert_eq(seg_expect(&p, .seq = 1, .len = 1460).flags & TCP_PSH, 0);
    cr_assert_eq(seg_expect(&p, .seq = 1461, .len = 1460).flags & TCP_PSH, 0);
    seg_none(&p);
    peer_write(&p, 1360);
    cr_assert_eq(seg_expect(&p, .seq = 2921, .len = 1460).flags & TCP_PSH, 0, "the last of what is queued");
    peer_stop(&p);
}

Test(more, what_nothing_follows_goes_when_it_has_waited_or_at_the_end)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    more(&p, true);
    peer_write(&p, 100);
    seg_none(&p);
    cr_assert_leq(peer_wait_tx(&p, 1000000), 250000);
    cr_assert_eq(seg_expect(&p, .seq = 1, .len = 100).flags & TCP_PSH, TCP_PSH);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101});
    peer_write(&p, 100);
    seg_none(&p);
    cr_assert_eq(app_shutdown(&p.h, p.slot, SG_SHUT_WR), 0);
    seg_expect(&p, .seq = 101, .len = 100, .flags = TCP_ACK | TCP_PSH | TCP_FIN);
    peer_stop(&p);
}

Test(push, stands_on_the_last_segment_of_what_is_queued) /* RFC 9293 3.9.1.2 */
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1460 * 3);
    cr_assert_eq(seg_take(&p).flags & TCP_PSH, 0);
    cr_assert_eq(seg_take(&p).flags & TCP_PSH, 0);
    cr_assert_eq(seg_take(&p).flags & TCP_PSH, TCP_PSH);
    peer_stop(&p);
}

Test(push, stands_on_what_the_device_has_to_split_and_stays_there)
{
    struct peer p;
    struct seg s;

    peer_start(&p, tso);
    peer_established(&p);
    peer_write(&p, 1460 * 20);
    s = seg_take(&p);
    cr_assert_eq(s.flags & TCP_PSH, TCP_PSH);
    cr_assert_eq(s.len % 1460, 0);
    seg_drain(&p);           /* The other half of the first flight. */
    peer_wait(&p, 10000000); /* Time-outs. */
    s = seg_take(&p);
    cr_assert_eq(s.seq, 1);
    cr_assert_eq(s.len, 1460);
    cr_assert_eq(s.flags & TCP_PSH, 0, "the front of a split one has lost it");
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* When acknowledgments go: RFC 9293 3.8.6.3, RFC 5681 4.2, and Linux's quick and ping-pong modes. */
#include <criterion/criterion.h>

#include "tests/segment/peer.h"

#define L_TCP      6u
#define O_QUICKACK 12u

static uint32_t seq; /* the peer's next */

static void data(struct peer *p, uint32_t len)
{
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = seq, .ack = 1, .len = len});
    seq += len;
}

/* Past quick mode, with full segments of 1,000 bytes, nothing unacknowledged. */
static void settle(struct peer *p)
{
    seq = 1;
    for (unsigned i = 0; i < 32; i++) {
        uint32_t at = seq;

        data(p, 1000);
        peer_read_all(p, &at);
        host_run(&p->h);
        seg_drain(p);
    }
    peer_wait(p, 200000);
    seg_drain(p);
}

static void quickack(struct peer *p, uint64_t value)
{
    cr_assert_eq(engine_setopt(p->h.e, p->h.sid, p->slot, L_TCP, O_QUICKACK, value, p->h.now_us), 0);
}

static uint64_t in_quickack(struct peer *p)
{
    uint64_t v = 9;

    cr_assert_eq(engine_getopt(p->h.e, p->h.sid, p->slot, L_TCP, O_QUICKACK, &v), 0);
    return v;
}

Test(delack, the_first_segments_are_acknowledged_at_once)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seq = 1;
    for (unsigned i = 0; i < 16; i++) { /* The sender is in slow start and lives from ACKs. */
        data(&p, 10);
        seg_expect(&p, .flags = TCP_ACK, .ack = seq);
    }
    data(&p, 10);
    seg_none(&p);
    peer_stop(&p);
}

Test(delack, every_second_full_segment_is_acknowledged_at_once) /* RFC 9293 3.8.6.3 SHLD-19, RFC 5681 4.2 */
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    settle(&p);
    for (unsigned i = 0; i < 5; i++) {
        data(&p, 1000);
        seg_none(&p);
        data(&p, 1000);
        seg_expect(&p, .flags = TCP_ACK, .ack = seq);
    }
    peer_stop(&p);
}

Test(delack, a_lone_segment_waits_less_than_half_a_second) /* RFC 9293 3.8.6.3 MUST-58 */
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    settle(&p);
    data(&p, 1000);
    seg_none(&p);
    cr_assert_leq(peer_wait_tx(&p, 1000000), 200000);
    seg_expect(&p, .flags = TCP_ACK, .ack = seq);
    peer_stop(&p);
}

Test(delack, full_segments_of_a_narrower_path_count_as_full)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    settle(&p);
    for (unsigned i = 0; i < 4; i++)
        data(&p, 500); /* The peer's MSS fell. */
    peer_wait(&p, 100000);
    seg_drain(&p);
    data(&p, 500);
    seg_none(&p);
    data(&p, 500);
    seg_expect(&p, .flags = TCP_ACK, .ack = seq);
    peer_stop(&p);
}

Test(delack, a_segment_beyond_a_hole_is_acknowledged_at_once) /* RFC 5681 4.2 */
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    settle(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = seq + 100, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = seq);
    data(&p, 100); /* It fills the hole. */
    seg_expect(&p, .flags = TCP_ACK, .ack = seq + 100);
    peer_stop(&p);
}

Test(delack, joined_segments_count_as_several)
{
    static uint8_t f[14 + 40 + 3000];
    struct peer p;
    struct pktbuf b = {.data = f, .flags = PKT_CSUM_GOOD, .gso_type = PKT_GSO_TCP4, .gso_size = 1000};

    peer_start(&p, NULL);
    peer_established(&p);
    settle(&p);
    b.len = b.total = peer_frame(&p, (struct seg){.flags = TCP_ACK, .seq = seq, .ack = 1, .len = 2000}, f);
    host_rx(&p.h, &b);
    seg_expect(&p, .flags = TCP_ACK, .ack = seq + 2000);
    seq += 2000;
    data(&p, 1000); /* The full size is still that of the parts. */
    seg_none(&p);
    data(&p, 1000);
    seg_expect(&p, .flags = TCP_ACK, .ack = seq);
    peer_stop(&p);
}

Test(delack, an_application_that_answers_takes_the_ack_along)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seq = 1;
    data(&p, 10);
    seg_expect(&p, .flags = TCP_ACK, .ack = 11);
    cr_assert_eq(in_quickack(&p), 1);
    peer_write(&p, 10); /* Within the delay: interactive from now on, although quick ACKs are left. */
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 11, .len = 10);
    cr_assert_eq(in_quickack(&p), 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 11, .len = 10});
    seg_none(&p);
    peer_write(&p, 10);
    seg_expect(&p, .flags = TCP_ACK, .seq = 11, .ack = 21, .len = 10);
    seg_none(&p);
    peer_stop(&p);
}

Test(delack, when_the_answer_fails_to_come_quick_mode_is_back)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seq = 1;
    data(&p, 10);
    peer_write(&p, 10);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 11, .len = 10});
    seg_none(&p);
    cr_assert_leq(peer_wait_tx(&p, 1000000), 200000);
    seg_expect(&p, .flags = TCP_ACK, .ack = 21);
    cr_assert_eq(in_quickack(&p), 1);
    peer_stop(&p);
}

Test(delack, the_delay_grows_when_acks_were_late_and_is_bounded)
{
    struct peer p;
    uint64_t first, last = 0;

    peer_start(&p, NULL);
    peer_established(&p);
    settle(&p);
    data(&p, 100);
    first = peer_wait_tx(&p, 1000000);
    seg_drain(&p);
    for (unsigned i = 0; i < 8; i++) {
        p.h.now_us += 30000;
        data(&p, 100);
        last = peer_wait_tx(&p, 1000000);
        seg_drain(&p);
        cr_assert_leq(last, 200000);
    }
    cr_assert_geq(last, first);
    peer_stop(&p);
}

Test(delack, after_a_long_silence_acks_are_quick_again)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    settle(&p);
    data(&p, 100);
    seg_none(&p);
    peer_wait(&p, 3000000); /* More than an RTO: the peer starts slowly again. */
    seg_drain(&p);
    data(&p, 100);
    seg_expect(&p, .flags = TCP_ACK, .ack = seq);
    peer_stop(&p);
}

Test(delack, quickack_off_waits_and_on_sends_what_is_owed)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seq = 1;
    quickack(&p, 0);
    cr_assert_eq(in_quickack(&p), 0);
    data(&p, 10);
    seg_none(&p);
    quickack(&p, 1);
    seg_expect(&p, .flags = TCP_ACK, .ack = 11);
    cr_assert_eq(in_quickack(&p), 1);
    data(&p, 10);
    seg_expect(&p, .flags = TCP_ACK, .ack = 21);
    peer_stop(&p);
}

Test(delack, an_old_segment_brings_quick_mode_back)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    settle(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = seq);
    data(&p, 10); /* The peer retransmits: it needs ACKs now. */
    seg_expect(&p, .flags = TCP_ACK, .ack = seq);
    peer_stop(&p);
}

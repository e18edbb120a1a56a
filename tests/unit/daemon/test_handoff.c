/* SPDX-License-Identifier: Apache-2.0 */
/* The ring between two workers: what goes in comes out, whole and in order; what has no room is refused. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/handoff.h"

static uint8_t pattern(uint32_t seq, uint32_t i)
{
    return (uint8_t)(seq * 31 + i * 7);
}

static void fill(uint8_t *p, uint32_t seq, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        p[i] = pattern(seq, i);
}

static void check(const struct handoff_rec *r, const uint8_t *bytes, uint32_t seq, uint32_t len)
{
    cr_assert_eq(r->len, len, "record %u: %u bytes of %u", seq, r->len, len);
    cr_assert_eq(r->gso_size, (uint16_t)seq);
    for (uint32_t i = 0; i < len; i++)
        cr_assert_eq(bytes[i], pattern(seq, i), "record %u differs at byte %u", seq, i);
}

/* Lengths that make records end at and around the end of the memory. */
static uint32_t length_of(uint32_t seq)
{
    static const uint32_t lengths[] = {64, 1514, 1, 65549, 0, 33, 32, 31, 9000, 60};

    return lengths[seq % 10];
}

Test(handoff, records_come_out_as_they_went_in_over_many_rounds)
{
    static uint8_t data[65549];
    struct handoff h;
    uint32_t in = 0, out = 0;

    cr_assert_eq(handoff_open(&h), 0);
    while (out < 5000) {
        struct handoff_rec r = {.kind = HANDOFF_PACKET, .gso_size = (uint16_t)in};
        uint32_t len = length_of(in), ahead = 0;
        uint8_t *bytes;

        fill(data, in, len);
        if (handoff_put(&h, &r, data, len / 2, data + len / 2, len - len / 2)) {
            in++;
            continue;
        }
        /* Full: take some, but not all, so that both ends wander over the memory. */
        for (unsigned n = 0; n < 3 && handoff_peek(&h, &ahead, &r, &bytes); n++, out++)
            check(&r, bytes, out, length_of(out));
        handoff_consume(&h, ahead);
    }
    handoff_close(&h);
}

Test(handoff, a_full_ring_refuses_and_stays_as_it_was)
{
    static uint8_t data[60000];
    struct handoff_rec r = {.kind = HANDOFF_PACKET};
    struct handoff h;
    uint8_t *bytes;
    uint32_t n = 0, ahead = 0, taken = 0;

    cr_assert_eq(handoff_open(&h), 0);
    cr_assert_not(handoff_pending(&h));
    while (handoff_put(&h, &r, data, sizeof(data), NULL, 0))
        n++;
    cr_assert_eq(n, HANDOFF_RING_BYTES / (sizeof(data) + HANDOFF_ALIGN));
    cr_assert(handoff_pending(&h));
    while (handoff_peek(&h, &ahead, &r, &bytes))
        taken++;
    cr_assert_eq(taken, n);
    handoff_consume(&h, ahead);
    cr_assert_not(handoff_pending(&h));
    cr_assert(handoff_put(&h, &r, data, sizeof(data), NULL, 0));
    handoff_close(&h);
}

Test(handoff, a_frame_keeps_what_the_device_said_of_it)
{
    uint8_t data[100], more[50];
    const struct pktbuf p = {.data = data,
                             .len = sizeof(data),
                             .total = sizeof(data) + sizeof(more),
                             .flags = PKT_CSUM_PARTIAL,
                             .csum_start = 34,
                             .csum_offset = 16,
                             .gso_size = 1448,
                             .gso_type = PKT_GSO_TCP4,
                             .hdr_len = 66,
                             .frag_count = 1,
                             .frag = {{more, sizeof(more)}}};
    struct handoff_rec r = {.kind = HANDOFF_SEND, .dev = 3};
    struct pktbuf got;
    struct handoff h;
    uint32_t ahead = 0;
    uint8_t *bytes;

    fill(data, 1, sizeof(data));
    fill(more, 2, sizeof(more));
    cr_assert_eq(handoff_open(&h), 0);
    cr_assert(handoff_put_frame(&h, &r, &p));
    cr_assert(handoff_peek(&h, &ahead, &r, &bytes));
    cr_assert_eq(r.kind, HANDOFF_SEND);
    handoff_frame(&r, bytes, &got);
    cr_assert_eq(got.dev, 3);
    cr_assert_eq(got.len, p.total);
    cr_assert_eq(got.total, p.total);
    cr_assert_eq(got.frag_count, 0);
    cr_assert_eq(got.flags, p.flags);
    cr_assert_eq(got.csum_start, 34);
    cr_assert_eq(got.csum_offset, 16);
    cr_assert_eq(got.gso_size, 1448);
    cr_assert_eq(got.gso_type, PKT_GSO_TCP4);
    cr_assert_eq(got.hdr_len, 66);
    cr_assert_arr_eq(got.data, data, sizeof(data));
    cr_assert_arr_eq(got.data + sizeof(data), more, sizeof(more));
    handoff_close(&h);
}

#define THREAD_RECORDS 20000u

static void *produce(void *arg)
{
    uint8_t data[2000];

    for (uint32_t seq = 0; seq < THREAD_RECORDS;) {
        struct handoff_rec r = {.kind = HANDOFF_PACKET, .gso_size = (uint16_t)seq};
        uint32_t len = 1 + seq % sizeof(data);

        fill(data, seq, len);
        if (handoff_put(arg, &r, data, len, NULL, 0))
            seq++;
        else
            sched_yield();
    }
    return NULL;
}

/* For the thread sanitizer: [H1] and [H2] are all the ordering there is. */
Test(handoff, two_threads_need_nothing_but_the_ring, .timeout = 60)
{
    struct handoff h;
    pthread_t t;
    uint32_t seq = 0;

    cr_assert_eq(handoff_open(&h), 0);
    cr_assert_eq(pthread_create(&t, NULL, produce, &h), 0);
    while (seq < THREAD_RECORDS) {
        struct handoff_rec r;
        uint32_t ahead = 0;
        uint8_t *bytes;

        for (; handoff_peek(&h, &ahead, &r, &bytes); seq++)
            check(&r, bytes, seq, 1 + seq % 2000u);
        if (ahead)
            handoff_consume(&h, ahead);
        else
            sched_yield();
    }
    (void)pthread_join(t, NULL);
    handoff_close(&h);
}

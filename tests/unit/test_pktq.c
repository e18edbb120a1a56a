/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "tests/unit/frames.h"

#define COUNT 8u
#define DEVS  2u

static struct pktq q;
static uint8_t *mem;

static void start_with(uint32_t devices)
{
    mem = calloc(1, pktq_bytes(COUNT, devices));
    cr_assert_not_null(mem);
    pktq_init(&q, mem, COUNT, devices);
}

static void start(void)
{
    start_with(1);
}

static void start_two(void)
{
    start_with(DEVS);
}

static void stop(void)
{
    free(mem);
}

/* Queue a frame of one byte. */
static bool put(uint8_t dev, uint8_t what)
{
    struct pktbuf *p = pktq_get(&q);

    cr_assert_not_null(p);
    p->data[0] = what;
    p->len = p->total = 1;
    return pktq_commit(&q, dev);
}

/* The bytes of all that waits for a device, which is taken. */
static const char *take(uint8_t dev)
{
    static char text[COUNT + 1];
    struct pktbuf *p[COUNT];
    unsigned n = pktq_peek(&q, dev, p, COUNT);

    for (unsigned i = 0; i < n; i++)
        text[i] = (char)p[i]->data[0];
    text[n] = '\0';
    pktq_consume(&q, dev, n);
    return text;
}

Test(pktq, is_full_after_count_frames_and_has_room_again_when_they_left, .init = start, .fini = stop)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        cr_assert_eq(pktq_room(&q, 0), COUNT - i);
        cr_assert(put(0, 'a'));
    }
    cr_assert_eq(pktq_room(&q, 0), 0);
    cr_assert_null(pktq_get(&q));
    pktq_consume(&q, 0, 1);
    cr_assert(put(0, 'b'), "NULL must not leave the queue open");
    cr_assert_null(pktq_get(&q));
    cr_assert_str_eq(take(0), "aaaaaaab");
    cr_assert_eq(pktq_room(&q, 0), COUNT);
}

Test(pktq, dropped_frame_costs_no_room, .init = start, .fini = stop)
{
    for (uint32_t i = 0; i < 3 * COUNT; i++) {
        cr_assert_not_null(pktq_get(&q));
        pktq_drop(&q);
    }
    cr_assert_eq(pktq_room(&q, 0), COUNT);
}

Test(pktq, fresh_frame_is_empty_whatever_was_in_it, .init = start, .fini = stop)
{
    for (uint32_t i = 0; i < 2 * COUNT; i++) {
        struct pktbuf *p = pktq_get(&q);

        cr_assert(p->len == 0 && p->total == 0 && p->flags == 0 && p->frag_count == 0 && p->gso_type == 0);
        memset(p->data, 0xff, 16);
        p->len = p->total = 16;
        p->flags = PKT_CSUM_PARTIAL;
        p->gso_type = PKT_GSO_TCP4;
        p->frag_count = 2;
        cr_assert(pktq_commit(&q, 0));
        pktq_consume(&q, 0, 1);
    }
}

Test(pktq, frames_have_headroom_and_memory_of_their_own, .init = start_two, .fini = stop)
{
    for (uint32_t i = 0; i < COUNT * DEVS; i++) {
        struct pktbuf *p = pktq_get(&q);

        /* Every byte of it, headroom included: the address sanitizer sees any outside. */
        memset(p->data - PKT_HEADROOM, (int)i + 1, PKT_LINEAR_MAX);
        p->len = 1;
        cr_assert(pktq_commit(&q, i % DEVS));
    }
    for (uint32_t i = 0; i < COUNT * DEVS; i++) {
        const uint8_t *d = q.pkts[q.dev[i % DEVS].ring[i / DEVS]].data;

        cr_assert(d[-(int)PKT_HEADROOM] == i + 1 && d[PKT_LINEAR_MAX - PKT_HEADROOM - 1] == i + 1);
    }
}

Test(pktq, full_device_leaves_the_others_their_room_and_their_order, .init = start_two, .fini = stop)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        cr_assert(put(0, (uint8_t)('a' + i)));
        if (i < 3)
            cr_assert(put(1, (uint8_t)('A' + i)));
    }
    cr_assert_not(put(0, '!'), "its queue is full: dropped");
    cr_assert_eq(pktq_room(&q, 0), 0);
    cr_assert_eq(pktq_room(&q, 1), COUNT - 3);
    cr_assert_str_eq(take(1), "ABC");
    for (uint32_t i = 0; i < COUNT; i++)
        cr_assert(put(1, (uint8_t)('A' + i)));
    cr_assert_null(pktq_get(&q));
    cr_assert_str_eq(take(0), "abcdefgh");
    cr_assert_str_eq(take(1), "ABCDEFGH");
    cr_assert_not(pktq_pending(&q));
}

Test(pktq, flushed_device_gives_back_its_frames_only, .init = start_two, .fini = stop)
{
    for (uint32_t i = 0; i < COUNT; i++)
        cr_assert(put(0, 'a') && put(1, 'b'));
    pktq_flush(&q, 0);
    cr_assert_eq(pktq_room(&q, 0), COUNT);
    cr_assert_eq(pktq_room(&q, PKTQ_NO_DEV), COUNT);
    cr_assert_str_eq(take(0), "");
    cr_assert_str_eq(take(1), "bbbbbbbb");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "tests/unit/frames.h"

#define COUNT 8u

static struct pktq q;
static uint8_t *mem;

static void start(void)
{
    mem = calloc(1, pktq_bytes(COUNT));
    cr_assert_not_null(mem);
    pktq_init(&q, mem, COUNT);
}

static void stop(void)
{
    free(mem);
}

Test(pktq, is_full_after_count_frames_and_has_room_again_when_they_left, .init = start, .fini = stop)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        cr_assert_eq(pktq_room(&q), COUNT - i);
        cr_assert_not_null(pktq_get(&q));
        pktq_commit(&q);
    }
    cr_assert_eq(pktq_room(&q), 0);
    cr_assert_null(pktq_get(&q));
    q.head++;
    cr_assert_not_null(pktq_get(&q), "NULL must not leave the queue open");
    pktq_commit(&q);
    cr_assert_null(pktq_get(&q));
}

Test(pktq, dropped_frame_costs_no_room, .init = start, .fini = stop)
{
    for (uint32_t i = 0; i < 3 * COUNT; i++) {
        cr_assert_not_null(pktq_get(&q));
        pktq_drop(&q);
    }
    cr_assert_eq(pktq_room(&q), COUNT);
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
        pktq_commit(&q);
        q.head++;
    }
}

Test(pktq, frames_have_headroom_and_memory_of_their_own, .init = start, .fini = stop)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        struct pktbuf *p = pktq_get(&q);

        /* Every byte of it, headroom included: the address sanitizer sees any outside. */
        memset(p->data - PKT_HEADROOM, (int)i + 1, PKT_LINEAR_MAX);
        pktq_commit(&q);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        const uint8_t *d = q.pkts[i].data;

        cr_assert(d[-(int)PKT_HEADROOM] == i + 1 && d[PKT_LINEAR_MAX - PKT_HEADROOM - 1] == i + 1);
    }
}

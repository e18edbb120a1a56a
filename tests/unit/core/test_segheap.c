/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/engine_int.h"
#include "tests/unit/core/rnd.h"

#define BLOCK_MAX (UINT64_C(1) << SG_REGION_LOG2_MAX)
#define HEAP      (3 * BLOCK_MAX)

static void *meta;

static void start(void)
{
    meta = calloc(1, segheap_meta_bytes(HEAP));
    segheap_init(meta, HEAP);
}

Test(segheap, blocks_are_aligned_to_their_size)
{
    start();
    for (unsigned log2 = SG_REGION_LOG2_MIN; log2 <= SG_REGION_LOG2_MAX; log2++) {
        uint64_t off = segheap_alloc(meta, HEAP, log2);

        cr_assert_eq(off & ((UINT64_C(1) << log2) - 1), 0, "2^%u at %#lx", log2, off);
        cr_assert_leq(off + (UINT64_C(1) << log2), HEAP);
    }
    free(meta);
}

Test(segheap, all_of_it_can_be_had_and_no_more)
{
    for (unsigned log2 = SG_REGION_LOG2_MIN; log2 <= SG_REGION_LOG2_MAX; log2 += 3) {
        uint64_t n = HEAP >> log2;
        uint8_t *seen = calloc(1, n);

        start();
        for (uint64_t i = 0; i < n; i++) {
            uint64_t off = segheap_alloc(meta, HEAP, log2);

            cr_assert_lt(off, HEAP, "2^%u: only %lu of %lu", log2, i, n);
            cr_assert_not(seen[off >> log2], "given out twice");
            seen[off >> log2] = 1;
        }
        cr_assert_eq(segheap_alloc(meta, HEAP, log2), UINT64_MAX);
        cr_assert_eq(segheap_alloc(meta, HEAP, SG_REGION_LOG2_MIN), UINT64_MAX);
        segheap_free(meta, HEAP, 0, log2);
        cr_assert_eq(segheap_alloc(meta, HEAP, log2), 0);
        free(meta);
        free(seen);
    }
}

Test(segheap, buddies_join_again)
{
    uint64_t a, b;

    start();
    a = segheap_alloc(meta, HEAP, SG_REGION_LOG2_MIN);
    b = segheap_alloc(meta, HEAP, SG_REGION_LOG2_MIN);
    cr_assert_eq(b, a + 4096);
    for (unsigned i = 0; i < 2; i++)
        cr_assert_neq(segheap_alloc(meta, HEAP, SG_REGION_LOG2_MAX), UINT64_MAX);
    cr_assert_eq(segheap_alloc(meta, HEAP, SG_REGION_LOG2_MAX), UINT64_MAX);
    segheap_free(meta, HEAP, a, SG_REGION_LOG2_MIN);
    cr_assert_eq(segheap_alloc(meta, HEAP, SG_REGION_LOG2_MAX), UINT64_MAX, "its buddy is in use");
    segheap_free(meta, HEAP, b, SG_REGION_LOG2_MIN);
    cr_assert_eq(segheap_alloc(meta, HEAP, SG_REGION_LOG2_MAX), 0);
    free(meta);
}

Test(segheap, a_heap_without_a_whole_block_gives_nothing)
{
    void *m = calloc(1, segheap_meta_bytes(0));

    segheap_init(m, 0);
    cr_assert_eq(segheap_alloc(m, 0, SG_REGION_LOG2_MIN), UINT64_MAX);
    free(m);
}

/* Beside a map of the pages: no overlap, and what fits is found. */
Test(segheap, agrees_with_a_map_of_pages)
{
    enum { PAGES = HEAP >> SG_REGION_LOG2_MIN, BLOCKS = 400 };
    static uint8_t page[PAGES];
    struct {
        uint64_t off;
        unsigned log2;
    } b[BLOCKS];

    for (uint64_t seed = 1; seed <= 10; seed++) {
        uint64_t s = seed;
        unsigned n = 0;

        start();
        memset(page, 0, sizeof(page));
        for (unsigned step = 0; step < 4000; step++) {
            if (n < BLOCKS && rnd_below(&s, 5) > 1) {
                unsigned log2 =
                    SG_REGION_LOG2_MIN + rnd_below(&s, SG_REGION_LOG2_MAX - SG_REGION_LOG2_MIN + 1);
                uint64_t pages = UINT64_C(1) << (log2 - SG_REGION_LOG2_MIN);
                uint64_t off = segheap_alloc(meta, HEAP, log2);
                bool fits = false;

                for (uint64_t at = 0; at < PAGES && !fits; at += pages) {
                    fits = true;
                    for (uint64_t i = 0; i < pages && fits; i++)
                        fits = !page[at + i];
                }
                cr_assert_eq(off != UINT64_MAX, fits, "seed %lu: 2^%u", seed, log2);
                if (!fits)
                    continue;
                for (uint64_t i = 0; i < pages; i++) {
                    cr_assert_not(page[(off >> SG_REGION_LOG2_MIN) + i], "seed %lu: overlap", seed);
                    page[(off >> SG_REGION_LOG2_MIN) + i] = 1;
                }
                b[n].off = off;
                b[n++].log2 = log2;
            } else if (n) {
                unsigned k = rnd_below(&s, n);

                segheap_free(meta, HEAP, b[k].off, b[k].log2);
                memset(page + (b[k].off >> SG_REGION_LOG2_MIN), 0,
                       UINT64_C(1) << (b[k].log2 - SG_REGION_LOG2_MIN));
                b[k] = b[--n];
            }
        }
        while (n--)
            segheap_free(meta, HEAP, b[n].off, b[n].log2);
        for (unsigned i = 0; i < 3; i++)
            cr_assert_neq(segheap_alloc(meta, HEAP, SG_REGION_LOG2_MAX), UINT64_MAX,
                          "seed %lu: all was given back", seed);
        free(meta);
    }
}

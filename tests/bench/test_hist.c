/* SPDX-License-Identifier: Apache-2.0 */
/* The buckets of the load generator's times: edges, error, quantiles. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "bench/load/hist.h"

static struct hist h;

Test(hist, buckets_join)
{
    for (unsigned i = 0; i + 1 < HIST_BUCKETS; i++) {
        cr_assert(eq(u32, hist_index(hist_upper(i)), i));
        cr_assert(eq(u32, hist_index(hist_upper(i) + 1), i + 1));
    }
}

Test(hist, small_values_are_exact)
{
    for (uint64_t v = 0; v < 256; v++)
        cr_assert(eq(u64, hist_upper(hist_index(v)), v));
}

Test(hist, error_is_below_one_in_128)
{
    for (uint64_t v = 1; v < UINT64_C(1) << HIST_VALUE_LOG2; v += v / 53 + 1) {
        uint64_t upper = hist_upper(hist_index(v));

        cr_assert(ge(u64, upper, v));
        cr_assert(le(u64, (upper - v) * 128, v));
    }
}

Test(hist, huge_values_share_the_last_bucket)
{
    cr_assert(eq(u32, hist_index(UINT64_MAX), HIST_BUCKETS - 1));
    cr_assert(eq(u32, hist_index((UINT64_C(1) << HIST_VALUE_LOG2) - 1), HIST_BUCKETS - 1));
}

Test(hist, quantiles)
{
    hist_clear(&h);
    cr_assert(eq(u64, hist_quantile(&h, 0.5), 0));
    for (uint64_t v = 1; v <= 100; v++)
        hist_add(&h, v);
    cr_assert(eq(u64, hist_quantile(&h, 0), 1));
    cr_assert(eq(u64, hist_quantile(&h, 0.5), 50));
    cr_assert(eq(u64, hist_quantile(&h, 0.99), 99));
    cr_assert(eq(u64, hist_quantile(&h, 1), 100));
    cr_assert(eq(u64, h.min, 1));
    cr_assert(eq(u64, h.max, 100));
    cr_assert(eq(u64, h.sum, 5050));
}

Test(hist, a_quantile_never_exceeds_the_maximum)
{
    hist_clear(&h);
    hist_add(&h, 1000001);
    cr_assert(eq(u64, hist_quantile(&h, 0.5), 1000001));
}

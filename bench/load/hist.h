/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A histogram of times: buckets that grow with the value, so that it takes 36 KiB whatever it holds.
 *
 * Values below 128 have a bucket each; above, every power of two is cut into 128 equal buckets. A quantile is
 * reported as the upper edge of its bucket: never below the true value, and above it by less than 1/128
 * (0.8 %). Minimum, maximum and sum are exact.
 */
#ifndef BENCH_LOAD_HIST_H
#define BENCH_LOAD_HIST_H

#include <stdint.h>

#define HIST_SUB_LOG2   7u  /* 128 buckets to a power of two */
#define HIST_VALUE_LOG2 40u /* values from 2^40 on (18 minutes in ns) share the last bucket */
#define HIST_BUCKETS    ((HIST_VALUE_LOG2 - HIST_SUB_LOG2 + 1u) << HIST_SUB_LOG2)

struct hist {
    uint64_t bucket[HIST_BUCKETS];
    uint64_t count, sum, min, max;
};

/** Forget everything. */
void hist_clear(struct hist *h);
void hist_add(struct hist *h, uint64_t value);
/** Number of the bucket that holds `value`, and the largest value that bucket `i` holds. */
unsigned hist_index(uint64_t value);
uint64_t hist_upper(unsigned i);
/** The value that `fraction` (0..1) of the values do not exceed; 0 when there is none. */
uint64_t hist_quantile(const struct hist *h, double fraction);

#endif

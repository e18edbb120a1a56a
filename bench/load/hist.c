/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/hist.h"

#include <math.h>
#include <string.h>

#define SUB_COUNT (1u << HIST_SUB_LOG2)

void hist_clear(struct hist *h)
{
    memset(h, 0, sizeof(*h));
    h->min = UINT64_MAX;
}

unsigned hist_index(uint64_t value)
{
    unsigned shift;

    if (value < SUB_COUNT)
        return (unsigned)value;
    if (value >> HIST_VALUE_LOG2)
        return HIST_BUCKETS - 1;
    shift = 63u - (unsigned)__builtin_clzll(value) - HIST_SUB_LOG2;
    return ((shift + 1) << HIST_SUB_LOG2) + ((unsigned)(value >> shift) & (SUB_COUNT - 1));
}

uint64_t hist_upper(unsigned i)
{
    unsigned shift;

    if (i < SUB_COUNT)
        return i;
    shift = (i >> HIST_SUB_LOG2) - 1;
    return ((uint64_t)(SUB_COUNT + (i & (SUB_COUNT - 1)) + 1) << shift) - 1;
}

void hist_add(struct hist *h, uint64_t value)
{
    h->bucket[hist_index(value)]++;
    h->count++;
    h->sum += value;
    if (value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
}

uint64_t hist_quantile(const struct hist *h, double fraction)
{
    uint64_t wanted = (uint64_t)ceil(fraction * (double)h->count), seen = 0;

    if (!h->count)
        return 0;
    if (!wanted)
        wanted = 1;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= wanted)
            return hist_upper(i) < h->max ? hist_upper(i) : h->max;
    }
    return h->max;
}

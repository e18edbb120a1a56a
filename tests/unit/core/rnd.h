/* SPDX-License-Identifier: Apache-2.0 */
/* Chance for the model tests here: splitmix64. Each test prints its seed when it fails. */
#ifndef TESTS_UNIT_CORE_RND_H
#define TESTS_UNIT_CORE_RND_H

#include <stdint.h>

static inline uint64_t rnd(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/** 0..n-1 */
static inline uint32_t rnd_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)((rnd(state) >> 32) * n >> 32);
}

#endif

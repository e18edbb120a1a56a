/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two hosts (192.0.2.1 and .2) on a simulated link, run by events: time jumps to the next thing that happens.
 */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H

#include "hw/sim.h"
#include "tests/support/host.h"

struct net {
    struct host host[2];
    struct sim_link *link;
    uint64_t now_us;
    uint64_t steps;
};

/** tweak may be NULL; called for each host before it starts. */
void net_start(struct net *n, const struct sim_params *params, void (*tweak)(struct engine_config *, void *),
               void *ctx);
/** Returns NULL or what was wrong at the end. */
const char *net_stop(struct net *n);
/** Move everything that can move now; then jump to the next event, at most to `until_us`. */
void net_step(struct net *n, uint64_t until_us);
/** Time goes on by `us` in which neither host runs. */
void net_jump(struct net *n, uint64_t us);
/** engine_check() of both; NULL when all is well. */
const char *net_check(struct net *n);

/** splitmix64: the tests' own source of chance. */
uint64_t rnd(uint64_t *state);
static inline uint32_t rnd_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)((rnd(state) >> 32) * n >> 32);
}

#endif

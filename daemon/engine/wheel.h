/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timer wheel: which nodes may have a timer due.
 *
 * Four levels of 64 buckets; level L holds times in units of 64^L ticks. A node is put into the finest
 * level that reaches its time, rounded *down* to that level's unit, so a node can come out early, never
 * late; its owner looks at its real deadline and arms it again. That spares cascading, and it lets owners
 * move a deadline into the future without touching the wheel at all.
 *
 * A node is an index; nodes of different owners share one space (see tcp.h). Scratch memory.
 */
#ifndef ENGINE_WHEEL_H
#define ENGINE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WHEEL_TICK_SHIFT 10u /* a tick is 1,024 us */
#define WHEEL_LEVELS     4u
#define WHEEL_BUCKETS    64u

struct wheel_node {
    uint32_t next, prev; /* node indices; NIL: end */
    uint32_t bucket;     /* level * 64 + bucket, or WHEEL_IDLE, or WHEEL_EXPIRED */
    uint32_t pad;
    uint64_t tick; /* when it comes out, rounded down to its level's unit */
};

struct wheel {
    struct wheel_node *nodes;
    uint32_t node_count;
    uint64_t now; /* tick that has been processed */
    uint32_t head[WHEEL_LEVELS * WHEEL_BUCKETS];
    uint64_t bits[WHEEL_LEVELS]; /* non-empty buckets */
    uint32_t expired;            /* list of nodes that came out and were not popped yet */
};

size_t wheel_bytes(uint32_t node_count);
void wheel_init(struct wheel *w, void *mem, uint32_t node_count, uint64_t now_us);

/** Have `node` come out at `at_us` or up to 64^L ticks before. Does nothing if it comes out earlier already.
 */
void wheel_arm(struct wheel *w, uint32_t node, uint64_t at_us);
/** Nothing is to be done for that: it comes out no later already. */
static inline bool wheel_armed(const struct wheel *w, uint32_t node, uint64_t at_us)
{
    const struct wheel_node *n = &w->nodes[node];

    return n->tick <= (at_us + (UINT64_C(1) << WHEEL_TICK_SHIFT) - 1) >> WHEEL_TICK_SHIFT &&
           n->bucket < WHEEL_LEVELS * WHEEL_BUCKETS;
}
void wheel_cancel(struct wheel *w, uint32_t node);
/** Move time to `now_us`. */
void wheel_advance(struct wheel *w, uint64_t now_us);
/** Next node that came out, unarmed again; NIL when there is none. */
uint32_t wheel_pop(struct wheel *w);
/** Microseconds at which the next node comes out; UINT64_MAX: none. */
uint64_t wheel_deadline(const struct wheel *w);

#endif

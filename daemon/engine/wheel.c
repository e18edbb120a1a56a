/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/wheel.h"

#include "daemon/engine/engine_int.h"

#define WHEEL_IDLE    UINT32_MAX
#define WHEEL_EXPIRED (UINT32_MAX - 1)
#define LEVEL_SHIFT   6u

/* Longest time ahead that the top level can tell apart; later times come out early and are armed again. */
#define WHEEL_SPAN    (UINT64_C(1) << (LEVEL_SHIFT * WHEEL_LEVELS))

size_t wheel_bytes(uint32_t node_count)
{
    return (size_t)node_count * sizeof(struct wheel_node);
}

void wheel_init(struct wheel *w, void *mem, uint32_t node_count, uint64_t now_us)
{
    w->nodes = mem;
    w->node_count = node_count;
    w->now = now_us >> WHEEL_TICK_SHIFT;
    w->expired = NIL;
    for (uint32_t i = 0; i < ARRAY_LEN(w->head); i++)
        w->head[i] = NIL;
    for (uint32_t i = 0; i < WHEEL_LEVELS; i++)
        w->bits[i] = 0;
    for (uint32_t i = 0; i < node_count; i++)
        w->nodes[i].bucket = WHEEL_IDLE;
}

static uint32_t *list_of(struct wheel *w, uint32_t bucket)
{
    return bucket == WHEEL_EXPIRED ? &w->expired : &w->head[bucket];
}

static void push(struct wheel *w, uint32_t node, uint32_t bucket)
{
    struct wheel_node *n = &w->nodes[node];
    uint32_t *head = list_of(w, bucket);

    n->bucket = bucket;
    n->prev = NIL;
    n->next = *head;
    if (*head != NIL)
        w->nodes[*head].prev = node;
    *head = node;
    if (bucket != WHEEL_EXPIRED)
        w->bits[bucket / WHEEL_BUCKETS] |= UINT64_C(1) << (bucket % WHEEL_BUCKETS);
}

void wheel_cancel(struct wheel *w, uint32_t node)
{
    struct wheel_node *n = &w->nodes[node];
    uint32_t *head;

    if (n->bucket == WHEEL_IDLE)
        return;
    head = list_of(w, n->bucket);
    if (n->prev != NIL)
        w->nodes[n->prev].next = n->next;
    else
        *head = n->next;
    if (n->next != NIL)
        w->nodes[n->next].prev = n->prev;
    if (*head == NIL && n->bucket != WHEEL_EXPIRED)
        w->bits[n->bucket / WHEEL_BUCKETS] &= ~(UINT64_C(1) << (n->bucket % WHEEL_BUCKETS));
    n->bucket = WHEEL_IDLE;
}

void wheel_arm(struct wheel *w, uint32_t node, uint64_t at_us)
{
    struct wheel_node *n = &w->nodes[node];
    /* Round up: a timer must not be found due a fraction of a tick too soon and spin until then. */
    uint64_t tick = (at_us + (UINT64_C(1) << WHEEL_TICK_SHIFT) - 1) >> WHEEL_TICK_SHIFT;
    unsigned level = 0;

    if (tick <= w->now)
        tick = w->now + 1;
    if (tick - w->now >= WHEEL_SPAN - WHEEL_SPAN / WHEEL_BUCKETS)
        tick = w->now + WHEEL_SPAN - WHEEL_SPAN / WHEEL_BUCKETS - 1;
    if (n->bucket == WHEEL_EXPIRED || (n->bucket != WHEEL_IDLE && n->tick <= tick))
        return;
    wheel_cancel(w, node);
    while ((tick >> (LEVEL_SHIFT * level)) - (w->now >> (LEVEL_SHIFT * level)) >= WHEEL_BUCKETS)
        level++;
    ENG_ASSERT(level < WHEEL_LEVELS);
    n->tick = (tick >> (LEVEL_SHIFT * level)) << (LEVEL_SHIFT * level);
    push(w, node, level * WHEEL_BUCKETS + (uint32_t)((tick >> (LEVEL_SHIFT * level)) & (WHEEL_BUCKETS - 1)));
}

static void expire_bucket(struct wheel *w, uint32_t bucket)
{
    uint32_t node = w->head[bucket];

    w->head[bucket] = NIL;
    w->bits[bucket / WHEEL_BUCKETS] &= ~(UINT64_C(1) << (bucket % WHEEL_BUCKETS));
    while (node != NIL) {
        uint32_t next = w->nodes[node].next;

        push(w, node, WHEEL_EXPIRED);
        node = next;
    }
}

void wheel_advance(struct wheel *w, uint64_t now_us)
{
    uint64_t tick = now_us >> WHEEL_TICK_SHIFT;

    if (tick <= w->now)
        return;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t from = (w->now >> (LEVEL_SHIFT * level)) + 1;
        uint64_t to = tick >> (LEVEL_SHIFT * level);

        if (to - from >= WHEEL_BUCKETS && to >= from)
            from = to - WHEEL_BUCKETS + 1;
        for (uint64_t pos = from; pos <= to && w->bits[level]; pos++)
            if (w->bits[level] & (UINT64_C(1) << (pos % WHEEL_BUCKETS)))
                expire_bucket(w, level * WHEEL_BUCKETS + (uint32_t)(pos % WHEEL_BUCKETS));
    }
    w->now = tick;
}

uint32_t wheel_pop(struct wheel *w)
{
    uint32_t node = w->expired;

    if (node != NIL)
        wheel_cancel(w, node);
    return node;
}

uint64_t wheel_deadline(const struct wheel *w)
{
    uint64_t best = UINT64_MAX;

    if (w->expired != NIL)
        return 0;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t pos = w->now >> (LEVEL_SHIFT * level);
        unsigned start = (unsigned)((pos + 1) % WHEEL_BUCKETS);
        uint64_t bits = w->bits[level];
        uint64_t tick;

        if (!bits)
            continue;
        /* Rotate so that bit 0 is the bucket after the current one. */
        if (start)
            bits = (bits >> start) | (bits << (WHEEL_BUCKETS - start));
        tick = (pos + 1 + (uint64_t)__builtin_ctzll(bits)) << (LEVEL_SHIFT * level);
        if (tick < best)
            best = tick;
    }
    return best == UINT64_MAX ? best : best << WHEEL_TICK_SHIFT;
}

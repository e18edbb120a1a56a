/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buddy allocator over the heap of a session's segment.
 *
 * The heap itself is hostile memory, so everything the allocator knows lies in private metadata: a binary
 * tree with one byte a node, which says the largest free block in that subtree (0: none, k: 2^(k-1+MIN)).
 * Allocation walks down from the root, release walks up: about a dozen steps for a heap of 16 GiB.
 */
#include "daemon/engine/engine_int.h"

#define HEAP_MIN    SG_REGION_LOG2_MIN
#define HEAP_MAX    SG_REGION_LOG2_MAX

/*
 * The heap is cut into trees of 2^HEAP_MAX bytes each (the largest region), so that the depth is constant.
 * A tree has 2^(HEAP_MAX-HEAP_MIN+1) nodes; node 1 is the root.
 * `first[k]` remembers where the search for a block of class k may start.
 */
#define TREE_LEVELS (HEAP_MAX - HEAP_MIN)
#define TREE_NODES  (2u << TREE_LEVELS)

struct heap {
    uint32_t trees;
    uint32_t first[TREE_LEVELS + 1]; /* no tree before this one has a free block of the class */
    uint8_t nodes[];                 /* trees * TREE_NODES */
};

size_t segheap_meta_bytes(uint64_t heap_bytes)
{
    return sizeof(struct heap) + (size_t)(heap_bytes >> HEAP_MAX) * TREE_NODES;
}

/* Nodes hold "largest free class + 1"; a zeroed tree would mean "all used", so store it inverted against
 * the value of an untouched tree: stored = full(level) - value. Zeroed metadata is then an empty heap. */
static uint8_t full_value(unsigned level)
{
    return (uint8_t)(TREE_LEVELS - level + 1);
}

static uint8_t node_get(const uint8_t *tree, uint32_t node, unsigned level)
{
    return (uint8_t)(full_value(level) - tree[node]);
}

static void node_set(uint8_t *tree, uint32_t node, unsigned level, uint8_t value)
{
    tree[node] = (uint8_t)(full_value(level) - value);
}

void segheap_init(void *meta, uint64_t heap_bytes)
{
    struct heap *h = meta;

    ENG_ASSERT(heap_bytes >> HEAP_MAX <= UINT32_MAX);
    h->trees = (uint32_t)(heap_bytes >> HEAP_MAX);
    memset(h->first, 0, sizeof(h->first));
}

/* Recompute the ancestors of `node`, which lies on `level`. */
static void update_up(uint8_t *tree, uint32_t node, unsigned level)
{
    while (level > 0) {
        uint8_t a = node_get(tree, node & ~1u, level);
        uint8_t b = node_get(tree, node | 1u, level);
        uint8_t whole = full_value(level);
        uint8_t value = a == whole && b == whole ? (uint8_t)(whole + 1) : (a > b ? a : b);

        node >>= 1;
        level--;
        node_set(tree, node, level, value);
    }
}

uint64_t segheap_alloc(void *meta, uint64_t heap_bytes, unsigned log2)
{
    struct heap *h = meta;
    unsigned class = log2 - HEAP_MIN;
    unsigned want_level = TREE_LEVELS - class;
    uint32_t t;

    ENG_ASSERT(log2 >= HEAP_MIN && log2 <= HEAP_MAX && h->trees == heap_bytes >> HEAP_MAX);
    for (t = h->first[class]; t < h->trees; t++) {
        uint8_t *tree = h->nodes + (size_t)t * TREE_NODES;
        uint32_t node = 1;
        unsigned level = 0;

        if (node_get(tree, 1, 0) < class + 1)
            continue;
        while (level < want_level) {
            level++;
            node *= 2;
            if (node_get(tree, node, level) < class + 1)
                node++;
        }
        node_set(tree, node, level, 0);
        update_up(tree, node, level);
        h->first[class] = t;
        return ((uint64_t)t << HEAP_MAX) + ((uint64_t)(node - (1u << level)) << log2);
    }
    h->first[class] = t;
    return UINT64_MAX;
}

void segheap_free(void *meta, uint64_t heap_bytes, uint64_t off, unsigned log2)
{
    struct heap *h = meta;
    uint32_t t = (uint32_t)(off >> HEAP_MAX);
    unsigned level = TREE_LEVELS - (log2 - HEAP_MIN);
    uint8_t *tree = h->nodes + (size_t)t * TREE_NODES;
    uint32_t node = (1u << level) + (uint32_t)((off & ((UINT64_C(1) << HEAP_MAX) - 1)) >> log2);

    ENG_ASSERT(t < h->trees && h->trees == heap_bytes >> HEAP_MAX);
    ENG_ASSERT(node_get(tree, node, level) == 0);
    node_set(tree, node, level, full_value(level));
    update_up(tree, node, level);
    for (unsigned c = 0; c <= TREE_LEVELS; c++)
        if (h->first[c] > t)
            h->first[c] = t;
}

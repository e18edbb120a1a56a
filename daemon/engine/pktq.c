/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of frames to send: a ring of packet buffers, each with memory of its own for the headers and as
 * much payload as fits. Frames leave in the order in which they were committed.
 */
#include "daemon/engine/engine_int.h"

#define PKTQ_ALIGN 64u

static size_t records_bytes(uint32_t count)
{
    return ((size_t)count * sizeof(struct pktbuf) + PKTQ_ALIGN - 1) & ~(size_t)(PKTQ_ALIGN - 1);
}

size_t pktq_bytes(uint32_t count)
{
    return records_bytes(count) + (size_t)count * PKT_LINEAR_MAX;
}

void pktq_init(struct pktq *q, void *mem, uint32_t count)
{
    ENG_ASSERT(count && !(count & (count - 1)));
    *q = (struct pktq){
        .pkts = mem,
        .mem = (uint8_t *)mem + records_bytes(count),
        .count = count,
    };
}

struct pktbuf *pktq_get(struct pktq *q)
{
    uint32_t at = q->tail & (q->count - 1);
    struct pktbuf *p = &q->pkts[at];

    ENG_ASSERT(!q->open);
    if (!pktq_room(q))
        return NULL;
    q->open = true;
    *p = (struct pktbuf){.data = q->mem + (size_t)at * PKT_LINEAR_MAX + PKT_HEADROOM};
    return p;
}

void pktq_commit(struct pktq *q)
{
    ENG_ASSERT(q->open);
    q->open = false;
    q->tail++;
}

void pktq_drop(struct pktq *q)
{
    ENG_ASSERT(q->open);
    q->open = false;
}

/* A frame without bytes is one that pktq_forget() struck out. */
unsigned pktq_peek(struct pktq *q, struct pktbuf *out[], unsigned max)
{
    unsigned n = 0;

    for (uint32_t i = q->head; i != q->tail && n < max; i++)
        if (q->pkts[i & (q->count - 1)].len)
            out[n++] = &q->pkts[i & (q->count - 1)];
    if (!n)
        q->head = q->tail;
    return n;
}

void pktq_consume(struct pktq *q, unsigned n)
{
    while (n) {
        ENG_ASSERT(q->head != q->tail);
        n -= q->pkts[q->head & (q->count - 1)].len != 0;
        q->head++;
    }
    if (q->head == q->tail)
        q->head = q->tail = 0; /* Start again where the cache is warm. */
}

void pktq_forget(struct pktq *q, const uint8_t *start, uint64_t bytes)
{
    for (uint32_t i = q->head; i != q->tail; i++) {
        struct pktbuf *p = &q->pkts[i & (q->count - 1)];

        for (unsigned k = 0; k < p->frag_count; k++)
            if ((uintptr_t)p->frag[k].ptr - (uintptr_t)start < bytes)
                p->len = 0;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queues of frames to send, one for each device: packet buffers, each with memory of its own for headers
 * and as much payload as fits. The frames of a device leave in the order in which they were committed.
 *
 * All frames come from one pool, since a frame is opened before its packet is routed. The pool holds as many
 * as all queues together, so a device that takes nothing can't use up what another needs.
 */
#include "daemon/engine/engine_int.h"

#define PKTQ_ALIGN 64u

static size_t align(size_t bytes)
{
    return (bytes + PKTQ_ALIGN - 1) & ~(size_t)(PKTQ_ALIGN - 1);
}

size_t pktq_bytes(uint32_t count, uint32_t devices)
{
    size_t total = (size_t)count * devices;

    return align(total * sizeof(struct pktbuf)) + 2 * align(total * sizeof(uint32_t)) +
           total * PKT_LINEAR_MAX;
}

void pktq_init(struct pktq *q, void *mem, uint32_t count, uint32_t devices)
{
    uint32_t total = count * devices;
    uint8_t *at = mem;
    uint32_t *rings;

    ENG_ASSERT(count && !(count & (count - 1)) && devices >= 1 && devices <= ENGINE_DEV_MAX);
    *q = (struct pktq){.pkts = mem, .count = count, .devices = devices, .idle = total};
    at += align((size_t)total * sizeof(struct pktbuf));
    q->free = (uint32_t *)(void *)at;
    at += align((size_t)total * sizeof(uint32_t));
    rings = (uint32_t *)(void *)at;
    q->mem = at + align((size_t)total * sizeof(uint32_t));
    for (uint32_t d = 0; d < devices; d++)
        q->dev[d].ring = rings + (size_t)d * count;
    for (uint32_t i = 0; i < total; i++)
        q->free[i] = total - 1 - i;
}

static struct pktbuf *frame_at(const struct pktq *q, const struct pktq_dev *d, uint32_t i)
{
    return &q->pkts[d->ring[i & (q->count - 1)]];
}

static void free_first(struct pktq *q, struct pktq_dev *d)
{
    ENG_ASSERT(d->head != d->tail);
    q->free[q->idle++] = d->ring[d->head++ & (q->count - 1)];
}

/* A frame without bytes is one that pktq_forget() struck out. */
unsigned pktq_peek(struct pktq *q, uint8_t dev, struct pktbuf *out[], unsigned max)
{
    struct pktq_dev *d = &q->dev[dev];
    unsigned n = 0;

    for (uint32_t i = d->head; i != d->tail && n < max; i++) {
        struct pktbuf *p = frame_at(q, d, i);

        if (p->len)
            out[n++] = p;
    }
    if (!n)
        pktq_flush(q, dev);
    return n;
}

void pktq_consume(struct pktq *q, uint8_t dev, unsigned n)
{
    struct pktq_dev *d = &q->dev[dev];

    while (n) {
        n -= frame_at(q, d, d->head)->len != 0;
        free_first(q, d);
    }
}

void pktq_flush(struct pktq *q, uint8_t dev)
{
    while (q->dev[dev].head != q->dev[dev].tail)
        free_first(q, &q->dev[dev]);
}

bool pktq_pending(const struct pktq *q)
{
    bool any = false;

    for (uint32_t d = 0; d < q->devices; d++)
        any |= q->dev[d].head != q->dev[d].tail;
    return any;
}

void pktq_forget(struct pktq *q, const uint8_t *start, uint64_t bytes)
{
    for (uint32_t d = 0; d < q->devices; d++) {
        for (uint32_t i = q->dev[d].head; i != q->dev[d].tail; i++) {
            struct pktbuf *p = frame_at(q, &q->dev[d], i);

            for (unsigned k = 0; k < p->frag_count; k++)
                if ((uintptr_t)p->frag[k].ptr - (uintptr_t)start < bytes)
                    p->len = 0;
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single-producer single-consumer rings of fixed-size records, and the sleep handshake.
 *
 * Indices are free-running 32-bit counters, masked on use: `tail - head` records are waiting, the ring is
 * full when that equals the number of entries. The producer owns `tail`, the consumer owns `head`; each
 * keeps a private copy of its own index and never reads it back from shared memory, so a hostile other side
 * can only lie about *its* index. The accessors clamp such a lie: they never report more than `entries`
 * waiting, and the daemon ends a session that lies (sg_ring_waiting() returns UINT32_MAX).
 *
 * Ordering, in pairs:
 *   [P1] producer: store-release of tail after the records   <-> consumer: load-acquire of tail.
 *   [P2] consumer: store-release of head after the reads     <-> producer: load-acquire of head.
 *   [P3] sleep handshake: producer publishes, full fence, reads the sleep word <-> consumer writes the
 *        sleep word, full fence, reads the published index again before it sleeps. One of the two sees the
 *        other's store, so a wake-up can be spurious but never lost.
 */
#ifndef SG_ABI_RING_H
#define SG_ABI_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** One side's view of a ring; lives in private memory of that side. */
struct sg_ring {
    uint32_t *tail;   /* shared: records published, written by the producer only */
    uint32_t *head;   /* shared: records consumed, written by the consumer only */
    void *slots;      /* shared: entries * record bytes */
    uint32_t entries; /* power of two */
    uint32_t own;     /* private: next index of this side (tail for a producer, head for a consumer) */
    uint32_t other;   /* private: last value seen of the other side's index */
};

static inline uint32_t sg_load_acquire_u32(const uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline uint32_t sg_load_relaxed_u32(const uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void sg_store_release_u32(uint32_t *p, uint32_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline void sg_store_relaxed_u32(uint32_t *p, uint32_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline uint64_t sg_load_acquire_u64(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline uint64_t sg_load_relaxed_u64(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void sg_store_release_u64(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline void sg_store_relaxed_u64(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}

/** The full fence of [P3] and of the posted/seen handshakes in slot.h. */
static inline void sg_fence(void)
{
#if defined(__SANITIZE_THREAD__)
    /* The thread sanitizer does not model fences; a locked operation on a private word is one it accepts. */
    static uint32_t word;
    (void)__atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/**
 * Producer: free entries. Reads the consumer's index only when the cached copy says full.
 * A consumer that claims to have consumed more than was produced yields 0 (the ring reads as full).
 */
static inline uint32_t sg_ring_free(struct sg_ring *r)
{
    uint32_t used = r->own - r->other;

    if (used >= r->entries) {
        r->other = sg_load_acquire_u32(r->head); /* [P2] */
        used = r->own - r->other;
        if (used > r->entries)
            return 0;
    }
    return r->entries - used;
}

/** Producer: the record at `own + ahead`; valid only when sg_ring_free() > ahead. */
static inline void *sg_ring_slot(const struct sg_ring *r, size_t record_bytes, uint32_t ahead)
{
    return (unsigned char *)r->slots + (size_t)((r->own + ahead) & (r->entries - 1)) * record_bytes;
}

/** Producer: publish `n` records that were filled in. */
static inline void sg_ring_publish(struct sg_ring *r, uint32_t n)
{
    r->own += n;
    sg_store_release_u32(r->tail, r->own); /* [P1] */
}

/**
 * Consumer: records waiting, 0..entries, or UINT32_MAX when the producer's index is impossible.
 * The records at `own + 0 .. own + n-1` may be read through sg_ring_slot().
 */
static inline uint32_t sg_ring_waiting(struct sg_ring *r)
{
    uint32_t n;

    r->other = sg_load_acquire_u32(r->tail); /* [P1] */
    n = r->other - r->own;
    return n <= r->entries ? n : UINT32_MAX;
}

/** Consumer: give `n` records back. */
static inline void sg_ring_consume(struct sg_ring *r, uint32_t n)
{
    r->own += n;
    sg_store_release_u32(r->head, r->own); /* [P2] */
}

#endif

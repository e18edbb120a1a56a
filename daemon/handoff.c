/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/handoff.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static_assert(sizeof(struct handoff_rec) <= HANDOFF_ALIGN, "a header fits wherever a record may begin");
static_assert((HANDOFF_RING_BYTES & (HANDOFF_RING_BYTES - 1)) == 0, "a power of two");

int handoff_open(struct handoff *h)
{
    void *mem = mmap(NULL, HANDOFF_RING_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    memset(h, 0, sizeof(*h));
    if (mem == MAP_FAILED)
        return -ENOMEM;
    h->mem = mem;
    return 0;
}

void handoff_close(struct handoff *h)
{
    if (h->mem)
        (void)munmap(h->mem, HANDOFF_RING_BYTES);
    h->mem = NULL;
}

/* ---- Producer ---------------------------------------------------------------------------------------- */

static uint32_t room(struct handoff *h, uint32_t need)
{
    uint32_t tail = h->tail;

    if (HANDOFF_RING_BYTES - (tail - h->head_seen) < need)
        h->head_seen = __atomic_load_n(&h->head, __ATOMIC_ACQUIRE); /* [H2] */
    return HANDOFF_RING_BYTES - (tail - h->head_seen);
}

/* Where a record of `len` bytes goes, its header written; NULL: no room. */
static uint8_t *begin(struct handoff *h, const struct handoff_rec *r, uint32_t len, uint32_t *total)
{
    uint32_t bytes = HANDOFF_ALIGN + ((len + HANDOFF_ALIGN - 1) & ~(HANDOFF_ALIGN - 1));
    uint32_t at = h->tail & (HANDOFF_RING_BYTES - 1), left = HANDOFF_RING_BYTES - at;
    uint32_t skip = left < bytes ? left : 0;
    struct handoff_rec rec = *r;

    if (room(h, skip + bytes) < skip + bytes)
        return NULL;
    if (skip) {
        struct handoff_rec s = {.bytes = skip, .kind = HANDOFF_SKIP};

        memcpy(h->mem + at, &s, sizeof(s));
        at = 0;
    }
    rec.bytes = bytes;
    rec.len = len;
    memcpy(h->mem + at, &rec, sizeof(rec));
    *total = skip + bytes;
    return h->mem + at + HANDOFF_ALIGN;
}

static void publish(struct handoff *h, uint32_t total)
{
    __atomic_store_n(&h->tail, h->tail + total, __ATOMIC_RELEASE); /* [H1] */
}

bool handoff_put_frame(struct handoff *h, const struct handoff_rec *r, const struct pktbuf *p)
{
    struct handoff_rec rec = *r;
    uint32_t total;
    uint8_t *to;

    rec.flags = p->flags;
    rec.csum_start = p->csum_start;
    rec.csum_offset = p->csum_offset;
    rec.gso_size = p->gso_size;
    rec.gso_type = p->gso_type;
    rec.hdr_len = p->hdr_len;
    to = begin(h, &rec, p->total, &total);
    if (!to)
        return false;
    memcpy(to, p->data, p->len);
    to += p->len;
    for (unsigned i = 0; i < p->frag_count; i++) {
        memcpy(to, p->frag[i].ptr, p->frag[i].len);
        to += p->frag[i].len;
    }
    publish(h, total);
    return true;
}

bool handoff_put(struct handoff *h, const struct handoff_rec *r, const void *a, uint32_t a_bytes,
                 const void *b, uint32_t b_bytes)
{
    uint32_t total;
    uint8_t *to = begin(h, r, a_bytes + b_bytes, &total);

    if (!to)
        return false;
    memcpy(to, a, a_bytes);
    if (b_bytes)
        memcpy(to + a_bytes, b, b_bytes);
    publish(h, total);
    return true;
}

/* ---- Consumer ---------------------------------------------------------------------------------------- */

bool handoff_pending(const struct handoff *h)
{
    return __atomic_load_n(&h->tail, __ATOMIC_ACQUIRE) != h->head;
}

bool handoff_peek(struct handoff *h, uint32_t *ahead, struct handoff_rec *ret, uint8_t **bytes)
{
    uint32_t tail = __atomic_load_n(&h->tail, __ATOMIC_ACQUIRE); /* [H1] */

    while (h->head + *ahead != tail) {
        uint8_t *at = h->mem + ((h->head + *ahead) & (HANDOFF_RING_BYTES - 1));

        memcpy(ret, at, sizeof(*ret));
        *ahead += ret->bytes;
        if (ret->kind == HANDOFF_SKIP)
            continue;
        *bytes = at + HANDOFF_ALIGN;
        return true;
    }
    return false;
}

void handoff_consume(struct handoff *h, uint32_t bytes)
{
    __atomic_store_n(&h->head, h->head + bytes, __ATOMIC_RELEASE); /* [H2] */
}

void handoff_frame(const struct handoff_rec *r, uint8_t *bytes, struct pktbuf *ret)
{
    *ret = (struct pktbuf){
        .data = bytes,
        .len = r->len,
        .total = r->len,
        .flags = r->flags,
        .csum_start = r->csum_start,
        .csum_offset = r->csum_offset,
        .gso_size = r->gso_size,
        .gso_type = r->gso_type,
        .hdr_len = r->hdr_len,
        .dev = r->dev,
    };
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One socket's slot: the daemon's line read in the right order, the application's line written in the right
 * order, and the frame of every call on a socket.
 */
#include <errno.h>

#include "client-lib/lib.h"

/* ---- A call under way ---------------------------------------------------------------------------- */

int sc__op_begin(struct op *op, struct sc_sock *s, int64_t timeout_ms, bool dontwait)
{
    if (!s)
        return -EINVAL;
    if (sc__lib_foreign(s->lib))
        return -EBADF;
    op->s = s;
    op->d = s->d;
    op->nonblock = dontwait || timeout_ms == 0;
    op->listed = op->granted = false;
    op->deadline_ns = op->nonblock || timeout_ms < 0 ? DEADLINE_NEVER : sc__deadline(timeout_ms);
    pthread_mutex_lock(&op->d->lock);
    if (__atomic_load_n(&s->closed, __ATOMIC_ACQUIRE)) {
        pthread_mutex_unlock(&op->d->lock);
        return -EBADF;
    }
    return 0;
}

int sc__op_block(struct op *op)
{
    struct desc *d = op->d;
    int rc;

    if (op->nonblock)
        sc__lib_check_alive(d->lib, false);
    if (sc__lib_dead(d->lib))
        return -ENETDOWN;
    if (op->nonblock)
        return -EAGAIN;
    if (!op->listed) { /* Listed first, looked at again afterwards: see channel.h. */
        sc__waiter_add(d->ch, d, &op->w);
        op->listed = true;
        return 0;
    }
    pthread_mutex_unlock(&d->lock);
    rc = sc__channel_wait(d->ch, &op->w, op->deadline_ns, WAIT_DEFER | WAIT_EINTR);
    pthread_mutex_lock(&d->lock);
    if (__atomic_load_n(&op->s->closed, __ATOMIC_ACQUIRE))
        return -EBADF;
    sc__waiter_reset(&op->w);
    return rc;
}

int sc__op_end(struct op *op, int rc)
{
    pthread_mutex_unlock(&op->d->lock);
    if (op->listed)
        sc__waiter_remove(op->d->ch, &op->w);
    return rc;
}

int sc__op_command(struct op *op, struct sg_cmd *cmd, uint64_t *value)
{
    struct desc *d = op->d;
    struct pending p = {0};
    int rc;

    cmd->slot = d->num;
    rc = sc__command_push(d->ch, cmd, &p);
    if (rc)
        return rc;
    pthread_mutex_unlock(&d->lock);
    rc = sc__command_wait(d->ch, &p);
    pthread_mutex_lock(&d->lock);
    if (rc >= 0 && value)
        *value = p.value;
    return __atomic_load_n(&op->s->closed, __ATOMIC_ACQUIRE) ? -EBADF : rc;
}

/* ---- The daemon's line --------------------------------------------------------------------------- */

void sc__line_read(const struct desc *d, struct line *ret)
{
    const struct sg_slot_daemon *l = &d->slot->d;

    /* The daemon writes rx_tail, error, flags, state in this order, so reading them backwards shows no end
     * of file or error before the bytes that came ahead of it. */
    ret->state = __atomic_load_n(&l->state, __ATOMIC_ACQUIRE);
    ret->flags = sg_load_acquire_u32(&l->flags);
    ret->error = sg_load_relaxed_u32(&l->error);
    ret->rx_tail = sg_load_acquire_u64(&l->rx_tail); /* [S1] */
}

uint8_t *sc__region(struct desc *d, uint32_t region, uint8_t log2)
{
    uint64_t off = (uint64_t)region << SG_REGION_SHIFT;
    const struct sc_lib *lib = d->lib;

    if (log2 >= SG_REGION_LOG2_MIN && log2 <= SG_REGION_LOG2_MAX && off >= lib->heap_off &&
        off <= lib->seg_bytes && UINT64_C(1) << log2 <= lib->seg_bytes - off)
        return lib->seg + off;
    sc__lib_die(d->lib);
    return NULL;
}

/* The region that follows, by the entry that the size class names. */
static const struct sg_next *next_of(uint8_t log2, const struct sg_next *entries)
{
    return &entries[log2 & SG_LOG2_ENTRY ? 1 : 0];
}

static bool rx_part(struct desc *d, uint32_t region, uint8_t log2, uint64_t pos, uint64_t len,
                    struct rx_part *ret)
{
    *ret = (struct rx_part){.log2 = log2, .pos = pos, .len = len, .base = sc__region(d, region, log2)};
    if (ret->base && len > UINT64_C(1) << log2) {
        sc__lib_die(d->lib);
        return false;
    }
    return ret->base;
}

bool sc__rx_view(struct desc *d, uint64_t tail, struct rx_view *ret)
{
    const struct sg_slot_daemon *l = &d->slot->d;
    uint8_t log2 = __atomic_load_n(&l->rx_log2, __ATOMIC_ACQUIRE); /* [S9] */
    uint64_t head = d->rx_head;
    uint64_t before = tail - head; /* what lies in rx_region */
    const struct sg_next *x;
    uint64_t at;
    uint8_t size;

    ret->len = before;
    ret->part[0].len = ret->part[1].len = 0;
    if (log2 & SG_LOG2_NEXT) {
        x = next_of(log2, d->slot->x.rx);
        at = sg_load_relaxed_u64(&x->at);
        if ((int64_t)(at - head) <= 0)
            before = 0;
        else if (before > at - head)
            before = at - head;
        size = __atomic_load_n(&x->log2, __ATOMIC_RELAXED);
        if (before < ret->len && !rx_part(d, sg_load_relaxed_u32(&x->region), size, head + before - at,
                                          ret->len - before, &ret->part[1]))
            return false;
    }
    return !before || rx_part(d, sg_load_relaxed_u32(&l->rx_region), log2 & SG_LOG2_MASK,
                              head - sg_load_relaxed_u64(&l->rx_base), before, &ret->part[0]);
}

void sc__rx_copy(const struct rx_view *v, void *buf, size_t n)
{
    size_t first = n < v->part[0].len ? n : (size_t)v->part[0].len;

    if (first)
        sg_bytes_get(v->part[0].base, v->part[0].log2, v->part[0].pos, buf, first);
    if (n > first)
        sg_bytes_get(v->part[1].base, v->part[1].log2, v->part[1].pos, (uint8_t *)buf + first, n - first);
}

/* ---- The application's line ---------------------------------------------------------------------- */

/* [S6] after writing the line and a full fence: kick unless a kick is pending. */
static void kick(struct desc *d)
{
    if (sg_load_acquire_u32(&d->slot->d.kick_seen) != d->kick_posted)
        return;
    d->kick_posted++;
    sg_store_release_u32(&d->slot->a.kick_posted, d->kick_posted);
    sc__kick_push(d->ch, d->num);
}

void sc__rx_advance(struct desc *d, uint64_t head)
{
    d->rx_head = head;
    sg_store_release_u64(&d->slot->a.rx_head, head); /* [S3] */
    sg_fence();                                      /* [S6], [S8] */
    if (head >= sg_load_relaxed_u64(&d->slot->d.rx_notify))
        kick(d);
}

void sc__tx_advance(struct desc *d, uint64_t tail)
{
    d->tx_tail = tail;
    sg_store_release_u64(&d->slot->a.tx_tail, tail); /* [S2] */
    sg_fence();                                      /* [S6] */
    kick(d);
}

static void want_write(struct desc *d)
{
    sg_store_relaxed_u32(&d->slot->a.want, (d->want_tx ? SG_WANT_TX : 0) | (d->tx_more ? SG_WANT_MORE : 0));
}

void sc__tx_more(struct desc *d, bool more)
{
    if (SC_LIKELY(d->tx_more == more))
        return;
    d->tx_more = more;
    want_write(d);
}

/* The bit is one for all threads: who clears it has the others that wait look again, and set it anew. */
static void want_set(struct desc *d, bool on)
{
    if (d->want_tx == on)
        return;
    d->want_tx = on;
    want_write(d);
    if (on) {
        sg_fence(); /* [S7] */
        return;
    }
    pthread_mutex_lock(&d->ch->lock);
    sc__channel_changed(d->ch, d);
    pthread_mutex_unlock(&d->ch->lock);
}

/* Free bytes of the present send region, which holds the bytes from tx_from on. */
static uint64_t tx_free(const struct desc *d, uint8_t log2)
{
    uint64_t head = sg_load_acquire_u64(&d->slot->d.tx_head); /* [S4] */
    uint64_t used = d->tx_tail - ((int64_t)(d->tx_from - head) > 0 ? d->tx_from : head);
    uint64_t size = UINT64_C(1) << log2;

    return used <= size ? size - used : 0;
}

/* True when the daemon offers a send region that has not been taken yet. */
static bool tx_offered(const struct desc *d, uint8_t log2)
{
    return log2 & SG_LOG2_NEXT && !!(log2 & SG_LOG2_ENTRY) != (d->tx_taken & 1);
}

/* From the next byte on into the region on offer. */
static void tx_take(struct desc *d)
{
    d->tx_taken++;
    d->tx_from = d->tx_base = d->tx_tail;
    sg_store_relaxed_u64(&d->slot->a.tx_next_at, d->tx_tail);
    sg_store_release_u32(&d->slot->a.tx_next, d->tx_taken); /* [S10] */
}

/* The region to write to; *log2 is what the daemon's line said. */
static uint8_t *tx_present(struct desc *d, uint8_t *log2)
{
    const struct sg_next *x = next_of(*log2, d->slot->x.tx);
    uint32_t region = sg_load_relaxed_u32(&d->slot->d.tx_region);

    if (*log2 & SG_LOG2_NEXT && !tx_offered(d, *log2)) {
        region = sg_load_relaxed_u32(&x->region);
        *log2 = __atomic_load_n(&x->log2, __ATOMIC_RELAXED);
    }
    *log2 &= SG_LOG2_MASK;
    return sc__region(d, region, *log2);
}

/* Ask for a send region. Unlocks the socket; others keep off the region meanwhile. */
static int tx_grant(struct op *op)
{
    struct sg_cmd cmd = {.op = SG_CMD_GRANT};
    struct desc *d = op->d;
    int rc;

    if (op->granted)
        return -ENOBUFS;
    op->granted = true;
    d->tx_busy = true;
    rc = sc__op_command(op, &cmd, NULL);
    d->tx_busy = false;
    pthread_mutex_lock(&d->ch->lock);
    sc__channel_changed(d->ch, d);
    pthread_mutex_unlock(&d->ch->lock);
    return rc < 0 ? rc : TX_LOOK_AGAIN;
}

int sc__tx_room(struct op *op, uint64_t need, struct tx_room *ret)
{
    struct desc *d = op->d;
    const struct sg_slot_daemon *l = &d->slot->d;

    if (d->tx_busy)
        return -EAGAIN;
    ret->log2 = __atomic_load_n(&l->tx_log2, __ATOMIC_ACQUIRE); /* [S9] */
    if (!sg_load_relaxed_u32(&l->tx_region))
        return tx_grant(op);
    if (SC_UNLIKELY(tx_offered(d, ret->log2)))
        tx_take(d);
    ret->base = tx_present(d, &ret->log2);
    if (!ret->base)
        return -ENETDOWN;
    if (need > UINT64_C(1) << ret->log2)
        return -EMSGSIZE;
    ret->free = tx_free(d, ret->log2);
    if (ret->free < need) {
        want_set(d, true);
        ret->free = tx_free(d, ret->log2); /* [S7] */
        if (ret->free < need)
            return -EAGAIN;
    }
    want_set(d, false);
    if (ret->free == UINT64_C(1) << ret->log2) { /* Empty: start again at the region's first line. */
        d->tx_base = d->tx_tail;
        sg_store_relaxed_u64(&d->slot->a.tx_base, d->tx_base);
    }
    ret->pos = d->tx_tail - d->tx_base;
    return 0;
}

bool sc__tx_acked(struct desc *d)
{
    if (sg_load_acquire_u64(&d->slot->d.tx_head) == d->tx_tail)
        return true;
    want_set(d, true);
    return sg_load_acquire_u64(&d->slot->d.tx_head) == d->tx_tail; /* [S7] */
}

bool sc__tx_writable(struct desc *d)
{
    const struct sg_slot_daemon *l = &d->slot->d;
    uint8_t log2 = __atomic_load_n(&l->tx_log2, __ATOMIC_ACQUIRE); /* [S9] */
    uint64_t third;

    if (d->tx_busy)
        return false;
    /* The next send asks for a region, or takes the one that is on offer. */
    if (!sg_load_relaxed_u32(&l->tx_region) || tx_offered(d, log2))
        return true;
    if (!tx_present(d, &log2))
        return false;
    /* The daemon tells of room from a third of the ring on, so that a sender is not woken for each segment.
     */
    third = (UINT64_C(1) << log2) / 3;
    if (tx_free(d, log2) >= third)
        return true;
    want_set(d, true);
    return tx_free(d, log2) >= third;
}

void sc__tx_release(struct desc *d)
{
    struct sg_cmd cmd = {.op = SG_CMD_RELEASE, .slot = d->num};
    struct pending p = {0};
    int rc = -EBUSY;

    pthread_mutex_lock(&d->lock);
    if (!d->closed && !d->tx_busy && sg_load_relaxed_u32(&d->slot->d.tx_region) &&
        sg_load_acquire_u64(&d->slot->d.tx_head) == d->tx_tail)
        rc = sc__command_push(d->ch, &cmd, &p);
    d->tx_busy |= rc == 0;
    pthread_mutex_unlock(&d->lock);
    if (rc)
        return;
    (void)sc__command_wait(d->ch, &p); /* -EBUSY: the daemon has changed its mind. */
    pthread_mutex_lock(&d->lock);
    d->tx_busy = false;
    pthread_mutex_lock(&d->ch->lock);
    sc__channel_changed(d->ch, d);
    pthread_mutex_unlock(&d->ch->lock);
    pthread_mutex_unlock(&d->lock);
}

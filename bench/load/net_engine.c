/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/engine_port.h"

#define BACKLOG     4096u

/* Linux's numbers. */
#define LEVEL_TCP   6u
#define TCP_NODELAY 1u

struct direct {
    struct net net; /* first */
    struct engine_port port;
    struct conn **by_slot;
    uint32_t *spare; /* free slots, a stack */
    uint32_t spare_count;
    struct conn_list ready; /* listeners' fresh connections */
};

static struct direct *direct_of(struct net *n)
{
    return (struct direct *)n;
}

static struct sg_slot *slot_of(struct net *n, const struct conn *c)
{
    return &direct_of(n)->port.slots[c->h.slot];
}

static uint8_t *region(const struct engine_port *p, uint32_t number)
{
    return p->segment + ((uint64_t)number << SG_REGION_SHIFT);
}

static void slot_give(struct direct *d, uint32_t slot)
{
    d->by_slot[slot] = NULL;
    d->spare[d->spare_count++] = slot;
}

static void slot_use(struct direct *d, uint32_t slot, struct conn *c)
{
    c->h.slot = slot;
    d->by_slot[slot] = c;
}

static int fresh(struct direct *d, struct conn *c)
{
    uint32_t slot;
    int rc;

    if (!d->spare_count)
        return -EMFILE;
    slot = d->spare[--d->spare_count];
    rc = engine_open(d->port.e, d->port.sid, slot, SG_SOCK_STREAM, 0, SG_AF_INET);
    if (!rc)
        rc = engine_setopt(d->port.e, d->port.sid, slot, LEVEL_TCP, TCP_NODELAY, 1, d->port.now_us);
    if (rc)
        d->spare[d->spare_count++] = slot;
    else
        slot_use(d, slot, c);
    return rc;
}

static void direct_close(struct net *n, struct conn *c)
{
    struct direct *d = direct_of(n);

    if (c->queued)
        TAILQ_REMOVE(&d->ready, c, ready);
    c->queued = false;
    (void)engine_close(d->port.e, d->port.sid, c->h.slot, d->port.now_us);
    slot_give(d, c->h.slot);
}

static int direct_listen(struct net *n, uint16_t port, struct conn *ret)
{
    struct direct *d = direct_of(n);
    const struct ip_ep any = {.addr = {.family = SG_AF_INET}, .port = port};
    int rc = fresh(d, ret);

    if (rc)
        return rc;
    rc = engine_bind(d->port.e, d->port.sid, ret->h.slot, &any);
    if (!rc)
        rc = engine_listen(d->port.e, d->port.sid, ret->h.slot, BACKLOG, SG_OVERFLOW_DROP);
    if (rc)
        direct_close(n, ret);
    return rc;
}

static int direct_accept(struct net *n, struct conn *listener, struct conn *ret)
{
    struct direct *d = direct_of(n);
    uint32_t slot;
    int rc;

    if (!d->spare_count)
        return -EMFILE;
    slot = d->spare[d->spare_count - 1];
    rc = engine_accept(d->port.e, d->port.sid, listener->h.slot, slot, d->port.now_us);
    if (rc)
        return rc;
    d->spare_count--;
    slot_use(d, slot, ret);
    ret->queued = true;
    TAILQ_INSERT_TAIL(&d->ready, ret, ready);
    return 0;
}

static int direct_connect(struct net *n, const uint8_t ip[4], uint16_t port, struct conn *ret)
{
    struct direct *d = direct_of(n);
    struct ip_ep to = {.addr = {.family = SG_AF_INET}, .port = port};
    int rc = fresh(d, ret);

    if (rc)
        return rc;
    memcpy(to.addr.ip, ip, 4);
    rc = engine_connect(d->port.e, d->port.sid, ret->h.slot, &to, d->port.now_us);
    if (rc)
        direct_close(n, ret);
    return rc;
}

static int direct_connected(struct net *n, struct conn *c)
{
    const struct sg_slot_daemon *l = &slot_of(n, c)->d;

    if (l->flags & SG_F_ERROR)
        return -(int)l->error;
    return l->state == SG_ST_CONNECTED ? 0 : -EAGAIN;
}

/* ---- Bytes [S1] to [S10], all on one thread ------------------------------------------------------- */

static const struct sg_next *next_of(uint8_t log2, const struct sg_next *entries)
{
    return &entries[log2 & SG_LOG2_ENTRY ? 1 : 0];
}

/* A send region that is on offer is taken; returns where the next byte goes and how many find room. */
static uint8_t *tx_room(struct direct *d, struct sg_slot *s, unsigned *log2, uint64_t *room)
{
    uint8_t flags = s->d.tx_log2;
    const struct sg_next *x = next_of(flags, s->x.tx);
    uint64_t from;

    if (flags & SG_LOG2_NEXT && !!(flags & SG_LOG2_ENTRY) != (s->a.tx_next & 1)) {
        s->a.tx_next_at = s->a.tx_base = s->a.tx_tail;
        s->a.tx_next++;
    }
    *log2 = (flags & SG_LOG2_NEXT ? x->log2 : flags) & SG_LOG2_MASK;
    from = s->d.tx_head > s->a.tx_next_at ? s->d.tx_head : s->a.tx_next_at;
    *room = (UINT64_C(1) << *log2) - (s->a.tx_tail - from);
    return region(&d->port, flags & SG_LOG2_NEXT ? x->region : s->d.tx_region);
}

static ssize_t direct_send(struct net *n, struct conn *c, const void *buf, size_t len)
{
    struct direct *d = direct_of(n);
    struct sg_slot *s = slot_of(n, c);
    uint64_t room;
    uint8_t *to;
    unsigned log2;

    if (s->d.flags & (SG_F_ERROR | SG_F_TX_SHUT))
        return s->d.flags & SG_F_ERROR ? -(ssize_t)s->d.error : -EPIPE;
    if (!s->d.tx_region) {
        int rc = engine_grant(d->port.e, d->port.sid, c->h.slot);

        if (rc)
            return rc;
        engine_publish(d->port.e, d->port.now_us);
    }
    to = tx_room(d, s, &log2, &room);
    if (!room) {
        s->a.want |= SG_WANT_TX;
        return -EAGAIN;
    }
    s->a.want &= ~SG_WANT_TX;
    if (room == UINT64_C(1) << log2)
        s->a.tx_base = s->a.tx_tail;
    if (len > room)
        len = room;
    sg_bytes_put(to, log2, s->a.tx_tail - s->a.tx_base, buf, len);
    s->a.tx_tail += len;
    engine_port_kick(&d->port, c->h.slot);
    return (ssize_t)len;
}

static void rx_copy(const struct engine_port *p, const struct sg_slot *s, uint8_t *buf, size_t len)
{
    const struct sg_next *x = next_of(s->d.rx_log2, s->x.rx);
    uint64_t head = s->a.rx_head;
    size_t before = len;

    if (s->d.rx_log2 & SG_LOG2_NEXT && head + len > x->at)
        before = head < x->at ? (size_t)(x->at - head) : 0;
    if (before)
        sg_bytes_get(region(p, s->d.rx_region), s->d.rx_log2 & SG_LOG2_MASK, head - s->d.rx_base, buf,
                     before);
    if (before < len)
        sg_bytes_get(region(p, x->region), x->log2, head + before - x->at, buf + before, len - before);
}

static ssize_t direct_recv(struct net *n, struct conn *c, void *buf, size_t len)
{
    struct engine_port *p = &direct_of(n)->port;
    struct sg_slot *s = slot_of(n, c);
    uint64_t there = s->d.rx_tail - s->a.rx_head;

    if (!there) {
        if (s->d.flags & SG_F_ERROR)
            return -(ssize_t)s->d.error;
        return s->d.flags & SG_F_RX_FIN ? 0 : -EAGAIN;
    }
    if (len > there)
        len = there;
    rx_copy(p, s, buf, len);
    s->a.rx_head += len;
    if (s->a.rx_head >= s->d.rx_notify)
        engine_port_kick(p, c->h.slot);
    return (ssize_t)len;
}

/* ---- Waiting -------------------------------------------------------------------------------------- */

static unsigned take_queued(struct direct *d, struct conn *ret[])
{
    unsigned n = 0;

    while (n < NET_READY_MAX && !TAILQ_EMPTY(&d->ready)) {
        ret[n] = TAILQ_FIRST(&d->ready);
        TAILQ_REMOVE(&d->ready, ret[n], ready);
        ret[n++]->queued = false;
    }
    return n;
}

static int direct_wait(struct net *n, int64_t timeout_us, struct conn *ret[])
{
    struct direct *d = direct_of(n);
    uint64_t until_us = timeout_us < 0 ? UINT64_MAX : net_now_ns() / 1000 + (uint64_t)timeout_us;
    uint32_t slots[NET_READY_MAX];
    unsigned count = take_queued(d, ret);

    while (!count) {
        int events = engine_port_turn(&d->port, slots, NET_READY_MAX);

        if (events < 0)
            return events;
        for (int i = 0; i < events; i++)
            if (d->by_slot[slots[i]])
                ret[count++] = d->by_slot[slots[i]];
        if (count || d->port.now_us >= until_us)
            break;
        engine_port_idle(&d->port, until_us - d->port.now_us);
    }
    return (int)count;
}

static void direct_free(struct net *n)
{
    struct direct *d = direct_of(n);

    engine_port_close(&d->port);
    free(d->by_slot);
    free(d->spare);
    free(d);
}

static const struct net_ops direct_ops = {
    .kind = "engine",
    .listen = direct_listen,
    .accept = direct_accept,
    .connect = direct_connect,
    .connected = direct_connected,
    .send = direct_send,
    .recv = direct_recv,
    .close = direct_close,
    .wait = direct_wait,
    .free = direct_free,
};

int net_engine_open(const struct net_params *p, struct net **ret, char error[NET_ERROR_MAX])
{
    struct direct *d = calloc(1, sizeof(*d));
    int rc;

    if (!d)
        return -ENOMEM;
    d->net.ops = &direct_ops;
    TAILQ_INIT(&d->ready);
    rc = engine_port_open(p, &d->net.spin, &d->port, error);
    if (rc) {
        free(d);
        return rc;
    }
    d->by_slot = calloc(d->port.slot_count, sizeof(struct conn *));
    d->spare = calloc(d->port.slot_count, sizeof(*d->spare));
    if (!d->by_slot || !d->spare) {
        direct_free(&d->net);
        return -ENOMEM;
    }
    for (uint32_t slot = d->port.slot_count - 1; slot; slot--)
        d->spare[d->spare_count++] = slot;
    *ret = &d->net;
    return 0;
}

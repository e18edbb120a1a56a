/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams: records in the same rings as streams, each a header and its payload (proto/abi/slot.h).
 */
#include <errno.h>
#include <string.h>

#include "client-lib/lib.h"

static_assert(SC_DGRAM_BYTES_MAX == SG_DGRAM_BYTES_MAX, "the public limit is the contract's");

#define LINUX_SOL_SOCKET 1
#define LINUX_SO_ERROR   4

/*
 * An ICMP error about an earlier datagram: reported once. Asking the daemon for SO_ERROR takes it away, and
 * two threads that ask at once get it once.
 */
static int soft_error(struct op *op)
{
    struct sg_cmd cmd = {.op = SG_CMD_GETOPT, .arg0 = LINUX_SOL_SOCKET, .arg1 = LINUX_SO_ERROR};
    uint64_t error = 0;
    int rc = sc__op_command(op, &cmd, &error);

    if (rc < 0)
        return rc;
    return error && error < 4096 ? -(int)error : 0;
}

static int errors_first(struct op *op, struct line *l)
{
    int rc;

    sc__line_read(op->d, l);
    if (l->flags & SG_F_SOFT_ERR) {
        rc = soft_error(op);
        sc__line_read(op->d, l);
        if (rc)
            return rc;
    }
    return l->flags & SG_F_ERROR ? -(int)l->error : 0;
}

/* The oldest record, checked; false when it makes no sense. */
static bool record_read(struct desc *d, uint64_t avail, struct sg_dgram_hdr *h, const uint8_t **base,
                        uint8_t *log2, uint64_t *pos)
{
    const struct sg_slot_daemon *dl = &d->slot->d;

    *log2 = __atomic_load_n(&dl->rx_log2, __ATOMIC_ACQUIRE); /* [S9]; a datagram ring doesn't switch */
    *base = sc__region(d, sg_load_relaxed_u32(&dl->rx_region), *log2);
    if (!*base)
        return false;
    *pos = d->rx_head - sg_load_relaxed_u64(&dl->rx_base);
    sg_bytes_get(*base, *log2, *pos, h, sizeof(*h));
    if (avail <= UINT64_C(1) << *log2 && h->len <= SG_DGRAM_BYTES_MAX && sg_dgram_record_bytes(h) <= avail)
        return true;
    sc__lib_die(d->lib);
    return false;
}

static void info_read(const struct sg_dgram_hdr *h, const struct sg_dgram_info *i, sc_msg_info *ret)
{
    *ret = (sc_msg_info){.ttl = -1, .tos = -1, .bytes = h->len};
    if (!(h->flags & SG_DGRAM_INFO))
        return;
    sc__addr_from_slot(&ret->local, h->family, i->addr, 0, 0);
    ret->ifnum = i->ifnum;
    ret->ttl = i->ttl;
    ret->tos = i->tos;
}

ssize_t sc__dgram_take(struct op *op, void *buf, size_t n, bool peek, sc_addr *from, sc_msg_info *info)
{
    struct desc *d = op->d;
    struct sg_dgram_info i;
    struct sg_dgram_hdr h;
    const uint8_t *base;
    struct line l;
    uint8_t log2;
    uint64_t pos;
    int rc = errors_first(op, &l);

    if (rc)
        return rc;
    if (l.rx_tail == d->rx_head)
        return l.flags & SG_F_RX_FIN ? 0 : -EAGAIN;
    if (!record_read(d, l.rx_tail - d->rx_head, &h, &base, &log2, &pos))
        return -ENETDOWN;
    if (n > h.len)
        n = h.len; /* And what does not fit is lost. */
    pos += sizeof(h);
    if (h.flags & SG_DGRAM_INFO) {
        sg_bytes_get(base, log2, pos, &i, sizeof(i));
        pos += sizeof(i);
    }
    sg_bytes_get(base, log2, pos, buf, n);
    if (info)
        info_read(&h, &i, info);
    if (from)
        sc__addr_from_slot(from, h.family, h.addr, h.port, h.scope);
    if (!peek)
        sc__rx_advance(d, d->rx_head + sg_dgram_record_bytes(&h));
    return (ssize_t)n;
}

/* The header of a datagram to `to`, or to the peer. */
static int header_fill(struct sg_dgram_hdr *h, const struct desc *d, const struct line *l, size_t n,
                       const sc_addr *to)
{
    struct sg_cmd name = {0};
    int rc;

    *h = (struct sg_dgram_hdr){.len = (uint32_t)n};
    if (!to)
        return l->state == SG_ST_CONNECTED ? 0 : -EDESTADDRREQ;
    rc = sc__addr_to_cmd(to, d->family, &name);
    if (rc)
        return rc;
    if (!to->port && d->type != SG_SOCK_RAW) /* Raw sockets have none. */
        return -EADDRNOTAVAIL;
    h->family = name.family;
    h->port = name.port;
    h->scope = name.scope;
    memcpy(h->addr, name.addr, sizeof(h->addr));
    return 0;
}

/* 0, or -EINVAL: an address of another family, or numbers that no header has. */
static int info_fill(struct sg_dgram_info *i, const struct desc *d, const sc_msg_info *info)
{
    struct sg_cmd name = {0};
    int rc = 0;

    if (info->ttl < -1 || info->ttl == 0 || info->ttl > UINT8_MAX || info->tos < -1 || info->tos > UINT8_MAX)
        return -EINVAL;
    *i = (struct sg_dgram_info){.ifnum = info->ifnum, .ttl = (int16_t)info->ttl, .tos = (int16_t)info->tos};
    if (info->local.family)
        rc = sc__addr_to_cmd(&info->local, d->family, &name);
    memcpy(i->addr, name.addr, sizeof(i->addr));
    return rc ? -EINVAL : 0;
}

static ssize_t put_once(struct op *op, const void *buf, size_t n, const sc_addr *to, const sc_msg_info *info)
{
    struct desc *d = op->d;
    struct sg_dgram_info i;
    struct sg_dgram_hdr h;
    struct tx_room room;
    uint64_t bytes;
    struct line l;
    int rc = errors_first(op, &l);

    if (rc)
        return rc;
    if (n > SG_DGRAM_BYTES_MAX)
        return -EMSGSIZE;
    if (d->tx_shut || (l.flags & SG_F_TX_SHUT))
        return -EPIPE;
    rc = header_fill(&h, d, &l, n, to);
    if (!rc && info) {
        h.flags |= SG_DGRAM_INFO;
        rc = info_fill(&i, d, info);
    }
    if (rc)
        return rc;
    if (sc__lib_dead(d->lib))
        return -ENETDOWN;
    bytes = sg_dgram_record_bytes(&h);
    rc = sc__tx_room(op, bytes, &room);
    if (rc)
        return rc;
    sg_bytes_put(room.base, room.log2, room.pos, &h, sizeof(h));
    room.pos += sizeof(h);
    if (info) {
        sg_bytes_put(room.base, room.log2, room.pos, &i, sizeof(i));
        room.pos += sizeof(i);
    }
    if (n)
        sg_bytes_put(room.base, room.log2, room.pos, buf, n);
    sc__tx_advance(d, d->tx_tail + bytes);
    return (ssize_t)n;
}

ssize_t sc__dgram_put(struct op *op, const void *buf, size_t n, const sc_addr *to, const sc_msg_info *info)
{
    ssize_t rc;

    do
        rc = put_once(op, buf, n, to, info);
    while (rc == TX_LOOK_AGAIN);
    return rc;
}

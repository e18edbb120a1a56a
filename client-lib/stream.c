/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving and sending. One non-blocking step each way for TCP; over them and those of dgram.c the loops
 * that block, fill, don't fall short and time out.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "client-lib/lib.h"

/* First allocation of sc_readall(); it doubles from there. */
#define READALL_BYTES_MIN 4096

/* ---- One step, socket locked --------------------------------------------------------------------- */

int sc__stream_rx_error(struct desc *d, const struct line *l)
{
    if (!(l->flags & SG_F_ERROR))
        return 0;
    d->connected |= l->error == ECONNRESET;
    if (!d->err_reported) {
        d->err_reported = true;
        return -(int)l->error;
    }
    return d->connected ? 0 : -ENOTCONN;
}

int sc__stream_tx_error(struct desc *d, const struct line *l, const sc_profile *p)
{
    bool reported = d->err_reported;

    if (!(l->flags & SG_F_ERROR))
        return 0;
    d->err_reported = true;
    return reported && p->dead_send_epipe ? -EPIPE : -(int)l->error;
}

/* What a receive finds when no byte is there: 0 at the end of the stream, or an error. */
static int rx_nothing(struct desc *d, const struct line *l)
{
    switch ((enum sg_state)l->state) {
    case SG_ST_FREE:
    case SG_ST_OPEN:
    case SG_ST_LISTENING:
        return -ENOTCONN;
    case SG_ST_CONNECTING:
        return -EAGAIN;
    case SG_ST_CONNECTED:
    case SG_ST_CLOSED:
        break;
    }
    if (l->flags & SG_F_ERROR)
        return sc__stream_rx_error(d, l);
    if ((l->flags & SG_F_RX_FIN) || l->state == SG_ST_CLOSED)
        return 0;
    return -EAGAIN;
}

ssize_t sc__stream_take(struct op *op, void *buf, size_t n, bool peek)
{
    struct desc *d = op->d;
    struct rx_view v;
    struct line l;

    sc__line_read(d, &l);
    if (l.rx_tail == d->rx_head || !sc__rx_view(d, l.rx_tail, &v))
        return rx_nothing(d, &l);
    d->connected = true;
    if (n > v.len)
        n = (size_t)v.len;
    sc__rx_copy(&v, buf, n);
    if (!peek)
        sc__rx_advance(d, d->rx_head + n);
    return (ssize_t)n;
}

/* Take bytes up to and with the first newline among the first n. */
static ssize_t line_take(struct op *op, uint8_t *buf, size_t n)
{
    ssize_t got = sc__stream_take(op, buf, n, true);
    const uint8_t *end;

    if (got <= 0)
        return got;
    end = memchr(buf, '\n', (size_t)got);
    if (end)
        got = end - buf + 1;
    sc__rx_advance(op->d, op->d->rx_head + (uint64_t)got);
    return got;
}

static ssize_t put_once(struct op *op, const void *buf, size_t n, bool whole, bool more)
{
    struct desc *d = op->d;
    const sc_profile *p = sc__profile(op->s);
    struct tx_room room;
    struct line l;
    int rc;

    sc__line_read(d, &l);
    if (l.state == SG_ST_OPEN || l.state == SG_ST_LISTENING || l.state == SG_ST_FREE)
        return p->dead_send_epipe ? -EPIPE : -ENOTCONN;
    if (l.flags & SG_F_ERROR)
        return sc__stream_tx_error(d, &l, p);
    if (d->tx_shut || (l.flags & SG_F_TX_SHUT) || l.state == SG_ST_CLOSED)
        return -EPIPE;
    if (l.state == SG_ST_CONNECTING)
        return -EAGAIN;
    if (sc__lib_dead(d->lib))
        return -ENETDOWN;
    rc = sc__tx_room(op, whole ? n : 1, &room);
    if (rc == -EMSGSIZE) /* More at once than the ring holds: it will never fit. */
        return -EAGAIN;
    if (rc)
        return rc;
    if (n > room.free)
        n = (size_t)room.free;
    sg_bytes_put(room.base, room.log2, room.pos, buf, n);
    sc__tx_more(d, more);
    sc__tx_advance(d, d->tx_tail + n);
    return (ssize_t)n;
}

ssize_t sc__stream_put(struct op *op, const void *buf, size_t n, bool whole, bool more)
{
    ssize_t rc;

    do
        rc = put_once(op, buf, n, whole, more);
    while (rc == TX_LOOK_AGAIN);
    return rc;
}

/* ---- The frames of receiving --------------------------------------------------------------------- */

static int64_t rcv_timeout(const sc_sock *s)
{
    return __atomic_load_n(&s->rcv_ms, __ATOMIC_RELAXED);
}

static int64_t snd_timeout(const sc_sock *s)
{
    return __atomic_load_n(&s->snd_ms, __ATOMIC_RELAXED);
}

/* Check arguments, read flags, lock. */
static int begin(struct op *op, sc_sock *s, const void *buf, size_t n, int flags, bool sending, unsigned *ret)
{
    int rc;

    *ret = 0;
    if (!s || (!buf && n) || n > SSIZE_MAX)
        return -EINVAL;
    rc = flags ? sc__msg_flags(sc__profile(s), flags, ret) : 0;
    if (rc)
        return rc;
    return sc__op_begin(op, s, sending ? snd_timeout(s) : rcv_timeout(s), *ret & MSGF_DONTWAIT);
}

/* One short receive from a stream or one datagram. */
static ssize_t receive_some(sc_sock *s, void *buf, size_t n, int flags, sc_addr *from, sc_msg_info *info)
{
    struct op op;
    unsigned f;
    ssize_t got;
    int rc = begin(&op, s, buf, n, flags, false, &f);

    if (rc)
        return rc;
    if (n == 0)
        return sc__op_end(&op, 0);
    do {
        if (op.d->type == SG_SOCK_STREAM)
            got = sc__stream_take(&op, buf, n, f & MSGF_PEEK);
        else
            got = sc__dgram_take(&op, buf, n, f & MSGF_PEEK, from, info);
    } while (got == -EAGAIN && (got = sc__op_block(&op)) == 0);
    if (got >= 0 && info && op.d->type == SG_SOCK_STREAM)
        *info = (sc_msg_info){.ttl = -1, .tos = -1, .bytes = (size_t)got};
    if (got >= 0 && from && op.d->type == SG_SOCK_STREAM) {
        const struct sg_slot_name *name = &op.d->slot->n;

        sc__addr_from_slot(from, name->family, name->remote, name->remote_port, name->remote_scope);
    }
    sc__op_end(&op, 0);
    return got;
}

/* Receive until n bytes are there, the stream ends or something fails; *got counts. 0 or an error. */
static int receive_full(sc_sock *s, void *buf, size_t n, int flags, size_t *got)
{
    struct op op;
    unsigned f;
    ssize_t rc = begin(&op, s, buf, n, flags, false, &f);

    *got = 0;
    if (rc)
        return (int)rc;
    if (op.d->type != SG_SOCK_STREAM || f & MSGF_PEEK) /* A peek that waited for more would never see it. */
        return sc__op_end(&op, -EOPNOTSUPP);
    while (*got < n) {
        rc = sc__stream_take(&op, (uint8_t *)buf + *got, n - *got, false);
        if (rc > 0)
            *got += (size_t)rc;
        if (rc == -EAGAIN)
            rc = sc__op_block(&op);
        else if (rc == 0)
            break;
        if (rc < 0)
            break;
    }
    return sc__op_end(&op, rc < 0 ? (int)rc : 0);
}

ssize_t sc_recv_some(sc_sock *s, void *buf, size_t n, int flags)
{
    return receive_some(s, buf, n, flags, NULL, NULL);
}

int sc_recv_full(sc_sock *s, void *buf, size_t n, int flags, size_t *got)
{
    size_t count;
    int rc = receive_full(s, buf, n, flags, &count);

    if (got)
        *got = count;
    return rc;
}

ssize_t sc_recv(sc_sock *s, void *buf, size_t n, int flags)
{
    unsigned f = 0;
    size_t got;
    bool fill;
    int rc;

    if (!s)
        return -EINVAL;
    if (flags) {
        rc = sc__msg_flags(sc__profile(s), flags, &f);
        if (rc)
            return rc;
    }
    fill = sc__profile(s)->recv_fill || (f & MSGF_WAITALL);
    if (!fill || (f & MSGF_PEEK) || s->d->type != SG_SOCK_STREAM)
        return receive_some(s, buf, n, flags, NULL, NULL);
    rc = receive_full(s, buf, n, flags, &got);
    if (rc == -EAGAIN && got) /* Without waiting, what is there is all that was asked for. */
        rc = 0;
    return rc ? rc : (ssize_t)got;
}

/* The Python form "n below 0: the whole buffer". */
static bool into_size(size_t size, ssize_t *n)
{
    if (*n < 0)
        *n = (ssize_t)(size < SSIZE_MAX ? size : SSIZE_MAX);
    return (size_t)*n <= size;
}

ssize_t sc_recv_into(sc_sock *s, void *buf, size_t size, ssize_t n, int flags)
{
    return into_size(size, &n) ? sc_recv(s, buf, (size_t)n, flags) : -EINVAL;
}

ssize_t sc_recvfrom(sc_sock *s, void *buf, size_t n, int flags, sc_addr *from)
{
    return receive_some(s, buf, n, flags, from, NULL);
}

ssize_t sc_recvmsg(sc_sock *s, void *buf, size_t n, int flags, sc_addr *from, sc_msg_info *info)
{
    return receive_some(s, buf, n, flags, from, info);
}

ssize_t sc_recvfrom_into(sc_sock *s, void *buf, size_t size, ssize_t n, int flags, sc_addr *from)
{
    return into_size(size, &n) ? receive_some(s, buf, (size_t)n, flags, from, NULL) : -EINVAL;
}

/* ---- The frames of sending
 * --------------------------------------------------------------------------------- */

/* Send from a locked stream: all, or the first piece that fits; *sent counts. 0 or an error. */
static int stream_send(struct op *op, const void *buf, size_t n, bool all, bool more, size_t *sent)
{
    ssize_t rc = 0;

    while (*sent < n) {
        rc = sc__stream_put(op, (const uint8_t *)buf + *sent, n - *sent, false, more);
        if (rc > 0)
            *sent += (size_t)rc;
        if (rc == -EAGAIN)
            rc = sc__op_block(op);
        else if (!all)
            break;
        if (rc < 0)
            break;
    }
    return rc < 0 ? (int)rc : 0;
}

/* One datagram, whole. */
static ssize_t dgram_send(struct op *op, const void *buf, size_t n, const sc_addr *to,
                          const sc_msg_info *info)
{
    ssize_t rc;

    do
        rc = sc__dgram_put(op, buf, n, to, info);
    while (rc == -EAGAIN && (rc = sc__op_block(op)) == 0);
    return rc;
}

ssize_t sc_sendmsg(sc_sock *s, const void *buf, size_t n, int flags, const sc_addr *to,
                   const sc_msg_info *info)
{
    size_t sent = 0;
    struct op op;
    ssize_t rc;
    unsigned f;

    rc = begin(&op, s, buf, n, flags, true, &f);
    if (rc)
        return rc;
    if (op.d->type != SG_SOCK_STREAM) {
        rc = f & (MSGF_MORE | MSGF_FASTOPEN) ? -EOPNOTSUPP : dgram_send(&op, buf, n, to, info);
    } else if (f & MSGF_FASTOPEN && (rc = sc__connect_fastopen(&op, to)) < 0) {
        ; /* Not yet, or not at all. */
    } else if (n == 0 && !to && sc__profile(s)->empty_send_fails) {
        rc = op.nonblock ? -EAGAIN : -ETIMEDOUT;
    } else {
        rc = stream_send(&op, buf, n, sc__profile(s)->send_loops, f & MSGF_MORE, &sent);
        if (sent)
            rc = (ssize_t)sent;
    }
    sc__op_end(&op, 0);
    return rc;
}

ssize_t sc_sendto(sc_sock *s, const void *buf, size_t n, int flags, const sc_addr *to)
{
    return sc_sendmsg(s, buf, n, flags, to, NULL);
}

ssize_t sc_send(sc_sock *s, const void *buf, size_t n, int flags)
{
    return sc_sendto(s, buf, n, flags, NULL);
}

int sc_sendall(sc_sock *s, const void *buf, size_t n, int flags, size_t *sent)
{
    size_t count = 0;
    struct op op;
    ssize_t rc;
    unsigned f;

    rc = begin(&op, s, buf, n, flags, true, &f);
    if (!rc) {
        if (op.d->type != SG_SOCK_STREAM)
            rc = f & MSGF_MORE ? -EOPNOTSUPP : dgram_send(&op, buf, n, NULL, NULL);
        else if (op.nonblock && n)
            rc = sc__stream_put(&op, buf, n, true, f & MSGF_MORE);
        else
            rc = stream_send(&op, buf, n, true, f & MSGF_MORE, &count);
        if (rc == -EAGAIN && op.nonblock)
            rc = sc__op_block(&op); /* -ENETDOWN, if that is why */
        if (rc > 0)
            count = (size_t)rc;
        sc__op_end(&op, 0);
    }
    if (sent)
        *sent = count;
    return rc < 0 ? (int)rc : 0;
}

/* ---- Stream calls
 * ------------------------------------------------------------------------------------------- */

/* A stream call's result: without waiting, "try again" is a part result, or SC_NONE for none. */
static int stream_result(int rc, size_t count)
{
    if (rc == -EAGAIN)
        return count ? 0 : SC_NONE;
    return rc;
}

/* Reading datagrams as a stream has only the sense that each is one piece. */
static int read_dgram(sc_sock *s, void *buf, size_t n, size_t *got)
{
    ssize_t rc = receive_some(s, buf, n, 0, NULL, NULL);

    *got = rc > 0 ? (size_t)rc : 0;
    return rc < 0 ? (int)rc : 0;
}

int sc_read(sc_sock *s, void *buf, size_t n, size_t *got)
{
    size_t count = 0;
    int rc = -EINVAL;

    if (s && s->d->type != SG_SOCK_STREAM)
        rc = read_dgram(s, buf, n, &count);
    else if (s)
        rc = receive_full(s, buf, n, 0, &count);
    if (got)
        *got = count;
    return stream_result(rc, count);
}

int sc_readinto(sc_sock *s, void *buf, size_t n, size_t *got)
{
    return sc_read(s, buf, n, got);
}

int sc_readline(sc_sock *s, void *buf, size_t max, size_t *got)
{
    size_t count = 0;
    struct op op;
    unsigned f;
    ssize_t rc = begin(&op, s, buf, max, 0, false, &f);

    if (got)
        *got = 0;
    if (rc)
        return (int)rc;
    if (op.d->type != SG_SOCK_STREAM)
        return sc__op_end(&op, -EOPNOTSUPP);
    while (count < max) {
        rc = line_take(&op, (uint8_t *)buf + count, max - count);
        if (rc > 0)
            count += (size_t)rc;
        if (rc > 0 && ((uint8_t *)buf)[count - 1] == '\n')
            break;
        if (rc == -EAGAIN)
            rc = sc__op_block(&op);
        else if (rc == 0)
            break;
        if (rc < 0)
            break;
    }
    sc__op_end(&op, 0);
    if (got)
        *got = count;
    return stream_result(rc < 0 ? (int)rc : 0, count);
}

void sc_buf_free(sc_buf *buf)
{
    if (!buf)
        return;
    free(buf->data);
    buf->data = NULL;
    buf->len = buf->cap = 0;
}

/* Make room for at least one more byte. */
static int buf_grow(sc_buf *buf)
{
    size_t limit = buf->limit ? buf->limit : SC_BUF_BYTES_MAX;
    size_t cap = buf->cap < READALL_BYTES_MIN ? READALL_BYTES_MIN : buf->cap * 2;
    uint8_t *data;

    if (buf->len < buf->cap && buf->len < limit)
        return 0;
    if (buf->len >= limit)
        return -EFBIG;
    if (cap > limit)
        cap = limit;
    data = realloc(buf->data, cap);
    if (!data)
        return -ENOMEM;
    buf->data = data;
    buf->cap = cap;
    return 0;
}

/* Append what is there. Bytes, 0 at the end of the stream, or an error. */
static ssize_t buf_take(struct op *op, sc_buf *out)
{
    uint8_t probe;
    ssize_t rc = sc__stream_take(op, &probe, 1, true);
    int grown;

    if (rc <= 0) /* The end must be told from a full buffer. */
        return rc;
    grown = buf_grow(out);
    if (grown)
        return grown;
    rc = sc__stream_take(op, out->data + out->len, out->cap - out->len, false);
    if (rc > 0)
        out->len += (size_t)rc;
    return rc;
}

int sc_readall(sc_sock *s, sc_buf *out)
{
    size_t before;
    struct op op;
    unsigned f;
    ssize_t rc;

    if (!out)
        return -EINVAL;
    rc = begin(&op, s, out, 1, 0, false, &f);
    if (rc)
        return (int)rc;
    if (op.d->type != SG_SOCK_STREAM)
        return sc__op_end(&op, -EOPNOTSUPP);
    before = out->len;
    do {
        rc = buf_take(&op, out);
        if (rc == 0)
            break;
        if (rc == -EAGAIN)
            rc = sc__op_block(&op);
    } while (rc >= 0);
    sc__op_end(&op, 0);
    return stream_result(rc < 0 ? (int)rc : 0, out->len - before);
}

int sc_write(sc_sock *s, const void *buf, size_t n, size_t *put)
{
    size_t count = 0;
    struct op op;
    unsigned f;
    ssize_t rc = begin(&op, s, buf, n, 0, true, &f);

    if (!rc) {
        if (op.d->type == SG_SOCK_STREAM) {
            rc = stream_send(&op, buf, n, true, false, &count);
        } else {
            rc = dgram_send(&op, buf, n, NULL, NULL);
            count = rc > 0 ? (size_t)rc : 0;
        }
        sc__op_end(&op, 0);
    }
    if (put)
        *put = count;
    return stream_result(rc < 0 ? (int)rc : 0, count);
}

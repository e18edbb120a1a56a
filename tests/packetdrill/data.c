/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The read and write families. Everything goes through one receive and one send over a linear buffer.
 */
#include "tests/packetdrill/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "tests/packetdrill/interface.h"

#define RECV_FLAGS (MSG_PEEK | MSG_DONTWAIT | MSG_WAITALL | MSG_TRUNC | MSG_NOSIGNAL)
#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE)

static uint64_t deadline_of(uint64_t timeout_us)
{
    return timeout_us == PD_NEVER ? PD_NEVER : pd.h.now_us + timeout_us;
}

static bool nonblocking(const struct pd_fd *f, int flags)
{
    return (f->file_flags & O_NONBLOCK) || (flags & MSG_DONTWAIT);
}

/* The error of a dead connection, told once; 0 when there is none left to tell. */
static int take_error(struct pd_fd *f)
{
    if (!(pd_slot(f)->d.flags & SG_F_ERROR) || f->err_told)
        return 0;
    f->err_told = true;
    return -(int)pd_slot(f)->d.error;
}

/* ---- Receive ------------------------------------------------------------------------------------ */

static int64_t peek_stream(struct pd_fd *f, void *buf, size_t len)
{
    struct sg_slot *s = pd_slot(f);
    uint64_t n = s->d.rx_tail - s->a.rx_head;

    if (n > len)
        n = len;
    if (n)
        app_rx_copy(&pd.h, f->slot, buf, n);
    return (int64_t)n;
}

/* What a receive finds when no byte is there: 0 at the end of the stream, or an error. */
static int64_t recv_nothing(struct pd_fd *f)
{
    const struct sg_slot *s = pd_slot(f);
    int rc = take_error(f);

    if (rc)
        return rc;
    if (s->d.state == SG_ST_OPEN || s->d.state == SG_ST_LISTENING)
        return -ENOTCONN;
    return (s->d.flags & (SG_F_RX_FIN | SG_F_ERROR)) || s->d.state == SG_ST_CLOSED ? 0 : -EAGAIN;
}

static int64_t recv_stream_once(struct pd_fd *f, uint8_t *buf, size_t len, int flags)
{
    static uint8_t ignored[1 << 16];
    uint64_t avail = pd_slot(f)->d.rx_tail - pd_slot(f)->a.rx_head;

    if (!avail)
        return recv_nothing(f);
    if (flags & MSG_PEEK)
        return peek_stream(f, buf, len);
    if (flags & MSG_TRUNC)
        return app_recv(&pd.h, f->slot, ignored, len < sizeof(ignored) ? len : sizeof(ignored));
    return app_recv(&pd.h, f->slot, buf, len);
}

static int64_t recv_stream(struct pd_fd *f, uint8_t *buf, size_t len, int flags)
{
    uint64_t deadline = deadline_of(f->rcv_us);
    size_t got = 0;
    int64_t n;

    if (!len)
        return 0;
    for (;;) {
        n = recv_stream_once(f, buf + got, len - got, flags);
        if (n > 0) {
            got += (size_t)n;
            if (got == len || (flags & MSG_PEEK) || !(flags & MSG_WAITALL))
                return (int64_t)got;
        } else if (n != -EAGAIN || nonblocking(f, flags) || !pd_block(deadline)) {
            return got ? (int64_t)got : n;
        }
    }
}

static int64_t recv_dgram(struct pd_fd *f, void *buf, size_t len, int flags, struct sockaddr_in *from)
{
    uint64_t deadline = deadline_of(f->rcv_us);
    uint16_t port = 0;
    int64_t n;

    for (;;) {
        n = app_recvfrom(&pd.h, f->slot, buf, len, (uint8_t *)&from->sin_addr, &port);
        if (n != -EAGAIN || nonblocking(f, flags) || !pd_block(deadline))
            break;
    }
    from->sin_family = AF_INET;
    from->sin_port = htons(port);
    return n;
}

static int64_t recv_any(int fd, void *buf, size_t len, int flags, struct sockaddr *addr, socklen_t *bytes)
{
    struct pd_fd *f = pd_fd_get(fd, PD_SOCKET);
    struct sockaddr_in from = {.sin_family = AF_UNSPEC};
    int64_t n;

    if (!f)
        return -errno;
    if (flags & ~RECV_FLAGS)
        return -EOPNOTSUPP;
    if (!buf && len && !(flags & MSG_TRUNC))
        return -EFAULT;
    if (f->type == SOCK_STREAM)
        n = recv_stream(f, buf, len, flags);
    else
        n = recv_dgram(f, buf, len, flags, &from);
    if (addr && bytes) {
        memcpy(addr, &from, *bytes < sizeof(from) ? *bytes : sizeof(from));
        *bytes = from.sin_family == AF_INET ? sizeof(from) : 0;
    }
    return n;
}

static ssize_t do_recvfrom(void *self, int fd, void *buf, size_t len, int flags, struct sockaddr *addr,
                           socklen_t *bytes)
{
    ssize_t n;

    (void)self;
    pd_enter();
    n = pd_result(recv_any(fd, buf, len, flags, addr, bytes));
    pd_settle();
    pd_leave();
    return n;
}

static ssize_t do_recv(void *self, int fd, void *buf, size_t len, int flags)
{
    return do_recvfrom(self, fd, buf, len, flags, NULL, NULL);
}

static ssize_t do_read(void *self, int fd, void *buf, size_t len)
{
    return do_recvfrom(self, fd, buf, len, 0, NULL, NULL);
}

static size_t iov_bytes(const struct iovec *iov, size_t count)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

static ssize_t do_recvmsg(void *self, int fd, struct msghdr *msg, int flags)
{
    size_t len = iov_bytes(msg->msg_iov, msg->msg_iovlen);
    uint8_t *buf = malloc(len + 1);
    size_t at = 0;
    ssize_t n;

    if (!buf)
        pd_fail("no memory");
    n = do_recvfrom(self, fd, buf, len, flags, msg->msg_name, msg->msg_name ? &msg->msg_namelen : NULL);
    for (size_t i = 0; n > 0 && i < msg->msg_iovlen && at < (size_t)n; i++) {
        size_t part = msg->msg_iov[i].iov_len;

        if (part > (size_t)n - at)
            part = (size_t)n - at;
        memcpy(msg->msg_iov[i].iov_base, buf + at, part);
        at += part;
    }
    free(buf);
    msg->msg_controllen = 0;
    msg->msg_flags = 0;
    return n;
}

static ssize_t do_readv(void *self, int fd, const struct iovec *iov, int count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};

    return do_recvmsg(self, fd, &msg, 0);
}

/* ---- Send --------------------------------------------------------------------------------------- */

static int64_t send_stream_once(struct pd_fd *f, const uint8_t *buf, size_t len)
{
    const struct sg_slot *s = pd_slot(f);
    int rc = take_error(f);

    if (rc)
        return rc;
    switch (s->d.state) {
    case SG_ST_OPEN:
    case SG_ST_LISTENING:
    case SG_ST_CLOSED:
        return -EPIPE;
    case SG_ST_CONNECTING:
        return s->d.flags & SG_F_TX_SHUT ? -EPIPE : -EAGAIN;
    default:
        break;
    }
    if (!s->d.tx_region && engine_grant(pd.h.e, pd.h.sid, f->slot) == 0)
        host_run(&pd.h);
    return app_send(&pd.h, f->slot, buf, len);
}

static int64_t send_stream(struct pd_fd *f, const uint8_t *buf, size_t len, int flags)
{
    uint64_t deadline = deadline_of(f->snd_us);
    size_t put = 0;

    for (;;) {
        int64_t n = send_stream_once(f, buf + put, len - put);

        if (n >= 0) {
            put += (size_t)n;
            pd_settle();
            if (put == len)
                return (int64_t)put;
        } else if (n != -EAGAIN || nonblocking(f, flags) || !pd_block(deadline)) {
            return put ? (int64_t)put : n;
        }
    }
}

/* MSG_MORE is a cork for one call: the next send without it takes it out. */
static int64_t send_more(struct pd_fd *f, const void *buf, size_t len, int flags)
{
    uint64_t corked = 0;
    int64_t n;

    if (!(flags & MSG_MORE) && !f->more)
        return send_stream(f, buf, len, flags);
    (void)engine_getopt(pd.h.e, pd.h.sid, f->slot, IPPROTO_TCP, TCP_CORK, &corked);
    if (!f->more && corked)
        return send_stream(f, buf, len, flags);
    (void)engine_setopt(pd.h.e, pd.h.sid, f->slot, IPPROTO_TCP, TCP_CORK, 1, pd.h.now_us);
    n = send_stream(f, buf, len, flags);
    f->more = (flags & MSG_MORE) != 0;
    if (!f->more)
        (void)engine_setopt(pd.h.e, pd.h.sid, f->slot, IPPROTO_TCP, TCP_CORK, 0, pd.h.now_us);
    host_run(&pd.h);
    return n;
}

static int64_t send_dgram(struct pd_fd *f, const void *buf, size_t len, const struct sockaddr *addr,
                          socklen_t bytes)
{
    struct sockaddr_in to;

    if (!addr)
        return app_sendto(&pd.h, f->slot, buf, len, 0, 0);
    if (bytes < sizeof(to))
        return -EINVAL;
    memcpy(&to, addr, sizeof(to));
    if (memcmp(&to.sin_addr, (uint8_t[]){192, 0, 2}, 3) != 0)
        return -ENETUNREACH; /* the addresses that tests/support/host.h can name */
    return app_sendto(&pd.h, f->slot, buf, len, ((uint8_t *)&to.sin_addr)[3], ntohs(to.sin_port));
}

/* Wait for the end of the handshake, as Linux's call does that sent the SYN. 0, or a negative errno. */
static int fastopen_wait(struct pd_fd *f, int flags)
{
    uint64_t deadline = deadline_of(f->snd_us);

    while (pd_syn_sent(f))
        if (nonblocking(f, flags) || !pd_block(deadline))
            return -EINPROGRESS;
    f->fast = PD_FAST_NONE;
    return take_error(f);
}

/* The first data after connect(): what fits the SYN goes with it, the rest when the handshake is over. */
static int64_t send_first(struct pd_fd *f, const uint8_t *buf, size_t len, int flags)
{
    size_t room = pd_fastopen_room(f);
    int64_t first = 0, rest = 0;
    int rc;

    f->fast = PD_FAST_SYN;
    if (len) {
        first = send_stream(f, buf, len < room ? len : room, MSG_DONTWAIT);
    } else {
        pd_fastopen_start(f);
        pd_settle();
    }
    if (first < 0)
        return first;
    rc = fastopen_wait(f, flags);
    if (rc)
        return rc == -EINPROGRESS && first ? first : rc;
    if ((size_t)first < len)
        rest = send_more(f, buf + first, len - (size_t)first, flags);
    return rest < 0 && first ? first : first + rest;
}

static int64_t send_tcp(struct pd_fd *f, const void *buf, size_t len, int flags)
{
    int rc = 0;

    if (f->fast == PD_FAST_WAIT)
        return send_first(f, buf, len, flags);
    if (f->fast == PD_FAST_SYN)
        rc = fastopen_wait(f, flags);
    if (rc)
        return rc == -EINPROGRESS ? -EAGAIN : rc;
    return send_more(f, buf, len, flags);
}

/* MSG_FASTOPEN is connect() and write() in one (RFC 7413 A.1). */
static int64_t send_fastopen(struct pd_fd *f, const void *buf, size_t len, int flags,
                             const struct sockaddr *addr, socklen_t bytes)
{
    int rc;

    if (pd.fastopen_off || (addr && addr->sa_family == AF_UNSPEC))
        return -EOPNOTSUPP;
    if (f->fast == PD_FAST_WAIT)
        return send_first(f, buf, len, flags);
    if (pd_syn_sent(f))
        return -EALREADY;
    if (f->fast == PD_FAST_SYN) /* Linux's call is the end of the first one, once. */
        return send_tcp(f, buf, len, flags);
    if (pd_slot(f)->d.state != SG_ST_OPEN)
        return -EISCONN;
    if (!addr)
        return -EINVAL;
    rc = engine_setopt(pd.h.e, pd.h.sid, f->slot, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1, pd.h.now_us);
    if (!rc)
        rc = pd_connect(f, addr, bytes);
    if (rc)
        return rc;
    return f->fast == PD_FAST_WAIT ? send_first(f, buf, len, flags) : send_more(f, buf, len, flags);
}

static int64_t send_any(int fd, const void *buf, size_t len, int flags, const struct sockaddr *addr,
                        socklen_t bytes)
{
    struct pd_fd *f = pd_fd_get(fd, PD_SOCKET);

    if (!f)
        return -errno;
    if (flags & ~(SEND_FLAGS | MSG_FASTOPEN) || (flags & MSG_FASTOPEN && f->type != SOCK_STREAM))
        return -EOPNOTSUPP;
    if (!buf && len)
        return -EFAULT;
    if (flags & MSG_FASTOPEN)
        return send_fastopen(f, buf, len, flags & ~MSG_FASTOPEN, addr, bytes);
    return f->type == SOCK_STREAM ? send_tcp(f, buf, len, flags) : send_dgram(f, buf, len, addr, bytes);
}

static ssize_t do_sendto(void *self, int fd, const void *buf, size_t len, int flags,
                         const struct sockaddr *addr, socklen_t bytes)
{
    ssize_t n;

    (void)self;
    pd_enter();
    n = pd_result(send_any(fd, buf, len, flags, addr, bytes));
    pd_settle();
    pd_leave();
    return n;
}

static ssize_t do_send(void *self, int fd, const void *buf, size_t len, int flags)
{
    return do_sendto(self, fd, buf, len, flags, NULL, 0);
}

static ssize_t do_write(void *self, int fd, const void *buf, size_t len)
{
    return do_sendto(self, fd, buf, len, 0, NULL, 0);
}

static ssize_t do_sendmsg(void *self, int fd, const struct msghdr *msg, int flags)
{
    size_t len = iov_bytes(msg->msg_iov, msg->msg_iovlen);
    uint8_t *buf = malloc(len + 1);
    size_t at = 0;
    ssize_t n;

    if (!buf)
        pd_fail("no memory");
    for (size_t i = 0; i < msg->msg_iovlen; at += msg->msg_iov[i++].iov_len) {
        if (!msg->msg_iov[i].iov_base && msg->msg_iov[i].iov_len) {
            free(buf);
            errno = EFAULT;
            return -1;
        }
        memcpy(buf + at, msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len);
    }
    n = do_sendto(self, fd, buf, len, flags, msg->msg_name, msg->msg_namelen);
    free(buf);
    return n;
}

static ssize_t do_writev(void *self, int fd, const struct iovec *iov, int count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};

    return do_sendmsg(self, fd, &msg, 0);
}

void pd_data_fill(struct pd_interface *i)
{
    i->read = do_read;
    i->readv = do_readv;
    i->recv = do_recv;
    i->recvfrom = do_recvfrom;
    i->recvmsg = do_recvmsg;
    i->write = do_write;
    i->writev = do_writev;
    i->send = do_send;
    i->sendto = do_sendto;
    i->sendmsg = do_sendmsg;
}

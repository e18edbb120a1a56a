/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of a socket, and descriptors: what Linux's calls do, over the slot protocol.
 */
#include "tests/packetdrill/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdarg.h>
#include <string.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "tests/packetdrill/interface.h"

static int to_endpoint(const struct sockaddr *addr, socklen_t bytes, struct ip_ep *ret)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)addr;

    if (!addr)
        return -EFAULT;
    if (bytes < sizeof(*in))
        return -EINVAL;
    if (in->sin_family != AF_INET)
        return -EAFNOSUPPORT;
    *ret = (struct ip_ep){.addr.family = SG_AF_INET, .port = ntohs(in->sin_port)};
    memcpy(ret->addr.ip, &in->sin_addr, 4);
    return 0;
}

static void peer_name(const struct pd_fd *f, struct sockaddr *addr, socklen_t *bytes)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(pd_slot(f)->n.remote_port)};

    if (!addr || !bytes)
        return;
    memcpy(&in.sin_addr, pd_slot(f)->n.remote, 4);
    memcpy(addr, &in, *bytes < sizeof(in) ? *bytes : sizeof(in));
    *bytes = sizeof(in);
}

/* The engine was called: publish what it changed, and go on. */
static int done(int rc)
{
    host_run(&pd.h);
    pd_settle();
    return rc;
}

static int open_socket(int family, int type, int proto)
{
    int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
    int fd;

    (void)proto;
    if (family != AF_INET)
        return -EAFNOSUPPORT;
    if (kind != SOCK_STREAM && kind != SOCK_DGRAM)
        return -ESOCKTNOSUPPORT;
    fd = pd_fd_new(PD_SOCKET);
    if (fd < 0)
        return -errno;
    pd.fds[fd].type = kind;
    pd.fds[fd].slot = app_socket(&pd.h, kind == SOCK_STREAM ? SG_SOCK_STREAM : SG_SOCK_DGRAM);
    if (type & SOCK_NONBLOCK)
        pd.fds[fd].file_flags |= O_NONBLOCK;
    return fd;
}

static int do_socket(void *self, int family, int type, int proto)
{
    long rc;

    (void)self;
    pd_enter();
    rc = pd_result(open_socket(family, type, proto));
    pd_leave();
    return (int)rc;
}

static int do_bind(void *self, int fd, const struct sockaddr *addr, socklen_t bytes)
{
    struct ip_ep local;
    struct pd_fd *f;
    int rc = -1;

    (void)self;
    pd_enter();
    f = pd_fd_get(fd, PD_SOCKET);
    if (f) {
        rc = to_endpoint(addr, bytes, &local);
        if (!rc)
            rc = done(engine_bind(pd.h.e, pd.h.sid, f->slot, &local));
        rc = (int)pd_result(rc);
    }
    pd_leave();
    return rc;
}

static int do_listen(void *self, int fd, int backlog)
{
    struct pd_fd *f;
    int rc = -1;

    (void)self;
    pd_enter();
    f = pd_fd_get(fd, PD_SOCKET);
    if (f && pd.fastopen_listeners && f->type == SOCK_STREAM)
        (void)engine_setopt(pd.h.e, pd.h.sid, f->slot, IPPROTO_TCP, TCP_FASTOPEN,
                            backlog < 0 ? 0 : (uint64_t)backlog, pd.h.now_us);
    if (f) /* As in Linux, one more may wait than was asked for. */
        rc = (int)pd_result(app_listen(&pd.h, f->slot, backlog < 0 ? 1 : (uint32_t)backlog + 1));
    pd_leave();
    return rc;
}

static int accept_one(struct pd_fd *f, struct sockaddr *addr, socklen_t *bytes)
{
    int64_t slot;
    int fd;

    if (pd_slot(f)->d.state != SG_ST_LISTENING)
        return -EINVAL;
    while ((slot = app_accept(&pd.h, f->slot)) == -EAGAIN) {
        uint64_t deadline = f->rcv_us == PD_NEVER ? PD_NEVER : pd.h.now_us + f->rcv_us;

        if ((f->file_flags & O_NONBLOCK) || !pd_block(deadline))
            return -EAGAIN;
    }
    if (slot < 0)
        return (int)slot;
    fd = pd_fd_new(PD_SOCKET);
    if (fd < 0) {
        int error = errno;

        app_close(&pd.h, (uint32_t)slot);
        return -error;
    }
    pd.fds[fd].type = SOCK_STREAM;
    pd.fds[fd].slot = (uint32_t)slot;
    peer_name(&pd.fds[fd], addr, bytes);
    return fd;
}

static int do_accept(void *self, int fd, struct sockaddr *addr, socklen_t *bytes)
{
    struct pd_fd *f;
    int rc = -1;

    (void)self;
    pd_enter();
    f = pd_fd_get(fd, PD_SOCKET);
    if (f) {
        rc = (int)pd_result(accept_one(f, addr, bytes));
        pd_settle();
    }
    pd_leave();
    return rc;
}

/* The end of a connect() under way, as Linux tells it: once 0 or the error. */
static int connect_end(struct pd_fd *f)
{
    f->connecting = false;
    if (pd_slot(f)->d.flags & SG_F_ERROR) {
        f->err_told = true;
        return -(int)pd_slot(f)->d.error;
    }
    return 0;
}

static int connect_stream(struct pd_fd *f, const struct ip_ep *remote)
{
    uint64_t deadline = f->snd_us == PD_NEVER ? PD_NEVER : pd.h.now_us + f->snd_us;
    bool fresh = !f->connecting;

    if (f->fast != PD_FAST_NONE && pd_syn_sent(f))
        return f->fast == PD_FAST_WAIT ? -EISCONN : -EALREADY;
    if (fresh) {
        int rc = done(engine_connect(pd.h.e, pd.h.sid, f->slot, remote, pd.h.now_us));

        if (rc)
            return rc;
        f->connecting = true;
    }
    f->fast = pd_slot(f)->d.state == SG_ST_CONNECTED && pd_syn_sent(f) ? PD_FAST_WAIT : PD_FAST_NONE;
    while (pd_slot(f)->d.state == SG_ST_CONNECTING) {
        if ((f->file_flags & O_NONBLOCK) || !pd_block(deadline))
            return fresh ? -EINPROGRESS : -EALREADY;
    }
    return connect_end(f);
}

int pd_connect(struct pd_fd *f, const struct sockaddr *addr, socklen_t bytes)
{
    struct ip_ep remote;
    int rc = to_endpoint(addr, bytes, &remote);

    return rc ? rc : connect_stream(f, &remote);
}

static int do_connect(void *self, int fd, const struct sockaddr *addr, socklen_t bytes)
{
    struct ip_ep remote;
    struct pd_fd *f;
    int rc = -1;

    (void)self;
    pd_enter();
    f = pd_fd_get(fd, PD_SOCKET);
    if (f) {
        rc = to_endpoint(addr, bytes, &remote);
        if (!rc && f->type == SOCK_STREAM)
            rc = connect_stream(f, &remote);
        else if (!rc)
            rc = done(engine_connect(pd.h.e, pd.h.sid, f->slot, &remote, pd.h.now_us));
        rc = (int)pd_result(rc);
    }
    pd_leave();
    return rc;
}

static int do_shutdown(void *self, int fd, int how)
{
    static const uint32_t bits[] = {
        [SHUT_RD] = SG_SHUT_RD, [SHUT_WR] = SG_SHUT_WR, [SHUT_RDWR] = SG_SHUT_RD | SG_SHUT_WR};
    struct pd_fd *f;
    int rc = -1;

    (void)self;
    pd_enter();
    f = pd_fd_get(fd, PD_SOCKET);
    if (f) {
        rc = how < SHUT_RD || how > SHUT_RDWR ? -EINVAL : app_shutdown(&pd.h, f->slot, bits[how]);
        rc = (int)pd_result(rc);
        pd_settle();
    }
    pd_leave();
    return rc;
}

static int do_close(void *self, int fd)
{
    int rc = -1;

    (void)self;
    pd_enter();
    if (fd < 0 || fd >= PD_FDS || pd.fds[fd].kind == PD_NONE) {
        rc = close(fd); /* a file or a pipe */
    } else {
        struct pd_fd *f = &pd.fds[fd];

        rc = f->kind == PD_SOCKET ? (int)pd_result(app_close(&pd.h, f->slot)) : 0;
        free(f->watches);
        *f = (struct pd_fd){.kind = PD_NONE};
        close(fd);
        pd_settle();
    }
    pd_leave();
    return rc;
}

static int do_fcntl(void *self, int fd, int command, ...)
{
    struct pd_fd *f;
    int rc = -1;
    va_list ap;

    (void)self;
    pd_enter();
    f = pd_fd_get(fd, PD_SOCKET);
    if (f && command == F_GETFL) {
        rc = f->file_flags;
    } else if (f && command == F_SETFL) {
        va_start(ap, command);
        f->file_flags = O_RDWR | (va_arg(ap, int) & (O_NONBLOCK | O_APPEND));
        va_end(ap);
        rc = 0;
    } else if (f) {
        errno = EINVAL;
    }
    pd_leave();
    return rc;
}

static int do_ioctl(void *self, int fd, unsigned long request, ...)
{
    struct pd_fd *f;
    int rc = -1;
    va_list ap;
    int *value;

    (void)self;
    va_start(ap, request);
    value = va_arg(ap, int *);
    va_end(ap);
    pd_enter();
    f = pd_fd_get(fd, PD_SOCKET);
    if (f && request == SIOCINQ) {
        *value = (int)(pd_slot(f)->d.rx_tail - pd_slot(f)->a.rx_head);
        rc = 0;
    } else if (f && request == SIOCOUTQ) {
        *value = (int)(pd_slot(f)->a.tx_tail - pd_slot(f)->d.tx_head);
        rc = 0;
    } else if (f) {
        errno = ENOTTY;
    }
    pd_leave();
    return rc;
}

void pd_calls_fill(struct pd_interface *i)
{
    i->socket = do_socket;
    i->bind = do_bind;
    i->listen = do_listen;
    i->accept = do_accept;
    i->connect = do_connect;
    i->shutdown = do_shutdown;
    i->close = do_close;
    i->fcntl = do_fcntl;
    i->ioctl = do_ioctl;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readiness: poll and epoll, with Linux's bits.
 */
#include "tests/packetdrill/stack.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "tests/packetdrill/interface.h"

static bool writable(const struct sg_slot *s)
{
    uint64_t size;
    uint64_t room = app_tx_room(s, &size);

    /* As in Linux, a third must be free. */
    return !s->d.tx_region || room * 3 >= size;
}

uint32_t pd_ready_bits(const struct pd_fd *f)
{
    const struct sg_slot *s = pd_slot(f);
    uint32_t bits = 0;
    bool over;

    if (f->kind != PD_SOCKET)
        return 0;
    if (s->d.state == SG_ST_LISTENING)
        return s->d.accept_count ? POLLIN | POLLRDNORM : 0;
    if (s->d.state == SG_ST_CONNECTING || (f->fast == PD_FAST_SYN && pd_syn_sent(f)))
        return 0;
    if (f->type == SOCK_STREAM && s->d.state == SG_ST_OPEN)
        return POLLOUT | POLLWRNORM | POLLHUP;
    over = s->d.state == SG_ST_CLOSED;
    if (s->d.rx_tail != s->a.rx_head)
        bits |= POLLIN | POLLRDNORM;
    if ((s->d.flags & SG_F_RX_FIN) || over)
        bits |= POLLIN | POLLRDNORM | POLLRDHUP;
    if ((s->d.flags & SG_F_TX_SHUT) || over || writable(s))
        bits |= POLLOUT | POLLWRNORM;
    if (over || ((s->d.flags & SG_F_TX_SHUT) && (s->d.flags & SG_F_RX_FIN)))
        bits |= POLLHUP;
    if ((s->d.flags & (SG_F_ERROR | SG_F_SOFT_ERR)) && !f->err_told)
        bits |= POLLERR;
    return bits;
}

static int look(struct pollfd *fds, nfds_t count)
{
    int ready = 0;

    for (nfds_t i = 0; i < count; i++) {
        const struct pd_fd *f = pd_fd_get(fds[i].fd, PD_SOCKET);
        uint32_t bits =
            f ? pd_ready_bits(f) & ((uint32_t)(uint16_t)fds[i].events | POLLERR | POLLHUP) : POLLNVAL;

        fds[i].revents = (short)bits;
        ready += bits != 0;
    }
    return ready;
}

static int do_poll(void *self, struct pollfd *fds, nfds_t count, int timeout_ms)
{
    uint64_t deadline;
    int ready;

    (void)self;
    pd_enter();
    deadline = timeout_ms < 0 ? PD_NEVER : pd.h.now_us + (uint64_t)timeout_ms * 1000;
    do
        ready = look(fds, count);
    while (!ready && pd_block(deadline));
    pd_leave();
    return ready;
}

/* ---- epoll -------------------------------------------------------------------------------------- */

static void watch_edge(struct pd_watch *w)
{
    const struct pd_fd *f = &pd.fds[w->fd];
    uint32_t bits;
    uint64_t tail;

    if (f->kind != PD_SOCKET)
        return;
    bits = pd_ready_bits(f);
    tail = pd_slot(f)->d.rx_tail;
    w->edge |= bits & ~w->level;
    if (tail != w->rx_tail)
        w->edge |= bits & (POLLIN | POLLRDNORM);
    w->level = bits;
    w->rx_tail = tail;
}

void pd_watch_edges(void)
{
    for (unsigned i = 0; i < PD_FDS; i++)
        for (unsigned j = 0; pd.fds[i].kind == PD_EPOLL && j < PD_WATCH_MAX; j++)
            if (pd.fds[i].watches[j].fd)
                watch_edge(&pd.fds[i].watches[j]);
}

static int do_epoll_create(void *self, int size)
{
    int fd;

    (void)self;
    pd_enter();
    fd = size > 0 ? pd_fd_new(PD_EPOLL) : (int)pd_result(-EINVAL);
    if (fd >= 0) {
        pd.fds[fd].watches = calloc(PD_WATCH_MAX, sizeof(struct pd_watch));
        if (!pd.fds[fd].watches)
            pd_fail("no memory");
    }
    pd_leave();
    return fd;
}

static struct pd_watch *watch_find(struct pd_fd *ep, int fd)
{
    for (unsigned i = 0; i < PD_WATCH_MAX; i++)
        if (ep->watches[i].fd == fd)
            return &ep->watches[i];
    return NULL;
}

static int watch_change(struct pd_fd *ep, int op, int fd, const struct epoll_event *event)
{
    struct pd_watch *w = watch_find(ep, fd);

    if (op == EPOLL_CTL_ADD) {
        if (w)
            return -EEXIST;
        w = watch_find(ep, 0);
        if (!w)
            return -ENOSPC;
    } else if (!w) {
        return -ENOENT;
    }
    if (op == EPOLL_CTL_DEL) {
        *w = (struct pd_watch){0};
        return 0;
    }
    *w = (struct pd_watch){.fd = fd, .want = *event, .rx_tail = pd_slot(&pd.fds[fd])->d.rx_tail};
    watch_edge(w);
    return 0;
}

static int do_epoll_ctl(void *self, int epfd, int op, int fd, struct epoll_event *event)
{
    struct pd_fd *ep;
    int rc = -1;

    (void)self;
    pd_enter();
    ep = pd_fd_get(epfd, PD_EPOLL);
    if (ep && pd_fd_get(fd, PD_SOCKET))
        rc = (int)pd_result(watch_change(ep, op, fd, event));
    pd_leave();
    return rc;
}

static int epoll_look(struct pd_fd *ep, struct epoll_event *events, int max)
{
    int n = 0;

    for (unsigned i = 0; i < PD_WATCH_MAX && n < max; i++) {
        struct pd_watch *w = &ep->watches[i];
        uint32_t bits;

        if (!w->fd || w->off || pd.fds[w->fd].kind != PD_SOCKET)
            continue;
        bits = pd_ready_bits(&pd.fds[w->fd]) & (w->want.events | EPOLLERR | EPOLLHUP);
        if (!bits || ((w->want.events & EPOLLET) && !(w->edge & bits)))
            continue;
        w->edge = 0;
        w->off = (w->want.events & EPOLLONESHOT) != 0;
        events[n] = w->want;
        events[n++].events = bits;
    }
    return n;
}

static int do_epoll_wait(void *self, int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    uint64_t deadline;
    struct pd_fd *ep;
    int n = -1;

    (void)self;
    pd_enter();
    ep = pd_fd_get(epfd, PD_EPOLL);
    deadline = timeout_ms < 0 ? PD_NEVER : pd.h.now_us + (uint64_t)timeout_ms * 1000;
    if (ep) {
        do
            n = epoll_look(ep, events, max);
        while (!n && pd_block(deadline));
    }
    pd_leave();
    return n;
}

void pd_ready_fill(struct pd_interface *i)
{
    i->poll = do_poll;
    i->epoll_create = do_epoll_create;
    i->epoll_ctl = do_epoll_ctl;
    i->epoll_wait = do_epoll_wait;
}

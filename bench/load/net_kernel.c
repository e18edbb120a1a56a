/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench/load/net.h"

#define BACKLOG 4096

struct kernel {
    struct net net; /* first */
    int epoll;
    const char *congestion;
};

static struct kernel *kernel_of(struct net *n)
{
    return (struct kernel *)n;
}

uint64_t net_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int watch(struct kernel *k, int fd, struct conn *c, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = c};

    c->h.fd = fd;
    return epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int set_options(struct kernel *k, int fd)
{
    const int one = 1;

    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
        return -errno;
    if (k->congestion &&
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, k->congestion, (socklen_t)strlen(k->congestion)))
        return -errno;
    return 0;
}

static int finish(int fd, int rc)
{
    if (rc)
        (void)close(fd);
    return rc;
}

static int kernel_listen(struct net *n, uint16_t port, struct conn *ret)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int one = 1;
    int rc;

    if (fd < 0)
        return -errno;
    rc = set_options(kernel_of(n), fd); /* accepted ones inherit them */
    if (!rc && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
                bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, BACKLOG)))
        rc = -errno;
    /* Level-triggered: one accept for each look is what a server does that is fair to its connections. */
    if (!rc)
        rc = watch(kernel_of(n), fd, ret, EPOLLIN);
    return finish(fd, rc);
}

static int kernel_accept(struct net *n, struct conn *listener, struct conn *ret)
{
    int fd = accept4(listener->h.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return -errno;
    return finish(fd, watch(kernel_of(n), fd, ret, EPOLLIN | EPOLLOUT | EPOLLET));
}

static int kernel_connect(struct net *n, const uint8_t ip[4], uint16_t port, struct conn *ret)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return -errno;
    memcpy(&to.sin_addr, ip, sizeof(to.sin_addr));
    rc = set_options(kernel_of(n), fd);
    if (!rc && connect(fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
        rc = -errno;
    if (!rc)
        rc = watch(kernel_of(n), fd, ret, EPOLLIN | EPOLLOUT | EPOLLET);
    return finish(fd, rc);
}

static int kernel_connected(struct net *n, struct conn *c)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    int error = 0;

    (void)n;
    if (!getpeername(c->h.fd, (struct sockaddr *)&peer, &len))
        return 0;
    len = sizeof(error);
    if (getsockopt(c->h.fd, SOL_SOCKET, SO_ERROR, &error, &len))
        return -errno;
    return error ? -error : -EAGAIN;
}

static ssize_t kernel_send(struct net *n, struct conn *c, const void *buf, size_t len)
{
    ssize_t put = send(c->h.fd, buf, len, MSG_NOSIGNAL);

    (void)n;
    return put < 0 ? -errno : put;
}

static ssize_t kernel_recv(struct net *n, struct conn *c, void *buf, size_t len)
{
    ssize_t got = recv(c->h.fd, buf, len, 0);

    (void)n;
    return got < 0 ? -errno : got;
}

static void kernel_close(struct net *n, struct conn *c)
{
    (void)n;
    (void)close(c->h.fd); /* its only descriptor: epoll forgets it too */
}

static int kernel_wait(struct net *n, int64_t timeout_us, struct conn *ret[])
{
    struct timespec ts = {.tv_sec = timeout_us / 1000000, .tv_nsec = timeout_us % 1000000 * 1000};
    struct epoll_event ev[NET_READY_MAX];
    int count;

    count = epoll_pwait2(kernel_of(n)->epoll, ev, NET_READY_MAX, timeout_us < 0 ? NULL : &ts, NULL);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++)
        ret[i] = ev[i].data.ptr;
    return count;
}

static void kernel_free(struct net *n)
{
    (void)close(kernel_of(n)->epoll);
    free(n);
}

static const struct net_ops kernel_ops = {
    .kind = "kernel",
    .listen = kernel_listen,
    .accept = kernel_accept,
    .connect = kernel_connect,
    .connected = kernel_connected,
    .send = kernel_send,
    .recv = kernel_recv,
    .close = kernel_close,
    .wait = kernel_wait,
    .free = kernel_free,
};

int net_kernel_open(const struct net_params *p, struct net **ret, char error[NET_ERROR_MAX])
{
    struct kernel *k = calloc(1, sizeof(*k));

    if (!k)
        return -ENOMEM;
    k->net.ops = &kernel_ops;
    k->congestion = p->congestion;
    k->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (k->epoll < 0) {
        int rc = -errno;

        (void)snprintf(error, NET_ERROR_MAX, "epoll: %s", strerror(-rc));
        free(k);
        return rc;
    }
    *ret = &k->net;
    return 0;
}

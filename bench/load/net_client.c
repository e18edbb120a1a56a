/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sockclient.h>

#include "bench/load/net.h"

#define BACKLOG SC_BACKLOG_MAX

struct client {
    struct net net; /* first */
    sc_lib *lib;
    struct conn_list ready;
    const char *congestion;
};

static struct client *client_of(struct net *n)
{
    return (struct client *)n;
}

static void enqueue(struct client *k, struct conn *c)
{
    if (c->queued)
        return;
    c->queued = true;
    TAILQ_INSERT_TAIL(&k->ready, c, ready);
}

/* Callbacks carry one pointer: the connection. There is one attachment in a process. */
static struct client *the_client;

static void changed(sc_sock *s, void *conn)
{
    (void)s;
    enqueue(the_client, conn);
}

/* Its changes are told from now on; what happened before is looked for once. */
static int watch(struct client *k, sc_sock *s, struct conn *c)
{
    int rc = sc_setblocking(s, 0);

    c->h.sock = s;
    if (!rc)
        rc = sc_on_event(s, changed, c);
    if (rc)
        sc_release(s);
    else
        enqueue(k, c);
    return rc;
}

static int fresh(struct client *k, sc_sock **ret)
{
    const int one = 1;
    int rc = sc_socket(k->lib, SC_INET, SC_STREAM, 0, ret);

    if (rc)
        return rc;
    rc = sc_setsockopt(*ret, SC_SOL_TCP, SC_TCP_NODELAY, &one, sizeof(one));
    if (!rc && k->congestion)
        rc = sc_setsockopt(*ret, SC_SOL_TCP, SC_TCP_CONGESTION, k->congestion, strlen(k->congestion));
    if (rc)
        sc_release(*ret);
    return rc;
}

static int client_listen(struct net *n, uint16_t port, struct conn *ret)
{
    sc_addr any = {.family = SC_ADDR_INET, .len = 4, .port = port};
    const int one = 1;
    sc_sock *s;
    int rc = fresh(client_of(n), &s);

    if (rc)
        return rc;
    rc = sc_setsockopt(s, SC_SOL_SOCKET, SC_SO_REUSEADDR, &one, sizeof(one));
    if (!rc)
        rc = sc_bind(s, &any);
    if (!rc)
        rc = sc_listen(s, BACKLOG);
    if (!rc)
        return watch(client_of(n), s, ret);
    sc_release(s);
    return rc;
}

static int client_accept(struct net *n, struct conn *listener, struct conn *ret)
{
    sc_sock *s;
    int rc = sc_accept(listener->h.sock, &s, NULL);

    return rc ? rc : watch(client_of(n), s, ret);
}

static int client_connect(struct net *n, const uint8_t ip[4], uint16_t port, struct conn *ret)
{
    sc_addr to = {.family = SC_ADDR_INET, .len = 4, .port = port};
    sc_sock *s;
    int rc = fresh(client_of(n), &s);

    if (rc)
        return rc;
    memcpy(to.ip, ip, 4);
    rc = watch(client_of(n), s, ret);
    if (rc)
        return rc;
    rc = sc_connect(s, &to);
    if (!rc || rc == -EINPROGRESS)
        return 0;
    n->ops->close(n, ret);
    return rc;
}

static int client_connected(struct net *n, struct conn *c)
{
    unsigned bits = sc_poll_events(c->h.sock, SC_POLLOUT);
    size_t len = sizeof(int);
    int error = 0;

    (void)n;
    if (!(bits & (SC_POLLERR | SC_POLLHUP)))
        return bits & SC_POLLOUT ? 0 : -EAGAIN;
    if (sc_getsockopt(c->h.sock, SC_SOL_SOCKET, SC_SO_ERROR, &error, &len) || !error)
        return -ENOTCONN;
    return -error;
}

static ssize_t client_send(struct net *n, struct conn *c, const void *buf, size_t len)
{
    (void)n;
    return sc_send(c->h.sock, buf, len, 0);
}

static ssize_t client_recv(struct net *n, struct conn *c, void *buf, size_t len)
{
    (void)n;
    return sc_recv_some(c->h.sock, buf, len, 0);
}

static void client_close(struct net *n, struct conn *c)
{
    if (c->queued)
        TAILQ_REMOVE(&client_of(n)->ready, c, ready);
    c->queued = false;
    sc_release(c->h.sock);
}

static int client_wait(struct net *n, int64_t timeout_us, struct conn *ret[])
{
    struct client *k = client_of(n);
    int timeout_ms = timeout_us < 0 ? -1 : (int)((timeout_us + 999) / 1000), rc;
    unsigned count = 0;

    /* With a time-out of 0 too: that is how the callbacks of what has come meanwhile are made. */
    rc = sc_wait(k->lib, TAILQ_EMPTY(&k->ready) ? timeout_ms : 0);
    while (count < NET_READY_MAX && !TAILQ_EMPTY(&k->ready)) {
        ret[count] = TAILQ_FIRST(&k->ready);
        TAILQ_REMOVE(&k->ready, ret[count], ready);
        ret[count]->queued = false;
        count++;
    }
    return count || rc >= 0 || rc == -EINTR ? (int)count : rc;
}

static void client_free(struct net *n)
{
    sc_lib_close(client_of(n)->lib);
    the_client = NULL;
    free(n);
}

static const struct net_ops client_ops = {
    .kind = "client",
    .listen = client_listen,
    .accept = client_accept,
    .connect = client_connect,
    .connected = client_connected,
    .send = client_send,
    .recv = client_recv,
    .close = client_close,
    .wait = client_wait,
    .free = client_free,
};

int net_client_open(const struct net_params *p, struct net **ret, char error[NET_ERROR_MAX])
{
    struct client *k = calloc(1, sizeof(*k));
    int rc;

    if (!k)
        return -ENOMEM;
    k->net.ops = &client_ops;
    k->congestion = p->congestion;
    TAILQ_INIT(&k->ready);
    rc = sc_lib_open(NULL, "posix", &k->lib);
    if (rc) {
        (void)snprintf(error, NET_ERROR_MAX, "%s", sc_lib_open_error());
        free(k);
        return rc;
    }
    the_client = k;
    *ret = &k->net;
    return 0;
}

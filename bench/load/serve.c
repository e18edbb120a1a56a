/* SPDX-License-Identifier: Apache-2.0 */
/* The servers: echo, discard, source. All connections in one thread, with one wait. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/load.h"

#define BUFFER_BYTES (256u << 10)
#define LOOK_US      500000 /* for *stop */

struct server {
    struct net *net;
    const struct load_options *o;
    struct conn *conns, **spare; /* spare: a stack */
    unsigned spare_count;
    uint8_t *buffer;
};

static void end(struct server *s, struct conn *c)
{
    s->net->ops->close(s->net, c);
    free(c->pending);
    c->pending = NULL;
    s->spare[s->spare_count++] = c;
}

static void accept_all(struct server *s, struct conn *listener)
{
    while (s->spare_count) {
        struct conn *c = s->spare[s->spare_count - 1];

        memset(c, 0, sizeof(*c));
        if (s->net->ops->accept(s->net, listener, c))
            return; /* none is left; or one that is gone already, and the next look tells of the others */
        s->spare_count--;
    }
}

/* 1: it is out; 0: not yet; negative: over */
static int flush(struct server *s, struct conn *c)
{
    while (c->pending_at < c->pending_len) {
        ssize_t n = s->net->ops->send(s->net, c, c->pending + c->pending_at, c->pending_len - c->pending_at);

        if (n < 0)
            return n == -EAGAIN ? 0 : (int)n;
        c->pending_at += (size_t)n;
    }
    free(c->pending);
    c->pending = NULL;
    return 1;
}

/* As flush(), after this much is sent or put aside. */
static int answer(struct server *s, struct conn *c, size_t len)
{
    ssize_t n = s->net->ops->send(s->net, c, s->buffer, len);
    size_t sent = n > 0 ? (size_t)n : 0;

    if (sent == len)
        return 1;
    if (n < 0 && n != -EAGAIN)
        return (int)n;
    c->pending_len = len - sent;
    c->pending_at = 0;
    c->pending = malloc(c->pending_len);
    if (!c->pending)
        return -ENOMEM;
    memcpy(c->pending, s->buffer + sent, c->pending_len);
    return flush(s, c);
}

/* Each returns 0 when there is no more to do now, negative when the connection is over. */
static int echo(struct server *s, struct conn *c)
{
    ssize_t n;
    int rc = c->pending ? flush(s, c) : 1;

    while (rc > 0) {
        n = s->net->ops->recv(s->net, c, s->buffer, BUFFER_BYTES);
        if (n <= 0)
            return n == -EAGAIN ? 0 : n ? (int)n : -EPIPE;
        rc = answer(s, c, (size_t)n);
        if (n < (ssize_t)BUFFER_BYTES)
            return rc < 0 ? rc : 0; /* It was all there was: more is a change. */
    }
    return rc;
}

static int discard(struct server *s, struct conn *c)
{
    for (;;) {
        ssize_t n = s->net->ops->recv(s->net, c, s->buffer, BUFFER_BYTES);

        if (n <= 0)
            return n == -EAGAIN ? 0 : n ? (int)n : -EPIPE;
    }
}

static int source(struct server *s, struct conn *c)
{
    ssize_t n;

    do {
        n = s->net->ops->send(s->net, c, s->buffer, BUFFER_BYTES);
    } while (n > 0);
    if (n != -EAGAIN)
        return (int)n;
    n = s->net->ops->recv(s->net, c, s->buffer, BUFFER_BYTES); /* the peer may have closed */
    return n == 0 ? -EPIPE : n == -EAGAIN || n > 0 ? 0 : (int)n;
}

static void serve(struct server *s, struct conn *c)
{
    int rc;

    if (c->listener) {
        accept_all(s, c);
        return;
    }
    rc = s->o->mode == LOAD_ECHO ? echo(s, c) : s->o->mode == LOAD_DISCARD ? discard(s, c) : source(s, c);
    if (rc < 0)
        end(s, c);
}

static int listen_all(struct server *s, struct conn *listeners)
{
    for (unsigned i = 0; i < s->o->ports; i++) {
        int rc = s->net->ops->listen(s->net, (uint16_t)(s->o->port + i), &listeners[i]);

        if (rc)
            return rc;
        listeners[i].listener = true;
    }
    return 0;
}

static int loop(struct server *s, const volatile int *stop)
{
    struct conn *ready[NET_READY_MAX];

    while (!*stop) {
        int n = s->net->ops->wait(s->net, LOOK_US, ready);

        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            serve(s, ready[i]);
    }
    return 0;
}

int serve_run(struct net *net, const struct load_options *o, const volatile int *stop,
              char error[NET_ERROR_MAX])
{
    struct server s = {.net = net, .o = o};
    struct conn *listeners = calloc(o->ports, sizeof(*listeners));
    int rc = -ENOMEM;

    s.conns = calloc(o->connections, sizeof(*s.conns));
    s.spare = calloc(o->connections, sizeof(struct conn *));
    s.buffer = malloc(BUFFER_BYTES);
    if (listeners && s.conns && s.spare && s.buffer) {
        /* Touched now, so that what a connection costs later is not ours. */
        memset(s.conns, 0xff, o->connections * sizeof(*s.conns));
        memset(s.buffer, 'x', BUFFER_BYTES);
        while (s.spare_count < o->connections) {
            s.spare[s.spare_count] = &s.conns[o->connections - 1 - s.spare_count];
            s.spare_count++;
        }
        rc = listen_all(&s, listeners);
    }
    if (!rc) {
        (void)puts("ready");
        (void)fflush(stdout);
        rc = loop(&s, stop);
    }
    if (rc)
        (void)snprintf(error, NET_ERROR_MAX, "server: %s", strerror(-rc));
    free(listeners);
    free(s.conns);
    free(s.spare);
    free(s.buffer);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An echo server for thousands of connections in one thread: non-blocking sockets and sc_poll().
 *
 *     echo_many [ADDRESS [PORT]]                  default 0.0.0.0 7
 */
#include <errno.h>

#include "examples/example.h"

#define CONN_MAX     20000u
#define BUFFER_BYTES 16384u

/** One connection: what was read and is still to be sent. Reading stops until it is out. */
struct conn {
    unsigned char *buffer; /* only while something is pending */
    size_t at, len;
};

static sc_pollfd polls[CONN_MAX + 1]; /* 0: the listener */
static struct conn conns[CONN_MAX + 1];
static unsigned count = 1;

static void conn_close(unsigned i)
{
    sc_release(polls[i].s);
    free(conns[i].buffer);
    count--;
    polls[i] = polls[count]; /* the last one takes its place */
    conns[i] = conns[count];
}

static void accept_all(const sc_profile *profile)
{
    while (count <= CONN_MAX) {
        sc_sock *conn;
        sc_addr peer;
        int rc = sc_accept(polls[0].s, &conn, &peer);

        if (rc == -EAGAIN)
            return;
        must(profile, "accept", rc);
        must(profile, "setblocking", sc_setblocking(conn, 0));
        polls[count] = (sc_pollfd){.s = conn, .want = SC_POLLIN};
        conns[count] = (struct conn){0};
        count++;
    }
}

/** Sends what is pending. Returns 1: all of it, 0: not yet, negative: the connection is over. */
static int conn_flush(struct conn *c, sc_sock *s)
{
    while (c->at < c->len) {
        ssize_t n = sc_send(s, c->buffer + c->at, c->len - c->at, 0);

        if (n == -EAGAIN)
            return 0;
        if (n < 0)
            return (int)n;
        c->at += (size_t)n;
    }
    free(c->buffer);
    c->buffer = NULL;
    return 1;
}

/** Reads once and echoes. Returns 1: wait for more, 0: wait for room to send, negative: over. */
static int conn_echo(struct conn *c, sc_sock *s)
{
    static unsigned char data[BUFFER_BYTES];
    ssize_t n = sc_recv(s, data, sizeof(data), 0), sent;

    if (n == -EAGAIN)
        return 1;
    if (n <= 0)
        return n == 0 ? -EPIPE : (int)n;
    sent = sc_send(s, data, (size_t)n, 0);
    if (sent == n)
        return 1;
    if (sent < 0 && sent != -EAGAIN)
        return (int)sent;
    if (sent < 0)
        sent = 0;
    c->len = (size_t)(n - sent);
    c->at = 0;
    c->buffer = malloc(c->len);
    if (!c->buffer)
        return -ENOMEM;
    memcpy(c->buffer, data + sent, c->len);
    return 0;
}

/** Returns false when the connection is over and gone from the tables. */
static bool conn_turn(unsigned i)
{
    int rc = conns[i].buffer ? conn_flush(&conns[i], polls[i].s) : conn_echo(&conns[i], polls[i].s);

    if (rc < 0) {
        conn_close(i);
        return false;
    }
    polls[i].want = rc ? SC_POLLIN : SC_POLLOUT;
    return true;
}

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("posix", &profile);
    sc_addr local = address_argument(profile, argc, argv, 1, "0.0.0.0", 7);
    sc_sock *listener = tcp_socket(lib, profile);

    set_reuseaddr(listener, profile, 1);
    must(profile, "bind", sc_bind(listener, &local));
    must(profile, "listen", sc_listen(listener, 1024));
    must(profile, "setblocking", sc_setblocking(listener, 0));
    polls[0] = (sc_pollfd){.s = listener, .want = SC_POLLIN};
    for (;;) {
        must(profile, "poll", sc_poll(polls, count, -1));
        for (unsigned i = 1; i < count;) {
            if (polls[i].got == 0 || conn_turn(i))
                i++;
        }
        if (polls[0].got)
            accept_all(profile);
        polls[0].want = count <= CONN_MAX ? SC_POLLIN : 0; /* full: let them wait in the backlog */
    }
}

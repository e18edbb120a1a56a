/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the generator does over a network, and the servers opposite.
 *
 * Request/response, closed loop: each connection has one request under way and sends the next when the answer
 * is complete. Open loop (--rate): requests leave at random times of a Poisson process, in turn over the
 * connections, whatever has been answered; a time counts from when the request should have left, so that a
 * server that stalls is charged for all that waits behind it.
 */
#ifndef BENCH_LOAD_LOAD_H
#define BENCH_LOAD_LOAD_H

#include "bench/load/hist.h"
#include "bench/load/net.h"

enum load_mode {
    LOAD_RR,      /* request/response */
    LOAD_CRR,     /* connect, request/response, close */
    LOAD_SEND,    /* bulk to a server that discards */
    LOAD_RECEIVE, /* bulk from a server that sends */
    LOAD_HOLD,    /* idle connections, until standard input ends */
    LOAD_ECHO,    /* servers */
    LOAD_DISCARD,
    LOAD_SOURCE,
};

struct load_options {
    enum load_mode mode;
    uint8_t to[4];
    uint16_t port; /* the first of `ports`; connections take them in turn */
    unsigned ports;
    unsigned connections;
    unsigned idle; /* connections more, with nothing to do */
    size_t bytes;  /* of a message */
    double rate;   /* requests a second; 0: closed loop */
    double warm_s, seconds;
};

struct load_result {
    struct hist latency; /* ns */
    uint64_t count;      /* requests answered, or connections done */
    uint64_t bytes;
    uint64_t errors; /* LOAD_CRR: connections that failed */
    uint64_t unsent; /* open loop: requests that found too many under way on their connection */
    double seconds, cpu_seconds;
};

/** Run to the end. 0, or -errno and a line in `error`. */
int load_run(struct net *net, const struct load_options *o, struct load_result *ret,
             char error[NET_ERROR_MAX]);

/** Keep the network going until standard input has a line (true) or ends (false), or it fails (*rc). */
bool load_pause(struct net *net, int *rc);

/** Serve until *stop. Prints "ready" once it listens. */
int serve_run(struct net *net, const struct load_options *o, const volatile int *stop,
              char error[NET_ERROR_MAX]);

#endif

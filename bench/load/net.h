/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network as the load generator and its servers see it, so that one program runs over three stacks:
 *
 *   net_kernel.c   the kernel's TCP: non-blocking sockets and edge-triggered epoll
 *   net_client.c   Sockgate as an application uses it: libsockclient, sc_on_event() and sc_wait()
 *   net_engine.c   Sockgate's engine in this process, on any device of hw/: no daemon, no rings
 *
 * A connection is ready when something may have changed on it; whoever is told goes on until it is told
 * -EAGAIN, or a transfer falls short. Results are negative Linux errnos. One thread; only wait() blocks.
 */
#ifndef BENCH_LOAD_NET_H
#define BENCH_LOAD_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#define NET_READY_MAX 256u
#define NET_ERROR_MAX 256u

/** A connection or listener. What belongs to whom: */
struct conn {
    /* the stack */
    union {
        int fd;
        void *sock;
        uint32_t slot;
    } h;
    bool queued; /* on the stack's list of ready ones */
    TAILQ_ENTRY(conn) ready;
    /* who uses it */
    bool listener, open, established;
    uint64_t since_ns; /* when what is under way began */
    uint64_t got, put; /* bytes of the present message */
    uint64_t *due;     /* open loop: when the requests under way should have left */
    uint32_t due_head, due_count;
    uint8_t *pending; /* server: received and not yet echoed */
    size_t pending_at, pending_len;
};
TAILQ_HEAD(conn_list, conn);

struct net {
    const struct net_ops *ops;
    bool spin; /* engine: poll instead of waiting for the device */
};

struct net_ops {
    const char *kind;
    int (*listen)(struct net *, uint16_t port, struct conn *ret);
    /** 0, or -EAGAIN. What arrived before counts as a change: `ret` becomes ready by itself. */
    int (*accept)(struct net *, struct conn *listener, struct conn *ret);
    /** Begin to connect; `ret` becomes ready when that has ended. */
    int (*connect)(struct net *, const uint8_t ip[4], uint16_t port, struct conn *ret);
    /** 0: it is connected; -EAGAIN: not yet. */
    int (*connected)(struct net *, struct conn *);
    ssize_t (*send)(struct net *, struct conn *, const void *buf, size_t len);
    ssize_t (*recv)(struct net *, struct conn *, void *buf, size_t len); /* 0: end of file */
    void (*close)(struct net *, struct conn *);
    /** Ready ones, at most NET_READY_MAX; waits for the first at most so long (below 0: for ever). */
    int (*wait)(struct net *, int64_t timeout_us, struct conn *ret[]);
    void (*free)(struct net *);
};

struct net_params {
    uint32_t connections; /* at once, listeners included */
    const char *device;   /* engine: device SPEC */
    uint8_t address[4];   /* engine: its own */
    uint8_t prefix;
    const char *congestion; /* kernel and client: algorithm of every socket */
};

/** Each fills in *ret or puts one line into `error`. */
int net_kernel_open(const struct net_params *p, struct net **ret, char error[NET_ERROR_MAX]);
int net_client_open(const struct net_params *p, struct net **ret, char error[NET_ERROR_MAX]);
int net_engine_open(const struct net_params *p, struct net **ret, char error[NET_ERROR_MAX]);

/** CLOCK_MONOTONIC */
uint64_t net_now_ns(void);

#endif

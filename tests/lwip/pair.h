/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lwIP as the engine's peer, in one process and on one virtual clock: a host with the engine (192.0.2.2), an
 * interface of lwIP (192.0.2.1, its raw API), and a link with delay and loss between them. Nothing depends on
 * the machine's speed; with a given seed every run is the same.
 *
 * lwIP keeps its state in globals, so there is one pair in a process; criterion gives each test its own.
 */
#ifndef TESTS_LWIP_PAIR_H
#define TESTS_LWIP_PAIR_H

/* The engine has a struct ip_addr too. */
#define ip_addr lwip_ip_addr
#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>
#include <netif/ethernet.h>
#undef ip_addr

#include "tests/support/host.h"

#define ENGINE_LAST 2u /* the engine's address: 192.0.2.2 */
#define LWIP_LAST   1u
#define PORT        7u
#define PAIR_MTU    1500u

struct pair_link {
    uint64_t delay_us; /* one way */
    unsigned loss;     /* of 1000 frames, in each direction */
    uint16_t lwip_mtu; /* lwIP offers an MSS of 40 bytes less; 0: PAIR_MTU */
    uint64_t seed;
};

struct frame_in_flight {
    struct frame_in_flight *next;
    uint64_t at_us;
    bool to_engine;
    uint32_t len;
    uint8_t data[];
};

struct pair {
    struct host h;
    struct pair_link link;
    struct frame_in_flight *flying, **last; /* in order of arrival: the delay is the same for all */
    uint64_t rnd;
    unsigned lost, carried;
};

extern struct pair pair;

void pair_start(const struct pair_link *link);
/** Fails the test when the engine's state leaked or is inconsistent. */
void pair_stop(void);

/** Carry frames and let time pass until `done(ctx)` says so or `us` have passed; false in that case. */
bool pair_run(bool (*done)(void *ctx), void *ctx, uint64_t us);
void pair_wait(uint64_t us);

/* ---- An lwIP connection that sends a pattern and checks what it gets ------------------------------ */

struct peer_conn {
    struct tcp_pcb *pcb;
    bool connected, closed;  /* the peer's FIN came */
    err_t err;               /* of the error callback: the pcb is gone */
    uint64_t sent, send_max; /* it sends the pattern up to send_max */
    uint64_t got;
    bool bad;  /* a byte that came was not the pattern's */
    bool echo; /* sends back what comes, instead of the pattern */
    bool deaf; /* takes nothing out of its window */
    bool fin_when_sent, fin_sent;
    uint32_t unread; /* bytes that `deaf` holds back */
    uint16_t window; /* the window that it starts with; 0: lwIP's own */
};

/** To the engine's PORT. */
void peer_connect(struct peer_conn *c);
/** Accept into conns[0..count) in turn; the fields that say how to behave are the caller's. */
struct tcp_pcb *peer_listen(struct peer_conn *conns, unsigned count);
/** Send what fits, FIN at the end if asked for; called after every step of pair_run() too. */
void peer_push(struct peer_conn *c);
void peer_hear_again(struct peer_conn *c);

/* ---- The same on the engine's side ---------------------------------------------------------------- */

struct app_conn {
    uint32_t slot;
    uint64_t sent, send_max, got;
    bool bad, eof, echo, deaf;
    bool fin_when_sent, fin_sent;
    uint8_t held[4096]; /* to be sent back */
    uint32_t held_bytes;
    int error;
};

uint32_t app_server(uint32_t backlog); /* listens on PORT; its slot */
void app_push(struct app_conn *c);

#endif

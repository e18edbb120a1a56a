/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fast path: what nearly every segment of an undisturbed connection does, in straight lines
 * (docs/decisions/fast-path.md). Whatever is in any way out of the ordinary takes the long way through net.c,
 * ip4.c, ip6.c and the tcp_*.c files, before anything has changed. Both ways leave the same state, send the
 * same frames and count the same; only TcpHPHits tells them apart (tests/sim/sim_fastpath.c holds them to
 * that).
 *
 *   tcp_fast_in.c   a segment comes in order, and acknowledges nothing or all that is in flight
 *   tcp_fast_out.c  one small segment goes out while nothing is in flight
 *   tcp_way.c       what is known about a connection's addresses, worked out once
 *
 * Scratch memory, all of it: hints may be wrong and ways out of date, both are checked at each use.
 */
#ifndef ENGINE_TCP_FAST_H
#define ENGINE_TCP_FAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;
struct pktbuf;
struct rx_pkt;
struct tcp_conn;

/** What the tables of addresses, routes and neighbours say about a connection, at generation `gen`. */
struct tcp_way {
    uint32_t gen;    /* way_gen() then; another: not known. Never 0 in a living engine */
    uint16_t neigh;  /* entry of the next hop, whose Ethernet address was known once */
    uint8_t ifindex; /* its frames come in there and leave there, untagged */
    uint8_t pad;
};

size_t tcp_fast_bytes(const struct engine_config *cfg);
void tcp_fast_init(struct engine *e, void *mem);

/** Take a frame in. False: nothing was done, it must take the long way. */
bool tcp_fast_input(struct engine *e, const struct pktbuf *p);
/** The long way led to this connection: a next segment like that one may find it sooner. */
void tcp_fast_learn(struct engine *e, const struct tcp_conn *c, const struct rx_pkt *rp);

/** What tcp_output() would do for a connection from the output list. False: nothing was done. */
bool tcp_fast_output(struct engine *e, struct tcp_conn *c);

/** Work the way of connection `i` out. False: there is none that the fast path can take. */
bool tcp_way_fill(struct engine *e, uint32_t i);

#endif

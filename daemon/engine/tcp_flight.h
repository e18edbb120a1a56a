/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data in flight: the record that a connection holds for it, and the list of segments.
 *
 * A connection gets its record with the first segment that goes out and keeps it as long as segments are
 * left. Afterwards it is given back; if there may still be something to undo, or a loss probe to judge, it
 * lingers: it stays with its connection until another one needs it and no free one is left.
 * No record free: nothing new is sent, which is counted, and the persist timer tries again.
 */
#ifndef ENGINE_TCP_FLIGHT_H
#define ENGINE_TCP_FLIGHT_H

#include "daemon/engine/core.h"

/** What a connection without record has: nothing. */
extern const struct tx_flight tx_flight_none;

/** To read: never NULL. */
static inline const struct tx_flight *flight_of(const struct engine *e, const struct tcp_conn *c)
{
    return c->flight == NIL ? &tx_flight_none : &e->tcp.flights[c->flight];
}

/** To change: the connection must have a record. */
static inline struct tx_flight *flight_mut(struct engine *e, const struct tcp_conn *c)
{
    ENG_ASSERT(c->flight != NIL);
    return &e->tcp.flights[c->flight];
}

/** It is paced, and what is delivered is measured (cc_path.h). */
static inline bool has_path(const struct tcp_conn *c)
{
    return c->path != NIL;
}

/** The connection must have one. */
static inline struct cc_path *path_of(const struct engine *e, const struct tcp_conn *c)
{
    ENG_ASSERT(c->path != NIL);
    return &e->tcp.paths[c->path];
}

static inline struct tx_seg *seg_at(struct engine *e, uint32_t i)
{
    return &e->tcp.segs[i];
}

static inline uint32_t seg_len(const struct tx_seg *t)
{
    return t->end - t->start;
}

/** RFC 6675's pipe: bytes believed to be in the network. */
static inline uint32_t tcp_pipe(const struct engine *e, const struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);

    return tcp_flight(c) - f->sacked_bytes - f->lost_bytes + f->retrans_bytes;
}

/** Is the window what limits sending? In slow start it is to reach twice what was in flight, as in Linux. */
static inline bool tcp_window_used(const struct tcp_conn *c, const struct tx_flight *f)
{
    return c->flags & TF_CWND_FULL || (c->cwnd < c->ssthresh && c->cwnd / 2 < f->flight_max);
}

/** Everything is acknowledged: give the record back, or let it linger. */
void tcp_flight_settle(struct engine *e, struct tcp_conn *c);
/** The connection is over: forget what is in flight. */
void tcp_flight_free(struct engine *e, struct tcp_conn *c);
const char *tcp_flight_check(const struct engine *e);

/** A run of new data goes out. False: no record free (counted). */
bool tcp_seg_push(struct engine *e, struct tcp_conn *c, uint32_t start, uint32_t end, uint16_t flags);
/** Cut `seg` so that it ends at `at`. False: no record free. */
bool tcp_seg_split(struct engine *e, struct tcp_conn *c, uint32_t seg, uint32_t at);
/** The first segment is acknowledged. */
void tcp_seg_pop(struct engine *e, struct tcp_conn *c);
/** The segment `seg` goes out again now. */
void tcp_seg_resent(struct engine *e, struct tcp_conn *c, uint32_t seg);
/** Give it other marks (TXS_MARKS), and with them its place in the counts and lists. */
void tcp_seg_mark(struct engine *e, struct tx_flight *f, uint32_t seg, unsigned marks);
/** Bytes before `ack` of the first segment are acknowledged. */
void tcp_seg_trim(struct engine *e, struct tx_flight *f, uint32_t ack);
void tcp_seg_lost(struct engine *e, struct tx_flight *f, uint32_t seg, struct tcp_acked *a);

/** What is to be sent again next; NIL: nothing. */
static inline uint32_t tcp_seg_next_lost(const struct tx_flight *f)
{
    return f->lost.head;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection counts for people: TCP_INFO, sockgatectl. Nothing here decides anything.
 *
 * What every segment changes lies in the connection's record, on lines that it touches anyway. The rest lies
 * in struct tcp_rare, one for each connection, cleared at its first use: most never need it.
 */
#ifndef ENGINE_TCP_TALLY_H
#define ENGINE_TCP_TALLY_H

#include "daemon/engine/core.h"

/** What keeps a connection from sending more; time is counted for each but the first. */
enum tcp_limit {
    LIMIT_NONE = 0, /* it has nothing to send, and all is acknowledged */
    LIMIT_NETWORK,  /* the path, or the application that has no more to send yet */
    LIMIT_RWND,     /* the peer's window */
    LIMIT_SNDBUF    /* the application's send ring is full, and all of it is in flight */
};

/** Why Fast Open did not carry data; Linux's numbers (tcpi_fastopen_client_fail). */
enum fastopen_fail { FO_OK = 0, FO_NO_COOKIE, FO_DATA_NOT_ACKED, FO_SYN_LOST };

/** To change: the record, cleared at its first use. */
struct tcp_rare *tcp_rare_of(struct engine *e, struct tcp_conn *c);
/** To read: never NULL. */
const struct tcp_rare *tcp_rare_get(const struct engine *e, const struct tcp_conn *c);

/** Segments that a frame of `len` bytes stands for when each carries at most `size` (0: it is one). */
static inline uint32_t tally_segs(uint32_t len, uint32_t size)
{
    return size && len > size ? (len + size - 1) / size : 1;
}

static inline void tally_in(struct tcp_conn *c, uint32_t len, uint32_t size)
{
    uint32_t segs = tally_segs(len, size);

    c->segs_in += segs;
    if (len)
        c->data_segs_in += segs;
}

static inline void tally_out(struct tcp_conn *c, uint32_t len, uint32_t segs)
{
    c->segs_out += segs;
    if (len)
        c->data_segs_out += segs;
}

static inline enum tcp_limit tally_limit(const struct tcp_conn *c)
{
    return (enum tcp_limit)((c->flags & TF_LIMIT_MASK) >> TF_LIMIT_SHIFT);
}

/** The time until now was limited by something in the way. */
void tally_limited(struct engine *e, struct tcp_conn *c, uint32_t ticks);

/** From here on `now` is what limits it. */
static inline void tally_limit_set(struct engine *e, struct tcp_conn *c, enum tcp_limit now)
{
    enum tcp_limit old = tally_limit(c);
    uint32_t tick = (uint32_t)(e->now_us >> TCP_TICK_SHIFT);

    if (old == now)
        return;
    if (old == LIMIT_NETWORK)
        c->busy_ticks += tick - c->limit_tick;
    else if (old != LIMIT_NONE)
        tally_limited(e, c, tick - c->limit_tick);
    c->limit_tick = tick;
    c->flags ^= ((uint32_t)old ^ (uint32_t)now) << TF_LIMIT_SHIFT;
}

/** New data, up to `end`, went out: a measurement of the delivery rate begins unless one is under way. */
static inline void tally_sent(const struct engine *e, const struct tcp_conn *c, struct tx_flight *f,
                              uint32_t end)
{
    if (f->rated)
        return;
    f->rated = true;
    f->rate_at_us = (uint32_t)e->now_us;
    f->rate_base = (uint32_t)c->delivered;
    f->rate_end = end;
}

/* The round trip that began at rate_at_us is over. As in Linux, what an application with little to send
 * reached counts only if it is no less than what was known. */
static inline void tally_rate(struct engine *e, struct tcp_conn *c, struct tx_flight *f, bool ambiguous)
{
    uint32_t bytes = (uint32_t)c->delivered - f->rate_base;
    uint32_t us = (uint32_t)e->now_us - f->rate_at_us;
    bool app = !(c->flags & TF_CWND_FULL) && !tcp_unsent(c);

    f->rated = false;
    if (ambiguous || !us)
        return;
    if (app && (uint64_t)bytes * c->rate_us < (uint64_t)c->rate_bytes * us)
        return;
    c->rate_bytes = bytes;
    c->rate_us = us;
    c->flags = (c->flags & ~TF_RATE_APP) | (app ? TF_RATE_APP : 0);
}

/** An ACK was taken in. `ambiguous`: it is for something that was sent more than once. */
static inline void tally_acked(struct engine *e, struct tcp_conn *c, struct tx_flight *f, bool ambiguous)
{
    if (f->rated && (int32_t)(c->snd_una - f->rate_end) >= 0)
        tally_rate(e, c, f, ambiguous);
}

/** `late`: bytes between the start of what was late and the highest that was acknowledged before it. */
void tally_reorder(struct engine *e, struct tcp_conn *c, uint32_t late);

#endif

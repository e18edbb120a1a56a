/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CUBIC (RFC 9438), in integers: windows in bytes, time in milliseconds.
 *
 *   W_cubic(t) = C * (t - K)^3 + W_max     C = 0.4 segments/s^3, beta = 0.7
 *   K = cbrt((W_max - cwnd_epoch) / C)     seconds
 *
 * The reduction is taken from cwnd rather than from what is in flight (4.6 allows it): cwnd grows only while
 * it is used up, and after idle times it is reduced (cc_restart_after_idle()).
 */
#include "daemon/engine/engine_int.h"

enum phase {
    FIRST_SLOW_START = 0, /* with HyStart++ */
    NO_EPOCH,             /* the next ACK in congestion avoidance starts a curve */
    EPOCH,
};

#define WND_BITS  30u
#define WND_MAX   ((1u << WND_BITS) - 1)
#define K_BITS    20u
#define REST_BITS 6u /* fractions of a byte of growth that were not given yet */

struct cubic {
    uint32_t w_max : WND_BITS; /* the plateau; 0: none */
    uint32_t phase : 2;
    uint32_t cwnd_prior : WND_BITS; /* cwnd before the last reduction (RFC 9438 4.3) */
    uint32_t reduced : 1;           /* and no curve has started since: the one before can be taken up again */
    uint32_t undo_w_max;
    union {
        struct hystart hystart; /* FIRST_SLOW_START */
        struct {
            uint32_t undo_cwnd_prior;
            uint32_t k_ms : K_BITS;
            uint32_t rest : REST_BITS, est_rest : REST_BITS;
            uint32_t epoch_ms; /* start of the curve, low 32 bits */
            uint32_t w_est;    /* what Reno would have (RFC 9438 4.3) */
            uint32_t last_ms;  /* last growth */
        };
    };
};
static_assert(sizeof(struct cubic) <= 32 && sizeof(struct cubic) <= sizeof(((struct tcp_conn *)0)->cc),
              "fits the record");

/* RFC 9438 4.6: beta_cubic = 0.7; 4.7: fast convergence (1 + beta) / 2 = 0.85. */
#define BETA_NUM 7u
#define BETA_DEN 10u

/* Longer without growth than this and two round trips: the window wasn't used up, and time stood still. */
#define PAUSE_MS 100u
/* Beyond this distance from the plateau every curve is far above 1.5 cwnd. */
#define D_MAX_MS 500000

static struct cubic *cubic(struct tcp_conn *c)
{
    return (struct cubic *)(void *)c->cc;
}

/* Cube root of x, rounded down, bit by bit; x stays below 2^63. */
static uint32_t cube_root(uint64_t x)
{
    uint64_t r = 0;

    for (int bit = 20; bit >= 0; bit--) {
        uint64_t t = r | UINT64_C(1) << bit;

        if (t * t * t <= x)
            r = t;
    }
    return (uint32_t)r;
}

static void cubic_init(struct engine *e, struct tcp_conn *c)
{
    struct cubic *q = cubic(c);

    (void)e;
    *q = (struct cubic){.phase = c->ssthresh == INT32_MAX ? FIRST_SLOW_START : NO_EPOCH};
    if (q->phase == FIRST_SLOW_START)
        hystart_init(&q->hystart, c);
}

static void start_epoch(struct tcp_conn *c, uint32_t now_ms)
{
    struct cubic *q = cubic(c);
    uint64_t segs_milli;

    q->phase = EPOCH;
    q->reduced = 0;
    q->epoch_ms = q->last_ms = now_ms;
    q->rest = q->est_rest = 0;
    q->w_est = c->cwnd;
    q->k_ms = 0;
    if (c->cwnd >= q->w_max) { /* After slow start: the curve is convex from here (4.8, 4.10). */
        q->w_max = c->cwnd;
        return;
    }
    segs_milli = (uint64_t)(q->w_max - c->cwnd) * 1000 / c->mss;
    /* K^3 = (W_max - cwnd) / 0.4 in s^3; in ms^3: segments * 2.5 * 10^9. */
    q->k_ms = cube_root(segs_milli * 2500000) & ((1u << K_BITS) - 1);
}

/* W_cubic one round trip ahead, kept within [cwnd, 1.5 cwnd] (RFC 9438 4.2). */
static uint32_t cubic_target(const struct tcp_conn *c, const struct cubic *q, uint32_t now_ms)
{
    int64_t d = (int64_t)(now_ms - q->epoch_ms) + c->srtt8_us / 8000 - q->k_ms;
    int64_t w;

    if (d > D_MAX_MS)
        d = D_MAX_MS;
    /* 0.4 * (d / 1000)^3 segments = 4 d^3 / 10^10 */
    w = (int64_t)((__int128)d * d * d * 4 * c->mss / 10000000000) + q->w_max;
    if (w < c->cwnd)
        return c->cwnd;
    if (w > (int64_t)c->cwnd * 3 / 2)
        return c->cwnd + c->cwnd / 2;
    return (uint32_t)w;
}

/* bytes / cwnd in whole bytes; what is left over is kept in *rest. */
static uint32_t grow_by(uint64_t bytes, uint32_t cwnd, uint32_t *rest)
{
    uint64_t fine = (bytes << REST_BITS) / cwnd + *rest;

    *rest = fine & ((1u << REST_BITS) - 1);
    return (uint32_t)(fine >> REST_BITS);
}

/* RFC 9438 4.3: alpha = 3 (1 - beta) / (1 + beta) = 9/17 until W_est has reached cwnd_prior, then 1. */
static void grow_w_est(struct tcp_conn *c, struct cubic *q, uint32_t acked)
{
    bool full = q->w_est >= q->cwnd_prior;
    uint32_t rest = q->est_rest;

    q->w_est += grow_by((uint64_t)acked * c->mss * (full ? 17 : 9) / 17, c->cwnd, &rest);
    q->est_rest = rest & ((1u << REST_BITS) - 1);
}

/* RFC 9438 5.8: while the application or the peer limited sending, the curve does not go on. */
static void skip_pause(const struct tcp_conn *c, struct cubic *q, uint32_t now_ms)
{
    uint32_t gap = now_ms - q->last_ms;
    uint32_t two_rtt = c->srtt8_us / 4000;

    if (gap > (two_rtt > PAUSE_MS ? two_rtt : PAUSE_MS))
        q->epoch_ms += gap;
    q->last_ms = now_ms;
}

static void slow_start(struct tcp_conn *c, struct cubic *q, const struct cc_ack *a)
{
    bool done = false;

    if (q->phase != FIRST_SLOW_START) {
        c->cwnd += a->acked;
        return;
    }
    c->cwnd += hystart_ack(&q->hystart, c, a, &done);
    if (!done)
        return;
    q->phase = NO_EPOCH;
    c->ssthresh = c->cwnd;
}

static void avoid(struct tcp_conn *c, struct cubic *q, const struct cc_ack *a)
{
    uint32_t now_ms = (uint32_t)(a->now_us / 1000);
    uint32_t rest, grow;

    if (q->phase != EPOCH || q->reduced)
        start_epoch(c, now_ms);
    skip_pause(c, q, now_ms);
    rest = q->rest;
    grow = grow_by((uint64_t)(cubic_target(c, q, now_ms) - c->cwnd) * a->acked, c->cwnd, &rest);
    q->rest = rest & ((1u << REST_BITS) - 1);
    grow_w_est(c, q, a->acked);
    c->cwnd += grow;
    if (q->w_est > c->cwnd)
        c->cwnd = q->w_est;
}

static void cubic_on_ack(struct tcp_conn *c, const struct cc_ack *a)
{
    if (c->cwnd < c->ssthresh)
        slow_start(c, cubic(c), a);
    else
        avoid(c, cubic(c), a);
    if (c->cwnd > WND_MAX)
        c->cwnd = WND_MAX;
}

static uint32_t cubic_ssthresh(struct engine *e, struct tcp_conn *c)
{
    struct cubic *q = cubic(c);
    uint32_t cwnd = c->cwnd < WND_MAX ? c->cwnd : WND_MAX;
    uint32_t reduced = (uint32_t)((uint64_t)cwnd * BETA_NUM / BETA_DEN);

    (void)e;
    if (q->phase == FIRST_SLOW_START)
        q->phase = NO_EPOCH;
    q->undo_w_max = q->w_max;
    q->undo_cwnd_prior = q->cwnd_prior;
    q->reduced = 1;
    q->cwnd_prior = cwnd & WND_MAX;
    /* RFC 9438 4.7: a flow that lost below its last plateau gives way to newcomers. */
    if (cwnd < q->w_max)
        q->w_max = (uint32_t)((uint64_t)cwnd * (BETA_DEN + BETA_NUM) / (2 * BETA_DEN)) & WND_MAX;
    else
        q->w_max = cwnd & WND_MAX;
    return reduced > 2u * c->mss ? reduced : 2u * c->mss;
}

/* RFC 9438 4.8: after a time-out the curve starts where slow start ends, with K = 0. */
static void cubic_on_rto(struct engine *e, struct tcp_conn *c)
{
    (void)e;
    cubic(c)->w_max = 0;
}

/* RFC 9438 4.9: as if the reduction had not been. */
static void cubic_on_undo(struct engine *e, struct tcp_conn *c)
{
    struct cubic *q = cubic(c);

    (void)e;
    if (!q->reduced) { /* A new curve has begun: one from the restored window is all there is to give. */
        q->phase = NO_EPOCH;
        return;
    }
    q->w_max = q->undo_w_max & WND_MAX;
    q->cwnd_prior = q->undo_cwnd_prior & WND_MAX;
    q->reduced = 0;
}

const struct cc_ops cc_cubic = {
    .name = "cubic",
    .init = cubic_init,
    .on_ack = cubic_on_ack,
    .ssthresh = cubic_ssthresh,
    .on_rto = cubic_on_rto,
    .on_undo = cubic_on_undo,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CUBIC (RFC 9438), in integers: windows in bytes, time in milliseconds.
 *
 *   W_cubic(t) = C * (t - K)^3 + W_max     C = 0.4 segments/s^3, beta = 0.7
 *   K = cbrt((W_max - cwnd_epoch) / C)     seconds
 */
#include "daemon/engine/engine_int.h"

enum {
    W_MAX,    /* bytes: window before the last reduction */
    ORIGIN,   /* bytes: plateau of the present curve */
    K_MS,     /* time from the start of the curve to the plateau */
    EPOCH_MS, /* start of the curve, low 32 bits; 0: none */
    W_EST,    /* bytes: what Reno would have (RFC 9438 4.3) */
    REST,     /* growth not yet given, in 1/cwnd bytes */
    EST_REST,
    UNDO_W_MAX,
};

/* RFC 9438 4.1: beta_cubic = 0.7; 4.7: fast convergence (1 + beta) / 2 = 0.85. */
#define BETA_NUM 7u
#define BETA_DEN 10u

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

static void cubic_init(struct tcp_conn *c)
{
    memset(c->cc, 0, sizeof(c->cc));
}

static void start_epoch(struct tcp_conn *c, uint32_t now_ms)
{
    c->cc[EPOCH_MS] = now_ms ? now_ms : 1;
    c->cc[REST] = c->cc[EST_REST] = 0;
    c->cc[W_EST] = c->cwnd;
    if (c->cwnd < c->cc[W_MAX]) {
        uint64_t segs_milli = (uint64_t)(c->cc[W_MAX] - c->cwnd) * 1000 / c->mss;

        /* K^3 = (W_max - cwnd) / 0.4 in s^3; in ms^3: segments * 2.5 * 10^9. */
        c->cc[K_MS] = cube_root(segs_milli * 2500000);
        c->cc[ORIGIN] = c->cc[W_MAX];
    } else {
        c->cc[K_MS] = 0;
        c->cc[ORIGIN] = c->cwnd;
    }
}

/* W_cubic one round trip ahead, kept within [cwnd, 1.5 cwnd] (RFC 9438 4.2). */
static uint32_t cubic_target(const struct tcp_conn *c, uint32_t now_ms)
{
    int64_t t = (int64_t)(now_ms - c->cc[EPOCH_MS]) + c->srtt8_us / 8000;
    int64_t d = t - c->cc[K_MS];
    int64_t w;

    if (d > 500000)
        d = 500000;
    /* 0.4 * (d / 1000)^3 segments = 4 d^3 / 10^10 */
    w = (int64_t)((__int128)d * d * d * 4 * c->mss / 10000000000) + c->cc[ORIGIN];
    if (w < c->cwnd)
        return c->cwnd;
    if (w > (int64_t)c->cwnd * 3 / 2)
        return c->cwnd + c->cwnd / 2;
    return (uint32_t)w;
}

static void cubic_on_ack(struct tcp_conn *c, uint32_t acked, uint64_t now_us)
{
    uint32_t now_ms = (uint32_t)(now_us / 1000);
    uint64_t grow;

    if (c->cwnd < c->ssthresh) {
        c->cwnd += acked;
        return;
    }
    if (!c->cc[EPOCH_MS])
        start_epoch(c, now_ms);
    grow = (uint64_t)(cubic_target(c, now_ms) - c->cwnd) * acked + c->cc[REST];
    c->cc[REST] = (uint32_t)(grow % c->cwnd);
    grow /= c->cwnd;
    /* RFC 9438 4.3: alpha = 3 (1 - beta) / (1 + beta) = 9/17 until W_est has reached W_max, then 1. */
    {
        bool full = c->cc[W_EST] >= c->cc[W_MAX];
        uint64_t est = (uint64_t)acked * c->mss * (full ? 17 : 9) / 17 + c->cc[EST_REST];

        c->cc[EST_REST] = (uint32_t)(est % c->cwnd);
        c->cc[W_EST] += (uint32_t)(est / c->cwnd);
    }
    c->cwnd += (uint32_t)grow;
    if (c->cc[W_EST] > c->cwnd)
        c->cwnd = c->cc[W_EST];
}

static uint32_t cubic_ssthresh(struct tcp_conn *c, uint64_t now_us)
{
    uint32_t reduced = (uint32_t)((uint64_t)c->cwnd * BETA_NUM / BETA_DEN);

    (void)now_us;
    c->cc[UNDO_W_MAX] = c->cc[W_MAX];
    c->cc[EPOCH_MS] = 0;
    /* RFC 9438 4.7: a flow that lost below its last plateau gives way to newcomers. */
    if (c->cwnd < c->cc[W_MAX])
        c->cc[W_MAX] = (uint32_t)((uint64_t)c->cwnd * (BETA_DEN + BETA_NUM) / (2 * BETA_DEN));
    else
        c->cc[W_MAX] = c->cwnd;
    return reduced > 2u * c->mss ? reduced : 2u * c->mss;
}

static void cubic_on_rto(struct tcp_conn *c)
{
    c->cc[EPOCH_MS] = 0; /* RFC 9438 4.8 */
}

static void cubic_on_undo(struct tcp_conn *c)
{
    c->cc[W_MAX] = c->cc[UNDO_W_MAX];
    c->cc[EPOCH_MS] = 0;
}

const struct cc_ops cc_cubic = {
    .name = "cubic",
    .init = cubic_init,
    .on_ack = cubic_on_ack,
    .ssthresh = cubic_ssthresh,
    .on_rto = cubic_on_rto,
    .on_undo = cubic_on_undo,
};

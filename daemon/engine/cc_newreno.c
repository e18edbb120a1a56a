/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NewReno (RFC 5681 3.1, RFC 3465): the reference algorithm.
 */
#include "daemon/engine/engine_int.h"

/* c->cc[]: bytes acknowledged since the window last grew by one segment */
#define ACKED 0

static void newreno_init(struct tcp_conn *c)
{
    c->cc[ACKED] = 0;
}

static void newreno_on_ack(struct tcp_conn *c, uint32_t acked, uint64_t now_us)
{
    (void)now_us;
    if (c->cwnd < c->ssthresh) {
        c->cwnd += acked;
        return;
    }
    c->cc[ACKED] += acked;
    if (c->cc[ACKED] >= c->cwnd) {
        c->cc[ACKED] -= c->cwnd;
        c->cwnd += c->mss;
    }
}

static uint32_t newreno_ssthresh(struct tcp_conn *c, uint64_t now_us)
{
    uint32_t half = tcp_flight(c) / 2;

    (void)now_us;
    return half > 2u * c->mss ? half : 2u * c->mss;
}

static void newreno_reset(struct tcp_conn *c)
{
    c->cc[ACKED] = 0;
}

const struct cc_ops cc_newreno = {
    .name = "reno",
    .init = newreno_init,
    .on_ack = newreno_on_ack,
    .ssthresh = newreno_ssthresh,
    .on_rto = newreno_reset,
    .on_undo = newreno_reset,
};

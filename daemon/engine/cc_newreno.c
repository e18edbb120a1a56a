/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NewReno (RFC 5681 3.1) with appropriate byte counting (RFC 3465): the reference algorithm. RFC 3465's limit
 * L isn't kept, for the reason given in cc_hystart.c.
 */
#include "daemon/engine/engine_int.h"

struct newreno {
    uint32_t bytes_acked; /* since the window last grew by one segment (RFC 3465 2.1) */
};
static_assert(sizeof(struct newreno) <= sizeof(((struct tcp_conn *)0)->cc), "fits the record");

static struct newreno *newreno(struct tcp_conn *c)
{
    return (struct newreno *)(void *)c->cc;
}

static void newreno_reset(struct engine *e, struct tcp_conn *c)
{
    (void)e;
    newreno(c)->bytes_acked = 0;
}

static void newreno_on_ack(struct tcp_conn *c, const struct cc_ack *a)
{
    struct newreno *n = newreno(c);

    if (c->cwnd < c->ssthresh) {
        c->cwnd += a->acked;
        return;
    }
    n->bytes_acked += a->acked;
    if (n->bytes_acked >= c->cwnd) {
        n->bytes_acked -= c->cwnd;
        c->cwnd += c->mss;
    }
}

/* RFC 5681 equation 4. A mark may come with the ACK of all that was in flight: RFC 3168 6.1.2 halves cwnd. */
static uint32_t newreno_ssthresh(struct engine *e, struct tcp_conn *c)
{
    uint32_t half = (c->ca_state == CA_CWR ? c->cwnd : tcp_flight(c)) / 2;

    (void)e;
    return half > 2u * c->mss ? half : 2u * c->mss;
}

const struct cc_ops cc_newreno = {
    .name = "reno",
    .init = newreno_reset,
    .on_ack = newreno_on_ack,
    .ssthresh = newreno_ssthresh,
    .on_rto = newreno_reset,
    .on_undo = newreno_reset,
};

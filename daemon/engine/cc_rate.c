/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delivery-rate samples (draft-ietf-ccwg-bbr 4.1): how much was delivered between the sending of a segment
 * and its acknowledgment, over the longer of the times that sending and acknowledging took.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* OnPacketSent(). The segment is counted in the flight already. */
void rate_sent(struct engine *e, struct tcp_conn *c, uint32_t seg)
{
    const struct tx_seg *t;
    struct cc_path *p;
    uint32_t pipe;

    p = path_of(e, c);
    t = &e->tcp.segs[seg];
    pipe = tcp_pipe(e, c);
    if (pipe <= t->end - t->start)
        p->first_sent_us = p->delivered_us = e->now_us;
    e->tcp.rates[seg] = (struct tx_rate){.delivered = c->delivered,
                                         .delivered_us = p->delivered_us,
                                         .first_sent_us = p->first_sent_us,
                                         .lost = p->lost,
                                         .in_flight = pipe,
                                         .app_limited = p->app_limited != 0};
}

void rate_split(struct engine *e, uint32_t seg, uint32_t rest)
{
    e->tcp.rates[rest] = e->tcp.rates[seg];
}

void rate_ack_begin(struct engine *e, const struct tcp_conn *c)
{
    path_of(e, c)->rs = (struct rate_sample){0};
}

/* IsNewestPacket() */
static bool newest(const struct cc_path *p, const struct tx_seg *t)
{
    return t->xmit_us > p->first_sent_us ||
           (t->xmit_us == p->first_sent_us && (!p->rs.prior_us || seq_gt(t->end, p->rs.end_seq)));
}

/* UpdateRateSample() */
void rate_delivered(struct engine *e, const struct tcp_conn *c, uint32_t seg, uint32_t len)
{
    const struct tx_seg *t = &e->tcp.segs[seg];
    struct tx_rate *r = &e->tcp.rates[seg];
    struct cc_path *p;

    p = path_of(e, c);
    p->rs.newly_acked += len;
    p->delivered_us = e->now_us;
    if (!r->delivered_us || (p->rs.prior_us && !newest(p, t)))
        return;
    p->rs.prior_delivered = r->delivered;
    p->rs.prior_us = r->delivered_us;
    p->rs.app_limited = r->app_limited;
    p->rs.in_flight = r->in_flight;
    p->rs.lost = r->lost; /* for now; rate_ack_end() takes the difference */
    p->rs.send_elapsed = t->xmit_us - r->first_sent_us;
    p->rs.ack_elapsed = p->delivered_us - r->delivered_us;
    p->rs.end_seq = t->end;
    p->first_sent_us = t->xmit_us;
}

void rate_lost(struct engine *e, struct tcp_conn *c, uint32_t seg)
{
    const struct cc_ops *cc = cc_by_id(c->o.cc);
    const struct tx_seg *t = &e->tcp.segs[seg];

    path_of(e, c)->lost += t->end - t->start;
    if (cc->on_lost)
        cc->on_lost(e, c, t, &e->tcp.rates[seg]);
}

/* GenerateRateSample() */
void rate_ack_end(struct engine *e, const struct tcp_conn *c, uint64_t rtt_us)
{
    struct cc_path *p;
    struct rate_sample *rs;
    uint64_t interval;

    p = path_of(e, c);
    rs = &p->rs;
    rs->rtt_us = rtt_us > UINT32_MAX ? UINT32_MAX : (uint32_t)rtt_us;
    if (p->app_limited && c->delivered > p->app_limited)
        p->app_limited = 0;
    if (!rs->prior_us)
        return;
    rs->delivered = c->delivered - rs->prior_delivered;
    rs->lost = p->lost - rs->lost;
    interval = rs->send_elapsed > rs->ack_elapsed ? rs->send_elapsed : rs->ack_elapsed;
    if (interval && (interval >= c->min_rtt_us || c->min_rtt_us == UINT32_MAX))
        rs->rate = rs->delivered * 1000000 / interval;
}

/* MarkConnectionAppLimited(), where CheckIfApplicationLimited() holds. */
void rate_app_limited(struct engine *e, const struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);

    if (f->lost_bytes > f->retrans_bytes || tcp_pipe(e, c) >= c->cwnd)
        return;
    path_of(e, c)->app_limited = c->delivered + tcp_pipe(e, c);
    if (!path_of(e, c)->app_limited)
        path_of(e, c)->app_limited = 1;
}

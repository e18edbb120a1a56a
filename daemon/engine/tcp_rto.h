/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round-trip times and what follows from them: the retransmission time-out (RFC 6298) and when a loss probe
 * is due (RFC 8985).
 */
#ifndef ENGINE_TCP_RTO_H
#define ENGINE_TCP_RTO_H

#include "daemon/engine/core.h"

#define RTO_SHIFT_MAX 12u /* time-outs are doubled at most this often; rto_max_us ends it sooner */
/* RFC 8985 7.2: worst delayed ACK that a lone segment may meet. */
#define TLP_DELACK_US 200000u
#define TLP_MIN_US    2000u

/* The wheel comes to the connection no later than at `at_us`. */
static inline bool tcp_timer_armed(const struct engine *e, const struct tcp_conn *c, uint64_t at_us)
{
    return wheel_armed(&e->wheel, node_of_conn(&e->cfg, (uint32_t)(c - e->tcp.conns)), at_us);
}

/* RFC 6298 2.2 and 2.3, in the scaled integers of Jacobson's appendix. */
static inline void rto_sample(const struct engine *e, struct tcp_conn *c, uint64_t rtt_us)
{
    uint32_t rtt = rtt_us > e->cfg.rto_max_us ? e->cfg.rto_max_us : (uint32_t)rtt_us;
    uint64_t rto, var;

    if (rtt < 1)
        rtt = 1;
    if (rtt < c->min_rtt_us)
        c->min_rtt_us = rtt;
    if (!c->srtt8_us) {
        c->srtt8_us = rtt * 8;
        c->rttvar4_us = rtt * 2;
    } else {
        uint32_t srtt = c->srtt8_us / 8;
        uint32_t dev = rtt > srtt ? rtt - srtt : srtt - rtt;

        c->rttvar4_us = c->rttvar4_us - c->rttvar4_us / 4 + dev;
        c->srtt8_us = c->srtt8_us - c->srtt8_us / 8 + rtt;
    }
    /* The floor is put under the variance, as Linux does, so that RTO stays above SRTT by that much. */
    var = c->rttvar4_us > e->cfg.rto_min_us ? c->rttvar4_us : e->cfg.rto_min_us;
    rto = c->srtt8_us / 8 + var;
    c->rto_us = rto > e->cfg.rto_max_us ? e->cfg.rto_max_us : (uint32_t)rto;
}

/* The time-out now, backed off. */
static inline uint32_t rto_now(const struct engine *e, const struct tcp_conn *c)
{
    unsigned shift = c->backoff < RTO_SHIFT_MAX ? c->backoff : RTO_SHIFT_MAX;
    uint64_t rto = (uint64_t)c->rto_us << shift;

    return rto > e->cfg.rto_max_us ? e->cfg.rto_max_us : (uint32_t)rto;
}

/* RFC 8985 7.2, of `flight` bytes that were sent once and nothing is known of yet. 0: no probe. */
static inline uint32_t rto_probe_delay(const struct engine *e, const struct tcp_conn *c, uint32_t flight)
{
    uint32_t srtt = c->srtt8_us / 8;
    uint32_t pto = 2 * srtt, rto = rto_now(e, c);

    if (!(c->flags & TF_SACK) || !srtt || c->backoff)
        return 0;
    if (flight <= c->mss)
        pto += TLP_DELACK_US;
    else if (pto < TLP_MIN_US)
        pto = TLP_MIN_US;
    return pto < rto ? pto : rto;
}
static_assert(TLP_DELACK_US >= TLP_MIN_US, "the probe of a lone segment is never too early");

/* RFC 8985 7.2: may a tail loss probe take the place of the time-out, and when? 0: no. */
static inline uint32_t rto_probe_timeout(const struct engine *e, const struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);

    if (c->state < TCPS_ESTABLISHED || c->ca_state > CA_CWR || f->tlp_out || f->sacked_bytes ||
        tcp_flight(c) > c->snd_wnd)
        return 0; /* Also when the window shrank under what is in flight: the tail would be thrown away. */
    return rto_probe_delay(e, c, tcp_flight(c));
}

#endif

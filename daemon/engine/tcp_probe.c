/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes of the path MTU by segments (RFC 4821). A probe is new data in one packet that is larger than the
 * others, followed by enough of them that its loss shows at once (7.4). The record of the segment says what
 * it is (TXS_PROBE); what is known of the path lies in pmtu_probe.c.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* Retransmissions in a row that nothing answered make a black hole: Linux's tcp_retries1, RFC 1122's R1. */
#define BLACK_HOLE_TIMEOUTS 3u

/* Bytes of a packet beside the payload. */
static uint32_t overhead(const struct tcp_conn *c)
{
    return net_hdr_bytes(c->s.remote.family) + TCP_HDR_BYTES + tcp_options_bytes(c);
}

uint32_t tcp_probe_size(struct engine *e, const struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);
    uint32_t max = tcp_mss_max(e, c) + overhead(c) - tcp_options_bytes(c);
    uint32_t bytes;

    if (!mtu_disc_probes(&c->s) || c->state < TCPS_ESTABLISHED || c->flags & TF_FIN_SENT ||
        c->ca_state != CA_OPEN || f->sacked_bytes || f->lost_bytes || f->dup_acks)
        return 0; /* 7.4: not while something else goes on. */
    bytes = pmtu_probe_size(e, &c->s.remote, max);
    return bytes > c->mss + overhead(c) ? bytes - overhead(c) : 0;
}

void tcp_probe_sent(struct engine *e, const struct tcp_conn *c, uint32_t len)
{
    pmtu_probe_sent(e, &c->s.remote, (uint16_t)(len + overhead(c)));
}

void tcp_probe_arrived(struct engine *e, const struct tcp_conn *c)
{
    pmtu_probe_over(e, &c->s.remote, PMTU_PROBE_ARRIVED);
}

/* RFC 4821 7.6.1: it alone is lost. That tells of the path's MTU and not of congestion (7.5): it is sent
 * again in segments of the size of before, without a recovery. */
bool tcp_probe_lost(struct engine *e, const struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);
    struct tx_seg *t;

    if (f->lost.head == NIL || f->lost.head != f->lost.tail)
        return false;
    t = seg_at(e, f->lost.head);
    if (t->flags & TXS_PROBE) {
        t->flags ^= TXS_PROBE | TXS_RESIZE;
        pmtu_probe_over(e, &c->s.remote, PMTU_PROBE_LOST);
    }
    return t->flags & TXS_RESIZE;
}

/* 7.6.2: others were lost too, so nothing is known. After a time-out (7.6.3) it counts, or a path that takes
 * no large packet would be probed for ever. */
void tcp_probe_resent(struct engine *e, const struct tcp_conn *c, struct tx_seg *t)
{
    t->flags &= (uint16_t)~TXS_PROBE;
    pmtu_probe_over(e, &c->s.remote, c->ca_state == CA_LOSS ? PMTU_PROBE_LOST : PMTU_PROBE_UNCLEAR);
}

/* RFC 4821 7.7: time-outs that nothing answers, of packets that are longer than every path must carry. */
void tcp_probe_timeout(struct engine *e, struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);
    uint32_t len;

    if (e->cfg.mtu_probing == ENGINE_NEVER || !mtu_disc_probes(&c->s) || c->probes <= BLACK_HOLE_TIMEOUTS ||
        !f->seg_count)
        return;
    len = seg_len(seg_at(e, f->seg_head));
    if (len > c->mss)
        len = c->mss;
    if (pmtu_black_hole(e, &c->s.remote, len + overhead(c)))
        tcp_pmtu_sync(e, c);
}

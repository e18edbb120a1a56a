/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Explicit congestion notification (RFC 3168): agreed upon by SYN and SYN-ACK; marks that came are echoed
 * until the sender says that it has reduced its window; an echo reduces ours, once a window.
 *
 * Only new data says that it may be marked: not SYNs, pure ACKs, probes and what is sent again (6.1.1, 6.1.4
 * to 6.1.6). tcp_out.c sets the codepoint and CWR, and TF_ECE in every segment.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"
#include "daemon/engine/tcp_tally.h"

#define SETUP (TCP_ECE | TCP_CWR)

bool tcp_ecn_request(const struct engine *e, const struct tcp_seg *s, uint8_t tos)
{
    /* No SYN says that it can be marked (6.1.1): who finds it marked has a path that rewrites the field. */
    return e->cfg.ecn != ENGINE_ECN_OFF && (s->flags & SETUP) == SETUP && !(tos & IP_ECN_MASK);
}

/* RFC 3168 6.1.1. An answer with CWR mirrors the flags without knowing them. */
void tcp_ecn_answer(struct tcp_conn *c, const struct tcp_seg *s)
{
    uint8_t agreed = s->flags & TCP_ACK ? TCP_ECE : SETUP;

    if ((s->flags & SETUP) != agreed)
        c->ecn &= ~(ECN_SEND | ECN_TAKE) & 15u;
}

/* RFC 3168 6.1.1.1: something on the way may drop a SYN that asks. From then on our data must not say that it
 * can be marked, but the peer's may, if it answers the first SYN. */
void tcp_ecn_fallback(struct engine *e, struct tcp_conn *c)
{
    if (!(c->ecn & ECN_SEND))
        return;
    c->ecn &= ~ECN_SEND & 15u;
    stat_inc(&e->stats, ST_TCP_ECN_FALLBACK);
}

/* RFC 3168 6.1.3: from the first mark to CWR. Either means that the sender's window may be small: the ACK
 * doesn't wait. */
void tcp_ecn_data(struct tcp_conn *c, const struct tcp_seg *s, uint8_t tos)
{
    uint8_t ecn = tos & IP_ECN_MASK;

    if (s->flags & TCP_CWR)
        c->flags = (c->flags & ~TF_ECE) | TF_ACK_NOW;
    if (ecn)
        c->ecn |= ECN_SEEN;
    if (ecn == IP_ECN_CE && !(c->flags & TF_ECE))
        c->flags |= TF_ECE | TF_ACK_NOW;
}

/* One reduction for the window that is in flight now. */
static void enter_cwr(struct engine *e, struct tcp_conn *c, const struct tcp_acked *a)
{
    const struct cc_ops *cc = cc_by_id(c->o.cc);
    struct tx_flight *f = flight_mut(e, c);

    c->ca_state = CA_CWR;
    f->undo_cwnd = 0; /* The congestion is real. */
    f->recover = c->snd_nxt;
    if (cc->on_echo)
        cc->on_echo(e, c);
    else
        c->ssthresh = cc->ssthresh(e, c);
    tcp_prr_begin(c, f, a);
    tcp_ecn_reduced(c);
    stat_inc(&e->stats, ST_TCP_ECN_REDUCTIONS);
}

void tcp_ecn_echo(struct engine *e, struct tcp_conn *c, const struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t segments = (a->delivered_bytes + c->mss - 1) / c->mss;

    tcp_rare_of(e, c)->delivered_ce += segments;
    stat_add(&e->stats, ST_TCP_DELIVERED_CE, segments);
    if (c->ca_state > CA_CWR) /* A loss has reduced the window, which the mark says was right. */
        f->undo_cwnd = 0;
    else if (seq_gt(c->snd_una,
                    f->recover)) /* RFC 3168 6.1.2: what was sent before it knows of nothing new. */
        enter_cwr(e, c, a);
}

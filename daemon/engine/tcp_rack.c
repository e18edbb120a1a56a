/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RACK-TLP (RFC 8985): loss by time of transmission, and the probe for a lost tail.
 *
 * The segments in the network are kept in the order in which they were sent, so that each ACK looks at those
 * that it declares lost and at one more, whatever the size of the flight.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

#define DUPTHRESH       3u
#define REO_PERSIST     16u
#define REO_MULT_MAX    UINT8_MAX
/* Segments one ACK may look at; the reordering timer goes on at once. */
#define RACK_STEPS_MAX  1024u
#define MIN_RTT_UNKNOWN 1000u

/* Was something sent at `us`, ending at `end`, sent after the segment that RACK knows to be delivered? */
static bool sent_after(const struct tx_flight *f, uint64_t us, uint32_t end)
{
    return us > f->rack_xmit_us || (us == f->rack_xmit_us && seq_gt(end, f->rack_end));
}

/* Acknowledged too soon to be the retransmission: by the echoed timestamp, or sooner than any round trip. */
static bool is_original(const struct tcp_conn *c, const struct tx_seg *t, const struct tcp_acked *a,
                        uint64_t rtt)
{
    if (a->has_ecr && (int32_t)(a->ecr_ms - (uint32_t)(t->xmit_us / 1000)) < 0)
        return true;
    return rtt < c->min_rtt_us;
}

void tcp_rack_delivered(struct engine *e, struct tcp_conn *c, const struct tx_seg *t, struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);
    uint64_t rtt = e->now_us - t->xmit_us;

    if (t->retrans) {
        a->retrans_acked = true;
        if (is_original(c, t, a, rtt))
            return;
    } else {
        a->rtt_us = rtt ? rtt : 1;
    }
    f->rack_rtt_us = rtt > UINT32_MAX ? UINT32_MAX : (uint32_t)rtt;
    if (sent_after(f, t->xmit_us, t->end)) {
        f->rack_xmit_us = t->xmit_us;
        f->rack_end = t->end;
    }
}

/* ---- The reordering window -------------------------------------------------------------------------- */

void tcp_rack_dsack(struct engine *e, struct tcp_conn *c)
{
    if (flight_of(e, c)->dsack_seen && seq_lt(c->snd_una, flight_of(e, c)->dsack_round))
        return; /* Once a round trip. */
    if (c->flight != NIL) {
        flight_mut(e, c)->dsack_seen = true;
        flight_mut(e, c)->dsack_round = c->snd_nxt;
    }
    if (c->reo_wnd_mult < REO_MULT_MAX)
        c->reo_wnd_mult++;
    c->reo_wnd_persist = REO_PERSIST;
}

void tcp_rack_recovered(struct tcp_conn *c)
{
    if (c->reo_wnd_persist)
        c->reo_wnd_persist--;
    if (!c->reo_wnd_persist)
        c->reo_wnd_mult = 1;
}

static bool dupthresh_reached(const struct tcp_conn *c, const struct tx_flight *f)
{
    return f->sacked_runs >= DUPTHRESH || f->sacked_bytes > (DUPTHRESH - 1) * (uint32_t)c->mss;
}

uint64_t tcp_rack_window(const struct engine *e, const struct tcp_conn *c)
{
    uint64_t wnd;

    if (!(c->flags & TF_REORDER) && (c->ca_state > CA_CWR || dupthresh_reached(c, flight_of(e, c))))
        return 0;
    wnd = (uint64_t)c->reo_wnd_mult * (c->min_rtt_us == UINT32_MAX ? MIN_RTT_UNKNOWN : c->min_rtt_us) / 4;
    return wnd > c->srtt8_us / 8 ? c->srtt8_us / 8 : wnd;
}

/* ---- Detection -------------------------------------------------------------------------------------- */

/* Look again at `at`, when what is merely late now has become lost. */
static void arm_reorder(struct engine *e, struct tcp_conn *c, uint64_t at)
{
    c->rto_mode = RTO_REORDER;
    c->rto_at_us = at > e->now_us ? at : e->now_us + 1;
    tcp_timer_arm(e, c);
}

void tcp_rack_detect(struct engine *e, struct tcp_conn *c, struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);
    uint64_t wnd = tcp_rack_window(e, c);
    uint32_t steps = 0;

    if (!f->rack_xmit_us)
        return;
    for (uint32_t i = f->sent.head, next; i != NIL; i = next) {
        const struct tx_seg *t = seg_at(e, i);
        uint64_t due = t->xmit_us + f->rack_rtt_us + wnd;

        next = t->q_next;
        if (t->xmit_us > f->rack_xmit_us)
            return; /* So were all that follow. */
        if (++steps > RACK_STEPS_MAX) {
            arm_reorder(e, c, 0);
            return;
        }
        if (t->xmit_us == f->rack_xmit_us && seq_ge(t->end, f->rack_end))
            continue;
        if (due > e->now_us) {
            arm_reorder(e, c, due);
            return;
        }
        tcp_seg_lost(e, f, i, a);
    }
}

/* ---- The loss probe --------------------------------------------------------------------------------- */

/* RFC 8985 7.4.2: the probe repaired a loss that nothing else told of. */
static void probe_repaired(struct engine *e, struct tcp_conn *c)
{
    stat_inc(&e->stats, ST_TCP_LOSS_PROBE_RECOVERY);
    if (c->ca_state != CA_OPEN)
        return; /* Recovery has responded. */
    c->ssthresh = cc_by_id(c->o.cc)->ssthresh(e, c);
    if (c->cwnd > c->ssthresh)
        c->cwnd = c->ssthresh;
    flight_mut(e, c)->recover =
        c->snd_nxt; /* A mark in the same window is no reason for another reduction. */
    tcp_ecn_reduced(c);
}

void tcp_tlp_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, const struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);

    if (!f->tlp_out || seq_lt(s->ack, f->tlp_end))
        return;
    if (!f->tlp_again || (a->dsack && a->dsack_end == f->tlp_end)) {
        f->tlp_out = false; /* New data arrived; or the original did, and the probe was a duplicate. */
    } else if (seq_gt(s->ack, f->tlp_end)) {
        f->tlp_out = false;
        probe_repaired(e, c);
    } else if (!a->acked_bytes && !s->sack_count && !s->len) {
        f->tlp_out = false; /* A duplicate ACK for the probe: the original had arrived. */
    }
}

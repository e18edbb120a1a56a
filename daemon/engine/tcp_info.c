/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP_INFO: a picture of one connection (docs/options.md).
 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

#define REORDERING_START  3u /* Linux's: duplicate ACKs that make a loss (RFC 5681) */
#define NEVER_IN_SEGMENTS INT32_MAX

/* Linux's numbers, in the order of enum tcp_state. */
static uint8_t linux_state(const struct sock *s)
{
    static const uint8_t numbers[TCPS_COUNT] = {
        [TCPS_CLOSED] = 7,      [TCPS_SYN_SENT] = 2,   [TCPS_SYN_RCVD] = 3,
        [TCPS_ESTABLISHED] = 1, [TCPS_FIN_WAIT_1] = 4, [TCPS_FIN_WAIT_2] = 5,
        [TCPS_CLOSE_WAIT] = 8,  [TCPS_CLOSING] = 11,   [TCPS_LAST_ACK] = 9,
    };

    return s->kind == SK_LISTEN ? 10 : numbers[tcp_conn_of_const(s)->state];
}

static uint8_t linux_ca_state(const struct engine *e, const struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);

    switch ((enum ca_state)c->ca_state) {
    case CA_CWR:
        return 2;
    case CA_RECOVERY:
        return 3;
    case CA_LOSS:
        return 4;
    case CA_OPEN:
        break;
    }
    return f->sacked_bytes || f->dup_acks ? 1 : 0;
}

static uint32_t ms_since(uint64_t now_us, uint64_t then_us)
{
    return then_us && then_us < now_us ? (uint32_t)((now_us - then_us) / 1000) : 0;
}

/* Bytes in segments, an incomplete one counted. */
static uint32_t segments(const struct tcp_conn *c, uint64_t bytes)
{
    return c->mss ? (uint32_t)((bytes + c->mss - 1) / c->mss) : 0;
}

static void fill_flight(const struct engine *e, const struct tcp_conn *c, struct sg_tcp_info *ret)
{
    const struct tx_flight *f = flight_of(e, c);
    bool probing = c->rto_mode == RTO_PERSIST || (c->keep_at_us && !tcp_flight(c));

    ret->ca_state = linux_ca_state(e, c);
    ret->retransmits = probing ? 0 : c->probes;
    ret->probes = probing ? c->probes : 0;
    ret->backoff = c->backoff;
    ret->unacked = segments(c, tcp_flight(c));
    ret->sacked = segments(c, f->sacked_bytes);
    ret->lost = segments(c, f->lost_bytes);
    ret->retrans = segments(c, f->retrans_bytes);
    ret->snd_cwnd = c->mss ? c->cwnd / c->mss : 0;
    ret->snd_ssthresh = c->ssthresh >= INT32_MAX || !c->mss ? NEVER_IN_SEGMENTS : c->ssthresh / c->mss;
    ret->total_retrans = c->total_retrans;
    ret->delivered = segments(c, c->delivered) + (c->state >= TCPS_ESTABLISHED); /* the SYN, as in Linux */
    ret->notsent_bytes = c->state >= TCPS_ESTABLISHED ? (uint32_t)tcp_unsent(c) : 0;
    ret->snd_wnd = c->snd_wnd;
}

static uint64_t ticks_us(uint32_t ticks)
{
    return (uint64_t)ticks << TCP_TICK_SHIFT;
}

/* As in Linux the time that something is in the way counts as busy, too. */
static void fill_limits(const struct tcp_conn *c, const struct tcp_rare *r, uint64_t now_us,
                        struct sg_tcp_info *ret)
{
    uint64_t now = ticks_us((uint32_t)(now_us >> TCP_TICK_SHIFT) - c->limit_tick);
    enum tcp_limit limit = tally_limit(c);

    ret->rwnd_limited_us = ticks_us(r->rwnd_ticks) + (limit == LIMIT_RWND ? now : 0);
    ret->sndbuf_limited_us = ticks_us(r->sndbuf_ticks) + (limit == LIMIT_SNDBUF ? now : 0);
    ret->busy_us = ticks_us(c->busy_ticks) + (limit == LIMIT_NETWORK ? now : 0) + ret->rwnd_limited_us +
                   ret->sndbuf_limited_us;
}

static void fill_rates(const struct engine *e, const struct tcp_conn *c, struct sg_tcp_info *ret)
{
    ret->max_pacing_rate = c->o.pacing_max ? c->o.pacing_max : UINT64_MAX;
    ret->pacing_rate = has_path(c) ? path_of(e, c)->rate : UINT64_MAX;
    if (c->rate_us)
        ret->delivery_rate = (uint64_t)c->rate_bytes * 1000000 / c->rate_us;
    if (c->flags & TF_RATE_APP)
        ret->rate_flags |= SG_TCPI_RATE_APP;
}

static void fill_rare(const struct engine *e, const struct tcp_conn *c, struct sg_tcp_info *ret)
{
    const struct tcp_rare *r = tcp_rare_get(e, c);

    ret->bytes_retrans = r->bytes_retrans;
    ret->bytes_sent += r->bytes_retrans;
    ret->delivered_ce = r->delivered_ce;
    ret->dsack_dups = r->dsacks;
    ret->rcv_ooopack = r->ooo_segs;
    ret->reord_seen = r->reord_seen;
    ret->reordering = r->reordering > REORDERING_START ? r->reordering : REORDERING_START;
    if (r->syn_data)
        ret->options |= SG_TCPI_SYN_DATA;
    ret->rate_flags |= (uint8_t)(r->fastopen_fail << SG_TCPI_FO_SHIFT);
}

static void fill_receiver(const struct engine *e, const struct tcp_conn *c, struct sg_tcp_info *ret)
{
    const struct tcp_buf *b = &e->tcp.bufs[tcp_conn_index(e, c)];

    if (!(c->s.rx.flags & RING_COLD))
        return; /* too little came to measure anything */
    ret->rcv_rtt_us = b->rtt_us;
    ret->rcv_space = b->last_bytes;
}

static void fill_times(const struct engine *e, const struct tcp_conn *c, uint64_t now_us,
                       struct sg_tcp_info *ret)
{
    uint32_t data_ticks = (uint32_t)(now_us >> TCP_TICK_SHIFT) - c->data_rcvd_tick;

    ret->rto_us = tcp_rto_now(e, c);
    ret->ato_us = c->ato_us;
    ret->rtt_us = c->srtt8_us / 8;
    ret->rttvar_us = c->rttvar4_us / 4;
    ret->min_rtt_us = c->min_rtt_us;
    ret->last_data_sent_ms = ms_since(now_us, c->sent_us);
    ret->last_data_recv_ms = (uint32_t)(ticks_us(data_ticks) / 1000);
    ret->last_ack_recv_ms = ms_since(now_us, c->rcvd_us);
}

static void fill_conn(const struct engine *e, const struct tcp_conn *c, uint64_t now_us,
                      struct sg_tcp_info *ret)
{
    bool open = c->state >= TCPS_ESTABLISHED;

    ret->options =
        (uint8_t)((c->flags & TF_TS ? SG_TCPI_TIMESTAMPS : 0) | (c->flags & TF_SACK ? SG_TCPI_SACK : 0) |
                  (c->flags & TF_WSCALE ? SG_TCPI_WSCALE : 0) | (c->ecn & ECN_SEND ? SG_TCPI_ECN : 0) |
                  (c->ecn & ECN_SEEN ? SG_TCPI_ECN_SEEN : 0));
    if (c->flags & TF_WSCALE)
        ret->wscales = (uint8_t)(c->snd_wscale | c->rcv_wscale << 4);
    ret->snd_mss = c->mss;
    ret->rcv_mss = c->rcv_mss;
    ret->rcv_ssthresh = c->rcv_adv - c->rcv_nxt;
    ret->bytes_acked = c->s.tx.head;
    ret->bytes_sent = c->s.tx.head + (open ? tcp_flight(c) - !!(c->flags & TF_FIN_SENT) : 0);
    ret->bytes_received = c->s.rx.tail;
    ret->segs_in = c->segs_in;
    ret->segs_out = c->segs_out;
    ret->data_segs_in = c->data_segs_in;
    ret->data_segs_out = c->data_segs_out;
    if (c->s.rport) {
        ret->pmtu = pmtu_get(e, &c->s.remote);
        ret->advmss = tcp_adv_mss(e, &c->s.remote);
        if (c->o.user_mss && c->o.user_mss < ret->advmss)
            ret->advmss = c->o.user_mss;
    }
    fill_times(e, c, now_us, ret);
    fill_flight(e, c, ret);
    fill_limits(c, tcp_rare_get(e, c), now_us, ret);
    fill_rates(e, c, ret);
    fill_rare(e, c, ret);
    fill_receiver(e, c, ret);
}

void tcp_info_fill(const struct engine *e, const struct sock *s, uint64_t now_us, struct sg_tcp_info *ret)
{
    const struct tcp_listener *l = (const struct tcp_listener *)s;

    *ret = (struct sg_tcp_info){.state = linux_state(s)};
    if (s->kind != SK_LISTEN) {
        fill_conn(e, tcp_conn_of_const(s), now_us, ret);
    } else { /* As in Linux: connections that wait, and how many may. */
        ret->unacked = l->queue_len;
        ret->sacked = l->backlog;
    }
}

int tcp_info_word(struct engine *e, const struct sock *s, uint32_t word, uint64_t *value)
{
    struct session *ss = sock_session(e, s->sid);

    if (word >= SG_TCP_INFO_WORDS)
        return -EINVAL;
    if (!word) {
        tcp_info_fill(e, s, e->now_us, &ss->info);
        ss->info_slot = s->slot;
    } else if (ss->info_slot != s->slot) {
        return -EAGAIN;
    }
    memcpy(value, (const uint8_t *)&ss->info + (size_t)word * sizeof(*value), sizeof(*value));
    return 0;
}

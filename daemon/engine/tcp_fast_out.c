/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other half of header prediction: the application has answered. Nothing is in flight, all that is queued
 * fits one segment, neither window nor Nagle's algorithm holds it back, and the neighbour is known. It goes
 * out with the ACK that is owed, as tcp_output() would send it.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/csum.h"
#include "daemon/engine/seq.h"
#include "daemon/engine/tcp_fast.h"
#include "daemon/engine/tcp_rto.h"
#include "daemon/engine/tcp_window.h"

#define TS_BYTES 12u

#define REFUSED                                                                                              \
    (TF_FIN_QUEUED | TF_FIN_SENT | TF_FIN_RCVD | TF_EMBRYO | TF_ORPHAN | TF_RX_SHUT | TF_DSACK | TF_TLP |    \
     TF_MORE | TF_OVERRIDE | TF_FASTOPEN | TF_SYN_DATA | TF_SYN_DEFERRED)

/* ---- May it go? --------------------------------------------------------------------------------------- */

static inline bool quiet(const struct engine *e, const struct tcp_conn *c)
{
    return (c->flags & (TF_HASHED | REFUSED)) == TF_HASHED && c->state == TCPS_ESTABLISHED &&
           c->ca_state == CA_OPEN && !c->ecn && c->flight == NIL && c->reasm == NIL && c->path == NIL &&
           c->o.cc != CC_BBR && c->s.mtu_disc == MTU_DISC_WANT && !c->o.user_timeout_ms &&
           c->snd_una == c->snd_nxt && c->pmtu_changes == e->pmtu.changes && !e->pmtu.searching &&
           !((c->s.rx.flags | c->s.tx.flags) & RING_NEXT);
}

/* One segment, and no reason to wait with it. */
static inline bool windows_allow(const struct engine *e, const struct tcp_conn *c, uint64_t len)
{
    if (!len || len > c->mss || len >= c->cwnd || len > c->snd_wnd || len >> c->s.tx.log2)
        return false;
    if (c->s.opts & SO_F_CORK ||
        (len < c->mss && !(c->s.opts & SO_F_NODELAY) && seq_gt(c->snd_sml, c->snd_una)))
        return false;
    /* RFC 2861: cc_restart_after_idle() has nothing to do. */
    return c->cwnd <= 10u * c->mss || !e->cfg.idle_restart || e->now_us - c->sent_us <= c->rto_us;
}

static inline struct neigh *neighbour(struct engine *e, struct tcp_conn *c, const struct tcp_way **way)
{
    uint32_t i = tcp_conn_index(e, c);
    struct tcp_way *w = &e->tcp.ways[i];
    struct neigh *n;

    if (w->gen != way_gen(e) && !tcp_way_fill(e, i))
        return NULL;
    n = &e->neigh.entries[w->neigh];
    *way = w;
    return n->state == NEIGH_REACHABLE && e->now_us - n->confirmed_us <= neigh_reachable_us(e, n) ? n : NULL;
}

/* ---- The frame ---------------------------------------------------------------------------------------- */

static inline uint8_t *put_frame_header(uint8_t *h, const struct netif *i, const struct neigh *n,
                                        uint16_t type)
{
    h -= ETH_HDR_BYTES;
    memcpy(h, n->mac, ETH_ADDR_BYTES);
    memcpy(h + ETH_ADDR_BYTES, i->c.mac, ETH_ADDR_BYTES);
    put_be16(h + 12, type);
    return h;
}

/* As ip4_put() with DF and without an identification (RFC 6864 4.1). */
static inline uint8_t *put_ip4(uint8_t *h, const struct sock *s, uint8_t ttl, uint32_t l4_len)
{
    uint16_t sum;

    h -= IP4_HDR_BYTES;
    put_be32(h, UINT32_C(0x45) << 24 | (uint32_t)sock_tos(s) << 16 | (IP4_HDR_BYTES + l4_len));
    put_be32(h + 4, IP4_DF);
    put_be32(h + 8, (uint32_t)ttl << 24 | IP_PROTO_TCP << 16);
    memcpy(h + 12, s->local.ip, 4);
    memcpy(h + 16, s->remote.ip, 4);
    sum = csum_finish(csum_header4(h));
    memcpy(h + 10, &sum, 2);
    return h;
}

static inline uint8_t *put_ip6(uint8_t *h, const struct sock *s, uint8_t hops, uint32_t l4_len)
{
    h -= IP6_HDR_BYTES;
    ip6_put(h, s->local.ip, s->remote.ip, IP_PROTO_TCP, sock_tos(s), hops, 0, l4_len);
    return h;
}

/* Returns the bytes of the header. */
static inline uint32_t put_tcp(struct engine *e, struct tcp_conn *c, uint8_t *h)
{
    uint64_t window = window_bytes(c), unread = c->s.rx.tail - c->s.rx.head;
    uint32_t hdr = TCP_HDR_BYTES;

    put_be16(h, c->s.lport);
    put_be16(h + 2, c->s.rport);
    put_be32(h + 4, c->snd_nxt);
    put_be32(h + 8, c->rcv_nxt);
    if (c->flags & TF_TS) {
        put_be32(h + 20, (uint32_t)TCP_OPT_NOP << 24 | TCP_OPT_NOP << 16 | TCP_OPT_TS << 8 | 10);
        put_be32(h + 24, tcp_ts_now(e, c->tsoff));
        put_be32(h + 28, c->ts_recent);
        hdr += TS_BYTES;
    }
    put_be16(h + 12, (uint16_t)(hdr / 4 << 12 | TCP_ACK | TCP_PSH));
    put_be32(h + 14, window_select(c, (uint32_t)(window > unread ? window - unread : 0)) << 16);
    put_be16(h + 18, 0);
    return hdr;
}

static inline uint32_t pseudo_sum(const struct sock *s, bool is6, uint32_t l4_len)
{
    return is6 ? csum_pseudo6(s->local.ip, s->remote.ip, IP_PROTO_TCP, l4_len)
               : csum_pseudo4_tcp(s->local.ip, s->remote.ip, l4_len);
}

static inline void put_frame(struct engine *e, struct tcp_conn *c, struct pktbuf *p, uint8_t *h,
                             const uint8_t *data, uint32_t len, const struct netif *i, const struct neigh *n)
{
    bool is6 = c->s.remote.family == SG_AF_INET6;
    uint8_t *start;
    uint32_t hdr = put_tcp(e, c, h), sum = pseudo_sum(&c->s, is6, hdr + len);
    uint8_t ttl = (uint8_t)(c->s.opts >> SO_TTL_SHIFT);
    bool partial = i->c.offloads & ENGINE_TX_CSUM;
    uint16_t field;

    memcpy(h + hdr, data, len);
    if (partial)
        field = csum_fold(sum);
    else
        field = csum_finish(csum_add(sum, csum_partial(h, hdr + len)));
    memcpy(h + 16, &field, 2);
    if (is6)
        start = put_frame_header(put_ip6(h, &c->s,
                                         ttl       ? ttl
                                         : i->hops ? i->hops
                                                   : e->cfg.ttl,
                                         hdr + len),
                                 i, n, ETH_TYPE_IP6);
    else
        start = put_frame_header(put_ip4(h, &c->s, ttl ? ttl : e->cfg.ttl, hdr + len), i, n, ETH_TYPE_IP4);
    hdr += (uint32_t)(h - start);
    *p = (struct pktbuf){.data = start,
                         .len = hdr + len,
                         .total = hdr + len,
                         .flags = partial ? PKT_CSUM_PARTIAL : 0,
                         .csum_start = (uint16_t)(h - start),
                         .csum_offset = 16,
                         .dev = i->c.dev};
}

/* ---- The record --------------------------------------------------------------------------------------- */

/* A flight of one segment: tcp_seg_push(), note_usage(), tally_sent(). */
static inline void put_flight(struct engine *e, struct tcp_conn *c, uint32_t len)
{
    struct tcp_table *t = &e->tcp;
    uint32_t seg = pool_get(&t->seg_pool), i = pool_get(&t->flight_pool);
    uint32_t start = c->snd_nxt, end = start + len;

    t->segs[seg] = (struct tx_seg){.start = start,
                                   .end = end,
                                   .xmit_us = e->now_us,
                                   .next = NIL,
                                   .q_next = NIL,
                                   .q_prev = NIL,
                                   .flags = TXS_PSH};
    t->flights[i] = (struct tx_flight){.conn = tcp_conn_index(e, c),
                                       .rated = true,
                                       .seg_head = seg,
                                       .seg_tail = seg,
                                       .seg_count = 1,
                                       .sent = {seg, seg},
                                       .lost = {NIL, NIL},
                                       .fack = c->snd_una,
                                       .sack_hint = NIL,
                                       .flight_max = c->mss,
                                       .recover = c->snd_una,
                                       .prr_out = len,
                                       .rate_at_us = (uint32_t)e->now_us,
                                       .rate_base = (uint32_t)c->delivered,
                                       .rate_end = end};
    c->flight = i;
    c->snd_nxt = end;
    c->cwnd_full_end = end;
}

/* What send_new() and ack_sent() leave behind. */
static inline void note_sent(struct engine *e, struct tcp_conn *c, uint32_t len)
{
    uint32_t pto;

    c->delack_at_us = 0;
    c->rcv_wup = c->rcv_nxt;
    c->flags &= ~(TF_ACK_NOW | TF_FLUSH);
    if (c->quick_acks && !--c->quick_acks)
        c->ato_us = e->cfg.delack_us;
    if (!(c->s.opts & SO_F_PINGPONG))
        tcp_delack_answered(e, c);
    if (len < c->mss)
        c->snd_sml = c->snd_nxt;
    c->first_unacked_us = c->sent_us = e->now_us;
    pto = rto_probe_delay(e, c, len); /* rto_probe_timeout() of a flight that has just begun */
    c->rto_mode = pto ? RTO_TLP : RTO_REXMIT;
    c->rto_at_us = e->now_us + (pto ? pto : rto_now(e, c));
    if (!tcp_timer_armed(e, c, c->rto_at_us))
        tcp_timer_arm(e, c);
    tally_out(c, len, 1);
    tally_limit_set(e, c, LIMIT_NETWORK);
}

bool tcp_fast_output(struct engine *e, struct tcp_conn *c)
{
    const struct stream *tx = &c->s.tx;
    uint64_t len = tx->tail - tx->head, at = (tx->head - tx->base) & ((UINT64_C(1) << tx->log2) - 1);
    bool is6 = c->s.remote.family == SG_AF_INET6;
    uint32_t hdr = TCP_HDR_BYTES + (c->flags & TF_TS ? TS_BYTES : 0);
    const struct tcp_way *w;
    const struct netif *i;
    struct pktbuf *p;
    struct neigh *n;
    uint8_t *h;

    if (!quiet(e, c) || !windows_allow(e, c, len) || at + len > UINT64_C(1) << tx->log2 ||
        hdr + len > PKT_LINEAR_MAX - PKT_HEADROOM || !e->tcp.seg_pool.free_count ||
        !e->tcp.flight_pool.free_count)
        return false;
    n = neighbour(e, c, &w);
    if (!n)
        return false;
    i = &e->net.t.ifs[w->ifindex];
    if (pktq_room(&e->txq, i->c.dev) <= TCP_TX_RESERVE + 1 ||
        net_hdr_bytes(c->s.remote.family) + hdr + len > (is6 ? i->mtu6 : i->c.mtu))
        return false;

    n->used_us = e->now_us;
    p = pktq_push(&e->txq, i->c.dev, &h);
    put_frame(e, c, p, h, session_region(sock_session(e, c->s.heap_sid), tx->region) + at, (uint32_t)len, i,
              n);
    put_flight(e, c, (uint32_t)len);
    note_sent(e, c, (uint32_t)len);
    stat_inc(&e->stats, ST_TCP_OUT_SEGS);
    stat_inc(&e->stats, is6 ? ST_IP6_OUT_REQUESTS : ST_IP_OUT_REQUESTS);
    return true;
}

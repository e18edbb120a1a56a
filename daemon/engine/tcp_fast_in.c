/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Header prediction (Van Jacobson): the segment that nearly always comes next. It is in order, carries ACK
 * and at most PSH, the options that were agreed and no others, fits the window, and acknowledges either
 * nothing or the one segment that is in flight; nothing was lost, marked, or is being closed.
 *
 * Everything that could lead elsewhere is asked for first, while nothing has changed; what follows is what
 * tcp_conn_input() would do in that case, in its order.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/csum.h"
#include "daemon/engine/seq.h"
#include "daemon/engine/tcp_fast.h"
#include "daemon/engine/tcp_rto.h"
#include "daemon/engine/tcp_window.h"

/* NOP, NOP, timestamp, as all stacks write it (RFC 7323 appendix A), in memory order. */
static const uint8_t ts_start[4] = {TCP_OPT_NOP, TCP_OPT_NOP, TCP_OPT_TS, 10};

#define HDR_PLAIN (TCP_HDR_BYTES / 4 << 4) /* data offset bytes without options, and with timestamps */
#define HDR_TS    ((TCP_HDR_BYTES + 12) / 4 << 4)

/* The connection must have all of these flags, and none of those. */
#define NEEDED    (TF_HASHED | TF_SACK)
#define REFUSED                                                                                              \
    (TF_FIN_QUEUED | TF_FIN_SENT | TF_FIN_ACKED | TF_FIN_RCVD | TF_FIN_EARLY | TF_EMBRYO | TF_ORPHAN |       \
     TF_RX_SHUT | TF_DSACK | TF_TLP | TF_ACK_PUSHED | TF_FASTOPEN | TF_SYN_DATA | TF_SYN_DEFERRED)

/* A segment whose place was found. */
struct arrived {
    struct tcp_conn *c;
    const uint8_t *l4;
    uint32_t l4_len;
};

static inline uint32_t load32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return v;
}

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

/* ---- Which connection ------------------------------------------------------------------------------- */

/* Where the hint for a frame is. Not keyed: who finds two that share a place costs both the long way. */
static inline uint32_t *hint_of(const struct tcp_table *t, uint64_t addrs, const uint8_t *l4)
{
    uint64_t x = addrs ^ (uint64_t)load32(l4) * UINT64_C(0x9fb21c651e98df25);

    return &t->hints[x * UINT64_C(0x9e3779b97f4a7c15) >> t->hint_shift];
}

static inline uint64_t addrs4(const uint8_t *src, const uint8_t *dst)
{
    return (uint64_t)load32(src) << 32 ^ load32(dst);
}

static inline uint64_t addrs6(const uint8_t *src, const uint8_t *dst)
{
    return load64(src) ^ load64(src + 8) ^ load64(dst) ^ load64(dst + 8);
}

static inline bool ports_match(const struct sock *s, const uint8_t *l4)
{
    return get_be16(l4) == s->rport && get_be16(l4 + 2) == s->lport;
}

static inline struct tcp_conn *hinted(struct engine *e, uint64_t addrs, const uint8_t *l4)
{
    uint32_t i = *hint_of(&e->tcp, addrs, l4);

    return i ? &e->tcp.conns[i - 1] : NULL;
}

/* A header without options, of a whole packet, with a good checksum. */
static inline bool header_ok4(const uint8_t *ip)
{
    return ip[0] == 0x45 && ip[9] == IP_PROTO_TCP && !(get_be16(ip + 6) & (IP4_MF | IP4_OFF_MASK));
}

static inline bool find4(struct engine *e, const uint8_t *ip, uint32_t bytes, struct arrived *a)
{
    uint32_t total;

    if (bytes < IP4_HDR_BYTES + TCP_HDR_BYTES || !header_ok4(ip))
        return false;
    total = get_be16(ip + 2);
    if (total > bytes || total < IP4_HDR_BYTES + TCP_HDR_BYTES)
        return false;
    a->l4 = ip + IP4_HDR_BYTES;
    a->l4_len = total - IP4_HDR_BYTES;
    a->c = hinted(e, addrs4(ip + 12, ip + 16), a->l4);
    return a->c && a->c->s.remote.family == SG_AF_INET && load32(a->c->s.remote.ip) == load32(ip + 12) &&
           load32(a->c->s.local.ip) == load32(ip + 16) && ports_match(&a->c->s, a->l4) &&
           csum_fold(csum_header4(ip)) == UINT16_MAX;
}

static inline bool find6(struct engine *e, const uint8_t *ip, uint32_t bytes, struct arrived *a)
{
    const struct sock *s;

    if (bytes < IP6_HDR_BYTES + TCP_HDR_BYTES || ip[0] >> 4 != 6 || ip[IP6_NEXT_OFF] != IP_PROTO_TCP)
        return false;
    a->l4 = ip + IP6_HDR_BYTES;
    a->l4_len = get_be16(ip + 4);
    if (a->l4_len > bytes - IP6_HDR_BYTES || a->l4_len < TCP_HDR_BYTES)
        return false;
    a->c = hinted(e, addrs6(ip + 8, ip + 24), a->l4);
    if (!a->c)
        return false;
    s = &a->c->s;
    return s->remote.family == SG_AF_INET6 && load64(s->remote.ip) == load64(ip + 8) &&
           load64(s->remote.ip + 8) == load64(ip + 16) && load64(s->local.ip) == load64(ip + 24) &&
           load64(s->local.ip + 8) == load64(ip + 32) && ports_match(s, a->l4);
}

void tcp_fast_learn(struct engine *e, const struct tcp_conn *c, const struct rx_pkt *rp)
{
    bool is6 = rp->src.family == SG_AF_INET6;

    if (c->state == TCPS_ESTABLISHED)
        *hint_of(&e->tcp, is6 ? addrs6(rp->src.ip, rp->dst.ip) : addrs4(rp->src.ip, rp->dst.ip), rp->l4) =
            tcp_conn_index(e, c) + 1;
}

/* ---- Is it the expected segment? -------------------------------------------------------------------- */

/* It came in where it should, for us alone. */
static inline bool way_ok(struct engine *e, const struct pktbuf *p, struct tcp_way *w, uint32_t i, bool is6)
{
    const struct netif *n;

    if (w->gen != way_gen(e) && !tcp_way_fill(e, i))
        return false;
    n = &e->net.t.ifs[w->ifindex];
    return n->c.dev == p->dev && load32(p->data) == load32(n->c.mac) &&
           get_be16(p->data + 4) == get_be16(n->c.mac + 4) && (!is6 || n->up6);
}

static inline bool quiet(const struct tcp_conn *c)
{
    return (c->flags & (NEEDED | REFUSED)) == NEEDED && c->state == TCPS_ESTABLISHED &&
           c->ca_state == CA_OPEN && !c->ecn && c->rto_mode != RTO_PERSIST && c->rto_mode != RTO_REORDER &&
           c->reasm == NIL && c->path == NIL && c->o.cc != CC_BBR && c->s.slot;
}

/* Options as agreed, and no older than the last (RFC 7323 5.3 R1). */
static inline bool options_ok(const struct tcp_conn *c, const uint8_t *h, uint32_t l4_len)
{
    if (!(c->flags & TF_TS))
        return h[12] == HDR_PLAIN;
    return h[12] == HDR_TS && l4_len >= TCP_HDR_BYTES + 12 && c->flags & TF_TS_VALID &&
           load32(h + TCP_HDR_BYTES) == load32(ts_start) && (int32_t)(get_be32(h + 24) - c->ts_recent) >= 0;
}

/* Nothing is in flight, and nothing is acknowledged; or one segment is, sent once, and all of it. */
static inline bool ack_ok(struct engine *e, const struct tcp_conn *c, uint32_t ack)
{
    const struct tx_flight *f;
    const struct tx_seg *t;

    if (c->flight == NIL)
        return ack == c->snd_una && ack == c->snd_nxt;
    f = flight_of(e, c);
    if (ack != c->snd_nxt || f->seg_count != 1 || f->undo_cwnd || f->tlp_out)
        return false;
    t = seg_at(e, f->seg_head);
    return !(t->flags & (TXS_MARKS | TXS_FIN | TXS_PROBE | TXS_RESIZE)) && !t->retrans;
}

/* The receive ring has room for it, in one piece. Takes in how far the application has read. */
static inline uint8_t *place_for(const struct session *ss, struct sock *s, uint32_t len, uint64_t *head)
{
    const struct stream *rx = &s->rx;
    uint64_t size = UINT64_C(1) << rx->log2, at;

    *head = sg_load_acquire_u64(&ss->v.slots[s->slot].a.rx_head); /* [S3] */
    if (!rx->region || rx->flags & RING_NEXT || ss->fault || *head - rx->head > rx->tail - rx->head ||
        rx->tail + len - *head > size)
        return NULL;
    at = *head == rx->tail ? 0 : (rx->tail - rx->base) & (size - 1);
    return at + len <= size ? session_region(ss, rx->region) + at : NULL;
}

static bool checksum_good(const struct tcp_conn *c, const uint8_t *l4, uint32_t l4_len)
{
    uint32_t sum = csum_partial(l4, l4_len);

    if (c->s.remote.family == SG_AF_INET6)
        sum = csum_add(sum, csum_pseudo6(c->s.remote.ip, c->s.local.ip, IP_PROTO_TCP, l4_len));
    else
        sum = csum_add(sum, csum_pseudo4(c->s.remote.ip, c->s.local.ip, IP_PROTO_TCP, l4_len));
    return csum_fold(sum) == UINT16_MAX;
}

/* ---- Then this is what it does ------------------------------------------------------------------------ */

static inline void count_in(struct engine *e, struct tcp_conn *c, uint8_t tos, bool is6, uint32_t len)
{
    struct stats *s = &e->stats;

    stat_inc(s, is6 ? ST_IP6_IN_RECEIVES : ST_IP_IN_RECEIVES);
    stat_inc(s, (is6 ? ST_IP6_IN_NO_ECT : ST_IP_IN_NO_ECT) + (tos & IP_ECN_MASK));
    stat_inc(s, is6 ? ST_IP6_IN_DELIVERS : ST_IP_IN_DELIVERS);
    stat_inc(s, ST_TCP_IN_SEGS);
    stat_inc(s, ST_TCP_HP_HITS);
    tally_in(c, len, 0);
}

/* The segment in flight is acknowledged: tcp_recovery_cum(), tcp_una_advance(), tcp_recovery_ack(),
 * after_ack(). */
static inline void all_acked(struct engine *e, struct tcp_conn *c, const struct tcp_way *w)
{
    struct tx_flight *f = flight_mut(e, c);
    const struct tx_seg *t = seg_at(e, f->seg_head);
    uint32_t bytes = seg_len(t);
    uint64_t rtt = e->now_us - t->xmit_us;
    struct neigh *n = &e->neigh.entries[w->neigh];

    rtt = rtt ? rtt : 1;
    c->delivered += bytes;
    pool_put(&e->tcp.seg_pool, f->seg_head);
    if (c->s.tx.tail - c->s.tx.head > UINT64_C(1) << c->s.tx.log2 >> 1)
        tcp_tx_tune(e, c);
    c->snd_una = c->snd_nxt;
    c->s.tx.head += bytes;
    if (c->s.tx.flags & RING_NEXT)
        ring_passed(e, &c->s, &c->s.tx);
    c->first_unacked_us = e->now_us;
    ENG_ASSERT(c->s.tx.head <= c->s.tx.tail);
    if (neigh_has_mac(n)) {
        n->state = NEIGH_REACHABLE;
        n->confirmed_us = e->now_us;
    }
    tally_acked(e, c, f, false);
    if (tcp_window_used(c, f)) {
        struct cc_ack k = {.now_us = e->now_us, .acked = bytes, .rtt_us = (uint32_t)rtt};

        cc_by_id(c->o.cc)->on_ack(c, &k);
    }
    if (seq_ge(c->snd_una, c->cwnd_full_end))
        c->flags &= ~TF_CWND_FULL;
    rto_sample(e, c, rtt);
    c->backoff = 0;
    pool_put(&e->tcp.flight_pool, c->flight);
    c->flight = NIL;
}

static inline void take_text(struct engine *e, struct tcp_conn *c, const uint8_t *h, uint32_t len,
                             uint8_t *place, uint64_t head)
{
    struct stream *rx = &c->s.rx;
    const uint8_t *data = h + (h[12] >> 4) * 4;

    rx->head = head;
    rx->flags &= (uint8_t)~RING_IDLE;
    if (head == rx->tail)
        rx->base = rx->tail;
    memcpy(place, data, len);
    c->rcv_nxt += len;
    rx->tail += len;
    if (tcp_rx_tune_due(c, len)) {
        struct tcp_seg s = {.has_ts = h[12] == HDR_TS};

        s.tsecr = s.has_ts ? get_be32(h + 28) : 0;
        tcp_rx_tune(e, c, &s, len);
    }
    tcp_delack_data(e, c, len);
}

bool tcp_fast_input(struct engine *e, const struct pktbuf *p)
{
    bool is6 = p->len > ETH_HDR_BYTES && get_be16(p->data + 12) == ETH_TYPE_IP6;
    const uint8_t *ip = p->data + ETH_HDR_BYTES, *h;
    uint32_t i, ack, len;
    unsigned dirty;
    struct tcp_way *w;
    struct tcp_conn *c;
    struct arrived a;
    uint8_t *place = NULL;
    uint64_t head = 0;

    if (p->len < ETH_HDR_BYTES || (!is6 && get_be16(p->data + 12) != ETH_TYPE_IP4) || p->gso_size ||
        e->udp.raw_head != NIL ||
        !(is6 ? find6(e, ip, p->len - ETH_HDR_BYTES, &a) : find4(e, ip, p->len - ETH_HDR_BYTES, &a)))
        return false;
    c = a.c;
    h = a.l4;
    i = tcp_conn_index(e, c);
    w = &e->tcp.ways[i];
    ack = get_be32(h + 8);
    if (!quiet(c) || (h[13] & ~TCP_PSH) != TCP_ACK || !options_ok(c, h, a.l4_len) ||
        get_be32(h + 4) != c->rcv_nxt || !way_ok(e, p, w, i, is6) || !ack_ok(e, c, ack))
        return false;
    len = a.l4_len - (uint32_t)(h[12] >> 4) * 4;
    if (len) {
        if ((int32_t)(c->rcv_adv - c->rcv_nxt) < (int32_t)len)
            return false;
        place = place_for(slot_session(e, &c->s), &c->s, len, &head);
        if (!place)
            return false;
    }
    if (!(p->flags & (PKT_CSUM_GOOD | PKT_CSUM_PARTIAL)) && !checksum_good(c, h, a.l4_len))
        return false;

    count_in(e, c, is6 ? (uint8_t)(ip[0] << 4 | ip[1] >> 4) : ip[1], is6, len);
    c->rcvd_us = e->now_us;
    dirty = (c->flight != NIL ? DIRTY_LINE | DIRTY_TX : 0) | (len ? DIRTY_LINE | DIRTY_EVENT : 0);
    if (c->flight != NIL)
        all_acked(e, c, w);
    if (dirty)
        sock_dirty_bits(e, &c->s, dirty);
    window_update(c, c->rcv_nxt, ack, (uint32_t)get_be16(h + 14) << c->snd_wscale);
    c->probes = 0;
    c->rto_mode = RTO_OFF;
    c->rto_at_us = 0;
    if (c->s.tx.tail == c->s.tx.head)
        tally_limit_set(e, c, LIMIT_NONE);
    else
        tcp_output_schedule(e, c);
    if (c->flags & TF_TS && !seq_gt(c->rcv_nxt, c->rcv_wup)) {
        c->ts_recent = get_be32(h + 24);
        c->ts_recent_us = e->now_us;
    }
    if (place)
        take_text(e, c, h, len, place, head);
    if (c->flags & TF_ACK_NOW)
        tcp_output_schedule(e, c);
    return true;
}

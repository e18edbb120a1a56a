/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to send next, and building it (RFC 9293 3.8.6, RFC 1122 4.2.3.4).
 */
#include "daemon/engine/csum.h"
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"
#include "daemon/engine/tcp_fast.h"
#include "daemon/engine/tcp_window.h"

/* Largest TCP payload of a frame: 65,535 bytes of IP packet less headers with all options. */
#define GSO_PAYLOAD_MAX   (65535u - 20u - 60u)
/* Headers of a frame at most: Ethernet with a tag, IPv6, TCP. */
#define GSO_HDR_BYTES_MAX (18u + 40u + 60u)

/* Connections wait in a list for each device, so that one which takes nothing holds up its own only. */
static struct tcp_tx_list *tx_list_of(struct engine *e, const struct tcp_conn *c)
{
    uint8_t dev = net_dev(e, &c->s.remote);

    return &e->tcp.tx[dev == PKTQ_NO_DEV ? ENGINE_DEV_MAX : dev];
}

/* Frames that this connection may still queue. */
static uint32_t tx_room(const struct engine *e, const struct tcp_conn *c)
{
    return pktq_room(&e->txq, net_dev(e, &c->s.remote));
}

void tcp_output_schedule(struct engine *e, struct tcp_conn *c)
{
    uint32_t i = tcp_conn_index(e, c);
    struct tcp_tx_list *l;

    if (c->flags & TF_TX_LIST || c->state == TCPS_CLOSED)
        return;
    l = tx_list_of(e, c);
    c->flags |= TF_TX_LIST;
    c->tx_next = NIL;
    c->tx_prev = l->tail;
    if (l->tail != NIL)
        e->tcp.conns[l->tail].tx_next = i;
    else
        l->head = i;
    l->tail = i;
}

void tcp_ack_now(struct engine *e, struct tcp_conn *c)
{
    c->flags |= TF_ACK_NOW;
    tcp_output_schedule(e, c);
}

/* ---- The window we advertise -------------------------------------------------------------------- */

uint32_t tcp_window_select(struct engine *e, struct tcp_conn *c)
{
    return window_select(c, tcp_rx_room(e, c));
}

void tcp_window_check(struct engine *e, struct tcp_conn *c)
{
    uint64_t notify = window_notify(e, c);

    if (notify == UINT64_MAX || c->s.rx.head < notify || c->flags & TF_ORPHAN)
        return;
    /* Data that arrived and was not acknowledged yet carries the update soon enough, unless the window is
     * about to close. */
    if (tcp_rx_room(e, c) > c->rcv_adv - c->rcv_nxt)
        tcp_ack_now(e, c);
}

/* ---- Building ------------------------------------------------------------------------------------- */

/* TF_ECE lies so that a shift makes the header's flag of it. */
#define TF_ECE_SHIFT 20u
static_assert(TF_ECE >> TF_ECE_SHIFT == TCP_ECE, "TF_ECE is the flag of the header");

struct out_seg {
    uint32_t seq;
    uint32_t len; /* payload */
    uint8_t flags;
    uint8_t ecn; /* codepoint of the IP header */
    bool again;
    bool whole; /* one packet, whatever the MSS */
};

static uint32_t put_ts(const struct engine *e, const struct tcp_conn *c, uint8_t *o)
{
    o[0] = o[1] = TCP_OPT_NOP;
    o[2] = TCP_OPT_TS;
    o[3] = 10;
    put_be32(o + 4, tcp_ts_now(e, c->tsoff));
    put_be32(o + 8, c->ts_recent);
    return 12;
}

static uint32_t put_sack(struct engine *e, struct tcp_conn *c, uint8_t *o, uint32_t room)
{
    struct tcp_sack_block b[TCP_SACK_MAX];
    unsigned max = room < 12 ? 0 : (room - 4) / 8;
    unsigned n;

    if (!(c->flags & TF_SACK) || c->reasm == NIL || !max)
        return 0;
    n = tcp_reass_sacks(e, c, b, max < TCP_SACK_MAX ? max : TCP_SACK_MAX);
    tcp_reass_reported(e, c);
    if (!n)
        return 0;
    o[0] = o[1] = TCP_OPT_NOP;
    o[2] = TCP_OPT_SACK;
    o[3] = (uint8_t)(2 + 8 * n);
    for (unsigned i = 0; i < n; i++) {
        put_be32(o + 4 + 8 * i, b[i].start);
        put_be32(o + 8 + 8 * i, b[i].end);
    }
    return 4 + 8 * n;
}

/* Payload: copied when it fits the frame's own memory, else gathered from the send ring. True: it was added
 * up in `sum` in passing, for devices that don't. */
static bool put_payload(struct engine *e, struct tcp_conn *c, struct pktbuf *p, uint32_t hdr, uint32_t seq,
                        uint32_t len, uint32_t *sum)
{
    struct ring_piece piece[RING_PIECES_MAX];
    unsigned n = ring_pieces(e, &c->s, &c->s.tx, c->s.tx.head + (seq - c->snd_una), len, piece);
    bool copy = hdr + len <= PKT_LINEAR_MAX - PKT_HEADROOM;
    bool add = copy && e->net.csum_by_hand;

    static_assert(RING_PIECES_MAX <= PKT_FRAGS_MAX, "any run of a ring fits a frame");
    p->len = hdr;
    p->total = hdr + len;
    *sum = 0;
    for (unsigned i = 0; i < n; i++) {
        if (add) {
            *sum = csum_join(*sum, csum_copy(p->data + p->len, piece[i].ptr, piece[i].len), p->len - hdr);
            p->len += piece[i].len;
        } else if (copy) {
            memcpy(p->data + p->len, piece[i].ptr, piece[i].len);
            p->len += piece[i].len;
        } else {
            p->frag[p->frag_count++] = (struct pkt_frag){piece[i].ptr, piece[i].len};
        }
    }
    return add;
}

static void ack_sent(const struct engine *e, struct tcp_conn *c)
{
    c->delack_at_us = 0;
    c->rcv_wup = c->rcv_nxt;
    c->flags &= ~TF_ACK_NOW;
    if (c->quick_acks && !--c->quick_acks)
        c->ato_us = e->cfg.delack_us;
}

/* Send one segment. False: no free frame; nothing has changed then. */
static bool emit(struct engine *e, struct tcp_conn *c, const struct out_seg *o)
{
    struct pktbuf *p = tx_room(e, c) ? pktq_get(&e->txq) : NULL;
    uint32_t hdr = TCP_HDR_BYTES;
    bool cut = o->len > c->mss && !o->whole;
    uint32_t opt_room, segs, sum;
    bool summed = false;
    uint8_t *h;

    if (!p)
        return false;
    h = p->data;
    if (c->flags & TF_TS)
        hdr += put_ts(e, c, h + hdr);
    /* SACK blocks ride on data only where the segment stays within the MSS. */
    opt_room = TCP_HDR_BYTES + TCP_OPT_BYTES_MAX - hdr;
    if (o->len && o->len <= c->mss && (uint32_t)c->mss - o->len < opt_room)
        opt_room = c->mss - o->len;
    if (o->len <= c->mss)
        hdr += put_sack(e, c, h + hdr, opt_room);
    put_be16(h, c->s.lport);
    put_be16(h + 2, c->s.rport);
    put_be32(h + 4, o->seq);
    put_be32(h + 8, c->rcv_nxt);
    h[12] = (uint8_t)(hdr / 4 << 4);
    h[13] = (uint8_t)(o->flags | (cut ? TCP_PSH : 0) | (c->flags & TF_ECE) >> TF_ECE_SHIFT);
    put_be16(h + 14, (uint16_t)tcp_window_select(e, c));
    put_be32(h + 16, 0);
    if (o->len)
        summed = put_payload(e, c, p, hdr, o->seq, o->len, &sum);
    else
        p->len = p->total = hdr;
    if (cut) {
        p->gso_type = PKT_GSO_TCP4;
        p->gso_size = c->mss;
    }
    segs = cut ? tally_segs(o->len, c->mss) : 1;
    tally_out(c, o->len, segs);
    if (!o->again) /* RFC 4022: tcpOutSegs is without these. */
        stat_add(&e->stats, ST_TCP_OUT_SEGS, segs);
    ack_sent(e, c);
    if (summed)
        net_checksum_known(e, p, &c->s.local, &c->s.remote, 6, 16, hdr, sum);
    else
        net_checksum(e, p, &c->s.local, &c->s.remote, 6, 16, false);
    /* A frame that gets no further is a lost segment: the retransmission timer deals with it. */
    (void)net_output(e, p, &c->s.local, &c->s.remote, 6, sock_tos(&c->s) | o->ecn, sock_ttl(e, &c->s),
                     mtu_disc_segment(&c->s), e->now_us);
    return true;
}

void tcp_tx_copy(struct engine *e, struct tcp_conn *c, uint32_t off, uint8_t *dst, uint32_t len)
{
    struct ring_piece piece[RING_PIECES_MAX];
    unsigned n = ring_pieces(e, &c->s, &c->s.tx, c->s.tx.head + off, len, piece);

    for (unsigned i = 0; i < n; i++) {
        memcpy(dst, piece[i].ptr, piece[i].len);
        dst += piece[i].len;
    }
}

void tcp_send_syn(struct engine *e, struct tcp_conn *c)
{
    uint8_t cookie[TCP_FASTOPEN_COOKIE];
    struct flow_key k = tcp_conn_key(c);
    uint32_t room = tcp_rx_room(e, c); /* data may have come on the SYN */
    uint16_t wnd = room > UINT16_MAX ? UINT16_MAX : (uint16_t)room;
    struct tcp_reply r = {
        .key = &k,
        .seq = c->iss,
        .wnd = wnd,
        .flags = TCP_SYN,
        .mss = tcp_adv_mss(e, &c->s.remote),
        .wscale = c->flags & TF_WSCALE ? c->rcv_wscale : -1,
        .sack_perm = c->flags & TF_SACK,
        .has_ts = c->flags & TF_TS,
        .tsval = tcp_ts_now(e, c->tsoff),
        .tsecr = c->ts_recent,
        .tos = sock_tos(&c->s),
        .ttl = sock_ttl(e, &c->s),
        .cut = mtu_disc_segment(&c->s),
    };

    if (c->o.user_mss && c->o.user_mss < r.mss)
        r.mss = c->o.user_mss;
    if (c->state == TCPS_SYN_RCVD) {
        r.flags |= TCP_ACK | (c->ecn & ECN_SEND ? TCP_ECE : 0);
        r.ack = c->rcv_nxt;
        if (seq_gt(c->rcv_nxt + wnd, c->rcv_adv))
            c->rcv_adv = c->rcv_nxt + wnd;
        if (c->flags & TF_FASTOPEN_OPT && c->flags & TF_FASTOPEN) {
            tcp_fastopen_cookie(e, c->listener == NIL ? NULL : &e->tcp.listeners[c->listener], &k, cookie);
            r.has_fo = true;
            r.fo = cookie;
            r.fo_len = sizeof(cookie);
        }
    } else {
        r.flags |= c->ecn & ECN_SEND ? TCP_ECE | TCP_CWR : 0;
        tcp_fastopen_option(e, c, &r);
    }
    tally_out(c, r.len, 1);
    c->sent_us = e->now_us;
    (void)tcp_reply_send(e, &r);
}

void tcp_send_rst(struct engine *e, struct tcp_conn *c)
{
    struct flow_key k = tcp_conn_key(c);
    struct tcp_reply r = {
        .key = &k,
        .seq = c->snd_nxt,
        .ack = c->rcv_nxt,
        .flags = TCP_RST | TCP_ACK,
        .wscale = -1,
        .has_ts = c->flags & TF_TS, /* RFC 7323 3.2: SHOULD */
        .tsval = tcp_ts_now(e, c->tsoff),
        .tsecr = c->ts_recent,
        .tos = sock_tos(&c->s),
        .ttl = sock_ttl(e, &c->s),
        .cut = mtu_disc_segment(&c->s),
    };

    (void)tcp_reply_send(e, &r);
}

/* An old sequence number makes any TCP answer with an ACK (RFC 9293 3.8.4, RFC 1122 4.2.3.6). */
void tcp_send_probe(struct engine *e, struct tcp_conn *c)
{
    struct out_seg o = {.seq = c->snd_una - 1, .flags = TCP_ACK};

    (void)emit(e, c, &o); /* No frame: the timer comes again. */
}

/* ---- Deciding ------------------------------------------------------------------------------------- */

/* Most payload that the device takes in one frame. */
static uint32_t gso_device_max(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t frame_max = net_gso_frame_max(e, &c->s.remote), max = GSO_PAYLOAD_MAX;

    if (!frame_max)
        return c->mss;
    if (frame_max < max + GSO_HDR_BYTES_MAX)
        max = frame_max > c->mss + GSO_HDR_BYTES_MAX ? frame_max - GSO_HDR_BYTES_MAX : c->mss;
    max -= max % c->mss;
    return max > c->mss ? max : c->mss;
}

/* As much of that as should go at once now. */
static uint32_t gso_bytes_max(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t max = gso_device_max(e, c);

    if (max > c->cwnd / 2) /* so that the first half's ACKs release data while the second is on its way */
        max = c->cwnd / 2;
    if (has_path(c) && max > pace_quantum(e, c))
        max = pace_quantum(e, c);
    max -= max % c->mss;
    return max > c->mss ? max : c->mss;
}

static uint32_t usable_window(const struct tcp_conn *c)
{
    uint32_t edge = c->snd_una + c->snd_wnd;

    return seq_gt(edge, c->snd_nxt) ? edge - c->snd_nxt : 0;
}

static uint32_t cwnd_room(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t pipe = tcp_pipe(e, c);

    return c->cwnd > pipe ? c->cwnd - pipe : 0;
}

/* May a segment below the MSS go out? Nagle as Minshall has it, and SWS avoidance (RFC 9293 3.8.6.2.1). */
static bool small_ok(const struct tcp_conn *c, uint32_t len, uint64_t avail)
{
    if (c->flags & TF_OVERRIDE || (len == avail && c->flags & TF_FIN_QUEUED))
        return true;
    if (c->snd_wnd_max && len >= c->snd_wnd_max / 2 && len < avail)
        return true;
    if (len < avail)
        return false;
    if (c->flags & TF_FLUSH)
        return true;
    if (c->s.opts & SO_F_CORK || c->flags & TF_MORE)
        return false;
    if (c->s.opts & SO_F_NODELAY)
        return true;
    return seq_le(c->snd_sml, c->snd_una);
}

/* Length of the next new segment, 0: nothing may go; *fin: with FIN. */
static uint32_t next_len(struct engine *e, struct tcp_conn *c, bool *fin)
{
    uint64_t avail = tcp_unsent(c);
    uint32_t wnd = usable_window(c);
    uint32_t room = cwnd_room(e, c);
    uint32_t max = gso_bytes_max(e, c);
    uint32_t len = avail < max ? (uint32_t)avail : max;

    *fin = false;
    if (len > room) {
        len = room;
        c->flags |= TF_CWND_FULL;
        c->cwnd_full_end = c->snd_nxt;
    }
    if (len > wnd)
        len = wnd;
    if (len >= c->mss) {
        uint32_t rest = len % c->mss;

        /* Whole segments first; the small rest is judged alone the next time round. */
        len -= rest;
    } else if (len && !small_ok(c, len, avail)) {
        len = 0;
    }
    if ((c->flags & TF_FIN_QUEUED) && c->state >= TCPS_ESTABLISHED && len == avail && len < wnd &&
        (len || avail == 0))
        *fin = true;
    return len;
}

/* Bytes in flight if each segment were a full one. */
static uint32_t in_flight_max(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t full = flight_of(e, c)->seg_count * c->mss;

    return full > tcp_flight(c) ? full : tcp_flight(c);
}

/* Something went out: is the window used up, or else how far? In segments, or small ones would leave the
 * window at the one MSS of a time-out. What is noted holds until snd_nxt of now is acknowledged. */
static void note_usage(struct engine *e, struct tcp_conn *c)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t flight = in_flight_max(e, c);
    bool full = tcp_pipe(e, c) >= c->cwnd;

    if (!full && flight <= f->flight_max && seq_lt(c->snd_una, c->cwnd_full_end))
        return;
    if (full)
        c->flags |= TF_CWND_FULL;
    f->flight_max = flight;
    c->cwnd_full_end = c->snd_nxt;
}

/* `probe`: of the path MTU. */
static bool send_new(struct engine *e, struct tcp_conn *c, uint32_t len, bool fin, bool probe)
{
    struct out_seg o = {.seq = c->snd_nxt, .len = len, .flags = TCP_ACK, .whole = probe};
    uint16_t marks = (uint16_t)((fin ? TXS_FIN : 0) | (probe ? TXS_PROBE : 0));
    uint32_t end = o.seq + len + fin;
    bool idle = tcp_flight(c) == 0;

    /* RFC 9293 3.9.1.2; what MSG_MORE continues isn't pushed, unless it goes out alone (as in Linux). */
    if (len && len == tcp_unsent(c) && (c->flags & (TF_MORE | TF_OVERRIDE)) != TF_MORE)
        o.flags |= TCP_PSH;
    if (fin)
        o.flags |= TCP_FIN;
    if (len && c->ecn & ECN_SEND) {
        o.ecn = IP_ECN_ECT0;
        if (c->ecn & ECN_CWR)
            o.flags |= TCP_CWR; /* of a frame that the device cuts, the first segment keeps it */
    }
    /* emit() pushes what the device has to split, as Linux does; the mark stays for when it is sent again. */
    if (o.flags & TCP_PSH || (len > c->mss && !probe))
        marks |= TXS_PSH;
    if (!tcp_seg_push(e, c, o.seq, end, marks))
        return false;
    c->snd_nxt = end;
    note_usage(e, c);
    c->flags &= ~(TF_OVERRIDE | TF_FLUSH);
    if (len)
        c->ecn &= ~ECN_CWR & 15u;
    if (fin)
        c->flags |= TF_FIN_SENT;
    if (!emit(e, c, &o))
        ENG_ASSERT(false); /* The caller made sure of a frame. */
    if (len)
        tcp_delack_answered(e, c);
    if (has_path(c)) {
        rate_sent(e, c, flight_of(e, c)->seg_tail);
        pace_sent(e, c, len);
    }
    if (len && len < c->mss)
        c->snd_sml = end;
    if (idle)
        c->first_unacked_us = e->now_us;
    c->sent_us = e->now_us;
    flight_mut(e, c)->prr_out += end - o.seq;
    tally_sent(e, c, flight_mut(e, c), end);
    if (idle || c->rto_mode == RTO_OFF || c->rto_mode == RTO_PERSIST)
        tcp_rto_restart(e, c);
    else
        tcp_probe_restart(e, c);
    return true;
}

/* RFC 4821 7.4: a probe of the path MTU, if one is due and its loss will be seen. True: hold back, until the
 * congestion window has room for it. */
static bool send_mtu_probe(struct engine *e, struct tcp_conn *c)
{
    uint32_t size = tcp_probe_size(e, c);
    uint32_t need = size + TCP_PROBE_FOLLOW * c->mss;

    if (!size || tcp_unsent(c) < need || usable_window(c) < need || c->cwnd < need)
        return false;
    if (cwnd_room(e, c) < size) {
        c->flags |= TF_CWND_FULL;
        c->cwnd_full_end = c->snd_nxt;
        return true;
    }
    if (send_new(e, c, size, false, true))
        tcp_probe_sent(e, c, size);
    return false;
}

/* Send the segment again, as much of it as `limit` allows (at least one MSS). */
static bool resend(struct engine *e, struct tcp_conn *c, uint32_t seg, uint32_t limit)
{
    struct tx_seg *t = &e->tcp.segs[seg];
    struct out_seg o = {.seq = t->start, .flags = TCP_ACK, .again = true};
    uint32_t max = gso_bytes_max(e, c);
    uint32_t len = t->end - t->start;
    bool part = false;

    if (t->flags & TXS_PROBE)
        tcp_probe_resent(e, c, t);
    if (max > limit)
        max = limit > c->mss ? limit - limit % c->mss : c->mss;
    if (len > max + !!(t->flags & TXS_FIN)) {
        if (tcp_seg_split(e, c, seg, t->start + max))
            len = t->end - t->start;
        else
            part = len > gso_device_max(e, c) + !!(t->flags & TXS_FIN);
    }
    /* Without a record for the rest the whole goes out again, or, where the device doesn't take that, its
     * beginning: the rest counts as on its way until it is found lost. */
    if (part)
        len = max;
    t->flags &= (uint16_t)~TXS_RESIZE;
    o.len = len - (!part && t->flags & TXS_FIN);
    if (!part && t->flags & TXS_FIN)
        o.flags |= TCP_FIN;
    if (!part && t->flags & TXS_PSH)
        o.flags |= TCP_PSH;
    if (!emit(e, c, &o))
        return false;
    tcp_seg_resent(e, c, seg);
    if (has_path(c))
        pace_sent(e, c, len);
    flight_mut(e, c)->prr_out += len;
    /* The head has a whole time-out from its last transmission, as in Linux. */
    if (c->rto_mode == RTO_OFF || (seg == flight_of(e, c)->seg_head && c->rto_mode == RTO_REXMIT))
        tcp_rto_restart(e, c);
    return true;
}

/* RFC 8985 7.3: new data if the window allows, else the last segment again. */
static bool send_loss_probe(struct engine *e, struct tcp_conn *c)
{
    uint64_t avail = tcp_unsent(c);
    uint32_t wnd = usable_window(c);
    bool again = !avail || !wnd;

    c->flags &= ~TF_TLP;
    if (!tcp_flight(c) || c->ca_state > CA_CWR)
        return true;
    if (!again) {
        uint32_t len = avail < c->mss ? (uint32_t)avail : c->mss;

        if (!send_new(e, c, len < wnd ? len : wnd, false, false))
            return true;
    } else {
        uint32_t seg = flight_of(e, c)->seg_tail;
        uint32_t len = e->tcp.segs[seg].end - e->tcp.segs[seg].start;

        if (e->tcp.segs[seg].flags & TXS_SACKED)
            return true;
        if (len > c->mss && tcp_seg_split(e, c, seg, e->tcp.segs[seg].end - c->mss))
            seg = flight_of(e, c)->seg_tail;
        if (!resend(e, c, seg, c->mss))
            return true;
    }
    flight_mut(e, c)->tlp_out = true;
    flight_mut(e, c)->tlp_again = again;
    flight_mut(e, c)->tlp_end = c->snd_nxt;
    stat_inc(&e->stats, ST_TCP_LOSS_PROBES);
    tcp_rto_restart(e, c);
    return true;
}

/* What keeps the connection from sending more, now that it has sent what it may. */
static enum tcp_limit limit_of(const struct engine *e, const struct tcp_conn *c)
{
    const struct stream *tx = &c->s.tx;
    uint64_t unsent = tcp_unsent(c);
    uint32_t next = unsent < c->mss ? (uint32_t)unsent : c->mss;

    if (!unsent)
        return (tx->tail - tx->head) >> tx->log2 ? LIMIT_SNDBUF : LIMIT_NETWORK;
    return usable_window(c) < next && cwnd_room(e, c) >= next ? LIMIT_RWND : LIMIT_NETWORK;
}

/* Data waits and nothing is in flight: the peer's window is to be probed (RFC 9293 3.8.6.1), or a small
 * segment that is held back (by SWS avoidance or TCP_CORK) goes out when it has waited long enough. */
static void check_persist(struct engine *e, struct tcp_conn *c)
{
    bool waiting = tcp_unsent(c) || (c->flags & (TF_FIN_QUEUED | TF_FIN_SENT)) == TF_FIN_QUEUED;

    if (!waiting || tcp_flight(c) || c->rto_mode != RTO_OFF)
        return;
    c->rto_mode = RTO_PERSIST;
    c->rto_at_us = e->now_us + tcp_rto_now(e, c);
    tcp_timer_arm(e, c);
}

/* What is to be sent again now. RFC 5682 2.1 step 2.b: first the ACKs of new data must say whether anything
 * was lost. */
static uint32_t next_lost(const struct engine *e, const struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);

    return f->frto == FRTO_NEW ? NIL : tcp_seg_next_lost(f);
}

/* There was no new data to send: no ACK will tell, so what counts as lost is sent again. */
static bool frto_gives_up(struct engine *e, struct tcp_conn *c)
{
    const struct tx_flight *f = flight_of(e, c);

    if (f->frto != FRTO_NEW || seq_gt(c->snd_nxt, f->recover))
        return false;
    flight_mut(e, c)->frto = FRTO_OFF;
    return true;
}

bool tcp_ack_send(struct engine *e, struct tcp_conn *c)
{
    struct out_seg o = {.seq = c->snd_nxt, .flags = TCP_ACK};

    if (tx_room(e, c) <= TCP_TX_RESERVE)
        return false;
    stat_inc(&e->stats, ST_TCP_PURE_ACKS);
    (void)emit(e, c, &o);
    return true;
}

bool tcp_output(struct engine *e, struct tcp_conn *c)
{
    const struct cc_ops *cc = cc_by_id(c->o.cc);
    bool fin, paced = false;
    uint32_t sent = 0;
    uint64_t queued;

    if (c->state == TCPS_CLOSED)
        return true;
    if (c->state < TCPS_ESTABLISHED && !tcp_fastopen_pending(c)) {
        struct out_seg o = {.seq = c->snd_nxt, .flags = TCP_ACK};

        if (!(c->flags & TF_ACK_NOW) || c->state == TCPS_SYN_SENT)
            return true;
        return emit(e, c, &o);
    }
    if (c->pmtu_changes != e->pmtu.changes)
        tcp_pmtu_sync(e, c);
    if (e->cfg.cut_through && c->s.tx.tail != c->s.tx.head && ip_addr_eq(&c->s.local, &c->s.remote) &&
        tcp_local_output(e, c))
        return false;
    cc_restart_after_idle(e, c);
    if (c->flags & TF_TLP && tx_room(e, c) > TCP_TX_RESERVE)
        (void)send_loss_probe(e, c);
    for (;;) {
        uint32_t seg = next_lost(e, c);
        uint32_t room = cwnd_room(e, c);
        uint32_t len;

        if (tx_room(e, c) <= TCP_TX_RESERVE || sent >= TCP_TX_SHARE_BYTES)
            return false;
        paced = has_path(c) && !pace_ok(e, c);
        if (paced)
            break;
        if (seg != NIL) {
            if (room < c->mss && tcp_pipe(e, c) > 0)
                break;
            len = e->tcp.segs[seg].end - e->tcp.segs[seg].start;
            if (!resend(e, c, seg, room))
                return false;
            sent += len;
            continue;
        }
        if (c->flags & TF_FIN_SENT) {
            if (frto_gives_up(e, c))
                continue;
            break;
        }
        if (cc->on_send)
            cc->on_send(e, c);
        if (e->pmtu.searching && send_mtu_probe(e, c))
            break;
        len = next_len(e, c, &fin);
        if (!len && !fin) {
            if (frto_gives_up(e, c))
                continue;
            if (has_path(c) && !tcp_unsent(c))
                rate_app_limited(e, c);
            break;
        }
        if (!send_new(e, c, len, fin, false))
            break;
        sent += len + fin;
    }
    if (has_path(c) && !paced)
        pace_rest(path_of(e, c));
    if (c->flags & TF_ACK_NOW && !tcp_ack_send(e, c))
        return false;
    check_persist(e, c);
    queued = c->s.tx.tail - c->s.tx.head;
    if (queued > tcp_flight(c) || queued >> c->s.tx.log2)
        tally_limit_set(e, c, limit_of(e, c));
    else if (queued)
        tally_limit_set(e, c, LIMIT_NETWORK);
    return true;
}

/* Each connection on the list now has one turn; those with more to send go to the end. */
static void run_list(struct engine *e, struct tcp_tx_list *l, uint8_t dev)
{
    uint32_t last = l->tail;

    while (l->head != NIL) {
        uint32_t i = l->head;
        struct tcp_conn *c = &e->tcp.conns[i];
        bool done;

        if (pktq_room(&e->txq, dev) <= TCP_TX_RESERVE)
            return;
        l->head = c->tx_next;
        if (c->tx_next != NIL)
            e->tcp.conns[c->tx_next].tx_prev = NIL;
        else
            l->tail = NIL;
        c->tx_next = c->tx_prev = NIL;
        c->flags &= ~TF_TX_LIST;
        done = (e->cfg.fast_path && tcp_fast_output(e, c)) || tcp_output(e, c);
        if (!done)
            tcp_output_schedule(e, c);
        if (i == last)
            return;
    }
}

void tcp_output_run(struct engine *e)
{
    for (uint8_t d = 0; d < e->txq.devices; d++)
        run_list(e, &e->tcp.tx[d], d);
    run_list(e, &e->tcp.tx[ENGINE_DEV_MAX], PKTQ_NO_DEV);
}

bool tcp_output_pending(const struct engine *e)
{
    bool any = e->tcp.tx[ENGINE_DEV_MAX].head != NIL;

    for (uint32_t d = 0; d < e->txq.devices; d++)
        any |= e->tcp.tx[d].head != NIL;
    return any;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cut-through (docs/decisions/cut-through.md): both ends of a connection are here, so what one has queued
 * is copied from its send ring into the receive ring of the other, and both move on as if a segment had
 * carried it and another acknowledged it. Opening, closing, resets and window updates remain segments
 * through the loop queue, and so does the data whenever the ends are not of one mind, so nothing else
 * knows of this.
 */
#include "daemon/engine/engine_int.h"

static struct tcp_conn *other_end(struct engine *e, const struct tcp_conn *c)
{
    struct flow_key k = {
        .local = c->s.remote, .remote = c->s.local, .lport = c->s.rport, .rport = c->s.lport};
    sock_id id = flow_find(e, &k, flow_hash(&e->flows, &k));

    return SOCK_KIND(id) == SK_TCP ? &e->tcp.conns[SOCK_INDEX(id)] : NULL;
}

/* No segment is under way, both count the same, and somebody will read: else segments sort it out. */
static bool of_one_mind(const struct tcp_conn *c, const struct tcp_conn *d)
{
    return c->snd_una == c->snd_nxt && d->rcv_nxt == c->snd_nxt && d->reasm == NIL &&
           (d->state == TCPS_ESTABLISHED || d->state == TCPS_FIN_WAIT_1 || d->state == TCPS_FIN_WAIT_2) &&
           !(d->flags & (TF_ORPHAN | TF_RX_SHUT | TF_FIN_RCVD | TF_FASTOPEN));
}

/* Copies `len` bytes at most; returns how many the receiver had memory for. */
static uint32_t pass(struct engine *e, struct tcp_conn *c, struct tcp_conn *d, uint32_t len)
{
    struct ring_piece piece[RING_PIECES_MAX];
    unsigned n = ring_pieces(e, &c->s, &c->s.tx, c->s.tx.head, len, piece);
    uint32_t start = d->rcv_nxt;

    for (unsigned i = 0; i < n; i++) {
        uint32_t at = d->rcv_nxt;

        tcp_reass_add(e, d, at, piece[i].ptr, piece[i].len);
        if (d->rcv_nxt - at < piece[i].len)
            break;
    }
    return d->rcv_nxt - start;
}

/* As after a segment of `len` bytes, and an ACK of it. */
static void account(struct engine *e, struct tcp_conn *c, struct tcp_conn *d, uint32_t len)
{
    tally_out(c, len, 1);
    tally_in(d, len, 0);
    stat_inc(&e->stats, ST_TCP_CUT_THROUGH);
    stat_add(&e->stats, ST_TCP_CUT_THROUGH_BYTES, len);
    tcp_flight_free(e, c); /* what lingers of a flight before */
    c->delivered += len;
    c->snd_nxt += len;
    c->snd_sml = c->cwnd_full_end = c->snd_nxt;
    c->sent_us = c->rcvd_us = d->rcvd_us = e->now_us;
    c->backoff = 0;
    if (c->rto_mode == RTO_PERSIST) {
        c->rto_mode = RTO_OFF;
        c->rto_at_us = 0;
    }
    d->rcv_wup = d->rcv_nxt;
    tcp_una_advance(e, c, c->snd_nxt);
}

bool tcp_local_output(struct engine *e, struct tcp_conn *c)
{
    struct tcp_conn *d = other_end(e, c);
    uint64_t unsent = c->s.tx.tail - c->s.tx.head;
    uint32_t room, len, passed;

    if (!d || d == c || !of_one_mind(c, d))
        return false;
    sock_pull_rx(e, &d->s);
    (void)tcp_window_select(e, d);
    room = d->rcv_adv - d->rcv_nxt;
    if (room > c->snd_wnd_max)
        c->snd_wnd_max = room;
    len = unsent < room ? (uint32_t)unsent : room;
    if (len > TCP_TX_SHARE_BYTES)
        len = TCP_TX_SHARE_BYTES;
    passed = len ? pass(e, c, d, len) : 0;
    if (passed)
        account(e, c, d, passed);
    c->snd_wnd = d->rcv_adv - d->rcv_nxt;
    return passed == TCP_TX_SHARE_BYTES;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP Fast Open, the server's side (RFC 7413 4.2): a SYN with a good cookie makes a connection at once, whose
 * data the application may read, and answer, before the handshake is complete.
 *
 * The connection is in SYN_RCVD with TF_FASTOPEN until the peer's ACK; snd_una is already past the SYN, and
 * the retransmission timer is the SYN-ACK's. Cookies are tcp_fastopen_key.c's. In closed networks a server
 * may do without them (TCP_FASTOPEN_NO_COOKIE): then anybody can have it make connections by SYNs alone.
 */
#include "daemon/engine/engine_int.h"

/* RFC 7413 5.1: a pending request that was reset counts as long as its SYN-ACKs would have gone on. */
#define RESET_PERIOD_US 60000000u

/* Those that were reset lately: in this period and the one before. */
static void rotate_resets(struct tcp_listener *l, uint64_t now_us)
{
    uint64_t period = now_us / RESET_PERIOD_US;

    if (period == l->fo_period)
        return;
    l->fo_reset[1] = period == l->fo_period + 1 ? l->fo_reset[0] : 0;
    l->fo_reset[0] = 0;
    l->fo_period = period;
}

static bool queue_full(struct engine *e, struct tcp_listener *l)
{
    rotate_resets(l, e->now_us);
    return l->fo_pending + l->fo_reset[0] + l->fo_reset[1] >= l->inherit.fastopen;
}

/* The data on the SYN, as far as the window that the SYN-ACK will offer. */
static void take_data(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t wnd = c->rcv_adv - c->rcv_nxt;
    uint32_t len = s->len < wnd ? s->len : wnd;

    if (len) {
        tcp_reass_add(e, c, c->rcv_nxt, s->data, len);
        tcp_rare_of(e, c)->syn_data = true;
    }
    c->rcv_wup = c->rcv_nxt;
}

static void start_child(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    c->flags |= TF_FASTOPEN;
    c->snd_una = c->snd_nxt;
    c->snd_wnd = c->snd_wnd_max = s->wnd;
    c->snd_wl1 = s->seq;
    c->snd_wl2 = c->snd_una;
    tcp_conn_start(e, c, e->now_us);
    take_data(e, c, s);
    c->first_unacked_us = e->now_us;
    tcp_send_syn(e, c);
    tcp_rto_restart(e, c);
}

static bool needs_cookie(const struct engine *e, const struct tcp_listener *l)
{
    return !(l->s.opts & SO_F_NO_COOKIE) && !(e->cfg.fastopen_no_cookie & ENGINE_FO_NO_COOKIE_SERVER);
}

bool tcp_fastopen_syn(struct engine *e, struct tcp_listener *l, struct tcp_req *r, const struct tcp_seg *s)
{
    enum fastopen_cookie state = FO_COOKIE_GOOD;
    bool needs = needs_cookie(e, l);
    struct tcp_conn *c;

    if (!l->inherit.fastopen || (!s->has_fo && (needs || !s->len)))
        return false;
    if (s->has_fo && !s->fo_len) /* 4.1.1: a request for a cookie */
        stat_inc(&e->stats, ST_TCP_FASTOPEN_COOKIE_REQD);
    if (needs && !s->fo_len) {
        r->flags |= REQ_FASTOPEN;
        return false;
    }
    if (needs)
        state = tcp_fastopen_check(e, l, &r->key, s);
    if (state == FO_COOKIE_BAD) { /* 4.2.2: a new one, and the handshake as ever; the data comes again. */
        stat_inc(&e->stats, ST_TCP_FASTOPEN_PASSIVE_FAIL);
        r->flags |= REQ_FASTOPEN;
        return false;
    }
    if (queue_full(e, l)) { /* 5.1 */
        stat_inc(&e->stats, ST_TCP_FASTOPEN_LISTEN_OVERFLOW);
        return false;
    }
    r->iss = e->tcp.tw_iss ? e->tcp.tw_iss : tcp_isn(e, &r->key, e->now_us);
    c = tcp_accept_new(e, l, r);
    if (!c)
        return true;
    stat_inc(&e->stats, ST_TCP_FASTOPEN_PASSIVE);
    l->fo_pending++;
    if (state == FO_COOKIE_OLD)
        c->flags |= TF_FASTOPEN_OPT;
    start_child(e, c, s);
    return true;
}

void tcp_fastopen_over(struct engine *e, struct tcp_conn *c, bool reset)
{
    struct tcp_listener *l;

    c->flags &= ~TF_FASTOPEN;
    if (c->listener == NIL)
        return;
    l = &e->tcp.listeners[c->listener];
    ENG_ASSERT(l->fo_pending);
    l->fo_pending--;
    rotate_resets(l, e->now_us);
    if (reset && l->fo_reset[0] < UINT8_MAX)
        l->fo_reset[0]++;
    if (!(c->flags & TF_EMBRYO))
        c->listener = NIL;
}

void tcp_fastopen_listener_gone(struct engine *e, const struct tcp_listener *l)
{
    uint32_t left = l->fo_pending;

    for (uint32_t i = 0; i < e->tcp.conn_pool.high && left; i++) {
        struct tcp_conn *c = &e->tcp.conns[i];

        if (c->s.kind == SK_TCP && c->flags & TF_FASTOPEN && &e->tcp.listeners[c->listener] == l) {
            c->listener = NIL;
            left--;
        }
    }
}

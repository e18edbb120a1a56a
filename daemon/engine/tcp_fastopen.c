/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP Fast Open, the server's side (RFC 7413 4.2): a SYN with a good cookie makes a connection at once, whose
 * data the application may read, and answer, before the handshake is complete.
 *
 * The connection is in SYN_RCVD with TF_FASTOPEN until the peer's ACK; snd_una is already past the SYN, and
 * the retransmission timer is the SYN-ACK's. A cookie is a keyed hash of both addresses. The key changes each
 * day; cookies of the day before are good too, and answered with a new one (4.1.2).
 */
#include "daemon/engine/engine_int.h"

#define KEY_PERIOD_US   (UINT64_C(24) * 3600 * 1000000)
/* RFC 7413 5.1: a pending request that was reset counts as long as its SYN-ACKs would have gone on. */
#define RESET_PERIOD_US 60000000u

static uint64_t cookie_of(const struct engine *e, const struct flow_key *k, uint64_t period)
{
    uint64_t w[5];

    memcpy(&w[0], k->local.ip, 16);
    memcpy(&w[2], k->remote.ip, 16);
    w[4] = period;
    return sip_words(&e->tcp.fastopen_key, w, 5, 2, 4);
}

void tcp_fastopen_cookie(const struct engine *e, const struct flow_key *k,
                         uint8_t cookie[TCP_FASTOPEN_COOKIE])
{
    uint64_t c = cookie_of(e, k, e->now_us / KEY_PERIOD_US);

    memcpy(cookie, &c, TCP_FASTOPEN_COOKIE);
}

enum cookie_state { COOKIE_BAD, COOKIE_OLD, COOKIE_GOOD };

static enum cookie_state check_cookie(const struct engine *e, const struct flow_key *k,
                                      const struct tcp_seg *s)
{
    uint64_t period = e->now_us / KEY_PERIOD_US;
    uint64_t c;

    if (s->fo_len != TCP_FASTOPEN_COOKIE)
        return COOKIE_BAD;
    memcpy(&c, s->fo, TCP_FASTOPEN_COOKIE);
    if (c == cookie_of(e, k, period))
        return COOKIE_GOOD;
    return period && c == cookie_of(e, k, period - 1) ? COOKIE_OLD : COOKIE_BAD;
}

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

bool tcp_fastopen_syn(struct engine *e, struct tcp_listener *l, struct tcp_req *r, const struct tcp_seg *s)
{
    enum cookie_state state;
    struct tcp_conn *c;

    if (!s->has_fo || !l->inherit.fastopen)
        return false;
    if (!s->fo_len) { /* 4.1.1: a request for a cookie */
        stat_inc(&e->stats, ST_TCP_FASTOPEN_COOKIE_REQD);
        r->flags |= REQ_FASTOPEN;
        return false;
    }
    state = check_cookie(e, &r->key, s);
    if (state == COOKIE_BAD) { /* 4.2.2: a new one, and the handshake as ever; the data comes again. */
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
    if (state == COOKIE_OLD)
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

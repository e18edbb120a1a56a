/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners and half-open connections (RFC 9293 3.10.7.2). A SYN makes a small request record; only the
 * ACK of the SYN-ACK makes a connection. Both queues are bounded.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

#include <errno.h>

/* Requests one listener may hold, as a multiple of its backlog, and at least this many. */
#define REQS_PER_BACKLOG 8u
#define REQS_MIN         256u

static uint32_t bucket_of(uint16_t port)
{
    return port % LISTEN_BUCKETS;
}

static uint32_t listener_index(const struct engine *e, const struct tcp_listener *l)
{
    return (uint32_t)(l - e->tcp.listeners);
}

void tcp_listener_hash(struct engine *e, struct tcp_listener *l)
{
    uint32_t *b = &e->tcp.listen_bucket[bucket_of(l->s.lport)];

    l->hash_next = *b;
    *b = listener_index(e, l);
}

void tcp_listener_unhash(struct engine *e, struct tcp_listener *l)
{
    uint32_t *at = &e->tcp.listen_bucket[bucket_of(l->s.lport)];
    uint32_t i = listener_index(e, l);

    while (*at != i) {
        ENG_ASSERT(*at != NIL);
        at = &e->tcp.listeners[*at].hash_next;
    }
    *at = l->hash_next;
}

/* The listener for an address: an exact match, then the wildcard of its family, then that of both. */
struct tcp_listener *tcp_listener_find(struct engine *e, const struct ip_addr *local, uint16_t port)
{
    struct tcp_listener *any = NULL, *both = NULL;

    for (uint32_t i = e->tcp.listen_bucket[bucket_of(port)]; i != NIL; i = e->tcp.listeners[i].hash_next) {
        struct tcp_listener *l = &e->tcp.listeners[i];

        if (l->s.lport != port)
            continue;
        if (ip_addr_eq(&l->s.local, local))
            return l;
        if (!ip_addr_any(&l->s.local))
            continue;
        if (l->s.local.family == local->family)
            any = l;
        else if (l->s.local.family == SG_AF_INET6 && !(l->s.opts & SO_F_V6ONLY))
            both = l;
    }
    return any ? any : both;
}

void tcp_req_free(struct engine *e, struct tcp_req *r)
{
    uint32_t i = (uint32_t)(r - e->tcp.reqs);

    e->tcp.listeners[r->listener].req_count--;
    wheel_cancel(&e->wheel, node_of_req(&e->cfg, i));
    r->listener = NIL;
    r->used = 0;
    pool_put(&e->tcp.req_pool, i);
}

static void req_drop(struct engine *e, struct tcp_req *r)
{
    flow_del(&e->flows, r->hash, SOCK_ID(SK_REQ, r - e->tcp.reqs));
    tcp_req_free(e, r);
}

void tcp_listener_close(struct engine *e, struct tcp_listener *l)
{
    uint32_t i = listener_index(e, l);

    tcp_listener_unhash(e, l);
    for (uint32_t r = 0; r < e->tcp.req_pool.high && l->req_count; r++)
        if (e->tcp.reqs[r].used && e->tcp.reqs[r].listener == i)
            req_drop(e, &e->tcp.reqs[r]);
    while (l->queue_head != NIL) { /* Nobody will accept them (Linux resets them too). */
        struct tcp_conn *c = tcp_accept_take(e, l);

        if (c->state == TCPS_CLOSED)
            tcp_conn_free(e, c);
        else
            tcp_conn_abort(e, c, 0);
    }
    tcp_fastopen_listener_gone(e, l);
    sock_port_release(e, &l->s);
    sock_unlink(e, &l->s);
    l->s.kind = SK_NONE;
    pool_put(&e->tcp.listener_pool, i);
}

struct tcp_conn *tcp_accept_take(struct engine *e, struct tcp_listener *l)
{
    struct tcp_conn *c = &e->tcp.conns[l->queue_head];

    l->queue_head = c->acc_next;
    if (l->queue_head == NIL)
        l->queue_tail = NIL;
    l->queue_len--;
    peers_accept_count(e, l, -1);
    c->acc_next = NIL;
    if (!tcp_fastopen_pending(c))
        c->listener = NIL;
    c->flags &= ~TF_EMBRYO;
    return c;
}

/* What a connection can receive before it is one: no scaling on SYN segments (RFC 7323 2.2). */
static uint32_t rcv_window(const struct tcp_listener *l)
{
    uint32_t ring = 1u << l->inherit.rcv_log2;

    return ring > UINT16_MAX ? UINT16_MAX : ring;
}

static void listen_drop(struct engine *e, enum stat why)
{
    stat_inc(&e->stats, why);
    stat_inc(&e->stats, ST_TCP_LISTEN_DROPS);
}

static void send_synack(struct engine *e, const struct tcp_req *r, uint32_t tsval)
{
    const struct tcp_listener *l = &e->tcp.listeners[r->listener];
    uint8_t cookie[TCP_FASTOPEN_COOKIE];
    struct tcp_reply t = {
        .key = &r->key,
        .seq = r->iss,
        .ack = r->irs + 1,
        .wnd = (uint16_t)rcv_window(l),
        .flags = (uint8_t)(TCP_SYN | TCP_ACK | (r->flags & REQ_ECN ? TCP_ECE : 0)),
        .mss = tcp_adv_mss(e, &r->key.remote),
        .tos = sock_tos(&e->tcp.listeners[r->listener].s),
        .ttl = sock_ttl_to(e, &e->tcp.listeners[r->listener].s, &r->key.remote),
        .cut = mtu_disc_segment(&e->tcp.listeners[r->listener].s),
        .wscale = r->flags & REQ_WSCALE ? (int)tcp_rcv_wscale(e) : -1,
        .sack_perm = r->flags & REQ_SACK,
        .has_ts = r->flags & REQ_TS,
        .tsval = tsval,
        .tsecr = r->ts_recent,
    };

    if (l->inherit.user_mss && l->inherit.user_mss < t.mss)
        t.mss = l->inherit.user_mss;
    if (r->flags & REQ_FASTOPEN) {
        tcp_fastopen_cookie(e, l, &r->key, cookie);
        t.has_fo = true;
        t.fo = cookie;
        t.fo_len = sizeof(cookie);
    }
    (void)tcp_reply_send(e, &t); /* Lost: it is sent again, by our timer or for the peer's. */
}

static void send_synack_now(struct engine *e, struct tcp_req *r)
{
    r->sent_us = e->now_us;
    send_synack(e, r, tcp_ts_now(e, r->tsoff));
}

/*
 * May the listener have one more request? Its backlog sets a limit, and it never holds more than what is left
 * for the others: however many are flooded, one more listener finds room. A SYN that ended a TIME_WAIT was
 * paid for by a connection, and can't be answered with a cookie: its sequence number is given.
 */
static bool req_allowed(const struct engine *e, const struct tcp_listener *l)
{
    uint32_t n = l->backlog * REQS_PER_BACKLOG;

    if (!e->tcp.tw_iss && l->req_count >= (n > REQS_MIN ? n : REQS_MIN))
        return false;
    return l->req_count < e->tcp.req_pool.free_count;
}

static struct tcp_req req_of_syn(struct engine *e, struct tcp_listener *l, const struct flow_key *k,
                                 uint32_t hash, const struct tcp_seg *s, uint8_t tos)
{
    return (struct tcp_req){
        .key = *k,
        .hash = hash,
        .listener = listener_index(e, l),
        .irs = s->seq,
        .tsoff = tcp_ts_offset(e, k),
        .ts_recent = s->has_ts ? s->tsval : 0,
        .peer_mss = s->has_mss ? s->mss : 0,
        .wnd = s->wnd,
        .peer_wscale = s->has_wscale ? s->wscale : 0,
        .flags = (uint8_t)((s->has_ts ? REQ_TS : 0) | (s->has_wscale ? REQ_WSCALE : 0) |
                           (s->sack_perm ? REQ_SACK : 0) | (tcp_ecn_request(e, s, tos) ? REQ_ECN : 0)),
    };
}

static void send_cookie(struct engine *e, struct tcp_listener *l, struct tcp_req *r)
{
    uint32_t tsval = tcp_cookie_make(e, l, r);

    stat_inc(&e->stats, ST_TCP_COOKIES_SENT);
    send_synack(e, r, tsval);
}

static void new_request(struct engine *e, struct tcp_listener *l, struct tcp_req *from)
{
    uint32_t i = pool_get(&e->tcp.req_pool);
    struct tcp_req *r = &e->tcp.reqs[i];

    *r = *from;
    r->iss = e->tcp.tw_iss ? e->tcp.tw_iss : tcp_isn(e, &r->key, e->now_us);
    r->used = 1;
    l->req_count++;
    flow_add(&e->flows, r->hash, SOCK_ID(SK_REQ, i));
    send_synack_now(e, r);
    r->resend_us = e->now_us + e->cfg.rto_initial_us;
    wheel_arm(&e->wheel, node_of_req(&e->cfg, i), r->resend_us);
}

/* A SYN for which there is room in the accept queue. */
static void syn_input(struct engine *e, struct tcp_listener *l, struct tcp_req *r)
{
    bool allowed = req_allowed(e, l);

    if (e->cfg.syncookies == ENGINE_ALWAYS && !e->tcp.tw_iss) {
        send_cookie(e, l, r);
    } else if (allowed) {
        new_request(e, l, r);
    } else if (e->cfg.syncookies == ENGINE_AUTO && !e->tcp.tw_iss) {
        stat_inc(&e->stats, ST_TCP_REQ_QFULL_COOKIE);
        send_cookie(e, l, r);
    } else {
        listen_drop(e, ST_TCP_REQ_QFULL);
    }
}

/* The third segment of the handshake arrived: make the connection. NULL: no record. */
static struct tcp_conn *conn_of_req(struct engine *e, const struct tcp_req *r)
{
    struct tcp_listener *l = &e->tcp.listeners[r->listener];
    struct tcp_conn *c = tcp_conn_new(e);

    if (!c)
        return NULL;
    c->s.family = l->s.family;
    c->s.local = r->key.local;
    c->s.remote = r->key.remote;
    c->s.lport = r->key.lport;
    c->s.rport = r->key.rport;
    c->o = l->inherit;
    c->s.opts = l->s.opts;
    c->s.mtu_disc = l->s.mtu_disc;
    c->s.rx.want_log2 = c->o.rcv_log2;
    c->s.tx.want_log2 = c->o.snd_log2;
    c->s.pub_flags = SG_F_BOUND;
    c->iss = r->iss;
    c->snd_una = r->iss;
    c->snd_nxt = r->iss + 1;
    c->irs = r->irs;
    c->rcv_nxt = c->rcv_wup = r->irs + 1;
    c->rcv_adv = c->rcv_nxt + rcv_window(l);
    c->tsoff = r->tsoff;
    c->ts_recent = r->ts_recent;
    c->ts_recent_us = r->sent_us;
    c->peer_mss = r->peer_mss;
    c->snd_wscale = r->peer_wscale;
    c->rcv_wscale = tcp_rcv_wscale(e);
    c->flags = (r->flags & REQ_TS ? TF_TS | TF_TS_VALID : 0) | (r->flags & REQ_WSCALE ? TF_WSCALE : 0) |
               (r->flags & REQ_SACK ? TF_SACK : 0) | TF_EMBRYO | TF_HASHED;
    c->ecn = r->flags & REQ_ECN ? ECN_SEND | ECN_TAKE : 0;
    c->hash = r->hash;
    tcp_state_set(c, TCPS_SYN_RCVD);
    sock_link(e, &c->s, l->s.heap_sid);
    sock_session(e, l->s.heap_sid)->orphan_count++;
    port_count(e, &c->s);
    c->total_retrans = r->retries;
    if (!r->retries && r->used) /* A cookie doesn't say when it was sent. */
        tcp_rtt_sample(e, c, e->now_us - r->sent_us);
    return c;
}

static void accept_enqueue(struct engine *e, struct tcp_listener *l, struct tcp_conn *c)
{
    uint32_t ci = tcp_conn_index(e, c);

    c->listener = listener_index(e, l);
    if (l->queue_tail != NIL)
        e->tcp.conns[l->queue_tail].acc_next = ci;
    else
        l->queue_head = ci;
    l->queue_tail = ci;
    l->queue_len++;
    peers_accept_count(e, l, 1);
    stat_inc(&e->stats, ST_TCP_PASSIVE_OPENS);
    neigh_confirm(e, &c->s.remote, e->now_us);
    sock_dirty(e, &l->s);
}

struct tcp_conn *tcp_accept_new(struct engine *e, struct tcp_listener *l, const struct tcp_req *r)
{
    struct tcp_conn *c = conn_of_req(e, r);

    if (!c) {
        stat_inc(&e->stats, ST_TCP_LISTEN_DROPS);
        return NULL;
    }
    flow_add(&e->flows, r->hash, SOCK_ID(SK_TCP, tcp_conn_index(e, c)));
    accept_enqueue(e, l, c);
    return c;
}

/* The request becomes a connection, which takes its place in the table. */
static struct tcp_conn *promote(struct engine *e, struct tcp_req *r)
{
    struct tcp_listener *l = &e->tcp.listeners[r->listener];
    struct tcp_conn *c = conn_of_req(e, r);

    if (!c) {
        stat_inc(&e->stats, ST_TCP_LISTEN_DROPS);
        return NULL;
    }
    flow_replace(&e->flows, r->hash, SOCK_ID(SK_REQ, r - e->tcp.reqs), SOCK_ID(SK_TCP, tcp_conn_index(e, c)));
    tcp_req_free(e, r);
    accept_enqueue(e, l, c);
    return c;
}

/* No room for another connection that waits: drop, so that the peer tries again, or RST. True: was reset. */
static bool accept_overflow(struct engine *e, const struct tcp_listener *l, const struct tcp_seg *s,
                            const struct rx_pkt *rp)
{
    listen_drop(e, ST_TCP_LISTEN_OVERFLOWS);
    if (l->overflow != SG_OVERFLOW_RESET)
        return false;
    tcp_reply_rst(e, rp, s);
    return true;
}

/* An ACK for no connection: it may bring back a cookie. */
static void listen_ack_input(struct engine *e, struct tcp_listener *l, const struct flow_key *k,
                             uint32_t hash, struct tcp_seg *s, const struct rx_pkt *rp)
{
    struct tcp_req r = {.key = *k, .hash = hash, .listener = listener_index(e, l), .sent_us = e->now_us};
    struct tcp_conn *c;

    if (s->flags & TCP_SYN || !tcp_cookie_check(e, l, &r, s)) {
        tcp_reply_rst(e, rp, s);
        return;
    }
    stat_inc(&e->stats, ST_TCP_COOKIES_RECV);
    if (peers_accept_full(e, l)) {
        (void)accept_overflow(e, l, s, rp);
        return;
    }
    c = tcp_accept_new(e, l, &r);
    if (c)
        tcp_conn_input(e, c, s, rp);
}

void tcp_listen_input(struct engine *e, struct tcp_listener *l, const struct flow_key *k, uint32_t hash,
                      struct tcp_seg *s, const struct rx_pkt *rp)
{
    struct tcp_req r;

    if (s->flags & TCP_RST)
        return;
    if (s->flags & TCP_ACK) {
        listen_ack_input(e, l, k, hash, s, rp);
        return;
    }
    /* SYN with FIN is no request of any honest host (RFC 9293 leaves it open; Linux drops it too). */
    if (!(s->flags & TCP_SYN) || s->flags & TCP_FIN)
        return;
    if (peers_accept_full(e, l)) {
        (void)accept_overflow(e, l, s, rp);
        return;
    }
    s->has_ts &= e->cfg.timestamps != 0;
    r = req_of_syn(e, l, k, hash, s, rp->tos);
    if (!tcp_fastopen_syn(e, l, &r, s))
        syn_input(e, l, &r);
}

static void req_ack(struct engine *e, const struct tcp_req *r)
{
    struct tcp_reply t = {
        .key = &r->key,
        .seq = r->iss + 1,
        .ack = r->irs + 1,
        .wnd = (uint16_t)(rcv_window(&e->tcp.listeners[r->listener]) >>
                          (r->flags & REQ_WSCALE ? tcp_rcv_wscale(e) : 0)),
        .flags = TCP_ACK,
        .wscale = -1,
        .has_ts = r->flags & REQ_TS,
        .tsval = tcp_ts_now(e, r->tsoff),
        .tsecr = r->ts_recent,
    };

    (void)tcp_reply_send(e, &t); /* Lost: the peer asks again. */
}

/* RFC 9293 3.10.7.4 for SYN-RECEIVED that came through LISTEN. */
void tcp_req_input(struct engine *e, struct tcp_req *r, struct tcp_seg *s, const struct rx_pkt *rp)
{
    struct tcp_listener *l = &e->tcp.listeners[r->listener];
    uint32_t wnd = rcv_window(l);
    struct tcp_conn *c;

    if ((s->flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN && s->seq == r->irs) {
        if (!tcp_ecn_request(e, s, rp->tos))
            r->flags &= (uint8_t)~REQ_ECN; /* RFC 3168 6.1.1: it asks no more. */
        send_synack_now(e, r);             /* Their SYN again: our SYN-ACK again. */
        return;
    }
    if (r->flags & REQ_TS && s->has_ts && !(s->flags & TCP_RST) && (int32_t)(s->tsval - r->ts_recent) < 0) {
        stat_inc(&e->stats, ST_TCP_PAWS_ESTAB);
        return;
    }
    /* What is taken here must also pass step 1 of the connection that it makes. */
    if (seq_lt(s->seq, r->irs + 1) || seq_ge(s->seq, r->irs + 1 + wnd)) {
        if (!(s->flags & TCP_RST))
            send_synack_now(e, r);
        return;
    }
    if (s->flags & TCP_RST) {
        if (s->seq == r->irs + 1) {
            stat_inc(&e->stats, ST_TCP_ATTEMPT_FAILS);
            req_drop(e, r);
        } else if (tcp_challenge_allowed(e)) { /* RFC 5961 3.2 */
            req_ack(e, r);
        }
        return;
    }
    if (s->flags &
        TCP_SYN) { /* The peer began anew: RFC 9293 3.10.7.4 returns to LISTEN, with an RST as Linux. */
        tcp_reply_rst(e, rp, s);
        req_drop(e, r);
        return;
    }
    if (!(s->flags & TCP_ACK))
        return;
    if (s->ack != r->iss + 1) {
        tcp_reply_rst(e, rp, s);
        return;
    }
    if (r->retries < l->inherit.defer && !s->len && !(s->flags & TCP_FIN)) {
        r->flags |= REQ_ACKED;
        stat_inc(&e->stats, ST_TCP_DEFER_ACCEPT_DROP);
        return;
    }
    if (peers_accept_full(e, l)) {
        if (accept_overflow(e, l, s, rp))
            req_drop(e, r); /* Else the peer believes it is open; its next segment tries again. */
        return;
    }
    c = promote(e, r);
    if (c)
        tcp_conn_input(e, c, s, rp);
}

static bool req_expired(const struct engine *e, const struct tcp_req *r)
{
    const struct tcp_options_set *o = &e->tcp.listeners[r->listener].inherit;

    if (r->flags & REQ_ACKED && r->retries < o->defer)
        return false;
    return r->retries >= (o->syn_count ? o->syn_count : e->cfg.synack_retries);
}

/* RFC 6298 5.5 */
static uint64_t synack_timeout(const struct engine *e, const struct tcp_req *r)
{
    uint64_t us = (uint64_t)e->cfg.rto_initial_us << (r->retries < 12 ? r->retries : 12);

    return us > e->cfg.rto_max_us ? e->cfg.rto_max_us : us;
}

void tcp_req_timer(struct engine *e, uint32_t i)
{
    struct tcp_req *r = &e->tcp.reqs[i];
    bool resend;

    if (!r->used)
        return;
    if (e->now_us < r->resend_us) {
        wheel_arm(&e->wheel, node_of_req(&e->cfg, i), r->resend_us);
        return;
    }
    if (req_expired(e, r)) {
        stat_inc(&e->stats, ST_TCP_ATTEMPT_FAILS);
        req_drop(e, r);
        return;
    }
    /* While data is waited for, silence; at the end another SYN-ACK, whose answer makes the connection. */
    resend = !(r->flags & REQ_ACKED) || r->retries + 1u >= e->tcp.listeners[r->listener].inherit.defer;
    r->retries++;
    if (resend) {
        stat_inc(&e->stats, ST_TCP_TIMEOUTS);
        send_synack_now(e, r);
    }
    r->resend_us = e->now_us + synack_timeout(e, r);
    wheel_arm(&e->wheel, node_of_req(&e->cfg, i), r->resend_us);
}

/* As in Linux: what says that the peer can't be reached ends the request, if it quotes our SYN-ACK (RFC 5927
 * 4); once that was acknowledged nothing does. */
void tcp_req_icmp(struct engine *e, struct tcp_req *r, const struct icmp_report *report)
{
    bool unreachable = report->error == EHOSTUNREACH || report->error == ENETUNREACH;

    if (report->seq != r->iss) {
        stat_inc(&e->stats, ST_ICMP_ERR_UNMATCHED);
        return;
    }
    if (!unreachable || r->flags & REQ_ACKED)
        return;
    stat_inc(&e->stats, ST_TCP_LISTEN_DROPS);
    stat_inc(&e->stats, ST_TCP_ATTEMPT_FAILS);
    req_drop(e, r);
}

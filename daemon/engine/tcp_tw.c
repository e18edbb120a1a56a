/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TIME_WAIT (RFC 9293 3.6.1): a small record that keeps a four-tuple quiet. Bounded: the oldest goes first.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* How far the sequence numbers of a new incarnation start beyond the old one's (RFC 6191, as Linux does). */
#define TW_ISS_STEP 65537u

static void age_unlink(struct engine *e, uint32_t i)
{
    struct tcp_tw *w = &e->tcp.tws[i];

    if (w->age_prev != NIL)
        e->tcp.tws[w->age_prev].age_next = w->age_next;
    else
        e->tcp.tw_oldest = w->age_next;
    if (w->age_next != NIL)
        e->tcp.tws[w->age_next].age_prev = w->age_prev;
    else
        e->tcp.tw_newest = w->age_prev;
}

static void age_append(struct engine *e, uint32_t i)
{
    struct tcp_tw *w = &e->tcp.tws[i];

    w->age_next = NIL;
    w->age_prev = e->tcp.tw_newest;
    if (w->age_prev != NIL)
        e->tcp.tws[w->age_prev].age_next = i;
    else
        e->tcp.tw_oldest = i;
    e->tcp.tw_newest = i;
}

void tcp_tw_free(struct engine *e, uint32_t i)
{
    struct tcp_tw *w = &e->tcp.tws[i];

    flow_del(&e->flows, w->hash, SOCK_ID(SK_TW, i));
    wheel_cancel(&e->wheel, node_of_tw(&e->cfg, i));
    age_unlink(e, i);
    port_count_tw(e, w->key.lport, -1);
    w->used = 0;
    pool_put(&e->tcp.tw_pool, i);
}

static void restart(struct engine *e, uint32_t i)
{
    struct tcp_tw *w = &e->tcp.tws[i];

    w->expires_us = e->now_us + e->cfg.time_wait_us;
    wheel_arm(&e->wheel, node_of_tw(&e->cfg, i), w->expires_us);
}

void tcp_tw_enter(struct engine *e, struct tcp_conn *c)
{
    uint32_t i = pool_get(&e->tcp.tw_pool);
    uint32_t hash = c->hash;
    struct tcp_tw *w;

    if (i == NIL) {
        stat_inc(&e->stats, ST_TCP_TW_OVERFLOW);
        tcp_tw_free(e, e->tcp.tw_oldest);
        i = pool_get(&e->tcp.tw_pool);
    }
    w = &e->tcp.tws[i];
    *w = (struct tcp_tw){
        .key = tcp_conn_key(c),
        .hash = hash,
        .snd_nxt = c->snd_nxt,
        .rcv_nxt = c->rcv_nxt,
        .rcv_wnd = tcp_window_select(e, c),
        .ts_recent = c->ts_recent,
        .tsoff = c->tsoff,
        .has_ts = !!(c->flags & TF_TS),
        .used = 1,
        .ts_recent_us = c->ts_recent_us,
    };
    age_append(e, i);
    port_count_tw(e, c->s.lport, 1);
    stat_inc(&e->stats, ST_TCP_TW_CREATED);
    tcp_conn_unhash(e, c);
    flow_add(&e->flows, hash, SOCK_ID(SK_TW, i));
    restart(e, i);
    if (c->flags & TF_ACK_NOW) /* The ACK of the peer's FIN must not go down with the record. */
        (void)tcp_tw_ack(e, i);
    tcp_conn_end(e, c, 0);
}

int tcp_tw_ack(struct engine *e, uint32_t i)
{
    const struct tcp_tw *w = &e->tcp.tws[i];
    struct tcp_reply r = {
        .key = &w->key,
        .seq = w->snd_nxt,
        .ack = w->rcv_nxt,
        .wnd = (uint16_t)w->rcv_wnd,
        .flags = TCP_ACK,
        .wscale = -1,
        .has_ts = w->has_ts,
        .tsval = tcp_ts_now(e, w->tsoff),
        .tsecr = w->ts_recent,
    };

    return tcp_reply_send(e, &r);
}

void tcp_tw_timer(struct engine *e, uint32_t i)
{
    struct tcp_tw *w = &e->tcp.tws[i];

    if (!w->used)
        return;
    if (e->now_us >= w->expires_us)
        tcp_tw_free(e, i);
    else
        wheel_arm(&e->wheel, node_of_tw(&e->cfg, i), w->expires_us);
}

/* The peer tells new segments from old ones by their timestamps, once our clock has moved on. */
#define TW_REUSE_US 1000000u

bool tcp_tw_reusable(const struct engine *e, sock_id id)
{
    const struct tcp_tw *w = &e->tcp.tws[SOCK_INDEX(id)];

    return SOCK_KIND(id) == SK_TW && e->cfg.tw_reuse != ENGINE_NEVER && w->has_ts &&
           e->now_us - w->ts_recent_us > TW_REUSE_US;
}

static uint32_t following_iss(const struct tcp_tw *w)
{
    uint32_t iss = w->snd_nxt + TW_ISS_STEP;

    return iss ? iss : 1;
}

uint32_t tcp_tw_reuse(struct engine *e, sock_id id)
{
    uint32_t iss = following_iss(&e->tcp.tws[SOCK_INDEX(id)]);

    stat_inc(&e->stats, ST_TCP_TW_RECYCLED);
    tcp_tw_free(e, SOCK_INDEX(id));
    return iss;
}

static bool in_window(const struct tcp_tw *w, const struct tcp_seg *s)
{
    return seq_ge(s->seq, w->rcv_nxt) && seq_lt(s->seq, w->rcv_nxt + (w->rcv_wnd ? w->rcv_wnd : 1));
}

/* RFC 9293 3.10.7.4 for TIME-WAIT, with RFC 6191 for the SYN of a new incarnation and RFC 1337 for RST. */
bool tcp_tw_input(struct engine *e, uint32_t i, const struct tcp_seg *s, uint32_t *iss)
{
    struct tcp_tw *w = &e->tcp.tws[i];
    bool paws_ok = !w->has_ts || !s->has_ts || (int32_t)(s->tsval - w->ts_recent) >= 0;
    bool newer =
        seq_gt(s->seq, w->rcv_nxt) || (w->has_ts && s->has_ts && (int32_t)(s->tsval - w->ts_recent) > 0);

    if ((s->flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN && paws_ok && newer) {
        *iss = tcp_tw_reuse(e, SOCK_ID(SK_TW, i));
        return false;
    }
    if (s->flags & TCP_RST)
        return true; /* RFC 1337 3: ignored; it can only be an old duplicate or an attack. */
    if (!(s->flags & (TCP_ACK | TCP_SYN)) && paws_ok && in_window(w, s))
        return true; /* Fifth: dropped without ACK. What is outside the window is answered before. */
    if (s->len || s->flags & (TCP_SYN | TCP_FIN) || s->seq != w->rcv_nxt || !paws_ok) {
        if (s->flags & TCP_FIN && s->seq + s->len + 1 == w->rcv_nxt && paws_ok)
            restart(e, i); /* A retransmitted FIN: 2 MSL start again. */
        (void)tcp_tw_ack(e, i);
    }
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking inside: the walk over all sockets for sockgatectl and tests.
 */
#include "daemon/engine/engine_int.h"

#include <stdio.h>

static const char *timer_name(const struct tcp_conn *c, uint64_t *at)
{
    *at = 0;
    if (c->rto_at_us) {
        static const char *const names[] = {
            [RTO_OFF] = "",    [RTO_REXMIT] = "rto", [RTO_PERSIST] = "persist", [RTO_REORDER] = "reorder",
            [RTO_TLP] = "tlp",
        };

        *at = c->rto_at_us;
        return names[c->rto_mode];
    }
    if (c->delack_at_us) {
        *at = c->delack_at_us;
        return "delack";
    }
    if (c->keep_at_us) {
        *at = c->keep_at_us;
        return c->flags & TF_ORPHAN ? "orphan" : "keepalive";
    }
    return "";
}

static void conn_info(const struct engine *e, const struct tcp_conn *c, uint64_t now_us,
                      struct engine_sock_info *ret)
{
    uint64_t at;

    ret->kind = ENGINE_SOCK_TCP;
    ret->state = tcp_state_name((enum tcp_state)c->state);
    ret->rx_queue = c->s.rx.tail - c->s.rx.head;
    ret->tx_queue = c->s.tx.tail - c->s.tx.head;
    ret->srtt_us = c->srtt8_us / 8;
    ret->rttvar_us = c->rttvar4_us / 4;
    ret->rto_us = c->rto_us;
    ret->cwnd_bytes = c->cwnd;
    ret->ssthresh_bytes = c->ssthresh;
    ret->mss = c->mss;
    ret->snd_wnd = c->snd_wnd;
    ret->rcv_wnd = c->rcv_adv - c->rcv_nxt;
    ret->retransmits = c->total_retrans;
    ret->backoff = c->backoff;
    ret->bytes_acked = c->s.tx.head;
    ret->bytes_sent = c->s.tx.head + (c->state >= TCPS_ESTABLISHED ? c->snd_nxt - c->snd_una : 0);
    ret->bytes_received = c->s.rx.tail;
    ret->segs_in = c->segs_in;
    ret->segs_out = c->segs_out;
    (void)snprintf(ret->cc, sizeof(ret->cc), "%s", cc_by_id(c->o.cc)->name);
    ret->timer = timer_name(c, &at);
    ret->timer_us = at > now_us ? at - now_us : 0;
    tcp_info_fill(e, &c->s, now_us, &ret->tcp);
}

static void sock_info(const struct sock *s, struct engine_sock_info *ret)
{
    ret->sid = s->sid;
    ret->slot = s->slot;
    ret->local = (struct ip_ep){.addr = s->local, .port = s->lport};
    ret->remote = (struct ip_ep){.addr = s->remote, .port = s->rport};
}

static void key_info(const struct flow_key *k, struct engine_sock_info *ret)
{
    ret->sid = -1;
    ret->local = (struct ip_ep){.addr = k->local, .port = k->lport};
    ret->remote = (struct ip_ep){.addr = k->remote, .port = k->rport};
}

static bool entry_info(const struct engine *e, unsigned table, uint32_t i, uint64_t now_us,
                       struct engine_sock_info *ret)
{
    *ret = (struct engine_sock_info){.timer = "", .state = ""};
    switch (table) {
    case 0: {
        const struct tcp_listener *l = &e->tcp.listeners[i];

        if (l->s.kind != SK_LISTEN)
            return false;
        sock_info(&l->s, ret);
        ret->kind = ENGINE_SOCK_LISTEN;
        ret->state = "LISTEN";
        ret->rx_queue = l->queue_len;
        ret->tx_queue = l->backlog;
        return true;
    }
    case 1:
        if (e->tcp.conns[i].s.kind != SK_TCP)
            return false;
        sock_info(&e->tcp.conns[i].s, ret);
        conn_info(e, &e->tcp.conns[i], now_us, ret);
        return true;
    case 2:
        if (!e->tcp.reqs[i].used)
            return false;
        key_info(&e->tcp.reqs[i].key, ret);
        ret->kind = ENGINE_SOCK_REQ;
        ret->state = "SYN_RECEIVED";
        return true;
    case 3:
        if (!e->tcp.tws[i].used)
            return false;
        key_info(&e->tcp.tws[i].key, ret);
        ret->kind = ENGINE_SOCK_TW;
        ret->state = "TIME_WAIT";
        ret->timer = "timewait";
        ret->timer_us = e->tcp.tws[i].expires_us > now_us ? e->tcp.tws[i].expires_us - now_us : 0;
        return true;
    default: {
        const struct udp_sock *u = &e->udp.socks[i];

        if (u->s.kind != SK_UDP)
            return false;
        sock_info(&u->s, ret);
        ret->kind = u->s.type == SG_SOCK_RAW ? ENGINE_SOCK_RAW : ENGINE_SOCK_UDP;
        ret->state = udp_connected(u) ? "ESTABLISHED" : "UNCONN";
        ret->rx_queue = u->s.rx.tail - u->s.rx.head;
        ret->tx_queue = u->s.tx.tail - u->s.tx.head;
        return true;
    }
    }
}

/* The cursor is table << 32 | index. */
bool engine_sock_next(const struct engine *e, uint64_t *cursor, uint64_t now_us, struct engine_sock_info *ret)
{
    const uint32_t counts[] = {e->tcp.listener_pool.high, e->tcp.conn_pool.high, e->tcp.req_pool.high,
                               e->tcp.tw_pool.high, e->cfg.udp_max};

    for (uint64_t table = *cursor >> 32; table < ARRAY_LEN(counts); table++, *cursor = table << 32) {
        for (uint32_t i = (uint32_t)*cursor; i < counts[table]; i++) {
            if (!entry_info(e, (unsigned)table, i, now_us, ret))
                continue;
            *cursor = table << 32 | (i + 1);
            return true;
        }
    }
    return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of the application (RFC 9293 3.10.1 to 3.10.6).
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

#include <errno.h>

int tcp_open(struct engine *e, int sid, uint32_t slot, sock_id *ret)
{
    struct tcp_conn *c = tcp_conn_new(e);

    (void)sid;
    (void)slot;
    if (!c)
        return -ENOBUFS;
    *ret = SOCK_ID(SK_TCP, tcp_conn_index(e, c));
    return 0;
}

/* Choose addresses and port for a connection to `remote`. On failure the socket is as it was. */
static int connect_name(struct engine *e, struct tcp_conn *c, const struct ip_ep *remote)
{
    struct flow_key k = {.remote = remote->addr, .rport = remote->port};
    struct ip_addr src;
    sock_id id;

    if (!net_source(e, &remote->addr, &src))
        return -ENETUNREACH;
    k.local = ip_addr_any(&c->s.local) ? src : c->s.local;
    if (k.local.family != remote->addr.family)
        return -ENETUNREACH;
    if (c->s.lport) {
        k.lport = c->s.lport;
    } else {
        k.lport = port_choose_connect(e, &c->s, &k);
        if (!k.lport)
            return -EADDRNOTAVAIL;
    }
    id = flow_find(e, &k, flow_hash(&e->flows, &k));
    if (id && !tcp_tw_reusable(e, id))
        return -EADDRNOTAVAIL;
    if (c->s.bind_flags & BIND_PORT && !peers_pin(e, &c->s, &k))
        return -EADDRNOTAVAIL;
    c->iss = id ? tcp_tw_reuse(e, id) : tcp_isn(e, &k, e->now_us);
    c->s.local = k.local;
    c->s.lport = k.lport;
    c->s.remote = remote->addr;
    c->s.rport = remote->port;
    port_count(e, &c->s);
    (void)peers_change(e, sock_id_of(e, &c->s), &c->s); /* Its address may be a narrower one. */
    c->tsoff = tcp_ts_offset(e, &k);
    return 0;
}

int tcp_user_connect(struct engine *e, struct tcp_conn *c, const struct ip_ep *remote)
{
    int rc;

    if (c->state == TCPS_SYN_SENT || c->state == TCPS_SYN_RCVD)
        return -EALREADY;
    if (c->state != TCPS_CLOSED)
        return -EISCONN;
    if (c->s.pub_state != SG_ST_OPEN)
        return -EISCONN; /* It was connected once; a device's object is not used twice. */
    if (!remote->port || !net_is_unicast(e, &remote->addr))
        return remote->port ? -ENETUNREACH : -EADDRNOTAVAIL;
    rc = connect_name(e, c, remote);
    if (rc)
        return rc;
    tcp_conn_hash(e, c);
    c->snd_una = c->iss;
    c->snd_nxt = c->iss + 1;
    c->rcv_wscale = tcp_rcv_wscale(e);
    /* Offered; the SYN-ACK says which hold. */
    c->flags |= (e->cfg.timestamps ? TF_TS : 0) | TF_SACK | TF_WSCALE;
    if (e->cfg.ecn == ENGINE_ECN_ON)
        c->ecn = ECN_SEND | ECN_TAKE;
    c->flags &= ~TF_RARE; /* Keys for a listener lay there. */
    tcp_state_set(c, TCPS_SYN_SENT);
    c->s.pub_state = SG_ST_CONNECTING;
    tcp_tx_start(e, c);
    stat_inc(&e->stats, ST_TCP_ACTIVE_OPENS);
    if (!tcp_fastopen_connect(e, c))
        tcp_fastopen_start(e, c);
    sock_dirty_bits(e, &c->s, DIRTY_LINE | DIRTY_NAME);
    return 0;
}

/* Nothing more will be sent: FIN after what is queued (RFC 9293 3.10.4). */
static void queue_fin(struct engine *e, struct tcp_conn *c)
{
    if (c->flags & TF_FIN_QUEUED)
        return;
    c->flags |= TF_FIN_QUEUED;
    c->fin_end = (uint32_t)c->s.tx.tail;
    c->s.pub_flags |= SG_F_TX_SHUT;
    if (c->state < TCPS_ESTABLISHED)
        return; /* RFC 9293 3.10.4: queued until ESTABLISHED */
    tcp_state_set(c, c->state == TCPS_CLOSE_WAIT ? TCPS_LAST_ACK : TCPS_FIN_WAIT_1);
    tcp_output_schedule(e, c);
}

int tcp_user_shutdown(struct engine *e, struct tcp_conn *c, uint32_t how)
{
    if (c->state < TCPS_SYN_RCVD && !(c->flags & (TF_SYN_DEFERRED | TF_SYN_DATA)))
        return -ENOTCONN;
    if (c->flags & TF_SYN_DEFERRED && sock_pull(e, &c->s))
        tcp_fastopen_start(e, c); /* Nothing more will come to wait for. */
    if (how & SG_SHUT_RD) {
        /* As in Linux: the application reads end of file when the ring is empty; what arrives is still
         * acknowledged, until both directions are shut. */
        c->flags |= TF_RX_SHUT;
        c->s.pub_flags |= SG_F_RX_FIN;
    }
    if ((how & SG_SHUT_WR) && sock_pull(e, &c->s))
        queue_fin(e, c);
    sock_dirty(e, &c->s);
    return 0;
}

void tcp_user_close(struct engine *e, struct tcp_conn *c)
{
    bool unread = c->s.rx.head != c->s.rx.tail;

    switch ((enum tcp_state)c->state) {
    case TCPS_CLOSED:
        tcp_conn_free(e, c);
        return;
    case TCPS_SYN_SENT:
        tcp_conn_end(e, c, 0);
        return;
    case TCPS_SYN_RCVD:
    case TCPS_ESTABLISHED:
    case TCPS_FIN_WAIT_1:
    case TCPS_FIN_WAIT_2:
    case TCPS_CLOSE_WAIT:
    case TCPS_CLOSING:
    case TCPS_LAST_ACK:
    case TCPS_COUNT:
        break;
    }
    if (unread) { /* RFC 2525 2.17, RFC 9293 3.6.1: the peer must learn that data was lost. */
        stat_inc(&e->stats, ST_TCP_ABORT_ON_DATA);
        tcp_conn_abort(e, c, 0);
        return;
    }
    if ((c->s.opts & SO_F_LINGER) && !c->o.linger_s) {
        stat_inc(&e->stats, ST_TCP_ABORT_ON_CLOSE);
        tcp_conn_abort(e, c, 0);
        return;
    }
    if (!tcp_orphan_enter(e, c))
        return;
    tcp_reass_free(e, c);
    sock_region_put(e, &c->s, &c->s.rx);
    queue_fin(e, c);
    if (c->state == TCPS_FIN_WAIT_2) {
        (void)tcp_orphan_fin_wait2(e, c);
        return;
    }
    if (c->flags & TF_FIN_ACKED)
        tcp_orphan_leave(e, c);
    c->keep_at_us = e->now_us + e->cfg.orphan_us;
    tcp_timer_arm(e, c);
}

void tcp_kick(struct engine *e, struct tcp_conn *c)
{
    if (sock_says_more(e, &c->s))
        c->flags |= TF_MORE;
    else
        c->flags &= ~TF_MORE;
    if (c->flags & TF_SYN_DEFERRED && c->s.tx.tail != c->s.tx.head)
        tcp_fastopen_start(e, c);
    if (c->state < TCPS_ESTABLISHED && !tcp_fastopen_pending(c))
        return;
    if (c->flags & TF_FIN_QUEUED) {
        /* Data after shutdown(): the library refuses it, so only a broken application gets here. */
        if ((uint32_t)c->s.tx.tail != c->fin_end) {
            sock_fault(e, &c->s, "data after the end of the stream");
            return;
        }
    } else if (c->s.tx.tail - c->s.tx.head != tcp_flight(c)) {
        tcp_output_schedule(e, c);
    }
    /* A stale rx_notify only means kicks too early, so it is written again when one came. */
    if (c->s.rx.head >= c->rx_notify) {
        tcp_window_check(e, c);
        sock_dirty_bits(e, &c->s, DIRTY_LINE);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a connection record: allocation, state, start, end.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

#include <errno.h>

#define ALIGN64(x)            (((x) + 63) & ~(size_t)63)

#define RTO_AFTER_LOST_SYN_US 3000000u

size_t tcp_arena_bytes(const struct engine_config *cfg)
{
    return ALIGN64(cfg->conn_max * sizeof(struct tcp_conn)) +
           ALIGN64(cfg->conn_max * sizeof(struct tcp_buf)) +
           ALIGN64(cfg->conn_max * sizeof(struct tcp_rare)) +
           ALIGN64(cfg->listen_max * sizeof(struct tcp_listener)) +
           ALIGN64(cfg->req_max * sizeof(struct tcp_req)) + ALIGN64(cfg->tw_max * sizeof(struct tcp_tw)) +
           ALIGN64(cfg->range_max * sizeof(struct rx_range)) +
           ALIGN64(cfg->txseg_max * sizeof(struct tx_seg)) +
           ALIGN64(cfg->flight_max * sizeof(struct tx_flight)) +
           ALIGN64(cfg->reasm_max * sizeof(struct rx_reasm)) +
           ALIGN64(cfg->path_max * sizeof(struct cc_path)) + ALIGN64(cfg->txseg_max * sizeof(struct tx_rate));
}

size_t tcp_scratch_bytes(const struct engine_config *cfg)
{
    return ALIGN64(tcp_fastopen_bytes()) + ALIGN64((size_t)cfg->conn_max * 4) +
           ALIGN64((size_t)cfg->listen_max * 4) + ALIGN64((size_t)cfg->req_max * 4) +
           ALIGN64((size_t)cfg->tw_max * 4) + ALIGN64((size_t)cfg->range_max * 4) +
           ALIGN64((size_t)cfg->txseg_max * 4) + ALIGN64((size_t)cfg->flight_max * 4) +
           ALIGN64((size_t)cfg->reasm_max * 4) + ALIGN64((size_t)cfg->path_max * 4);
}

/* Lowest indices are handed out first, so that few records stay in few pages. */
static uint8_t *pool_init(struct pool *p, uint8_t *mem, uint32_t count)
{
    p->free = (uint32_t *)(void *)mem;
    p->count = count;
    p->free_count = count;
    p->high = 0;
    for (uint32_t i = 0; i < count; i++)
        p->free[i] = count - 1 - i;
    return mem + ALIGN64((size_t)count * 4);
}

void tcp_init(struct engine *e, void *arena, void *scratch)
{
    struct tcp_table *t = &e->tcp;
    const struct engine_config *cfg = &e->cfg;
    uint8_t *a = arena;
    uint8_t *s = scratch;

    t->conns = (void *)a;
    a += ALIGN64(cfg->conn_max * sizeof(struct tcp_conn));
    t->bufs = (void *)a;
    a += ALIGN64(cfg->conn_max * sizeof(struct tcp_buf));
    t->rares = (void *)a;
    a += ALIGN64(cfg->conn_max * sizeof(struct tcp_rare));
    t->listeners = (void *)a;
    a += ALIGN64(cfg->listen_max * sizeof(struct tcp_listener));
    t->reqs = (void *)a;
    a += ALIGN64(cfg->req_max * sizeof(struct tcp_req));
    t->tws = (void *)a;
    a += ALIGN64(cfg->tw_max * sizeof(struct tcp_tw));
    t->ranges = (void *)a;
    a += ALIGN64(cfg->range_max * sizeof(struct rx_range));
    t->segs = (void *)a;
    a += ALIGN64(cfg->txseg_max * sizeof(struct tx_seg));
    t->flights = (void *)a;
    a += ALIGN64(cfg->flight_max * sizeof(struct tx_flight));
    t->reasms = (void *)a;
    a += ALIGN64(cfg->reasm_max * sizeof(struct rx_reasm));
    t->paths = (void *)a;
    a += ALIGN64(cfg->path_max * sizeof(struct cc_path));
    t->rates = (void *)a;
    t->fo_cache = (void *)s;
    s += ALIGN64(tcp_fastopen_bytes());
    s = pool_init(&t->conn_pool, s, cfg->conn_max);
    s = pool_init(&t->listener_pool, s, cfg->listen_max);
    s = pool_init(&t->req_pool, s, cfg->req_max);
    s = pool_init(&t->tw_pool, s, cfg->tw_max);
    s = pool_init(&t->range_pool, s, cfg->range_max);
    s = pool_init(&t->seg_pool, s, cfg->txseg_max);
    s = pool_init(&t->flight_pool, s, cfg->flight_max);
    s = pool_init(&t->reasm_pool, s, cfg->reasm_max);
    (void)pool_init(&t->path_pool, s, cfg->path_max);
    t->path_oldest = t->path_newest = NIL;
    t->linger_oldest = t->linger_newest = NIL;
    for (uint32_t i = 0; i < LISTEN_BUCKETS; i++)
        t->listen_bucket[i] = NIL;
    for (uint32_t i = 0; i < TCP_TX_LISTS; i++)
        t->tx[i] = (struct tcp_tx_list){NIL, NIL};
    t->tw_oldest = t->tw_newest = NIL;
}

struct tcp_conn *tcp_conn_new(struct engine *e)
{
    uint32_t i = pool_get(&e->tcp.conn_pool);
    struct tcp_conn *c;

    if (i == NIL) {
        stat_inc(&e->stats, ST_TCP_CONN_FULL);
        return NULL;
    }
    c = &e->tcp.conns[i];
    memset(c, 0, sizeof(*c));
    c->s.kind = SK_TCP;
    c->s.type = SG_SOCK_STREAM;
    c->s.mtu_disc = MTU_DISC_WANT;
    c->s.family = SG_AF_INET;
    c->s.sid = c->s.heap_sid = -1;
    c->s.pub_state = SG_ST_OPEN;
    c->tx_next = c->tx_prev = c->acc_next = c->listener = NIL;
    c->flight = c->reasm = c->path = NIL;
    c->o.rcv_log2 = e->cfg.rcvbuf_log2;
    c->o.snd_log2 = e->cfg.sndbuf_log2;
    c->o.cc = e->cfg.congestion;
    c->s.rx.want_log2 = c->o.rcv_log2;
    c->s.tx.want_log2 = c->o.snd_log2;
    c->min_rtt_us = UINT32_MAX;
    c->reo_wnd_mult = 1;
    c->rto_us = e->cfg.rto_initial_us;
    return c;
}

/* RFC 9293 3.3.2 figure 5, and what a promoted request, an abort and a reset add. Row: from; bit: to. */
static const uint16_t legal_moves[TCPS_COUNT] = {
    [TCPS_CLOSED] = 1 << TCPS_SYN_SENT | 1 << TCPS_SYN_RCVD | 1 << TCPS_CLOSED,
    [TCPS_SYN_SENT] = 1 << TCPS_SYN_RCVD | 1 << TCPS_ESTABLISHED | 1 << TCPS_CLOSED,
    [TCPS_SYN_RCVD] = 1 << TCPS_ESTABLISHED | 1 << TCPS_FIN_WAIT_1 | 1 << TCPS_CLOSED,
    [TCPS_ESTABLISHED] = 1 << TCPS_FIN_WAIT_1 | 1 << TCPS_CLOSE_WAIT | 1 << TCPS_CLOSED,
    [TCPS_FIN_WAIT_1] = 1 << TCPS_FIN_WAIT_2 | 1 << TCPS_CLOSING | 1 << TCPS_CLOSED,
    [TCPS_FIN_WAIT_2] = 1 << TCPS_CLOSED,
    [TCPS_CLOSE_WAIT] = 1 << TCPS_LAST_ACK | 1 << TCPS_CLOSED,
    [TCPS_CLOSING] = 1 << TCPS_CLOSED,
    [TCPS_LAST_ACK] = 1 << TCPS_CLOSED,
};

void tcp_state_set(struct tcp_conn *c, enum tcp_state st)
{
    ENG_ASSERT(legal_moves[c->state] & (1u << st));
    c->state = (uint8_t)st;
}

const char *tcp_state_name(enum tcp_state st)
{
    static const char *const names[] = {
        [TCPS_CLOSED] = "CLOSED",         [TCPS_SYN_SENT] = "SYN_SENT",
        [TCPS_SYN_RCVD] = "SYN_RECEIVED", [TCPS_ESTABLISHED] = "ESTABLISHED",
        [TCPS_FIN_WAIT_1] = "FIN_WAIT_1", [TCPS_FIN_WAIT_2] = "FIN_WAIT_2",
        [TCPS_CLOSE_WAIT] = "CLOSE_WAIT", [TCPS_CLOSING] = "CLOSING",
        [TCPS_LAST_ACK] = "LAST_ACK",
    };

    static_assert(ARRAY_LEN(names) == TCPS_COUNT, "a name for each state");
    return names[st];
}

void tcp_conn_hash(struct engine *e, struct tcp_conn *c)
{
    struct flow_key k = tcp_conn_key(c);

    c->hash = flow_hash(&e->flows, &k);
    flow_add(&e->flows, c->hash, SOCK_ID(SK_TCP, tcp_conn_index(e, c)));
    c->flags |= TF_HASHED;
    e->tcp.ways[tcp_conn_index(e, c)].gen = 0; /* That of another connection, who used the record before. */
}

void tcp_conn_unhash(struct engine *e, struct tcp_conn *c)
{
    if (!(c->flags & TF_HASHED))
        return;
    flow_del(&e->flows, c->hash, SOCK_ID(SK_TCP, tcp_conn_index(e, c)));
    c->flags &= ~TF_HASHED;
}

/* RFC 6528: a clock of 4 us ticks plus a keyed hash of the four-tuple. */
uint32_t tcp_isn(struct engine *e, const struct flow_key *k, uint64_t now_us)
{
    uint64_t w[5];

    memcpy(&w[0], k->local.ip, 16);
    memcpy(&w[2], k->remote.ip, 16);
    w[4] = (uint64_t)k->lport << 16 | k->rport;
    return (uint32_t)sip_words(&e->tcp.isn_key, w, 5, 2, 4) + (uint32_t)(now_us >> 2);
}

/* RFC 7323 5.4: an offset per pair of hosts keeps the clock secret and yet monotonic between two of them. */
uint32_t tcp_ts_offset(const struct engine *e, const struct flow_key *k)
{
    uint64_t w[4];

    memcpy(&w[0], k->local.ip, 16);
    memcpy(&w[2], k->remote.ip, 16);
    return (uint32_t)sip_words(&e->tcp.ts_key, w, 4, 2, 4);
}

uint16_t tcp_link_mss(const struct engine *e, const struct ip_addr *remote)
{
    /* RFC 6691: fixed headers only */
    return (uint16_t)(net_mtu(e, remote) - net_hdr_bytes(remote->family) - TCP_HDR_BYTES);
}

uint16_t tcp_adv_mss(const struct engine *e, const struct ip_addr *remote)
{
    uint16_t mss = tcp_link_mss(e, remote);

    return e->cfg.mss_clamp && e->cfg.mss_clamp < mss ? e->cfg.mss_clamp : mss;
}

void tcp_conn_start(struct engine *e, struct tcp_conn *c, uint64_t now_us)
{
    uint32_t mss = tcp_mss_start(e, c);

    c->mss = (uint16_t)mss;
    c->rcv_mss = (uint16_t)(mss < RCV_MSS_START ? mss : RCV_MSS_START);
    c->cwnd = cc_initial_window(c);
    c->ssthresh = INT32_MAX;
    if (c->total_retrans && !c->srtt8_us)
        c->rto_us = RTO_AFTER_LOST_SYN_US; /* RFC 6298 5.7 */
    c->rcvd_us = now_us;
    c->data_rcvd_tick = (uint32_t)(now_us >> TCP_TICK_SHIFT);
    c->snd_sml = c->snd_una;
    cc_by_id(c->o.cc)->init(e, c);
    pace_option(e, c);
    c->s.pub_state = SG_ST_CONNECTED;
    tcp_keepalive_restart(e, c);
}

static void tx_list_remove(struct engine *e, struct tcp_conn *c)
{
    uint32_t i = tcp_conn_index(e, c);

    if (!(c->flags & TF_TX_LIST))
        return;
    if (c->tx_prev != NIL)
        e->tcp.conns[c->tx_prev].tx_next = c->tx_next;
    if (c->tx_next != NIL)
        e->tcp.conns[c->tx_next].tx_prev = c->tx_prev;
    /* The route may have changed since: the list is the one that it begins or ends. */
    for (uint32_t l = 0; (c->tx_prev == NIL || c->tx_next == NIL) && l < TCP_TX_LISTS; l++) {
        if (e->tcp.tx[l].head == i)
            e->tcp.tx[l].head = c->tx_next;
        if (e->tcp.tx[l].tail == i)
            e->tcp.tx[l].tail = c->tx_prev;
    }
    c->tx_next = c->tx_prev = NIL;
    c->flags &= ~TF_TX_LIST;
}

/* Everything is acknowledged and nothing will be read: the session's memory is needed no more, and a process
 * that died must not be remembered for as long as its peers take to close. */
void tcp_orphan_leave(struct engine *e, struct tcp_conn *c)
{
    ENG_ASSERT(c->flags & TF_ORPHAN && c->flags & TF_FIN_ACKED);
    if (c->s.heap_sid < 0)
        return;
    sock_region_put(e, &c->s, &c->s.rx);
    sock_region_put(e, &c->s, &c->s.tx);
    sock_session(e, c->s.heap_sid)->orphan_count--;
    sock_unlink(e, &c->s);
}

void tcp_conn_free(struct engine *e, struct tcp_conn *c)
{
    ENG_ASSERT(c->state == TCPS_CLOSED && !c->s.slot && !(c->flags & (TF_HASHED | TF_EMBRYO)));
    tx_list_remove(e, c);
    wheel_cancel(&e->wheel, node_of_conn(&e->cfg, tcp_conn_index(e, c)));
    sock_port_release(e, &c->s);
    if (c->s.heap_sid >= 0) {
        sock_region_put(e, &c->s, &c->s.rx);
        sock_region_put(e, &c->s, &c->s.tx);
        sock_session(e, c->s.heap_sid)->orphan_count--;
        sock_unlink(e, &c->s);
    }
    c->s.kind = SK_NONE;
    pool_put(&e->tcp.conn_pool, tcp_conn_index(e, c));
}

void tcp_conn_end(struct engine *e, struct tcp_conn *c, int error)
{
    tcp_conn_unhash(e, c);
    tx_list_remove(e, c);
    wheel_cancel(&e->wheel, node_of_conn(&e->cfg, tcp_conn_index(e, c)));
    c->rto_at_us = c->delack_at_us = c->keep_at_us = 0;
    c->rto_mode = RTO_OFF;
    tcp_flight_free(e, c);
    tcp_reass_free(e, c);
    cc_end(e, c);
    peers_unpin(e, &c->s);
    if (c->s.bind_flags & BIND_COUNT)
        sock_port_release(e, &c->s); /* A port that was bound by hand stays bound until close. */
    if (c->flags & TF_ORPHAN)
        tcp_orphan_over(e, c);
    if (tcp_fastopen_pending(c))
        tcp_fastopen_over(e, c, false);
    if (error == ECONNRESET && c->state >= TCPS_ESTABLISHED)
        stat_inc(&e->stats, ST_TCP_ESTAB_RESETS);
    if (c->state == TCPS_SYN_SENT || c->state == TCPS_SYN_RCVD)
        stat_inc(&e->stats, ST_TCP_ATTEMPT_FAILS);
    tcp_state_set(c, TCPS_CLOSED);
    c->s.pub_state = SG_ST_CLOSED;
    c->s.pub_flags |= SG_F_TX_SHUT;
    if (error) {
        c->s.error = (uint32_t)error;
        c->s.pub_flags |= SG_F_ERROR | (error == ECONNRESET ? SG_F_RX_RESET : 0);
    } else {
        c->s.pub_flags |= SG_F_RX_FIN;
    }
    if (c->s.slot)
        sock_dirty(e, &c->s);
    else if (!(c->flags & TF_EMBRYO))
        tcp_conn_free(e, c);
}

void tcp_conn_abort(struct engine *e, struct tcp_conn *c, int error)
{
    if (c->state >= TCPS_SYN_RCVD)
        tcp_send_rst(e, c);
    tcp_conn_end(e, c, error);
}

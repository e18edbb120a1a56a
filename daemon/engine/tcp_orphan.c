/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections whose application is gone: they send what is queued, then FIN, and go when the peer has closed,
 * or when their time is over. Their number and the bytes that they still hold are bounded; what is too many
 * is reset at once, and counted.
 */
#include "daemon/engine/engine_int.h"

static uint64_t unacked(const struct tcp_conn *c)
{
    return c->s.tx.tail - c->s.tx.head;
}

bool tcp_orphan_enter(struct engine *e, struct tcp_conn *c)
{
    struct tcp_table *t = &e->tcp;

    if (t->orphans >= e->cfg.orphan_max || t->orphan_bytes + unacked(c) > e->cfg.orphan_bytes_max) {
        stat_inc(&e->stats, ST_TCP_ABORT_ON_MEMORY);
        tcp_conn_abort(e, c, 0);
        return false;
    }
    t->orphans++;
    t->orphan_bytes += unacked(c);
    c->flags |= TF_ORPHAN;
    return true;
}

void tcp_orphan_acked(struct engine *e, uint32_t bytes)
{
    ENG_ASSERT(e->tcp.orphan_bytes >= bytes);
    e->tcp.orphan_bytes -= bytes;
}

void tcp_orphan_over(struct engine *e, const struct tcp_conn *c)
{
    ENG_ASSERT(e->tcp.orphans);
    e->tcp.orphans--;
    tcp_orphan_acked(e, (uint32_t)unacked(c));
}

bool tcp_orphan_fin_wait2(struct engine *e, struct tcp_conn *c)
{
    uint64_t us = c->o.fin_wait2_s ? (uint64_t)c->o.fin_wait2_s * 1000000 : e->cfg.fin_wait2_us;

    if (c->o.fin_wait2_s == TCP_FIN_WAIT2_NONE) { /* TCP_LINGER2 below 0: the peer's FIN is not waited for. */
        stat_inc(&e->stats, ST_TCP_ABORT_ON_LINGER);
        tcp_conn_abort(e, c, 0);
        return false;
    }
    tcp_orphan_leave(e, c);
    c->keep_at_us = e->now_us + us;
    tcp_timer_arm(e, c);
    return true;
}

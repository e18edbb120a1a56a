/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"

static void lru_add(struct engine *e, uint32_t i)
{
    struct tcp_table *t = &e->tcp;

    t->paths[i].lru_next = NIL;
    t->paths[i].lru_prev = t->path_newest;
    if (t->path_newest != NIL)
        t->paths[t->path_newest].lru_next = i;
    else
        t->path_oldest = i;
    t->path_newest = i;
}

static void lru_del(struct engine *e, uint32_t i)
{
    struct tcp_table *t = &e->tcp;
    struct cc_path *p = &t->paths[i];

    if (p->lru_prev != NIL)
        t->paths[p->lru_prev].lru_next = p->lru_next;
    else
        t->path_oldest = p->lru_next;
    if (p->lru_next != NIL)
        t->paths[p->lru_next].lru_prev = p->lru_prev;
    else
        t->path_newest = p->lru_prev;
}

void path_put(struct engine *e, struct tcp_conn *c)
{
    uint32_t i = c->path;

    if (i == NIL)
        return;
    lru_del(e, i);
    c->path = NIL;
    e->tcp.paths[i].conn = NIL;
    pool_put(&e->tcp.path_pool, i);
}

/* A free record, or that of the connection which sent longest ago, if that is long and all has arrived. */
static uint32_t record_get(struct engine *e)
{
    uint32_t i = pool_get(&e->tcp.path_pool);
    uint32_t oldest = e->tcp.path_oldest;
    struct tcp_conn *c;

    if (i != NIL || oldest == NIL)
        return i;
    c = &e->tcp.conns[e->tcp.paths[oldest].conn];
    if (tcp_flight(c) || e->now_us - e->tcp.paths[oldest].used_us < PATH_IDLE_US)
        return NIL;
    path_put(e, c);
    return pool_get(&e->tcp.path_pool);
}

bool path_get(struct engine *e, struct tcp_conn *c)
{
    uint32_t i;

    if (c->path != NIL)
        return true;
    i = record_get(e);
    if (i == NIL) {
        stat_inc(&e->stats, ST_TCP_PATH_EMPTY);
        return false;
    }
    e->tcp.paths[i] = (struct cc_path){.conn = tcp_conn_index(e, c),
                                       .rate = RATE_INFINITE,
                                       .quantum = UINT32_MAX,
                                       .used_us = e->now_us,
                                       .delivered_us = e->now_us,
                                       .first_sent_us = e->now_us};
    c->path = i;
    lru_add(e, i);
    /* Of what is in flight already, nothing was noted when it was sent. */
    for (uint32_t s = flight_of(e, c)->seg_head; s != NIL; s = e->tcp.segs[s].next)
        e->tcp.rates[s].delivered_us = 0;
    return true;
}

static void path_used(struct engine *e, struct tcp_conn *c)
{
    path_of(e, c)->used_us = e->now_us;
    if (e->tcp.path_newest == c->path)
        return;
    lru_del(e, c->path);
    lru_add(e, c->path);
}

const char *path_check(const struct engine *e)
{
    const struct tcp_table *t = &e->tcp;
    uint32_t prev = NIL, count = 0;

    for (uint32_t i = t->path_oldest; i != NIL; prev = i, i = t->paths[i].lru_next) {
        const struct cc_path *p = &t->paths[i];

        if (++count > e->cfg.path_max || p->lru_prev != prev || p->conn == NIL || t->conns[p->conn].path != i)
            return "the list of path records is broken";
    }
    if (t->path_newest != prev)
        return "the list of path records has a false end";
    return t->path_pool.free_count + count == t->path_pool.count ? NULL : "path records leak";
}

/* ---- Pacing -------------------------------------------------------------------------------------------- */

#define NS_PER_S     UINT64_C(1000000000)
#define QUANTA_PER_S 1000u /* draft 5.6.3: what is sent in a millisecond goes at once */
#define QUANTUM_MAX  65536u
#define RATE_MIN     UINT64_C(1000) /* bytes a second: below, one segment would take seconds */

bool pace_ok(struct engine *e, struct tcp_conn *c)
{
    struct cc_path *p = path_of(e, c);

    if (p->rate == RATE_INFINITE || p->next_ns <= e->now_us * 1000 + PACE_SLACK_NS)
        return true;
    p->wake_us = (p->next_ns - PACE_SLACK_NS) / 1000 + 1;
    p->behind = true;
    tcp_timer_arm(e, c);
    return false;
}

uint32_t pace_quantum(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t q = path_of(e, c)->quantum;

    return q < 2u * c->mss ? 2u * c->mss : q;
}

void pace_sent(struct engine *e, struct tcp_conn *c, uint32_t bytes)
{
    struct cc_path *p = path_of(e, c);
    uint64_t now_ns = e->now_us * 1000, credit = p->behind ? PACE_CREDIT_NS : 0;

    path_used(e, c);
    if (p->rate == RATE_INFINITE)
        return;
    if (p->next_ns + credit < now_ns)
        p->next_ns = now_ns - credit;
    p->next_ns += bytes * NS_PER_S / p->rate;
}

void pace_set_rate(struct engine *e, struct tcp_conn *c, uint64_t rate)
{
    struct cc_path *p = path_of(e, c);
    uint64_t quantum;

    if (c->o.pacing_max && rate > c->o.pacing_max)
        rate = c->o.pacing_max;
    if (rate < RATE_MIN)
        rate = RATE_MIN;
    p->rate = rate;
    quantum = rate / QUANTA_PER_S;
    p->quantum = quantum < QUANTUM_MAX ? (uint32_t)quantum : QUANTUM_MAX;
}

void pace_timer(struct engine *e, struct tcp_conn *c)
{
    struct cc_path *p = path_of(e, c);

    if (!p->wake_us || e->now_us < p->wake_us)
        return;
    p->wake_us = 0;
    tcp_output_schedule(e, c);
}

void pace_option(struct engine *e, struct tcp_conn *c)
{
    const struct cc_ops *cc = cc_by_id(c->o.cc);

    if (c->state < TCPS_ESTABLISHED || cc->control)
        return; /* BBR bounds its rate by the option at the next ACK. */
    if (!c->o.pacing_max)
        path_put(e, c);
    else if (path_get(e, c))
        pace_set_rate(e, c, RATE_INFINITE);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters for people: what is not done in passing (tcp_tally.h).
 */
#include "daemon/engine/engine_int.h"

struct tcp_rare *tcp_rare_of(struct engine *e, struct tcp_conn *c)
{
    struct tcp_rare *r = &e->tcp.rares[tcp_conn_index(e, c)];

    if (!(c->flags & TF_RARE)) {
        memset(r, 0, sizeof(*r));
        c->flags |= TF_RARE;
    }
    return r;
}

const struct tcp_rare *tcp_rare_get(const struct engine *e, const struct tcp_conn *c)
{
    static const struct tcp_rare none;

    return c->flags & TF_RARE ? &e->tcp.rares[tcp_conn_index(e, c)] : &none;
}

void tally_limited(struct engine *e, struct tcp_conn *c, uint32_t ticks)
{
    if (tally_limit(c) == LIMIT_RWND)
        tcp_rare_of(e, c)->rwnd_ticks += ticks;
    else
        tcp_rare_of(e, c)->sndbuf_ticks += ticks;
}

void tally_reorder(struct engine *e, struct tcp_conn *c, uint32_t late)
{
    struct tcp_rare *r = tcp_rare_of(e, c);
    uint32_t segs = c->mss ? (late + c->mss - 1) / c->mss : 1;

    r->reord_seen++;
    if (segs > r->reordering)
        r->reordering = segs < UINT16_MAX ? (uint16_t)segs : UINT16_MAX;
}

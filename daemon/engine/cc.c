/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"

static const struct cc_ops *const all[CC_COUNT] = {
    [CC_CUBIC] = &cc_cubic, [CC_RENO] = &cc_newreno, [CC_BBR] = &cc_bbr};

const struct cc_ops *cc_by_id(uint8_t id)
{
    ENG_ASSERT(id < CC_COUNT);
    return all[id];
}

void cc_end(struct engine *e, struct tcp_conn *c)
{
    path_put(e, c);
}

void cc_change(struct engine *e, struct tcp_conn *c, uint8_t id)
{
    const struct cc_ops *old = cc_by_id(c->o.cc);

    if (id == c->o.cc)
        return;
    c->o.cc = id;
    if (c->state < TCPS_ESTABLISHED)
        return;
    if (old->release)
        old->release(e, c);
    cc_by_id(id)->init(e, c);
}

uint64_t cc_name(uint8_t id)
{
    const char *s = cc_by_id(id)->name;
    uint64_t name = 0;

    for (unsigned i = 0; s[i]; i++)
        name |= (uint64_t)(uint8_t)s[i] << 8 * i;
    return name;
}

uint8_t cc_find(uint64_t name)
{
    uint8_t id = 0;

    while (id < CC_COUNT && cc_name(id) != name)
        id++;
    return id;
}

uint32_t cc_initial_window(const struct tcp_conn *c)
{
    /* RFC 6928; RFC 5681 3.1 wants one segment after a lost SYN, Linux after more than one. */
    return c->total_retrans > 1 && !c->s.tx.head ? c->mss : 10u * c->mss;
}

void cc_restart_after_idle(const struct engine *e, struct tcp_conn *c)
{
    uint32_t floor = 10u * c->mss;
    uint32_t keep = c->cwnd / 4 * 3;
    uint64_t idle;

    if (!e->cfg.idle_restart || cc_by_id(c->o.cc)->control || !c->sent_us || tcp_flight(c) ||
        c->cwnd <= floor)
        return;
    idle = e->now_us - c->sent_us;
    if (idle <= c->rto_us)
        return;
    /* RFC 2861 3: half of it is lost with each time-out that passes; slow start may win it back quickly. */
    if (c->ssthresh < keep)
        c->ssthresh = keep;
    for (; idle > c->rto_us && c->cwnd > floor; idle -= c->rto_us)
        c->cwnd /= 2;
    if (c->cwnd < floor)
        c->cwnd = floor;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packetization-layer path MTU discovery (RFC 4821): the search range of each destination. What TCP sends as
 * a probe, and how it judges one, is in tcp_probe.c.
 */
#include "daemon/engine/engine_int.h"

/* A range smaller than this is not worth another probe. */
#define RANGE_MIN     8u
/* A probe may be lost for another reason than its size (RFC 4821 7.6.1). */
#define FAILS_MAX     2u
/* The connection that probed may have ended since. */
#define PROBE_LIFE_US 30000000u

static uint16_t base_of(const struct ip_addr *dst)
{
    return dst->family == SG_AF_INET6 ? PMTU_BASE6 : PMTU_BASE4;
}

static uint16_t floor_of(const struct ip_addr *dst)
{
    return dst->family == SG_AF_INET6 ? PMTU_MIN6 : PMTU_MIN4;
}

uint16_t pmtu_tcp(const struct engine *e, const struct ip_addr *dst)
{
    const struct pmtu_entry *n = pmtu_find(e, dst);
    uint16_t mtu = pmtu_get(e, dst);

    return n && n->low && n->low < mtu ? n->low : mtu;
}

void pmtu_search_set(struct pmtu_table *t, struct pmtu_entry *n, bool searching)
{
    t->searching += searching;
    t->searching -= n->searching;
    n->searching = searching;
}

/* From `low` up to `high`, upper end first. */
static void begin(struct engine *e, struct pmtu_entry *n, uint16_t low, uint16_t high)
{
    n->low = low;
    n->high = high;
    n->probe = 0;
    n->fails = 0;
    n->top_tried = false;
    pmtu_search_set(&e->pmtu, n, high > low);
    pmtu_renew(e, n);
    e->pmtu.changes++;
}

void pmtu_search(struct engine *e, const struct ip_addr *dst)
{
    const struct pmtu_entry *n = pmtu_find(e, dst);
    uint16_t top = pmtu_get(e, dst);

    if ((n && n->low) || net_is_own(e, dst) || top <= base_of(dst))
        return;
    begin(e, pmtu_make(e, dst), base_of(dst), top);
}

bool pmtu_black_hole(struct engine *e, const struct ip_addr *dst, uint32_t bytes)
{
    uint16_t now = pmtu_tcp(e, dst), low = base_of(dst), high;
    struct pmtu_entry *n;

    if (now <= low)
        low = now / 2 > floor_of(dst) ? now / 2 : floor_of(dst);
    if (bytes <= low || low >= now)
        return false;
    n = pmtu_make(e, dst);
    high = n->low && n->high > now ? n->high : now;
    begin(e, n, low, high);
    stat_inc(&e->stats, ST_TCP_MTU_BLACK_HOLES);
    return true;
}

uint16_t pmtu_probe_size(struct engine *e, const struct ip_addr *dst, uint32_t max)
{
    const struct pmtu_entry *n = pmtu_find(e, dst);
    uint16_t top;

    if (!n || !n->searching || (n->probe && e->now_us - n->probe_us < PROBE_LIFE_US))
        return 0;
    top = max < n->high ? (uint16_t)max : n->high;
    if (top <= n->low)
        return 0;
    return n->top_tried ? (uint16_t)(n->low + (top - n->low + 1u) / 2) : top;
}

void pmtu_probe_sent(struct engine *e, const struct ip_addr *dst, uint16_t bytes)
{
    struct pmtu_entry *n = pmtu_find_mut(e, dst);

    n->probe = bytes;
    n->probe_us = e->now_us;
}

void pmtu_probe_over(struct engine *e, const struct ip_addr *dst, enum pmtu_outcome o)
{
    struct pmtu_entry *n = pmtu_find_mut(e, dst);
    uint16_t bytes = n ? n->probe : 0;

    if (!bytes)
        return; /* It was given up, or the entry had to go. */
    n->probe = 0;
    if (o == PMTU_PROBE_UNCLEAR)
        return;
    if (o == PMTU_PROBE_ARRIVED) {
        stat_inc(&e->stats, ST_TCP_MTUP_SUCCESS);
        n->low = bytes > n->low ? bytes : n->low;
        n->high = n->high > n->low ? n->high : n->low;
        n->fails = 0;
        e->pmtu.changes++;
    } else {
        stat_inc(&e->stats, ST_TCP_MTUP_FAIL);
        if (bytes > n->high || bytes <= n->low)
            return; /* ICMP has said more meanwhile. */
        if (++n->fails < FAILS_MAX)
            return;
        n->fails = 0;
        n->high = bytes - 1;
        n->top_tried = true;
    }
    pmtu_search_set(&e->pmtu, n, n->top_tried ? n->high - n->low >= (int)RANGE_MIN : n->high > n->low);
    pmtu_renew(e, n);
}

bool pmtu_search_again(struct engine *e, struct pmtu_entry *n)
{
    uint16_t link = net_mtu(e, &n->addr);

    /* Nobody has sent enough to go on with the search, or there was none. */
    if (!n->low || n->searching || n->low >= link)
        return false;
    n->mtu = 0;
    begin(e, n, n->low, link);
    return true;
}

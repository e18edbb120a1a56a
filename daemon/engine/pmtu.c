/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/pmtu.h"

#include "daemon/engine/engine_int.h"

void pmtu_init(struct pmtu_table *t, const struct sip_key *key)
{
    *t = (struct pmtu_table){.key = *key, .expiry_us = UINT64_MAX};
}

/* Keyed: nobody can aim at another destination's set. */
static uint32_t set_of(const struct pmtu_table *t, const struct ip_addr *a)
{
    uint64_t w[3] = {0, 0, a->family};

    memcpy(w, a->ip, 16);
    return (uint32_t)sip_words(&t->key, w, ARRAY_LEN(w), 1, 3) % PMTU_SETS;
}

static bool is_for(const struct pmtu_entry *n, const struct ip_addr *a)
{
    return n->addr.family && ip_addr_eq(&n->addr, a) && n->addr.scope == a->scope;
}

const struct pmtu_entry *pmtu_find(const struct engine *e, const struct ip_addr *dst)
{
    const struct pmtu_table *t = &e->pmtu;
    const struct pmtu_entry *set;

    if (t->expiry_us == UINT64_MAX)
        return NULL;
    set = t->entry[set_of(t, dst)];
    for (unsigned i = 0; i < PMTU_WAYS; i++)
        if (is_for(&set[i], dst))
            return &set[i];
    return NULL;
}

struct pmtu_entry *pmtu_find_mut(struct engine *e, const struct ip_addr *dst)
{
    const struct pmtu_entry *n = pmtu_find(e, dst);

    return n ? &e->pmtu.entry[0][0] + (n - &e->pmtu.entry[0][0]) : NULL;
}

uint16_t pmtu_get(const struct engine *e, const struct ip_addr *dst)
{
    const struct pmtu_entry *n = pmtu_find(e, dst);
    uint16_t link = net_mtu(e, dst);

    return n && n->mtu && n->mtu < link ? (uint16_t)n->mtu : link;
}

/* The entry of `dst`, or the one of its set that goes for it: a free one, else the one that expires first. */
static struct pmtu_entry *entry_for(struct pmtu_table *t, const struct ip_addr *dst)
{
    struct pmtu_entry *set = t->entry[set_of(t, dst)];
    struct pmtu_entry *victim = &set[0];

    for (unsigned i = 0; i < PMTU_WAYS; i++) {
        if (is_for(&set[i], dst))
            return &set[i];
        if (victim->addr.family && (!set[i].addr.family || set[i].expires_us < victim->expires_us))
            victim = &set[i];
    }
    return victim;
}

struct pmtu_entry *pmtu_make(struct engine *e, const struct ip_addr *dst)
{
    struct pmtu_entry *n = entry_for(&e->pmtu, dst);

    if (is_for(n, dst))
        return n;
    pmtu_search_set(&e->pmtu, n, false);
    *n = (struct pmtu_entry){.addr = *dst};
    return n;
}

void pmtu_renew(struct engine *e, struct pmtu_entry *n)
{
    n->expires_us = e->now_us + (uint64_t)e->cfg.pmtu_expires_s * 1000000;
    if (n->expires_us < e->pmtu.expiry_us)
        e->pmtu.expiry_us = n->expires_us;
}

void pmtu_lower(struct engine *e, const struct ip_addr *dst, uint32_t mtu)
{
    struct pmtu_entry *n = pmtu_make(e, dst);

    n->mtu = mtu;
    if (n->low && mtu < n->high) { /* The search has an upper end that is worth a try. */
        n->high = (uint16_t)mtu;
        n->low = n->low < n->high ? n->low : n->high;
        n->top_tried = false;
        n->fails = 0;
    }
    pmtu_renew(e, n);
    e->pmtu.changes++;
    stat_inc(&e->stats, ST_PMTU_LOWERED);
}

/* RFC 1191 5 and 7: routers of old don't say how much fits; the next common size below is tried. */
static uint32_t plateau_below(uint32_t bytes)
{
    static const uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1280, 1006, 576};

    for (unsigned i = 0; i < ARRAY_LEN(plateaus); i++)
        if (plateaus[i] < bytes)
            return plateaus[i];
    return 0;
}

bool pmtu_too_big(struct engine *e, const struct ip_addr *dst, uint32_t mtu, uint32_t quoted)
{
    uint32_t min = dst->family == SG_AF_INET6 ? PMTU_MIN6 : PMTU_MIN4;
    uint32_t now = pmtu_get(e, dst);

    if (!mtu)
        mtu = plateau_below(quoted ? quoted : now);
    if (mtu < min)
        mtu = min;
    /* It can't have been too long for what it fits, nor longer than what we send. */
    if (quoted && (mtu >= quoted || quoted > net_mtu(e, dst)))
        goto lie;
    if (mtu >= now)
        goto lie; /* Or it comes late: another said so before. */
    pmtu_lower(e, dst, mtu);
    return true;

lie:
    stat_inc(&e->stats, ST_PMTU_IGNORED);
    return false;
}

void pmtu_timers(struct engine *e)
{
    struct pmtu_table *t = &e->pmtu;
    struct pmtu_entry *all = &t->entry[0][0];

    if (e->now_us < t->expiry_us)
        return;
    t->expiry_us = UINT64_MAX;
    for (unsigned i = 0; i < PMTU_SETS * PMTU_WAYS; i++) {
        if (!all[i].addr.family)
            continue;
        if (all[i].expires_us <= e->now_us && !pmtu_search_again(e, &all[i])) {
            pmtu_search_set(t, &all[i], false);
            all[i].addr.family = 0;
            t->changes++;
        } else if (all[i].expires_us < t->expiry_us) {
            t->expiry_us = all[i].expires_us;
        }
    }
}

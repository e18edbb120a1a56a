/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/igmp.h"

#include <errno.h>

#define KEY_MCAST UINT64_C(0x6d63617374)

/* A set of sources under construction. */
struct sources {
    uint32_t v[MCAST_GROUP_SOURCES_MAX];
    uint32_t count;
};

/* ---- Tables ----------------------------------------------------------------------------------- */

size_t mcast_arena_bytes(void)
{
    return MCAST_MEMBERS_MAX * sizeof(struct mcast_member);
}

size_t mcast_bytes(void)
{
    return MCAST_GROUPS_MAX * sizeof(struct mcast_group);
}

static struct mcast_group *group_find(const struct mcast_state *m, uint32_t group4)
{
    for (uint32_t i = 0; i < MCAST_GROUPS_MAX; i++)
        if (m->groups[i].addr == group4)
            return &m->groups[i];
    return NULL;
}

/* The group's record, a new one if there is none. A group that is only being left makes way. NULL: full. */
static struct mcast_group *group_get(struct mcast_state *m, uint32_t group4)
{
    struct mcast_group *g = group_find(m, group4);

    for (uint32_t i = 0; i < MCAST_GROUPS_MAX && !g; i++)
        if (!m->groups[i].addr)
            g = &m->groups[i];
    for (uint32_t i = 0; i < MCAST_GROUPS_MAX && !g; i++)
        if (!m->groups[i].members)
            g = &m->groups[i];
    if (g && g->addr != group4)
        *g = (struct mcast_group){.addr = group4};
    return g;
}

uint64_t mcast_delay(struct engine *e, uint64_t max_us)
{
    uint64_t w[2] = {e->now_us, e->mcast.draws++};

    return 1 + sip_words(&e->mcast.key, w, ARRAY_LEN(w), 2, 4) % (max_us ? max_us : 1);
}

bool mcast_receives(const struct mcast_group *g)
{
    bool any = g->exclude;

    for (uint32_t i = 0; i < g->source_count; i++)
        any |= g->src[i].listed;
    return any;
}

void mcast_group_clean(struct mcast_group *g)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < g->source_count; i++)
        if (g->src[i].listed || g->src[i].reports)
            g->src[n++] = g->src[i];
    g->source_count = (uint8_t)n;
    if (!g->members && !g->change_us)
        *g = (struct mcast_group){0};
}

/* ---- The host's filter for a group (RFC 3376 3.2) --------------------------------------------- */

static bool has(const struct sources *s, uint32_t addr)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->v[i] == addr)
            return true;
    return false;
}

static bool lists(const struct mcast_member *m, uint32_t addr)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (m->src[i] == addr)
            return true;
    return false;
}

static bool is_member(const struct mcast_state *m, uint32_t i, const struct mcast_group *g)
{
    return m->members[i].group4 == g->addr;
}

/* Is the source excluded by every membership that excludes, and included by none? */
static bool excluded_by_all(const struct mcast_state *m, const struct mcast_group *g, uint32_t addr)
{
    for (uint32_t i = 0; i < MCAST_MEMBERS_MAX; i++)
        if (is_member(m, i, g) && lists(&m->members[i], addr) != (bool)m->members[i].exclude)
            return false;
    return true;
}

/* All sources that memberships of the group include. False: more than a group may have. */
static bool merge_includes(const struct mcast_state *m, const struct mcast_group *g, struct sources *ret)
{
    ret->count = 0;
    for (uint32_t i = 0; i < MCAST_MEMBERS_MAX; i++) {
        const struct mcast_member *mm = &m->members[i];

        for (uint32_t k = 0; is_member(m, i, g) && !mm->exclude && k < mm->count; k++) {
            if (has(ret, mm->src[k]))
                continue;
            if (ret->count == MCAST_GROUP_SOURCES_MAX / 2)
                return false;
            ret->v[ret->count++] = mm->src[k];
        }
    }
    return true;
}

/* What an excluding membership excludes and no other wants. */
static void merge_excludes(const struct mcast_state *m, const struct mcast_group *g,
                           const struct mcast_member *first, struct sources *ret)
{
    ret->count = 0;
    for (uint32_t k = 0; k < first->count; k++)
        if (excluded_by_all(m, g, first->src[k]))
            ret->v[ret->count++] = first->src[k];
}

/*
 * What the memberships want together. False: more sources than a group may have. The includes are counted
 * even while an excluding membership makes them needless, so that its end can't fail.
 */
static bool merge(const struct mcast_state *m, const struct mcast_group *g, bool *exclude,
                  struct sources *ret)
{
    const struct mcast_member *first = NULL;

    if (!merge_includes(m, g, ret))
        return false;
    for (uint32_t i = 0; i < MCAST_MEMBERS_MAX && !first; i++)
        if (is_member(m, i, g) && m->members[i].exclude)
            first = &m->members[i];
    *exclude = first;
    if (first)
        merge_excludes(m, g, first, ret);
    return true;
}

/* The entry of a source, a new one if there is none; when all are in use, one that is only told of goes. */
static struct mcast_source *source_get(struct mcast_group *g, uint32_t addr)
{
    for (uint32_t i = 0; i < g->source_count; i++)
        if (g->src[i].addr == addr)
            return &g->src[i];
    if (g->source_count < MCAST_GROUP_SOURCES_MAX) {
        g->src[g->source_count] = (struct mcast_source){.addr = addr};
        return &g->src[g->source_count++];
    }
    for (uint32_t i = 0; i < g->source_count; i++) {
        if (g->src[i].listed)
            continue;
        g->src[i] = (struct mcast_source){.addr = addr};
        return &g->src[i];
    }
    ENG_ASSERT(false); /* No more than half of them are listed. */
    return NULL;
}

/* Bring the group's record up to the new filter, and say what changed. */
static void apply(struct engine *e, struct mcast_group *g, bool exclude, const struct sources *set)
{
    uint8_t times = e->mcast.robustness;
    bool new_mode = g->exclude != exclude, changed = new_mode;

    if (new_mode)
        g->mode_reports = times;
    g->exclude = exclude;
    for (uint32_t i = 0; i < g->source_count; i++) {
        struct mcast_source *s = &g->src[i];

        if (s->listed && !has(set, s->addr)) {
            s->listed = 0;
            s->reports = times;
            changed = true;
        }
        if (new_mode)
            s->reports = 0; /* The new mode's list says all (RFC 3376 5.1). */
    }
    for (uint32_t i = 0; i < set->count; i++) {
        struct mcast_source *s = source_get(g, set->v[i]);

        if (!s->listed) {
            s->listed = 1;
            s->reports = new_mode ? 0 : times;
            changed = true;
        }
    }
    if (changed)
        igmp_changed(e, g);
    mcast_group_clean(g);
}

/* False: the members want more sources than there is room for; nothing was changed. */
static bool update(struct engine *e, struct mcast_group *g)
{
    struct sources set;
    bool exclude;

    if (!merge(&e->mcast, g, &exclude, &set))
        return false;
    apply(e, g, exclude, &set);
    return true;
}

/* ---- Memberships ------------------------------------------------------------------------------ */

static struct mcast_member *member_find(const struct mcast_state *m, const struct udp_sock *u,
                                        uint32_t group4)
{
    for (uint32_t i = u->groups; i != NIL; i = m->members[i].next)
        if (m->members[i].group4 == group4)
            return &m->members[i];
    return NULL;
}

static void member_drop(struct engine *e, struct udp_sock *u, struct mcast_member *mm)
{
    struct mcast_state *m = &e->mcast;
    uint32_t index = (uint32_t)(mm - m->members), *at = &u->groups;
    struct mcast_group *g = group_find(m, mm->group4);

    while (*at != index) {
        ENG_ASSERT(*at != NIL);
        at = &m->members[*at].next;
    }
    *at = mm->next;
    *mm = (struct mcast_member){.next = m->free};
    m->free = index;
    g->members--;
    ENG_ASSERT(update(e, g)); /* Fewer members have fewer sources. */
}

static uint32_t member_count(const struct mcast_state *m, const struct udp_sock *u)
{
    uint32_t n = 0;

    for (uint32_t i = u->groups; i != NIL; i = m->members[i].next)
        n++;
    return n;
}

static int member_add(struct engine *e, struct udp_sock *u, uint32_t group4, bool exclude, uint32_t src)
{
    struct mcast_state *m = &e->mcast;
    struct mcast_group *g;
    struct mcast_member *mm;

    if (member_count(m, u) >= MCAST_SOCK_MAX || m->free == NIL) {
        stat_inc(&e->stats, ST_MCAST_LIMIT);
        return -ENOBUFS;
    }
    g = group_get(m, group4);
    if (!g) {
        stat_inc(&e->stats, ST_MCAST_LIMIT);
        return -ENOBUFS;
    }
    mm = &m->members[m->free];
    m->free = mm->next;
    *mm = (struct mcast_member){
        .group4 = group4, .sock = udp_index(&e->udp, u), .next = u->groups, .exclude = exclude};
    if (!exclude)
        mm->src[mm->count++] = src;
    u->groups = (uint32_t)(mm - m->members);
    g->members++;
    if (update(e, g))
        return 0;
    stat_inc(&e->stats, ST_MCAST_LIMIT);
    member_drop(e, u, mm);
    return -ENOBUFS;
}

/* Add a source to, or take one from, what a membership lists. */
static int source_set(struct engine *e, struct mcast_member *mm, uint32_t src, bool list)
{
    struct mcast_member before = *mm;
    uint32_t i = 0;

    while (i < mm->count && mm->src[i] != src)
        i++;
    if ((i < mm->count) == list)
        return -EADDRNOTAVAIL;
    if (list && mm->count == MCAST_SOURCES_MAX)
        goto full;
    if (list)
        mm->src[mm->count++] = src;
    else
        mm->src[i] = mm->src[--mm->count];
    if (update(e, group_find(&e->mcast, mm->group4)))
        return 0;
    *mm = before;
full:
    stat_inc(&e->stats, ST_MCAST_LIMIT);
    return -ENOBUFS;
}

/* An "only these sources" membership that has lost its last one is none. */
static int source_leave(struct engine *e, struct udp_sock *u, struct mcast_member *mm, uint32_t src)
{
    if (!mm || !lists(mm, src))
        return -EADDRNOTAVAIL;
    if (mm->exclude)
        return -EINVAL;
    if (mm->count > 1)
        return source_set(e, mm, src, false);
    member_drop(e, u, mm);
    return 0;
}

void mcast_leave_all(struct engine *e, struct udp_sock *u)
{
    while (u->groups != NIL)
        member_drop(e, u, &e->mcast.members[u->groups]);
}

int mcast_setopt(struct engine *e, struct udp_sock *u, uint32_t name, const struct engine_mreq *r)
{
    uint32_t group = get_be32(r->group), src = get_be32(r->source);
    struct ip_addr interface = net_ip_addr(get_be32(r->interface));
    struct mcast_member *mm;

    if (!net_is_multicast4(group))
        return -EINVAL;
    if (get_be32(r->interface) && !net_is_own(e, &interface))
        return -ENODEV;
    mm = member_find(&e->mcast, u, group);
    switch (name) {
    case MCAST_ADD:
        return mm ? -EADDRINUSE : member_add(e, u, group, true, 0);
    case MCAST_DROP:
        if (!mm)
            return -EADDRNOTAVAIL;
        member_drop(e, u, mm);
        return 0;
    case MCAST_ADD_SOURCE:
        if (!mm)
            return member_add(e, u, group, false, src);
        return mm->exclude ? -EINVAL : source_set(e, mm, src, true);
    case MCAST_DROP_SOURCE:
        return source_leave(e, u, mm, src);
    case MCAST_BLOCK:
    case MCAST_UNBLOCK:
        if (!mm || !mm->exclude)
            return -EINVAL;
        return source_set(e, mm, src, name == MCAST_BLOCK);
    default:
        return -ENOPROTOOPT;
    }
}

/* ---- Who hears -------------------------------------------------------------------------------- */

bool mcast_listens(const struct engine *e, uint32_t group4)
{
    const struct mcast_group *g = group_find(&e->mcast, group4);

    return group4 == IGMP_ALL_HOSTS || (g && g->members);
}

bool mcast_hears(const struct engine *e, const struct udp_sock *u, uint32_t group4, uint32_t src4)
{
    const struct mcast_member *mm = member_find(&e->mcast, u, group4);

    return mm && lists(mm, src4) != (bool)mm->exclude;
}

/* ---- Time, checks ----------------------------------------------------------------------------- */

void mcast_init(struct engine *e, void *arena, void *mem)
{
    struct mcast_state *m = &e->mcast;

    *m = (struct mcast_state){
        .members = arena,
        .groups = mem,
        .free = NIL,
        .key = net_key(&e->cfg, KEY_MCAST),
        .robustness = 2,   /* RFC 3376 8.1 */
        .interval_s = 125, /* 8.2 */
        .next_us = UINT64_MAX,
    };
    for (uint32_t i = MCAST_MEMBERS_MAX; i-- > 0;) {
        struct mcast_member *mm = &m->members[i];
        struct mcast_group *g;

        if (!mm->group4) {
            *mm = (struct mcast_member){.next = m->free};
            m->free = i;
            continue;
        }
        g = group_get(m, mm->group4);
        ENG_ASSERT(g && update(e, g)); /* There was room for them before. */
        g->members++;
    }
}

uint64_t mcast_deadline(const struct engine *e)
{
    return e->mcast.next_us;
}

const char *mcast_check(const struct engine *e)
{
    const struct mcast_state *m = &e->mcast;
    uint32_t listed = 0, in_groups = 0, used = 0;

    for (uint32_t i = 0; i < MCAST_MEMBERS_MAX; i++)
        used += m->members[i].group4 != 0;
    for (uint32_t i = 0; i < e->udp.count; i++)
        if (e->udp.socks[i].s.kind == SK_UDP)
            listed += member_count(m, &e->udp.socks[i]);
    for (uint32_t i = 0; i < MCAST_GROUPS_MAX; i++)
        in_groups += m->groups[i].members;
    if (used != listed)
        return "memberships are lost";
    return used == in_groups ? NULL : "groups count other members than there are";
}

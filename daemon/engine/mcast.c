/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/igmp.h"
#include "daemon/engine/wire/ip6.h"

#include <errno.h>

#define KEY_MCAST UINT64_C(0x6d63617374)

/* A set of sources under construction. */
struct sources {
    struct mcast_ip v[MCAST_GROUP_SOURCES_MAX];
    uint32_t count;
};

/* ---- Tables ----------------------------------------------------------------------------------- */

size_t mcast_arena_bytes(void)
{
    return MCAST_MEMBERS_MAX * sizeof(struct mcast_member);
}

size_t mcast_bytes(void)
{
    return MCAST_TABLE * sizeof(struct mcast_group);
}

static bool same(const struct mcast_ip *a, const struct mcast_ip *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static struct mcast_ip ip_of(const struct ip_addr *a)
{
    struct mcast_ip r = {{0}};

    memcpy(r.b, a->ip, a->family == SG_AF_INET6 ? 16 : 4);
    return r;
}

struct mcast_group *mcast_group_find(const struct mcast_state *m, const struct ip_addr *group)
{
    for (uint32_t i = 0; i < MCAST_TABLE; i++)
        if (m->groups[i].addr.family && ip_addr_eq(&m->groups[i].addr, group))
            return &m->groups[i];
    return NULL;
}

/* The group's record, a new one among the first `count` if there is none. A group that is only being left
 * makes way. NULL: full. */
static struct mcast_group *group_get(struct mcast_state *m, const struct ip_addr *group, uint32_t count)
{
    struct mcast_group *g = mcast_group_find(m, group);

    if (g)
        return g;
    for (uint32_t i = 0; i < count && !g; i++)
        if (!m->groups[i].addr.family)
            g = &m->groups[i];
    for (uint32_t i = 0; i < count && !g; i++)
        if (!m->groups[i].members && !m->groups[i].own)
            g = &m->groups[i];
    if (g)
        *g = (struct mcast_group){.addr = *group};
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
    if (!g->members && !g->own && !g->change_us)
        *g = (struct mcast_group){0};
}

/* ---- The host's filter for a group (RFC 3376 3.2) --------------------------------------------- */

static bool has(const struct sources *s, const struct mcast_ip *addr)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (same(&s->v[i], addr))
            return true;
    return false;
}

static bool lists(const struct mcast_member *m, const struct mcast_ip *addr)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (same(&m->src[i], addr))
            return true;
    return false;
}

static bool is_member(const struct mcast_state *m, uint32_t i, const struct mcast_group *g)
{
    return m->members[i].group.family && ip_addr_eq(&m->members[i].group, &g->addr);
}

/* Is the source excluded by every membership that excludes, and included by none? */
static bool excluded_by_all(const struct mcast_state *m, const struct mcast_group *g,
                            const struct mcast_ip *addr)
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
            if (has(ret, &mm->src[k]))
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
        if (excluded_by_all(m, g, &first->src[k]))
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
    *exclude = first || g->own;
    if (g->own) /* The host itself takes all sources. */
        ret->count = 0;
    else if (first)
        merge_excludes(m, g, first, ret);
    return true;
}

/* The entry of a source, a new one if there is none; when all are in use, one that is only told of goes. */
static struct mcast_source *source_get(struct mcast_group *g, const struct mcast_ip *addr)
{
    for (uint32_t i = 0; i < g->source_count; i++)
        if (same(&g->src[i].addr, addr))
            return &g->src[i];
    if (g->source_count < MCAST_GROUP_SOURCES_MAX) {
        g->src[g->source_count] = (struct mcast_source){.addr = *addr};
        return &g->src[g->source_count++];
    }
    for (uint32_t i = 0; i < g->source_count; i++) {
        if (g->src[i].listed)
            continue;
        g->src[i] = (struct mcast_source){.addr = *addr};
        return &g->src[i];
    }
    ENG_ASSERT(false); /* No more than half of them are listed. */
    return NULL;
}

/* Bring the group's record up to the new filter, and say what changed. */
static void apply(struct engine *e, struct mcast_group *g, bool exclude, const struct sources *set)
{
    uint8_t times = mcast_link(&e->mcast, &g->addr)->robustness;
    bool new_mode = g->exclude != exclude, changed = new_mode;

    if (new_mode)
        g->mode_reports = times;
    g->exclude = exclude;
    for (uint32_t i = 0; i < g->source_count; i++) {
        struct mcast_source *s = &g->src[i];

        if (s->listed && !has(set, &s->addr)) {
            s->listed = 0;
            s->reports = times;
            changed = true;
        }
        if (new_mode)
            s->reports = 0; /* The new mode's list says all (RFC 3376 5.1). */
    }
    for (uint32_t i = 0; i < set->count; i++) {
        struct mcast_source *s = source_get(g, &set->v[i]);

        if (!s->listed) {
            s->listed = 1;
            s->reports = new_mode ? 0 : times;
            changed = true;
        }
    }
    if (changed)
        mcast_changed(e, g);
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

/* Scope 0 of `group`: on whichever interface. */
static struct mcast_member *member_find(const struct mcast_state *m, const struct udp_sock *u,
                                        const struct ip_addr *group)
{
    for (uint32_t i = u->groups; i != NIL; i = m->members[i].next) {
        struct ip_addr at = m->members[i].group;

        if (!group->scope)
            at.scope = 0;
        if (ip_addr_eq(&at, group))
            return &m->members[i];
    }
    return NULL;
}

static void member_drop(struct engine *e, struct udp_sock *u, struct mcast_member *mm)
{
    struct mcast_state *m = &e->mcast;
    uint32_t index = (uint32_t)(mm - m->members), *at = &u->groups;
    struct mcast_group *g = mcast_group_find(m, &mm->group);

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

static int member_add(struct engine *e, struct udp_sock *u, const struct ip_addr *group, bool exclude,
                      const struct mcast_ip *src)
{
    struct mcast_state *m = &e->mcast;
    struct mcast_group *g;
    struct mcast_member *mm;

    if (member_count(m, u) >= MCAST_SOCK_MAX || m->free == NIL) {
        stat_inc(&e->stats, ST_MCAST_LIMIT);
        return -ENOBUFS;
    }
    g = group_get(m, group, MCAST_GROUPS_MAX);
    if (!g) {
        stat_inc(&e->stats, ST_MCAST_LIMIT);
        return -ENOBUFS;
    }
    mm = &m->members[m->free];
    m->free = mm->next;
    *mm = (struct mcast_member){
        .group = *group, .sock = udp_index(&e->udp, u), .next = u->groups, .exclude = exclude};
    if (!exclude)
        mm->src[mm->count++] = *src;
    u->groups = (uint32_t)(mm - m->members);
    g->members++;
    if (update(e, g))
        return 0;
    stat_inc(&e->stats, ST_MCAST_LIMIT);
    member_drop(e, u, mm);
    return -ENOBUFS;
}

/* Add a source to, or take one from, what a membership lists. */
static int source_set(struct engine *e, struct mcast_member *mm, const struct mcast_ip *src, bool list)
{
    struct mcast_member before = *mm;
    uint32_t i = 0;

    while (i < mm->count && !same(&mm->src[i], src))
        i++;
    if ((i < mm->count) == list)
        return -EADDRNOTAVAIL;
    if (list && mm->count == MCAST_SOURCES_MAX)
        goto full;
    if (list)
        mm->src[mm->count++] = *src;
    else
        mm->src[i] = mm->src[--mm->count];
    if (update(e, mcast_group_find(&e->mcast, &mm->group)))
        return 0;
    *mm = before;
full:
    stat_inc(&e->stats, ST_MCAST_LIMIT);
    return -ENOBUFS;
}

/* An "only these sources" membership that has lost its last one is none. */
static int source_leave(struct engine *e, struct udp_sock *u, struct mcast_member *mm,
                        const struct mcast_ip *src)
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

/* The interface that the caller named, by number or by an own address on it, else that of the route; 0: there
 * is none. */
static uint32_t interface_of(struct engine *e, const struct engine_mreq *r)
{
    const struct net_addr *a = netif_addr_find(&e->net.t, &r->interface);
    uint32_t n = r->ifnum;

    if (!n && r->interface.family)
        n = a && netif_addr_usable(a) ? a->ifindex + 1u : 0;
    else if (!n)
        n = netif_lookup(&e->net.t, &r->group)->ifindex + 1u;
    if (!n || n > e->net.t.if_count)
        return 0;
    return r->group.family == SG_AF_INET6 && !e->net.t.ifs[n - 1].c.ip6 ? 0 : n;
}

static bool leaves(uint32_t name)
{
    return name == MCAST_DROP || name == MCAST_DROP_SOURCE;
}

int mcast_setopt(struct engine *e, struct udp_sock *u, uint32_t name, const struct engine_mreq *r)
{
    struct ip_addr group = r->group;
    struct mcast_ip src = ip_of(&r->source);
    struct mcast_member *mm;

    if (!net_is_multicast(&group))
        return -EINVAL;
    group.scope = interface_of(e, r);
    if (!group.scope)
        return -ENODEV;
    if (leaves(name) && !r->ifnum && !r->interface.family)
        group.scope = 0; /* As in Linux: the first membership of that group. */
    mm = member_find(&e->mcast, u, &group);
    switch (name) {
    case MCAST_ADD:
        return mm ? -EADDRINUSE : member_add(e, u, &group, true, NULL);
    case MCAST_DROP:
        if (!mm)
            return -EADDRNOTAVAIL;
        member_drop(e, u, mm);
        return 0;
    case MCAST_ADD_SOURCE:
        if (!mm)
            return member_add(e, u, &group, false, &src);
        return mm->exclude ? -EINVAL : source_set(e, mm, &src, true);
    case MCAST_DROP_SOURCE:
        return source_leave(e, u, mm, &src);
    case MCAST_BLOCK:
    case MCAST_UNBLOCK:
        if (!mm || !mm->exclude)
            return -EINVAL;
        return source_set(e, mm, &src, name == MCAST_BLOCK);
    default:
        return -ENOPROTOOPT;
    }
}

/* ---- Groups of our own addresses -------------------------------------------------------------- */

/* RFC 4291 2.8: every address has its solicited-node group. It is told of before the address is probed for,
 * so that switches let the answers through, and not by all hosts at once (RFC 4862 5.4.2). */
static void own_join(struct engine *e, const struct net_addr *a)
{
    struct ip_addr group = {.family = SG_AF_INET6, .scope = a->ifindex + 1u};
    bool waits = a->state == ADDR_TENTATIVE && a->announce_us != UINT64_MAX && a->announce_us > e->now_us;
    struct mcast_group *g;
    bool fresh;

    ip6_solicited_node(a->addr.ip, group.ip);
    g = group_get(&e->mcast, &group, MCAST_TABLE);
    if (!g) {
        stat_inc(&e->stats, ST_MCAST_LIMIT);
        return;
    }
    fresh = !g->own;
    g->own = g->own_seen = true;
    if (fresh)
        ENG_ASSERT(update(e, g)); /* It asks for no sources of its own. */
    /* Of two addresses with one group, before the first is probed for. */
    if (waits && (fresh ? g->change_us != 0 : g->change_us > a->announce_us))
        g->change_us = e->now_us + mcast_delay(e, a->announce_us - e->now_us);
}

/* RFC 3590 4: what was reported without a source, which routers don't take, is reported again. */
static void note_names(struct engine *e)
{
    struct mcast_state *m = &e->mcast;

    for (uint8_t i = 0; i < e->net.t.if_count; i++) {
        struct mcast_link *l = &m->links[1][i];
        bool named = netif_link_local(&e->net.t, i);

        for (uint32_t k = 0; k < MCAST_TABLE && named && !l->named; k++) {
            struct mcast_group *g = &m->groups[k];

            if (g->addr.family == SG_AF_INET6 && g->addr.scope == i + 1u && mcast_receives(g))
                mcast_announce(e, g, e->now_us);
        }
        l->named = named;
    }
}

void mcast_own_sync(struct engine *e)
{
    struct mcast_state *m = &e->mcast;
    const struct net_tables *t = &e->net.t;

    m->gen = t->gen;
    for (uint32_t i = 0; i < MCAST_TABLE; i++)
        m->groups[i].own_seen = false;
    note_names(e);
    for (uint32_t i = 0; i < t->addr_count; i++)
        if (engine_leads(e) && t->addrs[i].addr.family == SG_AF_INET6 && t->addrs[i].state != ADDR_FREE &&
            t->addrs[i].state != ADDR_DUPLICATE)
            own_join(e, &t->addrs[i]);
    for (uint32_t i = 0; i < MCAST_TABLE; i++) {
        struct mcast_group *g = &m->groups[i];

        if (!g->own || g->own_seen)
            continue;
        g->own = false;
        ENG_ASSERT(update(e, g)); /* What its members want had room before. */
    }
}

void mcast_start(struct engine *e)
{
    e->mcast.started = true;
    mcast_own_sync(e);
}

/* ---- Who hears -------------------------------------------------------------------------------- */

bool mcast_listens(const struct engine *e, const struct ip_addr *group, uint8_t ifindex)
{
    struct ip_addr at = *group;
    const struct mcast_group *g;

    if (at.family == SG_AF_INET && net_addr4(&at) == IGMP_ALL_HOSTS)
        return true;
    at.scope = ifindex + 1u;
    g = mcast_group_find(&e->mcast, &at);
    return g && (g->members || g->own);
}

/* Groups of IPv6 that the host belongs to by itself every socket hears, as long as it didn't join. */
bool mcast_hears(const struct engine *e, const struct udp_sock *u, const struct rx_pkt *rp)
{
    const struct mcast_ip src = ip_of(&rp->src);
    const struct mcast_member *mm;
    struct ip_addr at = rp->dst;

    at.scope = rp->ifindex + 1u;
    mm = member_find(&e->mcast, u, &at);
    if (!mm)
        return at.family == SG_AF_INET6 && ip6_group_own(e, at.ip, rp->ifindex);
    return lists(mm, &src) != (bool)mm->exclude;
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
        .next_us = UINT64_MAX,
    };
    for (uint32_t i = 0; i < ENGINE_IF_MAX; i++) /* RFC 3376 8.1, 8.2; RFC 3810 9.1, 9.2 */
        m->links[0][i] = m->links[1][i] = (struct mcast_link){.robustness = 2, .interval_s = 125};
    for (uint32_t i = MCAST_MEMBERS_MAX; i-- > 0;) {
        struct mcast_member *mm = &m->members[i];
        struct mcast_group *g;

        if (!mm->group.family) {
            *mm = (struct mcast_member){.next = m->free};
            m->free = i;
            continue;
        }
        g = group_get(m, &mm->group, MCAST_GROUPS_MAX);
        ENG_ASSERT(g && update(e, g)); /* There was room for them before. */
        g->members++;
    }
}

uint64_t mcast_deadline(const struct engine *e)
{
    return e->mcast.started && e->mcast.gen != e->net.t.gen ? 0 : e->mcast.next_us;
}

const char *mcast_check(const struct engine *e)
{
    const struct mcast_state *m = &e->mcast;
    uint32_t listed = 0, in_groups = 0, used = 0;

    for (uint32_t i = 0; i < MCAST_MEMBERS_MAX; i++)
        used += m->members[i].group.family != 0;
    for (uint32_t i = 0; i < e->udp.count; i++)
        if (e->udp.socks[i].s.kind == SK_UDP)
            listed += member_count(m, &e->udp.socks[i]);
    for (uint32_t i = 0; i < MCAST_TABLE; i++)
        in_groups += m->groups[i].members;
    if (used != listed)
        return "memberships are lost";
    return used == in_groups ? NULL : "groups count other members than there are";
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What routers are told about groups: the host's half of IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), and of their
 * older versions where such a querier is present (RFC 2236, RFC 1112; RFC 2710).
 *
 * Two things make a host speak: its filter for a group changed (state-change reports, repeated so that one
 * that is lost does no harm), and a querier asks (current-state reports, after a random delay so that hosts
 * don't answer all at once). Groups that every host hears, and those that never leave one, are not reported.
 *
 * The protocols have the same rules. Section numbers are RFC 3376's; RFC 3810's are 6.1 for changes, 6.2 and
 * 6.3 for queries, 8.2.1 for versions and 9 for times. MLD's versions 1 and 2 count as 2 and 3 here.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/igmp.h"
#include "daemon/engine/wire/ip6.h"

/* RFC 3376 8.11; in the older versions 10 s (RFC 2236 8.10, RFC 2710 7.10). */
#define UNSOLICITED_US  UINT64_C(1000000)
#define UNSOLICITED2_US UINT64_C(10000000)

static unsigned version(const struct mcast_link *l, uint64_t now_us)
{
    return now_us < l->v1_until_us ? 1 : now_us < l->v2_until_us ? 2 : 3;
}

static void due(struct mcast_state *m, uint64_t *timer, uint64_t at_us)
{
    *timer = at_us;
    if (at_us < m->next_us)
        m->next_us = at_us;
}

static bool is_on(const struct mcast_group *g, uint16_t family, uint8_t ifindex)
{
    return g->addr.family == family && g->addr.scope == ifindex + 1u;
}

/* RFC 3376 5, RFC 3810 6: the group of all hosts never is, nor what doesn't leave the interface. */
static bool reportable(const struct ip_addr *group)
{
    if (group->family == SG_AF_INET)
        return net_addr4(group) != IGMP_ALL_HOSTS;
    return ip6_group_scope(group->ip) > IP6_SCOPE_INTERFACE && !ip6_is_all_nodes(group->ip);
}

/* ---- Messages --------------------------------------------------------------------------------- */

static const struct mcast_proto *proto_of(uint16_t family)
{
    return family == SG_AF_INET6 ? &mld_proto : &igmp_proto;
}

/* A fresh frame for a message; NULL: counted, and the repetitions must do. */
static struct pktbuf *message(struct engine *e)
{
    struct pktbuf *p = pktq_get(&e->txq);

    if (!p)
        stat_inc(&e->stats, ST_DROP_TX_FULL);
    return p;
}

static void send_old(struct engine *e, enum mcast_old what, const struct ip_addr *group)
{
    struct pktbuf *p = message(e);

    if (p)
        proto_of(group->family)->send_old(e, p, what, group);
}

/* A report of the newest version under construction. */
struct report {
    struct pktbuf *p; /* NULL: none yet, or no frame */
    uint16_t records;
    uint16_t family;
    uint8_t ifindex;
};

static void report_send(struct engine *e, struct report *r)
{
    if (r->p) {
        put_be16(r->p->data + 6, r->records);
        proto_of(r->family)->send_report(e, r->p, r->ifindex);
    }
    r->p = NULL;
    r->records = 0;
}

/* Which sources of a group a record names. */
typedef bool source_fn(const struct mcast_group *g, const struct mcast_source *s);

static void put_record(uint8_t *at, enum group_record type, const struct mcast_group *g, source_fn *picks,
                       uint32_t addr_bytes)
{
    uint8_t *to = at + GROUP_RECORD_BYTES;
    uint16_t n = 0;

    memcpy(to, g->addr.ip, addr_bytes);
    for (uint32_t i = 0; picks && i < g->source_count; i++) {
        if (!picks(g, &g->src[i]))
            continue;
        to += addr_bytes;
        memcpy(to, g->src[i].addr.b, addr_bytes);
        n++;
    }
    at[0] = (uint8_t)type;
    at[1] = 0;
    put_be16(at + 2, n);
}

/* Bytes of a report that fits one packet, and a frame's own memory. */
static uint32_t report_max(const struct engine *e, const struct report *r)
{
    const struct netif *i = &e->net.t.ifs[r->ifindex];
    uint32_t packet = r->family == SG_AF_INET6 ? i->mtu6 : i->c.mtu, room = PKT_LINEAR_MAX - PKT_HEADROOM;

    return (packet < room ? packet : room) - proto_of(r->family)->hdr_bytes;
}

/* Add a record; `picks` NULL: it names no sources. */
static void report_add(struct engine *e, struct report *r, enum group_record type,
                       const struct mcast_group *g, source_fn *picks)
{
    const struct mcast_proto *proto = proto_of(r->family);
    uint32_t need = GROUP_RECORD_BYTES + proto->addr_bytes;

    for (uint32_t i = 0; picks && i < g->source_count; i++)
        need += picks(g, &g->src[i]) ? proto->addr_bytes : 0;
    if (r->p && r->p->len + need > report_max(e, r))
        report_send(e, r);
    if (!r->p) {
        r->p = message(e);
        if (!r->p)
            return;
        memset(r->p->data, 0, GROUP_HDR_BYTES);
        r->p->data[0] = proto->report_type;
        r->p->len = GROUP_HDR_BYTES;
    }
    put_record(r->p->data + r->p->len, type, g, picks, proto->addr_bytes);
    r->p->len += need;
    r->records++;
}

/* ---- State changes (RFC 3376 5.1) ------------------------------------------------------------- */

static bool is_listed(const struct mcast_group *g, const struct mcast_source *s)
{
    (void)g;
    return s->listed;
}

static bool is_allowed_news(const struct mcast_group *g, const struct mcast_source *s)
{
    return s->reports && s->listed != g->exclude;
}

static bool is_blocked_news(const struct mcast_group *g, const struct mcast_source *s)
{
    return s->reports && s->listed == g->exclude;
}

static bool any(const struct mcast_group *g, source_fn *picks)
{
    for (uint32_t i = 0; i < g->source_count; i++)
        if (picks(g, &g->src[i]))
            return true;
    return false;
}

static void change_report3(struct engine *e, struct mcast_group *g)
{
    struct report r = {.family = g->addr.family, .ifindex = (uint8_t)(g->addr.scope - 1)};

    if (g->mode_reports) {
        report_add(e, &r, g->exclude ? GROUP_TO_EX : GROUP_TO_IN, g, is_listed);
    } else {
        if (any(g, is_allowed_news))
            report_add(e, &r, GROUP_ALLOW, g, is_allowed_news);
        if (any(g, is_blocked_news))
            report_add(e, &r, GROUP_BLOCK, g, is_blocked_news);
    }
    report_send(e, &r);
}

/* The older versions know only "somebody here wants the group" and, from version 2 on, "nobody any more". */
static void report_old(struct engine *e, struct mcast_group *g, unsigned v)
{
    if (mcast_receives(g))
        send_old(e, v == 1 ? MCAST_REPORT1 : MCAST_REPORT2, &g->addr);
    else if (v == 2)
        send_old(e, MCAST_LEAVE2, &g->addr);
}

/* One of the reports about a change has gone; true: more are to follow. */
static bool count_down(struct mcast_group *g)
{
    bool more = false;

    if (g->mode_reports)
        more |= --g->mode_reports > 0;
    for (uint32_t i = 0; i < g->source_count; i++)
        if (g->src[i].reports)
            more |= --g->src[i].reports > 0;
    return more;
}

static void change_report(struct engine *e, struct mcast_group *g, uint64_t now_us)
{
    struct mcast_state *m = &e->mcast;
    unsigned v = version(mcast_link(m, &g->addr), now_us);

    if (v == 3)
        change_report3(e, g);
    else
        report_old(e, g, v);
    g->change_us = 0;
    if (count_down(g))
        due(m, &g->change_us, now_us + mcast_delay(e, v == 3 ? UNSOLICITED_US : UNSOLICITED2_US));
    mcast_group_clean(g);
}

/* Of what has changed nothing is to be told any more. */
static void forget_changes(struct mcast_group *g)
{
    g->mode_reports = 0;
    for (uint32_t i = 0; i < g->source_count; i++)
        g->src[i].reports = 0;
}

void mcast_changed(struct engine *e, struct mcast_group *g)
{
    if (!reportable(&g->addr)) {
        forget_changes(g);
        return;
    }
    due(&e->mcast, &g->change_us, e->now_us ? e->now_us : 1);
}

void mcast_announce(struct engine *e, struct mcast_group *g, uint64_t at_us)
{
    if (!reportable(&g->addr))
        return;
    g->mode_reports = mcast_link(&e->mcast, &g->addr)->robustness;
    due(&e->mcast, &g->change_us, at_us ? at_us : 1);
}

/* ---- Queries (RFC 3376 5.2) ------------------------------------------------------------------- */

static bool asked_for(const struct mcast_group *g, const struct mcast_ip *addr)
{
    for (uint32_t i = 0; i < g->query_count; i++)
        if (memcmp(&g->query_src[i], addr, sizeof(*addr)) == 0)
            return true;
    return false;
}

static bool is_asked_and_wanted(const struct mcast_group *g, const struct mcast_source *s)
{
    return asked_for(g, &s->addr) && s->listed;
}

static bool is_excluded(const struct mcast_group *g, const struct mcast_ip *addr)
{
    for (uint32_t i = 0; i < g->source_count; i++)
        if (g->src[i].listed && memcmp(&g->src[i].addr, addr, sizeof(*addr)) == 0)
            return true;
    return false;
}

/* Answer about sources: those asked for that the filter lets through, as IS_IN. */
static void answer_sources(struct engine *e, struct report *r, struct mcast_group *g)
{
    struct mcast_group wanted = *g;

    if (!g->exclude) {
        if (any(g, is_asked_and_wanted))
            report_add(e, r, GROUP_IS_IN, g, is_asked_and_wanted);
        return;
    }
    wanted.source_count = 0; /* All that are asked for, less the excluded ones. */
    for (uint32_t i = 0; i < g->query_count; i++)
        if (!is_excluded(g, &g->query_src[i]))
            wanted.src[wanted.source_count++] = (struct mcast_source){.addr = g->query_src[i], .listed = 1};
    if (wanted.source_count)
        report_add(e, r, GROUP_IS_IN, &wanted, is_listed);
}

static void answer(struct engine *e, struct report *r, struct mcast_group *g, uint64_t now_us)
{
    unsigned v = version(mcast_link(&e->mcast, &g->addr), now_us);

    g->response_us = 0;
    if (!mcast_receives(g) || !reportable(&g->addr))
        return;
    if (v < 3)
        report_old(e, g, v);
    else if (g->query_count)
        answer_sources(e, r, g);
    else
        report_add(e, r, g->exclude ? GROUP_IS_EX : GROUP_IS_IN, g, is_listed);
}

/* Have a query about `g` answered at `at_us`, or earlier if one is to be answered by then anyway. */
static void schedule(struct engine *e, struct mcast_group *g, const struct group_query *q, uint64_t at_us)
{
    uint32_t addr_bytes = proto_of(g->addr.family)->addr_bytes;
    bool pending = g->response_us;
    bool whole = !q->source_count || (pending && !g->query_count);

    if (!pending)
        g->query_count = 0;
    for (uint32_t i = 0; i < q->source_count && !whole; i++) {
        struct mcast_ip addr = {{0}};

        memcpy(addr.b, q->sources + i * addr_bytes, addr_bytes);
        if (asked_for(g, &addr))
            continue;
        if (g->query_count == MCAST_QUERY_SOURCES_MAX)
            whole = true; /* To say more than was asked does no harm. */
        else
            g->query_src[g->query_count++] = addr;
    }
    if (whole)
        g->query_count = 0;
    if (!pending || at_us < g->response_us)
        due(&e->mcast, &g->response_us, at_us);
}

/* What was still to be said was meant for the other version. */
static void cancel_all(struct mcast_state *m, uint16_t family, uint8_t ifindex)
{
    for (uint32_t i = 0; i < MCAST_TABLE; i++) {
        struct mcast_group *g = &m->groups[i];

        if (!is_on(g, family, ifindex))
            continue;
        g->response_us = g->change_us = 0;
        forget_changes(g);
        mcast_group_clean(g);
    }
}

/* RFC 3376 7.2.1: an older querier sets the version; a change of it cancels what is under way. */
static void note_querier(struct engine *e, struct mcast_link *l, const struct group_query *q, uint16_t family,
                         uint8_t ifindex, uint64_t now_us)
{
    unsigned before = version(l, now_us);
    uint64_t present_us = (uint64_t)l->robustness * l->interval_s * 1000000u + q->max_resp_us;

    if (q->version == 1)
        l->v1_until_us = now_us + present_us;
    else if (q->version == 2)
        l->v2_until_us = now_us + present_us;
    if (q->version == 3) {
        l->robustness = q->robustness ? q->robustness : 2;
        l->interval_s = q->interval_s ? q->interval_s : 125;
    }
    if (version(l, now_us) == before)
        return;
    l->general_us = 0;
    cancel_all(&e->mcast, family, ifindex);
}

void mcast_query(struct engine *e, const struct group_query *q, uint16_t family, uint8_t ifindex,
                 uint64_t now_us)
{
    struct mcast_state *m = &e->mcast;
    struct ip_addr group = {.family = family, .scope = ifindex + 1u};
    struct mcast_link *l = mcast_link(m, &group);
    uint64_t at_us;
    bool general;

    memcpy(group.ip, q->group, proto_of(family)->addr_bytes);
    general = ip_addr_any(&group);
    note_querier(e, l, q, family, ifindex, now_us);
    at_us = now_us + mcast_delay(e, q->max_resp_us);
    if (l->general_us && l->general_us <= at_us) /* 5.2, rule 1: what comes sooner says it all. */
        return;
    if (general && version(l, now_us) == 3) {
        due(m, &l->general_us, at_us);
        return;
    }
    for (uint32_t i = 0; i < MCAST_TABLE; i++) {
        struct mcast_group *g = &m->groups[i];

        if (!is_on(g, family, ifindex) || !(g->members || g->own))
            continue;
        if (general || ip_addr_eq(&g->addr, &group)) /* Each group at its own time. */
            schedule(e, g, q, general ? now_us + mcast_delay(e, q->max_resp_us) : at_us);
    }
}

void mcast_heard_report(struct engine *e, const struct ip_addr *group, uint64_t now_us)
{
    struct mcast_state *m = &e->mcast;
    struct mcast_group *g = mcast_group_find(m, group);

    if (g && version(mcast_link(m, group), now_us) < 3)
        g->response_us = 0;
}

/* ---- Time ------------------------------------------------------------------------------------- */

static void group_timers(struct engine *e, struct report *r, struct mcast_group *g, bool general,
                         uint64_t now_us)
{
    if (general)
        g->query_count = 0;
    if ((g->members || g->own) && (general || (g->response_us && g->response_us <= now_us)))
        answer(e, r, g, now_us);
    if (g->change_us && g->change_us <= now_us) {
        report_send(e, r); /* Only one frame may be open. */
        change_report(e, g, now_us);
    }
}

static void link_timers(struct engine *e, uint16_t family, uint8_t ifindex, uint64_t now_us)
{
    struct mcast_state *m = &e->mcast;
    struct mcast_link *l = &m->links[family == SG_AF_INET6][ifindex];
    bool general = l->general_us && l->general_us <= now_us;
    struct report r = {.family = family, .ifindex = ifindex};

    if (general)
        l->general_us = 0;
    for (uint32_t i = 0; i < MCAST_TABLE; i++)
        if (is_on(&m->groups[i], family, ifindex))
            group_timers(e, &r, &m->groups[i], general, now_us);
    report_send(e, &r);
}

static void sooner(uint64_t *next_us, uint64_t at_us)
{
    if (at_us && at_us < *next_us)
        *next_us = at_us;
}

static void next_deadline(struct mcast_state *m)
{
    m->next_us = UINT64_MAX;
    for (uint32_t i = 0; i < ENGINE_IF_MAX; i++) {
        sooner(&m->next_us, m->links[0][i].general_us);
        sooner(&m->next_us, m->links[1][i].general_us);
    }
    for (uint32_t i = 0; i < MCAST_TABLE; i++) {
        sooner(&m->next_us, m->groups[i].change_us);
        sooner(&m->next_us, m->groups[i].response_us);
    }
}

void mcast_timers(struct engine *e, uint64_t now_us)
{
    struct mcast_state *m = &e->mcast;

    if (m->started && m->gen != e->net.t.gen)
        mcast_own_sync(e);
    if (now_us < m->next_us)
        return;
    for (uint8_t i = 0; i < e->net.t.if_count; i++) {
        link_timers(e, SG_AF_INET, i, now_us);
        link_timers(e, SG_AF_INET6, i, now_us);
    }
    next_deadline(m);
}

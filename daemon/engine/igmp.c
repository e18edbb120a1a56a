/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IGMPv3 for hosts (RFC 3376), and versions 2 and 1 where an older querier is present (RFC 2236, RFC 1112).
 *
 * Two things make a host speak: its filter for a group changed (state-change reports, repeated so that one
 * that is lost does no harm), and a querier asks (current-state reports, after a random delay so that hosts
 * don't answer all at once). The group of all hosts is never reported.
 */
#include "daemon/engine/wire/igmp.h"
#include "daemon/engine/engine_int.h"

/* RFC 3376 8.11; in the older versions 10 s (RFC 2236 8.10). */
#define UNSOLICITED_US  UINT64_C(1000000)
#define UNSOLICITED2_US UINT64_C(10000000)

/* RFC 3376 4: internetwork control. */
#define TOS_IGMP        0xc0u

/* The Router Alert option (RFC 2113), so that routers look at what isn't addressed to them. */
static const uint8_t router_alert[4] = {0x94, 4, 0, 0};

static unsigned version(const struct mcast_state *m, uint64_t now_us)
{
    return now_us < m->v1_until_us ? 1 : now_us < m->v2_until_us ? 2 : 3;
}

static void due(struct mcast_state *m, uint64_t *timer, uint64_t at_us)
{
    *timer = at_us;
    if (at_us < m->next_us)
        m->next_us = at_us;
}

/* ---- Messages --------------------------------------------------------------------------------- */

/* Bytes of a message that fits one packet. */
static uint32_t message_max(const struct engine *e)
{
    struct ip_addr all = net_ip_addr(IGMP_REPORTS3);
    uint32_t packet = net_packet_max(e, &all);

    return (packet < PKT_LINEAR_MAX - PKT_HEADROOM ? packet : PKT_LINEAR_MAX - PKT_HEADROOM) - IP4_HDR_BYTES -
           (uint32_t)sizeof(router_alert);
}

/* Send the message in the open frame. */
static void send_message(struct engine *e, struct pktbuf *p, uint32_t dst4)
{
    uint16_t sum;

    memset(p->data + 2, 0, 2);
    sum = csum_finish(csum_partial(p->data, p->len));
    memcpy(p->data + 2, &sum, 2);
    stat_inc(&e->stats, ST_IGMP_OUT_REPORTS);
    net_output_link4(
        e, p, &(struct ip4_pkt){.dst = dst4, .proto = IP_PROTO_IGMP, .tos = TOS_IGMP, .ttl = 1, .df = true},
        router_alert, sizeof(router_alert));
}

/* A fresh frame for a message; NULL: counted, and the repetitions must do. */
static struct pktbuf *message(struct engine *e)
{
    struct pktbuf *p = pktq_get(&e->txq);

    if (!p)
        stat_inc(&e->stats, ST_DROP_TX_FULL);
    return p;
}

/* Version 1 or 2: a message about one group. */
static void send_old(struct engine *e, uint8_t type, uint32_t group4, uint32_t dst4)
{
    struct pktbuf *p = message(e);

    if (!p)
        return;
    memset(p->data, 0, IGMP_HDR_BYTES);
    p->data[0] = type;
    put_be32(p->data + 4, group4);
    p->len = IGMP_HDR_BYTES;
    send_message(e, p, dst4);
}

/* A version 3 report under construction. */
struct report {
    struct pktbuf *p; /* NULL: none yet, or no frame */
    uint16_t records;
};

static void report_send(struct engine *e, struct report *r)
{
    if (!r->p)
        return;
    put_be16(r->p->data + 6, r->records);
    send_message(e, r->p, IGMP_REPORTS3);
    *r = (struct report){0};
}

/* Which sources of a group a record names. */
typedef bool source_fn(const struct mcast_group *g, const struct mcast_source *s);

/* Add a record; `picks` NULL: it names no sources. */
static void report_add(struct engine *e, struct report *r, enum igmp_record type, const struct mcast_group *g,
                       source_fn *picks)
{
    uint32_t need = IGMP_RECORD_BYTES;
    uint16_t n = 0;
    uint8_t *at;

    for (uint32_t i = 0; picks && i < g->source_count; i++)
        need += picks(g, &g->src[i]) ? 4 : 0;
    if (r->p && r->p->len + need > message_max(e))
        report_send(e, r);
    if (!r->p) {
        r->p = message(e);
        if (!r->p)
            return;
        memset(r->p->data, 0, IGMP_HDR_BYTES);
        r->p->data[0] = IGMP_REPORT3;
        r->p->len = IGMP_HDR_BYTES;
    }
    at = r->p->data + r->p->len;
    for (uint32_t i = 0; picks && i < g->source_count; i++)
        if (picks(g, &g->src[i]))
            put_be32(at + IGMP_RECORD_BYTES + n++ * 4u, g->src[i].addr);
    at[0] = (uint8_t)type;
    at[1] = 0;
    put_be16(at + 2, n);
    put_be32(at + 4, g->addr);
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
    struct report r = {0};

    if (g->mode_reports) {
        report_add(e, &r, g->exclude ? IGMP_TO_EX : IGMP_TO_IN, g, is_listed);
    } else {
        if (any(g, is_allowed_news))
            report_add(e, &r, IGMP_ALLOW, g, is_allowed_news);
        if (any(g, is_blocked_news))
            report_add(e, &r, IGMP_BLOCK, g, is_blocked_news);
    }
    report_send(e, &r);
}

/* The older versions know only "somebody here wants the group" and, in version 2, "nobody any more". */
static void report_old(struct engine *e, struct mcast_group *g, unsigned v)
{
    if (mcast_receives(g))
        send_old(e, v == 1 ? IGMP_REPORT1 : IGMP_REPORT2, g->addr, g->addr);
    else if (v == 2)
        send_old(e, IGMP_LEAVE2, g->addr, IGMP_ALL_ROUTERS);
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
    unsigned v = version(m, now_us);

    if (v == 3)
        change_report3(e, g);
    else
        report_old(e, g, v);
    g->change_us = 0;
    if (count_down(g))
        due(m, &g->change_us, now_us + mcast_delay(e, v == 3 ? UNSOLICITED_US : UNSOLICITED2_US));
    mcast_group_clean(g);
}

void igmp_changed(struct engine *e, struct mcast_group *g)
{
    if (g->addr == IGMP_ALL_HOSTS) { /* RFC 3376 5: everybody hears it without saying so. */
        g->mode_reports = 0;
        for (uint32_t i = 0; i < g->source_count; i++)
            g->src[i].reports = 0;
        return;
    }
    due(&e->mcast, &g->change_us, e->now_us ? e->now_us : 1);
}

/* ---- Queries (RFC 3376 5.2) ------------------------------------------------------------------- */

static bool asked_for(const struct mcast_group *g, uint32_t addr)
{
    for (uint32_t i = 0; i < g->query_count; i++)
        if (g->query_src[i] == addr)
            return true;
    return false;
}

static bool is_asked_and_wanted(const struct mcast_group *g, const struct mcast_source *s)
{
    return asked_for(g, s->addr) && s->listed;
}

/* Answer about sources: those asked for that the filter lets through, as IS_IN. */
static void answer_sources(struct engine *e, struct report *r, struct mcast_group *g)
{
    struct mcast_group wanted = *g;

    if (!g->exclude) {
        if (any(g, is_asked_and_wanted))
            report_add(e, r, IGMP_IS_IN, g, is_asked_and_wanted);
        return;
    }
    wanted.source_count = 0; /* All that are asked for, less the excluded ones. */
    for (uint32_t i = 0; i < g->query_count; i++) {
        bool excluded = false;

        for (uint32_t k = 0; k < g->source_count; k++)
            excluded |= g->src[k].addr == g->query_src[i] && g->src[k].listed;
        if (!excluded)
            wanted.src[wanted.source_count++] = (struct mcast_source){.addr = g->query_src[i], .listed = 1};
    }
    if (wanted.source_count)
        report_add(e, r, IGMP_IS_IN, &wanted, is_listed);
}

static void answer(struct engine *e, struct report *r, struct mcast_group *g, uint64_t now_us)
{
    unsigned v = version(&e->mcast, now_us);

    g->response_us = 0;
    if (!mcast_receives(g) || g->addr == IGMP_ALL_HOSTS)
        return;
    if (v < 3)
        report_old(e, g, v);
    else if (g->query_count)
        answer_sources(e, r, g);
    else
        report_add(e, r, g->exclude ? IGMP_IS_EX : IGMP_IS_IN, g, is_listed);
}

/* Have a query about `g` answered at `at_us`, or earlier if one is to be answered by then anyway. */
static void schedule(struct engine *e, struct mcast_group *g, const struct igmp_query *q, uint64_t at_us)
{
    bool pending = g->response_us;
    bool whole = !q->source_count || (pending && !g->query_count);

    if (!pending)
        g->query_count = 0;
    for (uint32_t i = 0; i < q->source_count && !whole; i++) {
        uint32_t addr = get_be32(q->sources + i * 4);

        if (asked_for(g, addr))
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

/* RFC 3376 7.2.1: an older querier sets the version; a change of it cancels what is under way. */
static void note_querier(struct engine *e, const struct igmp_query *q, uint64_t now_us)
{
    struct mcast_state *m = &e->mcast;
    unsigned before = version(m, now_us);
    uint64_t present_us = (uint64_t)m->robustness * m->interval_s * 1000000u + q->max_resp_us;

    if (q->version == 1)
        m->v1_until_us = now_us + present_us;
    else if (q->version == 2)
        m->v2_until_us = now_us + present_us;
    if (q->version == 3) {
        m->robustness = q->robustness ? q->robustness : 2;
        m->interval_s = q->interval_s ? q->interval_s : 125;
    }
    if (version(m, now_us) == before)
        return;
    m->general_us = 0;
    for (uint32_t i = 0; i < MCAST_GROUPS_MAX; i++) {
        struct mcast_group *g = &m->groups[i];

        g->response_us = g->change_us = 0;
        g->mode_reports = 0;
        for (uint32_t k = 0; k < g->source_count; k++)
            g->src[k].reports = 0;
        if (g->addr)
            mcast_group_clean(g);
    }
}

static void query_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct mcast_state *m = &e->mcast;
    struct igmp_query q;
    uint64_t at_us;

    if (!igmp_query_parse(rp->l4, rp->l4_len, &q)) {
        stat_inc(&e->stats, ST_IGMP_IN_ERRORS);
        return;
    }
    /* RFC 3376 9.1: a general query to another group than all hosts is not to be believed. */
    if (!q.group && rp->broadcast && net_addr4(&rp->dst) != IGMP_ALL_HOSTS) {
        stat_inc(&e->stats, ST_IGMP_IN_ERRORS);
        return;
    }
    stat_inc(&e->stats, ST_IGMP_IN_QUERIES);
    note_querier(e, &q, now_us);
    at_us = now_us + mcast_delay(e, q.max_resp_us);
    if (m->general_us && m->general_us <= at_us) /* 5.2, rule 1: what comes sooner says it all. */
        return;
    if (!q.group && version(m, now_us) == 3) {
        due(m, &m->general_us, at_us);
        return;
    }
    for (uint32_t i = 0; i < MCAST_GROUPS_MAX; i++) {
        struct mcast_group *g = &m->groups[i];

        if (g->members && (!q.group || g->addr == q.group)) /* Each group at its own time. */
            schedule(e, g, &q, q.group ? at_us : now_us + mcast_delay(e, q.max_resp_us));
    }
}

/* RFC 2236 3: in the older versions one host's report will do for all. */
static void report_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct mcast_state *m = &e->mcast;

    stat_inc(&e->stats, ST_IGMP_IN_REPORTS);
    if (version(m, now_us) == 3)
        return;
    for (uint32_t i = 0; i < MCAST_GROUPS_MAX; i++)
        if (m->groups[i].addr == get_be32(rp->l4 + 4))
            m->groups[i].response_us = 0;
}

void igmp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    if (rp->l4_len < IGMP_HDR_BYTES) {
        stat_inc(&e->stats, ST_IGMP_IN_ERRORS);
        return;
    }
    if (rp->l4[0] == IGMP_QUERY)
        query_input(e, rp, now_us);
    else if (rp->l4[0] == IGMP_REPORT1 || rp->l4[0] == IGMP_REPORT2)
        report_input(e, rp, now_us);
}

/* ---- Time ------------------------------------------------------------------------------------- */

static void group_timers(struct engine *e, struct report *r, struct mcast_group *g, bool general,
                         uint64_t now_us)
{
    if (general)
        g->query_count = 0;
    if (g->members && (general || (g->response_us && g->response_us <= now_us)))
        answer(e, r, g, now_us);
    if (g->change_us && g->change_us <= now_us) {
        report_send(e, r); /* Only one frame may be open. */
        change_report(e, g, now_us);
    }
}

static void next_deadline(struct mcast_state *m)
{
    m->next_us = m->general_us ? m->general_us : UINT64_MAX;
    for (uint32_t i = 0; i < MCAST_GROUPS_MAX; i++) {
        const struct mcast_group *g = &m->groups[i];

        if (g->change_us && g->change_us < m->next_us)
            m->next_us = g->change_us;
        if (g->response_us && g->response_us < m->next_us)
            m->next_us = g->response_us;
    }
}

void igmp_timers(struct engine *e, uint64_t now_us)
{
    struct mcast_state *m = &e->mcast;
    bool general = m->general_us && m->general_us <= now_us;
    struct report r = {0};

    if (now_us < m->next_us)
        return;
    if (general)
        m->general_us = 0;
    for (uint32_t i = 0; i < MCAST_GROUPS_MAX; i++) {
        if (!m->groups[i].addr)
            continue;
        if (version(m, now_us) < 3)
            report_send(e, &r);
        group_timers(e, &r, &m->groups[i], general, now_us);
    }
    report_send(e, &r);
    next_deadline(m);
}

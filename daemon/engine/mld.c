/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of multicast listener discovery (RFC 2710, RFC 3810). What they are sent for is
 * mcast_report.c's.
 */
#include "daemon/engine/wire/mld.h"
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/icmp6.h"

#define MLD_HOPS 1u

/* RFC 3810 5: a hop-by-hop header with the Router Alert option (RFC 2711), and padding. */
static const uint8_t router_alert[8] = {IP6_NH_ICMP, 0, IP6_OPT_ALERT, 2, 0, 0, IP6_OPT_PADN, 0};

static const uint8_t all_routers[16] = {0xff, 0x02, [15] = 2};
static const uint8_t reports2[16] = {0xff, 0x02, [15] = 0x16}; /* RFC 3810 5.2.14 */

/* ---- Out -------------------------------------------------------------------------------------- */

static struct ip_addr group_on(const uint8_t *group, uint8_t ifindex)
{
    struct ip_addr a = {.family = SG_AF_INET6, .scope = ifindex + 1u};

    memcpy(a.ip, group, 16);
    return a;
}

/* Send the message in the open frame: from the link-local address, or from none before there is one, which
 * snooping switches understand (RFC 3590 4). */
static void send_message(struct engine *e, struct pktbuf *p, const uint8_t *to, uint8_t ifindex)
{
    const struct ip_addr *own = netif_link_local(&e->net.t, ifindex);
    const struct ip_addr src = own ? *own : (struct ip_addr){.family = SG_AF_INET6};
    const struct ip_addr dst = group_on(to, ifindex);

    net_pkt_checksum(p, csum_pseudo6(src.ip, dst.ip, IP6_NH_ICMP, p->len), IP6_NH_ICMP, ICMP6_CSUM_OFFSET);
    net_pkt_push(p, sizeof(router_alert));
    memcpy(p->data, router_alert, sizeof(router_alert));
    stat_inc(&e->stats, ST_ICMP6_OUT_MSGS);
    (void)net_output(e, p, &src, &dst, IP6_NH_HOPS, 0, MLD_HOPS, NET_DF, e->now_us); /* Lost: repeated. */
}

static void send_report(struct engine *e, struct pktbuf *p, uint8_t ifindex)
{
    stat_inc(&e->stats, ST_ICMP6_OUT_MLD2_REPORTS);
    send_message(e, p, reports2, ifindex);
}

/* There is no version that has only reports, so MCAST_REPORT1 doesn't occur. */
static void send_old(struct engine *e, struct pktbuf *p, enum mcast_old what, const struct ip_addr *group)
{
    bool done = what == MCAST_LEAVE2;

    icmp6_put(p->data, done ? MLD_DONE1 : MLD_REPORT1, 0, 0);
    memcpy(p->data + ICMP6_HDR_BYTES, group->ip, 16);
    p->len = MLD_HDR_BYTES;
    stat_inc(&e->stats, done ? ST_ICMP6_OUT_GROUP_REDUCTIONS : ST_ICMP6_OUT_GROUP_RESPONSES);
    send_message(e, p, done ? all_routers : group->ip, (uint8_t)(group->scope - 1));
}

const struct mcast_proto mld_proto = {
    .addr_bytes = 16,
    .report_type = MLD_REPORT2,
    .hdr_bytes = IP6_HDR_BYTES + sizeof(router_alert),
    .send_report = send_report,
    .send_old = send_old,
};

/* ---- In --------------------------------------------------------------------------------------- */

static void bad(struct engine *e)
{
    stat_inc(&e->stats, ST_ICMP6_IN_ERRORS);
}

/* RFC 3810 6.2: from this link, seen by routers on purpose, from a router's address. */
static bool from_link(const struct rx_pkt *rp)
{
    return rp->ttl == MLD_HOPS && rp->router_alert && ip6_is_link_local(rp->src.ip);
}

static void query_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct group_query q;

    /* RFC 3810 5.1.15: a general query goes to all nodes, or to us alone. */
    if (!from_link(rp) || !mld_query_parse(rp->l4, rp->l4_len, &q) ||
        (ip6_is_unspecified(q.group) && rp->broadcast && !ip6_is_all_nodes(rp->dst.ip))) {
        bad(e);
        return;
    }
    stat_inc(&e->stats, ST_ICMP6_IN_GROUP_QUERIES);
    mcast_query(e, &q, SG_AF_INET6, rp->ifindex, now_us);
}

static void report_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct ip_addr group;

    if (!from_link(rp) || rp->l4_len < MLD_HDR_BYTES) {
        bad(e);
        return;
    }
    stat_inc(&e->stats, ST_ICMP6_IN_GROUP_RESPONSES);
    group = group_on(rp->l4 + ICMP6_HDR_BYTES, rp->ifindex);
    mcast_heard_report(e, &group, now_us);
}

bool mld_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    if (rp->l4[0] == MLD_QUERY)
        query_input(e, rp, now_us);
    else if (rp->l4[0] == MLD_REPORT1)
        report_input(e, rp, now_us);
    else
        return rp->l4[0] == MLD_DONE1 || rp->l4[0] == MLD_REPORT2; /* for routers */
    return true;
}

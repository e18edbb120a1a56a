/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IGMP's messages (RFC 1112, 2236, 3376). What they are sent for is mcast_report.c's.
 */
#include "daemon/engine/wire/igmp.h"
#include "daemon/engine/engine_int.h"

/* RFC 3376 4: internetwork control. */
#define TOS_IGMP 0xc0u

/* The Router Alert option (RFC 2113), so that routers look at what isn't addressed to them. */
static const uint8_t router_alert[4] = {0x94, 4, 0, 0};

/* ---- Out -------------------------------------------------------------------------------------- */

/* Send the message in the open frame. */
static void send_message(struct engine *e, struct pktbuf *p, uint32_t dst4, uint8_t ifindex)
{
    net_pkt_checksum(p, 0, IP_PROTO_IGMP, 2); /* without a pseudo-header */
    stat_inc(&e->stats, ST_IGMP_OUT_REPORTS);
    net_output_link4(
        e, p, &(struct ip4_pkt){.dst = dst4, .proto = IP_PROTO_IGMP, .tos = TOS_IGMP, .ttl = 1, .df = true},
        ifindex, router_alert, sizeof(router_alert));
}

static void send_report(struct engine *e, struct pktbuf *p, uint8_t ifindex)
{
    send_message(e, p, IGMP_REPORTS3, ifindex);
}

static void send_old(struct engine *e, struct pktbuf *p, enum mcast_old what, const struct ip_addr *group)
{
    static const uint8_t type[] = {
        [MCAST_REPORT1] = IGMP_REPORT1, [MCAST_REPORT2] = IGMP_REPORT2, [MCAST_LEAVE2] = IGMP_LEAVE2};

    memset(p->data, 0, IGMP_HDR_BYTES);
    p->data[0] = type[what];
    memcpy(p->data + 4, group->ip, 4);
    p->len = IGMP_HDR_BYTES;
    send_message(e, p, what == MCAST_LEAVE2 ? IGMP_ALL_ROUTERS : net_addr4(group),
                 (uint8_t)(group->scope - 1));
}

const struct mcast_proto igmp_proto = {
    .addr_bytes = 4,
    .report_type = IGMP_REPORT3,
    .hdr_bytes = IP4_HDR_BYTES + sizeof(router_alert),
    .send_report = send_report,
    .send_old = send_old,
};

/* ---- In --------------------------------------------------------------------------------------- */

static void query_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct group_query q;

    if (!igmp_query_parse(rp->l4, rp->l4_len, &q)) {
        stat_inc(&e->stats, ST_IGMP_IN_ERRORS);
        return;
    }
    /* RFC 3376 9.1: a general query to another group than all hosts is not to be believed. */
    if (!get_be32(q.group) && rp->broadcast && net_addr4(&rp->dst) != IGMP_ALL_HOSTS) {
        stat_inc(&e->stats, ST_IGMP_IN_ERRORS);
        return;
    }
    stat_inc(&e->stats, ST_IGMP_IN_QUERIES);
    mcast_query(e, &q, SG_AF_INET, rp->ifindex, now_us);
}

static void report_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct ip_addr group = net_ip_addr(get_be32(rp->l4 + 4));

    stat_inc(&e->stats, ST_IGMP_IN_REPORTS);
    group.scope = rp->ifindex + 1u;
    mcast_heard_report(e, &group, now_us);
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

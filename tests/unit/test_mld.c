/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv6 multicast: who hears a group, and what routers are told of it (RFC 2710, 3590, 3810). What IPv4 and
 * IPv6 have in common is tested more closely in test_mcast.c.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "daemon/engine/wire/mld.h"
#include "tests/unit/frames6.h"

#define ROUTER GATEWAY
#define SECOND UINT64_C(1000000)

static const uint8_t group_a[16] = {0xff, 0x15, [15] = 0x11}, group_b[16] = {0xff, 0x15, [15] = 0x22};
static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1}, all_routers[16] = {0xff, 0x02, [15] = 2};
static const uint8_t reports2[16] = {0xff, 0x02, [15] = 0x16};

static struct host h;
static struct frame f;
static uint8_t buf[1500], got[1500];

static void start(void)
{
    rig6_start(&h);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(mld, .init = start, .fini = stop);

static void drain(void)
{
    while (host_tx(&h))
        ;
}

static uint32_t next_slot;

static uint32_t bound(uint16_t port)
{
    struct ip_ep any = {.addr = {.family = SG_AF_INET6}, .port = port};
    uint32_t s = 300 + next_slot++;

    cr_assert_eq(engine_open(h.e, h.sid, s, SG_SOCK_DGRAM, 0, SG_AF_INET6), 0);
    cr_assert_eq(engine_setopt(h.e, h.sid, s, 1, 2, 1, h.now_us), 0); /* SO_REUSEADDR */
    cr_assert_eq(engine_bind(h.e, h.sid, s, &any), 0);
    host_run(&h);
    return s;
}

/* `source`: of the station with this last octet; 0: none. */
static int option(uint32_t s, uint32_t name, const uint8_t *group, uint8_t source)
{
    struct engine_mreq r = {.group = addr6(group), .source = addr6(net6(source))};
    int rc = engine_mcast(h.e, h.sid, s, name, &r, h.now_us);

    host_run(&h);
    return rc;
}

static uint32_t member(uint16_t port, const uint8_t *group)
{
    uint32_t s = bound(port);

    cr_assert_eq(option(s, MCAST_ADD, group, 0), 0);
    return s;
}

static void group_datagram(uint8_t from, const uint8_t *group, uint16_t port)
{
    uint8_t l4[18];

    udp_put(l4, 99, port, 10);
    memcpy(l4 + UDP_HDR_BYTES, buf, 10);
    frame_l4(&f, from, net6(from), group, IP_PROTO_UDP, 1, l4, sizeof(l4), UDP_CSUM_OFFSET);
    frame_in(&h, &f);
}

static bool reads(uint32_t s)
{
    return app_recvfrom(&h, s, got, sizeof(got), NULL, NULL) >= 0;
}

/* ---- Messages ------------------------------------------------------------------------------------- */

static uint8_t msg[1500];

/* The next message out: what all of them have in common (RFC 3810 5, 5.2.13). Its bytes stand in `msg`. */
static uint32_t next_mld(const uint8_t *src, const uint8_t *dst)
{
    static const uint8_t alert[8] = {IP6_NH_ICMP, 0, 5, 2, 0, 0, 1, 0};
    const uint8_t *mac;
    struct ip6_pkt ip;
    uint8_t group[ETH_ADDR_BYTES];

    expect_ip6(&h, &ip, &mac);
    eth_multicast6(dst, group);
    cr_assert(eth_eq(mac, group));
    cr_assert_arr_eq(ip.dst, dst, 16);
    cr_assert_arr_eq(ip.src, src, 16);
    cr_assert(ip.next == IP6_NH_HOPS && ip.hops == 1);
    cr_assert_arr_eq(ip.payload, alert, 8, "Router Alert");
    memcpy(msg, ip.payload + 8, ip.len - 8);
    cr_assert_eq(
        csum_finish(csum_add(csum_pseudo6(src, dst, IP6_NH_ICMP, ip.len - 8), csum_partial(msg, ip.len - 8))),
        0, "checksum");
    return ip.len - 8;
}

/* A version 2 report with one record and these sources (0: end). */
static void expect_record_from(const uint8_t *src, enum group_record type, const uint8_t *group, uint8_t s0,
                               uint8_t s1)
{
    uint32_t n = (s0 != 0) + (s1 != 0);
    uint32_t len = next_mld(src, reports2);

    cr_assert_eq(msg[0], MLD_REPORT2);
    cr_assert_eq(get_be16(msg + 6), 1);
    cr_assert_eq(len, 28 + 16 * n);
    cr_assert_eq(msg[8], type, "record of type %u, not %u", msg[8], type);
    cr_assert_eq(get_be16(msg + 10), n);
    cr_assert_arr_eq(msg + 12, group, 16);
    if (s0)
        cr_assert_arr_eq(msg + 28, net6(s0), 16);
    if (s1)
        cr_assert_arr_eq(msg + 44, net6(s1), 16);
}

static void expect_record(enum group_record type, const uint8_t *group, uint8_t s0, uint8_t s1)
{
    expect_record_from(link6(HOST_LAST), type, group, s0, s1);
}

static void expect_old(uint8_t type, const uint8_t *group, const uint8_t *dst)
{
    cr_assert_eq(next_mld(link6(HOST_LAST), dst), 24);
    cr_assert_eq(msg[0], type);
    cr_assert_arr_eq(msg + 8, group, 16);
}

struct asked {
    uint16_t code;        /* milliseconds */
    const uint8_t *group; /* NULL: general */
    uint32_t bytes;       /* of the message */
    uint8_t s0, s1;
    const uint8_t *src; /* NULL: the router's */
    uint8_t hops;       /* 0: 1 */
    bool no_alert;
};

static void query(struct asked a)
{
    uint8_t p[128] = {IP6_NH_ICMP, 0, 5, 2, 0, 0, 1, 0}, *m = p + 8;
    const uint8_t *src = a.src ? a.src : link6(ROUTER), *dst = a.group ? a.group : all_nodes;
    uint16_t sum;

    icmp6_put(m, MLD_QUERY, 0, (uint32_t)a.code << 16);
    if (a.group)
        memcpy(m + 8, a.group, 16);
    m[24] = 2;  /* robustness */
    m[25] = 10; /* interval */
    put_be16(m + 26, (uint16_t)((a.s0 != 0) + (a.s1 != 0)));
    memcpy(m + 28, net6(a.s0), 16);
    memcpy(m + 44, net6(a.s1), 16);
    sum = csum_finish(csum_add(csum_pseudo6(src, dst, IP6_NH_ICMP, a.bytes), csum_partial(m, a.bytes)));
    memcpy(m + 2, &sum, 2);
    if (a.no_alert)
        frame_ip6(&f, ROUTER, src, dst, IP6_NH_ICMP, a.hops ? a.hops : 1, m, a.bytes);
    else
        frame_ip6(&f, ROUTER, src, dst, IP6_NH_HOPS, a.hops ? a.hops : 1, p, 8 + a.bytes);
    frame_in(&h, &f);
}

/* ---- What is heard -------------------------------------------------------------------------------- */

Test(mld, only_members_hear_a_group)
{
    uint32_t in = member(4000, group_a), out = bound(4000);

    group_datagram(1, group_a, 4000);
    cr_assert(reads(in));
    cr_assert_not(reads(out));
    group_datagram(1, group_b, 4000);
    cr_assert_not(reads(in));
    cr_assert_eq(option(in, MCAST_DROP, group_a, 0), 0);
    group_datagram(1, group_a, 4000);
    cr_assert_not(reads(in));
    drain();
}

Test(mld, all_nodes_is_heard_without_joining)
{
    uint32_t s = bound(4000);

    group_datagram(1, all_nodes, 4000);
    cr_assert(reads(s));
    expect_nothing(&h);
}

Test(mld, sources_are_filtered_by_membership)
{
    uint32_t only = bound(4000), but = member(4000, group_a);

    cr_assert_eq(option(only, MCAST_ADD_SOURCE, group_a, 1), 0);
    cr_assert_eq(option(but, MCAST_BLOCK, group_a, 1), 0);
    group_datagram(1, group_a, 4000);
    cr_assert(reads(only) && !reads(but));
    group_datagram(7, group_a, 4000);
    cr_assert(!reads(only) && reads(but));
    drain();
}

Test(mld, calls_refuse_what_linux_refuses)
{
    uint32_t s = member(4000, group_a), v4 = app_socket(&h, SG_SOCK_DGRAM);
    struct engine_mreq r = {.group = addr6(group_b), .ifnum = 2};

    cr_assert_eq(option(s, MCAST_ADD, group_a, 0), -EADDRINUSE);
    cr_assert_eq(option(s, MCAST_ADD, net6(1), 0), -EINVAL);
    cr_assert_eq(option(s, MCAST_DROP, group_b, 0), -EADDRNOTAVAIL);
    cr_assert_eq(option(v4, MCAST_ADD, group_b, 0), -ENOPROTOOPT);
    cr_assert_eq(engine_mcast(h.e, h.sid, s, MCAST_ADD, &r, h.now_us), -ENODEV);
    cr_assert_eq(engine_setopt(h.e, h.sid, s, 41, 17, 2, h.now_us), -ENODEV);
    r.ifnum = 1;
    cr_assert_eq(engine_mcast(h.e, h.sid, s, MCAST_ADD, &r, h.now_us), 0);
    cr_assert_eq(option(s, MCAST_DROP, group_b, 0), 0, "whichever interface");
    drain();
}

Test(mld, own_multicast_comes_back_to_members_unless_switched_off)
{
    uint32_t in = member(4000, group_a), s = bound(5000);
    struct sg_dgram_hdr hdr = {.len = 0, .family = SG_AF_INET6, .port = 4000};
    struct sg_slot *sl = &h.slots[s];
    uint64_t hops;

    memcpy(hdr.addr, group_a, 16);
    cr_assert_eq(engine_getopt(h.e, h.sid, s, 41, 18, &hops), 0);
    cr_assert_eq(hops, 1);
    cr_assert_eq(engine_setopt(h.e, h.sid, s, 41, 17, 1, h.now_us), 0); /* interface */
    cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
    host_run(&h);
    drain();
    for (int round = 0; round < 3; round++) {
        struct ip6_pkt ip;

        cr_assert_eq(engine_setopt(h.e, h.sid, s, 41, 19, round != 1, h.now_us), 0);         /* loop */
        cr_assert_eq(engine_setopt(h.e, h.sid, s, 41, 18, round == 2 ? 0 : 9, h.now_us), 0); /* hops */
        sg_bytes_put(h.seg + ((uint64_t)sl->d.tx_region << SG_REGION_SHIFT), sl->d.tx_log2,
                     sl->a.tx_tail - sl->a.tx_base, &hdr, sizeof(hdr));
        sl->a.tx_tail += sizeof(hdr);
        sl->a.kick_posted++;
        engine_kick(h.e, h.sid, &s, 1, h.now_us);
        if (round != 2) {
            expect_ip6(&h, &ip, NULL);
            cr_assert(memcmp(ip.dst, group_a, 16) == 0 && ip.hops == 9 && ip.next == IP_PROTO_UDP);
        }
        expect_nothing(&h);
        cr_assert_eq(reads(in), round != 1);
    }
}

/* ---- What routers are told ------------------------------------------------------------------------ */

Test(mld, join_and_leave_are_reported_robustness_times)
{
    uint32_t s = member(4000, group_a);

    expect_record(GROUP_TO_EX, group_a, 0, 0);
    expect_nothing(&h);
    cr_assert_leq(host_wait_tx(&h, 1100000), 1010000, "again within a second (RFC 3810 9.11)");
    expect_record(GROUP_TO_EX, group_a, 0, 0);
    host_quiet(&h, 20 * SECOND);
    cr_assert_eq(option(s, MCAST_DROP, group_a, 0), 0);
    expect_record(GROUP_TO_IN, group_a, 0, 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_TO_IN, group_a, 0, 0);
    host_quiet(&h, 20 * SECOND);
    cr_assert_eq(host_counter(&h, "Icmp6OutMLDv2Reports"), 4);
}

Test(mld, source_lists_are_reported_as_allow_and_block)
{
    uint32_t s = bound(4000);

    cr_assert_eq(option(s, MCAST_ADD_SOURCE, group_a, 1), 0);
    expect_record(GROUP_ALLOW, group_a, 1, 0);
    cr_assert_eq(option(s, MCAST_ADD_SOURCE, group_a, 3), 0);
    expect_record(GROUP_ALLOW, group_a, 1, 3);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_ALLOW, group_a, 3, 0);
    cr_assert_eq(option(s, MCAST_DROP_SOURCE, group_a, 1), 0);
    expect_record(GROUP_BLOCK, group_a, 1, 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_BLOCK, group_a, 1, 0);
    host_quiet(&h, 3 * SECOND);
}

Test(mld, groups_that_never_leave_the_host_or_that_all_hear_are_not_reported)
{
    static const uint8_t interface[16] = {0xff, 0x11, [15] = 9};
    uint32_t s = member(4000, interface);

    cr_assert_eq(option(s, MCAST_ADD, all_nodes, 0), 0);
    host_quiet(&h, 3 * SECOND);
    query((struct asked){.code = 100, .bytes = 28});
    host_quiet(&h, 3 * SECOND);
}

/* ---- Groups of our own addresses ------------------------------------------------------------------ */

Test(mld, groups_of_own_addresses_are_reported)
{
    uint8_t group[16];

    ip6_solicited_node(net6(HOST_LAST), group); /* that of the link-local address too */
    engine_announce(h.e, h.now_us);
    host_run(&h);
    while (engine_tx_pending(h.e)) {
        struct pktbuf *p[1];

        if (!engine_tx_peek(h.e, 0, p, 1, h.now_us) || p[0]->data[12] == 0x86)
            break;
        host_tx(&h); /* ARP announces the IPv4 address */
    }
    expect_record(GROUP_TO_EX, group, 0, 0);
}

/* A host that probes for its addresses: what it sends in the first seconds, in order. */
static void probing(void)
{
    struct engine_config cfg;

    rig_stop(&h);
    rig6_config(&cfg, 1);
    host_start(&h, &cfg, SECOND);
    engine_announce(h.e, h.now_us);
}

/* The next IPv6 frame within `max_us`; false: none. */
static bool next_ip6(struct ip6_pkt *ip, uint64_t max_us)
{
    uint64_t end_us = h.now_us + max_us;

    for (; h.now_us <= end_us; h.now_us += 1000) {
        struct pktbuf *p;

        host_run(&h);
        while ((p = host_tx(&h)) != NULL)
            if (get_be16(p->data + 12) == ETH_TYPE_IP6)
                return ip6_parse(p->data + ETH_HDR_BYTES, p->len - ETH_HDR_BYTES, ip);
    }
    return false;
}

Test(mld, group_is_reported_from_no_address_before_it_is_probed_for_and_again_with_one)
{
    unsigned unnamed = 0, named = 0, probes = 0;
    struct ip6_pkt ip;

    probing();
    while (next_ip6(&ip, 5 * SECOND)) {
        bool report = ip.next == IP6_NH_HOPS && ip.payload[8] == MLD_REPORT2;

        if (report && ip6_is_unspecified(ip.src))
            unnamed++;
        else if (report)
            named += memcmp(ip.src, link6(HOST_LAST), 16) == 0;
        else if (!probes++)
            cr_assert_geq(unnamed, 1, "RFC 4862 5.4.2: joined before it is asked for");
        if (report)
            cr_assert_eq(ip.payload[8 + 8], GROUP_TO_EX);
    }
    cr_assert_eq(probes, 2, "one for each address");
    cr_assert_eq(unnamed, 2, "RFC 3590 4");
    cr_assert_eq(named, 2, "and for routers, once there is a link-local address");
}

Test(mld, address_that_goes_away_takes_its_group_along)
{
    struct engine_addr c = {.addr = addr6(net6(77)), .prefix = 64};
    uint8_t group[16];
    struct net_addr *a;

    engine_announce(h.e, h.now_us);
    for (int i = 0; i < 10; i++) {
        host_wait_tx(&h, SECOND);
        drain();
    }
    a = netif_addr_add(&h.e->net.t, &c, ADDR_PREFERRED);
    cr_assert_not_null(a);
    cr_assert_leq(engine_deadline(h.e), h.now_us, "to be told of at once");
    host_run(&h);
    ip6_solicited_node(net6(77), group);
    expect_record(GROUP_TO_EX, group, 0, 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_TO_EX, group, 0, 0);
    netif_addr_del(&h.e->net.t, a);
    host_run(&h);
    expect_record(GROUP_TO_IN, group, 0, 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_TO_IN, group, 0, 0);
}

/* ---- Queries -------------------------------------------------------------------------------------- */

/* Two groups whose joining has been reported. */
static void settle(uint32_t *a, uint32_t *b)
{
    *a = member(4000, group_a);
    *b = bound(4001);
    cr_assert_eq(option(*b, MCAST_ADD_SOURCE, group_b, 1), 0);
    cr_assert_eq(option(*b, MCAST_ADD_SOURCE, group_b, 3), 0);
    for (h.now_us += 5 * SECOND; engine_deadline(h.e) <= h.now_us; h.now_us += 2 * SECOND)
        host_run(&h);
    host_run(&h);
    drain();
    host_quiet(&h, 3 * SECOND);
}

Test(mld, general_query_is_answered_with_all_groups_after_a_delay)
{
    uint32_t a, b;
    uint64_t before;

    settle(&a, &b);
    before = h.now_us;
    query((struct asked){.code = 5000, .bytes = 28});
    expect_nothing(&h);
    cr_assert_leq(host_wait_tx(&h, 5100000), 5010000);
    cr_assert_gt(h.now_us, before);
    cr_assert_eq(next_mld(link6(HOST_LAST), reports2), 8 + 20 + 20 + 32);
    cr_assert_eq(get_be16(msg + 6), 2);
    cr_assert(msg[8] == GROUP_IS_EX && memcmp(msg + 12, group_a, 16) == 0);
    cr_assert(msg[28] == GROUP_IS_IN && get_be16(msg + 30) == 2 && memcmp(msg + 32, group_b, 16) == 0);
    host_quiet(&h, 10 * SECOND);
    cr_assert_eq(host_counter(&h, "Icmp6InGroupMembQueries"), 1);
}

Test(mld, group_and_source_queries_are_answered_about_what_is_asked)
{
    uint32_t a, b;

    settle(&a, &b);
    query((struct asked){.code = 1000, .group = group_a, .bytes = 28});
    cr_assert_leq(host_wait_tx(&h, 1100000), 1010000);
    expect_record(GROUP_IS_EX, group_a, 0, 0);
    query((struct asked){.code = 1000, .group = group_b, .bytes = 60, .s0 = 3, .s1 = 9});
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_IS_IN, group_b, 3, 0);
    query((struct asked){.code = 1000, .group = group_b, .bytes = 44, .s0 = 9});
    host_quiet(&h, 2 * SECOND);
}

Test(mld, long_response_times_have_an_exponent)
{
    cr_assert_eq(mld_float16(32767), 32767);
    cr_assert_eq(mld_float16(0x8000), 0x1000 << 3);
    cr_assert_eq(mld_float16(0xffff), 0x1fff << 10);
}

Test(mld, queries_that_no_router_of_this_link_can_have_sent_are_dropped)
{
    uint32_t a, b;

    settle(&a, &b);
    query((struct asked){.code = 100, .bytes = 28, .src = net6(1)});   /* no link-local source */
    query((struct asked){.code = 100, .bytes = 28, .hops = 2});        /* may have come far */
    query((struct asked){.code = 100, .bytes = 28, .no_alert = true}); /* RFC 3810 6.2 */
    query((struct asked){.code = 100, .bytes = 26});                   /* no version's length */
    query((struct asked){.code = 100, .group = group_a, .bytes = 44, .s0 = 3, .s1 = 9}); /* sources missing */
    query((struct asked){.code = 100, .group = net6(HOST_LAST), .bytes = 28});           /* no group */
    cr_assert_eq(host_counter(&h, "Icmp6InErrors"), 6);
    host_quiet(&h, 2 * SECOND);
}

Test(mld, version_1_querier_gets_version_1_reports_and_done)
{
    uint32_t a, b;

    settle(&a, &b);
    cr_assert_eq(app_close(&h, b), 0);
    for (int i = 0; i < 3; i++) {
        host_wait_tx(&h, 1100000);
        drain();
    }
    query((struct asked){.code = 2000, .bytes = 24});
    cr_assert_leq(host_wait_tx(&h, 2100000), 2010000);
    expect_old(MLD_REPORT1, group_a, group_a);
    host_quiet(&h, 5 * SECOND);
    cr_assert_eq(option(a, MCAST_ADD, group_b, 0), 0);
    expect_old(MLD_REPORT1, group_b, group_b);
    host_wait_tx(&h, 11 * SECOND);
    expect_old(MLD_REPORT1, group_b, group_b);
    cr_assert_eq(option(a, MCAST_DROP, group_b, 0), 0);
    expect_old(MLD_DONE1, group_b, all_routers);
    cr_assert_eq(host_counter(&h, "Icmp6OutGroupMembResponses"), 3);
    cr_assert_eq(host_counter(&h, "Icmp6OutGroupMembReductions"), 1);
}

static void other_reports(const uint8_t *group)
{
    uint8_t p[32] = {IP6_NH_ICMP, 0, 5, 2, 0, 0, 1, 0}, *m = p + 8;
    uint16_t sum;

    icmp6_put(m, MLD_REPORT1, 0, 0);
    memcpy(m + 8, group, 16);
    sum = csum_finish(csum_add(csum_pseudo6(link6(7), group, IP6_NH_ICMP, 24), csum_partial(m, 24)));
    memcpy(m + 2, &sum, 2);
    frame_ip6(&f, 7, link6(7), group, IP6_NH_HOPS, 1, p, sizeof(p));
    frame_in(&h, &f);
}

Test(mld, another_hosts_report_will_do_in_version_1)
{
    uint32_t a, b;

    settle(&a, &b);
    query((struct asked){.code = 10000, .group = group_a, .bytes = 24});
    other_reports(group_a);
    host_quiet(&h, 11 * SECOND);
    cr_assert_eq(host_counter(&h, "Icmp6InGroupMembResponses"), 1);
}

Test(mld, version_2_comes_back_when_the_older_querier_has_gone)
{
    uint32_t a, b;

    settle(&a, &b);
    query((struct asked){.code = 1000, .group = group_a, .bytes = 24});
    host_wait_tx(&h, 1100000);
    expect_old(MLD_REPORT1, group_a, group_a);
    host_quiet(&h, 252 * SECOND); /* RFC 3810 9.12: robustness * interval + response time */
    query((struct asked){.code = 1000, .group = group_a, .bytes = 28});
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_IS_EX, group_a, 0, 0);
}

/* ---- Limits --------------------------------------------------------------------------------------- */

Test(mld, sockets_can_not_use_up_the_records_of_own_addresses)
{
    uint32_t socks = MCAST_GROUPS_MAX / MCAST_SOCK_MAX + 1, full = 0;
    struct ip_addr own;
    uint8_t group[16];

    for (uint32_t i = 0; i < socks * MCAST_SOCK_MAX; i++) {
        static uint32_t s;

        if (i % MCAST_SOCK_MAX == 0)
            s = bound((uint16_t)(4000 + i));
        memcpy(group, group_a, 16);
        put_be16(group + 12, (uint16_t)(i + 1));
        full += option(s, MCAST_ADD, group, 0) == -ENOBUFS;
        drain();
    }
    cr_assert_eq(full, socks * MCAST_SOCK_MAX - MCAST_GROUPS_MAX);
    engine_announce(h.e, h.now_us);
    ip6_solicited_node(net6(HOST_LAST), group);
    own = addr6(group);
    cr_assert(mcast_listens(h.e, &own, 0));
    host_run(&h);
    drain();
}

Test(mld, random_memberships_keep_the_tables_consistent)
{
    uint64_t r = rnd_seed("mld");
    uint32_t s[6];

    engine_announce(h.e, h.now_us);
    for (int i = 0; i < 6; i++)
        s[i] = bound((uint16_t)(4000 + i));
    for (int i = 0; i < 20000; i++) {
        uint64_t x = rnd_next(&r);
        uint8_t group[16] = {0xff, 0x15, [15] = (uint8_t)(x >> 8)}, src = (uint8_t)(1 + (x >> 20) % 30);

        (void)option(s[x % 6], MCAST_ADD + (uint32_t)(x >> 32) % 6, x >> 40 & 1 ? group_a : group, src);
        if (!(x >> 44 & 15)) {
            cr_assert_eq(app_close(&h, s[x % 6]), 0);
            s[x % 6] = bound((uint16_t)(4000 + x % 6));
            next_slot %= 1000;
        }
        if (!(x >> 48 & 7))
            query((struct asked){.code = (uint16_t)(x >> 40),
                                 .group = x >> 51 & 1 ? group_a : NULL,
                                 .bytes = x >> 50 & 1 ? 60 : 24,
                                 .s0 = src,
                                 .s1 = 3});
        h.now_us += (x >> 56) * 1000;
        host_run(&h);
        drain();
        if (i % 64 == 0)
            cr_assert_null(engine_check(h.e), "%s", engine_check(h.e));
    }
}

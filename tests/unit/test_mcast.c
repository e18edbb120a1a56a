/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multicast: who hears a group, and what routers are told of it (RFC 1112, 2236, 3376).
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "daemon/engine/wire/igmp.h"
#include "tests/unit/frames.h"

#define GROUP  0xe9010203u /* 233.1.2.3 */
#define GROUP2 0xe9010204u
#define ROUTER NET4(GATEWAY)

static struct host h;
static struct frame f;
static uint8_t buf[1500], got[1500];

static void start(void)
{
    rig_start(&h);
    rig_resolve(&h, 1);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(mcast, .init = start, .fini = stop);

static int option(uint32_t s, uint32_t name, uint32_t group, uint32_t source)
{
    struct engine_mreq r = {.group = net_ip_addr(group), .source = net_ip_addr(source)};
    int rc;

    rc = engine_mcast(h.e, h.sid, s, name, &r, h.now_us);
    host_run(&h);
    return rc;
}

static uint32_t bound(uint16_t port)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(engine_setopt(h.e, h.sid, s, 1, 2, 1, h.now_us), 0); /* SO_REUSEADDR */
    cr_assert_eq(app_bind(&h, s, port), 0);
    return s;
}

static uint32_t member(uint16_t port, uint32_t group)
{
    uint32_t s = bound(port);

    cr_assert_eq(option(s, MCAST_ADD, group, 0), 0);
    return s;
}

static void group_datagram(uint32_t src, uint32_t group, uint16_t port)
{
    static uint8_t l4[1500];
    struct ip4_pkt ip = {.src = src, .dst = group, .proto = IP_PROTO_UDP, .payload = l4};

    ip.len = put_udp(l4, src, 99, group, port, buf, 10);
    frame_ip4(&f, &ip, 1);
    eth_multicast4(group, f.b);
    frame_in(&h, &f);
}

static bool reads(uint32_t s)
{
    return app_recvfrom(&h, s, got, sizeof(got), NULL, NULL) >= 0;
}

/* ---- What is heard ------------------------------------------------------------------------------ */

Test(mcast, only_members_hear_a_group)
{
    uint32_t in = member(4000, GROUP), out = bound(4000), elsewhere = member(4001, GROUP);

    group_datagram(NET4(1), GROUP, 4000);
    cr_assert(reads(in));
    cr_assert_not(reads(out));
    cr_assert_not(reads(elsewhere));
    group_datagram(NET4(1), GROUP2, 4000);
    cr_assert_not(reads(in));
    cr_assert_eq(host_counter(&h, "DropMulticast"), 1);
    cr_assert_eq(option(in, MCAST_DROP, GROUP, 0), 0);
    group_datagram(NET4(1), GROUP, 4000);
    cr_assert_not(reads(in));
    while (host_tx(&h))
        ;
}

Test(mcast, every_member_gets_its_copy)
{
    uint32_t a = member(4000, GROUP), b = member(4000, GROUP);

    group_datagram(NET4(1), GROUP, 4000);
    cr_assert(reads(a) && reads(b));
    cr_assert_eq(app_close(&h, a), 0);
    group_datagram(NET4(1), GROUP, 4000);
    cr_assert(reads(b));
    while (host_tx(&h))
        ;
}

Test(mcast, sources_are_filtered_by_membership)
{
    uint32_t only = bound(4000), but = member(4000, GROUP);

    cr_assert_eq(option(only, MCAST_ADD_SOURCE, GROUP, NET4(1)), 0);
    cr_assert_eq(option(but, MCAST_BLOCK, GROUP, NET4(1)), 0);
    group_datagram(NET4(1), GROUP, 4000);
    cr_assert(reads(only) && !reads(but));
    group_datagram(NET4(7), GROUP, 4000);
    cr_assert(!reads(only) && reads(but));
    cr_assert_eq(option(but, MCAST_UNBLOCK, GROUP, NET4(1)), 0);
    cr_assert_eq(option(only, MCAST_DROP_SOURCE, GROUP, NET4(1)), 0);
    group_datagram(NET4(1), GROUP, 4000);
    cr_assert(!reads(only) && reads(but));
    while (host_tx(&h))
        ;
}

Test(mcast, calls_refuse_what_linux_refuses)
{
    uint32_t s = member(4000, GROUP);
    struct engine_mreq r = {.group = net_ip_addr(GROUP2), .interface = net_ip_addr(NET4(77))};

    cr_assert_eq(option(s, MCAST_ADD, GROUP, 0), -EADDRINUSE);
    cr_assert_eq(option(s, MCAST_ADD, NET4(1), 0), -EINVAL);
    cr_assert_eq(option(s, MCAST_DROP, GROUP2, 0), -EADDRNOTAVAIL);
    cr_assert_eq(option(s, MCAST_ADD_SOURCE, GROUP, NET4(1)), -EINVAL, "the socket takes all sources");
    cr_assert_eq(option(s, MCAST_DROP_SOURCE, GROUP2, NET4(1)), -EADDRNOTAVAIL);
    cr_assert_eq(option(s, MCAST_BLOCK, GROUP2, NET4(1)), -EINVAL);
    cr_assert_eq(option(s, MCAST_UNBLOCK, GROUP, NET4(1)), -EADDRNOTAVAIL);
    cr_assert_eq(engine_mcast(h.e, h.sid, s, MCAST_ADD, &r, h.now_us), -ENODEV);
    cr_assert_eq(option(app_socket(&h, SG_SOCK_STREAM), MCAST_ADD, GROUP, 0), -ENOPROTOOPT);
    while (host_tx(&h))
        ;
}

Test(mcast, limits_are_counted_and_give_way_again)
{
    uint32_t s = bound(4000), t = bound(4001);

    for (uint32_t i = 0; i < MCAST_SOCK_MAX; i++)
        cr_assert_eq(option(s, MCAST_ADD, GROUP + i, 0), 0);
    cr_assert_eq(option(s, MCAST_ADD, GROUP + MCAST_SOCK_MAX, 0), -ENOBUFS);
    cr_assert_eq(option(s, MCAST_DROP, GROUP, 0), 0);
    cr_assert_eq(option(s, MCAST_ADD, GROUP + MCAST_SOCK_MAX, 0), 0);
    for (uint32_t i = 0; i < MCAST_SOURCES_MAX; i++)
        cr_assert_eq(option(t, MCAST_ADD_SOURCE, GROUP2, NET4(10 + i)), 0);
    cr_assert_eq(option(t, MCAST_ADD_SOURCE, GROUP2, NET4(99)), -ENOBUFS);
    cr_assert_eq(host_counter(&h, "McastLimit"), 2);
    while (host_tx(&h))
        ;
}

Test(mcast, own_multicast_comes_back_to_members_unless_switched_off)
{
    uint32_t in = member(4000, GROUP), s = bound(5000);
    struct sg_dgram_hdr hdr = {.len = 0, .family = SG_AF_INET, .port = 4000};
    struct sg_slot *sl = &h.slots[s];

    put_be32(hdr.addr, GROUP);
    cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
    host_run(&h);
    while (host_tx(&h))
        ;
    for (int round = 0; round < 3; round++) {
        struct pktbuf *p;
        struct eth_frame eth;
        struct ip4_pkt ip;

        cr_assert_eq(engine_setopt(h.e, h.sid, s, 0, 34, round != 1, h.now_us), 0);         /* loop */
        cr_assert_eq(engine_setopt(h.e, h.sid, s, 0, 33, round == 2 ? 0 : 9, h.now_us), 0); /* TTL */
        sg_bytes_put(h.seg + ((uint64_t)sl->d.tx_region << SG_REGION_SHIFT), sl->d.tx_log2,
                     sl->a.tx_tail - sl->a.tx_base, &hdr, sizeof(hdr));
        sl->a.tx_tail += sizeof(hdr);
        sl->a.kick_posted++;
        engine_kick(h.e, h.sid, &s, 1, h.now_us);
        p = host_tx(&h);
        cr_assert_eq(p != NULL, round != 2, "TTL 0 stays in the host");
        if (p) {
            cr_assert(eth_parse(p->data, p->len, &eth) && ip4_parse(eth.payload, eth.len, &ip));
            cr_assert(ip.dst == GROUP && ip.ttl == 9 && eth.dst[0] == 1 && eth.dst[3] == 1);
        }
        expect_nothing(&h);
        cr_assert_eq(reads(in), round != 1);
    }
}

/* ---- What routers are told ------------------------------------------------------------------------ */

/* The next message out; checks everything that all of them have in common. Its bytes stand in `msg`. */
static uint8_t msg[1500];
static uint32_t next_igmp(uint32_t dst)
{
    struct pktbuf *p = host_tx(&h);
    struct eth_frame eth;
    struct ip4_pkt ip;
    uint8_t mac[ETH_ADDR_BYTES];

    cr_assert_not_null(p, "no message");
    cr_assert(eth_parse(p->data, p->len, &eth) && ip4_parse(eth.payload, eth.len, &ip));
    cr_assert(ip4_csum_ok(&ip));
    eth_multicast4(dst, mac);
    cr_assert(eth_eq(eth.dst, mac));
    cr_assert(ip.proto == IP_PROTO_IGMP && ip.ttl == 1 && ip.tos == 0xc0 && ip.src == HOST4 && ip.dst == dst);
    cr_assert_eq(ip.hdr_len, 24);
    cr_assert_arr_eq(ip.hdr + 20, ((uint8_t[]){0x94, 4, 0, 0}), 4, "Router Alert");
    cr_assert_eq(csum_finish(csum_partial(ip.payload, ip.len)), 0);
    memcpy(msg, ip.payload, ip.len);
    return ip.len;
}

/* A version 3 report with one record and these sources (0: end). */
static void expect_record(enum group_record type, uint32_t group, uint32_t s0, uint32_t s1)
{
    uint32_t n = (s0 != 0) + (s1 != 0);
    uint32_t len = next_igmp(IGMP_REPORTS3);

    cr_assert_eq(msg[0], IGMP_REPORT3);
    cr_assert_eq(get_be16(msg + 6), 1);
    cr_assert_eq(len, 16 + 4 * n);
    cr_assert_eq(msg[8], type, "record of type %u, not %u", msg[8], type);
    cr_assert_eq(get_be16(msg + 10), n);
    cr_assert_eq(get_be32(msg + 12), group);
    if (s0)
        cr_assert_eq(get_be32(msg + 16), s0);
    if (s1)
        cr_assert_eq(get_be32(msg + 20), s1);
}

static void expect_old(uint8_t type, uint32_t group, uint32_t dst)
{
    cr_assert_eq(next_igmp(dst), 8);
    cr_assert_eq(msg[0], type);
    cr_assert_eq(get_be32(msg + 4), group);
}

Test(mcast, join_and_leave_are_reported_robustness_times)
{
    uint32_t s = member(4000, GROUP);

    expect_record(GROUP_TO_EX, GROUP, 0, 0);
    expect_nothing(&h);
    cr_assert_leq(host_wait_tx(&h, 1100000), 1010000, "again within a second (RFC 3376 8.11)");
    expect_record(GROUP_TO_EX, GROUP, 0, 0);
    host_quiet(&h, 20000000);
    cr_assert_eq(option(s, MCAST_DROP, GROUP, 0), 0);
    expect_record(GROUP_TO_IN, GROUP, 0, 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_TO_IN, GROUP, 0, 0);
    host_quiet(&h, 20000000);
    cr_assert_eq(host_counter(&h, "IgmpOutReports"), 4);
}

Test(mcast, second_member_changes_nothing_for_routers)
{
    uint32_t a = member(4000, GROUP), b;

    host_wait_tx(&h, 1100000);
    expect_record(GROUP_TO_EX, GROUP, 0, 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_TO_EX, GROUP, 0, 0);
    b = member(4001, GROUP);
    host_quiet(&h, 3000000);
    cr_assert_eq(app_close(&h, a), 0);
    host_quiet(&h, 3000000);
    cr_assert_eq(app_close(&h, b), 0);
    host_run(&h);
    expect_record(GROUP_TO_IN, GROUP, 0, 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_TO_IN, GROUP, 0, 0);
}

Test(mcast, source_lists_are_reported_as_allow_and_block)
{
    uint32_t s = bound(4000);

    cr_assert_eq(option(s, MCAST_ADD_SOURCE, GROUP, NET4(1)), 0);
    expect_record(GROUP_ALLOW, GROUP, NET4(1), 0);
    cr_assert_eq(option(s, MCAST_ADD_SOURCE, GROUP, NET4(2)), 0);
    expect_record(GROUP_ALLOW, GROUP, NET4(1), NET4(2)); /* with what was still to be said (5.1) */
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_ALLOW, GROUP, NET4(2), 0);
    host_quiet(&h, 3000000);
    cr_assert_eq(option(s, MCAST_DROP_SOURCE, GROUP, NET4(1)), 0);
    expect_record(GROUP_BLOCK, GROUP, NET4(1), 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_BLOCK, GROUP, NET4(1), 0);
    cr_assert_eq(option(s, MCAST_DROP_SOURCE, GROUP, NET4(2)), 0);
    expect_record(GROUP_BLOCK, GROUP, NET4(2), 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_BLOCK, GROUP, NET4(2), 0);
    host_quiet(&h, 3000000);
}

Test(mcast, filters_of_sockets_are_merged)
{
    uint32_t only = bound(4000), but;

    cr_assert_eq(option(only, MCAST_ADD_SOURCE, GROUP, NET4(1)), 0);
    expect_record(GROUP_ALLOW, GROUP, NET4(1), 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_ALLOW, GROUP, NET4(1), 0);
    but = member(4001, GROUP); /* one that excludes makes the host exclude (RFC 3376 3.2) */
    expect_record(GROUP_TO_EX, GROUP, 0, 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_TO_EX, GROUP, 0, 0);
    cr_assert_eq(option(but, MCAST_BLOCK, GROUP, NET4(1)), 0); /* but the other wants it */
    host_quiet(&h, 3000000);
    cr_assert_eq(option(but, MCAST_BLOCK, GROUP, NET4(2)), 0);
    expect_record(GROUP_BLOCK, GROUP, NET4(2), 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_BLOCK, GROUP, NET4(2), 0);
    cr_assert_eq(app_close(&h, but), 0);
    host_run(&h);
    expect_record(GROUP_TO_IN, GROUP, NET4(1), 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_TO_IN, GROUP, NET4(1), 0);
    host_quiet(&h, 3000000);
}

/* ---- Queries ------------------------------------------------------------------------------------------ */

static void query(uint8_t code, uint32_t group, uint32_t bytes, uint32_t s0, uint32_t s1, uint32_t from)
{
    struct ip4_pkt ip = {.src = from, .dst = group ? group : IGMP_ALL_HOSTS, .proto = IP_PROTO_IGMP};
    uint8_t m[64] = {IGMP_QUERY, code};
    uint16_t n = (uint16_t)((s0 != 0) + (s1 != 0)), sum;

    put_be32(m + 4, group);
    m[8] = 2;  /* robustness */
    m[9] = 10; /* interval */
    put_be16(m + 10, n);
    put_be32(m + 12, s0);
    put_be32(m + 16, s1);
    ip.len = bytes;
    sum = csum_finish(csum_partial(m, ip.len));
    memcpy(m + 2, &sum, 2);
    ip.payload = m;
    ip.ttl = 1;
    frame_ip4(&f, &ip, 1);
    eth_multicast4(ip.dst, f.b);
    frame_in(&h, &f);
}

/* Two groups whose joining has been reported. */
static void settle(uint32_t *a, uint32_t *b)
{
    *a = member(4000, GROUP);
    *b = bound(4001);
    cr_assert_eq(option(*b, MCAST_ADD_SOURCE, GROUP2, NET4(1)), 0);
    cr_assert_eq(option(*b, MCAST_ADD_SOURCE, GROUP2, NET4(2)), 0);
    for (h.now_us += 5000000; engine_deadline(h.e) <= h.now_us; h.now_us += 2000000)
        host_run(&h);
    host_run(&h);
    while (host_tx(&h))
        ;
    host_quiet(&h, 3000000);
}

Test(mcast, general_query_is_answered_with_all_groups_after_a_delay)
{
    uint32_t a, b;
    uint64_t before;

    settle(&a, &b);
    before = h.now_us;
    query(50, 0, 12, 0, 0, 0); /* 5 s; from 0.0.0.0, as proxies ask (RFC 4541) */
    expect_nothing(&h);
    cr_assert_leq(host_wait_tx(&h, 5100000), 5010000);
    cr_assert_gt(h.now_us, before);
    cr_assert_eq(next_igmp(IGMP_REPORTS3), 8 + 8 + 8 + 8);
    cr_assert_eq(get_be16(msg + 6), 2);
    cr_assert(msg[8] == GROUP_IS_EX && get_be32(msg + 12) == GROUP);
    cr_assert(msg[16] == GROUP_IS_IN && get_be16(msg + 18) == 2 && get_be32(msg + 20) == GROUP2);
    host_quiet(&h, 10000000);
    cr_assert_eq(host_counter(&h, "IgmpInQueries"), 1);
}

Test(mcast, group_query_is_answered_about_that_group)
{
    uint32_t a, b;

    settle(&a, &b);
    query(10, GROUP, 12, 0, 0, ROUTER);
    cr_assert_leq(host_wait_tx(&h, 1100000), 1010000);
    expect_record(GROUP_IS_EX, GROUP, 0, 0);
    query(10, 0xe9999999, 12, 0, 0, ROUTER); /* nobody's */
    host_quiet(&h, 2000000);
}

Test(mcast, source_query_is_answered_with_the_sources_that_are_wanted)
{
    uint32_t a, b;

    settle(&a, &b);
    query(10, GROUP2, 20, NET4(2), NET4(9), ROUTER);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_IS_IN, GROUP2, NET4(2), 0);
    query(10, GROUP2, 16, NET4(9), 0, ROUTER); /* none of ours */
    host_quiet(&h, 2000000);
    cr_assert_eq(option(a, MCAST_BLOCK, GROUP, NET4(2)), 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_BLOCK, GROUP, NET4(2), 0);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_BLOCK, GROUP, NET4(2), 0);
    query(10, GROUP, 20, NET4(2), NET4(9), ROUTER); /* all but 2 is wanted */
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_IS_IN, GROUP, NET4(9), 0);
    query(10, GROUP, 16, NET4(7), 0, ROUTER); /* a query about the whole group makes it needless */
    query(10, GROUP, 12, 0, 0, ROUTER);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_IS_EX, GROUP, NET4(2), 0);
    host_quiet(&h, 3000000);
}

Test(mcast, malformed_queries_are_counted_and_change_nothing)
{
    uint32_t a, b;

    settle(&a, &b);
    query(10, GROUP, 10, 0, 0, ROUTER);             /* RFC 3376 7.1: a length that no version has */
    query(10, GROUP, 16, NET4(2), NET4(9), ROUTER); /* fewer sources than it says */
    query(10, NET4(5), 12, 0, 0, ROUTER);           /* no group; goes to no group of ours */
    query(10, GROUP, 12, 0, 0, ROUTER);
    f.b[f.len - 1] ^= 1;
    frame_in(&h, &f); /* checksum */
    cr_assert_eq(host_counter(&h, "IgmpInErrors"), 3);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_IS_EX, GROUP, 0, 0);
    host_quiet(&h, 3000000);
}

Test(mcast, version_2_querier_gets_version_2_reports_and_a_leave)
{
    uint32_t a, b;

    settle(&a, &b);
    cr_assert_eq(app_close(&h, b), 0);
    for (int i = 0; i < 3; i++) {
        host_wait_tx(&h, 1100000);
        while (host_tx(&h))
            ;
    }
    query(20, 0, 8, 0, 0, ROUTER);
    cr_assert_leq(host_wait_tx(&h, 2100000), 2010000);
    expect_old(IGMP_REPORT2, GROUP, GROUP);
    host_quiet(&h, 5000000);
    cr_assert_eq(option(a, MCAST_ADD, GROUP2, 0), 0);
    expect_old(IGMP_REPORT2, GROUP2, GROUP2);
    host_wait_tx(&h, 11000000);
    expect_old(IGMP_REPORT2, GROUP2, GROUP2);
    cr_assert_eq(option(a, MCAST_DROP, GROUP2, 0), 0);
    expect_old(IGMP_LEAVE2, GROUP2, IGMP_ALL_ROUTERS);
}

Test(mcast, version_1_querier_gets_version_1_reports_and_no_leave)
{
    uint32_t a, b;

    settle(&a, &b);
    query(0, GROUP, 8, 0, 0, ROUTER);
    cr_assert_leq(host_wait_tx(&h, 10100000), 10010000);
    expect_old(IGMP_REPORT1, GROUP, GROUP);
    cr_assert_eq(option(a, MCAST_DROP, GROUP, 0), 0);
    host_quiet(&h, 5000000);
}

Test(mcast, another_hosts_report_will_do_in_version_2)
{
    struct ip4_pkt ip = {.src = NET4(7), .dst = GROUP, .proto = IP_PROTO_IGMP, .ttl = 1, .len = 8};
    uint8_t report[8] = {IGMP_REPORT2};
    uint16_t sum;
    uint32_t a, b;

    settle(&a, &b);
    query(100, GROUP, 8, 0, 0, ROUTER);
    put_be32(report + 4, GROUP);
    sum = csum_finish(csum_partial(report, 8));
    memcpy(report + 2, &sum, 2);
    ip.payload = report;
    frame_ip4(&f, &ip, 1);
    eth_multicast4(GROUP, f.b);
    frame_in(&h, &f);
    host_quiet(&h, 11000000);
    cr_assert_eq(host_counter(&h, "IgmpInReports"), 1);
}

Test(mcast, version_3_comes_back_when_the_older_querier_has_gone)
{
    uint32_t a, b;

    settle(&a, &b);
    query(10, GROUP, 8, 0, 0, ROUTER);
    host_wait_tx(&h, 1100000);
    expect_old(IGMP_REPORT2, GROUP, GROUP);
    host_quiet(&h, 252000000); /* RFC 3376 8.12: robustness * interval + response time */
    query(10, GROUP, 12, 0, 0, ROUTER);
    host_wait_tx(&h, 1100000);
    expect_record(GROUP_IS_EX, GROUP, 0, 0);
}

Test(mcast, random_memberships_keep_the_tables_consistent)
{
    uint64_t r = rnd_seed("mcast");
    uint32_t s[6];

    for (int i = 0; i < 6; i++)
        s[i] = bound((uint16_t)(4000 + i));
    for (int i = 0; i < 20000; i++) {
        uint64_t x = rnd_next(&r);
        uint32_t group = GROUP + (uint32_t)(x >> 8) % 200, src = NET4(1 + (uint32_t)(x >> 20) % 30);

        (void)option(s[x % 6], MCAST_ADD + (uint32_t)(x >> 32) % 6, x >> 40 & 1 ? GROUP : group, src);
        if (!(x >> 44 & 15)) {
            cr_assert_eq(app_close(&h, s[x % 6]), 0);
            s[x % 6] = bound((uint16_t)(4000 + x % 6));
        }
        if (!(x >> 48 & 7))
            query((uint8_t)(x >> 52), x >> 51 & 1 ? GROUP : 0, x >> 50 & 1 ? 20 : 8, src, NET4(3), ROUTER);
        h.now_us += (x >> 56) * 1000;
        host_run(&h);
        while (host_tx(&h))
            ;
        if (i % 64 == 0)
            cr_assert_null(engine_check(h.e), "%s", engine_check(h.e));
    }
}

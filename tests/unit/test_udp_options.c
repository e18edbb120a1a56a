/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the options of datagram sockets do: sharing a port, buffers in bytes, header fields, UDP_SEGMENT.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/frames.h"

#define L_SOCKET        1u
#define L_IP            0u
#define L_UDP           17u
#define O_REUSEADDR     2u
#define O_ERROR         4u
#define O_SNDBUF        7u
#define O_RCVBUF        8u
#define O_REUSEPORT     15u
#define O_TOS           1u
#define O_TTL           2u
#define O_MULTICAST_TTL 33u
#define O_SEGMENT       103u

static struct host h;
static struct frame f;
static uint8_t buf[SG_DGRAM_BYTES_MAX], got[SG_DGRAM_BYTES_MAX];

static void start(void)
{
    rig_start(&h);
    rig_resolve(&h, 1);
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 13 + i / 256);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(udp_options, .init = start, .fini = stop);

static int set(uint32_t s, uint32_t level, uint32_t name, uint64_t value)
{
    return engine_setopt(h.e, h.sid, s, level, name, value, h.now_us);
}

static uint64_t get(uint32_t s, uint32_t level, uint32_t name)
{
    uint64_t v = UINT64_MAX;

    cr_assert_eq(engine_getopt(h.e, h.sid, s, level, name, &v), 0);
    return v;
}

static int bind_to(uint32_t s, uint32_t addr, uint16_t port)
{
    struct ip_ep ep = {.addr = net_ip_addr(addr), .port = port};

    return engine_bind(h.e, h.sid, s, &ep);
}

static uint32_t sharing(uint32_t addr, uint16_t port)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(set(s, L_SOCKET, O_REUSEPORT, 1), 0);
    cr_assert_eq(bind_to(s, addr, port), 0);
    return s;
}

static void datagram_in(uint32_t src, uint16_t sport, uint16_t dport, uint32_t len)
{
    frame_udp(&f, src, sport, HOST4, dport, buf, len);
    frame_in(&h, &f);
}

static bool reads(uint32_t s)
{
    return app_recvfrom(&h, s, got, sizeof(got), NULL, NULL) >= 0;
}

/* ---- SO_REUSEPORT ----------------------------------------------------------------------------- */

Test(udp_options, reuseport_spreads_flows_and_keeps_each_at_one_socket)
{
    uint32_t s[4];
    unsigned count[4] = {0};

    for (int i = 0; i < 4; i++)
        s[i] = sharing(0, 4000);
    for (uint16_t sport = 1000; sport < 1400; sport++) {
        int first = -1;

        for (int round = 0; round < 2; round++) {
            datagram_in(NET4(1), sport, 4000, 4);
            for (int i = 0; i < 4; i++) {
                if (!reads(s[i]))
                    continue;
                cr_assert(round == 0 || first == i, "a flow changed its socket");
                first = i;
                count[i]++;
            }
        }
    }
    cr_assert_eq(count[0] + count[1] + count[2] + count[3], 800, "each datagram went to exactly one");
    for (int i = 0; i < 4; i++)
        cr_assert(count[i] > 120 && count[i] < 280, "socket %d got %u of 800", i, count[i]);
}

Test(udp_options, reuseport_group_is_of_one_address)
{
    uint32_t any[2] = {sharing(0, 4000), sharing(0, 4000)}, own = sharing(HOST4, 4000);

    for (uint16_t sport = 1; sport < 50; sport++) {
        datagram_in(NET4(1), sport, 4000, 4);
        cr_assert(reads(own), "the more specific address goes before the group");
        cr_assert_not(reads(any[0]));
        cr_assert_not(reads(any[1]));
    }
}

Test(udp_options, connected_member_leaves_the_group_for_its_peer)
{
    uint32_t s[2] = {sharing(HOST4, 4000), sharing(HOST4, 4000)};

    cr_assert_eq(app_connect(&h, s[0], 1, 77), 0);
    for (uint16_t sport = 70; sport < 90; sport++) {
        datagram_in(NET4(1), sport, 4000, 4);
        cr_assert_eq(reads(s[0]), sport == 77);
        cr_assert_eq(reads(s[1]), sport != 77);
    }
}

Test(udp_options, port_is_shared_only_when_both_ask_and_belong_to_one_user)
{
    uint32_t a = sharing(0, 4000), b = app_socket(&h, SG_SOCK_DGRAM), c = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(bind_to(b, 0, 4000), -EADDRINUSE, "the second did not ask");
    cr_assert_eq(set(b, L_SOCKET, O_REUSEADDR, 1), 0);
    cr_assert_eq(bind_to(b, 0, 4000), -EADDRINUSE, "one asks for REUSEADDR, the other for REUSEPORT");
    cr_assert_eq(set(b, L_SOCKET, O_REUSEPORT, 1), 0);
    cr_assert_eq(bind_to(b, 0, 4000), 0);
    (void)a;
    /* Another user's session. */
    {
        struct engine_session v = h.e->sessions[h.sid].v;
        uint32_t *map = calloc(1, engine_slot_map_bytes(v.slot_count));
        void *meta = calloc(1, segheap_meta_bytes(v.heap_bytes));
        struct ip_ep ep = {.addr = net_ip_addr(0), .port = 4000};
        int sid;

        v.slot_sock = map;
        v.heap_meta = meta;
        v.uid = h.e->sessions[h.sid].v.uid + 1;
        sid = engine_session_add(h.e, &v, h.now_us);
        cr_assert_geq(sid, 0);
        cr_assert_eq(engine_open(h.e, sid, v.slot_count - 1, SG_SOCK_DGRAM, 0, SG_AF_INET), 0);
        cr_assert_eq(engine_setopt(h.e, sid, v.slot_count - 1, L_SOCKET, O_REUSEPORT, 1, h.now_us), 0);
        cr_assert_eq(engine_bind(h.e, sid, v.slot_count - 1, &ep), -EADDRINUSE);
        engine_session_end(h.e, sid, h.now_us);
        engine_session_drop(h.e, sid);
        free(map);
        free(meta);
    }
    (void)c;
}

Test(udp_options, reuseport_is_for_datagrams)
{
    cr_assert_eq(set(app_socket(&h, SG_SOCK_STREAM), L_SOCKET, O_REUSEPORT, 1), -ENOPROTOOPT);
}

/* ---- Buffers ---------------------------------------------------------------------------------- */

Test(udp_options, receive_buffer_is_a_limit_in_bytes)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);
    unsigned n = 0;

    cr_assert_eq(set(s, L_SOCKET, O_RCVBUF, 5000), 0);
    cr_assert_eq(get(s, L_SOCKET, O_RCVBUF), 5000);
    cr_assert_eq(app_bind(&h, s, 4000), 0);
    for (int i = 0; i < 10; i++) /* 1,056 bytes each in a ring of 8,192: four are within 5,000 */
        datagram_in(NET4(1), 9, 4000, 1000);
    while (reads(s))
        n++;
    cr_assert_eq(n, 4);
    cr_assert_eq(host_counter(&h, "UdpRcvbufErrors"), 6);
}

Test(udp_options, receive_buffer_may_grow_while_the_socket_is_in_use)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);
    unsigned n = 0;

    cr_assert_eq(set(s, L_SOCKET, O_RCVBUF, 1), 0);
    cr_assert_eq(get(s, L_SOCKET, O_RCVBUF), 4096, "not less than the smallest ring");
    cr_assert_eq(app_bind(&h, s, 4000), 0);
    datagram_in(NET4(1), 9, 4000, 1000);
    cr_assert_eq(set(s, L_SOCKET, O_RCVBUF, 60000), 0);
    cr_assert(reads(s), "what was there stays");
    for (int i = 0; i < 100; i++)
        datagram_in(NET4(1), 9, 4000, 1000);
    while (reads(s))
        n++;
    cr_assert_eq(n, 56); /* 60,000 / 1,056 */
}

Test(udp_options, send_buffer_is_the_ring_that_the_application_gets)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(set(s, L_SOCKET, O_SNDBUF, 8192), 0);
    cr_assert_eq(get(s, L_SOCKET, O_SNDBUF), 8192);
    cr_assert_eq(app_bind(&h, s, 4000), 0);
    cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
    host_run(&h);
    cr_assert_eq(h.slots[s].d.tx_log2, 13);
    cr_assert_eq(app_sendto(&h, s, buf, 8192, 1, 9), -EAGAIN); /* it could never hold it */
}

/* ---- Header fields ---------------------------------------------------------------------------- */

Test(udp_options, ttl_and_tos_stand_in_the_header)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);
    struct ip4_pkt ip;

    cr_assert_eq(get(s, L_IP, O_TTL), 64);
    cr_assert_eq(set(s, L_IP, O_TTL, 0), -EINVAL);
    cr_assert_eq(set(s, L_IP, O_TTL, 256), -EINVAL);
    cr_assert_eq(set(s, L_IP, O_TTL, 7), 0);
    cr_assert_eq(set(s, L_IP, O_TOS, 0xb8), 0);
    cr_assert_eq(set(s, L_IP, O_MULTICAST_TTL, 9), 0);
    cr_assert_eq(get(s, L_IP, O_TTL), 7);
    cr_assert_eq(get(s, L_IP, O_TOS), 0xb8);
    cr_assert_eq(get(s, L_IP, O_MULTICAST_TTL), 9);
    cr_assert_eq(app_sendto(&h, s, buf, 5, 1, 9), 5);
    expect_ip4(&h, &ip, NULL);
    cr_assert(ip.ttl == 7 && ip.tos == 0xb8);
}

/* ---- UDP_SEGMENT ------------------------------------------------------------------------------ */

/* The datagrams that follow carry `len` bytes of buf in pieces of `each`. */
static void expect_pieces(uint32_t len, uint32_t each)
{
    for (uint32_t at = 0; at < len; at += each) {
        uint32_t n = len - at < each ? len - at : each;
        struct udp_dgram d;
        struct ip4_pkt ip;

        expect_ip4(&h, &ip, NULL);
        cr_assert(!ip.more && !ip.frag_off);
        cr_assert(udp_parse(ip.payload, ip.len, &d));
        cr_assert_eq(d.len, n);
        cr_assert_arr_eq(d.data, buf + at, n);
        cr_assert_eq(csum_finish(csum_add(csum_pseudo4(ip.hdr + 12, ip.hdr + 16, IP_PROTO_UDP, ip.len),
                                          csum_partial(ip.payload, ip.len))),
                     0);
    }
    expect_nothing(&h);
}

Test(udp_options, segment_size_cuts_a_large_datagram)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(app_bind(&h, s, 4000), 0);
    cr_assert_eq(set(s, L_UDP, O_SEGMENT, 1000), 0);
    cr_assert_eq(get(s, L_UDP, O_SEGMENT), 1000);
    for (uint32_t round = 0; round < 12; round++) { /* the ring wraps */
        cr_assert_eq(app_sendto(&h, s, buf, 50500, 1, 9), 50500);
        expect_pieces(50500, 1000);
    }
    cr_assert_eq(host_counter(&h, "UdpOutDatagrams"), 12 * 51);
    cr_assert_eq(app_sendto(&h, s, buf, 1000, 1, 9), 1000); /* not longer than the size: as it is */
    expect_pieces(1000, 1000);
    cr_assert_eq(set(s, L_UDP, O_SEGMENT, 0), 0);
    cr_assert_eq(app_sendto(&h, s, buf, 1200, 1, 9), 1200);
    expect_pieces(1200, 1200);
}

Test(udp_options, segment_size_of_a_record_goes_before_the_sockets)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);
    struct sg_dgram_hdr hdr = {.len = 900, .family = SG_AF_INET, .port = 9, .gso_size = 300};
    struct sg_slot *sl = &h.slots[s];
    uint8_t *region;

    put_be32(hdr.addr, NET4(1));
    cr_assert_eq(app_bind(&h, s, 4000), 0);
    cr_assert_eq(set(s, L_UDP, O_SEGMENT, 100), 0);
    cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
    host_run(&h);
    region = h.seg + ((uint64_t)sl->d.tx_region << SG_REGION_SHIFT);
    sg_bytes_put(region, sl->d.tx_log2, 0, &hdr, sizeof(hdr));
    sg_bytes_put(region, sl->d.tx_log2, sizeof(hdr), buf, 900);
    sl->a.tx_tail = sg_dgram_ring_bytes(900);
    sl->a.kick_posted++;
    engine_kick(h.e, h.sid, &s, 1, h.now_us);
    expect_pieces(900, 300);
}

Test(udp_options, segments_beyond_the_mtu_or_too_many_are_refused)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(app_bind(&h, s, 4000), 0);
    cr_assert_eq(set(s, L_UDP, O_SEGMENT, 65536), -EINVAL);
    cr_assert_eq(set(s, L_UDP, O_SEGMENT, 1473), 0);
    cr_assert_eq(app_sendto(&h, s, buf, 3000, 1, 9), 3000);
    expect_nothing(&h);
    cr_assert_eq(get(s, L_SOCKET, O_ERROR), EMSGSIZE);
    cr_assert_eq(set(s, L_UDP, O_SEGMENT, 1472), 0);
    cr_assert_eq(app_sendto(&h, s, buf, 3000, 1, 9), 3000);
    expect_pieces(3000, 1472);
    cr_assert_eq(set(s, L_UDP, O_SEGMENT, 10), 0);
    cr_assert_eq(app_sendto(&h, s, buf, 10 * UDP_SEGMENTS_MAX, 1, 9), 10 * UDP_SEGMENTS_MAX);
    expect_pieces(10 * UDP_SEGMENTS_MAX, 10);
    cr_assert_eq(app_sendto(&h, s, buf, 10 * UDP_SEGMENTS_MAX + 1, 1, 9), 10 * UDP_SEGMENTS_MAX + 1);
    expect_nothing(&h);
    cr_assert_eq(get(s, L_SOCKET, O_ERROR), EINVAL);
    cr_assert_eq(host_counter(&h, "UdpSndbufErrors"), 2);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* IP_MTU_DISCOVER and IPV6_MTU_DISCOVER of datagrams: DF, fragments, EMSGSIZE, which errors are believed. */
#include <criterion/criterion.h>
#include <errno.h>

#include "daemon/engine/wire/ip6.h"
#include "tests/unit/frames6.h"

#define L_SOCKET       1u
#define L_IP           0u
#define L_IPV6         41u
#define O_ERROR        4u
#define O_MTU_DISCOVER 10u
#define O_MTU          14u
#define O6_MTU_DISC    23u
#define O6_MTU         24u

#define FIT4           (1500u - IP4_HDR_BYTES - UDP_HDR_BYTES)
#define FIT6           (1500u - IP6_HDR_BYTES - UDP_HDR_BYTES)

static struct host h;
static struct frame f;
static uint8_t buf[SG_DGRAM_BYTES_MAX];

static void start(void)
{
    rig6_start(&h);
    rig_resolve(&h, 1);
    rig6_resolve(&h, 1);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(mtu_disc, .init = start, .fini = stop);

static uint64_t get(uint32_t s, uint32_t level, uint32_t name)
{
    uint64_t v = UINT64_MAX;

    cr_assert_eq(engine_getopt(h.e, h.sid, s, level, name, &v), 0);
    return v;
}

/* A connected socket that discovers in this way. */
static uint32_t socket_with(enum mtu_disc how)
{
    uint32_t level = h.family == SG_AF_INET6 ? L_IPV6 : L_IP;
    uint32_t name = h.family == SG_AF_INET6 ? O6_MTU_DISC : O_MTU_DISCOVER;
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(get(s, level, name), MTU_DISC_WANT, "the default");
    cr_assert_eq(engine_setopt(h.e, h.sid, s, level, name, how, h.now_us), 0);
    cr_assert_eq(get(s, level, name), how);
    cr_assert_eq(app_connect(&h, s, 1, 9), 0);
    return s;
}

static int error_of(uint32_t s)
{
    return (int)get(s, L_SOCKET, O_ERROR);
}

static void sends(uint32_t s, uint32_t len)
{
    cr_assert_eq(app_sendto(&h, s, buf, len, 0, 0), (int64_t)len);
}

/* The datagram leaves in one packet of that size, with or without DF. */
static void expect_whole(uint32_t s, uint32_t len, bool df)
{
    struct ip4_pkt ip;

    sends(s, len);
    expect_ip4(&h, &ip, NULL);
    cr_assert_eq(ip.len, len + UDP_HDR_BYTES);
    cr_assert(!ip.more && !ip.frag_off);
    cr_assert_eq(ip.df, df);
    expect_nothing(&h);
    cr_assert_eq(error_of(s), 0);
}

/* It is cut; the first packet has `first` bytes. */
static void expect_cut(uint32_t s, uint32_t len, uint32_t first)
{
    uint32_t at = 0;
    struct ip4_pkt ip;

    sends(s, len);
    do {
        expect_ip4(&h, &ip, NULL);
        cr_assert(!ip.df && ip.frag_off == at);
        cr_assert_eq(ip.len == first - IP4_HDR_BYTES, ip.more, "%u of %u bytes", ip.len, first);
        at += ip.len;
    } while (ip.more);
    cr_assert_eq(at, len + UDP_HDR_BYTES);
    cr_assert_eq(error_of(s), 0);
}

static void expect_refused(uint32_t s, uint32_t len)
{
    sends(s, len);
    expect_nothing(&h);
    cr_assert_eq(error_of(s), EMSGSIZE);
}

/* A router says that a packet of 1,500 bytes from this socket was too long for its link of `mtu`. */
static void too_big(uint32_t s, uint16_t mtu)
{
    struct ip4_pkt ip = {.src = HOST4, .dst = NET4(1), .proto = IP_PROTO_UDP, .ttl = 3, .len = 1480};
    uint8_t q[IP4_HDR_BYTES + UDP_HDR_BYTES];

    ip4_put(q, &ip);
    udp_put(q + IP4_HDR_BYTES, h.slots[s].n.local_port, 9, FIT4);
    frame_icmp(&f, NET4(9), HOST4, ICMP4_UNREACH, ICMP4_UNREACH_FRAG_NEEDED, mtu, q, sizeof(q));
    frame_in(&h, &f);
}

Test(mtu_disc, want_sets_df_on_what_fits_and_cuts_the_rest)
{
    uint32_t s = socket_with(MTU_DISC_WANT);

    expect_whole(s, FIT4, true);
    expect_cut(s, FIT4 + 1, 1500);
    too_big(s, 1000);
    cr_assert_eq(error_of(s), EMSGSIZE, "what was sent is lost; the application may send it again");
    cr_assert_eq(get(s, L_IP, O_MTU), 1000);
    expect_whole(s, 972, true);
    expect_cut(s, 973, 1000 - 4); /* a multiple of 8 */
}

Test(mtu_disc, dont_leaves_df_out_and_tells_nobody)
{
    uint32_t s = socket_with(MTU_DISC_DONT);

    expect_whole(s, FIT4, false);
    expect_cut(s, FIT4 + 1, 1500);
    too_big(s, 1000);
    cr_assert_eq(error_of(s), 0);
    cr_assert_eq(get(s, L_IP, O_MTU), 1000);
    expect_cut(s, FIT4, 1000 - 4);
}

/* RFC 6864 4.1: without DF the identification tells packets apart. */
Test(mtu_disc, packets_that_may_be_cut_have_identifications_of_their_own)
{
    uint32_t s = socket_with(MTU_DISC_DONT);
    struct ip4_pkt a, b;

    sends(s, 10);
    expect_ip4(&h, &a, NULL);
    sends(s, 10);
    expect_ip4(&h, &b, NULL);
    cr_assert_eq((uint16_t)(b.id - a.id), 1);
}

Test(mtu_disc, do_never_cuts)
{
    uint32_t s = socket_with(MTU_DISC_DO);

    expect_whole(s, FIT4, true);
    expect_refused(s, FIT4 + 1);
    too_big(s, 1000);
    cr_assert_eq(error_of(s), EMSGSIZE);
    cr_assert_eq(get(s, L_IP, O_MTU), 1000);
    expect_whole(s, 972, true);
    expect_refused(s, 973);
}

Test(mtu_disc, probe_may_exceed_what_is_known_of_the_path)
{
    uint32_t s = socket_with(MTU_DISC_PROBE);

    too_big(s, 1000);
    cr_assert_eq(error_of(s), EMSGSIZE);
    cr_assert_eq(get(s, L_IP, O_MTU), 1000);
    expect_whole(s, FIT4, true);
    expect_refused(s, FIT4 + 1);
}

Test(mtu_disc, interface_believes_no_errors_and_cuts_nothing)
{
    uint32_t s = socket_with(MTU_DISC_INTERFACE);

    too_big(s, 1000);
    cr_assert_eq(error_of(s), 0);
    cr_assert_eq(get(s, L_IP, O_MTU), 1500);
    expect_whole(s, FIT4, false);
    expect_refused(s, FIT4 + 1);
}

Test(mtu_disc, omit_cuts_at_the_link_whatever_others_learned)
{
    uint32_t s = socket_with(MTU_DISC_OMIT), other = socket_with(MTU_DISC_DO);

    too_big(s, 1000);
    cr_assert_eq(get(s, L_IP, O_MTU), 1500);
    too_big(other, 1000);
    cr_assert_eq(get(s, L_IP, O_MTU), 1000);
    expect_whole(s, FIT4, false);
    expect_cut(s, FIT4 + 1, 1500);
}

Test(mtu_disc, each_piece_of_udp_segment_is_one_packet)
{
    uint32_t s = socket_with(MTU_DISC_DO);
    struct ip4_pkt ip;

    cr_assert_eq(engine_setopt(h.e, h.sid, s, 17, 103 /* UDP_SEGMENT */, 1000, h.now_us), 0);
    sends(s, 2500);
    for (uint32_t left = 2500; left; left -= left < 1000 ? left : 1000) {
        expect_ip4(&h, &ip, NULL);
        cr_assert(ip.df);
        cr_assert_eq(ip.len, UDP_HDR_BYTES + (left < 1000 ? left : 1000));
    }
    too_big(s, 1000);
    cr_assert_eq(error_of(s), EMSGSIZE);
    expect_refused(s, 2500);
}

Test(mtu_disc, ipv6_is_cut_here_or_not_at_all)
{
    struct ip6_pkt ip;
    uint32_t s, want;

    h.family = SG_AF_INET6;
    want = socket_with(MTU_DISC_WANT);
    s = socket_with(MTU_DISC_DO);
    cr_assert_eq(get(s, L_IPV6, O6_MTU), 1500);
    sends(s, FIT6);
    expect_ip6(&h, &ip, NULL);
    cr_assert_eq(ip.next, IP_PROTO_UDP);
    expect_refused(s, FIT6 + 1);
    sends(want, FIT6 + 1);
    expect_ip6(&h, &ip, NULL);
    cr_assert_eq(ip.next, IP6_NH_FRAGMENT);
    expect_ip6(&h, &ip, NULL);
    expect_nothing(&h);
}

Test(mtu_disc, a_raw_socket_discovers_too)
{
    struct ip_ep to = {.addr = net_ip_addr(NET4(1)), .port = 0};
    uint32_t s = 4000;
    struct ip4_pkt ip;

    h.e->sessions[h.sid].v.raw = true;
    cr_assert_eq(engine_open(h.e, h.sid, s, SG_SOCK_RAW, 200, SG_AF_INET), 0);
    cr_assert_eq(engine_setopt(h.e, h.sid, s, L_IP, O_MTU_DISCOVER, MTU_DISC_DO, h.now_us), 0);
    cr_assert_eq(engine_connect(h.e, h.sid, s, &to, h.now_us), 0);
    sends(s, 1480);
    expect_ip4(&h, &ip, NULL);
    cr_assert(ip.df && ip.proto == 200);
    expect_refused(s, 1481);
}

Test(mtu_disc, other_values_are_refused)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(engine_setopt(h.e, h.sid, s, L_IP, O_MTU_DISCOVER, 6, h.now_us), -EINVAL);
    cr_assert_eq(engine_setopt(h.e, h.sid, s, L_IP, O_MTU_DISCOVER, UINT64_MAX, h.now_us), -EINVAL);
    cr_assert_eq(get(s, L_IP, O_MTU_DISCOVER), MTU_DISC_WANT);
}

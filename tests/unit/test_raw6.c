/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw IPv6 sockets (RFC 3542 3), and packet info (RFC 3542 6, ip(7)).
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/frames6.h"

static struct host h;
static struct frame f;
static uint8_t buf[3000], got[65536];

static void start(void)
{
    rig6_start(&h);
    rig6_resolve(&h, 1);
    h.e->sessions[h.sid].v.raw = true;
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 7 + i / 256);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(raw6, .init = start, .fini = stop);
TestSuite(pktinfo, .init = start, .fini = stop);

static uint32_t slot_next = 100;

static uint32_t opened(uint32_t type, uint32_t proto)
{
    uint32_t slot = slot_next++;

    cr_assert_eq(engine_open(h.e, h.sid, slot, type, proto, SG_AF_INET6), 0);
    host_run(&h);
    return slot;
}

static int set(uint32_t s, uint32_t level, uint32_t name, uint64_t value)
{
    return engine_setopt(h.e, h.sid, s, level, name, value, h.now_us);
}

static uint64_t error_of(uint32_t s)
{
    uint64_t error;

    cr_assert_eq(engine_getopt(h.e, h.sid, s, 1, 4, &error), 0);
    return error;
}

static int64_t reads(uint32_t s)
{
    return app_recvfrom(&h, s, got, sizeof(got), NULL, NULL);
}

static void drain(void)
{
    while (host_tx(&h))
        ;
}

/* RFC 3542 3: raw sockets of IPv6 have nothing to do with IPv4. */
Test(raw6, takes_no_ipv4)
{
    uint32_t s = opened(SG_SOCK_RAW, 89);
    uint64_t only = 0;

    cr_assert_eq(engine_getopt(h.e, h.sid, s, 41, 26 /* IPV6_V6ONLY */, &only), 0);
    cr_assert_eq(only, 1);
}

/* Send `len` bytes of buf to an address; `info` may be NULL. */
static void sends(uint32_t s, const uint8_t *to, uint16_t port, uint32_t len,
                  const struct sg_dgram_info *info)
{
    struct sg_dgram_hdr hdr = {.len = len, .family = SG_AF_INET6, .port = port};
    struct sg_slot *sl = &h.slots[s];
    uint64_t pos = sl->a.tx_tail - sl->a.tx_base;
    uint8_t *region;

    cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
    host_run(&h);
    region = h.seg + ((uint64_t)sl->d.tx_region << SG_REGION_SHIFT);
    memcpy(hdr.addr, to, 16);
    hdr.flags = info ? SG_DGRAM_INFO : 0;
    sg_bytes_put(region, sl->d.tx_log2, pos, &hdr, sizeof(hdr));
    if (info)
        sg_bytes_put(region, sl->d.tx_log2, pos + sizeof(hdr), info, sizeof(*info));
    sg_bytes_put(region, sl->d.tx_log2,
                 pos + sg_dgram_record_bytes(&hdr) - sg_dgram_ring_bytes(len) + sizeof(hdr), buf, len);
    sl->a.tx_tail += sg_dgram_record_bytes(&hdr);
    sl->a.kick_posted++;
    engine_kick(h.e, h.sid, &s, 1, h.now_us);
}

static uint16_t sum_of(const struct ip6_pkt *ip)
{
    return csum_finish(
        csum_add(csum_pseudo6(ip->src, ip->dst, ip->next, ip->len), csum_partial(ip->payload, ip->len)));
}

Test(raw6, only_sessions_that_may_get_one)
{
    h.e->sessions[h.sid].v.raw = false;
    cr_assert_eq(engine_open(h.e, h.sid, 50, SG_SOCK_RAW, 58, SG_AF_INET6), -EPERM);
    h.e->sessions[h.sid].v.raw = true;
    cr_assert_eq(engine_open(h.e, h.sid, 50, SG_SOCK_RAW, 255, SG_AF_INET6), -EPROTONOSUPPORT);
}

Test(raw6, packets_come_without_their_header_and_the_stack_answers_too)
{
    uint32_t a = opened(SG_SOCK_RAW, IP6_NH_ICMP), other = opened(SG_SOCK_RAW, 89);
    uint32_t v4 = slot_next++;
    struct ip6_pkt ip;

    cr_assert_eq(engine_open(h.e, h.sid, v4, SG_SOCK_RAW, IP6_NH_ICMP, SG_AF_INET), 0);
    frame_icmp6(&f, 1, net6(1), net6(HOST_LAST), 64, ICMP6_ECHO, 0, 77, buf, 40);
    frame_in(&h, &f);
    cr_assert_eq(reads(a), 8 + 40);
    cr_assert_arr_eq(got, f.b + ETH_HDR_BYTES + IP6_HDR_BYTES, 48);
    cr_assert_eq(reads(other), -EAGAIN);
    cr_assert_eq(reads(v4), -EAGAIN, "the number is another protocol's family");
    expect_icmp6(&h, ICMP6_ECHO_REPLY, 0, &ip);
    frame_in(&h, &f);
    drain();
    f.b[f.len - 1] ^= 1;
    frame_in(&h, &f);
    cr_assert_eq(reads(a), 48);
    cr_assert_eq(reads(a), -EAGAIN, "RFC 3542 3.1: a bad checksum");
    cr_assert_eq(host_counter(&h, "RawCsumErrors"), 1);
}

Test(raw6, extension_headers_are_taken_off)
{
    uint32_t s = opened(SG_SOCK_RAW, 89);
    uint8_t p[38] = {89, 0, 1, 4, 0, 0, 0, 0}; /* destination options */

    memcpy(p + 8, buf, 30);
    frame_ip6(&f, 1, net6(1), net6(HOST_LAST), IP6_NH_DEST, 64, p, sizeof(p));
    frame_in(&h, &f);
    cr_assert_eq(reads(s), 30);
    cr_assert_arr_eq(got, buf, 30);
    expect_nothing(&h);
}

Test(raw6, checksum_of_icmpv6_is_the_engines)
{
    uint32_t s = opened(SG_SOCK_RAW, IP6_NH_ICMP), at = 0;
    struct ip6_pkt ip;

    cr_assert_eq(set(s, 41, 7, 4), -EINVAL, "not to be moved");
    buf[0] = ICMP6_ECHO;
    sends(s, net6(1), 0, 64, NULL);
    expect_icmp6(&h, ICMP6_ECHO, buf[1], &ip);
    cr_assert_arr_eq(ip.payload + 4, buf + 4, 60);
    sends(s, net6(1), 0, 1, NULL);
    expect_nothing(&h);
    cr_assert_eq(error_of(s), EINVAL, "no room for it");
    sends(s, net6(1), 0, 3000, NULL); /* fragments: its sum is that of the whole */
    for (int i = 0; i < 3; i++) {
        expect_ip6(&h, &ip, NULL);
        cr_assert_eq(ip.next, IP6_NH_FRAGMENT);
        memcpy(got + at, ip.payload + 8, ip.len - 8);
        at += ip.len - 8;
    }
    cr_assert_eq(at, 3000);
    cr_assert_eq(
        csum_finish(csum_add(csum_pseudo6(net6(HOST_LAST), net6(1), IP6_NH_ICMP, at), csum_partial(got, at))),
        0);
    cr_assert_arr_eq(got + 4, buf + 4, 2996);
}

Test(raw6, checksum_where_the_application_says)
{
    uint32_t s = opened(SG_SOCK_RAW, 89);
    struct ip6_pkt ip;
    uint64_t off;

    cr_assert_eq(engine_getopt(h.e, h.sid, s, 41, 7, &off), 0);
    cr_assert_eq(off, UINT64_MAX);
    cr_assert_eq(set(s, 41, 7, 5), -EINVAL, "RFC 3542 3.1: odd");
    sends(s, net6(1), 0, 40, NULL);
    expect_ip6(&h, &ip, NULL);
    cr_assert_arr_eq(ip.payload, buf, 40, "none of its own");
    cr_assert_eq(set(s, 41, 7, 12), 0);
    sends(s, net6(1), 0, 40, NULL);
    expect_ip6(&h, &ip, NULL);
    cr_assert_eq(sum_of(&ip), 0);
    frame_ip6(&f, 1, net6(1), net6(HOST_LAST), 89, 64, buf, 40);
    frame_in(&h, &f);
    cr_assert_eq(reads(s), -EAGAIN, "and it is checked");
    frame_l4(&f, 1, net6(1), net6(HOST_LAST), 89, 64, memcpy(got, buf, 40), 40, 12);
    frame_in(&h, &f);
    cr_assert_eq(reads(s), 40);
    cr_assert_eq(set(s, 41, 7, UINT64_MAX), 0);
    frame_ip6(&f, 1, net6(1), net6(HOST_LAST), 89, 64, buf, 40);
    frame_in(&h, &f);
    cr_assert_eq(reads(s), 40);
}

Test(raw6, types_of_icmpv6_can_be_left_out)
{
    uint32_t s = opened(SG_SOCK_RAW, IP6_NH_ICMP);
    uint32_t blocked[8];

    memset(blocked, 0xff, sizeof(blocked));
    blocked[ICMP6_ECHO_REPLY / 32] &= ~(1u << ICMP6_ECHO_REPLY % 32);
    cr_assert_eq(engine_icmp6_filter(h.e, h.sid, s, blocked), 0);
    frame_icmp6(&f, 1, net6(1), net6(HOST_LAST), 64, ICMP6_ECHO, 0, 77, buf, 40);
    frame_in(&h, &f);
    cr_assert_eq(reads(s), -EAGAIN);
    frame_icmp6(&f, 1, net6(1), net6(HOST_LAST), 64, ICMP6_ECHO_REPLY, 0, 77, buf, 40);
    frame_in(&h, &f);
    cr_assert_eq(reads(s), 48);
    cr_assert_eq(engine_icmp6_filter(h.e, h.sid, opened(SG_SOCK_RAW, 89), blocked), -ENOPROTOOPT);
    drain();
}

/* ---- Packet info ---------------------------------------------------------------------------------- */

/* Takes the record that waits, which must have an info. */
static struct sg_dgram_info info_of(uint32_t s)
{
    struct sg_slot *sl = &h.slots[s];
    const uint8_t *region = h.seg + ((uint64_t)sl->d.rx_region << SG_REGION_SHIFT);
    struct sg_dgram_info i;
    struct sg_dgram_hdr hdr;
    uint64_t pos = sl->a.rx_head - sl->d.rx_base;

    cr_assert_neq(sl->d.rx_tail, sl->a.rx_head, "nothing came");
    sg_bytes_get(region, sl->d.rx_log2, pos, &hdr, sizeof(hdr));
    cr_assert_eq(hdr.flags, SG_DGRAM_INFO);
    sg_bytes_get(region, sl->d.rx_log2, pos + sizeof(hdr), &i, sizeof(i));
    sg_bytes_get(region, sl->d.rx_log2, pos + sizeof(hdr) + sizeof(i), got, hdr.len);
    cr_assert_arr_eq(got, buf, hdr.len);
    sl->a.rx_head += sg_dgram_record_bytes(&hdr);
    return i;
}

static uint32_t bound6(uint16_t port)
{
    struct ip_ep any = {.addr = {.family = SG_AF_INET6}, .port = port};
    uint32_t s = opened(SG_SOCK_DGRAM, 0);

    cr_assert_eq(engine_bind(h.e, h.sid, s, &any), 0);
    return s;
}

static void datagram6(const uint8_t *to, uint16_t port, uint8_t hops)
{
    uint8_t l4[18];

    udp_put(l4, 99, port, 10);
    memcpy(l4 + UDP_HDR_BYTES, buf, 10);
    frame_l4(&f, 1, net6(1), to, IP_PROTO_UDP, hops, l4, sizeof(l4), UDP_CSUM_OFFSET);
    f.b[ETH_HDR_BYTES] = 0x6a; /* traffic class 0xa4 */
    f.b[ETH_HDR_BYTES + 1] = 0x40;
    frame_in(&h, &f);
}

Test(pktinfo, tells_where_a_datagram_went_and_how)
{
    static const uint32_t names[] = {49, 51, 66};
    uint32_t s = bound6(4000);
    struct sg_dgram_info i;

    datagram6(net6(HOST_LAST), 4000, 9);
    cr_assert_eq(reads(s), 10, "without the options a record is its header and its bytes");
    for (size_t n = 0; n < 3; n++) {
        uint64_t on;

        cr_assert_eq(set(s, 41, names[n], 1), 0);
        cr_assert_eq(engine_getopt(h.e, h.sid, s, 41, names[n], &on), 0);
        cr_assert_eq(on, 1);
        datagram6(n ? net6(HOST_LAST) : link6(HOST_LAST), 4000, 9);
        i = info_of(s);
        cr_assert(i.ifnum == 1 && i.ttl == 9 && i.tos == 0xa4);
        cr_assert_arr_eq(i.addr, n ? net6(HOST_LAST) : link6(HOST_LAST), 16);
        cr_assert_eq(set(s, 41, names[n], 0), 0);
    }
    datagram6(net6(HOST_LAST), 4000, 9);
    cr_assert_eq(reads(s), 10);
    cr_assert_null(engine_check(h.e));
}

Test(pktinfo, ipv4_on_an_ipv6_socket_is_mapped)
{
    uint32_t s = bound6(4000);
    struct sg_dgram_info i;

    cr_assert_eq(set(s, 0, 8, 1), 0);
    frame_udp(&f, NET4(1), 9, HOST4, 4000, buf, 10);
    frame_in(&h, &f);
    i = info_of(s);
    cr_assert_arr_eq(i.addr, ((uint8_t[16]){[10] = 0xff, 0xff, 192, 0, 2, 2}), 16);
    cr_assert_eq(i.ttl, 64);
}

Test(pktinfo, source_hop_limit_and_class_can_be_said_for_one_datagram)
{
    uint32_t s = bound6(4000);
    struct sg_dgram_info i = {.ttl = 5, .tos = 0x28};
    struct ip6_pkt ip;

    memcpy(i.addr, link6(HOST_LAST), 16);
    sends(s, net6(1), 9, 20, &i);
    expect_ip6(&h, &ip, NULL);
    cr_assert(memcmp(ip.src, link6(HOST_LAST), 16) == 0 && ip.hops == 5 && ip.tclass == 0x28);
    cr_assert_eq(sum_of(&ip), 0);
    i = (struct sg_dgram_info){.ttl = -1, .tos = -1};
    sends(s, net6(1), 9, 20, &i);
    expect_ip6(&h, &ip, NULL);
    cr_assert(memcmp(ip.src, net6(HOST_LAST), 16) == 0 && ip.hops == 64 && ip.tclass == 0);
    i.ifnum = 1;
    sends(s, (uint8_t[16]){0xff, 0x15, [15] = 9}, 9, 20, &i);
    expect_ip6(&h, &ip, NULL);
    cr_assert_eq(ip.hops, 1, "a multicast's");
}

Test(pktinfo, what_can_not_be_is_an_error)
{
    uint32_t s = bound6(4000);
    struct {
        struct sg_dgram_info i;
        uint64_t error;
    } bad[] = {{{.ttl = 0, .tos = -1}, EINVAL},
               {{.ttl = 256, .tos = -1}, EINVAL},
               {{.ttl = -1, .tos = -2}, EINVAL},
               {{.ttl = -1, .tos = 256}, EINVAL},
               {{.ttl = -1, .tos = -1, .ifnum = 2}, ENODEV},
               {{.ttl = -1, .tos = -1, .addr = {0x20, 1, [15] = 1}}, EADDRNOTAVAIL},
               {{.ttl = -1, .tos = -1, .addr = {[10] = 0xff, 0xff, 192, 0, 2, 2}}, EINVAL}};

    for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++) {
        sends(s, net6(1), 9, 20, &bad[n].i);
        expect_nothing(&h);
        cr_assert_eq(error_of(s), bad[n].error, "%zu", n);
    }
}

Test(pktinfo, record_whose_info_is_cut_short_ends_the_session)
{
    struct sg_dgram_hdr hdr = {.len = 32, .family = SG_AF_INET6, .port = 9, .flags = SG_DGRAM_INFO};
    uint32_t s = bound6(4000);
    struct sg_slot *sl = &h.slots[s];

    cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
    host_run(&h);
    memcpy(h.seg + ((uint64_t)sl->d.tx_region << SG_REGION_SHIFT), &hdr, sizeof(hdr));
    sl->a.tx_tail += 64; /* as without one */
    sl->a.kick_posted++;
    engine_kick(h.e, h.sid, &s, 1, h.now_us);
    (void)host_tx(&h);
    host_run(&h);
    cr_assert_not_null(h.fault);
}

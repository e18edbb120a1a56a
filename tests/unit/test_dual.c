/* SPDX-License-Identifier: Apache-2.0 */
/* TCP and UDP over IPv6, and sockets that take both versions (RFC 3493 3.7, 5.3). */
#include <criterion/criterion.h>
#include <errno.h>

#include "daemon/engine/wire/tcp.h"
#include "tests/unit/frames6.h"

#define PORT      7u
#define PEER_PORT 40000u
#define L_IPV6    41u
#define V6ONLY    26u

static struct host h;
static struct frame f;
static uint32_t next_slot;
static const uint8_t any[16];

static void start(void)
{
    rig6_start(&h);
    rig6_resolve(&h, 1);
    rig_resolve(&h, 1);
    next_slot = 200;
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(dual, .init = start, .fini = stop);

static struct ip_ep ep(uint16_t family, const uint8_t *ip, uint16_t port)
{
    struct ip_ep e = {.addr = {.family = family}, .port = port};

    memcpy(e.addr.ip, ip, family == SG_AF_INET ? 4 : 16);
    return e;
}

static uint32_t open_socket(uint32_t type, uint16_t family)
{
    cr_assert_eq(engine_open(h.e, h.sid, ++next_slot, type, 0, family), 0);
    return next_slot;
}

static int bind_any(uint32_t slot, uint16_t family, uint16_t port)
{
    struct ip_ep e = ep(family, any, port);

    return engine_bind(h.e, h.sid, slot, &e);
}

static uint32_t listener(uint16_t family, bool v6only)
{
    uint32_t s = open_socket(SG_SOCK_STREAM, family);

    if (v6only)
        cr_assert_eq(engine_setopt(h.e, h.sid, s, L_IPV6, V6ONLY, 1, h.now_us), 0);
    cr_assert_eq(bind_any(s, family, PORT), 0);
    cr_assert_eq(engine_listen(h.e, h.sid, s, 4, SG_OVERFLOW_DROP), 0);
    return s;
}

/* A TCP segment with nothing in it, with an MSS option on a SYN. */
static uint32_t segment(uint8_t *p, uint16_t dport, uint8_t flags, uint32_t seq, uint32_t ack)
{
    uint32_t len = flags & TCP_SYN ? 24 : 20;

    memset(p, 0, len);
    put_be16(p, PEER_PORT);
    put_be16(p + 2, dport);
    put_be32(p + 4, seq);
    put_be32(p + 8, ack);
    p[12] = (uint8_t)(len / 4 << 4);
    p[13] = flags;
    put_be16(p + 14, 65535);
    if (flags & TCP_SYN) {
        p[20] = TCP_OPT_MSS;
        p[21] = 4;
        put_be16(p + 22, 1440);
    }
    return len;
}

static void tcp6_in(uint16_t dport, uint8_t flags, uint32_t seq, uint32_t ack)
{
    uint8_t p[24];
    uint32_t len = segment(p, dport, flags, seq, ack);

    frame_l4(&f, 1, net6(1), net6(HOST_LAST), IP_PROTO_TCP, 64, p, len, 16);
    frame_in(&h, &f);
}

static void tcp4_in(uint8_t flags, uint32_t seq, uint32_t ack)
{
    struct ip_addr src = net_ip_addr(NET4(1)), dst = net_ip_addr(HOST4);
    uint8_t p[24];
    struct ip4_pkt ip = {.src = NET4(1), .dst = HOST4, .proto = IP_PROTO_TCP, .payload = p};
    uint16_t sum;

    ip.len = segment(p, PORT, flags, seq, ack);
    sum = csum_finish(csum_add(csum_pseudo4(src.ip, dst.ip, IP_PROTO_TCP, ip.len), csum_partial(p, ip.len)));
    memcpy(p + 16, &sum, 2);
    frame_ip4(&f, &ip, HOST_LAST);
    frame_in(&h, &f);
}

static void expect_tcp6(struct tcp_seg *s)
{
    struct ip6_pkt ip;

    expect_ip6(&h, &ip, NULL);
    cr_assert_eq(ip.next, IP_PROTO_TCP);
    cr_assert_eq(csum_finish(csum_add(csum_pseudo6(ip.src, ip.dst, IP_PROTO_TCP, ip.len),
                                      csum_partial(ip.payload, ip.len))),
                 0, "checksum over the IPv6 pseudo-header");
    cr_assert(tcp_parse(ip.payload, ip.len, s));
}

static void expect_tcp4(struct tcp_seg *s)
{
    struct ip4_pkt ip;

    expect_ip4(&h, &ip, NULL);
    cr_assert(tcp_parse(ip.payload, ip.len, s));
}

static uint32_t accepted(uint32_t listener_slot)
{
    cr_assert_eq(engine_accept(h.e, h.sid, listener_slot, ++next_slot, h.now_us), 0);
    engine_publish(h.e, h.now_us);
    return next_slot;
}

Test(dual, connection_over_ipv6_opens_with_the_mss_of_its_header)
{
    uint32_t l = listener(SG_AF_INET6, false), c;
    struct sg_slot_name *n;
    struct tcp_seg s;

    tcp6_in(PORT, TCP_SYN, 1000, 0);
    expect_tcp6(&s);
    cr_assert(s.flags == (TCP_SYN | TCP_ACK) && s.ack == 1001);
    cr_assert_eq(s.mss, 1500 - 40 - 20);
    tcp6_in(PORT, TCP_ACK, 1001, s.seq + 1);
    c = accepted(l);
    n = &h.slots[c].n;
    cr_assert(n->family == SG_AF_INET6 && !memcmp(n->remote, net6(1), 16) &&
              !memcmp(n->local, net6(HOST_LAST), 16));
}

Test(dual, connection_to_ipv6_sends_a_syn_from_the_right_source)
{
    uint32_t s = open_socket(SG_SOCK_STREAM, SG_AF_INET6);
    struct ip_ep to = ep(SG_AF_INET6, link6(1), 80); /* without a zone: there is one interface only */
    struct ip6_pkt ip;

    cr_assert_eq(engine_connect(h.e, h.sid, s, &to, h.now_us), 0);
    expect_ip6(&h, &ip, NULL);
    cr_assert(!memcmp(ip.src, link6(HOST_LAST), 16) && !memcmp(ip.dst, link6(1), 16));
    cr_assert(ip.payload[13] == TCP_SYN);
}

Test(dual, ipv6_listener_takes_ipv4_under_a_mapped_address)
{
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1};
    uint32_t l = listener(SG_AF_INET6, false), c;
    struct sg_slot_name *n;
    struct tcp_seg s;

    tcp4_in(TCP_SYN, 1000, 0);
    expect_tcp4(&s);
    cr_assert_eq(s.flags, TCP_SYN | TCP_ACK);
    cr_assert_eq(s.mss, 1460);
    tcp4_in(TCP_ACK, 1001, s.seq + 1);
    c = accepted(l);
    n = &h.slots[c].n;
    cr_assert(n->family == SG_AF_INET6 && !memcmp(n->remote, mapped, 16));
}

Test(dual, v6only_listener_leaves_ipv4_alone)
{
    struct tcp_seg s;

    (void)listener(SG_AF_INET6, true);
    tcp4_in(TCP_SYN, 1000, 0);
    expect_tcp4(&s);
    cr_assert(s.flags & TCP_RST);
    (void)listener(SG_AF_INET, false); /* and the port is free for IPv4 */
    tcp4_in(TCP_SYN, 2000, 0);
    expect_tcp4(&s);
    cr_assert_eq(s.flags, TCP_SYN | TCP_ACK);
}

Test(dual, ipv4_listener_takes_no_ipv6)
{
    struct tcp_seg s;

    (void)listener(SG_AF_INET, false);
    tcp6_in(PORT, TCP_SYN, 1000, 0);
    expect_tcp6(&s);
    cr_assert(s.flags & TCP_RST);
}

Test(dual, ports_conflict_where_packets_would)
{
    uint32_t six = open_socket(SG_SOCK_STREAM, SG_AF_INET6), four = open_socket(SG_SOCK_STREAM, SG_AF_INET);

    cr_assert_eq(bind_any(six, SG_AF_INET6, PORT), 0);
    cr_assert_eq(bind_any(four, SG_AF_INET, PORT), -EADDRINUSE, "the IPv6 socket takes IPv4 too");
    cr_assert_eq(engine_setopt(h.e, h.sid, six, L_IPV6, V6ONLY, 1, h.now_us), -EINVAL, "bound: too late");
    cr_assert_eq(engine_setopt(h.e, h.sid, four, L_IPV6, V6ONLY, 1, h.now_us), -ENOPROTOOPT);
    six = open_socket(SG_SOCK_STREAM, SG_AF_INET6);
    cr_assert_eq(bind_any(four, SG_AF_INET, PORT + 1), 0);
    cr_assert_eq(bind_any(six, SG_AF_INET6, PORT + 1), -EADDRINUSE);
    cr_assert_eq(engine_setopt(h.e, h.sid, six, L_IPV6, V6ONLY, 1, h.now_us), 0);
    cr_assert_eq(bind_any(six, SG_AF_INET6, PORT + 1), 0);
}

Test(dual, addresses_of_the_other_family_are_refused)
{
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 2};
    uint32_t six = open_socket(SG_SOCK_STREAM, SG_AF_INET6), four = open_socket(SG_SOCK_STREAM, SG_AF_INET);
    struct ip_ep e = ep(SG_AF_INET, mapped + 12, 99);

    cr_assert_eq(engine_bind(h.e, h.sid, six, &e), -EAFNOSUPPORT);
    e = ep(SG_AF_INET6, net6(HOST_LAST), 99);
    cr_assert_eq(engine_bind(h.e, h.sid, four, &e), -EAFNOSUPPORT);
    e = ep(SG_AF_INET6, net6(9), 99);
    cr_assert_eq(engine_bind(h.e, h.sid, six, &e), -EADDRNOTAVAIL);
    cr_assert_eq(engine_setopt(h.e, h.sid, six, L_IPV6, V6ONLY, 1, h.now_us), 0);
    e = ep(SG_AF_INET6, mapped, 99);
    cr_assert_eq(engine_bind(h.e, h.sid, six, &e), -EINVAL);
    cr_assert_eq(engine_connect(h.e, h.sid, six, &e, h.now_us), -ENETUNREACH);
}

Test(dual, udp_socket_takes_both_families)
{
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1};
    uint32_t s = open_socket(SG_SOCK_DGRAM, SG_AF_INET6);
    struct sg_slot *sl = &h.slots[s];
    struct sg_dgram_hdr hdr;
    uint8_t d[12];

    cr_assert_eq(bind_any(s, SG_AF_INET6, PORT), 0);
    udp_put(d, 99, PORT, 4);
    memcpy(d + 8, "four", 4);
    frame_udp(&f, NET4(1), 99, HOST4, PORT, "four", 4);
    frame_in(&h, &f);
    frame_l4(&f, 1, net6(1), net6(HOST_LAST), IP_PROTO_UDP, 64, d, sizeof(d), UDP_CSUM_OFFSET);
    frame_in(&h, &f);
    cr_assert_eq(host_counter(&h, "UdpInDatagrams"), 2);
    sg_bytes_get(h.seg + ((uint64_t)sl->d.rx_region << SG_REGION_SHIFT), sl->d.rx_log2, 0, &hdr, sizeof(hdr));
    cr_assert(hdr.family == SG_AF_INET6 && !memcmp(hdr.addr, mapped, 16));
    sg_bytes_get(h.seg + ((uint64_t)sl->d.rx_region << SG_REGION_SHIFT), sl->d.rx_log2,
                 sg_dgram_ring_bytes(4), &hdr, sizeof(hdr));
    cr_assert(hdr.family == SG_AF_INET6 && !memcmp(hdr.addr, net6(1), 16));
}

Test(dual, icmpv6_error_ends_an_attempt_to_connect)
{
    uint32_t s = open_socket(SG_SOCK_STREAM, SG_AF_INET6);
    struct ip_ep to = ep(SG_AF_INET6, net6(1), 80);
    uint8_t quote[48];
    struct ip6_pkt ip;

    cr_assert_eq(engine_connect(h.e, h.sid, s, &to, h.now_us), 0);
    expect_ip6(&h, &ip, NULL);
    memcpy(quote, ip.hdr, sizeof(quote));
    frame_icmp6(&f, 1, net6(1), net6(HOST_LAST), 64, ICMP6_UNREACH, ICMP6_UNREACH_PORT, 0, quote,
                sizeof(quote));
    frame_in(&h, &f);
    cr_assert_eq(app_error(&h, s), ECONNREFUSED);
}

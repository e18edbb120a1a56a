/* SPDX-License-Identifier: Apache-2.0 */
/* IPv6 (RFC 8200), ICMPv6 (RFC 4443), fragments (RFC 5722, 6946, 7112). */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/frames6.h"

#define PORT 7u

static struct host h;
static struct frame f;
static uint8_t buf[IP6_PAYLOAD_MAX];
static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};

static void start(void)
{
    rig6_start(&h);
    rig6_resolve(&h, 1);
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 7 + i / 256);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(ip6, .init = start, .fini = stop);

/* ---- Fixed header -------------------------------------------------------------------------------- */

static void echo_frame(const uint8_t *src, const uint8_t *dst, uint32_t len)
{
    frame_icmp6(&f, 1, src, dst, 64, ICMP6_ECHO, 0, 0x00070001, buf, len);
}

static void expect_drop(const char *counter, uint64_t value)
{
    frame_in(&h, &f);
    cr_assert_eq(host_counter(&h, counter), value, "%s", counter);
    expect_nothing(&h);
}

Test(ip6, impossible_headers_are_dropped)
{
    unsigned n = 0;

    for (uint32_t len = 0; len < IP6_HDR_BYTES; len += 13) {
        echo_frame(net6(1), net6(2), 8);
        f.len = ETH_HDR_BYTES + len;
        expect_drop("Ip6InHdrErrors", ++n);
    }
    echo_frame(net6(1), net6(2), 8);
    f.b[ETH_HDR_BYTES] = 0x45;
    expect_drop("Ip6InHdrErrors", ++n);
    echo_frame(net6(1), net6(2), 8);
    put_be16(f.b + ETH_HDR_BYTES + 4, 17); /* beyond the frame */
    expect_drop("Ip6InHdrErrors", ++n);
}

Test(ip6, sources_no_host_can_have_are_dropped)
{
    static const uint8_t loopback[16] = {[15] = 1},
                         mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [15] = 1};
    static const uint8_t group[16] = {0xff, 0x0e, [15] = 9};
    const uint8_t *src[] = {loopback, mapped, group, net6(HOST_LAST), link6(HOST_LAST)};

    for (size_t i = 0; i < ARRAY_LEN(src); i++) {
        echo_frame(src[i], net6(2), 8);
        expect_drop("Ip6InAddrErrors", i + 1);
    }
}

Test(ip6, packets_for_others_are_dropped)
{
    static const uint8_t group[16] = {0xff, 0x02, [15] = 0x77}, loopback[16] = {[15] = 1};
    const uint8_t *dst[] = {net6(3), link6(3), loopback, group};

    for (size_t i = 0; i < ARRAY_LEN(dst); i++) {
        echo_frame(net6(1), dst[i], 8);
        expect_drop("Ip6InAddrErrors", i + 1);
    }
    echo_frame(net6(1), net6(2), 8); /* for us, but in a frame for many */
    memcpy(f.b, (uint8_t[]){0x33, 0x33, 0, 0, 0, 1}, 6);
    expect_drop("Ip6InAddrErrors", ARRAY_LEN(dst) + 1);
}

/* ---- Echo ---------------------------------------------------------------------------------------- */

Test(ip6, echo_comes_back_with_its_identity_and_data)
{
    struct ip6_pkt ip;

    for (uint32_t len = 0; len < 1400; len += 97) {
        echo_frame(net6(1), net6(2), len);
        frame_in(&h, &f);
        expect_icmp6(&h, ICMP6_ECHO_REPLY, 0, &ip);
        cr_assert(!memcmp(ip.src, net6(2), 16) && !memcmp(ip.dst, net6(1), 16) && ip.hops == h.cfg.ttl);
        cr_assert(ip.len == 8 + len && get_be32(ip.payload + 4) == 0x00070001);
        cr_assert_arr_eq(ip.payload + 8, buf, len);
    }
}

Test(ip6, echo_to_all_nodes_is_answered_from_an_own_address)
{
    struct ip6_pkt ip;

    echo_frame(link6(1), all_nodes, 8);
    frame_in(&h, &f);
    expect_icmp6(&h, ICMP6_ECHO_REPLY, 0, &ip);
    cr_assert(!memcmp(ip.src, link6(2), 16) && !memcmp(ip.dst, link6(1), 16));
}

Test(ip6, icmp_with_a_bad_checksum_is_dropped)
{
    echo_frame(net6(1), net6(2), 8);
    f.b[f.len - 1] ^= 1;
    expect_drop("Icmp6InErrors", 1);
}

/* ---- Extension headers --------------------------------------------------------------------------- */

static uint8_t chain[1400];
static uint32_t chain_len;

/* Append an extension header whose first byte will name what follows; returns its offset. */
static uint32_t ext(const void *rest, uint32_t bytes)
{
    uint32_t at = chain_len;

    cr_assert(bytes % 8 == 6);
    chain[at] = 0;
    chain[at + 1] = (uint8_t)((bytes + 2) / 8 - 1);
    memcpy(chain + at + 2, rest, bytes);
    chain_len += bytes + 2;
    return at;
}

/* Append an echo request. */
static void chain_echo(void)
{
    uint8_t m[16];
    uint16_t sum;

    icmp6_put(m, ICMP6_ECHO, 0, 0x00070001);
    memcpy(m + 8, buf, 8);
    sum = csum_finish(csum_add(csum_pseudo6(net6(1), net6(2), IP6_NH_ICMP, 16), csum_partial(m, 16)));
    memcpy(m + 2, &sum, 2);
    memcpy(chain + chain_len, m, 16);
    chain_len += 16;
}

static const uint8_t padding[6] = {IP6_OPT_PADN, 4};

static void send_chain(uint8_t first)
{
    frame_ip6(&f, 1, net6(1), net6(2), first, 64, chain, chain_len);
    frame_in(&h, &f);
}

Test(ip6, known_extension_headers_are_skipped)
{
    static const uint8_t routing[6] = {99, 0}; /* unknown type, nothing left: to be ignored */
    static const uint8_t atomic[6] = {0, 0, 0, 0, 0, 9};
    struct ip6_pkt ip;

    chain[ext(padding, 6)] = IP6_NH_DEST;
    chain[ext(padding, 6)] = IP6_NH_ROUTING;
    chain[ext(routing, 6)] = IP6_NH_FRAGMENT; /* atomic: RFC 6946 */
    chain[ext(atomic, 6)] = IP6_NH_ICMP;
    chain_echo();
    send_chain(IP6_NH_HOPS);
    expect_icmp6(&h, ICMP6_ECHO_REPLY, 0, &ip);
    cr_assert_eq(host_counter(&h, "Ip6ReasmReqds"), 0, "an atomic fragment meets no other");
}

Test(ip6, unknown_options_do_what_their_highest_bits_say)
{
    static const struct {
        uint8_t type;
        bool delivered, told;
    } v[] = {{0x1e, true, false}, {0x5e, false, false}, {0x9e, false, true}, {0xde, false, true}};
    struct ip6_pkt ip;

    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        const uint8_t opt[6] = {v[i].type, 4};

        chain_len = 0;
        chain[ext(opt, 6)] = IP6_NH_ICMP;
        chain_echo();
        send_chain(IP6_NH_DEST);
        if (v[i].delivered)
            expect_icmp6(&h, ICMP6_ECHO_REPLY, 0, &ip);
        if (v[i].told) {
            expect_icmp6(&h, ICMP6_PARAM, ICMP6_PARAM_OPTION, &ip);
            cr_assert_eq(get_be32(ip.payload + 4), IP6_HDR_BYTES + 2, "points to the option");
        }
        expect_nothing(&h);
    }
    cr_assert_eq(host_counter(&h, "Ip6InHdrErrors"), 3);
}

Test(ip6, options_are_bounded_and_stay_in_their_header)
{
    static uint8_t many[254];
    static const uint8_t beyond[6] = {IP6_OPT_PADN, 5};

    chain[ext(many, 254)] = IP6_NH_ICMP; /* Pad1 254 times */
    chain_echo();
    send_chain(IP6_NH_DEST);
    expect_nothing(&h);
    chain_len = 0;
    chain[ext(beyond, 6)] = IP6_NH_ICMP;
    chain_echo();
    send_chain(IP6_NH_DEST);
    expect_nothing(&h);
    cr_assert_eq(host_counter(&h, "Ip6InHdrErrors"), 2);
}

Test(ip6, chain_of_headers_is_bounded)
{
    uint32_t at = 0;

    for (unsigned i = 0; i < 9; i++) {
        at = ext(padding, 6);
        chain[at] = IP6_NH_DEST;
    }
    chain[at] = IP6_NH_ICMP;
    chain_echo();
    send_chain(IP6_NH_DEST);
    expect_nothing(&h);
    cr_assert_eq(host_counter(&h, "Ip6InHdrErrors"), 1);
}

Test(ip6, routing_header_with_segments_left_is_refused)
{
    static const uint8_t type0[22] = {0, 1};
    struct ip6_pkt ip;

    chain[ext(type0, 22)] = IP6_NH_ICMP;
    chain_echo();
    send_chain(IP6_NH_ROUTING);
    expect_icmp6(&h, ICMP6_PARAM, ICMP6_PARAM_FIELD, &ip);
    cr_assert_eq(get_be32(ip.payload + 4), IP6_HDR_BYTES + 2, "points to the type (RFC 8200 4.4)");
    expect_nothing(&h);
}

Test(ip6, hop_by_hop_options_stand_first_or_are_refused)
{
    struct ip6_pkt ip;

    chain[ext(padding, 6)] = IP6_NH_HOPS;
    chain[ext(padding, 6)] = IP6_NH_ICMP;
    chain_echo();
    send_chain(IP6_NH_DEST);
    expect_icmp6(&h, ICMP6_PARAM, ICMP6_PARAM_NEXT_HEADER, &ip);
    cr_assert_eq(get_be32(ip.payload + 4), IP6_HDR_BYTES, "points to what named it");
}

Test(ip6, unknown_next_header_is_refused_and_none_is_silence)
{
    struct ip6_pkt ip;

    frame_ip6(&f, 1, net6(1), net6(2), 200, 64, buf, 20);
    frame_in(&h, &f);
    expect_icmp6(&h, ICMP6_PARAM, ICMP6_PARAM_NEXT_HEADER, &ip);
    cr_assert_eq(get_be32(ip.payload + 4), IP6_NEXT_OFF);
    cr_assert_arr_eq(ip.payload + 8, f.b + ETH_HDR_BYTES, IP6_HDR_BYTES + 20, "quotes the packet");
    frame_ip6(&f, 1, net6(1), net6(2), IP6_NH_NONE, 64, buf, 20);
    frame_in(&h, &f);
    expect_nothing(&h);
    cr_assert_eq(host_counter(&h, "Ip6InUnknownProtos"), 1);
}

/* ---- Errors out ---------------------------------------------------------------------------------- */

Test(ip6, errors_are_never_answered_with_errors_nor_groups)
{
    frame_icmp6(&f, 1, net6(1), net6(2), 64, ICMP6_UNREACH, 0, 0, buf, 60);
    f.b[ETH_HDR_BYTES + IP6_NEXT_OFF] = IP6_NH_ICMP;
    frame_in(&h, &f);
    frame_ip6(&f, 1, net6(1), all_nodes, 200, 64, buf, 20);
    frame_in(&h, &f);
    expect_nothing(&h);
}

Test(ip6, error_holds_as_much_as_fits_the_least_mtu)
{
    struct ip6_pkt ip;

    frame_ip6(&f, 1, net6(1), net6(2), 200, 64, buf, 1400);
    frame_in(&h, &f);
    expect_icmp6(&h, ICMP6_PARAM, ICMP6_PARAM_NEXT_HEADER, &ip);
    cr_assert_eq(IP6_HDR_BYTES + ip.len, IP6_MTU_MIN);
}

Test(ip6, errors_are_limited_in_rate_with_those_of_ipv4)
{
    unsigned n = 0;

    for (unsigned i = 0; i < ICMP_BURST + 20; i++) {
        frame_ip6(&f, 1, net6(1), net6(2), 200, 64, buf, 20);
        frame_in(&h, &f);
        while (host_tx(&h))
            n++;
    }
    cr_assert_eq(n, ICMP_BURST);
    cr_assert_eq(host_counter(&h, "IcmpOutRateLimitGlobal"), 20);
}

/* ---- Fragments ----------------------------------------------------------------------------------- */

static uint8_t dgram[9000];

/* An echo request of `len` data bytes, to be cut up. */
static uint32_t make_echo(uint32_t len)
{
    uint16_t sum;

    icmp6_put(dgram, ICMP6_ECHO, 0, 0x00070001);
    memcpy(dgram + 8, buf, len);
    sum = csum_finish(
        csum_add(csum_pseudo6(net6(1), net6(2), IP6_NH_ICMP, 8 + len), csum_partial(dgram, 8 + len)));
    memcpy(dgram + 2, &sum, 2);
    return 8 + len;
}

static void fragment(uint32_t id, uint32_t off, uint32_t len, bool more, uint8_t next)
{
    static uint8_t p[9000];

    p[0] = next;
    p[1] = 0;
    put_be16(p + 2, (uint16_t)(off | more));
    put_be32(p + 4, id);
    memcpy(p + 8, dgram + off, len);
    frame_ip6(&f, 1, net6(1), net6(2), IP6_NH_FRAGMENT, 64, p, 8 + len);
    frame_in(&h, &f);
}

Test(ip6, fragments_in_any_order_make_the_datagram_and_go_out_again_in_fragments)
{
    uint32_t len = make_echo(4000), at = 0, id = 0;
    struct ip6_pkt ip;

    fragment(5, 2400, len - 2400, false, IP6_NH_ICMP);
    fragment(5, 0, 1200, true, IP6_NH_ICMP);
    fragment(5, 0, 1200, true, IP6_NH_ICMP); /* a duplicate is no overlap */
    expect_nothing(&h);
    fragment(5, 1200, 1200, true, IP6_NH_ICMP);
    cr_assert_eq(host_counter(&h, "Ip6ReasmOKs"), 1);
    while (at < len) {
        expect_ip6(&h, &ip, NULL);
        cr_assert(ip.next == IP6_NH_FRAGMENT && ip.payload[0] == IP6_NH_ICMP);
        cr_assert_leq(IP6_HDR_BYTES + ip.len, 1500);
        cr_assert_eq(get_be16(ip.payload + 2) & IP6_FRAG_OFF_MASK, at);
        cr_assert(!at || id == get_be32(ip.payload + 4));
        id = get_be32(ip.payload + 4);
        at += ip.len - IP6_FRAG_HDR_BYTES;
        cr_assert_eq(get_be16(ip.payload + 2) & IP6_FRAG_MORE, at < len);
    }
    cr_assert_eq(at, len);
    expect_nothing(&h);
}

Test(ip6, overlapping_fragments_drop_the_whole_datagram)
{
    uint32_t len = make_echo(3000);

    fragment(6, 0, 1200, true, IP6_NH_ICMP);
    fragment(6, 1192, 1200, true, IP6_NH_ICMP);
    cr_assert_eq(host_counter(&h, "Ip6ReasmFails"), 1);
    fragment(6, 1200, 1200, true, IP6_NH_ICMP);
    fragment(6, 2400, len - 2400, false, IP6_NH_ICMP);
    cr_assert_eq(host_counter(&h, "Ip6ReasmOKs"), 0);
    expect_nothing(&h);
}

Test(ip6, fragment_of_odd_length_is_refused)
{
    struct ip6_pkt ip;

    (void)make_echo(3000);
    fragment(7, 0, 1201, true, IP6_NH_ICMP);
    expect_icmp6(&h, ICMP6_PARAM, ICMP6_PARAM_FIELD, &ip);
    cr_assert_eq(get_be32(ip.payload + 4), 4, "points to the payload length (RFC 8200 4.5)");
}

Test(ip6, fragment_beyond_the_largest_packet_is_refused)
{
    struct ip6_pkt ip;
    uint8_t p[8 + 16] = {IP6_NH_ICMP};

    put_be16(p + 2, 0xfff8);
    put_be32(p + 4, 8);
    frame_ip6(&f, 1, net6(1), net6(2), IP6_NH_FRAGMENT, 64, p, sizeof(p));
    frame_in(&h, &f);
    expect_icmp6(&h, ICMP6_PARAM, ICMP6_PARAM_FIELD, &ip);
    cr_assert_eq(get_be32(ip.payload + 4), IP6_HDR_BYTES + 2, "points to the fragment offset");
}

Test(ip6, first_fragment_without_all_headers_is_refused)
{
    struct ip6_pkt ip;

    memset(dgram, 0, 64);
    dgram[0] = IP_PROTO_TCP; /* destination options that go on beyond the fragment */
    dgram[1] = 3;
    fragment(9, 0, 16, true, IP6_NH_DEST);
    expect_icmp6(&h, ICMP6_PARAM, ICMP6_PARAM_FIRST_FRAG, &ip);
    fragment(10, 0, 16, true, IP_PROTO_TCP); /* less than a TCP header */
    expect_icmp6(&h, ICMP6_PARAM, ICMP6_PARAM_FIRST_FRAG, &ip);
    cr_assert_eq(host_counter(&h, "Ip6ReasmFails"), 2);
}

Test(ip6, incomplete_datagram_times_out_after_a_minute_with_word_to_its_sender)
{
    struct ip6_pkt ip;

    (void)make_echo(3000);
    fragment(11, 0, 1200, true, IP6_NH_ICMP);
    h.now_us += 59000000;
    host_run(&h);
    while (host_tx(&h)) /* The neighbour that was answered is asked whether it is there. */
        ;
    cr_assert_eq(host_counter(&h, "Ip6ReasmFails"), 0);
    h.now_us += 1000000;
    frag_timers(h.e, h.now_us);
    expect_icmp6(&h, ICMP6_TIME_EXCEEDED, 1, &ip);
    cr_assert_eq(ip.payload[8 + IP6_NEXT_OFF], IP6_NH_FRAGMENT, "quotes the fragment");
    cr_assert_arr_eq(ip.payload + 8 + IP6_HDR_BYTES + IP6_FRAG_HDR_BYTES, dgram, 1000);
    cr_assert_eq(host_counter(&h, "Ip6ReasmFails"), 1);
}

/* ---- Packet too big, UDP ------------------------------------------------------------------------- */

Test(ip6, too_big_below_the_least_mtu_is_ignored)
{
    frame_icmp6(&f, 1, net6(1), net6(2), 64, ICMP6_TOO_BIG, 0, 1279, buf, 60);
    expect_drop("Icmp6InErrors", 1);
}

Test(ip6, udp_without_checksum_is_dropped)
{
    uint8_t d[16];
    uint32_t slot = 100;
    struct ip_ep any = {.addr = {.family = SG_AF_INET6}, .port = PORT};

    cr_assert_eq(engine_open(h.e, h.sid, slot, SG_SOCK_DGRAM, 0, SG_AF_INET6), 0);
    cr_assert_eq(engine_bind(h.e, h.sid, slot, &any), 0);
    udp_put(d, 99, PORT, 8);
    memcpy(d + 8, buf, 8);
    frame_ip6(&f, 1, net6(1), net6(2), IP_PROTO_UDP, 64, d, sizeof(d));
    frame_in(&h, &f);
    cr_assert_eq(host_counter(&h, "UdpInCsumErrors"), 1);
    frame_l4(&f, 1, net6(1), net6(2), IP_PROTO_UDP, 64, d, sizeof(d), UDP_CSUM_OFFSET);
    frame_in(&h, &f);
    cr_assert_eq(host_counter(&h, "UdpInDatagrams"), 1);
}

Test(ip6, random_packets_do_no_harm)
{
    uint64_t r = rnd_seed("ip6_random");
    static const uint8_t kinds[] = {IP6_NH_HOPS, IP6_NH_DEST, IP6_NH_ROUTING, IP6_NH_FRAGMENT, IP6_NH_ICMP,
                                    6,           17};

    for (int i = 0; i < 40000; i++) {
        uint32_t len = (uint32_t)(rnd_next(&r) % 200);

        for (uint32_t k = 0; k < len; k++)
            chain[k] = (uint8_t)(rnd_next(&r) >> (rnd_next(&r) % 8));
        for (uint32_t k = 0; k < len; k += 8) /* headers that lead on to others */
            chain[k] = kinds[rnd_next(&r) % sizeof(kinds)];
        frame_ip6(&f, 1, net6(1), net6(2), kinds[rnd_next(&r) % sizeof(kinds)], rnd_next(&r) % 2 ? 255 : 64,
                  chain, len);
        frame_in(&h, &f);
        while (host_tx(&h))
            ;
    }
    rig_check(&h);
}

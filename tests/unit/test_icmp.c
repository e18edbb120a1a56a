/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/frames.h"

static struct host h;
static struct frame f;
static uint8_t buf[IP4_BYTES_MAX];

static void start(void)
{
    rig_start(&h);
    rig_resolve(&h, 1);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(icmp, .init = start, .fini = stop);

static void fill(uint8_t *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 13 + i / 251);
}

static void expect_icmp(struct ip4_pkt *ip, struct icmp4_msg *m)
{
    expect_ip4(&h, ip, NULL);
    cr_assert_eq(ip->proto, IP_PROTO_ICMP);
    cr_assert(ip->src == HOST4 && ip->dst == NET4(1));
    cr_assert(icmp4_parse(ip->payload, ip->len, m));
    cr_assert_eq(csum_finish(csum_partial(ip->payload, ip->len)), 0);
}

/* ---- Echo
 * -------------------------------------------------------------------------------------------------- */

Test(icmp, echo_comes_back_with_its_identity_and_data)
{
    struct icmp4_msg m;
    struct ip4_pkt ip;

    fill(buf, 1472);
    for (uint32_t len = 0; len <= 1472; len += len < 64 ? 1 : 201) {
        frame_icmp(&f, NET4(1), HOST4, ICMP4_ECHO, 0, 0x12340001 + len, buf, len);
        frame_in(&h, &f);
        expect_icmp(&ip, &m);
        cr_assert(m.type == ICMP4_ECHO_REPLY && m.code == 0 && m.rest == 0x12340001 + len);
        cr_assert_eq(m.len, len);
        cr_assert_arr_eq(m.data, buf, len);
        cr_assert_eq(ip.ttl, h.cfg.ttl);
    }
    cr_assert_eq(host_counter(&h, "IcmpInEchos"), host_counter(&h, "IcmpOutEchoReps"));
}

Test(icmp, largest_echo_comes_back_through_reassembly_and_fragmentation)
{
    const uint32_t len = IP4_BYTES_MAX - IP4_HDR_BYTES;
    static uint8_t msg[IP4_BYTES_MAX], got[IP4_BYTES_MAX];
    uint32_t received = 0;
    uint16_t sum;

    icmp4_put(msg, ICMP4_ECHO, 0, 77);
    fill(msg + ICMP4_HDR_BYTES, len - ICMP4_HDR_BYTES);
    sum = csum_finish(csum_partial(msg, len));
    memcpy(msg + 2, &sum, 2);
    for (uint32_t off = 0; off < len; off += 1480) {
        struct ip4_pkt ip = {
            .src = NET4(1),
            .dst = HOST4,
            .id = 5,
            .proto = IP_PROTO_ICMP,
            .frag_off = off,
            .more = off + 1480 < len,
            .payload = msg + off,
            .len = len - off < 1480 ? len - off : 1480,
        };

        frame_ip4(&f, &ip, HOST_LAST);
        frame_in(&h, &f);
    }
    while (received < len) {
        struct ip4_pkt ip;

        expect_ip4(&h, &ip, NULL);
        memcpy(got + ip.frag_off, ip.payload, ip.len);
        received += ip.len;
    }
    expect_nothing(&h);
    cr_assert_eq(csum_finish(csum_partial(got, len)), 0);
    cr_assert_eq(got[0], ICMP4_ECHO_REPLY);
    cr_assert_arr_eq(got + 4, msg + 4, len - 4);
}

Test(icmp, echo_to_everybody_is_not_answered)
{
    frame_icmp(&f, NET4(1), UINT32_MAX, ICMP4_ECHO, 0, 1, "x", 1);
    frame_in(&h, &f);
    frame_icmp(&f, NET4(1), NET4(255), ICMP4_ECHO, 0, 1, "x", 1);
    frame_in(&h, &f);
    expect_nothing(&h);
    cr_assert_eq(host_counter(&h, "IcmpInEchos"), 2);
}

Test(icmp, wrong_checksum_or_short_header_is_counted_and_dropped)
{
    struct ip4_pkt ip = {.src = NET4(1), .dst = HOST4, .proto = IP_PROTO_ICMP, .payload = buf, .len = 7};

    frame_icmp(&f, NET4(1), HOST4, ICMP4_ECHO, 0, 1, "abc", 3);
    f.b[f.len - 1] ^= 1;
    frame_in(&h, &f);
    frame_ip4(&f, &ip, HOST_LAST);
    frame_in(&h, &f);
    expect_nothing(&h);
    cr_assert_eq(host_counter(&h, "IcmpInErrors"), 2);
}

/* ---- Errors in
 * --------------------------------------------------------------------------------------------- */

/* The header and first bytes of a datagram of ours, as an error would quote it. */
static uint32_t quote_udp(uint8_t *q, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport)
{
    struct ip4_pkt ip = {.src = src, .dst = dst, .proto = IP_PROTO_UDP, .ttl = 3, .len = 100};

    ip4_put(q, &ip);
    udp_put(q + IP4_HDR_BYTES, sport, dport, 92);
    return IP4_HDR_BYTES + UDP_HDR_BYTES;
}

static uint32_t connected(uint16_t port)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(app_bind(&h, s, port), 0);
    cr_assert_eq(app_connect(&h, s, 1, 53), 0);
    return s;
}

static int take_error(uint32_t s)
{
    uint64_t v;

    cr_assert_eq(engine_getopt(h.e, h.sid, s, 1, 4 /* SO_ERROR */, &v), 0);
    return (int)v;
}

Test(icmp, every_unreachable_code_is_the_errno_that_linux_gives)
{
    const int expected[16] = {ENETUNREACH,  EHOSTUNREACH, ENOPROTOOPT,  ECONNREFUSED, 0,
                              EOPNOTSUPP,   ENETUNREACH,  EHOSTDOWN,    ENONET,       ENETUNREACH,
                              EHOSTUNREACH, ENETUNREACH,  EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH,
                              EHOSTUNREACH};
    uint32_t s = connected(4000);
    uint32_t len = quote_udp(buf, HOST4, 4000, NET4(1), 53);

    for (uint8_t code = 0; code < 16; code++) {
        frame_icmp(&f, NET4(9), HOST4, ICMP4_UNREACH, code, 0, buf, len);
        frame_in(&h, &f);
        cr_assert_eq(take_error(s), expected[code], "code %u", code);
    }
    frame_icmp(&f, NET4(9), HOST4, ICMP4_UNREACH, 16, 0, buf, len);
    frame_in(&h, &f);
    cr_assert_eq(take_error(s), 0);
    frame_icmp(&f, NET4(9), HOST4, ICMP4_TIME_EXCEEDED, 0, 0, buf, len);
    frame_in(&h, &f);
    cr_assert_eq(take_error(s), EHOSTUNREACH);
    frame_icmp(&f, NET4(9), HOST4, ICMP4_PARAM, 0, 0, buf, len);
    frame_in(&h, &f);
    cr_assert_eq(take_error(s), EPROTO);
    cr_assert_eq(host_counter(&h, "IcmpErrUnmatched"), 0);
}

Test(icmp, source_quench_and_redirect_change_nothing)
{
    uint32_t s = connected(4000);
    uint32_t len = quote_udp(buf, HOST4, 4000, NET4(1), 53);

    frame_icmp(&f, NET4(1), HOST4, 4, 0, 0, buf, len);
    frame_in(&h, &f);
    frame_icmp(&f, NET4(1), HOST4, 5, 1, NET4(66), buf, len);
    frame_in(&h, &f);
    cr_assert_eq(take_error(s), 0);
}

Test(icmp, error_about_nothing_we_sent_is_counted)
{
    uint32_t s = connected(4000);
    const uint32_t foreign[][4] = {
        {NET4(7), 4000, NET4(1), 53}, /* not our source */
        {HOST4, 4001, NET4(1), 53},   /* no such socket */
        {HOST4, 4000, NET4(7), 53},   /* other peer */
        {HOST4, 4000, NET4(1), 54},   /* other port */
    };

    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        const uint32_t *v = foreign[i];
        uint32_t len = quote_udp(buf, v[0], (uint16_t)v[1], v[2], (uint16_t)v[3]);

        frame_icmp(&f, NET4(1), HOST4, ICMP4_UNREACH, 3, 0, buf, len);
        frame_in(&h, &f);
        cr_assert_eq(take_error(s), 0);
        cr_assert_eq(host_counter(&h, "IcmpErrUnmatched"), i + 1);
    }
    /* Not even a socket without a peer makes another's address ours. */
    cr_assert_eq(app_bind(&h, app_socket(&h, SG_SOCK_DGRAM), 4002), 0);
    frame_icmp(&f, NET4(1), HOST4, ICMP4_UNREACH, 3, 0, buf, quote_udp(buf, NET4(7), 4002, NET4(1), 53));
    frame_in(&h, &f);
    cr_assert_eq(host_counter(&h, "IcmpErrUnmatched"), ARRAY_LEN(foreign) + 1);
}

Test(icmp, quote_with_a_header_below_the_minimum_is_not_taken_apart)
{
    /* The destination address would be read as these ports. */
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);
    struct ip4_pkt ip = {.src = HOST4, .dst = NET4(1), .proto = IP_PROTO_UDP, .len = 8};

    cr_assert_eq(app_bind(&h, s, NET4(1) >> 16), 0);
    cr_assert_eq(app_connect(&h, s, 1, (uint16_t)NET4(1)), 0);
    ip4_put(buf, &ip);
    buf[0] = 0x44;
    frame_icmp(&f, NET4(1), HOST4, ICMP4_UNREACH, 3, 0, buf, IP4_HDR_BYTES + 8);
    frame_in(&h, &f);
    cr_assert_eq(take_error(s), 0);
}

Test(icmp, quote_that_is_cut_short_is_not_read_beyond)
{
    uint32_t s = connected(4000);
    uint32_t len = quote_udp(buf, HOST4, 4000, NET4(1), 53);

    for (uint32_t cut = 0; cut < len; cut++) { /* The address sanitizer watches. */
        frame_icmp(&f, NET4(1), HOST4, ICMP4_UNREACH, 3, 0, buf, cut);
        frame_in(&h, &f);
        cr_assert_eq(take_error(s), 0, "%u bytes", cut);
    }
    buf[0] = 0x4f; /* options that the quote has no room for */
    frame_icmp(&f, NET4(1), HOST4, ICMP4_UNREACH, 3, 0, buf, len);
    frame_in(&h, &f);
    cr_assert_eq(take_error(s), 0);
    buf[0] = 0x44; /* header length below 20 */
    frame_icmp(&f, NET4(1), HOST4, ICMP4_UNREACH, 3, 0, buf, len);
    frame_in(&h, &f);
    cr_assert_eq(take_error(s), 0);
}

Test(icmp, quote_of_a_later_fragment_has_no_ports)
{
    uint32_t s = connected(4000);
    uint32_t len = quote_udp(buf, HOST4, 4000, NET4(1), 53);

    buf[7] = 1;
    frame_icmp(&f, NET4(1), HOST4, ICMP4_UNREACH, 3, 0, buf, len);
    frame_in(&h, &f);
    cr_assert_eq(take_error(s), 0);
}

/* ---- Errors out
 * -------------------------------------------------------------------------------------------- */

Test(icmp, datagram_to_a_closed_port_is_answered_with_its_quote)
{
    struct icmp4_msg m;
    struct ip4_pkt ip;

    fill(buf, 1400);
    for (uint32_t len = 0; len <= 1400; len += 200) {
        uint32_t quote = IP4_HDR_BYTES + UDP_HDR_BYTES + len;

        frame_udp(&f, NET4(1), 99, HOST4, 7777, buf, len);
        frame_in(&h, &f);
        expect_icmp(&ip, &m);
        cr_assert(m.type == ICMP4_UNREACH && m.code == ICMP4_UNREACH_PORT && m.rest == 0);
        if (quote > ICMP_ERROR_BYTES_MAX - IP4_HDR_BYTES - ICMP4_HDR_BYTES)
            quote = ICMP_ERROR_BYTES_MAX - IP4_HDR_BYTES - ICMP4_HDR_BYTES;
        cr_assert_eq(m.len, quote);
        cr_assert_arr_eq(m.data, f.b + ETH_HDR_BYTES, quote);
    }
    cr_assert_eq(host_counter(&h, "UdpNoPorts"), 8);
    cr_assert_eq(host_counter(&h, "IcmpOutDestUnreachs"), 8);
}

Test(icmp, unknown_protocol_is_answered)
{
    struct ip4_pkt ip = {.src = NET4(1), .dst = HOST4, .proto = 132, .payload = buf, .len = 20};
    struct icmp4_msg m;

    frame_ip4(&f, &ip, HOST_LAST);
    frame_in(&h, &f);
    expect_icmp(&ip, &m);
    cr_assert(m.type == ICMP4_UNREACH && m.code == ICMP4_UNREACH_PROTO);
    cr_assert_eq(host_counter(&h, "IpInUnknownProtos"), 1);
}

Test(icmp, broadcast_is_never_answered_with_an_error)
{
    struct ip4_pkt ip = {.src = NET4(1), .dst = UINT32_MAX, .proto = 132, .payload = buf, .len = 20};

    frame_udp(&f, NET4(1), 99, UINT32_MAX, 7777, "x", 1);
    frame_in(&h, &f);
    frame_udp(&f, NET4(1), 99, NET4(255), 7777, "x", 1);
    frame_in(&h, &f);
    frame_ip4(&f, &ip, 255);
    frame_in(&h, &f);
    expect_nothing(&h);
}

Test(icmp, error_is_never_answered_with_an_error)
{
    const uint8_t types[] = {ICMP4_UNREACH, 4, 5, ICMP4_TIME_EXCEEDED, ICMP4_PARAM, 42};
    struct rx_pkt rp = {.src = net_ip_addr(NET4(1)),
                        .dst = h.e->net.t.addrs[0].addr,
                        .proto = IP_PROTO_ICMP,
                        .l4 = buf,
                        .l4_len = 8};
    uint8_t hdr[IP4_HDR_BYTES] = {0x45};

    rp.l3 = hdr;
    rp.l3_hdr_len = sizeof(hdr);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        buf[0] = types[i];
        icmp_send_error(h.e, &rp, ICMP_ERR_REASM_TIMEOUT, h.now_us);
        expect_nothing(&h);
    }
    buf[0] = ICMP4_ECHO; /* no error: may be answered */
    icmp_send_error(h.e, &rp, ICMP_ERR_REASM_TIMEOUT, h.now_us);
    cr_assert_not_null(host_tx(&h));
}

static unsigned errors_for(unsigned datagrams)
{
    unsigned n = 0;

    for (unsigned i = 0; i < datagrams; i++) {
        frame_udp(&f, NET4(1), 99, HOST4, 7777, "x", 1);
        frame_in(&h, &f);
        while (host_tx(&h))
            n++;
    }
    return n;
}

Test(icmp, errors_are_limited_to_the_configured_rate)
{
    cr_assert_eq(errors_for(200), ICMP_BURST);
    cr_assert_eq(host_counter(&h, "IcmpOutRateLimitGlobal"), 150);
    h.now_us += 10000; /* ten more at 1,000 a second */
    cr_assert_eq(errors_for(30), 10);
    h.now_us += 3600 * UINT64_C(1000000); /* an idle hour saves up no more than a burst */
    rig_resolve(&h, 1);
    cr_assert_eq(errors_for(200), ICMP_BURST);
}

Test(icmp, rate_zero_sends_no_errors)
{
    h.e->cfg.icmp_rate = 0;
    cr_assert_eq(errors_for(10), 0);
}

Test(icmp, random_messages_do_no_harm)
{
    uint64_t r = rnd_seed("icmp");
    uint32_t s = connected(4000);

    for (int i = 0; i < 20000; i++) {
        uint32_t len = quote_udp(buf, HOST4, 4000, NET4(1), 53);

        for (int k = 0; k < 3; k++)
            buf[rnd_next(&r) % len] = (uint8_t)rnd_next(&r);
        if (rnd_next(&r) % 2)
            len = (uint32_t)(rnd_next(&r) % 64);
        frame_icmp(&f, NET4(1), HOST4, (uint8_t)(rnd_next(&r) % 20), (uint8_t)(rnd_next(&r) % 20),
                   (uint32_t)rnd_next(&r), buf, len);
        frame_in(&h, &f);
        while (host_tx(&h))
            ;
        (void)take_error(s);
    }
    rig_check(&h);
}

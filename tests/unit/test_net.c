/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "hw/device.h"
#include "tests/unit/frames.h"

#define PORT 7u

static struct host h;
static struct frame f;
static uint32_t sock;
static uint8_t buf[IP4_BYTES_MAX];

static void start_with(struct engine_config *cfg)
{
    host_start(&h, cfg, 1000000);
    sock = app_socket(&h, SG_SOCK_DGRAM);
    cr_assert_eq(app_bind(&h, sock, PORT), 0);
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 7 + i / 256);
}

static void config(struct engine_config *cfg)
{
    host_config(cfg, HOST_LAST);
    engine_config_gateway4(cfg, (uint8_t[]){192, 0, 2, GATEWAY});
}

static void start(void)
{
    struct engine_config cfg;

    config(&cfg);
    start_with(&cfg);
}

static void restart(struct engine_config *cfg)
{
    rig_stop(&h);
    start_with(cfg);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(net, .init = start, .fini = stop);

static bool got_datagram(uint32_t len)
{
    static uint8_t got[SG_DGRAM_BYTES_MAX];
    int64_t n = app_recvfrom(&h, sock, got, sizeof(got), NULL, NULL);

    return n == (int64_t)len && memcmp(got, buf, len) == 0;
}

/* A datagram for the test socket; then damage it. */
static void good_frame(void)
{
    frame_udp(&f, NET4(1), 99, HOST4, PORT, buf, 32);
}

static void fix_header(void)
{
    uint8_t *ip = f.b + ETH_HDR_BYTES;
    uint16_t sum;

    memset(ip + 10, 0, 2);
    sum = csum_finish(csum_partial(ip, (size_t)(ip[0] & 15) * 4));
    memcpy(ip + 10, &sum, 2);
}

static void expect_drop(const char *counter, uint64_t value)
{
    frame_in(&h, &f);
    cr_assert_eq(host_counter(&h, counter), value, "%s", counter);
    cr_assert_not(got_datagram(32));
    expect_nothing(&h);
}

/* ---- Ethernet in
 * -------------------------------------------------------------------------------------------- */

Test(net, frame_without_whole_header_is_dropped)
{
    for (uint32_t len = 0; len < ETH_HDR_BYTES; len++) {
        good_frame();
        f.len = len;
        expect_drop("DropFrameShort", len + 1);
    }
}

Test(net, frame_for_another_station_is_dropped)
{
    good_frame();
    f.b[5] = 9;
    expect_drop("DropFrameForeign", 1);
}

Test(net, unknown_ethertype_is_dropped)
{
    good_frame();
    put_be16(f.b + 12, 0x86dd); /* this interface is configured without IPv6 */
    expect_drop("DropEtherType", 1);
    put_be16(f.b + 12, 0x88cc);
    expect_drop("DropEtherType", 2);
}

/* ---- IPv4 in
 * -------------------------------------------------------------------------------------------------- */

Test(net, good_datagram_is_delivered)
{
    good_frame();
    frame_in(&h, &f);
    cr_assert(got_datagram(32));
    cr_assert_eq(host_counter(&h, "IpInReceives"), 1);
    cr_assert_eq(host_counter(&h, "IpInDelivers"), 1);
}

Test(net, impossible_headers_are_dropped)
{
    uint8_t *ip = f.b + ETH_HDR_BYTES;
    unsigned n = 0;

    for (uint32_t len = 0; len < IP4_HDR_BYTES; len++) {
        good_frame();
        f.len = ETH_HDR_BYTES + len;
        expect_drop("IpInHdrErrors", ++n);
    }
    good_frame();
    ip[0] = 0x65; /* version */
    fix_header();
    expect_drop("IpInHdrErrors", ++n);
    good_frame();
    ip[0] = 0x44; /* header length below 20 */
    expect_drop("IpInHdrErrors", ++n);
    good_frame();
    put_be16(ip + 2, 19); /* total length below the header */
    fix_header();
    expect_drop("IpInHdrErrors", ++n);
    good_frame();
    put_be16(ip + 2, (uint16_t)(f.len - ETH_HDR_BYTES + 1)); /* total length beyond the frame */
    fix_header();
    expect_drop("IpInHdrErrors", ++n);
    good_frame();
    ip[0] = 0x4f; /* header beyond total length */
    put_be16(ip + 2, 59);
    expect_drop("IpInHdrErrors", ++n);
    for (unsigned at = 0; at < IP4_HDR_BYTES; at++) { /* one bit anywhere: checksum */
        good_frame();
        ip[at] ^= 0x01;
        expect_drop("IpInHdrErrors", ++n);
    }
}

Test(net, sources_no_host_can_have_are_dropped)
{
    const uint32_t src[] = {0, 0x00010203, 0x7f000001, 0xe0000001, 0xf0000001, UINT32_MAX, NET4(255), HOST4};

    for (size_t i = 0; i < ARRAY_LEN(src); i++) {
        frame_udp(&f, src[i], 99, HOST4, PORT, buf, 32);
        expect_drop("IpInAddrErrors", i + 1);
    }
}

Test(net, packets_for_others_are_dropped)
{
    const uint32_t dst[] = {NET4(3), NET4(0), 0x7f000001, 0, 0xf0000001, 0xc00003ff};

    for (size_t i = 0; i < ARRAY_LEN(dst); i++) {
        frame_udp(&f, NET4(1), 99, dst[i], PORT, buf, 32);
        memcpy(f.b, mac_of(HOST_LAST), 6);
        expect_drop("IpInAddrErrors", i + 1);
    }
}

Test(net, unicast_packet_in_a_broadcast_frame_is_dropped)
{
    good_frame();
    memcpy(f.b, mac_of(255), 6);
    expect_drop("IpInAddrErrors", 1);
    good_frame();
    memcpy(f.b, (uint8_t[]){1, 0, 0x5e, 0, 0, 1}, 6);
    expect_drop("IpInAddrErrors", 2);
}

Test(net, broadcasts_reach_udp)
{
    frame_udp(&f, NET4(1), 99, UINT32_MAX, PORT, buf, 32);
    frame_in(&h, &f);
    cr_assert(got_datagram(32));
    frame_udp(&f, NET4(1), 99, NET4(255), PORT, buf, 32);
    frame_in(&h, &f);
    cr_assert(got_datagram(32));
}

Test(net, link_padding_is_cut_off)
{
    good_frame();
    memset(f.b + f.len, 0xee, 18);
    f.len += 18;
    frame_in(&h, &f);
    cr_assert(got_datagram(32));
}

Test(net, options_of_any_content_are_skipped)
{
    static struct frame g;
    uint64_t r = rnd_seed("net_options");

    for (uint32_t words = 1; words <= 10; words++) {
        for (int i = 0; i < 100; i++) {
            uint8_t *ip = g.b + ETH_HDR_BYTES;
            uint32_t l4 = UDP_HDR_BYTES + 32;

            good_frame();
            memcpy(g.b, f.b, ETH_HDR_BYTES + IP4_HDR_BYTES);
            ip[0] = (uint8_t)(0x45 + words);
            put_be16(ip + 2, (uint16_t)(IP4_HDR_BYTES + words * 4 + l4));
            for (uint32_t k = 0; k < words * 4; k++) /* zero lengths, lengths beyond, anything */
                ip[IP4_HDR_BYTES + k] = (uint8_t)(rnd_next(&r) >> (rnd_next(&r) % 8));
            memcpy(ip + IP4_HDR_BYTES + words * 4, f.b + ETH_HDR_BYTES + IP4_HDR_BYTES, l4);
            g.len = ETH_HDR_BYTES + IP4_HDR_BYTES + words * 4 + l4;
            f = g;
            fix_header();
            frame_in(&h, &f);
            cr_assert(got_datagram(32));
        }
    }
}

Test(net, device_that_vouches_for_a_checksum_is_believed)
{
    struct pktbuf p = {.data = f.b};

    good_frame();
    f.b[ETH_HDR_BYTES + IP4_HDR_BYTES + UDP_CSUM_OFFSET] ^= 0x55;
    p.len = p.total = f.len;
    host_rx(&h, &p);
    cr_assert_not(got_datagram(32));
    cr_assert_eq(host_counter(&h, "UdpInCsumErrors"), 1);
    p.flags = PKT_CSUM_GOOD;
    host_rx(&h, &p);
    cr_assert(got_datagram(32));
    p.flags = PKT_CSUM_PARTIAL;
    host_rx(&h, &p);
    cr_assert(got_datagram(32));
}

Test(net, random_frames_do_no_harm)
{
    uint64_t r = rnd_seed("net_random");

    for (int i = 0; i < 50000; i++) {
        unsigned hits = (unsigned)(rnd_next(&r) % 4);

        frame_udp(&f, NET4(1), 99, HOST4, PORT, buf, (uint32_t)(rnd_next(&r) % 64));
        for (unsigned k = 0; k < hits; k++)
            f.b[rnd_next(&r) % f.len] = (uint8_t)rnd_next(&r);
        if (rnd_next(&r) % 4 == 0)
            f.len = (uint32_t)(rnd_next(&r) % (f.len + 1));
        if (rnd_next(&r) % 2 && f.len >= ETH_HDR_BYTES + IP4_HDR_BYTES_MAX)
            fix_header();
        frame_in(&h, &f);
        while (host_tx(&h))
            ;
        (void)got_datagram(0);
    }
    rig_check(&h);
}

/* ---- Addresses and routes
 * ------------------------------------------------------------------------------------ */

static bool route(uint32_t dst, uint32_t *hop)
{
    struct ip_addr a = net_ip_addr(dst), src = {0}, to;
    bool found = net_next_hop(h.e, &a, &to);

    *hop = found ? net_addr4(&to) : 0;

    cr_assert_eq(net_source(h.e, &a, &src), found);
    if (found)
        cr_assert_eq(net_addr4(&src), HOST4);
    return found;
}

Test(net, routes_lead_to_the_link_the_gateway_or_nowhere)
{
    struct engine_config cfg;
    uint32_t hop;

    cr_assert(route(NET4(1), &hop) && hop == NET4(1));
    cr_assert(route(0xc6336401, &hop) && hop == NET4(GATEWAY));
    cr_assert_not(route(0x7f000001, &hop));
    cr_assert_not(route(0xf0000001, &hop));
    config(&cfg);
    cfg.route_count = 0;
    restart(&cfg);
    cr_assert(route(NET4(1), &hop) && hop == NET4(1));
    cr_assert_not(route(0xc6336401, &hop));
    cfg.addrs[0].prefix = 0; /* everybody is a neighbour */
    restart(&cfg);
    cr_assert(route(0xc6336401, &hop) && hop == 0xc6336401);
}

Test(net, prefix_31_and_32_have_no_broadcast_address)
{
    struct engine_config cfg;
    struct ip_addr a = net_ip_addr(NET4(3));
    uint32_t hop;

    config(&cfg);
    cfg.addrs[0].prefix = 31;
    restart(&cfg);
    cr_assert(route(NET4(3), &hop) && hop == NET4(3)); /* 192.0.2.2/31's other end */
    cr_assert(net_is_unicast(h.e, &a) && !net_is_broadcast(h.e, &a));
    cfg.addrs[0].prefix = 32;
    restart(&cfg);
    a = net_ip_addr(HOST4);
    cr_assert(net_is_own(h.e, &a) && !net_is_broadcast(h.e, &a));
    cr_assert(route(NET4(3), &hop) && hop == NET4(GATEWAY));
    cr_assert(route(NET4(GATEWAY), &hop) && hop == NET4(GATEWAY)); /* on the link by definition */
}

Test(net, kinds_of_addresses_are_told_apart)
{
    const struct {
        uint32_t addr;
        bool own, unicast, broadcast;
    } v[] = {
        {HOST4, true, true, false},        {NET4(1), false, true, false},
        {NET4(255), false, false, true},   {UINT32_MAX, false, false, true},
        {0, false, false, false},          {0x7f000001, false, false, false},
        {0xe0000001, false, false, false}, {0xf0000001, false, false, false},
        {0xc6336401, false, true, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        struct ip_addr a = net_ip_addr(v[i].addr);

        cr_assert_eq(net_is_own(h.e, &a), v[i].own, "%08x", v[i].addr);
        cr_assert_eq(net_is_unicast(h.e, &a), v[i].unicast, "%08x", v[i].addr);
        cr_assert_eq(net_is_broadcast(h.e, &a), v[i].broadcast, "%08x", v[i].addr);
        a.family = 0;
        cr_assert_not(net_is_own(h.e, &a) || net_is_unicast(h.e, &a) || net_is_broadcast(h.e, &a));
    }
}

/* ---- Out
 * ------------------------------------------------------------------------------------------------------ */

/* A packet with `len` bytes of protocol 200, `linear` of them in the frame's memory. */
static int output(uint32_t dst4, uint32_t len, uint32_t linear, bool df)
{
    struct pktbuf *p = pktq_get(&h.e->txq);
    struct ip_addr dst = net_ip_addr(dst4);

    cr_assert_not_null(p);
    memcpy(p->data, buf, linear);
    p->len = linear;
    if (len > linear) { /* in two pieces, cut at an odd place */
        uint32_t first = (len - linear) / 2 | 1;

        p->frag[p->frag_count++] = (struct pkt_frag){buf + linear, first};
        if (len - linear > first)
            p->frag[p->frag_count++] = (struct pkt_frag){buf + linear + first, len - linear - first};
    }
    return net_output(h.e, p, &h.e->net.t.addrs[0].addr, &dst, 200, 4, 33, df, h.now_us);
}

Test(net, header_says_what_was_asked)
{
    struct ip4_pkt ip;

    rig_resolve(&h, 1);
    cr_assert_eq(output(NET4(1), 100, 100, true), 0);
    expect_ip4(&h, &ip, NULL);
    cr_assert(ip.src == HOST4 && ip.dst == NET4(1) && ip.proto == 200 && ip.tos == 4 && ip.ttl == 33);
    cr_assert(ip.df && !ip.more && ip.frag_off == 0 && ip.id == 0 && ip.hdr_len == IP4_HDR_BYTES);
    cr_assert_eq(ip.len, 100);
    cr_assert_arr_eq(ip.payload, buf, 100);
}

Test(net, identifications_differ_and_cannot_be_predicted)
{
    uint16_t id[3][64];
    struct ip4_pkt ip;
    unsigned equal_steps = 0;

    for (uint8_t peer = 0; peer < 3; peer++) {
        rig_resolve(&h, (uint8_t)(10 + peer));
        for (unsigned i = 0; i < 64; i++) {
            cr_assert_eq(output(NET4(10u + peer), 8, 8, false), 0);
            expect_ip4(&h, &ip, NULL);
            cr_assert_not(ip.df);
            id[peer][i] = ip.id;
            for (unsigned j = 0; j < i; j++)
                cr_assert_neq(id[peer][j], ip.id);
        }
    }
    /* What one destination sees says nothing about another's. */
    equal_steps += id[0][0] == id[1][0];
    equal_steps += id[1][0] == id[2][0];
    equal_steps += (uint16_t)(id[0][0] + 64) == id[1][0];
    cr_assert_eq(equal_steps, 0);
}

Test(net, large_packet_leaves_in_fragments_that_cover_it_exactly)
{
    static uint8_t got[IP4_BYTES_MAX];
    const uint32_t sizes[] = {1481, 1482, 2960, 2961, 5000, 65000, IP4_BYTES_MAX - IP4_HDR_BYTES};
    struct ip4_pkt ip;

    rig_resolve(&h, 1);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint32_t at = 0;
        uint16_t id = 0;

        cr_assert_eq(output(NET4(1), sizes[i], 8, false), 0);
        while (at < sizes[i]) {
            expect_ip4(&h, &ip, NULL);
            if (at == 0)
                id = ip.id;
            cr_assert_eq(ip.id, id);
            cr_assert_eq(ip.frag_off, at);
            cr_assert_leq(IP4_HDR_BYTES + ip.len, h.cfg.ifs[0].mtu);
            memcpy(got + at, ip.payload, ip.len);
            at += ip.len;
            cr_assert_eq(ip.more, at < sizes[i]);
        }
        cr_assert_eq(at, sizes[i]);
        cr_assert_arr_eq(got, buf, sizes[i]);
        expect_nothing(&h);
    }
}

Test(net, fragments_end_on_multiples_of_eight_at_any_mtu)
{
    struct engine_config cfg;
    struct ip4_pkt ip;

    config(&cfg);
    for (cfg.ifs[0].mtu = 576; cfg.ifs[0].mtu < 600; cfg.ifs[0].mtu++) {
        restart(&cfg);
        rig_resolve(&h, 1);
        cr_assert_eq(output(NET4(1), 3000, 8, false), 0);
        for (uint32_t at = 0; at < 3000; at += ip.len) {
            expect_ip4(&h, &ip, NULL);
            cr_assert_eq(ip.frag_off, at, "MTU %u", cfg.ifs[0].mtu);
            cr_assert_arr_eq(ip.payload, buf + at, ip.len);
        }
        expect_nothing(&h);
    }
}

Test(net, packet_of_exactly_the_mtu_is_not_fragmented)
{
    struct ip4_pkt ip;

    rig_resolve(&h, 1);
    cr_assert_eq(output(NET4(1), 1480, 8, false), 0);
    expect_ip4(&h, &ip, NULL);
    cr_assert(!ip.more && ip.len == 1480);
    expect_nothing(&h);
}

Test(net, packet_too_large_for_dont_fragment_is_refused)
{
    rig_resolve(&h, 1);
    cr_assert_eq(output(NET4(1), 1481, 8, true), -EMSGSIZE);
    cr_assert_eq(output(NET4(1), 1480, 8, true), 0);
    cr_assert_eq(output(NET4(1), IP4_BYTES_MAX - IP4_HDR_BYTES + 1, 8, false), -EMSGSIZE);
    cr_assert_not_null(host_tx(&h));
    expect_nothing(&h);
}

Test(net, fragments_that_find_no_room_are_not_begun)
{
    struct pktq *q = &h.e->txq;
    unsigned n = 0;

    rig_resolve(&h, 1);
    while (pktq_room(q, 0) > 3) {
        cr_assert_eq(output(NET4(1), 8, 8, false), 0);
        n++;
    }
    cr_assert_eq(output(NET4(1), 5000, 8, false), -ENOBUFS);
    while (host_tx(&h))
        n--;
    cr_assert_eq(n, 0);
}

Test(net, above_the_copy_limit_only_dont_fragment_leaves_by_reference)
{
    struct engine_config cfg;
    struct pktbuf *p[1];
    struct ip4_pkt ip;

    config(&cfg);
    cfg.ifs[0].mtu = 9000;
    cfg.ifs[0].tx_frame_max = 9014;
    restart(&cfg);
    rig_resolve(&h, 1);
    cr_assert_eq(output(NET4(1), 8000, 8, true), 0);
    expect_ip4(&h, &ip, NULL);
    cr_assert_eq(ip.len, 8000);
    cr_assert_arr_eq(ip.payload, buf, 8000);
    cr_assert_eq(output(NET4(1), 8000, 8, false), 0);
    for (uint32_t at = 0; at < 8000; at += ip.len) {
        cr_assert_eq(engine_tx_peek(h.e, 0, p, 1, h.now_us), 1);
        cr_assert_eq(p[0]->frag_count, 0);
        expect_ip4(&h, &ip, NULL);
        cr_assert_eq(ip.frag_off, at);
        cr_assert_arr_eq(ip.payload, buf + at, ip.len);
    }
    expect_nothing(&h);
}

Test(net, broadcast_and_multicast_have_their_ethernet_addresses)
{
    const uint8_t group[6] = {1, 0, 0x5e, 0x7f, 2, 3};
    struct ip4_pkt ip;
    const uint8_t *mac;

    cr_assert_eq(output(UINT32_MAX, 8, 8, false), 0);
    expect_ip4(&h, &ip, &mac);
    cr_assert(eth_eq(mac, mac_of(255)));
    cr_assert_eq(output(NET4(255), 8, 8, false), 0);
    expect_ip4(&h, &ip, &mac);
    cr_assert(eth_eq(mac, mac_of(255)));
    cr_assert_eq(output(0xe1ff0203, 8, 8, false), 0);
    expect_ip4(&h, &ip, &mac);
    cr_assert(eth_eq(mac, group));
}

Test(net, packet_without_route_is_refused_and_counted)
{
    struct engine_config cfg;

    config(&cfg);
    cfg.route_count = 0;
    restart(&cfg);
    cr_assert_eq(output(0xc6336401, 8, 8, false), -ENETUNREACH);
    cr_assert_eq(output(0x7f000001, 8, 8, false), -ENETUNREACH);
    cr_assert_eq(host_counter(&h, "IpOutNoRoutes"), 2);
    expect_nothing(&h);
}

/* ---- Checksums and offloads
 * ------------------------------------------------------------------------------------ */

static struct pktbuf *checksummed(uint32_t len, uint32_t linear, uint8_t proto, bool will_fragment)
{
    struct pktbuf *p = pktq_get(&h.e->txq);
    struct ip_addr dst = net_ip_addr(NET4(1));

    memcpy(p->data, buf, linear);
    p->len = linear;
    if (len > linear)
        p->frag[p->frag_count++] = (struct pkt_frag){buf + linear, len - linear};
    net_checksum(h.e, p, &h.e->net.t.addrs[0].addr, &dst, proto, 6, will_fragment);
    return p;
}

static uint16_t sum_of(const struct pktbuf *p, uint8_t proto)
{
    static uint8_t all[4096];
    struct ip_addr dst = net_ip_addr(NET4(1));
    uint32_t len = net_pkt_bytes(p);

    net_pkt_copy(p, 0, all, len);
    return csum_finish(
        csum_add(csum_pseudo4(h.e->net.t.addrs[0].addr.ip, dst.ip, proto, len), csum_partial(all, len)));
}

Test(net, checksum_spans_odd_pieces)
{
    for (uint32_t linear = 8; linear < 12; linear++)
        for (uint32_t len = linear; len < 60; len++) {
            struct pktbuf *p = checksummed(len, linear, IP_PROTO_UDP, false);

            cr_assert_eq(sum_of(p, IP_PROTO_UDP), 0, "%u of %u bytes", linear, len);
            cr_assert_eq(p->flags, 0);
            pktq_drop(&h.e->txq);
        }
}

Test(net, udp_checksum_is_never_zero_on_the_wire)
{
    unsigned seen = 0;

    memset(buf, 0, 64);
    for (unsigned v = 0; v < 65536; v++) { /* one of these sums to zero */
        struct pktbuf *p;

        put_be16(buf, (uint16_t)v);
        p = checksummed(16, 16, IP_PROTO_UDP, false);
        cr_assert_neq(get_be16(p->data + 6), 0);
        seen += get_be16(p->data + 6) == UINT16_MAX;
        pktq_drop(&h.e->txq);
    }
    cr_assert_geq(seen, 1);
}

Test(net, device_is_asked_for_the_checksum_where_it_offers_to)
{
    struct engine_config cfg;
    struct ip_addr dst = net_ip_addr(NET4(1));
    uint16_t pseudo;
    struct pktbuf *p;

    static_assert(ENGINE_TX_CSUM == DEV_TX_CSUM && ENGINE_TX_TSO4 == DEV_TX_TSO4, "offload bits");
    config(&cfg);
    cfg.ifs[0].offloads = ENGINE_TX_CSUM;
    restart(&cfg);
    rig_resolve(&h, 1);
    p = checksummed(40, 40, IP_PROTO_UDP, false);
    cr_assert_eq(p->flags, PKT_CSUM_PARTIAL);
    cr_assert_eq(net_output(h.e, p, &h.e->net.t.addrs[0].addr, &dst, IP_PROTO_UDP, 0, 64, false, h.now_us),
                 0);
    p = host_tx(&h);
    cr_assert_eq(p->csum_start, ETH_HDR_BYTES + IP4_HDR_BYTES);
    cr_assert_eq(p->csum_offset, 6);
    memcpy(&pseudo, p->data + p->csum_start + 6, 2);
    cr_assert_eq(pseudo, csum_fold(csum_pseudo4(h.e->net.t.addrs[0].addr.ip, dst.ip, IP_PROTO_UDP, 40)));
    p = checksummed(40, 40, IP_PROTO_UDP, true); /* no device sums over fragments */
    cr_assert_eq(p->flags, 0);
    cr_assert_eq(sum_of(p, IP_PROTO_UDP), 0);
    pktq_drop(&h.e->txq);
}

Test(net, partial_checksum_survives_waiting_for_a_neighbour)
{
    struct engine_config cfg;
    struct ip_addr dst = net_ip_addr(NET4(1));
    struct pktbuf *p;

    config(&cfg);
    cfg.ifs[0].offloads = ENGINE_TX_CSUM;
    restart(&cfg);
    p = checksummed(40, 40, IP_PROTO_UDP, false);
    cr_assert_eq(net_output(h.e, p, &h.e->net.t.addrs[0].addr, &dst, IP_PROTO_UDP, 0, 64, false, h.now_us),
                 0);
    cr_assert_not_null(host_tx(&h)); /* the question */
    frame_arp(&f, ARP_REPLY, 1, NET4(1), HOST_LAST, HOST4);
    frame_in(&h, &f);
    p = host_tx(&h);
    cr_assert_not_null(p);
    cr_assert_eq(p->flags, PKT_CSUM_PARTIAL);
    cr_assert_eq(p->csum_start, ETH_HDR_BYTES + IP4_HDR_BYTES);
    cr_assert_eq(p->csum_offset, 6);
}

Test(net, large_tcp_frame_says_where_its_headers_end_and_is_not_fragmented)
{
    struct ip_addr dst = net_ip_addr(NET4(1));
    struct pktbuf *p;
    struct ip4_pkt ip;

    rig_resolve(&h, 1);
    p = pktq_get(&h.e->txq);
    memset(p->data, 0, 32);
    p->data[12] = 32 / 4 << 4;
    p->len = 32;
    p->frag[0] = (struct pkt_frag){buf, 60000};
    p->frag_count = 1;
    p->gso_type = PKT_GSO_TCP4;
    p->gso_size = 1448;
    p->flags = PKT_CSUM_PARTIAL; /* as GSO always is */
    cr_assert_eq(net_output(h.e, p, &h.e->net.t.addrs[0].addr, &dst, IP_PROTO_TCP, 0, 64, true, h.now_us), 0);
    p = host_tx(&h);
    cr_assert_eq(p->gso_type, PKT_GSO_TCP4);
    cr_assert_eq(p->hdr_len, ETH_HDR_BYTES + IP4_HDR_BYTES + 32);
    cr_assert_eq(p->total, ETH_HDR_BYTES + IP4_HDR_BYTES + 32 + 60000);
    cr_assert(ip4_parse(p->data + ETH_HDR_BYTES, p->len - ETH_HDR_BYTES, &ip));
    cr_assert_eq(ip.len, 60032);
}

/* ---- To ourselves
 * ------------------------------------------------------------------------------------------------ */

Test(net, packet_to_ourselves_comes_back_without_touching_the_device)
{
    const uint32_t sizes[] = {0, 1, 32, 1472, 1473, 5000, SG_DGRAM_BYTES_MAX};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        cr_assert_eq(app_sendto(&h, sock, buf, sizes[i], HOST_LAST, PORT), sizes[i]);
        expect_nothing(&h);
        cr_assert(got_datagram(sizes[i]), "%u bytes", sizes[i]);
    }
    cr_assert_eq(host_counter(&h, "IpFragCreates"), 0);
}

Test(net, closed_port_of_ourselves_refuses)
{
    cr_assert_eq(app_connect(&h, sock, HOST_LAST, 9999), 0);
    cr_assert_eq(app_sendto(&h, sock, "x", 1, 0, 0), 1);
    for (int i = 0; i < 3; i++)
        expect_nothing(&h);
    cr_assert_eq(app_error(&h, sock), ECONNREFUSED);
}

Test(net, full_loop_queue_drops_and_counts)
{
    unsigned sent = 0, received = 0;

    while (output(HOST4, 30000, 8, false) == 0)
        sent++;
    cr_assert_eq(sent, NET_LOOP_BYTES / 30048);
    cr_assert_eq(host_counter(&h, "DropLoopFull"), 1);
    cr_assert(net_loop_pending(h.e));
    expect_nothing(&h);
    expect_nothing(&h);
    received = (unsigned)host_counter(&h, "IpInUnknownProtos");
    cr_assert_eq(received, sent);
    cr_assert_not(net_loop_pending(h.e));
}

Test(net, loop_queue_keeps_order_and_content_as_it_wraps)
{
    uint64_t r = rnd_seed("net_loop");

    for (int round = 0; round < 300; round++) {
        uint32_t size[8], n = 1 + (uint32_t)(rnd_next(&r) % 8);

        for (uint32_t i = 0; i < n; i++) {
            size[i] = (uint32_t)(rnd_next(&r) % 20000);
            cr_assert_eq(app_sendto(&h, sock, buf, size[i], HOST_LAST, PORT), size[i]);
        }
        expect_nothing(&h);
        for (uint32_t i = 0; i < n; i++)
            cr_assert(got_datagram(size[i]), "round %d, datagram %u", round, i);
    }
    cr_assert_eq(host_counter(&h, "DropLoopFull"), 0);
}

Test(net, overfull_loop_queue_harms_no_packet_in_it)
{
    uint64_t r = rnd_seed("net_loop_full");
    static uint8_t got[SG_DGRAM_BYTES_MAX];
    uint32_t big = app_socket(&h, SG_SOCK_DGRAM);

    for (uint32_t name = 7; name <= 8; name++) /* SO_SNDBUF, SO_RCVBUF: only the loop queue drops */
        cr_assert_eq(engine_setopt(h.e, h.sid, big, 1, name, 1 << 20, h.now_us), 0);
    cr_assert_eq(app_bind(&h, big, 5000), 0);
    for (int round = 0; round < 300; round++) {
        uint64_t dropped = host_counter(&h, "DropLoopFull");
        uint32_t size[24], n = 1 + (uint32_t)(rnd_next(&r) % ARRAY_LEN(size)), i = 0, received = 0;
        int64_t len;

        for (uint32_t k = 0; k < n; k++) {
            size[k] = (uint32_t)(rnd_next(&r) % 30000);
            cr_assert_eq(app_sendto(&h, big, buf, size[k], HOST_LAST, 5000), size[k]);
        }
        expect_nothing(&h);
        for (; (len = app_recvfrom(&h, big, got, sizeof(got), NULL, NULL)) >= 0; received++) {
            while (i < n && size[i] != (uint32_t)len)
                i++;
            cr_assert_lt(i++, n, "round %d: a datagram that was not sent", round);
            cr_assert_arr_eq(got, buf, (size_t)len);
        }
        dropped = host_counter(&h, "DropLoopFull") - dropped;
        cr_assert_eq(received + dropped, n);
    }
    cr_assert_gt(host_counter(&h, "DropLoopFull"), 100);
}

Test(net, two_sockets_of_one_host_talk_tcp)
{
    uint32_t l = app_socket(&h, SG_SOCK_STREAM), c = app_socket(&h, SG_SOCK_STREAM);
    char text[16] = "";
    int64_t s;

    cr_assert_eq(app_bind(&h, l, 80), 0);
    cr_assert_eq(app_listen(&h, l, 4), 0);
    cr_assert_eq(app_connect(&h, c, HOST_LAST, 80), 0);
    for (int i = 0; i < 10; i++)
        expect_nothing(&h);
    cr_assert(app_connected(&h, c));
    s = app_accept(&h, l);
    cr_assert_gt(s, 0);
    cr_assert_eq(app_send(&h, c, "hello", 5), 5);
    for (int i = 0; i < 10; i++)
        expect_nothing(&h);
    cr_assert_eq(app_recv(&h, (uint32_t)s, text, sizeof(text)), 5);
    cr_assert_str_eq(text, "hello");
}

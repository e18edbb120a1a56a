/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/frames.h"

static struct host h;
static struct frame f;
static uint8_t buf[3000], got[65536];

static void start(void)
{
    rig_start(&h);
    rig_resolve(&h, 1);
    h.e->sessions[h.sid].v.raw = true;
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 7 + i / 256);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(raw, .init = start, .fini = stop);

static uint32_t slot_next = 100;

static int try_open(uint32_t slot, uint32_t proto)
{
    int rc = engine_open(h.e, h.sid, slot, SG_SOCK_RAW, proto, SG_AF_INET);

    host_run(&h);
    return rc;
}

static uint32_t raw(uint32_t proto)
{
    uint32_t slot = slot_next++;

    cr_assert_eq(try_open(slot, proto), 0);
    return slot;
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

Test(raw, only_sessions_that_may_get_one)
{
    h.e->sessions[h.sid].v.raw = false;
    cr_assert_eq(try_open(50, 1), -EPERM);
    cr_assert_eq(host_counter(&h, "RawDenied"), 1);
    h.e->sessions[h.sid].v.raw = true;
    cr_assert_eq(try_open(50, 0), -EPROTONOSUPPORT);
    cr_assert_eq(try_open(50, 256 + 1), -EPROTONOSUPPORT);
    cr_assert_eq(try_open(50, 1), 0);
}

Test(raw, packets_come_with_their_header_and_the_stack_answers_too)
{
    uint32_t a = raw(IP_PROTO_ICMP), b = raw(IP_PROTO_ICMP), other = raw(89);
    struct ip4_pkt ip;
    uint8_t from[4];
    uint16_t port;

    frame_icmp(&f, NET4(1), HOST4, ICMP4_ECHO, 0, 77, buf, 40);
    frame_in(&h, &f);
    cr_assert_eq(app_recvfrom(&h, a, got, sizeof(got), from, &port), 20 + 8 + 40);
    cr_assert_arr_eq(got, f.b + ETH_HDR_BYTES, 68);
    cr_assert(get_be32(from) == NET4(1) && port == 0);
    cr_assert_eq(reads(b), 68);
    cr_assert_eq(reads(other), -EAGAIN);
    expect_ip4(&h, &ip, NULL); /* the echo reply */
    cr_assert(ip.proto == IP_PROTO_ICMP && ip.payload[0] == ICMP4_ECHO_REPLY);
    cr_assert_eq(host_counter(&h, "RawIn"), 2);
}

Test(raw, fragments_arrive_as_one_packet)
{
    uint32_t s = raw(IP_PROTO_ICMP);
    struct ip4_pkt ip = {.src = NET4(1), .dst = HOST4, .proto = IP_PROTO_ICMP, .id = 9}, seen;

    buf[0] = 13; /* no type that the stack knows */
    for (int i = 0; i < 2; i++) {
        ip.payload = buf + i * 1480;
        ip.len = i ? 1000 : 1480;
        ip.frag_off = i ? 1480 : 0;
        ip.more = !i;
        frame_ip4(&f, &ip, HOST_LAST);
        frame_in(&h, &f);
    }
    cr_assert_eq(reads(s), 20 + 2480);
    cr_assert(ip4_parse(got, 2500, &seen) && ip4_csum_ok(&seen));
    cr_assert(!seen.more && !seen.frag_off && seen.len == 2480);
    cr_assert_arr_eq(seen.payload, buf, 2480);
}

Test(raw, bound_and_connected_sockets_hear_less)
{
    uint32_t bound = raw(89), elsewhere = raw(89), connected = raw(89);
    struct ip_ep own = {.addr = net_ip_addr(HOST4)}, bcast = {.addr = net_ip_addr(NET4(255))};
    struct ip4_pkt ip = {.src = NET4(1), .dst = HOST4, .proto = 89, .payload = buf, .len = 30};

    cr_assert_eq(engine_bind(h.e, h.sid, bound, &own), 0);
    cr_assert_eq(engine_bind(h.e, h.sid, bound, &own), -EINVAL);
    cr_assert_eq(engine_bind(h.e, h.sid, elsewhere, &bcast), 0);
    cr_assert_eq(app_connect(&h, connected, 7, 0), 0);
    frame_ip4(&f, &ip, HOST_LAST);
    frame_in(&h, &f);
    cr_assert_eq(reads(bound), 50);
    cr_assert_eq(reads(elsewhere), -EAGAIN);
    cr_assert_eq(reads(connected), -EAGAIN);
    ip.src = NET4(7);
    frame_ip4(&f, &ip, HOST_LAST);
    frame_in(&h, &f);
    cr_assert_eq(reads(connected), 50);
    drain();
}

Test(raw, protocol_without_a_handler_is_not_refused_while_someone_listens)
{
    struct ip4_pkt ip = {.src = NET4(1), .dst = HOST4, .proto = 89, .payload = buf, .len = 30}, out;
    uint32_t s = raw(89);

    frame_ip4(&f, &ip, HOST_LAST);
    frame_in(&h, &f);
    expect_nothing(&h);
    cr_assert_eq(reads(s), 50);
    cr_assert_eq(app_close(&h, s), 0);
    frame_in(&h, &f);
    expect_ip4(&h, &out, NULL);
    cr_assert(out.proto == IP_PROTO_ICMP && out.payload[0] == ICMP4_UNREACH && out.payload[1] == 2);
}

Test(raw, payload_is_sent_as_it_was_written)
{
    uint32_t s = raw(89);
    struct ip4_pkt ip;
    uint32_t at = 0;

    cr_assert_eq(app_sendto(&h, s, buf, 100, 1, 0), 100);
    expect_ip4(&h, &ip, NULL);
    cr_assert(ip.proto == 89 && ip.len == 100 && ip.src == HOST4 && ip.dst == NET4(1) && ip.ttl == 64);
    cr_assert_arr_eq(ip.payload, buf, 100);
    cr_assert_eq(app_sendto(&h, s, buf, 3000, 1, 0), 3000); /* fragments */
    do {
        expect_ip4(&h, &ip, NULL);
        cr_assert_eq(ip.frag_off, at);
        cr_assert_arr_eq(ip.payload, buf + at, ip.len);
        at += ip.len;
    } while (ip.more);
    cr_assert_eq(at, 3000);
    cr_assert_eq(host_counter(&h, "RawOut"), 2);
    cr_assert_eq(host_counter(&h, "UdpOutDatagrams"), 0);
}

/* ---- Headers of the application's own --------------------------------------------------------------- */

/* What stands in the packet: 20 bytes of header for `to`, then `len` bytes. */
static void own_header(uint8_t *p, uint32_t src, uint32_t to, uint32_t len)
{
    ip4_put(p, &(struct ip4_pkt){.src = src, .dst = to, .proto = 89, .ttl = 7, .tos = 0x20, .len = len});
    put_be16(p + 2, 1); /* the engine's to make, as the checksum */
    memset(p + 10, 0xff, 2);
    memcpy(p + 20, buf, len);
}

Test(raw, header_of_the_application_is_completed_and_sent)
{
    uint32_t s = raw(89), always = raw(RAW_PROTO_RAW);
    struct ip4_pkt ip;
    uint8_t p[200];

    cr_assert_eq(engine_setopt(h.e, h.sid, s, 0, 3, 1, h.now_us), 0);
    own_header(p, NET4(99), NET4(1), 100);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(app_sendto(&h, i ? always : s, p, 120, 1, 0), 120);
        expect_ip4(&h, &ip, NULL); /* with a good checksum */
        cr_assert(ip.src == NET4(99) && ip.dst == NET4(1) && ip.proto == 89 && ip.ttl == 7 && ip.tos == 0x20);
        cr_assert(ip.len == 100 && ip.id != 0);
        cr_assert_arr_eq(ip.payload, buf, 100);
    }
    own_header(p, 0, NET4(1), 100);
    put_be16(p + 4, 0x1234);
    cr_assert_eq(app_sendto(&h, s, p, 120, 1, 0), 120);
    expect_ip4(&h, &ip, NULL);
    cr_assert_eq(ip.src, HOST4);
    cr_assert_eq(ip.id, 0x1234);
    cr_assert_eq(engine_setopt(h.e, h.sid, app_socket(&h, SG_SOCK_DGRAM), 0, 3, 1, h.now_us), -ENOPROTOOPT);
}

Test(raw, header_of_the_application_must_be_one_and_fit_the_mtu)
{
    static const struct {
        uint8_t first;
        uint32_t len;
        uint64_t error;
    } bad[] = {{0x45, 19, EINVAL},
               {0x44, 30, EINVAL},
               {0x65, 30, EINVAL},
               {0x4f, 59, EINVAL},
               {0x45, 1501, EMSGSIZE}};
    uint32_t s = raw(RAW_PROTO_RAW);
    static uint8_t p[1501];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t error;

        own_header(p, 0, NET4(1), 100);
        p[0] = bad[i].first;
        cr_assert_eq(app_sendto(&h, s, p, bad[i].len, 1, 0), bad[i].len);
        expect_nothing(&h);
        cr_assert_eq(engine_getopt(h.e, h.sid, s, 1, 4, &error), 0);
        cr_assert_eq(error, bad[i].error, "%zu", i);
    }
}

Test(raw, icmp_types_can_be_left_out)
{
    uint32_t s = raw(IP_PROTO_ICMP);

    cr_assert_eq(engine_setopt(h.e, h.sid, s, 255, 1, 1u << ICMP4_ECHO, h.now_us), 0);
    frame_icmp(&f, NET4(1), HOST4, ICMP4_ECHO, 0, 77, buf, 40);
    frame_in(&h, &f);
    cr_assert_eq(reads(s), -EAGAIN);
    frame_icmp(&f, NET4(1), HOST4, ICMP4_ECHO_REPLY, 0, 77, buf, 40);
    frame_in(&h, &f);
    cr_assert_eq(reads(s), 68);
    cr_assert_eq(engine_setopt(h.e, h.sid, raw(89), 255, 1, 1, h.now_us), -EOPNOTSUPP);
    drain();
}

Test(raw, ring_without_room_drops_and_counts)
{
    struct ip4_pkt ip = {.src = NET4(1), .dst = HOST4, .proto = 89, .payload = buf, .len = 1480};
    uint32_t s = raw(89);
    unsigned n = 0;

    cr_assert_eq(engine_setopt(h.e, h.sid, s, 1, 8, 4096, h.now_us), 0); /* SO_RCVBUF */
    for (int i = 0; i < 5; i++) {
        frame_ip4(&f, &ip, HOST_LAST);
        frame_in(&h, &f);
    }
    while (reads(s) > 0)
        n++;
    cr_assert_eq(n, 2);
    cr_assert_eq(host_counter(&h, "RawDrops"), 3);
}

Test(raw, sockets_are_bounded)
{
    uint32_t got_some = 0;
    int rc = 0;

    for (uint32_t i = 0; i < RAW_SOCKS_MAX + 1 && !rc; i++) {
        rc = try_open(200 + i, 89);
        got_some += !rc;
    }
    cr_assert_eq(rc, -ENOBUFS);
    cr_assert_leq(got_some, RAW_SOCKS_MAX);
    cr_assert_null(engine_check(h.e), "%s", engine_check(h.e));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/frames.h"

#define SOL_SOCKET_ABI   1u
#define SO_REUSEADDR_ABI 2u
#define SO_ERROR_ABI     4u
#define SO_BROADCAST_ABI 6u
#define SO_RCVBUF_ABI    8u

static struct host h;
static struct frame f;
static uint8_t buf[SG_DGRAM_BYTES_MAX], got[SG_DGRAM_BYTES_MAX];

static void start(void)
{
    rig_start(&h);
    rig_resolve(&h, 1);
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 11 + i / 256);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(udp, .init = start, .fini = stop);

static uint32_t open_udp(void)
{
    return app_socket(&h, SG_SOCK_DGRAM);
}

static uint32_t bound(uint16_t port)
{
    uint32_t s = open_udp();

    cr_assert_eq(app_bind(&h, s, port), 0);
    return s;
}

static int bind_to(uint32_t s, uint32_t addr, uint16_t port)
{
    struct ip_ep ep = {.addr = net_ip_addr(addr), .port = port};

    return engine_bind(h.e, h.sid, s, &ep);
}

static int connect_to(uint32_t s, uint32_t addr, uint16_t port)
{
    struct ip_ep ep = {.addr = net_ip_addr(addr), .port = port};
    int rc = engine_connect(h.e, h.sid, s, &ep, h.now_us);

    host_run(&h);
    return rc;
}

static int set_option(uint32_t s, uint32_t name, uint64_t value)
{
    return engine_setopt(h.e, h.sid, s, SOL_SOCKET_ABI, name, value, h.now_us);
}

static int take_error(uint32_t s)
{
    uint64_t v;

    cr_assert_eq(engine_getopt(h.e, h.sid, s, SOL_SOCKET_ABI, SO_ERROR_ABI, &v), 0);
    return (int)v;
}

static void datagram_in(uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, uint32_t len)
{
    frame_udp(&f, src, sport, dst, dport, buf, len);
    frame_in(&h, &f);
}

/* Payload bytes of the next datagram that the application reads; -EAGAIN: none. */
static int64_t read_one(uint32_t s)
{
    int64_t n = app_recvfrom(&h, s, got, sizeof(got), NULL, NULL);

    if (n >= 0)
        cr_assert_arr_eq(got, buf, (size_t)n);
    return n;
}

static const struct sg_slot_name *name_of(uint32_t s)
{
    host_run(&h);
    return &h.slots[s].n;
}

/* Write a record with this header; payload bytes are those of `buf`. No check on our side. */
static void write_record(uint32_t s, const struct sg_dgram_hdr *hdr, uint64_t ring_bytes)
{
    struct sg_slot *sl = &h.slots[s];

    if (!sl->d.tx_region) {
        cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
        host_run(&h);
    }
    if (sl->a.tx_tail == sl->d.tx_head)
        sl->a.tx_base = sl->a.tx_tail;
    if (ring_bytes >= sizeof(*hdr))
        sg_bytes_put(h.seg + ((uint64_t)sl->d.tx_region << SG_REGION_SHIFT), sl->d.tx_log2,
                     sl->a.tx_tail - sl->a.tx_base, hdr, sizeof(*hdr));
    sl->a.tx_tail += ring_bytes;
    sl->a.kick_posted++;
    engine_kick(h.e, h.sid, &s, 1, h.now_us);
}

static void send_to(uint32_t s, uint32_t addr, uint16_t port, uint32_t len)
{
    struct sg_dgram_hdr hdr = {.len = len, .family = SG_AF_INET, .port = port};

    put_be32(hdr.addr, addr);
    write_record(s, &hdr, sg_dgram_ring_bytes(len));
    host_run(&h);
}

static void expect_datagram(uint32_t dst, uint16_t sport, uint16_t dport, uint32_t len)
{
    struct udp_dgram d;
    struct ip4_pkt ip;

    expect_ip4(&h, &ip, NULL);
    cr_assert(ip.proto == IP_PROTO_UDP && ip.src == HOST4 && ip.dst == dst && !ip.more);
    cr_assert(udp_parse(ip.payload, ip.len, &d));
    cr_assert(d.sport == sport && d.dport == dport && d.len == len);
    cr_assert_eq(csum_finish(csum_add(csum_pseudo4(ip.hdr + 12, ip.hdr + 16, IP_PROTO_UDP, ip.len),
                                      csum_partial(ip.payload, ip.len))),
                 0);
}

/* ---- Out
 * ------------------------------------------------------------------------------------------------------ */

Test(udp, datagram_leaves_as_it_was_written)
{
    uint32_t s = bound(4000);

    for (uint32_t len = 0; len <= 1472; len += 46) {
        cr_assert_eq(app_sendto(&h, s, buf, len, 1, 53), len);
        expect_datagram(NET4(1), 4000, 53, len);
    }
    expect_nothing(&h);
    cr_assert_eq(h.slots[s].d.tx_head, h.slots[s].a.tx_tail);
    cr_assert_eq(host_counter(&h, "UdpOutDatagrams"), 33);
}

Test(udp, unbound_socket_gets_an_ephemeral_port_when_it_sends)
{
    uint32_t s = open_udp();
    struct ip4_pkt ip;
    uint16_t port;

    cr_assert_eq(app_sendto(&h, s, buf, 5, 1, 53), 5);
    expect_ip4(&h, &ip, NULL);
    port = get_be16(ip.payload);
    cr_assert(port >= h.cfg.port_min && port <= h.cfg.port_max);
    cr_assert_eq(name_of(s)->local_port, port);
    cr_assert(h.slots[s].d.flags & SG_F_BOUND);
    datagram_in(NET4(1), 53, HOST4, port, 7); /* and hears the answer */
    cr_assert_eq(read_one(s), 7);
}

Test(udp, largest_datagram_leaves_in_fragments_with_the_right_checksum)
{
    static uint8_t l4[IP4_BYTES_MAX];
    const uint32_t len = SG_DGRAM_BYTES_MAX + UDP_HDR_BYTES;
    uint32_t s = bound(4000);
    struct ip4_pkt ip = {0};

    for (int round = 0; round < 8; round++) { /* the ring wraps */
        cr_assert_eq(app_sendto(&h, s, buf, SG_DGRAM_BYTES_MAX, 1, 53), SG_DGRAM_BYTES_MAX);
        for (uint32_t at = 0; at < len; at += ip.len) {
            expect_ip4(&h, &ip, NULL);
            cr_assert_eq(ip.frag_off, at);
            memcpy(l4 + at, ip.payload, ip.len);
        }
        cr_assert_arr_eq(l4 + UDP_HDR_BYTES, buf, SG_DGRAM_BYTES_MAX);
        cr_assert_eq(csum_finish(csum_add(csum_pseudo4(ip.hdr + 12, ip.hdr + 16, IP_PROTO_UDP, len),
                                          csum_partial(l4, len))),
                     0);
    }
}

Test(udp, connected_socket_sends_to_its_peer)
{
    uint32_t s = bound(4000);

    cr_assert_eq(app_connect(&h, s, 1, 53), 0);
    cr_assert_eq(h.slots[s].d.state, SG_ST_CONNECTED);
    cr_assert_eq(name_of(s)->remote_port, 53);
    cr_assert_eq(get_be32(name_of(s)->local), HOST4);
    cr_assert_eq(app_sendto(&h, s, buf, 9, 0, 0), 9);
    expect_datagram(NET4(1), 4000, 53, 9);
    cr_assert_eq(app_sendto(&h, s, buf, 9, 1, 54), 9); /* an address goes before the peer */
    expect_datagram(NET4(1), 4000, 54, 9);
}

Test(udp, what_cannot_be_sent_is_a_soft_error_and_the_next_goes)
{
    uint32_t s = bound(4000);
    struct sg_dgram_hdr v6 = {.len = 3, .family = SG_AF_INET6, .port = 9};

    cr_assert_eq(app_sendto(&h, s, buf, 9, 0, 0), 9);
    expect_nothing(&h);
    cr_assert(h.slots[s].d.flags & SG_F_SOFT_ERR);
    cr_assert_eq(take_error(s), EDESTADDRREQ);
    cr_assert_eq(take_error(s), 0);
    send_to(s, NET4(1), 0, 9);
    expect_nothing(&h);
    cr_assert_eq(take_error(s), EINVAL);
    send_to(s, 0x7f000001, 53, 9);
    expect_nothing(&h);
    cr_assert_eq(take_error(s), ENETUNREACH);
    write_record(s, &v6, 64);
    expect_nothing(&h);
    cr_assert_eq(take_error(s), EAFNOSUPPORT);
    cr_assert_eq(host_counter(&h, "UdpSndbufErrors"), 4);
    send_to(s, NET4(1), 53, 9);
    expect_datagram(NET4(1), 4000, 53, 9);
    cr_assert_null(h.fault);
}

Test(udp, broadcast_needs_its_option)
{
    uint32_t s = bound(4000);

    send_to(s, UINT32_MAX, 53, 9);
    expect_nothing(&h);
    cr_assert_eq(take_error(s), EACCES);
    send_to(s, NET4(255), 53, 9);
    expect_nothing(&h);
    cr_assert_eq(take_error(s), EACCES);
    cr_assert_eq(connect_to(s, UINT32_MAX, 53), -EACCES);
    cr_assert_eq(set_option(s, SO_BROADCAST_ABI, 1), 0);
    send_to(s, UINT32_MAX, 53, 9);
    expect_datagram(UINT32_MAX, 4000, 53, 9);
    send_to(s, NET4(255), 53, 9);
    expect_datagram(NET4(255), 4000, 53, 9);
}

Test(udp, multicast_stays_on_the_link)
{
    uint32_t s = bound(4000);
    struct ip4_pkt ip;

    send_to(s, 0xe0000001, 53, 9);
    expect_ip4(&h, &ip, NULL);
    cr_assert_eq(ip.ttl, 1);
}

Test(udp, full_frame_queue_keeps_datagrams_in_the_ring)
{
    uint32_t s = bound(4000), room = h.cfg.pkt_max - h.cfg.pkt_max / 8, sent = 0;

    for (uint32_t i = 0; i < h.cfg.pkt_max + 50; i++)
        cr_assert_eq(app_sendto(&h, s, buf, 10, 1, 53), 10);
    udp_output(h.e, h.now_us);
    cr_assert_eq(h.cfg.pkt_max - pktq_room(&h.e->txq, 0), room);
    cr_assert(udp_output_pending(h.e) && engine_tx_pending(h.e));
    while (host_tx(&h))
        sent++;
    cr_assert_eq(sent, h.cfg.pkt_max + 50);
    cr_assert_not(udp_output_pending(h.e));
}

Test(udp, sockets_with_much_to_send_take_turns)
{
    uint32_t a = bound(4000), b = bound(4001), first_of_b = 0, n = 0;
    struct udp_dgram d;
    struct ip4_pkt ip;

    for (uint32_t i = 0; i < 100; i++) {
        cr_assert_eq(app_sendto(&h, a, buf, 10, 1, 53), 10);
        cr_assert_eq(app_sendto(&h, b, buf, 10, 1, 53), 10);
    }
    for (n = 0; n < 200; n++) {
        expect_ip4(&h, &ip, NULL);
        cr_assert(udp_parse(ip.payload, ip.len, &d));
        if (d.sport == 4001 && !first_of_b)
            first_of_b = n;
    }
    cr_assert_eq(first_of_b, UDP_SOCK_BURST);
}

Test(udp, datagram_that_no_queue_could_hold_is_refused)
{
    struct engine_config cfg;
    uint32_t s;

    rig_stop(&h);
    host_config(&cfg, HOST_LAST);
    cfg.pkt_max = 8;
    host_start(&h, &cfg, 1000000);
    rig_resolve(&h, 1);
    s = bound(4000);
    cr_assert_eq(app_sendto(&h, s, buf, SG_DGRAM_BYTES_MAX, 1, 53), SG_DGRAM_BYTES_MAX);
    expect_nothing(&h);
    cr_assert_eq(take_error(s), EMSGSIZE);
    cr_assert_eq(app_sendto(&h, s, buf, 9, 1, 53), 9);
    expect_datagram(NET4(1), 4000, 53, 9);
}

/* ---- Hostile send rings
 * -------------------------------------------------------------------------------------- */

static void expect_fault(void)
{
    host_run(&h);
    expect_nothing(&h);
    cr_assert_not_null(h.fault);
}

Test(udp, length_beyond_the_limit_ends_the_session)
{
    struct sg_dgram_hdr hdr = {.len = SG_DGRAM_BYTES_MAX + 1, .family = SG_AF_INET, .port = 1};

    write_record(bound(4000), &hdr, sg_dgram_ring_bytes(hdr.len));
    expect_fault();
}

Test(udp, length_beyond_what_was_written_ends_the_session)
{
    struct sg_dgram_hdr hdr = {.len = 33, .family = SG_AF_INET, .port = 1};

    write_record(bound(4000), &hdr, 64);
    expect_fault();
}

Test(udp, record_without_a_whole_header_ends_the_session)
{
    struct sg_dgram_hdr hdr = {0};

    write_record(bound(4000), &hdr, 31);
    expect_fault();
}

/* A ring starts again at the byte that comes next, or not at all. */
Test(udp, base_that_is_not_the_next_byte_is_not_taken)
{
    uint32_t s = bound(4000);
    struct sg_dgram_hdr hdr = {.len = 1, .family = SG_AF_INET, .port = 53, .addr = {192, 0, 2, 1}};

    cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
    host_run(&h);
    h.slots[s].a.tx_base = 8;
    h.slots[s].a.tx_tail = 64;
    h.slots[s].a.kick_posted++;
    memcpy(h.seg + ((uint64_t)h.slots[s].d.tx_region << SG_REGION_SHIFT), &hdr, sizeof(hdr));
    engine_kick(h.e, h.sid, &s, 1, h.now_us);
    host_run(&h);
    cr_assert_null(h.fault);
    expect_datagram(NET4(1), 4000, 53, 1);
}

Test(udp, unknown_family_or_filled_padding_ends_the_session)
{
    struct sg_dgram_hdr hdr = {.len = 1, .family = 77, .port = 1};

    write_record(bound(4000), &hdr, 64);
    expect_fault();
    rig_stop(&h);
    start();
    hdr = (struct sg_dgram_hdr){.len = 1, .family = SG_AF_INET, .port = 1, .flags = 2};
    write_record(bound(4000), &hdr, 64);
    expect_fault();
}

Test(udp, random_send_rings_do_no_harm)
{
    uint64_t r = rnd_seed("udp_ring");

    for (int round = 0; round < 200; round++) {
        uint32_t s = bound(4000);
        struct sg_slot *sl = &h.slots[s];
        uint32_t *ring;

        cr_assert_eq(engine_grant(h.e, h.sid, s), 0);
        host_run(&h);
        ring = (uint32_t *)(void *)(h.seg + ((uint64_t)sl->d.tx_region << SG_REGION_SHIFT));
        for (uint32_t i = 0; i < 4096; i++)
            ring[i] = (uint32_t)(rnd_next(&r) >> (rnd_next(&r) % 48));
        for (int k = 0; k < 20; k++) {
            uint64_t bits = rnd_next(&r);

            if (bits & 1)
                sl->a.tx_base = rnd_next(&r) & ~UINT64_C(31);
            sl->a.tx_tail += rnd_next(&r) % 2048 & ~(bits & 2 ? 31u : 0u);
            if (bits % 16 == 0)
                sl->a.rx_head = rnd_next(&r);
            sl->a.kick_posted++;
            engine_kick(h.e, h.sid, &s, 1, h.now_us);
            while (host_tx(&h))
                ;
        }
        rig_check(&h);
        cr_assert_null(engine_check(h.e));
        rig_stop(&h);
        start();
    }
}

/* ---- In
 * ------------------------------------------------------------------------------------------------------- */

Test(udp, datagram_arrives_with_its_sender)
{
    uint32_t s = bound(4000);
    uint8_t from[4];
    uint16_t port;

    for (uint32_t len = 0; len <= 1472; len += 184) {
        uint64_t before = h.slots[s].d.rx_tail;

        datagram_in(NET4(1), 99, HOST4, 4000, len);
        cr_assert_eq(h.slots[s].d.rx_base, before, "an empty ring starts again at its first line");
        cr_assert_eq(app_recvfrom(&h, s, got, sizeof(got), from, &port), len);
        cr_assert_arr_eq(got, buf, len);
        cr_assert_eq(get_be32(from), NET4(1));
        cr_assert_eq(port, 99);
    }
    cr_assert_eq(read_one(s), -EAGAIN);
    cr_assert_eq(host_counter(&h, "UdpInDatagrams"), 9);
    cr_assert_gt(h.events, 0);
}

Test(udp, length_rules_and_checksum_are_enforced)
{
    uint8_t *l4 = f.b + ETH_HDR_BYTES + IP4_HDR_BYTES;
    uint32_t s = bound(4000);
    unsigned bad = 0;

    for (int v = 0; v < 3; v++) {
        frame_udp(&f, NET4(1), 99, HOST4, 4000, buf, 20);
        if (v == 0)
            put_be16(l4 + 4, 7); /* below the header */
        else if (v == 1)
            put_be16(l4 + 4, 29); /* beyond the packet */
        else
            l4[20] ^= 1;
        frame_in(&h, &f);
        bad += v < 2;
        cr_assert_eq(host_counter(&h, "UdpInErrors"), bad);
        cr_assert_eq(host_counter(&h, "UdpInCsumErrors"), v == 2);
    }
    for (uint32_t len = 0; len < UDP_HDR_BYTES; len++) {
        struct ip4_pkt ip = {.src = NET4(1), .dst = HOST4, .proto = IP_PROTO_UDP, .payload = buf, .len = len};

        frame_ip4(&f, &ip, HOST_LAST);
        frame_in(&h, &f);
        cr_assert_eq(host_counter(&h, "UdpInErrors"), ++bad);
    }
    cr_assert_eq(read_one(s), -EAGAIN);
    frame_udp(&f, NET4(1), 99, HOST4, 4000, buf, 20); /* no checksum at all is allowed (RFC 768) */
    memset(l4 + UDP_CSUM_OFFSET, 0, 2);
    frame_in(&h, &f);
    cr_assert_eq(read_one(s), 20);
    cr_assert_eq(host_counter(&h, "UdpNoChecksum"), 1);
    frame_udp(&f, NET4(1), 99, HOST4, 4000, buf, 20); /* bytes behind the datagram are not its own */
    memset(l4 + UDP_CSUM_OFFSET, 0, 2);
    put_be16(l4 + 4, UDP_HDR_BYTES + 12);
    frame_in(&h, &f);
    cr_assert_eq(read_one(s), 12);
}

Test(udp, full_ring_drops_the_newest)
{
    uint32_t s = open_udp();
    unsigned n = 0;

    cr_assert_eq(set_option(s, SO_RCVBUF_ABI, 4096), 0);
    cr_assert_eq(app_bind(&h, s, 4000), 0);
    for (uint32_t i = 0; i < 10; i++) /* 1,032 rounds up to 1,056 of 4,096 bytes: three fit */
        datagram_in(NET4(1), (uint16_t)(100 + i), HOST4, 4000, 1000);
    cr_assert_eq(host_counter(&h, "UdpRcvbufErrors"), 7);
    for (uint16_t port; app_recvfrom(&h, s, got, sizeof(got), NULL, &port) == 1000; n++)
        cr_assert_eq(port, 100 + n);
    cr_assert_eq(n, 3);
    datagram_in(NET4(1), 99, HOST4, 4000, 1000);
    cr_assert_eq(read_one(s), 1000);
}

Test(udp, receive_ring_wraps_without_harm)
{
    uint64_t r = rnd_seed("udp_rx");
    uint32_t s = open_udp();
    uint32_t len[8], head = 0, tail = 0;

    cr_assert_eq(set_option(s, SO_RCVBUF_ABI, 8192), 0);
    cr_assert_eq(app_bind(&h, s, 4000), 0);
    for (int i = 0; i < 5000; i++) {
        if (rnd_next(&r) % 2 && tail - head < 5) {
            len[tail++ % 8] = (uint32_t)(rnd_next(&r) % 1472);
            datagram_in(NET4(1), 99, HOST4, 4000, len[(tail - 1) % 8]);
        } else if (head != tail) {
            cr_assert_eq(read_one(s), len[head % 8]);
            head++;
        }
    }
    cr_assert_eq(host_counter(&h, "UdpRcvbufErrors"), 0);
}

Test(udp, without_memory_for_a_ring_datagrams_are_dropped_and_counted)
{
    uint32_t s = bound(4000);

    h.e->sessions[h.sid].v.buffer_bytes_max = 0;
    datagram_in(NET4(1), 99, HOST4, 4000, 100);
    cr_assert_eq(host_counter(&h, "UdpMemErrors"), 1);
    cr_assert_eq(host_counter(&h, "UdpRcvbufErrors"), 0);
    h.e->sessions[h.sid].v.buffer_bytes_max = UINT64_MAX / 2;
    datagram_in(NET4(1), 99, HOST4, 4000, 100);
    cr_assert_eq(read_one(s), 100);
}

/* ---- Who gets it
 * ----------------------------------------------------------------------------------------------- */

Test(udp, best_fitting_socket_gets_the_datagram)
{
    uint32_t any = open_udp(), local = open_udp(), peer = open_udp();

    cr_assert_eq(set_option(any, SO_REUSEADDR_ABI, 1), 0);
    cr_assert_eq(set_option(local, SO_REUSEADDR_ABI, 1), 0);
    cr_assert_eq(set_option(peer, SO_REUSEADDR_ABI, 1), 0);
    cr_assert_eq(bind_to(peer, HOST4, 4000), 0);
    cr_assert_eq(app_connect(&h, peer, 1, 53), 0);
    cr_assert_eq(bind_to(local, HOST4, 4000), 0);
    cr_assert_eq(bind_to(any, 0, 4000), 0);
    datagram_in(NET4(1), 53, HOST4, 4000, 1);
    datagram_in(NET4(1), 54, HOST4, 4000, 2);
    cr_assert_eq(read_one(peer), 1);
    cr_assert_eq(read_one(local), 2);
    cr_assert_eq(app_close(&h, peer), 0);
    datagram_in(NET4(1), 53, HOST4, 4000, 3);
    cr_assert_eq(read_one(local), 3);
    cr_assert_eq(app_close(&h, local), 0);
    datagram_in(NET4(1), 53, HOST4, 4000, 4);
    cr_assert_eq(read_one(any), 4);
    cr_assert_eq(read_one(any), -EAGAIN);
}

Test(udp, connected_socket_hears_nobody_but_its_peer)
{
    uint32_t s = bound(4000);

    cr_assert_eq(app_connect(&h, s, 1, 53), 0);
    datagram_in(NET4(1), 54, HOST4, 4000, 1);
    datagram_in(NET4(3), 53, HOST4, 4000, 2);
    cr_assert_eq(read_one(s), -EAGAIN);
    cr_assert_eq(host_counter(&h, "UdpNoPorts"), 2);
    datagram_in(NET4(1), 53, HOST4, 4000, 3);
    cr_assert_eq(read_one(s), 3);
    while (host_tx(&h))
        ;
}

Test(udp, broadcast_reaches_every_socket_that_fits)
{
    uint32_t any[2], unicast, other, connected;

    for (int i = 0; i < 2; i++) {
        any[i] = open_udp();
        cr_assert_eq(set_option(any[i], SO_REUSEADDR_ABI, 1), 0);
        cr_assert_eq(bind_to(any[i], 0, 4000), 0);
    }
    unicast = open_udp();
    cr_assert_eq(set_option(unicast, SO_REUSEADDR_ABI, 1), 0);
    cr_assert_eq(bind_to(unicast, HOST4, 4000), 0);
    other = bound(4001);
    connected = open_udp();
    cr_assert_eq(set_option(connected, SO_REUSEADDR_ABI, 1), 0);
    cr_assert_eq(bind_to(connected, 0, 4000), 0);
    cr_assert_eq(app_connect(&h, connected, 9, 99), 0);
    datagram_in(NET4(1), 99, NET4(255), 4000, 5);
    cr_assert_eq(read_one(any[0]), 5);
    cr_assert_eq(read_one(any[1]), 5);
    cr_assert_eq(read_one(unicast), -EAGAIN);
    cr_assert_eq(read_one(other), -EAGAIN);
    cr_assert_eq(read_one(connected), -EAGAIN);
    expect_nothing(&h);
}

Test(udp, socket_bound_to_a_broadcast_address_hears_that_alone)
{
    uint32_t s = open_udp();

    cr_assert_eq(bind_to(s, NET4(255), 4000), 0);
    datagram_in(NET4(1), 99, HOST4, 4000, 1);
    datagram_in(NET4(1), 99, UINT32_MAX, 4000, 2);
    datagram_in(NET4(1), 99, NET4(255), 4000, 3);
    cr_assert_eq(read_one(s), 3);
    cr_assert_eq(read_one(s), -EAGAIN);
    while (host_tx(&h))
        ;
}

/* ---- Calls
 * ------------------------------------------------------------------------------------------------------ */

Test(udp, bind_refuses_what_linux_refuses)
{
    uint32_t a = bound(4000), b = open_udp();

    cr_assert_eq(app_bind(&h, a, 4001), -EINVAL);
    cr_assert_eq(app_bind(&h, b, 4000), -EADDRINUSE);
    cr_assert_eq(bind_to(b, NET4(9), 4002), -EADDRNOTAVAIL);
    cr_assert_eq(bind_to(b, 0x7f000001, 4002), -EADDRNOTAVAIL);
    cr_assert_eq(app_close(&h, a), 0);
    cr_assert_eq(app_bind(&h, b, 4000), 0);
}

Test(udp, connect_refuses_what_has_no_route)
{
    uint32_t s = open_udp();
    struct ip_ep v6 = {.addr = {.family = SG_AF_INET6}, .port = 1};

    cr_assert_eq(connect_to(s, 0x7f000001, 53), -ENETUNREACH);
    cr_assert_eq(engine_connect(h.e, h.sid, s, &v6, h.now_us), -EAFNOSUPPORT);
    cr_assert_eq(name_of(s)->local_port, 0);
    cr_assert_eq(h.slots[s].d.state, SG_ST_OPEN);
    /* Port 0 is how programs ask for the address that they would send from. */
    cr_assert_eq(connect_to(s, 0xc6336401, 0), 0);
    cr_assert_eq(get_be32(name_of(s)->local), HOST4);
}

Test(udp, disconnect_gives_back_what_connect_chose)
{
    struct ip_ep nobody = {0};
    uint32_t s = open_udp();
    uint16_t port;

    cr_assert_eq(app_connect(&h, s, 1, 53), 0);
    port = name_of(s)->local_port;
    cr_assert_neq(port, 0);
    cr_assert_eq(engine_connect(h.e, h.sid, s, &nobody, h.now_us), 0);
    cr_assert_eq(name_of(s)->local_port, 0);
    cr_assert_eq(name_of(s)->remote_port, 0);
    cr_assert_eq(get_be32(name_of(s)->local), 0);
    cr_assert_eq(h.slots[s].d.state, SG_ST_OPEN);
    cr_assert_eq(app_bind(&h, open_udp(), port), 0);
    /* A port from bind() stays. */
    cr_assert_eq(app_bind(&h, s, 4000), 0);
    cr_assert_eq(app_connect(&h, s, 1, 53), 0);
    cr_assert_eq(engine_connect(h.e, h.sid, s, &nobody, h.now_us), 0);
    cr_assert_eq(name_of(s)->local_port, 4000);
    cr_assert_eq(get_be32(name_of(s)->local), 0);
    datagram_in(NET4(3), 99, HOST4, 4000, 8);
    cr_assert_eq(read_one(s), 8);
}

Test(udp, connect_may_be_repeated)
{
    uint32_t s = bound(4000);

    cr_assert_eq(app_connect(&h, s, 1, 53), 0);
    cr_assert_eq(app_connect(&h, s, 3, 54), 0);
    datagram_in(NET4(1), 53, HOST4, 4000, 1);
    cr_assert_eq(read_one(s), -EAGAIN);
    datagram_in(NET4(3), 54, HOST4, 4000, 2);
    cr_assert_eq(read_one(s), 2);
    while (host_tx(&h))
        ;
}

Test(udp, refused_datagram_is_a_soft_error_of_the_connected_socket_alone)
{
    uint32_t s = bound(4000), unconnected = bound(4001);
    uint8_t quote[IP4_HDR_BYTES + UDP_HDR_BYTES];
    struct ip4_pkt ip = {.src = HOST4, .dst = NET4(1), .proto = IP_PROTO_UDP, .len = UDP_HDR_BYTES};

    cr_assert_eq(app_connect(&h, s, 1, 53), 0);
    for (uint16_t port = 4000; port <= 4001; port++) {
        ip4_put(quote, &ip);
        udp_put(quote + IP4_HDR_BYTES, port, 53, 0);
        frame_icmp(&f, NET4(1), HOST4, ICMP4_UNREACH, ICMP4_UNREACH_PORT, 0, quote, sizeof(quote));
        frame_in(&h, &f);
    }
    cr_assert_eq(app_error(&h, s), ECONNREFUSED);
    cr_assert_eq(h.slots[s].d.flags & SG_F_ERROR, 0);
    cr_assert_eq(app_error(&h, unconnected), 0);
    cr_assert_eq(take_error(s), ECONNREFUSED);
    cr_assert_eq(app_sendto(&h, s, buf, 3, 0, 0), 3); /* it lives */
    expect_datagram(NET4(1), 4000, 53, 3);
}

Test(udp, shutdown_ends_each_direction)
{
    uint32_t s = bound(4000);
    struct sg_dgram_hdr hdr = {.len = 1, .family = SG_AF_INET, .port = 53, .addr = {192, 0, 2, 1}};

    cr_assert_eq(app_sendto(&h, s, buf, 3, 1, 53), 3);
    cr_assert_eq(app_shutdown(&h, s, SG_SHUT_WR), 0);
    expect_datagram(NET4(1), 4000, 53, 3); /* written before */
    cr_assert(h.slots[s].d.flags & SG_F_TX_SHUT);
    write_record(s, &hdr, 64);
    host_run(&h);
    expect_nothing(&h);
    cr_assert_eq(take_error(s), EPIPE);
    datagram_in(NET4(1), 99, HOST4, 4000, 4);
    cr_assert_eq(read_one(s), 4);
    cr_assert_eq(app_shutdown(&h, s, SG_SHUT_RD), 0);
    cr_assert(h.slots[s].d.flags & SG_F_RX_FIN);
    datagram_in(NET4(1), 99, HOST4, 4000, 4);
    cr_assert_eq(read_one(s), -EAGAIN);
    cr_assert_null(h.fault);
}

Test(udp, close_sends_what_was_written_and_frees_all)
{
    struct engine_session_use use;
    uint32_t s = bound(4000);

    cr_assert_eq(app_sendto(&h, s, buf, 3, 1, 53), 3);
    datagram_in(NET4(1), 99, HOST4, 4000, 4);
    cr_assert_eq(app_close(&h, s), 0);
    expect_datagram(NET4(1), 4000, 53, 3);
    engine_session_use(h.e, h.sid, &use);
    cr_assert(use.sockets == 0 && use.buffer_bytes == 0);
    cr_assert_eq(h.e->udp.free_count, h.cfg.udp_max);
    datagram_in(NET4(1), 99, HOST4, 4000, 4);
    cr_assert_eq(host_counter(&h, "UdpNoPorts"), 1);
    while (host_tx(&h))
        ;
}

Test(udp, closing_one_of_several_that_wait_to_send_keeps_the_others)
{
    uint32_t s[5];
    unsigned n = 0;

    for (uint32_t i = 0; i < 5; i++) {
        s[i] = bound((uint16_t)(4000 + i));
        for (int k = 0; k < 100; k++)
            cr_assert_eq(app_sendto(&h, s[i], buf, 3, 1, 53), 3);
    }
    udp_output(h.e, h.now_us);
    cr_assert(udp_output_pending(h.e));
    for (uint32_t i = 1; i < 5; i += 2) {
        cr_assert_eq(app_close(&h, s[i]), 0);
        rig_check(&h);
    }
    while (host_tx(&h)) {
        rig_check(&h);
        n++;
    }
    cr_assert_geq(n, 300);
    for (uint32_t i = 0; i < 5; i += 2)
        cr_assert_eq(h.slots[s[i]].d.tx_head, h.slots[s[i]].a.tx_tail);
}

Test(udp, records_are_a_bounded_pool)
{
    for (uint32_t i = 0; i < h.cfg.udp_max; i++)
        (void)open_udp();
    cr_assert_eq(engine_open(h.e, h.sid, HOST_SLOTS - 1, SG_SOCK_DGRAM, 0, SG_AF_INET), -ENOBUFS);
    rig_check(&h);
}

Test(udp, random_calls_and_traffic_keep_the_tables_consistent)
{
    uint64_t r = rnd_seed("udp_random");
    uint32_t s[40] = {0};
    struct ip_ep nobody = {0};

    for (int i = 0; i < 20000; i++) {
        uint32_t k = (uint32_t)(rnd_next(&r) % ARRAY_LEN(s));
        uint16_t port = (uint16_t)(4000 + rnd_next(&r) % 20);

        if (!s[k]) {
            s[k] = open_udp();
            (void)set_option(s[k], SO_REUSEADDR_ABI, rnd_next(&r) % 2);
        }
        switch (rnd_next(&r) % 10) {
        case 0:
            cr_assert_eq(app_close(&h, s[k]), 0);
            s[k] = 0;
            break;
        case 1:
            (void)bind_to(s[k], rnd_next(&r) % 2 ? HOST4 : 0, port);
            break;
        case 2:
            (void)app_connect(&h, s[k], (uint8_t)(rnd_next(&r) % 4), port);
            break;
        case 3:
            (void)engine_connect(h.e, h.sid, s[k], &nobody, h.now_us);
            break;
        case 4:
            while (host_tx(&h))
                ;
            break;
        case 5:
            (void)app_recvfrom(&h, s[k], got, sizeof(got), NULL, NULL);
            break;
        case 6:
            (void)app_sendto(&h, s[k], buf, rnd_next(&r) % 3000, (uint8_t)(rnd_next(&r) % 4), port);
            break;
        default:
            datagram_in(NET4(1 + (rnd_next(&r) % 3) * 2), port, rnd_next(&r) % 8 ? HOST4 : NET4(255),
                        (uint16_t)(4000 + rnd_next(&r) % 20), (uint32_t)(rnd_next(&r) % 1400));
            break;
        }
        if (i % 64 == 0)
            rig_check(&h);
    }
    cr_assert_null(h.fault);
}

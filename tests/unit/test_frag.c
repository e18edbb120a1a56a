/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "tests/unit/frames.h"

#define PORT 7u

static struct host h;
static struct frame f;
static uint32_t sock;
static uint8_t payload[SG_DGRAM_BYTES_MAX];
static uint8_t l4[IP4_BYTES_MAX + 1];
static uint32_t l4_len;

static void start(void)
{
    rig_start(&h);
    rig_resolve(&h, 1);
    sock = app_socket(&h, SG_SOCK_DGRAM);
    cr_assert_eq(app_bind(&h, sock, PORT), 0);
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 31 + i / 256);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(frag, .init = start, .fini = stop);

/* The datagram of which the next fragments are pieces. */
static void make_datagram(uint32_t payload_bytes)
{
    l4_len = put_udp(l4, NET4(1), 99, HOST4, PORT, payload, payload_bytes);
}

static void piece_as(uint16_t id, uint8_t proto, uint8_t tos, uint32_t off, uint32_t len, bool more)
{
    struct ip4_pkt ip = {
        .src = NET4(1),
        .dst = HOST4,
        .id = id,
        .proto = proto,
        .tos = tos,
        .frag_off = off,
        .more = more,
        .payload = l4 + off,
        .len = len,
    };

    frame_ip4(&f, &ip, HOST_LAST);
    frame_in(&h, &f);
    rig_check(&h);
}

static void piece(uint16_t id, uint32_t off, uint32_t len)
{
    piece_as(id, IP_PROTO_UDP, 0, off, len, off + len < l4_len);
}

static void expect_datagram(void)
{
    static uint8_t got[SG_DGRAM_BYTES_MAX];
    int64_t n = app_recvfrom(&h, sock, got, sizeof(got), NULL, NULL);

    cr_assert_eq(n, (int64_t)l4_len - UDP_HDR_BYTES, "%lld", (long long)n);
    cr_assert_arr_eq(got, payload, (size_t)n);
}

static void expect_none(void)
{
    cr_assert_lt(app_recvfrom(&h, sock, l4, 0, NULL, NULL), 0);
}

static unsigned held(void)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < h.e->frag.count; i++)
        n += h.e->frag.dgrams[i].used;
    return n;
}

Test(frag, pieces_in_order_are_joined)
{
    make_datagram(3000);
    piece(1, 0, 1480);
    piece(1, 1480, 1480);
    expect_none();
    piece(1, 2960, 48);
    expect_datagram();
    cr_assert_eq(held(), 0);
    cr_assert_eq(host_counter(&h, "IpReasmReqds"), 3);
    cr_assert_eq(host_counter(&h, "IpReasmOKs"), 1);
    cr_assert_eq(host_counter(&h, "IpReasmFails"), 0);
}

Test(frag, pieces_in_reverse_order_are_joined)
{
    make_datagram(3000);
    piece(1, 2960, 48);
    piece(1, 1480, 1480);
    expect_none();
    piece(1, 0, 1480);
    expect_datagram();
}

Test(frag, largest_datagram_is_joined)
{
    make_datagram(SG_DGRAM_BYTES_MAX);
    for (uint32_t off = 0; off < l4_len; off += 1480)
        piece(1, off, l4_len - off < 1480 ? l4_len - off : 1480);
    expect_datagram();
}

Test(frag, random_cuts_orders_and_duplicates_give_the_same_bytes)
{
    uint64_t r = rnd_seed("frag");

    for (int round = 0; round < 500; round++) {
        uint32_t cut[64], order[128], n = 0, m;

        make_datagram((uint32_t)(rnd_next(&r) % 20000));
        for (uint32_t at = 0; at < l4_len && n < ARRAY_LEN(cut) - 1; n++) {
            cut[n] = at;
            at += 8 * (uint32_t)(1 + rnd_next(&r) % (n < 60 ? 100 : 2000));
        }
        cut[n] = l4_len;
        for (m = 0; m < n; m++)
            order[m] = m;
        for (uint32_t i = m; i-- > 1;) {
            uint32_t j = (uint32_t)(rnd_next(&r) % (i + 1)), t = order[i];

            order[i] = order[j];
            order[j] = t;
        }
        for (uint32_t i = 0; i < m; i++) {
            uint32_t k = order[i];

            piece((uint16_t)round, cut[k], cut[k + 1] - cut[k]);
            if (i + 1 < m && rnd_next(&r) % 4 == 0) /* again one that has come */
                k = order[rnd_next(&r) % (i + 1)];
            if (i + 1 < m)
                piece((uint16_t)round, cut[k], cut[k + 1] - cut[k]);
        }
        expect_datagram();
        cr_assert_eq(held(), 0);
    }
    cr_assert_eq(host_counter(&h, "IpReasmFails"), 0);
}

Test(frag, datagrams_are_told_apart_by_id_protocol_and_source)
{
    make_datagram(3000);
    piece(1, 0, 1480);
    piece(2, 1480, 1480);
    piece(3, 2960, 48);
    piece_as(1, 200, 0, 1480, 1480, true);
    expect_none();
    cr_assert_eq(held(), 4);
}

Test(frag, overlap_with_other_content_drops_the_datagram)
{
    make_datagram(3000);
    piece(1, 0, 1480);
    l4[1000] ^= 1;
    piece(1, 992, 1480 - 992); /* lies within */
    cr_assert_eq(held(), 0);
    piece(2, 0, 1480);
    piece(2, 1472, 1488); /* reaches beyond */
    cr_assert_eq(held(), 0);
    cr_assert_eq(host_counter(&h, "IpReasmFails"), 2);
    expect_none();
}

Test(frag, pieces_that_disagree_about_the_end_drop_the_datagram)
{
    make_datagram(3000);
    piece(1, 2960, 48);
    piece_as(1, IP_PROTO_UDP, 0, 1480, 480, false); /* another end */
    cr_assert_eq(held(), 0);
    piece(2, 2960, 48);
    piece_as(2, IP_PROTO_UDP, 0, 4000, 80, true); /* behind the end */
    cr_assert_eq(held(), 0);
    piece_as(3, IP_PROTO_UDP, 0, 4000, 80, true);
    piece_as(3, IP_PROTO_UDP, 0, 1480, 80, false); /* the end before it */
    cr_assert_eq(held(), 0);
    cr_assert_eq(host_counter(&h, "IpReasmFails"), 3);
}

Test(frag, ping_of_death_is_refused)
{
    make_datagram(3000);
    piece_as(1, IP_PROTO_UDP, 0, 0, 1480, true);
    piece_as(1, IP_PROTO_UDP, 0, 65528, 8, true);
    cr_assert_eq(held(), 0);
    piece_as(2, IP_PROTO_ICMP, 0, 65512, 4, false); /* 65,516 + 20 */
    cr_assert_eq(held(), 0);
    piece_as(3, IP_PROTO_ICMP, 0, 65512, 3, false); /* the last byte that fits */
    cr_assert_eq(held(), 1);
    cr_assert_eq(host_counter(&h, "IpReasmFails"), 2);
}

Test(frag, shapes_no_sender_makes_are_refused)
{
    make_datagram(3000);
    piece_as(1, IP_PROTO_UDP, 0, 0, 0, true);
    piece_as(2, IP_PROTO_UDP, 0, 0, 1479, true);
    piece_as(3, IP_PROTO_UDP, 0, 1480, 0, false);
    piece_as(4, IP_PROTO_TCP, 0, 0, 8, true);    /* RFC 1858: half a TCP header */
    piece_as(5, IP_PROTO_TCP, 0, 8, 1480, true); /* RFC 1858: would rewrite one */
    cr_assert_eq(held(), 0);
    cr_assert_eq(host_counter(&h, "IpReasmFails"), 5);
}

Test(frag, old_datagram_times_out_and_its_sender_is_told)
{
    struct ip4_pkt ip, quoted;
    struct icmp4_msg m;

    make_datagram(3000);
    piece(1, 0, 1480);
    h.now_us += 1000000;
    piece(2, 1480, 1480);
    cr_assert_eq(engine_deadline(h.e), h.now_us - 1000000 + FRAG_TIMEOUT_US);
    h.now_us += FRAG_TIMEOUT_US - 1000000;
    host_run(&h);
    cr_assert_eq(held(), 1);
    expect_ip4(&h, &ip, NULL);
    cr_assert(ip.proto == IP_PROTO_ICMP && ip.dst == NET4(1) && ip.src == HOST4);
    cr_assert(icmp4_parse(ip.payload, ip.len, &m));
    cr_assert_eq(csum_finish(csum_partial(ip.payload, ip.len)), 0);
    cr_assert(m.type == ICMP4_TIME_EXCEEDED && m.code == ICMP4_TIME_REASSEMBLY);
    cr_assert(m.len >= IP4_HDR_BYTES + 8 && m.data[0] == 0x45);
    quoted.src = get_be32(m.data + 12);
    cr_assert_eq(quoted.src, NET4(1));
    cr_assert_arr_eq(m.data + IP4_HDR_BYTES, l4, m.len - IP4_HDR_BYTES);
    /* Without the first fragment nothing can be quoted, so nobody is told (RFC 792). */
    h.now_us += 1000000;
    host_run(&h);
    cr_assert_eq(held(), 0);
    expect_nothing(&h);
    cr_assert_eq(engine_deadline(h.e) == UINT64_MAX || engine_deadline(h.e) > h.now_us, true);
    cr_assert_eq(host_counter(&h, "IpReasmFails"), 2);
}

Test(frag, piece_that_comes_too_late_starts_anew)
{
    make_datagram(2000);
    piece(1, 0, 1480);
    h.now_us += FRAG_TIMEOUT_US;
    piece(1, 1480, l4_len - 1480);
    expect_none();
    cr_assert_eq(held(), 1);
}

Test(frag, full_pool_gives_up_the_oldest)
{
    make_datagram(2000);
    for (uint16_t id = 0; id <= h.cfg.frag_max; id++) {
        piece(id, 0, 1480);
        h.now_us++;
    }
    cr_assert_eq(held(), h.cfg.frag_max);
    cr_assert_eq(host_counter(&h, "IpReasmFails"), 1);
    for (uint16_t id = 1; id <= h.cfg.frag_max; id++) {
        piece(id, 1480, l4_len - 1480);
        expect_datagram();
    }
    cr_assert_eq(held(), 0);
}

Test(frag, congestion_mark_on_one_piece_counts_for_all)
{
    make_datagram(2000);
    piece_as(1, IP_PROTO_UDP, 2, 0, 1480, true);
    piece_as(1, IP_PROTO_UDP, 3, 1480, l4_len - 1480, false);
    expect_datagram();
    piece_as(2, IP_PROTO_UDP, 0, 0, 1480, true); /* not ECN-capable: the mark can't be true */
    piece_as(2, IP_PROTO_UDP, 3, 1480, l4_len - 1480, false);
    expect_none();
    cr_assert_eq(host_counter(&h, "IpReasmFails"), 1);
}

Test(frag, wrong_transport_checksum_is_found_after_joining)
{
    make_datagram(3000);
    l4[2000] ^= 1;
    piece(1, 0, 1480);
    piece(1, 1480, 1480);
    piece(1, 2960, 48);
    expect_none();
    cr_assert_eq(host_counter(&h, "UdpInCsumErrors"), 1);
}

Test(frag, random_fragments_never_break_the_table)
{
    uint64_t r = rnd_seed("frag_random");

    make_datagram(SG_DGRAM_BYTES_MAX);
    for (int i = 0; i < 20000; i++) {
        uint32_t off = (uint32_t)(rnd_next(&r) % 8192) * 8 >> (rnd_next(&r) % 12) & ~7u;
        uint32_t len = (uint32_t)(rnd_next(&r) % 1480);
        uint8_t proto = (uint8_t[]){IP_PROTO_ICMP, IP_PROTO_TCP, IP_PROTO_UDP, 99}[rnd_next(&r) % 4];

        if (off + len > IP4_BYTES_MAX)
            len = IP4_BYTES_MAX - off;
        if (rnd_next(&r) % 4)
            len &= ~7u;
        piece_as((uint16_t)(rnd_next(&r) % 6), proto, (uint8_t)rnd_next(&r), off, len, rnd_next(&r) % 4);
        h.now_us += rnd_next(&r) % 1000000;
        host_run(&h);
        while (host_tx(&h))
            ;
    }
    cr_assert_gt(host_counter(&h, "IpReasmFails"), 1000);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Which queue a flow comes in on: the hashes, the table, and what is not known. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>

#include "hw/spread.h"

/* The key and the vectors that network cards are verified with. */
static const uint8_t verification_key[SPREAD_RSS_KEY_BYTES] = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

static struct spread_flow flow(const char *src, uint16_t src_port, const char *dst, uint16_t dst_port)
{
    struct spread_flow f = {.src_port = src_port, .dst_port = dst_port, .proto = 6};
    int family = strchr(src, ':') ? AF_INET6 : AF_INET;

    f.ip_version = family == AF_INET6 ? 6 : 4;
    cr_assert_eq(inet_pton(family, src, f.src), 1);
    cr_assert_eq(inet_pton(family, dst, f.dst), 1);
    return f;
}

/* A table that tells the hash's low nine bits by queue: entry i leads to i's bits under `shift`. */
static struct spread rss(unsigned types, unsigned shift)
{
    struct spread s = {.kind = SPREAD_RSS, .queues = 16, .rss_types = (uint8_t)types, .rss_entries = 512};

    memcpy(s.rss_key, verification_key, sizeof(s.rss_key));
    for (unsigned i = 0; i < s.rss_entries; i++)
        s.rss_table[i] = (uint8_t)(i >> shift & 15);
    return s;
}

static void check_rss(const struct spread_flow *f, unsigned types, uint32_t hash)
{
    for (unsigned shift = 0; shift <= 5; shift++) {
        struct spread s = rss(types, shift);

        cr_assert_eq(spread_queue(&s, f), (int)(hash >> shift & 15), "shift %u", shift);
    }
}

Test(spread, toeplitz_agrees_with_the_verification_suite)
{
    static const struct {
        const char *src, *dst;
        uint16_t src_port, dst_port;
        uint32_t addrs, ports;
    } v[] = {
        {"66.9.149.187", "161.142.100.80", 2794, 1766, 0x323e8fc2, 0x51ccc178},
        {"199.92.111.2", "65.69.140.83", 14230, 4739, 0xd718262a, 0xc626b0ea},
        {"24.19.198.95", "12.22.207.184", 12898, 38024, 0xd2d0a5de, 0x5c2b394a},
        {"3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", 2794, 1766, 0x2cc18cd5, 0x40207d3d},
        {"3ffe:501:8::260:97ff:fe40:efab", "ff02::1", 14230, 4739, 0x0f0c461c, 0xdde51bbf},
    };
    const unsigned all = SPREAD_RSS_TCP4 | SPREAD_RSS_TCP6;

    for (unsigned i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
        struct spread_flow f = flow(v[i].src, v[i].src_port, v[i].dst, v[i].dst_port);

        check_rss(&f, all, v[i].ports);
        check_rss(&f, all & ~(f.ip_version == 6 ? SPREAD_RSS_TCP6 : SPREAD_RSS_TCP4), v[i].addrs);
        f.proto = 17; /* whose ports this card does not look at */
        check_rss(&f, all, v[i].addrs);
        f.proto = 6;
        f.src_port = f.dst_port = 0; /* a fragment */
        check_rss(&f, all, v[i].addrs);
    }
}

Test(spread, one_queue_is_always_known_and_several_without_a_rule_never)
{
    struct spread s = {.kind = SPREAD_NONE, .queues = 1};
    struct spread_flow f = flow("10.0.0.1", 1, "10.0.0.2", 2);

    cr_assert_eq(spread_queue(&s, &f), 0);
    s.queues = 2;
    cr_assert_eq(spread_queue(&s, &f), -1);
    s.kind = SPREAD_RSS; /* without a table */
    cr_assert_eq(spread_queue(&s, &f), -1);
}

/* Both ports and each word of the peer's address count, and they count evenly. */
Test(spread, flows_are_spread_evenly_by_whatever_differs)
{
    const unsigned flows = 4096;

    for (unsigned what = 0; what < 4; what++) {
        for (unsigned queues = 2; queues <= 5; queues++) {
            struct spread s = {.kind = SPREAD_FLOW, .queues = (uint8_t)queues, .seed = 0x1234567};
            unsigned count[5] = {0};

            for (unsigned i = 0; i < flows; i++) {
                struct spread_flow f = flow("2001:db8::1", 80, "2001:db8::2", 40000);

                if (what == 0)
                    f.src_port = (uint16_t)(1024 + i);
                else if (what == 1)
                    f.dst_port = (uint16_t)(32768 + i);
                else
                    memcpy(f.src + (what == 2 ? 4 : 12), &i, sizeof(i));
                count[spread_queue(&s, &f)]++;
            }
            for (unsigned q = 0; q < queues; q++)
                cr_assert(count[q] > flows / queues * 8 / 10 && count[q] < flows / queues * 12 / 10,
                          "%u: %u of %u flows on queue %u of %u", what, count[q], flows, q, queues);
        }
    }
}

Test(spread, seed_decides_who_shares_a_queue)
{
    struct spread a = {.kind = SPREAD_FLOW, .queues = 2, .seed = 1}, b = a;
    unsigned differ = 0;

    b.seed = 2;
    for (unsigned i = 0; i < 1000; i++) {
        struct spread_flow f = flow("192.0.2.1", (uint16_t)(5000 + i), "192.0.2.2", 80);

        differ += spread_queue(&a, &f) != spread_queue(&b, &f);
    }
    cr_assert(differ > 300 && differ < 700, "%u of 1000", differ);
}

Test(spread, what_is_neither_tcp_nor_udp_comes_in_on_the_first_queue)
{
    struct spread s = {.kind = SPREAD_FLOW, .queues = 4, .seed = 99};

    for (unsigned i = 0; i < 100; i++) {
        struct spread_flow f = flow("192.0.2.1", 0, "192.0.2.2", 0);

        f.src[3] = (uint8_t)i;
        f.proto = 1;
        cr_assert_eq(spread_queue(&s, &f), 0);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/wire/tcp.h"

/* Parse a segment with these options and payload; a copy of exact size, so that reads past it are found. */
static bool parse(const uint8_t *opts, uint8_t opt_bytes, uint32_t payload, struct tcp_seg *s)
{
    uint32_t n = TCP_HDR_BYTES + opt_bytes + payload;
    uint8_t *p = calloc(1, n);
    bool ok;

    put_be16(p, 1234);
    put_be16(p + 2, 80);
    put_be32(p + 4, 0x01020304);
    put_be32(p + 8, 0xa0b0c0d0);
    p[12] = (uint8_t)((TCP_HDR_BYTES + opt_bytes) / 4 << 4);
    p[13] = TCP_ACK | TCP_PSH;
    put_be16(p + 14, 4321);
    if (opt_bytes)
        memcpy(p + TCP_HDR_BYTES, opts, opt_bytes);
    ok = tcp_parse(p, n, s);
    if (ok)
        cr_assert_eq(s->data - p, (ptrdiff_t)(TCP_HDR_BYTES + opt_bytes));
    free(p);
    return ok;
}

#define PARSE(s, ...)                                                                                        \
    do {                                                                                                     \
        static const uint8_t opts_[] = {__VA_ARGS__};                                                        \
        cr_assert(parse(opts_, sizeof(opts_), 0, (s)));                                                      \
    } while (0)

Test(tcp_wire, fixed_header)
{
    struct tcp_seg s;

    cr_assert(parse(NULL, 0, 33, &s));
    cr_assert_eq(s.sport, 1234);
    cr_assert_eq(s.dport, 80);
    cr_assert_eq(s.seq, 0x01020304);
    cr_assert_eq(s.ack, 0xa0b0c0d0);
    cr_assert_eq(s.flags, TCP_ACK | TCP_PSH);
    cr_assert_eq(s.wnd, 4321);
    cr_assert_eq(s.len, 33);
    cr_assert_eq(s.hdr_len, 20);
    cr_assert(!s.has_ts && !s.has_mss && !s.has_wscale && !s.sack_perm && !s.sack_count);
}

Test(tcp_wire, short_or_contradictory_headers_are_refused)
{
    uint8_t p[60] = {0};
    struct tcp_seg s;

    for (uint32_t n = 0; n < 20; n++) {
        p[12] = 0x50;
        cr_assert_not(tcp_parse(p, n, &s), "%u bytes", n);
    }
    for (uint8_t off = 0; off < 16; off++) {
        p[12] = (uint8_t)(off << 4);
        cr_assert_eq(tcp_parse(p, 40, &s), off >= 5 && off <= 10, "offset %u in 40 bytes", off);
    }
}

Test(tcp_wire, syn_options)
{
    struct tcp_seg s;

    PARSE(&s, 2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7);
    cr_assert(s.has_mss && s.mss == 1460);
    cr_assert(s.sack_perm);
    cr_assert(s.has_ts && s.tsval == 1 && s.tsecr == 2);
    cr_assert(s.has_wscale && s.wscale == 7);
}

Test(tcp_wire, scale_above_14_is_14)
{
    struct tcp_seg s;

    PARSE(&s, 3, 3, 15, 0);
    cr_assert_eq(s.wscale, 14);
    PARSE(&s, 3, 3, 255, 0);
    cr_assert_eq(s.wscale, 14);
}

Test(tcp_wire, nothing_after_the_end_is_read)
{
    struct tcp_seg s;

    PARSE(&s, 0, 2, 4, 1, 2, 0, 0, 0);
    cr_assert_not(s.has_mss);
    PARSE(&s, 1, 1, 1, 0);
    cr_assert_not(s.has_mss);
}

Test(tcp_wire, zero_and_one_byte_lengths_end_the_list)
{
    struct tcp_seg s;

    PARSE(&s, 2, 0, 5, 5, 2, 4, 1, 1); /* a parser that trusted the zero would never end */
    cr_assert_not(s.has_mss);
    PARSE(&s, 99, 1, 2, 4, 5, 5, 0, 0);
    cr_assert_not(s.has_mss);
}

Test(tcp_wire, an_option_past_the_header_ends_the_list)
{
    struct tcp_seg s;

    PARSE(&s, 1, 1, 2, 4);
    cr_assert_not(s.has_mss);
    PARSE(&s, 2, 4, 5, 180, 8, 10, 0, 0);
    cr_assert(s.has_mss && !s.has_ts);
    PARSE(&s, 1, 1, 1, 8);
    cr_assert_not(s.has_ts);
}

Test(tcp_wire, unknown_options_are_skipped)
{
    struct tcp_seg s;

    PARSE(&s, 254, 6, 1, 2, 3, 4, 2, 4, 5, 180, 30, 2);
    cr_assert(s.has_mss && s.mss == 1460);
}

Test(tcp_wire, known_options_of_another_length_are_skipped)
{
    struct tcp_seg s;

    PARSE(&s, 2, 5, 1, 2, 3, 3, 4, 1, 1, 4, 3, 1);
    cr_assert(!s.has_mss && !s.has_wscale && !s.sack_perm);
    PARSE(&s, 8, 9, 1, 2, 3, 4, 5, 6, 7, 1, 1, 1);
    cr_assert_not(s.has_ts);
}

Test(tcp_wire, one_to_four_sack_blocks)
{
    uint8_t o[36] = {1, 1, 5};
    struct tcp_seg s;

    for (uint8_t n = 1; n <= 4; n++) {
        o[3] = (uint8_t)(2 + 8 * n);
        for (uint8_t i = 0; i < n; i++) {
            put_be32(o + 4 + 8 * i, 100u * i);
            put_be32(o + 8 + 8 * i, 100u * i + 50);
        }
        cr_assert(parse(o, (uint8_t)(4 + 8 * n), 0, &s));
        cr_assert_eq(s.sack_count, n);
        for (uint8_t i = 0; i < n; i++)
            cr_assert(s.sack[i].start == 100u * i && s.sack[i].end == 100u * i + 50);
    }
}

Test(tcp_wire, two_sack_options_stay_within_four_blocks)
{
    uint8_t o[40] = {5, 18};
    struct tcp_seg s;

    o[18] = 5;
    o[19] = 18;
    o[36] = 0;
    cr_assert(parse(o, 40, 0, &s));
    cr_assert_eq(s.sack_count, 4);
}

Test(tcp_wire, a_crooked_sack_length_is_skipped)
{
    struct tcp_seg s;

    PARSE(&s, 5, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1);
    cr_assert_eq(s.sack_count, 0);
    PARSE(&s, 5, 2, 1, 1);
    cr_assert_eq(s.sack_count, 0);
}

Test(tcp_wire, the_usual_timestamp_layout)
{
    struct tcp_seg s;

    PARSE(&s, 1, 1, 8, 10, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88);
    cr_assert(s.has_ts && s.tsval == 0x11223344 && s.tsecr == 0x55667788);
    PARSE(&s, 8, 10, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 1, 1);
    cr_assert(s.has_ts && s.tsval == 0x11223344 && s.tsecr == 0x55667788);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/csum.h"

#include <criterion/criterion.h>

#include "tests/unit/frames.h"

/* RFC 1071 4.1, a word at a time. */
static uint16_t plain_sum(const uint8_t *p, size_t bytes)
{
    uint64_t sum = 0;
    uint16_t be;

    for (size_t i = 0; i < bytes; i++)
        sum += (uint64_t)p[i] << (i & 1 ? 0 : 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    put_be16((uint8_t *)&be, (uint16_t)sum);
    return be;
}

/* 0 and 0xffff are the same number in one's complement. */
static uint16_t norm(uint16_t v)
{
    return v == 0xffff ? 0 : v;
}

Test(csum, equals_the_plain_sum_at_every_length_and_alignment)
{
    uint64_t r = rnd_seed("csum");
    uint8_t buf[256 + 16];

    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)rnd_next(&r);
    for (size_t off = 0; off < 9; off++)
        for (size_t len = 0; len <= 256; len++)
            cr_assert_eq(norm(csum_fold(csum_partial(buf + off, len))), norm(plain_sum(buf + off, len)),
                         "offset %zu, %zu bytes", off, len);
}

Test(csum, carries_are_not_lost)
{
    static uint8_t buf[65536];

    memset(buf, 0xff, sizeof(buf));
    for (size_t len = 65500; len <= sizeof(buf); len++)
        cr_assert_eq(norm(csum_fold(csum_partial(buf, len))), norm(plain_sum(buf, len)), "%zu bytes", len);
}

Test(csum, copy_sums_and_copies_the_same_bytes)
{
    uint64_t r = rnd_seed("csum_copy");
    uint8_t src[300], dst[302];

    for (size_t i = 0; i < sizeof(src); i++)
        src[i] = (uint8_t)rnd_next(&r);
    for (size_t len = 0; len <= 280; len++) {
        size_t off = len % 7;

        memset(dst, 0xa5, sizeof(dst));
        cr_assert_eq(csum_fold(csum_copy(dst + 1, src + off, len)), csum_fold(csum_partial(src + off, len)));
        cr_assert_arr_eq(dst + 1, src + off, len);
        cr_assert(dst[0] == 0xa5 && dst[len + 1] == 0xa5, "%zu bytes: wrote outside", len);
    }
}

Test(csum, pieces_join_at_odd_offsets)
{
    uint64_t r = rnd_seed("csum_join");
    uint8_t buf[512];

    for (int round = 0; round < 2000; round++) {
        size_t len = rnd_next(&r) % sizeof(buf), at = 0;
        uint32_t sum = 0;

        for (size_t i = 0; i < len; i++)
            buf[i] = (uint8_t)rnd_next(&r);
        while (at < len) {
            size_t n = 1 + rnd_next(&r) % (len - at);

            sum = csum_join(sum, csum_partial(buf + at, n), at);
            at += n;
        }
        cr_assert_eq(norm(csum_fold(sum)), norm(plain_sum(buf, len)));
    }
}

Test(csum, data_with_its_own_checksum_verifies)
{
    uint8_t p[41] = {1, 2, 3, 4, 5, 6, 0, 0, 9, 10};
    uint16_t c = csum_finish(csum_partial(p, sizeof(p)));

    memcpy(p + 6, &c, 2);
    cr_assert_eq(csum_finish(csum_partial(p, sizeof(p))), 0);
    cr_assert_eq(csum_fold(csum_partial(p, sizeof(p))), 0xffff);
    p[40] ^= 1;
    cr_assert_neq(csum_finish(csum_partial(p, sizeof(p))), 0);
}

Test(csum, pseudo_headers_are_as_the_standards_draw_them)
{
    const uint8_t v4[12] = {192, 0, 2, 1, 198, 51, 100, 7, 0, 17, 0x12, 0x34};
    uint8_t v6[40];

    cr_assert_eq(csum_fold(csum_pseudo4(v4, v4 + 4, 17, 0x1234)), plain_sum(v4, sizeof(v4)));
    for (size_t i = 0; i < 32; i++)
        v6[i] = (uint8_t)(i * 37 + 11);
    memcpy(v6 + 32, (uint8_t[]){0, 1, 0xe2, 0x40, 0, 0, 0, 6}, 8);
    cr_assert_eq(csum_fold(csum_pseudo6(v6, v6 + 16, 6, 123456)), plain_sum(v6, sizeof(v6)));
}

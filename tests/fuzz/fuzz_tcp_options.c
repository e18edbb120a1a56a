/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_parse() on any bytes, beside a second parser that is slow and obvious.
 */
#include <string.h>

#include "tests/fuzz/fuzz.h"

/* Position of the first well-formed option of this kind and length, in the list as hosts read it; the last
 * one of several counts, so the caller goes on from where it left off. */
static size_t next_option(const uint8_t *o, size_t n, size_t *at, uint8_t *kind, uint8_t *len)
{
    while (*at < n && o[*at] == 1)
        ++*at;
    if (*at >= n || o[*at] == 0 || *at + 1 >= n || o[*at + 1] < 2 || *at + o[*at + 1] > n)
        return SIZE_MAX;
    *kind = o[*at];
    *len = o[*at + 1];
    *at += *len;
    return *at - *len;
}

static void expect(const uint8_t *o, size_t n, struct tcp_seg *w)
{
    size_t at = 0, pos;
    uint8_t kind, len;

    while ((pos = next_option(o, n, &at, &kind, &len)) != SIZE_MAX) {
        const uint8_t *v = o + pos + 2;

        if (kind == 2 && len == 4) {
            w->has_mss = true;
            w->mss = (uint16_t)(v[0] * 256 + v[1]);
        } else if (kind == 3 && len == 3) {
            w->has_wscale = true;
            w->wscale = v[0] > 14 ? 14 : v[0];
        } else if (kind == 4 && len == 2) {
            w->sack_perm = true;
        } else if (kind == 8 && len == 10) {
            w->has_ts = true;
            w->tsval = get_be32(v);
            w->tsecr = get_be32(v + 4);
        } else if (kind == 5 && len >= 10 && (len - 2) % 8 == 0) {
            for (unsigned i = 0; i < (len - 2u) / 8 && w->sack_count < 4; i++, w->sack_count++)
                w->sack[w->sack_count] =
                    (struct tcp_sack_block){get_be32(v + 8 * i), get_be32(v + 8 * i + 4)};
        }
    }
}

static void compare(const struct tcp_seg *g, const struct tcp_seg *w)
{
    if (g->has_mss != w->has_mss || (g->has_mss && g->mss != w->mss))
        fuzz_fail("MSS");
    if (g->has_wscale != w->has_wscale || (g->has_wscale && g->wscale != w->wscale))
        fuzz_fail("window scale");
    if (g->sack_perm != w->sack_perm)
        fuzz_fail("SACK permitted");
    if (g->has_ts != w->has_ts || (g->has_ts && (g->tsval != w->tsval || g->tsecr != w->tsecr)))
        fuzz_fail("timestamps");
    if (g->sack_count != w->sack_count || memcmp(g->sack, w->sack, g->sack_count * sizeof(g->sack[0])) != 0)
        fuzz_fail("SACK blocks");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tcp_seg got, want = {0};
    bool ok = tcp_parse(data, (uint32_t)size, &got);
    size_t hdr = size >= 20 ? (size_t)(data[12] >> 4) * 4 : 0;

    if (ok != (size >= 20 && hdr >= 20 && hdr <= size))
        fuzz_fail("%zu bytes with a header of %zu: %d", size, hdr, ok);
    if (!ok)
        return 0;
    if (got.hdr_len != hdr || got.data != data + hdr || got.len != size - hdr)
        fuzz_fail("payload of %zu bytes at %zu", size, hdr);
    expect(data + 20, hdr - 20, &want);
    compare(&got, &want);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/csum.h"

/* One's complement addition of 64-bit words; the carry comes back in at the bottom. */
static inline uint64_t add64(uint64_t sum, uint64_t word)
{
    sum += word;
    return sum + (sum < word);
}

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t w;

    memcpy(&w, p, 8);
    return w;
}

/* The last 0..7 bytes as a word, zero-padded behind, as RFC 1071 pads an odd byte. */
static inline uint64_t load_tail(const uint8_t *p, size_t bytes)
{
    uint64_t w = 0;

    memcpy(&w, p, bytes);
    return w;
}

static inline uint32_t fold64(uint64_t sum)
{
    sum = (sum & UINT32_MAX) + (sum >> 32);
    return (uint32_t)sum + (uint32_t)(sum >> 32);
}

uint32_t csum_partial(const void *p, size_t bytes)
{
    const uint8_t *b = p;
    uint64_t s0 = 0, s1 = 0; /* Two chains of carries run side by side. */

    for (; bytes >= 32; bytes -= 32, b += 32) {
        s0 = add64(s0, load64(b));
        s1 = add64(s1, load64(b + 8));
        s0 = add64(s0, load64(b + 16));
        s1 = add64(s1, load64(b + 24));
    }
    for (; bytes >= 8; bytes -= 8, b += 8)
        s0 = add64(s0, load64(b));
    if (bytes)
        s1 = add64(s1, load_tail(b, bytes));
    return fold64(add64(s0, s1));
}

uint32_t csum_copy(void *dst, const void *src, size_t bytes)
{
    const uint8_t *b = src;
    uint8_t *d = dst;
    uint64_t s0 = 0, s1 = 0;

    /* Each word is loaded once: the source may be written by somebody else meanwhile. */
    for (; bytes >= 32; bytes -= 32, b += 32, d += 32) {
        uint64_t w[4] = {load64(b), load64(b + 8), load64(b + 16), load64(b + 24)};

        memcpy(d, w, 32);
        s0 = add64(s0, w[0]);
        s1 = add64(s1, w[1]);
        s0 = add64(s0, w[2]);
        s1 = add64(s1, w[3]);
    }
    while (bytes >= 8) {
        uint64_t w = load64(b);

        memcpy(d, &w, 8);
        s0 = add64(s0, w);
        b += 8;
        d += 8;
        bytes -= 8;
    }
    if (bytes) {
        uint64_t w = load_tail(b, bytes);

        memcpy(d, &w, bytes);
        s1 = add64(s1, w);
    }
    return fold64(add64(s0, s1));
}

static uint32_t add_address(const uint8_t *a, size_t bytes, uint32_t sum)
{
    for (size_t i = 0; i < bytes; i += 4) {
        uint32_t w;

        memcpy(&w, a + i, 4);
        sum = csum_add(sum, w);
    }
    return sum;
}

/* Length and protocol as the pseudo-headers carry them, in memory order. */
static uint32_t add_length(uint8_t proto, uint32_t l4_bytes, uint32_t sum)
{
    const uint8_t tail[8] = {(uint8_t)(l4_bytes >> 24),
                             (uint8_t)(l4_bytes >> 16),
                             (uint8_t)(l4_bytes >> 8),
                             (uint8_t)l4_bytes,
                             0,
                             0,
                             0,
                             proto};

    return add_address(tail, sizeof(tail), sum);
}

uint32_t csum_pseudo4(const uint8_t *src, const uint8_t *dst, uint8_t proto, uint32_t l4_bytes)
{
    return add_length(proto, l4_bytes, add_address(dst, 4, add_address(src, 4, 0)));
}

uint32_t csum_pseudo6(const uint8_t *src, const uint8_t *dst, uint8_t proto, uint32_t l4_bytes)
{
    return add_length(proto, l4_bytes, add_address(dst, 16, add_address(src, 16, 0)));
}

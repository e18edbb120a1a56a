/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Internet checksum (RFC 1071). Partial sums are 32-bit one's complement sums of the bytes taken as
 * 16-bit words in memory order, so they need no byte swapping: csum_finish() gives the two bytes to store
 * with memcpy(). Sums of pieces are put together with csum_add(), or with csum_join() where a piece may begin
 * at an odd offset. Bytes that include their own correct checksum fold to 0xffff.
 */
#ifndef ENGINE_CSUM_H
#define ENGINE_CSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/** Partial sum of `bytes` bytes, taken as if they began at an even offset. */
uint32_t csum_partial(const void *p, size_t bytes);

/** csum_partial() of `src` while it is copied to `dst`, which must not overlap. The sum is that of the copy.
 */
uint32_t csum_copy(void *dst, const void *src, size_t bytes);

/** Partial sum of two pieces that both begin at even offsets. */
static inline uint32_t csum_add(uint32_t a, uint32_t b)
{
    uint64_t s = (uint64_t)a + b;

    return (uint32_t)s + (uint32_t)(s >> 32);
}

/** 16-bit one's complement sum of a partial sum, not inverted: what a PKT_CSUM_PARTIAL field holds. */
static inline uint16_t csum_fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/** The checksum to store with memcpy(); 0 when the summed bytes included a correct one. */
static inline uint16_t csum_finish(uint32_t sum)
{
    return (uint16_t)~csum_fold(sum);
}

/** Join `part`, the partial sum of a piece that begins at `offset` of the whole, with `sum`. */
static inline uint32_t csum_join(uint32_t sum, uint32_t part, size_t offset)
{
    if (offset & 1)
        part = __builtin_bswap16(csum_fold(part)); /* RFC 1071 2(B) */
    return csum_add(sum, part);
}

/** csum_partial() of an IPv4 header without options. */
static inline uint32_t csum_header4(const void *p)
{
    uint64_t a, b, s;
    uint32_t c;

    memcpy(&a, p, 8);
    memcpy(&b, (const uint8_t *)p + 8, 8);
    memcpy(&c, (const uint8_t *)p + 16, 4);
    s = a + b; /* with the carries coming back in at the bottom */
    s += s < b;
    s += c;
    s += s < c;
    s = (s & UINT32_MAX) + (s >> 32);
    return (uint32_t)s + (uint32_t)(s >> 32);
}

/** csum_pseudo4() of TCP, up to 64 KiB; folded it is the same. */
static inline uint32_t csum_pseudo4_tcp(const uint8_t *src, const uint8_t *dst, uint32_t l4_bytes)
{
    uint32_t a, b, rest;
    uint64_t s;

    memcpy(&a, src, 4);
    memcpy(&b, dst, 4);
    rest = UINT32_C(6) << 16 | l4_bytes;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    rest = __builtin_bswap32(rest);
#endif
    s = (uint64_t)a + b + rest;
    return (uint32_t)s + (uint32_t)(s >> 32);
}

/** Partial sum of the pseudo-header of TCP and UDP over IPv4; addresses are 4 bytes in network order. */
uint32_t csum_pseudo4(const uint8_t *src, const uint8_t *dst, uint8_t proto, uint32_t l4_bytes);

/** The same over IPv6 (RFC 8200 8.1); addresses are 16 bytes. */
uint32_t csum_pseudo6(const uint8_t *src, const uint8_t *dst, uint8_t proto, uint32_t l4_bytes);

#endif

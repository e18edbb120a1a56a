/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums that a peer on this machine left unfinished are recognised, and nothing else is. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "hw/offload.h"
#include "hw/xdp_csum.h"

#define SEED      7u
#define ROUNDS    20000u
#define FRAME_MAX 200u

static uint8_t frame[FRAME_MAX];

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* A frame with `bytes` bytes from the transport header on; returns where that lies. */
static uint32_t build(unsigned version, bool tagged, uint8_t proto, uint32_t bytes)
{
    uint32_t l3 = tagged ? 18 : 14, l4 = l3 + (version == 4 ? 24 : 40);
    uint8_t *ip = frame + l3;

    for (unsigned i = 0; i < sizeof(frame); i++)
        frame[i] = (uint8_t)(i * 37 + 5);
    put16(frame + 12, 0x8100);
    put16(ip - 2, version == 4 ? 0x0800 : 0x86dd);
    if (version == 4) {
        ip[0] = 0x46; /* with an option */
        put16(ip + 2, 24 + bytes);
        put16(ip + 6, 0x4000);
        ip[9] = proto;
    } else {
        ip[0] = 0x60;
        put16(ip + 4, bytes);
        ip[6] = proto;
    }
    return l4;
}

/* What the field holds before a card has finished it. */
static void put_pseudo(unsigned version, uint32_t l3, uint32_t l4, uint8_t proto, uint32_t bytes)
{
    const uint8_t *addrs = frame + l3 + (version == 4 ? 12 : 8);

    put16(frame + l4 + (proto == 6 ? 16 : 6),
          (uint16_t)~offload_csum(addrs, version == 4 ? 8 : 32, proto + bytes));
}

static uint16_t mark(uint32_t len)
{
    struct pktbuf pkt = {.data = frame, .len = len, .total = len};

    xdp_csum_mark(&pkt);
    if (pkt.flags & PKT_CSUM_PARTIAL)
        cr_assert_eq(offload_csum_fill(frame, len, pkt.csum_start, pkt.csum_offset), 0);
    return pkt.flags;
}

Test(xdp_csum, unfinished_sums_are_marked_of_both_versions_with_and_without_a_tag)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned version = i & 1 ? 4 : 6;
        bool tagged = i & 2;
        uint8_t proto = i & 4 ? 6 : 17;
        uint32_t l4 = build(version, tagged, proto, 40);

        put_pseudo(version, tagged ? 18 : 14, l4, proto, 40);
        cr_assert_eq(mark(l4 + 40), PKT_CSUM_PARTIAL, "case %u", i);
        cr_assert_eq(mark(l4 + 40), 0, "finished now: case %u", i);
    }
}

Test(xdp_csum, padding_behind_a_short_frame_is_not_counted)
{
    uint32_t l4 = build(4, false, 17, 12);

    put_pseudo(4, 14, l4, 17, 12);
    cr_assert_eq(mark(l4 + 30), PKT_CSUM_PARTIAL);
}

Test(xdp_csum, fragments_and_other_protocols_are_left_alone)
{
    uint32_t l4 = build(4, false, 17, 40);

    put_pseudo(4, 14, l4, 17, 40);
    put16(frame + 14 + 6, 0x2000);
    cr_assert_eq(mark(l4 + 40), 0, "more fragments");
    put16(frame + 14 + 6, 0x0001);
    cr_assert_eq(mark(l4 + 40), 0, "a later fragment");
    l4 = build(4, false, 1, 40);
    put_pseudo(4, 14, l4, 6, 40);
    cr_assert_eq(mark(l4 + 40), 0, "ICMP");
}

Test(xdp_csum, cut_off_and_lying_frames_are_not_read_beyond_their_end)
{
    uint32_t state = SEED;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint8_t *exact;
        uint32_t len;

        (void)build(i & 1 ? 4 : 6, i & 2, i & 4 ? 6 : 17, 40);
        state = state * 1664525u + 1013904223u;
        len = 14 + (state >> 8) % (FRAME_MAX - 14);
        state = state * 1664525u + 1013904223u;
        frame[14 + (state >> 8) % 30] = (uint8_t)(state >> 24);
        exact = malloc(len); /* so that a sanitizer sees a step too far */
        cr_assert_not_null(exact);
        memcpy(exact, frame, len);
        struct pktbuf pkt = {.data = exact, .len = len, .total = len};
        xdp_csum_mark(&pkt);
        if (pkt.flags & PKT_CSUM_PARTIAL)
            cr_assert_leq(pkt.csum_start + pkt.csum_offset + 2u, len, "seed %u, round %u", SEED, i);
        free(exact);
    }
}

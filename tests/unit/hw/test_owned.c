/* SPDX-License-Identifier: Apache-2.0 */
/* Whose is a frame on a link that the engine and the kernel share. */
#include <criterion/criterion.h>
#include <string.h>

#include "hw/owned.h"
#include "tests/unit/hw/frames.h"

#define BOTH     (OWNED_ENGINE | OWNED_KERNEL)
#define LEN      100u
#define VLAN     5
#define DHCP_OUT 68

static const struct owned owned = {
    .count = 3,
    .addr = {{.ip_version = 4, .ip = {10, 0, 0, 2}},
             {.ip_version = 6, .ip = {0xfe, 0x80, [15] = 2}},
             {.ip_version = 4, .vlan = VLAN, .ip = {10, 0, 5, 2}}},
};

/** A frame of this type to a unicast address; the packet begins at the returned place. */
static uint8_t *frame_of(uint8_t f[LEN], unsigned type, int vlan)
{
    memset(f, 0, LEN);
    f[0] = 2;
    if (vlan < 0) {
        frame_put16(f + 12, type);
        return f + 14;
    }
    frame_put16(f + 12, 0x8100);
    frame_put16(f + 14, 0xe000u | (unsigned)vlan); /* with a priority */
    frame_put16(f + 16, type);
    return f + 18;
}

static unsigned ip4_to(const uint8_t dst[4], int vlan, bool group)
{
    uint8_t f[LEN], *ip = frame_of(f, 0x0800, vlan);

    ip[0] = 0x45;
    memcpy(ip + 16, dst, 4);
    f[0] |= group;
    return owned_by(&owned, f, LEN);
}

Test(owned, ip4_goes_by_its_destination_and_vlan)
{
    cr_assert_eq(ip4_to((uint8_t[]){10, 0, 0, 2}, -1, false), OWNED_ENGINE);
    cr_assert_eq(ip4_to((uint8_t[]){10, 0, 0, 3}, -1, false), OWNED_KERNEL);
    cr_assert_eq(ip4_to((uint8_t[]){10, 0, 0, 2}, 0, false), OWNED_ENGINE, "a priority tag is no VLAN");
    cr_assert_eq(ip4_to((uint8_t[]){10, 0, 0, 2}, VLAN, false), OWNED_KERNEL);
    cr_assert_eq(ip4_to((uint8_t[]){10, 0, 5, 2}, VLAN, false), OWNED_ENGINE);
    cr_assert_eq(ip4_to((uint8_t[]){10, 0, 5, 2}, -1, false), OWNED_KERNEL);
    cr_assert_eq(ip4_to((uint8_t[]){10, 0, 0, 255}, -1, true), BOTH);
    cr_assert_eq(ip4_to((uint8_t[]){224, 0, 0, 1}, -1, true), BOTH);
}

Test(owned, ip6_goes_by_its_destination)
{
    uint8_t f[LEN], *ip = frame_of(f, 0x86dd, -1);

    memcpy(ip + 24, owned.addr[1].ip, 16);
    cr_assert_eq(owned_by(&owned, f, LEN), OWNED_ENGINE);
    ip[24 + 15] = 3;
    cr_assert_eq(owned_by(&owned, f, LEN), OWNED_KERNEL);
    f[0] = 0x33;
    cr_assert_eq(owned_by(&owned, f, LEN), BOTH);
}

static unsigned arp(uint8_t sender, uint8_t target, bool group)
{
    uint8_t f[LEN], *p = frame_of(f, 0x0806, -1);

    memcpy(p + 14, (uint8_t[]){10, 0, 0, sender}, 4);
    memcpy(p + 24, (uint8_t[]){10, 0, 0, target}, 4);
    f[0] |= group;
    return owned_by(&owned, f, LEN);
}

Test(owned, arp_goes_by_its_target)
{
    cr_assert_eq(arp(1, 2, true), OWNED_ENGINE, "who has our address?");
    cr_assert_eq(arp(1, 2, false), OWNED_ENGINE, "an answer to us");
    cr_assert_eq(arp(1, 3, true), OWNED_KERNEL);
    cr_assert_eq(arp(1, 3, false), OWNED_KERNEL);
    cr_assert_eq(arp(1, 1, true), BOTH, "what a host says of itself");
}

Test(owned, dhcp_answers_go_to_both_while_the_address_is_not_ours)
{
    uint8_t f[LEN], *ip = frame_of(f, 0x0800, -1);

    ip[0] = 0x46; /* with options: the ports come later */
    ip[9] = 17;
    memcpy(ip + 16, (uint8_t[]){10, 0, 0, 9}, 4);
    frame_put16(ip + 24 + 2, DHCP_OUT);
    cr_assert_eq(owned_by(&owned, f, LEN), BOTH);
    frame_put16(ip + 24 + 2, DHCP_OUT + 1);
    cr_assert_eq(owned_by(&owned, f, LEN), OWNED_KERNEL);
    ip[9] = 6;
    frame_put16(ip + 24 + 2, DHCP_OUT);
    cr_assert_eq(owned_by(&owned, f, LEN), OWNED_KERNEL);
}

Test(owned, what_is_cut_off_or_foreign_is_the_kernels)
{
    uint8_t f[LEN], *ip = frame_of(f, 0x0800, -1);

    ip[0] = 0x4f;
    ip[9] = 17;
    memcpy(ip + 16, owned.addr[0].ip, 4);
    for (uint32_t len = 0; len < 14 + 20; len++)
        cr_assert_eq(owned_by(&owned, f, len), OWNED_KERNEL, "%u bytes", len);
    cr_assert_eq(owned_by(&owned, f, 34), OWNED_ENGINE);
    memcpy(ip + 16, (uint8_t[]){10, 0, 0, 9}, 4);
    for (uint32_t len = 34; len < 14 + 64; len++)
        cr_assert_eq(owned_by(&owned, f, len), OWNED_KERNEL, "%u bytes", len);
    ip = frame_of(f, 0x0800, VLAN);
    for (uint32_t len = 0; len < 18; len++)
        cr_assert_eq(owned_by(&owned, f, len), OWNED_KERNEL, "%u bytes", len);
    (void)frame_of(f, 0x88cc, -1);
    cr_assert_eq(owned_by(&owned, f, LEN), OWNED_KERNEL, "LLDP");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>

#include "daemon/probe.h"

static const uint8_t own_mac[6] = {2, 0, 0, 0, 0, 1}, other_mac[6] = {2, 0, 0, 0, 0, 9};
static const uint8_t addr[4] = {192, 0, 2, 1}, other_addr[4] = {192, 0, 2, 7}, none[4];

static void arp(uint8_t *f, uint8_t op, const uint8_t *mac, const uint8_t *sender, const uint8_t *target)
{
    probe_build(f, mac, target);
    f[21] = op;
    memcpy(f + 28, sender, 4);
}

Test(probe, frame_is_an_arp_request_from_nobody)
{
    uint8_t f[PROBE_FRAME_BYTES];
    static const uint8_t head[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0,   1, 8, 6,
                                   0,    1,    8,    0,    6,    4,    0, 1, 2, 0, 0,   0, 0, 1,
                                   0,    0,    0,    0,    0,    0,    0, 0, 0, 0, 192, 0, 2, 1};

    probe_build(f, own_mac, addr);
    cr_assert_arr_eq(f, head, sizeof(head));
}

Test(probe, conflicts_are_those_of_rfc_5227_2_1_1)
{
    uint8_t f[PROBE_FRAME_BYTES], mac[6] = {0};

    arp(f, 2, other_mac, addr, none); /* A reply: it has the address. */
    cr_assert(probe_conflict(f, sizeof(f), own_mac, addr, mac));
    cr_assert_arr_eq(mac, other_mac, 6);
    arp(f, 1, other_mac, addr, other_addr); /* A request from the address. */
    cr_assert(probe_conflict(f, sizeof(f), own_mac, addr, mac));
    arp(f, 1, other_mac, none, addr); /* Another probes for it at the same time. */
    cr_assert(probe_conflict(f, sizeof(f), own_mac, addr, mac));
}

Test(probe, other_traffic_is_no_conflict)
{
    uint8_t f[PROBE_FRAME_BYTES], mac[6];

    arp(f, 1, other_mac, other_addr, addr); /* Somebody looks for us: no claim. */
    cr_assert_not(probe_conflict(f, sizeof(f), own_mac, addr, mac));
    arp(f, 1, other_mac, none, other_addr);
    cr_assert_not(probe_conflict(f, sizeof(f), own_mac, addr, mac));
    arp(f, 1, own_mac, none, addr); /* Our own probe, reflected. */
    cr_assert_not(probe_conflict(f, sizeof(f), own_mac, addr, mac));
    arp(f, 2, other_mac, addr, none);
    cr_assert_not(probe_conflict(f, 41, own_mac, addr, mac), "cut short");
    f[12] = 0x86; /* Not ARP. */
    cr_assert_not(probe_conflict(f, sizeof(f), own_mac, addr, mac));
}

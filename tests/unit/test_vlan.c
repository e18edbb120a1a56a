/* SPDX-License-Identifier: Apache-2.0 */
/* VLAN tags (802.1Q) and several devices: which interface a frame belongs to, and which one it leaves by. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "tests/unit/frames.h"

#define VLAN     100u
#define VLAN_NET 0xc6336400u /* 198.51.100.0/24 */
#define DEV2_NET 0xcb007100u /* 203.0.113.0/24 */

static struct host h;
static struct frame f;

/* Interface 0: device 0 untagged; 1: VLAN 100 of it; 2: device 1. */
static void start(void)
{
    struct engine_config cfg;

    host_config(&cfg, HOST_LAST);
    for (uint8_t i = 1; i < 3; i++) {
        cfg.ifs[i] = cfg.ifs[0];
        cfg.addrs[cfg.addr_count++] = (struct engine_addr){
            .addr = net_ip_addr((i == 1 ? VLAN_NET : DEV2_NET) | HOST_LAST), .prefix = 24, .ifindex = i};
    }
    cfg.ifs[1].vlan = VLAN;
    cfg.ifs[1].offloads = ENGINE_TX_TSO4 | ENGINE_TX_TSO6;
    cfg.ifs[2].dev = 1;
    cfg.ifs[2].mac[0] = 6;
    cfg.if_count = 3;
    host_start(&h, &cfg, 1000000);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(vlan, .init = start, .fini = stop);

static void tag(uint16_t tci)
{
    memmove(f.b + 16, f.b + 12, f.len - 12);
    put_be16(f.b + 12, ETH_TYPE_VLAN);
    put_be16(f.b + 14, tci);
    f.len += ETH_TAG_BYTES;
}

static void arp_question(uint32_t net)
{
    frame_arp(&f, ARP_REQUEST, 1, net | 1, 255, net | HOST_LAST);
}

static struct pktbuf *receive(uint8_t dev)
{
    struct pktbuf p = {.data = f.b, .len = f.len, .total = f.len, .dev = dev};

    host_rx(&h, &p);
    return host_tx(&h);
}

Test(vlan, tagged_question_is_answered_with_the_same_tag)
{
    struct pktbuf *p;

    arp_question(VLAN_NET);
    tag(0x6000 | VLAN); /* whatever the priority */
    p = receive(0);
    cr_assert_not_null(p);
    cr_assert(get_be16(p->data + 12) == ETH_TYPE_VLAN && get_be16(p->data + 14) == VLAN);
    cr_assert_eq(get_be16(p->data + 16), ETH_TYPE_ARP);
    cr_assert_eq(p->dev, 0);
}

Test(vlan, an_interface_answers_for_its_own_addresses_only)
{
    arp_question(VLAN_NET); /* without its tag */
    cr_assert_null(receive(0));
    arp_question(NET4(0));
    tag(VLAN);
    cr_assert_null(receive(0));
}

Test(vlan, priority_tag_counts_as_none)
{
    struct pktbuf *p;

    arp_question(NET4(0));
    tag(0xe000);
    p = receive(0);
    cr_assert_not_null(p);
    cr_assert_eq(get_be16(p->data + 12), ETH_TYPE_ARP, "the answer has no tag");
}

Test(vlan, unknown_id_and_half_a_tag_are_counted_drops)
{
    arp_question(VLAN_NET);
    tag(VLAN + 1);
    cr_assert_null(receive(0));
    cr_assert_eq(host_counter(&h, "DropVlan"), 1);
    tag(VLAN); /* two tags: the inner one is no EtherType of ours */
    cr_assert_null(receive(0));
    cr_assert_eq(host_counter(&h, "DropEtherType"), 1);
    f.len = ETH_HDR_BYTES + 3;
    cr_assert_null(receive(0));
    cr_assert_eq(host_counter(&h, "DropFrameShort"), 1);
    arp_question(NET4(0));
    cr_assert_null(receive(7)); /* a device that nobody configured */
    cr_assert_eq(host_counter(&h, "DropVlan"), 2);
}

/* IP_PKTINFO names the interface, not the device. */
Test(vlan, packet_info_tells_the_interface)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);
    struct sg_dgram_info info;
    const struct sg_slot *sl = &h.slots[s];

    cr_assert_eq(engine_setopt(h.e, h.sid, s, 0, 8 /* IP_PKTINFO */, 1, h.now_us), 0);
    cr_assert_eq(app_bind(&h, s, 4000), 0);
    frame_udp(&f, VLAN_NET | 1, 9, VLAN_NET | HOST_LAST, 4000, "data", 4);
    memcpy(f.b, mac_of(HOST_LAST), 6);
    tag(VLAN);
    cr_assert_null(receive(0));
    host_run(&h);
    cr_assert_neq(sl->d.rx_tail, 0);
    sg_bytes_get(h.seg + ((uint64_t)sl->d.rx_region << SG_REGION_SHIFT), sl->d.rx_log2,
                 sizeof(struct sg_dgram_hdr), &info, sizeof(info));
    cr_assert_eq(info.ifnum, 2);
}

/* The tag is no part of the packet: one that lacks its last bytes is not made whole by what lies behind. */
Test(vlan, packet_that_is_cut_short_is_dropped)
{
    frame_icmp(&f, VLAN_NET | 1, VLAN_NET | HOST_LAST, ICMP4_ECHO, 0, 1, "data", 4);
    tag(VLAN);
    f.len -= 2;
    cr_assert_null(receive(0));
    cr_assert_eq(host_counter(&h, "IpInHdrErrors"), 1);
}

Test(vlan, packet_leaves_by_the_interface_of_its_route)
{
    static const struct {
        uint32_t net;
        uint8_t dev;
        bool tagged;
    } v[] = {{NET4(0), 0, false}, {VLAN_NET, 0, true}, {DEV2_NET, 1, false}};

    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        uint32_t type_at = v[i].tagged ? 16 : 12;
        struct pktbuf *p;

        arp_question(v[i].net); /* so that the peer is known */
        if (v[i].tagged)
            tag(VLAN);
        cr_assert_not_null(receive(v[i].dev));
        frame_icmp(&f, v[i].net | 1, v[i].net | HOST_LAST, ICMP4_ECHO, 0, 1, "ping", 4);
        memcpy(f.b, mac_of(HOST_LAST), 6);
        f.b[0] = h.cfg.ifs[i].mac[0];
        if (v[i].tagged)
            tag(VLAN);
        p = receive(v[i].dev);
        cr_assert_not_null(p, "no echo reply on interface %zu", i);
        cr_assert(p->dev == v[i].dev && get_be16(p->data + type_at) == ETH_TYPE_IP4);
        cr_assert(eth_eq(p->data + 6, h.cfg.ifs[i].mac));
    }
}

Test(vlan, devices_cut_no_tagged_frames)
{
    struct ip_addr a = net_ip_addr(VLAN_NET | 1);

    cr_assert_eq(net_gso_frame_max(h.e, &a), 0);
}

static void *zeroed(size_t bytes)
{
    void *p = aligned_alloc(SG_PAGE_BYTES, bytes);

    cr_assert_not_null(p);
    memset(p, 0, bytes);
    return p;
}

Test(vlan, two_interfaces_of_one_device_and_tag_are_refused)
{
    struct engine_config cfg = h.cfg;
    void *arena = zeroed(engine_arena_bytes(&cfg)), *scratch = zeroed(engine_scratch_bytes(&cfg));

    cfg.ifs[2].dev = 0;
    cr_assert_null(engine_init(arena, scratch, &cfg, 1), "device 0 without a tag is there already");
    cfg.ifs[2].vlan = VLAN + 1;
    cr_assert_not_null(engine_init(arena, scratch, &cfg, 1));
    free(arena);
    free(scratch);
}

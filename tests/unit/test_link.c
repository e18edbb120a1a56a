/* SPDX-License-Identifier: Apache-2.0 */
/* Several devices under one engine: queues of their own, links that go down and come back, the host model. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/frames6.h"

#define SECOND UINT64_C(1000000)
#define NET_B  NET4(128)   /* 192.0.2.128/25, on device 1 */
#define FAR    0xc6336407u /* 198.51.100.7, behind routers */

static struct host h;
static struct frame f;

/* Interface 0: device 0, 192.0.2.2/25; 1: device 1, 192.0.2.130/25. */
static void config(struct engine_config *cfg)
{
    host_config(cfg, HOST_LAST);
    cfg->addrs[0].prefix = 25;
    cfg->ifs[1] = cfg->ifs[0];
    cfg->ifs[1].dev = 1;
    cfg->if_count = 2;
    cfg->addrs[cfg->addr_count++] =
        (struct engine_addr){.addr = net_ip_addr(NET_B | HOST_LAST), .prefix = 25, .ifindex = 1};
}

static void start(void)
{
    struct engine_config cfg;

    config(&cfg);
    host_start(&h, &cfg, 1000000);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(link, .init = start, .fini = stop);

static void restart(const struct engine_config *cfg)
{
    rig_stop(&h);
    host_start(&h, cfg, 1000000);
}

static void frame_from(uint8_t dev)
{
    struct pktbuf p = {.data = f.b, .len = f.len, .total = f.len, .dev = dev};

    memcpy(f.b, mac_of(HOST_LAST), 6);
    host_rx(&h, &p);
}

static uint32_t net_of(uint8_t dev)
{
    return dev ? NET_B : NET4(0);
}

/* Have the station 1 on a device's link known. */
static void resolve(uint8_t dev)
{
    frame_arp(&f, ARP_REQUEST, 1, net_of(dev) | 1, HOST_LAST, net_of(dev) | HOST_LAST);
    frame_from(dev);
    cr_assert_not_null(host_tx(&h));
}

static void set_link(uint8_t dev, bool up, uint16_t mtu)
{
    const struct engine_link l = {.up = up, .mtu = mtu};

    engine_link(h.e, dev, &l, h.now_us);
}

static uint32_t bound(uint16_t port)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(app_bind(&h, s, port), 0);
    return s;
}

/* One datagram to station 1 of a device's network. */
static void send_on(uint32_t s, uint8_t dev)
{
    cr_assert_eq(app_sendto(&h, s, "x", 1, dev ? 129 : 1, 9), 1);
}

/* Frames that wait for a device, without taking any. */
static unsigned waiting(uint8_t dev)
{
    struct pktbuf *p[64];

    return engine_tx_peek(h.e, dev, p, 64, h.now_us);
}

static void take(uint8_t dev)
{
    unsigned n;

    while ((n = waiting(dev)))
        engine_tx_consume(h.e, dev, n);
}

/* The device's queue fills up, and it takes nothing. */
static void fill(uint8_t dev)
{
    for (unsigned i = 0; i < 64; i++)
        (void)waiting(dev);
}

static bool reaches(uint32_t addr4, uint8_t *ifindex)
{
    const struct ip_addr a = net_ip_addr(addr4);
    const struct net_dst *d = netif_lookup(&h.e->net.t, &a);

    *ifindex = d->ifindex;
    return d->has_src && d->ifindex != ENGINE_IF_ANY;
}

/* ---- Queues ----------------------------------------------------------------------------------------- */

Test(link, datagrams_for_a_full_device_do_not_hold_up_another_socket)
{
    uint32_t a = bound(4000), b = bound(4001);

    resolve(0);
    resolve(1);
    for (uint32_t i = 0; i < h.cfg.pkt_max + 10; i++)
        send_on(a, 0);
    fill(0);
    send_on(b, 1);
    cr_assert_eq(waiting(1), 1);
    take(1);
    cr_assert(udp_output_pending(h.e), "the rest of the first socket waits in its ring");
    take(0);
    cr_assert_eq(host_counter(&h, "UdpOutDatagrams"), h.cfg.pkt_max + 11, "nothing was lost");
}

/* A server on all addresses answers the clients of one link while the other takes nothing. */
Test(link, stalled_device_costs_a_socket_that_device_only)
{
    uint32_t s = bound(4000);

    resolve(0);
    resolve(1);
    for (uint32_t i = 0; i < h.cfg.pkt_max; i++)
        send_on(s, 0);
    send_on(s, 1);
    fill(0);
    cr_assert_eq(waiting(1), 0, "its turn comes behind what was sent before");
    h.now_us += PKTQ_STALL_US + 1;
    cr_assert_eq(waiting(1), 1);
    cr_assert_gt(host_counter(&h, "UdpSndbufErrors"), 0);
    take(0);
    take(1);
}

Test(link, connection_over_one_device_goes_on_while_the_other_is_full)
{
    uint32_t s = bound(4000), c = app_socket(&h, SG_SOCK_STREAM);

    resolve(0);
    resolve(1);
    for (uint32_t i = 0; i < h.cfg.pkt_max + 10; i++)
        send_on(s, 0);
    fill(0);
    cr_assert_eq(app_connect(&h, c, 129, 80), 0);
    cr_assert_eq(waiting(1), 1, "its SYN");
    take(0);
    take(1);
}

/* ---- Host model ------------------------------------------------------------------------------------- */

/* RFC 1122 3.3.4.2 (A): an address is reached over its own interface only. */
Test(link, packet_to_another_interfaces_address_is_dropped)
{
    resolve(0);
    frame_icmp(&f, NET4(1), NET_B | HOST_LAST, ICMP4_ECHO, 0, 1, "ping", 4);
    frame_from(0);
    cr_assert_null(host_tx(&h));
    cr_assert_eq(host_counter(&h, "IpInAddrErrors"), 1);
    frame_icmp(&f, NET4(1), HOST4, ICMP4_ECHO, 0, 1, "ping", 4);
    frame_from(0);
    cr_assert_eq(host_tx(&h)->dev, 0);
}

Test(link, arp_is_answered_for_the_interfaces_own_addresses_only)
{
    frame_arp(&f, ARP_REQUEST, 1, NET4(1), HOST_LAST, NET_B | HOST_LAST);
    frame_from(0);
    cr_assert_null(host_tx(&h));
    frame_arp(&f, ARP_REQUEST, 1, NET_B | 1, HOST_LAST, NET_B | HOST_LAST);
    frame_from(1);
    cr_assert_eq(host_tx(&h)->dev, 1);
}

/* ---- Down and up ------------------------------------------------------------------------------------ */

Test(link, networks_of_a_link_that_is_down_are_unreachable)
{
    uint32_t s = bound(4000), c = app_socket(&h, SG_SOCK_STREAM);
    uint8_t i;

    resolve(0);
    send_on(s, 0);
    cr_assert_eq(waiting(0), 1);
    set_link(0, false, 1500);
    cr_assert_eq(waiting(0), 0, "what waited is dropped");
    cr_assert_not(reaches(NET4(1), &i));
    cr_assert_eq(app_connect(&h, c, 1, 80), -ENETUNREACH);
    cr_assert(reaches(NET_B | 1, &i) && i == 1, "the other goes on");
    cr_assert(net_is_own(h.e, &(struct ip_addr){.ip = {192, 0, 2, 2}, .family = SG_AF_INET}));
    set_link(0, true, 1500);
    cr_assert(reaches(NET4(1), &i) && i == 0);
}

Test(link, a_route_over_another_device_takes_over)
{
    struct engine_config cfg;
    uint8_t i;

    config(&cfg);
    cfg.routes[cfg.route_count++] = (struct engine_route){
        .dst = {.family = SG_AF_INET}, .gateway = net_ip_addr(NET4(100)), .ifindex = ENGINE_IF_ANY};
    cfg.routes[cfg.route_count++] = (struct engine_route){
        .dst = {.family = SG_AF_INET}, .gateway = net_ip_addr(NET_B | 254), .ifindex = ENGINE_IF_ANY};
    restart(&cfg);
    cr_assert(reaches(FAR, &i) && i == 0);
    set_link(0, false, 1500);
    cr_assert(reaches(FAR, &i) && i == 1);
    set_link(0, true, 1500);
    cr_assert(reaches(FAR, &i) && i == 0);
}

Test(link, who_waits_for_a_neighbour_is_told_when_the_link_goes_down)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(app_connect(&h, s, 9, 80), 0);
    cr_assert_eq(app_sendto(&h, s, "x", 1, 0, 0), 1);
    cr_assert_not_null(host_tx(&h), "the question");
    set_link(0, false, 1500);
    host_run(&h);
    cr_assert_eq(app_error(&h, s), EHOSTUNREACH);
}

Test(link, addresses_are_announced_when_the_link_comes_back)
{
    const uint8_t *mac;
    struct arp_pkt a;

    set_link(1, false, 1500);
    set_link(1, true, 1500);
    expect_arp(&h, &a, &mac);
    cr_assert(a.op == ARP_REQUEST && a.spa == (NET_B | HOST_LAST) && a.tpa == a.spa);
    expect_nothing(&h); /* the other device's are not */
    h.now_us += ARP_ANNOUNCE_INTERVAL_US;
    host_run(&h);
    expect_arp(&h, &a, &mac);
    set_link(1, true, 1500);
    expect_nothing(&h); /* it was up */
}

/* RFC 4862 5.4: on a link that may be another one, an address is not used before it was asked for. */
Test(link, ipv6_addresses_are_probed_for_when_the_link_comes_back)
{
    struct engine_config cfg;
    struct ip6_pkt ip;
    struct ip_addr own = {.family = SG_AF_INET6};

    rig6_config(&cfg, 1);
    restart(&cfg);
    memcpy(own.ip, net6(HOST_LAST), 16);
    engine_announce(h.e, h.now_us);
    for (unsigned i = 0; i < 30; i++, h.now_us += SECOND / 10) {
        host_run(&h);
        while (host_tx(&h))
            ;
    }
    cr_assert(net_is_own(h.e, &own));
    set_link(0, false, 1500);
    set_link(0, true, 1500);
    cr_assert_not(net_is_own(h.e, &own));
    while (host_tx(&h)) /* announcements of IPv4 */
        ;
    h.now_us += SECOND;
    host_run(&h);
    expect_icmp6(&h, ICMP6_NEIGHBOR_SOLICIT, 0, &ip);
    h.now_us += SECOND;
    host_run(&h);
    cr_assert(net_is_own(h.e, &own));
    while (host_tx(&h))
        ;
}

/* ---- MTU --------------------------------------------------------------------------------------------- */

static uint16_t mtu_to(uint32_t addr4)
{
    const struct ip_addr a = net_ip_addr(addr4);

    return net_mtu(h.e, &a);
}

Test(link, mtu_of_a_device_is_that_of_its_interfaces)
{
    uint8_t i;

    set_link(1, true, 1400);
    cr_assert(mtu_to(NET_B | 1) == 1400 && mtu_to(NET4(1)) == 1500);
    set_link(1, true, 9000);
    cr_assert_eq(mtu_to(NET_B | 1), h.cfg.ifs[1].tx_frame_max - ETH_HDR_BYTES,
                 "no more than its frames hold");
    set_link(1, true, 575);
    cr_assert_not(reaches(NET_B | 1, &i), "too small for IPv4: as if it were down");
    set_link(1, true, 576);
    cr_assert(reaches(NET_B | 1, &i) && mtu_to(NET_B | 1) == 576);
}

Test(link, ipv6_ends_below_its_smallest_mtu_and_comes_back)
{
    struct engine_config cfg;
    struct ip_addr a = {.family = SG_AF_INET6};
    struct ip_addr src;

    rig6_config(&cfg, 0);
    restart(&cfg);
    memcpy(a.ip, net6(1), 16);
    cr_assert(net_source(h.e, &a, &src));
    set_link(0, true, 1279);
    cr_assert_not(net_source(h.e, &a, &src));
    set_link(0, true, 1280);
    cr_assert(net_source(h.e, &a, &src) && net_mtu(h.e, &a) == 1280);
}

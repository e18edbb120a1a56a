/* SPDX-License-Identifier: Apache-2.0 */
/* Neighbour discovery (RFC 4861), duplicates and autoconfiguration (RFC 4862), sources (RFC 6724). */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>

#include "tests/unit/frames6.h"

#define SECOND UINT64_C(1000000)

static struct host h;
static struct frame f;
static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1}, all_routers[16] = {0xff, 0x02, [15] = 2};
static const uint8_t nobody[16];

static void start(void)
{
    rig6_start(&h);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(nd, .init = start, .fini = stop);

static void restart(struct engine_config *cfg)
{
    rig_stop(&h);
    host_start(&h, cfg, 1000000);
}

static void advance(uint64_t us)
{
    h.now_us += us;
    host_run(&h);
}

/* A solicitation or advertisement from station `from`, with the MAC option of this type (0: none). */
static void message(uint8_t type, uint8_t from, const uint8_t *src, const uint8_t *dst, const uint8_t *target,
                    uint8_t flags, uint8_t option, uint8_t mac, uint8_t hops)
{
    uint8_t body[16 + ND_OPT_MAC_BYTES] = {[16] = option, [17] = 1};

    memcpy(body, target, 16);
    memcpy(body + 18, mac_of(mac), ETH_ADDR_BYTES);
    frame_icmp6(&f, from, src, dst, hops, type, 0, (uint32_t)flags << 24, body, option ? sizeof(body) : 16);
    frame_in(&h, &f);
}

static void solicit(const uint8_t *src, const uint8_t *target, uint8_t option, uint8_t hops)
{
    uint8_t group[16];

    ip6_solicited_node(target, group);
    message(ICMP6_NEIGHBOR_SOLICIT, 1, src, group, target, 0, option, 1, hops);
}

static void advertise(uint8_t last, uint8_t flags, uint8_t mac)
{
    message(ICMP6_NEIGHBOR_ADVERT, last, net6(last), net6(HOST_LAST), net6(last), flags, ND_OPT_TARGET_MAC,
            mac, 255);
}

/* Have the host send a packet to a station: an echo reply. */
static void make_it_send(uint8_t last)
{
    frame_icmp6(&f, last, net6(last), net6(HOST_LAST), 64, ICMP6_ECHO, 0, 1, "ping", 4);
    frame_in(&h, &f);
}

static const char *state_of(const uint8_t *ip)
{
    struct engine_neigh_info info;
    uint64_t cursor = 0;

    while (engine_neigh_next(h.e, &cursor, h.now_us, &info))
        if (memcmp(info.addr.ip, ip, 16) == 0)
            return info.state;
    return "";
}

/* ---- Answers ------------------------------------------------------------------------------------- */

Test(nd, solicitation_of_an_own_address_is_answered)
{
    struct ip6_pkt ip;
    const uint8_t *mac;

    solicit(net6(1), net6(HOST_LAST), ND_OPT_SOURCE_MAC, 255);
    expect_ip6(&h, &ip, &mac);
    cr_assert(ip.next == IP6_NH_ICMP && ip.payload[0] == ICMP6_NEIGHBOR_ADVERT && ip.hops == 255);
    cr_assert_eq(ip.payload[4], ND_NA_SOLICITED | ND_NA_OVERRIDE);
    cr_assert(!memcmp(ip.payload + 8, net6(HOST_LAST), 16) && !memcmp(ip.dst, net6(1), 16));
    cr_assert(ip.payload[24] == ND_OPT_TARGET_MAC && eth_eq(ip.payload + 26, mac_of(HOST_LAST)));
    cr_assert(eth_eq(mac, mac_of(1)), "its own option said where");
    cr_assert_str_eq(state_of(net6(1)), "PROBE", "learnt, not proved, and used for the answer");
}

Test(nd, probe_for_an_own_address_is_answered_to_all)
{
    struct ip6_pkt ip;

    solicit(nobody, net6(HOST_LAST), 0, 255);
    expect_icmp6(&h, ICMP6_NEIGHBOR_ADVERT, 0, &ip);
    cr_assert(!memcmp(ip.dst, all_nodes, 16) && ip.payload[4] == ND_NA_OVERRIDE);
}

Test(nd, invalid_solicitations_are_dropped)
{
    uint8_t group[16], body[24] = {0};

    ip6_solicited_node(net6(HOST_LAST), group);
    solicit(net6(1), net6(HOST_LAST), ND_OPT_SOURCE_MAC, 254); /* was forwarded */
    solicit(nobody, net6(HOST_LAST), ND_OPT_SOURCE_MAC, 255);  /* nobody has no address */
    message(ICMP6_NEIGHBOR_SOLICIT, 1, nobody, net6(HOST_LAST), net6(HOST_LAST), 0, 0, 1,
            255);                                                                    /* not to a group */
    message(ICMP6_NEIGHBOR_SOLICIT, 1, net6(1), group, all_nodes, 0, 0, 1, 255);     /* for a group */
    frame_icmp6(&f, 1, net6(1), group, 255, ICMP6_NEIGHBOR_SOLICIT, 1, 0, body, 16); /* code */
    frame_in(&h, &f);
    frame_icmp6(&f, 1, net6(1), group, 255, ICMP6_NEIGHBOR_SOLICIT, 0, 0, body, 15); /* short */
    frame_in(&h, &f);
    memcpy(body, net6(HOST_LAST), 16);
    frame_icmp6(&f, 1, net6(1), group, 255, ICMP6_NEIGHBOR_SOLICIT, 0, 0, body, 17); /* half an option */
    frame_in(&h, &f);
    body[16] = ND_OPT_SOURCE_MAC; /* of length 0 */
    frame_icmp6(&f, 1, net6(1), group, 255, ICMP6_NEIGHBOR_SOLICIT, 0, 0, body, 24);
    frame_in(&h, &f);
    cr_assert_eq(host_counter(&h, "DropNdBad"), 7);
    cr_assert_eq(host_counter(&h, "Ip6InAddrErrors"), 1);
    expect_nothing(&h);
}

/* ---- Questions ----------------------------------------------------------------------------------- */

Test(nd, unknown_neighbour_is_asked_by_group_and_what_waited_is_sent)
{
    struct ip6_pkt ip;
    const uint8_t *mac;
    uint8_t group[16];

    make_it_send(1);
    expect_ip6(&h, &ip, &mac);
    ip6_solicited_node(net6(1), group);
    cr_assert(ip.payload[0] == ICMP6_NEIGHBOR_SOLICIT && !memcmp(ip.dst, group, 16) && ip.hops == 255);
    cr_assert(mac[0] == 0x33 && mac[1] == 0x33 && !memcmp(mac + 2, group + 12, 4));
    cr_assert(!memcmp(ip.payload + 8, net6(1), 16) && !memcmp(ip.src, net6(HOST_LAST), 16));
    expect_nothing(&h);
    advertise(1, ND_NA_SOLICITED | ND_NA_OVERRIDE, 1);
    expect_ip6(&h, &ip, &mac);
    cr_assert(ip.payload[0] == ICMP6_ECHO_REPLY && eth_eq(mac, mac_of(1)));
    cr_assert_str_eq(state_of(net6(1)), "REACHABLE");
}

Test(nd, silent_neighbour_is_asked_three_times_then_given_up)
{
    struct ip6_pkt ip;

    make_it_send(1);
    for (unsigned i = 0; i < 3; i++) {
        expect_icmp6(&h, ICMP6_NEIGHBOR_SOLICIT, 0, &ip);
        expect_nothing(&h);
        advance(SECOND + NEIGH_TICK_US);
    }
    expect_nothing(&h);
    cr_assert_str_eq(state_of(net6(1)), "FAILED");
    cr_assert_eq(host_counter(&h, "DropNeighFailed"), 1);
}

Test(nd, advertisement_without_override_only_raises_doubt)
{
    struct ip6_pkt ip;
    const uint8_t *mac;

    make_it_send(1);
    expect_icmp6(&h, ICMP6_NEIGHBOR_SOLICIT, 0, &ip);
    advertise(1, ND_NA_SOLICITED | ND_NA_OVERRIDE, 1);
    expect_icmp6(&h, ICMP6_ECHO_REPLY, 0, &ip);
    advertise(1, 0, 9);
    cr_assert_str_eq(state_of(net6(1)), "STALE");
    make_it_send(1);
    expect_ip6(&h, &ip, &mac);
    cr_assert(eth_eq(mac, mac_of(1)), "the address that was proved stays");
    advertise(1, ND_NA_OVERRIDE, 9);
    make_it_send(1);
    expect_ip6(&h, &ip, &mac);
    cr_assert(eth_eq(mac, mac_of(9)), "an override is taken");
}

Test(nd, unsolicited_advertisement_makes_no_entry)
{
    advertise(1, ND_NA_OVERRIDE, 1);
    cr_assert_str_eq(state_of(net6(1)), "");
}

Test(nd, used_neighbour_is_probed_by_unicast)
{
    struct ip6_pkt ip;
    const uint8_t *mac;

    rig6_resolve(&h, 1); /* STALE */
    make_it_send(1);
    expect_icmp6(&h, ICMP6_ECHO_REPLY, 0, &ip);
    cr_assert_str_eq(state_of(net6(1)), "PROBE");
    advance(NEIGH_DELAY_US + NEIGH_TICK_US);
    expect_ip6(&h, &ip, &mac);
    cr_assert(ip.payload[0] == ICMP6_NEIGHBOR_SOLICIT && !memcmp(ip.dst, net6(1), 16) &&
              eth_eq(mac, mac_of(1)));
    advertise(1, ND_NA_SOLICITED, 1);
    cr_assert_str_eq(state_of(net6(1)), "REACHABLE");
}

/* ---- Duplicates ---------------------------------------------------------------------------------- */

static void start_probing(void)
{
    struct engine_config cfg;

    rig6_config(&cfg, 1);
    restart(&cfg);
    engine_announce(h.e, h.now_us);
}

static bool usable(const uint8_t *ip)
{
    struct ip_addr a = addr6(ip);

    return net_is_own(h.e, &a);
}

/* Let the random delay pass; returns how many probes went out, for the IPv6 address if it is not NULL. */
static unsigned probes(const uint8_t *ip)
{
    unsigned n = 0;
    struct pktbuf *p;

    advance(SECOND);
    while ((p = host_tx(&h)) != NULL) {
        struct ip6_pkt q;

        if (!ip6_parse(p->data + ETH_HDR_BYTES, p->len - ETH_HDR_BYTES, &q))
            continue; /* ARP announces the IPv4 address */
        if (q.next == IP6_NH_HOPS)
            continue; /* MLD reports the addresses' groups */
        cr_assert(ip6_is_unspecified(q.src) && q.payload[0] == ICMP6_NEIGHBOR_SOLICIT && q.hops == 255);
        n += memcmp(q.payload + 8, ip, 16) == 0;
    }
    return n;
}

Test(nd, address_is_used_only_after_nobody_claimed_it)
{
    start_probing();
    cr_assert_not(usable(net6(HOST_LAST)));
    cr_assert_eq(probes(net6(HOST_LAST)), 1);
    cr_assert_not(usable(net6(HOST_LAST)), "the answer may still come");
    solicit(net6(1), net6(HOST_LAST), ND_OPT_SOURCE_MAC, 255);
    cr_assert_null(host_tx(&h), "a tentative address is not answered for");
    advance(SECOND);
    cr_assert(usable(net6(HOST_LAST)) && usable(link6(HOST_LAST)));
}

Test(nd, claimed_address_is_never_used)
{
    char line[160];

    start_probing();
    (void)probes(net6(HOST_LAST));
    message(ICMP6_NEIGHBOR_ADVERT, 9, net6(HOST_LAST), all_nodes, net6(HOST_LAST), ND_NA_OVERRIDE,
            ND_OPT_TARGET_MAC, 9, 255);
    advance(10 * SECOND);
    cr_assert_not(usable(net6(HOST_LAST)));
    cr_assert(usable(link6(HOST_LAST)));
    cr_assert_eq(host_counter(&h, "NdDuplicate"), 1);
    cr_assert(engine_notice(h.e, line, sizeof(line)));
    cr_assert_str_eq(line,
                     "address in use by another host: 2001:db8:0:0:0:0:0:2 is claimed by 02:00:00:00:00:09");
}

Test(nd, simultaneous_probe_of_another_host_is_a_duplicate)
{
    start_probing();
    (void)probes(net6(HOST_LAST));
    solicit(nobody, net6(HOST_LAST), 0, 255);
    cr_assert_eq(host_counter(&h, "NdDuplicate"), 1);
}

Test(nd, own_probe_coming_back_is_no_duplicate)
{
    struct pktbuf *p;
    unsigned sent = 0;
    struct {
        uint8_t b[200];
        uint32_t len;
    } back[8];

    start_probing();
    advance(SECOND);
    while ((p = host_tx(&h)) != NULL && sent < 8) {
        cr_assert_leq(p->total, sizeof(back[0].b));
        memcpy(back[sent].b, p->data, p->total);
        back[sent++].len = p->total;
    }
    for (unsigned i = 0; i < sent; i++) {
        memcpy(back[i].b + 6, mac_of(99), 6); /* as a hub with another source would send it */
        host_rx_bytes(&h, back[i].b, back[i].len);
    }
    cr_assert_eq(host_counter(&h, "NdDuplicate"), 0, "the nonce tells (RFC 7527)");
    advance(SECOND);
    cr_assert(usable(net6(HOST_LAST)));
}

Test(nd, made_address_is_made_anew_when_it_is_taken)
{
    struct engine_config cfg;
    struct ip_addr first, second;

    rig6_config(&cfg, 1);
    cfg.addr_count--; /* without the given link-local address one is made */
    restart(&cfg);
    engine_announce(h.e, h.now_us);
    first = h.e->net.t.addrs[2].addr;
    cr_assert(ip6_is_link_local(first.ip));
    (void)probes(first.ip);
    solicit(nobody, first.ip, 0, 255);
    second = h.e->net.t.addrs[2].addr;
    cr_assert(ip6_is_link_local(second.ip) && memcmp(first.ip, second.ip, 16) != 0, "RFC 7217 6");
    advance(SECOND);
    advance(SECOND);
    cr_assert(usable(second.ip) && !usable(first.ip));
}

/* RFC 7217 5: the same on the same link as long as the stored secret is, whatever else a start draws. */
Test(nd, made_address_outlives_a_restart_with_the_stored_secret)
{
    struct engine_config cfg;
    struct ip_addr first;

    rig6_config(&cfg, 1);
    cfg.addr_count--;
    restart(&cfg);
    first = h.e->net.t.addrs[2].addr;
    memset(cfg.secret, 0x5a, sizeof(cfg.secret));
    restart(&cfg);
    cr_assert(ip_addr_eq(&h.e->net.t.addrs[2].addr, &first));
    cfg.stable_secret[31] ^= 1;
    restart(&cfg);
    cr_assert_not(ip_addr_eq(&h.e->net.t.addrs[2].addr, &first));
}

Test(nd, claim_on_an_address_in_use_is_defended_at_a_limited_rate)
{
    struct ip6_pkt ip;

    for (unsigned i = 0; i < 3; i++)
        message(ICMP6_NEIGHBOR_ADVERT, 9, net6(HOST_LAST), all_nodes, net6(HOST_LAST), ND_NA_OVERRIDE,
                ND_OPT_TARGET_MAC, 9, 255);
    expect_icmp6(&h, ICMP6_NEIGHBOR_ADVERT, 0, &ip);
    expect_nothing(&h);
    cr_assert(usable(net6(HOST_LAST)));
    cr_assert_eq(host_counter(&h, "NdConflict"), 3);
}

/* ---- Routers ------------------------------------------------------------------------------------- */

static void start_accepting(void)
{
    struct engine_config cfg;

    rig6_config(&cfg, 0);
    cfg.route_count = 0;
    cfg.ifs[0].accept_ra = true;
    restart(&cfg);
    engine_announce(h.e, h.now_us);
    advance(0);
}

struct advert {
    uint16_t lifetime;
    uint8_t flags, prefix;
    uint32_t valid, preferred;
    uint8_t net;
    uint32_t mtu;
    uint8_t hops;
    uint8_t cur_hops; /* of the contents */
    uint32_t reach_ms, retrans_ms;
};

static void router_advert(struct advert a)
{
    uint8_t b[8 + ND_OPT_PREFIX_BYTES + ND_OPT_MTU_BYTES] = {
        [8] = ND_OPT_PREFIX, [9] = 4, [40] = ND_OPT_MTU, [41] = 1};
    uint8_t net[16] = {0x20, 0x01, 0x0d, 0xb8, 0, a.net};

    put_be32(b, a.reach_ms);
    put_be32(b + 4, a.retrans_ms);
    b[10] = a.prefix;
    b[11] = a.flags;
    put_be32(b + 12, a.valid);
    put_be32(b + 16, a.preferred);
    memcpy(b + 24, net, 16);
    put_be32(b + 44, a.mtu);
    frame_icmp6(&f, 1, link6(1), all_nodes, a.hops ? a.hops : 255, ICMP6_ROUTER_ADVERT, 0,
                (uint32_t)a.cur_hops << 24 | a.lifetime, b, sizeof(b));
    frame_in(&h, &f);
}

#define SLAAC (ND_PREFIX_ON_LINK | ND_PREFIX_AUTONOMOUS)

static const struct net_addr *made(uint8_t net)
{
    for (uint32_t i = 0; i < h.e->net.t.addr_count; i++) {
        const struct net_addr *a = &h.e->net.t.addrs[i];

        if (a->state != ADDR_FREE && a->learnt && a->addr.ip[5] == net)
            return a;
    }
    return NULL;
}

Test(nd, routers_are_asked_for_three_times_until_one_is_heard)
{
    unsigned n = 0;
    struct pktbuf *p;

    start_accepting();
    for (unsigned i = 0; i < 6; i++) {
        while ((p = host_tx(&h)) != NULL) {
            struct ip6_pkt ip;

            if (!ip6_parse(p->data + ETH_HDR_BYTES, p->len - ETH_HDR_BYTES, &ip) || ip.next == IP6_NH_HOPS)
                continue;
            cr_assert(ip.payload[0] == ICMP6_ROUTER_SOLICIT && !memcmp(ip.dst, all_routers, 16) &&
                      ip.hops == 255);
            n++;
        }
        advance(RA_SOLICIT_INTERVAL_US);
    }
    cr_assert_eq(n, RA_SOLICITS);
}

Test(nd, advertisement_gives_route_address_and_mtu)
{
    const struct net_addr *a;
    struct ip_addr far = {.ip = {0x20, 0x01, 0x0d, 0xb8, 9, 9, [15] = 9}, .family = SG_AF_INET6}, hop;

    start_accepting();
    cr_assert_not(net_next_hop(h.e, &far, &hop));
    router_advert((struct advert){.lifetime = 1800,
                                  .flags = SLAAC,
                                  .prefix = 64,
                                  .valid = 7200,
                                  .preferred = 3600,
                                  .net = 5,
                                  .mtu = 1400});
    cr_assert(net_next_hop(h.e, &far, &hop) && !memcmp(hop.ip, link6(1), 16));
    a = made(5);
    cr_assert(a && a->state == ADDR_PREFERRED && a->prefix == 64);
    cr_assert(a->addr.ip[8] | a->addr.ip[9] | a->addr.ip[10] | a->addr.ip[11], "the identifier is opaque");
    cr_assert_eq(net_mtu(h.e, &far), 1400);
    advance(1801 * SECOND);
    cr_assert_not(net_next_hop(h.e, &far, &hop), "the router's lifetime is over");
    advance(1800 * SECOND);
    cr_assert_eq(a->state, ADDR_DEPRECATED);
    advance(3600 * SECOND);
    cr_assert_null(made(5));
}

/* Hop limit of the answer to an echo request of station 1. */
static uint8_t hops_of_answer(void)
{
    struct pktbuf *p;
    struct ip6_pkt ip;

    make_it_send(1);
    while ((p = host_tx(&h)) != NULL)
        if (ip6_parse(p->data + ETH_HDR_BYTES, p->len - ETH_HDR_BYTES, &ip) && ip.next == IP6_NH_ICMP &&
            ip.payload[0] == ICMP6_ECHO_REPLY)
            return ip.hops;
    return 0;
}

/* RFC 4861 6.3.4: CurHopLimit, unless it is 0, or so small that it would cut us off. */
Test(nd, hop_limit_of_an_advertisement_is_used_within_bounds)
{
    static const struct {
        uint8_t said, used;
    } v[] = {{0, 64}, {1, 64}, {31, 64}, {100, 100}, {0, 100}, {32, 32}, {255, 255}};

    start_accepting();
    while (host_tx(&h))
        ;
    rig6_resolve(&h, 1);
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        router_advert((struct advert){.lifetime = 1800, .cur_hops = v[i].said});
        cr_assert_eq(hops_of_answer(), v[i].used, "after %u", v[i].said);
    }
}

/* RFC 4861 6.3.2: between half and one and a half times what was said. */
Test(nd, reachable_time_of_an_advertisement_is_drawn_within_bounds)
{
    static const struct {
        uint32_t said_ms, base_ms;
    } v[] = {{0, 30000}, {10000, 10000}, {0, 10000}, {1, 1000}, {UINT32_MAX, 3600000}};
    const struct netif *i;

    start_accepting();
    i = &h.e->net.t.ifs[0];
    for (size_t k = 0; k < ARRAY_LEN(v); k++) {
        router_advert((struct advert){.lifetime = 1800, .reach_ms = v[k].said_ms});
        cr_assert(i->reach_us >= v[k].base_ms * UINT64_C(500) && i->reach_us < v[k].base_ms * UINT64_C(1500),
                  "%u ms: %" PRIu64 " us", v[k].said_ms, i->reach_us);
    }
}

Test(nd, neighbour_is_reachable_for_the_time_that_a_router_says)
{
    start_accepting();
    router_advert((struct advert){.lifetime = 1800, .reach_ms = 4000});
    make_it_send(2 + 1);
    advertise(2 + 1, ND_NA_SOLICITED | ND_NA_OVERRIDE, 2 + 1);
    cr_assert_str_eq(state_of(net6(2 + 1)), "REACHABLE");
    h.now_us += 1999 * SECOND / 1000;
    cr_assert_str_eq(state_of(net6(2 + 1)), "REACHABLE", "at least half of it");
    h.now_us += 4001 * SECOND / 1000;
    cr_assert_str_eq(state_of(net6(2 + 1)), "STALE", "at most one and a half times");
}

static uint64_t reach_now(void)
{
    return h.e->net.t.ifs[0].reach_us;
}

/* RFC 4861 6.3.4: it is drawn anew when the base changes, and every few hours, not with every message. */
Test(nd, reachable_time_is_drawn_anew_every_few_hours)
{
    uint64_t first;

    start_accepting();
    router_advert((struct advert){.lifetime = 1800, .reach_ms = 10000});
    first = reach_now();
    h.now_us += 60 * SECOND;
    router_advert((struct advert){.lifetime = 1800, .reach_ms = 10000});
    cr_assert_eq(reach_now(), first);
    h.now_us += RA_REACHABLE_DRAW_US;
    router_advert((struct advert){.lifetime = 1800, .reach_ms = 10000});
    cr_assert_neq(reach_now(), first);
}

/* Solicitations for a station that does not answer, in the ten seconds after it is first needed. */
static unsigned questions(uint8_t last)
{
    uint8_t group[16];
    unsigned n = 0;

    ip6_solicited_node(net6(last), group);
    make_it_send(last);
    for (unsigned i = 0; i < 1000; i++, advance(SECOND / 100)) {
        struct pktbuf *p;
        struct ip6_pkt ip;

        while ((p = host_tx(&h)) != NULL)
            n += ip6_parse(p->data + ETH_HDR_BYTES, p->len - ETH_HDR_BYTES, &ip) &&
                 !memcmp(ip.dst, group, 16) && i < 50;
    }
    return n;
}

/* RFC 4861 6.3.4: RetransTimer. Half a second after the first question there has been another, or not. */
Test(nd, retransmission_time_of_an_advertisement_is_used_within_bounds)
{
    static const struct {
        uint32_t said_ms;
        unsigned asked;
    } v[] = {{0, 1}, {300, 2}, {0, 2}, {1, 3}, {UINT32_MAX, 1}};

    start_accepting();
    for (uint8_t k = 0; k < ARRAY_LEN(v); k++) {
        router_advert((struct advert){.lifetime = 1800, .retrans_ms = v[k].said_ms});
        cr_assert_eq(questions(20 + k), v[k].asked, "%u ms", v[k].said_ms);
    }
    cr_assert_eq(h.e->net.t.ifs[0].retrans_us, RA_RETRANS_MAX_MS * 1000);
}

Test(nd, what_routers_said_is_forgotten_with_the_link)
{
    const struct engine_link down = {.up = false, .mtu = 1500}, up = {.up = true, .mtu = 1500};
    const struct netif *i;

    start_accepting();
    router_advert((struct advert){
        .lifetime = 1800, .cur_hops = 99, .reach_ms = 3600000, .retrans_ms = 5000, .mtu = 1400});
    i = &h.e->net.t.ifs[0];
    cr_assert(i->hops == 99 && i->mtu6 == 1400);
    engine_link(h.e, 0, &down, h.now_us);
    engine_link(h.e, 0, &up, h.now_us);
    cr_assert(i->hops == 0 && i->mtu6 == 1500 && i->retrans_us == SECOND && i->reach_us < 45 * SECOND);
}

Test(nd, advertisements_are_only_taken_where_they_are_wanted_and_valid)
{
    struct ip_addr far = {.ip = {0x20, 0x01, 0x0d, 0xb8, 9, 9, [15] = 9}, .family = SG_AF_INET6}, hop;
    struct advert good = {
        .lifetime = 1800, .flags = SLAAC, .prefix = 64, .valid = 7200, .preferred = 3600, .net = 5};
    struct advert bad;

    router_advert(good); /* accept_ra is off */
    cr_assert_null(made(5));
    start_accepting();
    bad = good;
    bad.hops = 254;
    router_advert(bad);
    bad = good;
    bad.preferred = 7201; /* above the valid lifetime */
    bad.lifetime = 0;
    router_advert(bad);
    bad = good;
    bad.prefix = 65; /* no room for an identifier of 64 bits */
    bad.lifetime = 0;
    router_advert(bad);
    cr_assert(!made(5) && !net_next_hop(h.e, &far, &hop));
    cr_assert_eq(host_counter(&h, "DropNdBad"), 1);
}

Test(nd, lifetime_below_two_hours_takes_no_address_away)
{
    struct advert a = {
        .lifetime = 0, .flags = SLAAC, .prefix = 64, .valid = 86400, .preferred = 3600, .net = 5};

    start_accepting();
    router_advert(a);
    a.valid = a.preferred = 1;
    router_advert(a);
    advance(7199 * SECOND);
    cr_assert_not_null(made(5), "RFC 4862 5.5.3 e");
    advance(2 * SECOND);
    cr_assert_null(made(5));
}

Test(nd, learnt_addresses_and_routes_are_bounded)
{
    start_accepting();
    for (unsigned i = 1; i < 100; i++)
        router_advert((struct advert){.lifetime = 1800,
                                      .flags = SLAAC,
                                      .prefix = 64,
                                      .valid = 7200,
                                      .preferred = 3600,
                                      .net = (uint8_t)i});
    cr_assert_not_null(made(1));
    cr_assert_null(made(99));
    cr_assert_leq(h.e->net.t.route_count, 16 + RA_ROUTES_MAX + RA_ADDRS_MAX);
    while (host_tx(&h))
        ;
}

/* ---- Source addresses ---------------------------------------------------------------------------- */

static const uint8_t *source_for(const uint8_t *dst)
{
    static struct ip_addr src;
    struct ip_addr d = addr6(dst);

    return net_source(h.e, &d, &src) ? src.ip : nobody;
}

Test(nd, source_address_fits_scope_and_prefix)
{
    static const uint8_t ula[16] = {0xfd, 0, 0, 0x77, [15] = 2}, ula_peer[16] = {0xfd, 1, [15] = 1};
    static const uint8_t other[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, [15] = 2};
    static const uint8_t near_other[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 9, [15] = 2};
    struct engine_config cfg;

    rig6_config(&cfg, 0);
    cfg.addrs[cfg.addr_count++] = (struct engine_addr){.addr = addr6(ula), .prefix = 64};
    cfg.addrs[cfg.addr_count++] = (struct engine_addr){.addr = addr6(other), .prefix = 64};
    restart(&cfg);
    cr_assert(!memcmp(source_for(link6(1)), link6(HOST_LAST), 16), "rule 2: scope");
    cr_assert(!memcmp(source_for(net6(1)), net6(HOST_LAST), 16), "rule 8: longest prefix");
    cr_assert(!memcmp(source_for(near_other), other, 16), "rule 8: longest prefix");
    cr_assert(!memcmp(source_for(ula_peer), ula, 16), "rule 6: label");
    netif_addr_state(&h.e->net.t, &h.e->net.t.addrs[1], ADDR_DEPRECATED);
    cr_assert(!memcmp(source_for(net6(1)), other, 16), "rule 3: not a deprecated one");
}

Test(nd, several_ipv4_addresses_each_answer_and_speak_in_their_network)
{
    struct engine_config cfg;
    struct ip_addr dst = net_ip_addr(0xc6336405), src;
    struct arp_pkt a;
    const uint8_t *mac;

    rig6_config(&cfg, 0);
    engine_config_addr4(&cfg, (uint8_t[]){198, 51, 100, 2}, 24);
    restart(&cfg);
    cr_assert(net_source(h.e, &dst, &src) && net_addr4(&src) == 0xc6336402);
    frame_arp(&f, ARP_REQUEST, 1, NET4(1), 255, 0xc6336402);
    frame_in(&h, &f);
    expect_arp(&h, &a, &mac);
    cr_assert(a.op == ARP_REPLY && a.spa == 0xc6336402);
}

Test(nd, longest_prefix_chooses_the_route)
{
    struct engine_config cfg;
    struct ip_addr near = net_ip_addr(0xc6336405), far = net_ip_addr(0xc6330005), hop;

    rig6_config(&cfg, 0);
    engine_config_gateway4(&cfg, (uint8_t[]){192, 0, 2, 250});
    cfg.routes[cfg.route_count++] = (struct engine_route){.dst = net_ip_addr(0xc6336400),
                                                          .prefix = 24,
                                                          .gateway = net_ip_addr(NET4(251)),
                                                          .ifindex = ENGINE_IF_ANY};
    restart(&cfg);
    cr_assert(net_next_hop(h.e, &near, &hop) && net_addr4(&hop) == NET4(251));
    cr_assert(net_next_hop(h.e, &far, &hop) && net_addr4(&hop) == NET4(250));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "tests/unit/frames.h"

#define SECOND UINT64_C(1000000)

static struct host h;
static struct frame f;

static void start(void)
{
    rig_start(&h);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(neigh, .init = start, .fini = stop);

static void advance(uint64_t us)
{
    h.now_us += us;
    host_run(&h);
}

static uint32_t socket_to(uint8_t last)
{
    uint32_t slot = app_socket(&h, SG_SOCK_DGRAM);

    cr_assert_eq(app_connect(&h, slot, last, 9), 0);
    return slot;
}

static void arp_in(uint16_t op, uint8_t from, uint32_t spa, uint8_t to, uint32_t tpa)
{
    frame_arp(&f, op, from, spa, to, tpa);
    frame_in(&h, &f);
}

static void reply_from(uint8_t last)
{
    arp_in(ARP_REPLY, last, NET4(last), HOST_LAST, HOST4);
}

/* The state of a neighbour as the admin sees it; "" if there is none. */
static const char *state_of(uint8_t last)
{
    struct engine_neigh_info info;
    uint64_t cursor = 0;

    while (engine_neigh_next(h.e, &cursor, h.now_us, &info))
        if (info.addr.ip[3] == last)
            return info.state;
    return "";
}

static void expect_question(uint8_t last, uint8_t to)
{
    struct arp_pkt a;
    const uint8_t *mac;

    expect_arp(&h, &a, &mac);
    cr_assert(eth_eq(mac, mac_of(to)));
    cr_assert_eq(a.op, ARP_REQUEST);
    cr_assert(eth_eq(a.sha, mac_of(HOST_LAST)));
    cr_assert_eq(a.spa, HOST4);
    cr_assert_eq(a.tpa, NET4(last));
}

static void expect_datagram(uint8_t last, const char *text)
{
    struct ip4_pkt ip;
    const uint8_t *mac;

    expect_ip4(&h, &ip, &mac);
    cr_assert(eth_eq(mac, mac_of(last)));
    cr_assert_eq(ip.len, UDP_HDR_BYTES + strlen(text));
    cr_assert_arr_eq(ip.payload + UDP_HDR_BYTES, text, strlen(text));
}

static void send_text(uint32_t slot, const char *text)
{
    cr_assert_eq(app_sendto(&h, slot, text, strlen(text), 0, 0), (int64_t)strlen(text));
}

/* ---- Resolving ---------------------------------------------------------------------------------------- */

Test(neigh, datagrams_wait_for_the_answer_and_leave_in_order)
{
    uint32_t s = socket_to(1);
    const char *text[] = {"one", "two", "three", "four", "five"};

    for (size_t i = 0; i < ARRAY_LEN(text); i++)
        send_text(s, text[i]);
    expect_question(1, 255);
    expect_nothing(&h);
    cr_assert_str_eq(state_of(1), "INCOMPLETE");
    reply_from(1);
    for (size_t i = 0; i < ARRAY_LEN(text); i++)
        expect_datagram(1, text[i]);
    expect_nothing(&h);
    cr_assert_str_eq(state_of(1), "REACHABLE");
}

Test(neigh, four_largest_datagrams_survive_resolution)
{
    static uint8_t big[SG_DGRAM_BYTES_MAX];
    uint32_t s = socket_to(1);
    unsigned frames = 0;
    struct ip4_pkt ip;

    for (int i = 0; i < 4; i++) {
        cr_assert_eq(app_sendto(&h, s, big, sizeof(big), 0, 0), sizeof(big));
        while (host_tx(&h))
            ;
    }
    reply_from(1);
    for (struct pktbuf *p; (p = host_tx(&h)); frames++) {
        cr_assert(ip4_parse(p->data + ETH_HDR_BYTES, p->len - ETH_HDR_BYTES, &ip));
        rig_check(&h);
    }
    cr_assert_eq(frames, 4 * ((SG_DGRAM_BYTES_MAX + UDP_HDR_BYTES + 1479) / 1480));
    cr_assert_eq(host_counter(&h, "DropNeighQueue"), 0);
}

Test(neigh, asks_three_times_a_second_apart_then_tells_the_sender)
{
    uint32_t s = socket_to(1);

    send_text(s, "x");
    expect_question(1, 255);
    for (int i = 0; i < 2; i++) {
        advance(SECOND - NEIGH_TICK_US);
        expect_nothing(&h);
        advance(NEIGH_TICK_US);
        expect_question(1, 255);
        cr_assert_eq(app_error(&h, s), 0);
    }
    cr_assert_leq(engine_deadline(h.e), h.now_us + SECOND);
    advance(SECOND);
    expect_nothing(&h);
    cr_assert_str_eq(state_of(1), "FAILED");
    cr_assert_eq(app_error(&h, s), EHOSTUNREACH);
    cr_assert_eq(host_counter(&h, "DropNeighFailed"), 1);
}

Test(neigh, failed_neighbour_is_refused_for_a_second_and_then_asked_again)
{
    uint32_t s = socket_to(1);

    send_text(s, "x");
    expect_question(1, 255);
    for (int i = 0; i < 3; i++)
        advance(SECOND);
    while (host_tx(&h))
        ;
    send_text(s, "y");
    expect_nothing(&h);
    cr_assert_eq(app_error(&h, s), EHOSTUNREACH);
    advance(SECOND);
    send_text(s, "z");
    expect_question(1, 255);
    reply_from(1);
    expect_datagram(1, "z");
}

Test(neigh, gateway_is_asked_for_addresses_beyond_the_link)
{
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);
    struct ip_ep far = {.addr = {.ip = {198, 51, 100, 1}, .family = SG_AF_INET}, .port = 9};

    cr_assert_eq(engine_connect(h.e, h.sid, s, &far, h.now_us), 0);
    send_text(s, "x");
    expect_question(GATEWAY, 255);
    reply_from(GATEWAY);
    expect_datagram(GATEWAY, "x");
}

Test(neigh, oldest_waiting_packet_makes_way_and_is_counted)
{
    uint32_t s = socket_to(1);
    char text[16];

    for (unsigned i = 0; i < NEIGH_WAIT_MAX + 10; i++) {
        snprintf(text, sizeof(text), "%u", i);
        send_text(s, text);
        while (host_tx(&h))
            ;
    }
    rig_check(&h);
    cr_assert_eq(host_counter(&h, "DropNeighQueue"), 10);
    reply_from(1);
    expect_datagram(1, "10");
}

Test(neigh, pool_of_waiting_packets_is_bounded)
{
    char text[16];

    for (uint8_t last = 10; last < 30; last++) {
        uint32_t s = socket_to(last);

        for (unsigned i = 0; i < 50; i++) {
            snprintf(text, sizeof(text), "%u", i);
            send_text(s, text);
            while (host_tx(&h))
                ;
        }
        rig_check(&h);
    }
    cr_assert_eq(host_counter(&h, "DropNeighQueue"), 20 * 50 - NEIGH_WAIT_POOL);
    for (int i = 0; i < 4; i++)
        advance(SECOND);
    cr_assert_eq(host_counter(&h, "DropNeighFailed"), NEIGH_WAIT_POOL);
}

Test(neigh, answer_that_finds_the_frame_queue_full_is_used_when_there_is_room)
{
    uint32_t s = socket_to(1);
    struct pktq *q = &h.e->txq;
    uint32_t filled = 0;

    send_text(s, "late");
    expect_question(1, 255);
    for (struct pktbuf *p; (p = pktq_get(q)); filled++)
        net_send_frame(h.e, p, 0, mac_of(1), ETH_TYPE_ARP);
    reply_from(1);
    rig_check(&h);
    cr_assert(net_loop_pending(h.e));
    for (uint32_t i = 0; i < filled; i++)
        cr_assert_not_null(host_tx(&h));
    expect_datagram(1, "late");
    cr_assert_not(net_loop_pending(h.e));
}

/* ---- Life of an entry -----------------------------------------------------------------------------------
 */

Test(neigh, stale_neighbour_is_used_at_once_and_asked_by_unicast_after_the_delay)
{
    uint32_t s = socket_to(1);

    send_text(s, "a");
    expect_question(1, 255);
    reply_from(1);
    expect_datagram(1, "a");
    advance(NEIGH_REACHABLE_US + 1);
    cr_assert_str_eq(state_of(1), "STALE");
    expect_nothing(&h);
    send_text(s, "b");
    expect_datagram(1, "b");
    cr_assert_str_eq(state_of(1), "PROBE");
    advance(NEIGH_DELAY_US - NEIGH_TICK_US);
    expect_nothing(&h);
    advance(2 * NEIGH_TICK_US);
    expect_question(1, 1);
    send_text(s, "c");
    expect_datagram(1, "c");
    reply_from(1);
    cr_assert_str_eq(state_of(1), "REACHABLE");
}

Test(neigh, silent_probe_fails_and_the_next_packet_asks_everybody_at_once)
{
    uint32_t s = socket_to(1);

    send_text(s, "a");
    expect_question(1, 255);
    reply_from(1);
    expect_datagram(1, "a");
    advance(NEIGH_REACHABLE_US + 1);
    send_text(s, "b");
    expect_datagram(1, "b");
    advance(NEIGH_DELAY_US + NEIGH_TICK_US);
    for (int i = 0; i < 3; i++) {
        expect_question(1, 1);
        expect_nothing(&h);
        advance(SECOND + NEIGH_TICK_US);
    }
    expect_nothing(&h);
    cr_assert_str_eq(state_of(1), "FAILED");
    send_text(s, "c");
    expect_question(1, 255);
    cr_assert_eq(app_error(&h, s), 0);
}

Test(neigh, confirmation_keeps_a_neighbour_reachable_without_questions)
{
    struct ip_addr peer = net_ip_addr(NET4(1));
    uint32_t s = socket_to(1);

    send_text(s, "a");
    expect_question(1, 255);
    reply_from(1);
    expect_datagram(1, "a");
    for (int i = 0; i < 10; i++) {
        advance(NEIGH_REACHABLE_US - SECOND);
        neigh_confirm(h.e, &peer, h.now_us);
        send_text(s, "b");
        expect_datagram(1, "b");
        expect_nothing(&h);
        cr_assert_str_eq(state_of(1), "REACHABLE");
    }
    /* From beyond the link the gateway is what is confirmed; an unknown one is no error. */
    peer = net_ip_addr(0xc6336401);
    neigh_confirm(h.e, &peer, h.now_us);
    cr_assert_str_eq(state_of(GATEWAY), "");
}

Test(neigh, confirmation_during_the_delay_spares_the_question)
{
    struct ip_addr peer = net_ip_addr(NET4(1));
    uint32_t s = socket_to(1);

    rig_resolve(&h, 1);
    send_text(s, "a");
    expect_datagram(1, "a");
    cr_assert_str_eq(state_of(1), "PROBE");
    neigh_confirm(h.e, &peer, h.now_us);
    advance(NEIGH_DELAY_US + SECOND);
    expect_nothing(&h);
    cr_assert_str_eq(state_of(1), "REACHABLE");
}

Test(neigh, unused_neighbour_is_forgotten)
{
    rig_resolve(&h, 1);
    cr_assert_str_eq(state_of(1), "STALE");
    advance(NEIGH_UNUSED_US - SECOND);
    cr_assert_str_eq(state_of(1), "STALE");
    advance(SECOND);
    cr_assert_str_eq(state_of(1), "");
    cr_assert_eq(engine_deadline(h.e), UINT64_MAX);
}

/* ---- What ARP packets may do ----------------------------------------------------------------------------
 */

Test(neigh, request_for_us_is_answered_and_its_sender_remembered)
{
    struct arp_pkt a;
    const uint8_t *mac;

    arp_in(ARP_REQUEST, 1, NET4(1), 255, HOST4);
    expect_arp(&h, &a, &mac);
    cr_assert(eth_eq(mac, mac_of(1)));
    cr_assert_eq(a.op, ARP_REPLY);
    cr_assert_eq(a.spa, HOST4);
    cr_assert_eq(a.tpa, NET4(1));
    cr_assert(eth_eq(a.sha, mac_of(HOST_LAST)));
    cr_assert(eth_eq(a.tha, mac_of(1)));
    cr_assert_str_eq(state_of(1), "STALE");
}

Test(neigh, nothing_unasked_creates_an_entry)
{
    arp_in(ARP_REQUEST, 1, NET4(1), 255, NET4(9)); /* for somebody else */
    arp_in(ARP_REPLY, 3, NET4(3), HOST_LAST, HOST4);
    arp_in(ARP_REQUEST, 4, NET4(4), 255, NET4(4)); /* gratuitous */
    arp_in(ARP_REPLY, 5, NET4(5), 255, NET4(5));
    expect_nothing(&h);
    for (uint8_t last = 1; last < 6; last++)
        cr_assert_str_eq(state_of(last), "");
}

Test(neigh, address_probe_is_answered_and_teaches_nothing)
{
    struct arp_pkt a;
    const uint8_t *mac;

    arp_in(ARP_REQUEST, 1, 0, 255, HOST4); /* RFC 5227 2.1.1 */
    expect_arp(&h, &a, &mac);
    cr_assert_eq(a.op, ARP_REPLY);
    cr_assert_eq(a.tpa, 0);
    cr_assert_str_eq(state_of(1), "");
    cr_assert_eq(host_counter(&h, "ArpConflict"), 0);
}

Test(neigh, gratuitous_arp_moves_a_known_neighbour)
{
    uint32_t s = socket_to(1);

    rig_resolve(&h, 1);
    advance(2 * SECOND);
    arp_in(ARP_REQUEST, 77, NET4(1), 255, NET4(1));
    send_text(s, "a");
    expect_datagram(77, "a");
}

Test(neigh, address_just_learnt_is_not_overwritten)
{
    uint32_t s = socket_to(1);

    send_text(s, "a");
    expect_question(1, 255);
    reply_from(1);
    expect_datagram(1, "a");
    arp_in(ARP_REPLY, 66, NET4(1), HOST_LAST, HOST4);
    send_text(s, "b");
    expect_datagram(1, "b");
}

Test(neigh, answer_nobody_asked_for_is_no_proof)
{
    rig_resolve(&h, 1);
    advance(2 * SECOND);
    reply_from(1);
    cr_assert_str_eq(state_of(1), "STALE");
}

Test(neigh, malformed_arp_is_counted_and_ignored)
{
    unsigned bad = 0;

    for (unsigned at = 0; at < 8; at++) { /* each byte of the fixed part is checked */
        frame_arp(&f, ARP_REQUEST, 1, NET4(1), 255, HOST4);
        f.b[ETH_HDR_BYTES + at] ^= 0x40;
        frame_in(&h, &f);
        cr_assert_eq(host_counter(&h, "DropArpBad"), ++bad, "byte %u", at);
    }
    for (uint32_t len = 0; len < ARP_BYTES; len++) {
        frame_arp(&f, ARP_REQUEST, 1, NET4(1), 255, HOST4);
        f.len = ETH_HDR_BYTES + len;
        frame_in(&h, &f);
        cr_assert_eq(host_counter(&h, "DropArpBad"), ++bad, "%u bytes", len);
    }
    arp_in(ARP_REQUEST, 255, NET4(1), 255, HOST4);       /* from everybody */
    arp_in(ARP_REQUEST, HOST_LAST, NET4(1), 255, HOST4); /* with our MAC and another's address */
    arp_in(ARP_REQUEST, 1, NET4(255), 255, HOST4);
    arp_in(ARP_REQUEST, 1, 0xe0000001, 255, HOST4);
    arp_in(ARP_REPLY, 1, 0, HOST_LAST, HOST4);
    cr_assert_eq(host_counter(&h, "DropArpBad"), bad + 5);
    expect_nothing(&h);
    cr_assert_str_eq(state_of(1), "");
}

/* ---- Our own address --------------------------------------------------------------------------------------
 */

Test(neigh, conflict_is_noticed_and_defended_at_a_limited_rate)
{
    struct arp_pkt a;
    const uint8_t *mac;
    char line[160];

    arp_in(ARP_REPLY, 0xab, HOST4, 255, HOST4);
    expect_arp(&h, &a, &mac);
    cr_assert(eth_eq(mac, mac_of(255)));
    cr_assert(a.op == ARP_REQUEST && a.spa == HOST4 && a.tpa == HOST4);
    cr_assert(engine_notice(h.e, line, sizeof(line)));
    cr_assert_str_eq(line, "address conflict: 192.0.2.2 is claimed by 02:00:00:00:00:ab");
    cr_assert_not(engine_notice(h.e, line, sizeof(line)));
    for (int i = 0; i < 9; i++) {
        advance(SECOND);
        arp_in(ARP_REQUEST, 0xab, HOST4, 255, NET4(1));
        expect_nothing(&h);
    }
    cr_assert_not(engine_notice(h.e, line, sizeof(line)));
    cr_assert_eq(host_counter(&h, "ArpConflict"), 10);
    advance(SECOND);
    arp_in(ARP_REQUEST, 0xab, HOST4, 255, NET4(1));
    expect_arp(&h, &a, &mac);
    cr_assert(engine_notice(h.e, line, sizeof(line)));
}

Test(neigh, our_own_announcement_coming_back_is_no_conflict)
{
    arp_in(ARP_REQUEST, HOST_LAST, HOST4, 255, HOST4);
    expect_nothing(&h);
    cr_assert_eq(host_counter(&h, "ArpConflict"), 0);
}

Test(neigh, address_is_announced_twice)
{
    struct arp_pkt a;
    const uint8_t *mac;

    engine_announce(h.e, h.now_us);
    for (int i = 0; i < 2; i++) {
        expect_arp(&h, &a, &mac);
        cr_assert(eth_eq(mac, mac_of(255)));
        cr_assert(a.op == ARP_REQUEST && a.spa == HOST4 && a.tpa == HOST4);
        expect_nothing(&h);
        if (i == 0)
            cr_assert_eq(engine_deadline(h.e), h.now_us + ARP_ANNOUNCE_INTERVAL_US);
        advance(ARP_ANNOUNCE_INTERVAL_US);
    }
    advance(10 * SECOND);
    expect_nothing(&h);
}

/* ---- Limits
 * ------------------------------------------------------------------------------------------------ */

Test(neigh, full_table_forgets_the_stale_neighbour_unused_for_longest_but_not_the_gateway)
{
    uint8_t end = (uint8_t)(10 + h.cfg.neigh_max - 1);
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    rig_resolve(&h, GATEWAY);
    for (uint8_t last = 10; last < end; last++) {
        struct ip_addr peer = net_ip_addr(NET4(last));

        rig_resolve(&h, last);
        if (last == 15)
            continue; /* All but one are used. */
        cr_assert_eq(app_sendto(&h, s, "x", 1, last, 9), 1);
        expect_datagram(last, "x");
        neigh_confirm(h.e, &peer, h.now_us);
        advance(1000);
    }
    advance(NEIGH_REACHABLE_US + SECOND);
    rig_resolve(&h, 200);
    cr_assert_str_eq(state_of(15), "");
    cr_assert_str_eq(state_of(10), "STALE");
    cr_assert_eq(app_sendto(&h, s, "x", 1, 200, 9), 1);
    expect_datagram(200, "x");
    rig_resolve(&h, 201);
    cr_assert_str_eq(state_of(10), "");
    cr_assert_str_eq(state_of(11), "STALE");
    cr_assert_str_eq(state_of(GATEWAY), "STALE");
    cr_assert_str_eq(state_of(200), "PROBE");
    cr_assert_eq(host_counter(&h, "DropNeighFull"), 0);
}

Test(neigh, table_full_of_neighbours_in_use_refuses_more)
{
    uint32_t count = h.cfg.neigh_max;

    for (uint8_t last = 10; last < 10 + count; last++)
        send_text(socket_to(last), "x"); /* all INCOMPLETE */
    while (host_tx(&h))
        ;
    send_text(socket_to(200), "x");
    expect_nothing(&h);
    cr_assert_eq(host_counter(&h, "DropNeighFull"), 1);
    /* A request is answered all the same. */
    rig_resolve(&h, 201);
    cr_assert_str_eq(state_of(201), "");
}

Test(neigh, random_arp_and_traffic_keep_the_table_consistent)
{
    uint64_t r = rnd_seed("neigh");
    uint32_t s = app_socket(&h, SG_SOCK_DGRAM);

    for (int i = 0; i < 20000; i++) {
        uint8_t last = (uint8_t)(10 + rnd_next(&r) % 60);

        switch (rnd_next(&r) % 8) {
        case 0:
            arp_in(ARP_REQUEST, last, NET4(last), 255, HOST4);
            break;
        case 1:
            arp_in(ARP_REPLY, (uint8_t)rnd_next(&r) & 0xfe, NET4(last), HOST_LAST, HOST4);
            break;
        case 2:
            frame_arp(&f, ARP_REQUEST, last, NET4(last), 255, HOST4);
            f.b[rnd_next(&r) % f.len] = (uint8_t)rnd_next(&r);
            frame_in(&h, &f);
            break;
        case 3:
            advance(rnd_next(&r) % (3 * SECOND));
            break;
        case 4:
            while (host_tx(&h))
                ;
            break;
        default:
            (void)app_sendto(&h, s, "x", 1, last, 9);
            break;
        }
        if (i % 64 == 0)
            rig_check(&h);
    }
    while (host_tx(&h))
        ;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Path MTU by ICMP and its memory (RFC 1191, RFC 5927 7), MSS (RFC 9293 3.7.1, RFC 6691). */
#include <criterion/criterion.h>

#include "daemon/engine/mtu_disc.h"
#include "tests/segment/peer.h"

#define TOO_BIG(p, mtu, seq, quoted) peer_icmp((p), 3, 4, (mtu), (seq), (quoted))

static uint32_t mss(struct peer *p)
{
    struct engine_sock_info info;

    cr_assert(host_find(&p->h, "ESTABLISHED", &info));
    return info.mss;
}

/* Three full segments in flight. */
static void in_flight(struct peer *p)
{
    peer_established(p);
    peer_write(p, 1460 * 3);
    seg_drain(p);
}

/* A second connection from another port, in p->slot; its MSS. */
static uint32_t second_mss(struct peer *p)
{
    struct engine_sock_info info;
    uint64_t cursor = 0;

    p->peer_port++;
    seg_send(p, (struct seg){.flags = TCP_SYN, .mss = 1460, .sack_perm = true});
    while (engine_tx_pending(p->h.e))
        if (seg_take(p).flags == (TCP_SYN | TCP_ACK))
            break;
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p->slot = (uint32_t)app_accept(&p->h, p->listener);
    while (engine_sock_next(p->h.e, &cursor, p->h.now_us, &info))
        if (info.kind == ENGINE_SOCK_TCP && info.remote.port == p->peer_port)
            return info.mss;
    return 0;
}

Test(pmtu, what_icmp_says_holds_for_new_connections)
{
    struct peer p;

    peer_start(&p, NULL);
    in_flight(&p);
    TOO_BIG(&p, 1000, 1, 1500);
    seg_drain(&p);
    cr_assert_eq(mss(&p), 960);
    cr_assert_eq(second_mss(&p), 960); /* RFC 1191 5.2 */
    cr_assert_eq(host_counter(&p.h, "PathMtuLowered"), 1);
    peer_stop(&p);
}

Test(pmtu, and_for_those_that_are_open_already)
{
    struct peer p;
    uint32_t first_isn, second_isn;

    peer_start(&p, NULL);
    in_flight(&p);
    first_isn = p.host_isn;
    cr_assert_eq(second_mss(&p), 1460);
    second_isn = p.host_isn;
    p.host_isn = first_isn;
    p.peer_port--;
    TOO_BIG(&p, 1000, 1, 1500);
    seg_drain(&p);
    p.host_isn = second_isn;
    p.peer_port++;
    peer_write(&p, 3000); /* On the second one, which was told nothing itself. */
    cr_assert_eq(seg_take(&p).len, 960);
    peer_stop(&p);
}

Test(pmtu, an_error_about_a_connection_with_nothing_in_flight_is_forged)
{
    struct peer p;

    peer_start(&p, NULL);
    in_flight(&p);
    cr_assert_eq(second_mss(&p), 1460);
    TOO_BIG(&p, 1000, 1, 1500); /* About the second one. */
    cr_assert_eq(host_counter(&p.h, "PathMtuLowered"), 0);
    peer_stop(&p);
}

Test(pmtu, is_forgotten_after_ten_minutes) /* RFC 1191 6.3 */
{
    struct peer p;

    peer_start(&p, NULL);
    in_flight(&p);
    TOO_BIG(&p, 1000, 1, 1500);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + 1460 * 3});
    peer_wait(&p, UINT64_C(590) * 1000000);
    peer_write(&p, 3000);
    cr_assert_eq(seg_take(&p).len, 960);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + 1460 * 3 + 3000});
    peer_wait(&p, UINT64_C(20) * 1000000);
    peer_write(&p, 3000);
    cr_assert_eq(seg_take(&p).len, 1460);
    peer_stop(&p);
}

Test(pmtu, the_quoted_packet_must_have_been_too_long) /* RFC 5927 7.2 */
{
    static const struct {
        uint16_t mtu, quoted;
    } lies[] = {{1000, 1000}, {1000, 60}, {1400, 1300}, {1000, 1501}, {1000, 9000}, {68, 500}};
    struct peer p;

    peer_start(&p, NULL);
    in_flight(&p);
    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
        TOO_BIG(&p, lies[i].mtu, 1, lies[i].quoted);
    seg_none(&p);
    cr_assert_eq(mss(&p), 1460);
    cr_assert_eq(host_counter(&p.h, "PathMtuIgnored"), 6);
    peer_stop(&p);
}

Test(pmtu, a_router_that_gives_no_mtu_is_answered_with_the_next_common_size) /* RFC 1191 5 */
{
    struct peer p;

    peer_start(&p, NULL);
    in_flight(&p);
    TOO_BIG(&p, 0, 1, 1500);
    seg_drain(&p);
    cr_assert_eq(mss(&p), 1492 - 40);
    TOO_BIG(&p, 0, 1, 1492);
    seg_drain(&p);
    cr_assert_eq(mss(&p), 1280 - 40);
    peer_stop(&p);
}

Test(pmtu, never_falls_below_the_floor) /* RFC 5927 7.2; Linux's min_pmtu */
{
    struct peer p;

    peer_start(&p, NULL);
    in_flight(&p);
    TOO_BIG(&p, 68, 1, 1500);
    seg_drain(&p);
    cr_assert_eq(mss(&p), 552 - 40);
    TOO_BIG(&p, 68, 1, 552);
    seg_drain(&p);
    cr_assert_eq(mss(&p), 552 - 40);
    peer_stop(&p);
}

static void three_records(struct engine_config *cfg)
{
    cfg->txseg_max = 3;
}

/* Segments in flight are too long and there is no record for their pieces: they go out piece by piece, each
 * once, and the engine has nothing to do in between. */
Test(pmtu, what_is_in_flight_is_cut_without_records_too)
{
    uint32_t una = 1;
    struct seg s;
    struct peer p;

    peer_start(&p, three_records);
    in_flight(&p);
    TOO_BIG(&p, 552, 1, 1500);
    for (unsigned i = 0; una < 1 + 1460 * 3; i++) {
        cr_assert(i < 100, "stuck at %u", una);
        if (!seg_next(&p, &s)) {
            cr_assert(!engine_tx_pending(p.h.e), "busy with nothing at %u", una);
            peer_wait_tx(&p, 120000000);
            continue;
        }
        cr_assert_leq(s.len, 512);
        if (s.seq != una || !s.len)
            continue;
        una += s.len;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = una});
    }
    peer_stop(&p);
}

#define L_IP           0u
#define O_MTU_DISCOVER 10u

static void discover(struct peer *p, uint32_t slot, enum mtu_disc how)
{
    cr_assert_eq(engine_setopt(p->h.e, p->h.sid, slot, L_IP, O_MTU_DISCOVER, how, p->h.now_us), 0);
}

/* Without DF, from the SYN-ACK on, each packet of what a device may cut included (RFC 6864 4.1). */
Test(mtu_disc, connections_inherit_it_from_their_listener)
{
    uint16_t id;
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 8);
    discover(&p, p.listener, MTU_DISC_DONT);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    cr_assert(!p.last_df);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    peer_write(&p, 1460);
    seg_expect(&p, .flags = TCP_ACK | TCP_PSH, .len = 1460);
    cr_assert(!p.last_df);
    id = p.last_id;
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK | TCP_PSH, .len = 100);
    cr_assert_eq((uint16_t)(p.last_id - id), 1);
    discover(&p, p.slot, MTU_DISC_DO);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1561});
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK | TCP_PSH, .len = 100);
    cr_assert(p.last_df && !p.last_id);
    peer_stop(&p);
}

Test(mtu_disc, holds_for_the_syn)
{
    struct peer p;
    uint32_t s;

    peer_start(&p, NULL);
    s = app_socket(&p.h, SG_SOCK_STREAM);
    discover(&p, s, MTU_DISC_DONT);
    cr_assert_eq(app_connect(&p.h, s, 1, PEER_PORT), 0);
    p.host_port = p.h.slots[s].n.local_port;
    seg_expect(&p, .flags = TCP_SYN);
    cr_assert(!p.last_df);
    peer_stop(&p);
}

static void probes_always(struct engine_config *cfg)
{
    cfg->mtu_probing = ENGINE_ALWAYS;
}

/* RFC 4821 3: packets that routers may cut tell nothing about the path. */
Test(mtu_disc, path_is_not_searched_by_packets_that_may_be_cut)
{
    for (unsigned how = MTU_DISC_DONT; how <= MTU_DISC_OMIT; how++) {
        bool probes = how == MTU_DISC_WANT || how == MTU_DISC_DO;
        struct peer p;

        peer_start(&p, probes_always);
        peer_listen(&p, 8);
        discover(&p, p.listener, (enum mtu_disc)how);
        seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
        p.slot = (uint32_t)app_accept(&p.h, p.listener);
        cr_assert_eq(mss(&p), probes ? 1024 : 1460, "%u", how);
        peer_stop(&p);
    }
}

Test(mtu_disc, segments_of_interface_and_omit_stay_those_of_the_link)
{
    for (unsigned how = MTU_DISC_DONT; how <= MTU_DISC_OMIT; how++) {
        bool believes = how < MTU_DISC_INTERFACE;
        struct peer p;

        peer_start(&p, NULL);
        in_flight(&p);
        discover(&p, p.slot, (enum mtu_disc)how);
        TOO_BIG(&p, 1000, 1, 1500);
        cr_assert_eq(host_counter(&p.h, "PathMtuLowered"), believes);
        seg_drain(&p);
        cr_assert_eq(mss(&p), how < MTU_DISC_PROBE ? 960 : 1460, "%u", how);
        discover(&p, p.slot, MTU_DISC_WANT);
        cr_assert_eq(mss(&p), believes ? 960 : 1460, "%u", how);
        peer_stop(&p);
    }
}

Test(pmtu, the_offer_is_that_of_the_interface_whatever_the_path) /* RFC 1191 3.1 */
{
    struct peer p;

    peer_start(&p, NULL);
    in_flight(&p);
    TOO_BIG(&p, 1000, 1, 1500);
    seg_drain(&p);
    p.peer_port++;
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    for (;;) {
        struct seg s = seg_take(&p);

        if (!(s.flags & TCP_SYN))
            continue;
        cr_assert_eq(s.mss, 1460);
        break;
    }
    peer_stop(&p);
}

static void clamp(struct engine_config *cfg)
{
    cfg->mss_clamp = 1200;
}

Test(mss, the_clamp_holds_in_both_directions)
{
    struct peer p;

    peer_start(&p, clamp);
    peer_connecting(&p);
    peer_stop(&p);
    peer_start(&p, clamp);
    peer_listen(&p, 8);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    cr_assert_eq(seg_take(&p).mss, 1200);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    peer_write(&p, 3000);
    cr_assert_eq(seg_take(&p).len, 1200);
    peer_stop(&p);
}

Test(mss, timestamps_come_off_and_the_offer_does_not_count_them) /* RFC 6691 2 */
{
    struct peer p;
    const struct peer_opts o = {.mss = 1460, .sack = true, .ts = true, .wnd = 65535};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 3000);
    cr_assert_eq(seg_take(&p).len, 1448);
    peer_stop(&p);
}

Test(mss, without_the_option_a_peer_takes_536) /* RFC 9293 3.7.1 MUST-15 */
{
    struct peer p;
    const struct peer_opts o = {.sack = true, .wnd = 65535};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 3000);
    cr_assert_eq(seg_take(&p).len, 536);
    peer_stop(&p);
}

Test(mss, a_tiny_offer_has_a_floor)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1, .sack = true, .wnd = 65535};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 200);
    cr_assert_eq(seg_take(&p).len, 48);
    peer_stop(&p);
}

/* ---- The device's own MTU changes ---------------------------------------------------------------------- */

static void device_mtu(struct peer *p, uint16_t mtu)
{
    const struct engine_link l = {.up = true, .mtu = mtu};

    engine_link(p->h.e, 0, &l, p->h.now_us);
}

Test(pmtu, device_mtu_lowered_cuts_what_is_in_flight_and_what_follows)
{
    struct peer p;

    peer_start(&p, NULL);
    in_flight(&p);
    device_mtu(&p, 1000);
    peer_write(&p, 3000);
    seg_expect(&p, .seq = 1, .len = 960, .check = C_SEQ | C_LEN);
    cr_assert_eq(mss(&p), 960);
    seg_drain(&p);
    cr_assert_eq(second_mss(&p), 960);
    peer_stop(&p);
}

Test(pmtu, device_mtu_raised_is_used_as_far_as_the_peer_takes_it)
{
    struct peer p;

    peer_start(&p, NULL);
    device_mtu(&p, 1000);
    peer_established(&p);
    cr_assert_eq(mss(&p), 960);
    device_mtu(&p, 1500);
    peer_write(&p, 1460);
    seg_expect(&p, .len = 1460, .check = C_LEN);
    peer_stop(&p);
}

static void no_probing(struct engine_config *cfg)
{
    cfg->mtu_probing = ENGINE_NEVER; /* time-outs keep the size */
}

/* A link that is down says nothing about how large a segment may be: the connection waits as it is. */
Test(pmtu, connection_outlives_a_link_that_was_down)
{
    const struct engine_link down = {.up = false, .mtu = 1400};
    struct peer p;

    peer_start(&p, no_probing);
    in_flight(&p);
    engine_link(p.h.e, 0, &down, p.h.now_us);
    peer_wait(&p, 3000000);
    seg_none(&p);
    cr_assert_eq(mss(&p), 1460);
    device_mtu(&p, 1500);
    (void)peer_wait_tx(&p, 60000000);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 500}); /* its address is known again */
    seg_drain(&p);
    (void)peer_wait_tx(&p, 60000000);
    seg_expect(&p, .seq = 1, .len = 1460, .check = C_SEQ | C_LEN);
    peer_stop(&p);
}

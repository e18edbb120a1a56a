/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP errors about TCP segments: RFC 1122 4.2.3.9, RFC 1191, RFC 5461, RFC 5927. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

#define UNREACH_NET      0u
#define UNREACH_HOST     1u
#define UNREACH_PORT     3u
#define UNREACH_FRAG     4u
#define SOURCE_QUENCH    4u
#define TIME_EXCEEDED    11u
#define DEST_UNREACHABLE 3u

static void icmp(struct peer *p, uint8_t type, uint8_t code, uint16_t mtu, uint32_t seq)
{
    peer_icmp(p, type, code, mtu, seq, 1500);
}

Test(icmp_tcp, port_unreachable_refuses_a_connection_attempt)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    icmp(&p, DEST_UNREACHABLE, UNREACH_PORT, 0, 0);
    cr_assert_eq(app_error(&p.h, p.slot), ECONNREFUSED);
    peer_stop(&p);
}

Test(icmp_tcp, an_error_that_quotes_another_number_is_ignored)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    icmp(&p, DEST_UNREACHABLE, UNREACH_PORT, 0, 1);
    icmp(&p, DEST_UNREACHABLE, UNREACH_PORT, 0, UINT32_MAX);
    cr_assert_eq(app_error(&p.h, p.slot), 0); /* RFC 5927 4 */
    cr_assert_str_eq(peer_state(&p), "SYN_SENT");
    cr_assert_eq(host_counter(&p.h, "IcmpErrUnmatched"), 2);
    peer_stop(&p);
}

Test(icmp_tcp, no_error_ends_an_established_connection)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 100);
    seg_drain(&p);
    for (uint8_t code = 0; code < 16; code++)
        if (code != UNREACH_FRAG)
            icmp(&p, DEST_UNREACHABLE, code, 0, 1);
    icmp(&p, TIME_EXCEEDED, 0, 0, 1);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED"); /* RFC 5927 5.2 */
    cr_assert_eq(app_error(&p.h, p.slot), 0);
    peer_stop(&p);
}

static unsigned half_open(struct peer *p)
{
    return host_count(&p->h, "SYN_RECEIVED");
}

Test(icmp_tcp, a_half_open_request_ends_when_its_peer_is_unreachable)
{
    for (int round = 0; round < 3; round++) {
        struct peer p;

        peer_start(&p, NULL);
        peer_syn_received(&p);
        seg_drain(&p);
        cr_assert_eq(half_open(&p), 1);
        if (round == 2)
            icmp(&p, TIME_EXCEEDED, 0, 0, 0);
        else
            icmp(&p, DEST_UNREACHABLE, round ? UNREACH_HOST : UNREACH_NET, 0, 0);
        cr_assert_eq(half_open(&p), 0);
        cr_assert_eq(host_counter(&p.h, "TcpListenDrops"), 1);
        peer_wait(&p, 5000000);
        seg_none(&p);
        peer_stop(&p);
    }
}

Test(icmp_tcp, a_half_open_request_survives_what_need_not_be_about_it)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_drain(&p);
    icmp(&p, DEST_UNREACHABLE, UNREACH_HOST, 0, 1); /* RFC 5927 4: not the number of the SYN-ACK */
    icmp(&p, DEST_UNREACHABLE, UNREACH_HOST, 0, UINT32_MAX);
    cr_assert_eq(host_counter(&p.h, "IcmpErrUnmatched"), 2);
    icmp(&p, DEST_UNREACHABLE, UNREACH_PORT, 0, 0);
    icmp(&p, DEST_UNREACHABLE, UNREACH_FRAG, 576, 0);
    cr_assert_eq(half_open(&p), 1);
    cr_assert_eq(host_counter(&p.h, "TcpListenDrops"), 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    cr_assert_geq(app_accept(&p.h, p.listener), 0);
    peer_stop(&p);
}

Test(icmp_tcp, source_quench_is_ignored)
{
    struct peer p;
    struct engine_sock_info before, after;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 5000);
    seg_drain(&p);
    cr_assert(host_find(&p.h, "ESTABLISHED", &before));
    icmp(&p, SOURCE_QUENCH, 0, 0, 1);
    cr_assert(host_find(&p.h, "ESTABLISHED", &after));
    cr_assert_eq(before.cwnd_bytes, after.cwnd_bytes); /* RFC 6633 */
    peer_stop(&p);
}

Test(icmp_tcp, fragmentation_needed_lowers_the_mss_and_sends_again)
{
    struct peer p;
    struct seg s;
    uint32_t next = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1460 * 3);
    seg_drain(&p);
    icmp(&p, DEST_UNREACHABLE, UNREACH_FRAG, 1000, 1);
    while (engine_tx_pending(p.h.e)) { /* the whole flight again, in smaller pieces */
        s = seg_take(&p);
        cr_assert_leq(s.len, 960);
        cr_assert_eq(s.seq, next);
        next = s.seq + s.len;
    }
    cr_assert_gt(next, 960);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + 1460 * 3});
    seg_drain(&p);
    peer_write(&p, 3000);
    cr_assert_eq(seg_take(&p).len, 960);
    peer_stop(&p);
}

Test(icmp_tcp, a_tiny_or_missing_mtu_does_no_harm)
{
    static const uint16_t mtus[] = {0, 1, 20, 40, 52, 68, 296};

    for (unsigned i = 0; i < sizeof(mtus) / sizeof(mtus[0]); i++) {
        struct peer p;

        peer_start(&p, NULL);
        peer_established(&p);
        peer_write(&p, 3000);
        seg_drain(&p);
        icmp(&p, DEST_UNREACHABLE, UNREACH_FRAG, mtus[i], 1);
        seg_drain(&p);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 3001});
        seg_drain(&p);
        peer_write(&p, 3000);
        cr_assert_geq(seg_take(&p).len, 512, "MTU %u", mtus[i]); /* RFC 5927 7.2, Linux's min_pmtu */
        peer_stop(&p);
    }
}

Test(icmp_tcp, a_larger_mtu_changes_nothing)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 3000);
    seg_drain(&p);
    icmp(&p, DEST_UNREACHABLE, UNREACH_FRAG, 1500, 1);
    icmp(&p, DEST_UNREACHABLE, UNREACH_FRAG, 9000, 1);
    seg_none(&p);
    peer_stop(&p);
}

Test(icmp_tcp, the_mss_is_never_raised_above_the_peers)
{
    struct peer p;
    const struct peer_opts o = {.mss = 300, .sack = true, .wnd = 65535};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    peer_write(&p, 600);
    seg_drain(&p);
    icmp(&p, DEST_UNREACHABLE, UNREACH_FRAG, 200, 1);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 601});
    peer_write(&p, 2000);
    while (engine_tx_pending(p.h.e))
        cr_assert_leq(seg_take(&p).len, 300);
    peer_stop(&p);
}

Test(icmp_tcp, fragmentation_needed_must_quote_what_is_in_flight)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 3000);
    seg_drain(&p);
    icmp(&p, DEST_UNREACHABLE, UNREACH_FRAG, 600, 3001);
    icmp(&p, DEST_UNREACHABLE, UNREACH_FRAG, 600, 0);
    seg_none(&p);
    peer_stop(&p);
}

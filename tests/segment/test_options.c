/* SPDX-License-Identifier: Apache-2.0 */
/* Socket options: values, limits and what they do. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

#define L_SOCKET       1u
#define L_TCP          6u
#define L_IP           0u
#define L_IPV6         41u
#define O_TOS          1u
#define O_TTL          2u
#define O_UNICAST_HOPS 16u
#define O_OOBINLINE    10u
#define O_REUSEADDR    2u
#define O_ERROR        4u
#define O_SNDBUF       7u
#define O_RCVBUF       8u
#define O_KEEPALIVE    9u
#define O_LINGER       13u
#define O_ACCEPTCONN   30u
#define O_NODELAY      1u
#define O_MAXSEG       2u
#define O_CORK         3u
#define O_KEEPIDLE     4u
#define O_KEEPINTVL    5u
#define O_KEEPCNT      6u
#define O_QUICKACK     12u
#define O_USER_TIMEOUT 18u

static int set(struct peer *p, uint32_t level, uint32_t name, uint64_t value)
{
    return engine_setopt(p->h.e, p->h.sid, p->slot, level, name, value, p->h.now_us);
}

static uint64_t get(struct peer *p, uint32_t level, uint32_t name)
{
    uint64_t value = 0;

    cr_assert_eq(engine_getopt(p->h.e, p->h.sid, p->slot, level, name, &value), 0);
    return value;
}

Test(options, are_kept)
{
    static const struct {
        uint32_t level, name;
        uint64_t value;
    } cases[] = {
        {L_SOCKET, O_REUSEADDR, 1},  {L_SOCKET, O_KEEPALIVE, 1}, {L_SOCKET, O_LINGER, UINT64_C(7) << 32 | 1},
        {L_SOCKET, O_SNDBUF, 65536}, {L_SOCKET, O_RCVBUF, 8192}, {L_TCP, O_NODELAY, 1},
        {L_TCP, O_CORK, 1},          {L_TCP, O_KEEPIDLE, 33},    {L_TCP, O_KEEPINTVL, 44},
        {L_TCP, O_KEEPCNT, 5},       {L_TCP, O_QUICKACK, 1},     {L_TCP, O_USER_TIMEOUT, 12345},
        {L_TCP, O_MAXSEG, 1000},     {L_SOCKET, O_REUSEADDR, 0}, {L_TCP, O_NODELAY, 0},
    };
    struct peer p;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(set(&p, cases[i].level, cases[i].name, cases[i].value), 0, "case %u", i);
        cr_assert_eq(get(&p, cases[i].level, cases[i].name), cases[i].value, "case %u", i);
    }
    peer_stop(&p);
}

Test(options, have_linuxs_limits)
{
    static const struct {
        uint32_t name;
        uint64_t value;
        int rc;
    } cases[] = {
        {O_MAXSEG, 87, -EINVAL},
        {O_MAXSEG, 88, 0},
        {O_MAXSEG, 32768, -EINVAL},
        {O_KEEPIDLE, 0, -EINVAL},
        {O_KEEPIDLE, 32767, 0},
        {O_KEEPIDLE, 32768, -EINVAL},
        {O_KEEPINTVL, 0, -EINVAL},
        {O_KEEPCNT, 0, -EINVAL},
        {O_KEEPCNT, 127, 0},
        {O_KEEPCNT, 128, -EINVAL},
        {O_USER_TIMEOUT, UINT64_C(1) << 31, -EINVAL},
        {99, 1, -ENOPROTOOPT},
    };
    struct peer p;
    uint64_t v;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        cr_assert_eq(set(&p, L_TCP, cases[i].name, cases[i].value), cases[i].rc, "case %u", i);
    cr_assert_eq(set(&p, 77, 1, 1), -ENOPROTOOPT);
    cr_assert_eq(set(&p, L_SOCKET, 99, 1), -ENOPROTOOPT);
    cr_assert_eq(engine_getopt(p.h.e, p.h.sid, p.slot, L_SOCKET, 99, &v), -ENOPROTOOPT);
    cr_assert_eq(engine_getopt(p.h.e, p.h.sid, 4000, L_SOCKET, O_ERROR, &v), -EBADF);
    peer_stop(&p);
}

Test(options, acceptconn_tells_a_listener)
{
    struct peer p;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(get(&p, L_SOCKET, O_ACCEPTCONN), 0);
    app_bind(&p.h, p.slot, 80);
    app_listen(&p.h, p.slot, 1);
    cr_assert_eq(get(&p, L_SOCKET, O_ACCEPTCONN), 1);
    peer_stop(&p);
}

Test(options, nodelay_sends_small_segments_at_once)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_TCP, O_NODELAY, 1);
    for (uint32_t i = 0; i < 5; i++) {
        peer_write(&p, 10);
        seg_expect(&p, .seq = 1 + 10 * i, .len = 10);
    }
    peer_stop(&p);
}

Test(options, nodelay_releases_what_nagle_held)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 10);
    peer_write(&p, 10);
    seg_expect(&p, .seq = 1);
    peer_write(&p, 10);
    seg_none(&p);
    set(&p, L_TCP, O_NODELAY, 1);
    seg_expect(&p, .check = C_LEN, .len = 10);
    peer_stop(&p);
}

Test(options, cork_sends_whole_segments_only_until_it_is_pulled)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_TCP, O_CORK, 1);
    peer_write(&p, 1000);
    seg_none(&p);
    peer_write(&p, 1000);
    seg_expect(&p, .seq = 1, .len = 1460);
    seg_none(&p);
    set(&p, L_TCP, O_CORK, 0);
    seg_expect(&p, .seq = 1461, .len = 540);
    peer_stop(&p);
}

Test(options, cork_lets_the_rest_go_with_the_fin)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_TCP, O_CORK, 1);
    peer_write(&p, 100);
    seg_none(&p);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1, .len = 100);
    peer_stop(&p);
}

Test(options, linger_zero_resets_at_close)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_SOCKET, O_LINGER, 1);
    peer_write(&p, 100);
    seg_drain(&p);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_RST | TCP_ACK, .seq = 101);
    cr_assert_str_eq(peer_state(&p), "", "no TIME_WAIT");
    peer_stop(&p);
}

Test(options, linger_with_a_time_closes_as_usual)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_SOCKET, O_LINGER, UINT64_C(5) << 32 | 1);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    peer_stop(&p);
}

Test(options, user_timeout_ends_a_connection_without_progress)
{
    struct peer p;
    uint64_t begin;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_TCP, O_USER_TIMEOUT, 5000);
    peer_write(&p, 100);
    begin = p.h.now_us;
    while (!app_error(&p.h, p.slot) && p.h.now_us - begin < 100000000) {
        peer_wait_tx(&p, 100000);
        seg_drain(&p);
    }
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    cr_assert(p.h.now_us - begin >= 5000000 && p.h.now_us - begin < 15000000, "after %lu us",
              p.h.now_us - begin);
    peer_stop(&p);
}

Test(options, maxseg_limits_both_directions)
{
    struct peer p;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(set(&p, L_TCP, O_MAXSEG, 600), 0);
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), 0);
    p.host_port = p.h.slots[p.slot].n.local_port;
    cr_assert_eq(seg_expect(&p, .flags = TCP_SYN).mss, 600);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = 1460});
    seg_drain(&p);
    peer_write(&p, 1200);
    seg_expect(&p, .seq = 1, .len = 600);
    cr_assert_eq(get(&p, L_TCP, O_MAXSEG), 600);
    peer_stop(&p);
}

Test(options, quickack_sends_the_ack_that_is_owed)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t i = 0; i < 20; i++) {
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + 10 * i, .ack = 1, .len = 10});
        seg_drain(&p);
    }
    peer_wait(&p, 100000);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 201, .ack = 1, .len = 10});
    seg_none(&p);
    set(&p, L_TCP, O_QUICKACK, 1);
    seg_expect(&p, .flags = TCP_ACK, .ack = 211);
    peer_stop(&p);
}

Test(options, a_receive_buffer_set_before_connect_is_what_is_offered)
{
    struct peer p;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(set(&p, L_SOCKET, O_RCVBUF, 5000), 0);
    cr_assert_eq(get(&p, L_SOCKET, O_RCVBUF), 8192, "the next power of two");
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), 0);
    p.host_port = p.h.slots[p.slot].n.local_port;
    cr_assert_eq(seg_expect(&p, .flags = TCP_SYN).wnd, 8192);
    peer_stop(&p);
}

Test(options, buffer_sizes_have_a_floor_and_a_ceiling)
{
    struct peer p;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(set(&p, L_SOCKET, O_SNDBUF, 1), 0);
    cr_assert_eq(get(&p, L_SOCKET, O_SNDBUF), 4096);
    cr_assert_eq(set(&p, L_SOCKET, O_SNDBUF, 1u << 30), 0);
    cr_assert_eq(get(&p, L_SOCKET, O_SNDBUF), 1u << 24);
    cr_assert_eq(set(&p, L_SOCKET, O_SNDBUF, UINT64_C(1) << 40), -EINVAL);
    peer_stop(&p);
}

Test(options, so_error_tells_of_a_refusal)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_connecting(&p);
    cr_assert_eq(get(&p, L_SOCKET, O_ERROR), 0);
    seg_send(&p, (struct seg){.flags = TCP_RST | TCP_ACK, .ack = 1});
    cr_assert_eq(get(&p, L_SOCKET, O_ERROR), ECONNREFUSED);
    peer_stop(&p);
}

Test(options, user_timeout_counts_while_a_dead_peer_is_probed)
{
    struct peer p;
    uint64_t begin;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_TCP, O_USER_TIMEOUT, 5000);
    peer_write(&p, 1000);
    seg_drain(&p);
    p.h.now_us += 1000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1001, .zero_wnd = true});
    peer_write(&p, 1000);
    begin = p.h.now_us;
    while (!app_error(&p.h, p.slot) && p.h.now_us - begin < 60000000) {
        peer_wait_tx(&p, 1000000);
        seg_drain(&p);
    }
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT, "still probing after 60 s");
    peer_stop(&p);
}

Test(options, a_corked_rest_goes_after_200_ms)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_TCP, O_CORK, 1);
    peer_write(&p, 100);
    seg_none(&p);
    cr_assert_leq(peer_wait_tx(&p, 1000000), 250000);
    seg_expect(&p, .seq = 1, .len = 100);
    peer_stop(&p);
}

/* The IP header of the next frame that carries TCP. */
static const uint8_t *next_ip(struct peer *p)
{
    struct pktbuf *f;

    while ((f = host_tx(&p->h)))
        if (get_be16(f->data + 12) == 0x0800)
            return f->data + 14;
    cr_assert_fail("the host sent nothing");
    return NULL;
}

Test(options, tos_and_ttl_stand_in_every_packet)
{
    struct peer p;
    const uint8_t *ip;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 10);
    ip = next_ip(&p);
    cr_assert_eq(ip[1], 0);
    cr_assert_eq(ip[8], 64);
    cr_assert_eq(set(&p, L_IP, O_TOS, 0xb8 | 3), 0);
    cr_assert_eq(set(&p, L_IP, O_TTL, 9), 0);
    cr_assert_eq(get(&p, L_IP, O_TOS), 0xb8, "the ECN bits are not the application's (RFC 3168 6.1)");
    cr_assert_eq(get(&p, L_IP, O_TTL), 9);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 11});
    peer_write(&p, 10);
    ip = next_ip(&p);
    cr_assert_eq(ip[1] & 0xfc, 0xb8);
    cr_assert_eq(ip[8], 9);
    cr_assert_eq(set(&p, L_IP, O_TTL, UINT64_MAX), 0, "-1: the default again");
    cr_assert_eq(get(&p, L_IP, O_TTL), 64);
    cr_assert_eq(set(&p, L_IP, O_TTL, 0), -EINVAL);
    cr_assert_eq(set(&p, L_IP, O_TTL, 256), -EINVAL);
    cr_assert_eq(set(&p, L_IP, O_TOS, 256), -EINVAL);
    peer_stop(&p);
}

Test(options, tos_and_ttl_stand_in_the_handshake_and_are_inherited)
{
    struct peer p;
    const uint8_t *ip;

    peer_start(&p, NULL);
    peer_listen(&p, 8);
    p.slot = p.listener;
    cr_assert_eq(set(&p, L_IP, O_TOS, 0x20), 0);
    cr_assert_eq(set(&p, L_IP, O_TTL, 33), 0);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    do { /* It asks for our hardware address first. */
        seg_drain(&p);
        seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
        ip = next_ip(&p);
    } while (ip[9] != 6);
    cr_assert_eq(ip[1], 0x20, "SYN-ACK");
    cr_assert_eq(ip[8], 33);
    p.host_isn = get_be32(ip + 24);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    cr_assert_eq(get(&p, L_IP, O_TOS), 0x20);
    cr_assert_eq(get(&p, L_IPV6, O_UNICAST_HOPS), 33);
    peer_write(&p, 10);
    ip = next_ip(&p);
    cr_assert_eq(ip[1], 0x20);
    cr_assert_eq(ip[8], 33);
    peer_stop(&p);
}

Test(options, urgent_data_cannot_be_taken_out_of_line)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(get(&p, L_SOCKET, O_OOBINLINE), 1); /* RFC 6093 6 */
    cr_assert_eq(set(&p, L_SOCKET, O_OOBINLINE, 1), 0);
    cr_assert_eq(set(&p, L_SOCKET, O_OOBINLINE, 0), -EOPNOTSUPP);
    peer_stop(&p);
}

Test(options, what_needs_a_privilege_is_refused_and_what_means_nothing_here_is_unknown)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(set(&p, L_SOCKET, 36 /* SO_MARK */, 1), -EPERM);
    cr_assert_eq(set(&p, L_SOCKET, 49 /* SO_INCOMING_CPU */, 1), -ENOPROTOOPT);
    cr_assert_eq(set(&p, L_SOCKET, 12 /* SO_PRIORITY */, 6), 0);
    cr_assert_eq(set(&p, L_SOCKET, 12, 7), -EINVAL);
    cr_assert_eq(set(&p, L_SOCKET, O_ERROR, 1), -ENOPROTOOPT, "read-only");
    cr_assert_eq(get(&p, L_SOCKET, 38 /* SO_PROTOCOL */), 6);
    cr_assert_eq(get(&p, L_SOCKET, 39 /* SO_DOMAIN */), 2);
    cr_assert_eq(get(&p, L_IP, 14 /* IP_MTU */), 1500);
    peer_stop(&p);
}

Test(options, of_tcp_are_no_options_of_udp)
{
    struct peer p;
    uint64_t v;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_DGRAM);
    for (uint32_t name = 0; name < 64; name++) {
        cr_assert_eq(set(&p, L_TCP, name, 1), -ENOPROTOOPT);
        cr_assert_eq(engine_getopt(p.h.e, p.h.sid, p.slot, L_TCP, name, &v), -ENOPROTOOPT);
    }
    peer_stop(&p);
}

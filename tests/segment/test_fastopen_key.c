/* SPDX-License-Identifier: Apache-2.0 */
/* TCP Fast Open: keys that are set, and doing without cookies. RFC 7413 4.1.2, Linux's tcp_fastopen_key. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/tcp.h>
#include <string.h>

#include "tests/segment/peer.h"

#define O_FASTOPEN  23u
#define O_CONNECT   30u
#define O_NO_COOKIE 34u
#define DAY_US      (UINT64_C(24) * 3600 * 1000000)

/* a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4 and 00010203-04050607-08090a0b-0c0d0e0f of tcp_fastopen_key, and what
 * Linux's SipHash-2-4 makes of 192.0.2.1 and 192.0.2.2 with them. (With the first, 192.0.2.1 and 192.168.0.1
 * make 3021b9d889017eeb, the cookie in packetdrill's scripts.) */
static const struct fastopen_keys keys = {
    .key = {{0xa1, 0xa1, 0xa1, 0xa1, 0xb2, 0xb2, 0xb2, 0xb2, 0xc3, 0xc3, 0xc3, 0xc3, 0xd4, 0xd4, 0xd4, 0xd4},
            {3, 2, 1, 0, 7, 6, 5, 4, 0xb, 0xa, 9, 8, 0xf, 0xe, 0xd, 0xc}},
    .count = 2,
};
static const uint8_t cookies[2][8] = {{0x55, 0xab, 0x03, 0x9a, 0x34, 0xa5, 0x8a, 0xa4},
                                      {0x89, 0xf2, 0xf6, 0x3e, 0xfa, 0x6c, 0xca, 0xab}};

static int set(struct peer *p, uint32_t slot, uint32_t name, uint64_t value)
{
    return engine_setopt(p->h.e, p->h.sid, slot, 6, name, value, p->h.now_us);
}

static void both_keys(struct engine_config *cfg)
{
    cfg->fastopen_keys = keys;
}

static void listen_fast(struct peer *p)
{
    peer_listen(p, 8);
    cr_assert_eq(set(p, p->listener, O_FASTOPEN, 8), 0);
}

/* A SYN with `len` bytes and a cookie, NULL: a request for one. Returns the answer. */
static struct seg syn(struct peer *p, const uint8_t *cookie, uint32_t len)
{
    struct seg s = {.flags = TCP_SYN, .mss = 1460, .len = len, .fo = true, .fo_len = cookie ? 8 : 0};

    p->peer_port++;
    if (cookie)
        memcpy(s.cookie, cookie, 8);
    seg_send(p, s);
    return seg_expect(p, .flags = TCP_SYN | TCP_ACK);
}

static void end(struct peer *p, const struct seg *answer)
{
    seg_send(p, (struct seg){.flags = TCP_RST, .seq = answer->ack});
    seg_none(p);
}

/* The server takes data with this cookie, and gives out another: 1; none: 0. It doesn't take it: -1. */
static int worth(struct peer *p, const uint8_t *cookie)
{
    struct seg s = syn(p, cookie, 10);
    int ret = s.ack == 11 ? s.fo : -1;

    end(p, &s);
    return ret;
}

static void expect_cookie(struct peer *p, const uint8_t *cookie)
{
    struct seg s = syn(p, NULL, 0);

    cr_assert_eq(s.fo_len, 8);
    cr_assert_arr_eq(s.cookie, cookie, 8);
    end(p, &s);
}

Test(fastopen_key, cookies_are_linuxs)
{
    struct peer p;

    peer_start(&p, both_keys);
    listen_fast(&p);
    expect_cookie(&p, cookies[0]);
    cr_assert_eq(worth(&p, cookies[0]), 0);
    peer_wait(&p, 2 * DAY_US);
    expect_cookie(&p, cookies[0]); /* It is for others to change them. */
    peer_stop(&p);
}

Test(fastopen_key, that_of_the_second_is_taken_and_replaced)
{
    struct peer p;
    struct seg s;

    peer_start(&p, both_keys);
    listen_fast(&p);
    s = syn(&p, cookies[1], 10);
    cr_assert_eq(s.ack, 11);
    cr_assert(s.fo_len == 8 && !memcmp(s.cookie, cookies[0], 8));
    end(&p, &s);
    peer_stop(&p);
}

static void one_key(struct engine_config *cfg)
{
    cfg->fastopen_keys = keys;
    cfg->fastopen_keys.count = 1;
}

Test(fastopen_key, that_of_a_key_which_is_gone_is_not)
{
    struct peer p;

    peer_start(&p, one_key);
    listen_fast(&p);
    cr_assert_eq(worth(&p, cookies[0]), 0);
    cr_assert_eq(worth(&p, cookies[1]), -1);
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenPassiveFail"), 1);
    peer_stop(&p);
}

/* TCP_FASTOPEN_KEY goes before the setting, set before listen() or after. */
Test(fastopen_key, a_listener_may_have_its_own)
{
    struct fastopen_keys own = {.count = 1};

    memcpy(own.key[0], keys.key[1], 16);
    for (int late = 0; late < 2; late++) {
        struct peer p;

        peer_start(&p, one_key);
        p.listener = app_socket(&p.h, SG_SOCK_STREAM);
        if (!late)
            cr_assert_eq(engine_fastopen_keys(p.h.e, p.h.sid, p.listener, &own), 0);
        cr_assert_eq(app_bind(&p.h, p.listener, HOST_PORT), 0);
        cr_assert_eq(app_listen(&p.h, p.listener, 8), 0);
        cr_assert_eq(set(&p, p.listener, O_FASTOPEN, 8), 0);
        if (late) {
            expect_cookie(&p, cookies[0]);
            cr_assert_eq(engine_fastopen_keys(p.h.e, p.h.sid, p.listener, &own), 0);
        }
        expect_cookie(&p, cookies[1]);
        cr_assert_eq(worth(&p, cookies[0]), -1);
        peer_stop(&p);
    }
}

Test(fastopen_key, is_for_what_listens_or_may)
{
    struct fastopen_keys none = {.count = 0};
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert_eq(engine_fastopen_keys(p.h.e, p.h.sid, p.slot, &keys), -EINVAL);
    cr_assert_eq(engine_fastopen_keys(p.h.e, p.h.sid, p.listener, &none), -EINVAL);
    cr_assert_eq(engine_fastopen_keys(p.h.e, p.h.sid, app_socket(&p.h, SG_SOCK_DGRAM), &keys), -ENOPROTOOPT);
    cr_assert_eq(engine_fastopen_keys(p.h.e, p.h.sid, 4000, &keys), -EBADF);
    peer_stop(&p);
}

/* What was kept for a listener doesn't count as the connection's figures. */
Test(fastopen_key, of_a_socket_that_connects_is_forgotten)
{
    struct peer p;
    uint64_t v = 1;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(engine_fastopen_keys(p.h.e, p.h.sid, p.slot, &keys), 0);
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), 0);
    seg_expect(&p, .flags = TCP_SYN);
    for (uint32_t i = 0; i <= offsetof(struct tcp_info, tcpi_bytes_retrans) / 8; i++)
        cr_assert_eq(engine_getopt(p.h.e, p.h.sid, p.slot, 6, SG_TCP_INFO | i << SG_TCP_INFO_SHIFT, &v), 0);
    cr_assert_eq(v, 0);
    peer_stop(&p);
}

/* ---- Without cookies ---------------------------------------------------------------------------- */

static uint8_t who;

static void without(struct engine_config *cfg)
{
    cfg->fastopen_no_cookie = who;
}

/* By the setting or by TCP_FASTOPEN_NO_COOKIE; in either case for listeners with Fast Open alone. */
Test(fastopen_no_cookie, server_takes_data_from_anybody)
{
    for (int by_option = 0; by_option < 2; by_option++) {
        struct peer p;
        struct seg s;

        who = by_option ? 0 : ENGINE_FO_NO_COOKIE_SERVER;
        peer_start(&p, without);
        peer_listen(&p, 8);
        if (by_option)
            cr_assert_eq(set(&p, p.listener, O_NO_COOKIE, 1), 0);
        for (int fast = 0; fast < 2; fast++) {
            p.peer_port++;
            cr_assert_eq(set(&p, p.listener, O_FASTOPEN, fast * 8u), 0);
            seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460, .len = 10});
            s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = fast ? 11 : 1);
            cr_assert(!s.fo);
            end(&p, &s);
        }
        p.peer_port++;
        seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460}); /* no data: a handshake as ever */
        s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
        cr_assert_eq(host_counter(&p.h, "TcpFastOpenPassive"), 1);
        end(&p, &s);
        cr_assert_eq(set(&p, p.listener, O_NO_COOKIE, 2), -EINVAL);
        peer_stop(&p);
    }
}

static void connect_fast(struct peer *p, bool option)
{
    p->slot = app_socket(&p->h, SG_SOCK_STREAM);
    cr_assert_eq(set(p, p->slot, O_CONNECT, 1), 0);
    if (option)
        cr_assert_eq(set(p, p->slot, O_NO_COOKIE, 1), 0);
    cr_assert_eq(app_connect(&p->h, p->slot, 1, PEER_PORT), 0);
    p->host_port = p->h.slots[p->slot].n.local_port;
}

/* The MSS of the SYN-ACK is kept, a cookie on it is not: nobody asked. */
Test(fastopen_no_cookie, client_sends_data_to_whom_it_doesnt_know)
{
    for (int by_option = 0; by_option < 2; by_option++) {
        struct peer p;
        struct seg s;

        who = by_option ? 0 : ENGINE_FO_NO_COOKIE_CLIENT;
        peer_start(&p, without);
        connect_fast(&p, by_option);
        seg_none(&p);
        peer_write(&p, 1900);
        s = seg_expect(&p, .flags = TCP_SYN, .len = 1420);
        cr_assert(!s.fo);
        seg_send(&p,
                 (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1421, .mss = 940, .fo = true, .fo_len = 8});
        seg_expect(&p, .flags = TCP_ACK | TCP_PSH, .seq = 1421, .len = 480);
        seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
        connect_fast(&p, by_option);
        peer_write(&p, 1900);
        s = seg_expect(&p, .flags = TCP_SYN, .len = 900);
        cr_assert(!s.fo);
        seg_send(&p, (struct seg){.flags = TCP_RST | TCP_ACK, .ack = 901});
        who = 0;
        if (by_option) { /* without the option it asks for a cookie now */
            connect_fast(&p, false);
            s = seg_expect(&p, .flags = TCP_SYN, .check = C_LEN);
            cr_assert(s.fo && !s.fo_len);
        }
        peer_stop(&p);
    }
}

/* ---- What swallows the rest (RFC 7413 4.1.3.1) -------------------------------------------------- */

/* An open connection whose SYN carried data; the peer has said something since, or not. */
static void opened(struct peer *p, bool speaks)
{
    who = ENGINE_FO_NO_COOKIE_CLIENT;
    peer_start(p, without);
    connect_fast(p, false);
    peer_write(p, 100);
    seg_expect(p, .flags = TCP_SYN, .len = 100);
    seg_send(p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 101, .mss = 1460});
    seg_expect(p, .flags = TCP_ACK, .seq = 101, .check = C_LEN);
    if (speaks)
        seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101, .len = 10});
    seg_drain(p);
    peer_write(p, 100);
    seg_expect(p, .flags = TCP_ACK | TCP_PSH, .seq = 101, .len = 100);
}

/* Time-outs that are not answered. */
static void time_out(struct peer *p, unsigned times)
{
    uint64_t until = host_counter(&p->h, "TcpTimeouts") + times;

    while (host_counter(&p->h, "TcpTimeouts") < until) {
        peer_wait_tx(p, 300000000);
        seg_drain(p);
    }
}

Test(fastopen_blackhole, third_time_out_avoids_fast_open_for_a_while)
{
    struct peer p;

    opened(&p, false);
    time_out(&p, 2);
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenBlackhole"), 0);
    time_out(&p, 1);
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenBlackhole"), 1);
    connect_fast(&p, false);
    seg_expect(&p, .flags = TCP_SYN, .check = C_LEN); /* at once: it waits for no data */
    app_close(&p.h, p.slot);
    peer_wait(&p, 61000000);
    seg_drain(&p);
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenBlackhole"), 1);
    connect_fast(&p, false);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_SYN, .len = 100);
    peer_stop(&p);
}

Test(fastopen_blackhole, a_peer_that_has_spoken_is_beyond_it)
{
    struct peer p;

    opened(&p, true);
    time_out(&p, 4);
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenBlackhole"), 0);
    peer_stop(&p);
}

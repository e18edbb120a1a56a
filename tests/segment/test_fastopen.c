/* SPDX-License-Identifier: Apache-2.0 */
/* TCP Fast Open, the server's side: RFC 7413. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/segment/peer.h"

#define TCP_FASTOPEN 23u
#define DAY_US       (UINT64_C(24) * 3600 * 1000000)

/* A listener with Fast Open, and a cookie that this peer asked for. */
static struct seg start(struct peer *p, uint32_t queue)
{
    struct seg s;

    peer_listen(p, 8);
    cr_assert_eq(engine_setopt(p->h.e, p->h.sid, p->listener, 6, TCP_FASTOPEN, queue, p->h.now_us), 0);
    p->peer_port = 39000;
    seg_send(p, (struct seg){.flags = TCP_SYN, .mss = 1460, .fo = true});
    s = seg_expect(p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    cr_assert(s.fo && s.fo_len == 8, "a cookie of 8 bytes");
    seg_send(p, (struct seg){.flags = TCP_RST, .seq = 1}); /* done with this one */
    p->peer_port = PEER_PORT;
    return s;
}

/* A SYN with the cookie and `len` bytes. */
static void fast_syn(struct peer *p, const struct seg *cookie, uint32_t len)
{
    struct seg s = {.flags = TCP_SYN, .mss = 1460, .sack_perm = true, .len = len, .fo = true};

    s.fo_len = cookie->fo_len;
    memcpy(s.cookie, cookie->cookie, sizeof(s.cookie));
    seg_send(p, s);
}

static bool accepted(struct peer *p)
{
    int64_t s = app_accept(&p->h, p->listener);

    p->slot = s > 0 ? (uint32_t)s : 0;
    return s > 0;
}

/* RFC 7413 4.2.2: the data is acknowledged, and can be read before the handshake is complete. */
Test(fastopen, data_on_the_syn_is_read_at_once)
{
    struct peer p;
    struct seg cookie;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    fast_syn(&p, &cookie, 100);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .check = C_SEQ, .ack = 101);
    cr_assert(accepted(&p));
    cr_assert(app_connected(&p.h, p.slot));
    cr_assert_eq(peer_read_all(&p, &seq), 100);
    cr_assert_str_eq(peer_state(&p), "SYN_RECEIVED");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 50});
    cr_assert_eq(peer_read_all(&p, &seq), 50);
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenPassive"), 1);
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenCookieReqd"), 1);
    peer_stop(&p);
}

static uint8_t fresh, stored;

static void secrets(struct engine_config *cfg)
{
    memset(cfg->secret, fresh, sizeof(cfg->secret));
    memset(cfg->stable_secret, stored, sizeof(cfg->stable_secret));
}

/* The cookie that a host gives out which was started with these secrets. */
static struct seg cookie_with(uint8_t of_this_start, uint8_t of_all)
{
    struct peer p;
    struct seg s;

    fresh = of_this_start;
    stored = of_all;
    peer_start(&p, secrets);
    s = start(&p, 4);
    peer_stop(&p);
    return s;
}

/* RFC 7413 4.1.2: clients keep cookies; a server that was restarted need not refuse them all. */
Test(fastopen, cookie_outlives_a_restart_with_the_stored_secret)
{
    struct seg a = cookie_with(1, 7), b = cookie_with(2, 7), c = cookie_with(1, 8);

    cr_assert_arr_eq(a.cookie, b.cookie, 8);
    cr_assert(memcmp(a.cookie, c.cookie, 8) != 0);
}

/* RFC 7413 4.2.2: the server may answer before the ACK; that is the round trip saved. */
Test(fastopen, the_answer_needs_no_ack_first)
{
    struct peer p;
    struct seg cookie, s;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    fast_syn(&p, &cookie, 100);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 101);
    cr_assert(accepted(&p));
    peer_write(&p, 3000);
    for (uint32_t at = 1; at < 3001; at += s.len) {
        s = seg_take(&p);
        cr_assert(s.flags & TCP_ACK && s.seq == at && s.ack == 101 && s.len);
    }
    cr_assert_str_eq(peer_state(&p), "SYN_RECEIVED");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 3001});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_wait(&p, 5000000);
    seg_none(&p);
    peer_stop(&p);
}

/* The ACK of the SYN-ACK alone leaves what was sent ahead in flight, with a timer. */
Test(fastopen, what_was_sent_ahead_is_retransmitted)
{
    struct peer p;
    struct seg cookie, s;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    fast_syn(&p, &cookie, 100);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 101);
    cr_assert(accepted(&p));
    peer_write(&p, 500);
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .len = 500);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1});
    peer_wait_tx(&p, 5000000);
    s = seg_take(&p);
    cr_assert(s.seq == 1 && s.len == 500);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 501});
    seg_drain(&p);
    peer_stop(&p);
}

/* RFC 7413 4.2.2: until the ACK, it is the SYN-ACK that is sent again. */
Test(fastopen, the_syn_ack_is_retransmitted_and_given_up)
{
    struct peer p;
    struct seg cookie;
    unsigned n = 0;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    fast_syn(&p, &cookie, 100);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 101);
    cr_assert(accepted(&p));
    peer_write(&p, 10);
    seg_expect(&p, .flags = TCP_ACK, .len = 10);
    while (peer_wait_tx(&p, 100000000) < 100000000) {
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .check = C_SEQ | C_LEN, .ack = 101);
        n++;
    }
    cr_assert_eq(n, p.h.cfg.synack_retries);
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    peer_stop(&p);
}

Test(fastopen, a_repeated_syn_is_answered_with_the_syn_ack)
{
    struct peer p;
    struct seg cookie;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    fast_syn(&p, &cookie, 100);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 101);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460}); /* as clients do: without data */
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 101);
    cr_assert(accepted(&p));
    cr_assert_eq(peer_read_all(&p, &seq), 100, "once");
    peer_stop(&p);
}

/* RFC 7413 4.2.2: a bad cookie means the handshake as ever, and a good cookie for the next time. */
Test(fastopen, a_bad_cookie_falls_back)
{
    static const uint8_t lengths[] = {4, 6, 8, 16};
    struct peer p;
    struct seg cookie, s;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    for (unsigned i = 0; i < sizeof(lengths); i++) {
        struct seg bad = cookie;

        bad.fo_len = lengths[i];
        bad.cookie[3] ^= 1;
        p.peer_port = (uint16_t)(PEER_PORT + i);
        fast_syn(&p, &bad, 100);
        s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
        cr_assert(s.fo_len == 8 && !memcmp(s.cookie, cookie.cookie, 8));
        cr_assert_not(accepted(&p));
    }
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenPassiveFail"), sizeof(lengths));
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    cr_assert(accepted(&p));
    peer_stop(&p);
}

/* RFC 7413 4.1.2: it is the address that the cookie vouches for. */
Test(fastopen, a_cookie_is_good_for_one_address)
{
    static const uint8_t other[4] = {192, 0, 2, 77};
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    s = start(&p, 4);
    s = (struct seg){.flags = TCP_SYN,
                     .len = 10,
                     .fo = true,
                     .fo_len = 8,
                     .cookie = {s.cookie[0], s.cookie[1], s.cookie[2], s.cookie[3], s.cookie[4], s.cookie[5],
                                s.cookie[6], s.cookie[7]}};
    seg_send_from(&p, other, s);
    cr_assert_not(accepted(&p));
    seg_send(&p, s);
    cr_assert(accepted(&p));
    peer_stop(&p);
}

/* RFC 7413 4.1.2: keys change; the one before still opens, and brings the new cookie. */
Test(fastopen, keys_rotate_and_the_old_one_is_good_for_a_period)
{
    struct peer p;
    struct seg cookie, s;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    p.h.now_us += DAY_US;
    fast_syn(&p, &cookie, 10);
    s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 11);
    cr_assert(s.fo_len == 8 && memcmp(s.cookie, cookie.cookie, 8));
    cr_assert(accepted(&p));
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 11});
    p.h.now_us += DAY_US;
    p.peer_port++;
    fast_syn(&p, &cookie, 10);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    p.peer_port++;
    fast_syn(&p, &s, 10);
    s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 11);
    peer_stop(&p);
}

/* RFC 7413 5.1: pending requests are limited; beyond that the handshake is as ever. */
Test(fastopen, the_queue_is_limited)
{
    struct peer p;
    struct seg cookie;

    peer_start(&p, NULL);
    cookie = start(&p, 2);
    for (uint16_t i = 0; i < 3; i++) {
        p.peer_port = (uint16_t)(PEER_PORT + i);
        fast_syn(&p, &cookie, 10);
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = i < 2 ? 11 : 1);
    }
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenListenOverflow"), 1);
    /* One whose handshake is complete makes room, and so does one that was accepted and times out. */
    cr_assert(accepted(&p));
    peer_wait(&p, 100000000);
    seg_drain(&p);
    p.peer_port = 41000;
    fast_syn(&p, &cookie, 10);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 11);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 1});
    p.peer_port = 41001;
    fast_syn(&p, &cookie, 10);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 11);
    peer_stop(&p);
}

/* RFC 7413 5.1: with resets an attacker must not get a fresh place each time. */
Test(fastopen, one_that_was_reset_keeps_its_place_for_a_minute)
{
    struct peer p;
    struct seg cookie;

    peer_start(&p, NULL);
    cookie = start(&p, 2);
    for (uint16_t i = 0; i < 2; i++) {
        p.peer_port = (uint16_t)(PEER_PORT + i);
        fast_syn(&p, &cookie, 10);
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 11);
        seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 11});
    }
    p.peer_port = 41000;
    fast_syn(&p, &cookie, 10);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenListenOverflow"), 1);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    peer_wait(&p, 60000000); /* in the next minute still */
    p.peer_port = 41001;
    fast_syn(&p, &cookie, 10);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    peer_wait(&p, 61000000);
    p.peer_port = 41002;
    fast_syn(&p, &cookie, 10);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 11);
    peer_stop(&p);
}

Test(fastopen, a_reset_before_the_ack_reaches_the_application)
{
    struct peer p;
    struct seg cookie;
    uint32_t seq = 1;
    char b;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    fast_syn(&p, &cookie, 10);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 11);
    cr_assert(accepted(&p));
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 11});
    cr_assert_eq(peer_read_all(&p, &seq), 10);
    cr_assert_eq(app_recv(&p.h, p.slot, &b, 1), -ECONNRESET);
    peer_stop(&p);
}

/* RFC 9293 3.10.4: FIN is queued until the handshake is complete. */
Test(fastopen, close_before_the_ack_sends_the_answer_then_fin)
{
    struct peer p;
    struct seg cookie;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    fast_syn(&p, &cookie, 10);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 11);
    cr_assert(accepted(&p));
    cr_assert_eq(peer_read_all(&p, &seq), 10);
    peer_write(&p, 20);
    app_close(&p.h, p.slot);
    seg_expect(&p, .flags = TCP_ACK, .len = 20); /* and no FIN */
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 21});
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 21);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_FIN, .seq = 11, .ack = 22});
    seg_expect(&p, .flags = TCP_ACK, .ack = 12);
    peer_stop(&p);
}

Test(fastopen, the_listener_may_go_first)
{
    struct peer p;
    struct seg cookie;

    peer_start(&p, NULL);
    cookie = start(&p, 4);
    fast_syn(&p, &cookie, 10);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 11);
    cr_assert(accepted(&p));
    app_close(&p.h, p.listener);
    p.h.now_us += 1000;
    {
        uint32_t other = app_socket(&p.h, SG_SOCK_STREAM); /* takes the listener's record */

        cr_assert_eq(app_bind(&p.h, other, 99), 0);
        cr_assert_eq(app_listen(&p.h, other, 8), 0);
    }
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 1});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(fastopen, without_the_option_on_the_listener_nothing_is_fast)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    peer_listen(&p, 8);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .fo = true});
    s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    cr_assert_not(s.fo);
    cr_assert_eq(host_counter(&p.h, "TcpFastOpenCookieReqd"), 0);
    peer_stop(&p);
}

/* RFC 7413 4.1.1: a cookie of an odd or impossible length is no option at all. */
Test(fastopen, an_impossible_cookie_length_is_ignored)
{
    static const uint8_t lengths[] = {1, 2, 3, 5, 7, 15};
    struct peer p;

    peer_start(&p, NULL);
    (void)start(&p, 4);
    for (unsigned i = 0; i < sizeof(lengths); i++) {
        struct seg s;

        p.peer_port = (uint16_t)(PEER_PORT + i);
        seg_send(&p, (struct seg){.flags = TCP_SYN, .len = 10, .fo = true, .fo_len = lengths[i]});
        s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
        cr_assert_not(s.fo, "length %u", lengths[i]);
    }
    peer_stop(&p);
}

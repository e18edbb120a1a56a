/* SPDX-License-Identifier: Apache-2.0 */
/* SYN cookies: RFC 4987 3.6. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/segment/peer.h"

#define PERIOD_US (UINT64_C(1) << 26)

static void always(struct engine_config *cfg)
{
    cfg->syncookies = ENGINE_ALWAYS;
}

static void never(struct engine_config *cfg)
{
    cfg->syncookies = ENGINE_NEVER;
}

/* Answers to anybody go to the peer's hardware address. */
static void flooded(struct engine_config *cfg)
{
    engine_config_gateway4(cfg, (uint8_t[]){192, 0, 2, 1});
}

static const struct seg full_syn = {.flags = TCP_SYN, .mss = 1400, .wscale = 8, .sack_perm = true};

/* SYN and SYN-ACK; the host keeps nothing. */
static struct seg get_cookie(struct peer *p, struct seg syn)
{
    struct seg got;

    seg_send(p, syn);
    got = seg_expect(p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    cr_assert_eq(host_count(&p->h, "SYN_RECEIVED"), 0);
    return got;
}

static bool accepted(struct peer *p)
{
    int64_t s = app_accept(&p->h, p->listener);

    p->slot = s > 0 ? (uint32_t)s : 0;
    return s > 0;
}

Test(cookies, a_handshake_without_state)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, always);
    peer_listen(&p, 8);
    get_cookie(&p, full_syn);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_none(&p);
    cr_assert(accepted(&p));
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    cr_assert_eq(peer_read_all(&p, &seq), 100);
    cr_assert_eq(host_counter(&p.h, "TcpSyncookiesSent"), 1);
    cr_assert_eq(host_counter(&p.h, "TcpSyncookiesRecv"), 1);
    cr_assert_eq(host_counter(&p.h, "TcpSyncookiesFailed"), 0);
    peer_stop(&p);
}

Test(cookies, the_first_data_opens_when_the_ack_was_lost)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, always);
    peer_listen(&p, 8);
    get_cookie(&p, full_syn);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 50});
    cr_assert(accepted(&p));
    cr_assert_eq(peer_read_all(&p, &seq), 50);
    peer_stop(&p);
}

/* Options that can't be kept must not be agreed to. */
Test(cookies, without_timestamps_only_the_mss_is_kept)
{
    struct peer p;
    struct seg s;

    peer_start(&p, always);
    peer_listen(&p, 8);
    s = get_cookie(&p, full_syn);
    cr_assert(s.mss == 1460 && s.wscale == 0 && !s.sack_perm && !s.tsval);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    cr_assert(accepted(&p));
    peer_write(&p, 3000);
    cr_assert_eq(seg_take(&p).len, 1400);
    peer_stop(&p);
}

Test(cookies, with_timestamps_scale_and_sack_are_kept)
{
    struct peer p;
    struct seg s;

    peer_start(&p, always);
    p.ts = true;
    peer_listen(&p, 8);
    s = get_cookie(&p, full_syn);
    cr_assert(s.wscale == 9 && s.sack_perm && s.tsval);
    p.h.now_us += 30000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .wnd = 20}); /* 20 * 2^7 */
    cr_assert(accepted(&p));
    peer_write(&p, 10000);
    p.h.now_us += 1000;
    {
        uint32_t sent = 0;

        while (engine_tx_pending(p.h.e)) {
            s = seg_take(&p);
            cr_assert(s.tsval);
            sent += s.len;
        }
        cr_assert(sent > 20 && sent <= 20 << 7, "%u bytes into a window of %u", sent, 20 << 7);
    }
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 100, .wnd = 20});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 1, .sack = {{101, 201}});
    peer_stop(&p);
}

Test(cookies, an_option_that_was_not_offered_is_not_found_in_the_timestamp)
{
    struct peer p;
    struct seg s;

    peer_start(&p, always);
    p.ts = true;
    peer_listen(&p, 8);
    s = get_cookie(&p, (struct seg){.flags = TCP_SYN, .mss = 1400});
    cr_assert(s.wscale == 0 && !s.sack_perm && s.tsval);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .wnd = 20});
    cr_assert(accepted(&p));
    peer_write(&p, 1000);
    peer_wait_tx(&p, 10000000);
    cr_assert_leq(seg_take(&p).len, 20);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 100});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1, .check = C_SACK);
    peer_stop(&p);
}

/* RFC 7323 5.3: what follows the SYN-ACK must not look older than it. */
Test(cookies, the_timestamp_is_never_ahead_of_the_clock)
{
    struct peer p;

    peer_start(&p, always);
    p.ts = true;
    peer_listen(&p, 256);
    for (unsigned i = 0; i < 130; i++) {
        struct seg a, b;

        p.h.now_us += 1000;
        p.peer_port = (uint16_t)(40000 + i);
        a = get_cookie(&p, full_syn);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
        cr_assert(accepted(&p));
        peer_write(&p, 1);
        b = seg_take(&p);
        cr_assert((int32_t)(b.tsval - a.tsval) >= 0 && b.tsval - a.tsval < 128, "%u, then %u", a.tsval,
                  b.tsval);
    }
    peer_stop(&p);
}

Test(cookies, the_mss_is_rounded_down_never_up)
{
    static const uint16_t offers[][2] = {{0, 536},     {40, 48},     {100, 48},    {536, 536},
                                         {1219, 536},  {1359, 1220}, {1380, 1360}, {1439, 1400},
                                         {1452, 1440}, {1460, 1460}, {8000, 1460}};

    for (unsigned i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
        struct peer p;

        peer_start(&p, always);
        peer_listen(&p, 8);
        get_cookie(&p, (struct seg){.flags = TCP_SYN, .mss = offers[i][0]});
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
        cr_assert(accepted(&p));
        peer_write(&p, 20000);
        cr_assert_eq(seg_take(&p).len, offers[i][1], "MSS %u", offers[i][0]);
        peer_stop(&p);
    }
}

/* Each part of what the cookie vouches for, changed. */
Test(cookies, a_forged_ack_is_reset)
{
    static const struct {
        uint16_t port;
        uint32_t seq, ack;
    } forged[] = {
        {PEER_PORT + 1, 1, 1},          {PEER_PORT, 2, 1}, {PEER_PORT, 1, 2}, {PEER_PORT, 1, 0},
        {PEER_PORT, 1, 1 + (1u << 24)}, /* another MSS */
        {PEER_PORT, 1, 1 + (1u << 27)}, /* another period */
        {PEER_PORT, 1, 1 - (1u << 27)},
    };
    struct peer p;

    peer_start(&p, always);
    peer_listen(&p, 8);
    for (unsigned i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
        p.peer_port = PEER_PORT;
        get_cookie(&p, full_syn);
        p.peer_port = forged[i].port;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = forged[i].seq, .ack = forged[i].ack});
        seg_expect(&p, .flags = TCP_RST, .check = C_SEQ, .seq = forged[i].ack);
        cr_assert_not(accepted(&p), "case %u", i);
        cr_assert_eq(host_counter(&p.h, "TcpSyncookiesFailed"), i + 1);
    }
    peer_stop(&p);
}

Test(cookies, a_blind_attacker_guesses_in_vain)
{
    struct peer p;
    unsigned seed = (unsigned)time(NULL);

    srandom(seed);
    peer_start(&p, always);
    peer_listen(&p, 8);
    get_cookie(&p, full_syn);
    for (unsigned i = 0; i < 20000; i++) {
        p.peer_port = (uint16_t)random();
        if (!p.peer_port)
            continue;
        seg_send(&p,
                 (struct seg){.flags = TCP_ACK, .seq = (uint32_t)random(), .ack = (uint32_t)random() * 2});
        seg_drain(&p);
    }
    cr_assert_not(accepted(&p), "seed %u", seed);
    peer_stop(&p);
}

Test(cookies, one_is_good_for_a_minute)
{
    struct peer p;

    peer_start(&p, always);
    peer_listen(&p, 8);
    get_cookie(&p, full_syn);
    p.h.now_us += PERIOD_US - 1000000; /* good for one period at least */
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    cr_assert(accepted(&p));
    peer_stop(&p);
}

Test(cookies, none_is_taken_after_two_periods)
{
    struct peer p;
    uint32_t isn;

    peer_start(&p, always);
    peer_listen(&p, 8);
    get_cookie(&p, full_syn);
    isn = p.host_isn;
    p.h.now_us += 2 * PERIOD_US;
    p.peer_port++;
    get_cookie(&p, full_syn); /* so that there are some about */
    p.peer_port--;
    p.host_isn = isn;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_expect(&p, .flags = TCP_RST, .seq = 1);
    cr_assert_not(accepted(&p));
    /* nor after the count of periods has come round */
    p.h.now_us += 30 * PERIOD_US;
    p.peer_port++;
    get_cookie(&p, full_syn);
    p.peer_port--;
    p.host_isn = isn;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_expect(&p, .flags = TCP_RST, .seq = 1);
    peer_stop(&p);
}

Test(cookies, an_ack_is_not_looked_at_when_none_was_sent_lately)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 8);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_expect(&p, .flags = TCP_RST, .seq = 1);
    cr_assert_eq(host_counter(&p.h, "TcpSyncookiesFailed"), 0);
    peer_stop(&p);
}

static void other_secret(struct engine_config *cfg)
{
    cfg->syncookies = ENGINE_ALWAYS;
    cfg->secret[0] ^= 1;
}

Test(cookies, another_secret_makes_other_cookies)
{
    struct peer a, b;

    peer_start(&a, always);
    peer_listen(&a, 8);
    get_cookie(&a, full_syn);
    peer_start(&b, other_secret);
    peer_listen(&b, 8);
    get_cookie(&b, full_syn);
    cr_assert_neq(a.host_isn, b.host_isn);
    peer_stop(&a);
    peer_stop(&b);
}

Test(cookies, never_means_that_a_full_queue_drops)
{
    struct peer p;

    peer_start(&p, never);
    peer_listen(&p, 1);
    for (uint16_t i = 0; i < 300; i++) {
        p.peer_port = (uint16_t)(1000 + i);
        seg_send(&p, full_syn);
        seg_drain(&p);
    }
    cr_assert_eq(host_counter(&p.h, "TcpSyncookiesSent"), 0);
    cr_assert_eq(host_counter(&p.h, "TcpReqQFullDrop"), 300 - 256);
    cr_assert_eq(host_counter(&p.h, "TcpListenDrops"), 300 - 256);
    peer_stop(&p);
}

Test(cookies, a_full_accept_queue_takes_no_cookie)
{
    struct peer p;

    peer_start(&p, always);
    peer_listen(&p, 1);
    get_cookie(&p, full_syn);
    p.peer_port++;
    get_cookie(&p, full_syn);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.peer_port--;
    seg_send(&p, full_syn); /* dropped: one waits */
    seg_none(&p);
    cr_assert_eq(host_counter(&p.h, "TcpListenOverflows"), 1);
    cr_assert(accepted(&p));
    get_cookie(&p, full_syn);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    cr_assert(accepted(&p));
    peer_stop(&p);
}

/* 100,000 SYNs from addresses all over the world; meanwhile data flows, and afterwards somebody connects. */
Test(cookies, a_flood_hurts_nobody, .timeout = 120)
{
    struct peer p;
    uint32_t seq = 1, got = 0;
    struct seg s;
    uint64_t rnd = 0x9e3779b97f4a7c15;

    peer_start(&p, flooded);
    peer_established(&p);
    for (uint32_t i = 0; i < 100000; i++) {
        uint8_t from[4];

        rnd = rnd * 6364136223846793005u + 1442695040888963407u;
        from[0] = (uint8_t)(1 + (rnd >> 56) % 126);
        memcpy(from + 1, (uint8_t *)&rnd + 4, 3);
        p.peer_port = (uint16_t)(1024 + (rnd >> 40) % 60000);
        seg_send_from(&p, from, full_syn);
        while (host_tx(&p.h))
            ;
        if (i % 1000 == 0) { /* established traffic goes on */
            p.peer_port = PEER_PORT;
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = seq, .ack = 1, .len = 100});
            got += peer_read_all(&p, &seq);
        }
    }
    cr_assert_eq(got, 100 * 100);
    cr_assert_leq(host_count(&p.h, "SYN_RECEIVED"), p.h.cfg.req_max / 2);
    cr_assert_geq(host_counter(&p.h, "TcpSyncookiesSent"), 99000);
    while (host_tx(&p.h))
        ;
    p.peer_port = 50000;
    p.ts = true;
    seg_send(&p, full_syn);
    s = seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    cr_assert(s.wscale && s.sack_perm && s.tsval);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    cr_assert(accepted(&p));
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 100});
    s = seg_expect(&p, .flags = TCP_ACK, .ack = 1, .sacks = 1, .sack = {{101, 201}});
    cr_assert(s.tsval);
    peer_stop(&p);
}

/* However full one listener's queue is, another has room for requests of its own. */
Test(cookies, one_listeners_flood_does_not_starve_another)
{
    struct peer p;
    uint32_t other;

    peer_start(&p, never);
    peer_listen(&p, 4000);
    other = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, other, 99), 0);
    cr_assert_eq(app_listen(&p.h, other, 8), 0);
    seg_send(&p, full_syn);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    for (uint32_t i = 0; i < 5000; i++) {
        p.peer_port = (uint16_t)(1000 + i);
        seg_send(&p, full_syn);
        while (host_tx(&p.h))
            ;
    }
    cr_assert_leq(host_count(&p.h, "SYN_RECEIVED"), p.h.cfg.req_max / 2);
    p.host_port = 99;
    for (uint16_t i = 0; i < 100; i++) {
        p.peer_port = (uint16_t)(1000 + i);
        seg_send(&p, full_syn);
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    }
    peer_stop(&p);
}

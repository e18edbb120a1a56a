/* SPDX-License-Identifier: Apache-2.0 */
/* Attackers who don't see the connection and guess: RFC 5961, RFC 5927, CVE-2016-5696, martians, "land". */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/segment/peer.h"

static const uint8_t peer_ip[4] = {192, 0, 2, 1};

static void limit_of_20(struct engine_config *cfg)
{
    cfg->challenge_ack_rate = 20;
}

static void limit_of_0(struct engine_config *cfg)
{
    cfg->challenge_ack_rate = 0;
}

/* RFC 5961 3.2 1): outside the window, nothing; not even an answer. */
Test(blind, rst_outside_the_window_is_dropped_without_an_answer)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 0});
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 65536}); /* the window is [1, 65536) */
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1u << 31});
    seg_none(&p);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

/* RFC 5961 3.2 3), for an honest peer that rebooted: it answers the challenge with the exact number. */
Test(blind, a_challenged_peer_can_still_reset)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1000});
    s = seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = s.ack});
    cr_assert_str_eq(peer_state(&p), "CLOSED");
    peer_stop(&p);
}

/* A blind reset has to hit one number in 2^32, not one in 2^32 / window. */
Test(blind, a_sweep_of_rsts_over_the_window_does_no_harm)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t seq = 2; seq < 70000; seq += 7)
        seg_send(&p, (struct seg){.flags = TCP_RST, .seq = seq});
    cr_assert_leq(seg_drain(&p), 1);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

/* RFC 5961 3.2, RFC 9293 3.10.7.4: a half-open connection too is reset by the exact number only. */
Test(blind, rst_in_syn_received_is_challenged)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 2});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1, .wnd = 65535);
    cr_assert_str_eq(peer_state(&p), "SYN_RECEIVED");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

/* RFC 5961 4.2: whatever its number. */
Test(blind, a_syn_is_challenged_wherever_it_lies)
{
    static const uint32_t seqs[] = {0, 1, 2, 65536, 65537, 1u << 31, UINT32_MAX};
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    for (unsigned i = 0; i < sizeof(seqs) / sizeof(seqs[0]); i++) {
        p.h.now_us += 600000;
        seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = seqs[i], .len = i % 2 ? 10 : 0});
        seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 1);
        seg_none(&p);
    }
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    cr_assert_eq(host_counter(&p.h, "TcpSYNChallenge"), sizeof(seqs) / sizeof(seqs[0]));
    peer_stop(&p);
}

/* RFC 5961 5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT, to the byte. */
Test(blind, data_is_taken_only_with_an_ack_in_the_narrow_range)
{
    static const struct {
        int32_t ack; /* relative to snd_una = 20001 */
        bool taken;
    } cases[] = {{-10000, true}, {-10001, false},  {-1, true},        {0, true},
                 {1, false},     {1 << 30, false}, {INT32_MIN, false}};
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established_opts(&p, &(struct peer_opts){.mss = 1460, .wnd = 10000});
    peer_write(&p, 20000);
    for (uint32_t acked = 1; acked < 20001;) {
        struct seg s = seg_take(&p);

        acked = s.seq + s.len;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = acked, .wnd = 10000});
    }
    seg_drain(&p);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        p.h.now_us += 1000000;
        seg_send(&p, (struct seg){.flags = TCP_ACK,
                                  .seq = seq,
                                  .ack = 20001 + (uint32_t)cases[i].ack,
                                  .len = 10,
                                  .wnd = 10000});
        cr_assert_eq(peer_read_all(&p, &seq), cases[i].taken ? 10 : 0, "ACK %d", cases[i].ack);
        seg_drain(&p);
    }
    peer_stop(&p);
}

/* RFC 5961 5: blind data injection, tried with random numbers. */
Test(blind, random_data_does_not_get_in)
{
    unsigned seed = (unsigned)time(NULL);
    struct peer p;
    uint32_t seq = 1;

    srandom(seed);
    peer_start(&p, NULL);
    peer_established(&p);
    for (unsigned i = 0; i < 50000; i++) {
        uint32_t at = (uint32_t)random() * 2, ack = (uint32_t)random() * 2;

        if (ack - 1 + 65535 <= 65535 && at < 70000)
            continue; /* a real hit */
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = at, .ack = ack, .len = 1});
        seg_drain(&p);
    }
    cr_assert_eq(peer_read_all(&p, &seq), 0, "seed %u", seed);
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

/* RFC 5961 7, 10: whatever is thrown at a connection, it answers twice a second at most. */
Test(blind, floods_are_answered_at_a_bounded_rate)
{
    static const struct seg flood[] = {
        {.flags = TCP_RST, .seq = 2},
        {.flags = TCP_SYN, .seq = 5},
        {.flags = TCP_ACK, .seq = 1, .ack = 1 << 20},
        {.flags = TCP_ACK, .seq = 1 << 30, .ack = 1},
        {.flags = TCP_ACK, .seq = 1 << 30, .ack = 1, .len = 100},
        {.flags = TCP_ACK, .seq = 0xc0000000, .ack = 1, .len = 100},
        {.flags = TCP_ACK | TCP_FIN, .seq = 1 << 29, .ack = 1},
    };

    for (unsigned i = 0; i < sizeof(flood) / sizeof(flood[0]); i++) {
        struct peer p;
        unsigned n = 0;

        peer_start(&p, NULL);
        peer_established(&p);
        for (unsigned k = 0; k < 5000; k++) {
            p.h.now_us += 1000;
            seg_send(&p, flood[i]);
            n += seg_drain(&p);
        }
        cr_assert(n >= 9 && n <= 11, "case %u: %u answers in 5 s", i, n);
        peer_stop(&p);
    }
}

/* What was sent again because our ACK was lost is no flood: an answer each time (RFC 9293 3.10.7.4). */
Test(blind, a_retransmission_is_answered_each_time)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
    seg_drain(&p);
    for (unsigned i = 0; i < 20; i++) {
        p.h.now_us += 10000;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100});
        seg_expect(&p, .flags = TCP_ACK, .ack = 101);
    }
    peer_stop(&p);
}

/* One in-window RST for each of 64 connections, all in one second; returns the number of answers. */
static unsigned challenge_all(struct peer *p)
{
    unsigned n = 0;

    for (uint16_t i = 0; i < 64; i++) {
        p->peer_port = (uint16_t)(PEER_PORT + i);
        seg_send(p, (struct seg){.flags = TCP_RST, .seq = 2});
        n += seg_drain(p);
    }
    return n;
}

static void open_64(struct peer *p)
{
    peer_listen(p, 64);
    for (uint16_t i = 0; i < 64; i++) {
        p->peer_port = (uint16_t)(PEER_PORT + i);
        seg_send(p, (struct seg){.flags = TCP_SYN});
        seg_expect(p, .flags = TCP_SYN | TCP_ACK);
        seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    }
}

/* CVE-2016-5696: an attacker who counts the answers to his own connection must not see another's in them. */
Test(blind, the_hosts_limit_is_another_one_each_second)
{
    struct peer p;
    unsigned seen[30] = {0}, different = 0, sum = 0;

    peer_start(&p, limit_of_20);
    open_64(&p);
    for (unsigned s = 0; s < 40; s++) {
        unsigned n = challenge_all(&p);

        cr_assert(n >= 10 && n < 30, "%u answers", n);
        seen[n]++;
        sum += n;
        p.h.now_us += 1000000;
    }
    for (unsigned n = 0; n < 30; n++)
        different += seen[n] != 0;
    cr_assert_geq(different, 8, "%u different limits in 40 s", different);
    cr_assert(sum / 40 >= 15 && sum / 40 <= 25, "%u on average", sum / 40);
    peer_stop(&p);
}

Test(blind, a_limit_of_zero_answers_nothing)
{
    struct peer p;

    peer_start(&p, limit_of_0);
    open_64(&p);
    cr_assert_eq(challenge_all(&p), 0);
    cr_assert_eq(host_counter(&p.h, "TcpChallengeLimited"), 64);
    peer_stop(&p);
}

/* Being attacked must not cost an honest peer its answer for long. */
Test(blind, after_the_flood_an_honest_challenge_is_answered)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    for (unsigned k = 0; k < 5000; k++) {
        seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 2});
        seg_drain(&p);
    }
    p.h.now_us += 500000;
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 7777});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1);
    peer_stop(&p);
}

/* "Land": our own address and port as the source. */
Test(blind, a_syn_from_ourselves_is_dropped)
{
    static const uint8_t own[4] = {192, 0, 2, 2};
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 8);
    p.peer_port = HOST_PORT;
    seg_send_from(&p, own, (struct seg){.flags = TCP_SYN});
    seg_none(&p);
    cr_assert_eq(host_count(&p.h, "SYN_RECEIVED"), 0);
    cr_assert_eq(host_counter(&p.h, "IpInAddrErrors"), 1);
    peer_stop(&p);
}

/* RFC 1122 3.2.1.3, RFC 9293 3.9.2.3: addresses that nobody sends from open nothing and get no answer. */
Test(blind, a_syn_from_an_impossible_address_is_dropped)
{
    static const uint8_t from[][4] = {{0, 0, 0, 0},     {0, 1, 2, 3},        {127, 0, 0, 1},
                                      {224, 0, 0, 1},   {239, 255, 1, 1},    {240, 0, 0, 1},
                                      {192, 0, 2, 255}, {255, 255, 255, 255}};
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 8);
    for (unsigned i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
        seg_send_from(&p, from[i], (struct seg){.flags = TCP_SYN});
        seg_none(&p);
        cr_assert_eq(host_counter(&p.h, "IpInAddrErrors"), i + 1, "case %u", i);
    }
    cr_assert_eq(host_count(&p.h, "SYN_RECEIVED"), 0);
    seg_send_from(&p, peer_ip, (struct seg){.flags = TCP_SYN});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    peer_stop(&p);
}

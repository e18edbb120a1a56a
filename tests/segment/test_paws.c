/* SPDX-License-Identifier: Apache-2.0 */
/* Timestamps and window scale: RFC 7323. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

static const struct peer_opts with_ts = {.mss = 1460, .wscale = 8, .sack = true, .ts = true, .wnd = 65535};

/* Bytes that the application has waiting; read and compared. */
static uint32_t readable(struct peer *p)
{
    uint32_t seq = 1;

    return peer_read_all(p, &seq);
}

Test(paws, older_timestamp_is_dropped_and_acknowledged)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10, .tsval = 5000, .tsecr = 1});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 1, .len = 10, .tsval = 4999, .tsecr = 1});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 11);
    cr_assert_eq(readable(&p), 10);
    cr_assert_eq(host_counter(&p.h, "TcpPAWSEstab"), 1);
    peer_stop(&p);
}

Test(paws, equal_timestamp_is_taken)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10, .tsval = 5000, .tsecr = 1});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 1, .len = 10, .tsval = 5000, .tsecr = 1});
    cr_assert_eq(readable(&p), 20);
    peer_stop(&p);
}

Test(paws, timestamps_wrap_around)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    for (uint32_t i = 0, ts = 1001; i < 5; i++, ts += 0x40000000u) {
        seg_send(&p, (struct seg){
                         .flags = TCP_ACK, .seq = 1 + 10 * i, .ack = 1, .len = 10, .tsval = ts, .tsecr = 1});
        seg_drain(&p);
    }
    cr_assert_eq(readable(&p), 50, "each is less than 2^31 ahead of the one before");
    peer_stop(&p);
}

Test(paws, a_segment_without_the_option_is_not_a_reason_to_end_the_connection)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    p.ts = false;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
    peer_stop(&p);
}

Test(paws, reset_is_not_subject_to_it)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10, .tsval = 5000, .tsecr = 1});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 11, .tsval = 1, .tsecr = 1});
    cr_assert_str_eq(peer_state(&p), "CLOSED");
    peer_stop(&p);
}

Test(paws, a_value_older_than_24_days_proves_nothing)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10, .tsval = 5000, .tsecr = 1});
    seg_drain(&p);
    p.h.now_us += UINT64_C(25) * 24 * 3600 * 1000000; /* RFC 7323 5.5 */
    host_run(&p.h);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 1, .len = 10, .tsval = 4000, .tsecr = 1});
    cr_assert_eq(readable(&p), 20);
    peer_stop(&p);
}

Test(paws, every_segment_carries_the_option)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    peer_write(&p, 100);
    s = seg_expect(&p, .seq = 1, .len = 100);
    cr_assert_neq(s.tsval, 0, "data");
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101, .len = 5});
    s = seg_expect(&p, .flags = TCP_ACK, .ack = 6);
    cr_assert_neq(s.tsval, 0, "pure ACK");
    app_shutdown(&p.h, p.slot, SG_SHUT_WR);
    s = seg_expect(&p, .flags = TCP_FIN | TCP_ACK);
    cr_assert_neq(s.tsval, 0, "FIN");
    peer_stop(&p);
}

Test(paws, the_option_is_not_sent_unless_both_offered_it)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 100);
    s = seg_expect(&p, .seq = 1, .len = 100);
    cr_assert(s.tsval == 0 && s.tsecr == 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101, .len = 10, .tsval = 1, .tsecr = 1});
    s = seg_expect(&p, .flags = TCP_ACK, .ack = 11);
    cr_assert(s.tsval == 0 && s.tsecr == 0);
    peer_stop(&p);
}

static void without_timestamps(struct engine_config *cfg)
{
    cfg->timestamps = 0;
}

Test(paws, switched_off_it_is_neither_offered_nor_agreed_to)
{
    struct peer p;

    peer_start(&p, without_timestamps);
    peer_listen(&p, 4);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460, .tsval = 9, .tsecr = 1});
    cr_assert_eq(seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1).tsval, 0);
    peer_stop(&p);

    peer_start(&p, without_timestamps);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, p.slot, HOST_PORT), 0);
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), 0);
    cr_assert_eq(seg_expect(&p, .flags = TCP_SYN).tsval, 0);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = 1460, .tsval = 9, .tsecr = 1});
    cr_assert_eq(seg_expect(&p, .flags = TCP_ACK, .ack = 1).tsval, 0);
    peer_write(&p, 2000);
    cr_assert_eq(seg_expect(&p, .len = 1460).tsval, 0);
    peer_stop(&p);
}

Test(paws, the_option_takes_its_room_from_the_segment)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    peer_write(&p, 3000);
    seg_expect(&p, .seq = 1, .len = 1448);
    seg_expect(&p, .seq = 1449, .len = 1448);
    peer_stop(&p);
}

/* RFC 7323 4.3: TS.Recent is taken from the segment that covers the last ACK sent, so that a delayed ACK
 * echoes the first of two. */
Test(paws, a_delayed_ack_echoes_the_earliest_segment)
{
    struct peer p;
    struct seg s;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    for (uint32_t i = 0; i < 20; i++) { /* past the quick ACKs of the start */
        seg_send(&p, (struct seg){
                         .flags = TCP_ACK, .seq = seq, .ack = 1, .len = 100, .tsval = 5000 + i, .tsecr = 1});
        seg_drain(&p);
        seq += 100;
    }
    peer_wait(&p, 100000);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = seq, .ack = 1, .len = 100, .tsval = 6000, .tsecr = 1});
    seg_none(&p);
    seg_send(&p, (struct seg){
                     .flags = TCP_ACK, .seq = seq + 100, .ack = 1, .len = 100, .tsval = 6010, .tsecr = 1});
    peer_wait_tx(&p, 100000);
    s = seg_expect(&p, .flags = TCP_ACK, .ack = seq + 200);
    cr_assert_eq(s.tsecr, 6000, "echoed %u", s.tsecr);
    peer_stop(&p);
}

Test(paws, an_out_of_order_segment_is_not_echoed)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100, .tsval = 5000, .tsecr = 1});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 201, .ack = 1, .len = 100, .tsval = 5010, .tsecr = 1});
    s = seg_expect(&p, .flags = TCP_ACK, .ack = 101);
    cr_assert_eq(s.tsecr, 5000);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 100, .tsval = 5020, .tsecr = 1});
    s = seg_expect(&p, .flags = TCP_ACK, .ack = 301);
    cr_assert_eq(s.tsecr, 5020, "the segment that fills the hole is");
    peer_stop(&p);
}

Test(paws, an_echo_measures_the_round_trip_of_a_retransmission)
{
    struct peer p;
    struct engine_sock_info info;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    peer_write(&p, 100);
    seg_take(&p);
    peer_wait_tx(&p, 2000000);
    seg_take(&p); /* sent again; its tsval is now ts_last */
    p.h.now_us += 30000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101});
    cr_assert(host_find(&p.h, "ESTABLISHED", &info));
    cr_assert(info.srtt_us >= 1000 && info.srtt_us <= 40000, "srtt %u us", info.srtt_us);
    peer_stop(&p);
}

Test(paws, the_clock_ticks_in_milliseconds)
{
    struct peer p;
    struct seg s;
    uint32_t first;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    peer_write(&p, 10);
    s = seg_take(&p);
    first = s.tsval;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 11});
    p.h.now_us += 250000;
    host_run(&p.h);
    peer_write(&p, 10);
    s = seg_take(&p);
    cr_assert_eq(s.tsval - first, 250);
    peer_stop(&p);
}

Test(paws, timestamps_of_two_peers_start_apart)
{
    struct peer p;
    struct seg s[2];

    /* RFC 7323 5.4: the same offset for all would tell when the host was started. */
    for (unsigned i = 0; i < 2; i++) {
        peer_start(&p, NULL);
        if (i)
            peer_stop(&p);
        if (i) {
            struct engine_config cfg;

            memset(&p, 0, sizeof(p));
            host_config(&cfg, 2);
            cfg.secret[0] ^= 1;
            host_start(&p.h, &cfg, 1000000);
            p.host_port = HOST_PORT;
            p.peer_port = PEER_PORT;
        }
        peer_listen(&p, 1);
        seg_send(&p, (struct seg){.flags = TCP_SYN, .tsval = 1});
        s[i] = seg_take(&p);
        cr_assert_neq(s[i].tsval, 0);
        peer_stop(&p);
    }
    cr_assert_neq(s[0].tsval, s[1].tsval, "the offset does not depend on the secret");
}

Test(wscale, a_scale_above_14_counts_as_14)
{
    struct peer p;
    struct engine_sock_info info;
    const struct peer_opts o = {.mss = 1460, .wscale = 16, .wnd = 65535};

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    cr_assert(host_find(&p.h, "ESTABLISHED", &info));
    cr_assert_eq(info.snd_wnd, 65535u << 14);
    peer_stop(&p);
}

Test(wscale, the_window_of_a_syn_is_never_scaled)
{
    struct peer p;
    struct engine_sock_info info;

    peer_start(&p, NULL);
    peer_connecting(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1, .mss = 1000, .wscale = 8, .wnd = 3000});
    cr_assert(host_find(&p.h, "ESTABLISHED", &info));
    cr_assert_eq(info.snd_wnd, 3000);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .wnd = 3000});
    cr_assert(host_find(&p.h, "ESTABLISHED", &info));
    cr_assert_eq(info.snd_wnd, 3000u << 7);
    peer_stop(&p);
}

Test(wscale, no_scale_in_either_direction_unless_both_offered_it)
{
    struct peer p;
    struct engine_sock_info info;
    struct seg s;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert(host_find(&p.h, "ESTABLISHED", &info));
    cr_assert_eq(info.snd_wnd, 65535);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    s = seg_take(&p);
    cr_assert_eq(s.wnd, 65535);
    peer_stop(&p);
}

Test(wscale, the_whole_ring_is_offered_with_it)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10});
    s = seg_take(&p);
    cr_assert(s.wnd >= (262144 - 256) >> 8 && s.wnd <= 262144 >> 8, "window %u", s.wnd << 8);
    peer_stop(&p);
}

/* RFC 7323 4.3, RFC 5961 5: a segment with an ACK that can't be is answered, but its timestamp is not kept:
 * one forged segment would have PAWS drop all true ones. */
Test(paws, a_segment_with_an_impossible_ack_is_not_echoed)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10, .tsval = 5000, .tsecr = 1});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 99999, .tsval = 900000, .tsecr = 1});
    s = seg_expect(&p, .flags = TCP_ACK, .seq = 1, .ack = 11);
    cr_assert_eq(s.tsecr, 5000);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 1, .len = 10, .tsval = 5001, .tsecr = 1});
    cr_assert_eq(readable(&p), 20);
    peer_stop(&p);
}

/* RFC 7323 3.2: a RST SHOULD carry it too. */
Test(paws, a_reset_carries_the_option)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    peer_established_opts(&p, &with_ts);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 10, .tsval = 5000, .tsecr = 1});
    seg_drain(&p);
    app_close(&p.h, p.slot); /* with unread data */
    s = seg_expect(&p, .flags = TCP_RST | TCP_ACK, .seq = 1, .ack = 11);
    cr_assert_eq(s.tsecr, 5000);
    cr_assert_neq(s.tsval, 0);
    peer_stop(&p);
}

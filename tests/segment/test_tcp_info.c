/* SPDX-License-Identifier: Apache-2.0 */
/* TCP_INFO against Linux's own struct, and against what happened. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/tcp.h>
#include <stddef.h>
#include <string.h>

#include "tests/segment/peer.h"

#define L_TCP 6u
#define SAME(theirs, ours)                                                                                   \
    static_assert(offsetof(struct tcp_info, tcpi_##theirs) == offsetof(struct sg_tcp_info, ours), #theirs)

SAME(options, options);
SAME(rto, rto_us);
SAME(ato, ato_us);
SAME(unacked, unacked);
SAME(last_data_sent, last_data_sent_ms);
SAME(last_ack_recv, last_ack_recv_ms);
SAME(pmtu, pmtu);
SAME(rtt, rtt_us);
SAME(snd_cwnd, snd_cwnd);
SAME(rcv_space, rcv_space);
SAME(total_retrans, total_retrans);
SAME(pacing_rate, pacing_rate);
SAME(bytes_acked, bytes_acked);
SAME(segs_out, segs_out);
SAME(notsent_bytes, notsent_bytes);
SAME(min_rtt, min_rtt_us);
SAME(delivery_rate, delivery_rate);
SAME(sndbuf_limited, sndbuf_limited_us);
SAME(delivered, delivered);
SAME(bytes_sent, bytes_sent);
SAME(rcv_ooopack, rcv_ooopack);
SAME(snd_wnd, snd_wnd);

static int word(struct peer *p, uint32_t slot, uint32_t i, uint64_t *v)
{
    return engine_getopt(p->h.e, p->h.sid, slot, L_TCP, SG_TCP_INFO | i << SG_TCP_INFO_SHIFT, v);
}

static struct tcp_info info_of(struct peer *p, uint32_t slot)
{
    uint64_t w[SG_TCP_INFO_WORDS];
    struct tcp_info ret = {0};

    engine_clock(p->h.e, p->h.now_us);
    for (uint32_t i = 0; i < SG_TCP_INFO_WORDS; i++)
        cr_assert_eq(word(p, slot, i, &w[i]), 0);
    memcpy(&ret, w, sizeof(w) < sizeof(ret) ? sizeof(w) : sizeof(ret));
    return ret;
}

Test(tcp_info, of_a_fresh_connection)
{
    struct peer p;
    const struct peer_opts o = {.mss = 1400, .sack = true, .ts = true, .wscale = 5, .wnd = 20000};
    struct tcp_info i;

    peer_start(&p, NULL);
    peer_established_opts(&p, &o);
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_state, 1);
    cr_assert_eq(i.tcpi_ca_state, 0);
    cr_assert_eq(i.tcpi_options, 7);
    cr_assert_eq(i.tcpi_snd_wscale, 4);
    cr_assert_eq(i.tcpi_rcv_wscale, 8);
    cr_assert_eq(i.tcpi_snd_mss, 1388);
    cr_assert_eq(i.tcpi_advmss, 1460);
    cr_assert_eq(i.tcpi_pmtu, 1500);
    cr_assert_eq(i.tcpi_snd_cwnd, 10);
    cr_assert_eq(i.tcpi_snd_ssthresh, INT32_MAX);
    cr_assert_eq(i.tcpi_unacked, 0);
    cr_assert_eq(i.tcpi_snd_wnd, 20000u << 4);
    peer_stop(&p);
}

Test(tcp_info, follows_what_is_sent_and_acknowledged)
{
    struct engine_sock_info seen;
    struct peer p;
    struct tcp_info i;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1460 * 20);
    seg_drain(&p);
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_unacked, 10);
    cr_assert_eq(i.tcpi_notsent_bytes, 14600);
    cr_assert_eq(i.tcpi_bytes_sent, 14600);
    cr_assert_eq(i.tcpi_bytes_acked, 0);
    p.h.now_us += 30000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + 2920});
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_bytes_acked, 2920);
    cr_assert(host_find(&p.h, "ESTABLISHED", &seen));
    cr_assert_eq(i.tcpi_rtt, seen.srtt_us);
    cr_assert_eq(i.tcpi_rttvar, seen.rttvar_us);
    cr_assert_gt(i.tcpi_rtt, 0);
    cr_assert_leq(i.tcpi_min_rtt, 30000);
    cr_assert_eq(i.tcpi_delivered, 3, "the SYN counts");
    cr_assert_eq(i.tcpi_data_segs_out, 10);
    cr_assert_eq(i.tcpi_data_segs_in, 0);
    cr_assert_eq(i.tcpi_pacing_rate, UINT64_MAX, "it is not paced");
    p.h.now_us += 5000;
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_last_ack_recv, 5);
    peer_stop(&p);
}

Test(tcp_info, tells_of_losses)
{
    struct peer p;
    struct tcp_info i;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 14600);
    seg_drain(&p);
    p.h.now_us += 10000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{1461, 2921}}});
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_ca_state, 3); /* The hole is older than the reordering window. */
    cr_assert_eq(i.tcpi_sacked, 1);
    peer_wait(&p, 3000000);
    seg_drain(&p);
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_ca_state, 4);
    cr_assert_gt(i.tcpi_total_retrans, 0);
    cr_assert_gt(i.tcpi_backoff, 0);
    cr_assert_gt(i.tcpi_retransmits, 0);
    cr_assert_gt(i.tcpi_lost, 0);
    peer_stop(&p);
}

Test(tcp_info, follows_what_is_received)
{
    struct peer p;
    struct tcp_info i;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 1000});
    p.h.now_us += 102400;
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_bytes_received, 1000);
    cr_assert_eq(i.tcpi_rcv_mss, 1000);
    cr_assert_eq(i.tcpi_ato, 40000);
    cr_assert(i.tcpi_last_data_recv >= 101 && i.tcpi_last_data_recv <= 104);
    peer_stop(&p);
}

/* Two segments in a round trip of 40 ms, while the application has more to send. */
Test(tcp_info, delivery_rate_is_what_a_round_trip_delivered)
{
    struct peer p;
    struct tcp_info i;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1460 * 20);
    seg_drain(&p);
    p.h.now_us += 40000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + 2920});
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_delivery_rate, 2920 * 25);
    cr_assert_eq(i.tcpi_delivery_rate_app_limited, 0);
    peer_stop(&p);
}

/* What an application with little to send reaches replaces only what was no faster. */
Test(tcp_info, an_app_limited_rate_counts_only_if_it_is_higher)
{
    struct peer p;
    struct tcp_info i;
    uint32_t ack = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t len = 1000; len; len -= 500) {
        peer_write(&p, len);
        seg_drain(&p);
        p.h.now_us += 10000;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = ack += len});
        i = info_of(&p, p.slot);
        cr_assert_eq(i.tcpi_delivery_rate, 100000);
        cr_assert_eq(i.tcpi_delivery_rate_app_limited, 1);
    }
    peer_stop(&p);
}

/* What was sent twice can't tell how long it took. */
Test(tcp_info, a_retransmission_measures_no_delivery_rate)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1000);
    seg_drain(&p);
    peer_wait(&p, 1500000);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1001});
    cr_assert_eq(info_of(&p, p.slot).tcpi_delivery_rate, 0);
    cr_assert_gt(info_of(&p, p.slot).tcpi_total_retrans, 0);
    peer_stop(&p);
}

#define NEAR(us, want) ((us) + 2048 > (want) && (us) < (want) + 2048)

/* Busy: all the time that something is unacknowledged, also while the peer's window is shut. */
Test(tcp_info, time_is_counted_by_what_limits)
{
    struct peer p;
    struct tcp_info i;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .zero_wnd = true});
    p.h.now_us += 500000; /* Idle, so it doesn't count. */
    peer_write(&p, 1000);
    seg_none(&p);
    peer_wait(&p, 100000);
    i = info_of(&p, p.slot);
    cr_assert(NEAR(i.tcpi_rwnd_limited, 100000u));
    cr_assert(NEAR(i.tcpi_busy_time, 100000u));
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_drain(&p);
    p.h.now_us += 30000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1001});
    p.h.now_us += 500000;
    i = info_of(&p, p.slot);
    cr_assert(NEAR(i.tcpi_rwnd_limited, 100000u));
    cr_assert(NEAR(i.tcpi_busy_time, 130000u));
    cr_assert_eq(i.tcpi_sndbuf_limited, 0);
    peer_stop(&p);
}

static void small_send_ring(struct engine_config *cfg)
{
    cfg->sndbuf_log2 = cfg->sndbuf_max_log2 = 12;
}

Test(tcp_info, a_full_send_ring_is_a_limit)
{
    struct peer p;
    struct tcp_info i;

    peer_start(&p, small_send_ring);
    peer_established(&p);
    peer_write(&p, 4096);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    seg_drain(&p);
    p.h.now_us += 50000;
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_unacked, 3);
    cr_assert(NEAR(i.tcpi_sndbuf_limited, 50000u));
    cr_assert(NEAR(i.tcpi_busy_time, 50000u));
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 4097});
    p.h.now_us += 50000;
    i = info_of(&p, p.slot);
    cr_assert(NEAR(i.tcpi_sndbuf_limited, 50000u));
    peer_stop(&p);
}

Test(tcp_info, retransmissions_duplicates_and_reordering_are_counted)
{
    struct peer p;
    struct tcp_info i;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1460 * 6);
    seg_drain(&p);
    p.h.now_us += 10000;
    /* Four segments arrive before the first. */
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {{1461, 7301}}});
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 7301, .sacks = 1, .sack = {{1, 1461}}});
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_total_retrans, 1);
    cr_assert_eq(i.tcpi_bytes_retrans, 1460);
    cr_assert_eq(i.tcpi_bytes_sent, 1460 * 7);
    cr_assert_eq(i.tcpi_data_segs_out, 7);
    cr_assert_eq(i.tcpi_dsack_dups, 1);
    cr_assert_eq(i.tcpi_reord_seen, 0, "it was sent again, so nobody knows which one came");
    peer_write(&p, 1460 * 5);
    seg_drain(&p);
    p.h.now_us += 1000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 8761, .sacks = 1, .sack = {{14601, 16061}}});
    seg_send(&p,
             (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 10221, .sacks = 1, .sack = {{14601, 16061}}});
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_reord_seen, 1);
    cr_assert_eq(i.tcpi_reordering, 5);
    peer_stop(&p);
}

Test(tcp_info, what_arrives_is_counted)
{
    struct peer p;
    struct tcp_info i;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 1000});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2001, .ack = 1, .len = 1000});
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1001, .ack = 1, .len = 1000});
    i = info_of(&p, p.slot);
    cr_assert_eq(i.tcpi_data_segs_in, 3);
    cr_assert_eq(i.tcpi_segs_in, 4, "with the handshake's ACK");
    cr_assert_eq(i.tcpi_rcv_ooopack, 1);
    cr_assert_eq(i.tcpi_bytes_received, 3000);
    peer_stop(&p);
}

/* The receiver's round trip and what the application takes in one, as far as the tuning has measured them. */
Test(tcp_info, tells_what_the_tuning_of_the_window_measured)
{
    struct peer p;
    struct tcp_info i;
    uint32_t seq = 1, read = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned n = 0; n < 20; n++, seq += 1460)
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = seq, .ack = 1, .len = 1460});
        peer_read_all(&p, &read);
        peer_wait(&p, 20000);
        seg_drain(&p);
    }
    i = info_of(&p, p.slot);
    cr_assert_gt(i.tcpi_rcv_rtt, 0);
    cr_assert_gt(i.tcpi_rcv_space, 0);
    peer_stop(&p);
}

Test(tcp_info, of_a_listener_tells_of_its_queue)
{
    struct peer p;
    struct tcp_info i;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    i = info_of(&p, p.listener);
    cr_assert_eq(i.tcpi_state, 10);
    cr_assert_eq(i.tcpi_unacked, 1);
    cr_assert_eq(i.tcpi_sacked, 8);
    peer_stop(&p);
}

Test(tcp_info, is_one_picture_or_none)
{
    struct peer p;
    uint32_t other;
    uint64_t v;

    peer_start(&p, NULL);
    peer_established(&p);
    other = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(word(&p, p.slot, 0, &v), 0);
    cr_assert_eq(word(&p, p.slot, 1, &v), 0);
    cr_assert_eq(word(&p, other, 0, &v), 0);
    cr_assert_eq(word(&p, p.slot, 2, &v), -EAGAIN, "another picture was taken");
    cr_assert_eq(word(&p, other, SG_TCP_INFO_WORDS, &v), -EINVAL);
    cr_assert_eq(word(&p, other, UINT16_MAX, &v), -EINVAL);
    cr_assert_eq(engine_getopt(p.h.e, p.h.sid, other, L_TCP, 1 | 1u << 16, &v), -ENOPROTOOPT);
    peer_stop(&p);
}

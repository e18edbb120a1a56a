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
    cr_assert_eq(i.tcpi_delivered, 2);
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

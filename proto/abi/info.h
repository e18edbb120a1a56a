/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What TCP_INFO tells of a connection: Linux's struct tcp_info (linux/tcp.h) byte for byte, as far as
 * tcpi_snd_wnd, without its bit-fields. Travels in words of eight bytes: SG_CMD_GETOPT with the name
 * SG_TCP_INFO | word << SG_TCP_INFO_SHIFT. Word 0 takes a picture, the others read from it; -EAGAIN: another
 * picture was taken meanwhile, begin again. docs/options.md says what stands in each field.
 */
#ifndef SG_ABI_INFO_H
#define SG_ABI_INFO_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SG_TCP_INFO        11u /* the option's name */
#define SG_TCP_INFO_SHIFT  16u

/* sg_tcp_info.options */
#define SG_TCPI_TIMESTAMPS (1u << 0)
#define SG_TCPI_SACK       (1u << 1)
#define SG_TCPI_WSCALE     (1u << 2)
#define SG_TCPI_ECN        (1u << 3) /* agreed */
#define SG_TCPI_ECN_SEEN   (1u << 4) /* data came that a router may mark */
#define SG_TCPI_SYN_DATA   (1u << 5) /* data on the SYN was taken, ours or the peer's */

/* sg_tcp_info.rate_flags: where Linux has two bit-fields */
#define SG_TCPI_RATE_APP   (1u << 0) /* delivery_rate is all that the application had to send */
#define SG_TCPI_FO_SHIFT                                                                                     \
    1u /* two bits: why Fast Open carried no data (1 no cookie, 2 data not
                                      * acknowledged, 3 SYN sent again) */

struct sg_tcp_info {
    uint8_t state;    /* Linux's numbers: 1 ESTABLISHED ... 11 CLOSING */
    uint8_t ca_state; /* 0 open, 1 disorder, 3 recovery, 4 loss */
    uint8_t retransmits, probes, backoff;
    uint8_t options;    /* SG_TCPI_* */
    uint8_t wscales;    /* of the peer in the low half, ours in the high one */
    uint8_t rate_flags; /* SG_TCPI_RATE_APP, SG_TCPI_FO_SHIFT */
    uint32_t rto_us, ato_us;
    uint32_t snd_mss, rcv_mss;
    uint32_t unacked, sacked, lost, retrans, fackets; /* segments */
    uint32_t last_data_sent_ms, last_ack_sent_ms, last_data_recv_ms, last_ack_recv_ms;
    uint32_t pmtu, rcv_ssthresh;
    uint32_t rtt_us, rttvar_us;
    uint32_t snd_ssthresh, snd_cwnd; /* segments */
    uint32_t advmss, reordering;
    uint32_t rcv_rtt_us, rcv_space;
    uint32_t total_retrans;
    uint64_t pacing_rate, max_pacing_rate;
    uint64_t bytes_acked, bytes_received;
    uint32_t segs_out, segs_in;
    uint32_t notsent_bytes, min_rtt_us;
    uint32_t data_segs_in, data_segs_out;
    uint64_t delivery_rate;
    uint64_t busy_us, rwnd_limited_us, sndbuf_limited_us;
    uint32_t delivered, delivered_ce;
    uint64_t bytes_sent, bytes_retrans;
    uint32_t dsack_dups, reord_seen;
    uint32_t rcv_ooopack, snd_wnd;
};

#define SG_TCP_INFO_WORDS (sizeof(struct sg_tcp_info) / 8)
static_assert(sizeof(struct sg_tcp_info) == 232, "as in Linux");
static_assert(offsetof(struct sg_tcp_info, rto_us) == 8, "layout");
static_assert(offsetof(struct sg_tcp_info, pacing_rate) == 104, "layout");
static_assert(offsetof(struct sg_tcp_info, bytes_sent) == 200, "layout");

#endif

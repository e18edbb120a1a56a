/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "hw/offload.h"
#include "hw/vnet.h"
#include "tests/unit/hw/frames.h"

static const struct frame_addr end_a = {{2, 0, 0, 0, 0, 1}, {10, 0, 0, 1}, 1000};
static const struct frame_addr end_b = {{2, 0, 0, 0, 0, 2}, {10, 0, 0, 2}, 2000};

static uint8_t frame[FRAME_BYTES_MAX];

/** A TCP frame over IPv4 or IPv6 in `frame`, marked for cutting; payload is the pattern. */
static struct pktbuf tcp_frame(bool v4, unsigned flags, unsigned payload, uint16_t gso_size)
{
    uint32_t l4;

    if (v4) {
        l4 = frame_ip4(frame, &end_a, &end_b, 6, FRAME_TCP + payload);
    } else {
        memset(frame, 0, FRAME_ETH + FRAME_IP6);
        frame_put16(frame + 12, 0x86dd);
        frame[14] = 0x60;
        frame_put16(frame + 18, FRAME_TCP + payload);
        frame[20] = 6;
        frame[22] = 0xfd;
        frame[37] = 1;
        frame[38] = 0xfd;
        frame[53] = 2;
        l4 = FRAME_ETH + FRAME_IP6;
    }
    frame_tcp(frame + l4, frame + FRAME_ETH, 1000, 2000, 0xfffffff0u, 77, flags, payload);
    for (uint32_t i = 0; i < payload; i++)
        frame[l4 + FRAME_TCP + i] = frame_pattern(i);
    struct pktbuf pkt = frame_pkt(frame, l4 + FRAME_TCP + payload);
    pkt.flags = PKT_CSUM_PARTIAL;
    pkt.csum_start = (uint16_t)l4;
    pkt.csum_offset = 16;
    pkt.gso_type = v4 ? PKT_GSO_TCP4 : PKT_GSO_TCP6;
    pkt.gso_size = gso_size;
    pkt.hdr_len = (uint16_t)(l4 + FRAME_TCP);
    return pkt;
}

Test(offload, checksum_equals_reference_at_every_length_and_alignment)
{
    uint8_t bytes[80];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(0xf1 + 31 * i);
    for (unsigned at = 0; at < 8; at++)
        for (unsigned len = 0; len < 70; len++) {
            unsigned want = ~frame_sum(bytes + at, len, 0x1234) & 0xffff;
            cr_assert_eq(offload_csum(bytes + at, len, 0x1234), want, "at %u len %u", at, len);
        }
}

Test(offload, partial_checksum_becomes_right)
{
    struct pktbuf pkt = tcp_frame(true, TCP_ACK, 1001, 0);

    cr_assert_not(frame_is_right(frame, pkt.len));
    cr_assert_eq(offload_csum_fill(frame, pkt.len, pkt.csum_start, pkt.csum_offset), 0);
    cr_assert(frame_is_right(frame, pkt.len));
}

Test(offload, udp_checksum_is_never_sent_as_zero)
{
    uint8_t body[2];
    uint32_t zeros = 0;

    /* Over all contents of two bytes the checksum takes every value, 0 among them. */
    for (unsigned v = 0; v < 65536; v++) {
        frame_put16(body, v);
        uint32_t len = frame_udp(frame, &end_a, &end_b, body, 2);
        uint32_t l4 = FRAME_ETH + FRAME_IP4;
        zeros += frame_get16(frame + l4 + 6) == 0xffff;
        frame_put16(frame + l4 + 6, frame_pseudo(frame + FRAME_ETH, FRAME_UDP + 2));
        cr_assert_eq(offload_csum_fill(frame, len, l4, 6), 0);
        cr_assert_neq(frame_get16(frame + l4 + 6), 0);
        cr_assert(frame_is_right(frame, len));
    }
    cr_assert_gt(zeros, 0);
}

Test(offload, checksum_field_outside_the_frame_is_refused)
{
    struct pktbuf pkt = tcp_frame(true, TCP_ACK, 0, 0);

    cr_assert_eq(offload_csum_fill(frame, pkt.len, pkt.len - 1, 0), -EINVAL);
    cr_assert_eq(offload_csum_fill(frame, pkt.len, pkt.len + 1, 0), -EINVAL);
    cr_assert_eq(offload_csum_fill(frame, pkt.len, 34, pkt.len - 34 - 1), -EINVAL);
    cr_assert_eq(offload_csum_fill(frame, pkt.len, 34, 65535), -EINVAL);
    cr_assert_eq(offload_csum_fill(frame, pkt.len, 13, 0), -EINVAL);
    cr_assert_eq(offload_csum_fill(frame, pkt.len, 34, pkt.len - 34 - 2), 0);
}

/** Cut the frame and check every segment against what a sender without offloads would have sent. */
static void check_cut(bool v4, unsigned payload, uint16_t gso_size)
{
    unsigned flags = TCP_ACK | TCP_PSH | TCP_FIN | TCP_CWR;
    struct pktbuf pkt = tcp_frame(v4, flags, payload, gso_size);
    static uint8_t out[FRAME_BYTES_MAX];
    struct tcp_layout layout;
    uint32_t done = 0;

    cr_assert_eq(offload_tcp_layout(frame, pkt.len, pkt.gso_type, &layout), 0);
    cr_assert_eq(layout.hdr_len, pkt.hdr_len);
    uint32_t count = offload_segment_count(&layout, pkt.total, gso_size);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t len = offload_segment(frame, pkt.total, &layout, gso_size, i, out);
        uint32_t bytes = len - layout.hdr_len;
        const uint8_t *tcp = out + layout.l4;
        unsigned want = TCP_ACK | (i == 0 ? TCP_CWR : 0) | (i + 1 == count ? TCP_PSH | TCP_FIN : 0);
        cr_assert(frame_is_right(out, len), "segment %u of %u", i, count);
        cr_assert_eq(bytes, i + 1 < count ? gso_size : payload - done);
        cr_assert_eq(frame_get32(tcp + 4), 0xfffffff0u + done);
        cr_assert_eq(tcp[13], want);
        if (v4)
            cr_assert_eq(frame_get16(out + FRAME_ETH + 4), (0xfffeu + i) & 0xffff);
        for (uint32_t k = 0; k < bytes; k++)
            cr_assert_eq(tcp[FRAME_TCP + k], frame_pattern(done + k));
        done += bytes;
    }
    cr_assert_eq(done, payload);
}

Test(offload, cut_segments_are_whole_and_right_ip4)
{
    check_cut(true, 60000, 1448);
    check_cut(true, 2896, 1448);
    check_cut(true, 2897, 1448);
    check_cut(true, 100, 1448);
    check_cut(true, 0, 1448);
    check_cut(true, 65495, 1);
}

Test(offload, cut_segments_are_whole_and_right_ip6)
{
    check_cut(false, 60000, 1428);
    check_cut(false, 1429, 1428);
}

Test(offload, layout_refuses_what_is_not_an_unfragmented_tcp_segment)
{
    struct tcp_layout layout;
    struct pktbuf pkt = tcp_frame(true, TCP_ACK, 10, 5);

    for (uint32_t len = 0; len < pkt.hdr_len; len++)
        cr_assert_eq(offload_tcp_layout(frame, len, PKT_GSO_TCP4, &layout), -EINVAL, "%u bytes", len);
    cr_assert_eq(offload_tcp_layout(frame, pkt.len, PKT_GSO_TCP6, &layout), -EINVAL);
    cr_assert_eq(offload_tcp_layout(frame, pkt.len, 9, &layout), -EINVAL);

    static const struct {
        unsigned at;
        uint8_t value;
        const char *what;
    } bad[] = {
        {14, 0x44, "IP header of 16 bytes"},
        {14, 0x4f, "IP options beyond the frame"},
        {14, 0x65, "version 6"},
        {20, 0x20, "more fragments"},
        {21, 0x01, "fragment offset"},
        {23, 17, "UDP"},
        {46, 0x40, "TCP header of 16 bytes"},
        {46, 0xf0, "TCP options beyond the frame"},
        {13, 0x06, "ARP"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        pkt = tcp_frame(true, TCP_ACK, 10, 5);
        frame[bad[i].at] = bad[i].value;
        cr_assert_eq(offload_tcp_layout(frame, pkt.len, PKT_GSO_TCP4, &layout), -EINVAL, "%s", bad[i].what);
    }
}

Test(vnet, header_there_and_back_keeps_the_offload_fields)
{
    for (int v4 = 0; v4 < 2; v4++) {
        struct pktbuf sent = tcp_frame(v4, TCP_ACK | TCP_CWR, 6000, 1400);
        struct pktbuf got = frame_pkt(frame, sent.len);
        struct virtio_net_hdr hdr;

        vnet_hdr_build(&sent, &hdr);
        cr_assert(hdr.gso_type & VIRTIO_NET_HDR_GSO_ECN, "CWR is in the TCP header");
        cr_assert_eq(vnet_hdr_parse(&hdr, &got), 0);
        cr_assert_eq(got.flags, sent.flags);
        cr_assert_eq(got.csum_start, sent.csum_start);
        cr_assert_eq(got.csum_offset, sent.csum_offset);
        cr_assert_eq(got.gso_type, sent.gso_type);
        cr_assert_eq(got.gso_size, sent.gso_size);
        cr_assert_eq(got.hdr_len, sent.hdr_len);
    }
}

Test(vnet, plain_frame_has_an_empty_header)
{
    static const struct virtio_net_hdr zero;
    struct pktbuf pkt = frame_pkt(frame, 60);
    struct virtio_net_hdr hdr;

    vnet_hdr_build(&pkt, &hdr);
    cr_assert_eq(memcmp(&hdr, &zero, sizeof(hdr)), 0);
    pkt.flags = PKT_CSUM_PARTIAL;
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), 0);
    cr_assert_eq(pkt.flags, 0);
}

Test(vnet, data_valid_means_good_checksum)
{
    struct virtio_net_hdr hdr = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};
    struct pktbuf pkt = frame_pkt(frame, 60);

    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), 0);
    cr_assert_eq(pkt.flags, PKT_CSUM_GOOD);
}

Test(vnet, header_that_does_not_fit_its_frame_is_refused)
{
    struct pktbuf sent = tcp_frame(true, TCP_ACK, 3000, 1400);
    struct virtio_net_hdr good, hdr;
    struct pktbuf pkt = frame_pkt(frame, sent.len);

    vnet_hdr_build(&sent, &good);
    hdr = good;
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), 0);
    hdr.csum_start = (uint16_t)(sent.len - 1);
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), -EINVAL, "checksum field beyond the frame");
    hdr = good;
    hdr.csum_offset = 65535;
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), -EINVAL, "offset beyond the frame");
    hdr = good;
    hdr.csum_start += 2;
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), -EINVAL, "checksum not that of the TCP header");
    hdr = good;
    hdr.gso_size = 0;
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), -EINVAL, "segments of 0 bytes");
    hdr = good;
    hdr.flags = 0;
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), -EINVAL, "several segments, one finished checksum");
    hdr = good;
    hdr.gso_type = VIRTIO_NET_HDR_GSO_UDP;
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), -EINVAL, "a kind that was not asked for");
    hdr = good;
    hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), -EINVAL, "IPv6 in an IPv4 frame");
    hdr = good;
    pkt = frame_pkt(frame, sent.hdr_len);
    cr_assert_eq(vnet_hdr_parse(&hdr, &pkt), -EINVAL, "nothing to cut");
}

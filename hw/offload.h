/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a network card with offloads does, in software: fill in a partial checksum, cut a GSO frame into the
 * segments that go on the wire. For devices that lack it, and for the simulated link.
 *
 * Pure functions over memory; any thread. Frames may come from outside: every header field is checked
 * against the length before it is used.
 */
#ifndef HW_OFFLOAD_H
#define HW_OFFLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "hw/pktbuf.h"

#define ETH_HDR_BYTES     14u
#define FRAME_BYTES_MAX   (65535u + ETH_HDR_BYTES)         /* the largest IP packet and its Ethernet header */
#define TCP_CSUM_OFFSET   16u                              /* of the checksum field in the TCP header */
#define GSO_HDR_BYTES_MAX (ETH_HDR_BYTES + 4u + 60u + 60u) /* with a VLAN tag */

/**
 * The Internet checksum (RFC 1071) of `len` bytes, ready to be stored big-endian.
 * @param sum  a sum to add to, in host order: a pseudo header's, or 0. Not complemented.
 * @return the complemented sum in host order
 */
uint16_t offload_csum(const uint8_t *bytes, size_t len, uint32_t sum);

/**
 * Fill in the checksum of a linear frame: from csum_start to the end, stored at csum_start + csum_offset,
 * where the field holds the pseudo-header sum now.
 * @return 0, or -EINVAL when the field does not lie within the frame (the frame is then unchanged)
 */
int offload_csum_fill(uint8_t *frame, uint32_t len, uint32_t csum_start, uint32_t csum_offset);

/** Where the headers of a TCP frame lie; offsets from the Ethernet header. */
struct tcp_layout {
    uint16_t l3;      /* IP header: ETH_HDR_BYTES, or behind one 802.1Q tag */
    uint16_t l4;      /* TCP header */
    uint16_t hdr_len; /* first payload byte */
};

/**
 * Parse the headers of a frame that is said to be of `gso_type` (PKT_GSO_TCP4 or PKT_GSO_TCP6).
 * @param len  bytes of `frame` that may be read: all headers must lie within
 * One 802.1Q tag may stand before the IP header.
 * @return 0, or -EINVAL when it is not an unfragmented TCP segment of that IP version without IPv6 extension
 *         headers
 */
int offload_tcp_layout(const uint8_t *frame, uint32_t len, uint8_t gso_type, struct tcp_layout *ret);

/** The number of segments that a frame of `total` bytes with these headers is cut into; at least 1. */
uint32_t offload_segment_count(const struct tcp_layout *layout, uint32_t total, uint16_t gso_size);

/**
 * Build segment `index` of a GSO frame: headers repeated, IP length, identification and checksum, TCP
 * sequence number, flags (CWR on the first only, FIN and PSH on the last only) and checksum set.
 * @param frame    the whole frame, linear, `total` bytes, headers as offload_tcp_layout() accepted them
 * @param index    0 .. offload_segment_count() - 1
 * @param out      receives layout->hdr_len + gso_size bytes at most; does not overlap `frame`
 * @return bytes of the segment
 */
uint32_t offload_segment(const uint8_t *frame, uint32_t total, const struct tcp_layout *layout,
                         uint16_t gso_size, uint32_t index, uint8_t *out);

/** Copy all bytes of a frame, linear part and fragments, to `out`, which has room for pkt->total bytes. */
void offload_gather(const struct pktbuf *pkt, uint8_t *out);

#endif

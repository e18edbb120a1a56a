/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-net header that the kernel puts before each frame of a TAP device (IFF_VNET_HDR) or of a packet
 * socket (PACKET_VNET_HDR), to and from the fields of a pktbuf. The plain header of 10 bytes, fields in host
 * order; the longer one only adds a buffer count that neither uses.
 *
 * Pure functions; any thread.
 */
#ifndef HW_VNET_H
#define HW_VNET_H

#include <stdint.h>
#include <linux/virtio_net.h>

#include "hw/pktbuf.h"

#define VNET_HDR_BYTES 10u

/**
 * Check the header of a received frame and set the offload fields of `pkt`, whose data, len and total are
 * set already (linear).
 * @return 0, or -EINVAL for a header that does not fit the frame, or asks for what a pktbuf can't say
 */
int vnet_hdr_parse(const struct virtio_net_hdr *hdr, struct pktbuf *pkt);

/** The header for a frame to send. */
void vnet_hdr_build(const struct pktbuf *pkt, struct virtio_net_hdr *ret);

#endif

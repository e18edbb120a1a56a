/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An XDP socket on one queue of an interface, and the memory that its frames lie in: chunks of a page, half
 * of them to receive, half to send.
 */
#ifndef HW_XDP_RING_H
#define HW_XDP_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <xdp/xsk.h>

#include "hw/device.h"

#define XDP_CHUNK_BYTES 4096u
#define XDP_RX_CHUNKS   2048u
#define XDP_TX_CHUNKS   2048u
/* The kernel keeps its headroom free before each frame that it receives (XDP_PACKET_HEADROOM). */
#define XDP_FRAME_MAX   (XDP_CHUNK_BYTES - 256u)

struct xdp_ring {
    uint8_t *memory;
    struct xsk_umem *umem;
    struct xsk_socket *socket;
    struct xsk_ring_prod fill, tx;
    struct xsk_ring_cons rx, completion;
    bool zero_copy;
    unsigned held; /* frames of the last burst, which go back with the next */
    uint64_t held_addr[DEV_RX_BURST_MAX];
    unsigned free_count;
    uint64_t free[XDP_TX_CHUNKS]; /* chunks to send from */
    struct pktbuf pkts[DEV_RX_BURST_MAX];
};

/**
 * Open a socket on a queue.
 * @param zero_copy  try that first
 * @param ret        to be closed in both cases
 * @return 0 or -errno
 */
int xdp_ring_open(struct xdp_ring *ret, const char *ifname, uint32_t queue, bool zero_copy);
void xdp_ring_close(struct xdp_ring *r);

/** Let the program's map lead to the socket. Returns 0 or -errno. */
int xdp_ring_publish(struct xdp_ring *r, int xsks);

int xdp_ring_fd(const struct xdp_ring *r);

/** As device_ops.rx_burst and tx_burst, without counting. A frame to send is at most XDP_FRAME_MAX long. */
unsigned xdp_ring_rx(struct xdp_ring *r, struct pktbuf *pkts[], unsigned max);
unsigned xdp_ring_tx(struct xdp_ring *r, struct pktbuf *const pkts[], unsigned n);

/** Frames wait to be received. */
bool xdp_ring_pending(struct xdp_ring *r);

/** Frames of ours that the kernel had no room for, or found wrong. */
uint64_t xdp_ring_lost(const struct xdp_ring *r);

#endif

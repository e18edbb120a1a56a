/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device over a descriptor of the kernel's that moves one frame a call, each behind a virtio-net header of
 * VNET_HDR_BYTES: a TAP descriptor or a packet socket. They differ in how one frame is read, and in which
 * errors are the end; the rest is here.
 */
#ifndef HW_VNET_FD_H
#define HW_VNET_FD_H

#include <assert.h>
#include <liburing.h>
#include <sys/uio.h>

#include "hw/netif.h"
#include "hw/offload.h"
#include "hw/vnet.h"

/* A receive buffer: 8 bytes so that the IP header, behind 10 of virtio-net and 14 of Ethernet, starts at a
 * multiple of 32; the header; room for the largest frame, a VLAN tag, and more, so that a frame that fills
 * the buffer is known to be cut off. An odd number of cache lines, so that the headers of a burst don't all
 * fall into one set of the cache. */
#define VNET_RX_SHIFT_BYTES  8u
#define VNET_RX_STRIDE_BYTES (65536u + 3 * 64u)
#define VNET_RX_READ_BYTES   (VNET_RX_STRIDE_BYTES - VNET_RX_SHIFT_BYTES)

/* A burst of long frames is kept to about so much, but for its first: what is read is copied into the receive
 * rings while it is still in the processor's cache, and the application may begin with it. */
#define VNET_RX_BURST_BYTES  (256u << 10)

static_assert((VNET_RX_SHIFT_BYTES + VNET_HDR_BYTES + ETH_HDR_BYTES) % 32 == 0, "IP header alignment");
static_assert(VNET_RX_READ_BYTES > VNET_HDR_BYTES + FRAME_BYTES_MAX + 4, "room for the largest frame, a tag");

#define VNET_FD_INDEX   0 /* of the descriptor among the ring's files */
#define VNET_TX_IOV_MAX (2u + PKT_FRAGS_MAX)

struct vnet_fd;

/** How a kind of descriptor is read. Buffer `index` is vnet_fd_rx_buffer(). */
struct vnet_fd_kind {
    bool ends_with_link; /* the descriptor doesn't outlive its interface here, nor does it tell */
    /** Prepare the request that reads a frame into the buffer; file and user data are set behind it. */
    void (*rx_prepare)(struct vnet_fd *v, unsigned index, struct io_uring_sqe *sqe);
    /** The same by a plain system call. Returns bytes or -errno. */
    int (*rx_plain)(struct vnet_fd *v, unsigned index);
    /** Make rx_pkts[index] of the `bytes` that were read; false: it is no good frame. */
    bool (*rx_frame)(struct vnet_fd *v, unsigned index, unsigned bytes);
    /** A read returned `res`: 0, or -errno when that is the end of the descriptor. */
    int (*rx_final)(const struct vnet_fd *v, int res);
};

/** A kind's own struct begins with it. */
struct vnet_fd {
    struct device dev; /* first: struct device * is struct vnet_fd * */
    const struct vnet_fd_kind *kind;
    int fd;
    int failed; /* 0, or the -errno with which the device ended */
    unsigned rx_want;
    bool rx_full; /* the last burst got all it asked for */
    struct netif_link link;
    struct io_uring ring;
    uint8_t *rx_mem; /* DEV_RX_BURST_MAX buffers of VNET_RX_STRIDE_BYTES */
    struct device_caps caps;
    struct device_stats stats;
    struct pktbuf rx_pkts[DEV_RX_BURST_MAX];
    struct virtio_net_hdr tx_hdrs[DEV_TX_BURST_MAX];
    struct iovec tx_iov[DEV_TX_BURST_MAX][VNET_TX_IOV_MAX];
};

/**
 * Set up a zeroed `v`.
 * @param ops   of the device; its functions may be those below
 * @param fd    taken over on success only; in non-blocking mode (O_NONBLOCK), or rx_burst() would block
 * @param caps  what the device reports, as the descriptor is configured
 * @return 0 or -errno: -ENOMEM, or what io_uring_setup(2) says
 */
int vnet_fd_open(struct vnet_fd *v, const struct vnet_fd_kind *kind, const struct device_ops *ops, int fd,
                 const struct device_caps *caps);
/** Have the device own `l`, which is open, and answer for its link by it. */
void vnet_fd_watch(struct vnet_fd *v, const struct netif_link *l);
/** What went wrong in vnet_fd_open(), with what to do about it. */
const char *vnet_fd_open_error(int err);

/** For rx_final: after this error the descriptor never works again: the interface was deleted, or the fd is
 * not it. */
bool vnet_fd_error_is_final(int res);

static inline uint8_t *vnet_fd_rx_buffer(const struct vnet_fd *v, unsigned index)
{
    return v->rx_mem + (size_t)index * VNET_RX_STRIDE_BYTES + VNET_RX_SHIFT_BYTES;
}

/* For struct device_ops. */
int vnet_fd_rx_burst(struct device *dev, struct pktbuf *pkts[], unsigned max);
int vnet_fd_tx_burst(struct device *dev, struct pktbuf *const pkts[], unsigned n);
int vnet_fd_wait_fd(struct device *dev);
bool vnet_fd_rx_pending(struct device *dev);
void vnet_fd_caps(const struct device *dev, struct device_caps *ret);
void vnet_fd_stats(const struct device *dev, struct device_stats *ret);
int vnet_fd_link_fd(struct device *dev);
void vnet_fd_link(struct device *dev, struct device_link *ret);
void vnet_fd_close(struct device *dev); /* of a kind's struct from the heap: frees it too */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a TAP descriptor: one a read(2), the virtio-net header before it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hw/tap.h"
#include "hw/vnet_fd.h"

static void tap_rx_prepare(struct vnet_fd *v, unsigned index, struct io_uring_sqe *sqe)
{
    io_uring_prep_read(sqe, VNET_FD_INDEX, vnet_fd_rx_buffer(v, index), VNET_RX_READ_BYTES, 0);
    sqe->rw_flags = RWF_NOWAIT;
}

static int tap_rx_plain(struct vnet_fd *v, unsigned index)
{
    ssize_t n = read(v->fd, vnet_fd_rx_buffer(v, index), VNET_RX_READ_BYTES);

    return n < 0 ? -errno : (int)n;
}

static bool tap_rx_frame(struct vnet_fd *v, unsigned index, unsigned bytes)
{
    uint8_t *mem = vnet_fd_rx_buffer(v, index);
    struct pktbuf *pkt = &v->rx_pkts[index];
    struct virtio_net_hdr hdr;

    if (bytes < VNET_HDR_BYTES + ETH_HDR_BYTES)
        return false;
    memcpy(&hdr, mem, sizeof(hdr));
    pkt->data = mem + VNET_HDR_BYTES;
    pkt->len = bytes - VNET_HDR_BYTES;
    pkt->total = pkt->len;
    pkt->frag_count = 0;
    /* A frame that was cut off is above this limit too: the buffer is longer. */
    return pkt->total <= FRAME_BYTES_MAX && !vnet_hdr_parse(&hdr, pkt);
}

/* The kernel ends the descriptor of a deleted interface with an end of file. */
static int tap_rx_final(const struct vnet_fd *v, int res)
{
    (void)v;
    if (res == 0)
        return -ENODEV;
    return vnet_fd_error_is_final(res) ? res : 0;
}

static const struct vnet_fd_kind tap_kind = {
    .rx_prepare = tap_rx_prepare,
    .rx_plain = tap_rx_plain,
    .rx_frame = tap_rx_frame,
    .rx_final = tap_rx_final,
};

static const struct device_ops tap_ops = {
    .kind = "tap",
    .rx_burst = vnet_fd_rx_burst,
    .tx_burst = vnet_fd_tx_burst,
    .wait_fd = vnet_fd_wait_fd,
    .rx_pending = vnet_fd_rx_pending,
    .caps = vnet_fd_caps,
    .stats = vnet_fd_stats,
    .link_fd = vnet_fd_link_fd,
    .link = vnet_fd_link,
    .close = vnet_fd_close,
};

int tap_device_create(int fd, const struct device_caps *caps, struct device **ret)
{
    struct vnet_fd *v = calloc(1, sizeof(*v));
    int r;

    if (!v)
        return -ENOMEM;
    r = vnet_fd_open(v, &tap_kind, &tap_ops, fd, caps);
    if (r)
        free(v);
    else
        *ret = &v->dev;
    return r;
}

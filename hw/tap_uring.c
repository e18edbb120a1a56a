/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a TAP descriptor, many to a system call.
 *
 * A TAP descriptor moves one frame a read or write; io_uring lets a burst of them share one
 * io_uring_enter(2). Every request carries RWF_NOWAIT, so the kernel completes it while it is being
 * submitted, with -EAGAIN if it would have to wait. Nothing is ever in flight between two calls: memory
 * belongs to who the contract of device.h says, order is the order of submission, and there is nothing to
 * cancel on close.
 *
 * Reads are guesses, since the kernel does not say how many frames wait. Too many cost an -EAGAIN each, too
 * few another system call. So the next burst asks for one more than the last one got, and for twice as many
 * when that one was full: an idle device wastes one request a poll, a busy one moves DEV_RX_BURST_MAX frames.
 *
 * An io_uring_enter(2) costs twice as much as a read(2) before it has done anything (0.5 us against 0.25
 * where tests/tools/tap_rate.c was run first). So the smallest bursts are plain reads that stop at the first
 * -EAGAIN, and a single frame is sent by a plain writev(2): all the traffic of a quiet request and response.
 *
 * Buffers are not registered with io_uring. The TAP driver copies with copy_to_user() and gains nothing from
 * pinned pages, while 4 MiB that are only touched as far as frames reach cost next to nothing.
 */
#include "hw/tap.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hw/offload.h"
#include "hw/vnet.h"

/* A receive buffer: 8 bytes so that the IP header, behind 10 of virtio-net and 14 of Ethernet, starts at a
 * multiple of 32; the header; room for the largest frame, a VLAN tag, and more, so that a frame that fills
 * the buffer is known to be cut off. An odd number of cache lines, so that the headers of a burst don't all
 * fall into one set of the cache. */
#define RX_SHIFT_BYTES   8u
#define RX_STRIDE_BYTES  (65536u + 3 * 64u)
#define RX_READ_BYTES    (RX_STRIDE_BYTES - RX_SHIFT_BYTES)

#define RX_PLAIN_MAX     4u /* frames a burst that are read one by one; above, io_uring pays */
#define RING_ENTRIES     64u
#define RING_TRIES_MAX   1000u /* of one io_uring_enter that the kernel has no memory for */
#define FIXED_FILE_INDEX 0
#define IOV_MAX_FRAME    (2u + PKT_FRAGS_MAX)

static_assert(RING_ENTRIES >= DEV_RX_BURST_MAX, "a burst to receive fits the ring");
static_assert(RING_ENTRIES >= DEV_TX_BURST_MAX, "a burst to send fits the ring");
static_assert((RX_SHIFT_BYTES + VNET_HDR_BYTES + ETH_HDR_BYTES) % 32 == 0, "IP header alignment");
static_assert(RX_READ_BYTES > VNET_HDR_BYTES + FRAME_BYTES_MAX + 4, "room for the largest frame and a tag");

struct tap {
    struct device dev; /* first: struct device * is struct tap * */
    int fd;
    int failed; /* 0, or the -errno with which the device ended */
    unsigned rx_want;
    bool rx_full; /* the last burst got all it asked for */
    struct tap_link link;
    struct io_uring ring;
    uint8_t *rx_mem; /* DEV_RX_BURST_MAX buffers of RX_STRIDE_BYTES */
    struct device_caps caps;
    struct device_stats stats;
    struct pktbuf rx_pkts[DEV_RX_BURST_MAX];
    struct virtio_net_hdr tx_hdrs[DEV_TX_BURST_MAX];
    struct iovec tx_iov[DEV_TX_BURST_MAX][IOV_MAX_FRAME];
};

static struct tap *tap_of(struct device *dev)
{
    return (struct tap *)dev;
}

static const struct tap *tap_of_const(const struct device *dev)
{
    return (const struct tap *)dev;
}

/** Errors after which the descriptor will never work again: the interface was deleted, or the fd is not it.
 */
static bool error_is_final(int res)
{
    return res == -EBADFD || res == -EBADF || res == -ENODEV || res == -ENXIO || res == -EOPNOTSUPP;
}

/**
 * Submit the `n` requests that were prepared with user_data 0..n-1 and collect all their results.
 * @return 0, or -errno when io_uring itself failed; what became of the requests is then unknown
 */
static int ring_run(struct tap *tap, unsigned n, int res[])
{
    unsigned done = 0;

    for (unsigned tries = 0; done < n; tries++) {
        int r = io_uring_submit_and_wait(&tap->ring, n - done);
        if (r < 0 && ((r != -EINTR && r != -EAGAIN) || tries >= RING_TRIES_MAX))
            return r;
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&tap->ring, head, cqe)
        {
            assert(cqe->user_data < n);
            res[cqe->user_data] = cqe->res;
            seen++;
        }
        io_uring_cq_advance(&tap->ring, seen);
        done += seen;
    }
    assert(done == n);
    return 0;
}

/** A request, to be completed now or refused with -EAGAIN. */
static void ring_nowait(struct io_uring_sqe *sqe, unsigned user_data)
{
    sqe->rw_flags = RWF_NOWAIT;
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    sqe->user_data = user_data;
}

static struct io_uring_sqe *ring_sqe(struct tap *tap)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&tap->ring);

    assert(sqe); /* each burst leaves the ring empty */
    return sqe;
}

static int device_failed(struct tap *tap, int err)
{
    tap->failed = err;
    tap->rx_full = false;
    return err;
}

/* ---- Receive --------------------------------------------------------------------------------- */

static uint8_t *rx_buffer(const struct tap *tap, unsigned index)
{
    return tap->rx_mem + (size_t)index * RX_STRIDE_BYTES + RX_SHIFT_BYTES;
}

/** Make a pktbuf of what was read into buffer `index`; NULL if it is no good frame. */
static struct pktbuf *rx_frame(struct tap *tap, unsigned index, int res)
{
    uint8_t *mem = rx_buffer(tap, index);
    struct pktbuf *pkt = &tap->rx_pkts[index];
    struct virtio_net_hdr hdr;

    if (res < (int)(VNET_HDR_BYTES + ETH_HDR_BYTES))
        return NULL;
    memcpy(&hdr, mem, sizeof(hdr));
    pkt->data = mem + VNET_HDR_BYTES;
    pkt->len = (uint32_t)res - VNET_HDR_BYTES;
    pkt->total = pkt->len;
    pkt->frag_count = 0;
    /* A frame that was cut off is above this limit too: the buffer is longer. */
    if (pkt->total > FRAME_BYTES_MAX || vnet_hdr_parse(&hdr, pkt))
        return NULL;
    return pkt;
}

/** Fill the first `want` buffers as far as frames wait; what each read returned goes to res. */
static int rx_read(struct tap *tap, unsigned want, int res[])
{
    if (want > RX_PLAIN_MAX) {
        for (unsigned i = 0; i < want; i++) {
            struct io_uring_sqe *sqe = ring_sqe(tap);
            io_uring_prep_read(sqe, FIXED_FILE_INDEX, rx_buffer(tap, i), RX_READ_BYTES, 0);
            ring_nowait(sqe, i);
        }
        return ring_run(tap, want, res);
    }
    for (unsigned i = 0; i < want; i++) {
        ssize_t n = read(tap->fd, rx_buffer(tap, i), RX_READ_BYTES);
        res[i] = n < 0 ? -errno : (int)n;
        if (n == 0 || res[i] == -EAGAIN) {
            for (unsigned k = i + 1; k < want; k++)
                res[k] = -EAGAIN;
            break;
        }
    }
    return 0;
}

static int tap_rx_burst(struct device *dev, struct pktbuf *pkts[], unsigned max)
{
    struct tap *tap = tap_of(dev);
    int res[DEV_RX_BURST_MAX];
    unsigned want = tap->rx_want < max ? tap->rx_want : max;
    unsigned got = 0, frames = 0;

    if (tap->failed)
        return tap->failed;
    if (want == 0)
        return 0;
    int r = rx_read(tap, want, res);
    if (r)
        return device_failed(tap, r);

    for (unsigned i = 0; i < want; i++) {
        if (res[i] == -EAGAIN)
            continue;
        if (res[i] == 0 || error_is_final(res[i])) {
            (void)device_failed(tap, res[i] ? res[i] : -ENODEV);
            break;
        }
        got++;
        struct pktbuf *pkt = res[i] > 0 ? rx_frame(tap, i, res[i]) : NULL;
        if (!pkt) {
            tap->stats.rx_errors++;
            continue;
        }
        tap->stats.rx_frames++;
        tap->stats.rx_bytes += pkt->total;
        pkts[frames++] = pkt;
    }
    if (tap->failed)
        return frames ? (int)frames : tap->failed;
    tap->rx_full = got == want;
    unsigned next = tap->rx_full ? 2 * want : got + 1;
    /* A short `max` says nothing about the device: don't let it shrink the guess. */
    if (!tap->rx_full || next > tap->rx_want)
        tap->rx_want = next < DEV_RX_BURST_MAX ? next : DEV_RX_BURST_MAX;
    return (int)frames;
}

static bool tap_rx_pending(struct device *dev)
{
    return tap_of(dev)->rx_full;
}

/* ---- Send ------------------------------------------------------------------------------------ */

/** Describe a frame for writev; returns the number of pieces, and the bytes of all of them in *ret_bytes. */
static unsigned tx_describe(struct tap *tap, unsigned slot, const struct pktbuf *pkt, uint32_t *ret_bytes)
{
    struct iovec *iov = tap->tx_iov[slot];
    uint32_t bytes = pkt->len;
    unsigned count = 2;

    vnet_hdr_build(pkt, &tap->tx_hdrs[slot]);
    iov[0] = (struct iovec){.iov_base = &tap->tx_hdrs[slot], .iov_len = VNET_HDR_BYTES};
    iov[1] = (struct iovec){.iov_base = pkt->data, .iov_len = pkt->len};
    assert(pkt->frag_count <= PKT_FRAGS_MAX);
    for (unsigned i = 0; i < pkt->frag_count; i++) {
        /* writev only reads; its argument has no const. */
        iov[count++] = (struct iovec){.iov_base = (void *)pkt->frag[i].ptr, .iov_len = pkt->frag[i].len};
        bytes += pkt->frag[i].len;
    }
    assert(bytes == pkt->total);
    *ret_bytes = bytes + VNET_HDR_BYTES;
    return count;
}

/**
 * Count the results of a burst and return how many frames are taken.
 *
 * The device is full from the first -EAGAIN that no success follows. One that a success does follow (room
 * came up in between) must count as taken, or the later frame would be sent twice: it is a frame lost to a
 * full queue.
 */
static int tx_account(struct tap *tap, const int res[], const uint32_t bytes[], unsigned n)
{
    unsigned taken = n;
    unsigned final = n;

    for (unsigned i = 0; i < n && final == n; i++)
        if (error_is_final(res[i]))
            final = i;
    if (final < n) {
        (void)device_failed(tap, res[final]);
        taken = final;
    }
    while (taken > 0 && res[taken - 1] == -EAGAIN)
        taken--;
    if (taken < n && final == n)
        tap->stats.tx_full++;
    for (unsigned i = 0; i < taken; i++) {
        if (bytes[i] == 0 || res[i] != (int)bytes[i]) {
            tap->stats.tx_errors++;
            continue;
        }
        tap->stats.tx_frames++;
        tap->stats.tx_bytes += bytes[i] - VNET_HDR_BYTES;
    }
    return taken == 0 && tap->failed ? tap->failed : (int)taken;
}

/** Write the frames described in the first `n` slots of tx_iov; what each write returned goes to res. */
static int tx_write(struct tap *tap, const unsigned pieces[], unsigned n, int res[])
{
    if (n == 1) {
        ssize_t written = writev(tap->fd, tap->tx_iov[0], (int)pieces[0]);
        res[0] = written < 0 ? -errno : (int)written;
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        struct io_uring_sqe *sqe = ring_sqe(tap);
        io_uring_prep_writev(sqe, FIXED_FILE_INDEX, tap->tx_iov[i], pieces[i], 0);
        ring_nowait(sqe, i);
    }
    return ring_run(tap, n, res);
}

static int tap_tx_burst(struct device *dev, struct pktbuf *const pkts[], unsigned n)
{
    struct tap *tap = tap_of(dev);
    int res[DEV_TX_BURST_MAX], written[DEV_TX_BURST_MAX];
    unsigned pieces[DEV_TX_BURST_MAX];
    uint32_t bytes[DEV_TX_BURST_MAX];
    unsigned tried = 0;

    if (tap->failed)
        return tap->failed;
    if (n > DEV_TX_BURST_MAX)
        n = DEV_TX_BURST_MAX;
    for (unsigned i = 0; i < n; i++) {
        bytes[i] = 0; /* what is not even tried counts as refused */
        res[i] = -EMSGSIZE;
        if (pkts[i]->total > tap->caps.tx_frame_max)
            continue;
        pieces[tried] = tx_describe(tap, tried, pkts[i], &bytes[i]);
        tried++;
    }
    int r = tried ? tx_write(tap, pieces, tried, written) : 0;
    if (r)
        return device_failed(tap, r);
    for (unsigned i = 0, k = 0; i < n; i++)
        if (bytes[i])
            res[i] = written[k++];
    return tx_account(tap, res, bytes, n);
}

/* ---- The rest -------------------------------------------------------------------------------- */

static int tap_wait_fd(struct device *dev)
{
    return tap_of(dev)->fd;
}

static void tap_caps(const struct device *dev, struct device_caps *ret)
{
    *ret = tap_of_const(dev)->caps;
}

static void tap_stats(const struct device *dev, struct device_stats *ret)
{
    *ret = tap_of_const(dev)->stats;
}

static int tap_link_fd(struct device *dev)
{
    return tap_of(dev)->link.events;
}

static void tap_link(struct device *dev, struct device_link *ret)
{
    struct tap *tap = tap_of(dev);

    if (tap->link.events >= 0)
        tap_link_state(&tap->link, ret);
    else
        *ret = (struct device_link){.up = true, .mtu = tap->caps.mtu};
}

void tap_device_watch(struct device *dev, const struct tap_link *l)
{
    tap_of(dev)->link = *l;
}

static void tap_close(struct device *dev)
{
    struct tap *tap = tap_of(dev);

    if (!tap)
        return;
    /* The kernel tears a ring down in the background; a file still registered would hold the interface's name
     * until then, and the next open would find it busy. */
    (void)io_uring_unregister_files(&tap->ring);
    io_uring_queue_exit(&tap->ring);
    (void)close(tap->fd);
    tap_link_close(&tap->link);
    (void)munmap(tap->rx_mem, (size_t)DEV_RX_BURST_MAX * RX_STRIDE_BYTES);
    free(tap);
}

static const struct device_ops tap_ops = {
    .kind = "tap",
    .rx_burst = tap_rx_burst,
    .tx_burst = tap_tx_burst,
    .wait_fd = tap_wait_fd,
    .rx_pending = tap_rx_pending,
    .caps = tap_caps,
    .stats = tap_stats,
    .link_fd = tap_link_fd,
    .link = tap_link,
    .close = tap_close,
};

int tap_device_create(int fd, const struct device_caps *caps, struct device **ret)
{
    /* One request that the kernel can't even prepare must not keep those behind it from being submitted. */
    struct io_uring_params params = {.flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP};
    struct tap *tap = calloc(1, sizeof(*tap));
    int r;

    if (!tap)
        return -ENOMEM;
    tap->dev.ops = &tap_ops;
    tap->fd = fd;
    tap->rx_want = 1;
    tap->link = TAP_LINK_CLOSED;
    tap->caps = *caps;
    tap->rx_mem = mmap(NULL, (size_t)DEV_RX_BURST_MAX * RX_STRIDE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (tap->rx_mem == MAP_FAILED) {
        r = -ENOMEM;
        goto free_tap;
    }
    r = io_uring_queue_init_params(RING_ENTRIES, &tap->ring, &params);
    if (r)
        goto unmap;
    r = io_uring_register_files(&tap->ring, &fd, 1);
    if (r)
        goto exit_ring;
    *ret = &tap->dev;
    return 0;

exit_ring:
    io_uring_queue_exit(&tap->ring);
unmap:
    (void)munmap(tap->rx_mem, (size_t)DEV_RX_BURST_MAX * RX_STRIDE_BYTES);
free_tap:
    free(tap);
    return r;
}

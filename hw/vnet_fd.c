/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a descriptor, many to a system call.
 *
 * The descriptor moves one frame a read or write; io_uring lets a burst of them share one
 * io_uring_enter(2). Every request is one that must not wait (RWF_NOWAIT, MSG_DONTWAIT), so the kernel
 * completes it while it is being submitted, with -EAGAIN if it would have to wait. Nothing is ever in flight
 * between two calls: memory belongs to who the contract of device.h says, order is the order of submission,
 * and there is nothing to cancel on close.
 *
 * Reads are guesses, since the kernel does not say how many frames wait. Too many cost an -EAGAIN each, too
 * few another system call. So the next burst asks for one more than the last one got, and for twice as many
 * when that one was full: an idle device wastes one request a poll, a busy one moves DEV_RX_BURST_MAX frames.
 *
 * An io_uring_enter(2) costs twice as much as a read(2) before it has done anything (0.5 us against 0.25
 * where tests/tools/tap_rate.c was run first). So the smallest bursts are plain reads that stop at the first
 * -EAGAIN, and a single frame is sent by a plain writev(2): all the traffic of a quiet request and response.
 *
 * Buffers are not registered with io_uring. The kernel copies with copy_to_user() and gains nothing from
 * pinned pages, while 4 MiB that are only touched as far as frames reach cost next to nothing.
 */
#include "hw/vnet_fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RX_PLAIN_MAX   4u /* frames a burst that are read one by one; above, io_uring pays */
#define RING_ENTRIES   64u
#define RING_TRIES_MAX 1000u /* of one io_uring_enter that the kernel has no memory for */

static_assert(RING_ENTRIES >= DEV_RX_BURST_MAX, "a burst to receive fits the ring");
static_assert(RING_ENTRIES >= DEV_TX_BURST_MAX, "a burst to send fits the ring");

static struct vnet_fd *vnet_fd_of(struct device *dev)
{
    return (struct vnet_fd *)dev;
}

static const struct vnet_fd *vnet_fd_of_const(const struct device *dev)
{
    return (const struct vnet_fd *)dev;
}

bool vnet_fd_error_is_final(int res)
{
    return res == -EBADFD || res == -EBADF || res == -ENODEV || res == -ENXIO || res == -EOPNOTSUPP;
}

/**
 * Submit the `n` requests that were prepared with user_data 0..n-1 and collect all their results.
 * @return 0, or -errno when io_uring itself failed; what became of the requests is then unknown
 */
static int ring_run(struct vnet_fd *v, unsigned n, int res[])
{
    unsigned done = 0;

    for (unsigned tries = 0; done < n; tries++) {
        int r = io_uring_submit_and_wait(&v->ring, n - done);
        if (r < 0 && ((r != -EINTR && r != -EAGAIN) || tries >= RING_TRIES_MAX))
            return r;
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&v->ring, head, cqe)
        {
            assert(cqe->user_data < n);
            res[cqe->user_data] = cqe->res;
            seen++;
        }
        io_uring_cq_advance(&v->ring, seen);
        done += seen;
    }
    assert(done == n);
    return 0;
}

/** What all requests have: the file, and their number. */
static void ring_finish(struct io_uring_sqe *sqe, unsigned user_data)
{
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    sqe->user_data = user_data;
}

static struct io_uring_sqe *ring_sqe(struct vnet_fd *v)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&v->ring);

    assert(sqe); /* each burst leaves the ring empty */
    return sqe;
}

static int device_failed(struct vnet_fd *v, int err)
{
    v->failed = err;
    v->rx_full = false;
    return err;
}

/* ---- Receive --------------------------------------------------------------------------------- */

/** Fill the first `want` buffers as far as frames wait; what each read returned goes to res. */
static int rx_read(struct vnet_fd *v, unsigned want, int res[])
{
    if (want > RX_PLAIN_MAX) {
        for (unsigned i = 0; i < want; i++) {
            struct io_uring_sqe *sqe = ring_sqe(v);
            v->kind->rx_prepare(v, i, sqe);
            ring_finish(sqe, i);
        }
        return ring_run(v, want, res);
    }
    for (unsigned i = 0; i < want; i++) {
        res[i] = v->kind->rx_plain(v, i);
        if (res[i] == 0 || res[i] == -EAGAIN) {
            for (unsigned k = i + 1; k < want; k++)
                res[k] = -EAGAIN;
            break;
        }
    }
    return 0;
}

/** The most frames to ask for, when the last `got` had so many bytes. */
static unsigned rx_limit(unsigned got, uint64_t bytes)
{
    uint64_t most = bytes ? (uint64_t)VNET_RX_BURST_BYTES * got / bytes : DEV_RX_BURST_MAX;

    if (most < RX_PLAIN_MAX)
        return RX_PLAIN_MAX;
    return most < DEV_RX_BURST_MAX ? (unsigned)most : DEV_RX_BURST_MAX;
}

/** The next burst's guess, after one that asked for `want` and got `got` of so many bytes. */
static void rx_guess(struct vnet_fd *v, unsigned want, unsigned got, uint64_t bytes)
{
    unsigned limit = rx_limit(got, bytes);

    v->rx_full = got == want;
    unsigned next = v->rx_full ? 2 * want : got + 1;
    /* A short `max` says nothing about the device: don't let it shrink the guess. */
    if (!v->rx_full || next > v->rx_want)
        v->rx_want = next;
    if (v->rx_want > limit)
        v->rx_want = limit;
}

int vnet_fd_rx_burst(struct device *dev, struct pktbuf *pkts[], unsigned max)
{
    struct vnet_fd *v = vnet_fd_of(dev);
    int res[DEV_RX_BURST_MAX];
    unsigned want = v->rx_want < max ? v->rx_want : max;
    unsigned got = 0, frames = 0;
    uint64_t before = v->stats.rx_bytes;

    if (v->failed)
        return v->failed;
    if (v->kind->ends_with_link && netif_link_is_gone(&v->link))
        return device_failed(v, -ENODEV);
    if (want == 0)
        return 0;
    int r = rx_read(v, want, res);
    if (r)
        return device_failed(v, r);

    for (unsigned i = 0; i < want; i++) {
        if (res[i] == -EAGAIN)
            continue;
        if (res[i] <= 0 && (r = v->kind->rx_final(v, res[i]))) {
            (void)device_failed(v, r);
            break;
        }
        got++;
        if (res[i] <= 0 || !v->kind->rx_frame(v, i, (unsigned)res[i])) {
            v->stats.rx_errors++;
            continue;
        }
        v->stats.rx_frames++;
        v->stats.rx_bytes += v->rx_pkts[i].total;
        pkts[frames++] = &v->rx_pkts[i];
    }
    if (v->failed)
        return frames ? (int)frames : v->failed;
    rx_guess(v, want, got, v->stats.rx_bytes - before);
    return (int)frames;
}

bool vnet_fd_rx_pending(struct device *dev)
{
    return vnet_fd_of(dev)->rx_full;
}

/* ---- Send ------------------------------------------------------------------------------------ */

/** Describe a frame for writev; returns the number of pieces, and the bytes of all of them in *ret_bytes. */
static unsigned tx_describe(struct vnet_fd *v, unsigned slot, const struct pktbuf *pkt, uint32_t *ret_bytes)
{
    struct iovec *iov = v->tx_iov[slot];
    uint32_t bytes = pkt->len;
    unsigned count = 2;

    vnet_hdr_build(pkt, &v->tx_hdrs[slot]);
    iov[0] = (struct iovec){.iov_base = &v->tx_hdrs[slot], .iov_len = VNET_HDR_BYTES};
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
static int tx_account(struct vnet_fd *v, const int res[], const uint32_t bytes[], unsigned n)
{
    unsigned taken = n;
    unsigned final = n;

    for (unsigned i = 0; i < n && final == n; i++)
        if (vnet_fd_error_is_final(res[i]))
            final = i;
    if (final < n) {
        (void)device_failed(v, res[final]);
        taken = final;
    }
    while (taken > 0 && res[taken - 1] == -EAGAIN)
        taken--;
    if (taken < n && final == n)
        v->stats.tx_full++;
    for (unsigned i = 0; i < taken; i++) {
        if (bytes[i] == 0 || res[i] != (int)bytes[i]) {
            v->stats.tx_errors++;
            continue;
        }
        v->stats.tx_frames++;
        v->stats.tx_bytes += bytes[i] - VNET_HDR_BYTES;
    }
    return taken == 0 && v->failed ? v->failed : (int)taken;
}

/** Write the frames described in the first `n` slots of tx_iov; what each write returned goes to res. */
static int tx_write(struct vnet_fd *v, const unsigned pieces[], unsigned n, int res[])
{
    if (n == 1) {
        ssize_t written = writev(v->fd, v->tx_iov[0], (int)pieces[0]);
        res[0] = written < 0 ? -errno : (int)written;
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        struct io_uring_sqe *sqe = ring_sqe(v);
        io_uring_prep_writev(sqe, VNET_FD_INDEX, v->tx_iov[i], pieces[i], 0);
        sqe->rw_flags = RWF_NOWAIT;
        ring_finish(sqe, i);
    }
    return ring_run(v, n, res);
}

int vnet_fd_tx_burst(struct device *dev, struct pktbuf *const pkts[], unsigned n)
{
    struct vnet_fd *v = vnet_fd_of(dev);
    int res[DEV_TX_BURST_MAX], written[DEV_TX_BURST_MAX];
    unsigned pieces[DEV_TX_BURST_MAX];
    uint32_t bytes[DEV_TX_BURST_MAX];
    unsigned tried = 0;

    if (v->failed)
        return v->failed;
    if (n > DEV_TX_BURST_MAX)
        n = DEV_TX_BURST_MAX;
    for (unsigned i = 0; i < n; i++) {
        bytes[i] = 0; /* what is not even tried counts as refused */
        res[i] = -EMSGSIZE;
        if (pkts[i]->total > v->caps.tx_frame_max)
            continue;
        pieces[tried] = tx_describe(v, tried, pkts[i], &bytes[i]);
        tried++;
    }
    int r = tried ? tx_write(v, pieces, tried, written) : 0;
    if (r)
        return device_failed(v, r);
    for (unsigned i = 0, k = 0; i < n; i++) {
        if (!bytes[i])
            continue;
        /* A queueing discipline that is full says so before it has taken anything. */
        res[i] = written[k] == -ENOBUFS ? -EAGAIN : written[k];
        k++;
    }
    return tx_account(v, res, bytes, n);
}

/* ---- The rest -------------------------------------------------------------------------------- */

int vnet_fd_wait_fd(struct device *dev)
{
    return vnet_fd_of(dev)->fd;
}

void vnet_fd_caps(const struct device *dev, struct device_caps *ret)
{
    *ret = vnet_fd_of_const(dev)->caps;
}

void vnet_fd_stats(const struct device *dev, struct device_stats *ret)
{
    *ret = vnet_fd_of_const(dev)->stats;
}

int vnet_fd_link_fd(struct device *dev)
{
    return vnet_fd_of(dev)->link.events;
}

void vnet_fd_link(struct device *dev, struct device_link *ret)
{
    struct vnet_fd *v = vnet_fd_of(dev);

    if (v->link.events >= 0)
        netif_link_state(&v->link, ret);
    else
        *ret = (struct device_link){.up = true, .mtu = v->caps.mtu};
}

void vnet_fd_watch(struct vnet_fd *v, const struct netif_link *l)
{
    v->link = *l;
}

void vnet_fd_close(struct device *dev)
{
    struct vnet_fd *v = vnet_fd_of(dev);

    if (!v)
        return;
    /* The kernel tears a ring down in the background; a file still registered would hold the interface's name
     * until then, and the next open would find it busy. */
    (void)io_uring_unregister_files(&v->ring);
    io_uring_queue_exit(&v->ring);
    (void)close(v->fd);
    netif_link_close(&v->link);
    (void)munmap(v->rx_mem, (size_t)DEV_RX_BURST_MAX * VNET_RX_STRIDE_BYTES);
    free(v);
}

const char *vnet_fd_open_error(int err)
{
    if (err == ENOSYS || err == EPERM)
        return "io_uring is not allowed here: set kernel.io_uring_disabled=0, or allow it in the container's "
               "seccomp profile";
    return err == ENOMEM ? "no memory for io_uring: raise the limit of locked memory"
                         : "cannot set up io_uring";
}

int vnet_fd_open(struct vnet_fd *v, const struct vnet_fd_kind *kind, const struct device_ops *ops, int fd,
                 const struct device_caps *caps)
{
    /* One request that the kernel can't even prepare must not keep those behind it from being submitted. */
    struct io_uring_params params = {.flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP};
    int r;

    v->dev.ops = ops;
    v->kind = kind;
    v->fd = fd;
    v->rx_want = 1;
    v->link = NETIF_LINK_CLOSED;
    v->caps = *caps;
    v->rx_mem = mmap(NULL, (size_t)DEV_RX_BURST_MAX * VNET_RX_STRIDE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (v->rx_mem == MAP_FAILED)
        return -ENOMEM;
    r = io_uring_queue_init_params(RING_ENTRIES, &v->ring, &params);
    if (r)
        goto unmap;
    r = io_uring_register_files(&v->ring, &fd, 1);
    if (!r)
        return 0;
    io_uring_queue_exit(&v->ring);
unmap:
    (void)munmap(v->rx_mem, (size_t)DEV_RX_BURST_MAX * VNET_RX_STRIDE_BYTES);
    return r;
}

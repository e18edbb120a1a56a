/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/xdp_ring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "hw/offload.h"

#define CHUNKS       (XDP_RX_CHUNKS + XDP_TX_CHUNKS)
#define MEMORY_BYTES ((size_t)CHUNKS * XDP_CHUNK_BYTES)
#define TX_KICKS_MAX 8u /* of one burst: in copy mode the kernel sends some frames a call */
#define RECLAIM_MAX  256u

static_assert(XDP_RX_CHUNKS >= DEV_RX_BURST_MAX && XDP_TX_CHUNKS >= DEV_TX_BURST_MAX, "room for a burst");

/* ---- Opening -------------------------------------------------------------------------- */

/* The fill ring has room for all chunks to receive, the completion ring for all to send: none overflows. */
static int open_socket(struct xdp_ring *r, const char *ifname, uint32_t queue, uint16_t bind_flags)
{
    const struct xsk_umem_config umem = {
        .fill_size = XDP_RX_CHUNKS,
        .comp_size = XDP_TX_CHUNKS,
        .frame_size = XDP_CHUNK_BYTES,
    };
    const struct xsk_socket_config config = {
        .rx_size = XDP_RX_CHUNKS,
        .tx_size = XDP_TX_CHUNKS,
        .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
        .bind_flags = (uint16_t)(bind_flags | XDP_USE_NEED_WAKEUP),
    };
    int rc = xsk_umem__create(&r->umem, r->memory, MEMORY_BYTES, &r->fill, &r->completion, &umem);

    if (rc) {
        r->umem = NULL;
        return rc;
    }
    rc = xsk_socket__create(&r->socket, ifname, queue, r->umem, &r->rx, &r->tx, &config);
    if (rc) {
        r->socket = NULL;
        (void)xsk_umem__delete(r->umem);
        r->umem = NULL;
    }
    return rc;
}

/* Zero-copy, where the driver can: only it says so, by taking the flag. */
static int open_best(struct xdp_ring *r, const char *ifname, uint32_t queue, bool zero_copy)
{
    int rc = zero_copy ? open_socket(r, ifname, queue, XDP_ZEROCOPY) : -EOPNOTSUPP;

    r->zero_copy = !rc;
    if (!rc || rc == -EBUSY || rc == -EPERM)
        return rc;
    return open_socket(r, ifname, queue, XDP_COPY);
}

static void give_chunks(struct xdp_ring *r)
{
    uint32_t at = 0;
    unsigned n = xsk_ring_prod__reserve(&r->fill, XDP_RX_CHUNKS, &at);

    assert(n == XDP_RX_CHUNKS);
    for (unsigned i = 0; i < n; i++)
        *xsk_ring_prod__fill_addr(&r->fill, at + i) = (uint64_t)i * XDP_CHUNK_BYTES;
    xsk_ring_prod__submit(&r->fill, n);
    for (unsigned i = 0; i < XDP_TX_CHUNKS; i++)
        r->free[r->free_count++] = (uint64_t)(XDP_RX_CHUNKS + i) * XDP_CHUNK_BYTES;
}

int xdp_ring_open(struct xdp_ring *ret, const char *ifname, uint32_t queue, bool zero_copy)
{
    int rc;

    memset(ret, 0, sizeof(*ret));
    ret->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ret->memory == MAP_FAILED) {
        ret->memory = NULL;
        return -ENOMEM;
    }
    rc = open_best(ret, ifname, queue, zero_copy);
    if (!rc)
        give_chunks(ret);
    return rc;
}

void xdp_ring_close(struct xdp_ring *r)
{
    if (r->socket)
        xsk_socket__delete(r->socket);
    if (r->umem)
        (void)xsk_umem__delete(r->umem);
    if (r->memory)
        (void)munmap(r->memory, MEMORY_BYTES);
    memset(r, 0, sizeof(*r));
}

int xdp_ring_publish(struct xdp_ring *r, int xsks)
{
    return xsk_socket__update_xskmap(r->socket, xsks);
}

int xdp_ring_fd(const struct xdp_ring *r)
{
    return xsk_socket__fd(r->socket);
}

/* ---- Receive -------------------------------------------------------------------------- */

/* The frames of the last burst are no longer looked at. */
static void give_back(struct xdp_ring *r)
{
    uint32_t at = 0;

    if (!r->held)
        return;
    unsigned n = xsk_ring_prod__reserve(&r->fill, r->held, &at);
    assert(n == r->held); /* It holds all chunks. */
    for (unsigned i = 0; i < n; i++)
        *xsk_ring_prod__fill_addr(&r->fill, at + i) = r->held_addr[i];
    xsk_ring_prod__submit(&r->fill, n);
    r->held = 0;
}

static void wake_receiver(const struct xdp_ring *r)
{
    if (xsk_ring_prod__needs_wakeup(&r->fill))
        (void)recvfrom(xdp_ring_fd(r), NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

unsigned xdp_ring_rx(struct xdp_ring *r, struct pktbuf *pkts[], unsigned max)
{
    uint32_t at = 0;
    unsigned n;

    give_back(r);
    n = xsk_ring_cons__peek(&r->rx, max < DEV_RX_BURST_MAX ? max : DEV_RX_BURST_MAX, &at);
    if (!n) {
        wake_receiver(r);
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        const struct xdp_desc *d = xsk_ring_cons__rx_desc(&r->rx, at + i);

        /* The frame begins behind the headroom; what is given back is its chunk. */
        r->held_addr[i] = d->addr & ~(uint64_t)(XDP_CHUNK_BYTES - 1);
        r->pkts[i] = (struct pktbuf){.data = r->memory + d->addr, .len = d->len, .total = d->len};
        pkts[i] = &r->pkts[i];
    }
    r->held = n;
    xsk_ring_cons__release(&r->rx, n);
    return n;
}

bool xdp_ring_pending(struct xdp_ring *r)
{
    return xsk_cons_nb_avail(&r->rx, 1) > 0;
}

/* ---- Send ----------------------------------------------------------------------------- */

static void reclaim(struct xdp_ring *r)
{
    uint32_t at = 0;
    unsigned n = xsk_ring_cons__peek(&r->completion, RECLAIM_MAX, &at);

    for (unsigned i = 0; i < n; i++) {
        assert(r->free_count < XDP_TX_CHUNKS);
        r->free[r->free_count++] = *xsk_ring_cons__comp_addr(&r->completion, at + i);
    }
    if (n)
        xsk_ring_cons__release(&r->completion, n);
}

/*
 * In copy mode the call is what sends, some frames each (EAGAIN: there are more); else it wakes the driver,
 * if that sleeps. What a full or closed interface leaves in the ring goes with the next call, or when
 * somebody polls the socket.
 */
static void kick(const struct xdp_ring *r)
{
    for (unsigned i = 0; i < TX_KICKS_MAX && xsk_ring_prod__needs_wakeup(&r->tx); i++)
        if (sendto(xdp_ring_fd(r), NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0 || errno != EAGAIN)
            return;
}

unsigned xdp_ring_tx(struct xdp_ring *r, struct pktbuf *const pkts[], unsigned n)
{
    uint32_t at = 0;

    reclaim(r);
    if (n > r->free_count)
        n = r->free_count;
    if (!n || !xsk_ring_prod__reserve(&r->tx, n, &at)) {
        kick(r);
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        struct xdp_desc *d = xsk_ring_prod__tx_desc(&r->tx, at + i);

        assert(pkts[i]->total <= XDP_FRAME_MAX);
        d->addr = r->free[--r->free_count];
        d->len = pkts[i]->total;
        d->options = 0;
        offload_gather(pkts[i], r->memory + d->addr);
    }
    xsk_ring_prod__submit(&r->tx, n);
    kick(r);
    return n;
}

uint64_t xdp_ring_lost(const struct xdp_ring *r)
{
    struct xdp_statistics s;
    socklen_t bytes = sizeof(s);

    memset(&s, 0, sizeof(s));
    if (getsockopt(xdp_ring_fd(r), SOL_XDP, XDP_STATISTICS, &s, &bytes))
        return 0;
    return s.rx_dropped + s.rx_ring_full + s.rx_invalid_descs;
}

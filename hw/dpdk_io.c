/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over one queue of a port.
 *
 * Received frames are read where the driver put them; their mbufs go back with the next burst. A frame of
 * several mbufs is copied together, since the engine wants it linear. Frames to send are copied into mbufs,
 * so that their memory is the caller's again at once, however late the driver lets go of its own.
 *
 * Both directions use one pool, whose cache of the thread is last in, first out: what was received is soon
 * sent from again, while it is in the processor's cache.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include <rte_interrupts.h>
#include <rte_lcore.h>
#include <rte_prefetch.h>

#include "hw/dpdk_int.h"
#include "hw/offload.h"

#define RX_PREFETCH 4u /* frames ahead */

/* ---- States other than all being well -------------------------------------------------------- */

static unsigned state_of(struct dpdk_queue *q)
{
    return __atomic_load_n(&q->state, __ATOMIC_ACQUIRE);
}

/** Whoever wants to stop the port now knows that we are in no burst, and will be in none. */
static void keep_off(struct dpdk_queue *q)
{
    __atomic_store_n(&q->kept_off, true, __ATOMIC_RELEASE);
}

/** The link may have come up since it was looked at. */
static bool is_up(struct dpdk_queue *q)
{
    struct rte_eth_link link;

    if (rte_eth_link_get_nowait(q->port_id, &link) || link.link_status == RTE_ETH_LINK_DOWN)
        return false;
    __atomic_fetch_and(&q->state, (uint8_t)~DPDK_DOWN, __ATOMIC_RELAXED);
    return true;
}

/** Without a link frames are lost, as with any network card; a driver may take none and call itself full. */
static int tx_lost(struct dpdk_queue *q, unsigned n)
{
    q->stats.tx_errors += n;
    return (int)n;
}

/** A thread that DPDK does not know has no cache of buffers. */
static void know_thread(void)
{
    if (rte_lcore_id() == LCORE_ID_ANY)
        dpdk_eal_adopt_thread();
}

/* ---- Receive --------------------------------------------------------------------------------- */

void dpdk_rx_release(struct dpdk_queue *q)
{
    if (!q->rx_held)
        return;
    if (q->rx_plain)
        rte_mempool_put_bulk(q->pool, (void **)q->rx_mbufs, q->rx_held);
    else
        rte_pktmbuf_free_bulk(q->rx_mbufs, q->rx_held);
    q->rx_held = 0;
}

/* A usual frame is one mbuf of our pool with one owner, of which nothing is said. Such mbufs go back to the
 * pool as they are. */
static bool is_usual(const struct dpdk_queue *q, const struct rte_mbuf *m)
{
    return m->nb_segs == 1 && rte_mbuf_refcnt_read(m) == 1 && m->pool == q->pool &&
           !(m->ol_flags & (DPDK_RX_FLAGS | RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT));
}

/** Copy the mbufs of a frame together. */
static uint8_t *linearize(struct dpdk_queue *q, unsigned index, const struct rte_mbuf *m)
{
    uint8_t *out = q->rx_linear + (size_t)index * DPDK_LINEAR_BYTES, *at = out;

    if (m->pkt_len > FRAME_BYTES_MAX)
        return NULL;
    for (; m; m = m->next) {
        if (m->data_len > (size_t)(out + FRAME_BYTES_MAX - at))
            return NULL;
        memcpy(at, rte_pktmbuf_mtod(m, const uint8_t *), m->data_len);
        at += m->data_len;
    }
    return out;
}

/** What stands between a pktbuf's bytes and its fragments; most frames come without any of it. */
static void clear_offloads(struct pktbuf *pkt)
{
    const size_t from = offsetof(struct pktbuf, flags);

    memset((uint8_t *)pkt + from, 0, offsetof(struct pktbuf, frag) - from);
}

static bool rx_unusual(struct dpdk_queue *q, unsigned index, struct pktbuf *pkt)
{
    const struct rte_mbuf *m = q->rx_mbufs[index];

    q->rx_plain = false;
    if (m->nb_segs > 1)
        pkt->data = linearize(q, index, m);
    return pkt->data && !dpdk_rx_offloads(m, pkt);
}

/** Make a pktbuf of an mbuf; NULL if it is no good frame. */
static struct pktbuf *rx_frame(struct dpdk_queue *q, unsigned index)
{
    const struct rte_mbuf *m = q->rx_mbufs[index];
    struct pktbuf *pkt = &q->rx_pkts[index];

    pkt->data = rte_pktmbuf_mtod(m, uint8_t *);
    pkt->len = m->pkt_len;
    pkt->total = m->pkt_len;
    clear_offloads(pkt);
    if (unlikely(!is_usual(q, m) && !rx_unusual(q, index, pkt)))
        return NULL;
    return likely(pkt->len >= ETH_HDR_BYTES) ? pkt : NULL;
}

/** The interrupt is of no use while we look anyway. */
static void disarm(struct dpdk_queue *q)
{
    struct rte_epoll_event events[2]; /* the queue's, the kernel's */

    (void)rte_eth_dev_rx_intr_disable(q->port_id, q->queue_id);
    (void)rte_epoll_wait(q->epoll_fd, events, 2, 0); /* This reads the interrupt's counter. */
    q->rx_armed = false;
}

/** Fill rx_mbufs; what rx_pending() has found comes first. */
static unsigned rx_fetch(struct dpdk_queue *q, unsigned max)
{
    unsigned n = q->rx_found;

    if (q->rx_armed)
        disarm(q);
    if (!n)
        return rte_eth_rx_burst(q->port_id, q->queue_id, q->rx_mbufs, (uint16_t)max);
    q->rx_found = 0;
    return n;
}

int dpdk_rx_burst(struct device *dev, struct pktbuf *pkts[], unsigned max)
{
    struct dpdk_queue *q = dpdk_queue_of(dev);
    unsigned n, frames = 0, state = state_of(q);
    uint64_t bytes = 0;

    if (state & DPDK_REMOVED)
        return -ENODEV;
    if (state & DPDK_KEEP_OFF) {
        keep_off(q);
        return 0;
    }
    know_thread();
    dpdk_rx_release(q);
    n = rx_fetch(q, max < DEV_RX_BURST_MAX ? max : DEV_RX_BURST_MAX);
    q->rx_held = (uint16_t)n;
    q->rx_plain = true;
    for (unsigned i = 0; i < n && i < RX_PREFETCH; i++)
        rte_prefetch0(rte_pktmbuf_mtod(q->rx_mbufs[i], void *));
    for (unsigned i = 0; i < n; i++) {
        struct pktbuf *pkt;

        if (i + RX_PREFETCH < n)
            rte_prefetch0(rte_pktmbuf_mtod(q->rx_mbufs[i + RX_PREFETCH], void *));
        pkt = rx_frame(q, i);
        if (!pkt) {
            q->stats.rx_errors++;
            continue;
        }
        bytes += pkt->total;
        pkts[frames++] = pkt;
    }
    q->stats.rx_frames += frames;
    q->stats.rx_bytes += bytes;
    if (unlikely(q->kernel)) {
        dpdk_kernel_turn(q, !frames);
        frames = dpdk_kernel_sort(q, pkts, frames);
    }
    return (int)frames;
}

/*
 * Before a sleep: have the queue interrupt us, then look once more for what came before that took effect.
 * What is found is kept for the next burst. The engine is done with what it was given before.
 */
bool dpdk_rx_pending(struct device *dev)
{
    struct dpdk_queue *q = dpdk_queue_of(dev);

    unsigned state = state_of(q);

    if (state & DPDK_REMOVED || q->rx_found)
        return true;
    if (q->epoll_fd < 0 || state & DPDK_KEEP_OFF)
        return false;
    if (!q->rx_armed)
        q->rx_armed = rte_eth_dev_rx_intr_enable(q->port_id, q->queue_id) == 0;
    dpdk_rx_release(q);
    q->rx_found = rte_eth_rx_burst(q->port_id, q->queue_id, q->rx_mbufs, DEV_RX_BURST_MAX);
    return q->rx_found > 0;
}

/* ---- Send ------------------------------------------------------------------------------------ */

/** Copy `len` bytes behind what the chain from `head` holds in *tail; false: out of mbufs. */
static bool append(const struct dpdk_queue *q, struct rte_mbuf *head, struct rte_mbuf **tail,
                   const uint8_t *from, uint32_t len)
{
    while (len) {
        struct rte_mbuf *m = *tail;
        uint32_t room = q->tx_room - m->data_len, part = len < room ? len : room;

        if (!part) {
            m = rte_pktmbuf_alloc(q->pool);
            if (!m)
                return false;
            (*tail)->next = m;
            *tail = m;
            head->nb_segs++;
            continue;
        }
        memcpy(rte_pktmbuf_mtod(m, uint8_t *) + m->data_len, from, part);
        m->data_len = (uint16_t)(m->data_len + part);
        from += part;
        len -= part;
    }
    return true;
}

/** A frame that is longer than an mbuf: in the empty `m` and as many more as it takes. */
static bool copy_long(const struct dpdk_queue *q, const struct pktbuf *pkt, struct rte_mbuf *m)
{
    struct rte_mbuf *tail = m;

    m->data_len = 0;
    if (!append(q, m, &tail, pkt->data, pkt->len))
        return false;
    for (unsigned i = 0; i < pkt->frag_count; i++)
        if (!append(q, m, &tail, pkt->frag[i].ptr, pkt->frag[i].len))
            return false;
    return true;
}

static void copy_short(const struct pktbuf *pkt, struct rte_mbuf *m)
{
    uint8_t *out = rte_pktmbuf_mtod(m, uint8_t *);

    m->data_len = (uint16_t)pkt->total;
    memcpy(out, pkt->data, pkt->len);
    out += pkt->len;
    for (unsigned i = 0; i < pkt->frag_count; i++) {
        memcpy(out, pkt->frag[i].ptr, pkt->frag[i].len);
        out += pkt->frag[i].len;
    }
}

/**
 * The frame in an mbuf as it comes from the pool: by the rules of such mbufs it is one segment with one
 * owner. Only its first cache line is touched, unless offloads are asked for. False: out of mbufs.
 */
static bool tx_copy(const struct dpdk_queue *q, const struct pktbuf *pkt, struct rte_mbuf *m)
{
    m->data_off = RTE_PKTMBUF_HEADROOM;
    m->ol_flags = 0;
    m->pkt_len = pkt->total;
    if (likely(pkt->total <= q->tx_room))
        copy_short(pkt, m);
    else if (!copy_long(q, pkt, m))
        return false;
    if (pkt->flags & PKT_CSUM_PARTIAL)
        dpdk_tx_offloads(pkt, q->tx_ip_csum, m);
    return true;
}

/** Copy frames into the empty mbufs until one is too long or finds no memory; returns how many. */
static unsigned tx_fill(const struct dpdk_queue *q, struct pktbuf *const pkts[], unsigned n,
                        struct rte_mbuf *mbufs[])
{
    unsigned filled = 0;

    while (filled < n && pkts[filled]->total <= q->tx_frame_max && tx_copy(q, pkts[filled], mbufs[filled]))
        filled++;
    return filled;
}

/** Hand over filled mbufs; returns how many the driver took. It refuses the one behind *ret_good for good. */
static unsigned tx_send(const struct dpdk_queue *q, struct rte_mbuf *mbufs[], unsigned filled,
                        unsigned *ret_good)
{
    *ret_good = filled;
    if (q->offloads & DEV_TX_CSUM)
        *ret_good = rte_eth_tx_prepare(q->port_id, q->queue_id, mbufs, (uint16_t)filled);
    return *ret_good ? rte_eth_tx_burst(q->port_id, q->queue_id, mbufs, (uint16_t)*ret_good) : 0;
}

/** Frame `sent` was not taken: refused for good, or is the device full? Returns the frames done with. */
static unsigned tx_short(struct dpdk_queue *q, const struct pktbuf *next, unsigned sent, bool refused)
{
    if (refused || next->total > q->tx_frame_max) {
        q->stats.tx_errors++;
        return sent + 1;
    }
    q->stats.tx_full++;
    return sent;
}

static int tx_all(struct dpdk_queue *q, struct pktbuf *const pkts[], unsigned n)
{
    struct rte_mbuf *mbufs[DEV_TX_BURST_MAX];
    unsigned filled, good = 0, sent = 0;
    uint64_t bytes = 0;

    if (rte_mempool_get_bulk(q->pool, (void **)mbufs, n)) {
        q->stats.tx_full++;
        return 0;
    }
    filled = tx_fill(q, pkts, n, mbufs);
    if (filled)
        sent = tx_send(q, mbufs, filled, &good);
    for (unsigned i = 0; i < sent; i++)
        bytes += pkts[i]->total;
    q->stats.tx_frames += sent;
    q->stats.tx_bytes += bytes;
    if (sent == n)
        return (int)n;
    rte_pktmbuf_free_bulk(mbufs + sent, n - sent);
    return (int)tx_short(q, pkts[sent], sent, sent == good && good < filled);
}

int dpdk_tx_burst(struct device *dev, struct pktbuf *const pkts[], unsigned n)
{
    struct dpdk_queue *q = dpdk_queue_of(dev);
    unsigned state = state_of(q);

    if (state & DPDK_REMOVED)
        return -ENODEV;
    if (n > DEV_TX_BURST_MAX)
        n = DEV_TX_BURST_MAX;
    if (state & DPDK_KEEP_OFF)
        keep_off(q);
    if (state & DPDK_KEEP_OFF || (state & DPDK_DOWN && !is_up(q)))
        return tx_lost(q, n);
    know_thread();
    return n ? tx_all(q, pkts, n) : 0;
}

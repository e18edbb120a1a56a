/* SPDX-License-Identifier: Apache-2.0 */
/* Opens and closes a port of DPDK's: what it can do, what we ask of it, its queues and their memory. */
#include "hw/dpdk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_interrupts.h>

#include "hw/dpdk_int.h"
#include "hw/offload.h"

#define MTU_MIN          576u
#define VLAN_TAG_BYTES   4u
#define CRC_BYTES        4u
#define DESCRIPTORS      512u   /* of a queue, where the driver prefers nothing */
#define ROOM_MAX         10240u /* bytes of a frame in one mbuf; larger ones take several */
#define POOL_CACHE       256u   /* mbufs that a thread keeps to itself */
#define POOL_THREADS     4u     /* that may hold such a cache beside the workers */
#define LINEAR_BYTES_ALL ((size_t)DEV_RX_BURST_MAX * DPDK_LINEAR_BYTES)

#define CSUM_TX          (RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
#define CSUM_RX          (RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM)

/* Drivers of virtio say how long the joined segments were; of others it is not known. */
#define JOINING_DRIVERS  "net_virtio"

static const struct device_ops dpdk_ops;
static bool port_open[RTE_MAX_ETHPORTS]; /* opened here and not closed yet */

/* ---- Find -------------------------------------------------------------------------------------------- */

static bool find_port(const char *devargs, uint16_t *ret)
{
    struct rte_dev_iterator it;
    uint16_t id;

    if (rte_eth_iterator_init(&it, devargs))
        return false;
    id = rte_eth_iterator_next(&it);
    if (id == RTE_MAX_ETHPORTS)
        return false;
    rte_eth_iterator_cleanup(&it);
    *ret = id;
    return true;
}

static int probe_failed(const struct dpdk_error *e, int err)
{
    switch (err) {
    case EFAULT: /* no driver of that name */
    case ENODEV:
    case ENOENT:
        return dpdk_fail(
            e, ENODEV,
            "DPDK finds no such device: for a PCI device check the address (dpdk-devbind.py -s) and "
            "that it is bound to vfio-pci; for a virtual one the name of its driver (net_memif0)");
    default:
        return dpdk_fail(e, err, "DPDK can't attach the device (%s): the lines before this one say why",
                         strerror(err));
    }
}

/*
 * A PCI device was found when the environment was set up, virtual ones are made now. DPDK has nothing against
 * attaching one twice.
 */
static int attach(struct dpdk_port *p, const struct dpdk_error *e)
{
    bool known = find_port(e->devargs, &p->id);
    int rc;

    if (known && port_open[p->id])
        return dpdk_fail(e, EBUSY, "this daemon has the device already");
    if (!known)
        dpdk_socket_clear(e->devargs);
    if (!known && (rc = rte_dev_probe(e->devargs)))
        return probe_failed(e, -rc);
    if (!known && !find_port(e->devargs, &p->id))
        return dpdk_fail(e, ENODEV, "DPDK knows this device, but it is no network port");
    port_open[p->id] = true;
    return 0;
}

static void detach(const struct dpdk_port *p)
{
    struct rte_eth_dev_info info;
    struct rte_device *device = rte_eth_dev_info_get(p->id, &info) ? NULL : info.device;

    (void)rte_eth_dev_close(p->id);
    if (device)
        (void)rte_dev_remove(device);
    port_open[p->id] = false;
}

/* ---- Ask for ----------------------------------------------------------------------------------------- */

/** The largest MTU, by the rule of rte_eth_dev_configure(). */
static uint16_t mtu_max(const struct rte_eth_dev_info *info)
{
    uint32_t overhead = ETH_HDR_BYTES + CRC_BYTES, most;

    if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
        overhead = info->max_rx_pktlen - info->max_mtu;
    most = info->max_rx_pktlen > overhead ? info->max_rx_pktlen - overhead : 0;
    return (uint16_t)(most < info->max_mtu ? most : info->max_mtu);
}

static int choose_mtu(struct dpdk_port *p, uint16_t wanted, const struct dpdk_error *e)
{
    uint16_t most = mtu_max(&p->info);
    uint16_t least = p->info.min_mtu > MTU_MIN ? p->info.min_mtu : MTU_MIN;
    uint16_t own = RTE_ETHER_MTU;

    if (wanted && (wanted < least || wanted > most))
        return dpdk_fail(e, EINVAL, "MTU %u is out of range: the driver takes %u to %u", wanted, least, most);
    (void)rte_eth_dev_get_mtu(p->id, &own);
    if (!wanted)
        wanted = own < most ? own : most;
    if (wanted < least)
        return dpdk_fail(e, EINVAL, "the device's MTU is %u: set one of %u to %u", wanted, least, most);
    p->caps.mtu = wanted;
    p->conf.rxmode.mtu = wanted;
    return 0;
}

static bool is_virtio(const struct rte_eth_dev_info *info)
{
    return !strncmp(info->driver_name, "net_virtio", 10) || !strncmp(info->driver_name, "net_vhost", 9);
}

static bool joins_segments(const struct rte_eth_dev_info *info)
{
    return info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_TCP_LRO &&
           !strncmp(info->driver_name, JOINING_DRIVERS, strlen(JOINING_DRIVERS));
}

/** Bytes of a frame that an mbuf is to hold: all of it, up to the usual size of jumbo frames. */
static void choose_room(struct dpdk_port *p)
{
    uint32_t frame = p->caps.mtu + ETH_HDR_BYTES + 2 * VLAN_TAG_BYTES + CRC_BYTES;

    p->frame_max = (uint32_t)RTE_ALIGN_CEIL(frame, RTE_CACHE_LINE_SIZE);
    p->room = p->frame_max > RTE_MBUF_DEFAULT_DATAROOM && p->frame_max <= ROOM_MAX
                  ? (uint16_t)p->frame_max
                  : RTE_MBUF_DEFAULT_DATAROOM;
}

/*
 * Frames of several mbufs are asked for where they are needed only: many drivers are slower with them. What
 * is shared with the kernel must be whole: a virtual machine's switch leaves checksums out when we take that.
 */
static void choose_rx(struct dpdk_port *p, bool shared)
{
    uint64_t can = p->info.rx_offload_capa, want = 0;

    if ((can & CSUM_RX) == CSUM_RX && !(shared && is_virtio(&p->info))) {
        want |= CSUM_RX;
        p->caps.offloads |= DEV_RX_CSUM;
    }
    if (joins_segments(&p->info) && p->caps.offloads & DEV_RX_CSUM) {
        want |= RTE_ETH_RX_OFFLOAD_TCP_LRO;
        p->conf.rxmode.max_lro_pkt_size = p->info.max_lro_pkt_size;
        p->caps.offloads |= DEV_RX_GRO;
    }
    if (p->frame_max > p->room || want & RTE_ETH_RX_OFFLOAD_TCP_LRO)
        want |= can & RTE_ETH_RX_OFFLOAD_SCATTER;
    p->conf.rxmode.offloads = want;
}

static void choose_tx(struct dpdk_port *p)
{
    uint64_t can = p->info.tx_offload_capa, want = 0;
    bool pieces = can & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

    p->caps.tx_frame_max = RTE_MIN(p->caps.mtu + ETH_HDR_BYTES + VLAN_TAG_BYTES, FRAME_BYTES_MAX);
    if ((can & CSUM_TX) == CSUM_TX) {
        want |= CSUM_TX;
        p->caps.offloads |= DEV_TX_CSUM;
    }
    if (pieces && p->caps.offloads & DEV_TX_CSUM && can & RTE_ETH_TX_OFFLOAD_TCP_TSO) {
        want |= RTE_ETH_TX_OFFLOAD_TCP_TSO | (can & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
        p->caps.offloads |= DEV_TX_TSO4 | DEV_TX_TSO6;
        p->caps.tx_frame_max = FRAME_BYTES_MAX;
    }
    if (p->caps.tx_frame_max <= p->room)
        want |= can & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE; /* one pool, one owner */
    else if (pieces)
        want |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    else
        p->caps.tx_frame_max = p->room;
    p->conf.txmode.offloads = want;
}

static uint16_t pick_descriptors(uint32_t wanted, uint16_t preferred)
{
    if (wanted)
        return (uint16_t)wanted;
    return preferred ? preferred : DESCRIPTORS;
}

/* ---- Configure --------------------------------------------------------------------------------------- */

static int make_pool(struct dpdk_port *p, const struct dpdk_error *e)
{
    /* All descriptors full, a burst each way in hand, and what the threads' caches keep. */
    unsigned each = p->rx_descriptors + p->tx_descriptors + DEV_RX_BURST_MAX + DEV_TX_BURST_MAX;
    unsigned cached = (p->queue_count + POOL_THREADS) * (POOL_CACHE + POOL_CACHE / 2);
    char name[RTE_MEMPOOL_NAMESIZE];

    if (p->conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_TCP_TSO)
        each += FRAME_BYTES_MAX / p->room + 1; /* of the one frame that is being copied */
    (void)snprintf(name, sizeof(name), "sockgate-%u", p->id);
    p->pool =
        rte_pktmbuf_pool_create(name, each * p->queue_count + cached, POOL_CACHE, 0,
                                (uint16_t)(p->room + RTE_PKTMBUF_HEADROOM), rte_eth_dev_socket_id(p->id));
    if (!p->pool)
        return dpdk_fail(e, ENOMEM, "%u buffers of %u bytes do not fit into dpdk.memory_mb: raise it",
                         each * p->queue_count + cached, p->room);
    return 0;
}

static int setup_queues(struct dpdk_port *p)
{
    int socket = rte_eth_dev_socket_id(p->id), rc = 0;
    struct rte_eth_rxconf rx = p->info.default_rxconf;
    struct rte_eth_txconf tx = p->info.default_txconf;
    unsigned node = socket < 0 ? 0 : (unsigned)socket;

    rx.offloads = p->conf.rxmode.offloads;
    tx.offloads = p->conf.txmode.offloads;
    for (uint16_t i = 0; !rc && i < p->queue_count; i++)
        rc = rte_eth_rx_queue_setup(p->id, i, p->rx_descriptors, node, &rx, p->pool);
    for (uint16_t i = 0; !rc && i < p->queue_count; i++)
        rc = rte_eth_tx_queue_setup(p->id, i, p->tx_descriptors, node, &tx);
    return rc;
}

static bool finds_its_end_once(const struct dpdk_port *p, const char *devargs)
{
    return !strcmp(p->info.driver_name, "net_memif") && !strstr(devargs, "role=server") &&
           !strstr(devargs, "role=master");
}

/**
 * Configure and start the port with interrupts, as far as the driver has them; a driver that can't start with
 * interrupts for its queues, because there are too few vectors, say, is asked to start without.
 */
static int configure(struct dpdk_port *p, const struct dpdk_settings *s, const struct dpdk_error *e)
{
    int rc;

    p->restarts = finds_its_end_once(p, e->devargs);
    p->conf.intr_conf.lsc = !!(*p->info.dev_flags & RTE_ETH_DEV_INTR_LSC);
    p->conf.intr_conf.rmv = !!(*p->info.dev_flags & RTE_ETH_DEV_INTR_RMV);
    p->rx_descriptors = pick_descriptors(s->descriptors, p->info.default_rxportconf.ring_size);
    p->tx_descriptors = pick_descriptors(s->descriptors, p->info.default_txportconf.ring_size);
    for (int intr = 1; intr >= 0; intr--) {
        p->conf.intr_conf.rxq = (unsigned)intr & 1u;
        rc = rte_eth_dev_configure(p->id, (uint16_t)p->queue_count, (uint16_t)p->queue_count, &p->conf);
        if (!rc)
            rc = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &p->rx_descriptors, &p->tx_descriptors);
        if (!rc && !p->pool && make_pool(p, e))
            return -ENOMEM;
        if (!rc)
            rc = setup_queues(p);
        if (!rc)
            rc = rte_eth_dev_start(p->id);
        p->started = !rc;
        if (!rc || p->restarts)
            return 0;
    }
    return dpdk_fail(e, -rc, "the driver %s does not start (%s): the lines before this one say why",
                     p->info.driver_name, strerror(-rc));
}

/* ---- Address ----------------------------------------------------------------------------------------- */

static int choose_mac(struct dpdk_port *p, const uint8_t *wanted, const struct dpdk_error *e)
{
    struct rte_ether_addr addr;
    bool everything = false;
    int rc;

    if (wanted) {
        memcpy(addr.addr_bytes, wanted, DPDK_MAC_BYTES);
        if (!rte_is_valid_assigned_ether_addr(&addr))
            return dpdk_fail(e, EINVAL, "the MAC address must be a unicast address");
        /* What the card does not filter for us, it must let pass. */
        everything = rte_eth_dev_default_mac_addr_set(p->id, &addr) != 0;
    } else if ((rc = rte_eth_macaddr_get(p->id, &addr))) {
        return dpdk_fail(e, -rc, "cannot read the hardware address: %s", strerror(-rc));
    } else if (!rte_is_valid_assigned_ether_addr(&addr)) {
        return dpdk_fail(e, EINVAL, "the device has no hardware address of its own: add \"mac 02:...\"");
    }
    memcpy(p->caps.mac, addr.addr_bytes, DPDK_MAC_BYTES);
    /* Groups come and go with the sockets that join them; the engine sorts them out. */
    if (rte_eth_allmulticast_enable(p->id))
        everything = true;
    if (everything)
        (void)rte_eth_promiscuous_enable(p->id); /* Drivers without it pass everything anyway. */
    return 0;
}

/* ---- Queues ------------------------------------------------------------------------------------------ */

/** A descriptor that the queue's interrupt makes readable, or -1 when the driver has none. */
static int open_interrupt(uint16_t port_id, uint16_t queue_id)
{
    int fd;

    if (rte_eth_dev_rx_intr_enable(port_id, queue_id))
        return -1;
    (void)rte_eth_dev_rx_intr_disable(port_id, queue_id);
    fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd >= 0 && rte_eth_dev_rx_intr_ctl_q(port_id, queue_id, fd, RTE_INTR_EVENT_ADD, NULL)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static void free_queue(struct dpdk_queue *q)
{
    if (!q)
        return;
    if (q->epoll_fd >= 0)
        (void)close(q->epoll_fd);
    if (q->rx_linear != MAP_FAILED)
        (void)munmap(q->rx_linear, LINEAR_BYTES_ALL);
    free(q);
}

static int make_queue(struct dpdk_port *p, uint16_t index)
{
    struct dpdk_queue *q =
        aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(sizeof(*q), RTE_CACHE_LINE_SIZE));

    if (!q)
        return -ENOMEM;
    memset(q, 0, sizeof(*q));
    q->dev.ops = &dpdk_ops;
    q->port = p;
    q->port_id = p->id;
    q->queue_id = index;
    q->offloads = p->caps.offloads;
    q->tx_frame_max = p->caps.tx_frame_max;
    q->tx_ip_csum = p->conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
    q->tx_room = p->room;
    q->pool = p->pool;
    q->state = p->started ? 0 : DPDK_DOWN | DPDK_KEEP_OFF;
    q->kernel = p->kernel.fd >= 0;
    q->epoll_fd = p->conf.intr_conf.rxq ? open_interrupt(p->id, index) : -1;
    q->rx_linear = mmap(NULL, LINEAR_BYTES_ALL, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    p->queues[index] = q;
    if (q->kernel && !index && q->epoll_fd >= 0 && dpdk_kernel_wake(q))
        return -ENOMEM;
    return q->rx_linear == MAP_FAILED ? -ENOMEM : 0;
}

static int make_queues(struct dpdk_port *p, const struct dpdk_error *e)
{
    int rc = 0;

    for (uint16_t i = 0; !rc && i < p->queue_count; i++)
        rc = make_queue(p, i);
    return rc ? dpdk_fail(e, -rc, "no memory") : 0;
}

/* ---- Close ------------------------------------------------------------------------------------------- */

static void stop_port(struct dpdk_port *p)
{
    dpdk_link_close(p);
    for (unsigned i = 0; i < DEV_QUEUES_MAX; i++)
        if (p->queues[i])
            dpdk_rx_release(p->queues[i]);
    (void)rte_eth_dev_stop(p->id);
    dpdk_kernel_close(p);
    detach(p);
    rte_mempool_free(p->pool);
    for (unsigned i = 0; i < DEV_QUEUES_MAX; i++)
        free_queue(p->queues[i]);
    free(p);
}

static void dpdk_close(struct device *dev)
{
    struct dpdk_port *p;

    if (!dev)
        return;
    p = dpdk_queue_of(dev)->port;
    assert(p->open_count);
    if (!--p->open_count)
        stop_port(p);
}

/* ---- Open -------------------------------------------------------------------------------------------- */

static int dpdk_wait_fd(struct device *dev)
{
    return dpdk_queue_of(dev)->epoll_fd;
}

static void dpdk_caps(const struct device *dev, struct device_caps *ret)
{
    *ret = ((const struct dpdk_queue *)dev)->port->caps;
}

/** What the card itself has lost stands with the first queue. */
static void dpdk_stats(const struct device *dev, struct device_stats *ret)
{
    const struct dpdk_queue *q = (const struct dpdk_queue *)dev;
    struct rte_eth_stats card;

    *ret = q->stats;
    if (q->queue_id || rte_eth_stats_get(q->port_id, &card))
        return;
    ret->rx_errors += card.imissed + card.ierrors + card.rx_nombuf;
    ret->tx_errors += card.oerrors;
}

static const struct device_ops dpdk_ops = {
    .kind = "dpdk",
    .rx_burst = dpdk_rx_burst,
    .tx_burst = dpdk_tx_burst,
    .wait_fd = dpdk_wait_fd,
    .rx_pending = dpdk_rx_pending,
    .caps = dpdk_caps,
    .stats = dpdk_stats,
    .link_fd = dpdk_link_fd,
    .link = dpdk_link_state,
    .own = dpdk_own,
    .close = dpdk_close,
};

static int open_port(struct dpdk_port *p, const struct device_params *params, const struct dpdk_error *e)
{
    unsigned wanted = params->queues ? params->queues : 1;
    int rc;

    if ((rc = rte_eth_dev_info_get(p->id, &p->info)))
        return dpdk_fail(e, -rc, "the driver does not say what it can: %s", strerror(-rc));
    p->queue_count = RTE_MIN(wanted, (unsigned)RTE_MIN(p->info.max_rx_queues, p->info.max_tx_queues));
    p->caps.spread.queues = (uint8_t)p->queue_count;
    if ((rc = choose_mtu(p, params->mtu, e)))
        return rc;
    choose_room(p);
    choose_rx(p, params->kernel_tap != NULL);
    choose_tx(p);
    dpdk_rss_choose(p);
    if ((rc = configure(p, params->dpdk, e)) || (rc = choose_mac(p, params->mac, e)) ||
        (params->kernel_tap && (rc = dpdk_kernel_open(p, params->kernel_tap, e))) || (rc = make_queues(p, e)))
        return rc;
    dpdk_rss_learn(p);
    if ((rc = dpdk_link_open(p)))
        return dpdk_fail(e, -rc, "cannot watch the link: %s", strerror(-rc));
    return 0;
}

int dpdk_open(const char *devargs, const struct device_params *params, struct device *ret[], unsigned *count,
              char *errbuf, size_t errbuf_bytes)
{
    struct dpdk_error e = {.devargs = devargs, .buf = errbuf, .bytes = errbuf_bytes};
    struct dpdk_port *p;
    int rc;

    if (!params->dpdk)
        return dpdk_fail(&e, EINVAL, "a device of this kind needs settings");
    rc = dpdk_eal_start(params->dpdk, &e);
    if (rc)
        return rc;
    p = calloc(1, sizeof(*p));
    if (!p)
        return dpdk_fail(&e, ENOMEM, "no memory");
    p->link = DPDK_LINK_CLOSED;
    p->kernel.fd = -1;
    if ((rc = attach(p, &e))) {
        free(p);
        return rc;
    }
    if ((rc = open_port(p, params, &e))) {
        stop_port(p);
        return rc;
    }
    for (unsigned i = 0; i < p->queue_count; i++)
        ret[i] = &p->queues[i]->dev;
    *count = p->open_count = p->queue_count;
    return 0;
}

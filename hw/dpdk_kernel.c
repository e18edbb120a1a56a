/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's share of a port: a TAP interface with the port's hardware address. What was received and is
 * not the engine's is written to it, and what the kernel sends there goes out through the port; so ssh to the
 * machine lives on over a card that the kernel no longer sees. A path for little: one system call a frame.
 *
 * Any queue's thread writes; the first queue's reads. The addresses that are the engine's come from the
 * control thread; each queue has its own copy, renewed between bursts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <linux/if_tun.h>

#include <rte_interrupts.h>

#include "hw/dpdk_int.h"
#include "hw/netif.h"
#include "hw/offload.h"

#define READS_MAX   16u /* frames taken from the kernel at once */
#define BUSY_BURSTS 16u /* while the port is busy the kernel is looked at after so many bursts */

/* ---- Open ---------------------------------------------------------------------------------------- */

static int set_up(const struct dpdk_port *p, struct ifreq *ifr)
{
    int ctl = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;

    if (ctl < 0)
        return -errno;
    ifr->ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(ifr->ifr_hwaddr.sa_data, p->caps.mac, DPDK_MAC_BYTES);
    if (ioctl(ctl, SIOCSIFHWADDR, ifr))
        rc = -errno;
    ifr->ifr_mtu = p->caps.mtu;
    if (!rc && ioctl(ctl, SIOCSIFMTU, ifr))
        rc = -errno;
    if (!rc && ioctl(ctl, SIOCGIFFLAGS, ifr))
        rc = -errno;
    ifr->ifr_flags = (short)(ifr->ifr_flags | IFF_UP);
    if (!rc && ioctl(ctl, SIOCSIFFLAGS, ifr))
        rc = -errno;
    (void)close(ctl);
    return rc;
}

int dpdk_kernel_open(struct dpdk_port *p, const char *name, const struct dpdk_error *e)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int rc;

    if (!netif_name_is_valid(name))
        return dpdk_fail(e, EINVAL, "kernel_tap %s: %s", name, NETIF_NAME_RULE);
    memcpy(ifr.ifr_name, name, strlen(name));
    p->kernel.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (p->kernel.fd < 0 || ioctl(p->kernel.fd, TUNSETIFF, &ifr))
        return dpdk_fail(e, errno,
                         "kernel_tap %s: cannot make the TAP interface (%s): it needs /dev/net/tun and "
                         "CAP_NET_ADMIN, and a name that no other program uses",
                         name, strerror(errno));
    rc = set_up(p, &ifr);
    return rc ? dpdk_fail(e, -rc, "kernel_tap %s: cannot set address, MTU and link: %s", name, strerror(-rc))
              : 0;
}

/* The queue's descriptor becomes readable for the kernel's frames too, until all are read. */
int dpdk_kernel_wake(struct dpdk_queue *q)
{
    q->kernel_event = (struct rte_epoll_event){.epdata = {.event = EPOLLIN}};
    return rte_epoll_ctl(q->epoll_fd, EPOLL_CTL_ADD, q->port->kernel.fd, &q->kernel_event);
}

void dpdk_kernel_close(struct dpdk_port *p)
{
    if (p->kernel.fd >= 0)
        (void)close(p->kernel.fd);
    p->kernel.fd = -1;
}

/* ---- Whose is it --------------------------------------------------------------------------------- */

int dpdk_own(struct device *dev, const struct device_addr addrs[], unsigned count, char *errbuf,
             size_t errbuf_bytes)
{
    struct dpdk_kernel *k = &dpdk_queue_of(dev)->port->kernel;

    (void)errbuf;
    (void)errbuf_bytes;
    rte_spinlock_lock(&k->lock);
    k->owned.count = count < DEV_ADDRS_MAX ? count : DEV_ADDRS_MAX;
    memcpy(k->owned.addr, addrs, k->owned.count * sizeof(addrs[0]));
    __atomic_fetch_add(&k->version, 1, __ATOMIC_RELEASE);
    rte_spinlock_unlock(&k->lock);
    return 0;
}

/* The control thread may hold the lock and not run: then the next burst will do. */
static const struct owned *current(struct dpdk_queue *q)
{
    struct dpdk_kernel *k = &q->port->kernel;

    if (__atomic_load_n(&k->version, __ATOMIC_ACQUIRE) != q->owned_version &&
        rte_spinlock_trylock(&k->lock)) {
        q->owned = k->owned;
        q->owned_version = k->version;
        rte_spinlock_unlock(&k->lock);
    }
    return &q->owned;
}

unsigned dpdk_kernel_sort(struct dpdk_queue *q, struct pktbuf *pkts[], unsigned n)
{
    const struct owned *owned = current(q);
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        unsigned whose = owned_by(owned, pkts[i]->data, pkts[i]->len);

        /* What the kernel has no room for is lost, as on any interface. */
        if (whose & OWNED_KERNEL)
            (void)!write(q->port->kernel.fd, pkts[i]->data, pkts[i]->len);
        if (whose & OWNED_ENGINE)
            pkts[kept++] = pkts[i];
    }
    return kept;
}

/* ---- From the kernel ----------------------------------------------------------------------------- */

/** Read a frame into a new mbuf; NULL: there is none. */
static struct rte_mbuf *read_frame(const struct dpdk_queue *q)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(q->pool);
    ssize_t n;

    if (!m)
        return NULL;
    n = read(q->port->kernel.fd, rte_pktmbuf_mtod(m, void *), q->tx_room);
    if (n < (ssize_t)ETH_HDR_BYTES) {
        rte_pktmbuf_free(m);
        return NULL;
    }
    m->data_len = (uint16_t)n;
    m->pkt_len = (uint32_t)n;
    return m;
}

bool dpdk_kernel_send(struct dpdk_queue *q)
{
    struct rte_mbuf *mbufs[READS_MAX];
    uint16_t n = 0, sent;

    while (n < READS_MAX && (mbufs[n] = read_frame(q)))
        n++;
    if (!n)
        return false;
    sent = rte_eth_tx_burst(q->port_id, q->queue_id, mbufs, n);
    if (sent < n)
        rte_pktmbuf_free_bulk(mbufs + sent, n - sent);
    return n == READS_MAX;
}

void dpdk_kernel_turn(struct dpdk_queue *q, bool idle)
{
    if (q->queue_id || (!idle && ++q->kernel_bursts < BUSY_BURSTS))
        return;
    q->kernel_bursts = 0;
    (void)dpdk_kernel_send(q);
}

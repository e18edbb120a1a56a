/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the dpdk: device know of each other: dpdk_eal.c sets up DPDK's environment, dpdk.c opens
 * and closes a port, dpdk_io.c moves frames over a queue, dpdk_mbuf.c translates what is said of a frame,
 * dpdk_link.c watches the link.
 */
#ifndef HW_DPDK_INT_H
#define HW_DPDK_INT_H

#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_mbuf.h>
#include <rte_spinlock.h>

#include "hw/dpdk.h"
#include "hw/owned.h"

#define DPDK_MAC_BYTES   6u
#define DPDK_RSS_KEY_MAX 64u /* the longest key of any driver has 52 bytes */

/* ---- dpdk_eal.c -------------------------------------------------------------------------------- */

/** Where an error message goes, and what it is about. */
struct dpdk_error {
    const char *devargs;
    char *buf;
    size_t bytes;
};

/** Write the message "dpdk:DEVARGS: ..." and return -err. */
int dpdk_fail(const struct dpdk_error *e, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** Set up the environment, unless that was done. Returns 0 or -errno; what failed can't be tried again. */
int dpdk_eal_start(const struct dpdk_settings *s, const struct dpdk_error *e);
/** A PCI address, perhaps with arguments. */
bool dpdk_is_pci(const char *devargs);
/** Give the calling thread caches of frame buffers of its own, until it ends. */
void dpdk_eal_adopt_thread(void);

/* ---- A port and its queues ------------------------------------------------------------ */

/** Looks after the link of a port. */
struct dpdk_link {
    int event_fd; /* rung by the interrupt thread; -1: closed */
    int timer_fd; /* for drivers that do not interrupt, else -1 */
    int epoll_fd; /* readable when one of them is */
};
#define DPDK_LINK_CLOSED ((struct dpdk_link){.event_fd = -1, .timer_fd = -1, .epoll_fd = -1})

/* dpdk_queue.state: what keeps frames from passing. */
#define DPDK_DOWN        (1u << 0) /* the link was down when it was looked at last */
#define DPDK_REMOVED     (1u << 1) /* the port was pulled out */
#define DPDK_KEEP_OFF    (1u << 2) /* the port is to be stopped and started: no bursts meanwhile */

/** The kernel's share of a port. */
struct dpdk_kernel {
    int fd; /* of the TAP interface; -1: there is none */
    rte_spinlock_t lock;
    uint32_t version; /* of what stands below the lock: counts up with each change */
    struct owned owned;
};

struct dpdk_queue;

struct dpdk_port {
    uint16_t id;
    uint16_t rx_descriptors, tx_descriptors; /* of each queue */
    unsigned queue_count;
    unsigned open_count; /* queues that were not closed yet */
    bool restarts;       /* the driver does not look for its other end again by itself */
    bool started;
    uint8_t patience;   /* looks at the link that a start may take */
    uint16_t room;      /* bytes of a frame in one mbuf */
    uint32_t frame_max; /* bytes that a received frame may have, joined segments apart */
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf;
    struct rte_mempool *pool;
    struct device_caps caps;
    uint8_t rss_key[DPDK_RSS_KEY_MAX];
    struct dpdk_link link;
    struct dpdk_kernel kernel;
    struct dpdk_queue *queues[DEV_QUEUES_MAX];
};

/** What is touched for each burst stands first. */
struct dpdk_queue {
    struct device dev; /* first: struct device * is struct dpdk_queue * */
    uint16_t port_id, queue_id;
    uint16_t rx_held;  /* rx_mbufs[0..rx_held) were given to the engine */
    uint16_t rx_found; /* rx_mbufs[0..rx_found) were found by rx_pending() and are to be given next */
    bool rx_plain;     /* those mbufs may go back to the pool as they are */
    bool rx_armed;     /* the queue's interrupt is on */
    bool kept_off;     /* the answer to DPDK_KEEP_OFF; set by the queue's thread */
    uint8_t state;     /* DPDK_*; set by other threads */
    bool kernel;       /* share frames with the kernel */
    bool tx_ip_csum;   /* the driver fills in the IPv4 checksum of segments */
    uint16_t tx_room;  /* bytes that one mbuf holds */
    uint32_t offloads; /* DEV_* */
    uint32_t tx_frame_max;
    int epoll_fd; /* -1: the driver has no interrupts for queues */
    struct rte_mempool *pool;
    struct dpdk_port *port;
    struct device_stats stats;
    uint8_t *rx_linear; /* DEV_RX_BURST_MAX buffers for frames that came in several mbufs */
    struct rte_mbuf *rx_mbufs[DEV_RX_BURST_MAX];
    struct pktbuf rx_pkts[DEV_RX_BURST_MAX];
    /* With a share for the kernel: */
    unsigned kernel_bursts; /* since the kernel was looked at */
    struct rte_epoll_event kernel_event;
    uint32_t owned_version;
    struct owned owned; /* the queue's copy */
};

static inline struct dpdk_queue *dpdk_queue_of(struct device *dev)
{
    return (struct dpdk_queue *)dev;
}

/* ---- dpdk_mbuf.c ----------------------------------------------------------------------------------- */

/* rte_mbuf.ol_flags that dpdk_rx_offloads() looks at. */
#define DPDK_RX_FLAGS (RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_LRO)

/**
 * Set the offload fields of `pkt`, which are zero, by what the driver says of the frame. Its data, len and
 * total are set already (linear).
 * @return 0, or -EINVAL when it says what does not fit the frame
 */
int dpdk_rx_offloads(const struct rte_mbuf *m, struct pktbuf *pkt);
/**
 * Ask the driver for what the frame needs. All headers lie in the first mbuf.
 * @param ip_csum  the driver fills in the IPv4 checksum of segments
 */
void dpdk_tx_offloads(const struct pktbuf *pkt, bool ip_csum, struct rte_mbuf *m);

/* ---- dpdk_io.c ------------------------------------------------------------------------------------- */

#define DPDK_LINEAR_BYTES (65536u + 3 * 64u) /* an odd number of cache lines: see RX_STRIDE_BYTES of tap */

int dpdk_rx_burst(struct device *dev, struct pktbuf *pkts[], unsigned max);
int dpdk_tx_burst(struct device *dev, struct pktbuf *const pkts[], unsigned n);
bool dpdk_rx_pending(struct device *dev);
/** Give back what the engine was given and what was found. */
void dpdk_rx_release(struct dpdk_queue *q);

/* ---- dpdk_rss.c ------------------------------------------------------------------------------------- */

/** Ask for receive-side scaling, where there are several queues and the driver has it. */
void dpdk_rss_choose(struct dpdk_port *p);
/** What the driver made of it: p->caps.spread. */
void dpdk_rss_learn(struct dpdk_port *p);

/* ---- dpdk_kernel.c ---------------------------------------------------------------------------------- */

/** Make the TAP interface. Returns 0 or -errno; needs dpdk_kernel_close() in both cases. */
int dpdk_kernel_open(struct dpdk_port *p, const char *name, const struct dpdk_error *e);
void dpdk_kernel_close(struct dpdk_port *p);
/** Have the kernel's frames make the queue's descriptor readable too. */
int dpdk_kernel_wake(struct dpdk_queue *q);
int dpdk_own(struct device *dev, const struct device_addr addrs[], unsigned count, char *errbuf,
             size_t errbuf_bytes);
/** Give the kernel what is the kernel's of received frames; returns how many are left, in order. */
unsigned dpdk_kernel_sort(struct dpdk_queue *q, struct pktbuf *pkts[], unsigned n);
/** Send what the kernel has, some of it; true when there may be more. */
bool dpdk_kernel_send(struct dpdk_queue *q);
/** Once a burst. */
void dpdk_kernel_turn(struct dpdk_queue *q, bool idle);

/* ---- dpdk_socket.c ---------------------------------------------------------------------------------- */

/** Take away the file that a killed process left where the driver of this device wants to listen. */
void dpdk_socket_clear(const char *devargs);

/* ---- dpdk_link.c ------------------------------------------------------------------------------------ */

/** Set and clear bits of all queues' state. */
void dpdk_state(struct dpdk_port *p, unsigned set, unsigned clear);
/** Begin to watch. Returns 0 or -errno; needs dpdk_link_close() in both cases. */
int dpdk_link_open(struct dpdk_port *p);
void dpdk_link_close(struct dpdk_port *p);
int dpdk_link_fd(struct device *dev);
void dpdk_link_state(struct device *dev, struct device_link *ret);

#endif

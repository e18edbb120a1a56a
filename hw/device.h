/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device interface: one table of functions, one file per kind of device.
 *
 * A device has one or more queues, and a handle (struct device) for each. Frames come in on one of them, as
 * device_caps.spread says; each sends by itself.
 *
 * Thread rule: a handle is used by one worker thread; open and close may be called by another thread before
 * and after, and link_fd and link, of the first handle only, by one other thread meanwhile. Handles of one
 * device are used by different threads at once. No call blocks except device_open().
 */
#ifndef HW_DEVICE_H
#define HW_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hw/pktbuf.h"
#include "hw/spread.h"

struct device;
struct dpdk_settings;

/* device_caps.offloads: what the device does for the engine. */
#define DEV_TX_CSUM      (1u << 0) /* fills in PKT_CSUM_PARTIAL checksums of TCP and UDP over IPv4 and IPv6 */
#define DEV_TX_TSO4      (1u << 1) /* sends PKT_GSO_TCP4 frames up to tx_frame_max bytes */
#define DEV_TX_TSO6      (1u << 2)
#define DEV_RX_CSUM      (1u << 3) /* sets PKT_CSUM_GOOD or PKT_CSUM_PARTIAL where it is true */
#define DEV_RX_GRO       (1u << 4) /* may deliver frames above the MTU, with gso_size set */

#define DEV_RX_BURST_MAX 64u
#define DEV_TX_BURST_MAX 64u

#define DEV_QUEUES_MAX   SPREAD_QUEUES_MAX

/** The same of all handles of a device. */
struct device_caps {
    uint8_t mac[6];        /* the address that the engine answers for */
    uint16_t mtu;          /* IP bytes of a frame, 576..65535 */
    uint32_t offloads;     /* DEV_* */
    uint32_t tx_frame_max; /* bytes of the largest frame tx_burst takes, headers included */
    struct spread spread;  /* which frames come in on which queue */
};

/** What the device says of its link. */
struct device_link {
    bool up;
    uint16_t mtu; /* IP bytes of a frame; may be any number */
};

/** An address that the engine answers for on a device. */
struct device_addr {
    uint8_t ip_version; /* 4 or 6 */
    uint16_t vlan;      /* 0: untagged */
    uint8_t ip[16];     /* IPv4 in the first four bytes */
};
#define DEV_ADDRS_MAX 64u

struct device_stats {
    uint64_t rx_frames, rx_bytes, rx_errors;
    uint64_t tx_frames, tx_bytes, tx_errors, tx_full;
};

struct device_ops {
    const char *kind; /* the word before the colon of a SPEC */
    /**
     * Receive. Fills `pkts` with up to `max` frames, which stay valid until the next rx_burst() or
     * close(). Never blocks. Returns their number, or -errno when the device has failed for good.
     */
    int (*rx_burst)(struct device *, struct pktbuf *pkts[], unsigned max);
    /**
     * Send. Takes the first `n` frames or fewer; returns how many were taken (a device that is full takes
     * 0), or -errno when the device has failed for good. A frame that the device refuses (too long, say)
     * counts as taken and as tx_errors. When it returns, the frames' memory is the caller's again.
     */
    int (*tx_burst)(struct device *, struct pktbuf *const pkts[], unsigned n);
    /**
     * A descriptor that polls readable when rx_burst() may have something, or -1 for a device that must
     * be polled (the worker then never sleeps longer than poll_interval_us).
     */
    int (*wait_fd)(struct device *);
    /** True when frames are known to wait already, so that sleeping on wait_fd would miss them. */
    bool (*rx_pending)(struct device *);
    void (*caps)(const struct device *, struct device_caps *ret);
    void (*stats)(const struct device *, struct device_stats *ret);
    /**
     * A descriptor that polls readable when the link may have changed, until link() is called; -1: none. Both
     * functions are NULL for a device whose link never changes. Asked of the first handle.
     */
    int (*link_fd)(struct device *);
    /** How the link is now. */
    void (*link)(struct device *, struct device_link *ret);
    /**
     * The addresses that the engine answers for on this device: all of them, whenever they may have changed.
     * For devices on an interface that the kernel uses too, which must keep the two apart; NULL in others.
     * Asked of the first handle, by the thread that may call link(); before any frame is expected.
     * @return 0, or -errno and a line in `errbuf` that says what is wrong with one and what to do:
     *         -EADDRINUSE when the kernel holds it as well. The others are in force even so.
     */
    int (*own)(struct device *, const struct device_addr addrs[], unsigned count, char *errbuf,
               size_t errbuf_bytes);
    /**
     * A line on how the device was opened, for the log: the mode that was found, what had to be limited.
     * NULL, or an empty line: nothing that caps() does not tell. Asked of the first handle.
     */
    void (*note)(const struct device *, char *line, size_t bytes);
    /** Close one queue, in any order; the last one closes the device. Accepts NULL. */
    void (*close)(struct device *);
};

/** First member of every device's own struct. */
struct device {
    const struct device_ops *ops;
};

struct device_params {
    const uint8_t *mac;               /* 6 bytes, or NULL: the device chooses or keeps its own */
    uint16_t mtu;                     /* 0: the device's own */
    uint16_t queues;                  /* wanted, 1..DEV_QUEUES_MAX; 0 counts as 1 */
    uint32_t seed;                    /* for spreads that we define: unpredictable to peers (struct spread) */
    const struct dpdk_settings *dpdk; /* for devices of that kind (hw/dpdk.h), else NULL */
    const char *kernel_tap;           /* dpdk: the interface for traffic that is the kernel's, or NULL */
};

/**
 * Open the device that `spec` names ("tap:sg0", ...).
 * @param ret     room for params->queues handles; set on success only; close each with ops->close
 * @param count   set on success only: queues opened, 1..params->queues. Fewer than wanted is no failure: a
 *                device that has only one queue says 1
 * @param errbuf  on failure: one line that says what is wrong and what to do
 * @return 0 or -errno (-EINVAL: no such kind of device, or a bad name)
 */
int device_open(const char *spec, const struct device_params *params, struct device *ret[], unsigned *count,
                char *errbuf, size_t errbuf_bytes);

/** The kinds this build knows, "tap, ..." for messages. */
const char *device_kinds(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a device on an interface that is there already and that the kernel goes on using: what is read of
 * it, and what keeps the kernel and the engine apart.
 */
#ifndef HW_NETIF_OPEN_H
#define HW_NETIF_OPEN_H

#include "hw/netif.h"

#define NETIF_NAME_MAX 16u
#define NETIF_MTU_MIN  576u

/** The interface, for the steps of opening a device and their messages. */
struct netif {
    const char *kind;          /* of the device: "packet" */
    char name[NETIF_NAME_MAX]; /* as it was when it was opened */
    int ifindex;
    uint8_t mac[6]; /* the interface's own */
    uint16_t mtu;   /* what the engine may use */
    int if_mtu;     /* what the interface has */
};

/** Where a message goes. */
struct netif_error {
    char *text;
    size_t bytes;
};

/** Write the message "KIND:NAME: ..." and return -err. */
__attribute__((format(printf, 4, 5))) int netif_fail(const struct netif *n, const struct netif_error *e,
                                                     int err, const char *fmt, ...);

/**
 * Begin to watch the interface called `name` and read its number, hardware address and MTU. It must be an
 * Ethernet interface. The MTU is that of the interface, or `wanted`, which must not be larger; at most
 * `most`.
 * @param link  set on success only, to be closed then
 * @return 0, or -errno with a message
 */
int netif_open(struct netif *n, const char *kind, const char *name, uint16_t wanted, uint16_t most,
               struct netif_link *link, const struct netif_error *e);

/**
 * Refuse an address that the kernel of this network namespace holds too, on whatever interface.
 * @return 0, or -EADDRINUSE with a message
 */
int netif_check_addrs(const struct netif *n, const struct device_addr addrs[], unsigned count,
                      const struct netif_error *e);

/**
 * Refuse an interface on which the kernel forwards packets for others: it takes what is for us for that.
 * @return 0, or -EINVAL with a message
 */
int netif_check_forwarding(const struct netif *n, const struct device_addr addrs[], unsigned count,
                           const struct netif_error *e);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The XDP program on an interface: loading, attaching, telling it what is ours, and giving the interface
 * back.
 *
 * What keeps our packets from the kernel while no daemon runs are two pins in /sys/fs/bpf/sockgate: the link,
 * by which the program stays attached, and the set of addresses, with which the next daemon's program begins.
 */
#ifndef HW_XDP_STEER_H
#define HW_XDP_STEER_H

#include "hw/netif_open.h"

#define XDP_STEER_PATH_MAX 96u

struct bpf_object;

struct xdp_steer {
    struct bpf_object *object;
    int link, owned, state, xsks; /* descriptors, or -1 */
    bool native; /* runs in the driver, before the kernel has made a packet buffer of a frame */
    bool pinned; /* survives us */
    char link_path[XDP_STEER_PATH_MAX], owned_path[XDP_STEER_PATH_MAX];
};
#define XDP_STEER_CLOSED ((struct xdp_steer){.link = -1, .owned = -1, .state = -1, .xsks = -1})

struct xdp_steer_params {
    const uint8_t *mac; /* the engine's */
    uint32_t hold_s;    /* how long packets of ours are dropped while nobody takes them */
    bool skb_only;      /* not in the driver */
};

/**
 * Load the program; it isn't attached yet. Addresses that a killed daemon has left are in force.
 * @return 0, or -errno with a message
 */
int xdp_steer_load(struct xdp_steer *s, const struct netif *n, const struct xdp_steer_params *p,
                   const struct netif_error *e);

/** Attach it, or let it take the place of one that a killed daemon has left. Returns as xdp_steer_load(). */
int xdp_steer_attach(struct xdp_steer *s, const struct netif *n, const struct xdp_steer_params *p,
                     const struct netif_error *e);

/** These addresses are ours, and no others. Returns 0 or -errno. */
int xdp_steer_own(const struct xdp_steer *s, const struct device_addr addrs[], unsigned count);

/** Give the interface back to the kernel. */
void xdp_steer_close(struct xdp_steer *s);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What devices on a network interface of the kernel have in common: its name, its settings, and its link,
 * which the operator and the cable change.
 */
#ifndef HW_NETIF_H
#define HW_NETIF_H

#include "hw/device.h"

/** Is it a name that the kernel takes for an interface, and no pattern? */
bool netif_name_is_valid(const char *name);
#define NETIF_NAME_RULE "not an interface name: 1 to 15 characters, without space, '/', ':' and '%'"

/** Looks after the link of an interface. */
struct netif_link {
    int events, ctl; /* sockets, or -1 */
    int ifindex;
    uint16_t mtu_max; /* no larger one is reported; 0: any */
    struct device_link last;
    bool gone; /* atomic: deleted, or moved to another network namespace */
};
#define NETIF_LINK_CLOSED ((struct netif_link){.events = -1, .ctl = -1})

/** From now on changes of interfaces are noticed. Returns 0 or -errno. */
int netif_link_open(struct netif_link *l);
void netif_link_close(struct netif_link *l);
/** Changes of the kernel's addresses are noticed too. Returns 0 or -errno. */
int netif_link_watch_addrs(struct netif_link *l);
/** Have the kernel announce the link as it is, for an interface that may be down to begin with. */
int netif_link_ask(struct netif_link *l);
/** Take note of what was announced and look: the interface's link now, or as it was last. */
void netif_link_state(struct netif_link *l, struct device_link *ret);
/** The interface was seen to be gone; for the worker's thread. */
static inline bool netif_link_is_gone(const struct netif_link *l)
{
    return __atomic_load_n(&l->gone, __ATOMIC_RELAXED);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What the XDP program (xdp_prog.c, another machine's code) and those who load it share: its maps. */
#ifndef HW_XDP_PROG_H
#define HW_XDP_PROG_H

#include <linux/types.h>

#define XDP_QUEUES_MAX 64u
#define XDP_OWNED_MAX  64u

/* The map "owned": a set of addresses; its values say nothing. */
struct xdp_owned_key {
    __u16 vlan; /* 0: untagged */
    __u16 ip_version;
    __u32 ip[4]; /* in network order; of IPv4 the first */
};

/* The map "state": one entry. */
struct xdp_state {
    __u64 absent_since_ns; /* when the first packet of ours came that nobody took; 0: none did */
    __u64 hold_ns;         /* how long to drop those before they are the kernel's */
    __u64 dropped;         /* packets of ours, because nobody took them */
    __u8 mac[6];           /* frames to this hardware address only are looked at */
    __u8 pad[2];
};

#endif

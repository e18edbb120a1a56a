/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `xdp:IFNAME[,hold=SECONDS][,mode=skb]` device: xdp_steer.c looks after the program that sorts frames
 * (xdp_prog.c), xdp_ring.c moves those that are ours through an XDP socket, and a packet socket brings a copy
 * of what is for everybody. xdp.c makes one device of the three.
 */
#ifndef HW_XDP_H
#define HW_XDP_H

#include "hw/device.h"

#define XDP_KIND       "xdp"
#define XDP_HOLD_S     60u
#define XDP_HOLD_S_MAX 3600u

/** Open interface `spec`. Arguments and result as device_open(), blocking. */
int xdp_open(const char *spec, const struct device_params *params, struct device *ret[], unsigned *count,
             char *errbuf, size_t errbuf_bytes);

#endif

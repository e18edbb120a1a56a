/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter of a packet socket on an interface that the kernel uses too: frames that are for the kernel
 * alone are not even copied to us. A classic BPF program.
 *
 * Pure functions; any thread.
 */
#ifndef HW_PACKET_FILTER_H
#define HW_PACKET_FILTER_H

#include <linux/filter.h>

#include "hw/device.h"

/* Room for the fixed part and the tests of DEV_ADDRS_MAX IPv6 addresses; the kernel takes 4,096. */
#define PACKET_FILTER_MAX (64u + 9u * DEV_ADDRS_MAX)

/**
 * Build the program that lets through: what is for a group or for all; ARP; neighbour discovery; what a DHCP
 * server sends to its client; and what is sent to one of `addrs` and to hardware address `mac`.
 * @param mac  NULL: any that the interface takes
 * @return instructions written to `ret`, which has room for PACKET_FILTER_MAX
 */
unsigned packet_filter_build(struct sock_filter ret[], const struct device_addr addrs[], unsigned count,
                             const uint8_t mac[6]);

#endif

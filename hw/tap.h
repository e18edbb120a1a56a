/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `tap:NAME` device: tap.c opens and configures the kernel's TAP interface, tap_fd.c reads frames from
 * its descriptor, and vnet_fd.c does the rest.
 */
#ifndef HW_TAP_H
#define HW_TAP_H

#include "hw/device.h"

/**
 * Open TAP interface `name`, or attach to the persistent one of that name, and set its link up. Addresses and
 * routes of the kernel's side are the operator's. Arguments and result as device_open(), blocking.
 */
int tap_open(const char *name, const struct device_params *params, struct device *ret[], unsigned *count,
             char *errbuf, size_t errbuf_bytes);

/**
 * Make a device of a descriptor that reads and writes one frame a call, each behind a virtio-net header of
 * VNET_HDR_BYTES: a TAP descriptor that is attached and configured already.
 * @param fd    taken over on success only; in non-blocking mode (O_NONBLOCK), or rx_burst() would block
 * @param caps  what the device reports, as the descriptor is configured
 * @return 0 or -errno: -ENOMEM, or what io_uring_setup(2) says
 */
int tap_device_create(int fd, const struct device_caps *caps, struct device **ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose is a received frame, where the engine and the kernel share a link and a hardware address: the
 * engine's that goes to one of its addresses, the kernel's otherwise, and of both what is for everyone.
 *
 * Pure functions over plain data; any thread.
 */
#ifndef HW_OWNED_H
#define HW_OWNED_H

#include "hw/device.h"

#define OWNED_ENGINE (1u << 0)
#define OWNED_KERNEL (1u << 1)

struct owned {
    unsigned count;
    struct device_addr addr[DEV_ADDRS_MAX];
};

/** OWNED_*; a frame that is cut off or of another protocol is the kernel's. */
unsigned owned_by(const struct owned *o, const uint8_t *frame, uint32_t len);

#endif

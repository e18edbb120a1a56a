/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `dpdk:DEVARGS` device: any port that DPDK knows, a PCI address or a virtual device.
 *
 * DPDK's environment layer (EAL) is set up once in a process, with the first such device, and stays. The
 * settings of that first open count; those of later ones are not looked at.
 */
#ifndef HW_DPDK_H
#define HW_DPDK_H

#include "hw/device.h"

/** Whether to take memory from huge pages. */
enum dpdk_huge {
    DPDK_HUGE_AUTO,   /* when enough of them are free */
    DPDK_HUGE_ALWAYS, /* or refuse to start */
    DPDK_HUGE_NEVER,
};

struct dpdk_settings {
    enum dpdk_huge huge;
    uint32_t memory_mb;         /* for frames and descriptors */
    uint32_t descriptors;       /* of each queue; 0: as the driver prefers */
    const char *eal;            /* more arguments, with spaces between; may be empty */
    const char *const *devices; /* the DEVARGS of all such devices that the process is to have */
    unsigned device_count;
    void (*log)(int priority, const char *line); /* a line of DPDK's, LOG_WARNING or LOG_DEBUG; any thread */
};

/** Open the port. Arguments and result as device_open(), blocking. params->dpdk must be set. */
int dpdk_open(const char *devargs, const struct device_params *params, struct device *ret[], unsigned *count,
              char *errbuf, size_t errbuf_bytes);

#endif

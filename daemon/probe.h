/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is our address free? ARP probes before the engine starts (RFC 5227 2.1.1): requests for the address from
 * nobody, to which only a host that has it answers.
 */
#ifndef DAEMON_PROBE_H
#define DAEMON_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hw/device.h"

#define PROBE_COUNT       3u  /* RFC 5227: PROBE_NUM */
#define PROBE_FRAME_BYTES 60u /* least Ethernet frame, without its check sequence */

/** Build the probe for `addr` from the station `mac`: PROBE_FRAME_BYTES bytes. */
void probe_build(uint8_t *frame, const uint8_t mac[6], const uint8_t addr[4]);

/**
 * Does this frame show that another station has, or wants, `addr`?
 * @param mac       our own hardware address: our probes may come back to us
 * @param ret_mac   set when it does
 */
bool probe_conflict(const uint8_t *frame, size_t bytes, const uint8_t mac[6], const uint8_t addr[4],
                    uint8_t ret_mac[6]);

/**
 * Send PROBE_COUNT probes spread over `wait_ms` and listen. Blocks that long at most; 0: does nothing.
 * Frames that arrive meanwhile are dropped: nobody knows the address yet.
 * @param ret_mac  the other station on -EADDRINUSE
 * @return 0: free as far as one can tell, -EADDRINUSE, or what the device failed with
 */
int probe_run(struct device *dev, const uint8_t mac[6], const uint8_t addr[4], uint32_t wait_ms,
              uint8_t ret_mac[6]);

#endif

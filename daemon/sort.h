/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which workers a frame is for (docs/decisions/workers.md). Frames come from anyone: every length is checked
 * here, and what makes no sense stays where it came in, for the engine to refuse and count.
 *
 *   ARP          requests: the leader; what teaches an address: all
 *   ICMPv6       neighbour and router discovery: the leader, advertisements of neighbours: all; MLD: all
 *   IGMP         all
 *   DHCP         the leader
 *   ICMP errors  whoever has the connection or socket that they are about
 *   TCP, UDP     the worker that holds the port, if one does; of several the one where the device brings the
 *                flow, or whom portmap_find() names
 *   groups       the workers that hold the port
 *   the rest, fragments among it: where it came in
 * Raw sockets, which live on the leader, get a copy of what belongs elsewhere.
 *
 * Pure but for the port table; any thread.
 */
#ifndef DAEMON_SORT_H
#define DAEMON_SORT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/portmap.h"
#include "hw/spread.h"

/** What sorting goes by, shared by all workers. */
struct sorter {
    unsigned workers;
    struct portmap *ports;
    uint32_t raw[2][256]; /* atomic: raw sockets of a protocol, over IPv4 and IPv6 */
};

/* sort_frame(), sort_packet(): bits 0 to 15 are workers. */
#define SORT_COPY (1u << 31) /* and a copy for the leader's raw sockets */

/**
 * @param here    the worker that it came in on
 * @param spread  how the flows of its device are spread over the workers
 * @param frame   `len` bytes, linear
 */
uint32_t sort_frame(struct sorter *s, unsigned here, const struct spread *spread, const uint8_t *frame,
                    uint32_t len);

/** The same of an IP packet that an engine put together. */
uint32_t sort_packet(struct sorter *s, unsigned here, const struct spread *spread,
                     const struct engine_packet *p);

/** The worker that packets of a flow come in on; -1: the device doesn't say. */
int sort_queue(const struct spread *spread, const struct engine_flow *f);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP for IPv4: echo replies, errors in and out (RFC 792, RFC 1122 3.2.2, RFC 5927).
 */
#ifndef ENGINE_ICMP_H
#define ENGINE_ICMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"

#define ICMP_ERROR_BYTES_MAX 576u /* of the IP packet of an error (RFC 1812 4.3.2.3) */
#define ICMP_BURST           50u  /* errors that may go out at once */

struct icmp_state {
    uint64_t credit;    /* micro-errors: one error costs 1,000,000 */
    uint64_t filled_us; /* when `credit` was brought up to date */
};

struct rx_pkt;

size_t icmp_bytes(const struct engine_config *cfg);
void icmp_init(struct icmp_state *s, void *mem, const struct engine_config *cfg);

void icmp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);

/**
 * An IP packet of ours got no further: `ip` is at least its header and 8 bytes of its payload, as quoted in
 * an ICMP error or kept for a neighbour. Tells the transport; counts ICMP errors that match nothing.
 * @param error positive errno
 * @param mtu   of the next hop, with EMSGSIZE; 0: not known
 */
void icmp_report_packet(struct engine *e, const uint8_t *ip, uint32_t bytes, int error, bool hard,
                        uint16_t mtu, uint64_t now_us);

#endif

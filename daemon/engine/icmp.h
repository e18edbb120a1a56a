/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP (RFC 792, RFC 1122 3.2.2, RFC 5927) and ICMPv6 (RFC 4443): echo replies, errors in and out. Both take
 * their errors out of one bucket.
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
struct pktbuf;

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

/** True when another error may go out now; takes it from the bucket (RFC 1812 4.3.2.8, RFC 4443 2.4 f). */
bool icmp_rate_ok(struct engine *e, uint64_t now_us);

/* ICMPv6 (icmp6.c) */
void icmp6_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);
/** The same as icmp_report_packet(); `ifindex`: where the error came in, for link-local addresses. */
void icmp6_report_packet(struct engine *e, const uint8_t *ip, uint32_t bytes, uint8_t ifindex, int error,
                         bool hard, uint16_t mtu, uint64_t now_us);
/** Fill in the checksum of the message in the open frame and send it. @return as net_output() */
int icmp6_send(struct engine *e, struct pktbuf *p, const struct ip_addr *src, const struct ip_addr *dst,
               uint8_t hops, uint64_t now_us);
/** Answer with "parameter problem" about the byte at `pointer` of the packet. */
void icmp6_param_problem(struct engine *e, const struct rx_pkt *rp, uint8_t code, uint32_t pointer,
                         uint64_t now_us);
void icmp6_send_error(struct engine *e, const struct rx_pkt *rp, enum icmp_err err, uint64_t now_us);

#endif

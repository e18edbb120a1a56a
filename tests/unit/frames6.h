/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv6 frames for the engine's tests. The host under test is 2001:db8::2 and fe80::2 with MAC
 * 02:00:00:00:00:02; its peers are 2001:db8::<last> and fe80::<last>, MAC 02:...:<last>.
 */
#ifndef TESTS_UNIT_FRAMES6_H
#define TESTS_UNIT_FRAMES6_H

#include "daemon/engine/wire/icmp6.h"
#include "tests/unit/frames.h"

/** The global resp. link-local address of a station; 16 bytes, valid for ever. */
const uint8_t *net6(uint8_t last);
const uint8_t *link6(uint8_t last);
struct ip_addr addr6(const uint8_t *ip);

/** An IPv6 packet in a frame from station `from` to the MAC that fits `dst`. */
void frame_ip6(struct frame *f, uint8_t from, const uint8_t *src, const uint8_t *dst, uint8_t next,
               uint8_t hops, const void *payload, uint32_t len);
/** The same for a message whose checksum is filled in: ICMPv6 (2), UDP (6), TCP (16). */
void frame_l4(struct frame *f, uint8_t from, const uint8_t *src, const uint8_t *dst, uint8_t next,
              uint8_t hops, void *l4, uint32_t len, uint32_t csum_at);
void frame_icmp6(struct frame *f, uint8_t from, const uint8_t *src, const uint8_t *dst, uint8_t hops,
                 uint8_t type, uint8_t code, uint32_t rest, const void *data, uint32_t len);

/** A host with IPv4, IPv6 and a gateway of each; `dad`: probes for its addresses. */
void rig6_config(struct engine_config *cfg, uint8_t dad);
void rig6_start(struct host *h);
/** Let station `last` be known under its global and its link-local address. */
void rig6_resolve(struct host *h, uint8_t last);

/** Next frame out: asserts that it is IPv6 and takes it apart. */
void expect_ip6(struct host *h, struct ip6_pkt *ret, const uint8_t **dst_mac);
/** The same for ICMPv6 with a good checksum. */
void expect_icmp6(struct host *h, uint8_t type, uint8_t code, struct ip6_pkt *ret);

#endif

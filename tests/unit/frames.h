/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames for the engine's unit tests: built from a few words, taken apart with checks. The host under test is
 * 192.0.2.2 with MAC 02:00:00:00:00:02 (tests/support/host.h); its peers are 192.0.2.<last>, MAC
 * 02:...:<last>.
 */
#ifndef TESTS_UNIT_FRAMES_H
#define TESTS_UNIT_FRAMES_H

#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/arp.h"
#include "daemon/engine/wire/icmp4.h"
#include "daemon/engine/wire/udp.h"
#include "tests/support/host.h"

#define HOST_LAST  2u
#define NET4(last) (0xc0000200u | (last))
#define HOST4      NET4(HOST_LAST)
#define GATEWAY    254u

struct frame {
    uint8_t b[ETH_HDR_BYTES + IP4_BYTES_MAX + 64];
    uint32_t len;
};

/** MAC of the station with this last octet; 255: broadcast. */
const uint8_t *mac_of(uint8_t last);

/** An ARP packet from station `from`, in a frame to station `to`. */
void frame_arp(struct frame *f, uint16_t op, uint8_t from, uint32_t spa, uint8_t to, uint32_t tpa);
/** An IPv4 packet (addresses, proto, payload ... of `ip`) in a frame to station `to`. */
void frame_ip4(struct frame *f, const struct ip4_pkt *ip, uint8_t to);
/** A UDP datagram to the host, with a correct checksum. */
void frame_udp(struct frame *f, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, const void *data,
               uint32_t len);
/** An ICMP message from src to dst with a correct checksum. */
void frame_icmp(struct frame *f, uint32_t src, uint32_t dst, uint8_t type, uint8_t code, uint32_t rest,
                const void *data, uint32_t len);
/** Build the UDP datagram alone, for fragments; returns its bytes. */
uint32_t put_udp(uint8_t *p, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, const void *data,
                 uint32_t len);

void frame_in(struct host *h, const struct frame *f);

/** Start the usual host, with a gateway at 192.0.2.254. */
void rig_start(struct host *h);
/** Let station `last` answer ARP, so that packets to it leave at once. */
void rig_resolve(struct host *h, uint8_t last);
/** End it; fails the test when anything is inconsistent or lost. */
void rig_stop(struct host *h);
/** Fails the test when the net modules' state is inconsistent. */
void rig_check(struct host *h);

/** Next frame out; asserts that it is ARP, resp. IPv4 with correct header checksum, and takes it apart. */
void expect_arp(struct host *h, struct arp_pkt *ret, const uint8_t **dst_mac);
void expect_ip4(struct host *h, struct ip4_pkt *ret, const uint8_t **dst_mac);
void expect_nothing(struct host *h);
/** Let time pass until something is sent, at most `max_us`; how long it took. */
uint64_t host_wait_tx(struct host *h, uint64_t max_us);
/** Nothing is sent in this time. */
void host_quiet(struct host *h, uint64_t us);

/** A pseudo-random stream; the caller prints its seed. */
uint64_t rnd_next(uint64_t *state);
/** Seed of a randomised test: SEED in the environment, else a fixed one. Printed. */
uint64_t rnd_seed(const char *test);

#endif

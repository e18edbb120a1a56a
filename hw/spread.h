/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a device spreads the frames that it receives over its queues, so that whoever knows the rule can tell
 * beforehand on which queue a flow's frames will come in.
 *
 * Pure functions over plain data; any thread.
 */
#ifndef HW_SPREAD_H
#define HW_SPREAD_H

#include <stdint.h>

#define SPREAD_QUEUES_MAX      16u
#define SPREAD_RSS_KEY_BYTES   40u /* what the longest input, IPv6 addresses and ports, can use of a key */
#define SPREAD_RSS_ENTRIES_MAX 512u

enum spread_kind {
    SPREAD_NONE, /* one queue; or nobody knows. Frames of one flow still come in on one queue */
    SPREAD_RSS,  /* receive-side scaling: the Toeplitz hash */
    SPREAD_FLOW, /* a hash of our own, for devices that run a program of ours: spread_flow_hash() */
};

/* spread.rss_types: packets whose hash covers the ports too. That of others, and of fragments, covers the
 * addresses alone. */
#define SPREAD_RSS_TCP4 (1u << 0)
#define SPREAD_RSS_TCP6 (1u << 1)
#define SPREAD_RSS_UDP4 (1u << 2)
#define SPREAD_RSS_UDP6 (1u << 3)

struct spread {
    uint8_t kind;   /* enum spread_kind */
    uint8_t queues; /* 1..SPREAD_QUEUES_MAX */
    uint8_t rss_types;
    uint8_t pad;
    uint16_t rss_entries;                  /* of the table, a power of two; entry hash & (entries - 1) */
    uint8_t rss_key[SPREAD_RSS_KEY_BYTES]; /* its first bytes, when it is longer */
    uint8_t rss_table[SPREAD_RSS_ENTRIES_MAX];
    uint32_t seed; /* SPREAD_FLOW */
};

/** Addresses and ports as in frames that come in: the source is the peer. */
struct spread_flow {
    uint8_t src[16], dst[16];    /* IPv4 in the first four bytes */
    uint16_t src_port, dst_port; /* host order; both 0: a packet without ports, or a fragment */
    uint8_t proto;               /* of IP */
    uint8_t ip_version;          /* 4 or 6 */
};

/** The queue that frames of a flow come in on, or -1 when the device does not say. */
int spread_queue(const struct spread *s, const struct spread_flow *f);

/** The Toeplitz hash of `bytes` bytes, at most 36. */
uint32_t spread_toeplitz(const uint8_t key[SPREAD_RSS_KEY_BYTES], const uint8_t *input, unsigned bytes);

/**
 * The hash of SPREAD_FLOW. Each 32-bit word of the source address in network order is XORed together, the
 * ports are put above another (source high), all three are folded with odd multipliers, and the high half of
 * the product is the hash; the queue is hash % queues. Written so that an eBPF program does the same in a
 * few instructions. Only TCP and UDP packets that are no fragments are hashed so; a fragment has the ports
 * 0 and 0, and everything else comes in on queue 0.
 */
uint32_t spread_flow_hash(uint32_t seed, const struct spread_flow *f);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet and IPv4: what arrives is checked and handed on, what leaves gets its route and its headers.
 *
 * One interface with one IPv4 address, one connected network and at most one gateway. The transport's view
 * (net_input(), net_output() ...) is in engine_int.h; this is what net.c shares with neigh.c, frag.c, icmp.c
 * and udp.c. Packets to our own address never see the device: they wait in the loop queue and come back in
 * through net_loop_run().
 *
 * Frames. A packet that may be fragmented leaves net_output() as frames whose bytes all lie in the frames'
 * own memory, so the caller's fragments (a ring, a received packet) are free again when it returns. Only
 * packets with dont_fragment are sent by reference.
 */
#ifndef ENGINE_NET_H
#define ENGINE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/siphash.h"
#include "daemon/engine/wire/eth.h"
#include "daemon/engine/wire/ip4.h"

/* Packets to ourselves that wait; several of the largest fit. */
#define NET_LOOP_BYTES (256u << 10)

/* Groups of destinations that share a counter for the IP identification. */
#define NET_ID_GROUPS  1024u

/* IP packet that a frame's own memory holds. */
#define NET_COPY_MAX   (IP4_HDR_BYTES + PKT_LINEAR_MAX - PKT_HEADROOM)

/** Byte ring of packets to ourselves: struct loop_hdr of net.c and an IP packet, never wrapped. */
struct net_loop {
    uint8_t *mem;
    uint64_t head, tail; /* free-running bytes */
};

struct net_state {
    struct ip_addr addr; /* our own */
    uint32_t addr4;      /* the same in host order, 0: none */
    uint32_t mask4;      /* of the connected network */
    uint32_t broadcast4; /* of the connected network; 0: it has none (RFC 3021) */
    uint32_t gateway4;   /* 0: none */
    struct sip_key id_key;
    uint16_t id_next[NET_ID_GROUPS];
    struct net_loop loop;
};

size_t net_bytes(const struct engine_config *cfg);
void net_init(struct net_state *n, void *mem, const struct engine_config *cfg);

/** A key for one purpose, derived from the secret of the configuration so that none tells of another. */
struct sip_key net_key(const struct engine_config *cfg, uint64_t purpose);

static inline uint32_t net_addr4(const struct ip_addr *a)
{
    return get_be32(a->ip);
}

static inline struct ip_addr net_ip_addr(uint32_t addr4)
{
    struct ip_addr a = {.family = SG_AF_INET};

    put_be32(a.ip, addr4);
    return a;
}

static inline bool net_is_multicast4(uint32_t addr4)
{
    return addr4 >> 28 == 0xe;
}

/** Limited broadcast, or that of the connected network. */
bool net_is_broadcast(const struct engine *e, const struct ip_addr *a);
/** True when `addr4` is a neighbour: on the connected network, or the gateway. */
bool net_is_on_link(const struct engine *e, uint32_t addr4);

/** The next hop towards dst, unicast and not our own; false: no route. */
bool net_next_hop(const struct engine *e, uint32_t dst4, uint32_t *hop4);

/** Largest IP packet to dst that leaves in one piece without dont_fragment. */
uint32_t net_packet_max(const struct engine *e, const struct ip_addr *dst);
/** Frames that net_output() needs for `l4_bytes` without dont_fragment. */
uint32_t net_frame_count(const struct engine *e, const struct ip_addr *dst, uint32_t l4_bytes);

/** Bytes of a packet under construction: linear part and fragments. */
uint32_t net_pkt_bytes(const struct pktbuf *p);
/** Copy `bytes` bytes from offset `off` of a packet under construction. */
void net_pkt_copy(const struct pktbuf *p, uint32_t off, uint8_t *dst, uint32_t bytes);

/** Put the Ethernet header before p->data, bring the offload fields up to date, and commit the frame. */
void net_send_frame(struct engine *e, struct pktbuf *p, const uint8_t *dst_mac, uint16_t type);

/** Hand a checked packet to its transport. */
void net_deliver(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);

/**
 * Send what waited for a neighbour or for room, and take in what we sent to ourselves. At most what is
 * queued at the call; answers to it wait for the next.
 */
void net_loop_run(struct engine *e, uint64_t now_us);
/** True when net_loop_run() has something to do. */
bool net_loop_pending(const struct engine *e);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between Ethernet and the transports: what arrives is checked and handed on, what leaves gets its route and
 * its headers.
 *
 *   netif.c  interfaces, addresses, routes      net.c  frames, what both IP versions share
 *   ip4.c    IPv4 in and out                    ip6.c  IPv6 in and out       ip6_ext.c  extension headers
 *
 * The transports' view (net_input(), net_output() ...) is in engine_int.h; this is what the files above share
 * with neigh.c, arp.c, nd.c, frag.c, icmp.c, icmp6.c and udp.c. Packets to our own addresses never see a
 * device: they wait in the loop queue and come back in through net_loop_run().
 *
 * Frames. A packet that may be fragmented leaves net_output() as frames whose bytes all lie in the frames'
 * own memory, so the caller's fragments (a ring, a received packet) are free again when it returns. Only
 * packets with NET_DF or NET_WHOLE are sent by reference.
 */
#ifndef ENGINE_NET_H
#define ENGINE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/netif.h"
#include "daemon/engine/siphash.h"
#include "daemon/engine/wire/eth.h"
#include "daemon/engine/wire/ip4.h"
#include "daemon/engine/wire/ip6.h"
#include "daemon/engine/wire/tcp.h"

/* Packets to ourselves that wait; several of the largest fit. */
#define NET_LOOP_BYTES (256u << 10)

/* Groups of destinations that share a counter for the IP identification. */
#define NET_ID_GROUPS  1024u

/* IP packet that a frame's own memory holds, whichever version. */
#define NET_COPY_MAX   (IP4_HDR_BYTES + PKT_LINEAR_MAX - PKT_HEADROOM)

/** Byte ring of packets to ourselves: struct loop_hdr of net.c and an IP packet, never wrapped. */
struct net_loop {
    uint8_t *mem;
    uint64_t head, tail; /* free-running bytes */
};

struct net_state {
    struct net_tables t;
    bool csum_by_hand; /* some device doesn't compute transport checksums */
    struct sip_key id_key;
    uint32_t id_next[NET_ID_GROUPS];
    struct net_loop loop;
};

/** How a packet came in. */
struct arrival {
    const uint8_t *src_mac; /* NULL: from ourselves */
    uint8_t ifindex;
    bool link_group; /* in a broadcast or multicast frame */
    bool csum_ok;
    bool looped; /* from ourselves */
    uint16_t gso_size;
};

/** What a packet to send looks like, as net_output() takes it. */
struct ip_out {
    const struct ip_addr *src, *dst;
    uint8_t proto, tos, ttl;
    uint8_t cut; /* NET_DF, NET_WHOLE, NET_LINK_MTU */
};

size_t net_bytes(const struct engine_config *cfg);
/** False: addresses, routes and interfaces do not fit together. */
bool net_init(struct net_state *n, void *mem, const struct engine_config *cfg);

/** A key for one purpose, derived from the secret of the configuration so that none tells of another. */
struct sip_key net_key(const struct engine_config *cfg, uint64_t purpose);
/** The same from the secret that outlives the process. */
struct sip_key net_stable_key(const struct engine_config *cfg, uint64_t purpose);

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

/** An IPv6 address that was seen on interface `ifindex`. */
static inline struct ip_addr net_ip_addr6(const uint8_t *ip, uint8_t ifindex)
{
    struct ip_addr a = {.family = SG_AF_INET6};

    memcpy(a.ip, ip, 16);
    a.scope = ip6_is_link_local(ip) ? ifindex + 1u : 0;
    return a;
}

static inline bool net_is_multicast4(uint32_t addr4)
{
    return addr4 >> 28 == 0xe;
}

/** Any group of either family. */
static inline bool net_is_multicast(const struct ip_addr *a)
{
    return a->family == SG_AF_INET ? a->ip[0] >> 4 == 0xe : a->ip[0] == 0xff;
}

/** Limited broadcast, or that of a connected network. */
bool net_is_broadcast(const struct engine *e, const struct ip_addr *a);
/** True when `a` is reached over the link of `ifindex` without a router. */
bool net_is_on_link(const struct engine *e, const struct ip_addr *a, uint8_t ifindex);
/** The next hop towards dst, unicast; false: no route. */
bool net_next_hop(const struct engine *e, const struct ip_addr *dst, struct ip_addr *hop);
/** An own address of this family, the first that was configured; family 0: there is none. */
struct ip_addr net_own(const struct engine *e, uint16_t family);

/** Largest IP packet to dst that is not cut, with `cut` 0 or NET_LINK_MTU. */
uint32_t net_packet_max(const struct engine *e, const struct ip_addr *dst, uint8_t cut);
/** Frames that net_output() makes of `l4_bytes` with such a `cut`. */
uint32_t net_frame_count(const struct engine *e, const struct ip_addr *dst, uint32_t l4_bytes, uint8_t cut);

/** Hop limit of IPv6 packets to dst: what a router on the link says, else the engine's default. */
uint8_t net_hops(const struct engine *e, const struct ip_addr *dst);

/** Bytes of a packet under construction: linear part and fragments. */
uint32_t net_pkt_bytes(const struct pktbuf *p);
/** Copy `bytes` bytes from offset `off` of a packet under construction. */
void net_pkt_copy(const struct pktbuf *p, uint32_t off, uint8_t *dst, uint32_t bytes);
/** Room for a header before p->data, which moves there. */
void net_pkt_push(struct pktbuf *p, uint32_t bytes);
/** Checksum over all of `p`, from p->data on, with `sum` to begin with. */
uint32_t net_pkt_sum(const struct pktbuf *p, uint32_t sum);
/** Compute the checksum of a packet of `proto` and store it; `pseudo`: sum of its pseudo-header, or 0. */
void net_pkt_checksum(struct pktbuf *p, uint32_t pseudo, uint8_t proto, uint16_t csum_offset);

/**
 * Send the open frame to a group with IP options, which net_output() doesn't make. The source is that of the
 * route. `option_bytes` is a multiple of 4.
 */
void net_output_link4(struct engine *e, struct pktbuf *p, const struct ip4_pkt *ip, uint8_t ifindex,
                      const uint8_t *options, uint32_t option_bytes);
/** Send the open frame, an IPv4 packet with a header of its own, towards `dst`. As net_output(). */
int net_output_whole4(struct engine *e, struct pktbuf *p, const struct ip_addr *dst, uint64_t now_us);
/** Let a copy of the transport packet in the open frame, which leaves on `ifindex`, come back in: somebody
 * here hears it too. */
void net_loop_copy(struct engine *e, const struct pktbuf *p, const struct ip_out *o, uint8_t ifindex);

/** Put the Ethernet header before p->data, bring the offload fields up to date, and commit the frame. */
void net_send_frame(struct engine *e, struct pktbuf *p, uint8_t ifindex, const uint8_t *dst_mac,
                    uint16_t type);
/** Send the open frame, an IP packet, to where `d` says: to a group at once, else to the neighbour. */
int net_link_output(struct engine *e, struct pktbuf *p, const struct net_dst *d, uint64_t now_us);
/** Have the open frame, an IP packet, come back in at the next net_loop_run(). */
int net_loop_output(struct engine *e, struct pktbuf *p);

/** Send the transport packet `p` in fragments; `each`: of the fragment's payload, a multiple of 8. */
typedef void net_frag_hdr_fn(struct pktbuf *p, const void *ctx, uint32_t off, uint32_t len, bool more);
int net_output_fragments(struct engine *e, struct pktbuf *p, const struct net_dst *d, uint32_t each,
                         net_frag_hdr_fn *put, const void *ctx, enum stat counter, uint64_t now_us);

/** The identification of a datagram (RFC 6864 4, RFC 7739), which the device cuts into `packets`. */
uint32_t net_next_id(struct net_state *n, const struct ip_out *o, uint32_t packets);

/* Per IP version. */
void ip4_input(struct engine *e, const uint8_t *p, uint32_t bytes, const struct arrival *a, uint64_t now_us);
void ip6_input(struct engine *e, const uint8_t *p, uint32_t bytes, const struct arrival *a, uint64_t now_us);
int ip4_output(struct engine *e, struct pktbuf *p, const struct ip_out *o, uint64_t now_us);
int ip6_output(struct engine *e, struct pktbuf *p, const struct ip_out *o, uint64_t now_us);
uint32_t ip4_fragment_bytes(uint32_t packet_max);
uint32_t ip6_fragment_bytes(uint32_t packet_max);

/** ip6_ext.c: go on behind the fixed header, or behind a reassembled datagram's fragment header. */
void ip6_next(struct engine *e, struct rx_pkt *rp, bool from_fragment, uint64_t now_us);

/** RFC 7112: does the payload of a first fragment, whose first header is `proto`, hold all headers? */
bool ip6_chain_whole(const uint8_t *p, uint32_t bytes, uint8_t proto);
/** The transport header of a quoted packet (fixed header whole), 8 bytes of it at least; NULL: not there. */
const uint8_t *ip6_quoted_l4(const uint8_t *ip, uint32_t bytes, uint8_t *proto);
/** Is the group one that the interface listens to by itself: all nodes, those of its addresses? */
bool ip6_group_own(const struct engine *e, const uint8_t *dst, uint8_t ifindex);
/** ... or because a socket joined it? */
bool ip6_group_joined(const struct engine *e, const struct ip_addr *dst, uint8_t ifindex);

/** Segments that a device joined into this packet; 1: none. */
static inline uint32_t net_segments(const struct rx_pkt *rp)
{
    uint32_t tcp_hdr;

    if (!rp->gso_size || rp->proto != IP_PROTO_TCP || rp->l4_len < TCP_HDR_BYTES)
        return 1;
    tcp_hdr = (uint32_t)(rp->l4[12] >> 4) * 4;
    return rp->l4_len <= tcp_hdr ? 1 : (rp->l4_len - tcp_hdr + rp->gso_size - 1) / rp->gso_size;
}

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

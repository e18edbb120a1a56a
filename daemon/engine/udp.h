/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP sockets (RFC 768, RFC 1122 4.1). The calls are declared in engine_int.h.
 *
 *   udp.c      the table and the calls        udp_in.c   who gets a datagram, ICMP errors
 *   udp_opt.c  options                        udp_out.c  send rings to packets
 *
 * Datagrams stand in the socket's rings as records with a struct sg_dgram_hdr. A received datagram goes to
 * the socket that fits it best: connected to its sender, else bound to its destination address, else bound to
 * any; among equals the one bound last, or, when that has SO_REUSEPORT, one of its group by a keyed hash of
 * the flow. A broadcast goes to all that fit. Records lie in the arena; the hash over local ports and the
 * list of those with something to send are scratch.
 */
#ifndef ENGINE_UDP_H
#define ENGINE_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/stats.h"

/* Datagrams that UDP_SEGMENT makes of one at most, as in Linux. */
#define UDP_SEGMENTS_MAX  128u

/* RFC 1112 6.1: multicasts stay on the link unless the application says otherwise. */
#define UDP_TTL_MULTICAST 1u

/* Raw sockets at once: every packet of their protocols is compared with each. */
#define RAW_SOCKS_MAX     64u
#define RAW_PROTO_RAW     255u /* IPPROTO_RAW: packets with a header of the application's own */

/* Datagrams that one socket sends before the next has its turn, and all in one call. */
#define UDP_SOCK_BURST    16u
#define UDP_OUTPUT_BURST  512u

/* sock.bind_flags: the local address was chosen by connect() and goes with the peer. */
#define BIND_CONNECT      (1u << 8)

struct pktbuf;
struct rx_pkt;
struct sock;
struct udp_sock;

struct udp_table {
    struct udp_sock *socks;       /* arena */
    uint32_t *free;               /* stack of unused indices */
    uint32_t *bucket;             /* by local port: socket indices through hash_next */
    uint32_t raw_head, raw_count; /* raw sockets, through hash_next */
    uint32_t count, free_count, mask;
    uint32_t tx_head, tx_tail; /* sockets with datagrams to send, through tx_next */
};

size_t udp_arena_bytes(const struct engine_config *cfg);
size_t udp_bytes(const struct engine_config *cfg);
/** Records in `arena` that are in use stay so; the caller puts them back on port lists. */
void udp_init(struct udp_table *t, void *arena, void *mem, const struct engine_config *cfg);

static inline uint32_t udp_index(const struct udp_table *t, const struct udp_sock *u)
{
    return (uint32_t)(u - t->socks);
}

static inline bool udp_connected(const struct udp_sock *u)
{
    return u->s.pub_state == SG_ST_CONNECTED;
}

/** Report an errno that does not end the socket (RFC 1122 4.1.3.3). */
void udp_soft_error(struct engine *e, struct udp_sock *u, int error);
/** What goes into one record of a receive ring. */
struct udp_payload {
    const uint8_t *hdr, *data;
    uint32_t hdr_len, len;
};

/** Append a record about the packet `rp` to the receive ring; ST_COUNT, or the counter that says why not. */
enum stat udp_store(struct engine *e, struct udp_sock *u, const struct rx_pkt *rp, uint16_t port,
                    const struct udp_payload *p);

/** A record of a send ring, checked. */
struct udp_outgoing {
    struct ip_addr src, dst;
    struct sg_dgram_info info; /* with `has_info` */
    bool has_info;
    uint8_t ttl, tos;
    uint8_t cut; /* NET_* */
    uint16_t port;
    uint16_t gso_size; /* payload of each datagram; 0: one datagram */
    uint16_t hdr_len;  /* UDP header; 0: a raw socket's packet */
    uint32_t len;      /* payload */
    uint64_t pos;      /* of the payload, from the ring's base */
    uint32_t bytes;    /* in the ring */
};

/* udp_info.c: what IP_PKTINFO and its like tell, or say */
bool udp_wants_info(const struct udp_sock *u);
void udp_info_fill(const struct udp_sock *u, const struct rx_pkt *rp, struct sg_dgram_info *ret);
/** The interface that the application names, for a destination that needs one. 0 or a positive errno. */
int udp_info_scope(struct engine *e, struct udp_outgoing *o);
/** Source, TTL and TOS as the application says for this datagram. 0 or a positive errno. */
int udp_info_apply(struct engine *e, const struct udp_sock *u, struct udp_outgoing *o);
/** False for a multicast of a group that the socket didn't join, or whose sender it doesn't want. */
bool udp_hears(const struct engine *e, const struct udp_sock *u, const struct rx_pkt *rp);

/* raw.c */
/** An IPv4 packet's header as if it had come in one piece, into `hdr` (60 bytes); returns its bytes. */
uint32_t raw_whole_header(const struct rx_pkt *rp, uint8_t *hdr);
void raw_close(struct engine *e, struct udp_sock *u);
/** Copies of the packet for the raw sockets that it fits; true: there are such. */
bool raw_input(struct engine *e, const struct rx_pkt *rp);
/** IP_HDRINCL: send the record as a packet with its header. 0 or a positive errno. */
int raw_send_whole(struct engine *e, struct udp_sock *u, const uint8_t *region, const struct udp_outgoing *o,
                   uint64_t now_us);
/** Bytes that must be in the frame's own memory for raw_checksum(); 0: it makes none. */
uint32_t raw_checksum_end(const struct udp_sock *u);
/** Fill in the checksum that the socket asks for (RFC 3542 3.1). 0, or EINVAL: it lies outside the packet. */
int raw_checksum(const struct udp_sock *u, struct pktbuf *p, const struct udp_outgoing *o);
int raw_set_hdrincl(struct engine *e, struct sock *s, uint64_t value);
int raw_get_hdrincl(struct engine *e, struct sock *s, uint64_t *value);
int raw_set_checksum(struct engine *e, struct sock *s, uint64_t value);
int raw_get_checksum(struct engine *e, struct sock *s, uint64_t *value);
int raw_set_filter(struct engine *e, struct sock *s, uint64_t value);
int raw_get_filter(struct engine *e, struct sock *s, uint64_t *value);

/** A local port for a socket that has none. 0 or -EAGAIN. */
int udp_bind_any(struct engine *e, struct udp_sock *u);
/** Where a datagram to `a` goes: Linux takes 0.0.0.0 and :: for this host. */
struct ip_addr udp_destination(const struct engine *e, const struct ip_addr *a);
/** Take the socket off the list of those with something to send. */
void udp_tx_forget(struct udp_table *t, struct udp_sock *u);

/* Rows of the table of options (sockopt.c). */
int udp_set_mc_ttl(struct engine *e, struct sock *s, uint64_t value);
int udp_get_mc_ttl(struct engine *e, struct sock *s, uint64_t *value);
int udp_set_mc_if(struct engine *e, struct sock *s, uint64_t value);
int udp_get_mc_if(struct engine *e, struct sock *s, uint64_t *value);
int udp_set_mc_loop(struct engine *e, struct sock *s, uint64_t value);
int udp_get_mc_loop(struct engine *e, struct sock *s, uint64_t *value);
int udp_set_segment(struct engine *e, struct sock *s, uint64_t value);
int udp_get_segment(struct engine *e, struct sock *s, uint64_t *value);
void udp_set_buffer(struct udp_sock *u, bool send, uint64_t bytes);
uint64_t udp_get_buffer(const struct udp_sock *u, bool send);

/** NULL, or what is inconsistent. */
const char *udp_check(const struct engine *e);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine's modules know of one another. Private to daemon/engine.
 *
 *   wire/       bytes on the wire, read and written through checked helpers
 *   net.c      frames in and out    ip4.c, ip6.c, ip6_ext.c  packets    netif.c  addresses and routes
 *   neigh.c    neighbours, asked by arp.c and nd.c       addr.c  life of our addresses    ra.c  routers
 *   frag.c     reassembly           icmp.c, icmp6.c
 *   udp*.c     datagram sockets     raw.c  raw ones      mcast*.c, igmp.c, mld.c  multicast groups
 *   tcp_*.c    segments in, out, timers, listeners, recovery
 *   flow.c     the connection table                     wheel.c  timers  segheap.c  regions of a segment
 *   sock.c     sockets, ports, sessions, slots: the engine's side of the shared memory
 *   ring.c     regions of the byte rings: given, switched, taken back
 *   engine.c   start-up and the turn        peers.c    the engines of other workers
 */
#ifndef ENGINE_ENGINE_INT_H
#define ENGINE_ENGINE_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/stats.h"

/* Assertions stay on in release: they state what only a bug here can break. */
#define ENG_ASSERT(x)                                                                                        \
    do {                                                                                                     \
        if (__builtin_expect(!(x), 0))                                                                       \
            __builtin_trap();                                                                                \
    } while (0)

#define ARRAY_LEN(a)   (sizeof(a) / sizeof((a)[0]))

/* "No index" in every list and table of the engine. */
#define NIL            UINT32_MAX

/* ---- Frames to send (pktq.c) ---------------------------------------------------------------------- */

#define PKT_HEADROOM   96u   /* room before the transport header for Ethernet, VLAN and IPv6 headers */
#define PKT_LINEAR_MAX 2048u /* bytes of a frame's own memory, headroom included */

/** Frames that wait for one device. */
struct pktq_dev {
    uint32_t *ring;      /* `count` indices of pkts */
    uint32_t head, tail; /* free-running */
    uint64_t since_us;   /* since when the first has been offered and not taken; 0: it has not been */
};

struct pktq {
    struct pktbuf *pkts; /* of all devices: count * devices */
    uint8_t *mem;        /* PKT_LINEAR_MAX for each */
    uint32_t *free;      /* the first `idle` entries: pkts that are not used */
    uint32_t idle;
    uint32_t count; /* of one device's queue; power of two */
    uint32_t devices;
    bool open; /* pktq_get() handed one out that is neither committed nor dropped */
    struct pktq_dev dev[ENGINE_DEV_MAX];
};

#define PKTQ_STALL_US UINT64_C(100000)

/* No device: the way to ourselves. */
#define PKTQ_NO_DEV   255u

size_t pktq_bytes(uint32_t count, uint32_t devices);
void pktq_init(struct pktq *q, void *mem, uint32_t count, uint32_t devices);
/**
 * A fresh frame: data points PKT_HEADROOM into its memory, len 0. NULL when all are used. Exactly one may be
 * open at a time; end it with pktq_commit() or pktq_drop().
 */
static inline struct pktbuf *pktq_get(struct pktq *q)
{
    struct pktbuf *p;
    uint32_t i;

    ENG_ASSERT(!q->open);
    if (!q->idle)
        return NULL;
    i = q->free[q->idle - 1]; /* The one used last: where the cache is warm. */
    p = &q->pkts[i];
    q->open = true;
    *p = (struct pktbuf){.data = q->mem + (size_t)i * PKT_LINEAR_MAX + PKT_HEADROOM};
    return p;
}

/** Queue the open frame for a device; false: its queue is full, and the frame is dropped. */
static inline bool pktq_commit(struct pktq *q, uint8_t dev)
{
    struct pktq_dev *d = &q->dev[dev];

    ENG_ASSERT(q->open && dev < q->devices);
    q->open = false;
    if (d->tail - d->head == q->count)
        return false;
    d->ring[d->tail++ & (q->count - 1)] = q->free[--q->idle];
    return true;
}

/** pktq_get() and pktq_commit() in one, for a queue that is known to have room. The caller fills all in;
 * `data` is what pktq_get() would have written there. */
static inline struct pktbuf *pktq_push(struct pktq *q, uint8_t dev, uint8_t **data)
{
    struct pktq_dev *d = &q->dev[dev];
    uint32_t i = q->free[q->idle - 1];

    ENG_ASSERT(!q->open && q->idle);
    q->idle--;
    d->ring[d->tail++ & (q->count - 1)] = i;
    *data = q->mem + (size_t)i * PKT_LINEAR_MAX + PKT_HEADROOM;
    return &q->pkts[i];
}

static inline void pktq_drop(struct pktq *q)
{
    ENG_ASSERT(q->open);
    q->open = false;
}

/** The first frames that wait for a device, at most `max`, and their end: the first `n` of them are gone. */
unsigned pktq_peek(struct pktq *q, uint8_t dev, struct pktbuf *out[], unsigned max);
void pktq_consume(struct pktq *q, uint8_t dev, unsigned n);
/** Drop all that waits for a device. */
void pktq_flush(struct pktq *q, uint8_t dev);
/** Frames wait for some device. */
bool pktq_pending(const struct pktq *q);
/** The device has taken nothing for so long that what waits for it should not hold up anything else. */
static inline bool pktq_stalled(const struct pktq *q, uint8_t dev, uint64_t now_us)
{
    return dev != PKTQ_NO_DEV && q->dev[dev].since_us && now_us - q->dev[dev].since_us > PKTQ_STALL_US;
}
/** Memory [start, start + bytes) goes away: frames that point into it are not sent. */
void pktq_forget(struct pktq *q, const uint8_t *start, uint64_t bytes);
/** Frames that may still be queued for a device. */
static inline uint32_t pktq_room(const struct pktq *q, uint8_t dev)
{
    return dev == PKTQ_NO_DEV ? q->idle : q->count - (q->dev[dev].tail - q->dev[dev].head);
}

/* ---- IP (net.c, neigh.c, frag.c, icmp.c) ------------------------------------------------------------ */

/** A transport packet that arrived, checked as far as IP goes. */
struct rx_pkt {
    const uint8_t *l4; /* transport header */
    uint32_t l4_len;   /* bytes of it and its payload */
    struct ip_addr src, dst;
    uint8_t proto, tos, ttl;
    bool csum_ok;      /* the transport checksum need not be verified */
    bool broadcast;    /* link or IP broadcast or multicast: never answer with an error or RST */
    bool router_alert; /* IPv6: with that option and the value of MLD (RFC 2711) */
    uint8_t ifindex;   /* interface that it came in on */
    uint16_t gso_size; /* payload bytes of each segment that was joined, 0: not joined */
    uint16_t next_off; /* IPv6: offset of the byte that named `proto` */
    const uint8_t *l3; /* IP header, for ICMP quotes; extension headers count to it */
    uint32_t l3_hdr_len;
    const uint8_t *src_mac; /* IPv6: station that sent the frame, NULL: ourselves, or fragments */
};

/** Ethernet frame in: ARP, IPv4 and IPv6, down to tcp_input(), udp_input() and ICMP. */
void net_input(struct engine *e, const struct pktbuf *p, uint64_t now_us);

/**
 * Send a transport packet: p->data is the transport header in a frame from pktq_get(). The family of `dst`,
 * which is that of `src`, says which IP; `tos` and `ttl` are IPv6's traffic class and hop limit too. Chooses
 * the route, adds IP and Ethernet headers, fragments when it is larger than the MTU (and not gso), and ends
 * the frame (commit, drop, or a copy kept until the neighbour is resolved). The transport checksum must be
 * done.
 * @return 0 (sent, or kept for the neighbour), -ENETUNREACH (no route), -EHOSTUNREACH (neighbour failed),
 *         -EMSGSIZE (does not fit and is not to be cut), -ENOBUFS
 */
int net_output(struct engine *e, struct pktbuf *p, const struct ip_addr *src, const struct ip_addr *dst,
               uint8_t proto, uint8_t tos, uint8_t ttl, uint8_t cut, uint64_t now_us);

/* What net_output() may do with a packet that is too long, 0: cut it at the path's MTU. */
#define NET_DF       (1u << 0) /* nothing, nor may a router: the DF bit is set */
#define NET_WHOLE    (1u << 1) /* nothing, but routers may cut it */
#define NET_LINK_MTU (1u << 2) /* cut it at the link's MTU, whatever is known of the path */

/**
 * Fill in the transport checksum of p (data = transport header, field at csum_offset zeroed or not): left
 * to the device when it offers DEV_TX_CSUM and the packet will not be fragmented, else summed here.
 */
void net_checksum(struct engine *e, struct pktbuf *p, const struct ip_addr *src, const struct ip_addr *dst,
                  uint8_t proto, uint16_t csum_offset, bool will_fragment);
/**
 * The same for TCP, where the bytes from `from` on, an even offset, are known to add up to `sum`: they were
 * summed while they were copied, as net_state.csum_by_hand says that it may be of use.
 */
void net_checksum_known(struct engine *e, struct pktbuf *p, const struct ip_addr *src,
                        const struct ip_addr *dst, uint8_t proto, uint16_t csum_offset, uint32_t from,
                        uint32_t sum);

/** The own address to use towards dst; false: no route. */
bool net_source(const struct engine *e, const struct ip_addr *dst, struct ip_addr *src);
/** True when `a` is one of our own unicast addresses. */
bool net_is_own(const struct engine *e, const struct ip_addr *a);
/** True for an address that a unicast packet may come from or go to (not 0/8, multicast, broadcast...). */
bool net_is_unicast(const struct engine *e, const struct ip_addr *a);
/** Largest IP packet towards dst. */
uint16_t net_mtu(const struct engine *e, const struct ip_addr *dst);
/** The device whose queue packets to dst wait in; PKTQ_NO_DEV: none, they come back in. */
uint8_t net_dev_of(const struct engine *e, const struct ip_addr *dst);
/** Bytes of the largest frame towards dst that the device cuts into segments; 0: it does not. */
uint32_t net_gso_frame_max(const struct engine *e, const struct ip_addr *dst);
/** Partial sum of the pseudo-header of a packet that arrived. */
uint32_t net_pseudo_sum(const struct rx_pkt *rp, uint32_t l4_bytes);
/** Bytes of the IP header of a family, without options or extension headers. */
static inline uint32_t net_hdr_bytes(uint16_t family)
{
    return family == SG_AF_INET6 ? 40 : 20;
}
/** How the API writes an address of a socket of `family`: IPv4 in an IPv6 socket is mapped (RFC 3493 3.7). */
struct ip_addr net_to_api(const struct ip_addr *a, uint16_t family);
/** The reverse; and a link-local address without scope gets that of the only interface there is. */
struct ip_addr net_from_api(const struct engine *e, const struct ip_addr *a);

/** The neighbour answered a packet of ours (TCP forward progress, RFC 4861 7.3.1 and RFC 1122 2.3.2.1). */
void neigh_confirm(struct engine *e, const struct ip_addr *dst, uint64_t now_us);

enum icmp_err { ICMP_ERR_PORT_UNREACH, ICMP_ERR_PROTO_UNREACH, ICMP_ERR_REASM_TIMEOUT, ICMP_ERR_PARAM };
/** Answer `rp` with an ICMP error, if RFC 1122 3.2.2 and the rate limit allow it. */
void icmp_send_error(struct engine *e, const struct rx_pkt *rp, enum icmp_err err, uint64_t now_us);

/** What an ICMP error about one of our packets says (RFC 1122 4.2.3.9, RFC 5927). */
struct icmp_report {
    struct ip_addr local, remote; /* of the packet that we sent */
    uint16_t lport, rport;
    uint32_t seq;    /* TCP: sequence number quoted */
    int error;       /* positive errno that a socket would see: ECONNREFUSED, EHOSTUNREACH, ... EMSGSIZE */
    bool hard;       /* protocol or port unreachable */
    uint16_t mtu;    /* next-hop MTU with EMSGSIZE, 0: not said */
    uint32_t quoted; /* bytes that the quoted packet had, 0: not known */
};
void tcp_icmp(struct engine *e, const struct icmp_report *r, uint64_t now_us);
void udp_icmp(struct engine *e, const struct icmp_report *r, uint64_t now_us);

#include "daemon/engine/mtu_disc.h"

/* net state: modules' own structs */
#include "daemon/engine/neigh.h"
#include "daemon/engine/frag.h"

/* ---- Sockets (sock.c) --------------------------------------------------------------------------------- */

/* A socket handle: kind and index of its record. 0 is no socket. */
typedef uint32_t sock_id;
enum sock_kind { SK_NONE = 0, SK_TCP = 1, SK_LISTEN = 2, SK_UDP = 3, SK_REQ = 4, SK_TW = 5 };
#define SOCK_ID(kind, index) (((uint32_t)(kind) << 28) | (uint32_t)(index))
#define SOCK_KIND(id)        ((enum sock_kind)((id) >> 28))
#define SOCK_INDEX(id)       ((id)&0x0fffffffu)

/** One direction of a socket's data: the engine's own, trusted copies of the slot's offsets. */
struct stream {
    uint64_t head;     /* receive: rx_head as last read; send: tx_head, the first byte still needed */
    uint64_t tail;     /* receive: rx_tail as published next; send: tx_tail as last read */
    uint64_t base;     /* stream offset at the start of the region */
    uint32_t region;   /* segment offset >> SG_REGION_SHIFT; 0: none */
    uint8_t log2;      /* of the region's bytes, valid with region */
    uint8_t want_log2; /* TCP receive: class of the window; else class of the next region */
    uint8_t got;       /* when the region was given: low bits of seconds (2^20 us) */
    uint8_t flags;     /* RING_* */
};

/* stream.flags. With either of the first two a struct ring_next says more (ring.c). */
#define RING_NEXT  (1u << 0) /* bytes from ring_next.at on lie in the region that follows */
#define RING_OFFER (1u << 1) /* send: a region is on offer, the application has not taken it */
#define RING_COLD  (1u << 2) /* receive: the connection's tcp_buf is in use */
#define RING_IDLE  (1u << 3) /* was empty at the last sweep, and not used since */

/** The region that follows (proto/abi/slot.h). Cold: looked at during a switch only. */
struct ring_next {
    uint64_t at;     /* with RING_NEXT: stream offset of its first byte */
    uint32_t region; /* as stream.region */
    uint8_t log2;
    uint8_t count; /* switches so far, modulo 256; the low bit chooses the entry in the slot */
    uint8_t pad[2];
};

/* sock.opts */
#define SO_F_REUSEADDR (1u << 0)
#define SO_F_KEEPALIVE (1u << 1)
#define SO_F_NODELAY   (1u << 2)
#define SO_F_LINGER    (1u << 3)
#define SO_F_BROADCAST (1u << 4)
#define SO_F_CORK      (1u << 5)
#define SO_F_PINGPONG  (1u << 6) /* ACKs wait for the answer (tcp_delack.c); TCP_QUICKACK is its opposite */
#define SO_F_REUSEPORT (1u << 7)
#define SO_F_RCVBUF    (1u << 8)  /* SO_RCVBUF was set: no auto-tuning of the window */
#define SO_F_SNDBUF    (1u << 9)  /* SO_SNDBUF was set: no auto-tuning of the send ring */
#define SO_F_PKTINFO   (1u << 10) /* datagrams: IP_PKTINFO, IPV6_RECVPKTINFO */
#define SO_F_RECVTTL   (1u << 11) /* IP_RECVTTL, IPV6_RECVHOPLIMIT */
#define SO_F_RECVTOS   (1u << 12) /* IP_RECVTOS, IPV6_RECVTCLASS */
#define SO_F_NO_COOKIE (1u << 13) /* TCP_FASTOPEN_NO_COOKIE */
#define SO_F_FASTOPEN  (1u << 14) /* TCP_FASTOPEN_CONNECT */
#define SO_F_V6ONLY    (1u << 15)
/* In the upper half of the same word, so that accepted connections inherit them. */
#define SO_TOS_SHIFT   16u /* IP_TOS, IPV6_TCLASS; of TCP without the ECN bits */
#define SO_TOS_MASK    (UINT32_C(255) << SO_TOS_SHIFT)
#define SO_TTL_SHIFT   24u /* IP_TTL, IPV6_UNICAST_HOPS; 0: the engine's default */
#define SO_TTL_MASK    (UINT32_C(255) << SO_TTL_SHIFT)

/** What every socket with a slot has; first member of tcp_conn, tcp_listener and udp_sock. Arena. */
struct sock {
    uint32_t slot; /* 0: none (not accepted yet, or closed) */
    int16_t sid;   /* owner; -1: none. Regions belong to `heap_sid` */
    int16_t heap_sid;
    uint8_t kind;          /* enum sock_kind; SK_NONE: record is free */
    uint8_t type : 4;      /* SG_SOCK_* */
    uint8_t mtu_disc : 4;  /* enum mtu_disc */
    uint16_t family;       /* SG_AF_* */
    uint8_t pub_state;     /* enum sg_state to publish */
    uint8_t dirty;         /* DIRTY_* */
    uint16_t lport, rport; /* host order; 0: none */
    uint16_t bind_flags;   /* BIND_* */
    uint32_t pub_flags;    /* SG_F_* to publish */
    uint32_t error;        /* errno to publish */
    uint32_t ev_posted;    /* own copies of the slot's counters */
    uint32_t kick_seen;
    uint32_t opts; /* SO_F_* */
    uint32_t dirty_next;
    uint32_t sess_next, sess_prev; /* sock_ids: all sockets of the session that owns the heap */
    uint32_t bind_next;            /* sock_id: next on the port's list, with BIND_PORT */
    struct ip_addr local, remote;
    struct stream rx, tx;
};

#define BIND_PORT   (1u << 0) /* is on its port's list */
#define BIND_COUNT  (1u << 1) /* is counted on its port (came through a listener, or chose it at connect) */
#define BIND_USER   (1u << 2) /* address or port chosen by an explicit bind() */
#define BIND_PINNED (1u << 3) /* other workers hand on what comes in for it (peers.h) */

/* sock.dirty */
#define DIRTY_LINE  (1u << 0) /* the slot's line must be written */
#define DIRTY_EVENT (1u << 1) /* and the application told */
#define DIRTY_TX    (1u << 2) /* and told if it waits for send space */
#define DIRTY_NAME  (1u << 3) /* the name line too */
#define DIRTY_LIST  (1u << 7) /* is on the list */

/** The engine's view of a session. Scratch: rebuilt when sessions re-attach. */
struct session {
    struct engine_session v;
    bool used;
    bool ended;            /* the application is gone */
    uint32_t closing_slot; /* then: slots below are closed already; slot_count: all */
    bool fault_reported;
    const char *fault;    /* contract broken; constant string */
    uint32_t *queued;     /* bit a slot: its event is in the queue or put aside */
    uint32_t deferred;    /* events put aside */
    bool pressed;         /* take back regions that are empty, socket after socket */
    bool sweeping;        /* and only those that were so at the last sweep already */
    sock_id reclaim_next; /* where that goes on */
    uint32_t retry_word;  /* where engine_event_retry() goes on */
    uint32_t info_slot;   /* whose picture `info` is */
    struct sg_tcp_info info;
    uint32_t sock_count;   /* sockets that the application holds */
    uint32_t orphan_count; /* sockets without slot whose regions lie here (unaccepted ones too) */
    uint64_t buffer_bytes; /* regions in use */
    sock_id socks;         /* list through sess_next */
};

/** Start of a region in mapped memory. Only valid for `region` values that segheap gave out. */
static inline uint8_t *session_region(const struct session *s, uint32_t region)
{
    return s->v.base + ((uint64_t)region << SG_REGION_SHIFT);
}

/* segheap.c: buddy allocator over a session's heap, metadata private. */
void segheap_init(void *meta, uint64_t heap_bytes);
/** Offset from the heap's start, or UINT64_MAX when no block of 2^log2 bytes is free. */
uint64_t segheap_alloc(void *meta, uint64_t heap_bytes, unsigned log2);
void segheap_free(void *meta, uint64_t heap_bytes, uint64_t off, unsigned log2);

/** Begin a sweep for idle regions when one is due (ring.c); when that is: UINT64_MAX, never. */
void session_sweep(struct engine *e);
uint64_t session_sweep_deadline(const struct engine *e);
/** Go on taking empty regions back from sessions that are swept or ran out (ring.c). */
void session_reclaim_run(struct engine *e);
/** Less than half the quota is used: regions are given ahead, not only when they are asked for. */
bool session_ample(struct engine *e, const struct sock *s);
/** Go on closing what ended sessions held (session.c). */
void session_close_run(struct engine *e);

/* ring.c */
/** The smallest class of region that holds `bytes` bytes, at least `low` and at most `high`. */
uint8_t ring_class(uint64_t bytes, uint8_t low, uint8_t high);
/** Give stream `st` of `s` a region of class `log2`. False: quota or heap used up (counted). */
bool ring_get(struct engine *e, struct sock *s, struct stream *st, uint8_t log2);
/** The same with the class that the stream wants. */
bool sock_region_get(struct engine *e, struct sock *s, struct stream *st);
/** All of its regions go back. */
void sock_region_put(struct engine *e, struct sock *s, struct stream *st);
/** TCP: where the next region of a stream is described. */
struct ring_next *ring_next_of(struct engine *e, struct sock *s, const struct stream *st);
/** TCP: from stream offset `at` on bytes go to a new region of class `log2`. False: no memory. */
bool ring_switch(struct engine *e, struct sock *s, struct stream *st, uint64_t at, uint8_t log2);
/** TCP: offer the application a send region of class `log2`, unless a switch is under way. */
void ring_offer(struct engine *e, struct sock *s, uint8_t log2);
/** TCP send: what the slot says about the last offer; `tail` as just read from it. False: it lied. */
bool ring_offer_check(struct engine *e, struct sock *s, uint64_t tail);
/** The head of a stream moved: give the old region back if it was passed. */
void ring_passed(struct engine *e, struct sock *s, struct stream *st);
/** Stream offset that the ring has no room for, as long as its head stays. Needs a region. */
uint64_t ring_end_next(struct engine *e, struct sock *s, const struct stream *st);
static inline uint64_t ring_end(struct engine *e, struct sock *s, const struct stream *st)
{
    return st->flags & RING_NEXT ? ring_end_next(e, s, st) : st->head + (UINT64_C(1) << st->log2);
}
/** A stretch of a ring's memory: at most three of them make a run of bytes. */
struct ring_piece {
    uint8_t *ptr;
    uint32_t len;
};
#define RING_PIECES_MAX 3u
/** Where [off, off + len) lies, which must be within the ring. Returns the number of pieces. */
unsigned ring_pieces(struct engine *e, struct sock *s, const struct stream *st, uint64_t off, uint32_t len,
                     struct ring_piece ret[RING_PIECES_MAX]);

/** Have the slot of `s` written at engine_publish() and its application told. */
void sock_dirty(struct engine *e, struct sock *s);
/** The session of `s` lied in shared memory; it ends after this turn. */
void sock_fault(struct engine *e, struct sock *s, const char *reason);
void sock_session_fault(struct engine *e, int sid, const char *reason);
/** No event of this slot may follow the end of its socket: one that was put aside is dropped. */
void sock_event_cancel(struct engine *e, struct sock *s);
/** Ask the application of a slot for its send region (SG_EV_RELEASE), if the queue has room. */
void sock_event_release(struct engine *e, int sid, uint32_t slot);
/** Take `s` off the list of slots to write, before its record or its slot goes away. */
void sock_undirty(struct engine *e, struct sock *s);
/** Put into, or take off, the list of sockets whose regions lie in session `heap_sid`. */
void sock_link(struct engine *e, struct sock *s, int heap_sid);
void sock_unlink(struct engine *e, struct sock *s);

/**
 * Copy and check the application's line of `s`: fills the new tx tail and base and rx head into s->tx and
 * s->rx. False: it lied (fault raised). Needs a slot.
 */
bool sock_pull(struct engine *e, struct sock *s);
/** The receive side of sock_pull() alone, which every segment may ask for. Does nothing without a slot. */
void sock_pull_rx(struct engine *e, struct sock *s);

/** Bind checks and the port table; `port` 0 chooses. Returns 0, -EADDRINUSE, -EADDRNOTAVAIL, -EINVAL. */
int sock_port_claim(struct engine *e, struct sock *s, const struct ip_ep *local);
void sock_port_release(struct engine *e, struct sock *s);

/* UDP (udp.c). */
struct udp_sock {
    struct sock s;
    uint32_t hash_next; /* chain of the port's bucket */
    uint32_t tx_next;   /* list of sockets with datagrams to send */
    uint8_t tx_queued;
    uint8_t mc_ttl;    /* of multicasts; 0: they stay in the host */
    uint8_t mc_loop;   /* multicasts come back to members here */
    uint8_t proto;     /* IP protocol */
    uint16_t gso_size; /* UDP_SEGMENT: payload bytes of each datagram that a large one becomes; 0: off */
    uint32_t groups;   /* memberships, through mcast_member.next */
    uint32_t mc_if;    /* IP_MULTICAST_IF: own address that multicasts leave from; 0: chosen by the route */
    uint32_t mc_scope; /* interface + 1 that multicasts leave on; 0: chosen by the route */
    uint32_t rcvbuf;   /* bytes of the receive ring that may be in use */
    uint64_t rx_drops;
    bool hdrincl;       /* raw: IP_HDRINCL */
    int16_t csum_off;   /* raw IPv6: where the checksum that the engine makes stands; -1: none */
    uint32_t filter[8]; /* raw: ICMP_FILTER, ICMP6_FILTER: a bit for each type that isn't heard */
};
int udp_open(struct engine *e, int sid, uint32_t slot, sock_id *ret);
/** The same of a raw socket (raw.c): -EPERM unless the session may. */
int raw_open(struct engine *e, int sid, uint32_t slot, uint32_t proto, uint16_t family, sock_id *ret);
int udp_bind(struct engine *e, struct udp_sock *u, const struct ip_ep *local);
int udp_connect(struct engine *e, struct udp_sock *u, const struct ip_ep *remote);
void udp_shutdown(struct engine *e, struct udp_sock *u, uint32_t how);
void udp_close(struct engine *e, struct udp_sock *u);
void udp_kick(struct engine *e, struct udp_sock *u, uint64_t now_us); /* after sock_pull() */
void udp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);
/** Send waiting datagrams while there is room in the frame queue. */
void udp_output(struct engine *e, uint64_t now_us);
bool udp_output_pending(const struct engine *e);

/* Other workers' engines (peers.c). What begins with a test of cfg.peers costs nothing more without them. */

/** Where the packet comes from that is being looked at. */
enum packet_from {
    ARRIVED_SORTED,   /* a frame: it is known to be for this engine */
    ARRIVED_COPY,     /* the same, for raw sockets only */
    ARRIVED_LOOPED,   /* from ourselves */
    ARRIVED_REJOINED, /* put together from fragments */
};
struct flow_key;
struct tcp_listener;
int peers_bind(struct engine *e, const struct sock *s);
void peers_unbind(struct engine *e, const struct sock *s);
/** 0 or more: the group of listeners; else why not. */
int peers_change(struct engine *e, sock_id old, const struct sock *s);
/** `s` is about to listen. */
int peers_listen(struct engine *e, const struct sock *s);
void peers_port_state(struct engine *e, uint8_t kind, uint16_t port, unsigned state);
bool peers_may_connect(struct engine *e, const struct flow_key *k);
bool peers_pin(struct engine *e, struct sock *s, const struct flow_key *k);
void peers_unpin(struct engine *e, struct sock *s);
bool peers_accept_full(const struct engine *e, const struct tcp_listener *l);
void peers_accept_count(struct engine *e, const struct tcp_listener *l, int change);
void peers_raw(struct engine *e, const struct udp_sock *u, int change);
bool peers_take(struct engine *e, const struct rx_pkt *rp);

/* TCP: see conn.h and tcp.h. */
void tcp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);

#include "daemon/engine/core.h"

#endif

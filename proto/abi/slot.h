/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket slot: the shared state of one socket, cache lines sorted by who writes them and how often.
 *
 * All facts about a socket's data live here as 64-bit stream offsets; the rings of a channel only carry
 * hints that a slot has changed. A hint may be lost, repeated or late without harm as long as someone looks
 * at the slot again, which is what makes recovery after a daemon restart a scan of the slots.
 *
 * Streams. Byte `o` of the receive stream lies at region + ((o - rx_base) & (2^rx_log2 - 1)); the readable
 * bytes are [rx_head, rx_tail). Byte `o` of the send stream lies at region + ((o - tx_base) & mask); the
 * bytes not yet acknowledged are [tx_head, tx_tail). A producer whose ring is empty may set the base to the
 * current offset before it writes, so that ping-pong traffic stays on the first lines of a region.
 *
 * Rings that grow. A ring has at most two regions. Bit SG_LOG2_NEXT of rx_log2 or tx_log2 says that another
 * region follows, described by entry (log2 & SG_LOG2_ENTRY ? 1 : 0) of the slot's fourth line; without the
 * bit nobody looks at that line. A region that follows starts at its first byte with the offset of the
 * switch.
 *   Receive: bytes from sg_slot_next.rx[].at on lie in the region that follows, those before it in rx_region.
 *   When rx_head has passed that offset the daemon makes it rx_region and takes the old one back.
 *   Send: the daemon offers. Before it next writes, the application takes the offer: it states its tx_tail in
 *   tx_next_at, counts tx_next up, and writes from there on into the region that follows. When tx_head has
 *   passed that offset the daemon makes it tx_region. An offer stands until it is taken or the send region
 *   is given back with SG_CMD_RELEASE; the number of those taken says whether it has been, and offer n (the
 *   first is 1) lies in entry n & 1.
 * The entries are used in turn. An application between two reads of the line holds its rx_head or tx_next
 * still, so at most one switch can begin meanwhile, and that one writes the other entry.
 *
 * Datagrams travel in the same rings as records, each a struct sg_dgram_hdr, with SG_DGRAM_INFO a struct
 * sg_dgram_info, and its payload, padded to SG_DGRAM_ALIGN, so that neither header ever wraps.
 *
 * Ordering, in pairs:
 *   [S1] daemon: bytes, rx_base, region, then store-release rx_tail, then error, then store-release flags and
 *        state <-> app: load-acquire state and flags, then load-acquire rx_tail, then the bytes. So an end of
 *        file or an error never overtakes the bytes before it.
 *   [S2] app: bytes, tx_base, then store-release tx_tail <-> daemon: load-acquire tx_tail first.
 *   [S3] app: reads of bytes, then store-release rx_head <-> daemon: load-acquire rx_head.
 *   [S4] daemon: store-release tx_head (bytes no longer needed) <-> app: load-acquire tx_head.
 *   [S5] event pending: daemon writes its line, full fence, reads ev_seen; if ev_seen == ev_posted it
 *        increments ev_posted and posts one event. App, on an event: ev_seen = ev_posted, full fence, reads
 *        the daemon's line. So at most one event per slot is in the event ring.
 *   [S6] kick pending: app writes its line, full fence, reads kick_seen; if kick_seen == kick_posted it
 *        increments kick_posted and pushes one kick. Daemon, on a kick: kick_seen = kick_posted, full
 *        fence, reads the app's line. So at most one kick per slot is in the kick ring.
 *   [S7] wanting: app writes `want`, full fence, reads the daemon's line before it sleeps; the daemon
 *        writes its line, full fence, reads `want`.
 *   [S8] window: daemon writes rx_notify, full fence, reads rx_head again <-> app: rx_head, full fence,
 *        reads rx_notify and kicks when it has got there. So a reader that overtakes the daemon's look at
 *        rx_head is noticed by one of the two.
 *   [S9] daemon: sg_slot_next, base and region, then store-release rx_log2, then [S1] <-> app: [S1], then
 *        load-acquire rx_log2, then the others. The same for tx_log2.
 *   [S10] app: tx_next_at, then store-release tx_next, then bytes, then [S2] <-> daemon: [S2], then
 *        load-acquire tx_next, then tx_next_at. An offset beyond the tx_tail that the daemon has read is of
 *        a later write: the daemon comes to it with that.
 */
#ifndef SG_ABI_SLOT_H
#define SG_ABI_SLOT_H

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "proto/abi/abi.h"
#include "proto/abi/ring.h"

/* slot.d.state: where the socket is in its life, as the application may see it. */
enum sg_state {
    SG_ST_FREE = 0,   /* no socket here */
    SG_ST_OPEN,       /* created; not bound, connected or listening */
    SG_ST_CONNECTING, /* TCP: handshake under way */
    SG_ST_CONNECTED,  /* TCP: established or later; UDP: has a default destination */
    SG_ST_LISTENING,  /* TCP: accept_count tells how many wait */
    SG_ST_CLOSED,     /* TCP: over (error, reset or both sides closed) */
};

/* slot.d.flags */
#define SG_F_RX_FIN   (1u << 0) /* the peer closed its half: end of file at rx_tail, which is final */
#define SG_F_ERROR    (1u << 1) /* slot.d.error is set; the socket is dead */
#define SG_F_TX_SHUT  (1u << 2) /* nothing more will be sent (shutdown, reset or close) */
#define SG_F_BOUND    (1u << 3) /* has a local address */
#define SG_F_RX_RESET (1u << 4) /* the peer reset the connection */
#define SG_F_SOFT_ERR                                                                                        \
    (1u << 5) /* slot.d.error is a datagram error (ICMP); cleared by SO_ERROR, socket lives */

/* slot.a.want: what the application waits for; without the bit no event is posted for it. */
#define SG_WANT_TX    (1u << 0) /* an event when send space comes free */
/* And what it says of what it wrote last, before tx_tail [S2]. */
#define SG_WANT_MORE  (1u << 1) /* TCP: more will follow (MSG_MORE): a partial segment may wait for it */

/* slot.d.rx_log2, tx_log2: beside the size class. */
#define SG_LOG2_MASK  0x1fu
#define SG_LOG2_ENTRY 0x40u /* with SG_LOG2_NEXT: entry 1 of slot.x, else entry 0 */
#define SG_LOG2_NEXT  0x80u /* a region follows: receive, from its `at` on; send, on offer or taken */

/** Written by the daemon, read by the application. */
struct sg_slot_daemon {
    uint64_t rx_tail;      /* stream offset one past the last readable byte [S1] */
    uint64_t rx_base;      /* stream offset that lies at the first byte of the receive region */
    uint64_t tx_head;      /* stream offset of the first byte that the application may not overwrite [S4] */
    uint64_t rx_notify;    /* kick when rx_head reaches this offset: the window wants an update */
    uint32_t rx_region;    /* segment offset of the receive region >> SG_REGION_SHIFT; 0: none */
    uint32_t tx_region;    /* same for the send region; 0: ask with SG_CMD_GRANT */
    uint8_t rx_log2;       /* log2 of the receive region's bytes; SG_LOG2_* [S9] */
    uint8_t tx_log2;       /* log2 of the send region's bytes; SG_LOG2_* [S9] */
    uint8_t state;         /* enum sg_state */
    uint8_t type;          /* SG_SOCK_* of cmd.h */
    uint32_t flags;        /* SG_F_* */
    uint32_t error;        /* Linux errno, valid with SG_F_ERROR or SG_F_SOFT_ERR */
    uint32_t accept_count; /* listener: connections that wait for SG_CMD_ACCEPT */
    uint32_t ev_posted;    /* events posted for this slot [S5] */
    uint32_t kick_seen;    /* copy of kick_posted when a kick was last taken [S6] */
};

/** Written by the application, read by the daemon. */
struct sg_slot_app {
    uint64_t tx_tail;     /* stream offset one past the last byte written to the send region [S2] */
    uint64_t tx_base;     /* stream offset that lies at the first byte of the send region */
    uint64_t rx_head;     /* stream offset of the first byte not yet read [S3] */
    uint32_t ev_seen;     /* copy of ev_posted when an event was last taken [S5] */
    uint32_t kick_posted; /* kicks pushed for this slot [S6] */
    uint32_t want;        /* SG_WANT_* [S7] */
    uint32_t tx_next;     /* offers of a send region taken [S10] */
    uint64_t tx_next_at;  /* stream offset at which the last of them took over */
    uint32_t pad[4];      /* zero */
};

/** Written by the daemon before the reply or event that makes it true. Ports are in host order. */
struct sg_slot_name {
    uint16_t family;      /* SG_AF_* */
    uint16_t local_port;  /* 0: not bound */
    uint16_t remote_port; /* 0: not connected */
    uint16_t mss;         /* TCP: bytes a segment may carry now */
    uint8_t local[16];    /* IPv4 in the first four bytes, network order */
    uint8_t remote[16];
    uint32_t local_scope;
    uint32_t remote_scope;
    uint32_t pad[4]; /* zero */
};

/** A region that follows. */
struct sg_next {
    uint64_t at;     /* receive: stream offset of its first byte; send: zero, the application chooses */
    uint32_t region; /* segment offset >> SG_REGION_SHIFT */
    uint8_t log2;    /* log2 of its bytes */
    uint8_t pad[3];  /* zero */
};

/** Written by the daemon, read by the application while SG_LOG2_NEXT is set. */
struct sg_slot_next {
    struct sg_next rx[2];
    struct sg_next tx[2];
};

struct sg_slot {
    struct sg_slot_daemon d;
    struct sg_slot_app a;
    struct sg_slot_name n;
    struct sg_slot_next x;
};

static_assert(sizeof(struct sg_slot_daemon) == 64, "one cache line");
static_assert(offsetof(struct sg_slot_daemon, rx_region) == 32, "layout");
static_assert(offsetof(struct sg_slot_daemon, flags) == 44, "layout");
static_assert(offsetof(struct sg_slot_daemon, kick_seen) == 60, "layout");
static_assert(sizeof(struct sg_slot_app) == 64, "one cache line");
static_assert(offsetof(struct sg_slot_app, ev_seen) == 24, "layout");
static_assert(offsetof(struct sg_slot_app, tx_next_at) == 40, "layout");
static_assert(sizeof(struct sg_slot_name) == 64, "one cache line");
static_assert(offsetof(struct sg_slot_name, local_scope) == 40, "layout");
static_assert(sizeof(struct sg_next) == 16, "layout");
static_assert(sizeof(struct sg_slot_next) == 64, "one cache line");
static_assert(sizeof(struct sg_slot) == 256, "four cache lines");

/** Header of one datagram in a byte ring. */
struct sg_dgram_hdr {
    uint32_t len;    /* payload bytes, 0..SG_DGRAM_BYTES_MAX */
    uint16_t family; /* SG_AF_*; in a send ring 0 means "the connected peer" */
    uint16_t port;   /* host order: destination (send) or source (receive) */
    uint8_t addr[16];
    uint32_t scope;
    uint16_t gso_size; /* send: cut the payload into datagrams of so many bytes; 0: as UDP_SEGMENT says */
    uint16_t flags;    /* SG_DGRAM_* */
};

/* sg_dgram_hdr.flags. Received records have it while IP_PKTINFO or an option like it is set. */
#define SG_DGRAM_INFO (1u << 0) /* a struct sg_dgram_info stands between the header and the payload */

/** What else there is to know about a datagram, or to say about one to send. */
struct sg_dgram_info {
    uint8_t addr[16]; /* receive: where it was sent to; send: own address to send from, all zero: chosen.
                       * Written as the header's; without a family there, of the socket's */
    uint32_t
        ifnum;    /* interface, from 1 on; send: of a destination that is a group or link-local; 0: chosen */
    int16_t ttl;  /* send: -1: as the options say */
    int16_t tos;  /* same */
    uint64_t pad; /* zero */
};

#define SG_DGRAM_ALIGN     32u
#define SG_DGRAM_BYTES_MAX 65507u /* 65,535 - 20 (IPv4 header) - 8 (UDP header) */
static_assert(sizeof(struct sg_dgram_hdr) == SG_DGRAM_ALIGN, "a header never wraps");

static_assert(sizeof(struct sg_dgram_info) == SG_DGRAM_ALIGN, "it never wraps either");

/** Ring bytes that a datagram of `len` payload bytes takes, without SG_DGRAM_INFO. */
static inline uint64_t sg_dgram_ring_bytes(uint32_t len)
{
    return SG_DGRAM_ALIGN + (((uint64_t)len + SG_DGRAM_ALIGN - 1) & ~(uint64_t)(SG_DGRAM_ALIGN - 1));
}

static inline uint64_t sg_dgram_record_bytes(const struct sg_dgram_hdr *h)
{
    return sg_dgram_ring_bytes(h->len) + (h->flags & SG_DGRAM_INFO ? sizeof(struct sg_dgram_info) : 0);
}

/** Copy `len` bytes into a ring of 2^log2 bytes at stream position `pos` (offset minus base). */
static inline void sg_bytes_put(uint8_t *region, unsigned log2, uint64_t pos, const void *src, size_t len)
{
    size_t size = (size_t)1 << log2;
    size_t at = (size_t)pos & (size - 1);
    size_t first = size - at;

    if (len <= first) { /* of a constant length: no call */
        memcpy(region + at, src, len);
        return;
    }
    memcpy(region + at, src, first);
    memcpy(region, (const uint8_t *)src + first, len - first);
}

/** Copy `len` bytes out of a ring of 2^log2 bytes at stream position `pos` (offset minus base). */
static inline void sg_bytes_get(const uint8_t *region, unsigned log2, uint64_t pos, void *dst, size_t len)
{
    size_t size = (size_t)1 << log2;
    size_t at = (size_t)pos & (size - 1);
    size_t first = size - at;

    if (len <= first) {
        memcpy(dst, region + at, len);
        return;
    }
    memcpy(dst, region + at, first);
    memcpy((uint8_t *)dst + first, region, len - first);
}

#endif

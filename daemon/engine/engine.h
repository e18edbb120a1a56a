/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP/IP engine: the whole interface that the daemon, the simulator, the tests and the fuzzers use.
 *
 * Pure: no system call, clock, allocation, log or global in this folder. Memory is handed in at
 * engine_init(), time is an argument (CLOCK_MONOTONIC microseconds in the daemon), randomness comes from the
 * secret in the configuration. One instance per worker; no function is thread-safe, none blocks.
 *
 * One turn of a worker:
 *     engine_rx()       frames that arrived
 *     engine_kick(), engine_open() ... engine_close()    what applications asked for
 *     engine_timers()   what is due
 *     engine_tx_peek() / engine_tx_consume()   frames to send, of each device in turn, until none is left
 *                       or the device is full
 *     engine_publish()  makes the new state of changed sockets visible in their slots
 *     engine_event_next()  says whose applications to tell
 *     engine_deadline() when to call again at the latest
 *
 * Memory. `arena` holds everything that must outlive the process: connection records and secrets, addressed
 * by index, without pointers, fds or libc objects (docs/connection-state.md). `scratch` holds what a scan of
 * the arena can rebuild: hash tables, timer wheel, free lists, packet buffers, counters.
 *
 * Hostility. Frames come from anyone, slots may be scribbled over by their application at any time. Neither
 * makes the engine read or write outside the memory it was given, loop without bound or assert. A session
 * that lies in a slot is reported by engine_event_next() as ENGINE_EV_FAULT and must be removed.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hw/pktbuf.h"
#include "proto/abi/cmd.h"
#include "proto/abi/info.h"
#include "proto/abi/slot.h"

struct engine;
struct engine_peers;

/** An address: family 0 (none), SG_AF_INET (first four bytes of ip) or SG_AF_INET6. Network byte order. */
struct ip_addr {
    uint8_t ip[16];
    uint16_t family;
    uint16_t pad;
    uint32_t scope;
};

/** Address and port (host order). */
struct ip_ep {
    struct ip_addr addr;
    uint16_t port;
};

/* engine_config.offloads: the bits of hw/device.h that matter here (asserted equal in daemon/). */
#define ENGINE_TX_CSUM   (1u << 0)
#define ENGINE_TX_TSO4   (1u << 1)
#define ENGINE_TX_TSO6   (1u << 2)

#define ENGINE_DEV_MAX   8u    /* devices */
#define ENGINE_IF_MAX    8u    /* interfaces: devices and VLANs of devices */
#define ENGINE_ADDR_MAX  24u   /* configured addresses, all interfaces together */
#define ENGINE_ROUTE_MAX 64u   /* configured routes */
#define ENGINE_MTU_MIN   576u  /* a narrower link is taken for none (RFC 1122 3.3.2) */
#define ENGINE_MTU6_MIN  1280u /* a narrower link carries no IPv6 (RFC 8200 5) */
#define ENGINE_IF_ANY    255u  /* engine_route.ifindex: the link that the gateway is on */

/** An interface. */
struct engine_if {
    uint8_t mac[6];
    uint16_t mtu;
    uint32_t offloads;     /* DEV_* bits of hw/device.h that the engine may use */
    uint32_t tx_frame_max; /* bytes of the largest frame, headers included */
    uint16_t vlan;         /* 802.1Q id of its frames, 0: untagged */
    uint8_t dev;           /* pktbuf.dev of its frames */
    bool ip6;              /* IPv6 is spoken: it gets a link-local address */
    bool accept_ra;        /* routers on its link may set addresses and routes */
};

/** An address of ours. */
struct engine_addr {
    struct ip_addr addr;
    uint8_t prefix;
    uint8_t ifindex;
};

/** A route; the networks of our addresses need none. */
struct engine_route {
    struct ip_addr dst;
    struct ip_addr gateway; /* family 0: on the link */
    uint8_t prefix;
    uint8_t ifindex; /* ENGINE_IF_ANY with a gateway that is not link-local */
};

/** When something that has a price is done. */
enum engine_when { ENGINE_AUTO, ENGINE_ALWAYS, ENGINE_NEVER };

/** Explicit congestion notification (RFC 3168), with the numbers of Linux's tcp_ecn. */
enum engine_ecn {
    ENGINE_ECN_OFF,
    ENGINE_ECN_ON,    /* asked for, and agreed to */
    ENGINE_ECN_ACCEPT /* agreed to when peers ask */
};

/** Keys of Fast Open cookies (RFC 7413 4.1.2): the one in use, and one that is good too. */
#define FASTOPEN_KEYS_MAX 2u
struct fastopen_keys {
    uint8_t key[FASTOPEN_KEYS_MAX][16];
    uint32_t count; /* 0: the engine's own */
};

/* Who does without cookies in Fast Open, bits; the setting knows them by these words, in this order. */
#define ENGINE_FO_NO_COOKIE_CLIENT 1u /* SYNs carry data, but no cookie */
#define ENGINE_FO_NO_COOKIE_SERVER 2u /* data on SYNs is taken without */
#define ENGINE_FO_NO_COOKIE_WORDS  "off client server both"

/* Algorithms of congestion control: the names that TCP_CONGESTION and the setting know, in the order of
 * enum cc_id. The value of the option is the name itself: its first byte lowest, zeros behind it. */
#define ENGINE_CONGESTION_WORDS "cubic reno bbr"

/** Everything the engine is told at start. engine_config_default() fills in sane values. */
struct engine_config {
    /* Limits: sizes of the pools; all memory is taken at start. */
    uint32_t conn_max;         /* TCP connections with full state */
    uint32_t listen_max;       /* TCP listeners */
    uint32_t udp_max;          /* UDP sockets */
    uint32_t req_max;          /* half-open connections (SYN_RCVD through a listener) */
    uint32_t orphan_max;       /* closed connections that still send or wait for the peer's FIN */
    uint32_t tw_max;           /* TIME_WAIT records; the oldest goes when they are all used */
    uint32_t session_max;      /* sessions at once */
    uint32_t neigh_max;        /* neighbours */
    uint32_t range_max;        /* out-of-order ranges, all connections together */
    uint32_t txseg_max;        /* segments in flight, all connections together */
    uint32_t flight_max;       /* connections with something in flight at once */
    uint32_t path_max;         /* connections that are paced (BBR, SO_MAX_PACING_RATE) at once */
    uint32_t reasm_max;        /* connections with out-of-order data at once */
    uint32_t frag_max;         /* datagrams under reassembly */
    uint32_t pkt_max;          /* frames queued to send over each device (power of two) */
    uint64_t orphan_bytes_max; /* bytes that closed connections may still have to send, all together */

    /* Interfaces, addresses, routes. */
    struct engine_if ifs[ENGINE_IF_MAX];
    struct engine_addr addrs[ENGINE_ADDR_MAX];
    struct engine_route routes[ENGINE_ROUTE_MAX];
    uint8_t if_count; /* 1 or more */
    uint8_t addr_count, route_count;
    bool dhcp; /* an interface gets its IPv4 address from a DHCP server: */
    uint8_t dhcp_if;
    uint8_t dad_transmits; /* 1: solicitations before an IPv6 address is used (RFC 4862 5.1), 0: none */

    /* TCP. Times in microseconds. */
    uint32_t rto_min_us;         /* 200,000: Linux's floor (RFC 6298 says 1 s) */
    uint32_t rto_max_us;         /* 120,000,000 */
    uint32_t rto_initial_us;     /* 1,000,000 (RFC 6298 2.1) */
    uint32_t delack_us;          /* 40,000 */
    uint32_t time_wait_us;       /* 60,000,000 */
    uint32_t fin_wait2_us;       /* 60,000,000: orphans in FIN_WAIT_2 */
    uint32_t orphan_us;          /* 60,000,000: longest life of a closed socket with unsent data */
    uint32_t keepalive_idle_s;   /* 7200 */
    uint32_t keepalive_intvl_s;  /* 75 */
    uint8_t keepalive_probes;    /* 9 */
    uint8_t syn_retries;         /* 7: more than three minutes (RFC 9293 3.8.3, MUST-23) */
    uint8_t synack_retries;      /* 5 */
    uint8_t data_retries;        /* 15 */
    uint8_t orphan_retries;      /* 8 */
    uint8_t rcvbuf_log2;         /* 16: receive window of a new connection */
    uint8_t rcvbuf_max_log2;     /* 24: largest window by auto-tuning; not above rcvbuf_log2: no tuning */
    uint8_t sndbuf_log2;         /* 16: send ring of a new connection */
    uint8_t sndbuf_max_log2;     /* 24: largest send ring by auto-tuning; not above sndbuf_log2: no tuning */
    uint8_t ttl;                 /* 64 */
    uint8_t timestamps;          /* 1: offered and agreed to (RFC 7323 3) */
    uint8_t congestion;          /* of a new socket: index of its name in ENGINE_CONGESTION_WORDS */
    uint8_t bbr_loss_percent;    /* 2: BBR.LossThresh */
    uint8_t ecn;                 /* enum engine_ecn; ENGINE_ECN_ACCEPT */
    uint8_t cut_through;         /* 1: data between two sockets here takes no segments */
    uint8_t idle_restart;        /* 1: cwnd is reduced after idle times (RFC 2861) */
    uint8_t fast_path;           /* 1; 0: every segment takes the long way, which tests compare with */
    uint16_t port_min, port_max; /* ephemeral ports: 32768..60999 */
    uint32_t icmp_rate;          /* ICMP errors a second: 1000 */
    uint8_t tw_reuse;            /* enum engine_when; ENGINE_AUTO: when no other port is free */
    uint32_t pmtu_expires_s;     /* 600: how long a smaller path MTU is believed (RFC 1191 6.3) */
    uint8_t mtu_probing;         /* enum engine_when; ENGINE_AUTO: when long packets vanish (RFC 4821) */
    uint16_t mss_clamp;          /* largest segment offered and sent; 0: what the interface takes */
    uint8_t syncookies; /* enum engine_when; ENGINE_AUTO: when no request can be kept (RFC 4987 3.6) */
    uint8_t fastopen_no_cookie; /* ENGINE_FO_NO_COOKIE_* of all sockets */
    struct fastopen_keys fastopen_keys; /* of listeners that have none of their own */
    uint32_t challenge_ack_rate; /* challenge ACKs a second: 1000 (RFC 5961 7) */

    const struct engine_peers *peers; /* engines of other workers; NULL: this one is alone */

    uint8_t secret[32];        /* unpredictable: keys ISNs, ports and hash tables */
    uint8_t stable_secret[32]; /* the same over restarts: keys own addresses and Fast Open cookies */
};

void engine_config_default(struct engine_config *cfg);

/** Add an IPv4 address to interface 0, or a default route; for tests and tools. */
void engine_config_addr4(struct engine_config *cfg, const uint8_t ip[4], uint8_t prefix);
void engine_config_gateway4(struct engine_config *cfg, const uint8_t ip[4]);

/** Bytes of the two memory blocks for `cfg`; both must be zeroed and page-aligned. */
size_t engine_arena_bytes(const struct engine_config *cfg);
size_t engine_scratch_bytes(const struct engine_config *cfg);

/**
 * Start an engine in the given memory. Returns NULL when `cfg` is inconsistent (pkt_max no power of two,
 * a pool of 0, a prefix too long, a gateway on no link, an MTU below 576, or below 1280 with IPv6).
 */
struct engine *engine_init(void *arena, void *scratch, const struct engine_config *cfg, uint64_t now_us);

/** Queue the announcements of IPv4 addresses (RFC 5227 2.3), begin to probe for IPv6 ones (RFC 4862 5.4). */
void engine_announce(struct engine *e, uint64_t now_us);

/* ---- Frames ---------------------------------------------------------------------------------- */

/** Take frames that arrived. The buffers are only read, and not after the return. */
void engine_rx(struct engine *e, struct pktbuf *const pkts[], unsigned n, uint64_t now_us);

/** Devices that the configuration names: 0 .. engine_devices() - 1. */
unsigned engine_devices(const struct engine *e);

/**
 * The next frames to send over a device, at most `max`: stateless answers first, then connections in turn.
 * The frames stay the engine's; send them and report with engine_tx_consume() how many were taken, in order.
 * Calling again without consuming gives the same frames first. What a device does not take waits for it in a
 * queue of its own, of engine_config.pkt_max frames; the others are not held up.
 */
unsigned engine_tx_peek(struct engine *e, uint8_t dev, struct pktbuf *out[], unsigned max, uint64_t now_us);
void engine_tx_consume(struct engine *e, uint8_t dev, unsigned n);

/** Run every timer that is due. */
void engine_timers(struct engine *e, uint64_t now_us);

/** When the next timer may be due, in the clock of now_us; UINT64_MAX: never. */
uint64_t engine_deadline(const struct engine *e);

/** True when engine_tx_peek() would produce something. */
bool engine_tx_pending(const struct engine *e);

/** What a device says of its link. */
struct engine_link {
    bool up;
    uint16_t mtu; /* IP bytes of a frame */
};

/**
 * A device's link went down or came up, or its MTU changed. Below 576 it counts as down, below 1280 for IPv6.
 * Frames that waited for a link that went down are dropped.
 */
void engine_link(struct engine *e, uint8_t dev, const struct engine_link *l, uint64_t now_us);

/* ---- Sessions -------------------------------------------------------------------------------- */

/** A session's memory as the engine sees it. The caller checked and mapped it. */
struct engine_session {
    uint8_t *base;         /* the mapped segment; hostile */
    uint64_t bytes;        /* of the whole segment */
    struct sg_slot *slots; /* inside the segment; hostile */
    uint32_t slot_count;
    uint64_t heap_off;   /* multiple of SG_PAGE_BYTES */
    uint64_t heap_bytes; /* multiple of the largest region */
    uint32_t
        *slot_sock;  /* private: engine_slot_map_bytes(slot_count), zeroed; the engine's map slot -> socket */
    void *heap_meta; /* private: segheap_meta_bytes(heap_bytes), zeroed */
    uint64_t buffer_bytes_max; /* quota: bytes of regions at once */
    uint32_t sockets_max;      /* quota: sockets at once */
    bool raw;                  /* may make raw sockets */
    uint32_t uid;              /* whose it is: SO_REUSEPORT shares a port only between sockets of one user */
    uint32_t id;               /* the same in the engines of all workers */
    uint64_t *buffer_bytes;    /* atomic: what is held of that quota in all engines; NULL: here alone */
};

/** Private bytes of a session's map of slots. */
size_t engine_slot_map_bytes(uint32_t slot_count);
/** Private bytes that the engine needs to manage a heap of `heap_bytes`. */
size_t segheap_meta_bytes(uint64_t heap_bytes);

/** Add a session; returns its id (0..session_max-1), or -ENOSPC. */
int engine_session_add(struct engine *e, const struct engine_session *s, uint64_t now_us);

/**
 * The application is gone (or was expelled): close all it had as the kernel does when a process dies:
 * listeners end, connections with unread data are reset, others send what is queued and then FIN. A
 * session with very many sockets is closed over several turns (engine_timers() goes on). The memory must stay
 * mapped until engine_session_idle() says true; then call engine_session_drop().
 */
void engine_session_end(struct engine *e, int sid, uint64_t now_us);
bool engine_session_idle(const struct engine *e, int sid);
void engine_session_drop(struct engine *e, int sid);

/** What a session holds now. */
struct engine_session_use {
    uint32_t sockets;
    uint32_t orphans; /* closed sockets that still send */
    uint64_t buffer_bytes;
};
void engine_session_use(const struct engine *e, int sid, struct engine_session_use *ret);

/* ---- Socket calls. All take a checked slot number; all return 0 or a negative Linux errno. ----- */

/** True when `slot` is in range and holds a socket of this session. */
bool engine_slot_used(const struct engine *e, int sid, uint32_t slot);

int engine_open(struct engine *e, int sid, uint32_t slot, uint32_t type, uint32_t proto, uint16_t family);
int engine_bind(struct engine *e, int sid, uint32_t slot, const struct ip_ep *local);
int engine_listen(struct engine *e, int sid, uint32_t slot, uint32_t backlog, uint32_t overflow);
int engine_connect(struct engine *e, int sid, uint32_t slot, const struct ip_ep *remote, uint64_t now_us);
/** Move the oldest waiting connection of `listener` into the free slot `slot`. -EAGAIN: none waits. */
int engine_accept(struct engine *e, int sid, uint32_t listener, uint32_t slot, uint64_t now_us);
int engine_shutdown(struct engine *e, int sid, uint32_t slot, uint32_t how, uint64_t now_us);
int engine_close(struct engine *e, int sid, uint32_t slot, uint64_t now_us);
int engine_setopt(struct engine *e, int sid, uint32_t slot, uint32_t level, uint32_t name, uint64_t value,
                  uint64_t now_us);
/** Tell the time before engine_getopt(), which has answers that depend on it (TCP_INFO). */
void engine_clock(struct engine *e, uint64_t now_us);
int engine_getopt(struct engine *e, int sid, uint32_t slot, uint32_t level, uint32_t name, uint64_t *value);

/** What the options that name a multicast group carry. */
struct engine_mreq {
    struct ip_addr group;     /* its family says whose group it is */
    struct ip_addr interface; /* an own address on it; family 0: none is named */
    uint32_t ifnum;           /* number of the interface, from 1 on; 0: by its address, or chosen here */
    struct ip_addr source;    /* options that name one */
};
/** IP_ADD_MEMBERSHIP and its like, by Linux's number, for IPv6 as well; IP_MULTICAST_IF for IPv4. */
int engine_mcast(struct engine *e, int sid, uint32_t slot, uint32_t name, const struct engine_mreq *r,
                 uint64_t now_us);
/** ICMP6_FILTER of a raw IPv6 socket: a bit for each type that it doesn't hear (Linux's sense). */
int engine_icmp6_filter(struct engine *e, int sid, uint32_t slot, const uint32_t blocked[8]);
/** TCP_FASTOPEN_KEY, of a listener or before listen(). */
int engine_fastopen_keys(struct engine *e, int sid, uint32_t slot, const struct fastopen_keys *keys);
int engine_grant(struct engine *e, int sid, uint32_t slot);
int engine_release(struct engine *e, int sid, uint32_t slot);

/**
 * The application says that its line of these slots changed (new data, room read free). Slot numbers may
 * be anything; bad ones are counted and ignored.
 */
void engine_kick(struct engine *e, int sid, const uint32_t *slots, unsigned n, uint64_t now_us);

/* ---- Towards the applications ----------------------------------------------------------------- */

enum engine_event_kind {
    ENGINE_EV_SOCK,    /* post SG_EV_SOCK for (sid, slot) */
    ENGINE_EV_RELEASE, /* post SG_EV_RELEASE for (sid, slot); may be dropped when there is no room */
    ENGINE_EV_FAULT,   /* the session broke the contract: remove it; `reason` says how */
};

struct engine_event {
    enum engine_event_kind kind;
    int sid;
    uint32_t slot;
    const char *reason; /* ENGINE_EV_FAULT: a constant string */
};

/** Write the changed state of sockets into their slots. Once per turn, after the last change. */
void engine_publish(struct engine *e, uint64_t now_us);

/**
 * The next application to tell, after engine_publish(). Returns false when there is none. A slot is in this
 * queue at most once, whatever its application writes. When the event can't be delivered now (its ring is
 * full), engine_event_defer() puts it aside; engine_event_retry() brings up to `max` of a session's deferred
 * events back, once there is room, so that a session that doesn't drain its ring costs nobody a walk.
 */
bool engine_event_next(struct engine *e, struct engine_event *ret);
void engine_event_defer(struct engine *e, const struct engine_event *ev);
uint32_t engine_event_deferred(const struct engine *e, int sid);
void engine_event_retry(struct engine *e, int sid, uint32_t max);

/* ---- Looking inside (sockgatectl, tests) -------------------------------------------------------- */

enum engine_sock_kind {
    ENGINE_SOCK_TCP,
    ENGINE_SOCK_LISTEN,
    ENGINE_SOCK_UDP,
    ENGINE_SOCK_RAW,
    ENGINE_SOCK_REQ,
    ENGINE_SOCK_TW
};

struct engine_sock_info {
    enum engine_sock_kind kind;
    const char *state; /* "ESTABLISHED", ... as RFC 9293 spells it with _; "UNCONN" for UDP */
    int sid;           /* -1: no owner (orphan, TIME_WAIT, not yet accepted) */
    uint32_t slot;
    struct ip_ep local, remote;
    uint64_t rx_queue; /* bytes not yet read; listener: connections waiting */
    uint64_t tx_queue; /* bytes not yet acknowledged; listener: backlog */
    uint32_t srtt_us, rttvar_us, rto_us;
    uint32_t cwnd_bytes, ssthresh_bytes, mss;
    uint32_t snd_wnd, rcv_wnd;
    uint32_t retransmits; /* segments sent again, over the connection's life */
    uint32_t backoff;     /* consecutive retransmission time-outs now */
    uint64_t bytes_sent, bytes_acked, bytes_received;
    uint64_t segs_in, segs_out;
    char cc[8];             /* congestion control's name */
    const char *timer;      /* "", "rto", "persist", "keepalive", "timewait" ... */
    uint64_t timer_us;      /* until it is due */
    struct sg_tcp_info tcp; /* of a TCP connection */
};

/**
 * Walk over all sockets: start with *cursor = 0; each call fills one entry and moves the cursor; false at
 * the end. Sockets that come or go between calls may be missed; nothing else goes wrong.
 */
bool engine_sock_next(const struct engine *e, uint64_t *cursor, uint64_t now_us,
                      struct engine_sock_info *ret);

struct engine_neigh_info {
    struct ip_addr addr;
    uint8_t mac[6];
    const char *state; /* "INCOMPLETE", "REACHABLE", "STALE", "PROBE", "FAILED" */
    uint64_t age_us;
};
bool engine_neigh_next(const struct engine *e, uint64_t *cursor, uint64_t now_us,
                       struct engine_neigh_info *ret);

/** An interface as it is now; false: there is none of this number. */
struct engine_if_info {
    uint8_t dev;
    uint16_t vlan;
    uint8_t mac[6];
    uint16_t mtu;
    bool up;
};
bool engine_if_info(const struct engine *e, unsigned index, struct engine_if_info *ret);

struct engine_addr_info {
    struct ip_addr addr;
    uint8_t prefix;
    uint8_t ifindex;
    const char *state; /* "tentative", "preferred", "deprecated", "duplicate" */
};
bool engine_addr_next(const struct engine *e, uint64_t *cursor, struct engine_addr_info *ret);
/** Another number after each change of the addresses, and of what else packets are sent by. */
uint32_t engine_addr_changes(const struct engine *e);

/** Row `index` (0, 1, ...) of the table of socket options; false past the last. */
struct engine_opt_info {
    const char *label;    /* "TCP_NODELAY" */
    uint32_t level, name; /* Linux's numbers */
    bool tcp, udp;        /* sockets that have it */
    bool settable;
};
bool engine_opt_info(unsigned index, struct engine_opt_info *ret);

/** Counter `index` (0, 1, ...): its name and value; false past the last. */
bool engine_counter(const struct engine *e, unsigned index, const char **name, uint64_t *value);

/** Something worth a log line since the last call (an address conflict, say); false when nothing. */
bool engine_notice(struct engine *e, char *line, size_t bytes);

/** Walks all state and returns NULL, or says what is inconsistent. For tests; O(everything). */
const char *engine_check(const struct engine *e);

#include "daemon/engine/peers.h"

#endif

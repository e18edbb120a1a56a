/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment tests: a host under test (192.0.2.2) and a scripted peer (192.0.2.1) whose every segment is
 * written down.
 *
 * Numbers in a struct seg are relative: the peer's sequence numbers to its SYN (seq 0), the host's to its
 * ISN. A test says only the fields that matter: seg_send() fills in sensible ones, seg_expect() compares
 * those whose bit is in `check`.
 */
#ifndef TESTS_SEGMENT_PEER_H
#define TESTS_SEGMENT_PEER_H

#include "daemon/engine/wire/tcp.h"
#include "tests/support/host.h"

#define PEER_ISN  1000000u
#define PEER_PORT 40000u
#define HOST_PORT 7u

/* seg.check: compare this field in seg_expect() */
#define C_SEQ     (1u << 0)
#define C_ACK     (1u << 1)
#define C_LEN     (1u << 2)
#define C_WND     (1u << 3)
#define C_SACK    (1u << 4)
#define C_FLAGS   (1u << 5)
#define C_TOS     (1u << 6)

struct seg {
    uint8_t flags; /* TCP_* */
    uint8_t tos;   /* of the IP header */
    uint32_t seq, ack;
    uint32_t len;
    uint16_t wnd;  /* sent: 0 stands for 65535 */
    bool zero_wnd; /* sent: really 0 */
    unsigned check;
    /* options */
    uint16_t mss; /* 0: none */
    int wscale;   /* 0: none; else scale + 1 */
    bool sack_perm;
    uint32_t tsval, tsecr; /* both 0: none */
    unsigned sacks;
    struct tcp_sack_block sack[4];
    bool fo; /* Fast Open, with a cookie of fo_len bytes */
    uint8_t fo_len;
    uint8_t cookie[16];
};

struct peer {
    struct host h;
    uint32_t host_isn;
    uint16_t host_port, peer_port;
    uint32_t listener; /* slot */
    uint32_t slot;     /* of the connection */
    bool ts;           /* add a timestamp to every segment */
    uint32_t ts_last;  /* the host's last tsval */
    uint64_t tx_pattern;
    bool have; /* `next` holds a segment that was looked at ahead */
    struct tcp_seg next;
    uint8_t last_tos;  /* of the frame that was looked at last */
    uint16_t last_gso; /* its gso_size */
    uint16_t last_id;  /* IPv4: identification */
    bool last_df;      /* and DF */
};

/* tweak may be NULL. */
void peer_start(struct peer *p, void (*tweak)(struct engine_config *));
/** Stops and fails the test when state leaked. */
void peer_stop(struct peer *p);

/** Raw: send this segment now. Payload is the pattern by sequence number. */
void seg_send(struct peer *p, struct seg s);
/** The same with a source address of somebody else's. */
void seg_send_from(struct peer *p, const uint8_t from[4], struct seg s);
/** The frame of such a segment, written to `f`; returns its bytes. */
uint32_t peer_frame(struct peer *p, struct seg s, uint8_t *f);
/** An ICMP error from a router (192.0.2.9) that quotes the host's segment with this relative sequence number,
 * in a packet of `quoted` bytes. */
void peer_icmp(struct peer *p, uint8_t type, uint8_t code, uint16_t mtu, uint32_t seq, uint16_t quoted);
/** The next TCP segment of the host, or fails. Returns it with relative numbers. */
struct seg seg_take(struct peer *p);
/** The same if there is one. */
bool seg_next(struct peer *p, struct seg *ret);
/** seg_take() and compare; names file and line on failure. */
#define seg_expect(p, ...) seg_expect_at((p), (struct seg){__VA_ARGS__}, __FILE__, __LINE__)
struct seg seg_expect_at(struct peer *p, struct seg want, const char *file, int line);
/** The host has nothing to say. */
#define seg_none(p) seg_none_at((p), __FILE__, __LINE__)
void seg_none_at(struct peer *p, const char *file, int line);
/** Throw away whatever the host has to say; returns the number of TCP segments. */
unsigned seg_drain(struct peer *p);
/** Let `us` pass, running timers as they come due. */
void peer_wait(struct peer *p, uint64_t us);
/** Let time pass until the host has something to say, at most `us`; returns how long that took. */
uint64_t peer_wait_tx(struct peer *p, uint64_t us);

/** States. Established: host seq 1, peer seq 1, window 65535 unscaled, MSS 1460, SACK, no timestamps. */
void peer_listen(struct peer *p, uint32_t backlog);
void peer_syn_received(struct peer *p);
void peer_established(struct peer *p); /* through a listener; accepted in p->slot */
void peer_connecting(struct peer *p);  /* host has sent its SYN */
void peer_connected(struct peer *p);   /* host was the active side */
struct peer_opts {
    uint16_t mss;
    int wscale; /* scale + 1 */
    bool sack, ts;
    uint16_t wnd;
};
void peer_established_opts(struct peer *p, const struct peer_opts *o);

/** State of the connection as the walk shows it, "" when there is none. */
const char *peer_state(struct peer *p);
/** Bytes of the pattern that starts at relative peer sequence number `seq`. */
void pattern_fill(uint8_t *buf, uint32_t seq, uint32_t len);
/** recv() everything and compare with the pattern; returns the number of bytes. */
uint32_t peer_read_all(struct peer *p, uint32_t *seq);
/** Send `len` bytes from the application. */
void peer_write(struct peer *p, uint32_t len);

#endif

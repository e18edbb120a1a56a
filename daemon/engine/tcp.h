/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP inside the engine: records, and the functions that its files call in one another.
 *
 * Three kinds of record: a full connection (conn.h), a half-open one that came through a listener (request),
 * and TIME_WAIT. Records are arena memory: indices, sequence numbers and offsets, no pointers. Variables
 * carry RFC 9293 3.3.1's names. Bytes of the streams are known by 64-bit offsets; with iss and irs they are
 * one fact: send offset o has sequence number iss + 1 + o, receive offset o has irs + 1 + o.
 *
 *   tcp_in.c     a segment arrives (RFC 9293 3.10.7)      tcp_ack.c    its acknowledgment part
 *   tcp_out.c    what to send next, and building it       tcp_reply.c  segments that belong to no connection
 *   tcp_timer.c  what each timer does                     tcp_reass.c  data in any order
 *   tcp_flight.c what is in flight                        tcp_sack.c   what of it has arrived
 *   tcp_rack.c   what of it is lost, the loss probe       tcp_recovery.c  what to do about it
 *   tcp_listen.c listeners and requests
 *   tcp_tw.c     TIME_WAIT                                tcp_user.c   calls of the application
 *   tcp_delack.c when to acknowledge                      tcp_pmtu.c   segment size and path MTU
 *   tcp_conn.c   the life of a record, states             cc_*.c       congestion control
 *   tcp_cookie.c SYN cookies                              tcp_challenge.c  answers to what may be forged
 *   tcp_orphan.c connections without an application       tcp_buf.c    sizes of rings and windows
 *   tcp_tally.h  counters for people                      tcp_info.c   TCP_INFO
 *   tcp_ecn.c    explicit congestion notification         tcp_probe.c  path MTU by probes
 */
#ifndef ENGINE_TCP_H
#define ENGINE_TCP_H

#include "daemon/engine/cc.h"
#include "daemon/engine/cc_path.h"
#include "daemon/engine/conn.h"
#include "daemon/engine/engine_int.h"
#include "daemon/engine/tcp_fast.h"
#include "daemon/engine/wire/tcp.h"

/** RFC 9293 3.7.1: what a peer that gave no MSS option takes. */
#define TCP_MSS_DEFAULT 536u

struct tcp_listener {
    struct sock s;
    uint32_t hash_next;  /* chain of the port's bucket: listener index */
    uint32_t backlog;    /* completed connections that may wait */
    uint32_t queue_head; /* connection indices through acc_next */
    uint32_t queue_tail;
    uint32_t queue_len;
    uint32_t group; /* listens together with those of other workers: engine_peers.waiting[group]; 0: alone */
    uint32_t req_count;
    uint8_t overflow; /* enum sg_overflow */
    uint8_t pad[3];
    uint32_t fo_pending;  /* connections with TF_FASTOPEN */
    uint32_t fo_reset[2]; /* those that were reset in this period and the one before (RFC 7413 5.1) */
    uint64_t fo_period;
    struct fastopen_keys fo_keys;
    uint64_t cookie_us;             /* when a SYN cookie was last sent; 0: never */
    struct tcp_options_set inherit; /* what accepted connections start with */
};

/** A half-open connection of a listener: SYN received, SYN-ACK sent. */
struct tcp_req {
    struct flow_key key;
    uint32_t hash;
    uint32_t listener; /* index */
    uint32_t irs, iss;
    uint32_t tsoff;
    uint32_t ts_recent;
    uint16_t peer_mss; /* 0: not given */
    uint16_t wnd;      /* of the SYN */
    uint8_t peer_wscale;
    uint8_t flags; /* REQ_* */
    uint8_t retries;
    uint8_t used; /* 0: record is free */
    uint8_t pad[4];
    uint64_t resend_us; /* when the SYN-ACK is due again */
    uint64_t sent_us;   /* when it was last sent */
};

#define REQ_TS       (1u << 0)
#define REQ_WSCALE   (1u << 1)
#define REQ_SACK     (1u << 2)
#define REQ_ECN      (1u << 3)
#define REQ_FASTOPEN (1u << 5) /* a Fast Open cookie goes with the SYN-ACK */
#define REQ_ACKED    (1u << 4) /* the handshake is complete, but data is waited for (TCP_DEFER_ACCEPT) */

struct tcp_tw {
    struct flow_key key;
    uint32_t hash;
    uint32_t snd_nxt, rcv_nxt;
    uint32_t rcv_wnd; /* scaled as on the wire */
    uint32_t ts_recent;
    uint32_t tsoff;
    uint32_t age_next, age_prev; /* all records, oldest first */
    uint8_t has_ts;
    uint8_t used;
    uint8_t pad[6];
    uint64_t ts_recent_us;
    uint64_t expires_us;
};

/* Ranges remembered in the order of their last change: as many as one ACK reports, and as many again, because
 * those that the next data reaches go first. */
#define RX_RECENT_MAX 8u

/** What a connection knows about data that is not in order. */
struct rx_reasm {
    uint32_t head, last; /* rx_range index: the first and, while there are any, the last in sequence */
    uint32_t count;
    uint32_t fresh;                  /* ranges made since the last ACK */
    uint32_t recent[RX_RECENT_MAX];  /* rx_range indices, the one touched last first; NIL: no more */
    uint32_t dsack_start, dsack_end; /* with TF_DSACK: the duplicate to report */
    uint32_t fin_seq;                /* with TF_FIN_EARLY */
};

/** What a connection's rings need beside its record: touched by bulk transfers, not by short exchanges. */
struct tcp_buf {
    struct ring_next rx, tx;
    /* Auto-tuning of the receive window (tcp_buf.c). */
    uint64_t epoch_us;   /* start of the round trip that is being counted; 0: none yet */
    uint64_t edge_us;    /* without timestamps: when rcv_nxt was a window before `edge` */
    uint32_t epoch_head; /* low bits of s.rx.head at epoch_us */
    uint32_t edge;       /* 0: no measurement under way */
    uint32_t rtt_us;     /* round trip as a receiver sees it; 0: not known */
    uint32_t last_bytes; /* what the application took in the round trip before */
};

static_assert(sizeof(struct tcp_buf) == 64, "one cache line");

/** Counters that seldom change (tcp_tally.h). */
struct tcp_rare {
    union {
        struct {
            uint64_t bytes_retrans;
            uint32_t dsacks;                   /* duplicates that the peer reported */
            uint32_t ooo_segs;                 /* segments that arrived beyond a hole */
            uint32_t reord_seen;               /* segments that were acknowledged after later ones */
            uint32_t rwnd_ticks, sndbuf_ticks; /* LIMIT_RWND and LIMIT_SNDBUF so far */
            uint32_t delivered_ce;             /* segments whose ACK echoed a congestion mark */
            uint16_t reordering;               /* the farthest that one came late, in segments; 0: none did */
            bool syn_data;                     /* data on the SYN was taken, ours or the peer's */
            uint8_t fastopen_fail;             /* enum fastopen_fail */
            uint32_t pad;
        };
        struct fastopen_keys fo_keys; /* before listen(): those that the listener will have */
    };
};

static_assert(sizeof(struct tcp_rare) == 40, "no padding");

/** Bytes received out of order: [start, end), linked in sequence order. */
struct rx_range {
    uint32_t start, end;
    uint32_t next;
};

/** A run of bytes sent and not yet acknowledged, linked in sequence order (RFC 8985 5.2). */
struct tx_seg {
    uint32_t start, end;
    uint64_t xmit_us; /* last transmission */
    uint32_t next;
    uint32_t q_next, q_prev; /* in tx_flight.sent or .lost, as the marks say; a SACKed one is in neither */
    uint16_t flags;          /* TXS_* */
    uint16_t retrans;        /* times sent again */
};

/** Ends of a list of segments through q_next. */
struct tx_queue {
    uint32_t head, tail;
};

/** F-RTO (RFC 5682). */
enum frto {
    FRTO_OFF = 0,
    FRTO_HEAD, /* timed out: only the head was sent again */
    FRTO_NEW,  /* the first ACK moved on: new data goes out instead of what counts as lost */
};

/**
 * What a connection knows about its data in flight, and how it recovers what was lost. Starts anew with each
 * flight, but for undo and the loss probe.
 */
struct tx_flight {
    uint32_t conn;               /* index of the owner */
    uint8_t frto;                /* enum frto */
    bool dsack_seen;             /* a D-SACK came, and snd_una has not reached dsack_round since */
    bool tlp_out, tlp_again;     /* a loss probe is to be judged; it sent old data again */
    bool lingers;                /* nothing is in flight: on the list of those that can be taken back */
    uint8_t seen_count;          /* of seen[] */
    bool rated;                  /* the delivery rate is being measured: rate_* below */
    uint32_t seg_head, seg_tail; /* tx_seg indices */
    uint32_t seg_count;
    uint32_t sacked_bytes, lost_bytes, retrans_bytes; /* what was sent again counts as lost too */
    uint32_t sacked_runs;
    struct tx_queue sent; /* in the network, in order of transmission */
    struct tx_queue lost; /* to be sent again */
    uint32_t fack;        /* RACK.fack: highest sequence number acknowledged in any way */

    /* So that an ACK costs no walk: where the last SACK block ended, and the blocks of the last ACK. */
    uint32_t sack_hint;
    uint32_t flight_max; /* most bytes in flight in this window, as if each segment were a full one */
    struct tcp_sack_block seen[4];
    uint32_t dsack_round;

    /* RACK (RFC 8985): the latest delivery. */
    uint64_t rack_xmit_us;
    uint32_t rack_end;
    uint32_t rack_rtt_us;

    /* Recovery: point, PRR (RFC 9937). */
    uint32_t dup_acks;
    uint32_t dup_bytes; /* without SACK: what duplicate ACKs have announced as delivered */
    uint32_t recover;
    uint32_t recover_fs;
    uint32_t prr_delivered, prr_out;

    /* The rest outlives the flight, as long as no other connection needs the record. */
    uint64_t retrans_us;                            /* first retransmission of the episode, 0: none yet */
    uint32_t undo_marker, undo_cwnd, undo_ssthresh; /* undo_cwnd 0: nothing to undo */
    uint32_t undo_retrans;                          /* bytes sent again and not reported as duplicates */
    uint32_t tlp_end;                               /* with tlp_out: snd_nxt after the probe */

    uint32_t linger_next, linger_prev; /* records with nothing in flight, oldest first */

    /* One measurement of the delivery rate a round trip (tcp_tally.h). */
    uint32_t rate_at_us; /* low bits of when it began */
    uint32_t rate_base;  /* low bits of conn.delivered then */
    uint32_t rate_end;   /* it ends when this is acknowledged */
};

static_assert(sizeof(struct tx_flight) == 192, "three cache lines");

#define TXS_SACKED  (1u << 0)
#define TXS_LOST    (1u << 1)
#define TXS_RETRANS (1u << 2) /* the last transmission was a retransmission that is still in flight */
#define TXS_FIN     (1u << 3) /* covers the FIN */
#define TXS_PSH     (1u << 4)
#define TXS_PROBE   (1u << 5) /* a probe of the path MTU: one packet, above the MSS */
#define TXS_RESIZE  (1u << 6) /* was one, and is lost for its size alone */
#define TXS_MARKS   (TXS_SACKED | TXS_LOST | TXS_RETRANS)

/** A Fast Open cookie that a server gave us (RFC 7413 4.1.3). */
struct fo_entry {
    struct ip_addr local, remote;
    uint8_t cookie[TCP_FO_MAX];
    uint8_t cookie_len; /* 0: none */
    uint8_t losses;     /* SYNs with data that were lost, in a row */
    uint16_t mss;       /* that the server gave with it */
    uint32_t pad;
    uint64_t used; /* larger: later; 0: free */
    uint64_t lost_us;
};

/** A pool of records addressed by index; free ones on a stack in scratch. */
struct pool {
    uint32_t *free;
    uint32_t free_count;
    uint32_t count;
    uint32_t high; /* no record from this index on was ever used: walks end here, untouched pages stay so */
};

static inline uint32_t pool_get(struct pool *p)
{
    uint32_t i = p->free_count ? p->free[--p->free_count] : NIL;

    if (i != NIL && i >= p->high)
        p->high = i + 1;
    return i;
}

static inline void pool_put(struct pool *p, uint32_t i)
{
    ENG_ASSERT(p->free_count < p->count);
    p->free[p->free_count++] = i;
}

#define LISTEN_BUCKETS     1024u
#define LISTEN_BACKLOG_MAX 4096u /* completed connections that may wait: Linux's somaxconn */

/** Connections with something to send, through tx_next: a list for each device, the last for none. */
#define TCP_TX_LISTS       (ENGINE_DEV_MAX + 1u)
struct tcp_tx_list {
    uint32_t head, tail;
};

struct tcp_table {
    /* arena */
    struct tcp_conn *conns;
    struct tcp_buf *bufs;   /* one for each of conns */
    struct tcp_rare *rares; /* likewise */
    struct tcp_listener *listeners;
    struct tcp_req *reqs;
    struct tcp_tw *tws;
    struct rx_range *ranges;
    struct tx_seg *segs;
    struct tx_flight *flights;
    struct rx_reasm *reasms;
    struct cc_path *paths;
    struct tx_rate *rates; /* one for each tx_seg, used while its connection has a path record */
    /* scratch */
    struct pool conn_pool, listener_pool, req_pool, tw_pool, range_pool, seg_pool, flight_pool, reasm_pool,
        path_pool;
    uint32_t *hints;      /* tcp_fast.h: connection index + 1, by a hash of what a frame says; 0: none */
    struct tcp_way *ways; /* one for each of conns */
    unsigned hint_shift;
    struct fo_entry *fo_cache;
    uint64_t fo_uses;
    uint32_t listen_bucket[LISTEN_BUCKETS]; /* listener index */
    struct tcp_tx_list tx[TCP_TX_LISTS];    /* connections with something to send */
    uint32_t tw_oldest, tw_newest;
    uint32_t path_oldest, path_newest;     /* cc_path: by last use */
    uint32_t linger_oldest, linger_newest; /* tx_flight: kept after the flight, taken back when needed */
    uint32_t sack_steps;                   /* segments that the SACK blocks of the last ACK looked at */
    uint32_t tw_iss; /* while a SYN that ended a TIME_WAIT is handed on: the sequence number to use; else 0 */
    struct sip_key isn_key, ts_key, cookie_key, limit_key, fastopen_key;
    uint64_t challenge_second; /* RFC 5961 7: the second that is being counted */
    uint32_t challenge_left;   /* answers that it still allows */
    uint32_t orphans;          /* connections with TF_ORPHAN, and what they have to send yet */
    uint64_t orphan_bytes;
};

/* Timer nodes of the wheel: connections, then requests, then TIME_WAIT records. */
static inline uint32_t node_of_conn(const struct engine_config *cfg, uint32_t i)
{
    (void)cfg;
    return i;
}

static inline uint32_t node_of_req(const struct engine_config *cfg, uint32_t i)
{
    return cfg->conn_max + i;
}

static inline uint32_t node_of_tw(const struct engine_config *cfg, uint32_t i)
{
    return cfg->conn_max + cfg->req_max + i;
}

/** The key of a connection, and of a segment that arrived. */
static inline struct flow_key tcp_conn_key(const struct tcp_conn *c)
{
    return (struct flow_key){
        .local = c->s.local, .remote = c->s.remote, .lport = c->s.lport, .rport = c->s.rport};
}

static inline struct flow_key tcp_seg_key(const struct rx_pkt *rp, const struct tcp_seg *s)
{
    return (struct flow_key){.local = rp->dst, .remote = rp->src, .lport = s->dport, .rport = s->sport};
}

size_t tcp_arena_bytes(const struct engine_config *cfg);
size_t tcp_scratch_bytes(const struct engine_config *cfg);
void tcp_init(struct engine *e, void *arena, void *scratch);

/* tcp_conn.c */
struct tcp_conn *tcp_conn_new(struct engine *e);
void tcp_state_set(struct tcp_conn *c, enum tcp_state st);
const char *tcp_state_name(enum tcp_state st);
/** Put into the connection table under its addresses. */
void tcp_conn_hash(struct engine *e, struct tcp_conn *c);
void tcp_conn_unhash(struct engine *e, struct tcp_conn *c);
/** After the handshake parameters are known: MSS, initial window, congestion control. */
void tcp_conn_start(struct engine *e, struct tcp_conn *c, uint64_t now_us);
/** The connection is over for the network: errno 0 or positive for the application. Frees it if it has no
 * owner. */
void tcp_conn_end(struct engine *e, struct tcp_conn *c, int error);
/** Send RST, then tcp_conn_end(). */
void tcp_conn_abort(struct engine *e, struct tcp_conn *c, int error);
/** Free a record that is CLOSED and has no slot. */
void tcp_conn_free(struct engine *e, struct tcp_conn *c);
/** An orphan whose FIN was acknowledged lets go of its session. */
void tcp_orphan_leave(struct engine *e, struct tcp_conn *c);
void tcp_listener_close(struct engine *e, struct tcp_listener *l);
/** The oldest connection of a queue that is not empty; it leaves the queue. */
struct tcp_conn *tcp_accept_take(struct engine *e, struct tcp_listener *l);
uint32_t tcp_isn(struct engine *e, const struct flow_key *k, uint64_t now_us);
uint32_t tcp_ts_offset(const struct engine *e, const struct flow_key *k);
/** The largest segment that the link towards `remote` carries, and the one that we offer to take. */
uint16_t tcp_link_mss(const struct engine *e, const struct ip_addr *remote);
uint16_t tcp_adv_mss(const struct engine *e, const struct ip_addr *remote);

/* tcp_in.c, tcp_ack.c */
void tcp_conn_input(struct engine *e, struct tcp_conn *c, struct tcp_seg *s, const struct rx_pkt *rp);
/** @return false: the segment must be dropped (and was answered if it has to be). */
bool tcp_ack_input(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s);
/** Everything before `ack`, which is good, has arrived. */
void tcp_una_advance(struct engine *e, struct tcp_conn *c, uint32_t ack);
void tcp_window_update_input(struct tcp_conn *c, const struct tcp_seg *s);

/* tcp_challenge.c */
/** The segment may be forged: say what is expected, as often as connection and host allow it. */
void tcp_challenge(struct engine *e, struct tcp_conn *c);
/** The host's limit alone. */
bool tcp_challenge_allowed(struct engine *e);
/** The segment lies outside the window: an ACK, now and then only, unless it was sent again. */
void tcp_answer_outside(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s);

/* tcp_info.c */
void tcp_info_fill(const struct engine *e, const struct sock *s, uint64_t now_us, struct sg_tcp_info *ret);
/** One word of it, from the picture that word 0 takes (proto/abi/info.h). @return 0, -EINVAL, -EAGAIN */
int tcp_info_word(struct engine *e, const struct sock *s, uint32_t word, uint64_t *value);

/* tcp_delack.c */
#define TCP_TICK_SHIFT 10u  /* tcp_conn.data_rcvd_tick counts 1,024 us */
#define RCV_MSS_START  536u /* assumed until larger ones come (RFC 9293 3.7.1) */
#define RCV_MSS_MIN    88u  /* smaller ones are no full segments */
/** In-order data arrived; `segment_bytes` of payload in each segment that was joined. */
void tcp_delack_data(struct engine *e, struct tcp_conn *c, uint32_t segment_bytes);
/** Something is wrong with the order: a number of ACKs goes at once. */
void tcp_delack_quick(struct engine *e, struct tcp_conn *c);
/** Data of ours goes out. */
void tcp_delack_answered(struct engine *e, struct tcp_conn *c);
/** The delay is over. */
void tcp_delack_due(struct engine *e, struct tcp_conn *c);
/** TCP_QUICKACK. */
void tcp_delack_set(struct engine *e, struct tcp_conn *c, bool quick);

/* tcp_ecn.c */
struct tcp_acked;
/** Does this SYN for a listener, in a packet with this traffic class, ask for ECN, and do we agree? */
bool tcp_ecn_request(const struct engine *e, const struct tcp_seg *s, uint8_t tos);
/** The peer's SYN or SYN-ACK says whether it agrees to what we asked for. */
void tcp_ecn_answer(struct tcp_conn *c, const struct tcp_seg *s);
/** Our SYN goes out again: without asking. */
void tcp_ecn_fallback(struct engine *e, struct tcp_conn *c);
/** Data within the window, of a connection with ECN_TAKE. */
void tcp_ecn_data(struct tcp_conn *c, const struct tcp_seg *s, uint8_t tos);
/** An ACK that echoes congestion, of a connection with ECN_SEND. */
void tcp_ecn_echo(struct engine *e, struct tcp_conn *c, const struct tcp_acked *a);
/** The window is being reduced, for whatever reason: the peer is told. */
static inline void tcp_ecn_reduced(struct tcp_conn *c)
{
    if (c->ecn & ECN_SEND)
        c->ecn |= ECN_CWR;
}

/* tcp_pmtu.c */
/** The segment size to begin with. */
uint16_t tcp_mss_start(struct engine *e, struct tcp_conn *c);
/** The largest segment whatever the path; without options. */
uint32_t tcp_mss_max(const struct engine *e, const struct tcp_conn *c);
uint32_t tcp_options_bytes(const struct tcp_conn *c);
/** Something is known or forgotten about a path: look again, and send again what is too long now. */
void tcp_pmtu_sync(struct engine *e, struct tcp_conn *c);
/** An error says that a segment of this connection was too long. */
void tcp_pmtu_icmp(struct engine *e, struct tcp_conn *c, const struct icmp_report *r);

/* tcp_probe.c: probes of the path MTU */
#define TCP_PROBE_FOLLOW 4u /* segments that must follow: three duplicate ACKs, and one to spare */
/** Payload of the probe that is due, if the windows allow it; 0: none. */
uint32_t tcp_probe_size(struct engine *e, const struct tcp_conn *c);
void tcp_probe_sent(struct engine *e, const struct tcp_conn *c, uint32_t len);
void tcp_probe_arrived(struct engine *e, const struct tcp_conn *c);
/** Is what counts as lost a probe and nothing else? Then no recovery is due. */
bool tcp_probe_lost(struct engine *e, const struct tcp_conn *c);
/** A segment with TXS_PROBE is sent again, as others are. */
void tcp_probe_resent(struct engine *e, const struct tcp_conn *c, struct tx_seg *t);
/** A retransmission time-out: may it be the size? */
void tcp_probe_timeout(struct engine *e, struct tcp_conn *c);

/* tcp_buf.c: how large rings and windows are */
/** The connection's tcp_buf, cleared at its first use. */
struct tcp_buf *tcp_buf_of(struct engine *e, struct tcp_conn *c);
/** Bytes past rcv_nxt that may be promised now. */
uint32_t tcp_rx_room(struct engine *e, struct tcp_conn *c);
/** Make sure that the receive ring takes what ends at stream offset `end`; returns the bytes past `from` that
 * it has room for. */
uint64_t tcp_rx_fit(struct engine *e, struct tcp_conn *c, uint64_t from, uint64_t end);
/* Tuning looks at the connection each time that so many bytes have arrived, or a quarter of the window. */
#define TCP_TUNE_STEP_LOG2 14u
/** Does it, now that `len` bytes came? */
static inline bool tcp_rx_tune_due(const struct tcp_conn *c, uint64_t len)
{
    unsigned quarter = c->s.rx.want_log2 - 2u;
    unsigned step = quarter < TCP_TUNE_STEP_LOG2 ? quarter : TCP_TUNE_STEP_LOG2;

    return ((c->s.rx.tail - len) ^ c->s.rx.tail) >> step;
}
/** `len` bytes came in order: widen the window if the application keeps up and the sender needs it. */
void tcp_rx_tune(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, uint64_t len);
/** An acknowledgment arrives, before the head of the send ring moves: offer a larger one if it limits. */
void tcp_tx_tune(struct engine *e, struct tcp_conn *c);
/** A send region to start with, if the session has plenty; else the library asks with SG_CMD_GRANT. */
void tcp_tx_start(struct engine *e, struct tcp_conn *c);
/** SO_RCVBUF or SO_SNDBUF: the class is fixed from now on. */
void tcp_buf_fix(struct engine *e, struct tcp_conn *c, bool send, uint8_t log2);
/** Window scale that the largest window needs (RFC 7323 2.2). */
uint8_t tcp_rcv_wscale(const struct engine *e);

/* tcp_reass.c */
/** Take the data of a segment inside the window: [seq, seq + len). */
void tcp_reass_add(struct engine *e, struct tcp_conn *c, uint32_t seq, const uint8_t *data, uint32_t len);
/** Forget what lies beyond rcv_nxt. */
void tcp_reass_free(struct engine *e, struct tcp_conn *c);
/** The peer sent [start, end) twice: to be reported, if SACK is in use and a record is free. */
void tcp_reass_dsack(struct engine *e, struct tcp_conn *c, uint32_t start, uint32_t end);
/** The report went out. */
void tcp_reass_reported(struct engine *e, struct tcp_conn *c);
/** A FIN lies at `seq`, beyond a hole. */
void tcp_reass_fin(struct engine *e, struct tcp_conn *c, uint32_t seq);
/** That FIN has been reached. */
bool tcp_reass_fin_due(const struct engine *e, const struct tcp_conn *c);
/** Something lies beyond a hole. */
bool tcp_reass_holes(const struct engine *e, const struct tcp_conn *c);
/** Stream offset one past the last byte that lies in the receive ring, out of order or not. */
uint64_t tcp_reass_end(const struct engine *e, const struct tcp_conn *c);
/** SACK blocks to send, D-SACK first; returns their number, at most `max`. The connection has a record. */
unsigned tcp_reass_sacks(const struct engine *e, const struct tcp_conn *c, struct tcp_sack_block *ret,
                         unsigned max);

/* tcp_local.c */
/** Pass what is queued to the other end of the connection, if that is here. True: there is more to pass. */
bool tcp_local_output(struct engine *e, struct tcp_conn *c);

/* tcp_out.c */
/* Frames that connections leave free for stateless answers. */
#define TCP_TX_RESERVE     8u
/* Bytes of a connection in a turn; the others want theirs. */
#define TCP_TX_SHARE_BYTES (256u * 1024u)
/** Put on the list of connections with something to send. */
void tcp_output_schedule(struct engine *e, struct tcp_conn *c);
void tcp_ack_now(struct engine *e, struct tcp_conn *c);
/** Send an ACK without data, not at the end of the turn but here. False: there is no frame for it. */
bool tcp_ack_send(struct engine *e, struct tcp_conn *c);
/** Send what may be sent; false: the device's queue is full, or the connection had its share: call again. */
bool tcp_output(struct engine *e, struct tcp_conn *c);
/** Run the lists, each while its device has room for frames. */
void tcp_output_run(struct engine *e);
bool tcp_output_pending(const struct engine *e);
/** Right edge to advertise now; updates rcv_adv. */
uint32_t tcp_window_select(struct engine *e, struct tcp_conn *c);
/** The application read: send a window update if it is worth a segment. */
void tcp_window_check(struct engine *e, struct tcp_conn *c);
void tcp_send_rst(struct engine *e, struct tcp_conn *c);
/** Copy queued bytes: `len` from `off` past the first that is not acknowledged. */
void tcp_tx_copy(struct engine *e, struct tcp_conn *c, uint32_t off, uint8_t *dst, uint32_t len);
/** SYN, or SYN-ACK in SYN_RCVD. */
void tcp_send_syn(struct engine *e, struct tcp_conn *c);
void tcp_send_probe(struct engine *e, struct tcp_conn *c);

/* tcp_reply.c: segments without a connection */
void tcp_reply_rst(struct engine *e, const struct rx_pkt *rp, const struct tcp_seg *s);
struct tcp_reply {
    const struct flow_key *key;
    uint32_t seq, ack;
    uint16_t wnd;
    uint8_t flags;
    uint8_t tos, ttl; /* ttl 0: the default */
    uint8_t cut;      /* NET_WHOLE, or 0: NET_DF */
    uint16_t mss;     /* 0: no option */
    int wscale;       /* -1: no option */
    bool sack_perm;
    bool has_ts;
    uint32_t tsval, tsecr;
    bool has_fo;
    uint8_t fo_len; /* 0: a request */
    const uint8_t *fo;
    struct tcp_conn *data_of; /* with `len`: whose send ring the data comes from, at its start */
    uint32_t len;
};
/** @return 0 or -errno as net_output() */
int tcp_reply_send(struct engine *e, const struct tcp_reply *r);
uint32_t tcp_ts_now(const struct engine *e, uint32_t tsoff);

/* tcp_sack.c, tcp_rack.c, tcp_recovery.c */
/** What an ACK says. */
struct tcp_acked {
    uint32_t acked_bytes;     /* cumulatively */
    uint32_t sacked_bytes;    /* newly, selectively */
    uint32_t delivered_bytes; /* newly, in either way: no byte counts twice */
    uint32_t lost_bytes;      /* newly declared lost */
    uint64_t rtt_us;          /* newest sample, 0: none */
    uint32_t fack;            /* RACK.fack before this ACK */
    uint32_t ecr_ms;          /* with has_ecr: our clock when the echoed timestamp was sent */
    uint32_t dsack_end;
    uint32_t late; /* how far below `fack` what came late begins, at most; 0: nothing came late */
    bool has_ecr;
    bool dsack;
    bool retrans_acked; /* something that had been retransmitted was acknowledged */
    bool orig_acked;    /* something that had not, from before the recovery point */
};
/** The scoreboard (RFC 2018, 2883, 6675): selective, then cumulative. */
void tcp_recovery_sack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a);
void tcp_recovery_cum(struct engine *e, struct tcp_conn *c, uint32_t ack, struct tcp_acked *a);
/** After both: detect losses, enter, run or leave recovery, set cwnd. */
void tcp_recovery_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a,
                      uint32_t prior_flight);
/** RFC 8985 6.2 steps 1 and 2 for one newly acknowledged segment. */
void tcp_rack_delivered(struct engine *e, struct tcp_conn *c, const struct tx_seg *t, struct tcp_acked *a);
/** RFC 8985 6.2 step 4: a D-SACK widens the reordering window, once a round trip. */
void tcp_rack_dsack(struct engine *e, struct tcp_conn *c);
/** ... and 16 recoveries without one narrow it again. */
void tcp_rack_recovered(struct tcp_conn *c);
uint64_t tcp_rack_window(const struct engine *e, const struct tcp_conn *c);
/** RFC 8985 6.2 step 5: mark what is lost; arms the reordering timer for what may be. */
void tcp_rack_detect(struct engine *e, struct tcp_conn *c, struct tcp_acked *a);
/** RFC 8985 7.4: what an ACK says about the loss probe. */
void tcp_tlp_ack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, const struct tcp_acked *a);
void tcp_recovery_timeout(struct engine *e, struct tcp_conn *c);
/** Proportional rate reduction begins with this ACK: ssthresh is set, what is in flight counts. */
void tcp_prr_begin(const struct tcp_conn *c, struct tx_flight *f, const struct tcp_acked *a);
/** The MSS shrank: what is in flight and too large is sent again in pieces. */
void tcp_recovery_mtu(struct engine *e, struct tcp_conn *c);
/** The reordering timer of RACK fired (RFC 8985 6.3). */
void tcp_recovery_reorder_timeout(struct engine *e, struct tcp_conn *c);
static inline uint32_t tcp_flight(const struct tcp_conn *c)
{
    return c->snd_nxt - c->snd_una;
}

/** Bytes queued and never sent. */
static inline uint64_t tcp_unsent(const struct tcp_conn *c)
{
    return c->s.tx.tail - c->s.tx.head - (tcp_flight(c) - !!(c->flags & TF_FIN_SENT));
}

/* tcp_timer.c */
void tcp_timer_arm(struct engine *e, struct tcp_conn *c);
/** (Re)start the retransmission timer for what is in flight, or stop it. */
void tcp_rto_restart(struct engine *e, struct tcp_conn *c);
/** New data went out: the loss probe is due so long after it (RFC 8985 7.2). */
void tcp_probe_restart(struct engine *e, struct tcp_conn *c);
void tcp_keepalive_restart(struct engine *e, struct tcp_conn *c);
void tcp_timer_node(struct engine *e, uint32_t node);
/** RFC 6298 2: one round-trip sample. */
void tcp_rtt_sample(struct engine *e, struct tcp_conn *c, uint64_t rtt_us);
uint32_t tcp_rto_now(const struct engine *e, const struct tcp_conn *c);

/* tcp_listen.c */
struct tcp_listener *tcp_listener_find(struct engine *e, const struct ip_addr *local, uint16_t port);
void tcp_listener_hash(struct engine *e, struct tcp_listener *l);
void tcp_listener_unhash(struct engine *e, struct tcp_listener *l);
void tcp_listen_input(struct engine *e, struct tcp_listener *l, const struct flow_key *k, uint32_t hash,
                      struct tcp_seg *s, const struct rx_pkt *rp);
void tcp_req_input(struct engine *e, struct tcp_req *r, struct tcp_seg *s, const struct rx_pkt *rp);
/** A connection from a request that has no record, in the accept queue. NULL: no record for it (counted). */
struct tcp_conn *tcp_accept_new(struct engine *e, struct tcp_listener *l, const struct tcp_req *r);
void tcp_req_timer(struct engine *e, uint32_t index);
/** An ICMP error about a SYN-ACK: a peer that can't be reached frees its place. */
void tcp_req_icmp(struct engine *e, struct tcp_req *r, const struct icmp_report *report);
void tcp_req_free(struct engine *e, struct tcp_req *r);

/* tcp_cookie.c: a request whose key, irs and options are known. */
/** Gives it the cookie as iss and keeps those options that can be kept. Returns the timestamp to send. */
uint32_t tcp_cookie_make(struct engine *e, struct tcp_listener *l, struct tcp_req *r);
/** Does this ACK bring back a cookie of `l`? Fills in the request (whose key is set) that it stands for. */
bool tcp_cookie_check(struct engine *e, const struct tcp_listener *l, struct tcp_req *r,
                      const struct tcp_seg *s);

/* tcp_fastopen_key.c */
#define TCP_FASTOPEN_COOKIE 8u /* bytes of the cookies that we give */
/** The cookie that a listener (NULL: it is gone) gives out. */
void tcp_fastopen_cookie(const struct engine *e, const struct tcp_listener *l, const struct flow_key *k,
                         uint8_t cookie[TCP_FASTOPEN_COOKIE]);
enum fastopen_cookie { FO_COOKIE_BAD, FO_COOKIE_OLD, FO_COOKIE_GOOD };
/** What is the cookie on this SYN worth? */
enum fastopen_cookie tcp_fastopen_check(const struct engine *e, const struct tcp_listener *l,
                                        const struct flow_key *k, const struct tcp_seg *s);

/* tcp_fastopen.c */
/** A SYN for a listener. True: it was dealt with; else go on, the request says whether to send a cookie. */
bool tcp_fastopen_syn(struct engine *e, struct tcp_listener *l, struct tcp_req *r, const struct tcp_seg *s);
/** The handshake of a connection with TF_FASTOPEN is over, for good or bad. */
void tcp_fastopen_over(struct engine *e, struct tcp_conn *c, bool reset);
void tcp_fastopen_listener_gone(struct engine *e, const struct tcp_listener *l);
/** The SYN-ACK of a connection with TF_FASTOPEN waits for its ACK. */
static inline bool tcp_fastopen_pending(const struct tcp_conn *c)
{
    return c->flags & TF_FASTOPEN;
}

/* tcp_fastopen_client.c */
size_t tcp_fastopen_bytes(void);
/** At connect. True: the SYN waits for the first data. */
bool tcp_fastopen_connect(struct engine *e, struct tcp_conn *c);
/** Bytes of data that may ride on the SYN; 0: there is no cookie. */
uint32_t tcp_fastopen_room(struct engine *e, struct tcp_conn *c);
/** Send the SYN that waited, with what data there is. */
void tcp_fastopen_start(struct engine *e, struct tcp_conn *c);
/** Cookie, or the request for one, and data of a SYN. */
struct tcp_reply;
void tcp_fastopen_option(struct engine *e, struct tcp_conn *c, struct tcp_reply *r);
/** Nobody answered a SYN with data. */
void tcp_fastopen_lost(struct engine *e, struct tcp_conn *c);
/** A time-out of an open connection: is something on the way swallowing what follows data on a SYN? */
void tcp_fastopen_timeout(struct engine *e, struct tcp_conn *c);
/** Our SYN is acknowledged, with or without the data on it. */
void tcp_syn_acked(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s);

/* tcp_tw.c */
void tcp_tw_enter(struct engine *e, struct tcp_conn *c);
void tcp_tw_free(struct engine *e, uint32_t index);
int tcp_tw_ack(struct engine *e, uint32_t index);
void tcp_tw_timer(struct engine *e, uint32_t index);
/** @return true when the segment was dealt with; false: it is a SYN that may open a new connection, and
 * `*iss` is the sequence number to start with. The record is gone then. */
bool tcp_tw_input(struct engine *e, uint32_t index, const struct tcp_seg *s, uint32_t *iss);

/** May an outgoing connection take over this TIME_WAIT record (RFC 6191 4)? */
bool tcp_tw_reusable(const struct engine *e, sock_id id);
/** Take it over: frees it and returns the sequence number to start with. */
uint32_t tcp_tw_reuse(struct engine *e, sock_id id);

/* tcp_orphan.c */
/** The application is gone. False: too many, so it was reset. */
bool tcp_orphan_enter(struct engine *e, struct tcp_conn *c);
/** Bytes of an orphan were acknowledged. */
void tcp_orphan_acked(struct engine *e, uint32_t bytes);
/** An orphan ends. */
void tcp_orphan_over(struct engine *e, const struct tcp_conn *c);
/** An orphan's FIN was acknowledged and the peer's is awaited. False: it isn't, the record is gone. */
bool tcp_orphan_fin_wait2(struct engine *e, struct tcp_conn *c);

/* tcp_user.c */
int tcp_open(struct engine *e, int sid, uint32_t slot, sock_id *ret);
int tcp_user_connect(struct engine *e, struct tcp_conn *c, const struct ip_ep *remote);
int tcp_user_shutdown(struct engine *e, struct tcp_conn *c, uint32_t how);
/** The application let go of it: FIN, RST or free, as RFC 9293 3.10.4 and RFC 1122 4.2.2.13 say. */
void tcp_user_close(struct engine *e, struct tcp_conn *c);
/** After sock_pull(): new data to send, or room was made. */
void tcp_kick(struct engine *e, struct tcp_conn *c);

#endif

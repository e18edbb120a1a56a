/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP connection record. Lies in the arena: no pointer, descriptor or libc object. At most 512 bytes
 * (checked below), and an idle connection holds nothing else.
 *
 * What is of use only for a while lies in records of bounded pools, taken when it is first needed and given
 * back afterwards:
 *   tx_flight  while something is in flight, and a little longer (tcp_flight.h)
 *   cc_path    while it is paced (cc_path.h)
 *   rx_reasm   while there is a hole, or a duplicate to report (tcp_reass.c)
 * New state belongs here only if an idle connection can't do without it. State of congestion control that may
 * be forgotten when nothing is in flight belongs into tx_flight; an algorithm that must keep more than cc[]
 * over idle times gets a pool of its own beside these (an index here, NIL while the algorithm isn't in use).
 */
#ifndef ENGINE_CONN_H
#define ENGINE_CONN_H

#include "daemon/engine/engine_int.h"

/** RFC 9293 3.3.2. LISTEN, half-open and TIME-WAIT have records of their own (tcp.h). */
enum tcp_state {
    TCPS_CLOSED = 0, /* not opened yet, or over */
    TCPS_SYN_SENT,
    TCPS_SYN_RCVD, /* by simultaneous open, or a request that was just promoted */
    TCPS_ESTABLISHED,
    TCPS_FIN_WAIT_1,
    TCPS_FIN_WAIT_2,
    TCPS_CLOSE_WAIT,
    TCPS_CLOSING,
    TCPS_LAST_ACK,
    TCPS_COUNT
};

/** Options that accepted connections inherit from their listener. */
struct tcp_options_set {
    uint32_t opts; /* SO_F_* */
    uint16_t linger_s;
    uint16_t keep_idle_s; /* 0: the engine's default */
    uint16_t keep_intvl_s;
    uint8_t keep_count;
    uint8_t cc; /* congestion control id */
    uint32_t user_timeout_ms;
    uint32_t pacing_max; /* SO_MAX_PACING_RATE, bytes a second; 0: none */
    uint16_t user_mss;   /* TCP_MAXSEG, 0: none */
    uint8_t rcv_log2, snd_log2;
    uint8_t syn_count;   /* TCP_SYNCNT: times a SYN or SYN-ACK is sent again; 0: the engine's default */
    uint8_t defer;       /* TCP_DEFER_ACCEPT: SYN-ACKs until a connection without data is taken; 0: at once */
    uint8_t fin_wait2_s; /* TCP_LINGER2: 0: the engine's default; TCP_FIN_WAIT2_NONE: not at all */
    uint8_t fastopen;    /* TCP_FASTOPEN, on a listener: connections that may wait for the handshake's end */
};

#define TCP_FIN_WAIT2_NONE UINT8_MAX

/* tcp_conn.flags */
#define TF_TS              (1u << 0) /* timestamps agreed */
#define TF_WSCALE          (1u << 1)
#define TF_SACK            (1u << 2)
#define TF_ACK_NOW         (1u << 3) /* an ACK must go out */
#define TF_FIN_QUEUED      (1u << 4) /* the application has finished sending: FIN after s.tx.tail */
#define TF_FIN_SENT        (1u << 5)
#define TF_FIN_ACKED       (1u << 6)
#define TF_FIN_RCVD        (1u << 7)  /* the peer's FIN has been reached */
#define TF_FIN_EARLY       (1u << 8)  /* a FIN lies beyond a hole, at rx_reasm.fin_seq */
#define TF_HASHED          (1u << 9)  /* in the connection table */
#define TF_TX_LIST         (1u << 10) /* on the output list */
#define TF_EMBRYO          (1u << 11) /* waits in an accept queue */
#define TF_ORPHAN          (1u << 12) /* closed by the application, still speaking */
#define TF_RX_SHUT         (1u << 13) /* shutdown(SHUT_RD): data after our FIN is answered with RST */
#define TF_TS_VALID        (1u << 14) /* ts_recent holds a value */
#define TF_REORDER         (1u << 15) /* reordering was seen: RACK waits */
#define TF_DSACK           (1u << 16) /* rx_reasm.dsack_* are to be reported */
#define TF_CWND_FULL       (1u << 17) /* the window limited sending since the last ACK */
#define TF_OVERRIDE        (1u << 20) /* a small segment may go out: it has waited long enough */
#define TF_TLP             (1u << 18) /* a tail loss probe must go out */
#define TF_ACK_PUSHED      (1u << 19) /* the current segment carries data or FIN: an ACK is owed */
#define TF_FLUSH           (1u << 21) /* TCP_NODELAY was set: what is queued goes, whatever holds it */

#define TF_LIMIT_SHIFT     22u /* enum tcp_limit, since limit_tick */
#define TF_LIMIT_MASK      (3u << TF_LIMIT_SHIFT)
#define TF_RATE_APP        (1u << 24) /* rate_bytes were all that the application had to send */
#define TF_RARE            (1u << 25) /* the connection's tcp_rare is in use */
#define TF_MORE            (1u << 27) /* MSG_MORE: more will follow what is queued */
#define TF_ECE             (1u << 26) /* congestion marks came: every ACK echoes them until CWR comes */

#define TF_FASTOPEN        (1u << 31) /* SYN_RCVD by Fast Open: data may pass already */
#define TF_FASTOPEN_OPT    (1u << 30) /* the SYN, or SYN-ACK, carries a Fast Open option */
#define TF_SYN_DATA        (1u << 29) /* the SYN carried data, up to snd_nxt */
#define TF_SYN_DEFERRED    (1u << 28) /* SYN_SENT, but the SYN waits for data (TCP_FASTOPEN_CONNECT) */

/* tcp_conn.ecn (RFC 3168, tcp_ecn.c) */
#define ECN_SEND           (1u << 0) /* agreed (offered, in SYN_SENT): our data says that it can be marked */
#define ECN_TAKE           (1u << 1) /* marks of the peer's data are to be echoed */
#define ECN_CWR            (1u << 2) /* the next new data says that the window was reduced */
#define ECN_SEEN           (1u << 3) /* data of the peer's came that could be marked */

/** Congestion state, as Linux names it. */
enum ca_state {
    CA_OPEN = 0,
    CA_CWR, /* the window is reduced for a congestion mark, nothing was lost */
    CA_RECOVERY,
    CA_LOSS
};

/** What rto_at_us means. */
enum rto_mode { RTO_OFF = 0, RTO_REXMIT, RTO_PERSIST, RTO_REORDER, RTO_TLP };

struct tcp_conn {
    _Alignas(64) struct sock s; /* so that no record begins within another's line */

    uint8_t state : 4;         /* enum tcp_state; written by tcp_state_set() only */
    uint8_t ca_state : 4;      /* enum ca_state */
    uint8_t reo_wnd_mult;      /* RFC 8985 6.2 step 4 */
    uint8_t rto_mode : 4;      /* enum rto_mode */
    uint8_t ecn : 4;           /* ECN_* */
    uint8_t backoff;           /* consecutive time-outs */
    uint32_t flags;            /* TF_* */
    uint32_t hash;             /* in the connection table */
    uint32_t tx_next, tx_prev; /* output list: connection indices */
    uint32_t acc_next;         /* accept queue: connection index */
    uint32_t listener;         /* index, with TF_EMBRYO or TF_FASTOPEN */
    uint32_t flight;           /* tx_flight index, NIL: none */
    uint32_t reasm;            /* rx_reasm index, NIL: none */
    uint32_t path;             /* cc_path index, NIL: none */

    /* Send sequence space (RFC 9293 3.3.1). s.tx.head corresponds to snd_una, s.tx.tail to what is queued. */
    uint32_t iss, snd_una, snd_nxt;
    uint32_t snd_wnd, snd_wl1, snd_wl2;
    uint32_t snd_wnd_max; /* largest window seen: SWS avoidance */
    uint32_t snd_sml;     /* end of the last small segment sent (Minshall's Nagle) */
    uint16_t mss;         /* payload bytes of a full segment, options taken off */
    uint16_t peer_mss;
    uint16_t pmtu_changes; /* pmtu_table.changes when mss was last found */
    uint8_t snd_wscale : 4, rcv_wscale : 4;
    uint8_t reo_wnd_persist; /* RFC 8985 6.2 step 4: recoveries until reo_wnd_mult is 1 again */
    uint8_t quick_acks;      /* ACKs still to be sent at once (tcp_delack.c) */
    uint8_t probes;          /* retransmissions or probes in a row that nothing answered */
    uint32_t cwnd, ssthresh;
    uint32_t cwnd_full_end; /* how long TF_CWND_FULL and tx_flight.flight_max hold: snd_nxt at their time */
    uint32_t fin_end;       /* with TF_FIN_QUEUED: low half of the FIN's stream offset, the end of all data */

    /* Receive sequence space. s.rx.tail corresponds to rcv_nxt. */
    uint16_t rcv_mss;   /* size of the peer's full segments: delayed ACK counts in these */
    uint16_t rcv_last;  /* size of its last one */
    uint64_t rx_notify; /* as the slot says it: rx_head from which the application kicks */
    uint32_t irs, rcv_nxt;
    uint32_t rcv_adv;        /* right edge that was advertised */
    uint32_t rcv_wup;        /* rcv_nxt in the last ACK sent */
    uint32_t ato_us;         /* how long an ACK may wait now; 0: no data came yet */
    uint32_t data_rcvd_tick; /* when data last arrived, in 1,024 us */

    /* Timestamps (RFC 7323). */
    uint32_t tsoff;
    uint32_t ts_recent;
    uint64_t ts_recent_us;

    /* Round-trip time (RFC 6298): srtt scaled by 8, rttvar by 4. */
    uint32_t srtt8_us, rttvar4_us, rto_us;
    uint32_t min_rtt_us;

    uint32_t cc[8]; /* the congestion control algorithm's own */

    struct tcp_options_set o;
    uint32_t oow_ack_ms; /* last ACK for a segment outside the window; 0: none */

    /* Timers: absolute times, 0: off. */
    uint64_t rto_at_us; /* see rto_mode */
    uint64_t delack_at_us;
    uint64_t keep_at_us;       /* keep-alive; FIN_WAIT_2 or orphan limit when TF_ORPHAN */
    uint64_t sent_us;          /* last data segment sent: idle restart */
    uint64_t rcvd_us;          /* last segment received: keep-alive */
    uint64_t first_unacked_us; /* when the oldest unanswered transmission began: user time-out */

    /* Counters for people (tcp_tally.h). */
    uint64_t delivered;
    uint32_t total_retrans;
    uint32_t segs_in, segs_out;
    uint32_t data_segs_in, data_segs_out;
    uint32_t busy_ticks;          /* LIMIT_NETWORK so far, in 1,024 us as limit_tick */
    uint32_t limit_tick;          /* when what TF_LIMIT_MASK says began */
    uint32_t rate_bytes, rate_us; /* latest measurement of the delivery rate; rate_us 0: none */
};

/* A power of two, so that an index is a shift away. */
static_assert(sizeof(struct tcp_conn) == 512, "the record of an idle connection stays small");

/** The record whose first member `s` is: of SK_TCP only. */
static inline struct tcp_conn *tcp_conn_of(struct sock *s)
{
    return (struct tcp_conn *)(void *)s;
}
static inline const struct tcp_conn *tcp_conn_of_const(const struct sock *s)
{
    return (const struct tcp_conn *)(const void *)s;
}

#endif

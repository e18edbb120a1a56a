/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Congestion control: the table of algorithms, and what an algorithm is told. Windows are in bytes.
 *
 *   cc.c         the table; idle restart (RFC 2861)   cc_newreno.c  NewReno (RFC 5681, 6582)
 *   cc_cubic.c   CUBIC (RFC 9438)                     cc_hystart.c  HyStart++ (RFC 9406) for it
 *   cc_bbr.c     BBR version 3, with cc_path.h
 *
 * When to reduce is loss recovery's business (tcp_recovery.c); by how much, and how to grow, is the
 * algorithm's.
 */
#ifndef ENGINE_CC_H
#define ENGINE_CC_H

#include <stdbool.h>
#include <stdint.h>

struct engine;
struct tcp_conn;
struct tx_seg;
struct tx_rate;

/* Congestion control ids: index into the table, word of the setting tcp.congestion. */
enum cc_id { CC_CUBIC = 0, CC_RENO, CC_BBR, CC_COUNT };

/** One acknowledgment. */
struct cc_ack {
    uint64_t now_us;
    uint32_t acked;  /* bytes acknowledged while the window was used up */
    uint32_t rtt_us; /* round-trip sample, 0: none */
};

struct cc_ops {
    const char *name; /* at most 8 bytes, so that it fits the value of an option */
    /** Start on a connection, new or not. The state of another algorithm may lie in c->cc. */
    void (*init)(struct engine *e, struct tcp_conn *c);
    /** Not called while recovery governs the window; not at all with control(). */
    void (*on_ack)(struct tcp_conn *c, const struct cc_ack *a);
    /** Congestion: returns the new slow start threshold. */
    uint32_t (*ssthresh)(struct engine *e, struct tcp_conn *c);
    /** The peer echoes congestion marks, in place of ssthresh(); NULL: ssthresh(). With CA_CWR already. */
    void (*on_echo)(struct engine *e, struct tcp_conn *c);
    /** A time-out, after ssthresh(). */
    void (*on_rto)(struct engine *e, struct tcp_conn *c);
    /** The last ssthresh() was for nothing; cwnd and ssthresh have been restored. */
    void (*on_undo)(struct engine *e, struct tcp_conn *c);

    /* An algorithm with a model of the path; NULL otherwise. With a path record only, but on_send(). */
    /** Every ACK, in recovery too: sets cwnd and the pacing rate from the sample (cc_path.h). */
    void (*control)(struct engine *e, struct tcp_conn *c);
    void (*on_lost)(struct engine *e, struct tcp_conn *c, const struct tx_seg *t, const struct tx_rate *r);
    /** Before sending. */
    void (*on_send)(struct engine *e, struct tcp_conn *c);
    /** Another algorithm takes over, or the connection is over. */
    void (*release)(struct engine *e, struct tcp_conn *c);
};

extern const struct cc_ops cc_newreno, cc_cubic, cc_bbr;

const struct cc_ops *cc_by_id(uint8_t id);
/** The algorithm of a connection may change. */
void cc_change(struct engine *e, struct tcp_conn *c, uint8_t id);
/** The connection is over. */
void cc_end(struct engine *e, struct tcp_conn *c);
/** @param name  the name's bytes, the first in the lowest 8 bits, padded with zeros. CC_COUNT: unknown */
uint8_t cc_find(uint64_t name);
/** The same form of an algorithm's name. */
uint64_t cc_name(uint8_t id);

/** Initial window (RFC 6928). */
uint32_t cc_initial_window(const struct tcp_conn *c);
/** RFC 2861: what the window of old is worth after an idle time. Call before data is sent. */
void cc_restart_after_idle(const struct engine *e, struct tcp_conn *c);

/** HyStart++'s state (RFC 9406 4.2, where the names are from). */
struct hystart {
    uint32_t window_end;         /* the round ends when this is acknowledged */
    uint32_t last_round_min_rtt; /* us; UINT32_MAX: not known, as all of them */
    uint32_t current_round_min_rtt;
    uint32_t css_baseline_min_rtt;
    uint8_t rtt_sample_count;
    uint8_t css_rounds; /* completed in CSS; */
    bool css;           /* Conservative Slow Start */
};
void hystart_init(struct hystart *h, const struct tcp_conn *c);
/** One ACK of slow start: bytes to add to cwnd. *done: slow start is over. */
uint32_t hystart_ack(struct hystart *h, const struct tcp_conn *c, const struct cc_ack *a, bool *done);

#endif

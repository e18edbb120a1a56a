/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Congestion control: the table of algorithms, and what an algorithm is told. Windows are in bytes.
 *
 *   cc.c         the table; idle restart (RFC 2861)   cc_newreno.c  NewReno (RFC 5681, 6582)
 *   cc_cubic.c   CUBIC (RFC 9438)                     cc_hystart.c  HyStart++ (RFC 9406) for it
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

/* Congestion control ids: index into the table, word of the setting tcp.congestion. */
enum cc_id { CC_CUBIC = 0, CC_RENO, CC_COUNT };

/** One acknowledgment. */
struct cc_ack {
    uint64_t now_us;
    uint32_t acked;  /* bytes acknowledged while the window was used up */
    uint32_t rtt_us; /* round-trip sample, 0: none */
};

struct cc_ops {
    const char *name; /* at most 8 bytes, so that it fits the value of an option */
    /** Start on a connection, new or not. The state of another algorithm may lie in c->cc. */
    void (*init)(struct tcp_conn *c);
    /** Not called while recovery governs the window. */
    void (*on_ack)(struct tcp_conn *c, const struct cc_ack *a);
    /** Congestion: returns the new slow start threshold. */
    uint32_t (*ssthresh)(struct tcp_conn *c, uint64_t now_us);
    /** A time-out, after ssthresh(). */
    void (*on_rto)(struct tcp_conn *c);
    /** The last ssthresh() was for nothing; cwnd and ssthresh have been restored. */
    void (*on_undo)(struct tcp_conn *c);
};

extern const struct cc_ops cc_newreno, cc_cubic;

const struct cc_ops *cc_by_id(uint8_t id);
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sender knows of the path beyond its round-trip time: how fast data is delivered, and when the next
 * may go. Records of a bounded pool: a connection holds one while it is paced, which is while its algorithm
 * asks for it (BBR) or its application has set SO_MAX_PACING_RATE. One that has had nothing in flight for
 * PATH_IDLE_US gives it up when another needs it; what it knew is too old then.
 *
 *   cc_path.c   the records     cc_rate.c  delivery-rate samples (draft-ietf-ccwg-bbr 4.1)
 *   cc_pace.c   when to send    cc_bbr.c   BBR version 3
 */
#ifndef ENGINE_CC_PATH_H
#define ENGINE_CC_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/wheel.h"

struct engine;
struct tcp_conn;
struct tx_seg;

#define PATH_IDLE_US  UINT64_C(10000000)
#define RATE_INFINITE UINT64_MAX
#define INF32         UINT32_MAX /* a volume without limit */

/** What is kept with each segment in flight of such a connection; same index as its tx_seg. */
struct tx_rate {
    uint64_t delivered;    /* conn.delivered when it was sent, and so on */
    uint64_t delivered_us; /* 0: already delivered */
    uint64_t first_sent_us;
    uint64_t lost;
    uint32_t in_flight; /* this segment included */
    bool app_limited;
};

/** One delivery-rate sample (draft 4.1.2.1.3); built while an ACK is processed. */
struct rate_sample {
    uint64_t rate; /* bytes a second, 0: none */
    uint64_t prior_delivered, prior_us;
    uint64_t delivered; /* over the sampling interval */
    uint64_t lost;      /* since the newest segment delivered was sent */
    uint64_t sent_us;   /* of that segment */
    uint32_t end_seq;
    uint32_t in_flight; /* when it was sent */
    uint32_t newly_acked;
    uint32_t rtt_us; /* 0: none */
    uint64_t send_elapsed, ack_elapsed;
    bool app_limited;
};

/* Names as in the draft, section 2, but for the states of the machine. */
enum bbr_state { BBR_STARTUP, BBR_DRAIN, BBR_DOWN, BBR_CRUISE, BBR_REFILL, BBR_UP, BBR_PROBE_RTT };
enum bbr_ack_phase {
    ACKS_INIT,
    ACKS_REFILLING,
    ACKS_PROBE_STARTING,
    ACKS_PROBE_FEEDBACK,
    ACKS_PROBE_STOPPING
};

struct bbr {
    uint8_t state;      /* enum bbr_state */
    uint8_t ack_phase;  /* enum bbr_ack_phase */
    uint8_t undo_state; /* state that a loss ended: BBR_STARTUP or BBR_UP; BBR_CRUISE: none */
    uint8_t prior_ca;   /* enum ca_state at the last ACK */
    bool round_start, loss_round_start;
    bool is_loss_in_round, is_mark_in_round; /* a mark counts as a loss, too */
    bool full_bw_reached, full_bw_now;
    uint8_t full_bw_count;
    bool idle_restart;
    bool is_bw_probe_sample;
    bool prev_probe_too_high, prev_probe_precautionary;
    bool probe_rtt_expired, probe_rtt_round_done;
    uint8_t loss_events; /* discontiguous ranges lost in this round */
    uint8_t bw_probe_up_rounds;
    uint8_t extra_acked_slot; /* of extra_acked[] that is being filled */
    uint8_t extra_acked_rounds;
    uint32_t rounds_since_probe_up;
    uint32_t round_count, drain_start_round;
    uint32_t last_lost_end; /* sequence number */
    uint64_t next_round_delivered, loss_round_delivered;
    uint64_t loss_round_lost; /* cc_path.lost where the round for losses begins */

    uint64_t max_bw_slot[2]; /* best of the cycle before and of this one */
    uint64_t max_bw, bw, bw_shortterm, bw_latest, full_bw;
    uint32_t inflight_longterm, inflight_shortterm, inflight_latest, max_inflight;
    uint32_t bw_probe_up_acked, probe_up_acked_per_inc;
    uint32_t extra_acked[2], extra_acked_delivered;
    uint32_t prior_cwnd;
    uint32_t undo_inflight_shortterm, undo_inflight_longterm;
    uint64_t undo_bw_shortterm;
    uint64_t extra_acked_start_us;

    uint32_t min_rtt_us, probe_rtt_min_us; /* UINT32_MAX: not known */
    uint64_t min_rtt_stamp_us, probe_rtt_min_stamp_us, probe_rtt_done_us;
    uint64_t cycle_us;
    uint32_t bw_probe_wait_us;
    uint16_t pacing_gain; /* in hundredths, as cwnd_gain */
    uint16_t cwnd_gain;
};

struct cc_path {
    uint32_t conn;               /* index of the owner; NIL: free */
    uint32_t lru_next, lru_prev; /* all that are held, the one that sent longest ago first */
    uint32_t quantum;            /* bytes to send at once */
    uint64_t rate;               /* of pacing, bytes a second; RATE_INFINITE: none */
    uint64_t next_ns;            /* when the next may go */
    uint64_t wake_us;            /* timer; 0: off */
    bool behind;                 /* pacing held something back, which may go late: see PACE_CREDIT_NS */
    uint64_t used_us;            /* last sending */

    uint64_t delivered_us, first_sent_us;
    uint64_t app_limited; /* delivered beyond this ends the app-limited phase; 0: not limited */
    uint64_t lost;        /* bytes ever marked as lost */
    struct rate_sample rs;
    struct bbr bbr;
};

/* ---- Records ----------------------------------------------------------------------------------------- */

/** Give `c` a record if it has none. False: none is free (counted). */
bool path_get(struct engine *e, struct tcp_conn *c);
void path_put(struct engine *e, struct tcp_conn *c);
const char *path_check(const struct engine *e);

/* ---- Samples and pacing: for connections with a record ------------------------------------------------- */

void rate_sent(struct engine *e, struct tcp_conn *c, uint32_t seg);
void rate_split(struct engine *e, uint32_t seg, uint32_t rest);
void rate_ack_begin(struct engine *e, const struct tcp_conn *c);
/** `len` bytes of the segment are delivered; c->delivered counts them already. */
void rate_delivered(struct engine *e, const struct tcp_conn *c, uint32_t seg, uint32_t len);
void rate_lost(struct engine *e, struct tcp_conn *c, uint32_t seg);
/** After all segments of an ACK. */
void rate_ack_end(struct engine *e, const struct tcp_conn *c, uint64_t rtt_us);
/** Called when the connection has sent all it has. */
void rate_app_limited(struct engine *e, const struct tcp_conn *c);

/* The timer's grain: what is due within it goes at once, or a coarse timer would slow the connection down. */
#define PACE_SLACK_NS  ((UINT64_C(1) << WHEEL_TICK_SHIFT) * 1000)

/*
 * A timer that fires late, because the daemon had to wait for its CPU, is made up for as far as this: else a
 * busy machine would send below the rate, and BBR take what it measures then for the path's. What was sent
 * never exceeds what a timely sender would have sent by more than the grain, so no queue grows for it.
 */
#define PACE_CREDIT_NS UINT64_C(10000000)

/** May something be sent now? If not, the timer is set. */
bool pace_ok(struct engine *e, struct tcp_conn *c);
/** Most bytes to send at once. */
uint32_t pace_quantum(const struct engine *e, const struct tcp_conn *c);
void pace_sent(struct engine *e, struct tcp_conn *c, uint32_t bytes);
/** Something else than the rate holds the connection back now: it has no more to send, or may not. */
static inline void pace_rest(struct cc_path *p)
{
    p->behind = false;
}
/** The rate has changed: BBR's (RATE_INFINITE: has none), bounded by SO_MAX_PACING_RATE. */
void pace_set_rate(struct engine *e, struct tcp_conn *c, uint64_t rate);
/** The timer may have fired. */
void pace_timer(struct engine *e, struct tcp_conn *c);
/** SO_MAX_PACING_RATE was set or inherited; 0: none. */
void pace_option(struct engine *e, struct tcp_conn *c);

#endif

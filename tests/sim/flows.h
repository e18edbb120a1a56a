/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flows through one bottleneck: connections from host 0 to host 1 that send as much as they can, each on a
 * path of its own length. What is measured goes into tables (sim_flows.c).
 */
#ifndef TESTS_SIM_FLOWS_H
#define TESTS_SIM_FLOWS_H

#include "tests/sim/net.h"

#define FLOWS_MAX 16u

/** Something that happens once, in the middle of the measured time. */
enum flows_event {
    EV_NONE,
    EV_LINK_DOWN,   /* nothing passes for event_ms, in both directions */
    EV_CLOCK_JUMP,  /* time goes on by event_ms at once, as after a suspended virtual machine */
    EV_READERS_STOP /* the receiving applications read nothing for event_ms */
};

struct flows_plan {
    const char *name;
    const char *cc[FLOWS_MAX];    /* algorithm of each flow; the first NULL ends the list */
    uint32_t extra_us[FLOWS_MAX]; /* added to the flow's round trip */
    uint32_t start_ms[FLOWS_MAX]; /* when it starts, beside a small delay for each */
    uint64_t rate_bps;
    uint32_t rtt_us;
    uint32_t queue_pct;       /* of the bottleneck, in hundredths of rate * rtt */
    uint32_t mark_pct;        /* ECN mark threshold likewise; 0: no marks */
    uint32_t loss_ppm;        /* beside what the queue drops, in both directions */
    uint32_t seconds;         /* of the run; the last three quarters are measured */
    uint8_t bbr_loss_percent; /* 0: as usual */
    uint32_t stall_us; /* the hosts' machine is busy: again and again neither runs, for at most so long */
    enum flows_event event;
    uint32_t event_ms;
    uint8_t rcvbuf_log2;       /* 0: large enough for everything */
    uint32_t txseg_max;        /* 0: as usual. Records for segments in flight, all flows together */
    double min_jain, min_util; /* floors that the run must reach; 0: none */
    bool no_resend;            /* marks hold the queue: nothing is sent again, in the whole run */
};

struct flows_result {
    unsigned flows;
    double goodput_mbps[FLOWS_MAX]; /* of each flow, as the receiving application sees it */
    double total_mbps;
    double util;         /* share of what the bottleneck could carry as payload */
    double jain;         /* Jain's index: 1 when all get the same, 1 / flows when one gets all */
    double retrans;      /* share of segments that were sent again */
    double queue_ms;     /* mean of the time in the queue */
    double queue_max_ms; /* in the whole run */
    double recovery_ms;  /* after an event: until 90 % of the rate before it are reached again; -1: never */
    uint64_t marked;
    uint64_t resent; /* segments, in the whole run */
    const char *bad; /* what was wrong, NULL: nothing */
};

void flows_run(const struct flows_plan *plan, uint64_t seed, struct flows_result *ret);

#endif

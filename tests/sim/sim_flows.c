/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Throughput, fairness and recovery of several flows over one bottleneck, as tables that are kept in the tree
 * (tests/sim/snapshots) and reviewed like code.
 *
 *     sim_flows TABLE [SNAPSHOT [--update]]
 *
 * Without SNAPSHOT the table is printed. With it the run fails where a figure has moved by more than its
 * tolerance, or a floor of the plan isn't reached (Jain's index 0.9 among equals, say). --update writes the
 * snapshot anew: review what changed, and say why in the commit.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/flows.h"

#define SEED     1u
#define ROWS_MAX 40u
#define LINE_MAX 200u

#define X2(a)    a, a
#define X4(a)    X2(a), X2(a)
#define X8(a)    X4(a), X4(a)
#define MBPS     UINT64_C(1000000)

/* Equals: the same algorithm, the same path. Shallow and deep queues. */
#define EQUAL(title, rate, rtt, queue, ...)                                                                  \
    {                                                                                                        \
        .name = title, .cc = {__VA_ARGS__}, .rate_bps = (rate)*MBPS, .rtt_us = (rtt)*1000,                   \
        .queue_pct = (queue), .seconds = 60, .min_jain = 0.9, .min_util = 0.85                               \
    }
#define EQUALS(A)                                                                                            \
    EQUAL("2 " A ", 20 ms, queue 1 BDP", 20, 20, 100, X2(A)),                                                \
        EQUAL("4 " A ", 20 ms, queue 1 BDP", 40, 20, 100, X4(A)),                                            \
        EQUAL("8 " A ", 20 ms, queue 1 BDP", 40, 20, 100, X8(A)),                                            \
        EQUAL("4 " A ", 40 ms, queue 4 BDP", 20, 40, 400, X4(A))

static const struct flows_plan equals[] = {EQUALS("reno"), EQUALS("cubic"), EQUALS("bbr"), {.name = NULL}};

#define SINGLE(title, a, rate, rtt, queue, loss)                                                             \
    {                                                                                                        \
        .name = title, .cc = {a}, .rate_bps = (rate)*MBPS, .rtt_us = (rtt)*1000, .queue_pct = (queue),       \
        .loss_ppm = (loss), .seconds = 40                                                                    \
    }
#define SINGLES(A)                                                                                           \
    SINGLE("1 " A ", 100 Mb/s, 10 ms", A, 100, 10, 100, 0),                                                  \
        SINGLE("1 " A ", 20 Mb/s, 100 ms", A, 20, 100, 100, 0),                                              \
        SINGLE("1 " A ", 20 Mb/s, 40 ms, queue 1/5 BDP", A, 20, 40, 20, 0),                                  \
        SINGLE("1 " A ", 20 Mb/s, 20 ms, 0.1 % lost", A, 20, 20, 100, 1000),                                 \
        SINGLE("1 " A ", 20 Mb/s, 20 ms, 1 % lost", A, 20, 20, 100, 10000)

static const struct flows_plan singles[] = {
    SINGLES("reno"), SINGLES("cubic"), SINGLES("bbr"), {.name = NULL}};

/* 200 Mb/s: many segments in flight, so that each threshold in percent is met by many losses. On the busy
 * machine what runs late must not be taken for the path's fault. */
#define FAST(title, a, rtt, loss, stall)                                                                     \
    {                                                                                                        \
        .name = title, .cc = {a}, .rate_bps = 200 * MBPS, .rtt_us = (rtt)*1000, .queue_pct = 100,            \
        .loss_ppm = (loss), .stall_us = (stall), .seconds = 20                                               \
    }
#define FASTS(A)                                                                                             \
    FAST("1 " A ", 1 ms, 1 % lost", A, 1, 10000, 0), FAST("1 " A ", 20 ms", A, 20, 0, 0),                    \
        FAST("1 " A ", 20 ms, 0.1 % lost", A, 20, 1000, 0),                                                  \
        FAST("1 " A ", 20 ms, 1 % lost", A, 20, 10000, 0),                                                   \
        FAST("1 " A ", 20 ms, 5 % lost", A, 20, 50000, 0), FAST("1 " A ", 100 ms", A, 100, 0, 0),            \
        FAST("1 " A ", 100 ms, 1 % lost", A, 100, 10000, 0), FAST("1 " A ", 20 ms, busy", A, 20, 0, 10000),  \
        FAST("1 " A ", 20 ms, 1 % lost, busy", A, 20, 10000, 10000),                                         \
        FAST("1 " A ", 100 ms, busy", A, 100, 0, 10000)

/* A radio link whose operator knows that it loses so much. */
static const struct flows_plan fast[] = {FASTS("cubic"),
                                         FASTS("bbr"),
                                         {.name = "1 bbr, 20 ms, 5 % lost, 15 % allowed",
                                          .cc = {"bbr"},
                                          .rate_bps = 200 * MBPS,
                                          .rtt_us = 20000,
                                          .queue_pct = 100,
                                          .loss_ppm = 50000,
                                          .bbr_loss_percent = 15,
                                          .seconds = 20},
                                         {.name = "2 bbr, 20 ms, 15 % allowed",
                                          .cc = {"bbr", "bbr"},
                                          .rate_bps = 20 * MBPS,
                                          .rtt_us = 20000,
                                          .queue_pct = 100,
                                          .bbr_loss_percent = 15,
                                          .seconds = 20},
                                         {.name = NULL}};

/* For information: nobody promises fairness here. */
static const struct flows_plan mixed[] = {
    {.name = "2 reno, 20 and 80 ms",
     .cc = {X2("reno")},
     .extra_us = {0, 60000},
     .rate_bps = 20 * MBPS,
     .rtt_us = 20000,
     .queue_pct = 200,
     .seconds = 60},
    {.name = "2 cubic, 20 and 80 ms",
     .cc = {X2("cubic")},
     .extra_us = {0, 60000},
     .rate_bps = 20 * MBPS,
     .rtt_us = 20000,
     .queue_pct = 200,
     .seconds = 60},
    {.name = "cubic and reno",
     .cc = {"cubic", "reno"},
     .rate_bps = 20 * MBPS,
     .rtt_us = 40000,
     .queue_pct = 100,
     .seconds = 60},
    {.name = "2 cubic and 2 reno",
     .cc = {X2("cubic"), X2("reno")},
     .rate_bps = 40 * MBPS,
     .rtt_us = 20000,
     .queue_pct = 100,
     .seconds = 60},
    {.name = "2 bbr, 20 and 80 ms",
     .cc = {X2("bbr")},
     .extra_us = {0, 60000},
     .rate_bps = 20 * MBPS,
     .rtt_us = 20000,
     .queue_pct = 200,
     .seconds = 60},
    {.name = "cubic and bbr",
     .cc = {"cubic", "bbr"},
     .rate_bps = 20 * MBPS,
     .rtt_us = 40000,
     .queue_pct = 100,
     .seconds = 60},
    {.name = "cubic and bbr, queue 4 BDP",
     .cc = {"cubic", "bbr"},
     .rate_bps = 20 * MBPS,
     .rtt_us = 40000,
     .queue_pct = 400,
     .seconds = 60},
    {.name = "a late bbr joins bbr",
     .cc = {X2("bbr")},
     .start_ms = {0, 10000},
     .rate_bps = 20 * MBPS,
     .rtt_us = 40000,
     .queue_pct = 100,
     .seconds = 60},
    {.name = "a late cubic joins cubic",
     .cc = {X2("cubic")},
     .start_ms = {0, 10000},
     .rate_bps = 20 * MBPS,
     .rtt_us = 40000,
     .queue_pct = 100,
     .seconds = 60},
    {.name = NULL},
};

#define TROUBLE(title, a, what, ms)                                                                          \
    {                                                                                                        \
        .name = title, .cc = {X2(a)}, .rate_bps = 20 * MBPS, .rtt_us = 40000, .queue_pct = 100,              \
        .seconds = 40, .event = (what), .event_ms = (ms)                                                     \
    }
#define TROUBLES(A)                                                                                          \
    TROUBLE("2 " A ", link down 300 ms", A, EV_LINK_DOWN, 300),                                              \
        TROUBLE("2 " A ", link down 3 s", A, EV_LINK_DOWN, 3000),                                            \
        TROUBLE("2 " A ", clock jumps 5 s", A, EV_CLOCK_JUMP, 5000),                                         \
        TROUBLE("2 " A ", readers stop 5 s", A, EV_READERS_STOP, 5000),                                      \
    {                                                                                                        \
        .name = "4 " A ", 128 segment records", .cc = {X4(A)}, .rate_bps = 20 * MBPS, .rtt_us = 40000,       \
        .queue_pct = 100, .seconds = 40, .txseg_max = 128                                                    \
    }

static const struct flows_plan troubles[] = {
    TROUBLES("reno"), TROUBLES("cubic"), TROUBLES("bbr"), {.name = NULL}};

/* A queue that marks where others drop (RFC 3168): from one product of rate and delay on, with room for
 * eight, so that slow start's overshoot fits. No loss need ever happen. */
#define MARKED(title, rate, rtt, ...)                                                                        \
    {                                                                                                        \
        .name = title, .cc = {__VA_ARGS__}, .rate_bps = (rate)*MBPS, .rtt_us = (rtt)*1000, .queue_pct = 800, \
        .mark_pct = 100, .seconds = 60, .min_jain = 0.9, .min_util = 0.85, .no_resend = true                 \
    }
#define MARKEDS(A)                                                                                           \
    MARKED("1 " A ", 20 Mb/s, 20 ms, marks", 20, 20, A),                                                     \
        MARKED("1 " A ", 20 Mb/s, 100 ms, marks", 20, 100, A),                                               \
        MARKED("4 " A ", 40 Mb/s, 20 ms, marks", 40, 20, X4(A))

static const struct flows_plan ecn[] = {MARKEDS("reno"), MARKEDS("cubic"), MARKEDS("bbr"), {.name = NULL}};

static const struct {
    const char *name;
    const struct flows_plan *plans;
} tables[] = {{"equals", equals}, {"singles", singles},   {"fast", fast},
              {"mixed", mixed},   {"troubles", troubles}, {"ecn", ecn}};

/* ---- Lines ---------------------------------------------------------------------------------------- */

/* What a line says in numbers, and how far each may move before somebody has to look. */
static const struct {
    const char *head;
    double absolute, relative;
} column[] = {
    {"Mb/s", 0.3, 0.05},   {"util %", 3, 0.05}, {"Jain", 0.06, 0},        {"resent %", 0.4, 0.4},
    {"queue ms", 2, 0.25}, {"max ms", 3, 0.25}, {"recover ms", 200, 0.4},
};
#define COLUMNS (sizeof(column) / sizeof(column[0]))

struct line {
    char name[64];
    double v[COLUMNS];
    char flows[LINE_MAX];
};

static void line_of(const struct flows_plan *p, const struct flows_result *r, struct line *l)
{
    const double v[COLUMNS] = {r->total_mbps, r->util * 100,   r->jain,       r->retrans * 100,
                               r->queue_ms,   r->queue_max_ms, r->recovery_ms};
    size_t at = 0;

    memset(l, 0, sizeof(*l));
    (void)snprintf(l->name, sizeof(l->name), "%s", p->name);
    memcpy(l->v, v, sizeof(v));
    for (unsigned i = 0; i < r->flows && at < sizeof(l->flows); i++)
        at += (size_t)snprintf(l->flows + at, sizeof(l->flows) - at, " %.1f", r->goodput_mbps[i]);
}

static void line_print(FILE *f, const struct line *l)
{
    (void)fprintf(f, "%-38s", l->name);
    for (unsigned i = 0; i < COLUMNS; i++)
        (void)fprintf(f, " |%10.*f", i == 2 ? 3 : i < 5 ? 1 : 0, l->v[i]);
    (void)fprintf(f, " |%s\n", l->flows);
}

static void head_print(FILE *f)
{
    (void)fprintf(f, "%-38s", "flows, path");
    for (unsigned i = 0; i < COLUMNS; i++)
        (void)fprintf(f, " |%10s", column[i].head);
    (void)fprintf(f, " | Mb/s of each\n");
}

static bool line_read(const char *text, struct line *l)
{
    const char *at = strchr(text, '|');
    size_t len;

    memset(l, 0, sizeof(*l));
    if (!at || at == text)
        return false;
    for (len = (size_t)(at - text); len && text[len - 1] == ' '; len--)
        ;
    if (len >= sizeof(l->name))
        return false;
    memcpy(l->name, text, len);
    for (unsigned i = 0; i < COLUMNS; i++) {
        char *end;

        l->v[i] = strtod(at + 1, &end);
        at = strchr(end, '|');
        if (end == text || !at)
            return false;
    }
    return true;
}

/* ---- Against the snapshot -------------------------------------------------------------------------- */

static unsigned compare(const struct line *now, const struct line *then, unsigned count)
{
    unsigned i = 0, bad = 0;

    while (i < count && strcmp(then[i].name, now->name) != 0)
        i++;
    if (i == count) {
        printf("%s: not in the snapshot\n", now->name);
        return 1;
    }
    for (unsigned c = 0; c < COLUMNS; c++) {
        double off = fabs(now->v[c] - then[i].v[c]);

        if (off <= column[c].absolute || off <= column[c].relative * fabs(then[i].v[c]))
            continue;
        printf("%s: %s was %.3f, is %.3f\n", now->name, column[c].head, then[i].v[c], now->v[c]);
        bad++;
    }
    return bad;
}

static unsigned floors(const struct flows_plan *p, const struct flows_result *r)
{
    unsigned bad = 0;

    if (r->bad) {
        printf("%s: %s\n", p->name, r->bad);
        return 1;
    }
    if (r->jain < p->min_jain) {
        printf("%s: Jain's index %.3f, at least %.2f is asked for\n", p->name, r->jain, p->min_jain);
        bad++;
    }
    if (r->util < p->min_util) {
        printf("%s: %.1f %% used, at least %.0f %% is asked for\n", p->name, r->util * 100,
               p->min_util * 100);
        bad++;
    }
    if (p->mark_pct && !r->marked) {
        printf("%s: no frame was marked\n", p->name);
        bad++;
    }
    if (p->no_resend && r->resent) {
        printf("%s: %" PRIu64 " segments were sent again\n", p->name, r->resent);
        bad++;
    }
    return bad;
}

static unsigned snapshot_read(const char *path, struct line *ret)
{
    char text[2 * LINE_MAX];
    FILE *f = fopen(path, "r");
    unsigned n = 0;

    if (!f)
        return 0;
    while (n < ROWS_MAX && fgets(text, sizeof(text), f))
        n += line_read(text, &ret[n]);
    (void)fclose(f);
    return n;
}

static int snapshot_write(const char *path, const struct line *l, unsigned n)
{
    FILE *f = fopen(path, "w");

    if (!f) {
        perror(path);
        return 1;
    }
    head_print(f);
    for (unsigned i = 0; i < n; i++)
        line_print(f, &l[i]);
    return fclose(f) != 0;
}

int main(int argc, char **argv)
{
    static struct line now[ROWS_MAX], then[ROWS_MAX];
    const struct flows_plan *plans = NULL;
    const char *snapshot = argc > 2 ? argv[2] : NULL;
    bool update = argc > 3 && strcmp(argv[3], "--update") == 0;
    unsigned n = 0, bad = 0, known = 0;

    for (unsigned i = 0; argc > 1 && i < sizeof(tables) / sizeof(tables[0]); i++)
        if (strcmp(tables[i].name, argv[1]) == 0)
            plans = tables[i].plans;
    if (!plans) {
        printf("usage: sim_flows equals|singles|fast|mixed|troubles|ecn [SNAPSHOT [--update]]\n");
        return 2;
    }
    if (snapshot && !update)
        known = snapshot_read(snapshot, then);
    head_print(stdout);
    for (; plans[n].name && n < ROWS_MAX; n++) {
        struct flows_result r;

        flows_run(&plans[n], SEED, &r);
        line_of(&plans[n], &r, &now[n]);
        line_print(stdout, &now[n]);
        bad += floors(&plans[n], &r);
        if (snapshot && !update)
            bad += compare(&now[n], then, known);
        (void)fflush(stdout);
    }
    if (update && snapshot_write(snapshot, now, n))
        return 1;
    if (bad && snapshot)
        printf("%u figures moved or too low. If that is as it should be: %s %s %s --update\n", bad, argv[0],
               argv[1], snapshot);
    return bad != 0;
}

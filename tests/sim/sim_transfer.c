/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulation: a few connections send random amounts both ways over a link that delays, loses, reorders,
 * duplicates, marks and corrupts; some runs have little memory, a clock that jumps, or applications that
 * stall for seconds. Every byte must arrive once and in order, and at the end nothing may be held.
 *
 *     sim_transfer SEED [COUNT]          runs seeds SEED..SEED+COUNT-1; prints those that fail
 *     sim_transfer SEED --hours HOURS    the same for so long
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/engine/wire/tcp.h"
#include "tests/sim/net.h"

#define FLOWS_MAX   4u
#define LIMIT_US    UINT64_C(3600000000) /* simulated: an hour is for ever */
#define CHUNK_MAX   20000u
#define CHECK_EVERY 16u

/* One end of a connection. */
struct end {
    unsigned host;
    uint32_t slot; /* 0: not there yet */
    uint64_t to_send, sent, received;
    uint64_t key; /* of the bytes it sends */
    bool shut, eof, closed;
};

struct flow {
    struct end e[2];
};

struct run {
    struct net net;
    uint64_t seed, rng;
    struct flow flow[FLOWS_MAX];
    unsigned flows, accepted;
    bool tight;        /* little memory */
    uint32_t jump_ppm; /* the clock jumps, with this chance at each step of the applications */
    uint32_t stall_us; /* longest stall of the applications */
    uint32_t listener;
    char why[160];
};

static uint8_t byte_at(uint64_t key, uint64_t off)
{
    uint64_t x = (off / 8 + key) * UINT64_C(0x9e3779b97f4a7c15);

    return (uint8_t)((x ^ x >> 29) >> (off % 8 * 8));
}

static uint32_t ppm(uint64_t *rng, uint32_t max)
{
    return rnd_below(rng, 3) ? rnd_below(rng, max) : 0;
}

static void random_settings(uint64_t *rng, struct sim_settings *s)
{
    *s = (struct sim_settings){
        .delay_us = rnd_below(rng, 4) ? rnd_below(rng, 30000) : 0,
        .jitter_us = rnd_below(rng, 3) ? 0 : rnd_below(rng, 5000),
        .reorder_ppm = ppm(rng, 80000),
        .reorder_delay_us = rnd_below(rng, 20000),
        .loss_ppm = ppm(rng, 80000),
        .duplicate_ppm = ppm(rng, 80000),
        .corrupt_ppm = ppm(rng, 50000),
        .full_ppm = ppm(rng, 50000),
        .rate_bps = rnd_below(rng, 3) ? 0 : 1000000u + rnd_below(rng, 100000000),
        .queue_bytes = 20000u + rnd_below(rng, 200000),
        .mark_ppm = ppm(rng, 100000),
    };
}

static void tweak(struct engine_config *cfg, void *ctx)
{
    struct run *r = ctx;

    cfg->rcvbuf_log2 = (uint8_t)(13 + rnd_below(&r->rng, 7));
    cfg->sndbuf_log2 = (uint8_t)(13 + rnd_below(&r->rng, 7));
    /* A lossy path may lose eight ACKs of a FIN in a row: what is tested here is data, not giving up. */
    cfg->orphan_us = 600000000;
    cfg->orphan_retries = cfg->data_retries = 30;
    cfg->syn_retries = cfg->synack_retries = 12;
    cfg->rto_max_us = 5000000;
    cfg->fin_wait2_us = 600000000;
    if (r->tight) {
        /* Sending waits for a record, out-of-order data is dropped and sent again; that is all. */
        cfg->txseg_max = 8 + rnd_below(&r->rng, 40);
        cfg->flight_max = 2 + rnd_below(&r->rng, 6);
        cfg->range_max = 1 + rnd_below(&r->rng, 8);
        cfg->reasm_max = 1 + rnd_below(&r->rng, 4);
        cfg->path_max = 1 + rnd_below(&r->rng, 3);
        cfg->pkt_max = 16u << rnd_below(&r->rng, 3);
    }
    for (unsigned i = 0; i < sizeof(cfg->secret); i++)
        cfg->secret[i] = (uint8_t)rnd(&r->rng);
    cfg->ecn = (uint8_t)rnd_below(&r->rng, 3);
}

/* One of the algorithms, at random. */
static void choose_cc(struct run *r, struct host *h, uint32_t slot)
{
    static const uint64_t names[] = {0x6369627563, 0x6f6e6572, 0x726262}; /* cubic, reno, bbr */

    assert(engine_setopt(h->e, h->sid, slot, 6, 13, names[rnd_below(&r->rng, 3)], h->now_us) == 0);
}

static void start(struct run *r)
{
    struct sim_params p = {.seed = r->seed};

    r->tight = rnd_below(&r->rng, 4) == 0;
    r->jump_ppm = rnd_below(&r->rng, 4) ? 0 : 20000;
    r->stall_us = rnd_below(&r->rng, 8) ? 500000 : 20000000;

    if (rnd_below(&r->rng, 2)) {
        p.offloads = DEV_TX_CSUM | DEV_RX_CSUM | (rnd_below(&r->rng, 2) ? DEV_TX_TSO4 : 0);
        p.split_gso = rnd_below(&r->rng, 2);
        p.keep_partial = rnd_below(&r->rng, 2);
    }
    p.mtu = rnd_below(&r->rng, 3) ? 1500 : (uint16_t)(576 + rnd_below(&r->rng, 8000));
    random_settings(&r->rng, &p.dir[0]);
    random_settings(&r->rng, &p.dir[1]);
    net_start(&r->net, &p, tweak, r);
    if (getenv("SIM_TRACE"))
        printf("mtu %u offloads %#x rcvbuf 2^%u/2^%u\n", p.mtu, p.offloads, r->net.host[0].cfg.rcvbuf_log2,
               r->net.host[1].cfg.rcvbuf_log2);
    r->flows = 1 + rnd_below(&r->rng, FLOWS_MAX);
    r->listener = app_socket(&r->net.host[1], SG_SOCK_STREAM);
    assert(app_bind(&r->net.host[1], r->listener, 9000) == 0);
    assert(app_listen(&r->net.host[1], r->listener, 16) == 0);
    choose_cc(r, &r->net.host[1], r->listener);
    for (unsigned i = 0; i < r->flows; i++) {
        struct flow *f = &r->flow[i];

        for (unsigned k = 0; k < 2; k++) {
            f->e[k] = (struct end){.host = k, .key = rnd(&r->rng)};
            f->e[k].to_send = rnd_below(&r->rng, 4) ? rnd_below(&r->rng, 200000) : rnd_below(&r->rng, 100);
        }
        f->e[0].slot = app_socket(&r->net.host[0], SG_SOCK_STREAM);
        choose_cc(r, &r->net.host[0], f->e[0].slot);
        assert(app_bind(&r->net.host[0], f->e[0].slot, (uint16_t)(2000 + i)) == 0);
        assert(app_connect(&r->net.host[0], f->e[0].slot, 2, 9000) == 0);
    }
}

static bool fail(struct run *r, const char *what, unsigned flow, const struct end *e)
{
    (void)snprintf(r->why, sizeof(r->why),
                   "%s (flow %u, host %u, sent %" PRIu64 "/%" PRIu64 ", received %" PRIu64 ")", what, flow,
                   e->host, e->sent, e->to_send, e->received);
    return false;
}

static void accept_all(struct run *r)
{
    struct host *h = &r->net.host[1];
    int64_t slot;

    while ((slot = app_accept(h, r->listener)) > 0) {
        unsigned i = h->slots[slot].n.remote_port - 2000u;

        assert(i < r->flows && !r->flow[i].e[1].slot);
        r->flow[i].e[1].slot = (uint32_t)slot;
        r->accepted++;
    }
    assert(slot == -EAGAIN);
}

/* Three ARP requests in a row may be lost: that is EHOSTUNREACH, as the kernel has it. Connect anew. */
static bool reconnect(struct run *r, unsigned fi, struct end *e)
{
    struct host *h = &r->net.host[0];

    app_close(h, e->slot);
    e->slot = app_socket(h, SG_SOCK_STREAM);
    return app_bind(h, e->slot, (uint16_t)(2000 + fi)) == 0 && app_connect(h, e->slot, 2, 9000) == 0;
}

static bool move_end(struct run *r, unsigned fi, struct end *e, struct end *other)
{
    static uint8_t buf[CHUNK_MAX];
    struct host *h = &r->net.host[e->host];
    int64_t n;

    if (!e->slot || e->closed)
        return true;
    if (app_error(h, e->slot) == EHOSTUNREACH && !e->host && !other->slot)
        return reconnect(r, fi, e) || fail(r, "connecting anew failed", fi, e);
    if (app_error(h, e->slot))
        return fail(r, strerror(app_error(h, e->slot)), fi, e);
    if (!app_connected(h, e->slot) && h->slots[e->slot].d.state != SG_ST_CLOSED)
        return true;
    if (e->sent < e->to_send && rnd_below(&r->rng, 3)) {
        uint64_t len = 1 + rnd_below(&r->rng, CHUNK_MAX);

        if (len > e->to_send - e->sent)
            len = e->to_send - e->sent;
        for (uint64_t i = 0; i < len; i++)
            buf[i] = byte_at(e->key, e->sent + i);
        n = app_send(h, e->slot, buf, len);
        if (n < 0 && n != -EAGAIN)
            return fail(r, "send failed", fi, e);
        if (n > 0)
            e->sent += (uint64_t)n;
    }
    if (rnd_below(&r->rng, 3)) {
        n = app_recv(h, e->slot, buf, 1 + rnd_below(&r->rng, CHUNK_MAX));
        if (n < 0 && n != -EAGAIN)
            return fail(r, "recv failed", fi, e);
        for (int64_t i = 0; i < n; i++)
            if (buf[i] != byte_at(other->key, e->received + (uint64_t)i))
                return fail(r, "a byte differs", fi, e);
        if (n > 0)
            e->received += (uint64_t)n;
        e->eof = e->eof || n == 0;
    }
    if (e->sent == e->to_send && !e->shut) {
        if (app_shutdown(h, e->slot, SG_SHUT_WR))
            return fail(r, "shutdown failed", fi, e);
        e->shut = true;
    }
    if (e->eof && e->received != other->to_send)
        return fail(r, "end of file before all bytes", fi, e);
    if (e->eof && e->shut) {
        app_close(h, e->slot);
        e->closed = true;
    }
    return true;
}

static bool all_closed(const struct run *r)
{
    for (unsigned i = 0; i < r->flows; i++)
        if (!r->flow[i].e[0].closed || !r->flow[i].e[1].closed)
            return false;
    return true;
}

static bool all_gone(struct run *r)
{
    static const char *const states[] = {"SYN_RECEIVED", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2",
                                         "CLOSE_WAIT",   "CLOSING",     "LAST_ACK",   "TIME_WAIT"};

    for (unsigned h = 0; h < 2; h++)
        for (unsigned s = 0; s < sizeof(states) / sizeof(states[0]); s++)
            if (host_count(&r->net.host[h], states[s]))
                return false;
    return true;
}

/* SIM_TRACE=1: a line for each segment that enters the wire. */
static bool trace(void *ctx, unsigned from, uint64_t now_us, const struct pktbuf *f)
{
    struct tcp_seg s;

    (void)ctx;
    if (f->len < 34 || get_be16(f->data + 12) != 0x0800 || f->data[23] != 6 ||
        !tcp_parse(f->data + 34, f->len - 34, &s)) {
        printf("%12" PRIu64 " %u> %u bytes, type %#x\n", now_us, from, f->len, get_be16(f->data + 12));
        return true;
    }
    printf("%12" PRIu64 " %u> %u>%u %s%s%s%s seq %u+%u ack %u wnd %u", now_us, from, s.sport, s.dport,
           s.flags & TCP_SYN ? "S" : "", s.flags & TCP_FIN ? "F" : "", s.flags & TCP_RST ? "R" : "",
           s.flags & TCP_ACK ? "." : "", s.seq, s.len, s.ack, s.wnd);
    for (unsigned i = 0; i < s.sack_count; i++)
        printf(" sack %u-%u", s.sack[i].start, s.sack[i].end);
    printf("\n");
    return true;
}

static bool run(struct run *r)
{
    const char *bad = NULL;
    bool ok = true;
    uint64_t next_app = 0;

    start(r);
    if (getenv("SIM_TRACE"))
        sim_set_filter(r->net.link, trace, NULL);
    while (ok && !all_closed(r)) {
        if (r->net.now_us >= next_app) {
            accept_all(r);
            for (unsigned i = 0; ok && i < r->flows; i++)
                for (unsigned k = 0; ok && k < 2; k++)
                    ok = move_end(r, i, &r->flow[i].e[k], &r->flow[i].e[!k]);
            if (rnd_below(&r->rng, 1000000) < r->jump_ppm)
                net_jump(&r->net,
                         rnd_below(&r->rng, 4) ? rnd_below(&r->rng, 300000) : rnd_below(&r->rng, 30000000));
            /* Applications stall now and then. */
            next_app = r->net.now_us +
                       (rnd_below(&r->rng, 50) ? rnd_below(&r->rng, 2000) : rnd_below(&r->rng, r->stall_us));
        }
        net_step(&r->net, next_app > r->net.now_us ? next_app : r->net.now_us + 1);
        if (r->net.steps % CHECK_EVERY == 0)
            bad = net_check(&r->net);
        if (bad)
            ok = fail(r, bad, 0, &r->flow[0].e[0]);
        if (r->net.host[0].fault || r->net.host[1].fault)
            ok = fail(r, r->net.host[0].fault ? r->net.host[0].fault : r->net.host[1].fault, 0,
                      &r->flow[0].e[0]);
        if (ok && r->net.now_us > LIMIT_US)
            ok = fail(r, "not finished after an hour", 0, &r->flow[0].e[0]);
    }
    for (uint64_t end = r->net.now_us + LIMIT_US; ok && !all_gone(r);) {
        net_step(&r->net, end);
        if (r->net.now_us >= end)
            ok = fail(r, "connections never go away", 0, &r->flow[0].e[0]);
    }
    bad = net_stop(&r->net);
    if (ok && bad)
        ok = fail(r, bad, 0, &r->flow[0].e[0]);
    return ok;
}

static bool run_seed(uint64_t seed)
{
    static struct run r;

    memset(&r, 0, sizeof(r));
    r.seed = seed;
    r.rng = r.seed * UINT64_C(0xd1342543de82ef95) + 1;
    if (run(&r))
        return true;
    printf("seed %" PRIu64 ": %s\n", r.seed, r.why);
    return false;
}

#define FAILED_MAX     10u /* more tell nothing new */
#define PROGRESS_EVERY 1000u

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    bool timed = argc > 3 && strcmp(argv[2], "--hours") == 0;
    uint64_t count = timed ? UINT64_MAX : argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    time_t end = timed ? time(NULL) + (time_t)(atof(argv[3]) * 3600) : 0;
    uint64_t failed = 0, done = 0;

    for (; done < count && failed < FAILED_MAX && (!timed || time(NULL) < end); done++) {
        failed += !run_seed(first + done);
        if ((done + 1) % PROGRESS_EVERY == 0) {
            printf("%" PRIu64 " seeds, %" PRIu64 " failed\n", done + 1, failed);
            (void)fflush(stdout);
        }
    }
    printf("seeds %" PRIu64 "..%" PRIu64 ": %" PRIu64 " failed\n", first, first + done - 1, failed);
    return failed != 0;
}

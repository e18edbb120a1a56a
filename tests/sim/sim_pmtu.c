/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A path that drops long packets and tells nobody (RFC 4821, RFC 2923). The transfer must get over it, in
 * bounded time, and end with packets that are hardly shorter than what the path carries.
 *
 *     sim_pmtu [SEED [COUNT]]
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/engine_int.h"
#include "tests/sim/net.h"

#define PORT        9000u
#define TOTAL       (12u << 20)
#define CHUNK       65536u
#define ETH_HDR     14u
#define LIMIT_MIN   700u
#define RATE_BPS    50000000u
#define SECONDS_MAX 30u
#define RANGE_MIN   8u /* the search ends there (pmtu_probe.c) */

struct run {
    struct net net;
    uint64_t seed, rng;
    uint32_t limit;  /* bytes of the longest packet that passes */
    uint32_t cut_us; /* from when on */
    uint8_t probing;
    uint64_t dropped;
    uint32_t listener, snd, rcv;
    uint64_t sent, received;
    bool unfinished; /* the search goes on */
};

static bool black_hole(void *ctx, unsigned from, uint64_t now_us, const struct pktbuf *f)
{
    struct run *r = ctx;

    (void)from;
    if (now_us < r->cut_us || f->total <= r->limit + ETH_HDR)
        return true;
    r->dropped++;
    return false;
}

static void tweak(struct engine_config *cfg, void *ctx)
{
    cfg->mtu_probing = ((struct run *)ctx)->probing;
    cfg->rcvbuf_log2 = cfg->sndbuf_log2 = 19;
    cfg->range_max = cfg->txseg_max = 16384;
}

static void start(struct run *r)
{
    struct sim_params p = {.seed = r->seed, .split_gso = true, .small_count = 16384, .large_count = 2048};

    if (rnd_below(&r->rng, 2))
        p.offloads = DEV_TX_CSUM | DEV_TX_TSO4;
    p.mtu = rnd_below(&r->rng, 3) ? 1500 : 9000;
    r->limit = LIMIT_MIN + rnd_below(&r->rng, p.mtu + 1u - LIMIT_MIN);
    r->probing = rnd_below(&r->rng, 2) ? ENGINE_ALWAYS : ENGINE_AUTO;
    r->cut_us = rnd_below(&r->rng, 2) ? 0 : 1000000 + rnd_below(&r->rng, 400000); /* a route may change */
    for (unsigned i = 0; i < 2; i++)
        p.dir[i] = (struct sim_settings){.delay_us = 1000 + rnd_below(&r->rng, 20000),
                                         .rate_bps = RATE_BPS,
                                         .queue_bytes = 1 << 20,
                                         .loss_ppm = rnd_below(&r->rng, 2) ? 500 : 0};
    net_start(&r->net, &p, tweak, r);
    sim_set_filter(r->net.link, black_hole, r);
    r->listener = app_socket(&r->net.host[1], SG_SOCK_STREAM);
    assert(app_bind(&r->net.host[1], r->listener, PORT) == 0);
    assert(app_listen(&r->net.host[1], r->listener, 1) == 0);
    r->snd = app_socket(&r->net.host[0], SG_SOCK_STREAM);
    assert(app_connect(&r->net.host[0], r->snd, 2, PORT) == 0);
}

static void transfer(struct run *r)
{
    static uint8_t buf[CHUNK];
    struct host *a = &r->net.host[0], *b = &r->net.host[1];
    int64_t n;

    while (r->sent < TOTAL && app_connected(a, r->snd) && (n = app_send(a, r->snd, buf, CHUNK)) > 0)
        r->sent += (uint64_t)n;
    if (!r->rcv && (n = app_accept(b, r->listener)) > 0)
        r->rcv = (uint32_t)n;
    while (r->rcv && (n = app_recv(b, r->rcv, buf, CHUNK)) > 0)
        r->received += (uint64_t)n;
}

/* What was wrong, NULL: nothing. */
static const char *judge(struct run *r)
{
    const struct ip_addr peer = {.ip = {192, 0, 2, 2}, .family = SG_AF_INET};
    const struct pmtu_entry *n = pmtu_find(r->net.host[0].e, &peer);
    uint32_t link = r->net.host[0].cfg.ifs[0].mtu;
    uint32_t packet = n && n->low ? n->low : link;

    if (r->received < TOTAL)
        return "the transfer is not over";
    if (r->dropped && packet > r->limit)
        return "packets are still too long";
    if ((!n || !n->searching) && r->limit >= PMTU_BASE4 && packet + RANGE_MIN <= r->limit)
        return "packets are shorter than they need be";
    r->unfinished = n && n->searching;
    return NULL;
}

static bool run_one(uint64_t seed, bool verbose, uint64_t *unfinished)
{
    static struct run r;
    const char *bad = NULL, *end;
    uint64_t stop_us;

    memset(&r, 0, sizeof(r));
    r.seed = seed;
    r.rng = seed * 2654435761u;
    start(&r);
    stop_us = r.net.now_us + SECONDS_MAX * UINT64_C(1000000);
    while (r.received < TOTAL && r.net.now_us < stop_us && !bad) {
        transfer(&r);
        net_step(&r.net, stop_us);
        if (r.net.steps % 1024 == 0)
            bad = net_check(&r.net);
    }
    if (!bad)
        bad = judge(&r);
    if (bad || verbose)
        printf("seed %" PRIu64 ": mtu %u, limit %u from %u ms, %s%s: %" PRIu64 " bytes in %" PRIu64
               " ms, %" PRIu64 " packets lost in the hole, %" PRIu64 " probes arrived, %" PRIu64
               " did not: %s\n",
               seed, r.net.host[0].cfg.ifs[0].mtu, r.limit, r.cut_us / 1000,
               r.probing == ENGINE_ALWAYS ? "always" : "auto",
               r.net.host[0].cfg.ifs[0].offloads ? ", offload" : "", r.received,
               (r.net.now_us - 1000000) / 1000, r.dropped, host_counter(&r.net.host[0], "TcpMTUPSuccess"),
               host_counter(&r.net.host[0], "TcpMTUPFail"), bad ? bad : "good");
    *unfinished += r.unfinished;
    end = net_stop(&r.net);
    if (end && !bad)
        printf("seed %" PRIu64 ": %s\n", seed, end);
    return !bad && !end;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, failed = 0, unfinished = 0;

    for (uint64_t i = 0; i < count; i++)
        failed += !run_one(seed + i, count == 1, &unfinished);
    printf("seeds %" PRIu64 "..%" PRIu64 ": %" PRIu64 " failed, %" PRIu64 " searches were not over\n", seed,
           seed + count - 1, failed, unfinished);
    return failed || unfinished > count / 2;
}

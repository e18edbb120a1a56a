/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/flows.h"

#include <assert.h>
#include <string.h>

#define PORT_BASE     2000u
#define LISTEN_PORT   9000u
#define FRAME_BYTES   1514u
#define PAYLOAD_BYTES 1448u /* of a full frame: MSS 1460 less timestamps */
#define BIN_US        50000u
#define BINS          4096u
#define CHUNK         65536u
#define STAGGER_US    37000u /* flows that start at once would lose at once for ever */
#define IP_TOS        15u    /* offsets in an Ethernet frame with an IPv4 header of 20 bytes */
#define TCP_PORTS     34u

struct run {
    const struct flows_plan *plan;
    struct net net;
    unsigned flows;
    uint64_t start_us, warm_us, event_us, end_us;
    uint32_t listener;
    uint32_t snd[FLOWS_MAX], rcv[FLOWS_MAX]; /* slots; 0: not yet */
    uint64_t received[FLOWS_MAX], at_warm[FLOWS_MAX];
    uint64_t bin[BINS]; /* bytes received by all in each BIN_US */
    struct sim_stats warm_stats;
    uint64_t warm_segs, warm_retrans;
    uint64_t rnd, stall_us; /* chance; when the next stall comes */
};

static void tweak(struct engine_config *cfg, void *ctx)
{
    const struct flows_plan *p = ((struct run *)ctx)->plan;

    cfg->rcvbuf_log2 = p->rcvbuf_log2 ? p->rcvbuf_log2 : 22;
    cfg->sndbuf_log2 = 22;
    cfg->pkt_max = 512;
    if (p->mark_pct)
        cfg->ecn = ENGINE_ECN_ON;
    if (p->bbr_loss_percent)
        cfg->bbr_loss_percent = p->bbr_loss_percent;
    if (p->txseg_max)
        cfg->txseg_max = p->txseg_max;
}

/* The flow that a frame belongs to, by the client's port; FLOWS_MAX: none. */
static unsigned flow_of(const struct pktbuf *f)
{
    unsigned src, dst;

    if (f->len < TCP_PORTS + 4 || f->data[12] != 8 || f->data[13] != 0)
        return FLOWS_MAX;
    src = (unsigned)f->data[TCP_PORTS] << 8 | f->data[TCP_PORTS + 1];
    dst = (unsigned)f->data[TCP_PORTS + 2] << 8 | f->data[TCP_PORTS + 3];
    src = (src == LISTEN_PORT ? dst : src) - PORT_BASE;
    return src < FLOWS_MAX ? src : FLOWS_MAX;
}

/* The longer path of a flow lies on the way back, where it doesn't delay others. */
static uint32_t path_delay(void *ctx, unsigned from, const struct pktbuf *f)
{
    unsigned i = flow_of(f);

    return from == 1 && i < FLOWS_MAX ? ((struct run *)ctx)->plan->extra_us[i] : 0;
}

static uint32_t bytes_of(const struct flows_plan *p, uint32_t pct)
{
    return (uint32_t)(p->rate_bps / 8 * p->rtt_us / 1000000 * pct / 100);
}

static void settings(const struct flows_plan *p, struct sim_settings dir[2], uint32_t loss_ppm)
{
    memset(dir, 0, 2 * sizeof(dir[0]));
    dir[0] = (struct sim_settings){.delay_us = p->rtt_us / 2,
                                   .rate_bps = p->rate_bps,
                                   .queue_bytes = bytes_of(p, p->queue_pct),
                                   .mark_bytes = bytes_of(p, p->mark_pct),
                                   .loss_ppm = loss_ppm};
    dir[1] = (struct sim_settings){.delay_us = p->rtt_us / 2, .loss_ppm = loss_ppm};
}

static void link_set(struct run *r, uint32_t loss_ppm)
{
    struct sim_settings dir[2];

    settings(r->plan, dir, loss_ppm);
    for (unsigned i = 0; i < 2; i++)
        assert(sim_set(r->net.link, i, &dir[i]) == 0);
}

static uint64_t name_of(const char *s)
{
    uint64_t v = 0;

    for (unsigned i = 0; s[i]; i++)
        v |= (uint64_t)(uint8_t)s[i] << 8 * i;
    return v;
}

static void start(struct run *r, const struct flows_plan *p, uint64_t seed)
{
    struct sim_params sp = {
        .seed = seed, .offloads = DEV_TX_CSUM | DEV_TX_TSO4, .split_gso = true, .small_count = 32768};

    memset(r, 0, sizeof(*r));
    r->plan = p;
    r->rnd = seed;
    while (r->flows < FLOWS_MAX && p->cc[r->flows])
        r->flows++;
    settings(p, sp.dir, p->loss_ppm);
    net_start(&r->net, &sp, tweak, r);
    sim_set_delay(r->net.link, path_delay, r);
    r->start_us = r->net.now_us;
    r->end_us = r->start_us + p->seconds * UINT64_C(1000000);
    r->warm_us = r->start_us + p->seconds * UINT64_C(1000000) / 4;
    r->event_us = r->start_us + p->seconds * UINT64_C(1000000) / 2;
    r->listener = app_socket(&r->net.host[1], SG_SOCK_STREAM);
    assert(app_bind(&r->net.host[1], r->listener, LISTEN_PORT) == 0);
    assert(app_listen(&r->net.host[1], r->listener, FLOWS_MAX) == 0);
}

static uint64_t flow_start_us(const struct run *r, unsigned i)
{
    return r->start_us + r->plan->start_ms[i] * UINT64_C(1000) + i * STAGGER_US;
}

static void flow_open(struct run *r, unsigned i)
{
    struct host *h = &r->net.host[0];

    r->snd[i] = app_socket(h, SG_SOCK_STREAM);
    assert(app_bind(h, r->snd[i], (uint16_t)(PORT_BASE + i)) == 0);
    assert(engine_setopt(h->e, h->sid, r->snd[i], 6, 13, name_of(r->plan->cc[i]), h->now_us) == 0);
    assert(app_connect(h, r->snd[i], 2, LISTEN_PORT) == 0);
}

static bool readers_stopped(const struct run *r)
{
    return r->plan->event == EV_READERS_STOP && r->net.now_us >= r->event_us &&
           r->net.now_us < r->event_us + r->plan->event_ms * UINT64_C(1000);
}

static void read_all(struct run *r)
{
    static uint8_t buf[CHUNK];
    struct host *h = &r->net.host[1];
    uint64_t bin = (r->net.now_us - r->start_us) / BIN_US;
    int64_t slot, n;

    while ((slot = app_accept(h, r->listener)) > 0)
        r->rcv[h->slots[slot].n.remote_port - PORT_BASE] = (uint32_t)slot;
    for (unsigned i = 0; i < r->flows && !readers_stopped(r); i++)
        while (r->rcv[i] && (n = app_recv(h, r->rcv[i], buf, sizeof(buf))) > 0) {
            r->received[i] += (uint64_t)n;
            r->bin[bin < BINS ? bin : BINS - 1] += (uint64_t)n;
        }
}

/* Keep the send queues full. */
static void write_all(struct run *r)
{
    static const uint8_t zeros[CHUNK];
    struct host *h = &r->net.host[0];

    for (unsigned i = 0; i < r->flows; i++) {
        if (!r->snd[i] && r->net.now_us >= flow_start_us(r, i))
            flow_open(r, i);
        while (r->snd[i] && app_connected(h, r->snd[i]) && app_send(h, r->snd[i], zeros, CHUNK) == CHUNK)
            ;
    }
}

static void counters(struct run *r, uint64_t *segs, uint64_t *retrans)
{
    struct engine_sock_info info;
    uint64_t cursor = 0;

    *segs = *retrans = 0;
    while (engine_sock_next(r->net.host[0].e, &cursor, r->net.now_us, &info)) {
        *segs += info.bytes_sent / PAYLOAD_BYTES;
        *retrans += info.retransmits;
    }
}

static void at_warm(struct run *r)
{
    memcpy(r->at_warm, r->received, sizeof(r->at_warm));
    sim_get_stats(r->net.link, 0, &r->warm_stats);
    counters(r, &r->warm_segs, &r->warm_retrans);
}

/* Bytes in the bins [from, to). */
static double bins(const struct run *r, uint64_t from, uint64_t to)
{
    uint64_t sum = 0;

    for (uint64_t i = from; i < to && i < BINS; i++)
        sum += r->bin[i];
    return (double)sum;
}

/* Until four bins in a row carry 90 % of what they did before the event. */
static double recovery_ms(const struct run *r)
{
    uint64_t down = (r->event_us - r->start_us) / BIN_US;
    uint64_t up = down + r->plan->event_ms * UINT64_C(1000) / BIN_US;
    double before = bins(r, down - 40, down) / 40;

    if (r->plan->event == EV_NONE)
        return 0;
    for (uint64_t i = up; i + 4 <= (r->end_us - r->start_us) / BIN_US; i++)
        if (bins(r, i, i + 4) >= 4 * 0.9 * before)
            return (double)((i - up) * BIN_US) / 1000;
    return -1;
}

static void measure(struct run *r, struct flows_result *ret)
{
    double seconds = (double)(r->end_us - r->warm_us) / 1e6, square = 0;
    struct sim_stats s;
    uint64_t segs, retrans;

    ret->flows = r->flows;
    for (unsigned i = 0; i < r->flows; i++) {
        ret->goodput_mbps[i] = (double)(r->received[i] - r->at_warm[i]) * 8 / 1e6 / seconds;
        ret->total_mbps += ret->goodput_mbps[i];
        square += ret->goodput_mbps[i] * ret->goodput_mbps[i];
    }
    ret->jain = square > 0 ? ret->total_mbps * ret->total_mbps / (r->flows * square) : 0;
    ret->util = ret->total_mbps * 1e6 / ((double)r->plan->rate_bps * PAYLOAD_BYTES / FRAME_BYTES);
    counters(r, &segs, &retrans);
    ret->retrans =
        segs > r->warm_segs ? (double)(retrans - r->warm_retrans) / (double)(segs - r->warm_segs) : 0;
    sim_get_stats(r->net.link, 0, &s);
    ret->queue_ms = (double)(s.queue_us - r->warm_stats.queue_us) / 1000 /
                    (double)(s.sent - s.queue_drops - r->warm_stats.sent + r->warm_stats.queue_drops + 1);
    ret->queue_max_ms = (double)s.queue_max_us / 1000;
    ret->marked = s.marked;
    ret->resent = retrans;
    ret->recovery_ms = recovery_ms(r);
}

/* What happens in the middle; returns true while it holds. */
static void event(struct run *r, bool *begun, bool *over)
{
    uint64_t end = r->event_us + r->plan->event_ms * UINT64_C(1000);

    if (!*begun && r->net.now_us >= r->event_us) {
        *begun = true;
        if (r->plan->event == EV_LINK_DOWN)
            link_set(r, SIM_PPM);
        if (r->plan->event == EV_CLOCK_JUMP)
            net_jump(&r->net, r->plan->event_ms * UINT64_C(1000));
    }
    if (*begun && !*over && r->net.now_us >= end) {
        *over = true;
        if (r->plan->event == EV_LINK_DOWN)
            link_set(r, r->plan->loss_ppm);
    }
}

/* Half of the time the hosts may run, half of it they wait for a CPU. */
static void stall(struct run *r)
{
    if (r->net.now_us < r->stall_us)
        return;
    net_jump(&r->net, 1 + rnd_below(&r->rnd, r->plan->stall_us));
    r->stall_us = r->net.now_us + 1 + rnd_below(&r->rnd, r->plan->stall_us);
}

void flows_run(const struct flows_plan *plan, uint64_t seed, struct flows_result *ret)
{
    static struct run r;
    bool warm = false, begun = false, over = false;
    const char *bad = NULL;

    memset(ret, 0, sizeof(*ret));
    start(&r, plan, seed);
    while (!bad && r.net.now_us < r.end_us) {
        uint64_t next = r.net.now_us < r.event_us ? r.event_us : r.end_us;

        read_all(&r);
        write_all(&r);
        for (unsigned i = 0; i < r.flows; i++)
            if (!r.snd[i] && flow_start_us(&r, i) < next)
                next = flow_start_us(&r, i);
        if (begun && !over)
            next = r.event_us + plan->event_ms * UINT64_C(1000);
        net_step(&r.net, next > r.net.now_us ? next : r.net.now_us + 1);
        if (!warm && r.net.now_us >= r.warm_us) {
            warm = true;
            at_warm(&r);
        }
        if (plan->event != EV_NONE)
            event(&r, &begun, &over);
        if (plan->stall_us)
            stall(&r);
        if (r.net.steps % 4096 == 0)
            bad = net_check(&r.net);
        for (unsigned i = 0; !bad && i < r.flows; i++)
            if (r.snd[i] && app_error(&r.net.host[0], r.snd[i]))
                bad = "a flow failed";
    }
    if (!bad)
        measure(&r, ret);
    ret->bad = net_stop(&r.net);
    if (bad)
        ret->bad = bad;
}

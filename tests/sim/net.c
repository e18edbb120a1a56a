/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/net.h"

#include <assert.h>
#include <string.h>

uint64_t rnd(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void net_start(struct net *n, const struct sim_params *params, void (*tweak)(struct engine_config *, void *),
               void *ctx)
{
    struct sim_params p = *params;
    int rc;

    memset(n, 0, sizeof(*n));
    for (unsigned i = 0; i < 2; i++)
        memcpy(p.mac[i], (uint8_t[]){2, 0, 0, 0, 0, (uint8_t)(i + 1)}, 6);
    rc = sim_create(&p, &n->link);
    assert(rc == 0);
    n->now_us = 1000000;
    sim_set_now(n->link, n->now_us);
    for (unsigned i = 0; i < 2; i++) {
        struct device_caps caps;
        struct device *d = sim_end(n->link, i);
        struct engine_config cfg;

        d->ops->caps(d, &caps);
        host_config(&cfg, (uint8_t)(i + 1));
        cfg.ifs[0].mtu = caps.mtu;
        cfg.ifs[0].offloads = caps.offloads;
        cfg.ifs[0].tx_frame_max = caps.tx_frame_max;
        cfg.time_wait_us = 2000000;
        cfg.pkt_max = 128;
        if (tweak)
            tweak(&cfg, ctx);
        host_start(&n->host[i], &cfg, n->now_us);
    }
}

const char *net_stop(struct net *n)
{
    const char *bad = NULL;

    for (unsigned i = 0; i < 2; i++) {
        const char *b = host_stop(&n->host[i]);

        bad = bad ? bad : b;
    }
    sim_destroy(n->link);
    return bad;
}

const char *net_check(struct net *n)
{
    const char *bad = engine_check(n->host[0].e);

    return bad ? bad : engine_check(n->host[1].e);
}

/* One turn of each host, as a worker does it. */
static bool turn(struct net *n, unsigned i)
{
    struct host *h = &n->host[i];
    struct device *d = sim_end(n->link, i);
    struct pktbuf *rx[DEV_RX_BURST_MAX], *tx[DEV_TX_BURST_MAX];
    bool moved = false;
    int got;
    unsigned k;

    h->now_us = n->now_us;
    got = d->ops->rx_burst(d, rx, DEV_RX_BURST_MAX);
    assert(got >= 0);
    if (got) {
        engine_rx(h->e, rx, (unsigned)got, n->now_us);
        moved = true;
    }
    engine_timers(h->e, n->now_us);
    while ((k = engine_tx_peek(h->e, 0, tx, DEV_TX_BURST_MAX, n->now_us))) {
        int sent = d->ops->tx_burst(d, tx, k);

        assert(sent >= 0);
        engine_tx_consume(h->e, 0, (unsigned)sent);
        moved = true;
        if ((unsigned)sent < k)
            break;
    }
    host_run(h);
    return moved;
}

static void clock_set(struct net *n, uint64_t now_us)
{
    n->now_us = now_us;
    sim_set_now(n->link, n->now_us);
    n->host[0].now_us = n->host[1].now_us = n->now_us;
}

void net_jump(struct net *n, uint64_t us)
{
    clock_set(n, n->now_us + us);
}

void net_step(struct net *n, uint64_t until_us)
{
    uint64_t next = until_us;

    n->steps++;
    for (unsigned i = 0; turn(n, 0) | turn(n, 1); i++)
        assert(i < 100000 && "the hosts never come to rest");
    if (sim_next_us(n->link) < next)
        next = sim_next_us(n->link);
    for (unsigned i = 0; i < 2; i++)
        if (engine_deadline(n->host[i].e) < next)
            next = engine_deadline(n->host[i].e);
    clock_set(n, next > n->now_us ? next : n->now_us + 1);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cluster.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/handoff.h"
#include "daemon/sort.h"

#define LEADER 0u

struct member {
    struct cluster *cluster;
    unsigned index;
    struct engine_peers peers;
    const uint32_t *asleep;
    int bell_fd;
    uint32_t gave; /* bits: workers that were given something in this turn */
    struct cluster_counters count;
};

struct cluster {
    unsigned workers;
    struct sorter sorter;
    struct spread spread[ENGINE_DEV_MAX];
    uint8_t if_dev[ENGINE_IF_MAX];
    struct handoff rings[SG_WORKERS_MAX][SG_WORKERS_MAX]; /* [to][from] */
    struct handoff sends[SG_WORKERS_MAX];                 /* [from], to the leader */
    struct member members[SG_WORKERS_MAX];
    uint32_t told[SG_WORKERS_MAX]; /* the leader's: version of the addresses that each knows */
    void *net;                     /* the leader's: room for them */
};

static_assert(SG_WORKERS_MAX <= DEV_QUEUES_MAX && SG_WORKERS_MAX <= 16, "a queue and a bit for each");

static struct member *member_of(void *ctx)
{
    return ctx;
}

/* ---- Handing on -------------------------------------------------------------------------------------- */

static void count_put(struct member *m, unsigned to, bool put)
{
    if (!put) {
        m->count.handoff_full++;
        return;
    }
    m->count.handed_on++;
    m->gave |= 1u << to;
}

static void give_frame(struct member *m, unsigned to, enum handoff_kind kind, const struct pktbuf *p)
{
    const struct handoff_rec r = {.kind = (uint8_t)kind, .dev = p->dev};

    count_put(m, to, handoff_put_frame(&m->cluster->rings[to][m->index], &r, p));
}

static void give_packet(struct member *m, unsigned to, const struct engine_packet *p, bool copy)
{
    const struct handoff_rec r = {
        .kind = p->looped ? HANDOFF_LOOPED : HANDOFF_PACKET,
        .dev = p->ifindex,
        .group = copy,
        .hdr_bytes = (uint16_t)p->hdr_bytes,
        .flags = p->csum_ok ? PKT_CSUM_GOOD : 0,
        .gso_size = p->gso_size,
    };

    count_put(m, to,
              handoff_put(&m->cluster->rings[to][m->index], &r, p->hdr, p->hdr_bytes, p->payload,
                          p->payload_bytes));
}

void cluster_receive(struct cluster *c, unsigned w, struct engine *e, unsigned dev, struct pktbuf *pkts[],
                     unsigned n, uint64_t now_us)
{
    struct member *m = &c->members[w];
    struct pktbuf *mine[DEV_RX_BURST_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < n; i++) {
        uint32_t mask = sort_frame(&c->sorter, w, &c->spread[dev], pkts[i]->data, pkts[i]->len);

        if (mask & 1u << w)
            mine[count++] = pkts[i];
        else if (mask & SORT_COPY && w == LEADER)
            engine_rx_copy(e, pkts[i], now_us);
        for (unsigned to = 0; to < c->workers; to++)
            if (to != w && mask >> to & 1)
                give_frame(m, to, HANDOFF_FRAME, pkts[i]);
        if (mask & SORT_COPY && w != LEADER)
            give_frame(m, LEADER, HANDOFF_COPY, pkts[i]);
    }
    engine_rx(e, mine, count, now_us);
}

int cluster_send(struct cluster *c, unsigned w, unsigned dev, struct pktbuf *const pkts[], unsigned n)
{
    struct member *m = &c->members[w];
    unsigned taken = 0;

    for (; taken < n; taken++) {
        const struct handoff_rec r = {.kind = HANDOFF_SEND, .dev = (uint8_t)dev};

        if (!handoff_put_frame(&c->sends[w], &r, pkts[taken]))
            break;
        m->gave |= 1u << LEADER;
    }
    return (int)taken;
}

void cluster_tell_net(struct cluster *c, const struct engine *e)
{
    const struct handoff_rec r = {.kind = HANDOFF_NET};
    uint32_t version = engine_net_version(e);
    struct member *m = &c->members[LEADER];
    bool exported = false;

    for (unsigned to = 1; to < c->workers; to++) {
        if (c->told[to] == version)
            continue;
        if (!exported)
            engine_net_export(e, c->net);
        exported = true;
        /* No room: again next turn. */
        if (!handoff_put(&c->rings[to][LEADER], &r, c->net, (uint32_t)engine_net_bytes(), NULL, 0))
            continue;
        c->told[to] = version;
        m->gave |= 1u << to;
    }
}

void cluster_wake(struct cluster *c, unsigned w)
{
    struct member *m = &c->members[w];
    const uint64_t one = 1;

    if (!m->gave)
        return;
    sg_fence(); /* [P3], with the fence of the one that sleeps. */
    for (unsigned to = 0; to < c->workers; to++) {
        if (!(m->gave >> to & 1) || !__atomic_load_n(c->members[to].asleep, __ATOMIC_RELAXED))
            continue;
        if (write(c->members[to].bell_fd, &one, sizeof(one)) < 0)
            assert(errno == EAGAIN); /* The count is full: it is readable. */
    }
    m->gave = 0;
}

/* ---- Taking over ------------------------------------------------------------------------------------- */

static void take_one(struct engine *e, const struct handoff_rec *r, uint8_t *bytes, uint64_t now_us)
{
    struct engine_packet p = {.hdr = bytes,
                              .payload = bytes + r->hdr_bytes,
                              .hdr_bytes = r->hdr_bytes,
                              .payload_bytes = r->len - r->hdr_bytes,
                              .ifindex = r->dev,
                              .looped = r->kind == HANDOFF_LOOPED,
                              .csum_ok = r->flags & PKT_CSUM_GOOD,
                              .copy = r->group,
                              .gso_size = r->gso_size};
    struct pktbuf frame, *one = &frame;

    switch ((enum handoff_kind)r->kind) {
    case HANDOFF_FRAME:
        handoff_frame(r, bytes, &frame);
        engine_rx(e, &one, 1, now_us);
        break;
    case HANDOFF_COPY:
        handoff_frame(r, bytes, &frame);
        engine_rx_copy(e, &frame, now_us);
        break;
    case HANDOFF_PACKET:
    case HANDOFF_LOOPED:
        engine_rx_packet(e, &p, now_us);
        break;
    case HANDOFF_NET:
        engine_net_import(e, bytes);
        break;
    case HANDOFF_SKIP:
    case HANDOFF_SEND:
        assert(false);
    }
}

unsigned cluster_take(struct cluster *c, unsigned w, struct engine *e, uint64_t now_us)
{
    struct member *m = &c->members[w];
    unsigned taken = 0;

    for (unsigned from = 0; from < c->workers; from++) {
        struct handoff *h = &c->rings[w][from];
        uint32_t ahead = 0, n = 0;
        struct handoff_rec r;
        uint8_t *bytes;

        if (from == w)
            continue;
        for (; n < CLUSTER_TAKE_MAX && handoff_peek(h, &ahead, &r, &bytes); n++)
            take_one(e, &r, bytes, now_us);
        if (ahead)
            handoff_consume(h, ahead);
        taken += n;
    }
    m->count.handed_over += taken;
    return taken;
}

unsigned cluster_forward(struct cluster *c, int (*send)(void *arg, unsigned dev, struct pktbuf *p), void *arg)
{
    unsigned sent = 0;

    for (unsigned from = 1; from < c->workers; from++) {
        struct handoff *h = &c->sends[from];
        uint32_t ahead = 0, done = 0;
        struct handoff_rec r;
        struct pktbuf frame;
        uint8_t *bytes;

        for (unsigned n = 0; n < CLUSTER_TAKE_MAX && handoff_peek(h, &ahead, &r, &bytes); n++) {
            handoff_frame(&r, bytes, &frame);
            if (send(arg, r.dev, &frame) == 0) /* The device is full: the rest waits. */
                break;
            done = ahead;
            sent++;
        }
        if (done)
            handoff_consume(h, done);
    }
    return sent;
}

bool cluster_pending(const struct cluster *c, unsigned w)
{
    for (unsigned from = 0; from < c->workers; from++) {
        if (from != w && handoff_pending(&c->rings[w][from]))
            return true;
        if (w == LEADER && from != LEADER && handoff_pending(&c->sends[from]))
            return true;
    }
    return false;
}

const struct cluster_counters *cluster_counters(const struct cluster *c, unsigned w)
{
    return &c->members[w].count;
}

/* ---- What the engines ask for ------------------------------------------------------------------------ */

static int op_bind(void *ctx, const struct engine_port_use *u)
{
    return portmap_bind(member_of(ctx)->cluster->sorter.ports, member_of(ctx)->index, u);
}

static void op_unbind(void *ctx, const struct engine_port_use *u)
{
    portmap_unbind(member_of(ctx)->cluster->sorter.ports, member_of(ctx)->index, u);
}

static int op_change(void *ctx, uint32_t old_id, const struct engine_port_use *u)
{
    return portmap_change(member_of(ctx)->cluster->sorter.ports, member_of(ctx)->index, old_id, u);
}

static void op_state(void *ctx, uint8_t proto, uint16_t port, unsigned state)
{
    portmap_state(member_of(ctx)->cluster->sorter.ports, member_of(ctx)->index, proto, port, state);
}

/* Do the answers come in on this worker by themselves? -1: nobody knows. Devices differ, and which one a
 * connection leaves by may change: the first that says something counts for all. */
static int lands_here(const struct member *m, const struct engine_flow *f)
{
    int q = -1;

    for (unsigned d = 0; q < 0 && d < ENGINE_DEV_MAX; d++)
        if (m->cluster->spread[d].queues > 1)
            q = sort_queue(&m->cluster->spread[d], f);
    return q < 0 ? -1 : (unsigned)q == m->index;
}

static bool op_connect(void *ctx, const struct engine_flow *f)
{
    const struct member *m = ctx;

    return lands_here(m, f) && portmap_connect(m->cluster->sorter.ports, m->index, f);
}

static bool op_pin(void *ctx, const struct engine_flow *f)
{
    const struct member *m = ctx;

    return lands_here(m, f) == 1 || portmap_pin(m->cluster->sorter.ports, m->index, f);
}

static void op_unpin(void *ctx, const struct engine_flow *f)
{
    portmap_unpin(member_of(ctx)->cluster->sorter.ports, member_of(ctx)->index, f);
}

static void op_raw(void *ctx, uint16_t family, uint8_t proto, int change)
{
    (void)__atomic_fetch_add(&member_of(ctx)->cluster->sorter.raw[family == SG_AF_INET6][proto],
                             (uint32_t)change, __ATOMIC_RELAXED);
}

static bool op_pass(void *ctx, const struct engine_packet *p)
{
    static const struct spread nowhere = {.kind = SPREAD_NONE, .queues = 2}; /* What we send stays here. */
    struct member *m = ctx;
    struct cluster *c = m->cluster;
    const struct spread *sp = p->looped ? &nowhere : &c->spread[c->if_dev[p->ifindex]];
    uint32_t mask = sort_packet(&c->sorter, m->index, sp, p);

    for (unsigned to = 0; to < c->workers; to++)
        if (to != m->index && mask >> to & 1)
            give_packet(m, to, p, false);
    if (mask & SORT_COPY && m->index != LEADER)
        give_packet(m, LEADER, p, true);
    return !(mask & 1u << m->index);
}

static const struct engine_peers_ops peers_ops = {
    .port_bind = op_bind,
    .port_unbind = op_unbind,
    .port_change = op_change,
    .port_state = op_state,
    .port_connect = op_connect,
    .pin = op_pin,
    .unpin = op_unpin,
    .raw = op_raw,
    .pass = op_pass,
};

/* ---- Start ------------------------------------------------------------------------------------------- */

static int open_rings(struct cluster *c)
{
    int rc = 0;

    for (unsigned to = 0; !rc && to < c->workers; to++)
        for (unsigned from = 0; !rc && from < c->workers; from++)
            rc = to == from ? 0 : handoff_open(&c->rings[to][from]);
    for (unsigned from = 1; !rc && from < c->workers; from++)
        rc = handoff_open(&c->sends[from]);
    return rc;
}

int cluster_create(const struct config *cfg, struct cluster **ret)
{
    struct cluster *c = calloc(1, sizeof(*c));
    int rc;

    if (!c)
        return -ENOMEM;
    c->workers = c->sorter.workers = cfg->workers;
    c->net = malloc(engine_net_bytes());
    rc = c->net ? portmap_create(cfg->engine.listen_max, cfg->engine.udp_max, c->workers, &c->sorter.ports)
                : -ENOMEM;
    if (!rc)
        rc = open_rings(c);
    if (rc) {
        cluster_free(c);
        return rc;
    }
    for (unsigned w = 0; w < c->workers; w++) {
        struct member *m = &c->members[w];

        m->cluster = c;
        m->index = w;
        m->peers = (struct engine_peers){
            .ops = &peers_ops, .ctx = m, .leads = w == LEADER, .waiting = portmap_waiting(c->sorter.ports)};
    }
    *ret = c;
    return 0;
}

void cluster_free(struct cluster *c)
{
    if (!c)
        return;
    for (unsigned to = 0; to < c->workers; to++) {
        for (unsigned from = 0; from < c->workers; from++)
            handoff_close(&c->rings[to][from]);
        handoff_close(&c->sends[to]);
    }
    portmap_free(c->sorter.ports);
    free(c->net);
    free(c);
}

void cluster_device(struct cluster *c, unsigned dev, const struct device_caps *caps, unsigned queues,
                    uint32_t seed)
{
    c->spread[dev] = caps->spread;
    if (queues == 1) /* It all comes in at the leader, which spreads it. */
        c->spread[dev] = (struct spread){.kind = SPREAD_FLOW, .seed = seed};
    c->spread[dev].queues = (uint8_t)c->workers;
}

void cluster_interfaces(struct cluster *c, const struct engine_config *e)
{
    for (unsigned i = 0; i < e->if_count; i++)
        c->if_dev[i] = e->ifs[i].dev;
}

const struct engine_peers *cluster_peers(struct cluster *c, unsigned w)
{
    return &c->members[w].peers;
}

void cluster_join(struct cluster *c, unsigned w, const uint32_t *asleep, int bell_fd)
{
    c->members[w].asleep = asleep;
    c->members[w].bell_fd = bell_fd;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start-up and the turn.
 */
#include "daemon/engine/engine_int.h"

/* The first page of the arena: who wrote it and how it is laid out, for a daemon that finds it. */
struct arena_header {
    uint64_t magic;
    uint32_t layout_version;
    uint32_t header_bytes;
    uint64_t layout_hash; /* over sizes and counts of everything in the arena */
    uint8_t secret[32];
};

#define ARENA_MAGIC          UINT64_C(0x414e455241474b53) /* "SKGARENA" */
#define ARENA_LAYOUT_VERSION 2u
#define ALIGN_UP(x, a)       (((x) + (a)-1) & ~((size_t)(a)-1))

void engine_config_default(struct engine_config *cfg)
{
    *cfg = (struct engine_config){
        .conn_max = 131072,
        .listen_max = 1024,
        .udp_max = 4096,
        .req_max = 16384,
        .orphan_max = 16384,
        .orphan_bytes_max = UINT64_C(256) << 20,
        .tw_max = 131072,
        .session_max = 256,
        .neigh_max = 1024,
        .range_max = 65536,
        .txseg_max = 262144,
        .flight_max = 65536,
        .reasm_max = 32768,
        .path_max = 16384,
        .frag_max = 16,
        .pkt_max = 512,
        .ifs = {{.mtu = 1500, .tx_frame_max = 1514}},
        .if_count = 1,
        .dad_transmits = 1,
        .rto_min_us = 200000,
        .rto_max_us = 120000000,
        .rto_initial_us = 1000000,
        .delack_us = 40000,
        .time_wait_us = 60000000,
        .fin_wait2_us = 60000000,
        .orphan_us = 60000000,
        .keepalive_idle_s = 7200,
        .keepalive_intvl_s = 75,
        .keepalive_probes = 9,
        .syn_retries = 7,
        .synack_retries = 5,
        .data_retries = 15,
        .orphan_retries = 8,
        .rcvbuf_log2 = 16,
        .rcvbuf_max_log2 = 24,
        .sndbuf_log2 = 16,
        .sndbuf_max_log2 = 24,
        .ttl = 64,
        .timestamps = 1,
        .congestion = CC_CUBIC,
        .bbr_loss_percent = 2,
        .ecn = ENGINE_ECN_ACCEPT,
        .cut_through = 1,
        .idle_restart = 1,
        .fast_path = 1,
        .port_min = 32768,
        .port_max = 60999,
        .icmp_rate = 1000,
        .pmtu_expires_s = 600,
        .challenge_ack_rate = 1000,
    };
}

void engine_config_addr4(struct engine_config *cfg, const uint8_t ip[4], uint8_t prefix)
{
    struct engine_addr *a = &cfg->addrs[cfg->addr_count++];

    *a = (struct engine_addr){.addr = net_ip_addr(get_be32(ip)), .prefix = prefix};
}

void engine_config_gateway4(struct engine_config *cfg, const uint8_t ip[4])
{
    struct engine_route *r = &cfg->routes[cfg->route_count++];

    *r = (struct engine_route){
        .dst = {.family = SG_AF_INET}, .gateway = net_ip_addr(get_be32(ip)), .ifindex = ENGINE_IF_ANY};
}

static bool config_ok(const struct engine_config *c)
{
    const uint32_t pools[] = {c->conn_max,    c->listen_max, c->udp_max,   c->req_max,   c->tw_max,
                              c->session_max, c->neigh_max,  c->range_max, c->txseg_max, c->frag_max,
                              c->flight_max,  c->reasm_max,  c->path_max};

    for (size_t i = 0; i < ARRAY_LEN(pools); i++)
        if (pools[i] < 1 || pools[i] > 1u << 26)
            return false;
    if (c->congestion >= CC_COUNT)
        return false;
    return c->pkt_max >= 8 && c->pkt_max <= 1u << 20 && !(c->pkt_max & (c->pkt_max - 1)) &&
           c->session_max <= INT16_MAX && c->port_min && c->port_min <= c->port_max &&
           c->rcvbuf_log2 >= SG_REGION_LOG2_MIN && c->rcvbuf_log2 <= SG_REGION_LOG2_MAX &&
           c->sndbuf_log2 >= SG_REGION_LOG2_MIN && c->sndbuf_log2 <= SG_REGION_LOG2_MAX &&
           c->rcvbuf_max_log2 <= SG_REGION_LOG2_MAX && c->sndbuf_max_log2 <= SG_REGION_LOG2_MAX;
}

static uint32_t fifo_entries(const struct engine_config *cfg)
{
    uint32_t n = 16;

    while (n < cfg->conn_max + cfg->listen_max + cfg->udp_max)
        n *= 2;
    return n;
}

/* Carves consecutive, aligned pieces from a block; with base NULL it only adds up. */
struct carver {
    uint8_t *base;
    size_t at;
};

static void *carve(struct carver *c, size_t bytes)
{
    void *p = c->base ? c->base + c->at : NULL;

    c->at += ALIGN_UP(bytes, 64);
    return p;
}

struct layout {
    void *header, *udp_arena, *tcp_arena, *mcast_arena;
    void *engine, *pkts, *net, *neigh, *frag, *icmp, *udp, *mcast, *sessions, *ports, *flows, *wheel, *tcp;
    void *tcp_fast;
    void *events;
};

static uint32_t wheel_nodes(const struct engine_config *cfg)
{
    return cfg->conn_max + cfg->req_max + cfg->tw_max;
}

static size_t lay_arena(struct layout *l, void *arena, const struct engine_config *cfg)
{
    struct carver c = {arena, 0};

    l->header = carve(&c, SG_PAGE_BYTES);
    l->udp_arena = carve(&c, udp_arena_bytes(cfg));
    l->tcp_arena = carve(&c, tcp_arena_bytes(cfg));
    l->mcast_arena = carve(&c, mcast_arena_bytes());
    return ALIGN_UP(c.at, SG_PAGE_BYTES);
}

static uint32_t device_count(const struct engine_config *cfg)
{
    uint32_t n = 1;

    for (uint32_t i = 0; i < cfg->if_count && i < ENGINE_IF_MAX; i++)
        if (cfg->ifs[i].dev >= n && cfg->ifs[i].dev < ENGINE_DEV_MAX)
            n = cfg->ifs[i].dev + 1u;
    return n;
}

static size_t lay_scratch(struct layout *l, void *scratch, const struct engine_config *cfg)
{
    struct carver c = {scratch, 0};

    l->engine = carve(&c, sizeof(struct engine));
    l->pkts = carve(&c, pktq_bytes(cfg->pkt_max, device_count(cfg)));
    l->net = carve(&c, net_bytes(cfg));
    l->neigh = carve(&c, neigh_bytes(cfg));
    l->frag = carve(&c, frag_bytes(cfg));
    l->icmp = carve(&c, icmp_bytes(cfg));
    l->udp = carve(&c, udp_bytes(cfg));
    l->mcast = carve(&c, mcast_bytes());
    l->sessions = carve(&c, (size_t)cfg->session_max * sizeof(struct session));
    l->ports = carve(&c, port_bytes());
    l->flows = carve(&c, flow_bytes(wheel_nodes(cfg)));
    l->wheel = carve(&c, wheel_bytes(wheel_nodes(cfg)));
    l->tcp = carve(&c, tcp_scratch_bytes(cfg));
    l->tcp_fast = carve(&c, tcp_fast_bytes(cfg));
    l->events = carve(&c, fifo_entries(cfg) * sizeof(uint64_t));
    return ALIGN_UP(c.at, SG_PAGE_BYTES);
}

size_t engine_arena_bytes(const struct engine_config *cfg)
{
    struct layout l;

    return lay_arena(&l, NULL, cfg);
}

size_t engine_scratch_bytes(const struct engine_config *cfg)
{
    struct layout l;

    return lay_scratch(&l, NULL, cfg);
}

static void write_header(struct arena_header *h, const struct engine_config *cfg)
{
    uint64_t w[] = {sizeof(struct tcp_conn),
                    sizeof(struct tcp_listener),
                    sizeof(struct tcp_req),
                    sizeof(struct tcp_tw),
                    sizeof(struct rx_range),
                    sizeof(struct tx_seg),
                    sizeof(struct tx_flight),
                    sizeof(struct rx_reasm),
                    sizeof(struct udp_sock),
                    sizeof(struct mcast_member),
                    cfg->conn_max,
                    cfg->listen_max,
                    cfg->req_max,
                    cfg->tw_max,
                    cfg->range_max,
                    cfg->txseg_max,
                    cfg->flight_max,
                    cfg->reasm_max,
                    cfg->path_max,
                    cfg->udp_max};
    const struct sip_key fixed = {{ARENA_MAGIC, ARENA_LAYOUT_VERSION}};

    h->magic = ARENA_MAGIC;
    h->layout_version = ARENA_LAYOUT_VERSION;
    h->header_bytes = sizeof(*h);
    h->layout_hash = sip_words(&fixed, w, ARRAY_LEN(w), 2, 4);
    memcpy(h->secret, cfg->secret, sizeof(h->secret));
}

struct engine *engine_init(void *arena, void *scratch, const struct engine_config *cfg, uint64_t now_us)
{
    struct layout l;
    struct engine *e;
    struct sip_key flow_key, port_key, pmtu_key;

    if (!config_ok(cfg))
        return NULL;
    (void)lay_arena(&l, arena, cfg);
    (void)lay_scratch(&l, scratch, cfg);
    e = l.engine;
    e->cfg = *cfg;
    e->now_us = now_us;
    flow_key = net_key(cfg, 1);
    port_key = net_key(cfg, 2);
    e->tcp.isn_key = net_key(cfg, 3);
    e->tcp.ts_key = net_key(cfg, 4);
    e->tcp.cookie_key = net_key(cfg, 5);
    e->tcp.limit_key = net_key(cfg, 6);
    e->tcp.fastopen_key = net_stable_key(cfg, 7);
    pmtu_key = net_key(cfg, 16);
    write_header(l.header, cfg);
    pktq_init(&e->txq, l.pkts, cfg->pkt_max, device_count(cfg));
    if (!net_init(&e->net, l.net, cfg) || !addr_init(e))
        return NULL;
    neigh_init(&e->neigh, l.neigh, cfg);
    frag_init(&e->frag, l.frag, cfg);
    icmp_init(&e->icmp, l.icmp, cfg);
    pmtu_init(&e->pmtu, &pmtu_key);
    udp_init(&e->udp, l.udp_arena, l.udp, cfg);
    mcast_init(e, l.mcast_arena, l.mcast);
    dhcp_init(e, now_us);
    e->sessions = l.sessions;
    port_init(&e->ports, l.ports, &port_key);
    flow_init(&e->flows, l.flows, wheel_nodes(cfg), &flow_key);
    wheel_init(&e->wheel, l.wheel, wheel_nodes(cfg), now_us);
    e->events = (struct event_fifo){.v = l.events, .mask = fifo_entries(cfg) - 1};
    tcp_init(e, l.tcp_arena, l.tcp);
    tcp_fast_init(e, l.tcp_fast);
    return e;
}

void engine_announce(struct engine *e, uint64_t now_us)
{
    e->now_us = now_us;
    if (engine_leads(e))
        addr_start(e, now_us);
    mcast_start(e);
}

void engine_rx(struct engine *e, struct pktbuf *const pkts[], unsigned n, uint64_t now_us)
{
    e->now_us = now_us;
    stat_add(&e->stats, ST_FRAMES_IN, n);
    for (unsigned i = 0; i < n; i++)
        if (!e->cfg.fast_path || !tcp_fast_input(e, pkts[i]))
            net_input(e, pkts[i], now_us);
}

void engine_timers(struct engine *e, uint64_t now_us)
{
    uint32_t node;

    e->now_us = now_us;
    wheel_advance(&e->wheel, now_us);
    while ((node = wheel_pop(&e->wheel)) != NIL)
        tcp_timer_node(e, node);
    if (e->closing)
        session_close_run(e);
    session_sweep(e);
    if (e->pressed)
        session_reclaim_run(e);
    neigh_timers(e, now_us);
    addr_timers(e, now_us);
    frag_timers(e, now_us);
    pmtu_timers(e);
    mcast_timers(e, now_us);
    dhcp_timers(e, now_us);
}

uint64_t engine_deadline(const struct engine *e)
{
    uint64_t t = wheel_deadline(&e->wheel);
    uint64_t neigh = neigh_deadline(e);
    uint64_t frag = frag_deadline(e);

    if (e->closing || e->pressed)
        return 0;
    if (session_sweep_deadline(e) < t)
        t = session_sweep_deadline(e);
    if (neigh < t)
        t = neigh;
    if (e->net.t.next_us < t)
        t = e->net.t.next_us;
    if (mcast_deadline(e) < t)
        t = mcast_deadline(e);
    if (dhcp_deadline(e) < t)
        t = dhcp_deadline(e);
    return frag < t ? frag : t;
}

bool engine_tx_pending(const struct engine *e)
{
    return pktq_pending(&e->txq) || tcp_output_pending(e) || udp_output_pending(e) || net_loop_pending(e);
}

unsigned engine_devices(const struct engine *e)
{
    return e->txq.devices;
}

unsigned engine_tx_peek(struct engine *e, uint8_t dev, struct pktbuf *out[], unsigned max, uint64_t now_us)
{
    struct pktq_dev *d = &e->txq.dev[dev];
    unsigned n;

    e->now_us = now_us;
    neigh_flush(e);
    udp_output(e, now_us);
    tcp_output_run(e);
    net_loop_run(e, now_us);
    n = pktq_peek(&e->txq, dev, out, max);
    d->since_us = !n ? 0 : d->since_us ? d->since_us : now_us;
    return n;
}

void engine_tx_consume(struct engine *e, uint8_t dev, unsigned n)
{
    pktq_consume(&e->txq, dev, n);
    if (n)
        e->txq.dev[dev].since_us = 0;
    stat_add(&e->stats, ST_FRAMES_OUT, n);
}

bool engine_counter(const struct engine *e, unsigned index, const char **name, uint64_t *value)
{
    if (index >= ST_COUNT)
        return false;
    *name = stat_name((enum stat)index);
    *value = e->stats.v[index];
    return true;
}

bool engine_notice(struct engine *e, char *line, size_t bytes)
{
    size_t n = strnlen(e->notice, sizeof(e->notice));

    if (!n || !bytes)
        return false;
    if (n >= bytes)
        n = bytes - 1;
    memcpy(line, e->notice, n);
    line[n] = '\0';
    e->notice[0] = '\0';
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fast path against the long way (docs/decisions/fast-path.md): two servers that differ in nothing but
 * engine_config.fast_path get the same frames at the same times from a client, and the same calls from their
 * applications. Frames are lost, doubled, kept back and changed on the way; options are set, connections are
 * closed, neighbours and links change. After every step both must have sent the same frames, and hold the
 * same records, slots, neighbours, deadlines and counters (but TcpHPHits, which counts the difference).
 *
 *     sim_fastpath SEED [COUNT]      runs seeds SEED..SEED+COUNT-1; prints those that fail
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/engine_int.h"
#include "tests/sim/net.h"

#define FLOWS     3u
#define STEPS     220u
#define BURST     16u
#define HELD_MAX  8u
#define FRAME_MAX 66000u
#define CHUNK_MAX 9000u

enum { FAST, LONG, SERVERS };

struct held {
    struct pktbuf p;
    uint8_t bytes[2048];
};

struct flow {
    uint32_t client, server; /* slots; server 0: not accepted yet */
    bool chatty;             /* small requests, each answered by one small answer */
};

struct run {
    struct host client, server[SERVERS];
    uint64_t seed, rng;
    struct flow flow[FLOWS];
    uint32_t listener;
    bool marks;       /* the path marks, instead of dropping */
    uint32_t trouble; /* chance in 1,000 that a frame is treated badly */
    struct held held[HELD_MAX];
    unsigned held_count;
    char why[200];
};

static uint64_t hits, segments; /* of all runs: is the fast path taken at all? */

static bool chance(struct run *r, uint32_t in_1000)
{
    return rnd_below(&r->rng, 1000) < in_1000;
}

static bool fail(struct run *r, const char *what, unsigned at)
{
    if (!r->why[0])
        (void)snprintf(r->why, sizeof(r->why), "%s (%u)", what, at);
    return false;
}

/* ---- Are they the same? ------------------------------------------------------------------------------- */

static bool same_flight(const struct tcp_table *a, const struct tcp_table *b, uint32_t i, uint32_t k)
{
    struct tx_flight x, y;
    uint32_t sa, sb;

    if (i == NIL || k == NIL)
        return i == k;
    x = a->flights[i];
    y = b->flights[k];
    if (memcmp(&x, &y, sizeof(x)) != 0)
        return false;
    for (sa = x.seg_head, sb = y.seg_head; sa != NIL && sb != NIL;
         sa = a->segs[sa].next, sb = b->segs[sb].next)
        if (memcmp(&a->segs[sa], &b->segs[sb], sizeof(a->segs[sa])) != 0)
            return false;
    return sa == sb;
}

static bool same_conns(struct run *r)
{
    const struct tcp_table *a = &r->server[FAST].e->tcp, *b = &r->server[LONG].e->tcp;

    if (a->conn_pool.high != b->conn_pool.high)
        return fail(r, "numbers of connections differ", 0);
    for (uint32_t i = 0; i < a->conn_pool.high; i++) {
        const uint8_t *x = (const uint8_t *)&a->conns[i], *y = (const uint8_t *)&b->conns[i];

        for (unsigned k = 0; k < sizeof(struct tcp_conn); k++)
            if (x[k] != y[k])
                return fail(r, "connections differ, at byte", k);
        if (a->conns[i].s.kind != SK_TCP)
            continue;
        if (!same_flight(a, b, a->conns[i].flight, b->conns[i].flight))
            return fail(r, "what is in flight differs, of connection", i);
        if (memcmp(&a->bufs[i], &b->bufs[i], sizeof(a->bufs[i])) != 0 ||
            memcmp(&a->rares[i], &b->rares[i], sizeof(a->rares[i])) != 0)
            return fail(r, "what belongs to a connection differs", i);
    }
    return true;
}

static bool same_counters(struct run *r)
{
    const uint64_t *a = r->server[FAST].e->stats.v, *b = r->server[LONG].e->stats.v;

    for (unsigned i = 0; i < ST_COUNT; i++)
        if (a[i] != b[i] && i != ST_TCP_HP_HITS)
            return fail(r, stat_name((enum stat)i), (unsigned)(a[i] - b[i]));
    return b[ST_TCP_HP_HITS] ? fail(r, "the long way counts hits", 0) : true;
}

static bool same(struct run *r)
{
    struct engine *a = r->server[FAST].e, *b = r->server[LONG].e;
    uint32_t slots = 2 * FLOWS + 4;

    if (memcmp(r->server[FAST].slots, r->server[LONG].slots, slots * sizeof(struct sg_slot)) != 0)
        return fail(r, "slots differ", 0);
    if (memcmp(a->neigh.entries, b->neigh.entries, a->neigh.count * sizeof(struct neigh)) != 0)
        return fail(r, "neighbours differ", 0);
    if (engine_deadline(a) != engine_deadline(b))
        return fail(r, "deadlines differ", 0);
    if (r->server[FAST].events != r->server[LONG].events)
        return fail(r, "events differ", 0);
    if (r->server[FAST].fault || r->server[LONG].fault)
        return fail(r, "a session is said to have lied", 0);
    return same_conns(r) && same_counters(r);
}

static bool same_frame(const struct pktbuf *a, const struct pktbuf *b)
{
    static uint8_t x[FRAME_MAX], y[FRAME_MAX];

    return a->total == b->total && a->flags == b->flags && a->gso_size == b->gso_size &&
           a->gso_type == b->gso_type && a->dev == b->dev &&
           (!(a->flags & PKT_CSUM_PARTIAL) ||
            (a->csum_start == b->csum_start && a->csum_offset == b->csum_offset)) &&
           (!a->gso_type || a->hdr_len == b->hdr_len) &&
           host_linear(a, x, sizeof(x)) == host_linear(b, y, sizeof(y)) && memcmp(x, y, a->total) == 0;
}

/* ---- Frames ------------------------------------------------------------------------------------------- */

static void take_events(struct host *h)
{
    struct engine_event ev;

    engine_publish(h->e, h->now_us);
    while (engine_event_next(h->e, &ev)) {
        if (ev.kind == ENGINE_EV_FAULT)
            h->fault = ev.reason;
        if (ev.kind != ENGINE_EV_SOCK)
            continue;
        h->events++;
        sg_store_release_u32(&h->slots[ev.slot].a.ev_seen, h->slots[ev.slot].d.ev_posted);
    }
}

static void to_servers(struct run *r, struct pktbuf *const p[], unsigned n)
{
    for (unsigned i = 0; i < SERVERS; i++)
        engine_rx(r->server[i].e, p, n, r->server[i].now_us);
    if (chance(r, 700)) /* else the next burst comes before anything is published */
        for (unsigned i = 0; i < SERVERS; i++)
            take_events(&r->server[i]);
}

static void mark(struct pktbuf *p)
{
    uint8_t *ip = p->data + ETH_HDR_BYTES;

    if (get_be16(p->data + 12) == ETH_TYPE_IP6) {
        ip[1] |= IP_ECN_CE << 4;
    } else if (get_be16(p->data + 12) == ETH_TYPE_IP4) {
        ip[1] |= IP_ECN_CE;
        ip4_put_csum(ip, IP4_HDR_BYTES);
    }
}

/* Change a header in a way that a peer, a middlebox or an attacker might. */
static void mutate(struct run *r, struct pktbuf *p)
{
    bool is6 = get_be16(p->data + 12) == ETH_TYPE_IP6;
    uint8_t *ip = p->data + ETH_HDR_BYTES;
    uint8_t *h = ip + (is6 ? IP6_HDR_BYTES : IP4_HDR_BYTES);
    static const uint8_t flags[] = {TCP_FIN, TCP_SYN, TCP_RST, TCP_PSH, TCP_ACK, TCP_URG, TCP_ECE, TCP_CWR};

    if (p->len < (uint32_t)(h - p->data) + TCP_HDR_BYTES)
        return;
    switch (rnd_below(&r->rng, 12)) {
    case 0:
        put_be32(h + 4, get_be32(h + 4) + rnd_below(&r->rng, 200) - 100);
        break;
    case 1:
        put_be32(h + 8, get_be32(h + 8) + rnd_below(&r->rng, 200) - 100);
        break;
    case 2:
        put_be16(h + 14, (uint16_t)rnd(&r->rng));
        break;
    case 3:
        put_be16(h + 14, 0);
        break;
    case 4:
        h[13] ^= flags[rnd_below(&r->rng, 8)];
        break;
    case 5:
        h[rnd_below(&r->rng, p->len - (uint32_t)(h - p->data) < 40 ? 20 : 40)] ^= (uint8_t)rnd(&r->rng);
        break;
    case 6:
        ip[rnd_below(&r->rng, is6 ? 8 : 10)] ^= (uint8_t)(1u << rnd_below(&r->rng, 8));
        break;
    case 7:
        mark(p);
        break;
    case 8:
        p->data[rnd_below(&r->rng, 14)] ^= (uint8_t)(1u << rnd_below(&r->rng, 8));
        break;
    case 9:
        p->len = p->total = p->len - rnd_below(&r->rng, p->len);
        return;
    case 10:
        if (p->len >= (uint32_t)(h - p->data) + 32)
            put_be32(h + 24, get_be32(h + 24) + rnd_below(&r->rng, 4000) - 2000); /* the time stamp */
        break;
    case 11:
        p->flags ^= PKT_CSUM_GOOD;
        return;
    }
    if (!is6 && chance(r, 800))
        ip4_put_csum(ip, IP4_HDR_BYTES);
    if (chance(r, 800))
        p->flags |= PKT_CSUM_GOOD;
}

static void hold(struct run *r, const struct pktbuf *p)
{
    struct held *x = &r->held[r->held_count];

    if (r->held_count == HELD_MAX || p->total > sizeof(x->bytes))
        return;
    r->held_count++;
    x->p = *p;
    x->p.len = x->p.total = (uint32_t)host_linear(p, x->bytes, sizeof(x->bytes));
    x->p.frag_count = 0;
    x->p.data = x->bytes;
}

/* What the client has to send goes to both servers. */
static void client_sends(struct run *r)
{
    static uint8_t mem[BURST][FRAME_MAX];
    struct pktbuf *p[BURST], copy[BURST], *list[2 * BURST + HELD_MAX];
    unsigned n = engine_tx_peek(r->client.e, 0, p, 1 + rnd_below(&r->rng, BURST), r->client.now_us), out = 0;

    for (unsigned i = 0; i < n; i++) {
        copy[i] = *p[i];
        copy[i].len = copy[i].total = (uint32_t)host_linear(p[i], mem[i], FRAME_MAX);
        copy[i].data = mem[i];
        copy[i].frag_count = 0;
        if (copy[i].gso_size && copy[i].total <= 1514)
            copy[i].gso_size = 0;
        if (r->marks && chance(r, 100))
            mark(&copy[i]);
        if (!chance(r, r->trouble)) {
            list[out++] = &copy[i];
            continue;
        }
        switch (rnd_below(&r->rng, 4)) {
        case 0: /* lost */
            break;
        case 1:
            list[out++] = &copy[i];
            list[out++] = &copy[i];
            break;
        case 2:
            hold(r, &copy[i]);
            break;
        case 3:
            mutate(r, &copy[i]);
            list[out++] = &copy[i];
            break;
        }
    }
    engine_tx_consume(r->client.e, 0, n);
    if (r->held_count && chance(r, 300))
        for (; r->held_count; r->held_count--)
            list[out++] = &r->held[r->held_count - 1].p;
    to_servers(r, list, out);
}

/* What the servers send must be the same; the client gets it once. */
static bool servers_send(struct run *r)
{
    unsigned max = 1 + rnd_below(&r->rng, BURST);
    struct pktbuf *p[SERVERS][BURST];
    unsigned n[SERVERS];

    for (unsigned i = 0; i < SERVERS; i++)
        n[i] = engine_tx_peek(r->server[i].e, 0, p[i], max, r->server[i].now_us);
    if (n[FAST] != n[LONG])
        return fail(r, "numbers of frames sent differ, by", n[FAST] - n[LONG]);
    for (unsigned i = 0; i < n[FAST]; i++) {
        if (!same_frame(p[FAST][i], p[LONG][i]))
            return fail(r, "frames differ, of the burst", i);
        if (!chance(r, r->trouble))
            engine_rx(r->client.e, &p[FAST][i], 1, r->client.now_us);
    }
    for (unsigned i = 0; i < SERVERS; i++)
        engine_tx_consume(r->server[i].e, 0, n[i]);
    take_events(&r->client);
    return true;
}

static bool exchange(struct run *r)
{
    for (unsigned i = 0; i < 3; i++) {
        client_sends(r);
        if (!servers_send(r))
            return false;
    }
    return true;
}

/* ---- Applications ------------------------------------------------------------------------------------- */

static uint32_t size_of_message(struct run *r)
{
    return chance(r, 800) ? 1 + rnd_below(&r->rng, 200) : 1 + rnd_below(&r->rng, CHUNK_MAX);
}

static bool servers_write(struct run *r, const struct flow *f, uint32_t len)
{
    static uint8_t buf[CHUNK_MAX];
    int64_t n[SERVERS];

    for (uint32_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(i * 7 + len);
    for (unsigned i = 0; i < SERVERS; i++)
        n[i] = app_send(&r->server[i], f->server, buf, len);
    return n[FAST] == n[LONG] || fail(r, "send() returns differ", (unsigned)n[FAST]);
}

static bool servers_read(struct run *r, const struct flow *f, uint32_t max)
{
    static uint8_t buf[SERVERS][CHUNK_MAX];
    int64_t n[SERVERS];

    for (unsigned i = 0; i < SERVERS; i++)
        n[i] = app_recv(&r->server[i], f->server, buf[i], max);
    if (n[FAST] != n[LONG])
        return fail(r, "recv() returns differ", (unsigned)n[FAST]);
    if (n[FAST] > 0 && memcmp(buf[FAST], buf[LONG], (size_t)n[FAST]) != 0)
        return fail(r, "what was read differs", 0);
    return n[FAST] <= 0 || !f->chatty || servers_write(r, f, 1 + rnd_below(&r->rng, 200));
}

static bool both(struct run *r, const struct flow *f, uint32_t level, uint32_t name, uint64_t value)
{
    int rc[SERVERS];

    for (unsigned i = 0; i < SERVERS; i++)
        rc[i] = engine_setopt(r->server[i].e, r->server[i].sid, f->server, level, name, value,
                              r->server[i].now_us);
    return rc[FAST] == rc[LONG] || fail(r, "setsockopt() returns differ", name);
}

/* An option of a connection: Linux's numbers. */
static bool set_option(struct run *r, const struct flow *f)
{
    static const struct {
        uint32_t level, name, values;
    } o[] = {{6, 1, 2} /* NODELAY */,       {6, 3, 2} /* CORK */,
             {6, 12, 2} /* QUICKACK */,     {1, 9, 2} /* KEEPALIVE */,
             {1, 47, 300000} /* pacing */,  {0, 1, 255} /* TOS */,
             {0, 2, 255} /* TTL */,         {6, 18, 30000} /* user time-out */,
             {0, 10, 6} /* MTU_DISCOVER */, {41, 23, 6} /* the same */};
    static const uint64_t cc[] = {0x6369627563, 0x6f6e6572, 0x726262}; /* cubic, reno, bbr */
    uint32_t k = rnd_below(&r->rng, ARRAY_LEN(o) + 1);

    if (k == ARRAY_LEN(o))
        return both(r, f, 6, 13, cc[rnd_below(&r->rng, 3)]);
    return both(r, f, o[k].level, o[k].name, rnd_below(&r->rng, o[k].values));
}

static bool accept_all(struct run *r)
{
    int64_t slot[SERVERS];

    do {
        for (unsigned i = 0; i < SERVERS; i++)
            slot[i] = app_accept(&r->server[i], r->listener);
        if (slot[FAST] != slot[LONG])
            return fail(r, "accept() returns differ", (unsigned)slot[FAST]);
        for (unsigned k = 0; slot[FAST] > 0 && k < FLOWS; k++)
            if (r->server[FAST].slots[slot[FAST]].n.remote_port == 2000 + k)
                r->flow[k].server = (uint32_t)slot[FAST];
    } while (slot[FAST] > 0);
    return true;
}

static bool application_step(struct run *r)
{
    static uint8_t buf[CHUNK_MAX];
    struct flow *f = &r->flow[rnd_below(&r->rng, FLOWS)];
    uint32_t what = rnd_below(&r->rng, 100);

    if (!accept_all(r))
        return false;
    if (what < 45)
        (void)app_send(&r->client, f->client, buf,
                       f->chatty ? 1 + rnd_below(&r->rng, 200) : size_of_message(r));
    if (what % 3 == 0 || f->chatty)
        (void)app_recv(&r->client, f->client, buf, sizeof(buf));
    if (!f->server)
        return true;
    if (what < 80)
        return servers_read(r, f, f->chatty ? sizeof(buf) : 1 + rnd_below(&r->rng, CHUNK_MAX - 1));
    if (what < 94)
        return servers_write(r, f, size_of_message(r));
    return what < 98 || set_option(r, f);
}

/* ---- The world ---------------------------------------------------------------------------------------- */

static bool world_step(struct run *r)
{
    struct flow *f = &r->flow[rnd_below(&r->rng, FLOWS)];
    struct engine_link l = {.up = !chance(r, 300), .mtu = (uint16_t)(1300 + rnd_below(&r->rng, 201))};

    switch (rnd_below(&r->rng, 4)) {
    case 0:
        for (unsigned i = 0; i < SERVERS; i++)
            engine_link(r->server[i].e, 0, &l, r->server[i].now_us);
        break;
    case 1:
        (void)app_shutdown(&r->client, f->client, SG_SHUT_WR);
        break;
    case 2:
        if (f->server)
            for (unsigned i = 0; i < SERVERS; i++)
                (void)app_shutdown(&r->server[i], f->server, 1u << rnd_below(&r->rng, 1));
        break;
    case 3:
        if (f->server)
            for (unsigned i = 0; i < SERVERS; i++)
                (void)app_close(&r->server[i], f->server);
        f->server = 0;
        break;
    }
    return true;
}

static void time_passes(struct run *r)
{
    uint64_t us = rnd_below(&r->rng, 60);

    if (chance(r, 150))
        us = rnd_below(&r->rng, 50000);
    if (chance(r, 15))
        us = rnd_below(&r->rng, 3000000);
    r->client.now_us += us;
    for (unsigned i = 0; i < SERVERS; i++)
        r->server[i].now_us += us;
    if (!chance(r, 600))
        return;
    host_run(&r->client);
    for (unsigned i = 0; i < SERVERS; i++)
        host_run(&r->server[i]);
}

static void configure(struct run *r, struct engine_config *cfg, uint8_t last, bool is6)
{
    struct engine_addr a = {.addr = {.ip = {0x20, 0x01, 0x0d, 0xb8, [15] = last}, .family = SG_AF_INET6},
                            .prefix = 64};

    host_config(cfg, last);
    cfg->conn_max = 16;
    cfg->txseg_max = chance(r, 900) ? 512 : 3;
    cfg->flight_max = chance(r, 900) ? 64 : 2;
    cfg->rcvbuf_log2 = (uint8_t)(13 + rnd_below(&r->rng, 5));
    cfg->sndbuf_log2 = (uint8_t)(13 + rnd_below(&r->rng, 5));
    cfg->timestamps = chance(r, 700);
    cfg->ecn = r->marks ? ENGINE_ECN_ON : ENGINE_ECN_ACCEPT;
    cfg->congestion = chance(r, 800) ? CC_CUBIC : (uint8_t)rnd_below(&r->rng, CC_COUNT);
    cfg->ifs[0].offloads = chance(r, 500) ? ENGINE_TX_CSUM : 0;
    if (cfg->ifs[0].offloads && chance(r, 500)) {
        cfg->ifs[0].offloads |= ENGINE_TX_TSO4 | ENGINE_TX_TSO6;
        cfg->ifs[0].tx_frame_max = 65549;
    }
    if (is6) {
        cfg->ifs[0].ip6 = true;
        cfg->dad_transmits = 0;
        cfg->addrs[cfg->addr_count++] = a;
    }
}

static void start(struct run *r)
{
    bool is6 = chance(r, 400);
    struct engine_config cfg;

    r->marks = chance(r, 300);
    r->trouble = chance(r, 500) ? 0 : rnd_below(&r->rng, 120);
    configure(r, &cfg, 1, is6);
    host_start(&r->client, &cfg, 1000000);
    configure(r, &cfg, 2, is6);
    for (unsigned i = 0; i < SERVERS; i++) {
        cfg.fast_path = i == FAST;
        host_start(&r->server[i], &cfg, 1000000);
        r->server[i].family = is6 ? SG_AF_INET6 : SG_AF_INET;
        r->listener = app_socket(&r->server[i], SG_SOCK_STREAM);
        assert(app_bind(&r->server[i], r->listener, 9000) == 0);
        assert(app_listen(&r->server[i], r->listener, 16) == 0);
    }
    r->client.family = is6 ? SG_AF_INET6 : SG_AF_INET;
    for (unsigned k = 0; k < FLOWS; k++) {
        r->flow[k] =
            (struct flow){.client = app_socket(&r->client, SG_SOCK_STREAM), .chatty = chance(r, 700)};
        assert(app_bind(&r->client, r->flow[k].client, (uint16_t)(2000 + k)) == 0);
        assert(app_connect(&r->client, r->flow[k].client, 2, 9000) == 0);
    }
}

static bool stop(struct run *r)
{
    const char *bad = host_stop(&r->client);

    hits += r->server[FAST].e->stats.v[ST_TCP_HP_HITS];
    segments += r->server[FAST].e->stats.v[ST_TCP_IN_SEGS];
    for (unsigned i = 0; i < SERVERS; i++) {
        const char *b = host_stop(&r->server[i]);

        bad = bad ? bad : b;
    }
    return !bad || fail(r, bad, 0);
}

static bool run_seed(uint64_t seed)
{
    static struct run r;
    bool ok = true;

    memset(&r, 0, sizeof(r));
    r.seed = seed;
    r.rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    start(&r);
    for (unsigned i = 0; ok && i < STEPS; i++) {
        ok = chance(&r, 4) ? world_step(&r) : application_step(&r);
        ok = ok && exchange(&r) && same(&r);
        time_passes(&r);
        ok = ok && same(&r);
    }
    ok = stop(&r) && ok;
    if (!ok)
        printf("seed %" PRIu64 ": %s\n", seed, r.why);
    return ok;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, failed = 0;

    for (uint64_t i = 0; i < count && failed < 10; i++)
        failed += !run_seed(seed + i);
    printf("%" PRIu64 " seeds, %" PRIu64 " failed; %" PRIu64 " of %" PRIu64 " segments by the fast path\n",
           count, failed, hits, segments);
    if (!failed && hits * 4 < segments) {
        printf("the fast path is hardly ever taken: this shows nothing\n");
        return 1;
    }
    return failed ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/host.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEAP_BYTES (UINT64_C(64) << 24)

void host_config(struct engine_config *cfg, uint8_t last)
{
    engine_config_default(cfg);
    cfg->conn_max = 1200;
    cfg->listen_max = 16;
    cfg->udp_max = 64;
    cfg->req_max = 512;
    cfg->tw_max = 512;
    cfg->session_max = 4;
    cfg->neigh_max = 32;
    cfg->range_max = 4096;
    cfg->txseg_max = 16384;
    cfg->flight_max = 1200;
    cfg->reasm_max = 256;
    cfg->path_max = 256;
    cfg->frag_max = 4;
    cfg->pkt_max = 256;
    cfg->rcvbuf_log2 = cfg->sndbuf_log2 = 18; /* room for what most tests write at once */
    memcpy(cfg->ifs[0].mac, (uint8_t[]){2, 0, 0, 0, 0, last}, 6);
    engine_config_addr4(cfg, (uint8_t[]){192, 0, 2, last}, 24);
    for (size_t i = 0; i < sizeof(cfg->secret); i++)
        cfg->secret[i] = (uint8_t)(i * 7 + last);
}

static void *zeroed(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert(p != MAP_FAILED);
    return p;
}

/*
 * Fuzzers start thousands of hosts of one size, and most of what that costs is page faults: the last one's
 * memory is kept, if it is small, and zeroed instead.
 */
#define SPARE_MAX   4u
#define SPARE_BYTES (8u << 20)
static struct spare {
    void *p;
    size_t bytes;
} spares[SPARE_MAX];

static void *memory_get(size_t bytes)
{
    for (unsigned i = 0; i < SPARE_MAX; i++) {
        void *p = spares[i].p;

        if (!p || spares[i].bytes != bytes)
            continue;
        spares[i].p = NULL;
        return memset(p, 0, bytes);
    }
    return zeroed(bytes);
}

static void memory_put(void *p, size_t bytes)
{
    for (unsigned i = 0; bytes <= SPARE_BYTES && i < SPARE_MAX; i++) {
        if (spares[i].p)
            continue;
        spares[i] = (struct spare){p, bytes};
        return;
    }
    (void)munmap(p, bytes);
}

void host_start(struct host *h, const struct engine_config *cfg, uint64_t now_us)
{
    struct engine_session s = {0};
    uint64_t heap_off = (HOST_SLOTS * sizeof(struct sg_slot) + 0xffff) & ~UINT64_C(0xffff);

    memset(h, 0, sizeof(*h));
    h->cfg = *cfg;
    h->now_us = now_us;
    h->arena = memory_get(engine_arena_bytes(cfg));
    h->scratch = memory_get(engine_scratch_bytes(cfg));
    h->e = engine_init(h->arena, h->scratch, cfg, now_us);
    assert(h->e);
    h->seg_bytes = heap_off + HEAP_BYTES;
    h->seg = zeroed(h->seg_bytes);
    h->slots = (void *)h->seg;
    h->slot_sock = calloc(1, engine_slot_map_bytes(HOST_SLOTS));
    h->heap_meta = memory_get(segheap_meta_bytes(HEAP_BYTES));
    s.base = h->seg;
    s.bytes = h->seg_bytes;
    s.slots = h->slots;
    s.slot_count = HOST_SLOTS;
    s.heap_off = heap_off;
    s.heap_bytes = HEAP_BYTES;
    s.slot_sock = h->slot_sock;
    s.heap_meta = h->heap_meta;
    s.buffer_bytes_max = HEAP_BYTES;
    s.sockets_max = HOST_SLOTS - 1;
    h->sid = engine_session_add(h->e, &s, now_us);
    assert(h->sid >= 0);
    h->next_slot = 1;
    h->family = SG_AF_INET;
}

const char *host_stop(struct host *h)
{
    struct engine_session_use use;
    const char *bad;

    engine_session_end(h->e, h->sid, h->now_us);
    do {
        engine_timers(h->e, h->now_us);
        while (host_tx(h))
            ;
        engine_session_use(h->e, h->sid, &use);
    } while (use.sockets);
    bad = engine_check(h->e);
    engine_session_use(h->e, h->sid, &use);
    if (!bad && engine_session_idle(h->e, h->sid) && (use.orphans || use.sockets || use.buffer_bytes))
        bad = "an idle session still holds something";
    memory_put(h->arena, engine_arena_bytes(&h->cfg));
    memory_put(h->scratch, engine_scratch_bytes(&h->cfg));
    munmap(h->seg, h->seg_bytes);
    memory_put(h->heap_meta, segheap_meta_bytes(HEAP_BYTES));
    free(h->slot_sock);
    h->e = NULL;
    return bad;
}

static void take_events(struct host *h)
{
    struct engine_event ev;

    engine_publish(h->e, h->now_us);
    while (engine_event_next(h->e, &ev)) {
        if (ev.kind == ENGINE_EV_FAULT) {
            h->fault = ev.reason;
            continue;
        }
        if (ev.kind == ENGINE_EV_RELEASE) {
            (void)engine_release(h->e, h->sid, ev.slot); /* as the library does when it is not sending */
            engine_publish(h->e, h->now_us); /* what a command changed stands in the slot before its reply */
            continue;
        }
        h->events++;
        sg_store_release_u32(&h->slots[ev.slot].a.ev_seen, h->slots[ev.slot].d.ev_posted);
    }
}

void host_rx(struct host *h, const struct pktbuf *p)
{
    /* A copy of exactly the right size, so that the address sanitizer sees reads past the end. */
    uint8_t *copy = malloc(p->len ? p->len : 1);
    struct pktbuf q = *p;
    struct pktbuf *list[1] = {&q};

    memcpy(copy, p->data, p->len);
    q.data = copy;
    engine_rx(h->e, list, 1, h->now_us);
    free(copy);
    take_events(h);
}

void host_rx_bytes(struct host *h, const uint8_t *frame, size_t bytes)
{
    struct pktbuf p = {.data = (uint8_t *)(uintptr_t)frame, .len = (uint32_t)bytes, .total = (uint32_t)bytes};

    host_rx(h, &p);
}

void host_run(struct host *h)
{
    engine_timers(h->e, h->now_us);
    take_events(h);
}

struct pktbuf *host_tx(struct host *h)
{
    static struct pktbuf out;
    static uint8_t copy[65536 + 256];
    struct pktbuf *p[1];
    uint8_t dev = 0;

    while (dev < engine_devices(h->e) && !engine_tx_peek(h->e, dev, p, 1, h->now_us))
        dev++;
    if (dev == engine_devices(h->e)) {
        take_events(h);
        return NULL;
    }
    out = *p[0];
    out.len = out.total = (uint32_t)host_linear(p[0], copy, sizeof(copy));
    out.data = copy;
    out.frag_count = 0;
    engine_tx_consume(h->e, dev, 1);
    return &out;
}

size_t host_linear(const struct pktbuf *p, uint8_t *buf, size_t max)
{
    size_t at = p->len;

    assert(p->total <= max);
    memcpy(buf, p->data, p->len);
    for (unsigned i = 0; i < p->frag_count; i++) {
        memcpy(buf + at, p->frag[i].ptr, p->frag[i].len);
        at += p->frag[i].len;
    }
    assert(at == p->total);
    return at;
}

static struct ip_ep endpoint(uint8_t last, uint16_t port)
{
    return (struct ip_ep){.addr = {.ip = {192, 0, 2, last}, .family = SG_AF_INET}, .port = port};
}

static struct ip_ep endpoint6(const struct host *h, uint8_t last, uint16_t port)
{
    struct ip_ep ep = {.addr = {.ip = {0x20, 0x01, 0x0d, 0xb8}, .family = SG_AF_INET6}, .port = port};

    if (h->mapped)
        memcpy(ep.addr.ip, (uint8_t[16]){[10] = 0xff, 0xff, 192, 0, 2}, 16);
    ep.addr.ip[15] = last;
    return ep;
}

uint32_t app_socket(struct host *h, uint32_t type)
{
    uint32_t slot = h->next_slot;
    int rc;

    for (unsigned i = 0; i < HOST_SLOTS && (!slot || engine_slot_used(h->e, h->sid, slot)); i++)
        slot = (slot + 1) % HOST_SLOTS;
    rc = engine_open(h->e, h->sid, slot, type, 0, h->family);
    assert(rc == 0);
    h->next_slot = (slot + 1) % HOST_SLOTS;
    take_events(h);
    return slot;
}

int app_bind(struct host *h, uint32_t slot, uint16_t port)
{
    struct ip_ep ep = {.addr = {.family = h->family}, .port = port};
    int rc = engine_bind(h->e, h->sid, slot, &ep);

    take_events(h);
    return rc;
}

int app_listen(struct host *h, uint32_t slot, uint32_t backlog)
{
    int rc = engine_listen(h->e, h->sid, slot, backlog, SG_OVERFLOW_DROP);

    take_events(h);
    return rc;
}

int app_connect(struct host *h, uint32_t slot, uint8_t last, uint16_t port)
{
    struct ip_ep ep = h->family == SG_AF_INET6 ? endpoint6(h, last, port) : endpoint(last, port);
    int rc = engine_connect(h->e, h->sid, slot, &ep, h->now_us);

    take_events(h);
    return rc;
}

int64_t app_accept(struct host *h, uint32_t slot)
{
    uint32_t fresh = h->next_slot;
    int rc;

    for (unsigned i = 0; i < HOST_SLOTS && (!fresh || engine_slot_used(h->e, h->sid, fresh)); i++)
        fresh = (fresh + 1) % HOST_SLOTS;
    rc = engine_accept(h->e, h->sid, slot, fresh, h->now_us);
    if (rc)
        return rc;
    h->next_slot = (fresh + 1) % HOST_SLOTS;
    take_events(h);
    return fresh;
}

static void kick(struct host *h, uint32_t slot)
{
    struct sg_slot *s = &h->slots[slot];

    sg_fence();
    if (s->d.kick_seen != s->a.kick_posted)
        return;
    s->a.kick_posted++;
    engine_kick(h->e, h->sid, &slot, 1, h->now_us);
    take_events(h);
}

static const struct sg_next *next_of(uint8_t log2, const struct sg_next *entries)
{
    return &entries[log2 & SG_LOG2_ENTRY ? 1 : 0];
}

static bool offered(const struct sg_slot *s)
{
    return s->d.tx_log2 & SG_LOG2_NEXT && !!(s->d.tx_log2 & SG_LOG2_ENTRY) != (s->a.tx_next & 1);
}

/* The region that the next byte goes to, and its class. */
static uint32_t tx_present(const struct sg_slot *s, unsigned *log2)
{
    const struct sg_next *x = next_of(s->d.tx_log2, s->x.tx);
    bool next = s->d.tx_log2 & SG_LOG2_NEXT && !offered(s);

    *log2 = (next ? x->log2 : s->d.tx_log2) & SG_LOG2_MASK; /* a fuzzer may have been here */
    return next ? x->region : s->d.tx_region;
}

uint64_t app_tx_room(const struct sg_slot *s, uint64_t *size)
{
    uint64_t from = s->d.tx_head > s->a.tx_next_at ? s->d.tx_head : s->a.tx_next_at;
    unsigned log2;

    (void)tx_present(s, &log2);
    if (size)
        *size = UINT64_C(1) << log2;
    return (UINT64_C(1) << log2) - (s->a.tx_tail - from);
}

int64_t app_send(struct host *h, uint32_t slot, const void *buf, size_t len)
{
    struct sg_slot *s = &h->slots[slot];
    uint32_t region;
    uint64_t room;
    unsigned log2;

    if (s->d.flags & SG_F_ERROR)
        return -(int64_t)s->d.error;
    if (s->d.flags & SG_F_TX_SHUT)
        return -EPIPE;
    if (!s->d.tx_region) {
        if (engine_grant(h->e, h->sid, slot))
            return -ENOBUFS;
        take_events(h);
    }
    if (offered(s)) {
        s->a.tx_next_at = s->a.tx_base = s->a.tx_tail;
        sg_store_release_u32(&s->a.tx_next, s->a.tx_next + 1); /* [S10] */
    }
    region = tx_present(s, &log2);
    room = app_tx_room(s, NULL);
    if (!room && len) {
        s->a.want |= SG_WANT_TX;
        return -EAGAIN;
    }
    if (s->a.tx_tail == s->d.tx_head)
        s->a.tx_base = s->a.tx_tail;
    if (len > room)
        len = room;
    sg_bytes_put(h->seg + ((uint64_t)region << SG_REGION_SHIFT), log2, s->a.tx_tail - s->a.tx_base, buf, len);
    sg_store_release_u64(&s->a.tx_tail, s->a.tx_tail + len);
    kick(h, slot);
    return (int64_t)len;
}

void app_rx_copy(const struct host *h, uint32_t slot, void *buf, size_t len)
{
    const struct sg_slot *s = &h->slots[slot];
    const struct sg_next *x = next_of(s->d.rx_log2, s->x.rx);
    uint64_t head = s->a.rx_head;
    size_t before = len;

    if (s->d.rx_log2 & SG_LOG2_NEXT && head + len > x->at)
        before = head < x->at ? (size_t)(x->at - head) : 0;
    if (before)
        sg_bytes_get(h->seg + ((uint64_t)s->d.rx_region << SG_REGION_SHIFT), s->d.rx_log2 & SG_LOG2_MASK,
                     head - s->d.rx_base, buf, before);
    if (before < len)
        sg_bytes_get(h->seg + ((uint64_t)x->region << SG_REGION_SHIFT), x->log2, head + before - x->at,
                     (uint8_t *)buf + before, len - before);
}

int64_t app_recv(struct host *h, uint32_t slot, void *buf, size_t len)
{
    struct sg_slot *s = &h->slots[slot];
    uint64_t n = s->d.rx_tail - s->a.rx_head;

    if (!n) {
        if (s->d.flags & SG_F_ERROR)
            return -(int64_t)s->d.error;
        return s->d.flags & SG_F_RX_FIN ? 0 : -EAGAIN;
    }
    if (n > len)
        n = len;
    app_rx_copy(h, slot, buf, n);
    sg_store_release_u64(&s->a.rx_head, s->a.rx_head + n);
    sg_fence();
    if (s->a.rx_head >= s->d.rx_notify)
        kick(h, slot);
    return (int64_t)n;
}

int64_t app_sendto(struct host *h, uint32_t slot, const void *buf, size_t len, uint8_t last, uint16_t port)
{
    struct sg_slot *s = &h->slots[slot];
    struct sg_dgram_hdr hdr = {.len = (uint32_t)len};
    uint64_t need = sg_dgram_ring_bytes((uint32_t)len);
    uint8_t *region;

    if (last) {
        hdr.family = SG_AF_INET;
        hdr.port = port;
        memcpy(hdr.addr, (uint8_t[]){192, 0, 2, last}, 4);
    }
    if (!s->d.tx_region && engine_grant(h->e, h->sid, slot))
        return -ENOBUFS;
    take_events(h);
    if ((UINT64_C(1) << s->d.tx_log2) - (s->a.tx_tail - s->d.tx_head) < need)
        return -EAGAIN;
    if (s->a.tx_tail == s->d.tx_head)
        s->a.tx_base = s->a.tx_tail;
    region = h->seg + ((uint64_t)s->d.tx_region << SG_REGION_SHIFT);
    sg_bytes_put(region, s->d.tx_log2, s->a.tx_tail - s->a.tx_base, &hdr, sizeof(hdr));
    sg_bytes_put(region, s->d.tx_log2, s->a.tx_tail - s->a.tx_base + sizeof(hdr), buf, len);
    sg_store_release_u64(&s->a.tx_tail, s->a.tx_tail + need);
    kick(h, slot);
    return (int64_t)len;
}

int64_t app_recvfrom(struct host *h, uint32_t slot, void *buf, size_t len, uint8_t from[4], uint16_t *port)
{
    struct sg_slot *s = &h->slots[slot];
    const uint8_t *region = h->seg + ((uint64_t)s->d.rx_region << SG_REGION_SHIFT);
    uint64_t pos = s->a.rx_head - s->d.rx_base;
    struct sg_dgram_hdr hdr;
    size_t n;

    if (s->d.rx_tail == s->a.rx_head)
        return -EAGAIN;
    sg_bytes_get(region, s->d.rx_log2, pos, &hdr, sizeof(hdr));
    n = hdr.len < len ? hdr.len : len;
    sg_bytes_get(region, s->d.rx_log2, pos + sizeof(hdr), buf, n);
    if (from)
        memcpy(from, hdr.addr, 4);
    if (port)
        *port = hdr.port;
    sg_store_release_u64(&s->a.rx_head, s->a.rx_head + sg_dgram_ring_bytes(hdr.len));
    kick(h, slot);
    return (int64_t)n;
}

int app_shutdown(struct host *h, uint32_t slot, uint32_t how)
{
    int rc = engine_shutdown(h->e, h->sid, slot, how, h->now_us);

    take_events(h);
    return rc;
}

int app_close(struct host *h, uint32_t slot)
{
    int rc = engine_close(h->e, h->sid, slot, h->now_us);

    take_events(h);
    return rc;
}

bool app_connected(struct host *h, uint32_t slot)
{
    return h->slots[slot].d.state == SG_ST_CONNECTED;
}

int app_error(struct host *h, uint32_t slot)
{
    return h->slots[slot].d.flags & (SG_F_ERROR | SG_F_SOFT_ERR) ? (int)h->slots[slot].d.error : 0;
}

uint64_t host_counter(struct host *h, const char *name)
{
    const char *n;
    uint64_t v;

    for (unsigned i = 0; engine_counter(h->e, i, &n, &v); i++)
        if (strcmp(n, name) == 0)
            return v;
    assert(!"no such counter");
    return 0;
}

bool host_find(struct host *h, const char *state, struct engine_sock_info *ret)
{
    uint64_t cursor = 0;

    while (engine_sock_next(h->e, &cursor, h->now_us, ret))
        if (strcmp(ret->state, state) == 0)
            return true;
    return false;
}

unsigned host_count(struct host *h, const char *state)
{
    struct engine_sock_info info;
    uint64_t cursor = 0;
    unsigned n = 0;

    while (engine_sock_next(h->e, &cursor, h->now_us, &info))
        n += strcmp(info.state, state) == 0;
    return n;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile application: it writes anything into its slots and its regions, names any slot in its calls and
 * kicks, dies at any moment, and in between behaves well enough for traffic to flow. Beside it an honest
 * session sends bytes to itself, both ways.
 *
 * The engine may answer only with errors and with ENGINE_EV_FAULT for the hostile session. The honest one
 * receives all its bytes. The hostile segment lies between pages that can't be touched, so an access outside
 * it crashes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/engine/engine_int.h"
#include "tests/fuzz/fuzz.h"

#define OWN        2u /* 192.0.2.2 */
#define GOOD_PORT  7u
#define STEPS_MAX  150u
#define SLOTS      16u
#define HEAP_OFF   (UINT64_C(1) << 16)
#define HEAP_BYTES (UINT64_C(1) << 24)
#define SEG_BYTES  (HEAP_OFF + HEAP_BYTES)
#define GUARD      (UINT64_C(1) << 16)
#define QUOTA      (UINT64_C(1) << 20)
#define GOOD_BYTES 30000u

struct hostile {
    int sid;
    uint8_t *map, *base; /* map: with the guards */
    struct sg_slot *slots;
    uint32_t *slot_sock;
    void *heap_meta;
};

struct world {
    struct host h; /* the honest session */
    struct input *in;
    struct hostile x;
    uint32_t listener, a, b; /* a and b are connected to each other */
    uint64_t sent[2], got[2];
};

/* ---- Sessions --------------------------------------------------------------------------------------- */

static void hostile_add(struct world *w)
{
    struct hostile *x = &w->x;
    struct engine_session s = {0};

    x->map = mmap(NULL, SEG_BYTES + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (x->map == MAP_FAILED || mprotect(x->map + GUARD, SEG_BYTES, PROT_READ | PROT_WRITE))
        abort();
    x->base = x->map + GUARD;
    x->slots = (void *)x->base;
    x->slot_sock = calloc(1, engine_slot_map_bytes(SLOTS));
    x->heap_meta = calloc(1, segheap_meta_bytes(HEAP_BYTES));
    s.base = x->base;
    s.bytes = SEG_BYTES;
    s.slots = x->slots;
    s.slot_count = SLOTS;
    s.heap_off = HEAP_OFF;
    s.heap_bytes = HEAP_BYTES;
    s.slot_sock = x->slot_sock;
    s.heap_meta = x->heap_meta;
    s.buffer_bytes_max = QUOTA;
    s.sockets_max = SLOTS - 3;
    x->sid = engine_session_add(w->h.e, &s, w->h.now_us);
    if (x->sid < 0)
        fuzz_fail("no room for a second session");
}

static void wait(struct world *w, uint64_t us)
{
    fuzz_wait(&w->h, us, 1, NULL, NULL);
}

static void hostile_end(struct world *w)
{
    struct hostile *x = &w->x;
    struct engine_session_use use;

    engine_session_end(w->h.e, x->sid, w->h.now_us);
    for (unsigned i = 0; i < 60 && !engine_session_idle(w->h.e, x->sid); i++)
        wait(w, 10000000);
    engine_session_use(w->h.e, x->sid, &use);
    if (!engine_session_idle(w->h.e, x->sid))
        fuzz_fail("an ended session is not idle after ten minutes: %u orphans", use.orphans);
    if (use.sockets || use.orphans || use.buffer_bytes)
        fuzz_fail("an idle session holds %u sockets, %u orphans, %llu bytes", use.sockets, use.orphans,
                  (unsigned long long)use.buffer_bytes);
    engine_session_drop(w->h.e, x->sid);
    (void)munmap(x->map, SEG_BYTES + 2 * GUARD);
    free(x->slot_sock);
    free(x->heap_meta);
}

/* Whoever was expelled must have deserved it. */
static void look_for_faults(struct world *w)
{
    const char *bad = engine_check(w->h.e);

    if (bad)
        fuzz_fail("engine_check: %s", bad);
    if (sock_session(w->h.e, w->h.sid)->fault)
        fuzz_fail("the honest session was expelled: %s", sock_session(w->h.e, w->h.sid)->fault);
    if (!w->h.fault)
        return;
    fuzz_trace("fault: %s", w->h.fault);
    w->h.fault = NULL;
    hostile_end(w);
    hostile_add(w);
}

/* ---- The honest session ------------------------------------------------------------------------------ */

static void good_start(struct world *w)
{
    int64_t s;

    w->listener = app_socket(&w->h, SG_SOCK_STREAM);
    (void)app_bind(&w->h, w->listener, GOOD_PORT);
    (void)app_listen(&w->h, w->listener, 2);
    w->a = app_socket(&w->h, SG_SOCK_STREAM);
    if (app_connect(&w->h, w->a, OWN, GOOD_PORT))
        fuzz_fail("connect to ourselves failed");
    wait(w, 1000);
    s = app_accept(&w->h, w->listener);
    if (s <= 0 || !app_connected(&w->h, w->a))
        fuzz_fail("no connection to ourselves");
    w->b = (uint32_t)s;
}

/* Move some bytes each way. */
static void good_step(struct world *w, uint32_t n)
{
    static uint8_t buf[4096];
    const uint32_t slot[2] = {w->a, w->b};
    int64_t s;

    for (unsigned i = 0; i < 2; i++) {
        uint32_t len = n > sizeof(buf) ? sizeof(buf) : n;

        if (len > GOOD_BYTES - w->sent[i])
            len = (uint32_t)(GOOD_BYTES - w->sent[i]);
        fuzz_pattern_fill(buf, len, w->sent[i]);
        s = len ? app_send(&w->h, slot[i], buf, len) : 0;
        if (s < 0 && s != -EAGAIN)
            fuzz_fail("the honest send: %lld", (long long)s);
        w->sent[i] += s > 0 ? (uint64_t)s : 0;
        while ((s = app_recv(&w->h, slot[!i], buf, sizeof(buf))) > 0) {
            fuzz_pattern_check(buf, (size_t)s, w->got[i], "the honest receiver");
            w->got[i] += (uint64_t)s;
        }
        if (s != -EAGAIN)
            fuzz_fail("the honest receive: %lld", (long long)s);
    }
    s = app_accept(&w->h, w->listener); /* Whoever else comes is shown the door. */
    if (s > 0)
        (void)app_close(&w->h, (uint32_t)s);
}

static void good_finish(struct world *w)
{
    for (unsigned i = 0; i < 300; i++) {
        good_step(w, 4096);
        wait(w, 100000);
        look_for_faults(w);
        if (w->got[0] == GOOD_BYTES && w->got[1] == GOOD_BYTES)
            return;
    }
    fuzz_fail("the honest session got %llu and %llu bytes of %u in 30 s", (unsigned long long)w->got[0],
              (unsigned long long)w->got[1], GOOD_BYTES);
}

/* ---- The hostile one --------------------------------------------------------------------------------- */

/* Mostly a slot that may be in use, at times any number. */
static uint32_t pick_slot(struct world *w)
{
    uint8_t code = take_u8(w->in);

    return code < 0xf0 ? code % SLOTS : code < 0xf8 ? SLOTS + code % 8 : take_u32(w->in);
}

static struct sg_slot *own_slot(struct world *w, uint32_t slot)
{
    return &w->x.slots[slot % SLOTS];
}

static struct ip_ep pick_endpoint(struct world *w)
{
    static const uint16_t ports[] = {0, GOOD_PORT, 8, 9, 10, 4000, 50000, 50001};
    uint8_t code = take_u8(w->in);
    struct ip_ep ep = {.addr = {.ip = {192, 0, 2, OWN}, .family = SG_AF_INET}, .port = ports[code & 7]};

    if (code & 0x08)
        ep.addr.ip[3] = 1;
    if (code & 0x10)
        memset(ep.addr.ip, 0, sizeof(ep.addr.ip));
    if (code & 0x20) {
        ep.port = take_u16(w->in);
        (void)take_bytes(w->in, ep.addr.ip, 4);
    }
    if (code & 0x40)
        ep.addr.family = code & 0x80 ? 0 : take_u8(w->in);
    return ep;
}

static uint64_t pick_value(struct world *w, uint64_t near)
{
    uint8_t code = take_u8(w->in);

    switch (code & 7) {
    case 0:
        return take_u64(w->in);
    case 1:
        return near + take_u16(w->in);
    case 2:
        return near - take_u16(w->in);
    case 3:
        return near + (UINT64_C(1) << (code >> 3));
    case 4:
        return near - (UINT64_C(1) << (code >> 3));
    case 5:
        return UINT64_MAX - (code >> 3);
    case 6:
        return code >> 3;
    default:
        return near;
    }
}

/* One field of the application's line, or of the daemon's own. */
static void scribble(struct world *w)
{
    struct sg_slot *s = own_slot(w, take_u8(w->in));

    switch (take_u8(w->in) % 14) {
    case 0:
        s->a.tx_tail = pick_value(w, s->d.tx_head);
        break;
    case 1:
        s->a.tx_base = pick_value(w, s->a.tx_base);
        break;
    case 2:
        s->a.rx_head = pick_value(w, s->d.rx_tail);
        break;
    case 3:
        s->a.ev_seen = (uint32_t)pick_value(w, s->d.ev_posted);
        break;
    case 4:
        s->a.kick_posted = (uint32_t)pick_value(w, s->d.kick_seen);
        break;
    case 5:
        s->a.want = take_u8(w->in);
        break;
    case 6:
        s->d.rx_region = (uint32_t)pick_value(w, s->d.rx_region);
        break;
    case 7:
        s->d.tx_region = (uint32_t)pick_value(w, s->d.tx_region);
        break;
    case 8:
        s->d.tx_log2 = take_u8(w->in);
        s->d.rx_log2 = take_u8(w->in);
        break;
    case 9:
        s->d.state = take_u8(w->in);
        s->d.flags = take_u8(w->in);
        break;
    case 10:
        (void)take_bytes(w->in, (uint8_t *)s, sizeof(*s));
        break;
    case 11:
        s->a.tx_next = (uint32_t)pick_value(w, s->a.tx_next);
        break;
    case 12:
        s->a.tx_next_at = pick_value(w, s->a.tx_tail);
        break;
    default:
        memset(s, take_u8(w->in), sizeof(*s));
        break;
    }
}

static void kick(struct world *w)
{
    uint32_t slots[8];
    unsigned n = 1 + take_u8(w->in) % 8;

    for (unsigned i = 0; i < n; i++)
        slots[i] = pick_slot(w);
    engine_kick(w->h.e, w->x.sid, slots, n, w->h.now_us);
}

/* As an application that knows the contract: what is not checked here is the engine's to find. */
static void behave(struct world *w)
{
    uint32_t slot = 1 + take_u8(w->in) % (SLOTS - 1);
    struct sg_slot *s = own_slot(w, slot);
    uint8_t code = take_u8(w->in);
    uint64_t n = take_u16(w->in);
    uint64_t room;

    if (!engine_slot_used(w->h.e, w->x.sid, slot))
        return;
    if (code & 1) {
        s->a.rx_head = s->d.rx_tail;
    } else if (s->d.tx_region) {
        if (code & 4 && s->d.tx_log2 & SG_LOG2_NEXT) { /* an offer, taken; maybe one that was taken before */
            s->a.tx_next++;
            s->a.tx_next_at = s->a.tx_tail;
        }
        room = app_tx_room(s, NULL);
        if (s->d.type == SG_SOCK_DGRAM && (uint64_t)s->d.tx_region << SG_REGION_SHIFT < SEG_BYTES - 64) {
            struct sg_dgram_hdr hdr = {
                .len = (uint32_t)n, .family = SG_AF_INET, .port = 9, .addr = {192, 0, 2, OWN}};

            if (code & 2)
                (void)take_bytes(w->in, (uint8_t *)&hdr, sizeof(hdr));
            s->a.tx_base = s->a.tx_tail;
            memcpy(w->x.base + ((uint64_t)s->d.tx_region << SG_REGION_SHIFT), &hdr, sizeof(hdr));
            n = sg_dgram_record_bytes(&hdr);
        }
        s->a.tx_tail += n < room ? n : room;
    }
    engine_kick(w->h.e, w->x.sid, &slot, 1, w->h.now_us);
}

static void call(struct world *w)
{
    struct engine *e = w->h.e;
    int sid = w->x.sid;
    uint8_t code = take_u8(w->in);
    uint32_t slot = pick_slot(w);
    struct ip_ep ep;
    uint64_t value;

    switch (code % 14) {
    case 0:
    case 1:
        (void)engine_open(e, sid, slot, SG_SOCK_STREAM, 0, SG_AF_INET);
        break;
    case 2:
        (void)engine_open(e, sid, slot, SG_SOCK_DGRAM, 0, SG_AF_INET);
        break;
    case 3:
        (void)engine_open(e, sid, slot, take_u8(w->in), take_u8(w->in), take_u8(w->in));
        break;
    case 4:
        ep = pick_endpoint(w);
        (void)engine_bind(e, sid, slot, &ep);
        break;
    case 5:
        (void)engine_listen(e, sid, slot, take_u8(w->in), take_u8(w->in) & 3);
        break;
    case 6:
    case 7:
        ep = pick_endpoint(w);
        (void)engine_connect(e, sid, slot, &ep, w->h.now_us);
        break;
    case 8:
        (void)engine_accept(e, sid, slot, pick_slot(w), w->h.now_us);
        break;
    case 9:
        (void)engine_shutdown(e, sid, slot, take_u8(w->in), w->h.now_us);
        break;
    case 10:
        (void)engine_close(e, sid, slot, w->h.now_us);
        break;
    case 11:
        (void)engine_setopt(e, sid, slot, code & 0x80 ? 6 : 1, take_u8(w->in) & 31, pick_value(w, 1),
                            w->h.now_us);
        break;
    case 12:
        (void)engine_getopt(e, sid, slot, code & 0x80 ? 6 : 1, take_u8(w->in) & 31, &value);
        break;
    default:
        if (code & 0x80)
            (void)engine_grant(e, sid, slot);
        else
            (void)engine_release(e, sid, slot);
        break;
    }
}

static void step(struct world *w)
{
    uint8_t code = take_u8(w->in);

    fuzz_trace("step %#x, %zu left", code, w->in->left);
    switch (code & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        call(w);
        break;
    case 5:
    case 6:
    case 7:
        behave(w);
        break;
    case 8:
    case 9:
        kick(w);
        break;
    case 10:
    case 11:
    case 12:
        scribble(w);
        break;
    case 13:
        wait(w, fuzz_duration_us(take_u8(w->in) % 12)); /* short: the honest one must not time out */
        break;
    case 14:
        good_step(w, take_u16(w->in));
        break;
    default:
        if (code & 0x70)
            break;
        hostile_end(w); /* It is killed, and comes again. */
        hostile_add(w);
        break;
    }
    if (code & 0x80)
        return; /* Several calls in one turn. */
    host_run(&w->h);
    wait(w, 1);
    look_for_faults(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct input in = {data, size};
    struct engine_config cfg;

    memset(&w, 0, sizeof(w));
    w.in = &in;
    fuzz_config(&cfg);
    cfg.conn_max = 40; /* pools are shared: what one session takes the other lacks */
    cfg.udp_max = 20;
    cfg.req_max = 40;
    cfg.listen_max = 20;
    cfg.txseg_max = 4096;
    cfg.range_max = 512;
    cfg.flight_max = 16;
    cfg.reasm_max = 8;
    cfg.port_max = 50099;
    host_start(&w.h, &cfg, 1000000);
    good_start(&w);
    hostile_add(&w);
    for (unsigned i = 0; i < STEPS_MAX && in.left; i++)
        step(&w);
    host_run(&w.h);
    look_for_faults(&w);
    good_finish(&w);
    hostile_end(&w);
    w.h.fault = NULL;
    fuzz_stop(&w.h);
    return 0;
}

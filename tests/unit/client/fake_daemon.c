/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/client/fake_daemon.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/abi/seg.h"
#include "proto/control.pb-c.h"

#define REQUIRE(x)                                                                                           \
    do {                                                                                                     \
        if (!(x)) {                                                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                          \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* One direction of a socket: two regions, the second twice as large; streams go from one to the other. */
struct fring {
    uint64_t head, tail, base;
    uint64_t at;   /* with next: where the other region takes over */
    uint8_t which; /* the region in use */
    uint8_t count; /* switches begun */
    bool region;   /* is there one */
    bool next;     /* the other one follows */
    bool offer;    /* send: the other one is on offer */
};

struct fsock {
    bool used;
    uint8_t type, state;
    uint16_t port; /* the peer's: its behaviour */
    uint16_t lport;
    uint32_t flags, error;
    struct fring rx, tx;
    bool switches; /* begins a switch whenever it can */
    uint32_t ev_posted;
    bool ev_owed;         /* the event ring was full */
    uint16_t waiting[64]; /* listener: ports of the connections that wait */
    uint32_t wait_count;
};

struct fake {
    unsigned pictures_lost;
    struct fake_options o;
    char dir[64], path[96];
    pthread_mutex_t lock;
    pthread_t thread;
    int listen_fd, ctl_fd, wake_fd;
    bool stop, dead;
    bool blocked; /* the event ring is full: look again soon */

    int seg_fd, status_fd, doorbell_fd, event_fd;
    uint8_t *seg;
    uint64_t seg_bytes, heap_off;
    struct sg_status *status;
    struct sg_channel *ch;
    struct sg_slot *slots;
    struct sg_ring kicks, cmds, events;
    struct fsock *socks;
    struct fake_seen seen;
};

/* ---- The segment --------------------------------------------------------------------------------- */

static int sealed_fd(uint64_t bytes, bool seal)
{
    int fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    REQUIRE(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    if (seal)
        REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    return fd;
}

static void spoil(struct sg_seg_hdr *h, enum fake_fault fault)
{
    if (fault == FAKE_BAD_MAGIC)
        h->magic ^= 1;
    if (fault == FAKE_BAD_VERSION)
        h->abi_version++;
    if (fault == FAKE_BAD_SIZE)
        h->seg_bytes += SG_PAGE_BYTES;
    if (fault == FAKE_BAD_SLOTS)
        h->slot_off = h->seg_bytes - SG_CACHE_LINE;
    if (fault == FAKE_BAD_RINGS)
        h->cmd_entries = 48;
    if (fault == FAKE_BAD_HEAP)
        h->heap_off = UINT64_MAX - SG_PAGE_BYTES + 1;
}

/* Heap of a slot, in units of the smaller region: each direction has one of those and one of twice the
 * size. */
#define REGIONS_SHARE 6u

static uint64_t region_bytes(const struct fake *f)
{
    return UINT64_C(1) << f->o.region_log2;
}

static void segment_make(struct fake *f)
{
    uint32_t n = f->o.ring_entries;
    uint64_t channel = sg_channel_size(n, n, n);
    uint64_t slot_off = SG_PAGE_BYTES + channel;
    uint64_t slot_bytes =
        (f->o.slots * sizeof(struct sg_slot) + SG_PAGE_BYTES - 1) & ~(uint64_t)(SG_PAGE_BYTES - 1);
    uint64_t heap_bytes = REGIONS_SHARE * f->o.slots * region_bytes(f);
    struct sg_seg_hdr *h;
    uint8_t *base;

    f->heap_off = slot_off + slot_bytes;
    f->seg_bytes = f->heap_off + heap_bytes;
    f->seg_fd = sealed_fd(f->seg_bytes, f->o.fault != FAKE_UNSEALED);
    f->seg = mmap(NULL, f->seg_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, f->seg_fd, 0);
    REQUIRE(f->seg != MAP_FAILED);
    h = (struct sg_seg_hdr *)(void *)f->seg;
    *h = (struct sg_seg_hdr){
        .magic = SG_ABI_MAGIC,
        .abi_version = SG_ABI_VERSION,
        .header_bytes = sizeof(*h),
        .seg_bytes = f->seg_bytes,
        .channel_off = SG_PAGE_BYTES,
        .slot_off = slot_off,
        .heap_off = f->heap_off,
        .heap_bytes = heap_bytes,
        .channel_count = 1,
        .worker_count = 1,
        .channel_bytes = (uint32_t)channel,
        .slot_count = f->o.slots,
        .slot_bytes = sizeof(struct sg_slot),
        .kick_entries = n,
        .cmd_entries = n,
        .event_entries = n,
        .session_id = 1,
    };
    spoil(h, f->o.fault);
    base = f->seg + SG_PAGE_BYTES;
    f->ch = (struct sg_channel *)(void *)base;
    f->slots = (struct sg_slot *)(void *)(f->seg + slot_off);
    f->kicks = (struct sg_ring){&f->ch->kick_tail, &f->ch->kick_head, base + sg_channel_kick_off(), n, 0, 0};
    f->cmds = (struct sg_ring){&f->ch->cmd_tail, &f->ch->cmd_head, base + sg_channel_cmd_off(n), n, 0, 0};
    f->events =
        (struct sg_ring){&f->ch->event_tail, &f->ch->event_head, base + sg_channel_event_off(n, n), n, 0, 0};
    f->socks = calloc(f->o.slots, sizeof(f->socks[0]));
    f->status_fd = sealed_fd(SG_PAGE_BYTES, true);
    f->status = mmap(NULL, SG_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f->status_fd, 0);
    REQUIRE(f->socks && f->status != MAP_FAILED);
    f->status->magic = f->o.fault == FAKE_BAD_STATUS ? 0 : SG_ABI_MAGIC;
    f->status->abi_version = SG_ABI_VERSION;
    f->status->worker_count = 1;
    f->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    REQUIRE(f->doorbell_fd >= 0 && f->event_fd >= 0);
}

static void segment_free(struct fake *f)
{
    if (!f->seg)
        return;
    munmap(f->seg, f->seg_bytes);
    munmap(f->status, SG_PAGE_BYTES);
    close(f->seg_fd);
    close(f->status_fd);
    close(f->doorbell_fd);
    close(f->event_fd);
    free(f->socks);
    f->seg = NULL;
    f->socks = NULL;
}

/* ---- Slots and events ---------------------------------------------------------------------------- */

static uint8_t log2_of(const struct fake *f, unsigned which)
{
    return (uint8_t)(f->o.region_log2 + which);
}

static uint32_t region_of(const struct fake *f, uint32_t slot, bool tx, unsigned which)
{
    uint64_t unit = REGIONS_SHARE * slot + (which ? 2 + 2 * tx : tx);

    return (uint32_t)((f->heap_off + unit * region_bytes(f)) >> SG_REGION_SHIFT);
}

static uint8_t *region_mem(const struct fake *f, uint32_t slot, bool tx, unsigned which)
{
    return f->seg + ((uint64_t)region_of(f, slot, tx, which) << SG_REGION_SHIFT);
}

static uint64_t ring_end(const struct fake *f, const struct fring *r)
{
    return r->next ? r->at + (UINT64_C(1) << log2_of(f, !r->which))
                   : r->head + (UINT64_C(1) << log2_of(f, r->which));
}

static void ring_passed(struct fring *r)
{
    if (!r->next || r->head < r->at)
        return;
    r->which = !r->which;
    r->base = r->at;
    r->next = false;
}

/* Copy in (`put`) or out at stream offset `off`. */
static void ring_copy(struct fake *f, uint32_t slot, bool tx, uint64_t off, void *data, size_t n, bool put)
{
    const struct fring *r = tx ? &f->socks[slot].tx : &f->socks[slot].rx;
    size_t before = n;

    if (r->next && off + n > r->at)
        before = off < r->at ? (size_t)(r->at - off) : 0;
    for (unsigned i = 0; i < 2; i++) {
        unsigned which = r->which ^ i;
        uint8_t *mem = region_mem(f, slot, tx, which);
        uint64_t pos = i ? off + before - r->at : off - r->base;
        size_t bytes = i ? n - before : before;
        uint8_t *p = (uint8_t *)data + (i ? before : 0);

        if (!bytes)
            continue;
        if (put)
            sg_bytes_put(mem, log2_of(f, which), pos, p, bytes);
        else
            sg_bytes_get(mem, log2_of(f, which), pos, p, bytes);
    }
}

/* Wake the library if it sleeps ([P3]). */
static void wake(struct fake *f)
{
    static const uint64_t one = 1;
    uint32_t how;

    sg_fence();
    if (sg_load_relaxed_u32(&f->ch->sleep) == SG_AWAKE)
        return;
    how = __atomic_exchange_n(&f->ch->sleep, SG_AWAKE, __ATOMIC_SEQ_CST);
    if (how == SG_SLEEP_FUTEX)
        syscall(SYS_futex, &f->ch->sleep, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    if (how == SG_SLEEP_EVENTFD)
        REQUIRE(write(f->event_fd, &one, sizeof(one)) == sizeof(one));
}

/* Free records of the event ring. (sg_ring_free() looks at the other side only when it must.) */
static uint32_t event_room(struct fake *f)
{
    f->events.other = sg_load_acquire_u32(f->events.head);
    return sg_ring_free(&f->events);
}

static bool event_post(struct fake *f, const struct sg_event *ev)
{
    if (event_room(f) == 0)
        return false;
    memcpy(sg_ring_slot(&f->events, sizeof(*ev), 0), ev, sizeof(*ev));
    sg_ring_publish(&f->events, 1);
    wake(f);
    return true;
}

static uint8_t next_write(struct fake *f, uint32_t slot, bool tx)
{
    const struct fring *r = tx ? &f->socks[slot].tx : &f->socks[slot].rx;
    struct sg_next *x = tx ? f->slots[slot].x.tx : f->slots[slot].x.rx;

    if (!r->next && !r->offer)
        return log2_of(f, r->which);
    x += r->count & 1;
    sg_store_relaxed_u64(&x->at, tx ? 0 : r->at);
    sg_store_relaxed_u32(&x->region, region_of(f, slot, tx, !r->which));
    __atomic_store_n(&x->log2, log2_of(f, !r->which), __ATOMIC_RELAXED);
    return (uint8_t)(log2_of(f, r->which) | SG_LOG2_NEXT | (r->count & 1 ? SG_LOG2_ENTRY : 0));
}

static void slot_write(struct fake *f, uint32_t slot)
{
    struct sg_slot_daemon *d = &f->slots[slot].d;
    struct fsock *s = &f->socks[slot];

    sg_store_relaxed_u64(&d->rx_base, s->rx.base);
    sg_store_relaxed_u32(&d->rx_region, region_of(f, slot, false, s->rx.which));
    sg_store_relaxed_u32(&d->tx_region, s->tx.region ? region_of(f, slot, true, s->tx.which) : 0);
    __atomic_store_n(&d->rx_log2, next_write(f, slot, false), __ATOMIC_RELEASE); /* [S9] */
    __atomic_store_n(&d->tx_log2, next_write(f, slot, true), __ATOMIC_RELEASE);
    __atomic_store_n(&d->type, s->type, __ATOMIC_RELAXED);
    sg_store_relaxed_u32(&d->accept_count, s->wait_count);
    /* An echo that waits for room wants to hear of it. */
    sg_store_relaxed_u64(&d->rx_notify, s->tx.head != s->tx.tail ? s->rx.head + 1 : UINT64_MAX);
    sg_store_release_u64(&d->tx_head, s->tx.head);
    sg_store_release_u64(&d->rx_tail, s->rx.tail);
    sg_store_relaxed_u32(&d->error, s->error);
    sg_store_release_u32(&d->flags, s->flags);
    __atomic_store_n(&d->state, s->state, __ATOMIC_RELEASE);
}

static void slot_tell(struct fake *f, uint32_t slot)
{
    struct fsock *s = &f->socks[slot];
    struct sg_event ev = {.kind = SG_EV_SOCK, .slot = slot};

    slot_write(f, slot);
    sg_fence(); /* [S5], [S7] */
    s->ev_owed = false;
    if (sg_load_acquire_u32(&f->slots[slot].a.ev_seen) != s->ev_posted)
        return;
    sg_store_release_u32(&f->slots[slot].d.ev_posted, s->ev_posted + 1);
    if (event_post(f, &ev)) {
        s->ev_posted++;
    } else {
        sg_store_release_u32(&f->slots[slot].d.ev_posted, s->ev_posted);
        s->ev_owed = true;
    }
}

/* [S10] */
static void offer_look(struct fake *f, uint32_t slot, uint64_t tail)
{
    struct sg_slot_app *a = &f->slots[slot].a;
    struct fring *r = &f->socks[slot].tx;
    uint64_t at;

    if (!r->offer || (uint8_t)sg_load_acquire_u32(&a->tx_next) != r->count)
        return;
    at = sg_load_relaxed_u64(&a->tx_next_at);
    if (at > tail)
        return;
    REQUIRE(at >= r->tail && at <= ring_end(f, r));
    r->offer = false;
    r->next = true;
    r->at = at;
    ring_passed(r);
}

/* Begin what can be begun: a receive switch at the next byte, a send region on offer. */
static void switch_begin(struct fake *f, uint32_t slot)
{
    struct fsock *s = &f->socks[slot];

    if (!s->rx.next) {
        s->rx.next = true;
        s->rx.at = s->rx.tail;
        s->rx.count++;
        ring_passed(&s->rx);
    }
    if (s->tx.region && !s->tx.next && !s->tx.offer) {
        s->tx.offer = true;
        s->tx.count++;
    }
}

/* The library's line, with the checks that a daemon makes. */
static void slot_pull(struct fake *f, uint32_t slot)
{
    struct sg_slot_app *a = &f->slots[slot].a;
    struct fsock *s = &f->socks[slot];
    uint64_t head = sg_load_acquire_u64(&a->rx_head);
    uint64_t tail = sg_load_acquire_u64(&a->tx_tail);
    uint64_t base = sg_load_relaxed_u64(&a->tx_base);

    REQUIRE(head - s->rx.head <= s->rx.tail - s->rx.head);
    s->rx.head = head;
    ring_passed(&s->rx);
    if (tail == s->tx.tail)
        return;
    if (s->tx.head == s->tx.tail && base == s->tx.tail)
        s->tx.base = base;
    offer_look(f, slot, tail);
    REQUIRE(s->tx.region && tail - s->tx.tail <= ring_end(f, &s->tx) - s->tx.tail);
    REQUIRE(!(s->flags & SG_F_TX_SHUT) || (s->flags & SG_F_ERROR));
    s->tx.tail = tail;
    if (s->switches)
        switch_begin(f, slot);
}

static size_t rx_room(const struct fake *f, const struct fsock *s)
{
    return (size_t)(ring_end(f, &s->rx) - s->rx.tail);
}

static void rx_put(struct fake *f, uint32_t slot, const void *data, size_t n)
{
    struct fsock *s = &f->socks[slot];

    if (s->rx.head == s->rx.tail)
        s->rx.base = s->rx.tail;
    ring_copy(f, slot, false, s->rx.tail, (void *)(uintptr_t)data, n, true);
    s->rx.tail += n;
}

static void tx_get(struct fake *f, uint32_t slot, void *data, size_t n)
{
    ring_copy(f, slot, true, f->socks[slot].tx.head, data, n, false);
}

/* Bytes that the peer has taken: tell a library that waits for room from a third of the ring on. */
static void tx_taken(struct fake *f, uint32_t slot, uint64_t n)
{
    struct fsock *s = &f->socks[slot];

    s->tx.head += n;
    ring_passed(&s->tx);
    slot_write(f, slot);
    sg_fence(); /* [S7] */
    if ((sg_load_relaxed_u32(&f->slots[slot].a.want) & SG_WANT_TX) &&
        ring_end(f, &s->tx) - s->tx.tail >= (UINT64_C(1) << log2_of(f, s->tx.which)) / 3)
        slot_tell(f, slot);
}

/* With the info, if the header says so. */
static void rx_dgram(struct fake *f, uint32_t slot, const struct sg_dgram_hdr *h,
                     const struct sg_dgram_info *info, const void *data)
{
    uint64_t bytes = sg_dgram_record_bytes(h), padding = sg_dgram_ring_bytes(h->len) - sizeof(*h) - h->len;
    struct fsock *s = &f->socks[slot];
    static const uint8_t zeros[SG_DGRAM_ALIGN];

    if (bytes > rx_room(f, s)) /* Dropped, as datagrams are. */
        return;
    rx_put(f, slot, h, sizeof(*h));
    if (h->flags & SG_DGRAM_INFO)
        rx_put(f, slot, info, sizeof(*info));
    if (h->len)
        rx_put(f, slot, data, h->len);
    if (padding)
        rx_put(f, slot, zeros, (size_t)padding);
    slot_tell(f, slot);
}

/* One look at a stream: takes what it may. */
static void serve_stream_once(struct fake *f, uint32_t slot)
{
    struct fsock *s = &f->socks[slot];
    size_t n = (size_t)(s->tx.tail - s->tx.head);

    if (s->port == PORT_ECHO && s->state == SG_ST_CONNECTED) {
        uint8_t *copy;

        if (n > rx_room(f, s))
            n = rx_room(f, s);
        copy = malloc(n ? n : 1);
        REQUIRE(copy);
        if (n) {
            tx_get(f, slot, copy, n);
            rx_put(f, slot, copy, n);
            slot_tell(f, slot);
            tx_taken(f, slot, n);
        }
        free(copy);
        if ((s->flags & SG_F_TX_SHUT) && s->tx.head == s->tx.tail && !(s->flags & SG_F_RX_FIN)) {
            s->flags |= SG_F_RX_FIN;
            slot_tell(f, slot);
        }
    } else if (s->port == PORT_DISCARD && n) {
        tx_taken(f, slot, n);
    }
    slot_write(f, slot);
}

static void serve_stream(struct fake *f, uint32_t slot)
{
    const struct fsock *s = &f->socks[slot];

    do {
        serve_stream_once(f, slot);
        sg_fence(); /* [S8] */
        slot_pull(f, slot);
    } while (s->port == PORT_ECHO && s->state == SG_ST_CONNECTED && s->tx.head != s->tx.tail &&
             rx_room(f, s) > 0);
}

static void serve_dgrams(struct fake *f, uint32_t slot)
{
    struct fsock *s = &f->socks[slot];

    while (s->tx.head != s->tx.tail) {
        struct sg_dgram_info info = {.ttl = 0};
        struct sg_dgram_hdr h;
        uint64_t start = s->tx.head;
        uint8_t *copy;

        REQUIRE(s->tx.tail - s->tx.head >= sizeof(h));
        tx_get(f, slot, &h, sizeof(h));
        REQUIRE(h.len <= SG_DGRAM_BYTES_MAX && !(h.flags & ~SG_DGRAM_INFO) &&
                sg_dgram_record_bytes(&h) <= s->tx.tail - start);
        copy = malloc(h.len + 1);
        REQUIRE(copy);
        s->tx.head += sizeof(h);
        if (h.flags & SG_DGRAM_INFO) {
            tx_get(f, slot, &info, sizeof(info));
            s->tx.head += sizeof(info);
        }
        tx_get(f, slot, copy, h.len);
        s->tx.head = start;
        if (h.family == 0) {
            h.family = SG_AF_INET;
            h.port = s->port;
            memcpy(h.addr, f->slots[slot].n.remote, 4);
        }
        if (h.port == PORT_ECHO)
            rx_dgram(f, slot, &h, &info, copy);
        if (h.port == PORT_REFUSED) {
            s->flags |= SG_F_SOFT_ERR;
            s->error = ECONNREFUSED;
            slot_tell(f, slot);
        }
        free(copy);
        tx_taken(f, slot, sg_dgram_record_bytes(&h));
    }
}

static void serve_kick(struct fake *f, uint32_t slot)
{
    f->seen.kicks++;
    REQUIRE(slot < f->o.slots);
    if (!f->socks[slot].used)
        return;
    sg_store_release_u32(&f->slots[slot].d.kick_seen, sg_load_relaxed_u32(&f->slots[slot].a.kick_posted));
    sg_fence(); /* [S6] */
    slot_pull(f, slot);
    if (f->socks[slot].type == SG_SOCK_DGRAM)
        serve_dgrams(f, slot);
    else
        serve_stream(f, slot);
}

/* ---- Commands ------------------------------------------------------------------------------------ */

static void slot_open(struct fake *f, uint32_t slot, uint8_t type, uint8_t state)
{
    REQUIRE(slot && slot < f->o.slots && !f->socks[slot].used);
    memset(&f->slots[slot], 0, sizeof(f->slots[slot]));
    f->socks[slot] = (struct fsock){.used = true, .type = type, .state = state};
    f->slots[slot].n.family = SG_AF_INET;
    slot_write(f, slot);
}

static void slot_name(struct fake *f, uint32_t slot, uint16_t lport, const uint8_t *raddr, uint16_t rport)
{
    static const uint8_t own[4] = {10, 0, 0, 2};
    struct sg_slot_name *n = &f->slots[slot].n;

    n->local_port = lport;
    memcpy(n->local, own, 4);
    n->remote_port = rport;
    if (raddr)
        memcpy(n->remote, raddr, 4);
}

static int run_connect(struct fake *f, const struct sg_cmd *c)
{
    struct fsock *s = &f->socks[c->slot];

    if (s->type == SG_SOCK_DGRAM) {
        s->state = c->family ? SG_ST_CONNECTED : SG_ST_OPEN;
        s->port = c->port;
        slot_name(f, c->slot, 50000, c->addr, c->port);
        slot_write(f, c->slot);
        return 0;
    }
    if (s->state == SG_ST_LISTENING)
        return -EISCONN;
    s->port = c->port;
    s->tx.region = true;
    s->state = SG_ST_CONNECTING;
    s->flags |= SG_F_BOUND;
    slot_name(f, c->slot, 50000, c->addr, c->port);
    if (c->port == PORT_REFUSED) {
        s->state = SG_ST_CLOSED;
        s->flags |= SG_F_ERROR | SG_F_TX_SHUT;
        s->error = ECONNREFUSED;
    } else if (c->port != PORT_SILENT) {
        s->state = SG_ST_CONNECTED;
    }
    slot_tell(f, c->slot);
    return 0;
}

static int run_accept(struct fake *f, const struct sg_cmd *c)
{
    static const uint8_t peer[4] = {10, 0, 0, 9};
    struct fsock *l = &f->socks[c->slot];
    uint16_t port;

    if (!l->wait_count)
        return -EAGAIN;
    port = l->waiting[0];
    memmove(l->waiting, l->waiting + 1, --l->wait_count * sizeof(l->waiting[0]));
    slot_open(f, c->arg0, SG_SOCK_STREAM, SG_ST_CONNECTED);
    f->socks[c->arg0].port = port;
    f->socks[c->arg0].tx.region = true;
    slot_name(f, c->arg0, l->lport, peer, port);
    slot_write(f, c->arg0);
    slot_write(f, c->slot);
    return 0;
}

static int run_bind(struct fake *f, const struct sg_cmd *c)
{
    struct fsock *s = &f->socks[c->slot];

    if (c->port == PORT_TAKEN)
        return -EADDRINUSE;
    s->flags |= SG_F_BOUND;
    s->lport = c->port ? c->port : 49152;
    slot_name(f, c->slot, s->lport, NULL, 0);
    slot_write(f, c->slot);
    return 0;
}

static int run_listen(struct fake *f, const struct sg_cmd *c)
{
    f->seen.listen_backlog = c->arg0;
    f->seen.listen_overflow = c->arg1;
    if (f->socks[c->slot].state != SG_ST_OPEN && f->socks[c->slot].state != SG_ST_LISTENING)
        return -EINVAL;
    f->socks[c->slot].state = SG_ST_LISTENING;
    slot_write(f, c->slot);
    return 0;
}

static int run_shutdown(struct fake *f, const struct sg_cmd *c)
{
    struct fsock *s = &f->socks[c->slot];

    f->seen.shutdown_how = c->arg0;
    slot_pull(f, c->slot);
    if (c->arg0 & SG_SHUT_WR)
        s->flags |= SG_F_TX_SHUT;
    if (c->arg0 & SG_SHUT_RD)
        s->flags |= SG_F_RX_FIN;
    serve_stream(f, c->slot);
    slot_tell(f, c->slot);
    return 0;
}

static int run_setopt(struct fake *f, const struct sg_cmd *c)
{
    f->seen.opt_level = c->arg0;
    f->seen.opt_name = c->arg1;
    f->seen.opt_value = c->value;
    f->seen.opt_value2 = c->value2;
    f->seen.opt_scope = c->scope;
    f->seen.opt_family = c->family;
    memcpy(f->seen.opt_addr, c->addr, sizeof(f->seen.opt_addr));
    f->seen.opt_count++;
    return c->arg1 > 30 && c->arg0 != 0 && c->arg0 != 17 ? -ENOPROTOOPT : 0;
}

static int run_getopt(struct fake *f, const struct sg_cmd *c, uint64_t *value)
{
    struct fsock *s = &f->socks[c->slot];

    if (c->arg0 == 1 && c->arg1 == 4) { /* SO_ERROR */
        *value = s->flags & SG_F_SOFT_ERR ? s->error : 0;
        s->flags &= ~SG_F_SOFT_ERR;
        slot_write(f, c->slot);
        return 0;
    }
    if (c->arg0 == 1 && c->arg1 == 13) { /* SO_LINGER: on, 7 seconds */
        *value = UINT64_C(7) << 32 | 1;
        return 0;
    }
    if (c->arg0 == 6 && c->arg1 == 13) { /* TCP_CONGESTION */
        *value = UINT64_C(0x6369627563);
        return 0;
    }
    if (c->arg0 == 6 && (c->arg1 & 0xffff) == 11) { /* TCP_INFO: its words are numbered */
        if (c->arg1 >> 16 == 5 && f->pictures_lost++ == 0)
            return -EAGAIN; /* Another thread took one. */
        *value = UINT64_C(1000) + (c->arg1 >> 16);
        return 0;
    }
    if (c->arg1 > 30)
        return -ENOPROTOOPT;
    *value = c->arg1 * 100;
    return 0;
}

static int run_region(struct fake *f, const struct sg_cmd *c)
{
    struct fsock *s = &f->socks[c->slot];

    if (c->op == SG_CMD_GRANT) {
        f->seen.grants++;
        if (f->o.grant_refused)
            return -ENOBUFS;
        s->tx.region = true;
    } else {
        f->seen.releases++;
        slot_pull(f, c->slot);
        if (s->tx.head != s->tx.tail)
            return -EBUSY;
        s->tx.count -= s->tx.offer; /* The next offer has its number. */
        s->tx.region = s->tx.offer = false;
    }
    slot_write(f, c->slot);
    return 0;
}

static int run_command(struct fake *f, const struct sg_cmd *c, uint64_t *value)
{
    REQUIRE(c->flags == 0 && c->pad == 0);
    if (c->op == SG_CMD_NOP)
        return 0;
    REQUIRE(c->slot && c->slot < f->o.slots);
    if (c->op != SG_CMD_OPEN && !f->socks[c->slot].used)
        return -EBADF;
    switch ((enum sg_cmd_op)c->op) {
    case SG_CMD_OPEN:
        f->seen.opens++;
        slot_open(f, c->slot, (uint8_t)c->arg0, SG_ST_OPEN);
        return 0;
    case SG_CMD_BIND:
        return run_bind(f, c);
    case SG_CMD_LISTEN:
        return run_listen(f, c);
    case SG_CMD_CONNECT:
        return run_connect(f, c);
    case SG_CMD_ACCEPT:
        return run_accept(f, c);
    case SG_CMD_SHUTDOWN:
        return run_shutdown(f, c);
    case SG_CMD_CLOSE:
        f->seen.closes++;
        slot_pull(f, c->slot);
        f->socks[c->slot].used = false;
        __atomic_store_n(&f->slots[c->slot].d.state, SG_ST_FREE, __ATOMIC_RELEASE);
        return 0;
    case SG_CMD_SETOPT:
        return run_setopt(f, c);
    case SG_CMD_GETOPT:
        return run_getopt(f, c, value);
    case SG_CMD_GRANT:
    case SG_CMD_RELEASE:
        return run_region(f, c);
    case SG_CMD_NOP:
    case SG_CMD_COUNT:
        break;
    }
    return -ENOSYS;
}

/* Commands, kicks and owed events. Returns false when there was nothing to do. */
static bool turn(struct fake *f)
{
    uint32_t cmds = sg_ring_waiting(&f->cmds);
    uint32_t kicks;
    bool work;

    REQUIRE(cmds != UINT32_MAX);
    work = cmds > 0 && event_room(f) >= 2;
    /* No command without room for its reply, and for an event that it causes. */
    for (; cmds && event_room(f) >= 2; cmds--) {
        struct sg_event reply = {.kind = SG_EV_REPLY};
        struct sg_cmd c;

        memcpy(&c, sg_ring_slot(&f->cmds, sizeof(c), 0), sizeof(c));
        sg_ring_consume(&f->cmds, 1);
        if (f->o.command_delay_us)
            usleep(f->o.command_delay_us);
        reply.tag = c.tag;
        reply.slot = c.slot;
        reply.result = run_command(f, &c, &reply.value);
        if (c.tag)
            REQUIRE(event_post(f, &reply));
    }
    f->blocked = cmds > 0;
    kicks = sg_ring_waiting(&f->kicks);
    REQUIRE(kicks != UINT32_MAX);
    work |= kicks > 0;
    for (; kicks; kicks--) {
        uint32_t slot = sg_load_relaxed_u32(sg_ring_slot(&f->kicks, sizeof(slot), 0));

        sg_ring_consume(&f->kicks, 1);
        serve_kick(f, slot);
    }
    for (uint32_t i = 1; i < f->o.slots; i++)
        if (f->socks[i].used && f->socks[i].ev_owed) {
            slot_tell(f, i);
            f->blocked |= f->socks[i].ev_owed;
        }
    return work;
}

/* ---- The control socket -------------------------------------------------------------------------- */

static void respond(struct fake *f, Sockgate__Response *r, const int *fds, unsigned fd_count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control = {0};
    uint8_t buf[512];
    struct iovec iov = {buf, sockgate__response__pack(r, buf)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd_count) {
        struct cmsghdr *c;

        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
    }
    (void)!sendmsg(f->ctl_fd, &msg, MSG_NOSIGNAL);
}

static void answer_hello(struct fake *f, const Sockgate__HelloRequest *req)
{
    Sockgate__HelloResponse body = SOCKGATE__HELLO_RESPONSE__INIT;
    Sockgate__VersionResponse version = SOCKGATE__VERSION_RESPONSE__INIT;
    Sockgate__Response r = SOCKGATE__RESPONSE__INIT;

    REQUIRE(req->magic == SG_ABI_MAGIC && req->abi_version == SG_ABI_VERSION);
    if (f->o.fault == FAKE_REFUSES) {
        r.error = -ENOSPC;
        r.message = (char *)(uintptr_t) "too many sessions; raise sessions in the config";
    } else if (f->o.fault == FAKE_WRONG_ANSWER) {
        r.body_case = SOCKGATE__RESPONSE__BODY_VERSION;
        r.version = &version;
    } else {
        body.abi_version = SG_ABI_VERSION + (f->o.fault == FAKE_OTHER_VERSION);
        body.release = (char *)(uintptr_t) "9.9.9";
        r.body_case = SOCKGATE__RESPONSE__BODY_HELLO;
        r.hello = &body;
    }
    respond(f, &r, NULL, 0);
}

static void answer_attach(struct fake *f)
{
    Sockgate__AttachResponse body = SOCKGATE__ATTACH_RESPONSE__INIT;
    Sockgate__Response r = SOCKGATE__RESPONSE__INIT;
    uint8_t own[4] = {10, 0, 0, 2};
    int fds[4];

    segment_free(f); /* One session at a time. */
    segment_make(f);
    body.session_id = 1;
    body.channels = 1;
    body.workers = 1;
    body.seg_bytes = f->seg_bytes;
    body.address4.data = own;
    body.address4.len = 4;
    r.body_case = SOCKGATE__RESPONSE__BODY_ATTACH;
    r.attach = &body;
    fds[0] = f->seg_fd;
    fds[1] = f->status_fd;
    fds[2] = f->doorbell_fd;
    fds[3] = f->event_fd;
    respond(f, &r, fds, f->o.fault == FAKE_NO_FDS ? 0 : 4);
}

static void hang_up(struct fake *f)
{
    f->blocked = false;
    if (f->ctl_fd >= 0)
        close(f->ctl_fd);
    f->ctl_fd = -1;
    segment_free(f);
}

static void serve_control(struct fake *f)
{
    uint8_t buf[2048];
    ssize_t n = recv(f->ctl_fd, buf, sizeof(buf), MSG_DONTWAIT);
    Sockgate__Request *req;

    if (n <= 0 || f->o.fault == FAKE_HANGS_UP) {
        hang_up(f);
        return;
    }
    if (f->o.fault == FAKE_SILENT)
        return;
    if (f->o.fault == FAKE_TALKS_NONSENSE) {
        REQUIRE(send(f->ctl_fd, "\xff\xff\xff hello", 9, MSG_NOSIGNAL) == 9);
        return;
    }
    req = sockgate__request__unpack(NULL, (size_t)n, buf);
    REQUIRE(req);
    if (req->body_case == SOCKGATE__REQUEST__BODY_HELLO)
        answer_hello(f, req->hello);
    else if (req->body_case == SOCKGATE__REQUEST__BODY_ATTACH)
        answer_attach(f);
    sockgate__request__free_unpacked(req, NULL);
}

/* Sleep until there is something to do, by the daemon's half of [P3]. Lock held; released while asleep. */
static void rest(struct fake *f)
{
    struct pollfd fds[4] = {{f->wake_fd, POLLIN, 0}, {f->listen_fd, POLLIN, 0}};
    nfds_t n = 2;
    uint64_t count;
    bool session = f->seg != NULL;

    if (f->ctl_fd >= 0)
        fds[n++] = (struct pollfd){f->ctl_fd, POLLIN, 0};
    if (session) {
        fds[n++] = (struct pollfd){f->doorbell_fd, POLLIN, 0};
        sg_store_relaxed_u32(&f->status->worker[0].sleeping, 1);
        sg_fence(); /* [P3] */
    }
    if (!session || f->blocked || (!sg_ring_waiting(&f->cmds) && !sg_ring_waiting(&f->kicks))) {
        pthread_mutex_unlock(&f->lock);
        poll(fds, n, f->blocked ? 1 : -1);
        pthread_mutex_lock(&f->lock);
    }
    (void)!read(f->wake_fd, &count, sizeof(count));
    if (session && f->seg) {
        sg_store_relaxed_u32(&f->status->worker[0].sleeping, 0);
        if (read(f->doorbell_fd, &count, sizeof(count)) == sizeof(count))
            f->seen.doorbells++;
    }
}

static void *fake_main(void *arg)
{
    struct fake *f = arg;
    struct pollfd p;

    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        rest(f);
        if (f->stop)
            break;
        if (f->dead) {
            hang_up(f);
            continue;
        }
        if (f->ctl_fd < 0) {
            f->ctl_fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        } else {
            p = (struct pollfd){f->ctl_fd, POLLIN, 0};
            if (poll(&p, 1, 0) > 0)
                serve_control(f);
        }
        while (f->seg && !f->stop && turn(f))
            ;
    }
    hang_up(f);
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- For the tests ------------------------------------------------------------------------------- */

static void fake_wake(struct fake *f)
{
    static const uint64_t one = 1;

    REQUIRE(write(f->wake_fd, &one, sizeof(one)) == sizeof(one));
}

struct fake *fake_start(const struct fake_options *options)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct fake *f = calloc(1, sizeof(*f));

    REQUIRE(f);
    if (options)
        f->o = *options;
    if (!f->o.slots)
        f->o.slots = 64;
    if (!f->o.ring_entries)
        f->o.ring_entries = 64;
    if (!f->o.region_log2)
        f->o.region_log2 = 14;
    f->ctl_fd = -1;
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/sc-fake-XXXXXX");
    REQUIRE(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/control.sock", f->dir);
    memcpy(sa.sun_path, f->path, strlen(f->path) + 1);
    f->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    REQUIRE(f->listen_fd >= 0 && bind(f->listen_fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    REQUIRE(listen(f->listen_fd, 8) == 0);
    f->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    REQUIRE(f->wake_fd >= 0);
    pthread_mutex_init(&f->lock, NULL);
    REQUIRE(pthread_create(&f->thread, NULL, fake_main, f) == 0);
    return f;
}

const char *fake_path(const struct fake *f)
{
    return f->path;
}

void fake_die(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    f->dead = true;
    pthread_mutex_unlock(&f->lock);
    fake_wake(f);
}

void fake_stop(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_mutex_unlock(&f->lock);
    fake_wake(f);
    pthread_join(f->thread, NULL);
    close(f->listen_fd);
    close(f->wake_fd);
    unlink(f->path);
    rmdir(f->dir);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static struct fsock *locked(struct fake *f, int fileno)
{
    pthread_mutex_lock(&f->lock);
    REQUIRE(f->seg && fileno > 0 && (uint32_t)fileno < f->o.slots && f->socks[fileno].used);
    slot_pull(f, (uint32_t)fileno);
    return &f->socks[fileno];
}

size_t fake_push(struct fake *f, int fileno, const void *data, size_t n)
{
    struct fsock *s = locked(f, fileno);

    if (n > rx_room(f, s))
        n = rx_room(f, s);
    rx_put(f, (uint32_t)fileno, data, n);
    slot_tell(f, (uint32_t)fileno);
    pthread_mutex_unlock(&f->lock);
    return n;
}

static void change(struct fake *f, int fileno, uint32_t flags, int error, uint8_t state)
{
    struct fsock *s = locked(f, fileno);

    s->flags |= flags;
    if (error)
        s->error = (uint32_t)error;
    if (state)
        s->state = state;
    slot_tell(f, (uint32_t)fileno);
    pthread_mutex_unlock(&f->lock);
}

void fake_fin(struct fake *f, int fileno)
{
    change(f, fileno, SG_F_RX_FIN, 0, 0);
}

void fake_error(struct fake *f, int fileno, int error)
{
    change(f, fileno, SG_F_ERROR | SG_F_TX_SHUT | (error == ECONNRESET ? SG_F_RX_RESET : 0), error,
           SG_ST_CLOSED);
}

void fake_soft_error(struct fake *f, int fileno, int error)
{
    change(f, fileno, SG_F_SOFT_ERR, error, 0);
}

void fake_establish(struct fake *f, int fileno)
{
    change(f, fileno, 0, 0, SG_ST_CONNECTED);
}

void fake_nudge(struct fake *f, int fileno)
{
    change(f, fileno, 0, 0, 0);
}

size_t fake_consume(struct fake *f, int fileno, void *data, size_t n)
{
    struct fsock *s = locked(f, fileno);

    if (n > s->tx.tail - s->tx.head)
        n = (size_t)(s->tx.tail - s->tx.head);
    if (data)
        tx_get(f, (uint32_t)fileno, data, n);
    tx_taken(f, (uint32_t)fileno, n);
    pthread_mutex_unlock(&f->lock);
    return n;
}

void fake_switch(struct fake *f, int fileno, bool always)
{
    struct fsock *s = locked(f, fileno);

    s->switches = always;
    switch_begin(f, (uint32_t)fileno);
    slot_tell(f, (uint32_t)fileno);
    pthread_mutex_unlock(&f->lock);
}

void fake_incoming(struct fake *f, int fileno, uint16_t port)
{
    struct fsock *s = locked(f, fileno);

    REQUIRE(s->state == SG_ST_LISTENING && s->wait_count < 64);
    s->waiting[s->wait_count++] = port;
    slot_tell(f, (uint32_t)fileno);
    pthread_mutex_unlock(&f->lock);
}

void fake_dgram(struct fake *f, int fileno, uint16_t port, const void *data, size_t n)
{
    struct sg_dgram_hdr h = {.len = (uint32_t)n, .family = SG_AF_INET, .port = port, .addr = {10, 0, 0, 9}};

    locked(f, fileno);
    rx_dgram(f, (uint32_t)fileno, &h, NULL, data);
    pthread_mutex_unlock(&f->lock);
}

void fake_release(struct fake *f, int fileno)
{
    struct sg_event ev = {.kind = SG_EV_RELEASE, .slot = (uint32_t)fileno};

    locked(f, fileno);
    REQUIRE(event_post(f, &ev));
    pthread_mutex_unlock(&f->lock);
}

void fake_settle(struct fake *f)
{
    pthread_mutex_lock(&f->lock); /* held for the whole of a turn */
    pthread_mutex_unlock(&f->lock);
}

void fake_seen(struct fake *f, int fileno, struct fake_seen *ret)
{
    pthread_mutex_lock(&f->lock);
    *ret = f->seen;
    ret->sessions = f->ctl_fd >= 0;
    if (f->seg && fileno > 0) {
        const struct sg_slot *s = &f->slots[fileno];

        ret->rx_head = sg_load_acquire_u64(&s->a.rx_head);
        ret->tx_tail = sg_load_acquire_u64(&s->a.tx_tail);
        ret->tx_base = sg_load_relaxed_u64(&s->a.tx_base);
        ret->want = sg_load_relaxed_u32(&s->a.want);
        ret->tx_region = sg_load_relaxed_u32(&s->d.tx_region);
    }
    pthread_mutex_unlock(&f->lock);
}

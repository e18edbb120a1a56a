/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel's rings: commands and kicks out, events in.
 */
#include "client-lib/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "client-lib/lib.h"

/* Sockets whose callbacks are made between taking the locks and letting go of them. */
#define DEFERRED_BATCH 32u
/* How long to sleep between looks for room in a full ring; the daemon empties rings once a turn. */
#define ROOM_SLEEP_NS  50000

int sc__channel_init(struct channel *ch, struct sc_lib *lib, uint32_t slot_count)
{
    ch->lib = lib;
    ch->slot_count = slot_count;
    ch->next_tag = 1;
    LIST_INIT(&ch->followers);
    LIST_INIT(&ch->any);
    TAILQ_INIT(&ch->pending);
    TAILQ_INIT(&ch->deferred);
    pthread_mutex_init(&ch->lock, NULL);
    ch->descs = calloc(slot_count, sizeof(ch->descs[0]));
    ch->slot_used = calloc(((size_t)slot_count + 63) / 64, sizeof(ch->slot_used[0]));
    if (!ch->descs || !ch->slot_used)
        return -ENOMEM;
    ch->slot_used[0] = 1; /* Slot 0 is never a socket. */
    return 0;
}

void sc__channel_fini(struct channel *ch)
{
    if (!ch->lib)
        return;
    free(ch->descs);
    free(ch->slot_used);
    pthread_mutex_destroy(&ch->lock);
}

/* ---- Slot numbers -------------------------------------------------------------------------------- */

/* The lowest number in a word of the bitmap that is free and a worker's; SG_SLOT_NONE: there is none. */
static uint32_t free_in(const struct channel *ch, uint32_t word, uint32_t worker)
{
    for (uint64_t free = ~ch->slot_used[word]; free; free &= free - 1) {
        uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(free);

        if (worker == WORKER_ANY || sc__worker_of(ch, slot) == worker)
            return slot;
    }
    return SG_SLOT_NONE;
}

bool sc__slot_take(struct channel *ch, struct desc *d, uint32_t worker)
{
    uint32_t words = (ch->slot_count + 63) / 64;
    uint32_t slot = SG_SLOT_NONE;

    pthread_mutex_lock(&ch->lock);
    while (ch->slot_hint + 1 < words && ch->slot_used[ch->slot_hint] == UINT64_MAX)
        ch->slot_hint++;
    for (uint32_t w = ch->slot_hint; w < words && !slot; w++)
        slot = free_in(ch, w, worker);
    if (slot >= ch->slot_count) /* The bitmap's last word has bits beyond the end. */
        slot = SG_SLOT_NONE;
    if (slot) {
        ch->slot_used[slot / 64] |= UINT64_C(1) << slot % 64;
        d->num = slot;
        d->slot = &ch->lib->slots[slot];
        ch->descs[slot] = d;
    }
    pthread_mutex_unlock(&ch->lock);
    return slot != SG_SLOT_NONE;
}

void sc__slot_give(struct channel *ch, uint32_t slot)
{
    ch->descs[slot] = NULL;
    ch->slot_used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    if (slot / 64 < ch->slot_hint)
        ch->slot_hint = slot / 64;
}

bool sc__slots_closing(struct channel *ch)
{
    struct pending *p;
    bool closing = false;

    pthread_mutex_lock(&ch->lock);
    TAILQ_FOREACH(p, &ch->pending, next)
    {
        closing |= p->closing != NULL;
    }
    pthread_mutex_unlock(&ch->lock);
    return closing;
}

/* ---- Out ----------------------------------------------------------------------------------------- */

/* [P3] towards the daemon: after publishing, wake its worker if it sleeps. */
static void doorbell(struct channel *ch, uint32_t worker)
{
    static const uint64_t one = 1;

    sg_fence(); /* [P3] */
    if (sg_load_relaxed_u32(&ch->lib->status->worker[worker].sleeping)) {
        ssize_t n = write(ch->rings[worker].doorbell_fd, &one, sizeof(one));

        (void)n; /* EAGAIN: the counter is full, so the daemon is being woken already. */
    }
}

/*
 * Wait until `ring` has a free record; lock held, released while sleeping. Events are drained meanwhile: a
 * daemon that can't deliver a reply takes no further command.
 */
static int room_wait(struct channel *ch, struct sg_ring *ring, uint32_t worker)
{
    const struct timespec pause = {.tv_nsec = ROOM_SLEEP_NS};

    while (sg_ring_free(ring) == 0) {
        doorbell(ch, worker);
        sc__channel_drain(ch);
        pthread_mutex_unlock(&ch->lock);
        (void)nanosleep(&pause, NULL);
        sc__lib_check_alive(ch->lib, false);
        pthread_mutex_lock(&ch->lock);
        if (sc__lib_dead(ch->lib))
            return -ENETDOWN;
    }
    return 0;
}

int sc__command_push(struct channel *ch, struct sg_cmd *cmd, struct pending *p)
{
    uint32_t worker = sc__worker_of(ch, cmd->slot);
    struct sg_ring *ring = &ch->rings[worker].cmds;
    int rc;

    pthread_mutex_lock(&ch->lock);
    rc = sc__lib_dead(ch->lib) ? -ENETDOWN : room_wait(ch, ring, worker);
    if (!rc) {
        cmd->tag = 0;
        if (p) {
            cmd->tag = p->tag = ch->next_tag++;
            if (ch->next_tag == 0)
                ch->next_tag = 1;
            TAILQ_INSERT_TAIL(&ch->pending, p, next);
        }
        memcpy(sg_ring_slot(ring, sizeof(*cmd), 0), cmd, sizeof(*cmd));
        sg_ring_publish(ring, 1);
        doorbell(ch, worker);
    }
    pthread_mutex_unlock(&ch->lock);
    return rc;
}

int sc__command_wait(struct channel *ch, struct pending *p)
{
    int rc;

    pthread_mutex_lock(&ch->lock);
    while (!p->done && !sc__lib_dead(ch->lib)) {
        sc__waiter_reset(&p->w);
        pthread_mutex_unlock(&ch->lock);
        (void)sc__channel_wait(ch, &p->w, DEADLINE_NEVER, 0);
        pthread_mutex_lock(&ch->lock);
    }
    if (!p->done)
        TAILQ_REMOVE(&ch->pending, p, next);
    rc = p->done ? p->result : -ENETDOWN;
    pthread_mutex_unlock(&ch->lock);
    return rc;
}

int sc__command(struct channel *ch, struct sg_cmd *cmd, uint64_t *value)
{
    struct pending p = {0};
    int rc = sc__command_push(ch, cmd, &p);

    if (!rc)
        rc = sc__command_wait(ch, &p);
    if (rc >= 0 && value)
        *value = p.value;
    return rc;
}

void sc__kick_push(struct channel *ch, uint32_t slot)
{
    uint32_t worker = sc__worker_of(ch, slot);
    struct sg_ring *ring = &ch->rings[worker].kicks;

    pthread_mutex_lock(&ch->lock);
    if (!sc__lib_dead(ch->lib) && room_wait(ch, ring, worker) == 0) {
        memcpy(sg_ring_slot(ring, sizeof(slot), 0), &slot, sizeof(slot));
        sg_ring_publish(ring, 1);
        doorbell(ch, worker);
    }
    pthread_mutex_unlock(&ch->lock);
}

/* ---- In ------------------------------------------------------------------------------------------ */

static void defer(struct channel *ch, struct desc *d)
{
    if (d->is_deferred)
        return;
    d->is_deferred = true;
    sc__desc_ref(d);
    TAILQ_INSERT_TAIL(&ch->deferred, d, deferred);
    sc__channel_hand_over(ch); /* The thread that drains may be inside a command. */
}

/* The reply to a command. Replies of one worker come in the order of the commands, so the search is short. */
static void take_reply(struct channel *ch, const struct sg_event *ev)
{
    struct pending *p;
    struct desc *d;

    TAILQ_FOREACH(p, &ch->pending, next)
    {
        if (p->tag == ev->tag)
            break;
    }
    if (!p) /* A repeated answer after a restart of the daemon. */
        return;
    TAILQ_REMOVE(&ch->pending, p, next);
    p->result = ev->result;
    p->value = ev->value;
    p->done = true;
    d = p->closing;
    if (d) {
        sc__slot_give(ch, d->num);
        sc__desc_unref(d);
        return;
    }
    sc__waiter_wake(ch, &p->w);
}

static struct desc *desc_of(struct channel *ch, uint32_t slot)
{
    return slot < ch->slot_count ? ch->descs[slot] : NULL;
}

/* First pass over one event, before the fence of [S5]. */
static void take_event(struct channel *ch, const struct sg_event *ev)
{
    struct desc *d = desc_of(ch, ev->slot);

    if (ev->kind == SG_EV_SOCK && d)
        sg_store_relaxed_u32(&d->slot->a.ev_seen, sg_load_acquire_u32(&d->slot->d.ev_posted)); /* [S5] */
    if (ev->kind == SG_EV_RELEASE && d) {
        d->release_asked = true;
        defer(ch, d);
    }
}

/* Second pass, after the fence: tell those who wait. */
static void announce_event(struct channel *ch, const struct sg_event *ev)
{
    struct desc *d = desc_of(ch, ev->slot);

    if (ev->kind == SG_EV_REPLY)
        take_reply(ch, ev);
    if (ev->kind != SG_EV_SOCK || !d)
        return;
    if (d->primary) /* What waits there is the whole listener's. */
        d = d->primary;
    if (__atomic_load_n(&d->has_cb, __ATOMIC_ACQUIRE))
        defer(ch, d);
    sc__channel_changed(ch, d);
}

void sc__channel_drain(struct channel *ch)
{
    uint32_t n[SG_WORKERS_MAX], all = 0;

    for (uint32_t w = 0; w < ch->worker_count; w++) {
        struct sg_ring *r = &ch->rings[w].events;

        n[w] = sg_ring_waiting(r);
        if (n[w] == UINT32_MAX) { /* Not a daemon of ours any more. */
            __atomic_store_n(&ch->lib->dead, 1, __ATOMIC_RELEASE);
            sc__channel_wake_all(ch);
            return;
        }
        for (uint32_t i = 0; i < n[w]; i++)
            take_event(ch, sg_ring_slot(r, sizeof(struct sg_event), i));
        all += n[w];
    }
    if (!all)
        return;
    sg_fence(); /* [S5] one for the whole batch */
    for (uint32_t w = 0; w < ch->worker_count; w++) {
        struct sg_ring *r = &ch->rings[w].events;

        for (uint32_t i = 0; i < n[w]; i++)
            announce_event(ch, sg_ring_slot(r, sizeof(struct sg_event), i));
        if (n[w])
            sg_ring_consume(r, n[w]);
        if (n[w] == r->entries) /* It was full: the daemon may hold events back. */
            doorbell(ch, w);
    }
}

/* What was put off, a batch at a time so that the locks are taken once for many sockets. */
struct deferred {
    struct desc *d;
    bool release;
};

static unsigned deferred_take(struct channel *ch, struct deferred batch[DEFERRED_BATCH])
{
    unsigned n = 0;

    pthread_mutex_lock(&ch->lock);
    while (n < DEFERRED_BATCH && !TAILQ_EMPTY(&ch->deferred)) {
        struct desc *d = TAILQ_FIRST(&ch->deferred);

        TAILQ_REMOVE(&ch->deferred, d, deferred);
        d->is_deferred = false;
        batch[n++] = (struct deferred){.d = d, .release = d->release_asked};
        d->release_asked = false;
    }
    pthread_mutex_unlock(&ch->lock);
    return n;
}

void sc__channel_run_deferred(struct channel *ch)
{
    struct deferred batch[DEFERRED_BATCH];
    unsigned n;

    while ((n = deferred_take(ch, batch))) {
        for (unsigned i = 0; i < n; i++)
            if (batch[i].release)
                sc__tx_release(batch[i].d);
        pthread_mutex_lock(&ch->lib->cb_lock);
        for (unsigned i = 0; i < n; i++)
            sc__callback_run(batch[i].d);
        pthread_mutex_unlock(&ch->lib->cb_lock);
        for (unsigned i = 0; i < n; i++)
            sc__desc_unref(batch[i].d);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring hop: what one request and its response cost between an application and the daemon when nothing
 * else is done. Two processes share a segment laid out by proto/abi. The application writes 64 bytes into
 * the send stream of each of `batch` sockets and kicks them; the daemon side copies each index once, checks
 * it, copies the bytes out, copies them back into the receive stream and posts events; the application
 * copies them out and compares.
 *
 * docs/decisions/ring-hop.md holds a table that it printed and what was decided by it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/abi/seg.h"

#define PAYLOAD_BYTES  64u
#define SLOT_COUNT     65u /* slot 0 is never used */
#define BATCH_MAX      64u
#define RING_ENTRIES   128u
#define REGION_LOG2    SG_REGION_LOG2_MIN
#define RUNS_MAX       31u
#define HOPS_PER_CLOCK 16u /* batches between two looks at the clock */

/* ---- How a side waits ---------------------------------------------------------------------------- */

enum spin_kind { SPIN_NONE, SPIN_PAUSE, SPIN_YIELD, SPIN_MIXED };

struct wait_mode {
    const char *name;
    enum spin_kind spin;
    uint32_t spin_us;      /* how long; UINT32_MAX: for ever */
    uint32_t daemon_sleep; /* SG_SLEEP_*: what follows */
    uint32_t app_sleep;
};

/* Pauses before the first yield of SPIN_MIXED: about a quarter of a microsecond. */
#define MIXED_PAUSES 8u

static const struct wait_mode wait_modes[] = {
    {"pause for ever", SPIN_PAUSE, UINT32_MAX, 0, 0},
    {"yield for ever", SPIN_YIELD, UINT32_MAX, 0, 0},
    {"futex, futex", SPIN_NONE, 0, SG_SLEEP_FUTEX, SG_SLEEP_FUTEX},
    {"eventfd, eventfd", SPIN_NONE, 0, SG_SLEEP_EVENTFD, SG_SLEEP_EVENTFD},
    {"eventfd, futex", SPIN_NONE, 0, SG_SLEEP_EVENTFD, SG_SLEEP_FUTEX},
    {"20 us pause, then sleep", SPIN_PAUSE, 20, SG_SLEEP_EVENTFD, SG_SLEEP_FUTEX},
    {"20 us yield, then sleep", SPIN_YIELD, 20, SG_SLEEP_EVENTFD, SG_SLEEP_FUTEX},
    {"8 pauses, 20 us yield, sleep", SPIN_MIXED, 20, SG_SLEEP_EVENTFD, SG_SLEEP_FUTEX},
};
#define WAIT_MODE_COUNT    (sizeof(wait_modes) / sizeof(wait_modes[0]))
#define WAIT_MODE_FASTEST  0u
#define WAIT_MODE_ADAPTIVE (WAIT_MODE_COUNT - 1)

/* How the application says that a slot has changed, and how often both sides pay for a full fence. */
enum variant { VAR_KICK, VAR_KICK_FENCE_EACH, VAR_CMD, VAR_COUNT };
static const char *const variant_names[VAR_COUNT] = {
    [VAR_KICK] = "u32 kick, one fence a batch",
    [VAR_KICK_FENCE_EACH] = "u32 kick, a fence for each socket",
    [VAR_CMD] = "64-byte record, one fence a batch",
};

/* ---- Memory --------------------------------------------------------------------------------------- */

struct shared {
    struct sg_status_worker daemon; /* .sleeping holds SG_SLEEP_* here, so that futexes can be compared */
    uint32_t stop;                  /* app: the run is over */
    uint32_t pad[15];
};

/** Everything that one process knows; made before the fork, so both have the same. */
struct hop {
    uint8_t *base;
    struct shared *shared;
    struct sg_channel *channel;
    struct sg_slot *slots;
    struct sg_ring kick, cmd, event; /* this process's side of each */
    int doorbell_fd, event_fd;
    const struct wait_mode *mode;
    enum variant variant;
    uint32_t batch;
    uint64_t posted[SLOT_COUNT]; /* private: app: kicks posted; daemon: events posted */
    uint64_t offset[SLOT_COUNT]; /* private: stream bytes so far; the same in both directions */
};

#define CHANNEL_OFF SG_PAGE_BYTES

static uint64_t slots_off(void)
{
    return CHANNEL_OFF + sg_channel_size(RING_ENTRIES, RING_ENTRIES, RING_ENTRIES);
}

static uint64_t heap_off(void)
{
    uint64_t end = slots_off() + SLOT_COUNT * sizeof(struct sg_slot);

    return (end + SG_PAGE_BYTES - 1) & ~(uint64_t)(SG_PAGE_BYTES - 1);
}

static uint64_t segment_bytes(void)
{
    return heap_off() + SLOT_COUNT * (UINT64_C(2) << REGION_LOG2);
}

static uint8_t *tx_region(const struct hop *h, uint32_t slot)
{
    return h->base + heap_off() + slot * (UINT64_C(2) << REGION_LOG2);
}

static uint8_t *rx_region(const struct hop *h, uint32_t slot)
{
    return tx_region(h, slot) + (UINT64_C(1) << REGION_LOG2);
}

static void die(const char *what)
{
    fprintf(stderr, "ring_hop: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;

    if (clock_gettime(clock, &ts) != 0)
        die("clock_gettime");
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static void hop_init(struct hop *h, const struct wait_mode *mode, enum variant variant, uint32_t batch)
{
    int fd = memfd_create("ring_hop", MFD_CLOEXEC);

    memset(h, 0, sizeof(*h));
    if (fd < 0 || ftruncate(fd, (off_t)segment_bytes()) != 0)
        die("memfd");
    h->base = mmap(NULL, segment_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (h->base == MAP_FAILED)
        die("mmap");
    close(fd);
    h->shared = (struct shared *)(void *)h->base;
    h->channel = (struct sg_channel *)(void *)(h->base + CHANNEL_OFF);
    h->slots = (struct sg_slot *)(void *)(h->base + slots_off());
    h->kick = (struct sg_ring){.tail = &h->channel->kick_tail,
                               .head = &h->channel->kick_head,
                               .slots = h->base + CHANNEL_OFF + sg_channel_kick_off(),
                               .entries = RING_ENTRIES};
    h->cmd = (struct sg_ring){.tail = &h->channel->cmd_tail,
                              .head = &h->channel->cmd_head,
                              .slots = h->base + CHANNEL_OFF + sg_channel_cmd_off(RING_ENTRIES),
                              .entries = RING_ENTRIES};
    h->event =
        (struct sg_ring){.tail = &h->channel->event_tail,
                         .head = &h->channel->event_head,
                         .slots = h->base + CHANNEL_OFF + sg_channel_event_off(RING_ENTRIES, RING_ENTRIES),
                         .entries = RING_ENTRIES};
    h->doorbell_fd = eventfd(0, EFD_CLOEXEC);
    h->event_fd = eventfd(0, EFD_CLOEXEC);
    if (h->doorbell_fd < 0 || h->event_fd < 0)
        die("eventfd");
    h->mode = mode;
    h->variant = variant;
    h->batch = batch;
}

static void hop_fini(struct hop *h)
{
    munmap(h->base, segment_bytes());
    close(h->doorbell_fd);
    close(h->event_fd);
}

/* ---- Waiting and waking [P3] ------------------------------------------------------------------------ */

static void cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void spin_once(enum spin_kind spin, uint32_t turn)
{
    if (spin == SPIN_YIELD || (spin == SPIN_MIXED && turn >= MIXED_PAUSES))
        sched_yield();
    else
        cpu_pause();
}

static bool published(const struct hop *h, const uint32_t *tail, uint32_t own)
{
    return sg_load_acquire_u32(tail) != own || sg_load_relaxed_u32(&h->shared->stop) != 0;
}

/** Waits until the other side's `tail` has left `own`, or the run is over. */
static void wait_published(const struct hop *h, const uint32_t *tail, uint32_t own, uint32_t *sleep_word,
                           uint32_t sleep_kind, int fd)
{
    const struct wait_mode *m = h->mode;
    uint64_t start = 0;
    uint64_t count;

    for (uint32_t turn = 0; m->spin != SPIN_NONE; turn++) {
        if (published(h, tail, own))
            return;
        spin_once(m->spin, turn);
        if (m->spin_us == UINT32_MAX)
            continue;
        if (turn == 0)
            start = now_ns();
        else if (turn % 8 == 0 && now_ns() - start > (uint64_t)m->spin_us * 1000u)
            break;
    }
    while (!published(h, tail, own)) {
        sg_store_relaxed_u32(sleep_word, sleep_kind);
        sg_fence(); /* [P3] */
        if (!published(h, tail, own)) {
            if (sleep_kind == SG_SLEEP_FUTEX)
                syscall(SYS_futex, sleep_word, FUTEX_WAIT, SG_SLEEP_FUTEX, NULL, NULL, 0);
            else if (read(fd, &count, sizeof(count)) != sizeof(count) && errno != EINTR)
                die("eventfd read");
        }
        sg_store_relaxed_u32(sleep_word, SG_AWAKE);
    }
}

/** Wakes a side that sleeps; the caller's publication is followed by a full fence here. */
static void wake(uint32_t *sleep_word, int fd)
{
    static const uint64_t one = 1;
    uint32_t how;

    sg_fence(); /* [P3] */
    if (sg_load_relaxed_u32(sleep_word) == SG_AWAKE)
        return;
    how = __atomic_exchange_n(sleep_word, SG_AWAKE, __ATOMIC_SEQ_CST);
    if (how == SG_SLEEP_FUTEX)
        syscall(SYS_futex, sleep_word, FUTEX_WAKE, 1, NULL, NULL, 0);
    else if (how == SG_SLEEP_EVENTFD && write(fd, &one, sizeof(one)) != sizeof(one))
        die("eventfd write");
}

/* ---- The daemon's side -------------------------------------------------------------------------------- */

/** One socket's turn: take what was sent, send it back. False: the application lied. */
static bool daemon_echo(struct hop *h, uint32_t slot)
{
    struct sg_slot *s = &h->slots[slot];
    uint64_t tail = sg_load_acquire_u64(&s->a.tx_tail); /* [S2] one copy, checked, used */
    uint64_t base = sg_load_relaxed_u64(&s->a.tx_base);
    uint64_t head = sg_load_acquire_u64(&s->a.rx_head); /* [S3] */
    uint64_t at = h->offset[slot];
    uint8_t packet[PAYLOAD_BYTES];

    if (tail - at > PAYLOAD_BYTES || at - base >= (UINT64_C(1) << REGION_LOG2) || head > at)
        return false;
    if (tail - at != PAYLOAD_BYTES)
        return true; /* a kick without data */
    sg_bytes_get(tx_region(h, slot), REGION_LOG2, at - base, packet, sizeof(packet));
    if (head == at) /* empty: start again at the first line */
        s->d.rx_base = at;
    sg_bytes_put(rx_region(h, slot), REGION_LOG2, at - s->d.rx_base, packet, sizeof(packet));
    h->offset[slot] = at + PAYLOAD_BYTES;
    sg_store_release_u64(&s->d.tx_head, h->offset[slot]); /* [S4] */
    sg_store_release_u64(&s->d.rx_tail, h->offset[slot]); /* [S1] */
    return true;
}

/** Takes up to a batch of kicks (or records); returns the slots. */
static uint32_t daemon_take(struct hop *h, uint32_t slots[BATCH_MAX])
{
    struct sg_ring *r = h->variant == VAR_CMD ? &h->cmd : &h->kick;
    uint32_t n = sg_ring_waiting(r);
    struct sg_cmd cmd;

    if (n == UINT32_MAX)
        die("impossible ring index");
    n = n < BATCH_MAX ? n : BATCH_MAX;
    for (uint32_t i = 0; i < n; i++) {
        if (h->variant == VAR_CMD) {
            memcpy(&cmd, sg_ring_slot(r, sizeof(struct sg_cmd), i), sizeof(cmd));
            slots[i] = cmd.op == SG_CMD_NOP ? cmd.slot : SG_SLOT_NONE;
        } else {
            slots[i] = sg_load_relaxed_u32(sg_ring_slot(r, sizeof(uint32_t), i));
        }
        if (slots[i] == SG_SLOT_NONE || slots[i] >= SLOT_COUNT)
            die("bad slot");
    }
    sg_ring_consume(r, n);
    return n;
}

static void daemon_turn(struct hop *h)
{
    bool fence_each = h->variant == VAR_KICK_FENCE_EACH;
    uint32_t slots[BATCH_MAX];
    uint32_t n = daemon_take(h, slots);
    uint32_t events = 0;

    for (uint32_t i = 0; i < n; i++) { /* [S6] */
        struct sg_slot *s = &h->slots[slots[i]];

        sg_store_relaxed_u32(&s->d.kick_seen, sg_load_relaxed_u32(&s->a.kick_posted));
        if (fence_each)
            sg_fence();
    }
    if (!fence_each)
        sg_fence();
    for (uint32_t i = 0; i < n; i++)
        if (!daemon_echo(h, slots[i]))
            die("bad offset");
    if (!fence_each)
        sg_fence();
    for (uint32_t i = 0; i < n; i++) { /* [S5] */
        struct sg_slot *s = &h->slots[slots[i]];
        struct sg_event *ev;

        if (fence_each)
            sg_fence();
        if (sg_load_relaxed_u32(&s->a.ev_seen) != (uint32_t)h->posted[slots[i]])
            continue;
        sg_store_relaxed_u32(&s->d.ev_posted, (uint32_t)++h->posted[slots[i]]);
        if (sg_ring_free(&h->event) <= events)
            die("event ring full");
        ev = sg_ring_slot(&h->event, sizeof(*ev), events++);
        *ev = (struct sg_event){.kind = SG_EV_SOCK, .slot = slots[i]};
    }
    sg_ring_publish(&h->event, events);
    wake(&h->channel->sleep, h->event_fd);
}

static void daemon_main(struct hop *h)
{
    struct sg_ring *r = h->variant == VAR_CMD ? &h->cmd : &h->kick;

    while (sg_load_relaxed_u32(&h->shared->stop) == 0) {
        wait_published(h, r->tail, r->own, &h->shared->daemon.sleeping, h->mode->daemon_sleep,
                       h->doorbell_fd);
        daemon_turn(h);
    }
}

/* ---- The application's side -----------------------------------------------------------------------------
 */

static void app_write(struct hop *h, uint32_t slot, const uint8_t payload[PAYLOAD_BYTES])
{
    struct sg_slot *s = &h->slots[slot];
    uint64_t at = h->offset[slot];

    if (sg_load_acquire_u64(&s->d.tx_head) == at) /* [S4] empty: start again at the first line */
        s->a.tx_base = at;
    sg_bytes_put(tx_region(h, slot), REGION_LOG2, at - s->a.tx_base, payload, PAYLOAD_BYTES);
    sg_store_release_u64(&s->a.tx_tail, at + PAYLOAD_BYTES); /* [S2] */
}

/** Adds the kick of `slot` to those to be published, if none is pending [S6]. */
static uint32_t app_kick(struct hop *h, uint32_t slot, uint32_t ahead)
{
    struct sg_slot *s = &h->slots[slot];

    if (sg_load_relaxed_u32(&s->d.kick_seen) != (uint32_t)h->posted[slot])
        return ahead;
    sg_store_relaxed_u32(&s->a.kick_posted, (uint32_t)++h->posted[slot]);
    if (h->variant == VAR_CMD) {
        struct sg_cmd *cmd = sg_ring_slot(&h->cmd, sizeof(*cmd), ahead);

        *cmd = (struct sg_cmd){.op = SG_CMD_NOP, .slot = slot};
    } else {
        sg_store_relaxed_u32(sg_ring_slot(&h->kick, sizeof(uint32_t), ahead), slot);
    }
    return ahead + 1;
}

static void app_send(struct hop *h, uint64_t serial)
{
    struct sg_ring *r = h->variant == VAR_CMD ? &h->cmd : &h->kick;
    bool fence_each = h->variant == VAR_KICK_FENCE_EACH;
    uint8_t payload[PAYLOAD_BYTES] = {0};
    uint32_t kicks = 0;

    memcpy(payload, &serial, sizeof(serial));
    if (sg_ring_free(r) < h->batch)
        die("kick ring full");
    for (uint32_t i = 1; i <= h->batch; i++) {
        app_write(h, i, payload);
        if (fence_each) {
            sg_fence();
            kicks = app_kick(h, i, kicks);
        }
    }
    if (!fence_each) {
        sg_fence();
        for (uint32_t i = 1; i <= h->batch; i++)
            kicks = app_kick(h, i, kicks);
    }
    sg_ring_publish(r, kicks);
    wake(&h->shared->daemon.sleeping, h->doorbell_fd);
}

/** Takes one socket's response, if it is there; returns 1 or 0. */
static uint32_t app_read(struct hop *h, uint32_t slot, uint64_t serial)
{
    struct sg_slot *s = &h->slots[slot];
    uint64_t at = h->offset[slot];
    uint64_t tail = sg_load_acquire_u64(&s->d.rx_tail); /* [S1] */
    uint8_t payload[PAYLOAD_BYTES];

    if (tail == at)
        return 0;
    sg_bytes_get(rx_region(h, slot), REGION_LOG2, at - s->d.rx_base, payload, sizeof(payload));
    h->offset[slot] = tail;
    sg_store_release_u64(&s->a.rx_head, tail); /* [S3] */
    if (tail - at != PAYLOAD_BYTES || memcmp(payload, &serial, sizeof(serial)) != 0)
        die("the echo differs");
    return 1;
}

static void app_receive(struct hop *h, uint64_t serial)
{
    bool fence_each = h->variant == VAR_KICK_FENCE_EACH;
    uint32_t got = 0;

    while (got < h->batch) {
        uint32_t slots[RING_ENTRIES];
        uint32_t n;

        wait_published(h, h->event.tail, h->event.own, &h->channel->sleep, h->mode->app_sleep, h->event_fd);
        n = sg_ring_waiting(&h->event);
        for (uint32_t i = 0; i < n; i++) { /* [S5] */
            const struct sg_event *ev = sg_ring_slot(&h->event, sizeof(*ev), i);

            slots[i] = ev->slot;
            sg_store_relaxed_u32(&h->slots[ev->slot].a.ev_seen,
                                 sg_load_relaxed_u32(&h->slots[ev->slot].d.ev_posted));
            if (fence_each)
                sg_fence();
        }
        sg_ring_consume(&h->event, n);
        if (!fence_each)
            sg_fence();
        for (uint32_t i = 0; i < n; i++)
            got += app_read(h, slots[i], serial);
    }
}

/* ---- Runs
 * -------------------------------------------------------------------------------------------------- */

static int cpu_first, cpu_second; /* second equals first where only one is allowed */

static void find_cpus(void)
{
    cpu_set_t set;

    cpu_first = cpu_second = -1;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        die("sched_getaffinity");
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        if (cpu_first < 0)
            cpu_first = cpu_second = cpu;
        else if (cpu_second == cpu_first)
            cpu_second = cpu;
    }
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0)
        die("sched_setaffinity");
}

/** Forks the daemon's side onto `cpu`. */
static pid_t daemon_start(struct hop *h, int cpu)
{
    pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid == 0) {
        pin(cpu);
        daemon_main(h);
        _exit(0);
    }
    return pid;
}

static void daemon_stop(struct hop *h, pid_t pid)
{
    int status;

    __atomic_store_n(&h->shared->stop, 1, __ATOMIC_SEQ_CST);
    wake(&h->shared->daemon.sleeping, h->doorbell_fd);
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "ring_hop: the daemon's side failed\n");
        exit(1);
    }
}

/** The first hops wait for the fork and touch cold pages; they are not counted. */
static void warm_up(struct hop *h)
{
    for (uint64_t serial = 1; serial <= HOPS_PER_CLOCK; serial++) {
        app_send(h, serial);
        app_receive(h, serial);
    }
}

/** Nanoseconds a request, measured for `run_ms`. */
static double run_rate(const struct wait_mode *mode, enum variant variant, uint32_t batch, int daemon_cpu,
                       uint32_t run_ms)
{
    struct hop h;
    uint64_t start, end, serial = 0;
    pid_t pid;

    hop_init(&h, mode, variant, batch);
    pid = daemon_start(&h, daemon_cpu);
    pin(cpu_first);
    warm_up(&h);
    start = now_ns();
    do {
        for (uint32_t i = 0; i < HOPS_PER_CLOCK; i++) {
            app_send(&h, ++serial);
            app_receive(&h, serial);
        }
        end = now_ns();
    } while (end - start < (uint64_t)run_ms * 1000000u);
    daemon_stop(&h, pid);
    hop_fini(&h);
    return (double)(end - start) / ((double)serial * batch);
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
    qsort(v, n, sizeof(*v), compare_double);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/** A request every `gap_us`, the daemon on its own CPU and asleep or not by then. */
static double run_gap(const struct wait_mode *mode, uint32_t gap_us, uint32_t run_ms,
                      double *daemon_cpu_percent)
{
    static double samples[100000];
    struct wait_mode app_mode = wait_modes[WAIT_MODE_FASTEST]; /* so that only the daemon's wait shows */
    struct hop h;
    clockid_t daemon_clock;
    uint64_t start, cpu_start;
    unsigned n = 0;
    pid_t pid;

    hop_init(&h, mode, VAR_KICK, 1);
    pid = daemon_start(&h, cpu_second);
    pin(cpu_first);
    h.mode = &app_mode;
    if (clock_getcpuclockid(pid, &daemon_clock) != 0)
        die("clock_getcpuclockid");
    warm_up(&h);
    start = now_ns();
    cpu_start = clock_ns(daemon_clock);
    while (n < sizeof(samples) / sizeof(samples[0]) && now_ns() - start < (uint64_t)run_ms * 1000000u) {
        uint64_t idle_from = now_ns(), sent;

        while (now_ns() - idle_from < (uint64_t)gap_us * 1000u)
            cpu_pause();
        sent = now_ns();
        app_send(&h, n);
        app_receive(&h, n);
        samples[n++] = (double)(now_ns() - sent);
    }
    *daemon_cpu_percent = 100.0 * (double)(clock_ns(daemon_clock) - cpu_start) / (double)(now_ns() - start);
    daemon_stop(&h, pid);
    hop_fini(&h);
    return median(samples, n);
}

static const uint32_t batches[] = {1, 8, 64};
#define BATCH_KINDS (sizeof(batches) / sizeof(batches[0]))

static void print_waits(int daemon_cpu, unsigned runs, uint32_t run_ms)
{
    static double v[WAIT_MODE_COUNT][BATCH_KINDS][RUNS_MAX];

    printf("\n%s, ns per request (median of %u runs)\n", daemon_cpu == cpu_first ? "one CPU" : "two CPUs",
           runs);
    printf("  %-32s %10s %10s %10s\n", "waiting: daemon, application", "batch 1", "batch 8", "batch 64");
    /* Runs go round all the cells, so that a disturbance hits each alike. */
    for (unsigned run = 0; run < runs; run++)
        for (unsigned m = 0; m < WAIT_MODE_COUNT; m++)
            for (unsigned b = 0; b < BATCH_KINDS; b++)
                v[m][b][run] = run_rate(&wait_modes[m], VAR_KICK, batches[b], daemon_cpu, run_ms);
    for (unsigned m = 0; m < WAIT_MODE_COUNT; m++) {
        printf("  %-32s", wait_modes[m].name);
        for (unsigned b = 0; b < BATCH_KINDS; b++)
            printf(" %10.0f", median(v[m][b], runs));
        printf("\n");
    }
}

static void print_variants(unsigned runs, uint32_t run_ms)
{
    static double v[VAR_COUNT][BATCH_KINDS][RUNS_MAX];
    double first[BATCH_KINDS];

    printf("\ntwo CPUs, pause for ever: form of the kick, ns per request (ratio to the first)\n");
    printf("  %-36s %16s %16s %16s\n", "", "batch 1", "batch 8", "batch 64");
    for (unsigned run = 0; run < runs; run++)
        for (unsigned k = 0; k < VAR_COUNT; k++)
            for (unsigned b = 0; b < BATCH_KINDS; b++)
                v[k][b][run] =
                    run_rate(&wait_modes[WAIT_MODE_FASTEST], (enum variant)k, batches[b], cpu_second, run_ms);
    for (unsigned k = 0; k < VAR_COUNT; k++) {
        printf("  %-36s", variant_names[k]);
        for (unsigned b = 0; b < BATCH_KINDS; b++) {
            double ns = median(v[k][b], runs);

            if (k == 0)
                first[b] = ns;
            printf("   %7.0f (%.2f)", ns, ns / first[b]);
        }
        printf("\n");
    }
}

static void print_gaps(unsigned runs, uint32_t run_ms)
{
    static const uint32_t spins_us[] = {0, 5, 20, 50, 200};
    static const uint32_t gaps_us[] = {2, 10, 30, 100, 1000};
    double ns[RUNS_MAX], cpu[RUNS_MAX];

    printf("\ntwo CPUs, batch 1, a request every so often: hop in us / daemon's CPU in %%\n");
    printf("  %-20s", "daemon spins for");
    for (unsigned g = 0; g < sizeof(gaps_us) / sizeof(gaps_us[0]); g++)
        printf(" %8u us gap", gaps_us[g]);
    printf("\n");
    for (unsigned s = 0; s < sizeof(spins_us) / sizeof(spins_us[0]); s++) {
        struct wait_mode mode = wait_modes[WAIT_MODE_ADAPTIVE];

        mode.spin = spins_us[s] ? SPIN_MIXED : SPIN_NONE;
        mode.spin_us = spins_us[s];
        printf("  %4u us %13s", spins_us[s], "");
        for (unsigned g = 0; g < sizeof(gaps_us) / sizeof(gaps_us[0]); g++) {
            for (unsigned run = 0; run < runs; run++)
                ns[run] = run_gap(&mode, gaps_us[g], run_ms, &cpu[run]);
            printf(" %8.1f /%3.0f%%", median(ns, runs) / 1000.0, median(cpu, runs));
        }
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"runs", required_argument, NULL, 'r'},
        {"ms", required_argument, NULL, 'm'},
        {"quick", no_argument, NULL, 'q'},
        {NULL, 0, NULL, 0},
    };
    unsigned runs = 7;
    uint32_t run_ms = 60;
    int c;

    while ((c = getopt_long(argc, argv, "r:m:q", options, NULL)) != -1) {
        if (c == 'r') {
            runs = (unsigned)strtoul(optarg, NULL, 10);
        } else if (c == 'm') {
            run_ms = (uint32_t)strtoul(optarg, NULL, 10);
        } else if (c == 'q') {
            runs = 1;
            run_ms = 1;
        } else {
            fprintf(stderr, "usage: ring_hop [--runs N] [--ms PER_CELL] [--quick]\n");
            return 2;
        }
    }
    if (runs < 1 || runs > RUNS_MAX || run_ms < 1) {
        fprintf(stderr, "ring_hop: --runs must be 1..%u and --ms at least 1\n", RUNS_MAX);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* children never hold unwritten lines */
    find_cpus();
    printf("ring hop: %u-byte request and response, %u ms a cell\n", PAYLOAD_BYTES, run_ms);
    print_waits(cpu_first, runs, run_ms);
    if (cpu_second == cpu_first) {
        printf("\nonly one CPU is allowed: the placements on two were left out\n");
        return 0;
    }
    print_waits(cpu_second, runs, run_ms);
    print_variants(runs, run_ms);
    print_gaps(runs < 3 ? runs : 3, run_ms);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared-memory accessors: rings alone and between two threads, and the handshakes that spare hints and
 * sleeps. Under the thread sanitizer too: it finds a missing barrier that x86 forgives.
 */
#include <criterion/criterion.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/abi/seg.h"

#define ENTRIES 8u

struct shared {
    uint32_t tail __attribute__((aligned(64)));
    uint32_t head __attribute__((aligned(64)));
    uint64_t slots[ENTRIES] __attribute__((aligned(64)));
};

static struct sg_ring view(struct shared *s)
{
    return (struct sg_ring){.tail = &s->tail, .head = &s->head, .slots = s->slots, .entries = ENTRIES};
}

static void start_at(struct shared *s, struct sg_ring *p, struct sg_ring *c, uint32_t index)
{
    s->tail = s->head = index;
    p->own = p->other = c->own = c->other = index;
}

Test(ring, is_full_after_its_entries_and_empty_again)
{
    struct shared s = {0};
    struct sg_ring p = view(&s), c = view(&s);

    start_at(&s, &p, &c, UINT32_MAX - 3); /* across the wrap of the indices */
    for (unsigned round = 0; round < 5; round++) {
        for (uint64_t i = 0; i < ENTRIES; i++) {
            cr_assert_eq(sg_ring_free(&p), ENTRIES - i);
            memcpy(sg_ring_slot(&p, sizeof(uint64_t), 0), &i, sizeof(i));
            sg_ring_publish(&p, 1);
        }
        cr_assert_eq(sg_ring_free(&p), 0);
        cr_assert_eq(sg_ring_waiting(&c), ENTRIES);
        for (uint64_t i = 0; i < ENTRIES; i++) {
            uint64_t got;

            memcpy(&got, sg_ring_slot(&c, sizeof(uint64_t), 0), sizeof(got));
            cr_assert_eq(got, i);
            sg_ring_consume(&c, 1);
        }
        cr_assert_eq(sg_ring_waiting(&c), 0);
    }
}

Test(ring, a_producer_that_lies_is_found_out)
{
    struct shared s = {0};
    struct sg_ring c = view(&s);

    s.tail = ENTRIES + 1;
    cr_assert_eq(sg_ring_waiting(&c), UINT32_MAX);
    s.tail = UINT32_MAX;
    cr_assert_eq(sg_ring_waiting(&c), UINT32_MAX);
    s.tail = ENTRIES;
    cr_assert_eq(sg_ring_waiting(&c), ENTRIES);
}

Test(ring, a_consumer_that_lies_gets_nothing_more)
{
    struct shared s = {0};
    struct sg_ring p = view(&s);

    sg_ring_publish(&p, sg_ring_free(&p));
    s.head = ENTRIES + 5; /* more than was ever produced */
    cr_assert_eq(sg_ring_free(&p), 0);
    s.head = 3;
    cr_assert_eq(sg_ring_free(&p), 3);
}

Test(bytes, wrap_at_the_end_of_the_region)
{
    uint8_t region[4096], in[3000], out[3000];

    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)(i * 31);
    for (uint64_t pos = 0; pos < 20000; pos += 977) {
        sg_bytes_put(region, 12, pos, in, sizeof(in));
        memset(out, 0, sizeof(out));
        sg_bytes_get(region, 12, pos, out, sizeof(out));
        cr_assert_arr_eq(in, out, sizeof(in));
    }
}

Test(bytes, a_datagram_header_never_wraps)
{
    for (uint32_t len = 0; len < 200; len++)
        cr_assert_eq(sg_dgram_ring_bytes(len) % SG_DGRAM_ALIGN, 0);
    cr_assert_eq(sg_dgram_ring_bytes(0), SG_DGRAM_ALIGN);
    cr_assert_eq(sg_dgram_ring_bytes(1), 2 * SG_DGRAM_ALIGN);
    cr_assert_eq(sg_dgram_ring_bytes(UINT32_MAX), UINT64_C(0x100000020), "no overflow");
}

Test(seg, channels_have_room_for_their_rings)
{
    uint64_t size = sg_channel_size(4096, 256, 4096);

    cr_assert_geq(size, sg_channel_event_off(4096, 256) + 4096 * sizeof(struct sg_event));
    cr_assert_eq(size % SG_PAGE_BYTES, 0);
    cr_assert_eq(sg_channel_cmd_off(4096) % 64, 0);
    cr_assert_eq(sg_channel_event_off(4096, 256) % 64, 0);
}

/* ---- Two threads -------------------------------------------------------------------------------------- */

#define COUNT 200000u

static void *produce(void *arg)
{
    struct sg_ring p = view(arg);

    for (uint64_t i = 0; i < COUNT;) {
        uint32_t room = sg_ring_free(&p);
        uint32_t n = 0;

        for (; n < room && i < COUNT; n++, i++)
            memcpy(sg_ring_slot(&p, sizeof(uint64_t), n), &i, sizeof(i));
        if (n)
            sg_ring_publish(&p, n);
    }
    return NULL;
}

Test(threads, every_record_arrives_once_and_whole)
{
    static struct shared s;
    struct sg_ring c = view(&s);
    pthread_t t;

    cr_assert_eq(pthread_create(&t, NULL, produce, &s), 0);
    for (uint64_t i = 0; i < COUNT;) {
        uint32_t n = sg_ring_waiting(&c);

        cr_assert_neq(n, UINT32_MAX);
        for (uint32_t k = 0; k < n; k++, i++) {
            uint64_t got;

            memcpy(&got, sg_ring_slot(&c, sizeof(uint64_t), k), sizeof(got));
            cr_assert_eq(got, i);
        }
        sg_ring_consume(&c, n);
    }
    pthread_join(t, NULL);
}

struct sleepy {
    struct shared ring;
    uint32_t sleep __attribute__((aligned(64)));
    uint64_t slept, woken;
};

static void *produce_and_wake(void *arg)
{
    struct sleepy *z = arg;
    struct sg_ring p = view(&z->ring);

    for (uint64_t i = 0; i < COUNT / 10; i++) {
        while (!sg_ring_free(&p))
            ;
        memcpy(sg_ring_slot(&p, sizeof(uint64_t), 0), &i, sizeof(i));
        sg_ring_publish(&p, 1);
        sg_fence(); /* [P3] */
        if (sg_load_relaxed_u32(&z->sleep) != SG_AWAKE &&
            __atomic_exchange_n(&z->sleep, SG_AWAKE, __ATOMIC_SEQ_CST) != SG_AWAKE) {
            z->woken++;
            syscall(SYS_futex, &z->sleep, FUTEX_WAKE, 1, NULL, NULL, 0);
        }
    }
    return NULL;
}

/* [P3]: a consumer that sleeps without a time limit is always woken: this test hangs if a wake-up is lost. */
Test(threads, no_wakeup_is_lost)
{
    static struct sleepy z;
    struct sg_ring c = view(&z.ring);
    pthread_t t;

    cr_assert_eq(pthread_create(&t, NULL, produce_and_wake, &z), 0);
    for (uint64_t i = 0; i < COUNT / 10;) {
        uint32_t n = sg_ring_waiting(&c);

        if (!n) {
            __atomic_store_n(&z.sleep, SG_SLEEP_FUTEX, __ATOMIC_RELAXED);
            sg_fence(); /* [P3] */
            if (!sg_ring_waiting(&c)) {
                z.slept++;
                syscall(SYS_futex, &z.sleep, FUTEX_WAIT, SG_SLEEP_FUTEX, NULL, NULL, 0);
            }
            __atomic_store_n(&z.sleep, SG_AWAKE, __ATOMIC_RELAXED);
            continue;
        }
        i += n;
        sg_ring_consume(&c, n);
    }
    pthread_join(t, NULL);
    cr_log_info("slept %lu times, woken %lu times", z.slept, z.woken);
}

/* A slot's stream with kicks of [S6]: the reader only looks when it is kicked, and misses nothing. */
struct stream {
    struct sg_slot slot;
    uint8_t region[4096];
    struct shared kicks;
};

static void *write_stream(void *arg)
{
    struct stream *st = arg;
    struct sg_slot *s = &st->slot;
    struct sg_ring p = view(&st->kicks);
    uint64_t tail = 0;

    while (tail < COUNT) {
        uint64_t room = sizeof(st->region) - (tail - sg_load_acquire_u64(&s->d.tx_head)); /* [S4] */
        uint8_t buf[100];
        size_t n = room < sizeof(buf) ? (size_t)room : sizeof(buf);

        if (n > COUNT - tail)
            n = COUNT - tail;
        for (size_t i = 0; i < n; i++)
            buf[i] = (uint8_t)((tail + i) * 7);
        sg_bytes_put(st->region, 12, tail, buf, n);
        tail += n;
        sg_store_release_u64(&s->a.tx_tail, tail); /* [S2] */
        sg_fence();                                /* [S6] */
        if (n && sg_load_acquire_u32(&s->d.kick_seen) == s->a.kick_posted) {
            uint32_t slot = 1;

            sg_store_release_u32(&s->a.kick_posted, s->a.kick_posted + 1);
            cr_assert_gt(sg_ring_free(&p), 0, "at most one kick of a slot is in the ring");
            memcpy(sg_ring_slot(&p, sizeof(uint64_t), 0), &slot, sizeof(slot));
            sg_ring_publish(&p, 1);
        }
    }
    return NULL;
}

Test(threads, kicks_are_spared_and_no_byte_is_missed)
{
    static struct stream st;
    struct sg_slot *s = &st.slot;
    struct sg_ring c = view(&st.kicks);
    uint64_t head = 0, kicks = 0;
    pthread_t t;

    cr_assert_eq(pthread_create(&t, NULL, write_stream, &st), 0);
    while (head < COUNT) {
        uint32_t n = sg_ring_waiting(&c);
        uint64_t tail;
        uint8_t buf[4096];

        if (!n)
            continue;
        cr_assert_eq(n, 1);
        sg_ring_consume(&c, n);
        kicks++;
        sg_store_release_u32(&s->d.kick_seen, sg_load_acquire_u32(&s->a.kick_posted));
        sg_fence();                                /* [S6] */
        tail = sg_load_acquire_u64(&s->a.tx_tail); /* [S2] */
        cr_assert_leq(tail - head, sizeof(buf));
        sg_bytes_get(st.region, 12, head, buf, tail - head);
        for (uint64_t i = 0; i < tail - head; i++)
            cr_assert_eq(buf[i], (uint8_t)((head + i) * 7));
        head = tail;
        sg_store_release_u64(&s->d.tx_head, head); /* [S4] */
    }
    pthread_join(t, NULL);
    cr_assert_gt(kicks, 0);
}

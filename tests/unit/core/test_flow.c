/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "daemon/engine/engine_int.h"
#include "tests/support/host.h"
#include "tests/unit/core/rnd.h"

/* The keys lie in records, so the table is tested inside an engine, with TIME_WAIT records as keepers. */
static struct host h;

static struct flow_key key(uint32_t i)
{
    return (struct flow_key){.local = {.ip = {192, 0, 2, 2}, .family = SG_AF_INET},
                             .remote = {.ip = {10, 0, (uint8_t)(i >> 8), (uint8_t)i}, .family = SG_AF_INET},
                             .lport = 7,
                             .rport = (uint16_t)(1 + i % 5)};
}

static void start(void)
{
    struct engine_config cfg;

    host_config(&cfg, 2);
    cfg.conn_max = 8;
    cfg.req_max = 8;
    cfg.tw_max = 500;
    host_start(&h, &cfg, 1000000);
}

static uint32_t add(uint32_t i)
{
    struct flow_key k = key(i);
    uint32_t hash = flow_hash(&h.e->flows, &k);

    h.e->tcp.tws[i].key = k;
    flow_add(&h.e->flows, hash, SOCK_ID(SK_TW, i));
    return hash;
}

static uint32_t find(uint32_t i)
{
    struct flow_key k = key(i);

    return flow_find(h.e, &k, flow_hash(&h.e->flows, &k));
}

static void del(uint32_t i)
{
    struct flow_key k = key(i);

    flow_del(&h.e->flows, flow_hash(&h.e->flows, &k), SOCK_ID(SK_TW, i));
}

/* The records were borrowed: the engine must not find them used when it stops. */
static void stop(void)
{
    const char *bad = host_stop(&h);

    cr_assert_null(bad, "%s", bad);
}

Test(flow, finds_what_was_added_and_nothing_else)
{
    start();
    cr_assert_eq(find(1), 0);
    add(1);
    cr_assert_eq(find(1), SOCK_ID(SK_TW, 1));
    cr_assert_eq(find(2), 0);
    del(1);
    cr_assert_eq(find(1), 0);
    cr_assert_eq(h.e->flows.used, 0);
    stop();
}

Test(flow, each_part_of_the_key_counts)
{
    struct flow_key k = key(1), other;

    start();
    add(1);
    for (unsigned part = 0; part < 5; part++) {
        other = k;
        switch (part) {
        case 0:
            other.lport++;
            break;
        case 1:
            other.rport++;
            break;
        case 2:
            other.remote.ip[3]++;
            break;
        case 3:
            other.local.ip[3]++;
            break;
        default:
            other.local.family = other.remote.family = SG_AF_INET6;
            break;
        }
        /* With the hash of the true one: the comparison must not rely on the hash. */
        cr_assert_eq(flow_find(h.e, &other, flow_hash(&h.e->flows, &k)), 0, "part %u", part);
        cr_assert_neq(flow_hash(&h.e->flows, &other), flow_hash(&h.e->flows, &k), "part %u", part);
    }
    del(1);
    stop();
}

Test(flow, replace_keeps_the_key)
{
    struct flow_key k = key(1);
    uint32_t hash;

    start();
    hash = add(1);
    h.e->tcp.tws[9].key = k;
    flow_replace(&h.e->flows, hash, SOCK_ID(SK_TW, 1), SOCK_ID(SK_TW, 9));
    cr_assert_eq(flow_find(h.e, &k, hash), SOCK_ID(SK_TW, 9));
    flow_del(&h.e->flows, hash, SOCK_ID(SK_TW, 9));
    stop();
}

Test(flow, hash_is_keyed)
{
    struct flow_key k = key(1);
    uint32_t a;

    start();
    a = flow_hash(&h.e->flows, &k);
    h.e->flows.key.k[1] ^= 1;
    cr_assert_neq(flow_hash(&h.e->flows, &k), a);
    stop();
}

/* Collisions on purpose: hashes from a few values, so that probing and the shift at removal are exercised. */
Test(flow, long_runs_survive_removal)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t s = seed;
        bool in[300] = {false};
        uint32_t hash[300], used = 0;
        struct flow_table *t;

        start();
        t = &h.e->flows;
        for (uint32_t i = 0; i < 300; i++) {
            h.e->tcp.tws[i].key = key(i);
            /* near the end, so that runs go round */
            hash[i] = t->mask - 20 + rnd_below(&s, 40);
        }
        for (unsigned step = 0; step < 3000; step++) {
            uint32_t i = rnd_below(&s, 300);

            if (in[i])
                flow_del(t, hash[i], SOCK_ID(SK_TW, i));
            else
                flow_add(t, hash[i], SOCK_ID(SK_TW, i));
            in[i] = !in[i];
            used += in[i] ? 1 : (uint32_t)-1;
            cr_assert_eq(t->used, used, "seed %lu", seed);
            if (step % 50 == 0)
                for (uint32_t k = 0; k < 300; k++) {
                    struct flow_key fk = key(k);

                    cr_assert_eq(flow_find(h.e, &fk, hash[k]), in[k] ? SOCK_ID(SK_TW, k) : 0, "seed %lu: %u",
                                 seed, k);
                }
        }
        for (uint32_t i = 0; i < 300; i++)
            if (in[i])
                flow_del(t, hash[i], SOCK_ID(SK_TW, i));
        stop();
    }
}

Test(flow, hashes_spread_evenly)
{
    unsigned bucket[64] = {0};

    start();
    for (uint32_t i = 0; i < 64000; i++) {
        struct flow_key k = key(i);

        bucket[flow_hash(&h.e->flows, &k) % 64]++;
    }
    for (unsigned i = 0; i < 64; i++)
        cr_assert(bucket[i] > 800 && bucket[i] < 1200, "bucket %u has %u of 1000", i, bucket[i]);
    stop();
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What crash consistency costs for each update of a connection record. An update changes twelve fields in
 * four of the record's eight cache lines, about what a received data segment and its acknowledgment change.
 *
 *     conn_update [--runs N] [--updates N] [--only in-place|undo|undo-lines|redo]
 *
 * Times are nanoseconds an update, medians of the runs, over a table that fits the cache and one that does
 * not. --only runs one way alone, for counting its instructions under callgrind.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench/undo.h"

#define RUNS_MAX 31u

/* Word numbers: lines 1, 2, 4 and 7. */
static const uint8_t changed_words[] = {8, 9, 11, 16, 17, 18, 20, 33, 34, 38, 56, 57};
#define CHANGED_WORDS (sizeof(changed_words) / sizeof(changed_words[0]))

static void die(const char *what)
{
    fprintf(stderr, "conn_update: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void update_in_place(struct undo_slot *u, struct record *table, uint32_t index, uint64_t value)
{
    struct record *r = &table[index];

    (void)u;
    for (unsigned i = 0; i < CHANGED_WORDS; i++)
        r->word[changed_words[i]] += value;
}

static void update_undo(struct undo_slot *u, struct record *table, uint32_t index, uint64_t value)
{
    undo_begin(u, table, index);
    update_in_place(u, table, index, value);
    undo_commit(u);
}

static void update_undo_lines(struct undo_slot *u, struct record *table, uint32_t index, uint64_t value)
{
    struct record *r = &table[index];

    undo_begin_lines(u, index);
    for (unsigned i = 0; i < CHANGED_WORDS; i++) {
        undo_line(u, table, changed_words[i] / 8u);
        r->word[changed_words[i]] += value;
    }
    undo_commit(u);
}

static void update_redo(struct undo_slot *u, struct record *table, uint32_t index, uint64_t value)
{
    struct record *r = redo_begin(u, table, index);

    for (unsigned i = 0; i < CHANGED_WORDS; i++)
        r->word[changed_words[i]] += value;
    redo_commit(u, table, index);
}

struct way {
    const char *name;
    void (*update)(struct undo_slot *, struct record *, uint32_t, uint64_t);
};

static const struct way ways[] = {
    {"in-place", update_in_place},
    {"undo", update_undo},
    {"undo-lines", update_undo_lines},
    {"redo", update_redo},
};
#define WAY_COUNT (sizeof(ways) / sizeof(ways[0]))

static const uint32_t table_sizes[] = {32, 1000, 100000};
#define TABLE_KINDS (sizeof(table_sizes) / sizeof(table_sizes[0]))
#define TABLE_MAX   100000u

static uint64_t now_ns(void)
{
    struct timespec ts;

    if (clock_gettime(CLOCK_MONOTONIC, &ts) != 0)
        die("clock_gettime");
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/** Nanoseconds an update; the records are visited in an order that no prefetcher guesses. */
static double run(const struct way *w, struct undo_slot *u, struct record *table, uint32_t count,
                  uint32_t updates)
{
    uint64_t x = 88172645463325252u; /* xorshift64 */
    uint64_t start = now_ns();

    for (uint32_t i = 0; i < updates; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        w->update(u, table, (uint32_t)(((x >> 32) * count) >> 32), i);
    }
    return (double)(now_ns() - start) / updates;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void *shared_memory(size_t bytes)
{
    int fd = memfd_create("conn_update", MFD_CLOEXEC);
    void *p;

    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
        die("memfd");
    p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (p == MAP_FAILED)
        die("mmap");
    close(fd);
    return p;
}

static void compare_all(struct undo_slot *u, struct record *table, unsigned runs, uint32_t updates)
{
    static double v[WAY_COUNT][TABLE_KINDS][RUNS_MAX];

    printf("ns per update of a %u-byte record, %u words changed in 4 lines (ratio to in-place)\n",
           RECORD_BYTES, (unsigned)CHANGED_WORDS);
    printf("  %-12s", "records:");
    for (unsigned t = 0; t < TABLE_KINDS; t++)
        printf(" %18u", table_sizes[t]);
    printf("\n");
    for (unsigned r = 0; r < runs; r++)
        for (unsigned w = 0; w < WAY_COUNT; w++)
            for (unsigned t = 0; t < TABLE_KINDS; t++)
                v[w][t][r] = run(&ways[w], u, table, table_sizes[t], updates);
    for (unsigned w = 0; w < WAY_COUNT; w++) {
        printf("  %-12s", ways[w].name);
        for (unsigned t = 0; t < TABLE_KINDS; t++) {
            qsort(v[w][t], runs, sizeof(double), compare_double);
            printf("      %6.1f (%.2f)", v[w][t][runs / 2], v[w][t][runs / 2] / v[0][t][runs / 2]);
        }
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"runs", required_argument, NULL, 'r'},
        {"updates", required_argument, NULL, 'u'},
        {"only", required_argument, NULL, 'o'},
        {NULL, 0, NULL, 0},
    };
    struct undo_slot *u = shared_memory(sizeof(*u));
    struct record *table = shared_memory(TABLE_MAX * sizeof(*table));
    const char *only = NULL;
    unsigned runs = 9;
    uint32_t updates = 1000000;
    int c;

    while ((c = getopt_long(argc, argv, "r:u:o:", options, NULL)) != -1) {
        if (c == 'r') {
            runs = (unsigned)strtoul(optarg, NULL, 10);
        } else if (c == 'u') {
            updates = (uint32_t)strtoul(optarg, NULL, 10);
        } else if (c == 'o') {
            only = optarg;
        } else {
            fprintf(stderr, "usage: conn_update [--runs N] [--updates N] [--only WAY]\n");
            return 2;
        }
    }
    if (runs < 1 || runs > RUNS_MAX || updates < 1) {
        fprintf(stderr, "conn_update: --runs must be 1..%u and --updates at least 1\n", RUNS_MAX);
        return 2;
    }
    if (!only) {
        compare_all(u, table, runs, updates);
        return 0;
    }
    for (unsigned w = 0; w < WAY_COUNT; w++) {
        if (strcmp(ways[w].name, only) == 0) {
            printf("%s: %.1f ns per update\n", only, run(&ways[w], u, table, 1000, updates));
            return 0;
        }
    }
    fprintf(stderr, "conn_update: no such way: %s\n", only);
    return 2;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proof of bench/undo.h: a child changes random records of a shared table in a loop until it is killed with
 * SIGKILL at a random moment; the parent, another process, then repairs the table from the slot and checks
 * that every record is whole. All words of a whole record hold the same number and the first of them never
 * goes back further than the one update that was under way.
 *
 *     undo_kill [--kills N] [--seed S] [--broken]
 *
 * --broken leaves the slot unused and succeeds when it finds torn records: the proof that the check can fail.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/undo.h"

#define RECORD_COUNT 256u
#define WORDS        (RECORD_BYTES / 8)
#define KILL_US_MAX  3000u

enum way { WAY_UNDO, WAY_UNDO_LINES, WAY_REDO, WAY_COUNT, WAY_BROKEN = WAY_COUNT };
static const char *const way_names[] = {"undo", "undo-lines", "redo", "broken"};

struct world {
    struct undo_slot undo;
    uint64_t committed[RECORD_COUNT]; /* written after the record was: an effect outside it */
    uint32_t running;                 /* the child has begun */
    struct record table[RECORD_COUNT];
};

/** A fresh world in a memfd, as arenas are. NULL with errno. */
static struct world *world_new(void)
{
    int fd = memfd_create("undo_kill", MFD_CLOEXEC);
    void *p = MAP_FAILED;

    if (fd < 0)
        return NULL;
    if (ftruncate(fd, sizeof(struct world)) == 0)
        p = mmap(NULL, sizeof(struct world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

static uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/** Raises every word of a record by one, slowly enough to be caught in the middle. */
static void raise_all(volatile uint64_t *word)
{
    for (unsigned i = 0; i < WORDS; i++)
        word[i] = word[i] + 1;
}

static void raise_lines(struct undo_slot *u, struct record *table, uint32_t index)
{
    volatile uint64_t *word = table[index].word;

    for (unsigned i = 0; i < WORDS; i++) {
        undo_line(u, table, i / 8);
        word[i] = word[i] + 1;
    }
}

static void child_main(struct world *w, enum way way, uint64_t seed)
{
    __atomic_store_n(&w->running, 1, __ATOMIC_RELEASE);
    for (;;) {
        uint32_t index = (uint32_t)(random_next(&seed) % RECORD_COUNT);

        switch (way) {
        case WAY_UNDO:
            undo_begin(&w->undo, w->table, index);
            raise_all(w->table[index].word);
            undo_commit(&w->undo);
            break;
        case WAY_UNDO_LINES:
            undo_begin_lines(&w->undo, index);
            raise_lines(&w->undo, w->table, index);
            undo_commit(&w->undo);
            break;
        case WAY_REDO:
            raise_all(redo_begin(&w->undo, w->table, index)->word);
            redo_commit(&w->undo, w->table, index);
            break;
        case WAY_BROKEN:
            raise_all(w->table[index].word);
            break;
        }
        *(volatile uint64_t *)&w->committed[index] = w->table[index].word[0];
    }
}

/** Returns torn records, or those whose effect outside is ahead of the record. */
static unsigned count_bad(const struct world *w)
{
    unsigned bad = 0;

    for (uint32_t i = 0; i < RECORD_COUNT; i++) {
        const uint64_t *word = w->table[i].word;
        bool whole = true;

        for (unsigned k = 1; k < WORDS; k++)
            whole = whole && word[k] == word[0];
        if (!whole || w->committed[i] > word[0] || word[0] - w->committed[i] > 1)
            bad++;
    }
    return bad;
}

/** Starts a child, kills it after a random time, repairs. Returns bad records, or -1 on a system error. */
static int kill_once(struct world *w, enum way way, uint64_t *seed, unsigned *repaired)
{
    struct timespec pause = {0, 0};
    uint64_t child_seed = random_next(seed) | 1;
    int status;
    pid_t pid;

    __atomic_store_n(&w->running, 0, __ATOMIC_RELEASE);
    pid = fork();
    if (pid == 0)
        child_main(w, way, child_seed);
    if (pid < 0)
        return -1;
    while (__atomic_load_n(&w->running, __ATOMIC_ACQUIRE) == 0)
        ;
    pause.tv_nsec = (long)(random_next(seed) % (KILL_US_MAX * 1000u));
    nanosleep(&pause, NULL);
    if (kill(pid, SIGKILL) != 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
        return -1;
    if (way != WAY_BROKEN && undo_recover(&w->undo, w->table, RECORD_COUNT) >= 0)
        (*repaired)++;
    int bad = (int)count_bad(w);
    for (uint32_t i = 0; i < RECORD_COUNT; i++) /* what recovery does with effects: say them again */
        w->committed[i] = w->table[i].word[0];
    return bad;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"kills", required_argument, NULL, 'k'},
        {"seed", required_argument, NULL, 's'},
        {"broken", no_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    uint64_t seed = (uint64_t)time(NULL) * 2654435761u + (uint64_t)getpid();
    unsigned kills = 300;
    bool broken = false;
    int c;

    while ((c = getopt_long(argc, argv, "k:s:b", options, NULL)) != -1) {
        if (c == 'k')
            kills = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 's')
            seed = strtoull(optarg, NULL, 10);
        else if (c == 'b')
            broken = true;
        else
            return 2;
    }
    seed |= 1;
    printf("undo_kill: seed %" PRIu64 ", %u kills a way\n", seed, kills);
    fflush(stdout);
    for (int way = broken ? WAY_BROKEN : 0; way < (broken ? WAY_BROKEN + 1 : WAY_COUNT); way++) {
        struct world *w = world_new();
        unsigned repaired = 0, bad = 0;

        if (!w) {
            perror("undo_kill: memfd");
            return 1;
        }
        for (unsigned i = 0; i < kills; i++) {
            int n = kill_once(w, (enum way)way, &seed, &repaired);

            if (n < 0) {
                perror("undo_kill");
                return 1;
            }
            bad += (unsigned)n;
        }
        printf("%-10s %u kills, %u caught in an update and repaired, %u bad records\n", way_names[way], kills,
               repaired, bad);
        fflush(stdout);
        munmap(w, sizeof(*w));
        if (broken ? bad == 0 : bad != 0 || repaired == 0)
            return 1;
    }
    return 0;
}

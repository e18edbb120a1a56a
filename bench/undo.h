/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways to change a record so that another process finds it whole after kill -9, as the benchmark
 * compares them and the kill test proves them. docs/connection-state.md says which one was taken.
 *
 * Record and slot lie in memory that outlives the process. SIGKILL falls between two instructions, and what
 * the killed process stored is in the page cache of the memfd: so the order of the stores in the program is
 * all that matters, and a compiler barrier keeps it. One slot serves one worker, which changes one record at
 * a time.
 */
#ifndef BENCH_UNDO_H
#define BENCH_UNDO_H

#include <stdint.h>
#include <string.h>

#define RECORD_BYTES 512u
#define LINE_BYTES   64u
#define RECORD_LINES (RECORD_BYTES / LINE_BYTES)

struct record {
    _Alignas(LINE_BYTES) uint64_t word[RECORD_BYTES / 8];
};

/** The copy of the one record that is being changed. */
struct undo_slot {
    _Alignas(LINE_BYTES) uint32_t owner; /* index of the record + 1; 0: nothing is being changed */
    uint32_t lines;                      /* bit per line of `copy` that holds what was there before */
    struct record copy;
};

#define UNDO_ORDER() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* ---- Undo, the whole record ------------------------------------------------------------------------- */

static inline void undo_begin(struct undo_slot *u, const struct record *table, uint32_t index)
{
    memcpy(&u->copy, &table[index], sizeof(u->copy));
    u->lines = (1u << RECORD_LINES) - 1;
    UNDO_ORDER(); /* the copy is whole before it counts */
    *(volatile uint32_t *)&u->owner = index + 1;
    UNDO_ORDER(); /* it counts before the record changes */
}

static inline void undo_commit(struct undo_slot *u)
{
    UNDO_ORDER(); /* the record is whole before the copy is void */
    *(volatile uint32_t *)&u->owner = 0;
    UNDO_ORDER(); /* effects outside come after */
}

/* ---- Undo, line by line ------------------------------------------------------------------------------- */

static inline void undo_begin_lines(struct undo_slot *u, uint32_t index)
{
    u->lines = 0;
    UNDO_ORDER();
    *(volatile uint32_t *)&u->owner = index + 1;
    UNDO_ORDER();
}

/** Before the first store to `line` of the record. */
static inline void undo_line(struct undo_slot *u, const struct record *table, unsigned line)
{
    const struct record *r = &table[u->owner - 1];

    if (u->lines & (1u << line))
        return;
    memcpy(&u->copy.word[line * 8], &r->word[line * 8], LINE_BYTES);
    UNDO_ORDER(); /* the line's copy is whole before it counts */
    *(volatile uint32_t *)&u->lines = u->lines | (1u << line);
    UNDO_ORDER(); /* it counts before the line changes */
}

/* ---- What the next process does --------------------------------------------------------------------------
 */

/**
 * Puts back what a kill interrupted. May itself be killed and repeated: the copy stays valid until the last
 * store. Returns the record's index, or -1 when none was being changed, or -2 for an impossible owner.
 */
static inline int64_t undo_recover(struct undo_slot *u, struct record *table, uint32_t count)
{
    uint32_t owner = u->owner;

    if (owner == 0)
        return -1;
    if (owner > count)
        return -2;
    for (unsigned line = 0; line < RECORD_LINES; line++)
        if (u->lines & (1u << line))
            memcpy(&table[owner - 1].word[line * 8], &u->copy.word[line * 8], LINE_BYTES);
    undo_commit(u);
    return owner - 1;
}

/* ---- Redo: change a copy, mark it, copy it back
 * -------------------------------------------------------------- */

static inline struct record *redo_begin(struct undo_slot *u, const struct record *table, uint32_t index)
{
    memcpy(&u->copy, &table[index], sizeof(u->copy));
    return &u->copy;
}

static inline void redo_commit(struct undo_slot *u, struct record *table, uint32_t index)
{
    u->lines = (1u << RECORD_LINES) - 1;
    UNDO_ORDER(); /* the new state is whole before it counts: from here on it is the truth */
    *(volatile uint32_t *)&u->owner = index + 1;
    UNDO_ORDER();
    memcpy(&table[index], &u->copy, sizeof(u->copy));
    undo_commit(u);
}

#endif

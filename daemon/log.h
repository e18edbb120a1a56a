/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: lines on stderr, with a level, limited for each place in the code that writes one.
 *
 * Where stderr is the journal (JOURNAL_STREAM names it) a line starts with the kernel's "<N>" level and the
 * journal adds the time; elsewhere the line starts with the wall-clock time and the level's word. Any thread
 * may log; a line is written with one write(). Writing may block, so the worker hands its lines to the
 * control thread instead (worker.h).
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers of syslog(3), so that "<N>" is the value itself. */
enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* A call site may write this many lines at once, and regains one each LOG_REFILL_US. */
#define LOG_BURST     10u
#define LOG_REFILL_US 1000000u

/* Bytes of one line; a longer one is cut and ends in "...". */
#define LOG_LINE_MAX  1024u

/** Rate limit of one call site; zeroed is ready to use. Changed under the log's own lock. */
struct log_site {
    uint64_t refill_us; /* when the last line was regained */
    uint32_t used;      /* lines of the burst that are spent */
    uint32_t held;      /* lines held back since the last one written */
};

/** Choose the form of the lines by JOURNAL_STREAM and the lowest level to write. Call once, before threads.
 */
void log_open(enum log_level level);

/** The level's word ("error", "warning", "info", "debug"), and back; -1 when there is no such word. */
const char *log_level_name(enum log_level level);
int log_level_parse(const char *word);

/** True when a line at this time (monotonic microseconds) may be written; counts those that may not. */
bool log_site_allow(struct log_site *site, uint64_t now_us);

/**
 * Build one line, newline included, into `buf`: what log_write() sends to stderr.
 * @param journal  true for "<N>text", false for "time level: text"
 * @return bytes of the line
 */
size_t log_format(char *buf, size_t bytes, bool journal, enum log_level level, int64_t wall_us,
                  const char *text);

/** Use the macros below, which bring the call site along. */
void log_write(enum log_level level, struct log_site *site, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define LOG_AT(level, ...)                                                                                   \
    do {                                                                                                     \
        static struct log_site log_site_here;                                                                \
        log_write((level), &log_site_here, __VA_ARGS__);                                                     \
    } while (0)

#define log_error(...)   LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) LOG_AT(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif

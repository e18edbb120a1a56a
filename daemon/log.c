/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/clock.h"

static enum log_level log_lowest = LOG_LEVEL_INFO;
static bool log_to_journal;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static const struct {
    enum log_level level;
    const char *word;
} level_words[] = {
    {LOG_LEVEL_ERROR, "error"},
    {LOG_LEVEL_WARNING, "warning"},
    {LOG_LEVEL_INFO, "info"},
    {LOG_LEVEL_DEBUG, "debug"},
};

#define LEVEL_COUNT (sizeof(level_words) / sizeof(level_words[0]))

const char *log_level_name(enum log_level level)
{
    for (size_t i = 0; i < LEVEL_COUNT; i++)
        if (level_words[i].level == level)
            return level_words[i].word;
    return "?";
}

int log_level_parse(const char *word)
{
    for (size_t i = 0; i < LEVEL_COUNT; i++)
        if (!strcmp(level_words[i].word, word))
            return (int)level_words[i].level;
    return -1;
}

/* systemd sets JOURNAL_STREAM to "device:inode" of the stream; a redirected stderr has another. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uint64_t dev, ino;
    struct stat st;

    return stream && sscanf(stream, "%" SCNu64 ":%" SCNu64, &dev, &ino) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_open(enum log_level level)
{
    log_lowest = level;
    log_to_journal = stderr_is_journal();
}

bool log_site_allow(struct log_site *site, uint64_t now_us)
{
    uint64_t regained = (now_us - site->refill_us) / LOG_REFILL_US;

    if (regained) {
        site->used = regained >= site->used ? 0 : site->used - (uint32_t)regained;
        site->refill_us = now_us;
    }
    if (site->used >= LOG_BURST) {
        site->held++;
        return false;
    }
    site->used++;
    return true;
}

size_t log_format(char *buf, size_t bytes, bool journal, enum log_level level, int64_t wall_us,
                  const char *text)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    char when[32] = "";
    struct tm tm;
    int n;

    if (journal) {
        n = snprintf(buf, bytes, "<%d>%s\n", (int)level, text);
    } else {
        if (localtime_r(&seconds, &tm))
            (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
        n = snprintf(buf, bytes, "%s.%03d %s: %s\n", when, (int)(wall_us / 1000 % 1000),
                     log_level_name(level), text);
    }
    if (n < 0)
        return 0;
    if ((size_t)n < bytes)
        return (size_t)n;
    if (bytes >= 5)
        memcpy(buf + bytes - 5, "...\n", 5);
    return bytes - 1;
}

/* Whatever an application put into a name must not forge a second line. */
static void one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

void log_write(enum log_level level, struct log_site *site, const char *format, ...)
{
    char text[LOG_LINE_MAX], line[LOG_LINE_MAX + 64], more[64];
    uint32_t held = 0;
    struct timespec ts;
    size_t n;
    va_list ap;

    if (level > log_lowest)
        return;
    (void)pthread_mutex_lock(&log_lock);
    if (!log_site_allow(site, clock_now_us())) {
        (void)pthread_mutex_unlock(&log_lock);
        return;
    }
    held = site->held;
    site->held = 0;
    (void)pthread_mutex_unlock(&log_lock);

    va_start(ap, format);
    (void)vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    one_line(text);
    if (held) {
        (void)snprintf(more, sizeof(more), " (%u more lines like this were held back)", held);
        n = strlen(text);
        if (n > sizeof(text) - sizeof(more))
            n = sizeof(text) - sizeof(more);
        memcpy(text + n, more, strlen(more) + 1);
    }
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    n = log_format(line, sizeof(line), log_to_journal, level,
                   (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000, text);
    /* A log that can't be written has nowhere to complain to. */
    if (write(STDERR_FILENO, line, n) < 0)
        return;
}

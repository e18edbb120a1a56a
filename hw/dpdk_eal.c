/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DPDK's environment, for a process that is a daemon first: no files that others see, no
 * telemetry socket, no threads but the one that waits for interrupts, nobody's CPU placement changed, and
 * every line of DPDK's in the daemon's log.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <dirent.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>

#include "hw/dpdk_int.h"

#define ARGS_MAX    64u
#define ARGS_BYTES  4096u
#define LINE_BYTES  512u
#define HUGE_DIR    "/sys/kernel/mm/hugepages"
#define KIB_PER_MIB 1024u

/** Arguments for rte_eal_init(), which keeps pointers to them and changes their order. */
struct eal_args {
    char *v[ARGS_MAX];
    unsigned count;
    char text[ARGS_BYTES];
    size_t used;
    bool overflow;
};

static struct {
    bool tried;
    int result;
    void (*log)(int priority, const char *line);
    char last[LINE_BYTES]; /* the line before */
    char line[LINE_BYTES]; /* what was written of the line under way; under the stream's lock */
    size_t line_bytes;
    pthread_key_t adopted; /* set in threads that must be given back */
} eal;

int dpdk_fail(const struct dpdk_error *e, int err, const char *fmt, ...)
{
    va_list args;
    int at = snprintf(e->buf, e->bytes, "dpdk:%s: ", e->devargs);

    if (at >= 0 && (size_t)at < e->bytes) {
        va_start(args, fmt);
        (void)vsnprintf(e->buf + at, e->bytes - (size_t)at, fmt, args);
        va_end(args);
    }
    return -err;
}

/* ---- Log ------------------------------------------------------------------------------------------- */

/* Drivers call errors what the daemon gets along with; what it does not get along with it says itself. */
static int priority_of(int level)
{
    return level > 0 && level <= (int)RTE_LOG_ERR ? LOG_WARNING : LOG_DEBUG;
}

/* What is tried again fails again: the same line is worth saying once. */
static void log_line(void)
{
    eal.line[eal.line_bytes] = '\0';
    if (eal.line_bytes)
        eal.log(strcmp(eal.line, eal.last) != 0 ? priority_of(rte_log_cur_msg_loglevel()) : LOG_DEBUG,
                eal.line);
    memcpy(eal.last, eal.line, eal.line_bytes + 1);
    eal.line_bytes = 0;
}

/** DPDK writes pieces of lines; a line that is too long is cut in two. */
static ssize_t log_take(void *unused, const char *buf, size_t bytes)
{
    (void)unused;
    for (size_t i = 0; i < bytes; i++) {
        if (buf[i] != '\n')
            eal.line[eal.line_bytes++] = buf[i] < ' ' ? ' ' : buf[i];
        if (buf[i] == '\n' || eal.line_bytes == LINE_BYTES - 1)
            log_line();
    }
    return (ssize_t)bytes;
}

static int open_log(void)
{
    const cookie_io_functions_t functions = {.write = log_take};
    FILE *stream = fopencookie(NULL, "w", functions);

    if (!stream)
        return -ENOMEM;
    (void)setvbuf(stream, NULL, _IOLBF, 0);
    return rte_openlog_stream(stream) ? -ENOMEM : 0;
}

/* ---- Arguments --------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void add_arg(struct eal_args *a, const char *fmt, ...)
{
    size_t room = sizeof(a->text) - a->used;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(a->text + a->used, room, fmt, args);
    va_end(args);
    if (a->count == ARGS_MAX || n < 0 || (size_t)n >= room) {
        a->overflow = true;
        return;
    }
    a->v[a->count++] = a->text + a->used;
    a->used += (size_t)n + 1;
}

/* DOMAIN:BUS:DEVICE.FUNCTION, or without the domain. */
bool dpdk_is_pci(const char *devargs)
{
    unsigned domain, bus, device, function;
    int end = 0;

    if (sscanf(devargs, "%x:%x:%x.%x%n", &domain, &bus, &device, &function, &end) != 4 &&
        sscanf(devargs, "%x:%x.%x%n", &bus, &device, &function, &end) != 3)
        return !strncmp(devargs, "pci:", 4);
    return devargs[end] == '\0' || devargs[end] == ',';
}

/*
 * Only what the settings name is touched. And where none is a PCI device, addresses are those of the process,
 * which needs neither huge pages nor a look at physical addresses; else the bus decides.
 */
static void add_devices(struct eal_args *a, const struct dpdk_settings *s)
{
    unsigned count = 0;

    for (unsigned i = 0; i < s->device_count; i++) {
        if (!dpdk_is_pci(s->devices[i]))
            continue;
        add_arg(a, "-a");
        add_arg(a, "%s", s->devices[i]);
        count++;
    }
    if (count)
        return;
    add_arg(a, "--no-pci");
    add_arg(a, "--iova-mode=va");
}

/* The main thread keeps the CPUs it has: one logical core that may run on any of them. */
static void add_cpus(struct eal_args *a, const cpu_set_t *cpus)
{
    char list[CPU_SETSIZE * 5];
    size_t at = 0;

    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, cpus))
            at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%u", at ? "," : "", cpu);
    add_arg(a, "--lcores=0@(%s)", list);
}

static uint64_t huge_free_in(const char *name)
{
    char path[sizeof(HUGE_DIR) + 300];
    unsigned long long kib, pages;
    FILE *f;
    int n;

    if (sscanf(name, "hugepages-%llukB", &kib) != 1)
        return 0;
    (void)snprintf(path, sizeof(path), "%s/%s/free_hugepages", HUGE_DIR, name);
    f = fopen(path, "re");
    if (!f)
        return 0;
    n = fscanf(f, "%llu", &pages);
    (void)fclose(f);
    return n == 1 ? pages * kib / KIB_PER_MIB : 0;
}

/** MiB of free huge pages, of all sizes. */
static uint64_t huge_free_mb(void)
{
    DIR *dir = opendir(HUGE_DIR);
    struct dirent *entry;
    uint64_t mb = 0;

    while (dir && (entry = readdir(dir)))
        mb += huge_free_in(entry->d_name);
    if (dir)
        (void)closedir(dir);
    return mb;
}

/* Memory without a file: two words for it, since the first works with huge pages only. */
static void add_memory(struct eal_args *a, const struct dpdk_settings *s)
{
    bool huge = s->huge == DPDK_HUGE_ALWAYS || (s->huge == DPDK_HUGE_AUTO && huge_free_mb() >= s->memory_mb);

    add_arg(a, "-m");
    add_arg(a, "%u", s->memory_mb);
    if (huge) {
        add_arg(a, "--in-memory");
    } else {
        add_arg(a, "--no-huge");
        add_arg(a, "--no-shconf");
    }
}

static void add_extra(struct eal_args *a, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, " ");

        if (n)
            add_arg(a, "%.*s", (int)n, text);
        text += n + strspn(text + n, " ");
    }
}

static int build_args(struct eal_args *a, const struct dpdk_settings *s, const cpu_set_t *cpus)
{
    add_arg(a, "sockgated");
    add_arg(a, "--no-telemetry");
    add_cpus(a, cpus);
    add_memory(a, s);
    add_devices(a, s);
    add_extra(a, s->eal);
    return a->overflow ? -E2BIG : 0;
}

/* ---- Start ------------------------------------------------------------------------------------------- */

static void thread_ends(void *unused)
{
    (void)unused;
    rte_thread_unregister();
}

/** The calling thread becomes DPDK's main one, and keeps its CPUs and its name. */
static int start(const struct dpdk_settings *s, const struct dpdk_error *e)
{
    static struct eal_args args;
    cpu_set_t cpus;
    int rc;

    eal.log = s->log;
    if (sched_getaffinity(0, sizeof(cpus), &cpus))
        return dpdk_fail(e, errno, "cannot read the CPU affinity: %s", strerror(errno));
    if (pthread_key_create(&eal.adopted, thread_ends) || open_log())
        return dpdk_fail(e, ENOMEM, "no memory");
    rc = build_args(&args, s, &cpus);
    if (rc)
        return dpdk_fail(e, -rc, "too many EAL arguments: shorten dpdk.eal");
    if (rte_eal_init((int)args.count, args.v) < 0)
        return dpdk_fail(e, rte_errno ? rte_errno : EINVAL,
                         "DPDK does not start (%s; the lines before this one say more): check dpdk.huge, "
                         "dpdk.memory_mb and dpdk.eal, and /proc/meminfo for free huge pages",
                         rte_strerror(rte_errno));
    return 0;
}

int dpdk_eal_start(const struct dpdk_settings *s, const struct dpdk_error *e)
{
    if (!eal.tried) {
        eal.tried = true;
        eal.result = start(s, e);
        return eal.result;
    }
    return eal.result ? dpdk_fail(e, -eal.result, "DPDK did not start before") : 0;
}

void dpdk_eal_adopt_thread(void)
{
    if (pthread_getspecific(eal.adopted))
        return; /* It was tried: there are more threads than DPDK has room for. */
    (void)pthread_setspecific(eal.adopted, &eal);
    (void)rte_thread_register();
}

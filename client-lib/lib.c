/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of an attachment: open, close, the daemon's end, and fork.
 *
 * fork. A child shares neither the segment (MADV_DONTFORK) nor may it hold the parent's descriptors: the
 * daemon takes the hang-up of the control socket for the end of the process, so a copy in a child would keep
 * a dead parent's session alive. Every attachment is therefore on a list that the fork handlers walk.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "client-lib/lib.h"

unsigned sc__fork_gen;

static pthread_mutex_t libs_lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, sc_lib) libs = LIST_HEAD_INITIALIZER(libs);
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void fork_prepare(void)
{
    pthread_mutex_lock(&libs_lock);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&libs_lock);
}

static void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void fork_child(void)
{
    struct sc_lib *lib;

    sc__fork_gen++;
    LIST_FOREACH(lib, &libs, all)
    {
        fd_close(&lib->ctl_fd);
        for (unsigned w = 0; w < SG_WORKERS_MAX; w++)
            fd_close(&lib->ch.rings[w].doorbell_fd);
        fd_close(&lib->epoll_fd);
        fd_close(&lib->ch.event_fd);
    }
    LIST_INIT(&libs);
    pthread_mutex_unlock(&libs_lock);
}

static void fork_register(void)
{
    (void)pthread_atfork(fork_prepare, fork_parent, fork_child); /* Out of memory: forks stay unnoticed. */
}

/* ---- The daemon's end ---------------------------------------------------------------------------- */

void sc__lib_die(struct sc_lib *lib)
{
    pthread_mutex_lock(&lib->ch.lock);
    __atomic_store_n(&lib->dead, 1, __ATOMIC_RELEASE);
    sc__channel_wake_all(&lib->ch);
    pthread_mutex_unlock(&lib->ch.lock);
}

void sc__lib_check_alive(struct sc_lib *lib, bool now)
{
    struct pollfd pfd = {.fd = lib->ctl_fd, .events = POLLRDHUP};
    struct timespec ts;
    uint64_t ms;

    if (sc__lib_dead(lib))
        return;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
    if (!now && ms - __atomic_load_n(&lib->alive_checked_ms, __ATOMIC_RELAXED) < ALIVE_CHECK_MS)
        return;
    __atomic_store_n(&lib->alive_checked_ms, ms, __ATOMIC_RELAXED);
    if (poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLHUP | POLLRDHUP | POLLERR)))
        sc__lib_die(lib);
}

/* ---- Open and close ------------------------------------------------------------------------------ */

static uint32_t spin_us(void)
{
    const char *text = getenv("SOCKGATE_SPIN_US");
    char *end;
    unsigned long us;

    if (!text || !text[0])
        return SPIN_US_DEFAULT;
    us = strtoul(text, &end, 10);
    return *end || us > SPIN_US_MAX ? SPIN_US_DEFAULT : (uint32_t)us;
}

static void locks_init(struct sc_lib *lib)
{
    pthread_mutexattr_t attr;

    pthread_mutex_init(&lib->handles_lock, NULL);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lib->cb_lock, &attr);
    pthread_mutexattr_destroy(&attr);
}

static void lib_free(struct sc_lib *lib)
{
    sc__detach(lib);
    sc__channel_fini(&lib->ch);
    pthread_mutex_destroy(&lib->handles_lock);
    pthread_mutex_destroy(&lib->cb_lock);
    pthread_key_delete(lib->seen_key);
    free(lib);
}

int sc_lib_open(const char *control_path, const char *profile, sc_lib **out)
{
    const sc_profile *p = sc_profile_find(profile);
    struct sc_lib *lib;
    int rc;

    if (!p || !out)
        return sc__attach_fail(-EINVAL, p ? "no place for the result" : "no such profile");
    pthread_once(&fork_once, fork_register);
    lib = calloc(1, sizeof(*lib));
    if (!lib)
        return sc__attach_fail(-ENOMEM, "out of memory");
    rc = -pthread_key_create(&lib->seen_key, NULL);
    if (rc) {
        free(lib);
        return sc__attach_fail(-ENOMEM, "no thread-specific key left in this process");
    }
    lib->fork_gen = sc__fork_gen;
    lib->ctl_fd = lib->epoll_fd = lib->ch.event_fd = -1;
    for (unsigned w = 0; w < SG_WORKERS_MAX; w++)
        lib->ch.rings[w].doorbell_fd = -1;
    lib->profile = p;
    lib->spin_us = spin_us();
    LIST_INIT(&lib->handles);
    locks_init(lib);
    rc = sc__attach(lib, control_path);
    if (rc) {
        lib_free(lib);
        return rc;
    }
    pthread_mutex_lock(&libs_lock);
    LIST_INSERT_HEAD(&libs, lib, all);
    pthread_mutex_unlock(&libs_lock);
    *out = lib;
    return 0;
}

/* Free all handles and sockets. The daemon closes its halves when the control socket hangs up. */
static void sockets_free(struct sc_lib *lib)
{
    struct channel *ch = &lib->ch;
    struct sc_sock *s;

    while ((s = LIST_FIRST(&lib->handles)))
        sc__handle_free(s);
    for (uint32_t i = 1; i < ch->slot_count; i++)
        if (ch->descs[i])
            sc__desc_unref(ch->descs[i]);
    while (!TAILQ_EMPTY(&ch->deferred)) {
        struct desc *d = TAILQ_FIRST(&ch->deferred);

        TAILQ_REMOVE(&ch->deferred, d, deferred);
        sc__desc_unref(d);
    }
}

void sc_lib_close(sc_lib *lib)
{
    if (!lib)
        return;
    if (!sc__lib_foreign(lib)) {
        pthread_mutex_lock(&libs_lock);
        LIST_REMOVE(lib, all);
        pthread_mutex_unlock(&libs_lock);
    }
    sockets_free(lib);
    lib_free(lib);
}

int sc_lib_set_profile(sc_lib *lib, const sc_profile *profile)
{
    if (!lib || !profile)
        return -EINVAL;
    __atomic_store_n(&lib->profile, profile, __ATOMIC_RELEASE);
    return 0;
}

const sc_profile *sc_lib_profile(const sc_lib *lib)
{
    return lib ? __atomic_load_n(&lib->profile, __ATOMIC_ACQUIRE) : NULL;
}

int sc_lib_address(const sc_lib *lib, sc_addr *out)
{
    if (!lib || !out)
        return -EINVAL;
    if (!lib->address.family)
        return -EADDRNOTAVAIL;
    *out = lib->address;
    return 0;
}

const char *sc_version(void)
{
    return SOCKGATE_VERSION;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the library share: an attachment to a fake daemon, sockets in a state, and the time.
 */
#ifndef TEST_CLIENT_TEST_H
#define TEST_CLIENT_TEST_H

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sockclient.h"
#include "tests/unit/client/fake_daemon.h"

/* How late a time-out may be on a busy machine; below SLEEP_SLICE_MS of the library, with which a lost
 * wake-up would show. An early one is always wrong. */
#define LATE_MS 400

struct env {
    struct fake *f;
    sc_lib *lib;
};

static inline struct env env_open_with(const struct fake_options *o, const char *profile)
{
    struct env e = {.f = fake_start(o)};

    cr_assert_eq(sc_lib_open(fake_path(e.f), profile, &e.lib), 0, "%s", sc_lib_open_error());
    return e;
}

static inline struct env env_open(const char *profile)
{
    return env_open_with(NULL, profile);
}

static inline void env_close(struct env *e)
{
    sc_lib_close(e->lib);
    fake_stop(e->f);
}

static inline sc_addr addr_of(uint16_t port)
{
    sc_addr a = {.family = SC_ADDR_INET, .len = 4, .port = port, .ip = {10, 0, 0, 9}};

    return a;
}

static inline sc_sock *stream_new(struct env *e)
{
    sc_sock *s = NULL;

    cr_assert_eq(sc_socket(e->lib, SC_INET, SC_STREAM, 0, &s), 0);
    return s;
}

static inline sc_sock *dgram_new(struct env *e)
{
    sc_sock *s = NULL;

    cr_assert_eq(sc_socket(e->lib, SC_INET, SC_DGRAM, 0, &s), 0);
    return s;
}

/* A stream connected to a PORT_* of the fake. */
static inline sc_sock *stream_to(struct env *e, uint16_t port)
{
    sc_addr a = addr_of(port);
    sc_sock *s = stream_new(e);

    cr_assert_eq(sc_connect(s, &a), 0);
    return s;
}

static inline sc_sock *listener_new(struct env *e)
{
    sc_addr a = {.family = SC_ADDR_INET, .len = 4, .port = 8001};
    sc_sock *s = stream_new(e);

    cr_assert_eq(sc_bind(s, &a), 0);
    cr_assert_eq(sc_listen(s, SC_BACKLOG_DEFAULT), 0);
    return s;
}

static inline int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline void push_text(struct env *e, sc_sock *s, const char *text)
{
    cr_assert_eq(fake_push(e->f, sc_fileno(s), text, strlen(text)), strlen(text));
}

/* Runs fn(arg) in a thread after ms milliseconds, so that another call is asleep by then. */
struct later {
    pthread_t thread;
    int64_t ms;
    void (*fn)(void *arg);
    void *arg;
};

static inline void *later_main(void *arg)
{
    struct later *l = arg;

    usleep((useconds_t)l->ms * 1000);
    l->fn(l->arg);
    return NULL;
}

static inline void later_start(struct later *l, int64_t ms, void (*fn)(void *arg), void *arg)
{
    *l = (struct later){.ms = ms, .fn = fn, .arg = arg};
    cr_assert_eq(pthread_create(&l->thread, NULL, later_main, l), 0);
}

static inline void later_join(struct later *l)
{
    pthread_join(l->thread, NULL);
}

/* Has the call between these taken `expected` ms, not less and not much more? */
#define cr_assert_took(start, expected)                                                                      \
    do {                                                                                                     \
        int64_t took_ms = now_ms() - (start);                                                                \
        cr_assert(took_ms >= (expected)-1 && took_ms <= (expected) + LATE_MS, "took %lld ms, expected %lld", \
                  (long long)took_ms, (long long)(expected));                                                \
    } while (0)

#endif

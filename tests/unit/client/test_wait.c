/* SPDX-License-Identifier: Apache-2.0 */
/* Readiness, waiting, the event descriptor, callbacks, threads, signals, and the daemon's end. */
#include <poll.h>
#include <semaphore.h>
#include <signal.h>

#include "tests/unit/client/client_test.h"

#define BOTH (SC_POLLIN | SC_POLLOUT)

/* ---- Poll bits ----------------------------------------------------------------------------------- */

Test(wait, poll_bits_in_every_state)
{
    struct env e = env_open("openmv");
    sc_addr silent = addr_of(PORT_SILENT);
    sc_sock *s = stream_new(&e), *l = listener_new(&e);
    char c;

    cr_assert_eq(sc_poll_events(s, BOTH), 20, "new");
    sc_setblocking(s, 0);
    cr_assert_eq(sc_connect(s, &silent), -EINPROGRESS);
    cr_assert_eq(sc_poll_events(s, BOTH), 0, "connecting");
    fake_establish(e.f, sc_fileno(s));
    cr_assert_eq(sc_poll_events(s, BOTH), 4, "connected");
    cr_assert_eq(sc_poll_events(s, SC_POLLIN), 0);
    push_text(&e, s, "x");
    cr_assert_eq(sc_poll_events(s, BOTH), 5, "data");
    cr_assert_eq(sc_recv(s, &c, 1, 0), 1);
    fake_fin(e.f, sc_fileno(s));
    cr_assert_eq(sc_poll_events(s, BOTH), 5, "the peer's FIN");
    cr_assert_eq(sc_shutdown(s, SC_SHUT_WR), 0);
    cr_assert_eq(sc_poll_events(s, BOTH), 21, "both directions closed");
    cr_assert_eq(sc_poll_events(l, BOTH), 0, "idle listener");
    fake_incoming(e.f, sc_fileno(l), PORT_SCRIPT);
    cr_assert_eq(sc_poll_events(l, BOTH), 1, "listener with a connection");
    s = stream_to(&e, PORT_SCRIPT);
    push_text(&e, s, "x");
    fake_error(e.f, sc_fileno(s), ECONNRESET);
    cr_assert_eq(sc_poll_events(s, BOTH), 29, "reset, not reported");
    cr_assert_eq(sc_poll_events(s, SC_POLLIN), 25);
    cr_assert_eq(sc_recv(s, &c, 1, 0), 1);
    cr_assert_eq(sc_poll_events(s, BOTH), 29);
    cr_assert_eq(sc_recv(s, &c, 1, 0), -ECONNRESET);
    cr_assert_eq(sc_poll_events(s, SC_POLLIN), 17, "reset, reported");
    cr_assert_eq(sc_poll_events(s, BOTH), 17);
    sc_close(s);
    cr_assert_eq(sc_poll_events(s, BOTH), 32, "closed");
    cr_assert_eq(sc_poll_events(NULL, BOTH), 32);
    env_close(&e);
}

Test(wait, a_dead_connection_polls_as_writable_in_posix)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char c;

    fake_error(e.f, sc_fileno(s), ECONNRESET);
    cr_assert_eq(sc_recv(s, &c, 1, 0), -ECONNRESET);
    cr_assert_eq(sc_poll_events(s, BOTH), 21);
    env_close(&e);
}

Test(wait, datagram_sockets_poll_as_writable)
{
    struct env e = env_open("posix");
    sc_sock *s = dgram_new(&e);

    cr_assert_eq(sc_poll_events(s, BOTH), 4);
    fake_dgram(e.f, sc_fileno(s), 99, "abc", 3);
    cr_assert_eq(sc_poll_events(s, BOTH), 5);
    env_close(&e);
}

Test(wait, a_full_send_ring_polls_as_writable_from_a_third_of_room)
{
    static uint8_t big[16384];
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct fake_seen seen;

    cr_assert_eq(sc_send(s, big, sizeof(big), 0), sizeof(big));
    cr_assert_eq(sc_poll_events(s, BOTH), 0);
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.want, 1, "asking arms the socket");
    fake_consume(e.f, sc_fileno(s), NULL, 100);
    cr_assert_eq(sc_poll_events(s, BOTH), 0);
    fake_consume(e.f, sc_fileno(s), NULL, 6000);
    cr_assert_eq(sc_poll_events(s, BOTH), 4);
    env_close(&e);
}

/* ---- sc_poll, sc_wait ---------------------------------------------------------------------------- */

struct two {
    struct env *e;
    sc_sock *a, *b;
};

static void push_b(void *arg)
{
    struct two *t = arg;

    push_text(t->e, t->b, "x");
}

Test(wait, poll_wakes_for_the_one_that_is_ready)
{
    struct env e = env_open("posix");
    struct two t = {&e, stream_to(&e, PORT_SCRIPT), stream_to(&e, PORT_SCRIPT)};
    sc_pollfd set[3] = {{t.a, SC_POLLIN, 9}, {NULL, SC_POLLIN, 9}, {t.b, SC_POLLIN, 9}};
    int64_t start = now_ms();
    struct later l;

    cr_assert_eq(sc_poll(set, 3, 0), 0);
    cr_assert_eq(sc_poll(set, 3, 40), 0);
    cr_assert_took(start, 40);
    later_start(&l, 30, push_b, &t);
    start = now_ms();
    cr_assert_eq(sc_poll(set, 3, -1), 1);
    cr_assert_took(start, 30);
    cr_assert_eq(set[0].got, 0);
    cr_assert_eq(set[1].got, 0);
    cr_assert_eq(set[2].got, SC_POLLIN);
    later_join(&l);
    cr_assert_eq(sc_poll(NULL, 1, 0), -EINVAL);
    cr_assert_eq(sc_poll(NULL, 0, -1), -EINVAL, "would wait for ever for nothing");
    env_close(&e);
}

static void consume_all(void *arg)
{
    struct two *t = arg;

    fake_consume(t->e->f, sc_fileno(t->a), NULL, 100000);
}

Test(wait, poll_wakes_for_room)
{
    static uint8_t big[16384];
    struct env e = env_open("posix");
    struct two t = {&e, stream_to(&e, PORT_SCRIPT), NULL};
    sc_pollfd set[1] = {{t.a, SC_POLLOUT, 0}};
    struct later l;

    cr_assert_eq(sc_send(t.a, big, sizeof(big), 0), sizeof(big));
    later_start(&l, 30, consume_all, &t);
    cr_assert_eq(sc_poll(set, 1, 2000), 1);
    cr_assert_eq(set[0].got, SC_POLLOUT);
    later_join(&l);
    env_close(&e);
}

Test(wait, wait_returns_for_what_came_after_the_last_look)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    int64_t start;

    while (sc_wait(e.lib, 0) == 1)
        ;
    start = now_ms();
    cr_assert_eq(sc_wait(e.lib, 30), 0);
    cr_assert_took(start, 30);
    cr_assert_eq(sc_poll_events(s, SC_POLLIN), 0);
    push_text(&e, s, "x");
    start = now_ms();
    cr_assert_eq(sc_wait(e.lib, 1000), 1, "came before the wait, after the look");
    cr_assert_lt(now_ms() - start, 500);
    /* Another call may take the event from the ring: it counts all the same. */
    push_text(&e, s, "y");
    cr_assert_eq(sc_setsockopt(s, 1, SC_SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    cr_assert_eq(sc_wait(e.lib, 1000), 1);
    cr_assert_eq(sc_wait(e.lib, 0), 0);
    env_close(&e);
}

struct looker {
    sc_lib *lib;
    sem_t looked, consumed;
};

static void *look_thread(void *arg)
{
    struct looker *t = arg;

    while (sc_wait(t->lib, 0) == 1)
        ;
    sem_post(&t->looked);
    sem_wait(&t->consumed); /* The main thread consumes the change meanwhile. */
    return (void *)(intptr_t)sc_wait(t->lib, 0);
}

Test(wait, one_threads_look_does_not_take_the_change_from_another)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct looker t = {.lib = e.lib};
    pthread_t thread;
    void *rc;

    sem_init(&t.looked, 0, 0);
    sem_init(&t.consumed, 0, 0);
    cr_assert_eq(pthread_create(&thread, NULL, look_thread, &t), 0);
    sem_wait(&t.looked);
    push_text(&e, s, "x");
    cr_assert_eq(sc_wait(e.lib, 1000), 1);
    sem_post(&t.consumed);
    pthread_join(thread, &rc);
    cr_assert_eq((intptr_t)rc, 1);
    sem_destroy(&t.looked);
    sem_destroy(&t.consumed);
    env_close(&e);
}

/* ---- The descriptor ------------------------------------------------------------------------------ */

static int fd_readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, timeout_ms);
}

Test(wait, the_descriptor_is_readable_when_something_changed)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    int fd = sc_event_fd(e.lib);
    char c;

    cr_assert_geq(fd, 0);
    cr_assert_eq(sc_event_fd(e.lib), fd);
    while (sc_wait(e.lib, 0) == 1 || fd_readable(fd, 0))
        ;
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(fd_readable(fd, i < 3 ? 20 : 0), 0, "round %d", i);
        push_text(&e, s, "x");
        cr_assert_eq(fd_readable(fd, 1000), 1, "round %d", i);
        cr_assert_eq(sc_wait(e.lib, 0), 1, "round %d", i);
        cr_assert_eq(sc_recv(s, &c, 1, SC_MSG_DONTWAIT), 1);
    }
    env_close(&e);
}

Test(wait, the_descriptor_tells_of_events_that_another_call_drained)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT), *other = stream_to(&e, PORT_ECHO);
    int fd = sc_event_fd(e.lib);
    char c;

    while (sc_wait(e.lib, 0) == 1 || fd_readable(fd, 0))
        ;
    push_text(&e, s, "x");
    cr_assert_eq(sc_send(other, "y", 1, 0), 1);
    cr_assert_eq(sc_recv(other, &c, 1, 0), 1, "a blocking call drains all events");
    cr_assert_eq(fd_readable(fd, 1000), 1);
    cr_assert_eq(sc_wait(e.lib, 0), 1);
    env_close(&e);
}

Test(wait, the_descriptor_tells_of_the_daemons_end)
{
    struct env e = env_open("posix");
    int fd = sc_event_fd(e.lib);

    while (sc_wait(e.lib, 0) == 1 || fd_readable(fd, 0))
        ;
    fake_die(e.f);
    cr_assert_eq(fd_readable(fd, 1000), 1);
    cr_assert_eq(sc_wait(e.lib, 0), -ENETDOWN);
    env_close(&e);
}

/* ---- Callbacks ----------------------------------------------------------------------------------- */

struct calls {
    int count;
    bool close;
    char last;
};

static void count_call(sc_sock *s, void *arg)
{
    struct calls *c = arg;

    c->count++;
    (void)!sc_recv(s, &c->last, 1, SC_MSG_DONTWAIT);
    if (c->close)
        sc_close(s);
}

Test(wait, a_callback_runs_inside_a_wait_and_may_read_and_close)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct calls c = {0};

    cr_assert_eq(sc_on_event(s, count_call, &c), 0);
    push_text(&e, s, "a");
    while (!c.count)
        cr_assert_geq(sc_wait(e.lib, 100), 0);
    cr_assert_eq(c.last, 'a');
    c.close = true;
    push_text(&e, s, "b");
    while (c.count < 2)
        cr_assert_geq(sc_wait(e.lib, 100), 0);
    cr_assert_eq(c.last, 'b');
    cr_assert_eq(sc_fileno(s), -1);
    sc_release(s);
    cr_assert_geq(sc_wait(e.lib, 10), 0);
    env_close(&e);
}

/* ---- Threads
 * ------------------------------------------------------------------------------------------------ */

#define THREADS 6
#define ROUNDS  150

struct worker {
    struct env *e;
    sc_sock *s;
    unsigned seed;
};

static void *echo_rounds(void *arg)
{
    struct worker *w = arg;
    uint8_t out[600], in[600];
    size_t got;

    for (int i = 0; i < ROUNDS; i++) {
        size_t n = (size_t)rand_r(&w->seed) % sizeof(out) + 1;

        memset(out, i, n);
        cr_assert_eq(sc_sendall(w->s, out, n, 0, NULL), 0);
        cr_assert_eq(sc_recv_full(w->s, in, n, 0, &got), 0);
        cr_assert_eq(got, n);
        cr_assert_arr_eq(in, out, n);
    }
    return NULL;
}

static void *open_and_close(void *arg)
{
    struct worker *w = arg;

    for (int i = 0; i < ROUNDS; i++) {
        sc_addr a = addr_of(PORT_ECHO);
        sc_sock *s;
        char c;

        cr_assert_eq(sc_socket(w->e->lib, SC_INET, SC_STREAM, 0, &s), 0);
        cr_assert_eq(sc_connect(s, &a), 0);
        cr_assert_eq(sc_send(s, "x", 1, 0), 1);
        cr_assert_eq(sc_recv(s, &c, 1, 0), 1);
        sc_release(s);
    }
    return NULL;
}

Test(wait, threads_with_their_own_sockets_wake_each_other)
{
    struct fake_options o = {.ring_entries = 8};
    struct env e = env_open_with(&o, "posix");
    pthread_t threads[THREADS];
    struct worker w[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){&e, stream_to(&e, PORT_ECHO), i};
        cr_assert_eq(pthread_create(&threads[i], NULL, i % 3 == 2 ? open_and_close : echo_rounds, &w[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    env_close(&e);
}

static void *take_bytes(void *arg)
{
    struct worker *w = arg;
    size_t sum = 0;
    char buf[50];
    ssize_t n;

    while ((n = sc_recv(w->s, buf, sizeof(buf), 0)) > 0)
        sum += (size_t)n;
    cr_assert_eq(n, 0);
    return (void *)sum;
}

Test(wait, threads_that_read_one_socket_share_its_bytes)
{
    struct env e = env_open("posix");
    struct worker w = {&e, stream_to(&e, PORT_SCRIPT), 0};
    pthread_t threads[THREADS];
    size_t sum = 0;

    for (unsigned i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, take_bytes, &w), 0);
    for (int i = 0; i < 1000; i++) {
        push_text(&e, w.s, "0123456789");
        if (i % 50 == 0)
            usleep(1000);
    }
    fake_fin(e.f, sc_fileno(w.s));
    for (unsigned i = 0; i < THREADS; i++) {
        void *n;

        pthread_join(threads[i], &n);
        sum += (size_t)n;
    }
    cr_assert_eq(sum, 10000);
    env_close(&e);
}

Test(wait, a_followers_time_out_is_its_own)
{
    struct env e = env_open("posix");
    sc_sock *a = stream_to(&e, PORT_SCRIPT), *b = stream_to(&e, PORT_SCRIPT);
    struct worker w = {&e, a, 0};
    pthread_t thread;
    int64_t start;
    void *n;
    char c;

    cr_assert_eq(pthread_create(&thread, NULL, take_bytes, &w), 0);
    usleep(20000); /* It leads now, and sleeps. */
    sc_settimeout_ms(b, 50);
    start = now_ms();
    cr_assert_eq(sc_recv(b, &c, 1, 0), -ETIMEDOUT);
    cr_assert_took(start, 50);
    fake_fin(e.f, sc_fileno(a));
    pthread_join(thread, &n);
    env_close(&e);
}

struct timed {
    sc_sock *s;
    int64_t ms;
};

static void *recv_timed(void *arg)
{
    struct timed *t = arg;
    int64_t start = now_ms();
    char c;

    sc_settimeout_ms(t->s, t->ms);
    cr_assert_eq(sc_recv(t->s, &c, 1, 0), -ETIMEDOUT);
    cr_assert_took(start, t->ms);
    return NULL;
}

Test(wait, a_leader_that_leaves_makes_a_follower_lead)
{
    struct env e = env_open("posix");
    sc_sock *a = stream_to(&e, PORT_SCRIPT), *b = stream_to(&e, PORT_SCRIPT);
    struct timed t = {a, 30};
    struct two p = {&e, NULL, b};
    pthread_t thread;
    struct later l;
    int64_t start;
    char c;

    cr_assert_eq(pthread_create(&thread, NULL, recv_timed, &t), 0);
    usleep(10000);
    later_start(&l, 60, push_b, &p);
    start = now_ms();
    cr_assert_eq(sc_recv(b, &c, 1, 0), 1);
    cr_assert_took(start, 60);
    pthread_join(thread, NULL);
    later_join(&l);
    env_close(&e);
}

/* ---- Signals
 * ------------------------------------------------------------------------------------------------ */

static void on_signal(int number)
{
    (void)number;
}

static void signal_main(void *arg)
{
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
}

Test(wait, a_signal_handler_ends_a_blocking_call)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct sigaction sa = {.sa_handler = on_signal};
    pthread_t self = pthread_self();
    struct later l;
    size_t got;
    char buf[4];

    cr_assert_eq(sigaction(SIGUSR1, &sa, NULL), 0);
    push_text(&e, s, "ab");
    later_start(&l, 30, signal_main, &self);
    cr_assert_eq(sc_recv_full(s, buf, 4, 0, &got), -EINTR);
    cr_assert_eq(got, 2);
    later_join(&l);
    env_close(&e);
}

/* ---- The daemon's end
 * ----------------------------------------------------------------------------------------- */

static void die_now(void *arg)
{
    fake_die(arg);
}

Test(wait, blocked_calls_end_within_a_second_of_the_daemon)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT), *l = listener_new(&e), *c;
    sc_addr a = addr_of(PORT_ECHO);
    sc_pollfd set = {s, SC_POLLIN, 0};
    struct later later;
    int64_t start = now_ms();
    size_t n = 0;
    char buf[8];

    push_text(&e, s, "abc");
    later_start(&later, 50, die_now, e.f);
    cr_assert_eq(sc_recv_full(s, buf, 8, 0, &n), -ENETDOWN);
    cr_assert_eq(n, 3, "what had arrived is read first");
    cr_assert_leq(now_ms() - start, 1050);
    later_join(&later);
    cr_assert_eq(sc_send(s, "x", 1, 0), -ENETDOWN);
    cr_assert_eq(sc_accept(l, &c, NULL), -ENETDOWN);
    cr_assert_eq(sc_socket(e.lib, SC_INET, SC_STREAM, 0, &c), -ENETDOWN);
    cr_assert_eq(sc_connect(s, &a), -EISCONN);
    cr_assert_eq(sc_poll(&set, 1, -1), 1);
    cr_assert_eq(set.got, SC_POLLERR | SC_POLLHUP);
    cr_assert_eq(sc_wait(e.lib, -1), -ENETDOWN);
    cr_assert_eq(sc_close(s), 0);
    env_close(&e);
}

Test(wait, a_program_that_never_blocks_notices_too)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    int64_t start = now_ms();
    ssize_t rc;
    char c;

    fake_die(e.f);
    do
        rc = sc_recv(s, &c, 1, SC_MSG_DONTWAIT);
    while (rc == -EAGAIN && now_ms() - start < 2000);
    cr_assert_eq(rc, -ENETDOWN);
    cr_assert_leq(now_ms() - start, 1000);
    env_close(&e);
}

Test(wait, a_command_under_way_ends_with_the_daemon)
{
    struct fake_options o = {.command_delay_us = 100000};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s = stream_new(&e), *t;
    struct later later;

    later_start(&later, 20, die_now, e.f);
    (void)s;
    for (int i = 0; i < 50; i++) {
        int rc = sc_socket(e.lib, SC_INET, SC_STREAM, 0, &t);

        if (rc == -ENETDOWN)
            break;
        cr_assert_eq(rc, 0);
        cr_assert_lt(i, 49);
    }
    later_join(&later);
    env_close(&e);
}

Test(wait, spurious_events_are_harmless)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char c;

    sc_settimeout_ms(s, 30);
    for (int i = 0; i < 10; i++)
        fake_nudge(e.f, sc_fileno(s));
    cr_assert_eq(sc_recv(s, &c, 1, 0), -ETIMEDOUT);
    env_close(&e);
}

Test(wait, more_ready_sockets_than_the_event_ring_holds)
{
    struct fake_options o = {.slots = 50, .ring_entries = 4, .region_log2 = 12};
    struct env e = env_open_with(&o, "posix");
    sc_pollfd set[40];
    unsigned ready = 0;
    char c;

    for (unsigned i = 0; i < 40; i++)
        set[i] = (sc_pollfd){stream_to(&e, PORT_SCRIPT), SC_POLLIN, 0};
    for (unsigned i = 0; i < 40; i++)
        push_text(&e, set[i].s, "x");
    while (ready < 40) {
        int n = sc_poll(set, 40, 2000);

        cr_assert_gt(n, 0);
        for (unsigned i = 0; i < 40; i++)
            if (set[i].got)
                ready += sc_recv(set[i].s, &c, 1, 0) == 1;
    }
    env_close(&e);
}

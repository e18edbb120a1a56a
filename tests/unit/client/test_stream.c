/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving and sending on streams: short, filling, no-short, time-outs, ends and resets. */
#include "tests/unit/client/client_test.h"

#define POSIX_DONTWAIT 64

/* Bytes whose value depends on their offset, so that a byte out of place shows. */
static void pattern_fill(uint8_t *buf, size_t n, size_t offset)
{
    for (size_t i = 0; i < n; i++)
        buf[i] = (uint8_t)((offset + i) * 31 + ((offset + i) >> 8) * 7);
}

Test(stream, echo_comes_back)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_ECHO);
    char buf[16];

    cr_assert_eq(sc_send(s, "hello", 5, 0), 5);
    cr_assert_eq(sc_recv(s, buf, sizeof(buf), 0), 5);
    cr_assert_arr_eq(buf, "hello", 5);
    env_close(&e);
}

Test(stream, bytes_survive_many_wraps_of_both_rings)
{
    struct fake_options o = {.region_log2 = 12};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s = stream_to(&e, PORT_ECHO);
    unsigned seed = (unsigned)time(NULL);
    uint8_t out[5000], in[5000], want[5000];
    size_t sent = 0, got = 0;

    fprintf(stderr, "seed %u\n", seed);
    srandom(seed);
    sc_setblocking(s, 0);
    while (got < 400000) {
        size_t n = (size_t)random() % sizeof(out) + 1;
        ssize_t rc;

        pattern_fill(out, n, sent);
        rc = sc_send(s, out, n, 0);
        cr_assert(rc > 0 || rc == -EAGAIN);
        sent += rc > 0 ? (size_t)rc : 0;
        rc = sc_recv(s, in, (size_t)random() % sizeof(in) + 1, 0);
        cr_assert(rc > 0 || rc == -EAGAIN);
        if (rc > 0) {
            pattern_fill(want, (size_t)rc, got);
            cr_assert_arr_eq(in, want, (size_t)rc, "seed %u at %zu", seed, got);
            got += (size_t)rc;
        }
    }
    cr_assert_leq(got, sent);
    env_close(&e);
}

/* Every few bytes to another region and back, both ways, with random sizes. */
Test(stream, bytes_survive_rings_that_change_their_regions)
{
    struct fake_options o = {.region_log2 = 12};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s = stream_to(&e, PORT_ECHO);
    unsigned seed = (unsigned)time(NULL);
    uint8_t out[5000], in[5000], want[5000];
    size_t sent = 0, got = 0;
    bool peek;

    fprintf(stderr, "seed %u\n", seed);
    srandom(seed);
    sc_setblocking(s, 0);
    fake_switch(e.f, sc_fileno(s), true);
    while (got < 1000000) {
        size_t n = (size_t)random() % sizeof(out) + 1;
        ssize_t rc;

        pattern_fill(out, n, sent);
        rc = sc_send(s, out, n, 0);
        cr_assert(rc > 0 || rc == -EAGAIN, "seed %u: %zd", seed, rc);
        sent += rc > 0 ? (size_t)rc : 0;
        peek = random() % 4 == 0; /* What was only looked at comes again. */
        rc = sc_recv(s, in, (size_t)random() % sizeof(in) + 1, peek ? SC_MSG_PEEK : 0);
        cr_assert(rc > 0 || rc == -EAGAIN, "seed %u: %zd", seed, rc);
        if (rc > 0) {
            pattern_fill(want, (size_t)rc, got);
            cr_assert_arr_eq(in, want, (size_t)rc, "seed %u at %zu", seed, got);
            got += peek ? 0 : (size_t)rc;
        }
    }
    env_close(&e);
}

Test(stream, a_larger_send_region_on_offer_lets_a_full_sender_go_on)
{
    struct fake_options o = {.region_log2 = 12};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    static uint8_t out[16384], in[16384];

    pattern_fill(out, sizeof(out), 0);
    sc_setblocking(s, 0);
    cr_assert_eq(sc_send(s, out, sizeof(out), 0), 4096);
    cr_assert_eq(sc_send(s, out, 1, 0), -EAGAIN);
    cr_assert_eq(sc_poll_events(s, SC_POLLOUT) & SC_POLLOUT, 0);
    fake_switch(e.f, sc_fileno(s), false);
    cr_assert_eq(sc_poll_events(s, SC_POLLOUT) & SC_POLLOUT, SC_POLLOUT);
    cr_assert_eq(sc_send(s, out + 4096, sizeof(out), 0), 8192);
    cr_assert_eq(sc_send(s, out, 1, 0), -EAGAIN);
    cr_assert_eq(fake_consume(e.f, sc_fileno(s), in, sizeof(in)), 4096 + 8192);
    cr_assert_arr_eq(in, out, 4096 + 8192);
    env_close(&e);
}

Test(stream, an_offer_that_was_never_taken_goes_with_the_region)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_ECHO);
    struct fake_seen seen = {0};
    char c = 0;

    fake_switch(e.f, sc_fileno(s), false);
    fake_release(e.f, sc_fileno(s));
    for (int i = 0; i < 100 && !seen.releases; i++) {
        cr_assert_geq(sc_wait(e.lib, 10), 0);
        fake_seen(e.f, sc_fileno(s), &seen);
    }
    cr_assert_eq(seen.tx_region, 0);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(sc_send(s, "x", 1, 0), 1);
        cr_assert_eq(sc_recv(s, &c, 1, 0), 1);
        cr_assert_eq(c, 'x');
        fake_switch(e.f, sc_fileno(s), false);
    }
    env_close(&e);
}

/* ---- Threads that share a sender ----------------------------------------------------------------------- */

struct sender {
    sc_sock *s;
    ssize_t rc;
};

static void send_one(void *arg)
{
    struct sender *t = arg;

    t->rc = sc_send(t->s, "a", 1, 0);
}

static void seen_until(struct env *e, sc_sock *s, bool (*there)(const struct fake_seen *))
{
    struct fake_seen seen = {0};

    for (int i = 0; i < 5000 && !there(&seen); i++) {
        usleep(1000);
        fake_seen(e->f, sc_fileno(s), &seen);
    }
    cr_assert(there(&seen));
}

static bool seen_want(const struct fake_seen *seen)
{
    return seen->want;
}

static bool seen_release(const struct fake_seen *seen)
{
    return seen->releases;
}

/* One bit says that the socket waits for room. A thread that finds a little room takes the bit away, and the
 * daemon tells nobody any more: so the other must be told by the first. */
Test(stream, a_sender_that_finds_room_wakes_those_that_wait_for_some)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct sender waits = {.s = s};
    static uint8_t out[1 << 15];
    struct later l;

    cr_assert_eq(sc_send(s, out, sizeof(out), SC_MSG_DONTWAIT), 1 << 14);
    sc_settimeout_ms(s, 10000);
    later_start(&l, 0, send_one, &waits);
    seen_until(&e, s, seen_want);
    cr_assert_eq(fake_consume(e.f, sc_fileno(s), NULL, 100), 100, "less than the daemon tells of");
    cr_assert_eq(sc_send(s, "b", 1, SC_MSG_DONTWAIT), 1);
    later_join(&l);
    cr_assert_eq(waits.rc, 1, "%zd", waits.rc);
    env_close(&e);
}

/* While one thread asks for a send region the others keep off it, and no event will tell them that it
 * came. */
Test(stream, a_sender_that_got_a_region_wakes_those_that_came_meanwhile)
{
    struct fake_options o = {.command_delay_us = 400000};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct sender first = {.s = s}, second = {.s = s};
    struct later l[2];

    fake_release(e.f, sc_fileno(s));
    cr_assert_geq(sc_wait(e.lib, 1000), 0);
    seen_until(&e, s, seen_release);
    sc_settimeout_ms(s, 10000);
    later_start(&l[0], 0, send_one, &first);
    later_start(&l[1], 100, send_one, &second);
    later_join(&l[0]);
    later_join(&l[1]);
    cr_assert_eq(first.rc, 1, "%zd", first.rc);
    cr_assert_eq(second.rc, 1, "%zd", second.rc);
    env_close(&e);
}

/* The same while a thread gives the region back. */
Test(stream, who_gives_a_region_back_wakes_those_that_came_meanwhile)
{
    struct fake_options o = {.command_delay_us = 400000};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct sender t = {.s = s};
    struct later l;

    sc_settimeout_ms(s, 10000);
    later_start(&l, 100, send_one, &t);
    fake_release(e.f, sc_fileno(s));
    cr_assert_geq(sc_wait(e.lib, 1000), 0);
    later_join(&l);
    cr_assert_eq(t.rc, 1, "%zd", t.rc);
    env_close(&e);
}

Test(stream, an_empty_send_ring_starts_again_at_its_first_line)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_ECHO);
    struct fake_seen seen;
    char buf[100] = "";
    size_t got;

    for (int i = 0; i < 10; i++) {
        cr_assert_eq(sc_send(s, buf, sizeof(buf), 0), sizeof(buf));
        cr_assert_eq(sc_recv_full(s, buf, sizeof(buf), 0, &got), 0);
        fake_settle(e.f); /* The echo is back before the fake has said that it took the bytes. */
    }
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.tx_tail, 1000);
    cr_assert_eq(seen.tx_base, 900);
    env_close(&e);
}

Test(stream, recv_is_short_where_the_profile_does_not_fill)
{
    static const char *const profiles[] = {"posix", "uiflow2", "mpython", "usocket", "openmv"};

    for (unsigned i = 0; i < 5; i++) {
        struct env e = env_open(profiles[i]);
        sc_sock *s = stream_to(&e, PORT_SCRIPT);
        char buf[8];

        push_text(&e, s, "abc");
        cr_assert_eq(sc_recv(s, buf, 8, 0), 3, "%s", profiles[i]);
        env_close(&e);
    }
}

struct push_later {
    struct env *e;
    sc_sock *s;
    const char *text;
    bool fin;
};

static void push_now(void *arg)
{
    struct push_later *p = arg;

    if (p->text)
        push_text(p->e, p->s, p->text);
    if (p->fin)
        fake_fin(p->e->f, sc_fileno(p->s));
}

Test(stream, recv_fills_over_two_pieces_in_zerynth)
{
    struct env e = env_open("zerynth");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct push_later p = {&e, s, "defgh", false};
    struct later l;
    char buf[8];

    push_text(&e, s, "abc");
    later_start(&l, 30, push_now, &p);
    cr_assert_eq(sc_recv(s, buf, 8, 0), 8);
    cr_assert_arr_eq(buf, "abcdefgh", 8);
    later_join(&l);
    env_close(&e);
}

Test(stream, filling_recv_returns_the_rest_at_end_of_file)
{
    struct env e = env_open("zerynth");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char buf[8];

    push_text(&e, s, "abc");
    fake_fin(e.f, sc_fileno(s));
    cr_assert_eq(sc_recv(s, buf, 8, 0), 3);
    cr_assert_eq(sc_recv(s, buf, 8, 0), 0);
    cr_assert_eq(sc_recv(s, buf, 8, 0), 0);
    env_close(&e);
}

Test(stream, filling_recv_times_out_and_the_c_call_reports_the_count)
{
    struct env e = env_open("zerynth");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    int64_t start;
    char buf[8];
    size_t got = 99;

    cr_assert_eq(sc_settimeout(s, 50), 0); /* milliseconds in this profile */
    push_text(&e, s, "abc");
    start = now_ms();
    cr_assert_eq(sc_recv_full(s, buf, 8, 0, &got), -ETIMEDOUT);
    cr_assert_took(start, 50);
    cr_assert_eq(got, 3);
    push_text(&e, s, "de");
    cr_assert_eq(sc_recv(s, buf, 8, 0), -ETIMEDOUT);
    cr_assert_eq(sc_recv(s, buf, 1, SC_MSG_DONTWAIT), -EAGAIN, "what was taken is gone");
    env_close(&e);
}

Test(stream, recv_times_out_when_it_should)
{
    static const int64_t limits[] = {1, 50, 300};
    struct env e = env_open("uiflow2");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char c;

    for (unsigned i = 0; i < 3; i++) {
        int64_t start;

        cr_assert_eq(sc_settimeout_ms(s, limits[i]), 0);
        start = now_ms();
        cr_assert_eq(sc_recv(s, &c, 1, 0), -ETIMEDOUT);
        cr_assert_took(start, limits[i]);
    }
    cr_assert_eq(sc_error_number(sc_sock_profile(s), -ETIMEDOUT), 116);
    env_close(&e);
}

Test(stream, settimeout_reads_the_unit_of_the_profile_and_rounds_up)
{
    struct env e = env_open("openmv");
    sc_sock *s = stream_new(&e);

    cr_assert_eq(sc_settimeout(s, 5), 0);
    cr_assert_eq(sc_gettimeout_ms(s), 5000);
    cr_assert_eq(sc_settimeout(s, 0.0005), 0);
    cr_assert_eq(sc_gettimeout_ms(s), 1, "a positive time-out never becomes non-blocking");
    cr_assert_eq(sc_settimeout(s, SC_NO_TIMEOUT), 0);
    cr_assert_eq(sc_gettimeout_ms(s), -1);
    cr_assert_eq(sc_settimeout(s, 0), 0);
    cr_assert_eq(sc_gettimeout_ms(s), 0);
    cr_assert_eq(sc_settimeout(s, -1), -EINVAL);
    cr_assert_eq(sc_settimeout(s, NAN), -EINVAL);
    cr_assert_eq(sc_settimeout_ms(s, -2), -EINVAL);
    cr_assert_eq(sc_set_profile(s, sc_profile_find("zerynth")), 0);
    cr_assert_eq(sc_settimeout(s, 5), 0);
    cr_assert_eq(sc_gettimeout_ms(s), 5);
    env_close(&e);
}

Test(stream, recv_of_nothing_returns_at_once)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char c;

    cr_assert_eq(sc_recv(s, &c, 0, 0), 0);
    cr_assert_eq(sc_recv(s, NULL, 0, 0), 0);
    cr_assert_eq(sc_recv(s, NULL, 1, 0), -EINVAL);
    cr_assert_eq(sc_recv(s, &c, (size_t)-1, 0), -EINVAL, "recv(-1)");
    env_close(&e);
}

Test(stream, peek_leaves_the_bytes)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char buf[4];

    push_text(&e, s, "abcd");
    cr_assert_eq(sc_recv(s, buf, 2, SC_MSG_PEEK), 2);
    cr_assert_eq(sc_recv(s, buf, 4, 2), 4, "2 is MSG_PEEK in posix");
    cr_assert_eq(sc_recv(s, buf, 4, 0), 4);
    cr_assert_eq(sc_recv(s, buf, 4, POSIX_DONTWAIT), -EAGAIN);
    env_close(&e);
}

Test(stream, flags_are_read_in_the_numbers_of_the_profile)
{
    struct env e = env_open("openmv");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char c;

    cr_assert_eq(sc_recv(s, &c, 1, 2), -EAGAIN, "2 is MSG_DONTWAIT in bare lwIP");
    env_close(&e);
    e = env_open("usocket");
    s = stream_to(&e, PORT_SCRIPT);
    cr_assert_eq(sc_recv(s, &c, 1, 8), -EAGAIN, "8 is MSG_DONTWAIT on the ESP32");
    env_close(&e);
    e = env_open("zerynth");
    s = stream_to(&e, PORT_SCRIPT);
    cr_assert_eq(sc_recv(s, &c, 1, 8), -EOPNOTSUPP);
    env_close(&e);
}

Test(stream, end_of_file_repeats_in_every_call)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    sc_buf all = {0};
    size_t got = 9;
    char buf[4];

    fake_fin(e.f, sc_fileno(s));
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(sc_recv(s, buf, 4, 0), 0);
        cr_assert_eq(sc_read(s, buf, 4, &got), 0);
        cr_assert_eq(got, 0);
        cr_assert_eq(sc_readline(s, buf, 4, &got), 0);
        cr_assert_eq(got, 0);
        cr_assert_eq(sc_readall(s, &all), 0);
        cr_assert_eq(all.len, 0);
    }
    cr_assert_eq(sc_send(s, "x", 1, 0), 1, "half-closed: sending still works");
    env_close(&e);
}

Test(stream, reset_comes_once_and_after_the_data)
{
    struct env e = env_open("openmv");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char buf[10];

    push_text(&e, s, "0123456789");
    fake_error(e.f, sc_fileno(s), ECONNRESET);
    cr_assert_eq(sc_recv(s, buf, 4, 0), 4);
    cr_assert_eq(sc_recv(s, buf, 10, 0), 6);
    cr_assert_eq(sc_recv(s, buf, 10, 0), -ECONNRESET);
    cr_assert_eq(sc_recv(s, buf, 10, 0), 0);
    cr_assert_eq(sc_recv(s, buf, 10, 0), 0);
    cr_assert_eq(sc_send(s, "x", 1, 0), -ECONNRESET);
    cr_assert_eq(sc_send(s, "x", 1, 0), -ECONNRESET, "a device says so every time");
    env_close(&e);
}

Test(stream, a_dead_connection_is_a_broken_pipe_in_posix)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char c;

    fake_error(e.f, sc_fileno(s), ECONNRESET);
    cr_assert_eq(sc_send(s, "x", 1, 0), -ECONNRESET);
    cr_assert_eq(sc_send(s, "x", 1, 0), -EPIPE);
    cr_assert_eq(sc_recv(s, &c, 1, 0), 0);
    env_close(&e);
}

Test(stream, a_stream_that_was_never_connected_says_so)
{
    struct env e = env_open("uiflow2");
    sc_sock *s = stream_new(&e);
    size_t got;
    char c;

    cr_assert_eq(sc_recv(s, &c, 1, 0), -ENOTCONN);
    cr_assert_eq(sc_send(s, "x", 1, 0), -ENOTCONN);
    cr_assert_eq(sc_read(s, &c, 1, &got), -ENOTCONN);
    sc_setblocking(s, 0);
    cr_assert_eq(sc_recv(s, &c, 1, 0), -ENOTCONN, "non-blocking too");
    s = listener_new(&e);
    cr_assert_eq(sc_recv(s, &c, 1, 0), -ENOTCONN, "a listener does not block");
    cr_assert_eq(sc_write(s, "x", 1, &got), -ENOTCONN);
    env_close(&e);
    e = env_open("posix");
    s = stream_new(&e);
    cr_assert_eq(sc_send(s, "x", 1, 0), -EPIPE);
    env_close(&e);
}

Test(stream, transfers_while_connecting_wait_or_say_try_again)
{
    struct env e = env_open("uiflow2");
    sc_addr a = addr_of(PORT_SILENT);
    sc_sock *s = stream_new(&e);
    size_t n;
    char c;

    sc_setblocking(s, 0);
    cr_assert_eq(sc_connect(s, &a), -EINPROGRESS);
    cr_assert_eq(sc_send(s, "x", 1, 0), -EAGAIN);
    cr_assert_eq(sc_recv(s, &c, 1, 0), -EAGAIN);
    cr_assert_eq(sc_write(s, "x", 1, &n), SC_NONE);
    cr_assert_eq(sc_read(s, &c, 1, &n), SC_NONE);
    sc_settimeout_ms(s, 30);
    cr_assert_eq(sc_send(s, "x", 1, 0), -ETIMEDOUT);
    cr_assert_eq(sc_recv(s, &c, 1, 0), -ETIMEDOUT);
    fake_establish(e.f, sc_fileno(s));
    cr_assert_eq(sc_send(s, "x", 1, 0), 1);
    env_close(&e);
}

/* ---- Sending ------------------------------------------------------------------------------------- */

Test(stream, send_is_one_piece_or_loops_as_the_profile_says)
{
    static uint8_t big[40000];
    struct env e = env_open("openmv");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);

    cr_assert_eq(sc_send(s, big, sizeof(big), 0), 16384, "what fits the ring, once");
    env_close(&e);
    e = env_open("uiflow2");
    s = stream_to(&e, PORT_DISCARD);
    cr_assert_eq(sc_send(s, big, sizeof(big), 0), sizeof(big));
    env_close(&e);
}

Test(stream, looping_send_reports_what_went_before_its_time_out)
{
    static uint8_t big[40000];
    struct env e = env_open("uiflow2");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    int64_t start = now_ms();

    sc_settimeout_ms(s, 50);
    cr_assert_eq(sc_send(s, big, sizeof(big), 0), 16384);
    cr_assert_took(start, 50);
    cr_assert_eq(sc_send(s, big, sizeof(big), 0), -ETIMEDOUT);
    sc_setblocking(s, 0);
    cr_assert_eq(sc_send(s, big, sizeof(big), 0), -EAGAIN);
    env_close(&e);
}

Test(stream, empty_send_follows_the_profile)
{
    struct env e = env_open("uiflow2");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    size_t put = 9;

    cr_assert_eq(sc_send(s, "", 0, 0), -ETIMEDOUT);
    sc_setblocking(s, 0);
    cr_assert_eq(sc_send(s, "", 0, 0), -EAGAIN);
    cr_assert_eq(sc_write(s, "", 0, &put), 0);
    cr_assert_eq(put, 0);
    cr_assert_eq(sc_sendall(s, NULL, 0, 0, &put), 0);
    env_close(&e);
    e = env_open("openmv");
    s = stream_to(&e, PORT_SCRIPT);
    cr_assert_eq(sc_send(s, "", 0, 0), 0);
    env_close(&e);
}

Test(stream, sendall_without_waiting_is_all_or_nothing)
{
    static uint8_t big[16384];
    struct env e = env_open("openmv");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct fake_seen seen;
    size_t sent = 9;

    sc_setblocking(s, 0);
    cr_assert_eq(sc_sendall(s, big, 16000, 0, &sent), 0);
    cr_assert_eq(sent, 16000);
    cr_assert_eq(sc_sendall(s, big, 1000, 0, &sent), -EAGAIN);
    cr_assert_eq(sent, 0);
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.tx_tail, 16000, "nothing was sent");
    cr_assert_eq(sc_sendall(s, big, 384, 0, &sent), 0);
    cr_assert_eq(sc_sendall(s, big, 100000, 0, NULL), -EAGAIN, "more than the ring never fits");
    env_close(&e);
}

Test(stream, sendall_has_one_deadline)
{
    static uint8_t big[40000];
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    int64_t start = now_ms();
    size_t sent = 0;

    sc_settimeout_ms(s, 60);
    cr_assert_eq(sc_sendall(s, big, sizeof(big), 0, &sent), -ETIMEDOUT);
    cr_assert_took(start, 60);
    cr_assert_eq(sent, 16384);
    env_close(&e);
}

static void consume_slowly(void *arg)
{
    struct push_later *p = arg;
    size_t taken = 0;

    while (taken < 1000000) {
        static uint8_t buf[5000], want[5000];
        size_t n = fake_consume(p->e->f, sc_fileno(p->s), buf, sizeof(buf));

        pattern_fill(want, n, taken);
        cr_assert_arr_eq(buf, want, n);
        taken += n;
        if (!n)
            usleep(100);
    }
}

Test(stream, write_is_never_short_when_it_blocks)
{
    static uint8_t big[1000000];
    struct env e = env_open("usocket");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct push_later p = {&e, s, NULL, false};
    struct later l;
    size_t put = 0;

    pattern_fill(big, sizeof(big), 0);
    later_start(&l, 10, consume_slowly, &p);
    cr_assert_eq(sc_write(s, big, sizeof(big), &put), 0);
    cr_assert_eq(put, sizeof(big));
    later_join(&l);
    env_close(&e);
}

Test(stream, write_without_waiting_is_partial_then_none)
{
    static uint8_t big[20000];
    struct env e = env_open("usocket");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    size_t put;

    sc_setblocking(s, 0);
    cr_assert_eq(sc_write(s, big, sizeof(big), &put), 0);
    cr_assert_eq(put, 16384);
    cr_assert_eq(sc_write(s, big, 1, &put), SC_NONE);
    cr_assert_eq(put, 0);
    cr_assert_eq(sc_error_number(sc_sock_profile(s), SC_NONE), 11);
    env_close(&e);
}

Test(stream, a_full_ring_asks_for_an_event_and_a_free_one_does_not)
{
    static uint8_t big[20000];
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct fake_seen seen;

    sc_setblocking(s, 0);
    cr_assert_eq(sc_send(s, big, 16384, 0), 16384);
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.want, 0);
    cr_assert_eq(sc_send(s, big, 1, 0), -EAGAIN);
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.want, 1);
    cr_assert_eq(fake_consume(e.f, sc_fileno(s), NULL, 8192), 8192);
    cr_assert_eq(sc_send(s, big, 1, 0), 1);
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.want, 0);
    env_close(&e);
}

Test(stream, more_to_come_is_said_with_the_bytes)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct fake_seen seen;

    cr_assert_eq(sc_send(s, "head", 4, SC_MSG_MORE), 4);
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.want, 2);
    cr_assert_eq(sc_sendall(s, "body", 4, 0x8000, NULL), 0, "Linux's number");
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.want, 2);
    cr_assert_eq(sc_send(s, "tail", 4, 0), 4);
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.want, 0);
    cr_assert_eq(sc_send(dgram_new(&e), "x", 1, SC_MSG_MORE), -EOPNOTSUPP);
    env_close(&e);
}

Test(stream, fast_open_connects_and_sends)
{
    struct env e = env_open("posix");
    sc_addr to = addr_of(PORT_ECHO), silent = addr_of(PORT_SILENT), refused = addr_of(PORT_REFUSED);
    sc_sock *s = stream_new(&e);
    char buf[8];

    cr_assert_eq(sc_sendto(s, "fast", 4, SC_MSG_FASTOPEN, NULL), -EINVAL);
    cr_assert_eq(sc_sendto(s, "fast", 4, SC_MSG_FASTOPEN, &to), 4);
    cr_assert_eq(sc_recv(s, buf, 8, 0), 4);
    cr_assert_arr_eq(buf, "fast", 4);
    cr_assert_eq(sc_sendto(s, "fast", 4, SC_MSG_FASTOPEN, &to), -EISCONN);
    cr_assert_eq(sc_sendto(stream_new(&e), "fast", 4, 0x20000000, &refused), -ECONNREFUSED);
    s = stream_new(&e);
    cr_assert_eq(sc_sendto(s, "fast", 4, SC_MSG_FASTOPEN | SC_MSG_DONTWAIT, &silent), -EINPROGRESS);
    cr_assert_eq(sc_sendto(s, "fast", 4, SC_MSG_FASTOPEN | SC_MSG_DONTWAIT, &silent), -EALREADY);
    cr_assert_eq(sc_sendto(dgram_new(&e), "x", 1, SC_MSG_FASTOPEN, &to), -EOPNOTSUPP);
    env_close(&e);
}

static void set_linger(sc_sock *s, int seconds)
{
    struct sc_linger v = {.onoff = 1, .linger = seconds};

    cr_assert_eq(sc_setsockopt(s, SC_SOL_SOCKET, SC_SO_LINGER, &v, sizeof(v)), 0);
}

static uint32_t closes(struct env *e)
{
    struct fake_seen seen;

    fake_settle(e->f);
    fake_seen(e->f, 0, &seen);
    return seen.closes;
}

/* The daemon sees a close a moment after sc_close() has returned. */
static void wait_closes(struct env *e, uint32_t n)
{
    int64_t end = now_ms() + 5000;

    while (closes(e) < n && now_ms() < end)
        (void)usleep(1000);
    cr_assert_eq(closes(e), n);
}

static void *close_thread(void *s)
{
    cr_assert_eq(sc_close(s), 0);
    return NULL;
}

Test(stream, lingering_close_waits_until_the_peer_has_all)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    int number = sc_fileno(s);
    struct fake_seen seen;
    pthread_t t;

    set_linger(s, 10000);
    cr_assert_eq(sc_send(s, "12345678", 8, 0), 8);
    cr_assert_eq(pthread_create(&t, NULL, close_thread, s), 0);
    do
        fake_seen(e.f, number, &seen);
    while (seen.shutdown_how != 2 && !seen.closes);
    cr_assert_eq(closes(&e), 0);
    cr_assert_eq(fake_consume(e.f, number, NULL, 4), 4);
    cr_assert_eq(closes(&e), 0, "half is not all");
    cr_assert_eq(sc_send(s, "x", 1, 0), -EBADF, "it is closed to everyone");
    cr_assert_eq(fake_consume(e.f, number, NULL, 4), 4);
    cr_assert_eq(pthread_join(t, NULL), 0);
    wait_closes(&e, 1);
    env_close(&e);
}

Test(stream, lingering_close_waits_no_longer_than_it_may)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    uint64_t before = now_ms();

    set_linger(s, 1);
    cr_assert_eq(sc_send(s, "12345678", 8, 0), 8);
    cr_assert_eq(sc_close(s), 0);
    cr_assert_geq(now_ms() - before, 1000);
    wait_closes(&e, 1);
    env_close(&e);
}

Test(stream, close_without_blocking_or_with_unread_data_does_not_linger)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT), *unread = stream_to(&e, PORT_SCRIPT);

    set_linger(s, 10000);
    sc_setblocking(s, 0);
    cr_assert_eq(sc_send(s, "12345678", 8, 0), 8);
    cr_assert_eq(sc_close(s), 0);
    wait_closes(&e, 1);
    set_linger(unread, 10000);
    cr_assert_eq(sc_send(unread, "12345678", 8, 0), 8);
    cr_assert_eq(fake_push(e.f, sc_fileno(unread), "x", 1), 1);
    fake_settle(e.f);
    cr_assert_eq(sc_close(unread), 0, "it resets: nobody will acknowledge anything");
    wait_closes(&e, 2);
    env_close(&e);
}

Test(stream, shutdown_ends_sending_and_the_peers_answer_still_comes)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_ECHO);
    struct fake_seen seen;
    char buf[8];

    cr_assert_eq(sc_send(s, "last", 4, 0), 4);
    cr_assert_eq(sc_shutdown(s, SC_SHUT_WR), 0);
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.shutdown_how, 2);
    cr_assert_eq(sc_send(s, "x", 1, 0), -EPIPE);
    cr_assert_eq(sc_recv(s, buf, 8, 0), 4);
    cr_assert_eq(sc_recv(s, buf, 8, 0), 0);
    cr_assert_eq(sc_shutdown(s, 3), -EINVAL);
    cr_assert_eq(sc_shutdown(stream_new(&e), SC_SHUT_WR), -ENOTCONN);
    env_close(&e);
}

/* ---- Stream calls
 * ------------------------------------------------------------------------------------------ */

Test(stream, read_is_short_at_end_of_file_only)
{
    struct env e = env_open("usocket");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct push_later p = {&e, s, "ef", true};
    struct later l;
    char buf[10];
    size_t got;

    push_text(&e, s, "abcd");
    later_start(&l, 20, push_now, &p);
    cr_assert_eq(sc_read(s, buf, 10, &got), 0);
    cr_assert_eq(got, 6);
    cr_assert_arr_eq(buf, "abcdef", 6);
    later_join(&l);
    env_close(&e);
}

Test(stream, read_keeps_the_count_when_it_times_out)
{
    struct env e = env_open("usocket");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char buf[5];
    size_t got;

    sc_settimeout_ms(s, 30);
    push_text(&e, s, "ab");
    cr_assert_eq(sc_read(s, buf, 5, &got), -ETIMEDOUT);
    cr_assert_eq(got, 2);
    cr_assert_eq(sc_readinto(s, buf, 5, &got), -ETIMEDOUT);
    cr_assert_eq(got, 0);
    env_close(&e);
}

Test(stream, read_without_waiting_is_partial_then_none)
{
    struct env e = env_open("usocket");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    sc_buf all = {0};
    char buf[5];
    size_t got;

    sc_setblocking(s, 0);
    cr_assert_eq(sc_readall(s, &all), SC_NONE);
    cr_assert_eq(sc_readline(s, buf, 5, &got), SC_NONE);
    push_text(&e, s, "abc");
    cr_assert_eq(sc_read(s, buf, 5, &got), 0);
    cr_assert_eq(got, 3);
    cr_assert_eq(sc_read(s, buf, 5, &got), SC_NONE);
    push_text(&e, s, "de");
    cr_assert_eq(sc_readline(s, buf, 5, &got), 0, "a line without its newline");
    cr_assert_eq(got, 2);
    push_text(&e, s, "fg");
    cr_assert_eq(sc_readall(s, &all), 0);
    cr_assert_eq(all.len, 2);
    sc_buf_free(&all);
    env_close(&e);
}

Test(stream, readall_returns_at_end_of_file_and_not_before)
{
    static char big[15000];
    struct env e = env_open("uiflow2");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct push_later p = {&e, s, "tail", true};
    struct later l;
    sc_buf all = {0};
    int64_t start = now_ms();

    memset(big, 'x', sizeof(big));
    cr_assert_eq(fake_push(e.f, sc_fileno(s), big, sizeof(big)), sizeof(big));
    later_start(&l, 40, push_now, &p);
    cr_assert_eq(sc_readall(s, &all), 0);
    cr_assert_geq(now_ms() - start, 39);
    cr_assert_eq(all.len, sizeof(big) + 4);
    cr_assert_arr_eq(all.data + sizeof(big), "tail", 4);
    later_join(&l);
    sc_buf_free(&all);
    env_close(&e);
}

Test(stream, readall_obeys_the_limit_of_its_buffer)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    sc_buf all = {.limit = 5};
    char buf[4];

    push_text(&e, s, "12345678");
    cr_assert_eq(sc_readall(s, &all), -EFBIG);
    cr_assert_eq(all.len, 5);
    cr_assert_eq(sc_recv(s, buf, 4, 0), 3, "the rest stays");
    sc_buf_free(&all);
    all.limit = 5;
    push_text(&e, s, "12345");
    fake_fin(e.f, sc_fileno(s));
    cr_assert_eq(sc_readall(s, &all), 0, "exactly the limit is not too much");
    sc_buf_free(&all);
    env_close(&e);
}

Test(stream, readline_ends_with_the_newline)
{
    struct env e = env_open("usocket");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    struct push_later p = {&e, s, "ne\nlast", true};
    struct later l;
    char buf[32];
    size_t got;

    push_text(&e, s, "one\ntwo li");
    later_start(&l, 20, push_now, &p);
    cr_assert_eq(sc_readline(s, buf, sizeof(buf), &got), 0);
    cr_assert_eq(got, 4);
    cr_assert_arr_eq(buf, "one\n", 4);
    cr_assert_eq(sc_readline(s, buf, sizeof(buf), &got), 0);
    cr_assert_eq(got, 9);
    cr_assert_arr_eq(buf, "two line\n", 9);
    cr_assert_eq(sc_readline(s, buf, 2, &got), 0, "a line longer than the buffer comes in pieces");
    cr_assert_eq(got, 2);
    cr_assert_eq(sc_readline(s, buf, sizeof(buf), &got), 0, "no newline at the end of file");
    cr_assert_eq(got, 2);
    later_join(&l);
    env_close(&e);
}

Test(stream, recv_into_takes_a_part_of_the_buffer)
{
    struct env e = env_open("openmv");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    char buf[6] = "......";
    sc_addr from;

    push_text(&e, s, "abcdefgh");
    cr_assert_eq(sc_recv_into(s, buf, sizeof(buf), 2, 0), 2);
    cr_assert_arr_eq(buf, "ab....", 6);
    cr_assert_eq(sc_recvfrom_into(s, buf, sizeof(buf), -1, 0, &from), 6);
    cr_assert_arr_eq(buf, "cdefgh", 6);
    cr_assert_eq(from.port, PORT_SCRIPT, "the peer, on a stream");
    cr_assert_eq(sc_recv_into(s, buf, sizeof(buf), 7, 0), -EINVAL);
    env_close(&e);
}

static void write_all(void *arg)
{
    static uint8_t big[300000];
    size_t put;

    pattern_fill(big, sizeof(big), 0);
    cr_assert_eq(sc_write(arg, big, sizeof(big), &put), 0);
    cr_assert_eq(put, sizeof(big));
}

Test(stream, two_threads_share_a_socket)
{
    static uint8_t want[300000], back[300000];
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_ECHO);
    struct later l;
    size_t got;

    /* The reader sleeps in another thread than the writer; each is the leader at times. */
    later_start(&l, 0, write_all, s);
    cr_assert_eq(sc_recv_full(s, back, sizeof(back), 0, &got), 0);
    cr_assert_eq(got, sizeof(back));
    pattern_fill(want, sizeof(want), 0);
    cr_assert_arr_eq(back, want, sizeof(want));
    later_join(&l);
    env_close(&e);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Life of a socket, options, datagrams. */
#include <netinet/in.h>
#include <sys/time.h>

#include "tests/unit/client/client_test.h"

/* ---- Made and closed ----------------------------------------------------------------------------- */

Test(socket, numbers_are_read_in_the_profile)
{
    struct env e = env_open("zerynth");
    sc_sock *s;

    cr_assert_eq(sc_socket(e.lib, 0, 0, 6, &s), 0, "AF_INET and SOCK_STREAM are 0 here");
    cr_assert_eq(sc_socket(e.lib, 0, 1, 6, &s), 0, "IPPROTO_TCP with a datagram socket is ignored");
    cr_assert_eq(sc_socket(e.lib, 0, 2, 6, &s), 0, "raw");
    cr_assert_eq(sc_socket(e.lib, 2, 0, 6, &s), -EAFNOSUPPORT, "CAN");
    cr_assert_eq(sc_socket(e.lib, SC_INET, SC_DGRAM, 0, &s), 0);
    env_close(&e);
    e = env_open("posix");
    cr_assert_eq(sc_socket(e.lib, 2, 1, 0, &s), 0);
    cr_assert_eq(sc_socket(e.lib, 10, 1, 0, &s), -EAFNOSUPPORT);
    cr_assert_eq(sc_socket(e.lib, 2, 9, 0, &s), -EPROTONOSUPPORT);
    cr_assert_eq(sc_socket(NULL, 2, 1, 0, &s), -EINVAL);
    env_close(&e);
}

Test(socket, close_repeats_and_everything_after_it_is_a_bad_descriptor)
{
    struct env e = env_open("openmv");
    sc_sock *s = stream_to(&e, PORT_ECHO), *c;
    sc_addr a = addr_of(PORT_ECHO);
    size_t n = 4;
    int v = 1;
    char b;

    cr_assert_gt(sc_fileno(s), 0);
    cr_assert_eq(sc_close(s), 0);
    cr_assert_eq(sc_close(s), 0);
    cr_assert_eq(sc_fileno(s), -1);
    cr_assert_eq(sc_poll_events(s, SC_POLLIN | SC_POLLOUT), 32);
    cr_assert_eq(sc_recv(s, &b, 1, 0), -EBADF);
    cr_assert_eq(sc_recv(s, &b, 0, 0), -EBADF);
    cr_assert_eq(sc_send(s, "x", 1, 0), -EBADF);
    cr_assert_eq(sc_send(s, "", 0, 0), -EBADF);
    cr_assert_eq(sc_sendall(s, "x", 1, 0, NULL), -EBADF);
    cr_assert_eq(sc_read(s, &b, 1, NULL), -EBADF);
    cr_assert_eq(sc_readline(s, &b, 1, NULL), -EBADF);
    cr_assert_eq(sc_write(s, &b, 1, NULL), -EBADF);
    cr_assert_eq(sc_bind(s, &a), -EBADF);
    cr_assert_eq(sc_listen(s, 1), -EBADF);
    cr_assert_eq(sc_accept(s, &c, NULL), -EBADF);
    cr_assert_eq(sc_connect(s, &a), -EBADF);
    cr_assert_eq(sc_shutdown(s, SC_SHUT_WR), -EBADF);
    cr_assert_eq(sc_settimeout(s, 1), -EBADF);
    cr_assert_eq(sc_setblocking(s, 0), -EBADF);
    cr_assert_eq(sc_setsockopt(s, 1, 4, &v, sizeof(v)), -EBADF);
    cr_assert_eq(sc_getsockopt(s, 1, 4, &v, &n), -EBADF);
    cr_assert_eq(sc_getsockname(s, &a), -EBADF);
    cr_assert_eq(sc_getpeername(s, &a), -EBADF);
    cr_assert_eq(sc_on_event(s, NULL, NULL), -EBADF);
    sc_release(s);
    env_close(&e);
}

Test(socket, slot_numbers_come_back)
{
    struct fake_options o = {.slots = 5, .command_delay_us = 200};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s[4], *more;

    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 4; i++)
            s[i] = stream_new(&e); /* The daemon may not have answered the closes of the last round yet. */
        cr_assert_eq(sc_socket(e.lib, SC_INET, SC_STREAM, 0, &more), -EMFILE);
        for (int i = 0; i < 4; i++)
            sc_release(s[i]);
    }
    env_close(&e);
}

Test(socket, accept_takes_the_number_of_a_socket_just_closed)
{
    struct fake_options o = {.slots = 3, .command_delay_us = 200};
    struct env e = env_open_with(&o, "posix");
    sc_sock *l = listener_new(&e);
    sc_sock *c;

    for (int round = 0; round < 20; round++) {
        sc_sock *other = stream_new(&e);

        fake_incoming(e.f, sc_fileno(l), 40000);
        cr_assert_eq(sc_accept(l, &c, NULL), -EMFILE);
        sc_release(other);
        cr_assert_eq(sc_accept(l, &c, NULL), 0);
        sc_release(c);
    }
    env_close(&e);
}

Test(socket, many_closes_do_not_wedge_small_rings)
{
    struct fake_options o = {.slots = 300, .ring_entries = 4, .region_log2 = 12};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s[299];
    struct fake_seen seen;

    for (int i = 0; i < 299; i++)
        s[i] = stream_new(&e);
    for (int i = 0; i < 299; i++)
        sc_release(s[i]);
    (void)stream_new(&e);
    fake_seen(e.f, 0, &seen);
    cr_assert_eq(seen.closes, 299);
    env_close(&e);
}

Test(socket, a_second_handle_keeps_the_socket_open)
{
    struct env e = env_open("zerynth");
    sc_sock *a = stream_to(&e, PORT_ECHO), *b = NULL;
    struct fake_seen seen;
    int fileno = sc_fileno(a);
    char c;

    cr_assert_eq(sc_socket_from_fileno(e.lib, fileno, SC_STREAM, &b), 0);
    cr_assert_eq(sc_fileno(b), fileno);
    cr_assert_eq(sc_settimeout(b, 20), 0);
    cr_assert_eq(sc_gettimeout_ms(a), -1, "a time-out belongs to the handle");
    sc_release(a);
    cr_assert_eq(sc_send(b, "x", 1, 0), 1);
    cr_assert_eq(sc_recv(b, &c, 1, 0), 1);
    fake_seen(e.f, 0, &seen);
    cr_assert_eq(seen.closes, 0);
    cr_assert_eq(sc_socket_from_fileno(e.lib, fileno, SC_DGRAM, &a), -EPROTOTYPE);
    cr_assert_eq(sc_socket_from_fileno(e.lib, fileno + 1, SC_STREAM, &a), -EBADF);
    cr_assert_eq(sc_socket_from_fileno(e.lib, -1, SC_STREAM, &a), -EBADF);
    cr_assert_eq(sc_close(b), 0);
    cr_assert_eq(sc_socket_from_fileno(e.lib, fileno, SC_STREAM, &a), -EBADF);
    env_close(&e);
}

Test(socket, a_profile_can_be_changed_while_the_socket_is_new)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_new(&e);
    sc_addr a = addr_of(8001);

    cr_assert_eq(sc_set_profile(s, sc_profile_find("uiflow2")), 0);
    cr_assert_str_eq(sc_sock_profile(s)->name, "uiflow2");
    cr_assert_eq(sc_set_profile(s, NULL), -EINVAL);
    cr_assert_eq(sc_bind(s, &a), 0);
    cr_assert_eq(sc_set_profile(s, sc_profile_find("posix")), -EINVAL);
    cr_assert_str_eq(sc_sock_profile(stream_new(&e))->name, "posix");
    cr_assert_eq(sc_sock_lib(s), e.lib);
    env_close(&e);
}

/* ---- Bind, listen, accept ------------------------------------------------------------------------ */

Test(socket, bind_once)
{
    struct env e = env_open("openmv");
    sc_sock *s = stream_new(&e);
    sc_addr a = {.family = SC_ADDR_INET, .len = 4, .port = 9000}, name;
    sc_addr taken = addr_of(PORT_TAKEN), v6 = {.family = 10, .len = 16};

    cr_assert_eq(sc_bind(s, &taken), -EADDRINUSE);
    cr_assert_eq(sc_bind(s, &v6), -EAFNOSUPPORT);
    cr_assert_eq(sc_bind(s, &a), 0);
    cr_assert_eq(sc_bind(s, &a), -EINVAL);
    cr_assert_eq(sc_getsockname(s, &name), 0);
    cr_assert_eq(name.port, 9000);
    cr_assert_eq(sc_getpeername(s, &name), -ENOTCONN);
    cr_assert_eq(sc_bind(s, NULL), -EINVAL);
    env_close(&e);
}

Test(socket, a_bare_port_binds_in_zerynth_only)
{
    struct env e = env_open("zerynth");
    sc_sock *s = stream_new(&e);
    sc_addr name;

    cr_assert_eq(sc_bind_port(s, 65536), -EINVAL);
    cr_assert_eq(sc_bind_port(s, -1), -EINVAL);
    cr_assert_eq(sc_bind_port(s, 80), 0);
    cr_assert_eq(sc_getsockname(s, &name), 0);
    cr_assert_eq(name.port, 80);
    env_close(&e);
    e = env_open("openmv");
    cr_assert_eq(sc_bind_port(stream_new(&e), 80), SC_BAD_FORM);
    env_close(&e);
}

Test(socket, the_backlog_is_converted_by_the_profile)
{
    static const struct {
        const char *profile;
        int given;
        uint32_t asked, overflow;
    } want[] = {
        {"posix", SC_BACKLOG_DEFAULT, 129, 0},
        {"posix", 0, 1, 0},
        {"posix", 3, 4, 0},
        {"posix", INT_MAX, 4096, 0},
        {"posix", -5, 1, 0},
        {"uiflow2", SC_BACKLOG_DEFAULT, 5, 0},
        {"mpython", SC_BACKLOG_DEFAULT, 2, 0},
        {"usocket", SC_BACKLOG_DEFAULT, 2, 0},
        {"zerynth", SC_BACKLOG_DEFAULT, 2, 0},
        {"openmv", SC_BACKLOG_DEFAULT, 2, 1},
        {"openmv", 0, 1, 1},
        {"openmv", 1, 1, 1},
        {"openmv", 3, 3, 1},
        {"openmv", -1, 1, 1},
        {"openmv", 100000, 4096, 1},
    };

    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct env e = env_open(want[i].profile);
        sc_sock *s = stream_new(&e);
        struct fake_seen seen;

        cr_assert_eq(sc_listen(s, want[i].given), 0);
        fake_seen(e.f, 0, &seen);
        cr_assert_eq(seen.listen_backlog, want[i].asked, "%s %d", want[i].profile, want[i].given);
        cr_assert_eq(seen.listen_overflow, want[i].overflow, "%s", want[i].profile);
        env_close(&e);
    }
}

struct incoming {
    struct env *e;
    sc_sock *s;
};

static void incoming_now(void *arg)
{
    struct incoming *in = arg;

    fake_incoming(in->e->f, sc_fileno(in->s), PORT_ECHO);
}

Test(socket, accept_waits_and_gives_the_peer)
{
    struct env e = env_open("openmv");
    sc_sock *l = listener_new(&e), *c = NULL;
    struct incoming in = {&e, l};
    struct later later;
    sc_addr peer;
    char buf[4];

    later_start(&later, 30, incoming_now, &in);
    cr_assert_eq(sc_accept(l, &c, &peer), 0);
    later_join(&later);
    cr_assert_eq(peer.port, PORT_ECHO);
    cr_assert_eq(peer.ip[3], 9);
    cr_assert_eq(sc_send(c, "hey", 3, 0), 3);
    cr_assert_eq(sc_recv(c, buf, 4, 0), 3);
    sc_release(l);
    cr_assert_eq(sc_send(c, "hey", 3, 0), 3, "closing the listener leaves it alone");
    cr_assert_eq(sc_recv(c, buf, 4, 0), 3);
    env_close(&e);
}

Test(socket, accept_errors)
{
    struct env e = env_open("openmv");
    sc_sock *l = listener_new(&e), *c = NULL;
    int64_t start;

    sc_setblocking(l, 0);
    cr_assert_eq(sc_accept(l, &c, NULL), -EAGAIN);
    sc_settimeout_ms(l, 50);
    start = now_ms();
    cr_assert_eq(sc_accept(l, &c, NULL), -ETIMEDOUT);
    cr_assert_took(start, 50);
    cr_assert_eq(sc_accept(stream_new(&e), &c, NULL), -EINVAL);
    cr_assert_eq(sc_accept(dgram_new(&e), &c, NULL), -EOPNOTSUPP);
    cr_assert_eq(sc_listen(dgram_new(&e), 1), -EOPNOTSUPP);
    cr_assert_eq(sc_accept(l, NULL, NULL), -EINVAL);
    cr_assert_null(c);
    env_close(&e);
}

Test(socket, the_time_out_is_inherited_in_openmv_only)
{
    static const char *const profiles[] = {"openmv", "uiflow2", "zerynth", "posix"};

    for (unsigned i = 0; i < 4; i++) {
        struct env e = env_open(profiles[i]);
        sc_sock *l = listener_new(&e), *c;

        sc_settimeout_ms(l, 500);
        fake_incoming(e.f, sc_fileno(l), PORT_ECHO);
        cr_assert_eq(sc_accept(l, &c, NULL), 0);
        cr_assert_eq(sc_gettimeout_ms(c), i == 0 ? 500 : -1, "%s", profiles[i]);
        env_close(&e);
    }
}

Test(socket, a_connection_that_can_not_be_taken_goes_on_waiting)
{
    struct fake_options o = {.slots = 3};
    struct env e = env_open_with(&o, "posix");
    sc_sock *l = listener_new(&e), *other = stream_new(&e), *c;

    fake_incoming(e.f, sc_fileno(l), PORT_ECHO);
    cr_assert_eq(sc_accept(l, &c, NULL), -EMFILE);
    sc_release(other);
    cr_assert_eq(sc_accept(l, &c, NULL), 0);
    env_close(&e);
}

/* ---- Connect
 * ------------------------------------------------------------------------------------------------ */

Test(socket, connect_without_waiting_goes_through_its_states)
{
    struct env e = env_open("uiflow2");
    sc_addr a = addr_of(PORT_SILENT);
    sc_sock *s = stream_new(&e);
    int error = -1;
    size_t len = sizeof(error);

    sc_setblocking(s, 0);
    cr_assert_eq(sc_connect(s, &a), -EINPROGRESS);
    cr_assert_eq(sc_connect(s, &a), -EALREADY);
    cr_assert_eq(sc_error_number(sc_sock_profile(s), -EINPROGRESS), 119);
    cr_assert_eq(sc_getpeername(s, &a), -ENOTCONN);
    fake_establish(e.f, sc_fileno(s));
    cr_assert_eq(sc_getsockopt(s, SC_SOL_SOCKET, SC_SO_ERROR, &error, &len), 0);
    cr_assert_eq(error, 0);
    cr_assert_eq(sc_connect(s, &a), -EISCONN);
    cr_assert_eq(sc_getpeername(s, &a), 0);
    cr_assert_eq(a.port, PORT_SILENT);
    cr_assert_eq(sc_connect(listener_new(&e), &a), -EISCONN);
    env_close(&e);
}

Test(socket, connect_times_out_and_the_attempt_goes_on)
{
    struct env e = env_open("openmv");
    sc_addr a = addr_of(PORT_SILENT);
    sc_sock *s = stream_new(&e);
    int64_t start = now_ms();

    sc_settimeout(s, 0.05);
    cr_assert_eq(sc_connect(s, &a), -ETIMEDOUT);
    cr_assert_took(start, 50);
    cr_assert_eq(sc_connect(s, &a), -EALREADY);
    env_close(&e);
}

Test(socket, a_refused_connection_keeps_its_true_cause_in_c)
{
    struct env e = env_open("openmv");
    sc_addr a = addr_of(PORT_REFUSED);
    sc_sock *s = stream_new(&e);
    int error = 0, rc;
    size_t len = sizeof(error);
    char c;

    rc = sc_connect(s, &a);
    cr_assert_eq(rc, -ECONNREFUSED);
    cr_assert_eq(sc_error_number(sc_sock_profile(s), rc), 104);
    cr_assert_eq(sc_connect(s, &a), -ECONNREFUSED, "one attempt");
    cr_assert_eq(sc_recv(s, &c, 1, 0), -ENOTCONN);
    s = stream_new(&e);
    sc_setblocking(s, 0);
    rc = sc_connect(s, &a);
    cr_assert(rc == -EINPROGRESS || rc == -ECONNREFUSED);
    if (rc == -EINPROGRESS) {
        cr_assert_eq(sc_getsockopt(s, SC_SOL_SOCKET, SC_SO_ERROR, &error, &len), 0);
        cr_assert_eq(error, ECONNREFUSED);
    }
    cr_assert_eq(sc_getsockopt(s, SC_SOL_SOCKET, SC_SO_ERROR, &error, &len), 0);
    cr_assert_eq(error, 0, "reported once");
    env_close(&e);
}

static void close_now(void *arg)
{
    cr_assert_eq(sc_close(arg), 0);
}

Test(socket, closing_ends_a_call_that_is_blocked_in_another_thread)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_SCRIPT), *l = listener_new(&e), *c;
    struct later later;
    int64_t start = now_ms();
    char b;

    later_start(&later, 40, close_now, s);
    cr_assert_eq(sc_recv(s, &b, 1, 0), -EBADF);
    cr_assert_took(start, 40);
    later_join(&later);
    later_start(&later, 20, close_now, l);
    cr_assert_eq(sc_accept(l, &c, NULL), -EBADF);
    later_join(&later);
    env_close(&e);
}

/* ---- Options ------------------------------------------------------------------------------------- */

static int set_int(sc_sock *s, int level, int name, int value)
{
    return sc_setsockopt(s, level, name, &value, sizeof(value));
}

Test(socket, options_are_translated_by_profile_level_and_name)
{
    static const struct {
        const char *profile;
        int level, name;
        uint32_t linux_level, linux_name;
    } want[] = {
        {"posix", 1, 2, 1, 2},
        {"posix", 6, 1, 6, 1},
        {"uiflow2", 4095, 4, 1, 2},
        {"mpython", 4095, 8, 1, 9},
        {"usocket", 4095, 32, 1, 6},
        {"usocket", 6, 3, 6, 4},
        {"usocket", 6, 5, 6, 6},
        {"openmv", 1, 4, 1, 2},
        {"openmv", 77, 4, 1, 2},
        {"openmv", 6, 64, 6, 1},
        {"openmv", 1, 32, 1, 6},
        {"zerynth", 65535, 4, 1, 2},
        {"zerynth", 65535, 8, 1, 9},
        {"zerynth", 6, 4, 6, 5},
        {"zerynth", SC_SOL_SOCKET, 9, 1, 9},
        {"openmv", SC_SOL_TCP, SC_TCP_USER_TIMEOUT, 6, 18},
        {"posix", 0, SC_IP_TTL, 0, 2},
        {"posix", 17, SC_UDP_SEGMENT, 17, 103},
        {"openmv", SC_SOL_IP, SC_IP_TOS, 0, 1},
        {"zerynth", SC_SOL_UDP, SC_UDP_SEGMENT, 17, 103},
    };

    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct env e = env_open(want[i].profile);
        sc_sock *s = stream_new(&e);
        struct fake_seen seen;

        cr_assert_eq(set_int(s, want[i].level, want[i].name, 1), 0, "%u", i);
        fake_seen(e.f, 0, &seen);
        cr_assert_eq(seen.opt_count, 1, "%u", i);
        cr_assert_eq(seen.opt_level, want[i].linux_level, "%u", i);
        cr_assert_eq(seen.opt_name, want[i].linux_name, "%u", i);
        cr_assert_eq(seen.opt_value, 1, "%u", i);
        env_close(&e);
    }
}

Test(socket, memberships_carry_their_addresses)
{
    static const struct sc_ip_mreq_source source = {{232, 1, 2, 3}, {0, 0, 0, 0}, {192, 0, 2, 9}};
    static const struct {
        const char *profile;
        int level, name, linux_name;
        size_t len;
        int rc;
    } want[] = {
        {"posix", 0, SC_IP_ADD_MEMBERSHIP, 35, 8, 0},
        {"usocket", 0, 3, 35, 8, 0},
        {"openmv", 0, 0x401, 36, 8, 0},
        {"posix", 0, SC_IP_ADD_SOURCE_MEMBERSHIP, 39, 12, 0},
        {"zerynth", SC_SOL_IP, SC_IP_BLOCK_SOURCE, 38, 12, 0},
        {"posix", 0, SC_IP_ADD_MEMBERSHIP, 0, 7, -EINVAL},
        {"posix", 0, SC_IP_BLOCK_SOURCE, 0, 8, -EINVAL},
    };

    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct env e = env_open(want[i].profile);
        sc_sock *s = stream_new(&e);
        struct fake_seen seen;

        cr_assert_eq(sc_setsockopt(s, want[i].level, want[i].name, &source, want[i].len), want[i].rc, "%u",
                     i);
        fake_seen(e.f, 0, &seen);
        cr_assert_eq(seen.opt_count, want[i].rc ? 0u : 1u, "%u", i);
        if (!want[i].rc) {
            cr_assert_eq(seen.opt_level, 0, "%u", i);
            cr_assert_eq((int)seen.opt_name, want[i].linux_name, "%u", i);
            cr_assert_arr_eq(seen.opt_addr, &source, want[i].len, "%u", i);
        }
        env_close(&e);
    }
}

/* What the daemon is asked for. */
static struct fake_seen group_option(int level, int name, const void *val, size_t len)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_new(&e);
    struct fake_seen seen;

    cr_assert_eq(sc_setsockopt(s, level, name, val, len), 0);
    cr_assert_eq(sc_setsockopt(s, level, name, val, len - 1), -EINVAL);
    fake_seen(e.f, 0, &seen);
    cr_assert_eq(seen.opt_count, 1);
    cr_assert_eq(seen.opt_level, 0);
    env_close(&e);
    return seen;
}

Test(socket, memberships_of_ipv6_carry_group_and_interface)
{
    static const struct sc_ipv6_mreq r = {{0xff, 0x15, [15] = 1}, 3};
    struct fake_seen seen = group_option(SC_SOL_IPV6, SC_IPV6_JOIN_GROUP, &r, sizeof(r));

    cr_assert(seen.opt_name == 35 && seen.opt_family == AF_INET6 && seen.opt_scope == 3);
    cr_assert_arr_eq(seen.opt_addr, r.group, 16);
    seen = group_option(SC_SOL_IPV6, SC_IPV6_LEAVE_GROUP, &r, sizeof(r));
    cr_assert_eq(seen.opt_name, 36);
}

Test(socket, interface_numbers_of_ipv4_memberships_go_before_addresses)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_new(&e);
    struct sc_ip_mreqn r = {{233, 1, 2, 3}, {192, 0, 2, 1}, 2};
    struct fake_seen seen;

    cr_assert_eq(sc_setsockopt(s, SC_SOL_IP, SC_IP_ADD_MEMBERSHIP, &r, sizeof(r)), 0);
    fake_seen(e.f, 0, &seen);
    cr_assert(seen.opt_scope == 2 && seen.opt_addr[0] == 233 && seen.opt_addr[4] == 0);
    r.ifnum = 0;
    cr_assert_eq(sc_setsockopt(s, SC_SOL_IP, SC_IP_MULTICAST_IF, &r, sizeof(r)), 0);
    fake_seen(e.f, 0, &seen);
    cr_assert(seen.opt_scope == 0 && seen.opt_name == 32 && seen.opt_addr[4] == 192);
    env_close(&e);
}

Test(socket, protocol_independent_memberships_carry_addresses_of_either_family)
{
    struct group_source_req r = {.gsr_interface = 2};
    struct sockaddr_in *group4 = (struct sockaddr_in *)&r.gsr_group;
    struct sockaddr_in *source4 = (struct sockaddr_in *)&r.gsr_source;
    struct sockaddr_in6 *group6 = (struct sockaddr_in6 *)&r.gsr_group;
    struct sockaddr_in6 *source6 = (struct sockaddr_in6 *)&r.gsr_source;
    struct fake_seen seen;
    struct env e;

    *group4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(0xe9010203)}};
    *source4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(0xc0000201)}};
    seen = group_option(SC_SOL_IP, SC_MCAST_JOIN_SOURCE_GROUP, &r, sizeof(r));
    cr_assert(seen.opt_name == 39 && seen.opt_scope == 2 && seen.opt_addr[0] == 233 &&
              seen.opt_addr[8] == 192);
    seen = group_option(SC_SOL_IP, SC_MCAST_LEAVE_GROUP, &r, sizeof(struct group_req));
    cr_assert(seen.opt_name == 36 && seen.opt_addr[8] == 0);
    e = env_open("posix");
    cr_assert_eq(sc_setsockopt(stream_new(&e), SC_SOL_IPV6, SC_MCAST_JOIN_GROUP, &r, sizeof(r)), -EINVAL,
                 "of the other family");
    env_close(&e);
    *group6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = {{{0xff, 0x15, [15] = 7}}}};
    *source6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = {{{0x20, 1, [15] = 9}}}};
    seen = group_option(SC_SOL_IPV6, SC_MCAST_BLOCK_SOURCE, &r, sizeof(r));
    cr_assert(seen.opt_name == 38 && seen.opt_family == AF_INET6 && seen.opt_addr[15] == 7);
    cr_assert_arr_eq(&seen.opt_value, source6->sin6_addr.s6_addr, 8);
    cr_assert_arr_eq(&seen.opt_value2, source6->sin6_addr.s6_addr + 8, 8);
}

Test(socket, unknown_options_are_refused_or_ignored_by_profile)
{
    static const struct {
        const char *profile;
        int rc;
    } want[] = {{"posix", -ENOPROTOOPT}, {"zerynth", -ENOPROTOOPT}, {"uiflow2", 0}, {"openmv", 0}};

    for (unsigned i = 0; i < 4; i++) {
        struct env e = env_open(want[i].profile);
        sc_sock *s = stream_new(&e);
        int v;
        size_t len = sizeof(v);

        cr_assert_eq(set_int(s, 12345, 999, 1), i == 3 ? 0 : want[i].rc, "%s", want[i].profile);
        cr_assert_eq(set_int(s, SC_SOL_SOCKET, 99, 1), want[i].rc, "known to the library, not to the daemon");
        cr_assert_eq(set_int(s, SC_SOL_SOCKET, SC_SO_TYPE, 1), want[i].rc, "get only");
        cr_assert_eq(sc_getsockopt(s, 12345, 999, &v, &len), -ENOPROTOOPT);
        cr_assert_eq(sc_getsockopt(s, SC_SOL_SOCKET, 99, &v, &len), -ENOPROTOOPT);
        env_close(&e);
    }
}

Test(socket, congestion_control_is_named_by_a_string)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_new(&e);
    struct fake_seen seen;

    cr_assert_eq(sc_setsockopt(s, 6, SC_TCP_CONGESTION, "reno", 4), 0, "without its final zero");
    fake_seen(e.f, 0, &seen);
    cr_assert_eq(seen.opt_name, 13);
    cr_assert_eq(seen.opt_value, 0x6f6e6572);
    cr_assert_eq(sc_setsockopt(s, SC_SOL_TCP, SC_TCP_CONGESTION, "cubic\0xx", 8), 0, "it ends at a zero");
    fake_seen(e.f, 0, &seen);
    cr_assert_eq(seen.opt_value, UINT64_C(0x6369627563));
    cr_assert_eq(sc_setsockopt(s, 6, SC_TCP_CONGESTION, "abcdefghi", 9), -ENOENT, "longer than any name");
    cr_assert_eq(sc_setsockopt(s, 6, SC_TCP_CONGESTION, "", 0), -EINVAL);
    for (size_t room = 1; room < 19; room++) {
        char name[20] = "-------------------";
        size_t len = room;

        cr_assert_eq(sc_getsockopt(s, 6, SC_TCP_CONGESTION, name, &len), 0);
        cr_assert_eq(len, room < 16 ? room : 16, "at most Linux's 16");
        cr_assert_eq(strncmp(name, "cubic", room), 0);
        cr_assert(name[room] == '-', "nothing behind what was offered");
    }
    env_close(&e);
}

static void on_event(sc_sock *s, void *arg)
{
    (void)s;
    ++*(int *)arg;
}

Test(socket, option_20_is_a_callback_on_micropython_and_a_time_out_on_linux)
{
    static const char *const profiles[] = {"uiflow2", "usocket", "openmv"};
    int calls = 0;

    for (unsigned i = 0; i < 3; i++) {
        struct sc_event_handler h = {on_event, &calls};
        struct env e = env_open(profiles[i]);
        sc_sock *s = stream_to(&e, PORT_SCRIPT);
        struct fake_seen seen;

        calls = 0;
        cr_assert_eq(sc_setsockopt(s, 1, 20, &h, sizeof(h)), 0);
        push_text(&e, s, "x");
        for (int n = 0; n < 100 && !calls; n++)
            cr_assert_geq(sc_wait(e.lib, 20), 0);
        cr_assert_eq(calls, 1, "%s", profiles[i]);
        cr_assert_eq(sc_setsockopt(s, 1, 20, NULL, 0), 0);
        push_text(&e, s, "x");
        cr_assert_geq(sc_wait(e.lib, 20), 0);
        cr_assert_eq(calls, 1, "%s", profiles[i]);
        cr_assert_eq(set_int(s, 1, 20, 500), -EINVAL, "an int is no callback");
        cr_assert_eq(sc_gettimeout_ms(s), -1, "nor a time-out");
        fake_seen(e.f, 0, &seen);
        cr_assert_eq(seen.opt_count, 0, "%s", profiles[i]);
        env_close(&e);
    }
    struct env e = env_open("posix");
    sc_sock *s = stream_new(&e);
    struct timeval tv = {.tv_sec = 2, .tv_usec = 1500}, back;
    size_t len = sizeof(back);

    cr_assert_eq(sc_setsockopt(s, 1, 20, &tv, sizeof(tv)), 0);
    cr_assert_eq(sc_gettimeout_ms(s), 2002);
    cr_assert_eq(sc_getsockopt(s, 1, 20, &back, &len), 0);
    cr_assert_eq(back.tv_sec, 2);
    cr_assert_eq(back.tv_usec, 2000);
    tv = (struct timeval){0};
    cr_assert_eq(sc_setsockopt(s, 1, 20, &tv, sizeof(tv)), 0);
    cr_assert_eq(sc_gettimeout_ms(s), -1, "0 is for ever");
    tv.tv_usec = 1000000;
    cr_assert_eq(sc_setsockopt(s, 1, 20, &tv, sizeof(tv)), -EINVAL);
    env_close(&e);
}

Test(socket, option_1_is_a_time_out_in_zerynth)
{
    struct env e = env_open("zerynth");
    sc_sock *s = stream_to(&e, PORT_SCRIPT);
    int64_t start = now_ms();
    char c;

    cr_assert_eq(set_int(s, 65535, 1, 60), 0);
    cr_assert_eq(sc_recv(s, &c, 1, 0), -ETIMEDOUT);
    cr_assert_took(start, 60);
    env_close(&e);
}

Test(socket, option_values_are_checked)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_new(&e);
    struct sc_linger linger = {1, 7}, back = {0};
    struct fake_seen seen;
    int64_t wide = 1;
    size_t len;
    int v = 0;

    cr_assert_eq(sc_setsockopt(s, 1, SC_SO_LINGER, &linger, sizeof(linger)), 0);
    fake_seen(e.f, 0, &seen);
    cr_assert_eq(seen.opt_value, (UINT64_C(7) << 32) | 1);
    len = sizeof(back);
    cr_assert_eq(sc_getsockopt(s, 1, SC_SO_LINGER, &back, &len), 0);
    cr_assert(back.onoff == 1 && back.linger == 7 && len == sizeof(back));
    cr_assert_eq(sc_setsockopt(s, 1, SC_SO_LINGER, &v, sizeof(v)), -EINVAL);
    cr_assert_eq(sc_setsockopt(s, 1, SC_SO_REUSEADDR, &wide, 8), 0);
    cr_assert_eq(sc_setsockopt(s, 1, SC_SO_REUSEADDR, &v, 3), -EINVAL);
    cr_assert_eq(sc_setsockopt(s, 1, SC_SO_REUSEADDR, NULL, 4), -EINVAL);
    len = 4;
    cr_assert_eq(sc_getsockopt(s, 1, SC_SO_TYPE, &v, &len), 0);
    cr_assert_eq(v, 1);
    len = 3;
    cr_assert_eq(sc_getsockopt(s, 1, SC_SO_RCVBUF, &v, &len), -EINVAL);
    len = 4;
    cr_assert_eq(sc_getsockopt(s, 1, SC_SO_RCVBUF, &v, &len), 0);
    cr_assert_eq(v, 800);
    env_close(&e);
}

/* ---- Datagrams ----------------------------------------------------------------------------------- */

Test(socket, datagrams_keep_their_borders_and_their_sender)
{
    struct env e = env_open("zerynth");
    sc_sock *s = dgram_new(&e);
    sc_addr to = addr_of(PORT_ECHO), from;
    char buf[16];

    cr_assert_eq(sc_sendto(s, "one", 3, 0, &to), 3);
    cr_assert_eq(sc_sendto(s, "three", 5, 0, &to), 5);
    cr_assert_eq(sc_recvfrom(s, buf, sizeof(buf), 0, &from), 3, "never fills");
    cr_assert_eq(from.port, PORT_ECHO);
    cr_assert_eq(from.ip[3], 9);
    cr_assert_eq(sc_recv(s, buf, sizeof(buf), 0), 5);
    cr_assert_eq(sc_sendto(s, "abcdefgh", 8, 0, &to), 8);
    cr_assert_eq(sc_recv(s, buf, 8, SC_MSG_PEEK), 8);
    cr_assert_eq(sc_recv(s, buf, 3, 0), 3, "the rest is dropped");
    cr_assert_eq(sc_recv(s, buf, 3, SC_MSG_DONTWAIT), -EAGAIN);
    env_close(&e);
}

Test(socket, what_is_known_of_a_datagram_comes_along)
{
    struct env e = env_open("posix");
    sc_sock *s = dgram_new(&e);
    sc_addr to = addr_of(PORT_ECHO), from;
    sc_msg_info out = {.local = {SC_ADDR_INET, 4, 0, 0, {10, 0, 0, 7}}, .ifnum = 3, .ttl = 9, .tos = 0x28},
                in;
    char buf[40];

    cr_assert_eq(sc_sendmsg(s, "told", 4, 0, &to, &out), 4); /* the echo brings it back */
    cr_assert_eq(sc_recvmsg(s, buf, 2, 0, &from, &in), 2);
    cr_assert(in.bytes == 4 && in.ifnum == 3 && in.ttl == 9 && in.tos == 0x28 && from.port == PORT_ECHO);
    cr_assert(in.local.family == SC_ADDR_INET && in.local.ip[3] == 7 && in.local.port == 0);
    cr_assert_eq(sc_sendto(s, "untold", 6, 0, &to), 6);
    cr_assert_eq(sc_recvmsg(s, buf, sizeof(buf), 0, NULL, &in), 6);
    cr_assert_arr_eq(buf, "untold", 6);
    cr_assert(in.bytes == 6 && in.local.family == 0 && in.ifnum == 0 && in.ttl == -1 && in.tos == -1);
    for (int i = 0; i < 300; i++) { /* around the ring's end */
        cr_assert_eq(
            sc_sendmsg(s, "0123456789012345678901234567890123456789", 1 + (size_t)i % 40, 0, &to, &out),
            1 + i % 40);
        cr_assert_eq(sc_recvfrom(s, buf, sizeof(buf), 0, NULL), 1 + i % 40);
        cr_assert_eq(buf[i % 40], '0' + i % 40 % 10);
    }
    out.ttl = 0;
    cr_assert_eq(sc_sendmsg(s, "told", 4, 0, &to, &out), -EINVAL);
    out.ttl = -1;
    out.local.family = SC_ADDR_INET6;
    cr_assert_eq(sc_sendmsg(s, "told", 4, 0, &to, &out), -EINVAL);
    env_close(&e);
}

Test(socket, an_empty_datagram_arrives)
{
    struct env e = env_open("uiflow2");
    sc_sock *s = dgram_new(&e);
    sc_addr to = addr_of(PORT_ECHO), from = {0};
    char c;

    cr_assert_eq(sc_sendto(s, "", 0, 0, &to), 0);
    cr_assert_eq(sc_recvfrom(s, &c, 1, 0, &from), 0);
    cr_assert_eq(from.port, PORT_ECHO);
    cr_assert_eq(sc_connect(s, &to), 0);
    cr_assert_eq(sc_send(s, "", 0, 0), 0, "the empty send fails on streams only");
    cr_assert_eq(sc_recvfrom(s, &c, 1, 0, &from), 0);
    env_close(&e);
}

Test(socket, a_datagram_needs_an_address_or_a_peer)
{
    struct env e = env_open("posix");
    sc_sock *s = dgram_new(&e);
    sc_addr to = addr_of(PORT_ECHO), none = {0}, zero = addr_of(0);
    struct fake_seen seen;
    char buf[4];

    cr_assert_eq(sc_send(s, "x", 1, 0), -EDESTADDRREQ);
    cr_assert_eq(sc_sendto(s, "x", 1, 0, &zero), -EADDRNOTAVAIL);
    cr_assert_eq(sc_sendto(s, "x", 1, 0, &none), -EAFNOSUPPORT);
    cr_assert_eq(sc_connect(s, &to), 0);
    cr_assert_eq(sc_send(s, "x", 1, 0), 1);
    cr_assert_eq(sc_recv(s, buf, 4, 0), 1);
    cr_assert_eq(sc_sendto(s, "yz", 2, 0, &to), 2, "allowed on a connected socket");
    cr_assert_eq(sc_recv(s, buf, 4, 0), 2);
    cr_assert_eq(sc_sendall(s, "abc", 3, 0, NULL), 0);
    cr_assert_eq(sc_recv(s, buf, 4, 0), 3);
    cr_assert_eq(sc_getpeername(s, &to), 0);
    cr_assert_eq(sc_connect(s, &none), 0, "family 0 takes the peer away");
    cr_assert_eq(sc_send(s, "x", 1, 0), -EDESTADDRREQ);
    fake_seen(e.f, 0, &seen);
    cr_assert_eq(seen.grants, 1, "the send region is asked for once");
    env_close(&e);
}

Test(socket, the_largest_datagram_goes_and_one_more_byte_does_not)
{
    static char big[SC_DGRAM_BYTES_MAX + 1];
    struct fake_options o = {.region_log2 = 17, .slots = 4};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s = dgram_new(&e);
    sc_addr to = addr_of(PORT_ECHO);

    cr_assert_eq(sc_sendto(s, big, sizeof(big), 0, &to), -EMSGSIZE);
    cr_assert_eq(sc_sendto(s, big, SC_DGRAM_BYTES_MAX, 0, &to), SC_DGRAM_BYTES_MAX);
    cr_assert_eq(sc_recv(s, big, sizeof(big), 0), SC_DGRAM_BYTES_MAX);
    env_close(&e);
    e = env_open("posix");
    s = dgram_new(&e);
    cr_assert_eq(sc_sendto(s, big, 16384, 0, &to), -EMSGSIZE, "more than the ring");
    env_close(&e);
}

Test(socket, datagrams_of_all_sizes_wrap_around_the_ring)
{
    struct fake_options o = {.region_log2 = 12};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s = dgram_new(&e);
    sc_addr to = addr_of(PORT_ECHO);
    uint8_t out[1500], in[1500];

    for (size_t n = 0; n < sizeof(out); n += 7) {
        memset(out, (int)n, sizeof(out));
        cr_assert_eq(sc_sendto(s, out, n, 0, &to), (ssize_t)n);
        cr_assert_eq(sc_recvfrom(s, in, sizeof(in), 0, NULL), (ssize_t)n);
        cr_assert_arr_eq(in, out, n);
    }
    env_close(&e);
}

Test(socket, an_unreachable_port_is_reported_once)
{
    struct env e = env_open("posix");
    sc_sock *s = dgram_new(&e);
    sc_addr to = addr_of(PORT_REFUSED);
    char c;

    cr_assert_eq(sc_connect(s, &to), 0);
    cr_assert_eq(sc_send(s, "x", 1, 0), 1);
    cr_assert_eq(sc_recv(s, &c, 1, 0), -ECONNREFUSED);
    cr_assert_eq(sc_recv(s, &c, 1, SC_MSG_DONTWAIT), -EAGAIN);
    fake_soft_error(e.f, sc_fileno(s), EHOSTUNREACH);
    cr_assert_eq(sc_poll_events(s, SC_POLLOUT), SC_POLLOUT | SC_POLLERR);
    cr_assert_eq(sc_send(s, "x", 1, 0), -EHOSTUNREACH);
    env_close(&e);
}

Test(socket, no_send_region_is_no_buffer_space)
{
    struct fake_options o = {.grant_refused = true};
    struct env e = env_open_with(&o, "posix");
    sc_sock *s = dgram_new(&e);
    sc_addr to = addr_of(PORT_ECHO);

    cr_assert_eq(sc_sendto(s, "x", 1, 0, &to), -ENOBUFS);
    env_close(&e);
}

Test(socket, an_idle_send_region_is_given_back_and_asked_for_again)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_ECHO);
    struct fake_seen seen;
    char c;

    fake_release(e.f, sc_fileno(s));
    for (int i = 0; i < 100; i++) {
        cr_assert_geq(sc_wait(e.lib, 10), 0);
        fake_seen(e.f, sc_fileno(s), &seen);
        if (seen.releases)
            break;
    }
    cr_assert_eq(seen.releases, 1);
    cr_assert_eq(seen.tx_region, 0);
    cr_assert_eq(sc_send(s, "x", 1, 0), 1);
    cr_assert_eq(sc_recv(s, &c, 1, 0), 1);
    fake_seen(e.f, sc_fileno(s), &seen);
    cr_assert_eq(seen.grants, 1);
    env_close(&e);
}

Test(socket, tcp_info_is_put_together_and_begun_again_when_it_was_torn)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_new(&e);
    uint64_t words[40];
    size_t len = sizeof(words);
    uint8_t part[21] = {[20] = 77};

    cr_assert_eq(sc_getsockopt(s, 6, SC_TCP_INFO, words, &len), 0);
    cr_assert_eq(len, 232);
    for (uint64_t i = 0; i < 29; i++)
        cr_assert_eq(words[i], 1000 + i);
    len = 20;
    cr_assert_eq(sc_getsockopt(s, SC_SOL_TCP, SC_TCP_INFO, part, &len), 0, "as much as fits");
    cr_assert_eq(len, 20);
    cr_assert_eq(memcmp(part, words, 20), 0);
    cr_assert_eq(part[20], 77);
    env_close(&e);
}

Test(socket, keys_of_fast_open_travel_whole)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_new(&e);
    struct fake_seen seen;
    uint8_t keys[32];

    for (unsigned i = 0; i < sizeof(keys); i++)
        keys[i] = (uint8_t)(i + 1);
    for (size_t len = 16; len <= 32; len += 16) {
        /* The fake daemon doesn't know the option; what matters is what it was sent. */
        cr_assert_eq(sc_setsockopt(s, SC_SOL_TCP, SC_TCP_FASTOPEN_KEY, keys, len), -ENOPROTOOPT);
        fake_seen(e.f, 0, &seen);
        cr_assert(seen.opt_level == 6 && seen.opt_name == 33 && seen.opt_scope == len);
        cr_assert_arr_eq(seen.opt_addr, keys, 16);
        cr_assert_eq(seen.opt_value & 0xff, len == 32 ? 17 : 0);
        cr_assert_eq(seen.opt_value2 & 0xff, len == 32 ? 25 : 0);
    }
    cr_assert_eq(sc_setsockopt(s, SC_SOL_TCP, SC_TCP_FASTOPEN_KEY, keys, 15), -EINVAL);
    cr_assert_eq(sc_setsockopt(s, SC_SOL_TCP, SC_TCP_FASTOPEN_KEY, keys, 0), -EINVAL);
    env_close(&e);
}

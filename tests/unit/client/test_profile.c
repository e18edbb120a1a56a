/* SPDX-License-Identifier: Apache-2.0 */
/* Profiles as data: constants, errno spaces, resolver numbers, classes, address forms, names. No daemon. */
#include <arpa/inet.h>

#include "tests/unit/client/client_test.h"

#define ABSENT (-77)

static const char *const names[] = {"posix", "uiflow2", "mpython", "usocket", "zerynth", "openmv"};
#define PROFILES 6

TestSuite(profile);

Test(profile, all_six_are_found_by_name_and_by_index)
{
    for (unsigned i = 0; i < PROFILES; i++) {
        cr_assert_not_null(sc_profile_find(names[i]));
        cr_assert_eq(sc_profile_at(i), sc_profile_find(names[i]));
        cr_assert_str_eq(sc_profile_at(i)->name, names[i]);
    }
    cr_assert_null(sc_profile_at(PROFILES));
    cr_assert_null(sc_profile_find("esp9000"));
    cr_assert_null(sc_profile_find(""));
}

Test(profile, the_default_comes_from_the_environment)
{
    unsetenv("SOCKGATE_PROFILE");
    cr_assert_str_eq(sc_profile_find(NULL)->name, "posix");
    setenv("SOCKGATE_PROFILE", "zerynth", 1);
    cr_assert_str_eq(sc_profile_find(NULL)->name, "zerynth");
    setenv("SOCKGATE_PROFILE", "nonsense", 1);
    cr_assert_null(sc_profile_find(NULL));
}

Test(profile, fields_are_those_of_the_table)
{
    static const struct {
        int listen, fill, loops, empty, inherits, refused, overflow, names, lenient, unit, errnos, exc;
    } want[PROFILES] = {
        {128, 0, 0, 0, 0, 0, SC_OVF_DROP, 1, 0, SC_UNIT_SEC_FLOAT, SC_ERRNO_LINUX, SC_EXC_OSERROR},
        {5, 0, 1, 1, 0, 1, SC_OVF_DROP, 1, 1, SC_UNIT_SEC_FLOAT, SC_ERRNO_NEWLIB, SC_EXC_OSERROR},
        {2, 0, 1, 1, 0, 1, SC_OVF_DROP, 1, 1, SC_UNIT_SEC_FLOAT, SC_ERRNO_NEWLIB, SC_EXC_OSERROR},
        {2, 0, 1, 1, 0, 1, SC_OVF_DROP, 0, 1, SC_UNIT_SEC_FLOAT, SC_ERRNO_NEWLIB, SC_EXC_OSERROR},
        {2, 1, 0, 0, 0, 1, SC_OVF_DROP, 0, 0, SC_UNIT_MS_INT, SC_ERRNO_LINUX, SC_EXC_ZERYNTH},
        {2, 0, 0, 0, 1, 1, SC_OVF_RESET, 0, 1, SC_UNIT_SEC_FLOAT, SC_ERRNO_LINUX, SC_EXC_OSERROR},
    };

    for (unsigned i = 0; i < PROFILES; i++) {
        const sc_profile *p = sc_profile_at(i);

        cr_assert_eq(p->listen_default, want[i].listen, "%s", p->name);
        cr_assert_eq(p->recv_fill, want[i].fill, "%s", p->name);
        cr_assert_eq(p->send_loops, want[i].loops, "%s", p->name);
        cr_assert_eq(p->empty_send_fails, want[i].empty, "%s", p->name);
        cr_assert_eq(p->accept_inherits, want[i].inherits, "%s", p->name);
        cr_assert_eq(p->refused_as_reset, want[i].refused, "%s", p->name);
        cr_assert_eq(p->backlog_overflow, want[i].overflow, "%s", p->name);
        cr_assert_eq(p->names_ok, want[i].names, "%s", p->name);
        cr_assert_eq(p->lenient_opts, want[i].lenient, "%s", p->name);
        cr_assert_eq(p->timeout_unit, want[i].unit, "%s", p->name);
        cr_assert_eq(p->errno_space, want[i].errnos, "%s", p->name);
        cr_assert_eq(p->exc_model, want[i].exc, "%s", p->name);
    }
}

Test(profile, constants_are_those_of_the_table)
{
    static const struct {
        const char *name;
        int linux_value, esp32, lwip, zerynth;
    } want[] = {
        {"AF_INET", 2, 2, 2, 0},
        {"AF_INET6", 10, 10, 10, 1},
        {"AF_CAN", ABSENT, ABSENT, ABSENT, 2},
        {"SOCK_STREAM", 1, 1, 1, 0},
        {"SOCK_DGRAM", 2, 2, 2, 1},
        {"SOCK_RAW", 3, 3, 3, 2},
        {"SOL_SOCKET", 1, 4095, 1, 65535},
        {"SO_REUSEADDR", 2, 4, 4, 4},
        {"SO_KEEPALIVE", 9, 8, ABSENT, 8},
        {"SO_BROADCAST", 6, 32, 32, ABSENT},
        {"SO_LINGER", 13, 128, ABSENT, ABSENT},
        {"SO_SNDTIMEO", 21, 0x1005, ABSENT, ABSENT},
        {"SO_RCVTIMEO", 20, 0x1006, ABSENT, 1},
        {"SO_ERROR", 4, 0x1007, ABSENT, ABSENT},
        {"SO_BINDTODEVICE", ABSENT, 0x100b, ABSENT, ABSENT},
        {"TCP_NODELAY", 1, 1, 64, ABSENT},
        {"TCP_KEEPIDLE", 4, 3, ABSENT, 3},
        {"TCP_KEEPINTVL", 5, 4, ABSENT, 4},
        {"TCP_KEEPCNT", 6, 5, ABSENT, 5},
        {"IPPROTO_IP", 0, 0, 0, ABSENT},
        {"IPPROTO_TCP", 6, 6, 6, 6},
        {"IPPROTO_UDP", 17, 17, ABSENT, 17},
        {"IP_ADD_MEMBERSHIP", 35, 3, 0x400, ABSENT},
        {"IP_DROP_MEMBERSHIP", 36, ABSENT, 0x401, ABSENT},
        {"MSG_PEEK", 2, 1, 1, ABSENT},
        {"MSG_DONTWAIT", 64, 8, 2, ABSENT},
        {"NO_SUCH_NAME", ABSENT, ABSENT, ABSENT, ABSENT},
    };

    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        const char *n = want[i].name;

        cr_assert_eq(sc_const(sc_profile_find("posix"), n, ABSENT), want[i].linux_value, "%s", n);
        cr_assert_eq(sc_const(sc_profile_find("uiflow2"), n, ABSENT), want[i].esp32, "%s", n);
        cr_assert_eq(sc_const(sc_profile_find("mpython"), n, ABSENT), want[i].esp32, "%s", n);
        cr_assert_eq(sc_const(sc_profile_find("usocket"), n, ABSENT), want[i].esp32, "%s", n);
        cr_assert_eq(sc_const(sc_profile_find("openmv"), n, ABSENT), want[i].lwip, "%s", n);
        cr_assert_eq(sc_const(sc_profile_find("zerynth"), n, ABSENT), want[i].zerynth, "%s", n);
    }
    cr_assert_eq(sc_const(NULL, "AF_INET", ABSENT), ABSENT);
}

Test(profile, errors_have_the_numbers_of_the_device)
{
    static const struct {
        int error, linux_number, newlib;
    } want[] = {
        {EAGAIN, 11, 11},        {ENOMEM, 12, 12},         {EINVAL, 22, 22},         {EBADF, 9, 9},
        {EPIPE, 32, 32},         {EOPNOTSUPP, 95, 95},     {EAFNOSUPPORT, 97, 106},  {EADDRINUSE, 98, 112},
        {ENETUNREACH, 101, 114}, {ECONNABORTED, 103, 113}, {ECONNRESET, 104, 104},   {ENOBUFS, 105, 105},
        {EISCONN, 106, 127},     {ENOTCONN, 107, 128},     {ETIMEDOUT, 110, 116},    {EHOSTUNREACH, 113, 118},
        {EALREADY, 114, 120},    {EINPROGRESS, 115, 119},  {EADDRNOTAVAIL, 99, 125}, {EMSGSIZE, 90, 122},
        {ENETDOWN, 100, 115},
    };

    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        cr_assert_eq(sc_error_number(sc_profile_find("posix"), -want[i].error), want[i].linux_number);
        cr_assert_eq(sc_error_number(sc_profile_find("openmv"), -want[i].error), want[i].linux_number);
        cr_assert_eq(sc_error_number(sc_profile_find("uiflow2"), -want[i].error), want[i].newlib, "%d",
                     want[i].error);
        cr_assert_eq(sc_error_number(sc_profile_find("usocket"), -want[i].error), want[i].newlib);
    }
}

Test(profile, a_refused_connection_shows_as_a_reset_on_devices)
{
    cr_assert_eq(sc_error_number(sc_profile_find("posix"), -ECONNREFUSED), 111);
    for (unsigned i = 1; i < PROFILES; i++)
        cr_assert_eq(sc_error_number(sc_profile_at(i), -ECONNREFUSED), 104, "%s", names[i]);
}

Test(profile, resolver_failures_are_negative_everywhere)
{
    for (unsigned i = 0; i < PROFILES; i++)
        for (int rc = SC_GAI_MEMORY; rc <= SC_GAI_NONAME; rc++)
            cr_assert_lt(sc_gai_number(sc_profile_at(i), rc), 0, "%s %d", names[i], rc);
    cr_assert_eq(sc_gai_number(sc_profile_find("openmv"), SC_GAI_NONAME), -2);
    cr_assert_eq(sc_gai_number(sc_profile_find("openmv"), SC_GAI_NO_SERVER), -6);
    cr_assert_eq(sc_gai_number(sc_profile_find("openmv"), SC_GAI_EMPTY), -16);
    cr_assert_eq(sc_gai_number(sc_profile_find("usocket"), SC_GAI_NONAME), -200);
    cr_assert_eq(sc_gai_number(sc_profile_find("usocket"), SC_GAI_MEMORY), -203);
    cr_assert_eq(sc_gai_number(sc_profile_find("posix"), -EINVAL), 22);
}

Test(profile, classes_follow_the_exception_model)
{
    const sc_profile *z = sc_profile_find("zerynth");
    const sc_profile *m = sc_profile_find("openmv");

    cr_assert_eq(sc_error_class(z, -ETIMEDOUT), SC_CLASS_TIMEOUT);
    cr_assert_eq(sc_error_class(z, -ECONNRESET), SC_CLASS_IOERROR);
    cr_assert_eq(sc_error_class(z, -EPROTONOSUPPORT), SC_CLASS_TYPE);
    cr_assert_eq(sc_error_class(z, SC_GAI_NONAME), SC_CLASS_IOERROR);
    cr_assert_eq(sc_error_class(m, -ETIMEDOUT), SC_CLASS_OSERROR);
    cr_assert_eq(sc_error_class(m, -EINVAL), SC_CLASS_OSERROR);
    cr_assert_eq(sc_addr_error_class(m, -EINVAL), SC_CLASS_VALUE);
    cr_assert_eq(sc_error_class(m, SC_BAD_FORM), SC_CLASS_TYPE);
    cr_assert_eq(sc_error_class(m, 5), SC_CLASS_NONE);
}

Test(profile, every_result_has_a_text)
{
    cr_assert_str_eq(sc_strerror(0), "success");
    cr_assert_str_neq(sc_strerror(-EINVAL), sc_strerror(-EBADF));
    for (int rc = SC_GAI_MIN - 2; rc <= SC_NONE + 2; rc++)
        cr_assert_gt(strlen(sc_strerror(rc)), 0);
    for (int rc = -5000; rc <= 1; rc++)
        cr_assert_gt(strlen(sc_strerror(rc)), 0);
    cr_assert_str_eq(sc_strerror(INT_MIN), "unknown result");
}

/* ---- Addresses
 * --------------------------------------------------------------------------------------------- */

Test(profile, five_address_forms_reach_the_same_address)
{
    const sc_profile *z = sc_profile_find("zerynth");
    const uint8_t quad[4] = {192, 168, 1, 10};
    sc_addr pair, text, four, five;
    char buf[SC_ADDR_TEXT_BYTES];

    cr_assert_eq(sc_addr_host_port(z, "192.168.1.10", 5555, &pair), 0);
    cr_assert_eq(sc_addr_host(z, "192.168.1.10", &text), 0);
    cr_assert_eq(sc_addr_quad(quad, 0, &four), 0);
    cr_assert_eq(sc_addr_quad(quad, 5555, &five), 0);
    cr_assert_eq(memcmp(&pair, &five, sizeof(pair)), 0);
    cr_assert_eq(memcmp(&text, &four, sizeof(text)), 0);
    cr_assert_eq(text.port, 0);
    cr_assert_str_eq(sc_addr_text(&pair, buf), "192.168.1.10");
    cr_assert_eq(sc_addr_host(sc_profile_find("openmv"), "1.2.3.4", &text), SC_BAD_FORM);
}

Test(profile, ports_outside_their_range_are_refused)
{
    static const long bad[] = {-1, 65536, 70000, LONG_MAX, LONG_MIN};
    const uint8_t quad[4] = {1, 2, 3, 4};
    sc_addr a;

    for (unsigned p = 0; p < PROFILES; p++) {
        for (unsigned i = 0; i < 5; i++)
            cr_assert_eq(sc_addr_host_port(sc_profile_at(p), "1.2.3.4", bad[i], &a), -EINVAL);
        cr_assert_eq(sc_addr_host_port(sc_profile_at(p), "1.2.3.4", 0, &a), 0);
        cr_assert_eq(sc_addr_host_port(sc_profile_at(p), "1.2.3.4", 65535, &a), 0);
    }
    cr_assert_eq(sc_addr_quad(quad, 65536, &a), -EINVAL);
}

Test(profile, an_empty_host_is_any_address)
{
    static const uint8_t any[4];
    sc_addr a;

    for (unsigned p = 0; p < PROFILES; p++) {
        memset(&a, 0xff, sizeof(a));
        cr_assert_eq(sc_addr_host_port(sc_profile_at(p), "", 80, &a), 0);
        cr_assert_arr_eq(a.ip, any, 4);
    }
}

Test(profile, ip_to_tuple_wants_four_numbers)
{
    static const char *const bad[] = {"",         "1.2.3",   "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ",
                                      " 1.2.3.4", "a.b.c.d", "1..2.3",    "0x1.2.3.4", "-1.2.3.4"};
    uint8_t ip[4];

    cr_assert_eq(sc_ip_to_tuple("192.168.0.255", ip), 0);
    cr_assert(ip[0] == 192 && ip[1] == 168 && ip[2] == 0 && ip[3] == 255);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(sc_ip_to_tuple(bad[i], ip), -EINVAL, "'%s'", bad[i]);
    cr_assert_eq(sc_ip_to_tuple(NULL, ip), -EINVAL);
}

static void hosts_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    cr_assert_not_null(f);
    cr_assert_eq(fputs(text, f) < 0, 0);
    cr_assert_eq(fclose(f), 0);
    setenv("SOCKGATE_HOSTS", path, 1);
}

Test(profile, names_are_looked_up_in_the_hosts_file_where_the_profile_allows_it)
{
    char path[] = "/tmp/sc-hosts-XXXXXX";
    const sc_profile *m = sc_profile_find("mpython");
    char buf[SC_ADDR_TEXT_BYTES];
    sc_addr a;

    close(mkstemp(path));
    hosts_write(path,
                "# comment gate\n::1 gate\n10.1.2.3\tfirst gate alias # gate2\n10.9.9.9 gate\n10.5.5.5 last");
    cr_assert_eq(sc_addr_host_port(m, "gate", 80, &a), 0);
    cr_assert_str_eq(sc_addr_text(&a, buf), "10.1.2.3", "the first IPv4 line that has it");
    cr_assert_eq(sc_addr_host_port(m, "ALIAS", 80, &a), 0);
    cr_assert_eq(sc_addr_host_port(m, "last", 80, &a), 0, "no newline at the end of the file");
    cr_assert_eq(sc_addr_host_port(m, "gate2", 80, &a), SC_GAI_NO_SERVER, "in a comment");
    cr_assert_eq(sc_addr_host_port(m, "no such", 80, &a), SC_GAI_NONAME, "no name has a space");
    cr_assert_eq(sc_addr_host_port(m, "300.1.2.3", 80, &a), SC_GAI_NONAME);
    cr_assert_eq(sc_addr_host_port(sc_profile_find("openmv"), "gate", 80, &a), -EINVAL);
    cr_assert_eq(sc_addr_host_port(sc_profile_find("usocket"), "gate", 80, &a), -EINVAL);
    unlink(path);
    cr_assert_eq(sc_addr_host_port(m, "gate", 80, &a), SC_GAI_NO_SERVER, "no hosts file");
}

Test(profile, getaddrinfo_gives_one_answer_in_the_numbers_of_the_profile)
{
    struct env e = env_open("zerynth");
    struct sc_gai res[2];
    char buf[SC_ADDR_TEXT_BYTES];

    cr_assert_eq(sc_getaddrinfo(e.lib, "127.0.0.1", 10000, 0, 0, 0, 0, res, 2), 1);
    cr_assert_eq(res[0].family, 0);
    cr_assert_eq(res[0].type, 0);
    cr_assert_eq(res[0].addr.port, 10000);
    cr_assert_str_eq(res[0].canonname, "");
    cr_assert_str_eq(sc_addr_text(&res[0].addr, buf), "127.0.0.1");
    cr_assert_eq(sc_getaddrinfo(e.lib, "127.0.0.1", 1, SC_INET, SC_DGRAM, 17, 0, res, 2), 1);
    cr_assert_eq(res[0].type, 1);
    cr_assert_eq(res[0].proto, 17);
    cr_assert_eq(sc_getaddrinfo(e.lib, "name.invalid", 1, 0, 0, 0, 0, res, 2), SC_GAI_NO_SERVER);
    cr_assert_eq(sc_getaddrinfo(e.lib, "1.2.3.4", 65536, 0, 0, 0, 0, res, 2), SC_GAI_SERVICE);
    cr_assert_eq(sc_getaddrinfo(e.lib, "1.2.3.4", 1, 77, 0, 0, 0, res, 2), SC_GAI_FAMILY);
    cr_assert_eq(sc_getaddrinfo(e.lib, NULL, 1, 0, 0, 0, 0, res, 2), SC_GAI_EMPTY);
    cr_assert_eq(sc_getaddrinfo(e.lib, "1.2.3.4", 1, 0, 0, 0, 0, res, 0), -EINVAL);
    env_close(&e);
}

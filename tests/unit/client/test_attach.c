/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching to daemons that are right, wrong, silent or not there; detaching; fork. */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/unit/client/client_test.h"

static unsigned open_fds(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 256; fd++) {
        struct stat st;

        n += fstat(fd, &st) == 0;
    }
    return n;
}

static void expect_fault(enum fake_fault fault, int rc, const char *text)
{
    struct fake_options o = {.fault = fault};
    struct fake *f = fake_start(&o);
    sc_lib *lib = (sc_lib *)(uintptr_t)1;
    int got = sc_lib_open(fake_path(f), NULL, &lib);

    cr_assert_eq(got, rc, "fault %d: %d (%s)", fault, got, sc_lib_open_error());
    cr_assert_not_null(strstr(sc_lib_open_error(), text), "fault %d: %s", fault, sc_lib_open_error());
    cr_assert_eq(lib, (sc_lib *)(uintptr_t)1, "nothing is written on failure");
    fake_stop(f);
}

Test(attach, another_release_is_told_from_a_broken_one)
{
    expect_fault(FAKE_OTHER_VERSION, -EPROTONOSUPPORT, "install both from one release");
    expect_fault(FAKE_BAD_VERSION, -EPROTONOSUPPORT, "version");
}

Test(attach, a_refusal_carries_the_daemons_own_words)
{
    expect_fault(FAKE_REFUSES, -ENOSPC, "raise sessions in the config");
}

Test(attach, what_is_no_daemon_is_refused)
{
    expect_fault(FAKE_HANGS_UP, -EPROTO, "hung up");
    expect_fault(FAKE_TALKS_NONSENSE, -EPROTO, "no sockgated");
    expect_fault(FAKE_WRONG_ANSWER, -EPROTO, "something else");
    expect_fault(FAKE_NO_FDS, -EPROTO, "descriptors");
}

Test(attach, a_segment_is_checked_before_it_is_used)
{
    expect_fault(FAKE_BAD_MAGIC, -EPROTO, "magic");
    expect_fault(FAKE_BAD_SIZE, -EPROTO, "size");
    expect_fault(FAKE_BAD_SLOTS, -EPROTO, "slots");
    expect_fault(FAKE_BAD_RINGS, -EPROTO, "ring");
    expect_fault(FAKE_BAD_HEAP, -EPROTO, "heap");
    expect_fault(FAKE_UNSEALED, -EPROTO, "sealed");
    expect_fault(FAKE_BAD_STATUS, -EPROTO, "status");
}

Test(attach, a_silent_daemon_is_given_up)
{
    int64_t start = now_ms();

    expect_fault(FAKE_SILENT, -ETIMEDOUT, "did not answer");
    cr_assert(now_ms() - start >= 4900 && now_ms() - start < 7000);
}

Test(attach, no_daemon_has_an_error_for_each_reason)
{
    char path[] = "/tmp/sc-attach-XXXXXX", sock[64], longest[200];
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    sc_lib *lib;
    int fd;

    cr_assert_not_null(mkdtemp(path));
    (void)snprintf(sock, sizeof(sock), "%s/s", path);
    cr_assert_eq(sc_lib_open(sock, NULL, &lib), -ENOENT);
    cr_assert_not_null(strstr(sc_lib_open_error(), "start sockgated"));
    strcpy(sa.sun_path, sock);
    fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    close(fd);
    cr_assert_eq(sc_lib_open(sock, NULL, &lib), -ECONNREFUSED);
    unlink(sock);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_eq(sc_lib_open(sock, NULL, &lib), -EPROTO, "a socket of another kind");
    close(fd);
    unlink(sock);
    rmdir(path);
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    cr_assert_eq(sc_lib_open(longest, NULL, &lib), -ENAMETOOLONG);
}

Test(attach, arguments_are_checked)
{
    struct fake *f = fake_start(NULL);
    sc_lib *lib;

    cr_assert_eq(sc_lib_open(fake_path(f), "esp9000", &lib), -EINVAL);
    cr_assert_eq(sc_lib_open(fake_path(f), NULL, NULL), -EINVAL);
    setenv("SOCKGATE_CONTROL", fake_path(f), 1);
    cr_assert_eq(sc_lib_open(NULL, "openmv", &lib), 0);
    cr_assert_str_eq(sc_lib_profile(lib)->name, "openmv");
    cr_assert_eq(sc_lib_set_profile(lib, sc_profile_find("posix")), 0);
    cr_assert_eq(sc_lib_set_profile(lib, NULL), -EINVAL);
    cr_assert_str_eq(sc_lib_profile(lib)->name, "posix");
    sc_lib_close(lib);
    sc_lib_close(NULL);
    fake_stop(f);
}

Test(attach, the_daemons_address_is_told)
{
    struct env e = env_open("posix");
    char buf[SC_ADDR_TEXT_BYTES];
    sc_addr a;

    cr_assert_eq(sc_lib_address(e.lib, &a), 0);
    cr_assert_str_eq(sc_addr_text(&a, buf), "10.0.0.2");
    env_close(&e);
}

Test(attach, nothing_is_left_open_after_close_or_failure)
{
    unsigned before = open_fds();

    for (int i = 0; i < 3; i++) {
        struct env e = env_open("posix");

        (void)stream_to(&e, PORT_ECHO); /* never released */
        cr_assert_geq(sc_event_fd(e.lib), 0);
        env_close(&e);
    }
    expect_fault(FAKE_BAD_SLOTS, -EPROTO, "slots");
    expect_fault(FAKE_NO_FDS, -EPROTO, "descriptors");
    cr_assert_eq(open_fds(), before);
}

Test(attach, closing_hangs_up)
{
    struct env e = env_open("posix");
    struct fake_seen seen;

    fake_seen(e.f, 0, &seen);
    cr_assert_eq(seen.sessions, 1);
    sc_lib_close(e.lib);
    for (int i = 0; i < 100 && seen.sessions; i++) {
        usleep(10000);
        fake_seen(e.f, 0, &seen);
    }
    cr_assert_eq(seen.sessions, 0);
    fake_stop(e.f);
}

/* What the child of a fork finds; its exit status is the number of the first check that failed. */
static int child_checks(struct env *e, sc_sock *s, int event_fd)
{
    sc_addr a = addr_of(PORT_ECHO);
    sc_sock *out;
    struct stat st;
    char c;

    if (sc_send(s, "x", 1, 0) != -EBADF || sc_recv(s, &c, 1, 0) != -EBADF)
        return 1;
    if (sc_socket(e->lib, SC_INET, SC_STREAM, 0, &out) != -EBADF || sc_connect(s, &a) != -EBADF)
        return 2;
    if (sc_wait(e->lib, 1000) != -EBADF || sc_event_fd(e->lib) != -EBADF)
        return 3;
    if (sc_poll_events(s, SC_POLLIN) != SC_POLLNVAL || sc_settimeout(s, 1) != -EBADF)
        return 4;
    if (fstat(event_fd, &st) == 0)
        return 5; /* the parent's descriptors are closed */
    if (sc_close(s) != 0)
        return 6;
    sc_release(s);
    sc_lib_close(e->lib);
    return 0;
}

Test(attach, a_forked_child_can_not_touch_its_parents_sockets)
{
    struct env e = env_open("posix");
    sc_sock *s = stream_to(&e, PORT_ECHO);
    int event_fd = sc_event_fd(e.lib);
    struct fake_seen seen;
    char c = 0;
    int status;
    pid_t pid;

    cr_assert_geq(event_fd, 0);
    pid = fork();
    if (pid == 0)
        _exit(child_checks(&e, s, event_fd));
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status));
    cr_assert_eq(WEXITSTATUS(status), 0, "check %d failed", WEXITSTATUS(status));
    cr_assert_eq(sc_send(s, "x", 1, 0), 1, "the parent goes on");
    cr_assert_eq(sc_recv(s, &c, 1, 0), 1);
    fake_seen(e.f, 0, &seen);
    cr_assert_eq(seen.closes, 0);
    env_close(&e);
}

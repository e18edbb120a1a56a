/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/control_socket.h"

static struct config cfg;
static char folder[64], error[CONFIG_ERROR_MAX];

static void setup(void)
{
    config_init(&cfg);
    strcpy(folder, "/tmp/sockgate-cs.XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    (void)snprintf(cfg.control_path, sizeof(cfg.control_path), "%s/sub/control.sock", folder);
}

static void teardown(void)
{
    char sub[80];

    (void)unlink(cfg.control_path);
    (void)snprintf(sub, sizeof(sub), "%s/sub", folder);
    (void)rmdir(sub);
    (void)rmdir(folder);
}

static int open_it(struct control_socket *s)
{
    return control_socket_open(s, &cfg, error, sizeof(error));
}

TestSuite(control_socket, .init = setup, .fini = teardown);

Test(control_socket, makes_its_folder_and_has_the_mode_asked_for)
{
    struct control_socket s;
    struct stat st;

    cfg.control_mode = 0640;
    cr_assert_eq(open_it(&s), 0, "%s", error);
    cr_assert_eq(lstat(cfg.control_path, &st), 0);
    cr_assert(S_ISSOCK(st.st_mode));
    cr_assert_eq(st.st_mode & 0777, 0640);
    control_socket_close(&s);
    cr_assert_eq(lstat(cfg.control_path, &st), -1, "it is removed at the end");
    control_socket_close(&s);
}

Test(control_socket, second_daemon_is_refused_and_first_goes_on)
{
    struct control_socket first, second;
    struct stat st;

    cr_assert_eq(open_it(&first), 0);
    cr_assert_eq(open_it(&second), -EADDRINUSE);
    cr_assert_not_null(strstr(error, "another sockgated serves"), "%s", error);
    cr_assert_not_null(strstr(error, "--control"), "%s", error);
    cr_assert_eq(lstat(cfg.control_path, &st), 0, "the first one's socket is untouched");
    control_socket_close(&first);
}

Test(control_socket, stale_socket_is_replaced)
{
    struct control_socket s, next;

    cr_assert_eq(open_it(&s), 0);
    (void)close(s.fd); /* As kill -9 leaves it. */
    cr_assert_eq(open_it(&next), 0, "%s", error);
    control_socket_close(&next);
}

Test(control_socket, file_that_is_no_socket_is_left_alone)
{
    struct control_socket s;
    struct stat st;
    FILE *f;

    cr_assert_eq(open_it(&s), 0);
    control_socket_close(&s);
    f = fopen(cfg.control_path, "w");
    cr_assert_not_null(f);
    (void)fclose(f);
    cr_assert_eq(open_it(&s), -EEXIST);
    cr_assert_not_null(strstr(error, "is no socket"), "%s", error);
    cr_assert_eq(lstat(cfg.control_path, &st), 0);
}

Test(control_socket, another_daemons_socket_is_not_removed_at_the_end)
{
    struct control_socket s, other;
    struct stat st;

    cr_assert_eq(open_it(&s), 0);
    (void)unlink(cfg.control_path);
    cr_assert_eq(open_it(&other), 0);
    control_socket_close(&s);
    cr_assert_eq(lstat(cfg.control_path, &st), 0);
    control_socket_close(&other);
}

Test(control_socket, unknown_group_and_impossible_folder_are_told)
{
    struct control_socket s;

    strcpy(cfg.control_group, "no-such-group-here");
    cr_assert_eq(open_it(&s), -EINVAL);
    cr_assert_not_null(strstr(error, "no group \"no-such-group-here\""), "%s", error);
    cfg.control_group[0] = '\0';
    strcpy(cfg.control_path, "/nonexistent/deep/control.sock");
    cr_assert_lt(open_it(&s), 0);
    cr_assert_not_null(strstr(error, "/nonexistent/deep"), "%s", error);
}

Test(control_socket, path_of_another_program_is_told)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct control_socket s;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(cfg.control_path, sizeof(cfg.control_path), "%s/stream", folder);
    strcpy(a.sun_path, cfg.control_path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_lt(open_it(&s), 0);
    cr_assert_not_null(strstr(error, "is in use"), "%s", error);
    (void)close(fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The stored secret: made once, kept, and not taken from a file that it can't be. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/secret.h"

#define PROCESSES 8u

static char folder[] = "/tmp/sockgate-secret.XXXXXX";
static char path[64], error[256];
static uint8_t secret[SECRET_BYTES];

static void start(void)
{
    cr_assert_not_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/secret", folder);
}

/* What lies in the folder. */
static unsigned files(void)
{
    DIR *d = opendir(folder);
    unsigned n = 0;

    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

static void stop(void)
{
    (void)unlink(path);
    cr_assert_eq(rmdir(folder), 0, "something was left behind");
}

TestSuite(secret, .init = start, .fini = stop);

static int load(void)
{
    error[0] = '\0';
    return secret_load(path, secret, error, sizeof(error));
}

static void put(const char *bytes, size_t n, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, n), (ssize_t)n);
    cr_assert_eq(fchmod(fd, mode), 0);
    (void)close(fd);
}

Test(secret, is_made_once_for_its_owner_alone_and_kept)
{
    uint8_t first[SECRET_BYTES], zero[SECRET_BYTES] = {0};
    struct stat st;

    cr_assert_eq(load(), 0, "%s", error);
    memcpy(first, secret, sizeof(first));
    cr_assert(memcmp(first, zero, sizeof(zero)) != 0);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert(st.st_size == SECRET_BYTES && (st.st_mode & 07777) == 0600);
    cr_assert_eq(files(), 1);
    cr_assert_eq(load(), 0);
    cr_assert_arr_eq(first, secret, sizeof(first));
    (void)unlink(path);
    cr_assert_eq(load(), 0);
    cr_assert(memcmp(first, secret, sizeof(first)) != 0, "a new one is another");
}

/* Several daemons that start at once agree on one. */
Test(secret, whoever_is_first_wins)
{
    int results[2];

    cr_assert_eq(pipe(results), 0);
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (fork())
            continue;
        if (load())
            memset(secret, 0, sizeof(secret));
        _exit(write(results[1], secret, sizeof(secret)) != sizeof(secret));
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        uint8_t theirs[SECRET_BYTES];

        cr_assert_eq(read(results[0], theirs, sizeof(theirs)), (ssize_t)sizeof(theirs));
        cr_assert_eq(load(), 0, "%s", error);
        cr_assert_arr_eq(secret, theirs, sizeof(theirs));
    }
    while (wait(NULL) > 0)
        ;
    cr_assert_eq(files(), 1);
}

Test(secret, file_that_is_none_is_refused_and_left_alone)
{
    static const char text[64] = "not it";

    put(text, 31, 0600);
    cr_assert_eq(load(), -EBADMSG);
    cr_assert_not_null(strstr(error, path), "%s", error);
    put(text, 33, 0600);
    cr_assert_eq(load(), -EBADMSG);
    put(text, 32, 0640);
    cr_assert_eq(load(), -EPERM);
    put(text, 32, 0602);
    cr_assert_eq(load(), -EPERM);
    put(text, 32, 0400);
    cr_assert_eq(load(), 0, "read only will do");
    (void)unlink(path);
    cr_assert_eq(symlink("/dev/zero", path), 0);
    cr_assert_eq(load(), -ELOOP, "a link is not followed");
    (void)unlink(path);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(load(), -EBADMSG, "nor waited for");
}

Test(secret, folder_that_is_missing_is_told)
{
    (void)snprintf(path, sizeof(path), "%s/none/secret", folder);
    cr_assert_eq(load(), -ENOENT);
    cr_assert_not_null(strstr(error, "No such file"), "%s", error);
}

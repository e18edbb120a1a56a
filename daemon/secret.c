/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

int secret_random(uint8_t *ret, size_t bytes)
{
    while (bytes) {
        ssize_t n = getrandom(ret, bytes, 0);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            ret += n;
            bytes -= (size_t)n;
        }
    }
    return 0;
}

static int fail(char *error, size_t bytes, const char *path, const char *what, int rc)
{
    (void)snprintf(error, bytes, "%s: %s", path, what ? what : strerror(-rc));
    return rc;
}

static int read_all(int fd, const char *path, uint8_t ret[SECRET_BYTES], char *error, size_t error_bytes)
{
    struct stat st;

    if (fstat(fd, &st))
        return fail(error, error_bytes, path, NULL, -errno);
    if (!S_ISREG(st.st_mode) || st.st_size != SECRET_BYTES)
        return fail(error, error_bytes, path, "is no secret of 32 bytes; remove it, and a new one is made",
                    -EBADMSG);
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        return fail(error, error_bytes, path, "can be read by others; remove it, and a new one is made",
                    -EPERM);
    if (read(fd, ret, SECRET_BYTES) != SECRET_BYTES)
        return fail(error, error_bytes, path, NULL, errno ? -errno : -EIO);
    return 0;
}

/* A whole file under a name of its own. */
static int write_new(const char *path, const uint8_t secret[SECRET_BYTES])
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    int rc = 0;

    if (fd < 0)
        return -errno;
    errno = EIO;
    if (write(fd, secret, SECRET_BYTES) != SECRET_BYTES || fsync(fd))
        rc = -errno;
    (void)close(fd);
    if (rc)
        (void)unlink(path);
    return rc;
}

/* The name it is known by comes last: link(2) does nothing when another was first. */
static int create(const char *path, char *error, size_t error_bytes)
{
    uint8_t secret[SECRET_BYTES];
    char temporary[PATH_MAX];
    int rc = secret_random(secret, sizeof(secret));

    if (!rc &&
        snprintf(temporary, sizeof(temporary), "%s.%ld", path, (long)getpid()) >= (int)sizeof(temporary))
        rc = -ENAMETOOLONG;
    if (!rc) {
        (void)unlink(temporary); /* Of one that was killed in the middle, with our number. */
        rc = write_new(temporary, secret);
    }
    if (rc)
        return fail(error, error_bytes, path, NULL, rc);
    if (link(temporary, path) && errno != EEXIST)
        rc = fail(error, error_bytes, path, NULL, -errno);
    (void)unlink(temporary);
    return rc;
}

int secret_load(const char *path, uint8_t ret[SECRET_BYTES], char *error, size_t error_bytes)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), rc;

    if (fd < 0 && errno == ENOENT) {
        rc = create(path, error, error_bytes);
        if (rc)
            return rc;
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    }
    if (fd < 0)
        return fail(error, error_bytes, path, NULL, -errno);
    rc = read_all(fd, path, ret, error, error_bytes);
    (void)close(fd);
    return rc;
}

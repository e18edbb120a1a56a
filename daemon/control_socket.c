/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/control_socket.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

static_assert(CONFIG_TEXT_MAX <= sizeof(((struct sockaddr_un *)0)->sun_path), "a path fits an address");

static int fail(char *error, size_t bytes, int rc, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static int fail(char *error, size_t bytes, int rc, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(error, bytes, format, ap);
    va_end(ap);
    return rc;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    memcpy(a.sun_path, path, strlen(path) + 1);
    return a;
}

/* The folder of the socket, or "." */
static void folder_of(const char *path, char *ret)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;

    if (!slash) {
        memcpy(ret, ".", 2);
        return;
    }
    n = n ? n : 1; /* "/x" lies in "/". */
    memcpy(ret, path, n);
    ret[n] = '\0';
}

static int make_folder(struct control_socket *s, char *error, size_t bytes)
{
    char folder[CONFIG_TEXT_MAX];

    folder_of(s->path, folder);
    s->made_folder = mkdir(folder, 0755) == 0;
    if (s->made_folder || errno == EEXIST)
        return 0;
    return fail(
        error, bytes, -errno,
        "the folder %s of the control socket can't be made: %s; make it, or choose another with --control",
        folder, strerror(errno));
}

/* The address is taken. By a daemon that is alive, or by what one left behind? */
static int clear_stale(const char *path, char *error, size_t bytes)
{
    struct sockaddr_un a = address_of(path);
    struct stat st;
    int fd, rc;

    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
        return fail(error, bytes, -EEXIST, "%s exists and is no socket; choose another path with --control",
                    path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(error, bytes, -errno, "the control socket can't be made: %s", strerror(errno));
    rc = connect(fd, (struct sockaddr *)&a, sizeof(a)) ? -errno : 0;
    (void)close(fd);
    if (rc == 0 || rc == -EAGAIN) /* EAGAIN: alive, and its backlog is full. */
        return fail(error, bytes, -EADDRINUSE,
                    "another sockgated serves %s; stop it, or choose another path with --control", path);
    if (rc != -ECONNREFUSED && rc != -ENOENT)
        return fail(error, bytes, rc, "%s is in use (%s); choose another path with --control", path,
                    strerror(-rc));
    if (unlink(path) && errno != ENOENT)
        return fail(error, bytes, -errno, "the stale control socket %s can't be removed: %s", path,
                    strerror(errno));
    return 0;
}

static int bind_path(int fd, const char *path, char *error, size_t bytes)
{
    struct sockaddr_un a = address_of(path);
    int rc;

    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return 0;
    if (errno == EADDRINUSE) {
        rc = clear_stale(path, error, bytes);
        if (rc)
            return rc;
        if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
            return 0;
    }
    return fail(error, bytes, -errno,
                "the control socket %s can't be made: %s; choose another with --control", path,
                strerror(errno));
}

static int set_access(const struct control_socket *s, const struct config *cfg, char *error, size_t bytes)
{
    const struct group *gr;

    if (cfg->control_group[0]) {
        errno = 0;
        gr = getgrnam(cfg->control_group);
        if (!gr)
            return fail(error, bytes, -EINVAL, "control.group: there is no group \"%s\" on this system",
                        cfg->control_group);
        if (chown(s->path, (uid_t)-1, gr->gr_gid))
            return fail(error, bytes, -errno, "control.group: %s can't be given to group %s: %s", s->path,
                        cfg->control_group, strerror(errno));
    }
    if (chmod(s->path, cfg->control_mode))
        return fail(error, bytes, -errno, "control.mode: %s: %s", s->path, strerror(errno));
    return 0;
}

int control_socket_open(struct control_socket *s, const struct config *cfg, char *error, size_t bytes)
{
    struct stat st;
    mode_t mask;
    int rc;

    s->fd = -1;
    (void)snprintf(s->path, sizeof(s->path), "%s", cfg->control_path);
    rc = make_folder(s, error, bytes);
    if (rc)
        return rc;
    s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        return fail(error, bytes, -errno, "the control socket can't be made: %s", strerror(errno));
    mask = umask(0177); /* Closed to others until group and mode are set. */
    rc = bind_path(s->fd, s->path, error, bytes);
    (void)umask(mask);
    if (rc) {
        (void)close(s->fd);
        s->fd = -1;
        return rc;
    }
    if (lstat(s->path, &st) == 0) {
        s->dev = st.st_dev;
        s->ino = st.st_ino;
    }
    rc = set_access(s, cfg, error, bytes);
    if (!rc && listen(s->fd, BACKLOG))
        rc = fail(error, bytes, -errno, "the control socket %s: %s", s->path, strerror(errno));
    if (rc)
        control_socket_close(s);
    return rc;
}

void control_socket_close(struct control_socket *s)
{
    struct stat st;

    if (s->fd < 0)
        return;
    if (lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
        (void)unlink(s->path); /* If it can't be removed, the next daemon sees that it is stale. */
    (void)close(s->fd);
    s->fd = -1;
}

int control_socket_chown(const struct control_socket *s, uid_t uid)
{
    char folder[CONFIG_TEXT_MAX];

    folder_of(s->path, folder);
    if (lchown(s->path, uid, (gid_t)-1) || (s->made_folder && lchown(folder, uid, (gid_t)-1)))
        return -errno;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers that wait for their other end on a socket leave its file behind when their process is killed, and
 * refuse to start while it is there. A file that nobody listens on is taken away.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hw/dpdk_int.h"

/** A driver that listens: when its arguments hold `if_has` (NULL: always) and not `unless`. */
static const struct {
    const char *driver, *path_key, *if_has, *unless;
} listeners[] = {
    {"net_memif", "socket=", "role=server", "socket-abstract=yes"},
    {"net_memif", "socket=", "role=master", "socket-abstract=yes"},
    {"net_vhost", "iface=", NULL, "client=1"},
    {"net_virtio_user", "path=", "server=1", "\n"},
};

static bool path_of(const char *devargs, const char *key, char *ret, size_t bytes)
{
    const char *at = strstr(devargs, key);
    size_t len;

    /* A key begins behind a comma: "socket=" is no part of another. */
    while (at && at != devargs && at[-1] != ',')
        at = strstr(at + 1, key);
    if (!at)
        return false;
    at += strlen(key);
    len = strcspn(at, ",");
    if (!len || len >= bytes)
        return false;
    memcpy(ret, at, len);
    ret[len] = '\0';
    return true;
}

/** A socket's file that is bound to no socket; one of another type would answer EPROTOTYPE. */
static bool is_stale(const struct sockaddr_un *addr)
{
    struct stat st;
    bool stale;
    int fd;

    if (lstat(addr->sun_path, &st) || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    stale = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) && errno == ECONNREFUSED;
    (void)close(fd);
    return stale;
}

void dpdk_socket_clear(const char *devargs)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    for (size_t i = 0; i < sizeof(listeners) / sizeof(listeners[0]); i++) {
        if (strncmp(devargs, listeners[i].driver, strlen(listeners[i].driver)) != 0 ||
            (listeners[i].if_has && !strstr(devargs, listeners[i].if_has)) ||
            strstr(devargs, listeners[i].unless))
            continue;
        if (path_of(devargs, listeners[i].path_key, addr.sun_path, sizeof(addr.sun_path)) && is_stale(&addr))
            (void)unlink(addr.sun_path);
    }
}

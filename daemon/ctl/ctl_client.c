/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ctl/ctl_client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/abi/abi.h"

static int fail(struct ctl *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct ctl *c, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(c->error, sizeof(c->error), format, ap);
    va_end(ap);
    return -1;
}

static int fail_connect(struct ctl *c, int error)
{
    switch (error) {
    case ENOENT:
    case ECONNREFUSED:
        return fail(c, "no sockgated serves %s; start it, or name its socket with --control", c->path);
    case EACCES:
        return fail(c, "you may not connect to %s; see control.mode and control.group in sockgated.conf(5)",
                    c->path);
    default:
        return fail(c, "%s: %s; is it the control socket of a sockgated?", c->path, strerror(error));
    }
}

static int hello(struct ctl *c)
{
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;
    Sockgate__HelloRequest h = SOCKGATE__HELLO_REQUEST__INIT;
    static char program[] = "sockgatectl";
    Sockgate__Response *res;
    int rc = 0;

    h.magic = SG_ABI_MAGIC;
    h.program = program;
    req.body_case = SOCKGATE__REQUEST__BODY_HELLO;
    req.hello = &h;
    res = ctl_request(c, &req);
    if (!res)
        return -1;
    if (res->body_case != SOCKGATE__RESPONSE__BODY_HELLO)
        rc = fail(c, "%s: what answers there is no sockgated of this release", c->path);
    sockgate__response__free_unpacked(res, NULL);
    return rc;
}

int ctl_open(struct ctl *c, const char *path)
{
    const struct timeval timeout = {.tv_sec = CTL_TIMEOUT_S};
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    c->fd = -1;
    c->path = path;
    if (!*path || strlen(path) >= sizeof(a.sun_path))
        return fail(c, "a path of 1 to %zu characters is needed for the control socket",
                    sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return fail(c, "socket: %s", strerror(errno));
    (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    (void)setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(c->fd, (struct sockaddr *)&a, sizeof(a))) {
        int error = errno;

        ctl_close(c);
        return fail_connect(c, error);
    }
    if (hello(c)) {
        ctl_close(c);
        return -1;
    }
    return 0;
}

void ctl_close(struct ctl *c)
{
    if (c->fd >= 0)
        (void)close(c->fd);
    c->fd = -1;
}

Sockgate__Response *ctl_request(struct ctl *c, const Sockgate__Request *req)
{
    static uint8_t packet[CTL_PACKET_MAX];
    size_t bytes = sockgate__request__get_packed_size(req);
    Sockgate__Response *res;
    ssize_t n;

    if (bytes > sizeof(packet)) {
        (void)fail(c, "the request is too long");
        return NULL;
    }
    (void)sockgate__request__pack(req, packet);
    n = send(c->fd, packet, bytes, MSG_NOSIGNAL);
    if (n >= 0)
        n = recv(c->fd, packet, sizeof(packet), MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        (void)fail(c, "sockgated at %s did not answer within %d s; it may be stopped or overloaded", c->path,
                   CTL_TIMEOUT_S);
        return NULL;
    }
    if (n <= 0) {
        (void)fail(c, "sockgated at %s closed the connection%s%s", c->path, n < 0 ? ": " : "",
                   n < 0 ? strerror(errno) : "");
        return NULL;
    }
    res = (size_t)n <= sizeof(packet) ? sockgate__response__unpack(NULL, (size_t)n, packet) : NULL;
    if (!res) {
        (void)fail(c, "%s: the answer is no message of the control protocol", c->path);
        return NULL;
    }
    if (res->error) {
        (void)fail(c, "sockgated: %s", *res->message ? res->message : strerror(-res->error));
        sockgate__response__free_unpacked(res, NULL);
        return NULL;
    }
    return res;
}

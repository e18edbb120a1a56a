/* SPDX-License-Identifier: Apache-2.0 */
/* sockgatectl's connection to the daemon: one request, one answer. Blocks, for a bounded time. */
#ifndef DAEMON_CTL_CLIENT_H
#define DAEMON_CTL_CLIENT_H

#include "control.pb-c.h"

#define CTL_PATH_DEFAULT "/run/sockgate/control.sock"
#define CTL_TIMEOUT_S    5
#define CTL_ERROR_MAX    512
#define CTL_PACKET_MAX   65536

struct ctl {
    int fd;
    const char *path;
    char error[CTL_ERROR_MAX]; /* one line: why the last call failed and what to do */
};

/** Connect and say hello. Returns 0, or -1 with c->error set. */
int ctl_open(struct ctl *c, const char *path);
void ctl_close(struct ctl *c);

/** Returns the answer, to be freed with sockgate__response__free_unpacked(), or NULL with c->error set. */
Sockgate__Response *ctl_request(struct ctl *c, const Sockgate__Request *req);

#endif

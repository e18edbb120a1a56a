/* SPDX-License-Identifier: Apache-2.0 */
/* The listening end of the control socket: made, guarded against a second daemon, removed again. */
#ifndef DAEMON_CONTROL_SOCKET_H
#define DAEMON_CONTROL_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/config.h"

struct control_socket {
    int fd; /* listening, non-blocking; -1: none */
    char path[CONFIG_TEXT_MAX];
    dev_t dev; /* of the file at `path`: it is removed only while it is still ours */
    ino_t ino;
    bool made_folder;
};

/**
 * Listen at control.path with its mode and group. Makes the last folder of the path where it is missing;
 * removes a socket that nobody listens on any more.
 * @param error  on failure: one line that says what is wrong and what to do
 * @return 0 or -errno (-EADDRINUSE: another daemon serves there)
 */
int control_socket_open(struct control_socket *s, const struct config *cfg, char *error, size_t error_bytes);

/** Stop listening and remove the file; nothing when it is closed. */
void control_socket_close(struct control_socket *s);

/**
 * Hand the file, and the folder if we made it, over to the user that the daemon will become, so that it can
 * remove the file. Returns 0 or -errno.
 */
int control_socket_chown(const struct control_socket *s, uid_t uid);

#endif

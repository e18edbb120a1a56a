/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stored secret: 32 random bytes in a file of the daemon's own, from which it derives what should be the
 * same after a restart: addresses made by itself (RFC 7217), Fast Open cookies (RFC 7413). For the starting
 * thread.
 */
#ifndef DAEMON_SECRET_H
#define DAEMON_SECRET_H

#include <stddef.h>
#include <stdint.h>

#define SECRET_BYTES 32u

/**
 * Read the secret from `path`; where there is no file yet, make one, whole or not at all, that only its owner
 * can read. When two do so at the same time both get the same secret.
 * @param error  on failure: one line that says what is wrong and what to do
 * @return 0 or -errno; -EBADMSG: the file is not a secret, -EPERM: others can read or write it
 */
int secret_load(const char *path, uint8_t ret[SECRET_BYTES], char *error, size_t error_bytes);

/** All of `ret`, unpredictable. Returns 0 or -errno. */
int secret_random(uint8_t *ret, size_t bytes);

#endif

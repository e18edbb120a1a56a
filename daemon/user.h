/* SPDX-License-Identifier: Apache-2.0 */
/* What the process may do: its user, and how many descriptors it may have. */
#ifndef DAEMON_USER_H
#define DAEMON_USER_H

#include <stddef.h>
#include <sys/types.h>

/**
 * Find the user that `name` names.
 * @param error  on failure: one line that says what is wrong and what to do
 * @return 0, or -EINVAL (no such user), -EPERM (we are neither root nor that user)
 */
int user_find(const char *name, uid_t *ret_uid, gid_t *ret_gid, char *error, size_t error_bytes);

/** Become that user with its groups, for good; nothing when we are it. Before any thread is started. */
int user_become(const char *name, uid_t uid, gid_t gid, char *error, size_t error_bytes);

/** Raise the soft limit of open descriptors to the hard one: sessions take several each. */
void user_raise_descriptors(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int user_find(const char *name, uid_t *ret_uid, gid_t *ret_gid, char *error, size_t error_bytes)
{
    const struct passwd *pw = getpwnam(name);

    if (!pw) {
        (void)snprintf(error, error_bytes,
                       "daemon.user: there is no user \"%s\" on this system; make it (systemd-sysusers), or "
                       "leave the setting empty",
                       name);
        return -EINVAL;
    }
    if (geteuid() != 0 && geteuid() != pw->pw_uid) {
        (void)snprintf(
            error, error_bytes,
            "daemon.user: only root can become \"%s\"; start sockgated as root or leave the setting "
            "empty",
            name);
        return -EPERM;
    }
    *ret_uid = pw->pw_uid;
    *ret_gid = pw->pw_gid;
    return 0;
}

int user_become(const char *name, uid_t uid, gid_t gid, char *error, size_t error_bytes)
{
    if (geteuid() == uid)
        return 0;
    if (initgroups(name, gid) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) {
        (void)snprintf(error, error_bytes, "daemon.user: can't become \"%s\": %s", name, strerror(errno));
        return -errno;
    }
    return 0;
}

void user_raise_descriptors(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r); /* Allowed up to the hard limit; else the limit stays. */
    }
}

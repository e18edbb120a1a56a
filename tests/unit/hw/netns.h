/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network namespace of its own for a test process, so that the tests neither see nor touch the machine's
 * interfaces.
 */
#ifndef TEST_HW_NETNS_H
#define TEST_HW_NETNS_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TUN_PATH "/dev/net/tun"

/** Leave for a fresh network namespace; without root, in a user namespace that owns it. */
static inline void netns_enter(void)
{
    static const char *const quiet[] = {"/proc/sys/net/ipv6/conf/all/disable_ipv6",
                                        "/proc/sys/net/ipv6/conf/default/disable_ipv6"};

    if (unshare(CLONE_NEWNET))
        cr_assert_eq(unshare(CLONE_NEWUSER | CLONE_NEWNET), 0, "unshare: %s", strerror(errno));
    /* No router solicitations among the frames that a test waits for. Without IPv6 there is nothing to do. */
    for (size_t i = 0; i < 2; i++) {
        int fd = open(quiet[i], O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        cr_assert_eq(write(fd, "1", 1), 1);
        close(fd);
    }
}

/** Ends the program as skipped, visibly, when there is no TAP driver at all. For main(). */
static inline int netns_tun_missing(void)
{
    if (!access(TUN_PATH, F_OK))
        return 0;
    printf("skipped: %s is missing (modprobe tun)\n", TUN_PATH);
    return 1;
}

#endif

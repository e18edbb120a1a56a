/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What packetdrill expects of a shared object given with --so_filename: a function that fills this table.
 * The order of the members is the contract; packetdrill's own header is not needed to build.
 *
 * Every function gets `self` first and otherwise behaves as the system call of its name: -1 and errno on
 * failure. Calls that block are made in a second thread.
 */
#ifndef TESTS_PACKETDRILL_INTERFACE_H
#define TESTS_PACKETDRILL_INTERFACE_H

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

struct pd_interface {
    void *self; /* handed to every function */

    void (*end)(void *self); /* the script is over */

    int (*socket)(void *self, int family, int type, int proto);
    int (*bind)(void *self, int fd, const struct sockaddr *addr, socklen_t bytes);
    int (*listen)(void *self, int fd, int backlog);
    int (*accept)(void *self, int fd, struct sockaddr *addr, socklen_t *bytes);
    int (*connect)(void *self, int fd, const struct sockaddr *addr, socklen_t bytes);

    ssize_t (*read)(void *self, int fd, void *buf, size_t len);
    ssize_t (*readv)(void *self, int fd, const struct iovec *iov, int count);
    ssize_t (*recv)(void *self, int fd, void *buf, size_t len, int flags);
    ssize_t (*recvfrom)(void *self, int fd, void *buf, size_t len, int flags, struct sockaddr *addr,
                        socklen_t *bytes);
    ssize_t (*recvmsg)(void *self, int fd, struct msghdr *msg, int flags);

    ssize_t (*write)(void *self, int fd, const void *buf, size_t len);
    ssize_t (*writev)(void *self, int fd, const struct iovec *iov, int count);
    ssize_t (*send)(void *self, int fd, const void *buf, size_t len, int flags);
    ssize_t (*sendto)(void *self, int fd, const void *buf, size_t len, int flags, const struct sockaddr *addr,
                      socklen_t bytes);
    ssize_t (*sendmsg)(void *self, int fd, const struct msghdr *msg, int flags);

    int (*fcntl)(void *self, int fd, int command, ...);
    int (*ioctl)(void *self, int fd, unsigned long request, ...);
    int (*close)(void *self, int fd);
    int (*shutdown)(void *self, int fd, int how);
    int (*getsockopt)(void *self, int fd, int level, int name, void *value, socklen_t *bytes);
    int (*setsockopt)(void *self, int fd, int level, int name, const void *value, socklen_t bytes);
    int (*poll)(void *self, struct pollfd *fds, nfds_t count, int timeout_ms);

    /* A raw IP packet for the stack. */
    int (*netdev_send)(void *self, const void *packet, size_t bytes);
    /* Block for the next raw IP packet from the stack: into `packet` of *bytes, its size to *bytes and the
     * time when it was sent to *time_us. */
    int (*netdev_receive)(void *self, void *packet, size_t *bytes, long long *time_us);

    int (*usleep)(void *self, useconds_t us);
    int (*gettimeofday)(void *self, struct timeval *tv, struct timezone *tz);

    int (*epoll_create)(void *self, int size);
    int (*epoll_ctl)(void *self, int epfd, int op, int fd, struct epoll_event *event);
    int (*epoll_wait)(void *self, int epfd, struct epoll_event *events, int max, int timeout_ms);
    int (*pipe)(void *self, int fds[2]);
    ssize_t (*splice)(void *self, int from, loff_t *from_off, int to, loff_t *to_off, size_t len,
                      unsigned flags);
};

/** The one entry point that packetdrill looks up. `flags` is the text of --so_flags, or NULL. */
void packetdrill_interface_init(const char *flags, struct pd_interface *ret);

#endif

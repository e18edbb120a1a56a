/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "hw/packet.h"
#include "hw/packet_filter.h"

/* Sixty frames of 64 KiB as the kernel counts them. Without CAP_NET_ADMIN the system's limit has to do. */
#define SOCKET_BUFFER_BYTES (8 << 20)

struct option {
    int level, name;
    const char *what;
};

static int set_options(const struct netif *n, int fd, const struct netif_error *e)
{
    static const struct option options[] = {
        {SOL_PACKET, PACKET_VNET_HDR, "PACKET_VNET_HDR"},
        {SOL_PACKET, PACKET_AUXDATA, "PACKET_AUXDATA"},
        {SOL_PACKET, PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING"},
        {SOL_SOCKET, SO_RXQ_OVFL, "SO_RXQ_OVFL"},
    };
    const int one = 1;

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (setsockopt(fd, options[i].level, options[i].name, &one, sizeof(one)))
            return netif_fail(n, e, errno, "the kernel has no %s: it needs Linux 4.20 or later (%s)",
                              options[i].what, strerror(errno));
    return 0;
}

static void set_buffer(int fd, int forced, int allowed)
{
    const int bytes = SOCKET_BUFFER_BYTES;

    if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof(bytes)))
        (void)setsockopt(fd, SOL_SOCKET, allowed, &bytes, sizeof(bytes)); /* Less is slower, not wrong. */
}

static int join(const struct netif *n, int fd, unsigned type, const uint8_t *mac, const struct netif_error *e)
{
    struct packet_mreq mreq = {.mr_ifindex = n->ifindex, .mr_type = (unsigned short)type};

    if (mac) {
        mreq.mr_alen = ETH_ALEN;
        memcpy(mreq.mr_address, mac, ETH_ALEN);
    }
    if (!setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq, sizeof(mreq)))
        return 0;
    return netif_fail(n, e, errno, "the interface does not take %s: %s",
                      mac ? "another hardware address" : "the frames of all groups", strerror(errno));
}

static int attach(const struct netif *n, int fd, const struct netif_error *e)
{
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = n->ifindex};

    if (!bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
        return 0;
    if (errno == ENETDOWN)
        return 0; /* It is bound all the same, and receives when the interface is up. */
    return netif_fail(n, e, errno, "cannot bind to the interface: %s", strerror(errno));
}

int packet_socket_open(const struct netif *n, const uint8_t mac[6], int *ret_fd, const struct netif_error *e)
{
    /* Protocol 0: nothing comes in before it is bound. */
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0 && (errno == EPERM || errno == EACCES))
        return netif_fail(n, e, errno,
                          "a packet socket needs CAP_NET_RAW: run as root or through the service");
    if (fd < 0)
        return netif_fail(n, e, errno, "cannot open a packet socket: %s", strerror(errno));
    set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
    set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
    if ((r = set_options(n, fd, e)) || (r = join(n, fd, PACKET_MR_ALLMULTI, NULL, e)) ||
        (mac && (r = join(n, fd, PACKET_MR_UNICAST, mac, e))) || (r = attach(n, fd, e))) {
        (void)close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int packet_socket_filter(int fd, const struct device_addr addrs[], unsigned count, const uint8_t mac[6])
{
    struct sock_filter filter[PACKET_FILTER_MAX];
    struct sock_fprog prog = {.filter = filter};

    prog.len = (unsigned short)packet_filter_build(filter, addrs, count, mac);
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) ? -errno : 0;
}

bool packet_socket_is_gone(int fd)
{
    struct sockaddr_ll addr;
    socklen_t len = sizeof(addr);

    return getsockname(fd, (struct sockaddr *)&addr, &len) || addr.sll_ifindex <= 0;
}

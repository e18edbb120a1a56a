/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel announces changes of all interfaces over netlink. What it says there is only taken as a reason
 * to look: an announcement that was lost to a full queue leaves no wrong idea behind.
 */
#include "hw/netif.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <net/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#define EVENTS_MAX 64u /* announcements taken in one look; the rest makes the next */

/**
 * The kernel's own rule for names, and no '%': the kernel would take "tap%d" for a pattern and open an
 * interface of another name than the one that was asked for.
 */
bool netif_name_is_valid(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, ".."))
        return false;
    for (const char *p = name; *p; p++)
        if (*p <= ' ' || *p > '~' || strchr("/:%", *p))
            return false;
    return true;
}

int netif_link_open(struct netif_link *l)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};

    *l = NETIF_LINK_CLOSED;
    l->ctl = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (l->ctl < 0)
        return -errno;
    l->events = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (l->events < 0 || bind(l->events, (struct sockaddr *)&addr, sizeof(addr))) {
        int err = errno;

        netif_link_close(l);
        return -err;
    }
    return 0;
}

int netif_link_watch_addrs(struct netif_link *l)
{
    static const int groups[] = {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR};

    for (unsigned i = 0; i < 2; i++)
        if (setsockopt(l->events, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i])))
            return -errno;
    return 0;
}

int netif_link_ask(struct netif_link *l)
{
    struct {
        struct nlmsghdr h;
        struct ifinfomsg i;
    } request = {
        .h = {.nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST},
        .i = {.ifi_family = AF_UNSPEC, .ifi_index = l->ifindex},
    };

    return send(l->events, &request, sizeof(request), 0) < 0 ? -errno : 0;
}

void netif_link_close(struct netif_link *l)
{
    if (l->events >= 0)
        (void)close(l->events);
    if (l->ctl >= 0)
        (void)close(l->ctl);
    *l = NETIF_LINK_CLOSED;
}

static uint16_t link_mtu(const struct netif_link *l, int mtu)
{
    int most = l->mtu_max ? l->mtu_max : UINT16_MAX;

    return (uint16_t)(mtu < most ? mtu : most);
}

void netif_link_state(struct netif_link *l, struct device_link *ret)
{
    struct ifreq ifr = {.ifr_ifindex = l->ifindex};
    uint8_t event[1];

    for (unsigned i = 0; i < EVENTS_MAX; i++)
        if (recv(l->events, event, sizeof(event), 0) < 0 && errno != ENOBUFS)
            break;
    /* By its number: it may have another name by now. One that is not here was deleted, or moved to another
     * namespace where we can't look after it: a device that goes on there is taken to be up. */
    l->last.up = true;
    if (ioctl(l->ctl, SIOCGIFNAME, &ifr)) {
        __atomic_store_n(&l->gone, errno == ENODEV, __ATOMIC_RELAXED);
    } else if (!ioctl(l->ctl, SIOCGIFFLAGS, &ifr)) {
        l->last.up = ifr.ifr_flags & IFF_UP && ifr.ifr_flags & IFF_RUNNING;
        if (!ioctl(l->ctl, SIOCGIFMTU, &ifr))
            l->last.mtu = link_mtu(l, ifr.ifr_mtu);
    }
    *ret = l->last;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/netif_open.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>

int netif_fail(const struct netif *n, const struct netif_error *e, int err, const char *fmt, ...)
{
    va_list args;
    int at = snprintf(e->text, e->bytes, "%s:%s: ", n->kind, n->name);

    if (at >= 0 && (size_t)at < e->bytes) {
        va_start(args, fmt);
        (void)vsnprintf(e->text + at, e->bytes - (size_t)at, fmt, args);
        va_end(args);
    }
    return -err;
}

/* ---- Settings ------------------------------------------------------------------------------------- */

static int read_mtu(struct netif *n, struct ifreq *ifr, int ctl, uint16_t wanted, uint16_t most,
                    const struct netif_error *e)
{
    if (ioctl(ctl, SIOCGIFMTU, ifr))
        return netif_fail(n, e, errno, "cannot read the MTU: %s", strerror(errno));
    if (ifr->ifr_mtu < (int)NETIF_MTU_MIN)
        return netif_fail(n, e, EINVAL, "the interface's MTU is %d: set one of %u or more", ifr->ifr_mtu,
                          NETIF_MTU_MIN);
    if (wanted > ifr->ifr_mtu)
        return netif_fail(n, e, EINVAL,
                          "an MTU of %u is above the interface's, which is %d: raise that first (ip link set "
                          "dev %s mtu %u)",
                          wanted, ifr->ifr_mtu, n->name, wanted);
    if (wanted > most)
        return netif_fail(n, e, EINVAL, "an MTU of %u is above %u, the largest that this device takes",
                          wanted, most);
    n->if_mtu = ifr->ifr_mtu;
    n->mtu = wanted ? wanted : ifr->ifr_mtu < most ? (uint16_t)ifr->ifr_mtu : most;
    return 0;
}

static int read_settings(struct netif *n, int ctl, uint16_t wanted, uint16_t most,
                         const struct netif_error *e)
{
    struct ifreq ifr;

    memset(&ifr, 0, sizeof(ifr));
    memcpy(ifr.ifr_name, n->name, strlen(n->name));
    if (ioctl(ctl, SIOCGIFINDEX, &ifr))
        return netif_fail(n, e, errno,
                          errno == ENODEV ? "there is no such interface: \"ip link\" shows those that are"
                                          : "cannot read the interface's number: %m");
    n->ifindex = ifr.ifr_ifindex;
    if (ioctl(ctl, SIOCGIFHWADDR, &ifr))
        return netif_fail(n, e, errno, "cannot read the hardware address: %s", strerror(errno));
    if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER)
        return netif_fail(n, e, EINVAL, "not an Ethernet interface: name one that is");
    memcpy(n->mac, ifr.ifr_hwaddr.sa_data, sizeof(n->mac));
    return read_mtu(n, &ifr, ctl, wanted, most, e);
}

int netif_open(struct netif *n, const char *kind, const char *name, uint16_t wanted, uint16_t most,
               struct netif_link *link, const struct netif_error *e)
{
    struct netif_link l;
    int r;

    memset(n, 0, sizeof(*n));
    n->kind = kind;
    (void)snprintf(n->name, sizeof(n->name), "%s", name); /* Of a longer one the beginning, to show. */
    if (!netif_name_is_valid(name))
        return netif_fail(n, e, EINVAL, "%s", NETIF_NAME_RULE);
    /* Before anything is read, so that no change after that goes unnoticed. */
    if ((r = netif_link_open(&l)))
        return netif_fail(n, e, -r, "cannot watch the interface: %s", strerror(-r));
    r = read_settings(n, l.ctl, wanted, most, e);
    if (!r) {
        l.ifindex = n->ifindex;
        l.mtu_max = wanted ? wanted : most;
        l.last = (struct device_link){.up = true, .mtu = n->mtu};
        if ((r = netif_link_watch_addrs(&l)) || (r = netif_link_ask(&l)))
            (void)netif_fail(n, e, -r, "cannot ask for the interface's link: %s", strerror(-r));
    }
    if (r)
        netif_link_close(&l);
    else
        *link = l;
    return r;
}

/* ---- The kernel beside us --------------------------------------------------------------------------- */

/* A link-local address is another one on another interface. */
static bool holds4(const struct sockaddr *sa, const struct device_addr *a)
{
    struct sockaddr_in in;

    if (sa->sa_family != AF_INET || a->ip_version != 4)
        return false;
    memcpy(&in, sa, sizeof(in));
    return !memcmp(&in.sin_addr, a->ip, 4);
}

static bool holds6(const struct netif *n, const struct sockaddr *sa, const struct device_addr *a)
{
    struct sockaddr_in6 in;

    if (sa->sa_family != AF_INET6 || a->ip_version != 6)
        return false;
    memcpy(&in, sa, sizeof(in));
    if (IN6_IS_ADDR_LINKLOCAL(&in.sin6_addr) && in.sin6_scope_id != (uint32_t)n->ifindex)
        return false;
    return !memcmp(&in.sin6_addr, a->ip, 16);
}

static const char *holder(const struct netif *n, const struct ifaddrs *all, const struct device_addr *a)
{
    for (const struct ifaddrs *i = all; i; i = i->ifa_next)
        if (i->ifa_addr && (holds4(i->ifa_addr, a) || holds6(n, i->ifa_addr, a)))
            return i->ifa_name;
    return NULL;
}

int netif_check_addrs(const struct netif *n, const struct device_addr addrs[], unsigned count,
                      const struct netif_error *e)
{
    char text[INET6_ADDRSTRLEN];
    struct ifaddrs *all;
    int r = 0;

    if (getifaddrs(&all))
        return netif_fail(n, e, errno, "cannot read the kernel's addresses: %s", strerror(errno));
    for (unsigned i = 0; !r && i < count; i++) {
        const struct device_addr *a = &addrs[i];
        const char *on = holder(n, all, a);

        if (!on)
            continue;
        (void)inet_ntop(a->ip_version == 4 ? AF_INET : AF_INET6, a->ip, text, sizeof(text));
        r = netif_fail(n, e, EADDRINUSE,
                       "the address %s is held by the kernel too, on %s, and both would answer: take it from "
                       "there (ip address flush dev %s to %s), or give another with --address",
                       text, on, on, text);
    }
    freeifaddrs(all);
    return r;
}

static bool forwards(const char *name, unsigned ip_version)
{
    char path[64 + NETIF_NAME_MAX];
    FILE *f;
    int c;

    (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv%u/conf/%s/forwarding", ip_version, name);
    f = fopen(path, "re");
    if (!f)
        return false; /* That family is not there, or its settings are hidden from us. */
    c = fgetc(f);
    (void)fclose(f);
    return c != EOF && c != '0';
}

int netif_check_forwarding(const struct netif *n, const struct device_addr addrs[], unsigned count,
                           const struct netif_error *e)
{
    for (unsigned i = 0; i < count; i++)
        if (forwards(n->name, addrs[i].ip_version))
            return netif_fail(n, e, EINVAL,
                              "the kernel forwards IPv%u packets from this interface, and would send those "
                              "that are for us back into the network, or refuse them: give the device a "
                              "hardware address of its own (mac 02:...), or set "
                              "net.ipv%u.conf.%s.forwarding=0",
                              addrs[i].ip_version, addrs[i].ip_version, n->name);
    return 0;
}

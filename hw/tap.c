/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/tap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <net/if.h>
#include <linux/if_tun.h>

#include "hw/netif.h"
#include "hw/offload.h"
#include "hw/vnet.h"
#include "hw/vnet_fd.h"

#define TUN_PATH        "/dev/net/tun"
#define MACHINE_ID_PATH "/etc/machine-id"
#define MTU_MIN         576u
#define MTU_TAP_MAX     (65535u - ETH_HDR_BYTES) /* the kernel's limit for a TAP interface */
#define MAC_BYTES       6u

/** What is being opened, for the steps below and their messages. */
struct tap_setup {
    const char *name;
    int fd;  /* the TAP descriptor, or -1 */
    int ctl; /* a socket for the interface ioctls: the link's */
    struct netif_link link;
    char *errbuf;
    size_t errbuf_bytes;
};

/** Write the message "tap:NAME: ..." and return -err. */
__attribute__((format(printf, 3, 4))) static int fail(const struct tap_setup *s, int err, const char *fmt,
                                                      ...)
{
    va_list args;
    int at = snprintf(s->errbuf, s->errbuf_bytes, "tap:%s: ", s->name);

    if (at >= 0 && (size_t)at < s->errbuf_bytes) {
        va_start(args, fmt);
        (void)vsnprintf(s->errbuf + at, s->errbuf_bytes - (size_t)at, fmt, args);
        va_end(args);
    }
    return -err;
}

static int open_tun(struct tap_setup *s)
{
    s->fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (s->fd >= 0)
        return 0;
    switch (errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return fail(s, errno, "%s is missing: load it with modprobe tun, or give the container the device",
                    TUN_PATH);
    case EACCES:
    case EPERM:
        return fail(s, errno, "no permission to open %s: run as root or through the service", TUN_PATH);
    default:
        return fail(s, errno, "cannot open %s: %s", TUN_PATH, strerror(errno));
    }
}

static int attach(const struct tap_setup *s, struct ifreq *ifr)
{
    ifr->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (!ioctl(s->fd, TUNSETIFF, ifr)) {
        /* Nothing of the request is kept but the name, which every later ioctl goes by. */
        assert(!strcmp(ifr->ifr_name, s->name));
        return 0;
    }
    switch (errno) {
    case EPERM:
        return fail(s, EPERM,
                    "opening a TAP interface needs CAP_NET_ADMIN: run as root or through the service");
    case EBUSY:
        return fail(s, EBUSY, "another process holds this interface: stop it or choose another name");
    case EINVAL:
        return fail(s, EINVAL,
                    "an interface of this name exists and is not a single-queue TAP: choose another name");
    default:
        return fail(s, errno, "cannot attach to the interface: %s", strerror(errno));
    }
}

/**
 * Ask for the virtio-net header in the form that vnet.h knows, and for as much offload as the kernel gives.
 * What TUNSETOFFLOAD sets is what the kernel's side may hand to us; the other direction takes partial
 * checksums and GSO frames from anyone who writes the header.
 */
static int set_offloads(const struct tap_setup *s, uint32_t *ret)
{
    static const struct {
        unsigned tun;
        uint32_t dev;
    } steps[] = {
        {TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN, DEV_RX_CSUM | DEV_RX_GRO},
        {TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6, DEV_RX_CSUM | DEV_RX_GRO},
        {TUN_F_CSUM | TUN_F_TSO4, DEV_RX_CSUM | DEV_RX_GRO},
        {TUN_F_CSUM, DEV_RX_CSUM},
        {0, 0},
    };
    int hdr_bytes = VNET_HDR_BYTES;
    int host_order = 0;

    if (ioctl(s->fd, TUNSETVNETHDRSZ, &hdr_bytes))
        return fail(s, errno, "cannot set the size of the virtio-net header: %s", strerror(errno));
    /* A persistent interface may have been left in little-endian mode; 0 is the host's order. */
    if (ioctl(s->fd, TUNSETVNETLE, &host_order))
        return fail(s, errno, "cannot set the byte order of the virtio-net header: %s", strerror(errno));
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (!ioctl(s->fd, TUNSETOFFLOAD, (unsigned long)steps[i].tun)) {
            *ret = steps[i].dev | DEV_TX_CSUM | DEV_TX_TSO4 | DEV_TX_TSO6;
            return 0;
        }
    }
    return fail(s, errno, "cannot set the offloads: %s", strerror(errno));
}

static int set_mtu(const struct tap_setup *s, struct ifreq *ifr, uint16_t wanted, uint16_t *ret)
{
    if (wanted) {
        if (wanted < MTU_MIN || wanted > MTU_TAP_MAX)
            return fail(s, EINVAL, "MTU %u is out of range: a TAP interface takes %u to %u", wanted, MTU_MIN,
                        MTU_TAP_MAX);
        ifr->ifr_mtu = wanted;
        if (ioctl(s->ctl, SIOCSIFMTU, ifr))
            return fail(s, errno, "cannot set the MTU to %u: %s", wanted, strerror(errno));
    }
    if (ioctl(s->ctl, SIOCGIFMTU, ifr))
        return fail(s, errno, "cannot read the MTU: %s", strerror(errno));
    if (ifr->ifr_mtu < (int)MTU_MIN || ifr->ifr_mtu > (int)MTU_TAP_MAX)
        return fail(s, EINVAL, "the interface's MTU is %d: set one of %u to %u", ifr->ifr_mtu, MTU_MIN,
                    MTU_TAP_MAX);
    *ret = (uint16_t)ifr->ifr_mtu;
    return 0;
}

static uint64_t hash_add(uint64_t hash, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return hash;
}

/**
 * A locally administered unicast address that stays the same for this name on this machine, so that the
 * peers' neighbour caches hold over a restart, and two gateways bridged to one LAN differ.
 */
static void derive_mac(const char *name, uint8_t mac[MAC_BYTES])
{
    uint64_t hash = hash_add(UINT64_C(0xcbf29ce484222325), name, strlen(name));
    char id[64];
    int fd = open(MACHINE_ID_PATH, O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        ssize_t len = read(fd, id, sizeof(id));
        if (len > 0)
            hash = hash_add(hash, id, (size_t)len);
        (void)close(fd);
    }
    /* FNV-1a mixes upwards only: the low bytes alone would leave the first characters out of the high ones.
     */
    hash ^= hash >> 32;
    hash *= UINT64_C(0xd6e8feb86659fd93);
    for (unsigned i = 0; i < MAC_BYTES; i++)
        mac[i] = (uint8_t)(hash >> (56 - 8 * i));
    mac[0] = (uint8_t)((mac[0] & ~0x01u) | 0x02u);
}

/** The engine's address: the one asked for, or one of our own. It must not be that of the kernel's side. */
static int choose_mac(const struct tap_setup *s, struct ifreq *ifr, const uint8_t *wanted,
                      uint8_t ret[MAC_BYTES])
{
    static const uint8_t zero[MAC_BYTES];

    if (ioctl(s->ctl, SIOCGIFHWADDR, ifr))
        return fail(s, errno, "cannot read the hardware address: %s", strerror(errno));
    if (wanted) {
        if (wanted[0] & 0x01u || !memcmp(wanted, zero, MAC_BYTES))
            return fail(s, EINVAL, "the MAC address must be a unicast address");
        if (!memcmp(wanted, ifr->ifr_hwaddr.sa_data, MAC_BYTES))
            return fail(s, EINVAL,
                        "the MAC address is that of the kernel's side of the interface: give another");
        memcpy(ret, wanted, MAC_BYTES);
        return 0;
    }
    derive_mac(s->name, ret);
    if (!memcmp(ret, ifr->ifr_hwaddr.sa_data, MAC_BYTES))
        ret[MAC_BYTES - 1] ^= 0x01u;
    return 0;
}

static int set_link_up(const struct tap_setup *s, struct ifreq *ifr)
{
    if (ioctl(s->ctl, SIOCGIFFLAGS, ifr))
        return fail(s, errno, "cannot read the interface's flags: %s", strerror(errno));
    if (ifr->ifr_flags & IFF_UP)
        return 0;
    ifr->ifr_flags = (short)(ifr->ifr_flags | IFF_UP);
    if (ioctl(s->ctl, SIOCSIFFLAGS, ifr))
        return fail(s, errno, "cannot set the link up: %s", strerror(errno));
    return 0;
}

static int create(const struct tap_setup *s, const struct device_caps *caps, struct device **ret)
{
    int r = tap_device_create(s->fd, caps, ret);

    return r ? fail(s, -r, "%s (%s)", vnet_fd_open_error(-r), strerror(-r)) : 0;
}

static int watch_link(struct tap_setup *s, struct ifreq *ifr, uint16_t mtu, struct device *dev)
{
    if (ioctl(s->ctl, SIOCGIFINDEX, ifr))
        return fail(s, errno, "cannot read the interface's number: %s", strerror(errno));
    s->link.ifindex = ifr->ifr_ifindex;
    s->link.last = (struct device_link){.up = true, .mtu = mtu};
    vnet_fd_watch((struct vnet_fd *)dev, &s->link);
    s->link = NETIF_LINK_CLOSED;
    return 0;
}

int tap_open(const char *name, const struct device_params *params, struct device *ret[], unsigned *count,
             char *errbuf, size_t errbuf_bytes)
{
    struct tap_setup s = {.name = name, .fd = -1, .ctl = -1, .errbuf = errbuf, .errbuf_bytes = errbuf_bytes};
    struct device_caps caps = {.tx_frame_max = FRAME_BYTES_MAX, .spread = {.queues = 1}};
    struct device *dev = NULL;
    struct ifreq ifr;
    int r;

    if (!netif_name_is_valid(name))
        return fail(&s, EINVAL, "%s", NETIF_NAME_RULE);
    memset(&ifr, 0, sizeof(ifr));
    memcpy(ifr.ifr_name, name, strlen(name)); /* shorter than the zeroed field */

    /* Before anything is read, so that no change after that goes unnoticed. */
    if ((r = netif_link_open(&s.link)))
        return fail(&s, -r, "cannot watch the interface: %s", strerror(-r));
    s.ctl = s.link.ctl;
    if ((r = open_tun(&s)) || (r = attach(&s, &ifr)) || (r = set_offloads(&s, &caps.offloads)) ||
        (r = set_mtu(&s, &ifr, params->mtu, &caps.mtu)) ||
        (r = choose_mac(&s, &ifr, params->mac, caps.mac)) || (r = create(&s, &caps, &dev)))
        goto close_fds;
    s.fd = -1; /* the device's now */
    if ((r = set_link_up(&s, &ifr)) || (r = watch_link(&s, &ifr, caps.mtu, dev))) {
        dev->ops->close(dev);
        goto close_fds;
    }
    *ret = dev;
    *count = 1;
close_fds:
    if (s.fd >= 0)
        (void)close(s.fd);
    netif_link_close(&s.link); /* Nothing, when it is the device's. */
    return r;
}

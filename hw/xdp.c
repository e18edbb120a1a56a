/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/xdp.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>

#include "hw/offload.h"
#include "hw/packet.h"
#include "hw/xdp_csum.h"
#include "hw/xdp_ring.h"
#include "hw/xdp_steer.h"

#define VLAN_TAG_BYTES 4u
#define MTU_MOST       (XDP_FRAME_MAX - ETH_HDR_BYTES - VLAN_TAG_BYTES)
/* The packet socket costs a system call a look: it is looked at when the ring is empty, and this often. */
#define SPEC_MAX       128u
#define SIDE_EVERY     16u

/** What stands behind the interface's name. */
struct options {
    char name[NETIF_NAME_MAX];
    uint32_t hold_s;
    bool skb_only;
};

struct xdp {
    struct device dev; /* first */
    struct netif netif;
    struct netif_link link;
    struct xdp_steer steer;
    struct xdp_ring ring;
    struct device *side; /* ARP, groups, everybody: what the kernel has too */
    int wait;            /* epoll: of the two sockets */
    unsigned bursts;     /* since the last look at the packet socket */
    bool from_here;      /* a peer on this machine leaves checksums unfinished */
    bool tags_taken;     /* the interface takes VLAN tags out before the program runs */
    struct device_caps caps;
    struct device_stats stats;
};

static struct xdp *xdp_of(struct device *dev)
{
    return (struct xdp *)dev;
}

/* ---- Frames --------------------------------------------------------------------------- */

static int look_aside(struct xdp *x, struct pktbuf *pkts[], unsigned max)
{
    x->bursts = 0;
    return x->side->ops->rx_burst(x->side, pkts, max);
}

static int xdp_rx_burst(struct device *dev, struct pktbuf *pkts[], unsigned max)
{
    struct xdp *x = xdp_of(dev);
    unsigned n;

    if (netif_link_is_gone(&x->link))
        return -ENODEV;
    n = xdp_ring_rx(&x->ring, pkts, max);

    for (unsigned i = 0; i < n; i++) {
        if (x->from_here)
            xdp_csum_mark(pkts[i]);
        x->stats.rx_bytes += pkts[i]->total;
    }
    x->stats.rx_frames += n;
    if (n == max || (n && ++x->bursts < SIDE_EVERY))
        return (int)n;
    int side = look_aside(x, pkts + n, max - n);
    return side < 0 && !n ? side : (int)n + (side > 0 ? side : 0);
}

static bool xdp_rx_pending(struct device *dev)
{
    struct xdp *x = xdp_of(dev);

    return xdp_ring_pending(&x->ring) || x->side->ops->rx_pending(x->side);
}

/* How many of the first frames fit a chunk. */
static unsigned fitting(struct pktbuf *const pkts[], unsigned n)
{
    unsigned i = 0;

    while (i < n && pkts[i]->total <= XDP_FRAME_MAX)
        i++;
    return i;
}

static int xdp_tx_burst(struct device *dev, struct pktbuf *const pkts[], unsigned n)
{
    struct xdp *x = xdp_of(dev);
    unsigned done = 0;

    while (done < n) {
        unsigned fit = fitting(pkts + done, n - done);
        unsigned taken = fit ? xdp_ring_tx(&x->ring, pkts + done, fit) : 0;

        for (unsigned i = 0; i < taken; i++)
            x->stats.tx_bytes += pkts[done + i]->total;
        x->stats.tx_frames += taken;
        done += taken;
        if (taken < fit) {
            x->stats.tx_full++;
            break;
        }
        if (done < n) {
            x->stats.tx_errors++; /* too long: taken, and lost */
            done++;
        }
    }
    return (int)done;
}

/* ---- The kernel beside us ------------------------------------------------------------- */

static int xdp_own(struct device *dev, const struct device_addr addrs[], unsigned count, char *errbuf,
                   size_t errbuf_bytes)
{
    struct xdp *x = xdp_of(dev);
    const struct netif_error e = {errbuf, errbuf_bytes};
    int r = xdp_steer_own(&x->steer, addrs, count);

    if (r)
        return netif_fail(&x->netif, &e, -r, "the program can't be told the addresses: %s", strerror(-r));
    for (unsigned i = 0; x->tags_taken && i < count; i++)
        if (addrs[i].vlan)
            return netif_fail(&x->netif, &e, EINVAL,
                              "the interface takes VLAN tags out of frames before the XDP program sees them: "
                              "ethtool -K %s rxvlan off",
                              x->netif.name);
    return netif_check_addrs(&x->netif, addrs, count, &e);
}

/* ---- The rest ------------------------------------------------------------------------- */

static int xdp_wait_fd(struct device *dev)
{
    return xdp_of(dev)->wait;
}

static void xdp_caps(const struct device *dev, struct device_caps *ret)
{
    *ret = ((const struct xdp *)dev)->caps;
}

static void xdp_stats(const struct device *dev, struct device_stats *ret)
{
    const struct xdp *x = (const struct xdp *)dev;
    struct device_stats side;

    x->side->ops->stats(x->side, &side);
    *ret = x->stats;
    ret->rx_frames += side.rx_frames;
    ret->rx_bytes += side.rx_bytes;
    ret->rx_errors += side.rx_errors + xdp_ring_lost(&x->ring);
}

static int xdp_link_fd(struct device *dev)
{
    return xdp_of(dev)->link.events;
}

static void xdp_link(struct device *dev, struct device_link *ret)
{
    netif_link_state(&xdp_of(dev)->link, ret);
}

static void xdp_note(const struct device *dev, char *line, size_t bytes)
{
    const struct xdp *x = (const struct xdp *)dev;
    int at =
        snprintf(line, bytes, "XDP %s, %s", x->steer.native ? "in the driver" : "in the kernel (skb mode)",
                 x->ring.zero_copy ? "zero-copy" : "frames are copied");

    if (!x->steer.pinned && at >= 0 && (size_t)at < bytes)
        at += snprintf(
            line + at, bytes - (size_t)at,
            "; /sys/fs/bpf can't be used, so that after a kill the kernel has the interface at once");
    if (x->netif.if_mtu > (int)MTU_MOST && at >= 0 && (size_t)at < bytes)
        (void)snprintf(line + at, bytes - (size_t)at,
                       "; the MTU is %u where the interface has %d: a frame must fit a chunk of %u bytes",
                       x->netif.mtu, x->netif.if_mtu, XDP_CHUNK_BYTES);
}

static void xdp_close(struct device *dev)
{
    struct xdp *x = xdp_of(dev);

    if (!x)
        return;
    xdp_steer_close(
        &x->steer); /* First: the kernel answers from now on, and nothing of ours gets lost here. */
    xdp_ring_close(&x->ring);
    if (x->side)
        x->side->ops->close(x->side);
    if (x->wait >= 0)
        (void)close(x->wait);
    netif_link_close(&x->link);
    free(x);
}

static const struct device_ops xdp_ops = {
    .kind = XDP_KIND,
    .rx_burst = xdp_rx_burst,
    .tx_burst = xdp_tx_burst,
    .wait_fd = xdp_wait_fd,
    .rx_pending = xdp_rx_pending,
    .caps = xdp_caps,
    .stats = xdp_stats,
    .link_fd = xdp_link_fd,
    .link = xdp_link,
    .own = xdp_own,
    .note = xdp_note,
    .close = xdp_close,
};

/* ---- Opening -------------------------------------------------------------------------- */

static bool parse_hold(const char *text, uint32_t *ret)
{
    char *end;
    unsigned long v;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    v = strtoul(text, &end, 10);
    *ret = (uint32_t)v;
    return !errno && !*end && v <= XDP_HOLD_S_MAX;
}

static bool parse_option(struct options *o, const char *word)
{
    if (!strncmp(word, "hold=", 5))
        return parse_hold(word + 5, &o->hold_s);
    if (!strcmp(word, "mode=skb"))
        return o->skb_only = true;
    return false;
}

static int parse_spec(struct options *o, const char *spec, const struct netif_error *e)
{
    size_t name_bytes = strcspn(spec, ",");
    char text[SPEC_MAX], *save = NULL;
    struct netif n = {.kind = XDP_KIND};

    *o = (struct options){.hold_s = XDP_HOLD_S};
    memcpy(o->name, spec, name_bytes < sizeof(o->name) ? name_bytes : sizeof(o->name) - 1);
    memcpy(n.name, o->name, sizeof(n.name));
    if (name_bytes >= sizeof(o->name) || strlen(spec) >= sizeof(text))
        return netif_fail(&n, e, EINVAL, "%s", NETIF_NAME_RULE);
    memcpy(text, spec, strlen(spec) + 1);
    for (char *word = strtok_r(text + name_bytes, ",", &save); word; word = strtok_r(NULL, ",", &save))
        if (!parse_option(o, word))
            return netif_fail(&n, e, EINVAL, "\"%s\" is not \"hold=SECONDS\" (0 to %u) or \"mode=skb\"", word,
                              XDP_HOLD_S_MAX);
    return 0;
}

static int ethtool(const struct xdp *x, void *data)
{
    struct ifreq ifr;

    memset(&ifr, 0, sizeof(ifr));
    memcpy(ifr.ifr_name, x->netif.name, sizeof(x->netif.name));
    ifr.ifr_data = data;
    return ioctl(x->link.ctl, SIOCETHTOOL, &ifr);
}

/* What the interface is, as far as it says. */
static int examine(struct xdp *x, const struct netif_error *e)
{
    struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
    struct ethtool_value flags = {.cmd = ETHTOOL_GFLAGS};
    struct ethtool_channels queues = {.cmd = ETHTOOL_GCHANNELS};

    /* Only these have their peer on this machine. */
    x->from_here = !ethtool(x, &driver) && (!strcmp(driver.driver, "veth") || !strcmp(driver.driver, "tun"));
    x->tags_taken = !ethtool(x, &flags) && flags.data & ETH_FLAG_RXVLAN && !x->from_here;
    if (!ethtool(x, &queues) && queues.combined_count + queues.rx_count > 1)
        return netif_fail(&x->netif, e, EINVAL,
                          "the interface receives on %u queues, and one is served: ethtool -L %s %s 1",
                          queues.combined_count + queues.rx_count, x->netif.name,
                          queues.combined_count ? "combined" : "rx");
    return 0;
}

static int open_ring(struct xdp *x, bool zero_copy, const struct netif_error *e)
{
    int r = xdp_ring_open(&x->ring, x->netif.name, 0, zero_copy);

    switch (-r) {
    case 0:
        return 0;
    case EPERM:
        return netif_fail(&x->netif, e, -r,
                          "an XDP socket needs CAP_NET_RAW: run as root or through the service");
    case EBUSY:
        return netif_fail(&x->netif, e, -r, "another process has an XDP socket on the interface: stop it");
    case ENOBUFS:
    case ENOMEM:
        return netif_fail(&x->netif, e, -r,
                          "no memory for frames: raise the limit of locked memory (LimitMEMLOCK)");
    default:
        return netif_fail(&x->netif, e, -r, "cannot open an XDP socket: %s", strerror(-r));
    }
}

/* The packet socket: nothing that is sent to an address passes its filter, so nothing comes twice. */
static int open_side(struct xdp *x, bool own_mac, const struct netif_error *e)
{
    const uint8_t *mac = own_mac ? x->caps.mac : NULL;
    int fd = -1, r = packet_socket_open(&x->netif, mac, &fd, e);

    if (r)
        return r;
    r = packet_socket_filter(fd, NULL, 0, mac);
    if (!r)
        r = packet_device_create(&x->netif, fd, &x->caps, NULL, &x->side);
    if (!r)
        return 0;
    (void)close(fd);
    return netif_fail(&x->netif, e, -r, "cannot open a packet socket: %s", strerror(-r));
}

static int open_wait(struct xdp *x, const struct netif_error *e)
{
    const int fds[] = {xdp_ring_fd(&x->ring), x->side->ops->wait_fd(x->side)};

    x->wait = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < 2; i++) {
        struct epoll_event ev = {.events = EPOLLIN};

        if (x->wait < 0 || epoll_ctl(x->wait, EPOLL_CTL_ADD, fds[i], &ev))
            return netif_fail(&x->netif, e, errno, "cannot wait for frames: %s", strerror(errno));
    }
    return 0;
}

/* In the kernel's own XDP there is no zero-copy: what was opened for it would stay without frames. */
static int match_mode(struct xdp *x, const struct netif_error *e)
{
    int r;

    if (x->steer.native || !x->ring.zero_copy)
        return 0;
    xdp_ring_close(&x->ring);
    r = open_ring(x, false, e);
    return r ? r : xdp_ring_publish(&x->ring, x->steer.xsks);
}

/*
 * The program comes last: another daemon's, if one runs on the interface, is not touched before its socket
 * has kept us away; and that of a killed one is replaced by one that finds all in place.
 */
static int open_all(struct xdp *x, const struct options *o, const struct netif_error *e)
{
    const struct xdp_steer_params steer = {.mac = x->caps.mac, .hold_s = o->hold_s, .skb_only = o->skb_only};
    bool own_mac = memcmp(x->caps.mac, x->netif.mac, sizeof(x->netif.mac)) != 0;
    int r = examine(x, e);

    if (r || (r = xdp_steer_load(&x->steer, &x->netif, &steer, e)) || (r = open_ring(x, !o->skb_only, e)))
        return r;
    if ((r = xdp_ring_publish(&x->ring, x->steer.xsks)))
        return netif_fail(&x->netif, e, -r, "the program can't be told of the socket: %s", strerror(-r));
    if ((r = open_side(x, own_mac, e)) || (r = xdp_steer_attach(&x->steer, &x->netif, &steer, e)) ||
        (r = match_mode(x, e)))
        return r;
    return open_wait(x, e);
}

int xdp_open(const char *spec, const struct device_params *params, struct device *ret[], unsigned *count,
             char *errbuf, size_t errbuf_bytes)
{
    const struct netif_error e = {errbuf, errbuf_bytes};
    struct options o;
    struct xdp *x;
    int r = parse_spec(&o, spec, &e);

    if (r)
        return r;
    x = calloc(1, sizeof(*x));
    if (!x) {
        (void)snprintf(errbuf, errbuf_bytes, "xdp:%s: no memory", o.name);
        return -ENOMEM;
    }
    x->dev.ops = &xdp_ops;
    x->link = NETIF_LINK_CLOSED;
    x->steer = XDP_STEER_CLOSED;
    x->wait = -1;
    r = netif_open(&x->netif, XDP_KIND, o.name, params->mtu, MTU_MOST, &x->link, &e);
    if (!r) {
        x->caps =
            (struct device_caps){.mtu = x->netif.mtu, .tx_frame_max = XDP_FRAME_MAX, .spread = {.queues = 1}};
        memcpy(x->caps.mac, params->mac ? params->mac : x->netif.mac, sizeof(x->caps.mac));
        r = open_all(x, &o, &e);
    }
    if (r) {
        xdp_close(&x->dev);
        return r;
    }
    ret[0] = &x->dev;
    *count = 1;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of a packet socket: one a recvmsg(2), because the kernel takes an 802.1Q tag out of a frame and
 * tells it beside. The frame is read to where it lies when there was none; a tag moves the hardware addresses
 * down.
 *
 *                 hdrs[i]      buffer
 *                 virtio-net   :   dst   src         type  IP ...
 *     with a tag               dst   src   8100 tag  type  IP ...
 *
 * Sent frames go through the interface's queueing discipline (no PACKET_QDISC_BYPASS): an operator's shaping
 * holds for them, and a full queue is told with ENOBUFS before anything is lost, where the bypass drops.
 */
#include "hw/packet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/if_packet.h>

#include "hw/vnet_fd.h"

#define VLAN_TAG_BYTES 4u
#define ETHERTYPE_VLAN 0x8100u
#define VLAN_ID_MASK   0x0fffu
#define MAC_PAIR_BYTES 12u
#define CONTROL_BYTES  (CMSG_SPACE(sizeof(struct tpacket_auxdata)) + CMSG_SPACE(sizeof(uint32_t)))

static_assert(VNET_HDR_BYTES >= VLAN_TAG_BYTES, "the tag goes where a TAP has its header");

struct slot {
    struct msghdr msg;
    struct iovec iov[2];
    struct virtio_net_hdr hdr;
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
};

struct packet {
    struct vnet_fd v; /* first */
    struct netif netif;
    bool own_mac;  /* the engine's hardware address is not the interface's */
    uint32_t lost; /* frames, as the kernel told last */
    struct slot slots[DEV_RX_BURST_MAX];
};

static struct packet *packet_of(struct vnet_fd *v)
{
    return (struct packet *)v;
}

/* ---- Receive ----------------------------------------------------------------------------------------- */

static struct msghdr *slot_message(struct packet *p, unsigned index)
{
    struct slot *s = &p->slots[index];

    s->msg.msg_controllen = CONTROL_BYTES; /* The kernel has written how much it used. */
    return &s->msg;
}

static void packet_rx_prepare(struct vnet_fd *v, unsigned index, struct io_uring_sqe *sqe)
{
    io_uring_prep_recvmsg(sqe, VNET_FD_INDEX, slot_message(packet_of(v), index), MSG_DONTWAIT);
}

static int packet_rx_plain(struct vnet_fd *v, unsigned index)
{
    ssize_t n = recvmsg(v->fd, slot_message(packet_of(v), index), MSG_DONTWAIT);

    return n < 0 ? -errno : (int)n;
}

/* The tag beside a frame. Priority tagging (ID 0) is no VLAN (IEEE 802.1Q 9.6). */
static bool tag_of(const struct tpacket_auxdata *aux, uint16_t *tpid)
{
    if (!(aux->tp_status & TP_STATUS_VLAN_VALID) || !(aux->tp_vlan_tci & VLAN_ID_MASK))
        return false;
    *tpid = aux->tp_status & TP_STATUS_VLAN_TPID_VALID ? aux->tp_vlan_tpid : ETHERTYPE_VLAN;
    return true;
}

static void put_tag(struct pktbuf *pkt, uint16_t tpid, uint16_t tci)
{
    uint8_t *at = pkt->data - VLAN_TAG_BYTES;

    memmove(at, pkt->data, MAC_PAIR_BYTES);
    at[MAC_PAIR_BYTES] = (uint8_t)(tpid >> 8);
    at[MAC_PAIR_BYTES + 1] = (uint8_t)tpid;
    at[MAC_PAIR_BYTES + 2] = (uint8_t)(tci >> 8);
    at[MAC_PAIR_BYTES + 3] = (uint8_t)tci;
    pkt->data = at;
    pkt->len += VLAN_TAG_BYTES;
    pkt->total = pkt->len;
}

/* What was told beside the frame: a tag to put back, and how many frames were lost before it. */
static unsigned take_control(struct packet *p, struct slot *s, struct pktbuf *pkt)
{
    unsigned tag_bytes = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(&s->msg); c; c = CMSG_NXTHDR(&s->msg, c)) {
        if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA) {
            struct tpacket_auxdata aux;
            uint16_t tpid;

            memcpy(&aux, CMSG_DATA(c), sizeof(aux));
            if (!tag_of(&aux, &tpid))
                continue;
            put_tag(pkt, tpid, aux.tp_vlan_tci);
            tag_bytes = VLAN_TAG_BYTES;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            uint32_t lost;

            memcpy(&lost, CMSG_DATA(c), sizeof(lost));
            p->v.stats.rx_errors += lost - p->lost;
            p->lost = lost;
        }
    }
    return tag_bytes;
}

static bool packet_rx_frame(struct vnet_fd *v, unsigned index, unsigned bytes)
{
    struct packet *p = packet_of(v);
    struct slot *s = &p->slots[index];
    struct pktbuf *pkt = &v->rx_pkts[index];

    if (bytes < VNET_HDR_BYTES + ETH_HDR_BYTES || s->msg.msg_flags & MSG_TRUNC)
        return false;
    pkt->data = vnet_fd_rx_buffer(v, index) + VNET_HDR_BYTES;
    pkt->len = pkt->total = bytes - VNET_HDR_BYTES;
    pkt->frag_count = 0;
    unsigned tag_bytes = take_control(p, s, pkt);
    if (s->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        s->hdr.csum_start = (uint16_t)(s->hdr.csum_start + tag_bytes);
    return pkt->total <= FRAME_BYTES_MAX + tag_bytes && !vnet_hdr_parse(&s->hdr, pkt);
}

/* A link that goes down is told as an error, once, and then not again when the interface is deleted. */
static int packet_rx_final(const struct vnet_fd *v, int res)
{
    if (res == -ENETDOWN)
        return packet_socket_is_gone(v->fd) ? -ENODEV : 0;
    return vnet_fd_error_is_final(res) ? res : 0;
}

static const struct vnet_fd_kind packet_kind = {
    .ends_with_link = true,
    .rx_prepare = packet_rx_prepare,
    .rx_plain = packet_rx_plain,
    .rx_frame = packet_rx_frame,
    .rx_final = packet_rx_final,
};

/* ---- The kernel beside us ------------------------------------------------------------------------------ */

static int packet_own(struct device *dev, const struct device_addr addrs[], unsigned count, char *errbuf,
                      size_t errbuf_bytes)
{
    struct packet *p = (struct packet *)dev;
    const struct netif_error e = {errbuf, errbuf_bytes};
    int r = packet_socket_filter(p->v.fd, addrs, count, p->own_mac ? p->v.caps.mac : NULL);

    if (r)
        return netif_fail(&p->netif, &e, -r, "cannot set the socket's filter: %s", strerror(-r));
    if ((r = netif_check_addrs(&p->netif, addrs, count, &e)))
        return r;
    /* What goes to another hardware address the kernel does not even look at. */
    return p->own_mac ? 0 : netif_check_forwarding(&p->netif, addrs, count, &e);
}

/* ---- The rest ------------------------------------------------------------------------------------------ */

static const struct device_ops packet_ops = {
    .kind = PACKET_KIND,
    .rx_burst = vnet_fd_rx_burst,
    .tx_burst = vnet_fd_tx_burst,
    .wait_fd = vnet_fd_wait_fd,
    .rx_pending = vnet_fd_rx_pending,
    .caps = vnet_fd_caps,
    .stats = vnet_fd_stats,
    .link_fd = vnet_fd_link_fd,
    .link = vnet_fd_link,
    .own = packet_own,
    .close = vnet_fd_close,
};

int packet_device_create(const struct netif *n, int fd, const struct device_caps *caps,
                         const struct netif_link *link, struct device **ret)
{
    struct packet *p = calloc(1, sizeof(*p));
    int r;

    if (!p)
        return -ENOMEM;
    r = vnet_fd_open(&p->v, &packet_kind, &packet_ops, fd, caps);
    if (r) {
        free(p);
        return r;
    }
    p->netif = *n;
    p->own_mac = memcmp(caps->mac, n->mac, sizeof(n->mac)) != 0;
    for (unsigned i = 0; i < DEV_RX_BURST_MAX; i++) {
        struct slot *s = &p->slots[i];

        s->iov[0] = (struct iovec){.iov_base = &s->hdr, .iov_len = VNET_HDR_BYTES};
        s->iov[1] = (struct iovec){.iov_base = vnet_fd_rx_buffer(&p->v, i) + VNET_HDR_BYTES,
                                   .iov_len = VNET_RX_READ_BYTES - VNET_HDR_BYTES};
        s->msg = (struct msghdr){.msg_iov = s->iov, .msg_iovlen = 2, .msg_control = s->control};
    }
    if (link)
        vnet_fd_watch(&p->v, link);
    *ret = &p->v.dev;
    return 0;
}

int packet_open(const char *name, const struct device_params *params, struct device *ret[], unsigned *count,
                char *errbuf, size_t errbuf_bytes)
{
    const struct netif_error e = {errbuf, errbuf_bytes};
    struct device_caps caps = {
        /* What the interface can't do, the kernel does for it. */
        .offloads = DEV_TX_CSUM | DEV_TX_TSO4 | DEV_TX_TSO6 | DEV_RX_CSUM | DEV_RX_GRO,
        .tx_frame_max = FRAME_BYTES_MAX,
        .spread = {.queues = 1},
    };
    struct netif_link link = NETIF_LINK_CLOSED;
    struct netif n;
    bool own_mac;
    int fd = -1, r;

    r = netif_open(&n, PACKET_KIND, name, params->mtu, FRAME_BYTES_MAX - ETH_HDR_BYTES, &link, &e);
    if (r)
        return r;
    caps.mtu = n.mtu;
    memcpy(caps.mac, params->mac ? params->mac : n.mac, sizeof(caps.mac));
    own_mac = memcmp(caps.mac, n.mac, sizeof(caps.mac)) != 0;
    r = packet_socket_open(&n, own_mac ? caps.mac : NULL, &fd, &e);
    if (!r) {
        r = packet_device_create(&n, fd, &caps, &link, &ret[0]);
        if (r)
            (void)netif_fail(&n, &e, -r, "%s (%s)", vnet_fd_open_error(-r), strerror(-r));
    }
    if (r) {
        if (fd >= 0)
            (void)close(fd);
        netif_link_close(&link);
        return r;
    }
    *count = 1;
    return 0;
}

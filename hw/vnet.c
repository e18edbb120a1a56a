/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/vnet.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "hw/offload.h"

static_assert(sizeof(struct virtio_net_hdr) == VNET_HDR_BYTES, "the short header, without num_buffers");

#define TCP_FLAGS_OFF 13u
#define TCP_FLAG_CWR  0x80u

static int parse_gso(const struct virtio_net_hdr *hdr, struct pktbuf *pkt)
{
    struct tcp_layout layout;

    /* The ECN bit only says that the CWR flag of the TCP header stands, which the engine sees there. */
    switch (hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
        pkt->gso_type = PKT_GSO_TCP4;
        break;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        pkt->gso_type = PKT_GSO_TCP6;
        break;
    default:
        return -EINVAL;
    }
    if (offload_tcp_layout(pkt->data, pkt->len, pkt->gso_type, &layout))
        return -EINVAL;
    if (hdr->gso_size == 0 || layout.hdr_len >= pkt->len)
        return -EINVAL;
    /* No single checksum can cover several segments: it is either still to be made or known to be good. */
    if (pkt->flags & PKT_CSUM_PARTIAL) {
        if (pkt->csum_start != layout.l4 || pkt->csum_offset != TCP_CSUM_OFFSET)
            return -EINVAL;
    } else if (!(pkt->flags & PKT_CSUM_GOOD)) {
        return -EINVAL;
    }
    pkt->gso_size = hdr->gso_size;
    pkt->hdr_len = layout.hdr_len;
    return 0;
}

int vnet_hdr_parse(const struct virtio_net_hdr *hdr, struct pktbuf *pkt)
{
    pkt->flags = 0;
    pkt->csum_start = 0;
    pkt->csum_offset = 0;
    pkt->gso_type = PKT_GSO_NONE;
    pkt->gso_size = 0;
    pkt->hdr_len = 0;

    if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        uint32_t start = hdr->csum_start;
        if (start < ETH_HDR_BYTES || start > pkt->len || hdr->csum_offset + 2u > pkt->len - start)
            return -EINVAL;
        pkt->flags |= PKT_CSUM_PARTIAL;
        pkt->csum_start = hdr->csum_start;
        pkt->csum_offset = hdr->csum_offset;
    } else if (hdr->flags & VIRTIO_NET_HDR_F_DATA_VALID) {
        pkt->flags |= PKT_CSUM_GOOD;
    }
    if (hdr->gso_type == VIRTIO_NET_HDR_GSO_NONE)
        return 0;
    return parse_gso(hdr, pkt);
}

void vnet_hdr_build(const struct pktbuf *pkt, struct virtio_net_hdr *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (pkt->flags & PKT_CSUM_PARTIAL) {
        ret->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        ret->csum_start = pkt->csum_start;
        ret->csum_offset = pkt->csum_offset;
    }
    if (pkt->gso_type == PKT_GSO_NONE)
        return;
    assert(pkt->gso_size > 0);
    assert(pkt->flags & PKT_CSUM_PARTIAL);
    ret->gso_type = pkt->gso_type == PKT_GSO_TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
    ret->gso_size = pkt->gso_size;
    ret->hdr_len = pkt->hdr_len;
    /* Of the segments only the first may carry CWR; the header must say that it is there. */
    uint32_t flags_at = pkt->csum_start + TCP_FLAGS_OFF;
    if (flags_at < pkt->len && pkt->data[flags_at] & TCP_FLAG_CWR)
        ret->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
}

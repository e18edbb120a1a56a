/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a frame beside its bytes: the flags and lengths of an mbuf, to and from a pktbuf. */
#include <errno.h>

#include "hw/dpdk_int.h"
#include "hw/offload.h"

#define UDP_CSUM_OFFSET   6u
#define IP4_CSUM_OFFSET   10u
#define IP_VERSION_4      4u
#define VLAN_TAG_BYTES    4u
#define ETHERTYPE_OFF     12u
#define ETHERTYPE_VLAN_HI 0x81u
#define ETHERTYPE_VLAN_LO 0x00u

#define RX_L4_MASK        RTE_MBUF_F_RX_L4_CKSUM_MASK

/** Segments that were joined below us. */
static int rx_gso(const struct rte_mbuf *m, struct pktbuf *pkt)
{
    struct tcp_layout layout;

    pkt->gso_type = PKT_GSO_TCP4;
    if (offload_tcp_layout(pkt->data, pkt->len, PKT_GSO_TCP4, &layout)) {
        pkt->gso_type = PKT_GSO_TCP6;
        if (offload_tcp_layout(pkt->data, pkt->len, PKT_GSO_TCP6, &layout))
            return -EINVAL;
    }
    if (!m->tso_segsz || layout.hdr_len >= pkt->len || !(pkt->flags & PKT_CSUM_GOOD))
        return -EINVAL;
    pkt->gso_size = m->tso_segsz;
    pkt->hdr_len = layout.hdr_len;
    return 0;
}

/*
 * "None" is DPDK's word for a checksum that was never computed because the frame was on no wire: its bytes
 * are known to be right, as with "good". A bad one is for the engine to find and count.
 */
int dpdk_rx_offloads(const struct rte_mbuf *m, struct pktbuf *pkt)
{
    uint64_t said = m->ol_flags & RX_L4_MASK;

    pkt->flags =
        said == RTE_MBUF_F_RX_L4_CKSUM_GOOD || said == RTE_MBUF_F_RX_L4_CKSUM_NONE ? PKT_CSUM_GOOD : 0;
    return m->ol_flags & RTE_MBUF_F_RX_LRO ? rx_gso(m, pkt) : 0;
}

static uint16_t l2_bytes(const uint8_t *frame)
{
    bool tagged = frame[ETHERTYPE_OFF] == ETHERTYPE_VLAN_HI && frame[ETHERTYPE_OFF + 1] == ETHERTYPE_VLAN_LO;

    return tagged ? ETH_HDR_BYTES + VLAN_TAG_BYTES : ETH_HDR_BYTES;
}

static void tx_tso(const struct pktbuf *pkt, bool ip_csum, struct rte_mbuf *m)
{
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);

    m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
    m->l4_len = pkt->hdr_len - pkt->csum_start;
    m->tso_segsz = pkt->gso_size;
    if (!ip_csum || pkt->gso_type != PKT_GSO_TCP4)
        return;
    m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
    frame[m->l2_len + IP4_CSUM_OFFSET] = 0;
    frame[m->l2_len + IP4_CSUM_OFFSET + 1] = 0;
}

void dpdk_tx_offloads(const struct pktbuf *pkt, bool ip_csum, struct rte_mbuf *m)
{
    const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);

    m->tx_offload = 0;
    m->l2_len = l2_bytes(frame);
    m->l3_len = pkt->csum_start - m->l2_len;
    m->ol_flags |= frame[m->l2_len] >> 4 == IP_VERSION_4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
    m->ol_flags |= pkt->csum_offset == UDP_CSUM_OFFSET ? RTE_MBUF_F_TX_UDP_CKSUM : RTE_MBUF_F_TX_TCP_CKSUM;
    if (pkt->gso_type != PKT_GSO_NONE)
        tx_tso(pkt, ip_csum, m);
}

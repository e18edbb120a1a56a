/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/offload.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define IP4_HDR_BYTES  20u
#define IP6_HDR_BYTES  40u
#define TCP_HDR_BYTES  20u
#define IP_PROTO_TCP   6u
#define ETHERTYPE_OFF  12u
#define ETHERTYPE_IP4  0x0800u
#define ETHERTYPE_IP6  0x86ddu
#define ETHERTYPE_VLAN 0x8100u
#define VLAN_TAG_BYTES 4u
#define IP4_FRAGMENT   0x3fffu /* more-fragments bit and offset */
#define TCP_FLAG_FIN   0x01u
#define TCP_FLAG_PSH   0x08u
#define TCP_FLAG_CWR   0x80u
#define CSUM_MANGLED_0 0xffffu /* the other zero of one's complement; in UDP a plain 0 means "none" */

static uint16_t get_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

static void put_be16(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void put_be32(uint8_t *p, uint32_t value)
{
    put_be16(p, value >> 16);
    put_be16(p + 2, value);
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

uint16_t offload_csum(const uint8_t *bytes, size_t len, uint32_t sum)
{
    uint64_t words = 0;
    uint32_t word;

    /* RFC 1071 section 2 (B): the sum may be taken in any byte order and swapped once at the end. */
    for (; len >= sizeof(word); bytes += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        words += word;
    }
    if (len) {
        word = 0;
        memcpy(&word, bytes, len);
        words += word;
    }
    return (uint16_t)~fold((uint64_t)ntohs(fold(words)) + sum);
}

int offload_csum_fill(uint8_t *frame, uint32_t len, uint32_t csum_start, uint32_t csum_offset)
{
    if (csum_start < ETH_HDR_BYTES || csum_start > len || csum_offset + 2 > len - csum_start)
        return -EINVAL;
    /* The field's own content, the pseudo-header sum, is part of what is summed. */
    uint16_t csum = offload_csum(frame + csum_start, len - csum_start, 0);
    put_be16(frame + csum_start + csum_offset, csum ? csum : CSUM_MANGLED_0);
    return 0;
}

int offload_tcp_layout(const uint8_t *frame, uint32_t len, uint8_t gso_type, struct tcp_layout *ret)
{
    uint32_t l3 = ETH_HDR_BYTES, l4;
    const uint8_t *ip;
    uint16_t type;

    if (len >= l3 + VLAN_TAG_BYTES && get_be16(frame + ETHERTYPE_OFF) == ETHERTYPE_VLAN)
        l3 += VLAN_TAG_BYTES;
    if (len < l3 + IP4_HDR_BYTES)
        return -EINVAL;
    ip = frame + l3;
    type = get_be16(ip - 2);
    if (gso_type == PKT_GSO_TCP4 && type == ETHERTYPE_IP4) {
        uint32_t ihl = (ip[0] & 0xfu) * 4;
        if (ip[0] >> 4 != 4 || ihl < IP4_HDR_BYTES || ip[9] != IP_PROTO_TCP ||
            get_be16(ip + 6) & IP4_FRAGMENT)
            return -EINVAL;
        l4 = l3 + ihl;
    } else if (gso_type == PKT_GSO_TCP6 && type == ETHERTYPE_IP6) {
        if (len < l3 + IP6_HDR_BYTES || ip[0] >> 4 != 6 || ip[6] != IP_PROTO_TCP)
            return -EINVAL;
        l4 = l3 + IP6_HDR_BYTES;
    } else {
        return -EINVAL;
    }
    if (len < l4 + TCP_HDR_BYTES)
        return -EINVAL;
    uint32_t tcp_hdr = (frame[l4 + 12] >> 4) * 4u;
    if (tcp_hdr < TCP_HDR_BYTES || len < l4 + tcp_hdr)
        return -EINVAL;
    ret->l3 = (uint16_t)l3;
    ret->l4 = (uint16_t)l4;
    ret->hdr_len = (uint16_t)(l4 + tcp_hdr);
    return 0;
}

uint32_t offload_segment_count(const struct tcp_layout *layout, uint32_t total, uint16_t gso_size)
{
    assert(gso_size > 0);
    assert(total >= layout->hdr_len);
    uint32_t payload = total - layout->hdr_len;
    return payload ? (payload + gso_size - 1) / gso_size : 1;
}

/** The IP header of one segment; returns the sum of its pseudo header, in host order. */
static uint32_t segment_ip(uint8_t *ip, uint32_t ip_hdr, uint32_t tcp_bytes, uint32_t index)
{
    uint32_t addr_off, addr_bytes;

    if (ip[0] >> 4 == 4) {
        put_be16(ip + 2, ip_hdr + tcp_bytes);
        put_be16(ip + 4, get_be16(ip + 4) + index);
        put_be16(ip + 10, 0);
        put_be16(ip + 10, offload_csum(ip, ip_hdr, 0));
        addr_off = 12;
        addr_bytes = 8;
    } else {
        put_be16(ip + 4, tcp_bytes);
        addr_off = 8;
        addr_bytes = 32;
    }
    return (uint16_t)~offload_csum(ip + addr_off, addr_bytes, IP_PROTO_TCP + tcp_bytes);
}

uint32_t offload_segment(const uint8_t *frame, uint32_t total, const struct tcp_layout *layout,
                         uint16_t gso_size, uint32_t index, uint8_t *out)
{
    uint32_t count = offload_segment_count(layout, total, gso_size);
    uint32_t offset = index * gso_size;

    assert(index < count);
    uint32_t payload = total - layout->hdr_len - offset;
    if (payload > gso_size)
        payload = gso_size;
    memcpy(out, frame, layout->hdr_len);
    memcpy(out + layout->hdr_len, frame + layout->hdr_len + offset, payload);

    uint32_t tcp_bytes = layout->hdr_len - layout->l4 + payload;
    uint32_t pseudo = segment_ip(out + layout->l3, layout->l4 - layout->l3, tcp_bytes, index);
    uint8_t *tcp = out + layout->l4;
    put_be32(tcp + 4, get_be32(tcp + 4) + offset);
    if (index > 0)
        tcp[13] &= (uint8_t)~TCP_FLAG_CWR;
    if (index + 1 < count)
        tcp[13] &= (uint8_t) ~(TCP_FLAG_FIN | TCP_FLAG_PSH);
    put_be16(tcp + TCP_CSUM_OFFSET, 0);
    put_be16(tcp + TCP_CSUM_OFFSET, offload_csum(tcp, tcp_bytes, pseudo));
    return layout->hdr_len + payload;
}

void offload_gather(const struct pktbuf *pkt, uint8_t *out)
{
    memcpy(out, pkt->data, pkt->len);
    out += pkt->len;
    for (unsigned i = 0; i < pkt->frag_count; i++) {
        memcpy(out, pkt->frag[i].ptr, pkt->frag[i].len);
        out += pkt->frag[i].len;
    }
}

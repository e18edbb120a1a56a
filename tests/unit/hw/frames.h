/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames for the tests of hw/, built and checked byte by byte with a checksum of their own, so that a mistake
 * in the code under test is not made twice.
 */
#ifndef TEST_HW_FRAMES_H
#define TEST_HW_FRAMES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "hw/pktbuf.h"

#define FRAME_ETH 14u
#define FRAME_IP4 20u
#define FRAME_IP6 40u
#define FRAME_TCP 20u
#define FRAME_UDP 8u

enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_PSH = 0x08, TCP_ACK = 0x10, TCP_CWR = 0x80 };

static inline void frame_put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline unsigned frame_get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static inline void frame_put32(uint8_t *p, uint32_t v)
{
    frame_put16(p, v >> 16);
    frame_put16(p + 2, v & 0xffff);
}

static inline uint32_t frame_get32(const uint8_t *p)
{
    return (uint32_t)frame_get16(p) << 16 | frame_get16(p + 2);
}

/** The folded, uncomplemented sum of RFC 1071, one byte at a time. */
static inline unsigned frame_sum(const uint8_t *p, size_t len, unsigned sum)
{
    for (size_t i = 0; i < len; i++) {
        sum += i % 2 ? p[i] : (unsigned)p[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/** The sum of the pseudo header of the IP packet at `ip` (no options) with `l4_bytes` behind its header. */
static inline unsigned frame_pseudo(const uint8_t *ip, unsigned l4_bytes)
{
    bool v4 = ip[0] >> 4 == 4;
    unsigned proto = v4 ? ip[9] : ip[6];

    return v4 ? frame_sum(ip + 12, 8, proto + l4_bytes) : frame_sum(ip + 8, 32, proto + l4_bytes);
}

/** True when every checksum of an IPv4 or IPv6 frame that carries TCP or UDP is right, and its lengths are.
 */
static inline bool frame_is_right(const uint8_t *f, uint32_t len)
{
    const uint8_t *ip = f + FRAME_ETH;
    bool v4 = ip[0] >> 4 == 4;
    unsigned ip_hdr = v4 ? FRAME_IP4 : FRAME_IP6;
    unsigned l4 = len - FRAME_ETH - ip_hdr;

    if (v4 && (frame_sum(ip, FRAME_IP4, 0) != 0xffff || frame_get16(ip + 2) != len - FRAME_ETH))
        return false;
    if (!v4 && frame_get16(ip + 4) != l4)
        return false;
    return frame_sum(ip + ip_hdr, l4, frame_pseudo(ip, l4)) == 0xffff;
}

/** Bytes that tell where they belong. */
static inline uint8_t frame_pattern(uint32_t i)
{
    return (uint8_t)(i * 7 + (i >> 8) * 13 + 5);
}

struct frame_addr {
    uint8_t mac[6];
    uint8_t ip[4];
    uint16_t port;
};

/** Ethernet and IPv4 headers; returns the offset of what follows. */
static inline uint32_t frame_ip4(uint8_t *f, const struct frame_addr *from, const struct frame_addr *to,
                                 uint8_t proto, unsigned l4_bytes)
{
    uint8_t *ip = f + FRAME_ETH;

    memset(f, 0, FRAME_ETH + FRAME_IP4);
    memcpy(f, to->mac, 6);
    memcpy(f + 6, from->mac, 6);
    frame_put16(f + 12, 0x0800);
    ip[0] = 0x45;
    frame_put16(ip + 2, FRAME_IP4 + l4_bytes);
    frame_put16(ip + 4, 0xfffe); /* wraps at the third segment */
    ip[8] = 64;
    ip[9] = proto;
    memcpy(ip + 12, from->ip, 4);
    memcpy(ip + 16, to->ip, 4);
    frame_put16(ip + 10, ~frame_sum(ip, FRAME_IP4, 0) & 0xffff);
    return FRAME_ETH + FRAME_IP4;
}

/** A TCP header without options; the checksum field holds the pseudo-header sum (PKT_CSUM_PARTIAL). */
static inline uint32_t frame_tcp(uint8_t *tcp, const uint8_t *ip, unsigned sport, unsigned dport,
                                 uint32_t seq, uint32_t ack, unsigned flags, unsigned payload)
{
    memset(tcp, 0, FRAME_TCP);
    frame_put16(tcp, sport);
    frame_put16(tcp + 2, dport);
    frame_put32(tcp + 4, seq);
    frame_put32(tcp + 8, ack);
    tcp[12] = 0x50;
    tcp[13] = (uint8_t)flags;
    frame_put16(tcp + 14, 65535);
    frame_put16(tcp + 16, frame_pseudo(ip, FRAME_TCP + payload));
    return FRAME_TCP;
}

/** A whole UDP frame with its checksum; returns its bytes. */
static inline uint32_t frame_udp(uint8_t *f, const struct frame_addr *from, const struct frame_addr *to,
                                 const void *payload, unsigned bytes)
{
    uint32_t at = frame_ip4(f, from, to, 17, FRAME_UDP + bytes);
    uint8_t *udp = f + at;

    frame_put16(udp, from->port);
    frame_put16(udp + 2, to->port);
    frame_put16(udp + 4, FRAME_UDP + bytes);
    frame_put16(udp + 6, 0);
    memcpy(udp + FRAME_UDP, payload, bytes);
    unsigned sum = frame_sum(udp, FRAME_UDP + bytes, frame_pseudo(f + FRAME_ETH, FRAME_UDP + bytes));
    frame_put16(udp + 6, sum == 0xffff ? 0xffff : ~sum & 0xffff);
    return at + FRAME_UDP + bytes;
}

static inline struct pktbuf frame_pkt(uint8_t *data, uint32_t len)
{
    return (struct pktbuf){.data = data, .len = len, .total = len};
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DHCPv4 messages (RFC 2131 2, RFC 2132). Addresses are in host order.
 */
#ifndef ENGINE_WIRE_DHCP_H
#define ENGINE_WIRE_DHCP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "daemon/engine/wire/bytes.h"
#include "daemon/engine/wire/eth.h"

#define DHCP_SERVER_PORT 67u
#define DHCP_CLIENT_PORT 68u

#define DHCP_FIXED_BYTES 240u /* up to the options, magic cookie included */
#define DHCP_BYTES_MIN   300u /* RFC 1542 2.1: shorter ones are dropped by old relays */
#define DHCP_MAGIC       0x63825363u
#define DHCP_BROADCAST   0x8000u

enum dhcp_type {
    DHCP_DISCOVER = 1,
    DHCP_OFFER,
    DHCP_REQUEST,
    DHCP_DECLINE,
    DHCP_ACK,
    DHCP_NAK,
};

enum dhcp_option {
    DHCP_O_PAD = 0,
    DHCP_O_MASK = 1,
    DHCP_O_ROUTER = 3,
    DHCP_O_MTU = 26,
    DHCP_O_REQUESTED = 50,
    DHCP_O_LEASE = 51,
    DHCP_O_OVERLOAD = 52,
    DHCP_O_TYPE = 53,
    DHCP_O_SERVER = 54,
    DHCP_O_PARAMETERS = 55,
    DHCP_O_T1 = 58,
    DHCP_O_T2 = 59,
    DHCP_O_END = 255,
};

/** What a client reads of a server's message. 0: not said. */
struct dhcp_msg {
    uint32_t xid, yiaddr;
    uint8_t chaddr[ETH_ADDR_BYTES];
    uint8_t type, overload;
    uint16_t mtu;
    uint32_t mask, router, server;
    uint32_t lease_s, t1_s, t2_s;
};

/* Take one option of `len` bytes; false: it has a length that it can't have. The first of several counts. */
static inline bool dhcp_option_take(struct dhcp_msg *m, uint8_t option, const uint8_t *p, uint32_t len)
{
    uint32_t *word = NULL;

    switch (option) {
    case DHCP_O_TYPE:
        if (len != 1)
            return false;
        m->type = m->type ? m->type : p[0];
        return true;
    case DHCP_O_OVERLOAD:
        if (len != 1 || p[0] < 1 || p[0] > 3)
            return false;
        m->overload = m->overload ? m->overload : p[0];
        return true;
    case DHCP_O_MTU:
        if (len != 2)
            return false;
        m->mtu = m->mtu ? m->mtu : get_be16(p);
        return true;
    case DHCP_O_ROUTER: /* In order of preference; the first is enough. */
        if (len < 4 || len % 4)
            return false;
        m->router = m->router ? m->router : get_be32(p);
        return true;
    case DHCP_O_MASK:
        word = &m->mask;
        break;
    case DHCP_O_SERVER:
        word = &m->server;
        break;
    case DHCP_O_LEASE:
        word = &m->lease_s;
        break;
    case DHCP_O_T1:
        word = &m->t1_s;
        break;
    case DHCP_O_T2:
        word = &m->t2_s;
        break;
    default:
        return true;
    }
    if (len != 4)
        return false;
    *word = *word ? *word : get_be32(p);
    return true;
}

static inline bool dhcp_options_parse(struct dhcp_msg *m, const uint8_t *p, uint32_t bytes)
{
    for (uint32_t at = 0; at < bytes && p[at] != DHCP_O_END;) {
        uint32_t len;

        if (p[at] == DHCP_O_PAD) {
            at++;
            continue;
        }
        if (bytes - at < 2)
            return false;
        len = p[at + 1];
        if (len > bytes - at - 2 || !dhcp_option_take(m, p[at], p + at + 2, len))
            return false;
        at += 2 + len;
    }
    return true;
}

/** @return false: no server's message for an Ethernet client, or an option that is cut short or malformed */
static inline bool dhcp_parse(const uint8_t *p, uint32_t bytes, struct dhcp_msg *ret)
{
    if (bytes < DHCP_FIXED_BYTES || p[0] != 2 || p[1] != 1 || p[2] != ETH_ADDR_BYTES ||
        get_be32(p + 236) != DHCP_MAGIC)
        return false;
    *ret = (struct dhcp_msg){.xid = get_be32(p + 4), .yiaddr = get_be32(p + 16)};
    memcpy(ret->chaddr, p + 28, ETH_ADDR_BYTES);
    if (!dhcp_options_parse(ret, p + DHCP_FIXED_BYTES, bytes - DHCP_FIXED_BYTES))
        return false;
    /* RFC 2131 4.1: the fields "file" and "sname" may hold more of them. */
    if (ret->overload & 1 && !dhcp_options_parse(ret, p + 108, 128))
        return false;
    return !(ret->overload & 2) || dhcp_options_parse(ret, p + 44, 64);
}

#endif

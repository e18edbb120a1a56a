/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/sort.h"

#include <string.h>

#define LEADER         0u

#define ETH_HDR        14u
#define ETH_TAG        4u
#define TYPE_IP4       0x0800u
#define TYPE_ARP       0x0806u
#define TYPE_VLAN      0x8100u
#define TYPE_IP6       0x86ddu
#define ARP_BYTES      28u
#define ARP_REQUEST    1u
#define IP4_HDR        20u
#define IP6_HDR        40u
#define PROTO_ICMP     1u
#define PROTO_IGMP     2u
#define PROTO_TCP      6u
#define PROTO_UDP      17u
#define PROTO_ICMP6    58u
#define NH_HOPOPTS     0u
#define NH_ROUTING     43u
#define NH_FRAGMENT    44u
#define NH_DSTOPTS     60u
#define EXT_MAX        8u /* extension headers looked at */
#define DHCP_CLIENT    68u
#define DHCP_SERVER    67u
#define ICMP6_ERRORS   128u /* types below are errors */
#define ICMP6_MLD      130u /* .. 132 */
#define ICMP6_RS       133u
#define ICMP6_NS       135u
#define ICMP6_NA       136u
#define ICMP6_REDIRECT 137u
#define ICMP6_MLD2     143u

/** An IP packet as far as it matters here. */
struct view {
    struct ip_addr src, dst;
    const uint8_t *l4;
    uint32_t l4_len;
    uint8_t proto;
    bool fragment, group;
};

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t bit(unsigned worker)
{
    return 1u << worker;
}

static uint32_t all(const struct sorter *s)
{
    return (1u << s->workers) - 1;
}

/* ---- Flows ------------------------------------------------------------------------------------------- */

static uint32_t flow_hash(const struct engine_flow *f)
{
    uint64_t w[4];

    memcpy(&w[0], f->remote.ip, 16);
    memcpy(&w[2], f->local.ip, 16);
    w[0] = (w[0] ^ w[1] ^ (w[2] ^ w[3]) * 3 ^ ((uint64_t)f->lport << 16 | f->rport)) *
           UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(w[0] >> 32);
}

static unsigned nth_worker(uint32_t mask, unsigned n)
{
    while (n--)
        mask &= mask - 1;
    return (unsigned)__builtin_ctz(mask);
}

int sort_queue(const struct spread *sp, const struct engine_flow *f)
{
    struct spread_flow sf = {.src_port = f->rport,
                             .dst_port = f->lport,
                             .proto = f->proto,
                             .ip_version = f->local.family == SG_AF_INET6 ? 6 : 4};

    memcpy(sf.src, f->remote.ip, sizeof(sf.src));
    memcpy(sf.dst, f->local.ip, sizeof(sf.dst));
    return spread_queue(sp, &sf);
}

/* Where the device brings frames of this flow; where this one came in when it doesn't say. */
static unsigned natural(const struct spread *sp, unsigned here, const struct engine_flow *f)
{
    int q = sort_queue(sp, f);

    return q >= 0 ? (unsigned)q : here;
}

/* The worker for packets of a flow. */
static unsigned of_flow(struct sorter *s, const struct spread *sp, unsigned here, const struct engine_flow *f)
{
    uint32_t users = portmap_users(s->ports, f->proto, f->lport), mask = users & PORTMAP_WORKERS;
    unsigned home;
    int found;

    if (mask && !(mask & (mask - 1)) && !(users & PORTMAP_ASK))
        return nth_worker(mask, 0);
    if (users & PORTMAP_ASK) {
        found = portmap_find(s->ports, f, flow_hash(f));
        if (found >= 0)
            return (unsigned)found;
    }
    home = natural(sp, here, f);
    if (f->proto == PROTO_UDP && mask && !(mask & bit(home)))
        return nth_worker(mask, flow_hash(f) % (unsigned)__builtin_popcount(mask));
    return home;
}

static uint32_t of_ports(struct sorter *s, const struct spread *sp, unsigned here, const struct view *v)
{
    struct engine_flow f = {.local = v->dst, .remote = v->src, .proto = v->proto};
    uint32_t mask;

    if (v->l4_len < 4)
        return bit(here);
    f.rport = be16(v->l4);
    f.lport = be16(v->l4 + 2);
    mask = portmap_users(s->ports, f.proto, f.lport) & PORTMAP_WORKERS;
    if (f.proto == PROTO_UDP && f.lport == DHCP_CLIENT && f.rport == DHCP_SERVER)
        return mask | bit(LEADER);
    if (v->group)
        return mask ? mask : bit(here);
    return bit(of_flow(s, sp, here, &f));
}

/* ---- ICMP -------------------------------------------------------------------------------------------- */

static bool parse4(const uint8_t *p, uint32_t len, struct view *ret)
{
    uint32_t hdr;

    if (len < IP4_HDR || p[0] >> 4 != 4)
        return false;
    hdr = (uint32_t)(p[0] & 15) * 4;
    if (hdr < IP4_HDR || len < hdr)
        return false;
    *ret = (struct view){.src = {.family = SG_AF_INET},
                         .dst = {.family = SG_AF_INET},
                         .l4 = p + hdr,
                         .l4_len = len - hdr,
                         .proto = p[9],
                         .fragment = be16(p + 6) & 0x3fff};
    memcpy(ret->src.ip, p + 12, 4);
    memcpy(ret->dst.ip, p + 16, 4);
    return true;
}

static bool parse6(const uint8_t *p, uint32_t len, struct view *ret)
{
    uint8_t next;

    if (len < IP6_HDR || p[0] >> 4 != 6)
        return false;
    *ret = (struct view){.src = {.family = SG_AF_INET6},
                         .dst = {.family = SG_AF_INET6},
                         .l4 = p + IP6_HDR,
                         .l4_len = len - IP6_HDR};
    memcpy(ret->src.ip, p + 8, 16);
    memcpy(ret->dst.ip, p + 24, 16);
    next = p[6];
    for (unsigned i = 0; i < EXT_MAX; i++) {
        uint32_t bytes;

        if (next != NH_HOPOPTS && next != NH_ROUTING && next != NH_DSTOPTS)
            break;
        if (ret->l4_len < 8)
            return false;
        bytes = ((uint32_t)ret->l4[1] + 1) * 8;
        if (ret->l4_len < bytes)
            return false;
        next = ret->l4[0];
        ret->l4 += bytes;
        ret->l4_len -= bytes;
    }
    ret->proto = next;
    ret->fragment = next == NH_FRAGMENT;
    return true;
}

/* Whose packet does the error quote? */
static uint32_t of_error(struct sorter *s, const struct spread *sp, unsigned here, const struct view *v)
{
    struct engine_flow f;
    struct view q;
    bool ok = v->dst.family == SG_AF_INET ? parse4(v->l4 + 8, v->l4_len - 8, &q)
                                          : parse6(v->l4 + 8, v->l4_len - 8, &q);

    if (!ok || q.fragment || q.l4_len < 4 || (q.proto != PROTO_TCP && q.proto != PROTO_UDP))
        return bit(here);
    f = (struct engine_flow){.local = q.src, .remote = q.dst, .proto = q.proto};
    f.lport = be16(q.l4);
    f.rport = be16(q.l4 + 2);
    return bit(of_flow(s, sp, here, &f));
}

static uint32_t of_icmp(struct sorter *s, const struct spread *sp, unsigned here, const struct view *v)
{
    uint8_t type;

    if (v->l4_len < 8)
        return bit(here);
    type = v->l4[0];
    if (v->dst.family == SG_AF_INET)
        return type == 3 || type == 11 || type == 12 ? of_error(s, sp, here, v) : bit(here);
    if (type < ICMP6_ERRORS)
        return of_error(s, sp, here, v);
    if ((type >= ICMP6_MLD && type < ICMP6_RS) || type == ICMP6_MLD2 || type == ICMP6_NA)
        return all(s);
    return type >= ICMP6_RS && type <= ICMP6_REDIRECT ? bit(LEADER) : bit(here);
}

/* ---- Packets and frames ------------------------------------------------------------------------------ */

static uint32_t of_view(struct sorter *s, const struct spread *sp, unsigned here, const struct view *v)
{
    uint32_t mask = bit(here);

    if (v->fragment)
        return mask;
    if (v->proto == PROTO_TCP || v->proto == PROTO_UDP)
        mask = of_ports(s, sp, here, v);
    else if (v->proto == (v->dst.family == SG_AF_INET ? PROTO_ICMP : PROTO_ICMP6))
        mask = of_icmp(s, sp, here, v);
    else if (v->proto == PROTO_IGMP && v->dst.family == SG_AF_INET)
        mask = all(s);
    if (!(mask & bit(LEADER)) &&
        __atomic_load_n(&s->raw[v->dst.family == SG_AF_INET6][v->proto], __ATOMIC_RELAXED))
        mask |= SORT_COPY;
    return mask;
}

/* A request that asks for another than its sender (RFC 5227 calls it an announcement else) teaches nothing
 * that the others need. */
static uint32_t of_arp(const struct sorter *s, const uint8_t *p, uint32_t len)
{
    if (len >= ARP_BYTES && be16(p + 6) == ARP_REQUEST && memcmp(p + 14, p + 24, 4) != 0)
        return bit(LEADER);
    return all(s);
}

uint32_t sort_frame(struct sorter *s, unsigned here, const struct spread *spread, const uint8_t *frame,
                    uint32_t len)
{
    const uint8_t *p = frame + ETH_HDR;
    struct view v;
    uint16_t type;

    if (len < ETH_HDR + ETH_TAG)
        return bit(here);
    type = be16(frame + 12);
    if (type == TYPE_VLAN) {
        type = be16(p + 2);
        p += ETH_TAG;
    }
    len -= (uint32_t)(p - frame);
    if (type == TYPE_ARP)
        return of_arp(s, p, len);
    if (type == TYPE_IP4 ? !parse4(p, len, &v) : type != TYPE_IP6 || !parse6(p, len, &v))
        return bit(here);
    v.group = frame[0] & 1;
    return of_view(s, spread, here, &v);
}

uint32_t sort_packet(struct sorter *s, unsigned here, const struct spread *spread,
                     const struct engine_packet *p)
{
    const struct view v = {.src = p->src,
                           .dst = p->dst,
                           .l4 = p->payload,
                           .l4_len = p->payload_bytes,
                           .proto = p->proto,
                           .group = p->group};

    return of_view(s, spread, here, &v);
}

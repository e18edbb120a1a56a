/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packet info of datagrams (IP_PKTINFO, IPV6_PKTINFO and their like; RFC 3542 6): told about what was
 * received, and taken from the application about what is sent.
 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

bool udp_wants_info(const struct udp_sock *u)
{
    return u->s.opts & (SO_F_PKTINFO | SO_F_RECVTTL | SO_F_RECVTOS);
}

void udp_info_fill(const struct udp_sock *u, const struct rx_pkt *rp, struct sg_dgram_info *ret)
{
    struct ip_addr dst = net_to_api(&rp->dst, u->s.family);

    *ret = (struct sg_dgram_info){.ifnum = rp->ifindex + 1u, .ttl = rp->ttl, .tos = rp->tos};
    memcpy(ret->addr, dst.ip, sizeof(ret->addr));
}

static bool needs_scope(const struct ip_addr *a)
{
    return net_is_multicast(a) || (a->family == SG_AF_INET6 && ip6_is_link_local(a->ip));
}

int udp_info_scope(struct engine *e, struct udp_outgoing *o)
{
    if (o->info.ifnum > e->net.t.if_count)
        return ENODEV;
    if (o->info.ifnum && needs_scope(&o->dst) && !o->dst.scope)
        o->dst.scope = o->info.ifnum;
    return 0;
}

int udp_info_apply(struct engine *e, const struct udp_sock *u, struct udp_outgoing *o)
{
    struct ip_addr given = {.family = u->s.family, .scope = o->info.ifnum}, src;

    if (o->info.ttl < -1 || o->info.ttl == 0 || o->info.ttl > UINT8_MAX || o->info.tos < -1 ||
        o->info.tos > UINT8_MAX)
        return EINVAL;
    if (o->info.ttl > 0)
        o->ttl = (uint8_t)o->info.ttl;
    if (o->info.tos >= 0)
        o->tos = (uint8_t)o->info.tos;
    memcpy(given.ip, o->info.addr, given.family == SG_AF_INET6 ? 16 : 4);
    src = net_from_api(e, &given);
    if (ip_addr_any(&src))
        return 0;
    if (src.family != o->dst.family)
        return EINVAL;
    if (!net_is_own(e, &src))
        return EADDRNOTAVAIL;
    o->src = src;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv6 (RFC 8200): packets in and out. Extension headers are ip6_ext.c's.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/icmp6.h"

#include <errno.h>

/* ---- In ------------------------------------------------------------------------------------------- */

/* An advertisement may well come from an address of ours: that of a host which believes that it is its own
 * (RFC 4862 5.4.4). nd.c looks at who sent it. */
static bool claims_address(const struct ip6_pkt *ip)
{
    return ip->next == IP6_NH_ICMP && ip->hops == IP6_HOPS_LINK && ip->len &&
           ip->payload[0] == ICMP6_NEIGHBOR_ADVERT && !ip6_is_multicast(ip->src);
}

/* RFC 4291 2.7, 2.5.3: a source that no host can have, or that is ours. The unspecified address is for those
 * who have none yet (duplicate address detection, MLD), which only ICMPv6 takes. */
static bool source_ok(const struct engine *e, const struct ip_addr *src, const struct ip6_pkt *ip,
                      bool looped)
{
    if (ip6_is_unspecified(ip->src))
        return ip6_is_multicast(ip->dst) && ip->next != IP_PROTO_TCP && ip->next != IP_PROTO_UDP;
    if (claims_address(ip))
        return true;
    return looped || netif_lookup(&e->net.t, src)->kind == DST_UNICAST;
}

/* The solicited-node group of an address of this interface, one still being probed for included. */
static bool is_solicited_node(const struct net_tables *t, const uint8_t *dst, uint8_t ifindex)
{
    for (uint32_t i = 0; i < t->addr_count; i++) {
        const struct net_addr *a = &t->addrs[i];
        uint8_t group[16];

        if (a->state == ADDR_FREE || a->ifindex != ifindex || a->addr.family != SG_AF_INET6)
            continue;
        ip6_solicited_node(a->addr.ip, group);
        if (memcmp(group, dst, 16) == 0)
            return true;
    }
    return false;
}

bool ip6_group_own(const struct engine *e, const uint8_t *dst, uint8_t ifindex)
{
    return ip6_is_all_nodes(dst) || is_solicited_node(&e->net.t, dst, ifindex);
}

bool ip6_group_joined(const struct engine *e, const struct ip_addr *dst, uint8_t ifindex)
{
    return ip6_group_own(e, dst->ip, ifindex) || mcast_listens(e, dst, ifindex);
}

static bool destination_ok(const struct engine *e, const struct ip6_pkt *ip, const struct rx_pkt *rp,
                           const struct arrival *a)
{
    const struct net_dst *d;

    if (ip6_is_multicast(ip->dst))
        return ip6_group_joined(e, &rp->dst, a->ifindex);
    d = netif_lookup(&e->net.t, &rp->dst);
    return !a->link_group && d->kind == DST_OWN && d->ifindex == a->ifindex; /* RFC 1122 3.3.4.2 (A) */
}

void ip6_input(struct engine *e, const uint8_t *p, uint32_t bytes, const struct arrival *a, uint64_t now_us)
{
    struct ip6_pkt ip;
    struct rx_pkt rp;

    stat_inc(&e->stats, ST_IP6_IN_RECEIVES);
    if (!ip6_parse(p, bytes, &ip)) {
        stat_inc(&e->stats, ST_IP6_IN_HDR_ERRORS);
        return;
    }
    rp = (struct rx_pkt){
        .l4 = ip.payload,
        .l4_len = ip.len,
        .src = net_ip_addr6(ip.src, a->ifindex),
        .dst = net_ip_addr6(ip.dst, a->ifindex),
        .proto = ip.next,
        .tos = ip.tclass,
        .ttl = ip.hops,
        .ifindex = a->ifindex,
        .csum_ok = a->csum_ok,
        .broadcast = ip6_is_multicast(ip.dst),
        .gso_size = a->gso_size,
        .src_mac = a->src_mac,
        .l3 = ip.hdr,
        .l3_hdr_len = IP6_HDR_BYTES,
        .next_off = IP6_NEXT_OFF,
    };
    stat_add(&e->stats, ST_IP6_IN_NO_ECT + (rp.tos & IP_ECN_MASK), net_segments(&rp));
    if (!source_ok(e, &rp.src, &ip, a->looped) || !destination_ok(e, &ip, &rp, a)) {
        stat_inc(&e->stats, ST_IP6_IN_ADDR_ERRORS);
        return;
    }
    ip6_next(e, &rp, false, now_us);
}

/* ---- Out ------------------------------------------------------------------------------------------ */

/* Payload of each fragment but the last: a multiple of 8 (RFC 8200 4.5). */
uint32_t ip6_fragment_bytes(uint32_t packet_max)
{
    return (packet_max - IP6_HDR_BYTES - IP6_FRAG_HDR_BYTES) & ~7u;
}

static void put_header(struct pktbuf *p, const struct ip_out *o, uint8_t next)
{
    uint32_t len = net_pkt_bytes(p);

    net_pkt_push(p, IP6_HDR_BYTES);
    ip6_put(p->data, o->src->ip, o->dst->ip, next, o->tos, o->ttl, 0, len);
}

struct frag_ctx {
    const struct ip_out *o;
    uint32_t id;
};

static void put_fragment_header(struct pktbuf *p, const void *ctx, uint32_t off, uint32_t len, bool more)
{
    const struct frag_ctx *f = ctx;

    (void)len;
    net_pkt_push(p, IP6_FRAG_HDR_BYTES);
    p->data[0] = f->o->proto;
    p->data[1] = 0;
    put_be16(p->data + 2, (uint16_t)(off | (more ? IP6_FRAG_MORE : 0)));
    put_be32(p->data + 4, f->id);
    put_header(p, f->o, IP6_NH_FRAGMENT);
}

int ip6_output(struct engine *e, struct pktbuf *p, const struct ip_out *o, uint64_t now_us)
{
    const struct net_dst *d = netif_lookup(&e->net.t, o->dst);
    uint32_t total = net_pkt_bytes(p), packet_max = IP6_HDR_BYTES + IP6_PAYLOAD_MAX;
    bool own = d->kind == DST_OWN, whole = o->cut & (NET_DF | NET_WHOLE);

    stat_inc(&e->stats, ST_IP6_OUT_REQUESTS);
    /* Groups may be spoken to without an address of one's own: discovery of duplicates does. */
    if (!d->has_src && !(d->kind == DST_MULTICAST && d->ifindex != ENGINE_IF_ANY)) {
        stat_inc(&e->stats, ST_IP6_OUT_NO_ROUTES);
        pktq_drop(&e->txq);
        return -ENETUNREACH;
    }
    if (p->gso_type)
        p->gso_type = PKT_GSO_TCP6;
    else if (!own)
        packet_max = whole ? d->mtu : net_packet_max(e, o->dst, o->cut);
    if (total > IP6_PAYLOAD_MAX || (whole && IP6_HDR_BYTES + total > packet_max)) {
        pktq_drop(&e->txq);
        return -EMSGSIZE;
    }
    if (IP6_HDR_BYTES + total > packet_max) {
        struct frag_ctx f = {.o = o, .id = net_next_id(&e->net, o, 1)};

        return net_output_fragments(e, p, d, ip6_fragment_bytes(packet_max), put_fragment_header, &f,
                                    ST_IP6_FRAG_CREATES, now_us);
    }
    put_header(p, o, o->proto);
    if (!own)
        return net_link_output(e, p, d, now_us);
    p->dev = d->ifindex;
    return net_loop_output(e, p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv4 (RFC 791, RFC 1122 3): packets in and out.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/igmp.h"

#include <errno.h>

/* RFC 1122 3.2.1.3: a source that no host can have, or that is ours. */
static bool source_ok(const struct engine *e, const struct rx_pkt *rp, bool looped)
{
    if (ip_addr_any(&rp->src) && rp->proto == IP_PROTO_IGMP) /* RFC 4541 2.1.1: proxies ask from there. */
        return true;
    return looped || netif_lookup(&e->net.t, &rp->src)->kind == DST_UNICAST;
}

void ip4_input(struct engine *e, const uint8_t *p, uint32_t bytes, const struct arrival *a, uint64_t now_us)
{
    const struct net_dst *d;
    enum dst_kind kind;
    struct ip4_pkt ip;
    struct rx_pkt rp;
    bool here;

    stat_inc(&e->stats, ST_IP_IN_RECEIVES);
    if (!ip4_parse(p, bytes, &ip) || (!a->looped && !ip4_csum_ok(&ip))) {
        stat_inc(&e->stats, ST_IP_IN_HDR_ERRORS);
        return;
    }
    rp = (struct rx_pkt){
        .l4 = ip.payload,
        .l4_len = ip.len,
        .src = net_ip_addr(ip.src),
        .dst = net_ip_addr(ip.dst),
        .proto = ip.proto,
        .tos = ip.tos,
        .ttl = ip.ttl,
        .ifindex = a->ifindex,
        .csum_ok = a->csum_ok,
        .gso_size = a->gso_size,
        .l3 = ip.hdr,
        .l3_hdr_len = ip.hdr_len,
    };
    stat_add(&e->stats, ST_IP_IN_NO_ECT + (rp.tos & IP_ECN_MASK), net_segments(&rp));
    d = netif_lookup(&e->net.t, &rp.dst);
    kind = d->kind;
    here = kind == DST_OWN && d->ifindex == a->ifindex; /* RFC 1122 3.3.4.2 (A) */
    rp.broadcast = kind == DST_BROADCAST || kind == DST_MULTICAST;
    if (kind == DST_MULTICAST && !mcast_listens(e, &rp.dst, a->ifindex)) {
        stat_inc(&e->stats, ST_DROP_MULTICAST);
        return;
    }
    /* RFC 1122 3.3.6: what was addressed to all stations but not to all hosts is dropped. */
    if (!source_ok(e, &rp, a->looped) || (!rp.broadcast && (!here || a->link_group))) {
        stat_inc(&e->stats, ST_IP_IN_ADDR_ERRORS);
        return;
    }
    if (ip.frag_off || ip.more)
        frag4_input(e, &ip, &rp, now_us);
    else
        net_deliver(e, &rp, now_us);
}

/* ---- Out ------------------------------------------------------------------------------------------ */

/* Payload of each fragment but the last: a multiple of 8 (RFC 791 3.2). */
uint32_t ip4_fragment_bytes(uint32_t packet_max)
{
    return (packet_max - IP4_HDR_BYTES) & ~7u;
}

static void put_header(struct pktbuf *p, const struct ip4_pkt *ip)
{
    net_pkt_push(p, IP4_HDR_BYTES);
    ip4_put(p->data, ip);
}

static void put_fragment_header(struct pktbuf *p, const void *ctx, uint32_t off, uint32_t len, bool more)
{
    struct ip4_pkt ip = *(const struct ip4_pkt *)ctx;

    ip.frag_off = off;
    ip.len = len;
    ip.more = more;
    put_header(p, &ip);
}

int ip4_output(struct engine *e, struct pktbuf *p, const struct ip_out *o, uint64_t now_us)
{
    const struct net_dst *d = netif_lookup(&e->net.t, o->dst);
    uint32_t total = net_pkt_bytes(p), packet_max = IP4_BYTES_MAX;
    bool own = d->kind == DST_OWN, whole = o->cut & (NET_DF | NET_WHOLE);
    struct ip4_pkt ip = {
        .src = net_addr4(o->src),
        .dst = net_addr4(o->dst),
        .proto = o->proto,
        .tos = o->tos,
        .ttl = o->ttl,
        .df = o->cut & NET_DF,
        .len = total,
    };

    stat_inc(&e->stats, ST_IP_OUT_REQUESTS);
    if (!d->has_src) {
        stat_inc(&e->stats, ST_IP_OUT_NO_ROUTES);
        pktq_drop(&e->txq);
        return -ENETUNREACH;
    }
    if (!own && !p->gso_type)
        packet_max = whole ? d->mtu : net_packet_max(e, o->dst, o->cut);
    if (IP4_HDR_BYTES + total > IP4_BYTES_MAX || (whole && IP4_HDR_BYTES + total > packet_max)) {
        pktq_drop(&e->txq);
        return -EMSGSIZE;
    }
    if (!ip.df) /* RFC 6864 4.1: with DF the field means nothing. */
        ip.id = (uint16_t)net_next_id(&e->net, o, p->gso_type ? total / p->gso_size + 1 : 1);
    if (IP4_HDR_BYTES + total > packet_max)
        return net_output_fragments(e, p, d, ip4_fragment_bytes(packet_max), put_fragment_header, &ip,
                                    ST_IP_FRAG_CREATES, now_us);
    put_header(p, &ip);
    if (!own)
        return net_link_output(e, p, d, now_us);
    p->dev = d->ifindex;
    return net_loop_output(e, p);
}

void net_output_link4(struct engine *e, struct pktbuf *p, const struct ip4_pkt *ip, uint8_t ifindex,
                      const uint8_t *options, uint32_t option_bytes)
{
    struct ip_addr dst = net_ip_addr(ip->dst);
    struct ip4_pkt h = *ip;
    const struct net_dst *d;

    dst.scope = ifindex + 1u;
    d = netif_lookup(&e->net.t, &dst);
    stat_inc(&e->stats, ST_IP_OUT_REQUESTS);
    if (!d->has_src) {
        stat_inc(&e->stats, ST_IP_OUT_NO_ROUTES);
        pktq_drop(&e->txq);
        return;
    }
    h.src = net_addr4(&d->src);
    h.len = net_pkt_bytes(p) + option_bytes;
    net_pkt_push(p, IP4_HDR_BYTES + option_bytes);
    ip4_put(p->data, &h);
    p->data[0] = (uint8_t)(0x45 + option_bytes / 4);
    memcpy(p->data + IP4_HDR_BYTES, options, option_bytes);
    ip4_put_csum(p->data, IP4_HDR_BYTES + option_bytes);
    (void)net_link_output(e, p, d, e->now_us); /* To a group: it asks no neighbour. */
}

int net_output_whole4(struct engine *e, struct pktbuf *p, const struct ip_addr *dst, uint64_t now_us)
{
    const struct net_dst *d = netif_lookup(&e->net.t, dst);

    stat_inc(&e->stats, ST_IP_OUT_REQUESTS);
    if (!d->has_src) {
        stat_inc(&e->stats, ST_IP_OUT_NO_ROUTES);
        pktq_drop(&e->txq);
        return -ENETUNREACH;
    }
    if (d->kind != DST_OWN)
        return net_link_output(e, p, d, now_us);
    p->dev = d->ifindex;
    return net_loop_output(e, p);
}

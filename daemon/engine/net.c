/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet and IPv4 (RFC 791, RFC 894, RFC 1122 3).
 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

/* Purposes of net_key(): disjoint from those that engine.c derives for TCP and the ports. */
#define KEY_IP_ID UINT64_C(0x6e65742d6964)

/* Header of a packet in the loop queue. */
struct loop_hdr {
    uint32_t bytes; /* of the whole record; with len 0: skip to the start of the memory */
    uint32_t len;   /* of the IP packet */
    uint16_t gso_size;
    uint16_t csum_ok;
    uint32_t pad;
};

#define LOOP_ALIGN 16u
static_assert(sizeof(struct loop_hdr) == LOOP_ALIGN, "a header fits wherever a record may begin");
static_assert(NET_LOOP_BYTES % LOOP_ALIGN == 0 && NET_LOOP_BYTES > 2 * IP4_BYTES_MAX, "loop queue");

/* How a packet came in. */
struct arrival {
    bool link_group; /* in a broadcast or multicast frame */
    bool csum_ok;
    bool looped; /* from ourselves */
    uint16_t gso_size;
};

struct sip_key net_key(const struct engine_config *cfg, uint64_t purpose)
{
    uint64_t s[4], w[3];
    struct sip_key base, k;

    memcpy(s, cfg->secret, sizeof(s));
    base = (struct sip_key){{s[0], s[1]}};
    for (unsigned i = 0; i < 2; i++) {
        w[0] = s[2];
        w[1] = s[3] ^ i;
        w[2] = purpose;
        k.k[i] = sip_words(&base, w, ARRAY_LEN(w), 2, 4);
    }
    return k;
}

size_t net_bytes(const struct engine_config *cfg)
{
    (void)cfg;
    return NET_LOOP_BYTES;
}

void net_init(struct net_state *n, void *mem, const struct engine_config *cfg)
{
    *n = (struct net_state){
        .addr4 = get_be32(cfg->addr4),
        .mask4 = cfg->prefix4 ? UINT32_MAX << (32 - cfg->prefix4) : 0,
        .gateway4 = get_be32(cfg->gateway4),
        .id_key = net_key(cfg, KEY_IP_ID),
        .loop = {.mem = mem},
    };
    n->addr = net_ip_addr(n->addr4);
    if (cfg->prefix4 && cfg->prefix4 < 31) /* RFC 3021: a /31 has no broadcast address */
        n->broadcast4 = n->addr4 | ~n->mask4;
}

/* ---- Addresses and routes ------------------------------------------------------------------------- */

static bool is_broadcast4(const struct net_state *n, uint32_t addr4)
{
    return addr4 == UINT32_MAX || (n->broadcast4 && addr4 == n->broadcast4);
}

/* What a host may have as its address: not 0/8, 127/8, multicast, reserved or broadcast (RFC 1122 3.2.1.3).
 */
static bool is_unicast4(const struct net_state *n, uint32_t addr4)
{
    uint8_t top = addr4 >> 24;

    return top != 0 && top != 127 && top < 224 && !is_broadcast4(n, addr4);
}

bool net_is_own(const struct engine *e, const struct ip_addr *a)
{
    return e->net.addr4 && a->family == SG_AF_INET && net_addr4(a) == e->net.addr4;
}

bool net_is_unicast(const struct engine *e, const struct ip_addr *a)
{
    return a->family == SG_AF_INET && is_unicast4(&e->net, net_addr4(a));
}

bool net_is_broadcast(const struct engine *e, const struct ip_addr *a)
{
    return a->family == SG_AF_INET && is_broadcast4(&e->net, net_addr4(a));
}

bool net_is_on_link(const struct engine *e, uint32_t addr4)
{
    const struct net_state *n = &e->net;

    return ((addr4 ^ n->addr4) & n->mask4) == 0 || (n->gateway4 && addr4 == n->gateway4);
}

bool net_next_hop(const struct engine *e, uint32_t dst4, uint32_t *hop4)
{
    if (!e->net.addr4 || !is_unicast4(&e->net, dst4))
        return false;
    if (net_is_on_link(e, dst4))
        *hop4 = dst4;
    else if (e->net.gateway4)
        *hop4 = e->net.gateway4;
    else
        return false;
    return true;
}

bool net_source(const struct engine *e, const struct ip_addr *dst, struct ip_addr *src)
{
    uint32_t dst4 = net_addr4(dst), hop4;

    if (dst->family != SG_AF_INET || !e->net.addr4)
        return false;
    if (!is_broadcast4(&e->net, dst4) && !net_is_multicast4(dst4) && !net_next_hop(e, dst4, &hop4))
        return false;
    *src = e->net.addr;
    return true;
}

uint16_t net_mtu(const struct engine *e, const struct ip_addr *dst)
{
    (void)dst; /* One interface, and no path MTU is remembered here: TCP keeps its own. */
    return e->cfg.mtu;
}

uint32_t net_packet_max(const struct engine *e, const struct ip_addr *dst)
{
    if (net_is_own(e, dst))
        return IP4_BYTES_MAX;
    return net_mtu(e, dst) < NET_COPY_MAX ? net_mtu(e, dst) : NET_COPY_MAX;
}

/* Payload of each fragment but the last: a multiple of 8 (RFC 791 3.2). */
static uint32_t fragment_bytes(uint32_t packet_max)
{
    return (packet_max - IP4_HDR_BYTES) & ~7u;
}

uint32_t net_frame_count(const struct engine *e, const struct ip_addr *dst, uint32_t l4_bytes)
{
    uint32_t max = net_packet_max(e, dst);
    uint32_t each = fragment_bytes(max);

    return IP4_HDR_BYTES + l4_bytes <= max ? 1 : (l4_bytes + each - 1) / each;
}

/* ---- In ----------------------------------------------------------------------------------------------- */

void net_deliver(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    void (*input)(struct engine *, const struct rx_pkt *, uint64_t);

    switch (rp->proto) {
    case IP_PROTO_TCP:
        input = tcp_input;
        break;
    case IP_PROTO_UDP:
        input = udp_input;
        break;
    case IP_PROTO_ICMP:
        input = icmp_input;
        break;
    default:
        stat_inc(&e->stats, ST_IP_IN_UNKNOWN_PROTOS);
        icmp_send_error(e, rp, ICMP_ERR_PROTO_UNREACH, now_us);
        return;
    }
    stat_inc(&e->stats, ST_IP_IN_DELIVERS);
    input(e, rp, now_us);
}

/* RFC 1122 3.2.1.3: a source that no host can have, or that is ours. */
static bool source_ok(const struct engine *e, const struct ip4_pkt *ip, bool looped)
{
    if (looped)
        return true;
    return is_unicast4(&e->net, ip->src) && ip->src != e->net.addr4;
}

static void ip4_input(struct engine *e, const uint8_t *p, uint32_t bytes, const struct arrival *a,
                      uint64_t now_us)
{
    struct ip4_pkt ip;
    bool broadcast;

    stat_inc(&e->stats, ST_IP_IN_RECEIVES);
    if (!ip4_parse(p, bytes, &ip) || !ip4_csum_ok(&ip)) {
        stat_inc(&e->stats, ST_IP_IN_HDR_ERRORS);
        return;
    }
    broadcast = is_broadcast4(&e->net, ip.dst);
    /* RFC 1122 3.3.6: what came to everybody on the link but names one host is not to be believed. */
    if (!source_ok(e, &ip, a->looped) || !e->net.addr4 || (!broadcast && ip.dst != e->net.addr4) ||
        (a->link_group && !broadcast)) {
        stat_inc(&e->stats, ST_IP_IN_ADDR_ERRORS);
        return;
    }
    if (ip.frag_off || ip.more) {
        frag_input(e, &ip, broadcast, now_us);
        return;
    }
    net_deliver(e,
                &(struct rx_pkt){
                    .l4 = ip.payload,
                    .l4_len = ip.len,
                    .src = net_ip_addr(ip.src),
                    .dst = net_ip_addr(ip.dst),
                    .proto = ip.proto,
                    .tos = ip.tos,
                    .ttl = ip.ttl,
                    .csum_ok = a->csum_ok,
                    .broadcast = broadcast,
                    .gso_size = a->gso_size,
                    .l3 = ip.hdr,
                    .l3_hdr_len = ip.hdr_len,
                },
                now_us);
}

void net_input(struct engine *e, const struct pktbuf *p, uint64_t now_us)
{
    struct eth_frame f;
    struct arrival a = {0};

    if (!eth_parse(p->data, p->len, &f)) {
        stat_inc(&e->stats, ST_DROP_FRAME_SHORT);
        return;
    }
    a.link_group = eth_is_group(f.dst);
    if (!a.link_group && !eth_eq(f.dst, e->cfg.mac)) {
        stat_inc(&e->stats, ST_DROP_FRAME_FOREIGN);
        return;
    }
    a.csum_ok = p->flags & (PKT_CSUM_GOOD | PKT_CSUM_PARTIAL);
    a.gso_size = p->gso_size;
    switch (f.type) {
    case ETH_TYPE_IP4:
        ip4_input(e, f.payload, f.len, &a, now_us);
        break;
    case ETH_TYPE_ARP:
        neigh_arp_input(e, f.payload, f.len, now_us);
        break;
    default:
        stat_inc(&e->stats, ST_DROP_ETHERTYPE);
        break;
    }
}

/* ---- Out ---------------------------------------------------------------------------------------------- */

uint32_t net_pkt_bytes(const struct pktbuf *p)
{
    uint32_t n = p->len;

    for (unsigned i = 0; i < p->frag_count; i++)
        n += p->frag[i].len;
    return n;
}

void net_pkt_copy(const struct pktbuf *p, uint32_t off, uint8_t *dst, uint32_t bytes)
{
    ENG_ASSERT(off + bytes <= net_pkt_bytes(p));
    for (unsigned i = 0; i <= p->frag_count && bytes; i++) {
        const uint8_t *src = i ? p->frag[i - 1].ptr : p->data;
        uint32_t len = i ? p->frag[i - 1].len : p->len;
        uint32_t n;

        if (off >= len) {
            off -= len;
            continue;
        }
        n = len - off < bytes ? len - off : bytes;
        memcpy(dst, src + off, n);
        dst += n;
        bytes -= n;
        off = 0;
    }
}

static void push(struct pktbuf *p, uint32_t bytes)
{
    p->data -= bytes;
    p->len += bytes;
    if (p->flags & PKT_CSUM_PARTIAL)
        p->csum_start = (uint16_t)(p->csum_start + bytes);
}

void net_send_frame(struct engine *e, struct pktbuf *p, const uint8_t *dst_mac, uint16_t type)
{
    push(p, ETH_HDR_BYTES);
    eth_put(p->data, dst_mac, e->cfg.mac, type);
    p->total = net_pkt_bytes(p);
    if (p->gso_type == PKT_GSO_TCP4) {
        uint32_t l4 = ETH_HDR_BYTES + IP4_HDR_BYTES;

        p->hdr_len = (uint16_t)(l4 + (uint32_t)(p->data[l4 + 12] >> 4) * 4);
    }
    pktq_commit(&e->txq);
}

/* RFC 6864 4: unique for source, destination and protocol while a fragment may live; not to be guessed. */
static uint16_t next_id(struct net_state *n, const struct ip4_pkt *ip)
{
    uint64_t w[2] = {(uint64_t)ip->src << 32 | ip->dst, ip->proto};
    uint64_t h = sip_words(&n->id_key, w, ARRAY_LEN(w), 2, 4);

    return (uint16_t)(h + n->id_next[(h >> 32) % NET_ID_GROUPS]++);
}

static bool loop_room(const struct net_loop *l, uint32_t bytes)
{
    return bytes <= NET_LOOP_BYTES - (l->tail - l->head);
}

/* The packet comes back in at the next net_loop_run(). */
static int loop_output(struct engine *e, struct pktbuf *p)
{
    struct net_loop *l = &e->net.loop;
    uint32_t len = net_pkt_bytes(p);
    uint32_t bytes = (uint32_t)sizeof(struct loop_hdr) + ((len + LOOP_ALIGN - 1) & ~(LOOP_ALIGN - 1));
    uint32_t at = (uint32_t)(l->tail % NET_LOOP_BYTES);
    uint32_t skip = NET_LOOP_BYTES - at < bytes ? NET_LOOP_BYTES - at : 0;
    struct loop_hdr h = {
        .bytes = bytes,
        .len = len,
        .gso_size = p->gso_size,
        .csum_ok = !!(p->flags & PKT_CSUM_PARTIAL),
    };

    if (!loop_room(l, bytes + skip)) {
        stat_inc(&e->stats, ST_DROP_LOOP_FULL);
        pktq_drop(&e->txq);
        return -ENOBUFS;
    }
    if (skip) {
        struct loop_hdr s = {.bytes = skip};

        memcpy(l->mem + at, &s, sizeof(s));
        l->tail += skip;
        at = 0;
    }
    memcpy(l->mem + at, &h, sizeof(h));
    net_pkt_copy(p, 0, l->mem + at + sizeof(h), len);
    l->tail += bytes;
    pktq_drop(&e->txq);
    return 0;
}

bool net_loop_pending(const struct engine *e)
{
    return e->net.loop.head != e->net.loop.tail || neigh_flush_pending(e);
}

void net_loop_run(struct engine *e, uint64_t now_us)
{
    struct net_loop *l = &e->net.loop;
    uint64_t end = l->tail;

    neigh_flush(e);
    while (l->head != end) {
        const uint8_t *at = l->mem + l->head % NET_LOOP_BYTES;
        struct loop_hdr h;

        memcpy(&h, at, sizeof(h));
        if (h.len) {
            struct arrival a = {.looped = true, .csum_ok = h.csum_ok, .gso_size = h.gso_size};

            ip4_input(e, at + sizeof(h), h.len, &a, now_us);
        }
        l->head += h.bytes; /* Only now: the packet was read in place. */
    }
}

/* Give an IP packet its link-layer destination. */
static int link_output(struct engine *e, struct pktbuf *p, uint32_t dst4, uint64_t now_us)
{
    uint8_t mac[ETH_ADDR_BYTES];
    uint32_t hop4;

    if (is_broadcast4(&e->net, dst4)) {
        memset(mac, 0xff, sizeof(mac));
    } else if (net_is_multicast4(dst4)) {
        eth_multicast4(dst4, mac); /* RFC 1112 6.4 */
    } else {
        bool routed = net_next_hop(e, dst4, &hop4);

        ENG_ASSERT(routed); /* net_output() asked before. */
        return neigh_output(e, p, hop4, now_us);
    }
    net_send_frame(e, p, mac, ETH_TYPE_IP4);
    return 0;
}

/* Put the IP header before p->data. */
static void put_header(struct pktbuf *p, const struct ip4_pkt *ip)
{
    push(p, IP4_HDR_BYTES);
    ip4_put(p->data, ip);
}

/*
 * Send the open frame's packet in fragments (RFC 791 3.2). They are copies, so the frame itself, whose place
 * in the queue the first of them takes, is set aside before.
 */
static int output_fragments(struct engine *e, struct pktbuf *p, struct ip4_pkt *ip, uint32_t packet_max,
                            uint64_t now_us)
{
    uint8_t linear[PKT_LINEAR_MAX];
    struct pktbuf whole = *p;
    uint32_t total = net_pkt_bytes(p), each = fragment_bytes(packet_max);
    uint32_t count = (total + each - 1) / each;

    if (pktq_room(&e->txq) < count) {
        pktq_drop(&e->txq);
        return -ENOBUFS;
    }
    memcpy(linear, p->data, p->len);
    whole.data = linear;
    pktq_drop(&e->txq);
    for (uint32_t off = 0; off < total; off += each) {
        int rc;

        p = pktq_get(&e->txq);
        if (!p) /* A question to the neighbour took the last one; the rest would be useless. */
            return -ENOBUFS;
        ip->len = total - off < each ? total - off : each;
        ip->frag_off = off;
        ip->more = off + ip->len < total;
        net_pkt_copy(&whole, off, p->data, ip->len);
        p->len = ip->len;
        put_header(p, ip);
        stat_inc(&e->stats, ST_IP_FRAG_CREATES);
        rc = link_output(e, p, ip->dst, now_us);
        if (rc)
            return rc;
    }
    return 0;
}

int net_output(struct engine *e, struct pktbuf *p, const struct ip_addr *src, const struct ip_addr *dst,
               uint8_t proto, uint8_t tos, uint8_t ttl, bool dont_fragment, uint64_t now_us)
{
    uint32_t total = net_pkt_bytes(p), packet_max = IP4_BYTES_MAX;
    bool own = net_is_own(e, dst);
    struct ip_addr any_source;
    struct ip4_pkt ip = {
        .src = net_addr4(src),
        .dst = net_addr4(dst),
        .proto = proto,
        .tos = tos,
        .ttl = ttl,
        .df = dont_fragment,
        .len = total,
    };

    stat_inc(&e->stats, ST_IP_OUT_REQUESTS);
    if (!own && !net_source(e, dst, &any_source)) {
        stat_inc(&e->stats, ST_IP_OUT_NO_ROUTES);
        pktq_drop(&e->txq);
        return -ENETUNREACH;
    }
    if (!own && !p->gso_type)
        packet_max = dont_fragment ? net_mtu(e, dst) : net_packet_max(e, dst);
    if (IP4_HDR_BYTES + total > IP4_BYTES_MAX || (dont_fragment && IP4_HDR_BYTES + total > packet_max)) {
        pktq_drop(&e->txq);
        return -EMSGSIZE;
    }
    if (!dont_fragment) /* RFC 6864 4.1: with DF the field means nothing. */
        ip.id = next_id(&e->net, &ip);
    if (IP4_HDR_BYTES + total > packet_max)
        return output_fragments(e, p, &ip, packet_max, now_us);
    put_header(p, &ip);
    return own ? loop_output(e, p) : link_output(e, p, ip.dst, now_us);
}

void net_checksum(struct engine *e, struct pktbuf *p, const struct ip_addr *src, const struct ip_addr *dst,
                  uint8_t proto, uint16_t csum_offset, bool will_fragment)
{
    uint32_t sum = csum_pseudo4(src->ip, dst->ip, proto, net_pkt_bytes(p));
    uint32_t off = p->len;
    uint16_t field = csum_fold(sum);

    ENG_ASSERT((uint32_t)csum_offset + 2 <= p->len);
    /* What we send to ourselves is never on a wire; receive then takes PKT_CSUM_PARTIAL as proof enough. */
    if (net_is_own(e, dst) || (e->cfg.offloads & ENGINE_TX_CSUM && !will_fragment)) {
        memcpy(p->data + csum_offset, &field, 2);
        p->flags |= PKT_CSUM_PARTIAL;
        p->csum_start = 0;
        p->csum_offset = csum_offset;
        return;
    }
    memset(p->data + csum_offset, 0, 2);
    sum = csum_add(sum, csum_partial(p->data, p->len));
    for (unsigned i = 0; i < p->frag_count; i++) {
        sum = csum_join(sum, csum_partial(p->frag[i].ptr, p->frag[i].len), off);
        off += p->frag[i].len;
    }
    field = csum_finish(sum);
    if (proto == IP_PROTO_UDP && !field)
        field = UINT16_MAX; /* RFC 768: zero on the wire would say that there is no checksum. */
    memcpy(p->data + csum_offset, &field, 2);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet (RFC 894, RFC 2464, 802.1Q), and what IPv4 and IPv6 share.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/igmp.h"

#include <errno.h>

/* Purposes of net_key(): disjoint from the small numbers that engine.c uses for TCP and the ports. */
#define KEY_IP_ID UINT64_C(0x6e65742d6964)

/* Header of a packet in the loop queue. */
struct loop_hdr {
    uint32_t bytes; /* of the whole record; with len 0: skip to the start of the memory */
    uint32_t len;   /* of the IP packet */
    uint16_t gso_size;
    uint16_t csum_ok;
    uint32_t ifindex;
};

#define LOOP_ALIGN 16u
static_assert(sizeof(struct loop_hdr) == LOOP_ALIGN, "a header fits wherever a record may begin");
static_assert(NET_LOOP_BYTES % LOOP_ALIGN == 0 &&
                  NET_LOOP_BYTES > 2 * (IP6_HDR_BYTES + IP6_PAYLOAD_MAX) + 4 * LOOP_ALIGN,
              "loop queue");

static struct sip_key derive(const uint8_t secret[32], uint64_t purpose)
{
    uint64_t s[4], w[3];
    struct sip_key half, k;

    memcpy(s, secret, sizeof(s));
    half = (struct sip_key){{s[0], s[1]}};
    for (unsigned i = 0; i < 2; i++) {
        w[0] = s[2];
        w[1] = s[3];
        w[2] = purpose * 2 + i;
        k.k[i] = sip_words(&half, w, ARRAY_LEN(w), 2, 4);
    }
    return k;
}

struct sip_key net_key(const struct engine_config *cfg, uint64_t purpose)
{
    return derive(cfg->secret, purpose);
}

struct sip_key net_stable_key(const struct engine_config *cfg, uint64_t purpose)
{
    return derive(cfg->stable_secret, purpose);
}

size_t net_bytes(const struct engine_config *cfg)
{
    (void)cfg;
    return NET_LOOP_BYTES + netif_bytes();
}

bool net_init(struct net_state *n, void *mem, const struct engine_config *cfg)
{
    n->id_key = net_key(cfg, KEY_IP_ID);
    memset(n->id_next, 0, sizeof(n->id_next));
    n->loop = (struct net_loop){.mem = mem};
    n->csum_by_hand = false;
    for (uint32_t i = 0; i < cfg->if_count; i++)
        n->csum_by_hand |= !(cfg->ifs[i].offloads & ENGINE_TX_CSUM);
    return netif_init(&n->t, n->loop.mem + NET_LOOP_BYTES, cfg);
}

/* ---- Addresses and routes ------------------------------------------------------------------------- */

bool net_is_own(const struct engine *e, const struct ip_addr *a)
{
    return netif_lookup(&e->net.t, a)->kind == DST_OWN;
}

bool net_is_unicast(const struct engine *e, const struct ip_addr *a)
{
    enum dst_kind kind = netif_lookup(&e->net.t, a)->kind;

    return kind == DST_UNICAST || kind == DST_OWN;
}

bool net_is_broadcast(const struct engine *e, const struct ip_addr *a)
{
    return netif_lookup(&e->net.t, a)->kind == DST_BROADCAST;
}

bool net_is_on_link(const struct engine *e, const struct ip_addr *a, uint8_t ifindex)
{
    const struct net_dst *d = netif_lookup(&e->net.t, a);

    return d->kind == DST_UNICAST && d->ifindex == ifindex && ip_addr_eq(&d->hop, a);
}

bool net_next_hop(const struct engine *e, const struct ip_addr *dst, struct ip_addr *hop)
{
    const struct net_dst *d = netif_lookup(&e->net.t, dst);

    if ((d->kind != DST_UNICAST && d->kind != DST_OWN) || !d->has_src)
        return false;
    *hop = d->kind == DST_OWN ? *dst : d->hop;
    return true;
}

bool net_source(const struct engine *e, const struct ip_addr *dst, struct ip_addr *src)
{
    const struct net_dst *d = netif_lookup(&e->net.t, dst);

    if (!d->has_src)
        return false;
    *src = d->src;
    return true;
}

struct ip_addr net_own(const struct engine *e, uint16_t family)
{
    for (uint32_t i = 0; i < e->net.t.addr_count; i++) {
        const struct net_addr *a = &e->net.t.addrs[i];

        if (a->addr.family == family && netif_addr_usable(a))
            return a->addr;
    }
    return (struct ip_addr){0};
}

uint16_t net_mtu(const struct engine *e, const struct ip_addr *dst)
{
    const struct net_dst *d = netif_lookup(&e->net.t, dst);

    return d->mtu ? d->mtu : IP6_MTU_MIN;
}

uint32_t net_gso_frame_max(const struct engine *e, const struct ip_addr *dst)
{
    const struct net_dst *d = netif_lookup(&e->net.t, dst);
    uint32_t offload = dst->family == SG_AF_INET6 ? ENGINE_TX_TSO6 : ENGINE_TX_TSO4;

    if (d->ifindex == ENGINE_IF_ANY || !(e->net.t.ifs[d->ifindex].c.offloads & offload))
        return 0;
    return e->net.t.ifs[d->ifindex].c.tx_frame_max;
}

uint8_t net_hops(const struct engine *e, const struct ip_addr *dst)
{
    const struct net_dst *d = netif_lookup(&e->net.t, dst);
    uint8_t hops = d->ifindex == ENGINE_IF_ANY ? 0 : e->net.t.ifs[d->ifindex].hops;

    return hops ? hops : e->cfg.ttl;
}

uint8_t net_dev_of(const struct engine *e, const struct ip_addr *dst)
{
    const struct net_dst *d = netif_lookup(&e->net.t, dst);

    if (d->kind == DST_OWN || d->ifindex == ENGINE_IF_ANY)
        return PKTQ_NO_DEV;
    return e->net.t.ifs[d->ifindex].c.dev;
}

uint32_t net_packet_max(const struct engine *e, const struct ip_addr *dst, uint8_t cut)
{
    uint32_t mtu = cut & NET_LINK_MTU ? net_mtu(e, dst) : pmtu_get(e, dst);

    if (net_is_own(e, dst))
        return IP4_BYTES_MAX;
    return mtu < NET_COPY_MAX ? mtu : NET_COPY_MAX;
}

uint32_t net_frame_count(const struct engine *e, const struct ip_addr *dst, uint32_t l4_bytes, uint8_t cut)
{
    bool is6 = dst->family == SG_AF_INET6;
    uint32_t max = net_packet_max(e, dst, cut);
    uint32_t each = is6 ? ip6_fragment_bytes(max) : ip4_fragment_bytes(max);

    return (is6 ? IP6_HDR_BYTES : IP4_HDR_BYTES) + l4_bytes <= max ? 1 : (l4_bytes + each - 1) / each;
}

struct ip_addr net_to_api(const struct ip_addr *a, uint16_t family)
{
    struct ip_addr r = *a;

    if (family != SG_AF_INET6 || a->family == SG_AF_INET6)
        return r;
    r = (struct ip_addr){.ip = {[10] = 0xff, [11] = 0xff}, .family = SG_AF_INET6};
    memcpy(r.ip + 12, a->ip, 4);
    return r;
}

struct ip_addr net_from_api(const struct engine *e, const struct ip_addr *a)
{
    struct ip_addr r = {.family = a->family};

    if (a->family == SG_AF_INET6 && ip6_is_mapped(a->ip)) {
        r.family = SG_AF_INET;
        memcpy(r.ip, a->ip + 12, 4);
    } else if (a->family == SG_AF_INET6) {
        memcpy(r.ip, a->ip, 16);
        if (ip6_is_link_local(a->ip)) /* RFC 4007 6 */
            r.scope = !a->scope && e->net.t.if_count == 1 ? 1 : a->scope;
        else if (ip6_is_multicast(a->ip))
            r.scope = a->scope;
    } else if (a->family == SG_AF_INET) {
        memcpy(r.ip, a->ip, 4);
    }
    return r;
}

/* ---- In ------------------------------------------------------------------------------------------- */

void net_deliver(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    bool is6 = rp->src.family == SG_AF_INET6;
    void (*input)(struct engine *, const struct rx_pkt *, uint64_t);
    bool raw;

    if (e->cfg.peers && peers_take(e, rp))
        return;
    raw = e->udp.raw_head != NIL && raw_input(e, rp);
    if (rp->proto == IP_PROTO_TCP) {
        input = tcp_input;
    } else if (rp->proto == IP_PROTO_UDP) {
        input = udp_input;
    } else if (rp->proto == (is6 ? IP6_NH_ICMP : IP_PROTO_ICMP)) {
        input = is6 ? icmp6_input : icmp_input;
    } else if (rp->proto == IP_PROTO_IGMP && !is6) {
        input = igmp_input;
    } else if (raw) {
        stat_inc(&e->stats, is6 ? ST_IP6_IN_DELIVERS : ST_IP_IN_DELIVERS);
        return;
    } else {
        stat_inc(&e->stats, is6 ? ST_IP6_IN_UNKNOWN_PROTOS : ST_IP_IN_UNKNOWN_PROTOS);
        icmp_send_error(e, rp, ICMP_ERR_PROTO_UNREACH, now_us);
        return;
    }
    stat_inc(&e->stats, is6 ? ST_IP6_IN_DELIVERS : ST_IP_IN_DELIVERS);
    input(e, rp, now_us);
}

/* Take an 802.1Q tag off; false: no whole one. Priority tags (id 0) belong to the untagged interface. */
static bool untag(struct eth_frame *f, uint16_t *vlan)
{
    if (f->len < ETH_TAG_BYTES)
        return false;
    *vlan = get_be16(f->payload) & ETH_VLAN_MASK;
    f->type = get_be16(f->payload + 2);
    f->payload += ETH_TAG_BYTES;
    f->len -= ETH_TAG_BYTES;
    return true;
}

static const struct netif *interface_of(struct engine *e, const struct pktbuf *p, struct eth_frame *f)
{
    const struct net_tables *t = &e->net.t;
    const struct netif *i;
    uint16_t vlan = 0;

    if (f->type == ETH_TYPE_VLAN && !untag(f, &vlan)) {
        stat_inc(&e->stats, ST_DROP_FRAME_SHORT);
        return NULL;
    }
    if (!vlan && !t->ifs[0].c.vlan && t->ifs[0].c.dev == p->dev)
        return &t->ifs[0];
    i = netif_find(t, p->dev, vlan);
    if (!i)
        stat_inc(&e->stats, ST_DROP_VLAN);
    return i;
}

void net_input(struct engine *e, const struct pktbuf *p, uint64_t now_us)
{
    const struct netif *i;
    struct eth_frame f;
    struct arrival a = {0};

    if (!eth_parse(p->data, p->len, &f)) {
        stat_inc(&e->stats, ST_DROP_FRAME_SHORT);
        return;
    }
    i = interface_of(e, p, &f);
    if (!i)
        return;
    a.link_group = eth_is_group(f.dst);
    if (!a.link_group && !eth_eq(f.dst, i->c.mac)) {
        stat_inc(&e->stats, ST_DROP_FRAME_FOREIGN);
        return;
    }
    a.src_mac = f.src;
    a.ifindex = netif_index(&e->net.t, i);
    a.csum_ok = p->flags & (PKT_CSUM_GOOD | PKT_CSUM_PARTIAL);
    a.gso_size = p->gso_size;
    if (f.type == ETH_TYPE_IP4)
        ip4_input(e, f.payload, f.len, &a, now_us);
    else if (f.type == ETH_TYPE_IP6 && i->up6)
        ip6_input(e, f.payload, f.len, &a, now_us);
    else if (f.type == ETH_TYPE_ARP)
        arp_input(e, f.payload, f.len, a.ifindex, now_us);
    else
        stat_inc(&e->stats, ST_DROP_ETHERTYPE);
}

/* ---- Packets under construction ------------------------------------------------------------------- */

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

void net_pkt_push(struct pktbuf *p, uint32_t bytes)
{
    p->data -= bytes;
    p->len += bytes;
    if (p->flags & PKT_CSUM_PARTIAL)
        p->csum_start = (uint16_t)(p->csum_start + bytes);
}

uint32_t net_pkt_sum(const struct pktbuf *p, uint32_t sum)
{
    uint32_t off = p->len;

    sum = csum_add(sum, csum_partial(p->data, p->len));
    for (unsigned i = 0; i < p->frag_count; i++) {
        sum = csum_join(sum, csum_partial(p->frag[i].ptr, p->frag[i].len), off);
        off += p->frag[i].len;
    }
    return sum;
}

static void put_field(struct pktbuf *p, uint32_t sum, uint8_t proto, uint16_t csum_offset)
{
    uint16_t field = csum_finish(sum);

    if (proto == IP_PROTO_UDP && !field)
        field = UINT16_MAX; /* RFC 768: zero on the wire would say that there is no checksum. */
    memcpy(p->data + csum_offset, &field, 2);
}

void net_pkt_checksum(struct pktbuf *p, uint32_t pseudo, uint8_t proto, uint16_t csum_offset)
{
    memset(p->data + csum_offset, 0, 2);
    put_field(p, net_pkt_sum(p, pseudo), proto, csum_offset);
}

/* ---- Out ------------------------------------------------------------------------------------------ */

void net_send_frame(struct engine *e, struct pktbuf *p, uint8_t ifindex, const uint8_t *dst_mac,
                    uint16_t type)
{
    const struct engine_if *c = &e->net.t.ifs[ifindex].c;

    if (!e->net.t.ifs[ifindex].up) {
        stat_inc(&e->stats, ST_DROP_LINK_DOWN);
        pktq_drop(&e->txq);
        return;
    }
    if (c->vlan) {
        net_pkt_push(p, ETH_TAG_BYTES);
        put_be16(p->data, c->vlan);
        put_be16(p->data + 2, type);
        type = ETH_TYPE_VLAN;
    }
    net_pkt_push(p, ETH_HDR_BYTES);
    eth_put(p->data, dst_mac, c->mac, type);
    p->total = net_pkt_bytes(p);
    p->dev = c->dev;
    if (p->gso_type) /* Its checksum is the device's to make, so csum_start is where TCP begins. */
        p->hdr_len = (uint16_t)(p->csum_start + (uint32_t)(p->data[p->csum_start + 12] >> 4) * 4);
    if (!pktq_commit(&e->txq, c->dev))
        stat_inc(&e->stats, ST_DROP_TX_FULL);
}

uint32_t net_next_id(struct net_state *n, const struct ip_out *o, uint32_t packets)
{
    uint64_t w[5];
    uint32_t *next, id;
    uint64_t h;

    memcpy(&w[0], o->src->ip, 16);
    memcpy(&w[2], o->dst->ip, 16);
    w[4] = o->proto;
    h = sip_words(&n->id_key, w, ARRAY_LEN(w), 2, 4);
    next = &n->id_next[(h >> 32) % NET_ID_GROUPS];
    id = (uint32_t)h + *next;
    *next += packets;
    return id;
}

static bool loop_room(const struct net_loop *l, uint32_t bytes)
{
    return bytes <= NET_LOOP_BYTES - (l->tail - l->head);
}

/* Queue a packet of `hdr_len` bytes of header and what `p` holds. False: no room. */
static bool loop_put(struct engine *e, const uint8_t *hdr, uint32_t hdr_len, const struct pktbuf *p,
                     uint8_t ifindex)
{
    struct net_loop *l = &e->net.loop;
    uint32_t len = hdr_len + net_pkt_bytes(p);
    uint32_t bytes = (uint32_t)sizeof(struct loop_hdr) + ((len + LOOP_ALIGN - 1) & ~(LOOP_ALIGN - 1));
    uint32_t at = (uint32_t)(l->tail % NET_LOOP_BYTES);
    uint32_t skip = NET_LOOP_BYTES - at < bytes ? NET_LOOP_BYTES - at : 0;
    struct loop_hdr h = {
        .bytes = bytes,
        .len = len,
        .gso_size = p->gso_size,
        .csum_ok = !!(p->flags & PKT_CSUM_PARTIAL),
        .ifindex = ifindex,
    };

    if (!loop_room(l, bytes + skip)) {
        stat_inc(&e->stats, ST_DROP_LOOP_FULL);
        return false;
    }
    if (skip) {
        struct loop_hdr s = {.bytes = skip};

        memcpy(l->mem + at, &s, sizeof(s));
        l->tail += skip;
        at = 0;
    }
    memcpy(l->mem + at, &h, sizeof(h));
    if (hdr_len)
        memcpy(l->mem + at + sizeof(h), hdr, hdr_len);
    net_pkt_copy(p, 0, l->mem + at + sizeof(h) + hdr_len, len - hdr_len);
    l->tail += bytes;
    return true;
}

int net_loop_output(struct engine *e, struct pktbuf *p)
{
    bool queued = loop_put(e, NULL, 0, p, p->dev);

    pktq_drop(&e->txq);
    return queued ? 0 : -ENOBUFS;
}

void net_loop_copy(struct engine *e, const struct pktbuf *p, const struct ip_out *o, uint8_t ifindex)
{
    uint32_t len = net_pkt_bytes(p);
    uint8_t hdr[IP6_HDR_BYTES];

    if (o->dst->family == SG_AF_INET6)
        ip6_put(hdr, o->src->ip, o->dst->ip, o->proto, o->tos, o->ttl, 0, len);
    else
        ip4_put(hdr, &(struct ip4_pkt){
                         .src = net_addr4(o->src),
                         .dst = net_addr4(o->dst),
                         .proto = o->proto,
                         .tos = o->tos,
                         .ttl = o->ttl,
                         .len = len,
                     });
    (void)loop_put(e, hdr, net_hdr_bytes(o->dst->family), p, ifindex); /* No room: lost, and counted there. */
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
            struct arrival a = {
                .looped = true, .csum_ok = h.csum_ok, .gso_size = h.gso_size, .ifindex = (uint8_t)h.ifindex};

            e->arrived = ARRIVED_LOOPED;
            if (at[sizeof(h)] >> 4 == 4)
                ip4_input(e, at + sizeof(h), h.len, &a, now_us);
            else
                ip6_input(e, at + sizeof(h), h.len, &a, now_us);
            e->arrived = ARRIVED_SORTED;
        }
        l->head += h.bytes; /* Only now: the packet was read in place. */
    }
}

int net_link_output(struct engine *e, struct pktbuf *p, const struct net_dst *d, uint64_t now_us)
{
    bool is6 = d->addr.family == SG_AF_INET6;
    uint8_t mac[ETH_ADDR_BYTES];

    if (d->kind == DST_UNICAST)
        return neigh_output(e, p, d->ifindex, &d->hop, now_us);
    if (d->kind == DST_BROADCAST)
        memset(mac, 0xff, sizeof(mac));
    else if (is6)
        eth_multicast6(d->addr.ip, mac); /* RFC 2464 7 */
    else
        eth_multicast4(net_addr4(&d->addr), mac); /* RFC 1112 6.4 */
    net_send_frame(e, p, d->ifindex, mac, is6 ? ETH_TYPE_IP6 : ETH_TYPE_IP4);
    return 0;
}

/* They are copies, so the frame itself, whose place in the queue the first of them takes, is set aside
 * before. */
int net_output_fragments(struct engine *e, struct pktbuf *p, const struct net_dst *dst, uint32_t each,
                         net_frag_hdr_fn *put, const void *ctx, enum stat counter, uint64_t now_us)
{
    const struct net_dst d = *dst; /* A question to a neighbour may look up others meanwhile. */
    uint8_t linear[PKT_LINEAR_MAX];
    struct pktbuf whole = *p;
    uint32_t total = net_pkt_bytes(p);
    uint32_t count = (total + each - 1) / each;

    if (pktq_room(&e->txq, e->net.t.ifs[d.ifindex].c.dev) < count) {
        pktq_drop(&e->txq);
        return -ENOBUFS;
    }
    memcpy(linear, p->data, p->len);
    whole.data = linear;
    pktq_drop(&e->txq);
    for (uint32_t off = 0; off < total; off += each) {
        uint32_t len = total - off < each ? total - off : each;
        int rc;

        p = pktq_get(&e->txq);
        if (!p) /* A question to the neighbour took the last one; the rest would be useless. */
            return -ENOBUFS;
        net_pkt_copy(&whole, off, p->data, len);
        p->len = len;
        put(p, ctx, off, len, off + len < total);
        stat_inc(&e->stats, counter);
        rc = net_link_output(e, p, &d, now_us);
        if (rc)
            return rc;
    }
    return 0;
}

int net_output(struct engine *e, struct pktbuf *p, const struct ip_addr *src, const struct ip_addr *dst,
               uint8_t proto, uint8_t tos, uint8_t ttl, uint8_t cut, uint64_t now_us)
{
    struct ip_out o = {.src = src, .dst = dst, .proto = proto, .tos = tos, .ttl = ttl, .cut = cut};

    return dst->family == SG_AF_INET6 ? ip6_output(e, p, &o, now_us) : ip4_output(e, p, &o, now_us);
}

/* The sum of the pseudo-header; the destination says which. */
static uint32_t pseudo_sum(const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto,
                           uint32_t l4_bytes)
{
    return dst->family == SG_AF_INET6 ? csum_pseudo6(src->ip, dst->ip, proto, l4_bytes)
                                      : csum_pseudo4(src->ip, dst->ip, proto, l4_bytes);
}

uint32_t net_pseudo_sum(const struct rx_pkt *rp, uint32_t l4_bytes)
{
    return pseudo_sum(&rp->src, &rp->dst, rp->proto, l4_bytes);
}

/* Leave it to the device, or to nobody; false: it must be computed. */
static bool checksum_left(struct engine *e, struct pktbuf *p, const struct ip_addr *dst, uint32_t pseudo,
                          uint16_t csum_offset, bool will_fragment)
{
    const struct net_dst *d = netif_lookup(&e->net.t, dst);
    bool offload = d->ifindex != ENGINE_IF_ANY && e->net.t.ifs[d->ifindex].c.offloads & ENGINE_TX_CSUM;
    uint16_t field = csum_fold(pseudo);

    ENG_ASSERT((uint32_t)csum_offset + 2 <= p->len);
    /* What we send to ourselves is never on a wire; receive then takes PKT_CSUM_PARTIAL as proof enough. */
    if (d->kind != DST_OWN && (!offload || will_fragment))
        return false;
    memcpy(p->data + csum_offset, &field, 2);
    p->flags |= PKT_CSUM_PARTIAL;
    p->csum_start = 0;
    p->csum_offset = csum_offset;
    return true;
}

void net_checksum(struct engine *e, struct pktbuf *p, const struct ip_addr *src, const struct ip_addr *dst,
                  uint8_t proto, uint16_t csum_offset, bool will_fragment)
{
    uint32_t pseudo = pseudo_sum(src, dst, proto, net_pkt_bytes(p));

    if (!checksum_left(e, p, dst, pseudo, csum_offset, will_fragment))
        net_pkt_checksum(p, pseudo, proto, csum_offset);
}

void net_checksum_known(struct engine *e, struct pktbuf *p, const struct ip_addr *src,
                        const struct ip_addr *dst, uint8_t proto, uint16_t csum_offset, uint32_t from,
                        uint32_t sum)
{
    uint32_t pseudo = pseudo_sum(src, dst, proto, net_pkt_bytes(p));

    if (checksum_left(e, p, dst, pseudo, csum_offset, false))
        return;
    memset(p->data + csum_offset, 0, 2);
    put_field(p, csum_add(csum_add(pseudo, sum), csum_partial(p->data, from)), proto, csum_offset);
}

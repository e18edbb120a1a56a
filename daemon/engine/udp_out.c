/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams out: records of the send rings become packets, socket by socket in turn.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/udp.h"

#include <errno.h>

static_assert(SG_DGRAM_BYTES_MAX + UDP_HDR_BYTES + IP4_HDR_BYTES == IP4_BYTES_MAX, "largest datagram");

void udp_tx_forget(struct udp_table *t, struct udp_sock *u)
{
    uint32_t i = udp_index(t, u), prev = NIL;

    if (!u->tx_queued)
        return;
    for (uint32_t at = t->tx_head; at != i; at = t->socks[at].tx_next) {
        ENG_ASSERT(at != NIL);
        prev = at;
    }
    if (prev == NIL)
        t->tx_head = u->tx_next;
    else
        t->socks[prev].tx_next = u->tx_next;
    if (t->tx_tail == i)
        t->tx_tail = prev;
    u->tx_next = NIL;
    u->tx_queued = false;
}

static void tx_list_add(struct udp_table *t, struct udp_sock *u)
{
    uint32_t i = udp_index(t, u);

    if (u->tx_queued)
        return;
    if (t->tx_tail == NIL)
        t->tx_head = i;
    else
        t->socks[t->tx_tail].tx_next = i;
    t->tx_tail = i;
    u->tx_next = NIL;
    u->tx_queued = true;
}

void udp_kick(struct engine *e, struct udp_sock *u, uint64_t now_us)
{
    struct sock *s = &u->s;

    (void)now_us;
    if (s->tx.head == s->tx.tail)
        return;
    if (s->pub_flags & SG_F_TX_SHUT && !u->tx_queued) {
        s->tx.head = s->tx.tail;
        udp_soft_error(e, u, EPIPE);
        return;
    }
    tx_list_add(&e->udp, u);
}

bool udp_output_pending(const struct engine *e)
{
    return e->udp.tx_head != NIL;
}

/* Frames that datagrams leave free for answers to what arrives. */
static uint32_t reserve(const struct pktq *q)
{
    return q->count / 8;
}

/* Read the next record; false: the application broke the contract. */
static bool read_record(struct engine *e, struct udp_sock *u, const uint8_t *region, struct sg_dgram_hdr *h,
                        struct udp_outgoing *o)
{
    const struct stream *tx = &u->s.tx;
    uint64_t avail = tx->tail - tx->head, pos = tx->head - tx->base;

    if (avail < sizeof(*h) || pos % SG_DGRAM_ALIGN) {
        sock_fault(e, &u->s, "datagram record is cut short or misaligned");
        return false;
    }
    sg_bytes_get(region, tx->log2, pos, h, sizeof(*h));
    if (h->len > SG_DGRAM_BYTES_MAX || sg_dgram_record_bytes(h) > avail) {
        sock_fault(e, &u->s, "datagram length is beyond the send ring");
        return false;
    }
    if (h->flags & ~SG_DGRAM_INFO || (h->family && h->family != SG_AF_INET && h->family != SG_AF_INET6)) {
        sock_fault(e, &u->s, "datagram header is malformed");
        return false;
    }
    o->len = h->len;
    o->gso_size = h->gso_size ? h->gso_size : u->gso_size;
    o->hdr_len = UDP_HDR_BYTES;
    if (u->s.type == SG_SOCK_RAW)
        o->gso_size = o->hdr_len = 0;
    o->pos = pos + sizeof(*h);
    o->bytes = (uint32_t)sg_dgram_record_bytes(h);
    o->has_info = h->flags & SG_DGRAM_INFO;
    if (o->has_info) {
        sg_bytes_get(region, tx->log2, o->pos, &o->info, sizeof(o->info));
        o->pos += sizeof(o->info);
    }
    if (o->has_info && o->info.pad) {
        sock_fault(e, &u->s, "datagram header is malformed");
        return false;
    }
    return true;
}

/* Where to, and from where. 0 or a positive errno for the application. */
static int choose_route(struct engine *e, struct udp_sock *u, const struct sg_dgram_hdr *h,
                        struct udp_outgoing *o)
{
    const struct sock *s = &u->s;
    int error;

    if (!h->family) {
        if (!udp_connected(u))
            return EDESTADDRREQ;
        o->dst = s->remote;
        o->port = s->rport;
    } else if (h->family == s->family) {
        struct ip_addr given = {.family = h->family, .scope = h->scope};

        memcpy(given.ip, h->addr, h->family == SG_AF_INET ? 4 : 16);
        given = net_from_api(e, &given);
        if (s->opts & SO_F_V6ONLY && given.family == SG_AF_INET)
            return ENETUNREACH;
        o->dst = udp_destination(e, &given);
        o->port = h->port;
    } else {
        return EAFNOSUPPORT;
    }
    if (!o->port && o->hdr_len)
        return EINVAL;
    error = o->has_info ? udp_info_scope(e, o) : 0;
    if (error)
        return error;
    if (net_is_multicast(&o->dst) && !o->dst.scope)
        o->dst.scope = u->mc_scope;
    if (net_is_broadcast(e, &o->dst) && !(s->opts & SO_F_BROADCAST))
        return EACCES;
    if (!net_source(e, &o->dst, &o->src))
        return ENETUNREACH;
    if (!ip_addr_any(&s->local) && s->local.family != o->dst.family)
        return ENETUNREACH;
    if (net_is_own(e, &s->local)) /* Bound, or chosen by connect(). */
        o->src = s->local;
    if (u->mc_if && o->dst.family == SG_AF_INET && net_is_multicast(&o->dst))
        o->src = net_ip_addr(u->mc_if);
    o->ttl = net_is_multicast(&o->dst) ? u->mc_ttl : sock_ttl_to(e, s, &o->dst);
    o->tos = sock_tos(s);
    error = o->has_info ? udp_info_apply(e, u, o) : 0;
    return error ? error : -udp_bind_any(e, u);
}

/* Datagrams that the record becomes; with UDP_SEGMENT the last may be shorter. */
static uint32_t datagram_count(const struct udp_outgoing *o)
{
    return o->gso_size && o->len > o->gso_size ? (o->len + o->gso_size - 1) / o->gso_size : 1;
}

/* Frames that the record needs; 0 with `error` set when it can't be sent. */
static uint32_t frames_needed(struct engine *e, const struct udp_sock *u, struct udp_outgoing *o, int *error)
{
    uint32_t count = datagram_count(o), frames;
    uint32_t l4_bytes = o->hdr_len + (count == 1 ? o->len : o->gso_size);
    int cut = u->hdrincl ? 0 : mtu_disc_datagram(e, &u->s, &o->dst, l4_bytes);

    *error = cut < 0 ? -cut : 0;
    o->cut = cut < 0 ? 0 : (uint8_t)cut;
    frames = net_frame_count(e, &o->dst, l4_bytes, o->cut & NET_LINK_MTU);
    if (count >
        1) { /* As Linux: never cut into more than this, and what it is cut into is never fragmented. */
        if (count > UDP_SEGMENTS_MAX)
            *error = EINVAL;
        else if (frames > 1)
            *error = EMSGSIZE;
        frames = count;
    }
    if (!*error && frames > e->txq.count - reserve(&e->txq))
        *error = EMSGSIZE; /* The frame queue is configured too small for it. */
    return *error ? 0 : frames;
}

/* Put `len` bytes at `pos` of the send ring behind the header, if there is one: copied, or, all but the first
 * `head`, by reference when they exceed the frame's memory; net_output() then copies them into fragments. */
static void put_payload(struct pktbuf *p, const uint8_t *region, uint8_t log2, uint64_t pos, uint32_t len,
                        uint32_t head)
{
    uint32_t size = UINT32_C(1) << log2, at, first;
    bool fits = p->len + len <= PKT_LINEAR_MAX - PKT_HEADROOM;

    if (fits || head > len)
        head = fits ? len : 0;
    sg_bytes_get(region, log2, pos, p->data + p->len, head);
    p->len += head;
    if (fits)
        return;
    at = (uint32_t)(pos + head) & (size - 1);
    len -= head;
    first = len < size - at ? len : size - at;
    p->frag[p->frag_count++] = (struct pkt_frag){region + at, first};
    if (len > first)
        p->frag[p->frag_count++] = (struct pkt_frag){region, len - first};
}

static bool group_joined(const struct engine *e, const struct ip_addr *group, uint8_t ifindex)
{
    return group->family == SG_AF_INET6 ? ip6_group_joined(e, group, ifindex)
                                        : mcast_listens(e, group, ifindex);
}

/* Sockets here hear broadcasts of ours as well, and multicasts of groups that they joined (RFC 1112 6.1). */
static void loop_copy(struct engine *e, const struct udp_sock *u, const struct pktbuf *p,
                      const struct udp_outgoing *o)
{
    const struct net_dst *d = netif_lookup(&e->net.t, &o->dst);
    const struct ip_out out = {
        .src = &o->src, .dst = &o->dst, .proto = u->proto, .tos = o->tos, .ttl = o->ttl};

    if (d->kind == DST_MULTICAST ? u->mc_loop && group_joined(e, &o->dst, d->ifindex)
                                 : d->kind == DST_BROADCAST)
        net_loop_copy(e, p, &out, d->ifindex);
}

/* Build one datagram of `len` bytes at `pos` in a fresh frame and send it; 0 or a positive errno. */
static int send_datagram(struct engine *e, struct udp_sock *u, const uint8_t *region,
                         const struct udp_outgoing *o, uint64_t pos, uint32_t len, uint64_t now_us)
{
    struct pktbuf *p = pktq_get(&e->txq);
    int error = 0;

    ENG_ASSERT(p); /* The caller made sure of room. */
    if (o->hdr_len)
        udp_put(p->data, u->s.lport, o->port, len);
    p->len = o->hdr_len;
    put_payload(p, region, u->s.tx.log2, pos, len, raw_checksum_end(u));
    if (o->hdr_len)
        net_checksum(e, p, &o->src, &o->dst, IP_PROTO_UDP, UDP_CSUM_OFFSET,
                     net_frame_count(e, &o->dst, UDP_HDR_BYTES + len, o->cut & NET_LINK_MTU) > 1);
    else
        error = raw_checksum(u, p, o);
    if (!error)
        loop_copy(e, u, p, o);
    if (error || !o->ttl) { /* RFC 1112 6.1: TTL 0 is not to leave this host. */
        pktq_drop(&e->txq);
        return error;
    }
    return -net_output(e, p, &o->src, &o->dst, u->proto, o->tos, o->ttl, o->cut, now_us);
}

/* All datagrams of a record. The first error ends it: what went is gone, as with separate calls. */
static int send_record(struct engine *e, struct udp_sock *u, const uint8_t *region,
                       const struct udp_outgoing *o, uint64_t now_us)
{
    uint32_t each = datagram_count(o) == 1 ? o->len : o->gso_size;
    uint32_t at = 0;

    do {
        uint32_t len = o->len - at < each ? o->len - at : each;
        int error = u->hdrincl ? raw_send_whole(e, u, region, o, now_us)
                               : send_datagram(e, u, region, o, o->pos + at, len, now_us);

        if (error)
            return error;
        stat_inc(&e->stats, o->hdr_len ? ST_UDP_OUT_DATAGRAMS : ST_RAW_OUT);
        at += len;
    } while (at < o->len);
    return 0;
}

enum sent { SENT_ONE, SENT_WAIT, SENT_FAULT };

static enum sent send_next(struct engine *e, struct udp_sock *u, uint64_t now_us)
{
    struct sock *s = &u->s;
    const uint8_t *region = session_region(sock_session(e, s->heap_sid), s->tx.region);
    struct sg_dgram_hdr h;
    struct udp_outgoing o;
    int error;

    if (!read_record(e, u, region, &h, &o)) {
        s->tx.head = s->tx.tail;
        return SENT_FAULT;
    }
    error = choose_route(e, u, &h, &o);
    if (!error) {
        uint32_t frames = frames_needed(e, u, &o, &error);

        if (!error && frames + reserve(&e->txq) > pktq_room(&e->txq, net_dev(e, &o.dst))) {
            if (e->txq.devices == 1 || !pktq_stalled(&e->txq, net_dev(e, &o.dst), now_us))
                return SENT_WAIT;
            error = ENOBUFS; /* What the socket sends over other devices is not to wait behind it. */
        }
        if (!error)
            error = send_record(e, u, region, &o, now_us);
    }
    s->tx.head += o.bytes;
    sock_dirty_bits(e, s, DIRTY_LINE | DIRTY_TX);
    if (error) {
        stat_inc(&e->stats, ST_UDP_SNDBUF_ERRORS);
        if (error != ENOBUFS) /* No room on the way out is a lost datagram, counted, as any other. */
            udp_soft_error(e, u, error);
    }
    return SENT_ONE;
}

void udp_output(struct engine *e, uint64_t now_us)
{
    struct udp_table *t = &e->udp;
    uint32_t budget = UDP_OUTPUT_BURST, waits = NIL;

    while (t->tx_head != waits && budget) {
        struct udp_sock *u = &t->socks[t->tx_head];
        enum sent sent = SENT_ONE;

        for (uint32_t n = 0; n < UDP_SOCK_BURST && budget && u->s.tx.head != u->s.tx.tail; n++) {
            sent = send_next(e, u, now_us);
            if (sent != SENT_ONE)
                break;
            budget--;
        }
        if (sent == SENT_WAIT && e->txq.devices == 1)
            return; /* It keeps its turn. */
        if (sent == SENT_WAIT && waits == NIL)
            waits = udp_index(t, u); /* Those behind it may send over other devices: one round. */
        udp_tx_forget(t, u);
        if (u->s.tx.head != u->s.tx.tail)
            tx_list_add(t, u); /* Behind the others. */
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw sockets: every packet of one protocol, and packets whose payload the application writes. In IPv4 they
 * are copied with their IP header, and sent without it or, with IP_HDRINCL, with one that came with them;
 * in IPv6 what stands behind the extension headers is copied, and the engine makes and checks the checksum of
 * ICMPv6, and another's on request (RFC 3542 3.1).
 *
 * They are datagram sockets without ports: records, rings, options and send lists are those of UDP. A packet
 * goes to every raw socket that fits it, beside what the stack itself makes of it. Only sessions that may
 * (engine_session.raw) get one. ICMP errors are seen as packets, not as errors of the socket.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/icmp6.h"

#include <errno.h>

int raw_open(struct engine *e, int sid, uint32_t slot, uint32_t proto, uint16_t family, sock_id *ret)
{
    struct udp_table *t = &e->udp;
    struct udp_sock *u;
    int rc;

    if (!proto || proto > RAW_PROTO_RAW || (proto == RAW_PROTO_RAW && family != SG_AF_INET))
        return -EPROTONOSUPPORT;
    if (!sock_session(e, sid)->v.raw) {
        stat_inc(&e->stats, ST_RAW_DENIED);
        return -EPERM;
    }
    if (t->raw_count >= RAW_SOCKS_MAX)
        return -ENOBUFS;
    rc = udp_open(e, sid, slot, ret);
    if (rc)
        return rc;
    u = &t->socks[SOCK_INDEX(*ret)];
    u->s.type = SG_SOCK_RAW;
    u->proto = (uint8_t)proto;
    u->hdrincl = proto == RAW_PROTO_RAW;
    if (family == SG_AF_INET6)
        u->s.opts |= SO_F_V6ONLY;
    if (family == SG_AF_INET6 && proto == IP6_NH_ICMP)
        u->csum_off = ICMP6_CSUM_OFFSET;
    u->hash_next = t->raw_head;
    t->raw_head = udp_index(t, u);
    t->raw_count++;
    peers_raw(e, u, 1);
    return 0;
}

void raw_close(struct engine *e, struct udp_sock *u)
{
    struct udp_table *t = &e->udp;
    uint32_t *at = &t->raw_head, i = udp_index(t, u);

    while (*at != i) {
        ENG_ASSERT(*at != NIL);
        at = &t->socks[*at].hash_next;
    }
    *at = u->hash_next;
    t->raw_count--;
    peers_raw(e, u, -1);
}

/* ICMP_FILTER, ICMP6_FILTER */
static bool filtered(const struct udp_sock *u, const struct rx_pkt *rp)
{
    bool icmp = u->proto == (u->s.family == SG_AF_INET6 ? IP6_NH_ICMP : IP_PROTO_ICMP);

    return icmp && rp->l4_len && u->filter[rp->l4[0] / 32] >> rp->l4[0] % 32 & 1;
}

static bool fits(const struct engine *e, const struct udp_sock *u, const struct rx_pkt *rp)
{
    const struct sock *s = &u->s;

    if (u->proto != rp->proto || s->family != rp->dst.family || filtered(u, rp))
        return false;
    if (!ip_addr_any(&s->local) && !ip_addr_eq(&s->local, &rp->dst))
        return false;
    if (udp_connected(u) && !ip_addr_eq(&s->remote, &rp->src))
        return false;
    return udp_hears(e, u, rp);
}

uint32_t raw_whole_header(const struct rx_pkt *rp, uint8_t *hdr)
{
    uint32_t bytes = rp->l3_hdr_len;

    memcpy(hdr, rp->l3, bytes);
    put_be16(hdr + 2, (uint16_t)(bytes + rp->l4_len));
    put_be16(hdr + 6, get_be16(hdr + 6) & IP4_DF);
    ip4_put_csum(hdr, bytes);
    return bytes;
}

/* With the right checksum, wherever it stands, all of them together are zero. */
static bool sum_ok(const struct rx_pkt *rp)
{
    return !csum_finish(csum_add(net_pseudo_sum(rp, rp->l4_len), csum_partial(rp->l4, rp->l4_len)));
}

bool raw_input(struct engine *e, const struct rx_pkt *rp)
{
    struct udp_table *t = &e->udp;
    uint8_t hdr[IP4_HDR_BYTES_MAX];
    struct udp_payload p = {.hdr = hdr, .data = rp->l4, .len = rp->l4_len};
    bool taken = false;

    for (uint32_t i = t->raw_head; i != NIL; i = t->socks[i].hash_next) {
        struct udp_sock *u = &t->socks[i];

        if (!fits(e, u, rp))
            continue;
        taken = true;
        if (u->csum_off >= 0 && !sum_ok(rp)) {
            stat_inc(&e->stats, ST_RAW_CSUM_ERRORS);
            continue;
        }
        if (u->s.family == SG_AF_INET && !p.hdr_len)
            p.hdr_len = raw_whole_header(rp, hdr);
        if (udp_store(e, u, rp, 0, &p) != ST_COUNT) {
            u->rx_drops++;
            stat_inc(&e->stats, ST_RAW_DROPS);
            continue;
        }
        stat_inc(&e->stats, ST_RAW_IN);
        sock_dirty(e, &u->s);
    }
    return taken;
}

/* ---- Out ------------------------------------------------------------------------------------------ */

uint32_t raw_checksum_end(const struct udp_sock *u)
{
    return u->csum_off < 0 ? 0 : (uint32_t)u->csum_off + 2;
}

int raw_checksum(const struct udp_sock *u, struct pktbuf *p, const struct udp_outgoing *o)
{
    uint32_t end = raw_checksum_end(u);

    if (!end)
        return 0;
    if (p->len < end)
        return EINVAL;
    net_pkt_checksum(p, csum_pseudo6(o->src.ip, o->dst.ip, u->proto, net_pkt_bytes(p)), u->proto,
                     (uint16_t)u->csum_off);
    return 0;
}

/* As in Linux: length and checksum are always made here, source and identification when they are zero. */
static int complete_header(struct engine *e, uint8_t *hdr, const struct udp_outgoing *o)
{
    const struct ip_out out = {.src = &o->src, .dst = &o->dst, .proto = hdr[9]};
    uint32_t bytes = (hdr[0] & 15u) * 4;

    if (hdr[0] >> 4 != 4 || bytes < IP4_HDR_BYTES || bytes > o->len)
        return EINVAL;
    put_be16(hdr + 2, (uint16_t)o->len);
    if (!get_be16(hdr + 4))
        put_be16(hdr + 4, (uint16_t)net_next_id(&e->net, &out, 1));
    if (!get_be32(hdr + 12))
        memcpy(hdr + 12, o->src.ip, 4);
    ip4_put_csum(hdr, bytes);
    return 0;
}

int raw_send_whole(struct engine *e, struct udp_sock *u, const uint8_t *region, const struct udp_outgoing *o,
                   uint64_t now_us)
{
    uint32_t max = net_mtu(e, &o->dst), room = PKT_LINEAR_MAX - PKT_HEADROOM;
    struct pktbuf *p;
    int error;

    if (o->len < IP4_HDR_BYTES)
        return EINVAL;
    if (o->len > max || o->len > room) /* It is not ours to cut it. */
        return EMSGSIZE;
    p = pktq_get(&e->txq);
    ENG_ASSERT(p); /* The caller made sure of room. */
    sg_bytes_get(region, u->s.tx.log2, o->pos, p->data, o->len);
    p->len = o->len;
    error = complete_header(e, p->data, o);
    if (error) {
        pktq_drop(&e->txq);
        return error;
    }
    return -net_output_whole4(e, p, &o->dst, now_us);
}

/* ---- Options -------------------------------------------------------------------------------------- */

static struct udp_sock *raw_of(struct sock *s, uint16_t family)
{
    return s->type == SG_SOCK_RAW && s->family == family ? (struct udp_sock *)s : NULL;
}

int raw_set_hdrincl(struct engine *e, struct sock *s, uint64_t value)
{
    struct udp_sock *u = raw_of(s, SG_AF_INET);

    (void)e;
    if (!u)
        return -ENOPROTOOPT;
    u->hdrincl = value != 0;
    return 0;
}

int raw_get_hdrincl(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct udp_sock *u = raw_of(s, SG_AF_INET);

    (void)e;
    *value = u && u->hdrincl;
    return u ? 0 : -ENOPROTOOPT;
}

/* RFC 3542 3.1: an even offset, or -1 for none; ICMPv6's is not to be moved. */
int raw_set_checksum(struct engine *e, struct sock *s, uint64_t value)
{
    struct udp_sock *u = raw_of(s, SG_AF_INET6);
    int64_t off = (int64_t)value;

    (void)e;
    if (!u)
        return -ENOPROTOOPT;
    if (u->proto == IP6_NH_ICMP || off > INT16_MAX || (off > 0 && off % 2))
        return -EINVAL;
    u->csum_off = off < 0 ? -1 : (int16_t)off;
    return 0;
}

int raw_get_checksum(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct udp_sock *u = raw_of(s, SG_AF_INET6);

    (void)e;
    *value = u ? (uint64_t)u->csum_off : 0;
    return u ? 0 : -ENOPROTOOPT;
}

int raw_set_filter(struct engine *e, struct sock *s, uint64_t value)
{
    struct udp_sock *u = raw_of(s, SG_AF_INET);

    (void)e;
    if (!u || u->proto != IP_PROTO_ICMP)
        return -EOPNOTSUPP;
    u->filter[0] = (uint32_t)value;
    return 0;
}

int raw_get_filter(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct udp_sock *u = raw_of(s, SG_AF_INET);

    (void)e;
    if (!u || u->proto != IP_PROTO_ICMP)
        return -EOPNOTSUPP;
    *value = u->filter[0];
    return 0;
}

int engine_icmp6_filter(struct engine *e, int sid, uint32_t slot, const uint32_t blocked[8])
{
    struct sock *s;
    struct udp_sock *u;

    if (!engine_slot_used(e, sid, slot))
        return -EBADF;
    s = sock_get(e, sock_session(e, sid)->v.slot_sock[slot]);
    u = raw_of(s, SG_AF_INET6);
    if (!u || u->proto != IP6_NH_ICMP)
        return -ENOPROTOOPT;
    memcpy(u->filter, blocked, sizeof(u->filter));
    return 0;
}

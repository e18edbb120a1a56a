/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams in: which sockets get one, and the ICMP errors about ours.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/dhcp.h"
#include "daemon/engine/wire/udp.h"

#include <errno.h>

/* How well a socket fits a datagram; 0: not at all. */
static unsigned match(const struct udp_sock *u, const struct ip_addr *local, uint16_t lport,
                      const struct ip_addr *remote, uint16_t rport)
{
    const struct sock *s = &u->s;

    if (s->lport != lport)
        return 0;
    if (ip_addr_any(&s->local)) {
        if (s->local.family != local->family && (local->family != SG_AF_INET || s->opts & SO_F_V6ONLY))
            return 0; /* An IPv6 socket takes IPv4's datagrams too (RFC 3493 3.7). */
    } else if (!ip_addr_eq(&s->local, local)) {
        return 0;
    }
    if (udp_connected(u))
        return ip_addr_eq(&s->remote, remote) && s->rport == rport ? 3 : 0;
    return ip_addr_any(&s->local) ? 1 : 2;
}

/* May `u` take part in a datagram that `best` would get? */
static bool same_group(const struct udp_sock *best, const struct udp_sock *u)
{
    return u->s.opts & SO_F_REUSEPORT && !udp_connected(u) && u->s.lport == best->s.lport &&
           ip_addr_eq(&u->s.local, &best->s.local);
}

/*
 * SO_REUSEPORT: one flow always meets the same socket while the group stays as it is. Only the keyed hash
 * decides, so a sender can't aim at one of them.
 */
static struct udp_sock *choose_in_group(struct engine *e, struct udp_sock *best, const struct ip_addr *local,
                                        const struct ip_addr *remote, uint16_t rport)
{
    struct udp_table *t = &e->udp;
    uint64_t w[5], h;
    uint32_t count = 0, pick;

    for (uint32_t i = t->bucket[best->s.lport & t->mask]; i != NIL; i = t->socks[i].hash_next)
        count += same_group(best, &t->socks[i]);
    memcpy(&w[0], local->ip, 16);
    memcpy(&w[2], remote->ip, 16);
    w[4] = (uint64_t)best->s.lport << 16 | rport;
    h = sip_words(&e->ports.key, w, ARRAY_LEN(w), 2, 4);
    pick = (uint32_t)((h >> 32) * count >> 32);
    for (uint32_t i = t->bucket[best->s.lport & t->mask]; i != NIL; i = t->socks[i].hash_next)
        if (same_group(best, &t->socks[i]) && !pick--)
            return &t->socks[i];
    ENG_ASSERT(false); /* `best` is in its own group. */
    return NULL;
}

static struct udp_sock *find(struct engine *e, const struct ip_addr *local, uint16_t lport,
                             const struct ip_addr *remote, uint16_t rport)
{
    struct udp_table *t = &e->udp;
    struct udp_sock *best = NULL;
    unsigned best_match = 0;

    for (uint32_t i = t->bucket[lport & t->mask]; i != NIL; i = t->socks[i].hash_next) {
        unsigned m = match(&t->socks[i], local, lport, remote, rport);

        if (m > best_match) {
            best_match = m;
            best = &t->socks[i];
        }
    }
    if (best && best->s.opts & SO_F_REUSEPORT && !udp_connected(best))
        return choose_in_group(e, best, local, remote, rport);
    return best;
}

/* Ring bytes that the socket may have in use: what SO_RCVBUF allows and its region holds. */
static uint64_t receive_limit(const struct udp_sock *u)
{
    uint64_t region = UINT64_C(1) << u->s.rx.log2;

    return u->rcvbuf < region ? u->rcvbuf : region;
}

/* A region for what arrives; one that is empty and of another size than SO_RCVBUF now asks for is changed. */
static bool receive_region(struct engine *e, struct sock *s)
{
    struct stream *rx = &s->rx;

    if (rx->region && rx->head == rx->tail && rx->log2 != rx->want_log2)
        sock_region_put(e, s, rx);
    return rx->region || sock_region_get(e, s, rx);
}

enum stat udp_store(struct engine *e, struct udp_sock *u, const struct rx_pkt *rp, uint16_t port,
                    const struct udp_payload *p)
{
    struct sock *s = &u->s;
    struct stream *rx = &s->rx;
    struct ip_addr from = net_to_api(&rp->src, s->family);
    uint32_t len = p->hdr_len + p->len;
    struct sg_dgram_hdr h = {.len = len, .family = from.family, .port = port, .scope = from.scope};
    uint64_t need, at;
    uint8_t *region;

    h.flags = udp_wants_info(u) ? SG_DGRAM_INFO : 0;
    need = sg_dgram_record_bytes(&h);

    if (s->pub_flags & SG_F_RX_FIN || len > SG_DGRAM_BYTES_MAX)
        return ST_UDP_RCVBUF_ERRORS;
    sock_pull_rx(e, s);
    if (!receive_region(e, s))
        return ST_UDP_MEM_ERRORS;
    if (rx->head == rx->tail)
        rx->base = rx->tail; /* Empty: start again where the cache is warm. */
    if (need + (rx->tail - rx->head) > receive_limit(u))
        return ST_UDP_RCVBUF_ERRORS;
    memcpy(h.addr, from.ip, sizeof(h.addr));
    region = session_region(sock_session(e, s->heap_sid), rx->region);
    at = rx->tail - rx->base;
    sg_bytes_put(region, rx->log2, at, &h, sizeof(h));
    at += sizeof(h);
    if (h.flags & SG_DGRAM_INFO) {
        struct sg_dgram_info info;

        udp_info_fill(u, rp, &info);
        sg_bytes_put(region, rx->log2, at, &info, sizeof(info));
        at += sizeof(info);
    }
    if (p->hdr_len)
        sg_bytes_put(region, rx->log2, at, p->hdr, p->hdr_len);
    sg_bytes_put(region, rx->log2, at + p->hdr_len, p->data, p->len);
    rx->tail += need;
    return ST_COUNT;
}

static void take(struct engine *e, struct udp_sock *u, const struct rx_pkt *rp, const struct udp_dgram *d)
{
    enum stat why = udp_store(e, u, rp, d->sport, &(struct udp_payload){.data = d->data, .len = d->len});

    if (why != ST_COUNT) {
        u->rx_drops++;
        stat_inc(&e->stats, why);
        return;
    }
    stat_inc(&e->stats, ST_UDP_IN_DATAGRAMS);
    sock_dirty(e, &u->s);
}

static bool checksum_ok(const struct rx_pkt *rp, const struct udp_dgram *d)
{
    if (rp->csum_ok)
        return true;
    if (!d->csum) /* RFC 8200 8.1: IPv6's header has no checksum of its own, so UDP's is no choice there. */
        return rp->src.family == SG_AF_INET;
    return csum_finish(csum_add(net_pseudo_sum(rp, d->total_len), csum_partial(rp->l4, d->total_len))) == 0;
}

/* Length and checksum; false: dropped and counted. */
static bool parse(struct engine *e, const struct rx_pkt *rp, struct udp_dgram *d)
{
    if (!udp_parse(rp->l4, rp->l4_len, d)) {
        stat_inc(&e->stats, ST_UDP_IN_ERRORS);
        return false;
    }
    if (!checksum_ok(rp, d)) {
        stat_inc(&e->stats, ST_UDP_IN_CSUM_ERRORS);
        return false;
    }
    if (!d->csum)
        stat_inc(&e->stats, ST_UDP_NO_CHECKSUM);
    return true;
}

/* Multicasts are for members alone. Linux's default gives them to every socket of the port
 * (IP_MULTICAST_ALL), which it keeps for compatibility. */
bool udp_hears(const struct engine *e, const struct udp_sock *u, const struct rx_pkt *rp)
{
    return !net_is_multicast(&rp->dst) || mcast_hears(e, u, rp);
}

/* To every socket that fits, as RFC 1122 4.1.3.5's "multicast and broadcast" asks; false: there is none. */
static bool deliver_to_all(struct engine *e, const struct rx_pkt *rp, const struct udp_dgram *d)
{
    struct udp_table *t = &e->udp;
    bool taken = false;

    for (uint32_t i = t->bucket[d->dport & t->mask]; i != NIL; i = t->socks[i].hash_next) {
        struct udp_sock *u = &t->socks[i];

        if (match(u, &rp->dst, d->dport, &rp->src, d->sport) && udp_hears(e, u, rp)) {
            take(e, u, rp, d);
            taken = true;
        }
    }
    return taken;
}

static bool deliver_to_best(struct engine *e, const struct rx_pkt *rp, const struct udp_dgram *d)
{
    struct udp_sock *u = find(e, &rp->dst, d->dport, &rp->src, d->sport);

    if (u)
        take(e, u, rp, d);
    return u;
}

void udp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct udp_dgram d;

    if (!parse(e, rp, &d))
        return;
    if (d.dport == DHCP_CLIENT_PORT && dhcp_input(e, rp, &d, now_us))
        return;
    if (rp->broadcast ? deliver_to_all(e, rp, &d) : deliver_to_best(e, rp, &d))
        return;
    stat_inc(&e->stats, ST_UDP_NO_PORTS);
    icmp_send_error(e, rp, ICMP_ERR_PORT_UNREACH, now_us); /* RFC 1122 4.1.3.1; never to a broadcast. */
}

void udp_icmp(struct engine *e, const struct icmp_report *r, uint64_t now_us)
{
    struct udp_sock *u = find(e, &r->local, r->lport, &r->remote, r->rport);

    e->now_us = now_us;
    if (!u) {
        stat_inc(&e->stats, ST_ICMP_ERR_UNMATCHED);
        return;
    }
    if (r->error == EMSGSIZE) {
        /* The next ones go in fragments that fit (RFC 8200 5, RFC 1191 6.1), or are refused. */
        if (!mtu_disc_believes(&u->s) || !pmtu_too_big(e, &r->remote, r->mtu, r->quoted) ||
            u->s.mtu_disc == MTU_DISC_DONT)
            return;
    }
    /* A socket without a peer could not tell whom the error is about. */
    if (udp_connected(u))
        udp_soft_error(e, u, r->error);
}

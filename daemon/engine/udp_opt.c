/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options that datagram sockets alone have, and what SO_RCVBUF and SO_SNDBUF mean here.
 *
 * SO_RCVBUF is a limit in bytes of the receive ring, counted with the records' headers, as the kernel counts
 * its own; the ring is the next power of two. SO_SNDBUF is the ring that the application writes to.
 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

void udp_set_buffer(struct udp_sock *u, bool send, uint64_t bytes)
{
    uint64_t least = UINT64_C(1) << SG_REGION_LOG2_MIN, most = UINT64_C(1) << SG_REGION_LOG2_MAX;
    uint64_t granted = bytes < least ? least : bytes > most ? most : bytes;
    uint8_t log2 = ring_class(granted, SG_REGION_LOG2_MIN, SG_REGION_LOG2_MAX);

    /* A region in use keeps its size; the class counts from the next one on. */
    if (send) {
        u->s.tx.want_log2 = log2;
    } else {
        u->rcvbuf = (uint32_t)granted;
        u->s.rx.want_log2 = log2;
    }
}

uint64_t udp_get_buffer(const struct udp_sock *u, bool send)
{
    const struct stream *tx = &u->s.tx;

    return send ? UINT64_C(1) << (tx->region ? tx->log2 : tx->want_log2) : u->rcvbuf;
}

int udp_set_mc_ttl(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    ((struct udp_sock *)s)->mc_ttl = value == UINT64_MAX ? UDP_TTL_MULTICAST : (uint8_t)value;
    return 0;
}

int udp_get_mc_ttl(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = ((const struct udp_sock *)s)->mc_ttl;
    return 0;
}

int udp_set_mc_loop(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    ((struct udp_sock *)s)->mc_loop = value != 0;
    return 0;
}

int udp_get_mc_loop(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = ((const struct udp_sock *)s)->mc_loop;
    return 0;
}

int udp_set_segment(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    ((struct udp_sock *)s)->gso_size = (uint16_t)value;
    return 0;
}

int udp_get_segment(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = ((const struct udp_sock *)s)->gso_size;
    return 0;
}

/* By an own address, which then is their source, by number, or back to the route's. */
static int set_mc_if(struct engine *e, struct udp_sock *u, const struct engine_mreq *r)
{
    const struct net_addr *a = netif_addr_find(&e->net.t, &r->interface);

    if (r->interface.family && (!a || !netif_addr_usable(a)))
        return -EADDRNOTAVAIL;
    if (r->ifnum > e->net.t.if_count || (a && r->ifnum && r->ifnum != a->ifindex + 1u))
        return -EADDRNOTAVAIL;
    u->mc_if = a ? net_addr4(&a->addr) : 0;
    u->mc_scope = a ? a->ifindex + 1u : r->ifnum;
    return 0;
}

/* IPV6_MULTICAST_IF: by number. */
int udp_set_mc_if(struct engine *e, struct sock *s, uint64_t value)
{
    if (value > e->net.t.if_count)
        return -ENODEV;
    ((struct udp_sock *)s)->mc_scope = (uint32_t)value;
    return 0;
}

int udp_get_mc_if(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = ((const struct udp_sock *)s)->mc_scope;
    return 0;
}

int engine_mcast(struct engine *e, int sid, uint32_t slot, uint32_t name, const struct engine_mreq *r,
                 uint64_t now_us)
{
    struct udp_sock *u;

    e->now_us = now_us;
    if (!engine_slot_used(e, sid, slot))
        return -EBADF;
    u = (struct udp_sock *)sock_get(e, sock_session(e, sid)->v.slot_sock[slot]);
    if (u->s.kind != SK_UDP)
        return -ENOPROTOOPT;
    if (r->group.family == SG_AF_INET6 && u->s.family != SG_AF_INET6)
        return -ENOPROTOOPT;
    return name == MCAST_INTERFACE ? set_mc_if(e, u, r) : mcast_setopt(e, u, name, r);
}

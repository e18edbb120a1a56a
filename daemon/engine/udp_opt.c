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
    ((struct udp_sock *)s)->mc_ttl = (uint8_t)value;
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

static int set_mc_if(const struct engine *e, struct udp_sock *u, const struct engine_mreq *r)
{
    struct ip_addr a = net_ip_addr(get_be32(r->interface));

    if (!ip_addr_any(&a) && !net_is_own(e, &a))
        return -EADDRNOTAVAIL;
    u->mc_if = net_addr4(&a);
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
    return name == MCAST_INTERFACE ? set_mc_if(e, u, r) : mcast_setopt(e, u, name, r);
}

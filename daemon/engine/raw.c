/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw IPv4 sockets: every packet of one protocol, copied with its IP header, and packets whose payload the
 * application writes.
 *
 * They are datagram sockets without ports: records, rings, options and send lists are those of UDP. A packet
 * goes to every raw socket that fits it, beside what the stack itself makes of it. Only sessions that may
 * (engine_session.raw) get one. ICMP errors are seen as packets, not as errors of the socket.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/udp.h"

#include <errno.h>

int raw_open(struct engine *e, int sid, uint32_t slot, uint32_t proto, sock_id *ret)
{
    struct udp_table *t = &e->udp;
    struct udp_sock *u;
    int rc;

    if (!proto || proto >= RAW_PROTO_MAX)
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
    u->hash_next = t->raw_head;
    t->raw_head = udp_index(t, u);
    t->raw_count++;
    return 0;
}

void raw_close(struct udp_table *t, struct udp_sock *u)
{
    uint32_t *at = &t->raw_head, i = udp_index(t, u);

    while (*at != i) {
        ENG_ASSERT(*at != NIL);
        at = &t->socks[*at].hash_next;
    }
    *at = u->hash_next;
    t->raw_count--;
}

static bool fits(const struct engine *e, const struct udp_sock *u, const struct rx_pkt *rp)
{
    const struct sock *s = &u->s;

    if (u->proto != rp->proto)
        return false;
    if (!ip_addr_any(&s->local) && !ip_addr_eq(&s->local, &rp->dst))
        return false;
    if (udp_connected(u) && !ip_addr_eq(&s->remote, &rp->src))
        return false;
    return udp_hears(e, u, rp);
}

/* The packet's header as if it had come in one piece; returns its bytes. */
static uint32_t whole_header(const struct rx_pkt *rp, uint8_t *hdr)
{
    uint32_t bytes = rp->l3_hdr_len;
    uint16_t sum;

    memcpy(hdr, rp->l3, bytes);
    put_be16(hdr + 2, (uint16_t)(bytes + rp->l4_len));
    put_be16(hdr + 6, get_be16(hdr + 6) & IP4_DF);
    memset(hdr + 10, 0, 2);
    sum = csum_finish(csum_partial(hdr, bytes));
    memcpy(hdr + 10, &sum, 2);
    return bytes;
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
        if (!p.hdr_len)
            p.hdr_len = whole_header(rp, hdr);
        taken = true;
        if (udp_store(e, u, &rp->src, 0, &p) != ST_COUNT) {
            u->rx_drops++;
            stat_inc(&e->stats, ST_RAW_DROPS);
            continue;
        }
        stat_inc(&e->stats, ST_RAW_IN);
        sock_dirty(e, &u->s);
    }
    return taken;
}

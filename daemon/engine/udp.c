/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

/* Class of a socket's rings until SO_RCVBUF or SO_SNDBUF: what Linux gives, and several of the largest
 * datagrams. */
#define UDP_RING_LOG2 18u

/* ---- Table ----------------------------------------------------------------------------------------------
 */

static uint32_t bucket_count(const struct engine_config *cfg)
{
    uint32_t n = 16;

    while (n < cfg->udp_max)
        n *= 2;
    return n;
}

size_t udp_arena_bytes(const struct engine_config *cfg)
{
    return (size_t)cfg->udp_max * sizeof(struct udp_sock);
}

size_t udp_bytes(const struct engine_config *cfg)
{
    return ((size_t)cfg->udp_max + bucket_count(cfg)) * sizeof(uint32_t);
}

void udp_init(struct udp_table *t, void *arena, void *mem, const struct engine_config *cfg)
{
    uint32_t buckets = bucket_count(cfg);

    *t = (struct udp_table){
        .socks = arena,
        .free = mem,
        .count = cfg->udp_max,
        .mask = buckets - 1,
        .tx_head = NIL,
        .tx_tail = NIL,
        .raw_head = NIL,
    };
    t->bucket = t->free + t->count;
    memset(t->bucket, 0xff, buckets * sizeof(uint32_t)); /* NIL */
    for (uint32_t i = t->count; i-- > 0;)                /* Low indices are given out first. */
        if (t->socks[i].s.kind == SK_NONE)
            t->free[t->free_count++] = i;
}

static void hash_add(struct udp_table *t, struct udp_sock *u)
{
    uint32_t *bucket = &t->bucket[u->s.lport & t->mask];

    u->hash_next = *bucket;
    *bucket = udp_index(t, u);
}

static void hash_del(struct udp_table *t, struct udp_sock *u)
{
    uint32_t *at = &t->bucket[u->s.lport & t->mask];
    uint32_t i = udp_index(t, u);

    while (*at != i) {
        ENG_ASSERT(*at != NIL);
        at = &t->socks[*at].hash_next;
    }
    *at = u->hash_next;
    u->hash_next = NIL;
}

void udp_soft_error(struct engine *e, struct udp_sock *u, int error)
{
    u->s.error = (uint32_t)error;
    u->s.pub_flags |= SG_F_SOFT_ERR;
    sock_dirty(e, &u->s);
}

/* ---- Calls
 * ------------------------------------------------------------------------------------------------- */

int udp_open(struct engine *e, int sid, uint32_t slot, sock_id *ret)
{
    struct udp_table *t = &e->udp;
    struct udp_sock *u;
    uint32_t i;

    if (!t->free_count)
        return -ENOBUFS;
    i = t->free[--t->free_count];
    u = &t->socks[i];
    *u = (struct udp_sock){
        .s =
            {
                .slot = slot,
                .sid = (int16_t)sid,
                .heap_sid = -1,
                .kind = SK_UDP,
                .type = SG_SOCK_DGRAM,
                .mtu_disc = MTU_DISC_WANT,
                .family = SG_AF_INET,
                .pub_state = SG_ST_OPEN,
                .local = {.family = SG_AF_INET},
                .remote = {.family = SG_AF_INET},
                .rx = {.want_log2 = UDP_RING_LOG2},
                .tx = {.want_log2 = UDP_RING_LOG2},
            },
        .hash_next = NIL,
        .tx_next = NIL,
        .mc_ttl = UDP_TTL_MULTICAST,
        .mc_loop = 1,
        .proto = IP_PROTO_UDP,
        .groups = NIL,
        .csum_off = -1,
        .rcvbuf = UINT32_C(1) << e->cfg.rcvbuf_log2,
    };
    *ret = SOCK_ID(SK_UDP, i);
    return 0;
}

static int claim(struct engine *e, struct udp_sock *u, const struct ip_ep *local)
{
    int rc = sock_port_claim(e, &u->s, local);

    if (rc)
        return rc;
    hash_add(&e->udp, u);
    u->s.pub_flags |= SG_F_BOUND;
    sock_dirty_bits(e, &u->s, DIRTY_LINE | DIRTY_NAME);
    return 0;
}

int udp_bind(struct engine *e, struct udp_sock *u, const struct ip_ep *local)
{
    if (u->s.lport || (u->s.type == SG_SOCK_RAW && u->s.bind_flags & BIND_USER))
        return -EINVAL;
    if (!ip_addr_any(&local->addr) && !net_is_own(e, &local->addr) && !net_is_broadcast(e, &local->addr) &&
        !net_is_multicast(&local->addr))
        return -EADDRNOTAVAIL;
    if (u->s.type == SG_SOCK_RAW) { /* No ports: only the address counts. */
        u->s.local = local->addr;
        return 0;
    }
    return claim(e, u, local);
}

int udp_bind_any(struct engine *e, struct udp_sock *u)
{
    const struct ip_ep any = {.addr = {.family = u->s.family}};

    if (u->s.lport || u->s.type == SG_SOCK_RAW)
        return 0;
    return claim(e, u, &any) ? -EAGAIN : 0; /* As Linux says when the ephemeral ports are used up. */
}

static void disconnect(struct engine *e, struct udp_sock *u)
{
    struct sock *s = &u->s;

    s->pub_state = SG_ST_OPEN;
    s->remote = (struct ip_addr){.family = s->family};
    s->rport = 0;
    if (s->bind_flags & BIND_CONNECT) {
        s->local = (struct ip_addr){.family = s->family};
        s->bind_flags &= (uint16_t)~BIND_CONNECT;
    }
    if (s->lport && !(s->bind_flags & BIND_USER)) { /* The port came with the peer, and goes. */
        hash_del(&e->udp, u);
        sock_port_release(e, s);
        s->lport = 0;
        s->pub_flags &= ~SG_F_BOUND;
    }
    (void)peers_change(e, sock_id_of(e, s), s);
}

struct ip_addr udp_destination(const struct engine *e, const struct ip_addr *a)
{
    return ip_addr_any(a) ? net_own(e, a->family) : *a;
}

int udp_connect(struct engine *e, struct udp_sock *u, const struct ip_ep *remote)
{
    struct sock *s = &u->s;
    struct ip_addr dst, src;
    int rc;

    if (remote->addr.family == 0) {
        disconnect(e, u);
        return 0;
    }
    dst = udp_destination(e, &remote->addr);
    if (!net_source(e, &dst, &src))
        return -ENETUNREACH;
    if (net_is_broadcast(e, &dst) && !(s->opts & SO_F_BROADCAST))
        return -EACCES;
    rc = udp_bind_any(e, u);
    if (rc)
        return rc;
    if (ip_addr_any(&s->local)) {
        s->local = src;
        s->bind_flags |= BIND_CONNECT;
    } else if (s->local.family != dst.family) {
        return -ENETUNREACH;
    }
    s->remote = dst;
    s->rport = s->type == SG_SOCK_RAW ? 0 : remote->port;
    s->pub_state = SG_ST_CONNECTED;
    (void)peers_change(e, sock_id_of(e, s), s); /* Only who it hears from changes. */
    return 0;
}

void udp_shutdown(struct engine *e, struct udp_sock *u, uint32_t how)
{
    struct sock *s = &u->s;

    if (how & SG_SHUT_WR && !(s->pub_flags & SG_F_TX_SHUT)) {
        if (sock_pull(e, s)) { /* What was written before still goes. */
            udp_kick(e, u, e->now_us);
            udp_output(e, e->now_us);
        }
        s->pub_flags |= SG_F_TX_SHUT;
    }
    if (how & SG_SHUT_RD)
        s->pub_flags |= SG_F_RX_FIN;
    sock_dirty(e, s);
}

void udp_close(struct engine *e, struct udp_sock *u)
{
    struct udp_table *t = &e->udp;

    udp_tx_forget(t, u);
    mcast_leave_all(e, u);
    if (u->s.lport)
        hash_del(t, u);
    else if (u->s.type == SG_SOCK_RAW)
        raw_close(e, u);
    sock_port_release(e, &u->s);
    sock_region_put(e, &u->s, &u->s.rx);
    sock_region_put(e, &u->s, &u->s.tx);
    ENG_ASSERT(t->free_count < t->count);
    t->free[t->free_count++] = udp_index(t, u);
    *u = (struct udp_sock){.s = {.kind = SK_NONE}};
}

const char *udp_check(const struct engine *e)
{
    const struct udp_table *t = &e->udp;
    uint32_t used = 0, hashed = 0, bound = 0, raw = 0, listed = 0, queued = 0;

    for (uint32_t i = 0; i < t->count; i++) {
        const struct udp_sock *u = &t->socks[i];

        if (u->s.kind == SK_NONE)
            continue;
        if (u->s.kind != SK_UDP)
            return "UDP record of another kind";
        used++;
        bound += u->s.lport != 0;
        queued += u->tx_queued;
        if (u->s.tx.tail - u->s.tx.head > UINT64_C(1) << SG_REGION_LOG2_MAX)
            return "UDP send ring holds more than a region";
        if (u->s.rx.tail - u->s.rx.head > UINT64_C(1) << SG_REGION_LOG2_MAX)
            return "UDP receive ring holds more than a region";
    }
    for (uint32_t b = 0; b <= t->mask; b++)
        for (uint32_t i = t->bucket[b]; i != NIL && hashed <= t->count; i = t->socks[i].hash_next)
            hashed++;
    for (uint32_t i = t->tx_head; i != NIL && listed <= t->count; i = t->socks[i].tx_next)
        listed++;
    if (used + t->free_count != t->count)
        return "UDP records are lost";
    for (uint32_t i = t->raw_head; i != NIL && raw <= t->count; i = t->socks[i].hash_next)
        raw++;
    if (raw != t->raw_count)
        return "raw sockets are lost";
    if (hashed != bound)
        return "UDP port table is inconsistent";
    if (listed != queued)
        return "UDP send list is inconsistent";
    return NULL;
}

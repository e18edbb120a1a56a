/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/udp.h"

#include <errno.h>

/* RFC 1112 6.1: multicasts stay on the link unless the application says otherwise. */
#define TTL_MULTICAST 1u

static_assert(SG_DGRAM_BYTES_MAX + UDP_HDR_BYTES + IP4_HDR_BYTES == IP4_BYTES_MAX, "largest datagram");

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
    };
    t->bucket = t->free + t->count;
    memset(t->bucket, 0xff, buckets * sizeof(uint32_t)); /* NIL */
    for (uint32_t i = t->count; i-- > 0;)                /* Low indices are given out first. */
        if (t->socks[i].s.kind == SK_NONE)
            t->free[t->free_count++] = i;
}

static uint32_t index_of(const struct udp_table *t, const struct udp_sock *u)
{
    return (uint32_t)(u - t->socks);
}

static void hash_add(struct udp_table *t, struct udp_sock *u)
{
    uint32_t *bucket = &t->bucket[u->s.lport & t->mask];

    u->hash_next = *bucket;
    *bucket = index_of(t, u);
}

static void hash_del(struct udp_table *t, struct udp_sock *u)
{
    uint32_t *at = &t->bucket[u->s.lport & t->mask];
    uint32_t i = index_of(t, u);

    while (*at != i) {
        ENG_ASSERT(*at != NIL);
        at = &t->socks[*at].hash_next;
    }
    *at = u->hash_next;
    u->hash_next = NIL;
}

static bool is_connected(const struct udp_sock *u)
{
    return u->s.pub_state == SG_ST_CONNECTED;
}

/* Report an errno that does not end the socket (RFC 1122 4.1.3.3). */
static void soft_error(struct engine *e, struct udp_sock *u, int error)
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
                .family = SG_AF_INET,
                .pub_state = SG_ST_OPEN,
                .local = {.family = SG_AF_INET},
                .remote = {.family = SG_AF_INET},
                .rx = {.want_log2 = e->cfg.rcvbuf_log2},
                .tx = {.want_log2 = e->cfg.sndbuf_log2},
            },
        .hash_next = NIL,
        .tx_next = NIL,
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
    if (u->s.lport)
        return -EINVAL;
    if (!ip_addr_any(&local->addr) && !net_is_own(e, &local->addr) && !net_is_broadcast(e, &local->addr))
        return -EADDRNOTAVAIL;
    return claim(e, u, local);
}

static int bind_any(struct engine *e, struct udp_sock *u)
{
    const struct ip_ep any = {.addr = {.family = u->s.family}};

    if (u->s.lport)
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
}

/* Linux takes 0.0.0.0 and :: as a destination for this host. */
static struct ip_addr destination(const struct engine *e, const struct ip_addr *a)
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
    dst = destination(e, &remote->addr);
    if (!net_source(e, &dst, &src))
        return -ENETUNREACH;
    if (net_is_broadcast(e, &dst) && !(s->opts & SO_F_BROADCAST))
        return -EACCES;
    rc = bind_any(e, u);
    if (rc)
        return rc;
    if (ip_addr_any(&s->local)) {
        s->local = src;
        s->bind_flags |= BIND_CONNECT;
    } else if (s->local.family != dst.family) {
        return -ENETUNREACH;
    }
    s->remote = dst;
    s->rport = remote->port;
    s->pub_state = SG_ST_CONNECTED;
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

static void tx_list_del(struct udp_table *t, struct udp_sock *u)
{
    uint32_t i = index_of(t, u), prev = NIL;

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
    uint32_t i = index_of(t, u);

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

void udp_close(struct engine *e, struct udp_sock *u)
{
    struct udp_table *t = &e->udp;

    tx_list_del(t, u);
    if (u->s.lport)
        hash_del(t, u);
    sock_port_release(e, &u->s);
    sock_region_put(e, &u->s, &u->s.rx);
    sock_region_put(e, &u->s, &u->s.tx);
    ENG_ASSERT(t->free_count < t->count);
    t->free[t->free_count++] = index_of(t, u);
    *u = (struct udp_sock){.s = {.kind = SK_NONE}};
}

/* ---- Out
 * --------------------------------------------------------------------------------------------------- */

void udp_kick(struct engine *e, struct udp_sock *u, uint64_t now_us)
{
    struct sock *s = &u->s;

    (void)now_us;
    if (s->tx.head == s->tx.tail)
        return;
    if (s->pub_flags & SG_F_TX_SHUT && !u->tx_queued) {
        s->tx.head = s->tx.tail;
        soft_error(e, u, EPIPE);
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

/* A datagram in a send ring, checked. */
struct outgoing {
    struct ip_addr src, dst;
    uint16_t port;
    uint32_t len;   /* payload */
    uint64_t pos;   /* of the payload, from the ring's base */
    uint32_t bytes; /* in the ring */
};

/* Read the next record; false: the application broke the contract. */
static bool read_record(struct engine *e, struct udp_sock *u, const uint8_t *region, struct sg_dgram_hdr *h,
                        struct outgoing *o)
{
    const struct stream *tx = &u->s.tx;
    uint64_t avail = tx->tail - tx->head, pos = tx->head - tx->base;

    if (avail < sizeof(*h) || pos % SG_DGRAM_ALIGN) {
        sock_fault(e, &u->s, "datagram record is cut short or misaligned");
        return false;
    }
    sg_bytes_get(region, tx->log2, pos, h, sizeof(*h));
    if (h->len > SG_DGRAM_BYTES_MAX || sg_dgram_ring_bytes(h->len) > avail) {
        sock_fault(e, &u->s, "datagram length is beyond the send ring");
        return false;
    }
    if (h->pad || (h->family && h->family != SG_AF_INET && h->family != SG_AF_INET6)) {
        sock_fault(e, &u->s, "datagram header is malformed");
        return false;
    }
    o->len = h->len;
    o->pos = pos + sizeof(*h);
    o->bytes = (uint32_t)sg_dgram_ring_bytes(h->len);
    return true;
}

/* Where to, and from where. 0 or a positive errno for the application. */
static int choose_route(struct engine *e, struct udp_sock *u, const struct sg_dgram_hdr *h,
                        struct outgoing *o)
{
    const struct sock *s = &u->s;

    if (!h->family) {
        if (!is_connected(u))
            return EDESTADDRREQ;
        o->dst = s->remote;
        o->port = s->rport;
    } else if (h->family == s->family) {
        struct ip_addr given = {.family = h->family, .scope = h->scope};

        memcpy(given.ip, h->addr, h->family == SG_AF_INET ? 4 : 16);
        given = net_from_api(e, &given);
        if (s->opts & SO_F_V6ONLY && given.family == SG_AF_INET)
            return ENETUNREACH;
        o->dst = destination(e, &given);
        o->port = h->port;
    } else {
        return EAFNOSUPPORT;
    }
    if (!o->port)
        return EINVAL;
    if (net_is_broadcast(e, &o->dst) && !(s->opts & SO_F_BROADCAST))
        return EACCES;
    if (!net_source(e, &o->dst, &o->src))
        return ENETUNREACH;
    if (!ip_addr_any(&s->local) && s->local.family != o->dst.family)
        return ENETUNREACH;
    if (net_is_own(e, &s->local)) /* Bound, or chosen by connect(). */
        o->src = s->local;
    return -bind_any(e, u);
}

/* Build the datagram in a fresh frame and send it; 0 or a positive errno. */
static int send_datagram(struct engine *e, struct udp_sock *u, const uint8_t *region,
                         const struct outgoing *o, uint64_t now_us)
{
    const struct stream *tx = &u->s.tx;
    struct pktbuf *p = pktq_get(&e->txq);
    uint8_t ttl = net_is_multicast(&o->dst) ? TTL_MULTICAST : sock_ttl(e, &u->s);

    ENG_ASSERT(p); /* The caller made sure of room. */
    udp_put(p->data, u->s.lport, o->port, o->len);
    p->len = UDP_HDR_BYTES;
    if (UDP_HDR_BYTES + o->len <= PKT_LINEAR_MAX - PKT_HEADROOM) {
        sg_bytes_get(region, tx->log2, o->pos, p->data + p->len, o->len);
        p->len += o->len;
    } else { /* Copied from the ring into fragments by net_output(). */
        uint32_t size = 1u << tx->log2;
        uint32_t at = (uint32_t)o->pos & (size - 1);
        uint32_t first = o->len < size - at ? o->len : size - at;

        p->frag[p->frag_count++] = (struct pkt_frag){region + at, first};
        if (o->len > first)
            p->frag[p->frag_count++] = (struct pkt_frag){region, o->len - first};
    }
    net_checksum(e, p, &o->src, &o->dst, IP_PROTO_UDP, UDP_CSUM_OFFSET,
                 net_frame_count(e, &o->dst, UDP_HDR_BYTES + o->len) > 1);
    return -net_output(e, p, &o->src, &o->dst, IP_PROTO_UDP, sock_tos(&u->s), ttl, false, now_us);
}

enum sent { SENT_ONE, SENT_WAIT, SENT_FAULT };

static enum sent send_next(struct engine *e, struct udp_sock *u, uint64_t now_us)
{
    struct sock *s = &u->s;
    const uint8_t *region = session_region(sock_session(e, s->heap_sid), s->tx.region);
    struct sg_dgram_hdr h;
    struct outgoing o;
    int error;

    if (!read_record(e, u, region, &h, &o)) {
        s->tx.head = s->tx.tail;
        return SENT_FAULT;
    }
    error = choose_route(e, u, &h, &o);
    if (!error) {
        uint32_t frames = net_frame_count(e, &o.dst, UDP_HDR_BYTES + o.len);

        if (frames > e->txq.count - reserve(&e->txq))
            error = EMSGSIZE; /* The frame queue is configured too small for it. */
        else if (frames + reserve(&e->txq) > pktq_room(&e->txq))
            return SENT_WAIT;
        else
            error = send_datagram(e, u, region, &o, now_us);
    }
    s->tx.head += o.bytes;
    sock_dirty_bits(e, s, DIRTY_LINE | DIRTY_TX);
    if (error) {
        stat_inc(&e->stats, ST_UDP_SNDBUF_ERRORS);
        if (error != ENOBUFS) /* No room on the way out is a lost datagram, counted, as any other. */
            soft_error(e, u, error);
    } else {
        stat_inc(&e->stats, ST_UDP_OUT_DATAGRAMS);
    }
    return SENT_ONE;
}

void udp_output(struct engine *e, uint64_t now_us)
{
    struct udp_table *t = &e->udp;
    uint32_t budget = UDP_OUTPUT_BURST;

    while (t->tx_head != NIL && budget) {
        struct udp_sock *u = &t->socks[t->tx_head];
        enum sent sent = SENT_ONE;

        for (uint32_t n = 0; n < UDP_SOCK_BURST && budget && u->s.tx.head != u->s.tx.tail; n++) {
            sent = send_next(e, u, now_us);
            if (sent != SENT_ONE)
                break;
            budget--;
        }
        if (sent == SENT_WAIT)
            return; /* It keeps its turn. */
        tx_list_del(t, u);
        if (u->s.tx.head != u->s.tx.tail)
            tx_list_add(t, u); /* Behind the others. */
    }
}

/* ---- In
 * ------------------------------------------------------------------------------------------------------ */

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
    if (is_connected(u))
        return ip_addr_eq(&s->remote, remote) && s->rport == rport ? 3 : 0;
    return ip_addr_any(&s->local) ? 1 : 2;
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
    return best;
}

/* Append a datagram to the receive ring; false: no room. */
static bool store(struct engine *e, struct udp_sock *u, const struct rx_pkt *rp, const struct udp_dgram *d)
{
    struct sock *s = &u->s;
    struct stream *rx = &s->rx;
    uint64_t need = sg_dgram_ring_bytes(d->len);
    struct ip_addr from = net_to_api(&rp->src, s->family);
    struct sg_dgram_hdr h = {.len = d->len, .family = from.family, .port = d->sport, .scope = from.scope};
    uint8_t *region;

    if (s->pub_flags & SG_F_RX_FIN || d->len > SG_DGRAM_BYTES_MAX)
        return false;
    sock_pull_rx(e, s);
    if (!rx->region && !sock_region_get(e, s, rx))
        return false;
    if (rx->head == rx->tail)
        rx->base = rx->tail; /* Empty: start again where the cache is warm. */
    if (need > (UINT64_C(1) << rx->log2) - (rx->tail - rx->head))
        return false;
    memcpy(h.addr, from.ip, sizeof(h.addr));
    region = session_region(sock_session(e, s->heap_sid), rx->region);
    sg_bytes_put(region, rx->log2, rx->tail - rx->base, &h, sizeof(h));
    sg_bytes_put(region, rx->log2, rx->tail - rx->base + sizeof(h), d->data, d->len);
    rx->tail += need;
    return true;
}

static void take(struct engine *e, struct udp_sock *u, const struct rx_pkt *rp, const struct udp_dgram *d)
{
    if (!store(e, u, rp, d)) {
        u->rx_drops++;
        stat_inc(&e->stats, ST_UDP_RCVBUF_ERRORS);
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

void udp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct udp_table *t = &e->udp;
    struct udp_dgram d;
    struct udp_sock *u;
    bool taken = false;

    if (!udp_parse(rp->l4, rp->l4_len, &d) || !checksum_ok(rp, &d)) {
        stat_inc(&e->stats, ST_UDP_IN_ERRORS);
        return;
    }
    if (!rp->broadcast) {
        u = find(e, &rp->dst, d.dport, &rp->src, d.sport);
        if (u) {
            take(e, u, rp, &d);
            return;
        }
    } else {
        for (uint32_t i = t->bucket[d.dport & t->mask]; i != NIL; i = t->socks[i].hash_next) {
            u = &t->socks[i];
            if (match(u, &rp->dst, d.dport, &rp->src, d.sport)) {
                take(e, u, rp, &d);
                taken = true;
            }
        }
    }
    if (!taken) {
        stat_inc(&e->stats, ST_UDP_NO_PORTS);
        icmp_send_error(e, rp, ICMP_ERR_PORT_UNREACH, now_us);
    }
}

void udp_icmp(struct engine *e, const struct icmp_report *r, uint64_t now_us)
{
    struct udp_sock *u = find(e, &r->local, r->lport, &r->remote, r->rport);

    e->now_us = now_us;
    if (!u) {
        stat_inc(&e->stats, ST_ICMP_ERR_UNMATCHED);
        return;
    }
    if (r->error == EMSGSIZE) { /* The next ones go in fragments that fit (RFC 8200 5, RFC 1191 6.1). */
        (void)pmtu_too_big(e, &r->remote, r->mtu, r->quoted);
        return;
    }
    /* A socket without a peer could not tell whom the error is about. */
    if (is_connected(u))
        soft_error(e, u, r->error);
}

const char *udp_check(const struct engine *e)
{
    const struct udp_table *t = &e->udp;
    uint32_t used = 0, hashed = 0, bound = 0, listed = 0, queued = 0;

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
    if (hashed != bound)
        return "UDP port table is inconsistent";
    if (listed != queued)
        return "UDP send list is inconsistent";
    return NULL;
}

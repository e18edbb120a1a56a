/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/dhcp.h"
#include "daemon/engine/wire/udp.h"

#include <stdio.h>

#define KEY_DHCP   UINT64_C(0x64686370)

#define US         UINT64_C(1000000)
#define INFINITE_S UINT32_MAX /* RFC 2131 3.3 */

static uint64_t draw(struct engine *e)
{
    uint64_t w[2] = {e->now_us, e->dhcp.draws++};

    return sip_words(&e->dhcp.key, w, ARRAY_LEN(w), 2, 4);
}

static const struct engine_if *interface(const struct engine *e)
{
    return &e->net.t.ifs[e->cfg.dhcp_if].c;
}

/* ---- Messages out ------------------------------------------------------------------------------- */

static uint8_t *put_word(uint8_t *p, uint8_t option, uint32_t value)
{
    p[0] = option;
    p[1] = 4;
    put_be32(p + 2, value);
    return p + 6;
}

/* Write a message of the client to `p`, DHCP_BYTES_MIN long. */
static void put_message(const struct engine *e, uint8_t *p, enum dhcp_type type)
{
    static const uint8_t wanted[] = {DHCP_O_MASK, DHCP_O_ROUTER, DHCP_O_MTU, DHCP_O_T1, DHCP_O_T2};
    const struct dhcp_client *c = &e->dhcp;
    bool has_address = c->state >= DHCP_BOUND;
    uint64_t secs = (e->now_us - c->begun_us) / US;
    uint8_t *at = p + DHCP_FIXED_BYTES;

    memset(p, 0, DHCP_BYTES_MIN);
    p[0] = 1; /* a request, on Ethernet */
    p[1] = 1;
    p[2] = ETH_ADDR_BYTES;
    put_be32(p + 4, c->xid);
    put_be16(p + 8, (uint16_t)(secs > UINT16_MAX ? UINT16_MAX : secs));
    if (!has_address) /* RFC 2131 4.1: nothing addressed to us would arrive yet. */
        put_be16(p + 10, DHCP_BROADCAST);
    else
        put_be32(p + 12, c->lease.addr);
    memcpy(p + 28, interface(e)->mac, ETH_ADDR_BYTES);
    put_be32(p + 236, DHCP_MAGIC);
    *at++ = DHCP_O_TYPE;
    *at++ = 1;
    *at++ = (uint8_t)type;
    if (type == DHCP_DECLINE || (type == DHCP_REQUEST && !has_address)) { /* RFC 2131 4.3.2, table 5 */
        at = put_word(at, DHCP_O_REQUESTED, c->lease.addr);
        at = put_word(at, DHCP_O_SERVER, c->lease.server);
    }
    if (type != DHCP_DECLINE) {
        *at++ = DHCP_O_PARAMETERS;
        *at++ = sizeof(wanted);
        memcpy(at, wanted, sizeof(wanted));
        at += sizeof(wanted);
    }
    *at = DHCP_O_END;
}

/* From nobody to everybody: net_output() would ask for an address first. */
static void send_broadcast(struct engine *e, struct pktbuf *p, const struct ip_addr *src,
                           const struct ip_addr *dst)
{
    struct ip4_pkt ip = {.src = net_addr4(src),
                         .dst = net_addr4(dst),
                         .proto = IP_PROTO_UDP,
                         .ttl = e->cfg.ttl,
                         .len = p->len};
    uint8_t all[ETH_ADDR_BYTES];

    memset(all, 0xff, sizeof(all));
    net_pkt_push(p, IP4_HDR_BYTES);
    ip4_put(p->data, &ip);
    stat_inc(&e->stats, ST_IP_OUT_REQUESTS);
    net_send_frame(e, p, e->cfg.dhcp_if, all, ETH_TYPE_IP4);
}

static void send(struct engine *e, enum dhcp_type type, uint64_t now_us)
{
    const struct dhcp_client *c = &e->dhcp;
    bool unicast = c->state == DHCP_RENEWING;
    struct ip_addr src = net_ip_addr(c->state >= DHCP_BOUND ? c->lease.addr : 0);
    struct ip_addr dst = net_ip_addr(unicast ? c->lease.server : UINT32_MAX);
    struct pktbuf *p = pktq_get(&e->txq);

    if (!p) { /* It is sent again in time. */
        stat_inc(&e->stats, ST_DROP_TX_FULL);
        return;
    }
    udp_put(p->data, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DHCP_BYTES_MIN);
    put_message(e, p->data + UDP_HDR_BYTES, type);
    p->len = UDP_HDR_BYTES + DHCP_BYTES_MIN;
    net_pkt_checksum(p, csum_pseudo4(src.ip, dst.ip, IP_PROTO_UDP, p->len), IP_PROTO_UDP, UDP_CSUM_OFFSET);
    stat_inc(&e->stats, ST_DHCP_OUT);
    if (unicast)
        (void)net_output(e, p, &src, &dst, IP_PROTO_UDP, 0, e->cfg.ttl, 0, now_us);
    else
        send_broadcast(e, p, &src, &dst);
}

/* ---- States --------------------------------------------------------------------------------------- */

static void enter(struct engine *e, enum dhcp_state state, uint64_t at_us)
{
    e->dhcp.state = state;
    e->dhcp.tries = 0;
    e->dhcp.at_us = at_us;
}

/* RFC 2131 4.1: doubled from 4 s, and up to a second more or less. */
static uint64_t backoff(struct engine *e)
{
    uint64_t us = DHCP_RETRY_MIN_US << (e->dhcp.tries < 5 ? e->dhcp.tries - 1 : 4);

    return (us < DHCP_RETRY_MAX_US ? us : DHCP_RETRY_MAX_US) - US + draw(e) % (2 * US);
}

static void address_text(uint32_t a, char *ret, size_t bytes)
{
    (void)snprintf(ret, bytes, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

static void notice(struct engine *e, const char *what, const struct dhcp_lease *l)
{
    char addr[16], server[16];

    if (e->notice[0])
        return;
    address_text(l->addr, addr, sizeof(addr));
    address_text(l->server, server, sizeof(server));
    (void)snprintf(e->notice, sizeof(e->notice), "DHCP: %s %s/%u (server %s)", what, addr, l->prefix, server);
}

static void route(struct engine *e, const struct dhcp_lease *l)
{
    struct engine_route r = {
        .dst = {.family = SG_AF_INET}, .gateway = net_ip_addr(l->router), .ifindex = e->cfg.dhcp_if};

    if (l->router && !netif_route_add(&e->net.t, &r, true, UINT64_MAX))
        stat_inc(&e->stats, ST_DHCP_IN_BAD); /* No neighbour of ours, or no room. */
}

/* The link's MTU: never above the device's, nor below what the IP versions need (RFC 1122 3.3.2, RFC 8200 5).
 */
static void mtu_set(struct engine *e, uint16_t mtu)
{
    struct engine_if *i = &e->net.t.ifs[e->cfg.dhcp_if].c;
    uint16_t most = e->cfg.ifs[e->cfg.dhcp_if].mtu, least = i->ip6 ? ENGINE_MTU6_MIN : ENGINE_MTU_MIN;

    i->mtu = !mtu || mtu > most ? most : mtu < least ? least : mtu;
    netif_mtu6(&e->net.t.ifs[e->cfg.dhcp_if]);
    e->pmtu.changes++; /* Connections look at their segment size again. */
    e->net.t.gen++;
}

static void address_add(struct engine *e, const struct dhcp_lease *l)
{
    struct engine_addr a = {.addr = net_ip_addr(l->addr), .prefix = l->prefix, .ifindex = e->cfg.dhcp_if};
    struct net_addr *own = netif_addr_add(&e->net.t, &a, ADDR_PREFERRED);

    if (!own)
        return;
    mtu_set(e, l->mtu);
    route(e, l);
    arp_announce(e, own);
    notice(e, "leased", l);
}

static void address_del(struct engine *e)
{
    struct ip_addr addr = net_ip_addr(e->dhcp.lease.addr);
    struct net_addr *own = netif_addr_find(&e->net.t, &addr);

    if (!own)
        return;
    notice(e, "lost", &e->dhcp.lease);
    for (uint32_t i = 0; i < e->net.t.route_count;) {
        struct net_route *r = &e->net.t.routes[i];

        if (r->learnt && r->gateway.family == SG_AF_INET)
            netif_route_del(&e->net.t, r);
        else
            i++;
    }
    netif_addr_del(&e->net.t, own);
    mtu_set(e, 0);
    stat_inc(&e->stats, ST_DHCP_LOST);
}

static void restart(struct engine *e, uint64_t at_us)
{
    if (e->dhcp.state >= DHCP_BOUND)
        address_del(e);
    e->dhcp.lease = (struct dhcp_lease){0};
    enter(e, DHCP_INIT, at_us);
}

/* ---- Answers ---------------------------------------------------------------------------------------- */

/* A mask's length; 0: it isn't one. Without a mask the address's class says it (RFC 950 2.1). */
static uint8_t prefix_of(uint32_t mask, uint32_t addr)
{
    if (!mask)
        return addr >> 31 == 0 ? 8 : addr >> 30 == 2 ? 16 : 24;
    return ~mask & (~mask + 1) ? 0 : (uint8_t)__builtin_popcount(mask);
}

/* Could a host have this address, in a network of this length? */
static bool host_ok(uint32_t addr, uint8_t prefix)
{
    uint32_t host = prefix < 32 ? UINT32_MAX >> prefix : 0;
    uint8_t top = addr >> 24;

    if (!prefix || top == 0 || top == 127 || top >= 224)
        return false;
    return prefix > 30 || ((addr & host) != 0 && (addr & host) != host);
}

static uint64_t after(uint64_t now_us, uint64_t seconds)
{
    return seconds == INFINITE_S ? UINT64_MAX : now_us + seconds * US;
}

/* RFC 2131 4.4.5: T1 < T2 < lease; what doesn't fit is replaced by the defaults of 1/2 and 7/8. */
static void lease_times(struct dhcp_lease *l, const struct dhcp_msg *m, uint64_t now_us)
{
    uint64_t lease_s = m->lease_s < DHCP_LEASE_MIN_S ? DHCP_LEASE_MIN_S : m->lease_s;
    uint64_t t1_s = m->t1_s, t2_s = m->t2_s;

    if (!t1_s || !t2_s || t1_s >= t2_s || t2_s >= lease_s) {
        t1_s = lease_s / 2;
        t2_s = lease_s * 7 / 8;
    }
    l->expires_us = after(now_us, lease_s);
    l->t1_us = lease_s == INFINITE_S ? UINT64_MAX : after(now_us, t1_s);
    l->t2_us = lease_s == INFINITE_S ? UINT64_MAX : after(now_us, t2_s);
}

/* What a message offers or grants; false: it is not to be had. */
static bool lease_read(const struct dhcp_msg *m, struct dhcp_lease *ret, uint64_t now_us)
{
    uint8_t prefix = prefix_of(m->mask, m->yiaddr);
    uint32_t net = prefix ? UINT32_MAX << (32 - prefix) : 0;

    if (!host_ok(m->yiaddr, prefix) || !m->server || !m->lease_s)
        return false;
    *ret = (struct dhcp_lease){.addr = m->yiaddr, .server = m->server, .prefix = prefix, .mtu = m->mtu};
    if (m->router != m->yiaddr && !((m->router ^ m->yiaddr) & net) && host_ok(m->router, prefix))
        ret->router = m->router;
    lease_times(ret, m, now_us);
    return true;
}

static bool offer(struct engine *e, const struct dhcp_msg *m, uint64_t now_us)
{
    struct dhcp_client *c = &e->dhcp;

    if (!lease_read(m, &c->lease, now_us))
        return false;
    enter(e, DHCP_REQUESTING, now_us);
    return true;
}

static bool ack(struct engine *e, const struct dhcp_msg *m, uint64_t now_us)
{
    struct dhcp_client *c = &e->dhcp;
    struct dhcp_lease l;

    if (!lease_read(m, &l, now_us) || l.addr != c->lease.addr ||
        (c->state != DHCP_REBINDING && l.server != c->lease.server))
        return false;
    c->lease = l;
    if (c->state == DHCP_REQUESTING) {
        enter(e, DHCP_PROBING, now_us);
        return true;
    }
    enter(e, DHCP_BOUND, l.t1_us); /* Renewed: the address stays as it is. */
    return true;
}

static bool message(struct engine *e, const struct dhcp_msg *m, uint64_t now_us)
{
    struct dhcp_client *c = &e->dhcp;
    bool asked = c->state == DHCP_REQUESTING || c->state == DHCP_RENEWING || c->state == DHCP_REBINDING;

    if (m->xid != c->xid || !eth_eq(m->chaddr, interface(e)->mac))
        return false;
    if (m->type == DHCP_OFFER && c->state == DHCP_SELECTING)
        return offer(e, m, now_us);
    if (m->type == DHCP_ACK && asked)
        return ack(e, m, now_us);
    if (m->type == DHCP_NAK && asked && (c->state == DHCP_REBINDING || m->server == c->lease.server)) {
        restart(e, now_us);
        return true;
    }
    return false;
}

bool dhcp_input(struct engine *e, const struct rx_pkt *rp, const struct udp_dgram *d, uint64_t now_us)
{
    struct dhcp_msg m;

    if (e->dhcp.state == DHCP_OFF || rp->ifindex != e->cfg.dhcp_if || d->sport != DHCP_SERVER_PORT ||
        rp->src.family != SG_AF_INET)
        return false;
    if (!dhcp_parse(d->data, d->len, &m) || !message(e, &m, now_us))
        stat_inc(&e->stats, ST_DHCP_IN_BAD);
    else
        stat_inc(&e->stats, ST_DHCP_IN);
    return true;
}

void dhcp_conflict(struct engine *e, uint32_t addr4, const uint8_t *mac, uint64_t now_us)
{
    struct dhcp_client *c = &e->dhcp;

    if (c->state != DHCP_PROBING || addr4 != c->lease.addr || eth_eq(mac, interface(e)->mac))
        return;
    stat_inc(&e->stats, ST_DHCP_DECLINED);
    notice(e, "declined, as another host has it:", &c->lease);
    send(e, DHCP_DECLINE, now_us);
    restart(e, now_us + DHCP_RESTART_US);
}

/* ---- Time ------------------------------------------------------------------------------------------- */

static void discover(struct engine *e, uint64_t now_us)
{
    struct dhcp_client *c = &e->dhcp;

    if (c->state == DHCP_INIT) {
        enter(e, DHCP_SELECTING, now_us);
        c->xid = (uint32_t)draw(e);
        c->begun_us = now_us;
    }
    if (c->tries < UINT8_MAX)
        c->tries++;
    send(e, DHCP_DISCOVER, now_us);
    c->at_us = now_us + backoff(e);
}

static void request(struct engine *e, uint64_t now_us)
{
    struct dhcp_client *c = &e->dhcp;

    if (c->tries++ == DHCP_REQUEST_TRIES) {
        restart(e, now_us);
        return;
    }
    send(e, DHCP_REQUEST, now_us);
    c->at_us = now_us + backoff(e);
}

/* RFC 5227 2.1.1, as short as the daemon's own probe at start. */
static void probe(struct engine *e, uint64_t now_us)
{
    struct dhcp_client *c = &e->dhcp;

    if (c->tries++ < DHCP_PROBES) {
        arp_probe(e, c->lease.addr, e->cfg.dhcp_if);
        c->at_us = now_us + DHCP_PROBE_US;
        return;
    }
    enter(e, DHCP_BOUND, c->lease.t1_us);
    address_add(e, &c->lease);
}

/* RFC 2131 4.4.5: again after half of what remains, but not within a minute. */
static void renew(struct engine *e, uint64_t until_us, uint64_t now_us)
{
    uint64_t wait = until_us == UINT64_MAX ? DHCP_RENEW_MIN_US : (until_us - now_us) / 2;

    send(e, DHCP_REQUEST, now_us);
    if (wait < DHCP_RENEW_MIN_US)
        wait = DHCP_RENEW_MIN_US;
    e->dhcp.at_us = wait < until_us - now_us ? now_us + wait : until_us;
}

static void lease_timer(struct engine *e, uint64_t now_us)
{
    struct dhcp_client *c = &e->dhcp;

    if (c->state == DHCP_BOUND) {
        enter(e, DHCP_RENEWING, now_us);
        c->xid = (uint32_t)draw(e);
        c->begun_us = now_us;
    }
    if (now_us >= c->lease.expires_us) {
        restart(e, now_us);
        return;
    }
    if (now_us >= c->lease.t2_us)
        c->state = DHCP_REBINDING;
    renew(e, c->state == DHCP_RENEWING ? c->lease.t2_us : c->lease.expires_us, now_us);
}

void dhcp_link(struct engine *e, uint8_t ifindex, bool came_up, uint64_t now_us)
{
    struct dhcp_client *c = &e->dhcp;

    if (c->state == DHCP_OFF || ifindex != e->cfg.dhcp_if)
        return;
    if (c->state < DHCP_BOUND) {
        if (came_up)
            enter(e, DHCP_INIT, now_us);
        return;
    }
    mtu_set(e, c->lease.mtu);
    if (!came_up)
        return;
    /* RFC 2131 3.7: whoever serves this link is asked whether the lease holds here. */
    enter(e, DHCP_REBINDING, now_us);
    c->xid = (uint32_t)draw(e);
    c->begun_us = now_us;
}

void dhcp_timers(struct engine *e, uint64_t now_us)
{
    if (now_us < e->dhcp.at_us)
        return;
    switch (e->dhcp.state) {
    case DHCP_OFF:
        break;
    case DHCP_INIT:
    case DHCP_SELECTING:
        discover(e, now_us);
        break;
    case DHCP_REQUESTING:
        request(e, now_us);
        break;
    case DHCP_PROBING:
        probe(e, now_us);
        break;
    case DHCP_BOUND:
    case DHCP_RENEWING:
    case DHCP_REBINDING:
        lease_timer(e, now_us);
        break;
    }
}

uint64_t dhcp_deadline(const struct engine *e)
{
    return e->dhcp.at_us;
}

void dhcp_init(struct engine *e, uint64_t now_us)
{
    e->dhcp = (struct dhcp_client){.at_us = UINT64_MAX, .key = net_key(&e->cfg, KEY_DHCP)};
    if (e->cfg.dhcp)
        enter(e, DHCP_INIT, now_us);
}

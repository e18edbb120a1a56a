/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of our addresses: announcements (RFC 5227), detection of duplicates (RFC 4862 5.4), identifiers
 * (RFC 7217), lifetimes (RFC 4862 5.5.4).
 */
#include "daemon/engine/engine_int.h"

#include <stdio.h>

#define KEY_IID    UINT64_C(0x6e65742d696964)
#define IID_PREFIX 64u

/* ---- Saying what happened ------------------------------------------------------------------------- */

static void put_text(const struct ip_addr *a, char *out, size_t bytes)
{
    const uint8_t *ip = a->ip;
    size_t at = 0;

    if (a->family == SG_AF_INET) {
        (void)snprintf(out, bytes, "%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]);
        return;
    }
    for (unsigned i = 0; i < 8; i++)
        at += (size_t)snprintf(out + at, bytes - at, "%s%x", i ? ":" : "", get_be16(ip + 2 * i));
}

static void notice(struct engine *e, const struct ip_addr *a, const char *what, const uint8_t *m)
{
    char text[48];

    if (e->notice[0])
        return;
    put_text(a, text, sizeof(text));
    (void)snprintf(e->notice, sizeof(e->notice), "%s: %s is claimed by %02x:%02x:%02x:%02x:%02x:%02x", what,
                   text, m[0], m[1], m[2], m[3], m[4], m[5]);
}

bool addr_conflict(struct engine *e, struct net_addr *a, const uint8_t *mac, uint64_t now_us)
{
    stat_inc(&e->stats, a->addr.family == SG_AF_INET ? ST_ARP_CONFLICT : ST_ND_CONFLICT);
    if (a->conflict_seen && now_us - a->conflict_us < ARP_DEFEND_INTERVAL_US)
        return false;
    a->conflict_seen = true;
    a->conflict_us = now_us;
    notice(e, &a->addr, "address conflict", mac);
    return true;
}

/* ---- Addresses that we make ------------------------------------------------------------------------ */

struct net_addr *addr_make(struct engine *e, const struct ip_addr *prefix, uint8_t ifindex, uint8_t dad_count)
{
    const struct netif *i = &e->net.t.ifs[ifindex];
    const struct sip_key key = net_stable_key(&e->cfg, KEY_IID);
    struct engine_addr c = {.addr = *prefix, .prefix = IID_PREFIX, .ifindex = ifindex};
    uint64_t w[3] = {0}, id;
    struct net_addr *a;

    /* RFC 7217 5: of the prefix, the interface (hardware address and VLAN) and the conflicts so far. */
    memcpy(&w[0], prefix->ip, 8);
    memcpy(&w[1], i->c.mac, ETH_ADDR_BYTES);
    w[2] = (uint64_t)i->c.vlan << 8 | dad_count;
    id = sip_words(&key, w, ARRAY_LEN(w), 2, 4);
    memcpy(c.addr.ip + 8, &id, 8);
    a = netif_addr_add(&e->net.t, &c, e->cfg.dad_transmits ? ADDR_TENTATIVE : ADDR_PREFERRED);
    if (a) {
        a->made = true;
        a->dad_count = dad_count;
    }
    return a;
}

static bool has_link_local(const struct net_tables *t, uint8_t ifindex)
{
    for (uint32_t i = 0; i < t->addr_count; i++)
        if (t->addrs[i].state != ADDR_FREE && t->addrs[i].addr.scope == ifindex + 1u)
            return true;
    return false;
}

static const struct ip_addr link_local_prefix = {.ip = {0xfe, 0x80}, .family = SG_AF_INET6};

bool addr_init(struct engine *e)
{
    struct net_tables *t = &e->net.t;

    t->next_us = UINT64_MAX;
    for (uint8_t i = 0; i < t->if_count; i++) {
        ra_defaults(e, i, e->now_us);
        if (!t->ifs[i].c.ip6 || has_link_local(t, i))
            continue;
        if (!addr_make(e, &link_local_prefix, i, 0))
            return false;
    }
    return true;
}

/* ---- Detection of duplicates ----------------------------------------------------------------------- */

static void set_timer(struct net_tables *t, struct net_addr *a, uint64_t at_us)
{
    a->announce_us = at_us;
    addr_timer_at(t, at_us);
}

static void take_into_use(struct engine *e, struct net_addr *a, uint64_t now_us)
{
    a->announce_us = UINT64_MAX;
    netif_addr_state(&e->net.t, a, ADDR_PREFERRED);
    if (a->addr.scope)
        ra_start(e, a->ifindex, now_us);
}

void addr_probe(struct engine *e, struct net_addr *a, uint64_t delay_us, uint64_t now_us)
{
    if (a->state == ADDR_PREFERRED) {
        take_into_use(e, a, now_us);
        return;
    }
    a->announce_left = e->cfg.dad_transmits;
    set_timer(&e->net.t, a, now_us + delay_us);
}

void addr_duplicate(struct engine *e, struct net_addr *a, const uint8_t *mac, uint64_t now_us)
{
    struct net_addr old = *a;
    struct net_addr *again;

    stat_inc(&e->stats, ST_ND_DUPLICATE);
    notice(e, &a->addr, "address in use by another host", mac);
    a->announce_us = UINT64_MAX;
    netif_addr_state(&e->net.t, a, ADDR_DUPLICATE);
    /* One that was given stays unused until the operator sees to it; one that we made is made anew. */
    if (!old.made || old.dad_count >= ND_IDGEN_RETRIES)
        return;
    netif_addr_del(&e->net.t, a);
    again = addr_make(e, &old.addr, old.ifindex, old.dad_count + 1);
    if (!again)
        return;
    again->learnt = old.learnt;
    again->preferred_until_us = old.preferred_until_us;
    again->valid_until_us = old.valid_until_us;
    addr_probe(e, again, 0, now_us);
}

/* ---- Timers ----------------------------------------------------------------------------------------- */

/* RFC 4862 5.4.2 and RFC 4861 6.3.7: not all hosts at once after a power failure. */
static uint64_t start_delay(const struct engine *e, const struct net_addr *a)
{
    const struct sip_key key = net_key(&e->cfg, KEY_IID + 1);
    uint64_t w[2];

    memcpy(w, a->addr.ip, sizeof(w));
    return sip_words(&key, w, ARRAY_LEN(w), 2, 4) % ND_START_DELAY_US;
}

static void begin(struct engine *e, struct net_addr *a, uint64_t now_us)
{
    if (a->addr.family == SG_AF_INET6) {
        addr_probe(e, a, start_delay(e, a), now_us);
        return;
    }
    arp_announce(e, a);
    a->announce_left = ARP_ANNOUNCE_COUNT - 1;
    set_timer(&e->net.t, a, now_us + ARP_ANNOUNCE_INTERVAL_US);
}

void addr_start(struct engine *e, uint64_t now_us)
{
    struct net_tables *t = &e->net.t;

    for (uint32_t i = 0; i < t->addr_count; i++)
        if (t->addrs[i].state != ADDR_FREE)
            begin(e, &t->addrs[i], now_us);
}

/* RFC 4862 5.4: it may be another link than before, where somebody else has the address. */
void addr_link_up(struct engine *e, uint8_t ifindex, uint64_t now_us)
{
    struct net_tables *t = &e->net.t;

    ra_defaults(e, ifindex, now_us);
    for (uint32_t i = 0; i < t->addr_count; i++) {
        struct net_addr *a = &t->addrs[i];

        if (a->state == ADDR_FREE || a->ifindex != ifindex)
            continue;
        if (a->addr.family == SG_AF_INET6 && e->cfg.dad_transmits)
            netif_addr_state(t, a, ADDR_TENTATIVE);
        begin(e, a, now_us);
    }
}

static void step(struct engine *e, struct net_addr *a, uint64_t now_us)
{
    bool is6 = a->addr.family == SG_AF_INET6;

    if (!a->announce_left) {
        if (is6 && a->state == ADDR_TENTATIVE)
            take_into_use(e, a, now_us);
        a->announce_us = UINT64_MAX;
        return;
    }
    a->announce_left--;
    a->announce_us = now_us + (is6 ? e->net.t.ifs[a->ifindex].retrans_us : ARP_ANNOUNCE_INTERVAL_US);
    if (is6)
        nd_probe(e, a, now_us);
    else
        arp_announce(e, a);
}

/* RFC 4862 5.5.4 */
static void age(struct engine *e, struct net_addr *a, uint64_t now_us)
{
    if (now_us >= a->valid_until_us)
        netif_addr_del(&e->net.t, a);
    else if (now_us >= a->preferred_until_us && a->state == ADDR_PREFERRED)
        netif_addr_state(&e->net.t, a, ADDR_DEPRECATED);
}

static uint64_t due_us(const struct net_addr *a)
{
    uint64_t at = a->announce_us && a->announce_us < a->valid_until_us ? a->announce_us : a->valid_until_us;

    return a->state == ADDR_PREFERRED && a->preferred_until_us < at ? a->preferred_until_us : at;
}

void addr_timers(struct engine *e, uint64_t now_us)
{
    struct net_tables *t = &e->net.t;

    if (now_us < t->next_us)
        return;
    t->next_us = UINT64_MAX;
    if (!engine_leads(e)) /* It is told. */
        return;
    for (uint32_t i = 0; i < t->addr_count; i++) {
        struct net_addr *a = &t->addrs[i];

        if (a->state != ADDR_FREE && a->announce_us && now_us >= a->announce_us)
            step(e, a, now_us);
        if (a->state != ADDR_FREE)
            age(e, a, now_us);
        if (a->state != ADDR_FREE)
            addr_timer_at(t, due_us(a));
    }
    ra_timers(e, now_us);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link's own protocols and the life of our addresses.
 *
 *   arp.c   ARP (RFC 826, RFC 5227): who has an IPv4 address, and defending ours
 *   nd.c    neighbour discovery (RFC 4861): the same for IPv6
 *   ra.c    router advertisements: default routers, prefixes, addresses made from them (RFC 4862), optional
 *   addr.c  announcements, detection of duplicates (RFC 4862 5.4), lifetimes
 */
#ifndef ENGINE_ND_H
#define ENGINE_ND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"

#define ARP_ANNOUNCE_COUNT       2u                 /* RFC 5227 1.1, ANNOUNCE_NUM */
#define ARP_ANNOUNCE_INTERVAL_US UINT64_C(2000000)  /* ANNOUNCE_INTERVAL */
#define ARP_DEFEND_INTERVAL_US   UINT64_C(10000000) /* DEFEND_INTERVAL */

#define ND_RETRANS_MS            1000u             /* RFC 4861 10, RETRANS_TIMER */
#define ND_START_DELAY_US        UINT64_C(1000000) /* MAX_RTR_SOLICITATION_DELAY */
#define ND_OPTS_MAX              32u               /* options looked at in a message */
#define ND_IDGEN_RETRIES         3u                /* RFC 7217 7: other addresses tried after duplicates */

/* Bounds of what routers may say, and of the defaults: whoever is on the link can pretend to be one. */
#define RA_HOPS_MIN              32u      /* a smaller hop limit would cut us off (RFC 4861 6.2.1 has 64) */
#define RA_REACHABLE_MS          30000u   /* RFC 4861 10, REACHABLE_TIME */
#define RA_REACHABLE_MIN_MS      1000u    /* else neighbours would be asked all the time */
#define RA_REACHABLE_MAX_MS      3600000u /* RFC 4861 6.2.1 */
#define RA_REACHABLE_DRAW_US     UINT64_C(7200000000) /* RFC 4861 6.3.4: "every few hours" */
#define RA_RETRANS_MIN_MS        200u
#define RA_RETRANS_MAX_MS        10000u   /* else a neighbour would never be found missing */

#define RA_SOLICITS              3u                /* RFC 4861 10, MAX_RTR_SOLICITATIONS */
#define RA_SOLICIT_INTERVAL_US   UINT64_C(4000000) /* RTR_SOLICITATION_INTERVAL */
#define RA_ADDRS_MAX             8u                /* addresses made from advertisements, all interfaces */
#define RA_ROUTES_MAX            16u               /* routers and prefixes learnt, all interfaces */

struct neigh;
struct net_addr;
struct rx_pkt;

/* arp.c */
/** An ARP packet: `p` is what follows the Ethernet header. */
void arp_input(struct engine *e, const uint8_t *p, uint32_t bytes, uint8_t ifindex, uint64_t now_us);
void arp_ask(struct engine *e, const struct neigh *n);
void arp_announce(struct engine *e, const struct net_addr *a);
/** Ask whether anybody has `addr4`, without an address of our own (RFC 5227 2.1.1). */
void arp_probe(struct engine *e, uint32_t addr4, uint8_t ifindex);

/* nd.c */
/** Options that a message may carry; NULL: not there. */
struct nd_opts {
    const uint8_t *source_mac, *target_mac, *nonce;
    uint32_t mtu; /* 0: not there */
};
/** False: an option of length 0 or beyond the end (RFC 4861 4.6: the message is dropped). */
bool nd_opts_parse(const uint8_t *p, uint32_t bytes, struct nd_opts *ret);
/** A discovery message whose checksum is good. */
void nd_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);
void nd_ask(struct engine *e, const struct neigh *n, uint64_t now_us);
/** Ask whether somebody else has the tentative address `a` (RFC 4862 5.4.2). */
void nd_probe(struct engine *e, const struct net_addr *a, uint64_t now_us);
/** Note who sent a message, if it says. */
void nd_learn_source(struct engine *e, const struct rx_pkt *rp, const uint8_t *mac, bool create,
                     uint64_t now_us);

/* ra.c */
void ra_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);
void ra_timers(struct engine *e, uint64_t now_us);
/** What routers said of the link of an interface is forgotten: the defaults hold. */
void ra_defaults(struct engine *e, uint8_t ifindex, uint64_t now_us);
/** Begin to ask for routers on an interface that has a link-local address now. */
void ra_start(struct engine *e, uint8_t ifindex, uint64_t now_us);

/* addr.c */
/** Give every interface with IPv6 its link-local address. False: no room. */
bool addr_init(struct engine *e);
/** Announce IPv4 addresses, begin to probe for IPv6 ones. */
void addr_start(struct engine *e, uint64_t now_us);
void addr_timers(struct engine *e, uint64_t now_us);
static inline void addr_timer_at(struct net_tables *t, uint64_t at_us)
{
    if (at_us < t->next_us)
        t->next_us = at_us;
}
/** The link of an interface came up: announce and probe for its addresses as at the start. */
void addr_link_up(struct engine *e, uint8_t ifindex, uint64_t now_us);
/** An address made from a prefix of 64 bits and a stable, opaque identifier (RFC 7217). NULL: no room. */
struct net_addr *addr_make(struct engine *e, const struct ip_addr *prefix, uint8_t ifindex,
                           uint8_t dad_count);
/** Probe for a tentative address, or take it into use where probing is off. */
void addr_probe(struct engine *e, struct net_addr *a, uint64_t delay_us, uint64_t now_us);
/** Somebody else has the address `a`, which is being probed for. */
void addr_duplicate(struct engine *e, struct net_addr *a, const uint8_t *mac, uint64_t now_us);
/** Somebody else uses our address: say so, not too often. True: it may be defended now. */
bool addr_conflict(struct engine *e, struct net_addr *a, const uint8_t *mac, uint64_t now_us);

#endif

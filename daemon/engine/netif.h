/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interfaces, their addresses, and routes: where packets come in, and which way they leave.
 *
 * An interface is a device, or one VLAN of a device. Addresses and routes of all interfaces lie in two short
 * tables that are searched from start to end; what a search found for a destination is remembered in a small
 * cache (RFC 4861's destination cache), so that a packet of a running flow costs one comparison. Any change
 * to addresses or routes empties the cache by moving `gen` on.
 *
 * An address that is link-local in IPv6 is only complete with its interface: ip_addr.scope holds the index
 * plus 1, and ip_addr_eq() compares it. In a multicast or broadcast destination a scope names the interface
 * to send on; 0 leaves that to the routes. Scratch memory.
 */
#ifndef ENGINE_NETIF_H
#define ENGINE_NETIF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"

#define NET_ADDR_MAX  32u  /* addresses of all interfaces, learnt ones included */
#define NET_ROUTE_MAX 128u /* routes, connected networks and learnt ones included */
#define NET_DST_CACHE 64u  /* power of two */

/** RFC 4862 2: the states of an address. IPv4 addresses are PREFERRED: the daemon probed before. */
enum addr_state { ADDR_FREE = 0, ADDR_TENTATIVE, ADDR_PREFERRED, ADDR_DEPRECATED, ADDR_DUPLICATE };

struct net_addr {
    struct ip_addr addr;
    uint8_t prefix;
    uint8_t ifindex;
    uint8_t state;         /* enum addr_state */
    bool made;             /* by ourselves, so that another can take its place: link-local, SLAAC */
    bool learnt;           /* by SLAAC */
    uint8_t announce_left; /* IPv4: announcements; IPv6: solicitations of DAD */
    uint8_t dad_count;     /* RFC 7217: conflicts so far */
    bool conflict_seen;
    uint64_t announce_us;                        /* next of them */
    uint64_t conflict_us;                        /* last defence */
    uint64_t preferred_until_us, valid_until_us; /* learnt; UINT64_MAX: for ever */
};

struct net_route {
    struct ip_addr dst;
    struct ip_addr gateway; /* family 0: on the link */
    uint8_t prefix;
    uint8_t ifindex;
    bool learnt;
    uint64_t valid_until_us; /* UINT64_MAX: for ever */
};

struct netif {
    struct engine_if c;
    bool up, up6;    /* the link carries packets; IPv6's too */
    uint16_t mtu6;   /* IPv6's */
    uint16_t ra_mtu; /* what a router says of that, 0: nothing; never above c.mtu */
    /* RFC 4861 6.3.2, as routers say (ra.c). */
    uint8_t hops;            /* hop limit of unicast packets; 0: the engine's default */
    uint32_t reach_base_ms;  /* BaseReachableTime */
    uint64_t reach_us;       /* ReachableTime, drawn from it */
    uint64_t reach_drawn_us; /* when */
    uint32_t retrans_us;     /* RetransTimer */
    uint8_t rs_left; /* router solicitations still to be sent */
    uint64_t rs_us;  /* when; 0: none */
};

/** What an address is to us, and how packets to it leave. */
enum dst_kind { DST_NONE = 0, DST_OWN, DST_UNICAST, DST_BROADCAST, DST_MULTICAST };

struct net_dst {
    struct ip_addr addr;
    uint32_t gen; /* of the tables that this was found in */
    uint8_t kind; /* enum dst_kind; DST_NONE: no way there */
    uint8_t ifindex;
    bool has_src;
    uint16_t mtu;       /* largest IP packet of the interface, for the family */
    struct ip_addr hop; /* DST_UNICAST: the neighbour that takes them */
    struct ip_addr src; /* own address to use, with has_src */
};

struct net_tables {
    struct netif ifs[ENGINE_IF_MAX];
    struct net_addr addrs[NET_ADDR_MAX];
    struct net_route routes[NET_ROUTE_MAX];
    struct net_dst *cache; /* NET_DST_CACHE */
    uint32_t if_count, addr_count, route_count;
    uint32_t gen;
    uint64_t next_us; /* no timer of an address, a route or an interface is due before (addr.c) */
};

size_t netif_bytes(void);
/** False: the configuration does not fit together. */
bool netif_init(struct net_tables *t, void *mem, const struct engine_config *cfg);

/** The interface for frames of device `dev` with VLAN id `vlan` (0: none); NULL: none. */
const struct netif *netif_find(const struct net_tables *t, uint8_t dev, uint16_t vlan);

static inline uint8_t netif_index(const struct net_tables *t, const struct netif *i)
{
    return (uint8_t)(i - t->ifs);
}

/** Packets of a family can leave over the interface and come in. */
static inline bool netif_is_up(const struct netif *i, uint16_t family)
{
    return family == SG_AF_INET6 ? i->up6 : i->up;
}
/** Work out mtu6 again: ra_mtu or c.mtu changed. */
void netif_mtu6(struct netif *i);

/** What is known about `addr`; never NULL. Valid until the next call. */
const struct net_dst *netif_lookup(const struct net_tables *t, const struct ip_addr *addr);

/** The table entry of an own address, whatever its state; NULL: not ours. */
struct net_addr *netif_addr_find(struct net_tables *t, const struct ip_addr *addr);
/** Own address usable as a source and destination now. */
static inline bool netif_addr_usable(const struct net_addr *a)
{
    return a->state == ADDR_PREFERRED || a->state == ADDR_DEPRECATED;
}
/** Add an address and the route to its network. NULL: the table is full, or it is there already. */
struct net_addr *netif_addr_add(struct net_tables *t, const struct engine_addr *c, enum addr_state state);
void netif_addr_del(struct net_tables *t, struct net_addr *a);
void netif_addr_state(struct net_tables *t, struct net_addr *a, enum addr_state state);

/** Add a route, or bring it up to date. False: no room, or the gateway is nobody's neighbour. */
bool netif_route_add(struct net_tables *t, const struct engine_route *c, bool learnt,
                     uint64_t valid_until_us);
void netif_route_del(struct net_tables *t, struct net_route *r);
bool netif_is_gateway(const struct net_tables *t, const struct ip_addr *addr);

/** The first `bits` bits of two addresses of one family are equal. */
bool net_prefix_eq(const struct ip_addr *a, const struct ip_addr *b, unsigned bits);

/** Own link-local address of an interface; NULL: none usable. */
const struct ip_addr *netif_link_local(const struct net_tables *t, uint8_t ifindex);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DHCPv4 client (RFC 2131) for the first interface, when engine_config.dhcp says so.
 *
 * One lease at a time. An address that was leased is probed by ARP before it is used, and declined when
 * somebody has it. When a lease ends the address goes, and all starts again; sockets bound to it stay, as in
 * Linux: what they send has no route, and their connections time out unless the address comes back.
 */
#ifndef ENGINE_DHCP_H
#define ENGINE_DHCP_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/siphash.h"

#define DHCP_RETRY_MIN_US  UINT64_C(4000000) /* RFC 2131 4.1: 4, 8, 16, 32, 64 s, each +- 1 s */
#define DHCP_RETRY_MAX_US  UINT64_C(64000000)
#define DHCP_REQUEST_TRIES 4u                 /* then the search starts again */
#define DHCP_RENEW_MIN_US  UINT64_C(60000000) /* RFC 2131 4.4.5 */
#define DHCP_RESTART_US    UINT64_C(10000000) /* RFC 2131 3.1 (5): after a decline */
#define DHCP_PROBES        3u
#define DHCP_PROBE_US      UINT64_C(200000)
#define DHCP_LEASE_MIN_S   60u /* shorter ones are taken as so long: no server may keep us busy */

enum dhcp_state {
    DHCP_OFF = 0,
    DHCP_INIT,
    DHCP_SELECTING,
    DHCP_REQUESTING,
    DHCP_PROBING,
    DHCP_BOUND,
    DHCP_RENEWING,
    DHCP_REBINDING,
};

struct dhcp_lease {
    uint32_t addr, server, router; /* router 0: none */
    uint16_t mtu;                  /* 0: not said */
    uint8_t prefix;
    uint64_t t1_us, t2_us, expires_us; /* UINT64_MAX: never */
};

struct dhcp_client {
    enum dhcp_state state;
    uint8_t tries; /* messages or probes of this state */
    uint32_t xid;
    uint64_t begun_us; /* of the exchange */
    uint64_t at_us;    /* what is to be done next */
    struct dhcp_lease lease;
    struct sip_key key;
    uint64_t draws;
};

struct rx_pkt;
struct udp_dgram;

void dhcp_init(struct engine *e, uint64_t now_us);
/** The device's MTU changed; `came_up`: or its link is there again. */
void dhcp_link(struct engine *e, uint8_t ifindex, bool came_up, uint64_t now_us);
void dhcp_timers(struct engine *e, uint64_t now_us);
uint64_t dhcp_deadline(const struct engine *e);
/** A datagram to the client's port; true: it is the client's. */
bool dhcp_input(struct engine *e, const struct rx_pkt *rp, const struct udp_dgram *d, uint64_t now_us);
/** Somebody claims or probes for `addr4`. */
void dhcp_conflict(struct engine *e, uint32_t addr4, const uint8_t *mac, uint64_t now_us);

#endif

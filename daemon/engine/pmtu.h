/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path MTUs of both families by destination (RFC 1191 5.2, RFC 8201 5.2): what ICMP or a probe found out, for
 * a limited time. A bounded table in scratch memory: what is forgotten is found out again.
 */
#ifndef ENGINE_PMTU_H
#define ENGINE_PMTU_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/siphash.h"

#define PMTU_SETS 256u
#define PMTU_WAYS 4u

/* What a path is believed to carry at least: Linux's min_pmtu, so that a forged error can't make every header
 * larger than its data (RFC 5927 7.2), and RFC 8200 5's. */
#define PMTU_MIN4 552u
#define PMTU_MIN6 1280u

struct pmtu_entry {
    struct ip_addr addr; /* family 0: free */
    uint32_t mtu;
    uint64_t expires_us;
};

struct pmtu_table {
    struct sip_key key;
    uint64_t expiry_us; /* no entry expires sooner; UINT64_MAX: there is none */
    uint16_t changes;   /* counts what was learned and forgotten: connections compare it with their own */
    struct pmtu_entry entry[PMTU_SETS][PMTU_WAYS];
};

void pmtu_init(struct pmtu_table *t, const struct sip_key *key);
/** Largest packet towards dst that is known to get there; the interface's MTU when nothing else is known. */
uint16_t pmtu_get(const struct engine *e, const struct ip_addr *dst);
/**
 * An error says that a packet of `quoted` bytes (0: not known) was too long for a link that takes `mtu`
 * (0: not said). False: it lies (RFC 5927 7.2), and nothing was learned.
 */
bool pmtu_too_big(struct engine *e, const struct ip_addr *dst, uint32_t mtu, uint32_t quoted);
/** Packets longer than `mtu` don't get to dst. */
void pmtu_lower(struct engine *e, const struct ip_addr *dst, uint32_t mtu);
/** Forget what has expired (RFC 1191 6.3, RFC 8201 4). */
void pmtu_timers(struct engine *e);

#endif

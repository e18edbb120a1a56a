/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Path MTUs of both families by destination (RFC 1191 5.2, RFC 8201 5.2): what ICMP or a probe found out, for
 * a limited time. A bounded table in scratch memory: what is forgotten is found out again.
 *
 * What ICMP says holds for all. TCP's search (RFC 4821) is for TCP alone, but for all connections with a
 * destination together: one probes, all profit (5.2). It begins at a size that nearly every path carries,
 * when a black hole was found or, if so configured, at once. First the upper end of the range is tried,
 * which most paths carry, then its middle; it ends when the range is small (7.3), and begins anew when its
 * outcome is old. pmtu_probe.c.
 */
#ifndef ENGINE_PMTU_H
#define ENGINE_PMTU_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/siphash.h"

#define PMTU_SETS  256u
#define PMTU_WAYS  4u

/* What a path is believed to carry at least: Linux's min_pmtu, so that a forged error can't make every header
 * larger than its data (RFC 5927 7.2), and RFC 8200 5's. */
#define PMTU_MIN4  552u
#define PMTU_MIN6  ENGINE_MTU6_MIN

/* Where a search begins: an MSS of 1,024 on IPv4 (RFC 4821 7.2; Linux's tcp_base_mss), IPv6's minimum. */
#define PMTU_BASE4 1064u
#define PMTU_BASE6 PMTU_MIN6

struct pmtu_entry {
    struct ip_addr addr; /* family 0: free */
    uint32_t mtu;        /* by ICMP; 0: it said nothing */
    uint16_t low, high;  /* search_low and search_high of RFC 4821 7.2; low 0: no search */
    uint16_t probe;      /* bytes of the packet that is under way as a probe, 0: none */
    uint8_t fails;       /* probes of this size that were lost */
    bool searching;      /* the range is still large */
    bool top_tried;      /* probes of `high` bytes were lost */
    uint64_t probe_us;   /* when the probe was sent */
    uint64_t expires_us;
};

struct pmtu_table {
    struct sip_key key;
    uint64_t expiry_us; /* no entry expires sooner; UINT64_MAX: there is none */
    uint32_t searching; /* entries that are */
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
/** The entry of dst; NULL: there is none. pmtu_find_mut(): to change it. */
const struct pmtu_entry *pmtu_find(const struct engine *e, const struct ip_addr *dst);
struct pmtu_entry *pmtu_find_mut(struct engine *e, const struct ip_addr *dst);
/** The same, made if need be: another's may have to go. */
struct pmtu_entry *pmtu_make(struct engine *e, const struct ip_addr *dst);
/** It is good for another while. */
void pmtu_renew(struct engine *e, struct pmtu_entry *n);

/* pmtu_probe.c */
/** Largest packet of TCP's towards dst. */
uint16_t pmtu_tcp(const struct engine *e, const struct ip_addr *dst);
/** A connection with dst begins, and the range is to be searched from the start. */
void pmtu_search(struct engine *e, const struct ip_addr *dst);
/** Packets of `bytes` bytes vanish on the way to dst. False: size can't be why. */
bool pmtu_black_hole(struct engine *e, const struct ip_addr *dst, uint32_t bytes);
/** Bytes of the packet to try next, at most `max`; 0: none. */
uint16_t pmtu_probe_size(struct engine *e, const struct ip_addr *dst, uint32_t max);
void pmtu_probe_sent(struct engine *e, const struct ip_addr *dst, uint16_t bytes);
enum pmtu_outcome { PMTU_PROBE_ARRIVED, PMTU_PROBE_LOST, PMTU_PROBE_UNCLEAR };
void pmtu_probe_over(struct engine *e, const struct ip_addr *dst, enum pmtu_outcome o);
void pmtu_search_set(struct pmtu_table *t, struct pmtu_entry *n, bool searching);
/** An entry's outcome is old. False: it is to be forgotten. */
bool pmtu_search_again(struct engine *e, struct pmtu_entry *n);

#endif

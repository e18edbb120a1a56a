/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neighbours: which Ethernet address an IP address on a link has. IPv4's are asked by ARP (arp.c), IPv6's by
 * neighbour discovery (nd.c); states and queues are the same, those of RFC 4861 7.3.
 *
 * INCOMPLETE: asked by broadcast or group, packets wait; an answer makes it REACHABLE, three questions
 *   without one FAILED.
 * REACHABLE: confirmed in the last 30 s (IPv6: about that, or what a router says); else STALE.
 * STALE: used at once, which makes it PROBE.
 * PROBE: used; after 5 s without confirmation asked by unicast, until an answer or neigh_confirm() makes it
 *   REACHABLE, or silence FAILED.
 * FAILED: packets are refused; asked again after a second, at once if it had been known.
 *
 * REACHABLE turns STALE when it is looked at, so only INCOMPLETE and PROBE cost timer runs. Waiting packets
 * are copies in a bounded pool; the oldest of a neighbour makes way. Scratch memory.
 */
#ifndef ENGINE_NEIGH_H
#define ENGINE_NEIGH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/siphash.h"

#define NEIGH_REACHABLE_US UINT64_C(30000000) /* IPv4: as RFC 4861 10, REACHABLE_TIME */
#define NEIGH_DELAY_US     UINT64_C(5000000)  /* RFC 4861 10, DELAY_FIRST_PROBE_TIME */
#define NEIGH_RETRY_US     UINT64_C(1000000)  /* IPv4: RFC 1122 2.3.2.1, at most one question a second */
#define NEIGH_TRIES        3u
#define NEIGH_FAILED_US    UINT64_C(1000000)   /* refuse packets that long before asking again */
#define NEIGH_LOCK_US      UINT64_C(1000000)   /* an address just learnt is not overwritten that long */
#define NEIGH_UNUSED_US    UINT64_C(600000000) /* forget neighbours that nobody used so long */
#define NEIGH_TICK_US      UINT64_C(10000)     /* timers are rounded up, so that many share a scan */
#define NEIGH_EVICT_SCAN   1024u               /* entries looked at for the least useful one */

#define NEIGH_WAIT_POOL    512u /* packets that wait, all neighbours together */
#define NEIGH_WAIT_MAX     192u /* of one neighbour: four of the largest datagrams, in fragments */

enum neigh_state {
    NEIGH_FREE = 0,
    NEIGH_INCOMPLETE,
    NEIGH_REACHABLE,
    NEIGH_STALE,
    NEIGH_PROBE,
    NEIGH_FAILED,
    NEIGH_STATE_COUNT
};

/** An IP packet that waits; `next` links the queue of its neighbour or the free list. */
struct neigh_wait;

struct neigh {
    struct ip_addr addr;
    uint8_t mac[6]; /* valid in REACHABLE, STALE, PROBE */
    uint8_t state;  /* enum neigh_state */
    uint8_t tries;  /* questions asked in INCOMPLETE or PROBE */
    bool flushing;  /* on the list of those with packets that may go */
    uint8_t ifindex;
    uint32_t hash_next, flush_next;
    uint32_t wait_head, wait_tail; /* neigh_wait indices */
    uint32_t wait_count;
    uint64_t at_us;        /* INCOMPLETE, PROBE: next question; FAILED: refuse until then */
    uint64_t confirmed_us; /* last proof that it is reachable */
    uint64_t used_us;      /* last packet sent to it */
    uint64_t changed_us;   /* its Ethernet address was learnt */
};

static inline bool neigh_has_mac(const struct neigh *n)
{
    return n->state == NEIGH_REACHABLE || n->state == NEIGH_STALE || n->state == NEIGH_PROBE;
}

struct neigh_table {
    struct neigh *entries;
    uint32_t *bucket; /* entry indices */
    struct neigh_wait *wait;
    uint32_t count, mask;
    uint32_t free_head; /* through hash_next */
    uint32_t wait_free;
    uint32_t flush_head;
    uint32_t gen;     /* moves on when an entry is given up: indices of before may mean another neighbour */
    uint32_t last;    /* entry found last */
    uint32_t hand;    /* where the next search for a victim starts */
    uint64_t next_us; /* no timer is due before */
    struct sip_key key;
};

struct pktbuf;

size_t neigh_bytes(const struct engine_config *cfg);
void neigh_init(struct neigh_table *t, void *mem, const struct engine_config *cfg);
void neigh_timers(struct engine *e, uint64_t now_us);
uint64_t neigh_deadline(const struct engine *e);

/** The neighbour on the link of an interface, or NULL. */
struct neigh *neigh_find(struct neigh_table *t, const struct ip_addr *addr, uint8_t ifindex);
/** A new entry, FAILED but to be asked at once; NULL: the table is full (counted). */
struct neigh *neigh_create(struct engine *e, const struct ip_addr *addr, uint8_t ifindex, uint64_t now_us);
/** Its Ethernet address is known now; `proof`: it answered us. Sends what waited. */
void neigh_learn(struct engine *e, struct neigh *n, const uint8_t *mac, bool proof, uint64_t now_us);
/** Something contradicts what is known: it is asked when it is next used (RFC 4861 7.2.5). */
void neigh_doubt(struct neigh *n);

/**
 * Send the open frame `p`, whose data is an IP packet, to the neighbour `hop`, and end it. `hop` may lie in
 * the cache of destinations: it is not used once others can have been looked up.
 * @return 0 (sent, or waiting), -EHOSTUNREACH (it does not answer), -ENOBUFS (no entry is free)
 */
int neigh_output(struct engine *e, struct pktbuf *p, uint8_t ifindex, const struct ip_addr *hop,
                 uint64_t now_us);

/** The link went down: whoever is on it will have to be asked again, and what waits is lost. */
void neigh_link_down(struct engine *e, uint8_t ifindex, uint64_t now_us);

/** Packets whose neighbour has answered and that found no free frame then. */
void neigh_flush(struct engine *e);
bool neigh_flush_pending(const struct engine *e);

/** NULL, or what is inconsistent. */
const char *neigh_check(const struct engine *e);

#endif

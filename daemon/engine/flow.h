/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection table: (local address, local port, remote address, remote port) -> socket id.
 *
 * Open addressing with linear probing and backward-shift deletion; the hash is keyed with a secret, so a
 * peer can't aim for collisions. The key itself lies in the socket's record, which flow_find() compares.
 * Scratch memory; rebuilt by a scan of the records.
 */
#ifndef ENGINE_FLOW_H
#define ENGINE_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/siphash.h"

struct flow_key {
    struct ip_addr local, remote;
    uint16_t lport, rport; /* host order */
};

struct flow_entry {
    uint32_t hash; /* full 32-bit hash */
    uint32_t id;   /* sock_id; 0: free */
};

struct flow_table {
    struct flow_entry *entries;
    uint32_t mask;
    uint32_t used;
    struct sip_key key;
};

size_t flow_bytes(uint32_t max_flows);
void flow_init(struct flow_table *t, void *mem, uint32_t max_flows, const struct sip_key *key);
uint32_t flow_hash(const struct flow_table *t, const struct flow_key *k);
/** Socket with this key, or 0. */
uint32_t flow_find(const struct engine *e, const struct flow_key *k, uint32_t hash);
/** Add; the key must not be in the table. The table was sized for every record, so there is room. */
void flow_add(struct flow_table *t, uint32_t hash, uint32_t id);
void flow_del(struct flow_table *t, uint32_t hash, uint32_t id);
/** The record behind a key moved (half-open to connection, connection to TIME_WAIT). */
void flow_replace(struct flow_table *t, uint32_t hash, uint32_t old_id, uint32_t new_id);

static inline bool ip_addr_eq(const struct ip_addr *a, const struct ip_addr *b)
{
    uint64_t x[3], y[3];

    static_assert(sizeof(*a) == sizeof(x), "family and scope count too");
    __builtin_memcpy(x, a, sizeof(x));
    __builtin_memcpy(y, b, sizeof(y));
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2])) == 0;
}

static inline bool ip_addr_any(const struct ip_addr *a)
{
    uint64_t x[2];

    __builtin_memcpy(x, a->ip, 16);
    return (x[0] | x[1]) == 0;
}

#endif

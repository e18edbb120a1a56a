/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/flow.h"

#include "daemon/engine/engine_int.h"

/* Entries for `max_flows`: a power of two, at most half full. */
static uint32_t table_size(uint32_t max_flows)
{
    uint32_t n = 16;

    while (n < max_flows * 2)
        n *= 2;
    return n;
}

size_t flow_bytes(uint32_t max_flows)
{
    return (size_t)table_size(max_flows) * sizeof(struct flow_entry);
}

void flow_init(struct flow_table *t, void *mem, uint32_t max_flows, const struct sip_key *key)
{
    t->entries = mem;
    t->mask = table_size(max_flows) - 1;
    t->used = 0;
    t->key = *key;
}

uint32_t flow_hash(const struct flow_table *t, const struct flow_key *k)
{
    uint64_t w[5];
    uint64_t ports = (uint64_t)k->lport << 16 | k->rport;

    if (k->local.family == SG_AF_INET) {
        uint32_t l, r;

        memcpy(&l, k->local.ip, 4);
        memcpy(&r, k->remote.ip, 4);
        w[0] = (uint64_t)l << 32 | r;
        w[1] = ports;
        return (uint32_t)sip_words(&t->key, w, 2, 1, 3);
    }
    memcpy(&w[0], k->local.ip, 16);
    memcpy(&w[2], k->remote.ip, 16);
    w[4] = ports;
    return (uint32_t)sip_words(&t->key, w, 5, 1, 3);
}

static bool key_eq(const struct flow_key *k, const struct ip_addr *local, uint16_t lport,
                   const struct ip_addr *remote, uint16_t rport)
{
    return k->lport == lport && k->rport == rport && ip_addr_eq(&k->remote, remote) &&
           ip_addr_eq(&k->local, local);
}

static bool id_matches(const struct engine *e, uint32_t id, const struct flow_key *k)
{
    uint32_t i = SOCK_INDEX(id);

    switch (SOCK_KIND(id)) {
    case SK_TCP: {
        const struct sock *s = &e->tcp.conns[i].s;

        return key_eq(k, &s->local, s->lport, &s->remote, s->rport);
    }
    case SK_REQ: {
        const struct flow_key *r = &e->tcp.reqs[i].key;

        return key_eq(k, &r->local, r->lport, &r->remote, r->rport);
    }
    case SK_TW: {
        const struct flow_key *r = &e->tcp.tws[i].key;

        return key_eq(k, &r->local, r->lport, &r->remote, r->rport);
    }
    case SK_NONE:
    case SK_LISTEN:
    case SK_UDP:
        break;
    }
    ENG_ASSERT(false);
    return false;
}

uint32_t flow_find(const struct engine *e, const struct flow_key *k, uint32_t hash)
{
    const struct flow_table *t = &e->flows;

    for (uint32_t i = hash & t->mask; t->entries[i].id; i = (i + 1) & t->mask)
        if (t->entries[i].hash == hash && id_matches(e, t->entries[i].id, k))
            return t->entries[i].id;
    return 0;
}

void flow_add(struct flow_table *t, uint32_t hash, uint32_t id)
{
    uint32_t i = hash & t->mask;

    ENG_ASSERT(t->used < t->mask);
    while (t->entries[i].id)
        i = (i + 1) & t->mask;
    t->entries[i].hash = hash;
    t->entries[i].id = id;
    t->used++;
}

static uint32_t find_entry(const struct flow_table *t, uint32_t hash, uint32_t id)
{
    uint32_t i = hash & t->mask;

    while (t->entries[i].id != id) {
        ENG_ASSERT(t->entries[i].id);
        i = (i + 1) & t->mask;
    }
    return i;
}

void flow_replace(struct flow_table *t, uint32_t hash, uint32_t old_id, uint32_t new_id)
{
    t->entries[find_entry(t, hash, old_id)].id = new_id;
}

void flow_del(struct flow_table *t, uint32_t hash, uint32_t id)
{
    uint32_t hole = find_entry(t, hash, id);

    /* Close the gap: move back each follower whose home is not between the hole and itself. */
    for (uint32_t i = (hole + 1) & t->mask; t->entries[i].id; i = (i + 1) & t->mask) {
        uint32_t home = t->entries[i].hash & t->mask;

        if (((i - home) & t->mask) >= ((i - hole) & t->mask)) {
            t->entries[hole] = t->entries[i];
            hole = i;
        }
    }
    t->entries[hole].id = 0;
    t->used--;
}

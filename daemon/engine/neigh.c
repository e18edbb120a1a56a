/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

#define KEY_NEIGH UINT64_C(0x6e65742d617270)

struct neigh_wait {
    uint32_t next;
    uint32_t len;
    uint16_t flags, csum_start, csum_offset; /* as in struct pktbuf */
    uint16_t pad;
    uint8_t packet[NET_COPY_MAX];
};

/* ---- Table ----------------------------------------------------------------------------------------------
 */

static uint32_t bucket_count(const struct engine_config *cfg)
{
    uint32_t n = 16;

    while (n < cfg->neigh_max)
        n *= 2;
    return n;
}

size_t neigh_bytes(const struct engine_config *cfg)
{
    return (size_t)cfg->neigh_max * sizeof(struct neigh) + NEIGH_WAIT_POOL * sizeof(struct neigh_wait) +
           bucket_count(cfg) * sizeof(uint32_t);
}

void neigh_init(struct neigh_table *t, void *mem, const struct engine_config *cfg)
{
    uint32_t buckets = bucket_count(cfg);

    *t = (struct neigh_table){
        .entries = mem,
        .count = cfg->neigh_max,
        .mask = buckets - 1,
        .flush_head = NIL,
        .next_us = UINT64_MAX,
        .key = net_key(cfg, KEY_NEIGH),
    };
    t->wait = (struct neigh_wait *)(t->entries + t->count);
    t->bucket = (uint32_t *)(t->wait + NEIGH_WAIT_POOL);
    memset(t->bucket, 0xff, buckets * sizeof(uint32_t)); /* NIL */
    for (uint32_t i = 0; i < t->count; i++) {
        t->entries[i].state = NEIGH_FREE;
        t->entries[i].hash_next = i + 1 < t->count ? i + 1 : NIL;
    }
    t->free_head = 0;
    for (uint32_t i = 0; i < NEIGH_WAIT_POOL; i++)
        t->wait[i].next = i + 1 < NEIGH_WAIT_POOL ? i + 1 : NIL;
    t->wait_free = 0;
}

static uint32_t *bucket_of(struct neigh_table *t, const struct ip_addr *a)
{
    uint64_t w[2];

    memcpy(w, a->ip, sizeof(w));
    return &t->bucket[sip_words(&t->key, w, ARRAY_LEN(w), 1, 3) & t->mask];
}

struct neigh *neigh_find(struct neigh_table *t, const struct ip_addr *a, uint8_t ifindex)
{
    struct neigh *n = &t->entries[t->last];

    /* Nearly all traffic of an edge gateway goes to one neighbour. */
    if (n->state != NEIGH_FREE && n->ifindex == ifindex && ip_addr_eq(&n->addr, a))
        return n;
    for (uint32_t i = *bucket_of(t, a); i != NIL; i = t->entries[i].hash_next) {
        if (t->entries[i].ifindex == ifindex && ip_addr_eq(&t->entries[i].addr, a)) {
            t->last = i;
            return &t->entries[i];
        }
    }
    return NULL;
}

static void entry_free(struct neigh_table *t, struct neigh *n)
{
    uint32_t i = (uint32_t)(n - t->entries);
    uint32_t *at = bucket_of(t, &n->addr);

    ENG_ASSERT(!n->wait_count && !n->flushing);
    t->gen++;
    while (*at != i) {
        ENG_ASSERT(*at != NIL);
        at = &t->entries[*at].hash_next;
    }
    *at = n->hash_next;
    n->state = NEIGH_FREE;
    n->hash_next = t->free_head;
    t->free_head = i;
}

static uint64_t retry_us(const struct engine *e, const struct neigh *n)
{
    return n->addr.family == SG_AF_INET6 ? e->net.t.ifs[n->ifindex].retrans_us : NEIGH_RETRY_US;
}

/* How little a neighbour would be missed; 0: it must stay. */
static unsigned evict_class(const struct engine *e, const struct neigh *n, uint64_t now_us)
{
    if (n->wait_count || n->flushing || netif_is_gateway(&e->net.t, &n->addr))
        return 0;
    switch ((enum neigh_state)n->state) {
    case NEIGH_FAILED:
        return 2;
    case NEIGH_STALE:
        return 1;
    case NEIGH_REACHABLE:
        return now_us - n->confirmed_us > neigh_reachable_us(e, n) ? 1 : 0;
    case NEIGH_FREE:
    case NEIGH_INCOMPLETE:
    case NEIGH_PROBE:
    case NEIGH_STATE_COUNT:
        break;
    }
    return 0;
}

/* Make room: a failed neighbour, else the stale one that has not been used for longest. */
static bool evict(struct engine *e, uint64_t now_us)
{
    struct neigh_table *t = &e->neigh;
    struct neigh *victim = NULL;
    unsigned best = 0;

    for (uint32_t i = 0; i < t->count && i < NEIGH_EVICT_SCAN; i++) {
        struct neigh *n = &t->entries[t->hand];
        unsigned class = evict_class(e, n, now_us);

        t->hand = t->hand + 1 < t->count ? t->hand + 1 : 0;
        if (class > best || (class && class == best && n->used_us < victim->used_us)) {
            best = class;
            victim = n;
        }
    }
    if (victim)
        entry_free(t, victim);
    return victim;
}

struct neigh *neigh_create(struct engine *e, const struct ip_addr *addr, uint8_t ifindex, uint64_t now_us)
{
    struct neigh_table *t = &e->neigh;
    struct neigh *n;
    uint32_t *bucket;
    uint32_t i;

    if (t->free_head == NIL && !evict(e, now_us)) {
        stat_inc(&e->stats, ST_DROP_NEIGH_FULL);
        return NULL;
    }
    i = t->free_head;
    n = &t->entries[i];
    t->free_head = n->hash_next;
    *n = (struct neigh){
        .addr = *addr,
        .ifindex = ifindex,
        .state = NEIGH_FAILED,
        .wait_head = NIL,
        .wait_tail = NIL,
        .changed_us = now_us,
    };
    bucket = bucket_of(t, &n->addr);
    n->hash_next = *bucket;
    *bucket = i;
    return n;
}

/* ---- Timers ----------------------------------------------------------------------------------------------
 */

static uint64_t later(uint64_t now_us, uint64_t delay_us)
{
    return (now_us + delay_us + NEIGH_TICK_US - 1) / NEIGH_TICK_US * NEIGH_TICK_US;
}

static uint64_t unused_us(const struct neigh *n)
{
    uint64_t t = n->used_us > n->confirmed_us ? n->used_us : n->confirmed_us;

    return (t > n->changed_us ? t : n->changed_us) + NEIGH_UNUSED_US;
}

static uint64_t timer_us(const struct neigh *n)
{
    switch ((enum neigh_state)n->state) {
    case NEIGH_INCOMPLETE:
    case NEIGH_PROBE:
        return n->at_us;
    case NEIGH_REACHABLE:
    case NEIGH_STALE:
    case NEIGH_FAILED:
        return unused_us(n);
    case NEIGH_FREE:
    case NEIGH_STATE_COUNT:
        break;
    }
    return UINT64_MAX;
}

static void timer_changed(struct neigh_table *t, const struct neigh *n)
{
    uint64_t at = timer_us(n);

    if (at < t->next_us)
        t->next_us = at;
}

uint64_t neigh_deadline(const struct engine *e)
{
    return e->neigh.next_us;
}

/* ---- Asking -------------------------------------------------------------------------------------- */

static void ask(struct engine *e, const struct neigh *n, uint64_t now_us)
{
    if (n->addr.family == SG_AF_INET)
        arp_ask(e, n);
    else
        nd_ask(e, n, now_us);
}

/* ---- Packets that wait
 * -------------------------------------------------------------------------------------- */

static uint32_t wait_pop(struct neigh_table *t, struct neigh *n)
{
    uint32_t i = n->wait_head;

    n->wait_head = t->wait[i].next;
    if (n->wait_head == NIL)
        n->wait_tail = NIL;
    n->wait_count--;
    return i;
}

static void wait_free(struct neigh_table *t, uint32_t i)
{
    t->wait[i].next = t->wait_free;
    t->wait_free = i;
}

/* Keep a copy of the open frame, which ends. The oldest that waits makes way (RFC 1122 2.3.2.2). */
static void wait_push(struct engine *e, struct neigh *n, const struct pktbuf *p)
{
    struct neigh_table *t = &e->neigh;
    uint32_t len = net_pkt_bytes(p);
    struct neigh_wait *w;
    uint32_t i;

    if (n->wait_count && (n->wait_count == NEIGH_WAIT_MAX || t->wait_free == NIL)) {
        wait_free(t, wait_pop(t, n));
        stat_inc(&e->stats, ST_DROP_NEIGH_QUEUE);
    }
    i = t->wait_free;
    /* TCP sends again what was too large to be kept. */
    if (i == NIL || len > sizeof(w->packet)) {
        stat_inc(&e->stats, ST_DROP_NEIGH_QUEUE);
        pktq_drop(&e->txq);
        return;
    }
    w = &t->wait[i];
    t->wait_free = w->next;
    w->next = NIL;
    w->len = len;
    w->flags = p->flags;
    w->csum_start = p->csum_start;
    w->csum_offset = p->csum_offset;
    net_pkt_copy(p, 0, w->packet, len);
    pktq_drop(&e->txq);
    if (n->wait_tail == NIL)
        n->wait_head = i;
    else
        t->wait[n->wait_tail].next = i;
    n->wait_tail = i;
    n->wait_count++;
}

static uint16_t eth_type(const struct neigh *n)
{
    return n->addr.family == SG_AF_INET ? ETH_TYPE_IP4 : ETH_TYPE_IP6;
}

/* Send what waited; false: no free frame. */
static bool wait_send(struct engine *e, struct neigh *n)
{
    struct neigh_table *t = &e->neigh;
    uint32_t ip_hdr = net_hdr_bytes(n->addr.family);
    uint8_t dev = e->net.t.ifs[n->ifindex].c.dev;

    while (n->wait_count) {
        struct pktbuf *p = pktq_room(&e->txq, dev) ? pktq_get(&e->txq) : NULL;
        const struct neigh_wait *w;
        uint32_t i;

        if (!p)
            return false;
        i = wait_pop(t, n);
        w = &t->wait[i];
        p->data -= ip_hdr; /* The headroom is counted from the transport header. */
        memcpy(p->data, w->packet, w->len);
        p->len = w->len;
        p->flags = w->flags;
        p->csum_start = w->csum_start;
        p->csum_offset = w->csum_offset;
        net_send_frame(e, p, n->ifindex, n->mac, eth_type(n));
        wait_free(t, i);
    }
    return true;
}

void neigh_flush(struct engine *e)
{
    struct neigh_table *t = &e->neigh;
    uint32_t *at = &t->flush_head;

    while (*at != NIL) {
        struct neigh *n = &t->entries[*at];

        if (neigh_has_mac(n) && !wait_send(e, n)) {
            at = &n->flush_next; /* Its device is full; others may not be. */
            continue;
        }
        *at = n->flush_next;
        n->flushing = false;
    }
}

bool neigh_flush_pending(const struct engine *e)
{
    return e->neigh.flush_head != NIL;
}

/* ---- States
 * -------------------------------------------------------------------------------------------------- */

static void ask_first(struct engine *e, struct neigh *n, enum neigh_state state, uint64_t now_us)
{
    n->state = (uint8_t)state;
    n->tries = 1;
    n->at_us = later(now_us, retry_us(e, n));
    timer_changed(&e->neigh, n);
    ask(e, n, now_us);
}

static void report(struct engine *e, const struct neigh *n, const struct neigh_wait *w, uint64_t now_us)
{
    if (n->addr.family == SG_AF_INET)
        icmp_report_packet(e, w->packet, w->len, EHOSTUNREACH, false, 0, now_us);
    else
        icmp6_report_packet(e, w->packet, w->len, n->ifindex, EHOSTUNREACH, false, 0, now_us);
}

/* It does not answer: those who sent what waited are told (RFC 1122 2.3.2.2), and the packets are gone. */
static void fail(struct engine *e, struct neigh *n, uint64_t refuse_us, uint64_t now_us)
{
    struct neigh_table *t = &e->neigh;
    uint32_t i = n->wait_head;

    n->state = NEIGH_FAILED;
    n->at_us = now_us + refuse_us;
    n->changed_us = now_us;
    timer_changed(t, n);
    /* Take the queue away first: whoever is told may send to the same neighbour. */
    n->wait_head = n->wait_tail = NIL;
    n->wait_count = 0;
    while (i != NIL) {
        uint32_t next = t->wait[i].next;

        stat_inc(&e->stats, ST_DROP_NEIGH_FAILED);
        report(e, n, &t->wait[i], now_us);
        wait_free(t, i);
        i = next;
    }
}

static void timer_fired(struct engine *e, struct neigh *n, uint64_t now_us)
{
    bool probe = n->state == NEIGH_PROBE;

    if (n->state != NEIGH_INCOMPLETE && !probe) {
        if (!n->flushing)
            entry_free(&e->neigh, n);
        return;
    }
    if (n->tries >= NEIGH_TRIES) {
        /* It was known: it may have come back with another address, so a broadcast may ask at once. */
        fail(e, n, probe ? 0 : NEIGH_FAILED_US, now_us);
        return;
    }
    n->tries++;
    n->at_us = later(now_us, retry_us(e, n));
    ask(e, n, now_us);
}

void neigh_timers(struct engine *e, uint64_t now_us)
{
    struct neigh_table *t = &e->neigh;
    uint64_t next = UINT64_MAX;

    if (now_us < t->next_us)
        return;
    t->next_us = UINT64_MAX; /* Reports of failures may start new questions meanwhile. */
    for (uint32_t i = 0; i < t->count; i++) {
        struct neigh *n = &t->entries[i];
        uint64_t at;

        if (timer_us(n) <= now_us)
            timer_fired(e, n, now_us);
        at = timer_us(n);
        if (at <= now_us) /* Kept only until its packets are out. */
            at = now_us + NEIGH_RETRY_US;
        if (at < next)
            next = at;
    }
    if (next < t->next_us)
        t->next_us = next;
}

void neigh_doubt(struct neigh *n)
{
    if (n->state == NEIGH_REACHABLE)
        n->state = NEIGH_STALE;
}

void neigh_learn(struct engine *e, struct neigh *n, const uint8_t *mac, bool proof, uint64_t now_us)
{
    bool had = neigh_has_mac(n);
    bool changed = !had || !eth_eq(n->mac, mac);

    if (changed) {
        /* RFC 4861 has the override flag for that. */
        if (had && n->addr.family == SG_AF_INET && now_us - n->changed_us < NEIGH_LOCK_US)
            return;
        memcpy(n->mac, mac, sizeof(n->mac));
        n->changed_us = now_us;
    }
    if (proof) {
        n->state = NEIGH_REACHABLE;
        n->confirmed_us = now_us;
    } else if (changed) {
        n->state = NEIGH_STALE;
    }
    timer_changed(&e->neigh, n);
    if (n->wait_count && !n->flushing && !wait_send(e, n)) {
        n->flushing = true;
        n->flush_next = e->neigh.flush_head;
        e->neigh.flush_head = (uint32_t)(n - e->neigh.entries);
    }
}

void neigh_link_down(struct engine *e, uint8_t ifindex, uint64_t now_us)
{
    struct neigh_table *t = &e->neigh;

    for (uint32_t i = 0; i < t->count; i++)
        if (t->entries[i].state != NEIGH_FREE && t->entries[i].ifindex == ifindex)
            fail(e, &t->entries[i], 0, now_us);
}

void neigh_confirm(struct engine *e, const struct ip_addr *dst, uint64_t now_us)
{
    const struct net_dst *d = netif_lookup(&e->net.t, dst);
    struct neigh *n;

    if (d->kind != DST_UNICAST || d->ifindex == ENGINE_IF_ANY)
        return;
    n = neigh_find(&e->neigh, &d->hop, d->ifindex);
    if (!n || !neigh_has_mac(n))
        return;
    n->state = NEIGH_REACHABLE;
    n->confirmed_us = now_us;
}

int neigh_output(struct engine *e, struct pktbuf *p, uint8_t ifindex, const struct ip_addr *hop,
                 uint64_t now_us)
{
    struct neigh *n = neigh_find(&e->neigh, hop, ifindex);

    if (!n) {
        n = neigh_create(e, hop, ifindex, now_us);
        if (!n) {
            pktq_drop(&e->txq);
            return -ENOBUFS;
        }
    }
    if (n->state == NEIGH_FAILED && now_us < n->at_us) {
        stat_inc(&e->stats, ST_DROP_NEIGH_FAILED);
        pktq_drop(&e->txq);
        return -EHOSTUNREACH;
    }
    n->used_us = now_us;
    if (n->state == NEIGH_FAILED || n->state == NEIGH_INCOMPLETE) {
        wait_push(e, n, p); /* Ends the frame, so that the question finds one. */
        if (n->state == NEIGH_FAILED)
            ask_first(e, n, NEIGH_INCOMPLETE, now_us);
        return 0;
    }
    if (n->state == NEIGH_REACHABLE && now_us - n->confirmed_us > neigh_reachable_us(e, n))
        n->state = NEIGH_STALE;
    if (n->state == NEIGH_STALE) {
        n->state = NEIGH_PROBE;
        n->tries = 0;
        n->at_us = later(now_us, NEIGH_DELAY_US);
        timer_changed(&e->neigh, n);
    }
    net_send_frame(e, p, n->ifindex, n->mac, eth_type(n));
    return 0;
}

/* ---- Looking inside ---------------------------------------------------------------------------------------
 */

static const char *const state_name[] = {
    [NEIGH_FREE] = "FREE",   [NEIGH_INCOMPLETE] = "INCOMPLETE", [NEIGH_REACHABLE] = "REACHABLE",
    [NEIGH_STALE] = "STALE", [NEIGH_PROBE] = "PROBE",           [NEIGH_FAILED] = "FAILED",
};
static_assert(ARRAY_LEN(state_name) == NEIGH_STATE_COUNT, "a name for every state");

bool engine_neigh_next(const struct engine *e, uint64_t *cursor, uint64_t now_us,
                       struct engine_neigh_info *ret)
{
    const struct neigh_table *t = &e->neigh;

    while (*cursor < t->count) {
        const struct neigh *n = &t->entries[(*cursor)++];
        enum neigh_state state = n->state;
        uint64_t since;

        if (state == NEIGH_FREE)
            continue;
        if (state == NEIGH_REACHABLE && now_us - n->confirmed_us > neigh_reachable_us(e, n))
            state = NEIGH_STALE;
        since = n->confirmed_us > n->changed_us ? n->confirmed_us : n->changed_us;
        *ret = (struct engine_neigh_info){
            .addr = n->addr,
            .state = state_name[state],
            .age_us = now_us > since ? now_us - since : 0,
        };
        if (neigh_has_mac(n))
            memcpy(ret->mac, n->mac, sizeof(ret->mac));
        return true;
    }
    return false;
}

const char *neigh_check(const struct engine *e)
{
    const struct neigh_table *t = &e->neigh;
    uint32_t used = 0, free_count = 0, waiting = 0, wait_free_count = 0;

    for (uint32_t b = 0; b <= t->mask; b++) {
        for (uint32_t i = t->bucket[b]; i != NIL; i = t->entries[i].hash_next) {
            const struct neigh *n = &t->entries[i];
            uint32_t len = 0;

            if (n->state == NEIGH_FREE || n->state >= NEIGH_STATE_COUNT)
                return "neighbour table holds a free entry";
            for (uint32_t w = n->wait_head; w != NIL; w = t->wait[w].next)
                if (++len > NEIGH_WAIT_MAX)
                    return "queue of a neighbour is too long";
            if (len != n->wait_count)
                return "queue of a neighbour is miscounted";
            if (len && n->state != NEIGH_INCOMPLETE && !n->flushing)
                return "packets wait for a neighbour that is not being asked";
            if (timer_us(n) < t->next_us && !n->flushing)
                return "neighbour timer is missed";
            waiting += len;
            if (++used > t->count)
                return "neighbour chain has a loop";
        }
    }
    for (uint32_t i = t->free_head; i != NIL && free_count <= t->count; i = t->entries[i].hash_next)
        free_count++;
    for (uint32_t i = t->wait_free; i != NIL && wait_free_count <= NEIGH_WAIT_POOL; i = t->wait[i].next)
        wait_free_count++;
    if (used + free_count != t->count)
        return "neighbour entries are lost";
    if (waiting + wait_free_count != NEIGH_WAIT_POOL)
        return "waiting packets are lost";
    return NULL;
}

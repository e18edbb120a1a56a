/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/portmap.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PORTS     65536u
#define PROTO_UDP 17u
#define PINS_HASH 1024u
#define NONE      0u /* no index: entries, groups and pins are numbered from 1 on */

struct port {
    uint32_t users;              /* atomic: what portmap_users() says */
    uint32_t first;              /* of the bound sockets */
    uint16_t conns, noreuse, tw; /* workers, by ENGINE_PORT_* */
    uint16_t pins;
};

/* A bound socket. */
struct bound {
    struct engine_port_use u;
    uint16_t worker;
    uint32_t group; /* of listeners, NONE: it is alone */
    uint32_t next;
};

struct pin {
    struct engine_flow f;
    uint16_t worker;
    uint32_t next;
};

struct portmap {
    pthread_mutex_t lock;
    struct port *ports; /* TCP's, UDP's */
    struct bound *bound;
    uint32_t bound_max, bound_free, bound_high;
    uint32_t *group_refs, *waiting;
    uint32_t group_max;
    struct pin pins[PORTMAP_PINS_MAX + 1];
    uint32_t pin_free, pin_high, pin_hash[PINS_HASH];
};

int portmap_create(uint32_t listen_max, uint32_t udp_max, unsigned workers, struct portmap **ret)
{
    struct portmap *m = calloc(1, sizeof(*m));

    if (!m)
        return -ENOMEM;
    (void)pthread_mutex_init(&m->lock, NULL);
    m->group_max = listen_max;
    m->bound_max = (listen_max + udp_max) * workers + PORTMAP_BINDS_MAX;
    m->ports = calloc((size_t)2 * PORTS, sizeof(*m->ports));
    m->bound = calloc((size_t)m->bound_max + 1, sizeof(*m->bound));
    m->group_refs = calloc((size_t)m->group_max + 1, sizeof(*m->group_refs));
    m->waiting = calloc((size_t)m->group_max + 1, sizeof(*m->waiting));
    if (!m->ports || !m->bound || !m->group_refs || !m->waiting) {
        portmap_free(m);
        return -ENOMEM;
    }
    *ret = m;
    return 0;
}

void portmap_free(struct portmap *m)
{
    if (!m)
        return;
    free(m->ports);
    free(m->bound);
    free(m->group_refs);
    free(m->waiting);
    (void)pthread_mutex_destroy(&m->lock);
    free(m);
}

uint32_t *portmap_waiting(struct portmap *m)
{
    return m->waiting;
}

/* ---- One port ---------------------------------------------------------------------------------------- */

static struct port *port_of(const struct portmap *m, uint8_t proto, uint16_t port)
{
    return &m->ports[(proto == PROTO_UDP ? PORTS : 0) + port];
}

static uint32_t users(const struct port *p)
{
    return __atomic_load_n(&p->users, __ATOMIC_RELAXED);
}

uint32_t portmap_users(const struct portmap *m, uint8_t proto, uint16_t port)
{
    return users(port_of(m, proto, port));
}

/* Every socket of the port may get any datagram that comes in. */
static bool all_alike(const struct portmap *m, const struct port *p)
{
    const struct engine_port_use *first = &m->bound[p->first].u;

    for (uint32_t i = p->first; i; i = m->bound[i].next) {
        const struct engine_port_use *u = &m->bound[i].u;

        if (!u->reuseport || u->remote.family || u->v6only != first->v6only ||
            memcmp(&u->local, &first->local, sizeof(u->local)) != 0)
            return false;
    }
    return true;
}

/* Make the word that everybody sees. */
static void show(struct portmap *m, uint8_t proto, struct port *p, uint32_t workers)
{
    uint32_t flags = 0;

    if (p->pins)
        flags = PORTMAP_ASK;
    else if (proto == PROTO_UDP && workers & (workers - 1))
        flags = all_alike(m, p) ? PORTMAP_ANY : PORTMAP_ASK;
    __atomic_store_n(&p->users, workers | flags, __ATOMIC_RELAXED);
}

static void set_bit(uint16_t *mask, unsigned worker, bool on)
{
    *mask = (uint16_t)(on ? *mask | 1u << worker : *mask & ~(1u << worker));
}

void portmap_state(struct portmap *m, unsigned worker, uint8_t proto, uint16_t port, unsigned state)
{
    struct port *p = port_of(m, proto, port);
    uint16_t workers;

    (void)pthread_mutex_lock(&m->lock);
    workers = (uint16_t)(users(p) & PORTMAP_WORKERS);
    set_bit(&workers, worker, state & ENGINE_PORT_USED);
    set_bit(&p->conns, worker, state & ENGINE_PORT_CONNS);
    set_bit(&p->noreuse, worker, state & ENGINE_PORT_NOREUSE);
    set_bit(&p->tw, worker, state & ENGINE_PORT_TW);
    show(m, proto, p, workers);
    (void)pthread_mutex_unlock(&m->lock);
}

/* ---- Bound sockets ----------------------------------------------------------------------------------- */

static bool is_any(const struct ip_addr *a)
{
    static const uint8_t none[16];

    return !memcmp(a->ip, none, sizeof(none));
}

/* A scope is not known of what is only a frame yet. */
static bool same_addr(const struct ip_addr *a, const struct ip_addr *b)
{
    return a->family == b->family && (a->scope == b->scope || !a->scope || !b->scope) &&
           !memcmp(a->ip, b->ip, sizeof(a->ip));
}

static bool takes_both(const struct engine_port_use *u)
{
    return u->local.family == SG_AF_INET6 && is_any(&u->local) && !u->v6only;
}

/* The rules of engine/port.c, for sockets of two engines. */
static bool overlap(const struct engine_port_use *a, const struct engine_port_use *b)
{
    if (a->local.family != b->local.family)
        return takes_both(a) || takes_both(b);
    return is_any(&a->local) || is_any(&b->local) || same_addr(&a->local, &b->local);
}

static bool may_share(const struct engine_port_use *has, const struct engine_port_use *wants)
{
    if (has->reuseaddr && wants->reuseaddr)
        return !has->listens;
    return wants->proto == PROTO_UDP && has->reuseport && wants->reuseport && has->uid == wants->uid;
}

static bool in_group(const struct bound *b, uint32_t group)
{
    return group && b->group == group;
}

static bool conflict(const struct portmap *m, const struct port *p, unsigned worker, uint32_t group,
                     const struct engine_port_use *u)
{
    unsigned others = PORTMAP_WORKERS & ~(1u << worker);

    if (p->tw & others && !u->reuseaddr)
        return true;
    if (p->conns & others && (!u->reuseaddr || p->noreuse & others))
        return true;
    for (uint32_t i = p->first; i; i = m->bound[i].next) {
        const struct bound *b = &m->bound[i];

        if (b->worker != worker && !in_group(b, group) && overlap(&b->u, u) && !may_share(&b->u, u))
            return true;
    }
    return false;
}

static struct bound *bound_find(const struct portmap *m, const struct port *p, unsigned worker, uint32_t id)
{
    for (uint32_t i = p->first; i; i = m->bound[i].next)
        if (m->bound[i].worker == worker && m->bound[i].u.id == id)
            return &m->bound[i];
    return NULL;
}

static uint32_t group_new(struct portmap *m)
{
    for (uint32_t g = 1; g <= m->group_max; g++)
        if (!m->group_refs[g])
            return g;
    return NONE;
}

/* The group of the session's socket that is to be shared with. */
static int group_join(struct portmap *m, const struct port *p, const struct engine_port_use *u, uint32_t *ret)
{
    for (uint32_t i = p->first; i; i = m->bound[i].next) {
        struct bound *b = &m->bound[i];

        if (b->u.session != u->session || b->u.slot != u->share || !same_addr(&b->u.local, &u->local))
            continue;
        if (!b->group) {
            b->group = group_new(m);
            if (!b->group)
                return -ENOBUFS;
            __atomic_store_n(&m->waiting[b->group], 0, __ATOMIC_RELAXED);
            m->group_refs[b->group] = 1;
        }
        *ret = b->group;
        return 0;
    }
    return -EINVAL;
}

static int add(struct portmap *m, struct port *p, unsigned worker, const struct engine_port_use *u)
{
    uint32_t group = NONE, i;
    int rc = u->share ? group_join(m, p, u, &group) : 0;

    if (rc)
        return rc;
    if (conflict(m, p, worker, group, u))
        return -EADDRINUSE;
    i = m->bound_free;
    if (i)
        m->bound_free = m->bound[i].next;
    else if (m->bound_high < m->bound_max)
        i = ++m->bound_high;
    else
        return -ENOBUFS;
    m->bound[i] = (struct bound){.u = *u, .worker = (uint16_t)worker, .group = group, .next = p->first};
    p->first = i;
    m->group_refs[group] += group != NONE;
    show(m, u->proto, p, (users(p) & PORTMAP_WORKERS) | 1u << worker);
    return 0;
}

int portmap_bind(struct portmap *m, unsigned worker, const struct engine_port_use *u)
{
    int rc;

    (void)pthread_mutex_lock(&m->lock);
    rc = add(m, port_of(m, u->proto, u->port), worker, u);
    (void)pthread_mutex_unlock(&m->lock);
    return rc;
}

void portmap_unbind(struct portmap *m, unsigned worker, const struct engine_port_use *u)
{
    struct port *p = port_of(m, u->proto, u->port);
    uint32_t *at = &p->first;

    (void)pthread_mutex_lock(&m->lock);
    while (*at && (m->bound[*at].worker != worker || m->bound[*at].u.id != u->id))
        at = &m->bound[*at].next;
    if (*at) {
        uint32_t i = *at;
        struct bound *b = &m->bound[i];

        *at = b->next;
        m->group_refs[b->group] -= b->group != NONE;
        b->next = m->bound_free;
        m->bound_free = i;
        show(m, u->proto, p, users(p) & PORTMAP_WORKERS);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

/* Does another socket listen where `b` is about to? */
static bool listens_already(const struct portmap *m, const struct port *p, const struct bound *b)
{
    for (uint32_t i = p->first; i; i = m->bound[i].next) {
        const struct bound *o = &m->bound[i];

        if (o != b && o->u.listens && !in_group(o, b->group) && overlap(&o->u, &b->u))
            return true;
    }
    return false;
}

int portmap_change(struct portmap *m, unsigned worker, uint32_t old_id, const struct engine_port_use *u)
{
    struct port *p = port_of(m, u->proto, u->port);
    struct bound *b;
    int rc = 0;

    (void)pthread_mutex_lock(&m->lock);
    b = bound_find(m, p, worker, old_id);
    if (b && u->listens && !b->u.listens && listens_already(m, p, b)) {
        rc = -EADDRINUSE;
    } else if (b) {
        uint32_t slot = b->u.slot;

        b->u = *u;
        b->u.slot = slot; /* As it was bound: a closed socket has none. */
        rc = (int)b->group;
        show(m, u->proto, p, users(p) & PORTMAP_WORKERS);
    }
    (void)pthread_mutex_unlock(&m->lock);
    return rc;
}

/* ---- Connections ------------------------------------------------------------------------------------- */

bool portmap_connect(struct portmap *m, unsigned worker, const struct engine_flow *f)
{
    struct port *p = port_of(m, f->proto, f->lport);
    uint32_t workers;
    bool free;

    (void)pthread_mutex_lock(&m->lock);
    workers = users(p) & PORTMAP_WORKERS;
    free = !(workers & ~(1u << worker));
    if (free)
        show(m, f->proto, p, workers | 1u << worker);
    (void)pthread_mutex_unlock(&m->lock);
    return free;
}

static bool same_flow(const struct engine_flow *a, const struct engine_flow *b)
{
    return a->lport == b->lport && a->rport == b->rport && a->proto == b->proto &&
           same_addr(&a->remote, &b->remote) && same_addr(&a->local, &b->local);
}

static uint32_t *pin_at(struct portmap *m, const struct engine_flow *f)
{
    uint32_t *at = &m->pin_hash[f->lport % PINS_HASH];

    while (*at && !same_flow(&m->pins[*at].f, f))
        at = &m->pins[*at].next;
    return at;
}

static void count_pins(struct portmap *m, const struct engine_flow *f, int change)
{
    struct port *p = port_of(m, f->proto, f->lport);

    p->pins = (uint16_t)(p->pins + change);
    show(m, f->proto, p, users(p) & PORTMAP_WORKERS);
}

bool portmap_pin(struct portmap *m, unsigned worker, const struct engine_flow *f)
{
    uint32_t *at, i;

    (void)pthread_mutex_lock(&m->lock);
    at = pin_at(m, f);
    i = *at ? NONE : m->pin_free; /* Another worker's connection has the same four numbers: no. */
    if (i)
        m->pin_free = m->pins[i].next;
    else if (!*at && m->pin_high < PORTMAP_PINS_MAX)
        i = ++m->pin_high;
    if (i) {
        m->pins[i] = (struct pin){.f = *f, .worker = (uint16_t)worker};
        *at = i;
        count_pins(m, f, 1);
    }
    (void)pthread_mutex_unlock(&m->lock);
    return i != NONE;
}

void portmap_unpin(struct portmap *m, unsigned worker, const struct engine_flow *f)
{
    uint32_t *at, i;

    (void)pthread_mutex_lock(&m->lock);
    at = pin_at(m, f);
    i = *at;
    if (i && m->pins[i].worker == worker) {
        *at = m->pins[i].next;
        m->pins[i].next = m->pin_free;
        m->pin_free = i;
        count_pins(m, f, -1);
    }
    (void)pthread_mutex_unlock(&m->lock);
}

/* ---- Whose packet is it? ----------------------------------------------------------------------------- */

/* How well a socket fits; 0: not at all. */
static unsigned match(const struct engine_port_use *u, const struct engine_flow *f)
{
    if (is_any(&u->local)) {
        if (u->local.family != f->local.family && (f->local.family != SG_AF_INET || u->v6only))
            return 0;
    } else if (!same_addr(&u->local, &f->local)) {
        return 0;
    }
    if (u->remote.family)
        return same_addr(&u->remote, &f->remote) && u->rport == f->rport ? 3 : 0;
    return is_any(&u->local) ? 1 : 2;
}

/* The worker of the `pick`th of the sockets that fit best, as they are one group. */
static int find_udp(const struct portmap *m, const struct port *p, const struct engine_flow *f, uint32_t hash)
{
    unsigned best = 0, count = 0, pick;

    for (uint32_t i = p->first; i; i = m->bound[i].next) {
        unsigned fit = match(&m->bound[i].u, f);

        count = fit > best ? 1 : count + (fit == best);
        best = fit > best ? fit : best;
    }
    if (!best)
        return -1;
    pick = hash % count;
    for (uint32_t i = p->first; i; i = m->bound[i].next)
        if (match(&m->bound[i].u, f) == best && !pick--)
            return m->bound[i].worker;
    return -1;
}

int portmap_find(struct portmap *m, const struct engine_flow *f, uint32_t hash)
{
    const struct port *p = port_of(m, f->proto, f->lport);
    int worker = -1;

    (void)pthread_mutex_lock(&m->lock);
    if (f->proto == PROTO_UDP) {
        worker = find_udp(m, p, f, hash);
    } else {
        uint32_t i = *pin_at(m, f);

        if (i)
            worker = m->pins[i].worker;
    }
    (void)pthread_mutex_unlock(&m->lock);
    return worker;
}

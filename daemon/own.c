/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/own.h"

#include <string.h>

#include "daemon/log.h"

struct own_list {
    unsigned count;
    struct device_addr v[DEV_ADDRS_MAX];
};

struct own_lists {
    struct own_list dev[ENGINE_DEV_MAX];
};

static void add(struct own_lists *l, uint8_t dev, uint16_t vlan, const struct ip_addr *a)
{
    struct own_list *d = &l->dev[dev];
    struct device_addr *to = &d->v[d->count];

    if (d->count == DEV_ADDRS_MAX) /* More than the engine has. */
        return;
    *to = (struct device_addr){.ip_version = a->family == SG_AF_INET ? 4 : 6, .vlan = vlan};
    memcpy(to->ip, a->ip, a->family == SG_AF_INET ? 4 : 16);
    d->count++;
}

/* Tell all devices that want to know; returns the first refusal, or goes on and logs when `error` is NULL. */
static int tell(const struct stack *s, const struct own_lists *l, char *error, size_t bytes)
{
    char text[CONFIG_ERROR_MAX];

    for (unsigned i = 0; i < s->device_count; i++) {
        struct device *dev = s->devices[i].queues[0];
        int rc = dev->ops->own ? dev->ops->own(dev, l->dev[i].v, l->dev[i].count, error ? error : text,
                                               error ? bytes : sizeof(text))
                               : 0;

        if (rc && error)
            return rc;
        if (rc)
            log_error("%s", text);
    }
    return 0;
}

int own_configured(const struct stack *s, char *error, size_t bytes)
{
    const struct engine_config *e = &s->engine_config;
    struct own_lists l = {.dev[0].count = 0};

    for (unsigned i = 0; i < e->addr_count; i++)
        add(&l, e->ifs[e->addrs[i].ifindex].dev, e->ifs[e->addrs[i].ifindex].vlan, &e->addrs[i].addr);
    return tell(s, &l, error, bytes);
}

/* On the worker's thread. */
static int collect(struct worker *w, void *arg)
{
    struct own_lists *l = arg;
    struct engine_addr_info a;
    struct engine_if_info i;
    uint64_t cursor = 0;

    while (engine_addr_next(worker_engine(w), &cursor, &a))
        if (strcmp(a.state, "duplicate") != 0 && engine_if_info(worker_engine(w), a.ifindex, &i))
            add(l, i.dev, i.vlan, &a.addr);
    return 0;
}

void own_current(const struct stack *s, struct worker *w)
{
    struct own_lists l = {.dev[0].count = 0};

    (void)worker_call(w, collect, &l);
    (void)tell(s, &l, NULL, 0);
}

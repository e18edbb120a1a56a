/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/stack.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/own.h"
#include "daemon/probe.h"
#include "daemon/secret.h"
#include "hw/dpdk.h"

static int fail(char *error, size_t bytes, const char *what, int rc)
{
    (void)snprintf(error, bytes, "%s: %s", what, strerror(-rc));
    return rc;
}

/* ---- DPDK ----------------------------------------------------------------------------------------- */

static_assert((int)DPDK_HUGE_AUTO == ENGINE_AUTO && (int)DPDK_HUGE_ALWAYS == ENGINE_ALWAYS &&
                  (int)DPDK_HUGE_NEVER == ENGINE_NEVER,
              "words of dpdk.huge");

static void dpdk_log(int priority, const char *line)
{
    if (priority == LOG_WARNING)
        log_warning("DPDK: %s", line);
    else
        log_debug("DPDK: %s", line);
}

static void dpdk_settings(struct dpdk_settings *ret, const char *devices[ENGINE_DEV_MAX],
                          const struct config *cfg)
{
    static const char prefix[] = "dpdk:";
    unsigned count = 0;

    for (unsigned i = 0; i < cfg->devices.count; i++)
        if (!strncmp(cfg->devices.v[i].spec, prefix, sizeof(prefix) - 1))
            devices[count++] = cfg->devices.v[i].spec + sizeof(prefix) - 1;
    *ret = (struct dpdk_settings){
        .huge = (enum dpdk_huge)cfg->dpdk_huge,
        .memory_mb = cfg->dpdk_memory_mb,
        .descriptors = cfg->dpdk_descriptors,
        .eal = cfg->dpdk_eal,
        .devices = devices,
        .device_count = count,
        .log = dpdk_log,
    };
}

/* ---- Devices -------------------------------------------------------------------------------------- */

/*
 * A daemon that was killed lets go of its device a moment after it has gone: the kernel ends its io_uring
 * requests in the background. Whoever restarts us is not to be bothered with that.
 */
static int open_device(struct stack *s, const struct config *cfg, const struct dpdk_settings *dpdk,
                       unsigned i, char *error, size_t error_bytes)
{
    const char *kernel_tap = cfg->devices.v[i].kernel_tap;
    struct device_params params = {.mac = config_device_mac(cfg, i),
                                   .mtu = config_device_mtu(cfg, i),
                                   .dpdk = dpdk,
                                   .kernel_tap = kernel_tap[0] ? kernel_tap : NULL};
    struct stack_device *d = &s->devices[i];
    uint64_t until_us = clock_now_us() + STACK_BUSY_US;
    unsigned queues;
    int rc;

    while ((rc = device_open(cfg->devices.v[i].spec, &params, &d->device, &queues, error, error_bytes)) ==
               -EBUSY &&
           clock_now_us() < until_us)
        (void)usleep(STACK_BUSY_STEP_US);
    if (!rc)
        d->device->ops->caps(d->device, &d->caps);
    return rc;
}

static int open_devices(struct stack *s, const struct config *cfg, char *error, size_t error_bytes)
{
    const char *devices[ENGINE_DEV_MAX];
    struct dpdk_settings dpdk;
    int rc = 0;

    dpdk_settings(&dpdk, devices, cfg);
    for (; !rc && s->device_count < cfg->devices.count; s->device_count++)
        rc = open_device(s, cfg, &dpdk, s->device_count, error, error_bytes);
    return rc;
}

/* ---- Interfaces --------------------------------------------------------------------------------- */

static void add_device(struct engine_config *e, const struct stack *s, const struct config *cfg, uint8_t dev)
{
    const struct device_caps *c = &s->devices[dev].caps;
    struct engine_if *i = &e->ifs[e->if_count++];

    *i = (struct engine_if){
        .mtu = c->mtu,
        .offloads = c->offloads,
        .tx_frame_max = c->tx_frame_max,
        .dev = dev,
        .ip6 = cfg->ipv6 && c->mtu >= ENGINE_MTU6_MIN,
        .accept_ra = config_device_ra(cfg, dev),
    };
    memcpy(i->mac, c->mac, sizeof(i->mac));
}

/* The interface of a place; the first address in a VLAN makes it. */
static uint8_t interface_of(struct engine_config *e, const struct config *cfg, const struct config_place *p)
{
    uint8_t dev = (uint8_t)config_device_find(cfg, p->dev); /* config_check() saw that it is there. */
    uint8_t i = 0;

    while (i < e->if_count && (e->ifs[i].dev != dev || e->ifs[i].vlan != p->vlan))
        i++;
    if (i == e->if_count) {
        assert(i < ENGINE_IF_MAX); /* config_check() counted them. */
        e->ifs[i] = e->ifs[dev];   /* A device's own interface has its number. */
        e->ifs[i].vlan = p->vlan;
        e->if_count++;
    }
    return i;
}

static void add_routes(struct engine_config *e, const struct config *cfg, const struct config_routes *l)
{
    for (unsigned i = 0; i < l->count; i++) {
        struct engine_route r = l->v[i];
        const struct config_place *p = &l->place[i];

        if (p->dev[0] || p->vlan || r.gateway.scope)
            r.ifindex = interface_of(e, cfg, p);
        if (r.gateway.scope)
            r.gateway.scope = r.ifindex + 1u;
        e->routes[e->route_count++] = r;
    }
}

static void configure(struct stack *s, const struct config *cfg)
{
    struct engine_config *e = &s->engine_config;

    *e = cfg->engine;
    e->if_count = 0;
    for (uint8_t i = 0; i < s->device_count; i++)
        add_device(e, s, cfg, i);
    e->addr_count = cfg->addresses.count;
    e->dhcp = cfg->addresses.dhcp;
    e->dhcp_if = interface_of(e, cfg, &cfg->addresses.dhcp_place);
    memcpy(e->addrs, cfg->addresses.v, sizeof(e->addrs));
    for (unsigned i = 0; i < cfg->addresses.count; i++)
        e->addrs[i].ifindex = interface_of(e, cfg, &cfg->addresses.place[i]);
    add_routes(e, cfg, &cfg->gateways);
    add_routes(e, cfg, &cfg->routes);
}

/* ---- Addresses ------------------------------------------------------------------------------------ */

static int probe(struct stack *s, const struct config *cfg, unsigned at, char *error, size_t error_bytes)
{
    const struct ip_addr *addr = &cfg->addresses.v[at].addr;
    int dev = config_device_find(cfg, cfg->addresses.place[at].dev);
    const struct stack_device *d = &s->devices[dev];
    char text[INET6_ADDRSTRLEN];
    uint8_t mac[6];
    int rc = probe_run(d->device, d->caps.mac, addr->ip, cfg->probe_ms, mac);

    if (!rc)
        return 0;
    if (rc != -EADDRINUSE)
        return fail(error, error_bytes, "the device failed while asking for the address", rc);
    (void)config_addr_text(addr, text);
    (void)snprintf(
        error, error_bytes,
        "the address %s is in use on %s by the host with hardware address %02x:%02x:%02x:%02x:%02x:%02x; "
        "choose another with --address",
        text, cfg->devices.v[dev].spec, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    return rc;
}

/* IPv4 without a tag only: IPv6 has its own way, which the engine goes (RFC 4862 5.4). */
static int probe_all(struct stack *s, const struct config *cfg, char *error, size_t error_bytes)
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < cfg->addresses.count; i++)
        if (cfg->addresses.v[i].addr.family == SG_AF_INET && !cfg->addresses.place[i].vlan)
            rc = probe(s, cfg, i, error, error_bytes);
    return rc;
}

/* ---- Memory ----------------------------------------------------------------------------------------- */

static int allocate(struct stack *s)
{
    s->arena_bytes = engine_arena_bytes(&s->engine_config);
    s->scratch_bytes = engine_scratch_bytes(&s->engine_config);
    s->arena_fd = memfd_create("sockgate-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (s->arena_fd < 0 || ftruncate(s->arena_fd, (off_t)s->arena_bytes))
        return -errno;
    s->arena = mmap(NULL, s->arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->arena_fd, 0);
    if (s->arena == MAP_FAILED) {
        s->arena = NULL;
        return -errno;
    }
    s->scratch = mmap(NULL, s->scratch_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->scratch == MAP_FAILED) {
        s->scratch = NULL;
        return -errno;
    }
    return 0;
}

int stack_open(struct stack *s, const struct config *cfg, const uint8_t *stored, char *error,
               size_t error_bytes)
{
    int rc;

    *s = STACK_CLOSED;
    rc = open_devices(s, cfg, error, error_bytes);
    if (rc)
        return rc;
    configure(s, cfg);
    rc = own_configured(s, error, error_bytes);
    if (!rc)
        rc = probe_all(s, cfg, error, error_bytes);
    if (rc)
        return rc;
    rc = secret_random(s->engine_config.secret, sizeof(s->engine_config.secret));
    if (rc)
        return fail(error, error_bytes, "no random numbers (getrandom)", rc);
    memcpy(s->engine_config.stable_secret, stored ? stored : s->engine_config.secret,
           sizeof(s->engine_config.stable_secret));
    rc = allocate(s);
    if (rc)
        return fail(error, error_bytes, "no memory for the tables; lower the numbers in [limits]", rc);
    s->engine = engine_init(s->arena, s->scratch, &s->engine_config, clock_now_us());
    if (!s->engine) {
        (void)snprintf(error, error_bytes,
                       "the engine refuses these settings with an MTU of %u and frames of %u bytes; see "
                       "[limits] and [network] in sockgated.conf(5)",
                       s->devices[0].caps.mtu, s->devices[0].caps.tx_frame_max);
        return -EINVAL;
    }
    engine_announce(s->engine, clock_now_us());
    return 0;
}

void stack_close(struct stack *s)
{
    if (s->scratch)
        (void)munmap(s->scratch, s->scratch_bytes);
    if (s->arena)
        (void)munmap(s->arena, s->arena_bytes);
    if (s->arena_fd >= 0)
        (void)close(s->arena_fd);
    for (unsigned i = 0; i < ENGINE_DEV_MAX; i++)
        if (s->devices[i].device)
            s->devices[i].device->ops->close(s->devices[i].device);
    *s = STACK_CLOSED;
}

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

static void close_queues(struct stack_device *d)
{
    for (unsigned i = 0; i < d->queue_count; i++)
        d->queues[i]->ops->close(d->queues[i]);
    d->queue_count = 0;
}

/*
 * A daemon that was killed lets go of its device a moment after it has gone: the kernel ends its io_uring
 * requests in the background. Whoever restarts us is not to be bothered with that.
 */
static int open_queues(struct stack_device *d, const char *spec, const struct device_params *params,
                       char *error, size_t error_bytes)
{
    uint64_t until_us = clock_now_us() + STACK_BUSY_US;
    unsigned count = 0;
    int rc;

    while ((rc = device_open(spec, params, d->queues, &count, error, error_bytes)) == -EBUSY &&
           clock_now_us() < until_us)
        (void)usleep(STACK_BUSY_STEP_US);
    d->queue_count = rc ? 0 : count;
    return rc;
}

static int open_device(struct stack *s, const struct config *cfg, const struct dpdk_settings *dpdk,
                       unsigned i, char *error, size_t error_bytes)
{
    const char *kernel_tap = cfg->devices.v[i].kernel_tap;
    struct device_params params = {.mac = config_device_mac(cfg, i),
                                   .mtu = config_device_mtu(cfg, i),
                                   .queues = (uint16_t)cfg->workers,
                                   .dpdk = dpdk,
                                   .kernel_tap = kernel_tap[0] ? kernel_tap : NULL};
    struct stack_device *d = &s->devices[i];
    const char *spec = cfg->devices.v[i].spec;
    int rc = secret_random((uint8_t *)&params.seed, sizeof(params.seed));

    if (rc)
        return fail(error, error_bytes, "no random numbers (getrandom)", rc);
    rc = open_queues(d, spec, &params, error, error_bytes);
    if (!rc && d->queue_count != cfg->workers && d->queue_count != 1) {
        close_queues(d); /* Some workers would have one and others none. */
        params.queues = 1;
        rc = open_queues(d, spec, &params, error, error_bytes);
    }
    if (rc)
        return rc;
    d->queues[0]->ops->caps(d->queues[0], &d->caps);
    if (s->cluster)
        cluster_device(s->cluster, i, &d->caps, d->queue_count, params.seed);
    return 0;
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
    int rc = probe_run(d->queues[0], d->caps.mac, addr->ip, cfg->probe_ms, mac);

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

/* ---- Engines ---------------------------------------------------------------------------------------- */

static uint32_t part(uint32_t whole, uint32_t n)
{
    return (whole + n - 1) / n;
}

/*
 * What is one limit for the daemon is divided between the engines. Not what any of them may need as a whole:
 * a listener is on all, sockets may all happen to be one worker's, neighbours are everybody's.
 */
static void divide(struct engine_config *e, uint32_t n)
{
    e->conn_max = part(e->conn_max, n);
    e->req_max = part(e->req_max, n);
    e->orphan_max = part(e->orphan_max, n);
    e->orphan_bytes_max /= n;
    e->tw_max = part(e->tw_max, n);
    e->range_max = part(e->range_max, n);
    e->txseg_max = part(e->txseg_max, n);
    e->flight_max = part(e->flight_max, n);
    e->path_max = part(e->path_max, n);
    e->reasm_max = part(e->reasm_max, n);
    e->frag_max = part(e->frag_max, n);
    e->icmp_rate = part(e->icmp_rate, n);
    e->challenge_ack_rate = part(e->challenge_ack_rate, n);
}

static int allocate(struct stack_engine *s, const struct engine_config *cfg)
{
    s->arena_bytes = engine_arena_bytes(cfg);
    s->scratch_bytes = engine_scratch_bytes(cfg);
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

static int start_engine(struct stack *s, char *error, size_t error_bytes)
{
    struct stack_engine *se = &s->engines[s->engine_count];
    struct engine_config cfg = s->engine_config;
    int rc;

    if (s->cluster)
        cfg.peers = cluster_peers(s->cluster, s->engine_count);
    cfg.dhcp = cfg.dhcp && !s->engine_count; /* The first leads. */
    s->engine_count++;
    se->arena_fd = -1;
    rc = allocate(se, &cfg);
    if (rc)
        return fail(error, error_bytes, "no memory for the tables; lower the numbers in [limits]", rc);
    se->engine = engine_init(se->arena, se->scratch, &cfg, clock_now_us());
    if (!se->engine) {
        (void)snprintf(error, error_bytes,
                       "the engine refuses these settings with an MTU of %u and frames of %u bytes; see "
                       "[limits] and [network] in sockgated.conf(5)",
                       s->devices[0].caps.mtu, s->devices[0].caps.tx_frame_max);
        return -EINVAL;
    }
    engine_announce(se->engine, clock_now_us());
    return 0;
}

static int make_secrets(struct stack *s, const uint8_t *stored, char *error, size_t error_bytes)
{
    int rc = secret_random(s->engine_config.secret, sizeof(s->engine_config.secret));

    if (rc)
        return fail(error, error_bytes, "no random numbers (getrandom)", rc);
    memcpy(s->engine_config.stable_secret, stored ? stored : s->engine_config.secret,
           sizeof(s->engine_config.stable_secret));
    return 0;
}

int stack_open(struct stack *s, const struct config *cfg, const uint8_t *stored, char *error,
               size_t error_bytes)
{
    int rc;

    *s = STACK_CLOSED;
    rc = cfg->workers > 1 ? cluster_create(cfg, &s->cluster) : 0;
    if (rc)
        return fail(error, error_bytes, "no memory for the rings between workers; lower worker.count", rc);
    rc = open_devices(s, cfg, error, error_bytes);
    if (rc)
        return rc;
    configure(s, cfg);
    divide(&s->engine_config, cfg->workers);
    if (s->cluster)
        cluster_interfaces(s->cluster, &s->engine_config);
    rc = own_configured(s, error, error_bytes);
    if (!rc)
        rc = probe_all(s, cfg, error, error_bytes);
    if (!rc)
        rc = make_secrets(s, stored, error, error_bytes);
    while (!rc && s->engine_count < cfg->workers)
        rc = start_engine(s, error, error_bytes);
    return rc;
}

void stack_close(struct stack *s)
{
    for (unsigned i = 0; i < s->engine_count; i++) {
        struct stack_engine *se = &s->engines[i];

        if (se->scratch)
            (void)munmap(se->scratch, se->scratch_bytes);
        if (se->arena)
            (void)munmap(se->arena, se->arena_bytes);
        if (se->arena_fd >= 0)
            (void)close(se->arena_fd);
    }
    for (unsigned i = 0; i < ENGINE_DEV_MAX; i++)
        close_queues(&s->devices[i]);
    cluster_free(s->cluster);
    *s = STACK_CLOSED;
}

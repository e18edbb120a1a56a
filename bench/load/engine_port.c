/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/engine_port.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <syslog.h>
#include <time.h>

#include "hw/dpdk.h"

#define HEAP_BYTES  (UINT64_C(16) << 30) /* address space; touched pages cost */
#define CONN_SPARE  64u
#define LISTENERS   64u
#define IDLE_US_MAX 100000u
#define POLL_US     100u    /* between looks at a device that can\'t wake us */
#define LINK_US     100000u /* between looks at the link */
#define DPDK_MB     128u

static void *zeroed(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* Room for every connection at once in each pool, so that no limit of ours is what is measured. */
static void configure(struct engine_config *cfg, const struct net_params *p, const struct device_caps *caps)
{
    engine_config_default(cfg);
    cfg->conn_max = p->connections + CONN_SPARE;
    cfg->listen_max = LISTENERS;
    cfg->req_max = cfg->flight_max = cfg->reasm_max = cfg->path_max = cfg->conn_max;
    cfg->session_max = 1;
    cfg->port_min = 1024;
    cfg->port_max = 65535;
    cfg->ifs[0] =
        (struct engine_if){.mtu = caps->mtu, .offloads = caps->offloads, .tx_frame_max = caps->tx_frame_max};
    memcpy(cfg->ifs[0].mac, caps->mac, sizeof(caps->mac));
    engine_config_addr4(cfg, p->address, p->prefix);
}

static int open_engine(const struct net_params *p, struct engine_port *port)
{
    struct engine_config cfg;
    struct device_caps caps;

    port->device->ops->caps(port->device, &caps);
    configure(&cfg, p, &caps);
    if (getrandom(cfg.secret, sizeof(cfg.secret), 0) != sizeof(cfg.secret))
        return -EIO;
    memcpy(cfg.stable_secret, cfg.secret, sizeof(cfg.secret));
    port->arena_bytes = engine_arena_bytes(&cfg);
    port->scratch_bytes = engine_scratch_bytes(&cfg);
    port->arena = zeroed(port->arena_bytes);
    port->scratch = zeroed(port->scratch_bytes);
    if (!port->arena || !port->scratch)
        return -ENOMEM;
    port->now_us = net_now_ns() / 1000;
    port->e = engine_init(port->arena, port->scratch, &cfg, port->now_us);
    return port->e ? 0 : -EINVAL;
}

static int open_session(const struct net_params *p, struct engine_port *port)
{
    uint64_t heap_off;
    struct engine_session s;

    port->slot_count = p->connections + CONN_SPARE + 1; /* slot 0 is none */
    heap_off =
        (port->slot_count * sizeof(struct sg_slot) + SG_PAGE_BYTES - 1) & ~(uint64_t)(SG_PAGE_BYTES - 1);
    port->segment_bytes = heap_off + HEAP_BYTES;
    port->segment = zeroed(port->segment_bytes);
    port->slot_sock = calloc(1, engine_slot_map_bytes(port->slot_count));
    port->heap_meta = zeroed(segheap_meta_bytes(HEAP_BYTES));
    if (!port->segment || !port->slot_sock || !port->heap_meta)
        return -ENOMEM;
    port->slots = (void *)port->segment;
    s = (struct engine_session){
        .base = port->segment,
        .bytes = port->segment_bytes,
        .slots = port->slots,
        .slot_count = port->slot_count,
        .heap_off = heap_off,
        .heap_bytes = HEAP_BYTES,
        .slot_sock = port->slot_sock,
        .heap_meta = port->heap_meta,
        .buffer_bytes_max = HEAP_BYTES,
        .sockets_max = port->slot_count - 1,
    };
    port->sid = engine_session_add(port->e, &s, port->now_us);
    return port->sid < 0 ? port->sid : 0;
}

static void dpdk_line(int priority, const char *line)
{
    if (priority == LOG_WARNING)
        (void)fprintf(stderr, "sockgate-load: DPDK: %s\n", line);
}

static int open_device(const struct net_params *p, struct engine_port *port, char error[NET_ERROR_MAX])
{
    static const char prefix[] = "dpdk:";
    bool dpdk = !strncmp(p->device, prefix, sizeof(prefix) - 1);
    const char *const devices[1] = {dpdk ? p->device + sizeof(prefix) - 1 : ""};
    const struct dpdk_settings settings = {.huge = DPDK_HUGE_AUTO,
                                           .memory_mb = DPDK_MB,
                                           .eal = "",
                                           .devices = devices,
                                           .device_count = 1,
                                           .log = dpdk_line};
    const struct device_params params = {.queues = 1, .dpdk = dpdk ? &settings : NULL};
    unsigned queues;

    return device_open(p->device, &params, &port->device, &queues, error, NET_ERROR_MAX);
}

int engine_port_open(const struct net_params *p, const bool *spin, struct engine_port *port,
                     char error[NET_ERROR_MAX])
{
    int rc;

    memset(port, 0, sizeof(*port));
    port->spin = spin;
    rc = open_device(p, port, error);
    if (rc)
        return rc;
    rc = open_engine(p, port);
    if (!rc)
        rc = open_session(p, port);
    if (rc) {
        (void)snprintf(error, NET_ERROR_MAX, "engine: %s", strerror(-rc));
        engine_port_close(port);
        return rc;
    }
    engine_announce(port->e, port->now_us);
    return 0;
}

static void unmap(void *p, size_t bytes)
{
    if (p)
        (void)munmap(p, bytes);
}

void engine_port_close(struct engine_port *p)
{
    p->device->ops->close(p->device);
    unmap(p->arena, p->arena_bytes);
    unmap(p->scratch, p->scratch_bytes);
    unmap(p->segment, p->segment_bytes);
    unmap(p->heap_meta, segheap_meta_bytes(HEAP_BYTES));
    free(p->slot_sock);
}

static void take_kicks(struct engine_port *p)
{
    if (p->kick_count)
        engine_kick(p->e, p->sid, p->kicks, p->kick_count, p->now_us);
    p->kick_count = 0;
}

void engine_port_kick(struct engine_port *p, uint32_t slot)
{
    struct sg_slot *s = &p->slots[slot];

    if (s->d.kick_seen != s->a.kick_posted)
        return;
    s->a.kick_posted++;
    p->kicks[p->kick_count++] = slot;
    if (p->kick_count == PORT_KICKS_MAX)
        take_kicks(p);
}

static int transmit(struct engine_port *p)
{
    struct pktbuf *pkts[DEV_TX_BURST_MAX];
    unsigned n;
    int taken;

    while ((n = engine_tx_peek(p->e, 0, pkts, DEV_TX_BURST_MAX, p->now_us))) {
        taken = p->device->ops->tx_burst(p->device, pkts, n);
        if (taken < 0)
            return taken;
        engine_tx_consume(p->e, 0, (unsigned)taken);
        if ((unsigned)taken < n)
            break;
    }
    return 0;
}

/* Events that find no room stay with the engine until the next turn. */
static int take_events(struct engine_port *p, uint32_t ret[], unsigned max)
{
    struct engine_event ev;
    unsigned n = 0;

    while (n < max && engine_event_next(p->e, &ev)) {
        if (ev.kind == ENGINE_EV_FAULT)
            return -EPROTO;
        if (ev.kind == ENGINE_EV_RELEASE) {
            (void)engine_release(p->e, p->sid, ev.slot); /* refused while it is in use */
            continue;
        }
        sg_store_relaxed_u32(&p->slots[ev.slot].a.ev_seen, p->slots[ev.slot].d.ev_posted); /* [S5] */
        ret[n++] = ev.slot;
    }
    return (int)n;
}

/* A device may need to be asked for its link to come up at all (a memif's client). */
static void look_at_link(struct engine_port *p)
{
    struct device_link l;
    struct engine_link now;

    p->link_us = p->now_us + LINK_US;
    if (!p->device->ops->link)
        return;
    p->device->ops->link(p->device, &l);
    now = (struct engine_link){.up = l.up, .mtu = l.mtu};
    if (now.up != p->link.up || now.mtu != p->link.mtu)
        engine_link(p->e, 0, &now, p->now_us);
    p->link = now;
}

int engine_port_turn(struct engine_port *p, uint32_t ret[], unsigned max)
{
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    int n, rc;

    p->now_us = net_now_ns() / 1000;
    if (p->now_us >= p->link_us)
        look_at_link(p);
    take_kicks(p);
    engine_timers(p->e, p->now_us);
    rc = transmit(p);
    if (rc)
        return rc;
    n = p->device->ops->rx_burst(p->device, pkts, DEV_RX_BURST_MAX);
    if (n < 0)
        return n;
    for (int i = 0; i < n; i++)
        pkts[i]->dev = 0;
    if (n)
        engine_rx(p->e, pkts, (unsigned)n, p->now_us);
    engine_publish(p->e, p->now_us);
    return take_events(p, ret, max);
}

void engine_port_idle(struct engine_port *p, uint64_t us)
{
    int fd = p->device->ops->wait_fd(p->device);
    uint64_t deadline = engine_deadline(p->e), now = net_now_ns() / 1000;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    struct timespec ts;

    if (*p->spin || p->device->ops->rx_pending(p->device) || engine_tx_pending(p->e))
        return;
    if (fd < 0 && us > POLL_US)
        us = POLL_US;
    if (deadline < now + us)
        us = deadline > now ? deadline - now : 0;
    if (us > IDLE_US_MAX)
        us = IDLE_US_MAX;
    ts = (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    (void)ppoll(&wait, fd >= 0, &ts, NULL); /* whatever it says, the next turn looks */
}

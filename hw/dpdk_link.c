/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link of a port. Drivers that interrupt when it changes wake whoever watches at once; others are looked
 * at every LOOK_MS. A port that was pulled out ends its queues with an error.
 *
 * The client's end of a memif finds its server once, when it is started. So without a link we stop and
 * start it until there is one. No burst may run meanwhile: the queues' threads are asked to keep off, and
 * the port is touched when all have answered that they do.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "hw/dpdk_int.h"

#define LOOK_MS   250
#define NS_PER_MS 1000000L
#define PATIENCE  8 /* looks until a start that brought no link is tried again */

/* The interrupt thread's: it only rings. */
static int ring(uint16_t port_id, enum rte_eth_event_type type, void *arg, void *unused)
{
    const struct dpdk_port *p = arg;
    const uint64_t one = 1;

    (void)port_id;
    (void)type;
    (void)unused;
    return write(p->link.event_fd, &one, sizeof(one)) < 0 && errno != EAGAIN ? -1 : 0;
}

void dpdk_state(struct dpdk_port *p, unsigned set, unsigned clear)
{
    for (unsigned i = 0; i < p->queue_count; i++) {
        __atomic_fetch_or(&p->queues[i]->state, (uint8_t)set, __ATOMIC_RELEASE);
        __atomic_fetch_and(&p->queues[i]->state, (uint8_t)~clear, __ATOMIC_RELEASE);
    }
}

static int removed(uint16_t port_id, enum rte_eth_event_type type, void *arg, void *unused)
{
    dpdk_state(arg, DPDK_REMOVED, 0);
    return ring(port_id, type, arg, unused);
}

static int start_timer(struct dpdk_link *l)
{
    const struct itimerspec every = {.it_interval.tv_nsec = LOOK_MS * NS_PER_MS,
                                     .it_value.tv_nsec = LOOK_MS * NS_PER_MS};

    l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return l->timer_fd < 0 || timerfd_settime(l->timer_fd, 0, &every, NULL) ? -errno : 0;
}

static int watch(struct dpdk_link *l, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};

    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int dpdk_link_open(struct dpdk_port *p)
{
    struct dpdk_link *l = &p->link;
    int rc;

    /* Readable at once: how the link is has still to be found out. */
    l->event_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l->event_fd < 0 || l->epoll_fd < 0)
        return -errno;
    rc = watch(l, l->event_fd);
    if (!rc && !p->conf.intr_conf.lsc && !(rc = start_timer(l)))
        rc = watch(l, l->timer_fd);
    if (!rc)
        rc = rte_eth_dev_callback_register(p->id, RTE_ETH_EVENT_INTR_LSC, ring, p);
    if (!rc)
        rc = rte_eth_dev_callback_register(p->id, RTE_ETH_EVENT_INTR_RMV, removed, p);
    return rc;
}

void dpdk_link_close(struct dpdk_port *p)
{
    struct dpdk_link *l = &p->link;

    if (l->event_fd < 0)
        return;
    /* Refused while the interrupt thread is inside: it does not stay there. */
    while (rte_eth_dev_callback_unregister(p->id, RTE_ETH_EVENT_INTR_LSC, ring, p) == -EAGAIN)
        continue;
    while (rte_eth_dev_callback_unregister(p->id, RTE_ETH_EVENT_INTR_RMV, removed, p) == -EAGAIN)
        continue;
    (void)close(l->event_fd);
    if (l->timer_fd >= 0)
        (void)close(l->timer_fd);
    if (l->epoll_fd >= 0)
        (void)close(l->epoll_fd);
    *l = DPDK_LINK_CLOSED;
}

int dpdk_link_fd(struct device *dev)
{
    return dpdk_queue_of(dev)->port->link.epoll_fd;
}

/** True when all queues' threads have answered; the answers are taken. */
static bool all_keep_off(struct dpdk_port *p)
{
    for (unsigned i = 0; i < p->queue_count; i++)
        if (!__atomic_load_n(&p->queues[i]->kept_off, __ATOMIC_ACQUIRE))
            return false;
    return true;
}

/** A step towards a link, at each look that finds none. */
static void restart(struct dpdk_port *p)
{
    if (p->patience) {
        p->patience--;
        return;
    }
    if (!(__atomic_load_n(&p->queues[0]->state, __ATOMIC_RELAXED) & DPDK_KEEP_OFF)) {
        for (unsigned i = 0; i < p->queue_count; i++)
            __atomic_store_n(&p->queues[i]->kept_off, false, __ATOMIC_RELAXED);
        dpdk_state(p, DPDK_KEEP_OFF, 0);
        return;
    }
    if (!all_keep_off(p))
        return;
    if (p->started)
        (void)rte_eth_dev_stop(p->id);
    p->started = rte_eth_dev_start(p->id) == 0;
    if (!p->started)
        return;
    p->patience = PATIENCE;
    dpdk_state(p, 0, DPDK_KEEP_OFF);
}

void dpdk_link_state(struct device *dev, struct device_link *ret)
{
    struct dpdk_port *p = dpdk_queue_of(dev)->port;
    struct rte_eth_link link;
    uint64_t count;
    bool up;

    (void)!read(p->link.event_fd, &count, sizeof(count));
    (void)!read(p->link.timer_fd, &count, sizeof(count));
    up = p->started && !rte_eth_link_get_nowait(p->id, &link) && link.link_status == RTE_ETH_LINK_UP;
    *ret = (struct device_link){.up = up, .mtu = p->caps.mtu};
    (void)rte_eth_dev_get_mtu(p->id, &ret->mtu);
    dpdk_state(p, up ? 0 : DPDK_DOWN, up ? DPDK_DOWN : 0);
    if (rte_eth_dev_is_removed(p->id) == 1)
        (void)removed(p->id, RTE_ETH_EVENT_INTR_RMV, p, NULL);
    else if (!up && p->restarts)
        restart(p);
}

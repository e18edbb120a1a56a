/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sockgated: start-up, the control thread's loop, and shutdown. Each step of start() is undone by stop() in
 * the reverse order, also when start() stopped half way.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/config.h"
#include "daemon/control.h"
#include "daemon/control_socket.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/own.h"
#include "daemon/secret.h"
#include "daemon/session.h"
#include "daemon/stack.h"
#include "daemon/user.h"
#include "daemon/worker.h"

struct daemon {
    const struct config *cfg;
    int signal_fd;
    struct control_socket socket;
    struct stack stack;
    struct sg_status *status;
    int status_fd;
    uint64_t boot_id;
    struct worker *workers[SG_WORKERS_MAX];
    struct control *control;
    uint64_t watchdog_us; /* how often to feed it; 0: there is none */
    uint64_t watchdog_next_us;
};

/* And then the workers' news and the links of the devices. */
enum { WAIT_SIGNAL, WAIT_CONTROL, WAIT_COUNT };

/* ---- Start ------------------------------------------------------------------------------------------- */

/* Blocked before any thread starts, so that all threads inherit it. */
static int open_signals(struct daemon *d, char *error, size_t bytes)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (d->signal_fd >= 0)
        return 0;
    (void)snprintf(error, bytes, "signalfd: %s", strerror(errno));
    return -errno;
}

static int become_user(struct daemon *d, char *error, size_t bytes)
{
    uid_t uid;
    gid_t gid;
    int rc;

    if (!d->cfg->user[0])
        return 0;
    rc = user_find(d->cfg->user, &uid, &gid, error, bytes);
    if (rc)
        return rc;
    rc = control_socket_chown(&d->socket, uid);
    if (rc) {
        (void)snprintf(error, bytes, "daemon.user: %s can't be given to %s: %s", d->socket.path, d->cfg->user,
                       strerror(-rc));
        return rc;
    }
    return user_become(d->cfg->user, uid, gid, error, bytes);
}

static int open_status(struct daemon *d, char *error, size_t bytes)
{
    int rc = 0;

    if (getrandom(&d->boot_id, sizeof(d->boot_id), 0) != sizeof(d->boot_id))
        rc = -EIO;
    if (!rc)
        rc = session_status_create(d->boot_id, d->cfg->workers, &d->status, &d->status_fd);
    if (rc)
        (void)snprintf(error, bytes, "the status page can't be made: %s", strerror(-rc));
    return rc;
}

static int make_worker(struct daemon *d, unsigned w)
{
    struct worker_params p = {
        .cfg = d->cfg,
        .index = w,
        .cluster = d->stack.cluster,
        .engine = d->stack.engines[w].engine,
        .port_count = d->stack.device_count,
        .status = &d->status->worker[w],
    };

    for (unsigned i = 0; i < p.port_count; i++) {
        const struct stack_device *sd = &d->stack.devices[i];

        p.ports[i] = (struct worker_port){.device = w < sd->queue_count ? sd->queues[w] : NULL,
                                          .name = d->cfg->devices.v[i].spec,
                                          .link = {.up = true, .mtu = sd->caps.mtu}};
    }
    return worker_create(&p, &d->workers[w]);
}

/* All are made before the first runs: they know of one another. */
static int start_workers(struct daemon *d, char *error, size_t bytes)
{
    int rc = 0;

    for (unsigned w = 0; !rc && w < d->cfg->workers; w++)
        rc = make_worker(d, w);
    for (unsigned w = 0; !rc && w < d->cfg->workers; w++)
        rc = worker_start(d->workers[w]);
    if (rc == -ENOSYS || rc == -EPERM)
        (void)snprintf(
            error, bytes,
            "the kernel gives us no io_uring (%s); allow it with sysctl kernel.io_uring_disabled=0, "
            "and in the seccomp profile of a container",
            strerror(-rc));
    else if (rc)
        (void)snprintf(error, bytes, "the worker can't be started: %s", strerror(-rc));
    return rc;
}

static int start_control(struct daemon *d, char *error, size_t bytes)
{
    struct control_params p = {
        .cfg = d->cfg,
        .socket = &d->socket,
        .boot_id = d->boot_id,
        .status_fd = d->status_fd,
        .features = SG_FEATURE_TCP4 | SG_FEATURE_UDP4 | SG_FEATURE_TCP6 | SG_FEATURE_UDP6,
    };
    int rc;

    memcpy(p.workers, d->workers, sizeof(p.workers));
    rc = control_open(&p, &d->control);
    if (rc)
        (void)snprintf(error, bytes, "the control server can't be started: %s", strerror(-rc));
    return rc;
}

/* Without a stored secret the daemon serves all the same. */
static void complain_of_secret(int rc, const char *why)
{
    if (rc == -EBADMSG || rc == -EPERM)
        log_warning("no stored secret: %s; IPv6 addresses and Fast Open cookies change with this start", why);
    else if (rc)
        log_info("no stored secret: %s; IPv6 addresses and Fast Open cookies change with each start", why);
}

static int open_stack(struct daemon *d, char *error, size_t bytes)
{
    const char *path = d->cfg->secret_file;
    uint8_t secret[SECRET_BYTES];
    char why[CONFIG_ERROR_MAX];
    int loaded = path[0] ? secret_load(path, secret, why, sizeof(why)) : 0;
    int rc = stack_open(&d->stack, d->cfg, path[0] && !loaded ? secret : NULL, error, bytes);

    if (!rc)
        complain_of_secret(loaded, why);
    return rc;
}

static int start(struct daemon *d, char *error, size_t bytes)
{
    int rc;

    user_raise_descriptors();
    if ((rc = open_signals(d, error, bytes)))
        return rc;
    if ((rc = control_socket_open(&d->socket, d->cfg, error, bytes)))
        return rc;
    if ((rc = open_stack(d, error, bytes)))
        return rc;
    if ((rc = become_user(d, error, bytes)))
        return rc;
    if ((rc = open_status(d, error, bytes)))
        return rc;
    if ((rc = start_workers(d, error, bytes)))
        return rc;
    return start_control(d, error, bytes);
}

static void stop(struct daemon *d)
{
    if (d->control)
        control_drain(d->control); /* While the workers can still be called. */
    for (unsigned w = 0; w < d->cfg->workers; w++)
        worker_stop(d->workers[w]);
    control_close(d->control);
    for (unsigned w = 0; w < d->cfg->workers; w++)
        worker_free(d->workers[w]);
    stack_close(&d->stack);
    if (d->status)
        (void)munmap(d->status, SG_PAGE_BYTES);
    if (d->status_fd >= 0)
        (void)close(d->status_fd);
    control_socket_close(&d->socket);
    if (d->signal_fd >= 0)
        (void)close(d->signal_fd);
}

/* ---- Serve ------------------------------------------------------------------------------------------- */

/* The signal that asks us to stop, or 0. */
static int take_signal(struct daemon *d)
{
    struct signalfd_siginfo info;

    while (read(d->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo != SIGHUP)
            return (int)info.ssi_signo;
        log_info("SIGHUP: settings are read at start only; restart sockgated to use new ones");
    }
    return 0;
}

/* The service manager hears from us only as long as all workers turn. */
static void feed_watchdog(struct daemon *d, uint64_t now_us)
{
    if (!d->watchdog_us || now_us < d->watchdog_next_us)
        return;
    for (unsigned w = 0; w < d->cfg->workers; w++)
        (void)worker_call(d->workers[w], worker_ping, NULL);
    (void)sd_notify(0, "WATCHDOG=1");
    d->watchdog_next_us = now_us + d->watchdog_us;
}

static int wait_ms(const struct daemon *d, uint64_t until_us, uint64_t now_us)
{
    uint64_t us;

    if (d->watchdog_us && d->watchdog_next_us < until_us)
        until_us = d->watchdog_next_us;
    if (control_deadline(d->control) < until_us)
        until_us = control_deadline(d->control);
    if (until_us == UINT64_MAX)
        return -1;
    us = until_us > now_us ? until_us - now_us : 0;
    return us > 3600 * UINT64_C(1000000) ? 3600 * 1000 : (int)((us + 999) / 1000);
}

static int link_fd(struct device *dev)
{
    return dev->ops->link_fd ? dev->ops->link_fd(dev) : -1;
}

static void look_at_link(struct daemon *d, unsigned i)
{
    struct device *dev = d->stack.devices[i].queues[0];
    const char *spec = d->cfg->devices.v[i].spec;
    struct worker_link l = {.port = i};
    bool news = false;

    dev->ops->link(dev, &l.link);
    for (unsigned w = 0; w < d->cfg->workers; w++)
        news |= worker_call(d->workers[w], worker_link, &l) != 0;
    if (!news)
        return;
    if (!l.link.up)
        log_warning("%s: the link is down", spec);
    else if (l.link.mtu < ENGINE_MTU_MIN)
        log_warning("%s: an MTU of %u is below %u: taken to be down", spec, l.link.mtu, ENGINE_MTU_MIN);
    else
        log_info("%s: the link is up, MTU %u", spec, l.link.mtu);
}

/**
 * One round of the control thread: sleep until something happens, but not beyond `until_us`, and serve it.
 * Returns a signal that asks us to stop, 0, or -EIO when a worker failed.
 */
static int serve_round(struct daemon *d, uint64_t until_us)
{
    struct pollfd fds[WAIT_COUNT + SG_WORKERS_MAX + ENGINE_DEV_MAX] = {
        [WAIT_SIGNAL] = {.fd = d->signal_fd, .events = POLLIN},
        [WAIT_CONTROL] = {.fd = control_fd(d->control), .events = POLLIN},
    };
    struct pollfd *links = fds + WAIT_COUNT + d->cfg->workers;
    uint64_t now_us = clock_now_us();

    for (unsigned w = 0; w < d->cfg->workers; w++)
        fds[WAIT_COUNT + w] = (struct pollfd){.fd = worker_news_fd(d->workers[w]), .events = POLLIN};
    for (unsigned i = 0; i < d->stack.device_count; i++)
        links[i] = (struct pollfd){.fd = link_fd(d->stack.devices[i].queues[0]), .events = POLLIN};
    if (poll(fds, WAIT_COUNT + d->cfg->workers + d->stack.device_count, wait_ms(d, until_us, now_us)) < 0 &&
        errno != EINTR)
        log_error("poll: %s", strerror(errno));
    bool look = worker_addresses_changed(d->workers[0]);

    for (unsigned i = 0; i < d->stack.device_count; i++) {
        if (!links[i].revents)
            continue;
        look_at_link(d, i);
        look = true; /* The kernel may have been given an address of ours. */
    }
    if (look)
        own_current(&d->stack, d->workers[0]);
    now_us = clock_now_us();
    feed_watchdog(d, now_us);
    if (control_take_news(d->control))
        return -EIO;
    control_serve(d->control, now_us);
    return take_signal(d);
}

/* Connections of ended sessions get time to send their last bytes; a second signal cuts it short. */
static int drain(struct daemon *d)
{
    uint64_t until_us = clock_now_us() + (uint64_t)d->cfg->drain_ms * 1000;
    int rc = 0;

    control_drain(d->control);
    while (!rc && control_session_count(d->control) && clock_now_us() < until_us)
        rc = serve_round(d, until_us);
    if (control_session_count(d->control))
        log_warning("stopped with the last bytes of %u sessions unsent", control_session_count(d->control));
    return rc < 0 ? rc : 0;
}

/* The first address of a device, for people. */
static const char *first_address(const struct config *cfg, unsigned dev, char *buf, size_t bytes)
{
    const struct config_addrs *a = &cfg->addresses;
    char addr[INET6_ADDRSTRLEN];

    for (unsigned i = 0; i < a->count; i++) {
        if (config_device_find(cfg, a->place[i].dev) != (int)dev)
            continue;
        (void)snprintf(buf, bytes, "%s/%u", config_addr_text(&a->v[i].addr, addr), a->v[i].prefix);
        return buf;
    }
    if (a->dhcp && config_device_find(cfg, a->dhcp_place.dev) == (int)dev)
        return "an address from DHCP";
    return "no address";
}

static void say_note(const struct device *dev, const char *spec)
{
    char line[CONFIG_ERROR_MAX] = "";

    if (dev->ops->note)
        dev->ops->note(dev, line, sizeof(line));
    if (line[0])
        log_info("%s: %s", spec, line);
}

static void say_ready(struct daemon *d)
{
    char text[INET6_ADDRSTRLEN + sizeof("/128")], specs[ENGINE_DEV_MAX * (CONFIG_SPEC_MAX + 2)];
    uint64_t timeout_us = 0;

    if (sd_watchdog_enabled(0, &timeout_us) > 0)
        d->watchdog_us = timeout_us / 2;
    for (unsigned i = 0; i < d->stack.device_count; i++) {
        const struct device_caps *c = &d->stack.devices[i].caps;

        log_info("sockgated %s serves %s on %s (%02x:%02x:%02x:%02x:%02x:%02x, MTU %u), control %s",
                 SOCKGATE_VERSION, first_address(d->cfg, i, text, sizeof(text)), d->cfg->devices.v[i].spec,
                 c->mac[0], c->mac[1], c->mac[2], c->mac[3], c->mac[4], c->mac[5], c->mtu, d->socket.path);
        say_note(d->stack.devices[i].queues[0], d->cfg->devices.v[i].spec);
    }
    config_device_specs(d->cfg, specs, sizeof(specs));
    (void)sd_notifyf(0, "READY=1\nSTATUS=Serving %s on %s", first_address(d->cfg, 0, text, sizeof(text)),
                     specs);
}

static int run(const struct config *cfg)
{
    struct daemon d = {
        .cfg = cfg, .signal_fd = -1, .socket = {.fd = -1}, .stack = STACK_CLOSED, .status_fd = -1};
    char error[CONFIG_ERROR_MAX] = "";
    int rc = start(&d, error, sizeof(error));

    if (rc) {
        log_error("%s", error[0] ? error : strerror(-rc));
    } else {
        say_ready(&d);
        while (!rc)
            rc = serve_round(&d, UINT64_MAX);
        if (rc > 0) {
            log_info("%s: stopping", rc == SIGINT ? "SIGINT" : "SIGTERM");
            (void)sd_notify(0, "STOPPING=1");
            rc = drain(&d);
        }
    }
    stop(&d);
    return rc ? EXIT_FAILED : EXIT_OK;
}

int main(int argc, char *argv[])
{
    static struct config cfg;
    static struct options opts;
    char error[CONFIG_ERROR_MAX];

    if (options_settle(argc, argv, &cfg, &opts, error)) {
        fprintf(stderr, "sockgated: %s\n", error);
        return EXIT_USAGE;
    }
    switch (opts.action) {
    case OPTIONS_HELP:
        options_help(stdout);
        break;
    case OPTIONS_VERSION:
        printf("sockgated %s, ABI version %u\n", SOCKGATE_VERSION, SG_ABI_VERSION);
        break;
    case OPTIONS_CHECK:
        options_plan(stdout, &cfg, &opts);
        break;
    case OPTIONS_RUN:
        log_open(cfg.log_level);
        return run(&cfg);
    }
    return fflush(stdout) ? EXIT_FAILED : EXIT_OK;
}

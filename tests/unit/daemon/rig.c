/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/daemon/rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/log.h"

#define PATIENCE_US 2000000u

/* ---- The device ---------------------------------------------------------------------------------- */

static struct rig_device *device_of(struct device *d)
{
    return (struct rig_device *)d;
}

static int device_rx(struct device *d, struct pktbuf *pkts[], unsigned max)
{
    (void)pkts;
    (void)max;
    return __atomic_load_n(&device_of(d)->fail, __ATOMIC_ACQUIRE) ? -EIO : 0;
}

static int device_tx(struct device *d, struct pktbuf *const pkts[], unsigned n)
{
    (void)pkts;
    device_of(d)->sent += n;
    return (int)n;
}

static int device_wait_fd(struct device *d)
{
    return device_of(d)->fd;
}

static bool device_pending(struct device *d)
{
    (void)d;
    return false;
}

static void device_caps_of(const struct device *d, struct device_caps *ret)
{
    (void)d;
    *ret = (struct device_caps){.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .tx_frame_max = 1514};
}

static void device_stats_of(const struct device *d, struct device_stats *ret)
{
    *ret = (struct device_stats){.tx_frames = ((const struct rig_device *)d)->sent};
}

static void device_close(struct device *d)
{
    (void)d;
}

static const struct device_ops rig_device_ops = {
    .kind = "rig",
    .rx_burst = device_rx,
    .tx_burst = device_tx,
    .wait_fd = device_wait_fd,
    .rx_pending = device_pending,
    .caps = device_caps_of,
    .stats = device_stats_of,
    .close = device_close,
};

/* ---- The daemon ------------------------------------------------------------------------------------ */

void rig_init(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    config_init(&r->cfg);
    strcpy(r->folder, "/tmp/sockgate-rig.XXXXXX");
    cr_assert_not_null(mkdtemp(r->folder));
    (void)snprintf(r->cfg.control_path, sizeof(r->cfg.control_path), "%s/control.sock", r->folder);
    r->cfg.slots = 256;
    r->cfg.heap_bytes = 16 << 20;
    r->cfg.buffer_bytes = 8 << 20;
    r->cfg.kick_entries = r->cfg.cmd_entries = r->cfg.event_entries = 64;
    r->cfg.log_level = LOG_LEVEL_ERROR;
    r->cfg.engine.conn_max = r->cfg.engine.udp_max = 512;
    r->cfg.engine.req_max = r->cfg.engine.tw_max = r->cfg.engine.listen_max = 64;
    r->cfg.engine.range_max = r->cfg.engine.txseg_max = 1024;
    r->cfg.engine.flight_max = r->cfg.engine.reasm_max = 512;
    r->cfg.engine.session_max = 8;
    log_open(r->cfg.log_level);
}

static void *zeroed(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert_neq(p, MAP_FAILED);
    return p;
}

static void serve_ready(struct rig *r, uint64_t now_us)
{
    (void)control_take_news(r->control);
    control_serve(r->control, now_us);
}

static void *serve_thread(void *arg)
{
    struct rig *r = arg;
    struct pollfd fds[] = {
        {.fd = r->stop_fd, .events = POLLIN},
        {.fd = control_fd(r->control), .events = POLLIN},
        {.fd = worker_news_fd(r->worker), .events = POLLIN},
    };

    while (poll(fds, 3, 100) >= 0 && !(fds[0].revents & POLLIN))
        serve_ready(r, clock_now_us());
    return NULL;
}

void rig_start(struct rig *r, bool threaded)
{
    struct worker_params wp = {
        .cfg = &r->cfg, .ports = {{.device = &r->device.dev, .name = "rig:0"}}, .port_count = 1};
    struct control_params cp = {.cfg = &r->cfg, .socket = &r->socket, .boot_id = 7};
    char error[256];

    r->device.dev.ops = &rig_device_ops;
    r->device.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->two) {
        r->second.dev.ops = &rig_device_ops;
        r->second.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        wp.ports[wp.port_count++] = (struct worker_port){.device = &r->second.dev, .name = "rig:1"};
    }
    memset(r->cfg.engine.secret, 5, sizeof(r->cfg.engine.secret));
    memcpy(r->cfg.engine.ifs[0].mac, (uint8_t[]){2, 0, 0, 0, 0, 1}, 6);
    if (r->two) {
        r->cfg.engine.ifs[1] = r->cfg.engine.ifs[0];
        r->cfg.engine.ifs[1].dev = 1;
        r->cfg.engine.if_count = 2;
    }
    r->cfg.engine.addrs[r->cfg.engine.addr_count++] = r->cfg.addresses.v[0];
    r->arena = zeroed(engine_arena_bytes(&r->cfg.engine));
    r->scratch = zeroed(engine_scratch_bytes(&r->cfg.engine));
    r->engine = engine_init(r->arena, r->scratch, &r->cfg.engine, clock_now_us());
    cr_assert_not_null(r->engine);
    cr_assert_eq(session_status_create(7, 1, &r->status, &r->status_fd), 0);
    wp.engine = r->engine;
    wp.status = &r->status->worker[0];
    cr_assert_eq(worker_create(&wp, &r->worker), 0);
    cr_assert_eq(worker_start(r->worker), 0);
    cr_assert_eq(control_socket_open(&r->socket, &r->cfg, error, sizeof(error)), 0, "%s", error);
    cp.workers[0] = r->worker;
    cp.status_fd = r->status_fd;
    cp.features = SG_FEATURE_TCP4 | SG_FEATURE_UDP4;
    cr_assert_eq(control_open(&cp, &r->control), 0);
    r->stop_fd = eventfd(0, EFD_CLOEXEC);
    r->threaded = threaded;
    if (threaded)
        cr_assert_eq(pthread_create(&r->thread, NULL, serve_thread, r), 0);
}

void rig_serve(struct rig *r, uint64_t later_us)
{
    for (int i = 0; i < 4; i++) /* Accept, read, answer, clean up. */
        serve_ready(r, clock_now_us() + later_us);
}

void rig_stop(struct rig *r)
{
    const uint64_t one = 1;

    if (r->threaded) {
        cr_assert_eq(write(r->stop_fd, &one, sizeof(one)), (ssize_t)sizeof(one));
        (void)pthread_join(r->thread, NULL);
    }
    control_drain(r->control);
    worker_stop(r->worker);
    control_close(r->control);
    worker_free(r->worker);
    control_socket_close(&r->socket);
    (void)munmap(r->arena, engine_arena_bytes(&r->cfg.engine));
    (void)munmap(r->scratch, engine_scratch_bytes(&r->cfg.engine));
    (void)munmap(r->status, SG_PAGE_BYTES);
    (void)close(r->status_fd);
    (void)close(r->stop_fd);
    (void)close(r->device.fd);
    if (r->two)
        (void)close(r->second.fd);
    cr_assert_eq(rmdir(r->folder), 0, "the control socket was left behind");
}

static int read_counters(struct worker *w, void *arg)
{
    *(struct worker_counters *)arg = *worker_counters(w);
    return 0;
}

struct worker_counters rig_counters(struct rig *r)
{
    struct worker_counters ret;

    cr_assert_not(r->threaded, "worker_call() belongs to the control thread");
    (void)worker_call(r->worker, read_counters, &ret);
    return ret;
}

bool rig_wait(struct rig *r, bool (*holds)(struct rig *r))
{
    uint64_t until_us = clock_now_us() + PATIENCE_US;

    while (!holds(r)) {
        if (clock_now_us() > until_us)
            return false;
        if (!r->threaded)
            rig_serve(r, 0);
        (void)usleep(1000);
    }
    return true;
}

/* ---- The client ------------------------------------------------------------------------------------ */

void peer_connect(struct peer *p, struct rig *r)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = 2};

    strcpy(a.sun_path, r->cfg.control_path);
    p->rig = r;
    p->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    cr_assert_geq(p->fd, 0);
    (void)setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    cr_assert_eq(connect(p->fd, (struct sockaddr *)&a, sizeof(a)), 0, "%s", strerror(errno));
}

void peer_close(struct peer *p)
{
    (void)close(p->fd);
    p->fd = -1;
}

bool peer_send(struct peer *p, const Sockgate__Request *req)
{
    uint8_t buf[1024];
    size_t n = sockgate__request__get_packed_size(req);

    cr_assert_leq(n, sizeof(buf));
    (void)sockgate__request__pack(req, buf);
    return send(p->fd, buf, n, MSG_NOSIGNAL) == (ssize_t)n;
}

Sockgate__Response *peer_answer(struct peer *p, int *fds, unsigned fds_max, unsigned *fd_count)
{
    static uint8_t buf[CONTROL_PACKET_MAX];
    char space[CMSG_SPACE(sizeof(int) * 32)] __attribute__((aligned(sizeof(struct cmsghdr))));
    struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
    struct cmsghdr *cm;
    unsigned n_fds = 0;
    ssize_t n;

    if (!p->rig->threaded)
        rig_serve(p->rig, 0);
    n = recvmsg(p->fd, &msg, MSG_CMSG_CLOEXEC);
    if (n <= 0)
        return NULL;
    cm = CMSG_FIRSTHDR(&msg);
    if (cm && cm->cmsg_type == SCM_RIGHTS) {
        n_fds = (unsigned)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        cr_assert_leq(n_fds, fds_max);
        memcpy(fds, CMSG_DATA(cm), n_fds * sizeof(int));
    }
    if (fd_count)
        *fd_count = n_fds;
    return sockgate__response__unpack(NULL, (size_t)n, buf);
}

Sockgate__Response *peer_request(struct peer *p, const Sockgate__Request *req)
{
    if (!peer_send(p, req))
        return NULL;
    return peer_answer(p, NULL, 0, NULL);
}

bool peer_closed(struct peer *p)
{
    char byte;
    ssize_t n;

    if (!p->rig->threaded)
        rig_serve(p->rig, 0);
    n = recv(p->fd, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

void peer_hello(struct peer *p, struct rig *r, uint32_t abi_version)
{
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;
    Sockgate__HelloRequest hello = SOCKGATE__HELLO_REQUEST__INIT;
    Sockgate__Response *res;

    peer_connect(p, r);
    hello.magic = SG_ABI_MAGIC;
    hello.abi_version = abi_version;
    req.body_case = SOCKGATE__REQUEST__BODY_HELLO;
    req.hello = &hello;
    res = peer_request(p, &req);
    cr_assert_not_null(res);
    cr_assert_eq(res->error, 0, "%s", res->message);
    sockgate__response__free_unpacked(res, NULL);
}

static void map_session(struct peer_session *s)
{
    const struct sg_seg_hdr *h = &s->hdr;
    struct sg_channel *c;

    s->ctl = c = (struct sg_channel *)(void *)(s->base + h->channel_off);
    s->slots = (struct sg_slot *)(void *)(s->base + h->slot_off);
    s->kick = (struct sg_ring){.tail = &c->kick_tail,
                               .head = &c->kick_head,
                               .slots = (uint8_t *)c + sg_channel_kick_off(),
                               .entries = h->kick_entries};
    s->cmd = (struct sg_ring){.tail = &c->cmd_tail,
                              .head = &c->cmd_head,
                              .slots = (uint8_t *)c + sg_channel_cmd_off(h->kick_entries),
                              .entries = h->cmd_entries};
    s->event = (struct sg_ring){.tail = &c->event_tail,
                                .head = &c->event_head,
                                .slots = (uint8_t *)c + sg_channel_event_off(h->kick_entries, h->cmd_entries),
                                .entries = h->event_entries};
}

void peer_attach(struct peer_session *s, struct rig *r)
{
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;
    Sockgate__AttachRequest attach = SOCKGATE__ATTACH_REQUEST__INIT;
    Sockgate__Response *res;
    unsigned n = 0;
    int fds[8];

    memset(s, 0, sizeof(*s));
    peer_hello(&s->p, r, SG_ABI_VERSION);
    req.body_case = SOCKGATE__REQUEST__BODY_ATTACH;
    req.attach = &attach;
    cr_assert(peer_send(&s->p, &req));
    res = peer_answer(&s->p, fds, 8, &n);
    cr_assert_not_null(res);
    cr_assert_eq(res->error, 0, "%s", res->message);
    cr_assert_eq(n, 4);
    s->seg_fd = fds[0];
    s->status_fd = fds[1];
    s->doorbell_fd = fds[2];
    s->channel_fd = fds[3];
    s->base = mmap(NULL, res->attach->seg_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->seg_fd, 0);
    cr_assert_neq(s->base, MAP_FAILED);
    s->status = mmap(NULL, SG_PAGE_BYTES, PROT_READ, MAP_SHARED, s->status_fd, 0);
    cr_assert_neq(s->status, MAP_FAILED);
    memcpy(&s->hdr, s->base, sizeof(s->hdr));
    cr_assert_eq(s->hdr.seg_bytes, res->attach->seg_bytes);
    s->next_tag = 1;
    map_session(s);
    sockgate__response__free_unpacked(res, NULL);
}

void peer_detach(struct peer_session *s)
{
    (void)munmap(s->base, s->hdr.seg_bytes);
    (void)munmap((void *)(uintptr_t)s->status, SG_PAGE_BYTES);
    (void)close(s->seg_fd);
    (void)close(s->status_fd);
    (void)close(s->doorbell_fd);
    (void)close(s->channel_fd);
    peer_close(&s->p);
}

void peer_ring(struct peer_session *s)
{
    const uint64_t one = 1;

    sg_fence();
    if (sg_load_relaxed_u32(&s->status->worker[0].sleeping))
        cr_assert_eq(write(s->doorbell_fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

void peer_push(struct peer_session *s, struct sg_cmd cmd)
{
    cr_assert_gt(sg_ring_free(&s->cmd), 0, "the command ring is full");
    cmd.tag = s->next_tag++;
    memcpy(sg_ring_slot(&s->cmd, sizeof(cmd), 0), &cmd, sizeof(cmd));
    sg_ring_publish(&s->cmd, 1);
    peer_ring(s);
}

bool peer_event(struct peer_session *s, struct sg_event *ret)
{
    uint64_t until_us = clock_now_us() + PATIENCE_US;

    while (!sg_ring_waiting(&s->event)) {
        if (clock_now_us() > until_us)
            return false;
        (void)usleep(100);
    }
    memcpy(ret, sg_ring_slot(&s->event, sizeof(*ret), 0), sizeof(*ret));
    sg_ring_consume(&s->event, 1);
    return true;
}

int32_t peer_command(struct peer_session *s, struct sg_cmd cmd)
{
    uint32_t tag = s->next_tag;
    struct sg_event ev;

    peer_push(s, cmd);
    while (peer_event(s, &ev))
        if (ev.kind == SG_EV_REPLY && ev.tag == tag)
            return ev.result;
    return INT32_MIN;
}

void peer_own_address(const struct rig *r, struct sg_cmd *cmd, uint16_t port)
{
    cmd->family = SG_AF_INET;
    cmd->port = port;
    memcpy(cmd->addr, config_address4(&r->cfg), 4);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/control.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/control_int.h"
#include "daemon/log.h"

#define EPOLL_BATCH 64

/* ---- Connections ---------------------------------------------------------------------------------- */

static void watch_listener(struct control *c, bool on)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};

    if (c->listening == on)
        return;
    if (epoll_ctl(c->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, c->p.socket->fd, &ev))
        log_error("control: epoll_ctl on the listening socket: %s", strerror(errno));
    else
        c->listening = on;
}

static void watch_client(struct control *c, struct client *cl, uint32_t events, int op)
{
    struct epoll_event ev = {.events = events, .data.ptr = cl};

    if (cl->events == events)
        return;
    cl->events = events;
    if (epoll_ctl(c->epoll_fd, op, cl->fd, &ev)) {
        log_error("control: epoll_ctl on a connection: %s", strerror(errno));
        cl->gone = true;
    }
}

void control_each_worker(struct control *c, int (*fn)(struct worker *w, void *arg), void *arg)
{
    for (unsigned w = 0; w < c->p.cfg->workers; w++)
        (void)worker_call(c->p.workers[w], fn, arg);
}

/* The process behind a session is gone or expelled. The memory comes back later, as news of the worker. */
static void session_detach(struct control *c, struct client *cl)
{
    struct app_session *s = cl->session;

    cl->session = NULL;
    s->client = NULL;
    control_each_worker(c, worker_session_end, s);
    log_debug("session %u: %s (pid %d) detached", s->id, s->owner.program, (int)s->owner.pid);
}

/*
 * End a connection: first for the peer, so that a thread of it which the worker wakes sees the end, then its
 * session. The struct is freed at the end of the round, since events in hand may still name it.
 */
static void client_close(struct control *c, struct client *cl)
{
    if (cl->gone && cl->fd < 0)
        return;
    cl->gone = true;
    (void)shutdown(cl->fd, SHUT_RDWR);
    if (cl->session)
        session_detach(c, cl);
    (void)close(cl->fd);
    cl->fd = -1;
    free(cl->out);
    cl->out = NULL;
    if (c->accept_again_us != UINT64_MAX)
        c->accept_again_us = 0; /* A descriptor came free. */
}

static void free_gone(struct control *c)
{
    struct client *next;

    for (struct client *cl = c->clients; cl; cl = next) {
        next = cl->next;
        if (!cl->gone)
            continue;
        client_close(c, cl);
        if (cl->prev)
            cl->prev->next = next;
        else
            c->clients = next;
        if (next)
            next->prev = cl->prev;
        free(cl);
        c->client_count--;
    }
}

/* ---- Answers -------------------------------------------------------------------------------------- */

static int send_packet(const struct client *cl)
{
    char space[CMSG_SPACE(sizeof(int) * ATTACH_FDS_MAX)] __attribute__((aligned(sizeof(struct cmsghdr))));
    struct iovec iov = {.iov_base = cl->out, .iov_len = cl->out_bytes};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    size_t fd_bytes = cl->out_fd_count * sizeof(int);
    struct cmsghdr *cm;

    if (fd_bytes) {
        memset(space, 0, sizeof(space));
        msg.msg_control = space;
        msg.msg_controllen = CMSG_SPACE(fd_bytes);
        cm = CMSG_FIRSTHDR(&msg);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN(fd_bytes);
        memcpy(CMSG_DATA(cm), cl->out_fds, fd_bytes);
    }
    return sendmsg(cl->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Try to send the answer in hand; what does not go now goes when the client reads, or never. */
static void client_flush(struct control *c, struct client *cl)
{
    int rc = send_packet(cl);

    if (rc == -EAGAIN || rc == -EINTR) {
        cl->deadline_us = clock_now_us() + CONTROL_SEND_US;
        watch_client(c, cl, EPOLLOUT, EPOLL_CTL_MOD);
        return;
    }
    free(cl->out);
    cl->out = NULL;
    cl->deadline_us = UINT64_MAX;
    if (rc || cl->closing)
        cl->gone = true;
    else
        watch_client(c, cl, EPOLLIN, EPOLL_CTL_MOD);
}

static void client_answer(struct control *c, struct client *cl, const Sockgate__Response *res, const int *fds,
                          unsigned fd_count)
{
    size_t bytes = sockgate__response__get_packed_size(res);

    assert(!cl->out); /* No request is read while an answer waits. */
    assert(fd_count <= ATTACH_FDS_MAX);
    assert(bytes <= CONTROL_PACKET_MAX); /* Pages are sized for it. */
    cl->out = malloc(bytes ? bytes : 1);
    if (!cl->out) {
        log_warning("control: no memory for an answer");
        cl->gone = true;
        return;
    }
    cl->out_bytes = sockgate__response__pack(res, cl->out);
    if (fd_count)
        memcpy(cl->out_fds, fds, fd_count * sizeof(int));
    cl->out_fd_count = fd_count;
    client_flush(c, cl);
}

static void client_refuse(struct control *c, struct client *cl, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void client_refuse(struct control *c, struct client *cl, int error, const char *format, ...)
{
    Sockgate__Response res = SOCKGATE__RESPONSE__INIT;
    char text[256];
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    res.error = error;
    res.message = text;
    client_answer(c, cl, &res, NULL, 0);
}

/* All workers have handed it back. */
static void session_done(struct control *c, struct app_session *s)
{
    struct app_session **at = &c->sessions;

    assert(!s->client);
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    c->session_count--;
    session_free(s);
}

/* ---- Hello, attach, detach -------------------------------------------------------------------------- */

static void serve_hello(struct control *c, struct client *cl, const Sockgate__HelloRequest *req)
{
    Sockgate__Response res = SOCKGATE__RESPONSE__INIT;
    Sockgate__HelloResponse hello = SOCKGATE__HELLO_RESPONSE__INIT;

    if (req->magic != SG_ABI_MAGIC) {
        cl->closing = true;
        client_refuse(c, cl, -EPROTO, "this is no Sockgate client: wrong magic number in the hello");
        return;
    }
    if (req->abi_version && (req->abi_version < SG_ABI_VERSION_MIN || req->abi_version > SG_ABI_VERSION)) {
        cl->closing = true;
        client_refuse(c, cl, -EPROTONOSUPPORT,
                      "the library speaks ABI version %u and this sockgated %s versions %u to %u; install "
                      "libsockclient and sockgated of one release",
                      req->abi_version, SOCKGATE_VERSION, SG_ABI_VERSION_MIN, SG_ABI_VERSION);
        return;
    }
    cl->greeted = true;
    cl->abi_version = req->abi_version;
    cl->deadline_us = UINT64_MAX;
    hello.abi_version = SG_ABI_VERSION;
    hello.features = c->p.features;
    hello.release = SOCKGATE_VERSION;
    hello.boot_id = c->p.boot_id;
    res.body_case = SOCKGATE__RESPONSE__BODY_HELLO;
    res.hello = &hello;
    client_answer(c, cl, &res, NULL, 0);
}

/* Workers that have it already give it back when the next does not take it. */
static int add_to_workers(struct control *c, struct app_session *s)
{
    unsigned w = 0;
    int rc = 0;

    while (w < s->worker_count && !(rc = worker_call(c->p.workers[w], worker_session_add, s)))
        w++;
    if (!rc)
        return 0;
    s->parts_done = s->worker_count - w;
    while (w--)
        (void)worker_call(c->p.workers[w], worker_session_end, s);
    if (s->parts_done == s->worker_count)
        session_done(c, s);
    return rc;
}

static int make_session(struct control *c, struct client *cl, uint32_t channels)
{
    struct session_owner owner = {0};
    struct app_session *s;
    struct ucred cred;
    socklen_t cred_bytes = sizeof(cred);
    int rc;

    if (getsockopt(cl->fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_bytes))
        return -errno;
    owner.pid = cred.pid;
    owner.uid = cred.uid;
    owner.gid = cred.gid;
    session_program(cred.pid, owner.program);
    rc = session_create(c->p.cfg, c->next_session_id, channels, c->p.features, &owner, clock_now_us(), &s);
    if (rc)
        return rc;
    c->next_session_id++;
    s->next = c->sessions;
    c->sessions = s;
    c->session_count++;
    rc = add_to_workers(c, s);
    if (rc)
        return rc;
    s->client = cl;
    cl->session = s;
    return 0;
}

static void serve_attach(struct control *c, struct client *cl, const Sockgate__AttachRequest *req)
{
    Sockgate__Response res = SOCKGATE__RESPONSE__INIT;
    Sockgate__AttachResponse attach = SOCKGATE__ATTACH_RESPONSE__INIT;
    uint32_t channels = req->channels ? req->channels : 1;
    int fds[ATTACH_FDS_MAX], rc;
    unsigned n = 0;

    if (!cl->abi_version) {
        client_refuse(c, cl, -EPROTO, "the hello named no ABI version, so there is nothing to attach");
        return;
    }
    if (cl->session) {
        client_refuse(c, cl, -EALREADY, "this connection is attached already");
        return;
    }
    rc = make_session(c, cl, channels < c->p.cfg->channels ? channels : c->p.cfg->channels);
    if (rc == -ENOSPC) {
        log_warning("a process was refused: %u sessions are in use (session.max)", c->session_count);
        client_refuse(c, cl, rc, "the daemon serves its limit of %u processes; raise session.max",
                      c->p.cfg->engine.session_max);
        return;
    }
    if (rc) {
        log_warning("a process was refused: no session: %s", strerror(-rc));
        client_refuse(c, cl, rc, "the daemon can't make a session: %s", strerror(-rc));
        return;
    }
    log_debug("session %u: %s (pid %d, uid %u) attached", cl->session->id, cl->session->owner.program,
              (int)cl->session->owner.pid, (unsigned)cl->session->owner.uid);
    fds[n++] = cl->session->seg_fd;
    fds[n++] = c->p.status_fd;
    for (uint32_t i = 0; i < cl->session->worker_count; i++)
        fds[n++] = cl->session->doorbell_fd[i];
    for (uint32_t i = 0; i < cl->session->channel_count; i++)
        fds[n++] = cl->session->channel_fd[i];
    attach.session_id = cl->session->id;
    attach.channels = cl->session->channel_count;
    attach.workers = cl->session->worker_count;
    attach.seg_bytes = cl->session->bytes;
    attach.address4.len = 4;
    attach.address4.data = (uint8_t *)(uintptr_t)config_address4(c->p.cfg);
    res.body_case = SOCKGATE__RESPONSE__BODY_ATTACH;
    res.attach = &attach;
    client_answer(c, cl, &res, fds, n);
}

static void serve_detach(struct control *c, struct client *cl)
{
    Sockgate__Response res = SOCKGATE__RESPONSE__INIT;
    Sockgate__DetachResponse detach = SOCKGATE__DETACH_RESPONSE__INIT;

    if (!cl->session) {
        client_refuse(c, cl, -ENOTCONN, "this connection is not attached");
        return;
    }
    session_detach(c, cl);
    res.body_case = SOCKGATE__RESPONSE__BODY_DETACH;
    res.detach = &detach;
    client_answer(c, cl, &res, NULL, 0);
}

static void serve_admin(struct control *c, struct client *cl, const Sockgate__Request *req)
{
    Sockgate__Response res = SOCKGATE__RESPONSE__INIT;
    struct admin_page *page = NULL;
    int rc = control_admin(c, req, &res, &page);

    if (rc)
        client_refuse(c, cl, rc,
                      rc == -ENOMEM   ? "the daemon is out of memory"
                      : rc == -ENOENT ? "there is no worker of this number; see worker.count"
                                      : "there is no such request");
    else
        client_answer(c, cl, &res, NULL, 0);
    control_admin_free(page);
}

static void serve_request(struct control *c, struct client *cl, const Sockgate__Request *req)
{
    if (!cl->greeted && req->body_case != SOCKGATE__REQUEST__BODY_HELLO) {
        cl->closing = true;
        client_refuse(c, cl, -EPROTO, "the first message must be a hello");
        return;
    }
    switch (req->body_case) {
    case SOCKGATE__REQUEST__BODY_HELLO:
        serve_hello(c, cl, req->hello);
        return;
    case SOCKGATE__REQUEST__BODY_ATTACH:
        serve_attach(c, cl, req->attach);
        return;
    case SOCKGATE__REQUEST__BODY_DETACH:
        serve_detach(c, cl);
        return;
    default: /* The number comes from outside: an admin query, or one that we do not know. */
        serve_admin(c, cl, req);
        return;
    }
}

/* ---- The server ---------------------------------------------------------------------------------------- */

static void client_read(struct control *c, struct client *cl)
{
    Sockgate__Request *req;
    ssize_t n = recv(cl->fd, c->packet, sizeof(c->packet), MSG_DONTWAIT | MSG_TRUNC);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* The process closed it or died; or sent nothing, which is no message of ours. */
        cl->gone = true;
        return;
    }
    if ((size_t)n > CONTROL_PACKET_MAX) {
        cl->closing = true;
        client_refuse(c, cl, -EMSGSIZE, "a message is at most %u bytes", CONTROL_PACKET_MAX);
        return;
    }
    req = sockgate__request__unpack(NULL, (size_t)n, c->packet);
    if (!req) {
        cl->closing = true;
        client_refuse(c, cl, -EBADMSG, "this is no message of the control protocol");
        return;
    }
    serve_request(c, cl, req);
    sockgate__request__free_unpacked(req, NULL);
}

static void client_add(struct control *c, int fd, uint64_t now_us)
{
    struct client *cl = calloc(1, sizeof(*cl));

    if (!cl) {
        (void)close(fd);
        return;
    }
    cl->fd = fd;
    cl->deadline_us = now_us + CONTROL_HELLO_US;
    cl->next = c->clients;
    if (cl->next)
        cl->next->prev = cl;
    c->clients = cl;
    c->client_count++;
    watch_client(c, cl, EPOLLIN, EPOLL_CTL_ADD);
    if (c->client_count > c->p.cfg->clients_max && !cl->gone) {
        log_warning("a control connection was refused: there are %u (control.clients_max)",
                    c->p.cfg->clients_max);
        cl->closing = true;
        client_refuse(c, cl, -EMFILE,
                      "the daemon serves its limit of %u connections; raise control.clients_max",
                      c->p.cfg->clients_max);
        cl->gone = true; /* Whether or not it got the answer. */
    }
}

static void accept_clients(struct control *c, uint64_t now_us)
{
    for (unsigned i = 0; i < CONTROL_ACCEPT_MAX; i++) {
        int fd = accept4(c->p.socket->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            client_add(c, fd, now_us);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            /* The connection stays in the backlog: look away until there may be room. */
            log_warning("control: a connection can't be accepted: %s", strerror(errno));
            watch_listener(c, false);
            c->accept_again_us = now_us + CONTROL_RETRY_US;
        }
        return; /* EAGAIN, or a client that went away again. */
    }
}

static void close_late(struct control *c, uint64_t now_us)
{
    for (struct client *cl = c->clients; cl; cl = cl->next) {
        if (cl->gone || now_us < cl->deadline_us)
            continue;
        log_info("control: a connection was closed: it %s in time",
                 cl->out ? "did not read its answer" : "did not say hello");
        cl->gone = true;
    }
}

void control_serve(struct control *c, uint64_t now_us)
{
    struct epoll_event events[EPOLL_BATCH];
    int n = epoll_wait(c->epoll_fd, events, EPOLL_BATCH, 0);

    for (int i = 0; i < n; i++) {
        struct client *cl = events[i].data.ptr;

        if (!cl)
            accept_clients(c, now_us);
        else if (cl->gone)
            continue;
        else if (cl->out)
            client_flush(c, cl);
        else
            client_read(c, cl);
    }
    close_late(c, now_us);
    free_gone(c);
    if (now_us >= c->accept_again_us) {
        c->accept_again_us = UINT64_MAX;
        watch_listener(c, true);
    }
}

uint64_t control_deadline(const struct control *c)
{
    uint64_t deadline = c->accept_again_us;

    for (const struct client *cl = c->clients; cl; cl = cl->next)
        if (cl->deadline_us < deadline)
            deadline = cl->deadline_us;
    return deadline;
}

static int take_news(struct control *c, struct worker *w)
{
    struct worker_news news;
    struct client *cl;
    int rc = 0;

    while (worker_news(w, &news)) {
        switch (news.kind) {
        case WORKER_NEWS_FAULT:
            log_warning("session %u: %s (pid %d, uid %u) was ended: %s", news.session->id,
                        news.session->owner.program, (int)news.session->owner.pid,
                        (unsigned)news.session->owner.uid, news.text);
            cl = news.session->client;
            if (cl)
                client_close(c, cl);
            break;
        case WORKER_NEWS_DONE:
            if (++news.session->parts_done == news.session->worker_count)
                session_done(c, news.session);
            break;
        case WORKER_NEWS_NOTICE:
            log_warning("%s", news.text);
            break;
        case WORKER_NEWS_DEVICE:
            log_error("%s; going on without it", news.text);
            break;
        case WORKER_NEWS_FAILED:
            log_error("%s", news.text);
            rc = -EIO;
            break;
        }
    }
    return rc;
}

int control_take_news(struct control *c)
{
    int rc = 0;

    for (unsigned w = 0; w < c->p.cfg->workers; w++)
        if (take_news(c, c->p.workers[w]))
            rc = -EIO;
    free_gone(c);
    return rc;
}

void control_drain(struct control *c)
{
    watch_listener(c, false);
    c->accept_again_us = UINT64_MAX;
    for (struct client *cl = c->clients; cl; cl = cl->next)
        client_close(c, cl);
    free_gone(c);
}

unsigned control_session_count(const struct control *c)
{
    return c->session_count;
}

int control_fd(const struct control *c)
{
    return c->epoll_fd;
}

int control_open(const struct control_params *p, struct control **ret)
{
    struct control *c = calloc(1, sizeof(*c));
    int rc;

    if (!c)
        return -ENOMEM;
    c->p = *p;
    c->next_session_id = 1;
    c->started_us = clock_now_us();
    c->accept_again_us = UINT64_MAX;
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll_fd < 0) {
        rc = -errno;
        free(c);
        return rc;
    }
    watch_listener(c, true);
    *ret = c;
    return 0;
}

void control_close(struct control *c)
{
    if (!c)
        return;
    control_drain(c);
    while (c->sessions)
        session_done(c, c->sessions);
    (void)close(c->epoll_fd);
    free(c);
}

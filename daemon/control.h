/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control server: hello, attach, detach and admin queries over a SOCK_SEQPACKET Unix socket
 * (proto/control.proto). It owns the sessions as far as the control thread has to do with them.
 *
 * Clients are hostile: a message has a largest size, a connection that does not say hello or does not read
 * its answer is closed after a time, and connections are counted. No call blocks but for a turn of the
 * worker (worker_call).
 *
 * Thread rule: the control thread (main) only.
 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/control_socket.h"
#include "daemon/session.h"
#include "daemon/worker.h"

#define CONTROL_PACKET_MAX 65536u   /* bytes of a request or an answer */
#define CONTROL_HELLO_US   5000000u /* a connection that has not said hello by then is closed */
#define CONTROL_SEND_US    5000000u /* so is one that has not read its answer by then */
#define CONTROL_ACCEPT_MAX 32u      /* connections accepted in one round */
#define CONTROL_RETRY_US   1000000u /* pause after the system had no descriptor for a connection */

struct control;

struct control_params {
    const struct config *cfg;
    struct worker *workers[SG_WORKERS_MAX]; /* the first cfg->workers */
    const struct control_socket *socket;    /* listening */
    uint64_t boot_id;
    int status_fd;     /* the status page, to be handed out */
    uint64_t features; /* SG_FEATURE_* that the daemon offers */
};

/** Nothing of `p` is owned; all must outlive the server. Returns 0 or -errno. */
int control_open(const struct control_params *p, struct control **ret);

/** Close all connections and free all sessions; accepts NULL. The workers must have stopped. */
void control_close(struct control *c);

/** Polls readable when control_serve() has something to do. */
int control_fd(const struct control *c);

/** When control_serve() is to be called at the latest (clock_now_us()); UINT64_MAX: never. */
uint64_t control_deadline(const struct control *c);

/** Serve everything that is ready. */
void control_serve(struct control *c, uint64_t now_us);

/**
 * Take the workers' news: close connections of sessions that broke the contract, free memory, log.
 * @return 0, or -EIO when a worker has failed for good (logged)
 */
int control_take_news(struct control *c);

/** Stop accepting; end all sessions as if their processes had exited; close all connections. */
void control_drain(struct control *c);

/** Sessions that are attached or whose sockets still send. */
unsigned control_session_count(const struct control *c);

#endif

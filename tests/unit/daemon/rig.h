/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the daemon's tests: a whole daemon without its main(), over a device that goes nowhere, and a client
 * that speaks the control protocol and the rings by hand, so that it can also break the rules.
 *
 * Traffic needs no wire: the engine delivers what is sent to its own address.
 */
#ifndef TESTS_DAEMON_RIG_H
#define TESTS_DAEMON_RIG_H

#include <pthread.h>
#include <stdbool.h>

#include "control.pb-c.h"
#include "daemon/config.h"
#include "daemon/control.h"
#include "daemon/session.h"
#include "daemon/worker.h"

/* A device that takes every frame and has none; its end can be set up to fail. */
struct rig_device {
    struct device dev; /* first */
    int fd;            /* eventfd that wakes the worker */
    uint32_t fail;     /* atomic: rx_burst() returns -EIO */
    uint64_t sent;
};

struct rig {
    struct config cfg; /* change it between rig_init() and rig_start() */
    struct rig_device device, second;
    bool two; /* set it as well: the second is there */
    struct engine *engine;
    void *arena, *scratch;
    struct sg_status *status;
    int status_fd;
    struct worker *worker;
    struct control_socket socket;
    struct control *control;
    char folder[64];
    pthread_t thread;
    int stop_fd;
    bool threaded;
};

/** Small limits, a control socket in a folder of its own. */
void rig_init(struct rig *r);
/** Start worker and control server; with `threaded` a thread serves control, else the test calls rig_serve().
 */
void rig_start(struct rig *r, bool threaded);
/** Serve control until nothing is ready, as if it were `later_us` from now. Not with `threaded`. */
void rig_serve(struct rig *r, uint64_t later_us);
void rig_stop(struct rig *r);

/** Counters of the worker, read on its thread. */
struct worker_counters rig_counters(struct rig *r);

/* ---- The client ------------------------------------------------------------------------------- */

struct peer {
    int fd;
    struct rig *rig;
};

struct peer_session {
    struct peer p;
    uint8_t *base;
    struct sg_seg_hdr hdr; /* a copy */
    const struct sg_status *status;
    struct sg_channel *ctl;
    struct sg_ring kick, cmd, event;
    struct sg_slot *slots;
    int seg_fd, status_fd, doorbell_fd, channel_fd;
    uint32_t next_tag;
};

/** Connect; no hello yet. */
void peer_connect(struct peer *p, struct rig *r);
/** Connect and say hello with this ABI version. */
void peer_hello(struct peer *p, struct rig *r, uint32_t abi_version);
void peer_close(struct peer *p);

/** Send; false when the daemon is gone. */
bool peer_send(struct peer *p, const Sockgate__Request *req);
/** The next answer; NULL: the daemon closed. Serves control itself when no thread does. */
Sockgate__Response *peer_answer(struct peer *p, int *fds, unsigned fds_max, unsigned *fd_count);
Sockgate__Response *peer_request(struct peer *p, const Sockgate__Request *req);
/** True when the daemon closes the connection within two seconds. */
bool peer_closed(struct peer *p);

/** Connect, hello, attach, map. */
void peer_attach(struct peer_session *s, struct rig *r);
void peer_detach(struct peer_session *s); /* unmaps and closes everything, as a dying process does */

/** Ring the doorbell if the worker sleeps: the application's half of [P3]. */
void peer_ring(struct peer_session *s);
/** Put a command into the ring; its tag is s->next_tag before the call. */
void peer_push(struct peer_session *s, struct sg_cmd cmd);
/** Take the next event within two seconds; false: there came none. */
bool peer_event(struct peer_session *s, struct sg_event *ret);
/** Carry out a command; returns the reply's result, INT32_MIN when none came. Other events are dropped. */
int32_t peer_command(struct peer_session *s, struct sg_cmd cmd);
/** Wait, at most two seconds, until the condition on the daemon's side holds. */
bool rig_wait(struct rig *r, bool (*holds)(struct rig *r));

/** The engine's address in the form of a command. */
void peer_own_address(const struct rig *r, struct sg_cmd *cmd, uint16_t port);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What control.c (connections, sessions) and control_admin.c (queries) know of each other. */
#ifndef DAEMON_CONTROL_INT_H
#define DAEMON_CONTROL_INT_H

#include <stdbool.h>

#include "control.pb-c.h"
#include "daemon/control.h"

/* Descriptors of an attach: segment, status page, one for each worker's doorbell and one for each channel. */
#define ATTACH_FDS_MAX (2 + SG_WORKERS_MAX + SG_CHANNELS_MAX)

struct client {
    int fd;
    uint32_t events;      /* EPOLL* that it is watched for */
    bool greeted;         /* its hello was accepted */
    uint32_t abi_version; /* of its hello; 0: a tool that never attaches */
    struct app_session *session;
    uint8_t *out; /* answer that could not be sent yet, NULL: none */
    size_t out_bytes;
    int out_fds[ATTACH_FDS_MAX];
    unsigned out_fd_count;
    bool closing;         /* close once the answer is out */
    bool gone;            /* to be freed after this round */
    uint64_t deadline_us; /* close it then; UINT64_MAX: never */
    struct client *prev, *next;
};

struct control {
    struct control_params p;
    int epoll_fd;
    bool listening;           /* the listening socket is in the epoll set */
    uint64_t accept_again_us; /* when to listen again after a shortage; UINT64_MAX: not paused */
    struct client *clients;
    unsigned client_count;
    struct app_session *sessions; /* attached and draining, newest first */
    unsigned session_count;
    uint32_t next_session_id;
    uint64_t started_us;
    uint8_t packet[CONTROL_PACKET_MAX + 1]; /* one request */
};

/** Run a function on each worker's thread, one after another. */
void control_each_worker(struct control *c, int (*fn)(struct worker *w, void *arg), void *arg);

/**
 * Answer an admin query. Fills `res` with what the request asks for; the memory it points to is `page`'s.
 * @return 0, -EOPNOTSUPP when the request is no admin query, or -ENOENT: it names what isn't there
 */
struct admin_page;
int control_admin(struct control *c, const Sockgate__Request *req, Sockgate__Response *res,
                  struct admin_page **page);
void control_admin_free(struct admin_page *page);

#endif

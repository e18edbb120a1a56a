/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One attached application process: its segment, its descriptors and who it is.
 *
 * Life: the control thread makes it (session_create) and gives it to the worker (worker_call with
 * worker_session_add); the worker alone touches the segment from then on. When the application goes away or
 * is expelled, the worker ends it: rings are no longer read, the engine closes its sockets. Once the engine
 * needs the memory no more, the worker hands the session back and the control thread frees it
 * (session_free). So at any time one thread owns it; only the fields under "fixed" are read by both.
 *
 * The segment is a memfd sealed at its final size, so an access within it can't raise SIGBUS, whatever the
 * application does: it may punch holes, which read as zero, and no more.
 */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/channel.h"
#include "daemon/config.h"

#define SESSION_PROGRAM_MAX 32u /* bytes of a process's name with the end; the kernel's have 16 */
#define SESSION_REASON_MAX  96u

/** Who is at the other end of a control connection (SO_PEERCRED, at attach). */
struct session_owner {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    char program[SESSION_PROGRAM_MAX]; /* /proc/PID/comm; for people, never for decisions */
};

struct app_session {
    /* Fixed from session_create() on. */
    uint32_t id; /* never given twice by one daemon */
    struct session_owner owner;
    uint64_t created_us;
    uint8_t *base; /* the mapped segment; hostile */
    uint64_t bytes;
    int seg_fd, doorbell_fd;
    uint32_t channel_count;
    int channel_fd[SG_CHANNELS_MAX];
    uint32_t slot_count;
    struct sg_slot *slots; /* hostile */
    uint64_t heap_off, heap_bytes, buffer_bytes_max;
    bool raw; /* may make raw sockets */

    /* The worker's. */
    struct channel channels[SG_CHANNELS_MAX];
    int doorbell_watch, channel_watch[SG_CHANNELS_MAX];
    uint32_t *slot_sock;   /* private memory of the engine */
    void *heap_meta;       /* the same */
    uint8_t *slot_channel; /* which channel to tell about a slot: the one that opened it */
    int sid;               /* the engine's number */
    bool parted;           /* worker_session_end() was called: nothing waits on its descriptors any more */
    const char *fault;     /* the application broke the contract: how; a constant string */

    /* The control thread's. */
    struct app_session *next;
    void *client; /* its control connection, NULL once that is closed */
};

/** Bytes of a segment under these settings. */
uint64_t session_segment_bytes(const struct config *cfg);

/**
 * Make a session: segment laid out, sealed, mapped; eventfds. Touches only the header's page.
 * @param channels  ring sets, 1..cfg->channels
 * @param features  SG_FEATURE_* for the segment's header
 * @return 0 or -errno with nothing left behind
 */
int session_create(const struct config *cfg, uint32_t id, uint32_t channels, uint64_t features,
                   const struct session_owner *owner, uint64_t now_us, struct app_session **ret);

/** Unmap, close and free; accepts NULL. No other thread may know it any more. */
void session_free(struct app_session *s);

/** Read the name of a process into `ret` (SESSION_PROGRAM_MAX bytes); "?" when it can't be read. */
void session_program(pid_t pid, char *ret);

/**
 * The daemon's status page: mapped for us to write, sealed so that nobody can map it writable again.
 * @param ret_fd  the descriptor to hand to libraries; stays the caller's to close
 * @return 0 or -errno
 */
int session_status_create(uint64_t boot_id, uint32_t worker_count, struct sg_status **ret, int *ret_fd);

#endif

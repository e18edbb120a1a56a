/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One attached application process: its segment, its descriptors and who it is.
 *
 * Life: the control thread makes it (session_create) and gives it to each worker (worker_call with
 * worker_session_add); the workers alone touch the segment from then on, each its own channels, slots and
 * part of the heap. When the application goes away or is expelled, the workers end it: rings are no longer
 * read, the engines close its sockets. Once an engine needs the memory no more, its worker hands the session
 * back, and when all have the control thread frees it (session_free). Only the fields under "fixed" are read
 * by several threads; a session_part is one worker's.
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

/** What one worker has of a session. */
struct session_part {
    struct channel channels[SG_CHANNELS_MAX];
    int doorbell_watch, channel_watch[SG_CHANNELS_MAX];
    uint32_t *slot_sock;   /* private memory of the engine */
    void *heap_meta;       /* the same */
    uint8_t *slot_channel; /* which channel to tell about a slot: the one that opened it */
    int sid;               /* the engine's number */
    bool parted;           /* worker_session_end() was called: nothing waits on its descriptors any more */
    const char *fault;     /* the application broke the contract: how; a constant string */
};

struct app_session {
    /* Fixed from session_create() on. */
    uint32_t id; /* never given twice by one daemon */
    struct session_owner owner;
    uint64_t created_us;
    uint8_t *base; /* the mapped segment; hostile */
    uint64_t bytes;
    int seg_fd;
    uint32_t worker_count, channel_count;
    int doorbell_fd[SG_WORKERS_MAX];
    int channel_fd[SG_CHANNELS_MAX];
    uint32_t slot_count;
    struct sg_slot *slots;         /* hostile */
    uint64_t heap_off, heap_bytes; /* heap_bytes: each worker's part, one after another */
    uint64_t buffer_bytes_max;
    bool raw;                   /* may make raw sockets */
    struct session_part *parts; /* worker_count; each is its worker's */

    uint64_t buffer_bytes; /* atomic: all engines' together */

    /* The control thread's. */
    struct app_session *next;
    unsigned parts_done; /* workers that have handed it back */
    void *client;        /* its control connection, NULL once that is closed */
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

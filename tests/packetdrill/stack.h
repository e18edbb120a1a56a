/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine as packetdrill drives it: one host (tests/support/host.h), a virtual clock, a wire that carries
 * raw IP packets, and calls that block.
 *
 * Clock. Time stands still while something happens. It moves when packetdrill sleeps until the next event of
 * the script, when it waits for a packet, and a microsecond at a time when it spins on gettimeofday(). On its
 * way the clock stops at each timer of the engine, so that a script of minutes runs in milliseconds and each
 * packet is stamped with the microsecond it was due.
 *
 * Blocking. packetdrill makes calls that block in its second thread and looks at /proc until that thread
 * sleeps; so they really sleep, on a condition variable. After each change whoever made it wakes them and
 * waits until they sleep again or have read the clock, which is how packetdrill notes when a call returned.
 *
 * One lock guards everything; every function below wants it held unless it says otherwise.
 */
#ifndef TESTS_PACKETDRILL_STACK_H
#define TESTS_PACKETDRILL_STACK_H

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "tests/support/host.h"

#define PD_FDS       1024 /* numbers of descriptors that a script may get */
#define PD_WATCH_MAX 32   /* descriptors in one epoll */
#define PD_NEVER     UINT64_MAX
#define PD_ETH_BYTES 14u

/** A packet that left the stack and was not yet taken by packetdrill. */
struct pd_packet {
    struct pd_packet *next;
    uint64_t time_us;
    size_t bytes;
    uint8_t ip[];
};

enum pd_kind { PD_NONE, PD_SOCKET, PD_EPOLL };

struct pd_watch {
    int fd;
    struct epoll_event want;
    uint32_t level;   /* what was ready when last looked at */
    uint32_t edge;    /* became ready since it was last reported */
    uint64_t rx_tail; /* new data is an edge too */
    bool off;         /* EPOLLONESHOT, reported */
};

/* PD_FAST_WAIT: the SYN waits for data; PD_FAST_SYN: it is on its way. */
enum pd_fast { PD_FAST_NONE, PD_FAST_WAIT, PD_FAST_SYN };

struct pd_fd {
    enum pd_kind kind;
    uint32_t slot;
    int type; /* SOCK_STREAM or SOCK_DGRAM */
    int file_flags;
    enum pd_fast fast;        /* how far Fast Open is, as Linux's calls see it */
    bool connecting;          /* connect() is under way and has not been answered yet */
    bool more;                /* corked by MSG_MORE */
    bool err_told;            /* the error of the slot was reported once */
    int sndbuf, rcvbuf;       /* as set by the script; 0: not set */
    uint64_t rcv_us, snd_us;  /* SO_RCVTIMEO, SO_SNDTIMEO; PD_NEVER: none */
    struct pd_watch *watches; /* PD_EPOLL: PD_WATCH_MAX */
};

struct pd_stack {
    pthread_mutex_t lock;
    pthread_cond_t wake;       /* for blocked calls: look again */
    pthread_cond_t settled;    /* a blocked call sleeps again or is done */
    pthread_t driver;          /* packetdrill's first thread */
    unsigned asleep, running;  /* blocked calls that sleep, that were woken and are not yet settled */
    uint64_t generation;       /* of wake-ups */
    uint64_t uses;             /* of the stack, by either thread */
    uint64_t call_deadline_us; /* when the call that sleeps times out */
    unsigned reads;            /* of the clock, since anything else was done */
    bool started;
    bool fastopen_off;       /* no Fast Open for clients */
    bool fastopen_listeners; /* for every listener, as Linux has it on request */
    bool cut;                /* the device cuts frames larger than the MTU before packetdrill sees them */
    uint64_t start_us;       /* the clock until the engine starts */
    struct host h;
    struct engine_config cfg;
    struct in_addr local, gateway;
    uint8_t prefix;       /* of the network of `local` */
    uint64_t wait_max_us; /* longest virtual wait for a packet */
    char settings[256];   /* file of name=value lines, read as it grows; "": none */
    long settings_read;   /* bytes of it so far */
    struct pd_packet *out, **out_tail;
    struct pd_fd fds[PD_FDS];
};

extern struct pd_stack pd;

/** Take the lock; start the engine on the first call. Not held by the caller. */
void pd_enter(void);
void pd_leave(void);

/** Something changed: send what is to be sent, and let blocked calls look again. */
void pd_settle(void);

/** Move the clock to `until_us`, running what falls due on the way. */
void pd_advance(uint64_t until_us);

/**
 * A call can't go on: wait until something changed. False: `deadline_us` has come. In the driver, where
 * nobody else moves the clock, it moves the clock.
 */
bool pd_block(uint64_t deadline_us);

/** A packet for the stack. */
void pd_inject(const uint8_t *ip, size_t bytes);

/** The oldest packet from the stack, waiting for it at most wait_max_us; the script fails after that. */
struct pd_packet *pd_next_packet(void);

/** What the clock says; for packetdrill's gettimeofday(). Not held by the caller. */
uint64_t pd_clock_read(void);

/** The script can't go on: one line on stderr, and end the process. */
void pd_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/** The descriptor, or NULL with errno EBADF or ENOTSOCK. */
struct pd_fd *pd_fd_get(int fd, enum pd_kind kind);
/** A new descriptor of this kind, or -1 with errno. Its number is one of the process, so that nothing else
 * gets it and packetdrill may close it. */
int pd_fd_new(enum pd_kind kind);

static inline struct sg_slot *pd_slot(const struct pd_fd *f)
{
    return &pd.h.slots[f->slot];
}

/** Bits of poll() that hold now. */
uint32_t pd_ready_bits(const struct pd_fd *f);
/** Look for edges on all watched descriptors. */
void pd_watch_edges(void);

/* inside.c */
/** The SYN waits or is on its way. */
bool pd_syn_sent(const struct pd_fd *f);
/** Bytes that the SYN of a connection takes; send it without any. */
size_t pd_fastopen_room(const struct pd_fd *f);
void pd_fastopen_start(const struct pd_fd *f);
/** Have the engine follow what changed in pd.cfg. */
void pd_settings_change(void);

/** connect() of a stream; 0 or a negative errno. */
int pd_connect(struct pd_fd *f, const struct sockaddr *addr, socklen_t bytes);

/* The calls, by file. */
struct pd_interface;
void pd_calls_fill(struct pd_interface *i);
void pd_data_fill(struct pd_interface *i);
void pd_options_fill(struct pd_interface *i);
void pd_ready_fill(struct pd_interface *i);

/** errno and -1 from a negative errno; other values as they are. */
long pd_result(int64_t rc);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the library know of one another: the attachment, the sockets and their handles.
 *
 *   attach.c   hello, attach, the segment checked and mapped       lib.c      life of an attachment, fork
 *   channel.c  rings, commands, events                             wait.c     leader and followers, event fd
 *   slot.c     one socket's lines: bytes in, bytes out, kicks      socket.c   life of a socket
 *   listen.c   listeners on several workers
 *   stream.c   receiving and sending, stream calls                 dgram.c    datagrams
 *   options.c, groups.c  options     poll.c  readiness, callbacks  profile.c, consts.c   profiles
 *   addr.c     address forms     resolve.c  names                  error.c    presentation of failures
 */
#ifndef CLIENT_LIB_H
#define CLIENT_LIB_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "client-lib/channel.h"
#include "client-lib/include/sockclient.h"
#include "proto/abi/seg.h"

#define SC_LIKELY(x)    __builtin_expect(!!(x), 1)
#define SC_UNLIKELY(x)  __builtin_expect(!!(x), 0)

/* How often, at least, a thread that sleeps or polls looks whether the daemon still lives. */
#define ALIVE_CHECK_MS  250
#define SLEEP_SLICE_MS  500

/* How long a thread looks before it sleeps (docs/decisions/ring-hop.md); SOCKGATE_SPIN_US overrides it. */
#define SPIN_US_DEFAULT 20
#define SPIN_US_MAX     1000000
#define SPIN_PAUSES     8

struct sc_lib {
    unsigned fork_gen; /* sc__fork_gen when it was made; another value: this is a child */
    int ctl_fd;        /* connected control socket; its hang-up means that the daemon is gone */
    int epoll_fd;      /* what sc_event_fd() gives, -1: not asked for yet. Guarded by channel.lock */
    uint8_t *seg;
    uint64_t seg_bytes;
    uint64_t heap_off;
    struct sg_slot *slots;
    const struct sg_status *status; /* mapped read-only */
    uint64_t status_bytes;
    const sc_profile *profile; /* atomic */
    sc_addr address;           /* family 0: none */
    uint32_t dead;             /* atomic: the daemon is gone */
    uint64_t alive_checked_ms; /* atomic: when that was last looked at */
    uint32_t spin_us;
    pthread_key_t seen_key; /* of each thread: channel.change_seq at its last sc_wait() */
    struct channel ch;

    pthread_mutex_t handles_lock; /* guards handles; nothing is taken under it */
    LIST_HEAD(, sc_sock) handles;
    pthread_mutex_t cb_lock; /* recursive; held while a callback runs; taken before all others */
    LIST_ENTRY(sc_lib) all;  /* every attachment of the process, for fork */
};

/**
 * A socket. Shared by its handles. Memory: one reference for each unreleased handle, one while the daemon
 * has the slot, one while it is on the deferred list.
 *
 * The fields from rx_head on are the application's line of the slot, kept here so that it is written and
 * never read back.
 */
struct listening;
struct op;
struct desc {
    struct sc_lib *lib;
    struct channel *ch;
    struct sg_slot *slot;
    uint32_t num;         /* slot number */
    uint8_t type;         /* SG_SOCK_* */
    uint8_t family;       /* SG_AF_* */
    uint32_t refs;        /* atomic */
    struct desc *primary; /* the socket that this is another worker's slot of (listen.c), NULL: it is one */

    pthread_mutex_t lock; /* guards what follows, and the application's line of the slot */
    uint32_t handles;     /* open ones; a new socket counts the handle that it is made for */
    bool closed;
    bool tx_shut;      /* sc_shutdown() was called: write no more */
    bool tx_busy;      /* the send region is being asked for or given back: leave it alone */
    bool connected;    /* TCP: has been connected */
    bool err_reported; /* the error that ended the connection was told */
    bool want_tx;      /* SG_WANT_TX is set */
    bool tx_more;      /* SG_WANT_MORE is set */
    uint16_t linger_s; /* SO_LINGER with a time: how long the last close waits; 0: not at all */
    uint64_t rx_head;
    uint64_t tx_tail;
    uint64_t tx_base;
    uint64_t tx_from;  /* stream offset from which on the present send region is used */
    uint32_t tx_taken; /* offers of a send region taken [S10] */
    uint32_t kick_posted;
    struct listening *listening; /* what listening on several workers takes; NULL: nothing */

    /* Guarded by channel.lock. */
    struct waiter_list waiters;
    struct pending close_p;
    bool is_deferred;
    bool release_asked; /* SG_EV_RELEASE came */
    TAILQ_ENTRY(desc) deferred;

    /* Guarded by lib.cb_lock; has_cb is atomic, so that the drain may look. */
    uint32_t has_cb;
    struct sc_sock *cb_sock;
    sc_event_cb cb;
    void *cb_arg;
};

/** A handle on a socket. */
struct sc_sock {
    struct sc_lib *lib;
    struct desc *d;
    const sc_profile *profile; /* atomic */
    int64_t rcv_ms, snd_ms;    /* atomic: time-outs; -1 for ever, 0 non-blocking */
    uint32_t closed;           /* atomic */
    LIST_ENTRY(sc_sock) all;   /* lib.handles */
};

/* ---- lib.c --------------------------------------------------------------------------------------- */

extern unsigned sc__fork_gen;

/** True in a process that fork() made after the attachment. */
static inline bool sc__lib_foreign(const struct sc_lib *lib)
{
    return SC_UNLIKELY(lib->fork_gen != sc__fork_gen);
}

static inline bool sc__lib_dead(const struct sc_lib *lib)
{
    return SC_UNLIKELY(__atomic_load_n(&lib->dead, __ATOMIC_ACQUIRE) != 0);
}

/** The daemon is gone, or broke the contract: every call fails from now on. Channel lock not held. */
void sc__lib_die(struct sc_lib *lib);
/** Look whether the daemon lives; `now` false: only if that was not done lately. */
void sc__lib_check_alive(struct sc_lib *lib, bool now);

/* ---- attach.c ------------------------------------------------------------------------------------ */

/** Connect, hello, attach, map. Fills ctl_fd to address and the rings of ch. 0 or as sc_lib_open(). */
int sc__attach(struct sc_lib *lib, const char *control_path);
/** Remember a text for sc_lib_open_error(). Returns rc. */
int sc__attach_fail(int rc, const char *text);
/** Undo sc__attach(); also after a part of it. In a fork()ed child only what is the child's. */
void sc__detach(struct sc_lib *lib);

/* ---- socket.c ------------------------------------------------------------------------------------ */

/** A new socket object with a free slot number of a worker; -EMFILE, -ENOMEM. */
int sc__desc_new(struct sc_lib *lib, uint8_t family, uint8_t type, uint32_t worker, struct desc **out);
/** The daemon is to close it: nothing uses the slot any more. The socket's lock is held. */
void sc__desc_close(struct desc *d);
/** The daemon does not have it (any more): its number is free. Drops the table's reference. */
void sc__desc_forget(struct desc *d);
void sc__desc_ref(struct desc *d);
void sc__desc_unref(struct desc *d);
/** A handle on `d`, counted by the caller in d->handles; adds its own reference. NULL: out of memory. */
struct sc_sock *sc__handle_new(struct sc_lib *lib, struct desc *d, const sc_profile *profile);
/** Free a handle that is closed. */
void sc__handle_free(struct sc_sock *s);

static inline const sc_profile *sc__profile(const struct sc_sock *s)
{
    return __atomic_load_n(&s->profile, __ATOMIC_ACQUIRE);
}

/* ---- listen.c: one listener, a slot on each worker; the socket's lock is held -------------------- */

/** An option was set, by this command: the slots on other workers have it, or will. */
void sc__listen_option(struct desc *d, const struct sg_cmd *cmd);
/** Carry out SG_CMD_LISTEN on all workers. As sc__op_command(). */
int sc__listen_all(struct op *op, struct sg_cmd *cmd);
/** The slot whose oldest connection is next in turn; NULL: none waits. */
struct desc *sc__listen_next(struct desc *d);
bool sc__listen_ready(const struct desc *d);
/** Close the slots on other workers. */
void sc__listen_close(struct desc *d);
void sc__listen_free(struct desc *d);
/** It is connected, and will never listen. */
void sc__listen_forget(struct desc *d);

/* ---- A call under way (slot.c) ------------------------------------------------------------------- */

/** A call on a socket: between sc__op_begin() and sc__op_end() the socket is locked. */
struct op {
    struct sc_sock *s;
    struct desc *d;
    bool nonblock;
    bool listed;  /* w is on d->waiters */
    bool granted; /* has asked for a send region */
    uint64_t deadline_ns;
    struct waiter w;
};

/** Lock the socket of a handle. 0, -EBADF, -EINVAL (s NULL); after a failure there is nothing to end. */
int sc__op_begin(struct op *op, struct sc_sock *s, int64_t timeout_ms, bool dontwait);
/**
 * The call can't go on now: wait until something changed. Unlocks the socket while it sleeps.
 * @return 0 (look again), -EAGAIN (non-blocking), -ETIMEDOUT, -EINTR, -EBADF, -ENETDOWN
 */
int sc__op_block(struct op *op);
/** Unlock. Returns rc. */
int sc__op_end(struct op *op, int rc);
/** Carry out a command with the socket unlocked, then lock it again. -EBADF when it was closed meanwhile. */
int sc__op_command(struct op *op, struct sg_cmd *cmd, uint64_t *value);

/** socket.c, MSG_FASTOPEN: connect so that the SYN may carry data. 0: it may be written; as sc_connect(). */
int sc__connect_fastopen(struct op *op, const sc_addr *to);

/* ---- One socket's lines (slot.c); the socket's lock is held -------------------------------------- */

/** The daemon's line as far as the state goes, in an order that never shows an end before its bytes. */
struct line {
    uint8_t state;    /* enum sg_state */
    uint32_t flags;   /* SG_F_* */
    uint32_t error;   /* valid with SG_F_ERROR, SG_F_SOFT_ERR */
    uint64_t rx_tail; /* at least what it was when flags were written */
};
void sc__line_read(const struct desc *d, struct line *ret);

/** Memory of a region, or NULL when the line makes no sense (the attachment then dies). */
uint8_t *sc__region(struct desc *d, uint32_t region, uint8_t log2);

/** The bytes up to `head` have been read: tell the daemon, with a kick if it asked for one. */
void sc__rx_advance(struct desc *d, uint64_t head);
/** The bytes up to `tail` have been written: tell the daemon, with a kick if none is pending. */
void sc__tx_advance(struct desc *d, uint64_t tail);

/** The bytes that can be read now: one run, or two during a switch of regions. */
struct rx_view {
    struct rx_part {
        const uint8_t *base; /* the region's memory */
        uint64_t pos;        /* of the first byte: stream offset minus the region's base */
        uint64_t len;
        uint8_t log2;
    } part[2];
    uint64_t len; /* of both together */
};
/** What lies between rx_head and `tail`. False: the daemon's line makes no sense, and the attachment dies. */
bool sc__rx_view(struct desc *d, uint64_t tail, struct rx_view *ret);
/** Copy the first n bytes of a view. */
void sc__rx_copy(const struct rx_view *v, void *buf, size_t n);

/** The send region as it is now. */
struct tx_room {
    uint8_t *base; /* the region's memory */
    uint8_t log2;
    uint64_t pos;  /* where the next byte goes: stream offset minus tx_base */
    uint64_t free; /* bytes that may be written */
};
/* Of sc__tx_room(): the socket was unlocked to ask for a region, so the caller looks at its state again. */
#define TX_LOOK_AGAIN (INT_MIN + 1)
/**
 * Room of at least `need` bytes in the send region.
 * @return 0, TX_LOOK_AGAIN, -EAGAIN (less is free; the daemon will post an event when that changes),
 *         -EMSGSIZE (never), errors of SG_CMD_GRANT, -ENETDOWN, -EBADF
 */
int sc__tx_room(struct op *op, uint64_t need, struct tx_room *ret);
/** TCP: say whether what is written next will be continued (MSG_MORE). */
void sc__tx_more(struct desc *d, bool more);
/** TCP: the peer has all that was written; if not, the daemon will post an event. */
bool sc__tx_acked(struct desc *d);
/** Whether polling calls the send region writable; if not, the daemon will post an event. */
bool sc__tx_writable(struct desc *d);

/* ---- stream.c, dgram.c --------------------------------------------------------------------------- */

/* Message flags after translation. */
#define MSGF_PEEK     (1u << 0)
#define MSGF_DONTWAIT (1u << 1)
#define MSGF_WAITALL  (1u << 2)
#define MSGF_MORE     (1u << 3)
#define MSGF_FASTOPEN (1u << 4)
/** Read flags in the profile's numbers. 0, -EOPNOTSUPP. */
int sc__msg_flags(const sc_profile *p, int flags, unsigned *ret);

/** TCP: receive up to n bytes that are there. Bytes, 0 at the end, -EAGAIN, errors. Locked. */
ssize_t sc__stream_take(struct op *op, void *buf, size_t n, bool peek);
/** TCP: queue up to n bytes; `whole`: all or -EAGAIN; `more`: more will follow. Locked. */
ssize_t sc__stream_put(struct op *op, const void *buf, size_t n, bool whole, bool more);
/** UDP: receive one datagram. Locked. */
ssize_t sc__dgram_take(struct op *op, void *buf, size_t n, bool peek, sc_addr *from, sc_msg_info *info);
/** UDP: queue one datagram; `to` NULL: the peer; `info` may be NULL. Locked. */
ssize_t sc__dgram_put(struct op *op, const void *buf, size_t n, const sc_addr *to, const sc_msg_info *info);
/** How the connection's error is told to one who receives (0: end of file) or sends. Locked. */
int sc__stream_rx_error(struct desc *d, const struct line *l);
int sc__stream_tx_error(struct desc *d, const struct line *l, const sc_profile *p);

/* ---- profile.c, options.c, addr.c, resolve.c, error.c -------------------------------------------- */

/** A profile's number for a family or type as SG_AF_*, SG_SOCK_*; -EAFNOSUPPORT, -EPROTONOSUPPORT. */
int sc__family_of(const sc_profile *p, int family);
int sc__type_of(const sc_profile *p, int type);
/** The profile's number for SG_SOCK_*. */
int sc__type_number(const sc_profile *p, uint8_t type);

/* profile.opt_space and gai_space */
enum { OPT_LINUX, OPT_ESP32, OPT_LWIP, OPT_ZERYNTH };
enum { GAI_LINUX, GAI_ESP32, GAI_LWIP };

extern const struct sc_const sc__consts_linux[];
extern const struct sc_const sc__consts_esp32[];
extern const struct sc_const sc__consts_lwip[];
extern const struct sc_const sc__consts_zerynth[];

void sc__addr_from_slot(sc_addr *out, uint16_t family, const uint8_t ip[16], uint16_t port, uint32_t scope);
/** Fill the address fields of a command. 0, -EAFNOSUPPORT. */
/* groups.c: options whose value names a multicast group, Linux's level and name. */
bool sc__group_option(int level, int name);
int sc__group_set(sc_sock *s, int level, int name, const void *val, size_t len);

int sc__addr_to_cmd(const sc_addr *a, uint8_t family, struct sg_cmd *cmd);
/** Dotted quad, "" or a name of the hosts file as IPv4. 0, SC_GAI_*. */
int sc__resolve(const char *host, uint8_t out[4]);

/** The daemon wants the send region back: give it if nothing lies in it. No lock held. */
void sc__tx_release(struct desc *d);
/** poll.c: make the socket's callback, if it still has one. lib.cb_lock held, no other. */
void sc__callback_run(struct desc *d);

#endif

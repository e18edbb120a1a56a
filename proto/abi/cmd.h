/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that travel in a channel's rings.
 *
 *   kick ring   app -> daemon   uint32_t slot number: "my line of this slot has changed" [S6]
 *   command ring app -> daemon  struct sg_cmd, one cache line: everything that is not data
 *   event ring  daemon -> app   struct sg_event: "the daemon's line of this slot has changed", or a reply
 *
 * A command with tag != 0 is answered by exactly one SG_EV_REPLY with that tag; tag 0 asks for no answer.
 * What a command changed stands in the slot before its reply is posted.
 * Commands of one channel are carried out in order. A command may be repeated after a daemon restart: the
 * daemon answers a repeated tag with the effect already in place. An unknown op is answered -ENOSYS.
 *
 * TCP listens on all workers at once: on each there is a slot that is bound to the same address and port, all
 * but the first with SG_CMD_BIND naming the first in arg0. Connections wait in the slot of the worker that
 * they came to, and all together count for the limit of SG_CMD_LISTEN.
 *
 * Slot numbers are chosen by the application (SG_CMD_OPEN and SG_CMD_ACCEPT name a free one) and are free
 * again when the reply to SG_CMD_CLOSE has arrived.
 */
#ifndef SG_ABI_CMD_H
#define SG_ABI_CMD_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* Socket types (equal to Linux's numbers). */
#define SG_SOCK_STREAM 1u
#define SG_SOCK_DGRAM  2u
#define SG_SOCK_RAW    3u

enum sg_cmd_op {
    SG_CMD_NOP = 0,
    SG_CMD_OPEN,     /* slot; arg0 = SG_SOCK_*; arg1 = IP protocol or 0; family */
    SG_CMD_BIND,     /* slot; family, addr, port (0: choose one); arg0 = 0, or a bound slot of another worker
                      * with which it will listen as one */
    SG_CMD_LISTEN,   /* slot; arg0 = completed connections that may wait, >= 1; arg1 = enum sg_overflow */
    SG_CMD_CONNECT,  /* slot; family, addr, port. Reply 0: under way (TCP) or set (UDP); see slot.d.state.
                      * family 0 on UDP: forget the peer */
    SG_CMD_ACCEPT,   /* slot = listener; arg0 = free slot of its worker for the connection. -EAGAIN when none
                      * waits */
    SG_CMD_SHUTDOWN, /* slot; arg0 = SG_SHUT_* */
    SG_CMD_CLOSE,    /* slot; arg0 = 0 */
    SG_CMD_SETOPT,   /* slot; arg0 = level, arg1 = name, value. Linux's numbers. See below for groups */
    SG_CMD_GETOPT,   /* slot; arg0 = level, arg1 = name; the answer lies in the reply's value */
    SG_CMD_GRANT,    /* slot; asks for a send region; 0, or -ENOBUFS when the quota is used up */
    SG_CMD_RELEASE,  /* slot; the answer to SG_EV_RELEASE: the send region is empty and no longer used */
    SG_CMD_COUNT
};

enum sg_overflow {
    SG_OVERFLOW_DROP = 0, /* accept queue full: ignore the handshake, the peer tries again */
    SG_OVERFLOW_RESET,    /* accept queue full: answer RST */
};

#define SG_SHUT_RD 1u
#define SG_SHUT_WR 2u

/** Application to daemon; one cache line, written by the application. */
struct sg_cmd {
    uint16_t op;    /* enum sg_cmd_op */
    uint16_t flags; /* zero */
    uint32_t slot;
    uint32_t tag; /* names the answer; 0: none wanted */
    uint32_t arg0;
    uint32_t arg1;
    uint16_t family; /* SG_AF_* of addr */
    uint16_t port;   /* host order */
    uint8_t addr[16];
    uint32_t scope;
    uint32_t pad;    /* zero */
    uint64_t value;  /* SETOPT: integer, or two 32-bit halves (SO_LINGER: on/off low, seconds high), or a name
                     * of at most 8 bytes (TCP_CONGESTION: first byte lowest, zeros behind the last) */
    uint64_t value2; /* zero, but see below */
};

/*
 * SETOPT of IP_MULTICAST_IF and of memberships (level 0, names 32 and 35 to 40) carries addresses and no
 * value. family 0 or SG_AF_INET: addr holds group, own address on the interface, and source, 4 bytes each.
 * SG_AF_INET6 (memberships only): addr holds the group, value and value2 together the source's 16 bytes.
 * scope: number of the interface, from 1 on; 0: by its address, or chosen by the daemon.
 *
 * SETOPT of ICMP6_FILTER (level 58, name 1) carries the 32 bytes of the filter in addr, value and value2.
 *
 * SETOPT of TCP_FASTOPEN_KEY (level 6, name 33) carries one key in addr, or a second one in value and value2
 * too; scope: 16 or 32, their bytes.
 */

static_assert(sizeof(struct sg_cmd) == 64, "one cache line");
static_assert(offsetof(struct sg_cmd, family) == 20, "layout");
static_assert(offsetof(struct sg_cmd, addr) == 24, "layout");
static_assert(offsetof(struct sg_cmd, value) == 48, "layout");

enum sg_event_kind {
    SG_EV_NONE = 0,
    SG_EV_SOCK,    /* slot: look at it [S5] */
    SG_EV_REPLY,   /* tag, result, value: the answer to a command */
    SG_EV_RELEASE, /* slot: the send region has long been idle; give it back with SG_CMD_RELEASE */
};

/** Daemon to application; written by the daemon. */
struct sg_event {
    uint32_t kind; /* enum sg_event_kind */
    uint32_t slot;
    uint32_t tag;
    int32_t result; /* 0 or more: done; negative: Linux errno */
    uint64_t value; /* GETOPT */
    uint64_t pad;   /* zero */
};

static_assert(sizeof(struct sg_event) == 32, "two to a cache line");
static_assert(offsetof(struct sg_event, value) == 16, "layout");

#endif

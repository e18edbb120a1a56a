/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon in a thread, without a network: it speaks the control protocol and the shared-memory contract, and
 * tests script what happens to the sockets. Peers are chosen by the port that a socket connects or sends to.
 *
 * Every fake_*() call takes the fake's lock, so tests may call them from any thread at any time.
 */
#ifndef TEST_FAKE_DAEMON_H
#define TEST_FAKE_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ports to connect or send to; every other port is PORT_SCRIPT. */
#define PORT_REFUSED 1  /* TCP: RST. UDP: ICMP port unreachable */
#define PORT_SILENT  2  /* TCP: no answer for ever */
#define PORT_ECHO    7  /* sends everything back */
#define PORT_DISCARD 9  /* takes everything */
#define PORT_SCRIPT  10 /* TCP: takes nothing until fake_consume(); UDP: as PORT_DISCARD */
#define PORT_TAKEN   11 /* bind: address in use */

/* What is wrong with the fake; everything else about it is right. */
enum fake_fault {
    FAKE_SANE = 0,
    FAKE_OTHER_VERSION,  /* the hello names another ABI version */
    FAKE_REFUSES,        /* answers -ENOSPC with a text */
    FAKE_HANGS_UP,       /* closes the connection instead of answering */
    FAKE_TALKS_NONSENSE, /* answers bytes that are no message */
    FAKE_WRONG_ANSWER,   /* answers the hello with a version response */
    FAKE_SILENT,         /* accepts and never answers */
    FAKE_NO_FDS,         /* attaches without descriptors */
    FAKE_BAD_MAGIC,      /* segment header */
    FAKE_BAD_VERSION,
    FAKE_BAD_SIZE,
    FAKE_BAD_SLOTS,
    FAKE_BAD_RINGS,
    FAKE_BAD_HEAP,
    FAKE_UNSEALED,
    FAKE_BAD_STATUS,
};

struct fake_options {
    enum fake_fault fault;
    uint32_t slots;            /* 0: 64 */
    uint32_t ring_entries;     /* of all three rings; 0: 64 */
    uint8_t region_log2;       /* 0: 14 */
    uint32_t command_delay_us; /* before each reply */
    bool grant_refused;        /* SG_CMD_GRANT fails with -ENOBUFS */
};

struct fake;

/** Start a fake; aborts the test when it can't. `options` NULL: all defaults. */
struct fake *fake_start(const struct fake_options *options);
/** Its control socket. */
const char *fake_path(const struct fake *f);
/** End it as a kill would: connections close, nothing is answered. Also frees it. */
void fake_stop(struct fake *f);
/** Only the death; fake_stop() must still be called. */
void fake_die(struct fake *f);

/** The peer of a stream sends bytes; returns how many fit the receive ring. */
size_t fake_push(struct fake *f, int fileno, const void *data, size_t n);
/** The peer closes its half. */
void fake_fin(struct fake *f, int fileno);
/** The connection ends with an errno (ECONNRESET: the peer's RST). */
void fake_error(struct fake *f, int fileno, int error);
/** An error of the kind that ICMP brings to a datagram socket. */
void fake_soft_error(struct fake *f, int fileno, int error);
/** A connection under way stands. */
void fake_establish(struct fake *f, int fileno);
/** The peer of a PORT_SCRIPT stream takes up to n bytes; returns how many, copied to `data` if not NULL. */
size_t fake_consume(struct fake *f, int fileno, void *data, size_t n);
/** Begin a switch of both rings to other regions, now, and from then on whenever the one before is done. The
 * other region is twice as large as the first, then the first again. */
void fake_switch(struct fake *f, int fileno, bool always);
/** A connection arrives at a listener. `port` is both the peer's port and its behaviour, as PORT_*. */
void fake_incoming(struct fake *f, int fileno, uint16_t port);
/** A datagram from 10.0.0.9:port arrives. */
void fake_dgram(struct fake *f, int fileno, uint16_t port, const void *data, size_t n);
/** Ask for the send region back with SG_EV_RELEASE. */
void fake_release(struct fake *f, int fileno);
/** Post an event for a slot although nothing changed. */
void fake_nudge(struct fake *f, int fileno);

/** Wait for the end of the turn that the fake is in: what it has answered, it has also written down. */
void fake_settle(struct fake *f);

/** What the library has told the fake. */
struct fake_seen {
    uint32_t listen_backlog, listen_overflow;
    uint32_t shutdown_how;
    uint32_t opt_level, opt_name, opt_count; /* last SG_CMD_SETOPT, and how many */
    uint64_t opt_value, opt_value2;
    uint32_t opt_scope;
    uint16_t opt_family;
    uint8_t opt_addr[16];
    uint32_t closes, grants, releases, opens;
    uint64_t rx_head; /* of the slot asked about */
    uint64_t tx_tail;
    uint64_t tx_base;
    uint32_t tx_region;
    uint32_t want;
    uint32_t kicks; /* in all */
    uint32_t doorbells;
    uint32_t sessions; /* connected now */
};
void fake_seen(struct fake *f, int fileno, struct fake_seen *ret);

#endif

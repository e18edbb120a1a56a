/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port table: who holds which local port, and the choice of ephemeral ports (RFC 6056).
 *
 * Sockets that were bound by hand or listen are on the port's list and compared by address; connections
 * that came through a listener, or chose their port at connect, are only counted. Scratch memory.
 */
#ifndef ENGINE_PORT_H
#define ENGINE_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/siphash.h"

struct port_entry {
    uint32_t binds;         /* sock_id list through sock.bind_next */
    uint32_t conns;         /* connections that use the port without being on the list */
    uint32_t conns_noreuse; /* those of them without SO_REUSEADDR */
    uint32_t tw;            /* TIME_WAIT records */
};

struct port_table {
    struct port_entry *tcp; /* 65,536 each */
    struct port_entry *udp;
    struct sip_key key;
    uint32_t next[1024]; /* RFC 6056 3.3.4: one counter for each group of destinations */
};

size_t port_bytes(void);
void port_init(struct port_table *t, void *mem, const struct sip_key *key);

/* sock_port_claim() and sock_port_release() are declared in engine_int.h. */
struct sock;
struct flow_key;
struct engine;

/** Count a connection on its local port, unless it is on the port's list. */
void port_count(struct engine *e, struct sock *s);
/** Change SO_REUSEADDR and keep the counts right. */
void port_set_reuse(struct engine *e, struct sock *s, bool on);
/** One TIME_WAIT record more or less. */
void port_count_tw(struct engine *e, uint16_t port, int change);
/** True when another socket listens where `s` is about to. */
bool port_listen_conflict(struct engine *e, const struct sock *s);
/** `to` takes over the port of `from` (same port, another record). Returns the group of listeners, or 0. */
uint32_t port_rebind(struct engine *e, struct sock *from, struct sock *to);
/**
 * A local port for a connection to dest->remote:rport (lport is ignored); 0: all are in use. The four numbers
 * may be those of a TIME_WAIT record that is tcp_tw_reusable().
 */
uint16_t port_choose_connect(struct engine *e, const struct sock *s, const struct flow_key *dest);

#endif

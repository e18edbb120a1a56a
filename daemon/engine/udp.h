/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP sockets (RFC 768, RFC 1122 4.1). The calls are declared in engine_int.h.
 *
 * Datagrams stand in the socket's rings as records with a struct sg_dgram_hdr. A received datagram goes to
 * the socket that fits it best: connected to its sender, else bound to its destination address, else bound to
 * any; among equals the one bound last. A broadcast goes to all that fit. Records lie in the arena; the hash
 * over local ports and the list of those with something to send are scratch.
 */
#ifndef ENGINE_UDP_H
#define ENGINE_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"

/* Datagrams that one socket sends before the next has its turn, and all in one call. */
#define UDP_SOCK_BURST   16u
#define UDP_OUTPUT_BURST 512u

/* sock.bind_flags: the local address was chosen by connect() and goes with the peer. */
#define BIND_CONNECT     (1u << 8)

struct udp_sock;

struct udp_table {
    struct udp_sock *socks; /* arena */
    uint32_t *free;         /* stack of unused indices */
    uint32_t *bucket;       /* by local port: socket indices through hash_next */
    uint32_t count, free_count, mask;
    uint32_t tx_head, tx_tail; /* sockets with datagrams to send, through tx_next */
};

size_t udp_arena_bytes(const struct engine_config *cfg);
size_t udp_bytes(const struct engine_config *cfg);
/** Records in `arena` that are in use stay so; the caller puts them back on port lists. */
void udp_init(struct udp_table *t, void *arena, void *mem, const struct engine_config *cfg);

/** NULL, or what is inconsistent. */
const char *udp_check(const struct engine *e);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several engines that are one host: the same addresses, each with the connections and sockets of one worker
 * (docs/decisions/workers.md). Each is as pure as one alone; what they have in common they ask for through
 * struct engine_peers, which the daemon gives them at start. An engine without it is alone, and does nothing
 * of what stands here.
 *
 * Ports. A worker holds a port as long as any record of its engine does: a socket that is bound, a
 * connection, a TIME_WAIT record. The daemon knows of all, so that binds collide across workers and what
 * comes in elsewhere finds its way.
 *
 * Packets. Frames reach an engine sorted: those for other workers were handed on before engine_rx(). What
 * only the engine can sort, as it put the packet together itself (from fragments, or for one of our own
 * addresses), it shows to pass().
 *
 * The leader alone announces and defends addresses, asks for them, takes what routers say, and speaks for
 * the groups that belong to the host's own addresses. The others have its tables by engine_net_import(). Each
 * asks for the neighbours that it needs itself, and speaks for the groups that its sockets joined.
 */
#ifndef ENGINE_PEERS_H
#define ENGINE_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A port that a socket holds by itself. */
struct engine_port_use {
    struct ip_addr local, remote; /* remote: family 0 as long as there is no peer */
    uint32_t id;                  /* names the socket among those of its engine */
    uint32_t uid, session, slot;  /* whose it is */
    uint32_t share; /* slot of the session's socket on another worker with which it listens as one; 0: none */
    uint16_t port, rport;
    uint8_t proto; /* of IP */
    bool v6only, reuseaddr, reuseport, listens;
};

/* How a worker uses a port: engine_peers_ops.port_state(). */
#define ENGINE_PORT_USED    (1u << 0) /* by whatever */
#define ENGINE_PORT_CONNS   (1u << 1) /* by connections that are not bound */
#define ENGINE_PORT_NOREUSE (1u << 2) /* one of which has no SO_REUSEADDR */
#define ENGINE_PORT_TW      (1u << 3) /* by TIME_WAIT records */

/** The four numbers of a connection, from our side. */
struct engine_flow {
    struct ip_addr local, remote;
    uint16_t lport, rport;
    uint8_t proto;
};

/** An IP packet. */
struct engine_packet {
    const uint8_t *hdr, *payload; /* of IP; extension headers count to it */
    uint32_t hdr_bytes, payload_bytes;
    struct ip_addr src, dst;
    uint8_t proto;
    uint8_t ifindex;
    bool group;   /* to several: broadcast or multicast */
    bool looped;  /* from ourselves */
    bool csum_ok; /* the transport checksum need not be verified */
    bool copy;    /* for raw sockets only: the rest is seen to elsewhere */
    uint16_t gso_size;
};

/** Answered at once; none waits for another worker's turn. */
struct engine_peers_ops {
    /**
     * A socket wants a port. 0: it has it; -EADDRINUSE: another worker's has a better right; -EINVAL: it has
     * nothing to share with; -ENOBUFS.
     */
    int (*port_bind)(void *ctx, const struct engine_port_use *u);
    void (*port_unbind)(void *ctx, const struct engine_port_use *u);
    /** The socket `old_id` is another now: it moved, got or lost a peer, or listens. As port_bind(). */
    int (*port_change)(void *ctx, uint32_t old_id, const struct engine_port_use *u);
    /** ENGINE_PORT_* of a port changed. */
    void (*port_state)(void *ctx, uint8_t proto, uint16_t port, unsigned state);
    /** May a connection leave from a port that no socket here holds, so that its answers come back here? */
    bool (*port_connect)(void *ctx, const struct engine_flow *f);
    /** The same of a port that was bound: true makes sure of it until unpin(). */
    bool (*pin)(void *ctx, const struct engine_flow *f);
    void (*unpin)(void *ctx, const struct engine_flow *f);
    /** Raw sockets of a protocol: one more or one less. */
    void (*raw)(void *ctx, uint16_t family, uint8_t proto, int change);
    /** Hand a packet to those it is for. True: it is not for this worker. */
    bool (*pass)(void *ctx, const struct engine_packet *p);
};

struct engine_peers {
    const struct engine_peers_ops *ops;
    void *ctx;
    bool leads;
    uint32_t *waiting; /* atomic counters: connections that wait for accept, of listeners that share a port */
};

/** A packet that another worker handed on, its header and payload in one piece. */
void engine_rx_packet(struct engine *e, const struct engine_packet *p, uint64_t now_us);
/** A frame that is for raw sockets only: the rest is seen to elsewhere. */
void engine_rx_copy(struct engine *e, const struct pktbuf *p, uint64_t now_us);

/**
 * Addresses, routes and what routers said, for the engines of other workers. The version changes whenever
 * there is something new.
 */
uint32_t engine_net_version(const struct engine *e);
size_t engine_net_bytes(void);
void engine_net_export(const struct engine *e, void *ret);
void engine_net_import(struct engine *e, const void *from);

/** Listeners of one port on several workers: SG_CMD_BIND beside the socket in slot `with`. */
int engine_bind_beside(struct engine *e, int sid, uint32_t slot, const struct ip_ep *local, uint32_t with);

#endif

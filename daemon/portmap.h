/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ports of the whole daemon: which workers hold a port, so that binds of sockets on different workers
 * collide as those of one do, and what comes in on one worker finds the one that it is for.
 *
 * Each engine has the ports of its own sockets; this is what they are told of one another (engine/peers.h).
 * Of a port there are the workers that use it at all, with one word that anybody may look at without a lock;
 * and under the lock the sockets that are bound to it, and pinned connections: those of a bound port whose
 * frames come in elsewhere.
 *
 * Thread rule: any thread; portmap_users() takes no lock, the others take it for a few compares.
 */
#ifndef DAEMON_PORTMAP_H
#define DAEMON_PORTMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/engine.h"

struct portmap;

#define PORTMAP_PINS_MAX 4096u
#define PORTMAP_BINDS_MAX                                                                                    \
    65536u /* TCP sockets bound by hand that do not listen, beyond what listeners take */

/* portmap_users(): bits 0 to 15 are the workers. */
#define PORTMAP_WORKERS 0xffffu
#define PORTMAP_ANY     (1u << 30) /* UDP: one group of SO_REUSEPORT, any of them will do */
#define PORTMAP_ASK     (1u << 31) /* portmap_find() knows more */

/** For `listen_max` listeners and `udp_max` UDP sockets in each of `workers` engines. 0 or -ENOMEM. */
int portmap_create(uint32_t listen_max, uint32_t udp_max, unsigned workers, struct portmap **ret);
void portmap_free(struct portmap *m); /* accepts NULL */

/** engine_peers.waiting. */
uint32_t *portmap_waiting(struct portmap *m);

/* engine_peers_ops, for one worker. */
int portmap_bind(struct portmap *m, unsigned worker, const struct engine_port_use *u);
void portmap_unbind(struct portmap *m, unsigned worker, const struct engine_port_use *u);
int portmap_change(struct portmap *m, unsigned worker, uint32_t old_id, const struct engine_port_use *u);
void portmap_state(struct portmap *m, unsigned worker, uint8_t proto, uint16_t port, unsigned state);
bool portmap_connect(struct portmap *m, unsigned worker, const struct engine_flow *f);
bool portmap_pin(struct portmap *m, unsigned worker, const struct engine_flow *f);
void portmap_unpin(struct portmap *m, unsigned worker, const struct engine_flow *f);

/** The workers that use a TCP or UDP port, and PORTMAP_*. */
uint32_t portmap_users(const struct portmap *m, uint8_t proto, uint16_t port);
/** The worker whose socket is the one for a packet of this flow, -1: no rule beyond portmap_users(). */
int portmap_find(struct portmap *m, const struct engine_flow *f, uint32_t hash);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several workers that are one host: what they share, and the rings by which one hands another what is not
 * its own (docs/decisions/workers.md). A daemon with one worker has none.
 *
 * Between each two workers there is a ring each way; a further one leads from each to the leader, worker 0,
 * for frames of devices that have one queue only. All are bounded: what finds no room is dropped and counted,
 * but for frames to send, which wait in the engine. Nobody waits for another worker.
 *
 * Thread rule: cluster_create() to cluster_join() before the workers run; the rest on the thread of worker
 * `w`.
 */
#ifndef DAEMON_CLUSTER_H
#define DAEMON_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/engine/engine.h"
#include "hw/device.h"

#define CLUSTER_TAKE_MAX 64u /* records taken from each ring in a turn */

struct cluster;

/** What a worker counts of it. */
struct cluster_counters {
    uint64_t handed_on;    /* to other workers */
    uint64_t handed_over;  /* from other workers */
    uint64_t handoff_full; /* lost: no room in a ring */
};

/** For cfg->workers workers, 2 or more. 0 or -ENOMEM. */
int cluster_create(const struct config *cfg, struct cluster **ret);
void cluster_free(struct cluster *c); /* accepts NULL */

/** How a device spreads its frames over the workers: `queues` as opened, 1 or one for each. */
void cluster_device(struct cluster *c, unsigned dev, const struct device_caps *caps, unsigned queues,
                    uint32_t seed);
/** The device that an interface of the engines is on. */
void cluster_interfaces(struct cluster *c, const struct engine_config *e);
/** engine_config.peers of worker `w`'s engine. */
const struct engine_peers *cluster_peers(struct cluster *c, unsigned w);
/** A worker is woken by a write to `bell_fd` when *asleep says so ([P3]). */
void cluster_join(struct cluster *c, unsigned w, const uint32_t *asleep, int bell_fd);

/** Frames that a device brought: to the engine what is for worker `w`, to the others what is theirs. */
void cluster_receive(struct cluster *c, unsigned w, struct engine *e, unsigned dev, struct pktbuf *pkts[],
                     unsigned n, uint64_t now_us);
/** Take what the other workers handed over. Returns how much that was. */
unsigned cluster_take(struct cluster *c, unsigned w, struct engine *e, uint64_t now_us);
/** Have the leader send frames over a device of one queue. Returns how many were taken. */
int cluster_send(struct cluster *c, unsigned w, unsigned dev, struct pktbuf *const pkts[], unsigned n);
/** The leader: send what others want to be sent. `send` takes frames for a device as tx_burst() does. */
unsigned cluster_forward(struct cluster *c, int (*send)(void *arg, unsigned dev, struct pktbuf *p),
                         void *arg);
/** The leader: tell the others of addresses and routes, if there is news. */
void cluster_tell_net(struct cluster *c, const struct engine *e);
/** Something waits for worker `w`; look after the sleep word is set. */
bool cluster_pending(const struct cluster *c, unsigned w);
/** Wake whom this turn gave something. */
void cluster_wake(struct cluster *c, unsigned w);

const struct cluster_counters *cluster_counters(const struct cluster *c, unsigned w);

#endif

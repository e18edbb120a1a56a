/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of one channel: kicks and commands come in, events go out.
 *
 * Everything behind `ctl` and the rings lies in the application's segment and may change at any moment; the
 * cursors in struct channel are private, so the application can only lie about its own. A lie that shows
 * (an index that its ring can't have) is -EPROTO from these functions and ends the session.
 *
 * Events are staged and become visible together at channel_publish(), once per turn.
 *
 * Thread rule: the worker's thread only, after channel_open().
 */
#ifndef DAEMON_CHANNEL_H
#define DAEMON_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/abi/seg.h"

struct channel {
    struct sg_channel *ctl; /* shared */
    uint32_t *sleep;        /* shared: the sleep word of the channel as a whole */
    struct sg_ring kick, cmd, event;
    uint32_t staged; /* events written and not yet published */
};

enum channel_wake { CHANNEL_WAKE_NONE, CHANNEL_WAKE_FUTEX, CHANNEL_WAKE_EVENTFD };

/** Set up the private side over a fresh, zeroed channel at `base`. Counts are powers of two. */
void channel_open(struct channel *c, void *base, uint32_t kick_entries, uint32_t cmd_entries,
                  uint32_t event_entries);

/** Take up to `max` kicks (slot numbers, unchecked). Returns their number or -EPROTO. */
int channel_kicks(struct channel *c, uint32_t *ret, unsigned max);

/** Take up to `max` commands, each copied once. Returns their number or -EPROTO. */
int channel_commands(struct channel *c, struct sg_cmd *ret, unsigned max);

/** Events that can still be staged, or -EPROTO. */
int channel_event_room(struct channel *c);

/** Stage an event. Returns 0, -EAGAIN when the ring is full, or -EPROTO. */
int channel_event_push(struct channel *c, const struct sg_event *ev);

enum channel_state { CHANNEL_IDLE, CHANNEL_WORK, CHANNEL_BLOCKED };

/** Is there something to take? BLOCKED: only commands whose replies would find no room. Never fails. */
enum channel_state channel_look(struct channel *c);

/** Make staged events visible. A full fence must follow before channel_wake() ([P3]). */
void channel_publish(struct channel *c);

/**
 * Wake the application if it sleeps on this channel. On CHANNEL_WAKE_EVENTFD the caller must write 1 to the
 * channel's eventfd (loop.h says why that takes care); the other ways are done when this returns.
 */
enum channel_wake channel_wake(struct channel *c);

#endif

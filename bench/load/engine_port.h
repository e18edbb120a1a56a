/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine in this process, one session in plain memory, and the device that its frames go over: the part
 * of a daemon and of a library that is left when there is neither process boundary nor ring between them.
 */
#ifndef BENCH_LOAD_ENGINE_PORT_H
#define BENCH_LOAD_ENGINE_PORT_H

#include "bench/load/net.h"
#include "daemon/engine/engine.h"
#include "hw/device.h"

#define PORT_KICKS_MAX 256u

struct engine_port {
    struct engine *e;
    struct device *device;
    int sid;
    uint64_t now_us;
    uint64_t link_us; /* when to look at the link again */
    struct engine_link link;
    const bool *spin; /* of the network */
    void *arena, *scratch;
    size_t arena_bytes, scratch_bytes;
    uint8_t *segment;
    size_t segment_bytes;
    struct sg_slot *slots;
    uint32_t slot_count;
    uint32_t *slot_sock;
    void *heap_meta;
    uint32_t kicks[PORT_KICKS_MAX];
    unsigned kick_count;
};

/** `spin` is looked at whenever there is nothing to do. */
int engine_port_open(const struct net_params *p, const bool *spin, struct engine_port *ret,
                     char error[NET_ERROR_MAX]);
void engine_port_close(struct engine_port *p);

/** Say that the application's line of a slot has changed [S6]. The engine hears of it in the next turn. */
void engine_port_kick(struct engine_port *p, uint32_t slot);
/** Send and receive once. Slots with events go to `ret`; their number, or -errno when the device failed. */
int engine_port_turn(struct engine_port *p, uint32_t ret[], unsigned max);
/** Nothing to do: wait for the device or the engine's next timer, at most `us`. */
void engine_port_idle(struct engine_port *p, uint64_t us);

#endif

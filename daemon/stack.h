/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the workers run: devices, an engine for each worker over them, and the engines' memory.
 */
#ifndef DAEMON_STACK_H
#define DAEMON_STACK_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/cluster.h"
#include "daemon/config.h"
#include "daemon/engine/engine.h"
#include "hw/device.h"

#define STACK_BUSY_US      500000u /* how long to try again while another process holds the device */
#define STACK_BUSY_STEP_US 20000u

struct stack_device {
    struct device *queues[SG_WORKERS_MAX]; /* NULL: not open */
    unsigned queue_count;                  /* one for each worker, or 1: the first worker's */
    struct device_caps caps;
};

struct stack_engine {
    struct engine *engine;
    int arena_fd; /* memfd: connection state, to outlive the process one day */
    void *arena, *scratch;
    size_t arena_bytes, scratch_bytes;
};

struct stack {
    struct stack_device devices[ENGINE_DEV_MAX]; /* as the settings number them */
    unsigned device_count;
    struct engine_config engine_config; /* with what the device said, and each engine's part of the limits */
    struct stack_engine engines[SG_WORKERS_MAX];
    unsigned engine_count;
    struct cluster *cluster; /* NULL: one worker */
};

/** Nothing open yet: stack_close() may be called. */
#define STACK_CLOSED ((struct stack){.device_count = 0})

/**
 * Open the devices, make sure that nobody else has the addresses, start the engine and queue its
 * announcements.
 * Blocks for up to network.probe_ms an address, and STACK_BUSY_US a device.
 * @param stored SECRET_BYTES that are the same at each start, or NULL: there are none
 * @param error  on failure: one line that says what is wrong and what to do
 * @return 0 or -errno; *s needs stack_close() in both cases
 */
int stack_open(struct stack *s, const struct config *cfg, const uint8_t *stored, char *error,
               size_t error_bytes);

/** Undo stack_open(), whole or half done. The worker must have stopped. */
void stack_close(struct stack *s);

#endif

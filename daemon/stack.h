/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker runs: devices, an engine over them, and the engine's memory.
 */
#ifndef DAEMON_STACK_H
#define DAEMON_STACK_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/engine/engine.h"
#include "hw/device.h"

#define STACK_BUSY_US      500000u /* how long to try again while another process holds the device */
#define STACK_BUSY_STEP_US 20000u

struct stack_device {
    struct device *device; /* NULL: not open */
    struct device_caps caps;
};

struct stack {
    struct stack_device devices[ENGINE_DEV_MAX]; /* as the settings number them */
    unsigned device_count;
    struct engine *engine;
    struct engine_config engine_config; /* with what the device said */
    int arena_fd;                       /* memfd: connection state, to outlive the process one day */
    void *arena, *scratch;
    size_t arena_bytes, scratch_bytes;
};

/** Nothing open yet: stack_close() may be called. */
#define STACK_CLOSED ((struct stack){.arena_fd = -1})

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

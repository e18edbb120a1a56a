/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells devices which addresses are the engine's. A device on an interface that the kernel uses too goes by
 * that (device_ops.own in hw/device.h); for the control thread.
 */
#ifndef DAEMON_OWN_H
#define DAEMON_OWN_H

#include "daemon/stack.h"
#include "daemon/worker.h"

/**
 * The addresses of the settings, before the engine runs.
 * @return 0, or -errno and a line in `error` when a device refuses one
 */
int own_configured(const struct stack *s, char *error, size_t bytes);

/** The addresses that the engine has now, given or made by itself; complaints are logged. */
void own_current(const struct stack *s, struct worker *w);

#endif

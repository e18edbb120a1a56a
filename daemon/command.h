/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of applications: from a record that was copied out of a ring to a call of the engine.
 * Worker's thread only.
 */
#ifndef DAEMON_COMMAND_H
#define DAEMON_COMMAND_H

#include "daemon/engine/engine.h"
#include "daemon/session.h"
#include "proto/abi/cmd.h"

/**
 * Carry out one command. Nothing about `cmd` has been checked yet; nothing in it can do harm.
 * @param worker whose rings it came in
 * @param cmd    private copy of the record
 * @param value  set for SG_CMD_GETOPT, else 0
 * @return 0 or a negative Linux errno, as the reply's result
 */
int command_run(struct engine *e, const struct app_session *s, unsigned worker, const struct sg_cmd *cmd,
                uint64_t now_us, uint64_t *value);

#endif

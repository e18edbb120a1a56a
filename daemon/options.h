/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of sockgated: which settings come from where, and the texts of --help and --check.
 * For the starting thread only.
 */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "daemon/config.h"

/* Exit statuses of sockgated (sockgated(8)). */
#define EXIT_OK     0
#define EXIT_FAILED 1 /* could not start, or the device failed */
#define EXIT_USAGE  2 /* wrong command line or configuration */

enum options_action { OPTIONS_RUN, OPTIONS_CHECK, OPTIONS_HELP, OPTIONS_VERSION };

struct options {
    enum options_action action;
    char file[4096]; /* configuration file that was read; empty: none, all from defaults and options */
};

/**
 * Settle all settings: defaults, configuration file, SOCKGATE_CONTROL, command line; the later wins. The
 * default file may be missing, one named by --config may not.
 * @param error  on failure: one line that says what is wrong and what is allowed (CONFIG_ERROR_MAX bytes)
 * @return 0 or -EINVAL
 */
int options_settle(int argc, char *argv[], struct config *cfg, struct options *ret, char *error);

/** Write the text of --help. */
void options_help(FILE *out);

/** Write what the daemon would do with these settings (--check). */
void options_plan(FILE *out, const struct config *cfg, const struct options *opts);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What TCP_INFO says of a connection, under the names that ss uses. */
#ifndef DAEMON_CTL_INFO_H
#define DAEMON_CTL_INFO_H

#include "daemon/ctl/ctl_json.h"
#include "proto/abi/info.h"

/** One line after another line's end, without a newline; what is zero and says nothing is left out. */
void info_text(FILE *out, const struct sg_tcp_info *i);
/** An object of this name with all of it. */
void info_json(struct json *j, const char *name, const struct sg_tcp_info *i);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* How sockgatectl shows things: one record as text or as JSON. */
#ifndef DAEMON_CTL_SHOW_H
#define DAEMON_CTL_SHOW_H

#include <stdbool.h>

#include "control.pb-c.h"
#include "daemon/ctl/ctl_json.h"

struct show {
    FILE *out;
    struct json *json; /* NULL: text */
    bool info;         /* sockets: all that is known */
    bool nonzero;      /* stats: leave out counters that are zero */
    unsigned worker;   /* stats: of this one, from 1 on; 0: of all together */
};

/** Column titles of a list; nothing with JSON. */
void show_sockets_title(const struct show *s);
void show_sessions_title(const struct show *s);
void show_neighbors_title(const struct show *s);
void show_devices_title(const struct show *s);

void show_socket(const struct show *s, const Sockgate__Socket *m);
void show_session(const struct show *s, const Sockgate__Session *m);
void show_neighbor(const struct show *s, const Sockgate__Neighbor *m);
void show_device(const struct show *s, const Sockgate__Device *m);
void show_counter(const struct show *s, const Sockgate__Counter *m);
void show_version(const struct show *s, const Sockgate__VersionResponse *m);

#endif

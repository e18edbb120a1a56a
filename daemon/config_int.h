/* SPDX-License-Identifier: Apache-2.0 */
/* What config.c (the table, the file) and config_net.c (devices, addresses, routes) know of each other. */
#ifndef DAEMON_CONFIG_INT_H
#define DAEMON_CONFIG_INT_H

#include "daemon/config.h"

/** Write a message of at most CONFIG_ERROR_MAX bytes; returns -EINVAL. */
int config_fail(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Digits of the given base only: no sign, no space, no overflow. `end`: what follows them. */
bool config_parse_digits(const char *text, unsigned base, uint64_t *ret, const char **end);
/** A unicast hardware address; false: it is none, and nothing is set. */
bool config_parse_mac(const char *text, uint8_t ret[6]);

/** One key or two with a comma between, or none; false: neither, and nothing is set. */
bool config_parse_keys(const char *text, struct fastopen_keys *ret);

/** Add what a value lists to a setting that config_is_list(), or with `afresh` put it in its place. All of it
 * or, when one item is wrong, nothing: false. */
bool config_list_add(struct config *cfg, const struct config_key *key, const char *value, bool afresh);

/** config_check() of [network]. */
int config_check_network(const struct config *cfg, char *error);

#endif

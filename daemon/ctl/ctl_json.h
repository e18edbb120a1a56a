/* SPDX-License-Identifier: Apache-2.0 */
/* A writer of JSON: commas, indentation and escapes are its matter, order and names the caller's. */
#ifndef DAEMON_CTL_JSON_H
#define DAEMON_CTL_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 8u

struct json {
    FILE *out;
    unsigned depth;
    bool filled[JSON_DEPTH_MAX]; /* something stands at this depth already */
};

/** Start of the whole: one object. */
void json_begin(struct json *j, FILE *out);
void json_end(struct json *j);

/** A name of NULL stands for an element of a list. */
void json_object(struct json *j, const char *name);
void json_list(struct json *j, const char *name);
void json_close_object(struct json *j);
void json_close_list(struct json *j);

/** Bytes that are no UTF-8 are written as U+FFFD, so that the output is JSON whatever the name was. */
void json_string(struct json *j, const char *name, const char *value);
void json_number(struct json *j, const char *name, uint64_t value);
void json_integer(struct json *j, const char *name, int64_t value);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ctl/ctl_json.h"

#include <assert.h>
#include <inttypes.h>

/* Bytes of the UTF-8 sequence at p, or 0 when there is none (RFC 3629: no overlong forms, no surrogates). */
static unsigned utf8_bytes(const unsigned char *p)
{
    unsigned n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 4;

    if (n == 1)
        return 1;
    if (n == 4 && (p[0] < 0xf0 || p[0] > 0xf4))
        return 0;
    for (unsigned i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) /* Also the end of the string. */
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static void write_string(FILE *out, const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    (void)fputc('"', out);
    while (*p) {
        unsigned n = utf8_bytes(p);

        if (!n) {
            (void)fputs("\\ufffd", out);
            p++;
        } else if (*p == '"' || *p == '\\') {
            fprintf(out, "\\%c", *p++);
        } else if (*p < 0x20 || *p == 0x7f) {
            fprintf(out, "\\u%04x", *p++);
        } else {
            (void)fwrite(p, 1, n, out);
            p += n;
        }
    }
    (void)fputc('"', out);
}

static void line(struct json *j, const char *name)
{
    fprintf(j->out, "%s\n%*s", j->filled[j->depth] ? "," : "", (int)(2 * j->depth), "");
    j->filled[j->depth] = true;
    if (name) {
        write_string(j->out, name);
        (void)fputs(": ", j->out);
    }
}

static void deeper(struct json *j, const char *name, char bracket)
{
    line(j, name);
    (void)fputc(bracket, j->out);
    j->depth++;
    assert(j->depth < JSON_DEPTH_MAX);
    j->filled[j->depth] = false;
}

static void shallower(struct json *j, char bracket)
{
    bool filled = j->filled[j->depth--];

    if (filled)
        fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
    (void)fputc(bracket, j->out);
}

void json_begin(struct json *j, FILE *out)
{
    *j = (struct json){.out = out, .depth = 1};
    (void)fputc('{', out);
}

void json_end(struct json *j)
{
    assert(j->depth == 1);
    shallower(j, '}');
    (void)fputc('\n', j->out);
}

void json_object(struct json *j, const char *name)
{
    deeper(j, name, '{');
}

void json_list(struct json *j, const char *name)
{
    deeper(j, name, '[');
}

void json_close_object(struct json *j)
{
    shallower(j, '}');
}

void json_close_list(struct json *j)
{
    shallower(j, ']');
}

void json_string(struct json *j, const char *name, const char *value)
{
    line(j, name);
    write_string(j->out, value);
}

void json_number(struct json *j, const char *name, uint64_t value)
{
    line(j, name);
    fprintf(j->out, "%" PRIu64, value);
}

void json_integer(struct json *j, const char *name, int64_t value)
{
    line(j, name);
    fprintf(j->out, "%" PRId64, value);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* docs/options.md against the engine's table of socket options: the same rows, and they say the same. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/engine.h"

#define ROWS_MAX 200u

struct row {
    char label[40], sockets[16], set[8];
    unsigned level, number;
};

static struct row rows[ROWS_MAX];
static unsigned row_count;

static void read_page(void)
{
    FILE *f = fopen(SOURCE_ROOT "/docs/options.md", "r");
    unsigned level = 0;
    char line[512];

    cr_assert_not_null(f);
    while (fgets(line, sizeof(line), f)) {
        struct row *r = &rows[row_count];

        if (sscanf(line, "## %*[A-Z0-9_] (%u)", &level) == 1)
            continue;
        if (sscanf(line, "| `%39[A-Z0-9_]` | %u | %15[^|]| %7[^ |]", r->label, &r->number, r->sockets,
                   r->set) != 4)
            continue;
        r->level = level;
        cr_assert_lt(++row_count, ROWS_MAX);
    }
    fclose(f);
}

static const struct row *find(unsigned level, unsigned number)
{
    for (unsigned i = 0; i < row_count; i++)
        if (rows[i].level == level && rows[i].number == number)
            return &rows[i];
    return NULL;
}

Test(options_doc, has_a_true_row_for_every_option)
{
    struct engine_opt_info o;

    read_page();
    for (unsigned i = 0; engine_opt_info(i, &o); i++) {
        const struct row *r = find(o.level, o.name);

        cr_assert_not_null(r, "%s (%u) is not in docs/options.md", o.label, o.name);
        cr_assert_str_eq(r->label, o.label);
        cr_assert_str_eq(r->set, o.settable ? "set" : "get", "%s", o.label);
        cr_assert_eq(strstr(r->sockets, "TCP") != NULL, o.tcp, "%s", o.label);
        cr_assert_eq(strstr(r->sockets, "UDP") != NULL, o.udp, "%s", o.label);
    }
}

Test(options_doc, names_nothing_that_does_not_exist)
{
    struct engine_opt_info o;
    unsigned count = 0;

    read_page();
    while (engine_opt_info(count, &o))
        count++;
    cr_assert_geq(count, 27);
    cr_assert_eq(row_count, count, "%u rows in docs/options.md, %u options", row_count, count);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/plain/criterion/criterion.h"

static struct plain_test *first, **last = &first;

void plain_register(struct plain_test *t)
{
    *last = t;
    last = &t->next;
}

void plain_fail(const char *file, int line, const char *what)
{
    printf("%s:%d: failed: %s\n", file, line, what);
    exit(1);
}

int main(void)
{
    unsigned count = 0;

    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    for (const struct plain_test *t = first; t; t = t->next, count++) {
        printf("%s::%s\n", t->suite, t->name);
        t->run();
    }
    printf("%u passed, 0 failed\n", count);
    return count ? 0 : 1;
}

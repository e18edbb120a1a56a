/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"

#define SECOND UINT64_C(1000000)

Test(log, call_site_writes_a_burst_then_one_a_second)
{
    struct log_site site = {0};
    uint64_t now = 1000 * SECOND;

    for (unsigned i = 0; i < LOG_BURST; i++)
        cr_assert(log_site_allow(&site, now));
    for (unsigned i = 0; i < 50; i++)
        cr_assert_not(log_site_allow(&site, now));
    cr_assert_eq(site.held, 50, "held lines are counted");
    cr_assert_not(log_site_allow(&site, now + SECOND - 1));
    cr_assert(log_site_allow(&site, now + SECOND));
    cr_assert_not(log_site_allow(&site, now + SECOND));
    for (unsigned i = 0; i < LOG_BURST; i++)
        cr_assert(log_site_allow(&site, now + 1000 * SECOND), "a quiet time restores the burst");
    cr_assert_not(log_site_allow(&site, now + 1000 * SECOND));
}

Test(log, line_for_the_journal_starts_with_its_level)
{
    char buf[64];
    size_t n = log_format(buf, sizeof(buf), true, LOG_LEVEL_WARNING, 0, "a thing");

    cr_assert_str_eq(buf, "<4>a thing\n");
    cr_assert_eq(n, strlen(buf));
}

Test(log, line_elsewhere_starts_with_time_and_level)
{
    char buf[96];

    setenv("TZ", "UTC", 1);
    (void)log_format(buf, sizeof(buf), false, LOG_LEVEL_ERROR, 86400 * SECOND + 7000, "a thing");
    cr_assert_str_eq(buf, "1970-01-02 00:00:00.007 error: a thing\n");
}

Test(log, long_line_is_cut_and_says_so)
{
    char text[200], buf[64];
    size_t n;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    n = log_format(buf, sizeof(buf), true, LOG_LEVEL_INFO, 0, text);
    cr_assert_eq(n, sizeof(buf) - 1);
    cr_assert_str_eq(buf + n - 4, "...\n");
}

Test(log, level_words_go_both_ways)
{
    static const char *words[] = {"error", "warning", "info", "debug"};

    for (size_t i = 0; i < 4; i++)
        cr_assert_str_eq(log_level_name((enum log_level)log_level_parse(words[i])), words[i]);
    cr_assert_eq(log_level_parse("loud"), -1);
    cr_assert_eq(log_level_parse(""), -1);
}

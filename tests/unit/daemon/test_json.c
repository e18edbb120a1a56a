/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_json.h"

static char *text;
static size_t bytes;

static FILE *memory(void)
{
    free(text);
    text = NULL;
    return open_memstream(&text, &bytes);
}

static const char *string_of(const char *value)
{
    FILE *f = memory();
    struct json j;

    json_begin(&j, f);
    json_string(&j, "s", value);
    json_end(&j);
    (void)fclose(f);
    cr_assert_not(strncmp(text, "{\n  \"s\": ", 9));
    text[strlen(text) - 3] = '\0'; /* "\n}\n" */
    return text + 9;
}

Test(json, strings_are_escaped)
{
    cr_assert_str_eq(string_of("plain"), "\"plain\"");
    cr_assert_str_eq(string_of("a\"b\\c"), "\"a\\\"b\\\\c\"");
    cr_assert_str_eq(string_of("\n\t\x1f\x7f"), "\"\\u000a\\u0009\\u001f\\u007f\"");
    cr_assert_str_eq(string_of("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
                     "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
}

Test(json, bytes_that_are_no_utf8_are_replaced)
{
    cr_assert_str_eq(string_of("a\xff"), "\"a\\ufffd\"");
    cr_assert_str_eq(string_of("\xc3"), "\"\\ufffd\"");
    cr_assert_str_eq(string_of("\xc0\xaf"), "\"\\ufffd\\ufffd\"");
    cr_assert_str_eq(string_of("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\"");
    cr_assert_str_eq(string_of("\xe2\x82"), "\"\\ufffd\\ufffd\"");
}

Test(json, lists_and_objects_nest)
{
    FILE *f = memory();
    struct json j;

    json_begin(&j, f);
    json_list(&j, "empty");
    json_close_list(&j);
    json_list(&j, "list");
    for (int i = 0; i < 2; i++) {
        json_object(&j, NULL);
        json_number(&j, "n", UINT64_MAX);
        json_integer(&j, "i", -1);
        json_close_object(&j);
    }
    json_close_list(&j);
    json_end(&j);
    (void)fclose(f);
    cr_assert_str_eq(text, "{\n  \"empty\": [],\n  \"list\": [\n    {\n      \"n\": 18446744073709551615,\n"
                           "      \"i\": -1\n    },\n    {\n      \"n\": 18446744073709551615,\n"
                           "      \"i\": -1\n    }\n  ]\n}\n");
}

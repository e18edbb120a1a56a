/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_info.h"

static char *shown(const struct sg_tcp_info *i, bool json)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);

    if (json) {
        struct json j;

        json_begin(&j, f);
        info_json(&j, "tcp_info", i);
        json_end(&j);
    } else {
        info_text(f, i);
    }
    (void)fclose(f);
    return text;
}

Test(ctl_info, text_has_the_names_of_ss_and_leaves_out_what_is_zero)
{
    const struct sg_tcp_info i = {.options = SG_TCPI_SACK | SG_TCPI_WSCALE,
                                  .wscales = 7 | 8 << 4,
                                  .pacing_rate = UINT64_MAX,
                                  .max_pacing_rate = UINT64_MAX,
                                  .delivery_rate = 1000,
                                  .busy_us = 1500,
                                  .min_rtt_us = UINT32_MAX,
                                  .dsack_dups = 2,
                                  .rate_flags = SG_TCPI_RATE_APP};
    char *text = shown(&i, false);

    cr_assert_str_eq(text, " sack wscale:7,8 rcvmss:0 advmss:0 lastsnd:0 lastrcv:0 lastack:0"
                           " delivery_rate 8000bps busy:1.500ms dsack_dups:2 app_limited");
    free(text);
}

Test(ctl_info, json_has_all_but_what_has_no_value)
{
    const struct sg_tcp_info i = {
        .pacing_rate = UINT64_MAX, .bytes_retrans = 5, .rate_flags = 3u << SG_TCPI_FO_SHIFT};
    char *text = shown(&i, true);

    cr_assert_not_null(strstr(text, "\"bytes_retrans\": 5"));
    cr_assert_not_null(strstr(text, "\"dsack_dups\": 0"));
    cr_assert_not_null(strstr(text, "\"fastopen_fail\": 3"));
    cr_assert_null(strstr(text, "\"pacing_rate\""));
    cr_assert_not_null(strstr(text, "\"max_pacing_rate\": 0"));
    free(text);
}

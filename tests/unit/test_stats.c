/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/stats.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(stats, every_counter_has_a_name_of_its_own)
{
    for (unsigned i = 0; i < ST_COUNT; i++) {
        cr_assert_not_null(stat_name((enum stat)i), "counter %u", i);
        for (unsigned j = 0; j < i; j++)
            cr_assert_str_neq(stat_name((enum stat)i), stat_name((enum stat)j));
    }
}

Test(stats, names_are_camel_case_words)
{
    for (unsigned i = 0; i < ST_COUNT; i++) {
        const char *n = stat_name((enum stat)i);

        cr_assert(isupper((unsigned char)n[0]), "%s", n);
        for (const char *c = n; *c; c++)
            cr_assert(isalnum((unsigned char)*c), "%s", n);
    }
}

Test(stats, there_is_no_name_past_the_last)
{
    cr_assert_null(stat_name(ST_COUNT));
    cr_assert_null(stat_name((enum stat)12345));
}

Test(stats, names_stand_at_their_counters)
{
    cr_assert_str_eq(stat_name(ST_FRAMES_IN), "FramesIn");
    cr_assert_str_eq(stat_name(ST_DROP_FRAME_SHORT), "DropFrameShort");
    cr_assert_str_eq(stat_name(ST_IP_IN_RECEIVES), "IpInReceives");
    cr_assert_str_eq(stat_name(ST_TCP_ACTIVE_OPENS), "TcpActiveOpens");
    cr_assert_str_eq(stat_name(ST_APP_QUOTA_BUFFERS), "AppQuotaBuffers");
}

/* Counters that mean what the kernel's mean have its names, by the rule in stats.h. */
Test(stats, names_are_the_kernels_where_they_mean_the_same)
{
    static const struct {
        enum stat c;
        const char *name;
    } same[] = {
        {ST_IP_IN_HDR_ERRORS, "IpInHdrErrors"},
        {ST_IP_REASM_OKS, "IpReasmOKs"},
        {ST_IP_FRAG_CREATES, "IpFragCreates"},
        {ST_ICMP_OUT_ECHO_REPS, "IcmpOutEchoReps"},
        {ST_ICMP_RATE_LIMITED, "IcmpOutRateLimitGlobal"},
        {ST_UDP_RCVBUF_ERRORS, "UdpRcvbufErrors"},
        {ST_TCP_ESTAB_RESETS, "TcpEstabResets"},
        {ST_TCP_TIMEOUTS, "TcpTimeouts"},
        {ST_TCP_DELAYED_ACKS, "TcpDelayedACKs"},
        {ST_TCP_PURE_ACKS, "TcpPureAcks"},
        {ST_TCP_HP_HITS, "TcpHPHits"},
        {ST_TCP_ZERO_WINDOW_PROBES, "TcpWinProbe"},
        {ST_TCP_KEEPALIVES, "TcpKeepAlive"},
        {ST_TCP_RCV_OUT_OF_WINDOW, "TcpBeyondWindow"},
        {ST_TCP_OFO_QUEUE, "TcpOFOQueue"},
        {ST_TCP_CHALLENGE_ACK, "TcpChallengeACK"},
    };

    for (unsigned i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        cr_assert_str_eq(stat_name(same[i].c), same[i].name);
}

Test(stats, counters_count_alone)
{
    struct stats s = {0};

    stat_inc(&s, ST_ARP_IN);
    stat_add(&s, ST_ARP_IN, 4);
    for (unsigned i = 0; i < ST_COUNT; i++)
        cr_assert_eq(s.v[i], i == ST_ARP_IN ? 5 : 0);
}

/* docs/counters.md has a row for each counter, and none for anything else. */
Test(stats, the_page_has_a_row_for_each)
{
    FILE *f = fopen(SOURCE_ROOT "/docs/counters.md", "r");
    bool seen[ST_COUNT] = {false};
    char line[512], label[64];

    cr_assert_not_null(f);
    while (fgets(line, sizeof(line), f)) {
        unsigned i = 0;

        if (sscanf(line, "| `%63[A-Za-z0-9]`", label) != 1)
            continue;
        while (i < ST_COUNT && strcmp(stat_name((enum stat)i), label) != 0)
            i++;
        cr_assert_lt(i, (unsigned)ST_COUNT, "docs/counters.md: there is no counter %s", label);
        cr_assert_not(seen[i], "docs/counters.md: %s stands there twice", label);
        seen[i] = true;
    }
    fclose(f);
    for (unsigned i = 0; i < ST_COUNT; i++)
        cr_assert(seen[i], "%s is not in docs/counters.md", stat_name((enum stat)i));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Round-trip time and time-out: RFC 6298. */
#include <criterion/criterion.h>
#include <math.h>

#include "daemon/engine/engine_int.h"
#include "tests/support/host.h"
#include "tests/unit/core/rnd.h"

static struct host h;
static struct tcp_conn *c;

static void start(void)
{
    struct engine_config cfg;

    host_config(&cfg, 2);
    host_start(&h, &cfg, 1000000);
    c = tcp_conn_of(sock_get(h.e, h.slot_sock[app_socket(&h, SG_SOCK_STREAM)]));
}

static void stop(void)
{
    const char *bad = host_stop(&h);

    cr_assert_null(bad, "%s", bad);
}

Test(rtt, before_a_sample_the_time_out_is_a_second)
{
    start();
    cr_assert_eq(tcp_rto_now(h.e, c), 1000000); /* RFC 6298 2.1 */
    stop();
}

Test(rtt, the_first_sample)
{
    start();
    tcp_rtt_sample(h.e, c, 500000);
    cr_assert_eq(c->srtt8_us / 8, 500000); /* 2.2 */
    cr_assert_eq(c->rttvar4_us / 4, 250000);
    cr_assert_eq(c->rto_us, 500000 + 4 * 250000);
    stop();
}

Test(rtt, the_floor_lies_under_the_variance)
{
    start();
    for (int i = 0; i < 100; i++)
        tcp_rtt_sample(h.e, c, 10000);
    cr_assert(c->rto_us >= 200000 + 9000 && c->rto_us <= 200000 + 11000, "%u", c->rto_us);
    stop();
}

Test(rtt, follows_the_formula)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t s = seed;
        double srtt = 0, var = 0;

        start();
        for (unsigned i = 0; i < 200; i++) {
            double r = 100000 + rnd_below(&s, 300000);

            tcp_rtt_sample(h.e, c, (uint64_t)r);
            if (i == 0) {
                srtt = r;
                var = r / 2;
            } else { /* 2.3 */
                var = var * 3 / 4 + fabs(srtt - r) / 4;
                srtt = srtt * 7 / 8 + r / 8;
            }
            cr_assert(fabs(c->srtt8_us / 8.0 - srtt) < 20, "seed %lu, sample %u: %u, not %.0f", seed, i,
                      c->srtt8_us / 8, srtt);
            cr_assert(fabs(c->rttvar4_us / 4.0 - var) < 20, "seed %lu, sample %u: %u, not %.0f", seed, i,
                      c->rttvar4_us / 4, var);
        }
        stop();
    }
}

Test(rtt, backoff_doubles_to_the_ceiling)
{
    start();
    tcp_rtt_sample(h.e, c, 500000);
    for (unsigned i = 0; i < 100; i++) {
        double want = 1500000 * pow(2, i);

        c->backoff = (uint8_t)i;
        cr_assert_eq(tcp_rto_now(h.e, c), want > 120000000 ? 120000000u : (uint32_t)want, "backoff %u", i);
    }
    stop();
}

Test(rtt, absurd_samples_do_no_harm)
{
    start();
    tcp_rtt_sample(h.e, c, 0);
    cr_assert_geq(c->rto_us, 200000);
    tcp_rtt_sample(h.e, c, UINT64_MAX);
    cr_assert_leq(c->rto_us, 120000000);
    for (int i = 0; i < 100; i++)
        tcp_rtt_sample(h.e, c, UINT64_MAX);
    cr_assert_eq(c->rto_us, 120000000);
    for (int i = 0; i < 300; i++)
        tcp_rtt_sample(h.e, c, 1000);
    cr_assert_leq(c->rto_us, 300000, "and it comes down again: %u", c->rto_us);
    stop();
}

Test(rtt, the_smallest_is_kept)
{
    start();
    tcp_rtt_sample(h.e, c, 5000);
    tcp_rtt_sample(h.e, c, 3000);
    tcp_rtt_sample(h.e, c, 9000);
    cr_assert_eq(c->min_rtt_us, 3000);
    stop();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Initial sequence numbers: RFC 9293 3.4.1, RFC 6528. */
#include <criterion/criterion.h>

#include "tests/segment/peer.h"

static void other_secret(struct engine_config *cfg)
{
    cfg->secret[31] ^= 1;
}

/* The ISN of a SYN-ACK to this peer's port, `us` after the start. */
static uint32_t isn(void (*tweak)(struct engine_config *), uint16_t port, uint64_t us)
{
    struct peer p;
    uint32_t n;

    peer_start(&p, tweak);
    peer_listen(&p, 4);
    p.h.now_us += us;
    p.peer_port = port;
    seg_send(&p, (struct seg){.flags = TCP_SYN});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    n = p.host_isn;
    peer_stop(&p);
    return n;
}

Test(isn, same_inputs_give_the_same_number)
{
    cr_assert_eq(isn(NULL, 40000, 0), isn(NULL, 40000, 0));
}

Test(isn, neighbouring_tuples_are_far_apart)
{
    uint32_t first = isn(NULL, 40000, 0);

    for (uint16_t i = 1; i < 30; i++) {
        uint32_t d = isn(NULL, (uint16_t)(40000 + i), 0) - first;

        cr_assert(d > 1000 && d < UINT32_MAX - 1000, "port %u: %u apart", 40000 + i, d);
    }
}

Test(isn, the_secret_decides)
{
    uint32_t d = isn(other_secret, 40000, 0) - isn(NULL, 40000, 0);

    cr_assert(d > 1000 && d < UINT32_MAX - 1000, "%u apart", d);
}

Test(isn, it_grows_by_one_every_four_microseconds)
{
    uint32_t first = isn(NULL, 40000, 0);

    cr_assert_eq(isn(NULL, 40000, 4000) - first, 1000);
    cr_assert_eq(isn(NULL, 40000, 60000000) - first, 15000000);
    cr_assert_eq(isn(NULL, 40000, UINT64_C(4) << 32) - first, 0, "and comes round after 4.77 hours");
}

Test(isn, active_opens_have_it_too)
{
    struct peer p;
    uint32_t a, b;

    peer_start(&p, NULL);
    peer_connecting(&p);
    a = p.host_isn;
    app_close(&p.h, p.slot);
    p.h.now_us += 1000000;
    peer_connecting(&p);
    b = p.host_isn;
    cr_assert_neq(a, b);
    peer_stop(&p);
}

Test(isn, a_connection_that_follows_time_wait_starts_above_the_old_one)
{
    struct peer p;
    uint32_t old_nxt;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 50000);
    for (uint32_t acked = 1; acked < 50001;) {
        struct seg s = seg_take(&p);

        acked = s.seq + s.len;
        p.h.now_us += 1000;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = acked});
    }
    old_nxt = p.host_isn + 50002;
    app_close(&p.h, p.slot);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_FIN | TCP_ACK, .seq = 1, .ack = 50002});
    seg_drain(&p);
    cr_assert_str_eq(peer_state(&p), "TIME_WAIT");
    seg_send(&p, (struct seg){.flags = TCP_SYN, .seq = 9000});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 9001);
    cr_assert((int32_t)(p.host_isn - old_nxt) > 0, "RFC 9293 3.6.1, RFC 6191: %d",
              (int)(p.host_isn - old_nxt));
    peer_stop(&p);
}

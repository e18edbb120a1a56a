/* SPDX-License-Identifier: Apache-2.0 */
/* Keep-alive (RFC 9293 3.8.4) and the user time-out (RFC 5482, local part). */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

#define L_SOCKET       1u
#define L_TCP          6u
#define O_KEEPALIVE    9u
#define O_KEEPIDLE     4u
#define O_KEEPINTVL    5u
#define O_KEEPCNT      6u
#define O_USER_TIMEOUT 18u
#define SECOND         UINT64_C(1000000)

static void set(struct peer *p, uint32_t level, uint32_t name, uint64_t value)
{
    cr_assert_eq(engine_setopt(p->h.e, p->h.sid, p->slot, level, name, value, p->h.now_us), 0);
}

/* Time until the socket has an error, at most `us`; what the host says meanwhile is thrown away. */
static uint64_t time_to_error(struct peer *p, uint64_t us)
{
    uint64_t begin = p->h.now_us;

    while (!app_error(&p->h, p->slot) && p->h.now_us - begin < us) {
        peer_wait(p, 1000);
        seg_drain(p);
    }
    return p->h.now_us - begin;
}

static void keepalive(struct peer *p, uint64_t idle, uint64_t intvl, uint64_t count)
{
    set(p, L_TCP, O_KEEPIDLE, idle);
    set(p, L_TCP, O_KEEPINTVL, intvl);
    set(p, L_TCP, O_KEEPCNT, count);
    set(p, L_SOCKET, O_KEEPALIVE, 1);
}

Test(keepalive, waits_two_hours_by_default) /* RFC 9293 3.8.4 MUST-28 */
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_SOCKET, O_KEEPALIVE, 1);
    cr_assert_geq(peer_wait_tx(&p, 100000 * SECOND), 7200 * SECOND);
    seg_expect(&p, .flags = TCP_ACK, .check = C_SEQ | C_LEN, .seq = 0, .len = 0);
    peer_stop(&p);
}

Test(keepalive, takes_linuxs_largest_values)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    keepalive(&p, 32767, 32767, 2);
    cr_assert_geq(peer_wait_tx(&p, 1000000 * SECOND), 32767 * SECOND);
    seg_expect(&p, .flags = TCP_ACK, .check = C_SEQ, .seq = 0);
    cr_assert_geq(peer_wait_tx(&p, 1000000 * SECOND), 32767 * SECOND);
    seg_drain(&p);
    peer_stop(&p);
}

Test(keepalive, the_user_timeout_takes_the_place_of_the_count)
{
    struct peer p;
    uint64_t took;

    peer_start(&p, NULL);
    peer_established(&p);
    keepalive(&p, 10, 5, 2);
    set(&p, L_TCP, O_USER_TIMEOUT, 60000);
    took = time_to_error(&p, 1000 * SECOND);
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    cr_assert(took >= 60 * SECOND && took <= 66 * SECOND, "after %lu us", took);
    peer_stop(&p);
}

Test(user_timeout, ends_a_connection_when_it_is_due_and_not_at_the_next_retransmission)
{
    struct peer p;
    uint64_t took;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_TCP, O_USER_TIMEOUT, 5000);
    peer_write(&p, 100);
    took = time_to_error(&p, 100 * SECOND);
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    cr_assert(took >= 5 * SECOND && took < 5 * SECOND + 10000, "after %lu us", took);
    peer_stop(&p);
}

Test(user_timeout, ends_a_connection_attempt)
{
    struct peer p;
    uint64_t took;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    set(&p, L_TCP, O_USER_TIMEOUT, 4000);
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), 0);
    took = time_to_error(&p, 1000 * SECOND);
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    cr_assert(took >= 4 * SECOND && took < 4 * SECOND + 10000, "after %lu us", took);
    peer_stop(&p);
}

Test(user_timeout, counts_from_the_last_progress)
{
    struct peer p;
    uint64_t took;

    peer_start(&p, NULL);
    peer_established(&p);
    set(&p, L_TCP, O_USER_TIMEOUT, 5000);
    peer_write(&p, 200);
    seg_drain(&p);
    for (unsigned i = 1; i <= 3; i++) { /* Slow, but it acknowledges. */
        peer_wait(&p, 4 * SECOND);
        seg_drain(&p);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1 + 50 * i});
        cr_assert_eq(app_error(&p.h, p.slot), 0);
    }
    took = time_to_error(&p, 100 * SECOND);
    cr_assert(took >= 5 * SECOND && took < 5 * SECOND + 10000, "after %lu us", took);
    peer_stop(&p);
}

/* RFC 4022: tcpOutSegs is without what is sent again, tcpInSegs with all that a device had joined. */
Test(timeouts, segments_are_counted_as_the_kernel_counts_them)
{
    uint64_t out, in;
    struct peer p;
    uint8_t f[4096];
    struct pktbuf gro = {.data = f, .gso_type = PKT_GSO_TCP4, .gso_size = 1000};

    peer_start(&p, NULL);
    peer_established(&p);
    out = host_counter(&p.h, "TcpOutSegs");
    in = host_counter(&p.h, "TcpInSegs");
    peer_write(&p, 100);
    (void)seg_take(&p);
    (void)peer_wait_tx(&p, 5000000);
    (void)seg_take(&p);
    cr_assert_eq(host_counter(&p.h, "TcpRetransSegs"), 1);
    cr_assert_eq(host_counter(&p.h, "TcpOutSegs"), out + 1);
    gro.len = gro.total =
        peer_frame(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101, .len = 2500}, f);
    host_rx(&p.h, &gro);
    cr_assert_eq(host_counter(&p.h, "TcpInSegs"), in + 3);
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of congestion control: by socket, by configuration, by inheritance. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/segment/peer.h"

#define L_TCP        6u
#define O_CONGESTION 13u
#define CUBIC        UINT64_C(0x6369627563) /* "cubic", first byte lowest */
#define RENO         UINT64_C(0x6f6e6572)

static int set(struct peer *p, uint32_t slot, uint64_t name)
{
    return engine_setopt(p->h.e, p->h.sid, slot, L_TCP, O_CONGESTION, name, p->h.now_us);
}

static uint64_t get(struct peer *p, uint32_t slot)
{
    uint64_t name = 0;

    cr_assert_eq(engine_getopt(p->h.e, p->h.sid, slot, L_TCP, O_CONGESTION, &name), 0);
    return name;
}

Test(congestion, a_socket_chooses_by_name)
{
    struct peer p;
    uint32_t slot;

    peer_start(&p, NULL);
    slot = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(get(&p, slot), CUBIC, "the default");
    cr_assert_eq(set(&p, slot, RENO), 0);
    cr_assert_eq(get(&p, slot), RENO);
    cr_assert_eq(set(&p, slot, RENO | UINT64_C(0x78) << 32), -ENOENT, "unknown, as on Linux");
    cr_assert_eq(get(&p, slot), RENO);
    peer_stop(&p);
}

static void reno(struct engine_config *cfg)
{
    cfg->congestion = 1;
}

Test(congestion, the_configuration_sets_the_default)
{
    struct peer p;

    peer_start(&p, reno);
    cr_assert_eq(get(&p, app_socket(&p.h, SG_SOCK_STREAM)), RENO);
    peer_stop(&p);
}

Test(congestion, accepted_sockets_inherit_their_listeners_choice)
{
    struct peer p;
    struct engine_sock_info info;

    peer_start(&p, NULL);
    peer_syn_received(&p);
    cr_assert_eq(set(&p, p.listener, RENO), 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    cr_assert_eq(get(&p, p.slot), RENO);
    cr_assert(host_find(&p.h, "ESTABLISHED", &info));
    cr_assert_str_eq(info.cc, "reno");
    peer_stop(&p);
}

Test(congestion, a_connection_may_change_and_keeps_its_window)
{
    struct peer p;
    struct engine_sock_info before, after;

    peer_start(&p, NULL);
    peer_established(&p);
    cr_assert(host_find(&p.h, "ESTABLISHED", &before));
    cr_assert_eq(set(&p, p.slot, RENO), 0);
    cr_assert(host_find(&p.h, "ESTABLISHED", &after));
    cr_assert_eq(after.cwnd_bytes, before.cwnd_bytes);
    cr_assert_str_eq(after.cc, "reno");
    peer_stop(&p);
}

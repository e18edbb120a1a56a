/* SPDX-License-Identifier: Apache-2.0 */
/* Which worker a port, a socket and a frame belong to. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "daemon/sort.h"

#define TCP 6u
#define UDP 17u

static struct portmap *m;
static struct sorter s;
/* One that says nothing, and one that brings every flow to worker 2. */
static const struct spread silent = {.kind = SPREAD_NONE, .queues = 4};
static struct spread fixed = {.kind = SPREAD_RSS, .queues = 4, .rss_entries = 1, .rss_table = {2}};

static void start(void)
{
    cr_assert_eq(portmap_create(16, 16, 4, &m), 0);
    memset(&s, 0, sizeof(s));
    s.workers = 4;
    s.ports = m;
}

static void stop(void)
{
    portmap_free(m);
}

TestSuite(sort, .init = start, .fini = stop);

static struct ip_addr ip(const char *text)
{
    struct ip_addr a = {.family = strchr(text, ':') ? SG_AF_INET6 : SG_AF_INET};

    cr_assert_eq(inet_pton(a.family, text, a.ip), 1);
    return a;
}

static struct engine_port_use use(uint8_t proto, const char *local, uint16_t port, uint32_t id)
{
    return (struct engine_port_use){
        .local = ip(local), .id = id, .session = 1, .slot = id, .port = port, .proto = proto, .uid = 1000};
}

static struct engine_flow flow(uint8_t proto, const char *remote, uint16_t rport, uint16_t lport)
{
    return (struct engine_flow){
        .local = ip("10.0.0.2"), .remote = ip(remote), .lport = lport, .rport = rport, .proto = proto};
}

/* ---- Ports ------------------------------------------------------------------------------------------- */

Test(sort, binds_collide_across_workers_as_the_kernels_do)
{
    struct engine_port_use a = use(TCP, "0.0.0.0", 80, 1), b = use(TCP, "10.0.0.2", 80, 2);

    cr_assert_eq(portmap_bind(m, 0, &a), 0);
    cr_assert_eq(portmap_bind(m, 1, &b), -EADDRINUSE);
    b.port = 81;
    cr_assert_eq(portmap_bind(m, 1, &b), 0);
    portmap_unbind(m, 0, &a);
    portmap_state(m, 0, TCP, 80, 0);
    b.port = 80;
    cr_assert_eq(portmap_bind(m, 1, &b), 0);
    a.local = ip("10.0.0.3"); /* another address */
    cr_assert_eq(portmap_bind(m, 2, &a), 0);
}

Test(sort, reuse_of_addresses_counts_until_one_listens)
{
    struct engine_port_use a = use(TCP, "0.0.0.0", 80, 1), b = use(TCP, "0.0.0.0", 80, 2), c = b;

    a.reuseaddr = b.reuseaddr = c.reuseaddr = true;
    c.id = 3;
    cr_assert_eq(portmap_bind(m, 0, &a), 0);
    cr_assert_eq(portmap_bind(m, 1, &b), 0);
    a.listens = true;
    cr_assert_geq(portmap_change(m, 0, 1, &a), 0);
    cr_assert_eq(portmap_bind(m, 2, &c), -EADDRINUSE);
    b.listens = true;
    cr_assert_eq(portmap_change(m, 1, 2, &b), -EADDRINUSE, "two listen");
}

Test(sort, connections_and_time_wait_of_others_hold_a_port)
{
    struct engine_port_use a = use(TCP, "0.0.0.0", 80, 1);

    portmap_state(m, 1, TCP, 80, ENGINE_PORT_USED | ENGINE_PORT_TW);
    cr_assert_eq(portmap_bind(m, 0, &a), -EADDRINUSE);
    a.reuseaddr = true;
    portmap_state(m, 1, TCP, 80, ENGINE_PORT_USED | ENGINE_PORT_CONNS | ENGINE_PORT_NOREUSE);
    cr_assert_eq(portmap_bind(m, 0, &a), -EADDRINUSE);
    portmap_state(m, 1, TCP, 80, ENGINE_PORT_USED | ENGINE_PORT_CONNS);
    cr_assert_eq(portmap_bind(m, 0, &a), 0);
}

Test(sort, slots_of_one_listener_share_its_port_and_nobody_else)
{
    struct engine_port_use a = use(TCP, "0.0.0.0", 80, 4), b = use(TCP, "0.0.0.0", 80, 5), c = b;
    int group;

    cr_assert_eq(portmap_bind(m, 0, &a), 0);
    b.share = 99;
    cr_assert_eq(portmap_bind(m, 1, &b), -EINVAL, "there is no such slot");
    b.share = 4;
    b.session = 2;
    cr_assert_eq(portmap_bind(m, 1, &b), -EINVAL, "another session's");
    b.session = 1;
    cr_assert_eq(portmap_bind(m, 1, &b), 0);
    a.listens = b.listens = true;
    group = portmap_change(m, 0, 4, &a);
    cr_assert_gt(group, 0);
    cr_assert_eq(portmap_change(m, 1, 5, &b), group);
    cr_assert_eq(portmap_bind(m, 2, &c), -EADDRINUSE);
    portmap_unbind(m, 0, &a);
    portmap_unbind(m, 1, &b);
    cr_assert_eq(portmap_bind(m, 2, &c), 0, "the port is free again");
}

Test(sort, a_port_for_connections_is_one_workers_at_a_time)
{
    struct engine_flow f = flow(TCP, "10.0.0.1", 80, 40000);

    cr_assert(portmap_connect(m, 1, &f));
    cr_assert(portmap_connect(m, 1, &f));
    cr_assert_not(portmap_connect(m, 2, &f));
    cr_assert_eq(portmap_users(m, TCP, 40000), 1u << 1);
    portmap_state(m, 1, TCP, 40000, 0);
    cr_assert(portmap_connect(m, 2, &f));
}

Test(sort, pins_tell_whose_a_connection_is_and_are_bounded)
{
    struct engine_flow f = flow(TCP, "10.0.0.1", 80, 5000), g = f;
    unsigned n = 0;

    cr_assert(portmap_pin(m, 3, &f));
    cr_assert_not(portmap_pin(m, 1, &f), "the same four numbers");
    cr_assert(portmap_users(m, TCP, 5000) & PORTMAP_ASK);
    cr_assert_eq(portmap_find(m, &f, 0), 3);
    g.rport = 81;
    cr_assert_eq(portmap_find(m, &g, 0), -1);
    portmap_unpin(m, 3, &g);
    cr_assert_eq(portmap_find(m, &f, 0), 3);
    portmap_unpin(m, 3, &f);
    cr_assert_eq(portmap_find(m, &f, 0), -1);
    cr_assert_not(portmap_users(m, TCP, 5000) & PORTMAP_ASK);
    for (g.rport = 1; n < PORTMAP_PINS_MAX; n++, g.rport++)
        cr_assert(portmap_pin(m, 0, &g));
    cr_assert_not(portmap_pin(m, 0, &g));
}

/* ---- Frames ------------------------------------------------------------------------------------------ */

static uint8_t frame[200];

static void put16(unsigned at, unsigned v)
{
    frame[at] = (uint8_t)(v >> 8);
    frame[at + 1] = (uint8_t)v;
}

/* An IPv4 packet from 10.0.0.1 to 10.0.0.2, in the frame from `at` on. */
static unsigned put_ip4(unsigned at, uint8_t proto)
{
    struct ip_addr src = ip("10.0.0.1"), dst = ip("10.0.0.2");

    frame[at] = 0x45;
    frame[at + 9] = proto;
    memcpy(frame + at + 12, src.ip, 4);
    memcpy(frame + at + 16, dst.ip, 4);
    return at + 20;
}

static unsigned begin4(uint8_t proto)
{
    memset(frame, 0, sizeof(frame));
    put16(12, 0x0800);
    return put_ip4(14, proto);
}

static uint32_t sort_ports(uint8_t proto, uint16_t sport, uint16_t dport, unsigned here,
                           const struct spread *sp)
{
    unsigned l4 = begin4(proto);

    put16(l4, sport);
    put16(l4 + 2, dport);
    return sort_frame(&s, here, sp, frame, 60);
}

Test(sort, one_worker_with_the_port_gets_the_frame_wherever_it_comes_in)
{
    portmap_state(m, 3, TCP, 40000, ENGINE_PORT_USED);
    for (unsigned here = 0; here < 4; here++)
        cr_assert_eq(sort_ports(TCP, 80, 40000, here, &silent), 1u << 3);
    cr_assert_eq(sort_ports(TCP, 80, 40001, 1, &silent), 1u << 1, "nobody's stays");
    cr_assert_eq(sort_ports(UDP, 80, 40000, 1, &silent), 1u << 1, "of the other protocol");
}

Test(sort, a_port_of_several_goes_by_the_device)
{
    for (unsigned w = 0; w < 4; w++)
        portmap_state(m, w, TCP, 80, ENGINE_PORT_USED);
    cr_assert_eq(sort_ports(TCP, 5555, 80, 1, &silent), 1u << 1);
    cr_assert_eq(sort_ports(TCP, 5555, 80, 1, &fixed), 1u << 2);
    struct engine_flow f = flow(TCP, "10.0.0.1", 5555, 80);
    cr_assert(portmap_pin(m, 0, &f));
    cr_assert_eq(sort_ports(TCP, 5555, 80, 1, &fixed), 1u << 0, "but for what is pinned");
    cr_assert_eq(sort_ports(TCP, 5556, 80, 1, &fixed), 1u << 2);
}

Test(sort, datagrams_go_to_the_socket_that_fits_best)
{
    struct engine_port_use any = use(UDP, "0.0.0.0", 53, 1), one = use(UDP, "10.0.0.2", 53, 2), peer = one;

    any.reuseaddr = one.reuseaddr = peer.reuseaddr = true;
    cr_assert_eq(portmap_bind(m, 0, &any), 0);
    cr_assert_eq(sort_ports(UDP, 9, 53, 3, &silent), 1u << 0);
    cr_assert_eq(portmap_bind(m, 1, &one), 0);
    cr_assert_eq(sort_ports(UDP, 9, 53, 3, &silent), 1u << 1);
    peer.id = 3;
    peer.remote = ip("10.0.0.1");
    peer.rport = 9;
    cr_assert_eq(portmap_bind(m, 2, &peer), 0);
    cr_assert_eq(sort_ports(UDP, 9, 53, 3, &silent), 1u << 2);
    cr_assert_eq(sort_ports(UDP, 10, 53, 3, &silent), 1u << 1);
}

Test(sort, a_reuseport_group_keeps_what_comes_in_and_shares_the_rest)
{
    struct engine_port_use u = use(UDP, "0.0.0.0", 53, 1);
    uint32_t seen = 0;

    u.reuseport = true;
    cr_assert_eq(portmap_bind(m, 1, &u), 0);
    cr_assert_eq(portmap_bind(m, 3, &u), 0);
    cr_assert_eq(portmap_users(m, UDP, 53), 1u << 1 | 1u << 3 | PORTMAP_ANY);
    cr_assert_eq(sort_ports(UDP, 9, 53, 3, &silent), 1u << 3);
    for (uint16_t p = 1000; p < 1100; p++) {
        uint32_t mask = sort_ports(UDP, p, 53, 0, &silent);

        cr_assert(mask == 1u << 1 || mask == 1u << 3, "%x", mask);
        cr_assert_eq(sort_ports(UDP, p, 53, 2, &silent), mask, "a flow stays with one");
        seen |= mask;
    }
    cr_assert_eq(seen, 1u << 1 | 1u << 3);
}

Test(sort, groups_go_to_all_who_hold_the_port)
{
    unsigned l4 = begin4(UDP);

    put16(l4, 9);
    put16(l4 + 2, 5353);
    frame[0] = 1;
    cr_assert_eq(sort_frame(&s, 2, &silent, frame, 60), 1u << 2);
    portmap_state(m, 1, UDP, 5353, ENGINE_PORT_USED);
    portmap_state(m, 3, UDP, 5353, ENGINE_PORT_USED);
    cr_assert_eq(sort_frame(&s, 2, &silent, frame, 60), 1u << 1 | 1u << 3);
}

Test(sort, errors_go_to_whom_they_are_about)
{
    unsigned quoted, l4 = begin4(1);

    frame[l4] = 3;
    quoted = put_ip4(l4 + 8, TCP);
    memcpy(frame + l4 + 8 + 12, ip("10.0.0.2").ip, 4); /* we sent it */
    memcpy(frame + l4 + 8 + 16, ip("10.0.0.1").ip, 4);
    put16(quoted, 40000);
    put16(quoted + 2, 80);
    portmap_state(m, 2, TCP, 40000, ENGINE_PORT_USED);
    cr_assert_eq(sort_frame(&s, 1, &silent, frame, 100), 1u << 2);
    cr_assert_eq(sort_frame(&s, 1, &silent, frame, quoted + 3), 1u << 1, "cut short");
    frame[l4] = 8; /* an echo request quotes nothing */
    cr_assert_eq(sort_frame(&s, 1, &silent, frame, 100), 1u << 1);
}

Test(sort, what_makes_one_host_goes_to_the_leader_or_to_all)
{
    unsigned l4;

    memset(frame, 0, sizeof(frame));
    put16(12, 0x0806);
    put16(14 + 6, 1);
    frame[14 + 14] = 1; /* a request for another than its sender */
    cr_assert_eq(sort_frame(&s, 2, &silent, frame, 60), 1u << 0);
    put16(14 + 6, 2);
    cr_assert_eq(sort_frame(&s, 2, &silent, frame, 60), 0xfu);
    (void)begin4(2);
    cr_assert_eq(sort_frame(&s, 2, &silent, frame, 60), 0xfu, "IGMP");
    cr_assert_eq(sort_ports(UDP, 67, 68, 2, &silent), 1u << 0, "DHCP");
    memset(frame, 0, sizeof(frame));
    put16(12, 0x86dd);
    frame[14] = 0x60;
    frame[14 + 6] = 58;
    l4 = 14 + 40;
    frame[l4] = 135;
    cr_assert_eq(sort_frame(&s, 2, &silent, frame, 100), 1u << 0, "a solicitation");
    frame[l4] = 136;
    cr_assert_eq(sort_frame(&s, 2, &silent, frame, 100), 0xfu, "an advertisement");
    frame[14 + 6] = 0; /* behind a hop-by-hop header */
    frame[l4] = 58;
    frame[l4 + 1] = 0;
    frame[l4 + 8] = 130;
    cr_assert_eq(sort_frame(&s, 2, &silent, frame, 100), 0xfu, "an MLD query");
}

Test(sort, raw_sockets_get_a_copy_of_what_belongs_elsewhere)
{
    s.raw[0][TCP] = 1;
    portmap_state(m, 3, TCP, 40000, ENGINE_PORT_USED);
    cr_assert_eq(sort_ports(TCP, 80, 40000, 1, &silent), 1u << 3 | SORT_COPY);
    portmap_state(m, 0, TCP, 40001, ENGINE_PORT_USED);
    cr_assert_eq(sort_ports(TCP, 80, 40001, 1, &silent), 1u << 0, "it is there anyway");
}

Test(sort, fragments_and_nonsense_stay_where_they_came_in)
{
    portmap_state(m, 3, TCP, 40000, ENGINE_PORT_USED);
    (void)sort_ports(TCP, 80, 40000, 1, &silent);
    put16(14 + 6, 0x2000);
    cr_assert_eq(sort_frame(&s, 1, &silent, frame, 60), 1u << 1, "a first fragment");
    put16(14 + 6, 0x0010);
    cr_assert_eq(sort_frame(&s, 1, &silent, frame, 60), 1u << 1, "a later one");
    put16(14 + 6, 0);
    for (uint32_t len = 0; len < 14 + 20 + 4; len++)
        cr_assert_eq(sort_frame(&s, 1, &silent, frame, len), 1u << 1, "%u bytes", len);
    cr_assert_eq(sort_frame(&s, 1, &silent, frame, 14 + 20 + 4), 1u << 3);
    frame[14] = 0x4f; /* a header longer than the frame */
    cr_assert_eq(sort_frame(&s, 1, &silent, frame, 60), 1u << 1);
}

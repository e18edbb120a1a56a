/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DHCP client, message by message (RFC 2131), against a server that these tests play.
 */
#include <criterion/criterion.h>

#include "daemon/engine/wire/dhcp.h"
#include "tests/unit/frames.h"

#define SERVER NET4(1)
#define LEASED NET4(77)
#define ROUTER NET4(GATEWAY)
#define MASK   0xffffff00u
#define S      UINT64_C(1000000)

static struct host h;
static struct frame f;
static uint8_t msg[600]; /* the client's last message */
static uint32_t msg_src, msg_dst;

static void start(void)
{
    struct engine_config cfg;

    host_config(&cfg, HOST_LAST);
    cfg.addr_count = cfg.route_count = 0;
    cfg.dhcp = true;
    host_start(&h, &cfg, 1000000);
}

static void stop(void)
{
    rig_stop(&h);
}

TestSuite(dhcp, .init = start, .fini = stop);

/* ---- The client's messages --------------------------------------------------------------------- */

static const uint8_t *option(uint8_t code, uint8_t *len)
{
    for (uint32_t at = DHCP_FIXED_BYTES; msg[at] != DHCP_O_END; at += 2u + msg[at + 1]) {
        if (msg[at] == code) {
            *len = msg[at + 1];
            return msg + at + 2;
        }
    }
    *len = 0;
    return NULL;
}

static uint32_t word(uint8_t code)
{
    uint8_t len;
    const uint8_t *p = option(code, &len);

    return p && len == 4 ? get_be32(p) : 0;
}

/* Take the next frame as a message of the client; 0: there is none. Checks what all have in common. */
static uint8_t next_message(void)
{
    struct pktbuf *p = host_tx(&h);
    struct udp_dgram d;
    struct eth_frame eth;
    struct ip4_pkt ip;
    uint8_t len;

    if (!p)
        return 0;
    cr_assert(eth_parse(p->data, p->len, &eth));
    cr_assert_eq(eth.type, ETH_TYPE_IP4);
    cr_assert(ip4_parse(eth.payload, eth.len, &ip) && ip4_csum_ok(&ip) && ip.proto == IP_PROTO_UDP);
    cr_assert(udp_parse(ip.payload, ip.len, &d));
    cr_assert(d.sport == DHCP_CLIENT_PORT && d.dport == DHCP_SERVER_PORT && d.len >= DHCP_BYTES_MIN);
    cr_assert_eq(csum_finish(csum_add(csum_pseudo4(ip.hdr + 12, ip.hdr + 16, IP_PROTO_UDP, ip.len),
                                      csum_partial(ip.payload, ip.len))),
                 0);
    memcpy(msg, d.data, d.len);
    cr_assert(msg[0] == 1 && msg[1] == 1 && msg[2] == 6 && get_be32(msg + 236) == DHCP_MAGIC);
    cr_assert_arr_eq(msg + 28, mac_of(HOST_LAST), 6);
    msg_src = ip.src;
    msg_dst = ip.dst;
    return *option(DHCP_O_TYPE, &len);
}

/* Let time pass until the client sends something, at most `max_us`; how long it took. */
static uint64_t wait_frame(uint64_t max_us)
{
    uint64_t begun = h.now_us;

    host_run(&h);
    while (!engine_tx_pending(h.e) && h.now_us < begun + max_us) {
        uint64_t at = engine_deadline(h.e);

        h.now_us = at <= h.now_us ? h.now_us + 1000 : at < begun + max_us ? at : begun + max_us;
        host_run(&h);
    }
    return h.now_us - begun;
}

/* ---- The server's -------------------------------------------------------------------------------- */

struct answer {
    uint8_t type;
    uint32_t yiaddr, server, mask, router, lease_s, t1_s, t2_s;
    uint16_t mtu;
    bool other_xid, other_chaddr, no_magic;
    const uint8_t *raw; /* options instead of all these */
    uint32_t raw_len;
};

static uint8_t *put_option(uint8_t *at, uint8_t code, uint32_t value)
{
    if (!value)
        return at;
    at[0] = code;
    at[1] = 4;
    put_be32(at + 2, value);
    return at + 6;
}

static void answer(const struct answer *a)
{
    uint8_t m[600] = {2, 1, 6};
    uint8_t *at = m + DHCP_FIXED_BYTES;

    put_be32(m + 4, get_be32(msg + 4) ^ a->other_xid);
    put_be32(m + 16, a->yiaddr);
    memcpy(m + 28, mac_of(a->other_chaddr ? 9 : HOST_LAST), 6);
    put_be32(m + 236, a->no_magic ? 0 : DHCP_MAGIC);
    if (a->raw) {
        memcpy(at, a->raw, a->raw_len);
        at += a->raw_len;
    } else {
        at[0] = DHCP_O_TYPE;
        at[1] = 1;
        at[2] = a->type;
        at = put_option(at + 3, DHCP_O_SERVER, a->server);
        at = put_option(at, DHCP_O_MASK, a->mask);
        at = put_option(at, DHCP_O_ROUTER, a->router);
        at = put_option(at, DHCP_O_LEASE, a->lease_s);
        at = put_option(at, DHCP_O_T1, a->t1_s);
        at = put_option(at, DHCP_O_T2, a->t2_s);
        if (a->mtu) {
            memcpy(at, (uint8_t[]){DHCP_O_MTU, 2}, 2);
            put_be16(at + 2, a->mtu);
            at += 4;
        }
        *at++ = DHCP_O_END;
    }
    frame_udp(&f, SERVER, DHCP_SERVER_PORT, UINT32_MAX, DHCP_CLIENT_PORT, m, (uint32_t)(at - m));
    frame_in(&h, &f);
}

static struct answer good(uint8_t type)
{
    return (struct answer){
        .type = type, .yiaddr = LEASED, .server = SERVER, .mask = MASK, .router = ROUTER, .lease_s = 1000};
}

static void give(uint8_t type)
{
    struct answer a = good(type);

    answer(&a);
}

static bool has_address(uint32_t addr4)
{
    struct ip_addr a = net_ip_addr(addr4);

    return net_is_own(h.e, &a);
}

static void expect_probe(void)
{
    const uint8_t *mac;
    struct arp_pkt a;

    (void)wait_frame(S);
    expect_arp(&h, &a, &mac);
    cr_assert(a.op == ARP_REQUEST && a.spa == 0 && a.tpa == LEASED);
}

/* The server asks for the address, which tells us its own: a unicast to it then leaves at once. */
static void resolve_server(void)
{
    const uint8_t *mac;
    struct arp_pkt a;

    frame_arp(&f, ARP_REQUEST, 1, SERVER, HOST_LAST, LEASED);
    frame_in(&h, &f);
    expect_arp(&h, &a, &mac);
}

/* From the first message to an address in use. */
static void bind(void)
{
    const uint8_t *mac;
    struct arp_pkt a;

    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_DISCOVER);
    give(DHCP_OFFER);
    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_REQUEST);
    give(DHCP_ACK);
    for (unsigned i = 0; i < DHCP_PROBES; i++)
        expect_probe();
    cr_assert_not(has_address(LEASED), "not before the probes are over");
    (void)wait_frame(S);
    expect_arp(&h, &a, &mac);
    cr_assert(a.spa == LEASED && a.tpa == LEASED, "the announcement");
    cr_assert(has_address(LEASED));
}

/* ---- Getting one --------------------------------------------------------------------------------- */

Test(dhcp, address_is_discovered_requested_probed_and_used)
{
    struct ip_addr far = net_ip_addr(0xc6336401), src;
    char line[200];

    bind();
    cr_assert(net_source(h.e, &far, &src) && net_addr4(&src) == LEASED, "the router is used");
    cr_assert(engine_notice(h.e, line, sizeof(line)) && strstr(line, "leased 192.0.2.77/24"), "%s", line);
    frame_icmp(&f, NET4(1), LEASED, ICMP4_ECHO, 0, 1, "x", 1);
    memcpy(f.b, mac_of(HOST_LAST), 6);
    frame_in(&h, &f);
    cr_assert_eq(host_counter(&h, "IcmpInEchos"), 1);
    while (host_tx(&h))
        ;
}

Test(dhcp, messages_carry_what_their_state_asks_for)
{
    uint8_t len;

    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_DISCOVER);
    cr_assert(msg_src == 0 && msg_dst == UINT32_MAX);
    cr_assert_eq(get_be16(msg + 10), DHCP_BROADCAST);
    cr_assert_eq(get_be32(msg + 12), 0, "no ciaddr");
    cr_assert_not_null(option(DHCP_O_PARAMETERS, &len));
    cr_assert_eq(word(DHCP_O_REQUESTED), 0);
    give(DHCP_OFFER);
    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_REQUEST);
    cr_assert(msg_src == 0 && msg_dst == UINT32_MAX && get_be32(msg + 12) == 0);
    cr_assert(word(DHCP_O_REQUESTED) == LEASED && word(DHCP_O_SERVER) == SERVER);
}

Test(dhcp, unanswered_messages_are_repeated_with_growing_delays)
{
    const uint64_t want_s[] = {4, 8, 16, 32, 64, 64};

    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_DISCOVER);
    for (unsigned i = 0; i < ARRAY_LEN(want_s); i++) {
        uint64_t us = wait_frame(100 * S);

        cr_assert(us >= (want_s[i] - 1) * S && us <= (want_s[i] + 1) * S + 2000, "%u: %llu us", i,
                  (unsigned long long)us);
        cr_assert_eq(next_message(), DHCP_DISCOVER);
    }
    give(DHCP_OFFER);
    for (unsigned i = 0; i < DHCP_REQUEST_TRIES; i++) {
        (void)wait_frame(100 * S);
        cr_assert_eq(next_message(), DHCP_REQUEST);
    }
    (void)wait_frame(100 * S);
    cr_assert_eq(next_message(), DHCP_DISCOVER, "the server fell silent: it all starts again");
}

Test(dhcp, address_of_another_host_is_declined)
{
    for (int round = 0; round < 2; round++) {
        (void)wait_frame(20 * S);
        cr_assert_eq(next_message(), DHCP_DISCOVER);
        give(DHCP_OFFER);
        (void)wait_frame(S);
        cr_assert_eq(next_message(), DHCP_REQUEST);
        give(DHCP_ACK);
        expect_probe();
        /* It answers, or it probes for the same address itself. */
        frame_arp(&f, round ? ARP_REQUEST : ARP_REPLY, 66, round ? 0 : LEASED, round ? 255 : HOST_LAST,
                  round ? LEASED : 0);
        frame_in(&h, &f);
        (void)wait_frame(S);
        cr_assert_eq(next_message(), DHCP_DECLINE);
        cr_assert(word(DHCP_O_REQUESTED) == LEASED && word(DHCP_O_SERVER) == SERVER);
        cr_assert_not(has_address(LEASED));
        cr_assert_geq(wait_frame(20 * S), 9 * S, "not at once again (RFC 2131 3.1)");
    }
    cr_assert_eq(host_counter(&h, "DhcpDeclined"), 2);
}

/* ---- Keeping it ------------------------------------------------------------------------------------ */

Test(dhcp, lease_is_renewed_with_its_server_at_t1)
{
    uint64_t us;

    bind();
    resolve_server();
    us = wait_frame(600 * S);
    cr_assert(us > 490 * S && us <= 500 * S, "%llu", (unsigned long long)us);
    cr_assert_eq(next_message(), DHCP_REQUEST);
    cr_assert(msg_src == LEASED && msg_dst == SERVER && get_be32(msg + 12) == LEASED);
    cr_assert(!word(DHCP_O_REQUESTED) && !word(DHCP_O_SERVER), "RFC 2131 4.3.2");
    give(DHCP_ACK);
    cr_assert(has_address(LEASED));
    cr_assert_eq(dhcp_deadline(h.e), h.now_us + 500 * S, "from the new lease");
}

Test(dhcp, any_server_is_asked_from_t2_and_the_address_goes_at_the_end)
{
    uint64_t begun;
    bool broadcast = false;

    bind();
    begun = h.now_us;
    while (has_address(LEASED) && h.now_us < begun + 1100 * S) {
        (void)wait_frame(200 * S);
        if (!engine_tx_pending(h.e))
            continue;
        for (struct pktbuf *p; (p = host_tx(&h));)
            broadcast |= p->data[0] == 0xff && get_be16(p->data + 12) == ETH_TYPE_IP4 &&
                         h.now_us >= begun + 870 * S && h.now_us < begun + 999 * S;
    }
    cr_assert(broadcast, "no broadcast between T2 and the end");
    cr_assert(h.now_us >= begun + 998 * S && h.now_us <= begun + 1001 * S);
    cr_assert_eq(host_counter(&h, "DhcpLost"), 1);
}

static void set_link(bool up)
{
    const struct engine_link l = {.up = up, .mtu = 1500};

    engine_link(h.e, 0, &l, h.now_us);
}

Test(dhcp, lease_is_checked_when_the_link_comes_back)
{
    const uint8_t *mac;
    struct arp_pkt a;

    bind();
    set_link(false);
    set_link(true);
    expect_arp(&h, &a, &mac);
    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_REQUEST);
    cr_assert(msg_src == LEASED && msg_dst == UINT32_MAX, "any server on this link may answer");
    give(DHCP_NAK);
    cr_assert_not(has_address(LEASED));
}

Test(dhcp, refusal_ends_the_lease_at_once)
{
    bind();
    resolve_server();
    (void)wait_frame(600 * S);
    cr_assert_eq(next_message(), DHCP_REQUEST);
    give(DHCP_NAK);
    cr_assert_not(has_address(LEASED));
    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_DISCOVER);
}

Test(dhcp, endless_lease_is_never_renewed)
{
    struct answer a = good(DHCP_OFFER);

    a.lease_s = UINT32_MAX;
    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_DISCOVER);
    answer(&a);
    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_REQUEST);
    a.type = DHCP_ACK;
    answer(&a);
    for (int i = 0; i < 4; i++) {
        (void)wait_frame(S);
        (void)host_tx(&h);
    }
    cr_assert(has_address(LEASED));
    cr_assert_eq(dhcp_deadline(h.e), UINT64_MAX);
}

Test(dhcp, mtu_is_taken_within_bounds)
{
    static const struct {
        uint16_t offered, used;
    } cases[] = {{1400, 1400}, {9000, 1500}, {68, 576}};

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct ip_addr near = net_ip_addr(NET4(1));
        struct answer a = good(DHCP_OFFER);

        a.mtu = cases[i].offered;
        (void)wait_frame(S);
        cr_assert_eq(next_message(), DHCP_DISCOVER);
        answer(&a);
        (void)wait_frame(S);
        cr_assert_eq(next_message(), DHCP_REQUEST);
        a.type = DHCP_ACK;
        answer(&a);
        for (int k = 0; k < 4; k++) {
            (void)wait_frame(S);
            (void)host_tx(&h);
        }
        cr_assert_eq(net_mtu(h.e, &near), cases[i].used);
        rig_stop(&h);
        start();
    }
}

/* ---- Hostile servers --------------------------------------------------------------------------------- */

Test(dhcp, answers_to_somebody_else_or_with_bad_contents_are_ignored)
{
    struct answer a[12];
    static const uint8_t cut[] = {DHCP_O_TYPE, 1, DHCP_OFFER, DHCP_O_SERVER, 4, 192, 0};
    static const uint8_t wrong_length[] = {DHCP_O_TYPE, 2, DHCP_OFFER, 0, DHCP_O_END};
    static const uint8_t no_length[] = {DHCP_O_TYPE};
    unsigned n = 0;

    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_DISCOVER);
    for (unsigned i = 0; i < ARRAY_LEN(a); i++)
        a[i] = good(DHCP_OFFER);
    a[n++].other_xid = true;
    a[n++].other_chaddr = true;
    a[n++].no_magic = true;
    a[n++].yiaddr = 0;
    a[n++].yiaddr = 0xe0000005;
    a[n++].yiaddr = NET4(255);
    a[n++].mask = 0xff00ff00;
    a[n++].server = 0;
    a[n++].type = DHCP_ACK; /* nothing was requested */
    a[n++].raw = cut;
    a[n++].raw = wrong_length;
    a[n++].raw = no_length;
    a[9].raw_len = sizeof(cut);
    a[10].raw_len = sizeof(wrong_length);
    a[11].raw_len = sizeof(no_length);
    for (unsigned i = 0; i < n; i++) {
        answer(&a[i]);
        cr_assert_eq(host_counter(&h, "DhcpInBad"), i + 1, "case %u", i);
        cr_assert_eq(h.e->dhcp.state, DHCP_SELECTING, "case %u", i);
    }
    give(DHCP_OFFER);
    cr_assert_eq(h.e->dhcp.state, DHCP_REQUESTING);
}

Test(dhcp, times_that_make_no_sense_are_replaced)
{
    struct answer a = good(DHCP_OFFER);
    uint64_t us;

    a.lease_s = 1; /* a server that wants to be asked all the time */
    a.t1_s = 5;
    a.t2_s = 3;
    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_DISCOVER);
    answer(&a);
    (void)wait_frame(S);
    cr_assert_eq(next_message(), DHCP_REQUEST);
    a.type = DHCP_ACK;
    answer(&a);
    for (int k = 0; k < 4; k++) {
        (void)wait_frame(S);
        (void)host_tx(&h);
    }
    us = wait_frame(100 * S);
    cr_assert(us > 25 * S && us <= 30 * S, "half of the shortest lease that is taken");
    while (host_tx(&h))
        ;
}

Test(dhcp, random_answers_do_no_harm)
{
    uint64_t r = rnd_seed("dhcp");
    uint8_t raw[300];

    for (int i = 0; i < 20000; i++) {
        uint64_t x = rnd_next(&r);
        struct answer a = good((uint8_t)(1 + x % 7));

        if (x >> 8 & 1)
            a.yiaddr = (uint32_t)(x >> 32);
        if (x >> 9 & 1)
            a.mask = (uint32_t)rnd_next(&r);
        a.lease_s = (uint32_t)(rnd_next(&r) >> (32 + (x >> 16) % 32));
        a.t1_s = (uint32_t)(rnd_next(&r) >> (32 + (x >> 21) % 32));
        a.t2_s = (uint32_t)(rnd_next(&r) >> (32 + (x >> 26) % 32));
        a.mtu = (uint16_t)rnd_next(&r);
        if ((x >> 10 & 7) == 0) {
            a.raw_len = (uint32_t)(x >> 40) % sizeof(raw);
            for (uint32_t k = 0; k < a.raw_len; k++)
                raw[k] = (uint8_t)(rnd_next(&r) % (k % 2 ? 8 : 60));
            a.raw = raw;
        }
        answer(&a);
        if ((x >> 13 & 3) == 0)
            h.now_us += (x >> 48) * 1000;
        host_run(&h);
        for (struct pktbuf *p; (p = host_tx(&h));)
            if (p->len > 282 + 14 && get_be16(p->data + 12) == ETH_TYPE_IP4)
                memcpy(msg, p->data + 42, 240); /* the next answers have its xid */
        if (i % 64 == 0)
            cr_assert_null(engine_check(h.e), "%s", engine_check(h.e));
    }
}

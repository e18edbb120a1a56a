/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv6 packets of any content into a host that listens to both versions, probes for its addresses and takes
 * router advertisements: extension headers, fragments, discovery, ICMPv6.
 *
 * The input is a list of steps: a byte of flags, then for a packet its first header, a choice of addresses,
 * its length and its bytes. What would keep all packets out is put right: fixed header, and the checksum of a
 * transport that stands first.
 */
#include <string.h>

#include "daemon/engine/csum.h"
#include "daemon/engine/wire/icmp6.h"
#include "daemon/engine/wire/ip6.h"
#include "tests/fuzz/fuzz.h"

#define STEPS_MAX 64u
#define BYTES_MAX 1400u
#define PEER      1u

#define F_WAIT    0x01u /* let time pass instead */
#define F_LINK    0x02u /* hop limit 255 */
#define F_L4      0x04u /* right checksum */
#define F_GROUP   0x08u /* to a group */

static const uint8_t firsts[] = {
    IP6_NH_ICMP, IP6_NH_ICMP, IP6_NH_FRAGMENT, IP6_NH_HOPS, IP6_NH_DEST, IP6_NH_ROUTING, 6, 17};

/* fe80:: or 2001:db8:: with this last octet. */
static void put_address(uint8_t *out, uint8_t choice, uint8_t last)
{
    memset(out, 0, 16);
    memcpy(out, choice & 1 ? (uint8_t[]){0xfe, 0x80, 0, 0} : (uint8_t[]){0x20, 0x01, 0x0d, 0xb8}, 4);
    out[15] = last;
    if (choice & 2)
        memset(out, 0, 16);
}

static void checksum(uint8_t *ip, uint8_t next, uint32_t len)
{
    uint32_t at = next == 6 ? 16 : next == 17 ? 6 : 2;
    uint16_t sum;

    if ((next != IP6_NH_ICMP && next != 6 && next != 17) || len < at + 2)
        return;
    memset(ip + IP6_HDR_BYTES + at, 0, 2);
    sum = csum_finish(
        csum_add(csum_pseudo6(ip + 8, ip + 24, next, len), csum_partial(ip + IP6_HDR_BYTES, len)));
    memcpy(ip + IP6_HDR_BYTES + at, &sum, 2);
}

static void packet_step(struct host *h, struct input *in, uint8_t flags)
{
    static uint8_t f[ETH_HDR_BYTES + IP6_HDR_BYTES + BYTES_MAX];
    uint8_t next = firsts[take_u8(in) % sizeof(firsts)], choice = take_u8(in);
    uint32_t len = take_u16(in) % BYTES_MAX;
    uint8_t src[16], dst[16], *ip = f + ETH_HDR_BYTES;

    len = len < in->left ? len : (uint32_t)in->left;
    (void)take_bytes(in, ip + IP6_HDR_BYTES, len);
    put_address(src, choice, PEER);
    put_address(dst, choice >> 2 & 1, 2);
    if (flags & F_GROUP)
        ip6_solicited_node(dst, dst);
    eth_put(f, (uint8_t[]){2, 0, 0, 0, 0, 2}, (uint8_t[]){2, 0, 0, 0, 0, PEER}, ETH_TYPE_IP6);
    if (flags & F_GROUP)
        eth_multicast6(dst, f);
    ip6_put(ip, src, dst, next, 0, flags & F_LINK ? IP6_HOPS_LINK : 64, 0, len);
    if (flags & F_L4)
        checksum(ip, next, len);
    host_rx_bytes(h, f, ETH_HDR_BYTES + IP6_HDR_BYTES + len);
}

static void open_sockets(struct host *h)
{
    struct ip_ep any = {.addr = {.family = SG_AF_INET6}, .port = 7};
    struct ip_ep peer = {.addr = {.ip = {0x20, 0x01, 0x0d, 0xb8, [15] = PEER}, .family = SG_AF_INET6},
                         .port = 7};

    (void)engine_open(h->e, h->sid, 1, SG_SOCK_STREAM, 0, SG_AF_INET6);
    (void)engine_bind(h->e, h->sid, 1, &any);
    (void)engine_listen(h->e, h->sid, 1, 2, SG_OVERFLOW_DROP);
    (void)engine_open(h->e, h->sid, 2, SG_SOCK_DGRAM, 0, SG_AF_INET6);
    (void)engine_bind(h->e, h->sid, 2, &any);
    (void)engine_open(h->e, h->sid, 3, SG_SOCK_STREAM, 0, SG_AF_INET6);
    (void)engine_connect(h->e, h->sid, 3, &peer, h->now_us);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct host h;
    struct input in = {data, size};
    struct engine_config cfg;
    struct engine_addr a = {.prefix = 64};

    fuzz_config(&cfg);
    cfg.ifs[0].ip6 = cfg.ifs[0].accept_ra = true;
    cfg.dad_transmits = take_u8(&in) % 2;
    for (uint8_t i = 0; i < 2; i++) {
        put_address(a.addr.ip, i, 2);
        a.addr.family = SG_AF_INET6;
        cfg.addrs[cfg.addr_count++] = a;
    }
    host_start(&h, &cfg, 1000000);
    engine_announce(h.e, h.now_us);
    open_sockets(&h);
    fuzz_drain(&h, PEER, NULL, NULL);
    for (unsigned i = 0; i < STEPS_MAX && in.left; i++) {
        uint8_t flags = take_u8(&in);

        if (flags & F_WAIT)
            fuzz_wait(&h, fuzz_duration_us(take_u8(&in)), PEER, NULL, NULL);
        else
            packet_step(&h, &in, flags);
        fuzz_drain(&h, PEER, NULL, NULL);
        fuzz_check(&h);
    }
    fuzz_stop(&h);
    return 0;
}

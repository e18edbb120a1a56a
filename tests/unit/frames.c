/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/frames.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

const uint8_t *mac_of(uint8_t last)
{
    static uint8_t mac[256][ETH_ADDR_BYTES];

    if (last == 255)
        memset(mac[last], 0xff, ETH_ADDR_BYTES);
    else
        memcpy(mac[last], (uint8_t[]){2, 0, 0, 0, 0, last}, ETH_ADDR_BYTES);
    return mac[last];
}

void frame_arp(struct frame *f, uint16_t op, uint8_t from, uint32_t spa, uint8_t to, uint32_t tpa)
{
    struct arp_pkt a = {.op = op, .spa = spa, .tpa = tpa};

    memcpy(a.sha, mac_of(from), ETH_ADDR_BYTES);
    if (op == ARP_REPLY)
        memcpy(a.tha, mac_of(to), ETH_ADDR_BYTES);
    eth_put(f->b, mac_of(to), mac_of(from), ETH_TYPE_ARP);
    arp_put(f->b + ETH_HDR_BYTES, &a);
    f->len = ETH_HDR_BYTES + ARP_BYTES;
}

void frame_ip4(struct frame *f, const struct ip4_pkt *ip, uint8_t to)
{
    struct ip4_pkt copy = *ip;

    if (!copy.ttl)
        copy.ttl = 64;
    eth_put(f->b, mac_of(to), mac_of((uint8_t)ip->src), ETH_TYPE_IP4);
    ip4_put(f->b + ETH_HDR_BYTES, &copy);
    memcpy(f->b + ETH_HDR_BYTES + IP4_HDR_BYTES, ip->payload, ip->len);
    f->len = ETH_HDR_BYTES + IP4_HDR_BYTES + ip->len;
}

uint32_t put_udp(uint8_t *p, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, const void *data,
                 uint32_t len)
{
    struct ip_addr s = net_ip_addr(src), d = net_ip_addr(dst);
    uint16_t sum;

    udp_put(p, sport, dport, len);
    if (len)
        memcpy(p + UDP_HDR_BYTES, data, len);
    sum = csum_finish(csum_add(csum_pseudo4(s.ip, d.ip, IP_PROTO_UDP, UDP_HDR_BYTES + len),
                               csum_partial(p, UDP_HDR_BYTES + len)));
    if (!sum)
        sum = UINT16_MAX;
    memcpy(p + UDP_CSUM_OFFSET, &sum, 2);
    return UDP_HDR_BYTES + len;
}

void frame_udp(struct frame *f, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, const void *data,
               uint32_t len)
{
    static uint8_t l4[IP4_BYTES_MAX];
    struct ip4_pkt ip = {.src = src, .dst = dst, .proto = IP_PROTO_UDP, .payload = l4};

    ip.len = put_udp(l4, src, sport, dst, dport, data, len);
    frame_ip4(f, &ip, dst == HOST4 ? HOST_LAST : 255);
}

void frame_icmp(struct frame *f, uint32_t src, uint32_t dst, uint8_t type, uint8_t code, uint32_t rest,
                const void *data, uint32_t len)
{
    static uint8_t l4[IP4_BYTES_MAX];
    struct ip4_pkt ip = {.src = src, .dst = dst, .proto = IP_PROTO_ICMP, .payload = l4};
    uint16_t sum;

    icmp4_put(l4, type, code, rest);
    if (len)
        memcpy(l4 + ICMP4_HDR_BYTES, data, len);
    ip.len = ICMP4_HDR_BYTES + len;
    sum = csum_finish(csum_partial(l4, ip.len));
    memcpy(l4 + 2, &sum, 2);
    frame_ip4(f, &ip, dst == HOST4 ? HOST_LAST : 255);
}

void frame_in(struct host *h, const struct frame *f)
{
    host_rx_bytes(h, f->b, f->len);
}

void rig_start(struct host *h)
{
    struct engine_config cfg;

    host_config(&cfg, HOST_LAST);
    engine_config_gateway4(&cfg, (uint8_t[]){192, 0, 2, GATEWAY});
    host_start(h, &cfg, 1000000);
}

void rig_resolve(struct host *h, uint8_t last)
{
    static struct frame f;
    struct arp_pkt a;
    const uint8_t *mac;

    frame_arp(&f, ARP_REQUEST, last, NET4(last), HOST_LAST, HOST4);
    frame_in(h, &f);
    expect_arp(h, &a, &mac);
    cr_assert_eq(a.op, ARP_REPLY);
}

void rig_check(struct host *h)
{
    const char *bad = neigh_check(h->e);

    if (!bad)
        bad = frag_check(h->e);
    if (!bad)
        bad = udp_check(h->e);
    cr_assert_null(bad, "%s", bad);
}

void rig_stop(struct host *h)
{
    const char *bad;

    rig_check(h);
    bad = host_stop(h);
    cr_assert_null(bad, "%s", bad);
}

static struct pktbuf *next_frame(struct host *h, uint16_t type, struct eth_frame *ret)
{
    struct pktbuf *p = host_tx(h);

    cr_assert_not_null(p, "no frame to send");
    cr_assert(eth_parse(p->data, p->len, ret));
    cr_assert_eq(ret->type, type, "frame of type %04x, not %04x", ret->type, type);
    cr_assert(eth_eq(ret->src, mac_of(HOST_LAST)));
    return p;
}

void expect_arp(struct host *h, struct arp_pkt *ret, const uint8_t **dst_mac)
{
    struct eth_frame f;

    (void)next_frame(h, ETH_TYPE_ARP, &f);
    cr_assert(arp_parse(f.payload, f.len, ret));
    *dst_mac = f.dst;
}

void expect_ip4(struct host *h, struct ip4_pkt *ret, const uint8_t **dst_mac)
{
    struct eth_frame f;

    (void)next_frame(h, ETH_TYPE_IP4, &f);
    cr_assert(ip4_parse(f.payload, f.len, ret));
    cr_assert(ip4_csum_ok(ret));
    cr_assert_eq(ret->hdr_len + ret->len, f.len, "bytes behind the packet");
    if (dst_mac)
        *dst_mac = f.dst;
}

void expect_nothing(struct host *h)
{
    cr_assert_null(host_tx(h), "unexpected frame");
}

uint64_t host_wait_tx(struct host *h, uint64_t max_us)
{
    uint64_t start_us = h->now_us;

    while (!engine_tx_pending(h->e) && h->now_us < start_us + max_us) {
        h->now_us += 1000;
        host_run(h);
    }
    return h->now_us - start_us;
}

void host_quiet(struct host *h, uint64_t us)
{
    (void)host_wait_tx(h, us);
    expect_nothing(h);
}

uint64_t rnd_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t rnd_seed(const char *test)
{
    const char *env = getenv("SEED");
    uint64_t seed = env ? strtoull(env, NULL, 0) : 1;

    fprintf(stderr, "%s: SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

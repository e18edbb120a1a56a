/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/frames6.h"

#include <criterion/criterion.h>

const uint8_t *net6(uint8_t last)
{
    static uint8_t a[256][16];

    memcpy(a[last], (uint8_t[16]){0x20, 0x01, 0x0d, 0xb8, [15] = last}, 16);
    return a[last];
}

const uint8_t *link6(uint8_t last)
{
    static uint8_t a[256][16];

    memcpy(a[last], (uint8_t[16]){0xfe, 0x80, [15] = last}, 16);
    return a[last];
}

struct ip_addr addr6(const uint8_t *ip)
{
    return net_ip_addr6(ip, 0);
}

void frame_ip6(struct frame *f, uint8_t from, const uint8_t *src, const uint8_t *dst, uint8_t next,
               uint8_t hops, const void *payload, uint32_t len)
{
    uint8_t group[ETH_ADDR_BYTES];

    eth_multicast6(dst, group);
    eth_put(f->b, ip6_is_multicast(dst) ? group : mac_of(HOST_LAST), mac_of(from), ETH_TYPE_IP6);
    ip6_put(f->b + ETH_HDR_BYTES, src, dst, next, 0, hops, 0, len);
    if (len)
        memcpy(f->b + ETH_HDR_BYTES + IP6_HDR_BYTES, payload, len);
    f->len = ETH_HDR_BYTES + IP6_HDR_BYTES + len;
}

void frame_l4(struct frame *f, uint8_t from, const uint8_t *src, const uint8_t *dst, uint8_t next,
              uint8_t hops, void *l4, uint32_t len, uint32_t csum_at)
{
    uint8_t *p = l4;
    uint16_t sum;

    memset(p + csum_at, 0, 2);
    sum = csum_finish(csum_add(csum_pseudo6(src, dst, next, len), csum_partial(p, len)));
    memcpy(p + csum_at, &sum, 2);
    frame_ip6(f, from, src, dst, next, hops, p, len);
}

void frame_icmp6(struct frame *f, uint8_t from, const uint8_t *src, const uint8_t *dst, uint8_t hops,
                 uint8_t type, uint8_t code, uint32_t rest, const void *data, uint32_t len)
{
    static uint8_t m[IP6_PAYLOAD_MAX];

    icmp6_put(m, type, code, rest);
    if (len)
        memcpy(m + ICMP6_HDR_BYTES, data, len);
    frame_l4(f, from, src, dst, IP6_NH_ICMP, hops, m, ICMP6_HDR_BYTES + len, ICMP6_CSUM_OFFSET);
}

void rig6_config(struct engine_config *cfg, uint8_t dad)
{
    host_config(cfg, HOST_LAST);
    cfg->ifs[0].ip6 = true;
    cfg->dad_transmits = dad;
    cfg->addrs[cfg->addr_count++] = (struct engine_addr){.addr = addr6(net6(HOST_LAST)), .prefix = 64};
    cfg->addrs[cfg->addr_count++] = (struct engine_addr){.addr = addr6(link6(HOST_LAST)), .prefix = 64};
    cfg->routes[cfg->route_count++] = (struct engine_route){
        .dst = {.family = SG_AF_INET6}, .gateway = addr6(link6(GATEWAY)), .ifindex = ENGINE_IF_ANY};
}

void rig6_start(struct host *h)
{
    struct engine_config cfg;

    rig6_config(&cfg, 0);
    host_start(h, &cfg, 1000000);
}

static void resolve(struct host *h, uint8_t last, const uint8_t *src, const uint8_t *target)
{
    static struct frame f;
    uint8_t body[16 + ND_OPT_MAC_BYTES] = {[16] = ND_OPT_SOURCE_MAC, [17] = 1};
    struct ip6_pkt ip;
    uint8_t group[16];

    memcpy(body, target, 16);
    memcpy(body + 18, mac_of(last), ETH_ADDR_BYTES);
    ip6_solicited_node(target, group);
    frame_icmp6(&f, last, src, group, IP6_HOPS_LINK, ICMP6_NEIGHBOR_SOLICIT, 0, 0, body, sizeof(body));
    frame_in(h, &f);
    expect_icmp6(h, ICMP6_NEIGHBOR_ADVERT, 0, &ip);
}

void rig6_resolve(struct host *h, uint8_t last)
{
    resolve(h, last, net6(last), net6(HOST_LAST));
    resolve(h, last, link6(last), link6(HOST_LAST));
}

void expect_ip6(struct host *h, struct ip6_pkt *ret, const uint8_t **dst_mac)
{
    struct pktbuf *p = host_tx(h);
    struct eth_frame f;

    cr_assert_not_null(p, "no frame to send");
    cr_assert(eth_parse(p->data, p->len, &f) && f.type == ETH_TYPE_IP6, "a frame of another type");
    cr_assert(eth_eq(f.src, mac_of(HOST_LAST)));
    cr_assert(ip6_parse(f.payload, f.len, ret));
    cr_assert_eq(IP6_HDR_BYTES + ret->len, f.len, "bytes behind the packet");
    if (dst_mac)
        *dst_mac = f.dst;
}

void expect_icmp6(struct host *h, uint8_t type, uint8_t code, struct ip6_pkt *ret)
{
    expect_ip6(h, ret, NULL);
    cr_assert_eq(ret->next, IP6_NH_ICMP);
    cr_assert(ret->payload[0] == type && ret->payload[1] == code, "type %u code %u", ret->payload[0],
              ret->payload[1]);
    cr_assert_eq(csum_finish(csum_add(csum_pseudo6(ret->src, ret->dst, IP6_NH_ICMP, ret->len),
                                      csum_partial(ret->payload, ret->len))),
                 0, "checksum");
}

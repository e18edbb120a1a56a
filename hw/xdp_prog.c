/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program that the kernel runs for each frame that comes in on an interface with an xdp: device. Compiled
 * for the kernel's virtual machine (bpf-gcc), part of the daemon as bytes, loaded by xdp_steer.c.
 *
 * A unicast IP packet to an address in "owned" goes to the XDP socket of its queue, whatever it carries: so
 * fragments and IPv6 extension headers need no look. All else is the kernel's, ARP and what is for groups
 * included; of those the daemon has its copy by a packet socket.
 *
 * When there is no socket the daemon is being restarted, or has been killed. Its packets are then dropped,
 * because the kernel would answer that nobody is here; but not for ever, because a daemon that doesn't come
 * back leaves us behind: the time limit runs from the first packet that nobody took.
 */
#include <linux/bpf.h>

#include "hw/xdp_prog.h"

#define SECTION(name)     __attribute__((section(name), used))
#define UINT(name, value) int(*name)[value]

#define ETH_BYTES         14u
#define TAG_BYTES         4u
#define IP4_BYTES         20u
#define IP6_BYTES         40u
#define ETHERTYPE_IP4     0x0800u
#define ETHERTYPE_IP6     0x86ddu
#define ETHERTYPE_VLAN    0x8100u
#define VLAN_ID_MASK      0x0fffu

void *map_lookup(void *map, const void *key) __attribute__((kernel_helper(BPF_FUNC_map_lookup_elem)));
__u64 ktime_ns(void) __attribute__((kernel_helper(BPF_FUNC_ktime_get_ns)));
long redirect_map(void *map, __u64 key, __u64 otherwise)
    __attribute__((kernel_helper(BPF_FUNC_redirect_map)));

struct {
    UINT(type, BPF_MAP_TYPE_XSKMAP);
    UINT(key_size, sizeof(__u32));
    UINT(value_size, sizeof(__u32));
    UINT(max_entries, XDP_QUEUES_MAX);
} xsks SECTION(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_HASH);
    UINT(key_size, sizeof(struct xdp_owned_key));
    UINT(value_size, sizeof(__u32));
    UINT(max_entries, XDP_OWNED_MAX);
} owned SECTION(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(key_size, sizeof(__u32));
    UINT(value_size, sizeof(struct xdp_state));
    UINT(max_entries, 1);
} state SECTION(".maps");

static inline __attribute__((always_inline)) __u32 be16(const __u8 *p)
{
    return (__u32)p[0] << 8 | p[1];
}

/* Byte by byte: a frame is not aligned, and this machine's compiler knows no wider loads from there. */
static inline __attribute__((always_inline)) __u32 word(const __u8 *p)
{
    __u32 w;

    __builtin_memcpy(&w, p, sizeof(w));
    return w;
}

static inline __attribute__((always_inline)) int to_nobody(struct xdp_state *s)
{
    __u64 now = ktime_ns();

    if (!s->absent_since_ns)
        s->absent_since_ns = now;
    if (now - s->absent_since_ns > s->hold_ns)
        return XDP_PASS;
    s->dropped++;
    return XDP_DROP;
}

SECTION("xdp") int sockgate_steer(struct xdp_md *ctx)
{
    const __u8 *eth = (const __u8 *)(long)ctx->data, *end = (const __u8 *)(long)ctx->data_end, *ip;
    struct xdp_owned_key key = {.vlan = 0};
    struct xdp_state *s;
    __u32 zero = 0, type;

    s = map_lookup(&state, &zero);
    if (!s || eth + ETH_BYTES + TAG_BYTES > end)
        return XDP_PASS;
    if (word(eth) != word(s->mac) || be16(eth + 4) != be16(s->mac + 4))
        return XDP_PASS;
    type = be16(eth + 12);
    ip = eth + ETH_BYTES;
    if (type == ETHERTYPE_VLAN) {
        key.vlan = (__u16)(be16(ip) & VLAN_ID_MASK);
        type = be16(ip + 2);
        ip += TAG_BYTES;
    }
    if (type == ETHERTYPE_IP4) {
        if (ip + IP4_BYTES > end)
            return XDP_PASS;
        key.ip_version = 4;
        key.ip[0] = word(ip + 16);
    } else if (type == ETHERTYPE_IP6) {
        if (ip + IP6_BYTES > end)
            return XDP_PASS;
        key.ip_version = 6;
        key.ip[0] = word(ip + 24);
        key.ip[1] = word(ip + 28);
        key.ip[2] = word(ip + 32);
        key.ip[3] = word(ip + 36);
    } else {
        return XDP_PASS;
    }
    if (!map_lookup(&owned, &key))
        return XDP_PASS;
    /* XDP_REDIRECT, or what it is to be when there is no socket. */
    if (redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP) == XDP_REDIRECT)
        return XDP_REDIRECT;
    return to_nobody(s);
}

const char program_license[] SECTION("license") = "Apache-2.0"; /* The helpers used are for all. */

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/spread.h"

#include <stdbool.h>
#include <string.h>

#define IPPROTO_TCP_NUM 6u
#define IPPROTO_UDP_NUM 17u
#define RSS_INPUT_MAX   36u /* two IPv6 addresses and two ports */

/* Odd, with about as many ones as zeros. */
#define FLOW_ADDR_MUL   0x9e3779b1u
#define FLOW_PORT_MUL   0x85ebca77u
#define FLOW_MIX_MUL    0xc2b2ae3du

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint32_t spread_toeplitz(const uint8_t key[SPREAD_RSS_KEY_BYTES], const uint8_t *input, unsigned bytes)
{
    uint32_t window = word_at(key);
    uint32_t hash = 0;

    for (unsigned i = 0; i < bytes; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            if (input[i] >> (7 - bit) & 1)
                hash ^= window;
            window = window << 1 | (key[i + 4] >> (7 - bit) & 1);
        }
    }
    return hash;
}

uint32_t spread_flow_hash(uint32_t seed, const struct spread_flow *f)
{
    uint32_t addr = word_at(f->src);
    uint32_t ports = (uint32_t)f->src_port << 16 | f->dst_port;

    if (f->ip_version == 6)
        addr ^= word_at(f->src + 4) ^ word_at(f->src + 8) ^ word_at(f->src + 12);
    addr = (addr ^ seed) * FLOW_ADDR_MUL;
    addr ^= addr >> 15;
    ports = (ports ^ addr) * FLOW_PORT_MUL;
    ports ^= ports >> 13;
    return (ports * FLOW_MIX_MUL) >> 16;
}

static bool has_ports(const struct spread_flow *f)
{
    return f->src_port || f->dst_port;
}

static bool rss_ports(const struct spread *s, const struct spread_flow *f)
{
    bool six = f->ip_version == 6;

    if (!has_ports(f))
        return false;
    if (f->proto == IPPROTO_TCP_NUM)
        return s->rss_types & (six ? SPREAD_RSS_TCP6 : SPREAD_RSS_TCP4);
    if (f->proto == IPPROTO_UDP_NUM)
        return s->rss_types & (six ? SPREAD_RSS_UDP6 : SPREAD_RSS_UDP4);
    return false;
}

static int rss_queue(const struct spread *s, const struct spread_flow *f)
{
    uint8_t input[RSS_INPUT_MAX];
    unsigned addr_bytes = f->ip_version == 6 ? 16 : 4;
    unsigned n = 2 * addr_bytes;

    if (!s->rss_entries || s->rss_entries > SPREAD_RSS_ENTRIES_MAX)
        return -1;
    memcpy(input, f->src, addr_bytes);
    memcpy(input + addr_bytes, f->dst, addr_bytes);
    if (rss_ports(s, f)) {
        input[n++] = (uint8_t)(f->src_port >> 8);
        input[n++] = (uint8_t)f->src_port;
        input[n++] = (uint8_t)(f->dst_port >> 8);
        input[n++] = (uint8_t)f->dst_port;
    }
    return s->rss_table[spread_toeplitz(s->rss_key, input, n) & (s->rss_entries - 1u)];
}

int spread_queue(const struct spread *s, const struct spread_flow *f)
{
    if (s->queues <= 1)
        return 0;
    switch ((enum spread_kind)s->kind) {
    case SPREAD_RSS:
        return rss_queue(s, f);
    case SPREAD_FLOW:
        if (f->proto != IPPROTO_TCP_NUM && f->proto != IPPROTO_UDP_NUM)
            return 0;
        return (int)(spread_flow_hash(s->seed, f) % s->queues);
    case SPREAD_NONE:
        break;
    }
    return -1;
}

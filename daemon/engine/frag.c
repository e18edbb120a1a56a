/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"

/* A TCP or UDP header must lie whole in the first fragment: RFC 1858 3.2.1's tiny fragments are dropped. */
#define TCP_FIRST_BYTES_MIN 16u
#define L4_FIRST_BYTES_MIN  8u

size_t frag_bytes(const struct engine_config *cfg)
{
    return (size_t)cfg->frag_max * (sizeof(struct frag_dgram) + FRAG_BYTES);
}

void frag_init(struct frag_table *t, void *mem, const struct engine_config *cfg)
{
    uint8_t *data;

    *t = (struct frag_table){.dgrams = mem, .count = cfg->frag_max, .next_us = UINT64_MAX};
    data = (uint8_t *)(t->dgrams + t->count);
    for (uint32_t i = 0; i < t->count; i++) {
        t->dgrams[i].used = false;
        t->dgrams[i].data = data + (size_t)i * FRAG_BYTES;
    }
}

uint64_t frag_deadline(const struct engine *e)
{
    return e->frag.next_us;
}

/* ---- Records ----------------------------------------------------------------------------------------------
 */

static struct frag_dgram *find(struct frag_table *t, const struct ip4_pkt *ip)
{
    for (uint32_t i = 0; i < t->count; i++) {
        struct frag_dgram *d = &t->dgrams[i];

        if (d->used && d->id == ip->id && d->src == ip->src && d->dst == ip->dst && d->proto == ip->proto)
            return d;
    }
    return NULL;
}

static void discard(struct engine *e, struct frag_dgram *d)
{
    d->used = false;
    stat_inc(&e->stats, ST_IP_REASM_FAILS);
}

/* A free record; the oldest datagram makes way. All live equally long, so it is the next to expire. */
static struct frag_dgram *create(struct engine *e, const struct ip4_pkt *ip, uint64_t now_us)
{
    struct frag_table *t = &e->frag;
    struct frag_dgram *d = NULL;
    uint8_t *data;

    for (uint32_t i = 0; i < t->count; i++) {
        struct frag_dgram *c = &t->dgrams[i];

        if (!c->used) {
            d = c;
            break;
        }
        if (!d || c->expires_us < d->expires_us)
            d = c;
    }
    if (d->used)
        discard(e, d);
    data = d->data;
    *d = (struct frag_dgram){
        .used = true,
        .proto = ip->proto,
        .id = ip->id,
        .src = ip->src,
        .dst = ip->dst,
        .expires_us = now_us + FRAG_TIMEOUT_US,
        .data = data,
    };
    if (d->expires_us < t->next_us)
        t->next_us = d->expires_us;
    return d;
}

/* The datagram as far as it is there, as a packet. */
static struct rx_pkt packet_of(const struct frag_dgram *d, uint32_t l4_len)
{
    return (struct rx_pkt){
        .l4 = d->data,
        .l4_len = l4_len,
        .src = net_ip_addr(d->src),
        .dst = net_ip_addr(d->dst),
        .proto = d->proto,
        .tos = d->tos,
        .ttl = d->ttl,
        .broadcast = d->broadcast,
        .l3 = d->hdr,
        .l3_hdr_len = d->hdr_len,
    };
}

static bool have_block(const struct frag_dgram *d, uint32_t block)
{
    return d->have[block / 64] >> (block % 64) & 1;
}

/* Bytes at the start that are there without a hole. */
static uint32_t first_run(const struct frag_dgram *d, uint32_t bytes_max)
{
    uint32_t n = 0;

    while (n < bytes_max && have_block(d, n / 8))
        n += 8;
    return n < d->end ? n : d->end;
}

void frag_timers(struct engine *e, uint64_t now_us)
{
    struct frag_table *t = &e->frag;

    if (now_us < t->next_us)
        return;
    t->next_us = UINT64_MAX;
    for (uint32_t i = 0; i < t->count; i++) {
        struct frag_dgram *d = &t->dgrams[i];

        if (!d->used)
            continue;
        if (now_us >= d->expires_us) {
            if (d->hdr_len) { /* RFC 792: only with the first fragment at hand */
                struct rx_pkt rp = packet_of(d, first_run(d, ICMP_ERROR_BYTES_MAX));

                icmp_send_error(e, &rp, ICMP_ERR_REASM_TIMEOUT, now_us);
            }
            discard(e, d);
        } else if (d->expires_us < t->next_us) {
            t->next_us = d->expires_us;
        }
    }
}

/* ---- Fragments --------------------------------------------------------------------------------------------
 */

/* What no honest fragment is like, whatever came before it. */
static bool shape_ok(const struct ip4_pkt *ip)
{
    if (!ip->len || (ip->more && ip->len % 8))
        return false;
    if (ip->hdr_len + ip->frag_off + ip->len > IP4_BYTES_MAX) /* "ping of death" */
        return false;
    if (ip->frag_off == 0)
        return ip->len >= (ip->proto == IP_PROTO_TCP ? TCP_FIRST_BYTES_MIN : L4_FIRST_BYTES_MIN);
    /* RFC 1858 4.2: it could only rewrite the TCP header. */
    return ip->proto != IP_PROTO_TCP || ip->frag_off >= TCP_FIRST_BYTES_MIN;
}

/* Does it agree with what is known of the datagram's length? */
static bool length_ok(const struct frag_dgram *d, const struct ip4_pkt *ip)
{
    uint32_t end = ip->frag_off + ip->len;

    if (d->total && (end > d->total || (!ip->more && end != d->total)))
        return false;
    return ip->more || end >= d->end;
}

enum placing { PLACE_NEW, PLACE_DUPLICATE, PLACE_OVERLAP };

static enum placing place(const struct frag_dgram *d, const struct ip4_pkt *ip)
{
    uint32_t first = ip->frag_off / 8, last = (ip->frag_off + ip->len - 1) / 8, seen = 0;

    for (uint32_t b = first; b <= last; b++)
        seen += have_block(d, b);
    if (!seen)
        return PLACE_NEW;
    if (seen == last - first + 1 && ip->frag_off + ip->len <= d->end &&
        memcmp(d->data + ip->frag_off, ip->payload, ip->len) == 0)
        return PLACE_DUPLICATE;
    return PLACE_OVERLAP;
}

static void store(struct frag_dgram *d, const struct ip4_pkt *ip, bool broadcast)
{
    uint32_t end = ip->frag_off + ip->len;

    memcpy(d->data + ip->frag_off, ip->payload, ip->len);
    for (uint32_t b = ip->frag_off / 8; b <= (end - 1) / 8; b++)
        d->have[b / 64] |= UINT64_C(1) << (b % 64);
    d->received += ip->len;
    if (end > d->end)
        d->end = end;
    if (!ip->more)
        d->total = end;
    d->ecn_seen |= (uint8_t)(1u << (ip->tos & IP_ECN_MASK));
    d->broadcast |= broadcast;
    if (ip->frag_off == 0) {
        d->hdr_len = ip->hdr_len;
        memcpy(d->hdr, ip->hdr, ip->hdr_len);
        d->tos = ip->tos;
        d->ttl = ip->ttl;
    }
}

/* RFC 3168 5.3: congestion marked on one fragment counts for all; false: one was not ECN-capable. */
static bool merge_ecn(struct frag_dgram *d)
{
    const uint8_t not_capable = 1u << 0, ce = 1u << IP_ECN_CE;

    if (!(d->ecn_seen & ce))
        return true;
    d->tos |= IP_ECN_CE;
    return !(d->ecn_seen & not_capable);
}

void frag_input(struct engine *e, const struct ip4_pkt *ip, bool broadcast, uint64_t now_us)
{
    struct frag_dgram *d = find(&e->frag, ip);
    struct rx_pkt rp;

    stat_inc(&e->stats, ST_IP_REASM_REQDS);
    if (d && now_us >= d->expires_us) { /* Its timer is due: not to be mixed with what comes now. */
        frag_timers(e, now_us);
        d = NULL;
    }
    if (!shape_ok(ip)) {
        if (d)
            discard(e, d);
        else
            stat_inc(&e->stats, ST_IP_REASM_FAILS);
        return;
    }
    if (!d)
        d = create(e, ip, now_us);
    if (!length_ok(d, ip)) {
        discard(e, d);
        return;
    }
    switch (place(d, ip)) {
    case PLACE_OVERLAP:
        discard(e, d);
        return;
    case PLACE_DUPLICATE:
        return;
    case PLACE_NEW:
        store(d, ip, broadcast);
        break;
    }
    if (!d->total || d->received != d->total)
        return;
    if (!merge_ecn(d)) {
        discard(e, d);
        return;
    }
    stat_inc(&e->stats, ST_IP_REASM_OKS);
    rp = packet_of(d, d->total);
    net_deliver(e, &rp, now_us);
    d->used = false;
}

const char *frag_check(const struct engine *e)
{
    for (uint32_t i = 0; i < e->frag.count; i++) {
        const struct frag_dgram *d = &e->frag.dgrams[i];
        uint32_t blocks = 0;

        if (!d->used)
            continue;
        for (uint32_t w = 0; w < ARRAY_LEN(d->have); w++)
            blocks += (uint32_t)__builtin_popcountll(d->have[w]);
        if (blocks != (d->received + 7) / 8)
            return "reassembly bitmap and byte count differ";
        if (d->end > FRAG_BYTES || (d->total && d->end != d->total))
            return "reassembled datagram is longer than its end";
        if (d->total && d->received == d->total)
            return "whole datagram was not handed on";
        if (d->expires_us < e->frag.next_us)
            return "reassembly timer is missed";
    }
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/icmp6.h"

/* A TCP or UDP header must lie whole in the first fragment: RFC 1858 3.2.1's tiny fragments are dropped. */
#define TCP_FIRST_BYTES_MIN 16u
#define L4_FIRST_BYTES_MIN  8u

/* What both versions know of a fragment. */
struct fragment {
    const struct rx_pkt *rp; /* addresses, traffic class, how it came */
    uint8_t proto;
    bool more;
    uint32_t id, off, len;
    uint32_t hdr_len; /* of what comes before the payload of the whole datagram */
    const uint8_t *payload;
};

static bool is6(const struct ip_addr *a)
{
    return a->family == SG_AF_INET6;
}

size_t frag_bytes(const struct engine_config *cfg)
{
    return (size_t)cfg->frag_max * (sizeof(struct frag_dgram) + FRAG_HEADROOM + FRAG_BYTES);
}

void frag_init(struct frag_table *t, void *mem, const struct engine_config *cfg)
{
    uint8_t *data;

    *t = (struct frag_table){.dgrams = mem, .count = cfg->frag_max, .next_us = UINT64_MAX};
    data = (uint8_t *)(t->dgrams + t->count);
    for (uint32_t i = 0; i < t->count; i++) {
        t->dgrams[i].used = false;
        t->dgrams[i].data = data + (size_t)i * (FRAG_HEADROOM + FRAG_BYTES) + FRAG_HEADROOM;
    }
}

uint64_t frag_deadline(const struct engine *e)
{
    return e->frag.next_us;
}

/* ---- Records ----------------------------------------------------------------------------------------------
 */

/* RFC 8200 4.5: IPv6's next header is no part of the name, and the first fragment's counts. */
static struct frag_dgram *find(struct frag_table *t, const struct fragment *f)
{
    for (uint32_t i = 0; i < t->count; i++) {
        struct frag_dgram *d = &t->dgrams[i];

        if (d->used && d->id == f->id && ip_addr_eq(&d->src, &f->rp->src) &&
            ip_addr_eq(&d->dst, &f->rp->dst) && (is6(&d->src) || d->proto == f->proto))
            return d;
    }
    return NULL;
}

static void discard(struct engine *e, struct frag_dgram *d)
{
    d->used = false;
    stat_inc(&e->stats, is6(&d->src) ? ST_IP6_REASM_FAILS : ST_IP_REASM_FAILS);
}

/* A free record; the datagram that is the next to expire makes way. */
static struct frag_dgram *create(struct engine *e, const struct fragment *f, uint64_t now_us)
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
        .proto = f->proto,
        .id = f->id,
        .src = f->rp->src,
        .dst = f->rp->dst,
        .ifindex = f->rp->ifindex,
        .expires_us = now_us + (is6(&f->rp->src) ? FRAG6_TIMEOUT_US : FRAG_TIMEOUT_US),
        .data = data,
    };
    if (d->expires_us < t->next_us)
        t->next_us = d->expires_us;
    return d;
}

/* Write IPv6's headers before the data; `more`: as the first fragment had them, for an ICMP error. */
static uint32_t put_header6(const struct frag_dgram *d, uint32_t l4_len, bool more)
{
    uint32_t hdr = IP6_HDR_BYTES + (more ? IP6_FRAG_HDR_BYTES : 0);
    uint8_t *p = d->data - hdr;

    ip6_put(p, d->src.ip, d->dst.ip, more ? IP6_NH_FRAGMENT : d->proto, d->tos, d->ttl, 0,
            l4_len + hdr - IP6_HDR_BYTES);
    if (more) {
        p[IP6_HDR_BYTES] = d->proto;
        p[IP6_HDR_BYTES + 1] = 0;
        put_be16(p + IP6_HDR_BYTES + 2, IP6_FRAG_MORE);
        put_be32(p + IP6_HDR_BYTES + 4, d->id);
    }
    return hdr;
}

/* The datagram as far as it is there, as a packet. */
static struct rx_pkt packet_of(const struct frag_dgram *d, uint32_t l4_len, bool whole)
{
    uint32_t hdr6 = is6(&d->src) ? put_header6(d, l4_len, !whole) : 0;

    return (struct rx_pkt){
        .l4 = d->data,
        .l4_len = l4_len,
        .src = d->src,
        .dst = d->dst,
        .proto = d->proto,
        .tos = d->tos,
        .ttl = d->ttl,
        .ifindex = d->ifindex,
        .broadcast = d->broadcast,
        .next_off = IP6_NEXT_OFF,
        .l3 = hdr6 ? d->data - hdr6 : d->hdr,
        .l3_hdr_len = hdr6 ? hdr6 : d->hdr_len,
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
            if (d->hdr_len) { /* RFC 792, RFC 8200 4.5: only with the first fragment at hand */
                struct rx_pkt rp = packet_of(d, first_run(d, IP6_MTU_MIN), false);

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
static bool shape_ok(const struct fragment *f)
{
    if (!f->len || (f->more && f->len % 8))
        return false;
    if ((is6(&f->rp->src) ? 0 : f->hdr_len) + f->off + f->len > IP4_BYTES_MAX) /* "ping of death" */
        return false;
    if (f->off == 0 && is6(&f->rp->src))
        return ip6_chain_whole(f->payload, f->len, f->proto);
    if (f->off == 0)
        return f->len >= (f->proto == IP_PROTO_TCP ? TCP_FIRST_BYTES_MIN : L4_FIRST_BYTES_MIN);
    /* RFC 1858 4.2: it could only rewrite the TCP header. */
    return f->proto != IP_PROTO_TCP || f->off >= TCP_FIRST_BYTES_MIN;
}

/* RFC 8200 4.5, RFC 7112 5: what the sender of an IPv6 fragment of no good shape is told. */
static void complain(struct engine *e, const struct fragment *f, uint64_t now_us)
{
    const uint32_t length_at = 4;

    if (!is6(&f->rp->src))
        return;
    if (f->more && f->len % 8)
        icmp6_param_problem(e, f->rp, ICMP6_PARAM_FIELD, length_at, now_us);
    else if (f->off + f->len > IP6_PAYLOAD_MAX)
        icmp6_param_problem(e, f->rp, ICMP6_PARAM_FIELD, f->rp->l3_hdr_len + 2, now_us);
    else if (f->off == 0 && f->len)
        icmp6_param_problem(e, f->rp, ICMP6_PARAM_FIRST_FRAG, 0, now_us);
}

/* Does it agree with what is known of the datagram's length? */
static bool length_ok(const struct frag_dgram *d, const struct fragment *f)
{
    uint32_t end = f->off + f->len;

    if (d->total && (end > d->total || (!f->more && end != d->total)))
        return false;
    return f->more || end >= d->end;
}

enum placing { PLACE_NEW, PLACE_DUPLICATE, PLACE_OVERLAP };

static enum placing place(const struct frag_dgram *d, const struct fragment *f)
{
    uint32_t first = f->off / 8, last = (f->off + f->len - 1) / 8, seen = 0;

    for (uint32_t b = first; b <= last; b++)
        seen += have_block(d, b);
    if (!seen)
        return PLACE_NEW;
    if (seen == last - first + 1 && f->off + f->len <= d->end &&
        memcmp(d->data + f->off, f->payload, f->len) == 0)
        return PLACE_DUPLICATE;
    return PLACE_OVERLAP;
}

static void store(struct frag_dgram *d, const struct fragment *f)
{
    uint32_t end = f->off + f->len;

    memcpy(d->data + f->off, f->payload, f->len);
    for (uint32_t b = f->off / 8; b <= (end - 1) / 8; b++)
        d->have[b / 64] |= UINT64_C(1) << (b % 64);
    d->received += f->len;
    if (end > d->end)
        d->end = end;
    if (!f->more)
        d->total = end;
    d->ecn_seen |= (uint8_t)(1u << (f->rp->tos & IP_ECN_MASK));
    d->broadcast |= f->rp->broadcast;
    if (f->off == 0) {
        d->proto = f->proto;
        d->hdr_len = (uint16_t)f->hdr_len;
        if (!is6(&d->src))
            memcpy(d->hdr, f->rp->l3, f->hdr_len);
        d->tos = f->rp->tos;
        d->ttl = f->rp->ttl;
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

/* Complete: hand it on. */
static void finish(struct engine *e, struct frag_dgram *d, uint64_t now_us)
{
    uint8_t arrived = e->arrived;
    struct rx_pkt rp;

    if (!merge_ecn(d)) {
        discard(e, d);
        return;
    }
    stat_inc(&e->stats, is6(&d->src) ? ST_IP6_REASM_OKS : ST_IP_REASM_OKS);
    rp = packet_of(d, d->total, true);
    e->arrived = ARRIVED_REJOINED;
    if (is6(&d->src))
        ip6_next(e, &rp, true, now_us);
    else
        net_deliver(e, &rp, now_us);
    e->arrived = arrived;
    d->used = false;
}

static void input(struct engine *e, const struct fragment *f, uint64_t now_us)
{
    struct frag_dgram *d = find(&e->frag, f);

    stat_inc(&e->stats, is6(&f->rp->src) ? ST_IP6_REASM_REQDS : ST_IP_REASM_REQDS);
    if (d && now_us >= d->expires_us) { /* Its timer is due: not to be mixed with what comes now. */
        frag_timers(e, now_us);
        d = NULL;
    }
    if (!shape_ok(f)) {
        if (d)
            discard(e, d);
        else
            stat_inc(&e->stats, is6(&f->rp->src) ? ST_IP6_REASM_FAILS : ST_IP_REASM_FAILS);
        complain(e, f, now_us);
        return;
    }
    if (!d)
        d = create(e, f, now_us);
    if (!length_ok(d, f)) {
        discard(e, d);
        return;
    }
    switch (place(d, f)) {
    case PLACE_OVERLAP: /* RFC 5722 4 */
        discard(e, d);
        return;
    case PLACE_DUPLICATE:
        return;
    case PLACE_NEW:
        store(d, f);
        break;
    }
    if (d->total && d->received == d->total)
        finish(e, d, now_us);
}

void frag4_input(struct engine *e, const struct ip4_pkt *ip, const struct rx_pkt *rp, uint64_t now_us)
{
    struct fragment f = {
        .rp = rp,
        .proto = ip->proto,
        .more = ip->more,
        .id = ip->id,
        .off = ip->frag_off,
        .len = ip->len,
        .hdr_len = ip->hdr_len,
        .payload = ip->payload,
    };

    input(e, &f, now_us);
}

void frag6_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    uint16_t word = get_be16(rp->l4 + 2);
    struct fragment f = {
        .rp = rp,
        .proto = rp->l4[0],
        .more = word & IP6_FRAG_MORE,
        .id = get_be32(rp->l4 + 4),
        .off = word & IP6_FRAG_OFF_MASK,
        .len = rp->l4_len - IP6_FRAG_HDR_BYTES,
        .hdr_len = 1, /* for hdr_len != 0: the first fragment has come; its headers are made anew */
        .payload = rp->l4 + IP6_FRAG_HDR_BYTES,
    };

    input(e, &f, now_us);
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

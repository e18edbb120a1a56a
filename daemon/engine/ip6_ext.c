/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv6 extension headers (RFC 8200 4). Each is skipped or refused; the work for one packet is bounded by
 * IP6_EXT_MAX headers and IP6_OPTS_MAX options, whatever it holds.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/icmp6.h"

#define IP6_EXT_MAX  8u
#define IP6_OPTS_MAX 32u

enum verdict { GO_ON, DROP };

static enum verdict bad(struct engine *e)
{
    stat_inc(&e->stats, ST_IP6_IN_HDR_ERRORS);
    return DROP;
}

/* Drop, and say which byte was wrong: `at` lies in the header that rp->l4 points to. */
static enum verdict problem(struct engine *e, const struct rx_pkt *rp, uint8_t code, const uint8_t *at,
                            uint64_t now_us)
{
    icmp6_param_problem(e, rp, code, rp->l3_hdr_len + (uint32_t)(at - rp->l4), now_us);
    return bad(e);
}

/* RFC 8200 4.2: what to do with an option that we don't know is in its two highest bits. */
static enum verdict unknown_option(struct engine *e, const struct rx_pkt *rp, const uint8_t *opt,
                                   uint64_t now_us)
{
    switch (*opt >> 6) {
    case 0: /* skip */
        return GO_ON;
    case 1: /* discard */
        return bad(e);
    case 2: /* discard and say so, even to a multicast's sender */
        return problem(e, rp, ICMP6_PARAM_OPTION, opt, now_us);
    default: /* discard, and say so unless it was a multicast */
        return rp->broadcast ? bad(e) : problem(e, rp, ICMP6_PARAM_OPTION, opt, now_us);
    }
}

static enum verdict options(struct engine *e, struct rx_pkt *rp, uint32_t bytes, uint64_t now_us)
{
    const uint8_t *p = rp->l4 + 2, *end = rp->l4 + bytes;

    for (unsigned n = 0; p < end; n++) {
        if (n == IP6_OPTS_MAX)
            return bad(e);
        if (*p == IP6_OPT_PAD1) {
            p++;
            continue;
        }
        if (end - p < 2 || p[1] > end - p - 2)
            return bad(e);
        if (*p != IP6_OPT_PADN && *p != IP6_OPT_ALERT && unknown_option(e, rp, p, now_us) == DROP)
            return DROP;
        if (*p == IP6_OPT_ALERT && p[1] == 2 && rp->proto == IP6_NH_HOPS)
            rp->router_alert = get_be16(p + 2) == IP6_ALERT_MLD;
        p += 2 + p[1];
    }
    return GO_ON;
}

/* RFC 8200 4.4, RFC 5095: no routing type is known here, and type 0 must not be. */
static enum verdict routing(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    bool segments_left = rp->l4[3] != 0;

    return segments_left ? problem(e, rp, ICMP6_PARAM_FIELD, rp->l4 + 2, now_us) : GO_ON;
}

/* The header at rp->l4 is behind us: what follows it is next. */
static void step(struct rx_pkt *rp, uint32_t bytes)
{
    rp->proto = rp->l4[0];
    rp->next_off = (uint16_t)rp->l3_hdr_len;
    rp->l3_hdr_len += bytes;
    rp->l4 += bytes;
    rp->l4_len -= bytes;
}

static enum verdict fragment(struct engine *e, struct rx_pkt *rp, bool from_fragment, uint64_t now_us)
{
    uint16_t word;

    if (rp->l4_len < IP6_FRAG_HDR_BYTES || from_fragment)
        return bad(e); /* Fragments of fragments: nobody sends them, and they could nest for ever. */
    word = get_be16(rp->l4 + 2);
    if (!(word & (IP6_FRAG_OFF_MASK | IP6_FRAG_MORE))) { /* RFC 6946: whole, whatever else there is */
        step(rp, IP6_FRAG_HDR_BYTES);
        return GO_ON;
    }
    frag6_input(e, rp, now_us);
    return DROP;
}

/* One extension header; GO_ON: rp is at what follows. */
static enum verdict extension(struct engine *e, struct rx_pkt *rp, bool first, bool from_fragment,
                              uint64_t now_us)
{
    enum verdict v = GO_ON;
    uint32_t bytes;

    if (rp->proto == IP6_NH_FRAGMENT)
        return fragment(e, rp, from_fragment, now_us);
    if (rp->l4_len < 8)
        return bad(e);
    bytes = ((uint32_t)rp->l4[1] + 1) * 8;
    if (bytes > rp->l4_len)
        return bad(e);
    if (rp->proto == IP6_NH_HOPS && !first) { /* RFC 8200 4.1: right behind the fixed header only */
        icmp6_param_problem(e, rp, ICMP6_PARAM_NEXT_HEADER, rp->next_off, now_us);
        return bad(e);
    }
    if (rp->proto == IP6_NH_ROUTING)
        v = routing(e, rp, now_us);
    else
        v = options(e, rp, bytes, now_us);
    if (v == GO_ON)
        step(rp, bytes);
    return v;
}

static bool is_extension(uint8_t proto)
{
    return proto == IP6_NH_HOPS || proto == IP6_NH_DEST || proto == IP6_NH_ROUTING ||
           proto == IP6_NH_FRAGMENT;
}

void ip6_next(struct engine *e, struct rx_pkt *rp, bool from_fragment, uint64_t now_us)
{
    for (unsigned n = 0; is_extension(rp->proto); n++) {
        if (n == IP6_EXT_MAX) {
            (void)bad(e);
            return;
        }
        if (extension(e, rp, n == 0 && !from_fragment, from_fragment, now_us) == DROP)
            return;
    }
    if (rp->proto == IP6_NH_NONE) /* RFC 8200 4.7: nothing follows, and that is no error. */
        return;
    net_deliver(e, rp, now_us);
}

/* RFC 7112 5: the first fragment holds every header up to the transport's. */
bool ip6_chain_whole(const uint8_t *p, uint32_t bytes, uint8_t proto)
{
    for (unsigned n = 0; n < IP6_EXT_MAX; n++) {
        uint32_t need = 8;

        if (!is_extension(proto)) {
            if (proto == IP_PROTO_TCP)
                need = 20;
            return proto == IP6_NH_NONE || bytes >= need;
        }
        if (bytes < 8)
            return false;
        need = proto == IP6_NH_FRAGMENT ? IP6_FRAG_HDR_BYTES : ((uint32_t)p[1] + 1) * 8;
        if (need > bytes)
            return false;
        proto = p[0];
        p += need;
        bytes -= need;
    }
    return false;
}

const uint8_t *ip6_quoted_l4(const uint8_t *ip, uint32_t bytes, uint8_t *proto)
{
    const uint8_t *p = ip + IP6_HDR_BYTES;
    uint32_t left = bytes - IP6_HDR_BYTES;

    *proto = ip[IP6_NEXT_OFF];
    for (unsigned n = 0; is_extension(*proto); n++) {
        uint32_t len;

        if (n == IP6_EXT_MAX || left < 8)
            return NULL;
        len = *proto == IP6_NH_FRAGMENT ? IP6_FRAG_HDR_BYTES : ((uint32_t)p[1] + 1) * 8;
        if (*proto == IP6_NH_FRAGMENT && get_be16(p + 2) & IP6_FRAG_OFF_MASK)
            return NULL; /* Ports are in the first fragment only. */
        if (len > left)
            return NULL;
        *proto = p[0];
        p += len;
        left -= len;
    }
    return left >= 8 ? p : NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/icmp4.h"

#include <errno.h>

#define ERROR_COST UINT64_C(1000000) /* of icmp_state.credit */

/* RFC 1812 4.3.2.5: errors travel with precedence 6, internetwork control. */
#define TOS_ERROR  0xc0u

size_t icmp_bytes(const struct engine_config *cfg)
{
    (void)cfg;
    return 0;
}

void icmp_init(struct icmp_state *s, void *mem, const struct engine_config *cfg)
{
    (void)mem;
    (void)cfg;
    *s = (struct icmp_state){.credit = ICMP_BURST * ERROR_COST};
}

/* ---- Errors in ------------------------------------------------------------------------------------------
 */

/* What a socket sees for each code of "unreachable": Linux's choice. */
static const int unreach_errno[] = {
    [0] = ENETUNREACH,
    [1] = EHOSTUNREACH,
    [ICMP4_UNREACH_PROTO] = ENOPROTOOPT,
    [ICMP4_UNREACH_PORT] = ECONNREFUSED,
    [ICMP4_UNREACH_FRAG_NEEDED] = EMSGSIZE,
    [5] = EOPNOTSUPP,    /* source route failed */
    [6] = ENETUNREACH,   /* network unknown */
    [7] = EHOSTDOWN,     /* host unknown */
    [8] = ENONET,        /* source host isolated */
    [9] = ENETUNREACH,   /* network prohibited */
    [10] = EHOSTUNREACH, /* host prohibited */
    [11] = ENETUNREACH,  /* network, for this type of service */
    [12] = EHOSTUNREACH, /* host, for this type of service */
    [13] = EHOSTUNREACH, /* communication prohibited (RFC 1812 5.2.7.1) */
    [14] = EHOSTUNREACH, /* precedence violation */
    [15] = EHOSTUNREACH, /* precedence cutoff */
};
static_assert(ARRAY_LEN(unreach_errno) == ICMP4_UNREACH_CODES, "an errno for every code");

void icmp_report_packet(struct engine *e, const uint8_t *ip, uint32_t bytes, int error, bool hard,
                        uint16_t mtu, uint64_t now_us)
{
    struct icmp_report r = {.error = error, .hard = hard, .mtu = mtu};
    uint32_t hdr;
    const uint8_t *l4;
    uint8_t proto;

    /* Not ip4_parse(): a quote is cut short, so its total length says nothing. */
    if (bytes < IP4_HDR_BYTES || ip[0] >> 4 != 4)
        goto unmatched;
    hdr = (uint32_t)(ip[0] & 15) * 4;
    if (hdr < IP4_HDR_BYTES || bytes < hdr + 8)
        goto unmatched;
    if (get_be16(ip + 6) & IP4_OFF_MASK) /* Ports are in the first fragment only. */
        goto unmatched;
    proto = ip[9];
    r.quoted = get_be16(ip + 2);
    r.local = net_ip_addr(get_be32(ip + 12));
    r.remote = net_ip_addr(get_be32(ip + 16));
    if (!net_is_own(e, &r.local))
        goto unmatched;
    l4 = ip + hdr;
    r.lport = get_be16(l4);
    r.rport = get_be16(l4 + 2);
    if (proto == IP_PROTO_TCP) {
        r.seq = get_be32(l4 + 4);
        tcp_icmp(e, &r, now_us);
        return;
    }
    if (proto == IP_PROTO_UDP) {
        udp_icmp(e, &r, now_us);
        return;
    }
unmatched:
    stat_inc(&e->stats, ST_ICMP_ERR_UNMATCHED);
}

static void error_input(struct engine *e, const struct icmp4_msg *m, uint64_t now_us)
{
    uint16_t mtu = 0;
    bool hard = false;
    int error;

    switch (m->type) {
    case ICMP4_UNREACH:
        if (m->code >= ICMP4_UNREACH_CODES) {
            stat_inc(&e->stats, ST_ICMP_IN_ERRORS);
            return;
        }
        error = unreach_errno[m->code];
        hard = m->code == ICMP4_UNREACH_PROTO || m->code == ICMP4_UNREACH_PORT;
        if (m->code == ICMP4_UNREACH_FRAG_NEEDED)
            mtu = (uint16_t)m->rest; /* RFC 1191 4 */
        break;
    case ICMP4_TIME_EXCEEDED:
        error = EHOSTUNREACH;
        break;
    case ICMP4_PARAM:
        error = EPROTO;
        break;
    default: /* Source quench (RFC 6633), redirects and what else there may be: not for us. */
        return;
    }
    icmp_report_packet(e, m->data, m->len, error, hard, mtu, now_us);
}

/* ---- Echo ------------------------------------------------------------------------------------------------
 */

static void echo_input(struct engine *e, const struct rx_pkt *rp, const struct icmp4_msg *m, uint64_t now_us)
{
    struct pktbuf *p;

    stat_inc(&e->stats, ST_ICMP_IN_ECHOS);
    if (rp->broadcast) /* RFC 1122 3.2.2.6 allows it, and it keeps us out of smurf attacks. */
        return;
    p = pktq_get(&e->txq);
    if (!p) {
        stat_inc(&e->stats, ST_DROP_TX_FULL);
        return;
    }
    icmp4_put(p->data, ICMP4_ECHO_REPLY, 0, m->rest);
    p->len = ICMP4_HDR_BYTES;
    if (ICMP4_HDR_BYTES + m->len <= PKT_LINEAR_MAX - PKT_HEADROOM) {
        memcpy(p->data + p->len, m->data, m->len);
        p->len += m->len;
    } else { /* net_output() copies it from there into fragments. */
        p->frag[0] = (struct pkt_frag){m->data, m->len};
        p->frag_count = 1;
    }
    net_pkt_checksum(p, 0, IP_PROTO_ICMP, 2);
    if (net_output(e, p, &rp->dst, &rp->src, IP_PROTO_ICMP, rp->tos, e->cfg.ttl, 0, now_us) == 0)
        stat_inc(&e->stats, ST_ICMP_OUT_ECHO_REPS);
}

void icmp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    struct icmp4_msg m;

    stat_inc(&e->stats, ST_ICMP_IN_MSGS);
    if (!icmp4_parse(rp->l4, rp->l4_len, &m) || csum_finish(csum_partial(rp->l4, rp->l4_len))) {
        stat_inc(&e->stats, ST_ICMP_IN_ERRORS);
        return;
    }
    if (m.type == ICMP4_ECHO)
        echo_input(e, rp, &m, now_us);
    else if (icmp4_is_error(m.type) && !rp->broadcast)
        error_input(e, &m, now_us);
}

/* ---- Errors out -------------------------------------------------------------------------------------------
 */

/* RFC 1812 4.3.2.8's token bucket. */
bool icmp_rate_ok(struct engine *e, uint64_t now_us)
{
    struct icmp_state *s = &e->icmp;
    uint64_t passed_us = now_us - s->filled_us;

    /* Long enough to fill the bucket at the lowest rate, one a second; more could only overflow. */
    if (passed_us > ICMP_BURST * ERROR_COST)
        passed_us = ICMP_BURST * ERROR_COST;
    s->credit += passed_us * e->cfg.icmp_rate;
    if (s->credit > ICMP_BURST * ERROR_COST)
        s->credit = ICMP_BURST * ERROR_COST;
    s->filled_us = now_us;
    if (!e->cfg.icmp_rate || s->credit < ERROR_COST) {
        stat_inc(&e->stats, ST_ICMP_RATE_LIMITED);
        return false;
    }
    s->credit -= ERROR_COST;
    return true;
}

/* RFC 1122 3.2.2: what must never be answered with an error. */
static bool may_answer(const struct engine *e, const struct rx_pkt *rp)
{
    if (rp->broadcast || !net_is_unicast(e, &rp->src))
        return false;
    return rp->proto != IP_PROTO_ICMP || (rp->l4_len && !icmp4_is_error(rp->l4[0]));
}

static void type_and_code(enum icmp_err err, uint8_t *type, uint8_t *code)
{
    *type = ICMP4_UNREACH;
    *code = 0;
    switch (err) {
    case ICMP_ERR_PORT_UNREACH:
        *code = ICMP4_UNREACH_PORT;
        break;
    case ICMP_ERR_PROTO_UNREACH:
        *code = ICMP4_UNREACH_PROTO;
        break;
    case ICMP_ERR_REASM_TIMEOUT:
        *type = ICMP4_TIME_EXCEEDED;
        *code = ICMP4_TIME_REASSEMBLY;
        break;
    case ICMP_ERR_PARAM:
        *type = ICMP4_PARAM;
        break;
    }
}

static void send_error4(struct engine *e, const struct rx_pkt *rp, enum icmp_err err, uint64_t now_us)
{
    uint32_t room = ICMP_ERROR_BYTES_MAX - IP4_HDR_BYTES - ICMP4_HDR_BYTES - rp->l3_hdr_len;
    uint32_t quote = rp->l4_len < room ? rp->l4_len : room;
    uint8_t tos = (uint8_t)((rp->tos & ~(0xe0u | IP_ECN_MASK)) | TOS_ERROR);
    uint8_t type, code;
    struct pktbuf *p;

    if (!may_answer(e, rp) || !icmp_rate_ok(e, now_us))
        return;
    p = pktq_get(&e->txq);
    if (!p) {
        stat_inc(&e->stats, ST_DROP_TX_FULL);
        return;
    }
    type_and_code(err, &type, &code);
    icmp4_put(p->data, type, code, 0);
    memcpy(p->data + ICMP4_HDR_BYTES, rp->l3, rp->l3_hdr_len);
    memcpy(p->data + ICMP4_HDR_BYTES + rp->l3_hdr_len, rp->l4, quote);
    p->len = ICMP4_HDR_BYTES + rp->l3_hdr_len + quote;
    net_pkt_checksum(p, 0, IP_PROTO_ICMP, 2);
    if (net_output(e, p, &rp->dst, &rp->src, IP_PROTO_ICMP, tos, e->cfg.ttl, 0, now_us) == 0 &&
        type == ICMP4_UNREACH)
        stat_inc(&e->stats, ST_ICMP_OUT_DEST_UNREACHS);
}

void icmp_send_error(struct engine *e, const struct rx_pkt *rp, enum icmp_err err, uint64_t now_us)
{
    if (rp->src.family == SG_AF_INET6)
        icmp6_send_error(e, rp, err, now_us);
    else
        send_error4(e, rp, err, now_us);
}

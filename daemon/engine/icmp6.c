/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMPv6 (RFC 4443): echo, errors in and out. Neighbour discovery is nd.c's.
 */
#include "daemon/engine/engine_int.h"
#include "daemon/engine/wire/icmp6.h"

#include <errno.h>

int icmp6_send(struct engine *e, struct pktbuf *p, const struct ip_addr *src, const struct ip_addr *dst,
               uint8_t hops, uint64_t now_us)
{
    net_pkt_checksum(p, csum_pseudo6(src->ip, dst->ip, IP6_NH_ICMP, net_pkt_bytes(p)), IP6_NH_ICMP,
                     ICMP6_CSUM_OFFSET);
    stat_inc(&e->stats, ST_ICMP6_OUT_MSGS);
    return net_output(e, p, src, dst, IP6_NH_ICMP, 0, hops, 0, now_us);
}

/* ---- Errors in -------------------------------------------------------------------------------------- */

/* What a socket sees for each code of "unreachable": Linux's choice. */
static const int unreach_errno[] = {
    [0] = ENETUNREACH,
    [1] = EACCES,
    [2] = EHOSTUNREACH,
    [3] = EHOSTUNREACH,
    [ICMP6_UNREACH_PORT] = ECONNREFUSED,
    [5] = EACCES,
    [6] = EACCES,
};
static_assert(ARRAY_LEN(unreach_errno) == ICMP6_UNREACH_CODES, "an errno for every code");

void icmp6_report_packet(struct engine *e, const uint8_t *ip, uint32_t bytes, uint8_t ifindex, int error,
                         bool hard, uint16_t mtu, uint64_t now_us)
{
    struct icmp_report r = {.error = error, .hard = hard, .mtu = mtu};
    const uint8_t *l4 = NULL;
    uint8_t proto = 0;

    /* Not ip6_parse(): a quote is cut short, so its payload length says nothing. */
    if (bytes >= IP6_HDR_BYTES && ip[0] >> 4 == 6)
        l4 = ip6_quoted_l4(ip, bytes, &proto);
    if (l4) {
        r.local = net_ip_addr6(ip + 8, ifindex);
        r.remote = net_ip_addr6(ip + 24, ifindex);
        r.quoted = IP6_HDR_BYTES + get_be16(ip + 4);
        r.lport = get_be16(l4);
        r.rport = get_be16(l4 + 2);
    }
    if (l4 && proto == IP_PROTO_TCP && net_is_own(e, &r.local)) {
        r.seq = get_be32(l4 + 4);
        tcp_icmp(e, &r, now_us);
    } else if (l4 && proto == IP_PROTO_UDP && net_is_own(e, &r.local)) {
        udp_icmp(e, &r, now_us);
    } else {
        stat_inc(&e->stats, ST_ICMP_ERR_UNMATCHED);
    }
}

static void error_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    uint8_t type = rp->l4[0], code = rp->l4[1];
    uint32_t word = get_be32(rp->l4 + 4);
    int error = EPROTO;
    uint16_t mtu = 0;

    if (type == ICMP6_UNREACH) {
        error = code < ICMP6_UNREACH_CODES ? unreach_errno[code] : EPROTO;
    } else if (type == ICMP6_TOO_BIG) {
        if (word < IP6_MTU_MIN) { /* RFC 8201 4: no path is narrower */
            stat_inc(&e->stats, ST_ICMP6_IN_ERRORS);
            return;
        }
        error = EMSGSIZE;
        mtu = word < UINT16_MAX ? (uint16_t)word : UINT16_MAX;
    } else if (type == ICMP6_TIME_EXCEEDED) {
        error = EHOSTUNREACH;
    }
    icmp6_report_packet(e, rp->l4 + ICMP6_HDR_BYTES, rp->l4_len - ICMP6_HDR_BYTES, rp->ifindex, error,
                        error == ECONNREFUSED, mtu, now_us);
}

/* ---- Echo ------------------------------------------------------------------------------------------- */

static void echo_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    uint32_t data = rp->l4_len - ICMP6_HDR_BYTES;
    struct ip_addr src = rp->dst;
    struct pktbuf *p;

    stat_inc(&e->stats, ST_ICMP6_IN_ECHOS);
    /* RFC 4443 4.2: the answer to a multicast comes from an address of the interface. */
    if (rp->broadcast && !net_source(e, &rp->src, &src))
        return;
    p = pktq_get(&e->txq);
    if (!p) {
        stat_inc(&e->stats, ST_DROP_TX_FULL);
        return;
    }
    icmp6_put(p->data, ICMP6_ECHO_REPLY, 0, get_be32(rp->l4 + 4));
    p->len = ICMP6_HDR_BYTES;
    if (rp->l4_len <= PKT_LINEAR_MAX - PKT_HEADROOM) {
        memcpy(p->data + p->len, rp->l4 + ICMP6_HDR_BYTES, data);
        p->len += data;
    } else { /* net_output() copies it from there into fragments. */
        p->frag[0] = (struct pkt_frag){rp->l4 + ICMP6_HDR_BYTES, data};
        p->frag_count = 1;
    }
    if (icmp6_send(e, p, &src, &rp->src, net_ttl(e, &rp->src), now_us) == 0)
        stat_inc(&e->stats, ST_ICMP6_OUT_ECHO_REPLIES);
}

void icmp6_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us)
{
    uint32_t sum = csum_pseudo6(rp->src.ip, rp->dst.ip, IP6_NH_ICMP, rp->l4_len);

    stat_inc(&e->stats, ST_ICMP6_IN_MSGS);
    if (rp->l4_len < ICMP6_HDR_BYTES || csum_finish(csum_add(sum, csum_partial(rp->l4, rp->l4_len)))) {
        stat_inc(&e->stats, ST_ICMP6_IN_ERRORS);
        return;
    }
    if (rp->l4[0] >= ICMP6_ROUTER_SOLICIT && rp->l4[0] <= ICMP6_REDIRECT) {
        nd_input(e, rp, now_us);
        return;
    }
    if (mld_input(e, rp, now_us))
        return;
    if (ip6_is_unspecified(rp->src.ip)) /* To be answered nowhere. */
        return;
    if (rp->l4[0] == ICMP6_ECHO)
        echo_input(e, rp, now_us);
    else if (icmp6_is_error(rp->l4[0]))
        error_input(e, rp, now_us);
}

/* ---- Errors out ------------------------------------------------------------------------------------- */

/* RFC 4443 2.4 e: what must never be answered with an error. A problem with an option may be, even when the
 * packet went to a group. */
static bool may_answer(const struct engine *e, const struct rx_pkt *rp, bool to_group)
{
    if ((rp->broadcast && !to_group) || !net_is_unicast(e, &rp->src))
        return false;
    return rp->proto != IP6_NH_ICMP || (rp->l4_len && !icmp6_is_error(rp->l4[0]));
}

static void send_error(struct engine *e, const struct rx_pkt *rp, uint8_t type, uint8_t code, uint32_t word,
                       uint64_t now_us)
{
    /* RFC 4443 2.4 c: as much of the packet as fits the least MTU. */
    uint32_t room = IP6_MTU_MIN - IP6_HDR_BYTES - ICMP6_HDR_BYTES;
    uint32_t hdr = rp->l3_hdr_len < room ? rp->l3_hdr_len : room;
    uint32_t quote = rp->l4_len < room - hdr ? rp->l4_len : room - hdr;
    bool to_group = type == ICMP6_PARAM && code == ICMP6_PARAM_OPTION;
    struct ip_addr src = rp->dst;
    struct pktbuf *p;

    if (!may_answer(e, rp, to_group) || (rp->broadcast && !net_source(e, &rp->src, &src)) ||
        !icmp_rate_ok(e, now_us))
        return;
    p = pktq_get(&e->txq);
    if (!p) {
        stat_inc(&e->stats, ST_DROP_TX_FULL);
        return;
    }
    icmp6_put(p->data, type, code, word);
    memcpy(p->data + ICMP6_HDR_BYTES, rp->l3, hdr);
    memcpy(p->data + ICMP6_HDR_BYTES + hdr, rp->l4, quote);
    p->len = ICMP6_HDR_BYTES + hdr + quote;
    if (icmp6_send(e, p, &src, &rp->src, net_ttl(e, &rp->src), now_us))
        return;
    stat_inc(&e->stats, type == ICMP6_UNREACH         ? ST_ICMP6_OUT_DEST_UNREACHS
                        : type == ICMP6_TIME_EXCEEDED ? ST_ICMP6_OUT_TIME_EXCDS
                                                      : ST_ICMP6_OUT_PARM_PROBLEMS);
}

void icmp6_param_problem(struct engine *e, const struct rx_pkt *rp, uint8_t code, uint32_t pointer,
                         uint64_t now_us)
{
    send_error(e, rp, ICMP6_PARAM, code, pointer, now_us);
}

void icmp6_send_error(struct engine *e, const struct rx_pkt *rp, enum icmp_err err, uint64_t now_us)
{
    switch (err) {
    case ICMP_ERR_PORT_UNREACH:
        send_error(e, rp, ICMP6_UNREACH, ICMP6_UNREACH_PORT, 0, now_us);
        break;
    case ICMP_ERR_PROTO_UNREACH: /* RFC 8200 4: there is no protocol unreachable in IPv6 */
        icmp6_param_problem(e, rp, ICMP6_PARAM_NEXT_HEADER, rp->next_off, now_us);
        break;
    case ICMP_ERR_REASM_TIMEOUT:
        send_error(e, rp, ICMP6_TIME_EXCEEDED, ICMP6_TIME_REASSEMBLY, 0, now_us);
        break;
    case ICMP_ERR_PARAM:
        icmp6_param_problem(e, rp, ICMP6_PARAM_FIELD, 0, now_us);
        break;
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segment size of a connection and the path's MTU (RFC 9293 3.7.1, RFC 6691, RFC 1191, RFC 8201).
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* Smaller segments make every header larger than its data; Linux's floor of the same name. */
#define MSS_MIN 48u

/* Options that every data segment carries come off (RFC 6691 2). */
uint32_t tcp_options_bytes(const struct tcp_conn *c)
{
    return c->flags & TF_TS ? 12 : 0;
}

uint32_t tcp_mss_max(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t mss = c->peer_mss ? c->peer_mss : TCP_MSS_DEFAULT;
    uint32_t own = tcp_adv_mss(e, &c->s.remote);

    if (mss > own)
        mss = own;
    return c->o.user_mss && mss > c->o.user_mss ? c->o.user_mss : mss;
}

/* RFC 9293 3.7.1: what the peer takes, what the path carries and what the application allows. */
static uint32_t mss_now(const struct engine *e, const struct tcp_conn *c)
{
    uint32_t link = net_mtu(e, &c->s.remote);
    uint32_t mss = tcp_mss_max(e, c);
    uint32_t path = mss;
    uint32_t pmtu = mtu_disc_uses_path(&c->s) ? pmtu_tcp(e, &c->s.remote) : link;

    if (pmtu < link) {
        uint32_t headers = link - tcp_link_mss(e, &c->s.remote);

        path = pmtu > headers ? pmtu - headers : 0;
    }
    if (mss > path)
        mss = path;
    if (mss < MSS_MIN)
        mss = MSS_MIN;
    return mss - tcp_options_bytes(c);
}

uint16_t tcp_mss_start(struct engine *e, struct tcp_conn *c)
{
    if (e->cfg.mtu_probing == ENGINE_ALWAYS && mtu_disc_probes(&c->s))
        pmtu_search(e, &c->s.remote);
    c->pmtu_changes = e->pmtu.changes;
    return (uint16_t)mss_now(e, c);
}

void tcp_pmtu_sync(struct engine *e, struct tcp_conn *c)
{
    uint16_t mss, before = c->mss;
    struct ip_addr src;

    if (!net_source(e, &c->s.remote, &src))
        return; /* The link is down: what it will carry when it is back remains to be seen. */
    mss = (uint16_t)mss_now(e, c);
    c->pmtu_changes = e->pmtu.changes;
    c->mss = mss;
    if (mss >= before)
        return;
    if (tcp_flight(c))
        tcp_recovery_mtu(e, c);
    sock_dirty_bits(e, &c->s, DIRTY_LINE | DIRTY_NAME);
}

/* RFC 5927 7: the sequence number is in flight, tcp_icmp() saw to that; now the size must fit too. */
void tcp_pmtu_icmp(struct engine *e, struct tcp_conn *c, const struct icmp_report *r)
{
    if (c->state < TCPS_ESTABLISHED || !mtu_disc_believes(&c->s))
        return;
    /* Another connection may have been told before. */
    if (pmtu_too_big(e, &c->s.remote, r->mtu, r->quoted) || c->pmtu_changes != e->pmtu.changes)
        tcp_pmtu_sync(e, c);
}

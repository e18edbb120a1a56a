/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments without data that are built from a few numbers: SYN, SYN-ACK, and answers on behalf of no
 * connection (RST, TIME_WAIT's ACK).
 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

/* Frames that stateless answers leave free for connections. */
#define REPLY_RESERVE 4u

uint32_t tcp_ts_now(const struct engine *e, uint32_t tsoff)
{
    return (uint32_t)(e->now_us / 1000) + tsoff; /* RFC 7323 5.4: a clock of 1 ms */
}

/* Options in Linux's order, so that middleboxes and scripts see a familiar SYN. */
static uint32_t put_options(const struct tcp_reply *r, uint8_t *o)
{
    uint8_t *start = o;

    if (r->mss) {
        *o++ = TCP_OPT_MSS;
        *o++ = 4;
        put_be16(o, r->mss);
        o += 2;
    }
    if (r->has_ts) {
        *o++ = r->sack_perm ? TCP_OPT_SACK_PERM : TCP_OPT_NOP;
        *o++ = r->sack_perm ? 2 : TCP_OPT_NOP;
        *o++ = TCP_OPT_TS;
        *o++ = 10;
        put_be32(o, r->tsval);
        put_be32(o + 4, r->tsecr);
        o += 8;
    } else if (r->sack_perm) {
        *o++ = TCP_OPT_NOP;
        *o++ = TCP_OPT_NOP;
        *o++ = TCP_OPT_SACK_PERM;
        *o++ = 2;
    }
    if (r->wscale >= 0) {
        *o++ = TCP_OPT_NOP;
        *o++ = TCP_OPT_WSCALE;
        *o++ = 3;
        *o++ = (uint8_t)r->wscale;
    }
    if (r->has_fo) {
        *o++ = TCP_OPT_FASTOPEN;
        *o++ = (uint8_t)(2 + r->fo_len);
        if (r->fo_len)
            memcpy(o, r->fo, r->fo_len);
        o += r->fo_len;
        while ((o - start) % 4)
            *o++ = TCP_OPT_NOP;
    }
    return (uint32_t)(o - start);
}

int tcp_reply_send(struct engine *e, const struct tcp_reply *r)
{
    uint32_t room = pktq_room(&e->txq, net_dev(e, &r->key->remote));
    struct pktbuf *p = room > REPLY_RESERVE ? pktq_get(&e->txq) : NULL;
    uint32_t hdr;
    uint8_t *h;

    if (!p) {
        stat_inc(&e->stats, ST_DROP_TX_FULL);
        return -ENOBUFS;
    }
    h = p->data;
    hdr = TCP_HDR_BYTES + put_options(r, h + TCP_HDR_BYTES);
    put_be16(h, r->key->lport);
    put_be16(h + 2, r->key->rport);
    put_be32(h + 4, r->seq);
    put_be32(h + 8, r->ack);
    h[12] = (uint8_t)(hdr / 4 << 4);
    h[13] = r->flags;
    put_be16(h + 14, r->wnd);
    put_be32(h + 16, 0);
    if (r->len)
        tcp_tx_copy(e, r->data_of, 0, h + hdr, r->len);
    p->len = p->total = hdr + r->len;
    stat_inc(&e->stats, ST_TCP_OUT_SEGS);
    if (r->flags & TCP_RST)
        stat_inc(&e->stats, ST_TCP_OUT_RSTS);
    net_checksum(e, p, &r->key->local, &r->key->remote, 6, 16, false);
    return net_output(e, p, &r->key->local, &r->key->remote, 6, r->tos,
                      r->ttl ? r->ttl : net_ttl(e, &r->key->remote), r->cut ? r->cut : NET_DF, e->now_us);
}

/* RFC 9293 3.10.7.1: the answer to a segment that belongs to nothing. */
void tcp_reply_rst(struct engine *e, const struct rx_pkt *rp, const struct tcp_seg *s)
{
    struct flow_key k = tcp_seg_key(rp, s);
    struct tcp_reply r = {.key = &k, .wscale = -1};

    if (s->flags & TCP_RST || rp->broadcast)
        return;
    if (s->flags & TCP_ACK) {
        r.flags = TCP_RST;
        r.seq = s->ack;
    } else {
        r.flags = TCP_RST | TCP_ACK;
        r.ack = s->seq + s->len + !!(s->flags & TCP_SYN) + !!(s->flags & TCP_FIN);
    }
    (void)tcp_reply_send(e, &r); /* A lost RST is asked for again. */
}

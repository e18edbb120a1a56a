/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP Fast Open, the client's side (RFC 7413 4.1, 4.2.1): with TCP_FASTOPEN_CONNECT and a cookie of that
 * server, connect() sends nothing; the SYN goes out with the first data. Without a cookie the SYN asks for
 * one. What the SYN-ACK doesn't acknowledge is sent again as if it were new.
 *
 * Cookies lie in a small cache: sets of four by a keyed hash of both addresses, the one that was not used for
 * longest gives way.
 */
#include "daemon/engine/engine_int.h"

#define SETS                256u
#define WAYS                4u
/* Data that fits a frame's own memory beside the header. */
#define SYN_DATA_MAX        (PKT_LINEAR_MAX - PKT_HEADROOM - TCP_HDR_BYTES - TCP_OPT_BYTES_MAX)
/* After a SYN with data was lost, plain SYNs for this long, doubled each time (RFC 7413 4.1.3.1). */
#define AVOID_US            UINT64_C(60000000)
#define AVOID_SHIFT         6u
/* So many time-outs in a row after data on a SYN, and never data of the peer's: something on the way let the
 * SYN pass and swallows the rest (4.1.3.1; Linux takes as many). */
#define BLACK_HOLE_TIMEOUTS 3u

size_t tcp_fastopen_bytes(void)
{
    return SETS * WAYS * sizeof(struct fo_entry);
}

static struct fo_entry *set_of(const struct engine *e, const struct tcp_conn *c)
{
    uint64_t w[4];

    memcpy(&w[0], c->s.local.ip, 16);
    memcpy(&w[2], c->s.remote.ip, 16);
    return &e->tcp.fo_cache[sip_words(&e->tcp.fastopen_key, w, 4, 1, 3) % SETS * WAYS];
}

static struct fo_entry *find(struct engine *e, const struct tcp_conn *c)
{
    struct fo_entry *set = set_of(e, c);

    for (unsigned i = 0; i < WAYS; i++)
        if (set[i].used && ip_addr_eq(&set[i].remote, &c->s.remote) &&
            ip_addr_eq(&set[i].local, &c->s.local)) {
            set[i].used = ++e->tcp.fo_uses;
            return &set[i];
        }
    return NULL;
}

static struct fo_entry *find_or_make(struct engine *e, const struct tcp_conn *c)
{
    struct fo_entry *x = find(e, c);

    if (x)
        return x;
    x = set_of(e, c);
    for (unsigned i = 1; i < WAYS; i++)
        if (set_of(e, c)[i].used < x->used)
            x = &set_of(e, c)[i];
    *x = (struct fo_entry){.local = c->s.local, .remote = c->s.remote, .used = ++e->tcp.fo_uses};
    return x;
}

static bool avoided(const struct engine *e, const struct fo_entry *x)
{
    unsigned shift = x->losses < AVOID_SHIFT ? x->losses : AVOID_SHIFT;

    return x->losses && e->now_us - x->lost_us < AVOID_US << (shift - 1);
}

static bool needs_cookie(const struct engine *e, const struct tcp_conn *c)
{
    return !(c->s.opts & SO_F_NO_COOKIE) && !(e->cfg.fastopen_no_cookie & ENGINE_FO_NO_COOKIE_CLIENT);
}

bool tcp_fastopen_connect(struct engine *e, struct tcp_conn *c)
{
    const struct fo_entry *x;

    if (!(c->s.opts & SO_F_FASTOPEN))
        return false;
    x = find(e, c);
    if (x && avoided(e, x))
        return false;
    if (needs_cookie(e, c)) {
        c->flags |= TF_FASTOPEN_OPT;
        if (!x || !x->cookie_len) {
            tcp_rare_of(e, c)->fastopen_fail = FO_NO_COOKIE;
            return false;
        }
    }
    c->flags |= TF_SYN_DEFERRED;
    c->s.pub_state = SG_ST_CONNECTED; /* as far as the application can see: it may send */
    return true;
}

/* Data that may ride on the SYN: a segment of the MSS that was seen last, with all options (4.2.1). Where
 * cookies are done without, so is its default, as in Linux. */
static uint32_t syn_room(const struct engine *e, const struct tcp_conn *c, const struct fo_entry *x)
{
    uint32_t own = tcp_adv_mss(e, &c->s.remote);
    uint32_t mss = x && x->mss ? x->mss : needs_cookie(e, c) ? TCP_MSS_DEFAULT : own;

    if (mss > own)
        mss = own;
    if (c->o.user_mss && mss > c->o.user_mss)
        mss = c->o.user_mss;
    if (mss > SYN_DATA_MAX + TCP_OPT_BYTES_MAX)
        return SYN_DATA_MAX;
    return mss > TCP_OPT_BYTES_MAX ? mss - TCP_OPT_BYTES_MAX : 0;
}

uint32_t tcp_fastopen_room(struct engine *e, struct tcp_conn *c)
{
    const struct fo_entry *x = find(e, c);

    return needs_cookie(e, c) && (!x || !x->cookie_len) ? 0 : syn_room(e, c, x);
}

void tcp_fastopen_start(struct engine *e, struct tcp_conn *c)
{
    uint64_t len = c->s.tx.tail - c->s.tx.head;
    uint32_t room = len ? tcp_fastopen_room(e, c) : 0;

    c->flags &= ~TF_SYN_DEFERRED;
    if (room) {
        c->snd_nxt += len < room ? (uint32_t)len : room;
        c->flags |= TF_SYN_DATA;
    }
    c->first_unacked_us = e->now_us;
    tcp_send_syn(e, c);
    tcp_rto_restart(e, c);
}

void tcp_fastopen_option(struct engine *e, struct tcp_conn *c, struct tcp_reply *r)
{
    const struct fo_entry *x = find(e, c);

    if (c->total_retrans)
        return; /* Sent again, it is a plain SYN (4.2.1): something on the way may mind the option. */
    r->has_fo = c->flags & TF_FASTOPEN_OPT;
    if (r->has_fo && x && x->cookie_len) {
        r->fo = x->cookie;
        r->fo_len = x->cookie_len;
    }
    if (!(c->flags & TF_SYN_DATA) || (r->has_fo && !r->fo_len))
        return; /* None, or its cookie was pushed out meanwhile. */
    r->data_of = c;
    r->len = c->snd_nxt - c->iss - 1;
}

void tcp_fastopen_lost(struct engine *e, struct tcp_conn *c)
{
    struct fo_entry *x;

    if (!(c->flags & TF_SYN_DATA))
        return;
    x = find_or_make(e, c);
    if (x->losses < UINT8_MAX)
        x->losses++;
    x->lost_us = e->now_us;
}

void tcp_fastopen_timeout(struct engine *e, struct tcp_conn *c)
{
    if (c->backoff != BLACK_HOLE_TIMEOUTS || !(c->flags & TF_SYN_DATA) || c->data_segs_in)
        return;
    tcp_fastopen_lost(e, c);
    stat_inc(&e->stats, ST_TCP_FASTOPEN_BLACKHOLE);
}

/* The SYN was acknowledged, and `acked` bytes of data on it. */
static void learn(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, uint32_t acked)
{
    bool asked = c->flags & TF_FASTOPEN_OPT, cookie = asked && s->has_fo && s->fo_len;
    struct fo_entry *x = cookie || !asked ? find_or_make(e, c) : find(e, c);

    if (x) /* The newest MSS counts (4.1.3), whether a cookie comes with it or not. */
        x->mss = s->has_mss ? s->mss : 0;
    if (cookie) {
        memcpy(x->cookie, s->fo, s->fo_len);
        x->cookie_len = s->fo_len;
        x->losses = 0;
    } else if (c->total_retrans && !acked) {
        tcp_fastopen_lost(e, c);
    }
}

/* For TCP_INFO: what became of the data on the SYN. */
static void note(struct engine *e, struct tcp_conn *c, uint32_t acked)
{
    struct tcp_rare *r = tcp_rare_of(e, c);

    r->syn_data = acked;
    if (!acked)
        r->fastopen_fail = c->total_retrans ? FO_SYN_LOST : FO_DATA_NOT_ACKED;
}

void tcp_syn_acked(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t acked = s->ack - c->iss - 1;

    if (c->flags & (TF_FASTOPEN_OPT | TF_SYN_DATA))
        learn(e, c, s, acked);
    if (c->flags & TF_SYN_DATA) {
        stat_inc(&e->stats, acked ? ST_TCP_FASTOPEN_ACTIVE : ST_TCP_FASTOPEN_ACTIVE_FAIL);
        note(e, c, acked);
        c->s.tx.head += acked;
        sock_dirty_bits(e, &c->s, DIRTY_LINE | DIRTY_TX);
    }
    c->snd_una = c->snd_nxt = s->ack; /* The rest is new data again. */
}

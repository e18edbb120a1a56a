/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket options. Levels and names are Linux's numbers (the library translates each device's own).
 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

#define L_SOCKET       1u
#define L_TCP          6u

#define O_REUSEADDR    2u
#define O_ERROR        4u
#define O_BROADCAST    6u
#define O_SNDBUF       7u
#define O_RCVBUF       8u
#define O_KEEPALIVE    9u
#define O_LINGER       13u
#define O_ACCEPTCONN   30u

#define O_NODELAY      1u
#define O_MAXSEG       2u
#define O_CORK         3u
#define O_KEEPIDLE     4u
#define O_KEEPINTVL    5u
#define O_KEEPCNT      6u
#define O_QUICKACK     12u
#define O_USER_TIMEOUT 18u

/* Linux's limits of the same options. */
#define KEEPIDLE_MAX   32767u
#define KEEPCNT_MAX    127u
#define MAXSEG_MIN     88u
#define MAXSEG_MAX     32767u

static struct sock *opt_sock(struct engine *e, int sid, uint32_t slot)
{
    return engine_slot_used(e, sid, slot) ? sock_get(e, sock_session(e, sid)->v.slot_sock[slot]) : NULL;
}

/* Where the TCP options of a connection or listener lie; NULL for UDP. */
static struct tcp_options_set *options_of(struct sock *s)
{
    if (s->kind == SK_TCP)
        return &((struct tcp_conn *)s)->o;
    if (s->kind == SK_LISTEN)
        return &((struct tcp_listener *)s)->inherit;
    return NULL;
}

static void set_flag(struct sock *s, uint32_t flag, bool on)
{
    struct tcp_options_set *o = options_of(s);

    s->opts = on ? s->opts | flag : s->opts & ~flag;
    if (o)
        o->opts = s->opts;
}

static uint8_t size_class(uint64_t bytes)
{
    uint8_t log2 = SG_REGION_LOG2_MIN;

    while (log2 < SG_REGION_LOG2_MAX && (UINT64_C(1) << log2) < bytes)
        log2++;
    return log2;
}

static int set_buffer(struct sock *s, bool send, uint64_t value)
{
    struct tcp_options_set *o = options_of(s);
    struct stream *st = send ? &s->tx : &s->rx;
    uint8_t log2;

    if (value > INT32_MAX)
        return -EINVAL;
    log2 = size_class(value);
    if (o)
        *(send ? &o->snd_log2 : &o->rcv_log2) = log2;
    /* A region in use keeps its size; the class counts from the next one on. The receive window of a
     * connection was promised by its present class. */
    if (!st->region && s->pub_state == SG_ST_OPEN)
        st->want_log2 = log2;
    return 0;
}

static int set_socket(struct engine *e, struct sock *s, uint32_t name, uint64_t value)
{
    struct tcp_options_set *o = options_of(s);

    switch (name) {
    case O_REUSEADDR:
        port_set_reuse(e, s, value != 0);
        set_flag(s, SO_F_REUSEADDR, value != 0);
        return 0;
    case O_KEEPALIVE:
        set_flag(s, SO_F_KEEPALIVE, value != 0);
        if (s->kind == SK_TCP)
            tcp_keepalive_restart(e, (struct tcp_conn *)s);
        return 0;
    case O_BROADCAST:
        set_flag(s, SO_F_BROADCAST, value != 0);
        return 0;
    case O_LINGER:
        set_flag(s, SO_F_LINGER, (uint32_t)value != 0);
        if (o)
            o->linger_s = value >> 32 > UINT16_MAX ? UINT16_MAX : (uint16_t)(value >> 32);
        return 0;
    case O_SNDBUF:
        return set_buffer(s, true, value);
    case O_RCVBUF:
        return set_buffer(s, false, value);
    default:
        return -ENOPROTOOPT;
    }
}

static int set_tcp(struct engine *e, struct sock *s, uint32_t name, uint64_t value)
{
    struct tcp_options_set *o = options_of(s);
    struct tcp_conn *c = s->kind == SK_TCP ? (struct tcp_conn *)s : NULL;

    if (!o)
        return -ENOPROTOOPT;
    switch (name) {
    case O_NODELAY:
        set_flag(s, SO_F_NODELAY, value != 0);
        break;
    case O_CORK:
        set_flag(s, SO_F_CORK, value != 0);
        break;
    case O_QUICKACK:
        set_flag(s, SO_F_QUICKACK, value != 0);
        if (c && value && c->rcv_nxt != c->rcv_wup)
            tcp_ack_now(e, c);
        return 0;
    case O_MAXSEG:
        if (value < MAXSEG_MIN || value > MAXSEG_MAX)
            return -EINVAL;
        o->user_mss = (uint16_t)value;
        return 0;
    case O_KEEPIDLE:
    case O_KEEPINTVL:
        if (value < 1 || value > KEEPIDLE_MAX)
            return -EINVAL;
        *(name == O_KEEPIDLE ? &o->keep_idle_s : &o->keep_intvl_s) = (uint16_t)value;
        break;
    case O_KEEPCNT:
        if (value < 1 || value > KEEPCNT_MAX)
            return -EINVAL;
        o->keep_count = (uint8_t)value;
        return 0;
    case O_USER_TIMEOUT:
        if (value > INT32_MAX)
            return -EINVAL;
        o->user_timeout_ms = (uint32_t)value;
        return 0;
    default:
        return -ENOPROTOOPT;
    }
    if (c && c->state >= TCPS_ESTABLISHED) {
        if (name == O_KEEPIDLE)
            tcp_keepalive_restart(e, c);
        else
            tcp_output_schedule(e, c); /* Nagle or the cork may have held something back. */
    }
    return 0;
}

int engine_setopt(struct engine *e, int sid, uint32_t slot, uint32_t level, uint32_t name, uint64_t value,
                  uint64_t now_us)
{
    struct sock *s = opt_sock(e, sid, slot);

    e->now_us = now_us;
    if (!s)
        return -EBADF;
    if (level == L_SOCKET)
        return set_socket(e, s, name, value);
    if (level == L_TCP)
        return set_tcp(e, s, name, value);
    return -ENOPROTOOPT;
}

/* SO_ERROR takes the error away: a socket reports each failure once (POSIX). */
static uint64_t take_error(struct engine *e, struct sock *s)
{
    uint64_t error = s->pub_flags & (SG_F_SOFT_ERR | SG_F_ERROR) ? s->error : 0;

    if (s->pub_flags & SG_F_SOFT_ERR) {
        s->pub_flags &= ~SG_F_SOFT_ERR;
        s->error = 0;
        sock_dirty_bits(e, s, DIRTY_LINE);
    }
    return error;
}

static int get_socket(struct engine *e, struct sock *s, uint32_t name, uint64_t *value)
{
    struct tcp_options_set *o = options_of(s);

    switch (name) {
    case O_REUSEADDR:
        *value = !!(s->opts & SO_F_REUSEADDR);
        return 0;
    case O_KEEPALIVE:
        *value = !!(s->opts & SO_F_KEEPALIVE);
        return 0;
    case O_BROADCAST:
        *value = !!(s->opts & SO_F_BROADCAST);
        return 0;
    case O_LINGER:
        *value = (uint64_t)(o ? o->linger_s : 0) << 32 | !!(s->opts & SO_F_LINGER);
        return 0;
    case O_SNDBUF:
        *value = UINT64_C(1) << (s->tx.region ? s->tx.log2 : s->tx.want_log2);
        return 0;
    case O_RCVBUF:
        *value = UINT64_C(1) << (s->rx.region ? s->rx.log2 : s->rx.want_log2);
        return 0;
    case O_ERROR:
        *value = take_error(e, s);
        return 0;
    case O_ACCEPTCONN:
        *value = s->kind == SK_LISTEN;
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

static int get_tcp(struct engine *e, struct sock *s, uint32_t name, uint64_t *value)
{
    const struct tcp_options_set *o = options_of(s);
    const struct tcp_conn *c = s->kind == SK_TCP ? (const struct tcp_conn *)s : NULL;

    if (!o)
        return -ENOPROTOOPT;
    switch (name) {
    case O_NODELAY:
        *value = !!(s->opts & SO_F_NODELAY);
        return 0;
    case O_CORK:
        *value = !!(s->opts & SO_F_CORK);
        return 0;
    case O_QUICKACK:
        *value = !!(s->opts & SO_F_QUICKACK);
        return 0;
    case O_MAXSEG:
        *value = c && c->state >= TCPS_ESTABLISHED ? c->mss : o->user_mss ? o->user_mss : 536;
        return 0;
    case O_KEEPIDLE:
        *value = o->keep_idle_s ? o->keep_idle_s : e->cfg.keepalive_idle_s;
        return 0;
    case O_KEEPINTVL:
        *value = o->keep_intvl_s ? o->keep_intvl_s : e->cfg.keepalive_intvl_s;
        return 0;
    case O_KEEPCNT:
        *value = o->keep_count ? o->keep_count : e->cfg.keepalive_probes;
        return 0;
    case O_USER_TIMEOUT:
        *value = o->user_timeout_ms;
        return 0;
    default:
        return -ENOPROTOOPT;
    }
}

int engine_getopt(struct engine *e, int sid, uint32_t slot, uint32_t level, uint32_t name, uint64_t *value)
{
    struct sock *s = opt_sock(e, sid, slot);

    if (!s)
        return -EBADF;
    if (level == L_SOCKET)
        return get_socket(e, s, name, value);
    if (level == L_TCP)
        return get_tcp(e, s, name, value);
    return -ENOPROTOOPT;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket options: one table, a row for each. Levels and names are Linux's numbers (the library translates
 * each device's own). docs/options.md says what each does; a test holds it to the table.
 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

#define L_IP         0u
#define L_SOCKET     1u
#define L_TCP        6u
#define L_UDP        17u
#define L_IPV6       41u
#define L_RAW        255u

/* What a row is for. */
#define ON_TCP       (1u << 0) /* connections and listeners */
#define ON_UDP       (1u << 1)
#define ON_ALL       (ON_TCP | ON_UDP)

/* Linux's limits of the same options. */
#define KEEPIDLE_MAX 32767u
#define KEEPCNT_MAX  127u
#define SYNCNT_MAX   127u
#define LINGER2_MAX  120u
#define MAXSEG_MIN   88u
#define MAXSEG_MAX   32767u
#define PRIORITY_MAX 6u   /* above it Linux asks for a privilege */
#define MSS_UNKNOWN  536u /* RFC 9293 3.7.1 */

/* -1 as the library hands it on: "the default again". */
#define MINUS_ONE    UINT64_MAX

struct opt {
    uint16_t level, name;
    uint8_t on;        /* ON_* */
    uint32_t flag;     /* SO_F_*: a switch that is nothing but this bit; 0: see get */
    uint64_t min, max; /* of the value; a switch takes any */
    const char *label;
    /* Apply a value that is in range, or that a switch was moved; NULL: nothing else to do, or read-only. */
    int (*set)(struct engine *e, struct sock *s, uint64_t value);
    int (*get)(struct engine *e, struct sock *s, uint64_t *value); /* NULL: the switch */
};

/* Where the TCP options of a connection or listener lie; NULL for UDP. */
static struct tcp_options_set *options_of(struct sock *s)
{
    if (s->kind == SK_TCP)
        return &tcp_conn_of(s)->o;
    if (s->kind == SK_LISTEN)
        return &((struct tcp_listener *)s)->inherit;
    return NULL;
}

/* The connection, once it has a peer that answers. */
static struct tcp_conn *live_conn(struct sock *s)
{
    struct tcp_conn *c = s->kind == SK_TCP ? tcp_conn_of(s) : NULL;

    return c && c->state >= TCPS_ESTABLISHED ? c : NULL;
}

static void opts_store(struct sock *s, uint32_t opts)
{
    struct tcp_options_set *o = options_of(s);

    s->opts = opts;
    if (o)
        o->opts = opts;
}

static void set_flag(struct sock *s, uint32_t flag, bool on)
{
    opts_store(s, on ? s->opts | flag : s->opts & ~flag);
}

/* ---- SOL_SOCKET ------------------------------------------------------------------------------------ */

static int set_reuse(struct engine *e, struct sock *s, uint64_t value)
{
    port_set_reuse(e, s, value != 0); /* First: the port table counts by the old state. */
    set_flag(s, SO_F_REUSEADDR, value != 0);
    return 0;
}

static int get_reuse(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = !!(s->opts & SO_F_REUSEADDR);
    return 0;
}

static int set_keepalive(struct engine *e, struct sock *s, uint64_t value)
{
    (void)value;
    if (s->kind == SK_TCP)
        tcp_keepalive_restart(e, tcp_conn_of(s));
    return 0;
}

static int set_linger(struct engine *e, struct sock *s, uint64_t value)
{
    struct tcp_options_set *o = options_of(s);

    (void)e;
    set_flag(s, SO_F_LINGER, (uint32_t)value != 0);
    if (o)
        o->linger_s = value >> 32 > UINT16_MAX ? UINT16_MAX : (uint16_t)(value >> 32);
    return 0;
}

static int get_linger(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct tcp_options_set *o = options_of(s);

    (void)e;
    *value = (uint64_t)(o ? o->linger_s : 0) << 32 | !!(s->opts & SO_F_LINGER);
    return 0;
}

static int set_buffer(struct engine *e, struct sock *s, bool send, uint64_t value)
{
    struct tcp_options_set *o = options_of(s);
    uint8_t log2 = ring_class(value, SG_REGION_LOG2_MIN, SG_REGION_LOG2_MAX);

    if (s->kind == SK_UDP) {
        udp_set_buffer((struct udp_sock *)s, send, value);
        return 0;
    }
    *(send ? &o->snd_log2 : &o->rcv_log2) = log2;
    opts_store(s, s->opts | (send ? SO_F_SNDBUF : SO_F_RCVBUF));
    if (s->kind == SK_TCP)
        tcp_buf_fix(e, tcp_conn_of(s), send, log2);
    return 0;
}

static int set_sndbuf(struct engine *e, struct sock *s, uint64_t value)
{
    return set_buffer(e, s, true, value);
}

static int set_rcvbuf(struct engine *e, struct sock *s, uint64_t value)
{
    return set_buffer(e, s, false, value);
}

/* The size in force, or the one that a send ring is on its way to. */
static int get_sndbuf(struct engine *e, struct sock *s, uint64_t *value)
{
    bool present = s->tx.region && !(s->opts & SO_F_SNDBUF);

    (void)e;
    *value = s->kind == SK_UDP ? udp_get_buffer((const struct udp_sock *)s, true)
                               : UINT64_C(1) << (present ? s->tx.log2 : s->tx.want_log2);
    return 0;
}

/* That of the window: the region is as large as what lies in it asks for. */
static int get_rcvbuf(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = s->kind == SK_UDP ? udp_get_buffer((const struct udp_sock *)s, false)
                               : UINT64_C(1) << s->rx.want_log2;
    return 0;
}

/* SO_ERROR takes the error away: a socket reports each failure once (POSIX). */
static int take_error(struct engine *e, struct sock *s, uint64_t *value)
{
    *value = s->pub_flags & (SG_F_SOFT_ERR | SG_F_ERROR) ? s->error : 0;
    if (s->pub_flags & SG_F_SOFT_ERR) {
        s->pub_flags &= ~SG_F_SOFT_ERR;
        s->error = 0;
        sock_dirty_bits(e, s, DIRTY_LINE);
    }
    return 0;
}

static int get_acceptconn(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = s->kind == SK_LISTEN;
    return 0;
}

static int get_protocol(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = s->kind == SK_UDP ? ((const struct udp_sock *)s)->proto : 6;
    return 0;
}

static int get_domain(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = s->family;
    return 0;
}

/* RFC 6093 6: urgent data always stays in line; taking it out of the stream is not offered. */
static int set_oobinline(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    (void)s;
    return value ? 0 : -EOPNOTSUPP;
}

static int get_one(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    (void)s;
    *value = 1;
    return 0;
}

/* Accepted for the sake of programs that set it: frames leave in one queue. */
static int set_reuseport(struct engine *e, struct sock *s, uint64_t value)
{
    s->opts = value ? s->opts | SO_F_REUSEPORT : s->opts & ~SO_F_REUSEPORT;
    (void)peers_change(e, sock_id_of(e, s), s); /* Only what it allows others changes. */
    return 0;
}

static int set_nothing(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    (void)s;
    (void)value;
    return 0;
}

static int get_zero(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    (void)s;
    *value = 0;
    return 0;
}

/* A mark steers packets past the host's policy: as in Linux, not without a privilege. */
static int set_mark(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    (void)s;
    return value ? -EPERM : 0;
}

/* ---- IPPROTO_IP, IPPROTO_IPV6 ---------------------------------------------------------------------- */

/* The two ECN bits of a TCP socket are the engine's (RFC 3168 6.1). */
static int set_tos(struct engine *e, struct sock *s, uint64_t value)
{
    uint32_t tos = value == MINUS_ONE ? 0 : (uint32_t)value;

    (void)e;
    if (s->kind != SK_UDP)
        tos &= ~3u;
    opts_store(s, (s->opts & ~SO_TOS_MASK) | tos << SO_TOS_SHIFT);
    return 0;
}

static int get_tos(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = sock_tos(s);
    return 0;
}

static int set_ttl(struct engine *e, struct sock *s, uint64_t value)
{
    uint32_t ttl = value == MINUS_ONE ? 0 : (uint32_t)value; /* 0: the engine's default */

    (void)e;
    if (!value)
        return -EINVAL;
    opts_store(s, (s->opts & ~SO_TTL_MASK) | ttl << SO_TTL_SHIFT);
    return 0;
}

static int get_ttl(struct engine *e, struct sock *s, uint64_t *value)
{
    *value = sock_ttl(e, s);
    return 0;
}

static int get_mtu(struct engine *e, struct sock *s, uint64_t *value)
{
    if (!s->rport)
        return -ENOTCONN;
    *value = pmtu_get(e, &s->remote);
    return 0;
}

/* RFC 3493 5.3: what it takes is settled when it is bound. */
static int set_v6only(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    if (s->family != SG_AF_INET6)
        return -ENOPROTOOPT;
    if (s->lport)
        return -EINVAL;
    set_flag(s, SO_F_V6ONLY, value != 0);
    return 0;
}

static int get_v6only(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    if (s->family != SG_AF_INET6)
        return -ENOPROTOOPT;
    *value = !!(s->opts & SO_F_V6ONLY);
    return 0;
}

/* ---- IPPROTO_TCP ----------------------------------------------------------------------------------- */

/* Nagle or the cork may have held something back. */
static int set_push(struct engine *e, struct sock *s, uint64_t value)
{
    struct tcp_conn *c = live_conn(s);

    (void)value;
    if (c)
        tcp_output_schedule(e, c);
    return 0;
}

/* As in Linux: set, it overrides even the cork for what is queued now. */
static int set_nodelay(struct engine *e, struct sock *s, uint64_t value)
{
    struct tcp_conn *c = live_conn(s);

    if (c && value && tcp_unsent(c))
        c->flags |= TF_FLUSH;
    return set_push(e, s, value);
}

static int set_quickack(struct engine *e, struct sock *s, uint64_t value)
{
    if (s->kind == SK_TCP)
        tcp_delack_set(e, tcp_conn_of(s), value != 0);
    else
        set_flag(s, SO_F_PINGPONG, !value);
    return 0;
}

static int get_quickack(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = !(s->opts & SO_F_PINGPONG);
    return 0;
}

static int set_maxseg(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    options_of(s)->user_mss = (uint16_t)value;
    return 0;
}

static int get_maxseg(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct tcp_conn *c = live_conn(s);
    const struct tcp_options_set *o = options_of(s);

    (void)e;
    *value = c ? c->mss : o->user_mss ? o->user_mss : MSS_UNKNOWN;
    return 0;
}

static int set_keepidle(struct engine *e, struct sock *s, uint64_t value)
{
    struct tcp_conn *c = live_conn(s);

    options_of(s)->keep_idle_s = (uint16_t)value;
    if (c)
        tcp_keepalive_restart(e, c);
    return 0;
}

static int get_keepidle(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct tcp_options_set *o = options_of(s);

    *value = o->keep_idle_s ? o->keep_idle_s : e->cfg.keepalive_idle_s;
    return 0;
}

static int set_keepintvl(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    options_of(s)->keep_intvl_s = (uint16_t)value;
    return 0;
}

static int get_keepintvl(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct tcp_options_set *o = options_of(s);

    *value = o->keep_intvl_s ? o->keep_intvl_s : e->cfg.keepalive_intvl_s;
    return 0;
}

static int set_keepcnt(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    options_of(s)->keep_count = (uint8_t)value;
    return 0;
}

static int get_keepcnt(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct tcp_options_set *o = options_of(s);

    *value = o->keep_count ? o->keep_count : e->cfg.keepalive_probes;
    return 0;
}

/* By name, in any state: a connection goes on with the window that it has. */
static int set_congestion(struct engine *e, struct sock *s, uint64_t name)
{
    struct tcp_options_set *o = options_of(s);
    uint8_t id = cc_find(name);

    if (id == CC_COUNT)
        return -ENOENT;
    if (s->kind == SK_TCP)
        cc_change(e, tcp_conn_of(s), id);
    else
        o->cc = id;
    return 0;
}

static int get_congestion(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = cc_name(options_of(s)->cc);
    return 0;
}

static int set_user_timeout(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    options_of(s)->user_timeout_ms = (uint32_t)value;
    return 0;
}

static int get_user_timeout(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = options_of(s)->user_timeout_ms;
    return 0;
}

static int set_syncnt(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    options_of(s)->syn_count = (uint8_t)value;
    return 0;
}

static int get_syncnt(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct tcp_options_set *o = options_of(s);

    *value = o->syn_count ? o->syn_count : e->cfg.syn_retries;
    return 0;
}

/* An int: below 0 the peer's FIN is not waited for, 0 is the default. */
static int set_linger2(struct engine *e, struct sock *s, uint64_t value)
{
    int32_t seconds = (int32_t)(uint32_t)value;

    (void)e;
    options_of(s)->fin_wait2_s = seconds < 0           ? TCP_FIN_WAIT2_NONE
                                 : value > LINGER2_MAX ? LINGER2_MAX
                                                       : (uint8_t)value;
    return 0;
}

static int get_linger2(struct engine *e, struct sock *s, uint64_t *value)
{
    uint8_t seconds = options_of(s)->fin_wait2_s;

    *value = seconds == TCP_FIN_WAIT2_NONE ? MINUS_ONE : seconds ? seconds : e->cfg.fin_wait2_us / 1000000;
    return 0;
}

/* Time until SYN-ACK number `n` would be answered by another, in microseconds. */
static uint64_t synacks_us(const struct engine *e, uint8_t n)
{
    uint64_t timeout_us = e->cfg.rto_initial_us, sum_us = 0;

    while (n--) {
        sum_us += timeout_us;
        timeout_us = timeout_us * 2 > e->cfg.rto_max_us ? e->cfg.rto_max_us : timeout_us * 2;
    }
    return sum_us;
}

/* Said in seconds and kept as the number of SYN-ACKs that fit into them, as in Linux. */
static int set_defer(struct engine *e, struct sock *s, uint64_t value)
{
    uint64_t us = value > INT32_MAX ? 0 : value * 1000000;
    uint8_t n = 0;

    while (synacks_us(e, n) < us && n < UINT8_MAX)
        n++;
    options_of(s)->defer = n;
    return 0;
}

static int get_defer(struct engine *e, struct sock *s, uint64_t *value)
{
    *value = synacks_us(e, options_of(s)->defer) / 1000000;
    return 0;
}

/* On a listener, or what becomes one: connections that may be open before their handshake is complete. */
static int set_fastopen(struct engine *e, struct sock *s, uint64_t value)
{
    (void)e;
    options_of(s)->fastopen = value > UINT8_MAX ? UINT8_MAX : (uint8_t)value;
    return 0;
}

static int get_fastopen(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = options_of(s)->fastopen;
    return 0;
}

/* Bytes a second; Linux's "no limit" is all ones. */
static int set_pacing(struct engine *e, struct sock *s, uint64_t value)
{
    options_of(s)->pacing_max = value > UINT32_MAX - 1 ? 0 : (uint32_t)value;
    if (s->kind == SK_TCP)
        pace_option(e, tcp_conn_of(s));
    return 0;
}

static int get_pacing(struct engine *e, struct sock *s, uint64_t *value)
{
    const struct tcp_options_set *o = options_of(s);

    (void)e;
    *value = o->pacing_max ? o->pacing_max : UINT64_MAX;
    return 0;
}

/* ---- The table ------------------------------------------------------------------------------------- */

/* Read in words (tcp_info_word()), which engine_getopt() sees to. */
static int get_info(struct engine *e, struct sock *s, uint64_t *value)
{
    return tcp_info_word(e, s, 0, value);
}

#define NAME_MASK ((1u << SG_TCP_INFO_SHIFT) - 1)
#define ANY       0, UINT64_MAX

/* clang-format off */
static const struct opt table[] = {
    {L_SOCKET, 2, ON_ALL, 0, ANY, "SO_REUSEADDR", set_reuse, get_reuse},
    {L_SOCKET, 4, ON_ALL, 0, ANY, "SO_ERROR", NULL, take_error},
    {L_SOCKET, 6, ON_ALL, SO_F_BROADCAST, ANY, "SO_BROADCAST", set_nothing, NULL},
    {L_SOCKET, 7, ON_ALL, 0, 0, INT32_MAX, "SO_SNDBUF", set_sndbuf, get_sndbuf},
    {L_SOCKET, 8, ON_ALL, 0, 0, INT32_MAX, "SO_RCVBUF", set_rcvbuf, get_rcvbuf},
    {L_SOCKET, 9, ON_ALL, SO_F_KEEPALIVE, ANY, "SO_KEEPALIVE", set_keepalive, NULL},
    {L_SOCKET, 10, ON_ALL, 0, ANY, "SO_OOBINLINE", set_oobinline, get_one},
    {L_SOCKET, 12, ON_ALL, 0, 0, PRIORITY_MAX, "SO_PRIORITY", set_nothing, get_zero},
    {L_SOCKET, 13, ON_ALL, 0, ANY, "SO_LINGER", set_linger, get_linger},
    {L_SOCKET, 15, ON_UDP, SO_F_REUSEPORT, ANY, "SO_REUSEPORT", set_reuseport, NULL},
    {L_SOCKET, 30, ON_ALL, 0, ANY, "SO_ACCEPTCONN", NULL, get_acceptconn},
    {L_SOCKET, 36, ON_ALL, 0, ANY, "SO_MARK", set_mark, get_zero},
    {L_SOCKET, 38, ON_ALL, 0, ANY, "SO_PROTOCOL", NULL, get_protocol},
    {L_SOCKET, 39, ON_ALL, 0, ANY, "SO_DOMAIN", NULL, get_domain},
    {L_SOCKET, 47, ON_TCP, 0, 1, UINT64_MAX, "SO_MAX_PACING_RATE", set_pacing, get_pacing},

    {L_IP, 1, ON_ALL, 0, 0, 255, "IP_TOS", set_tos, get_tos},
    {L_IP, 2, ON_ALL, 0, 0, 255, "IP_TTL", set_ttl, get_ttl},
    {L_IP, 3, ON_UDP, 0, ANY, "IP_HDRINCL", raw_set_hdrincl, raw_get_hdrincl},
    {L_IP, 8, ON_UDP, SO_F_PKTINFO, ANY, "IP_PKTINFO", set_nothing, NULL},
    {L_IP, 10, ON_ALL, 0, 0, MTU_DISC_OMIT, "IP_MTU_DISCOVER", mtu_disc_set, mtu_disc_get},
    {L_IP, 12, ON_UDP, SO_F_RECVTTL, ANY, "IP_RECVTTL", set_nothing, NULL},
    {L_IP, 13, ON_UDP, SO_F_RECVTOS, ANY, "IP_RECVTOS", set_nothing, NULL},
    {L_IP, 14, ON_ALL, 0, ANY, "IP_MTU", NULL, get_mtu},
    {L_IP, 33, ON_UDP, 0, 0, 255, "IP_MULTICAST_TTL", udp_set_mc_ttl, udp_get_mc_ttl},
    {L_IP, 34, ON_UDP, 0, ANY, "IP_MULTICAST_LOOP", udp_set_mc_loop, udp_get_mc_loop},
    {L_IPV6, 7, ON_UDP, 0, ANY, "IPV6_CHECKSUM", raw_set_checksum, raw_get_checksum},
    {L_IPV6, 16, ON_ALL, 0, 0, 255, "IPV6_UNICAST_HOPS", set_ttl, get_ttl},
    {L_IPV6, 17, ON_UDP, 0, 0, INT32_MAX, "IPV6_MULTICAST_IF", udp_set_mc_if, udp_get_mc_if},
    {L_IPV6, 18, ON_UDP, 0, 0, 255, "IPV6_MULTICAST_HOPS", udp_set_mc_ttl, udp_get_mc_ttl},
    {L_IPV6, 19, ON_UDP, 0, ANY, "IPV6_MULTICAST_LOOP", udp_set_mc_loop, udp_get_mc_loop},
    {L_IPV6, 23, ON_ALL, 0, 0, MTU_DISC_OMIT, "IPV6_MTU_DISCOVER", mtu_disc_set, mtu_disc_get},
    {L_IPV6, 24, ON_ALL, 0, ANY, "IPV6_MTU", NULL, get_mtu},
    {L_IPV6, 26, ON_ALL, 0, ANY, "IPV6_V6ONLY", set_v6only, get_v6only},
    {L_IPV6, 49, ON_UDP, SO_F_PKTINFO, ANY, "IPV6_RECVPKTINFO", set_nothing, NULL},
    {L_IPV6, 51, ON_UDP, SO_F_RECVTTL, ANY, "IPV6_RECVHOPLIMIT", set_nothing, NULL},
    {L_IPV6, 66, ON_UDP, SO_F_RECVTOS, ANY, "IPV6_RECVTCLASS", set_nothing, NULL},
    {L_IPV6, 67, ON_ALL, 0, 0, 255, "IPV6_TCLASS", set_tos, get_tos},

    {L_TCP, 1, ON_TCP, SO_F_NODELAY, ANY, "TCP_NODELAY", set_nodelay, NULL},
    {L_TCP, 2, ON_TCP, 0, MAXSEG_MIN, MAXSEG_MAX, "TCP_MAXSEG", set_maxseg, get_maxseg},
    {L_TCP, 3, ON_TCP, SO_F_CORK, ANY, "TCP_CORK", set_push, NULL},
    {L_TCP, 4, ON_TCP, 0, 1, KEEPIDLE_MAX, "TCP_KEEPIDLE", set_keepidle, get_keepidle},
    {L_TCP, 5, ON_TCP, 0, 1, KEEPIDLE_MAX, "TCP_KEEPINTVL", set_keepintvl, get_keepintvl},
    {L_TCP, 6, ON_TCP, 0, 1, KEEPCNT_MAX, "TCP_KEEPCNT", set_keepcnt, get_keepcnt},
    {L_TCP, 7, ON_TCP, 0, 1, SYNCNT_MAX, "TCP_SYNCNT", set_syncnt, get_syncnt},
    {L_TCP, 8, ON_TCP, 0, ANY, "TCP_LINGER2", set_linger2, get_linger2},
    {L_TCP, 9, ON_TCP, 0, ANY, "TCP_DEFER_ACCEPT", set_defer, get_defer},
    {L_TCP, SG_TCP_INFO, ON_TCP, 0, ANY, "TCP_INFO", NULL, get_info},
    {L_TCP, 12, ON_TCP, 0, ANY, "TCP_QUICKACK", set_quickack, get_quickack},
    {L_TCP, 13, ON_TCP, 0, ANY, "TCP_CONGESTION", set_congestion, get_congestion},
    {L_TCP, 18, ON_TCP, 0, 0, INT32_MAX, "TCP_USER_TIMEOUT", set_user_timeout, get_user_timeout},
    {L_TCP, 23, ON_TCP, 0, 0, INT32_MAX, "TCP_FASTOPEN", set_fastopen, get_fastopen},
    {L_TCP, 30, ON_TCP, SO_F_FASTOPEN, ANY, "TCP_FASTOPEN_CONNECT", set_nothing, NULL},
    {L_TCP, 34, ON_TCP, SO_F_NO_COOKIE, 0, 1, "TCP_FASTOPEN_NO_COOKIE", set_nothing, NULL},

    {L_UDP, 103, ON_UDP, 0, 0, UINT16_MAX, "UDP_SEGMENT", udp_set_segment, udp_get_segment},

    {L_RAW, 1, ON_UDP, 0, ANY, "ICMP_FILTER", raw_set_filter, raw_get_filter},
};
/* clang-format on */

/* -1 asks for the default again where Linux lets it. */
static bool takes_minus_one(const struct opt *o)
{
    return o->set == set_ttl || o->set == udp_set_mc_ttl || (o->set == set_tos && o->level == L_IPV6);
}

static const struct opt *find(const struct sock *s, uint32_t level, uint32_t name)
{
    unsigned on = s->kind == SK_UDP ? ON_UDP : ON_TCP;

    for (unsigned i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].level == level && table[i].name == name)
            return table[i].on & on ? &table[i] : NULL;
    return NULL;
}

static struct sock *opt_sock(struct engine *e, int sid, uint32_t slot)
{
    return engine_slot_used(e, sid, slot) ? sock_get(e, sock_session(e, sid)->v.slot_sock[slot]) : NULL;
}

int engine_setopt(struct engine *e, int sid, uint32_t slot, uint32_t level, uint32_t name, uint64_t value,
                  uint64_t now_us)
{
    struct sock *s = opt_sock(e, sid, slot);
    const struct opt *o;

    e->now_us = now_us;
    if (!s)
        return -EBADF;
    o = find(s, level, name);
    if (!o || !o->set)
        return -ENOPROTOOPT;
    if ((value < o->min || value > o->max) && !(value == MINUS_ONE && takes_minus_one(o)))
        return -EINVAL;
    if (o->flag)
        set_flag(s, o->flag, value != 0);
    return o->set(e, s, value);
}

void engine_clock(struct engine *e, uint64_t now_us)
{
    e->now_us = now_us;
}

int engine_getopt(struct engine *e, int sid, uint32_t slot, uint32_t level, uint32_t name, uint64_t *value)
{
    struct sock *s = opt_sock(e, sid, slot);
    const struct opt *o;

    if (!s)
        return -EBADF;
    o = find(s, level, level == L_TCP ? name & NAME_MASK : name);
    if (!o || (name & ~NAME_MASK && o->get != get_info))
        return -ENOPROTOOPT;
    if (o->get == get_info)
        return tcp_info_word(e, s, name >> SG_TCP_INFO_SHIFT, value);
    if (o->get)
        return o->get(e, s, value);
    *value = !!(s->opts & o->flag);
    return 0;
}

bool engine_opt_info(unsigned index, struct engine_opt_info *ret)
{
    if (index >= ARRAY_LEN(table))
        return false;
    *ret = (struct engine_opt_info){
        .label = table[index].label,
        .level = table[index].level,
        .name = table[index].name,
        .tcp = table[index].on & ON_TCP,
        .udp = table[index].on & ON_UDP,
        .settable = table[index].set,
    };
    return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SYN cookies (RFC 4987 3.6): when no request can be kept, the SYN-ACK's sequence number is the request.
 *
 *   31     27 26  24 23                 0
 *   | period |  MSS  | keyed hash        |   plus the peer's sequence number, so that it moves with it
 *
 * The hash covers addresses, ports, the peer's sequence number, the period and the MSS: 24 bits that an
 * attacker has to guess for each connection that he forges. Options don't fit; with timestamps they ride in
 * the low bits of the SYN-ACK's own, which the peer echoes (as Linux does). They need no proof: a peer that
 * changes them fools itself.
 */
#include "daemon/engine/engine_int.h"

#define COOKIE_PERIOD_SHIFT 26u /* of microseconds: 67 s */
#define COOKIE_AGE_MAX      1u  /* periods: a cookie is good for 67 to 134 s */
#define COOKIE_TIME_SHIFT   27u
#define COOKIE_MSS_SHIFT    24u
#define COOKIE_HASH_MASK    0xffffffu

/* Low bits of the SYN-ACK's timestamp. */
#define TS_BITS             6u
#define TS_MASK             ((1u << TS_BITS) - 1)
#define TS_WSCALE           0xfu /* this value: not offered */
#define TS_SACK             (1u << 4)
#define TS_ECN              (1u << 5)

/* The peer's MSS is rounded down to one of these: no option, IPv6's minimum, tunnels, PPPoE, Ethernet with
 * IPv6 and IPv4, jumbo frames. */
static const uint16_t mss_table[] = {48, 536, 1220, 1360, 1400, 1440, 1460, 8940};
static_assert(ARRAY_LEN(mss_table) == 1u << (COOKIE_TIME_SHIFT - COOKIE_MSS_SHIFT), "the bits for it");

static uint64_t period_now(const struct engine *e)
{
    return e->now_us >> COOKIE_PERIOD_SHIFT;
}

static uint32_t cookie_at(const struct engine *e, const struct tcp_req *r, uint64_t period, uint32_t mss)
{
    uint64_t w[6];
    uint32_t top = (uint32_t)period << COOKIE_TIME_SHIFT | mss << COOKIE_MSS_SHIFT;

    memcpy(&w[0], r->key.local.ip, 16);
    memcpy(&w[2], r->key.remote.ip, 16);
    w[4] = (uint64_t)r->key.lport << 48 | (uint64_t)r->key.rport << 32 | r->irs;
    w[5] = period << 8 | mss;
    return (top | ((uint32_t)sip_words(&e->tcp.cookie_key, w, 6, 2, 4) & COOKIE_HASH_MASK)) + r->irs;
}

static uint32_t mss_index(uint16_t mss)
{
    uint32_t i = ARRAY_LEN(mss_table) - 1;

    while (i && mss_table[i] > mss)
        i--;
    return i;
}

uint32_t tcp_cookie_make(struct engine *e, struct tcp_listener *l, struct tcp_req *r)
{
    uint32_t now = (uint32_t)(e->now_us / 1000);
    uint32_t bits, ts;

    l->cookie_us = e->now_us;
    r->flags &= (uint8_t)~REQ_FASTOPEN; /* Not while SYNs flood in. */
    r->iss = cookie_at(e, r, period_now(e), mss_index(r->peer_mss ? r->peer_mss : TCP_MSS_DEFAULT));
    if (!(r->flags & REQ_TS)) { /* Nowhere to keep them. */
        r->flags = 0;
        return 0;
    }
    bits = r->flags & REQ_WSCALE ? r->peer_wscale : TS_WSCALE;
    bits |= (r->flags & REQ_SACK ? TS_SACK : 0) | (r->flags & REQ_ECN ? TS_ECN : 0);
    ts = (now & ~TS_MASK) | bits;
    if (ts > now) /* Never ahead of the clock: later segments must not look older (RFC 7323 5.3). */
        ts -= 1u << TS_BITS;
    return ts + r->tsoff;
}

static void unpack_options(const struct engine *e, struct tcp_req *r, const struct tcp_seg *s)
{
    uint32_t bits = (s->tsecr - r->tsoff) & TS_MASK;

    if (!s->has_ts)
        return;
    r->flags = REQ_TS | (bits & TS_SACK ? REQ_SACK : 0) | (bits & TS_ECN && e->cfg.ecn ? REQ_ECN : 0);
    r->ts_recent = s->tsval;
    if ((bits & TS_WSCALE) != TS_WSCALE) {
        r->flags |= REQ_WSCALE;
        r->peer_wscale = (uint8_t)(bits & TS_WSCALE);
    }
}

bool tcp_cookie_check(struct engine *e, const struct tcp_listener *l, struct tcp_req *r,
                      const struct tcp_seg *s)
{
    uint32_t cookie = s->ack - 1 - (s->seq - 1);
    uint32_t mss = cookie >> COOKIE_MSS_SHIFT & (ARRAY_LEN(mss_table) - 1);
    uint64_t age;

    if (!l->cookie_us || e->now_us - l->cookie_us >= (COOKIE_AGE_MAX + 1) << COOKIE_PERIOD_SHIFT)
        return false; /* None is outstanding, so no guess can be right. */
    age = (period_now(e) - (cookie >> COOKIE_TIME_SHIFT)) & (UINT32_MAX >> COOKIE_TIME_SHIFT);
    r->irs = s->seq - 1;
    r->iss = s->ack - 1;
    if (age > COOKIE_AGE_MAX || cookie_at(e, r, period_now(e) - age, mss) != r->iss) {
        stat_inc(&e->stats, ST_TCP_COOKIES_FAILED);
        return false;
    }
    r->peer_mss = mss_table[mss];
    r->tsoff = tcp_ts_offset(e, &r->key);
    unpack_options(e, r, s);
    return true;
}

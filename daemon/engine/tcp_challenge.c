/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers to segments that may be forged (RFC 5961): an ACK that says what we expect. A peer that lost step
 * learns it from one; an attacker must not learn anything, make two hosts answer each other for ever, or have
 * us answer as fast as he can send.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* RFC 5961 7, 10: of one connection, no more often than this (Linux's tcp_invalid_ratelimit). */
#define ANSWER_INTERVAL_MS 500u

static bool rate_ok(struct engine *e, struct tcp_conn *c)
{
    uint32_t now_ms = (uint32_t)(e->now_us / 1000);

    if (c->oow_ack_ms && now_ms - c->oow_ack_ms < ANSWER_INTERVAL_MS) {
        stat_inc(&e->stats, ST_TCP_CHALLENGE_LIMITED);
        return false;
    }
    c->oow_ack_ms = now_ms ? now_ms : 1;
    return true;
}

/*
 * And of the whole host. A limit that all connections share can be counted out by an attacker with one of his
 * own, to see whether his guess at somebody else's was answered (CVE-2016-5696): so each second has another
 * one, between half the setting and one and a half times that.
 */
bool tcp_challenge_allowed(struct engine *e)
{
    uint64_t second = e->now_us / 1000000;
    uint32_t rate = e->cfg.challenge_ack_rate;

    if (second != e->tcp.challenge_second) {
        e->tcp.challenge_second = second;
        e->tcp.challenge_left =
            rate ? rate / 2 + (uint32_t)(sip_words(&e->tcp.limit_key, &second, 1, 2, 4) % rate) : 0;
    }
    if (!e->tcp.challenge_left) {
        stat_inc(&e->stats, ST_TCP_CHALLENGE_LIMITED);
        return false;
    }
    e->tcp.challenge_left--;
    stat_inc(&e->stats, ST_TCP_CHALLENGE_ACK);
    return true;
}

void tcp_challenge(struct engine *e, struct tcp_conn *c)
{
    if (rate_ok(e, c) && tcp_challenge_allowed(e))
        tcp_ack_now(e, c);
}

/*
 * Data that was sent again, because our ACK was lost, deserves an answer each time (RFC 9293 3.10.7.4, RFC
 * 2883). It lies close before the window; what a blind attacker throws at us nearly never does.
 */
static bool sent_again(const struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t span = c->rcv_adv - c->rcv_nxt;

    if (span < UINT16_MAX)
        span = UINT16_MAX;
    return (s->len || s->flags & TCP_FIN) && seq_gt(s->seq, c->rcv_nxt - span - 1) &&
           seq_le(s->seq, c->rcv_nxt);
}

void tcp_answer_outside(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s)
{
    if (sent_again(c, s) || rate_ok(e, c))
        tcp_ack_now(e, c);
}

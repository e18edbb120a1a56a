/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows: the one that we advertise (RFC 9293 3.8.6.2.2), and the peer's.
 */
#ifndef ENGINE_TCP_WINDOW_H
#define ENGINE_TCP_WINDOW_H

#include "daemon/engine/core.h"
#include "daemon/engine/seq.h"

static inline uint64_t window_bytes(const struct tcp_conn *c)
{
    return UINT64_C(1) << c->s.rx.want_log2;
}

/* The largest window that can be offered: its class, and what the header field can say. */
static inline uint32_t window_max(const struct tcp_conn *c)
{
    uint32_t max = (uint32_t)UINT16_MAX << (c->flags & TF_WSCALE ? c->rcv_wscale : 0);

    return window_bytes(c) < max ? (uint32_t)window_bytes(c) : max;
}

/* RFC 9293 3.8.6.2.2: an update must open the window by this much to be worth advertising. */
static inline uint32_t window_update_min(const struct tcp_conn *c)
{
    uint32_t half = window_max(c) / 2;
    uint32_t mss2 = 2u * c->rcv_mss;

    return mss2 && mss2 < half ? mss2 : half;
}

/* What the header's field says when `room` bytes may be promised; moves rcv_adv on. */
static inline uint32_t window_select(struct tcp_conn *c, uint32_t room)
{
    uint32_t offered = seq_gt(c->rcv_adv, c->rcv_nxt) ? c->rcv_adv - c->rcv_nxt : 0;
    uint32_t scale = c->flags & TF_WSCALE ? c->rcv_wscale : 0;
    uint32_t max = (uint32_t)UINT16_MAX << scale;
    uint32_t wnd = offered;

    /* The right edge never moves back, and it moves on only by a worthwhile step (RFC 9293 3.8.6.2.2). */
    if (room > offered && (offered >= room / 2 || room - offered >= window_update_min(c)))
        wnd = room;
    if (wnd > max)
        wnd = max;
    wnd = wnd >> scale << scale;
    /* What was offered and is no multiple of the unit is rounded up where the ring has the room. */
    if (wnd < offered && wnd + (1u << scale) <= room && wnd + (1u << scale) <= max)
        wnd += 1u << scale;
    if (seq_gt(c->rcv_nxt + wnd, c->rcv_adv))
        c->rcv_adv = c->rcv_nxt + wnd;
    return wnd >> scale;
}

/* How far the application must have read for an update to be worth a segment of its own. */
static inline uint32_t window_notify_step(const struct tcp_conn *c)
{
    uint32_t quarter = window_max(c) / 4;
    uint32_t min = window_update_min(c);

    return quarter > min ? quarter : min;
}

/* rx_head from which the application kicks: there an update of the window is worth a segment. */
static inline uint64_t window_notify(struct engine *e, struct tcp_conn *c)
{
    uint32_t offered = c->rcv_adv - c->rcv_nxt;
    uint64_t at = c->s.rx.tail + offered + window_notify_step(c);
    uint64_t size = window_bytes(c);

    /* Nothing to gain by an update: after the FIN, or when the header field can't say more. */
    if (c->state < TCPS_ESTABLISHED || c->flags & TF_FIN_RCVD ||
        offered + window_notify_step(c) > window_max(c))
        return UINT64_MAX;
    at = at < size ? 0 : at - size;
    /* What holds the window back during a switch is the offset of the switch. */
    if (c->s.rx.flags & RING_NEXT && at < ring_next_of(e, &c->s, &c->s.rx)->at)
        at = ring_next_of(e, &c->s, &c->s.rx)->at;
    return at;
}

/* RFC 9293 3.10.7.4: update the window from a segment that is not older than the last that did. */
static inline void window_update(struct tcp_conn *c, uint32_t seq, uint32_t ack, uint32_t wnd)
{
    if (seq_gt(c->snd_wl1, seq) || (c->snd_wl1 == seq && seq_gt(c->snd_wl2, ack)))
        return;
    c->snd_wnd = wnd;
    c->snd_wl1 = seq;
    c->snd_wl2 = ack;
    if (wnd > c->snd_wnd_max)
        c->snd_wnd_max = wnd;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scoreboard: what the peer has, by SACK (RFC 2018), D-SACK (RFC 2883) and cumulative ACK.
 *
 * A SACK block may name any place in a flight of thousands of segments, and every ACK may bring four of them.
 * Blocks are taken in the order of the stream; a block goes on where the last one ended, and only by what it
 * has grown since the last ACK. What is left of the walk is bounded by SACK_STEPS_MAX an ACK; beyond it the
 * peer's next ACK, which says the same again, goes on from there.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

#define SACK_STEPS_MAX 1024u

/* ---- Newly delivered segments ----------------------------------------------------------------------- */

/* The peer has a segment that it had not acknowledged in any way so far. */
static void delivered(struct engine *e, struct tcp_conn *c, const struct tx_seg *t, struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);

    tcp_rack_delivered(e, c, t, a);
    if (t->flags & TXS_PROBE)
        tcp_probe_arrived(e, c);
    /* RFC 8985 6.2 step 3: something sent later was delivered before. */
    if (!t->retrans && c->flags & TF_SACK && seq_lt(t->end, a->fack)) {
        c->flags |= TF_REORDER;
        if (a->late < a->fack - t->start)
            a->late = a->fack - t->start;
    }
    if (!t->retrans && seq_le(t->end, f->recover))
        a->orig_acked = true;
    f->fack = seq_max(f->fack, t->end);
    c->delivered += seg_len(t);
    a->delivered_bytes += seg_len(t);
    if (has_path(c))
        rate_delivered(e, c, (uint32_t)(t - e->tcp.segs), seg_len(t));
}

static void sack_seg(struct engine *e, struct tcp_conn *c, uint32_t i, struct tcp_acked *a)
{
    const struct tx_seg *t = seg_at(e, i);

    delivered(e, c, t, a);
    tcp_seg_mark(e, flight_mut(e, c), i, TXS_SACKED);
    a->sacked_bytes += seg_len(t);
}

/* ---- Blocks ----------------------------------------------------------------------------------------- */

/* Where inside `t` a block's edge may cut: at a multiple of the MSS from its start, so that what is sent
 * again later are whole segments. 0: nowhere. */
static uint32_t cut_point(const struct tcp_conn *c, const struct tx_seg *t, uint32_t edge, bool up)
{
    uint32_t off = edge - t->start;

    off = up ? (off + c->mss - 1) / c->mss * c->mss : off / c->mss * c->mss;
    return off && off < seg_len(t) ? t->start + off : 0;
}

/* The part of segment i that [start, end) covers is delivered. */
static void sack_part(struct engine *e, struct tcp_conn *c, uint32_t i, uint32_t start, uint32_t end,
                      struct tcp_acked *a)
{
    const struct tx_seg *t = seg_at(e, i);
    uint32_t cut;

    if (seq_lt(t->start, start)) { /* The front stays; the rest comes next in the list. */
        cut = cut_point(c, t, start, true);
        if (cut)
            (void)tcp_seg_split(e, c, i, cut); /* Without a record the whole counts as not delivered. */
        return;
    }
    if (seq_gt(t->end, end)) {
        cut = cut_point(c, t, end, false);
        if (!cut || !tcp_seg_split(e, c, i, cut))
            return;
    }
    sack_seg(e, c, i, a);
}

/* What of the block is not known from the last ACK begins here. */
static uint32_t block_news(const struct tx_flight *f, const struct tcp_sack_block *b)
{
    uint32_t from = b->start;

    for (uint32_t i = 0; i < f->seen_count; i++)
        if (seq_le(f->seen[i].start, b->start) && seq_gt(f->seen[i].end, from))
            from = f->seen[i].end;
    return from;
}

/* False: too many steps. */
static bool sack_block(struct engine *e, struct tcp_conn *c, const struct tcp_sack_block *b,
                       struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);
    uint32_t from = block_news(f, b);
    uint32_t i = f->seg_head;

    if (seq_ge(from, b->end))
        return true;
    if (f->sack_hint != NIL && seq_le(seg_at(e, f->sack_hint)->start, from))
        i = f->sack_hint;
    for (; i != NIL && seq_lt(seg_at(e, i)->start, b->end); i = seg_at(e, i)->next) {
        const struct tx_seg *t = seg_at(e, i);

        f->sack_hint = i;
        if (e->tcp.sack_steps++ >= SACK_STEPS_MAX) {
            stat_inc(&e->stats, ST_TCP_SACK_LIMIT);
            return false;
        }
        if (seq_gt(t->end, b->start) && !(t->flags & TXS_SACKED))
            sack_part(e, c, i, b->start, b->end, a);
    }
    return true;
}

/* The blocks that say something about the flight, in the order of the stream; returns their number. */
static unsigned sort_blocks(const struct tcp_conn *c, const struct tcp_seg *s, unsigned first,
                            struct tcp_sack_block b[TCP_SACK_MAX])
{
    uint32_t una = seq_max(c->snd_una, s->ack);
    unsigned n = 0;

    for (unsigned i = first; i < s->sack_count; i++) {
        struct tcp_sack_block v = s->sack[i];
        unsigned at = n;

        if (seq_ge(v.start, v.end) || seq_gt(v.end, c->snd_nxt) || seq_le(v.start, una))
            continue; /* Old, or about something that was never sent. */
        for (; at && seq_gt(b[at - 1].start, v.start); at--)
            b[at] = b[at - 1];
        b[at] = v;
        n++;
    }
    return n;
}

/* ---- Duplicates ------------------------------------------------------------------------------------- */

/* RFC 2883 4: the first block reports a duplicate if it lies below the ACK or inside the second block. */
static bool is_dsack(const struct tcp_seg *s)
{
    const struct tcp_sack_block *b = s->sack;

    if (seq_lt(b[0].start, s->ack))
        return true;
    return s->sack_count > 1 && seq_ge(b[0].start, b[1].start) && seq_le(b[0].end, b[1].end);
}

/* What was sent at all and lately, and as a whole on one side of the ACK. */
static bool dsack_valid(const struct tcp_conn *c, const struct tcp_seg *s)
{
    uint32_t start = s->sack[0].start, end = s->sack[0].end;

    if (seq_ge(start, end) || seq_gt(end, c->snd_nxt))
        return false;
    if (seq_lt(start, s->ack) && seq_gt(end, s->ack))
        return false;
    return seq_gt(end, c->snd_una - c->snd_wnd_max - 1);
}

static void take_dsack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a)
{
    uint32_t start = s->sack[0].start, end = s->sack[0].end;
    struct tx_flight *f;

    if (!dsack_valid(c, s)) {
        stat_inc(&e->stats, ST_TCP_DSACK_IGNORED);
        return;
    }
    stat_inc(&e->stats, ST_TCP_DSACK_RECV);
    tcp_rare_of(e, c)->dsacks++;
    a->dsack = true;
    a->dsack_end = end;
    tcp_rack_dsack(e, c);
    if (c->flight == NIL)
        return;
    f = flight_mut(e, c);
    if (f->undo_cwnd && seq_gt(end, f->undo_marker))
        f->undo_retrans -= end - start < f->undo_retrans ? end - start : f->undo_retrans;
}

void tcp_recovery_sack(struct engine *e, struct tcp_conn *c, const struct tcp_seg *s, struct tcp_acked *a)
{
    struct tcp_sack_block b[TCP_SACK_MAX];
    struct tx_flight *f;
    unsigned first, n;
    bool whole = true;

    e->tcp.sack_steps = 0;
    a->fack = flight_of(e, c)->fack;
    if (!(c->flags & TF_SACK) || !s->sack_count)
        return;
    first = is_dsack(s);
    if (first)
        take_dsack(e, c, s, a);
    if (!flight_of(e, c)->seg_count)
        return;
    n = sort_blocks(c, s, first, b);
    for (unsigned i = 0; i < n && whole; i++)
        whole = sack_block(e, c, &b[i], a);
    f = flight_mut(e, c);
    f->seen_count = whole ? (uint8_t)n : 0;
    memcpy(f->seen, b, f->seen_count * sizeof(b[0]));
}

/* ---- Cumulative ------------------------------------------------------------------------------------- */

void tcp_recovery_cum(struct engine *e, struct tcp_conn *c, uint32_t ack, struct tcp_acked *a)
{
    struct tx_flight *f = flight_mut(e, c);

    while (f->seg_count) {
        const struct tx_seg *t = seg_at(e, f->seg_head);

        if (seq_le(ack, t->start))
            break;
        if (seq_lt(ack, t->end)) {
            if (!(t->flags & TXS_SACKED)) {
                c->delivered += ack - t->start;
                a->delivered_bytes += ack - t->start;
                if (has_path(c))
                    rate_delivered(e, c, f->seg_head, ack - t->start);
                if (!t->retrans && seq_le(ack, f->recover))
                    a->orig_acked = true;
            }
            a->acked_bytes += ack - t->start;
            tcp_seg_trim(e, f, ack);
            break;
        }
        if (!(t->flags & TXS_SACKED))
            delivered(e, c, t, a);
        a->acked_bytes += seg_len(t);
        tcp_seg_pop(e, c);
    }
    f->fack = seq_max(f->fack, ack);
}

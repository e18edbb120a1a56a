/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of loss recovery share: a path of RTT_US, segments by number, ACKs and SACK blocks. */
#ifndef TEST_LOSS_H
#define TEST_LOSS_H

#include <criterion/criterion.h>

#include "daemon/engine/engine_int.h"
#include "tests/segment/peer.h"

#define MSS    1460u
#define RTT_US 40000u

static const struct peer_opts sack = {.mss = MSS, .wscale = 8, .sack = true, .wnd = 65535};
static const struct peer_opts plain = {.mss = MSS, .wscale = 8, .wnd = 65535};

/* Sequence number of segment n (1, 2, ...) of the stream. */
static inline uint32_t at(uint32_t n)
{
    return 1 + (n - 1) * MSS;
}

/* Time-outs are about loss here, and not about size (RFC 4821). */
static inline void same_size(struct engine_config *cfg)
{
    cfg->mtu_probing = ENGINE_NEVER;
}

/* Established over a path of RTT_US, which the handshake has measured. */
static inline void start_with(struct peer *p, void (*tweak)(struct engine_config *),
                              const struct peer_opts *o)
{
    int64_t slot;

    peer_start(p, tweak);
    peer_listen(p, 8);
    p->ts = o->ts;
    seg_send(p, (struct seg){.flags = TCP_SYN, .mss = o->mss, .wscale = o->wscale, .sack_perm = o->sack});
    seg_expect(p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    p->h.now_us += RTT_US;
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .wnd = o->wnd});
    slot = app_accept(&p->h, p->listener);
    cr_assert_gt(slot, 0);
    p->slot = (uint32_t)slot;
}

static inline void start(struct peer *p, const struct peer_opts *o)
{
    start_with(p, same_size, o);
}

/* The application writes n segments; those that the window allows go out. */
static inline unsigned write_segs(struct peer *p, uint32_t n)
{
    peer_write(p, n * MSS);
    return seg_drain(p);
}

static inline void ack(struct peer *p, uint32_t seq)
{
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = seq});
}

/* The peer holds segments [from, to) beyond a hole; `seq` is what it still waits for. */
static inline void sack_range(struct peer *p, uint32_t seq, uint32_t from, uint32_t to)
{
    seg_send(p,
             (struct seg){.flags = TCP_ACK, .seq = 1, .ack = seq, .sacks = 1, .sack = {{at(from), at(to)}}});
}

static inline struct engine_sock_info info(struct peer *p)
{
    struct engine_sock_info i;

    cr_assert(host_find(&p->h, "ESTABLISHED", &i));
    return i;
}

/* Grow the window to about n segments without loss, and leave nothing in flight; returns the next segment. */
static inline uint32_t grow(struct peer *p, uint32_t n)
{
    uint32_t seg = 1, written = 0;

    for (int i = 0; i < 100 && (info(p).cwnd_bytes < n * MSS || seg <= written); i++) {
        /* One segment more than fits, so that the window is what limits. */
        uint32_t more =
            info(p).cwnd_bytes < n * MSS ? info(p).cwnd_bytes / MSS + 1 - (written - (seg - 1)) : 0;

        if (more)
            peer_write(p, more * MSS);
        written += more;
        seg += seg_drain(p);
        p->h.now_us += RTT_US;
        host_run(&p->h);
        ack(p, at(seg));
    }
    cr_assert_geq(info(p).cwnd_bytes, n * MSS);
    cr_assert_eq(info(p).tx_queue, 0);
    return seg;
}

/* The only connection's record. */
static inline struct tcp_conn *conn(struct peer *p)
{
    for (uint32_t i = 0; i < p->h.e->tcp.conn_pool.high; i++)
        if (p->h.e->tcp.conns[i].s.kind == SK_TCP)
            return &p->h.e->tcp.conns[i];
    return NULL;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments around the edges of a connection in any state.
 *
 * The input's first bytes choose the options and the state that a connection is brought to; the rest is a
 * program: segments whose numbers are given relative to the valid ones, time, and calls of the application.
 * After each step all invariants are checked. Beside engine_check():
 *   - what the host sends is what its application wrote, each time it sends it;
 *   - what its application reads is what the peer's stream holds;
 *   - it never sends beyond the largest window that the peer has offered;
 *   - the right edge that it offers never moves back by a whole unit of the window scale;
 *   - it acknowledges nothing that the peer did not send.
 */
#include <errno.h>
#include <string.h>

#include "daemon/engine/seq.h"
#include "daemon/engine/wire/icmp6.h"
#include "daemon/engine/wire/ip6.h"
#include "tests/fuzz/fuzz.h"

#define PEER      1u
#define PEER_PORT 40000u
#define HOST_PORT 7u
#define PEER_ISN  0xfffff000u /* numbers wrap early in the connection */
#define STEPS_MAX 120u
#define WRITE_MAX 20000u
#define FAR       (1u << 26) /* farther ahead than any window */

struct world {
    struct host h;
    struct input *in;
    uint32_t listener, slot;
    bool accepted; /* `slot` may be used */
    bool dead;     /* the application has died */
    uint16_t host_port;
    uint8_t opt; /* OPT_* */
    bool ip6;    /* on the wire */
    uint32_t l4; /* offset of the TCP header in a frame */

    /* The host's side as its segments show it. */
    bool have_isn;
    uint32_t isn, nxt; /* nxt: past the last byte that it sent */
    uint32_t ack, wnd; /* of its last segment; wnd is scaled */
    bool have_edge;
    uint32_t edge; /* right edge of the window that it offered */
    uint8_t scale;
    uint32_t tsval; /* its last */

    /* The peer's side. */
    uint32_t una;     /* what it last acknowledged */
    uint32_t next;    /* where its stream goes on */
    uint32_t max;     /* past the highest sequence number that it sent */
    uint32_t wnd_max; /* the largest window that it offered; one may count from a later ACK than its own */
    bool loose; /* a SYN with any number and options went out: the rules of the connection are not known */
    uint64_t tx_off, rx_off;
    uint32_t ts;
    uint8_t frame[FUZZ_FRAME_MAX];
};

#define OPT_TS     (1u << 0)
#define OPT_WSCALE (1u << 1)
#define OPT_SACK   (1u << 2)
#define OPT_TSO    (1u << 3)
#define OPT_SMALL  (1u << 4) /* peer's MSS 100 */
#define OPT_RING   (1u << 5) /* smallest rings */
#define OPT_NODATA (1u << 6)
#define OPT_PORT   (1u << 7)

/* ---- What the host sends -------------------------------------------------------------------------- */

static void see_window(struct world *w, const struct tcp_seg *s)
{
    uint32_t wnd = (uint32_t)s->wnd << (s->flags & TCP_SYN ? 0 : w->scale);
    uint32_t edge = s->ack + wnd;

    if (!(s->flags & TCP_ACK) || s->flags & TCP_RST)
        return;
    if (!w->loose && seq_gt(s->ack, w->max))
        fuzz_fail("acknowledged %u bytes that were never sent", s->ack - w->max);
    if (!w->loose && w->have_edge && !(s->flags & TCP_SYN) && seq_lt(edge + (1u << w->scale) - 1, w->edge))
        fuzz_fail("the offered window shrank by %u", w->edge - edge);
    if (!w->have_edge || seq_gt(edge, w->edge))
        w->edge = edge;
    w->have_edge = true;
    if (seq_gt(s->ack, w->next))
        w->next = s->ack;
    w->ack = s->ack;
    w->wnd = wnd;
}

static void see_data(struct world *w, const struct tcp_seg *s)
{
    uint32_t end = s->seq + s->len + !!(s->flags & TCP_FIN);

    if (!w->have_isn || s->flags & (TCP_RST | TCP_SYN))
        return;
    if (s->len) {
        if (seq_le(s->seq, w->isn))
            fuzz_fail("data below the ISN");
        fuzz_pattern_check(s->data, s->len, s->seq - w->isn - 1, "sent");
        if (!w->loose && seq_gt(s->seq + s->len, w->una + w->wnd_max))
            fuzz_fail("sent %u bytes beyond the peer's window", s->seq + s->len - w->una - w->wnd_max);
    }
    if (seq_gt(end, w->nxt))
        w->nxt = end;
}

static void see(void *ctx, const struct pktbuf *f)
{
    struct world *w = ctx;
    struct tcp_seg s;

    if (get_be16(f->data + 12) != (w->ip6 ? ETH_TYPE_IP6 : ETH_TYPE_IP4) || f->data[w->ip6 ? 20 : 23] != 6)
        return;
    if (!tcp_parse(f->data + w->l4, f->len - w->l4, &s))
        fuzz_fail("a segment that does not parse");
    fuzz_trace("%10llu host > %#x seq %d ack %d len %u wnd %u port %u", (unsigned long long)w->h.now_us,
               s.flags, (int)(s.seq - w->isn), s.flags & TCP_ACK ? (int)(s.ack - PEER_ISN) : 0, s.len, s.wnd,
               s.sport);
    if (s.dport != PEER_PORT || s.sport != w->host_port)
        return;
    if (s.flags & TCP_SYN) {
        if (!w->have_isn || s.seq != w->isn) { /* A new incarnation. */
            w->isn = s.seq;
            w->nxt = s.seq + 1;
            w->una = s.seq;
            w->have_isn = true;
            w->wnd_max = 0;
        }
        w->scale = s.has_wscale && (w->opt & OPT_WSCALE) ? s.wscale : 0;
        w->have_edge = false; /* Its window is not scaled, and it may open a new incarnation. */
    }
    if (s.has_ts)
        w->tsval = s.tsval;
    see_window(w, &s);
    see_data(w, &s);
}

static void drain(struct world *w)
{
    fuzz_drain(&w->h, PEER, see, w);
}

/* ---- What the peer sends -------------------------------------------------------------------------- */

struct out {
    uint8_t flags;
    uint32_t seq, ack, len;
    uint16_t wnd;
    uint8_t opts[40];
    uint32_t opt_bytes; /* multiple of 4 */
    uint16_t gso;
};

static void put_ts(struct world *w, struct out *o, uint32_t val, uint32_t ecr)
{
    uint8_t *p = o->opts + o->opt_bytes;

    (void)w;
    if (o->opt_bytes + 12 > sizeof(o->opts))
        return;
    p[0] = p[1] = TCP_OPT_NOP;
    p[2] = TCP_OPT_TS;
    p[3] = 10;
    put_be32(p + 4, val);
    put_be32(p + 8, ecr);
    o->opt_bytes += 12;
}

static void put_syn_options(struct world *w, struct out *o)
{
    uint8_t *p = o->opts;

    memcpy(p, (uint8_t[]){TCP_OPT_MSS, 4, 0, 0}, 4);
    put_be16(p + 2, w->opt & OPT_SMALL ? 100 : 1460);
    o->opt_bytes = 4;
    if (w->opt & OPT_WSCALE) {
        memcpy(p + o->opt_bytes, (uint8_t[]){TCP_OPT_NOP, TCP_OPT_WSCALE, 3, 2}, 4);
        o->opt_bytes += 4;
    }
    if (w->opt & OPT_SACK) {
        memcpy(p + o->opt_bytes, (uint8_t[]){TCP_OPT_NOP, TCP_OPT_NOP, TCP_OPT_SACK_PERM, 2}, 4);
        o->opt_bytes += 4;
    }
    if (w->opt & OPT_TS)
        put_ts(w, o, w->ts, w->tsval);
}

static void send_out(struct world *w, struct out *o)
{
    uint8_t *t = w->frame + w->l4;
    uint32_t hdr = TCP_HDR_BYTES + o->opt_bytes;
    uint32_t end = o->seq + o->len + !!(o->flags & TCP_SYN) + !!(o->flags & TCP_FIN);
    struct pktbuf p = {.data = w->frame};
    size_t n;

    if (o->len > 60000)
        o->len = 60000;
    put_be16(t, PEER_PORT);
    put_be16(t + 2, w->host_port);
    put_be32(t + 4, o->seq);
    put_be32(t + 8, o->ack);
    t[12] = (uint8_t)(hdr / 4 << 4);
    t[13] = o->flags;
    put_be16(t + 14, o->wnd);
    put_be32(t + 16, 0);
    memcpy(t + 20, o->opts, o->opt_bytes);
    fuzz_pattern_fill(t + hdr, o->len, (uint32_t)(o->seq - PEER_ISN - 1));
    n = (w->ip6 ? fuzz_ip6 : fuzz_ip4)(w->frame, PEER, 6, hdr + o->len);
    fuzz_checksum(w->frame, n);
    p.len = p.total = (uint32_t)n;
    if (o->gso) {
        p.gso_type = w->ip6 ? PKT_GSO_TCP6 : PKT_GSO_TCP4;
        p.gso_size = o->gso;
    }
    if (seq_gt(end, w->max) && end - w->max < FAR)
        w->max = end;
    if (o->flags & TCP_ACK && w->nxt - o->ack < FAR) { /* Else it can't be a valid acknowledgment. */
        uint32_t wnd = (uint32_t)o->wnd << (o->flags & TCP_SYN || !(w->opt & OPT_WSCALE) ? 0 : 2);

        if (wnd > w->wnd_max)
            w->wnd_max = wnd;
        if (seq_gt(o->ack, w->una))
            w->una = o->ack;
    } else if (o->flags & TCP_SYN && o->wnd > w->wnd_max) {
        w->wnd_max = o->wnd;
    }
    fuzz_trace("%10llu peer < %#x seq %d ack %d len %u wnd %u opts %u", (unsigned long long)w->h.now_us,
               o->flags, (int)(o->seq - PEER_ISN), (int)(o->ack - w->isn), o->len, o->wnd, o->opt_bytes);
    host_rx(&w->h, &p);
}

/* A valid segment with these flags and this many bytes in order. */
static void send_valid(struct world *w, uint8_t flags, uint32_t len)
{
    struct out o = {
        .flags = flags, .seq = w->next, .ack = flags & TCP_ACK ? w->nxt : 0, .len = len, .wnd = 20000};

    if (flags & TCP_SYN) {
        o.seq = PEER_ISN;
        put_syn_options(w, &o);
    } else if (w->opt & OPT_TS) {
        put_ts(w, &o, w->ts, w->tsval);
    }
    w->next = o.seq + len + !!(flags & TCP_SYN) + !!(flags & TCP_FIN);
    send_out(w, &o);
    drain(w);
}

/* ---- States ----------------------------------------------------------------------------------------- */

static void app_write(struct world *w, uint32_t len)
{
    static uint8_t buf[WRITE_MAX];
    int64_t n;

    if (len > sizeof(buf))
        len = sizeof(buf);
    fuzz_pattern_fill(buf, len, w->tx_off);
    n = app_send(&w->h, w->slot, buf, len);
    if (n > 0)
        w->tx_off += (uint64_t)n;
}

static void app_read(struct world *w, uint32_t max)
{
    static uint8_t buf[65536];
    int64_t n = app_recv(&w->h, w->slot, buf, max < sizeof(buf) ? max : sizeof(buf));

    if (n <= 0)
        return;
    if (!w->loose)
        fuzz_pattern_check(buf, (size_t)n, w->rx_off, "received");
    w->rx_off += (uint64_t)n;
}

static void try_accept(struct world *w)
{
    int64_t s = w->accepted ? -1 : app_accept(&w->h, w->listener);

    if (s <= 0)
        return;
    w->slot = (uint32_t)s;
    w->accepted = true;
    w->tx_off = w->rx_off = 0;
}

static void open_listener(struct world *w)
{
    w->listener = app_socket(&w->h, SG_SOCK_STREAM);
    if (w->opt & OPT_RING) {
        (void)engine_setopt(w->h.e, w->h.sid, w->listener, 1, 7, 4096, w->h.now_us);
        (void)engine_setopt(w->h.e, w->h.sid, w->listener, 1, 8, 4096, w->h.now_us);
    }
    (void)app_bind(&w->h, w->listener, HOST_PORT);
    (void)app_listen(&w->h, w->listener, 2);
    w->host_port = HOST_PORT;
}

static void open_passive(struct world *w)
{
    open_listener(w);
    send_valid(w, TCP_SYN, 0);
    send_valid(w, TCP_ACK, 0);
    try_accept(w);
    drain(w);
}

static void start_active(struct world *w)
{
    struct engine_sock_info info;

    w->slot = app_socket(&w->h, SG_SOCK_STREAM);
    w->accepted = true;
    if (w->opt & OPT_PORT)
        (void)app_bind(&w->h, w->slot, 4000);
    if (w->opt & OPT_RING) {
        (void)engine_setopt(w->h.e, w->h.sid, w->slot, 1, 7, 4096, w->h.now_us);
        (void)engine_setopt(w->h.e, w->h.sid, w->slot, 1, 8, 4096, w->h.now_us);
    }
    if (app_connect(&w->h, w->slot, PEER, PEER_PORT))
        fuzz_fail("connect failed");
    if (!host_find(&w->h, "SYN_SENT", &info))
        fuzz_fail("not in SYN_SENT");
    w->host_port = info.local.port;
    drain(w);
}

static void leave(struct world *w, bool close)
{
    if (close) {
        (void)app_close(&w->h, w->slot);
        w->accepted = false;
    } else {
        (void)app_shutdown(&w->h, w->slot, SG_SHUT_WR);
    }
    drain(w);
}

#define STATE_IP6    0x40u
#define STATE_MAPPED 0x80u /* without STATE_IP6: IPv4 for IPv6 sockets */

/* Bring a connection to one of the states of RFC 9293 3.3.2. */
static void reach(struct world *w, uint8_t code)
{
    bool close = code & 0x10;
    bool active = code & 0x20;

    switch (code & 15) {
    case 0:
        open_listener(w);
        return;
    case 1:
        start_active(w);
        return;
    case 2:
        open_listener(w);
        send_valid(w, TCP_SYN, 0);
        return;
    case 3: /* simultaneous open */
        start_active(w);
        send_valid(w, TCP_SYN, 0);
        return;
    default:
        break;
    }
    if (active) {
        start_active(w);
        send_valid(w, TCP_SYN | TCP_ACK, 0);
    } else {
        open_passive(w);
    }
    if (!w->accepted)
        return;
    if (!(w->opt & OPT_NODATA)) {
        app_write(w, 300);
        drain(w);
        send_valid(w, TCP_ACK, 200);
        app_read(w, 1000);
    }
    switch (code & 15) {
    case 5: /* FIN_WAIT_1 */
        leave(w, close);
        break;
    case 6: /* FIN_WAIT_2 */
        leave(w, close);
        send_valid(w, TCP_ACK, 0);
        break;
    case 7: /* CLOSE_WAIT */
        send_valid(w, TCP_FIN | TCP_ACK, 0);
        break;
    case 8: { /* CLOSING */
        uint32_t nxt = w->nxt;

        leave(w, close);
        w->nxt = nxt;
        send_valid(w, TCP_FIN | TCP_ACK, 0);
        break;
    }
    case 9: /* LAST_ACK */
        send_valid(w, TCP_FIN | TCP_ACK, 0);
        leave(w, close);
        break;
    case 10: /* TIME_WAIT */
        leave(w, close);
        send_valid(w, TCP_FIN | TCP_ACK, 0);
        break;
    case 11: /* FIN_WAIT_1 with data before the FIN */
        app_write(w, 8000);
        leave(w, close);
        break;
    case 12: /* much in flight */
        app_write(w, WRITE_MAX);
        drain(w);
        break;
    case 13: /* holes in what was received */
        for (unsigned i = 0; i < 6; i++) {
            w->next += 100;
            send_valid(w, TCP_ACK, 50);
        }
        w->next -= 900;
        break;
    default: /* ESTABLISHED */
        break;
    }
}

/* ---- Steps ------------------------------------------------------------------------------------------- */

static uint32_t pick_seq(struct world *w)
{
    uint8_t code = take_u8(w->in);
    uint32_t off = take_u8(w->in);
    uint32_t base;

    switch (code & 15) {
    case 0:
        base = w->ack - 1;
        break;
    case 1:
        base = w->ack + w->wnd;
        break;
    case 2:
        base = w->ack + w->wnd - 1;
        break;
    case 3:
        base = w->ack + w->wnd + 1;
        break;
    case 4:
        base = w->next;
        break;
    case 5:
        base = PEER_ISN;
        break;
    case 6:
        base = w->ack - 0x7fffffffu;
        break;
    case 7:
        return take_u32(w->in);
    case 8:
        base = w->ack - off * 64;
        break;
    case 9:
        base = w->ack + off * 64;
        break;
    case 10:
        base = w->edge;
        break;
    default:
        base = w->ack;
        break;
    }
    return code & 0x10 ? base + off : code & 0x20 ? base - off : base;
}

static uint32_t pick_ack(struct world *w)
{
    uint8_t code = take_u8(w->in);
    uint32_t flight = w->nxt - w->una;

    switch (code & 7) {
    case 0:
        return w->una;
    case 1:
        return w->una + (flight ? take_u16(w->in) % (flight + 1) : 0);
    case 2:
        return w->nxt + 1;
    case 3:
        return w->una - take_u16(w->in);
    case 4:
        return take_u32(w->in);
    case 5:
        return w->una + (flight > 1460 ? 1460 : flight);
    default:
        return w->nxt;
    }
}

static uint32_t pick_len(struct world *w)
{
    switch (take_u8(w->in) & 7) {
    case 0:
        return 1;
    case 1:
        return take_u8(w->in);
    case 2:
        return 1460;
    case 3:
        return take_u16(w->in) % 20000;
    case 4:
        return w->wnd;
    case 5:
        return w->wnd + 1;
    default:
        return 0;
    }
}

static void put_sack(struct world *w, struct out *o)
{
    unsigned n = 1 + take_u8(w->in) % 4;
    uint32_t flight = w->nxt - w->una;
    uint8_t *p = o->opts + o->opt_bytes;

    while (n && o->opt_bytes + 4 + 8 * n > sizeof(o->opts))
        n--;
    if (!n)
        return;
    p[0] = p[1] = TCP_OPT_NOP;
    p[2] = TCP_OPT_SACK;
    p[3] = (uint8_t)(2 + 8 * n);
    for (unsigned i = 0; i < n; i++) {
        uint8_t code = take_u8(w->in);
        uint32_t unit = code & 1 ? 1 : (w->opt & OPT_SMALL ? 100 : 1460);
        uint32_t start = w->una + take_u8(w->in) * unit;
        uint32_t end = start + take_u8(w->in) * unit;

        if (code & 2 && flight)
            end = w->nxt;
        if (code & 4)
            start -= flight + 100;
        if (code & 8)
            end = take_u32(w->in);
        put_be32(p + 4 + 8 * i, start);
        put_be32(p + 8 + 8 * i, end);
    }
    o->opt_bytes += 4 + 8 * n;
}

static void put_options(struct world *w, struct out *o)
{
    uint8_t code = take_u8(w->in);

    if (w->opt & OPT_TS && !(code & 1)) {
        uint32_t val = w->ts;

        if (code & 2)
            val -= take_u8(w->in);
        if (code & 4)
            val += take_u32(w->in);
        put_ts(w, o, val, code & 8 ? take_u32(w->in) : w->tsval);
    }
    if (code & 0x10)
        put_sack(w, o);
    if (code & 0x20) {
        uint32_t n = 4 + take_u8(w->in) % 9 * 4u;

        if (o->opt_bytes + n <= sizeof(o->opts)) {
            (void)take_bytes(w->in, o->opts + o->opt_bytes, n);
            o->opt_bytes += n;
        }
    }
}

static void segment_step(struct world *w)
{
    static const uint8_t usual[16] = {
        TCP_ACK,           TCP_ACK | TCP_PSH, TCP_ACK | TCP_FIN, TCP_RST, TCP_RST | TCP_ACK, TCP_SYN,
        TCP_SYN | TCP_ACK, TCP_ACK | TCP_URG, TCP_ACK,           TCP_ACK, TCP_ACK,           TCP_ACK,
        TCP_ACK,           TCP_ACK | TCP_PSH, TCP_ACK | TCP_FIN, TCP_FIN};
    uint8_t code = take_u8(w->in);
    struct out o = {.flags = code & 0x80 ? take_u8(w->in) : usual[code & 15]};

    o.seq = pick_seq(w);
    o.ack = pick_ack(w);
    o.len = pick_len(w);
    o.wnd = code & 0x40 ? take_u16(w->in) : code & 0x20 ? 0 : 20000;
    if (o.len > 1460)
        o.gso = 1448;
    if (o.flags & TCP_SYN)
        w->loose = true;
    if (code & 0x10)
        put_options(w, &o);
    else if (w->opt & OPT_TS)
        put_ts(w, &o, w->ts, w->tsval);
    send_out(w, &o);
}

/* Ports and sequence number of the segment that an ICMP error quotes; `q` is where it starts. */
static void quote_tcp(struct world *w, uint8_t *q, uint8_t code)
{
    put_be16(q, w->host_port);
    put_be16(q + 2, PEER_PORT);
    put_be32(q + 4, w->una + (code & 4 ? take_u16(w->in) : 0));
}

/* An ICMP error that quotes the connection. */
static void icmp4_step(struct world *w)
{
    uint8_t *ic = w->frame + 34;
    uint8_t *q = ic + 8;
    uint8_t code = take_u8(w->in);
    size_t n;

    memset(ic, 0, 36);
    ic[0] = code & 1 ? 3 : take_u8(w->in);
    ic[1] = code & 2 ? 4 : take_u8(w->in);
    put_be16(ic + 6, take_u16(w->in));
    (void)fuzz_ip4(w->frame + 28, 2, 6, 8); /* the quote: addresses the other way round */
    memcpy(q + 12, (uint8_t[]){192, 0, 2, 2, 192, 0, 2, PEER}, 8);
    quote_tcp(w, q + 20, code);
    n = fuzz_ip4(w->frame, PEER, 1, 36);
    fuzz_checksum(w->frame, n);
    host_rx_bytes(&w->h, w->frame, n);
}

static void icmp6_step(struct world *w)
{
    uint8_t *ic = w->frame + 54;
    uint8_t *q = ic + 8;
    uint8_t code = take_u8(w->in);
    size_t n;

    memset(ic, 0, 56);
    ic[0] = code & 1 ? (uint8_t)ICMP6_TOO_BIG : (uint8_t)(1 + take_u8(w->in) % 4);
    ic[1] = code & 2 ? 0 : take_u8(w->in);
    put_be32(ic + 4, take_u16(w->in));
    (void)fuzz_ip6(q - ETH_HDR_BYTES, 2, 6, 8);
    q[39] = PEER; /* from the host to the peer */
    quote_tcp(w, q + IP6_HDR_BYTES, code);
    n = fuzz_ip6(w->frame, PEER, IP6_NH_ICMP, 56);
    fuzz_checksum(w->frame, n);
    host_rx_bytes(&w->h, w->frame, n);
}

static void option_step(struct world *w)
{
    static const uint8_t names[][2] = {{6, 1},  {6, 3},  {1, 9},  {6, 4}, {6, 5}, {6, 6},
                                       {6, 18}, {1, 13}, {6, 12}, {6, 2}, {1, 7}, {1, 8}};
    uint8_t code = take_u8(w->in) % (sizeof(names) / sizeof(names[0]));

    (void)engine_setopt(w->h.e, w->h.sid, w->slot, names[code][0], names[code][1], take_u16(w->in),
                        w->h.now_us);
}

static void app_step(struct world *w)
{
    switch (take_u8(w->in) & 7) {
    case 0:
    case 1:
        app_write(w, take_u16(w->in));
        break;
    case 2:
        app_read(w, take_u16(w->in));
        break;
    case 3:
        app_read(w, UINT32_MAX);
        break;
    case 4:
        (void)app_shutdown(&w->h, w->slot, take_u8(w->in));
        break;
    case 5:
        option_step(w);
        break;
    case 6:
        (void)engine_release(w->h.e, w->h.sid, w->slot);
        (void)engine_grant(w->h.e, w->h.sid, w->slot);
        host_run(&w->h);
        break;
    default:
        (void)app_close(&w->h, w->slot);
        w->accepted = false;
        break;
    }
}

static void step(struct world *w)
{
    uint8_t code = take_u8(w->in);

    fuzz_trace("step %#x", code);
    switch (code & 15) {
    case 0:
    case 1:
        if (w->accepted)
            app_step(w);
        else if (!w->dead)
            try_accept(w);
        break;
    case 2: {
        uint64_t us = fuzz_duration_us(take_u8(w->in));

        w->ts += (uint32_t)(us / 1000);
        fuzz_wait(&w->h, us, PEER, see, w);
        break;
    }
    case 3:
        send_valid(w, TCP_ACK, 0); /* all is acknowledged */
        break;
    case 4:
        send_valid(w, TCP_ACK, take_u8(w->in) * 8u);
        break;
    case 5:
        if (w->ip6)
            icmp6_step(w);
        else
            icmp4_step(w);
        break;
    case 6:
        if (w->dead)
            break;
        if (code & 0x20) { /* It dies; what it leaves behind goes on. */
            engine_session_end(w->h.e, w->h.sid, w->h.now_us);
            w->dead = true;
            w->accepted = false;
            w->listener = 0;
        } else if (w->listener && code & 0x10) {
            (void)app_close(&w->h, w->listener);
            w->listener = 0;
        } else if (!w->listener && !w->accepted && w->host_port == HOST_PORT) {
            open_listener(w);
        }
        break;
    case 7:
        if (!w->accepted && w->listener)
            send_valid(w, TCP_SYN, 0);
        break;
    default:
        segment_step(w);
        break;
    }
    if (!(code & 0x80)) /* else the next step finds the segments of this one still unsent */
        drain(w);
}

/* IPv4, IPv6, or IPv4 into IPv6 sockets. */
static void choose_family(struct world *w, struct engine_config *cfg, uint8_t state)
{
    struct engine_addr a = {.addr = {.ip = {0x20, 0x01, 0x0d, 0xb8, [15] = 2}, .family = SG_AF_INET6},
                            .prefix = 64};

    w->ip6 = state & STATE_IP6;
    w->l4 = w->ip6 ? 54 : 34;
    if (!(state & (STATE_IP6 | STATE_MAPPED)))
        return;
    cfg->ifs[0].ip6 = true;
    cfg->dad_transmits = 0;
    cfg->addrs[cfg->addr_count++] = a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct input in = {data, size};
    struct engine_config cfg;
    uint8_t state;

    memset(&w, 0, offsetof(struct world, frame));
    w.in = &in;
    w.opt = take_u8(&in);
    state = take_u8(&in);
    w.max = w.next = PEER_ISN;
    w.ack = PEER_ISN + 1;
    w.ts = 1000;
    fuzz_config(&cfg);
    if (w.opt & OPT_TSO) {
        cfg.ifs[0].offloads = ENGINE_TX_CSUM | ENGINE_TX_TSO4 | ENGINE_TX_TSO6;
        cfg.ifs[0].tx_frame_max = 65549;
    }
    choose_family(&w, &cfg, state);
    host_start(&w.h, &cfg, 1000000);
    if (state & (STATE_IP6 | STATE_MAPPED))
        w.h.family = SG_AF_INET6;
    w.h.mapped = !w.ip6;
    reach(&w, state);
    fuzz_check(&w.h);
    for (unsigned i = 0; i < STEPS_MAX && in.left; i++) {
        step(&w);
        fuzz_check(&w.h);
    }
    fuzz_stop(&w.h);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/segment/peer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "daemon/engine/csum.h"

static const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t host_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t peer_ip[4] = {192, 0, 2, 1};
static const uint8_t host_ip[4] = {192, 0, 2, 2};

void pattern_fill(uint8_t *buf, uint32_t seq, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        buf[i] = (uint8_t)((seq + i) * 2654435761u >> 24);
}

static uint32_t put_opts(struct peer *p, const struct seg *s, uint8_t *o)
{
    uint8_t *start = o;

    if (s->mss) {
        o[0] = TCP_OPT_MSS;
        o[1] = 4;
        put_be16(o + 2, s->mss);
        o += 4;
    }
    if (s->wscale) {
        o[0] = TCP_OPT_NOP;
        o[1] = TCP_OPT_WSCALE;
        o[2] = 3;
        o[3] = (uint8_t)(s->wscale - 1);
        o += 4;
    }
    if (s->sack_perm) {
        o[0] = o[1] = TCP_OPT_NOP;
        o[2] = TCP_OPT_SACK_PERM;
        o[3] = 2;
        o += 4;
    }
    if (s->tsval || s->tsecr || p->ts) {
        o[0] = o[1] = TCP_OPT_NOP;
        o[2] = TCP_OPT_TS;
        o[3] = 10;
        put_be32(o + 4, s->tsval ? s->tsval : (uint32_t)(p->h.now_us / 1000));
        put_be32(o + 8, s->tsecr ? s->tsecr : p->ts_last);
        o += 12;
    }
    if (s->sacks) {
        o[0] = o[1] = TCP_OPT_NOP;
        o[2] = TCP_OPT_SACK;
        o[3] = (uint8_t)(2 + 8 * s->sacks);
        o += 4;
        for (unsigned i = 0; i < s->sacks; i++, o += 8) {
            put_be32(o, p->host_isn + s->sack[i].start);
            put_be32(o + 4, p->host_isn + s->sack[i].end);
        }
    }
    if (s->fo) {
        o[0] = TCP_OPT_FASTOPEN;
        o[1] = (uint8_t)(2 + s->fo_len);
        memcpy(o + 2, s->cookie, s->fo_len);
        o += 2 + s->fo_len;
        while ((o - start) % 4)
            *o++ = TCP_OPT_NOP;
    }
    return (uint32_t)(o - start);
}

static uint32_t frame_from(struct peer *p, const uint8_t from[4], struct seg s, uint8_t *f)
{
    uint8_t *ip = f + 14;
    uint8_t *t = ip + 20;
    uint32_t hdr = 20 + put_opts(p, &s, t + 20);
    uint32_t l4 = hdr + s.len;
    uint16_t sum;

    memcpy(f, host_mac, 6);
    memcpy(f + 6, peer_mac, 6);
    put_be16(f + 12, 0x0800);
    memset(ip, 0, 20);
    ip[0] = 0x45;
    ip[1] = s.tos;
    put_be16(ip + 2, (uint16_t)(20 + l4));
    ip[8] = 64;
    ip[9] = 6;
    memcpy(ip + 12, from, 4);
    memcpy(ip + 16, host_ip, 4);
    sum = csum_finish(csum_partial(ip, 20));
    memcpy(ip + 10, &sum, 2);
    put_be16(t, p->peer_port);
    put_be16(t + 2, p->host_port);
    put_be32(t + 4, PEER_ISN + s.seq);
    put_be32(t + 8, s.flags & TCP_ACK ? p->host_isn + s.ack : 0);
    t[12] = (uint8_t)(hdr / 4 << 4);
    t[13] = s.flags;
    put_be16(t + 14, s.wnd ? s.wnd : s.flags & TCP_RST || s.zero_wnd ? 0 : 65535);
    memset(t + 16, 0, 4);
    pattern_fill(t + hdr, s.seq + !!(s.flags & TCP_SYN), s.len);
    sum = csum_finish(csum_add(csum_pseudo4(from, host_ip, 6, l4), csum_partial(t, l4)));
    memcpy(t + 16, &sum, 2);
    return 34 + l4;
}

uint32_t peer_frame(struct peer *p, struct seg s, uint8_t *f)
{
    return frame_from(p, peer_ip, s, f);
}

void seg_send_from(struct peer *p, const uint8_t from[4], struct seg s)
{
    static uint8_t f[65536 + 128];

    host_rx_bytes(&p->h, f, frame_from(p, from, s, f));
}

void seg_send(struct peer *p, struct seg s)
{
    seg_send_from(p, peer_ip, s);
}

void peer_icmp(struct peer *p, uint8_t type, uint8_t code, uint16_t mtu, uint32_t seq, uint16_t quoted)
{
    uint8_t f[14 + 20 + 8 + 28] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 8, 0};
    uint8_t *ip = f + 14, *ic = ip + 20, *q = ic + 8;
    uint16_t sum;

    ip[0] = q[0] = 0x45;
    put_be16(ip + 2, 56);
    ip[8] = q[8] = 64;
    ip[9] = 1;
    memcpy(ip + 12, (uint8_t[]){192, 0, 2, 9, 192, 0, 2, 2}, 8);
    ic[0] = type;
    ic[1] = code;
    put_be16(ic + 6, mtu);
    put_be16(q + 2, quoted);
    q[6] = 0x40;
    q[9] = 6;
    memcpy(q + 12, (uint8_t[]){192, 0, 2, 2, 192, 0, 2, 1}, 8);
    put_be16(q + 20, p->host_port);
    put_be16(q + 22, p->peer_port);
    put_be32(q + 24, p->host_isn + seq);
    sum = csum_finish(csum_partial(q, 20));
    memcpy(q + 10, &sum, 2);
    sum = csum_finish(csum_partial(ic, 36));
    memcpy(ic + 2, &sum, 2);
    sum = csum_finish(csum_partial(ip, 20));
    memcpy(ip + 10, &sum, 2);
    host_rx_bytes(&p->h, f, sizeof(f));
}

/* The host asks who has the peer's address. */
static void answer_arp(struct peer *p, const uint8_t *f)
{
    uint8_t a[42];

    if (memcmp(f + 38, peer_ip, 4) != 0)
        return;
    memcpy(a, host_mac, 6);
    memcpy(a + 6, peer_mac, 6);
    memcpy(a + 12, f + 12, 8);
    put_be16(a + 20, 2);
    memcpy(a + 22, peer_mac, 6);
    memcpy(a + 28, peer_ip, 4);
    memcpy(a + 32, host_mac, 6);
    memcpy(a + 38, host_ip, 4);
    host_rx_bytes(&p->h, a, sizeof(a));
}

/* Next TCP frame of the host; ARP is dealt with on the way. */
static bool next_tcp(struct peer *p, struct tcp_seg *s)
{
    struct pktbuf *f;

    if (p->have) {
        *s = p->next;
        p->have = false;
        return true;
    }
    while ((f = host_tx(&p->h))) {
        if (get_be16(f->data + 12) == 0x0806) {
            answer_arp(p, f->data);
            continue;
        }
        cr_assert_eq(get_be16(f->data + 12), 0x0800);
        if (f->data[14 + 9] != 6)
            continue;
        cr_assert_eq(csum_fold(csum_partial(f->data + 14, 20)), 0xffff, "IP header checksum");
        if (!(f->flags & PKT_CSUM_PARTIAL))
            cr_assert_eq(csum_fold(csum_add(csum_pseudo4(host_ip, peer_ip, 6, f->len - 34),
                                            csum_partial(f->data + 34, f->len - 34))),
                         0xffff, "TCP checksum");
        cr_assert(tcp_parse(f->data + 34, f->len - 34, s));
        s->len = f->total - 34 - s->hdr_len;
        p->last_tos = f->data[15];
        p->last_gso = f->gso_size;
        p->last_id = get_be16(f->data + 18);
        p->last_df = f->data[20] & 0x40;
        return true;
    }
    return false;
}

struct seg seg_take(struct peer *p)
{
    struct tcp_seg t;
    struct seg s = {0};

    cr_assert(next_tcp(p, &t), "the host sent nothing");
    if (t.flags & TCP_SYN)
        p->host_isn = t.seq;
    s.flags = t.flags;
    s.tos = p->last_tos;
    s.seq = t.seq - p->host_isn;
    s.ack = t.flags & TCP_ACK ? t.ack - PEER_ISN : 0;
    s.len = t.len;
    s.wnd = t.wnd;
    s.mss = t.has_mss ? t.mss : 0;
    s.wscale = t.has_wscale ? t.wscale + 1 : 0;
    s.sack_perm = t.sack_perm;
    s.tsval = t.has_ts ? t.tsval : 0;
    s.tsecr = t.has_ts ? t.tsecr : 0;
    if (t.has_ts)
        p->ts_last = t.tsval;
    s.fo = t.has_fo;
    s.fo_len = t.has_fo ? t.fo_len : 0;
    if (s.fo_len)
        memcpy(s.cookie, t.fo, s.fo_len);
    s.sacks = t.sack_count;
    for (unsigned i = 0; i < s.sacks; i++) {
        s.sack[i].start = t.sack[i].start - PEER_ISN;
        s.sack[i].end = t.sack[i].end - PEER_ISN;
    }
    return s;
}

bool seg_next(struct peer *p, struct seg *ret)
{
    p->have = p->have || next_tcp(p, &p->next);
    if (p->have)
        *ret = seg_take(p);
    else
        memset(ret, 0, sizeof(*ret));
    return ret->flags;
}

struct seg seg_expect_at(struct peer *p, struct seg want, const char *file, int line)
{
    struct seg got;

    cr_assert(seg_next(p, &got), "%s:%d: the host sent nothing", file, line);
    if (want.check & C_FLAGS || want.flags)
        cr_assert_eq(got.flags & ~TCP_PSH, want.flags & ~TCP_PSH, "%s:%d: flags %#x, expected %#x", file,
                     line, got.flags, want.flags);
    if (want.check & C_TOS || want.tos)
        cr_assert_eq(got.tos, want.tos, "%s:%d: TOS %#x, expected %#x", file, line, got.tos, want.tos);
    if (want.check & C_SEQ || want.seq)
        cr_assert_eq(got.seq, want.seq, "%s:%d: seq %u, expected %u", file, line, got.seq, want.seq);
    if (want.check & C_ACK || want.ack)
        cr_assert_eq(got.ack, want.ack, "%s:%d: ack %u, expected %u", file, line, got.ack, want.ack);
    if (want.check & C_LEN || want.len)
        cr_assert_eq(got.len, want.len, "%s:%d: len %u, expected %u", file, line, got.len, want.len);
    if (want.check & C_WND || want.wnd)
        cr_assert_eq(got.wnd, want.wnd, "%s:%d: wnd %u, expected %u", file, line, got.wnd, want.wnd);
    if (want.check & C_SACK || want.sacks) {
        cr_assert_eq(got.sacks, want.sacks, "%s:%d: %u SACK blocks, expected %u", file, line, got.sacks,
                     want.sacks);
        for (unsigned i = 0; i < want.sacks; i++)
            cr_assert(got.sack[i].start == want.sack[i].start && got.sack[i].end == want.sack[i].end,
                      "%s:%d: SACK block %u is %u-%u, expected %u-%u", file, line, i, got.sack[i].start,
                      got.sack[i].end, want.sack[i].start, want.sack[i].end);
    }
    return got;
}

void seg_none_at(struct peer *p, const char *file, int line)
{
    struct tcp_seg s;

    if (next_tcp(p, &s))
        cr_assert_fail("%s:%d: the host sent flags %#x seq %u ack %u len %u", file, line, s.flags,
                       s.seq - p->host_isn, s.ack - PEER_ISN, s.len);
}

unsigned seg_drain(struct peer *p)
{
    struct tcp_seg s;
    unsigned n = 0;

    while (next_tcp(p, &s))
        n++;
    return n;
}

uint64_t peer_wait_tx(struct peer *p, uint64_t us)
{
    uint64_t start = p->h.now_us;
    uint64_t end = start + us;

    while (p->h.now_us < end && !(p->have = p->have || next_tcp(p, &p->next))) {
        uint64_t next = engine_deadline(p->h.e);

        p->h.now_us = next > end ? end : next > p->h.now_us ? next : p->h.now_us + 1;
        host_run(&p->h);
    }
    return p->h.now_us - start;
}

void peer_wait(struct peer *p, uint64_t us)
{
    uint64_t end = p->h.now_us + us;

    while (p->h.now_us < end) {
        uint64_t next = engine_deadline(p->h.e);

        p->h.now_us = next > end ? end : next > p->h.now_us ? next : p->h.now_us + 1;
        host_run(&p->h);
    }
}

void peer_start(struct peer *p, void (*tweak)(struct engine_config *))
{
    struct engine_config cfg;

    memset(p, 0, sizeof(*p));
    host_config(&cfg, 2);
    if (tweak)
        tweak(&cfg);
    host_start(&p->h, &cfg, 1000000);
    p->host_port = HOST_PORT;
    p->peer_port = PEER_PORT;
}

void peer_stop(struct peer *p)
{
    const char *bad;

    cr_assert_null(p->h.fault, "session fault: %s", p->h.fault);
    bad = engine_check(p->h.e);
    cr_assert_null(bad, "%s", bad);
    bad = host_stop(&p->h);
    cr_assert_null(bad, "%s", bad);
}

void peer_listen(struct peer *p, uint32_t backlog)
{
    p->listener = app_socket(&p->h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p->h, p->listener, HOST_PORT), 0);
    cr_assert_eq(app_listen(&p->h, p->listener, backlog), 0);
}

static const struct peer_opts plain = {.mss = 1460, .sack = true, .wnd = 65535};

static void send_syn(struct peer *p, const struct peer_opts *o)
{
    p->ts = o->ts;
    seg_send(p,
             (struct seg){
                 .flags = TCP_SYN, .mss = o->mss, .wscale = o->wscale, .sack_perm = o->sack, .wnd = o->wnd});
    seg_expect(p, .flags = TCP_SYN | TCP_ACK, .check = C_SEQ, .ack = 1);
}

void peer_syn_received(struct peer *p)
{
    peer_listen(p, 8);
    send_syn(p, &plain);
}

void peer_established_opts(struct peer *p, const struct peer_opts *o)
{
    int64_t slot;

    peer_listen(p, 8);
    send_syn(p, o);
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .wnd = o->wnd});
    seg_none(p);
    slot = app_accept(&p->h, p->listener);
    cr_assert_gt(slot, 0);
    p->slot = (uint32_t)slot;
    cr_assert(app_connected(&p->h, p->slot));
}

void peer_established(struct peer *p)
{
    peer_established_opts(p, &plain);
}

void peer_connecting(struct peer *p)
{
    struct engine_sock_info info;

    p->slot = app_socket(&p->h, SG_SOCK_STREAM);
    cr_assert_eq(app_connect(&p->h, p->slot, 1, PEER_PORT), 0);
    cr_assert(host_find(&p->h, "SYN_SENT", &info));
    p->host_port = info.local.port;
    seg_expect(p, .flags = TCP_SYN);
}

void peer_connected(struct peer *p)
{
    peer_connecting(p);
    seg_send(p, (struct seg){.flags = TCP_SYN | TCP_ACK, .seq = 0, .ack = 1, .mss = 1460, .sack_perm = true});
    seg_expect(p, .flags = TCP_ACK, .seq = 1, .ack = 1, .check = C_LEN);
    cr_assert(app_connected(&p->h, p->slot));
}

const char *peer_state(struct peer *p)
{
    struct engine_sock_info info;
    const char *state = "";
    uint64_t cursor = 0;

    /* A closed record that its application still holds may stand beside the TIME_WAIT that it left. */
    while (engine_sock_next(p->h.e, &cursor, p->h.now_us, &info))
        if (info.kind != ENGINE_SOCK_LISTEN && info.kind != ENGINE_SOCK_UDP &&
            info.remote.port == p->peer_port && (!*state || strcmp(state, "CLOSED") == 0))
            state = info.state;
    return state;
}

uint32_t peer_read_all(struct peer *p, uint32_t *seq)
{
    static uint8_t got[65536], want[65536];
    uint32_t total = 0;
    int64_t n;

    while ((n = app_recv(&p->h, p->slot, got, sizeof(got))) > 0) {
        pattern_fill(want, *seq, (uint32_t)n);
        cr_assert_arr_eq(got, want, (size_t)n, "received bytes differ from what was sent");
        *seq += (uint32_t)n;
        total += (uint32_t)n;
    }
    return total;
}

void peer_write(struct peer *p, uint32_t len)
{
    static uint8_t buf[1 << 18];

    cr_assert_leq(len, sizeof(buf));
    for (uint32_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(p->tx_pattern + i);
    p->tx_pattern += len;
    cr_assert_eq(app_send(&p->h, p->slot, buf, len), len);
}

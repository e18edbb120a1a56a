/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/csum.h"
#include "daemon/engine/wire/icmp6.h"
#include "daemon/engine/wire/ip6.h"

static const uint8_t host_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t net4[3] = {192, 0, 2};
static const uint8_t net6[15] = {0x20, 0x01, 0x0d, 0xb8};

/* More frames than any input can ask for in one go: the host talks to itself. */
#define DRAIN_MAX 20000u
/* Timer wake-ups without time moving on. */
#define SPIN_MAX  1000u
/* Wake-ups in one wait; a duration of hours may stop short of its end. */
#define WAKE_MAX  400u

void fuzz_fail(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    (void)fputs("fuzz: ", stderr);
    (void)vfprintf(stderr, format, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
    abort();
}

void fuzz_trace(const char *format, ...)
{
    static int on = -1;
    va_list ap;

    if (on < 0)
        on = getenv("FUZZ_TRACE") != NULL;
    if (!on)
        return;
    va_start(ap, format);
    (void)vfprintf(stderr, format, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
}

uint8_t take_u8(struct input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->p++;
}

uint16_t take_u16(struct input *in)
{
    uint16_t hi = take_u8(in);

    return (uint16_t)(hi << 8 | take_u8(in));
}

uint32_t take_u32(struct input *in)
{
    uint32_t hi = take_u16(in);

    return hi << 16 | take_u16(in);
}

uint64_t take_u64(struct input *in)
{
    uint64_t hi = take_u32(in);

    return hi << 32 | take_u32(in);
}

size_t take_bytes(struct input *in, uint8_t *buf, size_t max)
{
    size_t n = in->left < max ? in->left : max;

    if (n)
        memcpy(buf, in->p, n);
    memset(buf + n, 0, max - n);
    in->p += n;
    in->left -= n;
    return n;
}

void fuzz_config(struct engine_config *cfg)
{
    host_config(cfg, 2);
    cfg->conn_max = 12;
    cfg->listen_max = 4;
    cfg->udp_max = 4;
    cfg->req_max = 6;
    cfg->tw_max = 4;
    cfg->session_max = 3;
    cfg->neigh_max = 4;
    cfg->range_max = 24;
    cfg->txseg_max = 48;
    cfg->flight_max = 4;
    cfg->reasm_max = 3;
    cfg->frag_max = 3;
    cfg->pkt_max = 64;
    cfg->port_min = 50000;
    cfg->port_max = 50007;
}

void fuzz_check(struct host *h)
{
    const char *bad = engine_check(h->e);

    if (bad)
        fuzz_fail("engine_check: %s", bad);
    if (h->fault)
        fuzz_fail("an honest session was expelled: %s", h->fault);
}

void fuzz_stop(struct host *h)
{
    struct engine_session_use use;
    const char *bad;

    fuzz_check(h);
    engine_session_end(h->e, h->sid, h->now_us);
    /* Ten minutes are longer than any orphan may live. */
    for (unsigned i = 0; i < 60 && !engine_session_idle(h->e, h->sid); i++)
        fuzz_wait(h, 10000000, 1, NULL, NULL);
    fuzz_check(h);
    engine_session_use(h->e, h->sid, &use);
    if (!engine_session_idle(h->e, h->sid))
        fuzz_fail("the session is not idle ten minutes after its end: %u sockets, %u orphans", use.sockets,
                  use.orphans);
    if (use.sockets || use.orphans || use.buffer_bytes)
        fuzz_fail("an idle session holds %u sockets, %u orphans, %llu bytes", use.sockets, use.orphans,
                  (unsigned long long)use.buffer_bytes);
    bad = host_stop(h);
    if (bad)
        fuzz_fail("host_stop: %s", bad);
}

static void answer_arp(struct host *h, const uint8_t *f, uint8_t last)
{
    uint8_t a[42];

    if (get_be16(f + 20) != 1 || memcmp(f + 38, net4, 3) != 0 || f[41] != last)
        return;
    memcpy(a, host_mac, 6);
    memcpy(a + 6, (uint8_t[]){2, 0, 0, 0, 0, last}, 6);
    memcpy(a + 12, f + 12, 8);
    put_be16(a + 20, 2);
    memcpy(a + 22, a + 6, 6);
    memcpy(a + 28, f + 38, 4);
    memcpy(a + 32, f + 22, 10);
    host_rx_bytes(h, a, sizeof(a));
}

/* A solicitation for 2001:db8::<last> is answered, so that IPv6 gets somewhere. */
static void answer_solicitation(struct host *h, const uint8_t *f, size_t len, uint8_t last)
{
    const uint8_t *ip = f + ETH_HDR_BYTES, *ns = ip + IP6_HDR_BYTES;
    uint8_t a[86], *na = a + ETH_HDR_BYTES + IP6_HDR_BYTES;

    if (len < sizeof(a) - ND_OPT_MAC_BYTES || ip[6] != IP6_NH_ICMP || ns[0] != ICMP6_NEIGHBOR_SOLICIT ||
        memcmp(ns + 8, net6, sizeof(net6)) != 0 || ns[23] != last)
        return;
    (void)fuzz_ip6(a, last, IP6_NH_ICMP, 32);
    memcpy(a + ETH_HDR_BYTES + 24, ip + 8, 16); /* to whoever asked */
    a[ETH_HDR_BYTES + 7] = IP6_HOPS_LINK;
    memset(na, 0, 32);
    na[0] = ICMP6_NEIGHBOR_ADVERT;
    na[4] = ND_NA_SOLICITED | ND_NA_OVERRIDE;
    memcpy(na + 8, ns + 8, 16);
    na[24] = ND_OPT_TARGET_MAC;
    na[25] = 1;
    memcpy(na + 26, a + ETH_ADDR_BYTES, ETH_ADDR_BYTES);
    fuzz_checksum(a, sizeof(a));
    host_rx_bytes(h, a, sizeof(a));
}

static void check_frame6(const struct pktbuf *f)
{
    const uint8_t *ip = f->data + ETH_HDR_BYTES;
    uint32_t bytes;

    if (f->len < ETH_HDR_BYTES + IP6_HDR_BYTES || ip[0] >> 4 != 6)
        fuzz_fail("a broken IPv6 header was sent");
    bytes = get_be16(ip + 4);
    if (bytes + ETH_HDR_BYTES + IP6_HDR_BYTES != f->len)
        fuzz_fail("IPv6 length %u in a frame of %u", bytes, f->len);
    if (f->gso_type == PKT_GSO_NONE && bytes + IP6_HDR_BYTES > 1500)
        fuzz_fail("a packet of %u bytes on a link of 1500", bytes + IP6_HDR_BYTES);
    if ((ip[6] != 6 && ip[6] != IP6_NH_ICMP) || f->flags & PKT_CSUM_PARTIAL)
        return;
    if (csum_fold(csum_add(csum_pseudo6(ip + 8, ip + 24, ip[6], bytes),
                           csum_partial(ip + IP6_HDR_BYTES, bytes))) != 0xffff)
        fuzz_fail("wrong checksum of protocol %u sent over IPv6", ip[6]);
}

/* What any receiver may rely on. */
static void check_frame(const struct pktbuf *f)
{
    uint32_t ip_bytes;

    if (f->len < 14)
        fuzz_fail("a frame of %u bytes", f->len);
    if (get_be16(f->data + 12) == ETH_TYPE_IP6)
        check_frame6(f);
    if (get_be16(f->data + 12) != 0x0800)
        return;
    if (f->len < 34 || f->data[14] != 0x45)
        fuzz_fail("a broken IPv4 header was sent");
    ip_bytes = get_be16(f->data + 16);
    if (ip_bytes + 14 != f->len)
        fuzz_fail("IP length %u in a frame of %u", ip_bytes, f->len);
    if (csum_fold(csum_partial(f->data + 14, 20)) != 0xffff)
        fuzz_fail("wrong IP header checksum sent");
    if (f->gso_type == PKT_GSO_NONE && ip_bytes > 1500)
        fuzz_fail("a packet of %u bytes on a link of 1500", ip_bytes);
    if (f->data[23] != 6 || f->flags & PKT_CSUM_PARTIAL)
        return;
    if (csum_fold(csum_add(csum_pseudo4(f->data + 26, f->data + 30, 6, f->len - 34),
                           csum_partial(f->data + 34, f->len - 34))) != 0xffff)
        fuzz_fail("wrong TCP checksum sent");
}

void fuzz_drain(struct host *h, uint8_t last, fuzz_frame_fn *fn, void *ctx)
{
    struct pktbuf *f;

    for (unsigned n = 0; (f = host_tx(h)) || engine_tx_pending(h->e); n++) {
        if (n >= DRAIN_MAX)
            fuzz_fail("the host never stops sending");
        if (!f)
            continue; /* It speaks to itself. */
        check_frame(f);
        if (get_be16(f->data + 12) == 0x0806)
            answer_arp(h, f->data, last);
        else if (fn)
            fn(ctx, f);
        if (get_be16(f->data + 12) == ETH_TYPE_IP6)
            answer_solicitation(h, f->data, f->len, last);
    }
}

void fuzz_wait(struct host *h, uint64_t us, uint8_t last, fuzz_frame_fn *fn, void *ctx)
{
    uint64_t end = h->now_us + us;
    unsigned spins = 0;

    for (unsigned i = 0; i < WAKE_MAX + SPIN_MAX; i++) {
        uint64_t next = engine_deadline(h->e);

        if (next > h->now_us) {
            if (h->now_us >= end)
                return;
            h->now_us = next < end ? next : end;
            spins = 0;
        } else if (++spins > SPIN_MAX) {
            fuzz_fail("timers are always due");
        }
        host_run(h);
        fuzz_drain(h, last, fn, ctx);
    }
    if (h->now_us < end) {
        h->now_us = end;
        host_run(h);
        fuzz_drain(h, last, fn, ctx);
    }
}

uint64_t fuzz_duration_us(uint8_t code)
{
    static const uint64_t table[] = {
        0,      1,      100,     1000,    5000,     20000,    40000,     100000,
        200000, 500000, 1000000, 3000000, 10000000, 61000000, 130000000, UINT64_C(3600000000) * 3};

    return table[code % (sizeof(table) / sizeof(table[0]))];
}

size_t fuzz_ip4(uint8_t *f, uint8_t last, uint8_t proto, size_t l4_bytes)
{
    uint8_t *ip = f + 14;
    uint16_t sum;

    memcpy(f, host_mac, 6);
    memcpy(f + 6, (uint8_t[]){2, 0, 0, 0, 0, last}, 6);
    put_be16(f + 12, 0x0800);
    memset(ip, 0, 20);
    ip[0] = 0x45;
    put_be16(ip + 2, (uint16_t)(20 + l4_bytes));
    ip[8] = 64;
    ip[9] = proto;
    memcpy(ip + 12, net4, 3);
    ip[15] = last;
    memcpy(ip + 16, net4, 3);
    ip[19] = 2;
    sum = csum_finish(csum_partial(ip, 20));
    memcpy(ip + 10, &sum, 2);
    return 34 + l4_bytes;
}

size_t fuzz_ip6(uint8_t *f, uint8_t last, uint8_t proto, size_t l4_bytes)
{
    uint8_t src[16], dst[16];

    memcpy(src, net6, sizeof(net6));
    memcpy(dst, net6, sizeof(net6));
    src[15] = last;
    dst[15] = 2;
    eth_put(f, host_mac, (uint8_t[]){2, 0, 0, 0, 0, last}, ETH_TYPE_IP6);
    ip6_put(f + ETH_HDR_BYTES, src, dst, proto, 0, 64, 0, (uint32_t)l4_bytes);
    return ETH_HDR_BYTES + IP6_HDR_BYTES + l4_bytes;
}

void fuzz_checksum(uint8_t *f, size_t bytes)
{
    bool ip6 = get_be16(f + 12) == ETH_TYPE_IP6;
    uint8_t *l4 = f + (ip6 ? 54 : 34);
    uint32_t len = (uint32_t)(bytes - (size_t)(l4 - f));
    uint8_t proto = ip6 ? f[20] : f[23];
    uint32_t at = proto == 6 ? 16 : proto == 17 ? 6 : 2;
    uint32_t pseudo = 0;
    uint16_t sum;

    if (len < at + 2)
        return;
    memset(l4 + at, 0, 2);
    if (ip6)
        pseudo = csum_pseudo6(f + 22, f + 38, proto, len);
    else if (proto != 1)
        pseudo = csum_pseudo4(f + 26, f + 30, proto, len);
    sum = csum_finish(csum_add(pseudo, csum_partial(l4, len)));
    memcpy(l4 + at, &sum, 2);
}

void fuzz_pattern_fill(uint8_t *buf, size_t len, uint64_t offset)
{
    for (size_t i = 0; i < len; i++)
        buf[i] = fuzz_pattern(offset + i);
}

void fuzz_pattern_check(const uint8_t *buf, size_t len, uint64_t offset, const char *where)
{
    for (size_t i = 0; i < len; i++)
        if (buf[i] != fuzz_pattern(offset + i))
            fuzz_fail("%s: the byte at stream offset %llu is %#x, not %#x", where,
                      (unsigned long long)(offset + i), buf[i], fuzz_pattern(offset + i));
}

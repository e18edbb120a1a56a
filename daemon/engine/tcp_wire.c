/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/wire/tcp.h"

static void parse_sack(const uint8_t *p, uint32_t len, struct tcp_seg *s)
{
    if (len < 10 || (len - 2) % 8 != 0)
        return;
    for (uint32_t at = 2; at + 8 <= len && s->sack_count < TCP_SACK_MAX; at += 8) {
        s->sack[s->sack_count].start = get_be32(p + at);
        s->sack[s->sack_count].end = get_be32(p + at + 4);
        s->sack_count++;
    }
}

/* RFC 7413 4.1.1: an even number of bytes, 4 to 16, or none; anything else is ignored. */
static void parse_fastopen(const uint8_t *p, uint32_t len, struct tcp_seg *s)
{
    uint32_t cookie = len - 2;

    if (cookie && (cookie < TCP_FO_MIN || cookie > TCP_FO_MAX || cookie % 2))
        return;
    s->has_fo = true;
    s->fo_len = (uint8_t)cookie;
    s->fo = p + 2;
}

static void parse_option(const uint8_t *p, uint32_t len, struct tcp_seg *s)
{
    switch (p[0]) {
    case TCP_OPT_MSS:
        if (len == 4) {
            s->has_mss = true;
            s->mss = get_be16(p + 2);
        }
        break;
    case TCP_OPT_WSCALE:
        if (len == 3) {
            s->has_wscale = true;
            s->wscale = p[2] > TCP_WSCALE_MAX ? TCP_WSCALE_MAX : p[2];
        }
        break;
    case TCP_OPT_SACK_PERM:
        if (len == 2)
            s->sack_perm = true;
        break;
    case TCP_OPT_SACK:
        parse_sack(p, len, s);
        break;
    case TCP_OPT_TS:
        if (len == 10) {
            s->has_ts = true;
            s->tsval = get_be32(p + 2);
            s->tsecr = get_be32(p + 6);
        }
        break;
    case TCP_OPT_FASTOPEN:
        parse_fastopen(p, len, s);
        break;
    default: /* RFC 9293 3.1: unknown options are skipped by their length. */
        break;
    }
}

static void parse_options(const uint8_t *p, uint32_t bytes, struct tcp_seg *s)
{
    /* The common case, NOP NOP TS alone, without the loop. */
    if (bytes == 12 && p[0] == TCP_OPT_NOP && p[1] == TCP_OPT_NOP && p[2] == TCP_OPT_TS && p[3] == 10) {
        s->has_ts = true;
        s->tsval = get_be32(p + 4);
        s->tsecr = get_be32(p + 8);
        return;
    }
    for (uint32_t at = 0; at < bytes;) {
        uint32_t len;

        if (p[at] == TCP_OPT_END)
            return;
        if (p[at] == TCP_OPT_NOP) {
            at++;
            continue;
        }
        if (bytes - at < 2)
            return;
        len = p[at + 1];
        if (len < 2 || len > bytes - at)
            return;
        parse_option(p + at, len, s);
        at += len;
    }
}

bool tcp_parse(const uint8_t *p, uint32_t bytes, struct tcp_seg *ret)
{
    uint32_t hdr;

    if (bytes < TCP_HDR_BYTES)
        return false;
    hdr = (uint32_t)(p[12] >> 4) * 4;
    if (hdr < TCP_HDR_BYTES || hdr > bytes)
        return false;
    ret->sport = get_be16(p);
    ret->dport = get_be16(p + 2);
    ret->seq = get_be32(p + 4);
    ret->ack = get_be32(p + 8);
    ret->flags = p[13];
    ret->wnd = get_be16(p + 14);
    ret->hdr_len = (uint8_t)hdr;
    ret->data = p + hdr;
    ret->len = bytes - hdr;
    ret->has_ts = ret->has_mss = ret->has_wscale = ret->sack_perm = ret->has_fo = false;
    ret->sack_count = 0;
    if (hdr > TCP_HDR_BYTES)
        parse_options(p + TCP_HDR_BYTES, hdr - TCP_HDR_BYTES, ret);
    return true;
}

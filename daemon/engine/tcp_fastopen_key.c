/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cookies of TCP Fast Open and the keys behind them (RFC 7413 4.1.2): a cookie is a keyed hash of both
 * addresses.
 *
 * Keys that were set (tcp.fastopen_key, TCP_FASTOPEN_KEY) make the cookies that Linux makes with them, so
 * that servers behind one address can share a key, whatever they run. The first key makes new cookies; those
 * of the second are good too and answered with a new one, so that keys can be changed without a gap: servers
 * that share them first learn the new one as their second, then use it. Without keys the cookies come from
 * the stored secret, and change each day.
 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

#define KEY_PERIOD_US (UINT64_C(24) * 3600 * 1000000)

static const struct fastopen_keys *keys_of(const struct engine *e, const struct tcp_listener *l)
{
    return l && l->fo_keys.count ? &l->fo_keys : &e->cfg.fastopen_keys;
}

/* With key `i`, 0: of now, 1: of before. */
static uint64_t cookie_of(const struct engine *e, const struct tcp_listener *l, const struct flow_key *k,
                          uint32_t i)
{
    const struct fastopen_keys *keys = keys_of(e, l);
    size_t bytes = k->remote.family == SG_AF_INET6 ? 16 : 4;
    uint64_t w[5] = {0};
    struct sip_key key;

    if (!keys->count) {
        memcpy(&w[0], k->local.ip, 16);
        memcpy(&w[2], k->remote.ip, 16);
        w[4] = e->now_us / KEY_PERIOD_US - i;
        return sip_words(&e->tcp.fastopen_key, w, 5, 2, 4);
    }
    memcpy(key.k, keys->key[i], sizeof(key.k));
    memcpy(w, k->remote.ip, bytes);
    memcpy((uint8_t *)w + bytes, k->local.ip, bytes);
    return sip_words(&key, w, 2 * bytes / 8, 2, 4);
}

void tcp_fastopen_cookie(const struct engine *e, const struct tcp_listener *l, const struct flow_key *k,
                         uint8_t cookie[TCP_FASTOPEN_COOKIE])
{
    uint64_t c = cookie_of(e, l, k, 0);

    memcpy(cookie, &c, TCP_FASTOPEN_COOKIE);
}

enum fastopen_cookie tcp_fastopen_check(const struct engine *e, const struct tcp_listener *l,
                                        const struct flow_key *k, const struct tcp_seg *s)
{
    uint32_t count = keys_of(e, l)->count;
    bool older = count ? count > 1 : e->now_us >= KEY_PERIOD_US;
    uint64_t c;

    if (s->fo_len != TCP_FASTOPEN_COOKIE)
        return FO_COOKIE_BAD;
    memcpy(&c, s->fo, TCP_FASTOPEN_COOKIE);
    if (c == cookie_of(e, l, k, 0))
        return FO_COOKIE_GOOD;
    return older && c == cookie_of(e, l, k, 1) ? FO_COOKIE_OLD : FO_COOKIE_BAD;
}

int engine_fastopen_keys(struct engine *e, int sid, uint32_t slot, const struct fastopen_keys *keys)
{
    struct sock *s;

    if (!engine_slot_used(e, sid, slot))
        return -EBADF;
    s = sock_get(e, sock_session(e, sid)->v.slot_sock[slot]);
    if (s->kind != SK_TCP && s->kind != SK_LISTEN)
        return -ENOPROTOOPT;
    if (!keys->count || keys->count > FASTOPEN_KEYS_MAX || (s->kind == SK_TCP && s->pub_state != SG_ST_OPEN))
        return -EINVAL;
    if (s->kind == SK_LISTEN)
        ((struct tcp_listener *)s)->fo_keys = *keys;
    else
        tcp_rare_of(e, tcp_conn_of(s))->fo_keys = *keys;
    return 0;
}

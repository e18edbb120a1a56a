/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of RFC 9293, by their numbers in its appendix B, that no other test of this folder is about. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/engine/csum.h"
#include "tests/segment/peer.h"

#define TCP_AT 34u /* Ethernet and IP header */

/* A segment that seg_send() can't make: any addresses, any option bytes, any checksum. */
struct raw {
    uint8_t src[4], dst[4];
    const uint8_t *opts;
    uint32_t opt_bytes; /* multiple of 4 */
    uint16_t spoil;     /* added to the right checksum */
    uint16_t urgent;
    bool to_all; /* Ethernet broadcast */
    struct seg s;
};

static void raw_send(struct peer *p, const struct raw *r)
{
    uint8_t f[2048] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
    uint8_t *ip = f + 14, *t = f + TCP_AT;
    uint32_t hdr = TCP_HDR_BYTES + r->opt_bytes;
    uint32_t l4 = hdr + r->s.len;
    uint16_t sum;

    if (r->to_all)
        memset(f, 0xff, 6);
    ip[0] = 0x45;
    put_be16(ip + 2, (uint16_t)(20 + l4));
    ip[8] = 64;
    ip[9] = 6;
    memcpy(ip + 12, r->src, 4);
    memcpy(ip + 16, r->dst, 4);
    sum = csum_finish(csum_partial(ip, 20));
    memcpy(ip + 10, &sum, 2);
    put_be16(t, p->peer_port);
    put_be16(t + 2, p->host_port);
    put_be32(t + 4, PEER_ISN + r->s.seq);
    put_be32(t + 8, r->s.flags & TCP_ACK ? p->host_isn + r->s.ack : 0);
    t[12] = (uint8_t)(hdr / 4 << 4);
    t[13] = r->s.flags;
    put_be16(t + 14, r->s.wnd ? r->s.wnd : 65535);
    put_be16(t + 18, r->urgent);
    if (r->opt_bytes)
        memcpy(t + TCP_HDR_BYTES, r->opts, r->opt_bytes);
    pattern_fill(t + hdr, r->s.seq, r->s.len);
    sum = csum_finish(csum_add(csum_pseudo4(r->src, r->dst, 6, l4), csum_partial(t, l4)));
    sum = (uint16_t)(sum + r->spoil);
    memcpy(t + 16, &sum, 2);
    host_rx_bytes(&p->h, f, TCP_AT + l4);
}

#define FROM_PEER .src = {192, 0, 2, 1}, .dst = {192, 0, 2, 2}

/* Next TCP frame of the host as it is on the wire; ARP goes unanswered. */
static const struct pktbuf *raw_take(struct peer *p)
{
    struct pktbuf *f;

    while ((f = host_tx(&p->h)))
        if (get_be16(f->data + 12) == 0x0800 && f->data[23] == 6)
            return f;
    cr_assert_fail("the host sent no TCP segment");
    return NULL;
}

/* ---- Header ------------------------------------------------------------------------------------- */

Test(rfc9293, must_1_a_window_with_the_highest_bit_is_large)
{
    struct peer p;
    uint32_t acked = 1, sent = 0;

    peer_start(&p, NULL);
    peer_established(&p);
    for (unsigned round = 0; round < 8; round++) { /* the congestion window grows beyond it */
        peer_write(&p, 40000);
        do {
            sent = 0;
            while (engine_tx_pending(p.h.e))
                sent += seg_take(&p).len;
            acked += sent;
            p.h.now_us += 1000;
            seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = acked, .wnd = 40000});
        } while (acked <= p.tx_pattern);
    }
    peer_write(&p, 60000);
    for (sent = 0; engine_tx_pending(p.h.e);)
        sent += seg_take(&p).len;
    cr_assert(sent > 40000 - 1460 && sent <= 40000, "%u bytes for a window of 40000", sent);
    peer_stop(&p);
}

Test(rfc9293, must_2_every_segment_has_the_right_checksum)
{
    static const uint8_t us[4] = {192, 0, 2, 2}, them[4] = {192, 0, 2, 1};
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t len = 1; len < 1460; len += 97) { /* odd and even */
        const struct pktbuf *f;

        peer_write(&p, len);
        f = raw_take(&p);
        cr_assert_eq(f->flags & PKT_CSUM_PARTIAL, 0);
        cr_assert_eq(csum_fold(csum_add(csum_pseudo4(us, them, 6, f->len - TCP_AT),
                                        csum_partial(f->data + TCP_AT, f->len - TCP_AT))),
                     0xffff, "%u bytes", len);
        p.h.now_us += 1000;
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = (uint32_t)p.tx_pattern + 1});
    }
    peer_stop(&p);
}

Test(rfc9293, must_3_a_wrong_checksum_is_dropped_and_counted)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint16_t bit = 1; bit; bit = (uint16_t)(bit << 1))
        raw_send(&p, &(struct raw){FROM_PEER, .spoil = bit,
                                   .s = {.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 9}});
    seg_none(&p);
    cr_assert_eq(peer_read_all(&p, &seq), 0);
    cr_assert_eq(host_counter(&p.h, "TcpInErrs"), 16);
    raw_send(&p, &(struct raw){FROM_PEER, .s = {.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 9}});
    cr_assert_eq(peer_read_all(&p, &seq), 9);
    peer_stop(&p);
}

/* ---- Options ------------------------------------------------------------------------------------ */

Test(rfc9293, must_5_options_may_stand_in_any_segment)
{
    static const uint8_t opts[] = {TCP_OPT_NOP, TCP_OPT_MSS, 4, 1, 0, 253, 4, 7, 7, 254, 2, TCP_OPT_END};
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    raw_send(&p, &(struct raw){FROM_PEER, .opts = opts, .opt_bytes = sizeof(opts),
                               .s = {.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 9}});
    cr_assert_eq(peer_read_all(&p, &seq), 9);
    peer_write(&p, 2000);
    cr_assert_eq(seg_take(&p).len, 1460, "an MSS outside of a SYN means nothing");
    peer_stop(&p);
}

Test(rfc9293, must_64_options_need_not_begin_on_a_word)
{
    static const uint8_t opts[] = {TCP_OPT_NOP, TCP_OPT_SACK_PERM, 2, TCP_OPT_MSS, 4, 2, 0, TCP_OPT_END};
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 4);
    raw_send(&p, &(struct raw){FROM_PEER, .opts = opts, .opt_bytes = sizeof(opts), .s = {.flags = TCP_SYN}});
    cr_assert(seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1).sack_perm);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    peer_write(&p, 2000);
    cr_assert_eq(seg_take(&p).len, 512);
    peer_stop(&p);
}

/* Walk the options of a segment as it is on the wire; true when one of this kind is there. */
static bool walk_options(const struct pktbuf *f, uint8_t kind)
{
    const uint8_t *t = f->data + TCP_AT;
    const uint8_t *end = t + (t[12] >> 4) * 4u;
    bool found = false;

    for (const uint8_t *o = t + TCP_HDR_BYTES; o < end;) {
        if (*o == TCP_OPT_END) {
            for (; o < end; o++)
                cr_assert_eq(*o, 0, "MUST-69: the padding is of zeros");
            break;
        }
        found |= *o == kind;
        if (*o == TCP_OPT_NOP) {
            o++;
            continue;
        }
        cr_assert(o + 1 < end && o[1] >= 2 && o + o[1] <= end, "MUST-68: option %u has no good length", *o);
        o += o[1];
    }
    return found;
}

Test(rfc9293, must_65_68_69_options_are_well_formed_and_the_mss_stands_in_the_syn_only)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 4);
    p.ts = true;
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460, .sack_perm = true, .wscale = 8});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460, .sack_perm = true, .wscale = 8});
    cr_assert(walk_options(raw_take(&p), TCP_OPT_MSS));
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    peer_write(&p, 100);
    cr_assert(!walk_options(raw_take(&p), TCP_OPT_MSS));
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 11, .ack = 1, .len = 10}); /* draws SACK blocks */
    {
        const struct pktbuf *f = raw_take(&p);

        cr_assert(walk_options(f, TCP_OPT_SACK));
        cr_assert(!walk_options(f, TCP_OPT_MSS));
    }
    app_close(&p.h, p.slot);
    cr_assert(!walk_options(raw_take(&p), TCP_OPT_MSS));
    peer_stop(&p);
}

Test(rfc9293, must_15_without_an_mss_option_536_bytes_are_sent)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established_opts(&p, &(struct peer_opts){.wnd = 65535});
    peer_write(&p, 2000);
    cr_assert_eq(seg_take(&p).len, 536);
    peer_stop(&p);
}

Test(rfc9293, must_67_the_offered_mss_follows_from_the_links_mtu)
{
    static const uint16_t mtus[] = {576, 1400, 1500, 9000};

    for (unsigned i = 0; i < sizeof(mtus) / sizeof(mtus[0]); i++) {
        struct engine_config cfg;
        struct peer p = {.host_port = HOST_PORT, .peer_port = PEER_PORT};

        host_config(&cfg, 2);
        cfg.ifs[0].mtu = mtus[i];
        cfg.ifs[0].tx_frame_max = 14u + mtus[i];
        host_start(&p.h, &cfg, 1000000);
        peer_listen(&p, 4);
        seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
        cr_assert_eq(seg_take(&p).mss, mtus[i] - 40);
        peer_stop(&p);
    }
}

/* ---- Opening ------------------------------------------------------------------------------------ */

Test(rfc9293, must_11_a_reset_in_syn_received_tells_who_opened)
{
    struct peer p;

    /* After an active open the user is told ... */
    peer_start(&p, NULL);
    peer_connecting(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    cr_assert_str_eq(peer_state(&p), "SYN_RECEIVED");
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    cr_assert_eq(app_error(&p.h, p.slot), ECONNREFUSED);
    peer_stop(&p);
    /* ... and after a passive one the listener goes on and nobody hears of it. */
    peer_start(&p, NULL);
    peer_syn_received(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    cr_assert_str_eq(peer_state(&p), "");
    cr_assert_eq(app_error(&p.h, p.listener), 0);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1);
    peer_stop(&p);
}

Test(rfc9293, must_41_listening_leaves_other_connections_alone)
{
    struct peer p;
    uint32_t seq = 1;
    uint32_t other;

    peer_start(&p, NULL);
    peer_established(&p);
    other = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_bind(&p.h, other, HOST_PORT + 1), 0);
    cr_assert_eq(app_listen(&p.h, other, 4), 0);
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 9});
    cr_assert_eq(peer_read_all(&p, &seq), 9);
    peer_stop(&p);
}

static void share(struct peer *p, uint32_t slot)
{
    cr_assert_eq(engine_setopt(p->h.e, p->h.sid, slot, SOL_SOCKET, SO_REUSEADDR, 1, p->h.now_us), 0);
}

Test(rfc9293, must_42_one_may_listen_on_a_port_that_another_opens_from)
{
    struct peer p;
    uint32_t listener;

    peer_start(&p, NULL);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    share(&p, p.slot);
    cr_assert_eq(app_bind(&p.h, p.slot, 5000), 0);
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), 0);
    seg_expect(&p, .flags = TCP_SYN);
    listener = app_socket(&p.h, SG_SOCK_STREAM);
    share(&p, listener);
    cr_assert_eq(app_bind(&p.h, listener, 5000), 0);
    cr_assert_eq(app_listen(&p.h, listener, 4), 0);
    cr_assert_str_eq(peer_state(&p), "SYN_SENT");
    peer_stop(&p);
}

Test(rfc9293, must_45_a_connection_keeps_the_address_it_began_with)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 20000);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(get_be32(raw_take(&p)->data + 26), 0xc0000202);
    peer_stop(&p);
}

Test(rfc9293, must_46_an_open_to_no_single_host_is_refused)
{
    static const uint8_t none[][4] = {
        {255, 255, 255, 255}, {192, 0, 2, 255}, {224, 0, 0, 1}, {239, 1, 2, 3}, {240, 0, 0, 1}};
    struct peer p;

    peer_start(&p, NULL);
    for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        uint32_t slot = app_socket(&p.h, SG_SOCK_STREAM);
        struct ip_ep to = {.addr = {.family = SG_AF_INET}, .port = 80};

        memcpy(to.addr.ip, none[i], 4);
        cr_assert_lt(engine_connect(p.h.e, p.h.sid, slot, &to, p.h.now_us), 0, "%u.%u.%u.%u", none[i][0],
                     none[i][1], none[i][2], none[i][3]);
    }
    seg_none(&p);
    peer_stop(&p);
}

Test(rfc9293, must_57_segments_to_many_are_dropped_in_silence)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 4);
    raw_send(&p,
             &(struct raw){
                 .src = {192, 0, 2, 1}, .dst = {192, 0, 2, 255}, .to_all = true, .s = {.flags = TCP_SYN}});
    raw_send(
        &p, &(struct raw){
                .src = {192, 0, 2, 1}, .dst = {255, 255, 255, 255}, .to_all = true, .s = {.flags = TCP_SYN}});
    raw_send(&p, &(struct raw){.src = {192, 0, 2, 1}, .dst = {224, 0, 0, 1}, .s = {.flags = TCP_SYN}});
    raw_send(&p, &(struct raw){FROM_PEER, .to_all = true, .s = {.flags = TCP_SYN}});
    p.host_port++; /* not even a reset where nobody listens */
    raw_send(&p,
             &(struct raw){
                 .src = {192, 0, 2, 1}, .dst = {192, 0, 2, 255}, .to_all = true, .s = {.flags = TCP_SYN}});
    seg_none(&p);
    peer_stop(&p);
}

Test(rfc9293, must_63_a_syn_from_no_single_host_is_dropped)
{
    static const uint8_t none[][4] = {{255, 255, 255, 255}, {192, 0, 2, 255}, {224, 0, 0, 1},
                                      {240, 0, 0, 1},       {127, 0, 0, 1},   {192, 0, 2, 2}};
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 4);
    for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        struct raw r = {.dst = {192, 0, 2, 2}, .s = {.flags = TCP_SYN}};

        memcpy(r.src, none[i], 4);
        raw_send(&p, &r);
    }
    seg_none(&p);
    cr_assert_eq(host_counter(&p.h, "TcpPassiveOpens"), 0);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

Test(rfc9293, must_23_a_syn_is_repeated_for_three_minutes)
{
    struct peer p;
    uint64_t start, us;

    peer_start(&p, NULL);
    peer_connecting(&p);
    start = p.h.now_us;
    do {
        us = p.h.now_us - start;
        peer_wait_tx(&p, 200000000);
        seg_drain(&p);
    } while (!app_error(&p.h, p.slot));
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    cr_assert_geq(p.h.now_us - start, 180000000, "given up after %lu s", (p.h.now_us - start) / 1000000);
    cr_assert_gt(us, 100000000);
    peer_stop(&p);
}

/* ---- Data and acknowledgments ------------------------------------------------------------------- */

Test(rfc9293, must_58_59_what_came_together_is_acknowledged_together)
{
    struct peer p;
    uint32_t seq = 1;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t i = 0; i < 4; i++) /* one burst: nothing is sent before all of it was looked at */
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1 + 1460 * i, .ack = 1, .len = 1460});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1 + 4 * 1460);
    seg_none(&p);
    cr_assert_eq(peer_read_all(&p, &seq), 4 * 1460);
    peer_stop(&p);
}

Test(rfc9293, must_60_61_a_write_is_sent_at_once_and_its_last_segment_is_pushed)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 4000);
    cr_assert_eq(seg_take(&p).flags & TCP_PSH, 0);
    cr_assert_eq(seg_take(&p).flags & TCP_PSH, 0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 2921});
    {
        struct seg s = seg_expect(&p, .seq = 2921, .len = 4000 - 2920);

        cr_assert_eq(s.flags & TCP_PSH, TCP_PSH);
    }
    seg_none(&p);
    peer_stop(&p);
}

Test(rfc9293, must_66_a_reset_counts_in_a_zero_window)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    for (uint32_t seq = 1, wnd = 65535; wnd; seq += 1460) { /* fill its window */
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = seq, .ack = 1, .len = 1460});
        while (engine_tx_pending(p.h.e)) {
            struct seg s = seg_take(&p);

            wnd = s.wnd;
            seq = s.ack - 1460;
        }
        cr_assert_lt(seq, 4000000u);
    }
    {
        uint64_t got;

        peer_wait(&p, 1000000);
        seg_drain(&p);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 0, .ack = 1}); /* where does it stand? */
        got = seg_take(&p).ack;
        seg_send(&p, (struct seg){.flags = TCP_RST, .seq = (uint32_t)got});
    }
    cr_assert_eq(app_error(&p.h, p.slot), ECONNRESET);
    peer_stop(&p);
}

Test(rfc9293, shld_2_a_reset_may_carry_data)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1, .len = 30});
    cr_assert_eq(app_error(&p.h, p.slot), ECONNRESET);
    peer_stop(&p);
}

Test(rfc9293, must_37_a_window_may_stay_closed_for_days)
{
    struct peer p;
    uint64_t start;
    unsigned probes = 0;

    peer_start(&p, NULL);
    peer_established(&p);
    peer_write(&p, 1000);
    seg_drain(&p);
    p.h.now_us += 1000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1001, .zero_wnd = true});
    peer_write(&p, 1000);
    start = p.h.now_us;
    while (p.h.now_us - start < UINT64_C(2) * 24 * 3600 * 1000000) {
        cr_assert_lt(peer_wait_tx(&p, 200000000), 200000000, "no probe");
        probes += seg_drain(&p);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1001, .zero_wnd = true});
    }
    cr_assert_eq(app_error(&p.h, p.slot), 0);
    cr_assert_lt(probes, 3000, "SHLD-30: %u probes in two days", probes);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1001});
    seg_expect(&p, .seq = 1001, .len = 1000);
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Path MTU discovery by probes (RFC 4821): black holes, the search, and what it must not disturb. */
#include "tests/segment/loss.h"

#define HEADERS 40u
#define LINK    1500u
#define BASE    1064u /* bytes of the packets that a search begins with */
#define SMALL   (BASE - HEADERS)

static void always(struct engine_config *cfg)
{
    cfg->mtu_probing = ENGINE_ALWAYS;
}

static void always_offload(struct engine_config *cfg)
{
    always(cfg);
    cfg->ifs[0].offloads = ENGINE_TX_CSUM | ENGINE_TX_TSO4;
    cfg->ifs[0].tx_frame_max = 65535 + 14;
}

/* Time-outs of what is in flight until a segment of another length comes, which is returned; 0: after n. */
static uint32_t time_out(struct peer *p, unsigned n)
{
    uint32_t len = 0, first = 0;

    for (unsigned i = 0; i < n; i++) {
        struct seg s;

        peer_wait_tx(p, 200000000);
        while (seg_next(p, &s)) {
            first = first ? first : s.len;
            len = s.len != first ? s.len : len;
        }
        if (len)
            return len;
    }
    return 0;
}

static const struct pmtu_entry *path(struct peer *p)
{
    return pmtu_find(p->h.e, &conn(p)->s.remote);
}

/* The next segments of the host up to one of more than the MSS, which is returned; all before it count as
 * arrived. len 0: there is none. */
static struct seg next_probe(struct peer *p, uint32_t *acked)
{
    struct seg s;

    for (int i = 0; i < 40; i++) {
        while (seg_next(p, &s)) {
            if (s.len > conn(p)->mss)
                return s;
            *acked = s.seq + s.len;
        }
        p->h.now_us += RTT_US;
        host_run(&p->h);
        ack(p, *acked);
        peer_write(p, tcp_unsent(conn(p)) < 10 * MSS ? 10 * MSS : 0);
    }
    return (struct seg){0};
}

/* ---- Black holes (7.7) ------------------------------------------------------------------------------ */

Test(plpmtu, long_packets_that_vanish_make_a_black_hole)
{
    struct peer p;

    start_with(&p, NULL, &sack);
    peer_write(&p, 5 * MSS);
    seg_drain(&p);
    cr_assert_eq(time_out(&p, 8), SMALL);
    cr_assert_eq(host_counter(&p.h, "TcpMtuBlackHoles"), 1);
    cr_assert_eq(info(&p).mss, SMALL);
    /* Still nothing: smaller yet, down to a floor. */
    cr_assert_eq(time_out(&p, 3), 0);
    cr_assert_eq(info(&p).mss, PMTU_MIN4 - HEADERS);
    peer_stop(&p);
}

Test(plpmtu, is_not_looked_for_when_switched_off)
{
    struct peer p;

    start_with(&p, same_size, &sack);
    peer_write(&p, 5 * MSS);
    seg_drain(&p);
    cr_assert_eq(time_out(&p, 8), 0);
    cr_assert_eq(host_counter(&p.h, "TcpMtuBlackHoles"), 0);
    peer_stop(&p);
}

Test(plpmtu, short_packets_that_vanish_say_nothing)
{
    struct peer p;

    start_with(&p, NULL, &sack);
    peer_write(&p, SMALL);
    seg_drain(&p);
    cr_assert_eq(time_out(&p, 8), 0);
    cr_assert_eq(info(&p).mss, MSS);
    peer_stop(&p);
}

Test(plpmtu, after_an_outage_the_old_size_is_tried_first_and_taken_up_again)
{
    struct peer p;
    struct seg s;
    uint32_t acked;

    start_with(&p, NULL, &sack);
    peer_write(&p, 5 * MSS);
    seg_drain(&p);
    cr_assert_eq(time_out(&p, 8), SMALL);
    acked = 1 + 5 * MSS;
    ack(&p, acked); /* All had arrived after all. */
    peer_write(&p, 10 * MSS);
    s = next_probe(&p, &acked);
    cr_assert_eq(s.len, MSS);
    seg_drain(&p);
    ack(&p, s.seq + s.len);
    peer_write(&p, 2 * MSS);
    cr_assert_eq(seg_take(&p).len, MSS);
    cr_assert_eq(host_counter(&p.h, "TcpMTUPSuccess"), 1);
    cr_assert_not(path(&p)->searching);
    peer_stop(&p);
}

/* ---- The search (7.2 to 7.6) ------------------------------------------------------------------------ */

Test(plpmtu, always_begins_small_and_probes_when_the_window_allows)
{
    struct peer p;
    struct seg s;
    uint32_t acked = 1;

    start_with(&p, always, &sack);
    cr_assert_eq(info(&p).mss, SMALL);
    peer_write(&p, 4 * SMALL); /* Too little behind it: its loss would not show. */
    while (seg_next(&p, &s))
        cr_assert_leq(s.len, SMALL);
    ack(&p, 1 + 4 * SMALL);
    acked = 1 + 4 * SMALL;
    s = next_probe(&p, &acked);
    cr_assert_eq(s.len, MSS);
    cr_assert_eq(p.last_gso, 0);
    while (seg_next(&p, &s))
        cr_assert_leq(s.len, SMALL, "one probe at a time");
    peer_stop(&p);
}

/* Everything behind the probe arrives. */
static void lose(struct peer *p, const struct seg *probe)
{
    struct seg s, last = {0};

    while (seg_next(p, &s))
        last = s;
    cr_assert_geq(last.seq, probe->seq + probe->len);
    p->h.now_us += RTT_US;
    host_run(&p->h);
    seg_send(p, (struct seg){.flags = TCP_ACK,
                             .seq = 1,
                             .ack = probe->seq,
                             .sacks = 1,
                             .sack = {{probe->seq + probe->len, last.seq + last.len}}});
}

Test(plpmtu, a_lost_probe_is_sent_again_in_pieces_and_is_no_congestion) /* 7.5 */
{
    struct peer p;
    struct seg s, again;
    uint32_t acked = 1, cwnd, end;

    start_with(&p, always, &sack);
    peer_write(&p, 10 * MSS);
    s = next_probe(&p, &acked);
    cr_assert_eq(s.len, MSS);
    cwnd = info(&p).cwnd_bytes;
    lose(&p, &s);
    cr_assert_eq(conn(&p)->ca_state, CA_OPEN);
    end = s.seq;
    while (seg_next(&p, &again) && again.seq < s.seq + s.len) {
        cr_assert_eq(again.seq, end);
        cr_assert_leq(again.len, SMALL);
        end += again.len;
    }
    cr_assert_eq(end, s.seq + s.len, "all of it");
    cr_assert_geq(info(&p).cwnd_bytes, cwnd);
    cr_assert_eq(host_counter(&p.h, "TcpFastRetrans"), 0);
    cr_assert_eq(host_counter(&p.h, "TcpMTUPFail"), 1);
    peer_stop(&p);
}

/* The path carries packets of `limit` bytes: run the search to its end. */
static void search(struct peer *p, uint32_t limit)
{
    uint32_t acked = 1;

    peer_write(p, 10 * MSS);
    for (int i = 0; i < 40 && path(p)->searching; i++) {
        struct seg s = next_probe(p, &acked);

        if (!s.len)
            return;
        if (s.len + HEADERS > limit) {
            lose(p, &s);
            while (seg_next(p, &s)) /* what is sent again */
                acked = s.seq + s.len > acked ? s.seq + s.len : acked;
        } else {
            acked = s.seq + s.len;
        }
        ack(p, conn(p)->snd_nxt - p->host_isn);
    }
}

Test(plpmtu, the_search_ends_close_below_what_the_path_carries)
{
    static const uint32_t limits[] = {1070, 1280, 1400, 1492, 1499, 1500};

    for (unsigned i = 0; i < ARRAY_LEN(limits); i++) {
        struct peer p;

        start_with(&p, always, &sack);
        search(&p, limits[i]);
        cr_assert_not(path(&p)->searching, "limit %u", limits[i]);
        cr_assert(path(&p)->low <= limits[i] && path(&p)->low + 8u > limits[i], "limit %u, found %u",
                  limits[i], path(&p)->low);
        peer_write(&p, MSS);
        seg_drain(&p);
        cr_assert_eq(info(&p).mss, path(&p)->low - HEADERS);
        cr_assert_eq(host_counter(&p.h, "TcpFastRetrans"), 0);
        cr_assert_leq(host_counter(&p.h, "TcpMTUPFail") + host_counter(&p.h, "TcpMTUPSuccess"), 16);
        peer_stop(&p);
    }
}

Test(plpmtu, an_old_outcome_is_looked_at_again)
{
    struct peer p;
    struct seg s;
    uint32_t acked;

    start_with(&p, always, &sack);
    search(&p, 1400);
    cr_assert_not(path(&p)->searching);
    acked = conn(&p)->snd_nxt - p.host_isn;
    peer_wait(&p, UINT64_C(601) * 1000000);
    cr_assert(path(&p)->searching);
    cr_assert_leq(info(&p).mss, 1360, "what is known still holds");
    peer_write(&p, 10 * MSS);
    s = next_probe(&p, &acked);
    cr_assert_eq(s.len, MSS);
    peer_stop(&p);
}

Test(plpmtu, a_probe_among_other_losses_proves_nothing) /* 7.6.2 */
{
    struct peer p;
    struct seg s, last;
    uint32_t acked = 1;
    uint16_t high;

    start_with(&p, always, &sack);
    peer_write(&p, 10 * MSS);
    s = next_probe(&p, &acked);
    high = path(&p)->high;
    last = s;
    while (seg_next(&p, &last))
        ;
    p.h.now_us += RTT_US;
    host_run(&p.h);
    /* The segment behind it is lost too. */
    seg_send(&p, (struct seg){.flags = TCP_ACK,
                              .seq = 1,
                              .ack = s.seq,
                              .sacks = 1,
                              .sack = {{s.seq + s.len + SMALL, conn(&p)->snd_nxt - p.host_isn}}});
    cr_assert_eq(conn(&p)->ca_state, CA_RECOVERY);
    seg_drain(&p);
    cr_assert_eq(path(&p)->high, high);
    cr_assert_eq(path(&p)->probe, 0, "it may be tried again");
    cr_assert_eq(host_counter(&p.h, "TcpMTUPFail"), 0);
    peer_stop(&p);
}

Test(plpmtu, works_without_sack)
{
    struct peer p;
    struct seg s, again;
    uint32_t acked = 1;

    start_with(&p, always, &plain);
    peer_write(&p, 10 * MSS);
    s = next_probe(&p, &acked);
    cr_assert_eq(s.len, MSS);
    seg_drain(&p);
    for (int i = 0; i < 3; i++)
        ack(&p, s.seq);
    cr_assert_eq(conn(&p)->ca_state, CA_OPEN);
    cr_assert(seg_next(&p, &again));
    cr_assert(again.seq == s.seq && again.len == SMALL);
    cr_assert_eq(host_counter(&p.h, "TcpMTUPFail"), 1);
    peer_stop(&p);
}

Test(plpmtu, a_router_that_answers_a_probe_is_believed) /* 7.6.4 */
{
    struct peer p;
    struct seg s;
    uint32_t acked = 1;

    start_with(&p, always, &sack);
    peer_write(&p, 10 * MSS);
    s = next_probe(&p, &acked);
    peer_icmp(&p, 3, 4, 1400, s.seq, LINK);
    cr_assert_eq(path(&p)->high, 1400);
    cr_assert_eq(info(&p).mss, SMALL, "what is known to fit stays");
    lose(&p, &s);
    while (seg_next(&p, &s))
        acked = s.seq + s.len > acked ? s.seq + s.len : acked;
    ack(&p, conn(&p)->snd_nxt - p.host_isn);
    acked = conn(&p)->snd_nxt - p.host_isn;
    s = next_probe(&p, &acked);
    cr_assert_eq(s.len, 1360);
    seg_drain(&p);
    ack(&p, s.seq + s.len);
    peer_write(&p, 2 * MSS);
    cr_assert_eq(seg_take(&p).len, 1360);
    cr_assert_not(path(&p)->searching);
    peer_stop(&p);
}

Test(plpmtu, no_device_cuts_a_probe)
{
    struct peer p;
    struct seg s;
    uint32_t acked = 1;

    start_with(&p, always_offload, &sack);
    peer_write(&p, 10 * MSS);
    for (int i = 0; i < 40 && !path(&p)->probe; i++) {
        while (seg_next(&p, &s) && !path(&p)->probe)
            acked = s.seq + s.len;
        p.h.now_us += RTT_US;
        ack(&p, acked);
        peer_write(&p, 4 * MSS);
    }
    cr_assert_eq(path(&p)->probe, LINK);
    do
        cr_assert(s.len != MSS || p.last_gso == 0, "a frame of %u to be cut at %u", s.len, p.last_gso);
    while (s.len != MSS && seg_next(&p, &s));
    cr_assert_eq(s.len, MSS);
    peer_stop(&p);
}

Test(plpmtu, a_peer_that_takes_less_is_not_sent_more)
{
    static const struct peer_opts small = {.mss = 1200, .wscale = 8, .sack = true, .wnd = 65535};
    struct peer p;
    struct seg s;
    uint32_t acked = 1;

    start_with(&p, always, &small);
    cr_assert_eq(info(&p).mss, SMALL);
    peer_write(&p, 10 * MSS);
    s = next_probe(&p, &acked);
    cr_assert_eq(s.len, 1200);
    seg_drain(&p);
    ack(&p, s.seq + s.len);
    acked = s.seq + s.len;
    peer_write(&p, 2 * MSS);
    cr_assert_eq(seg_take(&p).len, 1200);
    cr_assert_eq(next_probe(&p, &acked).len, 0, "there is no more to find out with this peer");
    peer_stop(&p);
}

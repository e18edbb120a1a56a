/* SPDX-License-Identifier: Apache-2.0 */
/* Explicit congestion notification (RFC 3168): agreement, marks that came, echoes that came. */
#include "tests/segment/loss.h"

#define SETUP    (TCP_ECE | TCP_CWR)
#define ECT1     1u
#define ECT0     2u
#define CE       3u
#define L_IP     0u
#define O_TOS    1u
#define DSCP_EF  0xb8u
#define L_SOCKET 1u

static void on(struct engine_config *cfg)
{
    cfg->ecn = ENGINE_ECN_ON;
}

static void off(struct engine_config *cfg)
{
    cfg->ecn = ENGINE_ECN_OFF;
}

static void reno(struct engine_config *cfg)
{
    cfg->congestion = CC_RENO;
}

static void bbr(struct engine_config *cfg)
{
    cfg->congestion = CC_BBR;
}

static void cookies(struct engine_config *cfg)
{
    cfg->syncookies = ENGINE_ALWAYS;
}

static void offload(struct engine_config *cfg)
{
    cfg->ifs[0].offloads = ENGINE_TX_CSUM | ENGINE_TX_TSO4;
    cfg->ifs[0].tx_frame_max = 65535 + 14;
}

static struct sg_tcp_info tcp_info(struct peer *p)
{
    struct sg_tcp_info i;

    tcp_info_fill(p->h.e, &conn(p)->s, p->h.now_us, &i);
    return i;
}

/* The flags of the answer to a SYN with these. */
static uint8_t answer_to(void (*tweak)(struct engine_config *), uint8_t flags, uint8_t tos)
{
    struct peer p;
    uint8_t got;

    peer_start(&p, tweak);
    peer_listen(&p, 8);
    seg_send(&p, (struct seg){.flags = TCP_SYN | flags, .tos = tos, .mss = 1460, .sack_perm = true});
    got = seg_take(&p).flags;
    cr_assert_eq(p.last_tos, 0, "no SYN-ACK says that it can be marked");
    peer_stop(&p);
    return got;
}

/* An accepted connection that has agreed; its round trip is measured. */
static void agreed(struct peer *p, void (*tweak)(struct engine_config *), bool with_sack)
{
    int64_t slot;

    peer_start(p, tweak);
    peer_listen(p, 8);
    seg_send(p, (struct seg){.flags = TCP_SYN | SETUP, .mss = MSS, .wscale = 8, .sack_perm = with_sack});
    seg_expect(p, .flags = TCP_SYN | TCP_ACK | TCP_ECE);
    p->h.now_us += RTT_US;
    seg_send(p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    slot = app_accept(&p->h, p->listener);
    cr_assert_gt(slot, 0);
    p->slot = (uint32_t)slot;
}

static void echo(struct peer *p, uint32_t ack)
{
    seg_send(p, (struct seg){.flags = TCP_ACK | TCP_ECE, .seq = 1, .ack = ack});
}

/* Our active open has sent its SYN. */
static void connecting(struct peer *p, uint8_t flags)
{
    struct engine_sock_info i;

    p->slot = app_socket(&p->h, SG_SOCK_STREAM);
    cr_assert_eq(app_connect(&p->h, p->slot, 1, PEER_PORT), 0);
    cr_assert(host_find(&p->h, "SYN_SENT", &i));
    p->host_port = i.local.port;
    seg_expect(p, .flags = TCP_SYN | flags, .check = C_TOS);
}

/* ---- Agreement (6.1.1) ------------------------------------------------------------------------------ */

Test(ecn, a_listener_agrees_to_what_is_asked_for)
{
    cr_assert_eq(answer_to(NULL, SETUP, 0), TCP_SYN | TCP_ACK | TCP_ECE, "the default agrees");
    cr_assert_eq(answer_to(on, SETUP, 0), TCP_SYN | TCP_ACK | TCP_ECE);
    cr_assert_eq(answer_to(off, SETUP, 0), TCP_SYN | TCP_ACK);
    cr_assert_eq(answer_to(on, 0, 0), TCP_SYN | TCP_ACK, "not asked for");
    cr_assert_eq(answer_to(on, TCP_ECE, 0), TCP_SYN | TCP_ACK, "half a question");
    cr_assert_eq(answer_to(on, TCP_CWR, 0), TCP_SYN | TCP_ACK);
}

Test(ecn, a_syn_whose_field_was_rewritten_is_not_agreed_to)
{
    cr_assert_eq(answer_to(on, SETUP, CE), TCP_SYN | TCP_ACK);
    cr_assert_eq(answer_to(on, SETUP, ECT0), TCP_SYN | TCP_ACK);
    cr_assert_eq(answer_to(on, SETUP, DSCP_EF), TCP_SYN | TCP_ACK | TCP_ECE,
                 "the rest is none of its business");
}

Test(ecn, an_open_asks_only_when_told_to)
{
    struct peer p;

    peer_start(&p, NULL);
    connecting(&p, 0);
    peer_stop(&p);
    peer_start(&p, off);
    connecting(&p, 0);
    peer_stop(&p);
    peer_start(&p, on);
    connecting(&p, SETUP);
    peer_stop(&p);
}

/* Open with ecn on, answered with these flags; is our data sent as such that can be marked? */
static bool agrees_with(uint8_t flags)
{
    struct peer p;
    struct seg s;

    peer_start(&p, on);
    connecting(&p, SETUP);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK | flags, .ack = 1, .mss = 1460});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .check = C_TOS);
    peer_write(&p, 100);
    s = seg_expect(&p, .flags = TCP_ACK, .len = 100);
    cr_assert_eq(!!(tcp_info(&p).options & SG_TCPI_ECN), s.tos == ECT0);
    peer_stop(&p);
    return s.tos == ECT0;
}

Test(ecn, the_answer_agrees_with_one_flag_alone)
{
    cr_assert(agrees_with(TCP_ECE));
    cr_assert_not(agrees_with(0));
    cr_assert_not(agrees_with(SETUP), "flags that are only mirrored");
    cr_assert_not(agrees_with(TCP_CWR));
}

Test(ecn, a_syn_that_is_sent_again_asks_no_more) /* 6.1.1.1 */
{
    struct peer p;

    peer_start(&p, on);
    connecting(&p, SETUP);
    peer_wait_tx(&p, 5000000);
    seg_expect(&p, .flags = TCP_SYN);
    peer_wait_tx(&p, 5000000);
    seg_expect(&p, .flags = TCP_SYN);
    cr_assert_eq(host_counter(&p.h, "TcpEcnFallback"), 1);
    /* It is the first that is answered. We have sent one that did not ask: no data of ours may be marked; the
     * peer's may, and then it has to be told. */
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK | TCP_ECE, .ack = 1, .mss = 1460});
    seg_expect(&p, .flags = TCP_ACK, .seq = 1);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK, .len = 100, .check = C_TOS);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101, .len = 100, .tos = CE});
    seg_expect(&p, .flags = TCP_ACK | TCP_ECE, .ack = 101);
    peer_stop(&p);
}

Test(ecn, a_listener_forgets_when_the_syn_asks_no_more)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_listen(&p, 8);
    seg_send(&p, (struct seg){.flags = TCP_SYN | SETUP, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK | TCP_ECE);
    peer_wait_tx(&p, 5000000);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK | TCP_ECE);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK, .len = 100, .check = C_TOS);
    peer_stop(&p);
}

Test(ecn, a_cookie_keeps_it_where_it_can)
{
    struct peer p;

    peer_start(&p, cookies);
    peer_listen(&p, 8);
    seg_send(&p, (struct seg){.flags = TCP_SYN | SETUP, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK); /* without timestamps there is no room for it */
    peer_stop(&p);

    peer_start(&p, cookies);
    p.ts = true;
    peer_listen(&p, 8);
    seg_send(&p, (struct seg){.flags = TCP_SYN | SETUP, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK | TCP_ECE);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK, .len = 100, .tos = ECT0);
    peer_stop(&p);
}

Test(ecn, a_simultaneous_open_agrees)
{
    struct peer p;

    peer_start(&p, on);
    connecting(&p, SETUP);
    seg_send(&p, (struct seg){.flags = TCP_SYN | SETUP, .mss = 1460});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK | TCP_ECE);
    seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK | TCP_ECE, .ack = 1, .mss = 1460});
    seg_drain(&p);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK, .len = 100, .tos = ECT0);
    peer_stop(&p);
}

/* ---- What says that it can be marked (6.1.2, 6.1.4 to 6.1.6) ---------------------------------------- */

Test(ecn, only_new_data_can_be_marked)
{
    struct peer p;

    agreed(&p, NULL, true);
    peer_write(&p, 1000);
    seg_expect(&p, .flags = TCP_ACK, .len = 1000, .tos = ECT0);
    peer_wait_tx(&p, 5000000); /* probe or time-out */
    seg_expect(&p, .flags = TCP_ACK, .len = 1000, .check = C_TOS);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1001, .len = 2000});
    seg_expect(&p, .flags = TCP_ACK, .ack = 2001, .check = C_LEN | C_TOS);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2001, .ack = 1001, .zero_wnd = true});
    peer_write(&p, 1000);
    peer_wait_tx(&p, 5000000);
    seg_expect(&p, .flags = TCP_ACK, .seq = 1000, .check = C_LEN | C_TOS); /* the window is probed */
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2001, .ack = 1001});
    seg_expect(&p, .flags = TCP_ACK, .len = 1000, .tos = ECT0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 2001, .ack = 2001});
    app_shutdown(&p.h, p.slot, SG_SHUT_WR);
    seg_expect(&p, .flags = TCP_ACK | TCP_FIN, .check = C_LEN | C_TOS);
    peer_stop(&p);
}

Test(ecn, the_applications_class_of_service_stays)
{
    struct peer p;

    agreed(&p, NULL, true);
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.slot, L_IP, O_TOS, DSCP_EF | CE, p.h.now_us), 0);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK, .len = 100, .tos = DSCP_EF | ECT0);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101, .len = 2000});
    seg_expect(&p, .flags = TCP_ACK, .ack = 2001, .tos = DSCP_EF);
    peer_stop(&p);
}

/* ---- Marks that come (6.1.3) ------------------------------------------------------------------------ */

Test(ecn, a_mark_is_echoed_until_the_sender_has_reduced)
{
    struct peer p;
    uint32_t seq = 1;

    agreed(&p, NULL, true);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100, .tos = ECT1});
    peer_wait_tx(&p, 500000);
    seg_expect(&p, .flags = TCP_ACK, .ack = 101);
    cr_assert(tcp_info(&p).options & SG_TCPI_ECN_SEEN);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 101, .ack = 1, .len = 100, .tos = CE});
    seg_expect(&p, .flags = TCP_ACK | TCP_ECE, .ack = 201);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 201, .ack = 1, .len = 100, .tos = ECT0});
    peer_wait_tx(&p, 500000);
    seg_expect(&p, .flags = TCP_ACK | TCP_ECE, .ack = 301);
    peer_write(&p, 50);
    seg_expect(&p, .flags = TCP_ACK | TCP_ECE, .len = 50); /* in data of ours too */
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_CWR, .seq = 301, .ack = 51, .len = 100, .tos = ECT0});
    seg_expect(&p, .flags = TCP_ACK, .ack = 401); /* at once: its window is small */
    cr_assert_eq(peer_read_all(&p, &seq), 400);
    cr_assert_eq(host_counter(&p.h, "IpInCEPkts"), 1);
    cr_assert_eq(host_counter(&p.h, "IpInECT0Pkts"), 2);
    cr_assert_eq(host_counter(&p.h, "IpInECT1Pkts"), 1);
    peer_stop(&p);
}

Test(ecn, a_mark_on_the_segment_with_cwr_counts_anew)
{
    struct peer p;

    agreed(&p, NULL, true);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 100, .tos = CE});
    seg_expect(&p, .flags = TCP_ACK | TCP_ECE, .ack = 101);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_CWR, .seq = 101, .ack = 1, .len = 100, .tos = CE});
    seg_expect(&p, .flags = TCP_ACK | TCP_ECE, .ack = 201);
    peer_stop(&p);
}

Test(ecn, marks_outside_the_window_or_without_data_do_not_count) /* 6.1.4, 6.1.5 */
{
    struct peer p;

    agreed(&p, NULL, true);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .tos = CE});
    seg_none(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 500001, .ack = 1, .len = 100, .tos = CE});
    seg_expect(&p, .flags = TCP_ACK, .ack = 1);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 2000});
    seg_expect(&p, .flags = TCP_ACK, .ack = 2001);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 2000, .tos = CE});
    seg_expect(&p, .flags = TCP_ACK, .ack = 2001);
    peer_stop(&p);
}

Test(ecn, without_agreement_a_mark_means_nothing)
{
    struct peer p;

    peer_start(&p, NULL);
    peer_established(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 2000, .tos = CE});
    seg_expect(&p, .flags = TCP_ACK, .ack = 2001);
    peer_write(&p, 1000);
    seg_expect(&p, .flags = TCP_ACK, .len = 1000, .check = C_TOS);
    echo(&p, 1001);
    cr_assert_eq(host_counter(&p.h, "TcpEcnReductions"), 0);
    peer_stop(&p);
}

Test(ecn, a_frame_of_joined_segments_is_marked_as_they_were)
{
    static uint8_t f[16384];
    struct pktbuf pkt = {.data = f, .flags = PKT_CSUM_GOOD, .gso_type = PKT_GSO_TCP4, .gso_size = 1000};
    struct peer p;

    agreed(&p, NULL, true);
    pkt.len = pkt.total =
        peer_frame(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .len = 4500, .tos = CE}, f);
    host_rx(&p.h, &pkt);
    seg_expect(&p, .flags = TCP_ACK | TCP_ECE, .ack = 4501);
    cr_assert_eq(host_counter(&p.h, "IpInCEPkts"), 5, "each of them");
    peer_stop(&p);
}

/* ---- Echoes that come (6.1.2) ----------------------------------------------------------------------- */

/* A window of n segments in flight, from the segment that is returned. */
static uint32_t flying(struct peer *p, uint32_t n)
{
    uint32_t seg = grow(p, n);
    struct seg s;

    peer_write(p, 3 * n * MSS);
    while (seg_next(p, &s))
        cr_assert_eq(s.tos, ECT0);
    p->h.now_us += RTT_US;
    return seg;
}

Test(ecn, an_echo_reduces_once_a_window_and_is_answered_once)
{
    struct peer p;
    uint32_t seg, cwnd, end, cwrs = 0, echoed;
    struct seg s;

    agreed(&p, NULL, true);
    seg = flying(&p, 20);
    cwnd = info(&p).cwnd_bytes;
    end = conn(&p)->snd_nxt - p.host_isn;
    cr_assert_eq(tcp_info(&p).ca_state, 0);
    for (echoed = at(seg + 1); echoed <= end; echoed += MSS) {
        echo(&p, echoed);
        while (seg_next(&p, &s)) {
            cr_assert_eq(s.tos, ECT0, "nothing is sent again");
            cwrs += !!(s.flags & TCP_CWR);
            cr_assert_geq(s.seq, end);
        }
        if (echoed < end)
            cr_assert_eq(tcp_info(&p).ca_state, 2, "as Linux: CWR");
    }
    cr_assert_eq(cwrs, 1, "on the first new data alone");
    cr_assert_eq(conn(&p)->ssthresh, cwnd / 10 * 7, "CUBIC (RFC 9438 4.6)");
    cr_assert_eq(host_counter(&p.h, "TcpEcnReductions"), 1);
    cr_assert_eq(tcp_info(&p).delivered_ce, (end - at(seg)) / MSS);
    cr_assert_eq(host_counter(&p.h, "TcpDeliveredCE"), (end - at(seg)) / MSS);
    /* The next window: no more echoes, and it is over. */
    ack(&p, end + MSS);
    cr_assert_eq(tcp_info(&p).ca_state, 0);
    cr_assert(info(&p).cwnd_bytes >= cwnd / 10 * 7 && info(&p).cwnd_bytes < cwnd / 10 * 7 + 2 * MSS);
    seg_drain(&p);
    echo(&p, end + 2 * MSS);
    cr_assert_eq(host_counter(&p.h, "TcpEcnReductions"), 2, "a mark of the next window");
    cr_assert_eq(host_counter(&p.h, "TcpRetransSegs"), 0);
    peer_stop(&p);
}

Test(ecn, newreno_halves_even_when_nothing_is_left_in_flight)
{
    struct peer p;
    uint32_t seg, n, cwnd;

    agreed(&p, reno, true);
    seg = grow(&p, 20);
    cwnd = info(&p).cwnd_bytes;
    n = write_segs(&p, 10);
    p.h.now_us += RTT_US;
    echo(&p, at(seg + n));
    cr_assert_eq(info(&p).cwnd_bytes, cwnd / 2);
    /* Late duplicates of that echo are no news, before and after the answer. */
    echo(&p, at(seg + n));
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK | TCP_CWR, .len = 100, .tos = ECT0);
    echo(&p, at(seg + n));
    cr_assert_eq(host_counter(&p.h, "TcpEcnReductions"), 1);
    ack(&p, at(seg + n) + 100);
    cr_assert_eq(tcp_info(&p).ca_state, 0);
    cr_assert_eq(info(&p).cwnd_bytes, cwnd / 2);
    peer_stop(&p);
}

Test(ecn, a_loss_in_the_same_window_reduces_no_further)
{
    struct peer p;
    uint32_t seg, ssthresh;

    agreed(&p, reno, true);
    seg = flying(&p, 20);
    for (int k = 0; k < 6; k++)
        echo(&p, at(++seg));
    seg--;
    ssthresh = conn(&p)->ssthresh;
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_ECE,
                              .seq = 1,
                              .ack = at(seg + 1),
                              .sacks = 1,
                              .sack = {{at(seg + 2), at(seg + 8)}}});
    cr_assert_eq(tcp_info(&p).ca_state, 3);
    cr_assert_eq(conn(&p)->ssthresh, ssthresh);
    cr_assert_eq(seg_take(&p).seq, at(seg + 1), "the loss is repaired");
    cr_assert_eq(p.last_tos, 0, "by what can't be marked");
    seg_drain(&p);
    /* It was only late, says the peer; the congestion was there all the same. */
    p.h.now_us += RTT_US;
    seg_send(&p, (struct seg){.flags = TCP_ACK | TCP_ECE,
                              .seq = 1,
                              .ack = at(seg + 8),
                              .sacks = 1,
                              .sack = {{at(seg + 1), at(seg + 2)}}});
    cr_assert_eq(conn(&p)->ssthresh, ssthresh);
    cr_assert_eq(host_counter(&p.h, "TcpDSACKUndo"), 0);
    peer_stop(&p);
}

Test(ecn, a_mark_in_the_window_of_a_loss_reduces_no_further)
{
    struct peer p;
    uint32_t seg, ssthresh, end;
    unsigned cwrs = 0;
    struct seg s;

    agreed(&p, reno, true);
    seg = flying(&p, 20);
    end = conn(&p)->snd_nxt - p.host_isn;
    sack_range(&p, at(seg), seg + 1, seg + 8);
    cr_assert_eq(tcp_info(&p).ca_state, 3);
    ssthresh = conn(&p)->ssthresh;
    while (seg_next(&p, &s))
        cwrs += !!(s.flags & TCP_CWR);
    p.h.now_us += RTT_US;
    echo(&p, at(seg + 8));
    while (seg_next(&p, &s))
        cwrs += !!(s.flags & TCP_CWR);
    echo(&p, end);
    while (seg_next(&p, &s))
        cwrs += !!(s.flags & TCP_CWR);
    cr_assert_eq(conn(&p)->ssthresh, ssthresh);
    cr_assert_eq(cwrs, 1, "any reduction is told of (6.1)");
    cr_assert_eq(host_counter(&p.h, "TcpEcnReductions"), 0);
    peer_stop(&p);
}

Test(ecn, a_time_out_is_told_of_too)
{
    struct peer p;

    agreed(&p, NULL, false);
    peer_write(&p, MSS);
    seg_expect(&p, .flags = TCP_ACK, .tos = ECT0);
    peer_wait_tx(&p, 5000000);
    seg_expect(&p, .flags = TCP_ACK, .len = MSS, .check = C_TOS);
    ack(&p, 1 + MSS);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_ACK | TCP_CWR, .len = 100, .tos = ECT0);
    peer_stop(&p);
}

Test(ecn, without_sack_losses_are_found_while_the_window_is_reduced)
{
    struct peer p;
    uint32_t seg;

    agreed(&p, NULL, false);
    seg = flying(&p, 20);
    echo(&p, at(seg + 1));
    seg_drain(&p);
    for (int i = 0; i < 3; i++)
        echo(&p, at(seg + 1));
    cr_assert_eq(tcp_info(&p).ca_state, 3);
    cr_assert_eq(seg_take(&p).seq, at(seg + 1));
    peer_stop(&p);
}

Test(ecn, of_a_frame_that_the_device_cuts_the_header_has_cwr)
{
    struct peer p;
    struct seg s;

    agreed(&p, offload, true);
    peer_write(&p, 40 * MSS);
    seg_drain(&p);
    p.h.now_us += RTT_US;
    echo(&p, at(11));
    s = seg_take(&p);
    cr_assert(s.flags & TCP_CWR);
    cr_assert(s.len > MSS && p.last_gso == MSS, "the device cuts it, and leaves CWR on the first segment");
    cr_assert_eq(s.tos, ECT0);
    peer_stop(&p);
}

Test(ecn, bbr_takes_an_echo_as_it_takes_a_loss)
{
    struct peer p;
    uint32_t seg = 1;
    const struct bbr *b;

    agreed(&p, bbr, true);
    cr_assert_neq(conn(&p)->path, NIL);
    for (int i = 0; i < 40; i++) { /* rounds, until the model has settled */
        peer_write(&p, 4 * MSS);
        peer_wait(&p, RTT_US);
        seg += seg_drain(&p);
        ack(&p, at(seg));
    }
    b = &path_of(p.h.e, conn(&p))->bbr;
    cr_assert_not(b->is_loss_in_round);
    peer_write(&p, 4 * MSS);
    peer_wait(&p, RTT_US);
    seg += seg_drain(&p);
    echo(&p, at(seg));
    cr_assert_eq(host_counter(&p.h, "TcpEcnReductions"), 1);
    cr_assert(b->is_loss_in_round || b->inflight_shortterm != UINT32_MAX);
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Loss recovery rule by rule: RFC 2018, 2883, 3522, 5682, 6298, 8985, 9937. */
#include "tests/segment/loss.h"

static const struct peer_opts stamped = {.mss = MSS, .wscale = 8, .sack = true, .ts = true, .wnd = 65535};

/* A segment carries 12 bytes of timestamps. */
#define TS_MSS (MSS - 12)

static uint32_t ts_at(uint32_t n)
{
    return 1 + (n - 1) * TS_MSS;
}

static void blocks(struct peer *p, uint32_t seq, unsigned n, const struct tcp_sack_block *b)
{
    struct seg s = {.flags = TCP_ACK, .seq = 1, .ack = seq, .sacks = n};

    memcpy(s.sack, b, n * sizeof(*b));
    seg_send(p, s);
}

/* ---- SACK ------------------------------------------------------------------------------------------- */

/* RFC 2018 4: an ACK that another one overtook still says what has arrived. */
Test(sack, rfc2018_an_overtaken_ack_counts)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    ack(&p, at(3));
    seg_drain(&p);
    blocks(&p, at(2), 1, (struct tcp_sack_block[]){{at(5), at(8)}});
    seg_expect(&p, .seq = at(3), .len = MSS);
    peer_stop(&p);
}

/* RFC 2018 8: the head was acknowledged selectively, and is missing now: it is sent again soon. */
Test(sack, rfc2018_8_reneging_shows_at_the_head)
{
    struct peer p;
    uint64_t begin;

    start(&p, &sack);
    write_segs(&p, 5);
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 2, 6);
    seg_drain(&p);
    ack(&p, at(2));
    begin = p.h.now_us;
    peer_wait_tx(&p, 1000000);
    seg_expect(&p, .seq = at(2), .len = MSS);
    cr_assert_leq(p.h.now_us - begin, 30000); /* half a round trip */
    cr_assert_eq(host_counter(&p.h, "TcpSACKReneging"), 1);
    peer_stop(&p);
}

/* The work for SACK blocks has a bound, and what grows costs only its growth. */
Test(sack, the_work_per_ack_is_bounded)
{
    const struct peer_opts small = {.mss = 100, .wscale = 8, .sack = true, .wnd = 65535};
    struct peer p;
    struct tcp_conn *c;
    uint32_t segs, most = 0;
    uint64_t x = 1;

    start(&p, &small);
    c = conn(&p);
    c->cwnd = 1 << 20;
    peer_write(&p, 262000);
    segs = seg_drain(&p);
    cr_assert_eq(segs, 2620);
    p.h.now_us += RTT_US;
    for (uint32_t i = 2; i < 1000; i++) { /* one block that grows at its end */
        blocks(&p, 1, 1, (struct tcp_sack_block[]){{101, 1 + 100 * i}});
        cr_assert_leq(p.h.e->tcp.sack_steps, 4, "segment %u: %u steps", i, p.h.e->tcp.sack_steps);
        seg_drain(&p);
    }
    for (uint32_t i = 0; i < 3000; i++) { /* blocks anywhere */
        struct tcp_sack_block b[4];

        for (unsigned k = 0; k < 4; k++) {
            x = x * UINT64_C(6364136223846793005) + 1;
            b[k].start = 1 + 100 * (uint32_t)((x >> 33) % 2600);
            b[k].end = b[k].start + 100 * (1 + (uint32_t)(x >> 60));
        }
        blocks(&p, 1, 4, b);
        if (p.h.e->tcp.sack_steps > most)
            most = p.h.e->tcp.sack_steps;
        seg_drain(&p);
    }
    cr_assert_gt(most, 1000, "the walk was never long: %u", most);
    cr_assert_leq(most, 1025);
    cr_assert_null(engine_check(p.h.e));
    peer_stop(&p);
}

/* RFC 2883 4.2.2: a first block inside the second one is a duplicate report. */
Test(dsack, rfc2883_inside_the_second_block)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    blocks(&p, at(1), 2, (struct tcp_sack_block[]){{at(3), at(4)}, {at(2), at(5)}});
    cr_assert_eq(host_counter(&p.h, "TcpDSACKRecv"), 1);
    cr_assert_eq(flight_of(p.h.e, conn(&p))->sacked_bytes, 3 * MSS);
    peer_stop(&p);
}

/* What was never sent, or lies on both sides of the ACK, is no report. */
Test(dsack, rfc2883_nonsense_is_ignored)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    blocks(&p, at(4), 1, (struct tcp_sack_block[]){{at(3), at(5)}});
    blocks(&p, at(4), 1, (struct tcp_sack_block[]){{at(1), at(1)}});
    cr_assert_eq(host_counter(&p.h, "TcpDSACKIgnored"), 2);
    cr_assert_eq(host_counter(&p.h, "TcpDSACKRecv"), 0);
    cr_assert_eq(conn(&p)->reo_wnd_mult, 1);
    peer_stop(&p);
}

/* ---- RACK ------------------------------------------------------------------------------------------- */

/* RFC 8985 6.2 step 3: what one ACK reports came in no order that we could know. */
Test(rack, step3_blocks_of_one_ack_are_no_reordering)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    blocks(&p, at(3), 2, (struct tcp_sack_block[]){{at(9), at(10)}, {at(5), at(6)}});
    cr_assert(!(conn(&p)->flags & TF_REORDER));
    blocks(&p, at(3), 1, (struct tcp_sack_block[]){{at(7), at(8)}}); /* below what is known: now there is */
    cr_assert(conn(&p)->flags & TF_REORDER);
    peer_stop(&p);
}

static void lose_first_of_ten(struct peer *p, uint32_t first)
{
    conn(p)->cwnd = 10 * MSS;
    peer_write(p, 10 * MSS);
    seg_drain(p);
    p->h.now_us += RTT_US;
    sack_range(p, at(first), first + 1, first + 8);
    seg_drain(p);
    p->h.now_us += RTT_US;
    ack(p, at(first + 10));
    seg_drain(p);
}

/* RFC 8985 6.2 step 4: a D-SACK widens the window once a round trip, 16 recoveries without one narrow it. */
Test(rack, step4_dsack_widens_the_window_for_16_recoveries)
{
    struct peer p;
    uint32_t seg = 5;

    start(&p, &sack);
    write_segs(&p, 10);
    ack(&p, at(5));
    for (int i = 0; i < 2; i++)
        blocks(&p, at(5), 1, (struct tcp_sack_block[]){{at(2), at(3)}});
    cr_assert_eq(conn(&p)->reo_wnd_mult, 2);
    ack(&p, at(11));
    seg_drain(&p);
    seg = 11;
    for (int i = 0; i < 15; i++, seg += 10)
        lose_first_of_ten(&p, seg);
    cr_assert_eq(conn(&p)->reo_wnd_mult, 2);
    lose_first_of_ten(&p, seg);
    cr_assert_eq(conn(&p)->reo_wnd_mult, 1);
    peer_stop(&p);
}

/* ---- TLP -------------------------------------------------------------------------------------------- */

/* Ten segments, of which the last is probed for. */
static void probed(struct peer *p)
{
    start(p, &sack);
    write_segs(p, 10);
    p->h.now_us += RTT_US;
    ack(p, at(10));
    peer_wait_tx(p, 1000000);
    seg_expect(p, .seq = at(10), .len = MSS);
    p->h.now_us += RTT_US;
    ack(p, at(11));
}

/* RFC 8985 7.4.2: nothing said that the probe was one too many, so it repaired a loss. */
Test(tlp, rfc8985_7_4_2_a_repaired_loss_is_a_loss)
{
    struct peer p;
    uint32_t cwnd;

    probed(&p);
    cwnd = info(&p).cwnd_bytes;
    write_segs(&p, 1);
    p.h.now_us += RTT_US;
    ack(&p, at(12));
    cr_assert_lt(info(&p).ssthresh_bytes, cwnd);
    cr_assert_leq(info(&p).cwnd_bytes, info(&p).ssthresh_bytes);
    cr_assert_eq(host_counter(&p.h, "TcpLossProbeRecovery"), 1);
    peer_stop(&p);
}

Test(tlp, rfc8985_7_4_2_a_dsack_clears_it)
{
    struct peer p;

    probed(&p);
    blocks(&p, at(11), 1, (struct tcp_sack_block[]){{at(10), at(11)}});
    write_segs(&p, 1);
    p.h.now_us += RTT_US;
    ack(&p, at(12));
    cr_assert_eq(host_counter(&p.h, "TcpLossProbeRecovery"), 0);
    peer_stop(&p);
}

Test(tlp, rfc8985_7_4_2_a_duplicate_ack_clears_it)
{
    struct peer p;

    probed(&p);
    ack(&p, at(11));
    write_segs(&p, 1);
    p.h.now_us += RTT_US;
    ack(&p, at(12));
    cr_assert_eq(host_counter(&p.h, "TcpLossProbeRecovery"), 0);
    peer_stop(&p);
}

/* ---- PRR -------------------------------------------------------------------------------------------- */

/* RFC 9937 6: DeliveredData counts each byte once, when it is first acknowledged in either way. */
Test(prr, rfc9937_sacked_bytes_count_once)
{
    struct peer p;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 2, 6);
    seg_drain(&p);
    cr_assert_eq(flight_of(p.h.e, conn(&p))->prr_delivered, 4 * MSS);
    cr_assert_eq(flight_of(p.h.e, conn(&p))->recover_fs, 10 * MSS);
    p.h.now_us += RTT_US;
    ack(&p, at(6));
    cr_assert_eq(flight_of(p.h.e, conn(&p))->prr_delivered, 5 * MSS);
    peer_stop(&p);
}

/* Without SACK a duplicate ACK tells of one segment, which the partial ACK then doesn't tell of again. */
Test(prr, rfc9937_without_sack_duplicate_acks_count)
{
    struct peer p;

    start(&p, &plain);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    for (int i = 0; i < 3; i++)
        ack(&p, at(1));
    seg_drain(&p);
    cr_assert_eq(flight_of(p.h.e, conn(&p))->prr_delivered, MSS); /* that of the ACK that began it */
    p.h.now_us += RTT_US;
    ack(&p, at(5)); /* four: three were known */
    cr_assert_eq(flight_of(p.h.e, conn(&p))->prr_delivered, 2 * MSS);
    peer_stop(&p);
}

/* ---- F-RTO, Eifel ----------------------------------------------------------------------------------- */

/* Ten segments in flight and more to send; the time-out has sent the first again. */
static void timed_out(struct peer *p, const struct peer_opts *o, uint32_t bytes)
{
    start(p, o);
    peer_write(p, bytes);
    seg_drain(p);
    while (!host_counter(&p->h, "TcpTimeouts"))
        peer_wait(p, 10000);
    seg_drain(p);
    p->h.now_us += RTT_US;
}

/* RFC 5682 2.1 step 3.b: the ACK of what was not sent again shows that nothing was lost. */
Test(frto, rfc5682_a_late_flight_is_no_loss)
{
    struct peer p;
    struct seg s;

    timed_out(&p, &plain, 20 * MSS);
    cr_assert_leq(info(&p).cwnd_bytes, MSS);
    ack(&p, at(2));
    while (engine_tx_pending(p.h.e)) {
        s = seg_take(&p);
        cr_assert_geq(s.seq, at(11), "step 2.b: new data, not %u", s.seq);
    }
    ack(&p, at(4));
    cr_assert_geq(info(&p).cwnd_bytes, 10 * MSS);
    cr_assert_eq(host_counter(&p.h, "TcpSpuriousRTOs"), 1);
    while (engine_tx_pending(p.h.e)) {
        s = seg_take(&p);
        cr_assert_geq(s.seq, at(11), "nothing is sent again");
    }
    peer_stop(&p);
}

/* Step 3.a: a duplicate ACK for the new data says that the loss was real. */
Test(frto, rfc5682_a_duplicate_ack_means_loss)
{
    struct peer p;

    timed_out(&p, &plain, 20 * MSS);
    ack(&p, at(2));
    seg_expect(&p, .seq = at(11), .len = MSS);
    seg_drain(&p);
    p.h.now_us += RTT_US;
    ack(&p, at(2));
    seg_expect(&p, .seq = at(2), .len = MSS);
    cr_assert_eq(host_counter(&p.h, "TcpSpuriousRTOs"), 0);
    peer_stop(&p);
}

/* Step 2.b needs new data; without it what counts as lost is sent again. */
Test(frto, rfc5682_without_new_data_it_is_conventional)
{
    struct peer p;

    timed_out(&p, &plain, 10 * MSS);
    ack(&p, at(2));
    seg_expect(&p, .seq = at(2), .len = MSS);
    peer_stop(&p);
}

/* RFC 3522: the echoed timestamp is older than the retransmission. */
Test(eifel, rfc3522_after_a_time_out)
{
    struct peer p;
    uint32_t old;

    start(&p, &stamped);
    peer_write(&p, 10 * TS_MSS);
    seg_drain(&p);
    old = (uint32_t)(p.h.now_us / 1000) + conn(&p)->tsoff;
    while (!host_counter(&p.h, "TcpTimeouts"))
        peer_wait(&p, 10000);
    seg_drain(&p);
    cr_assert_leq(info(&p).cwnd_bytes, 10 * TS_MSS);
    p.h.now_us += RTT_US;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = ts_at(2), .tsecr = old});
    cr_assert_geq(info(&p).cwnd_bytes, 10 * TS_MSS);
    cr_assert_eq(host_counter(&p.h, "TcpLossUndo"), 1);
    peer_stop(&p);
}

Test(eifel, rfc3522_in_fast_recovery)
{
    struct peer p;
    uint32_t old, before;
    struct tcp_sack_block b = {ts_at(2), ts_at(6)};

    start(&p, &stamped);
    peer_write(&p, 10 * TS_MSS);
    seg_drain(&p);
    before = info(&p).cwnd_bytes;
    old = (uint32_t)(p.h.now_us / 1000) + conn(&p)->tsoff;
    p.h.now_us += RTT_US;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .tsecr = old, .sacks = 1, .sack = {b}});
    seg_expect(&p, .seq = 1, .len = TS_MSS);
    p.h.now_us += 2000;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = ts_at(6), .tsecr = old});
    cr_assert_geq(info(&p).cwnd_bytes, before);
    cr_assert_eq(host_counter(&p.h, "TcpPartialUndo"), 1);
    peer_stop(&p);
}

/* The same with the timestamp of the retransmission takes nothing back. */
Test(eifel, rfc3522_a_real_loss_stays_one)
{
    struct peer p;
    uint32_t now_ms;
    struct tcp_sack_block b = {ts_at(2), ts_at(6)};

    start(&p, &stamped);
    peer_write(&p, 10 * TS_MSS);
    seg_drain(&p);
    p.h.now_us += RTT_US;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1, .sacks = 1, .sack = {b}});
    seg_expect(&p, .seq = 1, .len = TS_MSS);
    now_ms = (uint32_t)(p.h.now_us / 1000) + conn(&p)->tsoff;
    p.h.now_us += RTT_US;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = ts_at(6), .tsecr = now_ms});
    cr_assert_eq(host_counter(&p.h, "TcpPartialUndo"), 0);
    cr_assert_eq(conn(&p)->ca_state, CA_RECOVERY);
    peer_stop(&p);
}

/* ---- Time-outs -------------------------------------------------------------------------------------- */

/* RFC 6298 5.7: a SYN-ACK was lost and there is no sample: three seconds. */
Test(rto, rfc6298_5_7_three_seconds_after_a_lost_syn)
{
    struct peer p;
    uint64_t begin;

    peer_start(&p, NULL);
    peer_listen(&p, 8);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = MSS});
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    peer_wait_tx(&p, 2000000);
    seg_expect(&p, .flags = TCP_SYN | TCP_ACK);
    p.h.now_us += RTT_US;
    seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 1});
    p.slot = (uint32_t)app_accept(&p.h, p.listener);
    write_segs(&p, 1);
    begin = p.h.now_us;
    peer_wait_tx(&p, 10000000);
    seg_expect(&p, .seq = 1, .len = MSS);
    cr_assert(p.h.now_us - begin >= 3000000 && p.h.now_us - begin < 3010000, "%lu us", p.h.now_us - begin);
    peer_stop(&p);
}

/* RFC 6298 5.3: only an ACK of new data restarts the timer; SACK goes on for ever with a lost head. */
Test(rto, rfc6298_5_3_sack_alone_does_not_put_it_off)
{
    struct peer p;
    uint64_t begin;

    start(&p, &sack);
    write_segs(&p, 10);
    p.h.now_us += RTT_US;
    sack_range(&p, at(1), 2, 5);
    seg_drain(&p);
    begin = p.h.now_us;
    for (uint32_t i = 6; i <= 11; i++) {
        peer_wait(&p, 35000);
        sack_range(&p, at(1), 2, i);
    }
    while (!host_counter(&p.h, "TcpTimeouts"))
        peer_wait(&p, 1000);
    cr_assert_lt(p.h.now_us - begin, 300000, "%lu us", p.h.now_us - begin);
    peer_stop(&p);
}

/* After a time-out the window grows with small segments too, as far as they fill it. */
Test(rto, the_window_of_a_slow_application_recovers)
{
    struct peer p;
    uint32_t sent = 1;

    start(&p, &sack);
    peer_write(&p, 100);
    seg_drain(&p);
    while (!host_counter(&p.h, "TcpTimeouts"))
        peer_wait(&p, 10000);
    seg_drain(&p);
    cr_assert_leq(info(&p).cwnd_bytes, MSS);
    for (int i = 0; i < 20; i++) {
        p.h.now_us += RTT_US;
        ack(&p, sent += 100);
        peer_write(&p, 100);
        seg_drain(&p);
    }
    cr_assert_geq(info(&p).cwnd_bytes, 2 * MSS);
    peer_stop(&p);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "hw/offload.h"
#include "hw/sim.h"
#include "tests/unit/hw/frames.h"

#define FRAMES      20000u
#define FRAME_BYTES 200u
#define SEED        42u

static const struct frame_addr end_a = {{2, 0, 0, 0, 0, 1}, {10, 0, 0, 1}, 1000};
static const struct frame_addr end_b = {{2, 0, 0, 0, 0, 2}, {10, 0, 0, 2}, 2000};

/** What the receiver saw of one frame. */
struct seen {
    uint64_t at_us;
    uint32_t number;
    bool right; /* all checksums */
};

struct run {
    struct seen *seen;
    uint32_t count;
    uint64_t digest; /* of every byte and arrival time */
    struct sim_stats stats;
};

static struct sim_link *link_make(const struct sim_params *params)
{
    struct sim_link *link = NULL;

    cr_assert_eq(sim_create(params, &link), 0);
    return link;
}

/** A UDP frame that carries its number. */
static uint32_t numbered(uint8_t *frame, uint32_t number, uint32_t bytes)
{
    uint8_t body[2048] = {0};

    frame_put32(body, number);
    return frame_udp(frame, &end_a, &end_b, body, bytes - FRAME_ETH - FRAME_IP4 - FRAME_UDP);
}

static int send_one(struct sim_link *link, unsigned end, struct pktbuf *pkt)
{
    struct device *dev = sim_end(link, end);

    return dev->ops->tx_burst(dev, &pkt, 1);
}

static void receive_due(struct sim_link *link, uint64_t now_us, struct run *run, uint32_t max)
{
    struct device *dev = sim_end(link, 1);
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    int n;

    while ((n = dev->ops->rx_burst(dev, pkts, DEV_RX_BURST_MAX)) > 0) {
        for (int i = 0; i < n; i++) {
            cr_assert_lt(run->count, max);
            for (uint32_t k = 0; k < pkts[i]->len; k++)
                run->digest = (run->digest ^ pkts[i]->data[k]) * 0x100000001b3u + now_us;
            run->seen[run->count++] = (struct seen){
                .at_us = now_us,
                .number = frame_get32(pkts[i]->data + FRAME_ETH + FRAME_IP4 + FRAME_UDP),
                .right = frame_is_right(pkts[i]->data, pkts[i]->len),
            };
        }
    }
    cr_assert_eq(n, 0);
}

/** Send FRAMES frames from end 0, one every gap_us, and collect what arrives. */
static struct run run_frames(const struct sim_params *params, uint64_t gap_us)
{
    struct sim_link *link = link_make(params);
    struct run run = {.seen = calloc(2 * FRAMES, sizeof(struct seen))};
    uint8_t frame[FRAME_BYTES];
    uint64_t now = 0;

    for (uint32_t i = 0; i < FRAMES; i++) {
        struct pktbuf pkt = frame_pkt(frame, numbered(frame, i, FRAME_BYTES));
        uint64_t send_at = i * gap_us;
        while (sim_next_us(link) <= send_at) {
            now = sim_next_us(link) > now ? sim_next_us(link) : now;
            sim_set_now(link, now);
            receive_due(link, now, &run, 2 * FRAMES);
        }
        sim_set_now(link, now = send_at);
        cr_assert_eq(send_one(link, 0, &pkt), 1);
    }
    while (sim_next_us(link) != UINT64_MAX) {
        now = sim_next_us(link) > now ? sim_next_us(link) : now;
        sim_set_now(link, now);
        receive_due(link, now, &run, 2 * FRAMES);
    }
    sim_get_stats(link, 0, &run.stats);
    sim_destroy(link);
    cr_log_info("seed %u", SEED);
    return run;
}

/** The bound of a share p of n draws at five standard deviations: one failure in millions of seeds. */
static void check_rate(uint64_t count, uint64_t n, uint32_t ppm, const char *what)
{
    double p = ppm / (double)SIM_PPM;
    double want = p * (double)n;
    double variance = (double)n * p * (1 - p);
    double off = (double)count - want;

    cr_assert(off * off <= 25 * variance, "%s: %lu of %lu, expected about %.0f (seed %u)", what, count, n,
              want, SEED);
    cr_assert_gt(count, 0);
}

Test(sim, plain_link_delivers_every_frame_at_once_in_order_unchanged)
{
    struct run run = run_frames(&(struct sim_params){.seed = SEED}, 10);

    cr_assert_eq(run.count, FRAMES);
    for (uint32_t i = 0; i < FRAMES; i++) {
        cr_assert_eq(run.seen[i].number, i);
        cr_assert_eq(run.seen[i].at_us, i * 10);
        cr_assert(run.seen[i].right);
    }
    free(run.seen);
}

static const struct sim_settings everything = {
    .delay_us = 1000,
    .jitter_us = 300,
    .reorder_ppm = 30000,
    .reorder_delay_us = 2000,
    .loss_ppm = 20000,
    .duplicate_ppm = 10000,
    .corrupt_ppm = 50000,
    .rate_bps = 200000000,
    .queue_bytes = 3000,
};

Test(sim, same_seed_gives_the_same_run_and_another_seed_another)
{
    struct sim_params params = {.seed = SEED, .dir[0] = everything};
    struct run a = run_frames(&params, 8);
    struct run b = run_frames(&params, 8);
    params.seed++;
    struct run c = run_frames(&params, 8);

    cr_assert_eq(a.count, b.count);
    cr_assert_eq(a.digest, b.digest);
    cr_assert_eq(memcmp(&a.stats, &b.stats, sizeof(a.stats)), 0);
    cr_assert_neq(a.digest, c.digest);
    free(a.seen);
    free(b.seen);
    free(c.seen);
}

Test(sim, an_effect_strikes_the_same_frames_whatever_the_others_do)
{
    struct sim_params params = {.seed = SEED, .dir[0] = {.loss_ppm = 50000}};
    struct run a = run_frames(&params, 10);
    params.dir[0].duplicate_ppm = 300000;
    params.dir[0].corrupt_ppm = 0;
    params.dir[0].reorder_ppm = 100000;
    params.dir[0].reorder_delay_us = 777;
    struct run b = run_frames(&params, 10);
    bool *in_a = calloc(FRAMES, 1), *in_b = calloc(FRAMES, 1);

    for (uint32_t i = 0; i < a.count; i++)
        in_a[a.seen[i].number] = true;
    for (uint32_t i = 0; i < b.count; i++)
        in_b[b.seen[i].number] = true;
    cr_assert_eq(memcmp(in_a, in_b, FRAMES), 0);
    cr_assert_neq(a.count, b.count, "the duplicates");
    free(in_a);
    free(in_b);
    free(a.seen);
    free(b.seen);
}

Test(sim, loss_rate_is_as_set)
{
    struct run run = run_frames(&(struct sim_params){.seed = SEED, .dir[0].loss_ppm = 50000}, 10);

    check_rate(run.stats.lost, FRAMES, 50000, "lost");
    cr_assert_eq(run.count + run.stats.lost, FRAMES);
    for (uint32_t i = 1; i < run.count; i++)
        cr_assert_gt(run.seen[i].number, run.seen[i - 1].number);
    free(run.seen);
}

Test(sim, duplicates_arrive_twice_and_unspoiled)
{
    struct run run = run_frames(&(struct sim_params){.seed = SEED, .dir[0].duplicate_ppm = 100000}, 10);
    uint8_t *times = calloc(FRAMES, 1);
    uint64_t twice = 0;

    for (uint32_t i = 0; i < run.count; i++) {
        cr_assert(run.seen[i].right);
        times[run.seen[i].number]++;
    }
    for (uint32_t i = 0; i < FRAMES; i++) {
        cr_assert(times[i] == 1 || times[i] == 2);
        twice += times[i] == 2;
    }
    cr_assert_eq(twice, run.stats.duplicated);
    check_rate(twice, FRAMES, 100000, "duplicated");
    free(times);
    free(run.seen);
}

Test(sim, every_corrupted_frame_is_detected_by_its_checksums)
{
    struct run run = run_frames(&(struct sim_params){.seed = SEED, .dir[0].corrupt_ppm = 200000}, 10);
    uint64_t wrong = 0;

    for (uint32_t i = 0; i < run.count; i++)
        wrong += !run.seen[i].right;
    cr_assert_eq(run.count, FRAMES);
    cr_assert_eq(wrong, run.stats.corrupted);
    check_rate(wrong, FRAMES, 200000, "corrupted");
    free(run.seen);
}

static unsigned bits_differing(const uint8_t *a, const uint8_t *b, uint32_t from, uint32_t to)
{
    unsigned bits = 0;

    for (uint32_t i = from; i < to; i++)
        bits += (unsigned)__builtin_popcount(a[i] ^ b[i]);
    return bits;
}

Test(sim, corruption_flips_one_to_three_bits_and_spares_ethernet_and_arp_unless_told)
{
    for (int all = 0; all < 2; all++) {
        struct sim_params params = {.seed = SEED, .dir[0] = {.corrupt_ppm = SIM_PPM, .corrupt_all = all}};
        struct sim_link *link = link_make(&params);
        struct device *rx = sim_end(link, 1);
        unsigned in_ethernet = 0, in_arp = 0, counts[5] = {0};

        for (uint32_t i = 0; i < 4000; i++) {
            uint8_t frame[60];
            struct pktbuf pkt = frame_pkt(frame, numbered(frame, i, sizeof(frame))), *got;
            bool arp = i % 2;
            if (arp)
                frame_put16(frame + 12, 0x0806);
            cr_assert_eq(send_one(link, 0, &pkt), 1);
            cr_assert_eq(rx->ops->rx_burst(rx, &got, 1), 1);
            unsigned eth = bits_differing(frame, got->data, 0, FRAME_ETH);
            unsigned bits = eth + bits_differing(frame, got->data, FRAME_ETH, sizeof(frame));
            cr_assert_leq(bits, SIM_FLIP_BITS_MAX);
            in_ethernet += eth > 0;
            in_arp += arp && bits > 0;
            if (!arp)
                counts[bits]++;
        }
        cr_assert_eq(counts[0], 0);
        cr_assert(counts[1] && counts[2] && counts[3]);
        cr_assert_eq(in_ethernet > 0, all);
        cr_assert_eq(in_arp > 0, all);
        sim_destroy(link);
    }
}

Test(sim, delay_and_jitter_stay_within_their_bounds_and_jitter_uses_all_of_them)
{
    struct sim_params params = {.seed = SEED, .dir[0] = {.delay_us = 5000, .jitter_us = 1000}};
    struct run run = run_frames(&params, 10);
    uint64_t least = UINT64_MAX, most = 0;
    uint32_t overtaken = 0;

    cr_assert_eq(run.count, FRAMES);
    for (uint32_t i = 0; i < FRAMES; i++) {
        uint64_t took = run.seen[i].at_us - run.seen[i].number * 10;
        least = took < least ? took : least;
        most = took > most ? took : most;
        overtaken += i > 0 && run.seen[i].number < run.seen[i - 1].number;
    }
    cr_assert_eq(least, 5000);
    cr_assert_eq(most, 6000);
    cr_assert_gt(overtaken, FRAMES / 10, "jitter above the gap reorders");
    free(run.seen);
}

Test(sim, reordered_frames_come_later_by_the_delay_set_and_the_others_in_order)
{
    struct sim_params params = {.seed = SEED,
                                .dir[0] = {.delay_us = 100, .reorder_ppm = 30000, .reorder_delay_us = 250}};
    struct run run = run_frames(&params, 10);
    uint32_t next = 0;
    uint64_t late = 0;

    cr_assert_eq(run.count, FRAMES);
    for (uint32_t i = 0; i < FRAMES; i++) {
        uint64_t took = run.seen[i].at_us - run.seen[i].number * 10;
        if (took == 350) {
            late++;
            continue;
        }
        cr_assert_eq(took, 100);
        cr_assert_geq(run.seen[i].number, next);
        next = run.seen[i].number + 1;
    }
    cr_assert_eq(late, run.stats.reordered);
    check_rate(late, FRAMES, 30000, "reordered");
    free(run.seen);
}

Test(sim, bottleneck_passes_its_rate_and_drops_the_tail)
{
    /* 200-byte frames every 10 us are 160 Mb/s into a bottleneck of 80 Mb/s: 20 us for each that passes. */
    struct sim_params params = {.seed = SEED,
                                .dir[0] = {.rate_bps = 80000000, .queue_bytes = 10 * FRAME_BYTES}};
    struct run run = run_frames(&params, 10);
    uint64_t most = 0;

    cr_assert_eq(run.count + run.stats.queue_drops, FRAMES);
    for (uint32_t i = 0; i < run.count; i++) {
        uint64_t took = run.seen[i].at_us - run.seen[i].number * 10;
        most = took > most ? took : most;
        cr_assert_eq(run.seen[i].at_us, (i + 1) * 20, "frame %u: the link is never idle", i);
    }
    cr_assert_eq(most, 200, "a full queue of ten frames");
    cr_assert_leq(run.count, FRAMES / 2 + 10);
    free(run.seen);
}

Test(sim, idle_bottleneck_takes_a_frame_larger_than_its_queue)
{
    struct sim_params params = {.seed = SEED, .dir[0] = {.rate_bps = 1000000, .queue_bytes = 50}};
    struct sim_link *link = link_make(&params);
    uint8_t frame[FRAME_BYTES];
    struct pktbuf pkt = frame_pkt(frame, numbered(frame, 0, sizeof(frame)));
    struct sim_stats stats;

    cr_assert_eq(send_one(link, 0, &pkt), 1);
    cr_assert_eq(send_one(link, 0, &pkt), 1);
    sim_get_stats(link, 0, &stats);
    cr_assert_eq(stats.waiting, 1);
    cr_assert_eq(stats.queue_drops, 1);
    cr_assert_eq(sim_next_us(link), FRAME_BYTES * 8);
    sim_destroy(link);
}

/* ---- Marks and paths ------------------------------------------------------------------------- */

/** Send `n` numbered frames at once with this ECN field; returns how many arrive with both bits set. */
static unsigned marked_of(const struct sim_settings *set, unsigned ecn, unsigned n, struct sim_stats *ret)
{
    struct sim_params params = {.seed = SEED, .dir[0] = *set};
    struct sim_link *link = link_make(&params);
    struct device *dev = sim_end(link, 1);
    struct pktbuf *got[1];
    uint8_t frame[FRAME_BYTES];
    unsigned marked = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct pktbuf pkt = frame_pkt(frame, numbered(frame, i, sizeof(frame)));
        frame[FRAME_ETH + 1] |= (uint8_t)ecn;
        frame_put16(frame + FRAME_ETH + 10, 0);
        frame_put16(frame + FRAME_ETH + 10, ~frame_sum(frame + FRAME_ETH, FRAME_IP4, 0));
        cr_assert_eq(send_one(link, 0, &pkt), 1);
    }
    sim_set_now(link, UINT32_MAX);
    while (dev->ops->rx_burst(dev, got, 1) == 1) {
        cr_assert(frame_is_right(got[0]->data, got[0]->len), "the header's sum covers the mark");
        marked += (got[0]->data[FRAME_ETH + 1] & 3) == 3;
    }
    sim_get_stats(link, 0, ret);
    sim_destroy(link);
    return marked;
}

Test(sim, bottleneck_marks_frames_that_speak_ecn_behind_a_queue)
{
    struct sim_settings set = {.rate_bps = 1000000, .mark_bytes = 4 * FRAME_BYTES};
    struct sim_stats stats;

    /* Ten frames at once: the sixth is the first that finds more than four before it. */
    for (unsigned ecn = 1; ecn <= 2; ecn++) {
        cr_assert_eq(marked_of(&set, ecn, 10, &stats), 5);
        cr_assert_eq(stats.marked, 5);
    }
    cr_assert_eq(marked_of(&set, 0, 10, &stats), 0, "not ECN-capable");
    cr_assert_eq(stats.marked, 0);
    cr_assert_eq(stats.queue_max_us, 9 * FRAME_BYTES * 8);
    cr_assert_eq(stats.queue_us, 45 * FRAME_BYTES * 8);
}

Test(sim, marks_by_chance_are_as_many_as_set)
{
    struct sim_stats stats;

    check_rate(marked_of(&(struct sim_settings){.mark_ppm = 200000}, 2, 4000, &stats), 4000, 200000,
               "marked");
}

static uint32_t delay_by_number(void *ctx, unsigned from_end, const struct pktbuf *frame)
{
    cr_assert_eq(from_end, 0);
    return frame_get32(frame->data + FRAME_ETH + FRAME_IP4 + FRAME_UDP) % 2 ? *(uint32_t *)ctx : 0;
}

Test(sim, delay_function_makes_paths_of_different_length)
{
    struct sim_link *link = link_make(&(struct sim_params){.seed = SEED, .dir[0] = {.delay_us = 10}});
    uint8_t frame[FRAME_BYTES];
    uint32_t extra = 500;

    sim_set_delay(link, delay_by_number, &extra);
    for (uint32_t i = 0; i < 2; i++) {
        struct pktbuf pkt = frame_pkt(frame, numbered(frame, i, sizeof(frame)));
        struct device *dev = sim_end(link, 1);
        struct pktbuf *got[2];

        cr_assert_eq(send_one(link, 0, &pkt), 1);
        cr_assert_eq(sim_next_us(link), i ? 520 : 10);
        sim_set_now(link, sim_next_us(link));
        cr_assert_eq(dev->ops->rx_burst(dev, got, 2), 1);
    }
    sim_destroy(link);
}

/* ---- GSO and checksums ----------------------------------------------------------------------- */

/** A GSO frame of three pieces: headers and the first bytes linear, the rest in two fragments. */
static struct pktbuf gso_frame(uint8_t *mem, uint32_t payload, uint16_t gso_size)
{
    uint32_t l4 = frame_ip4(mem, &end_a, &end_b, 6, FRAME_TCP + payload);
    uint32_t hdr = l4 + frame_tcp(mem + l4, mem + FRAME_ETH, 1, 2, 1000, 0, TCP_ACK | TCP_PSH, payload);

    for (uint32_t i = 0; i < payload; i++)
        mem[hdr + i] = frame_pattern(i);
    struct pktbuf pkt = frame_pkt(mem, hdr + 100);
    pkt.total = hdr + payload;
    pkt.flags = PKT_CSUM_PARTIAL;
    pkt.csum_start = (uint16_t)l4;
    pkt.csum_offset = 16;
    pkt.gso_type = PKT_GSO_TCP4;
    pkt.gso_size = gso_size;
    pkt.hdr_len = (uint16_t)hdr;
    pkt.frag_count = 2;
    pkt.frag[0] = (struct pkt_frag){mem + hdr + 100, 3333};
    pkt.frag[1] = (struct pkt_frag){mem + hdr + 3433, payload - 3433};
    return pkt;
}

static uint8_t big[FRAME_BYTES_MAX];

Test(sim, gso_frame_is_cut_and_each_segment_meets_its_own_fate)
{
    struct sim_params params = {
        .seed = SEED, .offloads = DEV_TX_CSUM | DEV_TX_TSO4, .split_gso = true, .dir[0].loss_ppm = 100000};
    struct sim_link *link = link_make(&params);
    struct device *rx = sim_end(link, 1);
    struct pktbuf pkt = gso_frame(big, 60000, 1460), *pkts[DEV_RX_BURST_MAX];
    struct sim_stats stats;

    cr_assert_eq(send_one(link, 0, &pkt), 1);
    int n = rx->ops->rx_burst(rx, pkts, DEV_RX_BURST_MAX);
    sim_get_stats(link, 0, &stats);
    cr_assert_eq(stats.sent, 42);
    cr_assert_eq(n + (int)stats.lost, 42);
    cr_assert(stats.lost > 0 && stats.lost < 20);
    for (int i = 0; i < n; i++) {
        const uint8_t *tcp = pkts[i]->data + FRAME_ETH + FRAME_IP4;
        uint32_t at = frame_get32(tcp + 4) - 1000;
        uint32_t bytes = pkts[i]->len - pkt.hdr_len;
        cr_assert_eq(at % 1460, 0);
        cr_assert(frame_is_right(pkts[i]->data, pkts[i]->len));
        cr_assert_eq(pkts[i]->flags, 0);
        cr_assert_eq(pkts[i]->gso_type, PKT_GSO_NONE);
        for (uint32_t k = 0; k < bytes; k++)
            cr_assert_eq(tcp[FRAME_TCP + k], frame_pattern(at + k));
    }
    sim_destroy(link);
}

Test(sim, uncut_gso_frame_travels_whole_with_its_marks)
{
    struct sim_params params = {.offloads = DEV_TX_CSUM | DEV_TX_TSO4, .keep_partial = true};
    struct sim_link *link = link_make(&params);
    struct device *rx = sim_end(link, 1);
    struct pktbuf pkt = gso_frame(big, 60000, 1460), *got;
    struct device_caps caps;

    rx->ops->caps(rx, &caps);
    cr_assert_eq(caps.offloads, DEV_TX_CSUM | DEV_TX_TSO4 | DEV_RX_CSUM | DEV_RX_GRO);
    cr_assert_eq(caps.tx_frame_max, FRAME_BYTES_MAX);
    cr_assert_eq(send_one(link, 0, &pkt), 1);
    cr_assert_eq(rx->ops->rx_burst(rx, &got, 1), 1);
    cr_assert_eq(got->len, pkt.total);
    cr_assert_eq(got->total, pkt.total);
    cr_assert_eq(got->frag_count, 0);
    cr_assert_eq(got->gso_size, 1460);
    cr_assert_eq(got->gso_type, PKT_GSO_TCP4);
    cr_assert_eq(got->hdr_len, pkt.hdr_len);
    cr_assert_eq(got->flags, PKT_CSUM_PARTIAL);
    cr_assert_eq(memcmp(got->data, big, pkt.total), 0);
    sim_destroy(link);
}

Test(sim, partial_checksum_is_filled_in_unless_kept_and_always_before_corruption)
{
    for (int keep = 0; keep < 2; keep++)
        for (int corrupt = 0; corrupt < 2; corrupt++) {
            struct sim_params params = {.seed = SEED,
                                        .offloads = DEV_TX_CSUM,
                                        .keep_partial = keep,
                                        .dir[0].corrupt_ppm = corrupt ? SIM_PPM : 0};
            struct sim_link *link = link_make(&params);
            struct device *rx = sim_end(link, 1);
            struct pktbuf pkt = gso_frame(big, 4000, 0), *got;
            pkt.gso_type = PKT_GSO_NONE;
            pkt.frag_count = 0;
            pkt.total = pkt.len;
            frame_put16(big + 16, pkt.len - FRAME_ETH);
            frame_put16(big + 24, 0);
            frame_put16(big + 24, ~frame_sum(big + 14, FRAME_IP4, 0) & 0xffff);
            frame_put16(big + 50, frame_pseudo(big + 14, FRAME_TCP + 100));

            cr_assert_eq(send_one(link, 0, &pkt), 1);
            cr_assert_eq(rx->ops->rx_burst(rx, &got, 1), 1);
            cr_assert_eq(got->flags, keep && !corrupt ? PKT_CSUM_PARTIAL : 0);
            cr_assert_eq(frame_is_right(got->data, got->len), !keep && !corrupt);
            sim_destroy(link);
        }
}

/* ---- The device contract --------------------------------------------------------------------- */

Test(sim, frames_that_a_device_without_the_offload_could_not_send_are_refused)
{
    struct sim_link *link = link_make(&(struct sim_params){.mtu = 1500});
    struct device *tx = sim_end(link, 0);
    struct device_stats stats;
    struct pktbuf gso = gso_frame(big, 60000, 1460);

    cr_assert_eq(send_one(link, 0, &gso), 1);
    gso.gso_type = PKT_GSO_NONE;
    cr_assert_eq(send_one(link, 0, &gso), 1, "above the MTU");
    gso = frame_pkt(big, 100);
    gso.flags = PKT_CSUM_PARTIAL;
    gso.csum_start = 34;
    cr_assert_eq(send_one(link, 0, &gso), 1, "a partial checksum");
    gso = frame_pkt(big, 13);
    cr_assert_eq(send_one(link, 0, &gso), 1, "no Ethernet header");
    gso = frame_pkt(big, 1515);
    cr_assert_eq(send_one(link, 0, &gso), 1);
    tx->ops->stats(tx, &stats);
    cr_assert_eq(stats.tx_errors, 5);
    gso = frame_pkt(big, 1514);
    cr_assert_eq(send_one(link, 0, &gso), 1);
    tx->ops->stats(tx, &stats);
    cr_assert_eq(stats.tx_frames, 1);
    cr_assert_eq(sim_next_us(link), 0);
    sim_destroy(link);
}

Test(sim, gso_segments_above_the_mtu_are_refused)
{
    struct sim_link *link =
        link_make(&(struct sim_params){.offloads = DEV_TX_CSUM | DEV_TX_TSO4, .split_gso = true});
    struct pktbuf gso = gso_frame(big, 60000, 1461);

    cr_assert_eq(send_one(link, 0, &gso), 1);
    cr_assert_eq(sim_next_us(link), UINT64_MAX);
    sim_destroy(link);
}

static bool drop_odd(void *ctx, unsigned from_end, uint64_t now_us, const struct pktbuf *frame)
{
    unsigned *calls = ctx;

    cr_assert_eq(from_end, 0);
    cr_assert_eq(now_us, 7);
    cr_assert_eq(frame->len, FRAME_BYTES);
    return (*calls)++ % 2 == 0;
}

Test(sim, filter_sees_every_frame_and_may_drop_it)
{
    struct sim_link *link = link_make(&(struct sim_params){.seed = SEED});
    uint8_t frame[FRAME_BYTES];
    struct sim_stats stats;
    unsigned calls = 0;

    sim_set_filter(link, drop_odd, &calls);
    sim_set_now(link, 7);
    for (uint32_t i = 0; i < 10; i++) {
        struct pktbuf pkt = frame_pkt(frame, numbered(frame, i, FRAME_BYTES));
        cr_assert_eq(send_one(link, 0, &pkt), 1);
    }
    sim_get_stats(link, 0, &stats);
    cr_assert_eq(calls, 10);
    cr_assert_eq(stats.filtered, 5);
    cr_assert_eq(stats.waiting, 5);
    sim_destroy(link);
}

Test(sim, buffers_come_back_and_a_full_pool_drops_and_counts)
{
    struct sim_link *link = link_make(&(struct sim_params){.small_count = 8, .large_count = 1});
    struct device *rx = sim_end(link, 1);
    uint8_t frame[FRAME_BYTES];
    struct pktbuf pkt = frame_pkt(frame, numbered(frame, 0, FRAME_BYTES)), *pkts[DEV_RX_BURST_MAX];
    struct sim_stats stats;

    for (unsigned round = 1; round <= 1000; round++) {
        for (unsigned i = 0; i < 9; i++)
            cr_assert_eq(send_one(link, 0, &pkt), 1);
        cr_assert_eq(rx->ops->rx_burst(rx, pkts, 3), 3);
        cr_assert(rx->ops->rx_pending(rx));
        cr_assert_eq(rx->ops->rx_burst(rx, pkts, DEV_RX_BURST_MAX), 5);
        cr_assert_not(rx->ops->rx_pending(rx));
        cr_assert_eq(rx->ops->rx_burst(rx, pkts, DEV_RX_BURST_MAX), 0);
        sim_get_stats(link, 0, &stats);
        cr_assert_eq(stats.pool_drops, round);
        cr_assert_eq(stats.waiting, 0);
    }
    sim_destroy(link);
}

Test(sim, frames_of_a_burst_stay_valid_until_the_next_burst_while_others_are_sent)
{
    struct sim_link *link = link_make(&(struct sim_params){.small_count = 64, .large_count = 1});
    struct device *rx = sim_end(link, 1);
    uint8_t frame[FRAME_BYTES];
    struct pktbuf *pkts[DEV_RX_BURST_MAX];

    for (uint32_t i = 0; i < 32; i++) {
        struct pktbuf pkt = frame_pkt(frame, numbered(frame, i, FRAME_BYTES));
        cr_assert_eq(send_one(link, 0, &pkt), 1);
    }
    cr_assert_eq(rx->ops->rx_burst(rx, pkts, DEV_RX_BURST_MAX), 32);
    for (uint32_t i = 0; i < 64; i++) {
        struct pktbuf pkt = frame_pkt(frame, numbered(frame, 1000 + i, FRAME_BYTES));
        cr_assert_eq(send_one(link, i % 2, &pkt), 1);
    }
    for (uint32_t i = 0; i < 32; i++) {
        cr_assert_eq(frame_get32(pkts[i]->data + 42), i);
        cr_assert(frame_is_right(pkts[i]->data, pkts[i]->len));
    }
    sim_destroy(link);
}

Test(sim, full_device_takes_fewer_and_loses_nothing)
{
    struct sim_link *link = link_make(&(struct sim_params){.seed = SEED, .dir[0].full_ppm = 200000});
    struct device *tx = sim_end(link, 0), *rx = sim_end(link, 1);
    static uint8_t frames[32][FRAME_BYTES];
    struct pktbuf bufs[32], *pkts[DEV_RX_BURST_MAX];
    struct device_stats stats;
    unsigned sent = 0;

    for (uint32_t i = 0; i < 32; i++) {
        bufs[i] = frame_pkt(frames[i], numbered(frames[i], i, FRAME_BYTES));
        pkts[i] = &bufs[i];
    }
    while (sent < 32) {
        int n = tx->ops->tx_burst(tx, pkts + sent, 32 - sent);
        cr_assert_geq(n, 0);
        sent += (unsigned)n;
    }
    tx->ops->stats(tx, &stats);
    cr_assert_gt(stats.tx_full, 0);
    cr_assert_eq(stats.tx_frames, 32);
    cr_assert_eq(rx->ops->rx_burst(rx, pkts, DEV_RX_BURST_MAX), 32);
    for (uint32_t i = 0; i < 32; i++)
        cr_assert_eq(frame_get32(pkts[i]->data + 42), i);
    sim_destroy(link);
}

Test(sim, ends_report_what_was_asked_for)
{
    struct sim_link *link = link_make(&(struct sim_params){.mtu = 1280, .mac[1] = {2, 9, 8, 7, 6, 5}});
    struct device_caps caps[2];

    for (unsigned i = 0; i < 2; i++) {
        struct device *dev = sim_end(link, i);
        dev->ops->caps(dev, &caps[i]);
        cr_assert_eq(caps[i].mtu, 1280);
        cr_assert_eq(caps[i].tx_frame_max, 1294);
        cr_assert_eq(caps[i].offloads, 0);
        cr_assert_eq(dev->ops->wait_fd(dev), -1);
    }
    cr_assert_eq(memcmp(caps[0].mac, "\x02\0\0\0\0\x01", 6), 0);
    cr_assert_eq(memcmp(caps[1].mac, "\x02\x09\x08\x07\x06\x05", 6), 0);
    sim_destroy(link);
}

Test(sim, closed_end_swallows_frames_and_gives_their_buffers_back)
{
    struct sim_link *link = link_make(&(struct sim_params){.small_count = 4, .large_count = 1});
    struct device *rx = sim_end(link, 1);
    uint8_t frame[FRAME_BYTES];
    struct pktbuf pkt = frame_pkt(frame, numbered(frame, 0, FRAME_BYTES)), *got;
    struct sim_stats stats;

    cr_assert_eq(send_one(link, 0, &pkt), 1);
    rx->ops->close(rx);
    for (unsigned i = 0; i < 100; i++)
        cr_assert_eq(send_one(link, 0, &pkt), 1);
    sim_get_stats(link, 0, &stats);
    cr_assert_eq(stats.pool_drops, 0);
    cr_assert_eq(sim_next_us(link), UINT64_MAX);
    cr_assert_eq(rx->ops->rx_burst(rx, &got, 1), -ENODEV);
    cr_assert_eq(send_one(link, 1, &pkt), -ENODEV);
    rx->ops->close(NULL);
    sim_destroy(link);
}

Test(sim, settings_out_of_range_are_refused)
{
    static const struct sim_settings bad[] = {
        {.loss_ppm = SIM_PPM + 1},
        {.duplicate_ppm = UINT32_MAX},
        {.corrupt_ppm = SIM_PPM + 1},
        {.reorder_ppm = SIM_PPM + 1},
        {.full_ppm = SIM_PPM + 1},
        {.rate_bps = SIM_RATE_BPS_MIN - 1},
        {.queue_bytes = SIM_QUEUE_BYTES_MAX + 1},
    };
    struct sim_link *link = link_make(&(struct sim_params){.seed = SEED}), *none = NULL;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(sim_set(link, 0, &bad[i]), -EINVAL, "case %zu", i);
        cr_assert_eq(sim_create(&(struct sim_params){.dir[1] = bad[i]}, &none), -EINVAL, "case %zu", i);
    }
    cr_assert_eq(sim_create(&(struct sim_params){.mtu = 575}, &none), -EINVAL);
    cr_assert_eq(sim_create(&(struct sim_params){.small_count = SIM_COUNT_MAX + 1}, &none), -EINVAL);
    cr_assert_null(none);
    cr_assert_eq(sim_set(link, 1, &(struct sim_settings){.loss_ppm = SIM_PPM}), 0);
    sim_destroy(link);
}

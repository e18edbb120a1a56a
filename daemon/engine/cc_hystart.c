/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HyStart++ (RFC 9406): leave slow start when round trips grow longer, before packets are lost. A rise leads
 * to Conservative Slow Start first, which goes back when the rise was a passing one.
 *
 * The limit L of 4.2 on growth for one ACK isn't kept: an ACK of a receiver that joins segments covers up to
 * 64 KiB, and with a limit slow start would not be exponential there. Bursts are those of one GSO frame.
 */
#include "daemon/engine/engine_int.h"

#include "daemon/engine/seq.h"

/* RFC 9406 4.3 */
#define MIN_RTT_THRESH_US  4000u
#define MAX_RTT_THRESH_US  16000u
#define MIN_RTT_DIVISOR    8u
#define N_RTT_SAMPLE       8u
#define CSS_GROWTH_DIVISOR 4u
#define CSS_ROUNDS         5u

#define UNKNOWN            UINT32_MAX

void hystart_init(struct hystart *h, const struct tcp_conn *c)
{
    *h = (struct hystart){.window_end = c->snd_nxt,
                          .last_round_min_rtt = UNKNOWN,
                          .current_round_min_rtt = UNKNOWN,
                          .css_baseline_min_rtt = UNKNOWN};
}

/* The threshold by which a round's shortest trip must exceed the last one's. */
static bool delay_increased(const struct hystart *h)
{
    uint32_t thresh = h->last_round_min_rtt / MIN_RTT_DIVISOR;

    if (h->rtt_sample_count < N_RTT_SAMPLE || h->current_round_min_rtt == UNKNOWN ||
        h->last_round_min_rtt == UNKNOWN)
        return false;
    if (thresh > MAX_RTT_THRESH_US)
        thresh = MAX_RTT_THRESH_US;
    if (thresh < MIN_RTT_THRESH_US)
        thresh = MIN_RTT_THRESH_US;
    return h->current_round_min_rtt >= h->last_round_min_rtt + thresh;
}

static void look_at_delay(struct hystart *h)
{
    if (!h->css && delay_increased(h)) {
        h->css = true;
        h->css_rounds = 0;
        h->css_baseline_min_rtt = h->current_round_min_rtt;
    } else if (h->css && h->rtt_sample_count >= N_RTT_SAMPLE &&
               h->current_round_min_rtt < h->css_baseline_min_rtt) {
        h->css = false; /* It was jitter. */
        h->css_baseline_min_rtt = UNKNOWN;
    }
}

/* True when conservative slow start has lasted long enough. */
static bool round_over(struct hystart *h, const struct tcp_conn *c)
{
    h->window_end = c->snd_nxt;
    h->last_round_min_rtt = h->current_round_min_rtt;
    h->current_round_min_rtt = UNKNOWN;
    h->rtt_sample_count = 0;
    return h->css && ++h->css_rounds >= CSS_ROUNDS;
}

uint32_t hystart_ack(struct hystart *h, const struct tcp_conn *c, const struct cc_ack *a, bool *done)
{
    uint32_t grow;

    if (a->rtt_us) {
        if (a->rtt_us < h->current_round_min_rtt)
            h->current_round_min_rtt = a->rtt_us;
        if (h->rtt_sample_count < N_RTT_SAMPLE)
            h->rtt_sample_count++;
    }
    look_at_delay(h);
    grow = h->css ? a->acked / CSS_GROWTH_DIVISOR : a->acked;
    *done = seq_ge(c->snd_una, h->window_end) && round_over(h, c);
    return grow;
}

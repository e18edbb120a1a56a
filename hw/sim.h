/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated link: two devices in one process, joined by a wire that delays, loses, reorders, duplicates
 * and corrupts frames, with a bottleneck and its queue. For tests of the engine.
 *
 * Deterministic. Time is what sim_set_now() says; chance comes from the seed. The same seed, settings and
 * calls give the same run bit for bit, on every machine. Each frame draws the same number of random values
 * whatever the settings, so that switching one effect on does not move the others to other frames.
 *
 * What happens to a frame that one end sends, in this order: it is refused as a device would (too long, an
 * offload not promised); cut and checksummed as a network card would; shown to the filter; queued at the
 * bottleneck, marked or dropped by it; lost; corrupted; delayed; perhaps delivered twice.
 *
 * All memory is taken by sim_create(). Thread rule: one thread at a time for a link and both of its ends.
 * Nothing blocks.
 */
#ifndef HW_SIM_H
#define HW_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "hw/device.h"

#define SIM_PPM             1000000u /* a probability of 1: all are in parts per million */
#define SIM_SMALL_BYTES     2048u    /* frames up to this wait in small buffers, longer ones in large ones */
#define SIM_SMALL_COUNT     4096u    /* default of sim_params.small_count */
#define SIM_LARGE_COUNT     256u     /* default of sim_params.large_count */
#define SIM_COUNT_MAX       (1u << 20)
#define SIM_RATE_BPS_MIN    1000u
#define SIM_QUEUE_BYTES_MAX (1u << 30)
#define SIM_FLIP_BITS_MAX                                                                                    \
    3u /* a corrupted frame has 1..3 bits flipped, so that every Internet checksum tells */

struct sim_link;

/** What one direction of the wire does. All zero: every frame arrives at once. */
struct sim_settings {
    uint32_t delay_us;         /* of every frame */
    uint32_t jitter_us;        /* plus 0..jitter_us, evenly distributed; frames may overtake each other */
    uint32_t reorder_delay_us; /* plus this, for the frames that reorder_ppm strikes */
    uint32_t reorder_ppm;
    uint32_t loss_ppm;
    uint32_t duplicate_ppm; /* a second copy, with a jitter and a corruption of its own */
    uint32_t corrupt_ppm;
    bool corrupt_all;     /* corrupts any byte of any frame, Ethernet headers and ARP too, which no checksum
                           * covers;     else only IP packets behind their Ethernet header */
    uint32_t full_ppm;    /* before each frame: tx_burst() stops there, as a device whose queue is full */
    uint64_t rate_bps;    /* of the bottleneck, 0: none; else at least SIM_RATE_BPS_MIN */
    uint32_t queue_bytes; /* that the bottleneck holds, the frame being sent included; a frame that does not
                           * fit is dropped, but an idle bottleneck takes any; 0: no limit */
    uint32_t mark_bytes;  /* a frame that finds more than this before it, and says that its ends speak ECN, is
                           * marked "congestion experienced" (RFC 3168 5); 0: none is */
    uint32_t mark_ppm;    /* and so are these, by chance */
};

struct sim_params {
    uint64_t seed;
    uint32_t offloads;    /* DEV_*: what the ends promise; DEV_RX_* is what the settings below make true */
    uint16_t mtu;         /* 0: 1500 */
    uint8_t mac[2][6];    /* all zero: 02:00:00:00:00:01 and :02 */
    bool split_gso;       /* GSO frames are cut into segments, which meet their fates one by one; else they
                           * travel whole, as between two virtual machines */
    bool keep_partial;    /* PKT_CSUM_PARTIAL of an uncut frame reaches the receiver, as over a TAP; else
                           * the checksum is filled in. A corrupted frame always has its checksum filled in
                           * first, so that the receiver can find out */
    uint32_t small_count; /* buffers for frames under way, both directions together; 0: the default */
    uint32_t large_count; /* same, for frames above SIM_SMALL_BYTES */
    struct sim_settings dir[2]; /* dir[0]: from end 0 to end 1 */
};

/** What became of the frames of one direction, each segment of a cut frame counted by itself. */
struct sim_stats {
    uint64_t sent;        /* entered the wire (behind the filter) */
    uint64_t filtered;    /* dropped by the filter */
    uint64_t queue_drops; /* by the full queue of the bottleneck */
    uint64_t pool_drops;  /* for want of a buffer: choose larger counts, or find out who floods */
    uint64_t lost;
    uint64_t reordered;
    uint64_t duplicated;
    uint64_t corrupted;
    uint64_t delivered; /* handed to the receiver, second copies included */
    uint64_t delivered_bytes;
    uint64_t waiting;      /* under way now */
    uint64_t full;         /* bursts that full_ppm cut short */
    uint64_t marked;       /* by mark_bytes or mark_ppm */
    uint64_t queue_us;     /* time in the bottleneck's queue, of all frames together */
    uint64_t queue_max_us; /* longest of one frame */
};

/**
 * A look at every frame as it enters the wire, before any effect.
 * @param frame  linear, checksums as they travel; valid during the call
 * @return true to let it pass, false to drop it
 */
typedef bool sim_filter_fn(void *ctx, unsigned from_end, uint64_t now_us, const struct pktbuf *frame);

/**
 * Make a link. Its clock starts at 0.
 * @return 0; -EINVAL for settings out of range (probability above SIM_PPM, MTU below 576 or above 65535, rate
 * or counts outside their limits); -ENOMEM
 */
int sim_create(const struct sim_params *params, struct sim_link **ret);
/** Free the link and both ends. Accepts NULL. */
void sim_destroy(struct sim_link *link);

/**
 * End 0 or 1 as a device. Owned by the link: its close() only stops it (frames to it vanish), and it is gone
 * with sim_destroy().
 */
struct device *sim_end(struct sim_link *link, unsigned end);

/** Set the clock; it never goes backwards. Frames due by then are ready for rx_burst(). */
void sim_set_now(struct sim_link *link, uint64_t now_us);

/** When the next frame arrives at either end: possibly in the past; UINT64_MAX when none is under way. */
uint64_t sim_next_us(const struct sim_link *link);

/** Change one direction from now on; frames under way keep their fate. @return 0, or -EINVAL as sim_create()
 */
int sim_set(struct sim_link *link, unsigned from_end, const struct sim_settings *settings);

/** Set the filter of both directions; NULL: none. */
void sim_set_filter(struct sim_link *link, sim_filter_fn *filter, void *ctx);

/**
 * Delay by frame: paths of different length that share the bottleneck.
 * @return microseconds to add to sim_settings.delay_us
 */
typedef uint32_t sim_delay_fn(void *ctx, unsigned from_end, const struct pktbuf *frame);

/** Set the delay function of both directions; NULL: none. */
void sim_set_delay(struct sim_link *link, sim_delay_fn *delay, void *ctx);

void sim_get_stats(const struct sim_link *link, unsigned from_end, struct sim_stats *ret);

#endif

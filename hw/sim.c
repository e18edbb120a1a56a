/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hw/offload.h"

#define MTU_DEFAULT   1500u
#define MTU_MIN       576u
#define NS_PER_US     1000u
#define NS_PER_S      UINT64_C(1000000000)
#define BITS          8u
#define CSUM_COLUMNS  16u
#define ETHERTYPE_IP4 0x0800u
#define ETHERTYPE_IP6 0x86ddu
#define IP4_HDR_BYTES 20u
#define ECN_MASK      3u /* of the second byte of an IP header: both set is "congestion experienced" */
#define SHIFT_BYTES   2u /* before each frame, so that its IP header starts at a multiple of 16 */
#define LARGE_BYTES   (65536u + 64u)
#define NO_SLOT       UINT32_MAX

static_assert(LARGE_BYTES >= SHIFT_BYTES + FRAME_BYTES_MAX, "the largest frame fits a large buffer");

/** A frame under way: a heap entry, ordered by arrival, then by sending. */
struct arrival {
    uint64_t at_us;
    uint64_t order;
    uint32_t slot;
};

/** The random values of one frame. Always all drawn, see sim.h. */
struct fate {
    uint64_t loss, reorder, duplicate, mark;
    struct {
        uint64_t jitter, corrupt, bits;
    } copy[2];
};

/** One direction. */
struct wire {
    struct sim_settings set;
    struct sim_stats stats;
    uint64_t random; /* state of the generator */
    uint64_t full_random;
    uint64_t busy_until_ns; /* when the bottleneck has sent all it holds */
    uint64_t sent_order;
    struct arrival *heap;
    uint32_t heap_count;
};

struct sim_endpoint {
    struct device dev; /* first: struct device * is struct sim_endpoint * */
    struct sim_link *link;
    unsigned index;
    bool closed;
    struct device_stats stats;
    uint32_t lent[DEV_RX_BURST_MAX]; /* slots of the last rx_burst */
    unsigned lent_count;
};

struct sim_link {
    struct sim_params params; /* with defaults filled in; dir[] as at the start */
    uint64_t now_us;
    struct sim_endpoint end[2];
    struct wire wire[2]; /* wire[i]: from end i */
    sim_filter_fn *filter;
    void *filter_ctx;
    sim_delay_fn *delay;
    void *delay_ctx;
    struct pktbuf *slots; /* small_count small ones, then large_count large ones */
    uint8_t *mem;
    uint8_t *scratch;        /* a GSO frame made linear */
    uint32_t *free_slots[2]; /* stacks: small, large; the last one used is the warmest */
    uint32_t free_count[2];
};

static struct sim_endpoint *end_of(struct device *dev)
{
    return (struct sim_endpoint *)dev;
}

/* ---- Chance ---------------------------------------------------------------------------------- */

/** SplitMix64 (Steele, Lea, Flood 2014): every 64-bit value once a period, good in all bits. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/** Scale a random value to 0..limit-1. The bias is below limit / 2^32. */
static uint32_t random_below(uint64_t value, uint32_t limit)
{
    return (uint32_t)(((value >> 32) * limit) >> 32);
}

static bool strikes(uint64_t value, uint32_t ppm)
{
    return random_below(value, SIM_PPM) < ppm;
}

static void fate_draw(uint64_t *state, struct fate *ret)
{
    ret->loss = random_next(state);
    ret->reorder = random_next(state);
    ret->duplicate = random_next(state);
    for (unsigned i = 0; i < 2; i++) {
        ret->copy[i].jitter = random_next(state);
        ret->copy[i].corrupt = random_next(state);
        ret->copy[i].bits = random_next(state);
    }
    ret->mark = random_next(state);
}

/* ---- Buffers --------------------------------------------------------------------------------- */

static uint32_t slot_get(struct sim_link *link, uint32_t bytes)
{
    unsigned large = bytes > SIM_SMALL_BYTES - SHIFT_BYTES;

    return link->free_count[large] ? link->free_slots[large][--link->free_count[large]] : NO_SLOT;
}

static void slot_put(struct sim_link *link, uint32_t slot)
{
    unsigned large = slot >= link->params.small_count;

    link->free_slots[large][link->free_count[large]++] = slot;
}

/** A buffer for a frame of `bytes`, without offload marks; NULL and counted when there is none. */
static struct pktbuf *slot_frame(struct sim_link *link, struct wire *wire, uint32_t bytes, uint32_t *ret_slot)
{
    uint32_t slot = slot_get(link, bytes);

    if (slot == NO_SLOT) {
        wire->stats.pool_drops++;
        return NULL;
    }
    struct pktbuf *pkt = &link->slots[slot];
    uint8_t *data = pkt->data;
    memset(pkt, 0, sizeof(*pkt));
    pkt->data = data;
    pkt->len = bytes;
    pkt->total = bytes;
    *ret_slot = slot;
    return pkt;
}

/* ---- Frames under way ------------------------------------------------------------------------ */

static bool arrives_before(const struct arrival *a, const struct arrival *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void heap_push(struct wire *wire, struct arrival item)
{
    uint32_t i = wire->heap_count++;

    while (i > 0 && arrives_before(&item, &wire->heap[(i - 1) / 2])) {
        wire->heap[i] = wire->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    wire->heap[i] = item;
}

static uint32_t heap_pop(struct wire *wire)
{
    uint32_t slot = wire->heap[0].slot;
    struct arrival item = wire->heap[--wire->heap_count];
    uint32_t i = 0;

    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= wire->heap_count)
            break;
        if (child + 1 < wire->heap_count && arrives_before(&wire->heap[child + 1], &wire->heap[child]))
            child++;
        if (arrives_before(&item, &wire->heap[child]))
            break;
        wire->heap[i] = wire->heap[child];
        i = child;
    }
    wire->heap[i] = item;
    return slot;
}

/* ---- The wire -------------------------------------------------------------------------------- */

/**
 * Put a frame through the bottleneck.
 * @param ret_at_us  when its last bit has left
 * @return false when the queue has no room
 */
static bool bottleneck_pass(struct wire *wire, uint64_t now_us, uint32_t bytes, uint64_t *ret_at_us)
{
    *ret_at_us = now_us;
    if (!wire->set.rate_bps)
        return true;
    uint64_t now_ns = now_us * NS_PER_US;
    uint64_t frame_ns = bytes * (BITS * NS_PER_S) / wire->set.rate_bps;
    uint64_t wait_us = wire->busy_until_ns > now_ns ? (wire->busy_until_ns - now_ns) / NS_PER_US : 0;
    if (wire->busy_until_ns > now_ns && wire->set.queue_bytes) {
        /* The backlog in time rather than in bytes: exact, and the products stay within 64 bits. */
        uint64_t queue_ns = wire->set.queue_bytes * (BITS * NS_PER_S) / wire->set.rate_bps;
        if (wire->busy_until_ns - now_ns + frame_ns > queue_ns)
            return false;
    }
    if (wire->busy_until_ns < now_ns)
        wire->busy_until_ns = now_ns;
    wire->busy_until_ns += frame_ns;
    wire->stats.queue_us += wait_us;
    if (wait_us > wire->stats.queue_max_us)
        wire->stats.queue_max_us = wait_us;
    *ret_at_us = (wire->busy_until_ns + NS_PER_US - 1) / NS_PER_US;
    return true;
}

static_assert(SIM_QUEUE_BYTES_MAX <= UINT64_MAX / (BITS * NS_PER_S), "bottleneck_pass() does not overflow");

/** The bottleneck's backlog is past the point where it marks. Call before bottleneck_pass(). */
static bool mark_due(const struct wire *wire, uint64_t now_us)
{
    uint64_t now_ns = now_us * NS_PER_US;

    if (!wire->set.mark_bytes || !wire->set.rate_bps || wire->busy_until_ns <= now_ns)
        return false;
    return wire->busy_until_ns - now_ns > wire->set.mark_bytes * (BITS * NS_PER_S) / wire->set.rate_bps;
}

/** Set "congestion experienced" in an IPv4 frame whose ends speak ECN (RFC 3168 5), as a router does. */
static void mark(struct wire *wire, struct pktbuf *pkt)
{
    uint8_t *ip = pkt->data + ETH_HDR_BYTES;

    if (pkt->len < ETH_HDR_BYTES + IP4_HDR_BYTES ||
        ((unsigned)pkt->data[12] << 8 | pkt->data[13]) != ETHERTYPE_IP4 || !(ip[1] & ECN_MASK))
        return;
    /* RFC 1624: the sum changes by what the word does. */
    uint32_t sum = (uint32_t)(uint16_t) ~((unsigned)ip[10] << 8 | ip[11]) + (ECN_MASK - (ip[1] & ECN_MASK));
    sum = ~((sum & 0xffff) + (sum >> 16));
    ip[1] |= ECN_MASK;
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
    wire->stats.marked++;
}

/** Only what a checksum covers is corrupted, unless the settings say all: see sim.h. */
static bool corrupt_may(const struct wire *wire, const struct pktbuf *pkt)
{
    if (wire->set.corrupt_all)
        return true;
    unsigned ethertype = (unsigned)pkt->data[12] << 8 | pkt->data[13];
    return pkt->len > ETH_HDR_BYTES && (ethertype == ETHERTYPE_IP4 || ethertype == ETHERTYPE_IP6);
}

/**
 * Flip bits. The checksum is made up first: it must not be computed over what the wire has spoiled. No two
 * bits are of the same column of 16-bit words: they could cancel out in the Internet checksum, while distinct
 * powers of two never add up to 0 modulo 2^16 - 1.
 */
static void corrupt(const struct wire *wire, struct pktbuf *pkt, uint64_t bits)
{
    uint32_t first = wire->set.corrupt_all ? 0 : ETH_HDR_BYTES;
    unsigned flips = 1 + random_below(random_next(&bits), SIM_FLIP_BITS_MAX);
    uint32_t columns = 0;

    if (pkt->flags & PKT_CSUM_PARTIAL) {
        int r = offload_csum_fill(pkt->data, pkt->len, pkt->csum_start, pkt->csum_offset);
        assert(!r); /* checked when it was sent */
    }
    pkt->flags = 0;
    pkt->gso_type = PKT_GSO_NONE;
    pkt->gso_size = 0;
    for (unsigned done = 0; done < flips;) {
        uint32_t bit = first * BITS + random_below(random_next(&bits), (pkt->len - first) * BITS);
        uint32_t column = 1u << bit % CSUM_COLUMNS;
        if (columns & column)
            continue; /* even one byte has more columns than flips */
        columns |= column;
        pkt->data[bit / BITS] ^= (uint8_t)(1u << bit % BITS);
        done++;
    }
}

/** Send one copy on its way, which left the bottleneck at `at_us`. */
static void launch(struct wire *wire, struct pktbuf *pkt, uint32_t slot, uint64_t at_us,
                   const struct fate *fate, unsigned copy)
{
    const struct sim_settings *set = &wire->set;

    if (strikes(fate->copy[copy].corrupt, set->corrupt_ppm) && corrupt_may(wire, pkt)) {
        corrupt(wire, pkt, fate->copy[copy].bits);
        wire->stats.corrupted++;
    }
    at_us += set->delay_us;
    /* In 64 bits: jitter_us + 1 must not wrap to 0. */
    at_us += ((fate->copy[copy].jitter >> 32) * ((uint64_t)set->jitter_us + 1)) >> 32;
    if (copy == 0 && strikes(fate->reorder, set->reorder_ppm)) {
        at_us += set->reorder_delay_us;
        wire->stats.reordered++;
    }
    heap_push(wire, (struct arrival){.at_us = at_us, .order = wire->sent_order++, .slot = slot});
}

/** A frame in its slot enters the wire; the slot is the wire's from here. */
static void transmit(struct sim_link *link, unsigned from, uint32_t slot)
{
    struct wire *wire = &link->wire[from];
    struct pktbuf *pkt = &link->slots[slot];
    struct fate fate;
    uint64_t at_us;

    if (link->end[1 - from].closed) {
        slot_put(link, slot);
        return;
    }
    if (link->filter && !link->filter(link->filter_ctx, from, link->now_us, pkt)) {
        wire->stats.filtered++;
        slot_put(link, slot);
        return;
    }
    wire->stats.sent++;
    fate_draw(&wire->random, &fate);
    if (mark_due(wire, link->now_us) || strikes(fate.mark, wire->set.mark_ppm))
        mark(wire, pkt);
    if (!bottleneck_pass(wire, link->now_us, pkt->total, &at_us)) {
        wire->stats.queue_drops++;
        slot_put(link, slot);
        return;
    }
    if (strikes(fate.loss, wire->set.loss_ppm)) {
        wire->stats.lost++;
        slot_put(link, slot);
        return;
    }
    if (link->delay)
        at_us += link->delay(link->delay_ctx, from, pkt);
    uint32_t twin_slot;
    struct pktbuf *twin = NULL;
    if (strikes(fate.duplicate, wire->set.duplicate_ppm))
        twin = slot_frame(link, wire, pkt->total, &twin_slot);
    if (twin) {
        uint8_t *data = twin->data;
        *twin = *pkt;
        twin->data = data;
        memcpy(data, pkt->data, pkt->len);
        wire->stats.duplicated++;
    }
    launch(wire, pkt, slot, at_us, &fate, 0);
    if (twin)
        launch(wire, twin, twin_slot, at_us, &fate, 1);
}

/* ---- Sending --------------------------------------------------------------------------------- */

static void transmit_segments(struct sim_link *link, unsigned from, const struct pktbuf *pkt,
                              const struct tcp_layout *layout)
{
    uint32_t count = offload_segment_count(layout, pkt->total, pkt->gso_size);

    offload_gather(pkt, link->scratch);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot;
        struct pktbuf *seg = slot_frame(link, &link->wire[from], layout->hdr_len + pkt->gso_size, &slot);
        if (!seg)
            continue;
        seg->len = offload_segment(link->scratch, pkt->total, layout, pkt->gso_size, i, seg->data);
        seg->total = seg->len;
        transmit(link, from, slot);
    }
}

static void transmit_whole(struct sim_link *link, unsigned from, const struct pktbuf *pkt)
{
    uint32_t slot;
    struct pktbuf *copy = slot_frame(link, &link->wire[from], pkt->total, &slot);

    if (!copy)
        return;
    offload_gather(pkt, copy->data);
    copy->gso_type = pkt->gso_type;
    copy->gso_size = pkt->gso_size;
    copy->hdr_len = pkt->hdr_len;
    if (pkt->flags & PKT_CSUM_PARTIAL && link->params.keep_partial) {
        copy->flags = PKT_CSUM_PARTIAL;
        copy->csum_start = pkt->csum_start;
        copy->csum_offset = pkt->csum_offset;
    } else if (pkt->flags & PKT_CSUM_PARTIAL) {
        int r = offload_csum_fill(copy->data, copy->len, pkt->csum_start, pkt->csum_offset);
        assert(!r); /* frame_is_sound() */
    }
    transmit(link, from, slot);
}

/** True when a device that promises `offloads` would send this frame; sets *ret_layout for a GSO frame. */
static bool frame_is_sound(const struct sim_link *link, const struct pktbuf *pkt,
                           struct tcp_layout *ret_layout)
{
    uint32_t offloads = link->params.offloads;
    uint32_t bytes = pkt->len;

    assert(pkt->frag_count <= PKT_FRAGS_MAX);
    for (unsigned i = 0; i < pkt->frag_count; i++)
        bytes += pkt->frag[i].len;
    assert(bytes == pkt->total);
    if (pkt->len < ETH_HDR_BYTES || pkt->total > FRAME_BYTES_MAX)
        return false;
    if (pkt->flags & PKT_CSUM_PARTIAL) {
        if (!(offloads & DEV_TX_CSUM) || pkt->csum_start < ETH_HDR_BYTES || pkt->csum_start > pkt->len ||
            pkt->csum_offset + 2u > pkt->len - pkt->csum_start)
            return false;
    }
    if (pkt->gso_type == PKT_GSO_NONE)
        return pkt->total <= link->params.mtu + ETH_HDR_BYTES;
    if (!(offloads & (pkt->gso_type == PKT_GSO_TCP4 ? DEV_TX_TSO4 : DEV_TX_TSO6)))
        return false;
    if (!(pkt->flags & PKT_CSUM_PARTIAL) || !pkt->gso_size ||
        offload_tcp_layout(pkt->data, pkt->len, pkt->gso_type, ret_layout))
        return false;
    return pkt->csum_start == ret_layout->l4 && pkt->csum_offset == TCP_CSUM_OFFSET &&
           pkt->hdr_len == ret_layout->hdr_len &&
           ret_layout->hdr_len + pkt->gso_size <= link->params.mtu + ETH_HDR_BYTES;
}

static int sim_tx_burst(struct device *dev, struct pktbuf *const pkts[], unsigned n)
{
    struct sim_endpoint *end = end_of(dev);
    struct sim_link *link = end->link;
    struct wire *wire = &link->wire[end->index];

    if (end->closed)
        return -ENODEV;
    if (n > DEV_TX_BURST_MAX)
        n = DEV_TX_BURST_MAX;
    for (unsigned i = 0; i < n; i++) {
        const struct pktbuf *pkt = pkts[i];
        struct tcp_layout layout;
        if (strikes(random_next(&wire->full_random), wire->set.full_ppm)) {
            wire->stats.full++;
            end->stats.tx_full++;
            return (int)i;
        }
        if (!frame_is_sound(link, pkt, &layout)) {
            end->stats.tx_errors++;
            continue;
        }
        end->stats.tx_frames++;
        end->stats.tx_bytes += pkt->total;
        if (pkt->gso_type != PKT_GSO_NONE && link->params.split_gso)
            transmit_segments(link, end->index, pkt, &layout);
        else
            transmit_whole(link, end->index, pkt);
    }
    return (int)n;
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static bool frame_is_due(const struct sim_link *link, const struct wire *wire)
{
    return wire->heap_count > 0 && wire->heap[0].at_us <= link->now_us;
}

static void lent_put_back(struct sim_endpoint *end)
{
    while (end->lent_count > 0)
        slot_put(end->link, end->lent[--end->lent_count]);
}

static int sim_rx_burst(struct device *dev, struct pktbuf *pkts[], unsigned max)
{
    struct sim_endpoint *end = end_of(dev);
    struct sim_link *link = end->link;
    struct wire *wire = &link->wire[1 - end->index];

    if (end->closed)
        return -ENODEV;
    lent_put_back(end);
    while (end->lent_count < max && end->lent_count < DEV_RX_BURST_MAX && frame_is_due(link, wire)) {
        uint32_t slot = heap_pop(wire);
        struct pktbuf *pkt = &link->slots[slot];
        wire->stats.delivered++;
        wire->stats.delivered_bytes += pkt->total;
        end->stats.rx_frames++;
        end->stats.rx_bytes += pkt->total;
        pkts[end->lent_count] = pkt;
        end->lent[end->lent_count++] = slot;
    }
    return (int)end->lent_count;
}

static bool sim_rx_pending(struct device *dev)
{
    struct sim_endpoint *end = end_of(dev);

    return frame_is_due(end->link, &end->link->wire[1 - end->index]);
}

static int sim_wait_fd(struct device *dev)
{
    (void)dev;
    return -1;
}

static void sim_caps(const struct device *dev, struct device_caps *ret)
{
    const struct sim_endpoint *end = (const struct sim_endpoint *)dev;
    const struct sim_params *params = &end->link->params;
    bool gso = params->offloads & (DEV_TX_TSO4 | DEV_TX_TSO6);

    memcpy(ret->mac, params->mac[end->index], sizeof(ret->mac));
    ret->mtu = params->mtu;
    ret->offloads = params->offloads;
    ret->tx_frame_max = gso ? FRAME_BYTES_MAX : params->mtu + ETH_HDR_BYTES;
}

static void sim_device_stats(const struct device *dev, struct device_stats *ret)
{
    *ret = ((const struct sim_endpoint *)dev)->stats;
}

static void sim_close(struct device *dev)
{
    if (!dev)
        return;
    struct sim_endpoint *end = end_of(dev);
    struct wire *wire = &end->link->wire[1 - end->index];

    lent_put_back(end);
    while (wire->heap_count > 0)
        slot_put(end->link, heap_pop(wire));
    end->closed = true;
}

static const struct device_ops sim_ops = {
    .kind = "sim",
    .rx_burst = sim_rx_burst,
    .tx_burst = sim_tx_burst,
    .wait_fd = sim_wait_fd,
    .rx_pending = sim_rx_pending,
    .caps = sim_caps,
    .stats = sim_device_stats,
    .close = sim_close,
};

/* ---- The link -------------------------------------------------------------------------------- */

static bool settings_are_valid(const struct sim_settings *set)
{
    return set->reorder_ppm <= SIM_PPM && set->loss_ppm <= SIM_PPM && set->duplicate_ppm <= SIM_PPM &&
           set->corrupt_ppm <= SIM_PPM && set->full_ppm <= SIM_PPM && set->mark_ppm <= SIM_PPM &&
           set->mark_bytes <= SIM_QUEUE_BYTES_MAX && set->queue_bytes <= SIM_QUEUE_BYTES_MAX &&
           (!set->rate_bps || set->rate_bps >= SIM_RATE_BPS_MIN);
}

static void params_default(struct sim_params *params)
{
    static const uint8_t zero[6];

    if (!params->mtu)
        params->mtu = MTU_DEFAULT;
    if (!params->small_count)
        params->small_count = SIM_SMALL_COUNT;
    if (!params->large_count)
        params->large_count = SIM_LARGE_COUNT;
    for (unsigned i = 0; i < 2; i++) {
        if (memcmp(params->mac[i], zero, sizeof(zero)) != 0)
            continue;
        params->mac[i][0] = 0x02;
        params->mac[i][5] = (uint8_t)(i + 1);
    }
    /* What the receiver may be told follows from what the wire does with it. */
    params->offloads &= DEV_TX_CSUM | DEV_TX_TSO4 | DEV_TX_TSO6;
    if (params->keep_partial && params->offloads & DEV_TX_CSUM)
        params->offloads |= DEV_RX_CSUM;
    if (!params->split_gso && params->offloads & (DEV_TX_TSO4 | DEV_TX_TSO6))
        params->offloads |= DEV_RX_GRO;
}

static bool params_are_valid(const struct sim_params *params)
{
    return params->mtu >= MTU_MIN && params->small_count <= SIM_COUNT_MAX &&
           params->large_count <= SIM_COUNT_MAX && settings_are_valid(&params->dir[0]) &&
           settings_are_valid(&params->dir[1]);
}

static bool memory_get(struct sim_link *link)
{
    size_t small = link->params.small_count;
    size_t large = link->params.large_count;

    /* Untouched buffers cost nothing: the kernel gives pages of such blocks on first use. */
    link->mem = malloc(small * SIM_SMALL_BYTES + large * LARGE_BYTES);
    link->scratch = malloc(LARGE_BYTES);
    link->slots = calloc(small + large, sizeof(*link->slots));
    link->free_slots[0] = calloc(small, sizeof(uint32_t));
    link->free_slots[1] = calloc(large, sizeof(uint32_t));
    for (unsigned i = 0; i < 2; i++)
        link->wire[i].heap = calloc(small + large, sizeof(struct arrival));
    if (!link->mem || !link->scratch || !link->slots || !link->free_slots[0] || !link->free_slots[1] ||
        !link->wire[0].heap || !link->wire[1].heap)
        return false;
    for (size_t i = 0; i < small + large; i++) {
        size_t at = i < small ? i * SIM_SMALL_BYTES : small * SIM_SMALL_BYTES + (i - small) * LARGE_BYTES;
        link->slots[i].data = link->mem + at + SHIFT_BYTES;
    }
    for (size_t i = small + large; i-- > 0;)
        slot_put(link, (uint32_t)i);
    return true;
}

int sim_create(const struct sim_params *params, struct sim_link **ret)
{
    struct sim_link *link = calloc(1, sizeof(*link));

    if (!link)
        return -ENOMEM;
    link->params = *params;
    params_default(&link->params);
    if (!params_are_valid(&link->params)) {
        sim_destroy(link);
        return -EINVAL;
    }
    if (!memory_get(link)) {
        sim_destroy(link);
        return -ENOMEM;
    }
    uint64_t seed = params->seed;
    for (unsigned i = 0; i < 2; i++) {
        link->wire[i].set = params->dir[i];
        link->wire[i].random = random_next(&seed);
        link->wire[i].full_random = random_next(&seed);
        link->end[i] = (struct sim_endpoint){.dev.ops = &sim_ops, .link = link, .index = i};
    }
    *ret = link;
    return 0;
}

void sim_destroy(struct sim_link *link)
{
    if (!link)
        return;
    for (unsigned i = 0; i < 2; i++) {
        free(link->wire[i].heap);
        free(link->free_slots[i]);
    }
    free(link->slots);
    free(link->scratch);
    free(link->mem);
    free(link);
}

struct device *sim_end(struct sim_link *link, unsigned end)
{
    assert(end < 2);
    return &link->end[end].dev;
}

void sim_set_now(struct sim_link *link, uint64_t now_us)
{
    assert(now_us >= link->now_us);
    link->now_us = now_us;
}

uint64_t sim_next_us(const struct sim_link *link)
{
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < 2; i++) {
        const struct wire *wire = &link->wire[i];
        if (wire->heap_count && wire->heap[0].at_us < next)
            next = wire->heap[0].at_us;
    }
    return next;
}

int sim_set(struct sim_link *link, unsigned from_end, const struct sim_settings *settings)
{
    assert(from_end < 2);
    if (!settings_are_valid(settings))
        return -EINVAL;
    link->wire[from_end].set = *settings;
    return 0;
}

void sim_set_filter(struct sim_link *link, sim_filter_fn *filter, void *ctx)
{
    link->filter = filter;
    link->filter_ctx = ctx;
}

void sim_set_delay(struct sim_link *link, sim_delay_fn *delay, void *ctx)
{
    link->delay = delay;
    link->delay_ctx = ctx;
}

void sim_get_stats(const struct sim_link *link, unsigned from_end, struct sim_stats *ret)
{
    assert(from_end < 2);
    *ret = link->wire[from_end].stats;
    ret->waiting = link->wire[from_end].heap_count;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segment: header, channels, slots, heap; and the status page.
 *
 *   0                header        struct sg_seg_hdr, one page, written once by the daemon before attach
 *   channel_off      channels      channel_count * worker_count * channel_bytes: control block and three
 *                                  rings each; number i * worker_count + w is what channel i has for worker w
 *   slot_off         slots         slot_count * sizeof(struct sg_slot)
 *   heap_off         heap          regions of the byte rings; what lies where is the daemon's private matter
 *
 * The memfd is sealed against shrinking, growing and further seals. It is sparse: only touched pages cost.
 */
#ifndef SG_ABI_SEG_H
#define SG_ABI_SEG_H

#include "proto/abi/abi.h"
#include "proto/abi/cmd.h"
#include "proto/abi/ring.h"
#include "proto/abi/slot.h"

/** At offset 0. Written by the daemon before the segment is handed out and never read back by it. */
struct sg_seg_hdr {
    uint64_t magic;        /* SG_ABI_MAGIC */
    uint32_t abi_version;  /* SG_ABI_VERSION */
    uint32_t header_bytes; /* sizeof(struct sg_seg_hdr) */
    uint64_t features;     /* SG_FEATURE_* */
    uint64_t seg_bytes;    /* size of the whole segment */
    uint64_t channel_off;  /* segment offset of channel 0 */
    uint64_t slot_off;     /* segment offset of slot 0 (slot 0 is never used) */
    uint64_t heap_off;     /* segment offset of the heap */
    uint64_t heap_bytes;
    uint32_t channel_count; /* 1..SG_CHANNELS_MAX */
    uint32_t channel_bytes; /* distance between channels */
    uint32_t slot_count;    /* 2..SG_SLOTS_MAX; valid slots are 1..slot_count-1 */
    uint32_t slot_bytes;    /* sizeof(struct sg_slot) */
    uint32_t kick_entries;  /* powers of two: records in each ring of a channel */
    uint32_t cmd_entries;
    uint32_t event_entries;
    uint32_t session_id;   /* as sockgatectl shows it */
    uint32_t worker_count; /* 1..SG_WORKERS_MAX */
    uint32_t pad32;        /* zero */
    uint64_t pad[3];       /* zero */
};

static_assert(sizeof(struct sg_seg_hdr) == 128, "layout");
static_assert(offsetof(struct sg_seg_hdr, channel_count) == 64, "layout");

/* channel.sleep: how the application waits for this channel [P3]. */
#define SG_AWAKE         0u /* it looks at the event ring by itself */
#define SG_SLEEP_FUTEX   1u /* wake it by FUTEX_WAKE on the word */
#define SG_SLEEP_EVENTFD 2u /* wake it by writing 1 to the channel's eventfd */

/**
 * Control block of what a channel has for one worker; each index on a line of its writer. The rings follow.
 * A channel is waited for as a whole: the sleep word of its block for worker 0 counts, and each worker looks
 * at that one.
 */
struct sg_channel {
    uint32_t kick_tail; /* app: kicks published */
    uint32_t cmd_tail;  /* app: commands published */
    uint32_t pad0[14];
    uint32_t kick_head; /* daemon: kicks consumed (a courtesy to the app; the daemon trusts its own copy) */
    uint32_t cmd_head;  /* daemon: commands consumed */
    uint32_t pad1[14];
    uint32_t event_tail; /* daemon: events published */
    uint32_t pad2[15];
    uint32_t event_head; /* app: events consumed */
    uint32_t pad3[15];
    uint32_t sleep; /* app sets SG_SLEEP_*; whoever wakes it exchanges in SG_AWAKE [P3]; a futex word */
    uint32_t pad4[15];
};

static_assert(sizeof(struct sg_channel) == 320, "five cache lines");
static_assert(offsetof(struct sg_channel, kick_head) == 64, "layout");
static_assert(offsetof(struct sg_channel, event_tail) == 128, "layout");
static_assert(offsetof(struct sg_channel, event_head) == 192, "layout");
static_assert(offsetof(struct sg_channel, sleep) == 256, "layout");

/* Offsets inside a channel, from its counts. */
static inline uint64_t sg_channel_kick_off(void)
{
    return sizeof(struct sg_channel);
}

static inline uint64_t sg_channel_cmd_off(uint32_t kick_entries)
{
    return (sg_channel_kick_off() + (uint64_t)kick_entries * sizeof(uint32_t) + 63) & ~UINT64_C(63);
}

static inline uint64_t sg_channel_event_off(uint32_t kick_entries, uint32_t cmd_entries)
{
    return sg_channel_cmd_off(kick_entries) + (uint64_t)cmd_entries * sizeof(struct sg_cmd);
}

/** Bytes of a channel, rounded up to pages. */
static inline uint64_t sg_channel_size(uint32_t kick_entries, uint32_t cmd_entries, uint32_t event_entries)
{
    uint64_t end =
        sg_channel_event_off(kick_entries, cmd_entries) + (uint64_t)event_entries * sizeof(struct sg_event);

    return (end + SG_PAGE_BYTES - 1) & ~(uint64_t)(SG_PAGE_BYTES - 1);
}

/**
 * The status page: one memfd for the whole daemon, which every library maps read-only. `sleeping` is the
 * daemon's half of [P3]: after publishing, a library with a zero `sleeping` need not ring its doorbell.
 */
struct sg_status_worker {
    uint32_t sleeping; /* 1: ring the session's doorbell eventfd for it after publishing */
    uint32_t pad[15];
};

struct sg_status {
    uint64_t magic;       /* SG_ABI_MAGIC */
    uint32_t abi_version; /* SG_ABI_VERSION */
    uint32_t worker_count;
    uint64_t boot_id; /* differs between daemon starts */
    uint64_t pad[5];  /* zero */
    struct sg_status_worker worker[SG_WORKERS_MAX];
};

static_assert(offsetof(struct sg_status, worker) == 64, "layout");
static_assert(sizeof(struct sg_status_worker) == 64, "one cache line");

#endif

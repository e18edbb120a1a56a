/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared-memory contract between sockgated and libsockclient: versions, limits and constants.
 *
 * One sealed memfd ("segment") per attached process is mapped by that process and by the daemon. This
 * folder is all that the two sides agree on about it. Rules that hold for every struct here: fixed-width
 * integers only, offsets and never pointers, no bit-fields, no hidden padding, reserved fields are zero and
 * checked, and each field has exactly one writing side, named in its comment. Sizes and offsets are checked
 * at compile time beside each struct.
 *
 * The daemon trusts nothing in the segment: it copies a value once, checks the copy and uses the copy.
 */
#ifndef SG_ABI_ABI_H
#define SG_ABI_ABI_H

#include <stdint.h>

/* "SOCKGATE" read as a little-endian number; the first word of a segment and of the status page. */
#define SG_ABI_MAGIC       UINT64_C(0x455441474b434f53)

/*
 * Version of everything in proto/abi. A daemon accepts the versions from SG_ABI_VERSION_MIN to that of its
 * own build; a library accepts the daemon's if it equals its own. Anything else is refused in the hello.
 * Versions 1, with rings of one region, 2, without packet info, and 3, with one worker, were never released.
 */
#define SG_ABI_VERSION     4u
#define SG_ABI_VERSION_MIN 4u

/* Feature bits: what the daemon offers; a library ignores bits it does not know. */
#define SG_FEATURE_TCP4    (UINT64_C(1) << 0)
#define SG_FEATURE_UDP4    (UINT64_C(1) << 1)
#define SG_FEATURE_TCP6    (UINT64_C(1) << 2)
#define SG_FEATURE_UDP6    (UINT64_C(1) << 3)
#define SG_FEATURE_RAW     (UINT64_C(1) << 4)

#define SG_CACHE_LINE      64u
#define SG_PAGE_BYTES      4096u

/* Unit of slot->region offsets: regions start on pages, so 32 bits address 16 TiB. */
#define SG_REGION_SHIFT    12u

/* Byte-ring sizes are powers of two in this range. */
#define SG_REGION_LOG2_MIN 12u /* 4 KiB */
#define SG_REGION_LOG2_MAX 24u /* 16 MiB */

/* Limits of a session; the real counts stand in the segment header. */
#define SG_CHANNELS_MAX    16u
#define SG_WORKERS_MAX     16u
#define SG_SLOTS_MAX       (1u << 20)

/*
 * Each slot belongs to one worker of the daemon, for good: that of number slot % worker_count. What concerns
 * it travels in the rings of that worker alone. Slot 0 is never a socket, so that a zeroed record names none.
 */
#define SG_SLOT_NONE       0u

/* Address families on this contract (equal to Linux's numbers). */
#define SG_AF_INET         2u
#define SG_AF_INET6        10u

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiles every header of the shared-memory contract, so that its compile-time checks run even where no
 * other part uses it. Holds no code of its own but the facts that span two headers.
 */
#include "proto/abi/abi.h"
#include "proto/abi/cmd.h"
#include "proto/abi/info.h"
#include "proto/abi/ring.h"
#include "proto/abi/seg.h"
#include "proto/abi/slot.h"

static_assert(sizeof(struct sg_seg_hdr) <= SG_PAGE_BYTES, "the header has a page of its own");
static_assert(sizeof(struct sg_status) <= SG_PAGE_BYTES, "the status page is one page");
static_assert(sizeof(struct sg_channel) % SG_CACHE_LINE == 0, "the rings start on a cache line");
static_assert(sizeof(struct sg_slot) % SG_CACHE_LINE == 0, "slots do not share lines");
static_assert(SG_CMD_COUNT <= UINT16_MAX, "op is 16 bits");
static_assert(offsetof(struct sg_slot, a) == SG_CACHE_LINE, "one writer a line");
static_assert(offsetof(struct sg_slot, n) == 2 * SG_CACHE_LINE, "one writer a line");

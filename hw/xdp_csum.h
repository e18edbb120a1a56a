/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums that nobody finished, in frames that come without a word about them.
 *
 * Pure functions; any thread.
 */
#ifndef HW_XDP_CSUM_H
#define HW_XDP_CSUM_H

#include "hw/pktbuf.h"

/**
 * Mark a linear frame whose TCP or UDP checksum is still the sum of its pseudo header (PKT_CSUM_PARTIAL): one
 * that a peer on this machine left to a card that it never passed. Only for links that are no wire: there one
 * in 65,536 damaged frames would look so.
 */
void xdp_csum_mark(struct pktbuf *pkt);

#endif

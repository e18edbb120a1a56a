/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reassembly of IPv4 and IPv6 datagrams (RFC 791 3.2, RFC 8200 4.5; RFC 815's task with a bitmap instead of
 * hole descriptors).
 *
 * A fixed pool of frag_max datagrams with 64 KiB each; the oldest makes way when all are in use. It is meant
 * to be small: records are searched one after the other. A datagram whose fragments overlap with different
 * content, disagree about its length or exceed 65,535 bytes is dropped whole (RFC 1858, 3128, 5722); a
 * fragment that only repeats bytes already there, as a network that duplicates makes it, is ignored. Scratch
 * memory.
 */
#ifndef ENGINE_FRAG_H
#define ENGINE_FRAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"

#define FRAG_TIMEOUT_US  UINT64_C(30000000) /* as Linux; RFC 1122 3.3.2 says 60 to 120 s */
#define FRAG6_TIMEOUT_US UINT64_C(60000000) /* RFC 8200 4.5 */
#define FRAG_BLOCKS      8192u              /* units of 8 bytes in the largest datagram */
#define FRAG_BYTES       (FRAG_BLOCKS * 8u)
#define FRAG_HDR_MAX     60u
#define FRAG_HEADROOM    48u /* before the data: IPv6's fixed header and fragment header */

struct frag_dgram {
    bool used;
    bool broadcast;
    uint8_t proto;
    uint8_t tos, ttl; /* of the first fragment */
    uint8_t ecn_seen; /* bit n: a fragment carried ECN codepoint n */
    uint8_t ifindex;
    uint16_t hdr_len; /* of the first fragment; 0: it has not come */
    uint32_t id;
    struct ip_addr src, dst;
    uint32_t total;    /* bytes of payload; 0: the last fragment has not come */
    uint32_t end;      /* one past the highest byte so far */
    uint32_t received; /* bytes so far */
    uint64_t expires_us;
    uint8_t hdr[FRAG_HDR_MAX]; /* IPv4: header of the first fragment, for ICMP */
    uint64_t have[FRAG_BLOCKS / 64];
    uint8_t *data; /* FRAG_BYTES, behind FRAG_HEADROOM */
};

struct frag_table {
    struct frag_dgram *dgrams;
    uint32_t count;
    uint64_t next_us; /* no datagram times out before */
};

struct ip4_pkt;
struct rx_pkt;

size_t frag_bytes(const struct engine_config *cfg);
void frag_init(struct frag_table *t, void *mem, const struct engine_config *cfg);
void frag_timers(struct engine *e, uint64_t now_us);
uint64_t frag_deadline(const struct engine *e);

/** A fragment that passed the checks of ip4.c. Hands the datagram on when it is complete. */
void frag4_input(struct engine *e, const struct ip4_pkt *ip, const struct rx_pkt *rp, uint64_t now_us);
/** The same for IPv6: rp->l4 is the fragment header, whole. */
void frag6_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);

/** NULL, or what is inconsistent. */
const char *frag_check(const struct engine *e);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet buffer: what a device and the engine hand to each other. The only header of hw/ that the
 * engine knows.
 *
 * A frame is `data[0..len)`, followed by the bytes of the fragments in order. Received frames are linear
 * (frag_count 0); frames to send carry at least all headers in the linear part.
 *
 * Ownership. Receive: the device owns the buffer; the engine may read it (never write) until engine_rx()
 * returns. Send: the engine owns the buffer; the device may read it and its fragments until tx_burst()
 * returns, and must be done with it then.
 */
#ifndef HW_PKTBUF_H
#define HW_PKTBUF_H

#include <stdint.h>

/* pktbuf.flags */
#define PKT_CSUM_GOOD (1u << 0) /* receive: the device vouches for the transport checksum */
#define PKT_CSUM_PARTIAL                                                                                     \
    (1u                                                                                                      \
     << 1) /* send: checksum from csum_start on wanted at csum_start + csum_offset; the                   \
               * field holds the pseudo-header sum. Receive: same meaning, the frame was                     \
               * never on a wire and the data is to be trusted */

/* pktbuf.gso_type */
#define PKT_GSO_NONE  0u
#define PKT_GSO_TCP4  1u
#define PKT_GSO_TCP6  2u

#define PKT_FRAGS_MAX 3u

struct pkt_frag {
    const uint8_t *ptr;
    uint32_t len;
};

struct pktbuf {
    uint8_t *data;        /* first byte of the Ethernet header */
    uint32_t len;         /* bytes of the linear part */
    uint32_t total;       /* bytes of the frame: len plus all fragments */
    uint16_t flags;       /* PKT_* */
    uint16_t csum_start;  /* from data; with PKT_CSUM_PARTIAL */
    uint16_t csum_offset; /* from csum_start; with PKT_CSUM_PARTIAL */
    uint16_t gso_size;    /* payload bytes of each segment of a PKT_GSO_* frame, else 0 */
    uint8_t gso_type;     /* PKT_GSO_* */
    uint8_t frag_count;
    uint16_t hdr_len; /* bytes of all headers of a PKT_GSO_* frame */
    uint8_t dev;      /* device it came in on or goes out on, as the worker numbers them; devices ignore it */
    struct pkt_frag frag[PKT_FRAGS_MAX];
};

#endif

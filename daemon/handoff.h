/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring by which one worker hands frames and packets to another: a single-producer, single-consumer ring of
 * bytes in private memory, in which a record is its header and a copy of the bytes. Bounded: what finds no
 * room is refused, for the producer to count.
 *
 * [H1] producer: record, then store-release of tail <-> consumer: load-acquire of tail, then the record.
 * [H2] consumer: done with the record, then store-release of head <-> producer: load-acquire of head.
 */
#ifndef DAEMON_HANDOFF_H
#define DAEMON_HANDOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "hw/pktbuf.h"

/* Room for three of the largest frames. */
#define HANDOFF_RING_BYTES (256u << 10)

enum handoff_kind {
    HANDOFF_SKIP,   /* nothing: the rest of the memory is too small for a record */
    HANDOFF_FRAME,  /* as a device received it */
    HANDOFF_COPY,   /* the same, for raw sockets only */
    HANDOFF_PACKET, /* an IP packet that was put together */
    HANDOFF_LOOPED, /* an IP packet to ourselves */
    HANDOFF_SEND,   /* a frame for a device that the consumer has the queue of */
    HANDOFF_NET,    /* addresses and routes (engine_net_export()) */
};

/** Header of a record; the fields from `flags` on are those of a struct pktbuf. */
struct handoff_rec {
    uint32_t bytes; /* of the whole record, a multiple of HANDOFF_ALIGN */
    uint32_t len;   /* that follow */
    uint8_t kind;   /* enum handoff_kind */
    uint8_t dev;    /* device, or interface of a packet */
    uint8_t group;  /* packet: to several */
    uint8_t gso_type;
    uint16_t hdr_bytes; /* packet: of IP's headers */
    uint16_t flags, csum_start, csum_offset, gso_size, hdr_len;
};

#define HANDOFF_ALIGN 32u

struct handoff {
    uint8_t *mem;
    uint32_t tail __attribute__((aligned(64))); /* atomic: bytes written, free-running; producer's */
    uint32_t head_seen;                         /* the producer's last look at head */
    uint32_t head __attribute__((aligned(64))); /* atomic: bytes given back; the consumer's */
};

/** 0 or -ENOMEM. Memory is touched as it is used. */
int handoff_open(struct handoff *h);
void handoff_close(struct handoff *h);

/** Put a record with a copy of the frame's bytes; r->kind and what belongs to it are set. False: no room. */
bool handoff_put_frame(struct handoff *h, const struct handoff_rec *r, const struct pktbuf *p);
/** The same of two pieces of memory, the second of which may be empty. */
bool handoff_put(struct handoff *h, const struct handoff_rec *r, const void *a, uint32_t a_bytes,
                 const void *b, uint32_t b_bytes);

/**
 * The record behind the first *ahead bytes, and where its bytes lie; *ahead moves past it. Start with 0.
 * False: there is none. Records stay until they are consumed, all up to `bytes` of *ahead at once.
 */
bool handoff_peek(struct handoff *h, uint32_t *ahead, struct handoff_rec *ret, uint8_t **bytes);
void handoff_consume(struct handoff *h, uint32_t bytes);
bool handoff_pending(const struct handoff *h);

/** The frame of a record, with the bytes where they lie. */
void handoff_frame(const struct handoff_rec *r, uint8_t *bytes, struct pktbuf *ret);

#endif

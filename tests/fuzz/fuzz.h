/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share: reading a program from the input, TCP and ARP frames, and a host whose time
 * moves only when the input says so.
 *
 * A target is one file with LLVMFuzzerTestOneInput(). Linked with standalone.c it is a test that mutates its
 * corpus by a seed; linked by clang with -fsanitize=fuzzer it is a libFuzzer program. It reports a broken
 * invariant with fuzz_fail(), which aborts.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/wire/tcp.h"
#include "tests/support/host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Say what is wrong and abort. */
_Noreturn void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** One line about what happens, when the environment has FUZZ_TRACE. */
void fuzz_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- The input as a program: past its end every value is zero ------------------------------------- */

struct input {
    const uint8_t *p;
    size_t left;
};

uint8_t take_u8(struct input *in);
uint16_t take_u16(struct input *in);
uint32_t take_u32(struct input *in);
uint64_t take_u64(struct input *in);
/** Up to `max` bytes into buf, zero-filled; returns how many came from the input. */
size_t take_bytes(struct input *in, uint8_t *buf, size_t max);

/* ---- A small host ----------------------------------------------------------------------------------- */

/** 192.0.2.2 with pools so small that each of them runs out within one input. */
void fuzz_config(struct engine_config *cfg);
/** engine_check() and the session; fails when something is wrong. */
void fuzz_check(struct host *h);
/** Checks, ends the session, lets the orphans go and checks that nothing is left of it. */
void fuzz_stop(struct host *h);

/** Called for each frame that the host sends. */
typedef void fuzz_frame_fn(void *ctx, const struct pktbuf *frame);
/** Take all that the host has to send, answering who asks for 192.0.2.<last> or 2001:db8::<last>; fn may be
 * NULL. */
void fuzz_drain(struct host *h, uint8_t last, fuzz_frame_fn *fn, void *ctx);
/** Let `us` pass: timers run when they are due, frames are drained. */
void fuzz_wait(struct host *h, uint64_t us, uint8_t last, fuzz_frame_fn *fn, void *ctx);
/** One of a few durations, from nothing to hours, named by a byte. */
uint64_t fuzz_duration_us(uint8_t code);

/* ---- Frames ------------------------------------------------------------------------------------------ */

#define FUZZ_FRAME_MAX 65600u

/** Write Ethernet and IPv4 headers before `l4_bytes` of transport in f + 34; returns the frame's bytes. */
size_t fuzz_ip4(uint8_t *f, uint8_t last, uint8_t proto, size_t l4_bytes);
/** The same with an IPv6 header, of 2001:db8::<last>, and `l4_bytes` in f + 54. */
size_t fuzz_ip6(uint8_t *f, uint8_t last, uint8_t proto, size_t l4_bytes);
/** Set the TCP, UDP or ICMP checksum of a frame made by one of these. */
void fuzz_checksum(uint8_t *f, size_t bytes);
/** Bytes of a stream: the byte at `offset`. */
static inline uint8_t fuzz_pattern(uint64_t offset)
{
    return (uint8_t)((uint32_t)offset * 2654435761u >> 24);
}
/** What recv() gave at `offset` is the pattern, or fail. */
void fuzz_pattern_check(const uint8_t *buf, size_t len, uint64_t offset, const char *where);
void fuzz_pattern_fill(uint8_t *buf, size_t len, uint64_t offset);

#endif

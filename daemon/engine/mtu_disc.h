/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IP_MTU_DISCOVER and IPV6_MTU_DISCOVER: whether packets of a socket may be cut on their way, and whether
 * what is known of the path limits their size. Linux's values and their meaning there.
 *
 *   value      DF bit            cut here                      longer than
 *   DONT       no                at the path's MTU
 *   WANT       where it fits     at the path's MTU
 *   DO         yes               no                            the path's MTU: EMSGSIZE
 *   PROBE      yes               no                            the link's MTU: EMSGSIZE
 *   INTERFACE  no                no                            the link's MTU: EMSGSIZE
 *   OMIT       no                at the link's MTU
 *
 * The last two don't believe ICMP either: a forged error can't make their packets small. TCP cuts nothing
 * here in any case; with the last three its segments are made for the link.
 */
#ifndef ENGINE_MTU_DISC_H
#define ENGINE_MTU_DISC_H

#include <stdbool.h>
#include <stdint.h>

struct engine;
struct sock;
struct ip_addr;

enum mtu_disc {
    MTU_DISC_DONT = 0,
    MTU_DISC_WANT, /* the default */
    MTU_DISC_DO,
    MTU_DISC_PROBE,
    MTU_DISC_INTERFACE,
    MTU_DISC_OMIT
};

/** NET_* for a segment of TCP's. */
uint8_t mtu_disc_segment(const struct sock *s);
/** NET_* for a datagram to `dst` of `l4_bytes` with its transport header. Below 0: -EMSGSIZE. */
int mtu_disc_datagram(const struct engine *e, const struct sock *s, const struct ip_addr *dst,
                      uint32_t l4_bytes);
/** What is known of the path limits packets of this socket. */
bool mtu_disc_uses_path(const struct sock *s);
/** Path MTU may be searched for with its segments (RFC 4821): nobody cuts them, and the outcome counts. */
bool mtu_disc_probes(const struct sock *s);
/** ICMP errors that say "too big" are believed. */
bool mtu_disc_believes(const struct sock *s);

/* Rows of the table of options (sockopt.c). */
int mtu_disc_set(struct engine *e, struct sock *s, uint64_t value);
int mtu_disc_get(struct engine *e, struct sock *s, uint64_t *value);

#endif

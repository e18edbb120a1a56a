/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv4 multicast for hosts: which sockets belong to which groups (RFC 1112, RFC 3376 3) and what routers are
 * told about it (IGMP, igmp.c).
 *
 * A membership joins one socket to one group, as "all sources except" or "only these sources". Memberships
 * are state of sockets and lie in the arena. What the host wants from a group is merged from them (RFC 3376
 * 3.2) into a record of the group, which is scratch and lives on after the last member until routers were
 * told. Everything is small and bounded: groups are searched one after the other, only for multicast frames.
 */
#ifndef ENGINE_MCAST_H
#define ENGINE_MCAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/siphash.h"

#define MCAST_GROUPS_MAX        128u  /* groups at once */
#define MCAST_MEMBERS_MAX       1024u /* memberships of all sockets */
#define MCAST_SOCK_MAX          20u   /* memberships of one socket, as in Linux */
#define MCAST_SOURCES_MAX       10u   /* sources of one membership, as in Linux */
#define MCAST_GROUP_SOURCES_MAX 64u   /* sources of a group's members, and those that are being told of */
#define MCAST_QUERY_SOURCES_MAX 32u /* sources of a query that are kept; more: the whole group is reported */

/** Arena. */
struct mcast_member {
    uint32_t group4; /* 0: the record is free */
    uint32_t sock;   /* index of the datagram socket */
    uint32_t next;   /* of the socket; of the free records */
    uint8_t exclude; /* all sources but these, else these alone */
    uint8_t count;
    uint32_t src[MCAST_SOURCES_MAX];
};

struct mcast_source {
    uint32_t addr;
    uint8_t listed;  /* in the group's filter now */
    uint8_t reports; /* state-change reports that still mention it */
};

struct mcast_group {
    uint32_t addr; /* host order; 0: the record is free */
    uint32_t members;
    bool exclude;         /* the filter: all but the sources listed, else only these */
    uint8_t mode_reports; /* state-change reports that still tell of the mode */
    uint8_t source_count;
    uint8_t query_count; /* sources asked for; 0: the whole group */
    uint32_t query_src[MCAST_QUERY_SOURCES_MAX];
    struct mcast_source src[MCAST_GROUP_SOURCES_MAX];
    uint64_t change_us;   /* when the next state-change report is due; 0: none */
    uint64_t response_us; /* when a query about the group is to be answered; 0: none */
};

struct mcast_state {
    struct mcast_member *members; /* arena */
    struct mcast_group *groups;
    uint32_t free; /* member records, through next */
    struct sip_key key;
    uint64_t draws; /* random delays drawn */
    /* RFC 3376 7.2.1 and 8: what the querier said, and which older queriers are present. */
    uint8_t robustness;
    uint32_t interval_s;
    uint64_t general_us; /* when a general query is to be answered; 0: none */
    uint64_t v1_until_us, v2_until_us;
    uint64_t next_us; /* nothing is due before */
};

struct rx_pkt;
struct udp_sock;

size_t mcast_arena_bytes(void);
size_t mcast_bytes(void);
/** Members in `arena` stay; their groups are made anew. */
void mcast_init(struct engine *e, void *arena, void *mem);
uint64_t mcast_deadline(const struct engine *e);

/** Is there a member of the group (or is it the group of all hosts)? */
bool mcast_listens(const struct engine *e, uint32_t group4);
/** Did the socket join `group4` so that it hears `src4`? */
bool mcast_hears(const struct engine *e, const struct udp_sock *u, uint32_t group4, uint32_t src4);
/** The socket goes away: it leaves all its groups. */
void mcast_leave_all(struct engine *e, struct udp_sock *u);
/** engine_mcast() of a datagram socket. */
int mcast_setopt(struct engine *e, struct udp_sock *u, uint32_t name, const struct engine_mreq *r);

/* Names of the options, Linux's numbers. */
#define MCAST_INTERFACE   32u
#define MCAST_ADD         35u
#define MCAST_DROP        36u
#define MCAST_UNBLOCK     37u
#define MCAST_BLOCK       38u
#define MCAST_ADD_SOURCE  39u
#define MCAST_DROP_SOURCE 40u

/** Delay below `max_us`, not to be foreseen, never 0. */
uint64_t mcast_delay(struct engine *e, uint64_t max_us);
/** True when the host wants anything from the group. */
bool mcast_receives(const struct mcast_group *g);
/** A report was sent, or isn't needed: forget sources that are neither listed nor to be told of, and groups
 * that nobody wants. */
void mcast_group_clean(struct mcast_group *g);

/** NULL, or what is inconsistent. */
const char *mcast_check(const struct engine *e);

/* igmp.c */
void igmp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);
/** The group's filter changed: tell routers, now and again (RFC 3376 5.1). */
void igmp_changed(struct engine *e, struct mcast_group *g);
void igmp_timers(struct engine *e, uint64_t now_us);

#endif

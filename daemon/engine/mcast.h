/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multicast for hosts: which sockets belong to which groups (RFC 1112, RFC 3376 3, RFC 3810 4) and what
 * routers are told about it. IPv4 and IPv6 do the same with messages of another form:
 *
 *   mcast.c         memberships, and the host's filter that they make together
 *   mcast_report.c  when routers are told what: changes, answers to queries, older queriers
 *   igmp.c, mld.c   the messages of IGMP and of MLD
 *
 * A membership joins one socket to one group on one interface, as "all sources except" or "only these
 * sources". Memberships are state of sockets and lie in the arena. What the host wants from a group is merged
 * from them (RFC 3376 3.2) into a record of the group, which is scratch and lives on after the last member
 * until routers were told. Groups that addresses of ours ask for, the solicited-node groups of IPv6, have
 * such a record as well. Everything is small and bounded: groups are searched one after the other, only for
 * multicast frames.
 */
#ifndef ENGINE_MCAST_H
#define ENGINE_MCAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/netif.h"
#include "daemon/engine/siphash.h"
#include "daemon/engine/wire/group.h"

#define MCAST_GROUPS_MAX        128u  /* groups that sockets joined, at once */
#define MCAST_MEMBERS_MAX       1024u /* memberships of all sockets */
#define MCAST_SOCK_MAX          20u   /* memberships of one socket, as in Linux */
#define MCAST_SOURCES_MAX       10u   /* sources of one membership, as in Linux */
#define MCAST_GROUP_SOURCES_MAX 64u   /* sources of a group's members, and those that are being told of */
#define MCAST_QUERY_SOURCES_MAX 32u /* sources of a query that are kept; more: the whole group is reported */

/* With those of our own addresses, which sockets can't use up. */
#define MCAST_TABLE             (MCAST_GROUPS_MAX + NET_ADDR_MAX)

/** An address of the group's family; IPv4 in the first four bytes, zeros behind it. */
struct mcast_ip {
    uint8_t b[16];
};

/** Arena. */
struct mcast_member {
    struct ip_addr group; /* scope: interface + 1; family 0: the record is free */
    uint32_t sock;        /* index of the datagram socket */
    uint32_t next;        /* of the socket; of the free records */
    uint8_t exclude;      /* all sources but these, else these alone */
    uint8_t count;
    struct mcast_ip src[MCAST_SOURCES_MAX];
};

struct mcast_source {
    struct mcast_ip addr;
    uint8_t listed;  /* in the group's filter now */
    uint8_t reports; /* state-change reports that still mention it */
};

struct mcast_group {
    struct ip_addr addr; /* scope: interface + 1; family 0: the record is free */
    uint32_t members;
    bool own;             /* an address of ours asks for it */
    bool own_seen;        /* ... at the last look */
    bool exclude;         /* the filter: all but the sources listed, else only these */
    uint8_t mode_reports; /* state-change reports that still tell of the mode */
    uint8_t source_count;
    uint8_t query_count; /* sources asked for; 0: the whole group */
    struct mcast_ip query_src[MCAST_QUERY_SOURCES_MAX];
    struct mcast_source src[MCAST_GROUP_SOURCES_MAX];
    uint64_t change_us;   /* when the next state-change report is due; 0: none */
    uint64_t response_us; /* when a query about the group is to be answered; 0: none */
};

/** RFC 3376 7.2.1 and 8, RFC 3810 8.2.1 and 9: one protocol on one interface. */
struct mcast_link {
    uint8_t robustness;
    bool named; /* MLD: reports have a source (RFC 3590) */
    uint32_t interval_s;
    uint64_t general_us;               /* when a general query is to be answered; 0: none */
    uint64_t v1_until_us, v2_until_us; /* older queriers are present */
};

struct mcast_state {
    struct mcast_member *members; /* arena */
    struct mcast_group *groups;   /* MCAST_TABLE */
    uint32_t free;                /* member records, through next */
    struct sip_key key;
    uint64_t draws;                            /* random delays drawn */
    bool started;                              /* groups of our own addresses are joined */
    uint32_t gen;                              /* net_tables.gen when their addresses were last looked at */
    struct mcast_link links[2][ENGINE_IF_MAX]; /* IGMP, MLD */
    uint64_t next_us;                          /* nothing is due before */
};

struct rx_pkt;
struct udp_sock;

size_t mcast_arena_bytes(void);
size_t mcast_bytes(void);
/** Members in `arena` stay; their groups are made anew. */
void mcast_init(struct engine *e, void *arena, void *mem);
/** From now on the groups of our own addresses are joined and reported. */
void mcast_start(struct engine *e);
uint64_t mcast_deadline(const struct engine *e);

static inline struct mcast_link *mcast_link(struct mcast_state *m, const struct ip_addr *group)
{
    return &m->links[group->family == SG_AF_INET6][group->scope - 1];
}

/** Is there a member of the group on the interface (or is it IPv4's group of all hosts)? */
bool mcast_listens(const struct engine *e, const struct ip_addr *group, uint8_t ifindex);
/** Does the socket hear what `rp`, a multicast, brings from its sender? */
bool mcast_hears(const struct engine *e, const struct udp_sock *u, const struct rx_pkt *rp);
/** The socket goes away: it leaves all its groups. */
void mcast_leave_all(struct engine *e, struct udp_sock *u);
/** engine_mcast() of a datagram socket. */
int mcast_setopt(struct engine *e, struct udp_sock *u, uint32_t name, const struct engine_mreq *r);
/** Addresses of ours changed: join what they ask for, leave what none asks for any more. */
void mcast_own_sync(struct engine *e);

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

/* mcast_report.c */

/** Messages of the versions that know no sources. */
enum mcast_old { MCAST_REPORT1, MCAST_REPORT2, MCAST_LEAVE2 };

/** What the two protocols differ in. */
struct mcast_proto {
    uint32_t addr_bytes;
    uint8_t report_type; /* of the newest version */
    uint8_t hdr_bytes;   /* IP header of a report, with its Router Alert */
    /** Send the report in the open frame. */
    void (*send_report)(struct engine *e, struct pktbuf *p, uint8_t ifindex);
    void (*send_old)(struct engine *e, struct pktbuf *p, enum mcast_old what, const struct ip_addr *group);
};
extern const struct mcast_proto igmp_proto, mld_proto;

/** The record of a group; its scope is the interface. NULL: none. */
struct mcast_group *mcast_group_find(const struct mcast_state *m, const struct ip_addr *group);

/** The group's filter changed: tell routers, now and again (RFC 3376 5.1, RFC 3810 6.1). */
void mcast_changed(struct engine *e, struct mcast_group *g);
/** Tell of the group's state from `at_us` on, as if it had just been joined. */
void mcast_announce(struct engine *e, struct mcast_group *g, uint64_t at_us);
/** A router asks on interface `ifindex`. */
void mcast_query(struct engine *e, const struct group_query *q, uint16_t family, uint8_t ifindex,
                 uint64_t now_us);
/** Another host reports the group in an old version (RFC 2236 3, RFC 2710 4). */
void mcast_heard_report(struct engine *e, const struct ip_addr *group, uint64_t now_us);
void mcast_timers(struct engine *e, uint64_t now_us);

/* igmp.c, mld.c */
void igmp_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);
/** An ICMPv6 message whose checksum is good; false: not one of MLD. */
bool mld_input(struct engine *e, const struct rx_pkt *rp, uint64_t now_us);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every counter of the engine, by name. A dropped frame increments exactly one counter that says why.
 *
 * To add one: a line in the enum and the same line in the name table of stats.c (asserted to be complete).
 * Names are the kernel's where the meaning is the same: the group and the name in /proc/net/snmp and snmp6
 * (IpInReceives), and for those of /proc/net/netstat the group without "Ext" and the name without a second
 * "TCP" (TcpExt: TCPTimeouts, DelayedACKs are TcpTimeouts, TcpDelayedACKs).
 */
#ifndef ENGINE_STATS_H
#define ENGINE_STATS_H

#include <stdint.h>

enum stat {
    /* Frames and IP */
    ST_FRAMES_IN,
    ST_FRAMES_OUT,
    ST_DROP_FRAME_SHORT,   /* no whole Ethernet header */
    ST_DROP_FRAME_FOREIGN, /* destination MAC is not ours */
    ST_DROP_ETHERTYPE,     /* none that this interface speaks */
    ST_DROP_TX_FULL,       /* no free frame, or no room in the device's queue */
    ST_DROP_LINK_DOWN,     /* a frame for an interface whose link is down */
    ST_DROP_LOOP_FULL,     /* a packet to ourselves found the loop queue full */
    ST_ARP_IN,
    ST_ARP_OUT,
    ST_ARP_CONFLICT, /* somebody else claims our address */
    ST_DROP_ARP_BAD,
    ST_DROP_NEIGH_QUEUE,  /* waited for a neighbour, pushed out of the queue */
    ST_DROP_NEIGH_FAILED, /* the neighbour never answered */
    ST_DROP_NEIGH_FULL,   /* no free neighbour entry */
    ST_IP_IN_RECEIVES,
    ST_IP_IN_HDR_ERRORS,  /* version, header length, total length, checksum */
    ST_IP_IN_ADDR_ERRORS, /* not for us, or an impossible source */
    ST_IP_IN_UNKNOWN_PROTOS,
    ST_IP_IN_DELIVERS,
    ST_IP_IN_NO_ECT, /* these four in the order of the codepoints; joined segments count one by one */
    ST_IP_IN_ECT1,
    ST_IP_IN_ECT0,
    ST_IP_IN_CE,
    ST_IP_OUT_REQUESTS,
    ST_IP_OUT_NO_ROUTES,
    ST_IP_REASM_REQDS,
    ST_IP_REASM_OKS,
    ST_IP_REASM_FAILS, /* time-out, no room, bad or overlapping fragment */
    ST_IP_FRAG_CREATES,
    ST_IP6_IN_RECEIVES,
    ST_IP6_IN_HDR_ERRORS,  /* version, length, an extension header or option that we refuse */
    ST_IP6_IN_ADDR_ERRORS, /* not for us, or an impossible source */
    ST_IP6_IN_UNKNOWN_PROTOS,
    ST_IP6_IN_DELIVERS,
    ST_IP6_IN_NO_ECT, /* likewise */
    ST_IP6_IN_ECT1,
    ST_IP6_IN_ECT0,
    ST_IP6_IN_CE,
    ST_IP6_OUT_REQUESTS,
    ST_IP6_OUT_NO_ROUTES,
    ST_IP6_REASM_REQDS,
    ST_IP6_REASM_OKS,
    ST_IP6_REASM_FAILS, /* time-out, no room, bad or overlapping fragment */
    ST_IP6_FRAG_CREATES,
    ST_ND_CONFLICT,  /* somebody else claims an address that we use */
    ST_ND_DUPLICATE, /* an address was found in use before we used it */
    ST_DROP_ND_BAD,  /* hop limit, code, length or options of a discovery message */
    ST_DROP_VLAN,    /* frame of a VLAN that is no interface of ours */
    ST_ICMP_IN_MSGS,
    ST_ICMP_IN_ERRORS, /* malformed or bad checksum */
    ST_ICMP_IN_ECHOS,
    ST_ICMP_OUT_ECHO_REPS,
    ST_ICMP_OUT_DEST_UNREACHS,
    ST_ICMP6_IN_MSGS,
    ST_ICMP6_IN_ERRORS, /* malformed or bad checksum */
    ST_ICMP6_IN_ECHOS,
    ST_ICMP6_IN_NEIGHBOR_SOLICITS,
    ST_ICMP6_IN_NEIGHBOR_ADVERTS,
    ST_ICMP6_IN_ROUTER_ADVERTS,
    ST_ICMP6_IN_GROUP_QUERIES, /* MLD, version 1 or 2 */
    ST_ICMP6_IN_GROUP_RESPONSES,
    ST_ICMP6_OUT_MSGS,
    ST_ICMP6_OUT_ECHO_REPLIES,
    ST_ICMP6_OUT_DEST_UNREACHS,
    ST_ICMP6_OUT_TIME_EXCDS,
    ST_ICMP6_OUT_PARM_PROBLEMS,
    ST_ICMP6_OUT_NEIGHBOR_SOLICITS,
    ST_ICMP6_OUT_NEIGHBOR_ADVERTS,
    ST_ICMP6_OUT_ROUTER_SOLICITS,
    ST_ICMP6_OUT_GROUP_RESPONSES,
    ST_ICMP6_OUT_GROUP_REDUCTIONS,
    ST_ICMP6_OUT_MLD2_REPORTS,
    ST_ICMP_RATE_LIMITED,
    ST_ICMP_ERR_UNMATCHED, /* an ICMP error about nothing that we sent */
    ST_PMTU_LOWERED,       /* a path was found to take smaller packets only */
    ST_PMTU_IGNORED,       /* "too big" about a packet that was not */
    ST_DROP_MULTICAST,     /* a multicast of a group that nobody here joined */
    ST_MCAST_LIMIT,        /* a membership refused: sources, memberships or groups are used up (mcast.h) */
    ST_IGMP_IN_QUERIES,
    ST_IGMP_IN_REPORTS,
    ST_IGMP_IN_ERRORS, /* malformed, bad checksum, or a general query to another group than all hosts */
    ST_IGMP_OUT_REPORTS,
    ST_RAW_IN, /* packets copied to raw sockets */
    ST_RAW_OUT,
    ST_RAW_DROPS,       /* a raw socket's receive ring had no room */
    ST_RAW_CSUM_ERRORS, /* a copy that a raw IPv6 socket didn't get: bad checksum */
    ST_RAW_DENIED,      /* raw sockets refused: the session may not */
    ST_DHCP_IN,         /* answers that were taken */
    ST_DHCP_IN_BAD,     /* malformed, not for us, or offering what no host can have */
    ST_DHCP_OUT,
    ST_DHCP_DECLINED, /* another host had the address */
    ST_DHCP_LOST,     /* a lease ended */
    /* UDP */
    ST_UDP_IN_DATAGRAMS,
    ST_UDP_OUT_DATAGRAMS,
    ST_UDP_NO_PORTS,
    ST_UDP_IN_ERRORS,      /* length */
    ST_UDP_IN_CSUM_ERRORS, /* checksum; not counted among UdpInErrors, unlike in the kernel */
    ST_UDP_NO_CHECKSUM,    /* accepted without one (RFC 768 allows it on IPv4) */
    ST_UDP_RCVBUF_ERRORS,  /* SO_RCVBUF reached, or the reading half is shut down */
    ST_UDP_MEM_ERRORS,     /* no memory for a receive ring: the session's quota is used up */
    ST_UDP_SNDBUF_ERRORS,  /* could not be sent: no route, no frame, no permission */
    /* TCP */
    ST_TCP_ACTIVE_OPENS,
    ST_TCP_PASSIVE_OPENS,
    ST_TCP_ATTEMPT_FAILS,
    ST_TCP_ESTAB_RESETS,
    ST_TCP_IN_SEGS,
    ST_TCP_OUT_SEGS,
    ST_TCP_RETRANS_SEGS,
    ST_TCP_IN_ERRS, /* short, bad offset, bad checksum */
    ST_TCP_OUT_RSTS,
    ST_TCP_NO_SOCKET,        /* answered with RST */
    ST_TCP_LISTEN_OVERFLOWS, /* accept queue full */
    ST_TCP_LISTEN_DROPS,     /* SYN or ACK of a handshake dropped at a listener, for whatever reason */
    ST_TCP_REQ_QFULL,        /* SYN queue full, SYN dropped */
    ST_TCP_REQ_QFULL_COOKIE, /* SYN queue full, cookie sent */
    ST_TCP_FASTOPEN_ACTIVE,  /* data on our SYN was acknowledged */
    ST_TCP_FASTOPEN_ACTIVE_FAIL,
    ST_TCP_FASTOPEN_PASSIVE, /* connections made by a SYN with a good cookie */
    ST_TCP_FASTOPEN_PASSIVE_FAIL,
    ST_TCP_FASTOPEN_LISTEN_OVERFLOW,
    ST_TCP_FASTOPEN_COOKIE_REQD,
    ST_TCP_FASTOPEN_BLACKHOLE, /* times that a path was found to swallow what follows data on a SYN */
    ST_TCP_COOKIES_SENT,
    ST_TCP_COOKIES_RECV,
    ST_TCP_COOKIES_FAILED, /* an ACK that brought no good one, while there were some about */
    ST_TCP_TIMEOUTS,       /* RTO fired */
    ST_TCP_FAST_RETRANS,   /* recoveries entered by duplicate ACKs or SACK */
    ST_TCP_LOSS_PROBES,
    ST_TCP_LOSS_PROBE_RECOVERY, /* a loss that only the probe repaired */
    ST_TCP_SPURIOUS_RTOS,       /* time-outs that F-RTO found to be spurious */
    ST_TCP_FULL_UNDO,           /* reductions taken back: at the end of a recovery, by time */
    ST_TCP_PARTIAL_UNDO,        /* ... in the middle of it */
    ST_TCP_DSACK_UNDO,          /* ... as all that was sent again was a duplicate */
    ST_TCP_LOSS_UNDO,           /* ... after a time-out */
    ST_TCP_DSACK_RECV,
    ST_TCP_DSACK_IGNORED,    /* too old, or about what was never sent */
    ST_TCP_MTU_BLACK_HOLES,  /* paths on which long packets vanished */
    ST_TCP_MTUP_SUCCESS,     /* probes of the path MTU that arrived */
    ST_TCP_MTUP_FAIL,        /* and that did not */
    ST_TCP_DELIVERED_CE,     /* segments whose ACK echoed a congestion mark */
    ST_TCP_ECN_REDUCTIONS,   /* windows reduced for such an echo */
    ST_TCP_ECN_FALLBACK,     /* SYNs sent again without asking for ECN */
    ST_TCP_SACK_RENEGING,    /* a peer threw away what it had acknowledged selectively */
    ST_TCP_SACK_LIMIT,       /* the SACK blocks of an ACK were not looked at to the end */
    ST_TCP_LOST_RETRANSMIT,  /* a retransmission was itself lost */
    ST_TCP_OFO_QUEUE,        /* segments kept out of order */
    ST_TCP_OFO_DROP,         /* no range record, or no room */
    ST_TCP_REASM_EMPTY,      /* no record for what lies beyond a hole */
    ST_TCP_RCV_COLLAPSED,    /* out-of-order ranges merged */
    ST_TCP_RCV_WINDOW_GROWN, /* receive windows widened by auto-tuning */
    ST_TCP_SND_BUFFER_GROWN, /* larger send rings offered by auto-tuning */
    ST_TCP_RCV_OLD,          /* wholly duplicate data */
    ST_TCP_RCV_OUT_OF_WINDOW,
    ST_TCP_RCV_NO_BUFFER, /* no region: quota or heap */
    ST_TCP_DSACK_SENT,
    ST_TCP_PAWS_ESTAB,
    ST_TCP_CHALLENGE_ACK,
    ST_TCP_SYN_CHALLENGE,
    ST_TCP_CHALLENGE_LIMITED,
    ST_TCP_DELAYED_ACKS,
    ST_TCP_PURE_ACKS,
    ST_TCP_CUT_THROUGH, /* times data passed between two ends that are both here, without segments */
    ST_TCP_CUT_THROUGH_BYTES,
    ST_TCP_HP_HITS, /* header prediction hits */
    ST_TCP_ZERO_WINDOW_PROBES,
    ST_TCP_KEEPALIVES,
    ST_TCP_ABORT_ON_TIMEOUT,
    ST_TCP_ABORT_ON_DATA,   /* closed with unread data */
    ST_TCP_ABORT_ON_CLOSE,  /* closed with linger 0, or data after close */
    ST_TCP_ABORT_ON_LINGER, /* closed with TCP_LINGER2 below 0 */
    ST_TCP_ABORT_ON_MEMORY, /* closed when there were too many orphans */
    ST_TCP_DEFER_ACCEPT_DROP,
    ST_TCP_TW_CREATED,
    ST_TCP_TW_RECYCLED,  /* reused for a new connection (RFC 6191) */
    ST_TCP_TW_OVERFLOW,  /* pushed out early */
    ST_TCP_TXSEG_EMPTY,  /* sending waited for a segment record */
    ST_TCP_FLIGHT_EMPTY, /* sending waited for a flight record */
    ST_TCP_PATH_EMPTY,   /* no record for a paced connection */
    ST_TCP_CC_FALLBACK,  /* so CUBIC took the place of BBR */
    ST_TCP_CONN_FULL,    /* no connection record */
    /* Applications */
    ST_APP_KICKS,
    ST_APP_KICK_BAD, /* slot out of range or empty */
    ST_APP_EVENTS,
    ST_APP_FAULTS, /* sessions that broke the contract */
    ST_APP_QUOTA_SOCKETS,
    ST_APP_QUOTA_BUFFERS,
    ST_COUNT
};

struct stats {
    uint64_t v[ST_COUNT];
};

static inline void stat_inc(struct stats *s, enum stat c)
{
    s->v[c]++;
}

static inline void stat_add(struct stats *s, enum stat c, uint64_t n)
{
    s->v[c] += n;
}

const char *stat_name(enum stat c);

#endif

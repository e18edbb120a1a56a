/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IGMP messages, versions 1 to 3 (RFC 1112, 2236, 3376). Addresses are in host order.
 */
#ifndef ENGINE_WIRE_IGMP_H
#define ENGINE_WIRE_IGMP_H

#include "daemon/engine/csum.h"
#include "daemon/engine/wire/group.h"

#define IP_PROTO_IGMP    2u

#define IGMP_HDR_BYTES   8u /* of a version 1 or 2 message, and of a version 3 query before its tail */

#define IGMP_QUERY       0x11u
#define IGMP_REPORT1     0x12u
#define IGMP_REPORT2     0x16u
#define IGMP_LEAVE2      0x17u
#define IGMP_REPORT3     0x22u

#define IGMP_ALL_HOSTS   0xe0000001u /* 224.0.0.1 */
#define IGMP_ALL_ROUTERS 0xe0000002u
#define IGMP_REPORTS3    0xe0000016u /* 224.0.0.22, where version 3 reports go */

/** RFC 3376 7.1. @return false: malformed, or of a length that no version has */
static inline bool igmp_query_parse(const uint8_t *p, uint32_t bytes, struct group_query *ret)
{
    uint32_t group;

    if (bytes < IGMP_HDR_BYTES || csum_finish(csum_partial(p, bytes)))
        return false;
    *ret = (struct group_query){.group = p + 4};
    group = get_be32(p + 4);
    if (group && group >> 28 != 0xe)
        return false;
    if (bytes == IGMP_HDR_BYTES) {
        ret->version = p[1] ? 2 : 1;
        ret->max_resp_us = p[1] ? p[1] * 100000u : 10000000u; /* RFC 2236 4 */
        return true;
    }
    ret->max_resp_us = group_float8(p[1]) * 100000u;
    return group_query_tail(p + IGMP_HDR_BYTES, bytes - IGMP_HDR_BYTES, 4, ret) &&
           (group || !ret->source_count);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IGMP messages, versions 1 to 3 (RFC 1112, 2236, 3376). Addresses are in host order.
 */
#ifndef ENGINE_WIRE_IGMP_H
#define ENGINE_WIRE_IGMP_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/csum.h"
#include "daemon/engine/wire/bytes.h"

#define IP_PROTO_IGMP     2u

#define IGMP_HDR_BYTES    8u /* of a version 1 or 2 message, and of a version 3 report before its records */
#define IGMP_QUERY3_BYTES 12u
#define IGMP_RECORD_BYTES 8u /* of a group record, without its sources */

#define IGMP_QUERY        0x11u
#define IGMP_REPORT1      0x12u
#define IGMP_REPORT2      0x16u
#define IGMP_LEAVE2       0x17u
#define IGMP_REPORT3      0x22u

#define IGMP_ALL_HOSTS    0xe0000001u /* 224.0.0.1 */
#define IGMP_ALL_ROUTERS  0xe0000002u
#define IGMP_REPORTS3     0xe0000016u /* 224.0.0.22, where version 3 reports go */

/* Types of group record (RFC 3376 4.2.12). */
enum igmp_record {
    IGMP_IS_IN = 1,
    IGMP_IS_EX,
    IGMP_TO_IN,
    IGMP_TO_EX,
    IGMP_ALLOW,
    IGMP_BLOCK,
};

struct igmp_query {
    uint8_t version; /* 1..3 */
    uint32_t group;  /* 0: general */
    uint32_t max_resp_us;
    uint8_t robustness;  /* version 3; 0: not said */
    uint32_t interval_s; /* version 3, of the querier; 0: not said */
    uint32_t source_count;
    const uint8_t *sources; /* 4 bytes each */
};

/* RFC 3376 4.1.1 and 4.1.7: values from 128 on have a mantissa and an exponent. */
static inline uint32_t igmp_float(uint8_t code)
{
    return code < 128 ? code : (uint32_t)((code & 15) | 16) << (((code >> 4) & 7) + 3);
}

/** RFC 3376 7.1. @return false: malformed, or of a length that no version has */
static inline bool igmp_query_parse(const uint8_t *p, uint32_t bytes, struct igmp_query *ret)
{
    if (bytes < IGMP_HDR_BYTES || csum_finish(csum_partial(p, bytes)))
        return false;
    *ret = (struct igmp_query){.group = get_be32(p + 4)};
    if (ret->group && ret->group >> 28 != 0xe)
        return false;
    if (bytes == IGMP_HDR_BYTES) {
        ret->version = p[1] ? 2 : 1;
        ret->max_resp_us = p[1] ? p[1] * 100000u : 10000000u; /* RFC 2236 4 */
        return true;
    }
    if (bytes < IGMP_QUERY3_BYTES)
        return false;
    ret->version = 3;
    ret->max_resp_us = igmp_float(p[1]) * 100000u;
    ret->robustness = p[8] & 7;
    ret->interval_s = igmp_float(p[9]);
    ret->source_count = get_be16(p + 10);
    ret->sources = p + IGMP_QUERY3_BYTES;
    return ret->source_count <= (bytes - IGMP_QUERY3_BYTES) / 4 && (ret->group || !ret->source_count);
}

#endif

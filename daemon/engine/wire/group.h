/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What messages about multicast groups have in common in IGMP and MLD: a report of the newest version is 8
 * bytes and group records, a query that names sources ends in 4 bytes and these.
 */
#ifndef ENGINE_WIRE_GROUP_H
#define ENGINE_WIRE_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/wire/bytes.h"

#define GROUP_HDR_BYTES    8u /* of a report before its records */
#define GROUP_RECORD_BYTES 4u /* of a record, without its group and its sources */

/* Types of group record (RFC 3376 4.2.12, RFC 3810 5.2.12). */
enum group_record {
    GROUP_IS_IN = 1,
    GROUP_IS_EX,
    GROUP_TO_IN,
    GROUP_TO_EX,
    GROUP_ALLOW,
    GROUP_BLOCK,
};

/** A query; MLD's versions 1 and 2 count as 2 and 3, which is what they were made after. */
struct group_query {
    uint8_t version;      /* 1..3 */
    const uint8_t *group; /* all zero: general */
    uint32_t max_resp_us;
    uint8_t robustness;  /* version 3; 0: not said */
    uint32_t interval_s; /* version 3, of the querier; 0: not said */
    uint32_t source_count;
    const uint8_t *sources;
};

/* RFC 3376 4.1.1 and 4.1.7, RFC 3810 5.1.9: values from 128 on have a mantissa and an exponent. */
static inline uint32_t group_float8(uint8_t code)
{
    return code < 128 ? code : (uint32_t)((code & 15) | 16) << (((code >> 4) & 7) + 3);
}

/** The end of a query of version 3, from its robustness on. False: fewer sources than it says. */
static inline bool group_query_tail(const uint8_t *p, uint32_t bytes, uint32_t addr_bytes,
                                    struct group_query *ret)
{
    if (bytes < 4)
        return false;
    ret->version = 3;
    ret->robustness = p[0] & 7;
    ret->interval_s = group_float8(p[1]);
    ret->source_count = get_be16(p + 2);
    ret->sources = p + 4;
    return ret->source_count <= (bytes - 4) / addr_bytes;
}

#endif

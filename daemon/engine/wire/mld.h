/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multicast listener discovery, versions 1 and 2 (RFC 2710, RFC 3810): messages of ICMPv6.
 */
#ifndef ENGINE_WIRE_MLD_H
#define ENGINE_WIRE_MLD_H

#include "daemon/engine/wire/group.h"
#include "daemon/engine/wire/ip6.h"

#define MLD_QUERY     130u
#define MLD_REPORT1   131u
#define MLD_DONE1     132u
#define MLD_REPORT2   143u

#define MLD_HDR_BYTES 24u /* of a version 1 message, and of a version 2 query before its tail */

/* RFC 3810 5.1.3: 16 bits, in milliseconds; from 32,768 on with a mantissa and an exponent. */
static inline uint32_t mld_float16(uint16_t code)
{
    return code < 32768 ? code : (uint32_t)((code & 0xfff) | 0x1000) << (((code >> 12) & 7) + 3);
}

/** RFC 3810 8.1; the checksum is good. @return false: malformed, or of a length that no version has */
static inline bool mld_query_parse(const uint8_t *p, uint32_t bytes, struct group_query *ret)
{
    bool general;

    if (bytes < MLD_HDR_BYTES)
        return false;
    *ret = (struct group_query){.group = p + 8};
    general = ip6_is_unspecified(p + 8);
    if (!general && !ip6_is_multicast(p + 8))
        return false;
    if (bytes == MLD_HDR_BYTES) {
        ret->version = 2;
        ret->max_resp_us = get_be16(p + 4) * 1000u;
        return true;
    }
    ret->max_resp_us = mld_float16(get_be16(p + 4)) * 1000u;
    return group_query_tail(p + MLD_HDR_BYTES, bytes - MLD_HDR_BYTES, 16, ret) &&
           (!general || !ret->source_count);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ctl/ctl_info.h"

#include <inttypes.h>
#include <string.h>

#define ALWAYS    (1u << 0) /* shown in text even when it is 0 */
#define JSON_ONLY (1u << 1) /* the socket's own line has it already, or it is of little use to people */
#define BIT_RATE  (1u << 2) /* bytes a second; shown in text as bits */
#define IN_MS     (1u << 3) /* microseconds; shown in text as milliseconds */
#define NO_VALUE  (1u << 4) /* the type's largest value says that there is none */

struct field {
    const char *name; /* as ss has it */
    const char *json;
    uint16_t offset;
    uint8_t bytes;
    uint8_t flags;
};

#define FIELD(label, key, member, how)                                                                       \
    {                                                                                                        \
        label, key, offsetof(struct sg_tcp_info, member), sizeof(((struct sg_tcp_info *)0)->member), how     \
    }

static const struct field fields[] = {
    FIELD("ca_state", "ca_state", ca_state, 0),
    FIELD("retransmits", "retransmits", retransmits, JSON_ONLY),
    FIELD("probes", "probes", probes, 0),
    FIELD("ato", "ato_us", ato_us, IN_MS),
    FIELD("pmtu", "pmtu", pmtu, 0),
    FIELD("rcvmss", "rcv_mss", rcv_mss, ALWAYS),
    FIELD("advmss", "adv_mss", advmss, ALWAYS),
    FIELD("bytes_retrans", "bytes_retrans", bytes_retrans, 0),
    FIELD("data_segs_out", "data_segs_out", data_segs_out, 0),
    FIELD("data_segs_in", "data_segs_in", data_segs_in, 0),
    FIELD("lastsnd", "last_data_sent_ms", last_data_sent_ms, ALWAYS),
    FIELD("lastrcv", "last_data_recv_ms", last_data_recv_ms, ALWAYS),
    FIELD("lastack", "last_ack_recv_ms", last_ack_recv_ms, ALWAYS),
    FIELD("pacing_rate", "pacing_rate", pacing_rate, BIT_RATE | NO_VALUE),
    FIELD("max_pacing_rate", "max_pacing_rate", max_pacing_rate, BIT_RATE | NO_VALUE),
    FIELD("delivery_rate", "delivery_rate", delivery_rate, BIT_RATE),
    FIELD("delivered", "delivered", delivered, 0),
    FIELD("delivered_ce", "delivered_ce", delivered_ce, 0),
    FIELD("busy", "busy_us", busy_us, IN_MS),
    FIELD("rwnd_limited", "rwnd_limited_us", rwnd_limited_us, IN_MS),
    FIELD("sndbuf_limited", "sndbuf_limited_us", sndbuf_limited_us, IN_MS),
    FIELD("unacked", "unacked", unacked, 0),
    FIELD("retrans", "retrans", retrans, 0),
    FIELD("lost", "lost", lost, 0),
    FIELD("sacked", "sacked", sacked, 0),
    FIELD("dsack_dups", "dsack_dups", dsack_dups, 0),
    FIELD("reordering", "reordering", reordering, JSON_ONLY),
    FIELD("reord_seen", "reord_seen", reord_seen, 0),
    FIELD("rcv_rtt", "rcv_rtt_us", rcv_rtt_us, IN_MS),
    FIELD("rcv_space", "rcv_space", rcv_space, 0),
    FIELD("rcv_ooopack", "rcv_ooopack", rcv_ooopack, 0),
    FIELD("notsent", "notsent_bytes", notsent_bytes, 0),
    FIELD("minrtt", "min_rtt_us", min_rtt_us, IN_MS | NO_VALUE),
};

static const struct {
    const char *name;
    uint8_t bit;
} flags[] = {
    {"ts", SG_TCPI_TIMESTAMPS}, {"sack", SG_TCPI_SACK}, {"ecn", SG_TCPI_ECN}, {"fastopen", SG_TCPI_SYN_DATA}};

static uint64_t value_of(const struct field *f, const struct sg_tcp_info *i)
{
    const uint8_t *at = (const uint8_t *)i + f->offset;
    uint64_t v64;
    uint32_t v32;

    switch (f->bytes) {
    case 1:
        return *at;
    case 4:
        memcpy(&v32, at, sizeof(v32));
        return v32;
    default:
        memcpy(&v64, at, sizeof(v64));
        return v64;
    }
}

static bool has_value(const struct field *f, uint64_t v)
{
    return !(f->flags & NO_VALUE) || v != (f->bytes == 8 ? UINT64_MAX : UINT32_MAX);
}

static void field_text(FILE *out, const struct field *f, uint64_t v)
{
    if (f->flags & BIT_RATE)
        fprintf(out, " %s %.0fbps", f->name, (double)v * 8);
    else if (f->flags & IN_MS)
        fprintf(out, " %s:%.3fms", f->name, (double)v / 1000);
    else
        fprintf(out, " %s:%" PRIu64, f->name, v);
}

void info_text(FILE *out, const struct sg_tcp_info *i)
{
    for (size_t n = 0; n < sizeof(flags) / sizeof(flags[0]); n++)
        if (i->options & flags[n].bit)
            fprintf(out, " %s", flags[n].name);
    if (i->options & SG_TCPI_WSCALE)
        fprintf(out, " wscale:%u,%u", i->wscales & 15u, i->wscales >> 4);
    for (size_t n = 0; n < sizeof(fields) / sizeof(fields[0]); n++) {
        uint64_t v = value_of(&fields[n], i);

        if (!(fields[n].flags & JSON_ONLY) && has_value(&fields[n], v) && (v || fields[n].flags & ALWAYS))
            field_text(out, &fields[n], v);
    }
    if (i->rate_flags & SG_TCPI_RATE_APP)
        fprintf(out, " app_limited");
}

void info_json(struct json *j, const char *name, const struct sg_tcp_info *i)
{
    json_object(j, name);
    for (size_t n = 0; n < sizeof(flags) / sizeof(flags[0]); n++)
        json_number(j, flags[n].name, !!(i->options & flags[n].bit));
    if (i->options & SG_TCPI_WSCALE) {
        json_number(j, "snd_wscale", i->wscales & 15u);
        json_number(j, "rcv_wscale", i->wscales >> 4);
    }
    for (size_t n = 0; n < sizeof(fields) / sizeof(fields[0]); n++) {
        uint64_t v = value_of(&fields[n], i);

        if (has_value(&fields[n], v))
            json_number(j, fields[n].json, v);
    }
    json_number(j, "app_limited", !!(i->rate_flags & SG_TCPI_RATE_APP));
    json_number(j, "fastopen_fail", i->rate_flags >> SG_TCPI_FO_SHIFT & 3u);
    json_close_object(j);
}

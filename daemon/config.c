/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config.h"

#include "daemon/config_int.h"

#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_LEN(a)   (sizeof(a) / sizeof((a)[0]))

#define KIB            UINT64_C(1024)
#define MIB            (1024 * KIB)
#define GIB            (1024 * MIB)

/* Limits that keep a mistyped number from asking for all memory. */
#define POOL_MAX       (UINT64_C(1) << 24)
#define TIMER_US_MAX   UINT64_C(4000000000)
#define SECONDS_MAX    UINT64_C(1000000)
#define HEAP_BYTES_MAX (1024 * GIB)

#define FIELD(f)       .offset = offsetof(struct config, f), .size = sizeof(((struct config *)0)->f)
#define ENGINE(f)      FIELD(engine.f)

/* clang-format off */
const struct config_key config_keys[] = {
    {"network", "device", CONFIG_DEVICES, FIELD(devices), 0, 0, "tap:sg0", "device", "SPEC",
     "network device to own, as KIND:NAME; \"name N\", \"mtu N\", \"mac M\", \"accept_ra yes\" and, for "
     "dpdk:, \"kernel_tap N\" may follow; may be repeated"},
    {"network", "address", CONFIG_NETWORKS, FIELD(addresses), 0, 0, "10.77.0.2/24", "address", "A/LEN",
     "IPv4 or IPv6 address to answer for, and its network, or dhcp; \"dev NAME\" and \"vlan ID\" may follow; "
     "may be repeated"},
    {"network", "gateway", CONFIG_GATEWAYS, FIELD(gateways), 0, 0, "", "gateway", "A",
     "router for all other networks, one for each family; \"dev NAME\" may follow; empty: none"},
    {"network", "route", CONFIG_ROUTES, FIELD(routes), 0, 0, "", "route", "NET",
     "\"PREFIX/LEN via ADDRESS\": router for one network; \"dev NAME\" may follow; may be repeated"},
    {"network", "ipv6", CONFIG_BOOL, FIELD(ipv6), 0, 0, "yes", NULL, NULL,
     "speak IPv6, with a link-local address of its own, if the MTU is 1280 or more"},
    {"network", "accept_ra", CONFIG_BOOL, FIELD(accept_ra), 0, 0, "no", NULL, NULL,
     "take IPv6 addresses and routes from router advertisements"},
    {"network", "dad_transmits", CONFIG_NUMBER, ENGINE(dad_transmits), 0, 10, "1", NULL, NULL,
     "times to ask whether another host has an IPv6 address before it is used; 0: do not ask"},
    {"network", "mtu", CONFIG_NUMBER, FIELD(mtu), 0, 65535, "0", "mtu", "N",
     "largest IP packet in bytes, 576 or more; 0: the device's own"},
    {"network", "mac", CONFIG_MAC, FIELD(mac), 0, 0, "", "mac", "M",
     "hardware address to use; empty: the device's own"},
    {"network", "probe_ms", CONFIG_NUMBER, FIELD(probe_ms), 0, 10000, "200", NULL, NULL,
     "how long to ask at start whether another host has the address; 0: do not ask"},

    {"control", "path", CONFIG_TEXT, FIELD(control_path), 1, 0, "/run/sockgate/control.sock",
     "control", "PATH",
     "socket where applications and sockgatectl connect"},
    {"control", "mode", CONFIG_OCTAL, FIELD(control_mode), 0, 0777, "0666", NULL, NULL,
     "permissions of that socket: who may connect"},
    {"control", "group", CONFIG_TEXT, FIELD(control_group), 0, 0, "", NULL, NULL,
     "group that owns that socket; empty: the daemon's"},
    {"control", "clients_max", CONFIG_NUMBER, FIELD(clients_max), 2, 65536, "1024", NULL, NULL,
     "connections to that socket at once; each attached process holds one"},

    {"daemon", "user", CONFIG_TEXT, FIELD(user), 0, 0, "", NULL, NULL,
     "user to become once the device is open, when started as root; empty: stay"},
    {"daemon", "secret_file", CONFIG_TEXT, FIELD(secret_file), 0, 0, "/var/lib/sockgate/secret", NULL, NULL,
     "file with the secret behind addresses and Fast Open cookies that outlive a restart; empty: none"},
    {"daemon", "log_level", CONFIG_LEVEL, FIELD(log_level), 0, 0, "info", "log-level", "L",
     "least important lines to log"},
    {"daemon", "drain_ms", CONFIG_NUMBER, FIELD(drain_ms), 0, 600000, "3000", NULL, NULL,
     "how long connections may take to send their last bytes when the daemon stops"},

    {"worker", "count", CONFIG_NUMBER, FIELD(workers), 1, SG_WORKERS_MAX, "1", "workers", "N",
     "threads that serve the network, each with the connections that reach it; at most one for each CPU that "
     "applications can spare"},
    {"worker", "cpus", CONFIG_TEXT, FIELD(cpus), 0, 0, "", NULL, NULL,
     "CPUs that the workers run on, one after another, as 0,2-3; empty: wherever the kernel puts them"},
    {"worker", "spin_us", CONFIG_NUMBER, FIELD(spin_us), 0, 1000000, "20", NULL, NULL,
     "how long to look for work, yielding the CPU in between, before sleeping"},
    {"worker", "poll_us", CONFIG_NUMBER, FIELD(poll_us), 1, 1000000, "100", NULL, NULL,
     "longest first sleep with a device that cannot wake the daemon; idle, it grows up to 16 times"},

    {"dpdk", "huge", CONFIG_WHEN, FIELD(dpdk_huge), 0, 0, "auto", NULL, NULL,
     "take the memory of dpdk: devices from huge pages: when enough are free, always, never"},
    {"dpdk", "memory_mb", CONFIG_NUMBER, FIELD(dpdk_memory_mb), 16, 65536, "64", NULL, NULL,
     "memory for the frames and descriptors of dpdk: devices, in MiB"},
    {"dpdk", "descriptors", CONFIG_NUMBER, FIELD(dpdk_descriptors), 0, 16384, "0", NULL, NULL,
     "frames that a queue of a dpdk: device holds each way; 0: as its driver prefers"},
    {"dpdk", "eal", CONFIG_TEXT, FIELD(dpdk_eal), 0, 0, "", NULL, NULL,
     "more arguments for DPDK's environment, with spaces between"},

    {"session", "max", CONFIG_NUMBER, ENGINE(session_max), 1, 4096, "256", NULL, NULL,
     "attached processes at once"},
    {"session", "slots", CONFIG_NUMBER, FIELD(slots), 2, SG_SLOTS_MAX, "65536", NULL, NULL,
     "sockets of one process, plus one"},
    {"session", "heap_bytes", CONFIG_BYTES, FIELD(heap_bytes), 16 * MIB, HEAP_BYTES_MAX, "16G", NULL, NULL,
     "address space for the socket buffers of one process, a multiple of 16M; costs nothing until used"},
    {"session", "buffer_bytes", CONFIG_BYTES, FIELD(buffer_bytes), 64 * KIB, HEAP_BYTES_MAX, "1G", NULL, NULL,
     "socket buffers that one process may hold at once"},
    {"session", "channels", CONFIG_NUMBER, FIELD(channels), 1, SG_CHANNELS_MAX, "1", NULL, NULL,
     "ring sets that one process may have"},
    {"session", "kick_entries", CONFIG_POWER, FIELD(kick_entries), 16, 65536, "4096", NULL, NULL,
     "entries of a kick ring"},
    {"session", "command_entries", CONFIG_POWER, FIELD(cmd_entries), 16, 65536, "256", NULL, NULL,
     "entries of a command ring"},
    {"session", "event_entries", CONFIG_POWER, FIELD(event_entries), 16, 65536, "2048", NULL, NULL,
     "entries of an event ring"},
    {"session", "raw", CONFIG_WORD, FIELD(raw), 0, 0, "root", NULL, NULL,
     "whose processes may make raw sockets", CONFIG_WHO_WORDS},

    {"limits", "connections", CONFIG_NUMBER, ENGINE(conn_max), 1, POOL_MAX, "131072", NULL, NULL,
     "TCP connections"},
    {"limits", "listeners", CONFIG_NUMBER, ENGINE(listen_max), 1, POOL_MAX, "1024", NULL, NULL,
     "TCP listeners"},
    {"limits", "udp_sockets", CONFIG_NUMBER, ENGINE(udp_max), 1, POOL_MAX, "4096", NULL, NULL,
     "UDP sockets"},
    {"limits", "half_open", CONFIG_NUMBER, ENGINE(req_max), 1, POOL_MAX, "16384", NULL, NULL,
     "connections whose handshake is under way"},
    {"limits", "orphans", CONFIG_NUMBER, ENGINE(orphan_max), 0, POOL_MAX, "16384", NULL, NULL,
     "closed connections that still send; one more is reset"},
    {"limits", "orphan_bytes", CONFIG_BYTES, ENGINE(orphan_bytes_max), 0, HEAP_BYTES_MAX, "256M", NULL, NULL,
     "bytes that closed connections may still have to send, all together"},
    {"limits", "time_wait", CONFIG_NUMBER, ENGINE(tw_max), 1, POOL_MAX, "131072", NULL, NULL,
     "connections in TIME_WAIT; the oldest goes when they are all used"},
    {"limits", "neighbors", CONFIG_NUMBER, ENGINE(neigh_max), 1, POOL_MAX, "1024", NULL, NULL,
     "hosts on the link whose hardware address is known"},
    {"limits", "ranges", CONFIG_NUMBER, ENGINE(range_max), 1, POOL_MAX, "65536", NULL, NULL,
     "out-of-order ranges of all connections together"},
    {"limits", "segments", CONFIG_NUMBER, ENGINE(txseg_max), 1, POOL_MAX, "262144", NULL, NULL,
     "segments in flight of all connections together"},
    {"limits", "flights", CONFIG_NUMBER, ENGINE(flight_max), 1, POOL_MAX, "65536", NULL, NULL,
     "connections that have data in flight at once"},
    {"limits", "paced", CONFIG_NUMBER, ENGINE(path_max), 1, POOL_MAX, "16384", NULL, NULL,
     "connections with bbr or a pacing rate at once; bbr gives way to cubic beyond"},
    {"limits", "holes", CONFIG_NUMBER, ENGINE(reasm_max), 1, POOL_MAX, "32768", NULL, NULL,
     "connections that have out-of-order data at once"},
    {"limits", "reassemblies", CONFIG_NUMBER, ENGINE(frag_max), 1, 65536, "16", NULL, NULL,
     "IP datagrams being put together from fragments"},
    {"limits", "tx_frames", CONFIG_POWER, ENGINE(pkt_max), 8, 1 << 20, "512", NULL, NULL,
     "frames that wait for the device"},

    {"ip", "ttl", CONFIG_NUMBER, ENGINE(ttl), 1, 255, "64", NULL, NULL,
     "time to live of packets sent"},
    {"ip", "port_min", CONFIG_NUMBER, ENGINE(port_min), 1, 65535, "32768", NULL, NULL,
     "lowest port that is chosen for a socket which names none"},
    {"ip", "port_max", CONFIG_NUMBER, ENGINE(port_max), 1, 65535, "60999", NULL, NULL,
     "highest such port"},
    {"ip", "icmp_rate", CONFIG_NUMBER, ENGINE(icmp_rate), 0, 1000000, "1000", NULL, NULL,
     "ICMP errors sent in a second"},
    {"ip", "path_mtu_expires_s", CONFIG_NUMBER, ENGINE(pmtu_expires_s), 60, SECONDS_MAX, "600", NULL, NULL,
     "how long a path is believed to take smaller packets only, before larger ones are tried again"},

    {"tcp", "receive_buffer_bytes", CONFIG_LOG2, ENGINE(rcvbuf_log2), 4 * KIB, 16 * MIB, "64K", NULL, NULL,
     "receive window of a new connection"},
    {"tcp", "receive_buffer_max_bytes", CONFIG_LOG2, ENGINE(rcvbuf_max_log2), 4 * KIB, 16 * MIB, "16M",
     NULL, NULL,
     "to which it grows by itself; no more than receive_buffer_bytes: not at all"},
    {"tcp", "send_buffer_bytes", CONFIG_LOG2, ENGINE(sndbuf_log2), 4 * KIB, 16 * MIB, "64K", NULL, NULL,
     "send buffer of a new connection"},
    {"tcp", "send_buffer_max_bytes", CONFIG_LOG2, ENGINE(sndbuf_max_log2), 4 * KIB, 16 * MIB, "16M",
     NULL, NULL,
     "to which it grows by itself; no more than send_buffer_bytes: not at all"},
    {"tcp", "rto_min_us", CONFIG_NUMBER, ENGINE(rto_min_us), 1000, TIMER_US_MAX, "200000", NULL, NULL,
     "shortest retransmission time-out"},
    {"tcp", "rto_max_us", CONFIG_NUMBER, ENGINE(rto_max_us), 1000, TIMER_US_MAX, "120000000", NULL, NULL,
     "longest retransmission time-out"},
    {"tcp", "rto_initial_us", CONFIG_NUMBER, ENGINE(rto_initial_us), 1000, TIMER_US_MAX, "1000000",
     NULL, NULL,
     "retransmission time-out before the round trip has been measured"},
    {"tcp", "timestamps", CONFIG_WORD, ENGINE(timestamps), 0, 0, "on", NULL, NULL,
     "whether connections use the timestamps option", "off on"},
    {"tcp", "congestion", CONFIG_WORD, ENGINE(congestion), 0, 0, "cubic", NULL, NULL,
     "congestion control of sockets that don't choose their own", ENGINE_CONGESTION_WORDS},
    {"tcp", "bbr_loss_percent", CONFIG_NUMBER, ENGINE(bbr_loss_percent), 1, 50, "2", NULL, NULL,
     "loss that BBR takes for a property of the path; more is congestion"},
    {"tcp", "idle_restart", CONFIG_WORD, ENGINE(idle_restart), 0, 0, "on", NULL, NULL,
     "whether the congestion window shrinks while a connection sends nothing", "off on"},
    {"tcp", "cut_through", CONFIG_WORD, ENGINE(cut_through), 0, 0, "on", NULL, NULL,
     "whether data between two sockets of this daemon passes without segments", "off on"},
    {"tcp", "delack_us", CONFIG_NUMBER, ENGINE(delack_us), 0, 500000, "40000", NULL, NULL,
     "how long an acknowledgement may wait for data to ride on"},
    {"tcp", "time_wait_us", CONFIG_NUMBER, ENGINE(time_wait_us), 0, TIMER_US_MAX, "60000000", NULL, NULL,
     "time in TIME_WAIT"},
    {"tcp", "fin_wait2_us", CONFIG_NUMBER, ENGINE(fin_wait2_us), 0, TIMER_US_MAX, "60000000", NULL, NULL,
     "how long a closed socket waits for the peer's FIN"},
    {"tcp", "orphan_us", CONFIG_NUMBER, ENGINE(orphan_us), 0, TIMER_US_MAX, "60000000", NULL, NULL,
     "longest life of a closed socket that still has data to send"},
    {"tcp", "keepalive_idle_s", CONFIG_NUMBER, ENGINE(keepalive_idle_s), 1, SECONDS_MAX, "7200", NULL, NULL,
     "idle time before the first keep-alive probe (sockets that ask for it)"},
    {"tcp", "keepalive_interval_s", CONFIG_NUMBER, ENGINE(keepalive_intvl_s), 1, SECONDS_MAX, "75",
     NULL, NULL,
     "time between keep-alive probes"},
    {"tcp", "keepalive_probes", CONFIG_NUMBER, ENGINE(keepalive_probes), 1, 127, "9", NULL, NULL,
     "unanswered probes that end a connection"},
    {"tcp", "syn_retries", CONFIG_NUMBER, ENGINE(syn_retries), 1, 127, "7", NULL, NULL,
     "times a SYN is sent again"},
    {"tcp", "synack_retries", CONFIG_NUMBER, ENGINE(synack_retries), 1, 127, "5", NULL, NULL,
     "times a SYN-ACK is sent again"},
    {"tcp", "data_retries", CONFIG_NUMBER, ENGINE(data_retries), 1, 127, "15", NULL, NULL,
     "time-outs in a row that end a connection"},
    {"tcp", "orphan_retries", CONFIG_NUMBER, ENGINE(orphan_retries), 1, 127, "8", NULL, NULL,
     "the same for a closed socket"},
    {"tcp", "challenge_ack_rate", CONFIG_NUMBER, ENGINE(challenge_ack_rate), 0, 1000000, "1000", NULL, NULL,
     "challenge acknowledgements sent in a second"},
    {"tcp", "tw_reuse", CONFIG_WHEN, ENGINE(tw_reuse), 0, 0, "auto", NULL, NULL,
     "connect from the port of a connection in TIME_WAIT: when no other is free, always, never"},
    {"tcp", "ecn", CONFIG_WORD, ENGINE(ecn), 0, 0, "accept", NULL, NULL,
     "explicit congestion notification: not at all, asked for, or only agreed to when peers ask",
     "off on accept"},
    {"tcp", "fastopen_key", CONFIG_KEYS, ENGINE(fastopen_keys), 0, 0, "", NULL, NULL,
     "key of Fast Open cookies, and an older one that is good too; empty: from the stored secret"},
    {"tcp", "fastopen_no_cookie", CONFIG_WORD, ENGINE(fastopen_no_cookie), 0, 0, "off", NULL, NULL,
     "who does without cookies in Fast Open, in closed networks", ENGINE_FO_NO_COOKIE_WORDS},
    {"tcp", "mtu_probing", CONFIG_WHEN, ENGINE(mtu_probing), 0, 0, "auto", NULL, NULL,
     "find out what a path carries without ICMP: when long packets vanish, always, never"},
    {"tcp", "mss_clamp", CONFIG_NUMBER, ENGINE(mss_clamp), 0, 65495, "0", NULL, NULL,
     "largest segment to offer and to send, options not counted, 88 or more; 0: what the interface takes"},
    {"tcp", "syncookies", CONFIG_WHEN, ENGINE(syncookies), 0, 0, "auto", NULL, NULL,
     "answer connection requests with SYN cookies: when there is no room for them, always, never"},
};
/* clang-format on */

const size_t config_key_count = ARRAY_LEN(config_keys);

int config_fail(char *error, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(error, CONFIG_ERROR_MAX, format, ap);
    va_end(ap);
    return -EINVAL;
}

const struct config_key *config_find(const char *section, const char *name)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (!strcmp(config_keys[i].section, section) && !strcmp(config_keys[i].name, name))
            return &config_keys[i];
    return NULL;
}

static bool is_power(uint64_t v)
{
    return v && !(v & (v - 1));
}

bool config_parse_digits(const char *text, unsigned base, uint64_t *ret, const char **end)
{
    uint64_t v = 0;
    const char *p = text;

    for (; *p >= '0' && *p < (char)('0' + base); p++) {
        if (v > (UINT64_MAX - 9) / base)
            return false;
        v = v * base + (uint64_t)(*p - '0');
    }
    *ret = v;
    *end = p;
    return p != text;
}

bool config_parse_bytes(const char *text, uint64_t *ret)
{
    const char *end;
    uint64_t v, unit = 1;

    if (!config_parse_digits(text, 10, &v, &end))
        return false;
    if (*end) {
        unit = *end == 'K' ? KIB : *end == 'M' ? MIB : *end == 'G' ? GIB : 0;
        end++;
    }
    if (!unit || *end || v > UINT64_MAX / unit)
        return false;
    *ret = v * unit;
    return true;
}

/* "16G" for 16 GiB: the form in which byte counts are written. */
static void bytes_text(uint64_t v, char *buf, size_t bytes)
{
    static const char units[] = {'K', 'M', 'G'};
    int unit = -1;

    while (unit < 2 && v >= KIB && v % KIB == 0) {
        v /= KIB;
        unit++;
    }
    if (unit < 0)
        (void)snprintf(buf, bytes, "%llu", (unsigned long long)v);
    else
        (void)snprintf(buf, bytes, "%llu%c", (unsigned long long)v, units[unit]);
}

void config_allowed(const struct config_key *key, char *buf, size_t bytes)
{
    char low[24], high[24];

    bytes_text(key->min, low, sizeof(low));
    bytes_text(key->max, high, sizeof(high));
    switch (key->type) {
    case CONFIG_TEXT:
        (void)snprintf(buf, bytes, "%sat most %u characters", key->min ? "not empty, " : "",
                       CONFIG_TEXT_MAX - 1);
        break;
    case CONFIG_NUMBER:
        (void)snprintf(buf, bytes, "a number from %llu to %llu", (unsigned long long)key->min,
                       (unsigned long long)key->max);
        break;
    case CONFIG_POWER:
        (void)snprintf(buf, bytes, "a power of two from %llu to %llu", (unsigned long long)key->min,
                       (unsigned long long)key->max);
        break;
    case CONFIG_BYTES:
        (void)snprintf(buf, bytes, "bytes from %s to %s, with K, M or G", low, high);
        break;
    case CONFIG_LOG2:
        (void)snprintf(buf, bytes, "bytes from %s to %s, a power of two", low, high);
        break;
    case CONFIG_OCTAL:
        (void)snprintf(buf, bytes, "octal permission bits such as 0660");
        break;
    case CONFIG_LEVEL:
        (void)snprintf(buf, bytes, "error, warning, info or debug");
        break;
    case CONFIG_WHEN:
        (void)snprintf(buf, bytes, "auto, always or never");
        break;
    case CONFIG_BOOL:
        (void)snprintf(buf, bytes, "yes or no");
        break;
    case CONFIG_DEVICES:
        (void)snprintf(
            buf, bytes,
            "KIND:NAME, then any of: name WORD, mtu BYTES, mac ADDRESS, accept_ra yes|no; for dpdk: "
            "kernel_tap NAME");
        break;
    case CONFIG_NETWORKS:
        (void)snprintf(
            buf, bytes,
            "at most %u addresses such as 192.0.2.1/24, 2001:db8::1/64, 192.0.2.1/24 dev sg0 vlan 5; dhcp",
            ENGINE_ADDR_MAX);
        break;
    case CONFIG_GATEWAYS:
        (void)snprintf(buf, bytes, "addresses such as 192.0.2.254 or fe80::1, or nothing");
        break;
    case CONFIG_ROUTES:
        (void)snprintf(buf, bytes, "routes such as 198.51.100.0/24 via 192.0.2.254, or nothing");
        break;
    case CONFIG_WORD:
        (void)snprintf(buf, bytes, "one of: %s", key->words);
        break;
    case CONFIG_KEYS:
        (void)snprintf(buf, bytes, "KEY or KEY,KEY, each as 8-8-8-8 hexadecimal digits, or nothing");
        break;
    case CONFIG_MAC:
        (void)snprintf(buf, bytes, "a unicast hardware address such as 02:00:00:00:00:01, or nothing");
        break;
    }
}

static void store_number(struct config *cfg, const struct config_key *key, uint64_t v)
{
    void *field = (char *)cfg + key->offset;

    switch (key->size) {
    case 1:
        *(uint8_t *)field = (uint8_t)v;
        break;
    case 2:
        *(uint16_t *)field = (uint16_t)v;
        break;
    case 4:
        *(uint32_t *)field = (uint32_t)v;
        break;
    default:
        assert(key->size == 8);
        *(uint64_t *)field = v;
    }
}

static bool parse_number(const struct config_key *key, const char *value, uint64_t *ret)
{
    const char *end = value;
    uint64_t v;

    if (key->type == CONFIG_BYTES || key->type == CONFIG_LOG2) {
        if (!config_parse_bytes(value, &v))
            return false;
    } else if (!config_parse_digits(value, key->type == CONFIG_OCTAL ? 8 : 10, &v, &end) || *end) {
        return false;
    }
    if (v < key->min || v > key->max)
        return false;
    if ((key->type == CONFIG_POWER || key->type == CONFIG_LOG2) && !is_power(v))
        return false;
    *ret = key->type == CONFIG_LOG2 ? (uint64_t)__builtin_ctzll(v) : v;
    return true;
}

static bool parse_word(const char *words, const char *value, uint64_t *ret)
{
    size_t bytes = strlen(value);

    for (*ret = 0; *words; (*ret)++) {
        size_t len = strcspn(words, " ");

        if (len == bytes && !memcmp(words, value, len))
            return true;
        words += len + (words[len] == ' ');
    }
    return false;
}

bool config_is_list(const struct config_key *key)
{
    return key->type == CONFIG_DEVICES || key->type == CONFIG_NETWORKS || key->type == CONFIG_GATEWAYS ||
           key->type == CONFIG_ROUTES;
}

static bool parse_when(const char *value, uint64_t *ret)
{
    static const char *const words[] = {
        [ENGINE_AUTO] = "auto", [ENGINE_ALWAYS] = "always", [ENGINE_NEVER] = "never"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (!strcmp(value, words[i])) {
            *ret = i;
            return true;
        }
    return false;
}

static bool set_value(struct config *cfg, const struct config_key *key, const char *value)
{
    char *field = (char *)cfg + key->offset;
    uint64_t v;
    int level;

    switch (key->type) {
    case CONFIG_TEXT:
        if (strlen(value) >= key->size || strlen(value) < key->min)
            return false;
        memset(field, 0, key->size);
        memcpy(field, value, strlen(value));
        return true;
    case CONFIG_NUMBER:
    case CONFIG_POWER:
    case CONFIG_BYTES:
    case CONFIG_LOG2:
    case CONFIG_OCTAL:
        if (!parse_number(key, value, &v))
            return false;
        store_number(cfg, key, v);
        return true;
    case CONFIG_LEVEL:
        level = log_level_parse(value);
        if (level < 0)
            return false;
        cfg->log_level = (enum log_level)level;
        return true;
    case CONFIG_WHEN:
        if (!parse_when(value, &v))
            return false;
        store_number(cfg, key, v);
        return true;
    case CONFIG_BOOL:
        if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
            return false;
        *(bool *)field = !strcmp(value, "yes");
        return true;
    case CONFIG_WORD:
        if (!parse_word(key->words, value, &v))
            return false;
        store_number(cfg, key, v);
        return true;
    case CONFIG_DEVICES:
    case CONFIG_NETWORKS:
    case CONFIG_GATEWAYS:
    case CONFIG_ROUTES:
        return config_list_add(cfg, key, value, true);
    case CONFIG_KEYS:
        return config_parse_keys(value, &cfg->engine.fastopen_keys);
    case CONFIG_MAC:
        cfg->mac_set = *value != '\0';
        return !*value || config_parse_mac(value, cfg->mac);
    }
    return false;
}

static int refuse(const struct config_key *key, const char *value, char *error)
{
    char allowed[160];

    config_allowed(key, allowed, sizeof(allowed));
    return config_fail(error, "%s.%s: \"%.100s\" is not allowed; it must be %s", key->section, key->name,
                       value, allowed);
}

int config_set(struct config *cfg, const struct config_key *key, const char *value, char *error)
{
    return set_value(cfg, key, value) ? 0 : refuse(key, value, error);
}

int config_add(struct config *cfg, const struct config_key *key, const char *value, char *error)
{
    return config_list_add(cfg, key, value, false) ? 0 : refuse(key, value, error);
}

void config_init(struct config *cfg)
{
    memset(cfg, 0, sizeof(*cfg));
    engine_config_default(&cfg->engine);
    for (size_t i = 0; i < config_key_count; i++) {
        bool ok = set_value(cfg, &config_keys[i], config_keys[i].fallback);

        assert(ok); /* The table is ours. */
        (void)ok;
    }
}

/* ---- The file --------------------------------------------------------------------------------- */

struct reader {
    struct config *cfg;
    FILE *f;
    const char *name;
    char *error;
    unsigned line;      /* of the text last read */
    bool failed;        /* `error` is set; nothing after it counts */
    unsigned *set_line; /* for each key: the line that set it, 0: none */
};

static void reader_fail(struct reader *r, const char *text)
{
    if (!r->failed)
        (void)config_fail(r->error, "%s:%u: %s", r->name, r->line, text);
    r->failed = true;
}

/* libinih asks for lines here, which is how the number of the line at hand is known. */
static char *reader_line(char *buf, int bytes, void *stream)
{
    struct reader *r = stream;
    char *text, *end;

    if (r->failed)
        return NULL;
    text = fgets(buf, bytes, r->f);
    if (!text)
        return NULL;
    r->line++;
    end = text + strlen(text);
    if (end[0] == '\0' && (end == text || end[-1] != '\n') && !feof(r->f)) {
        reader_fail(r, "the line is too long, or holds a zero byte; at most 199 characters are allowed");
        return NULL;
    }
    /* A leading space would make it the continuation of the line before, which is no form of ours. */
    while (*text == ' ' || *text == '\t')
        text++;
    memmove(buf, text, strlen(text) + 1);
    return buf;
}

static void list_names(char *buf, size_t bytes, const char *section)
{
    const char *last = "";
    size_t at = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < config_key_count && at < bytes; i++) {
        const char *name = section ? config_keys[i].name : config_keys[i].section;

        if ((section && strcmp(config_keys[i].section, section) != 0) || !strcmp(last, name))
            continue;
        at += (size_t)snprintf(buf + at, bytes - at, "%s%s", at ? ", " : "", name);
        last = name;
    }
}

static int reader_setting(void *user, const char *section, const char *name, const char *value)
{
    struct reader *r = user;
    const struct config_key *key = config_find(section, name);
    char text[CONFIG_ERROR_MAX], names[300], message[CONFIG_ERROR_MAX];
    int (*set)(struct config *, const struct config_key *, const char *, char *);

    if (r->failed)
        return 0;
    if (!key) {
        list_names(names, sizeof(names), section);
        if (names[0]) {
            (void)snprintf(text, sizeof(text), "[%s] has no setting \"%.50s\"; it has %s", section, name,
                           names);
        } else {
            list_names(names, sizeof(names), NULL);
            (void)snprintf(text, sizeof(text),
                           "\"%.50s\" stands in no known section (\"%.50s\"); sections are %s", name, section,
                           names);
        }
        reader_fail(r, text);
        return 0;
    }
    if (r->set_line[key - config_keys] && !config_is_list(key)) {
        (void)snprintf(text, sizeof(text), "%s.%s was already set in line %u; keep one of the two", section,
                       name, r->set_line[key - config_keys]);
        reader_fail(r, text);
        return 0;
    }
    set = r->set_line[key - config_keys] ? config_add : config_set;
    r->set_line[key - config_keys] = r->line;
    if (set(r->cfg, key, value, message)) {
        reader_fail(r, message);
        return 0;
    }
    return 1;
}

int config_read(struct config *cfg, FILE *f, const char *name, char *error)
{
    unsigned set_line[ARRAY_LEN(config_keys)] = {0};
    struct reader r = {.cfg = cfg, .f = f, .name = name, .error = error, .set_line = set_line};
    int bad_line = ini_parse_stream(reader_line, &r, reader_setting, &r);

    if (ferror(f))
        return config_fail(error, "%s: can't be read: %s", name, strerror(errno));
    if (bad_line > 0 && (!r.failed || (unsigned)bad_line < r.line)) {
        /* libinih found a line that is no setting, before anything that the handler refused. */
        r.failed = false;
        r.line = (unsigned)bad_line;
        reader_fail(&r, "neither [section], nor key = value, nor a comment (# or ;)");
    } else if (bad_line < 0) {
        return config_fail(error, "%s: %s", name, "out of memory");
    }
    return r.failed ? -EINVAL : 0;
}

/* ---- Settings against each other ------------------------------------------------------------------ */

/* One item of a list of CPUs, "3" or "2-5", up to a comma or the end; moves *at behind it. */
static bool cpu_range(const char **at, uint64_t *first, uint64_t *last)
{
    if (!config_parse_digits(*at, 10, first, at))
        return false;
    *last = *first;
    if (**at == '-' && !config_parse_digits(*at + 1, 10, last, at))
        return false;
    return (!**at || **at == ',') && *first <= *last && *last < CONFIG_CPUS_MAX;
}

int config_cpu(const char *list, unsigned index)
{
    uint64_t first, last, total = 0;
    const char *at = list;
    bool more = list[0];

    if (!more)
        return -1;
    while (more) {
        if (!cpu_range(&at, &first, &last))
            return -1;
        if (index < total + (last - first + 1))
            return (int)(first + (index - total));
        total += last - first + 1;
        more = *at++ == ',';
    }
    return config_cpu(list, (unsigned)(index % total)); /* Shorter than `index`: found next time. */
}

int config_check(const struct config *cfg, char *error)
{
    const struct engine_config *e = &cfg->engine;

    if (cfg->mtu && cfg->mtu < ENGINE_MTU_MIN)
        return config_fail(error, "network.mtu: %u is below %u; use 0 for the device's own, or %u to 65535",
                           cfg->mtu, ENGINE_MTU_MIN, ENGINE_MTU_MIN);
    if (cfg->control_path[0] != '/' && cfg->control_path[0] != '.')
        return config_fail(error, "control.path: \"%s\" is no path; start it with /", cfg->control_path);
    if (cfg->heap_bytes % (UINT64_C(1) << SG_REGION_LOG2_MAX))
        return config_fail(error, "session.heap_bytes: must be a multiple of 16M");
    if (cfg->buffer_bytes > cfg->heap_bytes)
        return config_fail(error, "session.buffer_bytes: must not be larger than session.heap_bytes");
    if (cfg->heap_bytes * cfg->workers > HEAP_BYTES_MAX)
        return config_fail(error,
                           "session.heap_bytes: more than 1T for the %u workers (worker.count) together",
                           cfg->workers);
    if (cfg->cpus[0] && config_cpu(cfg->cpus, 0) < 0)
        return config_fail(error, "worker.cpus: \"%s\" is no list of CPUs like 0,2-3 (0 to %d)", cfg->cpus,
                           CONFIG_CPUS_MAX - 1);
    if (e->port_min > e->port_max)
        return config_fail(error, "ip.port_min: %u is above ip.port_max (%u)", e->port_min, e->port_max);
    if (e->mss_clamp && e->mss_clamp < 88)
        return config_fail(error, "tcp.mss_clamp: %u is below 88; use 0 for none", e->mss_clamp);
    if (e->rto_min_us > e->rto_initial_us || e->rto_initial_us > e->rto_max_us)
        return config_fail(error, "tcp.rto_initial_us: must lie between tcp.rto_min_us and tcp.rto_max_us");
    return config_check_network(cfg, error);
}

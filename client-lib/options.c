/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modes and options. A profile's (level, name) becomes one of ours; time-outs, callbacks and the type stay in
 * the library, everything else goes to the daemon in Linux's numbers.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/time.h>

#include "client-lib/lib.h"
#include "proto/abi/info.h"

#define LINUX_SOL_IP     0
#define LINUX_SOL_SOCKET 1
#define LINUX_SOL_TCP    6
#define LINUX_SOL_UDP    17
#define LINUX_SOL_IPV6   41
#define LINUX_SOL_ICMPV6 58
#define LINUX_SOL_RAW    255

/* Not an option of Linux: MicroPython's callback. */
#define OPT_CALLBACK     (-1)

/* Time-outs beyond ten years are "for ever" to people, and would overflow nanoseconds. */
#define TIMEOUT_MS_MAX   INT64_C(315576000000)

/* Most bytes of a name that are given, its final zero included: Linux's TCP_CA_NAME_MAX. */
#define NAME_BYTES       16u

/* Pictures of TCP_INFO that other threads may take away before it is an error. */
#define INFO_TRIES       100

#define ANY_LEVEL        (-1)

/* The option numbers of the device spaces. Linux's own, and SC_SOL_*, need no table. */
static const struct {
    uint8_t space; /* sc_profile.opt_space */
    int level;     /* ANY_LEVEL: whatever the caller gives */
    int name;
    int linux_level;
    int linux_name;
} device_opts[] = {
    {OPT_ESP32, ANY_LEVEL, 20, LINUX_SOL_SOCKET, OPT_CALLBACK},
    {OPT_ESP32, 4095, 4, LINUX_SOL_SOCKET, SC_SO_REUSEADDR},
    {OPT_ESP32, 4095, 8, LINUX_SOL_SOCKET, SC_SO_KEEPALIVE},
    {OPT_ESP32, 4095, 32, LINUX_SOL_SOCKET, SC_SO_BROADCAST},
    {OPT_ESP32, 4095, 128, LINUX_SOL_SOCKET, SC_SO_LINGER},
    {OPT_ESP32, 4095, 0x1001, LINUX_SOL_SOCKET, SC_SO_SNDBUF},
    {OPT_ESP32, 4095, 0x1002, LINUX_SOL_SOCKET, SC_SO_RCVBUF},
    {OPT_ESP32, 4095, 0x1005, LINUX_SOL_SOCKET, SC_SO_SNDTIMEO},
    {OPT_ESP32, 4095, 0x1006, LINUX_SOL_SOCKET, SC_SO_RCVTIMEO},
    {OPT_ESP32, 4095, 0x1007, LINUX_SOL_SOCKET, SC_SO_ERROR},
    {OPT_ESP32, 4095, 0x1008, LINUX_SOL_SOCKET, SC_SO_TYPE},
    {OPT_ESP32, 0, 3, LINUX_SOL_IP, SC_IP_ADD_MEMBERSHIP},
    {OPT_ESP32, 0, 4, LINUX_SOL_IP, SC_IP_DROP_MEMBERSHIP},
    {OPT_ESP32, 6, 1, LINUX_SOL_TCP, SC_TCP_NODELAY},
    {OPT_ESP32, 6, 3, LINUX_SOL_TCP, SC_TCP_KEEPIDLE},
    {OPT_ESP32, 6, 4, LINUX_SOL_TCP, SC_TCP_KEEPINTVL},
    {OPT_ESP32, 6, 5, LINUX_SOL_TCP, SC_TCP_KEEPCNT},
    {OPT_LWIP, ANY_LEVEL, 4, LINUX_SOL_SOCKET, SC_SO_REUSEADDR},
    {OPT_LWIP, ANY_LEVEL, 20, LINUX_SOL_SOCKET, OPT_CALLBACK},
    {OPT_LWIP, ANY_LEVEL, 32, LINUX_SOL_SOCKET, SC_SO_BROADCAST},
    {OPT_LWIP, ANY_LEVEL, 0x400, LINUX_SOL_IP, SC_IP_ADD_MEMBERSHIP},
    {OPT_LWIP, ANY_LEVEL, 0x401, LINUX_SOL_IP, SC_IP_DROP_MEMBERSHIP},
    {OPT_LWIP, ANY_LEVEL, 64, LINUX_SOL_TCP, SC_TCP_NODELAY},
    {OPT_ZERYNTH, 65535, 1, LINUX_SOL_SOCKET, SC_SO_RCVTIMEO},
    {OPT_ZERYNTH, 65535, 4, LINUX_SOL_SOCKET, SC_SO_REUSEADDR},
    {OPT_ZERYNTH, 65535, 8, LINUX_SOL_SOCKET, SC_SO_KEEPALIVE},
    {OPT_ZERYNTH, 6, 3, LINUX_SOL_TCP, SC_TCP_KEEPIDLE},
    {OPT_ZERYNTH, 6, 4, LINUX_SOL_TCP, SC_TCP_KEEPINTVL},
    {OPT_ZERYNTH, 6, 5, LINUX_SOL_TCP, SC_TCP_KEEPCNT},
};

/* The levels that every profile accepts. */
static const struct {
    int own, linux_level;
} levels[] = {
    {SC_SOL_IP, LINUX_SOL_IP},         {SC_SOL_SOCKET, LINUX_SOL_SOCKET}, {SC_SOL_TCP, LINUX_SOL_TCP},
    {SC_SOL_UDP, LINUX_SOL_UDP},       {SC_SOL_IPV6, LINUX_SOL_IPV6},     {SC_SOL_RAW, LINUX_SOL_RAW},
    {SC_SOL_ICMPV6, LINUX_SOL_ICMPV6},
};

/* A caller's option in Linux's numbers; false: the profile has no such option. */
static bool translate(const sc_profile *p, int *level, int *name)
{
    for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (*level == levels[i].own) {
            *level = levels[i].linux_level;
            return true;
        }
    }
    if (p->opt_space == OPT_LINUX) /* The daemon knows which there are. */
        return true;
    for (unsigned i = 0; i < sizeof(device_opts) / sizeof(device_opts[0]); i++) {
        if (device_opts[i].space != p->opt_space || device_opts[i].name != *name)
            continue;
        if (device_opts[i].level != ANY_LEVEL && device_opts[i].level != *level)
            continue;
        *level = device_opts[i].linux_level;
        *name = device_opts[i].linux_name;
        return true;
    }
    return false;
}

/* ---- Time-outs ----------------------------------------------------------------------------------- */

static void timeout_store(int64_t *at, int64_t ms)
{
    __atomic_store_n(at, ms > TIMEOUT_MS_MAX ? -1 : ms, __ATOMIC_RELAXED);
}

int sc_settimeout_ms(sc_sock *s, int64_t ms)
{
    if (!s || ms < -1)
        return -EINVAL;
    if (sc__lib_foreign(s->lib) || __atomic_load_n(&s->closed, __ATOMIC_ACQUIRE))
        return -EBADF;
    timeout_store(&s->rcv_ms, ms);
    timeout_store(&s->snd_ms, ms);
    return 0;
}

int sc_settimeout(sc_sock *s, double value)
{
    if (!s || isnan(value) || value < 0)
        return -EINVAL;
    if (isinf(value))
        return sc_settimeout_ms(s, -1);
    if (sc__profile(s)->timeout_unit == SC_UNIT_SEC_FLOAT)
        value *= 1000;
    if (value > (double)TIMEOUT_MS_MAX)
        return sc_settimeout_ms(s, -1);
    return sc_settimeout_ms(s, (int64_t)value + (value > (double)(int64_t)value)); /* rounded up */
}

int sc_setblocking(sc_sock *s, int flag)
{
    return sc_settimeout_ms(s, flag ? -1 : 0);
}

int64_t sc_gettimeout_ms(const sc_sock *s)
{
    if (!s)
        return -EINVAL;
    if (sc__lib_foreign(s->lib) || __atomic_load_n(&s->closed, __ATOMIC_ACQUIRE))
        return -EBADF;
    return __atomic_load_n(&s->rcv_ms, __ATOMIC_RELAXED);
}

/* ---- Values -------------------------------------------------------------------------------------- */

static int int_read(const void *val, size_t len, int64_t *ret)
{
    int32_t narrow;

    if (len == sizeof(*ret)) {
        memcpy(ret, val, sizeof(*ret));
        return 0;
    }
    if (len != sizeof(narrow))
        return -EINVAL;
    memcpy(&narrow, val, sizeof(narrow));
    *ret = narrow;
    return 0;
}

static int int_write(int64_t value, void *val, size_t *len)
{
    int32_t narrow = value > INT32_MAX ? INT32_MAX : (int32_t)value;

    if (*len < sizeof(narrow))
        return -EINVAL;
    memcpy(val, &narrow, sizeof(narrow));
    *len = sizeof(narrow);
    return 0;
}

/* SO_RCVTIMEO and SO_SNDTIMEO: 0 is "for ever", unlike with settimeout(). */
static int timeout_set(int64_t *at, const void *val, size_t len)
{
    struct timeval tv;
    int64_t ms;

    if (len == sizeof(tv)) {
        memcpy(&tv, val, sizeof(tv));
        if (tv.tv_sec < 0 || tv.tv_usec < 0 || tv.tv_usec >= 1000000)
            return -EINVAL;
        ms = tv.tv_sec > TIMEOUT_MS_MAX / 1000 ? 0 : (int64_t)tv.tv_sec * 1000 + (tv.tv_usec + 999) / 1000;
    } else if (int_read(val, len, &ms) || ms < 0) {
        return -EINVAL;
    }
    timeout_store(at, ms ? ms : -1);
    return 0;
}

static int timeout_get(int64_t ms, void *val, size_t *len)
{
    struct timeval tv = {0};

    if (*len < sizeof(tv))
        return int_write(ms < 0 ? 0 : ms, val, len);
    if (ms > 0) {
        tv.tv_sec = (time_t)(ms / 1000);
        tv.tv_usec = (suseconds_t)(ms % 1000 * 1000);
    }
    memcpy(val, &tv, sizeof(tv));
    *len = sizeof(tv);
    return 0;
}

static int callback_set(sc_sock *s, const void *val, size_t len)
{
    struct sc_event_handler h = {0};

    if (len && len != sizeof(h))
        return -EINVAL;
    if (len)
        memcpy(&h, val, sizeof(h));
    return sc_on_event(s, h.cb, h.arg);
}

/* A name of at most eight bytes in a number, the first lowest; what the daemon can't know is unknown. */
static int name_read(const char *val, size_t len, uint64_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < len && val[i]; i++) {
        if (i == sizeof(*ret))
            return -ENOENT;
        *ret |= (uint64_t)(uint8_t)val[i] << 8 * i;
    }
    return *ret ? 0 : -EINVAL;
}

/* As much of it as there is room for, zeros behind it. */
static int name_write(uint64_t value, char *val, size_t *len)
{
    if (*len > NAME_BYTES)
        *len = NAME_BYTES;
    for (size_t i = 0; i < *len; i++)
        val[i] = i < sizeof(value) ? (char)(value >> 8 * i) : '\0';
    return 0;
}

/* The value of an option as the command carries it. */
static int value_read(int level, int name, const void *val, size_t len, uint64_t *ret)
{
    struct sc_linger linger;
    int64_t n;

    if (level == LINUX_SOL_SOCKET && name == SC_SO_LINGER) {
        if (len != sizeof(linger))
            return -EINVAL;
        memcpy(&linger, val, sizeof(linger));
        if (linger.linger < 0)
            return -EINVAL;
        *ret = (uint64_t)(uint32_t)linger.linger << 32 | (linger.onoff != 0);
        return 0;
    }
    if (level == LINUX_SOL_TCP && name == SC_TCP_CONGESTION)
        return name_read(val, len, ret);
    if (int_read(val, len, &n) || n < INT32_MIN || n > INT32_MAX)
        return -EINVAL;
    *ret = (uint64_t)n; /* -1 as the daemon takes it: "the default again" where there is such a thing */
    return 0;
}

/* ---- Set and get --------------------------------------------------------------------------------- */

/* How long the last close waits; with 0 seconds it resets, which the daemon sees to. */
static void linger_note(struct desc *d, uint64_t value)
{
    uint64_t seconds = (uint32_t)value ? value >> 32 : 0;

    d->linger_s = seconds > UINT16_MAX ? UINT16_MAX : (uint16_t)seconds;
}

static int daemon_set(sc_sock *s, int level, int name, uint64_t value)
{
    struct sg_cmd cmd = {
        .op = SG_CMD_SETOPT, .arg0 = (uint32_t)level, .arg1 = (uint32_t)name, .value = value};
    struct op op;
    int rc = sc__op_begin(&op, s, 0, true);

    if (rc)
        return rc;
    rc = sc__op_command(&op, &cmd, NULL);
    if (rc >= 0)
        sc__listen_option(op.d, &cmd);
    if (rc >= 0 && level == LINUX_SOL_SOCKET && name == SC_SO_LINGER)
        linger_note(op.d, value);
    return sc__op_end(&op, rc < 0 ? rc : 0);
}

/* Values of up to 32 bytes, in the fields of a command that have room for them. */
static int wide_set(sc_sock *s, struct sg_cmd *cmd, const void *val, size_t len)
{
    uint8_t bytes[32] = {0};
    struct op op;
    int rc;

    memcpy(bytes, val, len);
    memcpy(cmd->addr, bytes, 16);
    memcpy(&cmd->value, bytes + 16, 8);
    memcpy(&cmd->value2, bytes + 24, 8);
    rc = sc__op_begin(&op, s, 0, true);
    if (rc)
        return rc;
    rc = sc__op_command(&op, cmd, NULL);
    if (rc >= 0)
        sc__listen_option(op.d, cmd);
    return sc__op_end(&op, rc < 0 ? rc : 0);
}

static int filter_set(sc_sock *s, const void *val, size_t len)
{
    struct sg_cmd cmd = {.op = SG_CMD_SETOPT, .arg0 = LINUX_SOL_ICMPV6, .arg1 = SC_ICMP6_FILTER};

    return len < 32 ? -EINVAL : wide_set(s, &cmd, val, 32);
}

/* TCP_FASTOPEN_KEY: 16 bytes, or 32. */
static int keys_set(sc_sock *s, const void *val, size_t len)
{
    struct sg_cmd cmd = {.op = SG_CMD_SETOPT, .arg0 = LINUX_SOL_TCP, .arg1 = SC_TCP_FASTOPEN_KEY};

    if (len != 16 && len != 32)
        return -EINVAL;
    cmd.scope = (uint32_t)len;
    return wide_set(s, &cmd, val, len);
}

static int set(sc_sock *s, int level, int name, const void *val, size_t len)
{
    uint64_t value;
    int rc;

    if (name == OPT_CALLBACK)
        return callback_set(s, val, len);
    if (level == LINUX_SOL_SOCKET && name == SC_SO_RCVTIMEO)
        return timeout_set(&s->rcv_ms, val, len);
    if (level == LINUX_SOL_SOCKET && name == SC_SO_SNDTIMEO)
        return timeout_set(&s->snd_ms, val, len);
    if (level == LINUX_SOL_SOCKET && (name == SC_SO_ERROR || name == SC_SO_TYPE || name == SC_SO_ACCEPTCONN))
        return -ENOPROTOOPT;
    if (level == LINUX_SOL_ICMPV6 && name == SC_ICMP6_FILTER)
        return filter_set(s, val, len);
    if (level == LINUX_SOL_TCP && name == SC_TCP_FASTOPEN_KEY)
        return keys_set(s, val, len);
    if (sc__group_option(level, name))
        return sc__group_set(s, level, name, val, len);
    rc = value_read(level, name, val, len, &value);
    return rc ? rc : daemon_set(s, level, name, value);
}

/* -EBADF for a handle that is closed. */
static int check_open(sc_sock *s)
{
    struct op op;
    int rc = sc__op_begin(&op, s, 0, true);

    return rc ? rc : sc__op_end(&op, 0);
}

int sc_setsockopt(sc_sock *s, int level, int name, const void *val, size_t len)
{
    const sc_profile *p;
    int rc = check_open(s);

    if (rc)
        return rc;
    if (!val && len)
        return -EINVAL;
    p = sc__profile(s);
    rc = translate(p, &level, &name) ? set(s, level, name, val, len) : -ENOPROTOOPT;
    return rc == -ENOPROTOOPT && p->lenient_opts ? 0 : rc;
}

/* SO_ERROR: the error that waits, once. */
static int error_get(sc_sock *s, void *val, size_t *len)
{
    struct sg_cmd cmd = {.op = SG_CMD_GETOPT, .arg0 = LINUX_SOL_SOCKET, .arg1 = SC_SO_ERROR};
    uint64_t error = 0;
    struct op op;
    struct line l;
    int rc;

    if (*len < sizeof(int32_t)) /* Before the error is taken away. */
        return -EINVAL;
    rc = sc__op_begin(&op, s, 0, true);
    if (rc)
        return rc;
    sc__line_read(op.d, &l);
    if (l.flags & SG_F_SOFT_ERR) {
        rc = sc__op_command(&op, &cmd, &error);
    } else if ((l.flags & SG_F_ERROR) && !op.d->err_reported) {
        op.d->err_reported = true;
        op.d->connected |= l.error == ECONNRESET;
        error = l.error;
    }
    sc__op_end(&op, 0);
    return rc < 0 ? rc : int_write((int64_t)error, val, len);
}

static int daemon_get(sc_sock *s, int level, int name, void *val, size_t *len)
{
    struct sg_cmd cmd = {.op = SG_CMD_GETOPT, .arg0 = (uint32_t)level, .arg1 = (uint32_t)name};
    struct sc_linger linger;
    uint64_t value = 0;
    struct op op;
    int rc = sc__op_begin(&op, s, 0, true);

    if (rc)
        return rc;
    rc = sc__op_command(&op, &cmd, &value);
    sc__op_end(&op, 0);
    if (rc < 0)
        return rc;
    if (level == LINUX_SOL_TCP && name == SC_TCP_CONGESTION)
        return name_write(value, val, len);
    if (level != LINUX_SOL_SOCKET || name != SC_SO_LINGER)
        return int_write(value == UINT64_MAX ? -1 : value > INT32_MAX ? INT32_MAX : (int64_t)value, val, len);
    if (*len < sizeof(linger))
        return -EINVAL;
    linger.onoff = (uint32_t)value != 0;
    linger.linger = (int)(value >> 32);
    memcpy(val, &linger, sizeof(linger));
    *len = sizeof(linger);
    return 0;
}

/* One picture in many words; begun again when another thread of this process took one in between. */
static int info_get(sc_sock *s, void *val, size_t *len)
{
    uint64_t words[SG_TCP_INFO_WORDS];
    struct op op;
    int rc = sc__op_begin(&op, s, 0, true);

    if (rc)
        return rc;
    for (uint32_t i = 0, again = 0; i < SG_TCP_INFO_WORDS && rc >= 0;) {
        struct sg_cmd cmd = {
            .op = SG_CMD_GETOPT, .arg0 = LINUX_SOL_TCP, .arg1 = SG_TCP_INFO | i << SG_TCP_INFO_SHIFT};

        rc = sc__op_command(&op, &cmd, &words[i]);
        i++;
        if (rc == -EAGAIN && again++ < INFO_TRIES) {
            i = 0;
            rc = 0;
        }
    }
    sc__op_end(&op, 0);
    if (rc < 0)
        return rc;
    if (*len > sizeof(words))
        *len = sizeof(words);
    memcpy(val, words, *len);
    return 0;
}

int sc_getsockopt(sc_sock *s, int level, int name, void *val, size_t *len)
{
    int rc = check_open(s);

    if (rc)
        return rc;
    if (!val || !len)
        return -EINVAL;
    if (!translate(sc__profile(s), &level, &name) || name == OPT_CALLBACK)
        return -ENOPROTOOPT;
    if (level == LINUX_SOL_SOCKET) {
        switch (name) {
        case SC_SO_TYPE:
            return int_write(sc__type_number(sc__profile(s), s->d->type), val, len);
        case SC_SO_ERROR:
            return error_get(s, val, len);
        case SC_SO_RCVTIMEO:
            return timeout_get(__atomic_load_n(&s->rcv_ms, __ATOMIC_RELAXED), val, len);
        case SC_SO_SNDTIMEO:
            return timeout_get(__atomic_load_n(&s->snd_ms, __ATOMIC_RELAXED), val, len);
        default:
            break;
        }
    }
    if (level == LINUX_SOL_TCP && name == SC_TCP_INFO)
        return info_get(s, val, len);
    return daemon_get(s, level, name, val, len);
}

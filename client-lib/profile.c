/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in profiles, and numbers read in a profile's space.
 *
 * Where a device's document and its firmware differ the document wins (UiFlow2's backlog of 5); where the
 * document is silent the firmware does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client-lib/lib.h"

#define FORMS_ALL (SC_AF_PAIR | SC_AF_STR | SC_AF_QUAD | SC_AF_QUINT | SC_AF_PORT)

/* What the profiles of the ESP32's firmware have in common. */
#define ESP32_PROFILE                                                                                        \
    .send_loops = 1, .empty_send_fails = 1, .refused_as_reset = 1, .backlog_overflow = SC_OVF_DROP,          \
    .lenient_opts = 1, .timeout_unit = SC_UNIT_SEC_FLOAT, .errno_space = SC_ERRNO_NEWLIB,                    \
    .exc_model = SC_EXC_OSERROR, .gai_space = GAI_ESP32, .opt_space = OPT_ESP32, .consts = sc__consts_esp32

static const sc_profile profiles[] = {
    {
        .name = "posix",
        .listen_default = 128,
        .backlog_overflow = SC_OVF_DROP,
        .backlog_plus_one = 1,
        .dead_send_epipe = 1,
        .poll_out_dead = 1,
        .names_ok = 1,
        .timeout_unit = SC_UNIT_SEC_FLOAT,
        .errno_space = SC_ERRNO_LINUX,
        .exc_model = SC_EXC_OSERROR,
        .gai_space = GAI_LINUX,
        .opt_space = OPT_LINUX,
        .addr_forms = SC_AF_PAIR,
        .consts = sc__consts_linux,
    },
    {.name = "uiflow2", .listen_default = 5, .names_ok = 1, .addr_forms = SC_AF_PAIR, ESP32_PROFILE},
    {.name = "mpython", .listen_default = 2, .names_ok = 1, .addr_forms = SC_AF_PAIR, ESP32_PROFILE},
    {.name = "usocket", .listen_default = 2, .addr_forms = SC_AF_PAIR | SC_AF_LIST, ESP32_PROFILE},
    {
        .name = "zerynth",
        .listen_default = 2,
        .recv_fill = 1,
        .refused_as_reset = 1,
        .backlog_overflow = SC_OVF_DROP,
        .timeout_unit = SC_UNIT_MS_INT,
        .errno_space = SC_ERRNO_LINUX,
        .exc_model = SC_EXC_ZERYNTH,
        .gai_space = GAI_LINUX,
        .opt_space = OPT_ZERYNTH,
        .addr_forms = FORMS_ALL,
        .consts = sc__consts_zerynth,
    },
    {
        .name = "openmv",
        .listen_default = 2,
        .accept_inherits = 1,
        .refused_as_reset = 1,
        .backlog_overflow = SC_OVF_RESET,
        .lenient_opts = 1,
        .timeout_unit = SC_UNIT_SEC_FLOAT,
        .errno_space = SC_ERRNO_LINUX,
        .exc_model = SC_EXC_OSERROR,
        .gai_space = GAI_LWIP,
        .opt_space = OPT_LWIP,
        .addr_forms = SC_AF_PAIR | SC_AF_LIST,
        .consts = sc__consts_lwip,
    },
};

#define PROFILE_COUNT (sizeof(profiles) / sizeof(profiles[0]))

const sc_profile *sc_profile_at(unsigned index)
{
    return index < PROFILE_COUNT ? &profiles[index] : NULL;
}

const sc_profile *sc_profile_find(const char *name)
{
    if (!name) {
        name = getenv("SOCKGATE_PROFILE");
        if (!name || !name[0])
            name = "posix";
    }
    for (unsigned i = 0; i < PROFILE_COUNT; i++)
        if (strcmp(profiles[i].name, name) == 0)
            return &profiles[i];
    return NULL;
}

int sc_const(const sc_profile *profile, const char *name, int dflt)
{
    if (!profile || !name)
        return dflt;
    for (const struct sc_const *c = profile->consts; c && c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c->value;
    return dflt;
}

/* A number that no profile uses, as default of look-ups. */
#define NO_CONST INT_MIN

int sc__family_of(const sc_profile *p, int family)
{
    if (family == SC_INET || family == sc_const(p, "AF_INET", NO_CONST))
        return SG_AF_INET;
    if (family == SC_INET6) /* No device document speaks of it: the profiles' AF_INET6 stays refused. */
        return SG_AF_INET6;
    return -EAFNOSUPPORT;
}

int sc__type_of(const sc_profile *p, int type)
{
    if (type == SC_STREAM || type == sc_const(p, "SOCK_STREAM", NO_CONST))
        return SG_SOCK_STREAM;
    if (type == SC_DGRAM || type == sc_const(p, "SOCK_DGRAM", NO_CONST))
        return SG_SOCK_DGRAM;
    if (type == SC_RAW || type == sc_const(p, "SOCK_RAW", NO_CONST))
        return SG_SOCK_RAW;
    return -EPROTONOSUPPORT;
}

int sc__type_number(const sc_profile *p, uint8_t type)
{
    if (type == SG_SOCK_RAW)
        return sc_const(p, "SOCK_RAW", SC_RAW);
    return type == SG_SOCK_STREAM ? sc_const(p, "SOCK_STREAM", SC_STREAM)
                                  : sc_const(p, "SOCK_DGRAM", SC_DGRAM);
}

int sc__msg_flags(const sc_profile *p, int flags, unsigned *ret)
{
    static const struct {
        int own;          /* the number that every profile accepts, or 0 */
        const char *name; /* in the profile's table */
        unsigned flag;
    } map[] = {
        {SC_MSG_PEEK, "MSG_PEEK", MSGF_PEEK},
        {SC_MSG_DONTWAIT, "MSG_DONTWAIT", MSGF_DONTWAIT},
        {SC_MSG_WAITALL, "MSG_WAITALL", MSGF_WAITALL},
        {SC_MSG_MORE, "MSG_MORE", MSGF_MORE},
        {SC_MSG_FASTOPEN, "MSG_FASTOPEN", MSGF_FASTOPEN},
        {0, "MSG_NOSIGNAL", 0}, /* This library never raises SIGPIPE. */
    };
    unsigned left = (unsigned)flags;

    *ret = 0;
    for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
        unsigned bits = (unsigned)map[i].own | (unsigned)sc_const(p, map[i].name, 0);

        if (left & bits)
            *ret |= map[i].flag;
        left &= ~bits;
    }
    return left && !p->lenient_opts ? -EOPNOTSUPP : 0;
}

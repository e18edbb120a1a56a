/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Presentation of failures: a device's numbers, classes and texts for the library's results.
 */
#include <errno.h>
#include <string.h>

#include "client-lib/lib.h"

/* newlib's number for each Linux errno that differs. */
static const struct {
    int linux_errno;
    int newlib;
} newlib_errnos[] = {
    {EDEADLK, 45},          {ENOLCK, 46},         {ENOSTR, 60},
    {ENODATA, 61},          {ETIME, 62},          {ENOSR, 63},
    {ENOLINK, 67},          {EPROTO, 71},         {EMULTIHOP, 74},
    {EBADMSG, 77},          {ENOSYS, 88},         {ENOTEMPTY, 90},
    {ENAMETOOLONG, 91},     {ELOOP, 92},          {EOPNOTSUPP, 95},
    {EPFNOSUPPORT, 96},     {ECONNRESET, 104},    {ENOBUFS, 105},
    {EAFNOSUPPORT, 106},    {EPROTOTYPE, 107},    {ENOTSOCK, 108},
    {ENOPROTOOPT, 109},     {ESHUTDOWN, 110},     {ECONNREFUSED, 111},
    {EADDRINUSE, 112},      {ECONNABORTED, 113},  {ENETUNREACH, 114},
    {ENETDOWN, 115},        {ETIMEDOUT, 116},     {EHOSTDOWN, 117},
    {EHOSTUNREACH, 118},    {EINPROGRESS, 119},   {EALREADY, 120},
    {EDESTADDRREQ, 121},    {EMSGSIZE, 122},      {EPROTONOSUPPORT, 123},
    {ESOCKTNOSUPPORT, 124}, {EADDRNOTAVAIL, 125}, {ENETRESET, 126},
    {EISCONN, 127},         {ENOTCONN, 128},      {ETOOMANYREFS, 129},
    {EDQUOT, 132},          {ESTALE, 133},        {EILSEQ, 138},
    {EOVERFLOW, 139},       {ECANCELED, 140},
};

/*
 * Resolver numbers: Linux's EAI_*; lwIP's sockets interface (EAI_NONAME 200 ...), negated by the ESP32 port;
 * and the stack codes that the bare lwIP module shows (-2 failed look-up, -6 no usable server, -16 empty).
 */
static const struct {
    int rc;
    int number[3]; /* by sc_profile.gai_space */
    const char *text;
} gai[] = {
    {SC_GAI_NONAME, {-2, -200, -2}, "no such name"},
    {SC_GAI_NO_SERVER, {-3, -202, -6}, "the name is not in the hosts file, and no name server can be asked"},
    {SC_GAI_EMPTY, {-2, -200, -16}, "the name is empty"},
    {SC_GAI_FAMILY, {-6, -204, -2}, "address family or type not supported"},
    {SC_GAI_SERVICE, {-8, -201, -2}, "port outside 0 to 65535"},
    {SC_GAI_MEMORY, {-10, -203, -1}, "out of memory"},
};

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static bool is_gai(int rc)
{
    return rc >= SC_GAI_MIN && rc <= SC_GAI_MAX;
}

static int gai_number(const sc_profile *profile, int rc)
{
    unsigned space = profile && profile->gai_space < 3 ? profile->gai_space : GAI_LINUX;

    for (unsigned i = 0; i < ARRAY_LEN(gai); i++)
        if (gai[i].rc == rc)
            return gai[i].number[space];
    return gai[0].number[space];
}

int sc_error_number(const sc_profile *profile, int rc)
{
    int number = -rc;

    if (rc >= 0)
        return 0;
    if (is_gai(rc))
        return gai_number(profile, rc);
    if (rc == SC_NONE)
        return EAGAIN;
    if (rc == SC_BAD_FORM)
        return EINVAL;
    if (profile && profile->refused_as_reset && number == ECONNREFUSED)
        number = ECONNRESET;
    if (!profile || profile->errno_space != SC_ERRNO_NEWLIB)
        return number;
    for (unsigned i = 0; i < ARRAY_LEN(newlib_errnos); i++)
        if (newlib_errnos[i].linux_errno == number)
            return newlib_errnos[i].newlib;
    return number;
}

int sc_gai_number(const sc_profile *profile, int rc)
{
    return sc_error_number(profile, rc);
}

sc_exc sc_error_class(const sc_profile *profile, int rc)
{
    if (rc >= 0)
        return SC_CLASS_NONE;
    if (rc == SC_BAD_FORM)
        return SC_CLASS_TYPE;
    if (!profile || profile->exc_model != SC_EXC_ZERYNTH)
        return SC_CLASS_OSERROR;
    if (rc == -ETIMEDOUT)
        return SC_CLASS_TIMEOUT;
    if (rc == -EPROTONOSUPPORT) /* Zerynth refuses raw sockets so. */
        return SC_CLASS_TYPE;
    return SC_CLASS_IOERROR;
}

sc_exc sc_addr_error_class(const sc_profile *profile, int rc)
{
    return rc == -EINVAL ? SC_CLASS_VALUE : sc_error_class(profile, rc);
}

const char *sc_strerror(int rc)
{
    const char *text;

    if (rc >= 0)
        return "success";
    if (rc == SC_NONE)
        return "nothing transferred without waiting";
    if (rc == SC_BAD_FORM)
        return "this profile has no such form of address";
    for (unsigned i = 0; i < ARRAY_LEN(gai); i++)
        if (gai[i].rc == rc)
            return gai[i].text;
    if (rc == -ENETDOWN)
        return "the daemon is gone";
    text = rc > -4096 ? strerrordesc_np(-rc) : NULL;
    return text ? text : "unknown result";
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address forms, and addresses to and from the slot's layout.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "client-lib/lib.h"

static int addr4(const uint8_t ip[4], long port, sc_addr *out)
{
    if (port < 0 || port > UINT16_MAX)
        return -EINVAL;
    *out = (sc_addr){.family = SC_ADDR_INET, .len = 4, .port = (uint16_t)port};
    memcpy(out->ip, ip, 4);
    return 0;
}

int sc_ip_to_tuple(const char *ip, uint8_t out[4])
{
    uint8_t bytes[4];

    if (!ip || !out || inet_pton(AF_INET, ip, bytes) != 1)
        return -EINVAL;
    memcpy(out, bytes, 4);
    return 0;
}

int sc_addr_host_port(const sc_profile *profile, const char *host, long port, sc_addr *out)
{
    uint8_t ip[4] = {0};
    int rc;

    if (!profile || !host || !out || port < 0 || port > UINT16_MAX)
        return -EINVAL;
    if (profile->names_ok) {
        rc = sc__resolve(host, ip);
        if (rc)
            return rc;
    } else if (host[0] && sc_ip_to_tuple(host, ip)) {
        return -EINVAL;
    }
    return addr4(ip, port, out);
}

int sc_addr_host(const sc_profile *profile, const char *host, sc_addr *out)
{
    if (!profile)
        return -EINVAL;
    if (!(profile->addr_forms & SC_AF_STR))
        return SC_BAD_FORM;
    return sc_addr_host_port(profile, host, 0, out);
}

int sc_addr_quad(const uint8_t ip[4], long port, sc_addr *out)
{
    return ip && out ? addr4(ip, port, out) : -EINVAL;
}

const char *sc_addr_text(const sc_addr *addr, char buf[SC_ADDR_TEXT_BYTES])
{
    int family = addr && addr->family == SG_AF_INET6 ? AF_INET6 : AF_INET;

    if (!addr || (addr->family != SG_AF_INET && addr->family != SG_AF_INET6) ||
        !inet_ntop(family, addr->ip, buf, SC_ADDR_TEXT_BYTES)) {
        buf[0] = '?';
        buf[1] = 0;
    }
    return buf;
}

void sc__addr_from_slot(sc_addr *out, uint16_t family, const uint8_t ip[16], uint16_t port, uint32_t scope)
{
    *out = (sc_addr){.family = (uint8_t)family, .port = port, .scope_id = scope};
    out->len = family == SG_AF_INET ? 4 : 16;
    memcpy(out->ip, ip, out->len);
}

int sc__addr_to_cmd(const sc_addr *a, uint8_t family, struct sg_cmd *cmd)
{
    if (a->family != family || (family != SG_AF_INET && family != SG_AF_INET6))
        return -EAFNOSUPPORT;
    cmd->family = a->family;
    cmd->port = a->port;
    cmd->scope = family == SG_AF_INET6 ? a->scope_id : 0;
    memcpy(cmd->addr, a->ip, family == SG_AF_INET6 ? 16 : 4);
    return 0;
}

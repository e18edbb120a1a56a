/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options that name multicast groups: Linux's structs, of either family, become one command (proto/abi).
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "client-lib/lib.h"

#define LINUX_SOL_IP   0
#define LINUX_SOL_IPV6 41

/* Names that have an own number for IPv6. */
#define IPV6_JOIN      20
#define IPV6_LEAVE     21

static_assert(SC_IPV6_JOIN_GROUP == IPV6_JOIN && SC_IPV6_LEAVE_GROUP == IPV6_LEAVE, "Linux's numbers");

/* MCAST_JOIN_GROUP and its like, which name their family in the value, as the older names of IPv4. */
static const uint8_t named[] = {
    [SC_MCAST_JOIN_GROUP - SC_MCAST_JOIN_GROUP] = SC_IP_ADD_MEMBERSHIP,
    [SC_MCAST_BLOCK_SOURCE - SC_MCAST_JOIN_GROUP] = SC_IP_BLOCK_SOURCE,
    [SC_MCAST_UNBLOCK_SOURCE - SC_MCAST_JOIN_GROUP] = SC_IP_UNBLOCK_SOURCE,
    [SC_MCAST_LEAVE_GROUP - SC_MCAST_JOIN_GROUP] = SC_IP_DROP_MEMBERSHIP,
    [SC_MCAST_JOIN_SOURCE_GROUP - SC_MCAST_JOIN_GROUP] = SC_IP_ADD_SOURCE_MEMBERSHIP,
    [SC_MCAST_LEAVE_SOURCE_GROUP - SC_MCAST_JOIN_GROUP] = SC_IP_DROP_SOURCE_MEMBERSHIP,
};

static bool is_named(int name)
{
    return name >= SC_MCAST_JOIN_GROUP && name <= SC_MCAST_LEAVE_SOURCE_GROUP;
}

bool sc__group_option(int level, int name)
{
    if (level == LINUX_SOL_IP)
        return name == SC_IP_MULTICAST_IF || is_named(name) ||
               (name >= SC_IP_ADD_MEMBERSHIP && name <= SC_IP_DROP_SOURCE_MEMBERSHIP);
    return level == LINUX_SOL_IPV6 && (name == IPV6_JOIN || name == IPV6_LEAVE || is_named(name));
}

static bool names_source(int name)
{
    return name >= SC_IP_UNBLOCK_SOURCE && name <= SC_IP_DROP_SOURCE_MEMBERSHIP;
}

/* ip_mreq, ip_mreqn, ip_mreq_source, and for IP_MULTICAST_IF an address alone. */
static int read4(const void *val, size_t len, struct sg_cmd *cmd)
{
    bool source = names_source((int)cmd->arg1);
    struct sc_ip_mreqn r;

    if (cmd->arg1 == SC_IP_MULTICAST_IF && len == 4) {
        memcpy(cmd->addr + 4, val, 4);
        return 0;
    }
    if (len != sizeof(struct sc_ip_mreqn) && (source || len != sizeof(struct sc_ip_mreq)))
        return -EINVAL;
    if (source || len == sizeof(struct sc_ip_mreq)) {
        memcpy(cmd->addr, val, len);
        return 0;
    }
    memcpy(&r, val, sizeof(r));
    memcpy(cmd->addr, r.group, 4);
    if (r.ifnum < 0)
        return -ENODEV;
    cmd->scope = (uint32_t)r.ifnum;
    if (!r.ifnum) /* As in Linux, the number goes before the address. */
        memcpy(cmd->addr + 4, r.address, 4);
    return 0;
}

static int read6(const void *val, size_t len, struct sg_cmd *cmd)
{
    struct sc_ipv6_mreq r;

    if (len < sizeof(r))
        return -EINVAL;
    memcpy(&r, val, sizeof(r));
    cmd->family = SG_AF_INET6;
    cmd->scope = r.interface;
    memcpy(cmd->addr, r.group, sizeof(r.group));
    return 0;
}

/* One address of a group_req or group_source_req; `to` has room for 16 bytes. */
static int storage_read(const struct sockaddr_storage *from, uint16_t family, uint8_t *to)
{
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)from;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;

    if (from->ss_family != family)
        return -EINVAL;
    if (family == AF_INET6)
        memcpy(to, &in6->sin6_addr, 16);
    else
        memcpy(to, &in4->sin_addr, 4);
    return 0;
}

static int read_storage(int level, const void *val, size_t len, struct sg_cmd *cmd)
{
    bool source = names_source((int)cmd->arg1);
    uint16_t family = level == LINUX_SOL_IPV6 ? AF_INET6 : AF_INET;
    uint64_t from[2] = {0};
    struct group_source_req r;
    int rc;

    if (len < (source ? sizeof(r) : sizeof(struct group_req)))
        return -EINVAL;
    static_assert(offsetof(struct group_req, gr_group) == offsetof(struct group_source_req, gsr_group), "");
    memcpy(&r, val, source ? sizeof(r) : sizeof(struct group_req));
    rc = storage_read(&r.gsr_group, family, cmd->addr);
    if (!rc && source)
        rc = storage_read(&r.gsr_source, family, (uint8_t *)from);
    if (rc)
        return rc;
    cmd->family = family == AF_INET6 ? SG_AF_INET6 : SG_AF_INET;
    cmd->scope = r.gsr_interface;
    if (family == AF_INET) {
        memcpy(cmd->addr + 8, from, 4);
        return 0;
    }
    cmd->value = from[0];
    cmd->value2 = from[1];
    return 0;
}

int sc__group_set(sc_sock *s, int level, int name, const void *val, size_t len)
{
    struct sg_cmd cmd = {.op = SG_CMD_SETOPT, .arg0 = LINUX_SOL_IP, .arg1 = (uint32_t)name};
    struct op op;
    int rc;

    if (is_named(name)) {
        cmd.arg1 = named[name - SC_MCAST_JOIN_GROUP];
        rc = read_storage(level, val, len, &cmd);
    } else if (level == LINUX_SOL_IPV6) {
        cmd.arg1 = name == IPV6_JOIN ? SC_IP_ADD_MEMBERSHIP : SC_IP_DROP_MEMBERSHIP;
        rc = read6(val, len, &cmd);
    } else {
        rc = read4(val, len, &cmd);
    }
    if (!rc)
        rc = sc__op_begin(&op, s, 0, true);
    if (rc)
        return rc;
    rc = sc__op_command(&op, &cmd, NULL);
    return sc__op_end(&op, rc < 0 ? rc : 0);
}

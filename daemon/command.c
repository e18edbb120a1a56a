/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/command.h"

#include <errno.h>
#include <string.h>

static struct ip_ep command_endpoint(const struct sg_cmd *cmd)
{
    struct ip_ep ep = {.addr = {.family = cmd->family, .scope = cmd->scope}, .port = cmd->port};

    memcpy(ep.addr.ip, cmd->addr, cmd->family == SG_AF_INET6 ? 16 : 4);
    return ep;
}

/* A slot number that SG_CMD_OPEN or SG_CMD_ACCEPT may fill. */
static bool slot_valid(const struct app_session *s, unsigned worker, uint32_t slot)
{
    return slot != SG_SLOT_NONE && slot < s->slot_count && slot % s->worker_count == worker;
}

/* Options of IPPROTO_IP whose value are addresses, by Linux's numbers: IP_MULTICAST_IF, and IP_ADD_MEMBERSHIP
 * to IP_DROP_SOURCE_MEMBERSHIP. */
static bool names_addresses(const struct sg_cmd *cmd)
{
    return cmd->op == SG_CMD_SETOPT && cmd->arg0 == 0 &&
           (cmd->arg1 == 32 || (cmd->arg1 >= 35 && cmd->arg1 <= 40));
}

/* Four bytes of an address; none of them set: no address. */
static struct ip_addr address4(const uint8_t *at)
{
    static const uint8_t none[4];
    struct ip_addr a = {.family = memcmp(at, none, 4) != 0 ? SG_AF_INET : 0};

    memcpy(a.ip, at, 4);
    return a;
}

static struct ip_addr address6(const void *at)
{
    struct ip_addr a = {.family = SG_AF_INET6};

    memcpy(a.ip, at, 16);
    return a;
}

static int mreq_read(const struct sg_cmd *cmd, struct engine_mreq *r)
{
    const uint64_t source[2] = {cmd->value, cmd->value2};

    *r = (struct engine_mreq){.ifnum = cmd->scope};
    if (cmd->family == SG_AF_INET6) {
        r->group = address6(cmd->addr);
        r->source = address6(source);
        return cmd->arg1 == 32 ? -EINVAL : 0;
    }
    if ((cmd->family && cmd->family != SG_AF_INET) || cmd->value2)
        return -EINVAL;
    r->group = address4(cmd->addr);
    r->interface = address4(cmd->addr + 4);
    r->source = address4(cmd->addr + 8);
    return 0;
}

static int set_addresses(struct engine *e, int sid, const struct sg_cmd *cmd, uint64_t now_us)
{
    struct engine_mreq r;
    int rc = mreq_read(cmd, &r);

    return rc ? rc : engine_mcast(e, sid, cmd->slot, cmd->arg1, &r, now_us);
}

static bool is_icmp6_filter(const struct sg_cmd *cmd)
{
    return cmd->op == SG_CMD_SETOPT && cmd->arg0 == 58 && cmd->arg1 == 1;
}

static int set_icmp6_filter(struct engine *e, int sid, const struct sg_cmd *cmd)
{
    uint32_t blocked[8];

    memcpy(blocked, cmd->addr, 16);
    memcpy(blocked + 4, &cmd->value, 8);
    memcpy(blocked + 6, &cmd->value2, 8);
    return engine_icmp6_filter(e, sid, cmd->slot, blocked);
}

/* TCP_FASTOPEN_KEY */
static bool is_fastopen_key(const struct sg_cmd *cmd)
{
    return cmd->op == SG_CMD_SETOPT && cmd->arg0 == 6 && cmd->arg1 == 33;
}

/* One key, or two; `scope` says how many bytes they have. */
static int set_fastopen_key(struct engine *e, int sid, const struct sg_cmd *cmd)
{
    struct fastopen_keys keys = {.count = cmd->scope / 16};

    if (cmd->scope % 16)
        return -EINVAL;
    memcpy(keys.key[0], cmd->addr, 16);
    memcpy(keys.key[1], &cmd->value, 8);
    memcpy(keys.key[1] + 8, &cmd->value2, 8);
    return engine_fastopen_keys(e, sid, cmd->slot, &keys);
}

/* Commands on a socket that exists: cmd->slot has been checked. */
static int socket_command(struct engine *e, const struct app_session *s, unsigned worker,
                          const struct sg_cmd *cmd, uint64_t now_us, uint64_t *value)
{
    int sid = s->parts[worker].sid;
    struct ip_ep ep;

    switch ((enum sg_cmd_op)cmd->op) {
    case SG_CMD_BIND:
        ep = command_endpoint(cmd);
        return cmd->arg0 ? engine_bind_beside(e, sid, cmd->slot, &ep, cmd->arg0)
                         : engine_bind(e, sid, cmd->slot, &ep);
    case SG_CMD_LISTEN:
        return engine_listen(e, sid, cmd->slot, cmd->arg0, cmd->arg1);
    case SG_CMD_CONNECT:
        ep = command_endpoint(cmd);
        return engine_connect(e, sid, cmd->slot, &ep, now_us);
    case SG_CMD_ACCEPT:
        return slot_valid(s, worker, cmd->arg0) ? engine_accept(e, sid, cmd->slot, cmd->arg0, now_us)
                                                : -EBADF;
    case SG_CMD_SHUTDOWN:
        return engine_shutdown(e, sid, cmd->slot, cmd->arg0, now_us);
    case SG_CMD_CLOSE:
        return cmd->arg0 ? -EINVAL : engine_close(e, sid, cmd->slot, now_us);
    case SG_CMD_SETOPT:
        if (names_addresses(cmd))
            return set_addresses(e, sid, cmd, now_us);
        if (is_icmp6_filter(cmd))
            return set_icmp6_filter(e, sid, cmd);
        if (is_fastopen_key(cmd))
            return set_fastopen_key(e, sid, cmd);
        return engine_setopt(e, sid, cmd->slot, cmd->arg0, cmd->arg1, cmd->value, now_us);
    case SG_CMD_GETOPT:
        engine_clock(e, now_us);
        return engine_getopt(e, sid, cmd->slot, cmd->arg0, cmd->arg1, value);
    case SG_CMD_GRANT:
        return engine_grant(e, sid, cmd->slot);
    case SG_CMD_RELEASE:
        return engine_release(e, sid, cmd->slot);
    case SG_CMD_NOP:
    case SG_CMD_OPEN:
    case SG_CMD_COUNT:
        break;
    }
    return -ENOSYS;
}

/* Raw sockets live on the first worker, which the others send copies to. */
static int open_command(struct engine *e, const struct app_session *s, unsigned worker,
                        const struct sg_cmd *cmd)
{
    if (!slot_valid(s, worker, cmd->slot))
        return -EBADF;
    if (cmd->arg0 == SG_SOCK_RAW && worker)
        return -EINVAL;
    return engine_open(e, s->parts[worker].sid, cmd->slot, cmd->arg0, cmd->arg1, cmd->family);
}

int command_run(struct engine *e, const struct app_session *s, unsigned worker, const struct sg_cmd *cmd,
                uint64_t now_us, uint64_t *value)
{
    *value = 0;
    if (cmd->op >= SG_CMD_COUNT)
        return -ENOSYS;
    /* Reserved fields are zero now, so that they can mean something later. */
    if (cmd->flags || cmd->pad ||
        (cmd->value2 && !names_addresses(cmd) && !is_icmp6_filter(cmd) && !is_fastopen_key(cmd)))
        return -EINVAL;
    if (cmd->op == SG_CMD_NOP)
        return 0;
    if (cmd->op == SG_CMD_OPEN)
        return open_command(e, s, worker, cmd);
    if (!engine_slot_used(e, s->parts[worker].sid, cmd->slot))
        return -EBADF;
    return socket_command(e, s, worker, cmd, now_us, value);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Commands whose values need more room than one field: what reaches the engine of them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "daemon/command.h"
#include "tests/support/host.h"

static struct host h;
static struct session_part part;
static struct app_session s = {.parts = &part, .worker_count = 1};

static int run(const struct sg_cmd *cmd)
{
    uint64_t value;

    return command_run(h.e, &s, 0, cmd, h.now_us, &value);
}

/* One key in addr, another in value and value2; scope says how many of them count. */
Test(command, keys_of_fast_open)
{
    struct engine_config cfg;
    struct sg_cmd cmd = {.op = SG_CMD_SETOPT, .arg0 = 6, .arg1 = 33, .value = 1, .value2 = 2};
    static const uint32_t bad[] = {0, 8, 15, 17, 48, UINT32_MAX, UINT32_MAX - 15};

    host_config(&cfg, 2);
    host_start(&h, &cfg, 1000000);
    part.sid = h.sid;
    s.slot_count = HOST_SLOTS;
    cmd.slot = app_socket(&h, SG_SOCK_STREAM);
    memset(cmd.addr, 7, sizeof(cmd.addr));
    for (cmd.scope = 16; cmd.scope <= 32; cmd.scope += 16)
        cr_assert_eq(run(&cmd), 0, "%u", cmd.scope);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cmd.scope = bad[i];
        cr_assert_eq(run(&cmd), -EINVAL, "%u", cmd.scope);
    }
    cmd.arg1 = 32; /* another option: what is reserved is zero */
    cr_assert_eq(run(&cmd), -EINVAL);
    cmd.value2 = 0;
    cr_assert_eq(run(&cmd), -ENOPROTOOPT);
    cr_assert_null(host_stop(&h));
}

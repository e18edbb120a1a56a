/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command records of any content, as an application may put them into its ring, through command_run().
 */
#include <errno.h>
#include <string.h>

#include "daemon/command.h"
#include "tests/fuzz/fuzz.h"

#define RECORDS_MAX 100u

/* Some records are put nearly right, so that they get past the first check. */
static void tame(struct sg_cmd *c, uint8_t how)
{
    if (how & 1)
        c->flags = 0, c->pad = 0, c->value2 = 0;
    if (how & 2)
        c->op %= SG_CMD_COUNT;
    if (how & 4)
        c->slot %= 16;
    if (how & 8)
        c->arg0 %= 16;
    if (how & 16)
        c->family = SG_AF_INET;
    if (how & 32) {
        memcpy(c->addr, (uint8_t[]){192, 0, 2, 2}, 4);
        c->port %= 16;
    }
    if (how & 64)
        c->arg1 %= 20;
    if (how & 128)
        c->value &= 0xff;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct host h;
    static struct session_part part;
    static struct app_session s;
    struct input in = {data, size};
    struct engine_config cfg;

    fuzz_config(&cfg);
    host_start(&h, &cfg, 1000000);
    memset(&s, 0, sizeof(s));
    part.sid = h.sid;
    s.parts = &part;
    s.worker_count = 1;
    s.slot_count = HOST_SLOTS;
    for (unsigned i = 0; i < RECORDS_MAX && in.left; i++) {
        uint8_t how = take_u8(&in);
        struct sg_cmd cmd;
        uint64_t value = 1;
        int rc;

        (void)take_bytes(&in, (uint8_t *)&cmd, sizeof(cmd));
        tame(&cmd, how);
        rc = command_run(h.e, &s, 0, &cmd, h.now_us, &value);
        if (rc > 0 || rc < -4095)
            fuzz_fail("op %u: %d is no errno", cmd.op, rc);
        if (rc && value)
            fuzz_fail("op %u: a refused command has a value", cmd.op);
        if (cmd.op >= SG_CMD_COUNT && rc != -ENOSYS)
            fuzz_fail("op %u is unknown and answered %d", cmd.op, rc);
        fuzz_wait(&h, how == 0xff ? 1000000 : 0, 1, NULL, NULL);
        host_run(&h);
        fuzz_check(&h);
    }
    fuzz_stop(&h);
    return 0;
}

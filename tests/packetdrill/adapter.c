/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packetdrill_engine.so: packetdrill's scripts against the engine itself, without a device or a daemon.
 *
 *     packetdrill --so_filename=packetdrill_engine.so --so_flags=local=192.168.0.1,gateway=192.168.0.2 x.pkt
 *
 * Flags, name=value with commas between:
 *     local     address of the stack under test (packetdrill's --local_ip)
 *     gateway   its gateway; every neighbour answers, so any address of its network will do
 *     prefix    bits of its network (16)
 *     mtu       (1500)
 *     tso       0: keep the stack from sending frames larger than the MTU (1)
 *     wait_s    longest virtual wait for a packet before the script fails (300)
 *     settings  file of name=value lines with the kernel's settings that the script asks for; tso=0 in it:
 *               the device cuts large frames before packetdrill sees them
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/packetdrill/interface.h"
#include "tests/packetdrill/stack.h"

/* The smallest that every IPv4 host takes in one piece. */
#define MTU_MIN  576u
#define OFFLOADS (ENGINE_TX_CSUM | ENGINE_TX_TSO4)

static void flag_take(const char *name, const char *value)
{
    if (strcmp(name, "local") == 0)
        pd.local.s_addr = inet_addr(value);
    else if (strcmp(name, "gateway") == 0)
        pd.gateway.s_addr = inet_addr(value);
    else if (strcmp(name, "prefix") == 0)
        pd.prefix = (uint8_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "mtu") == 0)
        pd.cfg.ifs[0].mtu = (uint16_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "tso") == 0)
        pd.cfg.ifs[0].offloads = strtoul(value, NULL, 10) ? OFFLOADS : 0;
    else if (strcmp(name, "wait_s") == 0)
        pd.wait_max_us = strtoull(value, NULL, 10) * 1000000;
    else if (strcmp(name, "settings") == 0)
        snprintf(pd.settings, sizeof(pd.settings), "%s", value);
    else
        pd_fail("unknown flag %s in --so_flags", name);
}

static void flags_take(const char *flags)
{
    char *copy = strdup(flags);
    char *save = NULL;

    if (!copy)
        pd_fail("no memory");
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char *value = strchr(word, '=');

        if (!value)
            pd_fail("no value for flag %s in --so_flags", word);
        *value++ = '\0';
        flag_take(word, value);
    }
    free(copy);
}

static void do_end(void *self)
{
    const char *bad;

    (void)self;
    if (!pd.started)
        return;
    bad = engine_check(pd.h.e);
    if (bad)
        pd_fail("at the end of the script the engine's state is inconsistent: %s", bad);
}

static int do_netdev_send(void *self, const void *packet, size_t bytes)
{
    (void)self;
    pd_enter();
    pd_inject(packet, bytes);
    pd_leave();
    return 0;
}

static int do_netdev_receive(void *self, void *packet, size_t *bytes, long long *time_us)
{
    struct pd_packet *p;

    (void)self;
    pd_enter();
    p = pd_next_packet();
    if (p->bytes > *bytes)
        pd_fail("packet of %zu bytes from the stack", p->bytes);
    memcpy(packet, p->ip, p->bytes);
    *bytes = p->bytes;
    *time_us = (long long)p->time_us;
    free(p);
    pd_leave();
    return 0;
}

static int do_usleep(void *self, useconds_t us)
{
    (void)self;
    pd_enter();
    pd_advance(pd.h.now_us + us);
    pd_leave();
    return 0;
}

static int do_gettimeofday(void *self, struct timeval *tv, struct timezone *tz)
{
    int error = errno; /* packetdrill reads the clock between a call and its errno */
    uint64_t now = pd_clock_read();

    (void)self;
    (void)tz;
    tv->tv_sec = (time_t)(now / 1000000);
    tv->tv_usec = (suseconds_t)(now % 1000000);
    errno = error;
    return 0;
}

static int do_pipe(void *self, int fds[2])
{
    (void)self;
    return pipe(fds);
}

static ssize_t do_splice(void *self, int from, loff_t *from_off, int to, loff_t *to_off, size_t len,
                         unsigned flags)
{
    (void)self;
    (void)from;
    (void)from_off;
    (void)to;
    (void)to_off;
    (void)len;
    (void)flags;
    errno = ENOSYS;
    return -1;
}

void packetdrill_interface_init(const char *flags, struct pd_interface *ret)
{
    /* packetdrill locked all memory to come; the segment's gigabyte is sparse. Its helpers (sh, python) need
     * no preloaded object. */
    munlockall();
    unsetenv("LD_PRELOAD");

    host_config(&pd.cfg, 1);
    pd.driver = pthread_self();
    pd.prefix = 16;
    pd.cfg.syn_retries = 6; /* what scripts expect that set nothing */
    pd.cfg.ifs[0].offloads = OFFLOADS;
    pd.local.s_addr = inet_addr("192.168.0.1");
    pd.gateway.s_addr = inet_addr("192.168.0.2");
    pd.wait_max_us = UINT64_C(300) * 1000000;
    flags_take(flags ? flags : "");
    pd.cfg.addr_count = 0; /* host_config() has given it another */
    engine_config_addr4(&pd.cfg, (const uint8_t *)&pd.local, pd.prefix);
    engine_config_gateway4(&pd.cfg, (const uint8_t *)&pd.gateway);
    if (pd.cfg.ifs[0].mtu < MTU_MIN)
        pd_fail("the engine takes no MTU below %u (RFC 791)", MTU_MIN);
    pd.cfg.ifs[0].tx_frame_max = 65535 + PD_ETH_BYTES;

    *ret = (struct pd_interface){
        .end = do_end,
        .netdev_send = do_netdev_send,
        .netdev_receive = do_netdev_receive,
        .usleep = do_usleep,
        .gettimeofday = do_gettimeofday,
        .pipe = do_pipe,
        .splice = do_splice,
    };
    pd_calls_fill(ret);
    pd_data_fill(ret);
    pd_options_fill(ret);
    pd_ready_fill(ret);
}

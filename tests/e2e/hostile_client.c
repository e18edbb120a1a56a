/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile application: attaches, makes sockets with traffic on them, then writes random values all over
 * its segment (header, rings, slots, byte rings) while it goes on ringing the doorbell, until the daemon
 * expels it. Then it attaches again.
 *
 *     hostile_client SECONDS SEED ADDRESS PORT     ADDRESS:PORT: an echo server of the kernel's
 *
 * Prints how often it attached and was expelled. It takes care not to trip over its own scribbling: the
 * library is used before the scribbling only.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <sockclient.h>

#include "proto/abi/seg.h"

#define SOCKETS      16
#define SCRIBBLES    2000000u
#define HEAP_TOUCHED (64u << 20)

static uint64_t rng;

static uint64_t rnd(void)
{
    uint64_t z = (rng += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The segment that the library mapped: the mapping that begins with the magic and is writable. */
static uint8_t *find_segment(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    uint8_t *found = NULL;

    while (maps && fgets(line, sizeof(line), maps)) {
        uintptr_t from, to;
        char perms[8];

        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &from, &to, perms) != 3)
            continue;
        if (strcmp(perms, "rw-s") != 0)
            continue;
        if (*(const uint64_t *)from == SG_ABI_MAGIC) /* NOLINT: an address from the kernel's own list */
            found = (uint8_t *)from;
    }
    if (maps)
        (void)fclose(maps);
    return found;
}

/* The library's descriptors are eventfds: a write to any of them is a doorbell, or harms only us. */
static void ring_doorbells(void)
{
    const uint64_t one = 1;

    for (int fd = 3; fd < 24; fd++)
        if (write(fd, &one, sizeof(one)) < 0)
            continue;
}

static uint64_t nasty(uint64_t old)
{
    switch (rnd() % 8) {
    case 0:
        return rnd();
    case 1:
        return 0;
    case 2:
        return UINT64_MAX;
    case 3:
        return old + 1;
    case 4:
        return old - 1;
    case 5:
        return old ^ (UINT64_C(1) << rnd() % 64);
    case 6:
        return old + (rnd() & 0xffff);
    default:
        return rnd() & 0xffffff;
    }
}

static void scribble(uint8_t *seg, const struct sg_seg_hdr *h, uint64_t until_ns)
{
    struct timespec ts;
    uint64_t low = h->slot_off + (uint64_t)(SOCKETS + 8) * sizeof(struct sg_slot);
    uint64_t rings = (uint64_t)h->channel_count * h->worker_count * h->channel_bytes;

    for (unsigned i = 0; i < SCRIBBLES; i++) {
        uint64_t at;

        switch (rnd() % 4) {
        case 0: /* slots in use */
            at = h->slot_off + rnd() % (low - h->slot_off);
            break;
        case 1: /* control blocks of the channels */
            at = h->channel_off + rnd() % sizeof(struct sg_channel);
            break;
        case 2: /* rings */
            at = h->channel_off + rnd() % rings;
            break;
        default: /* anywhere up to some of the heap */
            at = rnd() % (h->heap_off + HEAP_TOUCHED);
            break;
        }
        at &= ~UINT64_C(7);
        *(volatile uint64_t *)(void *)(seg + at) = nasty(*(volatile uint64_t *)(void *)(seg + at));
        if (i % 64 == 0)
            ring_doorbells();
        if (i % 1024 == 0) {
            clock_gettime(CLOCK_MONOTONIC, &ts);
            if ((uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec > until_ns)
                return;
        }
    }
}

/* One life: attach, work, scribble. In a child, which may well crash. */
static int one_life(const char *address, long port, uint64_t ns)
{
    const sc_profile *posix = sc_profile_find("posix");
    struct sg_seg_hdr hdr;
    struct timespec ts;
    sc_lib *lib;
    sc_addr to;
    uint8_t *seg;
    int rc = sc_lib_open(NULL, "posix", &lib);

    if (rc) {
        fprintf(stderr, "attach: %s\n", sc_lib_open_error());
        return 3;
    }
    if (sc_addr_host_port(posix, address, port, &to))
        return 3;
    for (int i = 0; i < SOCKETS; i++) {
        static char data[100000];
        sc_sock *s;

        if (sc_socket(lib, AF_INET, i % 4 == 3 ? SOCK_DGRAM : SOCK_STREAM, 0, &s))
            return 3;
        (void)sc_settimeout_ms(s, 1000);
        if (i % 4 == 0) {
            (void)sc_bind_port(s, 20000 + i);
            (void)sc_listen(s, 8);
        } else if (sc_connect(s, &to) == 0) {
            (void)sc_setblocking(s, 0);
            (void)sc_send(s, data, i % 4 == 3 ? 100 : sizeof(data), 0);
        }
    }
    seg = find_segment();
    if (!seg)
        return 3;
    memcpy(&hdr, seg, sizeof(hdr));
    clock_gettime(CLOCK_MONOTONIC, &ts);
    scribble(seg, &hdr, (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + ns);
    _exit(0);
}

int main(int argc, char **argv)
{
    unsigned lives = 0, failed = 0;
    time_t end;

    if (argc != 5) {
        fprintf(stderr, "usage: hostile_client SECONDS SEED ADDRESS PORT\n");
        return 2;
    }
    end = time(NULL) + atol(argv[1]);
    rng = strtoull(argv[2], NULL, 0);
    printf("seed %" PRIu64 "\n", rng);
    while (time(NULL) < end) {
        uint64_t ns = 1000000 + rnd() % 200000000;
        pid_t pid = fork();
        int status;

        if (pid == 0)
            _exit(one_life(argv[3], atol(argv[4]), ns));
        (void)rnd(); /* The child's draws are its own. */
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return 1;
        lives++;
        failed += WIFEXITED(status) && WEXITSTATUS(status) == 3;
    }
    printf("%u lives, %u could not attach\n", lives, failed);
    return failed != 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forwarder, between two TAP devices of one namespace:
 *
 *     test == tap:fa == fa  (sockgate-forwarder)  fb == tap:fb == test
 *
 * SOCKGATE_FORWARDER names the program.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "hw/device.h"
#include "hw/offload.h"
#include "tests/unit/hw/frames.h"
#include "tests/unit/hw/netns.h"

#define FRAMES    4000u
#define WINDOW    256u
#define TIMEOUT_S 60
#define STALL_MS  1
#define QUIET_MS  200 /* without a frame: all that will come has come (none is held longer than 5 ms) */

static const struct frame_addr end_a = {{2, 0, 0, 0, 0, 1}, {10, 0, 0, 1}, 1000};
static const struct frame_addr end_b = {{2, 0, 0, 0, 0, 2}, {10, 0, 0, 2}, 2000};

static struct device *a, *b;
static unsigned queues;
static pid_t forwarder;
static FILE *says;
static char line[1000];

static struct device *tap_make(const char *spec)
{
    struct device *dev = NULL;
    char errbuf[200] = "";

    cr_assert_eq(device_open(spec, &(struct device_params){0}, &dev, &queues, errbuf, sizeof(errbuf)), 0,
                 "%s", errbuf);
    return dev;
}

/** Start it with two interfaces and these arguments more; returns when it is ready. */
static void start(const char *const more[])
{
    const char *path = getenv("SOCKGATE_FORWARDER");
    const char *argv[20] = {path, "--a", "fa", "--b", "fb"};
    unsigned argc = 5;
    int out[2];

    cr_assert_not_null(path, "SOCKGATE_FORWARDER is not set");
    netns_enter();
    a = tap_make("tap:fa");
    b = tap_make("tap:fb");
    while (*more)
        argv[argc++] = *more++;
    cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
    forwarder = fork();
    cr_assert_geq(forwarder, 0);
    if (forwarder == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails must not leave it behind */
        dup2(out[1], STDOUT_FILENO);
        execv(path, (char *const *)argv);
        _exit(127);
    }
    close(out[1]);
    says = fdopen(out[0], "r");
    cr_assert_not_null(fgets(line, sizeof(line), says));
    cr_assert_not_null(strstr(line, "ready a=fa b=fb seed=7"), "%s", line);
}

/** End it; returns its statistics of direction fa>fb. */
static void stop(void)
{
    int status;

    cr_assert_eq(kill(forwarder, SIGTERM), 0);
    cr_assert_not_null(fgets(line, sizeof(line), says), "no statistics");
    cr_assert_eq(waitpid(forwarder, &status, 0), forwarder);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
    fclose(says);
    a->ops->close(a);
    b->ops->close(b);
}

static uint64_t counted(const char *name)
{
    const char *at = strstr(line, name);

    cr_assert_not_null(at, "%s in %s", name, line);
    return strtoull(at + strlen(name), NULL, 10);
}

/** Frames that came to `dev`, by calling `take` for each, until it has been quiet for QUIET_MS. */
static void collect(struct device *dev, int quiet_ms, void (*take)(const struct pktbuf *pkt))
{
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    struct pollfd pfd = {.fd = dev->ops->wait_fd(dev), .events = POLLIN};

    while (dev->ops->rx_pending(dev) || poll(&pfd, 1, quiet_ms) > 0) {
        int n = dev->ops->rx_burst(dev, pkts, DEV_RX_BURST_MAX);
        cr_assert_geq(n, 0);
        for (int i = 0; i < n; i++)
            if (frame_get16(pkts[i]->data + 12) == 0x0800)
                take(pkts[i]);
    }
}

static uint8_t times[FRAMES];
static uint32_t came, late, highest;

static void take_numbered(const struct pktbuf *pkt)
{
    uint32_t number = frame_get32(pkt->data + 42);

    cr_assert(frame_is_right(pkt->data, pkt->len));
    cr_assert_lt(number, FRAMES);
    came++;
    late += number < highest && times[number] == 0;
    times[number]++;
    highest = number > highest ? number : highest;
}

/**
 * Send FRAMES numbered frames from `from` and take what comes. Never more than WINDOW of them are under way,
 * so that no queue of the kernel overflows and every loss is the forwarder's.
 */
static void send_numbered(struct device *from, struct device *to)
{
    static uint8_t frames[32][100];
    struct pktbuf bufs[32], *pkts[32];
    uint8_t body[40] = {0};

    for (uint32_t i = 0; i < FRAMES; i += 32) {
        for (uint32_t k = 0; k < 32; k++) {
            frame_put32(body, i + k);
            bufs[k] = frame_pkt(frames[k], frame_udp(frames[k], &end_a, &end_b, body, sizeof(body)));
            pkts[k] = &bufs[k];
        }
        cr_assert_eq(from->ops->tx_burst(from, pkts, 32), 32);
        do
            collect(to, i >= WINDOW && highest < i - WINDOW ? STALL_MS : 0, take_numbered);
        while (i >= WINDOW && highest < i - WINDOW);
    }
    collect(to, QUIET_MS, take_numbered);
}

/** Within five standard deviations. */
static void check_share(uint64_t count, uint32_t percent, const char *what)
{
    double p = percent / 100.0;
    double off = (double)count - FRAMES * p;

    cr_assert(off * off <= 25 * FRAMES * p * (1 - p), "%s: %lu of %u at %u %%", what, count, FRAMES, percent);
}

Test(forwarder, passes_every_frame_both_ways_when_nothing_is_asked_for, .timeout = TIMEOUT_S)
{
    start((const char *const[]){"--seed", "7", NULL});
    send_numbered(a, b);
    cr_assert_eq(came, FRAMES);
    cr_assert_eq(late, 0);
    memset(times, 0, sizeof(times));
    highest = 0;
    send_numbered(b, a);
    cr_assert_eq(came, 2 * FRAMES);
    cr_assert_eq(late, 0);
    stop();
    cr_assert_eq(counted("lost="), 0);
    cr_assert_eq(counted("refused="), 0);
}

Test(forwarder, drops_duplicates_and_reorders_as_often_as_told, .timeout = TIMEOUT_S)
{
    uint32_t none = 0, twice = 0;

    start((const char *const[]){"--seed", "7", "--loss", "5", "--duplicate", "4", "--reorder", "3", NULL});
    send_numbered(a, b);
    stop();
    for (uint32_t i = 0; i < FRAMES; i++) {
        cr_assert_leq(times[i], 2);
        none += times[i] == 0;
        twice += times[i] == 2;
    }
    check_share(none, 5, "lost");
    check_share(twice, 4, "duplicated");
    cr_assert_eq(counted("lost="), none);
    cr_assert_eq(counted("duplicated="), twice);
    check_share(counted("reordered="), 3, "reordered");
    cr_assert_gt(late, FRAMES * 3 / 100 / 2, "frames held back arrive behind later ones");
    cr_assert_eq(counted("held_full="), 0);
}

Test(forwarder, delay_holds_every_frame_back_in_order, .timeout = TIMEOUT_S)
{
    uint8_t frame[100];
    struct pktbuf pkt, *pkts[] = {&pkt};
    struct timespec from, to;

    start((const char *const[]){"--seed", "7", "--delay-us", "50000", NULL});
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (uint32_t i = 0; i < 20; i++) {
        uint8_t body[4];
        frame_put32(body, i);
        pkt = frame_pkt(frame, frame_udp(frame, &end_a, &end_b, body, sizeof(body)));
        cr_assert_eq(a->ops->tx_burst(a, pkts, 1), 1);
    }
    struct pollfd pfd = {.fd = b->ops->wait_fd(b), .events = POLLIN};
    cr_assert_eq(poll(&pfd, 1, 5000), 1);
    clock_gettime(CLOCK_MONOTONIC, &to);
    double took_ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
    cr_assert_geq(took_ms, 50.0);
    collect(b, QUIET_MS, take_numbered);
    cr_assert_eq(came, 20);
    cr_assert_eq(late, 0);
    stop();
}

#define GSO_BYTES 60000u
#define GSO_SIZE  1448u

static uint32_t gso_bytes, gso_frames, gso_whole;

static void take_tcp(const struct pktbuf *pkt)
{
    uint32_t hdr = FRAME_ETH + FRAME_IP4 + FRAME_TCP;
    uint32_t at = frame_get32(pkt->data + 38);

    for (uint32_t i = 0; i < pkt->len - hdr; i++)
        cr_assert_eq(pkt->data[hdr + i], frame_pattern(at + i));
    gso_frames++;
    gso_bytes += pkt->len - hdr;
    if (pkt->gso_type == PKT_GSO_TCP4) {
        gso_whole++;
        cr_assert_eq(pkt->gso_size, GSO_SIZE);
        cr_assert_eq(pkt->flags, PKT_CSUM_PARTIAL);
    } else if (!(pkt->flags & (PKT_CSUM_PARTIAL | PKT_CSUM_GOOD))) {
        cr_assert(frame_is_right(pkt->data, pkt->len));
    }
}

static void send_gso(void)
{
    static uint8_t frame[FRAME_BYTES_MAX];
    uint32_t l4 = frame_ip4(frame, &end_a, &end_b, 6, FRAME_TCP + GSO_BYTES);
    uint32_t hdr = l4 + frame_tcp(frame + l4, frame + FRAME_ETH, 1, 2, 0, 0, TCP_ACK, GSO_BYTES);
    struct pktbuf pkt = frame_pkt(frame, hdr + GSO_BYTES), *pkts[] = {&pkt};

    for (uint32_t i = 0; i < GSO_BYTES; i++)
        frame[hdr + i] = frame_pattern(i);
    pkt.flags = PKT_CSUM_PARTIAL;
    pkt.csum_start = (uint16_t)l4;
    pkt.csum_offset = TCP_CSUM_OFFSET;
    pkt.gso_type = PKT_GSO_TCP4;
    pkt.gso_size = GSO_SIZE;
    pkt.hdr_len = (uint16_t)hdr;
    cr_assert_eq(a->ops->tx_burst(a, pkts, 1), 1);
    collect(b, QUIET_MS, take_tcp);
}

Test(forwarder, tso_frame_passes_whole_with_its_partial_checksum, .timeout = TIMEOUT_S)
{
    start((const char *const[]){"--seed", "7", NULL});
    send_gso();
    stop();
    cr_assert_eq(gso_whole, 1);
    cr_assert_eq(gso_frames, 1);
    cr_assert_eq(gso_bytes, GSO_BYTES);
}

Test(forwarder, split_cuts_a_tso_frame_into_finished_segments, .timeout = TIMEOUT_S)
{
    start((const char *const[]){"--seed", "7", "--split", NULL});
    send_gso();
    stop();
    cr_assert_eq(gso_whole, 0);
    cr_assert_eq(gso_frames, (GSO_BYTES + GSO_SIZE - 1) / GSO_SIZE);
    cr_assert_eq(gso_bytes, GSO_BYTES);
    cr_assert_eq(counted("split="), 1);
}

Test(forwarder, bad_arguments_are_refused_with_the_usage, .timeout = TIMEOUT_S)
{
    static const char *const bad[] = {"--loss 101",    "--loss -1", "--loss x",
                                      "--delay-us -5", "--seed 1x", "x"};
    const char *path = getenv("SOCKGATE_FORWARDER");
    char command[1000];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(command, sizeof(command), "'%s' --a lo --b lo %s 2>/dev/null", path, bad[i]);
        int status = system(command);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 2, "%s: %x", bad[i], status);
    }
}

int main(int argc, char *argv[])
{
    if (netns_tun_missing())
        return 77;
    struct criterion_test_set *tests = criterion_initialize();
    int result = criterion_handle_args(argc, argv, true) ? !criterion_run_all_tests(tests) : 0;
    criterion_finalize(tests);
    return result;
}

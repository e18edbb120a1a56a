/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a frame costs through the `tap:` device (bursts over io_uring), beside one read(2) or writev(2) for
 * each frame on the same descriptor. In a network namespace of its own:
 *
 *     this program  == tap:bench == bench  10.9.0.1/24, a UDP socket
 *
 * Usage: tap_rate [--quick]. Prints nanoseconds for each frame, system calls and kernel work included; status
 * 77 where there is no TAP driver.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "hw/device.h"
#include "hw/vnet.h"

#define FRAMES_QUEUED 512 /* of a round; the interface's queue holds 1000 */
#define PAYLOAD_BYTES 22  /* a frame of 64 bytes */
#define FRAME_BYTES   64
#define TX_ROUNDS     16 /* bursts of a round */

static struct device *dev;
static unsigned queues;
static int udp;
static struct sockaddr_in peer = {.sin_family = AF_INET};

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "tap_rate: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static double now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void set_up(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    struct device_caps caps;
    struct ifreq ifr = {.ifr_name = "bench"};
    struct arpreq arp;
    char errbuf[200];
    int bytes = 4 << 20;

    if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
        die("cannot make a network namespace");
    if (device_open("tap:bench", &(struct device_params){0}, &dev, &queues, errbuf, sizeof(errbuf))) {
        fprintf(stderr, "tap_rate: %s\n", errbuf);
        exit(EXIT_FAILURE);
    }
    dev->ops->caps(dev, &caps);
    udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (udp < 0 || setsockopt(udp, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)))
        die("socket");
    inet_pton(AF_INET, "10.9.0.1", &sa.sin_addr);
    memcpy(&ifr.ifr_addr, &sa, sizeof(sa));
    if (ioctl(udp, SIOCSIFADDR, &ifr))
        die("address");
    inet_pton(AF_INET, "10.9.0.2", &peer.sin_addr);
    memset(&arp, 0, sizeof(arp));
    memcpy(&arp.arp_pa, &peer, sizeof(peer));
    memcpy(arp.arp_ha.sa_data, caps.mac, sizeof(caps.mac));
    arp.arp_ha.sa_family = ARPHRD_ETHER;
    arp.arp_flags = ATF_PERM | ATF_COM;
    strcpy(arp.arp_dev, "bench");
    if (ioctl(udp, SIOCSARP, &arp))
        die("neighbour");
    peer.sin_port = htons(9);
}

static void fill_queue(unsigned frames)
{
    static const char payload[PAYLOAD_BYTES];

    for (unsigned i = 0; i < frames; i++)
        if (sendto(udp, payload, sizeof(payload), 0, (struct sockaddr *)&peer, sizeof(peer)) < 0)
            die("sendto");
}

static unsigned read_bursts(void)
{
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    unsigned frames = 0;

    do {
        int n = dev->ops->rx_burst(dev, pkts, DEV_RX_BURST_MAX);
        if (n < 0)
            die("rx_burst");
        frames += (unsigned)n;
    } while (dev->ops->rx_pending(dev));
    return frames;
}

static unsigned read_singly(void)
{
    static char buf[70000];
    unsigned frames = 0;

    while (read(dev->ops->wait_fd(dev), buf, sizeof(buf)) > 0)
        frames++;
    return frames;
}

/** Frames to nobody: the kernel drops them as early as it can, so that the device's own cost stands out. */
static void frame_to_nobody(uint8_t frame[FRAME_BYTES])
{
    memset(frame, 0, FRAME_BYTES);
    frame[0] = 0x02;
    frame[5] = 0x99;
    frame[12] = 0x08;
}

static unsigned write_bursts(unsigned burst)
{
    static uint8_t frames[DEV_TX_BURST_MAX][FRAME_BYTES];
    struct pktbuf bufs[DEV_TX_BURST_MAX], *pkts[DEV_TX_BURST_MAX];

    for (unsigned i = 0; i < DEV_TX_BURST_MAX; i++) {
        frame_to_nobody(frames[i]);
        bufs[i] = (struct pktbuf){.data = frames[i], .len = FRAME_BYTES, .total = FRAME_BYTES};
        pkts[i] = &bufs[i];
    }
    for (unsigned i = 0; i < TX_ROUNDS; i++)
        if (dev->ops->tx_burst(dev, pkts, burst) != (int)burst)
            die("tx_burst");
    return TX_ROUNDS * burst;
}

static unsigned write_64(void)
{
    return write_bursts(64);
}

static unsigned write_4(void)
{
    return write_bursts(4);
}

static unsigned write_2(void)
{
    return write_bursts(2);
}

static unsigned write_1(void)
{
    return write_bursts(1);
}

static unsigned write_singly(void)
{
    static const uint8_t hdr[VNET_HDR_BYTES];
    uint8_t frame[FRAME_BYTES];
    struct iovec iov[2] = {{(void *)hdr, sizeof(hdr)}, {frame, sizeof(frame)}};

    frame_to_nobody(frame);
    for (unsigned i = 0; i < TX_ROUNDS * DEV_TX_BURST_MAX; i++)
        if (writev(dev->ops->wait_fd(dev), iov, 2) < 0)
            die("writev");
    return TX_ROUNDS * DEV_TX_BURST_MAX;
}

/** The median of the rounds, in nanoseconds a frame. */
static double measure(unsigned (*move)(void), unsigned queued, unsigned rounds)
{
    double *took = calloc(rounds, sizeof(*took));
    double median;

    if (!took)
        die("memory");
    for (unsigned i = 0; i < rounds; i++) {
        fill_queue(queued);
        double from = now_ns();
        unsigned frames = move();
        took[i] = (now_ns() - from) / (frames ? frames : 1);
        if (frames < queued) {
            fprintf(stderr, "tap_rate: %u of %u frames came\n", frames, queued);
            exit(EXIT_FAILURE);
        }
    }
    for (unsigned i = 1; i < rounds; i++)
        for (unsigned k = i; k > 0 && took[k - 1] > took[k]; k--) {
            double swap = took[k];
            took[k] = took[k - 1];
            took[k - 1] = swap;
        }
    median = took[rounds / 2];
    free(took);
    return median;
}

int main(int argc, char *argv[])
{
    unsigned rounds = argc > 1 && !strcmp(argv[1], "--quick") ? 20 : 1000;
    static const struct {
        const char *what;
        unsigned (*move)(void);
        unsigned queued;
    } cases[] = {
        {"receive, 512 waiting, bursts", read_bursts, FRAMES_QUEUED},
        {"receive, 512 waiting, read()", read_singly, FRAMES_QUEUED},
        {"receive, 64 waiting, bursts", read_bursts, 64},
        {"receive, 64 waiting, read()", read_singly, 64},
        {"receive, 8 waiting, bursts", read_bursts, 8},
        {"receive, 8 waiting, read()", read_singly, 8},
        {"receive, 3 waiting, bursts", read_bursts, 3},
        {"receive, 3 waiting, read()", read_singly, 3},
        {"receive, 1 waiting, bursts", read_bursts, 1},
        {"receive, 1 waiting, read()", read_singly, 1},
        {"receive, none waiting, bursts", read_bursts, 0},
        {"receive, none waiting, read()", read_singly, 0},
        {"send, bursts of 64", write_64, 0},
        {"send, bursts of 4", write_4, 0},
        {"send, bursts of 2", write_2, 0},
        {"send, bursts of 1", write_1, 0},
        {"send, writev()", write_singly, 0},
    };

    if (access("/dev/net/tun", F_OK)) {
        printf("skipped: /dev/net/tun is missing\n");
        return 77;
    }
    set_up();
    (void)read_singly();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        printf("%-32s %8.0f ns a frame\n", cases[i].what, measure(cases[i].move, cases[i].queued, rounds));
    dev->ops->close(dev);
    close(udp);
    return EXIT_SUCCESS;
}

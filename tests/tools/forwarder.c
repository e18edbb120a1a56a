/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sockgate-forwarder: a bad wire between two interfaces of one namespace, for end-to-end tests.
 *
 *     kernel under test == a  (forwarder)  b == tap of the daemon under test
 *
 * Each frame that comes in on one interface goes out on the other, or meets one of the fates asked for. Both
 * interfaces should have no addresses, so that this namespace's own stack stays out of it.
 *
 * Offloads may stay on: the sockets carry the virtio-net header (PACKET_VNET_HDR), which is passed on with
 * the frame, so partial checksums and TSO frames arrive as they were sent. A TSO frame is one frame to the
 * fates: at 5 % loss, 64 KiB in 20 go, and a stream between two kernels meets a loss only every megabyte.
 * With --split they are cut into segments first, as a network card would, and each is lost or kept by itself.
 *
 * VLAN tags are not carried: the kernel hands them over beside the frame.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "hw/offload.h"
#include "hw/vnet.h"

#define PPM_PER_PERCENT 10000
#define PPM             1000000u
/* Frames held back at once, and their bytes. With a delay one more is lost, as in a router's queue; without
 * one it is sent at once. */
#define HELD_MAX        32768u
#define HELD_BYTES_MAX  (64u << 20)
#define BURST_MAX       64u /* frames of one side before the other has its turn */
#define SOCKET_BYTES    (32 << 20)
#define REORDER_MIN_US  1000u
#define REORDER_MAX_US  5000u
#define DELAY_MAX_US    10000000u
#define MESSAGE_BYTES   (VNET_HDR_BYTES + FRAME_BYTES_MAX)
#define EXIT_USAGE      2
#define IP4_HDR_BYTES   20u
#define IP6_HDR_BYTES   40u
#define ECN_MASK        3u

enum { SIDE_A, SIDE_B, SIDES };

struct options {
    const char *ifname[SIDES];
    uint32_t loss_ppm, reorder_ppm, duplicate_ppm, mark_ppm;
    uint32_t longest; /* bytes of an IP packet, 0: any */
    uint64_t delay_us;
    uint64_t seed;
    bool split;
};

/** One direction, named after the side that the frames come from. */
struct counters {
    uint64_t received, forwarded, lost, reordered, duplicated, marked, too_long, split, held_full, refused;
};

struct side {
    int fd;
    struct counters count;
};

/** A message (virtio-net header and frame) that waits for its time. */
struct held {
    uint64_t due_us;
    uint64_t order;
    uint8_t *message;
    uint32_t bytes;
    unsigned from;
};

static struct options opt;
static struct side side[SIDES];
static struct held heap[HELD_MAX];
static uint32_t heap_count;
static uint64_t heap_bytes, heap_order;
static uint64_t random_state;
static volatile sig_atomic_t stopped;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
    va_list args;

    fputs("sockgate-forwarder: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(EXIT_FAILURE);
}

static uint64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/** SplitMix64. */
static uint64_t random_next(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool strikes(uint32_t ppm)
{
    return (random_next() >> 32) * PPM >> 32 < ppm;
}

/* ---- Frames held back ------------------------------------------------------------------------ */

static bool held_before(const struct held *a, const struct held *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

/** Keep a copy until due_us; false when there is no room. */
static bool held_push(unsigned from, const uint8_t *message, uint32_t bytes, uint64_t due_us)
{
    if (heap_count == HELD_MAX || heap_bytes + bytes > HELD_BYTES_MAX)
        return false;
    struct held item = {.due_us = due_us, .order = heap_order++, .bytes = bytes, .from = from};
    item.message = malloc(bytes);
    if (!item.message)
        return false;
    memcpy(item.message, message, bytes);
    heap_bytes += bytes;
    uint32_t i = heap_count++;
    for (; i > 0 && held_before(&item, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
    return true;
}

static struct held held_pop(void)
{
    struct held first = heap[0], item = heap[--heap_count];
    uint32_t i = 0;

    for (uint32_t child = 1; child < heap_count; child = 2 * i + 1) {
        child += child + 1 < heap_count && held_before(&heap[child + 1], &heap[child]);
        if (held_before(&item, &heap[child]))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = item;
    heap_bytes -= first.bytes;
    return first;
}

/* ---- Forwarding ------------------------------------------------------------------------------ */

static void send_message(unsigned from, const uint8_t *message, uint32_t bytes)
{
    ssize_t n;

    do
        n = send(side[1 - from].fd, message, bytes, 0);
    while (n < 0 && errno == EINTR && !stopped);
    /* A wire that is down or full loses frames; that is for the statistics and not the end. */
    if (n == (ssize_t)bytes)
        side[from].count.forwarded++;
    else
        side[from].count.refused++;
}

static void send_due(uint64_t now)
{
    while (heap_count && heap[0].due_us <= now) {
        struct held item = held_pop();
        send_message(item.from, item.message, item.bytes);
        free(item.message);
    }
}

/** Say "congestion experienced" in a packet whose ends speak ECN (RFC 3168 5), as a router does. */
static bool mark(uint8_t *frame, uint32_t bytes)
{
    uint8_t *ip = frame + ETH_HDR_BYTES;
    uint16_t type = (uint16_t)(frame[ETH_HDR_BYTES - 2] << 8 | frame[ETH_HDR_BYTES - 1]);

    if (type == ETH_P_IPV6 && bytes >= ETH_HDR_BYTES + IP6_HDR_BYTES && ip[1] >> 4 & ECN_MASK) {
        ip[1] |= ECN_MASK << 4; /* the traffic class lies across two bytes */
        return true;
    }
    if (type != ETH_P_IP || bytes < ETH_HDR_BYTES + IP4_HDR_BYTES || !(ip[1] & ECN_MASK))
        return false;
    ip[1] |= ECN_MASK;
    memset(ip + 10, 0, 2);
    uint16_t sum = htons(offload_csum(ip, (ip[0] & 15u) * 4, 0));
    memcpy(ip + 10, &sum, 2);
    return true;
}

/** One message meets its fate. */
static void forward(unsigned from, uint8_t *message, uint32_t bytes, uint64_t now)
{
    struct counters *count = &side[from].count;
    unsigned copies = 1;

    if (opt.longest && bytes - VNET_HDR_BYTES - ETH_HDR_BYTES > opt.longest) {
        count->too_long++;
        return;
    }
    if (opt.mark_ppm && strikes(opt.mark_ppm))
        count->marked += mark(message + VNET_HDR_BYTES, bytes - VNET_HDR_BYTES);
    if (strikes(opt.loss_ppm)) {
        count->lost++;
        return;
    }
    if (strikes(opt.duplicate_ppm)) {
        count->duplicated++;
        copies++;
    }
    for (unsigned i = 0; i < copies; i++) {
        uint64_t wait_us = opt.delay_us;
        if (i == 0 && strikes(opt.reorder_ppm)) {
            wait_us += REORDER_MIN_US + random_next() % (REORDER_MAX_US - REORDER_MIN_US + 1);
            count->reordered++;
        }
        if (wait_us && held_push(from, message, bytes, now + wait_us))
            continue;
        count->held_full += wait_us > 0;
        if (opt.delay_us) /* never ahead of those that wait */
            continue;
        send_message(from, message, bytes);
    }
}

/** Cut a TSO message into plain ones; false when it is none, or not one that can be cut. */
static bool forward_split(unsigned from, uint8_t *message, uint32_t bytes, uint64_t now)
{
    static uint8_t out[MESSAGE_BYTES]; /* the header of a plain message is all zero */
    struct virtio_net_hdr hdr;
    struct pktbuf pkt = {.data = message + VNET_HDR_BYTES, .len = bytes - VNET_HDR_BYTES};
    struct tcp_layout layout;

    pkt.total = pkt.len;
    memcpy(&hdr, message, sizeof(hdr));
    if (vnet_hdr_parse(&hdr, &pkt) || pkt.gso_type == PKT_GSO_NONE ||
        offload_tcp_layout(pkt.data, pkt.len, pkt.gso_type, &layout))
        return false;
    uint32_t count = offload_segment_count(&layout, pkt.total, pkt.gso_size);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t len = offload_segment(pkt.data, pkt.total, &layout, pkt.gso_size, i, out + VNET_HDR_BYTES);
        forward(from, out, VNET_HDR_BYTES + len, now);
    }
    side[from].count.split++;
    return true;
}

/** Take a burst of frames from one side. */
static void receive(unsigned from, uint64_t now)
{
    static uint8_t message[MESSAGE_BYTES + 1];

    for (unsigned i = 0; i < BURST_MAX && !stopped; i++) {
        ssize_t n = recv(side[from].fd, message, sizeof(message), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENETDOWN))
            return;
        if (n < 0)
            die("%s: receiving: %s", opt.ifname[from], strerror(errno));
        side[from].count.received++;
        if (n < (ssize_t)(VNET_HDR_BYTES + ETH_HDR_BYTES) || n > (ssize_t)MESSAGE_BYTES) {
            side[from].count.refused++;
            continue;
        }
        if (!opt.split || !forward_split(from, message, (uint32_t)n, now))
            forward(from, message, (uint32_t)n, now);
    }
}

static void run(const sigset_t *wait_mask)
{
    struct pollfd pfd[SIDES];

    for (unsigned i = 0; i < SIDES; i++)
        pfd[i] = (struct pollfd){.fd = side[i].fd, .events = POLLIN};
    while (!stopped) {
        struct timespec wait, *timeout = NULL;
        uint64_t now = now_us();
        if (heap_count) {
            uint64_t wait_us = heap[0].due_us > now ? heap[0].due_us - now : 0;
            wait = (struct timespec){.tv_sec = (time_t)(wait_us / 1000000u),
                                     .tv_nsec = (long)(wait_us % 1000000u) * 1000};
            timeout = &wait;
        }
        if (ppoll(pfd, SIDES, timeout, wait_mask) < 0 && errno != EINTR)
            die("poll: %s", strerror(errno));
        now = now_us();
        send_due(now);
        for (unsigned i = 0; i < SIDES; i++)
            if (pfd[i].revents)
                receive(i, now);
    }
}

/* ---- Start and end --------------------------------------------------------------------------- */

static int open_side(const char *ifname)
{
    static const struct {
        int level, name, value;
        const char *what;
    } settings[] = {
        {SOL_PACKET, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR"},
        {SOL_PACKET, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING"}, /* or it would hear itself */
        {SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BYTES, "SO_RCVBUFFORCE"},
        {SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BYTES, "SO_SNDBUFFORCE"},
    };
    unsigned index = if_nametoindex(ifname);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    if (!index)
        die("%s: no such interface", ifname);
    if (fd < 0)
        die("cannot open a packet socket: %s (needs CAP_NET_RAW)", strerror(errno));
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        if (setsockopt(fd, settings[i].level, settings[i].name, &settings[i].value, sizeof(int)))
            die("%s: %s: %s", ifname, settings[i].what, strerror(errno));
    struct packet_mreq promisc = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};
    if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promisc, sizeof(promisc)))
        die("%s: promiscuous mode: %s", ifname, strerror(errno));
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
        die("%s: bind: %s", ifname, strerror(errno));
    return fd;
}

static void print_side(unsigned from)
{
    const struct counters *c = &side[from].count;
    struct tpacket_stats kernel = {0};
    socklen_t len = sizeof(kernel);

    (void)getsockopt(side[from].fd, SOL_PACKET, PACKET_STATISTICS, &kernel, &len);
    printf(" %s>%s received=%" PRIu64 " forwarded=%" PRIu64 " lost=%" PRIu64 " reordered=%" PRIu64
           " duplicated=%" PRIu64 " marked=%" PRIu64 " too_long=%" PRIu64 " split=%" PRIu64
           " held_full=%" PRIu64 " refused=%" PRIu64 " kernel_drops=%u",
           opt.ifname[from], opt.ifname[1 - from], c->received, c->forwarded, c->lost, c->reordered,
           c->duplicated, c->marked, c->too_long, c->split, c->held_full, c->refused, kernel.tp_drops);
}

static const char usage[] =
    "usage: sockgate-forwarder --a IF --b IF [options]\n"
    "  --loss P        percent of the frames to drop, each direction (0 .. 100, fractions allowed)\n"
    "  --reorder P     percent to hold back for 1 to 5 ms\n"
    "  --duplicate P   percent to send twice\n"
    "  --mark P        percent to mark \"congestion experienced\", of those that ECN allows it for\n"
    "  --longest N     drop IP packets of more than N bytes, and tell nobody: a black hole\n"
    "  --delay-us N    hold every frame back for N microseconds\n"
    "  --split         cut TSO frames into segments, so that each meets its own fate\n"
    "  --seed N        of the generator that decides; default: from the clock. Printed at start\n"
    "Prints one line when it is ready, and one with statistics at SIGTERM or SIGINT.\n";

static void usage_error(const char *option, const char *value)
{
    fprintf(stderr, "sockgate-forwarder: %s: bad value \"%s\"\n%s", option, value, usage);
    exit(EXIT_USAGE);
}

static uint32_t parse_percent(const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0 && value <= 100))
        usage_error(option, text);
    return (uint32_t)(value * PPM_PER_PERCENT + 0.5);
}

static uint64_t parse_number(const char *option, const char *text, uint64_t max)
{
    char *end;

    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (end == text || *end || errno || *text == '-' || value > max)
        usage_error(option, text);
    return value;
}

static void parse_options(int argc, char *argv[])
{
    static const struct option longs[] = {
        {"a", required_argument, NULL, 'a'},
        {"b", required_argument, NULL, 'b'},
        {"loss", required_argument, NULL, 'l'},
        {"reorder", required_argument, NULL, 'r'},
        {"duplicate", required_argument, NULL, 'd'},
        {"mark", required_argument, NULL, 'm'},
        {"longest", required_argument, NULL, 'n'},
        {"delay-us", required_argument, NULL, 'y'},
        {"split", no_argument, NULL, 's'},
        {"seed", required_argument, NULL, 'e'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;

    opt.seed = now_us() ^ (uint64_t)getpid() << 32;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'a':
        case 'b':
            opt.ifname[c - 'a'] = optarg;
            break;
        case 'l':
            opt.loss_ppm = parse_percent("--loss", optarg);
            break;
        case 'r':
            opt.reorder_ppm = parse_percent("--reorder", optarg);
            break;
        case 'd':
            opt.duplicate_ppm = parse_percent("--duplicate", optarg);
            break;
        case 'm':
            opt.mark_ppm = parse_percent("--mark", optarg);
            break;
        case 'n':
            opt.longest = (uint32_t)parse_number("--longest", optarg, UINT16_MAX);
            break;
        case 'y':
            opt.delay_us = parse_number("--delay-us", optarg, DELAY_MAX_US);
            break;
        case 's':
            opt.split = true;
            break;
        case 'e':
            opt.seed = parse_number("--seed", optarg, UINT64_MAX);
            break;
        case 'h':
            fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        default:
            fputs(usage, stderr);
            exit(EXIT_USAGE);
        }
    }
    if (optind != argc || !opt.ifname[SIDE_A] || !opt.ifname[SIDE_B]) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
}

int main(int argc, char *argv[])
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t stop_signals, wait_mask;

    parse_options(argc, argv);
    /* Taken only while waiting, so that none slips in between the check and the wait. */
    sigemptyset(&stop_signals);
    sigaddset(&stop_signals, SIGTERM);
    sigaddset(&stop_signals, SIGINT);
    sigprocmask(SIG_BLOCK, &stop_signals, &wait_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    random_state = opt.seed;
    for (unsigned i = 0; i < SIDES; i++)
        side[i].fd = open_side(opt.ifname[i]);
    printf("sockgate-forwarder: ready a=%s b=%s seed=%" PRIu64 "\n", opt.ifname[SIDE_A], opt.ifname[SIDE_B],
           opt.seed);
    fflush(stdout);
    run(&wait_mask);

    printf("sockgate-forwarder: seed=%" PRIu64, opt.seed);
    print_side(SIDE_A);
    fputc(';', stdout);
    print_side(SIDE_B);
    fputc('\n', stdout);
    while (heap_count)
        free(held_pop().message);
    return EXIT_SUCCESS;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TAP device against the kernel's own TCP/IP, in a namespace of each test's own:
 *
 *     this test, by hand              kernel
 *     10.9.0.2  == tap:sg0 ==  sg0  10.9.0.1/24
 *
 * What no kernel does on demand (a full queue, a header that lies) is shown over a socket pair instead.
 */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/virtio_net.h>

#include "hw/offload.h"
#include "hw/tap.h"
#include "hw/vnet.h"
#include "hw/vnet_fd.h"
#include "tests/unit/hw/frames.h"
#include "tests/unit/hw/netns.h"

#define WAIT_MS    5000
#define HDR_BYTES  (FRAME_ETH + FRAME_IP4 + FRAME_TCP)
#define TIMEOUT_S  30
#define GSO_SIZE   1460
#define GSO_BYTES  60000u
#define STREAM_MAX (4u << 20)

static struct device *dev;
static unsigned queues;
static struct device_caps caps;
static struct frame_addr us = {.ip = {10, 9, 0, 2}, .port = 2000};
static struct frame_addr kernel = {.ip = {10, 9, 0, 1}, .port = 1000};
static int ctl;

static struct ifreq ifreq_of(const char *name)
{
    struct ifreq ifr;

    memset(&ifr, 0, sizeof(ifr));
    strcpy(ifr.ifr_name, name);
    return ifr;
}

static struct sockaddr_in sockaddr_of(const struct frame_addr *addr)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(addr->port)};

    memcpy(&sa.sin_addr, addr->ip, 4);
    return sa;
}

static void set_addr(struct ifreq *ifr, unsigned long request, const char *addr)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};

    cr_assert_eq(inet_pton(AF_INET, addr, &sa.sin_addr), 1);
    memcpy(&ifr->ifr_addr, &sa, sizeof(sa));
    cr_assert_eq(ioctl(ctl, request, ifr), 0);
}

/** Open tap:sg0 and give the kernel's side its address. */
static void tap_up(void)
{
    struct ifreq ifr = ifreq_of("sg0");
    char errbuf[200] = "";

    netns_enter();
    cr_assert_eq(tap_open("sg0", &(struct device_params){0}, &dev, &queues, errbuf, sizeof(errbuf)), 0, "%s",
                 errbuf);
    dev->ops->caps(dev, &caps);
    memcpy(us.mac, caps.mac, 6);
    ctl = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(ctl, 0);
    set_addr(&ifr, SIOCSIFADDR, "10.9.0.1");
    set_addr(&ifr, SIOCSIFNETMASK, "255.255.255.0");
    cr_assert_eq(ioctl(ctl, SIOCGIFHWADDR, &ifr), 0);
    memcpy(kernel.mac, ifr.ifr_hwaddr.sa_data, 6);
}

/** Tell the kernel our address, for the tests that are not about ARP. */
static void neighbour_set(void)
{
    struct sockaddr_in sa = sockaddr_of(&us);
    struct arpreq arp;

    memset(&arp, 0, sizeof(arp));
    memcpy(&arp.arp_pa, &sa, sizeof(sa));
    memcpy(arp.arp_ha.sa_data, us.mac, 6);
    arp.arp_ha.sa_family = ARPHRD_ETHER;
    arp.arp_flags = ATF_PERM | ATF_COM;
    strcpy(arp.arp_dev, "sg0");
    cr_assert_eq(ioctl(ctl, SIOCSARP, &arp), 0);
}

static void tap_up_with_neighbour(void)
{
    tap_up();
    neighbour_set();
}

static void tap_down(void)
{
    dev->ops->close(dev);
    close(ctl);
}

static bool readable(int timeout_ms)
{
    struct pollfd pfd = {.fd = dev->ops->wait_fd(dev), .events = POLLIN};

    return poll(&pfd, 1, timeout_ms) == 1;
}

/** The next frame that is of interest: ARP, or IPv4 for us. Waits as a worker would. */
static struct pktbuf *receive(void)
{
    struct pktbuf *pkt;

    for (;;) {
        int n = dev->ops->rx_burst(dev, &pkt, 1);
        cr_assert_geq(n, 0, "rx_burst: %d", n);
        if (n == 0) {
            cr_assert(dev->ops->rx_pending(dev) || readable(WAIT_MS), "no frame came");
            continue;
        }
        unsigned ethertype = frame_get16(pkt->data + 12);
        if (ethertype == 0x0806 || (ethertype == 0x0800 && !memcmp(pkt->data + 30, us.ip, 4)))
            return pkt;
    }
}

static void drain(void)
{
    struct pktbuf *pkts[DEV_RX_BURST_MAX];

    while (dev->ops->rx_burst(dev, pkts, DEV_RX_BURST_MAX) > 0 || dev->ops->rx_pending(dev))
        continue;
}

static void send_pkt(struct pktbuf *pkt)
{
    cr_assert_eq(dev->ops->tx_burst(dev, &pkt, 1), 1);
}

static void send_frame(uint8_t *frame, uint32_t len)
{
    struct pktbuf pkt = frame_pkt(frame, len);

    send_pkt(&pkt);
}

static int kernel_udp(void)
{
    struct sockaddr_in sa = sockaddr_of(&kernel);
    struct timeval wait = {.tv_sec = WAIT_MS / 1000};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int bytes = 4 << 20;

    cr_assert_geq(fd, 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

static void kernel_sends(int fd, const void *bytes, size_t len)
{
    struct sockaddr_in sa = sockaddr_of(&us);

    cr_assert_eq(sendto(fd, bytes, len, 0, (struct sockaddr *)&sa, sizeof(sa)), (ssize_t)len);
}

static struct device_stats stats_now(void)
{
    struct device_stats stats;

    dev->ops->stats(dev, &stats);
    return stats;
}

/* ---- What the device says of itself ---------------------------------------------------------- */

Test(tap, link_is_up_and_caps_are_those_of_the_interface, .init = tap_up, .fini = tap_down,
     .timeout = TIMEOUT_S)
{
    struct ifreq ifr = ifreq_of("sg0");

    cr_assert_eq(ioctl(ctl, SIOCGIFFLAGS, &ifr), 0);
    cr_assert_eq(ifr.ifr_flags & (IFF_UP | IFF_RUNNING), IFF_UP | IFF_RUNNING);
    cr_assert_eq(caps.mtu, 1500);
    cr_assert_eq(caps.offloads, DEV_TX_CSUM | DEV_TX_TSO4 | DEV_TX_TSO6 | DEV_RX_CSUM | DEV_RX_GRO);
    cr_assert_eq(caps.tx_frame_max, FRAME_BYTES_MAX);
    cr_assert_eq(caps.mac[0] & 3, 2, "locally administered, unicast");
    cr_assert_neq(memcmp(caps.mac, kernel.mac, 6), 0);
}

Test(tap, own_mac_is_stable_by_name_and_a_given_one_is_kept, .init = netns_enter, .timeout = TIMEOUT_S)
{
    static const uint8_t mine[6] = {2, 0xaa, 0xbb, 0xcc, 0xdd, 0xee};
    static const char *const names[] = {"sg0", "sg0", "sg1", "sg0"};
    uint8_t macs[4][6];
    char errbuf[200] = "";

    for (unsigned i = 0; i < 4; i++) {
        struct device_params params = {.mac = i == 3 ? mine : NULL};
        cr_assert_eq(tap_open(names[i], &params, &dev, &queues, errbuf, sizeof(errbuf)), 0, "%s", errbuf);
        dev->ops->caps(dev, &caps);
        memcpy(macs[i], caps.mac, 6);
        dev->ops->close(dev);
    }
    cr_assert_eq(memcmp(macs[0], macs[1], 6), 0);
    cr_assert_neq(memcmp(macs[0], macs[2], 6), 0);
    cr_assert_eq(memcmp(macs[3], mine, 6), 0);
}

Test(tap, mtu_given_is_set_on_the_interface, .init = netns_enter, .timeout = TIMEOUT_S)
{
    struct ifreq ifr = ifreq_of("sg0");
    char errbuf[200] = "";

    cr_assert_eq(tap_open("sg0", &(struct device_params){.mtu = 1400}, &dev, &queues, errbuf, sizeof(errbuf)),
                 0, "%s", errbuf);
    dev->ops->caps(dev, &caps);
    cr_assert_eq(caps.mtu, 1400);
    ctl = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(ioctl(ctl, SIOCGIFMTU, &ifr), 0);
    cr_assert_eq(ifr.ifr_mtu, 1400);
    tap_down();
}

Test(tap, name_is_free_as_soon_as_the_device_is_closed, .init = netns_enter, .timeout = TIMEOUT_S)
{
    char errbuf[200] = "";

    for (unsigned i = 0; i < 50; i++) {
        cr_assert_eq(tap_open("sg0", &(struct device_params){0}, &dev, &queues, errbuf, sizeof(errbuf)), 0,
                     "%u: %s", i, errbuf);
        cr_assert_neq(if_nametoindex("sg0"), 0);
        dev->ops->close(dev);
        cr_assert_eq(if_nametoindex("sg0"), 0, "gone when close() returns");
    }
}

Test(tap, persistent_interface_is_attached_to_and_left_behind, .init = netns_enter, .timeout = TIMEOUT_S)
{
    char errbuf[200] = "";

    cr_assert_eq(system("ip tuntap add dev sg0 mode tap && ip link set sg0 mtu 1300"), 0);
    unsigned index = if_nametoindex("sg0");
    cr_assert_eq(tap_open("sg0", &(struct device_params){0}, &dev, &queues, errbuf, sizeof(errbuf)), 0, "%s",
                 errbuf);
    dev->ops->caps(dev, &caps);
    cr_assert_eq(caps.mtu, 1300);
    dev->ops->close(dev);
    cr_assert_eq(if_nametoindex("sg0"), index);
}

/* ---- Frames both ways ------------------------------------------------------------------------ */

Test(tap, arp_answered_by_hand_lets_the_kernels_datagram_through, .init = tap_up, .fini = tap_down,
     .timeout = TIMEOUT_S)
{
    int fd = kernel_udp();
    uint8_t reply[60] = {0};

    kernel_sends(fd, "over to you", 11);
    struct pktbuf *pkt = receive();
    cr_assert_eq(frame_get16(pkt->data + 12), 0x0806);
    cr_assert_eq(frame_get16(pkt->data + 20), 1, "a request");
    cr_assert_eq(memcmp(pkt->data + 38, us.ip, 4), 0, "for our address");
    memcpy(reply, kernel.mac, 6);
    memcpy(reply + 6, us.mac, 6);
    memcpy(reply + 12, pkt->data + 12, 10);
    reply[21] = 2;
    memcpy(reply + 22, us.mac, 6);
    memcpy(reply + 28, us.ip, 4);
    memcpy(reply + 32, pkt->data + 22, 10);
    send_frame(reply, sizeof(reply));

    pkt = receive();
    cr_assert_eq(frame_get16(pkt->data + 12), 0x0800);
    cr_assert_eq(pkt->data[23], 17);
    cr_assert_eq(pkt->len, FRAME_ETH + FRAME_IP4 + FRAME_UDP + 11);
    cr_assert_eq(memcmp(pkt->data + 42, "over to you", 11), 0);
    cr_assert_eq(pkt->flags, PKT_CSUM_PARTIAL, "never on a wire, so not yet summed up");
    cr_assert_eq(pkt->csum_start, 34);
    cr_assert_eq(pkt->csum_offset, 6);
    cr_assert_eq(offload_csum_fill(pkt->data, pkt->len, 34, 6), 0);
    cr_assert(frame_is_right(pkt->data, pkt->len));
    close(fd);
}

Test(tap, udp_reaches_the_kernel_with_a_whole_and_with_a_partial_checksum, .init = tap_up_with_neighbour,
     .fini = tap_down, .timeout = TIMEOUT_S)
{
    uint8_t frame[200], body[20];
    int fd = kernel_udp();

    for (unsigned partial = 0; partial < 2; partial++) {
        uint32_t len = frame_udp(frame, &us, &kernel, partial ? "partial" : "whole  ", 7);
        struct pktbuf pkt = frame_pkt(frame, len);
        if (partial) {
            pkt.flags = PKT_CSUM_PARTIAL;
            pkt.csum_start = 34;
            pkt.csum_offset = 6;
            frame_put16(frame + 40, frame_pseudo(frame + FRAME_ETH, FRAME_UDP + 7));
        }
        send_pkt(&pkt);
        cr_assert_eq(recv(fd, body, sizeof(body), 0), 7);
        cr_assert_eq(memcmp(body, partial ? "partial" : "whole  ", 7), 0);
    }
    close(fd);
}

Test(tap, kernel_answers_an_echo_request, .init = tap_up_with_neighbour, .fini = tap_down,
     .timeout = TIMEOUT_S)
{
    uint8_t frame[100];
    uint32_t at = frame_ip4(frame, &us, &kernel, 1, 40);

    memset(frame + at, 0x5a, 40);
    frame_put32(frame + at, 8u << 24);
    frame_put16(frame + at + 2, ~frame_sum(frame + at, 40, 0) & 0xffff);
    send_frame(frame, at + 40);
    struct pktbuf *pkt = receive();
    cr_assert_eq(pkt->data[23], 1);
    cr_assert_eq(pkt->data[34], 0, "an echo reply");
    cr_assert_eq(pkt->len, at + 40);
    cr_assert_eq(memcmp(pkt->data + 38, frame + 38, 36), 0);
}

Test(tap, wait_fd_sleeps_when_idle_and_wakes_for_a_frame, .init = tap_up_with_neighbour, .fini = tap_down,
     .timeout = TIMEOUT_S)
{
    int fd = kernel_udp();
    struct pktbuf *pkt;

    drain();
    cr_assert_not(dev->ops->rx_pending(dev));
    cr_assert_not(readable(20));
    cr_assert_eq(dev->ops->rx_burst(dev, &pkt, 1), 0);
    kernel_sends(fd, "x", 1);
    cr_assert(readable(0));
    cr_assert_eq(dev->ops->rx_burst(dev, &pkt, 1), 1);
    cr_assert(dev->ops->rx_pending(dev), "as many as asked for: there may be more");
    cr_assert_eq(dev->ops->rx_burst(dev, &pkt, 1), 0);
    cr_assert_not(dev->ops->rx_pending(dev));
    close(fd);
}

Test(tap, busy_device_is_read_in_large_bursts_in_order_without_loss, .init = tap_up_with_neighbour,
     .fini = tap_down, .timeout = TIMEOUT_S)
{
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    unsigned frames = 0, calls = 0, largest = 0;
    int fd = kernel_udp();

    drain();
    for (uint32_t i = 0; i < 500; i++) {
        uint8_t body[100];
        frame_put32(body, i);
        memset(body + 4, (int)i, 96);
        kernel_sends(fd, body, sizeof(body));
    }
    do {
        int n = dev->ops->rx_burst(dev, pkts, DEV_RX_BURST_MAX);
        cr_assert_geq(n, 0);
        /* All frames of a burst are whole together: none lies in the buffer of another. */
        for (int i = 0; i < n; i++) {
            cr_assert_eq(frame_get32(pkts[i]->data + 42), frames + (unsigned)i);
            cr_assert_eq(pkts[i]->data[141], (uint8_t)(frames + (unsigned)i));
        }
        frames += (unsigned)n;
        largest = (unsigned)n > largest ? (unsigned)n : largest;
        calls++;
    } while (dev->ops->rx_pending(dev));
    cr_assert_not(readable(0), "not pending means that nothing waits");
    cr_assert_eq(frames, 500);
    cr_assert_eq(largest, DEV_RX_BURST_MAX);
    cr_assert_leq(calls, 16, "1 + 2 + 4 + ... + 32, then 64 each: %u calls", calls);
    cr_assert_eq(stats_now().rx_errors, 0);
    close(fd);
}

Test(tap, burst_to_send_arrives_whole_and_in_order, .init = tap_up_with_neighbour, .fini = tap_down,
     .timeout = TIMEOUT_S)
{
    static uint8_t frames[DEV_TX_BURST_MAX][100];
    struct pktbuf bufs[DEV_TX_BURST_MAX], *pkts[DEV_TX_BURST_MAX];
    int fd = kernel_udp();
    uint8_t body[100];

    for (uint32_t i = 0; i < DEV_TX_BURST_MAX; i++) {
        frame_put32(body, i);
        bufs[i] = frame_pkt(frames[i], frame_udp(frames[i], &us, &kernel, body, 20));
        pkts[i] = &bufs[i];
    }
    cr_assert_eq(dev->ops->tx_burst(dev, pkts, DEV_TX_BURST_MAX), (int)DEV_TX_BURST_MAX);
    /* Nothing may still look at the frames. */
    memset(frames, 0xee, sizeof(frames));
    for (uint32_t i = 0; i < DEV_TX_BURST_MAX; i++) {
        cr_assert_eq(recv(fd, body, sizeof(body), 0), 20);
        cr_assert_eq(frame_get32(body), i);
    }
    cr_assert_eq(stats_now().tx_frames, DEV_TX_BURST_MAX);
    cr_assert_eq(stats_now().tx_errors, 0);
    close(fd);
}

Test(tap, refused_frame_counts_as_taken_and_does_not_stop_the_others, .init = tap_up_with_neighbour,
     .fini = tap_down, .timeout = TIMEOUT_S)
{
    static uint8_t huge[FRAME_BYTES_MAX + 1];
    uint8_t good[100], body[100];
    int fd = kernel_udp();
    struct pktbuf too_long = frame_pkt(huge, sizeof(huge)), too_short = frame_pkt(huge, 10);
    struct pktbuf fine = frame_pkt(good, frame_udp(good, &us, &kernel, "good", 4));
    struct pktbuf *pkts[] = {&too_short, &fine, &too_long, &fine, &too_short};

    cr_assert_eq(dev->ops->tx_burst(dev, pkts, 5), 5);
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(recv(fd, body, sizeof(body), 0), 4);
    cr_assert_eq(stats_now().tx_errors, 3);
    cr_assert_eq(stats_now().tx_frames, 2);
    cr_assert_eq(stats_now().tx_full, 0);
    close(fd);
}

/* ---- Large frames ---------------------------------------------------------------------------- */

/** One TCP segment of ours, without a payload. */
static void send_tcp(uint32_t seq, uint32_t ack, unsigned flags)
{
    /* MSS 1460, window scale 8, three times nothing: 8 bytes of options on a SYN. */
    static const uint8_t options[8] = {2, 4, GSO_SIZE >> 8, GSO_SIZE & 0xff, 1, 3, 3, 8};
    unsigned opt = flags & TCP_SYN ? sizeof(options) : 0;
    uint8_t frame[HDR_BYTES + sizeof(options)];
    uint32_t l4 = frame_ip4(frame, &us, &kernel, 6, FRAME_TCP + opt);

    frame_tcp(frame + l4, frame + FRAME_ETH, us.port, kernel.port, seq, ack, flags, opt);
    memcpy(frame + HDR_BYTES, options, opt);
    frame[l4 + 12] = (uint8_t)((FRAME_TCP + opt) / 4 << 4);
    struct pktbuf pkt = frame_pkt(frame, HDR_BYTES + opt);
    pkt.flags = PKT_CSUM_PARTIAL;
    pkt.csum_start = (uint16_t)l4;
    pkt.csum_offset = TCP_CSUM_OFFSET;
    send_pkt(&pkt);
}

static uint32_t tcp_payload(const struct pktbuf *pkt, uint32_t *ret_at)
{
    *ret_at = FRAME_ETH + FRAME_IP4 + (pkt->data[46] >> 4) * 4u;
    return FRAME_ETH + frame_get16(pkt->data + 16) - *ret_at;
}

/** A frame above the MTU: the marks must say exactly how to cut it. */
static void check_large(const struct pktbuf *pkt, uint32_t hdr)
{
    cr_assert_eq(pkt->gso_type, PKT_GSO_TCP4);
    cr_assert_eq(pkt->hdr_len, hdr);
    cr_assert(pkt->gso_size > 1000 && pkt->gso_size + hdr <= 1500 + FRAME_ETH);
    cr_assert_eq(pkt->flags, PKT_CSUM_PARTIAL);
    cr_assert_eq(pkt->csum_start, 34);
    cr_assert_eq(pkt->csum_offset, TCP_CSUM_OFFSET);
    cr_assert_eq(pkt->len, pkt->total);
}

Test(tap, sixty_kib_of_kernel_tcp_arrive_as_one_frame, .init = tap_up_with_neighbour, .fini = tap_down,
     .timeout = TIMEOUT_S)
{
    struct sockaddr_in from = sockaddr_of(&kernel), to = sockaddr_of(&us);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    uint32_t largest = 0, received = 0, sent = 0, at;
    static uint8_t out[65536];

    cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), -1);
    cr_assert_eq(errno, EINPROGRESS);
    struct pktbuf *pkt = receive();
    cr_assert(pkt->data[47] & TCP_SYN);
    uint32_t next = frame_get32(pkt->data + 38) + 1;
    send_tcp(9000, next, TCP_SYN | TCP_ACK);

    /* Each acknowledgement lets the kernel's window grow until it sends as much at a time as a frame holds.
     */
    while (largest < GSO_BYTES && received < STREAM_MAX) {
        for (ssize_t n = 1; n > 0; sent += n > 0 ? (uint32_t)n : 0) {
            for (uint32_t i = 0; i < sizeof(out); i++)
                out[i] = frame_pattern(sent + i);
            n = send(fd, out, sizeof(out), MSG_NOSIGNAL);
        }
        pkt = receive();
        cr_assert_eq(pkt->data[23], 6);
        cr_assert_not(pkt->data[47] & TCP_FIN);
        uint32_t bytes = tcp_payload(pkt, &at);
        if (!bytes)
            continue;
        cr_assert_eq(frame_get32(pkt->data + 38), next, "nothing lost, nothing reordered");
        if (pkt->total > 1500 + FRAME_ETH)
            check_large(pkt, at);
        for (uint32_t i = 0; i < bytes; i++)
            cr_assert_eq(pkt->data[at + i], frame_pattern(received + i));
        largest = bytes > largest ? bytes : largest;
        received += bytes;
        next += bytes;
        send_tcp(9001, next, TCP_ACK);
    }
    cr_assert_geq(largest, GSO_BYTES, "the largest of %u bytes was %u", received, largest);
    cr_assert_eq(stats_now().rx_errors, 0);
    close(fd);
}

Test(tap, sixty_kib_frame_of_three_pieces_reaches_kernel_tcp, .init = tap_up_with_neighbour, .fini = tap_down,
     .timeout = TIMEOUT_S)
{
    struct sockaddr_in here = sockaddr_of(&kernel);
    struct timeval wait = {.tv_sec = WAIT_MS / 1000};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int bytes = 1 << 20;
    static uint8_t frame[HDR_BYTES + GSO_BYTES], got[GSO_BYTES];

    cr_assert_eq(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&here, sizeof(here)), 0);
    cr_assert_eq(listen(listener, 1), 0);
    send_tcp(1000, 0, TCP_SYN);
    struct pktbuf *reply = receive();
    cr_assert_eq(reply->data[47], TCP_SYN | TCP_ACK);
    uint32_t ack = frame_get32(reply->data + 38) + 1;
    send_tcp(1001, ack, TCP_ACK);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(fd, 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);

    uint32_t l4 = frame_ip4(frame, &us, &kernel, 6, FRAME_TCP + GSO_BYTES);
    frame_tcp(frame + l4, frame + FRAME_ETH, us.port, kernel.port, 1001, ack, TCP_ACK | TCP_PSH, GSO_BYTES);
    for (uint32_t i = 0; i < GSO_BYTES; i++)
        frame[HDR_BYTES + i] = frame_pattern(i);
    struct pktbuf pkt = frame_pkt(frame, HDR_BYTES);
    pkt.total = sizeof(frame);
    pkt.flags = PKT_CSUM_PARTIAL;
    pkt.csum_start = (uint16_t)l4;
    pkt.csum_offset = TCP_CSUM_OFFSET;
    pkt.gso_type = PKT_GSO_TCP4;
    pkt.gso_size = GSO_SIZE;
    pkt.hdr_len = HDR_BYTES;
    pkt.frag_count = 2;
    pkt.frag[0] = (struct pkt_frag){frame + HDR_BYTES, 12345};
    pkt.frag[1] = (struct pkt_frag){frame + HDR_BYTES + 12345, GSO_BYTES - 12345};
    send_pkt(&pkt);
    cr_assert_eq(recv(fd, got, sizeof(got), MSG_WAITALL), (ssize_t)sizeof(got));
    cr_assert_eq(memcmp(got, frame + HDR_BYTES, sizeof(got)), 0);
    cr_assert_eq(stats_now().tx_bytes - 2 * HDR_BYTES - 8, sizeof(frame));

    /* One frame, so one or two acknowledgements, not one for every other segment. */
    reply = receive();
    cr_assert_eq(frame_get32(reply->data + 42), 1001 + GSO_BYTES);
    close(fd);
    close(listener);
}

/* ---- Trouble --------------------------------------------------------------------------------- */

Test(tap, link_set_down_and_up_again_costs_frames_but_not_the_device, .init = tap_up_with_neighbour,
     .fini = tap_down, .timeout = TIMEOUT_S)
{
    uint8_t frame[100], body[100];
    uint32_t len = frame_udp(frame, &us, &kernel, "hello", 5);
    int fd = kernel_udp();
    struct pktbuf *pkt;

    cr_assert_eq(system("ip link set sg0 down"), 0);
    send_frame(frame, len);
    cr_assert_eq(stats_now().tx_errors, 1);
    cr_assert_geq(dev->ops->rx_burst(dev, &pkt, 1), 0);
    cr_assert_eq(system("ip link set sg0 up"), 0);
    send_frame(frame, len);
    cr_assert_eq(recv(fd, body, sizeof(body), 0), 5);
    close(fd);
}

static struct device_link link_after(const char *command)
{
    struct pollfd pfd = {.fd = dev->ops->link_fd(dev), .events = POLLIN};
    struct device_link l;

    dev->ops->link(dev, &l);
    cr_assert_eq(poll(&pfd, 1, 0), 0, "nothing new");
    cr_assert_eq(system(command), 0, "%s", command);
    cr_assert_eq(poll(&pfd, 1, WAIT_MS), 1, "%s went unnoticed", command);
    dev->ops->link(dev, &l);
    return l;
}

Test(tap, changes_of_the_link_are_noticed, .init = tap_up, .fini = tap_down, .timeout = TIMEOUT_S)
{
    struct device_link l;

    dev->ops->link(dev, &l);
    cr_assert(l.up && l.mtu == 1500);
    cr_assert_eq(link_after("ip link set sg0 mtu 1400").mtu, 1400);
    cr_assert_not(link_after("ip link set sg0 down").up);
    cr_assert(link_after("ip link set sg0 name other up").up, "whatever it is called");
    l = link_after("ip link set other mtu 68");
    cr_assert(l.up && l.mtu == 68, "what to make of that is not the device's to say");
}

Test(tap, deleted_interface_ends_the_device_with_an_error, .init = tap_up, .fini = tap_down,
     .timeout = TIMEOUT_S)
{
    uint8_t frame[100];
    struct pktbuf pkt = frame_pkt(frame, frame_udp(frame, &us, &kernel, "hello", 5)), *pkts[2] = {&pkt, &pkt};

    drain();
    cr_assert_eq(system("ip link del sg0"), 0);
    cr_assert(readable(WAIT_MS), "a sleeping worker finds out");
    cr_assert_lt(dev->ops->rx_burst(dev, pkts, 2), 0);
    cr_assert_lt(dev->ops->rx_burst(dev, pkts, 2), 0, "and it stays so");
    cr_assert_not(dev->ops->rx_pending(dev));
    pkts[0] = pkts[1] = &pkt;
    cr_assert_lt(dev->ops->tx_burst(dev, pkts, 2), 0);
}

/** A device over a socket pair; returns the far end, on which each message is a header and a frame. */
static int pair_up(void)
{
    int fds[2], bytes = 8192;

    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    caps = (struct device_caps){.mtu = 1500, .tx_frame_max = FRAME_BYTES_MAX};
    cr_assert_eq(tap_device_create(fds[0], &caps, &dev), 0);
    return fds[1];
}

Test(tap, full_device_takes_fewer_and_the_rest_goes_later_in_order, .timeout = TIMEOUT_S)
{
    static uint8_t frames[200][300];
    struct pktbuf bufs[200], *pkts[200];
    uint8_t got[400];
    unsigned sent = 0, received = 0, full = 0;
    int far = pair_up();

    for (uint32_t i = 0; i < 200; i++) {
        frame_put32(frames[i] + FRAME_ETH, i);
        bufs[i] = frame_pkt(frames[i], sizeof(frames[i]));
        pkts[i] = &bufs[i];
    }
    while (received < 200) {
        int n = dev->ops->tx_burst(dev, pkts + sent, 200 - sent);
        cr_assert_geq(n, 0);
        full += n < (int)(200 - sent) && n < (int)DEV_TX_BURST_MAX;
        sent += (unsigned)n;
        cr_assert_eq(stats_now().tx_full, full);
        if (sent < 200 && n < (int)DEV_TX_BURST_MAX)
            cr_assert_eq(dev->ops->tx_burst(dev, pkts + sent, 1), 0, "still full");
        full += sent < 200 && n < (int)DEV_TX_BURST_MAX;
        while (recv(far, got, sizeof(got), 0) == VNET_HDR_BYTES + 300)
            cr_assert_eq(frame_get32(got + VNET_HDR_BYTES + FRAME_ETH), received++);
    }
    cr_assert_gt(full, 2);
    cr_assert_eq(sent, 200);
    cr_assert_eq(stats_now().tx_frames, 200);
    cr_assert_eq(stats_now().tx_errors, 0);
    dev->ops->close(dev);
    close(far);
}

Test(tap, bad_headers_and_cut_off_frames_are_counted_and_dropped, .timeout = TIMEOUT_S)
{
    static uint8_t mem[VNET_HDR_BYTES + 70000];
    struct virtio_net_hdr *hdr = (void *)mem;
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    int far = pair_up(), bytes = 1 << 20;

    cr_assert_eq(setsockopt(far, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    cr_assert_eq(send(far, mem, VNET_HDR_BYTES + 60, 0), VNET_HDR_BYTES + 60);
    cr_assert_eq(send(far, mem, VNET_HDR_BYTES - 1, 0), VNET_HDR_BYTES - 1);
    cr_assert_eq(send(far, mem, VNET_HDR_BYTES + 13, 0), VNET_HDR_BYTES + 13);
    cr_assert_eq(send(far, mem, sizeof(mem), 0), (ssize_t)sizeof(mem));
    *hdr = (struct virtio_net_hdr){.gso_type = 0x7f};
    cr_assert_eq(send(far, mem, VNET_HDR_BYTES + 60, 0), VNET_HDR_BYTES + 60);
    *hdr = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 59};
    cr_assert_eq(send(far, mem, VNET_HDR_BYTES + 60, 0), VNET_HDR_BYTES + 60);
    *hdr = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_DATA_VALID};
    cr_assert_eq(send(far, mem, VNET_HDR_BYTES + 61, 0), VNET_HDR_BYTES + 61);

    unsigned frames = 0;
    do {
        int n = dev->ops->rx_burst(dev, pkts, DEV_RX_BURST_MAX);
        cr_assert_geq(n, 0);
        for (int i = 0; i < n; i++, frames++) {
            cr_assert_eq(pkts[i]->len, frames ? 61 : 60);
            cr_assert_eq(pkts[i]->flags, frames ? PKT_CSUM_GOOD : 0);
        }
    } while (dev->ops->rx_pending(dev));
    cr_assert_eq(frames, 2);
    cr_assert_eq(stats_now().rx_frames, 2);
    cr_assert_eq(stats_now().rx_bytes, 121);
    cr_assert_eq(stats_now().rx_errors, 5);
    close(far);
    cr_assert_eq(dev->ops->rx_burst(dev, pkts, 1), -ENODEV, "the far end is gone");
    dev->ops->close(dev);
}

Test(tap, bursts_of_long_frames_are_short, .timeout = TIMEOUT_S)
{
    static uint8_t mem[VNET_HDR_BYTES + 20000];
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    int far = pair_up(), room = 8 << 20, n, most = 0;
    unsigned sent = 0, taken = 0, bursts = 0;

    cr_assert_eq(setsockopt(far, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)), 0);
    while (sent < 100 && send(far, mem, sizeof(mem), MSG_DONTWAIT) > 0)
        sent++;
    cr_assert_gt(sent, 40, "enough of them wait for a long burst (%u)", sent);
    while ((n = dev->ops->rx_burst(dev, pkts, DEV_RX_BURST_MAX)) > 0) {
        taken += (unsigned)n;
        most = n > most ? n : most;
        bursts++;
    }
    cr_assert_eq(taken, sent);
    cr_assert_leq(most * 20000, (int)VNET_RX_BURST_BYTES);
    cr_assert_gt(most, 4, "long enough for one system call to serve several");
    cr_assert_geq(bursts, sent / 13);
    dev->ops->close(dev);
    close(far);
}

Test(tap, close_accepts_null, .timeout = TIMEOUT_S)
{
    int far = pair_up();

    dev->ops->close(NULL);
    dev->ops->close(dev);
    close(far);
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dpdk: device over net_ring0, a port of DPDK's that receives what it sends, and what is said of frames
 * to drivers and by them. No privileges and no huge pages needed. Each test is a process, since DPDK starts
 * once in one.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hw/dpdk_int.h"
#include "hw/offload.h"

#define TIMEOUT_S   60
#define MTU_JUMBO   65000
#define FRAMES      200u
#define RING_FRAMES 1024u /* that net_ring holds */

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7};
static char errbuf[400];
static struct device *dev;
static unsigned lines;

static void count_line(int priority, const char *line)
{
    (void)priority;
    cr_assert_null(strchr(line, '\n'));
    __atomic_fetch_add(&lines, 1, __ATOMIC_RELAXED);
}

static struct device *queues[DEV_QUEUES_MAX];
static unsigned queue_count;

static int open_queues(const char *devargs, uint16_t mtu, uint16_t wanted)
{
    const char *devices[] = {devargs};
    const struct dpdk_settings settings = {.huge = DPDK_HUGE_NEVER,
                                           .memory_mb = 64,
                                           .eal = "",
                                           .devices = devices,
                                           .device_count = 1,
                                           .log = count_line};
    const struct device_params params = {.mac = mac, .mtu = mtu, .queues = wanted, .dpdk = &settings};

    return dpdk_open(devargs, &params, queues, &queue_count, errbuf, sizeof(errbuf));
}

static int open_ring(const char *devargs, uint16_t mtu)
{
    int rc = open_queues(devargs, mtu, 0);

    if (!rc) {
        cr_assert_eq(queue_count, 1);
        dev = queues[0];
    }
    return rc;
}

static void open_mtu(uint16_t mtu)
{
    cr_assert_eq(open_ring("net_ring0", mtu), 0, "%s", errbuf);
}

static struct device_stats stats_now(void)
{
    struct device_stats s;

    dev->ops->stats(dev, &s);
    return s;
}

static uint8_t byte_of(uint32_t frame, uint32_t at)
{
    return (uint8_t)(frame * 131 + at * 7 + (at >> 8));
}

static void fill(uint8_t *frame, uint32_t number, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        frame[i] = byte_of(number, i);
}

static void check_frame(const struct pktbuf *pkt, uint32_t number, uint32_t len)
{
    cr_assert_eq(pkt->len, len, "frame %u", number);
    cr_assert_eq(pkt->total, len);
    cr_assert_eq(pkt->frag_count, 0);
    cr_assert_eq(pkt->flags, 0);
    cr_assert_eq(pkt->gso_size, 0);
    for (uint32_t i = 0; i < len; i++)
        cr_assert_eq(pkt->data[i], byte_of(number, i), "frame %u byte %u", number, i);
}

static uint32_t len_of(uint32_t number)
{
    return 60 + number * 37 % (1514 - 60 + 1);
}

Test(dpdk, frames_come_back_whole_and_in_order, .timeout = TIMEOUT_S)
{
    static uint8_t frames[DEV_TX_BURST_MAX][1514];
    struct pktbuf bufs[DEV_TX_BURST_MAX], *pkts[DEV_TX_BURST_MAX], *got[DEV_RX_BURST_MAX];
    uint64_t bytes = 0;
    uint32_t seen = 0;

    open_mtu(0);
    for (uint32_t first = 0; first < FRAMES; first += 50) {
        for (uint32_t i = 0; i < 50; i++) {
            fill(frames[i], first + i, len_of(first + i));
            bufs[i] =
                (struct pktbuf){.data = frames[i], .len = len_of(first + i), .total = len_of(first + i)};
            pkts[i] = &bufs[i];
            bytes += bufs[i].total;
        }
        cr_assert_eq(dev->ops->tx_burst(dev, pkts, 50), 50);
        memset(frames, 0, sizeof(frames)); /* The memory is ours again. */
        for (int n; (n = dev->ops->rx_burst(dev, got, 7)) > 0;)
            for (int i = 0; i < n; i++, seen++)
                check_frame(got[i], seen, len_of(seen));
    }
    cr_assert_eq(seen, FRAMES);
    cr_assert_eq(stats_now().tx_frames, FRAMES);
    cr_assert_eq(stats_now().rx_frames, FRAMES);
    cr_assert_eq(stats_now().tx_bytes, bytes);
    cr_assert_eq(stats_now().rx_bytes, bytes);
    cr_assert_eq(stats_now().rx_errors + stats_now().tx_errors + stats_now().tx_full, 0);
    cr_assert_eq(dev->ops->wait_fd(dev), -1, "net_ring has no interrupts");
    cr_assert_not(dev->ops->rx_pending(dev));
    dev->ops->close(dev);
}

/* Larger than an mbuf of DPDK's usual size, in pieces: split over several and put together again. */
Test(dpdk, frames_of_many_buffers_are_gathered_and_put_together, .timeout = TIMEOUT_S)
{
    static uint8_t frame[MTU_JUMBO + ETH_HDR_BYTES];
    static const uint32_t lens[] = {60, 2048, 2049, 4096, 9014, 40001, sizeof(frame)};
    struct pktbuf *got[DEV_RX_BURST_MAX];
    unsigned idle;

    open_mtu(MTU_JUMBO);
    idle = rte_mempool_avail_count(dpdk_queue_of(dev)->pool);
    for (uint32_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        uint32_t head = 54, second = (lens[i] - head) / 3;
        struct pktbuf buf = {
            .data = frame,
            .len = head,
            .total = lens[i],
            .frag_count = 2,
            .frag = {{frame + head, second}, {frame + head + second, lens[i] - head - second}}};
        struct pktbuf *pkts[] = {&buf};

        fill(frame, i, lens[i]);
        cr_assert_eq(dev->ops->tx_burst(dev, pkts, 1), 1);
        memset(frame, 0, sizeof(frame));
        cr_assert_eq(dev->ops->rx_burst(dev, got, DEV_RX_BURST_MAX), 1);
        check_frame(got[0], i, lens[i]);
    }
    cr_assert_eq(dev->ops->rx_burst(dev, got, DEV_RX_BURST_MAX), 0);
    cr_assert_eq(rte_mempool_avail_count(dpdk_queue_of(dev)->pool), idle, "all buffers came back");
    cr_assert_eq(stats_now().tx_errors + stats_now().rx_errors, 0);
    dev->ops->close(dev);
}

Test(dpdk, frame_that_is_too_long_is_refused_alone, .timeout = TIMEOUT_S)
{
    static uint8_t frame[2000];
    struct pktbuf good = {.data = frame, .len = 100, .total = 100};
    struct pktbuf bad = {.data = frame, .len = 1519, .total = 1519};
    struct pktbuf *pkts[] = {&good, &bad, &bad, &good}, *got[DEV_RX_BURST_MAX];
    unsigned taken = 0;

    open_mtu(0);
    while (taken < 4) {
        int n = dev->ops->tx_burst(dev, pkts + taken, 4 - taken);

        cr_assert_gt(n, 0);
        taken += (unsigned)n;
    }
    cr_assert_eq(dev->ops->rx_burst(dev, got, DEV_RX_BURST_MAX), 2);
    cr_assert_eq(stats_now().tx_errors, 2);
    cr_assert_eq(stats_now().tx_frames, 2);
    cr_assert_eq(stats_now().tx_full, 0);
    dev->ops->close(dev);
}

Test(dpdk, full_device_takes_fewer_and_the_rest_goes_later, .timeout = TIMEOUT_S)
{
    static uint8_t frames[2 * RING_FRAMES][60];
    struct pktbuf bufs[DEV_TX_BURST_MAX], *pkts[DEV_TX_BURST_MAX], *got[DEV_RX_BURST_MAX];
    uint32_t sent = 0, seen = 0;
    unsigned idle;
    int n = 0;

    open_mtu(0);
    while (sent < 2 * RING_FRAMES) {
        uint32_t left = 2 * RING_FRAMES - sent, want = left < DEV_TX_BURST_MAX ? left : DEV_TX_BURST_MAX;

        for (uint32_t i = 0; i < want; i++) {
            fill(frames[sent + i], sent + i, 60);
            bufs[i] = (struct pktbuf){.data = frames[sent + i], .len = 60, .total = 60};
            pkts[i] = &bufs[i];
        }
        n = dev->ops->tx_burst(dev, pkts, want);
        cr_assert_geq(n, 0);
        sent += (unsigned)n;
        if (n == (int)want)
            continue;
        cr_assert_gt(stats_now().tx_full, 0);
        cr_assert_lt(sent, 2 * RING_FRAMES);
        idle = rte_mempool_avail_count(dpdk_queue_of(dev)->pool);
        cr_assert_eq(dev->ops->tx_burst(dev, pkts + n, want - (unsigned)n), 0);
        cr_assert_eq(rte_mempool_avail_count(dpdk_queue_of(dev)->pool), idle, "it costs no buffers");
        n = dev->ops->rx_burst(dev, got, DEV_RX_BURST_MAX);
        for (int i = 0; i < n; i++)
            check_frame(got[i], seen++, 60);
    }
    while ((n = dev->ops->rx_burst(dev, got, DEV_RX_BURST_MAX)) > 0)
        for (int i = 0; i < n; i++)
            check_frame(got[i], seen++, 60);
    cr_assert_eq(seen, 2 * RING_FRAMES, "none lost, none twice");
    cr_assert_eq(stats_now().tx_frames, 2 * RING_FRAMES);
    dev->ops->close(dev);
}

Test(dpdk, what_the_device_says_of_itself, .timeout = TIMEOUT_S)
{
    struct device_caps caps;
    struct device_link link;
    struct pollfd p;

    open_mtu(1400);
    dev->ops->caps(dev, &caps);
    cr_assert_arr_eq(caps.mac, mac, 6);
    cr_assert_eq(caps.mtu, 1400);
    cr_assert_eq(caps.offloads, 0);
    cr_assert_eq(caps.tx_frame_max, 1400 + 14 + 4);
    cr_assert_eq(caps.spread.queues, 1);
    p = (struct pollfd){.fd = dev->ops->link_fd(dev), .events = POLLIN};
    cr_assert_eq(poll(&p, 1, 0), 1, "how the link is at the start is news");
    dev->ops->link(dev, &link);
    cr_assert(link.up && link.mtu == 1400);
    cr_assert_eq(poll(&p, 1, 0), 0);
    cr_assert_gt(lines, 0, "DPDK's lines come to the log");
    dev->ops->close(NULL);
    dev->ops->close(dev);
}

static void check_refused(const char *devargs, uint16_t mtu, int err, const char *says)
{
    struct device *before = dev;

    memset(errbuf, 0, sizeof(errbuf));
    cr_assert_eq(open_ring(devargs, mtu), -err, "%s", errbuf);
    cr_assert_eq(dev, before);
    cr_assert_not_null(strstr(errbuf, says), "\"%s\" does not say \"%s\"", errbuf, says);
    cr_assert_null(strchr(errbuf, '\n'));
}

Test(dpdk, what_cannot_be_opened_is_said_and_harms_nothing, .timeout = TIMEOUT_S)
{
    check_refused("net_ring0", 100, EINVAL, "MTU 100 is out of range");
    open_mtu(0);
    check_refused("net_ring0", 0, EBUSY, "this daemon has the device already");
    check_refused("net_nonsense0", 0, ENODEV, "finds no such device");
    check_refused("0000:ff:1f.7", 0, ENODEV, "vfio-pci");
    check_refused("net_memif0,role=nothing", 0, EPERM, "can't attach the device");
    dev->ops->close(dev);
    open_mtu(0);
    dev->ops->close(dev);
}

/* ---- Sockets that were left behind ------------------------------------------------------------------- */

static int bind_at(const char *path, int type)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type, 0);

    cr_assert_lt(strlen(path), sizeof(addr.sun_path));
    strcpy(addr.sun_path, path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    cr_assert_eq(listen(fd, 1), 0);
    return fd;
}

static void check_cleared(const char *form, const char *path, bool expected)
{
    char devargs[200];

    (void)snprintf(devargs, sizeof(devargs), form, path);
    dpdk_socket_clear(devargs);
    cr_assert_eq(access(path, F_OK) != 0, expected, "%s", devargs);
}

Test(dpdk_socket, only_files_that_nobody_listens_on_are_taken_away)
{
    static const char *const server = "net_memif0,role=server,socket=%s", *const vhost =
                                                                              "net_vhost0,iface=%s,tso=1";
    char dir[] = "/tmp/sockgate-test.XXXXXX", path[64];
    int fd;

    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/s", dir);
    fd = bind_at(path, SOCK_SEQPACKET);
    check_cleared(server, path, false);
    close(fd); /* as if it was killed: the file stays */
    check_cleared("net_memif0,role=client,socket=%s", path, false);
    check_cleared("net_memif0,role=server,othersocket=%s", path, false);
    check_cleared("net_memif0,role=server,socket=%s.not", path, false);
    check_cleared(server, path, true);
    fd = bind_at(path, SOCK_STREAM);
    check_cleared(vhost, path, false);
    close(fd);
    check_cleared("net_vhost0,iface=%s,client=1", path, false);
    check_cleared("net_virtio_user0,path=%s", path, false);
    check_cleared(vhost, path, true);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    close(fd);
    check_cleared(vhost, path, false); /* no socket: not ours to take */
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(rmdir(dir), 0);
}

/* ---- Several queues ---------------------------------------------------------------------------------- */

/* net_null keeps a key and a table as cards do. */
Test(dpdk_queues, spread_over_queues_is_known, .timeout = TIMEOUT_S)
{
    static const uint8_t zero[SPREAD_RSS_KEY_BYTES];
    struct device_caps caps;
    struct spread_flow flow = {
        .src = {10, 0, 0, 1}, .dst = {10, 0, 0, 2}, .dst_port = 80, .proto = 6, .ip_version = 4};
    unsigned seen = 0;

    cr_assert_eq(open_queues("net_null0,no-rx=1", 0, 4), 0, "%s", errbuf);
    cr_assert_eq(queue_count, 4);
    queues[3]->ops->caps(queues[3], &caps);
    cr_assert_eq(caps.spread.kind, SPREAD_RSS);
    cr_assert_eq(caps.spread.queues, 4);
    cr_assert_eq(caps.spread.rss_entries, 128);
    cr_assert_eq(caps.spread.rss_types,
                 SPREAD_RSS_TCP4 | SPREAD_RSS_TCP6 | SPREAD_RSS_UDP4 | SPREAD_RSS_UDP6);
    for (unsigned i = 0; i < 128; i++)
        cr_assert_eq(caps.spread.rss_table[i], i % 4);
    cr_assert_neq(memcmp(caps.spread.rss_key, zero, sizeof(zero)), 0);
    for (flow.src_port = 1; flow.src_port < 200; flow.src_port++) {
        int q = spread_queue(&caps.spread, &flow);

        cr_assert(q >= 0 && q < 4);
        seen |= 1u << q;
    }
    cr_assert_eq(seen, 0xfu);
    for (unsigned i = 0; i < 4; i++) /* in an order of its own: the last one closes the port */
        queues[(i + 2) % 4]->ops->close(queues[(i + 2) % 4]);
    cr_assert_eq(open_queues("net_null0,no-rx=1", 0, 2), 0, "%s", errbuf);
    cr_assert_eq(queue_count, 2);
    queues[0]->ops->close(queues[0]);
    queues[1]->ops->close(queues[1]);
}

/* Each queue of net_ring receives what it sends. */
Test(dpdk_queues, each_queue_has_its_own_frames, .timeout = TIMEOUT_S)
{
    static uint8_t frame[100];
    struct pktbuf buf = {.data = frame, .len = 100, .total = 100}, *pkts[] = {&buf}, *got[DEV_RX_BURST_MAX];
    struct device_caps caps;

    cr_assert_eq(open_queues("net_ring0", 0, 3), 0, "%s", errbuf);
    cr_assert_eq(queue_count, 3);
    queues[0]->ops->caps(queues[0], &caps);
    cr_assert_eq(caps.spread.kind, SPREAD_NONE, "nobody knows");
    for (unsigned i = 0; i < 3; i++) {
        fill(frame, i, 100);
        cr_assert_eq(queues[i]->ops->tx_burst(queues[i], pkts, 1), 1);
    }
    for (unsigned i = 3; i-- > 0;) {
        cr_assert_eq(queues[i]->ops->rx_burst(queues[i], got, DEV_RX_BURST_MAX), 1);
        check_frame(got[0], i, 100);
        queues[i]->ops->close(queues[i]);
    }
}

/* ---- What is said of a frame ------------------------------------------------------------------------- */

static uint8_t room[RTE_PKTMBUF_HEADROOM + 2048];

static struct rte_mbuf mbuf_of(uint32_t len)
{
    return (struct rte_mbuf){.buf_addr = room,
                             .data_off = RTE_PKTMBUF_HEADROOM,
                             .data_len = (uint16_t)len,
                             .pkt_len = len,
                             .nb_segs = 1};
}

/** Ethernet (tagged or not), IP without options, TCP without. */
static uint32_t put_tcp(uint8_t *p, bool tag, bool six, uint32_t payload)
{
    uint32_t l3 = tag ? 18 : 14, l4 = l3 + (six ? 40 : 20);

    memset(p, 0, l4 + 20 + payload);
    p[12] = tag ? 0x81 : six ? 0x86 : 0x08;
    p[13] = tag ? 0x00 : six ? 0xdd : 0x00;
    if (tag) {
        p[16] = six ? 0x86 : 0x08;
        p[17] = six ? 0xdd : 0x00;
    }
    p[l3] = six ? 0x60 : 0x45;
    p[l3 + (six ? 6 : 9)] = 6;
    p[l3 + 10] = 0xab; /* IPv4: the header's checksum */
    p[l3 + 11] = 0xcd;
    p[l4 + 12] = 0x50;
    return l4 + 20 + payload;
}

static struct pktbuf rx_said(uint64_t ol_flags, int expected)
{
    uint32_t len = put_tcp(room + RTE_PKTMBUF_HEADROOM, false, false, 1000);
    struct rte_mbuf m = mbuf_of(len);
    struct pktbuf pkt = {.data = room + RTE_PKTMBUF_HEADROOM, .len = len, .total = len};

    m.ol_flags = ol_flags;
    m.tso_segsz = 500;
    cr_assert_eq(dpdk_rx_offloads(&m, &pkt), expected, "flags %llx", (unsigned long long)ol_flags);
    return pkt;
}

Test(dpdk_mbuf, checksums_that_a_driver_vouches_for_are_good)
{
    cr_assert_eq(rx_said(RTE_MBUF_F_RX_L4_CKSUM_GOOD, 0).flags, PKT_CSUM_GOOD);
    cr_assert_eq(rx_said(RTE_MBUF_F_RX_L4_CKSUM_NONE, 0).flags, PKT_CSUM_GOOD);
    cr_assert_eq(rx_said(RTE_MBUF_F_RX_L4_CKSUM_BAD, 0).flags, 0);
    cr_assert_eq(rx_said(RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN, 0).flags, 0);
    cr_assert_eq(rx_said(RTE_MBUF_F_RX_IP_CKSUM_GOOD, 0).flags, 0, "the transport's is another");
    cr_assert_eq(rx_said(RTE_MBUF_F_RX_L4_CKSUM_GOOD, 0).gso_size, 0);
}

Test(dpdk_mbuf, joined_segments_say_their_size)
{
    struct pktbuf pkt = rx_said(RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE, 0);

    cr_assert_eq(pkt.gso_type, PKT_GSO_TCP4);
    cr_assert_eq(pkt.gso_size, 500);
    cr_assert_eq(pkt.hdr_len, 54);
    rx_said(RTE_MBUF_F_RX_LRO, -EINVAL); /* nobody vouches for the sum of several segments */
}

Test(dpdk_mbuf, joined_segments_that_are_none_are_refused)
{
    uint8_t *frame = room + RTE_PKTMBUF_HEADROOM;
    uint32_t len = put_tcp(frame, false, false, 0);
    struct rte_mbuf m = mbuf_of(len);
    struct pktbuf pkt = {.data = frame, .len = len, .total = len};

    m.ol_flags = RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    m.tso_segsz = 500;
    cr_assert_eq(dpdk_rx_offloads(&m, &pkt), -EINVAL, "no payload");
    pkt.len = pkt.total = put_tcp(frame, false, true, 100);
    cr_assert_eq(dpdk_rx_offloads(&m, &pkt), 0);
    cr_assert_eq(pkt.gso_type, PKT_GSO_TCP6);
    m.tso_segsz = 0;
    cr_assert_eq(dpdk_rx_offloads(&m, &pkt), -EINVAL, "no size");
    m.tso_segsz = 500;
    frame[20] = 17; /* IPv6: UDP */
    cr_assert_eq(dpdk_rx_offloads(&m, &pkt), -EINVAL, "not TCP");
}

static struct rte_mbuf tx_asked(bool tag, bool six, uint16_t csum_offset, uint16_t gso_size, bool ip_csum)
{
    uint8_t *frame = room + RTE_PKTMBUF_HEADROOM;
    uint32_t len = put_tcp(frame, tag, six, 1500);
    struct rte_mbuf m = mbuf_of(len);
    struct pktbuf pkt = {.data = frame,
                         .len = len,
                         .total = len,
                         .flags = PKT_CSUM_PARTIAL,
                         .csum_start = (uint16_t)(len - 1520),
                         .csum_offset = csum_offset,
                         .gso_size = gso_size,
                         .gso_type = !gso_size ? PKT_GSO_NONE
                                     : six     ? PKT_GSO_TCP6
                                               : PKT_GSO_TCP4,
                         .hdr_len = (uint16_t)(len - 1500)};

    dpdk_tx_offloads(&pkt, ip_csum, &m);
    return m;
}

Test(dpdk_mbuf, partial_checksums_are_asked_for_with_the_lengths_of_the_headers)
{
    struct rte_mbuf m = tx_asked(false, false, 16, 0, true);

    cr_assert_eq(m.ol_flags, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM);
    cr_assert_eq(m.l2_len, 14);
    cr_assert_eq(m.l3_len, 20);
    cr_assert_eq(m.tso_segsz, 0);
    cr_assert_eq(room[RTE_PKTMBUF_HEADROOM + 24], 0xab, "the IPv4 checksum is made already");
    m = tx_asked(true, true, 6, 0, true);
    cr_assert_eq(m.ol_flags, RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM);
    cr_assert_eq(m.l2_len, 18);
    cr_assert_eq(m.l3_len, 40);
}

Test(dpdk_mbuf, segmentation_is_asked_for_with_the_size_of_segments)
{
    struct rte_mbuf m = tx_asked(true, false, 16, 700, true);

    cr_assert_eq(m.ol_flags, RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_TCP_SEG |
                                 RTE_MBUF_F_TX_IP_CKSUM);
    cr_assert_eq(m.l4_len, 20);
    cr_assert_eq(m.tso_segsz, 700);
    cr_assert_eq(room[RTE_PKTMBUF_HEADROOM + 28], 0, "the card makes the IPv4 checksum of each segment");
    m = tx_asked(false, false, 16, 700, false);
    cr_assert_not(m.ol_flags & RTE_MBUF_F_TX_IP_CKSUM);
    cr_assert_eq(room[RTE_PKTMBUF_HEADROOM + 24], 0xab);
    m = tx_asked(false, true, 16, 700, true);
    cr_assert_eq(m.ol_flags, RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_TCP_SEG);
}

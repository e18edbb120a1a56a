/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/probe.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "daemon/clock.h"

/* Ethernet and ARP for IPv4 (RFC 826), by offset in the frame. */
#define OFF_ETHERTYPE  12
#define OFF_ARP        14
#define OFF_OPERATION  20
#define OFF_SENDER_MAC 22
#define OFF_SENDER_IP  28
#define OFF_TARGET_IP  38
#define ARP_END        42u

static const uint8_t arp_type[2] = {0x08, 0x06};
/* Hardware Ethernet, protocol IPv4, their address lengths. */
static const uint8_t arp_head[6] = {0, 1, 8, 0, 6, 4};

#define OP_REQUEST 1
#define OP_REPLY   2

/* Longest sleep between looks at a device that can't wake us. */
#define LOOK_MS    10

void probe_build(uint8_t *frame, const uint8_t mac[6], const uint8_t addr[4])
{
    memset(frame, 0, PROBE_FRAME_BYTES);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, mac, 6);
    memcpy(frame + OFF_ETHERTYPE, arp_type, 2);
    memcpy(frame + OFF_ARP, arp_head, 6);
    frame[OFF_OPERATION + 1] = OP_REQUEST;
    memcpy(frame + OFF_SENDER_MAC, mac, 6);
    memcpy(frame + OFF_TARGET_IP, addr, 4); /* The sender's IP stays zero: that is what makes it a probe. */
}

bool probe_conflict(const uint8_t *frame, size_t bytes, const uint8_t mac[6], const uint8_t addr[4],
                    uint8_t ret_mac[6])
{
    static const uint8_t nobody[4];
    uint8_t op;

    if (bytes < ARP_END || memcmp(frame + OFF_ETHERTYPE, arp_type, 2) != 0 ||
        memcmp(frame + OFF_ARP, arp_head, 6) != 0 || frame[OFF_OPERATION] != 0)
        return false;
    op = frame[OFF_OPERATION + 1];
    if ((op != OP_REQUEST && op != OP_REPLY) || !memcmp(frame + OFF_SENDER_MAC, mac, 6))
        return false;
    /* It has the address, or it probes for it at this very moment (RFC 5227 2.1.1). */
    if (memcmp(frame + OFF_SENDER_IP, addr, 4) != 0 &&
        (op != OP_REQUEST || memcmp(frame + OFF_SENDER_IP, nobody, 4) != 0 ||
         memcmp(frame + OFF_TARGET_IP, addr, 4) != 0))
        return false;
    memcpy(ret_mac, frame + OFF_SENDER_MAC, 6);
    return true;
}

/* Look at everything that has arrived. Returns 0, -EADDRINUSE or the device's error. */
static int look(struct device *dev, const uint8_t mac[6], const uint8_t addr[4], uint8_t ret_mac[6])
{
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    int n;

    while ((n = dev->ops->rx_burst(dev, pkts, DEV_RX_BURST_MAX)) > 0)
        for (int i = 0; i < n; i++)
            if (probe_conflict(pkts[i]->data, pkts[i]->len, mac, addr, ret_mac))
                return -EADDRINUSE;
    return n;
}

int probe_run(struct device *dev, const uint8_t mac[6], const uint8_t addr[4], uint32_t wait_ms,
              uint8_t ret_mac[6])
{
    uint8_t frame[PROBE_FRAME_BYTES];
    struct pktbuf pkt = {.data = frame, .len = sizeof(frame), .total = sizeof(frame)};
    struct pktbuf *const pkts[1] = {&pkt};
    uint64_t start_us = clock_now_us(), end_us = start_us + (uint64_t)wait_ms * 1000, now_us;
    unsigned sent = 0;

    probe_build(frame, mac, addr);
    while ((now_us = clock_now_us()) < end_us) {
        struct pollfd p = {.fd = dev->ops->wait_fd(dev), .events = POLLIN};
        uint64_t next_us = start_us + (uint64_t)wait_ms * 1000 * (sent + 1) / PROBE_COUNT, wait_us;
        int rc;

        if (now_us >= start_us + (uint64_t)wait_ms * 1000 * sent / PROBE_COUNT && sent < PROBE_COUNT) {
            rc = dev->ops->tx_burst(dev, pkts, 1);
            if (rc < 0)
                return rc;
            sent++;
            continue;
        }
        rc = look(dev, mac, addr, ret_mac);
        if (rc)
            return rc;
        wait_us = (next_us < end_us ? next_us : end_us) - now_us;
        /* One millisecond less a fraction would be a busy wait: round up. */
        (void)poll(&p, p.fd >= 0, p.fd >= 0 ? (int)(wait_us / 1000 + 1) : LOOK_MS);
    }
    return look(dev, mac, addr, ret_mac);
}

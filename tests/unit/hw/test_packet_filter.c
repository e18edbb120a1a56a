/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel runs the filter: frames go through a pair of sockets that has it. */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hw/packet_filter.h"

#define FRAME_BYTES 80u

static const uint8_t own_mac[6] = {0x02, 0, 0, 0, 0, 1};
static const uint8_t other_mac[6] = {0x02, 0, 0, 0, 0, 2};
static int fds[2];

static struct device_addr addr_of(const char *text, uint16_t vlan)
{
    struct device_addr a = {.ip_version = strchr(text, ':') ? 6 : 4, .vlan = vlan};

    cr_assert_eq(inet_pton(a.ip_version == 4 ? AF_INET : AF_INET6, text, a.ip), 1);
    return a;
}

static void filter_set(const struct device_addr addrs[], unsigned count, const uint8_t *mac)
{
    static struct sock_filter filter[PACKET_FILTER_MAX];
    struct sock_fprog prog = {.filter = filter};

    prog.len = (unsigned short)packet_filter_build(filter, addrs, count, mac);
    cr_assert_eq(setsockopt(fds[1], SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)), 0, "%u instructions",
                 prog.len);
}

static void pair_open(void)
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
}

static void pair_close(void)
{
    close(fds[0]);
    close(fds[1]);
}

static bool passes(const uint8_t *frame, size_t bytes)
{
    uint8_t got[FRAME_BYTES];

    (void)send(fds[0], frame, bytes, 0); /* Fails where the far end's filter refuses. */
    return recv(fds[1], got, sizeof(got), 0) == (ssize_t)bytes;
}

static uint8_t *frame_to(uint8_t f[FRAME_BYTES], const char *text)
{
    struct device_addr a = addr_of(text, 0);

    memset(f, 0, FRAME_BYTES);
    memcpy(f, own_mac, 6);
    if (a.ip_version == 4) {
        f[12] = 0x08;
        f[14] = 0x45;
        memcpy(f + 30, a.ip, 4);
    } else {
        f[12] = 0x86;
        f[13] = 0xdd;
        f[14] = 0x60;
        memcpy(f + 38, a.ip, 16);
    }
    return f;
}

static bool reaches(const char *text)
{
    uint8_t f[FRAME_BYTES];

    return passes(frame_to(f, text), FRAME_BYTES);
}

static bool udp_reaches(const char *text, uint16_t port, uint16_t fragment)
{
    uint8_t f[FRAME_BYTES];

    frame_to(f, text);
    f[14] = 0x46; /* with an option: the port lies four bytes further on */
    f[20] = (uint8_t)(fragment >> 8);
    f[21] = (uint8_t)fragment;
    f[23] = 17;
    f[14 + 24 + 2] = (uint8_t)(port >> 8);
    f[14 + 24 + 3] = (uint8_t)port;
    return passes(f, FRAME_BYTES);
}

static bool icmp6_reaches(const char *text, uint8_t type)
{
    uint8_t f[FRAME_BYTES];

    frame_to(f, text);
    f[20] = 58;
    f[54] = type;
    return passes(f, FRAME_BYTES);
}

Test(packet_filter, own_addresses_pass_and_those_of_the_kernel_do_not, .init = pair_open, .fini = pair_close)
{
    const struct device_addr addrs[] = {addr_of("10.0.0.2", 0), addr_of("fd00::2", 0), addr_of("10.0.0.3", 5),
                                        addr_of("fd00::3", 0)};

    filter_set(addrs, 4, NULL);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert(reaches("10.0.0.2") && reaches("10.0.0.3"));
        cr_assert(reaches("fd00::2") && reaches("fd00::3"));
        cr_assert(!reaches("10.0.0.1") && !reaches("10.0.0.4") && !reaches("11.0.0.2"));
        cr_assert(!reaches("fd00::4") && !reaches("fd00::1:0:2") && !reaches("fe00::2"));
    }
}

Test(packet_filter, longest_list_is_taken_by_the_kernel, .init = pair_open, .fini = pair_close)
{
    struct device_addr addrs[DEV_ADDRS_MAX];
    char text[32];

    for (unsigned i = 0; i < DEV_ADDRS_MAX; i++) {
        (void)snprintf(text, sizeof(text), "fd00::%x", i + 1);
        addrs[i] = addr_of(text, 0);
    }
    filter_set(addrs, DEV_ADDRS_MAX, own_mac);
    cr_assert(reaches("fd00::1"));
    cr_assert(reaches("fd00::40"));
    cr_assert_not(reaches("fd00::41"));
}

Test(packet_filter, what_has_no_address_of_ours_yet_passes, .init = pair_open, .fini = pair_close)
{
    uint8_t arp[FRAME_BYTES] = {[12] = 0x08, [13] = 0x06}, lldp[FRAME_BYTES] = {[12] = 0x88, [13] = 0xcc};

    filter_set(NULL, 0, NULL);
    cr_assert(passes(arp, sizeof(arp)));
    cr_assert_not(passes(lldp, sizeof(lldp)));
    cr_assert(udp_reaches("10.0.0.9", 68, 0), "an offered address");
    cr_assert_not(udp_reaches("10.0.0.9", 69, 0));
    cr_assert_not(udp_reaches("10.0.0.9", 68, 1), "what is no port in a later fragment");
    cr_assert(icmp6_reaches("fd00::9", 135) && icmp6_reaches("fd00::9", 133) &&
              icmp6_reaches("fd00::9", 137));
    cr_assert_not(icmp6_reaches("fd00::9", 128));
    cr_assert_not(icmp6_reaches("fd00::9", 138));
    cr_assert_not(passes(arp, 13), "too short for a type");
}

Test(packet_filter, only_our_hardware_address_when_it_is_another, .init = pair_open, .fini = pair_close)
{
    const struct device_addr addr = addr_of("10.0.0.2", 0);
    uint8_t f[FRAME_BYTES];

    filter_set(&addr, 1, own_mac);
    cr_assert(reaches("10.0.0.2"));
    memcpy(frame_to(f, "10.0.0.2"), other_mac, 6);
    cr_assert_not(passes(f, sizeof(f)));
    f[3] = 1;
    f[5] = 1;
    cr_assert_not(passes(f, sizeof(f)), "the upper half differs");
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `packet:IFNAME` device: a packet socket on an interface that is there already. packet_socket.c sets the
 * socket up, packet_filter.c keeps from it what is for the kernel alone, packet.c makes a device of it.
 */
#ifndef HW_PACKET_H
#define HW_PACKET_H

#include "hw/netif_open.h"

#define PACKET_KIND "packet"

/** Open interface `name`. Arguments and result as device_open(), blocking. */
int packet_open(const char *name, const struct device_params *params, struct device *ret[], unsigned *count,
                char *errbuf, size_t errbuf_bytes);

/**
 * Open a packet socket on an interface: frames behind virtio-net headers, VLAN tags and the number of frames
 * lost as control messages, nothing that we sent ourselves. All that the filter lets through comes in.
 * @param mac  the engine's hardware address, when it is not the interface's; else NULL
 * @return 0, or -errno with a message
 */
int packet_socket_open(const struct netif *n, const uint8_t mac[6], int *ret_fd, const struct netif_error *e);

/** Let through what packet_filter_build() says, from now on. Returns 0 or -errno. */
int packet_socket_filter(int fd, const struct device_addr addrs[], unsigned count, const uint8_t mac[6]);

/** The interface of the socket was deleted. */
bool packet_socket_is_gone(int fd);

/**
 * Make a device of a packet socket.
 * @param fd    taken over on success only
 * @param caps  what the device reports
 * @param link  the device's from then on, on success; NULL: its link never changes
 * @return 0 or -errno
 */
int packet_device_create(const struct netif *n, int fd, const struct device_caps *caps,
                         const struct netif_link *link, struct device **ret);

#endif

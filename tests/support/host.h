/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host in memory for tests: one engine, one session in plain memory, and an application that speaks the
 * slot protocol the way libsockclient does. No device: frames go in with host_rx() and come out with
 * host_tx().
 */
#ifndef TESTS_SUPPORT_HOST_H
#define TESTS_SUPPORT_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/engine.h"

#define HOST_SLOTS 4096u

struct host {
    struct engine *e;
    struct engine_config cfg;
    void *arena, *scratch;
    uint64_t now_us;
    int sid;
    uint8_t *seg;
    size_t seg_bytes;
    struct sg_slot *slots;
    uint32_t *slot_sock;
    void *heap_meta;
    uint32_t next_slot;
    uint16_t family;   /* of what app_socket() opens: SG_AF_INET, or SG_AF_INET6 once a test says so */
    bool mapped;       /* with SG_AF_INET6: app_connect() names IPv4 peers */
    uint64_t events;   /* SG_EV_SOCK seen */
    const char *fault; /* reason of an ENGINE_EV_FAULT */
};

/** Small defaults: address 192.0.2.<last>, MAC 02:00:00:00:00:<last>, /24, pools for about 1,000 connections.
 */
void host_config(struct engine_config *cfg, uint8_t last);
void host_start(struct host *h, const struct engine_config *cfg, uint64_t now_us);
/** Ends the session and frees all; returns NULL or what engine_check() or a leak check found. */
const char *host_stop(struct host *h);

/** Hand in a frame; `flags`, `csum_*`, `gso_size` as in pktbuf (0 for a plain one). */
void host_rx(struct host *h, const struct pktbuf *p);
void host_rx_bytes(struct host *h, const uint8_t *frame, size_t bytes);
/** Run timers at now_us and publish. */
void host_run(struct host *h);
/** Next frame to send, or NULL; valid until the next call. It is consumed. */
struct pktbuf *host_tx(struct host *h);
/** Linear copy of a frame; returns its bytes. */
size_t host_linear(const struct pktbuf *p, uint8_t *buf, size_t max);

/* The application. Calls return 0 or more, or a negative errno, and never block. */
uint32_t app_socket(struct host *h, uint32_t type); /* slot; asserts on failure */
int app_bind(struct host *h, uint32_t slot, uint16_t port);
int app_listen(struct host *h, uint32_t slot, uint32_t backlog);
/** To 192.0.2.<last>, or from an IPv6 socket to 2001:db8::<last>. */
int app_connect(struct host *h, uint32_t slot, uint8_t last, uint16_t port);
int64_t app_accept(struct host *h, uint32_t slot); /* new slot, or -EAGAIN */
int64_t app_send(struct host *h, uint32_t slot, const void *buf, size_t len);
int64_t app_recv(struct host *h, uint32_t slot, void *buf, size_t len); /* 0: end of file */
/** Free bytes of a TCP socket's send region, and its size. */
uint64_t app_tx_room(const struct sg_slot *s, uint64_t *size);
/** Copy the first `len` bytes that wait in a TCP socket's receive ring. */
void app_rx_copy(const struct host *h, uint32_t slot, void *buf, size_t len);
int64_t app_sendto(struct host *h, uint32_t slot, const void *buf, size_t len, uint8_t last, uint16_t port);
int64_t app_recvfrom(struct host *h, uint32_t slot, void *buf, size_t len, uint8_t from[4], uint16_t *port);
int app_shutdown(struct host *h, uint32_t slot, uint32_t how);
int app_close(struct host *h, uint32_t slot);
bool app_connected(struct host *h, uint32_t slot);
int app_error(struct host *h, uint32_t slot); /* errno in the slot, 0: none */
uint64_t host_counter(struct host *h, const char *name);
/** First socket of the walk in this state ("ESTABLISHED"), or false. */
bool host_find(struct host *h, const char *state, struct engine_sock_info *ret);
unsigned host_count(struct host *h, const char *state);

#endif

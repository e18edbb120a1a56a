/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of any content into a host with listeners, a connection under way and a UDP socket.
 *
 * The input is a list of steps: a byte of flags, then for a frame its length and bytes. The flags say what to
 * put right, so that some frames get past the checks of addresses and checksums.
 */
#include <string.h>

#include "daemon/engine/csum.h"
#include "tests/fuzz/fuzz.h"

#define STEPS_MAX   64u
#define BYTES_MAX   2000u
#define PEER        1u

/* Flags of a frame step. */
#define F_STEP_MASK 0x03u /* 0..2: a frame, 3: something else */
#define F_ETHER     0x04u /* right destination MAC and EtherType */
#define F_IP        0x08u /* right addresses, lengths and header checksum */
#define F_L4        0x10u /* right transport checksum */
#define F_TRUSTED   0x20u /* the device vouches for the checksum */
#define F_PARTIAL   0x40u /* as from a VM: checksum never computed */
#define F_GSO       0x80u /* says that segments were joined */

struct world {
    struct host h;
    uint32_t listener, udp, client;
    uint8_t frame[BYTES_MAX + 64];
};

static void frame_step(struct world *w, struct input *in, uint8_t flags)
{
    size_t n = take_u16(in) % BYTES_MAX;
    uint8_t *f = w->frame;
    struct pktbuf p = {.data = f};

    n = n < in->left ? n : in->left; /* no tail of zeroes */
    (void)take_bytes(in, f, n);
    if (flags & F_ETHER && n >= 14) {
        memcpy(f, (uint8_t[]){2, 0, 0, 0, 0, 2}, 6);
        put_be16(f + 12, flags & F_IP || f[13] & 1 ? 0x0800 : 0x0806);
    }
    if (flags & F_IP && n >= 34) {
        static const uint8_t protos[] = {6, 6, 17, 1};

        (void)fuzz_ip4(f, PEER, protos[f[23] % sizeof(protos)], n - 34);
        if (flags & F_L4)
            fuzz_checksum(f, n);
    }
    p.len = p.total = (uint32_t)n;
    p.flags = (uint16_t)(flags & F_TRUSTED ? PKT_CSUM_GOOD : 0);
    if (flags & F_PARTIAL) {
        p.flags |= PKT_CSUM_PARTIAL;
        p.csum_start = 34;
        p.csum_offset = 16;
    }
    if (flags & F_GSO) {
        p.gso_type = PKT_GSO_TCP4;
        p.gso_size = take_u16(in);
    }
    host_rx(&w->h, &p);
}

static void other_step(struct world *w, struct input *in)
{
    uint8_t buf[256] = {0};
    uint8_t code = take_u8(in);
    int64_t slot;

    switch (code & 7) {
    case 0:
        fuzz_wait(&w->h, fuzz_duration_us(take_u8(in)), PEER, NULL, NULL);
        break;
    case 1:
        slot = app_accept(&w->h, w->listener);
        if (slot > 0) {
            (void)app_send(&w->h, (uint32_t)slot, buf, sizeof(buf));
            (void)app_close(&w->h, (uint32_t)slot);
        }
        break;
    case 2:
        (void)app_recvfrom(&w->h, w->udp, buf, sizeof(buf), NULL, NULL);
        break;
    case 3:
        (void)app_sendto(&w->h, w->udp, buf, take_u8(in), PEER, take_u16(in));
        break;
    case 4: /* neighbours and routes */
        (void)app_sendto(&w->h, w->udp, buf, take_u8(in), take_u8(in), 9);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct input in = {data, size};
    struct engine_config cfg;

    memset(&w, 0, sizeof(w));
    fuzz_config(&cfg);
    host_start(&w.h, &cfg, 1000000);
    w.listener = app_socket(&w.h, SG_SOCK_STREAM);
    (void)app_bind(&w.h, w.listener, 7);
    (void)app_listen(&w.h, w.listener, 2);
    w.udp = app_socket(&w.h, SG_SOCK_DGRAM);
    (void)app_bind(&w.h, w.udp, 9);
    w.client = app_socket(&w.h, SG_SOCK_STREAM);
    (void)app_connect(&w.h, w.client, PEER, 7);
    fuzz_drain(&w.h, PEER, NULL, NULL);
    for (unsigned i = 0; i < STEPS_MAX && in.left; i++) {
        uint8_t flags = take_u8(&in);

        if ((flags & F_STEP_MASK) == 3)
            other_step(&w, &in);
        else
            frame_step(&w, &in, flags);
        fuzz_drain(&w.h, PEER, NULL, NULL);
        fuzz_check(&w.h);
    }
    fuzz_stop(&w.h);
    return 0;
}

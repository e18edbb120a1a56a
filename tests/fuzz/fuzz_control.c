/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of any content on the control socket of a daemon in this process: decoder, hello, attach, admin
 * queries. Each answer must be a message of the protocol, each session must end with its connection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/daemon/rig.h"

#define PACKETS_MAX 16u
#define FDS_MAX     32u

static struct rig rig;

static bool no_sessions(struct rig *r)
{
    return control_session_count(r->control) == 0;
}

static void stop_rig(void)
{
    rig_stop(&rig);
}

static void start_rig(void)
{
    static bool started;

    if (started)
        return;
    started = true;
    rig_init(&rig);
    rig_start(&rig, false);
    (void)atexit(stop_rig);
}

/* Take one answer; false: there is none, or the daemon closed. */
static bool take_answer(int fd)
{
    static uint8_t buf[CONTROL_PACKET_MAX + 1];
    char space[CMSG_SPACE(sizeof(int) * FDS_MAX)] __attribute__((aligned(sizeof(struct cmsghdr))));
    struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
    ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    Sockgate__Response *res;

    if (n <= 0)
        return false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        int got[FDS_MAX];

        memcpy(got, CMSG_DATA(c), count * sizeof(int));
        for (size_t i = 0; i < count; i++)
            (void)close(got[i]);
    }
    res = sockgate__response__unpack(NULL, (size_t)n, buf);
    if (!res)
        fuzz_fail("an answer of %zd bytes that does not decode", n);
    if (res->error > 0 || res->error < -4095)
        fuzz_fail("%d is no errno", res->error);
    if (res->error && !*res->message)
        fuzz_fail("error %d without a word", res->error);
    if (!res->error && res->body_case == SOCKGATE__RESPONSE__BODY__NOT_SET)
        fuzz_fail("an answer without error and without body");
    sockgate__response__free_unpacked(res, NULL);
    return true;
}

static void send_bytes(int fd, const uint8_t *p, size_t n)
{
    (void)!send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    rig_serve(&rig, 0);
    while (take_answer(fd))
        rig_serve(&rig, 0);
}

static void send_message(int fd, const Sockgate__Request *req)
{
    uint8_t buf[256];

    send_bytes(fd, buf, sockgate__request__pack(req, buf));
}

static void send_hello(int fd)
{
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;
    Sockgate__HelloRequest hello = SOCKGATE__HELLO_REQUEST__INIT;

    hello.magic = SG_ABI_MAGIC;
    hello.abi_version = SG_ABI_VERSION;
    req.body_case = SOCKGATE__REQUEST__BODY_HELLO;
    req.hello = &hello;
    send_message(fd, &req);
}

static void send_attach(int fd, uint32_t channels)
{
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;
    Sockgate__AttachRequest attach = SOCKGATE__ATTACH_REQUEST__INIT;

    attach.channels = channels;
    req.body_case = SOCKGATE__REQUEST__BODY_ATTACH;
    req.attach = &attach;
    send_message(fd, &req);
}

static void step(int fd, struct input *in)
{
    static uint8_t buf[4096];
    uint8_t code = take_u8(in);
    size_t n;

    switch (code & 7) {
    case 0:
        send_hello(fd);
        break;
    case 1:
        send_attach(fd, take_u32(in));
        break;
    case 2: /* a long one */
        memset(buf, take_u8(in), sizeof(buf));
        send_bytes(fd, buf, sizeof(buf));
        break;
    default:
        n = take_u8(in);
        send_bytes(fd, buf, take_bytes(in, buf, n));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct peer p[2];

    start_rig();
    peer_connect(&p[0], &rig);
    peer_connect(&p[1], &rig);
    send_hello(p[1].fd); /* the second gets past the door at once */
    for (unsigned i = 0; i < PACKETS_MAX && in.left; i++)
        step(p[in.p[0] >> 7].fd, &in);
    peer_close(&p[0]);
    peer_close(&p[1]);
    rig_serve(&rig, 0);
    if (!rig_wait(&rig, no_sessions))
        fuzz_fail("a session outlives its connection");
    return 0;
}

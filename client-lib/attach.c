/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching: connect to the control socket, hello, attach, receive the descriptors, check the segment, map
 * it.
 *
 * What answers on the control socket is taken for sockgated only after the hello; what it hands over is
 * checked against its own header before anything in it is used, so that a daemon of another release or a
 * wrong program gives a clear error and not a crash.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "client-lib/lib.h"
#include "proto/control.pb-c.h"

#define CONTROL_PATH_DEFAULT "/run/sockgate/control.sock"
#define CONTROL_BYTES_MAX    65536u /* of one message, as in control.proto */
#define ATTACH_TIMEOUT_MS    5000
#define PROGRAM_BYTES_MAX    64

/* Descriptors of the attach response, in this order; the doorbells, one for each worker, and behind them one
 * eventfd for each channel. */
enum { FD_SEGMENT, FD_STATUS, FD_DOORBELL };

/* The kernel passes at most SCM_MAX_FD (253) at once; room for more than we ask for, so that all get closed.
 */
#define FDS_MAX 64

static __thread char open_error[256];

const char *sc_lib_open_error(void)
{
    return open_error;
}

__attribute__((format(printf, 2, 3))) static int fail(int rc, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(open_error, sizeof(open_error), format, ap);
    va_end(ap);
    return rc;
}

int sc__attach_fail(int rc, const char *text)
{
    return fail(rc, "%s", text);
}

/* ---- The control socket -------------------------------------------------------------------------- */

static int control_connect(const char *path, int *ret)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = ATTACH_TIMEOUT_MS / 1000};
    int fd;
    int rc;

    if (strlen(path) >= sizeof(sa.sun_path))
        return fail(-ENAMETOOLONG, "%s: longer than a Unix socket address may be", path);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(-errno, "control socket: %s", strerror(errno));
    /* A full backlog blocks connect() as long as sends may block. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit))) {
        rc = fail(-errno, "control socket: %s", strerror(errno));
        goto err;
    }
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
        rc = errno == EAGAIN ? -ETIMEDOUT : -errno;
        if (rc == -EPROTOTYPE)
            rc = -EPROTO;
        if (rc == -ENOENT)
            fail(rc, "%s: no such socket; start sockgated, or set SOCKGATE_CONTROL to its control socket",
                 path);
        else if (rc == -ECONNREFUSED)
            fail(rc, "%s: no daemon listens there any more; start sockgated again", path);
        else if (rc == -EACCES)
            fail(rc, "%s: this user may not use the daemon's control socket", path);
        else
            fail(rc, "%s: %s", path, strerror(-rc));
        goto err;
    }
    *ret = fd;
    return 0;
err:
    close(fd);
    return rc;
}

static int control_send(int fd, const Sockgate__Request *request)
{
    uint8_t buf[1024];
    size_t bytes = sockgate__request__get_packed_size(request);

    if (bytes > sizeof(buf))
        return fail(-EMSGSIZE, "control message of %zu bytes", bytes);
    sockgate__request__pack(request, buf);
    if (send(fd, buf, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
        return fail(errno == EAGAIN ? -ETIMEDOUT : -EPROTO, "the daemon hung up: %s", strerror(errno));
    return 0;
}

static void fds_close(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

/* Take the descriptors that came with a message. */
static unsigned fds_take(struct msghdr *msg, int fds[FDS_MAX])
{
    unsigned count = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len && count < FDS_MAX; at += sizeof(int))
            memcpy(&fds[count++], (const char *)c + at, sizeof(int));
    }
    return count;
}

/* One response; `fds` receives the descriptors that came with it (to be closed by the caller). */
static int control_receive(int fd, Sockgate__Response **ret, int fds[FDS_MAX], unsigned *fd_count)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control;
    uint8_t *buf = malloc(CONTROL_BYTES_MAX);
    struct iovec iov = {.iov_base = buf, .iov_len = CONTROL_BYTES_MAX};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    uint64_t deadline = sc__deadline(ATTACH_TIMEOUT_MS);
    ssize_t n;
    int rc;

    *fd_count = 0;
    if (!buf)
        return fail(-ENOMEM, "out of memory");
    do { /* A signal must not end an attach half-way. */
        uint64_t now = sc__now_ns();

        rc = poll(&pfd, 1, now >= deadline ? 0 : (int)((deadline - now) / 1000000) + 1);
    } while (rc < 0 && errno == EINTR);
    if (rc == 0) {
        rc = fail(-ETIMEDOUT, "the daemon did not answer within %d seconds", ATTACH_TIMEOUT_MS / 1000);
        goto out;
    }
    n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n <= 0) {
        rc = fail(-EPROTO, "the daemon hung up during the attach%s%s", n < 0 ? ": " : "",
                  n < 0 ? strerror(errno) : "");
        goto out;
    }
    *fd_count = fds_take(&msg, fds);
    *ret = msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? NULL : sockgate__response__unpack(NULL, (size_t)n, buf);
    rc = *ret ? 0 : fail(-EPROTO, "what listens on the control socket is no sockgated");
    if (rc) {
        fds_close(fds, *fd_count);
        *fd_count = 0;
    }
out:
    free(buf);
    return rc;
}

/* One request and its response, which must be of kind `body`. */
static int control_call(int fd, const Sockgate__Request *request, Sockgate__Response__BodyCase body,
                        Sockgate__Response **ret, int fds[FDS_MAX], unsigned *fd_count)
{
    int rc;

    *fd_count = 0;
    rc = control_send(fd, request);
    if (rc)
        return rc;
    rc = control_receive(fd, ret, fds, fd_count);
    if (rc)
        return rc;
    if ((*ret)->error) {
        bool sane = (*ret)->error < 0 && (*ret)->error > -4096;
        const char *text = (*ret)->message;

        rc = sane ? (*ret)->error : -EPROTO;
        fail(rc, "%s", text && text[0] ? text : sc_strerror(rc));
    } else if ((*ret)->body_case != body) {
        rc = fail(-EPROTO, "the daemon answered something else than was asked");
    } else {
        return 0;
    }
    sockgate__response__free_unpacked(*ret, NULL);
    fds_close(fds, *fd_count);
    *fd_count = 0;
    return rc;
}

static int hello(int fd)
{
    Sockgate__HelloRequest body = SOCKGATE__HELLO_REQUEST__INIT;
    Sockgate__Request request = SOCKGATE__REQUEST__INIT;
    Sockgate__Response *response;
    char program[PROGRAM_BYTES_MAX + 1];
    int fds[FDS_MAX];
    unsigned fd_count;
    uint32_t version;
    int rc;

    (void)snprintf(program, sizeof(program), "%s", program_invocation_short_name);
    body.magic = SG_ABI_MAGIC;
    body.abi_version = SG_ABI_VERSION;
    body.features = SG_FEATURE_TCP4 | SG_FEATURE_UDP4 | SG_FEATURE_TCP6 | SG_FEATURE_UDP6;
    body.program = program;
    request.body_case = SOCKGATE__REQUEST__BODY_HELLO;
    request.hello = &body;
    rc = control_call(fd, &request, SOCKGATE__RESPONSE__BODY_HELLO, &response, fds, &fd_count);
    if (rc)
        return rc;
    fds_close(fds, fd_count);
    version = response->hello->abi_version;
    if (version != SG_ABI_VERSION)
        rc = fail(-EPROTONOSUPPORT,
                  "the daemon (%.60s) speaks version %u of the shared memory, this library %u: install both "
                  "from one release",
                  response->hello->release, version, SG_ABI_VERSION);
    sockgate__response__free_unpacked(response, NULL);
    return rc;
}

/* ---- The segment --------------------------------------------------------------------------------- */

static bool power_of_two(uint32_t n)
{
    return n && !(n & (n - 1));
}

/* True when [off, off + bytes) lies in the first `limit` bytes and starts on a cache line. */
static bool inside(uint64_t off, uint64_t bytes, uint64_t limit)
{
    return off <= limit && bytes <= limit - off && off % SG_CACHE_LINE == 0;
}

/* Everything in the header that the library will rely on. The text says what is wrong; NULL: nothing. */
static const char *header_problem(const struct sg_seg_hdr *h, uint64_t bytes)
{
    uint64_t channel;

    if (h->magic != SG_ABI_MAGIC)
        return "magic number";
    if (h->abi_version != SG_ABI_VERSION)
        return "version";
    if (h->header_bytes != sizeof(*h) || h->slot_bytes != sizeof(struct sg_slot))
        return "record sizes";
    if (h->seg_bytes != bytes)
        return "size";
    if (h->channel_count < 1 || h->channel_count > SG_CHANNELS_MAX)
        return "number of channels";
    if (h->worker_count < 1 || h->worker_count > SG_WORKERS_MAX)
        return "number of workers";
    if (h->slot_count < 2 || h->slot_count > SG_SLOTS_MAX)
        return "number of slots";
    if (!power_of_two(h->kick_entries) || !power_of_two(h->cmd_entries) || !power_of_two(h->event_entries) ||
        h->kick_entries > SG_SLOTS_MAX || h->cmd_entries > SG_SLOTS_MAX || h->event_entries > SG_SLOTS_MAX)
        return "ring sizes";
    channel = sg_channel_size(h->kick_entries, h->cmd_entries, h->event_entries);
    if (h->channel_bytes < channel || h->channel_off < sizeof(*h) ||
        !inside(h->channel_off, (uint64_t)h->channel_count * h->worker_count * h->channel_bytes, bytes))
        return "place of the channels";
    if (h->slot_off < sizeof(*h) ||
        !inside(h->slot_off, (uint64_t)h->slot_count * sizeof(struct sg_slot), bytes))
        return "place of the slots";
    if (h->heap_off % SG_PAGE_BYTES || !inside(h->heap_off, h->heap_bytes, bytes))
        return "place of the heap";
    return NULL;
}

/* Map a descriptor of at least `least` bytes that nobody can shrink under us. */
static int map(int fd, int prot, uint64_t least, uint64_t *bytes, void **ret)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    void *p;

    if (fstat(fd, &st) || st.st_size < 0 || (uint64_t)st.st_size < least)
        return fail(-EPROTO, "the daemon's memory is too small");
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return fail(-EPROTO, "the daemon's memory is not sealed against shrinking");
    p = mmap(NULL, (size_t)st.st_size, prot, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return fail(-errno, "mapping the daemon's memory: %s", strerror(errno));
    *bytes = (uint64_t)st.st_size;
    *ret = p;
    (void)madvise(p, (size_t)st.st_size,
                  MADV_DONTDUMP); /* Gigabytes of holes help nobody who reads a core. */
    /* A child must never write into its parent's sockets. */
    if (madvise(p, (size_t)st.st_size, MADV_DONTFORK))
        return fail(-errno, "mapping the daemon's memory: %s", strerror(errno));
    return 0;
}

static void ring_init(struct sg_ring *r, uint32_t *tail, uint32_t *head, void *slots, uint32_t entries)
{
    *r = (struct sg_ring){.tail = tail, .head = head, .slots = slots, .entries = entries};
}

static void map_rings(struct rings *r, uint8_t *base, const struct sg_seg_hdr *h)
{
    struct sg_channel *c = (struct sg_channel *)(void *)base;

    ring_init(&r->kicks, &c->kick_tail, &c->kick_head, base + sg_channel_kick_off(), h->kick_entries);
    ring_init(&r->cmds, &c->cmd_tail, &c->cmd_head, base + sg_channel_cmd_off(h->kick_entries),
              h->cmd_entries);
    ring_init(&r->events, &c->event_tail, &c->event_head,
              base + sg_channel_event_off(h->kick_entries, h->cmd_entries), h->event_entries);
}

static int map_segment(struct sc_lib *lib, int fd, uint64_t promised_bytes)
{
    struct sg_seg_hdr h;
    struct channel *ch = &lib->ch;
    const char *problem;
    uint8_t *base;
    void *p = NULL;
    int rc;

    rc = map(fd, PROT_READ | PROT_WRITE, sizeof(h), &lib->seg_bytes, &p);
    lib->seg = p;
    if (rc)
        return rc;
    memcpy(&h, lib->seg, sizeof(h)); /* Copy, check, use the copy. */
    problem = lib->seg_bytes == promised_bytes ? header_problem(&h, lib->seg_bytes) : "size";
    if (problem)
        return fail(h.magic == SG_ABI_MAGIC && h.abi_version != SG_ABI_VERSION ? -EPROTONOSUPPORT : -EPROTO,
                    "the daemon's memory fails the check of its %s", problem);
    lib->heap_off = h.heap_off;
    lib->slots = (struct sg_slot *)(void *)(lib->seg + h.slot_off);
    rc = sc__channel_init(ch, lib, h.slot_count);
    if (rc)
        return fail(rc, "out of memory");
    base = lib->seg + h.channel_off;
    ch->worker_count = h.worker_count;
    ch->sleep = &((struct sg_channel *)(void *)base)->sleep;
    for (uint32_t w = 0; w < h.worker_count; w++)
        map_rings(&ch->rings[w], base + (uint64_t)w * h.channel_bytes, &h);
    return 0;
}

static int map_status(struct sc_lib *lib, int fd)
{
    void *p = NULL;
    int rc = map(fd, PROT_READ, sizeof(struct sg_status), &lib->status_bytes, &p);

    lib->status = p;
    if (rc)
        return rc;
    if (lib->status->magic != SG_ABI_MAGIC || lib->status->abi_version != SG_ABI_VERSION)
        return fail(-EPROTO, "the daemon's status page fails its check");
    return 0;
}

static int eventfds_settle(struct channel *ch)
{
    bool ok = !fcntl(ch->event_fd, F_SETFL, O_NONBLOCK);

    for (uint32_t w = 0; w < ch->worker_count; w++)
        ok &= !fcntl(ch->rings[w].doorbell_fd, F_SETFL, O_NONBLOCK);
    return ok ? 0 : fail(-errno, "the daemon's eventfds: %s", strerror(errno));
}

static int attach(struct sc_lib *lib)
{
    Sockgate__AttachRequest body = SOCKGATE__ATTACH_REQUEST__INIT;
    Sockgate__Request request = SOCKGATE__REQUEST__INIT;
    Sockgate__Response *response;
    const ProtobufCBinaryData *address;
    int fds[FDS_MAX];
    unsigned fd_count;
    uint32_t workers;
    int rc;

    body.channels = 1;
    request.body_case = SOCKGATE__REQUEST__BODY_ATTACH;
    request.attach = &body;
    rc = control_call(lib->ctl_fd, &request, SOCKGATE__RESPONSE__BODY_ATTACH, &response, fds, &fd_count);
    if (rc)
        return rc;
    workers = response->attach->workers;
    if (workers < 1 || workers > SG_WORKERS_MAX || response->attach->channels < 1 ||
        fd_count != FD_DOORBELL + workers + response->attach->channels) {
        fds_close(fds, fd_count);
        rc = fail(-EPROTO, "the daemon sent %u descriptors for %u channels and %u workers", fd_count,
                  response->attach->channels, workers);
        goto out;
    }
    rc = map_segment(lib, fds[FD_SEGMENT], response->attach->seg_bytes);
    if (!rc)
        rc = map_status(lib, fds[FD_STATUS]);
    for (uint32_t w = 0; w < workers; w++)
        lib->ch.rings[w].doorbell_fd = fds[FD_DOORBELL + w];
    lib->ch.event_fd = fds[FD_DOORBELL + workers];
    close(fds[FD_SEGMENT]);
    close(fds[FD_STATUS]);
    /* Channels beyond the one we asked for. */
    fds_close(fds + FD_DOORBELL + workers + 1, fd_count - (FD_DOORBELL + workers + 1));
    if (!rc && lib->ch.worker_count != workers)
        rc = fail(-EPROTO, "the daemon's memory fails the check of its number of workers");
    if (!rc)
        rc = eventfds_settle(&lib->ch);
    address = &response->attach->address4;
    if (address->len == 4) {
        lib->address.family = SC_ADDR_INET;
        lib->address.len = 4;
        memcpy(lib->address.ip, address->data, 4);
    }
out:
    sockgate__response__free_unpacked(response, NULL);
    return rc;
}

int sc__attach(struct sc_lib *lib, const char *control_path)
{
    const char *path = control_path ? control_path : getenv("SOCKGATE_CONTROL");
    int rc;

    if (!path || !path[0])
        path = CONTROL_PATH_DEFAULT;
    rc = control_connect(path, &lib->ctl_fd);
    if (rc)
        return rc;
    rc = hello(lib->ctl_fd);
    return rc ? rc : attach(lib);
}

void sc__detach(struct sc_lib *lib)
{
    bool child = sc__lib_foreign(lib);

    /* In a child the mappings don't exist, and sc__lib_fork_child() has closed the descriptors. */
    if (!child && lib->seg)
        (void)munmap(lib->seg, lib->seg_bytes);
    if (!child && lib->status)
        (void)munmap((void *)(uintptr_t)lib->status, lib->status_bytes);
    if (lib->epoll_fd >= 0)
        close(lib->epoll_fd);
    for (unsigned w = 0; w < SG_WORKERS_MAX; w++)
        if (lib->ch.rings[w].doorbell_fd >= 0)
            close(lib->ch.rings[w].doorbell_fd);
    if (lib->ch.event_fd >= 0)
        close(lib->ch.event_fd);
    if (lib->ctl_fd >= 0)
        close(lib->ctl_fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket options: the engine's, those that the library keeps, and struct tcp_info from what the engine shows.
 */
#include "tests/packetdrill/stack.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/tcp.h>
#include <string.h>

#include "tests/packetdrill/interface.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#define MEMINFO_WORDS  9
#define MEMINFO_SNDBUF 3

static bool keeps_timeout(int level, int name)
{
    return level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO);
}

static int set_timeout(struct pd_fd *f, int name, const void *value, socklen_t bytes)
{
    struct timeval tv;
    uint64_t us;

    if (bytes < sizeof(tv))
        return -EINVAL;
    memcpy(&tv, value, sizeof(tv));
    us = (uint64_t)tv.tv_sec * 1000000 + (uint64_t)tv.tv_usec;
    *(name == SO_RCVTIMEO ? &f->rcv_us : &f->snd_us) = us ? us : PD_NEVER;
    return 0;
}

static int set_option(struct pd_fd *f, int level, int name, const void *value, socklen_t bytes)
{
    uint64_t v;
    int word;
    int rc;

    if (keeps_timeout(level, name))
        return set_timeout(f, name, value, bytes);
    if (!value)
        return -EFAULT;
    if (level == SOL_IP && bytes && bytes < sizeof(word)) /* as Linux has it, a byte will do */
        word = *(const unsigned char *)value;
    else if (bytes < sizeof(word))
        return -EINVAL;
    else
        memcpy(&word, value, sizeof(word));
    v = (uint64_t)(int64_t)word;
    if (level == SOL_SOCKET && name == SO_LINGER) {
        struct linger linger;

        if (bytes < sizeof(linger))
            return -EINVAL;
        memcpy(&linger, value, sizeof(linger));
        v = (uint64_t)(uint32_t)linger.l_linger << 32 | (linger.l_onoff != 0);
    }
    rc = engine_setopt(pd.h.e, pd.h.sid, f->slot, (uint32_t)level, (uint32_t)name, v, pd.h.now_us);
    if (!rc && level == SOL_SOCKET && name == SO_SNDBUF)
        f->sndbuf = word;
    if (!rc && level == SOL_SOCKET && name == SO_RCVBUF)
        f->rcvbuf = word;
    return rc;
}

/* ---- struct tcp_info ---------------------------------------------------------------------------- */

static uint8_t state_number(const char *name)
{
    static const char *const names[] = {
        NULL,        "ESTABLISHED", "SYN_SENT",   "SYN_RECEIVED", "FIN_WAIT_1", "FIN_WAIT_2",
        "TIME_WAIT", "CLOSED",      "CLOSE_WAIT", "LAST_ACK",     "LISTEN",     "CLOSING",
    };

    for (uint8_t i = 1; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return 7;
}

static bool find_info(const struct pd_fd *f, struct engine_sock_info *ret)
{
    uint64_t cursor = 0;

    while (engine_sock_next(pd.h.e, &cursor, pd.h.now_us, ret))
        if (ret->sid == pd.h.sid && ret->slot == f->slot)
            return true;
    return false;
}

static void fill_info(const struct pd_fd *f, struct tcp_info *ret)
{
    struct engine_sock_info in;
    uint32_t mss;

    *ret = (struct tcp_info){.tcpi_state = 7};
    if (!find_info(f, &in))
        return;
    mss = in.mss ? in.mss : 1;
    ret->tcpi_state = state_number(in.state);
    ret->tcpi_retransmits = ret->tcpi_backoff = (uint8_t)in.backoff;
    ret->tcpi_rto = in.rto_us;
    ret->tcpi_snd_mss = in.mss;
    ret->tcpi_unacked = (uint32_t)((in.bytes_sent - in.bytes_acked + mss - 1) / mss);
    ret->tcpi_rtt = in.srtt_us;
    ret->tcpi_rttvar = in.rttvar_us;
    ret->tcpi_snd_ssthresh = in.ssthresh_bytes > INT32_MAX / 2 ? INT32_MAX : in.ssthresh_bytes / mss;
    ret->tcpi_snd_cwnd = in.cwnd_bytes / mss;
    ret->tcpi_total_retrans = in.retransmits;
    ret->tcpi_bytes_acked = in.bytes_acked;
    ret->tcpi_bytes_received = in.bytes_received;
    ret->tcpi_bytes_sent = in.bytes_sent;
    ret->tcpi_segs_in = (uint32_t)in.segs_in;
    ret->tcpi_segs_out = (uint32_t)in.segs_out;
    ret->tcpi_notsent_bytes = (uint32_t)(in.tx_queue - (in.bytes_sent - in.bytes_acked));
}

/* ---- getsockopt --------------------------------------------------------------------------------- */

static void give(void *value, socklen_t *bytes, const void *from, size_t size)
{
    if (*bytes > size)
        memset((uint8_t *)value + size, 0, *bytes - size);
    memcpy(value, from, *bytes < size ? *bytes : size);
}

static int get_buffer(const struct pd_fd *f, int name, void *value, socklen_t *bytes)
{
    int doubled = 2 * (name == SO_SNDBUF ? f->sndbuf : f->rcvbuf);
    uint64_t v = 0;
    int rc = engine_getopt(pd.h.e, pd.h.sid, f->slot, SOL_SOCKET, (uint32_t)name, &v);

    if (rc)
        return rc;
    if (!doubled)
        doubled = (int)v;
    give(value, bytes, &doubled, sizeof(doubled));
    return 0;
}

static int get_error(struct pd_fd *f, void *value, socklen_t *bytes)
{
    uint64_t v = 0;
    int rc = engine_getopt(pd.h.e, pd.h.sid, f->slot, SOL_SOCKET, SO_ERROR, &v);
    int error = f->err_told && (pd_slot(f)->d.flags & SG_F_ERROR) ? 0 : (int)v;

    if (rc)
        return rc;
    f->err_told |= (pd_slot(f)->d.flags & SG_F_ERROR) != 0;
    give(value, bytes, &error, sizeof(error));
    host_run(&pd.h);
    return 0;
}

static int get_option(struct pd_fd *f, int level, int name, void *value, socklen_t *bytes)
{
    uint64_t v = 0;
    int word;
    int rc;

    if (level == IPPROTO_TCP && name == TCP_INFO) {
        struct tcp_info info;

        fill_info(f, &info);
        give(value, bytes, &info, sizeof(info));
        return 0;
    }
    if (level == IPPROTO_TCP && name == TCP_CC_INFO) { /* the engine's algorithms tell nothing */
        *bytes = 0;
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_MEMINFO) {
        uint32_t words[MEMINFO_WORDS] = {0};

        give(value, bytes, words, sizeof(words));
        return 0;
    }
    if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_RCVBUF))
        return get_buffer(f, name, value, bytes);
    if (level == SOL_SOCKET && name == SO_ERROR)
        return get_error(f, value, bytes);
    rc = engine_getopt(pd.h.e, pd.h.sid, f->slot, (uint32_t)level, (uint32_t)name, &v);
    if (rc)
        return rc;
    if (level == SOL_SOCKET && name == SO_LINGER) {
        struct linger linger = {.l_onoff = (int)(uint32_t)v, .l_linger = (int)(v >> 32)};

        give(value, bytes, &linger, sizeof(linger));
        return 0;
    }
    word = (int)v;
    give(value, bytes, &word, sizeof(word));
    return 0;
}

static int do_getsockopt(void *self, int fd, int level, int name, void *value, socklen_t *bytes)
{
    struct pd_fd *f;
    int rc = -1;

    (void)self;
    pd_enter();
    f = pd_fd_get(fd, PD_SOCKET);
    if (f)
        rc = (int)pd_result(get_option(f, level, name, value, bytes));
    pd_leave();
    return rc;
}

static int do_setsockopt(void *self, int fd, int level, int name, const void *value, socklen_t bytes)
{
    struct pd_fd *f;
    int rc = -1;

    (void)self;
    pd_enter();
    f = pd_fd_get(fd, PD_SOCKET);
    if (f) {
        rc = (int)pd_result(set_option(f, level, name, value, bytes));
        host_run(&pd.h);
        pd_settle();
    }
    pd_leave();
    return rc;
}

/* The code blocks of a script read TCP_INFO past the interface, by a plain getsockopt() on the descriptor. So
 * that they see the engine's numbers, this object may be preloaded as well; then this one answers. */
int getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
    static int (*next)(int, int, int, void *, socklen_t *);

    if (fd >= 0 && fd < PD_FDS && pd.fds[fd].kind == PD_SOCKET)
        return do_getsockopt(NULL, fd, level, name, value, bytes);
    if (!next)
        *(void **)(void *)&next = dlsym(RTLD_NEXT, "getsockopt");
    return next(fd, level, name, value, bytes);
}

void pd_options_fill(struct pd_interface *i)
{
    i->getsockopt = do_getsockopt;
    i->setsockopt = do_setsockopt;
}

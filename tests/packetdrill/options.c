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

/* TCP_FASTOPEN_KEY: one key or two. */
static int set_keys(const struct pd_fd *f, const void *value, socklen_t bytes)
{
    struct fastopen_keys k = {.count = bytes / sizeof(k.key[0])};

    if (bytes != sizeof(k.key[0]) && bytes != sizeof(k.key))
        return -EINVAL;
    memcpy(k.key, value, bytes);
    return engine_fastopen_keys(pd.h.e, pd.h.sid, f->slot, &k);
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
    if (level == IPPROTO_TCP && name == TCP_FASTOPEN_CONNECT && pd.fastopen_off)
        return -EOPNOTSUPP;
    if (level == IPPROTO_TCP && name == TCP_FASTOPEN_KEY)
        return set_keys(f, value, bytes);
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

/* The engine's is Linux's as far as it goes (tests/segment/test_tcp_info.c holds it to that). */
static int fill_info(const struct pd_fd *f, struct tcp_info *ret)
{
    uint64_t words[SG_TCP_INFO_WORDS];

    *ret = (struct tcp_info){0};
    engine_clock(pd.h.e, pd.h.now_us);
    for (uint32_t i = 0; i < SG_TCP_INFO_WORDS; i++) {
        int rc = engine_getopt(pd.h.e, pd.h.sid, f->slot, IPPROTO_TCP, SG_TCP_INFO | i << SG_TCP_INFO_SHIFT,
                               &words[i]);

        if (rc)
            return rc;
    }
    memcpy(ret, words, sizeof(words) < sizeof(*ret) ? sizeof(words) : sizeof(*ret));
    return 0;
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
        int failed = fill_info(f, &info);

        if (!failed)
            give(value, bytes, &info, sizeof(info));
        return failed;
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

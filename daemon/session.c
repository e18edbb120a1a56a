/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where the parts of a segment lie. */
struct seg_layout {
    uint64_t channel_off, channel_bytes, slot_off, heap_off, total;
};

static uint64_t page_up(uint64_t v)
{
    return (v + SG_PAGE_BYTES - 1) & ~(uint64_t)(SG_PAGE_BYTES - 1);
}

static struct seg_layout seg_layout(const struct config *cfg, uint32_t channels)
{
    struct seg_layout l;

    l.channel_off = SG_PAGE_BYTES;
    l.channel_bytes = sg_channel_size(cfg->kick_entries, cfg->cmd_entries, cfg->event_entries);
    l.slot_off = l.channel_off + (uint64_t)channels * cfg->workers * l.channel_bytes;
    l.heap_off = page_up(l.slot_off + (uint64_t)cfg->slots * sizeof(struct sg_slot));
    l.total = l.heap_off + cfg->workers * cfg->heap_bytes;
    return l;
}

uint64_t session_segment_bytes(const struct config *cfg)
{
    return seg_layout(cfg, cfg->channels).total;
}

/* A memfd of its final size that nobody can resize, mapped for us. */
static int sealed_memfd(const char *name, uint64_t bytes, int more_seals, int *ret_fd, void **ret_base)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *base;
    int rc;

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)bytes))
        goto fail;
    base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED)
        goto fail;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | more_seals)) {
        rc = -errno;
        (void)munmap(base, bytes);
        (void)close(fd);
        return rc;
    }
    /* A core dump holds no application's data, and not 16 GiB of holes. */
    (void)madvise(base, bytes, MADV_DONTDUMP); /* Only advice: an old kernel may not know it. */
    *ret_fd = fd;
    *ret_base = base;
    return 0;
fail:
    rc = -errno;
    (void)close(fd);
    return rc;
}

static void write_header(struct app_session *s, const struct config *cfg, const struct seg_layout *l,
                         uint64_t features)
{
    struct sg_seg_hdr *h = (void *)s->base;

    *h = (struct sg_seg_hdr){
        .magic = SG_ABI_MAGIC,
        .abi_version = SG_ABI_VERSION,
        .header_bytes = sizeof(*h),
        .features = features,
        .seg_bytes = l->total,
        .channel_off = l->channel_off,
        .slot_off = l->slot_off,
        .heap_off = l->heap_off,
        .heap_bytes = cfg->workers * cfg->heap_bytes,
        .channel_count = s->channel_count,
        .channel_bytes = (uint32_t)l->channel_bytes,
        .slot_count = cfg->slots,
        .slot_bytes = sizeof(struct sg_slot),
        .kick_entries = cfg->kick_entries,
        .cmd_entries = cfg->cmd_entries,
        .event_entries = cfg->event_entries,
        .session_id = s->id,
        .worker_count = s->worker_count,
    };
}

static int open_events(struct app_session *s)
{
    for (uint32_t w = 0; w < s->worker_count; w++) {
        s->doorbell_fd[w] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (s->doorbell_fd[w] < 0)
            return -errno;
    }
    for (uint32_t i = 0; i < s->channel_count; i++) {
        s->channel_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (s->channel_fd[i] < 0)
            return -errno;
    }
    return 0;
}

static int make_part(struct app_session *s, const struct config *cfg, const struct seg_layout *l, uint32_t w)
{
    struct session_part *p = &s->parts[w];
    uint8_t *at = s->base + l->channel_off;

    p->sid = -1;
    p->slot_sock = calloc(1, engine_slot_map_bytes(cfg->slots));
    p->slot_channel = calloc(cfg->slots, sizeof(*p->slot_channel));
    p->heap_meta = calloc(1, segheap_meta_bytes(cfg->heap_bytes));
    if (!p->slot_sock || !p->slot_channel || !p->heap_meta)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->channel_count; i++) {
        uint8_t *first = at + (uint64_t)i * s->worker_count * l->channel_bytes;

        channel_open(&p->channels[i], first + w * l->channel_bytes, cfg->kick_entries, cfg->cmd_entries,
                     cfg->event_entries);
        p->channels[i].sleep = &((struct sg_channel *)(void *)first)->sleep;
    }
    return 0;
}

int session_create(const struct config *cfg, uint32_t id, uint32_t channels, uint64_t features,
                   const struct session_owner *owner, uint64_t now_us, struct app_session **ret)
{
    struct seg_layout l = seg_layout(cfg, channels);
    struct app_session *s = calloc(1, sizeof(*s));
    void *base = NULL;
    int rc;

    assert(channels >= 1 && channels <= cfg->channels);
    if (!s)
        return -ENOMEM;
    s->id = id;
    s->owner = *owner;
    s->created_us = now_us;
    s->seg_fd = -1;
    for (uint32_t i = 0; i < SG_CHANNELS_MAX; i++)
        s->channel_fd[i] = -1;
    for (uint32_t i = 0; i < SG_WORKERS_MAX; i++)
        s->doorbell_fd[i] = -1;
    s->worker_count = cfg->workers;
    s->channel_count = channels;
    s->slot_count = cfg->slots;
    s->heap_off = l.heap_off;
    s->heap_bytes = cfg->heap_bytes;
    s->buffer_bytes_max = cfg->buffer_bytes;
    s->raw = cfg->raw == CONFIG_WHO_ALL || (cfg->raw == CONFIG_WHO_ROOT && owner->uid == 0);
    s->parts = calloc(cfg->workers, sizeof(*s->parts));
    if (!s->parts) {
        session_free(s);
        return -ENOMEM;
    }

    rc = sealed_memfd("sockgate-segment", l.total, 0, &s->seg_fd, &base);
    if (!rc) {
        s->base = base;
        s->bytes = l.total;
        s->slots = (void *)(s->base + l.slot_off);
        rc = open_events(s);
    }
    for (uint32_t w = 0; !rc && w < cfg->workers; w++)
        rc = make_part(s, cfg, &l, w);
    if (rc) {
        session_free(s);
        return rc;
    }
    write_header(s, cfg, &l, features);
    *ret = s;
    return 0;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

void session_free(struct app_session *s)
{
    if (!s)
        return;
    if (s->base)
        (void)munmap(s->base, s->bytes);
    close_fd(s->seg_fd);
    for (uint32_t i = 0; i < SG_WORKERS_MAX; i++)
        close_fd(s->doorbell_fd[i]);
    for (uint32_t i = 0; i < SG_CHANNELS_MAX; i++)
        close_fd(s->channel_fd[i]);
    for (uint32_t w = 0; s->parts && w < s->worker_count; w++) {
        free(s->parts[w].slot_sock);
        free(s->parts[w].slot_channel);
        free(s->parts[w].heap_meta);
    }
    free(s->parts);
    free(s);
}

void session_program(pid_t pid, char *ret)
{
    char path[64];
    ssize_t n = -1;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, ret, SESSION_PROGRAM_MAX - 1);
        (void)close(fd);
    }
    if (n <= 0) { /* It is gone already, or hidden from us. */
        ret[0] = '?';
        n = 1;
    }
    ret[n] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    for (char *p = ret; *p; p++) /* A process names itself: nothing that upsets a terminal or a log. */
        if (*p < ' ' || *p > '~')
            *p = '?';
}

int session_status_create(uint64_t boot_id, uint32_t worker_count, struct sg_status **ret, int *ret_fd)
{
    void *base = NULL;
    /* Mapped first: after F_SEAL_FUTURE_WRITE nobody can map it writable or write() to it, we included. */
    int rc = sealed_memfd("sockgate-status", SG_PAGE_BYTES, F_SEAL_FUTURE_WRITE, ret_fd, &base);

    if (rc)
        return rc;
    *ret = base;
    **ret = (struct sg_status){
        .magic = SG_ABI_MAGIC,
        .abi_version = SG_ABI_VERSION,
        .worker_count = worker_count,
        .boot_id = boot_id,
    };
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/session.h"

static struct app_session *make(struct config *cfg)
{
    const struct session_owner owner = {.pid = 1, .uid = 2, .gid = 3, .program = "prog"};
    struct app_session *s;

    config_init(cfg);
    cr_assert_eq(session_create(cfg, 42, 1, SG_FEATURE_TCP4, &owner, 0, &s), 0);
    return s;
}

Test(session, header_describes_the_segment)
{
    struct config cfg;
    struct app_session *s = make(&cfg);
    const struct sg_seg_hdr *h = (const struct sg_seg_hdr *)s->base;
    struct stat st;

    cr_assert_eq(h->magic, SG_ABI_MAGIC);
    cr_assert_eq(h->abi_version, SG_ABI_VERSION);
    cr_assert_eq(h->session_id, 42);
    cr_assert_eq(h->features, SG_FEATURE_TCP4);
    cr_assert_eq(h->seg_bytes, session_segment_bytes(&cfg));
    cr_assert_eq(h->channel_count, 1);
    cr_assert_geq(h->channel_off, sizeof(*h));
    cr_assert_geq(h->slot_off, h->channel_off + h->channel_bytes);
    cr_assert_eq(h->slot_off % SG_CACHE_LINE, 0);
    cr_assert_geq(h->heap_off, h->slot_off + (uint64_t)h->slot_count * h->slot_bytes);
    cr_assert_eq(h->heap_off % SG_PAGE_BYTES, 0);
    cr_assert_eq(h->heap_off + h->heap_bytes, h->seg_bytes);
    cr_assert_eq(h->worker_count, 1);
    cr_assert_eq(h->pad32, 0);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(h->pad[i], 0);
    cr_assert_eq(fstat(s->seg_fd, &st), 0);
    cr_assert_eq((uint64_t)st.st_size, h->seg_bytes);
    session_free(s);
}

Test(session, segment_is_sparse)
{
    struct config cfg;
    struct app_session *s = make(&cfg);
    struct stat st;

    cr_assert_eq(fstat(s->seg_fd, &st), 0);
    cr_assert_leq(st.st_blocks * 512, 2 * SG_PAGE_BYTES, "only the header is touched");
    session_free(s);
}

Test(session, segment_can_neither_shrink_nor_grow_nor_be_sealed_further)
{
    struct config cfg;
    struct app_session *s = make(&cfg);

    cr_assert_eq(ftruncate(s->seg_fd, SG_PAGE_BYTES), -1, "an access beyond the end would be SIGBUS");
    cr_assert_eq(ftruncate(s->seg_fd, (off_t)s->bytes * 2), -1);
    cr_assert_eq(fcntl(s->seg_fd, F_ADD_SEALS, F_SEAL_WRITE), -1, "a client could stop us from mapping it");
    session_free(s);
}

Test(session, punched_holes_read_as_zero_and_do_not_fault)
{
    struct config cfg;
    struct app_session *s = make(&cfg);

    s->base[s->heap_off] = 7;
    cr_assert_eq(fallocate(s->seg_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)s->bytes), 0);
    cr_assert_eq(s->base[s->heap_off], 0);
    cr_assert_eq(s->base[s->bytes - 1], 0);
    session_free(s);
}

Test(session, status_page_can_not_be_written_by_who_gets_it)
{
    struct sg_status *status;
    uint64_t word = 1;
    char path[64];
    int fd, again;

    cr_assert_eq(session_status_create(99, 1, &status, &fd), 0);
    cr_assert_eq(status->magic, SG_ABI_MAGIC);
    cr_assert_eq(status->boot_id, 99);
    cr_assert_eq(mmap(NULL, SG_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    cr_assert_eq(pwrite(fd, &word, sizeof(word), 0), -1);
    cr_assert_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SG_PAGE_BYTES), -1);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    again = open(path, O_RDWR); /* The way around a read-only descriptor. */
    if (again >= 0) {
        cr_assert_eq(mmap(NULL, SG_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0), MAP_FAILED);
        (void)close(again);
    }
    status->worker[0].sleeping = 1; /* We still can. */
    cr_assert_neq(mmap(NULL, SG_PAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0), MAP_FAILED);
    (void)munmap(status, SG_PAGE_BYTES);
    (void)close(fd);
}

Test(session, descriptors_are_given_back)
{
    struct config cfg;
    struct app_session *s = make(&cfg);
    int fds[] = {s->seg_fd, s->doorbell_fd[0], s->channel_fd[0]};

    for (size_t i = 0; i < 3; i++) {
        cr_assert_geq(fds[i], 0);
        cr_assert_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
    }
    session_free(s);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(fcntl(fds[i], F_GETFD), -1);
    session_free(NULL);
}

Test(session, program_is_the_name_of_the_process_and_safe_to_print)
{
    char name[SESSION_PROGRAM_MAX];
    FILE *f = fopen("/proc/self/comm", "w");

    cr_assert_not_null(f);
    (void)fputs("a\033[31m\xff\"b", f);
    (void)fclose(f);
    session_program(getpid(), name);
    cr_assert_str_eq(name, "a?[31m?\"b");
    session_program(-5, name);
    cr_assert_str_eq(name, "?");
}

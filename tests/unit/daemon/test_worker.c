/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "tests/unit/daemon/rig.h"

static struct rig rig;

static struct sg_cmd open_udp(uint32_t slot)
{
    return (struct sg_cmd){.op = SG_CMD_OPEN, .slot = slot, .arg0 = SG_SOCK_DGRAM, .family = SG_AF_INET};
}

static struct sg_cmd open_tcp(uint32_t slot)
{
    return (struct sg_cmd){.op = SG_CMD_OPEN, .slot = slot, .arg0 = SG_SOCK_STREAM, .family = SG_AF_INET};
}

static struct sg_cmd bind_to(uint32_t slot, uint16_t port)
{
    struct sg_cmd cmd = {.op = SG_CMD_BIND, .slot = slot};

    peer_own_address(&rig, &cmd, port);
    return cmd;
}

static bool no_sessions(struct rig *r)
{
    return control_session_count(r->control) == 0;
}

/* ---- Commands ---------------------------------------------------------------------------------------- */

Test(worker, unknown_commands_are_enosys_and_reserved_fields_must_be_zero)
{
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_NOP}), 0);
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_COUNT}), -ENOSYS);
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = UINT16_MAX, .flags = 1}), -ENOSYS);
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_NOP, .flags = 1}), -EINVAL);
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_NOP, .pad = 1}), -EINVAL);
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_NOP, .value2 = 1}), -EINVAL);
    peer_detach(&s);
    rig_stop(&rig);
}

Test(worker, bad_slots_are_ebadf_in_every_command)
{
    struct peer_session s;
    uint32_t bad[5];

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    bad[0] = 0;
    bad[1] = s.hdr.slot_count;
    bad[2] = s.hdr.slot_count + 1;
    bad[3] = UINT32_MAX;
    bad[4] = 77; /* In range, but empty. */
    for (uint16_t op = SG_CMD_OPEN; op < SG_CMD_COUNT; op++) {
        for (int i = 0; i < 5; i++) {
            struct sg_cmd cmd = {.op = op, .slot = bad[i], .family = SG_AF_INET, .arg0 = SG_SOCK_DGRAM};

            if (op != SG_CMD_OPEN || i != 4)
                cr_assert_eq(peer_command(&s, cmd), -EBADF, "op %u slot %u", op, bad[i]);
        }
    }
    cr_assert_eq(peer_command(&s, open_tcp(1)), 0);
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_LISTEN, .slot = 1, .arg0 = 1}), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_ACCEPT, .slot = 1, .arg0 = bad[i]}),
                     -EBADF);
    peer_detach(&s);
    rig_stop(&rig);
}

Test(worker, socket_lives_from_open_to_close)
{
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    cr_assert_eq(peer_command(&s, open_udp(3)), 0);
    cr_assert_eq(s.slots[3].d.state, SG_ST_OPEN, "the slot is written before the reply");
    cr_assert_eq(peer_command(&s, bind_to(3, 5000)), 0);
    cr_assert_eq(s.slots[3].n.local_port, 5000);
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_CLOSE, .slot = 3, .arg0 = 1}), -EINVAL);
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_CLOSE, .slot = 3}), 0);
    cr_assert_eq(s.slots[3].d.state, SG_ST_FREE);
    cr_assert_eq(peer_command(&s, open_udp(3)), 0, "the number is free again");
    peer_detach(&s);
    rig_stop(&rig);
}

Test(worker, command_without_tag_is_carried_out_and_not_answered)
{
    struct peer_session s;
    struct sg_event ev;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    s.next_tag = 0;
    peer_push(&s, open_udp(1));
    s.next_tag = 9;
    peer_push(&s, bind_to(1, 5001));
    do
        cr_assert(peer_event(&s, &ev));
    while (ev.kind != SG_EV_REPLY);
    cr_assert_eq(ev.tag, 9, "the first reply is that of the second command");
    cr_assert_eq(ev.result, 0);
    peer_detach(&s);
    rig_stop(&rig);
}

/* The application reads no events: commands wait, no reply is lost, and all come once it reads. */
Test(worker, full_event_ring_holds_commands_back_and_loses_no_reply, .timeout = 20)
{
    enum { TOTAL = 500 };
    unsigned pushed = 0, answered = 0;
    struct peer_session s;
    struct sg_event ev;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    while (answered < TOTAL) {
        while (pushed < TOTAL && sg_ring_free(&s.cmd)) {
            peer_push(&s, (struct sg_cmd){.op = SG_CMD_NOP});
            pushed++;
        }
        (void)usleep(3000); /* Both rings are full now. */
        for (unsigned i = 0; i < 10 && answered < TOTAL; i++) {
            cr_assert(peer_event(&s, &ev), "reply %u never came", answered + 1);
            cr_assert_eq(ev.tag, ++answered, "replies come in order");
        }
    }
    peer_detach(&s);
    rig_stop(&rig);
}

/* ---- Sleep ----------------------------------------------------------------------------------------------
 */

static bool asleep(struct rig *r)
{
    return __atomic_load_n(&r->status->worker[0].sleeping, __ATOMIC_SEQ_CST) == 1;
}

Test(worker, idle_worker_sleeps_and_takes_no_turns)
{
    struct worker_counters before, after;
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_attach(&s, &rig);
    cr_assert(rig_wait(&rig, asleep));
    before = rig_counters(&rig);
    (void)usleep(300000);
    after = rig_counters(&rig);
    cr_assert_leq(after.turns - before.turns, 200, "%llu turns in 0.3 s",
                  (unsigned long long)(after.turns - before.turns));
    peer_detach(&s);
    rig_stop(&rig);
}

/* Commands at random moments, with the doorbell only when the daemon says it sleeps: none may be missed. */
Test(worker, no_wake_up_is_lost, .timeout = 60)
{
    unsigned seed = (unsigned)getpid();
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t until_us = clock_now_us() + (uint64_t)rand_r(&seed) % 60;

        while (clock_now_us() < until_us)
            ;
        cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_NOP}), 0, "seed %d: command %u was missed",
                     (int)getpid(), i);
    }
    peer_detach(&s);
    rig_stop(&rig);
}

Test(worker, sleeper_on_the_futex_is_woken_by_a_reply, .timeout = 20)
{
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    for (unsigned i = 0; i < 500; i++) {
        const struct timespec patience = {.tv_sec = 2};
        struct sg_event ev;

        peer_push(&s, (struct sg_cmd){.op = SG_CMD_NOP});
        __atomic_store_n(&s.ctl->sleep, SG_SLEEP_FUTEX, __ATOMIC_RELAXED);
        sg_fence();
        while (!sg_ring_waiting(&s.event)) {
            long rc = syscall(SYS_futex, &s.ctl->sleep, FUTEX_WAIT, SG_SLEEP_FUTEX, &patience, NULL, 0);

            cr_assert(rc == 0 || errno != ETIMEDOUT, "wake-up %u was lost", i);
        }
        __atomic_store_n(&s.ctl->sleep, SG_AWAKE, __ATOMIC_RELAXED);
        cr_assert(peer_event(&s, &ev));
    }
    peer_detach(&s);
    rig_stop(&rig);
}

Test(worker, sleeper_on_the_eventfd_is_woken_by_a_reply, .timeout = 20)
{
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    for (unsigned i = 0; i < 500; i++) {
        struct pollfd p = {.fd = s.channel_fd, .events = POLLIN};
        struct sg_event ev;
        uint64_t count;

        peer_push(&s, (struct sg_cmd){.op = SG_CMD_NOP});
        __atomic_store_n(&s.ctl->sleep, SG_SLEEP_EVENTFD, __ATOMIC_RELAXED);
        sg_fence();
        if (!sg_ring_waiting(&s.event)) {
            cr_assert_eq(poll(&p, 1, 2000), 1, "wake-up %u was lost", i);
            cr_assert_eq(read(s.channel_fd, &count, sizeof(count)), (ssize_t)sizeof(count));
        }
        __atomic_store_n(&s.ctl->sleep, SG_AWAKE, __ATOMIC_RELAXED);
        cr_assert(peer_event(&s, &ev));
    }
    peer_detach(&s);
    rig_stop(&rig);
}

/* ---- Hostile applications --------------------------------------------------------------------------------
 */

/* The liar is ended with its connection closed; the other one is still served. */
static void liar_is_ended(void (*lie)(struct peer_session *s))
{
    struct peer_session liar, other;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&liar, &rig);
    peer_attach(&other, &rig);
    cr_assert_eq(peer_command(&liar, open_udp(1)), 0);
    cr_assert_eq(peer_command(&liar, bind_to(1, 6000)), 0);
    lie(&liar);
    peer_ring(&liar);
    cr_assert(peer_closed(&liar.p), "it is still attached");
    cr_assert_eq(peer_command(&other, open_udp(1)), 0);
    cr_assert_eq(peer_command(&other, bind_to(1, 6000)), 0, "what the liar held is free");
    peer_detach(&liar);
    peer_detach(&other);
    rig_stop(&rig);
}

static void lie_kick_tail(struct peer_session *s)
{
    sg_store_release_u32(&s->ctl->kick_tail, s->hdr.kick_entries + 1000);
}

static void lie_cmd_tail(struct peer_session *s)
{
    sg_store_release_u32(&s->ctl->cmd_tail, sg_load_relaxed_u32(&s->ctl->cmd_tail) - 1);
}

static void lie_event_head(struct peer_session *s)
{
    sg_store_release_u32(&s->ctl->event_head, 1u << 30);
    for (uint32_t i = 0; i < 2 * s->hdr.event_entries && sg_ring_free(&s->cmd); i++)
        peer_push(s, (struct sg_cmd){.op = SG_CMD_NOP}); /* Until the daemon looks at it. */
    (void)usleep(20000);
    for (uint32_t i = 0; i < 2 && sg_ring_free(&s->cmd); i++)
        peer_push(s, (struct sg_cmd){.op = SG_CMD_NOP});
}

Test(worker, impossible_kick_index_ends_the_session, .timeout = 20)
{
    liar_is_ended(lie_kick_tail);
}

Test(worker, impossible_command_index_ends_the_session, .timeout = 20)
{
    liar_is_ended(lie_cmd_tail);
}

Test(worker, impossible_event_index_ends_the_session, .timeout = 20)
{
    liar_is_ended(lie_event_head);
}

Test(worker, kicks_of_nonsense_slots_are_ignored)
{
    static const uint32_t slots[] = {0, 1, 255, 256, 257, 1u << 31, UINT32_MAX};
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    for (uint32_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
        *(uint32_t *)sg_ring_slot(&s.kick, sizeof(uint32_t), i) = slots[i];
    sg_ring_publish(&s.kick, sizeof(slots) / sizeof(slots[0]));
    cr_assert_eq(peer_command(&s, (struct sg_cmd){.op = SG_CMD_NOP}), 0);
    peer_detach(&s);
    rig_stop(&rig);
}

/* The eventfd is shared with us: made blocking and filled up, it must not hang the worker. */
Test(worker, filled_blocking_eventfd_does_not_hang_the_worker, .timeout = 20)
{
    const uint64_t full = UINT64_MAX - 1;
    struct peer_session liar, other;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&liar, &rig);
    peer_attach(&other, &rig);
    cr_assert_eq(fcntl(liar.channel_fd, F_SETFL, 0), 0);
    cr_assert_eq(write(liar.channel_fd, &full, sizeof(full)), (ssize_t)sizeof(full));
    for (int i = 0; i < 20; i++) {
        __atomic_store_n(&liar.ctl->sleep, SG_SLEEP_EVENTFD, __ATOMIC_SEQ_CST);
        cr_assert_eq(peer_command(&liar, (struct sg_cmd){.op = SG_CMD_NOP}), 0);
        cr_assert_eq(peer_command(&other, (struct sg_cmd){.op = SG_CMD_NOP}), 0);
    }
    peer_detach(&liar);
    peer_detach(&other);
    rig_stop(&rig);
}

/* Random words over control block, rings and slots, again and again, while another client works. */
Test(worker, scribbling_over_the_segment_disturbs_nobody_else, .timeout = 60)
{
    unsigned seed = (unsigned)getpid(), ended = 0;
    struct peer_session liar, other;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&other, &rig);
    for (unsigned round = 0; round < 150; round++) {
        size_t bytes;

        peer_attach(&liar, &rig);
        bytes = liar.hdr.heap_off - liar.hdr.channel_off;
        cr_assert_eq(peer_command(&liar, open_udp(1)), 0);
        cr_assert_eq(peer_command(&liar, open_tcp(2)), 0);
        cr_assert_eq(peer_command(&liar, (struct sg_cmd){.op = SG_CMD_GRANT, .slot = 1}), 0);
        for (unsigned i = 0; i < 3000; i++) {
            uint32_t *word = (uint32_t *)(void *)(liar.base + liar.hdr.channel_off) +
                             (size_t)rand_r(&seed) % (i % 2 ? bytes / 4 : sizeof(struct sg_channel) / 4);

            __atomic_store_n(word, (uint32_t)rand_r(&seed) % (i % 3 ? 16 : UINT32_MAX), __ATOMIC_RELAXED);
            if (i % 500 == 0)
                peer_ring(&liar);
        }
        ended += peer_command(&other, open_udp(1)) == 0;
        cr_assert_eq(peer_command(&other, (struct sg_cmd){.op = SG_CMD_CLOSE, .slot = 1}), 0,
                     "seed %d round %u: the other client is not served", (int)getpid(), round);
        peer_detach(&liar);
    }
    cr_assert_eq(ended, 150);
    peer_detach(&other);
    rig_stop(&rig);
}

/* ---- Ends ---------------------------------------------------------------------------------------------- */

Test(worker, dead_process_gives_everything_back)
{
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, false);
    for (int round = 0; round < 20; round++) {
        peer_attach(&s, &rig);
        for (uint32_t slot = 1; slot <= 20; slot++) {
            cr_assert_eq(peer_command(&s, open_udp(slot)), 0);
            cr_assert_eq(peer_command(&s, bind_to(slot, (uint16_t)(7000 + slot))), 0, "round %d", round);
        }
        peer_detach(&s);
        cr_assert(rig_wait(&rig, no_sessions));
    }
    cr_assert_null(engine_check(rig.engine));
    rig_stop(&rig);
}

static int check_wait(struct worker *w, void *arg)
{
    (void)w;
    *(int *)arg = 1;
    return -42;
}

Test(worker, call_runs_and_returns_what_it_returned)
{
    int ran = 0;

    rig_init(&rig);
    rig_start(&rig, false);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(worker_call(rig.worker, check_wait, &ran), -42);
    cr_assert_eq(ran, 1);
    rig_stop(&rig);
}

Test(worker, failed_device_is_told_and_calls_are_still_answered, .timeout = 20)
{
    const uint64_t one = 1;
    struct peer_session s;
    struct worker_news news = {.kind = WORKER_NEWS_DONE};
    struct pollfd p;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_attach(&s, &rig);
    __atomic_store_n(&rig.device.fail, 1, __ATOMIC_RELEASE);
    cr_assert_eq(write(rig.device.fd, &one, sizeof(one)), (ssize_t)sizeof(one));
    p = (struct pollfd){.fd = worker_news_fd(rig.worker), .events = POLLIN};
    cr_assert_eq(poll(&p, 1, 2000), 1);
    cr_assert(worker_news(rig.worker, &news));
    cr_assert_eq(news.kind, WORKER_NEWS_FAILED);
    cr_assert_not_null(strstr(news.text, "the device failed while receiving"), "%s", news.text);
    cr_assert_eq(worker_call(rig.worker, worker_ping, NULL), 0);
    peer_detach(&s);
    rig_serve(&rig, 0);
    rig_stop(&rig);
}

/* Make a device fail and wait for what the worker says about that. */
static void fail_device(struct rig_device *d, struct worker_news *ret)
{
    const uint64_t one = 1;
    struct pollfd p = {.fd = worker_news_fd(rig.worker), .events = POLLIN};

    __atomic_store_n(&d->fail, 1, __ATOMIC_RELEASE);
    cr_assert_eq(write(d->fd, &one, sizeof(one)), (ssize_t)sizeof(one));
    cr_assert_eq(poll(&p, 1, 2000), 1);
    cr_assert(worker_news(rig.worker, ret));
}

static int second_is_up(struct worker *w, void *unused)
{
    struct engine_if_info i;

    (void)unused;
    return engine_if_info(worker_engine(w), 1, &i) && i.up && !worker_device_failed(w, 1);
}

Test(worker, one_of_two_devices_may_fail, .timeout = 20)
{
    struct worker_news news;
    struct peer_session s;

    rig_init(&rig);
    rig.two = true;
    rig_start(&rig, false);
    cr_assert(worker_call(rig.worker, second_is_up, NULL));
    fail_device(&rig.second, &news);
    cr_assert_eq(news.kind, WORKER_NEWS_DEVICE);
    cr_assert_str_eq(news.text, "rig:1: the device failed while receiving: Input/output error");
    cr_assert_not(worker_call(rig.worker, second_is_up, NULL));
    peer_attach(&s, &rig); /* The worker serves on. */
    peer_detach(&s);
    rig_serve(&rig, 0);
    fail_device(&rig.device, &news);
    while (news.kind == WORKER_NEWS_DONE)
        cr_assert(worker_news(rig.worker, &news));
    cr_assert_eq(news.kind, WORKER_NEWS_FAILED, "the last one");
    rig_stop(&rig);
}

static void *sleep_on_futex(void *arg)
{
    struct peer_session *s = arg;

    __atomic_store_n(&s->ctl->sleep, SG_SLEEP_FUTEX, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&s->ctl->sleep, __ATOMIC_SEQ_CST) == SG_SLEEP_FUTEX)
        (void)syscall(SYS_futex, &s->ctl->sleep, FUTEX_WAIT, SG_SLEEP_FUTEX, NULL, NULL, 0);
    return NULL;
}

/* A thread that waits when its process is expelled is woken after the connection was closed, not before. */
Test(worker, sleeper_of_an_expelled_session_is_woken, .timeout = 20)
{
    struct pollfd closed = {.events = POLLIN};
    struct peer_session s;
    pthread_t t;

    rig_init(&rig);
    rig_start(&rig, true);
    peer_attach(&s, &rig);
    cr_assert_eq(pthread_create(&t, NULL, sleep_on_futex, &s), 0);
    (void)usleep(20000);
    lie_kick_tail(&s);
    peer_ring(&s);
    cr_assert_eq(pthread_join(t, NULL), 0);
    closed.fd = s.p.fd;
    cr_assert_eq(poll(&closed, 1, 0), 1, "woken before it could see why");
    peer_detach(&s);
    rig_stop(&rig);
}

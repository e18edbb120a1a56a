/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/channel.h"

#define KICKS  16u
#define CMDS   16u
#define EVENTS 16u

struct both {
    void *mem;
    struct channel c;         /* the daemon's side */
    struct sg_ring kick, cmd; /* the application's side: producer */
    struct sg_ring event;     /* consumer */
};

static void open_both(struct both *b)
{
    struct sg_channel *ctl;

    b->mem = aligned_alloc(SG_PAGE_BYTES, sg_channel_size(KICKS, CMDS, EVENTS));
    memset(b->mem, 0, sg_channel_size(KICKS, CMDS, EVENTS));
    channel_open(&b->c, b->mem, KICKS, CMDS, EVENTS);
    ctl = b->mem;
    b->kick = b->c.kick;
    b->cmd = b->c.cmd;
    b->event = b->c.event;
    cr_assert_eq((void *)b->kick.tail, (void *)&ctl->kick_tail);
}

static void push_kicks(struct both *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        *(uint32_t *)sg_ring_slot(&b->kick, sizeof(uint32_t), i) = 100 + i;
    sg_ring_publish(&b->kick, n);
}

static void push_commands(struct both *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        *(struct sg_cmd *)sg_ring_slot(&b->cmd, sizeof(struct sg_cmd), i) = (struct sg_cmd){.tag = 1 + i};
    sg_ring_publish(&b->cmd, n);
}

Test(channel, rings_do_not_overlap_and_fit_the_channel)
{
    struct both b;
    uint8_t *end;

    open_both(&b);
    end = (uint8_t *)b.mem + sg_channel_size(KICKS, CMDS, EVENTS);
    cr_assert_geq((uint8_t *)b.c.kick.slots, (uint8_t *)b.mem + sizeof(struct sg_channel));
    cr_assert_leq((uint8_t *)b.c.kick.slots + KICKS * 4, (uint8_t *)b.c.cmd.slots);
    cr_assert_leq((uint8_t *)b.c.cmd.slots + CMDS * sizeof(struct sg_cmd), (uint8_t *)b.c.event.slots);
    cr_assert_leq((uint8_t *)b.c.event.slots + EVENTS * sizeof(struct sg_event), end);
    free(b.mem);
}

Test(channel, kicks_come_in_order_and_no_more_than_asked_for)
{
    struct both b;
    uint32_t got[KICKS];

    open_both(&b);
    push_kicks(&b, 10);
    cr_assert_eq(channel_kicks(&b.c, got, 4), 4);
    cr_assert_eq(got[0], 100);
    cr_assert_eq(got[3], 103);
    cr_assert_eq(channel_look(&b.c), CHANNEL_WORK);
    cr_assert_eq(channel_kicks(&b.c, got, KICKS), 6);
    cr_assert_eq(got[0], 104);
    cr_assert_eq(got[5], 109);
    cr_assert_eq(channel_look(&b.c), CHANNEL_IDLE);
    cr_assert_eq(*b.kick.head, 10, "the room is given back");
    free(b.mem);
}

Test(channel, impossible_tail_of_kicks_or_commands_is_a_fault)
{
    struct both b;
    uint32_t kicks[KICKS];
    struct sg_cmd cmds[CMDS];

    open_both(&b);
    b.c.ctl->kick_tail = KICKS + 1;
    cr_assert_eq(channel_kicks(&b.c, kicks, KICKS), -EPROTO);
    b.c.ctl->kick_tail = UINT32_MAX; /* Backwards. */
    cr_assert_eq(channel_kicks(&b.c, kicks, KICKS), -EPROTO);
    b.c.ctl->cmd_tail = CMDS + 1;
    cr_assert_eq(channel_commands(&b.c, cmds, CMDS), -EPROTO);
    cr_assert_eq(channel_look(&b.c), CHANNEL_WORK, "a sleeping worker must notice the lie");
    free(b.mem);
}

Test(channel, impossible_head_of_events_is_a_fault)
{
    struct sg_event ev = {.kind = SG_EV_SOCK};
    struct both b;

    open_both(&b);
    for (uint32_t i = 0; i < EVENTS; i++)
        cr_assert_eq(channel_event_push(&b.c, &ev), 0);
    channel_publish(&b.c);
    b.c.ctl->event_head = EVENTS + 1; /* More than was ever posted. */
    cr_assert_eq(channel_event_push(&b.c, &ev), -EPROTO);
    free(b.mem);
}

Test(channel, staged_events_count_as_used_and_appear_together)
{
    struct sg_event ev = {.kind = SG_EV_SOCK};
    struct both b;

    open_both(&b);
    for (uint32_t i = 0; i < EVENTS; i++) {
        ev.slot = i;
        cr_assert_eq(channel_event_push(&b.c, &ev), 0);
    }
    cr_assert_eq(channel_event_push(&b.c, &ev), -EAGAIN);
    cr_assert_eq(sg_ring_waiting(&b.event), 0, "not visible before channel_publish()");
    channel_publish(&b.c);
    cr_assert_eq(sg_ring_waiting(&b.event), EVENTS);
    for (uint32_t i = 0; i < EVENTS; i++)
        cr_assert_eq(((struct sg_event *)sg_ring_slot(&b.event, sizeof(ev), i))->slot, i);
    cr_assert_eq(channel_event_push(&b.c, &ev), -EAGAIN);
    sg_ring_consume(&b.event, 3);
    cr_assert_eq(channel_event_room(&b.c), 3);
    cr_assert_eq(channel_event_push(&b.c, &ev), 0);
    free(b.mem);
}

Test(channel, commands_without_room_for_replies_are_blocked_not_work)
{
    struct sg_event ev = {.kind = SG_EV_SOCK};
    struct both b;

    open_both(&b);
    for (uint32_t i = 0; i < EVENTS; i++)
        (void)channel_event_push(&b.c, &ev);
    channel_publish(&b.c);
    push_commands(&b, 1);
    cr_assert_eq(channel_look(&b.c), CHANNEL_BLOCKED);
    sg_ring_consume(&b.event, 1);
    cr_assert_eq(channel_look(&b.c), CHANNEL_WORK);
    free(b.mem);
}

Test(channel, command_is_copied_once)
{
    struct sg_cmd got[2];
    struct both b;

    open_both(&b);
    push_commands(&b, 2);
    cr_assert_eq(channel_commands(&b.c, got, 2), 2);
    memset(b.c.cmd.slots, 0xff, CMDS * sizeof(struct sg_cmd)); /* The application changes its mind. */
    cr_assert_eq(got[0].tag, 1);
    cr_assert_eq(got[1].tag, 2);
    cr_assert_eq(got[1].op, 0);
    free(b.mem);
}

static void *futex_sleeper(void *arg)
{
    uint32_t *word = arg;

    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == SG_SLEEP_FUTEX)
        (void)syscall(SYS_futex, word, FUTEX_WAIT, SG_SLEEP_FUTEX, NULL, NULL, 0);
    return NULL;
}

Test(channel, wake_finds_who_sleeps_on_the_futex, .timeout = 10)
{
    pthread_t t;
    struct both b;

    open_both(&b);
    cr_assert_eq(channel_wake(&b.c), CHANNEL_WAKE_NONE);
    __atomic_store_n(&b.c.ctl->sleep, SG_SLEEP_FUTEX, __ATOMIC_SEQ_CST);
    cr_assert_eq(pthread_create(&t, NULL, futex_sleeper, &b.c.ctl->sleep), 0);
    (void)usleep(10000);
    cr_assert_eq(channel_wake(&b.c), CHANNEL_WAKE_FUTEX);
    cr_assert_eq(pthread_join(t, NULL), 0);
    cr_assert_eq(b.c.ctl->sleep, SG_AWAKE);
    free(b.mem);
}

Test(channel, wake_says_when_the_eventfd_is_to_be_written_and_ignores_nonsense)
{
    struct both b;

    open_both(&b);
    b.c.ctl->sleep = SG_SLEEP_EVENTFD;
    cr_assert_eq(channel_wake(&b.c), CHANNEL_WAKE_EVENTFD);
    cr_assert_eq(channel_wake(&b.c), CHANNEL_WAKE_NONE, "woken once");
    b.c.ctl->sleep = 0xdeadbeef;
    cr_assert_eq(channel_wake(&b.c), CHANNEL_WAKE_NONE);
    cr_assert_eq(b.c.ctl->sleep, SG_AWAKE);
    free(b.mem);
}

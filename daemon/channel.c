/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/channel.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void channel_open(struct channel *c, void *base, uint32_t kick_entries, uint32_t cmd_entries,
                  uint32_t event_entries)
{
    uint8_t *p = base;
    struct sg_channel *ctl = base;

    memset(c, 0, sizeof(*c));
    c->ctl = ctl;
    c->sleep = &ctl->sleep;
    c->kick = (struct sg_ring){
        .tail = &ctl->kick_tail,
        .head = &ctl->kick_head,
        .slots = p + sg_channel_kick_off(),
        .entries = kick_entries,
    };
    c->cmd = (struct sg_ring){
        .tail = &ctl->cmd_tail,
        .head = &ctl->cmd_head,
        .slots = p + sg_channel_cmd_off(kick_entries),
        .entries = cmd_entries,
    };
    c->event = (struct sg_ring){
        .tail = &ctl->event_tail,
        .head = &ctl->event_head,
        .slots = p + sg_channel_event_off(kick_entries, cmd_entries),
        .entries = event_entries,
    };
}

int channel_kicks(struct channel *c, uint32_t *ret, unsigned max)
{
    uint32_t n = sg_ring_waiting(&c->kick);

    if (n == UINT32_MAX)
        return -EPROTO;
    if (n > max)
        n = max;
    for (uint32_t i = 0; i < n; i++)
        ret[i] = sg_load_relaxed_u32(sg_ring_slot(&c->kick, sizeof(uint32_t), i));
    if (n)
        sg_ring_consume(&c->kick, n);
    return (int)n;
}

int channel_commands(struct channel *c, struct sg_cmd *ret, unsigned max)
{
    uint32_t n = sg_ring_waiting(&c->cmd);

    if (n == UINT32_MAX)
        return -EPROTO;
    if (n > max)
        n = max;
    for (uint32_t i = 0; i < n; i++)
        memcpy(&ret[i], sg_ring_slot(&c->cmd, sizeof(struct sg_cmd), i), sizeof(ret[i]));
    /* What is checked from here on is the copy: the compiler must not read the original again. */
    __asm__ volatile("" ::: "memory");
    if (n)
        sg_ring_consume(&c->cmd, n);
    return (int)n;
}

int channel_event_room(struct channel *c)
{
    struct sg_ring *r = &c->event;
    uint32_t used = r->own - r->other;

    if (used + c->staged >= r->entries) {
        r->other = sg_load_acquire_u32(r->head); /* [P2] */
        used = r->own - r->other;
        if (used > r->entries)
            return -EPROTO;
    }
    return (int)(r->entries - used - c->staged);
}

int channel_event_push(struct channel *c, const struct sg_event *ev)
{
    int room = channel_event_room(c);

    if (room <= 0)
        return room ? room : -EAGAIN;
    memcpy(sg_ring_slot(&c->event, sizeof(*ev), c->staged), ev, sizeof(*ev));
    c->staged++;
    return 0;
}

enum channel_state channel_look(struct channel *c)
{
    /* An impossible index counts as work: the turn that takes it says what is wrong. */
    if (sg_ring_waiting(&c->kick))
        return CHANNEL_WORK;
    if (!sg_ring_waiting(&c->cmd))
        return CHANNEL_IDLE;
    return channel_event_room(c) ? CHANNEL_WORK : CHANNEL_BLOCKED;
}

void channel_publish(struct channel *c)
{
    assert(c->staged <= c->event.entries);
    sg_ring_publish(&c->event, c->staged);
    c->staged = 0;
}

enum channel_wake channel_wake(struct channel *c)
{
    uint32_t how;

    if (sg_load_relaxed_u32(c->sleep) == SG_AWAKE)
        return CHANNEL_WAKE_NONE;
    how = __atomic_exchange_n(c->sleep, SG_AWAKE, __ATOMIC_SEQ_CST); /* [P3] */
    if (how == SG_SLEEP_FUTEX) {
        /* Can't fail on a mapped word; nobody waiting is no error. */
        (void)syscall(SYS_futex, c->sleep, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
        return CHANNEL_WAKE_FUTEX;
    }
    /* Any other value is nonsense that only its writer suffers from. */
    return how == SG_SLEEP_EVENTFD ? CHANNEL_WAKE_EVENTFD : CHANNEL_WAKE_NONE;
}

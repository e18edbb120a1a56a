/* SPDX-License-Identifier: Apache-2.0 */
/* One turn of the worker, and the sessions that it serves. */
#include <assert.h>
#include <errno.h>
#include <limits.h>

#include "daemon/command.h"
#include "daemon/worker_int.h"

/* The engine sees no device header; its offload bits are the device's. */
static_assert(ENGINE_TX_CSUM == DEV_TX_CSUM, "offload bits agree");
static_assert(ENGINE_TX_TSO4 == DEV_TX_TSO4, "offload bits agree");

/* ---- Sessions ------------------------------------------------------------------------------------ */

static struct session_part *part_of(const struct worker *w, const struct app_session *s)
{
    return &s->parts[w->index];
}

static void session_watch(struct worker *w, struct app_session *s)
{
    struct session_part *p = part_of(w, s);

    p->doorbell_watch = loop_add(&w->loop, s->doorbell_fd[w->index], LOOP_BELL);
    assert(p->doorbell_watch >= 0); /* The loop has room for all sessions. */
    for (uint32_t i = 0; i < s->channel_count; i++) {
        p->channel_watch[i] = loop_add(&w->loop, s->channel_fd[i], LOOP_SIGNAL);
        assert(p->channel_watch[i] >= 0);
    }
}

int worker_session_add(struct worker *w, void *session)
{
    struct app_session *s = session;
    struct session_part *p = part_of(w, s);
    struct engine_session es = {
        .base = s->base,
        .bytes = s->bytes,
        .slots = s->slots,
        .slot_count = s->slot_count,
        .heap_off = s->heap_off + w->index * s->heap_bytes,
        .heap_bytes = s->heap_bytes,
        .slot_sock = p->slot_sock,
        .heap_meta = p->heap_meta,
        .buffer_bytes_max = s->buffer_bytes_max,
        .sockets_max = s->slot_count - 1,
        .raw = s->raw,
        .uid = s->owner.uid,
        .id = s->id,
        .buffer_bytes = s->worker_count > 1 ? &s->buffer_bytes : NULL,
    };

    if (w->failed)
        return -ENETDOWN;
    p->sid = engine_session_add(w->engine, &es, w->now_us);
    if (p->sid < 0)
        return p->sid;
    w->by_sid[p->sid] = s;
    w->active[w->active_count++] = s;
    w->count.sessions_added++;
    session_watch(w, s);
    return 0;
}

static void wake_channel(struct worker *w, struct app_session *s, uint32_t i)
{
    switch (channel_wake(&part_of(w, s)->channels[i])) {
    case CHANNEL_WAKE_NONE:
        break;
    case CHANNEL_WAKE_FUTEX:
        w->count.wakes_futex++;
        break;
    case CHANNEL_WAKE_EVENTFD:
        w->count.wakes_eventfd++;
        loop_signal(&w->loop, part_of(w, s)->channel_watch[i]);
        break;
    }
}

/* From now on its rings are not read, and the engine closes what it had. */
static void session_end_at(struct worker *w, unsigned at)
{
    struct app_session *s = w->active[at];

    assert(!w->dirty_count); /* Sessions end between publishing and the next turn. */
    w->active[at] = w->active[--w->active_count];
    w->draining[w->draining_count++] = s;
    engine_session_end(w->engine, part_of(w, s)->sid, w->now_us);
    w->count.sessions_ended++;
}

int worker_session_end(struct worker *w, void *session)
{
    struct app_session *s = session;
    struct session_part *p = part_of(w, s);

    for (unsigned i = 0; i < w->active_count; i++) {
        if (w->active[i] == s) {
            session_end_at(w, i);
            break;
        }
    }
    if (p->parted)
        return 0;
    p->parted = true;
    /* The control connection is closed: whoever still waits on a ring looks up and finds that. */
    for (uint32_t i = 0; i < s->channel_count; i++)
        wake_channel(w, s, i);
    loop_flush(&w->loop);
    loop_remove(&w->loop, p->doorbell_watch);
    for (uint32_t i = 0; i < s->channel_count; i++)
        loop_remove(&w->loop, p->channel_watch[i]);
    loop_flush(&w->loop);
    return 0;
}

static void session_fault(const struct worker *w, struct app_session *s, const char *reason)
{
    struct session_part *p = part_of(w, s);

    if (!p->fault)
        p->fault = reason;
}

/* End the sessions that were found to lie in this turn. */
static void sweep_faults(struct worker *w)
{
    for (unsigned i = 0; i < w->active_count;) {
        struct app_session *s = w->active[i];

        if (!part_of(w, s)->fault) {
            i++;
            continue;
        }
        session_end_at(w, i);
        w->count.sessions_faulted++;
        worker_news_post(w, WORKER_NEWS_FAULT, s, part_of(w, s)->fault);
    }
}

static void sweep_draining(struct worker *w)
{
    for (unsigned i = 0; i < w->draining_count;) {
        struct app_session *s = w->draining[i];

        int sid = part_of(w, s)->sid;

        if (!part_of(w, s)->parted || !engine_session_idle(w->engine, sid)) {
            i++;
            continue;
        }
        engine_session_drop(w->engine, sid);
        w->by_sid[sid] = NULL;
        w->draining[i] = w->draining[--w->draining_count];
        worker_news_post(w, WORKER_NEWS_DONE, s, "");
    }
}

/* ---- Events ---------------------------------------------------------------------------------------- */

/* Returns false when the event has to wait for room. */
static bool push_event(struct worker *w, struct app_session *s, uint32_t channel, const struct sg_event *ev)
{
    struct channel *c = &part_of(w, s)->channels[channel];
    bool first = !c->staged;
    int rc = channel_event_push(c, ev);

    if (rc == -EPROTO) {
        session_fault(w, s, "event ring: impossible head index");
        return true;
    }
    if (rc) {
        w->blocked = true;
        return false;
    }
    w->count.events++;
    if (first)
        w->dirty[w->dirty_count++] = (struct channel_ref){s, channel};
    return true;
}

/* Bring back what a full ring had put aside, as far as there is room now. */
static void retry_deferred(struct worker *w)
{
    for (unsigned i = 0; i < w->active_count; i++) {
        struct app_session *s = w->active[i];
        struct session_part *p = part_of(w, s);
        int room = INT_MAX;

        if (!engine_event_deferred(w->engine, p->sid) || p->fault)
            continue;
        for (uint32_t c = 0; c < s->channel_count; c++) {
            int r = channel_event_room(&p->channels[c]);

            room = r < room ? r : room;
        }
        if (room > 0)
            engine_event_retry(w->engine, p->sid, (uint32_t)room);
        else
            w->blocked = true; /* The application rings when it has drained a full ring; look again anyway. */
    }
}

static unsigned deliver_events(struct worker *w)
{
    struct engine_event ev;
    unsigned n = 0;

    while (engine_event_next(w->engine, &ev)) {
        struct app_session *s = w->by_sid[ev.sid];
        struct sg_event out = {.kind = ev.kind == ENGINE_EV_RELEASE ? SG_EV_RELEASE : SG_EV_SOCK,
                               .slot = ev.slot};

        if (!s || part_of(w, s)->fault)
            continue;
        if (ev.kind == ENGINE_EV_FAULT) {
            session_fault(w, s, ev.reason);
        } else if (ev.slot != SG_SLOT_NONE && ev.slot < s->slot_count) {
            if (push_event(w, s, part_of(w, s)->slot_channel[ev.slot], &out)) {
                n++;
            } else if (ev.kind == ENGINE_EV_SOCK) {
                w->count.events_deferred++;
                engine_event_defer(w->engine, &ev);
            }
        }
    }
    return n;
}

/* Make the turn's events visible, then wake whoever sleeps: one fence for all of them ([P3]). */
static void publish_events(struct worker *w)
{
    if (!w->dirty_count)
        return;
    for (unsigned i = 0; i < w->dirty_count; i++)
        channel_publish(&part_of(w, w->dirty[i].session)->channels[w->dirty[i].channel]);
    sg_fence();
    for (unsigned i = 0; i < w->dirty_count; i++)
        wake_channel(w, w->dirty[i].session, w->dirty[i].channel);
    w->dirty_count = 0;
    loop_flush(&w->loop);
}

/* ---- The turn ----------------------------------------------------------------------------------------- */

static void run_command(struct worker *w, struct app_session *s, uint32_t channel, const struct sg_cmd *cmd)
{
    struct sg_event reply = {.kind = SG_EV_REPLY, .slot = cmd->slot, .tag = cmd->tag};
    bool placed;

    reply.result = command_run(w->engine, s, w->index, cmd, w->now_us, &reply.value);
    if (reply.result == 0 && cmd->op == SG_CMD_OPEN)
        part_of(w, s)->slot_channel[cmd->slot] = (uint8_t)channel;
    if (reply.result == 0 && cmd->op == SG_CMD_ACCEPT)
        part_of(w, s)->slot_channel[cmd->arg0] = (uint8_t)channel;
    if (!cmd->tag)
        return;
    placed = push_event(w, s, channel, &reply);
    assert(placed); /* No command is taken without room for its reply. */
    (void)placed;
}

static unsigned poll_channel(struct worker *w, struct app_session *s, uint32_t channel)
{
    struct channel *c = &part_of(w, s)->channels[channel];
    uint32_t kicks[WORKER_KICKS_MAX];
    struct sg_cmd cmds[WORKER_COMMANDS_MAX];
    int kick_count, cmd_count, room;

    /* Commands first: an application may kick a slot right after the command that opened it. */
    room = channel_event_room(c);
    if (room < 0) {
        session_fault(w, s, "event ring: impossible head index");
        return 1;
    }
    cmd_count =
        channel_commands(c, cmds, room < (int)WORKER_COMMANDS_MAX ? (unsigned)room : WORKER_COMMANDS_MAX);
    if (cmd_count < 0) {
        session_fault(w, s, "command ring: impossible tail index");
        return 1;
    }
    for (int i = 0; i < cmd_count; i++)
        run_command(w, s, channel, &cmds[i]);
    kick_count = channel_kicks(c, kicks, WORKER_KICKS_MAX);
    if (kick_count < 0) {
        session_fault(w, s, "kick ring: impossible tail index");
        return 1;
    }
    if (kick_count)
        engine_kick(w->engine, part_of(w, s)->sid, kicks, (unsigned)kick_count, w->now_us);
    w->count.commands += (unsigned)cmd_count;
    w->count.kicks += (unsigned)kick_count;
    return (unsigned)(cmd_count + kick_count);
}

static unsigned receive(struct worker *w, unsigned port)
{
    struct port *p = &w->ports[port];
    struct pktbuf *pkts[DEV_RX_BURST_MAX];
    int n = p->failed || !p->device ? 0 : p->device->ops->rx_burst(p->device, pkts, DEV_RX_BURST_MAX);

    if (n < 0) {
        worker_port_fail(w, port, "the device failed while receiving", n);
        return 0;
    }
    if (n) {
        w->count.rx_bursts++;
        for (int i = 0; i < n; i++)
            pkts[i]->dev = (uint8_t)port;
        if (w->cluster)
            cluster_receive(w->cluster, w->index, w->engine, port, pkts, (unsigned)n, w->now_us);
        else
            engine_rx(w->engine, pkts, (unsigned)n, w->now_us);
    }
    return (unsigned)n;
}

/* One burst. False: the device has all that there is, or takes no more. */
static bool send_burst(struct worker *w, unsigned port, unsigned *sent)
{
    struct port *p = &w->ports[port];
    struct pktbuf *pkts[DEV_TX_BURST_MAX];
    unsigned n = engine_tx_peek(w->engine, (uint8_t)port, pkts, DEV_TX_BURST_MAX, w->now_us);
    int taken;

    if (!n)
        return false;
    taken = p->device ? p->device->ops->tx_burst(p->device, pkts, n)
                      : cluster_send(w->cluster, w->index, port, pkts, n);
    if (taken < 0) {
        worker_port_fail(w, port, "the device failed while sending", taken);
        return false;
    }
    engine_tx_consume(w->engine, (uint8_t)port, (unsigned)taken);
    *sent += (unsigned)taken;
    w->count.tx_bursts += taken > 0;
    if ((unsigned)taken == n)
        return true;
    p->tx_full = true;
    w->count.tx_full++;
    return false;
}

/* A frame of another worker, for a device that this one has the only queue of. 0: it is full. */
static int send_other(void *arg, unsigned port, struct pktbuf *pkt)
{
    struct worker *w = arg;
    struct port *p = &w->ports[port];
    int taken = p->failed ? 1 : p->device->ops->tx_burst(p->device, &pkt, 1);

    if (taken < 0)
        worker_port_fail(w, port, "the device failed while sending", taken);
    p->tx_full |= taken == 0;
    return taken;
}

/* Burst by burst in turn, so that no device waits behind another's. */
static unsigned transmit(struct worker *w)
{
    uint32_t left = 0;
    unsigned sent = 0;

    for (unsigned i = 0; i < w->port_count; i++) {
        w->ports[i].tx_full = false;
        if (!w->ports[i].failed)
            left |= UINT32_C(1) << i;
    }
    for (unsigned round = 0; left && round < WORKER_TX_ROUNDS; round++)
        for (unsigned i = 0; i < w->port_count; i++)
            if (left >> i & 1 && !send_burst(w, i, &sent))
                left &= ~(UINT32_C(1) << i);
    return sent;
}

unsigned worker_turn(struct worker *w)
{
    char notice[WORKER_NOTICE_MAX];
    unsigned work = 0;

    w->count.turns++;
    w->blocked = false;
    for (unsigned i = 0; i < w->port_count; i++)
        work += receive(w, i);
    if (w->cluster)
        work += cluster_take(w->cluster, w->index, w->engine, w->now_us);
    for (unsigned i = 0; i < w->active_count; i++)
        for (uint32_t c = 0; c < w->active[i]->channel_count && !part_of(w, w->active[i])->fault; c++)
            work += poll_channel(w, w->active[i], c);
    engine_timers(w->engine, w->now_us);
    if (!w->failed)
        work += transmit(w);
    if (!w->failed && w->cluster && !w->index) /* Behind our own, which set tx_full anew. */
        work += cluster_forward(w->cluster, send_other, w);
    if (w->cluster && !w->index)
        cluster_tell_net(w->cluster, w->engine);
    if (w->cluster)
        cluster_wake(w->cluster, w->index);
    retry_deferred(w);
    engine_publish(w->engine, w->now_us);
    work += deliver_events(w);
    publish_events(w);
    sweep_faults(w);
    if (w->draining_count)
        sweep_draining(w);
    worker_look_at_addresses(w);
    while (engine_notice(w->engine, notice, sizeof(notice)))
        worker_news_post(w, WORKER_NEWS_NOTICE, NULL, notice);
    return work;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One listener of the application, a slot on each worker of the daemon.
 *
 * A connection is taken into a slot of the worker that it came to, so each worker has a slot that listens
 * (proto/abi/cmd.h). The socket that the application knows is the first of them, the primary; the others are
 * made when it listens, with the options that were set until then, and whoever waits for the primary is woken
 * for each. With one worker there is nothing of all this.
 */
#include <errno.h>
#include <stdlib.h>

#include "client-lib/lib.h"

#define OPTIONS_MAX 64u /* more than a TCP socket has */

struct listening {
    struct sg_cmd options[OPTIONS_MAX]; /* set so far, each once, in order */
    unsigned option_count;
    bool making;                        /* the slots are being made, by a call that has the socket unlocked */
    struct desc *other[SG_WORKERS_MAX]; /* by worker; NULL: the primary's own, or there is none */
    uint32_t turn;                      /* the worker whose connections come next */
};

static uint32_t own_worker(const struct desc *d)
{
    return sc__worker_of(d->ch, d->num);
}

static struct desc *slot_on(struct desc *d, uint32_t worker)
{
    return worker == own_worker(d) ? d : d->listening ? d->listening->other[worker] : NULL;
}

void sc__listen_free(struct desc *d)
{
    free(d->listening);
}

void sc__listen_forget(struct desc *d)
{
    if (SC_LIKELY(!d->listening) || d->listening->making)
        return;
    free(d->listening);
    d->listening = NULL;
}

/* The same command to the slots beside the primary: what that one takes they do too, so nobody waits for the
 * answers. */
static void push_others(const struct desc *d, const struct sg_cmd *cmd)
{
    for (uint32_t w = 0; w < d->ch->worker_count; w++) {
        struct sg_cmd again = *cmd;

        if (!d->listening->other[w])
            continue;
        again.slot = d->listening->other[w]->num;
        (void)sc__command_push(d->ch, &again, NULL);
    }
}

/* ---- Options ------------------------------------------------------------------------------------- */

static void remember(struct listening *l, const struct sg_cmd *cmd)
{
    unsigned i = 0;

    while (i < l->option_count && (l->options[i].arg0 != cmd->arg0 || l->options[i].arg1 != cmd->arg1))
        i++;
    if (i == OPTIONS_MAX)
        return; /* There are not so many. */
    l->options[i] = *cmd;
    l->option_count += i == l->option_count;
}

void sc__listen_option(struct desc *d, const struct sg_cmd *cmd)
{
    if (d->ch->worker_count == 1 || d->type != SG_SOCK_STREAM || d->connected)
        return;
    if (!d->listening)
        d->listening = calloc(1, sizeof(*d->listening));
    if (!d->listening)
        return; /* Listening will fail for the same reason. */
    remember(d->listening, cmd);
    push_others(d, cmd);
}

/* ---- Making -------------------------------------------------------------------------------------- */

/* The address that the primary is bound to, in a command for another slot. */
static void bind_beside(const struct desc *primary, struct sg_cmd *cmd)
{
    const struct sg_slot_name *n = &primary->slot->n;

    *cmd = (struct sg_cmd){.op = SG_CMD_BIND,
                           .arg0 = primary->num,
                           .family = n->family,
                           .port = n->local_port,
                           .scope = n->local_scope};
    memcpy(cmd->addr, n->local, sizeof(cmd->addr));
}

static int command_on(struct desc *o, struct sg_cmd *cmd)
{
    int rc;

    cmd->slot = o->num;
    rc = sc__command(o->ch, cmd, NULL);
    return rc < 0 ? rc : 0;
}

/* An open, bound slot beside the primary, which is not locked but held in place by `making`. */
static int make_one(struct desc *primary, uint32_t worker, const struct sg_cmd *listen, struct desc **ret)
{
    struct listening *l = primary->listening;
    struct sg_cmd cmd = {.op = SG_CMD_OPEN, .arg0 = SG_SOCK_STREAM, .family = primary->family};
    struct desc *o;
    int rc = sc__desc_new(primary->lib, primary->family, SG_SOCK_STREAM, worker, &o);

    if (rc)
        return rc;
    rc = command_on(o, &cmd);
    if (rc) {
        sc__desc_forget(o);
        return rc;
    }
    sc__desc_ref(primary);
    o->primary = primary;
    *ret = o;
    for (unsigned i = 0; !rc && i < l->option_count; i++) {
        cmd = l->options[i];
        rc = command_on(o, &cmd);
    }
    bind_beside(primary, &cmd);
    if (!rc)
        rc = command_on(o, &cmd);
    cmd = *listen;
    return rc ? rc : command_on(o, &cmd);
}

/* Slots on all other workers. The socket is unlocked meanwhile. */
static int make_others(struct op *op, const struct sg_cmd *listen)
{
    struct desc *d = op->d, *made[SG_WORKERS_MAX] = {NULL};
    int rc = 0;

    d->listening->making = true;
    pthread_mutex_unlock(&d->lock);
    for (uint32_t w = 0; !rc && w < d->ch->worker_count; w++)
        if (w != own_worker(d))
            rc = make_one(d, w, listen, &made[w]);
    pthread_mutex_lock(&d->lock);
    d->listening->making = false;
    memcpy(d->listening->other, made, sizeof(made));
    if (!rc && __atomic_load_n(&op->s->closed, __ATOMIC_ACQUIRE))
        rc = -EBADF;
    if (rc)
        sc__listen_close(d);
    return rc;
}

static int bind_any(struct op *op)
{
    struct sg_cmd cmd = {.op = SG_CMD_BIND, .family = op->d->family};
    struct line l;

    sc__line_read(op->d, &l);
    return l.flags & SG_F_BOUND ? 0 : sc__op_command(op, &cmd, NULL);
}

int sc__listen_all(struct op *op, struct sg_cmd *cmd)
{
    struct desc *d = op->d;
    struct line l;
    int rc;

    if (d->ch->worker_count == 1)
        return sc__op_command(op, cmd, NULL);
    if (!d->listening)
        d->listening = calloc(1, sizeof(*d->listening));
    if (!d->listening)
        return -ENOMEM;
    if (d->listening->making)
        return -EALREADY;
    sc__line_read(d, &l);
    if (l.state == SG_ST_LISTENING) { /* Again: only the backlog changes. */
        push_others(d, cmd);
        return sc__op_command(op, cmd, NULL);
    }
    rc = l.state == SG_ST_OPEN ? bind_any(op) : 0; /* Else the daemon says what is wrong. */
    if (rc >= 0 && l.state == SG_ST_OPEN)
        rc = make_others(op, cmd);
    if (rc < 0)
        return rc;
    rc = sc__op_command(op, cmd, NULL);
    if (rc < 0)
        sc__listen_close(d);
    return rc;
}

/* ---- Use ----------------------------------------------------------------------------------------- */

static bool waits(const struct desc *d)
{
    return sg_load_relaxed_u32(&d->slot->d.accept_count) != 0;
}

bool sc__listen_ready(const struct desc *d)
{
    if (waits(d))
        return true;
    for (uint32_t w = 0; d->listening && w < d->ch->worker_count; w++)
        if (d->listening->other[w] && waits(d->listening->other[w]))
            return true;
    return false;
}

struct desc *sc__listen_next(struct desc *d)
{
    if (!d->listening)
        return waits(d) ? d : NULL;
    for (uint32_t i = 0; i < d->ch->worker_count; i++) {
        uint32_t w = (d->listening->turn + i) % d->ch->worker_count;
        struct desc *o = slot_on(d, w);

        if (!o || !waits(o))
            continue;
        d->listening->turn = w + 1;
        return o;
    }
    return NULL;
}

void sc__listen_close(struct desc *d)
{
    for (uint32_t w = 0; d->listening && w < d->ch->worker_count; w++) {
        struct desc *o = d->listening->other[w];

        d->listening->other[w] = NULL;
        if (!o)
            continue;
        pthread_mutex_lock(&o->lock);
        sc__desc_close(o);
        pthread_mutex_unlock(&o->lock);
    }
}

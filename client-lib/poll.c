/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readiness and callbacks. The bits of each state are those that the devices and Linux were seen to give.
 */
#include <errno.h>

#include "client-lib/lib.h"

/* The bits of a connection that has ended or is about to. */
static unsigned stream_bits(struct desc *d, const struct line *l, const sc_profile *p, unsigned want)
{
    bool data = l->rx_tail != d->rx_head;
    unsigned bits = 0;

    if (l->flags & SG_F_ERROR) {
        bits = SC_POLLIN | SC_POLLHUP;
        if (!d->err_reported)
            bits |= SC_POLLERR;
        if (!d->err_reported || p->poll_out_dead)
            bits |= SC_POLLOUT;
        return bits;
    }
    if (data || (l->flags & SG_F_RX_FIN) || l->state == SG_ST_CLOSED)
        bits |= SC_POLLIN;
    if ((l->flags & SG_F_TX_SHUT) || d->tx_shut || l->state == SG_ST_CLOSED) {
        bits |= SC_POLLOUT; /* A send fails at once. */
        if (l->flags & SG_F_RX_FIN || l->state == SG_ST_CLOSED)
            bits |= SC_POLLHUP;
    } else if ((want & SC_POLLOUT) && sc__tx_writable(d)) {
        bits |= SC_POLLOUT;
    }
    return bits;
}

static unsigned dgram_bits(struct desc *d, const struct line *l, unsigned want)
{
    unsigned bits = 0;

    if (l->flags & (SG_F_SOFT_ERR | SG_F_ERROR))
        bits |= SC_POLLERR;
    if (l->rx_tail != d->rx_head || (l->flags & SG_F_RX_FIN))
        bits |= SC_POLLIN;
    if ((want & SC_POLLOUT) && sc__tx_writable(d))
        bits |= SC_POLLOUT;
    return bits;
}

static unsigned state_bits(struct desc *d, const sc_profile *p, unsigned want)
{
    struct line l;

    if (sc__lib_dead(d->lib))
        return SC_POLLERR | SC_POLLHUP;
    sc__line_read(d, &l);
    if (d->type != SG_SOCK_STREAM)
        return dgram_bits(d, &l, want);
    switch ((enum sg_state)l.state) {
    case SG_ST_FREE:
    case SG_ST_OPEN:
        return SC_POLLOUT | SC_POLLHUP;
    case SG_ST_CONNECTING:
        return 0;
    case SG_ST_LISTENING:
        return sc__listen_ready(d) ? SC_POLLIN : 0;
    case SG_ST_CONNECTED:
    case SG_ST_CLOSED:
        return stream_bits(d, &l, p, want);
    }
    return SC_POLLERR | SC_POLLHUP; /* A state of a later daemon. */
}

unsigned sc_poll_events(sc_sock *s, unsigned want)
{
    struct op op;
    unsigned bits;

    if (!s || sc__op_begin(&op, s, 0, true))
        return SC_POLLNVAL;
    bits = state_bits(op.d, sc__profile(s), want) & (want | SC_POLLERR | SC_POLLHUP | SC_POLLNVAL);
    sc__op_end(&op, 0);
    if (!bits)
        sc__lib_check_alive(s->lib, false);
    return bits;
}

/* Look at every entry. Ready ones; *lib receives the attachment. -EINVAL when there are several. */
static int look(sc_pollfd *set, unsigned n, sc_lib **lib)
{
    int ready = 0;

    for (unsigned i = 0; i < n; i++) {
        set[i].got = 0;
        if (!set[i].s)
            continue;
        if (*lib && *lib != set[i].s->lib)
            return -EINVAL;
        *lib = set[i].s->lib;
        set[i].got = sc_poll_events(set[i].s, set[i].want);
        ready += set[i].got != 0;
    }
    return ready;
}

int sc_poll(sc_pollfd *set, unsigned n, int timeout_ms)
{
    uint64_t deadline = timeout_ms == 0 ? DEADLINE_NEVER : sc__deadline(timeout_ms);
    sc_lib *lib = NULL;
    struct waiter w;
    int waited;
    int ready;

    if (!set && n)
        return -EINVAL;
    ready = look(set, n, &lib);
    if (ready || timeout_ms == 0)
        return ready;
    if (!lib) /* Nothing can ever become ready. */
        return -EINVAL;
    sc__waiter_add(&lib->ch, NULL, &w);
    do {
        sc__waiter_reset(&w);
        ready = look(set, n, &lib);
        waited = ready ? 0 : sc__channel_wait(&lib->ch, &w, deadline, WAIT_DEFER | WAIT_EINTR);
    } while (!ready && !waited);
    if (!ready) /* What came at the last moment. */
        ready = look(set, n, &lib);
    sc__waiter_remove(&lib->ch, &w);
    if (ready)
        return ready;
    return waited == -EINTR ? -EINTR : 0;
}

void sc__callback_run(struct desc *d)
{
    if (d->cb && !__atomic_load_n(&d->cb_sock->closed, __ATOMIC_ACQUIRE))
        d->cb(d->cb_sock, d->cb_arg);
}

int sc_on_event(sc_sock *s, sc_event_cb cb, void *arg)
{
    struct op op;
    int rc = sc__op_begin(&op, s, 0, true);

    if (rc)
        return rc;
    sc__op_end(&op, 0);
    pthread_mutex_lock(&s->lib->cb_lock);
    op.d->cb = cb;
    op.d->cb_sock = cb ? s : NULL;
    op.d->cb_arg = arg;
    __atomic_store_n(&op.d->has_cb, cb != NULL, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&s->lib->cb_lock);
    return 0;
}

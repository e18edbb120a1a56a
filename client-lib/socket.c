/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of a socket: made, bound, listening, accepted, connected, closed; its names.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client-lib/lib.h"

/* ---- Objects ------------------------------------------------------------------------------------- */

void sc__desc_ref(struct desc *d)
{
    __atomic_fetch_add(&d->refs, 1, __ATOMIC_RELAXED);
}

void sc__desc_unref(struct desc *d)
{
    if (__atomic_sub_fetch(&d->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        struct desc *primary = d->primary;

        pthread_mutex_destroy(&d->lock);
        sc__listen_free(d);
        free(d);
        if (primary)
            sc__desc_unref(primary);
    }
}

int sc__desc_new(struct sc_lib *lib, uint8_t family, uint8_t type, uint32_t worker, struct desc **out)
{
    struct desc *d = calloc(1, sizeof(*d));

    if (!d)
        return -ENOMEM;
    d->lib = lib;
    d->ch = &lib->ch;
    d->family = family;
    d->type = type;
    d->refs = 1; /* the table's */
    d->handles = 1;
    pthread_mutex_init(&d->lock, NULL);
    LIST_INIT(&d->waiters);
    if (!sc__slot_take(d->ch, d, worker)) {
        sc__desc_unref(d);
        return -EMFILE;
    }
    *out = d;
    return 0;
}

/* As sc__desc_new(), but closes under way are waited for before there is no number left: a program that
 * closes a socket may open another at once. `op` may be NULL; its socket is unlocked meanwhile. */
static int desc_new_settled(struct sc_lib *lib, struct op *op, uint8_t family, uint8_t type, uint32_t worker,
                            struct desc **out)
{
    int rc = sc__desc_new(lib, family, type, worker, out);

    if (rc != -EMFILE || !sc__slots_closing(&lib->ch))
        return rc;
    if (op)
        pthread_mutex_unlock(&op->d->lock);
    rc = 0;
    for (uint32_t w = 0; w < lib->ch.worker_count && rc >= 0; w++) {
        /* Replies of a worker come in the order of the commands, so after this one those closes are over. */
        struct sg_cmd nop = {.op = SG_CMD_NOP, .slot = w};

        rc = sc__command(&lib->ch, &nop, NULL);
    }
    if (op)
        pthread_mutex_lock(&op->d->lock);
    if (op && __atomic_load_n(&op->s->closed, __ATOMIC_ACQUIRE))
        rc = -EBADF;
    return rc < 0 ? rc : sc__desc_new(lib, family, type, worker, out);
}

void sc__desc_forget(struct desc *d)
{
    pthread_mutex_lock(&d->ch->lock);
    sc__slot_give(d->ch, d->num);
    pthread_mutex_unlock(&d->ch->lock);
    sc__desc_unref(d);
}

void sc__desc_close(struct desc *d)
{
    struct sg_cmd cmd = {.op = SG_CMD_CLOSE, .slot = d->num};

    sc__listen_close(d);
    d->closed = true;
    d->close_p.closing = d;
    /* Without a daemon the number stays taken, which nobody minds: no socket will be made again. */
    (void)sc__command_push(d->ch, &cmd, &d->close_p);
}

struct sc_sock *sc__handle_new(struct sc_lib *lib, struct desc *d, const sc_profile *profile)
{
    struct sc_sock *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->lib = lib;
    s->d = d;
    s->profile = profile;
    s->rcv_ms = s->snd_ms = -1;
    sc__desc_ref(d);
    pthread_mutex_lock(&lib->handles_lock);
    LIST_INSERT_HEAD(&lib->handles, s, all);
    pthread_mutex_unlock(&lib->handles_lock);
    return s;
}

void sc__handle_free(struct sc_sock *s)
{
    struct sc_lib *lib = s->lib;
    bool child = sc__lib_foreign(lib);

    if (!child) /* In a child, a thread of the parent may have held it for ever. */
        pthread_mutex_lock(&lib->handles_lock);
    LIST_REMOVE(s, all);
    if (!child)
        pthread_mutex_unlock(&lib->handles_lock);
    sc__desc_unref(s->d);
    free(s);
}

/* ---- Make, close --------------------------------------------------------------------------------- */

int sc_socket(sc_lib *lib, int family, int type, int proto, sc_sock **out)
{
    struct sg_cmd cmd = {.op = SG_CMD_OPEN};
    const sc_profile *p;
    struct desc *d;
    sc_sock *s;
    int rc;

    if (!lib || !out)
        return -EINVAL;
    if (sc__lib_foreign(lib))
        return -EBADF;
    p = sc_lib_profile(lib);
    family = sc__family_of(p, family);
    if (family < 0)
        return family;
    type = sc__type_of(p, type);
    if (type < 0)
        return type;
    if (sc__lib_dead(lib))
        return -ENETDOWN;
    /* Raw sockets are all on the first worker. */
    rc =
        desc_new_settled(lib, NULL, (uint8_t)family, (uint8_t)type, type == SG_SOCK_RAW ? 0 : WORKER_ANY, &d);
    if (rc)
        return rc;
    s = sc__handle_new(lib, d, p);
    if (!s) {
        sc__desc_forget(d);
        return -ENOMEM;
    }
    cmd.arg1 = type == SG_SOCK_RAW ? (uint32_t)proto : 0; /* Else the protocol follows the type. */
    cmd.slot = d->num;
    cmd.arg0 = (uint32_t)type;
    cmd.family = (uint16_t)family;
    rc = sc__command(d->ch, &cmd, NULL);
    if (rc < 0) {
        sc__handle_free(s);
        sc__desc_forget(d);
        return rc;
    }
    *out = s;
    return 0;
}

int sc_socket_from_fileno(sc_lib *lib, int fileno, int type, sc_sock **out)
{
    const sc_profile *p;
    struct desc *d = NULL;
    sc_sock *s;
    int rc;

    if (!lib || !out)
        return -EINVAL;
    if (sc__lib_foreign(lib))
        return -EBADF;
    p = sc_lib_profile(lib);
    type = sc__type_of(p, type);
    pthread_mutex_lock(&lib->ch.lock);
    if (fileno > 0 && (uint32_t)fileno < lib->ch.slot_count)
        d = lib->ch.descs[fileno];
    if (d && d->primary)
        d = NULL; /* A listener's slot on another worker is no socket by itself. */
    if (d)
        sc__desc_ref(d);
    pthread_mutex_unlock(&lib->ch.lock);
    if (!d)
        return -EBADF;
    if (type != d->type) {
        rc = -EPROTOTYPE;
    } else if (!(s = sc__handle_new(lib, d, p))) {
        rc = -ENOMEM;
    } else {
        /* The last other handle may have gone, or the socket may never have been open: then this is none. */
        pthread_mutex_lock(&d->lock);
        rc = d->closed || __atomic_load_n(&d->slot->d.state, __ATOMIC_ACQUIRE) == SG_ST_FREE ? -EBADF : 0;
        d->handles += rc == 0;
        pthread_mutex_unlock(&d->lock);
        if (rc)
            sc__handle_free(s);
        else
            *out = s;
    }
    sc__desc_unref(d);
    return rc;
}

/* SO_LINGER: does the close of this handle, the last one, wait? Not when it resets, for unread data. */
static bool lingers(const struct sc_sock *s)
{
    struct desc *d = s->d;
    struct line l;

    if (!d->linger_s || d->handles != 1 || __atomic_load_n(&s->snd_ms, __ATOMIC_RELAXED) == 0)
        return false;
    sc__line_read(d, &l);
    return l.state == SG_ST_CONNECTED && l.rx_tail == d->rx_head;
}

/* Nothing more is sent; wait until the peer has all, at most as long as SO_LINGER says. `own` is a handle
 * that nobody else knows, for that of the caller is closed already. */
static void linger(struct sc_sock *own)
{
    struct sg_cmd cmd = {.op = SG_CMD_SHUTDOWN, .arg0 = SG_SHUT_WR};
    struct op op;
    struct line l;
    int rc = sc__op_begin(&op, own, INT64_C(1000) * own->d->linger_s, false);

    if (rc)
        return;
    op.d->tx_shut = true;
    rc = sc__op_command(&op, &cmd, NULL);
    while (rc >= 0) {
        sc__line_read(op.d, &l);
        if (l.state != SG_ST_CONNECTED || sc__tx_acked(op.d))
            break;
        rc = sc__op_block(&op);
    }
    sc__op_end(&op, 0);
}

int sc_close(sc_sock *s)
{
    struct sc_sock *own;
    struct desc *d;
    bool waits;

    if (!s)
        return -EINVAL;
    d = s->d;
    if (__atomic_exchange_n(&s->closed, 1, __ATOMIC_ACQ_REL) || sc__lib_foreign(s->lib))
        return 0;
    pthread_mutex_lock(&d->lock);
    waits = lingers(s);
    pthread_mutex_lock(&d->ch->lock);
    sc__channel_changed(d->ch, d); /* Those who are blocked in this handle find it closed. */
    pthread_mutex_unlock(&d->ch->lock);
    pthread_mutex_unlock(&d->lock);
    own = waits ? sc__handle_new(s->lib, d, sc__profile(s)) : NULL;
    if (own) {
        linger(own);
        sc__handle_free(own);
    }
    pthread_mutex_lock(&d->lock);
    if (--d->handles == 0)
        sc__desc_close(d);
    pthread_mutex_unlock(&d->lock);
    return 0;
}

void sc_release(sc_sock *s)
{
    if (!s)
        return;
    (void)sc_close(s);
    if (!sc__lib_foreign(s->lib) && __atomic_load_n(&s->d->has_cb, __ATOMIC_ACQUIRE)) {
        pthread_mutex_lock(&s->lib->cb_lock); /* Until its callback has returned. */
        if (s->d->cb_sock == s) {
            __atomic_store_n(&s->d->has_cb, 0, __ATOMIC_RELEASE);
            s->d->cb = NULL;
            s->d->cb_sock = NULL;
        }
        pthread_mutex_unlock(&s->lib->cb_lock);
    }
    sc__handle_free(s);
}

int sc_fileno(const sc_sock *s)
{
    if (!s || __atomic_load_n(&s->closed, __ATOMIC_ACQUIRE))
        return -1;
    return (int)s->d->num;
}

sc_lib *sc_sock_lib(const sc_sock *s)
{
    return s ? s->lib : NULL;
}

const sc_profile *sc_sock_profile(const sc_sock *s)
{
    return s ? sc__profile(s) : NULL;
}

int sc_set_profile(sc_sock *s, const sc_profile *profile)
{
    struct op op;
    struct line l;
    int rc = sc__op_begin(&op, s, 0, true);

    if (rc)
        return rc;
    sc__line_read(op.d, &l);
    if (!profile || l.state != SG_ST_OPEN || (l.flags & SG_F_BOUND))
        return sc__op_end(&op, -EINVAL);
    __atomic_store_n(&s->profile, profile, __ATOMIC_RELEASE);
    return sc__op_end(&op, 0);
}

/* ---- Bind, listen, accept ------------------------------------------------------------------------ */

int sc_bind(sc_sock *s, const sc_addr *addr)
{
    struct sg_cmd cmd = {.op = SG_CMD_BIND};
    struct op op;
    struct line l;
    int rc;

    if (!addr)
        return -EINVAL;
    rc = sc__op_begin(&op, s, 0, true);
    if (rc)
        return rc;
    sc__line_read(op.d, &l);
    rc = sc__addr_to_cmd(addr, op.d->family, &cmd);
    if (!rc && (l.flags & SG_F_BOUND))
        rc = -EINVAL;
    if (!rc)
        rc = sc__op_command(&op, &cmd, NULL);
    return sc__op_end(&op, rc < 0 ? rc : 0);
}

int sc_bind_port(sc_sock *s, long port)
{
    sc_addr any = {.family = SC_ADDR_INET, .len = 4};

    if (!s)
        return -EINVAL;
    if (!(sc__profile(s)->addr_forms & SC_AF_PORT))
        return SC_BAD_FORM;
    if (port < 0 || port > UINT16_MAX)
        return -EINVAL;
    any.port = (uint16_t)port;
    return sc_bind(s, &any);
}

int sc_listen(sc_sock *s, int backlog)
{
    struct sg_cmd cmd = {.op = SG_CMD_LISTEN};
    const sc_profile *p;
    struct op op;
    int rc = sc__op_begin(&op, s, 0, true);

    if (rc)
        return rc;
    p = sc__profile(s);
    if (backlog == SC_BACKLOG_DEFAULT)
        backlog = p->listen_default;
    if (backlog < 0)
        backlog = 0;
    if (backlog > SC_BACKLOG_MAX)
        backlog = SC_BACKLOG_MAX;
    if (p->backlog_plus_one)
        backlog += backlog < SC_BACKLOG_MAX;
    cmd.arg0 = backlog < 1 ? 1 : (uint32_t)backlog;
    cmd.arg1 = p->backlog_overflow == SC_OVF_RESET ? SG_OVERFLOW_RESET : SG_OVERFLOW_DROP;
    rc = op.d->type == SG_SOCK_STREAM ? sc__listen_all(&op, &cmd) : -EOPNOTSUPP;
    return sc__op_end(&op, rc < 0 ? rc : 0);
}

/* Whether a connection waits: 0 and in whose slot, -EAGAIN, or why none ever will. */
static int accept_check(struct desc *d, struct desc **from)
{
    struct line l;

    if (d->type != SG_SOCK_STREAM)
        return -EOPNOTSUPP;
    sc__line_read(d, &l);
    if (l.state != SG_ST_LISTENING)
        return -EINVAL;
    *from = sc__listen_next(d);
    return *from ? 0 : -EAGAIN;
}

static void accept_discard(sc_sock **c)
{
    if (!*c)
        return;
    sc__desc_forget((*c)->d);
    sc__handle_free(*c);
    *c = NULL;
}

/* Room for an accepted connection, made before it is taken so that none is lost for want of memory. */
static int accept_prepare(struct op *op, const struct desc *from, sc_sock **ret)
{
    uint32_t worker = sc__worker_of(from->ch, from->num);
    struct desc *d;
    int rc;

    if (*ret && sc__worker_of(from->ch, (*ret)->d->num) == worker)
        return 0;
    if (*ret)
        accept_discard(ret); /* It was for another worker's. */
    rc = desc_new_settled(op->s->lib, op, op->d->family, SG_SOCK_STREAM, worker, &d);
    if (rc)
        return rc;
    *ret = sc__handle_new(op->s->lib, d, sc__profile(op->s));
    if (*ret)
        return 0;
    sc__desc_forget(d);
    return -ENOMEM;
}

/* Take the oldest connection into the slot of `conn`. -EAGAIN: another thread was faster. */
static int accept_take(struct op *op, const struct desc *from, sc_sock *conn)
{
    struct sg_cmd cmd = {.op = SG_CMD_ACCEPT, .slot = from->num, .arg0 = conn->d->num};
    struct pending p = {0};
    int rc = sc__command_push(op->d->ch, &cmd, &p);

    if (rc)
        return rc;
    pthread_mutex_unlock(&op->d->lock);
    rc = sc__command_wait(op->d->ch, &p);
    pthread_mutex_lock(&op->d->lock);
    conn->d->connected = rc >= 0;
    conn->d->linger_s = op->d->linger_s;
    return rc < 0 ? rc : 0;
}

static void peer_name(const struct desc *d, sc_addr *out)
{
    const struct sg_slot_name *n = &d->slot->n;

    sc__addr_from_slot(out, n->family, n->remote, n->remote_port, n->remote_scope);
}

int sc_accept(sc_sock *s, sc_sock **conn, sc_addr *peer)
{
    struct desc *from = NULL;
    sc_sock *c = NULL;
    struct op op;
    int rc;

    if (!s || !conn)
        return -EINVAL;
    rc = sc__op_begin(&op, s, __atomic_load_n(&s->rcv_ms, __ATOMIC_RELAXED), false);
    if (rc)
        return rc;
    do {
        rc = accept_check(op.d, &from);
        if (!rc)
            rc = accept_prepare(&op, from, &c);
        if (!rc)
            rc = accept_take(&op, from, c);
    } while (rc == -EAGAIN && (rc = sc__op_block(&op)) == 0);
    rc = sc__op_end(&op, rc);
    if (rc) {
        accept_discard(&c);
        return rc;
    }
    if (sc__profile(s)->accept_inherits) {
        c->rcv_ms = __atomic_load_n(&s->rcv_ms, __ATOMIC_RELAXED);
        c->snd_ms = __atomic_load_n(&s->snd_ms, __ATOMIC_RELAXED);
    }
    if (peer)
        peer_name(c->d, peer);
    *conn = c;
    return 0;
}

/* ---- Connect, shutdown --------------------------------------------------------------------------- */

/* How far a connection attempt has come. -EAGAIN: still under way. */
static int connect_result(struct desc *d)
{
    struct line l;

    sc__line_read(d, &l);
    if (l.state == SG_ST_CONNECTED) {
        d->connected = true;
        sc__listen_forget(d);
    }
    if (l.flags & SG_F_ERROR) {
        d->err_reported = true;
        d->connected |= l.error == ECONNRESET;
        return -(int)l.error;
    }
    if (l.state == SG_ST_CONNECTING)
        return sc__lib_dead(d->lib) ? -ENETDOWN : -EAGAIN;
    return 0; /* It stands, or it stood and both sides are done with it. */
}

static int connect_stream(struct op *op, struct sg_cmd *cmd)
{
    struct line l;
    int rc;

    sc__line_read(op->d, &l);
    if (l.state == SG_ST_CONNECTING)
        return -EALREADY;
    if (l.state == SG_ST_CLOSED && (l.flags & SG_F_ERROR) && !op->d->connected) {
        op->d->err_reported = true;
        return -(int)l.error;
    }
    if (l.state != SG_ST_OPEN)
        return -EISCONN;
    rc = sc__op_command(op, cmd, NULL);
    while (rc >= 0) {
        rc = connect_result(op->d);
        if (rc != -EAGAIN)
            break;
        rc = sc__op_block(op);
    }
    return rc == -EAGAIN ? -EINPROGRESS : rc;
}

int sc__connect_fastopen(struct op *op, const sc_addr *to)
{
    struct sg_cmd opt = {.op = SG_CMD_SETOPT, .arg0 = 6, .arg1 = SC_TCP_FASTOPEN_CONNECT, .value = 1};
    struct sg_cmd cmd = {.op = SG_CMD_CONNECT};
    int rc;

    if (!to)
        return -EINVAL;
    rc = sc__addr_to_cmd(to, op->d->family, &cmd);
    if (!rc)
        rc = sc__op_command(op, &opt, NULL);
    return rc < 0 ? rc : connect_stream(op, &cmd);
}

int sc_connect(sc_sock *s, const sc_addr *addr)
{
    struct sg_cmd cmd = {.op = SG_CMD_CONNECT};
    struct op op;
    int rc;

    if (!s || !addr)
        return -EINVAL;
    rc = sc__op_begin(&op, s, __atomic_load_n(&s->snd_ms, __ATOMIC_RELAXED), false);
    if (rc)
        return rc;
    if (addr->family || op.d->type == SG_SOCK_STREAM)
        rc = sc__addr_to_cmd(addr, op.d->family, &cmd);
    if (!rc && op.d->type == SG_SOCK_STREAM)
        rc = connect_stream(&op, &cmd);
    else if (!rc)
        rc = sc__op_command(&op, &cmd, NULL);
    return sc__op_end(&op, rc < 0 ? rc : 0);
}

int sc_shutdown(sc_sock *s, int how)
{
    struct sg_cmd cmd = {.op = SG_CMD_SHUTDOWN};
    struct op op;
    struct line l;
    int rc;

    if (how != SC_SHUT_RD && how != SC_SHUT_WR && how != SC_SHUT_RDWR)
        return -EINVAL;
    rc = sc__op_begin(&op, s, 0, true);
    if (rc)
        return rc;
    sc__line_read(op.d, &l);
    if (l.state != SG_ST_CONNECTED)
        return sc__op_end(&op, -ENOTCONN);
    if (how != SC_SHUT_RD) {
        cmd.arg0 |= SG_SHUT_WR;
        op.d->tx_shut = true; /* From here on no byte may follow: the end of the stream is where it is now. */
    }
    if (how != SC_SHUT_WR)
        cmd.arg0 |= SG_SHUT_RD;
    rc = sc__op_command(&op, &cmd, NULL);
    return sc__op_end(&op, rc < 0 ? rc : 0);
}

/* ---- Names --------------------------------------------------------------------------------------- */

int sc_getsockname(sc_sock *s, sc_addr *out)
{
    const struct sg_slot_name *n;
    struct op op;
    int rc;

    if (!out)
        return -EINVAL;
    rc = sc__op_begin(&op, s, 0, true);
    if (rc)
        return rc;
    n = &op.d->slot->n;
    sc__addr_from_slot(out, n->family, n->local, n->local_port, n->local_scope);
    return sc__op_end(&op, 0);
}

int sc_getpeername(sc_sock *s, sc_addr *out)
{
    struct op op;
    struct line l;
    int rc;

    if (!out)
        return -EINVAL;
    rc = sc__op_begin(&op, s, 0, true);
    if (rc)
        return rc;
    sc__line_read(op.d, &l);
    if (l.state != SG_ST_CONNECTED)
        return sc__op_end(&op, -ENOTCONN);
    peer_name(op.d, out);
    return sc__op_end(&op, 0);
}

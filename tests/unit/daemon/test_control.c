/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/daemon/rig.h"

static struct rig rig;

static bool no_sessions(struct rig *r)
{
    return control_session_count(r->control) == 0;
}

/* An answer with this error, and then the end of the connection. */
static void refused(struct peer *p, int error, const char *what)
{
    Sockgate__Response *res = peer_answer(p, NULL, 0, NULL);

    cr_assert_not_null(res);
    cr_assert_eq(res->error, error, "%d: %s", res->error, res->message);
    cr_assert_not_null(strstr(res->message, what), "%s", res->message);
    sockgate__response__free_unpacked(res, NULL);
    cr_assert(peer_closed(p));
    peer_close(p);
}

static void send_hello(struct peer *p, uint64_t magic, uint32_t version)
{
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;
    Sockgate__HelloRequest hello = SOCKGATE__HELLO_REQUEST__INIT;

    hello.magic = magic;
    hello.abi_version = version;
    req.body_case = SOCKGATE__REQUEST__BODY_HELLO;
    req.hello = &hello;
    cr_assert(peer_send(p, &req));
}

static Sockgate__Request request_of(Sockgate__Request__BodyCase which)
{
    static Sockgate__StatsRequest stats = SOCKGATE__STATS_REQUEST__INIT;
    static Sockgate__AttachRequest attach = SOCKGATE__ATTACH_REQUEST__INIT;
    static Sockgate__DetachRequest detach = SOCKGATE__DETACH_REQUEST__INIT;
    static Sockgate__VersionRequest version = SOCKGATE__VERSION_REQUEST__INIT;
    static Sockgate__SessionsRequest sessions = SOCKGATE__SESSIONS_REQUEST__INIT;
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;

    req.body_case = which;
    if (which == SOCKGATE__REQUEST__BODY_STATS)
        req.stats = &stats;
    else if (which == SOCKGATE__REQUEST__BODY_ATTACH)
        req.attach = &attach;
    else if (which == SOCKGATE__REQUEST__BODY_DETACH)
        req.detach = &detach;
    else if (which == SOCKGATE__REQUEST__BODY_VERSION)
        req.version = &version;
    else if (which == SOCKGATE__REQUEST__BODY_SESSIONS)
        req.sessions = &sessions;
    return req;
}

Test(control, wrong_magic_is_told_and_closed)
{
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_connect(&p, &rig);
    send_hello(&p, 1, SG_ABI_VERSION);
    refused(&p, -EPROTO, "wrong magic");
    rig_stop(&rig);
}

Test(control, wrong_version_is_told_with_both_versions_and_closed)
{
    struct peer p;
    char what[40];

    rig_init(&rig);
    rig_start(&rig, false);
    peer_connect(&p, &rig);
    send_hello(&p, SG_ABI_MAGIC, SG_ABI_VERSION + 1);
    (void)snprintf(what, sizeof(what), "ABI version %u and", SG_ABI_VERSION + 1);
    refused(&p, -EPROTONOSUPPORT, what);
    rig_stop(&rig);
}

Test(control, anything_before_hello_ends_the_connection)
{
    Sockgate__Request req = request_of(SOCKGATE__REQUEST__BODY_STATS);
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_connect(&p, &rig);
    cr_assert(peer_send(&p, &req));
    refused(&p, -EPROTO, "must be a hello");
    rig_stop(&rig);
}

Test(control, garbage_ends_the_connection)
{
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_hello(&p, &rig, 0);
    cr_assert_eq(send(p.fd, "\xff\xff\xff\xff\xff", 5, 0), 5);
    refused(&p, -EBADMSG, "no message");
    rig_stop(&rig);
}

Test(control, oversized_message_ends_the_connection)
{
    char *big = calloc(1, CONTROL_PACKET_MAX + 1);
    int size = 1 << 20;
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_hello(&p, &rig, 0);
    (void)setsockopt(p.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    cr_assert_eq(send(p.fd, big, CONTROL_PACKET_MAX + 1, 0), (ssize_t)CONTROL_PACKET_MAX + 1);
    refused(&p, -EMSGSIZE, "at most 65536 bytes");
    rig_stop(&rig);
    free(big);
}

Test(control, unknown_request_is_refused_and_the_connection_goes_on)
{
    Sockgate__Request req = request_of(SOCKGATE__REQUEST__BODY_VERSION);
    Sockgate__Response *res;
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_hello(&p, &rig, 0);
    cr_assert_eq(send(p.fd, "\xfa\x01\x00", 3, 0), 3); /* Field 31, empty message. */
    res = peer_answer(&p, NULL, 0, NULL);
    cr_assert_not_null(res);
    cr_assert_eq(res->error, -EOPNOTSUPP);
    sockgate__response__free_unpacked(res, NULL);
    res = peer_request(&p, &req);
    cr_assert_not_null(res);
    cr_assert_eq(res->error, 0);
    cr_assert_eq(res->body_case, SOCKGATE__RESPONSE__BODY_VERSION);
    cr_assert_str_eq(res->version->release, SOCKGATE_VERSION);
    sockgate__response__free_unpacked(res, NULL);
    peer_close(&p);
    rig_stop(&rig);
}

Test(control, connection_that_says_no_hello_is_closed_in_time)
{
    struct peer silent, greeted;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_hello(&greeted, &rig, 0);
    peer_connect(&silent, &rig);
    rig_serve(&rig, 0);
    cr_assert_leq(control_deadline(rig.control), UINT64_MAX - 1, "somebody has to look at it again");
    rig_serve(&rig, CONTROL_HELLO_US + 1000000);
    cr_assert(peer_closed(&silent));
    cr_assert_eq(control_deadline(rig.control), UINT64_MAX, "an idle client that said hello may stay");
    peer_close(&silent);
    peer_close(&greeted);
    rig_stop(&rig);
}

Test(control, client_that_does_not_read_is_dropped_and_others_are_served)
{
    Sockgate__Request req = request_of(SOCKGATE__REQUEST__BODY_STATS);
    Sockgate__Response *res;
    struct peer slow, other;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_hello(&slow, &rig, 0);
    peer_hello(&other, &rig, 0);
    for (int i = 0; i < 2000 && control_deadline(rig.control) == UINT64_MAX; i++) {
        cr_assert(peer_send(&slow, &req));
        rig_serve(&rig, 0);
    }
    cr_assert_neq(control_deadline(rig.control), UINT64_MAX, "an answer waits");
    res = peer_request(&other, &req);
    cr_assert_not_null(res);
    cr_assert_gt(res->stats->n_counters, 50);
    sockgate__response__free_unpacked(res, NULL);
    rig_serve(&rig, CONTROL_SEND_US + 1000000);
    cr_assert_eq(control_deadline(rig.control), UINT64_MAX, "it is gone");
    peer_close(&slow);
    peer_close(&other);
    rig_stop(&rig);
}

Test(control, late_reader_gets_its_answers)
{
    Sockgate__Request req = request_of(SOCKGATE__REQUEST__BODY_STATS);
    Sockgate__Response *res;
    unsigned sent = 0;
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_hello(&p, &rig, 0);
    for (; sent < 2000 && control_deadline(rig.control) == UINT64_MAX; sent++) {
        cr_assert(peer_send(&p, &req));
        rig_serve(&rig, 0);
    }
    for (unsigned i = 0; i < sent; i++) {
        res = peer_answer(&p, NULL, 0, NULL);
        cr_assert_not_null(res, "answer %u of %u is missing", i, sent);
        sockgate__response__free_unpacked(res, NULL);
    }
    peer_close(&p);
    rig_stop(&rig);
}

Test(control, connections_have_a_limit_that_comes_free_again)
{
    struct peer p[5];

    rig_init(&rig);
    rig.cfg.clients_max = 4;
    rig_start(&rig, false);
    for (int i = 0; i < 4; i++)
        peer_hello(&p[i], &rig, 0);
    peer_connect(&p[4], &rig);
    refused(&p[4], -EMFILE, "limit of 4 connections");
    peer_close(&p[0]);
    rig_serve(&rig, 0);
    peer_hello(&p[0], &rig, 0);
    for (int i = 0; i < 4; i++)
        peer_close(&p[i]);
    rig_stop(&rig);
}

Test(control, tool_without_abi_version_can_not_attach)
{
    Sockgate__Request req = request_of(SOCKGATE__REQUEST__BODY_ATTACH);
    Sockgate__Response *res;
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_hello(&p, &rig, 0);
    res = peer_request(&p, &req);
    cr_assert_eq(res->error, -EPROTO);
    sockgate__response__free_unpacked(res, NULL);
    peer_close(&p);
    rig_stop(&rig);
}

Test(control, one_session_a_connection_and_detach_makes_room)
{
    Sockgate__Request attach = request_of(SOCKGATE__REQUEST__BODY_ATTACH);
    Sockgate__Request detach = request_of(SOCKGATE__REQUEST__BODY_DETACH);
    Sockgate__Response *res;
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_attach(&s, &rig);
    res = peer_request(&s.p, &attach);
    cr_assert_eq(res->error, -EALREADY);
    sockgate__response__free_unpacked(res, NULL);
    res = peer_request(&s.p, &detach);
    cr_assert_eq(res->error, 0, "%s", res->message);
    sockgate__response__free_unpacked(res, NULL);
    cr_assert(rig_wait(&rig, no_sessions));
    res = peer_request(&s.p, &detach);
    cr_assert_eq(res->error, -ENOTCONN);
    sockgate__response__free_unpacked(res, NULL);
    peer_detach(&s);
    rig_stop(&rig);
}

Test(control, sessions_have_a_limit_that_comes_free_when_a_process_dies)
{
    Sockgate__Request req = request_of(SOCKGATE__REQUEST__BODY_ATTACH);
    struct peer_session s[8];
    Sockgate__Response *res;
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    for (int i = 0; i < 8; i++)
        peer_attach(&s[i], &rig);
    peer_hello(&p, &rig, SG_ABI_VERSION);
    res = peer_request(&p, &req);
    cr_assert_eq(res->error, -ENOSPC);
    cr_assert_not_null(strstr(res->message, "session.max"), "%s", res->message);
    sockgate__response__free_unpacked(res, NULL);
    for (int i = 0; i < 8; i++)
        peer_detach(&s[i]);
    cr_assert(rig_wait(&rig, no_sessions));
    peer_attach(&s[0], &rig);
    peer_detach(&s[0]);
    peer_close(&p);
    rig_stop(&rig);
}

Test(control, sessions_are_listed_with_who_they_are)
{
    Sockgate__Request req = request_of(SOCKGATE__REQUEST__BODY_SESSIONS);
    struct peer_session a, b;
    Sockgate__Response *res;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_attach(&a, &rig);
    peer_attach(&b, &rig);
    cr_assert_eq(
        peer_command(
            &a, (struct sg_cmd){.op = SG_CMD_OPEN, .slot = 1, .arg0 = SG_SOCK_DGRAM, .family = SG_AF_INET}),
        0);
    res = peer_request(&b.p, &req);
    cr_assert_eq(res->sessions->n_sessions, 2);
    cr_assert_eq(res->sessions->cursor, 0);
    cr_assert_eq(res->sessions->sessions[1]->id, a.hdr.session_id);
    cr_assert_eq(res->sessions->sessions[1]->sockets, 1);
    cr_assert_eq(res->sessions->sessions[0]->sockets, 0);
    cr_assert_eq(res->sessions->sessions[1]->pid, getpid());
    cr_assert_eq(res->sessions->sessions[1]->uid, getuid());
    cr_assert_str_eq(res->sessions->sessions[1]->state, "attached");
    sockgate__response__free_unpacked(res, NULL);
    peer_detach(&a);
    peer_detach(&b);
    rig_stop(&rig);
}

/* More sockets than fit a page: each is listed exactly once. */
Test(control, sockets_come_in_pages)
{
    Sockgate__SocketsRequest body = SOCKGATE__SOCKETS_REQUEST__INIT;
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;
    unsigned seen[201] = {0}, pages = 0;
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_attach(&s, &rig);
    for (uint32_t slot = 1; slot <= 200; slot++) {
        struct sg_cmd cmd = {.op = SG_CMD_OPEN, .slot = slot, .arg0 = SG_SOCK_DGRAM, .family = SG_AF_INET};

        cr_assert_eq(peer_command(&s, cmd), 0);
        cmd = (struct sg_cmd){.op = SG_CMD_BIND, .slot = slot};
        peer_own_address(&rig, &cmd, (uint16_t)(1000 + slot));
        cr_assert_eq(peer_command(&s, cmd), 0);
    }
    req.body_case = SOCKGATE__REQUEST__BODY_SOCKETS;
    req.sockets = &body;
    do {
        Sockgate__Response *res = peer_request(&s.p, &req);

        cr_assert_eq(res->body_case, SOCKGATE__RESPONSE__BODY_SOCKETS);
        for (size_t i = 0; i < res->sockets->n_sockets; i++) {
            const Sockgate__Socket *m = res->sockets->sockets[i];

            cr_assert_str_eq(m->kind, "udp");
            cr_assert_eq(m->local_port, 1000 + m->slot);
            cr_assert_eq(m->session, (int32_t)s.hdr.session_id);
            cr_assert_eq(m->pid, getpid());
            seen[m->slot]++;
        }
        body.cursor = res->sockets->cursor;
        sockgate__response__free_unpacked(res, NULL);
    } while (body.cursor && ++pages < 100);
    cr_assert_geq(pages, 3);
    for (uint32_t slot = 1; slot <= 200; slot++)
        cr_assert_eq(seen[slot], 1, "slot %u was listed %u times", slot, seen[slot]);
    peer_detach(&s);
    rig_stop(&rig);
}

Test(control, any_cursor_is_harmless)
{
    static const uint64_t cursors[] = {
        1, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(4) << 32 | UINT32_MAX, UINT64_C(77) << 32, UINT64_MAX};
    Sockgate__SocketsRequest sockets = SOCKGATE__SOCKETS_REQUEST__INIT;
    Sockgate__NeighborsRequest neighbors = SOCKGATE__NEIGHBORS_REQUEST__INIT;
    Sockgate__SessionsRequest sessions = SOCKGATE__SESSIONS_REQUEST__INIT;
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_attach(&s, &rig);
    for (size_t i = 0; i < 3 * sizeof(cursors) / sizeof(cursors[0]); i++) {
        Sockgate__Response *res;

        sockets.cursor = neighbors.cursor = sessions.cursor = cursors[i / 3];
        req.body_case = i % 3 == 0   ? SOCKGATE__REQUEST__BODY_SOCKETS
                        : i % 3 == 1 ? SOCKGATE__REQUEST__BODY_NEIGHBORS
                                     : SOCKGATE__REQUEST__BODY_SESSIONS;
        if (i % 3 == 0)
            req.sockets = &sockets;
        else if (i % 3 == 1)
            req.neighbors = &neighbors;
        else
            req.sessions = &sessions;
        res = peer_request(&s.p, &req);
        cr_assert_not_null(res);
        cr_assert_eq(res->error, 0);
        sockgate__response__free_unpacked(res, NULL);
    }
    peer_detach(&s);
    rig_stop(&rig);
}

Test(control, counter_names_are_unique)
{
    Sockgate__Request req = request_of(SOCKGATE__REQUEST__BODY_STATS);
    Sockgate__Response *res;
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_hello(&p, &rig, 0);
    res = peer_request(&p, &req);
    for (size_t i = 0; i < res->stats->n_counters; i++)
        for (size_t k = 0; k < i; k++)
            cr_assert_str_neq(res->stats->counters[i]->name, res->stats->counters[k]->name);
    sockgate__response__free_unpacked(res, NULL);
    peer_close(&p);
    rig_stop(&rig);
}

Test(control, drain_ends_every_session_and_takes_no_new_connection)
{
    struct peer_session s;

    rig_init(&rig);
    rig_start(&rig, false);
    peer_attach(&s, &rig);
    control_drain(rig.control);
    cr_assert(peer_closed(&s.p));
    cr_assert(rig_wait(&rig, no_sessions));
    peer_detach(&s);
    rig_stop(&rig);
}

/* Random bytes as messages, before and after hello: refused or answered, and the daemon lives. */
Test(control, random_messages_do_no_harm, .timeout = 60)
{
    unsigned seed = (unsigned)getpid();
    uint8_t text[64];
    struct peer p;

    rig_init(&rig);
    rig_start(&rig, false);
    for (unsigned round = 0; round < 2000; round++) {
        size_t n = 1 + (size_t)rand_r(&seed) % sizeof(text);

        for (size_t i = 0; i < n; i++)
            text[i] = (uint8_t)(rand_r(&seed) % (i < 2 ? 128 : 256));
        if (round % 2)
            peer_hello(&p, &rig, 0);
        else
            peer_connect(&p, &rig);
        cr_assert_eq(send(p.fd, text, n, 0), (ssize_t)n);
        rig_serve(&rig, 0);
        peer_close(&p);
    }
    peer_hello(&p, &rig, 0);
    peer_close(&p);
    rig_stop(&rig);
}

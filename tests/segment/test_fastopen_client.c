/* SPDX-License-Identifier: Apache-2.0 */
/* TCP Fast Open, the client's side: RFC 7413. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/segment/peer.h"

#define TCP_SYNCNT           7u
#define TCP_FASTOPEN_CONNECT 30u

static const uint8_t the_cookie[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* connect() of a socket with the option; the host's port is known then. */
static void connect_fast(struct peer *p)
{
    p->slot = app_socket(&p->h, SG_SOCK_STREAM);
    cr_assert_eq(engine_setopt(p->h.e, p->h.sid, p->slot, 6, TCP_FASTOPEN_CONNECT, 1, p->h.now_us), 0);
    cr_assert_eq(app_connect(&p->h, p->slot, 1, PEER_PORT), 0);
    p->host_port = p->h.slots[p->slot].n.local_port;
}

static struct seg syn_ack(uint32_t ack, uint8_t cookie_bytes)
{
    struct seg s = {.flags = TCP_SYN | TCP_ACK, .ack = ack, .mss = 1460, .sack_perm = true};

    s.fo = cookie_bytes != 0;
    s.fo_len = cookie_bytes;
    memcpy(s.cookie, the_cookie, sizeof(s.cookie));
    return s;
}

/* A first connection, by which the host learns this server's cookie. */
static void learn(struct peer *p, uint8_t cookie_bytes, uint16_t mss)
{
    struct seg s;

    connect_fast(p);
    s = seg_expect(p, .flags = TCP_SYN, .check = C_LEN);
    cr_assert(s.fo && s.fo_len == 0, "it asks for a cookie");
    s = syn_ack(1, cookie_bytes);
    s.mss = mss;
    seg_send(p, s);
    seg_expect(p, .flags = TCP_ACK, .seq = 1, .ack = 1);
    seg_send(p, (struct seg){.flags = TCP_RST, .seq = 1});
    app_close(&p->h, p->slot);
}

/* RFC 7413 4.2.1: nothing until there is data; then SYN, cookie and data in one. */
Test(fastopen_client, the_first_data_rides_on_the_syn)
{
    static const uint8_t lengths[] = {4, 8, 16};

    for (unsigned i = 0; i < sizeof(lengths); i++) {
        struct peer p;
        struct seg s;

        peer_start(&p, NULL);
        learn(&p, lengths[i], 1460);
        connect_fast(&p);
        seg_none(&p);
        cr_assert(app_connected(&p.h, p.slot));
        peer_write(&p, 100);
        s = seg_expect(&p, .flags = TCP_SYN, .len = 100);
        cr_assert(s.fo_len == lengths[i] && !memcmp(s.cookie, the_cookie, lengths[i]));
        cr_assert(s.mss == 1460 && s.wscale && s.sack_perm && s.tsval, "with all options");
        seg_none(&p);
        seg_send(&p, syn_ack(101, 0));
        seg_expect(&p, .flags = TCP_ACK, .seq = 101, .ack = 1, .check = C_LEN);
        peer_wait(&p, 5000000);
        seg_none(&p);
        peer_write(&p, 50);
        seg_expect(&p, .flags = TCP_ACK, .seq = 101, .len = 50);
        cr_assert_eq(host_counter(&p.h, "TcpFastOpenActive"), 1);
        peer_stop(&p);
    }
}

/* RFC 7413 4.1.3: the newest MSS of the server counts, with a new cookie or without. */
Test(fastopen_client, the_mss_of_every_syn_ack_is_kept)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    peer_write(&p, 2000);
    seg_expect(&p, .flags = TCP_SYN, .len = 1420);
    s = syn_ack(1421, 0);
    s.mss = 940;
    seg_send(&p, s);
    seg_drain(&p);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    connect_fast(&p);
    peer_write(&p, 2000);
    s = seg_expect(&p, .flags = TCP_SYN, .len = 900);
    cr_assert_eq(s.fo_len, 8);
    peer_stop(&p);
}

/* A SYN that waited for data and is to go without shows the cookie all the same. */
Test(fastopen_client, a_syn_without_data_shows_the_cookie)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    cr_assert_eq(app_shutdown(&p.h, p.slot, SG_SHUT_WR), 0);
    s = seg_expect(&p, .flags = TCP_SYN, .check = C_LEN);
    cr_assert(s.fo_len == 8 && !memcmp(s.cookie, the_cookie, 8));
    peer_stop(&p);
}

/* RFC 7413 4.2.1: what the SYN-ACK does not acknowledge goes out at once, as data. */
Test(fastopen_client, data_that_was_not_taken_is_sent_again)
{
    static const uint32_t taken[] = {0, 1, 60, 99};

    for (unsigned i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
        struct peer p;

        peer_start(&p, NULL);
        learn(&p, 8, 1460);
        connect_fast(&p);
        peer_write(&p, 100);
        seg_expect(&p, .flags = TCP_SYN, .len = 100);
        seg_send(&p, syn_ack(1 + taken[i], 0));
        seg_expect(&p, .flags = TCP_ACK, .seq = 1 + taken[i], .ack = 1, .len = 100 - taken[i]);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101});
        seg_none(&p);
        peer_stop(&p);
    }
}

Test(fastopen_client, a_segment_that_acknowledges_more_is_refused)
{
    struct peer p;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_SYN, .len = 100);
    seg_send(&p, syn_ack(102, 0));
    seg_expect(&p, .flags = TCP_RST, .seq = 102);
    seg_send(&p, syn_ack(0, 0));
    seg_expect(&p, .flags = TCP_RST, .check = C_SEQ);
    cr_assert_str_eq(peer_state(&p), "SYN_SENT");
    peer_stop(&p);
}

/* RFC 7413 4.2.1: room for options is kept; the rest follows when the handshake is done. */
Test(fastopen_client, no_more_rides_than_the_servers_mss_allows)
{
    struct peer p;
    uint32_t sent = 961;

    peer_start(&p, NULL);
    learn(&p, 8, 1000);
    connect_fast(&p);
    peer_write(&p, 5000);
    seg_expect(&p, .flags = TCP_SYN, .len = 960);
    seg_none(&p);
    seg_send(&p, syn_ack(961, 0));
    while (engine_tx_pending(p.h.e)) {
        struct seg s = seg_take(&p);

        cr_assert_eq(s.seq, sent);
        sent += s.len;
    }
    cr_assert_eq(sent, 5001);
    peer_stop(&p);
}

/* RFC 7413 4.2.1, 4.1.3.1: a plain SYN after a loss, and plain SYNs for a while. */
Test(fastopen_client, after_a_loss_the_syn_is_plain_and_remembered)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_SYN, .len = 100);
    peer_wait_tx(&p, 3000000);
    s = seg_expect(&p, .flags = TCP_SYN, .check = C_LEN);
    cr_assert_not(s.fo);
    seg_send(&p, syn_ack(1, 0));
    seg_expect(&p, .flags = TCP_ACK, .seq = 1, .len = 100);
    seg_send(&p, (struct seg){.flags = TCP_RST, .seq = 1});
    app_close(&p.h, p.slot);
    seg_drain(&p);

    connect_fast(&p);
    s = seg_expect(&p, .flags = TCP_SYN, .check = C_LEN);
    cr_assert_not(s.fo);
    app_close(&p.h, p.slot);
    peer_wait(&p, 61000000);
    connect_fast(&p);
    seg_none(&p);
    peer_write(&p, 10);
    seg_expect(&p, .flags = TCP_SYN, .len = 10);
    peer_stop(&p);
}

/* The SYN-ACK that was slow may still acknowledge the data of the first SYN. */
Test(fastopen_client, a_late_syn_ack_counts_for_the_data)
{
    struct peer p;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_SYN, .len = 100);
    peer_wait_tx(&p, 3000000);
    seg_expect(&p, .flags = TCP_SYN, .check = C_LEN);
    seg_send(&p, syn_ack(101, 0));
    seg_expect(&p, .flags = TCP_ACK, .seq = 101, .ack = 1, .check = C_LEN);
    peer_wait(&p, 5000000);
    seg_none(&p);
    peer_stop(&p);
}

Test(fastopen_client, an_unanswered_one_times_out_and_is_remembered)
{
    struct peer p;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    cr_assert_eq(engine_setopt(p.h.e, p.h.sid, p.slot, 6, TCP_SYNCNT, 3, p.h.now_us), 0);
    peer_write(&p, 100);
    while (peer_wait_tx(&p, 20000000) < 20000000)
        seg_expect(&p, .flags = TCP_SYN);
    cr_assert_eq(app_error(&p.h, p.slot), ETIMEDOUT);
    connect_fast(&p);
    cr_assert_not(seg_expect(&p, .flags = TCP_SYN).fo);
    peer_stop(&p);
}

/* RFC 7413 4.1.3: the newest cookie is kept. */
Test(fastopen_client, a_new_cookie_replaces_the_old_one)
{
    struct peer p;
    struct seg s;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    peer_write(&p, 10);
    seg_expect(&p, .flags = TCP_SYN, .len = 10);
    s = syn_ack(1, 8);
    s.cookie[0] = 99;
    seg_send(&p, s);
    seg_expect(&p, .flags = TCP_ACK, .len = 10);
    connect_fast(&p);
    peer_write(&p, 10);
    s = seg_expect(&p, .flags = TCP_SYN, .len = 10);
    cr_assert_eq(s.cookie[0], 99);
    peer_stop(&p);
}

/* RFC 9293 3.5 figure 8 with data on our SYN. */
Test(fastopen_client, a_simultaneous_open_sends_the_data_again)
{
    static const uint32_t taken[] = {0, 100};

    for (unsigned i = 0; i < 2; i++) {
        struct peer p;

        peer_start(&p, NULL);
        learn(&p, 8, 1460);
        connect_fast(&p);
        peer_write(&p, 100);
        seg_expect(&p, .flags = TCP_SYN, .len = 100);
        seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460});
        seg_expect(&p, .flags = TCP_SYN | TCP_ACK, .ack = 1, .check = C_LEN | C_SEQ);
        seg_send(&p, (struct seg){.flags = TCP_SYN | TCP_ACK, .ack = 1 + taken[i]});
        cr_assert_str_eq(peer_state(&p), "ESTABLISHED");
        if (!taken[i])
            seg_expect(&p, .flags = TCP_ACK, .seq = 1, .len = 100);
        peer_write(&p, 10);
        seg_send(&p, (struct seg){.flags = TCP_ACK, .seq = 1, .ack = 101});
        seg_expect(&p, .flags = TCP_ACK, .seq = 101, .len = 10);
        peer_stop(&p);
    }
}

Test(fastopen_client, a_refusal_is_reported)
{
    struct peer p;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    peer_write(&p, 100);
    seg_expect(&p, .flags = TCP_SYN, .len = 100);
    seg_send(&p, (struct seg){.flags = TCP_RST | TCP_ACK, .ack = 101});
    cr_assert_eq(app_error(&p.h, p.slot), ECONNREFUSED);
    peer_stop(&p);
}

/* A whole request: send, shut down. The FIN waits for the handshake. */
Test(fastopen_client, shutdown_after_the_data_sends_fin_when_open)
{
    struct peer p;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    peer_write(&p, 100);
    cr_assert_eq(app_shutdown(&p.h, p.slot, SG_SHUT_WR), 0);
    seg_expect(&p, .flags = TCP_SYN, .len = 100);
    seg_none(&p);
    seg_send(&p, syn_ack(101, 0));
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 101, .ack = 1);
    peer_stop(&p);
}

Test(fastopen_client, shutdown_without_data_opens_and_closes)
{
    struct peer p;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    cr_assert_eq(app_shutdown(&p.h, p.slot, SG_SHUT_WR), 0);
    seg_expect(&p, .flags = TCP_SYN, .check = C_LEN);
    seg_send(&p, syn_ack(1, 0));
    seg_expect(&p, .flags = TCP_FIN | TCP_ACK, .seq = 1);
    peer_stop(&p);
}

Test(fastopen_client, close_before_any_data_says_nothing)
{
    struct peer p;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    connect_fast(&p);
    seg_send(&p, (struct seg){.flags = TCP_SYN, .mss = 1460}); /* refused: nothing was sent yet */
    seg_expect(&p, .flags = TCP_RST | TCP_ACK);
    app_close(&p.h, p.slot);
    seg_none(&p);
    cr_assert_str_eq(peer_state(&p), "");
    peer_stop(&p);
}

/* A jumbo MTU does not make the SYN larger than a frame's own memory. */
static void jumbo(struct engine_config *cfg)
{
    cfg->ifs[0].mtu = 9000;
    cfg->ifs[0].tx_frame_max = 9014;
}

Test(fastopen_client, the_syn_stays_within_a_frame)
{
    struct peer p;
    struct seg s;

    peer_start(&p, jumbo);
    learn(&p, 8, 8960);
    connect_fast(&p);
    peer_write(&p, 20000);
    s = seg_expect(&p, .flags = TCP_SYN);
    cr_assert(s.len > 1000 && s.len < 2048, "%u", s.len);
    peer_stop(&p);
}

/* Without the option nothing of it is on the wire. */
Test(fastopen_client, other_sockets_are_not_concerned)
{
    struct peer p;

    peer_start(&p, NULL);
    learn(&p, 8, 1460);
    p.slot = app_socket(&p.h, SG_SOCK_STREAM);
    cr_assert_eq(app_connect(&p.h, p.slot, 1, PEER_PORT), 0);
    cr_assert_not(seg_expect(&p, .flags = TCP_SYN).fo);
    peer_stop(&p);
}

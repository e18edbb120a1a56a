/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lwip/pair.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP_BYTES 4096u
#define FRAME_MAX  2048u

struct pair pair;
static struct netif lwip_if;

/* lwIP's clock, in place of the library's own. */
u32_t sys_now(void)
{
    return (u32_t)(pair.h.now_us / 1000);
}

/* The engine has functions of the same names as lwIP. They are not exported (meson.build), so lwIP finds its
 * own; the one that we call ourselves is asked for. */
static void lwip_output(struct tcp_pcb *pcb)
{
    static err_t (*output)(struct tcp_pcb *);

    if (!output)
        *(void **)(void *)&output = dlsym(RTLD_DEFAULT, "tcp_output");
    cr_assert(output);
    (void)output(pcb);
}

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 2654435761u >> 16);
}

/* ---- The link ------------------------------------------------------------------------------------ */

static uint64_t rnd(void)
{
    pair.rnd ^= pair.rnd << 13;
    pair.rnd ^= pair.rnd >> 7;
    pair.rnd ^= pair.rnd << 17;
    return pair.rnd;
}

static struct frame_in_flight *fly(bool to_engine, uint32_t len)
{
    struct frame_in_flight *f = malloc(sizeof(*f) + len);

    cr_assert(f);
    *f = (struct frame_in_flight){
        .at_us = pair.h.now_us + pair.link.delay_us, .to_engine = to_engine, .len = len};
    *pair.last = f;
    pair.last = &f->next;
    pair.carried++;
    return f;
}

static bool lost(void)
{
    bool l = rnd() % 1000 < pair.link.loss;

    pair.lost += l;
    return l;
}

static err_t from_lwip(struct netif *n, struct pbuf *p)
{
    (void)n;
    if (!lost())
        pbuf_copy_partial(p, fly(true, p->tot_len)->data, p->tot_len, 0);
    return ERR_OK;
}

static void from_engine(void)
{
    struct pktbuf *p;

    while ((p = host_tx(&pair.h)))
        if (!lost())
            memcpy(fly(false, p->len)->data, p->data, p->len);
}

static void to_lwip(const struct frame_in_flight *f)
{
    struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)f->len, PBUF_RAM);

    cr_assert(p);
    pbuf_take(p, f->data, (u16_t)f->len);
    if (lwip_if.input(p, &lwip_if) != ERR_OK)
        pbuf_free(p);
}

static void arrivals(void)
{
    while (pair.flying && pair.flying->at_us <= pair.h.now_us) {
        struct frame_in_flight *f = pair.flying;

        pair.flying = f->next;
        if (!pair.flying)
            pair.last = &pair.flying;
        if (f->to_engine)
            host_rx_bytes(&pair.h, f->data, f->len);
        else
            to_lwip(f);
        free(f);
        from_engine();
    }
}

/* ---- Time ---------------------------------------------------------------------------------------- */

static uint64_t next_event(uint64_t end)
{
    uint64_t next = engine_deadline(pair.h.e);
    u32_t ms = sys_timeouts_sleeptime();

    if (pair.flying && pair.flying->at_us < next)
        next = pair.flying->at_us;
    if (ms != SYS_TIMEOUTS_SLEEPTIME_INFINITE && (pair.h.now_us / 1000 + ms) * 1000 < next)
        next = (pair.h.now_us / 1000 + ms) * 1000;
    if (next <= pair.h.now_us)
        next = pair.h.now_us + 1;
    return next < end ? next : end;
}

bool pair_run(bool (*done)(void *ctx), void *ctx, uint64_t us)
{
    uint64_t end = pair.h.now_us + us;

    for (;;) {
        from_engine();
        arrivals();
        if (done && done(ctx))
            return true;
        cr_assert_null(pair.h.fault, "session fault: %s", pair.h.fault);
        from_engine();
        if (pair.h.now_us >= end)
            return false;
        pair.h.now_us = next_event(end);
        sys_check_timeouts();
        host_run(&pair.h);
    }
}

void pair_wait(uint64_t us)
{
    pair_run(NULL, NULL, us);
}

/* ---- Start and end ------------------------------------------------------------------------------- */

static err_t interface_init(struct netif *n)
{
    n->linkoutput = from_lwip;
    n->output = etharp_output;
    n->mtu = pair.link.lwip_mtu ? pair.link.lwip_mtu : PAIR_MTU;
    n->hwaddr_len = 6;
    memcpy(n->hwaddr, (uint8_t[]){2, 0, 0, 0, 0, LWIP_LAST}, 6);
    n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    n->name[0] = 's';
    n->name[1] = 'g';
    return ERR_OK;
}

void pair_start(const struct pair_link *link)
{
    struct engine_config cfg;
    ip4_addr_t addr, mask, none;

    pair.link = *link;
    pair.rnd = link->seed * 2654435761u + 88172645463325252u;
    pair.last = &pair.flying;
    srand((unsigned)link->seed + 1);
    host_config(&cfg, ENGINE_LAST);
    host_start(&pair.h, &cfg, 1000000);
    lwip_init();
    IP4_ADDR(&addr, 192, 0, 2, LWIP_LAST);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&none, 0, 0, 0, 0);
    cr_assert(netif_add(&lwip_if, &addr, &mask, &none, NULL, interface_init, ethernet_input));
    netif_set_default(&lwip_if);
    netif_set_up(&lwip_if);
}

void pair_stop(void)
{
    const char *bad = host_stop(&pair.h);

    cr_assert_null(bad, "%s", bad);
    while (pair.flying) {
        struct frame_in_flight *f = pair.flying;

        pair.flying = f->next;
        free(f);
    }
}

/* ---- lwIP's connections -------------------------------------------------------------------------- */

void peer_push(struct peer_conn *c)
{
    uint8_t buf[STEP_BYTES];

    while (c->pcb && c->connected && !c->fin_sent && c->sent < c->send_max) {
        uint64_t n = c->send_max - c->sent;

        if (n > sizeof(buf))
            n = sizeof(buf);
        if (n > tcp_sndbuf(c->pcb))
            n = tcp_sndbuf(c->pcb);
        for (uint64_t i = 0; i < n; i++)
            buf[i] = pattern(c->sent + i);
        if (!n || tcp_write(c->pcb, buf, (u16_t)n, TCP_WRITE_FLAG_COPY) != ERR_OK)
            break;
        c->sent += n;
    }
    if (c->pcb && c->connected)
        lwip_output(c->pcb);
    if (c->pcb && c->connected && c->fin_when_sent && !c->fin_sent && c->sent >= c->send_max &&
        (!c->echo || c->closed))
        c->fin_sent = tcp_shutdown(c->pcb, 0, 1) == ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    (void)pcb;
    (void)len;
    peer_push(arg);
    return ERR_OK;
}

static bool take_in(struct peer_conn *c, const struct pbuf *p)
{
    const uint8_t *b = p->payload;

    if (c->echo) {
        if (tcp_sndbuf(c->pcb) < p->tot_len || tcp_write(c->pcb, b, p->len, TCP_WRITE_FLAG_COPY) != ERR_OK)
            return false;
        c->sent += p->len;
        c->send_max = c->sent;
    }
    for (u16_t i = 0; i < p->len; i++)
        c->bad |= b[i] != pattern(c->got + i);
    c->got += p->len;
    return true;
}

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct peer_conn *c = arg;

    (void)err;
    if (!p) {
        c->closed = true;
        peer_push(c);
        return ERR_OK;
    }
    if (p->next) { /* one piece at a time, so that a refusal leaves all of it to lwIP */
        struct pbuf *flat = pbuf_clone(PBUF_RAW, PBUF_RAM, p);

        cr_assert(flat);
        if (!take_in(c, flat)) {
            pbuf_free(flat);
            return ERR_MEM;
        }
        pbuf_free(flat);
    } else if (!take_in(c, p)) {
        return ERR_MEM;
    }
    if (c->deaf)
        c->unread += p->tot_len;
    else
        tcp_recved(pcb, p->tot_len);
    pbuf_free(p);
    peer_push(c);
    return ERR_OK;
}

void peer_hear_again(struct peer_conn *c)
{
    c->deaf = false;
    while (c->unread) {
        u16_t n = c->unread > 0xffff ? 0xffff : (u16_t)c->unread;

        tcp_recved(c->pcb, n);
        c->unread -= n;
    }
}

static void on_error(void *arg, err_t err)
{
    struct peer_conn *c = arg;

    c->pcb = NULL;
    c->err = err;
}

static void adopt(struct peer_conn *c, struct tcp_pcb *pcb)
{
    c->pcb = pcb;
    tcp_arg(pcb, c);
    tcp_recv(pcb, on_recv);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_error);
    if (c->window)
        pcb->rcv_wnd = pcb->rcv_ann_wnd = c->window;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct peer_conn *c = arg;

    (void)pcb;
    (void)err;
    c->connected = true;
    peer_push(c);
    return ERR_OK;
}

void peer_connect(struct peer_conn *c)
{
    struct tcp_pcb *pcb = tcp_new();
    ip_addr_t to;

    cr_assert(pcb);
    adopt(c, pcb);
    IP_ADDR4(&to, 192, 0, 2, ENGINE_LAST);
    cr_assert_eq(tcp_connect(pcb, &to, PORT, on_connected), ERR_OK);
}

struct acceptor {
    struct peer_conn *conns;
    unsigned count, used;
};

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct acceptor *a = arg;
    struct peer_conn *c;

    if (err != ERR_OK || a->used == a->count)
        return ERR_MEM;
    c = &a->conns[a->used++];
    adopt(c, pcb);
    c->connected = true;
    peer_push(c);
    return ERR_OK;
}

struct tcp_pcb *peer_listen(struct peer_conn *conns, unsigned count)
{
    static struct acceptor a;
    struct tcp_pcb *pcb = tcp_new();

    cr_assert(pcb);
    a = (struct acceptor){.conns = conns, .count = count};
    cr_assert_eq(tcp_bind(pcb, IP_ADDR_ANY, PORT), ERR_OK);
    pcb = tcp_listen_with_backlog(pcb, 255);
    cr_assert(pcb);
    tcp_arg(pcb, &a);
    tcp_accept(pcb, on_accept);
    return pcb;
}

/* ---- The engine's connections -------------------------------------------------------------------- */

uint32_t app_server(uint32_t backlog)
{
    uint32_t slot = app_socket(&pair.h, SG_SOCK_STREAM);

    cr_assert_eq(app_bind(&pair.h, slot, PORT), 0);
    cr_assert_eq(app_listen(&pair.h, slot, backlog), 0);
    return slot;
}

static void app_read(struct app_conn *c)
{
    uint8_t buf[STEP_BYTES];
    int64_t n;

    while (!c->deaf && !c->eof && (!c->echo || !c->held_bytes)) {
        n = app_recv(&pair.h, c->slot, buf, sizeof(buf));
        if (n == 0)
            c->eof = true;
        if (n < 0 && n != -EAGAIN)
            c->error = (int)-n;
        if (n <= 0)
            return;
        for (int64_t i = 0; i < n; i++)
            c->bad |= buf[i] != pattern(c->got + (uint64_t)i);
        c->got += (uint64_t)n;
        if (c->echo) {
            memcpy(c->held, buf, (size_t)n);
            c->held_bytes = (uint32_t)n;
            n = app_send(&pair.h, c->slot, c->held, c->held_bytes);
            if (n > 0) {
                memmove(c->held, c->held + n, c->held_bytes - (size_t)n);
                c->held_bytes -= (uint32_t)n;
                c->sent += (uint64_t)n;
            }
        }
    }
}

static void app_write(struct app_conn *c)
{
    uint8_t buf[STEP_BYTES];
    int64_t n;

    if (c->held_bytes) {
        n = app_send(&pair.h, c->slot, c->held, c->held_bytes);
        if (n > 0) {
            memmove(c->held, c->held + n, c->held_bytes - (size_t)n);
            c->held_bytes -= (uint32_t)n;
            c->sent += (uint64_t)n;
        }
    }
    while (c->sent < c->send_max) {
        uint64_t want = c->send_max - c->sent < sizeof(buf) ? c->send_max - c->sent : sizeof(buf);

        for (uint64_t i = 0; i < want; i++)
            buf[i] = pattern(c->sent + i);
        n = app_send(&pair.h, c->slot, buf, want);
        if (n <= 0)
            return;
        c->sent += (uint64_t)n;
    }
}

void app_push(struct app_conn *c)
{
    if (!app_connected(&pair.h, c->slot)) {
        c->error = app_error(&pair.h, c->slot);
        if (!c->error)
            app_read(c);
        return;
    }
    if (!pair.h.slots[c->slot].d.tx_region)
        (void)engine_grant(pair.h.e, pair.h.sid, c->slot);
    app_read(c);
    app_write(c);
    app_read(c);
    if (c->fin_when_sent && !c->fin_sent && c->sent >= c->send_max &&
        (!c->echo || (c->eof && !c->held_bytes)))
        c->fin_sent = app_shutdown(&pair.h, c->slot, SG_SHUT_WR) == 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of ours on IPv6, for the end-to-end tests. Prints "ready" once it can be spoken to.
 *
 *     ipv6_peer tcp-echo PORT             takes one connection and sends back what it gets
 *     ipv6_peer tcp-client ADDRESS PORT   sends standard input, then writes what comes back
 *     ipv6_peer tcp-linger ADDRESS PORT BYTES SECONDS   closes with SO_LINGER, says how long it took
 *     ipv6_peer tcp-fast ADDRESS PORT COUNT   so many connections by MSG_FASTOPEN; prints what comes back
 *     ipv6_peer udp-echo PORT COUNT       sends that many datagrams back
 *     ipv6_peer info-echo PORT COUNT      the same, from where they were sent to; says what it was told
 *     ipv6_peer ping ADDRESS COUNT        echo requests through a raw socket
 *     ipv6_peer group-echo GROUP PORT COUNT   the same to the group, for datagrams that come to it
 */
#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sockclient.h"

#define PIECE_BYTES 65536

static void must(const char *what, long result)
{
    if (result >= 0)
        return;
    fprintf(stderr, "ipv6_peer: %s: %s\n", what, sc_strerror((int)result));
    exit(1);
}

static sc_addr address(const char *text, const char *port)
{
    sc_addr a = {.family = SC_ADDR_INET6, .len = 16, .port = (uint16_t)atoi(port)};

    must("address", inet_pton(AF_INET6, text, a.ip) == 1 ? 0 : -1);
    return a;
}

static sc_sock *open_socket(sc_lib *lib, int type)
{
    sc_sock *s = NULL;

    must("socket", sc_socket(lib, SC_INET6, type, 0, &s));
    return s;
}

static void name(const char *what, const sc_addr *a)
{
    char text[SC_ADDR_TEXT_BYTES];

    printf("%s %s %u\n", what, sc_addr_text(a, text), a->port);
    fflush(stdout);
}

static void tcp_echo(sc_lib *lib, const char *port)
{
    static uint8_t buf[PIECE_BYTES];
    sc_addr any = address("::", port), peer;
    sc_sock *s = open_socket(lib, SC_STREAM), *conn;
    ssize_t n;

    must("bind", sc_bind(s, &any));
    must("listen", sc_listen(s, 1));
    puts("ready");
    fflush(stdout);
    must("accept", sc_accept(s, &conn, &peer));
    name("peer", &peer);
    while ((n = sc_recv(conn, buf, sizeof(buf), 0)) > 0)
        must("send", sc_sendall(conn, buf, (size_t)n, 0, NULL));
    must("recv", n);
    sc_release(conn);
    sc_release(s);
}

static void tcp_client(sc_lib *lib, const char *host, const char *port)
{
    static uint8_t buf[PIECE_BYTES];
    sc_addr to = address(host, port);
    sc_sock *s = open_socket(lib, SC_STREAM);
    size_t in;
    ssize_t n;

    must("connect", sc_connect(s, &to));
    while ((in = fread(buf, 1, sizeof(buf), stdin)) > 0)
        must("send", sc_sendall(s, buf, in, 0, NULL));
    must("shutdown", sc_shutdown(s, SC_SHUT_WR));
    while ((n = sc_recv(s, buf, sizeof(buf), 0)) > 0)
        (void)fwrite(buf, 1, (size_t)n, stdout);
    must("recv", n);
    sc_release(s);
}

static void tcp_linger(sc_lib *lib, const char *host, const char *port, int bytes, int seconds)
{
    static uint8_t buf[PIECE_BYTES];
    const struct sc_linger v = {.onoff = 1, .linger = seconds};
    sc_addr to = address(host, port);
    sc_sock *s = open_socket(lib, SC_STREAM);
    struct timespec before, after;

    must("connect", sc_connect(s, &to));
    must("linger", sc_setsockopt(s, SC_SOL_SOCKET, SC_SO_LINGER, &v, sizeof(v)));
    for (; bytes > 0; bytes -= PIECE_BYTES)
        must("send", sc_sendall(s, buf, (size_t)(bytes < PIECE_BYTES ? bytes : PIECE_BYTES), 0, NULL));
    (void)clock_gettime(CLOCK_MONOTONIC, &before);
    must("close", sc_close(s));
    (void)clock_gettime(CLOCK_MONOTONIC, &after);
    printf("closed after %ld ms\n",
           (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000);
    sc_release(s);
}

static void tcp_fast(sc_lib *lib, const char *host, const char *port, int count)
{
    sc_addr to = address(host, port);
    char buf[16];

    while (count-- > 0) {
        sc_sock *s = open_socket(lib, SC_STREAM);
        ssize_t n;

        must("sendto", sc_sendto(s, "fast", 4, SC_MSG_FASTOPEN, &to));
        n = sc_recv(s, buf, sizeof(buf), 0);
        must("recv", n);
        printf("%.*s\n", (int)n, buf);
        fflush(stdout);
        sc_release(s);
    }
}

static void udp_echo(sc_lib *lib, const char *port, int count)
{
    static uint8_t buf[PIECE_BYTES];
    sc_addr any = address("::", port), from;
    sc_sock *s = open_socket(lib, SC_DGRAM);

    must("bind", sc_bind(s, &any));
    puts("ready");
    fflush(stdout);
    while (count-- > 0) {
        ssize_t n = sc_recvfrom(s, buf, sizeof(buf), 0, &from);

        must("recvfrom", n);
        name("from", &from);
        must("sendto", sc_sendto(s, buf, (size_t)n, 0, &from));
    }
    sc_release(s);
}

static void info_echo(sc_lib *lib, const char *port, int count)
{
    static uint8_t buf[PIECE_BYTES];
    sc_addr any = address("::", port), from;
    sc_sock *s = open_socket(lib, SC_DGRAM);
    sc_msg_info info;
    int on = 1;

    must("bind", sc_bind(s, &any));
    must("pktinfo", sc_setsockopt(s, SC_SOL_IPV6, SC_IPV6_RECVPKTINFO, &on, sizeof(on)));
    puts("ready");
    fflush(stdout);
    while (count-- > 0) {
        ssize_t n = sc_recvmsg(s, buf, sizeof(buf), 0, &from, &info);

        must("recvmsg", n);
        name("to", &info.local);
        printf("interface %u ttl %d tos %d\n", info.ifnum, info.ttl, info.tos);
        fflush(stdout);
        info.ttl = 33;
        must("sendmsg", sc_sendmsg(s, buf, (size_t)n, 0, &from, &info));
    }
    sc_release(s);
}

static void ping(sc_lib *lib, const char *host, int count)
{
    uint8_t request[16] = {128, [4] = 7, 7}, reply[64];
    struct icmp6_filter filter;
    sc_addr to = address(host, "0"), from;
    sc_msg_info info;
    sc_sock *s = NULL;
    int on = 1;

    must("socket", sc_socket(lib, SC_INET6, SC_RAW, 58, &s));
    ICMP6_FILTER_SETBLOCKALL(&filter);
    ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
    must("filter", sc_setsockopt(s, SC_SOL_ICMPV6, SC_ICMP6_FILTER, &filter, sizeof(filter)));
    must("hops", sc_setsockopt(s, SC_SOL_IPV6, SC_IPV6_RECVHOPLIMIT, &on, sizeof(on)));
    must("time-out", sc_settimeout_ms(s, 10000));
    for (int i = 0; i < count; i++) {
        request[7] = (uint8_t)i;
        must("sendto", sc_sendto(s, request, sizeof(request), 0, &to));
        must("recvmsg", sc_recvmsg(s, reply, sizeof(reply), 0, &from, &info));
        printf("type %u sequence %u bytes %zu hops %d\n", reply[0], reply[7], info.bytes, info.ttl);
        name("from", &from);
    }
    sc_release(s);
}

static void group_echo(sc_lib *lib, const char *group, const char *port, int count)
{
    static uint8_t buf[PIECE_BYTES];
    sc_addr any = address("::", port), to = address(group, port), from;
    sc_sock *s = open_socket(lib, SC_DGRAM);
    struct sc_ipv6_mreq r = {.interface = 0};
    int off = 0;

    memcpy(r.group, to.ip, sizeof(r.group));
    must("bind", sc_bind(s, &any));
    must("join", sc_setsockopt(s, SC_SOL_IPV6, SC_IPV6_JOIN_GROUP, &r, sizeof(r)));
    must("loop", sc_setsockopt(s, SC_SOL_IPV6, SC_IPV6_MULTICAST_LOOP, &off, sizeof(off)));
    puts("ready");
    fflush(stdout);
    while (count-- > 0) {
        ssize_t n = sc_recvfrom(s, buf, sizeof(buf), 0, &from);

        must("recvfrom", n);
        must("sendto", sc_sendto(s, buf, (size_t)n, 0, &to));
    }
    sc_release(s);
}

int main(int argc, char **argv)
{
    sc_lib *lib = NULL;

    must("attach", sc_lib_open(NULL, "posix", &lib));
    if (argc == 3 && !strcmp(argv[1], "tcp-echo"))
        tcp_echo(lib, argv[2]);
    else if (argc == 4 && !strcmp(argv[1], "tcp-client"))
        tcp_client(lib, argv[2], argv[3]);
    else if (argc == 6 && !strcmp(argv[1], "tcp-linger"))
        tcp_linger(lib, argv[2], argv[3], atoi(argv[4]), atoi(argv[5]));
    else if (argc == 5 && !strcmp(argv[1], "tcp-fast"))
        tcp_fast(lib, argv[2], argv[3], atoi(argv[4]));
    else if (argc == 4 && !strcmp(argv[1], "udp-echo"))
        udp_echo(lib, argv[2], atoi(argv[3]));
    else if (argc == 4 && !strcmp(argv[1], "info-echo"))
        info_echo(lib, argv[2], atoi(argv[3]));
    else if (argc == 4 && !strcmp(argv[1], "ping"))
        ping(lib, argv[2], atoi(argv[3]));
    else if (argc == 5 && !strcmp(argv[1], "group-echo"))
        group_echo(lib, argv[2], argv[3], atoi(argv[4]));
    else
        must("arguments", -1);
    sc_lib_close(lib);
    return fflush(stdout) != 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snippets of the usocket reference page, in its order: resolving, options and time-outs, connecting,
 * serving.
 *
 *     usocket_snippets [NAME [ADDRESS [PORT [LOCAL_PORT]]]]
 *                      default www.micropython.org 192.168.3.147 100 10000
 *
 * Names are looked up in /etc/hosts. A failed look-up shows a negative number, as on the device: resolver
 * errors are a number space of their own.
 */
#include "examples/example.h"

/** [(family, type, proto, canonname, sockaddr), ...] */
static void print_getaddrinfo(sc_lib *lib, const sc_profile *profile, const char *host, int port)
{
    struct sc_gai found[4];
    int n = sc_getaddrinfo(lib, host, port, 0, 0, 0, 0, found, 4);

    printf("getaddrinfo('%s', %d): ", host, port);
    if (n < 0) {
        printf("OSError: [Errno %d]\n", sc_gai_number(profile, n));
        return;
    }
    putchar('[');
    for (int i = 0; i < n; i++) {
        printf("%s(%d, %d, %d, '%s', ", i ? ", " : "", found[i].family, found[i].type, found[i].proto,
               found[i].canonname);
        print_address(&found[i].addr);
        putchar(')');
    }
    printf("]\n");
}

static void print_received(const sc_profile *profile, sc_sock *conn)
{
    unsigned char data[1024];
    ssize_t n = sc_recv(conn, data, sizeof(data), 0);

    must(profile, "recv", n);
    printf("recv(1024): ");
    print_bytes(data, (size_t)n);
    putchar('\n');
}

/** s = socket(); s.settimeout(2); s.connect(getaddrinfo(host, port)[0][-1]) */
static void snippet_client(sc_lib *lib, const sc_profile *profile, const char *host, int port)
{
    sc_sock *s = tcp_socket(lib, profile);
    struct sc_gai found[1];
    int n;

    printf("socket(): <socket>\n");
    must(profile, "settimeout", sc_settimeout(s, 2)); /* seconds in this profile */
    n = sc_getaddrinfo(lib, host, port, 0, 0, 0, 0, found, 1);
    must(profile, "getaddrinfo", n);
    must(profile, "connect", sc_connect(s, &found[0].addr));
    printf("connected to ");
    print_address(&found[0].addr);
    putchar('\n');
    print_received(profile, s);
    sc_release(s);
}

/** s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1); s.bind(("0.0.0.0", 10000)); s.listen(); conn, addr = s.accept()
 */
static void snippet_server(sc_lib *lib, const sc_profile *profile, long port)
{
    sc_sock *s = tcp_socket(lib, profile), *conn;
    sc_addr local, peer;

    set_reuseaddr(s, profile, 1);
    must(profile, "address", sc_addr_host_port(profile, "0.0.0.0", port, &local));
    must(profile, "bind", sc_bind(s, &local));
    must(profile, "listen", sc_listen(s, SC_BACKLOG_DEFAULT));
    printf("bound to ");
    print_address(&local);
    putchar('\n');
    must(profile, "accept", sc_accept(s, &conn, &peer));
    printf("connection from ");
    print_address(&peer);
    putchar('\n');
    print_received(profile, conn);
    sc_release(conn);
    sc_release(s);
}

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("usocket", &profile);
    const char *name = argc > 1 ? argv[1] : "www.micropython.org";
    const char *host = argc > 2 ? argv[2] : "192.168.3.147";
    int port = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 100;
    long local_port = argc > 4 ? strtol(argv[4], NULL, 10) : 10000;

    print_getaddrinfo(lib, profile, name, 80);
    print_getaddrinfo(lib, profile, "127.0.0.1", 80);
    snippet_client(lib, profile, host, port);
    snippet_server(lib, profile, local_port);
    sc_lib_close(lib);
    return 0;
}

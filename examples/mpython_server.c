/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mPython's TCP server: serves one client after the other, shows each message as text and sends it back.
 *
 *     mpython_server [ADDRESS [PORT]]             default: the own address, 5001
 */
#include "examples/example.h"

/** Serves one client until it closes its end. */
static void serve(const sc_profile *profile, sc_sock *conn)
{
    unsigned char data[1024];
    ssize_t n;

    for (;;) {
        n = sc_recv(conn, data, sizeof(data), 0);
        must(profile, "recv", n);
        if (n == 0)
            break;
        printf("%.*s\n", (int)n, (const char *)data);
        must(profile, "send", sc_send(conn, data, (size_t)n, 0));
    }
    printf("close socket\n");
    sc_release(conn); /* closes it, and frees the handle */
}

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("mpython", &profile);
    sc_sock *listener = tcp_socket(lib, profile);
    sc_addr local, peer;
    sc_sock *conn;

    must(profile, "own address", sc_lib_address(lib, &local));
    local.port = 5001;
    if (argc > 1)
        local = address_argument(profile, argc, argv, 1, "0.0.0.0", 5001);
    set_reuseaddr(listener, profile, 1);
    must(profile, "bind", sc_bind(listener, &local));
    must(profile, "listen", sc_listen(listener, 3));
    printf("tcp waiting...\n");
    for (;;) {
        printf("accepting.....\n");
        must(profile, "accept", sc_accept(listener, &conn, &peer));
        print_address(&peer);
        printf(" connected\n");
        serve(profile, conn);
    }
}

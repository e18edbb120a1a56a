/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenMV's echo server: one client at a time; what it sends comes back until it closes.
 *
 *     openmv_echo_server [ADDRESS [PORT]]         default 0.0.0.0 9000
 */
#include "examples/example.h"

/** Echoes until the client is done, or gone. */
static void echo(sc_sock *conn)
{
    unsigned char data[1024];
    ssize_t n = sc_recv(conn, data, sizeof(data), 0);

    while (n > 0) {
        n = sc_sendall(conn, data, (size_t)n, 0, NULL);
        if (n == 0)
            n = sc_recv(conn, data, sizeof(data), 0);
    }
    if (n < 0)
        fprintf(stderr, "connection lost: %s\n", sc_strerror((int)n));
}

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("openmv", &profile);
    sc_addr local = address_argument(profile, argc, argv, 1, "0.0.0.0", 9000);
    sc_sock *server = tcp_socket(lib, profile);

    set_reuseaddr(server, profile, 1); /* so that it starts again while its last port is in TIME_WAIT */
    must(profile, "bind", sc_bind(server, &local));
    must(profile, "listen", sc_listen(server, 1));
    printf("listening on port %u\n", local.port);
    for (;;) {
        sc_sock *conn;
        sc_addr peer;

        must(profile, "accept", sc_accept(server, &conn, &peer));
        printf("connection from ");
        print_address(&peer);
        putchar('\n');
        echo(conn);
        sc_release(conn); /* each accepted socket needs its own close; this frees its handle too */
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UiFlow2's TCP echo server: one client, whose bytes are shown and sent back.
 *
 *     uiflow2_echo_server [ADDRESS [PORT]]        default 0.0.0.0 8001
 *
 * The device's program has no test for the end of file. It needs none: send() of nothing raises an error
 * there, which ends the program through its exception handler, and this profile does the same.
 */
#include "examples/example.h"

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("uiflow2", &profile);
    sc_addr local = address_argument(profile, argc, argv, 1, "0.0.0.0", 8001);
    sc_addr own, peer;
    sc_sock *server, *conn;
    unsigned char data[1024];
    ssize_t n, sent;

    server = tcp_socket(lib, profile);
    set_reuseaddr(server, profile, 1);
    must(profile, "bind", sc_bind(server, &local));
    must(profile, "listen", sc_listen(server, 5));
    set_reuseaddr(server, profile, 1); /* the device's program sets it again here */

    must(profile, "own address", sc_lib_address(lib, &own));
    printf("%u.%u.%u.%u\n%u\n", own.ip[0], own.ip[1], own.ip[2], own.ip[3], local.port);

    must(profile, "accept", sc_accept(server, &conn, &peer));
    printf("%u.%u.%u.%u\n%u\n", peer.ip[0], peer.ip[1], peer.ip[2], peer.ip[3], peer.port);
    do {
        n = sc_recv(conn, data, sizeof(data), 0);
        must(profile, "recv", n);
        print_bytes(data, (size_t)n);
        putchar('\n');
        sent = sc_send(conn, data, (size_t)n, 0);
    } while (sent >= 0);

    printf("OSError: [Errno %d] %s\n", sc_error_number(profile, (int)sent), sc_strerror((int)sent));
    sc_close(conn);
    sc_close(server);
    sc_lib_close(lib);
    return 0;
}

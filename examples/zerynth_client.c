/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zerynth's TCP client: sends twelve bytes and ends. It closes nothing: the socket goes with the program,
 * and the server still gets every byte and then the end of file.
 *
 *     zerynth_client [ADDRESS [PORT]]             default 192.168.1.10 5555
 */
#include "examples/example.h"

static sc_lib *lib;
static sc_sock *sock;

int main(int argc, char **argv)
{
    static const char hello[] = "Hello World!";
    const sc_profile *profile;
    sc_addr server;

    lib = attach("zerynth", &profile);
    server = address_argument(profile, argc, argv, 1, "192.168.1.10", 5555);
    sock = tcp_socket(lib, profile);
    must(profile, "connect", sc_connect(sock, &server));
    must(profile, "sendall", sc_sendall(sock, hello, strlen(hello), 0, NULL));
    return 0;
}

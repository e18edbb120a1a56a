/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mPython's TCP client: greets the server, then shows whatever comes and sends it back, until the server
 * closes.
 *
 *     mpython_client [ADDRESS [PORT]]             default 172.25.1.63 5001
 */
#include "examples/example.h"

static const char greeting[] = "hello MicroPython, I am TCP Client";

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("mpython", &profile);
    sc_addr server = address_argument(profile, argc, argv, 1, "172.25.1.63", 5001);
    sc_sock *s = tcp_socket(lib, profile);
    unsigned char data[1024];
    ssize_t n;

    set_reuseaddr(s, profile, 1); /* the tutorial sets it on the client too; it does no harm */
    must(profile, "connect", sc_connect(s, &server));
    must(profile, "send", sc_send(s, greeting, strlen(greeting), 0));
    for (;;) {
        n = sc_recv(s, data, sizeof(data), 0);
        must(profile, "recv", n);
        if (n == 0)
            break;
        print_bytes(data, (size_t)n);
        putchar('\n');
        must(profile, "send", sc_send(s, data, (size_t)n, 0));
    }
    printf("close socket\n");
    sc_close(s);
    sc_lib_close(lib);
    return 0;
}

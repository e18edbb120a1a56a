/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenMV's simplest client: connect, send a line, read the reply, close.
 *
 *     openmv_client [ADDRESS [PORT]]              default 192.168.1.20 9000
 */
#include "examples/example.h"

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("openmv", &profile);
    sc_addr server = address_argument(profile, argc, argv, 1, "192.168.1.20", 9000);
    sc_sock *s = tcp_socket(lib, profile);
    unsigned char reply[1024];
    ssize_t n;

    must(profile, "connect", sc_connect(s, &server));
    must(profile, "send", sc_send(s, "hello\n", 6, 0));
    n = sc_recv(s, reply, sizeof(reply), 0); /* up to that many: it may be fewer */
    must(profile, "recv", n);
    printf("reply: ");
    print_bytes(reply, (size_t)n);
    putchar('\n');
    sc_close(s);
    sc_lib_close(lib);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenMV's "reading until done": one recv() gives what is there, so a reply is read until the other side
 * closes. Writes the reply to standard output and its length to standard error.
 *
 *     openmv_read_to_end [ADDRESS [PORT]]         default 192.168.1.20 9000
 */
#include "examples/example.h"

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("openmv", &profile);
    sc_addr server = address_argument(profile, argc, argv, 1, "192.168.1.20", 9000);
    sc_sock *s = tcp_socket(lib, profile);
    unsigned char chunk[1024];
    size_t total = 0;
    ssize_t n;

    must(profile, "connect", sc_connect(s, &server));
    for (;;) {
        n = sc_recv(s, chunk, sizeof(chunk), 0);
        must(profile, "recv", n);
        if (n == 0) /* the other side closed */
            break;
        fwrite(chunk, 1, (size_t)n, stdout);
        total += (size_t)n;
    }
    fprintf(stderr, "%zu bytes\n", total);
    sc_close(s);
    sc_lib_close(lib);
    return 0;
}

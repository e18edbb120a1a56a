/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A half-closed connection: sends standard input, says with shutdown() that this was all, and writes the
 * answer, which may be given only then, to standard output.
 *
 *     posix_half_close [ADDRESS [PORT]]           default 192.168.1.20 9000
 */
#include "examples/example.h"

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("posix", &profile);
    sc_addr server = address_argument(profile, argc, argv, 1, "192.168.1.20", 9000);
    sc_sock *s = tcp_socket(lib, profile);
    unsigned char data[4096];
    size_t n;
    ssize_t got;

    must(profile, "connect", sc_connect(s, &server));
    while ((n = fread(data, 1, sizeof(data), stdin)) > 0)
        must(profile, "sendall", sc_sendall(s, data, n, 0, NULL));
    must(profile, "shutdown", sc_shutdown(s, SC_SHUT_WR));
    while ((got = sc_recv(s, data, sizeof(data), 0)) > 0)
        fwrite(data, 1, (size_t)got, stdout);
    must(profile, "recv", got);
    sc_close(s);
    sc_lib_close(lib);
    return 0;
}

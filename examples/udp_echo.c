/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends each datagram back to where it came from.
 *
 *     udp_echo [ADDRESS [PORT]]                   default 0.0.0.0 7
 */
#include "examples/example.h"

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("posix", &profile);
    sc_addr local = address_argument(profile, argc, argv, 1, "0.0.0.0", 7);
    static unsigned char data[65536]; /* a datagram that does not fit is cut */
    sc_sock *s;

    must(profile, "socket",
         sc_socket(lib, sc_const(profile, "AF_INET", 0), sc_const(profile, "SOCK_DGRAM", 0), 0, &s));
    must(profile, "bind", sc_bind(s, &local));
    for (;;) {
        sc_addr peer;
        ssize_t n = sc_recvfrom(s, data, sizeof(data), 0, &peer);

        must(profile, "recvfrom", n);
        n = sc_sendto(s, data, (size_t)n, 0, &peer);
        if (n < 0) /* that sender can't be reached; the others can */
            fprintf(stderr, "sendto: %s\n", sc_strerror((int)n));
    }
}

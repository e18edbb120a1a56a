/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenMV's "sending until done": send() may take fewer bytes than it was given, so the rest is sent again.
 * Sends `BYTES` bytes, once with that loop and once with sendall(), which loops by itself.
 *
 *     openmv_send_loop [ADDRESS [PORT [BYTES]]]   default 192.168.1.20 9000 100000
 */
#include "examples/example.h"

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("openmv", &profile);
    sc_addr server = address_argument(profile, argc, argv, 1, "192.168.1.20", 9000);
    size_t size = argc > 3 ? strtoul(argv[3], NULL, 10) : 100000;
    sc_sock *s = tcp_socket(lib, profile);
    unsigned char *payload = malloc(size);
    size_t done = 0;
    ssize_t n;

    if (!payload)
        return 1;
    for (size_t i = 0; i < size; i++)
        payload[i] = (unsigned char)(i % 251);
    must(profile, "connect", sc_connect(s, &server));
    while (done < size) {
        n = sc_send(s, payload + done, size - done, 0);
        must(profile, "send", n);
        done += (size_t)n;
    }
    must(profile, "sendall", sc_sendall(s, payload, size, 0, NULL));
    printf("sent %zu bytes, then %zu with sendall\n", done, size);
    free(payload);
    sc_close(s);
    sc_lib_close(lib);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UiFlow2's TCP client: once a second it sends a counter as text and shows what comes back.
 *
 *     uiflow2_client [ADDRESS [PORT [COUNT]]]     default 192.168.8.236 8001, until the server is gone
 */
#include <time.h>

#include "examples/example.h"

static void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("uiflow2", &profile);
    sc_addr server = address_argument(profile, argc, argv, 1, "192.168.8.236", 8001);
    long count = argc > 3 ? strtol(argv[3], NULL, 10) : -1;
    sc_sock *s = tcp_socket(lib, profile);
    unsigned char data[1024];
    char text[24];
    ssize_t n;

    must(profile, "connect", sc_connect(s, &server));
    for (long i = 0; i != count; i++) {
        if (i > 0)
            sleep_ms(900);
        snprintf(text, sizeof(text), "%ld", i);
        must(profile, "send", sc_send(s, text, strlen(text), 0));
        sleep_ms(100);
        n = sc_recv(s, data, sizeof(data), 0);
        must(profile, "recv", n);
        print_bytes(data, (size_t)n);
        putchar('\n');
    }
    sc_close(s);
    sc_lib_close(lib);
    return 0;
}

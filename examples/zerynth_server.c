/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zerynth's TCP server: greets each client with six bytes and closes.
 *
 *     zerynth_server [PORT]                       default 80
 *
 * A bare port is one of the address forms of that device. SO_REUSEADDR is not set, so starting it again
 * within a minute of its last client fails with "address in use", as it does there.
 */
#include "examples/example.h"

int main(int argc, char **argv)
{
    static const char hello[] = "Hello!";
    const sc_profile *profile;
    sc_lib *lib = attach("zerynth", &profile);
    sc_sock *s = tcp_socket(lib, profile);

    must(profile, "bind", sc_bind_port(s, argc > 1 ? strtol(argv[1], NULL, 10) : 80));
    must(profile, "listen", sc_listen(s, SC_BACKLOG_DEFAULT));
    for (;;) {
        sc_sock *client;
        sc_addr addr;
        int rc;

        must(profile, "accept", sc_accept(s, &client, &addr));
        rc = sc_sendall(client, hello, strlen(hello), 0, NULL);
        if (rc < 0) /* that client is gone; the next one is not */
            fprintf(stderr, "sendall: %s\n", sc_strerror(rc));
        sc_release(client); /* closes it, and frees the handle */
    }
}

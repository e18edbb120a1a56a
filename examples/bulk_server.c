/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves one client: sends it standard input, or writes what it sends to standard output.
 *
 *     bulk_server --send|--receive [ADDRESS [PORT]]       default 0.0.0.0 5201
 *
 *     bulk_server --receive | sha256sum
 */
#include "examples/bulk.h"

int main(int argc, char **argv)
{
    bool send = bulk_sends(argc, argv, "bulk_server --send|--receive [ADDRESS [PORT]]");
    const sc_profile *profile;
    sc_lib *lib = attach("posix", &profile);
    sc_addr local = address_argument(profile, argc, argv, 2, "0.0.0.0", 5201);
    sc_sock *listener = tcp_socket(lib, profile), *conn;
    sc_addr peer;

    if (!send)
        setvbuf(stdout, NULL, _IOFBF, BULK_PIECE_BYTES);
    set_reuseaddr(listener, profile, 1);
    must(profile, "bind", sc_bind(listener, &local));
    must(profile, "listen", sc_listen(listener, 1));
    must(profile, "accept", sc_accept(listener, &conn, &peer));
    sc_close(listener);
    if (send)
        bulk_send(conn, profile);
    else
        bulk_receive(conn, profile);
    sc_close(conn);
    sc_lib_close(lib);
    return 0;
}

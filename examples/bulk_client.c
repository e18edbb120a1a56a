/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects, then sends standard input, or writes what it gets to standard output.
 *
 *     bulk_client --send|--receive [ADDRESS [PORT]]       default 192.168.1.20 5201
 *
 *     bulk_client --send 10.77.0.1 5201 < file
 */
#include "examples/bulk.h"

int main(int argc, char **argv)
{
    bool send = bulk_sends(argc, argv, "bulk_client --send|--receive [ADDRESS [PORT]]");
    const sc_profile *profile;
    sc_lib *lib = attach("posix", &profile);
    sc_addr server = address_argument(profile, argc, argv, 2, "192.168.1.20", 5201);
    sc_sock *conn = tcp_socket(lib, profile);

    if (!send)
        setvbuf(stdout, NULL, _IOFBF, BULK_PIECE_BYTES);
    must(profile, "connect", sc_connect(conn, &server));
    if (send)
        bulk_send(conn, profile);
    else
        bulk_receive(conn, profile);
    sc_close(conn);
    sc_lib_close(lib);
    return 0;
}

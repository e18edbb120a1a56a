/* SPDX-License-Identifier: Apache-2.0 */
/* What bulk_server and bulk_client share: bytes between a connection and standard input or output. */
#ifndef EXAMPLES_BULK_H
#define EXAMPLES_BULK_H

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "examples/example.h"

#define BULK_PIECE_BYTES (256u * 1024u)

static inline double bulk_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline void bulk_report(const char *what, unsigned long long bytes, double start)
{
    double seconds = bulk_seconds() - start;

    fprintf(stderr, "%s %llu bytes in %.2f s, %.0f MB/s\n", what, bytes, seconds,
            seconds > 0 ? (double)bytes / seconds / 1e6 : 0.0);
}

/** Standard input to the connection, then the end of file; returns when the peer has closed too. */
static inline void bulk_send(sc_sock *conn, const sc_profile *profile)
{
    static unsigned char piece[BULK_PIECE_BYTES];
    unsigned long long total = 0;
    double start = bulk_seconds();
    ssize_t n;

    while ((n = read(STDIN_FILENO, piece, sizeof(piece))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            perror("standard input");
            exit(1);
        }
        must(profile, "sendall", sc_sendall(conn, piece, (size_t)n, 0, NULL));
        total += (unsigned long long)n;
    }
    must(profile, "shutdown", sc_shutdown(conn, SC_SHUT_WR));
    n = sc_recv_some(conn, piece, sizeof(piece), 0); /* all has arrived when the peer closes */
    must(profile, "recv", n);
    bulk_report("sent", total, start);
}

/** The connection, up to its end of file, to standard output. */
static inline void bulk_receive(sc_sock *conn, const sc_profile *profile)
{
    static unsigned char piece[BULK_PIECE_BYTES];
    unsigned long long total = 0;
    double start = bulk_seconds();
    ssize_t n;

    for (;;) {
        n = sc_recv_some(conn, piece, sizeof(piece), 0);
        must(profile, "recv", n);
        if (n == 0)
            break;
        if (fwrite(piece, 1, (size_t)n, stdout) != (size_t)n) {
            perror("standard output");
            exit(1);
        }
        total += (unsigned long long)n;
    }
    if (fflush(stdout) != 0) {
        perror("standard output");
        exit(1);
    }
    bulk_report("received", total, start);
}

/** argv[1] says the direction; true: send. Ends the program with its usage otherwise. */
static inline bool bulk_sends(int argc, char **argv, const char *usage)
{
    if (argc > 1 && strcmp(argv[1], "--send") == 0)
        return true;
    if (argc > 1 && strcmp(argv[1], "--receive") == 0)
        return false;
    fprintf(stderr, "usage: %s\n", usage);
    exit(2);
}

#endif

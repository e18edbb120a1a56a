/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the example programs share: arguments, errors, and printing bytes as the device scripts show them.
 * Each program ends with status 1 and one line on standard error when a call fails.
 */
#ifndef EXAMPLES_EXAMPLE_H
#define EXAMPLES_EXAMPLE_H

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sockclient.h>

/** Ends the program when `rc` is an error: which call, what happened, and the number a device shows. */
static inline void must(const sc_profile *profile, const char *what, long rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "%s: %s (error %d in profile %s)\n", what, sc_strerror((int)rc),
            sc_error_number(profile, (int)rc), profile->name);
    exit(1);
}

/** Attaches to the daemon that SOCKGATE_CONTROL or the default path names. */
static inline sc_lib *attach(const char *profile_name, const sc_profile **profile)
{
    sc_lib *lib;

    setvbuf(stdout, NULL, _IOLBF, 0); /* lines appear as they are printed, into a pipe too */
    *profile = sc_profile_find(profile_name);
    if (sc_lib_open(NULL, profile_name, &lib) < 0) {
        fprintf(stderr, "%s\n", sc_lib_open_error());
        exit(1);
    }
    return lib;
}

/** A TCP socket over IPv4, by the numbers that the profile's device has for these names. */
static inline sc_sock *tcp_socket(sc_lib *lib, const sc_profile *profile)
{
    sc_sock *s = NULL;

    must(profile, "socket",
         sc_socket(lib, sc_const(profile, "AF_INET", 0), sc_const(profile, "SOCK_STREAM", 0), 0, &s));
    return s;
}

/** setsockopt(SOL_SOCKET, SO_REUSEADDR, value) */
static inline void set_reuseaddr(sc_sock *s, const sc_profile *profile, int value)
{
    must(profile, "setsockopt SO_REUSEADDR",
         sc_setsockopt(s, sc_const(profile, "SOL_SOCKET", 0), sc_const(profile, "SO_REUSEADDR", 0), &value,
                       sizeof(value)));
}

/** The address and port in argv[at] and argv[at + 1], each with its default. */
static inline sc_addr address_argument(const sc_profile *profile, int argc, char **argv, int at,
                                       const char *host, long port)
{
    sc_addr addr;

    if (argc > at)
        host = argv[at];
    if (argc > at + 1) {
        char *end;

        port = strtol(argv[at + 1], &end, 10);
        if (*end != '\0' || end == argv[at + 1])
            port = -1; /* refused just below */
    }
    must(profile, host, sc_addr_host_port(profile, host, port, &addr));
    return addr;
}

/** Prints ('10.0.0.1', 8001), as Python prints an address. */
static inline void print_address(const sc_addr *addr)
{
    printf("('%u.%u.%u.%u', %u)", addr->ip[0], addr->ip[1], addr->ip[2], addr->ip[3], addr->port);
}

/** Prints b'hello\n', as Python prints bytes. */
static inline void print_bytes(const void *data, size_t len)
{
    const unsigned char *byte = data;
    char quote = memchr(data, '\'', len) && !memchr(data, '"', len) ? '"' : '\'';

    printf("b%c", quote);
    for (size_t i = 0; i < len; i++) {
        if (byte[i] == '\n')
            printf("\\n");
        else if (byte[i] == '\r')
            printf("\\r");
        else if (byte[i] == '\t')
            printf("\\t");
        else if (byte[i] == '\\' || byte[i] == (unsigned char)quote)
            printf("\\%c", byte[i]);
        else if (byte[i] < 0x80 && isprint(byte[i]))
            putchar(byte[i]);
        else
            printf("\\x%02x", byte[i]);
    }
    putchar(quote);
}

#endif

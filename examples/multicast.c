/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joins a multicast group and sends each datagram that arrives there to a second group.
 *
 *     multicast GROUP PORT ANSWER-GROUP ANSWER-PORT [SOURCE]
 *
 * With SOURCE, datagrams of that sender alone. Datagrams to the port that come by broadcast are answered too.
 */
#include "examples/example.h"

#include <arpa/inet.h>

static void join(const sc_profile *profile, sc_sock *s, const char *group, const char *source)
{
    struct sc_ip_mreq_source r = {.group = {0}};

    if (inet_pton(AF_INET, group, r.group) != 1 || (source && inet_pton(AF_INET, source, r.source) != 1)) {
        fprintf(stderr, "not an IPv4 address\n");
        exit(1);
    }
    if (source)
        must(profile, "join", sc_setsockopt(s, SC_SOL_IP, SC_IP_ADD_SOURCE_MEMBERSHIP, &r, sizeof(r)));
    else
        must(profile, "join",
             sc_setsockopt(s, SC_SOL_IP, SC_IP_ADD_MEMBERSHIP, &r, sizeof(struct sc_ip_mreq)));
}

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("posix", &profile);
    static unsigned char data[65536];
    sc_addr any, answer;
    int on = 1;
    sc_sock *s;

    if (argc < 5) {
        fprintf(stderr, "usage: multicast GROUP PORT ANSWER-GROUP ANSWER-PORT [SOURCE]\n");
        return 2;
    }
    any = address_argument(profile, 1, argv, 1, "0.0.0.0", (uint16_t)atoi(argv[2]));
    answer = address_argument(profile, argc, argv, 3, "0.0.0.0", 0);
    must(profile, "socket", sc_socket(lib, SC_INET, SC_DGRAM, 0, &s));
    must(profile, "broadcast", sc_setsockopt(s, SC_SOL_SOCKET, SC_SO_BROADCAST, &on, sizeof(on)));
    must(profile, "bind", sc_bind(s, &any));
    join(profile, s, argv[1], argc > 5 ? argv[5] : NULL);
    printf("joined %s\n", argv[1]);
    for (;;) {
        sc_addr peer;
        ssize_t n = sc_recvfrom(s, data, sizeof(data), 0, &peer);

        must(profile, "recvfrom", n);
        must(profile, "sendto", sc_sendto(s, data, (size_t)n, 0, &answer));
    }
}

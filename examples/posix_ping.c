/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends ICMP echo requests through a raw socket and prints the answers. Needs session.raw of the daemon.
 *
 *     posix_ping ADDRESS [COUNT]                  default 4; status 0 when every request was answered
 */
#include "examples/example.h"

#include <errno.h>
#include <time.h>

#define ICMP_PROTO      1
#define ICMP_ECHO       8
#define ICMP_ECHO_REPLY 0
#define WAIT_MS         1000

/* An echo request and, behind the IP header, its reply. */
struct echo {
    uint8_t type, code;
    uint8_t checksum[2];
    uint8_t id[2], sequence[2];
    uint8_t data[56];
};

/* RFC 1071 */
static void put_checksum(struct echo *m)
{
    const uint8_t *p = (const uint8_t *)m;
    uint32_t sum = 0;

    for (size_t i = 0; i < sizeof(*m); i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    sum = (sum >> 16) + (sum & 0xffff);
    sum = ~(sum + (sum >> 16));
    m->checksum[0] = (uint8_t)(sum >> 8);
    m->checksum[1] = (uint8_t)sum;
}

static double now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Wait for the reply to `sent`; false when none came in time. The socket also gets others' replies. */
static bool wait_reply(const sc_profile *profile, sc_sock *s, const struct echo *sent, double sent_ms)
{
    uint8_t packet[2048];
    sc_addr from;

    while (now_ms() - sent_ms < WAIT_MS) {
        ssize_t n = sc_recvfrom(s, packet, sizeof(packet), 0, &from);
        size_t hdr = (size_t)(packet[0] & 15) * 4;
        struct echo reply;

        if (n == -ETIMEDOUT || n == -EAGAIN)
            break;
        must(profile, "recvfrom", n);
        if ((size_t)n < hdr + sizeof(reply))
            continue;
        memcpy(&reply, packet + hdr, sizeof(reply));
        if (reply.type != ICMP_ECHO_REPLY || memcmp(reply.id, sent->id, 4) != 0 ||
            memcmp(reply.data, sent->data, sizeof(reply.data)) != 0)
            continue;
        printf("%zd bytes: seq=%u ttl=%u time=%.3f ms\n", n - (ssize_t)hdr, sent->sequence[1], packet[8],
               now_ms() - sent_ms);
        return true;
    }
    printf("no answer: seq=%u\n", sent->sequence[1]);
    return false;
}

int main(int argc, char **argv)
{
    const sc_profile *profile;
    sc_lib *lib = attach("posix", &profile);
    sc_addr peer = address_argument(profile, argc, argv, 1, "127.0.0.1", 0);
    int count = argc > 2 ? atoi(argv[2]) : 4, answered = 0;
    sc_sock *s;

    must(profile, "socket", sc_socket(lib, SC_INET, SC_RAW, ICMP_PROTO, &s));
    must(profile, "connect", sc_connect(s, &peer)); /* from now on only packets of that host arrive */
    must(profile, "settimeout", sc_settimeout_ms(s, WAIT_MS));
    for (int i = 1; i <= count; i++) {
        struct echo m = {.type = ICMP_ECHO, .id = {0x53, 0x67}, .sequence = {0, (uint8_t)i}};
        double sent_ms = now_ms();

        memset(m.data, i, sizeof(m.data));
        put_checksum(&m);
        must(profile, "send", sc_send(s, &m, sizeof(m), 0));
        answered += wait_reply(profile, s, &m, sent_ms);
    }
    printf("%d of %d answered\n", answered, count);
    return answered == count ? 0 : 1;
}

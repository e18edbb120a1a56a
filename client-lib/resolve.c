/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names: numeric addresses and the hosts file. Name servers would have to be asked over the daemon's network,
 * not the kernel's, so the C library's resolver is of no use here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client-lib/lib.h"

#define HOSTS_PATH      "/etc/hosts"

/* RFC 1035 2.3.4: 255 octets on the wire are 253 characters. */
#define NAME_BYTES_MAX  253

/* Lines beyond these are not read: a hosts file is small, and this is called by programs that must not stall.
 */
#define HOSTS_LINES_MAX 65536u

/* RFC 1123 2.1: letters, digits and hyphens in labels; the underscore is met in practice. */
static bool name_sane(const char *host)
{
    size_t n = strlen(host);

    if (n > NAME_BYTES_MAX)
        return false;
    return strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

/* True when one line of the hosts file gives `host` an IPv4 address. */
static bool line_match(char *line, const char *host, uint8_t out[4])
{
    char *save = NULL;
    char *word;

    line[strcspn(line, "#\n")] = 0;
    word = strtok_r(line, " \t\r", &save);
    if (!word || sc_ip_to_tuple(word, out))
        return false;
    while ((word = strtok_r(NULL, " \t\r", &save)))
        if (strcasecmp(word, host) == 0)
            return true;
    return false;
}

static int hosts_find(const char *host, uint8_t out[4])
{
    const char *path = secure_getenv("SOCKGATE_HOSTS");
    FILE *f = fopen(path && path[0] ? path : HOSTS_PATH, "re");
    char *line = NULL;
    size_t cap = 0;
    uint8_t ip[4];
    int rc = SC_GAI_NO_SERVER;

    if (!f)
        return SC_GAI_NO_SERVER;
    for (unsigned i = 0; i < HOSTS_LINES_MAX && getline(&line, &cap, f) >= 0; i++) {
        if (line_match(line, host, ip)) {
            memcpy(out, ip, 4);
            rc = 0;
            break;
        }
    }
    free(line);
    fclose(f);
    return rc;
}

int sc__resolve(const char *host, uint8_t out[4])
{
    if (!host[0]) {
        memset(out, 0, 4);
        return 0;
    }
    if (sc_ip_to_tuple(host, out) == 0)
        return 0;
    if (strspn(host, "0123456789.") == strlen(host)) /* Meant as an address, and wrong. */
        return SC_GAI_NONAME;
    return name_sane(host) ? hosts_find(host, out) : SC_GAI_NONAME;
}

int sc_getaddrinfo(sc_lib *lib, const char *host, int port, int family, int type, int proto, int flags,
                   struct sc_gai *res, size_t max)
{
    const sc_profile *p = sc_lib_profile(lib);
    uint8_t ip[4];
    int rc;

    (void)flags; /* Answers are numeric and canonical names are not kept, so no flag changes anything. */
    if (!lib || !res || !max)
        return -EINVAL;
    if (port < 0 || port > UINT16_MAX)
        return SC_GAI_SERVICE;
    if (family && sc__family_of(p, family) < 0)
        return SC_GAI_FAMILY;
    if (type && sc__type_of(p, type) < 0)
        return SC_GAI_FAMILY;
    rc = host ? sc__resolve(host, ip) : SC_GAI_EMPTY;
    if (rc)
        return rc;
    *res = (struct sc_gai){
        .family = sc_const(p, "AF_INET", SC_INET),
        .type = sc__type_number(p, type ? (uint8_t)sc__type_of(p, type) : SG_SOCK_STREAM),
        .proto = proto,
    };
    (void)sc_addr_quad(ip, port, &res->addr);
    return 1;
}

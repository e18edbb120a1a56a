/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of Fast Open cookies, written as Linux writes net.ipv4.tcp_fastopen_key. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_int.h"

#define GROUPS 4u
#define DIGITS 8u

/* Four groups of eight digits, each a number whose lowest byte is the key's first. Moves *text on. */
static bool key_read(const char **text, uint8_t key[16])
{
    for (unsigned i = 0; i < GROUPS; i++) {
        char group[DIGITS + 1] = "";
        uint32_t v;

        if (i && *(*text)++ != '-')
            return false;
        for (unsigned j = 0; j < DIGITS; j++, (*text)++) {
            if (!isxdigit((unsigned char)**text))
                return false;
            group[j] = **text;
        }
        v = (uint32_t)strtoul(group, NULL, 16);
        for (unsigned j = 0; j < 4; j++)
            key[4 * i + j] = (uint8_t)(v >> 8 * j);
    }
    return true;
}

bool config_parse_keys(const char *text, struct fastopen_keys *ret)
{
    struct fastopen_keys keys = {.count = 0};

    while (*text) {
        if (keys.count == FASTOPEN_KEYS_MAX || (keys.count && *text++ != ','))
            return false;
        if (!key_read(&text, keys.key[keys.count++]))
            return false;
    }
    *ret = keys;
    return true;
}

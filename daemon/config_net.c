/* SPDX-License-Identifier: Apache-2.0 */
/* [network]: devices, addresses, gateways and routes. */
#include "daemon/config.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_int.h"

#define MTU_MAX  65535u
#define VLAN_MAX 4094u

/* ---- Words ------------------------------------------------------------------------------------------ */

/* One item of a list, and the words in it. */
#define ITEM_MAX 199u
#define WORD_MAX 12u

struct words {
    char text[ITEM_MAX + 1];
    const char *v[WORD_MAX];
    unsigned n;
};

static bool split(struct words *w, const char *item, size_t bytes)
{
    char *save = NULL;

    if (bytes > ITEM_MAX)
        return false;
    memcpy(w->text, item, bytes);
    w->text[bytes] = '\0';
    w->n = 0;
    for (char *p = strtok_r(w->text, " \t", &save); p; p = strtok_r(NULL, " \t", &save)) {
        if (w->n == WORD_MAX)
            return false;
        w->v[w->n++] = p;
    }
    return w->n > 0;
}

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint16_t *ret)
{
    const char *end;
    uint64_t v;

    if (!config_parse_digits(text, 10, &v, &end) || *end || v < min || v > max)
        return false;
    *ret = (uint16_t)v;
    return true;
}

static bool is_name(const char *text)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("_.:-", text[i]))
            return false;
    return n > 0 && n < CONFIG_NAME_MAX;
}

/* What stands behind an address, from word `at` on: dev NAME, vlan ID, each once. */
static bool parse_place(const struct words *w, unsigned at, struct config_place *ret)
{
    *ret = (struct config_place){.vlan = 0};
    for (; at + 1 < w->n; at += 2) {
        if (!strcmp(w->v[at], "dev") && !ret->dev[0] && is_name(w->v[at + 1]))
            memcpy(ret->dev, w->v[at + 1], strlen(w->v[at + 1]) + 1);
        else if (strcmp(w->v[at], "vlan") != 0 || ret->vlan ||
                 !parse_number(w->v[at + 1], 1, VLAN_MAX, &ret->vlan))
            return false;
    }
    return at == w->n;
}

bool config_parse_mac(const char *text, uint8_t ret[6])
{
    const char *p = text;
    uint8_t mac[6];

    for (int i = 0; i < 6; i++, p += 3) {
        char pair[3] = {p[0], p[0] ? p[1] : '\0', '\0'};

        if (!isxdigit((unsigned char)pair[0]) || !isxdigit((unsigned char)pair[1]))
            return false;
        if (p[2] != (i < 5 ? ':' : '\0'))
            return false;
        mac[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    if ((mac[0] & 1) || !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]))
        return false;
    memcpy(ret, mac, sizeof(mac));
    return true;
}

/* ---- Devices ------------------------------------------------------------------------------------------ */

/* What a device is called when nothing says so: what its kind is of, as far as that is a word. */
static void default_name(struct config_device *d)
{
    const char *from = strchr(d->spec, ':');
    size_t n = 0;

    for (from = from ? from + 1 : d->spec; n + 1 < sizeof(d->name); n++) {
        char one[2] = {from[n], '\0'};

        if (!is_name(one))
            break;
        d->name[n] = from[n];
    }
    d->name[n] = '\0';
}

static bool parse_device_word(struct config_device *d, const char *what, const char *value)
{
    if (!strcmp(what, "name") && is_name(value)) {
        memcpy(d->name, value, strlen(value) + 1);
        return true;
    }
    if (!strcmp(what, "kernel_tap") && is_name(value) && !strncmp(d->spec, "dpdk:", 5)) {
        memcpy(d->kernel_tap, value, strlen(value) + 1);
        return true;
    }
    if (!strcmp(what, "mtu"))
        return parse_number(value, ENGINE_MTU_MIN, MTU_MAX, &d->mtu);
    if (!strcmp(what, "mac"))
        return d->mac_set = config_parse_mac(value, d->mac);
    if (!strcmp(what, "accept_ra") && (!strcmp(value, "yes") || !strcmp(value, "no"))) {
        d->accept_ra = !strcmp(value, "yes");
        return d->ra_set = true;
    }
    return false;
}

/* The whole value: a device's own arguments may hold commas. */
static bool add_device(struct config_devices *l, const char *value)
{
    struct config_device d = {.mtu = 0};
    struct words w;
    unsigned at = 1;

    if (l->count == ENGINE_DEV_MAX || !split(&w, value, strlen(value)) || strlen(w.v[0]) >= sizeof(d.spec))
        return false;
    memcpy(d.spec, w.v[0], strlen(w.v[0]) + 1);
    default_name(&d);
    for (; at + 1 < w.n; at += 2)
        if (!parse_device_word(&d, w.v[at], w.v[at + 1]))
            return false;
    if (at != w.n)
        return false;
    l->v[l->count++] = d;
    return true;
}

int config_device_find(const struct config *cfg, const char *name)
{
    for (unsigned i = 0; i < cfg->devices.count; i++)
        if (!*name || !strcmp(cfg->devices.v[i].name, name))
            return (int)i;
    return -1;
}

void config_device_specs(const struct config *cfg, char *buf, size_t bytes)
{
    size_t at = 0;

    buf[0] = '\0';
    for (unsigned i = 0; i < cfg->devices.count && at < bytes; i++)
        at += (size_t)snprintf(buf + at, bytes - at, "%s%s", i ? ", " : "", cfg->devices.v[i].spec);
}

uint16_t config_device_mtu(const struct config *cfg, unsigned dev)
{
    return cfg->devices.v[dev].mtu ? cfg->devices.v[dev].mtu : cfg->mtu;
}

const uint8_t *config_device_mac(const struct config *cfg, unsigned dev)
{
    if (cfg->devices.v[dev].mac_set)
        return cfg->devices.v[dev].mac;
    return cfg->mac_set ? cfg->mac : NULL;
}

bool config_device_ra(const struct config *cfg, unsigned dev)
{
    return cfg->devices.v[dev].ra_set ? cfg->devices.v[dev].accept_ra : cfg->accept_ra;
}

/* ---- Addresses and routes ----------------------------------------------------------------------- */

static bool parse_address(const char *text, struct ip_addr *ret)
{
    *ret = (struct ip_addr){.family = strchr(text, ':') ? SG_AF_INET6 : SG_AF_INET};
    if (inet_pton(ret->family == SG_AF_INET6 ? AF_INET6 : AF_INET, text, ret->ip) != 1)
        return false;
    /* Link-local: of which interface is settled in stack.c. */
    ret->scope = ret->ip[0] == 0xfe && (ret->ip[1] & 0xc0) == 0x80 && ret->family == SG_AF_INET6;
    return true;
}

/* ADDRESS/LEN */
static bool parse_network(const char *text, struct ip_addr *ret, uint8_t *prefix)
{
    const char *slash = strchr(text, '/');
    char addr[INET6_ADDRSTRLEN];
    uint16_t bits;

    if (!slash || (size_t)(slash - text) >= sizeof(addr))
        return false;
    memcpy(addr, text, (size_t)(slash - text));
    addr[slash - text] = '\0';
    if (!parse_address(addr, ret) ||
        !parse_number(slash + 1, 0, ret->family == SG_AF_INET6 ? 128 : 32, &bits))
        return false;
    *prefix = (uint8_t)bits;
    return true;
}

static bool add_network(void *list, const struct words *w)
{
    struct config_addrs *l = list;
    struct engine_addr a = {.ifindex = 0};
    struct config_place place;

    if (!parse_place(w, 1, &place))
        return false;
    if (!strcmp(w->v[0], "dhcp")) {
        if (l->dhcp) /* There is one client. */
            return false;
        l->dhcp = true;
        l->dhcp_place = place;
        return true;
    }
    if (l->count == ENGINE_ADDR_MAX || !parse_network(w->v[0], &a.addr, &a.prefix))
        return false;
    l->place[l->count] = place;
    l->v[l->count++] = a;
    return true;
}

static bool add_gateway(void *list, const struct words *w)
{
    struct config_routes *l = list;
    struct engine_route r = {.ifindex = ENGINE_IF_ANY};

    if (l->count == ENGINE_ROUTE_MAX || !parse_address(w->v[0], &r.gateway) ||
        !parse_place(w, 1, &l->place[l->count]))
        return false;
    r.dst.family = r.gateway.family;
    l->v[l->count++] = r;
    return true;
}

static bool add_route(void *list, const struct words *w)
{
    struct config_routes *l = list;
    struct engine_route r = {.ifindex = ENGINE_IF_ANY};

    if (l->count == ENGINE_ROUTE_MAX || w->n < 3 || strcmp(w->v[1], "via") != 0 ||
        !parse_place(w, 3, &l->place[l->count]))
        return false;
    if (!parse_network(w->v[0], &r.dst, &r.prefix) || !parse_address(w->v[2], &r.gateway) ||
        r.dst.family != r.gateway.family)
        return false;
    r.dst.scope = 0;
    l->v[l->count++] = r;
    return true;
}

static bool add_items(void *list, const char *value, bool (*add)(void *list, const struct words *w))
{
    while (*value) {
        size_t n = strcspn(value, ",");
        struct words w;

        if (!split(&w, value, n) || !add(list, &w))
            return false;
        value += n;
        value += *value == ',';
    }
    return true;
}

bool config_list_add(struct config *cfg, const struct config_key *key, const char *value, bool afresh)
{
    union {
        struct config_devices devices;
        struct config_addrs addrs;
        struct config_routes routes;
    } l;
    char *field = (char *)cfg + key->offset;
    bool ok;

    assert(key->size <= sizeof(l));
    memcpy(&l, field, key->size);
    if (afresh)
        memset(&l, 0, sizeof(l));
    if (key->type == CONFIG_DEVICES)
        ok = add_device(&l.devices, value);
    else
        ok = add_items(&l, value,
                       key->type == CONFIG_NETWORKS   ? add_network
                       : key->type == CONFIG_GATEWAYS ? add_gateway
                                                      : add_route);
    if (ok)
        memcpy(field, &l, key->size);
    return ok;
}

const uint8_t *config_address4(const struct config *cfg)
{
    static const uint8_t none[4];

    for (unsigned i = 0; i < cfg->addresses.count; i++)
        if (cfg->addresses.v[i].addr.family == SG_AF_INET)
            return cfg->addresses.v[i].addr.ip;
    return none;
}

const char *config_addr_text(const struct ip_addr *a, char *buf)
{
    buf[0] = '\0';
    (void)inet_ntop(a->family == SG_AF_INET6 ? AF_INET6 : AF_INET, a->ip, buf, INET6_ADDRSTRLEN);
    return buf;
}

/* ---- Settings against each other ------------------------------------------------------------------ */

static int check_devices(const struct config *cfg, char *error)
{
    const struct config_devices *l = &cfg->devices;

    if (cfg->mac_set && l->count > 1)
        return config_fail(error, "network.mac: there are several devices; write \"mac %02x:...\" behind one",
                           cfg->mac[0]);
    for (unsigned i = 0; i < l->count; i++) {
        const struct config_device *d = &l->v[i];

        if (!strchr(d->spec, ':'))
            return config_fail(error, "network.device: \"%s\" has no kind; write KIND:NAME, such as tap:sg0",
                               d->spec);
        if (!d->name[0])
            return config_fail(error, "network.device: \"%s\" needs a name; write \"name WORD\" behind it",
                               d->spec);
        if (config_device_find(cfg, d->name) != (int)i)
            return config_fail(
                error, "network.device: two devices are called %s; write \"name WORD\" behind one", d->name);
    }
    return 0;
}

static int check_place(const struct config *cfg, const char *key, const struct config_place *p, char *error)
{
    char names[ENGINE_DEV_MAX * (CONFIG_NAME_MAX + 2)] = "";
    size_t at = 0;

    if (config_device_find(cfg, p->dev) >= 0)
        return 0;
    for (unsigned i = 0; i < cfg->devices.count; i++)
        at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", i ? ", " : "", cfg->devices.v[i].name);
    return config_fail(error, "network.%s: there is no device \"%s\"; devices are: %s", key, p->dev, names);
}

static bool same_place(const struct config *cfg, const struct config_place *a, const struct config_place *b)
{
    return a->vlan == b->vlan && config_device_find(cfg, a->dev) == config_device_find(cfg, b->dev);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* An address that one host may have: not 0/8, loopback, multicast or above. */
static bool is_host_address(uint32_t a)
{
    return a >> 24 != 0 && a >> 24 != 127 && a >> 24 < 224;
}

static int check_address4(const struct engine_addr *a, char *error)
{
    uint32_t own = be32(a->addr.ip), mask = a->prefix ? UINT32_MAX << (32 - a->prefix) : 0;
    char text[INET6_ADDRSTRLEN];

    (void)config_addr_text(&a->addr, text);
    if (!is_host_address(own))
        return config_fail(
            error, "network.address: %s can't be the address of a host; choose a unicast address", text);
    /* RFC 3021: the two addresses of a /31 are both hosts. */
    if (a->prefix <= 30 && ((own & ~mask) == 0 || (own & ~mask) == ~mask))
        return config_fail(error,
                           "network.address: %s/%u is the %s address of its network; choose one between",
                           text, a->prefix, own & ~mask ? "broadcast" : "network");
    return 0;
}

static int check_address6(const struct config *cfg, unsigned i, char *error)
{
    const struct engine_addr *a = &cfg->addresses.v[i];
    uint16_t mtu = config_device_mtu(cfg, (unsigned)config_device_find(cfg, cfg->addresses.place[i].dev));
    char text[INET6_ADDRSTRLEN];

    (void)config_addr_text(&a->addr, text);
    if (!cfg->ipv6)
        return config_fail(error, "network.address: %s needs network.ipv6 = yes", text);
    if (mtu && mtu < ENGINE_MTU6_MIN)
        return config_fail(error, "network.mtu: %u is below %u, which the address %s needs", mtu,
                           ENGINE_MTU6_MIN, text);
    /* Multicast; unspecified, loopback and mapped IPv4 addresses begin with ten zero bytes. */
    if (a->addr.ip[0] == 0xff || !memcmp(a->addr.ip, (uint8_t[10]){0}, 10))
        return config_fail(
            error, "network.address: %s can't be the address of a host; choose a unicast address", text);
    return 0;
}

static bool in_network(const struct engine_addr *a, const struct ip_addr *addr)
{
    unsigned bytes = a->prefix / 8, rest = a->prefix % 8;

    return a->addr.family == addr->family && !memcmp(a->addr.ip, addr->ip, bytes) &&
           (!rest || !((a->addr.ip[bytes] ^ addr->ip[bytes]) >> (8 - rest)));
}

/* Is the gateway a neighbour by one of our networks, which is on the interface that it names, if it does? */
static bool is_neighbor(const struct config *cfg, const struct ip_addr *gateway, const struct config_place *p)
{
    bool named = p->dev[0] || p->vlan;

    if (gateway->scope)
        return true;
    for (unsigned i = 0; i < cfg->addresses.count; i++)
        if (in_network(&cfg->addresses.v[i], gateway) &&
            (!named || same_place(cfg, p, &cfg->addresses.place[i])))
            return true;
    return false;
}

/* A VLAN is an interface by the addresses in it. */
static bool has_interface(const struct config *cfg, const struct config_place *p)
{
    for (unsigned i = 0; p->vlan && i < cfg->addresses.count; i++)
        if (same_place(cfg, p, &cfg->addresses.place[i]))
            return true;
    return !p->vlan;
}

static int check_gateway(const struct config *cfg, const char *key, const struct config_routes *l, unsigned i,
                         char *error)
{
    const struct ip_addr *gateway = &l->v[i].gateway;
    char text[INET6_ADDRSTRLEN];
    int rc = check_place(cfg, key, &l->place[i], error);

    if (rc)
        return rc;
    (void)config_addr_text(gateway, text);
    if (gateway->family == SG_AF_INET ? !is_host_address(be32(gateway->ip)) : gateway->ip[0] == 0xff)
        return config_fail(error, "network.%s: %s can't be a router; name another host's address", key, text);
    for (unsigned k = 0; k < cfg->addresses.count; k++)
        if (!memcmp(&cfg->addresses.v[k].addr, gateway, sizeof(*gateway)))
            return config_fail(error, "network.%s: %s can't be a router; name another host's address", key,
                               text);
    if (!has_interface(cfg, &l->place[i]))
        return config_fail(error, "network.%s: %s is in VLAN %u, where network.address has no address", key,
                           text, l->place[i].vlan);
    if (!is_neighbor(cfg, gateway, &l->place[i]))
        return config_fail(error, "network.%s: %s is not in the network of network.address; a router must be",
                           key, text);
    return 0;
}

/* Interfaces that are VLANs. */
static unsigned vlan_count(const struct config *cfg)
{
    const struct config_addrs *a = &cfg->addresses;
    unsigned n = 0;

    for (unsigned i = 0; i < a->count; i++) {
        bool seen = !a->place[i].vlan;

        for (unsigned k = 0; k < i; k++)
            seen |= same_place(cfg, &a->place[k], &a->place[i]);
        n += !seen;
    }
    return n;
}

static int check_distinct(const struct config *cfg, char *error)
{
    const struct config_addrs *a = &cfg->addresses;
    char text[INET6_ADDRSTRLEN];

    for (unsigned i = 0; i < a->count; i++)
        for (unsigned k = 0; k < i; k++)
            if (!memcmp(&a->v[i].addr, &a->v[k].addr, sizeof(a->v[i].addr)) &&
                (!a->v[i].addr.scope || same_place(cfg, &a->place[i], &a->place[k])))
                return config_fail(error, "network.address: %s is given twice; keep one of the two",
                                   config_addr_text(&a->v[i].addr, text));
    return 0;
}

static int check_addresses(const struct config *cfg, char *error)
{
    const struct config_addrs *a = &cfg->addresses;
    int rc = a->dhcp ? check_place(cfg, "address", &a->dhcp_place, error) : 0;

    if (!rc && a->dhcp_place.vlan)
        return config_fail(error, "network.address: dhcp is for untagged interfaces; leave out \"vlan\"");
    for (unsigned i = 0; !rc && i < a->count; i++)
        rc = check_place(cfg, "address", &a->place[i], error);
    if (!rc && cfg->devices.count + vlan_count(cfg) > ENGINE_IF_MAX)
        return config_fail(error, "network.address: at most %u devices and VLANs are allowed", ENGINE_IF_MAX);
    if (!rc)
        rc = check_distinct(cfg, error);
    for (unsigned i = 0; !rc && i < a->count; i++)
        rc = a->v[i].addr.family == SG_AF_INET ? check_address4(&a->v[i], error)
                                               : check_address6(cfg, i, error);
    return rc;
}

int config_check_network(const struct config *cfg, char *error)
{
    int rc = check_devices(cfg, error);

    if (!rc)
        rc = check_addresses(cfg, error);
    for (unsigned i = 0; !rc && i < cfg->gateways.count; i++)
        rc = check_gateway(cfg, "gateway", &cfg->gateways, i, error);
    for (unsigned i = 0; !rc && i < cfg->routes.count; i++)
        rc = check_gateway(cfg, "route", &cfg->routes, i, error);
    if (!rc && cfg->gateways.count + cfg->routes.count > ENGINE_ROUTE_MAX)
        rc = config_fail(error, "network.route: at most %u routes are allowed", ENGINE_ROUTE_MAX);
    return rc;
}

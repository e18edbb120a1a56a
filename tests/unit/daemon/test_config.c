/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/options.h"

static char error[CONFIG_ERROR_MAX];

static int read_text(struct config *cfg, const char *text)
{
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    int rc;

    cr_assert(f != NULL);
    config_init(cfg);
    error[0] = '\0';
    rc = config_read(cfg, f, "test.conf", error);
    (void)fclose(f);
    return rc;
}

/* The text is refused with a message that starts with `where` and holds `what`. */
static void refused(const char *text, const char *where, const char *what)
{
    struct config cfg;

    cr_assert(read_text(&cfg, text) == -EINVAL, "accepted: %s", text);
    cr_assert(!strncmp(error, where, strlen(where)), "%s", error);
    cr_assert(strstr(error, what) != NULL, "%s", error);
}

static int set(struct config *cfg, const char *section, const char *name, const char *value)
{
    const struct config_key *key = config_find(section, name);

    cr_assert(key != NULL, "%s.%s", section, name);
    return config_set(cfg, key, value, error);
}

Test(config, engine_defaults_are_those_of_the_engine)
{
    struct engine_config engine;
    struct config cfg;

    engine_config_default(&engine);
    config_init(&cfg);
    cr_assert(!memcmp(&engine, &cfg.engine, sizeof(engine)),
              "a default in config.c differs from engine_config_default()");
}

Test(config, defaults_are_consistent)
{
    struct config cfg;

    config_init(&cfg);
    cr_assert(config_check(&cfg, error) == 0, "%s", error);
}

Test(config, every_key_is_named_once_and_has_help)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];

        cr_assert(config_find(k->section, k->name) == k, "%s.%s stands twice", k->section, k->name);
        cr_assert(strlen(k->help) > 3);
        cr_assert((k->option == NULL) == (k->argument == NULL));
    }
}

Test(config, every_number_is_held_to_its_range)
{
    struct config cfg;
    char text[32];

    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];

        if (k->type != CONFIG_NUMBER && k->type != CONFIG_POWER)
            continue;
        config_init(&cfg);
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)k->max);
        cr_assert(config_set(&cfg, k, text, error) == 0, "%s.%s: %s", k->section, k->name, error);
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)k->min);
        cr_assert(config_set(&cfg, k, text, error) == 0, "%s.%s: %s", k->section, k->name, error);
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)k->max + 1);
        cr_assert(config_set(&cfg, k, text, error) == -EINVAL, "%s.%s takes %s", k->section, k->name, text);
        if (k->min) {
            (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)k->min - 1);
            cr_assert(config_set(&cfg, k, text, error) == -EINVAL, "%s.%s takes %s", k->section, k->name,
                      text);
        }
        cr_assert(k->size == 8 || k->max < 1ull << (8 * k->size), "%s.%s: its field is too small", k->section,
                  k->name);
    }
}

Test(config, number_is_digits_and_nothing_else)
{
    static const char *bad[] = {"", " 1", "+1", "-1", "0x10", "1e3", "5 ", "99999999999999999999999", "1K"};
    struct config cfg;

    config_init(&cfg);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(set(&cfg, "worker", "spin_us", bad[i]) == -EINVAL, "\"%s\"", bad[i]);
    cr_assert(cfg.spin_us == 20, "a refused value changes nothing");
}

Test(config, bytes_take_units)
{
    uint64_t v;

    cr_assert(config_parse_bytes("16G", &v) && v == 16ull << 30);
    cr_assert(config_parse_bytes("3M", &v) && v == 3ull << 20);
    cr_assert(config_parse_bytes("1K", &v) && v == 1024);
    cr_assert(config_parse_bytes("7", &v) && v == 7);
    cr_assert(!config_parse_bytes("1KB", &v));
    cr_assert(!config_parse_bytes("K", &v));
    cr_assert(!config_parse_bytes("1k", &v));
    cr_assert(!config_parse_bytes("18014398509481984K", &v), "overflow");
}

Test(config, buffer_sizes_become_logarithms)
{
    struct config cfg;

    config_init(&cfg);
    cr_assert(set(&cfg, "tcp", "send_buffer_bytes", "64K") == 0);
    cr_assert(cfg.engine.sndbuf_log2 == 16);
    cr_assert(set(&cfg, "tcp", "send_buffer_bytes", "65K") == -EINVAL, "no power of two");
    cr_assert(set(&cfg, "tcp", "send_buffer_bytes", "32M") == -EINVAL, "above the largest region");
}

Test(config, addresses)
{
    static const char *bad[] = {"10.0.0.1",
                                "10.0.0.1/33",
                                "10.0.0/8",
                                "10.0.0.1/",
                                "/8",
                                "10.0.0.1/8x",
                                "10.0.0.1.1/8",
                                "host/8",
                                "2001:db8::1/129",
                                "2001:db8::1",
                                "10.0.0.1/8 10.0.0.2/8"};
    struct config cfg;

    config_init(&cfg);
    cr_assert(set(&cfg, "network", "address", "192.0.2.9/25") == 0);
    cr_assert(!memcmp(config_address4(&cfg), (uint8_t[]){192, 0, 2, 9}, 4));
    cr_assert(cfg.addresses.count == 1 && cfg.addresses.v[0].prefix == 25);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(set(&cfg, "network", "address", bad[i]) == -EINVAL, "\"%s\"", bad[i]);
    cr_assert(cfg.addresses.count == 1 && cfg.addresses.v[0].prefix == 25, "what is wrong changes nothing");
    cr_assert(set(&cfg, "network", "address", "2001:db8::9/64, 192.0.2.8/24,fe80::7/64") == 0);
    cr_assert(cfg.addresses.count == 3 && cfg.addresses.v[0].addr.family == SG_AF_INET6);
    cr_assert(cfg.addresses.v[2].addr.scope == 1, "a link-local address is on the device");
    cr_assert(!memcmp(config_address4(&cfg), (uint8_t[]){192, 0, 2, 8}, 4));
    cr_assert(config_add(&cfg, config_find("network", "address"), "198.51.100.1/24", error) == 0);
    cr_assert(cfg.addresses.count == 4);
    cr_assert(config_check(&cfg, error) == 0, "%s", error);
    cr_assert(config_add(&cfg, config_find("network", "address"), "192.0.2.8/25", error) == 0);
    cr_assert(config_check(&cfg, error) == -EINVAL && strstr(error, "twice"), "%s", error);
    cr_assert(set(&cfg, "network", "address", "2001:db8::9/64") == 0);
    cr_assert(set(&cfg, "network", "ipv6", "no") == 0);
    cr_assert(config_check(&cfg, error) == -EINVAL && strstr(error, "2001:db8::9"), "%s", error);
}

Test(config, addresses_in_vlans)
{
    static const char *bad[] = {"10.0.0.1/8 vlan", "10.0.0.1/8 vlan 0", "10.0.0.1/8 vlan 4095",
                                "10.0.0.1/8 vlan 5 6", "10.0.0.1/8 lan 5"};
    struct config cfg;

    config_init(&cfg);
    cr_assert(set(&cfg, "network", "address", "10.0.0.1/8, 192.0.2.1/24 vlan 5, 2001:db8::1/64 vlan 5") == 0);
    cr_assert(cfg.addresses.count == 3 && !cfg.addresses.place[0].vlan && cfg.addresses.place[2].vlan == 5);
    cr_assert(config_check(&cfg, error) == 0, "%s", error);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(set(&cfg, "network", "address", bad[i]) == -EINVAL, "\"%s\"", bad[i]);
    for (unsigned i = 0; i < ENGINE_IF_MAX; i++) {
        char text[40];

        (void)snprintf(text, sizeof(text), "10.0.%u.1/24 vlan %u", i, i + 1);
        cr_assert(config_add(&cfg, config_find("network", "address"), text, error) == 0);
    }
    cr_assert(config_check(&cfg, error) == -EINVAL && strstr(error, "VLAN"), "%s", error);
}

/* Devices, one to a value, and what follows each. */
Test(config, devices)
{
    static const char *bad[] = {"",
                                "tap:a name",
                                "tap:a name x/y",
                                "tap:a name abcdefghijklmnop",
                                "tap:a mtu 575",
                                "tap:a mtu 65536",
                                "tap:a mac 01:00:00:00:00:01",
                                "tap:a accept_ra maybe",
                                "tap:a speed 5",
                                "tap:a kernel_tap port0"};
    const struct config_key *key = config_find("network", "device");
    struct config cfg;

    config_init(&cfg);
    cr_assert(cfg.devices.count == 1 && !strcmp(cfg.devices.v[0].name, "sg0"));
    cr_assert(set(&cfg, "network", "device", "dpdk:net_memif0,role=server,id=0 kernel_tap port0") == 0);
    cr_assert(!strcmp(cfg.devices.v[0].kernel_tap, "port0"));
    cr_assert(cfg.devices.count == 1 && !strcmp(cfg.devices.v[0].name, "net_memif0"), "commas are its own");
    cr_assert(config_add(&cfg, key, "tap:b name wan mtu 9000 mac 02:00:00:00:00:07 accept_ra yes", error) ==
              0);
    cr_assert(cfg.devices.count == 2 && config_device_find(&cfg, "wan") == 1);
    cr_assert(config_device_find(&cfg, "") == 0 && config_device_find(&cfg, "lan") == -1);
    cr_assert(config_device_mtu(&cfg, 1) == 9000 && config_device_mac(&cfg, 1)[5] == 7);
    cr_assert(config_device_ra(&cfg, 1) && !config_device_ra(&cfg, 0));
    cr_assert(set(&cfg, "network", "mtu", "1400") == 0 && config_device_mtu(&cfg, 0) == 1400);
    cr_assert(config_device_mtu(&cfg, 1) == 9000, "it says itself");
    cr_assert(config_check(&cfg, error) == 0, "%s", error);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(config_add(&cfg, key, bad[i], error) == -EINVAL, "\"%s\"", bad[i]);
    cr_assert(config_add(&cfg, key, "tap:wan", error) == 0);
    cr_assert(config_check(&cfg, error) == -EINVAL && strstr(error, "called wan"), "%s", error);
    for (unsigned i = cfg.devices.count; i < ENGINE_DEV_MAX; i++)
        cr_assert(config_add(&cfg, key, "tap:c", error) == 0);
    cr_assert(config_add(&cfg, key, "tap:c", error) == -EINVAL, "one too many");
}

Test(config, places_name_devices)
{
    static const char *bad[] = {"10.0.0.1/8 dev", "10.0.0.1/8 dev a dev b", "10.0.0.1/8 dev a/b"};
    const struct config_key *address = config_find("network", "address");
    struct config cfg;

    config_init(&cfg);
    cr_assert(set(&cfg, "network", "device", "tap:lan") == 0);
    cr_assert(config_add(&cfg, config_find("network", "device"), "tap:wan", error) == 0);
    cr_assert(
        set(&cfg, "network", "address", "10.0.0.2/8, 192.0.2.2/24 dev wan, 10.9.0.2/16 vlan 5 dev wan") == 0);
    cr_assert(!strcmp(cfg.addresses.place[1].dev, "wan") && cfg.addresses.place[2].vlan == 5);
    cr_assert(config_add(&cfg, address, "dhcp dev lan", error) == 0 && cfg.addresses.dhcp);
    cr_assert(config_add(&cfg, address, "dhcp dev wan", error) == -EINVAL, "there is one client");
    cr_assert(config_add(&cfg, address, "fe80::5/64", error) == 0);
    cr_assert(config_add(&cfg, address, "fe80::5/64 dev wan", error) == 0, "another link");
    cr_assert(set(&cfg, "network", "gateway", "192.0.2.1 dev wan, fe80::1 dev wan") == 0);
    cr_assert(set(&cfg, "network", "route", "198.51.100.0/24 via 10.9.0.1 dev wan vlan 5") == 0);
    cr_assert(config_check(&cfg, error) == 0, "%s", error);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(config_add(&cfg, address, bad[i], error) == -EINVAL, "\"%s\"", bad[i]);
    cr_assert(set(&cfg, "network", "gateway", "192.0.2.1 dev lan") == 0);
    cr_assert(config_check(&cfg, error) == -EINVAL && strstr(error, "network.gateway"), "%s", error);
    cr_assert(set(&cfg, "network", "gateway", "fe80::1 dev wan vlan 6") == 0);
    cr_assert(config_check(&cfg, error) == -EINVAL && strstr(error, "VLAN 6"), "%s", error);
    cr_assert(set(&cfg, "network", "gateway", "") == 0);
    cr_assert(config_add(&cfg, address, "10.1.0.1/16 dev man", error) == 0);
    cr_assert(config_check(&cfg, error) == -EINVAL && strstr(error, "devices are: lan, wan"), "%s", error);
    cr_assert(set(&cfg, "network", "address", "10.0.0.2/8") == 0);
    cr_assert(set(&cfg, "network", "route", "") == 0);
    cr_assert(set(&cfg, "network", "mac", "02:00:00:00:00:01") == 0);
    cr_assert(config_check(&cfg, error) == -EINVAL && strstr(error, "network.mac"), "%s", error);
}

Test(config, routes)
{
    static const char *bad[] = {"198.51.100.0/24",
                                "via 192.0.2.1",
                                "198.51.100.0/24 via",
                                "2001:db8::/32 via 192.0.2.1",
                                "198.51.100.0/24 via 192.0.2.1 x",
                                "198.51.100.0/33 via 192.0.2.1"};
    struct config cfg;

    config_init(&cfg);
    cr_assert(set(&cfg, "network", "address", "192.0.2.9/24, 2001:db8::9/64") == 0);
    cr_assert(set(&cfg, "network", "route", "198.51.100.0/24 via 192.0.2.1, 2001:db8:1::/48 via fe80::1") ==
              0);
    cr_assert(cfg.routes.count == 2 && cfg.routes.v[0].prefix == 24 && cfg.routes.v[1].gateway.scope == 1);
    cr_assert(set(&cfg, "network", "gateway", "192.0.2.254, 2001:db8::1") == 0);
    cr_assert(cfg.gateways.count == 2 && config_check(&cfg, error) == 0, "%s", error);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(set(&cfg, "network", "route", bad[i]) == -EINVAL, "\"%s\"", bad[i]);
    cr_assert(set(&cfg, "network", "route", "198.51.100.0/24 via 192.0.3.1") == 0);
    cr_assert(config_check(&cfg, error) == -EINVAL && strstr(error, "network.route"), "%s", error);
    cr_assert(set(&cfg, "network", "route", "") == 0 && cfg.routes.count == 0);
}

Test(config, lists_may_be_repeated_in_a_file)
{
    struct config cfg;

    cr_assert(read_text(&cfg, "[network]\naddress = 192.0.2.1/24\naddress = 2001:db8::1/64\n") == 0, "%s",
              error);
    cr_assert(cfg.addresses.count == 2, "the default is gone, both of the file are there");
}

Test(config, keys_of_fast_open)
{
    static const char *const bad[] = {
        "a1a1a1a1",
        "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d",
        "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4,",
        "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d40",
        "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4dg",
        "1-2-3-4",
        "0x1a1a1a-b2b2b2b2-c3c3c3c3-d4d4d4d4",
        "00000000-00000000-00000000-00000000,00000000-00000000-00000000-00000000,00000000-00000000-00000000-"
        "00000000"};
    const struct fastopen_keys *k;
    struct config cfg;

    config_init(&cfg);
    k = &cfg.engine.fastopen_keys;
    cr_assert(set(&cfg, "tcp", "fastopen_key", "a0bf63f7-ed803d81-cd641d30-cebc4a90") == 0);
    cr_assert_eq(k->count, 1);
    cr_assert_arr_eq(k->key[0], "\xf7\x63\xbf\xa0\x81\x3d\x80\xed\x30\x1d\x64\xcd\x90\x4a\xbc\xce", 16);
    cr_assert(set(&cfg, "tcp", "fastopen_key",
                  "00000000-00000000-00000000-00000000,a0bf63f7-ed803d81-cd641d30-cebc4a90") == 0);
    cr_assert_eq(k->count, 2);
    cr_assert_eq(k->key[1][0], 0xf7);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(set(&cfg, "tcp", "fastopen_key", bad[i]) == -EINVAL, "\"%s\"", bad[i]);
    cr_assert_eq(k->count, 2);
    cr_assert(set(&cfg, "tcp", "fastopen_key", "") == 0);
    cr_assert_eq(k->count, 0);
}

Test(config, mac)
{
    static const char *bad[] = {"01:00:00:00:00:01", "00:00:00:00:00:00",    "02:00:00:00:00",
                                "02:00:00:00:00:0",  "02:00:00:00:00:01:02", "02-00-00-00-00-01",
                                "0200.0000.0001",    "2:0:0:0:0:1"};
    struct config cfg;

    config_init(&cfg);
    cr_assert(set(&cfg, "network", "mac", "02:00:00:aB:cd:EF") == 0);
    cr_assert(cfg.mac_set && cfg.mac[3] == 0xab && cfg.mac[5] == 0xef);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert(set(&cfg, "network", "mac", bad[i]) == -EINVAL, "\"%s\"", bad[i]);
    cr_assert(set(&cfg, "network", "mac", "") == 0);
    cr_assert(!cfg.mac_set);
}

Test(config, file_sets_what_it_says_and_nothing_else)
{
    struct config cfg, defaults;

    config_init(&defaults);
    cr_assert(read_text(&cfg,
                        "# a comment\n; another\n\n[network]\ndevice = tap:x ; inline\n"
                        "  address=192.0.2.1/24\n[control]\nmode = 0600\n[daemon]\nlog_level = debug\n") == 0,
              "%s", error);
    cr_assert(!strcmp(cfg.devices.v[0].spec, "tap:x"));
    cr_assert(cfg.control_mode == 0600);
    cr_assert(cfg.log_level == LOG_LEVEL_DEBUG);
    cr_assert(config_address4(&cfg)[0] == 192);
    cr_assert(cfg.spin_us == defaults.spin_us);
    cr_assert(!strcmp(cfg.control_path, defaults.control_path));
}

Test(config, empty_file_is_fine)
{
    struct config cfg;

    cr_assert(read_text(&cfg, "\n") == 0);
}

Test(config, mistakes_name_file_line_and_what_is_allowed)
{
    refused("[network]\n\nadress = 10.0.0.1/8\n", "test.conf:3: ", "address");
    refused("[netwrk]\ndevice = tap:x\n", "test.conf:2: ", "sections are network, control");
    refused("device = tap:x\n", "test.conf:1: ", "no known section");
    refused("[worker]\nspin_us = fast\n", "test.conf:2: ", "a number from 0 to 1000000");
    refused("[worker]\nspin_us = 5\nspin_us = 6\n", "test.conf:3: ", "already set in line 2");
    refused("[worker]\nspin_us = 5\n\nnonsense\n", "test.conf:4: ", "neither [section]");
    refused("[daemon]\nlog_level = loud\n", "test.conf:2: ", "error, warning, info or debug");
    refused("[session]\nkick_entries = 100\n", "test.conf:2: ", "a power of two from 16");
}

Test(config, first_mistake_is_the_one_reported)
{
    refused("[worker]\nnonsense\nspin_us = fast\n", "test.conf:2: ", "neither");
    refused("[worker]\nspin_us = fast\nnonsense\n", "test.conf:2: ", "a number");
}

Test(config, too_long_line_is_refused)
{
    char text[400];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memcpy(text, "[daemon]\nuser = ", 16);
    refused(text, "test.conf:2: ", "too long");
}

Test(config, settings_are_checked_against_each_other)
{
    static const struct {
        const char *section, *name, *value, *message;
    } bad[] = {
        {"network", "device", "sg0", "no kind"},
        {"network", "mtu", "575", "below 576"},
        {"network", "address", "10.77.0.0/24", "network address"},
        {"network", "address", "10.77.0.255/24", "broadcast address"},
        {"network", "address", "127.0.0.1/8", "can't be the address"},
        {"network", "address", "224.0.0.1/24", "can't be the address"},
        {"network", "address", "0.0.0.0/0", "can't be the address"},
        {"network", "gateway", "10.78.0.1", "not in the network"},
        {"network", "gateway", "10.77.0.2", "can't be a router"},
        {"control", "path", "control.sock", "no path"},
        {"session", "heap_bytes", "17M", "multiple of 16M"},
        {"session", "buffer_bytes", "32G", "not be larger"},
        {"ip", "port_min", "61000", "above ip.port_max"},
        {"tcp", "rto_initial_us", "1000", "between"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct config cfg;

        config_init(&cfg);
        cr_assert(set(&cfg, bad[i].section, bad[i].name, bad[i].value) == 0, "%s", error);
        cr_assert(config_check(&cfg, error) == -EINVAL, "%s.%s = %s is accepted", bad[i].section, bad[i].name,
                  bad[i].value);
        cr_assert(strstr(error, bad[i].message) != NULL, "%s", error);
    }
}

Test(config, both_addresses_of_a_31_are_hosts)
{
    struct config cfg;

    config_init(&cfg);
    cr_assert(set(&cfg, "network", "address", "10.0.0.0/31") == 0);
    cr_assert(set(&cfg, "network", "gateway", "10.0.0.1") == 0);
    cr_assert(config_check(&cfg, error) == 0, "%s", error);
}

/* Text that looks like settings but for a few bytes: never anything but 0 or -EINVAL with a message. */
Test(config, random_files_do_no_harm, .timeout = 60)
{
    const char *form = "[network]\ndevice = tap:x\naddress = 10.0.0.1/8\n[tcp]\nsend_buffer_bytes = 64K\n";
    unsigned seed = (unsigned)getpid();

    for (unsigned round = 0; round < 20000; round++) {
        char text[128];
        struct config cfg;

        memset(text, 0, sizeof(text));
        memcpy(text, form, strlen(form));
        for (unsigned i = (unsigned)rand_r(&seed) % 6; i; i--)
            text[(size_t)rand_r(&seed) % strlen(form)] = (char)(1 + rand_r(&seed) % 255);
        if (read_text(&cfg, text))
            cr_assert(!strncmp(error, "test.conf:", 10), "seed %d round %u: %s", (int)getpid(), round, error);
    }
}

/* ---- The command line ------------------------------------------------------------------------------ */

static int settle(struct config *cfg, struct options *opts, char *argv[])
{
    int argc = 0;

    while (argv[argc])
        argc++;
    error[0] = '\0';
    return options_settle(argc, argv, cfg, opts, error);
}

#define SETTLE(cfg, opts, ...) settle(cfg, opts, (char *[]){(char *)"sockgated", __VA_ARGS__, NULL})
#define WORD(s)                ((char *)(uintptr_t)(s))

static void write_file(char *path, const char *text)
{
    FILE *f;
    int fd;

    strcpy(path, "/tmp/sockgate-test.XXXXXX");
    fd = mkstemp(path);
    f = fdopen(fd, "w");
    cr_assert(f != NULL);
    (void)fputs(text, f);
    (void)fclose(f);
}

Test(options, command_line_wins_over_environment_over_file)
{
    struct options opts;
    struct config cfg;
    char path[64];

    write_file(path, "[control]\npath = /from/file\n[network]\ndevice = tap:file\nmtu = 1000\n");
    unsetenv("SOCKGATE_CONTROL");
    cr_assert(SETTLE(&cfg, &opts, WORD("--config"), path) == 0, "%s", error);
    cr_assert(!strcmp(cfg.control_path, "/from/file"));
    cr_assert(!strcmp(opts.file, path));
    setenv("SOCKGATE_CONTROL", "/from/environment", 1);
    cr_assert(SETTLE(&cfg, &opts, WORD("--config"), path) == 0, "%s", error);
    cr_assert(!strcmp(cfg.control_path, "/from/environment"));
    cr_assert(SETTLE(&cfg, &opts, WORD("--control=/from/option"), WORD("--set"), WORD("network.mtu=1400"),
                     WORD("--config"), path) == 0,
              "%s", error);
    cr_assert(!strcmp(cfg.control_path, "/from/option"));
    cr_assert(cfg.mtu == 1400, "an option wins although it stands before --config");
    cr_assert(!strcmp(cfg.devices.v[0].spec, "tap:file"));
    cr_assert(SETTLE(&cfg, &opts, WORD("--device"), WORD("tap:a"), WORD("--device"), WORD("tap:b mtu 9000"),
                     WORD("--config"), path) == 0,
              "%s", error);
    cr_assert(cfg.devices.count == 2 && cfg.devices.v[1].mtu == 9000, "those of the file are gone");
    (void)unlink(path);
}

Test(options, mistakes_are_told)
{
    struct options opts;
    struct config cfg;

    cr_assert(SETTLE(&cfg, &opts, WORD("--frobnicate")) == -EINVAL);
    cr_assert(strstr(error, "no such option (see --help): --frobnicate") != NULL, "%s", error);
    cr_assert(SETTLE(&cfg, &opts, WORD("--device")) == -EINVAL);
    cr_assert(strstr(error, "needs a value") != NULL, "%s", error);
    cr_assert(SETTLE(&cfg, &opts, WORD("tap:x")) == -EINVAL);
    cr_assert(strstr(error, "options only") != NULL, "%s", error);
    cr_assert(SETTLE(&cfg, &opts, WORD("--set"), WORD("network.mtu")) == -EINVAL);
    cr_assert(strstr(error, "SECTION.KEY=VALUE") != NULL, "%s", error);
    cr_assert(SETTLE(&cfg, &opts, WORD("--set"), WORD("network.nothing=1")) == -EINVAL);
    cr_assert(strstr(error, "no such setting") != NULL, "%s", error);
    cr_assert(SETTLE(&cfg, &opts, WORD("--config"), WORD("/nonexistent/file")) == -EINVAL);
    cr_assert(strstr(error, "/nonexistent/file: can't be opened") != NULL, "%s", error);
}

Test(options, help_wins_over_bad_settings_and_plan_shows_what_counts)
{
    char *text = NULL;
    struct options opts;
    struct config cfg;
    size_t bytes;
    FILE *f;

    cr_assert(SETTLE(&cfg, &opts, WORD("--help"), WORD("--mtu"), WORD("1")) == 0);
    cr_assert(opts.action == OPTIONS_HELP);
    unsetenv("SOCKGATE_CONTROL");
    cr_assert(SETTLE(&cfg, &opts, WORD("--check"), WORD("--address"), WORD("192.0.2.5/26"), WORD("--gateway"),
                     WORD("192.0.2.1"), WORD("--control"), WORD("/x/y.sock"), WORD("--device"),
                     WORD("tap:z")) == 0,
              "%s", error);
    cr_assert(opts.action == OPTIONS_CHECK);
    f = open_memstream(&text, &bytes);
    options_plan(f, &cfg, &opts);
    (void)fclose(f);
    cr_assert(strstr(text, "tap:z") && strstr(text, "192.0.2.5/26") && strstr(text, "192.0.2.1\n"), "%s",
              text);
    cr_assert(strstr(text, "/x/y.sock") && strstr(text, "connections") && strstr(text, "user "), "%s", text);
    free(text);
}

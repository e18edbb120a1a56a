/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings: defaults, then the configuration file, then the command line, in one struct that does not
 * change once the daemon runs.
 *
 * One table (config_keys) says everything about each setting: section, name, type, range, default and help
 * text. The parser, the messages, `--help`, the manual page and the sample file follow it, and a test holds
 * them to it. All functions are for the starting thread; config_read() is the only one that reads a file.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/engine/engine.h"
#include "daemon/log.h"

#define CONFIG_PATH_DEFAULT "/etc/sockgate/sockgated.conf"

/* Bytes of a text setting with its end; a control path must also fit sockaddr_un. */
#define CONFIG_TEXT_MAX     108u
/* Longest line of a configuration file. */
#define CONFIG_LINE_MAX     199u
/* Bytes that a message of this module needs at most. */
#define CONFIG_ERROR_MAX    512u

/* Bytes of a device's SPEC with its end: a DPDK device's arguments may name two paths. */
#define CONFIG_SPEC_MAX     176u

/* CPU numbers are below. */
#define CONFIG_CPUS_MAX     1024

/* Bytes of a device's name with its end. */
#define CONFIG_NAME_MAX     16u

/** A device. */
struct config_device {
    char spec[CONFIG_SPEC_MAX];
    char name[CONFIG_NAME_MAX]; /* what "dev NAME" calls it */
    uint16_t mtu;               /* 0: network.mtu */
    uint8_t mac[6];
    bool mac_set;                     /* else network.mac, or the device's own */
    bool ra_set, accept_ra;           /* else network.accept_ra */
    char kernel_tap[CONFIG_NAME_MAX]; /* of a dpdk: device; empty: none */
};
struct config_devices {
    uint8_t count;
    struct config_device v[ENGINE_DEV_MAX];
};

/** An interface as a setting names it: "dev NAME", "vlan ID". */
struct config_place {
    char dev[CONFIG_NAME_MAX]; /* empty: not named, the first device */
    uint16_t vlan;             /* 0: untagged */
};

/** Addresses and routes as the settings list them; the interfaces get their numbers in stack.c. */
struct config_addrs {
    uint8_t count;
    bool dhcp; /* and an IPv4 address from a DHCP server: */
    struct config_place dhcp_place;
    struct engine_addr v[ENGINE_ADDR_MAX];
    struct config_place place[ENGINE_ADDR_MAX];
};
struct config_routes {
    uint8_t count;
    struct engine_route v[ENGINE_ROUTE_MAX];
    struct config_place place[ENGINE_ROUTE_MAX];
};

struct config {
    /* [network] */
    struct config_addrs addresses;
    struct config_routes gateways, routes;
    bool ipv6, accept_ra;
    struct config_devices devices;
    uint16_t mtu;   /* of devices that don't say; 0: their own */
    uint8_t mac[6]; /* of the only device */
    bool mac_set;   /* else its own */
    uint32_t probe_ms;

    /* [control] */
    char control_path[CONFIG_TEXT_MAX];
    uint32_t control_mode; /* permission bits of the socket */
    char control_group[CONFIG_TEXT_MAX];
    uint32_t clients_max;

    /* [daemon] */
    char user[CONFIG_TEXT_MAX];
    char secret_file[CONFIG_TEXT_MAX]; /* empty: none */
    enum log_level log_level;
    uint32_t drain_ms;

    /* [worker] */
    uint32_t workers;
    char cpus[CONFIG_TEXT_MAX]; /* where they run, in turn; empty: anywhere */
    uint32_t spin_us;
    uint32_t poll_us;

    /* [dpdk] */
    uint8_t dpdk_huge; /* enum engine_when */
    uint32_t dpdk_memory_mb;
    uint32_t dpdk_descriptors;
    char dpdk_eal[CONFIG_TEXT_MAX];

    /* [session]; the number of sessions stands in `engine`. */
    uint32_t slots;
    uint64_t heap_bytes;
    uint64_t buffer_bytes;
    uint32_t channels;
    uint32_t kick_entries, cmd_entries, event_entries;
    uint8_t raw; /* CONFIG_WHO_* that may make raw sockets */

    /* [limits], [ip] and [tcp]. Interfaces, addresses, routes and the secret come later (stack.c). */
    struct engine_config engine;
};

/* Whose processes may do something, and the words for it in order. */
enum config_who { CONFIG_WHO_NONE, CONFIG_WHO_ROOT, CONFIG_WHO_ALL };
#define CONFIG_WHO_WORDS "none root all"

enum config_type {
    CONFIG_TEXT,   /* any text shorter than CONFIG_TEXT_MAX */
    CONFIG_NUMBER, /* decimal, in [min, max] */
    CONFIG_POWER,  /* CONFIG_NUMBER that is a power of two */
    CONFIG_BYTES,  /* number with an optional K, M or G (powers of 1024) */
    CONFIG_LOG2,   /* CONFIG_BYTES that is a power of two; its logarithm is stored */
    CONFIG_OCTAL,  /* permission bits */
    CONFIG_LEVEL,  /* word of log_level_parse() */
    CONFIG_WHEN,   /* auto, always or never: enum engine_when */
    CONFIG_WORD,   /* one of `words`; its index is stored */
    CONFIG_KEYS,   /* keys of Fast Open: one or two, or empty for none */
    CONFIG_MAC,    /* aa:bb:cc:dd:ee:ff, or empty for none */

    CONFIG_BOOL,     /* yes or no */
    CONFIG_DEVICES,  /* KIND:NAME and what follows; one in a line, repeatable */
    CONFIG_NETWORKS, /* ADDRESS/LEN [dev NAME] [vlan ID], several with commas between; repeatable */
    CONFIG_GATEWAYS, /* addresses of routers, the same way */
    CONFIG_ROUTES,   /* PREFIX/LEN via ADDRESS, the same way */
};

/** One setting. */
struct config_key {
    const char *section, *name;
    enum config_type type;
    uint16_t offset, size; /* of the field in struct config */
    uint64_t min, max;     /* numbers: allowed range; bytes of CONFIG_LOG2 */
    const char *fallback;  /* default, as it would stand in the file */
    const char *option;    /* the command line's short form ("device"), or NULL */
    const char *argument;  /* what the option's argument is called in the help */
    const char *help;      /* one line */
    const char *words;     /* CONFIG_WORD: what is allowed, with single spaces between */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

/** All defaults. */
void config_init(struct config *cfg);

/** The key, or NULL. */
const struct config_key *config_find(const char *section, const char *name);

/**
 * Give one setting a value in text form.
 * @param error  on failure: what is wrong and what is allowed (CONFIG_ERROR_MAX bytes)
 * @return 0, or -EINVAL with nothing changed
 */
int config_set(struct config *cfg, const struct config_key *key, const char *value, char *error);

/** True when a setting may be given several times, each adding to what those before it said. */
bool config_is_list(const struct config_key *key);

/** As config_set(), for a setting that config_is_list(): add to what was set before. */
int config_add(struct config *cfg, const struct config_key *key, const char *value, char *error);

/** The number of the device that a setting calls `name`; empty: the first. -1: there is none. */
int config_device_find(const struct config *cfg, const char *name);
/** The SPECs of all devices, with commas between. */
void config_device_specs(const struct config *cfg, char *buf, size_t bytes);
/** What the device is to have: the MTU, 0 for its own; the hardware address, NULL for its own. */
uint16_t config_device_mtu(const struct config *cfg, unsigned dev);
const uint8_t *config_device_mac(const struct config *cfg, unsigned dev);
bool config_device_ra(const struct config *cfg, unsigned dev);

/** The first IPv4 address; all zero when there is none. */
const uint8_t *config_address4(const struct config *cfg);

/** An address as text, "192.0.2.1" or "2001:db8::1"; returns `buf` (INET6_ADDRSTRLEN bytes). */
const char *config_addr_text(const struct ip_addr *a, char *buf);

/** What a setting's value may be, in words, into `buf`. */
void config_allowed(const struct config_key *key, char *buf, size_t bytes);

/**
 * Read settings from an INI file.
 * @param name   the file's name for messages
 * @param error  on failure: "name:line: what is wrong and what is allowed" (CONFIG_ERROR_MAX bytes)
 * @return 0 or -EINVAL (the settings are then in an unspecified mix of old and new)
 */
int config_read(struct config *cfg, FILE *f, const char *name, char *error);

/** Check settings against each other. Returns 0, or -EINVAL with `error` set (CONFIG_ERROR_MAX bytes). */
int config_check(const struct config *cfg, char *error);

/**
 * The CPU for worker `index`: of the list "0,2-3" its index-th one, from the start again behind its end.
 * -1: the list is empty or makes no sense.
 */
int config_cpu(const char *list, unsigned index);

/** Number with an optional K, M or G. Returns false when it is none. */
bool config_parse_bytes(const char *text, uint64_t *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/session.h"
#include "hw/device.h"

#define OVERRIDES_MAX 128

enum option_code {
    OPT_CONFIG = 1000,
    OPT_SET,
    OPT_CHECK,
    OPT_HELP,
    OPT_VERSION,
    OPT_KEY, /* and above: the setting with this number */
};

/* Options that are no settings; the others come from config_keys. */
static const struct {
    const char *name, *argument, *help;
    enum option_code code;
} own_options[] = {
    {"config", "FILE", "read settings from FILE instead of " CONFIG_PATH_DEFAULT, OPT_CONFIG},
    {"set", "S.KEY=VALUE", "give any setting of the configuration file a value", OPT_SET},
    {"check", NULL, "say what would be done, or what is wrong, and end", OPT_CHECK},
    {"help", NULL, "write this text and end", OPT_HELP},
    {"version", NULL, "write the version and end", OPT_VERSION},
};

#define OWN_COUNT (sizeof(own_options) / sizeof(own_options[0]))

/* A setting from the command line, kept until the file has been read. */
struct override {
    const struct config_key *key;
    const char *value;
};

struct command_line {
    struct override overrides[OVERRIDES_MAX];
    unsigned override_count;
    const char *file; /* --config, or NULL */
};

static int fail(char *error, const char *what, const char *detail)
{
    (void)snprintf(error, CONFIG_ERROR_MAX, "%s%.200s", what, detail);
    return -EINVAL;
}

static int take_override(struct command_line *cl, const struct config_key *key, const char *value,
                         char *error)
{
    if (cl->override_count == OVERRIDES_MAX)
        return fail(error, "too many options; put settings into a file and name it with --config", "");
    cl->overrides[cl->override_count++] = (struct override){key, value};
    return 0;
}

static int take_set(struct command_line *cl, const char *text, char *error)
{
    char section[32], name[64];
    const struct config_key *key;
    int used = 0;

    if (sscanf(text, "%31[a-z].%63[a-z0-9_]=%n", section, name, &used) != 2 || !used)
        return fail(error, "--set: write SECTION.KEY=VALUE, not ", text);
    key = config_find(section, name);
    if (!key)
        return fail(error, "--set: there is no such setting (sockgated --help lists them): ", text);
    return take_override(cl, key, text + used, error);
}

static void build_long_options(struct option *out)
{
    size_t n = 0;

    for (size_t i = 0; i < OWN_COUNT; i++)
        out[n++] =
            (struct option){own_options[i].name, own_options[i].argument ? required_argument : no_argument,
                            NULL, own_options[i].code};
    for (size_t i = 0; i < config_key_count; i++)
        if (config_keys[i].option)
            out[n++] = (struct option){config_keys[i].option, required_argument, NULL, OPT_KEY + (int)i};
    out[n] = (struct option){0};
}

static int read_command_line(int argc, char *argv[], struct command_line *cl, struct options *ret,
                             char *error)
{
    struct option *long_options = calloc(OWN_COUNT + config_key_count + 1, sizeof(*long_options));
    int code, rc = 0;

    if (!long_options)
        return fail(error, "out of memory", "");
    build_long_options(long_options);
    opterr = 0;
    optind = 0;
    while (!rc && (code = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
        switch (code) {
        case OPT_CONFIG:
            cl->file = optarg;
            break;
        case OPT_SET:
            rc = take_set(cl, optarg, error);
            break;
        case OPT_CHECK:
            ret->action = OPTIONS_CHECK;
            break;
        case OPT_HELP:
            ret->action = OPTIONS_HELP;
            break;
        case OPT_VERSION:
            ret->action = OPTIONS_VERSION;
            break;
        case ':':
            rc = fail(error, "this option needs a value (see --help): ", argv[optind - 1]);
            break;
        default:
            if (code >= OPT_KEY)
                rc = take_override(cl, &config_keys[code - OPT_KEY], optarg, error);
            else
                rc = fail(error, "there is no such option (see --help): ", argv[optind - 1]);
        }
    }
    if (!rc && optind < argc)
        rc = fail(error, "sockgated takes options only (see --help), not ", argv[optind]);
    free(long_options);
    return rc;
}

static int read_file(struct config *cfg, const struct command_line *cl, struct options *ret, char *error)
{
    const char *path = cl->file ? cl->file : CONFIG_PATH_DEFAULT;
    FILE *f = fopen(path, "re");
    int rc;

    if (!f) {
        if (errno == ENOENT && !cl->file)
            return 0;
        (void)snprintf(error, CONFIG_ERROR_MAX, "%.200s: can't be opened: %s; name another with --config",
                       path, strerror(errno));
        return -EINVAL;
    }
    (void)snprintf(ret->file, sizeof(ret->file), "%s", path);
    rc = config_read(cfg, f, path, error);
    (void)fclose(f);
    return rc;
}

/* The first of a list on the command line takes the place of what the file says; the others add to it. */
static int apply(struct config *cfg, const struct command_line *cl, unsigned at, char *error)
{
    const struct override *o = &cl->overrides[at];

    for (unsigned i = 0; i < at; i++)
        if (cl->overrides[i].key == o->key && config_is_list(o->key))
            return config_add(cfg, o->key, o->value, error);
    return config_set(cfg, o->key, o->value, error);
}

int options_settle(int argc, char *argv[], struct config *cfg, struct options *ret, char *error)
{
    struct command_line cl = {.file = NULL};
    const char *control = getenv("SOCKGATE_CONTROL");
    int rc;

    memset(ret, 0, sizeof(*ret));
    config_init(cfg);
    rc = read_command_line(argc, argv, &cl, ret, error);
    if (rc || ret->action == OPTIONS_HELP || ret->action == OPTIONS_VERSION)
        return rc;
    rc = read_file(cfg, &cl, ret, error);
    if (!rc && control && *control)
        rc = config_set(cfg, config_find("control", "path"), control, error);
    for (unsigned i = 0; !rc && i < cl.override_count; i++)
        rc = apply(cfg, &cl, i, error);
    return rc ? rc : config_check(cfg, error);
}

/* ---- Texts -------------------------------------------------------------------------------------- */

static void help_option(FILE *out, const char *name, const char *argument, const char *help)
{
    char left[64];

    (void)snprintf(left, sizeof(left), "--%s%s%s", name, argument ? " " : "", argument ? argument : "");
    fprintf(out, "  %-22s %s\n", left, help);
}

void options_help(FILE *out)
{
    const char *section = "";

    fputs("Usage: sockgated [OPTION]...\n"
          "Owns a network device, runs TCP/IP on it and serves the socket calls of applications.\n\n"
          "Options:\n",
          out);
    for (size_t i = 0; i < config_key_count; i++)
        if (config_keys[i].option)
            help_option(out, config_keys[i].option, config_keys[i].argument, config_keys[i].help);
    for (size_t i = 0; i < OWN_COUNT; i++)
        help_option(out, own_options[i].name, own_options[i].argument, own_options[i].help);
    fprintf(out, "\nKinds of devices in this build: %s.\n", device_kinds());
    fputs("\nSettings of the configuration file (" CONFIG_PATH_DEFAULT "), with defaults:\n", out);
    for (size_t i = 0; i < config_key_count; i++) {
        char left[80];

        if (strcmp(section, config_keys[i].section) != 0)
            fprintf(out, "  [%s]\n", section = config_keys[i].section);
        (void)snprintf(left, sizeof(left), "%s = %s", config_keys[i].name, config_keys[i].fallback);
        fprintf(out, "    %-34s %s\n", left, config_keys[i].help);
    }
    fputs("\nExit status: 0 stopped as asked, 1 could not start or the device failed,\n"
          "2 wrong option or configuration. See sockgated(8) and sockgated.conf(5).\n",
          out);
}

static void plan_user(FILE *out, const struct config *cfg)
{
    const struct passwd *pw = getpwuid(geteuid());

    if (cfg->user[0] && geteuid() == 0)
        fprintf(out, "user        %s, from the time the device is open\n", cfg->user);
    else
        fprintf(out, "user        %s (uid %u)\n", pw ? pw->pw_name : "?", (unsigned)geteuid());
}

static void plan_device(FILE *out, const struct config *cfg, unsigned i)
{
    const struct config_device *d = &cfg->devices.v[i];
    const uint8_t *m = config_device_mac(cfg, i);

    fprintf(out, "device      %s, ", d->spec);
    if (cfg->devices.count > 1)
        fprintf(out, "called %s, ", d->name);
    if (config_device_mtu(cfg, i))
        fprintf(out, "MTU %u, ", config_device_mtu(cfg, i));
    else
        fputs("the device's MTU, ", out);
    if (m)
        fprintf(out, "MAC %02x:%02x:%02x:%02x:%02x:%02x\n", m[0], m[1], m[2], m[3], m[4], m[5]);
    else
        fputs("the device's MAC\n", out);
}

/* Which interface it is on, if that needs to be said. */
static void plan_place(FILE *out, const struct config *cfg, const struct config_place *p)
{
    if (cfg->devices.count > 1)
        fprintf(out, " on %s", cfg->devices.v[config_device_find(cfg, p->dev)].name);
    if (p->vlan)
        fprintf(out, " in VLAN %u", p->vlan);
    fputc('\n', out);
}

/* A router without a place is on the link whose network it is in. */
static void plan_route(FILE *out, const struct config *cfg, const struct config_routes *l, unsigned i)
{
    const struct config_place *p = &l->place[i];

    if (p->dev[0] || p->vlan || l->v[i].gateway.scope)
        plan_place(out, cfg, p);
    else
        fputc('\n', out);
}

static void plan_ra(FILE *out, const struct config *cfg)
{
    for (unsigned i = 0; i < cfg->devices.count; i++)
        if (config_device_ra(cfg, i))
            fprintf(out, "            with addresses and routes from router advertisements on %s\n",
                    cfg->devices.v[i].name);
}

static void plan_network(FILE *out, const struct config *cfg)
{
    const struct config_addrs *a = &cfg->addresses;
    char text[INET6_ADDRSTRLEN], via[INET6_ADDRSTRLEN];

    for (unsigned i = 0; i < a->count; i++) {
        fprintf(out, "address     %s/%u", config_addr_text(&a->v[i].addr, text), a->v[i].prefix);
        plan_place(out, cfg, &a->place[i]);
    }
    if (a->dhcp) {
        fputs("address     from a DHCP server", out);
        plan_place(out, cfg, &a->dhcp_place);
    }
    if (!cfg->gateways.count)
        fputs("gateway     none\n", out);
    for (unsigned i = 0; i < cfg->gateways.count; i++) {
        fprintf(out, "gateway     %s", config_addr_text(&cfg->gateways.v[i].gateway, text));
        plan_route(out, cfg, &cfg->gateways, i);
    }
    for (unsigned i = 0; i < cfg->routes.count; i++) {
        fprintf(out, "route       %s/%u via %s", config_addr_text(&cfg->routes.v[i].dst, text),
                cfg->routes.v[i].prefix, config_addr_text(&cfg->routes.v[i].gateway, via));
        plan_route(out, cfg, &cfg->routes, i);
    }
    fprintf(out, "IPv6        %s\n", cfg->ipv6 ? "yes" : "no");
    if (cfg->ipv6)
        plan_ra(out, cfg);
}

void options_plan(FILE *out, const struct config *cfg, const struct options *opts)
{
    const struct engine_config *e = &cfg->engine;

    fprintf(out, "settings    %s%s\n", opts->file[0] ? opts->file : CONFIG_PATH_DEFAULT,
            opts->file[0] ? "" : " does not exist: defaults and options");
    for (unsigned i = 0; i < cfg->devices.count; i++)
        plan_device(out, cfg, i);
    plan_network(out, cfg);
    fprintf(out, "control     %s, mode %04o, group %s, %u connections\n", cfg->control_path,
            cfg->control_mode, cfg->control_group[0] ? cfg->control_group : "the daemon's", cfg->clients_max);
    plan_user(out, cfg);
    fprintf(out, "secret      %s\n",
            cfg->secret_file[0] ? cfg->secret_file : "none stored: addresses change with each start");
    fprintf(out, "sessions    %u, each with %u sockets, %" PRIu64 " MiB of buffers, %" PRIu64 " MiB mapped\n",
            e->session_max, cfg->slots - 1, cfg->buffer_bytes >> 20, session_segment_bytes(cfg) >> 20);
    fprintf(out, "limits      %u connections, %u half open, %u in TIME_WAIT, %u listeners, %u UDP sockets\n",
            e->conn_max, e->req_max, e->tw_max, e->listen_max, e->udp_max);
    fprintf(out, "memory      %zu MiB of connection state, %zu MiB of tables and frames, taken as used\n",
            engine_arena_bytes(e) >> 20, engine_scratch_bytes(e) >> 20);
    fprintf(out, "workers     %u, on %s\n", cfg->workers, cfg->cpus[0] ? cfg->cpus : "any CPU");
    fprintf(out, "waiting     looks for %u us, then sleeps\n", cfg->spin_us);
    fprintf(out, "log         %s and more important\n", log_level_name(cfg->log_level));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* sockgatectl: looks into a running sockgated. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_client.h"
#include "daemon/ctl/ctl_json.h"
#include "daemon/ctl/ctl_show.h"

/* Exit statuses (sockgatectl(8)). */
#define EXIT_OK     0
#define EXIT_FAILED 1
#define EXIT_USAGE  2

/* Pages of one list: a daemon that never ends its list must not keep us for ever. */
#define PAGES_MAX   100000u

struct command {
    const char *name, *help;
    /** Ask and show. `req` is an empty request. Returns 0, or -1 with c->error set. */
    int (*run)(struct ctl *c, const struct show *s, Sockgate__Request *req);
};

/* One page of a list: shows it and says where the next begins. */
typedef uint64_t page_fn(const struct show *s, const Sockgate__Response *res);

static int run_list(struct ctl *c, const struct show *s, const char *name, Sockgate__Request *req,
                    uint64_t *cursor, int answer_case, page_fn *show_page)
{
    unsigned pages = 0;

    if (s->json)
        json_list(s->json, name);
    do {
        Sockgate__Response *res = ctl_request(c, req);

        if (!res)
            return -1;
        *cursor = (int)res->body_case == answer_case ? show_page(s, res) : 0;
        sockgate__response__free_unpacked(res, NULL);
    } while (*cursor && ++pages < PAGES_MAX);
    if (s->json)
        json_close_list(s->json);
    return 0;
}

static uint64_t page_sockets(const struct show *s, const Sockgate__Response *res)
{
    for (size_t i = 0; i < res->sockets->n_sockets; i++)
        show_socket(s, res->sockets->sockets[i]);
    return res->sockets->cursor;
}

static int run_sockets(struct ctl *c, const struct show *s, Sockgate__Request *req)
{
    Sockgate__SocketsRequest body = SOCKGATE__SOCKETS_REQUEST__INIT;

    req->body_case = SOCKGATE__REQUEST__BODY_SOCKETS;
    req->sockets = &body;
    show_sockets_title(s);
    return run_list(c, s, "sockets", req, &body.cursor, SOCKGATE__RESPONSE__BODY_SOCKETS, page_sockets);
}

static uint64_t page_sessions(const struct show *s, const Sockgate__Response *res)
{
    for (size_t i = 0; i < res->sessions->n_sessions; i++)
        show_session(s, res->sessions->sessions[i]);
    return res->sessions->cursor;
}

static int run_sessions(struct ctl *c, const struct show *s, Sockgate__Request *req)
{
    Sockgate__SessionsRequest body = SOCKGATE__SESSIONS_REQUEST__INIT;

    req->body_case = SOCKGATE__REQUEST__BODY_SESSIONS;
    req->sessions = &body;
    show_sessions_title(s);
    return run_list(c, s, "sessions", req, &body.cursor, SOCKGATE__RESPONSE__BODY_SESSIONS, page_sessions);
}

static uint64_t page_neighbors(const struct show *s, const Sockgate__Response *res)
{
    for (size_t i = 0; i < res->neighbors->n_neighbors; i++)
        show_neighbor(s, res->neighbors->neighbors[i]);
    return res->neighbors->cursor;
}

static int run_neighbors(struct ctl *c, const struct show *s, Sockgate__Request *req)
{
    Sockgate__NeighborsRequest body = SOCKGATE__NEIGHBORS_REQUEST__INIT;

    req->body_case = SOCKGATE__REQUEST__BODY_NEIGHBORS;
    req->neighbors = &body;
    show_neighbors_title(s);
    return run_list(c, s, "neighbors", req, &body.cursor, SOCKGATE__RESPONSE__BODY_NEIGHBORS, page_neighbors);
}

static int run_devices(struct ctl *c, const struct show *s, Sockgate__Request *req)
{
    Sockgate__DevicesRequest body = SOCKGATE__DEVICES_REQUEST__INIT;
    Sockgate__Response *res;

    req->body_case = SOCKGATE__REQUEST__BODY_DEVICES;
    req->devices = &body;
    res = ctl_request(c, req);
    if (!res)
        return -1;
    show_devices_title(s);
    if (s->json)
        json_list(s->json, "devices");
    if (res->body_case == SOCKGATE__RESPONSE__BODY_DEVICES)
        for (size_t i = 0; i < res->devices->n_devices; i++)
            show_device(s, res->devices->devices[i]);
    if (s->json)
        json_close_list(s->json);
    sockgate__response__free_unpacked(res, NULL);
    return 0;
}

static int run_stats(struct ctl *c, const struct show *s, Sockgate__Request *req)
{
    Sockgate__StatsRequest body = SOCKGATE__STATS_REQUEST__INIT;
    Sockgate__Response *res;

    body.worker = s->worker;
    req->body_case = SOCKGATE__REQUEST__BODY_STATS;
    req->stats = &body;
    res = ctl_request(c, req);
    if (!res)
        return -1;
    if (s->json)
        json_object(s->json, "stats");
    if (res->body_case == SOCKGATE__RESPONSE__BODY_STATS)
        for (size_t i = 0; i < res->stats->n_counters; i++)
            show_counter(s, res->stats->counters[i]);
    if (s->json)
        json_close_object(s->json);
    sockgate__response__free_unpacked(res, NULL);
    return 0;
}

static int run_version(struct ctl *c, const struct show *s, Sockgate__Request *req)
{
    Sockgate__VersionRequest body = SOCKGATE__VERSION_REQUEST__INIT;
    Sockgate__Response *res;

    req->body_case = SOCKGATE__REQUEST__BODY_VERSION;
    req->version = &body;
    res = ctl_request(c, req);
    if (!res)
        return -1;
    if (res->body_case == SOCKGATE__RESPONSE__BODY_VERSION)
        show_version(s, res->version);
    sockgate__response__free_unpacked(res, NULL);
    return 0;
}

static const struct command commands[] = {
    {"sockets", "all sockets: state, queues, addresses, owner, round trip, window, retransmits", run_sockets},
    {"stats", "every counter by name, drop reasons among them", run_stats},
    {"sessions", "attached processes and what they hold", run_sessions},
    {"neighbors", "hosts on the link", run_neighbors},
    {"devices", "devices: link state, MTU, hardware address, addresses, frames", run_devices},
    {"version", "release, devices and age of the daemon", run_version},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* One table for getopt, the help text and the manual page's test. */
static const struct {
    struct option option;
    const char *left, *help;
} options[] = {
    {{"control", required_argument, NULL, 'c'},
     "--control PATH",
     "the daemon's socket, else SOCKGATE_CONTROL"},
    {{"json", no_argument, NULL, 'j'}, "--json", "write JSON"},
    {{"info", no_argument, NULL, 'i'}, "-i, --info", "sockets: all numbers of each connection"},
    {{"nonzero", no_argument, NULL, 'n'}, "--nonzero", "stats: leave out what is zero"},
    {{"worker", required_argument, NULL, 'w'}, "--worker N", "stats: of one worker, the first is 1"},
    {{"help", no_argument, NULL, 'h'}, "--help", "write this text and end"},
    {{"version", no_argument, NULL, 'V'}, "--version", "write the version of this program and end"},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

static void help(FILE *out)
{
    fputs("Usage: sockgatectl [OPTION]... COMMAND\n"
          "Looks into a running sockgated.\n\n"
          "Commands:\n",
          out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-16s %s\n", commands[i].name, commands[i].help);
    fputs("\nOptions:\n", out);
    for (size_t i = 0; i < OPTION_COUNT; i++)
        fprintf(out, "  %-16s %s\n", options[i].left, options[i].help);
    fputs("\nExit status: 0 done, 1 no daemon or it refused, 2 wrong command line. See sockgatectl(8).\n",
          out);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static int run(const struct command *command, const char *path, struct show *s, bool json)
{
    Sockgate__Request req = SOCKGATE__REQUEST__INIT;
    struct json writer;
    struct ctl c;
    int rc;

    if (ctl_open(&c, path)) {
        fprintf(stderr, "sockgatectl: %s\n", c.error);
        return EXIT_FAILED;
    }
    if (json) {
        json_begin(&writer, stdout);
        s->json = &writer;
    }
    rc = command->run(&c, s, &req);
    if (rc)
        fprintf(stderr, "sockgatectl: %s\n", c.error);
    else if (json)
        json_end(&writer);
    ctl_close(&c);
    if (fflush(stdout) || ferror(stdout)) {
        fputs("sockgatectl: the output can't be written\n", stderr);
        return EXIT_FAILED;
    }
    return rc ? EXIT_FAILED : EXIT_OK;
}

/* 0: it is none. */
static unsigned worker_number(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    return *text >= '1' && *text <= '9' && !*end && n < UINT32_MAX ? (unsigned)n : 0;
}

int main(int argc, char *argv[])
{
    const char *path = getenv("SOCKGATE_CONTROL");
    struct option long_options[OPTION_COUNT + 1] = {0};
    struct show show = {.out = stdout};
    const struct command *command;
    bool json = false;
    int code;

    if (!path || !*path)
        path = CTL_PATH_DEFAULT;
    for (size_t i = 0; i < OPTION_COUNT; i++)
        long_options[i] = options[i].option;
    while ((code = getopt_long(argc, argv, "i", long_options, NULL)) != -1) {
        switch (code) {
        case 'c':
            path = optarg;
            break;
        case 'j':
            json = true;
            break;
        case 'i':
            show.info = true;
            break;
        case 'n':
            show.nonzero = true;
            break;
        case 'w':
            show.worker = worker_number(optarg);
            if (!show.worker) {
                fprintf(stderr, "sockgatectl: --worker %s: workers are numbered from 1 on\n", optarg);
                return EXIT_USAGE;
            }
            break;
        case 'h':
            help(stdout);
            return fflush(stdout) ? EXIT_FAILED : EXIT_OK;
        case 'V':
            puts("sockgatectl " SOCKGATE_VERSION);
            return fflush(stdout) ? EXIT_FAILED : EXIT_OK;
        default: /* getopt has said what is wrong. */
            return EXIT_USAGE;
        }
    }
    if (optind + 1 != argc) {
        fputs("sockgatectl: name one command: sockets, stats, sessions, neighbors, devices or version "
              "(see --help)\n",
              stderr);
        return EXIT_USAGE;
    }
    command = find_command(argv[optind]);
    if (!command) {
        fprintf(stderr, "sockgatectl: there is no command \"%s\" (see --help)\n", argv[optind]);
        return EXIT_USAGE;
    }
    return run(command, path, &show, json);
}

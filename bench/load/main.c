/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of the load generator and of the servers opposite, and its results as JSON. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/load/load.h"
#include "hw/device.h"

static const char usage[] =
    "usage: sockgate-load MODE [OPTION]...\n"
    "modes:  rr crr send receive hold    the generator; needs --to\n"
    "        echo discard source         servers; they run until SIGTERM\n"
    "        devices                     prints the kinds of device that --net engine may name\n"
    "  --net kernel|client|engine        whose TCP (kernel): the kernel's, Sockgate's through "
    "libsockclient,\n"
    "                                    or Sockgate's engine in this process\n"
    "  --device SPEC --address A/LEN     engine: its device and own address\n"
    "  --spin                            engine: poll the device instead of waiting for it\n"
    "  --again                           rr crr send receive: run once more for each line of standard input\n"
    "  --to ADDRESS --port N --ports N   where to connect (port 7, one port)\n"
    "  --connections N --idle N          active ones (64), and others that stay idle (0)\n"
    "  --bytes N                         of a message (64)\n"
    "  --rate N                          rr: requests a second, open loop; 0: closed loop (0)\n"
    "  --warm S --seconds S              before counting, and counted (0.5, 2)\n"
    "  --congestion NAME                 algorithm of every socket (the stack's default)\n";

static volatile int stop;

static void on_term(int signal_number)
{
    (void)signal_number;
    stop = 1;
}

struct arguments {
    struct load_options load;
    struct net_params net;
    const char *net_kind;
    bool spin, again;
};

static const char *const mode_names[] = {
    [LOAD_RR] = "rr",           [LOAD_CRR] = "crr",   [LOAD_SEND] = "send",       [LOAD_HOLD] = "hold",
    [LOAD_RECEIVE] = "receive", [LOAD_ECHO] = "echo", [LOAD_DISCARD] = "discard", [LOAD_SOURCE] = "source"};
#define MODES (sizeof(mode_names) / sizeof(mode_names[0]))

static bool number(const char *text, double min, double max, double *ret)
{
    char *end;

    *ret = strtod(text, &end);
    return end != text && !*end && *ret >= min && *ret <= max;
}

static bool address(const char *text, uint8_t ip[4], uint8_t *prefix)
{
    char copy[32];
    char *slash;
    double len = 24;

    if (strlen(text) >= sizeof(copy))
        return false;
    strcpy(copy, text);
    slash = strchr(copy, '/');
    if (slash)
        *slash++ = '\0';
    if (inet_pton(AF_INET, copy, ip) != 1 || (slash && !number(slash, 1, 32, &len)))
        return false;
    if (prefix)
        *prefix = (uint8_t)len;
    return true;
}

enum {
    O_NET,
    O_DEVICE,
    O_ADDRESS,
    O_SPIN,
    O_TO,
    O_PORT,
    O_PORTS,
    O_CONNECTIONS,
    O_IDLE,
    O_BYTES,
    O_RATE,
    O_WARM,
    O_SECONDS,
    O_CONGESTION,
    O_AGAIN
};

static const struct option options[] = {
    {"net", required_argument, NULL, O_NET},         {"device", required_argument, NULL, O_DEVICE},
    {"address", required_argument, NULL, O_ADDRESS}, {"spin", no_argument, NULL, O_SPIN},
    {"to", required_argument, NULL, O_TO},           {"port", required_argument, NULL, O_PORT},
    {"ports", required_argument, NULL, O_PORTS},     {"connections", required_argument, NULL, O_CONNECTIONS},
    {"idle", required_argument, NULL, O_IDLE},       {"bytes", required_argument, NULL, O_BYTES},
    {"rate", required_argument, NULL, O_RATE},       {"warm", required_argument, NULL, O_WARM},
    {"seconds", required_argument, NULL, O_SECONDS}, {"congestion", required_argument, NULL, O_CONGESTION},
    {"again", no_argument, NULL, O_AGAIN},           {NULL, 0, NULL, 0},
};

static bool whole(const char *text, double min, double max, unsigned *ret)
{
    double v;
    bool good = number(text, min, max, &v);

    *ret = good ? (unsigned)v : 0;
    return good;
}

static bool take(struct arguments *a, int option, const char *value)
{
    unsigned v = 0;
    bool good = true;

    switch (option) {
    case O_NET:
        a->net_kind = value;
        return true;
    case O_DEVICE:
        a->net.device = value;
        return true;
    case O_ADDRESS:
        return address(value, a->net.address, &a->net.prefix);
    case O_SPIN:
        a->spin = true;
        return true;
    case O_TO:
        return address(value, a->load.to, NULL);
    case O_PORT:
        good = whole(value, 1, 65535, &v);
        a->load.port = (uint16_t)v;
        return good;
    case O_PORTS:
        return whole(value, 1, 64, &a->load.ports);
    case O_CONNECTIONS:
        return whole(value, 1, 1000000, &a->load.connections);
    case O_IDLE:
        return whole(value, 0, 1000000, &a->load.idle);
    case O_BYTES:
        good = whole(value, 1, 1 << 30, &v);
        a->load.bytes = v;
        return good;
    case O_RATE:
        return number(value, 0, 1e9, &a->load.rate);
    case O_WARM:
        return number(value, 0, 3600, &a->load.warm_s);
    case O_SECONDS:
        return number(value, 0.001, 3600, &a->load.seconds);
    case O_AGAIN:
        a->again = true;
        return true;
    case O_CONGESTION:
        a->net.congestion = value;
        return true;
    default:
        return false;
    }
}

static bool parse(int argc, char **argv, struct arguments *a)
{
    int o, at;
    unsigned mode = 0;

    *a = (struct arguments){
        .load = {.port = 7, .ports = 1, .connections = 64, .bytes = 64, .warm_s = 0.5, .seconds = 2},
        .net_kind = "kernel",
    };
    while ((o = getopt_long(argc, argv, "", options, &at)) != -1) {
        if (o == '?')
            return false;
        if (!take(a, o, optarg)) {
            fprintf(stderr, "sockgate-load: --%s does not take \"%s\"\n", options[at].name, optarg);
            return false;
        }
    }
    while (mode < MODES && (optind != argc - 1 || strcmp(argv[optind], mode_names[mode]) != 0))
        mode++;
    if (mode == MODES) {
        fprintf(stderr, "%s", usage);
        return false;
    }
    a->load.mode = (enum load_mode)mode;
    a->net.connections = a->load.connections + a->load.idle + a->load.ports;
    if (mode < LOAD_ECHO && !a->load.to[0]) {
        fprintf(stderr, "sockgate-load: %s needs --to ADDRESS\n", mode_names[mode]);
        return false;
    }
    return true;
}

static int open_net(const struct arguments *a, struct net **ret, char error[NET_ERROR_MAX])
{
    struct rlimit files = {.rlim_cur = a->net.connections + 64, .rlim_max = a->net.connections + 64};

    if (!strcmp(a->net_kind, "client"))
        return net_client_open(&a->net, ret, error);
    if (!strcmp(a->net_kind, "kernel")) {
        if (files.rlim_cur > 1024 && setrlimit(RLIMIT_NOFILE, &files)) {
            (void)snprintf(error, NET_ERROR_MAX, "%u descriptors are more than this user may have",
                           (unsigned)files.rlim_cur);
            return -errno;
        }
        return net_kernel_open(&a->net, ret, error);
    }
    if (!strcmp(a->net_kind, "engine") && a->net.device && a->net.address[0])
        return net_engine_open(&a->net, ret, error);
    (void)snprintf(error, NET_ERROR_MAX, "--net takes kernel, client, or engine with --device and --address");
    return -EINVAL;
}

/* Times in microseconds. The buckets that hold something: [upper edge, count], ... */
static void print_times(const struct hist *h)
{
    static const struct {
        const char *name;
        double fraction;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"p9999", 0.9999}};
    bool first = true;

    printf("\"latency_us\": {\"min\": %.3f, \"mean\": %.3f", h->count ? (double)h->min / 1e3 : 0.0,
           h->count ? (double)h->sum / (double)h->count / 1e3 : 0.0);
    for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++)
        printf(", \"%s\": %.3f", points[i].name, (double)hist_quantile(h, points[i].fraction) / 1e3);
    printf(", \"max\": %.3f}, \"buckets_us\": [", (double)h->max / 1e3);
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        if (!h->bucket[i])
            continue;
        printf("%s[%.3f, %" PRIu64 "]", first ? "" : ", ", (double)hist_upper(i) / 1e3, h->bucket[i]);
        first = false;
    }
    printf("]");
}

static void print_result(const struct arguments *a, const struct load_result *r)
{
    printf("{\"mode\": \"%s\", \"net\": \"%s\", \"connections\": %u, \"idle\": %u, \"bytes\": %zu, "
           "\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"count\": %" PRIu64 ", \"rate\": %.3f, "
           "\"bytes_per_second\": %.1f, \"errors\": %" PRIu64 ", \"unsent\": %" PRIu64 ", ",
           mode_names[a->load.mode], a->net_kind, a->load.connections, a->load.idle, a->load.bytes,
           r->seconds, r->cpu_seconds, r->count, r->seconds > 0 ? (double)r->count / r->seconds : 0.0,
           r->seconds > 0 ? (double)r->bytes / r->seconds : 0.0, r->errors, r->unsent);
    print_times(&r->latency);
    printf("}\n");
}

static int generate(struct net *net, const struct arguments *a, char error[NET_ERROR_MAX])
{
    static struct load_result result;
    bool more = true;
    int rc = 0;

    while (more && !rc) {
        net->spin = a->spin;
        rc = load_run(net, &a->load, &result, error);
        if (rc || a->load.mode == LOAD_HOLD)
            break;
        print_result(a, &result);
        (void)fflush(stdout);
        net->spin = false; /* the core is somebody else's meanwhile */
        more = a->again && load_pause(net, &rc);
    }
    return rc;
}

int main(int argc, char **argv)
{
    char error[NET_ERROR_MAX] = "";
    struct arguments a;
    struct net *net;
    int rc;

    if (argc == 2 && !strcmp(argv[1], "devices")) {
        puts(device_kinds());
        return 0;
    }
    if (!parse(argc, argv, &a))
        return 2;
    (void)signal(SIGTERM, on_term);
    (void)signal(SIGINT, on_term);
    rc = open_net(&a, &net, error);
    if (!rc) {
        net->spin = a.spin;
        rc = a.load.mode >= LOAD_ECHO ? serve_run(net, &a.load, &stop, error) : generate(net, &a, error);
        net->ops->free(net);
    }
    if (rc) {
        fprintf(stderr, "sockgate-load: %s\n", error[0] ? error : strerror(-rc));
        return 1;
    }
    return 0;
}

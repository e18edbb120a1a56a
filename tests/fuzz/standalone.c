/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without libFuzzer, so that any compiler and `meson test` can.
 *
 *   TARGET [-s SEED] [-t SECONDS] [-n RUNS] [-o DIR] PATH...
 *
 * Files, and all files of directories, are run as they are; then mutations and mixtures of them, and random
 * inputs, until the time or the number of runs is over. The seed is printed; the same seed, number and corpus
 * give the same inputs. An input that crashes or hangs is written to DIR/crash-<name>.
 */
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX     4096u
#define CORPUS_MAX    512u
#define HANG_S        30 /* one input takes milliseconds */
#define MUTATIONS_MAX 16u

struct corpus_file {
    uint8_t *data;
    size_t size;
};

static struct corpus_file corpus[CORPUS_MAX];
static unsigned corpus_count;

static uint8_t current[INPUT_MAX];
static volatile size_t current_size;
static char crash_path[512];

/* Sanitizer reports end in abort(), so that the handler below keeps the input. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "abort_on_error=1:handle_segv=0:handle_sigfpe=0:handle_sigill=0:handle_sigbus=0:allocator_may_"
           "return_null=1";
}

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return "halt_on_error=1:abort_on_error=1:print_stacktrace=1";
}

static uint64_t rnd(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static size_t below(uint64_t *state, size_t n)
{
    return n ? (size_t)(rnd(state) % n) : 0;
}

static void save_and_die(int sig)
{
    static const char msg[] = "standalone: the input is kept as ";
    int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (fd >= 0) {
        (void)!write(fd, current, current_size);
        (void)close(fd);
        (void)!write(2, msg, sizeof(msg) - 1);
        (void)!write(2, crash_path, strlen(crash_path));
        (void)!write(2, "\n", 1);
    }
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

static void run(const uint8_t *data, size_t size)
{
    struct itimerval limit = {.it_value.tv_sec = HANG_S};
    uint8_t *copy = malloc(size ? size : 1); /* exactly as large as the input: no read past the end hides */

    assert(copy);
    memcpy(copy, data, size);
    if (data != current)
        memcpy(current, data, size);
    current_size = size;
    (void)setitimer(ITIMER_REAL, &limit, NULL);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void load_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct corpus_file *c = &corpus[corpus_count];

    if (!f || corpus_count == CORPUS_MAX) {
        (void)fprintf(stderr, "standalone: cannot use %s\n", path);
        exit(2);
    }
    c->data = malloc(INPUT_MAX);
    assert(c->data);
    c->size = fread(c->data, 1, INPUT_MAX, f);
    (void)fclose(f);
    corpus_count++;
}

static int name_cmp(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void load(const char *path)
{
    struct stat st;
    struct dirent *d;
    char *names[CORPUS_MAX];
    unsigned n = 0;
    DIR *dir;

    if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        load_file(path);
        return;
    }
    dir = opendir(path);
    assert(dir);
    while ((d = readdir(dir)) && n < CORPUS_MAX)
        if (d->d_name[0] != '.')
            names[n++] = strdup(d->d_name);
    (void)closedir(dir);
    qsort(names, n, sizeof(names[0]), name_cmp); /* the order of the directory must not matter */
    for (unsigned i = 0; i < n; i++) {
        char full[1024];

        (void)snprintf(full, sizeof(full), "%s/%s", path, names[i]);
        load_file(full);
        free(names[i]);
    }
}

/* One change: overwrite, insert, remove, copy, or numbers that sit at the edges. */
static size_t mutate(uint64_t *s, uint8_t *b, size_t n)
{
    static const uint8_t edges[] = {0, 1, 2, 7, 8, 15, 16, 63, 64, 127, 128, 254, 255};
    size_t at = below(s, n + 1);
    size_t len;

    switch (below(s, 8)) {
    case 0: /* flip a bit */
        if (at < n)
            b[at] ^= (uint8_t)(1u << below(s, 8));
        break;
    case 1:
        if (at < n)
            b[at] = (uint8_t)rnd(s);
        break;
    case 2:
        if (at < n)
            b[at] = edges[below(s, sizeof(edges))];
        break;
    case 3: /* a little more or less */
        if (at < n)
            b[at] = (uint8_t)(b[at] + below(s, 9) - 4);
        break;
    case 4: /* insert random bytes */
        len = 1 + below(s, 16);
        if (n + len <= INPUT_MAX) {
            memmove(b + at + len, b + at, n - at);
            for (size_t i = 0; i < len; i++)
                b[at + i] = (uint8_t)rnd(s);
            n += len;
        }
        break;
    case 5: /* remove */
        len = below(s, n - at < 32 ? n - at + 1 : 33);
        memmove(b + at, b + at + len, n - at - len);
        n -= len;
        break;
    case 6: /* repeat a piece */
        len = below(s, n - at < 64 ? n - at + 1 : 65);
        if (n + len <= INPUT_MAX) {
            memmove(b + at + len, b + at, n - at);
            n += len;
        }
        break;
    default: /* splice with the tail of another file */
        if (corpus_count) {
            const struct corpus_file *c = &corpus[below(s, corpus_count)];
            size_t from = below(s, c->size + 1);

            len = c->size - from;
            if (len > INPUT_MAX - at)
                len = INPUT_MAX - at;
            memcpy(b + at, c->data + from, len);
            n = at + len;
        }
        break;
    }
    return n;
}

static size_t make_input(uint64_t *s)
{
    size_t n;

    if (!corpus_count || below(s, 8) == 0) { /* wholly random */
        n = below(s, 2) ? below(s, 64) : below(s, 600);
        for (size_t i = 0; i < n; i++)
            current[i] = (uint8_t)rnd(s);
        return n;
    }
    {
        const struct corpus_file *c = &corpus[below(s, corpus_count)];

        memcpy(current, c->data, c->size);
        n = c->size;
    }
    for (size_t i = 1 + below(s, MUTATIONS_MAX); i; i--)
        n = mutate(s, current, n);
    return n;
}

static double now_s(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGALRM};
    const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    const char *dir = ".";
    uint64_t seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
    double seconds = 0, start = now_s();
    uint64_t runs = 0, max = UINT64_MAX, state;
    int opt;

    while ((opt = getopt(argc, argv, "s:t:n:o:")) != -1) {
        switch (opt) {
        case 's':
            seed = strtoull(optarg, NULL, 0);
            break;
        case 't':
            seconds = strtod(optarg, NULL);
            break;
        case 'n':
            max = strtoull(optarg, NULL, 0);
            break;
        case 'o':
            dir = optarg;
            break;
        default:
            return 2;
        }
    }
    (void)snprintf(crash_path, sizeof(crash_path), "%s/crash-%s", dir, name);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        (void)signal(signals[i], save_and_die);
    (void)printf("%s: seed %" PRIu64 "\n", name, seed);
    (void)fflush(stdout);
    for (int i = optind; i < argc; i++)
        load(argv[i]);
    for (unsigned i = 0; i < corpus_count; i++)
        run(corpus[i].data, corpus[i].size);
    for (state = seed; runs < max && (max != UINT64_MAX || now_s() - start < seconds); runs++) {
        if (seconds > 0 && now_s() - start >= seconds)
            break;
        run(current, make_input(&state));
    }
    (void)printf("%s: %u files, %" PRIu64 " more inputs in %.1f s\n", name, corpus_count, runs,
                 now_s() - start);
    for (unsigned i = 0; i < corpus_count; i++)
        free(corpus[i].data);
    return 0;
}

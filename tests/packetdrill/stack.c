/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/packetdrill/stack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define START_US      UINT64_C(1000000000)
#define FRAME_MAX     (PD_ETH_BYTES + 65535u)
#define ETHERTYPE_IP4 0x0800u
#define ETHERTYPE_ARP 0x0806u
#define ARP_BYTES     28u
#define TCP_FLAG_FIN  0x01u
#define TCP_FLAG_PSH  0x08u

/* packetdrill spins on the clock for the last 20 us before an event; a clock that stands still would hang it.
 * Between two events it reads the clock fewer times than this. */
#define STILL_READS   16u

/* Longer than any command in a script takes, shorter than the second that packetdrill waits for a call. */
#define SILENCE_MS    300

struct pd_stack pd = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .settled = PTHREAD_COND_INITIALIZER,
    .call_deadline_us = PD_NEVER,
    .out_tail = &pd.out,
    .start_us = START_US,
};

/* Set between the return of a call that had slept and packetdrill's reading of the clock. */
static _Thread_local bool leaving;

static const uint8_t peer_mac[6] = {2, 0, 0, 0, 1, 1};

void pd_fail(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("packetdrill_engine: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    fflush(NULL);
    _exit(1);
}

long pd_result(int64_t rc)
{
    if (rc >= 0)
        return (long)rc;
    errno = (int)-rc;
    return -1;
}

/* ---- Start -------------------------------------------------------------------------------------- */

static uint8_t log2_up(unsigned long bytes)
{
    uint8_t log2 = 16;

    while (log2 < 24 && (1ul << log2) < bytes)
        log2++;
    return log2;
}

/* Number of the algorithm, or `other` when the engine has none of this name. */
static uint8_t congestion_of(const char *name, uint8_t other)
{
    size_t length = strcspn(name, " \n");
    uint8_t i = 0;

    for (const char *word = ENGINE_CONGESTION_WORDS; *word; i++) {
        size_t n = strcspn(word, " ");

        if (n == length && memcmp(word, name, n) == 0)
            return i;
        word += n + (word[n] == ' ');
    }
    return other;
}

/* Linux's bits of net.ipv4.tcp_fastopen. */
static void fastopen_take(unsigned long bits)
{
    pd.fastopen_off = !(bits & 1);
    pd.fastopen_listeners = bits & 0x400;
    pd.cfg.fastopen_no_cookie = (uint8_t)((bits & 4 ? ENGINE_FO_NO_COOKIE_CLIENT : 0) |
                                          (bits & 0x200 ? ENGINE_FO_NO_COOKIE_SERVER : 0));
}

/* "KEY" or "KEY,KEY", each of four numbers whose lowest byte is the key's first. */
static void fastopen_keys_take(const char *value)
{
    struct fastopen_keys k = {.count = 0};
    unsigned n[4];

    while (k.count < FASTOPEN_KEYS_MAX && value &&
           sscanf(value, "%8x-%8x-%8x-%8x", &n[0], &n[1], &n[2], &n[3]) == 4) {
        memcpy(k.key[k.count++], n, sizeof(n));
        value = strchr(value, ',');
        value += value != NULL;
    }
    pd.cfg.fastopen_keys = k;
}

/* One line of the settings file: the kernel's name of a setting, and what the script wants it to be. */
static void setting_take(const char *name, const char *value)
{
    unsigned long n[3] = {0};
    int fields = sscanf(value, "%lu%*[ ,\t]%lu%*[ ,\t]%lu", &n[0], &n[1], &n[2]);

    if (strcmp(name, "tcp_fastopen") == 0)
        fastopen_take(strtoul(value, NULL, 0));
    if (strcmp(name, "tcp_fastopen_key") == 0)
        fastopen_keys_take(value);
    if (strcmp(name, "tcp_congestion_control") == 0)
        pd.cfg.congestion = congestion_of(value, pd.cfg.congestion);
    if (fields < 1)
        return;
    if (strcmp(name, "tcp_syn_retries") == 0)
        pd.cfg.syn_retries = (uint8_t)n[0];
    else if (strcmp(name, "tcp_synack_retries") == 0)
        pd.cfg.synack_retries = (uint8_t)n[0];
    else if (strcmp(name, "tcp_retries2") == 0)
        pd.cfg.data_retries = (uint8_t)n[0];
    else if (strcmp(name, "tcp_orphan_retries") == 0 && n[0])
        pd.cfg.orphan_retries = (uint8_t)n[0];
    else if (strcmp(name, "tcp_fin_timeout") == 0)
        pd.cfg.fin_wait2_us = (uint32_t)n[0] * 1000000;
    else if (strcmp(name, "tcp_keepalive_time") == 0)
        pd.cfg.keepalive_idle_s = (uint32_t)n[0];
    else if (strcmp(name, "tcp_keepalive_intvl") == 0)
        pd.cfg.keepalive_intvl_s = (uint32_t)n[0];
    else if (strcmp(name, "tcp_keepalive_probes") == 0)
        pd.cfg.keepalive_probes = (uint8_t)n[0];
    else if (strcmp(name, "tso") == 0)
        pd.cut = !n[0];
    else if (strcmp(name, "tcp_ecn") == 0)
        pd.cfg.ecn = (uint8_t)n[0];
    else if (strcmp(name, "tcp_timestamps") == 0)
        pd.cfg.timestamps = n[0] != 0;
    else if (strcmp(name, "tcp_slow_start_after_idle") == 0)
        pd.cfg.idle_restart = n[0] != 0;
    else if (strcmp(name, "tcp_syncookies") == 0)
        pd.cfg.syncookies = n[0] > 1 ? ENGINE_ALWAYS : n[0] ? ENGINE_AUTO : ENGINE_NEVER;
    else if (strcmp(name, "tcp_challenge_ack_limit") == 0)
        pd.cfg.challenge_ack_rate = (uint32_t)n[0];
    else if (strcmp(name, "tcp_rmem") == 0 && fields == 3) {
        pd.cfg.rcvbuf_log2 = log2_up(n[1] / 2);
        pd.cfg.rcvbuf_max_log2 = log2_up(n[2]); /* Linux derives the window scale from the whole of it. */
    } else if (strcmp(name, "tcp_wmem") == 0 && fields == 3) {
        pd.cfg.sndbuf_log2 = log2_up(n[1]);
        pd.cfg.sndbuf_max_log2 = log2_up(n[2]);
    }
}

/* What is new in the file. False: nothing. */
static bool settings_read(void)
{
    struct stat st;
    char line[512];
    FILE *f;

    if (!pd.settings[0] || stat(pd.settings, &st) || st.st_size == pd.settings_read)
        return false; /* The script sets nothing, or nothing more. */
    f = fopen(pd.settings, "r");
    if (!f || fseek(f, pd.settings_read, SEEK_SET))
        pd_fail("no settings: %s", strerror(errno));
    while (fgets(line, sizeof(line), f)) {
        char *value = strchr(line, '=');

        if (value) {
            *value++ = '\0';
            setting_take(line, value);
        }
    }
    pd.settings_read = ftell(f);
    fclose(f);
    return true;
}

void pd_enter(void)
{
    pthread_mutex_lock(&pd.lock);
    pd.reads = 0;
    pd.uses++;
    if (!pd.started) {
        pd.started = true;
        (void)settings_read();
        host_start(&pd.h, &pd.cfg, pd.start_us);
    } else if (settings_read()) {
        pd_settings_change();
    }
}

void pd_leave(void)
{
    pthread_mutex_unlock(&pd.lock);
}

/* ---- The wire ----------------------------------------------------------------------------------- */

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t sum_words(const uint8_t *p, size_t bytes, uint32_t sum)
{
    for (; bytes > 1; bytes -= 2, p += 2)
        sum += (uint32_t)p[0] << 8 | p[1];
    return bytes ? sum + ((uint32_t)p[0] << 8) : sum;
}

static unsigned sum_fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static void eth_header(uint8_t *frame, const uint8_t *src, const uint8_t *dst, unsigned type)
{
    memcpy(frame, dst, 6);
    memcpy(frame + 6, src, 6);
    put16(frame + 12, type);
}

/* Every other address has the same neighbour. */
static void arp_answer(const uint8_t *arp)
{
    uint8_t frame[PD_ETH_BYTES + ARP_BYTES];
    uint8_t *a = frame + PD_ETH_BYTES;

    if (arp[7] != 1 || memcmp(arp + 24, &pd.local, 4) == 0)
        return; /* an announcement or a probe of the own address */
    eth_header(frame, peer_mac, pd.cfg.ifs[0].mac, ETHERTYPE_ARP);
    memcpy(a, arp, 6);
    put16(a + 6, 2);
    memcpy(a + 8, peer_mac, 6);
    memcpy(a + 14, arp + 24, 4);
    memcpy(a + 18, arp + 8, 10);
    host_rx_bytes(&pd.h, frame, sizeof(frame));
}

/* Whether the stack's checksums are right, independently of packetdrill's own look at them. One left to the
 * device is filled in first. */
static void check_sums(const struct pktbuf *p, uint8_t *ip, size_t bytes)
{
    size_t header = (ip[0] & 15u) * 4;
    uint32_t pseudo;

    if (bytes < header + 8 || (ip[9] != IPPROTO_TCP && ip[9] != IPPROTO_UDP))
        return;
    if (p->flags & PKT_CSUM_PARTIAL) {
        uint8_t *at = p->data + p->csum_start;
        unsigned sum = sum_fold(sum_words(at, p->len - p->csum_start, 0));

        put16(at + p->csum_offset, ~sum & 0xffff);
    }
    if (sum_fold(sum_words(ip, header, 0)) != 0xffff)
        pd_fail("bad IP header checksum from the stack");
    if ((ip[6] & 0x3f) || ip[7] || (ip[9] == IPPROTO_UDP && !ip[header + 6] && !ip[header + 7]))
        return; /* a fragment, or UDP without a checksum */
    pseudo = sum_words(ip + 12, 8, 0) + ip[9] + (uint32_t)(bytes - header);
    if (sum_fold(sum_words(ip + header, bytes - header, pseudo)) != 0xffff)
        pd_fail("bad transport checksum from the stack");
}

static void packet_queue(const uint8_t *ip, size_t bytes)
{
    struct pd_packet *out = malloc(sizeof(*out) + bytes);

    if (!out)
        pd_fail("no memory");
    out->next = NULL;
    out->time_us = pd.h.now_us;
    out->bytes = bytes;
    memcpy(out->ip, ip, bytes);
    *pd.out_tail = out;
    pd.out_tail = &out->next;
}

/* Fill in both checksums. */
static void fill_sums(uint8_t *ip, size_t bytes)
{
    size_t header = (ip[0] & 15u) * 4;
    uint32_t pseudo = sum_words(ip + 12, 8, 0) + ip[9] + (uint32_t)(bytes - header);

    put16(ip + 10, 0);
    put16(ip + 10, ~sum_fold(sum_words(ip, header, 0)) & 0xffff);
    put16(ip + header + 16, 0);
    put16(ip + header + 16, ~sum_fold(sum_words(ip + header, bytes - header, pseudo)) & 0xffff);
}

/* What a device makes of a frame larger than the MTU: FIN and PSH on the last segment only. */
static void packet_cut(const uint8_t *ip, size_t bytes, size_t header, size_t mss)
{
    uint8_t segment[UINT16_MAX];
    size_t tcp = (ip[0] & 15u) * 4;
    uint32_t seq;

    memcpy(&seq, ip + tcp + 4, sizeof(seq));
    for (size_t at = header; at < bytes; at += mss) {
        size_t len = bytes - at < mss ? bytes - at : mss;
        uint32_t own = htonl(ntohl(seq) + (uint32_t)(at - header));

        memcpy(segment, ip, header);
        memcpy(segment + header, ip + at, len);
        memcpy(segment + tcp + 4, &own, sizeof(own));
        put16(segment + 2, (unsigned)(header + len));
        if (at + len < bytes)
            segment[tcp + 13] &= (uint8_t) ~(TCP_FLAG_PSH | TCP_FLAG_FIN);
        fill_sums(segment, header + len);
        packet_queue(segment, header + len);
    }
}

static void packet_out(const struct pktbuf *p)
{
    uint8_t *ip = p->data + PD_ETH_BYTES;
    size_t bytes = (size_t)ip[2] << 8 | ip[3];

    if (bytes > p->len - PD_ETH_BYTES)
        pd_fail("IP length %zu in a frame of %u bytes from the stack", bytes, p->len);
    check_sums(p, ip, bytes);
    if (pd.cut && p->gso_type == PKT_GSO_TCP4)
        packet_cut(ip, bytes, p->hdr_len - PD_ETH_BYTES, p->gso_size);
    else
        packet_queue(ip, bytes);
}

static void pump(void)
{
    struct pktbuf *p;

    while ((p = host_tx(&pd.h))) {
        unsigned type = (unsigned)p->data[12] << 8 | p->data[13];

        if (type == ETHERTYPE_ARP && p->len >= PD_ETH_BYTES + ARP_BYTES)
            arp_answer(p->data + PD_ETH_BYTES);
        else if (type == ETHERTYPE_IP4 && p->len >= PD_ETH_BYTES + 20)
            packet_out(p);
    }
    if (pd.h.fault)
        pd_fail("the engine says that its application broke the contract: %s", pd.h.fault);
}

void pd_inject(const uint8_t *ip, size_t bytes)
{
    static uint8_t frame[FRAME_MAX];
    struct pktbuf p = {.data = frame, .len = (uint32_t)(PD_ETH_BYTES + bytes)};

    if (bytes > FRAME_MAX - PD_ETH_BYTES)
        pd_fail("packet of %zu bytes", bytes);
    eth_header(frame, peer_mac, pd.cfg.ifs[0].mac, ETHERTYPE_IP4);
    memcpy(frame + PD_ETH_BYTES, ip, bytes);
    p.total = p.len;
    if (bytes > pd.cfg.ifs[0].mtu &&
        ip[9] == IPPROTO_TCP) { /* what a device that merges segments hands over */
        size_t header = (ip[0] & 15u) * 4;

        p.gso_type = PKT_GSO_TCP4;
        p.hdr_len = (uint16_t)(PD_ETH_BYTES + header + (ip[header + 12] >> 4) * 4u);
        p.gso_size = (uint16_t)(pd.cfg.ifs[0].mtu - (p.hdr_len - PD_ETH_BYTES));
    }
    host_rx(&pd.h, &p);
    pd_settle();
}

/* ---- Clock and blocked calls -------------------------------------------------------------------- */

void pd_settle(void)
{
    pump();
    pd_watch_edges();
    if (!pd.asleep)
        return;
    pd.running += pd.asleep;
    pd.asleep = 0;
    pd.call_deadline_us = PD_NEVER;
    pd.generation++;
    pthread_cond_broadcast(&pd.wake);
    while (pd.running)
        pthread_cond_wait(&pd.settled, &pd.lock);
}

static uint64_t next_deadline(void)
{
    uint64_t engine_us = engine_deadline(pd.h.e);
    uint64_t next = engine_us < pd.call_deadline_us ? engine_us : pd.call_deadline_us;

    return next > pd.h.now_us ? next : pd.h.now_us + 1; /* It may be overdue, and the wheel may round down. */
}

void pd_advance(uint64_t until_us)
{
    while (pd.h.now_us < until_us) {
        uint64_t next = next_deadline();

        pd.h.now_us = next < until_us ? next : until_us;
        host_run(&pd.h);
        pd_settle();
    }
}

/* Sleep until somebody wakes the blocked calls (true), or for SILENCE_MS of real time in which nobody used
 * the stack at all. */
static bool sleep_awhile(void)
{
    uint64_t generation = pd.generation;
    uint64_t uses;
    struct timespec end;
    int rc;

    do {
        uses = pd.uses;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_nsec += SILENCE_MS * 1000000;
        end.tv_sec += end.tv_nsec / 1000000000;
        end.tv_nsec %= 1000000000;
        rc = pthread_cond_timedwait(&pd.wake, &pd.lock, &end);
    } while (pd.generation == generation && (rc != ETIMEDOUT || pd.uses != uses));
    return pd.generation != generation;
}

static void sleep_once(uint64_t deadline_us)
{
    if (leaving) { /* It was woken and found nothing. */
        leaving = false;
        pd.running--;
        pthread_cond_signal(&pd.settled);
    }
    pd.asleep++;
    if (deadline_us < pd.call_deadline_us)
        pd.call_deadline_us = deadline_us;
    if (sleep_awhile()) {
        leaving = true;
        return;
    }
    /* packetdrill waits for this call before it goes on with the script: nobody else moves the clock. */
    pd.asleep--;
    pd.call_deadline_us = PD_NEVER;
    if (next_deadline() != PD_NEVER || deadline_us != PD_NEVER)
        pd_advance(next_deadline() < deadline_us ? next_deadline() : deadline_us);
}

bool pd_block(uint64_t deadline_us)
{
    if (deadline_us <= pd.h.now_us)
        return false;
    if (pthread_equal(pthread_self(), pd.driver)) {
        uint64_t next = next_deadline();

        if (next == PD_NEVER && deadline_us == PD_NEVER)
            pd_fail("a call that the script doesn't expect to block would block for ever");
        pd_advance(next < deadline_us ? next : deadline_us);
    } else {
        sleep_once(deadline_us);
    }
    return true;
}

struct pd_packet *pd_next_packet(void)
{
    uint64_t limit = pd.h.now_us + pd.wait_max_us;
    struct pd_packet *p;

    while (!pd.out) {
        uint64_t next = next_deadline();

        if (next > limit)
            pd_fail("no packet from the stack within %llu s (virtual time)",
                    (unsigned long long)(pd.wait_max_us / 1000000));
        pd_advance(next);
    }
    p = pd.out;
    pd.out = p->next;
    if (!pd.out)
        pd.out_tail = &pd.out;
    return p;
}

uint64_t pd_clock_read(void)
{
    uint64_t now;

    pthread_mutex_lock(&pd.lock);
    pd.uses++;
    if (leaving) { /* a call that had slept is done: its time of return is being noted */
        leaving = false;
        pd.running--;
        pthread_cond_signal(&pd.settled);
        now = pd.h.now_us;
    } else if (!pd.started) {
        now = pd.start_us++;
    } else {
        if (++pd.reads > STILL_READS)
            pd_advance(pd.h.now_us + 1);
        now = pd.h.now_us;
    }
    pthread_mutex_unlock(&pd.lock);
    return now;
}

/* ---- Descriptors -------------------------------------------------------------------------------- */

struct pd_fd *pd_fd_get(int fd, enum pd_kind kind)
{
    if (fd < 0 || fd >= PD_FDS || pd.fds[fd].kind == PD_NONE) {
        errno = EBADF;
        return NULL;
    }
    if (pd.fds[fd].kind != kind) {
        errno = kind == PD_SOCKET ? ENOTSOCK : EINVAL;
        return NULL;
    }
    return &pd.fds[fd];
}

int pd_fd_new(enum pd_kind kind)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return -1;
    if (fd >= PD_FDS) {
        close(fd);
        errno = EMFILE;
        return -1;
    }
    pd.fds[fd] = (struct pd_fd){.kind = kind, .file_flags = O_RDWR, .rcv_us = PD_NEVER, .snd_us = PD_NEVER};
    return fd;
}

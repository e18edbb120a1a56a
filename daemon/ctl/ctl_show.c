/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/ctl/ctl_show.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/ctl/ctl_info.h"

#define ADDRESS_TEXT_MAX (INET6_ADDRSTRLEN + 2)
#define ENDPOINT_MAX     (ADDRESS_TEXT_MAX + 12)

static void address_text(const ProtobufCBinaryData *a, char *ret)
{
    char text[INET6_ADDRSTRLEN];

    if (a->len == 4 && inet_ntop(AF_INET, a->data, text, sizeof(text)))
        (void)snprintf(ret, ADDRESS_TEXT_MAX, "%s", text);
    else if (a->len == 16 && inet_ntop(AF_INET6, a->data, text, sizeof(text)))
        (void)snprintf(ret, ADDRESS_TEXT_MAX, "[%s]", text);
    else
        (void)snprintf(ret, ADDRESS_TEXT_MAX, "*");
}

/* "10.0.0.1:80"; no port is "*", as ss writes it. */
static void endpoint_text(const ProtobufCBinaryData *a, uint32_t port, char *ret)
{
    char address[ADDRESS_TEXT_MAX];

    address_text(a, address);
    if (port)
        (void)snprintf(ret, ENDPOINT_MAX, "%s:%u", address, port);
    else
        (void)snprintf(ret, ENDPOINT_MAX, "%s:*", address);
}

static void mac_text(const ProtobufCBinaryData *m, char *ret, size_t bytes)
{
    if (m->len == 6)
        (void)snprintf(ret, bytes, "%02x:%02x:%02x:%02x:%02x:%02x", m->data[0], m->data[1], m->data[2],
                       m->data[3], m->data[4], m->data[5]);
    else
        (void)snprintf(ret, bytes, "-");
}

/* ---- Sockets ---------------------------------------------------------------------------------------- */

void show_sockets_title(const struct show *s)
{
    if (!s->json)
        fprintf(s->out, "%-5s %-12s %8s %8s %23s %23s %s\n", "Netid", "State", "Recv-Q", "Send-Q",
                "Local Address:Port", "Peer Address:Port", "Process");
}

/* A TCP connection: not a listener, not in TIME_WAIT, where nothing is measured any more. */
static bool is_connection(const Sockgate__Socket *m)
{
    return !strcmp(m->kind, "tcp") && m->mss && strcmp(m->state, "LISTEN") != 0;
}

/* False: a daemon of another release doesn't tell. */
static bool tcp_info(const Sockgate__Socket *m, struct sg_tcp_info *ret)
{
    if (!is_connection(m) || m->tcp_info.len != sizeof(*ret))
        return false;
    memcpy(ret, m->tcp_info.data, sizeof(*ret));
    return true;
}

static void socket_json(const struct show *s, const Sockgate__Socket *m)
{
    struct json *j = s->json;
    char local[ADDRESS_TEXT_MAX], peer[ADDRESS_TEXT_MAX];
    struct sg_tcp_info info;

    address_text(&m->local_addr, local);
    address_text(&m->remote_addr, peer);
    json_object(j, NULL);
    json_string(j, "netid", m->kind);
    json_string(j, "state", m->state);
    json_number(j, "recv_q", m->rx_queue);
    json_number(j, "send_q", m->tx_queue);
    json_string(j, "local_address", local);
    json_number(j, "local_port", m->local_port);
    json_string(j, "peer_address", peer);
    json_number(j, "peer_port", m->remote_port);
    json_integer(j, "session", m->session);
    json_number(j, "slot", m->slot);
    json_integer(j, "pid", m->pid);
    json_string(j, "program", m->program);
    json_number(j, "rtt_us", m->srtt_us);
    json_number(j, "rttvar_us", m->rttvar_us);
    json_number(j, "rto_us", m->rto_us);
    json_number(j, "cwnd_bytes", m->cwnd_bytes);
    json_number(j, "ssthresh_bytes", m->ssthresh_bytes);
    json_number(j, "mss", m->mss);
    json_number(j, "snd_wnd", m->snd_wnd);
    json_number(j, "rcv_wnd", m->rcv_wnd);
    json_number(j, "retransmits", m->retransmits);
    json_number(j, "backoff", m->backoff);
    json_number(j, "bytes_sent", m->bytes_sent);
    json_number(j, "bytes_acked", m->bytes_acked);
    json_number(j, "bytes_received", m->bytes_received);
    json_number(j, "segs_in", m->segs_in);
    json_number(j, "segs_out", m->segs_out);
    json_string(j, "cc", m->cc);
    json_string(j, "timer", m->timer);
    json_number(j, "timer_us", m->timer_us);
    if (tcp_info(m, &info))
        info_json(j, "tcp_info", &info);
    json_close_object(j);
}

static void socket_numbers(const struct show *s, const Sockgate__Socket *m)
{
    struct sg_tcp_info info;

    fprintf(s->out, "      rtt:%.3f/%.3fms cwnd:%u retrans:%u", m->srtt_us / 1000.0, m->rttvar_us / 1000.0,
            m->cwnd_bytes, m->retransmits);
    if (s->info) {
        fprintf(s->out, " rto:%.0fms mss:%u ssthresh:%u backoff:%u snd_wnd:%u rcv_wnd:%u cc:%s",
                m->rto_us / 1000.0, m->mss, m->ssthresh_bytes, m->backoff, m->snd_wnd, m->rcv_wnd, m->cc);
        fprintf(s->out,
                " bytes_sent:%" PRIu64 " bytes_acked:%" PRIu64 " bytes_received:%" PRIu64 " segs_out:%" PRIu64
                " segs_in:%" PRIu64,
                m->bytes_sent, m->bytes_acked, m->bytes_received, m->segs_out, m->segs_in);
        if (tcp_info(m, &info))
            info_text(s->out, &info);
    }
    (void)fputc('\n', s->out);
}

void show_socket(const struct show *s, const Sockgate__Socket *m)
{
    char local[ENDPOINT_MAX], peer[ENDPOINT_MAX];

    if (s->json) {
        socket_json(s, m);
        return;
    }
    endpoint_text(&m->local_addr, m->local_port, local);
    endpoint_text(&m->remote_addr, m->remote_port, peer);
    fprintf(s->out, "%-5s %-12s %8" PRIu64 " %8" PRIu64 " %23s %23s", m->kind, m->state, m->rx_queue,
            m->tx_queue, local, peer);
    if (m->session >= 0)
        fprintf(s->out, " users:((\"%s\",pid=%d,session=%d,slot=%u))", m->program, m->pid, m->session,
                m->slot);
    if (*m->timer)
        fprintf(s->out, " timer:(%s,%.3fs)", m->timer, (double)m->timer_us / 1e6);
    (void)fputc('\n', s->out);
    if (is_connection(m))
        socket_numbers(s, m);
}

/* ---- The rest ------------------------------------------------------------------------------------------ */

void show_sessions_title(const struct show *s)
{
    if (!s->json)
        fprintf(s->out, "%7s %-8s %8s %7s %7s %7s %12s %9s %s\n", "Session", "State", "PID", "UID", "Sockets",
                "Orphans", "Buffer-Bytes", "Age", "Program");
}

void show_session(const struct show *s, const Sockgate__Session *m)
{
    struct json *j = s->json;

    if (!j) {
        fprintf(s->out, "%7u %-8s %8d %7u %7u %7u %12" PRIu64 " %8.0fs %s\n", m->id, m->state, m->pid, m->uid,
                m->sockets, m->orphans, m->buffer_bytes, (double)m->age_us / 1e6, m->program);
        return;
    }
    json_object(j, NULL);
    json_number(j, "session", m->id);
    json_string(j, "state", m->state);
    json_integer(j, "pid", m->pid);
    json_number(j, "uid", m->uid);
    json_number(j, "gid", m->gid);
    json_string(j, "program", m->program);
    json_number(j, "sockets", m->sockets);
    json_number(j, "orphans", m->orphans);
    json_number(j, "buffer_bytes", m->buffer_bytes);
    json_number(j, "age_us", m->age_us);
    json_close_object(j);
}

void show_neighbors_title(const struct show *s)
{
    if (!s->json)
        fprintf(s->out, "%-23s %-18s %-11s %9s\n", "Address", "MAC", "State", "Age");
}

void show_neighbor(const struct show *s, const Sockgate__Neighbor *m)
{
    char address[ADDRESS_TEXT_MAX], mac[24];

    address_text(&m->addr, address);
    mac_text(&m->mac, mac, sizeof(mac));
    if (!s->json) {
        fprintf(s->out, "%-23s %-18s %-11s %8.1fs\n", address, mac, m->state, (double)m->age_us / 1e6);
        return;
    }
    json_object(s->json, NULL);
    json_string(s->json, "address", address);
    json_string(s->json, "mac", mac);
    json_string(s->json, "state", m->state);
    json_number(s->json, "age_us", m->age_us);
    json_close_object(s->json);
}

void show_devices_title(const struct show *s)
{
    if (!s->json)
        fprintf(s->out, "%-15s %-6s %5s %-17s %12s %12s %9s %9s %s\n", "Device", "State", "MTU", "MAC",
                "RX-Frames", "TX-Frames", "RX-Errors", "TX-Errors", "Spec");
}

/* "fe80::1/64" needs no brackets, as no port follows. */
static void device_address(const struct show *s, const Sockgate__Address *a)
{
    char address[INET6_ADDRSTRLEN] = "*";

    if (a->addr.len == 4 || a->addr.len == 16)
        (void)inet_ntop(a->addr.len == 4 ? AF_INET : AF_INET6, a->addr.data, address, sizeof(address));
    if (!s->json) {
        fprintf(s->out, "      %s/%u", address, a->prefix);
        if (a->vlan)
            fprintf(s->out, " vlan %u", a->vlan);
        fprintf(s->out, " %s\n", a->state);
        return;
    }
    json_object(s->json, NULL);
    json_string(s->json, "address", address);
    json_number(s->json, "prefix", a->prefix);
    json_number(s->json, "vlan", a->vlan);
    json_string(s->json, "state", a->state);
    json_close_object(s->json);
}

static void device_numbers(struct json *j, const Sockgate__Device *m)
{
    json_number(j, "rx_frames", m->rx_frames);
    json_number(j, "rx_bytes", m->rx_bytes);
    json_number(j, "rx_errors", m->rx_errors);
    json_number(j, "tx_frames", m->tx_frames);
    json_number(j, "tx_bytes", m->tx_bytes);
    json_number(j, "tx_errors", m->tx_errors);
    json_number(j, "tx_full", m->tx_full);
}

void show_device(const struct show *s, const Sockgate__Device *m)
{
    char mac[24];

    mac_text(&m->mac, mac, sizeof(mac));
    if (s->json) {
        json_object(s->json, NULL);
        json_string(s->json, "name", m->name);
        json_string(s->json, "spec", m->spec);
        json_string(s->json, "state", m->state);
        json_number(s->json, "mtu", m->mtu);
        json_string(s->json, "mac", mac);
        device_numbers(s->json, m);
        json_list(s->json, "addresses");
    } else {
        fprintf(s->out, "%-15s %-6s %5u %-17s %12" PRIu64 " %12" PRIu64 " %9" PRIu64 " %9" PRIu64 " %s\n",
                m->name, m->state, m->mtu, mac, m->rx_frames, m->tx_frames, m->rx_errors, m->tx_errors,
                m->spec);
    }
    for (size_t i = 0; i < m->n_addresses; i++)
        device_address(s, m->addresses[i]);
    if (s->json) {
        json_close_list(s->json);
        json_close_object(s->json);
    }
}

void show_counter(const struct show *s, const Sockgate__Counter *m)
{
    if (s->nonzero && !m->value)
        return;
    if (s->json)
        json_number(s->json, m->name, m->value);
    else
        fprintf(s->out, "%-32s %" PRIu64 "\n", m->name, m->value);
}

void show_version(const struct show *s, const Sockgate__VersionResponse *m)
{
    struct json *j = s->json;

    if (!j) {
        fprintf(s->out, "sockgated %s, ABI version %u, on %s, up %.0f s\n", m->release, m->abi_version,
                m->device, (double)m->uptime_us / 1e6);
        fprintf(s->out, "sockgatectl %s; build:", SOCKGATE_VERSION);
        for (size_t i = 0; i < m->n_build; i++)
            fprintf(s->out, "%s %s", i ? ";" : "", m->build[i]);
        (void)fputc('\n', s->out);
        return;
    }
    json_string(j, "release", m->release);
    json_number(j, "abi_version", m->abi_version);
    json_string(j, "device", m->device);
    json_number(j, "uptime_us", m->uptime_us);
    json_list(j, "build");
    for (size_t i = 0; i < m->n_build; i++)
        json_string(j, NULL, m->build[i]);
    json_close_list(j);
    json_string(j, "sockgatectl", SOCKGATE_VERSION);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The four spaces of constants, by the names that the devices' modules give them.
 */
#include "client-lib/lib.h"

const struct sc_const sc__consts_linux[] = {
    {"AF_INET", 2},
    {"AF_INET6", 10},
    {"SOCK_STREAM", 1},
    {"SOCK_DGRAM", 2},
    {"SOCK_RAW", 3},
    {"IPPROTO_IP", 0},
    {"IPPROTO_TCP", 6},
    {"IPPROTO_UDP", 17},
    {"SOL_SOCKET", 1},
    {"SO_REUSEADDR", 2},
    {"SO_TYPE", 3},
    {"SO_ERROR", 4},
    {"SO_BROADCAST", 6},
    {"SO_SNDBUF", 7},
    {"SO_RCVBUF", 8},
    {"SO_KEEPALIVE", 9},
    {"SO_LINGER", 13},
    {"SO_RCVTIMEO", 20},
    {"SO_SNDTIMEO", 21},
    {"SO_ACCEPTCONN", 30},
    {"TCP_NODELAY", 1},
    {"TCP_MAXSEG", 2},
    {"TCP_CORK", 3},
    {"TCP_KEEPIDLE", 4},
    {"TCP_KEEPINTVL", 5},
    {"TCP_KEEPCNT", 6},
    {"TCP_QUICKACK", 12},
    {"TCP_USER_TIMEOUT", 18},
    {"SO_REUSEPORT", 15},
    {"IP_TOS", 1},
    {"IP_TTL", 2},
    {"IP_MULTICAST_TTL", 33},
    {"IP_MULTICAST_IF", 32},
    {"IP_MULTICAST_LOOP", 34},
    {"IP_ADD_MEMBERSHIP", 35},
    {"IP_DROP_MEMBERSHIP", 36},
    {"IP_UNBLOCK_SOURCE", 37},
    {"IP_BLOCK_SOURCE", 38},
    {"IP_ADD_SOURCE_MEMBERSHIP", 39},
    {"IP_DROP_SOURCE_MEMBERSHIP", 40},
    {"UDP_SEGMENT", 103},
    {"MSG_PEEK", 2},
    {"MSG_DONTWAIT", 64},
    {"MSG_WAITALL", 256},
    {"MSG_NOSIGNAL", 16384},
    {NULL, 0},
};

/* lwIP's sockets interface as the ESP32 has it. */
const struct sc_const sc__consts_esp32[] = {
    {"AF_INET", 2},
    {"AF_INET6", 10},
    {"SOCK_STREAM", 1},
    {"SOCK_DGRAM", 2},
    {"SOCK_RAW", 3},
    {"IPPROTO_IP", 0},
    {"IPPROTO_TCP", 6},
    {"IPPROTO_UDP", 17},
    {"SOL_SOCKET", 4095},
    {"SO_REUSEADDR", 4},
    {"SO_KEEPALIVE", 8},
    {"SO_BROADCAST", 32},
    {"SO_LINGER", 128},
    {"SO_SNDTIMEO", 0x1005},
    {"SO_RCVTIMEO", 0x1006},
    {"SO_ERROR", 0x1007},
    {"SO_BINDTODEVICE", 0x100b},
    {"IP_ADD_MEMBERSHIP", 3},
    {"TCP_NODELAY", 1},
    {"TCP_KEEPIDLE", 3},
    {"TCP_KEEPINTVL", 4},
    {"TCP_KEEPCNT", 5},
    {"MSG_PEEK", 1},
    {"MSG_DONTWAIT", 8},
    {NULL, 0},
};

/* MicroPython's own module over bare lwIP. */
const struct sc_const sc__consts_lwip[] = {
    {"AF_INET", 2},      {"AF_INET6", 10},     {"SOCK_STREAM", 1},           {"SOCK_DGRAM", 2},
    {"SOCK_RAW", 3},     {"IPPROTO_IP", 0},    {"IPPROTO_TCP", 6},           {"SOL_SOCKET", 1},
    {"SO_REUSEADDR", 4}, {"SO_BROADCAST", 32}, {"IP_ADD_MEMBERSHIP", 0x400}, {"IP_DROP_MEMBERSHIP", 0x401},
    {"TCP_NODELAY", 64}, {"MSG_PEEK", 1},      {"MSG_DONTWAIT", 2},          {NULL, 0},
};

const struct sc_const sc__consts_zerynth[] = {
    {"AF_INET", 0},        {"AF_INET6", 1},      {"AF_CAN", 2},       {"SOCK_STREAM", 0},
    {"SOCK_DGRAM", 1},     {"SOCK_RAW", 2},      {"IPPROTO_TCP", 6},  {"IPPROTO_UDP", 17},
    {"SOL_SOCKET", 65535}, {"SO_REUSEADDR", 4},  {"SO_KEEPALIVE", 8}, {"SO_RCVTIMEO", 1},
    {"TCP_KEEPIDLE", 3},   {"TCP_KEEPINTVL", 4}, {"TCP_KEEPCNT", 5},  {NULL, 0},
};

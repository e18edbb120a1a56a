/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/engine_int.h"

#include <errno.h>

uint8_t mtu_disc_segment(const struct sock *s)
{
    return s->mtu_disc >= MTU_DISC_WANT && s->mtu_disc <= MTU_DISC_PROBE ? NET_DF : NET_WHOLE;
}

bool mtu_disc_uses_path(const struct sock *s)
{
    return s->mtu_disc < MTU_DISC_PROBE;
}

bool mtu_disc_probes(const struct sock *s)
{
    return s->mtu_disc == MTU_DISC_WANT || s->mtu_disc == MTU_DISC_DO;
}

bool mtu_disc_believes(const struct sock *s)
{
    return s->mtu_disc < MTU_DISC_INTERFACE;
}

int mtu_disc_datagram(const struct engine *e, const struct sock *s, const struct ip_addr *dst,
                      uint32_t l4_bytes)
{
    int cut = mtu_disc_uses_path(s) ? 0 : (int)NET_LINK_MTU;
    bool fits = net_frame_count(e, dst, l4_bytes, (uint8_t)cut) == 1;

    switch (s->mtu_disc) {
    case MTU_DISC_DO:
    case MTU_DISC_PROBE:
        return fits ? (int)NET_DF : -EMSGSIZE;
    case MTU_DISC_INTERFACE:
        return fits ? cut : -EMSGSIZE;
    case MTU_DISC_WANT:
        return fits ? (int)NET_DF : cut;
    default:
        return cut;
    }
}

int mtu_disc_set(struct engine *e, struct sock *s, uint64_t value)
{
    s->mtu_disc = value & 7;
    if (s->kind == SK_TCP && tcp_conn_of(s)->state >= TCPS_ESTABLISHED)
        tcp_pmtu_sync(e, tcp_conn_of(s));
    return 0;
}

int mtu_disc_get(struct engine *e, struct sock *s, uint64_t *value)
{
    (void)e;
    *value = s->mtu_disc;
    return 0;
}

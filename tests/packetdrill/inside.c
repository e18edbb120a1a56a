/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the adapter must know of the engine, so that its calls are those of Linux: how far Fast Open is,
 * how many bytes a SYN takes, and settings that change while a script runs.
 */
#include "daemon/engine/engine_int.h"
#include "tests/packetdrill/stack.h"

static struct tcp_conn *conn_of(const struct pd_fd *f)
{
    sock_id id = sock_session(pd.h.e, pd.h.sid)->v.slot_sock[f->slot];

    return SOCK_KIND(id) == SK_TCP ? tcp_conn_of(sock_get(pd.h.e, id)) : NULL;
}

bool pd_syn_sent(const struct pd_fd *f)
{
    const struct tcp_conn *c = conn_of(f);

    return c && c->state == TCPS_SYN_SENT;
}

size_t pd_fastopen_room(const struct pd_fd *f)
{
    return tcp_fastopen_room(pd.h.e, conn_of(f));
}

void pd_fastopen_start(const struct pd_fd *f)
{
    tcp_fastopen_start(pd.h.e, conn_of(f));
}

/* A daemon's settings hold for its life; Linux's may change under way, and some scripts are about that. */
void pd_settings_change(void)
{
    struct engine_config *cfg = &pd.h.e->cfg;

    cfg->fastopen_no_cookie = pd.cfg.fastopen_no_cookie;
    cfg->fastopen_keys = pd.cfg.fastopen_keys;
    cfg->ecn = pd.cfg.ecn;
    cfg->timestamps = pd.cfg.timestamps;
}

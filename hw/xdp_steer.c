/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/xdp_steer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <linux/magic.h>

#include "hw/xdp_prog.h"

#define BPFFS    "/sys/fs/bpf"
#define PINS     BPFFS "/sockgate"
#define NS_PER_S UINT64_C(1000000000)

static_assert(XDP_OWNED_MAX >= DEV_ADDRS_MAX, "the map holds all addresses of a device");

static const uint8_t program[] = {
#include "hw/xdp_prog.inc"
};

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
    (void)level;
    (void)format;
    (void)args;
    return 0;
}

/* ---- Pins ----------------------------------------------------------------------------- */

/* By network namespace and number: a name may stand for another interface by now. */
static void name_pins(struct xdp_steer *s, const struct netif *n)
{
    struct stat ns = {.st_ino = 0};

    (void)stat("/proc/self/ns/net", &ns);
    (void)snprintf(s->link_path, sizeof(s->link_path), PINS "/%lu-%d-link", (unsigned long)ns.st_ino,
                   n->ifindex);
    (void)snprintf(s->owned_path, sizeof(s->owned_path), PINS "/%lu-%d-owned", (unsigned long)ns.st_ino,
                   n->ifindex);
}

static bool bpffs_is_there(void)
{
    struct statfs fs;

    return !statfs(BPFFS, &fs) && fs.f_type == BPF_FS_MAGIC && (!mkdir(PINS, 0700) || errno == EEXIST);
}

static void unpin(const struct xdp_steer *s)
{
    (void)unlink(s->link_path); /* Not there, or not ours to take away: it holds nothing that is attached. */
    (void)unlink(s->owned_path);
}

/* The link that a killed daemon has left on this interface, or -1; not one of an interface that went. */
static int inherited_link(const struct xdp_steer *s, const struct netif *n)
{
    struct bpf_link_info info = {.id = 0};
    uint32_t bytes = sizeof(info);
    int fd = bpf_obj_get(s->link_path);

    if (fd < 0)
        return -1;
    if (!bpf_obj_get_info_by_fd(fd, &info, &bytes) && info.type == BPF_LINK_TYPE_XDP &&
        info.xdp.ifindex == (uint32_t)n->ifindex)
        return fd;
    (void)close(fd);
    return -1;
}

/* The addresses that it steered, if their map is the one that our program knows. */
static int inherited_owned(const struct xdp_steer *s)
{
    struct bpf_map_info info = {.id = 0};
    uint32_t bytes = sizeof(info);
    int fd = bpf_obj_get(s->owned_path);

    if (fd < 0)
        return -1;
    if (!bpf_obj_get_info_by_fd(fd, &info, &bytes) && info.type == BPF_MAP_TYPE_HASH &&
        info.key_size == sizeof(struct xdp_owned_key) && info.value_size == sizeof(uint32_t) &&
        info.max_entries == XDP_OWNED_MAX)
        return fd;
    (void)close(fd);
    return -1;
}

/* ---- Loading -------------------------------------------------------------------------- */

static int map_fd(const struct xdp_steer *s, const char *name)
{
    return bpf_object__find_map_fd_by_name(s->object, name);
}

static int load_failed(const struct netif *n, const struct netif_error *e, int err)
{
    if (err == EPERM)
        return netif_fail(n, e, err,
                          "loading an XDP program needs CAP_BPF and CAP_NET_ADMIN: run as root or through "
                          "the service");
    return netif_fail(n, e, err, "the kernel does not take the XDP program: %s", strerror(err));
}

/*
 * The set of a killed daemon goes on being used, so that no packet slips past between two programs. Without
 * its program it is a pin that a stopped daemon could not take away, because it had become another user.
 */
static int reuse_owned(struct xdp_steer *s, const struct netif *n)
{
    struct bpf_map *map = bpf_object__find_map_by_name(s->object, "owned");
    int link = inherited_link(s, n), fd, r;

    if (link < 0)
        return 0;
    (void)close(link);
    fd = inherited_owned(s);
    if (fd < 0)
        return 0;
    r = bpf_map__reuse_fd(map, fd); /* It takes a copy. */
    (void)close(fd);
    return r;
}

static int set_state(const struct xdp_steer *s, const struct xdp_steer_params *p)
{
    struct xdp_state v = {.hold_ns = p->hold_s * NS_PER_S};
    uint32_t zero = 0;

    memcpy(v.mac, p->mac, sizeof(v.mac));
    return bpf_map_update_elem(s->state, &zero, &v, BPF_ANY);
}

int xdp_steer_load(struct xdp_steer *s, const struct netif *n, const struct xdp_steer_params *p,
                   const struct netif_error *e)
{
    libbpf_print_fn_t print = libbpf_set_print(silent); /* Our messages say what is to be done. */
    int r;

    *s = XDP_STEER_CLOSED;
    name_pins(s, n);
    s->pinned = bpffs_is_there();
    s->object = bpf_object__open_mem(program, sizeof(program), NULL);
    r = !s->object ? -errno : s->pinned ? reuse_owned(s, n) : 0;
    if (!r)
        r = bpf_object__load(s->object);
    (void)libbpf_set_print(print);
    if (!r) {
        s->owned = map_fd(s, "owned");
        s->state = map_fd(s, "state");
        s->xsks = map_fd(s, "xsks");
        r = set_state(s, p);
    }
    if (r) {
        bpf_object__close(s->object);
        *s = XDP_STEER_CLOSED;
        return load_failed(n, e, -r);
    }
    return 0;
}

/* ---- Attaching ------------------------------------------------------------------------ */

static bool runs_native(const struct netif *n)
{
    LIBBPF_OPTS(bpf_xdp_query_opts, q);

    return !bpf_xdp_query(n->ifindex, 0, &q) && q.attach_mode != XDP_ATTACHED_SKB;
}

static int attach_new(struct xdp_steer *s, const struct netif *n, int prog, uint32_t flags)
{
    LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);

    s->link = bpf_link_create(prog, n->ifindex, BPF_XDP, &opts);
    return s->link < 0 ? -errno : 0;
}

static int attach_failed(const struct netif *n, const struct netif_error *e, int err)
{
    if (err == EBUSY || err == EEXIST)
        return netif_fail(n, e, EBUSY,
                          "another XDP program is on the interface: \"bpftool net\" shows it, \"ip link set "
                          "dev %s xdp off\" takes it away if nobody needs it",
                          n->name);
    return netif_fail(n, e, err, "the XDP program can't be attached: %s", strerror(err));
}

static void pin(struct xdp_steer *s)
{
    unpin(s);
    s->pinned = s->pinned && !bpf_obj_pin(s->owned, s->owned_path) && !bpf_obj_pin(s->link, s->link_path);
    if (!s->pinned)
        unpin(s);
}

int xdp_steer_attach(struct xdp_steer *s, const struct netif *n, const struct xdp_steer_params *p,
                     const struct netif_error *e)
{
    int prog = bpf_program__fd(bpf_object__find_program_by_name(s->object, "sockgate_steer"));
    int r;

    s->link = s->pinned ? inherited_link(s, n) : -1;
    if (s->link >= 0) {
        r = bpf_link_update(s->link, prog, NULL) ? -errno : 0;
    } else {
        r = p->skb_only ? -EOPNOTSUPP : attach_new(s, n, prog, XDP_FLAGS_DRV_MODE);
        /* The driver has no XDP, or not with this MTU or these offloads. */
        if (r && r != -EBUSY && r != -EEXIST && r != -EPERM)
            r = attach_new(s, n, prog, XDP_FLAGS_SKB_MODE);
    }
    if (r)
        return attach_failed(n, e, -r);
    s->native = runs_native(n);
    pin(s);
    return 0;
}

/* ---- Addresses ------------------------------------------------------------------------ */

static struct xdp_owned_key key_of(const struct device_addr *a)
{
    struct xdp_owned_key k = {.vlan = a->vlan, .ip_version = a->ip_version};

    memcpy(k.ip, a->ip, a->ip_version == 4 ? 4 : 16);
    return k;
}

static bool is_listed(const struct xdp_owned_key *k, const struct device_addr addrs[], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct xdp_owned_key other = key_of(&addrs[i]);

        if (!memcmp(k, &other, sizeof(other)))
            return true;
    }
    return false;
}

/* All keys at once: a walk that deletes loses its place. */
static void drop_others(const struct xdp_steer *s, const struct device_addr addrs[], unsigned count)
{
    struct xdp_owned_key keys[XDP_OWNED_MAX];
    unsigned n = 0;

    while (n < XDP_OWNED_MAX && !bpf_map_get_next_key(s->owned, n ? &keys[n - 1] : NULL, &keys[n]))
        n++;
    for (unsigned i = 0; i < n; i++)
        if (!is_listed(&keys[i], addrs, count))
            (void)bpf_map_delete_elem(s->owned, &keys[i]);
}

int xdp_steer_own(const struct xdp_steer *s, const struct device_addr addrs[], unsigned count)
{
    const uint32_t nothing = 0;

    drop_others(s, addrs, count);
    for (unsigned i = 0; i < count; i++) {
        struct xdp_owned_key k = key_of(&addrs[i]);

        if (bpf_map_update_elem(s->owned, &k, &nothing, BPF_ANY))
            return -errno;
    }
    return 0;
}

void xdp_steer_close(struct xdp_steer *s)
{
    if (s->link >= 0) {
        (void)bpf_link_detach(s->link); /* Even where another user's pin outlives us. */
        (void)close(s->link);
        unpin(s);
    }
    bpf_object__close(s->object);
    *s = XDP_STEER_CLOSED;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hw/dpdk.h"
#include "hw/packet.h"
#include "hw/tap.h"
#include "hw/xdp.h"

typedef int device_open_fn(const char *name, const struct device_params *params, struct device *ret[],
                           unsigned *count, char *errbuf, size_t errbuf_bytes);

/** The link of the tests has two ends in one process (hw/sim.h); one alone would lead nowhere. */
static int sim_open(const char *name, const struct device_params *params, struct device *ret[],
                    unsigned *count, char *errbuf, size_t errbuf_bytes)
{
    (void)name;
    (void)params;
    (void)ret;
    (void)count;
    (void)snprintf(errbuf, errbuf_bytes,
                   "sim: the simulated link joins two engines of one process, in tests only: give tap:NAME");
    return -EINVAL;
}

static const struct {
    const char *kind;
    device_open_fn *open;
} kinds[] = {
    {"tap", tap_open},    {PACKET_KIND, packet_open},
#ifdef HAVE_XDP
    {XDP_KIND, xdp_open},
#endif
#ifdef HAVE_DPDK
    {"dpdk", dpdk_open},
#endif
    {"sim", sim_open},
};

#define KIND_COUNT      (sizeof(kinds) / sizeof(kinds[0]))
#define KIND_SHOW_BYTES 16 /* of an unknown kind, in the message */

int device_open(const char *spec, const struct device_params *params, struct device *ret[], unsigned *count,
                char *errbuf, size_t errbuf_bytes)
{
    const char *colon = strchr(spec, ':');

    if (!colon) {
        (void)snprintf(errbuf, errbuf_bytes, "device \"%.32s\" is not of the form KIND:NAME (kinds: %s)",
                       spec, device_kinds());
        return -EINVAL;
    }
    size_t kind_len = (size_t)(colon - spec);
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (strlen(kinds[i].kind) == kind_len && !memcmp(kinds[i].kind, spec, kind_len))
            return kinds[i].open(colon + 1, params, ret, count, errbuf, errbuf_bytes);
    (void)snprintf(errbuf, errbuf_bytes, "no device kind \"%.*s\" in this build (kinds: %s)",
                   kind_len < KIND_SHOW_BYTES ? (int)kind_len : KIND_SHOW_BYTES, spec, device_kinds());
    return -EINVAL;
}

const char *device_kinds(void)
{
    /* Without "sim", which is known only to be refused with a reason. */
    return "tap, packet"
#ifdef HAVE_XDP
           ", xdp"
#endif
#ifdef HAVE_DPDK
           ", dpdk"
#endif
        ;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receive-side scaling: the card spreads flows over the queues by a hash of addresses and ports (Toeplitz)
 * and a table. The key is random, so that nobody outside can aim all flows at one queue; key and table are
 * told to whoever chooses ports. A driver that does not let us see them spreads in a way that nobody knows.
 */
#include <string.h>
#include <sys/random.h>

#include "hw/dpdk_int.h"

#define RSS_PORTS                                                                                            \
    (RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP |            \
     RTE_ETH_RSS_NONFRAG_IPV6_UDP)
#define RSS_ADDRESSES                                                                                        \
    (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_OTHER | RTE_ETH_RSS_IPV6 |          \
     RTE_ETH_RSS_FRAG_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_OTHER)
#define RETA_GROUPS_MAX (SPREAD_RSS_ENTRIES_MAX / RTE_ETH_RETA_GROUP_SIZE)

static uint8_t key_bytes(const struct dpdk_port *p)
{
    uint8_t bytes = p->info.hash_key_size ? p->info.hash_key_size : SPREAD_RSS_KEY_BYTES;

    return bytes <= DPDK_RSS_KEY_MAX ? bytes : 0;
}

void dpdk_rss_choose(struct dpdk_port *p)
{
    struct rte_eth_rss_conf *rss = &p->conf.rx_adv_conf.rss_conf;

    rss->rss_hf = p->info.flow_type_rss_offloads & (RSS_PORTS | RSS_ADDRESSES);
    if (p->queue_count < 2 || !rss->rss_hf)
        return;
    p->conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    rss->rss_key_len = key_bytes(p);
    if (rss->rss_key_len && getrandom(p->rss_key, rss->rss_key_len, 0) == rss->rss_key_len)
        rss->rss_key = p->rss_key; /* else the driver's own */
}

/** Queue after queue, in a table that the driver may refuse. */
static void fill_table(const struct dpdk_port *p)
{
    struct rte_eth_rss_reta_entry64 reta[RETA_GROUPS_MAX];

    for (unsigned i = 0; i < p->info.reta_size; i++) {
        reta[i / RTE_ETH_RETA_GROUP_SIZE].mask = UINT64_MAX;
        reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = (uint16_t)(i % p->queue_count);
    }
    (void)rte_eth_dev_rss_reta_update(p->id, reta, p->info.reta_size);
}

static bool read_table(const struct dpdk_port *p, struct spread *s)
{
    struct rte_eth_rss_reta_entry64 reta[RETA_GROUPS_MAX] = {{.mask = 0}};

    for (unsigned i = 0; i < RETA_GROUPS_MAX; i++)
        reta[i].mask = UINT64_MAX;
    if (rte_eth_dev_rss_reta_query(p->id, reta, p->info.reta_size))
        return false;
    for (unsigned i = 0; i < p->info.reta_size; i++) {
        uint16_t queue = reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];

        if (queue >= p->queue_count)
            return false;
        s->rss_table[i] = (uint8_t)queue;
    }
    s->rss_entries = p->info.reta_size;
    return true;
}

static uint8_t rss_types(uint64_t hf)
{
    return (uint8_t)((hf & RTE_ETH_RSS_NONFRAG_IPV4_TCP ? SPREAD_RSS_TCP4 : 0) |
                     (hf & RTE_ETH_RSS_NONFRAG_IPV6_TCP ? SPREAD_RSS_TCP6 : 0) |
                     (hf & RTE_ETH_RSS_NONFRAG_IPV4_UDP ? SPREAD_RSS_UDP4 : 0) |
                     (hf & RTE_ETH_RSS_NONFRAG_IPV6_UDP ? SPREAD_RSS_UDP6 : 0));
}

static bool read_hash(const struct dpdk_port *p, struct spread *s)
{
    uint8_t key[DPDK_RSS_KEY_MAX];
    struct rte_eth_rss_conf rss = {.rss_key = key, .rss_key_len = key_bytes(p)};

    if (!rss.rss_key_len || rte_eth_dev_rss_hash_conf_get(p->id, &rss) ||
        rss.rss_key_len < SPREAD_RSS_KEY_BYTES)
        return false;
    memcpy(s->rss_key, key, SPREAD_RSS_KEY_BYTES);
    s->rss_types = rss_types(rss.rss_hf);
    return true;
}

void dpdk_rss_learn(struct dpdk_port *p)
{
    struct spread s = {.kind = SPREAD_RSS, .queues = (uint8_t)p->queue_count};
    uint16_t entries = p->info.reta_size;

    if (p->conf.rxmode.mq_mode != RTE_ETH_MQ_RX_RSS || !entries || entries > SPREAD_RSS_ENTRIES_MAX ||
        entries % RTE_ETH_RETA_GROUP_SIZE || !rte_is_power_of_2(entries))
        return;
    fill_table(p);
    if (read_table(p, &s) && read_hash(p, &s))
        p->caps.spread = s;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What device_open() says when it can't: the messages are what an operator has to go by. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <linux/capability.h>
#include <sys/syscall.h>

#include "hw/device.h"
#include "tests/unit/hw/netns.h"

#define TIMEOUT_S 20

static char errbuf[300];
static unsigned queues;

static int open_spec(const char *spec, const struct device_params *params)
{
    static const struct device_params none;
    struct device *dev = (struct device *)errbuf; /* anything: it must not be touched */
    int r;

    memset(errbuf, 0, sizeof(errbuf));
    r = device_open(spec, params ? params : &none, &dev, &queues, errbuf, sizeof(errbuf));
    if (r) {
        cr_assert_eq(dev, (struct device *)errbuf, "%s: set on failure", spec);
        cr_assert_null(strchr(errbuf, '\n'), "%s: one line", spec);
        cr_assert_neq(errbuf[0], '\0', "%s: no message", spec);
    } else {
        dev->ops->close(dev);
    }
    return r;
}

static void check_says(const char *part)
{
    cr_assert_not_null(strstr(errbuf, part), "\"%s\" does not say \"%s\"", errbuf, part);
}

Test(device, unknown_kind_is_named_with_those_known)
{
    cr_assert_eq(open_spec("wifi:eth0", NULL), -EINVAL);
    check_says("\"wifi\"");
    check_says("tap");
    cr_assert_eq(open_spec("ta:x", NULL), -EINVAL);
    cr_assert_eq(open_spec("tapp:x", NULL), -EINVAL);
    cr_assert_eq(open_spec(":x", NULL), -EINVAL);
}

Test(device, spec_without_a_colon_is_refused)
{
    cr_assert_eq(open_spec("tap", NULL), -EINVAL);
    check_says("KIND:NAME");
    cr_assert_eq(open_spec("", NULL), -EINVAL);
}

Test(device, sim_says_that_it_is_for_tests)
{
    cr_assert_eq(open_spec("sim:", NULL), -EINVAL);
    check_says("tests only");
    check_says("tap:NAME");
}

Test(device, kinds_lists_what_can_be_opened)
{
    cr_assert_eq(strncmp(device_kinds(), "tap, packet", 11), 0);
    cr_assert_null(strstr(device_kinds(), "sim"));
}

Test(device, bad_interface_names_are_refused_before_anything_is_opened)
{
    static const char *const bad[] = {
        "tap:",    "tap:sixteen-charactr", "tap:a/b", "tap:.", "tap:..", "tap:a b", "tap:a:1", "tap:t%d",
        "tap:a\n", "tap:\xc3\xa9"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(errbuf, 0, sizeof(errbuf));
        struct device *dev = NULL;
        cr_assert_eq(device_open(bad[i], &(struct device_params){0}, &dev, &queues, errbuf, sizeof(errbuf)),
                     -EINVAL, "%s", bad[i]);
        check_says("not an interface name: 1 to 15 characters");
        cr_assert_null(dev);
    }
}

Test(device, message_is_cut_to_the_buffer_and_none_is_needed)
{
    struct device *dev = NULL;
    char small[8];

    memset(small, 0x55, sizeof(small));
    cr_assert_eq(device_open("wifi:eth0", &(struct device_params){0}, &dev, &queues, small, 4), -EINVAL);
    cr_assert_eq(small[3], '\0');
    cr_assert_eq(small[4], 0x55);
    cr_assert_eq(device_open("tap:a/b", &(struct device_params){0}, &dev, &queues, small, 4), -EINVAL);
    cr_assert_eq(small[4], 0x55);
    cr_assert_eq(device_open("tap:a/b", &(struct device_params){0}, &dev, &queues, NULL, 0), -EINVAL);
}

Test(device, longest_name_opens, .init = netns_enter, .timeout = TIMEOUT_S)
{
    cr_assert_eq(open_spec("tap:fifteen-charact", NULL), 0, "%s", errbuf);
}

Test(device, held_interface_is_busy, .init = netns_enter, .timeout = TIMEOUT_S)
{
    struct device *dev;

    cr_assert_eq(device_open("tap:sg0", &(struct device_params){0}, &dev, &queues, errbuf, sizeof(errbuf)),
                 0);
    cr_assert_eq(open_spec("tap:sg0", NULL), -EBUSY);
    check_says("tap:sg0: another process holds");
    dev->ops->close(dev);
    cr_assert_eq(open_spec("tap:sg0", NULL), 0);
}

Test(device, interface_of_another_kind_is_refused, .init = netns_enter, .timeout = TIMEOUT_S)
{
    cr_assert_eq(open_spec("tap:lo", NULL), -EINVAL);
    check_says("not a single-queue TAP");
}

Test(device, impossible_mtu_and_mac_are_refused, .init = netns_enter, .timeout = TIMEOUT_S)
{
    static const uint8_t group[6] = {1, 0, 0x5e, 0, 0, 1}, zero[6];

    cr_assert_eq(open_spec("tap:sg0", &(struct device_params){.mtu = 575}), -EINVAL);
    check_says("MTU 575");
    cr_assert_eq(open_spec("tap:sg0", &(struct device_params){.mtu = 65535}), -EINVAL);
    check_says("576 to 65521");
    cr_assert_eq(open_spec("tap:sg0", &(struct device_params){.mtu = 65521}), 0, "%s", errbuf);
    cr_assert_eq(open_spec("tap:sg0", &(struct device_params){.mac = group}), -EINVAL);
    check_says("unicast");
    cr_assert_eq(open_spec("tap:sg0", &(struct device_params){.mac = zero}), -EINVAL);
}

Test(device, without_the_capability_the_message_says_which, .init = netns_enter, .timeout = TIMEOUT_S)
{
    struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    /* All rights but CAP_NET_ADMIN: /dev/net/tun opens, whatever its mode, and TUNSETIFF is refused. */
    cr_assert_eq(syscall(SYS_capget, &hdr, data), 0);
    data[0].effective &= ~(1u << CAP_NET_ADMIN);
    cr_assert_eq(syscall(SYS_capset, &hdr, data), 0);
    cr_assert_eq(open_spec("tap:sg0", NULL), -EPERM);
    check_says("CAP_NET_ADMIN");
}

Test(device, missing_tun_driver_is_named_with_the_cure, .init = netns_enter, .timeout = TIMEOUT_S)
{
    cr_assert_eq(unshare(CLONE_NEWNS), 0);
    cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    cr_assert_eq(mount("none", "/dev/net", "tmpfs", 0, NULL), 0);
    cr_assert_eq(open_spec("tap:sg0", NULL), -ENOENT);
    check_says("/dev/net/tun is missing: load it with modprobe tun, or give the container the device");
}

int main(int argc, char *argv[])
{
    if (netns_tun_missing())
        return 77;
    struct criterion_test_set *tests = criterion_initialize();
    int result = criterion_handle_args(argc, argv, true) ? !criterion_run_all_tests(tests) : 0;
    criterion_finalize(tests);
    return result;
}

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Starting wrongly: one line that says what is wrong and what to do, and a status that is not 0."""
import os
import re
import subprocess

import harness
from harness import DAEMON_ADDR, START_S, case, check, check_equal, check_says, start_wrongly


def arguments(env, device="tap:sg0", address=f"{DAEMON_ADDR}/24"):
    return ["--device", device, "--address", address, "--control", env.control]


@case
def wrong_config(env):
    path = os.path.join(env.dir, "sockgated.conf")
    for text, patterns in (("[network]\nmtu = banana\n", ["banana|mtu", path]),
                           ("nonsense without an equals sign\n", [path, "1"]),
                           ("[no-such-section]\nkey = 1\n", [path])):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        check_says(start_wrongly(env, "--config", path, *arguments(env)), *patterns)
        check_says(start_wrongly(env, "--check", "--config", path, *arguments(env)), *patterns)
    check_says(start_wrongly(env, "--config", path + ".missing", *arguments(env)), "missing", "no such file|not exist")


@case
def wrong_address(env):
    for address in ("10.77.0.2", "10.77.0.999/24", "10.77.0.2/33", "0.0.0.0/24", "224.0.0.1/24"):
        check_says(start_wrongly(env, *arguments(env, address=address)), re.escape(address.split("/")[0]))


@case
def wrong_option(env):
    check_says(start_wrongly(env, "--no-such-option"), "no-such-option")


@case
def missing_tun(env):
    harness.run("mount", "-t", "tmpfs", "none", "/dev/net") # in this test's own mount namespace
    check_says(start_wrongly(env, *arguments(env)), "/dev/net/tun", "modprobe|module|device")


@case
def no_privileges(env):
    # Without capabilities, but still uid 0: the whole tree may lie where only that uid can look.
    line = start_wrongly(env, *arguments(env), wrapper=["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    check_says(line, "permi|CAP_NET_ADMIN|privilege|root", "CAP_NET_ADMIN|root|sudo|user")


@case
def address_in_use(env):
    """The kernel holds the daemon's address itself: both would answer."""
    harness.run("ip", "addr", "add", f"{DAEMON_ADDR}/24", "dev", "lo")
    check_says(start_wrongly(env, *arguments(env)), re.escape(DAEMON_ADDR), "use|held|kernel")


@case
def unknown_device(env):
    check_says(start_wrongly(env, *arguments(env, device="banana:sg0")), "banana", "tap")
    check_says(start_wrongly(env, *arguments(env, device="tap:" + "x" * 40)), "x" * 15)


@case
def device_taken(env):
    env.start_daemon()
    line = start_wrongly(env, "--device", "tap:sg0", "--address", "10.77.1.2/24", "--control", env.control + "2")
    check_says(line, "sg0", "use|busy|holds")


@case
def control_socket_taken(env):
    env.start_daemon()
    line = start_wrongly(env, "--device", "tap:sg1", "--address", "10.77.1.2/24", "--control", env.control)
    check_says(line, re.escape(env.control), "another sockgated")
    check_equal(env.daemon.running(), True, "the first daemon still runs")
    env.ctl("sockets")


@case
def stale_control_socket_is_replaced(env):
    """What a killed daemon left behind does not keep the next one from starting."""
    env.start_daemon().kill()
    check(os.path.exists(env.control), "there is nothing stale: proves nothing")
    env.start_daemon()
    env.ctl("sockets")


@case
def check_prints_the_plan(env):
    done = subprocess.run([harness.program("sockgated"), "--check", *arguments(env)], env=env.env,
                          capture_output=True, text=True, timeout=START_S)
    check_equal(done.returncode, 0, "status of --check")
    check_says(done.stdout, "tap:sg0", re.escape(DAEMON_ADDR), re.escape(env.control))
    check(not os.path.exists(env.control), "--check made a control socket")


@case
def tools_without_daemon(env):
    for name in ("sockgatectl", "openmv_client"):
        arguments_of = ["sockets"] if name == "sockgatectl" else [DAEMON_ADDR, "9000"]
        done = subprocess.run([harness.program(name), *arguments_of], env=env.env, capture_output=True, text=True,
                              timeout=START_S)
        check(done.returncode > 0, f"{name}: status {done.returncode}")
        check_says(done.stderr, re.escape(env.control) + "|sockgated")


harness.main()

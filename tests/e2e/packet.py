#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""packet: on one end of a veth pair. Traffic as such is shown by the cases of other files, run over this device
too; here is what it is alone in: an interface that the kernel goes on using."""
import os
import re
import socket

import harness
from harness import DAEMON_ADDR, KERNEL_ADDR, case, check, check_equal, check_says, start_wrongly, wait_for

PORT = 7
IFACE = "sg0w" # the daemon's end; sg0 is the kernel's
OWN_MAC = "02:00:00:00:77:02"


def arguments(env, device):
    return ["--device", device, "--address", f"{DAEMON_ADDR}/24", "--control", env.control]


def start(env, *arguments_):
    device = env.wire("sg0", "packet")
    env.start_daemon(*arguments_, device=device, kernel_side="sg0")
    env.start("echo_many", "0.0.0.0", PORT)
    env.wait_listening(PORT)


def check_echo(conn, what, size=20000):
    data = os.urandom(size)
    conn.sendall(data)
    check_equal(harness.receive_exactly(conn, size), data, what)


def device(env):
    return env.ctl("devices")[0]


def set_forwarding(value):
    with open(f"/proc/sys/net/ipv4/conf/{IFACE}/forwarding", "w", encoding="ascii") as f:
        f.write(value)


@case
def packet_frames_stand_for_many(env):
    """Segmentation offload both ways: few frames for many bytes, and no checksum is found wrong."""
    start(env)
    size = 8 << 20
    with env.connect(PORT, 30) as conn:
        for _ in range(8):
            check_echo(conn, "echo", size // 8)
    row, stats = device(env), env.stats()
    check(row["rx_bytes"] > size and row["tx_bytes"] > size, f"bytes: {row}")
    check(row["rx_bytes"] / row["rx_frames"] > 3000, f"frames received are small: {row}")
    check(row["tx_bytes"] / row["tx_frames"] > 3000, f"frames sent are small: {row}")
    check_equal((row["rx_errors"], row["tx_errors"], stats["TcpInErrs"]), (0, 0, 0), "errors")
    check(row["mac"] in harness.run("ip", "link", "show", IFACE), "the hardware address is not the interface's")


@case
def packet_vlan_stream(env):
    """A stream between two daemons in a VLAN: the kernel takes the tags out, and they are put back."""
    env.start_daemon("--address", "10.78.0.2/24 vlan 5", device=env.wire("sg0", "packet"), configure=False)
    harness.run("ip", "link", "set", "sg0", "up")
    far = harness.Env.beside(env)
    far.start_daemon("--address", "10.78.0.1/24 vlan 5", device="packet:sg0", configure=False,
                     address="10.77.0.9")
    size, path, out = 8 << 20, env.dir + "/sent", env.dir + "/received"
    expected = harness.make_file(path, size)
    with open(path, "rb") as sent, open(out, "wb") as received:
        server = env.start("bulk_server", "--receive", "0.0.0.0", PORT, stdout=received)
        env.wait_listening(PORT)
        client = far.start("bulk_client", "--send", "10.78.0.2", PORT, stdin=sent)
        client.expect_success(60)
        server.expect_success(60)
    check_equal(harness.file_sha256(out), expected, "SHA-256 of what went through the VLAN")
    check_equal((env.stats()["TcpInErrs"], env.stats()["DropVlan"]), (0, 0), "bad checksums, and tags")


@case
def packet_address_of_the_kernel(env):
    """Refused at the start, wherever the kernel has it; noticed later."""
    device_ = env.wire("sg0", "packet")
    for iface in ("lo", IFACE, "sg0"):
        harness.run("ip", "addr", "add", f"{DAEMON_ADDR}/24", "dev", iface)
        line = start_wrongly(env, *arguments(env, device_))
        check_says(line, re.escape(DAEMON_ADDR), f"kernel.* on {iface}", f"ip address flush dev {iface}", "--address")
        harness.run("ip", "addr", "del", f"{DAEMON_ADDR}/24", "dev", iface)
    start(env)
    check("held by the kernel" not in env.daemon.stderr(), env.daemon.stderr())
    harness.run("ip", "addr", "add", f"{DAEMON_ADDR}/32", "dev", "lo")
    wait_for("the daemon says that the kernel has taken its address",
             lambda: f"{DAEMON_ADDR} is held by the kernel too, on lo" in env.daemon.stderr())


@case
def packet_forwarding_kernel(env):
    """A kernel that forwards would answer for the daemon; not with a hardware address of its own."""
    device_ = env.wire("sg0", "packet")
    set_forwarding("1")
    check_says(start_wrongly(env, *arguments(env, device_)), "forward", "mac 02:", f"conf.{IFACE}.forwarding=0")
    start(env, "--mac", OWN_MAC)
    check_equal(device(env)["mac"], OWN_MAC, "hardware address")
    with env.connect(PORT) as conn:
        check_echo(conn, "to a hardware address that is not the interface's")
    check_equal(harness.run("ip", "-s", "neigh", "show", DAEMON_ADDR).split("lladdr ")[1][:17], OWN_MAC, "neighbour")


@case
def packet_kernel_beside(env):
    """The kernel's own traffic on the interface goes on, and the daemon isn't bothered with it."""
    far = env.namespace()
    start(env)
    harness.run("ip", "link", "set", "sg0", "netns", str(far.pid))
    for command in (f"ip addr add {KERNEL_ADDR}/24 dev sg0", "ip link set sg0 up"):
        harness.run(*far.enter, *command.split())
    harness.run("ip", "addr", "add", "10.77.0.3/24", "dev", IFACE)
    check("1 received" in harness.run(*far.enter, "ping", "-c", "1", "-W", "5", DAEMON_ADDR), "ping the daemon")
    before = device(env)["rx_frames"]
    ping = harness.run(*far.enter, "ping", "-q", "-c", "200", "-i", "0.002", "-W", "5", "10.77.0.3")
    check("200 received" in ping, ping)
    check(device(env)["rx_frames"] - before < 100, "the daemon was given the kernel's frames")
    check("1 received" in harness.run(*far.enter, "ping", "-c", "1", "-W", "5", DAEMON_ADDR), "the daemon again")


@case
def packet_link_changes(env):
    """Down at the start, up, an MTU, carrier lost and back: seen, and the connection survives."""
    device_ = env.wire("sg0", "packet")
    harness.run("ip", "link", "set", IFACE, "down")
    env.start_daemon(device=device_, kernel_side="sg0")
    wait_for("the link is seen to be down", lambda: device(env)["state"] == "down")
    harness.run("ip", "link", "set", IFACE, "up")
    wait_for("the link comes up", lambda: device(env)["state"] == "up")
    env.start("echo_many", "0.0.0.0", PORT)
    env.wait_listening(PORT)
    conn = env.connect(PORT, 30)
    check_echo(conn, "after the link came up")
    harness.run("ip", "link", "set", IFACE, "mtu", "1280")
    wait_for("the MTU reaches the engine", lambda: device(env)["mtu"] == 1280)
    check_echo(conn, "at an MTU of 1280")
    check_equal({row["mss"] for row in env.sockets(state="ESTABLISHED", local_port=PORT)}, {1228}, "MSS")
    for iface in (IFACE, "sg0"): # the interface itself, and the cable
        harness.run("ip", "link", "set", iface, "down")
        wait_for("the link goes down", lambda: device(env)["state"] == "down")
        harness.run("ip", "link", "set", iface, "up")
        wait_for("the link comes up", lambda: device(env)["state"] == "up")
        check_echo(conn, f"after {iface} came back")
    conn.close()


@case
def packet_unplugged(env):
    """The interface is deleted: the daemon goes on with the other, and says so."""
    second = env.wire("sg1", "packet")
    start(env, "--device", f"{second} name wan", "--address", "10.78.0.2/24 dev wan")
    harness.run("ip", "link", "del", "sg1")
    wait_for("the daemon says that it lost a device",
             lambda: f"{second}:" in env.daemon.stderr() and "going on without it" in env.daemon.stderr())
    states = {row["name"]: row["state"] for row in env.ctl("devices")}
    check_equal(states, {IFACE: "up", "wan": "failed"}, "devices")
    with env.connect(PORT) as conn:
        check_echo(conn, "over the other")
    harness.run("ip", "link", "del", "sg0")
    check_equal(env.daemon.wait(), 1, "status of sockgated without a device")


@case
def packet_refused(env):
    """What can't be opened, and what to do about it."""
    device_ = env.wire("sg0", "packet")
    check_says(start_wrongly(env, *arguments(env, "packet:nosuch0")), "packet:nosuch0", "no such interface", "ip link")
    check_says(start_wrongly(env, *arguments(env, "packet:lo")), "not an Ethernet interface")
    check_says(start_wrongly(env, *arguments(env, "packet:a/b")), "not an interface name")
    check_says(start_wrongly(env, *arguments(env, f"{device_} mtu 9000")), "9000", "1500", "ip link set")
    line = start_wrongly(env, *arguments(env, device_), wrapper=["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    check_says(line, "CAP_NET_RAW", "root")


harness.main()

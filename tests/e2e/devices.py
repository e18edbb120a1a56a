#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Several devices in one daemon, and devices that change or go away.

Each TAP device is in a network namespace of its own, so that the two kernels know nothing of one another."""
import contextlib
import ctypes
import os
import socket

import harness
from harness import DAEMON_ADDR, KERNEL_ADDR, case, check, check_equal, wait_for

CLONE_NEWNET = 0x40000000
SECOND_ADDR = "10.78.0.2"
SECOND_KERNEL = "10.78.0.1"
PORT = 7

libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(namespace):
    """What is opened meanwhile belongs to the other namespace for good."""
    with open("/proc/self/ns/net", "rb") as own, open(f"/proc/{namespace.pid}/ns/net", "rb") as other:
        check_equal(libc.setns(other.fileno(), CLONE_NEWNET), 0, "setns")
        try:
            yield
        finally:
            check_equal(libc.setns(own.fileno(), CLONE_NEWNET), 0, "setns back")


def start_two(env, *arguments):
    """sg0 here and sg1, called wan, in the namespace that is returned."""
    env.start_daemon("--device", "tap:sg1 name wan", "--address", f"{SECOND_ADDR}/24 dev wan", *arguments)
    other = env.namespace()
    harness.run("ip", "link", "set", "sg1", "netns", str(other.pid))
    harness.run(*other.enter, "ip", "addr", "add", f"{SECOND_KERNEL}/24", "dev", "sg1")
    harness.run(*other.enter, "ip", "link", "set", "sg1", "up")
    return other


def connect(address, seconds=10.0):
    conn = socket.create_connection((address, PORT), timeout=seconds * harness.PATIENCE)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conn


def check_echo(conn, what, size=20000):
    data = os.urandom(size)
    conn.sendall(data)
    check_equal(harness.receive_exactly(conn, size), data, what)


def device(env, name):
    return next(row for row in env.ctl("devices") if row["name"] == name)


@case
def two_devices(env):
    """A connection over each at once, nothing forwarded between them, and one that is deleted."""
    other = start_two(env)
    env.start("echo_many", "0.0.0.0", PORT)
    env.wait_listening(PORT)
    first = connect(DAEMON_ADDR)
    with inside(other):
        second = connect(SECOND_ADDR)
    for _ in range(3):
        check_echo(first, "over sg0")
        check_echo(second, "over sg1")
    rows = {row["name"]: row for row in env.ctl("devices")}
    check_equal(sorted(rows), ["sg0", "wan"], "names of the devices")
    check_equal((rows["wan"]["spec"], rows["wan"]["state"]), ("tap:sg1", "up"), "what is said of the second")
    check(rows["sg0"]["mac"] != rows["wan"]["mac"], "each has a hardware address of its own")
    check(any(a["address"] == SECOND_ADDR for a in rows["wan"]["addresses"]), f"addresses: {rows['wan']}")
    check(rows["sg0"]["rx_bytes"] > 60000 and rows["wan"]["rx_bytes"] > 60000, f"both carry frames: {rows}")

    nothing_between(env, other)

    harness.run(*other.enter, "ip", "link", "del", "sg1")
    wait_for("the daemon says that it lost a device",
             lambda: "tap:sg1" in env.daemon.stderr() and "going on without it" in env.daemon.stderr())
    check_equal(device(env, "wan")["state"], "failed", "the second device")
    check_echo(first, "over sg0, the other gone")
    with connect(DAEMON_ADDR) as late:
        check_echo(late, "a new connection over sg0")
    first.close()
    second.close()


def nothing_between(env, other):
    """No packet passes from one link to the other, whichever address it is for."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as here:
        here.bind(("sg0", 0))
        harness.run("ip", "route", "add", "10.78.0.0/24", "via", DAEMON_ADDR)
        harness.run(*other.enter, "ip", "route", "add", "10.77.0.0/24", "via", SECOND_ADDR)
        with inside(other), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(b"for the other link", (KERNEL_ADDR, 9))
        # The host model is the strong one: an address is spoken to over its own link only.
        dropped = env.stats()["IpInAddrErrors"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(b"for the other link's address", (SECOND_ADDR, PORT))
        wait_for("the packet for the other link's address is dropped",
                 lambda: env.stats()["IpInAddrErrors"] > dropped)
        while harness.readable(here, 0.1):
            frame = here.recv(2048)
            check(b"for the other link" not in frame or frame[30:34] == socket.inet_aton(SECOND_ADDR),
                  "a packet was forwarded")


def link_local(env):
    """The address that the daemon made itself, once it is known."""
    rows = [a["address"] for a in device(env, "sg0")["addresses"] if a["address"].startswith("fe80:")]
    check_equal(len(rows), 1, "link-local addresses")
    return rows[0]


def restart(env, *arguments):
    env.daemon.end()
    return env.start_daemon(*arguments, configure=False)


@case
def stored_secret(env):
    """The address that the daemon makes is the same after a restart, as long as the secret is."""
    env.start_daemon()
    first = link_local(env)
    path = os.path.join(env.dir, "secret")
    check_equal(oct(os.stat(path).st_mode & 0o777), "0o600", "permissions of the secret")
    restart(env)
    check_equal(link_local(env), first, "the address after a restart")
    os.chmod(path, 0o644)
    restart(env)
    check("no stored secret" in env.daemon.stderr() and "read by others" in env.daemon.stderr(), env.daemon.stderr())
    check(link_local(env) != first, "a secret that others may know was used")
    restart(env, "--set", "daemon.secret_file=/nonexistent/secret")
    check("no stored secret" in env.daemon.stderr(), env.daemon.stderr())
    restart(env, "--set", "daemon.secret_file=")
    check("secret" not in env.daemon.stderr(), "running without one on purpose is nothing to say")


@case
def link_and_mtu_changes(env):
    """What the operator does to the kernel's side reaches the engine, and connections survive it."""
    env.start_daemon()
    env.start("echo_many", "0.0.0.0", PORT)
    env.wait_listening(PORT)

    def mss():
        return {row["mss"] for row in env.sockets(state="ESTABLISHED", local_port=PORT)}

    first = connect(DAEMON_ADDR)
    check_echo(first, "at an MTU of 1500")
    check_equal(mss(), {1448}, "MSS")
    harness.run("ip", "link", "set", "sg0", "mtu", "1280")
    wait_for("the MTU reaches the engine", lambda: device(env, "sg0")["mtu"] == 1280)
    check_echo(first, "of the same connection, at an MTU of 1280")
    check_equal(mss(), {1228}, "MSS of the old connection")
    with connect(DAEMON_ADDR) as new:
        check_echo(new, "of a new connection")
        check_equal(mss(), {1228}, "MSS of both")

    harness.run("ip", "link", "set", "sg0", "down")
    wait_for("the link goes down", lambda: device(env, "sg0")["state"] == "down")
    first.settimeout(30 * harness.PATIENCE)
    first.sendall(b"sent while the link is down")
    harness.run("ip", "link", "set", "sg0", "mtu", "1500")
    harness.run("ip", "link", "set", "sg0", "up")
    wait_for("the link comes up", lambda: device(env, "sg0")["state"] == "up")
    check_equal(harness.receive_exactly(first, 27), b"sent while the link is down", "what waited")
    check_echo(first, "after the link came back")
    check_equal(mss(), {1448}, "MSS again")
    said = env.daemon.stderr()
    check("tap:sg0: the link is down" in said and "the link is up, MTU 1500" in said, said)
    first.close()


@case
def last_device_lost(env):
    """Without any device there is nothing left to do: the daemon ends with a failure."""
    other = start_two(env)
    harness.run("ip", "link", "del", "sg0")
    wait_for("the first is gone", lambda: "going on without it" in env.daemon.stderr())
    harness.run(*other.enter, "ip", "link", "del", "sg1")
    check_equal(env.daemon.wait(), 1, "status of sockgated")
    check("tap:sg1" in env.daemon.stderr(), env.daemon.stderr())


harness.main()

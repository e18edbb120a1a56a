#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What paths do to packets, against the kernel's TCP: congestion marks, black holes for long ones, jumbo frames."""
import os
import re
import signal
import socket

import harness
from harness import KERNEL_ADDR, case, check, check_equal

PORT = 5201
TCP_INFO_ECN = 8 # tcpi_options, linux/tcp.h
SECONDS = 60


def sysctl(name, value):
    """Of the test's own namespace."""
    with open(f"/proc/sys/net/{name.replace('.', '/')}", "w", encoding="ascii") as f:
        f.write(str(value))


def config(env, text):
    """Arguments for a daemon with these settings."""
    path = os.path.join(env.dir, "sockgated.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return "--config", path


def kernel_has_ecn(conn):
    return bool(conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5] & TCP_INFO_ECN)


def start_wired(env, *arguments, wire_options=(), mtu=1500):
    """A wire with the given fates between the kernel (k0) and the daemon, as in bulk.py."""
    wire = env.namespace()
    env.start_daemon("--mtu", mtu, *arguments, configure=False, wrapper=wire.enter)
    harness.run("ip", "link", "add", "k0", "mtu", str(mtu), "type", "veth", "peer", "name", "v0", "mtu", str(mtu),
                "netns", str(wire.pid))
    harness.run("ip", "addr", "add", f"{KERNEL_ADDR}/{harness.PREFIX}", "dev", "k0")
    harness.run("ip", "link", "set", "k0", "up")
    for interface in ("v0", "sg0"):
        harness.run(*wire.enter, "ip", "link", "set", interface, "up")
    forwarder = env.start("sockgate-forwarder", "--a", "v0", "--b", "sg0", "--split", "--seed", "1", *wire_options,
                          wrapper=wire.enter)
    forwarder.wait_line(".")
    return forwarder


def wire_counts(forwarder):
    """Its counters: those from the kernel, those from the daemon."""
    forwarder.signal(signal.SIGTERM)
    forwarder.expect_success()
    line = forwarder.lines()[-1]
    print(line)
    return [{n: int(v) for n, v in re.findall(r"(\w+)=(\d+)", part)} for part in line.split(";")]


def to_server(env, size):
    """The kernel's client sends to the daemon's server."""
    path, out = env.dir + "/sent", env.dir + "/received"
    expected = harness.make_file(path, size)
    with open(out, "wb") as f:
        server = env.start("bulk_server", "--receive", "0.0.0.0", PORT, stdout=f)
        env.wait_listening(PORT)
        with env.connect(PORT, SECONDS) as conn:
            ecn = kernel_has_ecn(conn)
            harness.send_file(conn, path)
        server.expect_success(SECONDS)
    check_equal(harness.file_sha256(out), expected, "SHA-256 of what the server received")
    return ecn


def to_kernel(env, size):
    """The daemon's client sends to the kernel's server."""
    path = env.dir + "/sent"
    expected = harness.make_file(path, size)
    with open(path, "rb") as f, env.kernel_listener(PORT, seconds=SECONDS) as listener:
        client = env.start("bulk_client", "--send", KERNEL_ADDR, PORT, stdin=f)
        conn, _ = listener.accept()
        with conn:
            conn.settimeout(SECONDS * harness.PATIENCE)
            ecn = kernel_has_ecn(conn)
            check_equal(harness.receive_sha256(conn), (size, expected), "what the kernel's server received")
        client.expect_success(SECONDS)
    return ecn


@case
def ecn_agreed(env):
    """net.ipv4.tcp_ecn = 1 asks and agrees, 0 does neither; sockgated's default agrees and doesn't ask."""
    env.start_daemon()
    sysctl("ipv4.tcp_ecn", 1)
    check(to_server(env, 1 << 20), "the kernel asked, and the daemon did not agree")
    check(not to_kernel(env, 1 << 20), "the daemon asked unasked")
    sysctl("ipv4.tcp_ecn", 0)
    check(not to_server(env, 1 << 20), "the kernel did not ask, and the daemon agreed")


@case
def ecn_asked_for(env):
    env.start_daemon(*config(env, "[tcp]\necn = on\n"))
    sysctl("ipv4.tcp_ecn", 2)
    check(to_kernel(env, 1 << 20), "the kernel agrees when asked: it was not")
    sysctl("ipv4.tcp_ecn", 0)
    check(not to_kernel(env, 1 << 20), "the kernel should have refused")


@case
def ecn_marks(env):
    """A path that marks every hundredth packet and loses none: both ends reduce, and no loss is repaired."""
    sysctl("ipv4.tcp_ecn", 1)
    forwarder = start_wired(env, *config(env, "[tcp]\necn = on\n"), wire_options=("--mark", "1"))
    check(to_server(env, 8 << 20) and to_kernel(env, 8 << 20), "ECN was not agreed upon")
    stats = env.stats()
    counts = wire_counts(forwarder)
    for i, name in enumerate(("kernel's", "daemon's")):
        check(counts[i]["marked"] > 10, f"hardly a packet of the {name} was marked")
    check(stats["IpInCEPkts"] > 10, "the daemon saw no marks")
    check(stats["TcpEcnReductions"] > 5, "the daemon's window was never reduced")
    check(stats["TcpDeliveredCE"] >= stats["TcpEcnReductions"], "an echo is of a delivery")
    check_equal(stats["TcpFastRetrans"], 0, "losses found") # a busy machine may well probe for one, or time out


@case
def ecn_ipv6(env):
    """The same over IPv6, with marks, echoed by the application."""
    sysctl("ipv6.conf.all.disable_ipv6", 0)
    sysctl("ipv4.tcp_ecn", 1) # IPv6's too
    forwarder = start_wired(env, "--address", "fd00:77::2/64", wire_options=("--mark", "1"))
    harness.run("ip", "-6", "addr", "add", "fd00:77::1/64", "dev", "k0", "nodad")
    peer = env.start("ipv6_peer", "tcp-echo", PORT)
    peer.wait_line("ready")
    data = os.urandom(4 << 20)

    def connect():
        try: # the daemon first looks whether its address is anybody else's
            return socket.create_connection(("fd00:77::2", PORT), timeout=SECONDS * harness.PATIENCE)
        except OSError:
            return None
    with harness.wait_for("a connection over IPv6", connect) as conn:
        check(kernel_has_ecn(conn), "ECN was not agreed upon")
        sender = harness.threading.Thread(target=lambda: (conn.sendall(data), conn.shutdown(socket.SHUT_WR)))
        sender.start()
        check(harness.receive_all(conn) == data, "what was echoed differs")
        sender.join()
    peer.expect_success()
    stats = env.stats()
    counts = wire_counts(forwarder)
    check(all(c["marked"] for c in counts), "nothing was marked")
    check(stats["Ip6InCEPkts"] and stats["TcpEcnReductions"], "the daemon saw no marks, or no echo")
    check_equal(stats["TcpFastRetrans"], 0, "losses found") # a busy machine may well probe for one, or time out


def black_hole(env, probing, longest):
    """A path that drops packets above `longest` bytes and tells nobody; both ends believe in 1,500."""
    sysctl("ipv4.tcp_mtu_probing", 1)
    forwarder = start_wired(env, *config(env, f"[tcp]\nmtu_probing = {probing}\n"),
                            wire_options=("--longest", longest))
    to_kernel(env, 16 << 20)
    to_server(env, 4 << 20)
    stats = env.stats()
    counts = wire_counts(forwarder)
    check(counts[1]["too_long"] > 0, "no packet of the daemon was too long: the test proves nothing")
    return stats


@case
def mtu_black_hole(env):
    stats = black_hole(env, "auto", 1300)
    check(stats["TcpMtuBlackHoles"] >= 1, "it was not found")
    check(stats["TcpMTUPFail"] >= 1, "larger packets were not tried")


@case
def mtu_probing_always(env):
    stats = black_hole(env, "always", 1300)
    check_equal(stats["TcpMtuBlackHoles"], 0, "black holes, when sizes are tried before they are used")
    check(stats["TcpMTUPSuccess"] >= 1 and stats["TcpMTUPFail"] >= 1, f"probes: {stats['TcpMTUPSuccess']} arrived")


JUMBO = 9000


def jumbo_connection(env, size):
    """Both ways, with the segments that such frames make."""
    to_server(env, size)
    to_kernel(env, size)
    stats = env.stats()
    segments = stats["TcpInSegs"] + stats["TcpOutSegs"]
    check(segments < 4 * size / 4000, f"{segments} segments for 2 * {size} bytes: these are not of {JUMBO} bytes")
    check_equal(stats["TcpInErrs"], 0, "bad checksums or headers")


@case
def jumbo_frames(env):
    """Frames of 64 KiB that stand for segments of 8,948 bytes."""
    env.start_daemon("--mtu", JUMBO)
    check_equal(env.ctl("devices")[0]["mtu"], JUMBO, "MTU that sockgatectl shows")
    jumbo_connection(env, 32 << 20)


@case
def jumbo_frames_on_a_wire(env):
    """The wire carries nothing longer than 9,014 bytes: the forwarder cuts what stands for more."""
    forwarder = start_wired(env, mtu=JUMBO)
    jumbo_connection(env, 16 << 20)
    for direction in wire_counts(forwarder):
        check(direction["split"] > 0, "no frame stood for several segments")


harness.main()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Files through Sockgate and the kernel's TCP, in each direction, each side as client and as server."""
import os
import re
import signal
import threading
import time

import harness
from harness import BULK_BYTES, KERNEL_ADDR, LOSSY_BYTES, case, check, check_equal

BULK_S = 240
PORT = 5201


def report(what, count, start):
    seconds = time.monotonic() - start
    print(f"{what}: {count} bytes in {seconds:.1f} s, {count / seconds / 1e6:.0f} MB/s, SHA-256 equal")


def kernel_sends_to_server(env, size):
    path, out = env.dir + "/sent", env.dir + "/received"
    expected = harness.make_file(path, size)
    start = time.monotonic()
    with open(out, "wb") as f:
        server = env.start("bulk_server", "--receive", "0.0.0.0", PORT, stdout=f)
        env.wait_listening(PORT)
        with env.connect(PORT, BULK_S) as conn:
            harness.send_file(conn, path)
        server.expect_success(BULK_S)
    report("kernel client -> server", size, start)
    check_equal(harness.file_sha256(out), expected, "SHA-256 of what the server received")


def server_sends_to_kernel(env, size):
    path = env.dir + "/sent"
    expected = harness.make_file(path, size)
    start = time.monotonic()
    with open(path, "rb") as f:
        server = env.start("bulk_server", "--send", "0.0.0.0", PORT, stdin=f)
        env.wait_listening(PORT)
        with env.connect(PORT, BULK_S) as conn:
            check_equal(harness.receive_sha256(conn), (size, expected), "what the kernel's client received")
        server.expect_success(BULK_S)
    report("server -> kernel client", size, start)


def client_sends_to_kernel(env, size):
    path = env.dir + "/sent"
    expected = harness.make_file(path, size)
    start = time.monotonic()
    with open(path, "rb") as f, env.kernel_listener(PORT, seconds=BULK_S) as listener:
        client = env.start("bulk_client", "--send", KERNEL_ADDR, PORT, stdin=f)
        conn, _ = listener.accept()
        with conn:
            conn.settimeout(BULK_S)
            check_equal(harness.receive_sha256(conn), (size, expected), "what the kernel's server received")
        client.expect_success(BULK_S)
    report("client -> kernel server", size, start)


def kernel_sends_to_client(env, size):
    path, out = env.dir + "/sent", env.dir + "/received"
    expected = harness.make_file(path, size)
    start = time.monotonic()
    with open(out, "wb") as f, env.kernel_listener(PORT, seconds=BULK_S) as listener:
        client = env.start("bulk_client", "--receive", KERNEL_ADDR, PORT, stdout=f)
        conn, _ = listener.accept()
        with conn:
            conn.settimeout(BULK_S)
            harness.send_file(conn, path)
        client.expect_success(BULK_S)
    report("kernel server -> client", size, start)
    check_equal(harness.file_sha256(out), expected, "SHA-256 of what the client received")


@case
def to_server(env):
    env.start_daemon()
    kernel_sends_to_server(env, BULK_BYTES)


@case
def from_server(env):
    env.start_daemon()
    server_sends_to_kernel(env, BULK_BYTES)


@case
def from_client(env):
    env.start_daemon()
    client_sends_to_kernel(env, BULK_BYTES)


@case
def to_client(env):
    env.start_daemon()
    kernel_sends_to_client(env, BULK_BYTES)


@case
def both_ways_at_once(env):
    """One connection, data in both directions at the same time."""
    env.start_daemon()
    env.start("echo_many", "0.0.0.0", 7)
    env.wait_listening(7)
    path = env.dir + "/sent"
    size = BULK_BYTES // 8
    expected = harness.make_file(path, size)
    with env.connect(7, BULK_S) as conn:
        def send():
            harness.send_file(conn, path)
            conn.shutdown(harness.socket.SHUT_WR)
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        check_equal(harness.receive_sha256(conn), (size, expected), "what came back")
        sender.join(10)


def start_lossy(env):
    """A bad wire: 5 % of the packets are dropped, 5 % reordered, 5 % duplicated, each direction.

         test's namespace          wire's namespace: no addresses, so its own stack stays out of it
        kernel 10.77.0.1 [ k0 ] == [ v0 ] ( sockgate-forwarder ) [ sg0 ] sockgated 10.77.0.2
    """
    wire = env.namespace()
    env.start_daemon(configure=False, wrapper=wire.enter)
    harness.run("ip", "link", "add", "k0", "type", "veth", "peer", "name", "v0", "netns", str(wire.pid))
    harness.run("ip", "addr", "add", f"{KERNEL_ADDR}/{harness.PREFIX}", "dev", "k0")
    harness.run("ip", "link", "set", "k0", "up")
    for interface in ("v0", "sg0"):
        harness.run(*wire.enter, "ip", "link", "set", interface, "up")
    seed = os.environ.get("SOCKGATE_E2E_SEED", str(time.time_ns() % 1000000))
    print(f"seed {seed} (again: SOCKGATE_E2E_SEED={seed})")
    forwarder = env.start("sockgate-forwarder", "--a", "v0", "--b", "sg0", "--loss", "5", "--reorder", "5",
                          "--duplicate", "5", "--split", "--seed", seed, wrapper=wire.enter)
    forwarder.wait_line(".")
    return forwarder


def check_lossy(forwarder, size):
    """The wire must have been as bad as it was meant to be, or the test proves nothing."""
    forwarder.signal(signal.SIGTERM)
    forwarder.expect_success()
    line = forwarder.lines()[-1]
    print(line)
    counts = {}
    for name, value in re.findall(r"(\w+)=(\d+)", line):
        counts[name] = counts.get(name, 0) + int(value)
    at_least = size // 1448 // 50 # 2 % of the data packets alone: chance does not fall so far below 5 %
    for name in ("lost", "reordered", "duplicated"):
        check(counts.get(name, 0) >= at_least, f"only {counts.get(name)} packets were {name}")


@case
def lossy_to_server(env):
    forwarder = start_lossy(env)
    kernel_sends_to_server(env, LOSSY_BYTES)
    check_lossy(forwarder, LOSSY_BYTES)


@case
def lossy_from_server(env):
    forwarder = start_lossy(env)
    server_sends_to_kernel(env, LOSSY_BYTES)
    check_lossy(forwarder, LOSSY_BYTES)


harness.main()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Several workers: connections and datagrams of one socket come to all of them, and the application sees one socket."""
import socket

import harness
from harness import DAEMON_ADDR, KERNEL_ADDR, check, check_equal, case

CONNECTIONS = 64
SECONDS = 60


def nothing_left(env, port):
    harness.wait_for("no connection left", lambda: not [
        r for r in env.sockets(local_port=port) if r["state"] not in ("LISTEN", "TIME_WAIT")])


@case
def workers_share_a_listener(env):
    """Each worker takes a part of the connections; one accept() serves them all."""
    env.start_daemon(workers=4)
    env.start("echo_many", "0.0.0.0", 7)
    env.wait_listening(7)
    conns = [env.connect(7) for _ in range(CONNECTIONS)]
    for i, conn in enumerate(conns):
        conn.sendall(b"%d" % i * 100)
    for i, conn in enumerate(conns):
        expected = b"%d" % i * 100
        check_equal(harness.receive_exactly(conn, len(expected)), expected, f"echo of connection {i}")
    opened = [env.stats("--worker", str(w))["TcpPassiveOpens"] for w in range(1, 5)]
    check_equal(sum(opened), CONNECTIONS, f"connections of all workers {opened}")
    check(all(opened), f"a worker has no connection: {opened}")
    check_equal(env.stats()["TcpPassiveOpens"], CONNECTIONS, "connections in the sum that sockgatectl shows")
    for conn in conns:
        conn.close()
    nothing_left(env, 7)


@case
def workers_share_a_datagram_socket(env):
    """Datagrams from many ports, whole and in fragments, reach the worker that has the socket."""
    env.start_daemon(workers=4)
    env.start("udp_echo")
    harness.wait_for("the UDP socket", lambda: [r for r in env.sockets(netid="udp") if r["local_port"] == 7])
    for i in range(24):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(5 * harness.PATIENCE)
            for size in (10, 1400, 5000):
                message = bytes((i + k) % 251 for k in range(size))
                s.sendto(message, (DAEMON_ADDR, 7))
                check_equal(s.recvfrom(65536), (message, (DAEMON_ADDR, 7)), f"echo of {size} bytes to socket {i}")


@case
def workers_open_connections(env):
    """Answers to outgoing connections come to the worker that has the socket; so does a refusal."""
    env.start_daemon(workers=4)
    payload = bytes(range(256)) * 40
    for i in range(12):
        with env.kernel_listener(5201) as listener:
            with open(env.dir + "/sent", "wb") as f:
                f.write(payload)
            with open(env.dir + "/sent", "rb") as f:
                client = env.start("bulk_client", "--send", KERNEL_ADDR, 5201, stdin=f)
                conn, _ = listener.accept()
                with conn:
                    check_equal(harness.receive_exactly(conn, len(payload)), payload, f"connection {i}")
                client.expect_success()
    opened = [env.stats("--worker", str(w))["TcpActiveOpens"] for w in range(1, 5)]
    check_equal(sum(opened), 12, f"connections that were opened {opened}")
    nothing_left(env, 5201)


@case
def workers_and_local_connections(env):
    """Two applications on one daemon, whichever workers their ends come to."""
    env.start_daemon(workers=2)
    path, out = env.dir + "/sent", env.dir + "/received"
    size = 3000000
    expected = harness.make_file(path, size)
    for i in range(6):
        with open(out, "wb") as f, open(path, "rb") as data:
            server = env.start("bulk_server", "--receive", "0.0.0.0", 5300 + i, stdout=f)
            env.wait_listening(5300 + i)
            client = env.start("bulk_client", "--send", DAEMON_ADDR, 5300 + i, stdin=data)
            client.expect_success(SECONDS)
            server.expect_success(SECONDS)
        check_equal(harness.file_sha256(out), expected, f"SHA-256 of transfer {i}")


harness.main()

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each example against the kernel's TCP, run as a newcomer runs it: it prints what its device document says."""
import socket

import harness
from harness import DAEMON_ADDR, KERNEL_ADDR, case, check, check_equal, wait_for


def accept(listener):
    conn, _ = listener.accept()
    conn.settimeout(10)
    return conn


def local_port(conn):
    return str(conn.getsockname()[1])


@case
def uiflow2_echo_server(env):
    env.start_daemon()
    server = env.start("uiflow2_echo_server")
    env.wait_listening(8001)
    with env.connect(8001) as conn:
        port = local_port(conn)
        for message in (b"Hello, World!", b"it's \xc3\xa9\n", b"x" * 1024):
            conn.sendall(message)
            check_equal(harness.receive_exactly(conn, len(message)), message, "echo")
    server.expect_success()
    check_equal(server.lines()[:6],
                [DAEMON_ADDR, "8001", KERNEL_ADDR, port, "b'Hello, World!'", "b\"it's \\xc3\\xa9\\n\""], "lines")
    # The end of file is shown, then sending nothing raises, which ends the program.
    check_equal(server.lines()[-2], "b''", "line at the end of file")
    check(server.lines()[-1].startswith("OSError: [Errno 116]"), server.lines()[-1])


@case
def uiflow2_client(env):
    env.start_daemon()
    with env.kernel_listener(8001) as listener:
        client = env.start("uiflow2_client", KERNEL_ADDR, 8001, 3)
        with accept(listener) as conn:
            for i in range(3):
                data = conn.recv(1024)
                check_equal(data, str(i).encode(), "counter")
                conn.sendall(data)
            check_equal(conn.recv(1024), b"", "end of file")
        client.expect_success()
    check_equal(client.lines(), ["b'0'", "b'1'", "b'2'"], "lines")


@case
def mpython_client(env):
    env.start_daemon()
    greeting = b"hello MicroPython, I am TCP Client"
    with env.kernel_listener(5001) as listener:
        client = env.start("mpython_client", KERNEL_ADDR, 5001)
        with accept(listener) as conn:
            check_equal(harness.receive_exactly(conn, len(greeting)), greeting, "greeting")
            text = "grüße 你好".encode()
            conn.sendall(text)
            check_equal(harness.receive_exactly(conn, len(text)), text, "text sent back")
            long_text = b"z" * 3000 # above 1,024 bytes it comes back in pieces
            conn.sendall(long_text)
            check_equal(harness.receive_exactly(conn, 3000), long_text, "long text sent back")
        client.expect_success()
    check_equal(client.lines()[0], repr(text), "first line")
    check_equal(client.lines()[-1], "close socket", "last line")


@case
def mpython_server(env):
    env.start_daemon()
    server = env.start("mpython_server")
    env.wait_listening(5001)
    expected = ["tcp waiting..."]
    first, second = env.connect(5001), env.connect(5001) # the second waits in the queue
    for conn, text in ((first, "one"), (second, "zwei é")):
        expected += ["accepting.....", f"('{KERNEL_ADDR}', {local_port(conn)}) connected", text, "close socket"]
        with conn:
            conn.sendall(text.encode())
            check_equal(harness.receive_exactly(conn, len(text.encode())), text.encode(), "echo")
    expected.append("accepting.....")
    wait_for("the last line", lambda: len(server.lines()) >= len(expected))
    check_equal(server.lines(), expected, "lines")
    check_equal([r["local_address"] for r in env.sockets(state="LISTEN")], [DAEMON_ADDR], "bound to the own address")


@case
def zerynth_client(env):
    env.start_daemon()
    with env.kernel_listener(5555) as listener:
        client = env.start("zerynth_client", KERNEL_ADDR, 5555)
        with accept(listener) as conn:
            check_equal(harness.receive_all(conn), b"Hello World!", "twelve bytes, then the end of file")
        client.expect_success()
    check_equal(client.lines(), [], "lines")


@case
def zerynth_server(env):
    env.start_daemon()
    env.start("zerynth_server")
    env.wait_listening(80)
    for _ in range(5):
        with env.connect(80) as conn:
            check_equal(harness.receive_all(conn), b"Hello!", "six bytes, then the end of file")


@case
def usocket_snippets(env):
    # Its names come from /etc/hosts; this test has its own, in its own mount namespace.
    hosts = env.dir + "/hosts"
    with open(hosts, "w", encoding="ascii") as f:
        f.write(f"127.0.0.1 localhost\n{KERNEL_ADDR} www.micropython.org\n")
    harness.run("mount", "--bind", hosts, "/etc/hosts")
    env.start_daemon()
    with env.kernel_listener(100) as listener:
        program = env.start("usocket_snippets", "www.micropython.org", KERNEL_ADDR, 100)
        with accept(listener) as conn:
            conn.sendall(b"from the server")
            program.wait_line("from the server")
    env.wait_listening(10000)
    with env.connect(10000) as conn:
        conn.sendall(b"from a client")
        port = local_port(conn)
        program.expect_success()
    check_equal(program.lines(), [
        f"getaddrinfo('www.micropython.org', 80): [(2, 1, 0, '', ('{KERNEL_ADDR}', 80))]",
        "getaddrinfo('127.0.0.1', 80): [(2, 1, 0, '', ('127.0.0.1', 80))]",
        "socket(): <socket>",
        f"connected to ('{KERNEL_ADDR}', 100)",
        "recv(1024): b'from the server'",
        "bound to ('0.0.0.0', 10000)",
        f"connection from ('{KERNEL_ADDR}', {port})",
        "recv(1024): b'from a client'",
    ], "lines")


@case
def openmv_client(env):
    env.start_daemon()
    with env.kernel_listener(9000) as listener:
        client = env.start("openmv_client", KERNEL_ADDR, 9000)
        with accept(listener) as conn:
            check_equal(harness.receive_exactly(conn, 6), b"hello\n", "request")
            conn.sendall(b"hi there\n")
            check_equal(conn.recv(1), b"", "end of file")
        client.expect_success()
    check_equal(client.lines(), ["reply: b'hi there\\n'"], "lines")


@case
def openmv_read_to_end(env):
    env.start_daemon()
    data = b"".join(b"line %d\n" % i for i in range(20000))
    with env.kernel_listener(9000) as listener:
        client = env.start("openmv_read_to_end", KERNEL_ADDR, 9000)
        with accept(listener) as conn:
            conn.sendall(data)
        client.expect_success()
    check_equal("\n".join(client.lines()) + "\n" == data.decode(), True, "the whole reply was read")
    check_equal(client.stderr().strip(), f"{len(data)} bytes", "standard error")


@case
def openmv_send_loop(env):
    env.start_daemon()
    size = 1000000
    payload = bytes(i % 251 for i in range(size))
    with env.kernel_listener(9000) as listener:
        client = env.start("openmv_send_loop", KERNEL_ADDR, 9000, size)
        with accept(listener) as conn:
            check_equal(harness.receive_all(conn) == payload * 2, True, "all of it, twice")
        client.expect_success()
    check_equal(client.lines(), [f"sent {size} bytes, then {size} with sendall"], "lines")


@case
def openmv_echo_server(env):
    env.start_daemon()
    server = env.start("openmv_echo_server")
    expected = ["listening on port 9000"]
    server.wait_line("listening on port 9000")
    for message in (b"hihi", b"\x00\xff" * 5000):
        with env.connect(9000) as conn:
            expected.append(f"connection from ('{KERNEL_ADDR}', {local_port(conn)})")
            conn.sendall(message)
            check_equal(harness.receive_exactly(conn, len(message)), message, "echo")
    wait_for("the last line", lambda: len(server.lines()) >= len(expected))
    check_equal(server.lines(), expected, "lines")


@case
def udp_echo(env):
    env.start_daemon()
    env.start("udp_echo")
    wait_for("the UDP socket", lambda: [r for r in env.sockets(netid="udp") if r["local_port"] == 7])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        for size in (0, 1, 512, 1472, 1473, 9000): # the last two are fragmented in both directions
            message = bytes(i % 253 for i in range(size))
            s.sendto(message, (DAEMON_ADDR, 7))
            answer, peer = s.recvfrom(65536)
            check_equal((answer == message, peer), (True, (DAEMON_ADDR, 7)), f"echo of {size} bytes")


@case
def multicast(env):
    """The kernel sends to a group and by broadcast; the example answers to another group, where the kernel listens."""
    env.start_daemon()
    harness.run("ip", "route", "add", "224.0.0.0/4", "dev", "sg0")
    group, answers = "233.252.0.1", "233.252.0.2"
    member = env.start("multicast", group, 5000, answers, 5001)
    member.wait_line("joined")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("", 5001))
        heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(answers) + socket.inet_aton(KERNEL_ADDR))
        heard.settimeout(5 * harness.PATIENCE)
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(KERNEL_ADDR))
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for destination, message in ((group, b"to a group"), ("10.77.0.255", b"to all in the network"),
                                     (DAEMON_ADDR, b"to one")):
            out.sendto(message, (destination, 5000))
            answer, peer = heard.recvfrom(1000)
            check_equal((answer, peer[0]), (message, DAEMON_ADDR), f"answer to what was sent to {destination}")
        before = env.stats()["DropMulticast"]
        out.sendto(b"to nobody", ("233.252.0.9", 5000))
        wait_for("what nobody joined is dropped", lambda: env.stats()["DropMulticast"] > before)
    # The kernel's side sees the reports: it is a router for none, but its counters tell.
    check(env.stats()["IgmpOutReports"] > 0, "no membership was reported")


@case
def posix_ping(env):
    """A raw socket pings the kernel; a user who is not root gets none."""
    env.start_daemon()
    ping = env.start("posix_ping", KERNEL_ADDR, 3)
    check_equal(ping.wait(), 0, "status of the ping")
    check_equal(ping.lines()[-1], "3 of 3 answered", "last line")
    check_equal(env.start("posix_ping", "10.77.0.99", 1).wait(), 1, "status of a ping to nobody")
    other = env.start("posix_ping", KERNEL_ADDR, 1, wrapper=("setpriv", "--reuid=65534", "--clear-groups"))
    check_equal(other.wait(), 1, "status of another user's ping")
    check("not permitted" in other.stderr(), f"the error does not say so: {other.stderr()!r}")
    check_equal(env.stats()["RawDenied"], 1, "refusals counted")


@case
def refused(env):
    """An example that finds nobody says so, with the number that its device shows (104 on lwIP)."""
    env.start_daemon()
    client = env.start("openmv_client", KERNEL_ADDR, 9)
    check(client.wait() != 0, "status 0 although the connection was refused")
    check("connect" in client.stderr() and "104" in client.stderr(), f"the error does not say so: {client.stderr()!r}")


harness.main()

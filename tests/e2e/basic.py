#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A good host and a good server: ping, echo, many connections, half-close, rebinding, idle cost."""
import re
import selectors
import shutil
import socket
import subprocess
import sys
import time

import harness
from harness import DAEMON_ADDR, KERNEL_ADDR, case, check, check_equal, wait_for

MANY = 1000


@case
def ping(env):
    env.start_daemon()
    out = harness.run("ping", "-c", "5", "-i", "0.2", "-W", "2", DAEMON_ADDR)
    check("5 received, 0% packet loss" in out, out)
    # Larger than the MTU: fragments in both directions.
    out = harness.run("ping", "-c", "3", "-i", "0.2", "-W", "2", "-s", "4000", DAEMON_ADDR)
    check("3 received, 0% packet loss" in out, out)
    neighbors = env.ctl("neighbors")
    check(any(KERNEL_ADDR in str(row) for row in neighbors), f"the kernel is no neighbour: {neighbors}")


@case
def echo(env):
    env.start_daemon()
    env.start("openmv_echo_server").wait_line("listening on port 9000")
    for size in (1, 64, 1000, 100000):
        with env.connect(9000) as conn:
            data = bytes(i % 251 for i in range(size))
            conn.sendall(data)
            check_equal(harness.receive_exactly(conn, size), data, f"echo of {size} bytes")


@case
def curl_and_nc(env):
    """Two clients that nobody here wrote."""
    env.start_daemon()
    body = b"from a device"
    answer = env.dir + "/answer"
    with open(answer, "wb") as f:
        f.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    with open(answer, "rb") as f:
        server = env.start("bulk_server", "--send", "0.0.0.0", 8080, stdin=f)
        env.wait_listening(8080)
        check_equal(harness.run("curl", "-s", "-m", "10", f"http://{DAEMON_ADDR}:8080/"), body.decode(), "curl")
        server.expect_success()
    env.start("zerynth_server")
    env.wait_listening(80)
    check_equal(harness.run("nc", "-w", "5", DAEMON_ADDR, "80", stdin=harness.subprocess.DEVNULL), "Hello!", "nc")


@case
def thousand_connections(env):
    """All open at once, each echoes its own bytes, then all close and nothing is left."""
    harness.allow_descriptors(MANY + 100)
    env.start_daemon()
    env.start("echo_many", "0.0.0.0", 7)
    env.wait_listening(7)
    selector = selectors.DefaultSelector()
    conns = []
    for i in range(MANY):
        conn = env.connect(7, 30)
        conns.append(conn)
    payload = {conn: (b"%06d " % i) * 40 for i, conn in enumerate(conns)}
    for round_number in range(3):
        received = {conn: b"" for conn in conns}
        for conn in conns:
            conn.sendall(payload[conn])
            conn.setblocking(False)
            selector.register(conn, selectors.EVENT_READ)
        deadline = time.monotonic() + 30 * harness.PATIENCE
        while selector.get_map():
            check(time.monotonic() < deadline, f"round {round_number}: {len(selector.get_map())} echoes are missing")
            for key, _ in selector.select(1):
                conn = key.fileobj
                received[conn] += conn.recv(4096)
                if len(received[conn]) >= len(payload[conn]):
                    selector.unregister(conn)
                    conn.setblocking(True)
        for conn in conns:
            check_equal(received[conn], payload[conn], "echo")
    check_equal(len(env.sockets(state="ESTABLISHED")), MANY, "connections that sockgatectl shows")
    for conn in conns:
        conn.close()
    wait_for("all connections are gone", lambda: not env.sockets(state="ESTABLISHED"), 30)


@case
def half_close(env):
    env.start_daemon()
    # The kernel closes its half first and still gets the rest.
    env.start("openmv_echo_server").wait_line("listening")
    data = b"abcdefgh" * 20000
    with env.connect(9000) as conn:
        conn.sendall(data)
        conn.shutdown(socket.SHUT_WR)
        check_equal(harness.receive_all(conn) == data, True, "all came back after the kernel's FIN")
    # Sockgate closes its half first and still gets the rest.
    with env.kernel_listener(9001) as listener:
        request, answer = b"a request, to the end of file", b"an answer to a half-closed peer" * 1000
        path = env.dir + "/request"
        with open(path, "wb") as f:
            f.write(request)
        with open(path, "rb") as f:
            client = env.start("posix_half_close", KERNEL_ADDR, 9001, stdin=f)
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(10)
                check_equal(harness.receive_all(conn), request, "request up to Sockgate's FIN")
                conn.sendall(answer)
        client.expect_success()
        check_equal("\n".join(client.lines()), answer.decode(), "answer after the own FIN")


@case
def rebind(env):
    """A server that closed first leaves TIME_WAIT: binding again needs SO_REUSEADDR."""
    env.start_daemon()
    server = env.start("zerynth_server") # closes first, does not set SO_REUSEADDR
    env.wait_listening(80)
    with env.connect(80) as conn:
        check_equal(harness.receive_all(conn), b"Hello!", "greeting")
    wait_for("TIME_WAIT on port 80", lambda: [r for r in env.sockets(state="TIME_WAIT") if r["local_port"] == 80])
    server.kill()
    again = env.start("zerynth_server")
    check(again.wait() != 0, "bind without SO_REUSEADDR succeeded although TIME_WAIT holds the port")
    check(re.search(r"[Aa]ddress.*in use", again.stderr() + "".join(again.lines())),
          f"the error does not say so: {again.lines()} {again.stderr()}")
    # The same with it: bulk_server sets SO_REUSEADDR and closes first, too.
    for _ in range(3):
        server = env.start("bulk_server", "--send", "0.0.0.0", 8080) # standard input is empty: closes at once
        env.wait_listening(8080)
        with env.connect(8080) as conn:
            check_equal(harness.receive_all(conn), b"", "end of file")
        server.expect_success()
        check([r for r in env.sockets(state="TIME_WAIT") if r["local_port"] == 8080], "no TIME_WAIT: proves nothing")


@case
def dhcp(env):
    """An address from a real server: leased, used, and given up when it is refused at renewal."""
    if not shutil.which("dnsmasq"):
        print("dnsmasq is not installed (scripts/install-deps)")
        sys.exit(harness.SKIP)
    env.daemon = env.start("sockgated", "--device", env.default_device(), "--address", "dhcp",
                           "--control", env.control)
    env.wait_daemon()
    harness.run("ip", "addr", "add", f"{KERNEL_ADDR}/24", "dev", "sg0")
    harness.run("ip", "link", "set", "sg0", "up")
    leases = env.dir + "/leases"
    server = subprocess.Popen(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=sg0",
                               "--bind-interfaces", "--dhcp-range=10.77.0.50,10.77.0.50,255.255.255.0,2m",
                               "--dhcp-authoritative", "--no-ping", "--user=root", f"--dhcp-leasefile={leases}",
                               f"--pid-file={env.dir}/dnsmasq.pid", "--log-facility=-"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("the daemon says what it leased",
                 lambda: "leased 10.77.0.50/24" in env.daemon.stderr() + "".join(env.daemon.lines()), 40)
        out = harness.run("ping", "-c", "2", "-i", "0.2", "-W", "2", "10.77.0.50")
        check("2 received" in out, out)
        with open(leases, encoding="ascii") as f:
            check("10.77.0.50" in f.read(), "the server knows of no lease")
    finally:
        server.terminate()
        server.wait()


@case
def idle_cpu(env):
    """A thousand open connections without traffic: the daemon uses less than 2 % of a CPU."""
    harness.allow_descriptors(MANY + 100)
    daemon = env.start_daemon()
    env.start("echo_many", "0.0.0.0", 7)
    env.wait_listening(7)
    conns = [env.connect(7, 30) for _ in range(MANY)]
    time.sleep(1) # not a wait for an event: let delayed ACKs and the like pass
    seconds = 10
    before = harness.cpu_seconds(daemon.pid)
    time.sleep(seconds)
    percent = (harness.cpu_seconds(daemon.pid) - before) / seconds * 100
    print(f"idle with {MANY} connections: {percent:.2f} % of a CPU")
    check(percent < 2, f"{percent:.2f} % of a CPU while idle")
    for conn in conns:
        conn.close()


harness.main()

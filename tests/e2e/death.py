#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Processes die in every way: what they held comes back, their peers are told, the others don't notice."""
import signal
import socket
import time

import harness
from harness import KERNEL_ADDR, case, check, check_equal, wait_for

HELD = 100


def sessions_of(env, pid):
    return [row for row in env.ctl("sessions") if row["pid"] == pid]


@case
def killed_application_frees_all(env):
    env.start_daemon()
    clean = len(env.ctl("sockets"))
    bystander = env.start("openmv_echo_server")
    bystander.wait_line("listening")
    server = env.start("echo_many", "0.0.0.0", 7)
    env.wait_listening(7)
    conns = [env.connect(7) for _ in range(HELD)]
    for conn in conns: # so that each holds buffers
        conn.sendall(b"x" * 1000)
        harness.receive_exactly(conn, 1000)
    check_equal(len(sessions_of(env, server.pid)), 1, "sessions of the server")
    check(len(env.sockets(session=sessions_of(env, server.pid)[0]["session"])) > HELD, "its sockets are not shown")
    server.kill()
    for conn in conns: # as the kernel does: FIN, or RST where data was not read
        try:
            check_equal(conn.recv(1), b"", "after kill -9 the peer reads")
        except ConnectionResetError:
            pass
        conn.close()
    wait_for("the session is gone", lambda: not sessions_of(env, server.pid))
    wait_for("its sockets are gone", lambda: not [r for r in env.ctl("sockets")
                                                  if r["local_port"] == 7 and r["state"] != "TIME_WAIT"])
    again = env.start("echo_many", "0.0.0.0", 7)
    env.wait_listening(7)
    with env.connect(7) as conn:
        conn.sendall(b"again")
        check_equal(harness.receive_exactly(conn, 5), b"again", "echo of the new server")
    again.kill()
    with env.connect(9000) as conn:
        conn.sendall(b"still here")
        check_equal(harness.receive_exactly(conn, 10), b"still here", "echo of the bystander")
    bystander.kill()
    wait_for("nothing is left", lambda: len([r for r in env.ctl("sockets") if r["state"] != "TIME_WAIT"]) == clean and
             not env.ctl("sessions"))


@case
def killed_in_the_middle_of_a_transfer(env):
    """Twenty times, at different moments; the daemon lives and holds nothing afterwards."""
    env.start_daemon()
    for i in range(20):
        with env.kernel_listener(5201) as listener:
            with open("/dev/zero", "rb") as zero:
                client = env.start("bulk_client", "--send", KERNEL_ADDR, 5201, stdin=zero)
                conn, _ = listener.accept()
                conn.settimeout(10)
                harness.receive_exactly(conn, 100000 + i * 50000)
                client.kill()
                try:
                    while conn.recv(1 << 16):
                        pass
                except ConnectionResetError:
                    pass
                conn.close()
    wait_for("nothing is left", lambda: not env.ctl("sessions") and
             not [r for r in env.ctl("sockets") if r["state"] != "TIME_WAIT"], 30)
    faults = {name: value for name, value in env.stats().items() if "fault" in name.lower() and value}
    check(not faults, f"faults were counted: {faults}")


@case
def daemon_dies_application_is_told(env):
    """Blocking calls return a documented error in bounded time."""
    daemon = env.start_daemon()
    server = env.start("openmv_echo_server")
    server.wait_line("listening")
    with env.kernel_listener(9001) as listener:
        client = env.start("openmv_client", KERNEL_ADDR, 9001)
        conn, _ = listener.accept()
        check_equal(conn.recv(100), b"hello\n", "request")
        daemon.kill()
        start = time.monotonic()
        check(client.wait(5) != 0, "the client ended with status 0 although its daemon died")
        check(server.wait(5) != 0, "the server ended with status 0 although its daemon died")
        print(f"told within {time.monotonic() - start:.2f} s: {client.stderr().strip()!r}")
        check(client.stderr().strip(), "the client said nothing")
        conn.close()


@case
def sigterm_drains(env):
    """SIGTERM: what is queued still goes out, then the daemon ends with status 0."""
    daemon = env.start_daemon()
    size = 1 << 20
    path = env.dir + "/sent"
    expected = harness.make_file(path, size)
    with env.kernel_listener(5201) as listener, open(path, "rb") as f:
        client = env.start("bulk_client", "--send", KERNEL_ADDR, 5201, stdin=f)
        conn, _ = listener.accept()
        conn.settimeout(10)
        check_equal(harness.receive_sha256(conn), (size, expected), "received before the end")
        conn.close()
        client.expect_success()
    daemon.signal(signal.SIGTERM)
    check_equal(daemon.wait(30), 0, "status of the daemon after SIGTERM")
    check(not harness.os.path.exists(env.control), "the control socket was left behind")


@case
def stopped_application_harms_nobody(env):
    """SIGSTOP with full buffers: other applications go on; SIGCONT: it goes on where it was."""
    env.start_daemon()
    env.start("openmv_echo_server").wait_line("listening")
    stopped = env.start("echo_many", "0.0.0.0", 7)
    env.wait_listening(7)
    with env.connect(7) as conn:
        conn.sendall(b"first")
        harness.receive_exactly(conn, 5)
        stopped.signal(signal.SIGSTOP)
        conn.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline: # until the window is closed for half a second
            try:
                sent += conn.send(b"y" * 65536)
            except BlockingIOError:
                if not harness.select.select([], [conn], [], 0.5)[1]:
                    break
        check(sent > 0, "nothing was taken")
        for _ in range(20):
            with env.connect(9000) as other:
                other.sendall(b"hello")
                check_equal(harness.receive_exactly(other, 5), b"hello", "echo of the other application")
        stopped.signal(signal.SIGCONT)
        conn.setblocking(True)
        conn.settimeout(30)
        conn.shutdown(socket.SHUT_WR)
        check_equal(len(harness.receive_all(conn)), sent, "bytes echoed after SIGCONT")


harness.main()

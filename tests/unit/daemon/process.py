#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sockgated as the service manager sees it, in a network namespace of its own. Usage: process.py SOCKGATED

Says what went wrong and ends with status 1; 77: not root, or no TAP driver.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 10
ADDRESS = "10.77.0.2/24"
daemons = []


def check(truth, what):
    if not truth:
        sys.exit("process.py: " + what)


class Manager:
    """The receiving end of sd_notify()."""

    def __init__(self, folder):
        # An abstract name: the daemon may be another user by then, and the tree where only root can look.
        self.path = "@" + folder
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + folder)
        self.socket.settimeout(PATIENCE_S)

    def expect(self, word):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if word in self.socket.recv(4096).decode().split("\n"):
                return
        sys.exit(f"process.py: {word} did not come")


def start(sockgated, folder, manager, *options, watchdog_ms=0, sanitizer=""):
    env = dict(os.environ, NOTIFY_SOCKET=manager.path)
    if sanitizer:
        env["ASAN_OPTIONS"] = f"{env.get('ASAN_OPTIONS', '')}:{sanitizer}"
    if watchdog_ms:
        env["WATCHDOG_USEC"] = str(watchdog_ms * 1000)
    daemon = subprocess.Popen([sockgated, "--device", "tap:sg0", "--address", ADDRESS, "--control",
                               os.path.join(folder, "run/control.sock"), *options], env=env,
                              stderr=subprocess.PIPE, text=True)
    daemons.append(daemon)
    return daemon


def finish(daemon, number):
    daemon.send_signal(number)
    try:
        _, log = daemon.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        sys.exit(f"process.py: sockgated did not end on signal {number}")
    return daemon.returncode, log


def test_notify(sockgated, folder):
    manager = Manager(folder)
    daemon = start(sockgated, folder, manager, watchdog_ms=200)
    manager.expect("READY=1")
    for _ in range(3):
        manager.expect("WATCHDOG=1")
    daemon.send_signal(signal.SIGHUP)
    manager.expect("WATCHDOG=1")
    daemon.send_signal(signal.SIGTERM)
    manager.expect("STOPPING=1")
    status, log = finish(daemon, signal.SIGTERM)
    check(status == 0, f"status {status} after SIGTERM")
    check("SIGHUP: settings are read at start only" in log, f"SIGHUP was not logged: {log}")
    check(not os.path.exists(os.path.join(folder, "run/control.sock")), "the control socket was left behind")


def test_watchdog_starves_with_the_worker(sockgated, folder):
    """A stopped process feeds nobody: stands for a worker that hangs, which can't be had from outside."""
    manager = Manager(folder)
    daemon = start(sockgated, folder, manager, watchdog_ms=200)
    manager.expect("WATCHDOG=1")
    daemon.send_signal(signal.SIGSTOP)
    manager.socket.settimeout(0.2)
    try:
        for _ in range(5):
            manager.socket.recv(4096) # What was on its way.
        sys.exit("process.py: a stopped daemon fed the watchdog")
    except TimeoutError:
        pass
    daemon.send_signal(signal.SIGCONT)
    manager.socket.settimeout(PATIENCE_S)
    manager.expect("WATCHDOG=1")
    check(finish(daemon, signal.SIGINT)[0] == 0, "SIGINT is no orderly stop")


def test_starts_again_at_once_after_kill(sockgated, folder):
    manager = Manager(folder)
    daemon = start(sockgated, folder, manager)
    manager.expect("READY=1")
    finish(daemon, signal.SIGKILL)
    daemon = start(sockgated, folder, manager)
    manager.expect("READY=1")
    check(finish(daemon, signal.SIGTERM)[0] == 0, "the second daemon did not end well")


def test_becomes_user(sockgated, folder):
    manager = Manager(folder)
    # The leak checker reads /proc by its path, which nobody may not where only root can look into the tree; the
    # other tests check the same code for leaks.
    daemon = start(sockgated, folder, manager, "--set", "daemon.user=nobody", sanitizer="detect_leaks=0")
    manager.expect("READY=1")
    with open(f"/proc/{daemon.pid}/status", encoding="ascii") as f:
        status = f.read()
    check(re.search(r"^Uid:\s65534\s65534\s65534\s65534$", status, re.M), "it did not become nobody")
    check(re.search(r"^CapEff:\s0{16}$", status, re.M), "it kept capabilities")
    check(re.search(r"^CapPrm:\s0{16}$", status, re.M), "it could have capabilities again")
    status, log = finish(daemon, signal.SIGTERM)
    check(status == 0, f"it did not end well: {status}, {log}")


def test_journal_form(sockgated, folder):
    """With JOURNAL_STREAM naming stderr, lines start with their level."""
    log = os.path.join(folder, "log")
    with open(log, "w", encoding="ascii") as f:
        st = os.fstat(f.fileno())
        env = dict(os.environ, JOURNAL_STREAM=f"{st.st_dev}:{st.st_ino}")
        status = subprocess.run([sockgated, "--device", "nothing:x", "--control", os.path.join(folder, "c.sock")],
                                env=env, stderr=f, timeout=PATIENCE_S, check=False).returncode
    with open(log, encoding="ascii") as f:
        text = f.read()
    check(status == 1, f"status {status} for an unknown device")
    check(text.startswith("<3>") and text.count("\n") == 1, f"not one line for the journal: {text!r}")


def main():
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        print("skipped: needs root and /dev/net/tun")
        sys.exit(77)
    if sys.argv[1] != "--inside":
        os.execvp("unshare", ["unshare", "--net", "--", sys.executable, __file__, "--inside", *sys.argv[1:]])
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            with tempfile.TemporaryDirectory() as folder:
                os.chmod(folder, 0o755)
                test(os.path.abspath(sys.argv[2]), folder)
            print("ok", name)


try:
    main()
finally:
    for started in daemons:
        if started.poll() is None:
            started.kill()

# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: a network namespace, a daemon in it, examples beside it, the kernel opposite.

            kernel's TCP                          one network namespace, made for one test
      10.77.0.1 |
            [ sg0 ]  TAP
      10.77.0.2 |
             sockgated  ~~ control socket, segments ~~  examples (libsockclient)

With SOCKGATE_E2E_DEVICE=packet (or xdp) the kernel's sg0 is one end of a veth pair instead, and the daemon serves
the other end, sg0w, which has no address of the kernel's.

A test file defines functions with @case and ends with harness.main(). Run as `file.py CASE`, it enters a fresh
namespace, runs the case, and ends with status 0, 1, or 77 when the machine can't run it. Only processes started
here are ended, by their ids. Nothing waits by sleeping for a guessed time: wait_for() polls with a limit."""
import contextlib
import ctypes
import hashlib
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

KERNEL_ADDR = "10.77.0.1"
DAEMON_ADDR = "10.77.0.2"
PREFIX = 24
SKIP = 77
START_S = 10
IN_NAMESPACE = "SOCKGATE_E2E_IN_NAMESPACE"
PR_SET_PDEATHSIG = 1

BUILD = os.environ.get("SOCKGATE_BUILD", "build")
# Bytes of a bulk transfer; the sanitizers' builds use less.
BULK_BYTES = int(os.environ.get("SOCKGATE_E2E_BULK_BYTES", 1 << 30))
LOSSY_BYTES = int(os.environ.get("SOCKGATE_E2E_LOSSY_BYTES", 100 << 20))
# Kind of device that the daemon has, where a case does not ask for one.
DEVICE = os.environ.get("SOCKGATE_E2E_DEVICE", "tap")
# Workers of the daemon, unless a test says how many it wants.
WORKERS = int(os.environ.get("SOCKGATE_E2E_WORKERS", 1))
# Time limits grow by this under a sanitizer.
PATIENCE = float(os.environ.get("SOCKGATE_E2E_PATIENCE", 1))

_cases = {}
_libc = ctypes.CDLL(None, use_errno=True)


def case(function):
    """Marks a function of one argument (an Env) as a test case, named as it is."""
    _cases[function.__name__] = function
    return function


class Failure(Exception):
    """A test case found what must not be."""


class Skipped(Exception):
    """This machine can't run the case."""


def skip(reason):
    raise Skipped(reason)


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_equal(found, expected, what):
    check(found == expected, f"{what}: expected {expected!r}, found {found!r}")


def wait_for(what, predicate, seconds=10.0):
    """Polls until predicate() is true and returns its value."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds * PATIENCE:.0f} s")
        time.sleep(0.01)


def run(*command, **options):
    """Runs a command that must succeed; returns its standard output."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    check(done.returncode == 0, f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def program(name):
    """Path of something that was built."""
    for folder in ("daemon", "examples", "tests/tools", "tests/e2e", "bench/load"):
        path = os.path.join(BUILD, folder, name)
        if os.path.exists(path):
            return path
    raise Failure(f"{name} was not built in {BUILD}")


def _die_with_parent():
    """In a child: end when the test ends, however it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A program under test. Its output is collected line by line as it comes."""

    def __init__(self, name, arguments, env, log_dir, stdin=subprocess.DEVNULL, stdout=None, wrapper=()):
        self.name = name
        self.stderr_path = os.path.join(log_dir, f"{name}.{time.monotonic_ns()}.stderr")
        self._lines = []
        self._lock = threading.Lock()
        with open(self.stderr_path, "wb") as stderr:
            self.popen = subprocess.Popen([*wrapper, program(name), *map(str, arguments)], stdin=stdin,
                                          stdout=subprocess.PIPE if stdout is None else stdout, stderr=stderr,
                                          env=env, preexec_fn=_die_with_parent)
        self._reader = None
        if stdout is None:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()

    def _read(self):
        for line in self.popen.stdout:
            with self._lock:
                self._lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    @property
    def pid(self):
        return self.popen.pid

    def lines(self):
        with self._lock:
            return list(self._lines)

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def running(self):
        return self.popen.poll() is None

    def wait_line(self, pattern, seconds=10.0):
        """Waits until a line of standard output matches; returns it."""
        def look():
            for line in self.lines():
                if re.search(pattern, line):
                    return line
            check(self.running() or self._reader.is_alive(),
                  f"{self.name} ended with status {self.popen.poll()} before it printed {pattern!r}; "
                  f"it printed {self.lines()} and {self.stderr().strip()!r}")
            return None
        return wait_for(f"{self.name} prints {pattern!r}", look, seconds)

    def wait(self, seconds=10.0):
        """Waits for the end; returns the exit status."""
        try:
            status = self.popen.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {seconds * PATIENCE:.0f} s; it printed "
                          f"{self.lines()[-5:]} and {self.stderr().strip()!r}") from None
        if self._reader:
            self._reader.join(5)
        return status

    def expect_success(self, seconds=10.0):
        status = self.wait(seconds)
        check(status == 0, f"{self.name}: status {status}; it printed {self.lines()[-5:]} and {self.stderr().strip()!r}")

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        self.popen.kill()
        return self.wait()

    def end(self):
        """Ends it if it still runs: SIGTERM, then SIGKILL."""
        if self.running():
            self.popen.terminate()
            try:
                self.popen.wait(10 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


class Namespace:
    """A second network namespace, alive as long as the test. `enter` before a command runs it there."""

    def __init__(self):
        self.popen = subprocess.Popen(["unshare", "--net", "--", "sleep", "infinity"], preexec_fn=_die_with_parent)
        self.pid = self.popen.pid
        self.enter = ["nsenter", "--net", "--target", str(self.pid), "--"]
        own = os.readlink("/proc/self/ns/net")
        wait_for("the namespace", lambda: os.readlink(f"/proc/{self.pid}/ns/net") != own)
        run(*self.enter, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up")

    def close(self):
        self.popen.kill()
        self.popen.wait()


class Env:
    """One test's world."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="sockgate-e2e.")
        os.chmod(self.dir, 0o755) # programs of other users reach the control socket
        self.control = os.path.join(self.dir, "control.sock")
        self.env = dict(os.environ, SOCKGATE_CONTROL=self.control)
        self.processes = []
        self.namespaces = []
        self.daemon = None
        self.besides = []
        run("ip", "link", "set", "lo", "up")

    @staticmethod
    def beside(other):
        """A second world in the same namespace, which ends with the first: another daemon and its programs."""
        env = Env()
        other.besides.append(env)
        return env

    def finish(self):
        """After a case that succeeded: the daemon stops as it should, and no sanitizer reported anything."""
        for env in self.besides:
            env.finish()
        for process in reversed(self.processes):
            running = process.running()
            process.end()
            if running and process is self.daemon:
                check_equal(process.popen.returncode, 0, "status of sockgated after SIGTERM")
            check(not re.search(r"Sanitizer|runtime error:", process.stderr()), f"{process.name}: a sanitizer's report")

    def close(self):
        for env in self.besides:
            env.close()
        for process in reversed(self.processes):
            process.end()
        for namespace in self.namespaces:
            namespace.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, name, *arguments, **options):
        process = Process(name, arguments, self.env, self.dir, **options)
        self.processes.append(process)
        return process

    def namespace(self):
        self.namespaces.append(Namespace())
        return self.namespaces[-1]

    def start_daemon(self, *arguments, device=None, kernel_side=None, address=DAEMON_ADDR, configure=True,
                     wrapper=(), workers=0):
        """Starts sockgated, waits until it serves, and gives the kernel's side of the device its address."""
        if not device:
            device, kernel_side = self.default_device(), "sg0"
        kernel_side = kernel_side or device.split(":")[1]
        self.daemon = self.start("sockgated", "--workers", str(workers or WORKERS), "--device", device,
                                 "--address", f"{address}/{PREFIX}",
                                 "--gateway", KERNEL_ADDR, "--control", self.control,
                                 "--set", f"daemon.secret_file={self.dir}/secret", *arguments, wrapper=wrapper)
        self.wait_daemon()
        if configure:
            run("ip", "addr", "add", f"{KERNEL_ADDR}/{PREFIX}", "dev", kernel_side)
            run("ip", "link", "set", kernel_side, "up")
        return self.daemon

    @staticmethod
    def default_device():
        """The device whose kernel side is sg0, made if need be."""
        return Env.wire("sg0") if DEVICE != "tap" else "tap:sg0"

    @staticmethod
    def wire(name, kind=DEVICE, mtu=1500):
        """A veth pair, if there is none of this name yet: the kernel's end, and the daemon's, which is returned as
        the device to serve."""
        if subprocess.run(["ip", "link", "show", f"{name}w"], capture_output=True).returncode:
            run("ip", "link", "add", name, "mtu", str(mtu), "type", "veth", "peer", "name", f"{name}w", "mtu", str(mtu))
            with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as f:
                f.write("0") # as a machine has it that is no router
            run("ip", "link", "set", f"{name}w", "up")
        return f"{kind}:{name}w"

    def wait_daemon(self):
        def up():
            check(self.daemon.running(), f"sockgated ended with status {self.daemon.popen.poll()}: "
                                         f"{self.daemon.stderr().strip()!r} {self.daemon.lines()}")
            if not os.path.exists(self.control):
                return False
            probe = subprocess.run([program("sockgatectl"), "version"], env=self.env, capture_output=True)
            return probe.returncode == 0
        wait_for("sockgated serves its control socket", up, 20)

    def ctl(self, what, *options):
        """Rows of `sockgatectl WHAT --json`."""
        text = run(program("sockgatectl"), what, *options, "--json", env=self.env)
        rows = json.loads(text)
        if isinstance(rows, dict) and isinstance(rows.get(what), (list, dict)):
            rows = rows[what]
        return rows

    def stats(self, *options):
        """Counters by name."""
        rows = self.ctl("stats", *options)
        if isinstance(rows, dict) and "counters" in rows:
            rows = rows["counters"]
        return rows if isinstance(rows, dict) else {row["name"]: row["value"] for row in rows}

    def sockets(self, **fields):
        """Rows of `sockgatectl sockets` whose fields have these values."""
        return [row for row in self.ctl("sockets") if all(row.get(k) == v for k, v in fields.items())]

    def wait_listening(self, port, seconds=10.0):
        wait_for(f"a listener on port {port}",
                 lambda: [r for r in self.sockets(state="LISTEN") if r["local_port"] == port], seconds)

    def connect(self, port, seconds=10.0):
        """A connection of the kernel's TCP to the daemon."""
        conn = socket.create_connection((DAEMON_ADDR, port), timeout=seconds * PATIENCE)
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return conn

    @contextlib.contextmanager
    def kernel_listener(self, port, backlog=8, seconds=10.0):
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((KERNEL_ADDR, port))
            listener.listen(backlog)
            listener.settimeout(seconds * PATIENCE)
            yield listener
        finally:
            listener.close()


def start_wrongly(env, *arguments, wrapper=()):
    """Runs sockgated, which must refuse; returns its one line."""
    command = [*wrapper, program("sockgated"), *arguments]
    try:
        done = subprocess.run(command, env=env.env, capture_output=True, text=True, timeout=START_S * PATIENCE)
    except subprocess.TimeoutExpired as expired:
        raise Failure(f"it started: {command}: {expired.stderr}") from None
    check(done.returncode != 0, f"status 0: {done.stdout}{done.stderr}")
    check(done.returncode > 0, f"it was killed by signal {-done.returncode}: {done.stderr}")
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    check_equal(len(lines), 1, f"lines printed ({lines})")
    print(lines[0])
    return lines[0]


def check_says(line, *patterns):
    for pattern in patterns:
        check(re.search(pattern, line, re.IGNORECASE), f"{line!r} does not say {pattern!r}")


def receive_exactly(conn, count):
    data = bytearray()
    while len(data) < count:
        piece = conn.recv(count - len(data))
        check(piece, f"end of file after {len(data)} of {count} bytes")
        data += piece
    return bytes(data)


def receive_all(conn):
    pieces = []
    while True:
        piece = conn.recv(1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def make_file(path, size):
    """A file of `size` bytes that no compression or shift goes unnoticed in; returns its SHA-256."""
    block = os.urandom(1 << 20)
    digest = hashlib.sha256()
    with open(path, "wb") as f:
        left, number = size, 0
        while left:
            piece = (number.to_bytes(8, "big") + block[8:])[:left]
            f.write(piece)
            digest.update(piece)
            left -= len(piece)
            number += 1
    return digest.hexdigest()


def file_sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def send_file(conn, path):
    with open(path, "rb") as f:
        conn.sendfile(f)


def receive_sha256(conn):
    """Reads to the end of file; returns (bytes, SHA-256)."""
    digest, count = hashlib.sha256(), 0
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    while n := conn.recv_into(buffer):
        digest.update(view[:n])
        count += n
    return count, digest.hexdigest()


def allow_descriptors(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))


def cpu_seconds(pid):
    """CPU time that a process has used, user and system."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def readable(conn, seconds):
    return bool(select.select([conn], [], [], seconds * PATIENCE)[0])


def enter_namespace():
    """Becomes the same test in a network namespace of its own."""
    if os.environ.get(IN_NAMESPACE):
        return
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        sys.exit(SKIP)
    if not os.path.exists("/dev/net/tun"):
        print("skipped: this machine has no /dev/net/tun")
        sys.exit(SKIP)
    os.environ[IN_NAMESPACE] = "1"
    # Mounts too: a case may hide a device from the daemon without hiding it from the machine.
    os.execvp("unshare", ["unshare", "--net", "--mount", "--", sys.executable, *sys.argv])


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in _cases:
        print(f"usage: {sys.argv[0]} CASE\ncases: {' '.join(_cases)}", file=sys.stderr)
        sys.exit(2)
    enter_namespace()
    env = Env()
    # A time limit of Meson's ends us by SIGTERM: clean up then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    status = 0
    try:
        _cases[sys.argv[1]](env)
        env.finish()
    except Skipped as reason:
        print(f"skipped: {reason}")
        status = SKIP
    except Failure as failure:
        print(f"FAILED {sys.argv[1]}: {failure}")
        status = 1
    except Exception: # any other error of a test is a failure with a trace
        traceback.print_exc()
        status = 1
    if status not in (0, SKIP):
        for process in env.processes:
            print(f"--- {process.name} ({'running' if process.running() else process.popen.returncode}): "
                  f"{process.lines()[-5:]}\n{process.stderr()[-3000:]}")
    env.close()
    sys.exit(status)

# SPDX-License-Identifier: Apache-2.0
"""The ways from the generator to a server that are compared: who serves, over what, and on which core.

Each is a context: it makes devices and starts processes on entry, and all of it is gone on exit. Servers and
generators are sockgate-load; `bench.env` (tests/e2e/harness.py) holds the processes."""
import contextlib
import json
import os
import resource
import subprocess

import harness

PORT = 7
CONGESTION = "cubic"
SERVER_CONNECTIONS = 1200
# Ports that a client may have, TIME_WAIT records that are kept: so that neither bounds a rate of connections.
SYSCTLS = {"ipv4/ip_local_port_range": "1024 65535", "ipv4/tcp_max_tw_buckets": "4096",
           "core/somaxconn": "8192", "ipv4/tcp_max_syn_backlog": "8192",
           "ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}


def sysctls(enter=()):
    script = "".join(f"[ ! -e /proc/sys/net/{k} ] || echo '{v}' >/proc/sys/net/{k}\n" for k, v in SYSCTLS.items())
    harness.run(*enter, "sh", "-ec", script)


def descriptors():
    """Connections that a process may have a descriptor for."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 256


def ports_for(connections):
    """So many that each port's share fits the clients' numbers and one process."""
    return 1 + connections // min(descriptors() * 4 // 5, 40000)


def pinned(cpu):
    return ["taskset", "-c", str(cpu)]


class Path:
    """name: as it stands in tables. net: arguments of the generator; server_net: of the server."""

    name = "?"
    address = "?"
    net, server_net = ["--net", "kernel"], ["--net", "kernel"]
    enter, server_enter = (), () # namespaces

    def __init__(self, bench):
        self.bench = bench
        self.generator_cpu, self.server_cpu = bench.placement.generator, bench.placement.server

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        try:
            self.open()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def open(self):
        """Make what it needs; undo it by self.stack."""

    def start(self, name, *arguments, **options):
        process = self.bench.env.start(name, *arguments, **options)
        self.stack.callback(process.end)
        return process

    def start_server(self, mode, port, ports, connections):
        return self.bench.env.start("sockgate-load", mode, *self.server_net, "--port", port, "--ports", ports,
                                    "--connections", connections, "--congestion", CONGESTION,
                                    wrapper=[*self.server_enter, *pinned(self.server_cpu)])

    @contextlib.contextmanager
    def serving(self, mode, ports=1, connections=SERVER_CONNECTIONS):
        """A server on so many ports; where each connection takes a descriptor and a process may not have as many,
        one for each port."""
        if self.server_net[1] == "kernel" and connections > descriptors():
            share = connections // ports + 256
            servers = [self.start_server(mode, PORT + i, 1, share) for i in range(ports)]
        else:
            servers = [self.start_server(mode, PORT, ports, connections)]
        try:
            for server in servers:
                server.wait_line("^ready", 30)
            self.await_link()
            yield servers[0]
        finally:
            for server in servers:
                server.end()
            self.after_server()

    def await_link(self):
        """The server is up; until frames pass too."""

    def after_server(self):
        """The port is to be free again."""

    def generator(self, mode, *arguments):
        return [*self.enter, *pinned(self.generator_cpu), harness.program("sockgate-load"), mode, *self.net,
                "--to", self.address, "--port", str(PORT), *([] if self.net[1] == "engine" else
                                                             ["--congestion", CONGESTION]), *map(str, arguments)]

    def generate(self, mode, *arguments, limit=120):
        """One run of the generator; its result."""
        done = subprocess.run(self.generator(mode, *arguments), capture_output=True, text=True, env=self.bench.env.env,
                              timeout=limit)
        harness.check(done.returncode == 0, f"{self.name}: {done.stderr.strip() or done.returncode}")
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def holding(self, connections, ports=1):
        """Idle connections from the generator's side, until the end of the context: one process for each port."""
        share = [connections // ports + (i < connections % ports) for i in range(ports)]
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(Held(self, PORT + i, n)) for i, n in enumerate(share) if n]
            for h in held:
                h.wait()
            yield


class Held:
    """One process with idle connections."""

    def __init__(self, path, port, connections):
        self.name = path.name
        self.popen = subprocess.Popen(path.generator("hold", "--connections", connections, "--port", port),
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      text=True, env=path.bench.env.env)

    def __enter__(self):
        return self

    def wait(self):
        line = self.popen.stdout.readline()
        harness.check(line.startswith("ready"), f"{self.name}: {line or self.popen.stderr.read().strip()}")

    def __exit__(self, *_):
        self.popen.stdin.close()
        try:
            self.popen.wait(60)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self.popen.stdout.close()
        self.popen.stderr.close()


class KernelVeth(Path):
    """The kernel's TCP on both sides of a veth pair between two namespaces."""

    name = "kernel, veth"
    address = "10.78.0.2"

    def __init__(self, bench, same_core=False):
        super().__init__(bench)
        if same_core:
            self.name = "kernel, veth, one core"
            self.server_cpu = self.generator_cpu

    def open(self):
        namespace = self.bench.env.namespace()
        self.stack.callback(namespace.close)
        self.server_enter = namespace.enter
        harness.run("ip", "link", "add", "bv0", "type", "veth", "peer", "name", "bv1", "netns", str(namespace.pid))
        self.stack.callback(subprocess.run, ["ip", "link", "del", "bv0"], stderr=subprocess.DEVNULL)
        sysctls()
        sysctls(namespace.enter)
        for enter, device, address in (((), "bv0", "10.78.0.1"), (namespace.enter, "bv1", "10.78.0.2")):
            harness.run(*enter, "ip", "addr", "add", address + "/24", "dev", device)
            harness.run(*enter, "ip", "link", "set", device, "up")


class Sockgate(Path):
    """A daemon and an application on one core; the devices make the difference."""

    server_net = ["--net", "client"]
    options = ()

    def start_daemon(self, device, address, *options):
        self.control = os.path.join(self.bench.env.dir, f"{device.partition(':')[0]}.sock")
        self.env = dict(self.bench.env.env, SOCKGATE_CONTROL=self.control)
        self.bench.env.env = self.env # of the processes started from now on
        self.daemon = self.start("sockgated", "--device", device, "--address", address + "/24", "--control",
                                 self.control, "--set", f"daemon.secret_file={self.bench.env.dir}/secret", "--set",
                                 f"tcp.congestion={CONGESTION}", *self.options, *options,
                                 wrapper=pinned(self.server_cpu))
        self.bench.env.daemon = self.daemon
        self.bench.env.control = self.control
        self.bench.env.wait_daemon()

    def ctl(self, what):
        rows = json.loads(harness.run(harness.program("sockgatectl"), what, "--json", env=self.env))
        return rows[what] if isinstance(rows, dict) and what in rows else rows

    def after_server(self):
        harness.wait_for("the daemon has no socket left",
                         lambda: not [s for s in self.ctl("sessions") if s["sockets"] or s["orphans"]], 30)


class SockgateTap(Sockgate):
    """The kernel's TCP on its side of a TAP device, Sockgate on the other."""

    name = "Sockgate, tap"
    address = "10.77.0.2"

    def __init__(self, bench, *options):
        super().__init__(bench)
        self.options = options

    def open(self):
        sysctls()
        self.start_daemon("tap:sg0", self.address)
        harness.run("ip", "addr", "add", "10.77.0.1/24", "dev", "sg0")
        harness.run("ip", "link", "set", "sg0", "up")


class KernelLoopback(Path):
    name = "kernel, loopback"
    address = "127.0.0.1"

    def open(self):
        sysctls()


class SockgateLocal(SockgateTap):
    """Two applications of one daemon; generator and server are both clients of it."""

    name = "Sockgate, local"
    net = ["--net", "client"]

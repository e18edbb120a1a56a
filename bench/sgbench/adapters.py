# SPDX-License-Identifier: Apache-2.0
"""Other stacks that the user has installed, each described by a file in bench/adapters (README.md there).

An adapter's server is sockgate-load's kernel server, run with the stack's preload library in its environment,
opposite the same generator over a veth pair of its own."""
import os
import shutil
import subprocess
import tomllib

import harness

from sgbench import paths

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "adapters")
NETWORK = "10.80.{}"
KEYS = {"name", "needs", "files", "daemon", "daemon_core", "ready", "kernel_has_address", "environment", "ready_s"}


class Bad(Exception):
    """A file that is no adapter; the text says what is wrong."""


class Adapter:
    def __init__(self, file):
        self.file = file
        try:
            with open(file, "rb") as f:
                self.table = tomllib.load(f)
        except tomllib.TOMLDecodeError as error:
            raise Bad(f"{file}: {error}") from None
        unknown = set(self.table) - KEYS
        if unknown or "name" not in self.table:
            raise Bad(f"{file}: {'unknown: ' + ', '.join(sorted(unknown)) if unknown else 'no name'}")
        self.name = self.table["name"]

    def missing(self):
        """What of its needs is not installed: programs by name, files by path."""
        return [n for n in self.table.get("needs", []) if not (os.path.exists(n) if "/" in n else shutil.which(n))]

    def status(self):
        missing = self.missing()
        return f"not installed ({', '.join(missing)})" if missing else "installed"


def load(folder=FOLDER):
    return [Adapter(os.path.join(folder, n)) for n in sorted(os.listdir(folder)) if n.endswith(".toml")]


def usable(bench):
    return [AdapterPath(bench, a, i) for i, a in enumerate(bench.adapters) if not a.missing()]


class AdapterPath(paths.Path):
    """The stack's daemon takes one end of a veth pair."""

    def __init__(self, bench, adapter, index):
        super().__init__(bench)
        self.table, self.name = adapter.table, adapter.name
        self.device, self.peer = f"ad{index}s", f"ad{index}g"
        self.network = NETWORK.format(index)
        self.address = self.network + ".2"
        self.dir = os.path.join(bench.env.dir, f"adapter{index}")

    def words(self, text):
        for key, value in (("device", self.device), ("address", self.address), ("peer", self.network + ".1"),
                           ("dir", self.dir), ("server_core", self.server_cpu),
                           ("generator_core", self.generator_cpu)):
            text = text.replace("{" + key + "}", str(value))
        return text

    def open(self):
        paths.sysctls()
        os.makedirs(self.dir)
        namespace = self.bench.env.namespace()
        self.stack.callback(namespace.close)
        paths.sysctls(namespace.enter)
        self.server_enter = [*namespace.enter, "env", *[f"{k}={self.words(v)}" for k, v in
                                                         self.table.get("environment", {}).items()]]
        harness.run("ip", "link", "add", self.peer, "type", "veth", "peer", "name", self.device, "netns",
                    str(namespace.pid))
        harness.run("ip", "addr", "add", self.network + ".1/24", "dev", self.peer)
        harness.run("ip", "link", "set", self.peer, "up")
        if self.table.get("kernel_has_address", False):
            harness.run(*namespace.enter, "ip", "addr", "add", self.address + "/24", "dev", self.device)
        harness.run(*namespace.enter, "ip", "link", "set", self.device, "up")
        for name, content in self.table.get("files", {}).items():
            with open(os.path.join(self.dir, os.path.basename(name)), "w", encoding="utf-8") as f:
                f.write(self.words(content))
        self.start_stack(namespace)

    def start_stack(self, namespace):
        if "daemon" not in self.table:
            return
        log = os.path.join(self.dir, "daemon.log")
        with open(log, "wb") as f:
            daemon = subprocess.Popen([*namespace.enter, *paths.pinned(self.server_cpu),
                                       *map(self.words, self.table["daemon"])], stdin=subprocess.DEVNULL, stdout=f,
                                      stderr=subprocess.STDOUT)
        self.stack.callback(end, daemon)
        ready = [*namespace.enter, *map(self.words, self.table.get("ready", ["true"]))]

        def up():
            harness.check(daemon.poll() is None, f"{self.name}: its daemon ended, see below\n{tail(log)}")
            return subprocess.run(ready, capture_output=True).returncode == 0
        harness.wait_for(f"{self.name} is ready", up, self.table.get("ready_s", 20))


def tail(path, size=2000):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()[-size:]


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

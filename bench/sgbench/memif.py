# SPDX-License-Identifier: Apache-2.0
"""A wire without the kernel: two processes joined by DPDK's memif, shared memory with a socket to set it up."""
import json
import os
import subprocess

import harness

from sgbench import paths

ADDRESS, GENERATOR_ADDRESS = "10.79.0.2", "10.79.0.1"


def missing(bench):
    """Why it can't be used; "" when it can."""
    kinds = subprocess.run([harness.program("sockgate-load"), "devices"], capture_output=True, text=True).stdout
    if "dpdk" not in kinds.replace(",", " ").split():
        return f"this build has no dpdk: device (it has {kinds.strip()}), so there is no memif wire"
    return ""


def device(role, socket_path):
    """The server owns the socket; each end is a DPDK process of its own."""
    return f"dpdk:net_memif0,role={role},socket={socket_path},socket-abstract=no,id=0,rsize=10"


class Wire:
    """Both ends of a memif. The generator's end stays between runs: DPDK's driver may take the other process down
    with it when an end goes away."""

    def wire(self):
        self.socket = os.path.join(self.bench.env.dir, "memif.sock")
        self.net = ["--net", "engine", "--device", device("client", self.socket), "--address",
                    GENERATOR_ADDRESS + "/24", "--spin"]
        self.running, self.arguments = None, None

    def generate(self, mode, *arguments, limit=120):
        if self.arguments != (mode, *arguments):
            self.end_generator()
            self.running = subprocess.Popen(self.generator(mode, "--again", *arguments), stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                            env=self.bench.env.env)
            self.arguments = (mode, *arguments)
            self.stack.callback(self.end_generator)
        else:
            self.running.stdin.write("again\n")
            self.running.stdin.flush()
        line = self.running.stdout.readline()
        harness.check(line, f"{self.name}: {'' if line else self.running.stderr.read().strip()}")
        return json.loads(line)

    def end_generator(self):
        if not self.running:
            return
        running, self.running = self.running, None
        running.stdin.close()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        running.stdout.close()
        running.stderr.close()


class SockgateMemif(Wire, paths.Sockgate):
    name = "Sockgate, memif"
    address = ADDRESS

    def open(self):
        self.wire()
        self.start_daemon(device("server", self.socket), ADDRESS)


class EngineMemif(Wire, paths.Path):
    """The echo server in one process with the engine: what is left when nothing is isolated."""

    name = "engine in-process, memif"
    address = ADDRESS

    def open(self):
        self.wire()
        self.server_net = ["--net", "engine", "--device", device("server", self.socket), "--address",
                           ADDRESS + "/24", "--spin"]

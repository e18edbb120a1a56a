#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Goodput through Sockgate and between two kernels, on the same bad path, taking turns.

    tests/tools/goodput.py [--rtt 1,20,100] [--loss 0,0.1,1,5] [--cc cubic] [--runs 3] [--seconds 4]

For each path (round trip in ms, loss in percent of the frames of each direction) a stream of `seconds` is
measured in both directions, kernel to kernel and kernel to Sockgate in turn, `runs` times; the table shows the
medians and their ratio. Figures depend on the machine and its load: only the ratio means anything.

      K1's namespace           G: sockgate-forwarder         K2's namespace, or G
     10.77.0.1 [ k0 ] ==== [ v0 ] ( delay, loss ) [ w0 ] ==== [ l0 ] 10.77.0.2   kernel
     10.77.1.1 [ k1 ] ==== [ v1 ] ( delay, loss ) [ sg0 ] sockgated  10.77.1.2

Each frame meets its fate by itself: the forwarder cuts TSO frames. The kernel's algorithm is set by name on each
socket (TCP_CONGESTION), the engine's by its configuration; the kernel's BBR is version 1, the engine's is version
3. The kernel's buffers are left to its auto-tuning, Sockgate's to its configuration's defaults.

The time before a measurement (a second and ten round trips) is not counted. K1 sends: what was acknowledged counts
(tcpi_bytes_acked). K1 receives: what its socket delivered counts."""
import argparse
import os
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "e2e"))
import harness # noqa: E402 (needs the path)

PORT = 5201
PIECE = 1 << 18
NETS = {"kernel": "10.77.0", "sockgate": "10.77.1"}
BYTES_ACKED_AT = 120 # tcpi_bytes_acked in struct tcp_info
PATIENCE_S = 30      # beyond what a measurement takes


# ---- The kernel's ends: this program again, in their namespaces ---------------------------------------------

def bytes_acked(conn):
    info = conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED_AT + 8)
    return struct.unpack_from("Q", info, BYTES_ACKED_AT)[0]


def measure(conn, sends, warm, seconds):
    """Bytes a second after `warm` seconds, for `seconds`."""
    data, buffer = bytes(PIECE), bytearray(PIECE)
    conn.setblocking(False)
    start = time.monotonic()
    total = before = 0
    begun = None
    while True:
        now = time.monotonic()
        if begun is None and now >= start + warm:
            begun, before = now, bytes_acked(conn) if sends else total
        if begun is not None and now >= begun + seconds:
            return ((bytes_acked(conn) if sends else total) - before) / (now - begun)
        limit = (start + warm if begun is None else begun + seconds) - now
        ready = select.select([] if sends else [conn], [conn] if sends else [], [], max(limit, 0))
        if sends and ready[1]:
            conn.send(data)
        elif ready[0]:
            total += conn.recv_into(buffer)


def serve(sends):
    """K2: one connection, until the other end goes."""
    with socket.create_server(("", PORT)) as listener:
        print("ready", flush=True)
        conn, _ = listener.accept()
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, os.environ["GOODPUT_CC"].encode())
        data, buffer = bytes(PIECE), bytearray(PIECE)
        try:
            while conn.sendall(data) is None if sends else conn.recv_into(buffer):
                pass
        except OSError:
            pass # K1 has what it wants


def client(address, sends, warm, seconds):
    """K1."""
    with socket.socket() as conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, os.environ["GOODPUT_CC"].encode())
        conn.settimeout(PATIENCE_S)
        conn.connect((address, PORT))
        print(measure(conn, sends, warm, seconds))
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)) # end it at once


# ---- The path ------------------------------------------------------------------------------------------------

class Path:
    """Both wires with the same delay and loss."""

    def __init__(self, env, rtt_ms, loss, cc):
        self.env, self.rtt_ms, self.loss, self.cc = env, rtt_ms, loss, cc
        self.forwarders = [self._wire("v0", "w0"), self._wire("v1", "sg0")]

    def _wire(self, a, b):
        forwarder = self.env.start("sockgate-forwarder", "--a", a, "--b", b, "--loss", self.loss, "--delay-us",
                                   int(self.rtt_ms * 500), "--split", "--seed", 1)
        forwarder.wait_line(".")
        return forwarder

    def close(self):
        for forwarder in self.forwarders:
            forwarder.signal(signal.SIGTERM)
            forwarder.expect_success()
            print("   ", forwarder.lines()[-1])

    def goodput(self, opposite, k1_sends, seconds):
        """Bytes a second of one stream between K1 and the opposite end."""
        warm = 1 + self.rtt_ms / 100
        role = "--receive" if k1_sends else "--send"
        env = dict(self.env.env, GOODPUT_CC=self.cc)
        if opposite == "kernel":
            server = subprocess.Popen([*self.env.k2.enter, sys.executable, __file__, "--as", "serve" + role], env=env,
                                      stdout=subprocess.PIPE)
            server.stdout.readline()
        else:
            with open("/dev/zero", "rb") as zero, open("/dev/null", "wb") as null:
                server = self.env.start("bulk_server", role, "0.0.0.0", PORT, stdin=zero, stdout=null).popen
            self.env.wait_listening(PORT)
        try:
            out = harness.run(*self.env.k1.enter, sys.executable, __file__, "--as", "client" + role, "--address",
                              NETS[opposite] + ".2", "--warm", str(warm), "--seconds", str(seconds), env=env,
                              timeout=warm + seconds + 2 * PATIENCE_S)
        finally:
            server.kill()
            server.wait()
        if opposite == "sockgate": # the port is free again
            harness.wait_for("no socket left", lambda: not [
                r for r in self.env.sockets(local_port=PORT) if r["state"] != "TIME_WAIT"], PATIENCE_S)
        return float(out)


def build_net(env):
    env.k1, env.k2 = env.namespace(), env.namespace()
    env.start_daemon("--address", NETS["sockgate"] + ".2/24", "--gateway", NETS["sockgate"] + ".1", *env.options,
                     configure=False)
    for here, there, name, address in (("v0", env.k1, "k0", NETS["kernel"] + ".1"),
                                       ("w0", env.k2, "l0", NETS["kernel"] + ".2"),
                                       ("v1", env.k1, "k1", NETS["sockgate"] + ".1")):
        harness.run("ip", "link", "add", here, "type", "veth", "peer", "name", name, "netns", str(there.pid))
        harness.run(*there.enter, "ip", "addr", "add", address + "/24", "dev", name)
        harness.run(*there.enter, "ip", "link", "set", name, "up")
    for here in ("v0", "w0", "v1", "sg0"):
        with open(f"/proc/sys/net/ipv6/conf/{here}/disable_ipv6", "w", encoding="ascii") as f:
            f.write("1")
        harness.run("ip", "link", "set", here, "up")


def measure_path(env, rtt, loss, cc, options):
    path = Path(env, rtt, loss, cc)
    for k1_sends in (True, False):
        found = {opposite: [] for opposite in NETS}
        for run in range(options.runs):
            for opposite in NETS:
                found[opposite].append(path.goodput(opposite, k1_sends, options.seconds) / 1e6)
                print(f"    {cc} {rtt} ms {loss} % {'to' if k1_sends else 'from'} {opposite} run {run + 1}: "
                      f"{found[opposite][-1]:.2f} MB/s", flush=True)
        kernel, ours = (statistics.median(found[o]) for o in ("kernel", "sockgate"))
        yield (f"| {cc} | {rtt} | {loss} | {'to' if k1_sends else 'from'} Sockgate | {kernel:.2f} | {ours:.2f} | "
               f"{ours / kernel if kernel else 0:.2f} |")
    path.close()


def words(text):
    return [float(w) if "." in w else int(w) for w in text.split(",")]


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rtt", type=words, default=[1, 20, 100], help="round trips in ms (1,20,100)")
    p.add_argument("--loss", type=words, default=[0, 0.1, 1, 5], help="percent lost (0,0.1,1,5)")
    p.add_argument("--cc", type=lambda t: t.split(","), default=["cubic"], help="cubic, bbr (cubic)")
    p.add_argument("--runs", type=int, default=3, help="of each, taking turns (3)")
    p.add_argument("--seconds", type=float, default=4, help="of each run (4)")
    p.add_argument("--limit", type=float, default=3600, help="seconds for everything (3600)")
    p.add_argument("--daemon-option", action="append", default=[], metavar="ARG",
                   help="one more argument of sockgated")
    for name in ("as", "address"):
        p.add_argument("--" + name, dest=name + "_", help=argparse.SUPPRESS)
    p.add_argument("--warm", type=float, help=argparse.SUPPRESS)
    return p.parse_args()


def main():
    options = parse()
    if options.as_:
        role, _, direction = options.as_.partition("--")
        if role == "serve":
            serve(direction == "send")
        else: # the opposite end's direction is the other one
            client(options.address_, direction == "receive", options.warm, options.seconds)
        return 0
    harness.enter_namespace()
    end = time.monotonic() + options.limit
    rows = []
    try:
        for cc in options.cc:
            env = harness.Env()
            env.options = ["--set", f"tcp.congestion={cc}", *options.daemon_option]
            try:
                build_net(env)
                for rtt in options.rtt:
                    for loss in options.loss:
                        if time.monotonic() > end:
                            raise harness.Failure("out of time; the rest is left out")
                        rows += measure_path(env, rtt, loss, cc, options)
            finally:
                env.close()
    except harness.Failure as failure:
        print(f"FAILED: {failure}")
    print("| algorithm | round trip, ms | loss, % | direction | kernel, MB/s | Sockgate, MB/s | ratio |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


sys.exit(main())

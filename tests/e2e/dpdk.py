#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The dpdk: device: against the kernel over a veth pair, and two daemons opposite each other.

      kernel 10.77.0.1 [ k0 ]====[ v0 ] sockgated 10.77.0.2        v0 and the daemon in a namespace of their own

      first sockgated 10.77.0.2 ==== memif, or virtio-user and vhost ==== second sockgated 10.77.0.3
"""
import contextlib
import os
import socket
import subprocess

import harness
from harness import DAEMON_ADDR, KERNEL_ADDR, PREFIX, case, check, check_equal, wait_for

SECOND_ADDR = "10.77.0.3"
PORT = 5201
SIZE = min(harness.BULK_BYTES, 16 << 20)
HUGE_PAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
HUGE_WANTED = 40 # of 2 MiB, for the 64 MiB of dpdk.memory_mb
HUGE_ENOUGH = 32


class Side:
    """A daemon that is not the harness's own, its control socket, and programs that are attached to it."""

    def __init__(self, env, address, device, *arguments, name="second"):
        self.env, self.address = env, address
        self.control = os.path.join(env.dir, f"{name}.sock")
        self.environment = dict(env.env, SOCKGATE_CONTROL=self.control)
        self.daemon = self.start("sockgated", "--device", device, "--address", f"{address}/{PREFIX}", "--control",
                                 self.control, "--set", "daemon.secret_file=", *arguments)

    def start(self, name, *arguments, **options):
        process = harness.Process(name, arguments, self.environment, self.env.dir, **options)
        self.env.processes.append(process)
        return process

    def ctl(self, what):
        text = harness.run(harness.program("sockgatectl"), what, "--json", env=self.environment)
        return harness.json.loads(text)[what]

    def ready(self):
        def up():
            check(self.daemon.running(), f"a daemon ended: {self.daemon.stderr().strip()!r}")
            return subprocess.run([harness.program("sockgatectl"), "version"], env=self.environment,
                                  capture_output=True).returncode == 0
        wait_for("the daemon serves its control socket", up, 20)

    def device(self):
        return self.ctl("devices")[0]

    def link_up(self):
        wait_for(f"the link of {self.address} is up", lambda: self.device()["state"] == "up", 20)


def two_sides(env, first, second, arguments=((), ())):
    """A daemon at each end, started one after the other, their link up."""
    sides = []
    for name, address, device, more in (("first", DAEMON_ADDR, first, arguments[0]),
                                        ("second", SECOND_ADDR, second, arguments[1])):
        sides.append(Side(env, address, device, *more, name=name))
        sides[-1].ready()
    for side in sides:
        side.link_up()
    return sides


def between(env, here, there):
    """Ping, a stream whose bytes are compared, and a datagram from `there` to `here`."""
    ping = there.start("posix_ping", here.address)
    ping.expect_success(20)
    check(" of " in ping.lines()[-1] and not ping.lines()[-1].startswith("0 "), f"answers to ping: {ping.lines()}")

    source, sink = os.path.join(env.dir, "source"), os.path.join(env.dir, "sink")
    expected = harness.make_file(source, SIZE)
    with open(source, "rb") as data, open(sink, "wb") as out:
        server = here.start("bulk_server", "--receive", "0.0.0.0", PORT, stdout=out)
        wait_for("a listener", lambda: any(r["local_port"] == PORT for r in here.ctl("sockets")))
        client = there.start("bulk_client", "--send", here.address, PORT, stdin=data)
        client.expect_success(60)
        server.expect_success(60)
    check_equal(harness.file_sha256(sink), expected, "SHA-256 of the bytes received")
    for side in (here, there):
        row = side.device()
        check(row["rx_frames"] and row["tx_frames"], f"frames both ways: {row}")
    os.unlink(sink)


def end_in_order(env):
    for process in reversed(env.processes):
        running = process.running()
        process.end()
        if running and process.name == "sockgated":
            check_equal(process.popen.returncode, 0, "status of sockgated after SIGTERM")


# ---- The kernel opposite --------------------------------------------------------------------------------

def start_wired(env, device, *arguments):
    """The daemon's end of a veth pair in a namespace of its own, and the kernel here.

    The kernel leaves checksums to the card, and DPDK's drivers can't say so: it must make them itself."""
    wire = env.namespace()
    harness.run("ip", "link", "add", "k0", "type", "veth", "peer", "name", "v0", "netns", str(wire.pid))
    harness.run("ip", "addr", "add", f"{KERNEL_ADDR}/{PREFIX}", "dev", "k0")
    harness.run("ip", "link", "set", "k0", "up")
    harness.run(*wire.enter, "ip", "link", "set", "v0", "up")
    harness.run("ethtool", "-K", "k0", "tx", "off")
    env.start_daemon("--set", "dpdk.huge=never", *arguments, device=device, configure=False, wrapper=wire.enter)
    wait_for("the link is up", lambda: env.ctl("devices")[0]["state"] == "up", 20)


def against_kernel(env, largest=4000):
    """Ping, a stream each way, datagrams."""
    harness.run("ping", "-c", "3", "-i", "0.2", "-w", "10", DAEMON_ADDR)
    env.start("echo_many", "0.0.0.0", PORT)
    env.wait_listening(PORT)
    with env.connect(PORT) as conn:
        for size in (1, 64, 1000, 300000):
            data = os.urandom(size)
            conn.sendall(data)
            check_equal(harness.receive_exactly(conn, size), data, f"echo of {size} bytes")
    sink, source = os.path.join(env.dir, "sink"), os.path.join(env.dir, "source")
    expected = harness.make_file(source, SIZE)
    with open(sink, "wb") as out:
        server = env.start("bulk_server", "--receive", "0.0.0.0", PORT + 1, stdout=out)
        env.wait_listening(PORT + 1)
        with env.connect(PORT + 1) as conn:
            harness.send_file(conn, source)
        server.expect_success(60)
    check_equal(harness.file_sha256(sink), expected, "SHA-256 of what the daemon received")
    with open(source, "rb") as data:
        server = env.start("bulk_server", "--send", "0.0.0.0", PORT + 2, stdin=data)
        env.wait_listening(PORT + 2)
        with env.connect(PORT + 2) as conn:
            conn.settimeout(60 * harness.PATIENCE)
            check_equal(harness.receive_sha256(conn), (SIZE, expected), "what the kernel received")
        server.expect_success(60)
    datagrams(env, largest)


def datagrams(env, largest):
    env.start("udp_echo", "0.0.0.0", PORT)
    wait_for("a UDP socket", lambda: [r for r in env.sockets(netid="udp") if r["local_port"] == PORT])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.settimeout(10 * harness.PATIENCE)
        for size in (1, 1000, largest):
            data = os.urandom(size)
            out.sendto(data, (DAEMON_ADDR, PORT))
            check_equal(out.recv(65536), data, f"datagram of {size} bytes")


@case
def dpdk_af_packet(env):
    """Through net_af_packet, which puts fragments together and cuts off what is above 2 KiB."""
    start_wired(env, "dpdk:net_af_packet0,iface=v0")
    against_kernel(env, largest=1472)


@case
def dpdk_af_xdp(env):
    """Through net_af_xdp, which forgets one small record of libxdp's when it closes: the leak checker must not count
    that to us."""
    with open(env.dir + "/suppressions", "w", encoding="ascii") as f:
        f.write("leak:xsk_umem__create\n")
    env.env["LSAN_OPTIONS"] = f"suppressions={env.dir}/suppressions:print_suppressions=0"
    start_wired(env, "dpdk:net_af_xdp0,iface=v0")
    against_kernel(env)


# ---- Two daemons -----------------------------------------------------------------------------------------

@contextlib.contextmanager
def huge_pages():
    """Enough huge pages, if the machine has them; they are given back. Says whether."""
    try:
        with open(HUGE_PAGES, "r+", encoding="ascii") as f:
            before = int(f.read())
            f.write(str(before + HUGE_WANTED))
    except OSError:
        yield False
        return
    try:
        with open(HUGE_PAGES.replace("nr_", "free_"), encoding="ascii") as f:
            yield int(f.read()) >= HUGE_ENOUGH
    finally:
        with open(HUGE_PAGES, "w", encoding="ascii") as f:
            f.write(str(before))


@case
def dpdk_memif(env):
    """Two daemons over shared memory; the client's end comes first, and waits for the server's."""
    memif = f"dpdk:net_memif0,socket={env.dir}/memif.sock,role="
    with huge_pages() as huge:
        print("huge pages:", huge)
        sides = [Side(env, SECOND_ADDR, memif + "client", "--set", "dpdk.huge=never", name="second")]
        sides[0].ready()
        wait_for("a link without another end is down", lambda: sides[0].device()["state"] == "down")
        sides.append(Side(env, DAEMON_ADDR, memif + "server", "--set",
                          f"dpdk.huge={'always' if huge else 'never'}", name="first"))
        for side in reversed(sides):
            side.ready()
            side.link_up()
        between(env, sides[1], sides[0])
        between(env, sides[0], sides[1])
        sides[1].daemon.end()
        wait_for("the link goes down with the other end", lambda: sides[0].device()["state"] == "down")
        check("the link is down" in sides[0].daemon.stderr(), sides[0].daemon.stderr())
        end_in_order(env)


@case
def dpdk_kernel_share(env):
    """Behind one end is a kernel too: each is reached by its own address, over one link and hardware address."""
    memif = f"dpdk:net_memif0,socket={env.dir}/memif.sock,role="
    plain = ("--set", "dpdk.huge=never")
    here, there = two_sides(env, memif + "server kernel_tap port0", memif + "client", (plain, plain))
    link = harness.json.loads(harness.run("ip", "-j", "link", "show", "port0"))[0]
    check_equal((link["address"], link["mtu"]), (here.device()["mac"], 1500), "the kernel's side")
    harness.run("ip", "addr", "add", f"{KERNEL_ADDR}/{PREFIX}", "dev", "port0")
    harness.run("ping", "-c", "2", "-i", "0.2", "-w", "10", SECOND_ADDR)
    there.start("posix_ping", KERNEL_ADDR).expect_success(20)
    between(env, here, there)
    source = os.path.join(env.dir, "source")
    expected = harness.make_file(source, 1 << 20)
    with env.kernel_listener(PORT) as listener, open(source, "rb") as data:
        client = there.start("bulk_client", "--send", KERNEL_ADDR, PORT, stdin=data)
        conn, _ = listener.accept()
        with conn:
            conn.settimeout(30 * harness.PATIENCE)
            check_equal(harness.receive_sha256(conn), (1 << 20, expected), "what the kernel received")
        client.expect_success(30)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as heard:
        heard.bind(("port0", 0))
        there.start("posix_ping", here.address).expect_success(20)
        while harness.readable(heard, 0.2):
            check(heard.recv(2048)[30:34] != socket.inet_aton(here.address), "the daemon's packet went to the kernel")
    end_in_order(env)


@case
def dpdk_vhost(env):
    """virtio-user against vhost: checksums and segments are left to the other end."""
    path = f"{env.dir}/vhost.sock"
    plain = ("--set", "dpdk.huge=never")
    here, there = two_sides(env, f"dpdk:net_vhost0,iface={path},tso=1", f"dpdk:net_virtio_user0,path={path}",
                            (plain, plain))
    between(env, here, there)
    between(env, there, here)
    end_in_order(env)


harness.main()

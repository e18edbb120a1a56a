#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""xdp: on one end of a veth pair. Traffic as such is shown by the cases of other files, run over this device too;
here is how it shares an interface with the kernel, and what becomes of that when the daemon goes."""
import os
import re
import signal
import socket
import subprocess

import harness
from harness import DAEMON_ADDR, KERNEL_ADDR, case, check, check_equal, check_says, start_wrongly, wait_for

PORT = 7
IFACE = "sg0w"              # the daemon's end; the kernel's is sg0, in a namespace of its own
BESIDE_ADDR = "10.77.0.3"   # of the kernel on IFACE
PINS = "/sys/fs/bpf/sockgate"


def mount_bpffs():
    """In the test's own mount namespace; says whether the kernel has it."""
    return subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], capture_output=True).returncode == 0


def start(env, *arguments, options="", mtu=1500, echo=True):
    """The daemon, the kernel beside it with an address on the same interface, and the kernel opposite."""
    device = env.wire("sg0", "xdp", mtu)
    if not env.namespaces:
        far = env.namespace()
        harness.run("ip", "addr", "add", f"{BESIDE_ADDR}/24", "dev", IFACE)
        harness.run("ip", "link", "set", "sg0", "netns", str(far.pid))
        harness.run(*far.enter, "ip", "addr", "add", f"{KERNEL_ADDR}/24", "dev", "sg0")
        harness.run(*far.enter, "ip", "link", "set", "sg0", "up")
    env.start_daemon(*arguments, device=device + options, configure=False)
    if echo:
        env.start("echo_many", "0.0.0.0", PORT)
        env.wait_listening(PORT)
    return env.namespaces[0]


def pings(far, address, count=3):
    """Echo requests from the far end that were answered."""
    out = subprocess.run([*far.enter, "ping", "-q", "-c", str(count), "-i", "0.05", "-W", "1", address],
                         capture_output=True, text=True).stdout
    return int(re.search(r"(\d+) received", out).group(1))


def check_echo(far, what, size=100000):
    """A connection from the far kernel; it ends when all has come back."""
    code = ("import os,socket,sys,threading\n"
            f"c=socket.create_connection(('{DAEMON_ADDR}',{PORT}),timeout={20 * harness.PATIENCE})\n"
            f"d=os.urandom({size})\n"
            "t=threading.Thread(target=lambda:c.sendall(d));t.start()\n"
            "g=b''\n"
            "while len(g)<len(d):\n"
            "  p=c.recv(1<<16)\n"
            "  if not p: break\n"
            "  g+=p\n"
            "sys.exit(g!=d)\n")
    done = subprocess.run([*far.enter, "python3", "-c", code], capture_output=True, text=True)
    check_equal(done.returncode, 0, f"{what}: {done.stderr[-300:]}")


def has_program():
    return "xdp" in harness.run("ip", "link", "show", IFACE)


def pins():
    return sorted(os.listdir(PINS)) if os.path.isdir(PINS) else []


def device(env):
    return env.ctl("devices")[0]


def arguments(env, device_):
    return ["--device", device_, "--address", f"{DAEMON_ADDR}/24", "--control", env.control + "2"]


@case
def xdp_kernel_beside(env):
    """Both have what is theirs, and nothing of the other's."""
    far = start(env)
    check_equal(pings(far, DAEMON_ADDR), 3, "answers of the daemon")
    check_echo(far, "TCP to the daemon")
    before = device(env)["rx_frames"]
    check_equal(pings(far, BESIDE_ADDR, 200), 200, "answers of the kernel")
    with socket.create_server((BESIDE_ADDR, 2222)) as listener:
        client = subprocess.Popen([*far.enter, "nc", "-N", BESIDE_ADDR, "2222"], stdin=subprocess.PIPE)
        listener.settimeout(20 * harness.PATIENCE)
        conn, _ = listener.accept()
        client.stdin.write(b"for the kernel" * 1000)
        client.stdin.close()
        check_equal(harness.receive_all(conn), b"for the kernel" * 1000, "TCP to the kernel")
        conn.close()
        check_equal(client.wait(20 * harness.PATIENCE), 0, "status of nc")
    check(device(env)["rx_frames"] - before < 100, "the daemon was given the kernel's frames")
    check_equal(env.stats()["TcpInErrs"], 0, "bad checksums")
    out = subprocess.run([*far.enter, "ping", "-q", "-c", "3", "-i", "0.05", "-s", "4000", "-W", "1", DAEMON_ADDR],
                         capture_output=True, text=True).stdout
    check("3 received" in out, f"fragments to the daemon: {out}")


@case
def xdp_orderly_stop(env):
    """The kernel has its interface back: no program, no pins, and its address is answered."""
    bpffs = mount_bpffs()
    far = start(env)
    check(has_program(), "no program is attached: proves nothing")
    check(not bpffs or len(pins()) == 2, f"pins: {pins()}")
    env.daemon.signal(signal.SIGTERM)
    env.daemon.expect_success(30)
    check(not has_program(), "the program is still attached")
    check_equal(pins(), [], "pins")
    harness.run("ip", "addr", "add", f"{DAEMON_ADDR}/32", "dev", "lo")
    check_equal(pings(far, DAEMON_ADDR), 3, "answers of the kernel")


@case
def xdp_killed(env):
    """After kill -9 nobody answers for the daemon, until the time limit; the kernel's own traffic goes on."""
    if not mount_bpffs():
        harness.skip("the kernel has no bpf file system")
    far = start(env, options=",hold=4")
    check_equal(pings(far, DAEMON_ADDR), 3, "answers of the daemon")
    harness.run("ip", "addr", "add", f"{DAEMON_ADDR}/32", "dev", "lo") # it would answer
    env.daemon.kill()
    check(has_program(), "the program has gone with the daemon")
    check_equal(pings(far, DAEMON_ADDR, 2), 0, "answers for a daemon that is dead")
    check_equal(pings(far, BESIDE_ADDR), 3, "answers of the kernel for itself")
    wait_for("the kernel gets what the daemon had", lambda: pings(far, DAEMON_ADDR, 1) == 1, 20)


@case
def xdp_killed_and_started(env):
    """The next daemon takes the program's place; what is ours is dropped up to then, and served after."""
    if not mount_bpffs():
        harness.skip("the kernel has no bpf file system")
    far = start(env)
    check_echo(far, "before")
    env.daemon.kill()
    left = pins()
    check_equal(len(left), 2, "pins left behind")
    env.processes.clear()
    start(env)
    check_echo(far, "after")
    check_equal(pins(), left, "pins")
    check_equal(pings(far, BESIDE_ADDR), 3, "answers of the kernel")
    env.daemon.end()
    check(not has_program() and not pins(), "the second daemon left something")


@case
def xdp_without_pins(env):
    """Where /sys/fs/bpf can't be used that is said, and a kill gives the interface back at once."""
    harness.run("mount", "-t", "tmpfs", "none", "/sys/fs/bpf")
    far = start(env)
    check_says(env.daemon.stderr(), "/sys/fs/bpf can't be used")
    check_equal(pings(far, DAEMON_ADDR), 3, "answers of the daemon")
    env.daemon.kill()
    wait_for("the program has gone", lambda: not has_program())


@case
def xdp_refused(env):
    """Another daemon's interface stays untouched; the kernel's addresses, and words that mean nothing."""
    mount_bpffs()
    far = start(env)
    line = start_wrongly(env, "--device", f"xdp:{IFACE}", "--address", "10.77.0.8/24", "--control", env.control + "2")
    check_says(line, f"xdp:{IFACE}", "another process")
    check_echo(far, "the first, after another tried")
    line = start_wrongly(env, *arguments(env, f"xdp:{IFACE},hold=x"))
    check_says(line, "hold=x", "hold=SECONDS")
    check_says(start_wrongly(env, *arguments(env, "xdp:nosuch0")), "no such interface")
    env.daemon.end()
    harness.run("ip", "addr", "add", f"{DAEMON_ADDR}/32", "dev", "lo")
    check_says(start_wrongly(env, *arguments(env, f"xdp:{IFACE}")), DAEMON_ADDR, "held by the kernel too, on lo")
    check(not has_program() and not pins(), "a refused start left something")
    line = start_wrongly(env, *arguments(env, f"xdp:{IFACE}"),
                         wrapper=["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    check_says(line, "CAP_BPF", "root")


@case
def xdp_modes(env):
    """In the driver, or in the kernel: said, and both carry a stream; the largest MTU is said too."""
    far = start(env)
    check_says(env.daemon.stderr(), "XDP in the driver, frames are copied")
    env.daemon.end()
    harness.run(*far.enter, "ip", "link", "set", "sg0", "mtu", "9000")
    harness.run("ip", "link", "set", IFACE, "mtu", "9000")
    start(env, options=",mode=skb", echo=False)
    said = env.daemon.stderr()
    check_says(said, r"XDP in the kernel \(skb mode\)", "MTU is 3822 where the interface has 9000")
    check_equal(device(env)["mtu"], 3822, "MTU")
    check_equal(pings(far, DAEMON_ADDR), 3, "answers in skb mode")


@case
def xdp_link_changes(env):
    """Down and up, a smaller MTU, and in the end the interface goes: all is seen."""
    far = start(env)
    check_echo(far, "at first")
    harness.run("ip", "link", "set", IFACE, "mtu", "1280")
    wait_for("the MTU reaches the engine", lambda: device(env)["mtu"] == 1280)
    check_echo(far, "at an MTU of 1280")
    for command in (["ip", "link", "set", IFACE], [*far.enter, "ip", "link", "set", "sg0"]):
        harness.run(*command, "down")
        wait_for("the link goes down", lambda: device(env)["state"] == "down")
        harness.run(*command, "up")
        wait_for("the link comes up", lambda: device(env)["state"] == "up")
        check_echo(far, "after it came back")
    harness.run("ip", "link", "del", IFACE)
    check_equal(env.daemon.wait(), 1, "status of sockgated without a device")
    check_says(env.daemon.stderr(), f"xdp:{IFACE}: the device failed")


@case
def xdp_vlan_stream(env):
    """Tags that are in the frame when it comes: a stream in a VLAN, with another daemon."""
    env.start_daemon("--address", "10.78.0.2/24 vlan 5", device=env.wire("sg0", "xdp"), configure=False)
    harness.run("ip", "link", "set", "sg0", "up")
    far = harness.Env.beside(env)
    far.start_daemon("--address", "10.78.0.1/24 vlan 5", device="packet:sg0", configure=False, address="10.77.0.9")
    size, path, out = 4 << 20, env.dir + "/sent", env.dir + "/received"
    expected = harness.make_file(path, size)
    with open(path, "rb") as sent, open(out, "wb") as received:
        server = env.start("bulk_server", "--receive", "0.0.0.0", PORT, stdout=received)
        env.wait_listening(PORT)
        far.start("bulk_client", "--send", "10.78.0.2", PORT, stdin=sent).expect_success(60)
        server.expect_success(60)
    check_equal(harness.file_sha256(out), expected, "SHA-256 of what went through the VLAN")
    check_equal(env.stats()["DropVlan"], 0, "frames of other VLANs")


harness.main()

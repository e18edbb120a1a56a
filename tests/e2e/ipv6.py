#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""IPv6 against the kernel's: ping, TCP both ways, UDP, dual stack, link-local addresses, duplicates."""
import hashlib
import os
import re
import socket
import sys

import harness
from harness import DAEMON_ADDR, case, check, check_equal, wait_for

KERNEL6 = "fd00:77::1"
DAEMON6 = "fd00:77::2"


def start(env, *arguments):
    """The daemon with an address of each version, and the kernel opposite."""
    with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w", encoding="ascii") as f:
        f.write("0")
    daemon = env.start_daemon("--address", f"{DAEMON6}/64", *arguments)
    harness.run("ip", "-6", "addr", "add", f"{KERNEL6}/64", "dev", "sg0", "nodad")
    return daemon


def ping(*arguments):
    out = harness.subprocess.run(["ping", "-6", *arguments], capture_output=True, text=True, check=False).stdout
    return re.search(r" 0% packet loss", out) is not None


def wait_usable(env):
    """Duplicate detection takes one to two seconds."""
    wait_for("an answer to ping", lambda: ping("-c", "1", "-W", "1", DAEMON6))
    return env


@case
def ipv6_ping(env):
    start(env)
    wait_usable(env)
    check(ping("-c", "3", "-i", "0.2", "-W", "2", DAEMON6), "ping")
    check(ping("-c", "3", "-i", "0.2", "-W", "2", "-s", "8000", DAEMON6), "ping in fragments")
    stats = env.stats()
    check(stats["Ip6ReasmOKs"] >= 3 and stats["Ip6FragCreates"] >= 3, f"fragments both ways: {stats}")
    check_equal(stats["Ip6InHdrErrors"] + stats["Icmp6InErrors"] + stats["DropNdBad"], 0, "errors")
    check(any(KERNEL6 in str(row) for row in env.ctl("neighbors")), "the kernel is no neighbour")


@case
def ipv6_tcp_from_kernel(env):
    start(env)
    wait_usable(env)
    peer = env.start("ipv6_peer", "tcp-echo", 7000)
    peer.wait_line("ready")
    data = os.urandom(4 << 20)
    with socket.create_connection((DAEMON6, 7000), timeout=20 * harness.PATIENCE) as conn:
        sender = harness.threading.Thread(target=lambda: (conn.sendall(data), conn.shutdown(socket.SHUT_WR)))
        sender.start()
        got = harness.receive_all(conn)
        sender.join()
    check_equal(hashlib.sha256(got).hexdigest(), hashlib.sha256(data).hexdigest(), "what was echoed")
    peer.wait_line(f"^peer {KERNEL6} ")
    peer.expect_success()


@case
def ipv6_tcp_to_kernel(env):
    start(env)
    wait_usable(env)
    data = os.urandom(4 << 20)
    source = env.dir + "/data"
    with open(source, "wb") as f:
        f.write(data)
    answer = env.dir + "/answer"
    with socket.socket(socket.AF_INET6) as listener, open(source, "rb") as stdin, open(answer, "wb") as stdout:
        listener.bind((KERNEL6, 7001))
        listener.listen(1)
        listener.settimeout(20 * harness.PATIENCE)
        peer = env.start("ipv6_peer", "tcp-client", KERNEL6, 7001, stdin=stdin, stdout=stdout)
        conn, name = listener.accept()
        check_equal(name[0], DAEMON6, "the source address")
        with conn:
            got = harness.receive_all(conn)
            conn.sendall(got[::-1])
        peer.expect_success(20)
    check_equal(got, data, "what the kernel got")
    with open(answer, "rb") as f:
        check_equal(f.read(), data[::-1], "what came back")


@case
def ipv6_udp(env):
    start(env)
    wait_usable(env)
    peer = env.start("ipv6_peer", "udp-echo", 7002, 3)
    peer.wait_line("ready")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.settimeout(10 * harness.PATIENCE)
        for size in (1, 1400, 20000): # the last one in fragments
            data = os.urandom(size)
            s.sendto(data, (DAEMON6, 7002))
            check_equal(s.recv(65536), data, f"datagram of {size} bytes")
    peer.wait_line(f"^from {KERNEL6} ")
    peer.expect_success()


@case
def ipv6_dual_stack(env):
    """An IPv6 socket serves an IPv4 peer, whose address it sees mapped."""
    start(env)
    peer = env.start("ipv6_peer", "tcp-echo", 7003)
    peer.wait_line("ready")
    with env.connect(7003) as conn:
        conn.sendall(b"over IPv4")
        check_equal(harness.receive_exactly(conn, 9), b"over IPv4", "echo")
    peer.wait_line("^peer ::ffff:10.77.0.1 ")
    peer.expect_success()
    check(DAEMON_ADDR, "the IPv4 address stays")


def neighbours():
    """Link-local addresses on the link that are not the kernel's."""
    own = {line.split("/")[0].split()[-1] for line in
           harness.run("ip", "-6", "-o", "addr", "show", "dev", "sg0", "scope", "link").splitlines()}
    out = harness.run("ping", "-6", "-c", "3", "-i", "0.2", "-W", "2", "ff02::1%sg0")
    return [a for a in re.findall(r"from (fe80::[0-9a-f:]+)%sg0", out) if a not in own]


@case
def ipv6_link_local(env):
    start(env)
    wait_usable(env)
    peer = env.start("ipv6_peer", "tcp-echo", 7004)
    peer.wait_line("ready")
    # The kernel answers its own question too, and ping ends with the first answer to its last one.
    found = wait_for("an answer to all nodes from another link-local address", neighbours)
    with socket.socket(socket.AF_INET6) as conn:
        conn.settimeout(10 * harness.PATIENCE)
        conn.connect((found[0], 7004, 0, socket.if_nametoindex("sg0")))
        conn.sendall(b"near")
        check_equal(harness.receive_exactly(conn, 4), b"near", "echo")
    peer.expect_success()


@case
def ipv6_duplicate_address(env):
    """The kernel has the address already: it is left unused, and the log says so."""
    harness.run("ip", "tuntap", "add", "dev", "sg0", "mode", "tap", "vnet_hdr")
    with open("/proc/sys/net/ipv6/conf/sg0/disable_ipv6", "w", encoding="ascii") as f:
        f.write("0")
    harness.run("ip", "-6", "addr", "add", f"{DAEMON6}/64", "dev", "sg0", "nodad")
    harness.run("ip", "link", "set", "sg0", "up")
    daemon = env.start_daemon("--address", f"{DAEMON6}/64")
    wait_for("a line about the duplicate",
             lambda: re.search(r"address in use by another host: fd00:77:0:0:0:0:0:2", daemon.stderr()))
    check(env.stats()["NdDuplicate"] >= 1, "the counter")



@case
def ipv6_fast_open(env):
    """MSG_FASTOPEN: the first connection asks for a cookie, the data of the others rides on the SYN."""
    fast_open, both_sides = 23, "3"
    start(env)
    wait_usable(env)
    with open("/proc/sys/net/ipv4/tcp_fastopen", "w", encoding="ascii") as f:
        f.write(both_sides)
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, fast_open, 5)
        listener.bind((KERNEL6, 7007))
        listener.listen(5)
        listener.settimeout(10 * harness.PATIENCE)
        peer = env.start("ipv6_peer", "tcp-fast", KERNEL6, 7007, 3)
        for _ in range(3):
            with listener.accept()[0] as conn:
                check_equal(harness.receive_exactly(conn, 4), b"fast", "data")
                conn.sendall(b"open")
                check_equal(conn.recv(1), b"", "end of file")
        peer.expect_success()
    check_equal(peer.lines(), ["open"] * 3, "what came back")
    check_equal(env.stats()["TcpFastOpenActive"], 2, "SYNs whose data was taken")


@case
def ipv6_linger(env):
    """Close waits for the peer to acknowledge everything, but not longer than SO_LINGER says; nothing is lost."""
    start(env)
    wait_usable(env)
    size = 300000
    for seconds, reads_at_once in ((1, False), (60, True)):
        with socket.socket(socket.AF_INET6) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            listener.bind((KERNEL6, 7008))
            listener.listen(1)
            listener.settimeout(10 * harness.PATIENCE)
            peer = env.start("ipv6_peer", "tcp-linger", KERNEL6, 7008, 50000 if not reads_at_once else size, seconds)
            conn, _ = listener.accept()
            with conn:
                got = harness.receive_all(conn) if reads_at_once else b""
                line = peer.wait_line("^closed after")
                took = int(re.search(r"after (\d+) ms", peer.lines()[-1]).group(1))
                if reads_at_once:
                    check_equal(len(got), size, "bytes")
                    check(took < 60000, f"it waited for all of SO_LINGER: {took} ms")
                else:
                    check(took >= 1000, f"it did not wait: {took} ms, {line}")
                    check_equal(len(harness.receive_all(conn)), 50000, "what was left is sent afterwards")
            peer.expect_success()


def listener_reports(link, group, seconds):
    """Types of the records about the group in MLDv2 reports on the wire, until one came or the time is over."""
    found = []
    while not found and harness.readable(link, seconds):
        frame = link.recv(2048)
        # Ethernet, IPv6, hop-by-hop header with Router Alert, then the report.
        if frame[12:14] != b"\x86\xdd" or frame[20] != 0 or frame[56:58] != b"\x05\x02" or frame[62] != 143:
            continue
        at = 70
        for _ in range(int.from_bytes(frame[68:70], "big")):
            count = int.from_bytes(frame[at + 2:at + 4], "big")
            if frame[at + 4:at + 20] == group:
                found.append((frame[at], frame[22:24]))
            at += 20 + 16 * count
    return found


@case
def ipv6_multicast(env):
    """The kernel speaks to a group that a program joined, hears its answers there, and asks as a router would."""
    eth_p_all = 3
    to_include, to_exclude, is_exclude = 3, 4, 2
    link_local = b"\xfe\x80"
    start(env)
    wait_usable(env)
    group = "ff15::5:77"
    binary = socket.inet_pton(socket.AF_INET6, group)
    index = socket.if_nametoindex("sg0")
    harness.run("ip", "-6", "route", "add", "ff15::/16", "dev", "sg0", "table", "local")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(eth_p_all)) as link, \
         socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s, \
         socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as router:
        link.bind(("sg0", 0))
        peer = env.start("ipv6_peer", "group-echo", group, 7005, 3)
        peer.wait_line("ready")
        check_equal(listener_reports(link, binary, 10 * harness.PATIENCE)[0], (to_exclude, link_local), "joined")
        s.bind(("::", 7005))
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, binary + index.to_bytes(4, sys.byteorder))
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        s.settimeout(10 * harness.PATIENCE)
        for size in (1, 1400):
            data = os.urandom(size)
            s.sendto(data, (group, 7005, 0, index))
            check_equal(s.recv(65536), data, f"datagram of {size} bytes, and its answer to the group")
        # A general query, from the kernel's link-local address: hop limit 1 and Router Alert.
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, bytes([0, 0, 5, 2, 0, 0, 1, 0]))
        wait_for("no more repetitions", lambda: not listener_reports(link, binary, 2))
        router.sendto(bytes([130, 0, 0, 0, 0, 100]) + bytes(18) + bytes([2, 125, 0, 0]), ("ff02::1", 0, 0, index))
        check_equal(listener_reports(link, binary, 10 * harness.PATIENCE)[0], (is_exclude, link_local), "asked")
        s.sendto(b"bye", (group, 7005, 0, index))
        check_equal(s.recv(65536), b"bye", "last datagram")
        peer.expect_success()
        check_equal(listener_reports(link, binary, 10 * harness.PATIENCE)[0], (to_include, link_local), "left")
    stats = env.stats()
    check(stats["Icmp6InGroupMembQueries"] >= 1 and stats["Icmp6InErrors"] == 0, f"{stats}")


@case
def ipv6_packet_info(env):
    """A datagram's destination, hop limit and class are told, and what answers it comes from there."""
    start(env, "--address", "fd00:77::99/64")
    wait_usable(env)
    peer = env.start("ipv6_peer", "info-echo", 7006, 2)
    peer.wait_line("ready")
    for own in (DAEMON6, "fd00:77::99"):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
            s.settimeout(10 * harness.PATIENCE)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 44)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x28)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            s.sendto(b"where?", (own, 7006))
            data, extra, _, sender = s.recvmsg(100, 100)
            check_equal((data, sender[0]), (b"where?", own), "answer and its source")
            check_equal(int.from_bytes(extra[0][2], sys.byteorder), 33, "hop limit of the answer")
        peer.wait_line(f"^to {own} 0")
    peer.wait_line("^interface 1 ttl 44 tos 40")
    peer.expect_success()


@case
def ipv6_raw(env):
    """A raw socket pings the kernel, the checksum made by the daemon; the kernel's answers say their hop limit."""
    start(env)
    wait_usable(env)
    peer = env.start("ipv6_peer", "ping", KERNEL6, 2)
    peer.expect_success()
    check_equal(peer.lines(), [line for i in range(2) for line in
                               (f"type 129 sequence {i} bytes 16 hops 64", f"from {KERNEL6} 0")], "what was heard")
    check_equal(env.stats()["RawCsumErrors"], 0, "errors")


@case
def vlan(env):
    """Tagged frames through the TAP, written by hand: not every kernel here has VLAN devices."""
    sol_packet, packet_auxdata, eth_p_all = 263, 8, 3
    env.start_daemon("--address", "10.78.0.2/24 vlan 100")
    out = harness.run("ping", "-c", "1", "-W", "2", DAEMON_ADDR)
    check("1 received" in out, "the untagged address beside it")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(eth_p_all)) as link:
        link.bind(("sg0", 0))
        link.setsockopt(sol_packet, packet_auxdata, 1)
        mac = link.getsockname()[4]
        own, asked = socket.inet_aton("10.78.0.1"), socket.inet_aton("10.78.0.2")
        link.send(b"\xff" * 6 + mac + b"\x81\x00\x00\x64\x08\x06" + b"\x00\x01\x08\x00\x06\x04\x00\x01" +
                  mac + own + bytes(6) + asked)

        def answer():
            """The VLAN id that an ARP reply from the address came with; the kernel takes the tag out."""
            if not harness.readable(link, 0.1):
                return None
            frame, extra, _, _ = link.recvmsg(2048, 128)
            if asked + mac + own not in frame:
                return None
            if frame[12:14] == b"\x81\x00":
                return int.from_bytes(frame[14:16], "big")
            return int.from_bytes(extra[0][2][16:18], sys.byteorder)

        check_equal(wait_for("an answer in the VLAN", answer), 100, "its VLAN")
    check_equal(env.stats()["DropVlan"], 0, "frames of a VLAN that nobody configured")


harness.main()

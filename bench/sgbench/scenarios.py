# SPDX-License-Identifier: Apache-2.0
"""The scenarios, by the numbers of the table in docs/performance.md.

A group is measured together, because its figures come from the same runs; asking for one of its ids runs the
group. Every comparison goes round by round over all its paths, A B A B, and reports medians."""
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import time

import harness

from sgbench import adapters, memif, paths
from sgbench.report import Bar, Figure, spread

MESSAGE = 64
CONNECTIONS = 64
IDLE_MEMORY, IDLE_CPU = 100000, 10000
CURVE = (1, 8, 64, 1000, 10000, 100000)
CALLGRIND_REQUESTS = 6400


class Group:
    def __init__(self, figures, run):
        self.figures = figures # {id: (name, unit, Bar)}
        self.run = run         # run(bench) -> {id: dict(value, baseline, why, details)}

    def results(self, bench):
        try:
            found = self.run(bench)
        except Unavailable as reason:
            found = {id_: {"why": str(reason)} for id_ in self.figures}
        except (harness.Failure, subprocess.TimeoutExpired) as failure:
            found = {id_: {"why": f"failed: {failure}"} for id_ in self.figures}
            bench.failed = True
        return [Figure(id_, name, unit, bar, **found.get(id_, {"why": "not measured"}))
                for id_, (name, unit, bar) in self.figures.items()]


class Unavailable(Exception):
    """It cannot be measured with this build or on this machine; the text says why."""


# ---- Comparisons ---------------------------------------------------------------------------------------------

def compare(bench, all_paths, serve, mode, *arguments, ports=1, seconds=None, extra=()):
    """{path name: results of its rounds}. `extra`: adapters' paths, after ours in each round."""
    found = {}
    with contextlib.ExitStack() as stack:
        for path in [*all_paths, *extra]:
            stack.enter_context(path)
            stack.enter_context(path.serving(serve, ports))
            found[path.name] = []
        for n in range(bench.rounds):
            for path in [*all_paths, *extra]:
                result = path.generate(mode, *arguments, "--ports", ports, "--warm", bench.warm_s,
                                       "--seconds", seconds or bench.seconds)
                found[path.name].append(result)
                bench.say(f"round {n + 1}: {path.name}: {summary(result)}")
    return found


def summary(r):
    if r["mode"] in ("send", "receive"):
        return f"{r['bytes_per_second'] / 1e6:.0f} MB/s"
    errors = f", {r['errors']} errors" if r["errors"] else ""
    return f"{r['rate']:,.0f}/s, p50 {r['latency_us']['p50']:.1f} us, p99 {r['latency_us']['p99']:.1f} us{errors}"


def numbers(results, key):
    return [r["latency_us"][key] if key.startswith("p") else r[key] for r in results]


def entry(found, ours, baseline, key):
    """A figure's value and baseline: medians of `key`, with the rounds' spread."""
    value, base = numbers(found[ours], key), numbers(found[baseline], key)
    others = {name: spread(numbers(r, key)) for name, r in found.items() if name not in (ours, baseline)}
    return {"value": statistics.median(value), "baseline": statistics.median(base),
            "details": {"ours": {"path": ours, **spread(value)}, "baseline": {"path": baseline, **spread(base)},
                        **({"others": others} if others else {})}}


def rr(connections):
    return ["--connections", connections, "--bytes", MESSAGE]


def plot_latency(bench, name, title, found):
    """Share of the requests that took longer than so many microseconds."""
    series = {}
    for path, results in found.items():
        total = sum(r["count"] for r in results)
        merged = {}
        for edge, count in (b for r in results for b in r["buckets_us"]):
            merged[edge] = merged.get(edge, 0) + count
        line, left = [], total
        for edge in sorted(merged):
            left -= merged[edge]
            if left > 0:
                line.append((edge, left / total))
        series[path] = line
    bench.plot(name, title, "round trip, us", "share of requests that took longer", series, log_x=True, log_y=True,
               dots=False)


# ---- 1 ---------------------------------------------------------------------------------------------------------

def instructions(bench):
    valgrind = shutil.which("valgrind")
    if not valgrind:
        raise Unavailable("valgrind is not installed (apt-get install valgrind)")
    program = os.path.join(bench.build, "bench", "engine_rr")
    counts = []
    # Two lengths, so that what is done once cancels out.
    for requests in (CALLGRIND_REQUESTS, 2 * CALLGRIND_REQUESTS):
        done = subprocess.run([valgrind, "--tool=callgrind", "--toggle-collect=server_turn",
                               f"--callgrind-out-file={bench.env.dir}/callgrind.out", program, "--requests",
                               str(requests)], capture_output=True, text=True, timeout=300)
        match = re.search(r"Collected : (\d+)", done.stderr)
        harness.check(done.returncode == 0 and match, f"callgrind: {done.stderr.strip()[-300:]}")
        counts.append(int(match.group(1)))
        bench.say(f"{requests} requests: {counts[-1]:,} instructions")
    return {"1": {"value": (counts[1] - counts[0]) / CALLGRIND_REQUESTS}}


# ---- Over the TAP device: 5 to 8 ---------------------------------------------------------------------------------

def tap_pair(bench):
    return [paths.SockgateTap(bench), paths.KernelVeth(bench)]


def tap_rr(bench):
    ours, kernel = tap_pair(bench)
    found = compare(bench, [ours, kernel], "echo", "rr", *rr(CONNECTIONS), extra=adapters.usable(bench))
    plot_latency(bench, "latency-tap", f"{MESSAGE} bytes, {CONNECTIONS} connections, kernel peer", found)
    return {"5": entry(found, ours.name, kernel.name, "rate"),
            "7b": entry(found, ours.name, kernel.name, "p99")}


def tap_bulk(bench):
    results = {}
    for id_, serve, mode in (("6a", "discard", "send"), ("6b", "source", "receive")):
        ours, kernel = tap_pair(bench)
        found = compare(bench, [ours, kernel], serve, mode, "--connections", 1)
        results[id_] = entry(found, ours.name, kernel.name, "bytes_per_second")
        results[id_]["value"] /= 1e6
        results[id_]["baseline"] /= 1e6
    return results


def tap_crr(bench):
    ours, kernel = tap_pair(bench)
    found = compare(bench, [ours, kernel], "echo", "crr", *rr(CONNECTIONS), ports=4)
    return {"8a": entry(found, ours.name, kernel.name, "rate")}


# ---- On a wire without the kernel: 2, 3, 4, 7, 8 -------------------------------------------------------------------

def need_memif(bench):
    reason = memif.missing(bench)
    if reason:
        raise Unavailable(reason)


def memif_rr(bench):
    need_memif(bench)
    ours, kernel = memif.SockgateMemif(bench), paths.KernelVeth(bench)
    found = compare(bench, [ours, kernel], "echo", "rr", *rr(CONNECTIONS))
    plot_latency(bench, "latency-memif", f"{MESSAGE} bytes, {CONNECTIONS} connections, no kernel on the wire", found)
    return {"2": entry(found, ours.name, kernel.name, "rate"),
            "7a": entry(found, ours.name, kernel.name, "p99")}


def memif_isolation(bench):
    """One after the other: each is the wire's other end, so that both cannot be there at once."""
    need_memif(bench)
    found = {}
    for _ in range(bench.rounds):
        for kind in (memif.SockgateMemif, memif.EngineMemif):
            with kind(bench) as path, path.serving("echo"):
                result = path.generate("rr", *rr(CONNECTIONS), "--warm", bench.warm_s, "--seconds", bench.seconds)
                found.setdefault(path.name, []).append(result)
                bench.say(f"{path.name}: {summary(result)}")
    return {"3": entry(found, memif.SockgateMemif.name, memif.EngineMemif.name, "rate")}


def memif_one(bench):
    need_memif(bench)
    ours = memif.SockgateMemif(bench)
    near, far = paths.KernelVeth(bench, same_core=True), paths.KernelVeth(bench)
    results = {}
    for id_, kernel in (("4a", near), ("4b", far)):
        found = compare(bench, [ours, kernel], "echo", "rr", *rr(1))
        results[id_] = entry(found, ours.name, kernel.name, "p50")
    return results


def memif_crr(bench):
    need_memif(bench)
    ours, kernel = memif.SockgateMemif(bench), paths.KernelVeth(bench)
    found = compare(bench, [ours, kernel], "echo", "crr", *rr(CONNECTIONS), ports=4)
    return {"8b": entry(found, ours.name, kernel.name, "rate")}


# ---- Idle connections: 9, 10, the curve -----------------------------------------------------------------------------

def pss_bytes(*pids):
    """What processes hold together; a page that they share counts once."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
    return total


def cpu_ns(pid):
    """CPU time of all threads, to the nanosecond."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total


def scaled_note(bench, count):
    return f"with {count:,} connections only (--scale {bench.scale:g})" if bench.scale < 1 else ""


def tap_for(bench, connections):
    """A daemon with room for so many sockets of one process."""
    return paths.SockgateTap(bench, "--set", f"session.slots={max(65536, connections + 1024)}",
                             "--set", f"limits.connections={max(131072, connections + 1024)}")


def settled(path, connections):
    harness.wait_for("all connections are accepted",
                     lambda: sum(s["sockets"] for s in path.ctl("sessions")) >= connections, 120)


def held_until_given_back(path):
    """Buffers that nobody uses go back within seconds; those that do not are the figure's fault."""
    with contextlib.suppress(harness.Failure):
        harness.wait_for("no buffer is held", lambda: not sum(s["buffer_bytes"] for s in path.ctl("sessions")), 30)


def idle_memory(bench):
    count = bench.scaled(IDLE_MEMORY)
    ports = paths.ports_for(count)
    with tap_for(bench, count) as path, path.serving("echo", ports, count + 64) as server:
        before = pss_bytes(path.daemon.pid, server.pid)
        with path.holding(count, ports):
            settled(path, count)
            held_until_given_back(path)
            per = (pss_bytes(path.daemon.pid, server.pid) - before) / count
            held = sum(s["buffer_bytes"] for s in path.ctl("sessions"))
            daemon = pss_bytes(path.daemon.pid)
    bench.say(f"{count} connections: {per:.0f} bytes each, {held} bytes of buffers held")
    result = {"value": per, "why": scaled_note(bench, count), "details": {
        "connections": count, "buffer_bytes": held, "before_any_bytes": before, "daemon_after_bytes": daemon}}
    if held: # then the memory is not what the bar speaks of
        result.update(value=None, why=f"idle connections hold {held} bytes of buffers; memory for each {per:.0f} bytes")
    return {"9": result}


def idle_cpu(bench):
    count = bench.scaled(IDLE_CPU)
    with tap_for(bench, count) as path, path.serving("echo", 1, count + 64) as server, path.holding(count):
        settled(path, count)
        held_until_given_back(path) # giving them back is the last that is to be done
        start, daemon, application = time.monotonic(), cpu_ns(path.daemon.pid), cpu_ns(server.pid)
        time.sleep(bench.idle_s)
        passed_ns = (time.monotonic() - start) * 1e9
        daemon, application = cpu_ns(path.daemon.pid) - daemon, cpu_ns(server.pid) - application
    bench.say(f"{count} connections: daemon {daemon / passed_ns * 100:.3f} %, application "
              f"{application / passed_ns * 100:.3f} % of a core")
    return {"10": {"value": daemon / passed_ns * 100, "why": scaled_note(bench, count),
                   "details": {"connections": count, "application_percent": application / passed_ns * 100}}}


def curve_point(bench, pair, connections):
    """Microseconds for a request on each path, with so many connections open."""
    active = min(connections, CONNECTIONS)
    idle = connections - active
    ports = paths.ports_for(connections)
    found = {path.name: [] for path in pair}
    with contextlib.ExitStack() as stack:
        for path in pair:
            stack.enter_context(path.serving("echo", ports, connections + 128))
            if idle:
                stack.enter_context(path.holding(idle, ports))
        for _ in range(bench.rounds):
            for path in pair:
                r = path.generate("rr", *rr(active), "--warm", bench.warm_s, "--seconds", bench.seconds / 2)
                found[path.name].append(1e6 / r["rate"] if r["rate"] else float("inf"))
    return {name: statistics.median(v) for name, v in found.items()}


def curve(bench):
    points = [n for n in CURVE if n <= max(CONNECTIONS, bench.scaled(CURVE[-1]))]
    ours, kernel = tap_for(bench, points[-1]), paths.KernelVeth(bench)
    series = {ours.name: [], kernel.name: []}
    with ours, kernel:
        for n in points:
            for name, us in curve_point(bench, [ours, kernel], n).items():
                series[name].append((n, us))
            bench.say(f"{n} connections: " + ", ".join(f"{name} {s[-1][1]:.2f} us" for name, s in series.items()))
    bench.plot("connections", f"{MESSAGE} bytes over at most {CONNECTIONS} of the connections that are open",
               "open connections", "us for a request", series, log_x=True)
    mine, theirs = dict(series[ours.name]), dict(series[kernel.name])
    return {"curve": {"value": mine[points[-1]] / mine[CONNECTIONS], "why": scaled_note(bench, points[-1]),
                      "details": {"from": CONNECTIONS, "to": points[-1], "us_for_a_request": series,
                                  "kernel_growth": theirs[points[-1]] / theirs[CONNECTIONS]}}}


# ---- Local traffic: 11 ----------------------------------------------------------------------------------------------

def local(bench):
    ours, kernel = paths.SockgateLocal(bench), paths.KernelLoopback(bench)
    found = compare(bench, [ours, kernel], "echo", "rr", *rr(CONNECTIONS))
    return {"11": entry(found, ours.name, kernel.name, "rate")}


GROUPS = [
    Group({"1": ("instructions for a request inside the engine", "instructions", Bar("<=", 900, "value"))},
          instructions),
    Group({"2": ("memif, 64 B, 64 connections", "requests/s", Bar(">=", 5)),
           "7a": ("p99 in 2", "us", Bar("<=", 1))}, memif_rr),
    Group({"3": ("memif, beside the engine in-process", "requests/s", Bar(">=", 0.7))}, memif_isolation),
    Group({"4a": ("memif, 1 connection, p50; kernel on one core", "us", Bar("<=", 0.75)),
           "4b": ("memif, 1 connection, p50; kernel on two", "us", Bar("<=", 1 / 15))}, memif_one),
    Group({"5": ("tap, 64 B, 64 connections", "requests/s", Bar(">=", 1)),
           "7b": ("p99 in 5", "us", Bar("<=", 1))}, tap_rr),
    Group({"6a": ("bulk from a kernel peer, tap", "MB/s", Bar(">=", 1)),
           "6b": ("bulk to a kernel peer, tap", "MB/s", Bar(">=", 1))}, tap_bulk),
    Group({"8a": ("connections set up and torn down, tap", "connections/s", Bar(">=", 1))}, tap_crr),
    Group({"8b": ("connections set up and torn down, memif", "connections/s", Bar(">=", 1))}, memif_crr),
    Group({"9": (f"memory of an idle connection of {IDLE_MEMORY:,}", "bytes", Bar("<=", 1024, "value"))},
          idle_memory),
    Group({"10": (f"daemon's CPU with {IDLE_CPU:,} idle connections, tap", "% of a core", Bar("<=", 1, "value"))},
          idle_cpu),
    Group({"11": ("two applications of one daemon, 64 B, 64 connections", "requests/s", Bar(">=", 3))}, local),
    Group({"curve": (f"cost of a request, {CONNECTIONS} to {CURVE[-1]:,} connections open", "times",
                     Bar("<=", 1.1, "value"))}, curve),
]


def select(ids):
    """The groups that measure these ids (all of them: no ids), in order. An id may name several: 7 is 7a, 7b."""
    if not ids:
        return GROUPS
    known = {i for g in GROUPS for i in g.figures}
    wanted = set()
    for id_ in ids:
        matches = {k for k in known if k == id_ or re.fullmatch(re.escape(id_) + "[ab]", k)}
        if not matches:
            raise ValueError(f"no scenario {id_}; there are {', '.join(i for g in GROUPS for i in g.figures)}")
        wanted |= matches
    return [g for g in GROUPS if wanted & set(g.figures)]

# SPDX-License-Identifier: Apache-2.0
"""Arguments, build, run, report."""
import argparse
import os
import subprocess
import sys
import time

from sgbench import machine, report, svg

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGETS = ["daemon/sockgated", "daemon/sockgatectl", "bench/load/sockgate-load", "bench/engine_rr"]
PARTS = """what is compared:
  A side of the table without the kernel's figure means nothing, so the kernel's run can't be left out.
  Ratios are of medians within one run; rounds go A B A B. Figures depend on the machine and its load."""


def parse(arguments):
    p = argparse.ArgumentParser(prog="bench/run", description="Sockgate beside the kernel's TCP: every scenario of "
                                "docs/performance.md, or those named.", epilog=PARTS,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("ids", nargs="*", metavar="ID", help="scenarios to run (all); 7 stands for 7a and 7b")
    p.add_argument("--list", action="store_true", help="list the scenarios and adapters, and end")
    p.add_argument("--quick", action="store_true", help="fewer and shorter rounds: 3 minutes instead of 12")
    p.add_argument("--json", metavar="FILE", help="write the results there")
    p.add_argument("--plots", metavar="DIR", default="bench-results", help="where the SVG plots go (bench-results)")
    p.add_argument("--rounds", type=int, help="rounds of each comparison (5; quick: 1)")
    p.add_argument("--seconds", type=float, help="of each round (1.5; quick: 0.7)")
    p.add_argument("--scale", type=float, help="share of the idle connections (1; quick: 0.1)")
    p.add_argument("--adapters", metavar="DIR", help="descriptions of other stacks (bench/adapters)")
    p.add_argument("--build", metavar="DIR", help="a build folder that is up to date; nothing is built then")
    p.add_argument("--without-kernel", action="store_true", help=argparse.SUPPRESS)
    o = p.parse_args(arguments)
    if o.without_kernel:
        p.error("the kernel's run belongs to every comparison and can't be left out")
    defaults = (1, 0.7, 0.1) if o.quick else (5, 1.5, 1.0)
    for name, value in zip(("rounds", "seconds", "scale"), defaults):
        given = getattr(o, name)
        if given is not None and given <= 0:
            p.error(f"--{name} takes a number above 0")
        setattr(o, name, value if given is None else given)
    if o.scale > 1:
        p.error("--scale takes at most 1")
    return o


def build(folder):
    """A release build of its own; quiet unless it fails."""
    print("building", os.path.relpath(folder), flush=True)
    steps = [[os.path.join(ROOT, "scripts", "install-deps"), "bench"]]
    settings = ["-Dtests=true", "-Ddpdk=auto", "-Dxdp=auto"] # an older folder may have been set up without
    if os.path.exists(os.path.join(folder, "build.ninja")):
        steps.append(["meson", "configure", folder, *settings])
    else:
        steps.append(["meson", "setup", folder, ROOT, "--buildtype=release", *settings])
    steps.append(["ninja", "-C", folder, *TARGETS])
    for step in steps:
        done = subprocess.run(step, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print(done.stdout[-4000:], file=sys.stderr)
            raise SystemExit(f"bench/run: {' '.join(step[:3])} failed")


class Bench:
    """What every scenario is handed."""

    def __init__(self, options, env, placement, adapters):
        self.env, self.placement, self.adapters = env, placement, adapters
        self.build = os.environ["SOCKGATE_BUILD"]
        self.rounds, self.seconds = options.rounds, options.seconds
        self.warm_s = 0.3 if options.quick else 0.5
        self.idle_s = 2 if options.quick else 6
        self.scale, self.plots = options.scale, options.plots
        self.started = time.monotonic()
        self.failed = False

    def say(self, text):
        print(f"{time.monotonic() - self.started:5.0f} s    {text}", flush=True)

    def scaled(self, count):
        return max(1, int(count * self.scale))

    def plot(self, name, *arguments, **options):
        self.write_plot(name, svg.curves(*arguments, **options))

    def write_plot(self, name, document):
        if not document:
            return
        os.makedirs(self.plots, exist_ok=True)
        with open(os.path.join(self.plots, name + ".svg"), "w", encoding="utf-8") as f:
            f.write(document)


def list_all(groups, adapters):
    for group in groups:
        for id_, (name, unit, bar) in group.figures.items():
            print(f"{id_:6} {name} ({unit}): {bar}")
    print("\nother stacks (bench/adapters):")
    for adapter in adapters:
        print(f"       {adapter.name}: {adapter.status()}")


def ratio_bars(bench, figures):
    """Each ratio as a share of what it has to reach, so that one scale fits all."""
    rows = []
    for f in figures:
        measured = f.ratio if f.bar.of == "ratio" else f.value
        if measured:
            share = measured / f.bar.limit if f.bar.sign == ">=" else f.bar.limit / measured
            rows.append((f"{f.id}  {f.name[:34]}", min(share, 4), 1, f.met))
    bench.write_plot("bars", svg.bars("how far each figure is (1: the bar, longer is better, cut off at 4)", rows, ""))


def run(bench, groups, facts):
    figures = []
    for at, group in enumerate(groups):
        ids = ", ".join(group.figures)
        print(f"\n[{at + 1}/{len(groups)}] {ids}: {'; '.join(v[0] for v in group.figures.values())}", flush=True)
        for figure in group.results(bench):
            figures.append(figure)
            if figure.value is None:
                bench.say(f"{figure.id}: {figure.why}")
    facts["load_after"] = machine.load()
    facts["seconds"] = round(time.monotonic() - bench.started, 1)
    return figures


def main(arguments=None):
    options = parse(arguments)
    folder = os.path.abspath(options.build or os.path.join(ROOT, "build-bench"))
    os.environ["SOCKGATE_BUILD"] = folder
    sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
    import harness # it reads SOCKGATE_BUILD when it is loaded
    from sgbench import adapters as other, scenarios

    try:
        groups = scenarios.select(options.ids)
        stacks = other.load(options.adapters or other.FOLDER)
    except (ValueError, other.Bad, OSError) as error:
        raise SystemExit(f"bench/run: {error}") from None
    if options.list:
        list_all(groups, stacks)
        return 0
    if os.geteuid() != 0:
        raise SystemExit("bench/run: network namespaces need root: sudo bench/run")
    placement = machine.Placement()
    if not placement.usable:
        raise SystemExit("bench/run: the generator needs a core of its own; this process may use one only")
    if not options.build and not os.environ.get(harness.IN_NAMESPACE):
        build(folder)
    harness.enter_namespace()
    facts = machine.describe(placement, folder)
    facts.update(congestion="cubic on both sides", rounds=options.rounds, seconds_of_a_round=options.seconds)
    print(machine.text(facts))
    print("congestion control: cubic, by name, on the kernel's sockets and in Sockgate")
    env = harness.Env()
    bench = Bench(options, env, placement, stacks)
    try:
        figures = run(bench, groups, facts)
    finally:
        env.close()
    ratio_bars(bench, figures)
    statuses = {a.name: a.status() for a in stacks}
    print("\n" + report.table(figures) + "\n")
    for name, status in statuses.items():
        print(f"{name}: {status}")
    print(f"load {facts['load_after'][0]} after {facts['seconds']:.0f} s; plots in {options.plots}/")
    if options.json:
        report.write_json(options.json, report.document(figures, facts, statuses))
    return 1 if bench.failed else 0

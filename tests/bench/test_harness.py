#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The parts of bench/run that need no network: bars, table, JSON, plots, arguments, selection, adapters."""
import contextlib
import io
import json
import math
import os
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(ROOT, "bench"), os.path.join(ROOT, "tests", "e2e")]
from sgbench import adapters, cli, machine, report, scenarios, svg # noqa: E402 (needs the path)


def figure(value, baseline, bar):
    return report.Figure("5", "a name", "requests/s", bar, value, baseline)


class Bars(unittest.TestCase):
    def test_ratio(self):
        bar = report.Bar(">=", 5)
        self.assertTrue(figure(50, 10, bar).met)
        self.assertFalse(figure(49, 10, bar).met)
        self.assertEqual(figure(50, 10, bar).ratio, 5)

    def test_upper_limit(self):
        self.assertTrue(figure(900, None, report.Bar("<=", 900, "value")).met)
        self.assertFalse(figure(901, None, report.Bar("<=", 900, "value")).met)

    def test_without_a_measurement_nothing_is_met(self):
        self.assertFalse(figure(None, None, report.Bar("<=", 900, "value")).met)
        self.assertFalse(figure(None, 10, report.Bar("<=", 1)).met)
        self.assertFalse(figure(10, None, report.Bar(">=", 1)).met, "a ratio needs its baseline")
        self.assertFalse(figure(10, 0, report.Bar(">=", 1)).met)


class Reports(unittest.TestCase):
    def test_json(self):
        rows = [figure(50.0, 10.0, report.Bar(">=", 5)), report.Figure("11", "b", "us", report.Bar("<=", 1),
                                                                      why="not there")]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "out.json")
            report.write_json(path, report.document(rows, {"cores": 2}, {"VPP": "not installed"}))
            with open(path, encoding="utf-8") as f:
                found = json.load(f)
        first, second = found["scenarios"]
        for key in ("id", "name", "value", "baseline", "unit", "bar", "met"):
            self.assertIn(key, first)
            self.assertIn(key, second)
        self.assertEqual((first["value"], first["baseline"], first["met"]), (50, 10, True))
        self.assertEqual((second["value"], second["met"], second["why"]), (None, False, "not there"))
        self.assertEqual(found["machine"]["cores"], 2)

    def test_table(self):
        lines = report.table([figure(50, 10, report.Bar(">=", 5)), figure(None, None, report.Bar("<=", 1))]).split("\n")
        self.assertEqual(len({len(line) for line in lines[:4]}), 1, "columns line up")
        self.assertIn("| yes", lines[2])
        self.assertIn("| not run", lines[3])

    def test_short_numbers(self):
        self.assertEqual([report.short(v) for v in (None, 0, 0.04567, 1.5, 123.4, 1234567)],
                         ["–", "0", "0.0457", "1.50", "123", "1,234,567"])

    def test_spread(self):
        self.assertEqual(report.spread([3, 1, 2]), {"median": 2, "min": 1, "max": 3, "rounds": 3})


class Plots(unittest.TestCase):
    def points(self, document):
        root = xml.fromstring(document)
        line = root.find("{http://www.w3.org/2000/svg}polyline")
        return [tuple(map(float, p.split(","))) for p in line.get("points").split()]

    def test_curve_lies_where_it_should(self):
        points = self.points(svg.curves("t", "x", "y", {"a": [(0, 0), (5, 10), (10, 20)]}))
        self.assertEqual(points[0], (svg.LEFT, svg.HEIGHT - svg.BOTTOM))
        self.assertEqual(points[2], (svg.WIDTH - svg.RIGHT, svg.TOP))
        self.assertAlmostEqual(points[1][0], (points[0][0] + points[2][0]) / 2, delta=0.1)

    def test_powers_of_ten_are_evenly_spaced(self):
        points = self.points(svg.curves("t", "x", "y", {"a": [(1, 1), (10, 1), (100, 1)]}, log_x=True))
        self.assertAlmostEqual(points[1][0] - points[0][0], points[2][0] - points[1][0], delta=0.2)

    def test_text_is_escaped(self):
        document = svg.curves("a < b & c", "x", "y", {"<s>": [(1, 2)]})
        self.assertIn("a < b & c", "".join(xml.fromstring(document).itertext()))

    def test_nothing_to_draw(self):
        self.assertIsNone(svg.curves("t", "x", "y", {"a": []}))
        self.assertIsNone(svg.bars("t", [], "u"))

    def test_bars(self):
        root = xml.fromstring(svg.bars("t", [("5", 1.0, 1, True), ("6", 0.5, 1, False)], "ratio"))
        widths = [float(r.get("width")) for r in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
        self.assertAlmostEqual(widths[0], 2 * widths[1], delta=0.2)

    def test_ticks(self):
        for low, high in ((0, 1), (0, 7), (3, 1e6), (0, 0.003)):
            ticks = svg.Axis(low, high, 0, 100, False).ticks()
            self.assertTrue(3 <= len(ticks) <= 8, (low, high, ticks))
            self.assertTrue(all(low <= t <= high * (1 + 1e-9) for t in ticks))


class Arguments(unittest.TestCase):
    def refused(self, *arguments):
        with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit) as end:
            cli.parse(arguments)
        self.assertEqual(end.exception.code, 2)
        return said.getvalue()

    def test_defaults(self):
        full, quick = cli.parse([]), cli.parse(["--quick"])
        self.assertEqual((full.rounds, full.scale, full.ids), (5, 1.0, []))
        self.assertEqual((quick.rounds, quick.scale), (1, 0.1))
        self.assertEqual(cli.parse(["--quick", "--rounds", "3"]).rounds, 3)

    def test_the_kernel_is_never_left_out(self):
        self.assertIn("can't be left out", self.refused("--without-kernel"))

    def test_nonsense(self):
        self.refused("--rounds", "0")
        self.refused("--seconds", "-1")
        self.refused("--scale", "2")

    def test_selection(self):
        def ids(*wanted):
            return [i for g in scenarios.select(wanted) for i in g.figures]
        everything = ids()
        self.assertEqual(len(everything), len(set(everything)))
        for number in range(1, 12):
            self.assertTrue(ids(str(number)), number)
        self.assertEqual(ids("5"), ["5", "7b"], "what is measured together is told together")
        self.assertEqual(set(ids("7")), {"2", "7a", "5", "7b"})
        self.assertEqual(ids("curve"), ["curve"])
        for unknown in ("12", "", "a", "1b"):
            with self.assertRaises(ValueError):
                ids(unknown)

    def test_placement_needs_two_cores(self):
        self.assertFalse(machine.Placement([3]).usable)
        self.assertEqual((machine.Placement([3, 5]).generator, machine.Placement([3, 5]).server), (3, 5))


class Groups(unittest.TestCase):
    class Bench:
        failed = False

    def test_what_cannot_run_says_why_and_is_not_met(self):
        def run(bench):
            raise scenarios.Unavailable("no such device")
        group = scenarios.Group({"x": ("n", "u", report.Bar("<=", 1, "value"))}, run)
        bench = self.Bench()
        [f] = group.results(bench)
        self.assertEqual((f.value, f.met, f.why, bench.failed), (None, False, "no such device", False))

    def test_a_failure_is_told(self):
        def run(bench):
            raise scenarios.harness.Failure("it broke")
        group = scenarios.Group({"x": ("n", "u", report.Bar("<=", 1, "value"))}, run)
        bench = self.Bench()
        [f] = group.results(bench)
        self.assertEqual((f.met, f.why, bench.failed), (False, "failed: it broke", True))

    def test_medians(self):
        found = {"a": [{"rate": r} for r in (1, 9, 5)], "b": [{"rate": 2}], "c": [{"rate": 3}]}
        entry = scenarios.entry(found, "a", "b", "rate")
        self.assertEqual((entry["value"], entry["baseline"]), (5, 2))
        self.assertEqual(list(entry["details"]["others"]), ["c"])


class Adapters(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "a.toml"), "w", encoding="utf-8") as f:
                f.write(text)
            return adapters.load(folder)

    def test_ours_can_be_read(self):
        found = adapters.load()
        self.assertTrue({"VPP, preload library", "TAS, preload library"} <= {a.name for a in found})
        for a in found:
            self.assertTrue(a.table["needs"], f"{a.file}: it would count as installed everywhere")

    def test_status(self):
        [a] = self.read('name = "x"\nneeds = ["/nowhere/at-all", "sh"]\n')
        self.assertEqual(a.status(), "not installed (/nowhere/at-all)")
        [a] = self.read('name = "x"\nneeds = ["sh"]\n')
        self.assertEqual(a.status(), "installed")

    def test_bad_files(self):
        for text in ("", "name = ", 'name = "x"\ncolour = "red"\n'):
            with self.assertRaises(adapters.Bad):
                self.read(text)


assert math.isclose(1 / 15, [b.limit for g in scenarios.GROUPS for i, (_, _, b) in g.figures.items() if i == "4b"][0])
unittest.main()

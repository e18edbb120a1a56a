#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds docs/conformance.md to the tree. Usage: conformance.py [SOURCE_ROOT]

A row has four cells: RFC section, rule, code, test.
  code  file: function, function; file: function -- each file (.c, .h, .py) exists below daemon/engine/ (or the
        root) and the words after it occur in it. Backticks don't matter. A rule that is not followed says "declined: why" instead.
  test  `suite::name`, `suite::name` -- a Test(suite, name) below tests/, a packet script
        (packetdrill::name for tests/packetdrill/scripts/name.pkt), or a program of `meson test` (meson::name).
        "-" only beside "declined".
All of MUST-1 to MUST-69 and SHLD-1 to SHLD-31 of RFC 9293 (appendix B) must stand in the rule cells.

Prints one line for each violation and ends with status 1 if there is any. --self-test: do the rules bite?
"""
import os
import re
import sys
import tempfile

TABLE = "docs/conformance.md"
HEADING = ["RFC section", "rule", "code", "test"]
NUMBERS = [f"MUST-{i}" for i in range(1, 70)] + [f"SHLD-{i}" for i in range(1, 32)]
TEST = re.compile(r"\bTest\(\s*(\w+)\s*,\s*(\w+)")
MESON_TEST = re.compile(r"\b(?:test|benchmark)\(\s*'([\w-]+)'")
FOLDERS = ("", "daemon/engine/")


def source_files(root, folder):
    for place, folders, names in os.walk(os.path.join(root, folder)):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(place, name)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def known_tests(root):
    tests = set()
    for path in source_files(root, "tests"):
        if path.endswith(".c"):
            tests |= {f"{suite}::{name}" for suite, name in TEST.findall(read(path))}
        elif path.endswith(".pkt"):
            tests.add("packetdrill::" + os.path.basename(path)[:-len(".pkt")])
        elif os.path.basename(path) == "meson.build":
            tests |= {"meson::" + name for name in MESON_TEST.findall(read(path))}
    return tests


def find_file(root, name):
    for folder in FOLDERS:
        path = os.path.join(root, folder, name)
        if os.path.isfile(path):
            return path
    return None


def check_code(root, cell):
    parts = re.split(r"([\w/]+\.(?:c|h|py)\b)", cell.replace("`", ""))
    if len(parts) == 1 or parts[0].strip():
        yield f"no file in \"{cell}\""
    for name, words in zip(parts[1::2], parts[2::2]):
        path = find_file(root, name)
        if not path:
            yield f"no file {name}"
            continue
        text = read(path)
        for word in re.findall(r"\w+", words):
            if not re.search(rf"(?<!\w){word}(?!\w)", text):
                yield f"no {word} in {name}"


def check_tests(tests, cell):
    names = re.findall(r"[\w-]+::[\w-]+", cell)
    if not names:
        yield "no test"
    for name in names:
        if name not in tests:
            yield f"no test {name}"


def rows(text):
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("|"):
            yield number, [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def check(root):
    text = read(os.path.join(root, TABLE))
    tests = known_tests(root)
    seen = set()
    for number, cells in rows(text):
        if cells == HEADING or all(re.fullmatch(r":?-+:?", c) for c in cells):
            continue
        if len(cells) != len(HEADING) or not all(cells):
            yield f"{TABLE}:{number}: not four cells"
            continue
        seen |= set(re.findall(r"\b(?:MUST|SHLD)-\d+", cells[1]))
        bad = []
        if not cells[2].startswith("declined: "):
            bad += check_code(root, cells[2])
            bad += check_tests(tests, cells[3])
        elif cells[3] != "-":
            bad += check_tests(tests, cells[3])
        yield from (f"{TABLE}:{number}: {b}" for b in bad)
    for number in NUMBERS:
        if number not in seen:
            yield f"{TABLE}: {number} of RFC 9293 is missing"


# A row, and what is wrong with it ("" for nothing).
SELF_TEST = [
    ("| 1 | a | `tcp_in.c`: `tcp_input` | `open::works` |", ""),
    ("| 1 | a | `tcp_in.c`: `tcp_inpu` | `open::works` |", "no tcp_inpu in tcp_in.c"),
    ("| 1 | a | `tcp_on.c`: `tcp_input` | `open::works` |", "no file tcp_on.c"),
    ("| 1 | a | everywhere | `open::works` |", "no file in"),
    ("| 1 | a | `tcp_in.c`: `tcp_input` | `open::fails` |", "no test open::fails"),
    ("| 1 | a | `tcp_in.c`: `tcp_input` | - |", "no test"),
    ("| 1 | a | `tcp_in.c`: `tcp_input` |", "not four cells"),
    ("| 1 | a | declined: too old | - |", ""),
    ("| 1 | a | declined: too old | `open::fails` |", "no test open::fails"),
    ("| 1 | a | tcp_in.c: tcp_input, tcp_out | open::works |", "no tcp_out in tcp_in.c"),
    ("| 1 | a | `tcp_in.c`: `tcp_input` | `meson::sim`, `packetdrill::syn` |", ""),
    ("| 1 | a | `tcp_in.c`: `tcp_input` | `meson::sum` |", "no test meson::sum"),
]


def self_test():
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        for name, text in (("daemon/engine/tcp_in.c", "void tcp_input(void)"), ("tests/a.c", "Test(open, works)"),
                           ("tests/meson.build", "test('sim', exe)"), ("tests/pd/syn.pkt", "")):
            os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
            with open(os.path.join(root, name), "w", encoding="utf-8") as f:
                f.write(text)
        os.mkdir(os.path.join(root, "docs"))
        everything = f"| 0 | {' '.join(NUMBERS)} | declined: all | - |\n"
        cases = [(everything + row, want) for row, want in SELF_TEST]
        cases.append((everything.replace("MUST-7 ", ""), "MUST-7 of RFC 9293 is missing"))
        for text, want in cases:
            with open(os.path.join(root, TABLE), "w", encoding="utf-8") as f:
                f.write(text)
            found = list(check(root))
            if (want and not any(want in line for line in found)) or (not want and found):
                print(f"self-test: {text.splitlines()[-1]}: expected {want!r}, found {found}")
                failed += 1
    return failed


def main():
    if "--self-test" in sys.argv:
        return 1 if self_test() else 0
    found = list(check(sys.argv[1] if len(sys.argv) > 1 else "."))
    print("\n".join(found) if found else f"{TABLE}: all that it names exists")
    return 1 if found else 0


sys.exit(main())

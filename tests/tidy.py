#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Style and structure rules that no compiler checks. Usage: tidy.py [SOURCE_ROOT]

Prints one line for each violation (file:line: what) and ends with status 1 if there is any.
To see that the rules themselves bite: tidy.py --self-test.
"""
import fnmatch
import os
import re
import subprocess
import sys
import tempfile

LINE_MAX = 110
SOURCE_SUFFIXES = (".c", ".h", ".py", ".sh", ".proto")
SPDX = "SPDX-License-Identifier: Apache-2.0"
BANNED = re.compile(r"\b(TODO|FIXME|XX" + r"X|HACK)\b")

# What the files of a folder may include of ours (docs/ARCHITECTURE.md, "Who may know whom"). The longest
# matching folder decides. A file may always include headers of its own folder.
MAY_INCLUDE = {
    "proto/abi": [],
    "proto": ["proto/*", "control.pb-c.h"],
    "hw": [],
    "daemon/engine": ["hw/pktbuf.h", "proto/abi/*"],
    "daemon": ["daemon/*", "hw/*", "proto/*", "control.pb-c.h"],
    "client-lib": ["client-lib/*", "proto/*", "sockclient.h", "control.pb-c.h"],
    "examples": ["sockclient.h", "examples/*"],
    "bench": ["bench/*", "proto/abi/*", "tests/support/*"],
    "bench/load": ["bench/load/*", "daemon/engine/engine.h", "hw/device.h", "hw/dpdk.h"],
    "tests": ["*"],
}

# Libraries that only named files or folders may see.
FOREIGN = {
    r"<rte_": ["hw/dpdk*"],
    r"<xdp/|<bpf/": ["hw/xdp*"],
    r"<liburing": ["hw/*", "daemon/loop.*", "daemon/worker.*", "tests/*"],
    r"<protobuf-c": ["proto/*", "daemon/control*", "daemon/ctl*", "client-lib/attach*", "client-lib/control*",
                     "tests/*"],
    r"<systemd/": ["daemon/*"],
    r"<criterion": ["tests/*"],
}

# The engine is pure: of libc it knows types, limits and memory functions, nothing that calls the system.
ENGINE_LIBC = {"assert.h", "errno.h", "inttypes.h", "limits.h", "stdalign.h", "stdarg.h", "stdbool.h", "stddef.h",
               "stdint.h", "stdio.h", "string.h"}
ENGINE_CALLS = re.compile(r"\b(malloc|calloc|realloc|free|printf|fprintf|puts|time|clock_gettime|gettimeofday|"
                          r"rand|random|getrandom|abort|exit|syscall|read|write|ioctl)\s*\(")

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


def strip_comments(text):
    """C text with comments and string contents blanked, line numbers kept."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def rule_folder(path):
    folders = [f for f in MAY_INCLUDE if path.startswith(f + "/")]
    return max(folders, key=len) if folders else None


def check_includes(path, lines, report):
    folder = rule_folder(path)
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        kind, name = match.groups()
        if kind == "<":
            for pattern, allowed in FOREIGN.items():
                if re.match(pattern, "<" + name) and not any(fnmatch.fnmatch(path, a) for a in allowed):
                    report(path, number, f"<{name}> may be seen by {', '.join(allowed)} only")
            if folder == "daemon/engine" and name not in ENGINE_LIBC:
                report(path, number, f"the engine is pure and must not include <{name}>")
        elif folder:
            own = os.path.dirname(name) == os.path.dirname(path) or name.startswith(folder + "/")
            if not own and not any(fnmatch.fnmatch(name, a) for a in MAY_INCLUDE[folder]):
                report(path, number, f'{folder}/ must not include "{name}"')


def check_engine_calls(path, text, report):
    if rule_folder(path) != "daemon/engine":
        return
    for number, line in enumerate(strip_comments(text).splitlines(), 1):
        match = ENGINE_CALLS.search(line)
        if match:
            report(path, number, f"the engine is pure and must not call {match.group(1)}()")


def check_lines(path, lines, report):
    is_c = path.endswith((".c", ".h"))
    for number, line in enumerate(lines, 1):
        if BANNED.search(line):
            report(path, number, f"{BANNED.search(line).group(1)}: finish it, or write an issue")
        if line != line.rstrip():
            report(path, number, "trailing space")
        if is_c and len(line) > LINE_MAX:
            report(path, number, f"{len(line)} columns, at most {LINE_MAX}")
        if "\t" in line and not path.endswith((".md", ".scd")):
            report(path, number, "tab")


def check_licence(path, lines, report):
    is_source = path.endswith(SOURCE_SUFFIXES) or os.path.basename(path) == "meson.build" or \
        (lines and lines[0].startswith("#!"))
    if is_source and not any(SPDX in line for line in lines[:3]):
        report(path, 1, f"no {SPDX} in the first lines")


def check_listed(root, paths, report):
    """Every .c file is named in a meson.build, and every .h file is included by something."""
    builds, includes = {}, set()
    for path in paths:
        with open(os.path.join(root, path), encoding="utf-8") as f:
            text = f.read()
        if os.path.basename(path) == "meson.build":
            builds[os.path.dirname(path)] = text
        elif path.endswith((".c", ".h")):
            includes.update(os.path.basename(m.group(2)) for m in map(INCLUDE.match, text.splitlines()) if m)
    for path in paths:
        base = os.path.basename(path)
        if path.endswith(".c"):
            stem = base[:-2]
            # A folder may build in a loop over names: 'ring' stands for test_ring.c and fuzz_ring.c.
            names = {base, stem, re.sub("^(test|fuzz)_", "", stem)}
            named = any(f"'{name}'" in text or f"/{name}'" in text for name in names for text in builds.values())
            if not named:
                report(path, 1, "not listed in any meson.build")
        elif path.endswith(".h") and base not in includes and base != "sockclient.h":
            report(path, 1, "included by nothing")


def list_files(root):
    """Tracked and untracked files that are not ignored; without git, all files outside build folders."""
    try:
        out = subprocess.run(["git", "-C", root, "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"],
                             capture_output=True, check=True, text=True).stdout
        if os.path.exists(os.path.join(root, ".git")):
            return [p for p in out.splitlines() if os.path.isfile(os.path.join(root, p))]
    except (OSError, subprocess.CalledProcessError):
        pass
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [d for d in subfolders if not d.startswith((".git", "build"))]
        found += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return found


def check(root):
    problems = []

    def report(path, number, what):
        problems.append(f"{path}:{number}: {what}")

    paths = []
    for path in sorted(list_files(root)):
        if path == "LICENSE" or "/corpus/" in path:
            continue
        try:
            with open(os.path.join(root, path), encoding="utf-8") as f:
                text = f.read()
        except UnicodeDecodeError:
            continue
        except FileNotFoundError: # removed since it was listed
            continue
        paths.append(path)
        lines = text.split("\n")
        check_licence(path, lines, report)
        if path != "tests/tidy.py":
            check_lines(path, lines, report)
        if path.endswith((".c", ".h")):
            check_includes(path, lines, report)
            check_engine_calls(path, text, report)
    check_listed(root, paths, report)
    return problems


# file -> (text, what must be found)
SELF_TEST = {
    "meson.build": ("# " + SPDX + "\nsources = ['listed.c']\n", None),
    "hw/a.c": ("/* " + SPDX + " */\n#include \"daemon/engine/x.h\"\n", "hw/ must not include"),
    "hw/b.c": ("int x;\n", "no SPDX"),
    "hw/c.c": ("/* " + SPDX + " */\nint x; /* TO" + "DO */\n", "finish it"),
    "hw/d.c": ("/* " + SPDX + " */\nint x; \n", "trailing space"),
    "hw/e.c": ("/* " + SPDX + " */\n//" + "x" * LINE_MAX + "\n", "columns"),
    "hw/f.c": ("/* " + SPDX + " */\n#include <rte_mbuf.h>\n", "may be seen by"),
    "daemon/engine/x.h": ("/* " + SPDX + " */\n#include <unistd.h>\n", "engine is pure"),
    "daemon/engine/y.c": ("/* " + SPDX + " */\nvoid *f(void) { return malloc(1); }\n", "must not call malloc"),
    "daemon/engine/z.c": ("/* " + SPDX + " */\n/* malloc(1) */\n#include \"hw/device.h\"\n", "must not include"),
    "examples/e.c": ("/* " + SPDX + " */\n#include \"proto/abi/seg.h\"\n", "must not include"),
    "hw/unused.h": ("/* " + SPDX + " */\n", "included by nothing"),
    "hw/listed.c": ("/* " + SPDX + " */\nint ok;\n", None),
}


def self_test():
    with tempfile.TemporaryDirectory() as root:
        for path, (text, _) in SELF_TEST.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
        problems = check(root)
    failed = 0
    for path, (_, expected) in SELF_TEST.items():
        mine = [p for p in problems if p.startswith(path + ":")]
        if (expected is None and mine) or (expected and not any(expected in p for p in mine)):
            print(f"tidy.py --self-test: {path}: expected {expected!r}, got {mine}")
            failed += 1
    return failed


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    problems = check(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for problem in problems:
        print(problem)
    if problems:
        print(f"tidy.py: {len(problems)} problems")
    return 1 if problems else 0


sys.exit(main())

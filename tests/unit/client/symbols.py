#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What libsockclient.so exports is what sockclient.h declares, each symbol with a version.

Usage: symbols.py NM LIBRARY HEADER
"""
import re
import subprocess
import sys


def main():
    nm, library, header = sys.argv[1:]
    with open(header, encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    declared = set(re.findall(r"\bSC_API\b[^;(]*?\b(sc_\w+)\s*\(", text))
    out = subprocess.run([nm, "-D", "--defined-only", "--with-symbol-versions", library], check=True,
                         capture_output=True, text=True).stdout
    exported, bare = set(), []
    for line in out.splitlines():
        kind, name = line.split()[-2:]
        name, _, version = name.partition("@@")
        if kind != "A": # the version node itself
            exported.add(name)
            if not version:
                bare.append(name)
    for what, names in (("declared but not exported", declared - exported),
                        ("exported but not declared", exported - declared), ("without version", bare)):
        for name in sorted(names):
            print(f"{name}: {what}")
    return 1 if not declared or exported != declared or bare else 0


sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `meson install` puts down is enough: a program is built outside the tree, by pkg-config alone.

    install.py BUILD_DIR SOURCE_DIR

Installs into a temporary DESTDIR, builds the README's first program against it, runs it without a daemon (it must
end with status 1, not crash), and checks that the library exports sc_* and nothing else, with versions."""
import os
import re
import subprocess
import sys
import tempfile


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"FAILED {' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def first_program(source):
    with open(os.path.join(source, "README.md"), encoding="utf-8") as f:
        found = re.search(r"```c\n(.*?)```", f.read(), re.S)
    if not found:
        sys.exit("FAILED README.md has no C program")
    return found.group(1)


def find(root, name):
    for folder, _, files in os.walk(root):
        if name in files:
            return os.path.join(folder, name)
    sys.exit(f"FAILED {name} was not installed")


def check_exports(library):
    exported = []
    for line in run("nm", "--dynamic", "--defined-only", library).splitlines():
        name = line.split()[-1]
        if not name.startswith("SOCKGATE_"):
            exported.append(name)
    foreign = [n for n in exported if not re.fullmatch(r"sc_[a-z0-9_]+@@SOCKGATE_[0-9.]+", n)]
    if foreign or not exported:
        sys.exit(f"FAILED the library exports {foreign or 'nothing'}")
    return len(exported)


def main():
    build, source = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="sockgate-install.") as work:
        dest = os.path.join(work, "dest")
        run("meson", "install", "-C", build, "--no-rebuild", "--destdir", dest)
        pc = find(dest, "libsockclient.pc")
        library = find(dest, "libsockclient.so")
        for wanted in ("sockgated", "sockgatectl", "sockclient.h", "sockgated.service"):
            find(dest, wanted)
        program = os.path.join(work, "first.c")
        with open(program, "w", encoding="utf-8") as f:
            f.write(first_program(source))
        env = dict(os.environ, PKG_CONFIG_LIBDIR=os.path.dirname(pc), PKG_CONFIG_SYSROOT_DIR=dest)
        flags = run("pkg-config", "--cflags", "--libs", "libsockclient", env=env).split()
        run("cc", "-Wall", "-Wextra", "-Werror", "-o", os.path.join(work, "first"), program, *flags, cwd=work)
        env = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(library), SOCKGATE_CONTROL=os.path.join(work, "none"))
        done = subprocess.run([os.path.join(work, "first")], env=env, timeout=10, check=False)
        if done.returncode != 1:
            sys.exit(f"FAILED the program without a daemon: status {done.returncode}, expected 1")
        count = check_exports(library)
    print(f"built and ran by pkg-config alone; {count} symbols, all sc_* with a version")


main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a 64-byte request and its response cost inside the engine: instructions, counted by callgrind.

    instructions.py ENGINE_RR MOST     exit status 1 above MOST, 77 (skipped) without valgrind

Counted is all that server_turn() of engine_rr.c does, the application's part included. Unlike a time the count
does not depend on the machine's load, so a test can hold it; it does depend on the compiler.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

REQUESTS = 2560


def count(program):
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=server_turn",
                   f"--callgrind-out-file={pathlib.Path(folder) / 'out'}",
                   program, "--requests", str(REQUESTS)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    collected = re.search(r"Collected : (\d+)", run.stderr)
    done = re.search(r"(\d+) requests", run.stdout)
    if run.returncode or not collected or not done:
        sys.exit(f"instructions.py: {' '.join(command)} failed:\n{run.stdout}{run.stderr}")
    return int(collected[1]) / int(done[1])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if not shutil.which("valgrind"):
        print("skipped: valgrind is not installed")
        sys.exit(77)
    each, most = count(sys.argv[1]), int(sys.argv[2])
    print(f"{each:.0f} instructions for each request, at most {most} wanted")
    sys.exit(each > most)


if __name__ == "__main__":
    main()

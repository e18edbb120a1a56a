#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""bench/run from end to end, for a moment: it runs, compares with the kernel and an adapter, and writes its results.

    quick.py BUILD ROOT"""
import json
import os
import subprocess
import sys
import tempfile

SKIP = 77
# The kernel's stack once more, as if it were somebody else's.
ADAPTER = """name = "kernel again"
needs = ["sh"]
files = { "hello" = "{address} on {device}" }
daemon = ["sh", "-c", "test \\"$(cat {dir}/hello)\\" = '{address} on {device}' && exec sleep 600"]
ready = ["ip", "addr", "show", "dev", "{device}"]
environment = { MARK = "1" }
kernel_has_address = true
"""


def main():
    build, root = sys.argv[1:]
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun") or len(os.sched_getaffinity(0)) < 2:
        print("skipped: needs root, /dev/net/tun and two cores")
        return SKIP
    with tempfile.TemporaryDirectory(prefix="sockgate-bench.") as folder:
        os.mkdir(os.path.join(folder, "adapters"))
        with open(os.path.join(folder, "adapters", "again.toml"), "w", encoding="utf-8") as f:
            f.write(ADAPTER)
        out = os.path.join(folder, "out.json")
        subprocess.run([os.path.join(root, "bench", "run"), "--quick", "--build", build, "--seconds", "0.1", "--scale",
                        "0.002", "--json", out, "--plots", folder, "--adapters", os.path.join(folder, "adapters"),
                        "2", "5", "10"], check=True, timeout=100)
        with open(out, encoding="utf-8") as f:
            found = json.load(f)
        plots = {name for name in os.listdir(folder) if name.endswith(".svg")}
    rows = {row["id"]: row for row in found["scenarios"]}
    assert list(rows) == ["2", "7a", "5", "7b", "10"], list(rows)
    assert rows["5"]["value"] > 0 and rows["5"]["baseline"] > 0, rows["5"]
    assert abs(rows["5"]["ratio"] - rows["5"]["value"] / rows["5"]["baseline"]) < 1e-9
    assert rows["5"]["details"]["others"]["kernel again"]["median"] > 0, rows["5"]
    assert rows["10"]["value"] is not None and rows["10"]["baseline"] is None
    assert rows["2"]["value"] or (rows["2"]["why"] and not rows["2"]["met"]), rows["2"]
    assert {"latency-tap.svg", "bars.svg"} <= plots, plots
    assert found["machine"]["cores"] >= 2 and found["adapters"] == {"kernel again": "installed"}
    return 0


sys.exit(main())

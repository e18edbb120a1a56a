# SPDX-License-Identifier: Apache-2.0
"""What the figures were taken on: cores, versions, load, and which core does what."""
import os
import platform
import subprocess


def first_line(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return "not installed"
    return out.splitlines()[0] if out else "?"


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.lower().startswith(("model name", "hardware", "cpu model")):
                return line.partition(":")[2].strip()
    return platform.machine()


def memory_gib():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30, 1)


def load():
    return [round(v, 2) for v in os.getloadavg()]


class Placement:
    """The generator has a core of its own; daemon and application share the other."""

    def __init__(self, cpus=None):
        cpus = sorted(os.sched_getaffinity(0)) if cpus is None else cpus
        self.generator, self.server = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)

    @property
    def usable(self):
        return self.generator is not None


def describe(placement, build):
    return {
        "cores": os.cpu_count(), "cpu": cpu_model(), "memory_gib": memory_gib(), "kernel": platform.release(),
        "load_before": load(), "generator_core": placement.generator, "daemon_and_application_core": placement.server,
        "compiler": first_line("cc", "--version"),
        "sockgate": first_line(os.path.join(build, "daemon", "sockgated"), "--version"),
    }


def text(m):
    return (f"{m['cores']} cores ({m['cpu']}), {m['memory_gib']} GiB, Linux {m['kernel']}, {m['compiler']}, "
            f"{m['sockgate']}; load {m['load_before'][0]} before the run\n"
            f"generator on core {m['generator_core']}, daemon and application together on core "
            f"{m['daemon_and_application_core']} (kernel baseline: server on core {m['daemon_and_application_core']})")

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--help, the manual pages and the sample configuration must name the same options and settings.

Usage: texts_agree.py SOURCE_ROOT SOCKGATED SOCKGATECTL
"""
import os
import re
import subprocess
import sys

root, sockgated, sockgatectl = sys.argv[1:]
problems = []


def help_of(program):
    run = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=20)
    if run.returncode != 0 or run.stderr:
        problems.append(f"{program} --help: status {run.returncode}, {run.stderr!r}")
    return run.stdout


def page(name):
    with open(os.path.join(root, "docs/man", name), encoding="utf-8") as f:
        return f.read()


def same(what, ours, theirs):
    for item in sorted(ours - theirs):
        problems.append(f"{what}: {item} is in --help only")
    for item in sorted(theirs - ours):
        problems.append(f"{what}: {item} is not in --help")


def help_options(text):
    """Lines of --help such as "  -i, --info   words" or "  --device SPEC  words": {"--device SPEC", ...}"""
    return {m.group(1) for m in re.finditer(r"^  (?:-\w, )?(--[a-z-]+(?: [A-Z][A-Z./=]*)?)(?=\s)", text, re.M)}


def page_options(text):
    """Headings such as "*-i*, *--info*" or "*--device* _SPEC_" at the start of a line."""
    found = set()
    for m in re.finditer(r"^(?:\*-\w\*, )?\*(--[a-z-]+)\*(?: _([^_]+)_)?$", text, re.M):
        found.add(m.group(1) + (" " + m.group(2) if m.group(2) else ""))
    return found


def help_settings(text):
    """{"network.device": "tap:sg0", ...}"""
    found, section = {}, None
    for line in text.splitlines():
        m = re.match(r"  \[(\w+)\]$", line)
        if m:
            section = m.group(1)
            continue
        m = re.match(r"    (\w+) = (\S*)\s", line)
        if m and section:
            found[section + "." + m.group(1)] = m.group(2)
    return found


def page_settings(text):
    """Headings "## [network]" and entries "*device* = _tap:sg0_"; an empty default is "*gateway* =\""""
    found, section = {}, None
    for line in text.splitlines():
        m = re.match(r"## \[(\w+)\]$", line)
        if m:
            section = m.group(1)
            continue
        m = re.match(r"\*(\w+)\* =(?: _(\S+)_)?$", line)
        if m and section:
            found[section + "." + m.group(1)] = (m.group(2) or "").replace("\\_", "_")
    return found


def sample_settings(text):
    """Settings of the sample, commented out or not."""
    found, section = {}, None
    for line in text.splitlines():
        m = re.match(r"\[(\w+)\]$", line)
        if m:
            section = m.group(1)
            continue
        m = re.match(r"#?(\w+) = ?(\S*)$", line)
        if m and section:
            found[section + "." + m.group(1)] = m.group(2)
    return found


def compare_settings(what, ours, theirs):
    same(what, set(ours), set(theirs))
    for name in sorted(set(ours) & set(theirs)):
        if ours[name] != theirs[name]:
            problems.append(f"{what}: {name} = {theirs[name]!r}, --help says {ours[name]!r}")


daemon_help = help_of(sockgated)
ctl_help = help_of(sockgatectl)
same("sockgated.8", help_options(daemon_help), page_options(page("sockgated.8.scd")))
same("sockgatectl.8", help_options(ctl_help), page_options(page("sockgatectl.8.scd")))

settings = help_settings(daemon_help)
if len(settings) < 30:
    problems.append(f"only {len(settings)} settings found in --help: has its form changed?")
compare_settings("sockgated.conf.5", settings, page_settings(page("sockgated.conf.5.scd")))
sample = os.path.join(root, "systemd/sockgated.conf")
with open(sample, encoding="utf-8") as f:
    compare_settings("systemd/sockgated.conf", settings, sample_settings(f.read()))

commands = set(re.findall(r"^  ([a-z]+) +\w", ctl_help.split("Options:")[0], re.M))
described = set(re.findall(r"^\*([a-z]+)\*$", page("sockgatectl.8.scd"), re.M))
same("sockgatectl.8 commands", commands, described)

run = subprocess.run([sockgated, "--check", "--config", sample], capture_output=True, text=True, timeout=20)
if run.returncode != 0:
    problems.append(f"the sample configuration is refused: {run.stderr}")

for problem in problems:
    print(problem)
sys.exit(1 if problems else 0)

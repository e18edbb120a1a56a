#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a file's bytes as the inside of a C initializer. Usage: embed.py IN OUT"""
import sys

with open(sys.argv[1], "rb") as f:
    data = f.read()
with open(sys.argv[2], "w", encoding="ascii") as f:
    for at in range(0, len(data), 16):
        f.write(" ".join(f"{byte}," for byte in data[at:at + 16]) + "\n")

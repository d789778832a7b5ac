"""One result of a fault test, as a line of JSON with what it was measured on.

tests/lib/reliability.py makes RELIABILITY.md of such lines.

SPDX-License-Identifier: MIT
"""
import functools
import json
import os
import platform
import shutil
import subprocess

from .env import SRC


def _output(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, cwd=SRC).stdout.strip()
    except OSError:
        return ""


@functools.cache
def machine():
    cpu = ""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    qemu = _output("qemu-system-x86_64", "--version").split("\n")[0] \
        if shutil.which("qemu-system-x86_64") else "no QEMU"
    from .guest import accel
    return "%d x %s, Linux %s, %s, %s" % (os.cpu_count(), cpu, platform.release(), qemu, accel())


@functools.cache
def commit():
    """The tree's commit, with "+" when a tracked file was changed since."""
    name = _output("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    return name + "+" * bool(_output("git", "status", "--porcelain", "--untracked-files=no"))


def record(row):
    """Appends one row to $VA_FAULT_LOG, if set."""
    path = os.environ.get("VA_FAULT_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as f:
            f.write(json.dumps(dict(row, commit=commit(), machine=machine())) + "\n")

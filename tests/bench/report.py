"""Figures, the marks they are held against, and the table.

SPDX-License-Identifier: MIT
"""
import os
import platform
import statistics
import subprocess

from vatest import SRC, run
from vatest.guest import accel


class Figures:
    """Samples by row and peer."""

    def __init__(self):
        self.samples = {}

    def add(self, row, peer, *values):
        self.samples.setdefault(row, {}).setdefault(peer, []).extend(values)

    def median(self, row, peer):
        got = self.samples.get(row, {}).get(peer)
        return statistics.median(got) if got else None

    def p99(self, row, peer):
        got = sorted(self.samples.get(row, {}).get(peer, ()))
        return got[min(len(got) - 1, int(len(got) * 0.99))] if got else None

    def stat(self, row, peer, which):
        return self.p99(row, peer) if which == "p99" else self.median(row, peer)


# What is aimed at: (what, row, peer, statistic, "<=" or ">=", factor, row, peer, statistic);
# the second row None compares with the factor itself.
def marks(big):
    get, put = "get %d MiB virtio, MB/s" % big, "put %d MiB virtio, MB/s" % big
    m = [("1 ping virtio", "ping virtio, us", "ours", "", "<=", 1.5,
          "ping virtio, us", "qemu-ga", ""),
         ("2 ping serial", "ping serial, us", "ours", "", "<=", 1.0,
          "ping serial, us", "qemu-ga", "")]
    for what, row in (("get", get), ("put", put)):
        m += [("3 %s virtio" % what, row, "ours", "", ">=", 0.5, row, "raw", ""),
              ("3 %s virtio" % what, row, "ours", "", ">=", 15, row, "qemu-ga", "")]
    for what in ("get", "put"):
        for data, factor in (("random", 0.75), ("text", 2.5)):
            row = "%s 1 MiB %s serial, MB/s" % (what, data)
            m.append(("4 %s %s serial" % (what, data), row, "ours", "", ">=", factor,
                      row, "raw", ""))
    m += [("5 ping under load virtio", "ping during get virtio, us", "ours", "p99", "<=", 3,
           "ping virtio, us", "ours", "p99"),
          ("5 ping under load serial", "ping during get serial, us", "ours", "p99", "<=", 50000,
           None, "us", ""),
          ("6 64 streams, total", "get by one of many clients virtio, MB/s", "64 streams", "",
           ">=", 0.9, "get by one of many clients virtio, MB/s", "1 stream", ""),
          ("6 64 streams, fairness", "fairness of 64 streams virtio, Jain", "ours", "", ">=", 0.95,
           None, "", ""),
          ("9 static agent RSS", "memory idle va-agent static, in the guest, KB", "Rss", "",
           "<=", 2560, None, "KB", ""),
          ("9 dynamic agent anonymous", "memory idle va-agent, native (3 processes), KB",
           "Anonymous", "", "<=", 2048, None, "KB", ""),
          ("10 ping native", "ping native, us", "va-agent", "", "<=", 2.5,
           "ping native, us", "qemu-ga", ""),
          ("10 get native", "get 512 MiB native, MB/s", "va-agent", "", ">=", 1000,
           None, "MB/s", "")]
    return m


def judge(f, big):
    out = []
    for what, row, peer, which, sense, factor, other, otherpeer, otherwhich in marks(big):
        have = f.stat(row, peer, which)
        base = f.stat(other, otherpeer, otherwhich) if other else 1
        if have is None or not base:
            continue
        ratio = have / base
        out.append({"mark": what, "want": "%s %g x %s" % (sense, factor, otherpeer) if other else
                    "%s %g %s" % (sense, factor, otherpeer), "have": ratio,
                    "holds": ratio <= factor if sense == "<=" else ratio >= factor})
    return out


def conditions():
    commit = subprocess.run(["git", "-C", SRC, "describe", "--always", "--dirty"],
                            capture_output=True, text=True).stdout.strip()
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")),
                     platform.machine())
    a = accel()
    return {"commit": commit or "unknown", "cpu": model, "cores": os.cpu_count(),
            "load": os.getloadavg()[0], "guest": "%s, -cpu %s" % (
                a, "host" if a == "kvm" else "qemu64"),
            "qemu": run(["qemu-system-x86_64", "--version"]).stdout.splitlines()[0]}


def show(about, f, judged):
    for key, value in about.items():
        print("%s: %s" % (key, value))
    print("\n%-48s %-16s %10s %10s %6s %9s" % ("row", "peer", "median", "p99", "n", "ours/peer"))
    for row, by_peer in f.samples.items():
        first = next(iter(by_peer))
        for peer in by_peer:
            m = f.median(row, peer)
            ratio = "" if peer == first or not m or "memory" in row else \
                "%9.2f" % (f.median(row, first) / m)
            print("%-48s %-16s %10.4g %10.4g %6d %9s" % (
                row, peer, m, f.p99(row, peer), len(by_peer[peer]), ratio))
    print()
    for j in judged:
        print("%-28s %-26s have %8.4g  %s" % (j["mark"], j["want"], j["have"],
                                             "holds" if j["holds"] else "MISSED"))

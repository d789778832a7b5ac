"""One va-hostd with very many simulated guests: sim-guests (tests/bench) is their
side, one virtproxy a guest is real.

SPDX-License-Identifier: MIT
"""
import os
import subprocess
import time

from .env import program, tmpdir
from .hostd import Hostd
from .proc import Process
from .tap import need
from .wait import wait_until

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a process."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def run_ns(pid):
    """The same, of all its threads, in nanoseconds and not in ticks."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/schedstat" % (pid, task)) as f:
                total += int(f.read().split()[0])
        except FileNotFoundError:       # a thread that just ended
            pass
    return total


def page_faults(pid):
    """Pages given to a process so far that came from no disk."""
    with open("/proc/%d/stat" % pid) as f:
        return int(f.read().rsplit(")", 1)[1].split()[7])


def pss_kb(pid):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        for line in f:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    raise RuntimeError("no Pss of process %d" % pid)


class Fleet:
    """COUNT simulated guests named g1, g2 ...; start() begins the storm."""

    def __init__(self, count):
        need(program("tests/bench/sim-guests"))
        self.count = count
        self.dir = os.path.join(tmpdir(), "fleet")
        os.mkdir(self.dir, 0o700)
        # Its name in another program's locks must not be: a runtime directory.
        self.sim = Process([program("tests/bench/sim-guests"), self.dir, str(count)],
                           name="sim-guests", stdin=subprocess.PIPE,
                           env={"VA_RUNTIME_DIR": os.path.join(self.dir, "run")})
        self.sim.wait_log("^ready$", 60)
        conf = "".join("[guest g%d]\nchannel = unix-connect:%s/%d:-\n" % (i, self.dir, i)
                       for i in range(1, count + 1))
        self.hostd = Hostd(conf="[hostd]\n", start=False)
        self.hostd.write_conf(conf, "guests.d/fleet.conf")

    def known(self, seconds):
        """Waits until every guest is connected and its agent has answered."""
        def look():
            try:
                guests = self.hostd.rpc(60).host.guests()
            except OSError:
                return None
            up = [g for g in guests if g["state"] == "connected" and g["version"]]
            self.last = len(up)
            return guests if len(up) == self.count else None
        self.last = 0
        try:
            return wait_until(look, seconds, "%d guests" % self.count, 0.2)
        except Exception as e:
            raise type(e)("%s; %d are there" % (e, self.last)) from None

    def storm(self, seconds=60):
        """Starts va-hostd; how long until all were served."""
        begin = time.monotonic()
        self.hostd.start()
        guests = self.known(seconds)
        self.pids = [g["pid"] for g in guests]
        return time.monotonic() - begin

    def push(self, value, timeout=30):
        """One key to all, acknowledged by all: seconds."""
        begin = time.monotonic()
        r = self.hostd.rpc(timeout + 10).host.kv.set(
            "group:*", {"user.scale": value}, {"sync": True, "timeout": timeout})
        assert r["guests"] == self.count, r
        return time.monotonic() - begin

    def processes(self):
        return {"va-hostd": [self.hostd.process.pid], "virtproxy": self.pids,
                "simulated guests": [self.sim.pid]}

    def idle_cpu(self, seconds):
        """Per cent of one core, by who."""
        def all_ns():
            return {who: sum(run_ns(p) for p in pids) for who, pids in self.processes().items()}
        before, begin = all_ns(), time.monotonic()
        time.sleep(seconds)         # what is measured is the time in which nothing happens
        took, after = time.monotonic() - begin, all_ns()
        return {who: (after[who] - before[who]) / took / 1e7 for who in before}

    def memory_kb(self):
        return {who: sum(pss_kb(p) for p in pids) for who, pids in self.processes().items()}

    def close(self):
        self.hostd.close()
        self.sim.kill()

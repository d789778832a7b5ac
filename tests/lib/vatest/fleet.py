"""One va-hostd with very many simulated guests: sim-guests (tests/bench) is their
side, one virtproxy a guest is real.

SPDX-License-Identifier: MIT
"""
import os
import subprocess
import time

from .env import program, tmpdir
from .hostd import Hostd, need_hostd
from .proc import Process
from .tap import need
from .usage import pss_kb, run_ns
from .wait import wait_until


class Fleet:
    """COUNT simulated guests named g1, g2 ...; storm() begins the storm.  With suite it is
    closed at the end, and a failure shows va-hostd's log."""

    def __init__(self, count, suite=None):
        need_hostd()
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
        if suite:
            suite.cleanups.append(self.close)
            suite.on_failure.append(self.hostd.tail)

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

    def beacons(self):
        """What the virtproxies of the first ten have sent and got."""
        status = [self.hostd.facts("g%d" % i)["status"] for i in range(1, 11)]
        return [(s["beacons-out"], s["beacons-in"]) for s in status]

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
